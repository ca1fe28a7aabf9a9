//! The broker for calibration, asked by our own client, by rskafka and by librdkafka's kcat.

use crate::harness::{Live, Scratch, feed};
use crate::receive::{Receiver, number};
use crate::server::reserved;
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, OffsetAt, UnknownTopicHandling};
use rskafka::record::Record;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

/// What was found is of the bytes that were received.
#[track_caller]
fn bytes_agree(report: &Value) {
    assert_eq!(number(&report["findings"], "bytes"), number(report, "bytes_received"), "{report:#}");
}

/// A receiver and a run against it: the receiver's report and the run's.
fn produced(receive: &str, words: &str) -> (Value, Value) {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, &format!("--listen kafka://:0 --report - {receive}"));
    let run = scratch.report(&format!("--target kafka://{}/topic --seed 9 {words}", receiver.address));
    let (ended, report) = receiver.stopped();
    assert_eq!(ended.code(), 0, "{ended}\n{report:#}");
    (report, run)
}

fn records(run: &Value) -> u64 {
    number(&run["totals"], "records_produced")
}

#[test]
fn our_own_client_is_counted_and_checked() {
    for (receive, checked) in [
        ("", Some(false)),
        ("--cores 0", Some(false)),
        ("--verify", Some(true)),
        ("--verify --cores 0", Some(true)),
        ("--verify-every 7", None),
    ] {
        for words in [
            "--payload-size 1000 --records 20000 --parallel 3 --partitions 6 --acks 1",
            "--payload-size 100-3000 --records 3000 --acks all --compression lz4",
            "--payload-size 500 --records 5000 --acks 0 --batch-size 20000",
        ] {
            let (report, run) = produced(receive, words);
            let batches = &report["batches"];
            assert_eq!(number(&report, "records_received"), records(&run), "{receive} {words}: {report:#}");
            assert_eq!(number(batches, "batches_refused") + number(batches, "batches_doubled"), 0);
            assert_eq!(number(&report, "malformed_requests") + number(&report, "aborted_requests"), 0);
            let (all, seen) = (number(batches, "batches"), number(batches, "batches_checked"));
            match checked {
                Some(whole) => assert_eq!(seen, if whole { all } else { 0 }, "{report:#}"),
                None => assert!(seen > 0 && (all < 7 || seen < all), "{report:#}"),
            }
            assert_eq!(report["findings"]["clean"].as_bool(), (checked != Some(false)).then_some(true));
            if checked == Some(true) {
                bytes_agree(&report);
            }
        }
    }
}

#[test]
fn the_rate_is_of_the_time_in_which_records_came() {
    const APART: Duration = Duration::from_millis(400);
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen kafka://:0 --report -");
    // ApiVersions, long before and long after the records.
    let asks = || {
        let mut stream = receiver.connect();
        stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]).unwrap();
        let mut size = [0; 4];
        stream.read_exact(&mut size).unwrap();
        stream.read_exact(&mut vec![0; u32::from_be_bytes(size) as usize]).unwrap();
        stream
    };
    let passes = |mut stream: std::net::TcpStream| {
        stream.set_read_timeout(Some(APART)).unwrap();
        assert!(stream.read(&mut [0]).is_err(), "nothing more comes");
    };
    passes(asks());
    let run = scratch.report(&format!("--target kafka://{}/t --records 100 --payload-size 200", receiver.address));
    assert_eq!(records(&run), 100);
    passes(asks());
    drop(asks());
    let (_, report) = receiver.stopped();
    assert!(report["seconds_active"].as_f64().unwrap() < APART.as_secs_f64(), "{report:#}");
}

