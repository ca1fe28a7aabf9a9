//! Brokers in memory, whose answers `kafka-protocol` encodes.

use super::cluster::Client;
use super::session::Stream;
use crate::wire::kafka::errors::{OFFSET_OUT_OF_RANGE, TOPIC_AUTHORIZATION_FAILED};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, DescribeConfigsResponse, FetchRequest, FetchResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataResponse, ProducerId, RequestHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Duration;

/// A request as the broker got it.
pub struct Asked {
    pub key: i16,
    pub version: i16,
    pub client_id: String,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn decode<M: Decodable>(&self) -> M {
        M::decode(&mut &self.body[..], self.version).unwrap()
    }
}

/// The body of an answer, or an end of the connection.
pub type Handler = Box<dyn FnMut(&Asked) -> Option<Vec<u8>> + Send>;

/// A connection to a broker that answers at once, in small pieces.
pub struct Fake {
    handler: Handler,
    request: Vec<u8>,
    answer: VecDeque<u8>,
    /// Bytes that one read gives at the most.
    piece: usize,
}

impl Fake {
    pub fn new(handler: impl FnMut(&Asked) -> Option<Vec<u8>> + Send + 'static) -> Self {
        Self { handler: Box::new(handler), request: Vec::new(), answer: VecDeque::new(), piece: 3 }
    }

    pub fn is_drained(&self) -> bool {
        self.request.is_empty() && self.answer.is_empty()
    }

    fn serve(&mut self) {
        let Some(size) = self.request.first_chunk().map(|size| u32::from_be_bytes(*size) as usize) else { return };
        if self.request.len() < 4 + size {
            return;
        }
        let request: Vec<u8> = self.request.drain(..4 + size).skip(4).collect();
        let (key, version) =
            (i16::from_be_bytes([request[0], request[1]]), i16::from_be_bytes([request[2], request[3]]));
        let mut bytes = &request[..];
        let header_version = ApiKey::try_from(key).unwrap().request_header_version(version);
        let header = RequestHeader::decode(&mut bytes, header_version).unwrap();
        let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
        let asked = Asked { key, version, client_id, body: bytes.to_vec() };
        if let Some(body) = (self.handler)(&asked) {
            self.answer.extend((body.len() as u32 + 4).to_be_bytes());
            self.answer.extend(header.correlation_id.to_be_bytes());
            self.answer.extend(body);
        }
    }
}

impl Read for Fake {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = if out.len() > 4096 { out.len() } else { self.piece };
        let length = out.len().min(most).min(self.answer.len());
        for (to, from) in out.iter_mut().zip(self.answer.drain(..length)) {
            *to = from;
        }
        Ok(length)
    }
}

impl Write for Fake {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(7);
        self.request.extend_from_slice(&bytes[..length]);
        self.serve();
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Fake {
    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        assert!(!timeout.is_zero(), "no time limit at all");
        Ok(())
    }
}

pub fn client() -> Client {
    Client { id: "engine".to_owned(), sasl: None, timeout: Duration::from_secs(5) }
}

pub fn body(message: &impl Encodable, version: i16) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes, version).unwrap();
    bytes
}

/// The answer to `ApiVersions` of a broker that speaks what Apache Kafka 4.x does, or nothing for other requests.
pub fn versions(asked: &Asked) -> Option<Vec<u8>> {
    if asked.key != ApiKey::ApiVersions as i16 {
        return None;
    }
    let known = [
        (0, 0, 13),
        (1, 4, 18),
        (2, 1, 11),
        (3, 0, 13),
        (17, 0, 1),
        (18, 0, 4),
        (19, 2, 7),
        (22, 0, 6),
        (32, 1, 4),
        (36, 0, 2),
    ];
    let keys = known.map(|(key, least, most)| {
        ApiVersion::default().with_api_key(key).with_min_version(least).with_max_version(most)
    });
    Some(body(&ApiVersionsResponse::default().with_api_keys(keys.to_vec()), asked.version))
}

pub fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// Metadata of a topic whose partitions are led by broker 1, at `one:9092`.
pub fn metadata(topic: &str, partitions: i32, version: i16) -> Vec<u8> {
    metadata_at("one", topic, partitions, version)
}

