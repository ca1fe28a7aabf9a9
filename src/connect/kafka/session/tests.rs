use super::super::calls::{At, NewTopic};
use super::super::error;
use super::super::testing::{self, Asked, Fake, body, client};
use super::*;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{
    ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    FetchRequest, InitProducerIdResponse, MetadataRequest, ProducerId,
};

fn open(handler: impl FnMut(&Asked) -> Option<Vec<u8>> + Send + 'static) -> Result<Session<Fake>, KafkaError> {
    client().open(Fake::new(handler))
}

/// Answers `ApiVersions` itself.
fn session(mut handler: impl FnMut(&Asked) -> Option<Vec<u8>> + Send + 'static) -> Session<Fake> {
    open(move |asked| testing::versions(asked).or_else(|| handler(asked))).unwrap()
}

#[test]
fn versions_are_negotiated_and_nothing_is_left_in_the_stream() {
    let session = session(|_| None);
    assert_eq!(session.produce_version(), Some(8));
    assert!(session.lifetime().is_none());
    assert!(session.into_stream().is_drained());
}

#[test]
fn an_old_broker_is_asked_again() {
    let mut asked_versions = Vec::new();
    let session = open(move |asked| {
        asked_versions.push(asked.version);
        match asked.version {
            3 => Some(body(&ApiVersionsResponse::default().with_error_code(35), 0)),
            _ => {
                assert_eq!(asked_versions, [3, 0]);
                testing::versions(asked)
            }
        }
    });
    assert_eq!(session.unwrap().produce_version(), Some(8));
}

#[test]
fn requests_carry_what_was_asked() {
    let mut session = session(|asked| {
        assert_eq!(asked.client_id, "engine");
        match asked.key {
            3 => {
                let request: MetadataRequest = asked.decode();
                assert!(!request.allow_auto_topic_creation);
                let name = request.topics.unwrap()[0].name.clone().unwrap();
                Some(testing::metadata(&name, 2, asked.version))
            }
            19 => {
                let request: CreateTopicsRequest = asked.decode();
                let topic = &request.topics[0];
                assert_eq!((topic.num_partitions, topic.replication_factor), (4, -1));
                assert_eq!(&*topic.configs[0].name, "retention.ms");
                let exists = i16::from(topic.name.0 == *"there") * 36;
                let result = CreatableTopicResult::default().with_name(topic.name.clone()).with_error_code(exists);
                Some(body(&CreateTopicsResponse::default().with_topics(vec![result]), asked.version))
            }
            1 => {
                let request: FetchRequest = asked.decode();
                assert_eq!((request.max_bytes, request.session_epoch, request.max_wait_ms), (1000, -1, 50));
                assert_eq!(request.isolation_level, 1);
                assert_eq!(request.topics[0].partitions[0].fetch_offset, 17);
                None
            }
            _ => None,
        }
    });
    assert_eq!(session.metadata("abc").unwrap().partitions.len(), 2);
    assert_eq!(session.await_topic("abc", 2, Duration::from_secs(1)).unwrap().partitions.len(), 2);
    let topic = |name| NewTopic { name, partitions: 4, replicas: -1, settings: &[("retention.ms", "1000")] };
    assert!(session.create_topic(&topic("new"), None).unwrap());
    assert!(!session.create_topic(&topic("there"), None).unwrap());
    let error = session.fetch("abc", 1, 17, 1000, Duration::from_millis(50)).unwrap_err();
    assert!(error.breaks_connection() && error.to_string().contains("closed"), "{error}");
}

/// A broker's answer: of each request its key, oldest and newest version.
fn speaking(requests: &[(i16, i16, i16)]) -> ApiVersionsResponse {
    let one = |(key, least, most): &(i16, i16, i16)| {
        ApiVersion::default().with_api_key(*key).with_min_version(*least).with_max_version(*most)
    };
    ApiVersionsResponse::default().with_api_keys(requests.iter().map(one).collect())
}

#[test]
fn from_kafka_3_7_on_no_more_replicas_are_wanted_in_sync_than_there_are() {
    for (newest, are_enough) in [(9, false), (10, true), (13, true)] {
        let versions = speaking(&[(0, 0, newest), (32, 1, 4)]);
        let mut session = open(move |asked| match asked.key {
            18 => Some(body(&versions, asked.version)),
            _ => Some(testing::settings(&[("min.insync.replicas", "2")], asked.version)),
        })
        .unwrap();
        let limits = session.topic_limits("t").unwrap();
        assert_eq!((limits.min_in_sync, limits.replicas_are_enough), (Some(2), are_enough), "Produce {newest}");
    }
}

#[test]
fn a_compacted_topic_is_known_by_its_policy() {
    for (policy, is_compacted) in
        [("compact", true), ("compact,delete", true), ("delete, compact", true), ("delete", false), ("", false)]
    {
        let mut session = session(move |asked| {
            let request: DescribeConfigsRequest = asked.decode();
            let keys = request.resources[0].configuration_keys.clone().unwrap_or_default();
            assert!(keys.iter().any(|key| &**key == "cleanup.policy"), "{keys:?}");
            Some(testing::settings(&[("cleanup.policy", policy)], asked.version))
        });
        assert_eq!(session.topic_limits("t").unwrap().is_compacted, is_compacted, "{policy}");
    }
}

