use super::{Most, Seat, check, check_batch, check_local, footprint, make_missing, payload_bytes_max, prepare, seats};
use crate::base::fatal::{Exit, Fatal};
use crate::config::{Command, Deps, parse};
use crate::connect::kafka::testing::{self, Fake, client};
use crate::connect::kafka::{Cluster, Dial, PartitionView, TopicLimits, TopicView};
use crate::plan::testing::kafka_plan;
use crate::plan::{Annotate, KafkaPlan, KeyPlan, PayloadPlan, PayloadSource, RunPlan};
use crate::run::Stop;
use crate::wire::kafka::errors::TOPIC_ALREADY_EXISTS;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, DescribeConfigsRequest};
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// Of one process after the other: the target and the seat of each producer.
fn fleet(targets: usize, producers: usize, processes: u32) -> Vec<(usize, Seat)> {
    let dealt: Vec<usize> = (0..producers).map(|k| k % targets).collect();
    let each = producers as u32;
    let of_process = |process: u32| {
        let seats = seats(&dealt, process * each, processes * each);
        dealt.clone().into_iter().zip(seats)
    };
    (0..processes).flat_map(of_process).collect()
}

#[test]
fn every_partition_of_each_topic_has_one_owner_while_there_are_enough() {
    for (targets, processes) in (1..=4).flat_map(|targets| [1, 2, 3].map(|processes| (targets, processes))) {
        for producers in targets..=9 {
            let all = fleet(targets, producers, processes);
            for target in 0..targets {
                let seats: Vec<Seat> = all.iter().filter(|(of, _)| *of == target).map(|(_, seat)| *seat).collect();
                let case = format!("target {target} of {targets}, {producers} producers × {processes}");
                assert!(seats.iter().all(|seat| seat.of as usize == seats.len()), "{case}: {seats:?}");
                for partitions in [0, 1, 7].map(|more| seats.len() as u32 + more) {
                    let mut owned: Vec<i32> = seats.iter().flat_map(|seat| seat.owned(partitions)).collect();
                    owned.sort_unstable();
                    assert_eq!(owned, (0..partitions as i32).collect::<Vec<_>>(), "{case}");
                }
            }
        }
    }
}

#[test]
fn a_producer_owns_each_so_many_th_partition_or_shares_one() {
    let seat = |rank, of| Seat { rank, of };
    assert_eq!(seats(&[0, 0, 0], 3, 6), [seat(3, 6), seat(4, 6), seat(5, 6)], "with one target ranks are ids");
    assert_eq!(seats(&[0, 1, 0], 3, 6), [seat(2, 4), seat(1, 2), seat(3, 4)]);
    assert_eq!(seat(1, 3).owned(8), [1, 4, 7]);
    assert_eq!((seat(5, 8).owned(3), seat(2, 8).owned(3)), (vec![2], vec![2]));
}

fn payload(record_bytes: u64) -> PayloadPlan {
    PayloadPlan {
        source: PayloadSource::Random { compressibility: 0.0 },
        record_bytes_min: record_bytes,
        record_bytes_max: record_bytes,
        headed: true,
        seed: 0,
        annotate: Annotate::Payload,
        sign_key: None,
    }
}

#[test]
fn a_smaller_batch_is_no_mend_for_a_record_that_is_too_large() {
    let most = Most::of_topic("t", 1_048_588);
    let told = |sizes| check_batch(&payload(2_000_000), sizes, &most).map_err(|fatal| fatal.to_string());
    assert_eq!(told((1_048_588, 1_048_588)), Ok(()));
    let record = told((2_000_081, 2_000_081)).unwrap_err();
    assert!(record.starts_with("--payload-size 2000000: ") && !record.contains("--batch-size"), "{record}");
    let batch = told((1_048_589, 1_000)).unwrap_err();
    assert!(batch.contains("mend: --batch-size=1048588") && !batch.contains("--payload-size"), "{batch}");
    let files = PayloadPlan { source: PayloadSource::Templates([].into()), ..payload(9) };
    let templates = check_batch(&files, (9, 9), &Most::of_topic("t", 8)).unwrap_err().to_string();
    assert!(templates.starts_with("--payload-template: "), "{templates}");
}

