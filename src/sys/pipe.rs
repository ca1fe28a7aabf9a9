//! Writing to a pipe without blocking and without changing the descriptor that others share.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// The same pipe through an open file description of its own, on which [`write`] does not block.
pub fn open_anew(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(File::options().write(true).custom_flags(libc::O_NONBLOCK).open(path)?.into())
}

/// Writes to a pipe what fits at once; `WouldBlock` where nothing does.
pub fn write_nowait(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the kernel reads `bytes`, borrowed for the call, and nothing else.
    let wrote = unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const part, 1, -1, libc::RWF_NOWAIT) };
    if wrote >= 0 {
        return Ok(wrote as usize);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // Kernels before 6.4, and pipes that have a name.
        Some(libc::EOPNOTSUPP) if poll_writable(fd, 0) == 0 => Err(ErrorKind::WouldBlock.into()),
        // So much a pipe that is ready takes without blocking, unless another writer is quicker.
        Some(libc::EOPNOTSUPP) => write(fd, &bytes[..bytes.len().min(libc::PIPE_BUF)]),
        _ => Err(error),
    }
}

/// Plain `write`: blocks where the open file description does.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
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

/// Whether a pipe can be lent pages: sandboxes and filters of system calls may refuse it.
pub fn can_lend(fd: BorrowedFd<'_>) -> bool {
    lend_nowait(fd, [&[], &[]]).is_ok()
}

/// Asks for a pipe of `bytes`; `None` where the descriptor is no pipe or the size is not allowed.
pub fn grow(fd: BorrowedFd<'_>, bytes: usize) -> Option<usize> {
    // SAFETY: integers in, integer out.
    let size = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETPIPE_SZ, bytes as libc::c_int) };
    usize::try_from(size).ok().filter(|size| *size > 0)
}

/// What the pipe holds; `None` where the descriptor is no pipe.
pub fn size(fd: BorrowedFd<'_>) -> Option<usize> {
    // SAFETY: as above.
    let size = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETPIPE_SZ) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// Fills a pipe, which must then refuse more.
    fn fill(fd: BorrowedFd<'_>, write: fn(BorrowedFd<'_>, &[u8]) -> io::Result<usize>) {
        let bytes = vec![0; 1 << 16];
        let mut taken = 0;
        let refused = loop {
            match write(fd, &bytes) {
                Ok(took) => taken += took,
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), ErrorKind::WouldBlock, "{refused}");
        assert!(taken > 0 && taken == unread(fd), "{taken}");
    }

    #[test]
    fn a_full_pipe_opened_anew_refuses_and_the_one_that_others_share_stays_as_it_is() {
        let (_reader, shared) = io::pipe().unwrap();
        fill(open_anew(shared.as_fd()).unwrap().as_fd(), write);
        // SAFETY: integers in, integer out.
        let flags = unsafe { libc::fcntl(shared.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK, 0);
    }

    /// What is opened by a name is asked to block, and knows no write that does not.
    #[test]
    fn a_full_pipe_refuses_whatever_the_kernel_knows() {
        let (_reader, anonymous) = io::pipe().unwrap();
        fill(anonymous.as_fd(), write_nowait);
        let (_reader, anonymous) = io::pipe().unwrap();
        let named = File::options().write(true).open(format!("/proc/self/fd/{}", anonymous.as_raw_fd())).unwrap();
        fill(named.as_fd(), write_nowait);
    }
}
