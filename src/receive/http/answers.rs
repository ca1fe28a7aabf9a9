//! What the receiver says, and what counts once it is said.

use super::head::Link;
use crate::receive::books::Books;
use crate::receive::worker::{Bench, Closed, Turn};
use crate::sys::receive::discard;
use crate::sys::socket;
use crate::wire::http::status::status_line;
use std::io::ErrorKind;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

/// Once a request was refused, what still comes is thrown away for this long, so that no reset overtakes the answer.
pub const LINGER_NS: u64 = 200_000_000;

pub const NO_CONTENT: &[u8] = b"HTTP/1.1 204 No Content\r\n";
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The end of every head.
pub fn end(link: Link) -> &'static [u8] {
    match link {
        Link::Stays => b"\r\n",
        Link::SaysStays => b"Connection: keep-alive\r\n\r\n",
        Link::Closes => b"Connection: close\r\n\r\n",
    }
}

/// For what is no request: the connection ends with it.
pub fn refusal(status: u16) -> String {
    format!("HTTP/1.1 {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status_line(status))
}

/// Requests that were answered well, while their answers are on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    pub requests: u64,
    bytes: u64,
}

impl Due {
    #[inline]
    pub fn add(&mut self, body_bytes: u64) {
        self.requests += 1;
        self.bytes += body_bytes;
    }

    /// All answers are out.
    #[inline]
    pub fn enter(&mut self, books: &mut Books) {
        books.requests += self.requests;
        books.bytes += self.bytes;
        *self = Self::default();
    }
}

/// The peer has ended its side, or the connection is gone.
pub fn has_left(stream: &TcpStream) -> bool {
    // What it sent before may lie unread, and would hide its end from a look at the next byte.
    socket::has_ended(stream.as_fd())
}

/// After a refusal.
pub fn linger(until_ns: u64, stream: &TcpStream, bench: &mut Bench) -> Turn {
    let _already = stream.shutdown(Shutdown::Write);
    let over = bench.now_ns() >= until_ns;
    match discard(stream, u64::MAX) {
        Ok(0) => Turn::Closed(Closed::AsAnswered),
        Ok(got) => {
            bench.books.wire_bytes += got as u64;
            if over { Turn::Closed(Closed::AsAnswered) } else { Turn::Wait(until_ns) }
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock && !over => Turn::Wait(until_ns),
        Err(_) => Turn::Closed(Closed::AsAnswered),
    }
}
