//! One lane's payload: records baked before the barrier, laid out one behind the other in the core's region,
//! then only stamped.
//!
//! Record number `n` of the producer has the content of ring record `n % count`, whatever the timing. A block
//! is an extent of consecutive records; those that the kernel may still read are kept in order and never lapped. What
//! a block was outlives its bytes: a record that must be sent again is made again, byte for byte ([`Payload::remake`]).
//!
//! A target may want bytes around each record (`framing`): *payload* counts leave them out, *spans* contain them.

pub mod bake;
pub mod baked;
pub mod fits;
pub mod fits_cards;
pub mod fits_checksum;
pub mod fits_hdus;
pub mod framing;
pub mod placeholders;
pub mod random;
pub mod render;
pub mod sign;
pub mod slots;
pub mod stamper;
pub mod template;

use crate::pace::Spread;
use crate::record::HEADER_BYTES;
use framing::Framing;
use slots::Slots;
use stamper::Stamper;
use std::ops::Range;

/// Where the records of a ring lie.
#[derive(Clone, Debug)]
pub enum Starts {
    Fixed {
        length: u64,
        count: u64,
    },
    /// Start of each record, and the end of the last one.
    Varied(Box<[u64]>),
}

impl Starts {
    pub fn count(&self) -> u64 {
        match self {
            Starts::Fixed { count, .. } => *count,
            Starts::Varied(starts) => starts.len() as u64 - 1,
        }
    }

    /// Offset of record `at`; `at == count` is the ring's end.
    #[inline]
    pub fn start(&self, at: u64) -> u64 {
        match self {
            Starts::Fixed { length, .. } => at * length,
            Starts::Varied(starts) => starts[at as usize],
        }
    }

    pub fn period_bytes(&self) -> u64 {
        self.start(self.count())
    }

    pub fn longest(&self) -> u64 {
        match self {
            Starts::Fixed { length, .. } => *length,
            Starts::Varied(starts) => starts.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0),
        }
    }
}

/// Consecutive records that go to the kernel together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Block {
    pub first_record: u64,
    pub records: u64,
    /// Offset in the core's region, framing included.
    pub start: usize,
    /// Of the records alone, and with their framing.
    pub bytes: u64,
    pub span_bytes: u64,
    /// What the framing needs to know of the stamped bytes; a linear CRC32C remainder for Kafka.
    pub remainder: u32,
    pub first_sequence: u64,
    /// Since the barrier: when the first record was due, and how the rest follow.
    pub first_due_ns: u64,
    pub spread: Spread,
    pub submit_ns: u64,
    pub weight: u64,
    pub warmup: bool,
    /// Under a rate: due times mean something.
    pub paced: bool,
}

impl Block {
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.span_bytes as usize
    }
}

/// Records that could go now: how many, and whether waiting could add any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub records: u64,
    pub bytes: u64,
    pub full: bool,
}

/// See the module.
pub struct Payload {
    /// Of the ring, in the core's region.
    base: usize,
    starts: Starts,
    framing: Framing,
    stamper: Stamper,
    /// Unix time of the barrier.
    epoch_unix_ns: u64,
    next_sequence: u64,
    /// Records behind that one which fell due and will never be sent: what falls due next measures what follows them.
    passed: u64,
    slots: Slots,
}

impl Payload {
    /// A baked ring at `base` that keeps at most `window` blocks in mind; made by [`bake::bake`].
    pub fn new(base: usize, starts: Starts, framing: Framing, stamper: Stamper, window: usize) -> Self {
        let slots = Slots::new(window);
        Self { base, starts, framing, stamper, epoch_unix_ns: 0, next_sequence: 0, passed: 0, slots }
    }

    /// The Unix time of the barrier, from which due times become time stamps.
    pub fn set_epoch(&mut self, unix_ns: u64) {
        self.epoch_unix_ns = unix_ns;
    }

    pub fn stamper(&self) -> &Stamper {
        &self.stamper
    }

    pub fn starts(&self) -> &Starts {
        &self.starts
    }

    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Length of the record that comes next.
    pub fn next_length(&self) -> u64 {
        let at = self.next_sequence % self.starts.count();
        self.starts.start(at + 1) - self.starts.start(at)
    }

