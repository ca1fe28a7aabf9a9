//! From typed values to a `RunPlan`. What hangs together is checked here, and everything wrong is reported.

mod back_end;
pub mod cores;
pub mod device;
pub mod effective;
pub mod files;
pub mod geometry;
pub mod governance;
pub mod network;
pub mod notes;
pub mod observe;
pub mod payload;
pub mod record_rates;
pub mod schedule;
mod stages;
pub mod target;
mod templates;
mod useless;

use crate::base::clock;
use crate::base::fatal::Fatal;
use crate::config::Deps;
use crate::config::load::Settings;
use crate::config::values::Wanted;
use crate::host::Sysfs;
use crate::plan::{
    Confirmation, CorePlan, FileLayout, FilePlan, Io, PayloadPlan, Poll, ProducerPlan, RunPlan, SinkKind, SinkPlan,
    TargetPlan, Unregistered,
};
use crate::record;
use cores::Cores;
use geometry::Blocks;
use payload::Sizes;
use schedule::{Fleet, Schedules};
use target::{Place, Targets};

/// Everything that `resolve` settled on its way, for the assembly.
pub struct Parts {
    pub targets: Targets,
    pub payload: PayloadPlan,
    pub sizes: Sizes,
    pub cores: Cores,
    pub core_of: Vec<usize>,
    pub fleet: Fleet,
    pub schedules: Schedules,
    pub blocks: Blocks,
    pub ring_bytes_per_lane: u64,
    pub files: Vec<Option<FilePlan>>,
    /// One for each network target.
    pub remotes: Vec<TargetPlan>,
    pub linger_ns: u64,
    pub io: Io,
    pub unregistered: Unregistered,
    pub poll: Poll,
    pub notes: Vec<String>,
}

/// The plan, or everything that is wrong, `errors` of earlier steps included.
pub fn resolve(settings: &Settings, wanted: &Wanted, deps: &Deps, errors: Vec<Fatal>) -> Result<RunPlan, Vec<Fatal>> {
    resolve_with_places(settings, wanted, deps, errors).map(|(plan, _)| plan)
}

