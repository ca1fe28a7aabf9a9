//! One producer's files, or one pipe, read in writing order: what each event means for the stream.

mod overflow;
mod seam;

use super::findings::{Finding, Kind};
use super::intervals::{Place, covers, subtract};
use super::ledger::Ledger;
use super::scan::{Event, Junk, Run};
use super::shape::{Claim, Flaw, Key};
use super::sources::NO_DATA;
use crate::base::units::format_counted;
use seam::Seam;
use std::collections::{BTreeMap, VecDeque};

/// Findings that wait for the data's end to be known; more are lumped together.
const PENDING_MAX: usize = 1 << 14;
/// Where nothing at all was recognised, and no manifest says what to look for.
const NO_HEADER: &str =
    "; nothing has the record header: text and FITS need the manifest of a file target, or a list of ids (--ids FILE)";

/// What is known of a stream beforehand.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub label: String,
    /// No manifest says what records look like: only those with the header are found.
    pub without_manifest: bool,
    /// With a manifest: the one producer that belongs here.
    pub key: Option<Key>,
    /// With a complete manifest: the first sequence, and the one after the last.
    pub range: Option<(u64, u64)>,
    /// Of a killed run: the bytes at the data's end that may be unfinished.
    pub unfinished_bytes: Option<u64>,
    /// A preallocated ring, and how many records it holds.
    pub lap_records: Option<u64>,
    /// The ring has gone round: after its newest record an older lap goes on.
    pub gone_round: bool,
    /// Where the sequences of a killed run that appended began; older files may have been let go of since.
    pub began_at: Option<u64>,
    /// Lower sequences ought to have been overwritten.
    pub stale_below: u64,
    /// Submitted but not confirmed: inclusive, sorted.
    pub missing: Vec<(u64, u64)>,
    /// One of several streams of the same producers: coming after a later one is no finding.
    pub any_order: bool,
}

/// What may turn a finding into something explained.
#[derive(Clone, Copy, Debug)]
enum Excuse {
    /// Where this sequence should have come: all sequences that could lie here are known to be missing.
    Instead(Option<u64>),
    /// These sequences are known to be missing; `marked`: the (single) record counts as seen until then.
    Missing { first: u64, last: u64, marked: bool },
    /// Left from before, where the run wrote nothing.
    Leftover,
}

struct Pending {
    position: u64,
    finding: Finding,
    excuse: Excuse,
}

pub struct StreamFold<'a> {
    ledger: &'a mut Ledger,
    rules: Rules,
    /// Position after the record with the highest sequence.
    data_end: u64,
    pending: VecDeque<Pending>,
    lumped: Option<Pending>,
    junk: Option<(Junk, Place)>,
    in_rotated_file: bool,
    /// By producer; `None`: no ring's.
    seams: BTreeMap<Key, Option<Seam>>,
    /// Reasons, with how many stretches and records they explain.
    explained: BTreeMap<&'static str, (u64, u64)>,
}

