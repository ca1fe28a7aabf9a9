//! A kernel and a disk that do what they may, at the worst time: short writes, EAGAIN, EINTR, late and reordered
//! completions, a full disk, a broken one, operations that never end.
//!
//! It checks what no target could forgive: bytes that change while they are being written, and two writes in
//! flight to the same bytes of a file.

use crate::chance::Chance;
use crate::clock::SimClock;
use engine::sys::allocation::uncounted;
use engine::sys::ring::{Completion, FileSlot, Ring, Wait};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// Errno values, as Linux numbers them.
const EINTR: i32 = 4;
const EIO: i32 = 5;
const EAGAIN: i32 = 11;
const ENOSPC: i32 = 28;

/// Short direct writes end at such a boundary, whatever the alignment that the file asks for.
const SECTOR_BYTES: usize = 512;

/// One look at the completions in so many comes just before the next one is posted.
const LOOKS_TOO_EARLY_ONE_IN: u64 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breakage {
    /// From this write on, none has any room.
    Full,
    /// This write takes nothing and says so without an error.
    Nothing,
    /// This write fails, later ones do not.
    Broken,
    /// The first fdatasync from here on fails.
    SyncFails,
    /// From here on every fdatasync is interrupted.
    SyncInterrupted,
    /// This operation never completes.
    Stuck,
}

#[derive(Clone, Debug)]
pub struct Faults {
    /// An operation takes up to so long; one in `slow_one_in` up to `slow_ns_max`.
    pub takes_ns_max: u64,
    pub slow_one_in: u64,
    pub slow_ns_max: u64,
    pub short_one_in: u64,
    pub again_one_in: u64,
    /// One submission in so many is put off.
    pub busy_one_in: u64,
    /// `enter` carries out one operation itself, which takes `takes_ns_max`.
    pub blocking: bool,
    /// What breaks, and at which operation.
    pub breaks: Option<(Breakage, u64)>,
}

struct Operation {
    slot: FileSlot,
    /// `None`: fdatasync.
    write: Option<(Range<usize>, u64)>,
    token: u64,
    ready_ns: u64,
    /// The bytes at submission.
    bytes: Vec<u8>,
}

struct Slot {
    file: File,
    /// The same file without O_DIRECT, which memory of a test need not be aligned for.
    plain: File,
}

/// See the module.
pub struct SimRing {
    memory: Vec<u8>,
    clock: SimClock,
    chance: Chance,
    faults: Faults,
    /// What offset, address and length of writes must be a multiple of, for each lane.
    aligns: Vec<u64>,
    slots: Vec<Slot>,
    queued: Vec<Operation>,
    submitted: Vec<Operation>,
    done: VecDeque<Completion>,
    depth: usize,
    operations: u64,
    pub broke: bool,
}

impl SimRing {
    pub fn new(seed: u64, clock: SimClock, memory: Vec<u8>, depth: usize, faults: Faults, aligns: Vec<u64>) -> Self {
        let chance = Chance::new(seed, 2);
        let (slots, queued, submitted, done) = (vec![], vec![], vec![], VecDeque::new());
        let (operations, broke) = (0, false);
        Self { memory, clock, chance, faults, aligns, slots, queued, submitted, done, depth, operations, broke }
    }

    fn push(&mut self, operation: Operation) -> bool {
        let room = self.in_flight() < self.depth;
        if room {
            self.queued.push(operation);
        }
        room
    }

    fn submit_queued(&mut self) {
        if self.chance.one_in(self.faults.busy_one_in) {
            return;
        }
        for mut operation in self.queued.drain(..) {
            let slow = self.chance.one_in(self.faults.slow_one_in);
            let takes_ns =
                self.chance.between(0..=if slow { self.faults.slow_ns_max } else { self.faults.takes_ns_max });
            operation.ready_ns = self.clock.peek_ns() + takes_ns;
            if self.faults.breaks == Some((Breakage::Stuck, self.operations)) {
                (operation.ready_ns, self.broke) = (u64::MAX, true);
            }
            if let Some((range, _)) = &operation.write {
                operation.bytes = self.memory[range.clone()].to_vec();
            }
            self.operations += 1;
            self.submitted.push(operation);
        }
    }

    /// As a system call: the rest stays queued.
    fn carry_out_one(&mut self) {
        let rest = self.queued.split_off(self.queued.len().min(1));
        self.submit_queued();
        self.queued.extend(rest);
        self.clock.sleep_until(self.clock.peek_ns() + self.faults.takes_ns_max);
        self.submitted.iter_mut().for_each(|operation| operation.ready_ns = 0);
        self.settle();
    }

    /// Completes what is ready, in any order.
    fn settle(&mut self) {
        let now_ns = self.clock.peek_ns();
        loop {
            let ready: Vec<_> = (0..self.submitted.len()).filter(|at| self.submitted[*at].ready_ns <= now_ns).collect();
            if ready.is_empty() {
                return;
            }
            let operation = self.submitted.swap_remove(self.chance.pick(&ready));
            let result = match &operation.write {
                Some((range, offset)) => self.execute(&operation, range.clone(), *offset),
                None => self.sync_result(),
            };
            self.done.push_back(Completion::last(operation.token, result));
        }
    }

    /// What stuck is done after all, or never, when the process is gone.
    pub fn end(&mut self) {
        for operation in std::mem::take(&mut self.submitted) {
            if let Some((range, offset)) = operation.write.clone().filter(|_| self.chance.one_in(2)) {
                self.execute(&operation, range, offset);
            }
        }
    }

