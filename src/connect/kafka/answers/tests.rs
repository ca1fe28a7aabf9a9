//! Answers that `kafka-protocol` encodes in each version we speak, whole, cut short, and made of noise.

use super::super::testing::{self, body, topic_name};
use super::*;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{
    CreateTopicsResponse, DescribeConfigsResponse, FetchResponse, InitProducerIdResponse, ListOffsetsResponse,
    ProducerId, SaslAuthenticateResponse, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;
use proptest::prelude::*;

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// Parses an answer, and every beginning of it that is cut short: those are errors.
fn check<T: PartialEq + std::fmt::Debug>(bytes: &[u8], parse: impl Fn(Fields<'_>) -> Parsed<T>) -> T {
    for end in 0..bytes.len() {
        let cut = parse(Fields::new(&bytes[..end]));
        // What we do not read, at the very end, may be missing.
        assert!(cut.is_err() || cut == parse(Fields::new(bytes)), "{end} of {} bytes: {cut:?}", bytes.len());
    }
    assert!(parse(Fields::new(&bytes[..bytes.len().min(3)])).is_err());
    parse(Fields::new(bytes)).unwrap()
}

#[test]
fn a_topic_that_is_gone_or_closed_to_us_is_no_matter_of_leaders() {
    let (replicas, in_sync) = (vec![1], vec![1]);
    let partition = PartitionView { id: 0, error: 0, leader: 1, leader_epoch: 7, replicas, in_sync };
    let brokers = vec![Broker { id: 1, host: "one".to_owned(), port: 9092 }];
    let led = TopicView { cluster_id: None, controller: 1, brokers, error: 0, partitions: vec![partition.clone()] };
    assert_eq!(leader_of(&led, "t", 0).map(|broker| broker.port).ok(), Some(9092));
    let told = |view: &TopicView, partition| leader_of(view, "t", partition).unwrap_err().to_string();
    let of_topic = |error| told(&TopicView { error, partitions: vec![], ..led.clone() }, 0);
    let own = |error, leader| {
        let partitions = vec![PartitionView { error, leader, ..partition.clone() }];
        TopicView { partitions, ..led.clone() }
    };
    for waiting in [of_topic(5), told(&own(0, -1), 0), told(&own(5, -1), 0)] {
        assert_eq!(waiting, "t/0 has no leader\n  mend: start the brokers that hold it");
    }
    assert_eq!(told(&own(72, -1), 0), "t/0: looking up the topic: LISTENER_NOT_FOUND (72)");
    assert!(leader_of(&own(9, 1), "t", 0).is_ok(), "a replica that is away is no leader that is");
    // In the words of a request that was refused, whoever was asked.
    for (code, mend) in [(3, "--create-topic on"), (29, "--operation Describe")] {
        let refused = KafkaError::broker(LOOKING_UP, code).fatal("one:9092").to_string();
        let gone = of_topic(code);
        assert_eq!(gone.strip_prefix("t/0"), refused.strip_prefix("Kafka broker one:9092"));
        assert!(gone.contains(mend), "{gone}");
    }
    assert!(told(&led, 1).contains("UNKNOWN_TOPIC_OR_PARTITION (3)"), "fewer partitions than before");
}

#[test]
fn versions_of_both_forms() {
    for version in [0, 3] {
        let asked = testing::Asked { key: 18, version, client_id: String::new(), body: Vec::new() };
        let (error, versions) = check(&testing::versions(&asked).unwrap(), |fields| api_versions(fields, version));
        assert_eq!(error, 0);
        assert_eq!((versions.pick(0, (3, 8)), versions.pick(1, (4, 11))), (Some(8), Some(11)));
        assert_eq!(
            (versions.pick(22, (0, 1)), versions.pick(1, (0, 3)), versions.pick(99, (0, 9))),
            (Some(1), None, None)
        );
    }
    let refused = [0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 3];
    let (error, versions) = api_versions(Fields::new(&refused), 3).unwrap();
    assert_eq!((error, versions.pick(18, (0, 3))), (35, Some(3)));
}

#[test]
fn leaders_of_a_topic() {
    for version in 4..=8 {
        let bytes = testing::metadata("t", 3, version);
        let view = check(&bytes, |fields| metadata(fields, version, "t"));
        assert_eq!((view.error, view.controller, view.cluster_id.as_deref()), (0, 1, Some("c")));
        let ids: Vec<i32> = view.partitions.iter().map(|partition| partition.id).collect();
        assert_eq!(ids, [0, 1, 2], "in order, as they were not sent");
        assert_eq!(view.partitions[1].leader_epoch, if version >= 7 { 7 } else { -1 });
        assert_eq!((&view.partitions[0].replicas[..], &view.partitions[0].in_sync[..]), (&[1, 2][..], &[1][..]));
        let leader = view.leader(2).unwrap();
        assert_eq!((leader.host.as_str(), leader.port, view.first_error()), ("one", 9092, 0));
        assert_eq!(metadata(Fields::new(&bytes), version, "other").unwrap().first_error(), UNKNOWN_TOPIC_OR_PARTITION);
    }
    let mut view = metadata(Fields::new(&testing::metadata("t", 2, 8)), 8, "t").unwrap();
    view.partitions[1].leader = -1;
    assert_eq!(view.first_error(), LEADER_NOT_AVAILABLE);
}

#[test]
fn topics_and_their_settings() {
    let results = vec![
        CreatableTopicResult::default()
            .with_name(topic_name("t"))
            .with_error_code(38)
            .with_error_message(Some(text("too many replicas"))),
    ];
    for version in 2..=4 {
        let bytes = body(&CreateTopicsResponse::default().with_topics(results.clone()), version);
        let said = check(&bytes, |fields| create_topics(fields, "t"));
        assert_eq!(said, (38, Some("too many replicas".to_owned())));
        assert!(create_topics(Fields::new(&bytes), "other").is_err());
    }
    let setting = |name, value| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_value(value)
            .with_synonyms(vec![DescribeConfigsSynonym::default().with_name(text("x")).with_value(Some(text("y")))])
    };
    let configs = vec![setting("max.message.bytes", Some(text("1048588"))), setting("secret", None)];
    for version in 1..=3 {
        let result = DescribeConfigsResult::default()
            .with_resource_type(2)
            .with_resource_name(text("t"))
            .with_error_message(Some(text("")))
            .with_configs(configs.clone());
        let bytes = body(&DescribeConfigsResponse::default().with_results(vec![result]), version);
        let ((error, _), settings) = check(&bytes, |fields| describe_configs(fields, version));
        assert_eq!((error, settings.len()), (0, 2));
        assert_eq!(settings["max.message.bytes"].as_deref(), Some("1048588"));
        assert_eq!(settings["secret"], None);
    }
}

#[test]
fn identities() {
    for version in 0..=1 {
        let answer = InitProducerIdResponse::default().with_producer_id(ProducerId(1 << 40)).with_producer_epoch(3);
        assert_eq!(check(&body(&answer, version), init_producer_id), (0, 1 << 40, 3));
        let answer = SaslAuthenticateResponse::default()
            .with_error_message(Some(text("no")))
            .with_error_code(58)
            .with_auth_bytes(vec![1, 2].into())
            .with_session_lifetime_ms(if version >= 1 { 9 } else { 0 });
        let bytes = body(&answer, version);
        let expected = ((58, Some("no".to_owned())), &[1, 2][..], if version >= 1 { 9 } else { 0 });
        assert_eq!(sasl_authenticate(Fields::new(&bytes), version).unwrap(), expected);
    }
    let answer = SaslHandshakeResponse::default().with_error_code(33).with_mechanisms(vec![text("PLAIN"), text("X")]);
    assert_eq!(check(&body(&answer, 1), sasl_handshake), (33, vec!["PLAIN".to_owned(), "X".to_owned()]));
}

#[test]
fn offsets_and_records() {
    for version in 1..=5 {
        let partition =
            |id, offset| ListOffsetsPartitionResponse::default().with_partition_index(id).with_offset(offset);
        let topic = ListOffsetsTopicResponse::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition(1, 5), partition(2, 77)]);
        let bytes = body(&ListOffsetsResponse::default().with_topics(vec![topic]), version);
        assert_eq!(check(&bytes, |fields| list_offsets(fields, version, "t", 2)), (0, 77));
        assert!(list_offsets(Fields::new(&bytes), version, "t", 3).is_err());
    }
    for version in 4..=11 {
        let partition = PartitionData::default()
            .with_partition_index(4)
            .with_high_watermark(100)
            .with_log_start_offset(if version >= 5 { 10 } else { -1 })
            .with_aborted_transactions(Some(vec![
                AbortedTransaction::default().with_producer_id(ProducerId(6)).with_first_offset(70),
                AbortedTransaction::default().with_producer_id(ProducerId(1 << 40)).with_first_offset(90),
            ]))
            .with_records(Some(vec![9, 8, 7].into()));
        let topic = FetchableTopicResponse::default().with_topic(topic_name("t")).with_partitions(vec![partition]);
        let bytes = body(&FetchResponse::default().with_responses(vec![topic]), version);
        let fetched = fetch(Fields::new(&bytes), version, "t", 4).unwrap();
        assert_eq!((fetched.error, fetched.high_watermark, fetched.records), (0, 100, &[9, 8, 7][..]));
        assert_eq!(fetched.log_start_offset, if version >= 5 { 10 } else { -1 });
        assert!(fetched.aborted().eq([(6, 70), (1 << 40, 90)]));
        assert!((0..bytes.len()).all(|end| fetch(Fields::new(&bytes[..end]), version, "t", 4).is_err()));
    }
    let whole_error = body(&FetchResponse::default().with_error_code(71), 7);
    assert_eq!(fetch(Fields::new(&whole_error), 7, "t", 4).unwrap().error, 71);
}