/// The same with broker 1 at port 9092 of this host.
pub fn metadata_at(host: &'static str, topic: &str, partitions: i32, version: i16) -> Vec<u8> {
    metadata_of((1, host, 9092), topic, partitions, version)
}

/// The same of any leader: id, host and port.
pub fn metadata_of(leader: (i32, &'static str, u16), topic: &str, partitions: i32, version: i16) -> Vec<u8> {
    let (id, host, port) = leader;
    let leader = BrokerId(id);
    let broker = MetadataResponseBroker::default()
        .with_node_id(leader)
        .with_host(StrBytes::from_static_str(host))
        .with_port(i32::from(port));
    let partition = |id| {
        MetadataResponsePartition::default()
            .with_partition_index(id)
            .with_leader_id(leader)
            .with_leader_epoch(7)
            .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
            .with_isr_nodes(vec![BrokerId(1)])
    };
    let topic = MetadataResponseTopic::default()
        .with_name(Some(topic_name(topic)))
        .with_partitions((0..partitions).rev().map(partition).collect());
    let answer = MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(StrBytes::from_static_str("c")))
        .with_controller_id(leader)
        .with_topics(vec![topic]);
    body(&answer, version)
}

/// The settings of what was asked for; where there are none, the broker does not tell them.
pub fn settings(settings: &[(&'static str, &'static str)], version: i16) -> Vec<u8> {
    let setting = |(name, value): &(&'static str, &'static str)| {
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_static_str(value)))
    };
    let denied = i16::from(settings.is_empty()) * TOPIC_AUTHORIZATION_FAILED;
    let result =
        DescribeConfigsResult::default().with_error_code(denied).with_configs(settings.iter().map(setting).collect());
    body(&DescribeConfigsResponse::default().with_results(vec![result]), version)
}

/// A value and its headers.
pub type Message = (Vec<u8>, Vec<(String, String)>);

/// A batch as the Java client would send it: values, each with its headers.
pub fn batch(base_offset: i64, values: &[Message], timestamp_ms: i64) -> Vec<u8> {
    encode(base_offset, &records(base_offset, values, timestamp_ms))
}

/// A batch of a transaction.
pub fn transactional(base_offset: i64, values: &[Message], producer_id: i64) -> Vec<u8> {
    let mut records = records(base_offset, values, 1);
    records.iter_mut().for_each(|record| (record.transactional, record.producer_id) = (true, producer_id));
    encode(base_offset, &records)
}

/// The end of a transaction; kind 0 aborts it, 1 commits it.
pub fn marker(base_offset: i64, producer_id: i64, kind: u8) -> Vec<u8> {
    let mut records = records(base_offset, &[(vec![0; 6], Vec::new())], 1);
    for record in &mut records {
        (record.transactional, record.control, record.producer_id) = (true, true, producer_id);
        record.key = Some(vec![0, 0, 0, kind].into());
    }
    encode(base_offset, &records)
}

pub fn records(base_offset: i64, values: &[Message], timestamp_ms: i64) -> Vec<Record> {
    let records = values.iter().enumerate().map(|(at, (value, headers))| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: base_offset + at as i64,
        // Of consecutive sequences the encoder makes one batch.
        sequence: at as i32,
        timestamp: timestamp_ms,
        key: None,
        value: Some(value.clone().into()),
        headers: headers
            .iter()
            .map(|(name, value)| (StrBytes::from_string(name.clone()), Some(value.clone().into_bytes().into())))
            .collect(),
    });
    records.collect()
}

pub fn encode(base_offset: i64, records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, records, &options).unwrap();
    // The encoder counts offsets from 0 in each batch.
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    bytes
}

/// Partitions of one topic: for each batch its first offset, the one after its last, and its bytes.
#[derive(Clone, Default)]
pub struct Log {
    pub partitions: Vec<Vec<(i64, i64, Vec<u8>)>>,
    /// Bytes that one fetch answers at the most, cut wherever that is (but the first batch is whole).
    pub fetch_bytes: usize,
    /// Of the topic; where there are none, the broker does not tell them.
    pub settings: &'static [(&'static str, &'static str)],
    /// Of each aborted transaction the producer id, the first offset, and the one of its mark.
    pub aborted: Vec<(i64, i64, i64)>,
    /// In every partition a transaction is open from here on.
    pub stable_end: Option<i64>,
}

