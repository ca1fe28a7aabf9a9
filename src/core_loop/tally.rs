//! One core's books. Every record that was offered passes through here exactly once on its way to an end.

use super::missing::Missing;
use crate::base::limits;
use crate::counters::answers::Answers;
use crate::counters::broker_errors::Refusal;
use crate::counters::gathered::GatheredLatencies;
use crate::counters::{CoreEnd, Counts, Field, LaneEnd, LiveCore, LoopTime, Snapshot};
use crate::payload::Block;
use crate::sink::{Fate, Wire};
use crossbeam_channel::{Receiver, Sender, TrySendError};
use std::ops::Range;
use std::sync::Arc;

/// The queues between a core and the metrics thread.
pub struct SnapshotQueues {
    pub full: Sender<Box<Snapshot>>,
    pub empty: Receiver<Box<Snapshot>>,
}

/// Counts, missing sequences and the first measured sequence of one lane.
struct LaneBook {
    warm: Counts,
    measured: Counts,
    sequences: Option<(u64, u64)>,
    missing: Missing,
    /// The last block submitted was of the warm-up.
    warming: bool,
    /// Due, neither submitted nor given up, of the warm-up and behind it; shown as offered.
    backlog: [u64; 2],
    first_refused_status: Option<u16>,
}

/// See the module.
pub struct Tally {
    live: Arc<LiveCore>,
    books: Vec<LaneBook>,
    open: Box<Snapshot>,
    queues: SnapshotQueues,
    next_snapshot_ns: u64,
    pub time: LoopTime,
}

impl Tally {
    pub fn new(core: usize, live: Arc<LiveCore>, warmup: bool, queues: SnapshotQueues) -> Self {
        let book = || LaneBook {
            warm: Counts::default(),
            measured: Counts::default(),
            sequences: None,
            missing: Missing::new(limits::MISSING_RANGES_MAX),
            warming: false,
            backlog: [0; 2],
            first_refused_status: None,
        };
        let books: Vec<_> = live.lanes.iter().map(|_| book()).collect();
        let open = Snapshot::preallocated(core, books.len(), warmup);
        let next_snapshot_ns = limits::SNAPSHOT_INTERVAL_NS;
        Self { live, books, open, queues, next_snapshot_ns, time: LoopTime::default() }
    }

    fn counts(&mut self, lane: usize, warmup: bool) -> &mut Counts {
        let book = &mut self.books[lane];
        if warmup { &mut book.warm } else { &mut book.measured }
    }

    /// A block was handed to the sink. `late_after_ns`: records older than this count as catch-up.
    pub fn submitted(&mut self, lane: usize, block: &Block, late_after_ns: u64) {
        if !block.warmup {
            let last = block.first_sequence + block.records - 1;
            let sequences = &mut self.books[lane].sequences;
            *sequences = Some((sequences.map_or(block.first_sequence, |(first, _)| first), last));
        }
        self.books[lane].warming = block.warmup;
        let counts = self.counts(lane, block.warmup);
        counts.add(Field::RecordsSubmitted, block.records);
        counts.add(Field::InFlightBytes, block.bytes);
        counts.add(Field::InFlightRecords, block.records);
        if !block.paced {
            return;
        }
        let mut late = 0;
        let latencies = latencies(&mut self.open, block.warmup);
        for (due_ns, records) in due_points(block) {
            let lateness_ns = block.submit_ns.saturating_sub(due_ns);
            latencies.lateness.record_n(lateness_ns, records);
            late += if lateness_ns > late_after_ns { records } else { 0 };
        }
        self.counts(lane, block.warmup).add(Field::CatchUpRecords, late);
    }