#[test]
fn a_broker_that_throttles_says_nothing_about_a_partition() {
    for version in 4..=11 {
        let bytes = body(&FetchResponse::default().with_throttle_time_ms(70), version);
        let fetched = check(&bytes, |fields| {
            fetch(fields, version, "t", 4).map(|one| (one.error, one.high_watermark, one.records.len(), one.silence_ms))
        });
        assert_eq!(fetched, (0, -1, 0, 70), "version {version}");
        // Before version 8 what comes with records was waited for by the broker.
        let partition = PartitionData::default().with_partition_index(4).with_records(Some(vec![9].into()));
        let topic = FetchableTopicResponse::default().with_topic(topic_name("t")).with_partitions(vec![partition]);
        let answer = FetchResponse::default().with_throttle_time_ms(70).with_responses(vec![topic]);
        let bytes = body(&answer, version);
        let fetched = fetch(Fields::new(&bytes), version, "t", 4).unwrap();
        assert_eq!((fetched.records, fetched.silence_ms), (&[9][..], if version >= 8 { 70 } else { 0 }));
        // Without a time to wait it is no answer.
        assert!(fetch(Fields::new(&body(&FetchResponse::default(), version)), version, "t", 4).is_err());
    }
}

#[test]
fn claimed_lengths_are_not_believed() {
    let huge = [0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff];
    assert!(metadata(Fields::new(&huge), 8, "t").unwrap_err().contains("2147483647"));
    assert!(create_topics(Fields::new(&huge), "t").is_err());
    assert!(describe_configs(Fields::new(&huge), 3).is_err());
    assert!(sasl_handshake(Fields::new(&huge[2..])).is_err());
    let negative = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe];
    assert!(metadata(Fields::new(&negative), 8, "t").unwrap_err().contains("-2"));
    // A compact count of four billion, and a number without end.
    assert!(api_versions(Fields::new(&[0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]), 3).is_err());
    assert!(api_versions(Fields::new(&[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), 3).is_err());
}

proptest! {
    #[test]
    fn noise_is_an_error_or_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0i16..12) {
        let fields = Fields::new(&bytes);
        let _ = (api_versions(fields, version), metadata(fields, version, "t"), create_topics(fields, "t"));
        let _ = (describe_configs(fields, version), init_producer_id(fields), sasl_handshake(fields));
        let _ = (sasl_authenticate(fields, version), list_offsets(fields, version, "t", 0));
        let _ = fetch(fields, version, "t", 0);
    }
}
