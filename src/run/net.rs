//! Cores with connections: their ring, the first connections, and the sink on them.

use super::enter::enter_loop;
use super::kafka::KafkaLane;
use super::setup::{Prepared, Setup};
use super::sink_options::{has_descriptors_to_lend, http_options, kafka_options};
use super::{kafka_compat, region};
use crate::base::fatal::Fatal;
use crate::connect::dial::Dialed;
use crate::connect::dialer::{self, Dialer};
use crate::connect::kafka::dial_leaders;
use crate::connect::token::{self, TokenInbox};
use crate::counters::CoreEnd;
use crate::host::rlimit;
use crate::plan::{Io, ProducerPlan, RunPlan, SinkKind, TargetPlan};
use crate::sink::http::{self, HttpSink};
use crate::sink::kafka::{self, KafkaSink};
use crate::sink::links;
use crate::sink::redials::Redials;
use crate::sink::tcp::{self, TcpSink};
use crate::sys::process;
use crate::sys::region::Region;
use crate::sys::ring::NetRing;
use crate::sys::syscalls::Syscalls;
use crate::sys::uring::Uring;
use std::ops::Range;

/// The one match that picks the back end of connections.
pub fn with_ring(setup: Setup, io: Io, region: Region, mut prepared: Prepared) -> Result<CoreEnd, Fatal> {
    if kafka_compat::is_wanted(&setup.plan) {
        return kafka_compat::run(setup, region, prepared);
    }
    let lanes = connections(&setup);
    let links = lanes.iter().sum();
    let depth = links::operations(&setup.plan, &lanes);
    match io {
        Io::Syscall => {
            let ring = Syscalls::new(region, depth).zero_copy(setup.plan.zero_copy);
            with_sink(setup, ring, prepared)
        }
        Io::Uring => {
            // What lies beside the rings is seldom sent: it need not stay in memory all the time.
            let rings_end = prepared.staging.first().map_or(0, |staging| staging.start);
            let ring = Uring::registering(region, rings_end, depth, links).map_err(|error| {
                // Its table of files has a place for each connection, whether it is there yet or not.
                let is_full = rlimit::is_out_of_descriptors(&error);
                let limit = if is_full { rlimit::NOFILE } else { rlimit::MEMLOCK };
                Fatal::host(format!("io_uring: {error}")).mend(format!("use --io syscall, or {}", rlimit::raise(limit)))
            })?;
            region::check_registered(setup.plan.unregistered, ring.registered())?;
            prepared.registered = Some(ring.registered());
            let ring = ring.zero_copy(setup.plan.zero_copy);
            with_sink(setup, ring, prepared)
        }
    }
}

/// Connections of each lane.
pub fn connections(setup: &Setup) -> Vec<usize> {
    let plan = &setup.plan;
    if !setup.kafka_lanes.is_empty() {
        return setup.kafka_lanes.iter().map(|lane| lane.partitions.len()).collect();
    }
    let count = |producer: &ProducerPlan| producer.to.link().map_or(0, |link| link.connections);
    plan.producers_of(setup.index).map(count).collect()
}

/// Where threads run that a core's thread starts: not on its processor, if another one is left.
pub(super) fn beside_cores(plan: &RunPlan) -> Vec<usize> {
    match plan.free_cpus.as_slice() {
        [] => plan.cores.iter().map(|core| core.cpu).collect(),
        free => free.to_vec(),
    }
}

fn with_sink<R: NetRing>(mut setup: Setup, mut ring: R, prepared: Prepared) -> Result<CoreEnd, Fatal> {
    let plan = setup.plan.clone();
    let dial = match plan.sink.kind {
        SinkKind::Kafka => dial_leaders(setup.kafka_lanes.iter().map(KafkaLane::led).collect()),
        _ => dialer::plain(setup.outages.clone()),
    };
    let counts = connections(&setup);
    let links = plan.producers_of(setup.index).filter_map(|producer| producer.to.link());
    let (peers, total) = (links.map(|link| link.peer.clone()).collect(), counts.iter().sum());
    // Lives until the core's end: it redials.
    let (seed, outages) = (plan.payload.seed ^ setup.index as u64, setup.outages.clone());
    let (_dialer, handle) = Dialer::start(dial, seed, total, beside_cores(&plan), outages)?;
    let mut redials = Redials::new(handle, peers, total);
    let dialed = redials.connect_all(&counts, || setup.stop.may_start())?;
    match plan.sink.kind {
        SinkKind::Tcp => {
            let sink = open_tcp(&mut ring, (&setup, &prepared), dialed, redials)?;
            enter_loop(setup, ring, prepared, sink)
        }
        SinkKind::Http => {
            let sink = open_http(&mut ring, (&setup, &prepared), dialed, redials)?;
            let sink = sink.with_tokens(setup.tokens.take());
            let lends = sink.lends().then_some("bodies");
            enter_loop(setup, ring, Prepared { lends, ..prepared }, sink)
        }
        SinkKind::Kafka => {
            let sink = open_kafka(&mut ring, (&setup, &prepared), dialed, redials)?;
            // A ring that lends has nothing registered any more.
            let (registered, lends) =
                (prepared.registered.filter(|_| !sink.lends()), sink.lends().then_some("batches"));
            enter_loop(setup, ring, Prepared { registered, lends, ..prepared }, sink)
        }
        kind @ (SinkKind::Null | SinkKind::Stdout | SinkKind::File) => {
            Err(Fatal::usage(format!("a target of the kind {kind:?} has no connections")))
        }
    }
}