#[test]
fn a_broker_that_knows_no_default_is_told_how_many_replicas_it_has() {
    for (newest, own_id, said, replicas) in
        [(3, Some(7), Some("3"), 3), (3, Some(7), None, 1), (3, None, Some("3"), 1), (4, Some(7), Some("3"), -1)]
    {
        let versions = speaking(&[(19, 2, newest), (32, 1, 4)]);
        let mut session = open(move |asked| match asked.key {
            18 => Some(body(&versions, asked.version)),
            32 => {
                let request: DescribeConfigsRequest = asked.decode();
                let wanted = &request.resources[0];
                assert_eq!((wanted.resource_type, &*wanted.resource_name), (4, "7"));
                let value = said.map(StrBytes::from_static_str);
                let setting = DescribeConfigsResourceResult::default()
                    .with_name(StrBytes::from_static_str("default.replication.factor"))
                    .with_value(value);
                let result = DescribeConfigsResult::default().with_configs(vec![setting]);
                Some(body(&DescribeConfigsResponse::default().with_results(vec![result]), asked.version))
            }
            _ => {
                let request: CreateTopicsRequest = asked.decode();
                assert_eq!(request.topics[0].replication_factor, replicas);
                let result = CreatableTopicResult::default().with_name(request.topics[0].name.clone());
                Some(body(&CreateTopicsResponse::default().with_topics(vec![result]), asked.version))
            }
        })
        .unwrap();
        let new = NewTopic { name: "t", partitions: 2, replicas: -1, settings: &[] };
        assert!(session.create_topic(&new, own_id).unwrap(), "{newest} {own_id:?} {said:?}");
    }
}

#[test]
fn rights_to_look_a_topic_up_or_to_make_it_are_named() {
    for (doing, operation) in [(error::CREATING, "Create"), (error::LOOKING_UP, "Describe"), ("sending", "Write")] {
        let mend = KafkaError::broker(doing, 29).fatal("b:1").mend.unwrap();
        assert!(mend.contains(&format!("--operation {operation}")), "{doing}: {mend}");
    }
}

#[test]
fn a_producer_id_is_asked_for_until_there_is_one() {
    let mut asked_times = 0;
    let mut session = session(move |asked| {
        asked_times += 1;
        let answer = InitProducerIdResponse::default().with_producer_id(ProducerId(42)).with_producer_epoch(1);
        let answer = if asked_times < 3 { answer.with_error_code(14) } else { answer };
        Some(body(&answer, asked.version))
    });
    assert_eq!(session.init_producer_id().unwrap(), (42, 1));
}

#[test]
fn error_codes_are_named() {
    let mut session = session(|asked| {
        let answer = InitProducerIdResponse::default().with_error_code(31);
        Some(body(&answer, asked.version))
    });
    let error = session.init_producer_id().unwrap_err();
    assert_eq!((error.code(), error.is_retriable(), error.breaks_connection()), (Some(31), false, false));
    let fatal = error.fatal("b:1");
    assert!(fatal.what.contains("CLUSTER_AUTHORIZATION_FAILED") && fatal.what.contains("b:1"), "{fatal}");
    assert!(fatal.mend.unwrap().contains("kafka-acls"));
}

#[test]
fn what_a_broker_cannot_do_is_said() {
    let mut session = open(|asked| {
        let answer = ApiVersionsResponse::default();
        (asked.key == 18).then(|| body(&answer, asked.version))
    })
    .unwrap();
    assert_eq!(session.produce_version(), None);
    let error = session.list_offset("t", 0, At::Latest).unwrap_err().to_string();
    assert!(error.contains("does not know"), "{error}");
}

#[test]
fn other_peers_are_recognised() {
    for (bytes, part) in [
        (&[0x15, 3, 3, 0, 2][..], "TLS"),
        (b"HTTP/1.1 400", "HTTP"),
        (&[0x7f, 0xff, 0xff, 0xff], "claims 2147483647"),
        (&[0xff, 0xff, 0xff, 0xff], "claims -1"),
        (&[0, 0, 0, 6, 0, 0, 0, 9, 0, 0], "answers request 9, not 1"),
        (&[0, 0, 0, 6, 0, 0], "closed"),
        (&[], "closed"),
    ] {
        let mut stream = Reply { answer: io::Cursor::new(bytes.to_vec()) };
        let error = match Session::open(&mut stream, "c", Duration::from_secs(1)) {
            Ok(_) => panic!("{bytes:?} is no broker"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(part), "{bytes:?}: {error}");
    }
}

/// Answers the same, whatever it is asked.
struct Reply {
    answer: io::Cursor<Vec<u8>>,
}

impl Read for &mut Reply {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.answer.read(out)
    }
}

impl Write for &mut Reply {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for &mut Reply {
    fn set_timeout(&mut self, _: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// Never answers, as a socket does whose time limit passes.
struct Silent;

impl Read for Silent {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Silent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Silent {
    fn set_timeout(&mut self, _: Duration) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn silence_ends_in_time() {
    let error = match Session::open(Silent, "c", Duration::from_millis(20)) {
        Ok(_) => panic!("nobody is there"),
        Err(error) => error,
    };
    assert!(error.is_retriable() && error.to_string().contains("no answer in time"), "{error}");
}

#[test]
fn a_long_answer_keeps_no_memory() {
    let mut session = session(|_| None);
    session.answer = vec![0; 64 << 20];
    session.give_back();
    assert!(session.answer.is_empty() && session.answer.capacity() <= ANSWER_KEPT_BYTES);
}
