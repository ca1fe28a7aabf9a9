//! What a core's memory holds: for each lane its ring of records, framed as its target wants them, and what its sink
//! needs beside it.

use super::setup::{Ready, Setup};
use super::sink_options;
use crate::base::align::PAGE_BYTES;
use crate::base::fatal::Fatal;
use crate::base::{limits, units};
use crate::host::{Sysfs, cpu, memory, rlimit};
use crate::observe::PayloadFacts;
use crate::payload::Payload;
use crate::payload::bake::{Draft, Who};
use crate::plan::{ProducerPlan, RunPlan, TargetPlan, Unregistered};
use crate::sink::file::staging_bytes;
use crate::sys;
use std::collections::{BTreeMap, BTreeSet};
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
        let (framing, ring_bytes) = (sink_options::framing(plan, producer), core.ring_bytes_per_lane);
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
                sink_options::staging_bytes(setup, (lane, producer), block_bytes)?
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

/// Whether a core may go on with a ring that the kernel has registered, or has not.
///
/// # Errors
/// Exit 3 where it has to be registered, and is not.
pub fn check_registered(unregistered: Unregistered, registered: bool) -> Result<(), Fatal> {
    if registered || unregistered != Unregistered::Refused {
        return Ok(());
    }
    let (what, mend) = why_unregistered("a core", memlock_bytes());
    let mend = mend.map_or_else(String::new, |mend| format!("{mend}, or "));
    Err(Fatal::host(format!("--io uring: {what}")).mend(format!("{mend}--io=auto")))
}

/// The line to say where the kernel has not registered all rings, and nobody has said so yet.
pub fn unregistered_line(unregistered: Unregistered, ready: &[Ready]) -> Option<String> {
    let refused = ready.iter().filter(|core| core.registered == Some(false)).count();
    if refused == 0 || unregistered != Unregistered::Told {
        return None;
    }
    let (what, mend) = why_unregistered(&units::format_counted(refused as u64, "core"), memlock_bytes());
    let mend = mend.map_or_else(String::new, |mend| format!(" (mend: {mend})"));
    Some(format!("{what}: buffers stay unregistered{mend}"))
}

/// What the rings came to, the same whichever core was ready first: their length is that of the lowest producer's.
pub fn payload_facts(ready: &[Ready], compressibility_measured: Option<f64>) -> PayloadFacts {
    let lowest = ready.iter().min_by_key(|core| core.producer_id);
    let period_bytes = lowest.map_or(0, |core| core.period_bytes);
    PayloadFacts {
        ring_bytes_per_lane: period_bytes,
        repeat_period_bytes: period_bytes,
        compressibility_measured,
        compression_ratio: None,
        memory: pages(ready),
    }
}

/// The pages behind all rings; where cores got different ones, who has which.
fn pages(ready: &[Ready]) -> String {
    let mut kinds: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for core in ready {
        kinds.entry(&core.memory).or_default().insert(core.cpu);
    }
    let differ = kinds.len() > 1;
    let kind = |(memory, cpus): (&str, BTreeSet<usize>)| {
        let cpus: Vec<usize> = cpus.into_iter().collect();
        match cpus.len() {
            _ if !differ => memory.to_owned(),
            1 => format!("{memory} (core {})", cpus[0]),
            _ => format!("{memory} (cores {})", cpu::format_list(&cpus)),
        }
    };
    kinds.into_iter().map(kind).collect::<Vec<_>>().join("; ")
}

/// `u64::MAX`: any number.
fn memlock_bytes() -> u64 {
    if memory::may_lock_any(&Sysfs::default()) {
        return u64::MAX;
    }
    sys::fs::memlock().map_or(u64::MAX, |limit| limit.soft_bytes)
}

/// The limit of locked memory is to blame only where there is one; then there is a mend as well.
fn why_unregistered(whose: &str, memlock_bytes: u64) -> (String, Option<String>) {
    if memlock_bytes == u64::MAX {
        return (format!("the kernel refused to register the rings of {whose}"), None);
    }
    let limit = units::format_size(memlock_bytes);
    let what = format!(
        "the kernel does not register the buffers of {whose}: locked memory is limited to {limit}, for all processes \
         of this user together"
    );
    (what, Some(rlimit::raise(rlimit::MEMLOCK)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fatal::Exit;

    fn ready(cpu: usize, producer_id: u32, memory: &str) -> Ready {
        let period_bytes = 1000 - u64::from(producer_id);
        Ready {
            cpu,
            producer_id,
            percent_of_others: None,
            period_bytes,
            memory: memory.to_owned(),
            registered: None,
            lends: None,
        }
    }

    #[test]
    fn what_is_told_of_the_rings_does_not_depend_on_who_was_first() {
        let (huge, transparent) = ("2 MiB huge pages, registered", "transparent huge pages, not registered");
        let cores = [ready(5, 8, huge), ready(7, 7, transparent), ready(4, 9, huge)];
        let [first, second, third] = &cores;
        let orders = [[first, second, third], [third, second, first], [second, first, third]];
        for order in orders {
            let facts = payload_facts(&order.map(Clone::clone), Some(0.5));
            assert_eq!((facts.repeat_period_bytes, facts.ring_bytes_per_lane), (993, 993), "that of producer 7");
            assert_eq!(facts.compressibility_measured, Some(0.5));
            assert_eq!(facts.memory, format!("{huge} (cores 4-5); {transparent} (core 7)"));
        }
        let alike = [ready(1, 1, transparent), ready(0, 0, transparent)];
        assert_eq!(payload_facts(&alike, None).memory, transparent);
        assert_eq!(payload_facts(&[], None).repeat_period_bytes, 0);
    }

    #[test]
    fn what_the_kernel_does_not_register_is_refused_or_told_once() {
        let fatal = check_registered(Unregistered::Refused, false).unwrap_err();
        assert!(fatal.exit == Exit::Host && fatal.what.starts_with("--io uring: the kernel "), "{fatal}");
        for (unregistered, registered) in
            [(Unregistered::Refused, true), (Unregistered::Told, false), (Unregistered::Known, false)]
        {
            assert_eq!(check_registered(unregistered, registered), Ok(()), "{unregistered:?}, {registered}");
        }
        let core = |registered| Ready { registered, ..ready(0, 0, "") };
        let some = [core(Some(true)), core(Some(false))];
        let line = unregistered_line(Unregistered::Told, &some);
        assert!(line.is_some_and(|line| line.contains("of 1 core: ") && line.contains("buffers stay unregistered")));
        assert_eq!(unregistered_line(Unregistered::Known, &some), None);
        for fine in [Some(true), None] {
            assert_eq!(unregistered_line(Unregistered::Told, &[core(fine)]), None, "{fine:?}");
        }
    }

    #[test]
    fn the_limit_of_locked_memory_is_named_only_where_there_is_one() {
        let (what, mend) = why_unregistered("2 cores", 3 << 20);
        assert!(what.contains("of 2 cores: locked memory is limited to 3 MiB"), "{what}");
        assert!(mend.is_some_and(|mend| mend.ends_with("docker run --ulimit memlock=-1")));
        let told = why_unregistered("2 cores", u64::MAX);
        assert_eq!(told, ("the kernel refused to register the rings of 2 cores".to_owned(), None));
    }
}
