//! What a seed stands for: a small plan, and everything that will go wrong with it.

use crate::chance::Chance;
use crate::clock::Rhythm;
use crate::ring::{Breakage, Faults};
use engine::plan::{FileLayout, Fsync, PhaseShare, Schedule, WireRate};

pub const MICROSECOND: u64 = 1_000;
pub const MILLISECOND: u64 = 1_000_000;
pub const SECOND: u64 = 1_000_000_000;
/// Of [`Scenario::stalling`], where no limit is reached.
pub const STALLING_NS_MAX: u64 = 10 * SECOND;

#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    /// Without files the target is null.
    pub files: bool,
    pub lanes: Vec<LanePlan>,
    pub block_bytes: u64,
    pub queue_depth: usize,
    pub linger_ns: u64,
    pub catch_up_ns: u64,
    pub drain_timeout_ns: u64,
    pub adaptive: bool,
    pub audit_every: u64,
    pub stop_at_ns: Option<u64>,
    pub rhythm: Rhythm,
    pub faults: Faults,
    /// The target loses records without the run's end.
    pub loses: bool,
    /// The keeper carries out an order in one of so many of its turns.
    pub keeper_one_in: u64,
}

#[derive(Clone, Debug)]
pub struct LanePlan {
    pub bytes_min: u64,
    pub bytes_max: u64,
    pub ring_bytes: u64,
    pub schedule: Vec<PhaseShare>,
    pub stagger_ns: u64,
    pub records_max: u64,
    pub bytes_limit: u64,
    pub layout: LayoutPlan,
    pub align: u64,
    pub fsync: Fsync,
}

#[derive(Clone, Copy, Debug)]
pub enum LayoutPlan {
    Rotating { limit_bytes: u64, retain: Option<u64> },
    Ring { periods: u64 },
}

impl LayoutPlan {
    pub fn resolve(self, period_bytes: u64, align: u64) -> FileLayout {
        match self {
            LayoutPlan::Rotating { limit_bytes, retain } => FileLayout::Rotating { limit_bytes, retain },
            LayoutPlan::Ring { periods } => {
                FileLayout::Ring { capacity_bytes: (periods * period_bytes).next_multiple_of(align) }
            }
        }
    }
}

impl LanePlan {
    pub fn direct(&self) -> bool {
        self.align > 1
    }

    pub fn all_paced(&self) -> bool {
        self.schedule.iter().all(|share| rate_of(share).is_some())
    }
}

pub fn rate_of(share: &PhaseShare) -> Option<WireRate> {
    match share.schedule {
        Schedule::Unlimited => None,
        Schedule::Steady { rate } => Some(rate),
        Schedule::Burst { rate, .. } => rate,
    }
}

impl Scenario {
    /// Nothing breaks for good; everything else happens.
    pub fn calm(seed: u64, files: bool) -> Self {
        let mut chance = Chance::new(seed, 0);
        let block_bytes = chance.pick(&[512, 4096, 16 << 10, 40_000]);
        let lanes = (0..chance.pick(&[1, 1, 2, 3])).map(|_| lane(&mut chance, block_bytes)).collect();
        Self {
            seed,
            files,
            lanes,
            block_bytes,
            queue_depth: chance.pick(&[1, 2, 3, 8, 32]),
            linger_ns: chance.pick(&[0, 50 * MICROSECOND, 250 * MICROSECOND]),
            catch_up_ns: chance.pick(&[200 * MICROSECOND, 2 * MILLISECOND, 10 * SECOND]),
            drain_timeout_ns: 10 * SECOND,
            adaptive: chance.one_in(2),
            audit_every: chance.pick(&[0, 0, 1, 7]),
            stop_at_ns: if chance.one_in(4) { Some(chance.between(0..=40 * MILLISECOND)) } else { None },
            rhythm: rhythm(&mut chance),
            faults: faults(&mut chance),
            loses: false,
            keeper_one_in: chance.pick(&[1, 3, 50]),
        }
    }

    /// Long enough for many snapshots.
    pub fn long(seed: u64) -> Self {
        let mut scenario = Self::calm(seed, true);
        scenario.rhythm.look_ns_max = 60 * MICROSECOND;
        for share in scenario.lanes.iter_mut().flat_map(|lane| &mut lane.schedule) {
            share.duration_ns *= 16;
            let rate = match &mut share.schedule {
                Schedule::Steady { rate } | Schedule::Burst { rate: Some(rate), .. } => rate,
                _ => continue,
            };
            rate.logical_bytes_per_second = rate.logical_bytes_per_second / 16 + 1;
        }
        scenario.stop_at_ns = None;
        scenario
    }

