//! Names and openings of data files, before the barrier and on the keeper's thread.

use crate::base::fatal::{Exit, Fatal};
use crate::plan::{FileLayout, FilePlan};
use crate::sys;
use jiff::Timestamp;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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

/// `20261123T142701.123456789Z`: sorts by time.
pub fn rotation_suffix(unix_ns: u64) -> String {
    let stamp = timestamp(unix_ns);
    format!("{}.{:09}Z", stamp.strftime("%Y%m%dT%H%M%S"), stamp.subsec_nanosecond())
}

/// Whether a file name's tail was made by [`rotation_suffix`].
pub fn is_rotation_suffix(suffix: &str) -> bool {
    let shape = b"dddddddd.dddddd.dddddddddd";
    suffix.len() == shape.len()
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

/// Opens (and where the plan says so, creates, sizes and allocates) one data file at `path`.
pub fn create(plan: &FilePlan, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if plan.direct {
        options.custom_flags(libc::O_DIRECT);
    }
    match plan.layout {
        FileLayout::Device { .. } => {
            options.custom_flags(if plan.direct { libc::O_DIRECT | libc::O_EXCL } else { libc::O_EXCL }).open(path)
        }
        FileLayout::Ring { capacity_bytes } => {
            let file = options.create(true).truncate(false).open(path)?;
            let length = file.metadata()?.len();
            if length > capacity_bytes {
                file.set_len(capacity_bytes)?;
            } else if length < capacity_bytes {
                sys::file::preallocate(&file, capacity_bytes)?;
            }
            Ok(file)
        }
        FileLayout::Rotating { limit_bytes, .. } => {
            let file = options.create(true).truncate(false).open(path)?;
            // A direct write that extends the file makes all others wait; a buffered one does not care.
            if plan.direct {
                sys::file::preallocate(&file, limit_bytes.next_multiple_of(plan.align))?;
            }
            Ok(file)
        }
    }
}

/// Makes the folder and opens the lane's first file. Rotated files of an earlier run go.
pub fn first(plan: &FilePlan) -> Result<File, Fatal> {
    let at = |error: io::Error, what: &str| {
        let exit = if error.raw_os_error() == Some(libc::ENOSPC) { Exit::Host } else { Exit::Unreachable };
        Fatal::new(exit, format!("{}: {what}: {error}", plan.data.display()))
            .mend("choose another --target, or give the user the right to write there")
    };
    if let Some(folder) = plan.data.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|error| at(error, "cannot make its folder"))?;
    }
    if let FileLayout::Rotating { .. } = plan.layout {
        remove_rotated(&plan.data).map_err(|error| at(error, "cannot remove files of an earlier run"))?;
        if let Some(log) = &plan.log {
            remove_rotated(log).map_err(|error| at(error, "cannot remove logs of an earlier run"))?;
        }
        match fs::remove_file(&plan.data) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error, "cannot be replaced")),
            _ => {}
        }
    }
    create(plan, &plan.data).map_err(|error| at(error, "cannot be opened for writing"))
}

fn remove_rotated(base: &Path) -> io::Result<()> {
    let folder = base.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let suffix =
            path.file_name().zip(base.file_name()).map(|(name, base)| suffix_of(Path::new(base), Path::new(name)));
        if suffix.is_some_and(|suffix| suffix == "next" || is_rotation_suffix(&suffix)) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
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