    /// What could go now: due within `budget_bytes` of payload, at most `span_max` bytes with framing and
    /// `records_max` records, contiguous and free.
    pub fn extent(&self, budget_bytes: u64, span_max: u64, records_max: u64) -> Option<Extent> {
        let count = self.starts.count();
        let at = self.next_sequence % count;
        let due = match &self.starts {
            Starts::Fixed { length, .. } => budget_bytes.div_ceil(*length),
            Starts::Varied(starts) => {
                let from = starts[at as usize];
                starts[at as usize..count as usize].partition_point(|s| s - from < budget_bytes) as u64
            }
        };
        let limit = self.fitting(at, count - at, span_max).min(records_max);
        let records = limit.min(due);
        // A block cut short only because older ones are still in flight would leave ever shorter holes behind.
        if records == 0 || records > self.free_from(at) {
            return None;
        }
        let bytes = self.starts.start(at + records) - self.starts.start(at);
        Some(Extent { records, bytes, full: records == limit })
    }

    /// Records from ring position `at`, at most `most`, whose spans together fit into `span_max`.
    fn fitting(&self, at: u64, most: u64, span_max: u64) -> u64 {
        let frame = self.framing.bytes();
        match &self.starts {
            Starts::Fixed { length, .. } => (span_max / (length + frame)).min(most),
            Starts::Varied(starts) => {
                let starts = &starts[at as usize..=(at + most) as usize];
                let (mut fits, mut too_many) = (0, most + 1);
                while too_many - fits > 1 {
                    let middle = (fits + too_many) / 2;
                    let span = starts[middle as usize] - starts[0] + middle * frame;
                    *(if span <= span_max { &mut fits } else { &mut too_many }) = middle;
                }
                fits
            }
        }
    }

    /// Records from ring position `at` to the ring's end or the oldest block that the kernel may still read.
    fn free_from(&self, at: u64) -> u64 {
        let count = self.starts.count();
        match self.slots.oldest_held() {
            _ if self.slots.is_full() => 0,
            Some(oldest) if oldest.first_record >= at => oldest.first_record - at,
            _ => count - at,
        }
    }

    /// Records whose first byte lies within the next `bytes`, as if they were sent one after the other, and
    /// what they measure together.
    pub fn records_within(&self, bytes: u64) -> (u64, u64) {
        self.records_from(self.next_sequence, bytes)
    }

    /// The same behind those that were passed over.
    pub fn due_within(&self, bytes: u64) -> (u64, u64) {
        self.records_from(self.next_sequence + self.passed, bytes)
    }

    /// So many records fell due and are not sent.
    pub fn pass(&mut self, records: u64) {
        self.passed += records;
    }

    fn records_from(&self, sequence: u64, bytes: u64) -> (u64, u64) {
        match &self.starts {
            Starts::Fixed { length, .. } => {
                let records = bytes.div_ceil(*length);
                (records, records.saturating_mul(*length))
            }
            Starts::Varied(starts) => {
                let (count, period) = (self.starts.count(), self.starts.period_bytes());
                let at = (sequence % count) as usize;
                let target = starts[at] + bytes % period;
                let rounds = bytes / period;
                // The position lies in this lap of the ring or in the next one.
                let (lap, within) = if target > period { (1, target - period) } else { (0, target) };
                let index = starts.partition_point(|start| *start < within) as u64 + lap * count;
                let records = index.saturating_sub(at as u64);
                let end = starts[(index - lap * count) as usize] + lap * period;
                (rounds * count + records, (rounds * period).saturating_add(end - starts[at]))
            }
        }
    }

    /// Writes sequences, due times, weight, signature and checksum into the next `extent` and takes it out of the
    /// ring; the returned slot names the block until all its records are settled.
    pub fn begin(&mut self, memory: &mut [u8], extent: Extent, mut block: Block) -> u32 {
        let at = self.next_sequence % self.starts.count();
        let frame = self.framing.bytes();
        block.first_record = at;
        block.records = extent.records;
        block.bytes = extent.bytes;
        block.span_bytes = extent.bytes + extent.records * frame;
        block.start = self.base + (self.starts.start(at) + at * frame) as usize;
        block.first_sequence = self.next_sequence;
        block.remainder = self.stamp(memory, &block);
        self.next_sequence += extent.records;
        self.passed = 0;
        self.slots.open(block)
    }

