//! What the user should know before the start, one line each.

use crate::base::{limits, units};
use crate::config::resolve::geometry;
use crate::config::resolve::network;
use crate::config::resolve::payload::Sizes;
use crate::config::resolve::record_rates;
use crate::config::resolve::schedule::{self, Schedules};
use crate::config::resolve::stages;
use crate::config::resolve::target::Place;
use crate::config::resolve::templates;
use crate::config::resolve::{Parts, capacity};
use crate::config::values::Wanted;
use crate::host::{Sysfs, fs as host_fs};
use crate::payload::{placeholders, template};
use crate::plan::{
    Annotate, Comparison, FileLayout, PayloadSource, PhasePlan, PhaseShare, Schedule, SloMetric, TargetPlan,
    TemplateFile,
};
use crate::record::HEADER_BYTES;

/// The part of its rate that a run reaches for sure: the time until its last records are confirmed counts, and only
/// whole records do.
const RATE_REACHED: f64 = 0.995;
/// Records of a producer that tell the rates of stages apart: each stage begins with a whole one.
const STAGE_RECORDS_MIN: u128 = 10;

/// Returns those that say what is written where.
pub fn add(parts: &mut Parts, wanted: &Wanted, sysfs: &Sysfs) -> Vec<String> {
    let places = places(parts, sysfs);
    let mut lines = rate_notes(&parts.schedules, parts.fleet.producers);
    lines.extend(duration_note(wanted));
    lines.extend(coarse_note(parts));
    lines.extend(request_note(parts));
    lines.extend(template_notes(parts));
    lines.extend(wanted.template.as_deref().and_then(templates::left_out));
    lines.extend(record_rates::record_notes(wanted, &parts.sizes));
    lines.extend(size_notes(parts, wanted));
    lines.extend(slo_notes(parts, wanted));
    lines.extend(places.iter().cloned());
    lines.extend((!places.is_empty()).then(|| written(parts, wanted)));
    lines.extend(network::notes(&parts.targets.remotes, &parts.remotes, parts.fleet.producers));
    lines.append(&mut parts.notes);
    parts.notes = lines;
    places
}

/// The rate of the run, if it has one; where there are several stages, a line for each.
fn rate_notes(schedules: &Schedules, producers: usize) -> Vec<String> {
    let phases = &schedules.phases;
    let stages = phases.iter().filter(|phase| !phase.warmup).count();
    if stages < 2 {
        // A warm-up has the rate of what it warms up for.
        return phases.iter().rev().take(1).filter_map(|phase| schedule::rate_note(phase, producers)).collect();
    }
    let Some(shares) = schedules.shares.first() else { return Vec::new() };
    let mut number = 0;
    let line = |(phase, share): (&PhasePlan, &PhaseShare)| {
        number += usize::from(!phase.warmup);
        let name = if phase.warmup { "warm-up".to_owned() } else { format!("stage {number} of {stages}") };
        stage_note(&name, phase, share, producers)
    };
    let mut lines: Vec<String> = phases.iter().zip(shares).map(line).take(limits::STAGES_TOLD_MAX).collect();
    if phases.len() > lines.len() {
        let more = (phases.len() - lines.len()) as u64;
        lines.push(format!("and {} more", units::format_counted(more, "stage")));
    }
    lines
}

/// Which of the two ends the run, where `--duration` and the stages each say how long it is.
fn duration_note(wanted: &Wanted) -> Option<String> {
    let asked_ns = wanted.duration_ns.filter(|_| wanted.phased)?;
    let asked = match asked_ns {
        u64::MAX => "--duration inf".to_owned(),
        ns => format!("--duration {}", units::format_duration(ns).replace(' ', "")),
    };
    let (reached, all) = (stages::reached(wanted).count(), wanted.stages.len());
    let lengths = wanted.stages.iter().map(|stage| stage.duration_ns.unwrap_or(u64::MAX));
    let end_ns = lengths.fold(0, u64::saturating_add);
    let whole = units::format_duration(end_ns);
    let cut = format!("{asked} ends the run in stage {reached} of the {all} of phases");
    if end_ns < asked_ns {
        Some(format!("the phases end the run after {whole}, before {asked} does"))
    } else if reached < all {
        Some(format!("{cut}: what follows is left out"))
    } else if end_ns == u64::MAX {
        // A last stage without an end of its own has that of the run.
        None
    } else {
        (end_ns > asked_ns).then(|| format!("{cut}: the phases would take {whole}"))
    }
}

