//! A configuration file, JSON or YAML.

use crate::base::document::{self, Document};
use crate::base::fatal::Fatal;
use crate::base::{bounded, limits, paths};
use std::io;
use std::path::Path;

/// Reads a whole file; doubled keys are kept, for the caller to name.
pub fn read(path: &Path) -> Result<Document, Fatal> {
    let shown = path.display();
    let fail = |why: io::Error| {
        Fatal::usage(format!("--config '{shown}': {why}")).mend(paths::mend_reading("config", path, &why))
    };
    let text = bounded::read_text(path, limits::CONFIG_BYTES_MAX).map_err(fail)?;
    let document = document::parse(&text).map_err(|(line, why)| {
        Fatal::usage(format!("{shown} line {line}: {why}")).mend("a mapping of names to values, in YAML or JSON")
    })?;
    // A template that failed leaves such a file: what it was to say would be the defaults.
    if document.0.is_empty() {
        let what = format!("--config '{shown}' is empty: it sets nothing");
        return Err(Fatal::usage(what).mend("target: file:PATH in it, say, or no --config"));
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_refused() {
        let fatal = read(Path::new("/dev/zero")).unwrap_err();
        assert!(fatal.what.contains("--config '/dev/zero'") && fatal.what.contains("more than 1048576"), "{fatal}");
    }

    #[test]
    fn a_file_that_says_nothing_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["", " \n", "# only a remark\n", "{}"] {
            std::fs::write(file.path(), text).unwrap();
            let fatal = read(file.path()).unwrap_err();
            assert!(fatal.what.contains("is empty") && fatal.mend.is_some(), "{text}: {fatal}");
        }
        std::fs::write(file.path(), "seed: 1\n").unwrap();
        assert_eq!(read(file.path()).unwrap().0.len(), 1);
    }
}
