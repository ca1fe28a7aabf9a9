//! One core's thread: pin, map, bake, open, wait for the others, loop, close.

use super::{Alarm, Stop};
use crate::base::clock::TscClock;
use crate::base::fatal::Fatal;
use crate::core_loop::tally::{SnapshotQueues, Tally};
use crate::core_loop::{Core, Lane, Pulse};
use crate::counters::{CoreEnd, LiveCore};
use crate::manifest::RecordFormat;
use crate::pace::Pacer;
use crate::payload::Payload;
use crate::payload::bake::{Draft, Who};
use crate::plan::{Annotate, Io, Poll, ProducerPlan, RunPlan, SinkKind};
use crate::sink::Sink;
use crate::sink::file::keeper::KeeperLane;
use crate::sink::file::{Contents, FileLane, FileSink, LaneSetup, staging_bytes};
use crate::sink::null::NullSink;
use crate::sink::stdout::StdoutSink;
use crate::sys;
use crate::sys::aio::Aio;
use crate::sys::blocking::Blocking;
use crate::sys::region::Region;
use crate::sys::ring::Ring;
use crate::sys::uring::Uring;
use crossbeam_channel::{Receiver, Sender};
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;

/// What a core says that was ready when another one failed.
pub const SENT_HOME: &str = "another core could not start";

const PAGE_BYTES: u64 = 4096;

/// Everything that one core is started with.
pub struct Setup {
    pub plan: Arc<RunPlan>,
    pub index: usize,
    pub clock: TscClock,
    pub stop: Arc<Stop>,
    pub zero_fraction: f64,
    /// In lane order; `None` where the target is no file.
    pub keeper_lanes: Vec<Option<KeeperLane>>,
    pub live: Arc<LiveCore>,
    pub queues: SnapshotQueues,
    pub ready: Sender<Ready>,
    pub gate: Receiver<Go>,
}

/// A core is ready; what its memory came to.
#[derive(Clone, Debug)]
pub struct Ready {
    pub ring_bytes_per_lane: u64,
    pub repeat_period_bytes: u64,
    pub memory: String,
}

/// The start signal: monotonic and Unix time of the barrier.
#[derive(Clone, Copy, Debug)]
pub struct Go {
    pub epoch_ns: u64,
    pub epoch_unix_ns: u64,
}

/// A lane's place in the core's region.
struct Place {
    draft: Draft,
    ring: Range<usize>,
    staging: Range<usize>,
}

/// Starts the thread.
pub fn spawn(setup: Setup) -> Result<JoinHandle<Result<CoreEnd, Fatal>>, Fatal> {
    let name = format!("core-{}", setup.plan.cores[setup.index].cpu);
    let spawned = std::thread::Builder::new().name(name).spawn(move || begin(setup));
    spawned.map_err(|error| Fatal::host(format!("cannot start a core thread: {error}")).mend("raise ulimit -u"))
}

fn begin(setup: Setup) -> Result<CoreEnd, Fatal> {
    let (plan, stop) = (setup.plan.clone(), setup.stop.clone());
    let _alarm = Alarm(&stop, "a core crashed; please report this");
    let cpu = plan.cores[setup.index].cpu;
    if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        return Err(Fatal::host(format!("cannot pin a thread to processor {cpu}"))
            .mend("name processors that this process may use: --cores, see `taskset -p $$`"));
    }
    sys::process::set_precise_timers();
    let places = places(&setup)?;
    let bytes = places.last().map_or(0, |place| place.staging.end);
    let mut region = Region::map(bytes).map_err(|error| {
        Fatal::host(format!("cannot map {bytes} bytes for the payload ring: {error}"))
            .mend("choose a smaller --ring-size or fewer --cores")
    })?;
    let memory = region.pages().name().to_owned();
    let drafts: Vec<_> = places.iter().map(|place| (place.ring.clone(), place.staging.clone())).collect();
    let formats: Vec<_> = places.iter().map(|place| place.draft.record_format(&plan.payload)).collect();
    let payloads: Vec<Payload> = bake(&setup, places, region.bytes_mut())?;
    let depth = plan.sink.queue_depth * payloads.len() + payloads.len();
    match (plan.sink.kind, plan.io) {
        (SinkKind::Null, _) => {
            finish(setup, Blocking::new(region, depth), payloads, memory, |_, _, _| Ok(NullSink::new(depth)))
        }
        (SinkKind::Stdout, _) => {
            let sealed = plan.payload.annotate == Annotate::Off;
            let open = |ring: &mut Blocking, _: &mut Setup, _: &[Payload]| {
                StdoutSink::new(ring.memory(), sealed).map_err(|error| Fatal::host(format!("stdout: {error}")))
            };
            finish(setup, Blocking::new(region, depth), payloads, memory, open)
        }
        (SinkKind::File, io) => with_ring(setup, io, region, depth, FileCore { payloads, memory, drafts, formats }),
    }
}

