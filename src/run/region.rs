//! What a core's memory holds: for each lane its ring of records, framed as its target wants them, and what its sink
//! needs beside it.

use super::core::{Ready, Setup};
use super::net;
use crate::base::fatal::Fatal;
use crate::base::page::PAGE_BYTES;
use crate::base::{limits, units};
use crate::payload::Payload;
use crate::payload::bake::{Draft, Who};
use crate::plan::{ProducerPlan, RunPlan, TargetPlan, Unregistered};
use crate::sink::file::staging_bytes;
use crate::sys;
use std::ops::Range;

/// A lane's place in the core's region.
pub struct Place {
    pub draft: Draft,
    pub ring: Range<usize>,
    pub staging: Range<usize>,
}

/// Drafts every lane's ring and gives each its stretch of the region; with it the longest block that a lane can have,
/// framing included.
pub fn places(setup: &Setup) -> Result<(Vec<Place>, u64), Fatal> {
    let plan = &setup.plan;
    let core = &plan.cores[setup.index];
    let mut end = 0u64;
    let mut take = |bytes: u64| {
        let start = end;
        end += bytes.next_multiple_of(PAGE_BYTES as u64);
        start as usize..(start + bytes) as usize
    };
    let block_bytes = plan.sink.block_bytes;
    let mut drafts = Vec::new();
    for producer in plan.producers_of(setup.index) {
        let (framing, ring_bytes) = (net::framing(plan, producer), core.ring_bytes_per_lane);
        drafts.push(Draft::new(&plan.payload, framing, setup.zero_fraction, producer.id, ring_bytes, block_bytes)?);
    }
    // The loop's blocks hold at least one record of any lane, so the staging buffers must as well.
    let block_bytes = drafts.iter().map(Draft::longest_span).fold(block_span_bytes(plan), u64::max);
    // All rings come first, so that they can be registered without the rest.
    let rings: Vec<_> = drafts.iter().map(|draft| take(draft.bytes())).collect();
    let place = |(lane, ((draft, ring), producer)): (usize, ((Draft, Range<usize>), &ProducerPlan))| {
        let depth = plan.sink.queue_depth;
        let staged = match &producer.to {
            TargetPlan::Null | TargetPlan::Stdout => 0,
            TargetPlan::File(file) => staging_bytes(file, draft.starts(), block_bytes, depth),
            TargetPlan::Tcp(_) | TargetPlan::Http(_) | TargetPlan::Kafka(_) => {
                net::staging_bytes(setup, (lane, producer), block_bytes)?
            }
        };
        Ok(Place { draft, ring, staging: take(staged) })
    };
    let lanes = drafts.into_iter().zip(rings).zip(plan.producers_of(setup.index)).enumerate();
    Ok((lanes.map(place).collect::<Result<_, Fatal>>()?, block_bytes))
}

/// The most bytes of a block with framing, but for records that are longer.
fn block_span_bytes(plan: &RunPlan) -> u64 {
    let batch = plan.producers.iter().filter_map(|producer| match &producer.to {
        TargetPlan::Kafka(kafka) => Some(kafka.batch_bytes),
        _ => None,
    });
    batch.fold(plan.sink.block_bytes, u64::max)
}

/// How many blocks of a lane may be unsettled: what its sink works with, and for answers that come out of order
/// some more, so that a slow one does not hold up the others.
pub fn window(plan: &RunPlan, producer: &ProducerPlan) -> usize {
    let depth = plan.sink.queue_depth;
    match producer.to {
        // Each partition has its own; how many there are the plan does not know.
        TargetPlan::Kafka(_) => (64 * depth).clamp(64, limits::WINDOW_MAX),
        TargetPlan::Http(_) => (64 * depth).clamp(1024, limits::WINDOW_MAX),
        _ => depth,
    }
}

pub fn bake(setup: &Setup, places: Vec<Place>, memory: &mut [u8]) -> Result<Vec<Payload>, Fatal> {
    let plan = &setup.plan;
    let bake = |(place, producer): (Place, &ProducerPlan)| {
        let who = Who { run_id: &plan.run_id, run_id_hash: plan.run_id_hash, producer_id: producer.id };
        let base = place.ring.start;
        let (ring, window) = (&mut memory[place.ring], window(plan, producer));
        place.draft.bake(&plan.payload, who, base, ring, window, &|| setup.stop.may_prepare())
    };
    places.into_iter().zip(plan.producers_of(setup.index)).map(bake).collect()
}

/// Whether the run may go on with what the kernel has registered; with it the line to say, if there is one.
///
/// # Errors
/// Exit 3 where not all is registered, and has to be.
pub fn check_registered(unregistered: Unregistered, ready: &[Ready]) -> Result<Option<String>, Fatal> {
    let refused = ready.iter().filter(|core| core.registered == Some(false)).count();
    if refused == 0 || unregistered == Unregistered::Known {
        return Ok(None);
    }
    let limit_bytes = sys::fs::memlock().map_or(u64::MAX, |limit| limit.soft_bytes);
    let limit = if limit_bytes == u64::MAX { "unlimited".to_owned() } else { units::format_size(limit_bytes) };
    let what = format!(
        "the kernel does not register the buffers of {}: locked memory is limited to {limit}, for all processes of \
         this user together",
        units::format_counted(refused as u64, "core")
    );
    let mend = "ulimit -l unlimited";
    match unregistered {
        Unregistered::Refused => Err(Fatal::host(format!("--io uring: {what}")).mend(format!("{mend}, or --io=auto"))),
        _ => Ok(Some(format!("{what}: buffers stay unregistered (mend: {mend})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fatal::Exit;

    #[test]
    fn what_the_kernel_does_not_register_is_refused_or_told_once() {
        let core =
            |registered| Ready { cpu: 0, percent_of_others: None, period_bytes: 0, memory: String::new(), registered };
        let some = [core(Some(true)), core(Some(false))];
        let fatal = check_registered(Unregistered::Refused, &some).unwrap_err();
        assert!(fatal.exit == Exit::Host && fatal.what.contains("buffers of 1 core:"), "{fatal}");
        assert!(check_registered(Unregistered::Told, &some).unwrap().is_some_and(|line| line.contains("ulimit -l")));
        assert_eq!(check_registered(Unregistered::Known, &some), Ok(None));
        for fine in [Some(true), None] {
            assert_eq!(check_registered(Unregistered::Refused, &[core(fine)]), Ok(None), "{fine:?}");
        }
    }
}
