//! Puts a core with connections together as a run does, with simulated ring, clock, dialer and peers.

use super::broker::Broker;
use super::peer::{Collector, Peer};
use super::plan::{NetPlan, NetTarget};
use super::server::{PARTLY, Server};
use super::witness::{Said, Witness};
use super::{Remains, SimNet};
use crate::clock::SimClock;
use crate::world::{self, Others, Outcome, Parts, RUN_ID, RUN_ID_HASH};
use engine::connect::dial::Dialed;
use engine::connect::dialer::pair;
use engine::core_loop::tally::Tally;
use engine::counters::LiveCore;
use engine::payload::Payload;
use engine::payload::bake::{Draft, Who};
use engine::payload::framing::{Framing, KafkaFraming};
use engine::plan::{KeyPlan, PeerPlan};
use engine::sink::link::ring_depth;
use engine::sink::redials::Redials;
use engine::sink::{Sink, http, kafka, tcp};
use engine::sys::allocation::counted;
use engine::wire::http::{HeadFacts, RequestHead, Sought};
use engine::wire::kafka::batch::HEADER_BYTES;
use engine::wire::kafka::produce::ProducePrefix;
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const PAGE_BYTES: u64 = 4096;
/// The frame of the smallest Kafka record.
const FRAME_BYTES: u64 = 7;
const SECOND: u64 = 1_000_000_000;

/// What is left of a run, of the peer and of what was said of each record.
pub struct NetOutcome<P> {
    pub outcome: Outcome,
    pub net: Remains<P>,
    pub said: Vec<Said>,
    /// Records that were found produced when the drain was given up.
    pub found: usize,
}

/// Beside what the core knows.
struct Lent {
    redials: Redials,
    dialed: Vec<Vec<Dialed>>,
    staging: Vec<Range<usize>>,
    block_bytes: u64,
}

fn records_max(plan: &NetPlan) -> u64 {
    let shortest = plan.base.lanes.iter().map(|lane| lane.bytes_min).min().unwrap_or(1);
    (block_bytes_wanted(plan) + HEADER_BYTES as u64) / (shortest + FRAME_BYTES) + 1
}

/// Enough for any record and its frame.
fn block_bytes_wanted(plan: &NetPlan) -> u64 {
    world::block_bytes(&plan.base) + 64
}

fn framing(plan: &NetPlan, at: usize) -> Framing {
    match plan.target {
        NetTarget::Tcp { framed: true } => Framing::Length,
        NetTarget::Tcp { framed: false } | NetTarget::Http { .. } => Framing::None,
        NetTarget::Kafka { keyed, .. } => {
            let key = if keyed { KeyPlan::Cycle(100) } else { KeyPlan::None };
            let longest = plan.base.lanes[at].bytes_max;
            Framing::Kafka(Box::new(KafkaFraming::new(key, vec![], at as u32, longest, records_max(plan))))
        }
    }
}

fn http_options(plan: &NetPlan, at: usize) -> http::Options {
    let NetTarget::Http { pipeline, records_per_request, summed, manners } = plan.target else { unreachable!() };
    let facts = HeadFacts {
        producer_id: at as u32,
        stamped: true,
        weighted: true,
        counted: records_per_request > 1,
        run_id: summed.then_some(RUN_ID),
    };
    http::Options {
        head: RequestHead::new("POST", "/in", "sim", &[], facts),
        records_per_request,
        pipeline,
        summed,
        tls: false,
        refused_by: (manners.partly_one_in > 0).then(|| Arc::new(Sought::new(PARTLY.as_bytes()))),
        request_timeout_ns: plan.request_timeout_ns,
        retry: plan.retry,
        renews: false,
        seed: plan.base.seed ^ (at as u64) << 32,
    }
}

