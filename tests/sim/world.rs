//! Puts a core together as a run does, with a simulated ring, clock and keeper, and lets it live.

use crate::clock::SimClock;
use crate::pacing::{Offered, Watched};
use crate::ring::SimRing;
use crate::scenario::{LanePlan, Scenario};
use engine::base::clock::Clock;
use engine::base::limits;
use engine::core_loop::tally::{SnapshotQueues, Tally};
use engine::core_loop::{Core, Lane, Pulse};
use engine::counters::gathered::GatheredLatencies;
use engine::counters::{CoreEnd, Counts, Latencies, LiveCore, Snapshot};
use engine::manifest::RecordFormat;
use engine::pace::{Pacer, Patience};
use engine::payload::bake::{Draft, Who};
use engine::payload::framing::Framing;
use engine::payload::{Payload, Starts};
use engine::plan::{Annotate, Existing, FilePlan, PayloadPlan, PayloadSource};
use engine::sink::Sink;
use engine::sink::file::keeper::Keeper;
use engine::sink::file::made::Made;
use engine::sink::file::{Contents, FileLane, FileSink, LaneSetup, open, staging_bytes};
use engine::sink::null::NullSink;
use engine::sys::allocation::counted;
use engine::sys::ring::Ring;
use engine::tap::{Checksum, EventBooks, TapEnd, TapLane, tap};
use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub const RUN_ID: &str = "simulation";
pub const RUN_ID_HASH: u64 = 0x5157_0a11;
pub const EPOCH_UNIX_NS: u64 = 1_700_000_000_123_456_789;
const PAGE_BYTES: u64 = 4096;
/// Small, so that it fills up in most runs.
const TAP_QUEUE: usize = 64;
const TAP_EVERY: u64 = 7;

/// Counts of a snapshot, and how many values its histograms had.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at_ns: u64,
    pub warm: Vec<Counts>,
    pub measured: Vec<Counts>,
    /// Response, service and lateness, in the warm-up and after.
    pub warm_values: [u64; 3],
    pub measured_values: [u64; 3],
    /// The largest, and warm-ups aside.
    pub service_ns: u64,
    pub lateness_ns: u64,
    /// So long the core waited for a file to be made.
    pub file_wait_ns: u64,
    pub spun_ns: u64,
    pub last: bool,
}

/// What a run left behind.
pub struct Outcome {
    pub end: CoreEnd,
    pub snapshots: Vec<Seen>,
    /// The live cells each time somebody looked, in lane order.
    pub live: Vec<Vec<Counts>>,
    pub starts: Vec<Starts>,
    pub next_sequences: Vec<u64>,
    /// What the null target was offered.
    pub offered: Vec<Offered>,
    /// By the core's thread, between the barrier and the last completion.
    pub allocations: u64,
    pub broke: bool,
    pub keeper_errors: Vec<String>,
    pub ran_ns: u64,
}

/// Everything that other threads do while the core runs.
#[derive(Default)]
pub struct Others {
    keeper: Option<Keeper>,
    keeper_errors: Vec<String>,
    snapshots: Vec<Seen>,
    live: Vec<Vec<Counts>>,
    pub offered: Vec<Offered>,
}

impl Others {
    fn keep(&mut self) -> bool {
        let carried = self.keeper.as_mut().and_then(Keeper::carry_out_next);
        if let Some(Err(error)) = &carried {
            self.keeper_errors.push(error.to_string());
        }
        carried.is_some()
    }

    /// The snapshots, and the live cells each time somebody looked.
    pub fn seen(self) -> (Vec<Seen>, Vec<Vec<Counts>>) {
        (self.snapshots, self.live)
    }
}

fn see(snapshot: &Snapshot) -> Seen {
    let added = |of: &GatheredLatencies| {
        let mut all = Latencies::new();
        of.add_to(&mut all);
        all
    };
    let values = |of: &Latencies| [of.response.len(), of.service.len(), of.lateness.len()];
    let latencies = added(&snapshot.measured_latencies);
    Seen {
        at_ns: snapshot.at_ns,
        warm: snapshot.warm.clone(),
        measured: snapshot.measured.clone(),
        warm_values: snapshot.warm_latencies.as_deref().map_or([0; 3], |warm| values(&added(warm))),
        measured_values: values(&latencies),
        service_ns: latencies.service.max(),
        lateness_ns: latencies.lateness.max(),
        file_wait_ns: snapshot.loop_time.file_wait_ns,
        spun_ns: snapshot.loop_time.spun_ns,
        last: snapshot.last,
    }
}