    fn execute(&mut self, operation: &Operation, range: Range<usize>, offset: u64) -> i32 {
        assert!(operation.bytes == self.memory[range.clone()], "bytes {range:?} changed while they were being written");
        if let Some(errno) = self.write_breaks() {
            return -errno;
        }
        if self.chance.one_in(self.faults.again_one_in) {
            return -self.chance.pick(&[EAGAIN, EINTR]);
        }
        let mut length = range.len();
        if self.chance.one_in(self.faults.short_one_in) {
            length = self.chance.between(1..=range.len() as u64) as usize;
            if self.align(operation.slot) > 1 {
                length = (length / SECTOR_BYTES).max(1) * SECTOR_BYTES;
            }
        }
        let file = &self.slots[operation.slot.0 as usize].plain;
        file.write_all_at(&operation.bytes[..length], offset).expect("the test's own disk works");
        length as i32
    }

    fn write_breaks(&mut self) -> Option<i32> {
        let (breakage, at) = self.faults.breaks.filter(|(_, at)| self.operations >= *at)?;
        let first = !self.broke;
        let errno = match breakage {
            Breakage::Full => ENOSPC,
            Breakage::Nothing if first => 0,
            Breakage::Broken if first => EIO,
            _ => return None,
        };
        assert!(self.operations >= at);
        self.broke = true;
        Some(errno)
    }

    fn sync_result(&mut self) -> i32 {
        match self.faults.breaks {
            Some((Breakage::SyncFails, at)) if self.operations >= at && !self.broke => {
                self.broke = true;
                -EIO
            }
            Some((Breakage::SyncInterrupted, at)) if self.operations >= at => {
                self.broke = true;
                -EINTR
            }
            _ if self.chance.one_in(self.faults.again_one_in) => -EINTR,
            _ => 0,
        }
    }

    fn align(&self, slot: FileSlot) -> u64 {
        // Each lane has two files.
        self.aligns[slot.0 as usize / 2]
    }

    fn check_write(&self, slot: FileSlot, range: &Range<usize>, offset: u64) {
        let align = self.align(slot);
        assert!(!range.is_empty(), "an empty write");
        for number in [offset, range.start as u64, range.len() as u64] {
            assert!(number.is_multiple_of(align), "{number} is not aligned to {align}: {range:?} at {offset}");
        }
        let end = offset + range.len() as u64;
        for other in self.queued.iter().chain(&self.submitted).filter(|other| other.slot == slot) {
            if let Some((bytes, from)) = &other.write {
                let apart = end <= *from || from + bytes.len() as u64 <= offset;
                assert!(apart, "two writes in flight to the bytes from {} of one file", offset.max(*from));
            }
        }
    }
}

fn without_direct(file: &File) -> io::Result<File> {
    File::options().write(true).open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

impl Ring for SimRing {
    fn memory(&mut self) -> &mut [u8] {
        &mut self.memory
    }

    fn install(&mut self, file: File) -> io::Result<FileSlot> {
        self.slots.push(Slot { plain: without_direct(&file)?, file });
        Ok(FileSlot(self.slots.len() as u32 - 1))
    }

    fn replace(&mut self, slot: FileSlot, file: File) -> io::Result<File> {
        let busy = self.queued.iter().chain(&self.submitted).any(|operation| operation.slot == slot);
        assert!(!busy, "a file was replaced while operations were in flight on it");
        let new = Slot { plain: uncounted(|| without_direct(&file))?, file };
        Ok(std::mem::replace(&mut self.slots[slot.0 as usize], new).file)
    }

    fn file(&self, slot: FileSlot) -> &File {
        &self.slots[slot.0 as usize].file
    }

    fn write(&mut self, slot: FileSlot, range: Range<usize>, offset: u64, token: u64) -> bool {
        self.check_write(slot, &range, offset);
        uncounted(|| self.push(Operation { slot, write: Some((range, offset)), token, ready_ns: 0, bytes: vec![] }))
    }

    fn sync(&mut self, slot: FileSlot, token: u64) -> bool {
        uncounted(|| self.push(Operation { slot, write: None, token, ready_ns: 0, bytes: vec![] }))
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        uncounted(|| {
            if self.enter_blocks() {
                self.carry_out_one();
                return;
            }
            self.submit_queued();
            self.settle();
            if let (Wait::ForNs(ns), true) = (wait, self.done.is_empty()) {
                let first_ns = self.submitted.iter().map(|operation| operation.ready_ns).min().unwrap_or(u64::MAX);
                self.clock.sleep_until(first_ns.min(self.clock.peek_ns().saturating_add(ns)));
                self.settle();
            }
        });
        Ok(())
    }

    fn completion(&mut self) -> Option<Completion> {
        // A kernel may post at any time, not only when it is entered: between any two looks.
        uncounted(|| self.settle());
        if self.chance.one_in(LOOKS_TOO_EARLY_ONE_IN) { None } else { self.done.pop_front() }
    }

    fn in_flight(&self) -> usize {
        self.queued.len() + self.submitted.len() + self.done.len()
    }

    fn enter_blocks(&self) -> bool {
        self.faults.blocking && !self.queued.is_empty()
    }

    fn cpu_ns(&self) -> u64 {
        self.clock.peek_ns()
    }
}
