//! Topics of which the broker has removed something, or holds something back: that is not damage, and no proof either.

use super::topics::{DELETE, FETCH, dealt, message, messages, read, read_as, read_from};
use super::*;
use crate::connect::kafka::testing::{Asked, Fake, Log, Message, client, encode, marker, records, transactional};
use crate::connect::kafka::{Cluster, Dial};
use std::time::Duration;

const COMPACT: &[(&str, &str)] = &[("cleanup.policy", "compact")];

#[track_caller]
fn assert_explained(findings: &Findings, part: &str) {
    assert!(findings.explained.iter().any(|line| line.contains(part)), "'{part}': {:?}", findings.explained);
}

#[track_caller]
fn assert_unproved(findings: &Findings, sequences: (u64, u64), what: &str) {
    assert_eq!(kinds(findings), [Kind::Unproved], "{}", findings.summary());
    let finding = only(findings, Kind::Unproved);
    assert_eq!((finding.first_sequence, finding.last_sequence), (Some(sequences.0), Some(sequences.1)));
    assert!(finding.what.contains(what), "{}", finding.what);
    assert_eq!((findings.exit(), findings.summary().starts_with("INCOMPLETE")), (Exit::Failed, true));
}

/// A report in a folder that says that so many records were produced.
fn promise(produced: u64) -> (TempDir, VerifyArgs) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("report.json");
    let producer = serde_json::json!({"id": 0, "records_produced": produced, "first_sequence": 0,
        "last_sequence": produced - 1});
    std::fs::write(&path, serde_json::json!({"run_id": "run", "producers": [producer]}).to_string()).unwrap();
    (folder, VerifyArgs { expect: vec![path], ..VerifyArgs::default() })
}

#[test]
fn what_retention_took_is_not_called_lost() {
    // All that is there is whole, and nobody said that there was more.
    let mut log = Log { settings: DELETE, ..dealt(30, 1) };
    log.partitions[0].drain(..2);
    let findings = read(log.clone());
    assert_clean(&findings, 20);
    assert_explained(&findings, "partition 0 of t starts at offset 10: what was before is removed by retention");
    assert_explained(&findings, "cleanup.policy=delete, retention.ms=1000");
    // A report did.
    let (_folder, args) = promise(30);
    assert_unproved(&read_as(log.clone(), &args), (0, 9), "removed by retention");
    // Behind what was removed, what is missing is lost.
    log.partitions[0].remove(1);
    let findings = read_as(log, &args);
    assert_eq!(kinds(&findings), [Kind::Absent, Kind::Unproved]);
    assert_eq!(only(&findings, Kind::Absent).first_sequence, Some(15));
    assert!(findings.summary().starts_with("DAMAGED"), "{}", findings.summary());
}

#[test]
fn partitions_lose_their_beginnings_one_by_one() {
    let mut log = Log { settings: DELETE, ..dealt(60, 3) };
    log.partitions[1].drain(..2);
    let findings = read(log);
    assert_eq!(kinds(&findings), [Kind::Unproved], "{}", findings.summary());
    assert_eq!(findings.count(Kind::Unproved).records, 10);
    // One of which nothing is left.
    let mut log = Log { settings: DELETE, ..dealt(60, 3) };
    let gone = log.partitions[1].pop().unwrap();
    log.partitions[1] = vec![(gone.1, gone.1, Vec::new())];
    let findings = read(log);
    assert_eq!((kinds(&findings), findings.count(Kind::Unproved).records), (vec![Kind::Unproved], 20));
}

#[test]
fn another_producers_partition_explains_nothing() {
    let of = |producer, sequence| (record_of("run", producer, sequence, 100), Vec::new());
    let mut log = Log { settings: DELETE, fetch_bytes: 9000, ..Log::default() };
    for producer in 0..2 {
        for from in [0, 5, 10] {
            let batch: Vec<_> = (from..from + 5).map(|sequence| of(producer, sequence)).collect();
            log.put(producer as usize, &batch, 1);
        }
    }
    // Producer 1 lost its beginning to retention, producer 0 something in its middle.
    log.partitions[1].remove(0);
    log.partitions[0].remove(1);
    let findings = read(log);
    let gap = only(&findings, Kind::Gap);
    assert_eq!((kinds(&findings), gap.producer_id, gap.first_sequence), (vec![Kind::Gap], Some(0), Some(5)));
    assert_explained(&findings, "5 offsets between 5 and 9: not there, which nothing explains");
}

#[test]
fn another_topic_explains_nothing_in_whatever_order() {
    let of = |producer, from: u64| -> Vec<Message> {
        (from..from + 5).map(|sequence| (record_of("run", producer, sequence, 100), Vec::new())).collect()
    };
    let [mut drained, mut holed] = [(); 2].map(|()| Log { settings: DELETE, fetch_bytes: 9000, ..Log::default() });
    for from in [0, 5, 10] {
        drained.put(0, &of(0, from), 1);
        holed.put(0, &of(1, from), 1);
    }
    drained.partitions[0].remove(0);
    holed.partitions[0].remove(1);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("report.json");
    let producers = [0, 1]
        .map(|id| serde_json::json!({"id": id, "records_produced": 15, "first_sequence": 0, "last_sequence": 14}));
    std::fs::write(&path, serde_json::json!({"run_id": "run", "producers": producers}).to_string()).unwrap();
    let args = VerifyArgs { expect: vec![path], ..VerifyArgs::default() };
    for logs in [[&drained, &holed], [&holed, &drained]] {
        let progress = ReadProgress::default();
        let mut session = Session::new(&args, &progress).unwrap();
        for log in logs.map(Log::clone) {
            let cluster = || {
                let log = log.clone();
                let dial: Dial<Fake> = Box::new(move |_, _, _| Ok(Fake::new(log.clone().serve("t"))));
                Cluster::new(vec![("boot".to_owned(), 1)], client(), dial)
            };
            session.read_topic(&cluster, "t", Duration::from_secs(5)).unwrap();
        }
        let findings = session.finish("both", Instant::now());
        assert_eq!(kinds(&findings), [Kind::Absent, Kind::Unproved], "{}", findings.summary());
        let absent = only(&findings, Kind::Absent);
        assert_eq!((absent.producer_id, absent.first_sequence, absent.last_sequence), (Some(1), Some(5), Some(9)));
    }
}

