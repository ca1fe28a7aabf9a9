//! What reports promise: which sequences of which producer have to be there.

use super::intervals::subtract;
use super::shape::Key;
use crate::base::fatal::Fatal;
use crate::base::{bounded, limits, units};
use crate::record;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

/// The part of a report that `verify` reads.
#[derive(Debug, Deserialize)]
struct Report {
    run_id: String,
    started_at: Option<String>,
    warmup: Option<ReportWarmup>,
    elapsed_seconds: Option<f64>,
    producers: Vec<ReportProducer>,
}

#[derive(Debug, Deserialize)]
struct ReportWarmup {
    seconds: f64,
    #[serde(default)]
    totals: WarmupTotals,
}

#[derive(Debug, Default, Deserialize)]
struct WarmupTotals {
    #[serde(default)]
    records_produced: u64,
}

impl Report {
    /// Whether records came before the first sequence of a producer, which is that of the measured part.
    fn has_warmup(&self) -> bool {
        self.warmup.as_ref().is_some_and(|warmup| warmup.seconds > 0.0 || warmup.totals.records_produced > 0)
    }

    fn warmup_records(&self) -> u64 {
        self.warmup.as_ref().map_or(0, |warmup| warmup.totals.records_produced)
    }

    /// From when to when its records fell due, inclusive. The run counts its due times from the start that it states,
    /// so that no other clock, and no clock that was set meanwhile, comes in; a merged report goes from the first start
    /// to the last end.
    fn due_unix_ns(&self) -> Option<(u64, u64)> {
        let start_ns = units::parse_time_unix_ns(self.started_at.as_deref()?).ok()?;
        let seconds = self.warmup.as_ref()?.seconds + self.elapsed_seconds?;
        Some((start_ns, start_ns.saturating_add((seconds * 1e9) as u64).saturating_add(LATE_NS_MAX)))
    }
}

/// By so much a record may be stamped after the end that a report states: of cores that crashed it is known roughly.
const LATE_NS_MAX: u64 = 60_000_000_000;

#[derive(Debug, Deserialize)]
struct ReportProducer {
    id: u32,
    #[serde(default)]
    records_produced: u64,
    #[serde(default)]
    first_sequence: Option<u64>,
    #[serde(default)]
    last_sequence: Option<u64>,
    #[serde(default)]
    retained_first_sequence: Option<u64>,
    #[serde(default)]
    missing: Vec<(u64, u64)>,
    #[serde(default)]
    missing_truncated: bool,
}

/// What one producer has to have left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Inclusive; `None`: nothing was produced.
    pub sequences: Option<(u64, u64)>,
    /// Not confirmed, inclusive, sorted.
    pub missing: Vec<(u64, u64)>,
    /// From when to when its records fell due, if the report says so.
    pub due_unix_ns: Option<(u64, u64)>,
}

impl Expected {
    /// Why records with these stamps, the earliest and the latest (0: they do not say), are not all of the report's
    /// run, and whether some of them may be.
    pub fn untimely(&self, (earliest_ns, latest_ns): (u64, u64)) -> Option<(String, bool)> {
        let (from_ns, to_ns) = self.due_unix_ns?;
        let (stamp_ns, when) = if earliest_ns > 0 && earliest_ns < from_ns {
            (earliest_ns, "before the report's run began")
        } else if latest_ns > to_ns {
            (latest_ns, "after the report's run had ended")
        } else {
            return None;
        };
        let stamp = jiff::Timestamp::from_nanosecond(stamp_ns.into()).ok()?;
        let is_mixed = latest_ns >= from_ns && earliest_ns <= to_ns;
        let who = if is_mixed { "at least one is stamped" } else { "stamped" };
        Some((format!("{who} {stamp}, {when}: of another run with the same --run-id"), is_mixed))
    }

