//! How this program was called, for commands that are printed to be pasted.

use std::ffi::OsStr;
use std::path::Path;

/// Its own names; a program of another one (a test, or who embeds the library) has none of its commands.
const NAMES: &[&str] = &["engine", "data-generator"];

/// As it was called, quoted for a shell: `./engine`, or `engine` where `PATH` leads to it.
pub fn program() -> String {
    let called = std::env::args_os().next().unwrap_or_default();
    pasteable(&called).unwrap_or_else(|| NAMES[0].to_owned())
}

/// A command of this program, with these words behind its name.
pub fn command(words: &str) -> String {
    format!("{} {words}", program())
}

/// A flag of it with its value, as a shell takes it.
pub fn flag(name: &str, value: &str) -> String {
    format!("--{name}={}", quoted(value))
}

fn pasteable(called: &OsStr) -> Option<String> {
    let name = Path::new(called).file_name()?.to_str()?;
    NAMES.contains(&name).then(|| called.to_str().map(quoted)).flatten()
}

/// As a shell takes it for one word.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,=".contains(c);
    let is_plain = !word.is_empty() && word.chars().all(plain);
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// The same of a path.
pub fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_get_quotes_where_they_need_them() {
        assert_eq!(quoted("engine-data/"), "engine-data/");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!((quoted("~/data").as_str(), quoted("").as_str()), ("'~/data'", "''"));
        assert_eq!(flag("slo", "p99<5ms,errors==0"), "--slo='p99<5ms,errors==0'");
        assert_eq!(flag("rate", "7.5GB/s"), "--rate=7.5GB/s");
    }

    #[test]
    fn commands_begin_as_the_program_was_called() {
        for (called, shown) in [
            ("./engine", Some("./engine")),
            ("engine", Some("engine")),
            ("/opt/load test/data-generator", Some("'/opt/load test/data-generator'")),
            ("target/debug/deps/engine-0123456789abcdef", None),
            ("", None),
        ] {
            assert_eq!(pasteable(OsStr::new(called)).as_deref(), shown, "{called}");
        }
        assert_eq!(command("--help"), "engine --help", "a test of the library is another program");
    }
}
