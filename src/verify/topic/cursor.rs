//! How far one partition was read, and what its batches tell of it, in the order of its offsets.

use super::super::findings::{Finding, Kind};
use super::super::scan::Span;
use super::super::unproved::Cause;
use super::aborted::Aborted;
use super::message::{Judge, Verdict};
use crate::connect::kafka::FetchedPartition;
use crate::wire::kafka::codec::CodecError;
use crate::wire::kafka::inflate::Inflater;
use crate::wire::kafka::records::{Batch, BatchError, Batches};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Less than this tells nothing of a batch.
const HEAD_BYTES: usize = crate::wire::kafka::batch::HEADER_BYTES;
/// Facts that may wait to be told (about 60 bytes each); an orderly fetch has one.
const FACTS_MAX: usize = 1 << 16;

/// What it takes to read batches.
pub struct Tools {
    pub inflater: Inflater,
    /// For batches that are too large for that one: shared, so that one thread at a time has one in memory.
    pub large: Arc<Mutex<Inflater>>,
    pub judge: Judge,
    /// Why offsets within the log may be gone; `None`: nothing known would explain it.
    pub gaps: Option<Cause>,
}

/// Offsets that were never given, and that should lie between others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    pub offsets: i64,
    /// The first of them, and the one behind the last.
    pub first: i64,
    pub end: i64,
}

/// One thing that the ledger has to know of a partition.
#[derive(Debug)]
pub enum Fact {
    /// Intact records of one producer with consecutive sequences, nothing else between them.
    Span(Span),
    /// Any other message, and its offset.
    Message(i64, Verdict),
    /// Records that would come next may be gone.
    Cut(Cause),
    Damage(i64, Box<Finding>),
    Explained(String),
}

/// What was read at one go.
#[derive(Debug)]
pub struct Portion {
    pub facts: Vec<Fact>,
    pub bytes: u64,
    pub offsets: u64,
    /// The time of what was read last.
    pub newest_ms: i64,
    /// All that was gone or void up to now.
    pub gone: Option<Gone>,
    pub voided: u64,
    pub is_read: bool,
}

/// Where the reading of one partition stands.
pub struct Cursor {
    pub id: i32,
    next: i64,
    end: i64,
    newest_ms: i64,
    gone: Option<Gone>,
    /// Records of aborted transactions.
    voided: u64,
    /// Not told yet: what there is to tell, the bytes of its batches, and where it begins.
    facts: Vec<Fact>,
    bytes: u64,
    told_to: i64,
}

impl Cursor {
    /// Its offsets from `first` to before `end` are to be read.
    pub fn new(id: i32, first: i64, end: i64) -> Self {
        let facts = Vec::new();
        Self { id, next: first, end, newest_ms: i64::MIN, gone: None, voided: 0, facts, bytes: 0, told_to: first }
    }

    pub fn is_read(&self) -> bool {
        self.next >= self.end
    }

    fn is_full(&self) -> bool {
        self.facts.len() >= FACTS_MAX
    }

    pub fn next(&self) -> i64 {
        self.next
    }

    pub fn end(&self) -> i64 {
        self.end
    }

    /// Offsets that are still to be read.
    pub fn left(&self) -> u64 {
        self.end.saturating_sub(self.next).max(0).cast_unsigned()
    }

    /// The time of what was read last.
    pub fn newest_ms(&self) -> i64 {
        self.newest_ms
    }

    /// What was read since the last one.
    pub fn portion(&mut self) -> Portion {
        let offsets = self.next.saturating_sub(self.told_to).max(0).cast_unsigned();
        self.told_to = self.next;
        Portion {
            facts: std::mem::take(&mut self.facts),
            bytes: std::mem::take(&mut self.bytes),
            offsets,
            newest_ms: self.newest_ms,
            gone: self.gone,
            voided: self.voided,
            is_read: self.is_read(),
        }
    }

    /// The log ends here by now.
    pub fn end_at(&mut self, offset: i64) {
        self.end = self.end.min(offset);
    }

    /// Goes on at a later offset: what is in between is gone.
    pub fn skip_to(&mut self, offset: i64, cause: Cause) {
        if offset > self.next {
            self.facts.push(Fact::Cut(cause));
            self.next = offset;
        }
    }

