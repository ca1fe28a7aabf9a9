//! What the messages of one partition mean for the ledger.

use super::super::findings::{Finding, Kind};
use super::super::intervals::Place;
use super::super::ledger::{Ledger, TRACKS_MAX};
use super::super::scan::Span;
use super::super::shape::{Claim, Flaw, Key};
use super::super::unproved::Cause;
use super::cursor::{Fact, Gone, Portion};
use super::message::Verdict;
use std::collections::HashMap;

/// What was seen of a producer in a partition.
#[derive(Clone, Copy)]
struct Seen {
    newest: u64,
    /// Cuts before its newest record.
    cuts: u64,
}

/// One partition, as far as it was judged. Offsets stand where files have bytes.
pub struct Partition {
    /// Behind its end there is an open transaction.
    pub is_held_back: bool,
    /// Nothing more is to come.
    pub is_read: bool,
    /// The time of what was judged last.
    pub newest_ms: i64,
    pub gone: Option<Gone>,
    /// Records of aborted transactions, which count for nothing.
    pub voided: u64,
    source: u32,
    seen: HashMap<Key, Seen>,
    /// Consecutive records that the ledger does not know yet.
    open: Option<Span>,
    /// Records that are damaged, or not signed, and perhaps just those that have to come here: what follows shows it.
    flawed: Option<Span>,
    /// So often records may be gone at the offset that had come up.
    cuts: u64,
    /// The last of these cuts, counted from 1, for each cause that there was.
    causes: Vec<(Cause, u64)>,
}

impl Partition {
    pub fn new(source: u32) -> Self {
        Self {
            is_held_back: false,
            is_read: false,
            newest_ms: i64::MIN,
            gone: None,
            voided: 0,
            source,
            seen: HashMap::new(),
            open: None,
            flawed: None,
            cuts: 0,
            causes: Vec::new(),
        }
    }

    /// What was read of it next.
    pub fn take(&mut self, portion: Portion, ledger: &mut Ledger) {
        ledger.findings.bytes += portion.bytes;
        for fact in portion.facts {
            match fact {
                Fact::Span(span) => self.span(span, ledger),
                Fact::Message(offset, verdict) => self.message(offset, verdict, ledger),
                Fact::Cut(cause) => self.cut(cause, ledger),
                Fact::Damage(offset, finding) => {
                    self.flush(ledger);
                    self.find(*finding, offset, ledger);
                }
                Fact::Explained(line) => ledger.findings.explain(line),
            }
        }
        (self.newest_ms, self.is_read) = (portion.newest_ms, portion.is_read);
        (self.gone, self.voided) = (portion.gone, portion.voided);
    }

    /// Records that would come next may be gone: what is missing between those before and those after is not proved.
    pub fn cut(&mut self, cause: Cause, ledger: &mut Ledger) {
        self.flush(ledger);
        self.cuts += 1;
        self.causes.retain(|(known, _)| *known != cause);
        self.causes.push((cause, self.cuts));
    }

    /// Why records may be gone, if there was a cut after the first so many.
    fn cause_since(&self, cuts: u64) -> Option<Cause> {
        self.causes.iter().filter(|(_, last)| *last > cuts).map(|(cause, _)| *cause).reduce(Cause::or)
    }

    pub fn message(&mut self, offset: i64, verdict: Verdict, ledger: &mut Ledger) {
        match verdict {
            Verdict::Record(claim) => self.span(Span::of_message(&claim, offset), ledger),
            Verdict::Flawed(claim, flaw) => self.flawed(claim, flaw, offset, ledger),
            Verdict::CutOff(claim) => {
                let what = format!("the record is cut off: it should have {} bytes", claim.length);
                let finding = Finding::new(Kind::Truncated, what).producer(claim.key.producer).run(claim.key.run);
                self.find(finding.sequences(claim.sequence, claim.sequence), offset, ledger);
            }
            Verdict::Unknown => {
                let finding = Finding::new(Kind::Unrecognised, "a message that is no record").records(1);
                self.find(finding, offset, ledger);
            }
        }
    }

    fn span(&mut self, span: Span, ledger: &mut Ledger) {
        if let Some(flawed) = self.flawed.take_if(|flawed| flawed.key == span.key)
            && flawed.last.checked_add(1) == Some(span.first)
        {
            let place = self.place(flawed.start);
            let _ = ledger.enter(flawed.key, flawed.first, flawed.last, place, flawed.end);
        }
        if let Some(open) = &mut self.open
            && open.goes_on_with(span.key, span.first)
        {
            open.extend(&span);
            return;
        }
        self.flush(ledger);
        self.open = Some(span);
    }

    fn flawed(&mut self, claim: Claim, flaw: Flaw, offset: i64, ledger: &mut Ledger) {
        self.flush(ledger);
        let (key, sequence) = (claim.key, claim.sequence);
        // Where it is the one that has to come here, it is damaged but not missing.
        if self.seen.get(&key).and_then(|seen| seen.newest.checked_add(1)) == Some(sequence) {
            let place = self.place(offset.cast_unsigned());
            let _ = ledger.enter(key, sequence, sequence, place, place.position + 1);
            self.seen.insert(key, Seen { newest: sequence, cuts: self.cuts });
        } else {
            let one = Span::of_message(&claim, offset);
            let before = self.flawed.take_if(|span| span.goes_on_with(key, sequence));
            self.flawed = Some(before.map_or(one, |mut span| {
                span.extend(&one);
                span
            }));
        }
        let finding = Finding::new(flaw.kind(), flaw.what()).producer(key.producer).run(key.run);
        self.find(finding.sequences(sequence, sequence), offset, ledger);
    }

