//! The real rings, the real clock and the keeper's own thread: does a core really allocate nothing?

use crate::scenario::{LanePlan, LayoutPlan, Scenario};
use crate::world::{Parts, bake, open_files, places};
use engine::base::clock::{Clock, TscClock};
use engine::core_loop::tally::{SnapshotQueues, Tally};
use engine::counters::{CoreEnd, Field, LiveCore, Snapshot};
use engine::plan::{Fsync, PhaseShare, Schedule};
use engine::sink::Sink;
use engine::sink::file::keeper::Keeper;
use engine::sink::null::NullSink;
use engine::sink::stdout::StdoutSink;
use engine::sys::aio::Aio;
use engine::sys::allocation::counted;
use engine::sys::clock::monotonic_raw_ns;
use engine::sys::region::Region;
use engine::sys::ring::Ring;
use engine::sys::syscalls::Syscalls;
use engine::sys::uring::Uring;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread;

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

/// Where the records go.
enum To {
    Nothing,
    Files,
    /// `lent`: page by page, as those that nobody stamps.
    Pipe {
        writer: OwnedFd,
        lent: bool,
    },
}

/// What came of it, and how often the core allocated.
pub struct Ran {
    pub end: CoreEnd,
    pub last: Snapshot,
    pub allocations: u64,
}

pub fn on_system_calls(folder: &Path) -> Ran {
    run(&scenario(true), To::Files, folder, Syscalls::new)
}

/// `None`: this host forbids native AIO. Runs take it where all files are direct.
pub fn on_aio(folder: &Path) -> Option<Ran> {
    let of_its_own = |region, depth| Aio::new(region, depth).map_err(|(_, error)| error);
    let _could_be_made = of_its_own(Region::map(4096).expect("there is memory"), 1).ok()?;
    let mut scenario = scenario(true);
    scenario.lanes.retain(LanePlan::direct);
    assert!(scenario.lanes.len() > 1, "rotating and in rings");
    Some(run(&scenario, To::Files, folder, |region, depth| of_its_own(region, depth).expect("one could be made")))
}

/// `None`: this host forbids io_uring.
pub fn on_io_uring(folder: &Path) -> Option<Ran> {
    Uring::probe().ok()?;
    let ring = |region, depth| Uring::new(region, depth, 64).expect("the probe could");
    Some(run(&scenario(true), To::Files, folder, ring))
}

pub fn on_nothing(folder: &Path) -> Ran {
    run(&scenario(false), To::Nothing, folder, Syscalls::new)
}

/// Somebody reads what comes, all of it.
pub fn on_a_pipe(folder: &Path, lent: bool) -> Ran {
    let (mut reader, writer) = io::pipe().expect("there are descriptors");
    let reading = thread::spawn(move || io::copy(&mut reader, &mut io::sink()).expect("a pipe can be read"));
    let ran = run(&scenario(false), To::Pipe { writer: writer.into(), lent }, folder, Syscalls::new);
    let produced: u64 = ran.last.measured.iter().map(|counts| counts.get(Field::BytesProduced)).sum();
    assert_eq!(reading.join().expect("it reads until the end"), produced);
    ran
}

fn run<R: Ring>(scenario: &Scenario, to: To, folder: &Path, ring: impl FnOnce(Region, usize) -> R) -> Ran {
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
    let (end, allocations) = match to {
        To::Files => {
            let sink = open_files(scenario, &mut ring, &parts.payloads, &files, &mut keeper);
            let thread = keeper.start(&[], |why| panic!("the keeper: {why}"));
            let measured = measure(parts, ring, sink);
            thread.unwrap().join().expect("it reports and does not panic");
            measured
        }
        To::Pipe { writer, lent } => {
            let sink = StdoutSink::over(writer, ring.memory(), lent).expect("a pipe can be written");
            measure(parts, ring, sink)
        }
        To::Nothing => measure(parts, ring, NullSink::new(files.len(), depth)),
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
