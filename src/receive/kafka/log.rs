//! What a broker remembers of a partition without keeping a record: where it ends, and the last batches of each
//! producer, so that one that comes again is known.
//!
//! Source: <https://kafka.apache.org/documentation/#semantics>; the rules are those of Kafka's `ProducerStateManager`.

use crate::base::limits;
use crate::verify::live::Arrivals;
use crate::wire::kafka::batch::NO_PRODUCER_ID;
use crate::wire::kafka::errors::{
    INVALID_PRODUCER_EPOCH, INVALID_RECORD, OUT_OF_ORDER_SEQUENCE_NUMBER as OUT_OF_ORDER,
};
use crate::wire::kafka::records::BatchHead;
use std::collections::HashMap;

/// Batches of a producer that are known again.
const REMEMBERED: usize = 5;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    New {
        offset: i64,
    },
    /// It is there already.
    Again {
        offset: i64,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kept {
    first: i32,
    last: i32,
    offset: i64,
}

#[derive(Clone, Debug)]
struct Producer {
    epoch: i16,
    /// The newest one last.
    batches: [Kept; REMEMBERED],
    count: usize,
}

impl Producer {
    fn newest(&self) -> Option<Kept> {
        self.count.checked_sub(1).map(|at| self.batches[at])
    }

    fn keep(&mut self, kept: Kept) {
        if self.count == REMEMBERED {
            self.batches.rotate_left(1);
            self.count -= 1;
        }
        self.batches[self.count] = kept;
        self.count += 1;
    }
}

/// One partition.
#[derive(Default)]
pub struct Partition {
    next: i64,
    producers: HashMap<i64, Producer>,
    /// Producers were let go of: one that is not known may be anywhere in its sequences.
    forgot: bool,
    /// With verification.
    pub arrivals: Option<Arrivals>,
}

impl Partition {
    /// The offset of the next record.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// Takes a sound batch, or says by which code it is refused. `ours`: this broker gave out the id of its producer.
    #[inline]
    pub fn append(&mut self, head: &BatchHead, ours: bool) -> Result<Appended, i16> {
        if head.producer_id != NO_PRODUCER_ID
            && let Some(offset) = self.sequence(head, ours)?
        {
            return Ok(Appended::Again { offset });
        }
        let offset = self.next;
        self.next = self.next.saturating_add(i64::from(head.records));
        Ok(Appended::New { offset })
    }

    /// Where the batch lies already; else it is entered.
    fn sequence(&mut self, head: &BatchHead, ours: bool) -> Result<Option<i64>, i16> {
        if head.producer_id < 0 || head.producer_epoch < 0 || head.base_sequence < 0 {
            return Err(INVALID_RECORD);
        }
        if self.producers.len() >= limits::RECEIVE_PRODUCERS_MAX && !self.producers.contains_key(&head.producer_id) {
            self.producers.clear();
            self.forgot = true;
        }
        let fresh = || Producer { epoch: head.producer_epoch, batches: [Kept::default(); REMEMBERED], count: 0 };
        let producer = self.producers.entry(head.producer_id).or_insert_with(fresh);
        let first = head.base_sequence;
        let kept = Kept { first, last: advanced(first, head.records - 1), offset: self.next };
        if head.producer_epoch < producer.epoch {
            return Err(INVALID_PRODUCER_EPOCH);
        }
        if head.producer_epoch > producer.epoch {
            if first != 0 {
                return Err(OUT_OF_ORDER);
            }
            *producer = fresh();
        }
        let same = |old: &&Kept| (old.first, old.last) == (kept.first, kept.last);
        if let Some(old) = producer.batches[..producer.count].iter().find(same) {
            return Ok(Some(old.offset));
        }
        // Of a producer without a state Kafka takes any sequence. But where none was ever kept, the first batch may
        // have been refused, and those behind it must not take its place.
        let begins = (ours && !self.forgot).then_some(0);
        let due = producer.newest().map_or(begins, |newest| Some(advanced(newest.last, 1)));
        if due.is_some_and(|due| due != first) {
            return Err(OUT_OF_ORDER);
        }
        producer.keep(kept);
        Ok(None)
    }
}

/// Sequences go round: after the largest one comes 0.
fn advanced(sequence: i32, by: u32) -> i32 {
    ((sequence as u32).wrapping_add(by) & i32::MAX as u32) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::kafka::codec::Codec;

    fn head(id: i64, epoch: i16, sequence: i32, records: u32) -> BatchHead {
        BatchHead {
            base_offset: 0,
            bytes: 100,
            leader_epoch: -1,
            crc: 0,
            attributes: 0,
            codec: Codec::None,
            last_offset_delta: records as i32 - 1,
            first_timestamp_ms: 0,
            max_timestamp_ms: 0,
            producer_id: id,
            producer_epoch: epoch,
            base_sequence: sequence,
            records,
        }
    }

    fn new(offset: i64) -> Result<Appended, i16> {
        Ok(Appended::New { offset })
    }

    #[test]
    fn the_last_five_batches_are_known_again() {
        let mut partition = Partition::default();
        assert_eq!(partition.append(&head(-1, -1, -1, 4), true), new(0));
        assert_eq!(partition.append(&head(-1, -1, -1, 4), true), new(4));
        for at in 0..7 {
            assert_eq!(partition.append(&head(9, 0, at * 10, 10), true), new(8 + 10 * i64::from(at)));
        }
        for at in 2..7 {
            let again = Ok(Appended::Again { offset: 8 + 10 * i64::from(at) });
            assert_eq!(partition.append(&head(9, 0, at * 10, 10), true), again);
        }
        assert_eq!(partition.append(&head(9, 0, 10, 10), true), Err(OUT_OF_ORDER), "the sixth is forgotten");
        assert_eq!(partition.append(&head(9, 0, 60, 9), true), Err(OUT_OF_ORDER), "another cut");
        assert_eq!(partition.append(&head(9, 0, 80, 10), true), Err(OUT_OF_ORDER), "a hole");
        assert_eq!(partition.append(&head(9, 0, 70, 10), true), new(78));
        assert_eq!(partition.append(&head(8, 0, 5, 1), true), Err(OUT_OF_ORDER), "the first one is missing");
        assert_eq!(partition.append(&head(7, 0, 5, 1), false), new(88), "an id of the broker before this one");
        assert_eq!(partition.append(&head(7, 0, 7, 1), false), Err(OUT_OF_ORDER), "it is known by now");
        partition.forgot = true;
        assert_eq!(partition.append(&head(8, 0, 5, 1), true), new(89), "it may have been known");
        assert_eq!(partition.next(), 90);
    }

    #[test]
    fn epochs_begin_anew_and_sequences_go_round() {
        let mut partition = Partition { forgot: true, ..Partition::default() };
        assert_eq!(partition.append(&head(1, 3, i32::MAX - 1, 4), true), new(0));
        assert_eq!(partition.append(&head(1, 3, 2, 1), true), new(4), "two before the turn, 0 and 1 after it");
        assert_eq!(partition.append(&head(1, 4, 3, 1), true), Err(OUT_OF_ORDER));
        assert_eq!(partition.append(&head(1, 4, 0, 1), true), new(5));
        assert_eq!(partition.append(&head(1, 3, 3, 1), true), Err(INVALID_PRODUCER_EPOCH));
        assert_eq!(partition.append(&head(1, -1, 0, 1), true), Err(INVALID_RECORD));
        assert_eq!(partition.append(&head(-2, 0, 0, 1), true), Err(INVALID_RECORD));
    }

    #[test]
    fn memory_for_producers_is_bounded() {
        let mut partition = Partition::default();
        for id in 0..3 * limits::RECEIVE_PRODUCERS_MAX as i64 {
            assert_eq!(partition.append(&head(id, 0, 0, 1), true), new(id));
            assert!(partition.producers.len() <= limits::RECEIVE_PRODUCERS_MAX);
        }
    }
}
