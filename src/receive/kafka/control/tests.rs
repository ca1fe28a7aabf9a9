use super::*;
use crate::plan::receive::BrokerPlan;
use crate::receive::kafka::broker::Checks;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, DescribeConfigsRequest, FetchRequest, FindCoordinatorRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, RequestHeader, ResponseHeader, TransactionalId,
};
use kafka_protocol::protocol::Decodable;
use proptest::prelude::*;

fn broker() -> Broker {
    Broker::new(BrokerPlan { advertise: None, topic_partitions: 3 }, Checks::Nothing, None, None)
}

fn local() -> SocketAddr {
    "127.0.0.1:9092".parse().unwrap()
}

fn framed(key: ApiKey, version: i16, request: &impl Encodable) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(77)
        .with_client_id(Some(StrBytes::from_static_str("test")));
    let mut frame = Vec::new();
    header.encode(&mut frame, key.request_header_version(version)).unwrap();
    request.encode(&mut frame, version).unwrap();
    frame
}

fn decoded<R: Decodable>(key: ApiKey, version: i16, out: &[u8]) -> R {
    let (size, mut rest) = out.split_first_chunk().unwrap();
    assert_eq!(u32::from_be_bytes(*size) as usize, rest.len());
    let header = ResponseHeader::decode(&mut rest, key.response_header_version(version)).unwrap();
    assert_eq!(header.correlation_id, 77);
    let response = R::decode(&mut rest, version).unwrap();
    assert!(rest.is_empty(), "{key:?} {version}: {} bytes follow", rest.len());
    response
}

/// Asks in the words of `kafka-protocol`, and reads the answer with it.
fn ask<R: Decodable>(broker: &Broker, key: ApiKey, version: i16, request: &impl Encodable) -> (R, u64) {
    let mut out = Vec::new();
    let wait_ns = answer(&framed(key, version, request), broker, local(), &mut out).unwrap();
    (decoded(key, version, &out), wait_ns)
}

fn versions(key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let (_, least, most) = APIS.into_iter().find(|(one, ..)| *one == key).unwrap();
    least..=most
}

#[test]
fn versions_are_told_even_to_who_speaks_none_of_them() {
    for version in versions(ApiKey::ApiVersions) {
        let request = match version {
            3.. => ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str("x"))
                .with_client_software_version(StrBytes::from_static_str("1")),
            _ => ApiVersionsRequest::default(),
        };
        let (told, _) = ask::<ApiVersionsResponse>(&broker(), ApiKey::ApiVersions, version, &request);
        assert_eq!((told.error_code, told.api_keys.len()), (0, APIS.len()));
        let produce = told.api_keys.iter().find(|row| row.api_key == 0).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (3, 8));
    }
    let mut frame = framed(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default());
    frame[2..4].copy_from_slice(&99_i16.to_be_bytes());
    let mut out = Vec::new();
    answer(&frame, &broker(), local(), &mut out).unwrap();
    let told: ApiVersionsResponse = decoded(ApiKey::ApiVersions, 0, &out);
    assert_eq!((told.error_code, told.api_keys.len()), (UNSUPPORTED_VERSION, APIS.len()));
    frame[..2].copy_from_slice(&17_i16.to_be_bytes());
    let unspoken = answer(&frame, &broker(), local(), &mut Vec::new()).unwrap_err();
    assert!(unspoken.to_string().contains("99 of request 17"), "{unspoken}");
}

#[test]
fn every_topic_is_there_in_every_version_of_metadata() {
    for version in versions(ApiKey::Metadata) {
        let broker = broker();
        let named = |name: &str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default().with_topics(Some(vec![named("b"), named("a"), named("a")]));
        let (told, _) = ask::<MetadataResponse>(&broker, ApiKey::Metadata, version, &request);
        let names: Vec<_> = told.topics.iter().map(|topic| topic.name.as_ref().unwrap().to_string()).collect();
        assert_eq!(names, ["a", "b"]);
        for partition in &told.topics[0].partitions {
            assert_eq!((partition.leader_id, partition.error_code), (BrokerId(BROKER_ID), 0));
        }
        assert_eq!((told.topics[0].partitions.len(), told.controller_id.0), (3, if version == 0 { -1 } else { 1 }));
        let node = &told.brokers[0];
        assert_eq!((node.host.to_string().as_str(), node.port), ("127.0.0.1", 9092));
        let all = if version == 0 { Some(vec![]) } else { None };
        let request = MetadataRequest::default().with_topics(all);
        let (told, _) = ask::<MetadataResponse>(&broker, ApiKey::Metadata, version, &request);
        assert_eq!(told.topics.len(), 2);
        let request = MetadataRequest::default().with_topics(Some(vec![named("not a name")]));
        let (told, _) = ask::<MetadataResponse>(&broker, ApiKey::Metadata, version, &request);
        assert_eq!(told.topics[0].error_code, NoTopic::Name.code());
    }
    let plan = BrokerPlan { advertise: Some(("elsewhere".to_owned(), 7)), topic_partitions: 1 };
    let broker = Broker::new(plan, Checks::Nothing, None, None);
    let (told, _) = ask::<MetadataResponse>(&broker, ApiKey::Metadata, 8, &MetadataRequest::default());
    assert_eq!((told.brokers[0].host.to_string().as_str(), told.brokers[0].port), ("elsewhere", 7));
}

