//! Answers of brokers: bytes in, plain data out. Every length is held against the bytes that are there before
//! anything is allocated for it. <https://kafka.apache.org/protocol.html>

use super::error::{KafkaError, LOOKING_UP};
use crate::base::fatal::{Exit, Fatal};
use std::collections::BTreeMap;

type Parsed<T> = Result<T, String>;

/// A cursor over an answer's body.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn take(&mut self, length: usize) -> Parsed<&'a [u8]> {
        let (head, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or_else(|| format!("a field of {length} bytes, where {} are left", self.bytes.len()))?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk().ok_or("it ends too early")?;
        self.bytes = rest;
        Ok(*head)
    }

    fn i8(&mut self) -> Parsed<i8> {
        self.array().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Parsed<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Parsed<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Parsed<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// `None`: null.
    fn text_or_null(&mut self) -> Parsed<Option<&'a str>> {
        let Ok(length) = usize::try_from(self.i16()?) else { return Ok(None) };
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(Some).map_err(|_| "a text is not UTF-8".to_owned())
    }

    fn text(&mut self) -> Parsed<&'a str> {
        self.text_or_null()?.ok_or_else(|| "a text is null".to_owned())
    }

    /// Null is empty.
    fn blob(&mut self) -> Parsed<&'a [u8]> {
        match self.i32()? {
            -1 => Ok(&[]),
            length => self.take(usize::try_from(length).map_err(|_| format!("a length of {length}"))?),
        }
    }

    /// The length of an array whose elements have at least so many bytes each; null is empty.
    fn count(&mut self, least_bytes: usize) -> Parsed<usize> {
        let count = self.i32()?;
        if count == -1 {
            return Ok(0);
        }
        self.checked(i64::from(count), least_bytes)
    }

    fn checked(&self, count: i64, least_bytes: usize) -> Parsed<usize> {
        let room = self.bytes.len() / least_bytes.max(1);
        let fits = usize::try_from(count).ok().filter(|count| *count <= room);
        fits.ok_or_else(|| format!("an array of {count} elements, where {} bytes are left", self.bytes.len()))
    }

    fn list<T>(&mut self, least_bytes: usize, mut each: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let count = self.count(least_bytes)?;
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push(each(self)?);
        }
        Ok(all)
    }

    fn ids(&mut self) -> Parsed<Vec<i32>> {
        self.list(4, Self::i32)
    }

    /// Of the compact types; five bytes at most.
    fn uvarint(&mut self) -> Parsed<u32> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| "a number is too large".to_owned());
            }
        }
        Err("a number has no end".to_owned())
    }

    fn skip_tags(&mut self) -> Parsed<()> {
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let length = self.uvarint()? as usize;
            self.take(length)?;
        }
        Ok(())
    }
}

/// Which versions of which request a broker speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions(BTreeMap<i16, (i16, i16)>);

impl Versions {
    /// The newest version of `key` that lies in `ours` and that the broker speaks.
    pub fn pick(&self, key: i16, ours: (i16, i16)) -> Option<i16> {
        let (least, most) = self.0.get(&key)?;
        let newest = ours.1.min(*most);
        (newest >= ours.0.max(*least)).then_some(newest)
    }

    pub fn range(&self, key: i16) -> Option<(i16, i16)> {
        self.0.get(&key).copied()
    }
}

/// `ApiVersions` 0 or 3: the error code, and the versions.
pub fn api_versions(fields: Fields<'_>, version: i16) -> Parsed<(i16, Versions)> {
    let mut fields = fields;
    let error = fields.i16()?;
    let mut versions = Versions::default();
    // A broker that does not know version 3 answers in version 0.
    let compact = version >= 3 && error == 0;
    let count = match compact {
        true => {
            let count = i64::from(fields.uvarint()?) - 1;
            fields.checked(count.max(0), 7)?
        }
        false => fields.count(6)?,
    };
    for _ in 0..count {
        let (key, least, most) = (fields.i16()?, fields.i16()?, fields.i16()?);
        if compact {
            fields.skip_tags()?;
        }
        versions.0.insert(key, (least, most));
    }
    Ok((error, versions))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    pub id: i32,
    /// The broker's error code for this partition; 0: none.
    pub error: i16,
    /// -1: none.
    pub leader: i32,
    /// -1: unknown.
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

/// One topic, as a broker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    pub cluster_id: Option<String>,
    pub controller: i32,
    pub brokers: Vec<Broker>,
    /// The broker's error code for the topic; 0: none.
    pub error: i16,
    /// By id.
    pub partitions: Vec<PartitionView>,
}

impl TopicView {
    pub fn broker(&self, id: i32) -> Option<&Broker> {
        self.brokers.iter().find(|broker| broker.id == id)
    }

