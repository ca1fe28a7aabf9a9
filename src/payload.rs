//! One lane's payload: records baked before the barrier, laid out one behind the other in the core's region,
//! then only stamped.
//!
//! Record number `n` of the producer has the content of ring record `n % count`, whatever the timing. Blocks
//! are runs of consecutive records; those in flight are kept in order and never lapped, so no byte changes
//! while the kernel may read it.

pub mod bake;
pub mod baked;
pub mod fits;
pub mod fits_checksum;
pub mod placeholders;
pub mod random;
pub mod render;
pub mod sign;
pub mod template;

use crate::pace::Spread;
use crate::record::{CRC_OFFSET, HEADER_BYTES, STAMP_END, STAMP_OFFSET};
use crate::sys::prefetch;
use crate::wire::crc32c;
use baked::Baked;
use render::Stamps;
use std::ops::Range;

/// How many records ahead the next heads are fetched.
const PREFETCH_RECORDS: u64 = 12;

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

/// The constant part of a header record's checksum, and what moves its stamps to their place.
#[derive(Clone, Copy, Debug)]
pub struct HeadBake {
    /// CRC32C of the record with stamps and checksum as zero.
    pub crc32c: u32,
    /// `x^(8 * bytes behind the stamps)`.
    pub shift: u32,
    /// Keyed digest of the body, where records are signed.
    pub body_digest: u64,
}

/// How a record gets its stamps.
pub enum Stamper {
    /// Every record starts with the 64-byte header.
    Header { bakes: Box<[HeadBake]>, sign_key: Option<[u8; 16]> },
    /// Template `n % len` shapes record `n`.
    Slots(Box<[Baked]>),
    /// `--annotate off`: the bytes stay as baked.
    Nothing,
}

/// Consecutive records that go to the kernel together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Block {
    pub first_record: u64,
    pub records: u64,
    /// Offset in the core's region.
    pub start: usize,
    pub bytes: u64,
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
        self.start..self.start + self.bytes as usize
    }
}

/// Records that could go now: how many, and whether waiting could add any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub records: u64,
    pub bytes: u64,
    pub full: bool,
}

/// See the module.
pub struct Payload {
    /// Of the ring, in the core's region.
    base: usize,
    starts: Starts,
    stamper: Stamper,
    /// Unix time of the barrier.
    epoch_unix_ns: u64,
    next_sequence: u64,
    /// Blocks in flight, oldest at `oldest % len`, and whether their last completion came.
    blocks: Box<[(Block, bool)]>,
    oldest: u64,
    newest: u64,
}

impl Payload {
    /// A baked ring at `base`, for at most `depth` blocks in flight; made by [`bake::bake`].
    pub fn new(base: usize, starts: Starts, stamper: Stamper, depth: usize) -> Self {
        let blocks = vec![(Block::default(), true); depth].into_boxed_slice();
        Self { base, starts, stamper, epoch_unix_ns: 0, next_sequence: 0, blocks, oldest: 0, newest: 0 }
    }