fn kafka_options(plan: &NetPlan, at: usize) -> kafka::Options {
    let NetTarget::Kafka { acks, idempotent, in_flight, codec, .. } = plan.target else { unreachable!() };
    kafka::Options {
        prefix: ProducePrefix::new("sim", "t", acks, 1000).expect("short names"),
        version: 8,
        acks,
        codec,
        identity: idempotent.then_some((40 + at as i64, 0)),
        in_flight_max: in_flight,
        batch_bytes: block_bytes_wanted(plan) + HEADER_BYTES as u64,
        records_max: records_max(plan),
        request_timeout_ns: plan.request_timeout_ns,
        delivery_timeout_ns: plan.delivery_timeout_ns,
        retry: plan.retry,
        seed: plan.base.seed ^ (at as u64) << 32,
        topic: "t".into(),
        tls: false,
        lends: acks != 0,
    }
}

fn staging_bytes(plan: &NetPlan, at: usize) -> u64 {
    let block_bytes = block_bytes_wanted(plan);
    match plan.target {
        NetTarget::Tcp { .. } => tcp::staging_bytes(plan.connections, block_bytes),
        NetTarget::Http { .. } => http_options(plan, at).staging_bytes(plan.connections, block_bytes),
        NetTarget::Kafka { .. } => kafka_options(plan, at).staging_bytes(plan.connections, block_bytes),
    }
}

fn depth(plan: &NetPlan) -> usize {
    let lanes = plan.base.lanes.len();
    let (unreleased, blocks) = match plan.target {
        NetTarget::Tcp { .. } => (2, lanes * plan.window),
        NetTarget::Http { pipeline, .. } => (pipeline, 0),
        NetTarget::Kafka { in_flight, .. } => (in_flight, 0),
    };
    ring_depth(lanes * plan.connections, unreleased, blocks)
}

pub fn tcp(plan: &NetPlan) -> NetOutcome<Collector> {
    let NetTarget::Tcp { framed } = plan.target else { unreachable!() };
    live(plan, Collector::new(framed), |ring, lent| {
        let depth = (plan.window / plan.connections).max(2);
        let (block_bytes, request_timeout_ns) = (lent.block_bytes, plan.request_timeout_ns);
        let lane = |(dialed, staging)| tcp::LaneSetup { dialed, staging, block_bytes, depth, request_timeout_ns };
        let setups = lent.dialed.into_iter().zip(lent.staging).map(lane).collect();
        tcp::TcpSink::open(ring, setups, lent.redials).expect("the ring takes connections")
    })
}

pub fn http(plan: &NetPlan) -> NetOutcome<Server> {
    let NetTarget::Http { manners, .. } = plan.target else { unreachable!() };
    live(plan, Server::new(manners), |ring, lent| {
        let lane = |(at, (dialed, staging))| http::LaneSetup {
            options: http_options(plan, at),
            lends: true,
            dialed,
            staging,
            block_bytes: lent.block_bytes,
            window: plan.window,
        };
        let setups = lent.dialed.into_iter().zip(lent.staging).enumerate().map(lane).collect();
        http::HttpSink::open(ring, setups, lent.redials).expect("the ring takes connections")
    })
}

pub fn kafka(plan: &NetPlan) -> NetOutcome<Broker> {
    let NetTarget::Kafka { mood, acks, idempotent, .. } = plan.target else { unreachable!() };
    live(plan, Broker::new(mood, acks, idempotent), |ring, lent| {
        let lane = |(at, (dialed, staging)): (usize, (Vec<Dialed>, Range<usize>))| kafka::LaneSetup {
            options: kafka_options(plan, at),
            partitions: (0..).zip(dialed).collect(),
            staging,
            block_bytes: lent.block_bytes,
        };
        let setups = lent.dialed.into_iter().zip(lent.staging).enumerate().map(lane).collect();
        kafka::KafkaSink::open(ring, setups, lent.redials).expect("the ring takes connections")
    })
}

