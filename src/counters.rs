//! What the cores count: one table, one writer for each cell, and the snapshots that carry latencies.
//!
//! Two ways lead from a core to the metrics thread. *Live cells* are relaxed atomics that anyone may read at
//! any time (`/metrics`, the watchdog). *Snapshots* are consistent: counters and latencies of one core at
//! one instant, sent over a bounded queue and recycled; the report is made of them alone.

pub mod answers;
pub mod broker_errors;
pub mod gathered;

use crate::base::limits;
use answers::{AnswerCounts, BodyRefusal, REFUSED_STATUSES_MAX};
use broker_errors::Refusal;
use gathered::GatheredLatencies;
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// A number that every lane counts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Field { $($(#[$doc])* $field),* }

        impl Field {
            pub const ALL: &[Field] = &[$(Field::$field),*];
            pub const COUNT: usize = Self::ALL.len();
        }
    };
}

fields! {
    /// Records due under the rate (without a rate: submitted).
    RecordsOffered,
    /// Records confirmed by the target.
    RecordsProduced,
    /// Records known not to have arrived.
    RecordsFailed,
    /// Records sent whose outcome is unknown.
    RecordsUncertain,
    /// Records due but never submitted.
    RecordsNotSent,
    /// Records handed to the kernel.
    RecordsSubmitted,
    /// Payload bytes of produced records.
    BytesProduced,
    /// Payload bytes of produced records times their weight.
    LogicalBytesProduced,
    /// Bytes handed to the target, framing and padding included.
    WireBytes,
    /// Bytes of these that the target read in place, not copied.
    LentBytes,
    /// Records sent as catch-up: after a stall, or after the window of their burst.
    CatchUpRecords,
    /// Blocks sent again.
    Retries,
    /// Connections that took the place of others.
    Reconnects,
    /// TCP segments sent again, each connection's when it ends.
    TcpRetransmits,
    /// Answers of brokers that asked for a pause, as they do under a quota.
    ThrottledAnswers,
    /// Milliseconds that they asked for, all together.
    ThrottledMs,
    /// Payload bytes submitted and not yet answered (a gauge).
    InFlightBytes,
    /// Records submitted and not yet answered (a gauge).
    InFlightRecords,
    // What records failed or became uncertain by; which of the two, the sink knows.
    /// The device, file system or socket reported an error.
    ErrorIo,
    /// No space left, or a quota or file size limit.
    ErrorNoSpace,
    /// The reader or peer closed.
    ErrorClosed,
    /// No answer before the request timeout, or before the drain's end.
    ErrorTimeout,
    /// The Kafka broker refused them.
    ErrorBroker,
    /// The HTTP answer was neither 2xx, 429 nor 503.
    ErrorStatus,
    /// The target asked to come again (429, 503) too often.
    ErrorThrottled,
    /// The HTTP answer was 2xx, and its body said otherwise (`--http-refused-by`).
    ErrorBody,
    /// The target's answer made no sense.
    ErrorProtocol,
}

/// The kinds of `generator_produce_errors_total`, each with the field that counts it.
pub const ERROR_KINDS: &[(&str, Field)] = &[
    ("io", Field::ErrorIo),
    ("no_space", Field::ErrorNoSpace),
    ("closed", Field::ErrorClosed),
    ("timeout", Field::ErrorTimeout),
    ("broker", Field::ErrorBroker),
    ("status", Field::ErrorStatus),
    ("throttled", Field::ErrorThrottled),
    ("body", Field::ErrorBody),
    ("protocol", Field::ErrorProtocol),
];

/// Plain counts of one lane: the core's own books, and what a snapshot carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts([u64; Field::COUNT]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; Field::COUNT])
    }
}

impl Counts {
    #[inline]
    pub fn get(&self, field: Field) -> u64 {
        self.0[field as usize]
    }

    /// Up to the highest number: a sampled record may stand for so much that logical bytes come to it.
    #[inline]
    pub fn add(&mut self, field: Field, amount: u64) {
        let count = &mut self.0[field as usize];
        *count = count.saturating_add(amount);
    }

    #[inline]
    pub fn subtract(&mut self, field: Field, amount: u64) {
        self.0[field as usize] -= amount;
    }

    #[inline]
    pub fn set(&mut self, field: Field, value: u64) {
        self.0[field as usize] = value;
    }

    /// Adds every field of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(theirs);
        }
    }
}

/// The live cells of one lane; its core writes, anyone reads.
#[repr(align(128))]
pub struct LiveLane {
    cells: [AtomicU64; Field::COUNT],
    /// Behind the last one: 0.
    refused: [AtomicU16; REFUSED_STATUSES_MAX],
    body_refusal: OnceLock<BodyRefusal>,
    broker_refusals: [OnceLock<Refusal>; REFUSED_STATUSES_MAX],
}