    /// Paced all the way, at rates that the core keeps up with, and nothing holds it up.
    pub fn punctual(seed: u64) -> Self {
        let mut scenario = Self::calm(seed, false);
        let mut chance = Chance::new(seed, 11);
        (scenario.rhythm.look_ns_max, scenario.rhythm.others_one_in) = (MICROSECOND, 20);
        (scenario.rhythm.stall_one_in, scenario.rhythm.oversleep_ns_max) = (0, 0);
        scenario.linger_ns = chance.pick(&[0, 250 * MICROSECOND, 5 * MILLISECOND, SECOND]);
        scenario.catch_up_ns = chance.pick(&[0, MILLISECOND, 10 * SECOND]);
        scenario.stop_at_ns = None;
        for lane in &mut scenario.lanes {
            lane.bytes_max = lane.bytes_min;
            lane.records_max = if chance.one_in(4) { chance.between(1..=300) } else { u64::MAX };
            lane.bytes_limit = u64::MAX;
            let phases = chance.pick(&[1, 1, 2, 3]);
            lane.schedule = (0..phases).map(|at| punctual_phase(&mut chance, at, lane.bytes_min)).collect();
        }
        scenario
    }

    /// Each lane is paced and has so many records or bytes to offer; the target stalls for longer than the catch-up.
    pub fn stalling(seed: u64) -> Self {
        let mut scenario = Self::calm(seed, true);
        let mut chance = Chance::new(seed, 12);
        scenario.catch_up_ns = chance.pick(&[0, 200 * MICROSECOND, 2 * MILLISECOND]);
        scenario.queue_depth = chance.pick(&[1, 2]);
        (scenario.faults.slow_one_in, scenario.faults.slow_ns_max) = (4, 20 * MILLISECOND);
        scenario.stop_at_ns = None;
        for lane in &mut scenario.lanes {
            let rate = WireRate { logical_bytes_per_second: lane.bytes_max * SECOND / (20 * MICROSECOND), weight: 1 };
            let schedule = Schedule::Steady { rate };
            lane.schedule = vec![PhaseShare { duration_ns: STALLING_NS_MAX, warmup: false, weight: 1, schedule }];
            let records = chance.between(1..=400);
            (lane.records_max, lane.bytes_limit) = if chance.one_in(3) {
                (records, u64::MAX)
            } else {
                (u64::MAX, records * lane.bytes_min - chance.between(0..=lane.bytes_min - 1))
            };
        }
        scenario
    }

    /// Many blocks wait, and each is a system call that takes seconds.
    pub fn blocking(seed: u64) -> Self {
        let mut scenario = Self::calm(seed, true);
        (scenario.block_bytes, scenario.queue_depth, scenario.stop_at_ns) = (512, 32, None);
        let takes =
            Faults { takes_ns_max: 3 * SECOND, slow_one_in: 0, short_one_in: 0, again_one_in: 0, ..scenario.faults };
        scenario.faults = Faults { busy_one_in: 0, blocking: true, ..takes };
        scenario.lanes.truncate(1);
        let schedule = Schedule::Unlimited;
        let lane = &mut scenario.lanes[0];
        (lane.bytes_min, lane.bytes_max, lane.ring_bytes) = (512, 512, 32 * 512);
        (lane.records_max, lane.bytes_limit, lane.stagger_ns) = (1000, u64::MAX, 0);
        lane.schedule = vec![PhaseShare { duration_ns: MILLISECOND, warmup: false, weight: 1, schedule }];
        (lane.layout, lane.fsync) = (LayoutPlan::Ring { periods: 2 }, Fsync::Never);
        scenario
    }

    /// Something breaks for good.
    pub fn broken(seed: u64, breakage: Breakage) -> Self {
        let mut scenario = Self::calm(seed, true);
        let mut chance = Chance::new(seed, 3);
        scenario.faults.breaks = Some((breakage, chance.between(0..=60)));
        scenario.drain_timeout_ns = chance.pick(&[0, 3 * MILLISECOND, 30 * MILLISECOND]);
        if matches!(breakage, Breakage::SyncFails | Breakage::SyncInterrupted) {
            // The sync at the end is a system call of its own, beside the ring: `tests/e2e/denied.rs`.
            scenario.lanes.iter_mut().for_each(|lane| lane.fsync = Fsync::Each);
        }
        if breakage == Breakage::SyncInterrupted {
            // It takes a thousand attempts to give up: they are quick, and the drain waits for them.
            scenario.drain_timeout_ns = 10 * SECOND;
            (scenario.faults.takes_ns_max, scenario.faults.slow_one_in) = (20 * MICROSECOND, 0);
        }
        scenario
    }
}