    fn partition(&self, id: i32) -> Option<&PartitionView> {
        let at = self.partitions.binary_search_by_key(&id, |view| view.id).ok()?;
        Some(&self.partitions[at])
    }

    pub fn leader(&self, partition: i32) -> Option<&Broker> {
        self.partition(partition).and_then(|view| self.broker(view.leader))
    }

    /// The error code for one partition, or for the whole topic; 0: none.
    pub fn error_of(&self, partition: i32) -> i16 {
        match self.error {
            0 => self.partition(partition).map_or(UNKNOWN_TOPIC, |view| view.error),
            error => error,
        }
    }

    /// The first error code of the topic and its partitions; 0: none, and all have leaders.
    pub fn first_error(&self) -> i16 {
        let of_partitions = self.partitions.iter().map(|view| match view.error {
            0 if self.broker(view.leader).is_none() => LEADER_NOT_AVAILABLE,
            error => error,
        });
        std::iter::once(self.error).chain(of_partitions).find(|error| *error != 0).unwrap_or(0)
    }
}

/// Whom to ask for a partition, or why nobody can be: a topic may be deleted, or its rights revoked, in mid-run.
pub fn leader_of<'a>(view: &'a TopicView, topic: &str, partition: i32) -> Result<&'a Broker, Fatal> {
    if let Some(leader) = view.leader(partition) {
        return Ok(leader);
    }
    match view.error_of(partition) {
        0 | LEADER_NOT_AVAILABLE => {
            let what = format!("{topic}/{partition} has no leader");
            Err(Fatal::new(Exit::Unreachable, what).mend("start the brokers that hold it"))
        }
        code => Err(KafkaError::broker(LOOKING_UP, code).fatal_of(&format!("{topic}/{partition}"))),
    }
}

pub const LEADER_NOT_AVAILABLE: i16 = 5;
pub const UNKNOWN_TOPIC: i16 = 3;

/// `Metadata` 4 to 8, for one topic.
pub fn metadata(fields: Fields<'_>, version: i16, topic: &str) -> Parsed<TopicView> {
    let mut fields = fields;
    let _throttle_ms = fields.i32()?;
    let brokers = fields.list(12, |fields| {
        let (id, host, port) = (fields.i32()?, fields.text()?.to_owned(), fields.i32()?);
        fields.text_or_null()?;
        let port = u16::try_from(port).ok().filter(|port| *port > 0);
        Ok(Broker { id, host, port: port.ok_or_else(|| format!("broker {id} has no port"))? })
    })?;
    let cluster_id = fields.text_or_null()?.map(str::to_owned);
    let controller = fields.i32()?;
    let mut view = TopicView { cluster_id, controller, brokers, error: UNKNOWN_TOPIC, partitions: Vec::new() };
    for _ in 0..fields.count(9)? {
        let error = fields.i16()?;
        let ours = fields.text()? == topic;
        fields.i8()?;
        let partitions = fields.list(18, |fields| partition_view(fields, version))?;
        if version >= 8 {
            fields.i32()?;
        }
        if ours {
            (view.error, view.partitions) = (error, partitions);
        }
    }
    view.partitions.sort_unstable_by_key(|partition| partition.id);
    Ok(view)
}

fn partition_view(fields: &mut Fields<'_>, version: i16) -> Parsed<PartitionView> {
    let (error, id, leader) = (fields.i16()?, fields.i32()?, fields.i32()?);
    let leader_epoch = if version >= 7 { fields.i32()? } else { -1 };
    let (replicas, in_sync) = (fields.ids()?, fields.ids()?);
    if version >= 5 {
        fields.ids()?;
    }
    Ok(PartitionView { id, error, leader, leader_epoch, replicas, in_sync })
}

/// An error code, and what the broker says about it.
pub type Verdict = (i16, Option<String>);

/// `CreateTopics` 2 to 4, of one topic.
pub fn create_topics(fields: Fields<'_>, topic: &str) -> Parsed<Verdict> {
    let mut fields = fields;
    let _throttle_ms = fields.i32()?;
    for _ in 0..fields.count(6)? {
        let (name, error, said) = (fields.text()?, fields.i16()?, fields.text_or_null()?);
        if name == topic {
            return Ok((error, said.map(str::to_owned)));
        }
    }
    Err(format!("it says nothing about topic '{topic}'"))
}

/// `DescribeConfigs` 1 to 3, of one resource.
pub fn describe_configs(fields: Fields<'_>, version: i16) -> Parsed<(Verdict, BTreeMap<String, Option<String>>)> {
    let mut fields = fields;
    let _throttle_ms = fields.i32()?;
    if fields.count(11)? == 0 {
        return Err("it says nothing about what was asked".to_owned());
    }
    let (error, said) = (fields.i16()?, fields.text_or_null()?.map(str::to_owned));
    fields.i8()?;
    fields.text()?;
    let mut settings = BTreeMap::new();
    for _ in 0..fields.count(11)? {
        let (name, value) = (fields.text()?.to_owned(), fields.text_or_null()?.map(str::to_owned));
        fields.take(3)?;
        for _ in 0..fields.count(5)? {
            fields.text()?;
            fields.text_or_null()?;
            fields.i8()?;
        }
        if version >= 3 {
            fields.i8()?;
            fields.text_or_null()?;
        }
        settings.insert(name, value);
    }
    Ok(((error, said), settings))
}