/// Stages, as steps of a ramp often are, in which whole records make another rate than was asked for.
fn coarse_note(parts: &Parts) -> Option<String> {
    let measured: Vec<&PhasePlan> = parts.schedules.phases.iter().filter(|phase| !phase.warmup).collect();
    let all = u128::from(parts.sizes.mean_bytes) * parts.fleet.producers as u128 * STAGE_RECORDS_MIN;
    let is_coarse = |phase: &&PhasePlan| {
        let due = |rate: u64| u128::from(rate) * u128::from(phase.duration_ns) / 1_000_000_000;
        phase.rate_bytes_per_second.is_some_and(|rate| due(rate) < all * u128::from(phase.weight))
    };
    let coarse = measured.iter().copied().filter(is_coarse).count() as u64;
    (measured.len() > 1 && coarse > 0).then(|| {
        let stages = units::format_counted(coarse, "stage");
        format!(
            "{stages} with fewer than {STAGE_RECORDS_MIN} records of each producer: they are whole, so that the rate may \
             be higher than asked for"
        )
    })
}

/// Where fewer records fall due before a request goes than it is asked to have.
fn request_note(parts: &Parts) -> Option<String> {
    let asked = parts.remotes.iter().find_map(|to| match to {
        TargetPlan::Http(http) => Some(http.records_per_request),
        _ => None,
    })?;
    let phases = parts.schedules.phases.iter();
    let logical = |phase: &PhasePlan| Some(u128::from(phase.rate_bytes_per_second?) / u128::from(phase.weight));
    let fastest = phases.map(logical).collect::<Option<Vec<_>>>()?.into_iter().max()?;
    let each = (fastest / parts.fleet.producers as u128).max(1);
    let wait_ns = |records: u64| u128::from(records) * u128::from(parts.sizes.mean_bytes) * 1_000_000_000 / each;
    let had = 1 + u128::from(parts.linger_ns) / wait_ns(1).max(1);
    (had < u128::from(asked)).then(|| {
        let linger = units::format_duration(parts.linger_ns);
        let filled = units::format_duration(u64::try_from(wait_ns(asked)).unwrap_or(u64::MAX)).replace(' ', "");
        let records = units::format_counted(had as u64, "record");
        format!(
            "a request has about {records} at this rate, not --http-records-per-request {asked}: it goes after --linger \
             {linger}, and --linger={filled} fills it"
        )
    })
}

/// Templates that become something else than their names say.
fn template_notes(parts: &Parts) -> Vec<String> {
    let PayloadSource::Templates(files) = &parts.payload.source else { return Vec::new() };
    let (annotate, is_headed) = (parts.payload.annotate, parts.payload.headed);
    let has_placeholders = |file: &&TemplateFile| placeholders::find(&file.bytes).is_ok_and(|found| !found.is_empty());
    let literal = files.iter().find(|file| annotate != Annotate::Payload && has_placeholders(file)).map(|file| {
        format!("the placeholders of template '{}' are sent as they stand; --annotate=payload fills them in", file.name)
    });
    let is_sent = !parts.remotes.is_empty();
    let headed = files.iter().find(|file| is_sent && is_headed && template::is_named_json(&file.name)).map(|file| {
        format!(
            "records of template '{}' begin with a binary header of {HEADER_BYTES} B and so are no JSON; a placeholder such \
             as {{{{sequence}}}}, or --annotate=headers, leaves them text",
            file.name
        )
    });
    literal.into_iter().chain(headed).collect()
}

