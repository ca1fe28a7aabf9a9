//! Producers whose sequences are more separate stretches than can be followed. Where their gaps are is not known, but
//! their records are counted, and fewer of them than sequences show that some are missing.

use super::{Expected, Finding, Kind, Ledger};
use crate::base::units::format_counted;
use crate::verify::intervals::{Intervals, Place, subtract};
use crate::verify::scattered::Scattered;
use crate::verify::shape::Key;

impl Ledger {
    /// From here on only this producer's records are counted. False: so it was before.
    pub(super) fn give_up(&mut self, key: Key) -> bool {
        let Some(track) = self.tracks.get_mut(&key).filter(|track| !track.overflowed) else { return false };
        self.spans -= track.seen.len();
        self.pages -= track.scattered.as_ref().map_or(0, Scattered::pages);
        (track.seen, track.scattered) = (Intervals::default(), None);
        track.overflowed = true;
        true
    }

    pub(super) fn tell_overflow(&mut self, key: Key, place: Place, why: &str, mend: &str) {
        let what = format!("{why}; gaps and duplicates of this producer are not named one by one{mend}");
        let finding = Finding::new(Kind::Overflow, what).producer(key.producer).run(key.run);
        let finding = self.locate(finding, place);
        self.findings.add(finding);
    }

    /// Of a producer that is not followed it is certain all the same that some of `first..=last` is missing, where
    /// fewer records came than that has but for what is `known` to be missing. What a report expects is counted later.
    pub fn too_few(&mut self, key: Key, (first, last): (u64, u64), known: &[(u64, u64)], label: &str) {
        let mut cut = known.to_vec();
        cut.extend(self.expected.get(&key).map(Expected::ranges).unwrap_or_default());
        cut.sort_unstable();
        self.count((Kind::Gap, "missing or damaged"), key, &subtract(first, last, &cut), label);
    }

    /// The same of the ranges that a report expects.
    pub(super) fn too_few_expected(&mut self, key: Key, ranges: &[(u64, u64)], label: &str) {
        self.count((Kind::Absent, "reported as produced, but absent or damaged"), key, ranges, label);
    }

    /// What a broker may have removed is not missed.
    fn count(&mut self, (kind, said): (Kind, &str), key: Key, ranges: &[(u64, u64)], label: &str) {
        let parts = ranges.iter().flat_map(|(first, last)| self.unproved.parts(key, *first, *last));
        let wanted = parts.filter(|(.., cause)| cause.is_none());
        let wanted = wanted.fold(0u64, |sum, (first, last, _)| sum.saturating_add(last - first).saturating_add(1));
        // Doubled ones are among them: at least so many are missing.
        let missing = wanted.saturating_sub(self.tracks.get(&key).map_or(0, |track| track.records));
        if missing > 0 {
            let what = format!("{} {said} at least", format_counted(missing, "record"));
            let finding = Finding::new(kind, what).producer(key.producer).run(key.run).records(missing);
            self.findings.add(Finding { source: Some(label.to_owned()), ..finding });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::findings::Findings;
    use crate::verify::scan::{Event, Span};
    use crate::verify::stream::{Rules, StreamFold};
    use crate::verify::unproved::Cause;
    use std::collections::{BTreeSet, HashMap};

    const KEY: Key = Key { run: 1, producer: 0 };

    fn ledger(expected: HashMap<Key, Expected>) -> Ledger {
        Ledger::new(expected).with_limits(10, 10)
    }

    /// Of 0 to 98 the even ones.
    fn read(mut ledger: Ledger, rules: Rules) -> Findings {
        let mut fold = StreamFold::new(&mut ledger, rules);
        for first in (0..100).step_by(2) {
            let (start, end) = (first * 64, (first + 1) * 64);
            let place = Place { source: 0, offset: start, position: start };
            let span = Span { key: KEY, first, last: first, start, end, stamped_unix_ns: (0, 0) };
            fold.event(&Event::Span(span), place);
        }
        fold.finish();
        ledger.finish(&BTreeSet::new(), "all");
        ledger.findings
    }

    #[track_caller]
    fn assert_damaged(findings: &Findings, kind: Kind, records: u64, counted: &str) {
        assert_eq!((findings.count(kind).records, findings.counted().as_str()), (records, counted));
        let said = findings.summary();
        let at_least = format!("{records} records");
        assert!(said.starts_with("DAMAGED: ") && said.contains(&at_least) && said.contains("at least"), "{said}");
    }

    #[test]
    fn a_file_with_more_gaps_than_can_be_followed_is_damaged_all_the_same() {
        let rules = Rules { key: Some(KEY), range: Some((0, 100)), missing: vec![(1, 1)], ..Rules::default() };
        assert_damaged(&read(ledger(HashMap::new()), rules), Kind::Gap, 49, "1 gap, 1 overflow");
        // Of 0 to 98, whose last 9 may be unfinished.
        let rules = Rules { key: Some(KEY), unfinished_bytes: Some(9), ..Rules::default() };
        assert_damaged(&read(ledger(HashMap::new()), rules), Kind::Gap, 40, "1 gap, 1 overflow");
    }

    #[test]
    fn a_pipe_with_more_gaps_than_can_be_followed_is_damaged_all_the_same() {
        let findings = read(ledger(HashMap::new()), Rules::default());
        assert_damaged(&findings, Kind::Gap, 49, "1 gap, 1 overflow");
        let read = &findings.producers[0];
        assert_eq!((read.first_sequence, read.last_sequence), (Some(0), Some(98)));
    }

    #[test]
    fn what_a_report_expects_is_counted_once() {
        let expected = Expected { sequences: Some((0, 149)), missing: vec![(7, 16)], due_unix_ns: None };
        let findings = read(ledger([(KEY, expected)].into()), Rules::default());
        assert_damaged(&findings, Kind::Absent, 90, "1 absent, 1 overflow");
    }

    #[test]
    fn what_a_broker_may_have_removed_is_not_missed() {
        let mut ledger = ledger(HashMap::new());
        ledger.unproved.add(KEY, (1, 50), Cause::Compaction);
        let findings = read(ledger, Rules::default());
        assert_eq!(findings.counted(), "1 overflow");
        assert!(findings.summary().starts_with("INCOMPLETE: 50 records"), "{}", findings.summary());
    }
}