/// A broker whose new topics take so many bytes (`None`: it does not tell us).
fn broker(bytes: Option<&'static str>, has_topic: bool) -> Cluster<Fake> {
    let dial: Dial<Fake> = Box::new(move |_, _, _| {
        Ok(Fake::new(move |asked| {
            testing::versions(asked).or_else(|| match asked.key {
                3 => Some(testing::metadata(if has_topic { "t" } else { "other" }, 1, asked.version)),
                32 => {
                    let request: DescribeConfigsRequest = asked.decode();
                    let wanted = &request.resources[0];
                    assert_eq!((wanted.resource_type, &*wanted.resource_name), (4, "1"));
                    let settings: Vec<_> = bytes.map(|bytes| ("message.max.bytes", bytes)).into_iter().collect();
                    Some(testing::settings(&settings, asked.version))
                }
                19 => {
                    let result = CreatableTopicResult::default().with_name(testing::topic_name("t"));
                    let result = result.with_error_code(i16::from(has_topic) * TOPIC_ALREADY_EXISTS);
                    Some(testing::body(&CreateTopicsResponse::default().with_topics(vec![result]), asked.version))
                }
                other => panic!("{other} was not to be asked"),
            })
        }))
    });
    Cluster::new(vec![("boot".to_owned(), 1)], client(), dial)
}

#[test]
fn a_broker_on_this_host_leads_to_no_other_one_without_a_rate() {
    let led_from = |host: &'static str| {
        let dial: Dial<Fake> = Box::new(move |_, _, _| {
            Ok(Fake::new(move |asked| {
                testing::versions(asked).or_else(|| match asked.key {
                    3 => Some(testing::metadata_at(host, "t", 1, asked.version)),
                    other => panic!("{other} was not to be asked"),
                })
            }))
        });
        check_local(&mut Cluster::new(vec![("localhost".to_owned(), 1)], client(), dial))
    };
    for here in ["127.0.0.1", "::1"] {
        assert_eq!(led_from(here), Ok(()));
    }
    let fatal = led_from("192.0.2.1").unwrap_err();
    let says = |words| fatal.to_string().contains(words);
    assert!(fatal.exit == Exit::Usage && says("192.0.2.1:9092") && says("--rate=unlimited"), "{fatal}");
}

#[test]
fn no_topic_is_made_that_would_refuse_the_batches() {
    let told = |batch_bytes, bytes, has_topic| {
        let kafka = KafkaPlan { create_topic: true, batch_bytes, batch_bytes_min: 200, ..kafka_plan(1) };
        let made = make_missing(&payload(100), &kafka, 1, &mut broker(bytes, has_topic));
        made.map_err(|fatal| fatal.to_string())
    };
    let refused = told(1001, Some("1000"), false).unwrap_err();
    assert!(refused.contains("message.max.bytes = 1000\n  mend: --batch-size=1000, or a topic"), "{refused}");
    assert_eq!(told(1000, Some("1000"), false), Ok(true));
    assert_eq!(told(1001, Some("1000"), true), Ok(false), "its own limit counts");
    assert_eq!(told(1001, None, false), Ok(true), "who may not ask goes on");
}

/// Where brokers compact by default, it would take no message otherwise, and stay behind.
#[test]
fn a_topic_for_messages_without_a_key_is_made_uncompacted() {
    for (key, expected) in [
        (KeyPlan::None, vec![("cleanup.policy", Some("delete"))]),
        (KeyPlan::Producer, vec![]),
        (KeyPlan::Cycle(2), vec![]),
    ] {
        let asked_for = Arc::new(Mutex::new(None));
        let tells = asked_for.clone();
        let dial: Dial<Fake> = Box::new(move |_, _, _| {
            let tells = tells.clone();
            Ok(Fake::new(move |asked| {
                testing::versions(asked).or_else(|| match asked.key {
                    3 => Some(testing::metadata("other", 1, asked.version)),
                    32 => Some(testing::settings(&[], asked.version)),
                    _ => {
                        let request: CreateTopicsRequest = asked.decode();
                        *tells.lock().unwrap() = Some(request.topics[0].configs.clone());
                        let made = CreatableTopicResult::default().with_name(testing::topic_name("t"));
                        Some(testing::body(&CreateTopicsResponse::default().with_topics(vec![made]), asked.version))
                    }
                })
            }))
        });
        let mut cluster = Cluster::new(vec![("boot".to_owned(), 1)], client(), dial);
        let kafka = KafkaPlan { create_topic: true, key, ..kafka_plan(1) };
        assert_eq!(make_missing(&payload(100), &kafka, 1, &mut cluster), Ok(true));
        let configs = asked_for.lock().unwrap().take().unwrap();
        let configs: Vec<_> = configs.iter().map(|config| (&*config.name, config.value.as_deref())).collect();
        assert_eq!(configs, expected);
    }
}

