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
}

impl Report {
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
}

/// Reads a report of one run, or a merged one.
pub fn parse(text: &[u8]) -> Result<Expectation, String> {
    let report: Report = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let run = record::run_id_hash(&report.run_id);
    let mut expectation = Expectation { run, ..Expectation::default() };
    let due_unix_ns = report.due_unix_ns();
    for producer in report.producers {
        let key = Key { run, producer: producer.id };
        let (expected, note) = promise(producer)?;
        expectation.notes.extend(note);
        if expectation.producers.insert(key, Expected { due_unix_ns, ..expected }).is_some() {
            return Err(format!("producer {} is there twice", key.producer));
        }
    }
    Ok(expectation)
}

fn promise(producer: ReportProducer) -> Result<(Expected, Option<String>), String> {
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