impl LiveLane {
    fn new() -> Self {
        let refused = [const { AtomicU16::new(0) }; REFUSED_STATUSES_MAX];
        let broker_refusals = [const { OnceLock::new() }; REFUSED_STATUSES_MAX];
        let cells = [const { AtomicU64::new(0) }; Field::COUNT];
        Self { cells, refused, body_refusal: OnceLock::new(), broker_refusals }
    }

    /// Called by the owning core alone.
    #[inline]
    pub fn publish(&self, counts: &Counts) {
        for (cell, value) in self.cells.iter().zip(counts.0) {
            cell.store(value, Relaxed);
        }
    }

    pub fn read(&self) -> Counts {
        Counts(std::array::from_fn(|at| self.cells[at].load(Relaxed)))
    }

    /// Called by the owning core alone, with those that it told before at the front.
    pub fn publish_refused(&self, statuses: &[u16]) {
        for (cell, status) in self.refused.iter().zip(statuses) {
            cell.store(*status, Relaxed);
        }
    }

    /// The statuses of its first HTTP answers that were refusals, each once.
    pub fn refused(&self) -> impl Iterator<Item = u16> + '_ {
        self.refused.iter().map(|cell| cell.load(Relaxed)).take_while(|status| *status > 0)
    }

    /// Called by the owning core alone, so that it never waits.
    pub fn publish_body_refusal(&self, refusal: &BodyRefusal) {
        self.body_refusal.get_or_init(|| *refusal);
    }

    /// Its first 2xx refused by its body (HTTP).
    pub fn body_refusal(&self) -> Option<&BodyRefusal> {
        self.body_refusal.get()
    }

    /// Called by the owning core alone, so that it never waits, and with those that it told before at the front.
    pub fn publish_broker_refusals(&self, refusals: &[Refusal]) {
        for (cell, refusal) in self.broker_refusals.iter().zip(refusals) {
            cell.get_or_init(|| *refusal);
        }
    }

    /// Its first refusals by brokers (Kafka), of each code one.
    pub fn broker_refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.broker_refusals.iter().map_while(OnceLock::get)
    }
}

/// The live cells of one core.
#[repr(align(128))]
pub struct LiveCore {
    /// Producer ids in lane order.
    pub producer_ids: Vec<u32>,
    pub lanes: Vec<LiveLane>,
    /// Monotonic time of the last turn.
    heartbeat_ns: AtomicU64,
    state: AtomicU64,
}

/// Where a core is in its life. The watchdog judges `Running` and `Draining`, in which it makes turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreState {
    Starting = 0,
    Running = 1,
    Draining = 2,
    Syncing = 3,
    Done = 4,
}

impl LiveCore {
    pub fn new(producer_ids: Vec<u32>) -> Arc<Self> {
        let lanes = producer_ids.iter().map(|_| LiveLane::new()).collect();
        Arc::new(Self { producer_ids, lanes, heartbeat_ns: AtomicU64::new(0), state: AtomicU64::new(0) })
    }

    #[inline]
    pub fn beat(&self, now_ns: u64) {
        self.heartbeat_ns.store(now_ns, Relaxed);
    }

    pub fn heartbeat_ns(&self) -> u64 {
        self.heartbeat_ns.load(Relaxed)
    }

    pub fn enter(&self, state: CoreState) {
        self.state.store(state as u64, Relaxed);
    }

    pub fn state(&self) -> CoreState {
        match self.state.load(Relaxed) {
            0 => CoreState::Starting,
            1 => CoreState::Running,
            2 => CoreState::Draining,
            3 => CoreState::Syncing,
            _ => CoreState::Done,
        }
    }
}

/// An empty histogram of the range that all of them share.
pub fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, limits::LATENCY_NS_MAX, limits::LATENCY_DIGITS)
        .expect("the bounds are constants that fit")
}

/// Adds histograms of that range; costs nothing where there is nothing to add.
pub fn merge(all: &mut Histogram<u64>, more: &Histogram<u64>) {
    if !more.is_empty() {
        all.add(more).expect("all histograms share one range");
    }
}

/// Response time, service time and pacing lateness in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latencies {
    pub response: Histogram<u64>,
    pub service: Histogram<u64>,
    /// From due to submission; only with a rate.
    pub lateness: Histogram<u64>,
}

impl Latencies {
    pub fn new() -> Self {
        Self { response: empty_histogram(), service: empty_histogram(), lateness: empty_histogram() }
    }

    pub fn reset(&mut self) {
        self.response.reset();
        self.service.reset();
        self.lateness.reset();
    }