#[test]
fn topics_are_made_as_asked() {
    for version in versions(ApiKey::CreateTopics) {
        let broker = broker();
        let new = |name: &str, partitions, replicas| {
            let topic = CreatableTopic::default().with_name(topic_name(name)).with_num_partitions(partitions);
            topic.with_replication_factor(replicas)
        };
        let asked = vec![new("five", 5, 1), new("many", 2, 3), new("none", 0, 1), new("default", -1, -1)];
        let dry = CreateTopicsRequest::default().with_topics(asked).with_validate_only(true);
        for request in [dry.clone(), dry.with_validate_only(false)] {
            let (told, _) = ask::<CreateTopicsResponse>(&broker, ApiKey::CreateTopics, version, &request);
            let codes: Vec<_> = told.topics.iter().map(|topic| topic.error_code).collect();
            assert_eq!(codes, [0, INVALID_REPLICATION_FACTOR, NoTopic::Partitions.code(), 0], "{version}");
        }
        assert_eq!(broker.all_topics().iter().map(|topic| topic.partitions()).collect::<Vec<_>>(), [3, 5]);
    }
}

#[test]
fn partitions_begin_where_they_end() {
    let broker = broker();
    for version in versions(ApiKey::ListOffsets) {
        let one = |index, time| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(time);
        let partitions = vec![one(0, LATEST), one(1, EARLIEST), one(2, 5), one(9, LATEST)];
        let topic = ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(partitions);
        let request = ListOffsetsRequest::default().with_topics(vec![topic]);
        let (told, _) = ask::<ListOffsetsResponse>(&broker, ApiKey::ListOffsets, version, &request);
        let found: Vec<_> = told.topics[0].partitions.iter().map(|one| (one.error_code, one.offset)).collect();
        assert_eq!(found, [(0, 0), (0, 0), (0, -1), (UNKNOWN_TOPIC_OR_PARTITION, -1)], "{version}");
    }
    for version in versions(ApiKey::Fetch) {
        let fetch = |offset| {
            let partition = FetchPartition::default().with_partition(1).with_fetch_offset(offset);
            let topic = FetchTopic::default().with_topic(topic_name("t")).with_partitions(vec![partition]);
            FetchRequest::default().with_max_wait_ms(40).with_topics(vec![topic])
        };
        let (told, wait_ns) = ask::<FetchResponse>(&broker, ApiKey::Fetch, version, &fetch(0));
        assert_eq!((told.responses[0].partitions[0].error_code, wait_ns), (0, 40_000_000), "{version}");
        let (told, wait_ns) = ask::<FetchResponse>(&broker, ApiKey::Fetch, version, &fetch(3));
        assert_eq!((told.responses[0].partitions[0].error_code, wait_ns), (OFFSET_OUT_OF_RANGE, 0), "{version}");
    }
}

#[test]
fn settings_ids_and_coordinators() {
    let broker = broker();
    for version in versions(ApiKey::DescribeConfigs) {
        let resource = DescribeConfigsResource::default().with_resource_name(StrBytes::from_static_str("t"));
        let keys = vec![StrBytes::from_static_str("max.message.bytes"), StrBytes::from_static_str("else")];
        let topic = resource.clone().with_resource_type(TOPIC).with_configuration_keys(Some(keys));
        let all = resource.with_resource_type(BROKER).with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![topic, all]);
        let (told, _) = ask::<DescribeConfigsResponse>(&broker, ApiKey::DescribeConfigs, version, &request);
        let value = told.results[0].configs[0].value.as_ref().unwrap().parse::<u64>().unwrap();
        assert_eq!((told.results[0].configs.len(), value), (1, limits::KAFKA_BATCH_BYTES_MAX));
        assert_eq!(told.results[1].configs.len(), 6);
        // What a topic would take that is not there yet.
        let of_broker = told.results[1].configs.iter().find(|row| *row.name == *"message.max.bytes").unwrap();
        assert_eq!(of_broker.value, told.results[0].configs[0].value);
    }
    let mut last_id = 0;
    for version in versions(ApiKey::InitProducerId) {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let (told, _) = ask::<InitProducerIdResponse>(&broker, ApiKey::InitProducerId, version, &request);
        assert_eq!((told.error_code, told.producer_epoch), (0, 0));
        assert!(told.producer_id.0 > last_id && broker.gave_out(told.producer_id.0), "{told:?}");
        last_id = told.producer_id.0;
        let request = request.with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("x"))));
        let (told, _) = ask::<InitProducerIdResponse>(&broker, ApiKey::InitProducerId, version, &request);
        assert_eq!(told.error_code, INVALID_REQUEST);
    }
    for version in versions(ApiKey::FindCoordinator) {
        let request = FindCoordinatorRequest::default().with_key(StrBytes::from_static_str("group"));
        let (told, _) = ask::<FindCoordinatorResponse>(&broker, ApiKey::FindCoordinator, version, &request);
        assert_eq!(told.error_code, INVALID_REQUEST);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_or_take_much_memory(
        api in 0..APIS.len(), version in 0_i16..13, body in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0x7f), Just(0xff)], 0..80),
    ) {
        let mut frame = (APIS[api].0 as i16).to_be_bytes().to_vec();
        frame.extend(version.to_be_bytes());
        frame.extend([0, 0, 0, 1, 0xff, 0xff]);
        frame.extend(body);
        let mut out = Vec::new();
        if answer(&frame, &broker(), local(), &mut out).is_err() {
            prop_assert!(out.is_empty());
        }
        prop_assert!(out.len() < 100_000);
    }
}