#[test]
fn what_goes_wrong_loses_and_doubles_nothing_of_an_idempotent_producer() {
    let fault = "--seed 4 --fault reset:2%,lose_answer:3%,error=6:2%,delay=1ms:3%";
    for receive in ["--verify", "--verify --cores 0", ""] {
        let words = "--records 1200 --payload-size 1000 --batch-size 20000 --acks all --idempotent on --retry 1000";
        let (report, run) = produced(&format!("{receive} {fault}"), words);
        assert_eq!(records(&run), 1200);
        assert_eq!(number(&report, "records_received"), 1200, "{report:#}");
        let (faults, batches) = (&report["faults"], &report["batches"]);
        for name in ["reset", "lose_answer", "error=6"] {
            assert!(number(faults, name) > 0, "{name}: {report:#}");
        }
        assert!(number(batches, "batches_doubled") > 0 && number(batches, "batches_refused") > 0, "{report:#}");
        let refused = (number(&report, "refused_requests"), number(batches, "batches_refused"));
        assert_eq!(refused.0, refused.1, "one batch in each: {report:#}");
        if receive.contains("--verify") {
            bytes_agree(&report);
        }
    }
}

#[test]
fn who_refuses_everything_has_received_nothing() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen kafka://:0 --verify --report - --fault error=10:100%");
    let ended = scratch.run(&format!("--target kafka://{}/topic --records 100 --acks 1", receiver.address));
    assert_eq!(ended.code(), 1, "{ended}");
    let (ended, report) = receiver.stopped();
    assert_eq!(ended.code(), 1, "nothing is no proof: {ended}");
    assert_eq!((number(&report, "bytes_received"), number(&report, "requests")), (0, 0), "{report:#}");
    assert!(number(&report, "refused_requests") > 0 && number(&report, "wire_bytes") > 0, "{report:#}");
}

#[test]
fn what_a_broker_refuses_for_now_is_told_once_and_counted() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen kafka://:0 --report - --seed 4 --fault error=19:20%");
    let words = "--parallel 2 --records 1000 --payload-size 1000 --batch-size 10000 --retry 1000,1ms-5ms";
    let to = format!("--target kafka://{}/topic", receiver.address);
    let ended = scratch.run(&format!("{to} {words} --log-format text --report report.json"));
    assert_eq!(ended.code(), 0, "{ended}");
    let told = "first refused batch: NOT_ENOUGH_REPLICAS (19)";
    // What follows from a refusal, OUT_OF_ORDER_SEQUENCE_NUMBER, may be the more frequent one and stand before it.
    ended.says(&[told, "min.insync.replicas", "answers     with an error: ", "NOT_ENOUGH_REPLICAS × "]);
    assert_eq!(ended.stderr.matches("refused batch: ").count(), 1, "once, and not what follows from it: {ended}");
    let totals = &scratch.report_of(&ended, "report.json")["totals"];
    let faults = number(&receiver.stopped().1["faults"], "error=19");
    assert!(faults > 0 && number(totals, "retries") >= faults, "{totals:#}");
    assert_eq!(number(&totals["broker_errors"], "NOT_ENOUGH_REPLICAS"), faults, "{totals:#}");
    assert_eq!((&totals["answers"], &totals["requests"]), (&Value::Null, &Value::Null), "nothing of HTTP");
}

#[test]
fn what_a_broker_refuses_to_the_end_is_no_timeout() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen kafka://:0 --report - --fault error=19:100%");
    let words = "--parallel 1 --partitions 1 --rate 100kB/s --duration 300ms --drain-timeout 200ms";
    let to = format!("--target kafka://{}/topic", receiver.address);
    // One attempt, which is answered long before the end.
    let ended = scratch.run(&format!("{to} {words} --retry 1000,60s-60s --log-format json --report report.json"));
    assert_eq!(ended.code(), 1, "{ended}");
    assert_eq!(ended.stderr.matches("NOT_ENOUGH_REPLICAS (19)").count(), 1, "{ended}");
    let report = scratch.report_of(&ended, "report.json");
    let (totals, errors) = (&report["totals"], &report["errors"]);
    assert!(number(totals, "records_failed") > 0 && number(totals, "records_produced") == 0, "{totals:#}");
    assert_eq!(number(errors, "broker"), number(totals, "records_failed"), "{errors:#}");
    assert_eq!((number(errors, "timeout"), number(totals, "records_uncertain")), (0, 0), "{errors:#}");
    assert_eq!(totals["broker_errors"], json!({"NOT_ENOUGH_REPLICAS": 1}));
    // On a machine that is busy enough its own reason goes first.
    let verdict = &report["verdict"];
    let said = verdict["evidence"][usize::from(verdict["limited_by"] != "target")].as_str().unwrap();
    assert!(said.contains("refused") && said.ends_with("(NOT_ENOUGH_REPLICAS)"), "{said}");
    receiver.stopped();
}