/// What a core with files has baked by the time it picks its ring.
struct FileCore {
    payloads: Vec<Payload>,
    memory: String,
    /// Ring and staging of each lane.
    drafts: Vec<(Range<usize>, Range<usize>)>,
    formats: Vec<RecordFormat>,
}

impl FileCore {
    fn finish<R: Ring>(self, setup: Setup, ring: R, about: &str) -> Result<CoreEnd, Fatal> {
        let Self { payloads, memory, drafts, formats } = self;
        let open = |ring: &mut R, setup: &mut Setup, p: &[Payload]| open_files(ring, setup, p, &drafts, formats);
        finish(setup, ring, payloads, format!("{memory}{about}"), open)
    }
}

/// The one match that picks the back end of files.
fn with_ring(setup: Setup, io: Io, region: Region, depth: usize, core: FileCore) -> Result<CoreEnd, Fatal> {
    if io == Io::Uring {
        let ring = Uring::new(region, depth, 2 * core.payloads.len()).map_err(|error| {
            Fatal::host(format!("io_uring: {error}")).mend("use --io syscall, or raise `ulimit -l`")
        })?;
        let about = if ring.registered() { ", registered" } else { ", not registered" };
        return core.finish(setup, ring, about);
    }
    // Native AIO is asynchronous for direct writes alone, and some hosts forbid it as well.
    let direct = setup.plan.producers.iter().filter_map(|producer| producer.file.as_ref()).all(|file| file.direct);
    match if direct { Aio::new(region, depth).map_err(|(region, _)| region) } else { Err(region) } {
        Ok(ring) => core.finish(setup, ring, ""),
        Err(region) => core.finish(setup, Blocking::new(region, depth), ""),
    }
}

/// Drafts every lane's ring and gives each its stretch of the region.
fn places(setup: &Setup) -> Result<Vec<Place>, Fatal> {
    let plan = &setup.plan;
    let core = &plan.cores[setup.index];
    let mut end = 0u64;
    let mut take = |bytes: u64| {
        let start = end;
        end += bytes.next_multiple_of(PAGE_BYTES);
        start as usize..(start + bytes) as usize
    };
    let block_bytes = plan.sink.block_bytes;
    let mut drafts = Vec::new();
    for at in &core.producers {
        let id = plan.producers[*at].id;
        drafts.push(Draft::new(&plan.payload, setup.zero_fraction, id, core.ring_bytes_per_lane, block_bytes)?);
    }
    // The loop's blocks hold at least one record of any lane, so the staging buffers must as well.
    let block_bytes = drafts.iter().map(|draft| draft.starts().longest()).fold(block_bytes, u64::max);
    let place = |(draft, at): (Draft, &usize)| {
        let (file, depth) = (&plan.producers[*at].file, plan.sink.queue_depth);
        let ring = take(draft.bytes());
        let staged = file.as_ref().map_or(0, |file| staging_bytes(file, draft.starts(), block_bytes, depth));
        Place { draft, ring, staging: take(staged) }
    };
    Ok(drafts.into_iter().zip(&core.producers).map(place).collect())
}

fn bake(setup: &Setup, places: Vec<Place>, memory: &mut [u8]) -> Result<Vec<Payload>, Fatal> {
    let plan = &setup.plan;
    let producers = plan.cores[setup.index].producers.iter().map(|at| &plan.producers[*at]);
    let bake = |(place, producer): (Place, &ProducerPlan)| {
        let who = Who { run_id: &plan.run_id, run_id_hash: plan.run_id_hash, producer_id: producer.id };
        let base = place.ring.start;
        place.draft.bake(&plan.payload, who, base, &mut memory[place.ring], plan.sink.queue_depth)
    };
    places.into_iter().zip(producers).map(bake).collect()
}