/// `stage 2 of 3: burst of 500 ms in each 2 s, for 60 s, at 100 MB/s = 2 × 50 MB/s (800 Mbit/s)`.
fn stage_note(name: &str, phase: &PhasePlan, share: &PhaseShare, producers: usize) -> String {
    let mode = match share.schedule {
        Schedule::Burst { on_ns, off_ns, .. } => {
            let (on, cycle) = (units::format_duration(on_ns), units::format_duration(on_ns.saturating_add(off_ns)));
            format!("burst of {on} in each {cycle}")
        }
        _ => phase.mode(share).to_owned(),
    };
    let length = match phase.duration_ns {
        u64::MAX => "without an end".to_owned(),
        ns => format!("for {}", units::format_duration(ns)),
    };
    let unlimited = || "as fast as the target takes it".to_owned();
    let rate = schedule::rate_note(phase, producers).map_or_else(unlimited, |rate| format!("at {rate}"));
    format!("{name}: {mode}, {length}, {rate}")
}

/// For each file target: what it takes, where, on which file system and drive.
fn places(parts: &Parts, sysfs: &Sysfs) -> Vec<String> {
    let count = parts.targets.places.len();
    let mut lines = Vec::new();
    for (at, place) in parts.targets.places.iter().enumerate() {
        let files: Vec<_> = parts
            .files
            .iter()
            .enumerate()
            .filter(|(k, _)| k % count == at)
            .filter_map(|(_, file)| file.as_ref())
            .collect();
        let Some(first) = files.first() else { continue };
        let shown = place.path().display();
        let what = match first.layout {
            FileLayout::Ring { capacity_bytes } => {
                let total_bytes = capacity_bytes.saturating_mul(files.len() as u64);
                let [total, each] = units::format_sizes_alike([total_bytes, capacity_bytes]);
                format!("{total} ({} × {each}, overwritten in place{})", files.len(), unused(parts, capacity_bytes))
            }
            FileLayout::Rotating { limit_bytes, retain } => {
                let size = units::format_size(limit_bytes);
                let kept = retain.map_or("all kept".to_owned(), |n| format!("{n} kept"));
                let free = units::format_size(first.min_free_bytes);
                format!("files of at most {size} ({kept}) until {free} are left free")
            }
            FileLayout::Device { capacity_bytes: u64::MAX } => "a special file".to_owned(),
            FileLayout::Device { capacity_bytes } => {
                format!("all {} of the device{}", units::format_size(capacity_bytes), unused(parts, capacity_bytes))
            }
        };
        let direct = if first.direct { "O_DIRECT" } else { "through the page cache" };
        let on = match host_fs::facts(sysfs, place.path()) {
            Ok(facts) if !matches!(place, Place::Block { .. } | Place::Special(_)) => {
                // A drive of a virtual machine tells no model.
                let model = facts.device_model.unwrap_or_else(|| "model not told".to_owned());
                let drive = facts.device_name.map(|name| format!(" on {name} ({model})")).unwrap_or_default();
                format!(", {}{drive}", facts.kind)
            }
            _ => String::new(),
        };
        lines.push(format!("{shown}: {what}{on}, {direct}"));
    }
    lines
}

/// What of a preallocated file is never written, where that is more than a block.
fn unused(parts: &Parts, capacity_bytes: u64) -> String {
    let lap_bytes = geometry::lap_bytes(&parts.sizes, &parts.blocks, parts.ring_bytes_per_lane, capacity_bytes);
    let left_bytes = capacity_bytes - lap_bytes;
    if left_bytes <= parts.blocks.block_bytes {
        return String::new();
    }
    let [_, left] = units::format_sizes_alike([capacity_bytes, left_bytes]);
    format!(", of which the last {left} stay unused: a lap is whole rounds of the payload ring")
}

