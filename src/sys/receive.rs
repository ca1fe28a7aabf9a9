//! Receiving without copying, and waiting for many connections at once.

use crate::sys::socket::Interest;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Bytes that one call discards at most.
pub const DISCARD_BYTES_MAX: usize = 1 << 30;
/// Events that one wait hands out at most.
const EVENTS_MAX: usize = 64;

/// Throws away up to `bytes` that have arrived, without copying them (MSG_TRUNC, tcp(7)). 0: the peer sends no more;
/// `WouldBlock`: nothing is there.
#[inline]
pub fn discard(stream: &TcpStream, bytes: u64) -> io::Result<usize> {
    let length = usize::try_from(bytes).map_or(DISCARD_BYTES_MAX, |bytes| bytes.min(DISCARD_BYTES_MAX));
    let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
    // SAFETY: with MSG_TRUNC a TCP socket writes nothing to the buffer, so that there need be none.
    let got = unsafe { libc::recv(stream.as_raw_fd(), std::ptr::null_mut(), length, flags) };
    if got >= 0 { Ok(got as usize) } else { Err(io::Error::last_os_error()) }
}

fn events_of(interest: Interest) -> u32 {
    match interest {
        Interest::Readable => (libc::EPOLLIN | libc::EPOLLRDHUP) as u32,
        Interest::Writable => libc::EPOLLOUT as u32,
    }
}

/// epoll(7), level-triggered. Descriptors leave it by being closed, or by `remove`.
pub struct Epoll {
    fd: OwnedFd,
    events: [libc::epoll_event; EVENTS_MAX],
}

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: an integer in, a new descriptor or -1 out.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, events: [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX] })
    }

    pub fn add(&self, what: &impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, what, token, interest)
    }

    pub fn change(&self, what: &impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, what, token, interest)
    }

    pub fn remove(&self, what: &impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, what, 0, Interest::Readable)
    }

    fn control(&self, operation: i32, what: &impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events_of(interest), u64: token };
        // SAFETY: both descriptors are open for the call, which reads one event from this stack.
        let code = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, what.as_fd().as_raw_fd(), &raw mut event) };
        if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits for at most `milliseconds` (-1: without end); how many events [`Self::token`] then has. A signal ends
    /// the wait with none.
    pub fn wait(&mut self, milliseconds: i32) -> io::Result<usize> {
        // SAFETY: the kernel writes at most EVENTS_MAX events into the array, which is borrowed for the call.
        let got =
            unsafe { libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), EVENTS_MAX as i32, milliseconds) };
        match usize::try_from(got) {
            Ok(count) => Ok(count),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            },
        }
    }

    /// Whose event it is.
    pub fn token(&self, at: usize) -> u64 {
        self.events[at].u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn discarding_counts_and_leaves_the_rest() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (receiver, _) = listener.accept().unwrap();
        assert_eq!(discard(&receiver, u64::MAX).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut epoll = Epoll::new().unwrap();
        epoll.add(&receiver, 7, Interest::Readable).unwrap();
        assert_eq!(epoll.wait(0).unwrap(), 0);
        sender.write_all(&[1; 1000]).unwrap();
        assert_eq!((epoll.wait(-1).unwrap(), epoll.token(0)), (1, 7));
        assert_eq!(discard(&receiver, 400).unwrap(), 400);
        assert_eq!(discard(&receiver, u64::MAX).unwrap(), 600);
        epoll.change(&receiver, 8, Interest::Writable).unwrap();
        assert_eq!((epoll.wait(-1).unwrap(), epoll.token(0)), (1, 8));
        epoll.remove(&receiver).unwrap();
        drop(sender);
        assert_eq!(epoll.wait(0).unwrap(), 0);
        epoll.add(&receiver, 9, Interest::Readable).unwrap();
        assert_eq!((epoll.wait(-1).unwrap(), epoll.token(0)), (1, 9));
        assert_eq!(discard(&receiver, u64::MAX).unwrap(), 0, "the end");
    }
}
