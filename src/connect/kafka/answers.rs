//! Answers of brokers: bytes in, plain data out. Every length is held against the bytes that are there before
//! anything is allocated for it. <https://kafka.apache.org/protocol.html>

use super::error::{KafkaError, LOOKING_UP};
use crate::base::fatal::{Exit, Fatal};
use crate::wire::kafka::errors::{LEADER_NOT_AVAILABLE, UNKNOWN_TOPIC_OR_PARTITION};
use crate::wire::kafka::fields::{Fields, Malformed};
use std::collections::BTreeMap;

type Parsed<T> = Result<T, String>;
type Read<T> = Result<T, Malformed>;

fn list<'a, T>(
    fields: &mut Fields<'a>,
    field: &'static str,
    bytes_min: usize,
    mut each: impl FnMut(&mut Fields<'a>) -> Read<T>,
) -> Read<Vec<T>> {
    let count = fields.elements(field, bytes_min)?;
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        all.push(each(fields)?);
    }
    Ok(all)
}

fn ids(fields: &mut Fields<'_>) -> Read<Vec<i32>> {
    list(fields, "number of replicas", 4, |fields| fields.i32("replica"))
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
    let error = fields.i16("error code")?;
    let mut versions = Versions::default();
    // A broker that does not know version 3 answers in version 0.
    let compact = version >= 3 && error == 0;
    let field = "number of requests";
    let count = match compact {
        true => {
            let count = fields.unsigned_varint(field)?.saturating_sub(1);
            fields.fitting(field, count, 7)?
        }
        false => fields.elements(field, 6)?,
    };
    for _ in 0..count {
        let (key, least, most) = (fields.i16("request")?, fields.i16("version")?, fields.i16("version")?);
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
            0 => self.partition(partition).map_or(UNKNOWN_TOPIC_OR_PARTITION, |view| view.error),
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

/// `Metadata` 4 to 8, for one topic.
pub fn metadata(fields: Fields<'_>, version: i16, topic: &str) -> Parsed<TopicView> {
    let mut fields = fields;
    let _throttle_ms = fields.i32("throttle time")?;
    let brokers = list(&mut fields, "number of brokers", 12, broker)?;
    let cluster_id = fields.nullable_text("cluster id")?.map(str::to_owned);
    let controller = fields.i32("controller")?;
    let error = UNKNOWN_TOPIC_OR_PARTITION;
    let mut view = TopicView { cluster_id, controller, brokers, error, partitions: Vec::new() };
    for _ in 0..fields.elements("number of topics", 9)? {
        let error = fields.i16("error code")?;
        let ours = fields.text("topic")? == topic;
        fields.i8("internal")?;
        let one = |fields: &mut Fields<'_>| partition_view(fields, version);
        let partitions = list(&mut fields, "number of partitions", 18, one)?;
        if version >= 8 {
            fields.i32("authorized operations")?;
        }
        if ours {
            (view.error, view.partitions) = (error, partitions);
        }
    }
    view.partitions.sort_unstable_by_key(|partition| partition.id);
    Ok(view)
}

fn broker(fields: &mut Fields<'_>) -> Read<Broker> {
    let (id, host, value) = (fields.i32("broker")?, fields.text("host")?.to_owned(), fields.i32("port")?);
    fields.nullable_text("rack")?;
    let port = u16::try_from(value).ok().filter(|port| *port > 0);
    let port = port.ok_or(Malformed::Value { field: "port of a broker", value: i64::from(value) })?;
    Ok(Broker { id, host, port })
}

fn partition_view(fields: &mut Fields<'_>, version: i16) -> Read<PartitionView> {
    let (error, id, leader) = (fields.i16("error code")?, fields.i32("partition")?, fields.i32("leader")?);
    let leader_epoch = if version >= 7 { fields.i32("leader epoch")? } else { -1 };
    let (replicas, in_sync) = (ids(fields)?, ids(fields)?);
    if version >= 5 {
        ids(fields)?;
    }
    Ok(PartitionView { id, error, leader, leader_epoch, replicas, in_sync })
}

/// An error code, and what the broker says about it.
pub type Verdict = (i16, Option<String>);

/// `CreateTopics` 2 to 4, of one topic.
pub fn create_topics(fields: Fields<'_>, topic: &str) -> Parsed<Verdict> {
    let mut fields = fields;
    let _throttle_ms = fields.i32("throttle time")?;
    for _ in 0..fields.elements("number of topics", 6)? {
        let name = fields.text("topic")?;
        let (error, said) = (fields.i16("error code")?, fields.nullable_text("error message")?);
        if name == topic {
            return Ok((error, said.map(str::to_owned)));
        }
    }
    Err(format!("it says nothing about topic '{topic}'"))
}

/// `DescribeConfigs` 1 to 3, of one resource.
pub fn describe_configs(fields: Fields<'_>, version: i16) -> Parsed<(Verdict, BTreeMap<String, Option<String>>)> {
    let mut fields = fields;
    let _throttle_ms = fields.i32("throttle time")?;
    if fields.elements("number of resources", 11)? == 0 {
        return Err("it says nothing about what was asked".to_owned());
    }
    let (error, said) = (fields.i16("error code")?, fields.nullable_text("error message")?.map(str::to_owned));
    fields.i8("resource type")?;
    fields.text("resource")?;
    let mut settings = BTreeMap::new();
    for _ in 0..fields.elements("number of settings", 11)? {
        let name = fields.text("setting")?.to_owned();
        let value = fields.nullable_text("value of a setting")?.map(str::to_owned);
        fields.take("marks of a setting", 3)?;
        for _ in 0..fields.elements("number of synonyms", 5)? {
            fields.text("synonym")?;
            fields.nullable_text("value of a synonym")?;
            fields.i8("source of a synonym")?;
        }
        if version >= 3 {
            fields.i8("type of a setting")?;
            fields.nullable_text("documentation")?;
        }
        settings.insert(name, value);
    }
    Ok(((error, said), settings))
}

/// `InitProducerId` 0 to 1: the error code, producer id and epoch.
pub fn init_producer_id(fields: Fields<'_>) -> Parsed<(i16, i64, i16)> {
    let mut fields = fields;
    let _throttle_ms = fields.i32("throttle time")?;
    Ok((fields.i16("error code")?, fields.i64("producer id")?, fields.i16("epoch")?))
}

/// `SaslHandshake` 1: the error code, and the mechanisms that are enabled.
pub fn sasl_handshake(fields: Fields<'_>) -> Parsed<(i16, Vec<String>)> {
    let mut fields = fields;
    let error = fields.i16("error code")?;
    let one = |fields: &mut Fields<'_>| fields.text("mechanism").map(str::to_owned);
    Ok((error, list(&mut fields, "number of mechanisms", 2, one)?))
}

/// `SaslAuthenticate` 0 to 1: the verdict, the mechanism's bytes, and the session's lifetime in ms (0: no end).
pub fn sasl_authenticate(fields: Fields<'_>, version: i16) -> Parsed<(Verdict, &[u8], i64)> {
    let mut fields = fields;
    let verdict = (fields.i16("error code")?, fields.nullable_text("error message")?.map(str::to_owned));
    let bytes = fields.nullable_bytes("authentication")?;
    let lifetime_ms = if version >= 1 { fields.i64("lifetime")? } else { 0 };
    Ok((verdict, bytes, lifetime_ms))
}

/// `ListOffsets` 1 to 5, of one partition: the error code and the offset.
pub fn list_offsets(fields: Fields<'_>, version: i16, topic: &str, partition: i32) -> Parsed<(i16, i64)> {
    let mut fields = fields;
    if version >= 2 {
        fields.i32("throttle time")?;
    }
    for _ in 0..fields.elements("number of topics", 6)? {
        let ours = fields.text("topic")? == topic;
        for _ in 0..fields.elements("number of partitions", 22)? {
            let (id, error) = (fields.i32("partition")?, fields.i16("error code")?);
            let (_timestamp, offset) = (fields.i64("timestamp")?, fields.i64("offset")?);
            if version >= 4 {
                fields.i32("leader epoch")?;
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
    /// So long the broker reads nothing more on this connection (KIP-219).
    pub silence_ms: u32,
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

/// From this version of `Fetch` on a broker that throttles answers at once; before, it held back an answer with records.
const FETCH_ANSWERED_AT_ONCE_SINCE: i16 = 8;

/// `Fetch` 4 to 11, of one partition. A broker of Kafka 2.0 or newer that throttles says nothing about any partition
/// (`FetchContext.getThrottledResponse`): that is an answer without records, and without a high watermark.
pub fn fetch<'a>(fields: Fields<'a>, version: i16, topic: &str, partition: i32) -> Parsed<FetchedPartition<'a>> {
    let mut fields = fields;
    let throttle_ms = fields.i32("throttle time")?.max(0).cast_unsigned();
    let empty = |error| FetchedPartition {
        error,
        high_watermark: -1,
        log_start_offset: -1,
        silence_ms: throttle_ms,
        records: &[],
        aborted: &[],
    };
    if version >= 7 {
        let error = fields.i16("error code")?;
        fields.i32("session")?;
        if error != 0 {
            return Ok(empty(error));
        }
    }
    let topics = fields.elements("number of topics", 6)?;
    if topics == 0 && throttle_ms > 0 {
        return Ok(empty(0));
    }
    let silence_ms = if version >= FETCH_ANSWERED_AT_ONCE_SINCE { throttle_ms } else { 0 };
    for _ in 0..topics {
        let ours = fields.text("topic")? == topic;
        for _ in 0..fields.elements("number of partitions", 30)? {
            let (id, error) = (fields.i32("partition")?, fields.i16("error code")?);
            let (high_watermark, _stable) = (fields.i64("high watermark")?, fields.i64("last stable offset")?);
            let log_start_offset = if version >= 5 { fields.i64("log start offset")? } else { -1 };
            let aborted = fields.elements("number of aborted transactions", ABORTED_BYTES)?;
            let aborted = fields.take("aborted transactions", aborted * ABORTED_BYTES)?;
            if version >= 11 {
                fields.i32("preferred replica")?;
            }
            let records = fields.nullable_bytes("records")?;
            if ours && id == partition {
                return Ok(FetchedPartition { error, high_watermark, log_start_offset, silence_ms, records, aborted });
            }
        }
    }
    Err(format!("it says nothing about partition {partition}"))
}

#[cfg(test)]
mod tests;
