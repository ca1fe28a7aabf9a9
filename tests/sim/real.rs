//! The real rings, the real clock and the keeper's own thread: does a core really allocate nothing?

use crate::scenario::{LanePlan, LayoutPlan, Scenario};
use crate::world::{Parts, bake, open_files, places};
use engine::base::clock::{Clock, TscClock};
use engine::core_loop::tally::{SnapshotQueues, Tally};
use engine::counters::{CoreEnd, LiveCore, Snapshot};
use engine::plan::{Fsync, PhaseShare, Schedule};
use engine::sink::Sink;
use engine::sink::file::keeper::Keeper;
use engine::sink::null::NullSink;
use engine::sys::allocation::counted;
use engine::sys::blocking::Blocking;
use engine::sys::clock::monotonic_raw_ns;
use engine::sys::region::Region;
use engine::sys::ring::Ring;
use engine::sys::uring::Uring;
use std::path::Path;
use std::sync::atomic::AtomicBool;

pub const RECORDS: u64 = 20_000;

/// Aligned and staged lanes, rotating and in rings, audited.
pub fn scenario(files: bool) -> Scenario {
    let mut scenario = Scenario::calm(0, files);
    let lane = |bytes: u64, align: u64, layout| LanePlan {
        bytes_min: bytes,
        bytes_max: bytes + bytes % 512,
        ring_bytes: 1 << 20,
        schedule: vec![PhaseShare { duration_ns: u64::MAX, warmup: false, weight: 1, schedule: Schedule::Unlimited }],
        stagger_ns: 0,
        records_max: RECORDS,
        bytes_limit: u64::MAX,
        layout,
        align,
        fsync: Fsync::End,
    };
    let rotating = LayoutPlan::Rotating { limit_bytes: 1 << 20, retain: Some(2) };
    scenario.lanes = vec![
        lane(512, 1, rotating),
        lane(300, 4096, rotating),
        lane(4096, 4096, LayoutPlan::Ring { periods: 2 }),
        lane(300, 512, LayoutPlan::Ring { periods: 2 }),
    ];
    (scenario.block_bytes, scenario.queue_depth, scenario.audit_every) = (16 << 10, 8, 100);
    (scenario.drain_timeout_ns, scenario.stop_at_ns) = (60_000_000_000, None);
    scenario
}

/// What came of it, and how often the core allocated.
pub struct Ran {
    pub end: CoreEnd,
    pub last: Snapshot,
    pub allocations: u64,
}

pub fn on_system_calls(folder: &Path) -> Ran {
    run(&scenario(true), folder, Blocking::new)
}

/// `None`: this host forbids io_uring.
pub fn on_io_uring(folder: &Path) -> Option<Ran> {
    Uring::probe().ok()?;
    Some(run(&scenario(true), folder, |region, depth| Uring::new(region, depth, 64).expect("the probe could")))
}

pub fn on_nothing(folder: &Path) -> Ran {
    run(&scenario(false), folder, Blocking::new)
}

fn run<R: Ring>(scenario: &Scenario, folder: &Path, ring: impl FnOnce(Region, usize) -> R) -> Ran {
    let places = places(scenario, folder);
    let depth = (scenario.queue_depth + 1) * places.len();
    let mut region = Region::map(places.last().expect("there are lanes").staging.end).expect("there is memory");
    let (payloads, files) = bake(scenario, places, region.bytes_mut());
    let mut ring = ring(region, depth);
    let (live, stop) = (LiveCore::new((0..files.len() as u32).collect()), AtomicBool::new(false));
    let (full, snapshots) = crossbeam_channel::bounded(4);
    let (_recycle, empty) = crossbeam_channel::bounded(4);
    let tally = Tally::new(0, live.clone(), false, SnapshotQueues { full, empty });
    let parts = Parts { scenario, clock: TscClock::start(monotonic_raw_ns), payloads, tally, live, stop: &stop };
    let mut keeper = Keeper::new();
    let (end, allocations) = if scenario.files {
        let sink = open_files(scenario, &mut ring, &parts.payloads, &files, &mut keeper);
        let thread = keeper.start(&[], |why| panic!("the keeper: {why}"));
        let measured = measure(parts, ring, sink);
        thread.unwrap().join().expect("it reports and does not panic");
        measured
    } else {
        measure(parts, ring, NullSink::new(files.len(), depth))
    };
    let last = *snapshots.try_iter().last().expect("a core always sends a last snapshot");
    Ran { end, last, allocations }
}

fn measure<R: Ring, S: Sink<R>>(parts: Parts<'_, TscClock>, ring: R, sink: S) -> (CoreEnd, u64) {
    let epoch_ns = parts.clock.now_ns();
    let mut core = parts.core(ring, sink, epoch_ns);
    let ((), allocations) = counted(|| core.run());
    (core.close(), allocations)
}
