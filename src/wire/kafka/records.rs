//! Reads record batches (format 2) from bytes that anyone may have sent. Nothing is allocated but what compressed
//! records unpack to.

use super::batch::{CRC_COVERS_FROM, HEADER_BYTES, LENGTH_EXCLUDES, MAGIC};
use super::codec::{Codec, CodecError};
use super::fields::{Fields, Malformed};
use super::inflate::Inflater;
use crate::wire::crc32c;
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchError {
    Malformed(Malformed),
    /// A format other than 2.
    Magic(u8),
    Crc {
        stated: u32,
        computed: u32,
    },
    /// A codec that the attributes name, but that does not exist.
    UnknownCodec(i16),
    Codec(CodecError),
}

impl From<Malformed> for BatchError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => write!(f, "record batch: {malformed}"),
            Self::Magic(magic) => write!(f, "record batch of format {magic}; only format {MAGIC} is read"),
            Self::Crc { stated, computed } => {
                write!(f, "record batch: it states the CRC32C {stated:08x}, its bytes have {computed:08x}")
            }
            Self::UnknownCodec(attributes) => write!(f, "record batch: no codec has the number {}", attributes & 7),
            Self::Codec(error) => write!(f, "record batch: {error}"),
        }
    }
}

impl std::error::Error for BatchError {}

const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// The head of a batch as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHead {
    pub base_offset: i64,
    /// Bytes of the whole batch, head included.
    pub bytes: usize,
    pub leader_epoch: i32,
    pub crc: u32,
    pub attributes: i16,
    pub codec: Codec,
    pub last_offset_delta: i32,
    pub first_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub records: u32,
}

impl BatchHead {
    /// Reads the first [`HEADER_BYTES`] of `bytes`; the records need not be there yet.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let mut fields = Fields::new(bytes);
        let base_offset = fields.i64("base offset")?;
        let length = fields.i32("batch length")?;
        let leader_epoch = fields.i32("leader epoch")?;
        let magic = fields.i8("format")? as u8;
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let bytes = usize::try_from(length).map_or(0, |length| length + LENGTH_EXCLUDES);
        if bytes < HEADER_BYTES {
            return Err(Malformed::Value { field: "batch length", value: i64::from(length) }.into());
        }
        let crc = fields.u32("CRC")?;
        let attributes = fields.i16("attributes")?;
        let codec = Codec::from_attributes(attributes).ok_or(BatchError::UnknownCodec(attributes))?;
        Ok(Self {
            base_offset,
            bytes,
            leader_epoch,
            crc,
            attributes,
            codec,
            last_offset_delta: fields.i32("last offset delta")?,
            first_timestamp_ms: fields.i64("first timestamp")?,
            max_timestamp_ms: fields.i64("largest timestamp")?,
            producer_id: fields.i64("producer id")?,
            producer_epoch: fields.i16("producer epoch")?,
            base_sequence: fields.i32("base sequence")?,
            records: fields.count("record count")?,
        })
    }

    /// The broker's clock set the timestamps: all are the largest one.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Its records are marks of transactions, not of users.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Offsets without gaps, as every producer sends them; compaction makes gaps.
    pub fn is_dense(&self) -> bool {
        i64::from(self.last_offset_delta) == i64::from(self.records) - 1
    }
}

/// A whole batch.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub head: BatchHead,
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The batch at the start of `bytes`. The checksum is another question: [`Self::check_crc`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let head = BatchHead::parse(bytes)?;
        let bytes = Fields::new(bytes).take("records", head.bytes)?;
        Ok(Self { head, bytes })
    }

    /// All its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn check_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c::checksum(&self.bytes[CRC_COVERS_FROM..]);
        if computed == self.head.crc { Ok(()) } else { Err(BatchError::Crc { stated: self.head.crc, computed }) }
    }

    /// Its records, unpacked by `inflater` if need be.
    pub fn records<'b>(&self, inflater: &'b mut Inflater) -> Result<Records<'b>, BatchError>
    where
        'a: 'b,
    {
        let plain = inflater.inflate(self.head.codec, &self.bytes[HEADER_BYTES..]).map_err(BatchError::Codec)?;
        Ok(Records { fields: Fields::new(plain), left: self.head.records, head: self.head })
    }
}

/// Batches one after another; after an error there are no more.
#[derive(Clone, Copy, Debug)]
pub struct Batches<'a> {
    left: &'a [u8],
}

impl<'a> Batches<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let batch = Batch::parse(self.left);
        self.left = batch.as_ref().map_or(&[], |batch| &self.left[batch.bytes.len()..]);
        Some(batch)
    }
}

/// The records of a batch; after an error there are no more.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    fields: Fields<'a>,
    left: u32,
    head: BatchHead,
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub offset: i64,
    pub offset_delta: i32,
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    headers: Fields<'a>,
}

impl<'a> Records<'a> {
    fn read(&mut self) -> Result<Option<Record<'a>>, Malformed> {
        let Some(left) = self.left.checked_sub(1) else { return self.fields.end().map(|()| None) };
        self.left = left;
        let size = self.fields.varint("record's length")?;
        let size =
            usize::try_from(size).map_err(|_| Malformed::Value { field: "record's length", value: i64::from(size) })?;
        let mut fields = Fields::new(self.fields.take("record", size)?);
        fields.i8("record's attributes")?;
        let timestamp_delta = fields.varlong("timestamp delta")?;
        let offset_delta = fields.varint("offset delta")?;
        let key = fields.varint_bytes("key")?;
        let value = fields.varint_bytes("value")?;
        let count = fields.varint("number of headers")?;
        if count < 0 {
            return Err(Malformed::Value { field: "number of headers", value: i64::from(count) });
        }
        let headers = fields;
        for _ in 0..count {
            header(&mut fields)?;
        }
        fields.end()?;
        let sent_at_ms = self.head.first_timestamp_ms.wrapping_add(timestamp_delta);
        let timestamp_ms = if self.head.is_log_append_time() { self.head.max_timestamp_ms } else { sent_at_ms };
        let offset = self.head.base_offset.wrapping_add(i64::from(offset_delta));
        Ok(Some(Record { offset, offset_delta, timestamp_ms, key, value, headers }))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let outcome = self.read();
        if outcome.is_err() {
            self.left = 0;
            self.fields = Fields::new(&[]);
        }
        outcome.map_err(BatchError::from).transpose()
    }
}

impl<'a> Record<'a> {
    /// Names and values of its headers.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut fields = self.headers;
        std::iter::from_fn(move || (!fields.rest().is_empty()).then(|| header(&mut fields).ok()).flatten())
    }
}

fn header<'a>(fields: &mut Fields<'a>) -> Result<(&'a [u8], Option<&'a [u8]>), Malformed> {
    let field = "header's name";
    let name = fields.varint_bytes(field)?.ok_or(Malformed::Value { field, value: -1 })?;
    Ok((name, fields.varint_bytes("header's value")?))
}
