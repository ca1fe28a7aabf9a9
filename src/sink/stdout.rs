//! Standard output: pipes without blocking the core, files and terminals as they are.
//!
//! Records that nobody stamps are lent to the pipe page by page (vmsplice): the reader sees the pages as they
//! are when it reads, so only a sealed copy of the ring is ever lent. Stamped records are copied by `write`.
//! A reader that closes the pipe ends the run in good order.

use super::{Done, Ending, Fate, Room, Sink, Wire, write_error};
use crate::counters::Field;
use crate::payload::Payload;
use crate::sys::pipe;
use crate::sys::region::Region;
use crate::sys::ring::{Ring, Wait};
use crate::sys::streams;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

const PIPE_BYTES: usize = 1 << 20;
/// A fast reader takes half of a full pipe in less time than it takes to sleep and be woken: so often is looked before
/// this thread sleeps. Where that was in vain, it sleeps at once the next times.
const LOOKS: usize = 64;
const SLEEPS: u32 = 16;

/// The one block that is on its way; a byte stream has one send in flight.
struct Sending {
    lane: u32,
    slot: u32,
    range: Range<usize>,
    /// Bytes that the pipe has taken.
    sent: usize,
}

/// See the module.
pub struct StdoutSink {
    fd: OwnedFd,
    /// A sealed copy of the region, where the records are never stamped and the target is a pipe that takes pages.
    sealed: Option<&'static [u8]>,
    /// `None`: no pipe.
    pipe_bytes: Option<usize>,
    /// A pipe, and a description of our own: no write blocks.
    opened_anew: bool,
    sending: Option<Sending>,
    /// The pipe was full: come back when half of it was read, or every byte is written on its own.
    full: bool,
    /// It took nothing although not half full: small pieces are in all of its slots, or it is a socket. What it holds
    /// says nothing then of when it takes more.
    refused: bool,
    /// How often to sleep without looking first.
    sleeps: u32,
    ending: Option<Ending>,
    /// Of the block that was on its way when the run ended.
    rest: Fate,
    wire_bytes: u64,
}

impl StdoutSink {
    /// `immutable`: the region's bytes never change after this.
    pub fn new(memory: &[u8], immutable: bool) -> io::Result<Self> {
        if !streams::stdout_is_writable() {
            return Err(io::Error::other("standard output is closed, or not open for writing"));
        }
        Self::over(io::stdout().as_fd().try_clone_to_owned()?, memory, immutable)
    }

    /// The same over another descriptor.
    pub fn over(fd: OwnedFd, memory: &[u8], immutable: bool) -> io::Result<Self> {
        let sizes = [PIPE_BYTES, PIPE_BYTES / 4, 1 << 16];
        let grown = sizes.into_iter().find_map(|size| pipe::grow(fd.as_fd(), size));
        let pipe_bytes = grown.or_else(|| pipe::size(fd.as_fd()));
        let lends = immutable && pipe_bytes.is_some() && pipe::can_lend(fd.as_fd());
        let sealed = if lends { Some(seal(memory)?) } else { None };
        // What is lent never blocks.
        let copies = pipe_bytes.is_some() && sealed.is_none();
        // Not another user's pipe, nor without /proc, nor where nobody reads.
        let own = if copies { pipe::open_anew(fd.as_fd()).ok() } else { None };
        Ok(Self {
            opened_anew: own.is_some(),
            fd: own.unwrap_or(fd),
            sealed,
            pipe_bytes,
            sending: None,
            full: false,
            refused: false,
            sleeps: 0,
            ending: None,
            rest: Fate::NotSent,
            wire_bytes: 0,
        })
    }

    fn is_more_than_half_full(&self) -> bool {
        self.pipe_bytes.is_some_and(|bytes| pipe::unread(self.fd.as_fd()) > bytes / 2)
    }

    /// Waits for a reader that has a full pipe to read.
    fn wait(&mut self, ns: u64) {
        if !self.refused {
            if self.sleeps == 0 && (0..LOOKS).any(|_| !self.is_more_than_half_full()) {
                return;
            }
            self.sleeps = if self.sleeps == 0 { SLEEPS } else { self.sleeps - 1 };
        }
        pipe::wait_writable(self.fd.as_fd(), ns);
    }

    fn push(&mut self, memory: &[u8]) {
        if self.full && self.is_more_than_half_full() {
            // Only a write would tell that the reader is gone, and a full pipe is not written to.
            if pipe::reader_is_gone(self.fd.as_fd()) {
                self.ending = Some(Ending::Closed);
            }
            return;
        }
        let Some(sending) = &mut self.sending else { return };
        let rest = sending.range.start + sending.sent..sending.range.end;
        let took = match self.sealed {
            Some(pages) => pipe::vmsplice_nowait(self.fd.as_fd(), &pages[rest.clone()]),
            None if self.pipe_bytes.is_some() && !self.opened_anew => {
                pipe::write_nowait(self.fd.as_fd(), &memory[rest.clone()])
            }
            // A pipe of our own refuses when it is full; files and terminals take it when they take it.
            None => pipe::write(self.fd.as_fd(), &memory[rest.clone()]),
        };
        match took {
            Ok(bytes) => {
                sending.sent += bytes;
                self.wire_bytes += bytes as u64;
                self.full = bytes < rest.len();
                self.refused = false;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.full = true;
                self.refused = !self.is_more_than_half_full();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => self.full = true,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.ending = Some(Ending::Closed),
            Err(error) => {
                self.rest = Fate::Failed(write_error(error.raw_os_error().unwrap_or_default()));
                self.ending = Some(Ending::Broken(format!("stdout: {error}")));
            }
        }
    }
}

fn seal(memory: &[u8]) -> io::Result<&'static [u8]> {
    let mut region = Region::map(memory.len())?;
    region.bytes_mut()[..memory.len()].copy_from_slice(memory);
    Ok(region.leak())
}

