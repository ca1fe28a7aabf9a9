use super::{Most, Seat, check_batch, check_local, check_new, prepare, seats};
use crate::base::fatal::Exit;
use crate::config::{Command, Deps, parse};
use crate::connect::kafka::testing::{self, Fake, client};
use crate::connect::kafka::{Cluster, Dial};
use crate::plan::{Annotate, PayloadPlan, PayloadSource, RunPlan};
use crate::run::Stop;
use kafka_protocol::messages::DescribeConfigsRequest;
use std::net::TcpListener;
use std::sync::Arc;

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

/// A broker whose new topics take so many bytes (`None`: it does not tell us); it makes no topic.
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
        let checked = check_new(&payload(100), "t", (batch_bytes, 200), &mut broker(bytes, has_topic));
        checked.map_err(|fatal| fatal.to_string())
    };
    let refused = told(1001, Some("1000"), false).unwrap_err();
    assert!(refused.contains("message.max.bytes = 1000\n  mend: --batch-size=1000, or a topic"), "{refused}");
    assert_eq!(told(1000, Some("1000"), false), Ok(()));
    assert_eq!(told(1001, Some("1000"), true), Ok(()), "its own limit counts");
    assert_eq!(told(1001, None, false), Ok(()), "who may not ask goes on");
}

#[test]
fn what_ends_the_run_while_a_broker_is_silent_is_told() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let words = format!("--target kafka://{}/t", silent.local_addr().unwrap());
    let plan: Arc<RunPlan> = match parse(words.split(' ').map(Into::into), [], &Deps::new(|| Ok(()))) {
        Ok(Command::Run(plan)) => Arc::from(plan),
        other => panic!("{other:?}"),
    };
    let stop = Stop::default();
    stop.because("the log thread failed");
    let fatal = prepare(&plan, &stop).unwrap_err();
    assert!(fatal.exit == Exit::Host && fatal.what.contains("the log thread failed"), "{fatal}");
}
