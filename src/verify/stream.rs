//! One producer's files, or one pipe, read in writing order: what each event means for the stream.

mod explained;
mod gaps;
mod overflow;
mod rules;
mod seam;
mod suspicions;

pub use rules::Rules;

use super::findings::{Finding, Kind};
use super::intervals::Place;
use super::ledger::Ledger;
use super::scan::{Event, Junk, Span};
use super::shape::{Claim, Flaw, Key};
use super::sources::NO_DATA;
use crate::base::units::format_counted;
use explained::Explained;
use seam::Seam;
use std::collections::BTreeMap;
use suspicions::{Excuse, Suspicion, Suspicions};

/// Where nothing at all was recognised, and no manifest says what to look for.
const NO_HEADER: &str =
    "; nothing has the record header: text and FITS need the manifest of a file target, or a list of ids (--ids FILE)";

pub struct StreamFold<'a> {
    ledger: &'a mut Ledger,
    rules: Rules,
    /// Position after the record with the highest sequence.
    data_end: u64,
    suspicions: Suspicions,
    junk: Option<(Junk, Place)>,
    in_rotated_file: bool,
    /// By producer; `None`: no ring's.
    seams: BTreeMap<Key, Option<Seam>>,
    explained: Explained,
}

impl<'a> StreamFold<'a> {
    pub fn new(ledger: &'a mut Ledger, rules: Rules) -> Self {
        Self {
            ledger,
            rules,
            data_end: 0,
            suspicions: Suspicions::default(),
            junk: None,
            in_rotated_file: false,
            seams: BTreeMap::new(),
            explained: Explained::default(),
        }
    }

    /// One event, in stream order. `place` is where it starts.
    pub fn event(&mut self, event: &Event, place: Place) {
        if let Event::Junk(junk) = event {
            match &mut self.junk {
                Some((open, at)) if at.source == place.source && open.end == junk.start => {
                    open.end = junk.end;
                    open.zeros &= junk.zeros;
                }
                _ => {
                    self.close_junk(false, None);
                    self.junk = Some((*junk, place));
                }
            }
            return;
        }
        self.close_junk(false, None);
        match event {
            Event::Span(span) => self.span(span, place),
            Event::Flawed { claim, flaw, .. } => self.flawed(*claim, *flaw, place),
            Event::Junk(_) => {}
        }
    }

    /// The end of a file or pipe. `stated_end`: where its manifest says that the data ends; no other tail is expected
    /// than zeros from there on.
    pub fn source_end(&mut self, stated_end: Option<u64>) {
        self.close_junk(true, stated_end);
    }

    /// The end of a stream's last file but one. A killed run may not have cut it to its length yet: behind its newest
    /// record lies what it held before it was recycled.
    pub fn uncut_end(&mut self) {
        if self.rules.unfinished_bytes.is_none() {
            return;
        }
        let reason = "behind the end of a file that a killed run had not cut yet, left from before";
        for old in self.suspicions.behind(self.data_end) {
            self.explained.add(reason, old.finding.records);
        }
    }

    /// The end of a next file that began at this position and whose active file is gone. Records newer than all
    /// before show that a killed run had gone over to it. Room for records, or older ones, show nothing.
    pub fn next_end(&mut self, from: u64) {
        let label = self.rules.label.clone();
        if self.data_end > from {
            let what = "there is no data file beside it: a killed run had not renamed the next one yet";
            self.ledger.findings.explain(format!("{label}: {what}"));
        } else {
            self.ledger.findings.add(Finding { source: Some(label), ..Finding::new(Kind::Truncated, NO_DATA) });
        }
    }

    /// Whether the events that follow may come after later ones.
    pub fn any_order(&mut self, any: bool) {
        self.rules.any_order = any;
    }

    /// Whether the events that follow lie in a rotated file.
    pub fn in_rotated_file(&mut self, rotated: bool) {
        self.in_rotated_file = rotated;
    }

