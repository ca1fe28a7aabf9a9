//! What real clients ask before and beside Produce, answered with `kafka-protocol`'s messages.

use super::asked::{self, NewTopic, OfTopic, Resource};
use super::broker::{BROKER_ID, Broker, NoTopic, Topic};
use crate::base::limits;
use crate::wire::kafka::errors::{
    INVALID_REPLICATION_FACTOR, INVALID_REQUEST, OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION,
    UNSUPPORTED_VERSION,
};
use crate::wire::kafka::fields::{Fields, Malformed};
use crate::wire::kafka::request::RequestHead;
use crate::wire::kafka::{PRODUCE_VERSION_MAX, PRODUCE_VERSION_MIN};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, CreateTopicsResponse, DescribeConfigsResponse, FetchResponse,
    FindCoordinatorResponse, InitProducerIdResponse, ListOffsetsResponse, MetadataResponse, ProducerId, TopicName,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Key, oldest and newest version of everything that is answered.
pub const APIS: [(ApiKey, i16, i16); 9] = [
    (ApiKey::Produce, PRODUCE_VERSION_MIN, PRODUCE_VERSION_MAX),
    (ApiKey::Fetch, 4, 11),
    (ApiKey::ListOffsets, 1, 5),
    (ApiKey::Metadata, 0, 12),
    (ApiKey::FindCoordinator, 0, 2),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 4),
    (ApiKey::InitProducerId, 0, 1),
    (ApiKey::DescribeConfigs, 1, 3),
];

/// `DescribeConfigs`: resource types, and a setting that nobody changed.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const DEFAULT_CONFIG: i8 = 5;
/// `ListOffsets` instead of a time.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// A consumer that waits for records is held so long at most: there will be none.
const FETCH_WAIT_MS_MAX: i32 = 500;

/// Why a connection ends instead of an answer.
#[derive(Debug)]
pub enum Refused {
    Malformed(Malformed),
    /// What the broker did not say that it speaks.
    Unspoken {
        api_key: i16,
        version: i16,
    },
    Topic {
        name: String,
        why: NoTopic,
    },
    /// An answer that cannot be written.
    Answer(String),
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::Unspoken { api_key, version } => {
                write!(f, "version {version} of request {api_key} is not spoken here")
            }
            Self::Topic { name, why } => write!(f, "topic '{name}': {}", why.what()),
            Self::Answer(why) => write!(f, "an answer could not be written: {why}"),
        }
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Answers a whole request (without its size) behind what `out` holds; the nanoseconds that the answer is to wait.
pub fn answer(frame: &[u8], broker: &Broker, local: SocketAddr, out: &mut Vec<u8>) -> Result<u64, Refused> {
    let head = RequestHead::parse(frame)?;
    let spoken = APIS.iter().find(|(key, ..)| *key as i16 == head.api_key);
    let Some((key, _, _)) = spoken.filter(|(_, least, most)| (*least..=*most).contains(&head.version)) else {
        if head.api_key == ApiKey::ApiVersions as i16 {
            // In a form that every client reads, so that it can try again.
            let answer = Answer { key: ApiKey::ApiVersions, version: 0, correlation_id: head.correlation_id, out };
            return answer.put(&api_versions(UNSUPPORTED_VERSION)).map(|()| 0);
        }
        return Err(Refused::Unspoken { api_key: head.api_key, version: head.version });
    };
    let (fields, version) = (Fields::new(&frame[head.body_at..]), head.version);
    let answer = Answer { key: *key, version, correlation_id: head.correlation_id, out };
    match key {
        ApiKey::ApiVersions => answer.put(&api_versions(0))?,
        ApiKey::Metadata => answer.put(&metadata(asked::metadata(fields, version)?, broker, local))?,
        ApiKey::InitProducerId => answer.put(&producer_id(asked::is_transactional(fields)?, broker))?,
        ApiKey::ListOffsets => answer.put(&list_offsets(asked::list_offsets(fields, version)?, version, broker))?,
        ApiKey::CreateTopics => {
            let (topics, make) = asked::create_topics(fields)?;
            let results = topics.iter().map(|topic| create(topic, make, broker)).collect();
            answer.put(&CreateTopicsResponse::default().with_topics(results))?;
        }
        ApiKey::DescribeConfigs => {
            let results = asked::describe_configs(fields)?.iter().map(|resource| describe(resource, broker)).collect();
            answer.put(&DescribeConfigsResponse::default().with_results(results))?;
        }
        ApiKey::Fetch => {
            let (wait_ms, topics) = asked::fetch(fields, version)?;
            let (response, waits) = fetch(&topics, broker);
            answer.put(&response)?;
            return Ok(if waits { wait_ms.clamp(0, FETCH_WAIT_MS_MAX) as u64 * 1_000_000 } else { 0 });
        }
        ApiKey::FindCoordinator => answer.put(&no_coordinator())?,
        _ => return Err(Refused::Unspoken { api_key: head.api_key, version }),
    }
    Ok(0)
}

