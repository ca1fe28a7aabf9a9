//! What the batches of one partition mean for the ledger.

use super::super::findings::{Finding, Kind};
use super::super::intervals::Place;
use super::super::ledger::{Ledger, TRACKS_MAX};
use super::super::scan::Run;
use super::super::shape::{Claim, Flaw, Key};
use super::super::unproved::Cause;
use super::aborted::Aborted;
use super::message::{Judge, Verdict};
use crate::connect::kafka::FetchedPartition;
use crate::wire::kafka::inflate::Inflater;
use crate::wire::kafka::records::{Batch, BatchError, Batches};
use std::collections::HashMap;

/// What it takes to read batches.
pub struct Tools {
    pub inflater: Inflater,
    pub judge: Judge,
    /// Why offsets within the log may be gone; `None`: nothing known would explain it.
    pub gaps: Option<Cause>,
}

/// What was seen of a producer in a partition.
#[derive(Clone, Copy)]
struct Seen {
    newest: u64,
    /// Cuts before its newest record.
    cuts: u64,
}

/// Offsets that were never given, and that should lie between others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    pub offsets: i64,
    /// The first of them, and the one behind the last.
    pub first: i64,
    pub end: i64,
}

/// One partition, and how far it was read. Offsets stand where files have bytes.
pub struct Partition {
    pub id: i32,
    /// Behind its end there is an open transaction.
    pub is_held_back: bool,
    source: u32,
    next: i64,
    end: i64,
    newest_ms: i64,
    seen: HashMap<Key, Seen>,
    /// Consecutive records that the ledger does not know yet.
    open: Option<Run>,
    /// Records that are damaged, or not signed, and perhaps just those that have to come here: what follows shows it.
    flawed: Option<Run>,
    /// So often records may be gone at the offset that had come up.
    cuts: u64,
    /// The last of these cuts, counted from 1, for each cause that there was.
    causes: Vec<(Cause, u64)>,
    gone: Option<Gone>,
    /// Records of aborted transactions.
    voided: u64,
}

impl Partition {
    /// Its offsets from `first` to before `end` are to be read.
    pub fn new(id: i32, source: u32, first: i64, end: i64) -> Self {
        Self {
            id,
            is_held_back: false,
            source,
            next: first,
            end,
            newest_ms: i64::MIN,
            seen: HashMap::new(),
            open: None,
            flawed: None,
            cuts: 0,
            causes: Vec::new(),
            gone: None,
            voided: 0,
        }
    }

    pub fn is_read(&self) -> bool {
        self.next >= self.end
    }

    pub fn next(&self) -> i64 {
        self.next
    }

    pub fn end(&self) -> i64 {
        self.end
    }

    pub fn gone(&self) -> Option<Gone> {
        self.gone
    }

    /// Records of aborted transactions, which count for nothing.
    pub fn voided(&self) -> u64 {
        self.voided
    }

    /// The time of what was read last.
    pub fn newest_ms(&self) -> i64 {
        self.newest_ms
    }

