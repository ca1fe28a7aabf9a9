//! Files: space that is there before it is needed.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

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