impl<'a> StreamFold<'a> {
    pub fn new(ledger: &'a mut Ledger, rules: Rules) -> Self {
        Self {
            ledger,
            rules,
            data_end: 0,
            pending: VecDeque::new(),
            lumped: None,
            junk: None,
            in_rotated_file: false,
            seams: BTreeMap::new(),
            explained: BTreeMap::new(),
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
            Event::Run(run) => self.run(run, place),
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
        let data_end = self.data_end;
        let is_old = |pending: &Pending| {
            let kind = pending.finding.kind;
            pending.position >= data_end && matches!(kind, Kind::Stale | Kind::Unrecognised | Kind::Truncated)
        };
        let (old, open): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.pending).into_iter().partition(is_old);
        self.pending = open;
        for pending in old {
            let reason = "behind the end of a file that a killed run had not cut yet, left from before";
            self.explain(reason, pending.finding.records);
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

    fn run(&mut self, run: &Run, place: Place) {
        let end_position = place.position + (run.end - run.start);
        let records = run.last - run.first + 1;
        self.ledger.findings.records += records;
        self.ledger.first_run.get_or_insert(run.key.run);
        if let Some(key) = self.rules.key.filter(|key| *key != run.key) {
            let unseen = self.ledger.tracks.get(&key).is_none_or(|track| track.seen.is_empty());
            if self.in_rotated_file && unseen && key.run != run.key.run {
                self.explain("of another run in older rotated files", records);
                return;
            }
            let whose = if key.run == run.key.run { "another producer" } else { "another run" };
            let finding = Finding::new(Kind::Foreign, format!("{} of {whose}", format_counted(records, "record")));
            let finding = finding.producer(run.key.producer).run(run.key.run).sequences(run.first, run.last);
            self.suspect(finding, place, Excuse::Instead(self.expected_next(key)));
            return;
        }
        let Some(track) = self.ledger.track(run.key, place) else { return };
        track.records += records;
        let (newest, oldest) = (track.seen.last(), track.seen.first());
        let gapless = oldest.zip(newest).filter(|_| track.seen.len() == 1);
        let mut first = run.first;
        let leftover_below = match (self.rules.unfinished_bytes, self.rules.lap_records, newest, oldest) {
            // A recycled file of a killed run ends in records that were let go of before.
            (Some(_), None, Some(newest), Some(oldest)) if run.first < newest => oldest,
            _ => 0,
        };
        let stale_below = self.rules.stale_below.max(leftover_below);
        if first < stale_below {
            let last = run.last.min(stale_below - 1);
            self.stale(run.key, first, last, place);
            if run.last < stale_below {
                return;
            }
            first = stale_below;
        }
        if newest.is_none_or(|newest| run.last > newest) {
            self.data_end = self.data_end.max(end_position);
            self.settle();
        }
        let relation = self.ledger.enter(run.key, first, run.last, place, end_position);
        self.ledger.duplicates(run.key, &relation, place);
        self.late(run, &relation.late, gapless, newest, place);
        if let Some((_, next)) = self.rules.range
            && run.last >= next
        {
            let finding = Finding::new(Kind::Foreign, "lie past the last sequence that the manifest knows");
            let finding = finding.producer(run.key.producer).sequences(first.max(next), run.last);
            let finding = self.ledger.locate(finding, place);
            self.ledger.findings.add(finding);
        }
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
    pub fn spoiled(&mut self, run: &Run, flaw: Flaw, place: Place) {
        self.close_junk(false, None);
        // Later ones may have come over another connection. What would leave a gap before it is not believed.
        if self.next_of(run.key).is_some_and(|next| run.first <= next) {
            let _ = self.ledger.enter(run.key, run.first, run.last, place, place.position + (run.end - run.start));
        }
        let finding = Finding::new(flaw.kind(), flaw.what()).producer(run.key.producer).run(run.key.run);
        self.suspect(finding.sequences(run.first, run.last), place, Excuse::Leftover);
    }

    fn close_junk(&mut self, at_end: bool, stated_end: Option<u64>) {
        let Some((junk, place)) = self.junk.take() else { return };
        let length = junk.end - junk.start;
        if at_end && junk.zeros && stated_end.is_none_or(|end| junk.start >= end) {
            self.explain("zeros after the data (padding or room not yet used)", 0);
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
                    self.explain("a half record at the end, which no report counts as produced", 1);
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
        let pending = Pending { position: place.position, finding, excuse };
        let open = self.rules.unfinished_bytes.is_some() || !self.rules.missing.is_empty();
        if !open {
            self.resolve(pending);
        } else if self.pending.len() < PENDING_MAX {
            self.pending.push_back(pending);
        } else {
            if let (Excuse::Missing { first, marked: true, .. }, Some(key)) = (pending.excuse, self.rules.key) {
                self.ledger.unmark(key, first);
            }
            let records = pending.finding.records;
            let lumped = self.lumped.get_or_insert(Pending { excuse: Excuse::Leftover, ..pending });
            lumped.finding.records = lumped.finding.records.saturating_add(records);
        }
    }

    /// Resolves what the data's end has left behind for good.
    fn settle(&mut self) {
        let Some(unfinished) = self.rules.unfinished_bytes else { return };
        while let Some(first) = self.pending.front()
            && !self.is_unfinished(first.position)
            && first.position.saturating_add(unfinished) < self.data_end
            && let Some(pending) = self.pending.pop_front()
        {
            self.resolve(pending);
        }
    }

    /// Whether a kill may have left this position unfinished.
    fn is_unfinished(&self, position: u64) -> bool {
        self.rules.unfinished_bytes.is_some_and(|bytes| {
            position.saturating_add(bytes) >= self.data_end || (self.rules.gone_round && position < bytes)
        })
    }

    fn resolve(&mut self, pending: Pending) {
        let records = pending.finding.records;
        let reason = match pending.excuse {
            _ if self.is_unfinished(pending.position) => match pending.finding.kind {
                Kind::Foreign | Kind::Stale => Some("past the end of a killed run, left from before"),
                _ => Some("in the unfinished tail of a killed run"),
            },
            Excuse::Instead(next) => self.only_missing_here(next).then_some("where records were not confirmed"),
            Excuse::Missing { first, last, .. } => {
                covers(&self.rules.missing, first, last).then_some("where records were not confirmed")
            }
            Excuse::Leftover => None,
        };
        let Some(reason) = reason else {
            self.ledger.findings.add(pending.finding);
            return;
        };
        if let (Excuse::Missing { first, marked: true, .. }, Some(key)) = (pending.excuse, self.rules.key) {
            self.ledger.unmark(key, first);
        }
        self.explain(reason, records);
    }

    /// Whether all sequences from `next` to the following one that is there are known to be missing.
    fn only_missing_here(&self, next: Option<u64>) -> bool {
        let (Some(next), Some(key)) = (next, self.rules.key) else { return false };
        let following = self.ledger.tracks.get(&key).and_then(|track| track.seen.next_from(next));
        let end = following.or(self.rules.range.map(|(_, end)| end));
        end.is_some_and(|end| next < end && covers(&self.rules.missing, next, end - 1))
    }

    fn explain(&mut self, reason: &'static str, records: u64) {
        let entry = self.explained.entry(reason).or_default();
        entry.0 += 1;
        entry.1 = entry.1.saturating_add(records);
    }

    /// Everything was read: what waited is resolved, and with a manifest the gaps are named.
    pub fn finish(mut self) {
        while let Some(pending) = self.pending.pop_front() {
            self.resolve(pending);
        }
        if let Some(pending) = self.lumped.take() {
            self.resolve(pending);
        }
        self.close_seams();
        if let Some(key) = self.rules.key {
            self.judge_gaps(key);
        }
        let label = &self.rules.label;
        for (reason, (stretches, records)) in std::mem::take(&mut self.explained) {
            let line = match (stretches, records) {
                (_, 0) => format!("{label}: {reason}"),
                (_, records) => format!("{label}: {} {reason}", format_counted(records, "record")),
            };
            self.ledger.findings.explain(line);
        }
    }

    fn judge_gaps(&mut self, key: Key) {
        let Some(track) = self.ledger.track(key, Place::default()) else { return };
        track.judged = true;
        if track.overflowed {
            let came = track.came;
            self.judge_number(key, came);
            return;
        }
        let (first_seen, last_seen) = (track.seen.first(), track.seen.last());
        let range = match (self.rules.range, first_seen, last_seen) {
            (Some((first, next)), ..) if first < next => (first.max(self.rules.stale_below), next - 1),
            (None, Some(first), Some(last)) => match self.rules.lap_records {
                Some(_) => (self.rules.stale_below.min(last), last),
                None => (first, last),
            },
            _ => return,
        };
        let holes = track.seen.holes(range.0, range.1);
        if let (Some(began), Some(first)) = (self.rules.began_at, first_seen)
            && began < first
        {
            let what = "only --expect can prove that no more was to be kept";
            self.ledger.findings.explain(format!("{}: starts at sequence {first}; {what}", self.rules.label));
        }
        for hole in holes {
            let parts = subtract(hole.first, hole.last, &self.rules.missing);
            let left: u64 = parts.iter().map(|(from, to)| to - from + 1).sum();
            let unconfirmed = (hole.last - hole.first + 1).saturating_sub(left);
            if unconfirmed > 0 {
                self.explain("absent, which the manifest knows as not confirmed", unconfirmed);
            }
            let is_ring = self.rules.lap_records.is_some();
            let begins_torn = || is_ring && hole.after.is_some_and(|span| self.is_unfinished(span.start.position));
            let torn = hole.before.map_or_else(begins_torn, |span| self.is_unfinished(span.end_position));
            for (from, to) in parts {
                if torn {
                    self.explain("absent in the unfinished tail of a killed run", to - from + 1);
                } else {
                    let label = self.rules.label.clone();
                    self.ledger.gap(key, &hole, from, to, &label);
                }
            }
        }
    }
}