#[test]
fn compaction_leaves_out_batches_and_records() {
    let compacted = |settings: &'static [(&'static str, &'static str)]| {
        let mut log = Log { settings, fetch_bytes: 9000, ..Log::default() };
        log.put(0, &messages(0..5), 1);
        log.put_batch(0, 5, |base| {
            let mut kept = records(base, &messages(5..10), 2);
            kept.remove(2);
            encode(base, &kept)
        });
        log.put(0, &messages(10..15), 3);
        log.put(0, &messages(15..20), 4);
        log.partitions[0].remove(2);
        log
    };
    let findings = read(compacted(COMPACT));
    assert_eq!((kinds(&findings), findings.count(Kind::Unproved).records), (vec![Kind::Unproved], 6));
    assert!(findings.damage.iter().all(|finding| finding.what.contains("removed by compaction")));
    assert_explained(&findings, "6 offsets between 7 and 14: removed by compaction (cleanup.policy=compact)");
    // Who may not ask for the settings does not know better; who knows that nothing is compacted, does.
    let findings = read(compacted(&[]));
    assert_eq!(kinds(&findings), [Kind::Unproved]);
    assert_explained(&findings, "the broker does not tell its settings");
    assert_eq!(kinds(&read(compacted(DELETE))), [Kind::Gap]);
}

#[test]
fn aborted_transactions_and_marks_count_for_nothing() {
    let mut log = Log { settings: DELETE, fetch_bytes: 700, ..Log::default() };
    log.put_batch(0, 2, |base| transactional(base, &messages([0, 1]), 7));
    log.put_batch(0, 1, |base| marker(base, 7, 1));
    log.put_batch(0, 2, |base| transactional(base, &messages([2, 3]), 7));
    log.put_batch(0, 2, |base| transactional(base, &messages([2, 3]), 8));
    log.put_batch(0, 1, |base| marker(base, 7, 0));
    log.put_batch(0, 1, |base| marker(base, 8, 1));
    // The same producer again, in a transaction that was committed.
    log.put_batch(0, 1, |base| transactional(base, &[message(4)], 7));
    log.put_batch(0, 1, |base| marker(base, 7, 1));
    log.put(0, &[message(5)], 1);
    log.aborted = vec![(7, 3, 7)];
    let findings = read(log.clone());
    assert_clean(&findings, 6);
    assert_explained(&findings, "partition 0 of t: not counted: 2 records of aborted transactions");
    // Without the broker's word they are records like others.
    log.aborted.clear();
    assert_eq!(only(&read(log), Kind::Duplicate).records, 2);
}

#[test]
fn an_open_transaction_is_not_read_and_said() {
    let mut log = Log { settings: DELETE, fetch_bytes: 9000, stable_end: Some(5), ..Log::default() };
    log.put(0, &messages(0..5), 1);
    log.put_batch(0, 2, |base| transactional(base, &messages([5, 6]), 7));
    log.put(0, &[message(7)], 1);
    let findings = read(log.clone());
    assert_clean(&findings, 5);
    assert_explained(&findings, "not read: 3 offsets from 5 on, held back by an open transaction");
    let (_folder, args) = promise(8);
    assert_unproved(&read_as(log, &args), (5, 7), "held back by an open transaction");
}

/// The log is `after` from the third fetch on.
fn changes(before: Log, after: Log) -> impl FnMut(&Asked) -> Option<Vec<u8>> + Send + 'static {
    let mut fetches = 0;
    move |asked| {
        fetches += u32::from(asked.key == FETCH);
        let log = if fetches < 3 { &before } else { &after };
        Some(log.answer("t", asked))
    }
}

#[test]
fn what_goes_while_it_is_read_is_jumped_over() {
    let before = Log { settings: DELETE, fetch_bytes: 1, ..dealt(1000, 1) };
    let mut after = before.clone();
    after.partitions[0].drain(..190);
    let findings = read_from(&VerifyArgs::default(), move || changes(before.clone(), after.clone()));
    assert_unproved(&findings, (10, 949), "removed by retention");
    assert_explained(&findings, "partition 0 of t: offsets 10 to 949 were removed by retention while it was read");
    assert_eq!(findings.records, 60);
}

#[test]
fn a_log_that_is_cut_back_while_it_is_read_is_damage_once() {
    let before = Log { settings: DELETE, fetch_bytes: 1, ..dealt(1000, 1) };
    for (batches, lost) in [(1, 990), (2, 990), (4, 980)] {
        let (before, mut after) = (before.clone(), before.clone());
        after.partitions[0].truncate(batches);
        let args = VerifyArgs::default();
        let findings = read_from(&args, move || changes(before.clone(), after.clone()));
        assert_eq!(kinds(&findings), [Kind::Truncated], "{}", findings.summary());
        let cut = only(&findings, Kind::Truncated);
        assert_eq!((cut.records, cut.offset), (lost, Some(batches as u64 * 5)), "{}", cut.what);
        assert!(cut.what.contains("had ended before offset 1000"), "{}", cut.what);
    }
}
