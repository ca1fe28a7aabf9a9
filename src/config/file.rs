//! A configuration file, JSON or YAML.

use crate::base::document::{self, Document};
use crate::base::fatal::Fatal;
use crate::base::{bounded, limits, place};
use std::io;
use std::path::Path;

/// Reads a whole file; doubled keys are kept, for the caller to name.
pub fn read(path: &Path) -> Result<Document, Fatal> {
    let shown = path.display();
    let fail = |why: io::Error| {
        Fatal::usage(format!("--config '{shown}': {why}")).mend(place::mend_reading("config", path, &why))
    };
    let text = bounded::read_text(path, limits::CONFIG_BYTES_MAX).map_err(fail)?;
    document::parse(&text).map_err(|(line, why)| {
        Fatal::usage(format!("{shown} line {line}: {why}")).mend("a mapping of names to values, in YAML or JSON")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_refused() {
        let fatal = read(Path::new("/dev/zero")).unwrap_err();
        assert!(fatal.what.contains("--config '/dev/zero'") && fatal.what.contains("more than 1048576"), "{fatal}");
    }
}
