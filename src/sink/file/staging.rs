//! Aligned staging for O_DIRECT: records of any length become whole sectors.
//!
//! A block's bytes are copied behind the *tail* (the bytes of the stream that do not fill a sector yet), its
//! whole sectors are written, the new tail is kept. When nothing may follow soon, the tail goes out as a sector
//! padded with zeros; the next write covers that sector again, so it waits until the padded one is down: two
//! writes to one sector could otherwise swap.

use std::ops::Range;

/// Bytes that staging takes for `depth` blocks in flight: a buffer for each, and one for the tail.
pub fn region_bytes(block_bytes: u64, align: u64, depth: usize) -> u64 {
    buffer_bytes(block_bytes, align) * (depth as u64 + 1)
}

fn buffer_bytes(block_bytes: u64, align: u64) -> u64 {
    block_bytes.next_multiple_of(align) + align
}

/// A write that staging asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedWrite {
    pub buffer: usize,
    /// In the region.
    pub range: Range<usize>,
    /// In the file.
    pub offset: u64,
    /// Stream position that is on the target once this and all earlier writes are.
    pub covers_to: u64,
    /// The padded tail.
    pub is_tail: bool,
}

/// A write in flight, in stream order.
#[derive(Clone, Copy, Debug)]
struct Covering {
    buffer: usize,
    covers_to: u64,
    done: bool,
}

/// One lane's staging; see the module. Positions are bytes of the file.
pub struct Staging {
    base: usize,
    buffer_bytes: usize,
    align: u64,
    free: Vec<usize>,
    /// Bytes since the last whole sector.
    tail: Box<[u8]>,
    tail_bytes: usize,
    /// File offset of the sector that the tail belongs to.
    sector_offset: u64,
    /// The padded tail is in flight.
    tail_in_flight: bool,
    /// How much of the tail is on the target already (padded).
    tail_written: usize,
    writes: std::collections::VecDeque<Covering>,
    /// Everything before this position of the stream is on the target.
    pub covered: u64,
}

impl Staging {
    pub fn new(region: Range<usize>, align: u64, depth: usize) -> Self {
        let buffers = depth + 1;
        let buffer_bytes = region.len() / buffers;
        Self {
            base: region.start,
            buffer_bytes,
            align,
            free: (0..buffers).collect(),
            tail: vec![0; align as usize].into_boxed_slice(),
            tail_bytes: 0,
            sector_offset: 0,
            tail_in_flight: false,
            tail_written: 0,
            // Those behind a slow write stay, though their buffers are free again: one and a tail for each block.
            writes: std::collections::VecDeque::with_capacity(2 * buffers),
            covered: 0,
        }
    }

    /// A block can be staged now. One buffer is kept for the tail.
    pub fn has_room(&self) -> bool {
        self.free.len() > 1 && !self.tail_in_flight
    }

    /// Where the next byte of the stream goes.
    pub fn position(&self) -> u64 {
        self.sector_offset + self.tail_bytes as u64
    }

    /// Bytes wait that no write covers yet.
    pub fn holds_tail(&self) -> bool {
        self.tail_bytes != self.tail_written
    }

    pub fn is_clean(&self) -> bool {
        self.writes.is_empty() && !self.holds_tail()
    }

    /// Copies `block` behind the tail; the write of its whole sectors, if it filled any.
    pub fn stage(&mut self, memory: &mut [u8], block: Range<usize>) -> Option<StagedWrite> {
        let buffer = *self.free.last().expect("has_room was asked");
        let start = self.base + buffer * self.buffer_bytes;
        let total = self.tail_bytes + block.len();
        memory[start..start + self.tail_bytes].copy_from_slice(&self.tail[..self.tail_bytes]);
        memory.copy_within(block, start + self.tail_bytes);
        let whole = total / self.align as usize * self.align as usize;
        self.tail_bytes = total - whole;
        self.tail_written = 0;
        self.tail[..self.tail_bytes].copy_from_slice(&memory[start + whole..start + total]);
        if whole == 0 {
            return None;
        }
        self.free.pop();
        let offset = self.sector_offset;
        self.sector_offset += whole as u64;
        let covers_to = self.sector_offset;
        self.writes.push_back(Covering { buffer, covers_to, done: false });
        Some(StagedWrite { buffer, range: start..start + whole, offset, covers_to, is_tail: false })
    }

    /// The padded tail, if there is one that is not on the target yet.
    pub fn flush(&mut self, memory: &mut [u8]) -> Option<StagedWrite> {
        if self.tail_in_flight || !self.holds_tail() {
            return None;
        }
        let buffer = self.free.pop()?;
        let start = self.base + buffer * self.buffer_bytes;
        let sector = &mut memory[start..start + self.align as usize];
        sector[..self.tail_bytes].copy_from_slice(&self.tail[..self.tail_bytes]);
        sector[self.tail_bytes..].fill(0);
        self.tail_in_flight = true;
        self.tail_written = self.tail_bytes;
        let covers_to = self.position();
        self.writes.push_back(Covering { buffer, covers_to, done: false });
        let range = start..start + self.align as usize;
        Some(StagedWrite { buffer, range, offset: self.sector_offset, covers_to, is_tail: true })
    }

    /// A write came to its end (well or not); moves `covered` over all that are done from the oldest on.
    pub fn finish(&mut self, buffer: usize, is_tail: bool) {
        self.tail_in_flight &= !is_tail;
        if let Some(write) = self.writes.iter_mut().find(|write| write.buffer == buffer && !write.done) {
            write.done = true;
        }
        self.free.push(buffer);
        while let Some(oldest) = self.writes.front().filter(|write| write.done) {
            self.covered = oldest.covers_to;
            self.writes.pop_front();
        }
    }

    /// The stream goes on at the file's start: a new file, or the next lap of a ring. Call when clean.
    pub fn restart(&mut self) {
        debug_assert!(self.is_clean());
        (self.tail_bytes, self.tail_written, self.sector_offset, self.covered) = (0, 0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the block lengths and flushes, the file is the concatenation of the blocks.
        #[test]
        fn a_staged_stream_is_the_stream(blocks in proptest::collection::vec((1usize..3000, any::<bool>()), 1..40)) {
            let (align, depth, block_max) = (512u64, 4, 3000u64);
            let region = region_bytes(block_max, align, depth) as usize;
            let mut memory = vec![0u8; region + 3000];
            let mut staging = Staging::new(0..region, align, depth);
            let (mut file, mut stream) = (vec![0u8; 0], vec![0u8; 0]);
            for (at, (length, hurry)) in blocks.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..length).map(|i| (i + at * 7) as u8 | 1).collect();
                memory[region..region + length].copy_from_slice(&bytes);
                stream.extend_from_slice(&bytes);
                prop_assert!(staging.has_room());
                let mut writes = Vec::from_iter(staging.stage(&mut memory, region..region + length));
                if hurry {
                    writes.extend(staging.flush(&mut memory));
                }
                for write in writes {
                    prop_assert!([write.offset, write.range.len() as u64].iter().all(|n| n.is_multiple_of(align)));
                    let end = write.offset as usize + write.range.len();
                    file.resize(file.len().max(end), 0);
                    file[write.offset as usize..end].copy_from_slice(&memory[write.range]);
                    staging.finish(write.buffer, write.is_tail);
                }
                prop_assert_eq!(&file[..staging.covered as usize], &stream[..staging.covered as usize]);
                prop_assert!(!hurry || staging.covered == stream.len() as u64);
            }
            prop_assert_eq!(staging.position(), stream.len() as u64);
        }
    }
}
