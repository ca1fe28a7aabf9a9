//! Whether all connections that are known of fit: into the rings of their cores, and with their blocks into memory.

use crate::base::fatal::Fatal;
use crate::base::units;
use crate::host::{Sysfs, memory};
use crate::plan::{CorePlan, ProducerPlan, RunPlan, TargetPlan};
use crate::sink::{links, tcp};

/// The rings and what connections may need beside them take at most this part of the available memory.
const MEMORY_PART: u64 = 2;

/// Refuses what is known to be too many before any broker is asked.
///
/// # Errors
/// Those of [`links::check`].
pub fn check_all(plan: &RunPlan) -> Result<(), Fatal> {
    let mut sharing = vec![0usize; plan.sink.targets.len()];
    plan.producers.iter().for_each(|producer| sharing[producer.target] += 1);
    let processes = plan.fleet_producers as usize / plan.producers.len().max(1);
    let of = |producer: &ProducerPlan| at_least(producer, sharing[producer.target] * processes);
    let lanes = |core: usize| plan.producers_of(core).map(of).collect::<Vec<_>>();
    (0..plan.cores.len()).try_for_each(|core| links::check(plan, &lanes(core)))
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
        TargetPlan::Tcp(tcp) => tcp::buffers(tcp.link.connections),
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
