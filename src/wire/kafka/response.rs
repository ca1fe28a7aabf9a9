//! Frames of a connection, and answers to Produce: read as a client, written as a broker. No allocation.

use super::fields::{Fields, Malformed};
use super::{PRODUCE_VERSION_MAX, PRODUCE_VERSION_MIN};
use crate::base::words::Words;

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

/// What an answer says to the producer of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub correlation_id: i32,
    /// Error code and base offset; `None`: it says nothing about the partition.
    pub partition: Option<(i16, i64)>,
    pub throttle_time_ms: i32,
}

/// Reads answers to Produce while they arrive. What a broker says in words, about the batch or its records, is passed
/// over and need not be held, but for the first words about an error.
#[derive(Clone, Copy, Debug)]
pub struct AnswerSkim {
    state: SkimState,
    words: Words,
}

/// Where it is in an answer: kept as it was where more bytes have to come.
#[derive(Clone, Copy, Debug)]
struct SkimState {
    version: i16,
    /// The partition that is asked about.
    index: i32,
    frames: Frames,
    /// Bytes of the message that were not read; `None`: its size is due.
    left: Option<usize>,
    /// Bytes to pass over before what is due.
    text_bytes: usize,
    due: Due,
    topics: u32,
    partitions: u32,
    record_errors: u32,
    /// The next text of the partition is to be kept: it has an error, and there was no text yet.
    keeps_text: bool,
    told: Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Head,
    Topic,
    Partitions,
    Partition,
    RecordError,
    Message,
    Throttle,
}

impl AnswerSkim {
    /// For answers to requests of that version, of `bytes_max` at the most.
    pub fn new(version: i16, index: i32, bytes_max: usize) -> Self {
        Self { state: SkimState::new(version, index, Frames::new(bytes_max)), words: Words::default() }
    }

    /// Forgets what it has of an answer.
    pub fn restart(&mut self) {
        self.state = SkimState::new(self.state.version, self.state.index, self.state.frames);
    }

    /// What the broker said about the error of the partition, in the answer that came last with one: about the first
    /// record that it names, else about the batch. Brokers say so from version 8 on.
    pub fn words(&self) -> Words {
        self.words
    }

    /// Takes what it can from `bytes`, up to the end of an answer: how many, and the answer if that was its end. What
    /// is left goes before what comes next; it is never more than the fixed fields of a partition.
    pub fn step(&mut self, bytes: &[u8]) -> Result<(usize, Option<Told>), Malformed> {
        let mut at = 0;
        loop {
            let Some(left) = self.state.left else {
                let Some(size) = self.state.frames.size(&bytes[at..])? else { return Ok((at, None)) };
                self.state.left = Some(size);
                at += SIZE_BYTES;
                continue;
            };
            let seen = &bytes[at..bytes.len().min(at + left)];
            let (mut after, mut fields) = (self.state, Fields::new(seen));
            let is_end = match after.read(&mut fields, &mut self.words) {
                Err(Malformed::Short { .. }) if seen.len() < left => return Ok((at, None)),
                outcome => outcome?,
            };
            let used = seen.len() - fields.rest().len();
            (at, after.left) = (at + used, Some(left - used));
            self.state = after;
            if is_end && left > used {
                return Err(Malformed::Trailing { bytes: left - used });
            }
            if is_end {
                self.restart();
                return Ok((at, Some(after.told)));
            }
        }
    }
}

impl SkimState {
    fn new(version: i16, index: i32, frames: Frames) -> Self {
        Self {
            version,
            index,
            frames,
            left: None,
            text_bytes: 0,
            due: Due::Head,
            topics: 0,
            partitions: 0,
            record_errors: 0,
            keeps_text: false,
            told: Told::default(),
        }
    }

    /// Reads what is due; true: that was the last. What it cannot read whole adds nothing to `words`.
    fn read(&mut self, fields: &mut Fields<'_>, words: &mut Words) -> Result<bool, Malformed> {
        if self.text_bytes > 0 {
            let passed = self.text_bytes.min(fields.rest().len()).max(1);
            let text = fields.take("text", passed)?;
            self.text_bytes -= passed;
            if self.keeps_text {
                words.add(text);
                self.keeps_text = self.text_bytes > 0;
            }
            return Ok(false);
        }
        self.due = match self.due {
            Due::Head => {
                self.told.correlation_id = fields.i32("correlation id")?;
                self.topics = fields.count("number of topics")?;
                self.next_partition()
            }
            Due::Topic => {
                self.text_bytes = fields.string_length("topic")?;
                self.keeps_text = false;
                Due::Partitions
            }
            Due::Partitions => {
                self.partitions = fields.count("number of partitions")?;
                self.next_partition()
            }
            Due::Partition => self.partition(fields, words)?,
            Due::RecordError => {
                fields.i32("record's index")?;
                self.text_bytes = fields.nullable_string_length("record's error message")?.unwrap_or(0);
                self.next_record_error()
            }
            Due::Message => {
                self.text_bytes = fields.nullable_string_length("error message")?.unwrap_or(0);
                self.next_partition()
            }
            Due::Throttle => {
                self.told.throttle_time_ms = fields.i32("throttle time")?;
                return Ok(true);
            }
        };
        Ok(false)
    }

    /// Its fields of a fixed width.
    fn partition(&mut self, fields: &mut Fields<'_>, words: &mut Words) -> Result<Due, Malformed> {
        let (index, error_code) = (fields.i32("partition")?, fields.i16("error code")?);
        let base_offset = fields.i64("base offset")?;
        fields.i64("log append time")?;
        if self.version >= 5 {
            fields.i64("log start offset")?;
        }
        let has_words = self.version >= 8;
        self.record_errors = if has_words { fields.count("number of record errors")? } else { 0 };
        let is_asked_about = index == self.index && self.told.partition.is_none();
        self.keeps_text = is_asked_about && error_code != 0;
        if is_asked_about {
            self.told.partition = Some((error_code, base_offset));
        }
        if self.keeps_text {
            words.clear();
        }
        Ok(if has_words { self.next_record_error() } else { self.next_partition() })
    }

    fn next_record_error(&mut self) -> Due {
        if let Some(left) = self.record_errors.checked_sub(1) {
            self.record_errors = left;
            Due::RecordError
        } else {
            Due::Message
        }
    }

    fn next_partition(&mut self) -> Due {
        if let Some(left) = self.partitions.checked_sub(1) {
            self.partitions = left;
            Due::Partition
        } else if let Some(left) = self.topics.checked_sub(1) {
            self.topics = left;
            Due::Topic
        } else {
            Due::Throttle
        }
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
