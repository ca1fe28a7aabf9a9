//! Cores with connections: how records are framed, what a lane's sink needs, and the first connections.

use super::core::{Prepared, Setup, finish};
use super::kafka::KafkaLane;
use super::{kafka_compat, region};
use crate::base::fatal::Fatal;
use crate::connect::dial::Dialed;
use crate::connect::dialer::{self, Dialer};
use crate::connect::kafka::dial_leaders;
use crate::counters::CoreEnd;
use crate::payload::framing::{Framing, Header, KafkaFraming, digits};
use crate::plan::{
    Annotate, Compression, HttpPlan, Io, KafkaClient, KafkaPlan, LinkPlan, ProducerPlan, RunPlan, SinkKind, TargetPlan,
    TcpFraming,
};
use crate::sink::http::{self, HttpSink};
use crate::sink::kafka::{self, KafkaSink};
use crate::sink::links;
use crate::sink::redials::Redials;
use crate::sink::tcp::{self, TcpSink};
use crate::sys::blocking::Blocking;
use crate::sys::region::Region;
use crate::sys::ring::NetRing;
use crate::sys::uring::Uring;
use crate::wire::http::{HeadFacts, RequestHead};
use crate::wire::kafka::codec::Codec;
use crate::wire::kafka::produce::ProducePrefix;
use std::ops::Range;
use std::sync::Arc;

/// What a producer's target wants around each record.
pub fn framing(plan: &RunPlan, producer: &ProducerPlan) -> Framing {
    match &producer.to {
        TargetPlan::Tcp(tcp) if tcp.framing == TcpFraming::Length => Framing::Length,
        // rskafka frames what it is given.
        TargetPlan::Kafka(kafka) if kafka.client == KafkaClient::Uring => {
            Framing::Kafka(Box::new(kafka_framing(plan, producer, kafka)))
        }
        _ => Framing::None,
    }
}

pub(super) fn kafka_framing(plan: &RunPlan, producer: &ProducerPlan, kafka: &KafkaPlan) -> KafkaFraming {
    let mut headers = Vec::new();
    if plan.is_sampled() {
        let heaviest = plan.phases.iter().map(|phase| phase.weight).max().unwrap_or(1);
        headers.push(Header::Weight(digits(heaviest)));
    }
    if plan.payload.annotate == Annotate::Headers {
        headers.push(Header::RunId(plan.run_id.clone()));
        headers.extend([Header::ProducerId, Header::Sequence, Header::TimestampNs, Header::Crc32c]);
    }
    let records_max = records_max(kafka, plan.payload.record_bytes_min);
    KafkaFraming::new(kafka.key, headers, producer.id, plan.payload.record_bytes_max, records_max)
}

/// Records that a batch can hold, each of `shortest` bytes with at least the frame's seven.
fn records_max(kafka: &KafkaPlan, shortest: u64) -> u64 {
    kafka.batch_bytes / (shortest + 7) + 1
}