impl<R: Ring> Sink<R> for StdoutSink {
    fn room(&mut self, _ring: &mut R, _lane: usize, _next_length: u64) -> Room {
        if self.sending.is_none() && self.ending.is_none() { Room::bytes(u64::MAX) } else { Room::NONE }
    }

    fn offer(&mut self, _ring: &mut R, lane: usize, slot: u32, payload: &mut Payload, _hurry: bool) {
        let range = payload.block(slot).range();
        self.sending = Some(Sending { lane: lane as u32, slot, range, sent: 0 });
    }

    fn submit(&mut self, ring: &mut R, wait: Wait) -> io::Result<()> {
        match (&self.sending, wait) {
            (None, Wait::No) => return Ok(()),
            (None, wait) => return ring.enter(wait),
            (Some(_), Wait::ForNs(ns)) if self.full => self.wait(ns),
            _ => {}
        }
        if wait != Wait::No {
            // Somebody woke us: whatever room there is, it is worth a try.
            self.full = false;
        }
        self.push(ring.memory());
        Ok(())
    }

    fn reap(&mut self, _ring: &mut R, _payloads: &mut [Payload], _now_ns: u64, done: &mut Vec<Done>) {
        let over = |sending: &Sending| sending.sent == sending.range.len() || self.ending.is_some();
        if let Some(sending) = self.sending.take_if(|sending| over(sending)) {
            let bytes = sending.sent as u64;
            done.extend(Done::produced_but(sending.lane as usize, sending.slot, bytes, self.rest));
        }
    }

    fn take_wire(&mut self, _lane: usize) -> Wire {
        Wire { bytes: std::mem::take(&mut self.wire_bytes), ..Wire::default() }
    }

    /// What the pipe has taken is its reader's; the rest never left.
    fn give_up(&mut self, _ring: &mut R, _payloads: &mut [Payload], done: &mut Vec<Done>) {
        if let Some(sending) = self.sending.take() {
            let (bytes, rest) = (sending.sent as u64, Fate::Failed(Field::ErrorTimeout));
            done.extend(Done::produced_but(sending.lane as usize, sending.slot, bytes, rest));
        }
    }

    fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::syscalls::Syscalls;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    #[test]
    fn what_a_full_pipe_took_is_produced_and_the_rest_failed() {
        for immutable in [false, true] {
            // More than a pipe holds.
            let mut ring = Syscalls::new(Region::map(4 * PIPE_BYTES).unwrap(), 1);
            let range = 0..ring.memory().len();
            let (reader, writer) = io::pipe().unwrap();
            let mut sink = StdoutSink::over(writer.into(), ring.memory(), immutable).unwrap();
            assert_eq!((sink.sealed.is_some(), sink.opened_anew), (immutable, !immutable));
            sink.sending = Some(Sending { lane: 2, slot: 5, range, sent: 0 });
            for _ in 0..3 {
                sink.submit(&mut ring, Wait::No).unwrap();
            }
            let taken = pipe::unread(reader.as_fd()) as u64;
            assert!(taken > 0);
            let mut done = Vec::new();
            sink.give_up(&mut ring, &mut [], &mut done);
            assert_eq!(done, Done::produced_but(2, 5, taken, Fate::Failed(Field::ErrorTimeout)));
            sink.reap(&mut ring, &mut [], 0, &mut done);
            assert_eq!(done.len(), 2, "nothing is told twice");
        }
    }
    #[test]
    fn who_waits_for_what_is_full_and_not_half_full_sleeps() {
        let (_pipe_reader, pipe_writer) = io::pipe().unwrap();
        let (_socket_reader, socket_writer) = UnixStream::pair().unwrap();
        socket_writer.set_nonblocking(true).unwrap();
        // Small pieces that are lent take one of the pipe's slots each.
        for (fd, immutable, length) in
            [(OwnedFd::from(pipe_writer), true, 64), (socket_writer.into(), false, 4 * PIPE_BYTES)]
        {
            let mut ring = Syscalls::new(Region::map(4 * PIPE_BYTES).unwrap(), 1);
            let mut sink = StdoutSink::over(fd, ring.memory(), immutable).unwrap();
            // A partial write first, then one that takes nothing.
            while !sink.refused {
                let sent = sink.sending.as_ref().map_or(0, |sending| sending.sent % length);
                sink.sending = Some(Sending { lane: 0, slot: 0, range: 0..length, sent });
                sink.submit(&mut ring, Wait::No).unwrap();
            }
            assert!(sink.full && !sink.is_more_than_half_full());
            let began = Instant::now();
            sink.submit(&mut ring, Wait::ForNs(50_000_000)).unwrap();
            assert!(began.elapsed() >= Duration::from_millis(40), "{length}: {:?}", began.elapsed());
        }
    }
}