/// As where the controller is not tunnelled, and the leaders of the topic are.
#[test]
fn a_topic_that_is_there_needs_no_controller() {
    let dial: Dial<Fake> = Box::new(|host, _, _| match host {
        "boot" => Ok(Fake::new(|asked| {
            testing::versions(asked).or_else(|| match asked.key {
                3 => Some(testing::metadata("t", 1, asked.version)),
                other => panic!("{other} was not to be asked"),
            })
        })),
        _ => Err(Fatal::new(Exit::Unreachable, "no way there")),
    });
    let mut cluster = Cluster::new(vec![("boot".to_owned(), 1)], client(), dial);
    let kafka = KafkaPlan { create_topic: true, ..kafka_plan(1) };
    assert_eq!(make_missing(&payload(100), &kafka, 1, &mut cluster), Ok(false));
}

#[test]
fn a_compacted_topic_gets_no_messages_without_a_key() {
    let told = |key, is_compacted| {
        let limits = TopicLimits { is_compacted, ..TopicLimits::default() };
        check(&payload(100), &KafkaPlan { key, acks: 0, ..kafka_plan(1) }, &view(1, &[1]), &limits)
    };
    let fatal = told(KeyPlan::None, true).unwrap_err();
    assert!(fatal.exit == Exit::Usage && fatal.to_string().contains("mend: --key=producer"), "{fatal}");
    assert_eq!(told(KeyPlan::None, false), Ok(()));
    assert_eq!([KeyPlan::Producer, KeyPlan::Cycle(3)].map(|key| told(key, true)), [Ok(()), Ok(())]);
}

fn plan_of(words: &str) -> Arc<RunPlan> {
    match parse(words.split(' ').map(Into::into), [], &Deps::new(|| Ok(()))) {
        Ok(Command::Run(plan)) => Arc::from(plan),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_ends_the_run_while_a_broker_is_silent_is_told() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let plan = plan_of(&format!("--target kafka://{}/t", silent.local_addr().unwrap()));
    let stop = Stop::default();
    stop.because("the log thread failed");
    let fatal = prepare(&plan, &stop).unwrap_err();
    assert!(fatal.exit == Exit::Host && fatal.what.contains("the log thread failed"), "{fatal}");
}

#[test]
fn a_broker_that_says_nothing_is_named_after_a_moment() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let plan = plan_of(&format!("--target kafka://{address}/t"));
    let (stop, told) = (Arc::new(Stop::default()), Arc::new(Mutex::new(String::new())));
    let (stops, tells) = (stop.clone(), told.clone());
    let writer = move || {
        // The line is whole once it is dropped.
        stops.because("that was all that was waited for");
        Line(tells.clone())
    };
    let logs = tracing_subscriber::fmt().with_writer(writer).finish();
    tracing::subscriber::with_default(logs, || prepare(&plan, &stop).unwrap_err());
    let line = format!("waiting for Kafka broker {address}: connecting");
    assert!(told.lock().unwrap().contains(&line), "{told:?}");
}

/// What a log line becomes.
struct Line(Arc<Mutex<String>>);

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A topic whose partitions have so many replicas, and of them so many in sync.
fn view(replicas: i32, in_sync: &[i32]) -> TopicView {
    let partition = |(id, in_sync): (i32, &i32)| PartitionView {
        id,
        error: 0,
        leader: 1,
        leader_epoch: 0,
        replicas: (1..=replicas).collect(),
        in_sync: (1..=*in_sync).collect(),
    };
    let partitions = (0..).zip(in_sync).map(partition).collect();
    TopicView { cluster_id: None, controller: 1, brokers: vec![], error: 0, partitions }
}

