//! Requests as a broker reads them: the header of any, and Produce (versions 3 to 8) piece by piece, so that records
//! need not be held.

use super::fields::{Fields, Malformed};
use super::{PRODUCE_API_KEY, PRODUCE_VERSION_MAX, PRODUCE_VERSION_MIN};

/// The header of a request without its size. Versions 1 and 2 begin alike; the tags of version 2 are in the body here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    pub api_key: i16,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<&'a [u8]>,
    /// Where the body starts.
    pub body_at: usize,
}

impl<'a> RequestHead<'a> {
    /// Reads the start of a request; a `Short` one may only lack bytes that are still to come.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(bytes);
        let api_key = fields.i16("API key")?;
        let version = fields.i16("version")?;
        let correlation_id = fields.i32("correlation id")?;
        let client_id = fields.nullable_string("client id")?;
        Ok(Self { api_key, version, correlation_id, client_id, body_at: bytes.len() - fields.rest().len() })
    }

    /// Whether [`ProduceSkim`] can read what follows.
    pub fn is_produce(&self) -> bool {
        self.api_key == PRODUCE_API_KEY && (PRODUCE_VERSION_MIN..=PRODUCE_VERSION_MAX).contains(&self.version)
    }
}

/// A piece of a Produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The next piece is not all there: come back with the same bytes and more.
    More,
    Head {
        acks: i16,
        timeout_ms: i32,
        topics: u32,
    },
    Topic {
        name: &'a [u8],
        partitions: u32,
    },
    /// Its records are the next bytes; skip them before the next step.
    Partition {
        index: i32,
        record_bytes: usize,
    },
    End,
}

/// Walks a Produce request while it arrives.
#[derive(Clone, Copy, Debug)]
pub struct ProduceSkim {
    /// Bytes of the request that were not walked.
    left: usize,
    head_is_due: bool,
    topics: u32,
    partitions: u32,
}

impl ProduceSkim {
    /// `body_bytes`: the request's size without its header.
    pub fn new(body_bytes: usize) -> Self {
        Self { left: body_bytes, head_is_due: true, topics: 0, partitions: 0 }
    }

    /// The piece at the start of `bytes` and its length.
    pub fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<(Piece<'a>, usize), Malformed> {
        let seen = &bytes[..bytes.len().min(self.left)];
        let mut after = *self;
        let mut fields = Fields::new(seen);
        let piece = match after.read(&mut fields) {
            Err(Malformed::Short { .. }) if seen.len() < self.left => return Ok((Piece::More, 0)),
            outcome => outcome?,
        };
        let used = seen.len() - fields.rest().len();
        after.left -= used;
        if let Piece::Partition { record_bytes, .. } = piece {
            let left = after.left.checked_sub(record_bytes);
            let error = Malformed::Short { field: "records", wanted: record_bytes, left: after.left };
            after.left = left.ok_or(error)?;
        }
        *self = after;
        Ok((piece, used))
    }

    fn read<'a>(&mut self, fields: &mut Fields<'a>) -> Result<Piece<'a>, Malformed> {
        if self.head_is_due {
            fields.nullable_string("transactional id")?;
            let (acks, timeout_ms) = (fields.i16("acks")?, fields.i32("timeout")?);
            self.head_is_due = false;
            self.topics = fields.count("number of topics")?;
            return Ok(Piece::Head { acks, timeout_ms, topics: self.topics });
        }
        if let Some(partitions) = self.partitions.checked_sub(1) {
            self.partitions = partitions;
            let (index, record_bytes) = (fields.i32("partition")?, fields.nullable_length("length of records")?);
            return Ok(Piece::Partition { index, record_bytes });
        }
        if let Some(topics) = self.topics.checked_sub(1) {
            self.topics = topics;
            let name = fields.string("topic")?;
            self.partitions = fields.count("number of partitions")?;
            return Ok(Piece::Topic { name, partitions: self.partitions });
        }
        if self.left > 0 {
            return Err(Malformed::Trailing { bytes: self.left });
        }
        Ok(Piece::End)
    }
}

/// A whole Produce request.
#[derive(Clone, Copy, Debug)]
pub struct ProduceRequest<'a> {
    pub acks: i16,
    pub timeout_ms: i32,
    partitions: Partitions<'a>,
}

impl<'a> ProduceRequest<'a> {
    /// Reads the body of a request whose header [`RequestHead::is_produce`].
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut skim = ProduceSkim::new(body.len());
        let (Piece::Head { acks, timeout_ms, .. }, used) = skim.step(body)? else {
            unreachable!("a whole body has its head first");
        };
        let partitions = Partitions { skim, left: &body[used..], topic: &[] };
        let mut walk = partitions;
        while walk.read()?.is_some() {}
        Ok(Self { acks, timeout_ms, partitions })
    }

    /// Topic, partition and records, one after another.
    pub fn partitions(&self) -> Partitions<'a> {
        self.partitions
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Partitions<'a> {
    skim: ProduceSkim,
    left: &'a [u8],
    topic: &'a [u8],
}

/// The records for one partition: batches, see [`super::records::Batches`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionRecords<'a> {
    pub topic: &'a [u8],
    pub index: i32,
    pub records: &'a [u8],
}

impl<'a> Partitions<'a> {
    fn read(&mut self) -> Result<Option<PartitionRecords<'a>>, Malformed> {
        loop {
            let (piece, used) = self.skim.step(self.left)?;
            self.left = &self.left[used..];
            match piece {
                Piece::Topic { name, .. } => self.topic = name,
                Piece::Partition { index, record_bytes } => {
                    let (records, left) = self.left.split_at(record_bytes);
                    self.left = left;
                    return Ok(Some(PartitionRecords { topic: self.topic, index, records }));
                }
                Piece::End | Piece::More | Piece::Head { .. } => return Ok(None),
            }
        }
    }
}

impl<'a> Iterator for Partitions<'a> {
    type Item = PartitionRecords<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().ok().flatten()
    }
}