#[test]
fn without_answers_there_are_no_refusals_to_count() {
    let errors = |words: &str| produced("", &format!("--records 100 {words}")).1["totals"]["broker_errors"].clone();
    assert_eq!((errors("--acks 1"), errors("--acks 0")), (json!({}), Value::Null));
}

#[test]
fn a_run_outlives_a_restart() {
    let scratch = Scratch::new();
    let (address, _kept) = reserved();
    let listen = format!("--listen kafka://{address} --report -");
    let receiver = Receiver::start(&scratch, &listen);
    let to = format!("--target kafka://{address}/topic --records 3000 --payload-size 1000 --rate 1MB/s");
    let mut run = Live::start(&mut scratch.engine(&format!("{to} --retry 1000 --report run.json")));
    run.event("interval");
    receiver.stopped();
    let receiver = Receiver::start(&scratch, &listen);
    let ended = run.ended();
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(number(&receiver.stopped().1, "records_received") > 0);
}

#[test]
fn retries_are_counted_for_lost_answers_too() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen kafka://:0 --report - --seed 4 --fault lose_answer:20%");
    let words = "--records 2000 --payload-size 1000 --batch-size 20000 --retry off --report report.json";
    let ended = scratch.run(&format!("--target kafka://{}/topic {words}", receiver.address));
    assert_eq!(ended.code(), 1, "{ended}");
    ended.says(&["at its attempt 1, the last", "a larger --retry"]);
    let totals = &scratch.report_of(&ended, "report.json")["totals"];
    assert!(number(totals, "records_uncertain") > 0, "{totals:#}");
    receiver.stopped();
}

#[test]
fn without_acknowledgements_a_refusal_is_told_as_the_lost_connection_that_it_is() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen kafka://:0 --report - --seed 4 --fault error=10:2%");
    let words = "--acks 0 --parallel 1 --records 2000 --payload-size 1000 --rate 1MB/s --report report.json";
    let ended = scratch.run(&format!("--target kafka://{}/topic {words}", receiver.address));
    let told = "the connection to the leader ended";
    ended.says(&[told, "--acks=1"]);
    assert_eq!(ended.stderr.matches(told).count(), 1, "{ended}");
    let totals = &scratch.report_of(&ended, "report.json")["totals"];
    assert!(number(totals, "reconnects") > 0, "{totals:#}");
    receiver.stopped();
}

#[test]
fn the_report_tells_what_was_read_in_place() {
    for io in ["uring", "syscall"] {
        for (zero_copy, lends) in [("auto", true), ("off", false)] {
            let words = "--payload-size 4096 --records 5000 --parallel 1 --acks 1 --batch-size 1000000";
            let (report, run) = produced("--verify", &format!("{words} --io {io} --zero-copy {zero_copy}"));
            let (lent, wire) = (number(&run["totals"], "lent_bytes"), number(&run["totals"], "wire_bytes"));
            assert!((lent > 0) == lends && lent <= wire, "{io} {zero_copy}: {lent} of {wire}");
            assert_eq!((records(&run), number(&report, "records_received")), (5000, 5000));
        }
    }
}

#[test]
fn nobody_is_told_of_reading_in_place_where_batches_are_too_short_for_it() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen kafka://:0 --report -");
    for (batch_size, lends) in [("16384", false), ("1000000", true)] {
        let words = format!("--payload-size 200 --records 1000 --parallel 1 --batch-size {batch_size}");
        let ended = scratch.run(&format!("--target kafka://{}/topic --create-topic on {words}", receiver.address));
        assert_eq!(ended.code(), 0, "{ended}");
        assert_eq!(ended.stderr.contains("may read batches in place"), lends, "{ended}");
    }
    receiver.stopped();
}

