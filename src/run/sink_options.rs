//! How a lane with connections sends: what its target wants around records and before them, and the memory for it.

use super::kafka::KafkaLane;
use super::setup::Setup;
use crate::base::fatal::Fatal;
use crate::base::limits;
use crate::payload::framing::{Framing, Header, KafkaFraming, digits};
use crate::plan::{
    Annotate, Compression, HttpPlan, KafkaClient, KafkaPlan, LinkPlan, ProducerPlan, RunPlan, TargetPlan, TcpFraming,
};
use crate::sink::{http, kafka, tcp};
use crate::wire::http::{HeadFacts, RequestHead, Sought};
use crate::wire::kafka::codec::Codec;
use crate::wire::kafka::produce::ProducePrefix;
use std::sync::Arc;

/// Descriptors of the process beside those that its connections need.
const DESCRIPTORS_SPARED: u64 = 256;

/// What a producer's target wants around each record.
pub fn framing(plan: &Arc<RunPlan>, producer: &ProducerPlan) -> Framing {
    match &producer.to {
        TargetPlan::Tcp(tcp) if tcp.framing == TcpFraming::Length => Framing::Length,
        // rskafka frames what it is given.
        TargetPlan::Kafka(kafka) if kafka.client == KafkaClient::Uring => {
            Framing::Kafka(Box::new(kafka_framing(plan, producer, kafka)))
        }
        TargetPlan::Http(http) if http.records_per_request == 1 => {
            let head_bytes = http_options(plan, producer, http).head.bytes_max();
            let is_short = plan.payload.record_bytes_max < limits::HTTP_BODY_BEHIND_HEAD_BYTES_MAX
                && head_bytes as u64 <= limits::HTTP_HEAD_IN_RING_BYTES_MAX;
            if is_short { Framing::Room(head_bytes) } else { Framing::None }
        }
        _ => Framing::None,
    }
}

/// The same, for either client of Kafka.
pub fn kafka_framing(plan: &RunPlan, producer: &ProducerPlan, kafka: &KafkaPlan) -> KafkaFraming {
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
            http_options(&setup.plan, producer, plan).staging_bytes(plan.link.connections, block_bytes)
        }
        TargetPlan::Kafka(kafka) if kafka.client == KafkaClient::Uring => {
            let lane = &setup.kafka_lanes[lane];
            kafka_options(setup, lane)?.staging_bytes(lane.partitions.len(), block_bytes)
        }
        TargetPlan::Kafka(_) | TargetPlan::Null | TargetPlan::Stdout | TargetPlan::File(_) => 0,
    })
}

/// How a lane's batches are made and sent.
pub fn kafka_options(setup: &Setup, lane: &KafkaLane) -> Result<kafka::Options, Fatal> {
    let plan = &setup.plan;
    let kafka = &lane.target.plan;
    let timeout_ms = i32::try_from(kafka.link.request_timeout_ns / 1_000_000).unwrap_or(i32::MAX);
    let prefix = ProducePrefix::new(&kafka.client_id, &kafka.topic, kafka.acks, timeout_ms)?;
    Ok(kafka::Options {
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

/// How a lane's requests are made and sent.
pub fn http_options(plan: &Arc<RunPlan>, producer: &ProducerPlan, http: &HttpPlan) -> http::Options {
    let beside = plan.payload.annotate == Annotate::Headers;
    let facts = HeadFacts {
        producer_id: producer.id,
        stamped: plan.payload.annotate != Annotate::Off,
        weighted: plan.is_sampled(),
        counted: http.records_per_request > 1,
        run_id: beside.then_some(plan.run_id.as_str()),
    };
    let LinkPlan { peer, request_timeout_ns, retry, .. } = &http.link;
    let head = RequestHead::new(http.method.name(), &http.path, &http.host_header, &http.headers, facts);
    http::Options {
        head: match &http.bearer {
            Some(bearer) => head.with_token(bearer.token.expose(), bearer.bytes_max()),
            None => head,
        },
        records_per_request: http.records_per_request,
        pipeline: http.pipeline,
        summed: beside,
        tls: peer.tls.is_some(),
        refused_by: http.refused_by.as_ref().map(|text| Arc::new(Sought::new(text.as_bytes()))),
        request_timeout_ns: *request_timeout_ns,
        retry: *retry,
        renews: false,
        // The id of the run too: those of one seed, each on a host of its own, do not come back together either.
        seed: plan.payload.seed ^ plan.run_id_hash ^ u64::from(producer.id) << 32,
    }
}

/// Whether pipes of two descriptors for each connection leave enough for connections, new ones in place of others too.
pub fn has_descriptors_to_lend(plan: &RunPlan, open_files_max: u64) -> bool {
    let links = plan.producers.iter().filter_map(|producer| producer.to.link());
    let connections: u64 = links.map(|link| link.connections as u64).sum();
    4 * connections + DESCRIPTORS_SPARED <= open_files_max
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Command, Deps, parse};
    use crate::wire::http::HeadStamps;

    fn plan(words: &str) -> Arc<RunPlan> {
        let deps = Deps::new(|| Ok(()));
        match parse(words.split(' ').map(Into::into), [], &deps) {
            Ok(Command::Run(plan)) => Arc::from(plan),
            other => panic!("{words}: {other:?}"),
        }
    }

    #[test]
    fn pipes_to_lend_through_take_no_descriptor_that_a_connection_needs() {
        let has = |words: &str, max| has_descriptors_to_lend(&plan(words), max);
        let words = "--target http://localhost/ --cores 0 --parallel 2 --connections 200";
        assert!(!has(words, 1024) && has(words, 4 * 400 + 256));
        assert!(has("--target http://localhost/ --cores 0 --parallel 2 --connections 8", 1024));
    }

    #[test]
    fn only_short_bodies_lie_behind_their_heads() {
        let lies_there = |words: &str| {
            let plan = plan(&format!("--target http://localhost/{words}"));
            let TargetPlan::Http(http) = &plan.producers[0].to else { panic!("{words}") };
            let head_bytes = http_options(&plan, &plan.producers[0], http).head.bytes_max();
            let framing = framing(&plan, &plan.producers[0]);
            assert!(matches!(framing, Framing::None | Framing::Room(_)) && [0, head_bytes].contains(&framing.before()));
            framing.before() > 0
        };
        let long_header = format!(" --http-header x-long:{}", "a".repeat(1 << 10));
        for (words, wanted) in [
            ("", true),
            (" --payload-size 100-65535", true),
            (" --payload-size 65536", false),
            (" --http-records-per-request 2", false),
            (long_header.as_str(), false),
        ] {
            assert_eq!(lies_there(words), wanted, "{words}");
        }
    }

    #[test]
    fn a_weight_of_one_travels_beside_the_record_too() {
        let head = |words: &str| {
            let plan = plan(&format!("--target http://localhost/ {words}"));
            let TargetPlan::Http(http) = &plan.producers[0].to else { panic!("{words}") };
            let mut head = http_options(&plan, &plan.producers[0], http).head;
            let mut bytes = vec![0; head.bytes()];
            head.write(&mut bytes, &HeadStamps::default());
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
