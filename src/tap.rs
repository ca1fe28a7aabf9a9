//! How governance hears of records: a core offers the facts of every Nth one to a bounded queue and never waits.
//!
//! The books balance: every event offered ends as posted, refused, failed, invalid or dropped.

use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Metadata of one record that governance wants to know of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventFacts {
    pub producer_id: u32,
    pub sequence: u64,
    pub timestamp_unix_ns: u64,
    pub bytes: u64,
    pub weight: u64,
    pub crc32c: u32,
    /// Index into `SinkPlan::targets`.
    pub target: u32,
}

/// Where a record's checksum is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// In its header.
    Header,
    /// Nowhere: it is made of all its bytes, for each event anew.
    Whole,
}

/// Who a lane is, as its events say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapLane {
    pub producer_id: u32,
    pub target: u32,
}

/// Written by the tap's core alone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct TapCounts {
    offered: AtomicU64,
    dropped: AtomicU64,
}

/// A core's end of the queue.
#[derive(Debug)]
pub struct Tap {
    every: u64,
    checksum: Checksum,
    lanes: Box<[TapLane]>,
    queue: Sender<EventFacts>,
    counts: Arc<TapCounts>,
}

/// The other end. Who reads it polls: a sender that had to wake somebody would take a lock.
#[derive(Debug)]
pub struct TapEnd {
    pub events: Receiver<EventFacts>,
    pub counts: Arc<TapCounts>,
}

/// A queue for so many events; `every` is at least 1, `lanes` are in lane order.
pub fn tap(every: u64, capacity: usize, checksum: Checksum, lanes: Vec<TapLane>) -> (Tap, TapEnd) {
    let (queue, events) = bounded(capacity);
    let counts = Arc::<TapCounts>::default();
    let end = TapEnd { events, counts: counts.clone() };
    (Tap { every: every.max(1), checksum, lanes: lanes.into(), queue, counts }, end)
}

impl Tap {
    #[inline]
    pub fn every(&self) -> u64 {
        self.every
    }

    pub fn checksum(&self) -> Checksum {
        self.checksum
    }

    pub fn lane(&self, lane: usize) -> TapLane {
        self.lanes[lane]
    }

    /// Queues the event, or counts it as dropped where there is no room.
    pub fn offer(&mut self, facts: EventFacts) {
        let count = |cell: &AtomicU64| cell.store(cell.load(Relaxed) + 1, Relaxed);
        count(&self.counts.offered);
        if self.queue.try_send(facts).is_err() {
            count(&self.counts.dropped);
        }
    }
}

/// What became of the events so far; what is still queued or under way is in none but `offered`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventTotals {
    pub offered: u64,
    /// The server took it.
    pub posted: u64,
    /// Never sent: the queue was full, or the run's end came first.
    pub dropped: u64,
    /// The server said no.
    pub refused: u64,
    /// The server could not be reached or was in trouble at every attempt.
    pub failed: u64,
    /// It did not follow the contract and never left.
    pub invalid: u64,
}

impl EventTotals {
    /// Every end that an event can come to, by name.
    pub fn outcomes(&self) -> [(&'static str, u64); 5] {
        [
            ("posted", self.posted),
            ("dropped", self.dropped),
            ("refused", self.refused),
            ("failed", self.failed),
            ("invalid", self.invalid),
        ]
    }

    fn ended(&self) -> u64 {
        self.outcomes().iter().map(|(_, count)| count).sum()
    }
}

/// How events end that were taken off the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventEnd {
    Posted,
    Refused,
    Failed,
    Invalid,
}

/// The books of a run's events: the cores' counts, and what the sender says of those that it took.
#[derive(Debug)]
pub struct EventBooks {
    taps: Vec<Arc<TapCounts>>,
    sender: Mutex<SenderBooks>,
}

#[derive(Debug, Default)]
struct SenderBooks {
    /// Without what the taps count.
    totals: EventTotals,
    /// Sent and not answered.
    under_way: u64,
    announced: u64,
    last_error: Option<String>,
    /// No longer changed; the sender may still be at work.
    closed: bool,
}

