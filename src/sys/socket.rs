//! Connected sockets without blocking: the calls that std has no words for.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Sends both pieces as one message, as far as the socket has room.
pub fn send_nowait(socket: BorrowedFd<'_>, pieces: [&[u8]; 2]) -> io::Result<usize> {
    let pieces = pieces.map(|piece| libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() });
    // SAFETY: all zeros is a valid `msghdr`: no name, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pieces.as_ptr().cast_mut();
    message.msg_iovlen = pieces.len() as _;
    // SAFETY: the message and what it points at live until the call returns; the kernel only reads them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// Receives what is there.
pub fn receive_nowait(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `into.len()` bytes to `into`, which is borrowed until the call returns.
    let got = unsafe { libc::recv(socket.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got as usize) }
}

/// Bytes that the peer's TCP has acknowledged since the connection began, as `tcp_info` counts them.
pub fn bytes_acknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    tcp_info(socket).map(|info| info.bytes_acked)
}

/// Segments that TCP has sent again since the connection began, those of the handshake included.
pub fn segments_retransmitted(socket: BorrowedFd<'_>) -> io::Result<u64> {
    tcp_info(socket).map(|info| u64::from(info.total_retrans))
}

fn tcp_info(socket: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    // SAFETY: all zeros is a valid `tcp_info`, plain numbers throughout.
    let mut info: TcpInfo = unsafe { std::mem::zeroed() };
    let mut length = size_of::<TcpInfo>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which lives until the call returns.
    let outcome = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &mut length)
    };
    let end = std::mem::offset_of!(TcpInfo, bytes_acked) + size_of::<u64>();
    match outcome {
        0 if (length as usize) < end => Err(io::Error::from(io::ErrorKind::Unsupported)),
        0 => Ok(info),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The head of the kernel's `tcp_info`, as far as it is needed here (`include/uapi/linux/tcp.h`).
#[repr(C)]
struct TcpInfo {
    states_and_options: [u8; 8],
    numbers: [u32; 23],
    total_retrans: u32,
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
}

/// Ends both directions: operations that are in flight on the socket come back.
pub fn shut_down(socket: BorrowedFd<'_>) {
    // SAFETY: the call takes numbers only.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Resets the connection at once and drops what it had still to send.
pub fn disconnect(socket: BorrowedFd<'_>) {
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as _, sa_data: [0; 14] };
    // SAFETY: the kernel reads one `sockaddr`, which lives until the call returns.
    unsafe { libc::connect(socket.as_raw_fd(), &nowhere, size_of::<libc::sockaddr>() as _) };
}

/// How long to sleep where sockets cannot be waited for.
const BLIND_WAIT_NS: u64 = 50_000;

/// What to wait for on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Readable,
    Writable,
}

/// Sockets to wait on; made once, filled without allocating.
pub struct Waiter(Vec<libc::pollfd>);

impl Waiter {
    pub fn new(sockets_max: usize) -> Self {
        Self(Vec::with_capacity(sockets_max))
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn add(&mut self, socket: BorrowedFd<'_>, interest: Interest) {
        let events = match interest {
            Interest::Readable => libc::POLLIN,
            Interest::Writable => libc::POLLOUT,
        };
        self.0.push(libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 });
    }

    /// Sleeps until one of them is ready, for at most so long.
    pub fn wait(&mut self, ns: u64) {
        self.wait_by(poll, ns);
    }

    fn wait_by(&mut self, poll: impl FnOnce(&mut [libc::pollfd], Duration) -> io::Result<()>, ns: u64) {
        let Err(error) = poll(&mut self.0, Duration::from_nanos(ns)) else { return };
        // More entries than the process may have files, or no memory: each is worth a try, which never blocks.
        if error.kind() != ErrorKind::Interrupted {
            std::thread::sleep(Duration::from_nanos(ns.min(BLIND_WAIT_NS)));
            self.0.iter_mut().for_each(|socket| socket.revents = socket.events);
        }
    }

    /// Whether the last `wait` found the socket that was added as number `at` ready, or at its end.
    pub fn is_ready(&self, at: usize) -> bool {
        self.0[at].revents != 0
    }
}

