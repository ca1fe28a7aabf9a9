//! Time stamps, held against the span of the run that a report tells of.

use super::topics::read_as;
use super::*;
use crate::connect::kafka::testing::{Log, Message};
use crate::record::CRC_OFFSET;
use std::ops::Range;

const SECOND_NS: u64 = 1_000_000_000;
/// 2027-01-15T08:00:00Z
const START_NS: u64 = 1_800_000_000 * SECOND_NS;
const SPAN_NS: u64 = 30 * SECOND_NS;
const LATEST_NS: u64 = START_NS + SPAN_NS + 60 * SECOND_NS;
const RECORDS: u64 = 12;

fn stamped(sequence: u64, unix_ns: u64) -> Vec<u8> {
    let mut bytes = record_of("run", 0, sequence, length_of(sequence));
    let header = Header { timestamp_ns: unix_ns, crc32c: 0, ..Header::decode(&bytes).unwrap() };
    bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
    let crc = crc32c::checksum(&bytes);
    bytes[CRC_OFFSET..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The same facts beside the payload.
fn beside(sequence: u64, unix_ns: u64) -> Message {
    let numbers = [("producer_id", 0), ("sequence", sequence), ("timestamp_ns", unix_ns)];
    let mut facts = numbers.map(|(name, number)| (name.to_owned(), number.to_string())).to_vec();
    facts.push(("run_id".to_owned(), "run".to_owned()));
    (b"plain".to_vec(), facts)
}

/// What is found where these records have this stamp, by this report: in a file, a pipe and two topics.
fn found(odd: Range<u64>, unix_ns: u64, report: &str) -> [Findings; 4] {
    let all = || (0..RECORDS).map(|at| (at, if odd.contains(&at) { unix_ns } else { START_NS + at }));
    let data = all().flat_map(|(at, ns)| stamped(at, ns)).collect::<Vec<_>>();
    let store = Store::new(&data, Some(&manifest(Layout::Append, data.len() as u64, 0, RECORDS)));
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("report.json");
    std::fs::write(&path, report).unwrap();
    let args = VerifyArgs { expect: vec![path], ..VerifyArgs::default() };
    let topic = |messages: Vec<Message>| {
        let mut log = Log { fetch_bytes: 9000, ..Log::default() };
        log.put(0, &messages, 1);
        read_as(log, &args)
    };
    [
        verify(&VerifyArgs { expect: args.expect.clone(), ..store.args() }).unwrap(),
        verify_reader(&mut &data[..], "stdin", &args).unwrap(),
        topic(all().map(|(at, ns)| (stamped(at, ns), Vec::new())).collect()),
        topic(all().map(|(at, ns)| beside(at, ns)).collect()),
    ]
}

fn report(span: &str) -> String {
    let last = RECORDS - 1;
    format!(
        r#"{{"run_id":"run","producers":[{{"id":0,"records_produced":{RECORDS},"first_sequence":0,"last_sequence":{last}}}]{span}}}"#
    )
}

#[test]
fn records_of_another_run_with_the_same_id_are_foreign() {
    let report = report(r#","started_at":"2027-01-15T08:00:00Z","warmup":{"seconds":10.0},"elapsed_seconds":20.0"#);
    for sound_ns in [START_NS, START_NS + SPAN_NS, LATEST_NS] {
        found(5..6, sound_ns, &report).iter().for_each(|findings| assert_clean(findings, RECORDS));
    }
    for (ns, said) in [
        (START_NS - 1, "stamped 2027-01-15T07:59:59.999999999Z, before the report's run began"),
        (LATEST_NS + 1, "stamped 2027-01-15T08:01:30.000000001Z, after the report's run had ended"),
    ] {
        for (odd, who, count) in [(0..RECORDS, "", RECORDS), (5..6, "at least one is ", 1)] {
            for findings in found(odd, ns, &report) {
                let finding = only(&findings, Kind::Foreign);
                assert!(finding.what.starts_with(&format!("{who}{said}")), "{finding:?}");
                let concerns = (finding.producer_id, finding.first_sequence, finding.last_sequence);
                assert_eq!(concerns, (Some(0), Some(0), Some(RECORDS - 1)));
                assert_eq!((kinds(&findings), finding.records), (vec![Kind::Foreign], count), "{finding:?}");
                assert!(findings.summary().starts_with("DAMAGED: "), "{}", findings.summary());
            }
        }
    }
}

#[test]
fn a_report_that_does_not_say_when_it_was_holds_no_stamp_against_anybody() {
    for span in ["", r#","started_at":"2027-01-15T08:00:00Z""#, r#","started_at":"now","elapsed_seconds":1e300"#] {
        found(5..6, 1, &report(span)).iter().for_each(|findings| assert_clean(findings, RECORDS));
    }
    let endless = report(r#","started_at":"2027-01-15T08:00:00Z","warmup":{"seconds":0},"elapsed_seconds":1e300"#);
    found(5..6, u64::MAX, &endless).iter().for_each(|findings| assert_clean(findings, RECORDS));
}
