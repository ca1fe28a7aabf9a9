//! One core's thread: pin, map, bake, open, wait for the others, loop, close.

use super::kafka::KafkaLane;
use super::others::OthersWatch;
use super::region::{self, bake, places};
use super::{Stop, files, net};
use crate::base::clock::TscClock;
use crate::base::fatal::{Exit, Fatal};
use crate::connect::dialer::Outages;
use crate::core_loop::tally::{SnapshotQueues, Tally};
use crate::core_loop::{Core, Lane, Pulse};
use crate::counters::{CoreEnd, LiveCore};
use crate::manifest::RecordFormat;
use crate::pace::{Pacer, Patience};
use crate::payload::Payload;
use crate::plan::{Annotate, Poll, ProducerPlan, RunPlan, SinkKind};
use crate::sink::file::keeper::KeeperLane;
use crate::sink::null::NullSink;
use crate::sink::stdout::StdoutSink;
use crate::sink::{Sink, links};
use crate::sys;
use crate::sys::blocking::Blocking;
use crate::sys::region::Region;
use crate::sys::ring::Ring;
use crate::sys::threads::{self, OnPanic};
use crate::tap::Tap;
use crossbeam_channel::{Receiver, Sender};
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;

/// What a core says that was ready when another one failed.
pub const SENT_HOME: &str = "another core could not start";

/// A signal came while a core prepared itself.
pub fn stopped() -> Fatal {
    Fatal::new(Exit::Unreachable, "stopped while the run was being prepared: nothing was sent")
}

/// News that one reap can bring of a block.
const DONE_PER_BLOCK: usize = 4;

/// Everything that one core is started with.
pub struct Setup {
    pub plan: Arc<RunPlan>,
    pub index: usize,
    pub clock: TscClock,
    pub stop: Arc<Stop>,
    pub zero_fraction: f64,
    /// In lane order; `None` where the target is no file.
    pub keeper_lanes: Vec<Option<KeeperLane>>,
    /// The data files, locked; as above.
    pub claims: Vec<Option<File>>,
    pub tap: Option<Tap>,
    /// In lane order; empty where the target is not Kafka.
    pub kafka_lanes: Vec<KafkaLane>,
    /// Of all cores.
    pub outages: Arc<Outages>,
    pub live: Arc<LiveCore>,
    pub queues: SnapshotQueues,
    pub ready: Sender<Ready>,
    pub gate: Receiver<Go>,
}

/// What a core has made by the time it picks its ring.
pub struct Prepared {
    /// In lane order, as the next two.
    pub payloads: Vec<Payload>,
    pub staging: Vec<Range<usize>>,
    pub formats: Vec<RecordFormat>,
    /// The longest block of a lane, framing included.
    pub block_bytes: u64,
    /// The pages of its region.
    pub memory: String,
    /// Whether its ring has them registered; `None`: it is none that could.
    pub registered: Option<bool>,
    /// See [`OthersWatch`].
    pub percent_of_others: Option<u64>,
}

/// A core is ready; what its memory came to.
#[derive(Clone, Debug)]
pub struct Ready {
    pub cpu: usize,
    /// How much of that processor others took while the core got ready, where it saw enough to tell.
    pub percent_of_others: Option<u64>,
    /// Of the payload ring of each lane, which repeats as a whole.
    pub period_bytes: u64,
    /// Its pages, and whether they are registered.
    pub memory: String,
    /// See [`Prepared::registered`].
    pub registered: Option<bool>,
}

/// The start signal: monotonic and Unix time of the barrier.
#[derive(Clone, Copy, Debug)]
pub struct Go {
    pub epoch_ns: u64,
    pub epoch_unix_ns: u64,
}

/// Starts the thread.
pub fn spawn(setup: Setup) -> Result<JoinHandle<Result<CoreEnd, Fatal>>, Fatal> {
    // By now it is known how many partitions there are.
    links::check(&setup.plan, &net::connections(&setup))?;
    let name = format!("core-{}", setup.plan.cores[setup.index].cpu);
    let stop = setup.stop.clone();
    let work = move || begin(setup).inspect_err(|_| stop.start_failed.store(true, Relaxed));
    threads::start(name, &[], "a core thread", work)
}