    /// The Unix time of the barrier, from which due times become time stamps.
    pub fn set_epoch(&mut self, unix_ns: u64) {
        self.epoch_unix_ns = unix_ns;
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

    /// What could go now: due within `budget_bytes`, at most `bytes_max` and `records_max`, contiguous and free.
    pub fn run(&self, budget_bytes: u64, bytes_max: u64, records_max: u64) -> Option<Run> {
        let count = self.starts.count();
        let at = self.next_sequence % count;
        let (fitting, due) = match &self.starts {
            Starts::Fixed { length, .. } => (bytes_max / length, budget_bytes.div_ceil(*length)),
            Starts::Varied(starts) => {
                let (from, rest) = (starts[at as usize], &starts[at as usize + 1..]);
                let fitting = rest.partition_point(|end| end - from <= bytes_max) as u64;
                let due = starts[at as usize..count as usize].partition_point(|s| s - from < budget_bytes) as u64;
                (fitting, due)
            }
        };
        let limit = fitting.min(count - at).min(records_max);
        let records = limit.min(due);
        // A block cut short only because older ones are still in flight would leave ever shorter holes behind.
        if records == 0 || records > self.free_from(at) {
            return None;
        }
        let bytes = self.starts.start(at + records) - self.starts.start(at);
        Some(Run { records, bytes, full: records == limit })
    }

    /// Records from ring position `at` to the ring's end or the oldest block in flight.
    fn free_from(&self, at: u64) -> u64 {
        let count = self.starts.count();
        if self.newest - self.oldest == self.blocks.len() as u64 {
            return 0;
        }
        if self.newest == self.oldest {
            return count - at;
        }
        let oldest = self.blocks[(self.oldest % self.blocks.len() as u64) as usize].0.first_record;
        if oldest >= at { oldest - at } else { count - at }
    }

    /// Records whose first byte lies within the next `bytes`, as if they were sent one after the other, and
    /// what they measure together.
    pub fn records_within(&self, bytes: u64) -> (u64, u64) {
        match &self.starts {
            Starts::Fixed { length, .. } => {
                let records = bytes.div_ceil(*length);
                (records, records.saturating_mul(*length))
            }
            Starts::Varied(starts) => {
                let (count, period) = (self.starts.count(), self.starts.period_bytes());
                let at = (self.next_sequence % count) as usize;
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

    /// Writes sequences, due times, weight, signature and checksum into the next `run` and takes it out of the
    /// ring; the returned slot names the block until [`Self::release`].
    pub fn begin(&mut self, memory: &mut [u8], run: Run, mut block: Block) -> u32 {
        let at = self.next_sequence % self.starts.count();
        block.first_record = at;
        block.records = run.records;
        block.bytes = run.bytes;
        block.start = self.base + self.starts.start(at) as usize;
        block.first_sequence = self.next_sequence;
        self.stamp(memory, &block);
        self.next_sequence += run.records;
        let slot = (self.newest % self.blocks.len() as u64) as usize;
        self.blocks[slot] = (block, false);
        self.newest += 1;
        slot as u32
    }

    pub fn block(&self, slot: u32) -> &Block {
        &self.blocks[slot as usize].0
    }

    /// The block's last completion came: its bytes may be stamped again once all older ones are released too.
    pub fn release(&mut self, slot: u32) {
        self.blocks[slot as usize].1 = true;
        while self.oldest < self.newest && self.blocks[(self.oldest % self.blocks.len() as u64) as usize].1 {
            self.oldest += 1;
        }
    }

    /// Slots of the blocks that are still in flight, oldest first.
    pub fn unreleased(&self) -> impl Iterator<Item = u32> + '_ {
        (self.oldest..self.newest)
            .map(|at| (at % self.blocks.len() as u64) as u32)
            .filter(|slot| !self.blocks[*slot as usize].1)
    }

    /// Offset within its block and length of the block's record number `at`.
    pub fn record_of(&self, block: &Block, at: u64) -> (u64, u64) {
        let start = self.starts.start(block.first_record + at);
        (start - self.starts.start(block.first_record), self.starts.start(block.first_record + at + 1) - start)
    }

    /// Records of the block that lie wholly within its first `bytes`, and what they measure.
    pub fn records_in(&self, block: &Block, bytes: u64) -> (u64, u64) {
        if bytes >= block.bytes {
            return (block.records, block.bytes);
        }
        let base = self.starts.start(block.first_record);
        let records = match &self.starts {
            Starts::Fixed { length, .. } => bytes / length,
            Starts::Varied(starts) => {
                starts[block.first_record as usize + 1..].partition_point(|end| end - base <= bytes) as u64
            }
        };
        (records, self.starts.start(block.first_record + records) - base)
    }

    /// The Unix time stamp of the block's record number `at`.
    pub fn timestamp_unix_ns(&self, block: &Block, at: u64) -> u64 {
        let (offset, _) = self.record_of(block, at);
        self.epoch_unix_ns + block.first_due_ns + block.spread.offset_ns(offset)
    }

    fn stamp(&self, memory: &mut [u8], block: &Block) {
        match &self.stamper {
            Stamper::Header { bakes, sign_key } => self.stamp_headers(memory, block, bakes, sign_key.as_ref()),
            Stamper::Slots(baked) => self.stamp_slots(memory, block, baked),
            Stamper::Nothing => {}
        }
    }

    fn stamp_headers(&self, memory: &mut [u8], block: &Block, bakes: &[HeadBake], key: Option<&[u8; 16]>) {
        let first_due = self.epoch_unix_ns + block.first_due_ns;
        let bakes = &bakes[block.first_record as usize..(block.first_record + block.records) as usize];
        let mut stamp_at = |at: usize, offset: u64, ahead: u64| {
            let start = block.start + offset as usize;
            // The heads are too far apart for the processor to see them coming.
            prefetch::for_write(memory, start + ahead as usize);
            let head: &mut [u8; HEADER_BYTES] =
                (&mut memory[start..start + HEADER_BYTES]).try_into().expect("a record has a header");
            let due = first_due + block.spread.offset_ns(offset);
            let mut words = [block.weight, block.first_sequence + at as u64, due, 0];
            if let Some(key) = key {
                put_words(head, words);
                words[3] = sign::sign(key, head, bakes[at].body_digest);
            }
            put_words(head, words);
            let crc = bakes[at].crc32c ^ crc32c::moved_words(words, bakes[at].shift);
            head[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
        };
        match &self.starts {
            Starts::Fixed { length, .. } => {
                (0..bakes.len()).for_each(|at| stamp_at(at, at as u64 * length, PREFETCH_RECORDS * length));
            }
            Starts::Varied(starts) => {
                let starts = &starts[block.first_record as usize..];
                (0..bakes.len()).for_each(|at| {
                    let far = starts[(at + PREFETCH_RECORDS as usize).min(starts.len() - 1)];
                    stamp_at(at, starts[at] - starts[0], far - starts[at]);
                });
            }
        }
    }

    fn stamp_slots(&self, memory: &mut [u8], block: &Block, baked: &[Baked]) {
        for at in 0..block.records {
            let (offset, length) = self.record_of(block, at);
            let start = block.start + offset as usize;
            let sequence = block.first_sequence + at;
            let timestamp_unix_ns = self.timestamp_unix_ns(block, at);
            let stamps = Stamps { weight: block.weight, sequence, timestamp_unix_ns };
            baked[(sequence % baked.len() as u64) as usize].stamp(&mut memory[start..start + length as usize], &stamps);
        }
    }
}

#[inline]
fn put_words(head: &mut [u8; HEADER_BYTES], words: [u64; 4]) {
    let stamps: &mut [u8; STAMP_END - STAMP_OFFSET] =
        (&mut head[STAMP_OFFSET..STAMP_END]).try_into().expect("four words");
    for (bytes, word) in stamps.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
}