struct Answer<'a> {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    out: &'a mut Vec<u8>,
}

impl Answer<'_> {
    fn put(self, message: &impl Encodable) -> Result<(), Refused> {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        self.out.extend_from_slice(&self.correlation_id.to_be_bytes());
        if self.key.response_header_version(self.version) > 0 {
            // No tags.
            self.out.push(0);
        }
        let encoded = message.encode(self.out, self.version);
        encoded.map_err(|why| {
            self.out.truncate(start);
            Refused::Answer(format!("{:?} {}: {why}", self.key, self.version))
        })?;
        let size = i32::try_from(self.out.len() - start - 4).map_err(|why| Refused::Answer(why.to_string()))?;
        self.out[start..start + 4].copy_from_slice(&size.to_be_bytes());
        Ok(())
    }
}

fn api_versions(code: i16) -> ApiVersionsResponse {
    let row = |(key, least, most): (ApiKey, i16, i16)| {
        ApiVersion::default().with_api_key(key as i16).with_min_version(least).with_max_version(most)
    };
    ApiVersionsResponse::default().with_error_code(code).with_api_keys(APIS.into_iter().map(row).collect())
}

fn metadata(names: Option<Vec<Option<String>>>, broker: &Broker, local: SocketAddr) -> MetadataResponse {
    let here = || (local.ip().to_canonical().to_string(), local.port());
    let (host, port) = broker.plan.advertise.clone().unwrap_or_else(here);
    let node = MetadataResponseBroker::default()
        .with_node_id(BrokerId(BROKER_ID))
        .with_host(StrBytes::from_string(host))
        .with_port(i32::from(port));
    let topics = match names {
        None => broker.all_topics().iter().map(|topic| described(topic)).collect(),
        Some(names) => {
            // Once each, so that a small request has no huge answer.
            let names: BTreeSet<Option<String>> = names.into_iter().collect();
            let one = |name: Option<String>| match name {
                None => MetadataResponseTopic::default().with_error_code(UNKNOWN_TOPIC_ID).with_name(None),
                Some(name) => broker.topic(&name).map_or_else(|why| refused(&name, why), |topic| described(&topic)),
            };
            names.into_iter().map(one).collect()
        }
    };
    MetadataResponse::default()
        .with_brokers(vec![node])
        .with_cluster_id(Some(StrBytes::from_static_str("engine-receive")))
        .with_controller_id(BrokerId(BROKER_ID))
        .with_topics(topics)
}

fn refused(name: &str, why: NoTopic) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_error_code(why.code()).with_name(Some(topic_name(name)))
}

fn described(topic: &Topic) -> MetadataResponseTopic {
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(BROKER_ID))
            .with_leader_epoch(0)
            .with_replica_nodes(vec![BrokerId(BROKER_ID)])
            .with_isr_nodes(vec![BrokerId(BROKER_ID)])
    };
    let partitions = (0..topic.partitions() as i32).map(partition).collect();
    MetadataResponseTopic::default().with_name(Some(topic_name(&topic.name))).with_partitions(partitions)
}

fn producer_id(transactional: bool, broker: &Broker) -> InitProducerIdResponse {
    if transactional {
        let none = InitProducerIdResponse::default().with_error_code(INVALID_REQUEST);
        return none.with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
    }
    InitProducerIdResponse::default().with_producer_id(ProducerId(broker.next_producer_id())).with_producer_epoch(0)
}

fn no_coordinator() -> FindCoordinatorResponse {
    FindCoordinatorResponse::default()
        .with_error_code(INVALID_REQUEST)
        .with_error_message(Some(StrBytes::from_static_str("this broker has no groups and no transactions")))
        .with_node_id(BrokerId(-1))
        .with_port(-1)
}

