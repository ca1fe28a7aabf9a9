//! Reports read back from files.

use crate::base::fatal::Fatal;
use crate::base::{bounded, limits};
use crate::observe::report::{Report, SCHEMA_VERSION};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

const MEND: &str = "name files that engine run --report wrote";

/// The report in a file.
///
/// # Errors
/// Exit 2 where it cannot be read or is something else.
pub fn report(path: &Path) -> Result<Report, Fatal> {
    found(path)?.parse()
}

/// What tells reports of different versions or runs apart.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub struct Head {
    #[serde(default)]
    pub schema_version: Value,
    #[serde(default)]
    pub run_id: Value,
}

/// The text of a file, which is JSON; nothing of it but its head has been looked at. A tree of all of it would take
/// several times the memory of the report.
pub struct Found {
    pub name: String,
    pub head: Head,
    text: Vec<u8>,
}

pub fn found(path: &Path) -> Result<Found, Fatal> {
    let name = path.display().to_string();
    let text = bounded::read(path, limits::REPORT_BYTES_MAX)
        .map_err(|error| Fatal::usage(format!("{name} cannot be read: {error}")).mend(MEND))?;
    let head = serde_json::from_slice(&text).map_err(|error| no_report(&name, error))?;
    Ok(Found { name, head, text })
}

impl Found {
    /// The report that the file is. Those of another version may have other keys.
    pub fn parse(&self) -> Result<Report, Fatal> {
        let name = &self.name;
        match &self.head.schema_version {
            Value::Null => return Err(no_report(name, "it has no schema_version")),
            version if *version != SCHEMA_VERSION => {
                let what = format!("{name} has schema_version {version}, this engine reads {SCHEMA_VERSION}");
                return Err(Fatal::usage(what).mend("use the version that wrote it: its engine_version"));
            }
            _ => {}
        }
        serde_json::from_slice(&self.text).map_err(|error| no_report(name, error))
    }
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
            ("1", "an object"),
            ("[1]", "is no report"),
            ("{}", "no schema_version"),
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
