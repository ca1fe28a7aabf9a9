//! Is what falls due sent, and when? The loop itself is held to the contract's figures, on a core that nothing holds
//! up; what it keeps for a linger or for a burst's window is on time.

use crate::books::total;
use crate::clock::SimClock;
use crate::ring::SimRing;
use crate::scenario::{LanePlan, LayoutPlan, MICROSECOND, MILLISECOND, SECOND, Scenario};
use crate::world::{Others, Outcome};
use crate::{Telling, seeds, simulate};
use engine::base::limits;
use engine::counters::{Counts, Field};
use engine::payload::Payload;
use engine::plan::{Fsync, PhaseShare, Schedule, WireRate};
use engine::sink::{Done, Ending, Kept, LaneClose, Room, Sink, Wire};
use engine::sys::allocation::uncounted;
use engine::sys::ring::Wait;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

/// More than the longest turn.
const TURN_NS: u64 = 5 * MICROSECOND;

/// One block, when the loop offered it.
#[derive(Clone, Copy, Debug)]
pub struct Offered {
    lane: usize,
    at_ns: u64,
    bytes: u64,
}

/// Stands before a sink and writes down what it is offered.
pub struct Watched<S> {
    pub sink: S,
    pub clock: SimClock,
    pub others: Rc<RefCell<Others>>,
}

impl<S: Sink<SimRing>> Sink<SimRing> for Watched<S> {
    fn room(&mut self, ring: &mut SimRing, lane: usize, next_length: u64) -> Room {
        self.sink.room(ring, lane, next_length)
    }

    fn offer(&mut self, ring: &mut SimRing, lane: usize, slot: u32, payload: &mut Payload, hurry: bool) {
        let block = Offered { lane, at_ns: self.clock.peek_ns(), bytes: payload.block(slot).bytes };
        uncounted(|| self.others.borrow_mut().offered.push(block));
        self.sink.offer(ring, lane, slot, payload, hurry);
    }

    fn submit(&mut self, ring: &mut SimRing, wait: Wait) -> io::Result<()> {
        self.sink.submit(ring, wait)
    }

    fn reap(&mut self, ring: &mut SimRing, payloads: &mut [Payload], now_ns: u64, done: &mut Vec<Done>) {
        self.sink.reap(ring, payloads, now_ns, done);
    }

    fn flush(&mut self, ring: &mut SimRing) {
        self.sink.flush(ring);
    }

    fn drain_until(&mut self, until_ns: u64) {
        self.sink.drain_until(until_ns);
    }

    fn take_wire(&mut self, lane: usize) -> Wire {
        self.sink.take_wire(lane)
    }

    fn give_up(&mut self, ring: &mut SimRing, payloads: &mut [Payload], done: &mut Vec<Done>) {
        self.sink.give_up(ring, payloads, done);
    }

    fn ending(&self) -> Option<&Ending> {
        self.sink.ending()
    }

    fn close(&mut self, ring: &mut SimRing, lane: usize, end: &LaneClose) -> Kept {
        self.sink.close(ring, lane, end)
    }
}

/// All that fell due was sent, and none of it late.
fn assert_on_time(scenario: &Scenario, outcome: &Outcome) {
    for lane in 0..scenario.lanes.len() {
        let counts = total(outcome, lane);
        let [offered, produced, late] = [Field::RecordsOffered, Field::RecordsProduced, Field::CatchUpRecords];
        assert_eq!(counts.get(offered), counts.get(produced), "lane {lane}: {counts:?}");
        assert_eq!(counts.get(late), 0, "lane {lane}: {counts:?}");
    }
}

/// No 10 ms hold more than the rate and one block; each record is due with its first byte.
fn assert_even(scenario: &Scenario, outcome: &Outcome, lane: usize, plan: &LanePlan) {
    let [PhaseShare { schedule: Schedule::Steady { rate }, .. }] = plan.schedule.as_slice() else { return };
    let falls_due = |ns: u64| rate.logical_bytes_per_second / rate.weight * ns / SECOND;
    // The lanes of a core have blocks of one size, which holds the longest record of each.
    let longest = scenario.lanes.iter().map(|lane| lane.bytes_max).max().unwrap_or_default();
    let block = scenario.block_bytes.max(longest) + plan.bytes_max;
    let bound = falls_due(10 * MILLISECOND + TURN_NS) + block;
    let blocks: Vec<_> = outcome.offered.iter().filter(|block| block.lane == lane).collect();
    let (mut first, mut sum) = (0, 0);
    for block in &blocks {
        sum += block.bytes;
        while blocks[first].at_ns + 10 * MILLISECOND <= block.at_ns {
            sum -= blocks[first].bytes;
            first += 1;
        }
        assert!(sum <= bound, "lane {lane}: 10 ms before {} ns hold {sum} bytes, not {bound}", block.at_ns);
    }
}