/// The same, and those of its notes that say what it writes where.
pub fn resolve_with_places(
    settings: &Settings,
    wanted: &Wanted,
    deps: &Deps,
    mut errors: Vec<Fatal>,
) -> Result<(RunPlan, Vec<String>), Vec<Fatal>> {
    let mut parts = settle(settings, wanted, deps, &mut errors);
    let places = notes::add(&mut parts, wanted, &deps.sysfs);
    let observe = observe::resolve(settings, wanted, parts.targets.kind, deps, &mut errors);
    let run_id = observe::run_id(wanted, &mut errors);
    schedule::check_start(wanted.start_at_unix_ns, clock::unix_now_ns(), &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let plan = assemble(settings, wanted, parts, observe, run_id);
    let fits = network::links::check_all(&plan).and_then(|()| network::links::check_memory(&plan, &deps.sysfs));
    fits.map_err(|fatal| vec![fatal])?;
    Ok((plan, places))
}

/// Bytes of a block, and of ring for each producer, whatever else may be wrong. Looks at drives as a run does, and
/// leaves nothing there.
pub fn rings(settings: &Settings, wanted: &Wanted, deps: &Deps, errors: &mut Vec<Fatal>) -> (u64, u64) {
    let prepared = prepare(settings, wanted, deps, errors);
    (prepared.blocks.block_bytes, prepared.ring_bytes_per_lane)
}

/// What is settled before what lies at the targets is judged.
struct Prepared {
    seats: files::Seats,
    payload: PayloadPlan,
    sizes: Sizes,
    cast: Cast,
    laid_out: (Vec<files::Names>, Vec<FileLayout>),
    remotes: Vec<TargetPlan>,
    linger_ns: u64,
    blocks: Blocks,
    poll: Poll,
    io: Io,
    ring_bytes_per_lane: u64,
    notes: Vec<String>,
}

fn prepare(settings: &Settings, wanted: &Wanted, deps: &Deps, errors: &mut Vec<Fatal>) -> Prepared {
    let sysfs = &deps.sysfs;
    let targets = target::resolve(&wanted.targets, sysfs, errors);
    useless::reject(settings, wanted, &targets, errors);
    network::check_annotate(wanted.annotate, targets.kind, errors);
    let (payload, sizes) = payload::resolve(settings, wanted, targets.kind, errors);
    let cast = cast(settings, wanted, (&targets, &sizes), sysfs, errors);
    let seats = files::Seats::new(targets, cast.fleet, wanted);
    let targets = &seats.targets;
    let laid_out = seats.laid_out(wanted, &sizes, sysfs, errors);
    let mut notes = cast.cores.notes.clone();
    let remotes = network::plans(settings, wanted, &targets.remotes, (&payload, &sizes), &mut notes, errors);
    let linger_ns = network::linger_ns(wanted, &remotes);
    let facts = geometry::Facts {
        linger_ns,
        shape: network::shape((&targets.remotes, &remotes), &sizes, &payload, wanted),
        kind: targets.kind,
        sizes: &sizes,
        probes: geometry::probes(targets, deps),
        slowest_wire_rate: cast.schedules.slowest_wire_rate(),
        capacity_bytes: laid_out.1.iter().map(capacity).min().unwrap_or(u64::MAX),
    };
    let blocks = geometry::blocks(settings, wanted, &facts, errors);
    let poll = wanted.poll.unwrap_or(if cast.cores.to_spare() { Poll::Busy } else { Poll::Adaptive });
    let seen = back_end::Facts { targets, core_of: &cast.core_of, direct: blocks.direct, poll };
    let io = back_end::choose(wanted, &seen, deps.uring_probe, &mut notes, errors);
    let host = (sysfs, cast.cores.cpus.first().copied().unwrap_or(0));
    let ring_bytes_per_lane = geometry::ring_bytes(wanted, &facts, (&blocks, io), &cast.lanes(), host, errors);
    Prepared { seats, payload, sizes, cast, laid_out, remotes, linger_ns, blocks, poll, io, ring_bytes_per_lane, notes }
}

fn settle(settings: &Settings, wanted: &Wanted, deps: &Deps, errors: &mut Vec<Fatal>) -> Parts {
    let sysfs = &deps.sysfs;
    let Prepared {
        seats,
        payload,
        sizes,
        cast,
        laid_out: (names, layouts),
        remotes,
        linger_ns,
        blocks,
        poll,
        io,
        ring_bytes_per_lane,
        mut notes,
    } = prepare(settings, wanted, deps, errors);
    geometry::check_depth(&blocks, &cast.lanes(), errors);
    let producers = cast.fleet.producers;
    let amounts = (&blocks, &sizes, notes::producer_bytes_max(&cast.schedules.phases, &sizes, wanted, producers));
    let files = files::plans(settings, wanted, &seats, (&names, &layouts), amounts, (sysfs, errors));
    let rings_bytes = ring_bytes_per_lane.saturating_mul(producers as u64);
    let unregistered = geometry::check_memlock(wanted, (io, rings_bytes), sysfs, &mut notes, errors);
    let files = (0..producers).map(|k| files.get(k).cloned()).collect();
    let Cast { cores, core_of, fleet, schedules } = cast;
    Parts {
        targets: seats.targets,
        payload,
        sizes,
        cores,
        core_of,
        fleet,
        schedules,
        blocks,
        ring_bytes_per_lane,
        files,
        remotes,
        linger_ns,
        io,
        unregistered,
        poll,
        notes,
    }
}

/// Who sends, on which core, and when.
struct Cast {
    cores: Cores,
    /// Of each producer.
    core_of: Vec<usize>,
    fleet: Fleet,
    schedules: Schedules,
}

impl Cast {
    /// How many producers each core hosts.
    fn lanes(&self) -> Vec<usize> {
        let mut hosted = vec![0; self.cores.cpus.len()];
        // Without any processor, which is refused, producers are dealt to one all the same.
        for core in &self.core_of {
            if let Some(count) = hosted.get_mut(*core) {
                *count += 1;
            }
        }
        hosted
    }
}

fn cast(
    settings: &Settings,
    wanted: &Wanted,
    (targets, sizes): (&Targets, &Sizes),
    sysfs: &Sysfs,
    errors: &mut Vec<Fatal>,
) -> Cast {
    let mut cores = cores::choose(wanted, sysfs, errors);
    let producers = producers(wanted, targets, cores.cpus.len(), errors);
    // The cores that nobody needs are left before producers are dealt out.
    cores.keep(producers, wanted.cores.is_some(), sysfs);
    let core_of = cores::deal(producers, cores.cpus.len(), errors);
    let fleet = Fleet::new(wanted, producers, errors);
    let limited = settings.is_given("records") || settings.is_given("bytes");
    let schedules = schedule::resolve(wanted, limited, fleet, sizes, errors);
    Cast { cores, core_of, fleet, schedules }
}

/// How many, before they are dealt out.
fn producers(wanted: &Wanted, targets: &Targets, cores: usize, errors: &mut Vec<Fatal>) -> usize {
    let places = targets.count();
    let files = !targets.places.is_empty() && targets.places.iter().all(Place::is_single);
    let single = targets.kind == SinkKind::Stdout || files;
    let default = if single { places } else { cores.max(places) };
    let producers = wanted.parallel.unwrap_or(default);
    if producers < places {
        let what = format!("--parallel {producers}: {places} targets need at least as many producers");
        errors.push(Fatal::usage(what).mend(format!("--parallel={places}")));
    }
    if targets.kind == SinkKind::Stdout && producers > 1 {
        let what = format!("--parallel {producers}: records of several producers would be torn on one standard output");
        errors.push(Fatal::usage(what).mend("--parallel=1, or --target=file:PATH/"));
    }
    producers
}

fn capacity(layout: &FileLayout) -> u64 {
    match layout {
        FileLayout::Ring { capacity_bytes } | FileLayout::Device { capacity_bytes } => *capacity_bytes,
        FileLayout::Rotating { .. } => u64::MAX,
    }
}

fn assemble(
    settings: &Settings,
    wanted: &Wanted,
    parts: Parts,
    observe: crate::plan::ObservePlan,
    run_id: String,
) -> RunPlan {
    let effective_config = effective::config((settings, wanted), &parts, &observe, &run_id);
    let producers = producer_plans(&parts, wanted);
    let core = |(index, cpu): (usize, &usize)| CorePlan {
        cpu: *cpu,
        producers: (0..producers.len()).filter(|k| parts.core_of[*k] == index).collect(),
        ring_bytes_per_lane: parts.ring_bytes_per_lane,
    };
    RunPlan {
        payload_bytes_max: notes::payload_bytes_max(
            &parts.schedules.phases,
            &parts.sizes,
            wanted,
            parts.fleet.producers,
        ),
        run_id_hash: record::run_id_hash(&run_id),
        run_id,
        command: settings.command.clone(),
        effective_config,
        cores: parts.cores.cpus.iter().enumerate().map(core).collect(),
        fleet_producers: (wanted.shard.1 as usize * parts.fleet.producers) as u32,
        free_cpus: parts.cores.free.clone(),
        sink: SinkPlan {
            kind: parts.targets.kind,
            targets: parts.targets.urls.clone(),
            block_bytes: parts.blocks.block_bytes,
            queue_depth: parts.blocks.queue_depth,
            linger_ns: parts.linger_ns,
            confirmation: confirmation(&parts),
        },
        payload: parts.payload,
        rate_bytes_per_second: parts.schedules.single_rate(),
        phases: parts.schedules.phases,
        catch_up_ns: wanted.catch_up_ns,
        drain_timeout_ns: wanted.drain_timeout_ns,
        start_at_unix_ns: wanted.start_at_unix_ns,
        poll: parts.poll,
        io: parts.io,
        unregistered: parts.unregistered,
        zero_copy: wanted.zero_copy,
        observe,
        notes: parts.notes,
        producers,
    }
}

fn producer_plans(parts: &Parts, wanted: &Wanted) -> Vec<ProducerPlan> {
    let limits = schedule::limits(wanted, parts.fleet.producers, &parts.sizes);
    let places = parts.targets.count();
    let plan = |(k, (records_max, bytes_max)): (usize, (u64, u64))| ProducerPlan {
        id: (parts.fleet.first_id + k as u64) as u32,
        core: parts.core_of[k],
        target: k % places,
        schedule: parts.schedules.shares[k].clone(),
        stagger_ns: parts.schedules.stagger_ns[k],
        records_max,
        bytes_max,
        to: target_plan(parts, k),
    };
    limits.into_iter().enumerate().map(plan).collect()
}

/// Who says that a record arrived.
fn confirmation(parts: &Parts) -> Confirmation {
    let unanswered = parts.remotes.iter().any(|to| matches!(to, TargetPlan::Kafka(kafka) if kafka.acks == 0));
    match parts.targets.kind {
        SinkKind::Stdout | SinkKind::Tcp => Confirmation::Kernel,
        SinkKind::Kafka if unanswered => Confirmation::Kernel,
        SinkKind::Null | SinkKind::File | SinkKind::Http | SinkKind::Kafka => Confirmation::Target,
    }
}

/// Where the `k`-th producer sends.
fn target_plan(parts: &Parts, k: usize) -> TargetPlan {
    match (&parts.files[k], parts.remotes.get(k % parts.remotes.len().max(1))) {
        (Some(file), _) => TargetPlan::File(file.clone()),
        (None, Some(remote)) => remote.clone(),
        (None, None) if parts.targets.kind == SinkKind::Stdout => TargetPlan::Stdout,
        (None, None) => TargetPlan::Null,
    }
}

#[cfg(test)]
mod tests;