fn rhythm(chance: &mut Chance) -> Rhythm {
    Rhythm {
        look_ns_max: chance.pick(&[500, 5 * MICROSECOND, 30 * MICROSECOND]),
        stall_one_in: chance.pick(&[0, 300, 3000]),
        stall_ns_max: chance.pick(&[MILLISECOND, 20 * MILLISECOND]),
        oversleep_ns_max: chance.pick(&[0, 10 * MICROSECOND, 200 * MICROSECOND]),
        others_one_in: chance.pick(&[2, 20]),
        away: None,
        back_at_ns: None,
    }
}

fn faults(chance: &mut Chance) -> Faults {
    Faults {
        takes_ns_max: chance.pick(&[0, 20 * MICROSECOND, 300 * MICROSECOND]),
        slow_one_in: chance.pick(&[0, 10, 100]),
        slow_ns_max: chance.pick(&[MILLISECOND, 5 * MILLISECOND]),
        short_one_in: chance.pick(&[0, 4, 30]),
        again_one_in: chance.pick(&[0, 4, 30]),
        busy_one_in: chance.pick(&[0, 5]),
        blocking: false,
        breaks: None,
    }
}

fn lane(chance: &mut Chance, block_bytes: u64) -> LanePlan {
    let bytes_min = chance.pick(&[64, 100, 512, 1000, 4096, 5000]);
    let bytes_max = if chance.one_in(3) { bytes_min + chance.between(1..=3000) } else { bytes_min };
    let schedule: Vec<_> = (0..chance.pick(&[1, 1, 2, 3])).map(|at| phase(chance, at, bytes_min)).collect();
    let bounded = schedule.iter().all(|share| rate_of(share).is_some());
    let records_max = if bounded && chance.one_in(2) { u64::MAX } else { chance.between(1..=1500) };
    let layout = if chance.one_in(2) {
        LayoutPlan::Ring { periods: chance.between(1..=3) }
    } else {
        let limit_bytes = chance.between(1..=20) * 8192;
        LayoutPlan::Rotating { limit_bytes, retain: chance.pick(&[None, Some(0), Some(1), Some(3)]) }
    };
    LanePlan {
        bytes_min,
        bytes_max,
        ring_bytes: block_bytes.max(bytes_max) * chance.between(1..=6),
        schedule,
        stagger_ns: chance.pick(&[0, 0, 313 * MICROSECOND]),
        records_max,
        bytes_limit: if chance.one_in(5) { chance.between(0..=400_000) } else { u64::MAX },
        layout,
        align: chance.pick(&[1, 512, 4096]),
        fsync: chance.pick(&[Fsync::Never, Fsync::End, Fsync::Each]),
    }
}

fn phase(chance: &mut Chance, at: u64, record_bytes: u64) -> PhaseShare {
    let duration_ns = chance.between(1..=25 * MILLISECOND);
    let weight = chance.pick(&[1, 1, 100]);
    let records = chance.between(1..=700);
    let logical = u128::from(records * record_bytes * weight * SECOND) / u128::from(duration_ns);
    let rate = WireRate { logical_bytes_per_second: logical as u64, weight };
    let (on_ns, off_ns) = (chance.between(1..=4 * MILLISECOND), chance.between(1..=4 * MILLISECOND));
    let schedule = match chance.between(0..=5) {
        0 => Schedule::Unlimited,
        1 => Schedule::Burst { on_ns, off_ns, rate: None },
        2 => Schedule::Burst { on_ns, off_ns, rate: Some(rate) },
        _ => Schedule::Steady { rate },
    };
    PhaseShare { duration_ns, warmup: at == 0 && chance.one_in(3), weight, schedule }
}

/// A turn takes 3 µs at most and sends a block; of a burst there are no more than its window has turns for.
fn punctual_phase(chance: &mut Chance, at: u64, record_bytes: u64) -> PhaseShare {
    let (duration_ns, weight) = (chance.between(1..=25 * MILLISECOND), chance.pick(&[1, 1, 100]));
    let is_burst = chance.one_in(4);
    let interval_ns = MICROSECOND * if is_burst { chance.pick(&[30, 250]) } else { chance.pick(&[4, 30, 250, 1000]) };
    let rate = WireRate { logical_bytes_per_second: record_bytes * weight * SECOND / interval_ns, weight };
    let (on_ns, off_ns) =
        (chance.between(MILLISECOND..=4 * MILLISECOND), chance.between(MILLISECOND..=4 * MILLISECOND));
    let schedule = match is_burst {
        true => Schedule::Burst { on_ns, off_ns, rate: Some(rate) },
        false => Schedule::Steady { rate },
    };
    PhaseShare { duration_ns, warmup: at == 0 && chance.one_in(3), weight, schedule }
}
