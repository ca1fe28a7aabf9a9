//! The blocks of a lane that something is still to become of.
//!
//! Two lives: a block is *held* while the kernel may read its bytes, in the order of the ring; it is *unsettled*
//! until the fate of each of its records is known, in any order.

use super::Block;
use std::collections::VecDeque;
use std::ops::Range;

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    block: Block,
    settled: u64,
    held: bool,
    /// It has its place in the ring's order.
    queued: bool,
    open: bool,
}

/// See the module. Allocates in `new` alone.
pub struct Slots {
    entries: Box<[Entry]>,
    free: VecDeque<u32>,
    /// In ring order; those in front are held.
    ring: VecDeque<u32>,
    /// Blocks that are not settled.
    open: usize,
}

impl Slots {
    pub fn new(window: usize) -> Self {
        let entries = vec![Entry::default(); window].into_boxed_slice();
        Self { entries, free: (0..window as u32).collect(), ring: VecDeque::with_capacity(window), open: 0 }
    }

    pub fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// The oldest block whose bytes must stay as they are.
    pub fn oldest_held(&self) -> Option<&Block> {
        self.ring.front().map(|slot| self.block(*slot))
    }

    /// A place for a new block, all of it held and unsettled.
    pub fn open(&mut self, block: Block) -> u32 {
        let slot = self.free.pop_front().expect("a full table gives no run");
        self.entries[slot as usize] = Entry { block, settled: 0, held: true, queued: true, open: true };
        self.ring.push_back(slot);
        self.open += 1;
        slot
    }

    pub fn block(&self, slot: u32) -> &Block {
        &self.entries[slot as usize].block
    }

    pub fn release(&mut self, slot: u32) {
        self.entries[slot as usize].held = false;
        while let Some(oldest) = self.ring.front().copied().filter(|oldest| !self.entries[*oldest as usize].held) {
            self.ring.pop_front();
            let entry = &mut self.entries[oldest as usize];
            entry.queued = false;
            // A slot is given out again only when nothing at all needs it.
            if !entry.open {
                self.free.push_back(oldest);
            }
        }
    }

    /// See [`super::Payload::settle`].
    pub fn settle(&mut self, slot: u32, through: u64) -> Range<u64> {
        let entry = &mut self.entries[slot as usize];
        let from = entry.settled;
        let through = through.min(entry.block.records).max(from);
        if !entry.open {
            return through..through;
        }
        entry.settled = through;
        if through == entry.block.records {
            entry.open = false;
            self.open -= 1;
            if self.entries[slot as usize].held {
                self.release(slot);
            } else if !self.entries[slot as usize].queued {
                self.free.push_back(slot);
            }
        }
        from..through
    }

    pub fn any_unsettled(&self) -> bool {
        self.open > 0
    }

    pub fn unsettled(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.entries.len() as u32).filter(|slot| self.entries[*slot as usize].open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(first_record: u64) -> Block {
        Block { first_record, records: 4, ..Block::default() }
    }

    #[test]
    fn bytes_are_let_go_in_order_and_slots_when_nothing_needs_them() {
        let mut slots = Slots::new(3);
        let [a, b, c] = [0, 4, 8].map(|at| slots.open(block(at)));
        assert!(slots.is_full());
        slots.release(b);
        assert_eq!(slots.oldest_held().unwrap().first_record, 0);
        slots.release(a);
        assert_eq!(slots.oldest_held().unwrap().first_record, 8);
        assert!(slots.is_full(), "their records are not settled");
        assert_eq!(slots.settle(b, 3), 0..3);
        assert_eq!(slots.settle(b, 9), 3..4);
        assert!(!slots.is_full());
        assert_eq!(slots.unsettled().collect::<Vec<_>>(), [a, c]);
        assert_eq!(slots.settle(c, 4), 0..4);
        assert!(slots.oldest_held().is_none(), "a settled block needs its bytes no longer");
        assert_eq!(slots.settle(c, 4), 4..4, "twice is once");
        assert_eq!(slots.settle(a, 4), 0..4);
        let again = [12, 16, 20].map(|at| slots.open(block(at)));
        assert_eq!(again.len(), 3);
    }

    #[test]
    fn a_slot_settled_before_older_bytes_are_free_waits_for_them() {
        let mut slots = Slots::new(2);
        let [a, b] = [0, 4].map(|at| slots.open(block(at)));
        slots.release(b);
        slots.settle(b, 4);
        assert!(slots.is_full(), "its place in the ring's order is still taken");
        slots.settle(a, 4);
        assert_eq!(slots.open(block(8)), a);
        assert_eq!(slots.open(block(12)), b);
    }
}
