//! How many connections a producer, and all producers of a core, can have.

use crate::base::fatal::Fatal;
use crate::base::{limits, units};
use crate::host::{Sysfs, memory};
use crate::plan::{CorePlan, Io, KafkaClient, ProducerPlan, RunPlan, SinkKind, TargetPlan};
use crate::sink::link::{LINKS_MAX, ring_depth};
use crate::sink::tcp;

/// The rings and what connections may need beside them take at most this part of the available memory.
const MEMORY_PART: u64 = 2;

/// Refuses what is known to be too many before any broker is asked.
///
/// # Errors
/// Those of [`check`].
pub fn check_all(plan: &RunPlan) -> Result<(), Fatal> {
    let mut sharing = vec![0usize; plan.sink.targets.len()];
    plan.producers.iter().for_each(|producer| sharing[producer.target] += 1);
    let processes = plan.fleet_producers as usize / plan.producers.len().max(1);
    let of = |at: &usize| at_least(&plan.producers[*at], sharing[plan.producers[*at].target] * processes);
    let lanes = |core: &[usize]| core.iter().map(&of).collect::<Vec<_>>();
    plan.cores.iter().try_for_each(|core| check(plan, &lanes(&core.producers)))
}

/// Whether there is memory for the blocks that may have to be made again beside the ring: one for each HTTP connection,
/// and a few for each lane over TCP. How many partitions there are, Kafka tells later.
///
/// # Errors
/// Exit 3 where there is not.
pub fn check_memory(plan: &RunPlan, sysfs: &Sysfs) -> Result<(), Fatal> {
    let Some(available_bytes) = memory::available_bytes(sysfs) else { return Ok(()) };
    let blocks_of = |producer: &ProducerPlan| match &producer.to {
        TargetPlan::Http(http) => http.link.connections,
        TargetPlan::Tcp(tcp) => tcp::stages(tcp.link.connections),
        _ => 0,
    };
    let blocks = plan.producers.iter().map(blocks_of).sum::<usize>();
    let rings = plan.cores.iter().map(CorePlan::ring_bytes).fold(0, u64::saturating_add);
    let (block, have) = (plan.sink.block_bytes, available_bytes / MEMORY_PART);
    let need = rings.saturating_add(block.saturating_mul(blocks as u64));
    if blocks == 0 || need <= have {
        return Ok(());
    }
    let fitting = have.saturating_sub(rings) / block.max(1) / plan.producers.len().max(1) as u64;
    let [block, need, have] = [block, need, have].map(units::format_size);
    let what = format!(
        "the rings and {blocks} blocks of {block} that may have to be sent again need {need}; half of the available \
         memory is {have}"
    );
    let fewer = format!("--connections={fitting}");
    Err(Fatal::host(what).mend(if fitting > 0 { fewer } else { "fewer producers, or smaller records".to_owned() }))
}

/// Connections of one of `sharing` producers of its target. How many partitions a topic turns out to have is not known
/// yet, nor who gets those that are left over.
fn at_least(producer: &ProducerPlan, sharing: usize) -> usize {
    match &producer.to {
        TargetPlan::Kafka(kafka) => {
            let wanted = kafka.partitions.map_or(1, |partitions| partitions as usize);
            (wanted / sharing.max(1)).max(1)
        }
        to => to.link().map_or(0, |link| link.connections),
    }
}

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