    fn span(&mut self, span: &Span, place: Place) {
        let end_position = place.position + (span.end - span.start);
        let records = span.last - span.first + 1;
        self.ledger.findings.records += records;
        self.ledger.first_run.get_or_insert(span.key.run);
        if let Some(key) = self.rules.key.filter(|key| *key != span.key) {
            self.foreign(key, span, records, place);
            return;
        }
        self.ledger.untimely(span, place);
        let Some(track) = self.ledger.track(span.key, place) else { return };
        track.records += records;
        let seen = track.seen.first().zip(track.seen.last());
        let (gapless, newest) = (seen.filter(|_| track.seen.len() == 1), seen.map(|(_, newest)| newest));
        let Some(first) = self.without_stale(span, seen, place) else { return };
        if newest.is_none_or(|newest| span.last > newest) {
            self.data_end = self.data_end.max(end_position);
            self.settle();
        }
        let relation = self.ledger.enter(span.key, first, span.last, place, end_position);
        self.ledger.duplicates(span.key, &relation, place);
        self.late(span, &relation.late, gapless, newest, place);
        self.past_the_manifest(span, first, place);
    }

    /// Records of another producer than the one whose `key` belongs here.
    fn foreign(&mut self, key: Key, span: &Span, records: u64, place: Place) {
        let unseen = self.ledger.tracks.get(&key).is_none_or(|track| track.seen.is_empty());
        if self.in_rotated_file && unseen && key.run != span.key.run {
            self.explained.add("of another run in older rotated files", records);
            return;
        }
        let whose = if key.run == span.key.run { "another producer" } else { "another run" };
        let finding = Finding::new(Kind::Foreign, format!("{} of {whose}", format_counted(records, "record")));
        let finding = finding.producer(span.key.producer).run(span.key.run).sequences(span.first, span.last);
        self.suspect(finding, place, Excuse::Instead(self.expected_next(key)));
    }

    /// The first sequence that is not left from before, if there is one; those before it are suspect.
    fn without_stale(&mut self, span: &Span, seen: Option<(u64, u64)>, place: Place) -> Option<u64> {
        let below = self.rules.left_below(span.first, seen);
        if span.first < below {
            self.stale(span.key, span.first, span.last.min(below - 1), place);
        }
        (span.last >= below).then_some(span.first.max(below))
    }

    fn past_the_manifest(&mut self, span: &Span, first: u64, place: Place) {
        let Some((_, next)) = self.rules.range.filter(|(_, next)| span.last >= *next) else { return };
        let finding = Finding::new(Kind::Foreign, "lie past the last sequence that the manifest knows");
        let finding = finding.producer(span.key.producer).sequences(first.max(next), span.last);
        let finding = self.ledger.locate(finding, place);
        self.ledger.findings.add(finding);
    }

    fn stale(&mut self, key: Key, first: u64, last: u64, place: Place) {
        let finding = Finding::new(Kind::Stale, "left from before, and should have been overwritten");
        let finding = finding.producer(key.producer).run(key.run).sequences(first, last);
        // The record that belongs here may be known to have failed.
        let excuse = match self.rules.lap_records.filter(|lap| *lap > 0) {
            Some(lap) => {
                let shift = (self.rules.stale_below - first).div_ceil(lap).saturating_mul(lap);
                let (first, last) = (first.saturating_add(shift), last.saturating_add(shift));
                Excuse::Missing { first, last, marked: false }
            }
            None => Excuse::Instead(self.expected_next(key)),
        };
        self.suspect(finding, place, excuse);
    }

    fn flawed(&mut self, claim: Claim, flaw: Flaw, place: Place) {
        let key = self.rules.key.unwrap_or(claim.key);
        let marked = claim.key == key && self.expected_next(key) == Some(claim.sequence);
        if marked {
            let _ = self.ledger.enter(key, claim.sequence, claim.sequence, place, place.position + claim.length);
        }
        let finding = Finding::new(flaw.kind(), flaw.what()).producer(key.producer).run(claim.key.run);
        let finding = finding.sequences(claim.sequence, claim.sequence);
        self.suspect(finding, place, Excuse::Missing { first: claim.sequence, last: claim.sequence, marked });
    }

    /// Records that have a flaw in common: any of them may be damaged, and none of them is missing.
    pub fn spoiled(&mut self, span: &Span, flaw: Flaw, place: Place) {
        self.close_junk(false, None);
        // Later ones may have come over another connection. What would leave a gap before it is not believed.
        if self.next_of(span.key).is_some_and(|next| span.first <= next) {
            let _ = self.ledger.enter(span.key, span.first, span.last, place, place.position + (span.end - span.start));
        }
        let finding = Finding::new(flaw.kind(), flaw.what()).producer(span.key.producer).run(span.key.run);
        self.suspect(finding.sequences(span.first, span.last), place, Excuse::Leftover);
    }