/// Bytes of region that a lane needs beside its ring; `block_bytes`: its longest block.
pub fn staging_bytes(setup: &Setup, (lane, producer): (usize, &ProducerPlan), block_bytes: u64) -> Result<u64, Fatal> {
    Ok(match &producer.to {
        TargetPlan::Tcp(plan) => tcp::staging_bytes(plan.link.connections, block_bytes),
        TargetPlan::Http(plan) => {
            http_manner(&setup.plan, producer, plan).staging_bytes(plan.link.connections, block_bytes)
        }
        TargetPlan::Kafka(kafka) if kafka.client == KafkaClient::Uring => {
            let lane = &setup.kafka_lanes[lane];
            kafka_manner(setup, lane)?.staging_bytes(lane.partitions.len(), block_bytes)
        }
        TargetPlan::Kafka(_) | TargetPlan::Null | TargetPlan::Stdout | TargetPlan::File(_) => 0,
    })
}

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
            let ring = Blocking::new(region, depth).zero_copy(setup.plan.zero_copy);
            with_sink(setup, ring, prepared)
        }
        Io::Uring => {
            // What lies beside the rings is seldom sent: it need not stay in memory all the time.
            let rings_end = prepared.staging.first().map_or(0, |staging| staging.start);
            let ring = Uring::registering(region, rings_end, depth, links).map_err(|error| {
                Fatal::host(format!("io_uring: {error}")).mend("use --io syscall, or raise `ulimit -l` and `ulimit -n`")
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
fn beside_cores(plan: &RunPlan) -> Vec<usize> {
    match plan.free_cpus.as_slice() {
        [] => plan.cores.iter().map(|core| core.cpu).collect(),
        free => free.to_vec(),
    }
}

fn with_sink<R: NetRing>(setup: Setup, mut ring: R, prepared: Prepared) -> Result<CoreEnd, Fatal> {
    let plan = setup.plan.clone();
    let dial = match plan.sink.kind {
        SinkKind::Kafka => dial_leaders(setup.kafka_lanes.iter().map(KafkaLane::led).collect()),
        _ => dialer::plain(),
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
            finish(setup, ring, prepared, sink)
        }
        SinkKind::Http => {
            let sink = open_http(&mut ring, (&setup, &prepared), dialed, redials)?;
            finish(setup, ring, prepared, sink)
        }
        SinkKind::Kafka => {
            let sink = open_kafka(&mut ring, (&setup, &prepared), dialed, redials)?;
            finish(setup, ring, prepared, sink)
        }
        kind @ (SinkKind::Null | SinkKind::Stdout | SinkKind::File) => {
            Err(Fatal::usage(format!("a target of the kind {kind:?} has no connections")))
        }
    }
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
    let mut setups = Vec::new();
    for (dialed, staging, producer) in lanes(setup, prepared, dialed) {
        let TargetPlan::Http(http) = &producer.to else { continue };
        setups.push(http::LaneSetup {
            manner: http_manner(plan, producer, http),
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
            manner: kafka_manner(setup, lane)?,
            partitions: lane.partitions.iter().copied().zip(dialed).collect(),
            staging: staging.clone(),
            block_bytes: prepared.block_bytes,
        });
    }
    let sink = KafkaSink::open(ring, setups, redials)?;
    if sink.lends() && setup.index == 0 {
        tracing::info!(
            "a broker on this host may read batches in place, where that costs the core less; --zero-copy off always \
             copies"
        );
    }
    Ok(sink)
}

fn kafka_manner(setup: &Setup, lane: &KafkaLane) -> Result<kafka::Manner, Fatal> {
    let plan = &setup.plan;
    let kafka = &lane.target.plan;
    let timeout_ms = i32::try_from(kafka.link.request_timeout_ns / 1_000_000).unwrap_or(i32::MAX);
    let prefix = ProducePrefix::new(&kafka.client_id, &kafka.topic, kafka.acks, timeout_ms)?;
    Ok(kafka::Manner {
        prefix: prefix.with_version(lane.target.version)?,
        version: lane.target.version,
        acks: kafka.acks,
        codec: match kafka.codec {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        },
        identity: lane.identity,
        in_flight_max: kafka.in_flight_max,
        batch_bytes: kafka.batch_bytes,
        records_max: records_max(kafka, plan.payload.record_bytes_min),
        request_timeout_ns: kafka.link.request_timeout_ns,
        delivery_timeout_ns: kafka.delivery_timeout_ns,
        retry: kafka.link.retry,
        // As over HTTP.
        seed: plan.payload.seed ^ plan.run_id_hash ^ u64::from(lane.producer_id) << 32,
        topic: kafka.topic.clone(),
        tls: kafka.tls().is_some(),
        lends: kafka.acks != 0
            && kafka.codec == Compression::None
            && holds_all_unanswered(setup, kafka, lane.partitions.len()),
    })
}

/// Whether a lane's ring has room for all batches that may be unanswered, and one to prepare.
fn holds_all_unanswered(setup: &Setup, kafka: &KafkaPlan, partitions: usize) -> bool {
    let blocks = (partitions * kafka.in_flight_max) as u64 + 1;
    blocks.saturating_mul(setup.plan.sink.block_bytes) <= setup.plan.cores[setup.index].ring_bytes_per_lane
}

fn http_manner(plan: &Arc<RunPlan>, producer: &ProducerPlan, http: &HttpPlan) -> http::Manner {
    let beside = plan.payload.annotate == Annotate::Headers;
    let facts = HeadFacts {
        producer_id: producer.id,
        stamped: plan.payload.annotate != Annotate::Off,
        weighted: plan.is_sampled(),
        counted: http.records_per_request > 1,
        run_id: beside.then_some(plan.run_id.as_str()),
    };
    let LinkPlan { peer, request_timeout_ns, retry, .. } = &http.link;
    http::Manner {
        head: RequestHead::new(&http.path, &http.host_header, &http.headers, facts),
        records_per_request: http.records_per_request,
        pipeline: http.pipeline,
        summed: beside,
        tls: peer.tls.is_some(),
        request_timeout_ns: *request_timeout_ns,
        retry: *retry,
        // The id of the run too: those of one seed, each on a host of its own, do not come back together either.
        seed: plan.payload.seed ^ plan.run_id_hash ^ u64::from(producer.id) << 32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Command, Deps, parse};

    fn plan(words: &str) -> Arc<RunPlan> {
        let deps = Deps::new(|| Ok(()));
        match parse(words.split(' ').map(Into::into), [], &deps) {
            Ok(Command::Run(plan)) => Arc::from(plan),
            other => panic!("{words}: {other:?}"),
        }
    }

    #[test]
    fn a_weight_of_one_travels_beside_the_record_too() {
        let head = |words: &str| {
            let plan = plan(&format!("--target http://localhost/ {words}"));
            let TargetPlan::Http(http) = &plan.producers[0].to else { panic!("{words}") };
            let head = http_manner(&plan, &plan.producers[0], http).head;
            let mut bytes = vec![0; head.bytes()];
            head.bake(&mut bytes);
            String::from_utf8(bytes).unwrap()
        };
        let frame_bytes = |words: &str| {
            let plan = plan(&format!("--target kafka://localhost/t {words}"));
            framing(&plan, &plan.producers[0]).bytes()
        };
        let sampled = "--mode sampled --weight 1";
        assert!(head("--mode steady").contains("\r\nX-Sequence: ") && !head("--annotate off").contains("X-"));
        assert!(head(sampled).contains("\r\nX-Weight: ") && !head("--mode steady").contains("X-Weight"));
        // The lengths of both, the name and one digit.
        assert_eq!(frame_bytes(sampled), frame_bytes("--mode steady") + 1 + 6 + 1 + 1);
        assert_eq!(frame_bytes("--mode sampled --weight 9"), frame_bytes(sampled));
    }
}