/// `InitProducerId` 0 to 1: the error code, producer id and epoch.
pub fn init_producer_id(fields: Fields<'_>) -> Parsed<(i16, i64, i16)> {
    let mut fields = fields;
    let _throttle_ms = fields.i32()?;
    Ok((fields.i16()?, fields.i64()?, fields.i16()?))
}

/// `SaslHandshake` 1: the error code, and the mechanisms that are enabled.
pub fn sasl_handshake(fields: Fields<'_>) -> Parsed<(i16, Vec<String>)> {
    let mut fields = fields;
    Ok((fields.i16()?, fields.list(2, |fields| fields.text().map(str::to_owned))?))
}

/// `SaslAuthenticate` 0 to 1: the verdict, the mechanism's bytes, and the session's lifetime in ms (0: no end).
pub fn sasl_authenticate(fields: Fields<'_>, version: i16) -> Parsed<(Verdict, &[u8], i64)> {
    let mut fields = fields;
    let verdict = (fields.i16()?, fields.text_or_null()?.map(str::to_owned));
    let bytes = fields.blob()?;
    let lifetime_ms = if version >= 1 { fields.i64()? } else { 0 };
    Ok((verdict, bytes, lifetime_ms))
}

/// `ListOffsets` 1 to 5, of one partition: the error code and the offset.
pub fn list_offsets(fields: Fields<'_>, version: i16, topic: &str, partition: i32) -> Parsed<(i16, i64)> {
    let mut fields = fields;
    if version >= 2 {
        fields.i32()?;
    }
    for _ in 0..fields.count(6)? {
        let ours = fields.text()? == topic;
        for _ in 0..fields.count(22)? {
            let (id, error, _timestamp, offset) = (fields.i32()?, fields.i16()?, fields.i64()?, fields.i64()?);
            if version >= 4 {
                fields.i32()?;
            }
            if ours && id == partition {
                return Ok((error, offset));
            }
        }
    }
    Err(format!("it says nothing about partition {partition}"))
}

/// Of an aborted transaction: producer id and first offset.
const ABORTED_BYTES: usize = 16;

/// What one `Fetch` brought of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchedPartition<'a> {
    /// The broker's error code; 0: none.
    pub error: i16,
    pub high_watermark: i64,
    /// The earliest offset that is still there; -1: not said.
    pub log_start_offset: i64,
    /// Whole record batches, and perhaps the beginning of one more.
    pub records: &'a [u8],
    aborted: &'a [u8],
}

impl FetchedPartition<'_> {
    /// The aborted transactions that reach into the records: producer id, and first offset of its records.
    pub fn aborted(&self) -> impl Iterator<Item = (i64, i64)> {
        let number = |bytes: [u8; 8]| i64::from_be_bytes(bytes);
        self.aborted.as_chunks::<8>().0.as_chunks::<2>().0.iter().map(move |[id, first]| (number(*id), number(*first)))
    }
}

/// `Fetch` 4 to 11, of one partition.
pub fn fetch<'a>(fields: Fields<'a>, version: i16, topic: &str, partition: i32) -> Parsed<FetchedPartition<'a>> {
    let mut fields = fields;
    let _throttle_ms = fields.i32()?;
    if version >= 7 {
        let error = fields.i16()?;
        fields.i32()?;
        if error != 0 {
            let (high_watermark, log_start_offset) = (-1, -1);
            return Ok(FetchedPartition { error, high_watermark, log_start_offset, records: &[], aborted: &[] });
        }
    }
    for _ in 0..fields.count(6)? {
        let ours = fields.text()? == topic;
        for _ in 0..fields.count(30)? {
            let (id, error, high_watermark, _stable) = (fields.i32()?, fields.i16()?, fields.i64()?, fields.i64()?);
            let log_start_offset = if version >= 5 { fields.i64()? } else { -1 };
            let aborted = fields.count(ABORTED_BYTES)?;
            let aborted = fields.take(aborted * ABORTED_BYTES)?;
            if version >= 11 {
                fields.i32()?;
            }
            let records = fields.blob()?;
            if ours && id == partition {
                return Ok(FetchedPartition { error, high_watermark, log_start_offset, records, aborted });
            }
        }
    }
    Err(format!("it says nothing about partition {partition}"))
}

#[cfg(test)]
mod tests;
