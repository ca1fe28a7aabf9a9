//! The stamps of records: sequence, due time, weight, signature and checksum, at a cost that does not depend on
//! the record's size.

use super::baked::Baked;
use super::render::Stamps;
use super::{Block, Payload, Starts, sign};
use crate::record::{CRC_OFFSET, HEADER_BYTES, STAMP_END, STAMP_OFFSET};
use crate::sys::prefetch;
use crate::wire::crc32c;

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

impl Stamper {
    /// Stamps every record of the block where the block says that it lies.
    pub fn stamp(&self, memory: &mut [u8], block: &Block, payload: &Payload) {
        match self {
            Stamper::Header { bakes, sign_key } => stamp_headers(memory, block, payload, bakes, sign_key.as_ref()),
            Stamper::Slots(baked) => stamp_slots(memory, block, payload, baked),
            Stamper::Nothing => {}
        }
    }
}

fn stamp_headers(memory: &mut [u8], block: &Block, payload: &Payload, bakes: &[HeadBake], key: Option<&[u8; 16]>) {
    let first_due = payload.epoch_unix_ns + block.first_due_ns;
    let bakes = &bakes[block.first_record as usize..(block.first_record + block.records) as usize];
    let (frame, before) = (payload.framing.bytes(), payload.framing.before());
    let mut stamp_at = |at: usize, offset: u64, ahead: u64| {
        let start = block.start + before + (offset + at as u64 * frame) as usize;
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
    match &payload.starts {
        Starts::Fixed { length, .. } => {
            let ahead = prefetch::RECORDS_AHEAD * (length + frame);
            (0..bakes.len()).for_each(|at| stamp_at(at, at as u64 * length, ahead));
        }
        Starts::Varied(starts) => {
            let starts = &starts[block.first_record as usize..];
            (0..bakes.len()).for_each(|at| {
                let far = starts[(at + prefetch::RECORDS_AHEAD as usize).min(starts.len() - 1)];
                stamp_at(at, starts[at] - starts[0], far - starts[at]);
            });
        }
    }
}

fn stamp_slots(memory: &mut [u8], block: &Block, payload: &Payload, baked: &[Baked]) {
    let submit_unix_ns = payload.epoch_unix_ns + block.submit_ns;
    for at in 0..block.records {
        let sequence = block.first_sequence + at;
        let timestamp_unix_ns = payload.timestamp_unix_ns(block, at);
        let stamps = Stamps { weight: block.weight, sequence, timestamp_unix_ns, submit_unix_ns };
        baked[(sequence % baked.len() as u64) as usize].stamp(&mut memory[payload.place_of(block, at)], &stamps);
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