impl Log {
    pub fn put(&mut self, partition: usize, values: &[Message], timestamp_ms: i64) {
        self.put_batch(partition, values.len() as i64, |base| batch(base, values, timestamp_ms));
    }

    /// A batch that takes so many offsets.
    pub fn put_batch(&mut self, partition: usize, offsets: i64, make: impl FnOnce(i64) -> Vec<u8>) {
        self.partitions.resize_with(self.partitions.len().max(partition + 1), Vec::new);
        let batches = &mut self.partitions[partition];
        let base = batches.last().map_or(0, |(_, next, _)| *next);
        batches.push((base, base + offsets, make(base)));
    }

    /// A broker that has this topic.
    pub fn serve(self, topic: &'static str) -> impl FnMut(&Asked) -> Option<Vec<u8>> + Send + 'static {
        move |asked| Some(self.answer(topic, asked))
    }

    pub fn answer(&self, topic: &str, asked: &Asked) -> Vec<u8> {
        match ApiKey::try_from(asked.key).unwrap() {
            ApiKey::ApiVersions => versions(asked).unwrap(),
            ApiKey::Metadata => metadata(topic, self.partitions.len() as i32, asked.version),
            ApiKey::ListOffsets => self.offsets(topic, asked),
            ApiKey::Fetch => self.fetched(topic, asked),
            ApiKey::DescribeConfigs => settings(self.settings, asked.version),
            other => panic!("{other:?} was not to be asked"),
        }
    }

    /// The first offset that is there, and the one behind the last.
    fn ends(&self, partition: i32, isolation_level: i8) -> (i64, i64) {
        let batches = &self.partitions[partition as usize];
        let end = batches.last().map_or(0, |(_, next, _)| *next);
        let stable = self.stable_end.filter(|_| isolation_level == 1).unwrap_or(end);
        (batches.first().map_or(0, |(base, ..)| *base), end.min(stable))
    }

    fn offsets(&self, topic: &str, asked: &Asked) -> Vec<u8> {
        let request: ListOffsetsRequest = asked.decode();
        let wanted = &request.topics[0].partitions[0];
        let (first, end) = self.ends(wanted.partition_index, request.isolation_level);
        let offset = if wanted.timestamp == -1 { end } else { first };
        let partition =
            ListOffsetsPartitionResponse::default().with_partition_index(wanted.partition_index).with_offset(offset);
        let topic = ListOffsetsTopicResponse::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        body(&ListOffsetsResponse::default().with_topics(vec![topic]), asked.version)
    }

    fn fetched(&self, topic: &str, asked: &Asked) -> Vec<u8> {
        let request: FetchRequest = asked.decode();
        let wanted = &request.topics[0].partitions[0];
        let (first, end) = self.ends(wanted.partition, request.isolation_level);
        let (_, last) = self.ends(wanted.partition, 0);
        let error = i16::from(!(first..=last).contains(&wanted.fetch_offset)) * OFFSET_OUT_OF_RANGE;
        let mut bytes: Vec<u8> = Vec::new();
        for (_, next, batch) in self.partitions[wanted.partition as usize].iter().filter(|_| error == 0) {
            if *next > wanted.fetch_offset && *next <= end {
                let room = self.fetch_bytes.saturating_sub(bytes.len());
                let whole = bytes.is_empty() || room > batch.len();
                bytes.extend_from_slice(&batch[..if whole { batch.len() } else { room }]);
            }
        }
        let aborted = self.aborted.iter().filter(|(.., mark)| *mark >= wanted.fetch_offset).map(|(id, first, _)| {
            AbortedTransaction::default().with_producer_id(ProducerId(*id)).with_first_offset(*first)
        });
        let partition = PartitionData::default()
            .with_partition_index(wanted.partition)
            .with_error_code(error)
            .with_high_watermark(last)
            .with_aborted_transactions((request.isolation_level == 1).then(|| aborted.collect()))
            .with_records(Some(bytes.into()));
        let topic = FetchableTopicResponse::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
        body(&FetchResponse::default().with_responses(vec![topic]), asked.version)
    }
}
