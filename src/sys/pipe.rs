//! Writing to a pipe without blocking and without changing the descriptor that others share.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Writes what fits at once. `WouldBlock` where nothing does; files and terminals that know no
/// non-blocking write take it blocking.
pub fn write_nowait(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the kernel reads `bytes`, borrowed for the call, and nothing else.
    let wrote = unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const part, 1, -1, libc::RWF_NOWAIT) };
    if wrote >= 0 {
        return Ok(wrote as usize);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EOPNOTSUPP) { write_blocking(fd, bytes) } else { Err(error) }
}

/// Plain `write`.
pub fn write_blocking(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: as above.
    let wrote = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    if wrote >= 0 { Ok(wrote as usize) } else { Err(io::Error::last_os_error()) }
}

/// Lends the pages of `bytes` to a pipe without copying. `WouldBlock` where the pipe is full.
///
/// The reader sees the pages as they are when it reads, so the caller passes memory that nobody changes for
/// the rest of the process's life; `'static` says so, and being private memory it stays valid for the pipe
/// even after an unmap.
pub fn vmsplice_nowait(fd: BorrowedFd<'_>, bytes: &'static [u8]) -> io::Result<usize> {
    lend_nowait(fd, [bytes, &[]])
}

/// The same for memory that its owner leaves alone until the reader is known to be done with it, or that gets other
/// pages first ([`super::region::Region::detach`]). The pages stay until then, even when the memory is unmapped.
pub fn lend_nowait(fd: BorrowedFd<'_>, pieces: [&[u8]; 2]) -> io::Result<usize> {
    let parts = pieces.map(|piece| libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() });
    // SAFETY: the kernel reads two iovecs on this stack during the call, and takes references to the pages of
    // `pieces`: whatever becomes of the mapping, they are there while a pipe or a socket has them.
    let spliced = unsafe { libc::vmsplice(fd.as_raw_fd(), parts.as_ptr(), parts.len(), libc::SPLICE_F_NONBLOCK) };
    if spliced >= 0 { Ok(spliced as usize) } else { Err(io::Error::last_os_error()) }
}

/// Asks for a pipe of `bytes`; `None` where the descriptor is no pipe or the size is not allowed.
pub fn grow(fd: BorrowedFd<'_>, bytes: usize) -> Option<usize> {
    // SAFETY: integers in, integer out.
    let size = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETPIPE_SZ, bytes as libc::c_int) };
    usize::try_from(size).ok().filter(|size| *size > 0)
}

/// Bytes in the pipe that nobody has read yet.
pub fn unread(fd: BorrowedFd<'_>) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one integer on this stack during the call.
    unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    bytes.max(0) as usize
}

/// Whether nobody can ever read the pipe again.
pub fn reader_is_gone(fd: BorrowedFd<'_>) -> bool {
    poll_writable(fd, 0) & libc::POLLERR != 0
}

/// Waits until the descriptor takes bytes or its reader is gone, for at most `ns`; whether it is so.
pub fn wait_writable(fd: BorrowedFd<'_>, ns: u64) -> bool {
    poll_writable(fd, ns) != 0
}

fn poll_writable(fd: BorrowedFd<'_>, ns: u64) -> libc::c_short {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    let timeout = libc::timespec { tv_sec: (ns / 1_000_000_000) as _, tv_nsec: (ns % 1_000_000_000) as _ };
    // SAFETY: one pollfd and one timespec on this stack, valid for the call; no signal mask.
    unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
    poll.revents
}
