//! The frames of Kafka records, and the checksum of an extent of them from the checksums of the records.
//!
//! A batch is any extent of framed records: nothing but the offset delta says where in a batch a record is. The
//! batch's checksum is joined from its parts: the few bytes of each frame are summed, what the record adds is
//! known from its own checksum.

use super::super::stamper::Stamper;
use super::super::{Block, Payload, Starts};
use crate::base::digits::put_decimal;
use crate::plan::KeyPlan;
use crate::record::{CRC_OFFSET, HEADER_BYTES};
use crate::wire::crc32c;
use crate::wire::kafka::batch::{raw_append, raw_join, raw_of_checksum};
use crate::wire::kafka::frame::FrameShape;

/// Decimal digits that every 64-bit number fits into.
const DIGITS: usize = 20;
const CRC_DIGITS: usize = 10;

/// A fact that travels as a record header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// With so many digits.
    Weight(usize),
    RunId(String),
    ProducerId,
    Sequence,
    TimestampNs,
    Crc32c,
}

impl Header {
    fn name(&self) -> &'static str {
        match self {
            Header::Weight(_) => "weight",
            Header::RunId(_) => "run_id",
            Header::ProducerId => "producer_id",
            Header::Sequence => "sequence",
            Header::TimestampNs => "timestamp_ns",
            Header::Crc32c => "crc32c",
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Header::Weight(digits) => *digits,
            Header::RunId(id) => id.len(),
            Header::ProducerId | Header::Sequence | Header::TimestampNs => DIGITS,
            Header::Crc32c => CRC_DIGITS,
        }
    }
}

/// What moves the checksum of a record's parts to the record's end.
#[derive(Clone, Copy, Debug, Default)]
struct Shifts {
    length: usize,
    /// Over the whole record, and over what follows the 64-byte header.
    whole: u32,
    behind_header: u32,
}

impl Shifts {
    fn of(length: usize) -> Self {
        let shift = |bytes: usize| crc32c::shift(bytes as u64);
        Self { length, whole: shift(length), behind_header: shift(length.saturating_sub(HEADER_BYTES)) }
    }
}

/// See the module.
pub struct KafkaFraming {
    shape: FrameShape,
    key: KeyPlan,
    headers: Vec<Header>,
    producer_id: u32,
    /// One for all records where all have one length, else one for each record of the ring.
    shifts: Box<[Shifts]>,
    /// What each record of the ring adds, where no stamp changes it.
    bodies: Box<[u32]>,
}

impl KafkaFraming {
    /// For records of up to `record_bytes_max` in batches of up to `records_max`.
    pub fn new(key: KeyPlan, headers: Vec<Header>, producer_id: u32, record_bytes_max: u64, records_max: u64) -> Self {
        let key_bytes = key_bytes(key, producer_id);
        let named = headers.iter().map(|header| (header.name().to_owned(), header.bytes())).collect();
        let records_max = u32::try_from(records_max).unwrap_or(u32::MAX);
        let shape = FrameShape::new(key_bytes, named, record_bytes_max as usize, records_max);
        Self { shape, key, headers, producer_id, shifts: Box::default(), bodies: Box::default() }
    }

    pub fn before(&self) -> usize {
        self.shape.before_bytes()
    }

    pub fn after(&self) -> usize {
        self.shape.after_bytes()
    }

    pub fn bake(&self, before: &mut [u8], after: &mut [u8], record_bytes: usize) {
        self.shape.bake(before, after, record_bytes);
        if self.key == KeyPlan::Producer {
            put_decimal(self.shape.key_mut(before), u64::from(self.producer_id));
        }
        for (at, header) in self.headers.iter().enumerate() {
            let value = self.shape.value_mut(after, at);
            match header {
                Header::RunId(id) => value.copy_from_slice(id.as_bytes()),
                Header::ProducerId => put_decimal(value, u64::from(self.producer_id)),
                Header::Weight(_) | Header::Sequence | Header::TimestampNs | Header::Crc32c => {}
            }
        }
    }

    pub fn seal(&mut self, ring: &[u8], starts: &Starts, stamper: &Stamper) {
        let frame = (self.before() + self.after()) as u64;
        self.shifts = match starts {
            Starts::Fixed { length, .. } => Box::new([Shifts::of(*length as usize)]),
            Starts::Varied(starts) => starts.windows(2).map(|pair| Shifts::of((pair[1] - pair[0]) as usize)).collect(),
        };
        if matches!(stamper, Stamper::Nothing) {
            let body = |at: u64| {
                let start = (starts.start(at) + at * frame) as usize + self.before();
                crc32c::remainder(&ring[start..start + (starts.start(at + 1) - starts.start(at)) as usize])
            };
            self.bodies = (0..starts.count()).map(body).collect();
        }
    }

