//! Files: space that is there before it is needed.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `FALLOC_FL_WRITE_ZEROES` (Linux 6.17): written extents from the start, where the device can do it cheaply.
const WRITE_ZEROES: libc::c_int = 0x80;

/// Gives the file `bytes` of allocated space and length. Extents may be unwritten until the first write.
pub fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    if allocate(file, WRITE_ZEROES, bytes).is_ok() {
        return Ok(());
    }
    match allocate(file, 0, bytes) {
        // A file system without fallocate: the length alone.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => file.set_len(bytes),
        other => other,
    }
}

fn allocate(file: &File, mode: libc::c_int, bytes: u64) -> io::Result<()> {
    // SAFETY: integers only; the descriptor is open for the call.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), mode, 0, bytes as libc::off_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes of the file system that holds a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free for this user.
    pub available_bytes: u64,
    pub total_bytes: u64,
}

/// Looks at the file system that holds `path`.
pub fn space(path: &Path) -> io::Result<Space> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut facts = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` ends in NUL and lives through the call; the kernel fills the struct, for which zeros are
    // valid as well.
    let (result, facts) = unsafe { (libc::statvfs(path.as_ptr(), facts.as_mut_ptr()), facts.assume_init()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let unit = facts.f_frsize;
    Ok(Space { available_bytes: facts.f_bavail * unit, total_bytes: facts.f_blocks * unit })
}