/// Nothing is kept: a partition begins where it ends.
fn list_offsets(topics: Vec<OfTopic<i64>>, version: i16, broker: &Broker) -> ListOffsetsResponse {
    let one = |of: OfTopic<i64>| {
        let topic = broker.topic(&of.topic);
        let partition = |(index, time): (i32, i64)| {
            let row = ListOffsetsPartitionResponse::default().with_partition_index(index).with_timestamp(-1);
            let next = topic.as_ref().ok().and_then(|topic| topic.partition(index)).map(|partition| partition.next());
            match next {
                None => row.with_error_code(UNKNOWN_TOPIC_OR_PARTITION).with_offset(-1),
                Some(next) if matches!(time, LATEST | EARLIEST) => {
                    row.with_offset(next).with_leader_epoch(if version >= 4 { 0 } else { -1 })
                }
                Some(_) => row.with_offset(-1),
            }
        };
        let partitions = of.partitions.into_iter().map(partition).collect();
        ListOffsetsTopicResponse::default().with_name(topic_name(&of.topic)).with_partitions(partitions)
    };
    ListOffsetsResponse::default().with_topics(topics.into_iter().map(one).collect())
}

/// No records; whether that is for want of new ones.
fn fetch(topics: &[OfTopic<i64>], broker: &Broker) -> (FetchResponse, bool) {
    let mut waits = true;
    let responses = topics.iter().map(|of| {
        let topic = broker.topic(&of.topic);
        let partitions = of.partitions.iter().map(|(index, offset)| {
            let next = topic.as_ref().ok().and_then(|topic| topic.partition(*index)).map(|partition| partition.next());
            let code = match next {
                None => UNKNOWN_TOPIC_OR_PARTITION,
                Some(next) if next != *offset => OFFSET_OUT_OF_RANGE,
                Some(_) => 0,
            };
            waits &= code == 0;
            let end = next.unwrap_or(-1);
            PartitionData::default()
                .with_partition_index(*index)
                .with_error_code(code)
                .with_high_watermark(end)
                .with_last_stable_offset(end)
                .with_log_start_offset(end)
                .with_aborted_transactions(None)
                .with_records(Some(Default::default()))
        });
        let partitions = partitions.collect();
        FetchableTopicResponse::default().with_topic(topic_name(&of.topic)).with_partitions(partitions)
    });
    let responses = responses.collect();
    (FetchResponse::default().with_responses(responses), waits)
}

fn create(topic: &NewTopic, make: bool, broker: &Broker) -> CreatableTopicResult {
    let row = CreatableTopicResult::default().with_name(topic_name(&topic.name));
    if !matches!(topic.replicas, -1 | 1) {
        let what = "there is one broker: a replication factor of 1, or -1";
        return row.with_error_code(INVALID_REPLICATION_FACTOR).with_error_message(Some(text(what)));
    }
    let partitions = match topic.partitions {
        -1 => broker.plan.topic_partitions,
        count => u32::try_from(count).unwrap_or(0),
    };
    let made = match make {
        true => broker.create(&topic.name, partitions).map(drop),
        false => broker.may_create(&topic.name, partitions),
    };
    match made {
        Ok(()) => row,
        Err(why) => row.with_error_code(why.code()).with_error_message(Some(text(&why.what()))),
    }
}

fn describe(resource: &Resource, broker: &Broker) -> DescribeConfigsResult {
    let row = DescribeConfigsResult::default().with_resource_type(resource.kind);
    let row = row.with_resource_name(text(&resource.name));
    let bytes = limits::KAFKA_BATCH_BYTES_MAX.to_string();
    let partitions = broker.plan.topic_partitions.to_string();
    let request = limits::RECEIVE_PRODUCE_BYTES_MAX.to_string();
    let settings: &[(&str, &str)] = match resource.kind {
        TOPIC => &[
            ("max.message.bytes", &bytes),
            ("min.insync.replicas", "1"),
            ("cleanup.policy", "delete"),
            ("compression.type", "producer"),
            ("message.timestamp.type", "CreateTime"),
            ("retention.ms", "0"),
        ],
        BROKER => &[
            ("message.max.bytes", &bytes),
            ("socket.request.max.bytes", &request),
            ("min.insync.replicas", "1"),
            ("default.replication.factor", "1"),
            ("num.partitions", &partitions),
            ("auto.create.topics.enable", "true"),
        ],
        _ => &[],
    };
    let wanted = |name: &str| resource.keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key == name));
    let configs = settings.iter().filter(|(name, _)| wanted(name)).map(|(name, value)| {
        let row = DescribeConfigsResourceResult::default().with_name(text(name)).with_value(Some(text(value)));
        row.with_read_only(true).with_config_source(DEFAULT_CONFIG)
    });
    row.with_configs(configs.collect())
}

#[cfg(test)]
mod tests;