    /// Stamps the frames of the block's records; returns the raw checksum of all of it, from register 0.
    pub fn frame(&self, memory: &mut [u8], block: &Block, payload: &Payload) -> u32 {
        let mut raw = 0;
        for at in 0..block.records {
            let place = payload.place_of(block, at);
            let ring_at = (block.first_record + at) as usize;
            let shifts = self.shifts[if self.shifts.len() == 1 { 0 } else { ring_at }];
            let body = match payload.stamper() {
                Stamper::Header { .. } => stamped_header(&memory[place.clone()], &shifts),
                Stamper::Slots(_) => crc32c::remainder(&memory[place.clone()]),
                Stamper::Nothing => self.bodies[ring_at],
            };
            let before = &mut memory[place.start - self.before()..place.start];
            self.shape.put_delta(before, at as u32);
            if let KeyPlan::Cycle(keys) = self.key {
                put_decimal(self.shape.key_mut(before), (block.first_sequence + at) % keys);
            }
            raw = raw_append(raw, before);
            raw = raw_join(raw, body, shifts.whole);
            let after = &mut memory[place.end..place.end + self.after()];
            if !self.headers.is_empty() {
                self.put_headers(after, block, payload, at, raw_to_checksum(body, &shifts));
            }
            raw = raw_append(raw, after);
        }
        raw
    }

    fn put_headers(&self, after: &mut [u8], block: &Block, payload: &Payload, at: u64, checksum: u32) {
        for (index, header) in self.headers.iter().enumerate() {
            let value = self.shape.value_mut(after, index);
            match header {
                Header::Weight(_) => put_decimal(value, block.weight),
                Header::Sequence => put_decimal(value, block.first_sequence + at),
                Header::TimestampNs => put_decimal(value, payload.timestamp_unix_ns(block, at)),
                Header::Crc32c => put_decimal(value, u64::from(checksum)),
                Header::RunId(_) | Header::ProducerId => {}
            }
        }
    }

    /// The key of the record with this sequence, for a client that frames records itself.
    pub fn key_of(&self, sequence: u64) -> Option<Vec<u8>> {
        let mut key = vec![0; key_bytes(self.key, self.producer_id)?];
        let value = if let KeyPlan::Cycle(keys) = self.key { sequence % keys } else { u64::from(self.producer_id) };
        put_decimal(&mut key, value);
        Some(key)
    }

    /// Whether `headers_of` needs to know a record's checksum.
    pub fn states_checksum(&self) -> bool {
        self.headers.contains(&Header::Crc32c)
    }

    /// Names and values of the headers of the block's record number `at`, for a client that frames records itself.
    pub fn headers_of(
        &self,
        block: &Block,
        payload: &Payload,
        at: u64,
        checksum: u32,
    ) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
        self.headers.iter().map(move |header| {
            let mut value = vec![0; header.bytes()];
            match header {
                Header::Weight(_) => put_decimal(&mut value, block.weight),
                Header::RunId(id) => value.copy_from_slice(id.as_bytes()),
                Header::ProducerId => put_decimal(&mut value, u64::from(self.producer_id)),
                Header::Sequence => put_decimal(&mut value, block.first_sequence + at),
                Header::TimestampNs => put_decimal(&mut value, payload.timestamp_unix_ns(block, at)),
                Header::Crc32c => put_decimal(&mut value, u64::from(checksum)),
            }
            (header.name(), value)
        })
    }
}

fn key_bytes(key: KeyPlan, producer_id: u32) -> Option<usize> {
    match key {
        KeyPlan::None => None,
        KeyPlan::Producer => Some(digits(u64::from(producer_id))),
        KeyPlan::Cycle(keys) => Some(digits(keys - 1)),
    }
}

/// What a record with a stamped header adds: its checksum was made with its own field as zero.
#[inline]
fn stamped_header(record: &[u8], shifts: &Shifts) -> u32 {
    debug_assert_eq!(record.len(), shifts.length);
    let field: [u8; 4] = record[CRC_OFFSET..HEADER_BYTES].try_into().expect("four bytes");
    let without_field = raw_of_checksum(u32::from_le_bytes(field), shifts.whole);
    without_field ^ crc32c::multiply(raw_append(0, &field), shifts.behind_header)
}

/// The usual checksum of a record that adds `raw`.
fn raw_to_checksum(raw: u32, shifts: &Shifts) -> u32 {
    !(raw ^ crc32c::multiply(!0, shifts.whole))
}

/// Decimal digits of a number.
pub fn digits(value: u64) -> usize {
    value.checked_ilog10().unwrap_or(0) as usize + 1
}