    /// Hands the open span to the ledger.
    pub fn flush(&mut self, ledger: &mut Ledger) {
        let Some(span) = self.open.take() else { return };
        let place = self.place(span.start);
        let records = span.last - span.first + 1;
        ledger.findings.records += records;
        ledger.first_run.get_or_insert(span.key.run);
        let seen = self.seen.get(&span.key).copied();
        // As in a stream, before it is known whether the producer is followed.
        ledger.untimely(&span, place);
        let Some(track) = ledger.track(span.key, place) else { return };
        track.records += records;
        if let Some(cause) = self.cause_since(seen.map_or(0, |seen| seen.cuts)) {
            let from = seen.map_or(0, |seen| seen.newest.saturating_add(1));
            ledger.unproved.add(span.key, (from, span.last), cause);
        }
        let relation = ledger.enter(span.key, span.first, span.last, place, span.end);
        ledger.duplicates(span.key, &relation, place);
        let newest = seen.map(|seen| seen.newest);
        if let Some(newest) = newest {
            // New to the ledger, but not the order of this partition.
            for (from, to) in relation.late.into_iter().filter(|(from, _)| *from < newest) {
                let what = format!("came after sequence {newest} of the same partition");
                let finding = Finding::new(Kind::Reordered, what).producer(span.key.producer).run(span.key.run);
                let finding = ledger.locate(finding.sequences(from, to), place);
                ledger.findings.add(finding);
            }
        }
        if newest.is_some() || self.seen.len() < TRACKS_MAX {
            let newest = span.last.max(newest.unwrap_or(0));
            self.seen.insert(span.key, Seen { newest, cuts: self.cuts });
        }
    }

    /// Nothing more comes.
    pub fn finish(&mut self, ledger: &mut Ledger) {
        self.flush(ledger);
        if self.is_held_back {
            self.cut(Cause::OpenTransaction, ledger);
        }
        for (key, seen) in &self.seen {
            if let Some(cause) = self.cause_since(seen.cuts) {
                ledger.unproved.add(*key, (seen.newest.saturating_add(1), u64::MAX), cause);
            }
        }
    }

    /// Why all records of a producer may be gone from here, where none was seen. One that is seen elsewhere does not
    /// write to what others of its run write to: each has partitions of its own, or just one.
    pub fn may_have_had(&self, key: Key, is_elsewhere: bool) -> Option<Cause> {
        let is_of_others = || is_elsewhere && self.seen.keys().any(|other| other.run == key.run);
        let cause = self.cause_since(0)?;
        (!self.seen.contains_key(&key) && !is_of_others()).then_some(cause)
    }

    /// The highest sequence of each producer that was seen.
    pub fn reached(&self) -> impl Iterator<Item = (Key, u64)> + '_ {
        self.seen.iter().map(|(key, seen)| (*key, seen.newest))
    }

    /// What it is called.
    pub fn label<'l>(&self, ledger: &'l Ledger) -> &'l str {
        ledger.name_of(self.source)
    }

    pub fn place(&self, offset: u64) -> Place {
        Place { source: self.source, offset, position: offset }
    }

    fn find(&self, finding: Finding, offset: i64, ledger: &mut Ledger) {
        let finding = ledger.locate(finding, self.place(offset.cast_unsigned()));
        ledger.findings.add(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::expect::Expected;
    use super::*;

    const fn key(producer: u32) -> Key {
        Key { run: 1, producer }
    }

    fn record(partition: &mut Partition, producer: u32, sequence: u64, ledger: &mut Ledger) {
        let claim = Claim { key: key(producer), sequence, length: 100, timestamp_unix_ns: 0 };
        partition.message(0, Verdict::Record(claim), ledger);
    }

    #[test]
    fn all_that_may_have_taken_a_record_is_named() {
        let (mut partition, mut ledger) = (Partition::new(0), Ledger::new(HashMap::new()));
        partition.cut(Cause::Retention, &mut ledger);
        record(&mut partition, 0, 5, &mut ledger);
        partition.cut(Cause::Compaction, &mut ledger);
        record(&mut partition, 1, 7, &mut ledger);
        partition.is_held_back = true;
        partition.finish(&mut ledger);
        let cause = |producer, sequence| ledger.unproved.parts(key(producer), sequence, sequence)[0].2;
        // Each producer's own: before its record, and behind it.
        assert_eq!((cause(0, 4), cause(0, 6)), (Some(Cause::Retention), Some(Cause::Any)));
        assert_eq!((cause(1, 6), cause(1, 8)), (Some(Cause::Unknown), Some(Cause::OpenTransaction)));
        assert_eq!(partition.may_have_had(key(2), false), Some(Cause::Any));
    }

    #[test]
    fn nothing_is_kept_of_producers_that_are_not_followed() {
        let beyond = TRACKS_MAX as u32;
        let promise = Expected { due_unix_ns: Some((10, 20)), ..Expected::default() };
        let (mut partition, mut ledger) = (Partition::new(0), Ledger::new([(key(beyond), promise)].into()));
        partition.cut(Cause::Retention, &mut ledger);
        (0..=beyond).for_each(|producer| record(&mut partition, producer, 5, &mut ledger));
        assert_eq!(ledger.findings.count(Kind::Foreign).records, 0);
        let untimely = Claim { key: key(beyond), sequence: 9, length: 100, timestamp_unix_ns: 5 };
        partition.message(1, Verdict::Record(untimely), &mut ledger);
        partition.finish(&mut ledger);
        assert_eq!(ledger.findings.count(Kind::Foreign).records, 1, "that is seen of them, too");
        assert_eq!(ledger.unproved.parts(key(beyond - 1), 0, 4), [(0, 4, Some(Cause::Retention))]);
        assert_eq!(ledger.unproved.parts(key(beyond), 0, 4), [(0, 4, None)]);
    }
}
