//! Many producers' pacers under a fake clock with seeded, irregular turns and stalls, held to the contract's
//! figures. No time passes and nothing is sent: only the pacer decides. The loop itself: `tests/sim/pacing.rs`.

use engine::base::limits::LINGER_DEFAULT_NS;
use engine::pace::{Pacer, Patience};
use engine::plan::{PhaseShare, Schedule, WireRate};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// How the simulated core behaves.
#[derive(Clone)]
struct Core {
    seed: u64,
    turn_ns_max: u64,
    /// One turn in so many takes `stall_ns`; 0: none.
    stall_every: u64,
    stall_ns: u64,
    catch_up_ns: u64,
    block_bytes: u64,
}

/// One block as it was sent.
struct Send {
    at_ns: u64,
    bytes: u64,
    /// Bytes of records that were later than a linger and than a block takes to fill.
    catch_up_bytes: u64,
    late_ns: u64,
}

struct Lane {
    pacer: Pacer,
    record_bytes: u64,
    rate: u64,
    sends: Vec<Send>,
    records: u64,
    not_sent: u64,
}

impl Lane {
    fn turn(&mut self, now_ns: u64, core: &Core) {
        let expired = self.pacer.expired_bytes(now_ns).div_ceil(self.record_bytes);
        self.pacer.skip(expired * self.record_bytes);
        self.not_sent += expired;
        let block_records = (core.block_bytes / self.record_bytes).max(1);
        loop {
            let grant = self.pacer.grant(now_ns);
            let due = grant.budget_bytes.div_ceil(self.record_bytes);
            let late_ns = now_ns.saturating_sub(grant.first_due_ns);
            let more = due * self.record_bytes < grant.left_bytes;
            let lingers = due < block_records && late_ns < grant.hold_max_ns && more;
            if due == 0 || lingers {
                return;
            }
            let count = due.min(block_records);
            let on_time_ns = grant.hold_max_ns + core.turn_ns_max;
            let is_late = |record: &u64| {
                let due_ns = grant.first_due_ns + grant.spread.offset_ns(record * self.record_bytes);
                now_ns - due_ns > on_time_ns
            };
            let catch_up_bytes = (0..count).filter(is_late).count() as u64 * self.record_bytes;
            let bytes = count * self.record_bytes;
            self.sends.push(Send { at_ns: now_ns, bytes, catch_up_bytes, late_ns });
            self.records += count;
            self.pacer.take(bytes);
        }
    }

    fn bytes(&self) -> u64 {
        self.records * self.record_bytes
    }

    /// The most bytes, catch-up aside, that any 10 ms held.
    fn window_bytes_max(&self) -> u64 {
        let (mut first, mut sum, mut most) = (0, 0, 0);
        for send in &self.sends {
            sum += send.bytes - send.catch_up_bytes;
            while self.sends[first].at_ns + 10 * MILLISECOND <= send.at_ns {
                sum -= self.sends[first].bytes - self.sends[first].catch_up_bytes;
                first += 1;
            }
            most = most.max(sum);
        }
        most
    }
}

fn share_of(total: u64, producers: u64, index: u64) -> u64 {
    total / producers + u64::from(index < total % producers)
}

/// Lanes that share `rate` exactly, staggered over one record's time.
fn lanes(
    rate: u64,
    producers: u64,
    record_bytes: u64,
    core: &Core,
    phase: impl Fn(WireRate) -> PhaseShare,
) -> Vec<Lane> {
    let Core { catch_up_ns, block_bytes, .. } = *core;
    let patience = Patience { catch_up_ns, linger_ns: LINGER_DEFAULT_NS, block_bytes };
    (0..producers)
        .map(|index| {
            let mine = share_of(rate, producers, index);
            let stagger_ns = (u128::from(record_bytes * index) * u128::from(SECOND) / u128::from(rate)) as u64;
            let schedule = [phase(WireRate { logical_bytes_per_second: mine, weight: 1 })];
            let pacer = Pacer::new(&schedule, stagger_ns, patience);
            Lane { pacer, record_bytes, rate: mine, sends: vec![], records: 0, not_sent: 0 }
        })
        .collect()
}