fn open_files<R: Ring>(
    ring: &mut R,
    setup: &mut Setup,
    payloads: &[Payload],
    places: &[(Range<usize>, Range<usize>)],
    formats: Vec<RecordFormat>,
) -> Result<FileSink, Fatal> {
    let plan = setup.plan.clone();
    let mut lanes = Vec::new();
    for (lane, records) in formats.into_iter().enumerate() {
        let producer = &plan.producers[plan.cores[setup.index].producers[lane]];
        let keeper = setup.keeper_lanes[lane].take();
        let (Some(file), Some(keeper)) = (&producer.file, keeper) else {
            return Err(Fatal::usage(format!("producer {} has no file", producer.id)));
        };
        let depth = plan.sink.queue_depth;
        let contents = Contents {
            run_id: plan.run_id.clone(),
            producer_id: producer.id,
            records,
            in_flight_bytes_max: (depth as u64 + 1) * plan.sink.block_bytes.max(payloads[lane].starts().longest()),
        };
        lanes.push(FileLane::open(
            ring,
            LaneSetup {
                plan: file,
                contents,
                starts: payloads[lane].starts(),
                queue_depth: depth,
                staging: places[lane].1.clone(),
                keeper,
                audit_every: plan.observe.audit_every,
            },
        )?);
    }
    Ok(FileSink::new(lanes))
}

/// Opens the sink, waits at the barrier, runs and closes.
fn finish<R: Ring, S: Sink<R>>(
    mut setup: Setup,
    mut ring: R,
    payloads: Vec<Payload>,
    memory: String,
    open: impl FnOnce(&mut R, &mut Setup, &[Payload]) -> Result<S, Fatal>,
) -> Result<CoreEnd, Fatal> {
    let sink = open(&mut ring, &mut setup, &payloads)?;
    let plan = setup.plan.clone();
    let core_plan = &plan.cores[setup.index];
    let ready = Ready {
        ring_bytes_per_lane: payloads.first().map_or(0, |payload| payload.starts().period_bytes()),
        repeat_period_bytes: payloads.first().map_or(0, |payload| payload.starts().period_bytes()),
        memory,
    };
    let mut lanes: Vec<Lane> = payloads
        .into_iter()
        .zip(&core_plan.producers)
        .map(|(payload, at)| lane(&plan, &plan.producers[*at], payload))
        .collect();
    let warmup = plan.phases.iter().any(|phase| phase.warmup);
    let tally = Tally::new(setup.index, setup.live.clone(), warmup, setup.queues);
    let longest = lanes.iter().map(|lane| lane.payload.starts().longest()).max().unwrap_or(0);
    let done = Vec::with_capacity((plan.sink.queue_depth + 1) * lanes.len());
    setup.ready.send(ready).map_err(|_| Fatal::host(SENT_HOME))?;
    drop(setup.ready);
    let go = setup.gate.recv().map_err(|_| Fatal::host(SENT_HOME))?;
    lanes.iter_mut().for_each(|lane| lane.payload.set_epoch(go.epoch_unix_ns));
    let mut core = Core {
        ring,
        sink,
        clock: setup.clock,
        lanes,
        tally,
        live: setup.live,
        stop: &setup.stop.flag,
        block_bytes: plan.sink.block_bytes.max(longest),
        linger_ns: plan.sink.linger_ns,
        drain_timeout_ns: plan.drain_timeout_ns,
        adaptive: plan.poll == Poll::Adaptive,
        epoch_ns: go.epoch_ns,
        done,
        pulse: Pulse::default(),
    };
    core.run();
    Ok(core.close())
}

fn lane(plan: &RunPlan, producer: &ProducerPlan, payload: Payload) -> Lane {
    Lane {
        pacer: Pacer::new(&producer.schedule, producer.stagger_ns, plan.catch_up_ns),
        payload,
        records_left: producer.records_max,
        bytes_left: producer.bytes_max,
        finished: false,
    }
}