/// Records in memory, and where what is beside them may lie.
fn bake(plan: &NetPlan) -> (Vec<u8>, Vec<Payload>, Vec<Range<usize>>) {
    let mut memory = Vec::new();
    let mut take = |bytes: u64| {
        let start = memory.len();
        memory.resize(start + bytes.next_multiple_of(PAGE_BYTES) as usize, 0);
        start..start + bytes as usize
    };
    let mut places = Vec::new();
    for (at, lane) in plan.base.lanes.iter().enumerate() {
        let payload_plan = world::payload_plan(lane, plan.base.seed);
        let block_bytes = block_bytes_wanted(plan);
        let draft = Draft::new(&payload_plan, framing(plan, at), 0.0, at as u32, lane.ring_bytes, block_bytes);
        let draft = draft.expect("random bytes always fit");
        assert!(draft.longest_span() <= block_bytes);
        let ring = take(draft.bytes());
        places.push((payload_plan, draft, ring, take(staging_bytes(plan, at))));
    }
    let (mut payloads, mut staging) = (Vec::new(), Vec::new());
    for (at, (payload_plan, draft, ring, beside)) in places.into_iter().enumerate() {
        let who = Who { run_id: RUN_ID, run_id_hash: RUN_ID_HASH, producer_id: at as u32 };
        let baked = draft.bake(&payload_plan, who, ring.start, &mut memory[ring], plan.window, &|| Ok(()));
        payloads.push(baked.expect("random bytes always fit"));
        staging.push(beside);
    }
    (memory, payloads, staging)
}

fn live<P: Peer, S: Sink<SimNet<P>>>(
    plan: &NetPlan,
    peer: P,
    open: impl FnOnce(&mut SimNet<P>, Lent) -> S,
) -> NetOutcome<P> {
    let base = &plan.base;
    let (memory, payloads, staging) = bake(plan);
    let (others, stop) = (Rc::new(RefCell::new(Others::default())), Arc::new(AtomicBool::new(false)));
    let live = LiveCore::new((0..payloads.len() as u32).collect());
    let warmup = base.lanes.iter().any(|lane| lane.schedule.iter().any(|share| share.warmup));
    let (queues, watch) = world::watch(base, warmup, &live, &stop, &others);
    let clock = SimClock::new(base.seed, base.rhythm.clone(), watch);
    let total = payloads.len() * plan.connections;
    let (handle, clerk) = pair(total);
    let mut ring = SimNet::new(base.seed, clock.clone(), memory, depth(plan), plan.faults.clone(), peer, clerk);
    let mut dialed: Vec<Vec<Dialed>> = Vec::new();
    for lane in 0..payloads.len() as u32 {
        dialed.push((0..plan.connections).map(|at| ring.dial(lane, at as u32)).collect());
    }
    let nobody = Arc::new(PeerPlan { host: "sim".into(), port: 1, tls: None, connect_timeout_ns: SECOND });
    let redials = Redials::new(handle, vec![nobody; payloads.len()], total);
    let block_bytes = block_bytes_wanted(plan);
    let sink = open(&mut ring, Lent { redials, dialed, staging, block_bytes });
    let sink = Witness::new(sink, payloads.len());
    let tally = Tally::new(0, live.clone(), warmup, queues);
    let epoch_ns = clock.peek_ns() + 1000;
    let parts = Parts { scenario: base, clock: clock.clone(), payloads, tally, live, stop: &stop };
    let mut core = parts.core(ring, sink, epoch_ns);
    core.block_bytes = block_bytes;
    core.done = Vec::with_capacity(2 * plan.window * base.lanes.len());
    let ((), allocations) = counted(|| core.run());
    let ran_ns = clock.peek_ns() - epoch_ns;
    let starts = core.payloads.iter().map(|payload| payload.starts().clone()).collect();
    let next_sequences = core.payloads.iter().map(Payload::next_sequence).collect();
    let (net, said, found) = (core.ring.end(), std::mem::take(&mut core.sink.said), core.sink.found);
    let end = core.close();
    clock.others();
    let (snapshots, live) = others.take().seen();
    let (broke, keeper_errors) = (net.breaks_left < plan.faults.breaks_left, Vec::new());
    let offered = Vec::new();
    let outcome =
        Outcome { end, snapshots, live, starts, next_sequences, offered, allocations, broke, keeper_errors, ran_ns };
    NetOutcome { outcome, net, said, found }
}
