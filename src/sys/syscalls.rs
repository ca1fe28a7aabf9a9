//! The ring of system calls: plain `pwrite` and `fdatasync`, and sockets without blocking. For hosts where io_uring is
//! forbidden, and for targets that take all at once: null, stdout, memory.
//!
//! Writes that follow each other in memory and in the file go as one call: the kernel splits a large direct
//! write into many that the device works on at once, which is what keeps a drive busy from one thread.

mod net;

use super::lend::Lenders;
use super::region::Region;
use super::ring::{Completion, FileSlot, Files, Ring, Wait, negated_errno};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// The most bytes that one merged call carries.
pub const MERGED_BYTES_MAX: usize = 16 << 20;

enum Operation {
    Write { slot: FileSlot, range: Range<usize>, offset: u64, token: u64 },
    Sync { slot: FileSlot, token: u64 },
}

/// See the module.
pub struct Syscalls {
    region: Region,
    files: Files,
    queue: VecDeque<Operation>,
    done: VecDeque<Completion>,
    net: net::Pending,
    lenders: Lenders,
    may_lend: bool,
    depth: usize,
}

impl Syscalls {
    /// A ring for at most `depth` operations in flight.
    pub fn new(region: Region, depth: usize) -> Self {
        let (queue, done) = (VecDeque::with_capacity(depth), VecDeque::with_capacity(depth));
        Self {
            region,
            files: Files::default(),
            queue,
            done,
            net: net::Pending::new(depth),
            lenders: Lenders::default(),
            may_lend: false,
            depth,
        }
    }

    /// Whether sends may do without a copy. If not, all are copied, be it the dearer way.
    #[must_use]
    pub fn zero_copy(mut self, allowed: bool) -> Self {
        self.may_lend = allowed && self.region.can_detach();
        self
    }

    /// Executes the oldest write together with those that continue it.
    fn write_merged(&mut self, slot: FileSlot, first: Range<usize>, offset: u64, token: u64) {
        let mut range = first.clone();
        let mut merged = 0;
        for next in &self.queue {
            match next {
                Operation::Write { slot: s, range: r, offset: o, .. }
                    if *s == slot
                        && r.start == range.end
                        && *o == offset + range.len() as u64
                        && r.end - range.start <= MERGED_BYTES_MAX =>
                {
                    range.end = r.end;
                    merged += 1;
                }
                _ => break,
            }
        }
        let result = self.files.get(slot).write_at(&self.region.bytes()[range], offset);
        let mut left = *result.as_ref().unwrap_or(&0);
        self.done.push_back(Completion::last(token, share(&result, &mut left, first.len())));
        for operation in self.queue.drain(..merged) {
            if let Operation::Write { range, token, .. } = operation {
                self.done.push_back(Completion::last(token, share(&result, &mut left, range.len())));
            }
        }
    }
}

/// What one operation of a merged call is told, of which `left` bytes are not shared out yet.
fn share(result: &io::Result<usize>, left: &mut usize, bytes: usize) -> i32 {
    match result {
        // The call came out short before this one's first byte: it is yet to be tried.
        Ok(written) if *left == 0 && *written > 0 => -libc::EAGAIN,
        Ok(_) => {
            let took = bytes.min(*left);
            *left -= took;
            took as i32
        }
        Err(error) => negated_errno(error),
    }
}

impl Ring for Syscalls {
    fn memory(&mut self) -> &mut [u8] {
        self.region.bytes_mut()
    }

    fn install(&mut self, file: File) -> io::Result<FileSlot> {
        Ok(self.files.install(file))
    }

    fn replace(&mut self, slot: FileSlot, file: File) -> io::Result<File> {
        Ok(self.files.replace(slot, file))
    }

    fn file(&self, slot: FileSlot) -> &File {
        self.files.get(slot)
    }

    fn write(&mut self, slot: FileSlot, range: Range<usize>, offset: u64, token: u64) -> bool {
        let room = self.in_flight() < self.depth;
        if room {
            self.queue.push_back(Operation::Write { slot, range, offset, token });
        }
        room
    }

    fn sync(&mut self, slot: FileSlot, token: u64) -> bool {
        let room = self.in_flight() < self.depth;
        if room {
            self.queue.push_back(Operation::Sync { slot, token });
        }
        room
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        match self.queue.pop_front() {
            Some(Operation::Write { slot, range, offset, token }) => self.write_merged(slot, range, offset, token),
            Some(Operation::Sync { slot, token }) => {
                let result = match self.files.get(slot).sync_data() {
                    Ok(()) => 0,
                    Err(error) => negated_errno(&error),
                };
                self.done.push_back(Completion::last(token, result));
            }
            None if !self.net.is_empty() => self.enter_sockets(wait),
            None => {
                if let (Wait::ForNs(ns), true) = (wait, self.done.is_empty()) {
                    std::thread::sleep(Duration::from_nanos(ns));
                }
            }
        }
        Ok(())
    }

    fn enter_blocks(&self) -> bool {
        !self.queue.is_empty()
    }

    fn completion(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }

    fn in_flight(&self) -> usize {
        self.queue.len() + self.done.len() + self.net.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_that_carries_out_an_operation_is_told_before() {
        let mut ring = Syscalls::new(Region::map(4096).unwrap(), 2);
        let slot = ring.install(tempfile::tempfile().unwrap()).unwrap();
        assert!(!ring.enter_blocks() && ring.write(slot, 0..512, 0, 1) && ring.sync(slot, 2));
        for token in [1, 2] {
            assert!(ring.enter_blocks());
            ring.enter(Wait::No).unwrap();
            assert_eq!(ring.completion().map(|done| done.token), Some(token));
        }
        assert!(!ring.enter_blocks());
    }

    #[test]
    fn a_short_call_is_shared_out_in_order() {
        let told = |result: io::Result<usize>| {
            let mut left = *result.as_ref().unwrap_or(&0);
            [10, 10, 10].map(|bytes| share(&result, &mut left, bytes))
        };
        assert_eq!(told(Ok(30)), [10, 10, 10]);
        assert_eq!(told(Ok(15)), [10, 5, -libc::EAGAIN]);
        assert_eq!(told(Ok(10)), [10, -libc::EAGAIN, -libc::EAGAIN]);
        assert_eq!(told(Ok(0)), [0, 0, 0]);
        assert_eq!(told(Err(io::Error::from_raw_os_error(libc::EINTR))), [-libc::EINTR; 3]);
    }
}
