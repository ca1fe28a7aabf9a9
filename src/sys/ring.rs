//! What a core asks of the kernel. These back ends have this shape: `uring`, `aio` (direct files without
//! io_uring), `syscalls` (plain system calls) and the simulated one of the tests.

use super::{process, socket};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

/// A file that was handed to the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSlot(pub u32);

/// The files of a ring that names them by descriptor.
#[derive(Debug, Default)]
pub struct Files(Vec<File>);

impl Files {
    pub fn install(&mut self, file: File) -> FileSlot {
        self.0.push(file);
        FileSlot(self.0.len() as u32 - 1)
    }

    pub fn replace(&mut self, slot: FileSlot, file: File) -> File {
        std::mem::replace(&mut self.0[slot.0 as usize], file)
    }

    pub fn get(&self, slot: FileSlot) -> &File {
        &self.0[slot.0 as usize]
    }
}

/// An error as a [`Completion`] says it.
pub(super) fn negated_errno(error: &std::io::Error) -> i32 {
    -error.raw_os_error().unwrap_or(libc::EIO)
}

/// The answer to one operation: a byte count, or a negated errno, as the kernel gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    pub token: u64,
    pub result: i32,
    pub progress: Progress,
}

/// How far an operation is. Only a zero-copy send answers twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing follows; the memory is free.
    Last,
    /// Nothing follows, but the peer still reads the memory: what it sends says when it is done.
    Lent,
    /// The kernel took the bytes, but still reads the memory.
    Taken,
    /// The memory is free. `copied`: the kernel copied after all, so that nothing was won.
    Released { copied: bool },
}

impl Completion {
    /// An operation's only answer.
    pub fn last(token: u64, result: i32) -> Self {
        Self { token, result, progress: Progress::Last }
    }
}

/// Whether `enter` may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    No,
    /// Until an operation completes, for at most so many nanoseconds.
    ForNs(u64),
}

/// One core's way to the kernel; it owns the memory that the kernel reads.
pub trait Ring {
    /// The whole region. A range that an operation in flight covers must not be changed: the bytes that
    /// reach the target would be neither the old nor the new.
    fn memory(&mut self) -> &mut [u8];

    /// Takes a file over. Not for the hot loop.
    fn install(&mut self, file: File) -> io::Result<FileSlot>;

    /// Puts another file into a slot and returns the old one. Nothing may be in flight on the slot.
    fn replace(&mut self, slot: FileSlot, file: File) -> io::Result<File>;

    fn file(&self, slot: FileSlot) -> &File;

    /// Queues a write of `range` of the memory at `offset`; false: the queue is full.
    fn write(&mut self, slot: FileSlot, range: Range<usize>, offset: u64, token: u64) -> bool;

    /// Queues an fdatasync; false: the queue is full.
    fn sync(&mut self, slot: FileSlot, token: u64) -> bool;

    /// Submits what is queued and lets completions arrive.
    fn enter(&mut self, wait: Wait) -> io::Result<()>;

    /// The next completion that has arrived.
    fn completion(&mut self) -> Option<Completion>;

    /// Operations queued or submitted whose completion was not yet taken.
    fn in_flight(&self) -> usize;

    /// Whether the next `enter` carries out an operation on a file itself and comes back when that is done.
    fn enter_blocks(&self) -> bool {
        false
    }

    /// Processor time of the calling thread, user and system.
    fn cpu_ns(&self) -> u64 {
        process::thread_cpu_ns()
    }
}

/// The part of a message that lies in one piece.
pub type Piece = Range<usize>;

/// What is left of two pieces behind their first `taken` bytes.
pub fn rest(pieces: &[Piece; 2], taken: usize) -> [Piece; 2] {
    let [first, second] = pieces;
    let beyond = taken.saturating_sub(first.len());
    [(first.start + taken).min(first.end)..first.end, second.start + beyond..second.end]
}

/// How the bytes of a send get to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    Copy,
    /// Read in place until the second answer.
    ZeroCopy,
    /// Read in place, see [`NetRing::can_lend`].
    Lend(Loan),
}

/// For how long memory is lent to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loan {
    /// Until the peer is done with it, or until [`NetRing::detach`].
    TakenBack,
    /// For good: the bytes never change. Only the second piece is lent, the first one is copied.
    ForGood,
}

/// A ring that also serves connected sockets, which `install` takes like files.
pub trait NetRing: Ring {
    /// Shorter messages are copied sooner than lent.
    const LENT_BYTES_MIN: usize = 64 << 10;
    /// Bytes that show whether lending costs less than copying.
    const LENT_TRIAL_BYTES: u64 = 32 << 20;

    /// Queues a send of both pieces, one behind the other (the second may be empty); false: the queue is full.
    /// The answer is how many bytes the socket took: all of them, unless the connection ends. One send at a
    /// time on a socket: overlapping ones may be reordered.
    fn send(&mut self, slot: FileSlot, pieces: [Piece; 2], means: Means, token: u64) -> bool;

    /// Queues a receive into `range`; the answer is a byte count, 0 at the end of the stream.
    fn receive(&mut self, slot: FileSlot, range: Range<usize>, token: u64) -> bool;

    /// Whether a zero-copy send differs from a plain one here.
    fn has_zero_copy(&self) -> bool;

    /// Whether memory can be lent to the peer at the other end of a connection, and makes ready for it. A zero-copy
    /// send to such a peer would be a copy.
    fn can_lend(&mut self, _slot: FileSlot, _loan: Loan) -> bool {
        false
    }

    /// Whether what a worker of the kernel's would read may be detached meanwhile: nothing is to be left to one then.
    fn detaches(&self) -> bool {
        false
    }

    /// Frees a range that was lent: its bytes stay, and so do those that the peer has still to read.
    fn detach(&mut self, _range: Range<usize>) {}

    /// If the next `enter` waits, it is over only when so many operations are complete, or its time is up. A ring may
    /// take this as no more than a wish.
    fn gather(&mut self, _completions: u32) {}

    /// Bytes that the peer's TCP has acknowledged since the connection began; counts the handshake's own.
    fn acknowledged(&self, slot: FileSlot) -> u64 {
        socket::bytes_acknowledged(self.file(slot).as_fd()).unwrap_or(0)
    }

    /// Segments that our TCP has sent again since the connection began.
    fn retransmits(&self, slot: FileSlot) -> u64 {
        socket::segments_retransmitted(self.file(slot).as_fd()).unwrap_or(0)
    }

    /// Ends both directions: what is in flight on the socket comes back.
    fn shut_down(&mut self, slot: FileSlot) {
        socket::shut_down(self.file(slot).as_fd());
    }

    /// Resets the connection and drops what it had still to send, from memory that the caller wants back.
    fn disconnect(&mut self, slot: FileSlot) {
        socket::disconnect(self.file(slot).as_fd());
    }
}

#[cfg(test)]
mod tests {
    use super::rest;

    #[test]
    fn what_is_left_of_two_pieces() {
        assert_eq!(rest(&[0..4, 10..16], 0), [0..4, 10..16]);
        assert_eq!(rest(&[0..4, 10..16], 3), [3..4, 10..16]);
        assert_eq!(rest(&[0..4, 10..16], 4), [4..4, 10..16]);
        assert_eq!(rest(&[0..4, 10..16], 9), [4..4, 15..16]);
    }
}
