//! The requests that we make, one method each.

use super::answers::{self, Broker, FetchedPartition, TopicView};
use super::error::{CREATING, KafkaError, LOOKING_UP};
use super::session::{Session, Stream};
use crate::base::limits;
use crate::wire::kafka::PRODUCE_API_KEY;
use crate::wire::kafka::errors::{
    LEADER_NOT_AVAILABLE, TOPIC_ALREADY_EXISTS, UNKNOWN_TOPIC_OR_PARTITION, broker_error,
};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DescribeConfigsRequest, FetchRequest, InitProducerIdRequest, ListOffsetsRequest,
    MetadataRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A topic that was just created is known everywhere after this.
const UNKNOWN_PATIENCE: Duration = Duration::from_secs(2);
/// Resource types of `DescribeConfigs`.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Settings of a broker for topics that have none of their own.
const DEFAULT_REPLICAS: &str = "default.replication.factor";
const DEFAULT_MESSAGE_BYTES_MAX: &str = "message.max.bytes";
/// From this version of `CreateTopics` on, -1 replicas are as many as the brokers give by default.
const REPLICAS_BY_DEFAULT_SINCE: i16 = 4;
/// The versions of Produce of brokers that want no more replicas in sync than a partition has: those from Kafka 3.7 on.
const REPLICAS_ENOUGH_SINCE: (i16, i16) = (10, i16::MAX);
/// Neither a replica nor a broker: a client.
const CLIENT: BrokerId = BrokerId(-1);
/// An isolation level: what is not decided, or was taken back, is not read.
const READ_COMMITTED: i8 = 1;
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Which end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Earliest,
    /// The offset that the next record will get.
    Latest,
    /// The first offset of a transaction that is still open; without any, the same as `Latest`.
    Stable,
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic<'a> {
    pub name: &'a str,
    /// -1: the brokers' default.
    pub partitions: i32,
    /// -1: the brokers' default.
    pub replicas: i16,
    pub settings: &'a [(&'a str, &'a str)],
}

/// The settings of a topic that bound what may be produced to it; `None`: the broker does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicLimits {
    /// Of one batch, compressed.
    pub max_message_bytes: Option<u64>,
    pub min_in_sync: Option<u32>,
    /// No more than a partition has replicas have to be in sync, whatever `min_in_sync` is.
    pub replicas_are_enough: bool,
    /// It takes no message without a key. Not where the broker does not say.
    pub is_compacted: bool,
}

