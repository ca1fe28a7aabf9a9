//! How fast a core writes the heads of records as a run to `null` does: in the blocks and turns of a run, with what the
//! loop notes of each, in rings that lie as a run's do: heads a power of two apart share a few sets of the caches.

use super::{Stretches, Timed};
use crate::base::align::PAGE_BYTES;
use crate::base::limits;
use crate::sys::region::Region;
use crate::sys::{crc, prefetch};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::hint::black_box;
use std::io;
use std::time::Instant;

/// As `record` has them.
const HEAD_BYTES: usize = 64;
const HEAD_STAMP_OFFSET: usize = 24;
/// What of a record's checksum and place is known before a run, as long as `payload` keeps it.
type Bake = [u32; 4];

/// How the records of one core lie in a run to `null`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Producers of the core, each with a ring of its own.
    pub lanes: u32,
    /// From one head to the next.
    pub record_bytes: u64,
    pub block_bytes: u64,
    /// Of each lane.
    pub ring_bytes: u64,
}

impl Layout {
    pub fn records_of_block(&self) -> u64 {
        (self.block_bytes / self.record_bytes).max(1)
    }

    /// A whole number of blocks where there is room for it, as a run bakes them.
    pub fn records_of_ring(&self) -> u64 {
        let (block, ring) = (self.records_of_block(), (self.ring_bytes / self.record_bytes).max(1));
        if ring > block { ring / block * block } else { ring }
    }

    /// From the start of one ring to that of the next.
    fn ring_step(&self) -> usize {
        (self.records_of_ring() * self.record_bytes).next_multiple_of(PAGE_BYTES as u64) as usize
    }

    /// With fewer lanes and shorter rings, where those of the run are more than `bytes`.
    pub(super) fn within(self, bytes: u64) -> Self {
        let lanes = u64::from(self.lanes).min(bytes / self.record_bytes).max(1);
        Self { lanes: lanes as u32, ring_bytes: self.ring_bytes.min(bytes / lanes), ..self }
    }
}

pub(super) fn heads(layout: Layout) -> io::Result<Timed> {
    let mut core = Core::new(layout)?;
    let (mut stretches, mut done) = (Stretches::start(), 0);
    while stretches.go_on(done) {
        done += core.turn();
    }
    stretches.timed()
}

struct Lane {
    /// Of its ring in the core's memory.
    base: usize,
    bakes: Box<[Bake]>,
    next_sequence: u64,
    open: VecDeque<Block>,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    start: usize,
    first_record: u64,
    records: u64,
    first_sequence: u64,
    submit_ns: u64,
}

/// As much work for each block as the loop's own.
struct Books {
    service: Histogram<u64>,
    response: Histogram<u64>,
    records: u64,
    bytes: u64,
}

struct Core {
    layout: Layout,
    memory: Region,
    lanes: Vec<Lane>,
    books: Books,
    began: Instant,
}

impl Core {
    fn new(layout: Layout) -> io::Result<Self> {
        let (count, step) = (layout.records_of_ring(), layout.record_bytes as usize);
        let mut memory = Region::map(layout.lanes as usize * layout.ring_step())?;
        let lane = |lane: usize| Lane {
            base: lane * layout.ring_step(),
            bakes: (0..count).map(|at| [at as u32 | 1; 4]).collect(),
            next_sequence: 0,
            open: VecDeque::new(),
        };
        let lanes: Vec<_> = (0..layout.lanes as usize).map(lane).collect();
        // Every page of a head is there before the time counts.
        let bytes = memory.bytes_mut();
        lanes.iter().for_each(|lane| (0..count as usize).for_each(|at| bytes[lane.base + at * step] = 1));
        let histogram = || {
            Histogram::new_with_bounds(1, limits::LATENCY_NS_MAX, limits::LATENCY_DIGITS)
                .expect("bounds that a histogram takes")
        };
        let books = Books { service: histogram(), response: histogram(), records: 0, bytes: 0 };
        Ok(Self { layout, memory, lanes, books, began: Instant::now() })
    }

    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// A turn of the loop: each lane's share, then what became of it. Returns how many heads it wrote.
    fn turn(&mut self) -> u64 {
        let (now_ns, step) = (self.now_ns(), self.layout.record_bytes);
        let mut written = 0;
        for lane in &mut self.lanes {
            let mut turn_bytes = 0;
            while turn_bytes < limits::TURN_BYTES {
                let block = lane.begin(&self.layout, now_ns);
                write_heads(self.memory.bytes_mut(), &lane.bakes, &block, step as usize);
                lane.open.push_back(block);
                turn_bytes += block.records * step;
                written += block.records;
            }
        }
        let settled_ns = self.now_ns();
        for block in self.lanes.iter_mut().flat_map(|lane| lane.open.drain(..)) {
            self.books.settle(&block, step, settled_ns);
        }
        black_box(&mut self.books);
        written
    }
}

