//! Files: space that is there before it is needed.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `FALLOC_FL_WRITE_ZEROES` (Linux 6.17): written extents from the start, where the device can do it cheaply.
const WRITE_ZEROES: libc::c_int = 0x80;
/// One call cannot be stopped, and takes its time in memory (tmpfs). Neighbours become one extent.
const STEP_BYTES: u64 = 1 << 30;

/// Gives the file `bytes` of allocated space and length. Extents may be unwritten until the first write.
///
/// # Errors
/// That of the system; `Interrupted` once `may_prepare` says no. The file then has some of the space.
pub fn preallocate(file: &File, bytes: u64, may_prepare: &dyn Fn() -> bool) -> io::Result<()> {
    if libc::off_t::try_from(bytes).is_err() {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    let (mut mode, mut from) = (WRITE_ZEROES, 0);
    while from < bytes {
        if !may_prepare() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let step = STEP_BYTES.min(bytes - from);
        match allocate(file, mode, from, step) {
            Ok(()) => from += step,
            Err(_) if mode == WRITE_ZEROES => mode = 0,
            // A file system without fallocate: the length alone.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return file.set_len(bytes),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn allocate(file: &File, mode: libc::c_int, from: u64, bytes: u64) -> io::Result<()> {
    // SAFETY: integers only; the descriptor is open for the call.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), mode, from as libc::off_t, bytes as libc::off_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