impl EventBooks {
    pub fn new(taps: Vec<Arc<TapCounts>>) -> Arc<Self> {
        Arc::new(Self { taps, sender: Mutex::default() })
    }

    fn sender(&self) -> MutexGuard<'_, SenderBooks> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut SenderBooks)) {
        let mut books = self.sender();
        if !books.closed {
            change(&mut books);
        }
    }

    /// So many events are being sent now.
    pub fn sending(&self, events: u64) {
        self.change(|books| books.under_way = events);
    }

    /// So many events came to this end; nothing is being sent any more.
    pub fn end(&self, end: EventEnd, events: u64) {
        self.change(|books| {
            books.under_way = 0;
            let totals = &mut books.totals;
            *match end {
                EventEnd::Posted => &mut totals.posted,
                EventEnd::Refused => &mut totals.refused,
                EventEnd::Failed => &mut totals.failed,
                EventEnd::Invalid => &mut totals.invalid,
            } += events;
        });
    }

    /// The server took one call about the run or a producer.
    pub fn announced(&self) {
        self.change(|books| books.announced += 1);
    }

    pub fn error(&self, why: String) {
        self.change(|books| books.last_error = Some(why));
    }

    pub fn error_if_none(&self, why: &str) {
        self.change(|books| {
            books.last_error.get_or_insert_with(|| why.to_owned());
        });
    }

    pub fn announcements(&self) -> u64 {
        self.sender().announced
    }

    pub fn last_error(&self) -> Option<String> {
        self.sender().last_error.clone()
    }

    pub fn totals(&self) -> EventTotals {
        self.with_taps(&self.sender())
    }

    fn with_taps(&self, books: &SenderBooks) -> EventTotals {
        let mut totals = books.totals;
        for tap in &self.taps {
            totals.offered += tap.offered.load(Relaxed);
            totals.dropped += tap.dropped.load(Relaxed);
        }
        totals
    }

    /// Ends the books: what is unanswered has failed, what nobody sent is dropped. The cores are done by now.
    pub fn close(&self) -> EventTotals {
        let mut books = self.sender();
        if !books.closed {
            books.closed = true;
            books.totals.failed += std::mem::take(&mut books.under_way);
            let totals = self.with_taps(&books);
            books.totals.dropped += totals.offered.saturating_sub(totals.ended());
        }
        self.with_taps(&books)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(tap: &mut Tap, count: u64) {
        (0..count).for_each(|sequence| tap.offer(EventFacts { sequence, ..EventFacts::default() }));
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (mut tap, end) = tap(3, 4, Checksum::Header, vec![]);
        assert_eq!(tap.every(), 3);
        offer(&mut tap, 10);
        let books = EventBooks::new(vec![end.counts.clone()]);
        let totals = books.totals();
        assert_eq!((totals.offered, totals.dropped), (10, 6));
        let kept: Vec<_> = end.events.try_iter().map(|facts| facts.sequence).collect();
        assert_eq!(kept, [0, 1, 2, 3]);
        drop(end);
        offer(&mut tap, 1);
        assert_eq!(books.totals().dropped, 7, "a sender that is gone is a full queue");
    }

    #[test]
    fn the_books_balance_when_they_are_closed_and_stay_closed() {
        let (mut tap, end) = tap(1, 100, Checksum::Whole, vec![]);
        let books = EventBooks::new(vec![end.counts.clone()]);
        offer(&mut tap, 50);
        books.end(EventEnd::Posted, 10);
        books.end(EventEnd::Refused, 5);
        books.end(EventEnd::Invalid, 2);
        books.sending(20);
        books.error("late".into());
        let totals = books.close();
        let wanted = EventTotals { offered: 50, posted: 10, dropped: 13, refused: 5, failed: 20, invalid: 2 };
        assert_eq!(totals, wanted);
        assert_eq!(totals.ended(), totals.offered);
        books.end(EventEnd::Posted, 20);
        books.error("later".into());
        assert_eq!((books.close(), books.last_error().as_deref()), (wanted, Some("late")));
    }
}
