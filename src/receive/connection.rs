//! What connections of requests and answers have in common: what they keep of what was read, the answers that wait,
//! and the turn in which they read and answer.

use super::worker::{Bench, Closed, READS_PER_TURN, Turn};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// Answers that are kept to be sent together.
const ANSWERS_BYTES: usize = 4096;

/// What is between the two directions of a connection.
pub struct Buffers {
    /// Read but not understood yet: a head that goes on, or what follows an answer that waits.
    pub kept: Vec<u8>,
    /// What is kept has not been looked at.
    pub kept_is_new: bool,
    /// Answers; those before `sent` are on their way.
    pub out: Vec<u8>,
    pub sent: usize,
}

impl Buffers {
    pub fn new() -> Self {
        Self { kept: Vec::new(), kept_is_new: false, out: Vec::with_capacity(ANSWERS_BYTES), sent: 0 }
    }

    /// What is kept and has not been looked at.
    #[inline]
    pub fn take_new(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.kept_is_new).then(|| std::mem::take(&mut self.kept))
    }

    /// Sends the answers that wait; `None`: all of them are gone.
    #[inline]
    pub fn send(&mut self, stream: &TcpStream) -> Option<Turn> {
        while self.sent < self.out.len() {
            match (&mut &*stream).write(&self.out[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Turn::Blocked),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Some(Turn::Closed(Closed::ByPeerReset)),
            }
        }
        self.out.clear();
        self.sent = 0;
        None
    }
}

/// A connection of requests and answers, with its protocol's view of them. No call here is indirect: a read is hot.
pub trait Connection {
    type Protocol;

    fn buffers(&mut self) -> &mut Buffers;

    /// Does what is due before anything is read; `None`: reading comes next.
    fn resume(&mut self, stream: &TcpStream, protocol: &mut Self::Protocol, bench: &mut Bench) -> Option<Turn>;

    /// Reads once, and looks at what came: bytes asked for, and bytes that came.
    fn read(
        &mut self,
        stream: &TcpStream,
        protocol: &mut Self::Protocol,
        bench: &mut Bench,
    ) -> (u64, io::Result<usize>);

    /// Looks at bytes; keeps those that cannot be judged yet.
    fn digest(&mut self, bytes: &[u8], stream: &TcpStream, protocol: &mut Self::Protocol, bench: &mut Bench);

    #[inline]
    fn turn(&mut self, stream: &TcpStream, protocol: &mut Self::Protocol, bench: &mut Bench) -> Turn {
        if let Some(turn) = self.resume(stream, protocol, bench) {
            return turn;
        }
        for _ in 0..READS_PER_TURN {
            let (asked, got) = self.read(stream, protocol, bench);
            match got {
                Ok(0) => return Turn::Closed(Closed::ByPeer),
                Ok(got) => {
                    if let Some(turn) = self.resume(stream, protocol, bench) {
                        return turn;
                    }
                    if (got as u64) < asked {
                        return Turn::Next;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Next,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Turn::Closed(Closed::ByPeerReset),
            }
        }
        Turn::Next
    }

    /// Reads up to so many bytes behind what is kept, and looks at all of it.
    #[inline]
    fn read_behind_kept(
        &mut self,
        bytes_max: usize,
        stream: &TcpStream,
        protocol: &mut Self::Protocol,
        bench: &mut Bench,
    ) -> (u64, io::Result<usize>) {
        let start = self.buffers().kept.len();
        let end = (start + bytes_max).min(bench.buffer.len());
        let got = (&mut &*stream).read(&mut bench.buffer[start..end]);
        if let Ok(got @ 1..) = got {
            bench.books.wire_bytes += got as u64;
            let kept = &mut self.buffers().kept;
            bench.buffer[..start].copy_from_slice(kept);
            kept.clear();
            let buffer = std::mem::take(&mut bench.buffer);
            self.digest(&buffer[..start + got], stream, protocol, bench);
            bench.buffer = buffer;
        }
        ((end - start) as u64, got)
    }
}