    fn close_junk(&mut self, at_end: bool, stated_end: Option<u64>) {
        let Some((junk, place)) = self.junk.take() else { return };
        let length = junk.end - junk.start;
        if at_end && junk.zeros && stated_end.is_none_or(|end| junk.start >= end) {
            self.explained.add("zeros after the data (padding or room not yet used)", 0);
            return;
        }
        let next = match self.rules.key {
            Some(key) => self.expected_next(key),
            None => junk.claim.and_then(|claim| self.next_of(claim.key)),
        };
        let goes_past_end = stated_end.is_some_and(|end| junk.end > end);
        let finding = match junk.claim.filter(|_| at_end) {
            Some(claim) => {
                let what = format!("the record is cut off: {length} of {} bytes are there", claim.length);
                let finding = Finding::new(Kind::Truncated, what).producer(claim.key.producer).run(claim.key.run);
                if !goes_past_end && self.beyond_report(&claim) {
                    self.explained.add("a half record at the end, which no report counts as produced", 1);
                    return;
                }
                finding.sequences(claim.sequence, claim.sequence)
            }
            None => {
                let kind = if junk.zeros { "zeros" } else { "bytes that are no record" };
                let is_all = self.rules.without_manifest && at_end && junk.start == 0;
                let hint = if is_all && !junk.zeros { NO_HEADER } else { "" };
                Finding::new(Kind::Unrecognised, format!("{length} {kind}, up to byte {}{hint}", junk.end))
            }
        };
        // No record that is known to be missing could have lain there.
        let excuse = if goes_past_end && !junk.zeros { Excuse::Leftover } else { Excuse::Instead(next) };
        self.suspect(finding, place, excuse);
    }

    /// A report says how far the producer's confirmed records go, and this one lies beyond.
    fn beyond_report(&self, claim: &Claim) -> bool {
        let Some(expected) = self.ledger.expected.get(&claim.key) else { return false };
        let next = self.next_of(claim.key) == Some(claim.sequence);
        next && expected.ranges().last().is_none_or(|(_, last)| claim.sequence > *last)
    }

    fn next_of(&self, key: Key) -> Option<u64> {
        self.ledger.tracks.get(&key)?.seen.last()?.checked_add(1)
    }

    /// What comes after the newest so far; before there is one, what the manifest begins with.
    fn expected_next(&self, key: Key) -> Option<u64> {
        self.next_of(key).or(self.rules.range.map(|(first, _)| first))
    }

    /// Something odd: damage, unless what comes later explains it.
    fn suspect(&mut self, finding: Finding, place: Place, excuse: Excuse) {
        let finding = self.ledger.locate(finding, place);
        let suspicion = Suspicion { position: place.position, finding, excuse };
        if self.rules.may_explain() {
            let marked = self.suspicions.add(suspicion);
            self.unmark(marked);
        } else {
            self.resolve(suspicion);
        }
    }

    /// Resolves what the data's end has left behind for good.
    fn settle(&mut self) {
        while let Some(suspicion) = self.suspicions.left_behind(&self.rules, self.data_end) {
            self.resolve(suspicion);
        }
    }

    fn resolve(&mut self, suspicion: Suspicion) {
        let seen = self.rules.key.and_then(|key| self.ledger.tracks.get(&key)).map(|track| &track.seen);
        match suspicion.explained(&self.rules, self.data_end, seen) {
            None => self.ledger.findings.add(suspicion.finding),
            Some(reason) => {
                self.unmark(suspicion.marked());
                self.explained.add(reason, suspicion.finding.records);
            }
        }
    }

    fn unmark(&mut self, marked: Option<u64>) {
        if let (Some(sequence), Some(key)) = (marked, self.rules.key) {
            self.ledger.unmark(key, sequence);
        }
    }

    /// Everything was read: what waited is resolved, and with a manifest the gaps are named.
    pub fn finish(mut self) {
        while let Some(suspicion) = self.suspicions.pop() {
            self.resolve(suspicion);
        }
        self.close_seams();
        if let Some(key) = self.rules.key {
            self.judge_gaps(key);
        }
        for line in self.explained.lines(&self.rules.label) {
            self.ledger.findings.explain(line);
        }
    }
}