#[test]
fn the_report_tells_how_far_batches_were_compressed() {
    let words = "--payload-size 2000 --records 5000 --compression zstd --compressibility 0.8";
    let ratio = |words| produced("--verify", words).1["payload"]["compression_ratio"].as_f64();
    assert!(ratio(words).is_some_and(|ratio| ratio > 3.0), "{:?}", ratio(words));
    assert_eq!(ratio("--payload-size 2000 --records 100"), None);
}

#[test]
fn a_topic_with_more_partitions_than_a_producer_can_serve_is_refused() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen kafka://:0 --topic-partitions 5000 --report -");
    let to = format!("--target kafka://{}/topic --create-topic off --parallel 1 --records 10", receiver.address);
    let ended = scratch.run(&to);
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["5000 connections", "--parallel=2", "--partitions"]);
    let ended = scratch.run(&format!("{to} --partitions 3"));
    assert_eq!(ended.code(), 0, "{ended}");
    receiver.stopped();
}

#[test]
fn of_a_topic_that_is_there_so_many_partitions_are_used() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen kafka://:0 --topic-partitions 6 --report -");
    for (wanted, code) in [(2, 0), (7, 2)] {
        let to = format!("--target kafka://{}/topic --create-topic off --key none", receiver.address);
        let ended = scratch.run(&format!("{to} --partitions {wanted} --records 4000 --parallel 2"));
        assert_eq!(ended.code(), code, "{ended}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = ClientBuilder::new(vec![receiver.address.clone()]).build().await.unwrap();
        for partition in 0..6 {
            let there = client.partition_client("topic", partition, UnknownTopicHandling::Error).await.unwrap();
            let records = there.get_offset(OffsetAt::Latest).await.unwrap();
            assert_eq!(records > 0, partition < 2, "partition {partition} has {records} records");
        }
    });
    receiver.stopped();
}

/// How many records each partition of a topic was sent.
fn ends(address: &str, topic: &str) -> Vec<i64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = ClientBuilder::new(vec![address.to_owned()]).build().await.unwrap();
        let topics = client.list_topics().await.unwrap();
        let there = topics.into_iter().find(|one| one.name == topic).unwrap_or_else(|| panic!("no topic {topic}"));
        let mut ends = Vec::new();
        for partition in there.partitions {
            let partition = client.partition_client(topic, partition, UnknownTopicHandling::Error).await.unwrap();
            ends.push(partition.get_offset(OffsetAt::Latest).await.unwrap());
        }
        ends
    })
}

#[test]
fn each_of_several_topics_has_its_own_producers_partitions() {
    for (shards, parallel, partitions) in [(1, 4, [2, 2]), (2, 3, [4, 2])] {
        let scratch = Scratch::new();
        let receiver = Receiver::start(&scratch, "--listen kafka://:0 --report -");
        let to = |topic: &str| format!("--target kafka://{}/{topic}", receiver.address);
        for shard in 0..shards {
            let fleet = format!("--run-id fleet --shard {shard}/{shards} --parallel {parallel}");
            let run = scratch.report(&format!("{} {} {fleet} --records 4000", to("one"), to("two")));
            assert_eq!(records(&run), 4000);
        }
        for (topic, partitions) in ["one", "two"].into_iter().zip(partitions) {
            let ends = ends(&receiver.address, topic);
            assert!(ends.len() == partitions && ends.iter().all(|end| *end > 0), "{topic} of {shards}: {ends:?}");
        }
        let (ended, report) = receiver.stopped();
        assert_eq!((ended.code(), number(&report, "records_received")), (0, 4000 * shards), "{ended}\n{report:#}");
    }
}

#[test]
fn once_waits_for_records() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen kafka://:0 --verify --once --report -");
    let run = scratch.report(&format!("--target kafka://{}/t --records 500 --payload-size 200", receiver.address));
    let (ended, report) = receiver.ended();
    assert_eq!((ended.code(), &report["ended_by"]), (0, &"once".into()), "{ended}");
    assert_eq!(number(&report, "records_received"), records(&run));
}