/// Sizes that were asked for and have no room in what is overwritten in place.
fn size_notes(parts: &Parts, wanted: &Wanted) -> Vec<String> {
    let capacities = parts.files.iter().flatten().map(|file| capacity(&file.layout));
    let capacity_bytes = capacities.min().unwrap_or(u64::MAX);
    let note = |flag: &str, asked: Option<u64>, most: u64, bytes: u64, why: &str| {
        let asked = units::format_size(asked.filter(|asked| *asked > most)?);
        let [bytes, room] = [bytes, capacity_bytes].map(units::format_size);
        Some(format!("--{flag} {asked} is cut to {bytes}: {why} into {room} that is overwritten in place"))
    };
    let (block_bytes, ring_bytes) = (parts.blocks.block_bytes, parts.ring_bytes_per_lane);
    let block = note("block-size", wanted.block_bytes, capacity_bytes / 2, block_bytes, "two blocks must fit");
    let ring = note("ring-size", wanted.ring_bytes, capacity_bytes, ring_bytes, "it must fit");
    let (place, blocks) = ((parts.targets.kind, capacity_bytes), (&parts.blocks, parts.io));
    let depth = geometry::depth_note(wanted, place, blocks, ring_bytes);
    block.into_iter().chain(ring).chain(depth).collect()
}

/// Thresholds on the rate that the rate asked for does not reach, or only just.
fn slo_notes(parts: &Parts, wanted: &Wanted) -> Vec<String> {
    let fleet = f64::from(wanted.shard.1);
    let mut notes = Vec::new();
    for slo in &wanted.slo {
        let rate = match slo.metric {
            SloMetric::Rate => rate_max(parts, |rate, _| Some(rate)),
            SloMetric::RecordsPerSecond => rate_max(parts, |rate, weight| {
                let (bytes, records) = parts.sizes.mean()?;
                Some(rate * records as f64 / (bytes * weight) as f64)
            }),
            SloMetric::ResponseQuantile(_) | SloMetric::Errors | SloMetric::NotSent => None,
        };
        let is_floor = matches!(slo.comparison, Comparison::GreaterOrEqual | Comparison::Greater | Comparison::Equal);
        let Some(asked) = rate.map(|rate| rate * fleet) else { continue };
        let reached = asked * RATE_REACHED;
        if !is_floor || slo.threshold <= reached {
            continue;
        }
        let (asked_for, safe) = match slo.metric {
            SloMetric::Rate => (units::format_rate_short(asked), format!("rate>={}", rate_below(reached))),
            _ => {
                let shown = (asked * 100.0).round() / 100.0;
                let records = if shown == 1.0 { "record" } else { "records" };
                (format!("{shown} {records}/s"), format!("records_per_second>={}", (reached * 100.0).floor() / 100.0))
            }
        };
        let expression = &slo.expression;
        notes.push(if slo.threshold * RATE_REACHED > asked {
            format!("--slo {expression} cannot be met at the rate asked for, {asked_for}; {safe} is safe")
        } else {
            format!(
                "--slo {expression} leaves no room below the rate asked for: the time that the last records take \
                 counts as well, and it may be missed by a hair; {safe} is safe"
            )
        });
    }
    notes
}

/// With three digits, none of them rounded up.
fn rate_below(reached: f64) -> String {
    let step = 10f64.powi(reached.max(1.0).log10().floor() as i32 - 2);
    units::format_rate_short((reached / step).floor() * step).replace(' ', "")
}

/// The highest rate of all measured phases in the measure that `of` makes of bytes a second and weight; `None` where
/// one has no rate, or comes in bursts, which a run may end in the middle of.
fn rate_max(parts: &Parts, of: impl Fn(f64, u64) -> Option<f64>) -> Option<f64> {
    let mut shares = parts.schedules.shares.iter().flatten();
    if shares.any(|share| matches!(share.schedule, Schedule::Burst { .. })) {
        return None;
    }
    let measured = parts.schedules.phases.iter().filter(|phase| !phase.warmup);
    let rates = measured.map(|phase| of(phase.rate_bytes_per_second? as f64, phase.weight));
    rates.collect::<Option<Vec<_>>>()?.into_iter().reduce(f64::max)
}