pub fn file_plan(lane: &LanePlan, at: usize, folder: &Path, period_bytes: u64) -> FilePlan {
    FilePlan {
        data: folder.join(format!("payloads.{at}.bin")),
        manifest: folder.join(format!("payloads.{at}.json")),
        log: Some(folder.join(format!("payloads.{at}.log"))),
        log_place: folder.join(format!("payloads.{at}.log")),
        layout: lane.layout.resolve(period_bytes, lane.align),
        direct: lane.direct(),
        align: lane.align,
        fsync: lane.fsync,
        min_free_bytes: 0,
        run_bytes_max: u64::MAX,
        existing: Existing::Refused { manifest: false },
    }
}

pub fn payload_plan(lane: &LanePlan, seed: u64) -> PayloadPlan {
    PayloadPlan {
        source: PayloadSource::Random { compressibility: 0.0 },
        record_bytes_min: lane.bytes_min,
        record_bytes_max: lane.bytes_max,
        headed: true,
        seed,
        annotate: Annotate::Payload,
        sign_key: None,
    }
}

/// A lane's bytes in the core's memory.
pub struct Place {
    draft: Draft,
    plan: PayloadPlan,
    ring: Range<usize>,
    file: FilePlan,
    pub staging: Range<usize>,
}

pub fn places(scenario: &Scenario, folder: &Path) -> Vec<Place> {
    let mut end = 0u64;
    let mut take = |bytes: u64| {
        let start = end;
        end += bytes.next_multiple_of(PAGE_BYTES);
        start as usize..(start + bytes) as usize
    };
    let place = |(at, lane): (usize, &LanePlan)| {
        let plan = payload_plan(lane, scenario.seed);
        let draft =
            Draft::new(&plan, Framing::None, 0.0, at as u32, lane.ring_bytes, scenario.block_bytes).expect("it fits");
        let ring = take(draft.bytes());
        let file = file_plan(lane, at, folder, draft.starts().period_bytes());
        // As a run does it: blocks are never shorter than the longest record.
        let staged = staging_bytes(&file, draft.starts(), block_bytes(scenario), scenario.queue_depth);
        Place { draft, plan, ring, file, staging: take(staged) }
    };
    scenario.lanes.iter().enumerate().map(place).collect()
}

pub fn block_bytes(scenario: &Scenario) -> u64 {
    scenario.lanes.iter().map(|lane| lane.bytes_max).fold(scenario.block_bytes, u64::max)
}

/// Runs the scenario in `folder`; `spoil` may put something in the way before the keeper starts.
pub fn live(scenario: &Scenario, folder: &Path, spoil: impl FnOnce(&Path)) -> Outcome {
    let places = places(scenario, folder);
    let mut memory = vec![0; places.last().map_or(0, |place| place.staging.end)];
    let others = Rc::new(RefCell::new(Others { keeper: Some(Keeper::new()), ..Others::default() }));
    let stop = Arc::new(AtomicBool::new(false));
    let live = LiveCore::new((0..places.len() as u32).collect());
    let warmup = scenario.lanes.iter().any(|lane| lane.schedule.iter().any(|share| share.warmup));
    let (queues, watch) = watch(scenario, warmup, &live, &stop, &others);
    let clock = SimClock::new(scenario.seed, scenario.rhythm.clone(), watch);
    let (payloads, files) = bake(scenario, places, &mut memory);
    let depth = (scenario.queue_depth + 1) * files.len();
    let aligns = scenario.lanes.iter().map(|lane| lane.align).collect();
    let mut ring = SimRing::new(scenario.seed, clock.clone(), memory, depth, scenario.faults.clone(), aligns);
    let tally = Tally::new(0, live.clone(), warmup, queues);
    let parts = Parts { scenario, clock, payloads, tally, live, stop: &stop };
    if scenario.files {
        let sink = with_keeper(&others, |keeper| open_files(scenario, &mut ring, &parts.payloads, &files, keeper));
        spoil(folder);
        if let Err(error) = with_keeper(&others, Keeper::begin) {
            others.borrow_mut().keeper_errors.push(error.to_string());
        }
        run(parts, ring, sink, &others)
    } else {
        let sink = NullSink::new(parts.payloads.len(), depth);
        let sink = Watched { sink, clock: parts.clock.clone(), others: others.clone() };
        run(parts, ring, sink, &others)
    }
}