/// Where new bearer tokens come, for each core.
///
/// # Errors
/// Exit 3 where no thread can be had.
pub fn token_inboxes(plan: &RunPlan) -> Result<Vec<Option<TokenInbox>>, Fatal> {
    let bearers = plan.producers.iter().filter_map(|producer| match &producer.to {
        TargetPlan::Http(http) => http.bearer.as_ref(),
        _ => None,
    });
    // There is one file, whatever the targets are.
    let inboxes = bearers.take(1).map(|bearer| token::watch(bearer, plan.cores.len(), &beside_cores(plan)));
    let inboxes = inboxes.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().map(Some);
    Ok(inboxes.chain(std::iter::repeat_with(|| None)).take(plan.cores.len()).collect())
}

/// Each lane's connections, its staging, and whom it sends for.
fn lanes<'a>(
    setup: &'a Setup,
    prepared: &'a Prepared,
    dialed: Vec<Vec<Dialed>>,
) -> impl Iterator<Item = (Vec<Dialed>, Range<usize>, &'a ProducerPlan)> {
    let lanes = dialed.into_iter().zip(&prepared.staging).zip(setup.plan.producers_of(setup.index));
    lanes.map(|((dialed, staging), producer)| (dialed, staging.clone(), producer))
}

fn open_tcp<R: NetRing>(
    ring: &mut R,
    (setup, prepared): (&Setup, &Prepared),
    dialed: Vec<Vec<Dialed>>,
    redials: Redials,
) -> Result<TcpSink, Fatal> {
    let plan = &setup.plan;
    let mut setups = Vec::new();
    for (dialed, staging, producer) in lanes(setup, prepared, dialed) {
        let TargetPlan::Tcp(tcp) = &producer.to else { continue };
        setups.push(tcp::LaneSetup {
            dialed,
            staging,
            block_bytes: prepared.block_bytes,
            depth: tcp.link_depth(plan.sink.queue_depth),
            request_timeout_ns: tcp.link.request_timeout_ns,
        });
    }
    TcpSink::open(ring, setups, redials)
}

fn open_http<R: NetRing>(
    ring: &mut R,
    (setup, prepared): (&Setup, &Prepared),
    dialed: Vec<Vec<Dialed>>,
    redials: Redials,
) -> Result<HttpSink, Fatal> {
    let plan = &setup.plan;
    let may_lend = has_descriptors_to_lend(plan, process::open_files_max());
    let mut setups = Vec::new();
    for ((dialed, staging, producer), payload) in lanes(setup, prepared, dialed).zip(&prepared.payloads) {
        let TargetPlan::Http(http) = &producer.to else { continue };
        setups.push(http::LaneSetup {
            options: http_options(plan, producer, http),
            lends: may_lend && payload.stamped_bytes(http.records_per_request).is_some(),
            dialed,
            staging,
            block_bytes: prepared.block_bytes,
            window: region::window(plan, producer),
        });
    }
    HttpSink::open(ring, setups, redials)
}

fn open_kafka<R: NetRing>(
    ring: &mut R,
    (setup, prepared): (&Setup, &Prepared),
    dialed: Vec<Vec<Dialed>>,
    redials: Redials,
) -> Result<KafkaSink, Fatal> {
    let mut setups = Vec::new();
    for ((dialed, staging), lane) in dialed.into_iter().zip(&prepared.staging).zip(&setup.kafka_lanes) {
        setups.push(kafka::LaneSetup {
            options: kafka_options(setup, lane)?,
            partitions: lane.partitions.iter().copied().zip(dialed).collect(),
            staging: staging.clone(),
            block_bytes: prepared.block_bytes,
        });
    }
    KafkaSink::open(ring, setups, redials)
}
