//! What the user should know before the start, one line each.

use crate::base::units;
use crate::config::resolve::Parts;
use crate::config::resolve::network;
use crate::config::resolve::rates;
use crate::config::resolve::schedule;
use crate::config::resolve::target::Place;
use crate::config::values::Wanted;
use crate::host::{Sysfs, fs as host_fs};
use crate::plan::{Comparison, FileLayout, PhasePlan, Schedule, SloMetric};

/// The part of its rate that a run reaches for sure: the time until its last records are confirmed counts, and only
/// whole records do.
const RATE_REACHED: f64 = 0.995;

pub fn add(parts: &mut Parts, wanted: &Wanted, sysfs: &Sysfs) {
    let mut lines: Vec<String> = Vec::new();
    for phase in &parts.schedules.phases {
        if let Some(line) = schedule::rate_note(phase, parts.fleet.producers).filter(|line| !lines.contains(line)) {
            lines.push(line);
        }
    }
    lines.extend(rates::record_notes(wanted, &parts.sizes));
    lines.extend(slo_notes(parts, wanted));
    lines.extend(places(parts, wanted, sysfs));
    lines.extend(network::notes(&parts.targets.remotes, &parts.remotes, parts.fleet.producers));
    lines.append(&mut parts.notes);
    parts.notes = lines;
}

/// For each file target: what it takes, where, on which file system and drive.
fn places(parts: &Parts, wanted: &Wanted, sysfs: &Sysfs) -> Vec<String> {
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
                let total = units::format_size(capacity_bytes.saturating_mul(files.len() as u64));
                let each = units::format_size(capacity_bytes);
                format!("{total} ({} × {each}, overwritten in place)", files.len())
            }
            FileLayout::Rotating { limit_bytes, retain } => {
                let size = units::format_size(limit_bytes);
                let kept = retain.map_or("all kept".to_owned(), |n| format!("{n} kept"));
                let free = units::format_size(first.min_free_bytes);
                format!("files of at most {size} ({kept}) until {free} are left free")
            }
            FileLayout::Device { capacity_bytes: u64::MAX } => "a special file".to_owned(),
            FileLayout::Device { capacity_bytes } => {
                format!("all {} of the device", units::format_size(capacity_bytes))
            }
        };
        let direct = if first.direct { "O_DIRECT" } else { "through the page cache" };
        let on = match host_fs::facts(sysfs, place.path()) {
            Ok(facts) if !matches!(place, Place::Block { .. } | Place::Special(_)) => {
                let name = facts.device_name.map(|name| format!(" on {name}")).unwrap_or_default();
                let model = facts.device_model.map(|model| format!(" ({model})")).unwrap_or_default();
                format!(", {}{name}{model}", facts.kind)
            }
            _ => String::new(),
        };
        lines.push(format!("{shown}: {what}{on}, {direct}"));
    }
    if !lines.is_empty() {
        lines.push(written(parts, wanted));
    }
    lines
}

/// Thresholds on the rate that leave no room below the rate that was asked for.
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
        let Some(reached) = rate.map(|rate| rate * fleet * RATE_REACHED) else { continue };
        if !is_floor || slo.threshold <= reached {
            continue;
        }
        let safe = match slo.metric {
            SloMetric::Rate => format!("rate>={}", units::format_rate_short(reached).replace(' ', "")),
            _ => format!("records_per_second>={}", (reached * 100.0).floor() / 100.0),
        };
        notes.push(format!(
            "--slo {} leaves no room below the rate asked for: the time that the last records take counts as well, \
             and it may be missed by a hair; {safe} is safe",
            slo.expression
        ));
    }
    notes
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
fn bytes_max(parts: &Parts, wanted: &Wanted) -> (Option<u64>, Option<u64>) {
    let paced = |warmup| paced_bytes(&parts.schedules.phases, warmup);
    let records = wanted.records.map(|records| records.saturating_mul(parts.sizes.max_bytes));
    (paced(true), paced(false).into_iter().chain(records).chain(wanted.bytes).min())
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
pub fn payload_bytes_max(parts: &Parts, wanted: &Wanted) -> Option<u64> {
    let (warm, measured) = bytes_max(parts, wanted);
    Some(warm?.saturating_add(measured?))
}

/// How many bytes the run may write.
fn written(parts: &Parts, wanted: &Wanted) -> String {
    let length_ns = |warmup: bool| {
        let phases = parts.schedules.phases.iter().filter(|phase| phase.warmup == warmup);
        phases.fold(0u64, |sum, phase| sum.saturating_add(phase.duration_ns))
    };
    let (warmup_ns, measured_ns) = (length_ns(true), length_ns(false));
    match bytes_max(parts, wanted) {
        (Some(warm), Some(most)) => format!("writes about {} at most", units::format_size(warm.saturating_add(most))),
        (None, Some(most)) => format!(
            "writes as much as the target takes in a warm-up of {}, then about {} at most",
            units::format_duration(warmup_ns),
            units::format_size(most)
        ),
        (_, None) if measured_ns == u64::MAX => "writes as fast as the target takes it, until it is stopped".to_owned(),
        (_, None) => {
            let whole_ns = warmup_ns.saturating_add(measured_ns);
            format!("writes as much as the target takes in {}", units::format_duration(whole_ns))
        }
    }
}
