//! How every core enters its loop, whatever its sink: wait for the others, loop, close.

use super::setup::{Prepared, Ready, Setup};
use super::stop::SENT_HOME;
use super::{barrier, region};
use crate::base::fatal::Fatal;
use crate::core_loop::tally::Tally;
use crate::core_loop::{Core, Lane, Pulse};
use crate::counters::CoreEnd;
use crate::pace::{Pacer, Patience};
use crate::plan::{Poll, ProducerPlan};
use crate::sink::Sink;
use crate::sys::ring::Ring;

/// News that one reap can bring of a block.
const DONE_PER_BLOCK: usize = 4;

/// With the sink open: waits at the barrier, runs and closes.
pub fn enter_loop<R: Ring, S: Sink<R>>(setup: Setup, ring: R, prepared: Prepared, sink: S) -> Result<CoreEnd, Fatal> {
    let Prepared { mut payloads, block_bytes, mut memory, registered, lends, percent_of_others, .. } = prepared;
    memory += registered.map_or("", |registered| if registered { ", registered" } else { ", not registered" });
    let plan = setup.plan.clone();
    let cpu = plan.cores[setup.index].cpu;
    // Producers are dealt in the order of their ids: the first lane has the lowest.
    let producer_id = plan.producers_of(setup.index).next().map_or(0, |producer| producer.id);
    let period_bytes = payloads.first().map_or(0, |payload| payload.starts().period_bytes());
    let ready = Ready { cpu, producer_id, percent_of_others, period_bytes, memory, registered, lends };
    let tally = Tally::new(setup.index, setup.live.clone(), plan.has_warmup(), setup.queues);
    let patience = Patience { catch_up_ns: plan.catch_up_ns, linger_ns: plan.sink.linger_ns, block_bytes };
    let lanes = plan.producers_of(setup.index).map(|producer| lane(producer, patience)).collect();
    let blocks: usize = plan.producers_of(setup.index).map(|producer| region::window(&plan, producer) + 1).sum();
    let done = Vec::with_capacity(DONE_PER_BLOCK * blocks);
    setup.ready.send(ready).map_err(|_| Fatal::host(SENT_HOME))?;
    drop(setup.ready);
    let go = barrier::await_go(&setup.gate, &setup.lined_up).map_err(|_| Fatal::host(SENT_HOME))?;
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