    /// The log ends here by now.
    pub fn end_at(&mut self, offset: i64) {
        self.end = self.end.min(offset);
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

    /// Goes on at a later offset: what is in between is gone.
    pub fn skip_to(&mut self, offset: i64, cause: Cause, ledger: &mut Ledger) {
        if offset > self.next {
            self.cut(cause, ledger);
            self.next = offset;
        }
    }

    /// Takes fetched batches, of which the last may be cut off; whether that led any further.
    pub fn take(&mut self, fetched: &FetchedPartition<'_>, tools: &mut Tools, ledger: &mut Ledger) -> bool {
        let (before, bytes) = (self.next, fetched.records);
        let mut aborted = Aborted::new(fetched.aborted());
        for batch in Batches::new(bytes) {
            match batch {
                Ok(batch) => self.batch(&batch, &mut aborted, tools, ledger),
                // The end of what was asked for, or what the next fetch will start with.
                Err(_) if self.next > before => break,
                Err(BatchError::Malformed(malformed)) if malformed.is_short() && bytes.len() < HEAD_BYTES => break,
                Err(error) => {
                    let what = format!("{error}; nothing behind it can be read");
                    self.find(Finding::new(Kind::Malformed, what), self.next, ledger);
                    self.next = self.end;
                }
            }
            if self.is_read() {
                break;
            }
        }
        self.next > before
    }

    fn batch(&mut self, batch: &Batch<'_>, aborted: &mut Aborted, tools: &mut Tools, ledger: &mut Ledger) {
        let head = &batch.head;
        let last = head.base_offset.saturating_add(i64::from(head.last_offset_delta));
        if last < self.next {
            return;
        }
        self.pass(head.base_offset, tools.gaps, ledger);
        ledger.findings.bytes += batch.bytes().len() as u64;
        self.newest_ms = self.newest_ms.max(head.max_timestamp_ms);
        if let Err(error) = self.contents(batch, last, aborted, tools, ledger) {
            self.flush(ledger);
            let finding = Finding::new(Kind::Corrupt, error.to_string()).records(u64::from(head.records));
            self.find(finding, head.base_offset, ledger);
        }
        self.next = last.saturating_add(1);
    }

    /// The records of a batch that ends at offset `last`.
    fn contents(
        &mut self,
        batch: &Batch<'_>,
        last: i64,
        aborted: &mut Aborted,
        tools: &mut Tools,
        ledger: &mut Ledger,
    ) -> Result<(), BatchError> {
        let head = &batch.head;
        batch.check_crc()?;
        if aborted.has_voided(head, last) {
            self.voided += u64::from(head.records);
            return Ok(());
        }
        for record in batch.records(&mut tools.inflater)? {
            let record = record?;
            if head.is_control() {
                aborted.mark(head.producer_id, record.key);
            } else if (self.next..self.end).contains(&record.offset) {
                self.pass(record.offset, tools.gaps, ledger);
                self.message(record.offset, tools.judge.judge(&record), ledger);
                self.next = record.offset + 1;
            }
        }
        if !head.is_control() {
            self.pass(last.saturating_add(1), tools.gaps, ledger);
        }
        Ok(())
    }

    /// Passes by the offsets before `to` that are not there: compaction leaves them out, in batches and between them.
    fn pass(&mut self, to: i64, cause: Option<Cause>, ledger: &mut Ledger) {
        let (first, end) = (self.next, to.min(self.end));
        if first >= end {
            return;
        }
        let before = self.gone.unwrap_or(Gone { offsets: 0, first, end });
        self.gone = Some(Gone { offsets: before.offsets + (end - first), end, ..before });
        match cause {
            Some(cause) => self.skip_to(end, cause, ledger),
            None => self.next = end,
        }
    }

    pub fn message(&mut self, offset: i64, verdict: Verdict, ledger: &mut Ledger) {
        match verdict {
            Verdict::Record(claim) => self.record(claim, offset, ledger),
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

    fn record(&mut self, claim: Claim, offset: i64, ledger: &mut Ledger) {
        let at = offset.cast_unsigned();
        if let Some(flawed) = self.flawed.take_if(|flawed| flawed.key == claim.key)
            && flawed.last.checked_add(1) == Some(claim.sequence)
        {
            let place = self.place(flawed.start);
            let _ = ledger.enter(flawed.key, flawed.first, flawed.last, place, flawed.end);
        }
        if let Some(run) = &mut self.open
            && run.key == claim.key
            && run.last.checked_add(1) == Some(claim.sequence)
        {
            (run.last, run.end) = (claim.sequence, at + 1);
            return;
        }
        self.flush(ledger);
        let (first, last) = (claim.sequence, claim.sequence);
        self.open = Some(Run { key: claim.key, first, last, start: at, end: at + 1 });
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
            let at = offset.cast_unsigned();
            let one = Run { key, first: sequence, last: sequence, start: at, end: at + 1 };
            let before = self.flawed.take_if(|run| run.key == key && run.last.checked_add(1) == Some(sequence));
            self.flawed = Some(before.map_or(one, |run| Run { last: sequence, end: at + 1, ..run }));
        }
        let finding = Finding::new(flaw.kind(), flaw.what()).producer(key.producer).run(key.run);
        self.find(finding.sequences(sequence, sequence), offset, ledger);
    }

    /// Hands the open run to the ledger.
    pub fn flush(&mut self, ledger: &mut Ledger) {
        let Some(run) = self.open.take() else { return };
        let place = self.place(run.start);
        let records = run.last - run.first + 1;
        ledger.findings.records += records;
        ledger.first_run.get_or_insert(run.key.run);
        let seen = self.seen.get(&run.key).copied();
        let Some(track) = ledger.track(run.key, place) else { return };
        track.records += records;
        if let Some(cause) = self.cause_since(seen.map_or(0, |seen| seen.cuts)) {
            let from = seen.map_or(0, |seen| seen.newest.saturating_add(1));
            ledger.unproved.add(run.key, (from, run.last), cause);
        }
        let relation = ledger.enter(run.key, run.first, run.last, place, run.end);
        ledger.duplicates(run.key, &relation, place);
        let newest = seen.map(|seen| seen.newest);
        if let Some(newest) = newest {
            // New to the ledger, but not the order of this partition.
            for (from, to) in relation.late.into_iter().filter(|(from, _)| *from < newest) {
                let what = format!("came after sequence {newest} of the same partition");
                let finding = Finding::new(Kind::Reordered, what).producer(run.key.producer).run(run.key.run);
                let finding = ledger.locate(finding.sequences(from, to), place);
                ledger.findings.add(finding);
            }
        }
        if newest.is_some() || self.seen.len() < TRACKS_MAX {
            let newest = run.last.max(newest.unwrap_or(0));
            self.seen.insert(run.key, Seen { newest, cuts: self.cuts });
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

    pub fn place(&self, offset: u64) -> Place {
        Place { source: self.source, offset, position: offset }
    }

    fn find(&self, finding: Finding, offset: i64, ledger: &mut Ledger) {
        let finding = ledger.locate(finding, self.place(offset.cast_unsigned()));
        ledger.findings.add(finding);
    }
}

/// Less than this tells nothing of a batch.
const HEAD_BYTES: usize = crate::wire::kafka::batch::HEADER_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    const fn key(producer: u32) -> Key {
        Key { run: 1, producer }
    }

    fn record(partition: &mut Partition, producer: u32, sequence: u64, ledger: &mut Ledger) {
        let claim = Claim { key: key(producer), sequence, length: 100 };
        partition.message(partition.next(), Verdict::Record(claim), ledger);
    }

    #[test]
    fn all_that_may_have_taken_a_record_is_named() {
        let (mut partition, mut ledger) = (Partition::new(0, 0, 0, 100), Ledger::new(HashMap::new()));
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
        let (mut partition, mut ledger) = (Partition::new(0, 0, 0, 100), Ledger::new(HashMap::new()));
        partition.cut(Cause::Retention, &mut ledger);
        let beyond = TRACKS_MAX as u32;
        (0..=beyond).for_each(|producer| record(&mut partition, producer, 5, &mut ledger));
        partition.finish(&mut ledger);
        assert_eq!(ledger.unproved.parts(key(beyond - 1), 0, 4), [(0, 4, Some(Cause::Retention))]);
        assert_eq!(ledger.unproved.parts(key(beyond), 0, 4), [(0, 4, None)]);
    }
}
