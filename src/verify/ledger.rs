//! Which sequences of which producer were seen, and what follows from that at the end.

mod listed;
mod overflow;
mod starts;

use super::expect::Expected;
use super::findings::{Finding, Findings, Kind, ProducerRead};
use super::intervals::{Hole, Intervals, Place, subtract};
use super::scan::Span;
use super::scattered::Scattered;
use super::shape::Key;
use super::unproved::Unproved;
use crate::base::units::format_counted;
use std::collections::{BTreeSet, HashMap};

/// Separate spans of sequences that are followed, all producers together (about 100 bytes each).
pub const SPANS_MAX: usize = 1 << 20;
/// Producers that are followed.
pub const TRACKS_MAX: usize = 1 << 17;

/// One producer of one run.
#[derive(Debug, Default)]
pub struct Track {
    pub seen: Intervals,
    /// What a list brought beside it, once it has shown that it is in no order.
    scattered: Option<Scattered>,
    /// Intact records, doubled ones included.
    pub records: u64,
    /// Where it was seen first.
    pub start: Place,
    /// Its stream has a manifest, which has judged it already.
    pub judged: bool,
    /// The lowest and the highest sequence that came, followed or not.
    pub came: Option<(u64, u64)>,
    /// The sequence that a list had last.
    listed: Option<u64>,
    /// Its spans were more than can be followed: from here on only its records are counted.
    pub overflowed: bool,
}

impl Track {
    fn note(&mut self, first: u64, last: u64) {
        let (lowest, highest) = self.came.unwrap_or((first, last));
        self.came = Some((first.min(lowest), last.max(highest)));
    }

    fn first(&self) -> Option<u64> {
        if self.overflowed {
            return self.came.map(|(first, _)| first);
        }
        let scattered = self.scattered.as_ref().and_then(Scattered::first);
        self.seen.first().into_iter().chain(scattered).min()
    }

    fn last(&self) -> Option<u64> {
        if self.overflowed {
            return self.came.map(|(_, last)| last);
        }
        self.seen.last().max(self.scattered.as_ref().and_then(Scattered::last))
    }

    /// The first stretch of `first..=last` that was not seen.
    fn next_hole(&self, first: u64, last: u64) -> Option<Hole> {
        let Some(scattered) = &self.scattered else { return self.seen.next_hole(first, last) };
        let mut from = first;
        loop {
            let hole = self.seen.next_hole(from, last)?;
            match scattered.next_hole(hole.first, hole.last) {
                None => from = hole.last.checked_add(1)?,
                Some(whole) if whole == (hole.first, hole.last) => return Some(hole),
                // Where a list had its neighbours is not kept.
                Some((first, last)) => return Some(Hole { first, last, before: None, after: None }),
            }
        }
    }
}

/// How a range that was just read relates to what was there before.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Relation {
    pub duplicates: Vec<(u64, u64)>,
    /// New, but lower than what was read before.
    pub late: Vec<(u64, u64)>,
}

/// What the offsets of a source count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Lines,
    Offsets,
}

pub struct Ledger {
    pub tracks: HashMap<Key, Track>,
    pub findings: Findings,
    /// Names of the sources, by `Place::source`.
    names: Vec<(String, Unit)>,
    pub expected: HashMap<Key, Expected>,
    /// What brokers do not give.
    pub unproved: Unproved,
    spans: usize,
    spans_max: usize,
    /// Of all that is scattered.
    pages: usize,
    pages_max: usize,
    /// No producer's sequences went back in it.
    list_is_in_order: bool,
    /// Of producers of a list that are not followed any more, where that began.
    lost_in_list: Vec<(Key, Place)>,
    tracks_full: bool,
    /// It was said that signatures were not checked.
    has_noted_signatures: bool,
    /// The first run that was seen.
    pub first_run: Option<u64>,
}

impl Ledger {
    pub fn new(expected: HashMap<Key, Expected>) -> Self {
        Self {
            tracks: HashMap::new(),
            findings: Findings::default(),
            names: Vec::new(),
            expected,
            unproved: Unproved::default(),
            spans: 0,
            spans_max: SPANS_MAX,
            pages: 0,
            pages_max: listed::PAGES_MAX,
            list_is_in_order: true,
            lost_in_list: Vec::new(),
            tracks_full: false,
            has_noted_signatures: false,
            first_run: None,
        }
    }

    #[cfg(test)]
    pub fn with_limits(mut self, spans_max: usize, pages_max: usize) -> Self {
        (self.spans_max, self.pages_max) = (spans_max, pages_max);
        self
    }

    pub fn name(&mut self, source: impl Into<String>, unit: Unit) -> u32 {
        self.names.push((source.into(), unit));
        (self.names.len() - 1) as u32
    }

    pub fn name_of(&self, source: u32) -> &str {
        self.names.get(source as usize).map_or("", |(name, _)| name)
    }

    pub fn locate(&self, finding: Finding, place: Place) -> Finding {
        match self.names.get(place.source as usize) {
            Some((name, Unit::Bytes)) => finding.at_byte(name, place.offset),
            Some((name, Unit::Lines)) => finding.at_line(name, place.offset),
            Some((name, Unit::Offsets)) => finding.at_offset(name, place.offset),
            None => finding,
        }
    }

