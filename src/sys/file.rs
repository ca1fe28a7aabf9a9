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
    match in_steps(bytes, may_prepare, |mode, from, step| allocate(file, mode, from, step)) {
        // A file system without fallocate: the length alone.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => file.set_len(bytes),
        allocated => allocated,
    }
}

/// `allocate` gets the mode, where to begin and how many bytes.
fn in_steps(
    bytes: u64,
    may_prepare: &dyn Fn() -> bool,
    mut allocate: impl FnMut(libc::c_int, u64, u64) -> io::Result<()>,
) -> io::Result<()> {
    let (mut mode, mut from) = (WRITE_ZEROES, 0);
    while from < bytes {
        if !may_prepare() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let step = STEP_BYTES.min(bytes - from);
        match allocate(mode, from, step) {
            Ok(()) => from += step,
            // On tmpfs any signal ends the call.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if mode == WRITE_ZEROES => mode = 0,
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_call_that_a_signal_ended_is_made_again_until_nobody_needs_it() {
        let calls = Cell::new(0);
        let interrupted_once = |mode: libc::c_int, from: u64, step: u64| {
            calls.set(calls.get() + 1);
            assert_eq!((mode, from, step), (WRITE_ZEROES, 0, 4096));
            if calls.get() == 1 { Err(io::Error::from_raw_os_error(libc::EINTR)) } else { Ok(()) }
        };
        in_steps(4096, &|| true, interrupted_once).unwrap();
        assert_eq!(calls.get(), 2);
        calls.set(0);
        let ended = in_steps(4096, &|| calls.get() == 0, interrupted_once).unwrap_err();
        assert_eq!((ended.kind(), calls.get()), (io::ErrorKind::Interrupted, 1));
    }
}