/// What the warm-up and what follows it let the run send, each as `None` where no end is known. Limits of records and
/// bytes are those of what follows.
fn bytes_max(phases: &[PhasePlan], sizes: &Sizes, wanted: &Wanted, producers: usize) -> (Option<u64>, Option<u64>) {
    let paced = |warmup| paced_bytes(phases, warmup);
    let records = wanted.records.map(|records| records.saturating_mul(sizes.max_bytes));
    let rounded_up = |bytes: u64| match sizes.fixed() {
        Some(size) => bytes.div_ceil(size).saturating_mul(size),
        // By each of the producers that have a part of it.
        None => {
            let parts = schedule::parts_of_bytes(wanted, producers, sizes) as u64;
            bytes.saturating_add(parts.saturating_mul(sizes.max_bytes))
        }
    };
    (paced(true), paced(false).into_iter().chain(records).chain(wanted.bytes.map(rounded_up)).min())
}

/// What those phases send at their rates; `None`: one has no rate or no end.
fn paced_bytes(phases: &[PhasePlan], warmup: bool) -> Option<u64> {
    let bytes = phases.iter().filter(|phase| phase.warmup == warmup).map(|phase| {
        let rate = phase.rate_bytes_per_second.filter(|_| phase.duration_ns != u64::MAX)?;
        Some(u128::from(rate) * u128::from(phase.duration_ns) / u128::from(phase.weight) / 1_000_000_000)
    });
    bytes.sum::<Option<u128>>().map(|sum| u64::try_from(sum).unwrap_or(u64::MAX))
}

/// What the phases, or the limits of records and bytes, let the run send; `None`: no end is known.
pub fn payload_bytes_max(phases: &[PhasePlan], sizes: &Sizes, wanted: &Wanted, producers: usize) -> Option<u64> {
    let (warm, measured) = bytes_max(phases, sizes, wanted, producers);
    Some(warm?.saturating_add(measured?))
}

/// The same of each producer; `u64::MAX`: no end is known.
pub fn producer_bytes_max(phases: &[PhasePlan], sizes: &Sizes, wanted: &Wanted, producers: usize) -> u64 {
    // What is dealt out is rounded up to whole records.
    let parts = schedule::parts_of_bytes(wanted, producers, sizes).max(1) as u64;
    let share = |bytes: u64| bytes.div_ceil(parts).saturating_add(sizes.max_bytes);
    payload_bytes_max(phases, sizes, wanted, producers).map_or(u64::MAX, share)
}

/// How many bytes the run may write.
fn written(parts: &Parts, wanted: &Wanted) -> String {
    let length_ns = |warmup: bool| {
        let phases = parts.schedules.phases.iter().filter(|phase| phase.warmup == warmup);
        phases.fold(0u64, |sum, phase| sum.saturating_add(phase.duration_ns))
    };
    let (warmup_ns, measured_ns) = (length_ns(true), length_ns(false));
    match bytes_max(&parts.schedules.phases, &parts.sizes, wanted, parts.fleet.producers) {
        (Some(warm), Some(most)) => format!("writes about {} at most", units::format_amount(warm.saturating_add(most))),
        (None, Some(most)) => format!(
            "writes as much as the target takes in a warm-up of {}, then about {} at most",
            units::format_duration(warmup_ns),
            units::format_amount(most)
        ),
        (_, None) if measured_ns == u64::MAX => "writes as fast as the target takes it, until it is stopped".to_owned(),
        (_, None) => {
            let whole_ns = warmup_ns.saturating_add(measured_ns);
            format!("writes as much as the target takes in {}", units::format_duration(whole_ns))
        }
    }
}