/// Whether the peer has ended its side, or the connection is gone: also where bytes from before lie unread.
pub fn has_ended(socket: BorrowedFd<'_>) -> bool {
    let mut look = [libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 }];
    let _at_once = poll(&mut look, Duration::ZERO);
    look[0].revents != 0
}

fn poll(sockets: &mut [libc::pollfd], timeout: Duration) -> io::Result<()> {
    let timeout =
        libc::timespec { tv_sec: timeout.as_secs() as _, tv_nsec: libc::c_long::from(timeout.subsec_nanos()) };
    // SAFETY: the descriptors and the time live until the call returns; a signal merely ends it early.
    let ready = unsafe { libc::ppoll(sockets.as_mut_ptr(), sockets.len() as _, &timeout, std::ptr::null()) };
    if ready < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn what_the_peer_acknowledged_is_counted() {
        let (client, server) = pair();
        let before = bytes_acknowledged(client.as_fd()).unwrap();
        assert_eq!(send_nowait(client.as_fd(), [b"abc", b"defg"]).unwrap(), 7);
        let mut waiter = Waiter::new(1);
        waiter.add(server.as_fd(), Interest::Readable);
        waiter.wait(5_000_000_000);
        let mut bytes = [0; 16];
        assert_eq!(receive_nowait(server.as_fd(), &mut bytes).unwrap(), 7);
        assert_eq!(&bytes[..7], b"abcdefg");
        assert_eq!(bytes_acknowledged(client.as_fd()).unwrap() - before, 7);
    }

    #[test]
    fn nothing_is_sent_again_where_nothing_is_lost() {
        let (client, server) = pair();
        assert_eq!(send_nowait(client.as_fd(), [b"abc", b"defg"]).unwrap(), 7);
        let mut waiter = Waiter::new(1);
        waiter.add(server.as_fd(), Interest::Readable);
        waiter.wait(5_000_000_000);
        assert_eq!(segments_retransmitted(client.as_fd()).unwrap(), 0);
        let nothing = std::fs::File::open("/dev/null").unwrap();
        assert!(segments_retransmitted(nothing.as_fd()).is_err(), "it is no connection");
    }

    #[test]
    fn where_sockets_cannot_be_waited_for_each_is_worth_a_try() {
        let (client, _server) = pair();
        let found = |errno| {
            let mut waiter = Waiter::new(2);
            waiter.add(client.as_fd(), Interest::Readable);
            waiter.add(client.as_fd(), Interest::Writable);
            waiter.wait_by(|_, _| Err(io::Error::from_raw_os_error(errno)), 5_000_000_000);
            [0, 1].map(|at| waiter.is_ready(at))
        };
        assert_eq!(found(libc::EINVAL), [true; 2]);
        assert_eq!(found(libc::EINTR), [false; 2]);
    }

    #[test]
    fn unread_bytes_do_not_hide_that_the_peer_has_ended() {
        let (mut client, server) = pair();
        client.write_all(b"unread").unwrap();
        let mut waiter = Waiter::new(1);
        waiter.add(server.as_fd(), Interest::Readable);
        waiter.wait(5_000_000_000);
        assert!(!has_ended(server.as_fd()));
        shut_down(client.as_fd());
        assert!((0..50_000).any(|_| has_ended(server.as_fd())), "loopback is quick");
    }

    #[test]
    fn a_shut_socket_ends_and_a_reset_one_fails() {
        let (client, server) = pair();
        shut_down(client.as_fd());
        assert_eq!(receive_nowait(client.as_fd(), &mut [0; 4]).unwrap(), 0);
        let (mut client, reset) = pair();
        socket2::SockRef::from(&reset).set_linger(Some(Duration::ZERO)).unwrap();
        drop((reset, server));
        let mut waiter = Waiter::new(1);
        waiter.add(client.as_fd(), Interest::Readable);
        waiter.wait(5_000_000_000);
        assert!(client.write_all(b"x").and_then(|()| client.write_all(b"y")).is_err());
    }
}