    pub fn find(&mut self, finding: Finding, offset: i64) {
        self.facts.push(Fact::Damage(offset, Box::new(finding)));
    }

    pub fn explain(&mut self, line: String) {
        self.facts.push(Fact::Explained(line));
    }

    /// Takes fetched batches, of which the last may be cut off; whether that led any further.
    pub fn take(&mut self, fetched: &FetchedPartition<'_>, tools: &mut Tools) -> bool {
        let (before, bytes) = (self.next, fetched.records);
        let mut aborted = Aborted::new(fetched.aborted());
        for batch in Batches::new(bytes) {
            match batch {
                Ok(batch) => self.batch(&batch, &mut aborted, tools),
                // The end of what was asked for, or what the next fetch will start with.
                Err(_) if self.next > before => break,
                Err(BatchError::Malformed(malformed)) if malformed.is_short() && bytes.len() < HEAD_BYTES => break,
                Err(error) => {
                    let what = format!("{error}; nothing behind it can be read");
                    self.find(Finding::new(Kind::Malformed, what), self.next);
                    self.next = self.end;
                }
            }
            if self.is_read() || self.is_full() {
                break;
            }
        }
        self.next > before
    }

    fn batch(&mut self, batch: &Batch<'_>, aborted: &mut Aborted, tools: &mut Tools) {
        let head = &batch.head;
        let last = head.base_offset.saturating_add(i64::from(head.last_offset_delta));
        if last < self.next {
            return;
        }
        self.pass(head.base_offset, tools.gaps);
        match self.contents(batch, last, aborted, tools) {
            // The next fetch begins with the rest of it.
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => {
                let finding = Finding::new(Kind::Corrupt, error.to_string()).records(u64::from(head.records));
                self.find(finding, head.base_offset);
            }
        }
        self.bytes += batch.bytes().len() as u64;
        self.newest_ms = self.newest_ms.max(head.max_timestamp_ms);
        self.next = last.saturating_add(1);
    }

    /// The records of a batch that ends at offset `last`; whether that was all of them.
    fn contents(
        &mut self,
        batch: &Batch<'_>,
        last: i64,
        aborted: &mut Aborted,
        tools: &mut Tools,
    ) -> Result<bool, BatchError> {
        let head = &batch.head;
        batch.check_crc()?;
        if aborted.has_voided(head, last) {
            self.voided += u64::from(head.records);
            return Ok(true);
        }
        let mut large: Option<MutexGuard<'_, Inflater>> = None;
        let records = match batch.records(&mut tools.inflater) {
            Err(BatchError::Codec(CodecError::TooLarge { .. })) => {
                let inflater = tools.large.lock().unwrap_or_else(PoisonError::into_inner);
                batch.records(large.insert(inflater))?
            }
            records => records?,
        };
        for record in records {
            let record = record?;
            if head.is_control() {
                aborted.mark(head.producer_id, record.key);
            } else if (self.next..self.end).contains(&record.offset) {
                if self.is_full() {
                    return Ok(false);
                }
                self.pass(record.offset, tools.gaps);
                self.message(record.offset, tools.judge.judge(&record));
                self.next = record.offset + 1;
            }
        }
        if !head.is_control() {
            self.pass(last.saturating_add(1), tools.gaps);
        }
        Ok(true)
    }

    fn message(&mut self, offset: i64, verdict: Verdict) {
        if let (Verdict::Record(claim), Some(Fact::Span(span))) = (&verdict, self.facts.last_mut())
            && span.goes_on_with(claim.key, claim.sequence)
        {
            span.extend(&Span::of_message(claim, offset));
            return;
        }
        self.facts.push(match verdict {
            Verdict::Record(claim) => Fact::Span(Span::of_message(&claim, offset)),
            other => Fact::Message(offset, other),
        });
    }

    /// Passes by the offsets before `to` that are not there: compaction leaves them out, in batches and between them.
    fn pass(&mut self, to: i64, cause: Option<Cause>) {
        let (first, end) = (self.next, to.min(self.end));
        if first >= end {
            return;
        }
        let before = self.gone.unwrap_or(Gone { offsets: 0, first, end });
        self.gone = Some(Gone { offsets: before.offsets + (end - first), end, ..before });
        match cause {
            Some(cause) => self.skip_to(end, cause),
            None => self.next = end,
        }
    }
}