    /// What the sink put on the wire; it cannot say for which block.
    pub fn sent(&mut self, lane: usize, wire: Wire) {
        let counts = self.counts(lane, self.books[lane].warming);
        counts.add(Field::WireBytes, wire.bytes);
        counts.add(Field::LentBytes, wire.lent_bytes);
        counts.add(Field::Retries, wire.retries);
        counts.add(Field::Reconnects, wire.reconnects);
        counts.add(Field::TcpRetransmits, wire.tcp_retransmits);
        counts.add(Field::ThrottledAnswers, wire.throttled_answers);
        counts.add(Field::ThrottledMs, wire.throttled_ms);
    }

    /// The lane's first refusals (HTTP), in the order in which they came.
    pub fn refused(&mut self, lane: usize, answers: &Answers) {
        let live = &self.live.lanes[lane];
        if let Some(first) = answers.refused().first() {
            self.books[lane].first_refused_status = Some(*first);
            live.publish_refused(answers.refused());
        }
        if let Some(refusal) = answers.first_body_refusal() {
            live.publish_body_refusal(refusal);
        }
    }

    /// The first refusals of the lane's batches (Kafka), in the order in which they came.
    pub fn refused_by_brokers(&self, lane: usize, refusals: &[Refusal]) {
        self.live.lanes[lane].publish_broker_refusals(refusals);
    }

    /// The fate of some of a block's records, which measure `bytes`, became known at `now_ns`.
    pub fn settled(&mut self, lane: usize, block: &Block, records: Range<u64>, bytes: u64, fate: Fate, now_ns: u64) {
        let number = records.end - records.start;
        if number == 0 {
            return;
        }
        let counts = self.counts(lane, block.warmup);
        counts.subtract(Field::InFlightBytes, bytes);
        counts.subtract(Field::InFlightRecords, number);
        let (field, kind) = match fate {
            Fate::Produced => {
                counts.add(Field::BytesProduced, bytes);
                counts.add(Field::LogicalBytesProduced, bytes * block.weight);
                (Field::RecordsProduced, None)
            }
            Fate::Failed(kind) => (Field::RecordsFailed, Some(kind)),
            Fate::Uncertain(kind) => (Field::RecordsUncertain, Some(kind)),
            Fate::NotSent => (Field::RecordsNotSent, None),
        };
        counts.add(field, number);
        if let Some(kind) = kind {
            counts.add(kind, number);
        }
        if fate == Fate::Produced {
            self.record_latencies(block, records, now_ns);
        } else {
            let (first, last) = (block.first_sequence + records.start, block.first_sequence + records.end - 1);
            self.books[lane].missing.add(first, last);
        }
    }

    fn record_latencies(&mut self, block: &Block, produced: Range<u64>, now_ns: u64) {
        let service_ns = now_ns.saturating_sub(block.submit_ns);
        let latencies = latencies(&mut self.open, block.warmup);
        latencies.service.record_n(service_ns, produced.end - produced.start);
        if !block.paced {
            latencies.response.record_n(service_ns, produced.end - produced.start);
            return;
        }
        let mut at = 0;
        for (due_ns, records) in due_points(block) {
            let (from, to) = (produced.start.max(at), produced.end.min(at + records));
            at += records;
            if from < to {
                latencies.response.record_n(now_ns.saturating_sub(due_ns), to - from);
            }
        }
    }

    /// Records that fell due and will never be submitted.
    pub fn not_sent(&mut self, lane: usize, warmup: bool, records: u64) {
        self.counts(lane, warmup).add(Field::RecordsNotSent, records);
    }

    /// Records that are due and still wait, of the warm-up and behind it; they show as offered.
    pub fn backlog(&mut self, lane: usize, warm: u64, measured: u64) {
        self.books[lane].backlog = [warm, measured];
    }

    /// A lane offers nothing any more. What showed as due and is nowhere else was not sent: the lengths of
    /// records that never got a sequence are only guessed, so their number is what was said of them. `most`:
    /// so many may still have been offered behind the warm-up.
    pub fn ended(&mut self, lane: usize, most: u64) {
        let book = &mut self.books[lane];
        book.backlog = [0; 2];
        for (counts, most) in [(&mut book.warm, u64::MAX), (&mut book.measured, most)] {
            let rest = counts.get(Field::RecordsOffered).saturating_sub(accounted(counts)).min(most);
            counts.add(Field::RecordsNotSent, rest);
            counts.set(Field::RecordsOffered, accounted(counts));
        }
    }