    /// The inclusive ranges that have to be there.
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        self.sequences.map(|(first, last)| subtract(first, last, &self.missing)).unwrap_or_default()
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expectation {
    pub run: u64,
    pub producers: HashMap<Key, Expected>,
    /// What cannot be proved, in words.
    pub notes: Vec<String>,
    /// Records of the warm-up were produced, and which ones is not said of every producer.
    pub is_open: bool,
}

/// Reads a report of one run, or a merged one.
pub fn parse(text: &[u8]) -> Result<Expectation, String> {
    let report: Report = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let run = record::run_id_hash(&report.run_id);
    let mut expectation = Expectation { run, ..Expectation::default() };
    let due_unix_ns = report.due_unix_ns();
    let (has_warmup, warmup_records) = (report.has_warmup(), report.warmup_records());
    let mut unmeasured = 0;
    for producer in report.producers {
        let key = Key { run, producer: producer.id };
        unmeasured += u64::from(producer.last_sequence.is_none());
        let (expected, note) = promise(producer, has_warmup)?;
        expectation.notes.extend(note);
        if expectation.producers.insert(key, Expected { due_unix_ns, ..expected }).is_some() {
            return Err(format!("producer {} is there twice", key.producer));
        }
    }
    expectation.is_open = unmeasured > 0 && warmup_records > 0;
    if expectation.is_open {
        let (producers, records) =
            (units::format_counted(unmeasured, "producer"), units::format_counted(warmup_records, "record"));
        let what = format!("of {producers} nothing was measured: the report does not say which of the warm-up's");
        expectation.notes.push(format!("{what} {records} they produced, so nothing is proved of those"));
    }
    Ok(expectation)
}

/// `has_warmup`: its records come before the first sequence, which is of the measured part, and are promised as well.
/// Sequences begin at 0, and those that were not confirmed are named as missing, in the warm-up, too.
fn promise(producer: ReportProducer, has_warmup: bool) -> Result<(Expected, Option<String>), String> {
    let id = producer.id;
    let mut missing = producer.missing;
    missing.sort_unstable();
    if let Some((from, to)) = missing.iter().find(|(from, to)| from > to) {
        return Err(format!("producer {id} misses sequences {from} to {to}, which is backwards"));
    }
    let (Some(first), Some(last)) = (producer.first_sequence, producer.last_sequence) else {
        return match producer.records_produced {
            0 => Ok((Expected { missing, ..Expected::default() }, None)),
            produced => Err(format!("producer {id} produced {produced} records, but no first and last sequence")),
        };
    };
    if first > last {
        return Err(format!("producer {id} has first sequence {first} after last sequence {last}"));
    }
    let first = if has_warmup { 0 } else { first };
    let mut end = Some(last);
    let mut note = None;
    if producer.missing_truncated {
        // The list stops early: what lies past it may or may not have been confirmed.
        let known = missing.last().map(|(_, to)| *to).unwrap_or(first);
        end = (known >= first).then_some(known.min(last));
        note = Some(format!(
            "producer {id}: its report names only some missing sequences; past {known} nothing is proved"
        ));
    }
    let start = producer.retained_first_sequence.map_or(first, |retained| retained.max(first));
    let sequences = end.filter(|end| start <= *end).map(|end| (start, end));
    Ok((Expected { sequences, missing, ..Expected::default() }, note))
}

/// Reads a report file; errors end the command with exit code 2.
pub fn read(path: &Path) -> Result<Expectation, Fatal> {
    read_up_to(path, limits::REPORT_BYTES_MAX)
}

fn read_up_to(path: &Path, bytes_max: u64) -> Result<Expectation, Fatal> {
    let text = bounded::read(path, bytes_max).map_err(|error| {
        Fatal::usage(format!("--expect {}: {error}", path.display())).mend("name a file that --report wrote")
    })?;
    parse(&text).map_err(|why| {
        Fatal::usage(format!("--expect {} is no report: {why}", path.display())).mend("name a file that --report wrote")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_retained_and_not_missing_is_promised() {
        let text = br#"{"run_id":"r","extra":1,"producers":[
            {"id":0,"records_produced":8,"first_sequence":0,"last_sequence":9,"retained_first_sequence":4,"missing":[[6,6],[2,2]]},
            {"id":1,"records_produced":0,"first_sequence":null,"last_sequence":null,"missing":[]}]}"#;
        let parsed = parse(text).unwrap();
        let key = |producer| Key { run: record::run_id_hash("r"), producer };
        assert_eq!(parsed.producers[&key(0)].ranges(), [(4, 5), (7, 9)]);
        assert_eq!(parsed.producers[&key(1)].ranges(), []);
    }

    #[test]
    fn what_a_warmup_produced_is_promised_as_well() {
        let parsed = |warmup: &str, producer: &str| {
            let text = format!(r#"{{"run_id":"r","warmup":{warmup},"producers":[{{"id":0,{producer}}}]}}"#);
            let parsed = parse(text.as_bytes()).unwrap();
            let key = Key { run: record::run_id_hash("r"), producer: 0 };
            (parsed.producers[&key].ranges(), parsed.notes, parsed.is_open)
        };
        let (warm, none) = (r#"{"seconds":1.0,"totals":{"records_produced":4}}"#, r#"{"seconds":0.0}"#);
        let measured = r#""records_produced":5,"first_sequence":5,"last_sequence":9,"missing":[[2,2]]"#;
        assert_eq!(parsed(warm, measured), (vec![(0, 1), (3, 9)], vec![], false));
        assert_eq!(parsed(none, measured).0, [(5, 9)]);
        let kept = |from: u64| parsed(warm, &format!(r#"{measured},"retained_first_sequence":{from}"#)).0;
        assert_eq!((kept(0), kept(3), kept(7)), (vec![(0, 1), (3, 9)], vec![(3, 9)], vec![(7, 9)]));
        // The list of those that are missing may end within the warm-up.
        let cut = parsed(warm, &format!(r#"{measured},"missing_truncated":true"#));
        assert_eq!((cut.0, cut.1.len()), (vec![(0, 1)], 1));
        // A run that ended in its warm-up measured nothing.
        let (ranges, notes, is_open) = parsed(warm, r#""records_produced":0"#);
        assert!(ranges.is_empty() && is_open, "{ranges:?}");
        assert!(notes[0].starts_with("of 1 producer nothing was measured: "), "{notes:?}");
        assert_eq!(parsed(none, r#""records_produced":0"#), (vec![], vec![], false));
    }

    #[test]
    fn contradictions_are_refused() {
        for text in [
            r#"{"run_id":"r","producers":[{"id":0,"records_produced":1}]}"#,
            r#"{"run_id":"r","producers":[{"id":0,"first_sequence":5,"last_sequence":4}]}"#,
            r#"{"run_id":"r","producers":[{"id":0},{"id":0}]}"#,
            r#"{"run_id":"r","producers":[{"id":0,"missing":[[3,1]]}]}"#,
            r#"{"producers":[]}"#,
            "",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_report_is_read_up_to_its_limit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"run_id":"r","producers":[]}"#;
        std::fs::write(file.path(), text).unwrap();
        assert!(read_up_to(file.path(), text.len() as u64).is_ok());
        let fatal = read_up_to(file.path(), text.len() as u64 - 1).unwrap_err();
        assert!(fatal.what.starts_with("--expect /") && fatal.what.contains("more than 28 bytes"), "{fatal}");
        // What has no end is refused, too, and not read into memory whole.
        assert!(read_up_to(Path::new("/dev/zero"), 1 << 16).unwrap_err().what.contains("more than"));
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn foreign_numbers_never_panic(first: Option<u64>, last: Option<u64>, retained: Option<u64>, from: u64, to: u64, truncated: bool) {
            let text = serde_json::json!({"run_id": "r", "producers": [{"id": 1, "first_sequence": first,
                "last_sequence": last, "retained_first_sequence": retained, "missing": [[from, to]],
                "missing_truncated": truncated}]});
            if let Ok(expectation) = parse(text.to_string().as_bytes()) {
                let _ = expectation.producers.values().map(Expected::ranges).count();
            }
        }
    }
}
