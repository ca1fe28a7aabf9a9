//! Kafka batches that arrive over many connections: each is checked where it came in, then its partition tells the
//! common books. Order is judged within a partition, gaps and duplicates over all of them.

use super::{Live, Outcome};
use crate::base::limits;
use crate::verify::findings::{Finding, Kind};
use crate::verify::intervals::Place;
use crate::verify::ledger::Unit;
use crate::verify::shape::Key;
use crate::verify::topic::message::{Judge, Verdict};
use crate::verify::topic::partition::Partition;
use crate::wire::kafka::inflate::Inflater;
use crate::wire::kafka::records::{Batch, BatchError};
use std::collections::BTreeSet;

/// What one thread needs to look at batches, and what it saw in the last one.
pub struct Inspector {
    judge: Judge,
    inflater: Inflater,
    /// Offset from the batch's first one, and what lies there.
    verdicts: Vec<(i32, Verdict)>,
    bytes: u64,
}

/// Why a broker has to refuse a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsound {
    /// Its bytes are not those that were sent.
    Corrupt(String),
    /// Its bytes say what cannot be.
    Invalid(String),
}

impl Inspector {
    pub fn new(sign_key: Option<[u8; 16]>) -> Self {
        let inflater = Inflater::new(limits::KAFKA_BATCH_PLAIN_BYTES_MAX);
        Self { judge: Judge::new(sign_key, BTreeSet::new()), inflater, verdicts: Vec::new(), bytes: 0 }
    }

    /// Looks at a whole batch: its checksum, its form, and each of its records.
    pub fn look(&mut self, bytes: &[u8]) -> Result<(), Unsound> {
        self.verdicts.clear();
        self.bytes = bytes.len() as u64;
        let Self { judge, inflater, verdicts, .. } = self;
        let corrupt = |error: BatchError| match error {
            BatchError::Crc { .. } | BatchError::Codec(_) => Unsound::Corrupt(error.to_string()),
            _ => Unsound::Invalid(error.to_string()),
        };
        let batch = Batch::parse(bytes).map_err(corrupt)?;
        batch.check_crc().map_err(corrupt)?;
        for (at, record) in (0_i32..).zip(batch.records(inflater).map_err(corrupt)?) {
            let record = record.map_err(corrupt)?;
            if record.offset_delta != at {
                let what = format!("record batch: record {at} says that it is number {}", record.offset_delta);
                return Err(Unsound::Invalid(what));
            }
            verdicts.push((at, judge.judge(&record)));
        }
        Ok(())
    }
}

/// One partition.
pub struct Arrivals(Partition);

impl Arrivals {
    /// The highest sequence of each producer that came.
    pub fn reached(&self) -> impl Iterator<Item = (Key, u64)> + '_ {
        self.0.reached()
    }
}

impl Live {
    /// Only some of the batches are shown: nothing can be said about gaps.
    pub fn sampling(mut self, every: u64) -> Self {
        self.sampled_every = Some(every);
        self
    }

    pub fn partition(&mut self, topic: &str, id: i32) -> Arrivals {
        self.ledger.findings.sources += 1;
        let source = self.ledger.name(format!("partition {id} of {topic}"), Unit::Offsets);
        Arrivals(Partition::new(source))
    }

    /// Takes the batch that was looked at last.
    pub fn append(&mut self, to: &mut Arrivals, base_offset: i64, inspector: &mut Inspector, outcome: Outcome) {
        // As with the records below: what is uncertain is not received, but a sample is what was looked at.
        if outcome == Outcome::Received || self.sampled_every.is_some() {
            self.ledger.findings.bytes += inspector.bytes;
        }
        self.ledger.note_signatures(inspector.judge.has_unchecked_signatures());
        for (delta, verdict) in inspector.verdicts.drain(..) {
            let offset = base_offset.saturating_add(i64::from(delta));
            match (outcome, self.sampled_every, verdict) {
                (Outcome::Uncertain, None, Verdict::Record(claim)) => {
                    self.records_uncertain += 1;
                    let at = offset.cast_unsigned();
                    let place = Place { source: 0, offset: at, position: at };
                    let _told_twice = self.uncertain.enter(claim.key, claim.sequence, claim.sequence, place, at + 1);
                }
                (_, Some(_), Verdict::Record(_)) => self.ledger.findings.records += 1,
                (_, _, verdict) => to.0.message(offset, verdict, &mut self.ledger),
            }
        }
        to.0.flush(&mut self.ledger);
    }

    /// A batch that the broker had to refuse.
    pub fn refused(&mut self, to: &Arrivals, next_offset: i64, records: u32, why: &Unsound) {
        let (kind, what) = match why {
            Unsound::Corrupt(what) => (Kind::Corrupt, what),
            Unsound::Invalid(what) => (Kind::Malformed, what),
        };
        let place = to.0.place(next_offset.cast_unsigned());
        let finding = Finding::new(kind, what.clone()).records(u64::from(records));
        let finding = self.ledger.locate(finding, place);
        self.ledger.findings.add(finding);
    }
}
