//! Kafka topics, read from a broker in memory.

use super::*;
use crate::connect::kafka::testing::{self, Asked, Fake, Log, Message, client};
use crate::connect::kafka::{Cluster, Dial};
use crate::wire::kafka::batch;
use crate::wire::kafka::codec::{Codec, Deflater};
use kafka_protocol::messages::FetchRequest;
use proptest::prelude::*;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

pub(super) const FETCH: i16 = 1;
pub(super) const DELETE: &[(&str, &str)] = &[("cleanup.policy", "delete"), ("retention.ms", "1000")];

pub(super) fn message(sequence: u64) -> Message {
    (record_of("run", 0, sequence, length_of(sequence)), Vec::new())
}

pub(super) fn messages(sequences: impl IntoIterator<Item = u64>) -> Vec<Message> {
    sequences.into_iter().map(message).collect()
}

pub(super) fn read_as(log: Log, args: &VerifyArgs) -> Findings {
    read_from(args, move || log.clone().serve("t"))
}

/// Each connection is answered by a broker of its own.
pub(super) fn read_from<B>(args: &VerifyArgs, broker: impl Fn() -> B + Send + Sync + 'static) -> Findings
where
    B: FnMut(&Asked) -> Option<Vec<u8>> + Send + 'static,
{
    let broker = Arc::new(broker);
    let cluster = || {
        let broker = broker.clone();
        let dial: Dial<Fake> = Box::new(move |_, _, _| Ok(Fake::new(broker())));
        Cluster::new(vec![("boot".to_owned(), 1)], client(), dial)
    };
    let progress = ReadProgress::default();
    let mut session = Session::new(args, &progress).unwrap();
    session.read_topic(&cluster, "t", Duration::from_secs(5)).unwrap();
    assert_eq!(progress.bytes_read(), session.ledger.findings.bytes);
    session.finish("kafka://boot:1/t", Instant::now())
}

pub(super) fn read(log: Log) -> Findings {
    read_as(log, &VerifyArgs::default())
}

/// Batches of five, dealt to the partitions in turn, fetched in pieces that cut batches.
pub(super) fn dealt(records: u64, partitions: usize) -> Log {
    let mut log = Log { fetch_bytes: 2500, ..Log::default() };
    for batch in 0..records / 5 {
        log.put(batch as usize % partitions, &messages(batch * 5..batch * 5 + 5), 1000 + batch as i64);
    }
    log
}

#[test]
fn a_producer_with_several_partitions_is_whole() {
    for partitions in [1, 3] {
        let findings = read(dealt(200, partitions));
        assert_clean(&findings, 200);
        assert_eq!((findings.sources, findings.producers.len()), (partitions as u64, 1));
    }
}

#[test]
fn gaps_and_duplicates_are_judged_over_all_partitions() {
    let mut log = Log { settings: DELETE, ..Log::default() };
    for (partition, sequences) in [(0, 0..5), (1, 10..15), (2, 15..20), (0, 20..25)] {
        log.put(partition, &messages(sequences), 1);
    }
    let findings = read(log);
    let gap = only(&findings, Kind::Gap);
    assert_eq!((gap.first_sequence, gap.last_sequence), (Some(5), Some(9)));

    let mut log = dealt(30, 3);
    log.put(2, &messages([7, 8]), 2000);
    let findings = read(log);
    let doubled = only(&findings, Kind::Duplicate);
    assert_eq!((doubled.first_sequence, doubled.last_sequence), (Some(7), Some(8)));
    assert_eq!((doubled.source.as_deref(), doubled.offset), (Some("partition 2 of t"), Some(10)));
    assert!(findings.summary().contains("(partition 2 of t, offset 10)"), "{}", findings.summary());
}

#[test]
fn order_is_judged_within_a_partition() {
    let mut log = Log { fetch_bytes: 9000, ..Log::default() };
    log.put(0, &messages([0, 1, 5, 6, 2, 3, 4]), 1);
    let findings = read(log);
    let late = only(&findings, Kind::Reordered);
    assert_eq!((late.first_sequence, late.last_sequence, late.offset), (Some(2), Some(4), Some(4)));
    // A batch that was sent again, without idempotence: late, but neither missing nor doubled.
    let mut log = Log { fetch_bytes: 9000, ..Log::default() };
    for sequences in [0..5, 10..15, 15..20, 5..10, 20..25] {
        log.put(0, &messages(sequences), 1);
    }
    let findings = read(log);
    let late = only(&findings, Kind::Reordered);
    assert_eq!((late.first_sequence, late.last_sequence), (Some(5), Some(9)));
    assert_eq!(kinds(&findings), [Kind::Reordered]);
    // In another partition the same sequences are in order, though they are read later.
    let mut log = Log { fetch_bytes: 9000, ..Log::default() };
    log.put(0, &messages([0, 1, 5, 6]), 1);
    log.put(1, &messages([2, 3, 4]), 9);
    assert_clean(&read(log), 7);
}

#[test]
fn damage_is_found_where_it_is() {
    let mut log = dealt(30, 1);
    let (_, _, batch) = &mut log.partitions[0][2];
    let last = batch.len() - 3;
    batch[last] ^= 1;
    let findings = read(log);
    let corrupt = only(&findings, Kind::Corrupt);
    assert_eq!((corrupt.records, corrupt.offset), (5, Some(10)));
    assert!(corrupt.what.contains("CRC"), "{}", corrupt.what);
    assert_eq!(only(&findings, Kind::Gap).first_sequence, Some(10));

    // The broker is content with a record that was damaged before it was sent.
    let mut damaged = message(3);
    damaged.0[70] ^= 1;
    let mut log = Log { fetch_bytes: 9000, ..Log::default() };
    log.put(0, &[message(0), message(1), message(2), damaged, message(4)], 1);
    let findings = read(log);
    assert_eq!(kinds(&findings), [Kind::Corrupt]);
    let corrupt = only(&findings, Kind::Corrupt);
    assert_eq!((corrupt.first_sequence, corrupt.offset), (Some(3), Some(3)));

    // At the head of a batch it is what follows that tells.
    let [mut head, mut next] = [5, 6].map(message);
    (head.0[70], next.0[70]) = (head.0[70] ^ 1, next.0[70] ^ 1);
    let mut log = Log { fetch_bytes: 9000, ..Log::default() };
    log.put(0, &messages(0..5), 1);
    log.put(1, &[head, next, message(7), message(8)], 2);
    log.put(0, &messages(9..14), 3);
    let findings = read(log);
    assert_eq!(kinds(&findings), [Kind::Corrupt], "{}", findings.summary());
    assert_eq!(findings.count(Kind::Corrupt).findings, 2);

    let mut log = Log { fetch_bytes: 9000, ..Log::default() };
    let cut = (message(1).0[..80].to_vec(), Vec::new());
    log.put(0, &[message(0), cut, (b"hello".to_vec(), Vec::new()), (Vec::new(), Vec::new())], 1);
    let findings = read(log);
    assert_eq!(kinds(&findings), [Kind::Unrecognised, Kind::Truncated]);
    assert_eq!(findings.count(Kind::Unrecognised).records, 2);
}

#[test]
fn a_log_that_cannot_be_followed_ends_the_partition() {
    let mut log = dealt(20, 1);
    log.partitions[0][1].2[16] = 1;
    let findings = read(log);
    let malformed = only(&findings, Kind::Malformed);
    assert!(malformed.what.contains("format 1") && malformed.offset == Some(5), "{malformed:?}");
    let mut log = dealt(20, 1);
    log.partitions[0][0].2[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    assert_eq!(only(&read(log), Kind::Malformed).offset, Some(0));
}

#[test]
fn several_producers_share_a_partition() {
    let mut log = Log { fetch_bytes: 1000, ..Log::default() };
    for batch in 0..20u64 {
        let of = |producer| (record_of("run", producer, batch, 100), Vec::new());
        log.put(0, &[of(0), of(1), of(1).clone()][..if batch == 7 { 3 } else { 2 }], 1);
    }
    let findings = read(log);
    assert_eq!((findings.producers.len(), findings.count(Kind::Duplicate).records), (2, 1));
    assert_eq!(kinds(&findings), [Kind::Duplicate]);
}

#[test]
fn facts_in_headers_count_too() {
    let with = |sequence: u64, crc: u32| {
        let facts = [
            ("run_id", format!("{:020}", record::run_id_hash("run"))),
            ("producer_id", "0".to_owned()),
            ("sequence", sequence.to_string()),
            ("crc32c", crc.to_string()),
        ];
        (b"plain".to_vec(), facts.map(|(name, value)| (name.to_owned(), value)).to_vec())
    };
    let crc = crc32c::checksum(b"plain");
    let mut log = Log { fetch_bytes: 9000, ..Log::default() };
    log.put(0, &[with(0, crc), with(1, crc), with(2, crc ^ 1), with(4, crc)], 1);
    let findings = read_as(log, &VerifyArgs { run_id: Some("run".to_owned()), ..VerifyArgs::default() });
    assert_eq!(kinds(&findings), [Kind::Gap, Kind::Corrupt]);
    assert_eq!(only(&findings, Kind::Gap).first_sequence, Some(3));
    // They sign nothing.
    let mut log = Log { fetch_bytes: 9000, ..Log::default() };
    log.put(0, &[with(0, crc), with(1, crc)], 1);
    let with_key = VerifyArgs { sign_key: Some(SIGN_KEY), run_id: Some("run".to_owned()), ..VerifyArgs::default() };
    assert_eq!(read_as(log, &with_key).count(Kind::Forged).records, 2);
}

#[test]
fn a_run_id_may_be_a_number() {
    let of_run = |run: &str, sequence: u64| {
        let facts = [("run_id", run.to_owned()), ("producer_id", "0".to_owned()), ("sequence", sequence.to_string())];
        (b"plain".to_vec(), facts.map(|(name, value)| (name.to_owned(), value)).to_vec())
    };
    let log = || {
        let mut log = Log { fetch_bytes: 9000, ..Log::default() };
        log.put(0, &[of_run("20261129", 0), of_run("20261129", 1)], 1);
        log
    };
    let folder = TempDir::new().unwrap();
    let report = folder.path().join("report.json");
    let text =
        r#"{"run_id":"20261129","producers":[{"id":0,"records_produced":2,"first_sequence":0,"last_sequence":1}]}"#;
    std::fs::write(&report, text).unwrap();
    assert_clean(&read_as(log(), &VerifyArgs { expect: vec![report], ..VerifyArgs::default() }), 2);
    assert_clean(&read_as(log(), &VerifyArgs { run_id: Some("20261129".to_owned()), ..VerifyArgs::default() }), 2);
    let findings = read(log());
    assert_clean(&findings, 2);
    assert_eq!(findings.producers[0].run_id_hash, format!("{:#018x}", record::run_id_hash("20261129")));
    // The same number, but not the same run.
    let mut other = log();
    other.put(0, &[of_run("020261129", 2)], 1);
    let findings = read(other);
    assert_eq!(only(&findings, Kind::Foreign).records, 1);
    assert!(findings.summary().starts_with("OTHER RUNS: 3 records"), "{}", findings.summary());
}

#[test]
fn signatures_and_reports_hold_for_topics() {
    let signed = |sequence| (seal("run", 0, sequence, 200, Some(SIGN_KEY)), Vec::new());
    let mut log = Log { fetch_bytes: 9000, ..Log::default() };
    log.put(0, &[signed(0), message(1), signed(2)], 1);
    let args = VerifyArgs { sign_key: Some(SIGN_KEY), ..VerifyArgs::default() };
    assert_eq!(only(&read_as(log.clone(), &args), Kind::Forged).first_sequence, Some(1));
    assert_clean(&read(log), 3);

    let folder = TempDir::new().unwrap();
    let report = folder.path().join("report.json");
    let text = r#"{"run_id":"run","producers":[{"id":0,"records_produced":25,"first_sequence":0,"last_sequence":24}]}"#;
    std::fs::write(&report, text).unwrap();
    let args = VerifyArgs { expect: vec![report], ..VerifyArgs::default() };
    assert_clean(&read_as(dealt(25, 2), &args), 25);
    let absent = read_as(dealt(20, 2), &args);
    assert_eq!(only(&absent, Kind::Absent).first_sequence, Some(20));
    // A topic without anything is no proof.
    let empty = Log { partitions: vec![Vec::new()], fetch_bytes: 1, ..Log::default() };
    assert_eq!(kinds(&read(empty)), [Kind::Nothing]);
}

/// A log in which everything goes wrong at once.
fn spoiled() -> Log {
    let mut log = dealt(600, 7);
    log.put(2, &messages([7, 8, 600]), 2000);
    log.partitions[3].remove(4);
    let (_, _, batch) = &mut log.partitions[5][2];
    let last = batch.len() - 3;
    batch[last] ^= 1;
    log.put(6, &[(b"hello".to_vec(), Vec::new()), message(601), message(599)], 2000);
    log
}

#[test]
fn many_threads_find_what_one_finds() {
    let found = |threads| {
        let findings = read_as(spoiled(), &VerifyArgs { threads, ..VerifyArgs::default() });
        assert!(!findings.clean);
        (findings.records, findings.bytes, format!("{:?} {:?}", findings.damage, findings.explained))
    };
    let by_one = found(1);
    for threads in [2, 3, 7, 20] {
        assert_eq!(found(threads), by_one, "{threads} threads");
    }
}

/// Before Kafka 3.8 a broker reads a segment of remote storage only for as long as the fetch may wait.
#[test]
fn a_broker_has_the_time_to_read_from_remote_storage() {
    let log = dealt(20, 1);
    let mut cancelled = log.clone();
    cancelled.partitions[0].iter_mut().for_each(|(.., batch)| batch.clear());
    let broker = move || {
        let (log, cancelled) = (log.clone(), cancelled.clone());
        move |asked: &Asked| {
            let is_hasty = asked.key == FETCH && asked.decode::<FetchRequest>().max_wait_ms < 500;
            let of = if is_hasty { &cancelled } else { &log };
            Some(of.answer("t", asked))
        }
    };
    assert_clean(&read_from(&VerifyArgs::default(), broker), 20);
}

#[test]
fn partitions_are_read_side_by_side() {
    let log = dealt(40, 2);
    let together = Arc::new((Mutex::new(0), Condvar::new()));
    let met = together.clone();
    let broker = move || {
        let (log, met, mut is_first) = (log.clone(), met.clone(), true);
        move |asked: &Asked| {
            // The first fetch of each connection waits for that of the other one.
            if asked.key == FETCH && std::mem::take(&mut is_first) {
                let mut fetching = met.0.lock().unwrap();
                *fetching += 1;
                met.1.notify_all();
                let patience = Duration::from_secs(20);
                drop(met.1.wait_timeout_while(fetching, patience, |fetching| *fetching < 2).unwrap());
            }
            Some(log.answer("t", asked))
        }
    };
    let began = Instant::now();
    assert_clean(&read_from(&VerifyArgs { threads: 2, ..VerifyArgs::default() }, broker), 40);
    assert_eq!(*together.0.lock().unwrap(), 2);
    assert!(began.elapsed() < Duration::from_secs(20), "they waited for each other in vain");
}

#[test]
fn a_topic_gets_few_threads_where_nobody_says_how_many() {
    let log = dealt(480, 96);
    for (threads, clients) in [(0, limits::VERIFY_TOPIC_THREADS_DEFAULT), (12, 12)] {
        let opened = std::cell::Cell::new(0);
        let cluster = || {
            opened.set(opened.get() + 1);
            let log = log.clone();
            let dial: Dial<Fake> = Box::new(move |_, _, _| Ok(Fake::new(log.clone().serve("t"))));
            Cluster::new(vec![("boot".to_owned(), 1)], client(), dial)
        };
        let (args, progress) = (VerifyArgs { threads, ..VerifyArgs::default() }, ReadProgress::default());
        let mut session = Session::new(&args, &progress).unwrap();
        if threads == 0 {
            session.threads = 96;
        }
        session.read_topic(&cluster, "t", Duration::from_secs(5)).unwrap();
        assert_eq!(opened.get(), clients, "--threads {threads}");
        assert_clean(&session.finish("kafka://boot:1/t", Instant::now()), 480);
    }
}

/// Beyond what each thread may unpack at any time.
#[test]
fn batches_of_any_size_are_read() {
    let mut log = Log { fetch_bytes: 9000, ..Log::default() };
    for partition in 0..2 {
        let sequence = partition as u64;
        let mut bytes = testing::batch(0, &[(record_of("run", 0, sequence, 17 << 20), Vec::new())], 1);
        pack(&mut bytes);
        log.put_batch(partition, 1, |_| bytes);
    }
    assert_clean(&read_as(log, &VerifyArgs { threads: 2, ..VerifyArgs::default() }), 2);
}

/// Compresses the records of a batch with zstd.
fn pack(bytes: &mut Vec<u8>) {
    let plain = bytes.split_off(batch::HEADER_BYTES);
    Deflater::new(Codec::Zstd, None).unwrap().deflate_to_vec(&plain, bytes).unwrap();
    let length = (bytes.len() - batch::LENGTH_EXCLUDES) as u32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[22] = 4;
    let crc = crc32c::checksum(&bytes[batch::CRC_COVERS_FROM..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn it_is_known_how_many_offsets_there_are() {
    let mut log = dealt(100, 3);
    log.partitions[0].drain(..2);
    let cluster = || {
        let log = log.clone();
        let dial: Dial<Fake> = Box::new(move |_, _, _| Ok(Fake::new(log.clone().serve("t"))));
        Cluster::new(vec![("boot".to_owned(), 1)], client(), dial)
    };
    let (args, progress) = (VerifyArgs::default(), ReadProgress::default());
    let mut session = Session::new(&args, &progress).unwrap();
    session.read_topic(&cluster, "t", Duration::from_secs(5)).unwrap();
    assert_eq!(progress.offsets(), Some((90, 90)));
    // Where ids come after it, the end of the topic is not that of all.
    let (args, progress) = (VerifyArgs { ids: Some("-".to_owned()), ..VerifyArgs::default() }, ReadProgress::default());
    let mut session = Session::new(&args, &progress).unwrap();
    session.read_topic(&cluster, "t", Duration::from_secs(5)).unwrap();
    assert_eq!(progress.offsets(), None);
}

#[test]
fn a_thread_that_fails_ends_the_reading_with_its_words() {
    let log = dealt(40, 2);
    let broker = move || {
        let log = log.clone();
        // The connection ends at each fetch of the second partition.
        move |asked: &Asked| {
            let is_bad = asked.key == FETCH && asked.decode::<FetchRequest>().topics[0].partitions[0].partition == 1;
            (!is_bad).then(|| log.answer("t", asked))
        }
    };
    let cluster = || {
        let broker = broker.clone();
        let dial: Dial<Fake> = Box::new(move |_, _, _| Ok(Fake::new(broker())));
        Cluster::new(vec![("boot".to_owned(), 1)], client(), dial)
    };
    for threads in [1, 2] {
        let (args, progress) = (VerifyArgs { threads, ..VerifyArgs::default() }, ReadProgress::default());
        let mut session = Session::new(&args, &progress).unwrap();
        let fatal = session.read_topic(&cluster, "t", Duration::from_millis(50)).unwrap_err();
        assert!(fatal.exit == Exit::Failed && fatal.what.contains("fetching"), "{threads} threads: {fatal}");
    }
}

#[test]
fn a_batch_of_many_odd_messages_is_read_in_parts() {
    let mut log = Log { fetch_bytes: 9000, ..Log::default() };
    let odd: Vec<Message> = (0..100_000).map(|_| (b"x".to_vec(), Vec::new())).collect();
    log.put(0, &odd, 1);
    log.put(0, &messages(0..5), 2);
    let bytes: usize = log.partitions[0].iter().map(|(.., batch)| batch.len()).sum();
    let findings = read(log);
    assert_eq!((findings.count(Kind::Unrecognised).records, findings.records), (100_000, 5));
    assert_eq!(findings.bytes, bytes as u64, "no batch counts twice");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_logs_never_panic_or_stall(at in any::<prop::sample::Index>(), to in any::<u8>(), fetch in 100usize..4000) {
        let mut log = dealt(40, 2);
        log.fetch_bytes = fetch;
        let batch = &mut log.partitions[0][1].2;
        let at = at.index(batch.len());
        let harmless = batch[at] == to || (12..16).contains(&at);
        batch[at] = to;
        let findings = read(log);
        // The leader's epoch is outside the checksum and means nothing here; a base offset may hide a batch.
        prop_assert!(findings.clean == harmless || at < 12, "byte {at}: {}", findings.summary());
    }
}
