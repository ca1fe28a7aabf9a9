//! Reports read back from files.

use crate::base::fatal::Fatal;
use crate::base::{bounded, limits};
use crate::observe::report::{Report, SCHEMA_VERSION};
use serde_json::Value;
use std::path::Path;

const MEND: &str = "name files that engine run --report wrote";

/// The report in a file.
///
/// # Errors
/// Exit 2 where it cannot be read or is something else.
pub fn report(path: &Path) -> Result<Report, Fatal> {
    let (name, value) = value(path)?;
    parse(&name, value)
}

/// A file's name and its JSON, nothing of which has been looked at.
pub fn value(path: &Path) -> Result<(String, Value), Fatal> {
    let name = path.display().to_string();
    let text = bounded::read(path, limits::REPORT_BYTES_MAX)
        .map_err(|error| Fatal::usage(format!("{name} cannot be read: {error}")).mend(MEND))?;
    let value = serde_json::from_slice(&text).map_err(|error| no_report(&name, error))?;
    Ok((name, value))
}

/// The report that the JSON of the file `name` is. Those of another version may have other keys.
pub fn parse(name: &str, value: Value) -> Result<Report, Fatal> {
    match &value["schema_version"] {
        Value::Null => return Err(no_report(name, "it has no schema_version")),
        version if *version != SCHEMA_VERSION => {
            let what = format!("{name} has schema_version {version}, this engine reads {SCHEMA_VERSION}");
            return Err(Fatal::usage(what).mend("use the version that wrote it: its engine_version"));
        }
        _ => {}
    }
    serde_json::from_value(value).map_err(|error| no_report(name, error))
}

fn no_report(name: &str, why: impl std::fmt::Display) -> Fatal {
    Fatal::usage(format!("{name} is no report of a run: {why}")).mend(MEND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fatal::Exit;
    use crate::observe::testing;

    #[test]
    fn a_report_reads_back_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        let written = testing::report();
        std::fs::write(&path, written.to_json_line()).unwrap();
        assert_eq!(report(&path).unwrap(), written);
        let version = written.to_json_line().replace("\"schema_version\":1", "\"schema_version\":7");
        for (text, said) in [
            ("", "is no report"),
            ("[1]", "no schema_version"),
            ("{\"schema_version\":1}", "run_id"),
            (version.as_str(), "schema_version 7"),
        ] {
            std::fs::write(&path, text).unwrap();
            let fatal = report(&path).unwrap_err();
            assert_eq!(fatal.exit, Exit::Usage);
            assert!(fatal.what.contains("r.json") && fatal.what.contains(said) && fatal.mend.is_some(), "{fatal}");
        }
    }

    #[test]
    fn what_has_no_end_is_no_report() {
        let fatal = report(Path::new("/dev/zero")).unwrap_err();
        assert!(fatal.exit == Exit::Usage && fatal.what.contains("/dev/zero cannot be read"), "{fatal}");
    }
}
