//! What the batches of one partition mean for the ledger.

use super::super::findings::{Finding, Kind};
use super::super::intervals::Place;
use super::super::ledger::{Ledger, TRACKS_MAX};
use super::super::scan::Run;
use super::super::shape::{Claim, Flaw, Key};
use super::message::{Judge, Verdict};
use crate::wire::kafka::inflate::Inflater;
use crate::wire::kafka::records::{Batch, BatchError, Batches};
use std::collections::HashMap;

/// One partition, and how far it was read. Offsets stand where files have bytes.
pub struct Partition {
    pub id: i32,
    source: u32,
    next: i64,
    end: i64,
    newest_ms: i64,
    /// The newest sequence of each producer here.
    newest: HashMap<Key, u64>,
    /// Consecutive records that the ledger does not know yet.
    open: Option<Run>,
}

impl Partition {
    /// Its offsets from `first` to before `end` are to be read.
    pub fn new(id: i32, source: u32, first: i64, end: i64) -> Self {
        Self { id, source, next: first, end, newest_ms: i64::MIN, newest: HashMap::new(), open: None }
    }

    pub fn is_read(&self) -> bool {
        self.next >= self.end
    }

    pub fn next(&self) -> i64 {
        self.next
    }

    /// The time of what was read last.
    pub fn newest_ms(&self) -> i64 {
        self.newest_ms
    }

    /// Goes on at a later offset.
    pub fn skip_to(&mut self, offset: i64) {
        self.next = self.next.max(offset);
    }

    /// Takes fetched batches, of which the last may be cut off; whether that led any further.
    pub fn take(&mut self, bytes: &[u8], inflater: &mut Inflater, judge: &Judge, ledger: &mut Ledger) -> bool {
        let before = self.next;
        for batch in Batches::new(bytes) {
            match batch {
                Ok(batch) => self.batch(&batch, inflater, judge, ledger),
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

    fn batch(&mut self, batch: &Batch<'_>, inflater: &mut Inflater, judge: &Judge, ledger: &mut Ledger) {
        let head = &batch.head;
        let last = head.base_offset.saturating_add(i64::from(head.last_offset_delta));
        if last < self.next {
            return;
        }
        if head.base_offset > self.next {
            let gone = head.base_offset - self.next;
            ledger.findings.explain(format!(
                "partition {}: {gone} offsets from {} on are not used (deleted, compacted or aborted)",
                self.id, self.next
            ));
        }
        ledger.findings.bytes += batch.bytes().len() as u64;
        self.newest_ms = self.newest_ms.max(head.max_timestamp_ms);
        let outcome = batch.check_crc().and_then(|()| {
            if head.is_control() {
                return Ok(());
            }
            for record in batch.records(inflater)? {
                let record = record?;
                if (self.next..self.end).contains(&record.offset) {
                    self.message(record.offset, judge.judge(&record), ledger);
                }
            }
            Ok(())
        });
        if let Err(error) = outcome {
            self.flush(ledger);
            let finding = Finding::new(Kind::Corrupt, error.to_string()).records(u64::from(head.records));
            self.find(finding, head.base_offset, ledger);
        }
        self.next = last.saturating_add(1);
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
        if self.newest.get(&key).and_then(|newest| newest.checked_add(1)) == Some(sequence) {
            let place = self.place(offset.cast_unsigned());
            let _ = ledger.enter(key, sequence, sequence, place, place.position + 1);
            self.newest.insert(key, sequence);
        }
        let kind = if flaw.keeps_extent() { Kind::Forged } else { Kind::Corrupt };
        let finding = Finding::new(kind, flaw.what()).producer(key.producer).run(key.run);
        self.find(finding.sequences(sequence, sequence), offset, ledger);
    }

    /// Hands the open run to the ledger.
    pub fn flush(&mut self, ledger: &mut Ledger) {
        let Some(run) = self.open.take() else { return };
        let place = self.place(run.start);
        let records = run.last - run.first + 1;
        ledger.findings.records += records;
        ledger.first_run.get_or_insert(run.key.run);
        let Some(track) = ledger.track(run.key, place) else { return };
        track.records += records;
        let relation = ledger.enter(run.key, run.first, run.last, place, run.end);
        ledger.duplicates(run.key, &relation, place);
        let newest = self.newest.get(&run.key).copied();
        if let Some(newest) = newest {
            // New to the ledger, but not the order of this partition.
            for (from, to) in relation.late.into_iter().filter(|(from, _)| *from < newest) {
                let what = format!("came after sequence {newest} of the same partition");
                let finding = Finding::new(Kind::Reordered, what).producer(run.key.producer).run(run.key.run);
                let finding = ledger.locate(finding.sequences(from, to), place);
                ledger.findings.add(finding);
            }
        }
        if newest.is_some() || self.newest.len() < TRACKS_MAX {
            self.newest.insert(run.key, run.last.max(newest.unwrap_or(0)));
        }
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
