//! Names of data files and of what lies beside them.

use crate::base::paths;
use jiff::Timestamp;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// `path` with `.suffix` behind its whole name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// What follows `base` and its dot in `path`.
pub fn suffix_of(base: &Path, path: &Path) -> String {
    let (base, path) = (base.to_string_lossy(), path.to_string_lossy());
    path.strip_prefix(&*base).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default().to_owned()
}

/// The file that is prepared to follow the active one.
pub fn next_path(data: &Path) -> PathBuf {
    with_suffix(data, "next")
}

/// The audit log of the lap before, where a file is overwritten in place.
pub fn lap_log(log: &Path) -> PathBuf {
    with_suffix(log, "1")
}

pub const ROTATION_SUFFIX_BYTES: usize = "20261123T142701.123456789Z".len();

/// `20261123T142701.123456789Z`: sorts by time.
pub fn rotation_suffix(unix_ns: u64) -> String {
    let stamp = timestamp(unix_ns);
    format!("{}.{:09}Z", stamp.strftime("%Y%m%dT%H%M%S"), stamp.subsec_nanosecond())
}

/// Whether a file name's tail was made by [`rotation_suffix`].
pub fn is_rotation_suffix(suffix: &str) -> bool {
    suffix.len() == ROTATION_SUFFIX_BYTES
        && suffix.ends_with('Z')
        && suffix.as_bytes()[8] == b'T'
        && suffix.as_bytes()[15] == b'.'
        && suffix.bytes().enumerate().all(|(at, c)| matches!(at, 8 | 15 | 25) || c.is_ascii_digit())
}

/// RFC 3339, UTC, nanoseconds.
pub fn rfc3339(unix_ns: u64) -> String {
    let stamp = timestamp(unix_ns);
    format!("{}.{:09}Z", stamp.strftime("%Y-%m-%dT%H:%M:%S"), stamp.subsec_nanosecond())
}

fn timestamp(unix_ns: u64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(unix_ns)).unwrap_or(Timestamp::MAX)
}

/// What rotations left of a data file or a log: `<base>.<UTC timestamp>`, oldest first.
pub fn rotated(base: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(paths::folder(base))? {
        let path = entry?.path();
        let suffix =
            path.file_name().zip(base.file_name()).map(|(name, base)| suffix_of(Path::new(base), Path::new(name)));
        if suffix.is_some_and(|suffix| is_rotation_suffix(&suffix)) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_suffix_is_recognised_and_sorts() {
        let (early, late) = (rotation_suffix(1_700_000_000_000_000_001), rotation_suffix(1_700_000_000_000_000_002));
        assert!(is_rotation_suffix(&early) && early < late, "{early} {late}");
        assert!(!is_rotation_suffix("next") && !is_rotation_suffix("20261123T142701.12345678Z"));
        let data = Path::new("/data/payloads.0.bin");
        assert_eq!(suffix_of(data, &with_suffix(data, &early)), early);
    }
}