fn name(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(topic: &str) -> TopicName {
    TopicName(name(topic))
}

/// Whether the broker said yes.
fn verdict(doing: &'static str, (code, said): answers::Verdict) -> Result<(), KafkaError> {
    let said = said.filter(|said| !said.is_empty());
    if code == 0 { Ok(()) } else { Err(KafkaError::Broker { doing, code, said }) }
}

impl<S: Stream> Session<S> {
    /// Who leads the partitions of `topic`. That the topic is unknown, or has no leaders, is said in the view.
    /// The topic is never created by asking.
    pub fn metadata(&mut self, topic: &str) -> Result<TopicView, KafkaError> {
        let doing = "asking for the leaders of the topic";
        let version = self.pick::<MetadataRequest>(doing, (4, 8))?;
        let wanted = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(false);
        self.call(doing, version, &request, |fields| answers::metadata(fields, version, topic))
    }

    /// All brokers of the cluster. No topic is named: some make one of whatever name they are asked about.
    pub fn brokers(&mut self) -> Result<Vec<Broker>, KafkaError> {
        let doing = "asking for the brokers of the cluster";
        let version = self.pick::<MetadataRequest>(doing, (4, 8))?;
        let request = MetadataRequest::default().with_topics(Some(Vec::new())).with_allow_auto_topic_creation(false);
        self.call(doing, version, &request, |fields| answers::metadata(fields, version, "")).map(|view| view.brokers)
    }

    /// The view of a topic once all of its partitions (`least` or more) have leaders; what is wrong after `patience`,
    /// or sooner if the topic stays unknown.
    pub fn await_topic(&mut self, topic: &str, least: usize, patience: Duration) -> Result<TopicView, KafkaError> {
        let began = Instant::now();
        retrying(patience, || {
            let view = self.metadata(topic)?;
            let few = view.partitions.len() < least;
            match view.first_error() {
                UNKNOWN_TOPIC_OR_PARTITION if began.elapsed() > UNKNOWN_PATIENCE => Err(KafkaError::Absent {
                    what: format!("there is no topic '{topic}': {}", broker_error(UNKNOWN_TOPIC_OR_PARTITION)),
                }),
                0 if few => Err(KafkaError::broker("waiting for the partitions of the topic", LEADER_NOT_AVAILABLE)),
                0 => Ok(view),
                code => Err(KafkaError::broker(LOOKING_UP, code)),
            }
        })
    }

    /// The broker that makes topics, where one is known.
    pub fn controller(&mut self) -> Result<Option<Broker>, KafkaError> {
        let doing = "asking for the controller";
        let version = self.pick::<MetadataRequest>(doing, (4, 8))?;
        let request = MetadataRequest::default().with_topics(Some(Vec::new())).with_allow_auto_topic_creation(false);
        let view = self.call(doing, version, &request, |fields| answers::metadata(fields, version, ""))?;
        Ok(view.broker(view.controller).cloned())
    }

    /// Creates a topic; false: it is there already. Its leaders come later: see [`Self::await_topic`]. `own_id`: of the
    /// broker that is asked.
    pub fn create_topic(&mut self, topic: &NewTopic<'_>, own_id: Option<i32>) -> Result<bool, KafkaError> {
        let doing = CREATING;
        let version = self.pick::<CreateTopicsRequest>(doing, (2, 4))?;
        let replicas = match topic.replicas {
            -1 if version < REPLICAS_BY_DEFAULT_SINCE => self.default_replicas(own_id),
            replicas => replicas,
        };
        let settings = topic
            .settings
            .iter()
            .map(|(key, value)| CreatableTopicConfig::default().with_name(name(key)).with_value(Some(name(value))));
        let wanted = CreatableTopic::default()
            .with_name(topic_name(topic.name))
            .with_num_partitions(topic.partitions)
            .with_replication_factor(replicas)
            .with_configs(settings.collect());
        let timeout_ms = i32::try_from(self.timeout().as_millis()).unwrap_or(i32::MAX);
        let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(timeout_ms);
        match self.call(doing, version, &request, |fields| answers::create_topics(fields, topic.name))? {
            (TOPIC_ALREADY_EXISTS, _) => Ok(false),
            other => verdict(doing, other).map(|()| true),
        }
    }

    /// Settings in force for a topic; `None`: no value, or a secret one.
    pub fn describe_topic(
        &mut self,
        topic: &str,
        keys: &[&str],
    ) -> Result<BTreeMap<String, Option<String>>, KafkaError> {
        self.describe("asking for the settings of the topic", (TOPIC, topic), keys)
    }

    /// How many replicas a topic gets by default: 1, as Kafka has it, where the broker does not say.
    fn default_replicas(&mut self, broker_id: Option<i32>) -> i16 {
        let told = broker_id.and_then(|id| self.describe_broker(id, DEFAULT_REPLICAS).ok().flatten());
        told.and_then(|count| count.parse().ok()).unwrap_or(1)
    }

    /// The most bytes of one batch, compressed, for topics that do not say it themselves; `None`: the broker does not
    /// say it either. `own_id`: of the broker that is asked.
    pub fn default_message_bytes_max(&mut self, own_id: i32) -> Result<Option<u64>, KafkaError> {
        let told = self.describe_broker(own_id, DEFAULT_MESSAGE_BYTES_MAX)?;
        Ok(told.and_then(|bytes| bytes.parse().ok()))
    }

    /// A setting in force on the broker that is asked, which has that id: it answers for no other.
    fn describe_broker(&mut self, own_id: i32, key: &str) -> Result<Option<String>, KafkaError> {
        let doing = "asking for the settings of the broker";
        Ok(self.describe(doing, (BROKER, &own_id.to_string()), &[key])?.remove(key).flatten())
    }

    fn describe(
        &mut self,
        doing: &'static str,
        (resource_type, resource): (i8, &str),
        keys: &[&str],
    ) -> Result<BTreeMap<String, Option<String>>, KafkaError> {
        let version = self.pick::<DescribeConfigsRequest>(doing, (1, 3))?;
        let wanted = DescribeConfigsResource::default()
            .with_resource_type(resource_type)
            .with_resource_name(name(resource))
            .with_configuration_keys(Some(keys.iter().map(|key| name(key)).collect()));
        let request = DescribeConfigsRequest::default().with_resources(vec![wanted]);
        let (said, settings) =
            self.call(doing, version, &request, |fields| answers::describe_configs(fields, version))?;
        verdict(doing, said)?;
        Ok(settings)
    }

    /// What bounds the batches and messages for this topic.
    pub fn topic_limits(&mut self, topic: &str) -> Result<TopicLimits, KafkaError> {
        let keys = ["max.message.bytes", "min.insync.replicas", "cleanup.policy"];
        let settings = self.describe_topic(topic, &keys)?;
        let number = |key: &str| settings.get(key)?.as_ref()?.parse::<u64>().ok();
        let policies = settings.get("cleanup.policy").and_then(Option::as_deref).unwrap_or_default();
        Ok(TopicLimits {
            max_message_bytes: number("max.message.bytes"),
            min_in_sync: number("min.insync.replicas").and_then(|number| u32::try_from(number).ok()),
            replicas_are_enough: self.versions().pick(PRODUCE_API_KEY, REPLICAS_ENOUGH_SINCE).is_some(),
            is_compacted: policies.split(',').any(|policy| policy.trim() == "compact"),
        })
    }

    /// A producer id and its epoch, for idempotence without transactions.
    pub fn init_producer_id(&mut self) -> Result<(i64, i16), KafkaError> {
        let doing = "asking for a producer id";
        let version = self.pick::<InitProducerIdRequest>(doing, (0, 1))?;
        let request =
            InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(i32::MAX);
        let patience = self.timeout();
        // A cluster that has just started needs a moment for its first ids.
        retrying(patience, || {
            let (code, id, epoch) = self.call(doing, version, &request, answers::init_producer_id)?;
            verdict(doing, (code, None)).map(|()| (id, epoch))
        })
    }

    /// An offset of a partition; the broker must be its leader.
    pub fn list_offset(&mut self, topic: &str, partition: i32, at: At) -> Result<i64, KafkaError> {
        let doing = "asking for offsets";
        let version = self.pick::<ListOffsetsRequest>(doing, (1, 5))?;
        let timestamp = match at {
            At::Earliest => -2,
            At::Latest | At::Stable => -1,
        };
        // Version 1 has no isolation levels.
        let isolation = if at == At::Stable && version >= 2 { READ_COMMITTED } else { 0 };
        let wanted = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let wanted = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![wanted]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(CLIENT)
            .with_isolation_level(isolation)
            .with_topics(vec![wanted]);
        let (code, offset) =
            self.call(doing, version, &request, |fields| answers::list_offsets(fields, version, topic, partition))?;
        verdict(doing, (code, None)).map(|()| offset)
    }

    /// Record batches from `offset` on; the broker must be the partition's leader. The first batch is whole, however
    /// long, and starts at or before the offset; the last one may be cut off. Waits up to `wait` for the first byte.
    /// Nothing of an open transaction is in the answer, and its aborted ones are named there, as is the partition's
    /// error code.
    pub fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        bytes_max: u32,
        wait: Duration,
    ) -> Result<FetchedPartition<'_>, KafkaError> {
        let doing = "fetching";
        let version = self.pick::<FetchRequest>(doing, (4, 11))?;
        let bytes_max = i32::try_from(bytes_max).unwrap_or(i32::MAX);
        let wanted = FetchPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(offset)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(bytes_max);
        let wanted = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![wanted]);
        let request = FetchRequest::default()
            .with_replica_id(CLIENT)
            .with_max_wait_ms(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(1)
            .with_max_bytes(bytes_max)
            .with_isolation_level(READ_COMMITTED)
            .with_session_epoch(-1)
            .with_topics(vec![wanted]);
        let timeout = self.timeout() + wait;
        let body = self.exchange(doing, version, &request, timeout, limits::KAFKA_FETCH_ANSWER_BYTES_MAX)?;
        answers::fetch(body, version, topic, partition).map_err(|what| KafkaError::Malformed { doing, what })
    }
}

/// Tries again while the broker says that later may be better, with growing pauses.
pub(super) fn retrying<T>(
    patience: Duration,
    mut attempt: impl FnMut() -> Result<T, KafkaError>,
) -> Result<T, KafkaError> {
    let deadline = Instant::now() + patience;
    let mut pause = PAUSE_MIN;
    loop {
        match attempt() {
            Err(error) if error.is_retriable() && !error.breaks_connection() && Instant::now() + pause < deadline => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
            other => return other,
        }
    }
}
