//! How many connections the producers of one core can have, and the places in its ring that they need.

use super::link::{LINKS_MAX, ring_depth};
use crate::base::fatal::Fatal;
use crate::base::limits;
use crate::plan::{Io, KafkaClient, RunPlan, SinkKind, TargetPlan};

/// `lanes`: connections of each producer of one core. Each of them has its number in its lane's tokens, and its
/// operations have places in the core's ring.
///
/// # Errors
/// Exit 2 where they do not fit.
pub fn check(plan: &RunPlan, lanes: &[usize]) -> Result<(), Fatal> {
    // rskafka has its own sockets.
    let is_foreign = |to: &TargetPlan| matches!(to, TargetPlan::Kafka(kafka) if kafka.client == KafkaClient::Rskafka);
    if plan.producers.iter().any(|producer| is_foreign(&producer.to)) {
        return Ok(());
    }
    check_lanes(plan, lanes)?;
    if plan.io == Io::Uring { check_ring(plan, lanes) } else { Ok(()) }
}

fn check_lanes(plan: &RunPlan, lanes: &[usize]) -> Result<(), Fatal> {
    let most = lanes.iter().copied().max().unwrap_or(0);
    if most <= LINKS_MAX {
        return Ok(());
    }
    let parallel = plan.producers.len() * most.div_ceil(LINKS_MAX);
    let what = format!("a producer would have {most} connections, one for each of its partitions; {LINKS_MAX} fit");
    Err(Fatal::usage(what).mend(format!("--parallel={parallel}, or fewer --partitions")))
}

/// Places that one core's ring needs.
pub fn operations(plan: &RunPlan, lanes: &[usize]) -> usize {
    let unreleased = plan.producers.iter().map(|producer| producer.to.unreleased_max()).max().unwrap_or(0);
    // A block is a message of one of the connections, but for TCP's.
    let blocks = if plan.sink.kind == SinkKind::Tcp { plan.sink.queue_depth * lanes.len() } else { 0 };
    ring_depth(lanes.iter().sum(), unreleased, blocks)
}

/// Plain system calls have no such limit.
fn check_ring(plan: &RunPlan, lanes: &[usize]) -> Result<(), Fatal> {
    let links: usize = lanes.iter().sum();
    let operations = operations(plan, lanes);
    if links == 0 || operations <= limits::CORE_DEPTH_MAX {
        return Ok(());
    }
    let fewer = match plan.sink.kind {
        SinkKind::Kafka => "--partitions or a smaller max.in.flight.requests.per.connection",
        SinkKind::Http => "--connections, a smaller --http-pipeline or a smaller --parallel",
        _ => "--connections or a smaller --parallel",
    };
    let (producers, most) = (lanes.len(), limits::CORE_DEPTH_MAX);
    let what = format!(
        "{links} connections of {producers} producers on one core are {operations} operations; {most} fit into io_uring"
    );
    Err(Fatal::usage(what).mend(format!("more --cores, fewer {fewer}, or --io=syscall")))
}