fn run(core: &Core, lanes: &mut [Lane]) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(core.seed);
    let end_ns = lanes[0].pacer.ends_at_ns();
    let mut now_ns = 0;
    while now_ns < end_ns {
        for lane in &mut *lanes {
            lane.turn(now_ns, core);
        }
        let stalls = core.stall_every > 0 && random.next_u64().is_multiple_of(core.stall_every);
        now_ns += if stalls { core.stall_ns } else { 1 + random.next_u64() % core.turn_ns_max };
    }
    for lane in lanes {
        lane.turn(end_ns, core);
        assert!(lane.pacer.ended(end_ns));
    }
}

fn steady(duration_ns: u64) -> impl Fn(WireRate) -> PhaseShare {
    move |rate| PhaseShare { duration_ns, warmup: false, weight: 1, schedule: Schedule::Steady { rate } }
}

fn calm(seed: u64) -> Core {
    let (turn_ns_max, block_bytes) = (20_000, 256 << 10);
    Core { seed, turn_ns_max, stall_every: 0, stall_ns: 0, catch_up_ns: 10 * SECOND, block_bytes }
}

/// Rates from the contract's slowest to beyond 8 GB/s, with record sizes that divide nothing.
const RATES: &[(u64, u64, u64)] = &[
    (125_000, 1, 512),
    (125_000, 7, 4096),
    (937_500_000, 3, 4096),
    (1_000_000_007, 8, 70_001),
    (8_000_000_000, 16, 65_536),
    (17_179_869_184, 5, 1_000_003),
];

#[test]
fn the_whole_run_meets_its_rate() {
    for (seed, &(rate, producers, record_bytes)) in RATES.iter().enumerate() {
        for stall_every in [0, 2_000] {
            let core = Core { stall_every, stall_ns: 3 * MILLISECOND, ..calm(seed as u64) };
            let mut lanes = lanes(rate, producers, record_bytes, &core, steady(SECOND));
            run(&core, &mut lanes);
            for lane in &lanes {
                let off = lane.bytes().abs_diff(lane.rate);
                assert!(off <= record_bytes.max(lane.rate / 10_000), "{rate} B/s: {} is off by {off}", lane.rate);
            }
            let total: u64 = lanes.iter().map(Lane::bytes).sum();
            let bound = record_bytes * producers;
            assert!(total.abs_diff(rate) <= bound.max(rate / 10_000), "{total} bytes at {rate} B/s");
        }
    }
}

#[test]
fn no_ten_milliseconds_hold_more_than_rate_and_one_block() {
    for (seed, &(rate, producers, record_bytes)) in RATES.iter().enumerate() {
        for stall_every in [0, 500] {
            let core = Core { stall_every, stall_ns: 2 * MILLISECOND, ..calm(seed as u64) };
            let mut lanes = lanes(rate, producers, record_bytes, &core, steady(SECOND / 2));
            run(&core, &mut lanes);
            for lane in &lanes {
                // A block, and what falls due while one turn lasts.
                let block = core.block_bytes.max(record_bytes);
                let turn = (u128::from(lane.rate) * u128::from(core.turn_ns_max) / u128::from(SECOND)) as u64;
                let bound = lane.rate / 100 + block + turn;
                let most = lane.window_bytes_max();
                assert!(most <= bound, "{rate} B/s, stalls {stall_every}: 10 ms held {most}, not {bound}");
            }
        }
    }
}