#[test]
fn replicas_that_lag_are_told_before_the_start() {
    for replicas_are_enough in [false, true] {
        let told = |acks, in_sync: &[i32]| told_of_replicas(acks, (3, in_sync), (2, replicas_are_enough));
        let fatal = told(-1, &[3, 1]).unwrap_err();
        let says = "--acks all: t/1 has 1 replica in sync, min.insync.replicas is 2\n  mend: start the missing brokers";
        assert!(fatal.exit == Exit::Unreachable && fatal.to_string().contains(says), "{fatal}");
        assert_eq!(told(-1, &[3, 2]), Ok(()));
        assert_eq!(told(1, &[3, 1]), Ok(()), "the leader alone is enough");
    }
}

/// Of so many replicas so many in sync, where so many are wanted, or all that there are where those are enough.
fn told_of_replicas(
    acks: i16,
    (replicas, in_sync): (i32, &[i32]),
    (least, replicas_are_enough): (u32, bool),
) -> Result<(), Fatal> {
    let kafka = KafkaPlan { acks, ..kafka_plan(1) };
    let limits = TopicLimits { min_in_sync: Some(least), replicas_are_enough, ..TopicLimits::default() };
    check(&payload(100), &kafka, &view(replicas, in_sync), &limits)
}

#[test]
fn more_replicas_in_sync_than_there_are_is_refused_before_the_start_where_the_broker_would() {
    let told = |acks, in_sync: &[i32], enough| told_of_replicas(acks, (2, in_sync), (3, enough));
    let fatal = told(-1, &[2], false).unwrap_err();
    let says = "t/0 has 2 replicas in all, min.insync.replicas is 3, and Kafka before 3.7 takes nothing there\n  mend: \
                kafka-configs.sh --alter --entity-type topics --entity-name t --add-config min.insync.replicas=2, or";
    assert!(fatal.exit == Exit::Unreachable && fatal.to_string().contains(says), "{fatal}");
    assert_eq!(told(1, &[2], false), Ok(()));
    assert_eq!(told(-1, &[2], true), Ok(()), "all that there are");
    let fatal = told(-1, &[2, 1], true).unwrap_err();
    assert!(fatal.to_string().contains("t/1 has 1 replica in sync, min.insync.replicas is 3"), "{fatal}");
}

#[test]
fn each_topic_gets_what_its_own_producers_send() {
    let shares = |words: &str| {
        let plan = plan_of(&format!("--payload-size 1000 {words}"));
        assert_eq!(plan.producers.len(), 3);
        [0, 1].map(|target| payload_bytes_max(&plan, target))
    };
    let one = "--parallel 3 --target kafka://127.0.0.1:1/one";
    let two = format!("{one} --target kafka://127.0.0.1:1/two");
    let million = |count: u64| Some(count * 1_000_000);
    assert_eq!(shares(&format!("{two} --rate 9MB/s --duration 100s")), [million(600), million(300)]);
    assert_eq!(shares(&format!("{two} --records 4")), [Some(3000), Some(2000)], "whole records");
    assert_eq!(shares(&two), [None; 2], "without an end");
    assert_eq!(shares(&format!("{one} --rate 9MB/s --duration 100s"))[0], million(900));
}

#[test]
fn what_the_brokers_disks_get_is_told_with_every_replica() {
    let told = |bytes, replicas| footprint("t", bytes, &view(replicas, &[1, 1]));
    assert!(told(Some(500_000_000), 3).starts_with("t: up to 1.5 GB of records on the brokers' disks (3 replicas), "));
    assert!(told(Some(500_000_000), 1).starts_with("t: up to 500 MB of records on the brokers' disks (1 replica), "));
    assert_eq!(told(None, 1), "t: every byte produced is written once on the brokers' disks");
    assert_eq!(told(None, 3), "t: every byte produced is written 3 times on the brokers' disks");
}
