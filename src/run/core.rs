//! One core's thread: pin, map, bake and open, then `enter_loop`: wait for the others, loop, close.

use super::enter::enter_loop;
use super::interference::OthersWatch;
use super::region::{bake, places};
use super::setup::{Prepared, Setup};
use super::{files, net};
use crate::base::fatal::Fatal;
use crate::counters::CoreEnd;
use crate::plan::{Annotate, Poll, SinkKind};
use crate::sink::links;
use crate::sink::null::NullSink;
use crate::sink::stdout::StdoutSink;
use crate::sys;
use crate::sys::region::Region;
use crate::sys::ring::Ring;
use crate::sys::syscalls::Syscalls;
use crate::sys::threads::{self, OnPanic};
use std::thread::JoinHandle;

/// Starts the thread.
pub fn spawn(setup: Setup) -> Result<JoinHandle<Result<CoreEnd, Fatal>>, Fatal> {
    // By now it is known how many partitions there are.
    links::check(&setup.plan, &net::connections(&setup))?;
    let name = format!("core-{}", setup.plan.cores[setup.index].cpu);
    let stop = setup.stop.clone();
    let work = move || begin(setup).inspect_err(|_| stop.fail_start());
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
        (SinkKind::Null, _) => enter_loop(setup, Syscalls::new(region, depth), prepared, NullSink::new(lanes, depth)),
        (SinkKind::Stdout, _) => {
            let mut ring = Syscalls::new(region, depth);
            let immutable = plan.payload.annotate != Annotate::Payload;
            let sink = StdoutSink::new(ring.memory(), immutable)
                .map_err(|error| Fatal::host(format!("stdout: {error}")).mend("--target stdout | READER, or > FILE"))?;
            enter_loop(setup, ring, prepared, sink)
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
    let (registered, lends) = (None, None);
    Ok((region, Prepared { payloads, staging, formats, block_bytes, memory, registered, lends, percent_of_others }))
}
