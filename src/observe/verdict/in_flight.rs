//! How much a plan lets be in flight: what keeps a target idle that would take more.

use crate::base::limits;
use crate::base::units::{format_counted, format_size};
use crate::plan::{self, Io, KafkaClient, KafkaPlan, RunPlan, TargetPlan};

/// What 8 GB/s have on their way in half a millisecond: a target that has it is not kept waiting. Not so a partition of
/// Kafka, whose brokers confirm a batch only once others have it, too.
const AMPLE_BYTES: u64 = 4 << 20;

/// `None` for targets that take one thing after the other anyhow, and where it is ample. That more of it would have
/// helped is for the caller to know.
pub fn in_flight(plan: &RunPlan) -> Option<String> {
    let (depth, block_bytes) = (plan.sink.queue_depth, plan.sink.block_bytes);
    let to = &plan.producers.first()?.to;
    let (way, count, one, one_bytes, flags) = match to {
        TargetPlan::Null | TargetPlan::Stdout => return None,
        TargetPlan::File(_) if plan.io == Io::Syscall => return None,
        TargetPlan::File(_) => {
            let ring_bytes = plan.cores.iter().map(|core| core.ring_bytes_per_lane).min().unwrap_or(u64::MAX);
            let had = plan::blocks_in_flight(depth, block_bytes, ring_bytes);
            // With the ring as it is, larger blocks would be fewer.
            let flags = if had < depth { "a larger --ring-size" } else { "--queue-depth or --block-size" };
            ("", had, "block", block_bytes, flags)
        }
        TargetPlan::Tcp(tcp) => {
            let flags = if tcp.shares_depth { "--queue-depth" } else { "--connections or --queue-depth" };
            ("", tcp.in_flight_max(depth), "block", block_bytes, flags)
        }
        TargetPlan::Http(http) => {
            let flags = "--connections, --http-records-per-request or --http-pipeline";
            ("", http.link.connections * http.pipeline, "request", block_bytes, flags)
        }
        TargetPlan::Kafka(kafka) => {
            (" to a partition", kafka.in_flight_max, "batch", kafka.batch_bytes, kafka_flags(kafka))
        }
    };
    let bytes = one_bytes.saturating_mul(count as u64);
    if bytes >= AMPLE_BYTES && way.is_empty() {
        return None;
    }
    let (most, bytes) = (format_counted(count as u64, one), format_size(bytes));
    Some(format!("each producer had at most {most} ({bytes}) in flight{way}; {flags} would allow more"))
}