    /// The track of a producer; `None` once there are too many.
    pub fn track(&mut self, key: Key, place: Place) -> Option<&mut Track> {
        if self.tracks.len() >= TRACKS_MAX && !self.tracks.contains_key(&key) {
            if !self.tracks_full {
                self.tracks_full = true;
                let what = format!("more than {TRACKS_MAX} producers; those that came later are not followed");
                let finding = self.locate(Finding::new(Kind::Overflow, what), place);
                self.findings.add(finding);
            }
            return None;
        }
        Some(self.tracks.entry(key).or_insert_with(|| Track { start: place, ..Track::default() }))
    }

    /// Enters `first..=last`; every sequence of it is then seen.
    pub fn enter(&mut self, key: Key, first: u64, last: u64, place: Place, end_position: u64) -> Relation {
        let relation = self.insert(key, first, last, place, end_position);
        if self.spans > self.spans_max && self.give_up(key) {
            let why = format!("more than {} separate stretches of sequences", self.spans_max);
            self.tell_overflow(key, place, &why, "");
        }
        relation
    }

    fn insert(&mut self, key: Key, first: u64, last: u64, place: Place, end_position: u64) -> Relation {
        let mut relation = Relation::default();
        let spans_before = self.spans;
        let Some(track) = self.track(key, place) else { return relation };
        track.note(first, last);
        if track.overflowed {
            return relation;
        }
        let length_before = track.seen.len();
        let newest = track.seen.last();
        if newest.is_none_or(|newest| first > newest) {
            track.seen.insert(first, last, place, end_position);
        } else {
            let fresh = track.seen.uncovered(first, last);
            relation.duplicates = subtract(first, last, &fresh);
            for (from, to) in fresh {
                track.seen.insert(from, to, place, end_position);
                if newest.is_some_and(|newest| from < newest) {
                    relation.late.push((from, to));
                }
            }
        }
        self.spans = spans_before + track.seen.len() - length_before;
        relation
    }

    pub fn unmark(&mut self, key: Key, sequence: u64) {
        if let Some(track) = self.tracks.get_mut(&key) {
            let before = track.seen.len();
            track.seen.remove(sequence);
            self.spans = self.spans + track.seen.len() - before;
        }
    }

    pub fn duplicates(&mut self, key: Key, relation: &Relation, place: Place) {
        for (first, last) in &relation.duplicates {
            let finding = Finding::new(Kind::Duplicate, "came again");
            let finding = finding.producer(key.producer).run(key.run).sequences(*first, *last);
            let finding = self.locate(finding, place);
            self.findings.add(finding);
        }
    }

    /// Names records that the report's run cannot have made, by their stamps. Of a span the earliest and the latest
    /// stamp are known: where the run can have made some of its records, one is counted that it did not make.
    pub fn untimely(&mut self, span: &Span, place: Place) {
        let promise = self.expected.get(&span.key);
        let said = promise.and_then(|promise| promise.untimely(span.stamped_unix_ns));
        let Some((what, is_mixed)) = said else { return };
        let finding = Finding::new(Kind::Foreign, what).producer(span.key.producer).run(span.key.run);
        let finding = finding.sequences(span.first, span.last);
        let finding = if is_mixed { finding.records(1) } else { finding };
        let finding = self.locate(finding, place);
        self.findings.add(finding);
    }

    /// Counts records that were let go: those below what a ring, or `--retain`, still keeps, but for those that were
    /// never confirmed. Sequences start at 0.
    pub fn let_go(&mut self, key: Key, below: u64, missing: &[(u64, u64)]) {
        let Some(last) = below.checked_sub(1) else { return };
        let promised = self.expected.get(&key).into_iter().flat_map(|expected| &expected.missing);
        let mut missing: Vec<(u64, u64)> = missing.iter().chain(promised).copied().collect();
        missing.sort_unstable();
        let older = subtract(0, last, &missing).iter().map(|(from, to)| to - from + 1).sum();
        self.findings.records_overwritten = self.findings.records_overwritten.saturating_add(older);
    }

    /// Says once that records are signed and no key was there to check that.
    pub fn note_signatures(&mut self, are_unchecked: bool) {
        if are_unchecked && !self.has_noted_signatures {
            self.has_noted_signatures = true;
            let what = "records are signed, but without --sign-key no signature was checked";
            self.findings.explain(format!("{what}; --sign-key FILE, as that run was given it, checks them"));
        }
    }

    /// Names a hole as a gap, but for what the report expects: that is named as absent later.
    pub fn gap(&mut self, key: Key, hole: &Hole, first: u64, last: u64, label: &str) {
        let expected = self.expected.get(&key).map(Expected::ranges).unwrap_or_default();
        for (from, to) in subtract(first, last, &expected) {
            for finding in self.missing((Kind::Gap, "missing"), key, hole, (from, to), label) {
                self.findings.add(finding);
            }
        }
    }