#[test]
fn a_core_that_nothing_holds_up_is_on_time() {
    for seed in seeds(80) {
        let scenario = Scenario::punctual(seed);
        let outcome = simulate(&scenario);
        let _telling = Telling(seed, &scenario);
        assert_on_time(&scenario, &outcome);
        scenario.lanes.iter().enumerate().for_each(|(lane, plan)| assert_even(&scenario, &outcome, lane, plan));
    }
}

/// One lane of 64 bytes a record, in blocks of 16 KiB.
fn alone(seed: u64, schedule: Vec<PhaseShare>) -> Scenario {
    let mut scenario = Scenario::punctual(seed);
    scenario.lanes.truncate(1);
    let lane = &mut scenario.lanes[0];
    (lane.bytes_min, lane.bytes_max, lane.ring_bytes) = (64, 64, 64 << 10);
    (lane.records_max, lane.stagger_ns, lane.schedule) = (u64::MAX, 0, schedule);
    scenario.block_bytes = 16 << 10;
    scenario
}

/// A phase of one record each millisecond or so many of them.
fn share(milliseconds: u64, warmup: bool, schedule: impl Fn(WireRate) -> Schedule, records: u64) -> PhaseShare {
    let rate = WireRate { logical_bytes_per_second: records * 64 * 1000, weight: 1 };
    PhaseShare { duration_ns: milliseconds * MILLISECOND, warmup, weight: 1, schedule: schedule(rate) }
}

#[test]
fn a_phase_s_last_block_waits_for_nothing() {
    for seed in seeds(20) {
        let steady = |rate| Schedule::Steady { rate };
        let mut scenario = alone(seed, vec![share(30, true, steady, 1), share(40, false, steady, 1)]);
        // Either would have it wait for much longer: a block fills in 256 ms.
        (scenario.linger_ns, scenario.catch_up_ns) = (SECOND, 0);
        let outcome = simulate(&scenario);
        let _telling = Telling(seed, &scenario);
        assert_on_time(&scenario, &outcome);
        let blocks: Vec<_> = outcome.offered.iter().map(|block| block.bytes / 64).collect();
        assert_eq!(blocks, [30, 40]);
        let ends_ns = 70 * MILLISECOND + 2 * limits::WAIT_NS_MAX;
        assert!(outcome.ran_ns < ends_ns, "the run took {} ns", outcome.ran_ns);
    }
}

#[test]
fn a_core_that_sleeps_until_something_is_due_is_punctual() {
    for seed in seeds(20) {
        // A record each millisecond: long enough to sleep before each.
        let mut scenario = alone(seed, vec![share(60, false, |rate| Schedule::Steady { rate }, 1)]);
        (scenario.adaptive, scenario.linger_ns, scenario.catch_up_ns) = (true, 0, SECOND);
        scenario.rhythm.oversleep_ns_max = 30 * MICROSECOND;
        let outcome = simulate(&scenario);
        let _telling = Telling(seed, &scenario);
        assert_eq!(outcome.offered.len(), 60, "each is sent when it is due");
        let lateness_ns = outcome.snapshots.iter().map(|seen| seen.lateness_ns).max();
        assert!(lateness_ns <= Some(100 * MICROSECOND), "{lateness_ns:?} ns late");
    }
}

#[test]
fn a_core_that_waits_for_a_linger_sleeps_to_its_end() {
    for seed in seeds(20) {
        let mut scenario = alone(seed, vec![share(600, false, |rate| Schedule::Steady { rate }, 1)]);
        (scenario.adaptive, scenario.linger_ns, scenario.catch_up_ns) = (true, 20 * MILLISECOND, SECOND);
        scenario.rhythm.oversleep_ns_max = 30 * MICROSECOND;
        let outcome = simulate(&scenario);
        let _telling = Telling(seed, &scenario);
        assert_on_time(&scenario, &outcome);
        let (blocks, snapshots) = (outcome.offered.len() as u64, outcome.snapshots.len() as u64);
        assert!((27..=32).contains(&blocks), "{blocks} blocks in 600 ms");
        // Neither before a block goes nor before the first record of the next is due; before a snapshot, yes.
        let spun_ns = outcome.snapshots.last().map_or(u64::MAX, |seen| seen.spun_ns);
        let allowed_ns = snapshots * 60 * MICROSECOND + blocks * 2 * TURN_NS;
        assert!(spun_ns <= allowed_ns, "{spun_ns} ns of spinning, not {allowed_ns}");
    }
}