#[test]
fn a_calm_second_is_within_half_a_percent() {
    for (seed, &(rate, producers, record_bytes)) in RATES.iter().enumerate() {
        let core = calm(seed as u64);
        let mut lanes = lanes(rate, producers, record_bytes, &core, steady(3 * SECOND));
        run(&core, &mut lanes);
        for second in 0..3 {
            let within = |send: &&Send| send.at_ns / SECOND == second;
            let total: u64 = lanes.iter().flat_map(|lane| &lane.sends).filter(within).map(|send| send.bytes).sum();
            let off = total.abs_diff(rate);
            assert!(off <= (rate / 200).max(record_bytes * producers), "second {second} of {rate} B/s: off by {off}");
        }
    }
}

#[test]
fn a_stall_is_caught_up_whole_or_counted_where_it_is_too_long() {
    let (rate, record_bytes) = (400_000_000, 4096);
    for (catch_up_ns, lost_ns) in [(10 * SECOND, 0), (50 * MILLISECOND, 150 * MILLISECOND)] {
        let core = Core { catch_up_ns, ..calm(11) };
        let mut lanes = lanes(rate, 4, record_bytes, &core, steady(SECOND));
        // One stall of 200 ms after 300 ms of calm.
        let mut now_ns = 0;
        while now_ns < SECOND {
            lanes.iter_mut().for_each(|lane| lane.turn(now_ns, &core));
            now_ns += if (300 * MILLISECOND..500 * MILLISECOND).contains(&now_ns) { 200 * MILLISECOND } else { 10_000 };
        }
        for lane in &mut lanes {
            lane.turn(SECOND, &core);
            let due = lane.rate.div_ceil(record_bytes);
            let sum = lane.records + lane.not_sent;
            assert!(sum == due || sum + 1 == due, "{sum} of {due} records");
            // What was waiting for its block to fill when the stall began expires with it.
            let records_in =
                |ns: u64| (u128::from(lane.rate) * u128::from(ns) / u128::from(SECOND * record_bytes)) as u64;
            let waiting = if lost_ns > 0 { records_in(LINGER_DEFAULT_NS + core.turn_ns_max) + 1 } else { 0 };
            let lost = records_in(lost_ns)..=records_in(lost_ns) + waiting;
            assert!(lost.contains(&lane.not_sent), "{} not sent, {lost:?} expected", lane.not_sent);
            let latest_ns = lane.sends.iter().map(|send| send.late_ns).max().expect("something was sent");
            let longest_ns = catch_up_ns.min(200 * MILLISECOND + LINGER_DEFAULT_NS + core.turn_ns_max);
            assert!(latest_ns <= longest_ns && latest_ns + MILLISECOND > longest_ns, "{latest_ns} ns late");
        }
    }
}

#[test]
fn a_burst_averages_its_rate_and_keeps_its_silence() {
    let (on_ns, off_ns) = (100 * MILLISECOND, 400 * MILLISECOND);
    for (seed, &(rate, producers, record_bytes)) in RATES.iter().enumerate() {
        let core = Core { stall_every: 10_000, stall_ns: MILLISECOND, ..calm(seed as u64) };
        let phase = |rate| PhaseShare {
            duration_ns: 2 * SECOND,
            warmup: false,
            weight: 1,
            schedule: Schedule::Burst { on_ns, off_ns, rate: Some(rate) },
        };
        let mut lanes = lanes(rate, producers, record_bytes, &core, phase);
        run(&core, &mut lanes);
        for lane in &lanes {
            for cycles in 1..=4u64 {
                let within = |send: &&Send| send.at_ns < cycles * (on_ns + off_ns);
                let sent: u64 = lane.sends.iter().filter(within).map(|send| send.bytes).sum();
                let due = lane.rate * cycles / 2;
                let off = sent.abs_diff(due);
                assert!(off <= (due / 200).max(record_bytes), "{rate} B/s, {cycles} cycles: off by {off}");
            }
            assert!(lane.sends.iter().all(|send| send.at_ns % (on_ns + off_ns) < on_ns));
        }
    }
}