fn with_keeper<T>(others: &Rc<RefCell<Others>>, work: impl FnOnce(&mut Keeper) -> T) -> T {
    work(others.borrow_mut().keeper.as_mut().expect("it is here until the end"))
}

/// A lane's file and its staging buffers.
type LaneFile = (FilePlan, Range<usize>);

/// Fills the memory with records.
pub fn bake(scenario: &Scenario, places: Vec<Place>, memory: &mut [u8]) -> (Vec<Payload>, Vec<LaneFile>) {
    let lane = |(at, place): (usize, Place)| {
        let who = Who { run_id: RUN_ID, run_id_hash: RUN_ID_HASH, producer_id: at as u32 };
        let bytes = &mut memory[place.ring.clone()];
        let baked = place.draft.bake(&place.plan, who, place.ring.start, bytes, scenario.queue_depth, &|| Ok(()));
        (baked.expect("random bytes always fit"), (place.file, place.staging))
    };
    places.into_iter().enumerate().map(lane).unzip()
}

/// The metrics thread, the keeper and whoever sends the signal.
pub fn watch(
    scenario: &Scenario,
    warmup: bool,
    live: &Arc<LiveCore>,
    stop: &Arc<AtomicBool>,
    others: &Rc<RefCell<Others>>,
) -> (SnapshotQueues, impl FnMut(u64) + 'static) {
    let (full, snapshots) = crossbeam_channel::bounded::<Box<Snapshot>>(limits::SNAPSHOTS_IN_FLIGHT + 1);
    let (recycle, empty) = crossbeam_channel::bounded(limits::SNAPSHOTS_IN_FLIGHT + 1);
    for _ in 0..limits::SNAPSHOTS_IN_FLIGHT {
        recycle.send(Snapshot::preallocated(0, scenario.lanes.len(), warmup)).expect("there is room");
    }
    let (live, stop, others) = (live.clone(), stop.clone(), others.clone());
    let (stop_at_ns, keeper_one_in) = (scenario.stop_at_ns, scenario.keeper_one_in);
    let mut chance = crate::chance::Chance::new(scenario.seed, 4);
    let watch = move |now_ns: u64| {
        let mut others = others.borrow_mut();
        if stop_at_ns.is_some_and(|at| now_ns >= at) {
            stop.store(true, Relaxed);
        }
        if chance.one_in(keeper_one_in) {
            others.keep();
        }
        others.live.push(live.lanes.iter().map(|lane| lane.read()).collect());
        while let Ok(mut snapshot) = snapshots.try_recv() {
            others.snapshots.push(see(&snapshot));
            snapshot.measured_latencies.reset();
            if let Some(warm) = &mut snapshot.warm_latencies {
                warm.reset();
            }
            // After the last one the core is gone.
            let _gone = recycle.try_send(snapshot);
        }
    };
    (SnapshotQueues { full, empty }, watch)
}

pub fn open_files<R: Ring>(
    scenario: &Scenario,
    ring: &mut R,
    payloads: &[Payload],
    files: &[LaneFile],
    keeper: &mut Keeper,
) -> FileSink {
    let mut made = Made::default();
    let lane = |(at, (payload, (plan, staging))): (usize, (&Payload, &LaneFile))| {
        let contents = Contents {
            run_id: RUN_ID.to_owned(),
            producer_id: at as u32,
            records: RecordFormat::Header,
            in_flight_bytes_max: (scenario.queue_depth as u64 + 1) * block_bytes(scenario),
        };
        let setup = LaneSetup {
            plan,
            claimed: open::claim(plan, RUN_ID, &mut made).expect("nobody else is here"),
            contents,
            starts: payload.starts(),
            queue_depth: scenario.queue_depth,
            staging: staging.clone(),
            keeper: keeper.lane(plan),
            audit_every: scenario.audit_every,
            may_prepare: &|| Ok(()),
        };
        FileLane::open(ring, setup).expect("the folder is ours")
    };
    let lanes = payloads.iter().zip(files).enumerate().map(lane).collect();
    made.keep();
    FileSink::new(lanes)
}