/// As the counter does that a suspend resets.
#[test]
fn a_clock_that_goes_back_ends_the_run() {
    for seed in seeds(8) {
        let mut scenario = alone(seed, vec![share(10_000, false, |rate| Schedule::Steady { rate }, 1)]);
        (scenario.linger_ns, scenario.catch_up_ns, scenario.rhythm.look_ns_max) = (0, SECOND, 30 * MICROSECOND);
        scenario.rhythm.back_at_ns = Some(2 * SECOND);
        let outcome = simulate(&scenario);
        let _telling = Telling(seed, &scenario);
        let why = outcome.end.ended_by.as_deref().unwrap_or_default();
        assert!(why.contains("clock went back by "), "{why}");
        let (ran_ns, ended_ns) = (outcome.ran_ns, outcome.end.ended_ns);
        assert!(ran_ns < 2 * SECOND + 5 * MILLISECOND && ended_ns <= 2 * SECOND, "{ran_ns} ns, {ended_ns} ns told");
        let produced = total(&outcome, 0).get(Field::RecordsProduced);
        assert!((1990..=2001).contains(&produced), "{produced} records");
    }
}

/// The last snapshot's counts of a lane, of the warm-up and behind it.
fn parts(outcome: &Outcome, lane: usize) -> (Counts, Counts) {
    let last = outcome.snapshots.last().expect("a core always sends a last snapshot");
    (last.warm[lane], last.measured[lane])
}

#[test]
fn what_a_warm_up_leaves_over_does_not_wait_before_the_rest() {
    for seed in seeds(4) {
        // One write at a time, which takes 100 us in the mean: far less than is asked for.
        let steady = |rate| Schedule::Steady { rate };
        let mut scenario = alone(seed, vec![share(400, true, steady, 40 * 64), share(300, false, steady, 40 * 64)]);
        let lane = &mut scenario.lanes[0];
        (lane.bytes_min, lane.bytes_max, lane.align, lane.fsync) = (4096, 4096, 1, Fsync::Never);
        lane.layout = LayoutPlan::Ring { periods: 2 };
        (scenario.files, scenario.block_bytes, scenario.queue_depth) = (true, 4096, 1);
        (scenario.catch_up_ns, scenario.rhythm.look_ns_max) = (10 * SECOND, 10 * MICROSECOND);
        let faults = &mut scenario.faults;
        (faults.takes_ns_max, faults.slow_one_in, faults.busy_one_in) = (200 * MICROSECOND, 0, 0);
        (faults.short_one_in, faults.again_one_in) = (0, 0);
        let outcome = simulate(&scenario);
        let _telling = Telling(seed, &scenario);
        let (warm, measured) = parts(&outcome, 0);
        // 500 ms and 300 ms, each with the time that its end is given.
        let [warm_produced, produced] = [&warm, &measured].map(|counts| counts.get(Field::RecordsProduced));
        assert!(warm.get(Field::RecordsNotSent) > 0, "{warm:?}");
        assert!(warm_produced > 1000 && 5 * produced > 2 * warm_produced, "{warm:?}, {measured:?}");
    }
}

#[test]
fn a_lane_that_is_to_send_nothing_warms_up_all_the_same() {
    for seed in seeds(8) {
        let steady = |rate| Schedule::Steady { rate };
        let mut scenario = alone(seed, vec![share(30, true, steady, 10), share(40, false, steady, 10)]);
        (scenario.linger_ns, scenario.catch_up_ns) = (0, MILLISECOND);
        let mut second = scenario.lanes[0].clone();
        second.records_max = 0;
        scenario.lanes.push(second);
        let outcome = simulate(&scenario);
        let _telling = Telling(seed, &scenario);
        assert_on_time(&scenario, &outcome);
        for (lane, records) in [(0, 400), (1, 0)] {
            let (warm, measured) = parts(&outcome, lane);
            let produced = [warm, measured].map(|counts| counts.get(Field::RecordsProduced));
            assert_eq!(produced, [300, records], "lane {lane}");
        }
    }
}

#[test]
fn a_burst_has_its_window_whatever_the_catch_up() {
    let (on_ns, off_ns) = (20 * MILLISECOND, 20 * MILLISECOND);
    for seed in seeds(8) {
        let burst = |rate| Schedule::Burst { on_ns, off_ns, rate: Some(rate) };
        let mut scenario = alone(seed, vec![share(80, false, burst, 100)]);
        // A record a turn: that takes longer than anything may be late without a catch-up.
        (scenario.block_bytes, scenario.queue_depth, scenario.catch_up_ns) = (64, 1, 0);
        let outcome = simulate(&scenario);
        let _telling = Telling(seed, &scenario);
        assert_on_time(&scenario, &outcome);
        let first_ns = outcome.offered[0].at_ns;
        let into_cycle = |block: &Offered| (block.at_ns + TURN_NS - first_ns) % (on_ns + off_ns);
        let latest_ns = outcome.offered.iter().map(into_cycle).max().expect("something was sent");
        assert!((2 * MILLISECOND..on_ns).contains(&latest_ns), "{latest_ns} ns into its cycle");
    }
}