    /// The ranges, and whether there were more than could be kept.
    pub fn missing(&self, lane: usize) -> (&[(u64, u64)], bool) {
        let missing = &self.books[lane].missing;
        (missing.ranges(), missing.is_truncated())
    }

    /// Brings the offered counts up to date: every record that was submitted or given up, and those due. They
    /// never fall: readers take a counter that falls for a new one.
    fn settle_offered(&mut self) {
        for book in &mut self.books {
            for (counts, backlog) in [&mut book.warm, &mut book.measured].into_iter().zip(book.backlog) {
                let offered = accounted(counts) + backlog;
                counts.set(Field::RecordsOffered, offered.max(counts.get(Field::RecordsOffered)));
            }
        }
    }

    /// When the next snapshot is to be taken.
    pub fn next_snapshot_ns(&self) -> u64 {
        self.next_snapshot_ns
    }

    /// The next `publish` takes a snapshot.
    pub fn call_for_snapshot(&mut self) {
        self.next_snapshot_ns = 0;
    }

    /// Publishes the live cells, and a snapshot when its time has come and an empty one is at hand. Without one its
    /// turn passes: a core that waits for it would not sleep. It is dated `dated_ns`.
    pub fn publish(&mut self, now_ns: u64, dated_ns: u64) {
        self.settle_offered();
        for (book, live) in self.books.iter().zip(&self.live.lanes) {
            let mut all = book.measured;
            all.merge(&book.warm);
            live.publish(&all);
        }
        if now_ns < self.next_snapshot_ns {
            return;
        }
        self.next_snapshot_ns = (now_ns / limits::SNAPSHOT_INTERVAL_NS + 1) * limits::SNAPSHOT_INTERVAL_NS;
        if let Ok(empty) = self.queues.empty.try_recv() {
            let full = std::mem::replace(&mut self.open, empty);
            self.send(full, dated_ns, false);
        }
    }

    fn send(&mut self, mut snapshot: Box<Snapshot>, dated_ns: u64, last: bool) {
        // A snapshot that is taken a little after its time is one of that time: intervals are cut where due.
        let on_time_ns = dated_ns / limits::SNAPSHOT_INTERVAL_NS * limits::SNAPSHOT_INTERVAL_NS;
        snapshot.at_ns = if dated_ns - on_time_ns < limits::SNAPSHOT_INTERVAL_NS / 4 { on_time_ns } else { dated_ns };
        snapshot.last = last;
        snapshot.loop_time = self.time;
        self.time.gap_max_ns = 0;
        for (at, book) in self.books.iter().enumerate() {
            snapshot.warm[at] = book.warm;
            snapshot.measured[at] = book.measured;
        }
        match self.queues.full.try_send(snapshot) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => unreachable!("the queue holds all snapshots that exist"),
        }
    }

    /// The last snapshot, and what the lanes' ends are.
    pub fn finish(mut self, ended_ns: u64) -> CoreEnd {
        self.settle_offered();
        self.publish(ended_ns, ended_ns);
        let empty = Snapshot::preallocated(self.open.core, 0, false);
        let full = std::mem::replace(&mut self.open, empty);
        self.send(full, ended_ns, true);
        let ids = self.live.producer_ids.clone();
        let lane = |(book, producer_id): (LaneBook, u32)| LaneEnd {
            producer_id,
            sequences: book.sequences,
            retained_first_sequence: None,
            missing_truncated: book.missing.is_truncated(),
            missing: book.missing.into_ranges(),
            first_refused_status: book.first_refused_status,
            answers: None,
            refused_by_body: None,
            broker_errors: None,
        };
        CoreEnd { lanes: self.books.into_iter().zip(ids).map(lane).collect(), ended_ns, ..CoreEnd::default() }
    }
}

