//! What a core asks of the kernel. These back ends have this shape: `uring`, `aio` (direct files without
//! io_uring), `blocking` (plain system calls) and the simulated one of the tests.

use std::fs::File;
use std::io;
use std::ops::Range;

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

/// The answer to one operation: a byte count, or a negated errno, as the kernel gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    pub token: u64,
    pub result: i32,
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
}