#[test]
fn rskafka_creates_produces_and_asks_for_offsets() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen kafka://:0 --report -");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = ClientBuilder::new(vec![receiver.address.clone()]).build().await.unwrap();
        let controller = client.controller_client().unwrap();
        controller.create_topic("made", 3, 1, 5000).await.unwrap();
        assert!(controller.create_topic("made", 3, 1, 5000).await.is_err(), "it is there");
        let topics = client.list_topics().await.unwrap();
        assert_eq!(topics.iter().map(|topic| topic.partitions.len()).collect::<Vec<_>>(), [3]);
        let partition = client.partition_client("made", 2, UnknownTopicHandling::Error).await.unwrap();
        let record = |value: &[u8]| Record {
            key: None,
            value: Some(value.to_vec()),
            headers: Default::default(),
            timestamp: Default::default(),
        };
        for (compression, first) in [(Compression::NoCompression, 0), (Compression::Zstd, 2)] {
            let offsets = partition.produce(vec![record(b"one"), record(b"two")], compression).await.unwrap();
            assert_eq!(offsets, [first, first + 1]);
        }
        assert_eq!(partition.get_offset(OffsetAt::Latest).await.unwrap(), 4);
        assert_eq!(partition.get_offset(OffsetAt::Earliest).await.unwrap(), 4);
        let (fetched, end) = partition.fetch_records(4, 1..100_000, 50).await.unwrap();
        assert_eq!((fetched.len(), end), (0, 4));
    });
    let (ended, report) = receiver.stopped();
    assert_eq!((ended.code(), number(&report, "records_received")), (0, 4), "{ended}\n{report:#}");
}

#[test]
fn kcat_lists_produces_and_finds_every_partition_empty() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen kafka://:0 --report - --topic-partitions 5");
    let kcat = |words: &str, input: &[u8]| {
        let ended = feed(Command::new("kcat").args(["-b", &receiver.address]).args(words.split_whitespace()), input);
        assert_eq!(ended.code(), 0, "kcat {words}: {ended}");
        String::from_utf8(ended.stdout).unwrap()
    };
    let listed = kcat("-L -t foreign", b"");
    assert!(listed.contains("\"foreign\" with 5 partitions") && listed.contains(&receiver.address), "{listed}");
    let lines: String = (0..1000).map(|at| format!("line {at}\n")).collect();
    for words in ["-X enable.idempotence=true", "-X acks=0", "-X acks=1 -z gzip", "-X acks=all -z lz4", "-z zstd"] {
        kcat(&format!("-P -t foreign -p 3 {words}"), lines.as_bytes());
    }
    assert_eq!(kcat("-C -t foreign -p 3 -o beginning -e -q", b""), "");
    assert!(kcat("-Q -t foreign:3:-1", b"").contains("offset 5000"));
    let (ended, report) = receiver.stopped();
    assert_eq!((ended.code(), number(&report, "records_received")), (0, 5000), "{ended}\n{report:#}");
    assert_eq!(number(&report, "malformed_requests"), 0);
}

#[test]
fn messages_that_are_no_records_are_found() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen kafka://:0 --report - --verify");
    let text = feed(
        Command::new("kcat").args(["-b", &receiver.address, "-P", "-t", "t", "-p", "0"]),
        b"these are no records of ours\n",
    );
    assert_eq!(text.code(), 0, "{text}");
    let (ended, report) = receiver.stopped();
    assert_eq!(ended.code(), 1, "{ended}");
    let found = &report["findings"]["damage"][0];
    assert_eq!((&found["kind"], &found["source"]), (&"unrecognised".into(), &"partition 0 of t".into()), "{report:#}");
}

#[test]
fn flags_that_do_not_fit_are_named() {
    let scratch = Scratch::new();
    let ended = scratch.run("receive --listen kafka://:0 --verify --verify-every 0 --advertise x --fault slow=1s:1%");
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["--verify-every '0'", "--advertise 'x'", "lose_answer", "mend:"]);
    let ended = scratch.run("receive --listen http://:0 --topic-partitions 3");
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["--topic-partitions is for kafka://"]);
}