/// Records that came to their end or are on their way to it.
fn accounted(counts: &Counts) -> u64 {
    const PLACES: [Field; 5] = [
        Field::RecordsProduced,
        Field::RecordsFailed,
        Field::RecordsUncertain,
        Field::RecordsNotSent,
        Field::InFlightRecords,
    ];
    PLACES.iter().map(|field| counts.get(*field)).sum()
}

fn latencies(open: &mut Snapshot, warmup: bool) -> &mut GatheredLatencies {
    match &mut open.warm_latencies {
        Some(warm) if warmup => warm,
        _ => &mut open.measured_latencies,
    }
}

/// Due times of a block and how many records each stands for: at most 16, and none closer to the next than a
/// histogram could tell. The oldest record is always one of them.
fn due_points(block: &Block) -> impl Iterator<Item = (u64, u64)> + use<> {
    let (records, first_ns, spread) = (block.records, block.first_due_ns, block.spread);
    let length = block.bytes / records;
    let points = (spread.offset_ns(block.bytes) / limits::DUE_SAMPLE_NS + 1).min(limits::DUE_SAMPLES_PER_BLOCK);
    let stretch = records.div_ceil(points);
    (0..records).step_by(stretch as usize).map(move |from| {
        let covered = stretch.min(records - from);
        // The middle of a stretch stands for it, but for the first one its oldest record.
        let at = if from == 0 { 0 } else { from + covered / 2 };
        (first_ns + spread.offset_ns(at * length), covered)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;

    const MS: u64 = 1_000_000;

    /// One lane's books, with so many empty snapshots at hand, and where the full ones go.
    fn tally(empties: usize) -> (Tally, Receiver<Box<Snapshot>>) {
        let (full, snapshots) = bounded(empties + 1);
        let (recycled, empty) = bounded(empties + 1);
        (0..empties).for_each(|_| recycled.send(Snapshot::preallocated(0, 1, false)).unwrap());
        (Tally::new(0, LiveCore::new(vec![0]), false, SnapshotQueues { full, empty }), snapshots)
    }

    #[test]
    fn what_completed_before_a_long_fsync_is_dated_before_it() {
        let (mut tally, snapshots) = tally(2);
        let block = Block { records: 3, bytes: 300, ..Block::default() };
        tally.submitted(0, &block, 0);
        tally.publish(1000 * MS, 1000 * MS);
        tally.settled(0, &block, 0..3, 300, Fate::Produced, 1050 * MS);
        tally.call_for_snapshot();
        tally.publish(1050 * MS, 1050 * MS);
        tally.finish(9000 * MS);
        let seen = |snapshot: Box<Snapshot>| (snapshot.at_ns, snapshot.measured[0].get(Field::RecordsProduced));
        let seen: Vec<_> = snapshots.try_iter().map(seen).collect();
        assert_eq!(seen, [(1000 * MS, 0), (1050 * MS, 3), (9000 * MS, 3)]);
    }

    #[test]
    fn a_drain_in_vain_is_dated_where_the_last_record_came() {
        let (mut tally, snapshots) = tally(3);
        tally.publish(1000 * MS, 1000 * MS);
        tally.publish(9000 * MS, 1050 * MS);
        let end = tally.finish(1050 * MS);
        let dates: Vec<_> = snapshots.try_iter().map(|snapshot| snapshot.at_ns).collect();
        assert_eq!((dates, end.ended_ns), (vec![1000 * MS, 1050 * MS, 1050 * MS], 1050 * MS));
    }

    #[test]
    fn a_snapshot_without_an_empty_one_to_take_its_place_is_not_waited_for() {
        let (mut tally, snapshots) = tally(0);
        let now_ns = tally.next_snapshot_ns();
        tally.publish(now_ns, now_ns);
        assert_eq!(tally.next_snapshot_ns(), now_ns + limits::SNAPSHOT_INTERVAL_NS);
        assert!(snapshots.is_empty());
    }
}