    /// `usual`: what it is called, but for what a broker may have removed.
    fn missing(
        &self,
        usual: (Kind, &str),
        key: Key,
        hole: &Hole,
        (first, last): (u64, u64),
        label: &str,
    ) -> Vec<Finding> {
        let parts = self.unproved.parts(key, first, last).into_iter().map(|(from, to, cause)| match cause {
            None => self.hole_finding(usual, key, hole, (from, to), label),
            Some(cause) => {
                let said = format!("{}: nothing proves that it was there", cause.what());
                self.hole_finding((Kind::Unproved, &said), key, hole, (from, to), label)
            }
        });
        parts.collect()
    }

    fn hole_finding(
        &self,
        (kind, said): (Kind, &str),
        key: Key,
        hole: &Hole,
        (first, last): (u64, u64),
        label: &str,
    ) -> Finding {
        let finding = match (hole.after, first.checked_sub(1).filter(|_| hole.before.is_some())) {
            (Some(after), _) => {
                let what = format!("{said}; sequence {} is there instead", hole.last.saturating_add(1));
                self.locate(Finding::new(kind, what), after.start)
            }
            (None, Some(_)) => {
                let what = format!("{said}; the data ends after sequence {}", hole.first - 1);
                Finding { source: Some(label.to_owned()), ..Finding::new(kind, what) }
            }
            (None, None) => Finding { source: Some(label.to_owned()), ..Finding::new(kind, said) },
        };
        finding.producer(key.producer).run(key.run).sequences(first, last)
    }

    /// Judges everything that no manifest has judged. `runs` are those expected; where it is empty, the first one
    /// seen is.
    pub fn finish(&mut self, runs: &BTreeSet<u64>, label: &str) {
        let expected_run = |run: u64, first: Option<u64>| match runs.is_empty() {
            true => first.is_none_or(|first| first == run),
            false => runs.contains(&run),
        };
        self.tell_lost_in_list();
        let mut keys: Vec<Key> = self.tracks.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            let track = &self.tracks[&key];
            let (start, records) = (track.start, track.records);
            self.findings.wanted_was_read |= records > 0 && expected_run(key.run, self.first_run);
            self.findings.producers.push(ProducerRead {
                run_id_hash: format!("{:#018x}", key.run),
                producer_id: key.producer,
                records,
                first_sequence: track.first(),
                last_sequence: track.last(),
            });
            let ends = track.first().zip(track.last());
            if track.judged {
                continue;
            }
            if !expected_run(key.run, self.first_run) {
                let what = format!("{} of another run, the first one here", format_counted(records, "record"));
                let finding = Finding::new(Kind::Foreign, what).producer(key.producer).run(key.run).records(records);
                let finding = self.locate(finding, start);
                self.findings.add_other_run(finding);
                continue;
            }
            let Some((first, last)) = ends else { continue };
            let missing = self.expected.get(&key).map(|expected| expected.missing.clone()).unwrap_or_default();
            if self.tracks[&key].overflowed {
                self.too_few(key, (first, last), &missing, label);
                continue;
            }
            let mut from = Some(first);
            while let Some(hole) = self.next_hole(key, from, last) {
                let parts = subtract(hole.first, hole.last, &missing);
                self.explain_missing(&parts, &hole);
                for (from, to) in parts {
                    self.gap(key, &hole, from, to, label);
                }
                from = hole.last.checked_add(1);
            }
        }
        self.absent(label);
    }

    fn explain_missing(&mut self, parts: &[(u64, u64)], hole: &Hole) {
        let left: u64 = parts.iter().map(|(from, to)| to - from + 1).sum();
        let known = (hole.last - hole.first + 1).saturating_sub(left);
        if known > 0 {
            let (first, last) = (hole.first, hole.last);
            let known = format_counted(known, "sequence");
            self.findings.explain(format!("{known} of {first} to {last}: absent, and known to be unconfirmed"));
        }
    }

    /// Proves the reports: everything produced and still retained has to be there.
    fn absent(&mut self, label: &str) {
        let mut expected: Vec<(Key, Expected)> = self.expected.iter().map(|(key, e)| (*key, e.clone())).collect();
        expected.sort_unstable_by_key(|(key, _)| *key);
        for (key, expected) in expected {
            if self.tracks.get(&key).is_some_and(|track| track.overflowed) {
                self.too_few_expected(key, &expected.ranges(), label);
                continue;
            }
            for (first, last) in expected.ranges() {
                let mut from = Some(first);
                while let Some(hole) = self.next_hole(key, from, last) {
                    let usual = (Kind::Absent, "reported as produced, but absent");
                    for finding in self.missing(usual, key, &hole, (hole.first, hole.last), label) {
                        self.findings.add(finding);
                    }
                    from = hole.last.checked_add(1);
                }
            }
        }
    }

    /// One at a time: of a list there may be more than fit into memory.
    fn next_hole(&self, key: Key, from: Option<u64>, last: u64) -> Option<Hole> {
        let from = from?;
        match self.tracks.get(&key) {
            Some(track) => track.next_hole(from, last),
            None => Track::default().next_hole(from, last),
        }
    }
}
