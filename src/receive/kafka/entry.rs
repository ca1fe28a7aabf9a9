//! What becomes of one batch, by how its request ends.

use super::broker::{Broker, Checks, Topic};
use super::log::{Appended, Partition};
use super::request::Brought;
use crate::receive::books::Books;
use crate::receive::faults::Ending;
use crate::verify::live::{Inspector, Outcome, Unsound};
use crate::wire::kafka::batch::NO_PRODUCER_ID;
use crate::wire::kafka::errors::{
    CORRUPT_MESSAGE, INVALID_RECORD, INVALID_REQUIRED_ACKS, PERHAPS_APPENDED, UNKNOWN_TOPIC_OR_PARTITION,
};
use crate::wire::kafka::records::BatchHead;

/// What is done with a sound batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Intent {
    /// What its sender gets in place of an offset.
    code: Option<i16>,
    appends: bool,
    outcome: Outcome,
}

impl Intent {
    #[inline]
    fn of(ending: Ending, has_producer_id: bool) -> Self {
        let (code, appends) = match ending {
            // Written all the same, as by a broker whose replicas did not confirm in time.
            Ending::Error(code) => (Some(code), PERHAPS_APPENDED.contains(&code)),
            Ending::Reset => (None, false),
            _ => (None, true),
        };
        let is_answered = matches!(ending, Ending::Answer | Ending::Error(_)) && !(code.is_some() && appends);
        // What has no producer id may come again, and nobody could tell.
        let outcome = if has_producer_id || is_answered { Outcome::Received } else { Outcome::Uncertain };
        Self { code, appends, outcome }
    }
}

/// How one batch is entered.
pub struct Entry<'a> {
    pub topic: &'a Topic,
    pub broker: &'a Broker,
    pub acks: i16,
    pub ending: Ending,
}

impl Entry<'_> {
    /// The offset of the batch, or the code that its sender gets.
    #[inline]
    pub fn enter(
        &self,
        brought: &Brought,
        body: &[u8],
        inspector: &mut Inspector,
        books: &mut Books,
    ) -> Result<i64, i16> {
        if !matches!(self.acks, -1..=1) {
            return Err(INVALID_REQUIRED_ACKS);
        }
        let head = brought.head?;
        let mut partition = self.topic.partition(brought.index).ok_or(UNKNOWN_TOPIC_OR_PARTITION)?;
        let checked = brought.body.clone().and_then(|range| body.get(range));
        if let Some(bytes) = checked {
            books.kafka.batches_checked += 1;
            self.look(bytes, (brought.index, &head), &mut partition, inspector)?;
        }
        let intent = Intent::of(self.ending, head.producer_id != NO_PRODUCER_ID);
        let mut offset = -1;
        let mut counts = !intent.appends && intent.outcome == Outcome::Uncertain;
        if intent.appends {
            match partition.append(&head, self.broker.gave_out(head.producer_id))? {
                Appended::New { offset: new } => (offset, counts) = (new, true),
                Appended::Again { offset: old } => {
                    books.kafka.batches_doubled += 1;
                    offset = old;
                }
            }
        }
        if counts {
            count(&head, intent.outcome, books);
            let is_sampled = matches!(self.broker.checks, Checks::Every(_));
            if let (Some(_), Some(arrivals)) =
                (checked.filter(|_| !is_sampled || intent.appends), partition.arrivals.as_mut())
                && let Some(mut live) = self.broker.live()
            {
                live.append(arrivals, offset.max(0), inspector, intent.outcome);
            }
        }
        intent.code.map_or(Ok(offset), Err)
    }

    /// The code that refuses a batch whose records are not sound.
    #[inline]
    fn look(
        &self,
        bytes: &[u8],
        (index, head): (i32, &BatchHead),
        partition: &mut Partition,
        inspector: &mut Inspector,
    ) -> Result<(), i16> {
        // Without the common books, which others wait for.
        let looked = inspector.look(bytes);
        let mut live = self.broker.live().ok_or(INVALID_RECORD)?;
        let next = partition.next();
        let arrivals = partition.arrivals.get_or_insert_with(|| live.partition(&self.topic.name, index));
        looked.map_err(|unsound| {
            live.refused(arrivals, next, head.records, &unsound);
            match unsound {
                Unsound::Corrupt(_) => CORRUPT_MESSAGE,
                Unsound::Invalid(_) => INVALID_RECORD,
            }
        })
    }
}

fn count(head: &BatchHead, outcome: Outcome, books: &mut Books) {
    match outcome {
        Outcome::Received => {
            books.kafka.batches += 1;
            books.kafka.records += u64::from(head.records);
            books.bytes += head.bytes as u64;
        }
        Outcome::Uncertain => books.kafka.records_uncertain += u64::from(head.records),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Received, Uncertain};

    #[test]
    fn each_ending_says_what_is_told_written_and_counted() {
        const PERHAPS: i16 = PERHAPS_APPENDED[0];
        // Ending, the code that is told, whether it is written, how it counts with a producer id and without.
        for (ending, code, appends, with_id, without_id) in [
            (Ending::Answer, None, true, Received, Received),
            (Ending::Error(INVALID_RECORD), Some(INVALID_RECORD), false, Received, Received),
            (Ending::Error(PERHAPS), Some(PERHAPS), true, Received, Uncertain),
            (Ending::LoseAnswer, None, true, Received, Uncertain),
            (Ending::Reset, None, false, Received, Uncertain),
        ] {
            for (has_producer_id, outcome) in [(true, with_id), (false, without_id)] {
                let intent = Intent::of(ending, has_producer_id);
                assert_eq!(intent, Intent { code, appends, outcome }, "{ending:?}, id: {has_producer_id}");
            }
        }
    }
}