fn begin(setup: Setup) -> Result<CoreEnd, Fatal> {
    let (plan, stop) = (setup.plan.clone(), setup.stop.clone());
    let _alarm = OnPanic(|| stop.core_crashed());
    threads::pin_or_refuse(plan.cores[setup.index].cpu)?;
    sys::process::set_precise_timers();
    let (region, prepared) = prepare(&setup)?;
    let lanes = prepared.payloads.len();
    let depth = plan.sink.queue_depth * lanes + lanes;
    match (plan.sink.kind, plan.io) {
        (SinkKind::Null, _) => finish(setup, Blocking::new(region, depth), prepared, NullSink::new(lanes, depth)),
        (SinkKind::Stdout, _) => {
            let mut ring = Blocking::new(region, depth);
            let immutable = plan.payload.annotate != Annotate::Payload;
            let sink = StdoutSink::new(ring.memory(), immutable)
                .map_err(|error| Fatal::host(format!("stdout: {error}")).mend("--target stdout | READER, or > FILE"))?;
            finish(setup, ring, prepared, sink)
        }
        (SinkKind::File, io) => files::with_ring(setup, io, region, depth, prepared),
        (SinkKind::Tcp | SinkKind::Http | SinkKind::Kafka, io) => net::with_ring(setup, io, region, prepared),
    }
}

/// Maps the core's memory and makes its payload there.
fn prepare(setup: &Setup) -> Result<(Region, Prepared), Fatal> {
    let plan = &setup.plan;
    let others = OthersWatch::start();
    let (places, block_bytes) = places(setup)?;
    let bytes = places.last().map_or(0, |place| place.staging.end);
    let mut region = Region::map(bytes).map_err(|error| {
        Fatal::host(format!("cannot map {bytes} bytes for the payload ring: {error}"))
            .mend("choose a smaller --ring-size or fewer --cores")
    })?;
    let memory = region.pages().name().to_owned();
    let staging = places.iter().map(|place| place.staging.clone()).collect();
    let formats = places.iter().map(|place| place.draft.record_format(&plan.payload)).collect();
    let payloads = bake(setup, places, region.bytes_mut())?;
    let percent_of_others = others.percent(plan.poll == Poll::Adaptive);
    let registered = None;
    Ok((region, Prepared { payloads, staging, formats, block_bytes, memory, registered, percent_of_others }))
}

/// With the sink open: waits at the barrier, runs and closes.
pub fn finish<R: Ring, S: Sink<R>>(setup: Setup, ring: R, prepared: Prepared, sink: S) -> Result<CoreEnd, Fatal> {
    let Prepared { mut payloads, block_bytes, mut memory, registered, percent_of_others, .. } = prepared;
    memory += registered.map_or("", |registered| if registered { ", registered" } else { ", not registered" });
    let plan = setup.plan.clone();
    let cpu = plan.cores[setup.index].cpu;
    let period_bytes = payloads.first().map_or(0, |payload| payload.starts().period_bytes());
    let ready = Ready { cpu, percent_of_others, period_bytes, memory, registered };
    let tally = Tally::new(setup.index, setup.live.clone(), plan.has_warmup(), setup.queues);
    let patience = Patience { catch_up_ns: plan.catch_up_ns, linger_ns: plan.sink.linger_ns, block_bytes };
    let lanes = plan.producers_of(setup.index).map(|producer| lane(producer, patience)).collect();
    let blocks: usize = plan.producers_of(setup.index).map(|producer| region::window(&plan, producer) + 1).sum();
    let done = Vec::with_capacity(DONE_PER_BLOCK * blocks);
    setup.ready.send(ready).map_err(|_| Fatal::host(SENT_HOME))?;
    drop(setup.ready);
    let go = setup.gate.recv().map_err(|_| Fatal::host(SENT_HOME))?;
    payloads.iter_mut().for_each(|payload| payload.set_epoch(go.epoch_unix_ns));
    let mut core = Core {
        ring,
        sink,
        clock: setup.clock,
        lanes,
        payloads,
        tally,
        live: setup.live,
        tap: setup.tap,
        stop: &setup.stop.flag,
        block_bytes,
        drain_timeout_ns: plan.drain_timeout_ns,
        adaptive: plan.poll == Poll::Adaptive,
        epoch_ns: go.epoch_ns,
        done,
        pulse: Pulse::default(),
    };
    core.run();
    Ok(core.close())
}

fn lane(producer: &ProducerPlan, patience: Patience) -> Lane {
    Lane {
        pacer: Pacer::new(&producer.schedule, producer.stagger_ns, patience),
        records_left: producer.records_max,
        bytes_left: producer.bytes_max,
        finished: false,
    }
}