impl Lane {
    fn begin(&mut self, layout: &Layout, submit_ns: u64) -> Block {
        let count = layout.records_of_ring();
        let first_record = self.next_sequence % count;
        let records = layout.records_of_block().min(count - first_record);
        let start = self.base + (first_record * layout.record_bytes) as usize;
        let first_sequence = self.next_sequence;
        self.next_sequence += records;
        Block { start, first_record, records, first_sequence, submit_ns }
    }
}

impl Books {
    fn settle(&mut self, block: &Block, step: u64, now_ns: u64) {
        let service_ns = now_ns - block.submit_ns;
        self.service.saturating_record_n(service_ns, block.records);
        self.response.saturating_record_n(service_ns, block.records);
        self.records += block.records;
        self.bytes += block.records * step;
    }
}

fn write_heads(memory: &mut [u8], bakes: &[Bake], block: &Block, step: usize) {
    let first = block.first_record as usize;
    let ahead = prefetch::RECORDS_AHEAD as usize * step;
    for (number, [constant, shift, due, _]) in bakes[first..first + block.records as usize].iter().enumerate() {
        let at = block.start + number * step;
        prefetch::for_write(memory, at + ahead);
        let words = [1, block.first_sequence + number as u64, u64::from(*due), 0];
        let crc = constant ^ crc::multiply_words(words, *shift);
        let head = &mut memory[at..at + HEAD_BYTES];
        for (bytes, word) in head[HEAD_STAMP_OFFSET..].chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        head[HEAD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;

    fn layout(lanes: u32, record_bytes: u64, ring_bytes: u64) -> Layout {
        Layout { lanes, record_bytes, block_bytes: 256 * KIB, ring_bytes }
    }

    /// Sequence of the record whose head is at `at`.
    fn sequence(memory: &[u8], at: usize) -> u64 {
        let at = at + HEAD_STAMP_OFFSET + 8;
        u64::from_le_bytes(memory[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn heads_lie_a_record_apart_in_a_ring_for_each_lane() {
        for (lanes, record_bytes) in [(1, 512), (3, 1000), (2, 16 * KIB), (1, 300 * KIB)] {
            let layout = layout(lanes, record_bytes, 1 << 20);
            let mut core = Core::new(layout).unwrap();
            let (count, step) = (layout.records_of_ring(), record_bytes as usize);
            let mut written = 0;
            while written < 2 * count * u64::from(lanes) {
                written += core.turn();
            }
            assert_eq!(written, core.books.records, "{layout:?}");
            let mut memory = core.memory.bytes().to_vec();
            for lane in 0..lanes as usize {
                let base = lane * (count as usize * step).next_multiple_of(PAGE_BYTES);
                let last = core.lanes[lane].next_sequence - 1;
                for at in 0..count as usize {
                    let head = base + at * step;
                    let found = sequence(&memory, head);
                    assert!(found % count == at as u64 && last - found < count, "{layout:?}: {lane} {at} {found}");
                    memory[head..head + HEAD_BYTES].fill(0);
                }
            }
            assert!(memory.iter().all(|byte| *byte == 0), "{layout:?}: nothing but heads is written");
        }
    }

    #[test]
    fn blocks_and_turns_are_those_of_the_loop() {
        for (record_bytes, block, turn) in [(512, 512, 2048), (1000, 262, 1310), (64 * KIB, 4, 16), (3 << 20, 1, 1)] {
            let layout = Layout { lanes: 2, record_bytes, block_bytes: 256 * KIB, ring_bytes: 8 << 20 };
            let mut core = Core::new(layout).unwrap();
            assert_eq!((layout.records_of_block(), core.turn()), (block, 2 * turn), "{record_bytes}");
            assert_eq!(core.books.service.len(), 2 * turn);
        }
    }

    #[test]
    fn what_has_no_room_is_cut_and_never_to_nothing() {
        let planned = layout(8, 4096, 64 << 20);
        assert_eq!(planned.within(u64::MAX), planned);
        assert_eq!(planned.within(64 << 20), Layout { ring_bytes: 8 << 20, ..planned });
        let large = layout(8, 64 << 20, 128 << 20).within(100 << 20);
        assert_eq!((large.lanes, large.records_of_ring()), (1, 1));
        assert_eq!(planned.within(0).records_of_ring(), 1);
    }
}
