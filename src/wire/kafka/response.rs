//! Frames of a connection, and answers to Produce: read as a client, written as a broker. No allocation.

use super::fields::{Fields, Malformed};
use super::{PRODUCE_VERSION_MAX, PRODUCE_VERSION_MIN};

/// Bytes of a message's size, which goes before it.
pub const SIZE_BYTES: usize = 4;
/// The least that a message has: a correlation id.
const FRAME_BYTES_MIN: usize = 4;

/// Splits what arrives into messages.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    bytes_max: usize,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split<'a> {
    /// A whole message without its size, and the bytes it takes with it.
    Frame { frame: &'a [u8], used: usize },
    /// Not whole yet; it will be (or its size will be known) when there are this many bytes.
    Partial { wanted: usize },
}

impl Frames {
    /// A message of more than `bytes_max` is an error, not a reason to wait.
    pub const fn new(bytes_max: usize) -> Self {
        Self { bytes_max }
    }

    /// The size of the message at the start of `bytes`, if so much is there.
    #[inline]
    pub fn size(&self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let Some(size) = bytes.first_chunk::<SIZE_BYTES>() else { return Ok(None) };
        let value = i32::from_be_bytes(*size);
        match usize::try_from(value) {
            Ok(size) if (FRAME_BYTES_MIN..=self.bytes_max).contains(&size) => Ok(Some(size)),
            _ => Err(Malformed::Value { field: "size", value: i64::from(value) }),
        }
    }

    /// The message at the start of `bytes`.
    #[inline]
    pub fn split<'a>(&self, bytes: &'a [u8]) -> Result<Split<'a>, Malformed> {
        let Some(size) = self.size(bytes)? else { return Ok(Split::Partial { wanted: SIZE_BYTES }) };
        let used = SIZE_BYTES + size;
        let frame = bytes.get(SIZE_BYTES..used);
        Ok(frame.map_or(Split::Partial { wanted: used }, |frame| Split::Frame { frame, used }))
    }
}

/// An answer to Produce, without its size.
#[derive(Clone, Copy, Debug)]
pub struct ProduceAnswer<'a> {
    pub correlation_id: i32,
    pub throttle_time_ms: i32,
    partitions: PartitionAnswers<'a>,
}

/// What became of the records for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionAnswer<'a> {
    pub topic: &'a [u8],
    pub index: i32,
    /// See [`super::errors`]; 0 is success.
    pub error_code: i16,
    pub base_offset: i64,
    /// -1 where the broker does not say.
    pub log_append_time_ms: i64,
    pub log_start_offset: i64,
    /// The broker's own words about the error; not always UTF-8.
    pub error_message: Option<&'a [u8]>,
}

impl<'a> ProduceAnswer<'a> {
    /// Reads the whole answer to a request of that version.
    pub fn parse(frame: &'a [u8], version: i16) -> Result<Self, Malformed> {
        if !(PRODUCE_VERSION_MIN..=PRODUCE_VERSION_MAX).contains(&version) {
            return Err(Malformed::Value { field: "version", value: i64::from(version) });
        }
        let mut fields = Fields::new(frame);
        let correlation_id = fields.i32("correlation id")?;
        let topics_left = fields.count("number of topics")?;
        let partitions = PartitionAnswers { fields, version, topics_left, partitions_left: 0, topic: &[] };
        let mut walk = partitions;
        while walk.read()?.is_some() {}
        let throttle_time_ms = walk.fields.i32("throttle time")?;
        walk.fields.end()?;
        Ok(Self { correlation_id, throttle_time_ms, partitions })
    }

    pub fn partitions(&self) -> PartitionAnswers<'a> {
        self.partitions
    }
}

#[derive(Clone, Copy, Debug)]
pub struct PartitionAnswers<'a> {
    fields: Fields<'a>,
    version: i16,
    topics_left: u32,
    partitions_left: u32,
    topic: &'a [u8],
}

impl<'a> PartitionAnswers<'a> {
    fn read(&mut self) -> Result<Option<PartitionAnswer<'a>>, Malformed> {
        while self.partitions_left == 0 {
            let Some(topics_left) = self.topics_left.checked_sub(1) else { return Ok(None) };
            self.topics_left = topics_left;
            self.topic = self.fields.string("topic")?;
            self.partitions_left = self.fields.count("number of partitions")?;
        }
        self.partitions_left -= 1;
        let fields = &mut self.fields;
        let mut answer = PartitionAnswer {
            topic: self.topic,
            index: fields.i32("partition")?,
            error_code: fields.i16("error code")?,
            base_offset: fields.i64("base offset")?,
            log_append_time_ms: fields.i64("log append time")?,
            log_start_offset: -1,
            error_message: None,
        };
        if self.version >= 5 {
            answer.log_start_offset = fields.i64("log start offset")?;
        }
        if self.version >= 8 {
            for _ in 0..fields.count("number of record errors")? {
                fields.i32("record's index")?;
                fields.nullable_string("record's error message")?;
            }
            answer.error_message = fields.nullable_string("error message")?;
        }
        Ok(Some(answer))
    }
}

impl<'a> Iterator for PartitionAnswers<'a> {
    type Item = PartitionAnswer<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().ok().flatten()
    }
}

/// Writes an answer to Produce, size included, behind what `out` holds.
pub struct AnswerWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    version: i16,
}

impl<'a> AnswerWriter<'a> {
    /// `topics` of them are to follow, each with [`Self::topic`].
    pub fn begin(out: &'a mut Vec<u8>, version: i16, correlation_id: i32, topics: u32) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; SIZE_BYTES]);
        out.extend_from_slice(&correlation_id.to_be_bytes());
        out.extend_from_slice(&topics.to_be_bytes());
        Self { out, start, version }
    }

    /// `partitions` of them are to follow, each with [`Self::partition`].
    pub fn topic(&mut self, name: &[u8], partitions: u32) {
        self.out.extend_from_slice(&(name.len() as i16).to_be_bytes());
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(&partitions.to_be_bytes());
    }

    pub fn partition(&mut self, index: i32, error_code: i16, base_offset: i64) {
        self.out.extend_from_slice(&index.to_be_bytes());
        self.out.extend_from_slice(&error_code.to_be_bytes());
        self.out.extend_from_slice(&base_offset.to_be_bytes());
        // The log append time, -1 as the topic has the producer's timestamps.
        self.out.extend_from_slice(&(-1_i64).to_be_bytes());
        if self.version >= 5 {
            self.out.extend_from_slice(&0_i64.to_be_bytes());
        }
        if self.version >= 8 {
            // No error of single records, no message.
            self.out.extend_from_slice(&0_i32.to_be_bytes());
            self.out.extend_from_slice(&(-1_i16).to_be_bytes());
        }
    }

    pub fn end(self, throttle_time_ms: i32) {
        self.out.extend_from_slice(&throttle_time_ms.to_be_bytes());
        let size = (self.out.len() - self.start - SIZE_BYTES) as i32;
        self.out[self.start..self.start + SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
    }
}
