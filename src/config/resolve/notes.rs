//! What the user should know before the start, one line each.

use crate::base::units;
use crate::config::resolve::Parts;
use crate::config::resolve::network;
use crate::config::resolve::rates;
use crate::config::resolve::schedule;
use crate::config::resolve::target::Place;
use crate::config::values::Wanted;
use crate::host::{Sysfs, fs as host_fs};
use crate::plan::FileLayout;

pub fn add(parts: &mut Parts, wanted: &Wanted, sysfs: &Sysfs) {
    let mut lines: Vec<String> = Vec::new();
    for phase in &parts.schedules.phases {
        if let Some(line) = schedule::rate_note(phase, parts.fleet.producers).filter(|line| !lines.contains(line)) {
            lines.push(line);
        }
    }
    lines.extend(rates::record_notes(wanted, &parts.sizes));
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

/// What the phases, or the limits of records and bytes, let the run send; `None`: no end is known.
pub fn payload_bytes_max(parts: &Parts, wanted: &Wanted) -> Option<u64> {
    let mut paced = Some(0u128);
    for phase in &parts.schedules.phases {
        let bytes = phase
            .rate_bytes_per_second
            .filter(|_| phase.duration_ns != u64::MAX)
            .map(|rate| u128::from(rate) * u128::from(phase.duration_ns) / u128::from(phase.weight) / 1_000_000_000);
        paced = paced.zip(bytes).map(|(sum, bytes)| sum + bytes);
    }
    let paced = paced.map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX));
    let records = wanted.records.map(|records| records.saturating_mul(parts.sizes.max_bytes));
    paced.into_iter().chain(records).chain(wanted.bytes).min()
}

/// How many bytes the run may write.
fn written(parts: &Parts, wanted: &Wanted) -> String {
    let length_ns = parts.schedules.phases.iter().fold(0u64, |sum, phase| sum.saturating_add(phase.duration_ns));
    match (payload_bytes_max(parts, wanted), length_ns) {
        (Some(most), _) => format!("writes about {} at most", units::format_size(most)),
        (None, u64::MAX) => "writes as fast as the target takes it, until it is stopped".to_owned(),
        (None, ns) => format!("writes as much as the target takes in {}", units::format_duration(ns)),
    }
}