/// A core's parts that do not depend on ring and sink.
pub struct Parts<'a, C> {
    pub scenario: &'a Scenario,
    pub clock: C,
    pub payloads: Vec<Payload>,
    pub tally: Tally,
    pub live: Arc<LiveCore>,
    pub stop: &'a AtomicBool,
}

impl<'a, C: Clock> Parts<'a, C> {
    pub fn core<R: Ring, S: Sink<R>>(self, ring: R, sink: S, epoch_ns: u64) -> Core<'a, R, S, C> {
        let scenario = self.scenario;
        let (linger_ns, block_bytes) = (scenario.linger_ns, block_bytes(scenario));
        let patience = Patience { catch_up_ns: scenario.catch_up_ns, linger_ns, block_bytes };
        let lane = |plan: &LanePlan| Lane {
            pacer: Pacer::new(&plan.schedule, plan.stagger_ns, patience),
            records_left: plan.records_max,
            bytes_left: plan.bytes_limit,
            finished: false,
        };
        let lanes: Vec<Lane> = scenario.lanes.iter().map(lane).collect();
        let mut payloads = self.payloads;
        payloads.iter_mut().for_each(|payload| payload.set_epoch(EPOCH_UNIX_NS));
        let done = Vec::with_capacity(2 * (scenario.queue_depth + 1) * lanes.len());
        Core {
            ring,
            sink,
            clock: self.clock,
            lanes,
            payloads,
            tally: self.tally,
            live: self.live,
            tap: None,
            stop: self.stop,
            block_bytes,
            drain_timeout_ns: scenario.drain_timeout_ns,
            adaptive: scenario.adaptive,
            epoch_ns,
            done,
            pulse: Pulse::default(),
        }
    }
}

/// Every seventh record of each lane was told of, in order, until the queue was full; the rest was counted.
fn check_tapped(tapped: &TapEnd, next_sequences: &[u64]) {
    let wanted: u64 = next_sequences.iter().map(|next| next.div_ceil(TAP_EVERY)).sum();
    let totals = EventBooks::new(vec![tapped.counts.clone()]).totals();
    assert_eq!(totals.offered, wanted);
    assert_eq!(totals.dropped, wanted.saturating_sub(TAP_QUEUE as u64));
    let mut next = vec![0; next_sequences.len()];
    for facts in tapped.events.try_iter() {
        let expected = &mut next[facts.producer_id as usize];
        assert_eq!(facts.sequence, *expected);
        assert!(facts.timestamp_unix_ns >= EPOCH_UNIX_NS && facts.bytes >= 64 && facts.weight > 0);
        *expected += TAP_EVERY;
    }
}

fn run<S: Sink<SimRing>>(parts: Parts<'_, SimClock>, ring: SimRing, sink: S, others: &Rc<RefCell<Others>>) -> Outcome {
    let clock = parts.clock.clone();
    let epoch_ns = clock.peek_ns() + 1000;
    let lanes = (0..parts.scenario.lanes.len() as u32).map(|id| TapLane { producer_id: id, target: 0 }).collect();
    let (tap, tapped) = tap(TAP_EVERY, TAP_QUEUE, Checksum::Header, lanes);
    let mut core = parts.core(ring, sink, epoch_ns);
    core.tap = Some(tap);
    let ((), allocations) = counted(|| core.run());
    let ran_ns = clock.peek_ns() - epoch_ns;
    let starts = core.payloads.iter().map(|payload| payload.starts().clone()).collect();
    let next_sequences: Vec<u64> = core.payloads.iter().map(Payload::next_sequence).collect();
    check_tapped(&tapped, &next_sequences);
    core.ring.end();
    let broke = core.ring.broke;
    let end = core.close();
    let mut inner = others.borrow_mut();
    while inner.keep() {}
    if let Some(Err(error)) = inner.keeper.take().map(Keeper::conclude) {
        inner.keeper_errors.push(error.to_string());
    }
    drop(inner);
    clock.others();
    let others = others.take();
    let Others { snapshots, live, offered, keeper_errors, .. } = others;
    Outcome { end, snapshots, live, starts, next_sequences, offered, allocations, broke, keeper_errors, ran_ns }
}