/// More partitions help a producer only once it has more of its own.
fn kafka_flags(kafka: &KafkaPlan) -> &'static str {
    let most = if kafka.idempotent { limits::KAFKA_IN_FLIGHT_IDEMPOTENT_MAX } else { limits::KAFKA_IN_FLIGHT_MAX };
    if kafka.client == KafkaClient::Uring && kafka.in_flight_max < most {
        "--queue-depth, more partitions for each producer, or a larger --batch-size within the topic's \
         max.message.bytes,"
    } else {
        "more partitions for each producer, or a larger --batch-size within the topic's max.message.bytes,"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing::{Run, full_run};
    use crate::plan::testing::{kafka_plan, peer};
    use crate::plan::{HttpMethod, HttpPlan, LinkPlan, RetryPlan, TcpFraming, TcpPlan};
    use std::sync::Arc;

    fn link(connections: usize) -> LinkPlan {
        let retry = RetryPlan { retries_max: 0, backoff_min_ns: 1, backoff_max_ns: 1 };
        LinkPlan { peer: Arc::new(peer("h", 1)), connections, request_timeout_ns: 1, retry }
    }

    #[test]
    fn connections_share_the_depth_that_was_asked_for() {
        for (connections, shares_depth, said) in [
            (1, true, "at most 8 blocks (512 KiB) in flight; --queue-depth would allow more"),
            (3, true, "at most 6 blocks (384 KiB) in flight; --queue-depth would allow more"),
            (5, true, "at most 8 blocks (512 KiB) in flight; --queue-depth would allow more"),
            (2, false, "at most 8 blocks (512 KiB) in flight; --connections or --queue-depth would allow more"),
        ] {
            let mut run = full_run();
            run.replan(|plan| {
                plan.sink.block_bytes = 64 << 10;
                let tcp = TcpPlan { link: link(connections), framing: TcpFraming::None, shares_depth };
                plan.producers[0].to = TargetPlan::Tcp(tcp);
            });
            let whole = in_flight(&run.shared.plan).unwrap();
            assert_eq!(whole, format!("each producer had {said}"), "{connections} connections");
        }
    }

    #[test]
    fn what_a_partition_has_in_flight_is_never_ample() {
        let mut run = full_run();
        for (batch_bytes, size) in [(1_000_000, "5 MB"), (100 << 20, "500 MiB")] {
            run.replan(|plan| {
                let kafka = KafkaPlan { batch_bytes, in_flight_max: 5, ..kafka_plan(1) };
                plan.producers[0].to = TargetPlan::Kafka(kafka);
            });
            let said = format!(
                "each producer had at most 5 batches ({size}) in flight to a partition; more partitions for each \
                 producer, or a larger --batch-size within the topic's max.message.bytes, would allow more"
            );
            assert_eq!(in_flight(&run.shared.plan), Some(said));
        }
    }

    #[test]
    fn a_depth_below_what_the_client_can_have_is_named() {
        let mut run = full_run();
        for (in_flight_max, idempotent, client, is_named) in [
            (1, true, KafkaClient::Uring, true),
            (5, true, KafkaClient::Uring, false),
            (5, false, KafkaClient::Uring, true),
            (64, false, KafkaClient::Uring, false),
            (1, false, KafkaClient::Rskafka, false),
        ] {
            run.replan(|plan| {
                let kafka = KafkaPlan { in_flight_max, idempotent, client, ..kafka_plan(1) };
                plan.producers[0].to = TargetPlan::Kafka(kafka);
            });
            let said = in_flight(&run.shared.plan).unwrap();
            assert_eq!(said.contains("; --queue-depth, more partitions"), is_named, "{said}");
        }
    }

    /// Blocks of 256 KiB at a depth of 32 would be ample.
    #[test]
    fn a_ring_of_a_few_blocks_has_no_more_of_them_in_flight() {
        let mut run = full_run();
        run.replan(|plan| {
            plan.io = Io::Uring;
            (plan.sink.block_bytes, plan.sink.queue_depth) = (256 << 10, 32);
            plan.cores.iter_mut().for_each(|core| core.ring_bytes_per_lane = 1 << 20);
        });
        let said = "each producer had at most 4 blocks (1 MiB) in flight; a larger --ring-size would allow more";
        assert_eq!(in_flight(&run.shared.plan).as_deref(), Some(said));
        run.replan(|plan| plan.cores.iter_mut().for_each(|core| core.ring_bytes_per_lane = 33 << 18));
        assert_eq!(in_flight(&run.shared.plan), None, "8 MiB are ample");
    }

    #[test]
    fn each_kind_of_target_names_its_own_limit() {
        assert_eq!(in_flight(&Run::new(1, 1, None).shared.plan), None, "null has none");
        let mut run = full_run();
        run.replan(|plan| {
            plan.io = Io::Uring;
            plan.cores.iter_mut().for_each(|core| core.ring_bytes_per_lane = 9 << 20);
        });
        assert_eq!(in_flight(&run.shared.plan), None, "8 MiB are ample");
        run.replan(|plan| plan.sink.block_bytes = 64 << 10);
        let said =
            "each producer had at most 8 blocks (512 KiB) in flight; --queue-depth or --block-size would allow more";
        assert_eq!(in_flight(&run.shared.plan).as_deref(), Some(said));
        run.replan(|plan| plan.io = Io::Syscall);
        assert_eq!(in_flight(&run.shared.plan), None, "one write after the other");
        run.replan(|plan| {
            plan.sink.block_bytes = 4096;
            plan.producers[0].to = TargetPlan::Http(HttpPlan {
                link: link(1),
                method: HttpMethod::Post,
                path: "/".into(),
                host_header: "h".into(),
                headers: vec![],
                bearer: None,
                records_per_request: 1,
                pipeline: 1,
                refused_by: None,
            });
        });
        let said = in_flight(&run.shared.plan).unwrap();
        assert!(said.starts_with("each producer had at most 1 request (4 KiB) in flight; --connections, "), "{said}");
    }
}