    pub fn block(&self, slot: u32) -> &Block {
        self.slots.block(slot)
    }

    /// Bytes before each record that are the target's.
    pub fn room_bytes(&self) -> usize {
        if let Framing::Room(bytes) = self.framing { bytes } else { 0 }
    }

    /// A block of so many records is stamped anew within so many bytes of its start, and never behind them; `None`:
    /// anywhere.
    pub fn stamped_bytes(&self, records: u64) -> Option<usize> {
        match (&self.framing, &self.stamper) {
            (Framing::None, Stamper::Nothing) => Some(0),
            (Framing::None, Stamper::Header { .. }) if records == 1 => Some(HEADER_BYTES),
            _ => None,
        }
    }

    /// The kernel reads the block's bytes no longer: they may be stamped again once those of all older ones may.
    pub fn release(&mut self, slot: u32) {
        self.slots.release(slot);
    }

    /// What became of the block's records up to number `through` is known. Returns those that it was not known
    /// of before. With the last of them the slot is free, and the bytes are released.
    pub fn settle(&mut self, slot: u32, through: u64) -> Range<u64> {
        self.slots.settle(slot, through)
    }

    pub fn any_unsettled(&self) -> bool {
        self.slots.any_unsettled()
    }

    /// Slots whose records are not all settled, in no order.
    pub fn unsettled(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.unsettled()
    }

    /// The block's bytes once more, at offset `to` of the memory; they are the same as before.
    pub fn remake(&self, memory: &mut [u8], slot: u32, to: usize) -> Range<usize> {
        let mut copy = *self.slots.block(slot);
        let from =
            self.base + (self.starts.start(copy.first_record) + copy.first_record * self.framing.bytes()) as usize;
        memory.copy_within(from..from + copy.span_bytes as usize, to);
        copy.start = to;
        self.stamp(memory, &copy);
        copy.range()
    }

    /// Offset within its block and length of the block's record number `at`, without framing.
    pub fn record_of(&self, block: &Block, at: u64) -> (u64, u64) {
        let start = self.starts.start(block.first_record + at);
        (start - self.starts.start(block.first_record), self.starts.start(block.first_record + at + 1) - start)
    }

    /// Where the block's record number `at` lies in the memory.
    pub fn place_of(&self, block: &Block, at: u64) -> Range<usize> {
        let (offset, length) = self.record_of(block, at);
        let start = block.start + offset as usize + (at * self.framing.bytes()) as usize + self.framing.before();
        start..start + length as usize
    }

    /// Records of the block whose spans lie wholly within its first `bytes`.
    pub fn records_within_span(&self, block: &Block, bytes: u64) -> u64 {
        if bytes >= block.span_bytes { block.records } else { self.fitting(block.first_record, block.records, bytes) }
    }

    /// Payload bytes of the records `range` of the block.
    pub fn bytes_of(&self, block: &Block, range: Range<u64>) -> u64 {
        self.starts.start(block.first_record + range.end) - self.starts.start(block.first_record + range.start)
    }

    /// Bytes with framing of the block's first `records`.
    pub fn span_of(&self, block: &Block, records: u64) -> u64 {
        self.bytes_of(block, 0..records) + records * self.framing.bytes()
    }

    /// The Unix time stamp of the block's record number `at`.
    pub fn timestamp_unix_ns(&self, block: &Block, at: u64) -> u64 {
        let (offset, _) = self.record_of(block, at);
        self.epoch_unix_ns + block.first_due_ns + block.spread.offset_ns(offset)
    }

    fn stamp(&self, memory: &mut [u8], block: &Block) -> u32 {
        self.stamper.stamp(memory, block, self);
        self.framing.frame(memory, block, self)
    }
}

#[cfg(test)]
pub mod tests;