    pub fn add(&mut self, other: &Self) {
        merge(&mut self.response, &other.response);
        merge(&mut self.service, &other.service);
        merge(&mut self.lateness, &other.lateness);
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// How a core spent its time since the barrier, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopTime {
    pub turns: u64,
    /// Something was due, but the target had no room.
    pub target_full_ns: u64,
    /// The part of it in which a file was full and the one to follow it not there yet.
    pub file_wait_ns: u64,
    /// Inside the kernel's submit and write calls.
    pub kernel_ns: u64,
    /// Nothing was due, or the core waited in the kernel for a due time.
    pub idle_ns: u64,
    /// Stamping, offering, reaping, and what was stolen.
    pub work_ns: u64,
    /// The part of `target_full_ns` and `idle_ns` in which the core asked again and again instead of sleeping.
    pub spun_ns: u64,
    /// Processor time of the thread, spinning included.
    pub cpu_ns: u64,
    /// Turns that took far longer than their own work can, and what waits took too long: the machine did not let the
    /// loop run.
    pub stolen_ns: u64,
    /// The longest distance between two turns (planned waits aside) since the last snapshot.
    pub gap_max_ns: u64,
}

/// One core at one instant. Latencies are what came since the last snapshot; counts are totals since the
/// barrier. `warm` is about records offered in the warm-up, `measured` about all others.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Index of the core in the plan.
    pub core: usize,
    /// Nanoseconds since the barrier; a multiple of `limits::SNAPSHOT_INTERVAL_NS` but for late ones and the last. In
    /// the drain it stands still while no record is produced.
    pub at_ns: u64,
    pub warm: Vec<Counts>,
    pub measured: Vec<Counts>,
    /// Only where the run has a warm-up.
    pub warm_latencies: Option<Box<GatheredLatencies>>,
    pub measured_latencies: GatheredLatencies,
    pub loop_time: LoopTime,
    pub last: bool,
}

impl Snapshot {
    /// Everything a snapshot of a core with so many lanes will ever need.
    pub fn preallocated(core: usize, lanes: usize, warmup: bool) -> Box<Self> {
        Box::new(Self {
            core,
            at_ns: 0,
            warm: vec![Counts::default(); lanes],
            measured: vec![Counts::default(); lanes],
            warm_latencies: warmup.then(|| Box::new(GatheredLatencies::preallocated())),
            measured_latencies: GatheredLatencies::preallocated(),
            loop_time: LoopTime::default(),
            last: false,
        })
    }
}

/// What one lane says of itself after the drain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneEnd {
    pub producer_id: u32,
    /// First and last sequence of the measured part; `None`: none was submitted.
    pub sequences: Option<(u64, u64)>,
    /// The first sequence that the target still holds (rings and retention let go of older ones).
    pub retained_first_sequence: Option<u64>,
    /// Submitted and not produced, inclusive ranges in order.
    pub missing: Vec<(u64, u64)>,
    /// More ranges were missing than `limits::MISSING_RANGES_MAX`.
    pub missing_truncated: bool,
    /// The status of its first HTTP answer that was a refusal.
    pub first_refused_status: Option<u16>,
    /// How its HTTP requests were answered; `None`: it has another target.
    pub answers: Option<AnswerCounts>,
    /// How many of these were 2xx and refusals by their bodies, in the measured part and in the warm-up; `None`: nobody
    /// looked.
    pub refused_by_body: Option<[u64; 2]>,
    /// The answers of brokers that were errors, by code; `None`: it has another target, or they do not tell.
    pub broker_errors: Option<AnswerCounts<i16>>,
}

/// What a core returns when it is done.
#[derive(Clone, Debug, Default)]
pub struct CoreEnd {
    pub lanes: Vec<LaneEnd>,
    /// Nanoseconds since the barrier to the last record produced, or the end of the pacing where that is later, and the
    /// final fsync. What else of the drain was waited for in vain is no part of the run.
    pub ended_ns: u64,
    /// That part of the drain: by so much the clock was ahead of `ended_ns` at the end.
    pub vain_ns: u64,
    /// Nanoseconds since the barrier at which the last lane stopped offering; the drain follows.
    pub paced_ns: u64,
    /// Final fsync alone.
    pub fsync_ns: u64,
    /// Of the drain: processor time in which the core asked again and again for what was on its way; what it sent,
    /// sealed or compressed meanwhile is part of that.
    pub drain_spun_ns: u64,
    /// The reader of the target closed it, which ended the run in order.
    pub closed: bool,
    /// The run was stopped before the core had offered all it was to.
    pub stopped: bool,
    /// Why the core ended the run early, in words for the user.
    pub ended_by: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stay_at_the_highest_number() {
        const LOGICAL: Field = Field::LogicalBytesProduced;
        let mut counts = Counts::default();
        counts.add(LOGICAL, u64::MAX - 1);
        counts.add(LOGICAL, limits::BLOCK_BYTES_MAX * limits::WEIGHT_MAX);
        assert_eq!(counts.get(LOGICAL), u64::MAX);
        let mut all = counts;
        all.merge(&counts);
        assert_eq!((all.get(LOGICAL), all.get(Field::BytesProduced)), (u64::MAX, 0));
    }
}
