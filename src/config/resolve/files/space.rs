//! Room on file systems: what stays free, what a run may take, and whether there is as much.

use super::Names;
use crate::base::fatal::Fatal;
use crate::base::limits::FOOTPRINT_BYTES_DEFAULT;
use crate::base::units;
use crate::config::values::{MinFree, Wanted};
use crate::host::Sysfs;
use crate::host::fs::{self as host_fs, FsFacts};
use crate::plan::{FileLayout, FilePlan};
use crate::sink::file::{names, open};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const MIB: u64 = 1 << 20;
/// A run that is not told takes at most this part of the free space.
const FREE_PART: u64 = 4;
const MIN_FREE_BYTES_DEFAULT: u64 = 20 << 30;

/// What stays free on a file system.
pub fn min_free(wanted: &Wanted, facts: &FsFacts) -> u64 {
    match wanted.min_free {
        Some(MinFree::Bytes(bytes)) => bytes,
        Some(MinFree::Share(share)) => (facts.total_bytes as f64 * share) as u64,
        None => default_min_free(facts),
    }
}

fn default_min_free(facts: &FsFacts) -> u64 {
    (facts.total_bytes / 10).min(MIN_FREE_BYTES_DEFAULT)
}

/// Disk space that a file already holds.
fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |facts| if facts.is_file() { facts.blocks() * 512 } else { 0 })
}

/// Disk space that a run which rotates gives back before it takes any. Where it may not, it does not start.
fn given_back(plan: &FilePlan) -> u64 {
    let rotated = names::rotated(&plan.data).unwrap_or_default();
    let there = [plan.data.clone(), names::next_path(&plan.data)].into_iter().chain(rotated);
    there.map(|path| allocated(&path)).fold(0, u64::saturating_add)
}

/// What files may take of so much free space, all but what stays free, and what they should: a part of it at the most.
fn room(free: u64, kept: u64) -> (u64, u64) {
    let room = free.saturating_sub(kept);
    (room, room.min(free / FREE_PART))
}

/// What files made at `path` by a run without `--min-free` may take, and what they should, as by default. `None`: nobody
/// knows.
pub fn room_at(path: &Path, sysfs: &Sysfs) -> Option<(u64, u64)> {
    let facts = host_fs::facts(sysfs, path).ok()?;
    Some(room(facts.available_bytes, default_min_free(&facts)))
}

/// The smaller of 16 GiB and a quarter of the free space, own files counted as free.
pub fn default_footprint(wanted: &Wanted, names: &[Names], sysfs: &Sysfs, errors: &mut Vec<Fatal>) -> u64 {
    let Some(first) = names.first() else { return FOOTPRINT_BYTES_DEFAULT };
    let Ok(facts) = host_fs::facts(sysfs, &first.data) else { return FOOTPRINT_BYTES_DEFAULT };
    let own: u64 = names.iter().map(|names| allocated(&names.data)).sum();
    let free = facts.available_bytes.saturating_add(own);
    let (_, polite) = room(free, min_free(wanted, &facts));
    let total = FOOTPRINT_BYTES_DEFAULT.min(polite);
    if total < names.len() as u64 * MIB {
        let (free, floor) = (units::format_size(free), units::format_size(min_free(wanted, &facts)));
        let what = format!("{} has {free} free, of which --min-free keeps {floor}", shown(&first.data).display());
        let mend = "free some space, a smaller --min-free, or --target=file:PATH on another drive";
        errors.push(Fatal::host(what).mend(mend));
        return FOOTPRINT_BYTES_DEFAULT;
    }
    // Files of an earlier run keep their length while it is near the default, which moves with the free space, and
    // below it, which is the most that was promised.
    let each = total / names.len() as u64 / MIB * MIB;
    let length = |names: &Names| std::fs::metadata(&names.data).map_or(0, |facts| facts.len());
    let kept = names.iter().map(length).collect::<BTreeSet<_>>();
    let kept = kept.first().copied().filter(|length| kept.len() == 1 && (each / 2..=each).contains(length));
    kept.unwrap_or(each) * names.len() as u64
}

/// What to call the place of a data file: its folder, where the user named one.
fn shown(data: &Path) -> &Path {
    data.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(data)
}

/// New space on each file system against what is to stay free, own files counted as free.
pub fn check_space(plans: &[FilePlan], sysfs: &Sysfs, errors: &mut Vec<Fatal>) {
    let mut needs: BTreeMap<String, (u64, &Path, u64, u64)> = BTreeMap::new();
    for plan in plans.iter().filter(|plan| !matches!(plan.layout, FileLayout::Device { .. })) {
        let Ok(facts) = host_fs::facts(sysfs, &plan.data) else { continue };
        let (new, own) = match plan.layout {
            FileLayout::Ring { capacity_bytes } => (capacity_bytes.saturating_sub(allocated(&plan.data)), 0),
            // The active file and the next one are allocated before they are written.
            FileLayout::Rotating { .. } => {
                let new = open::allocation_bytes(plan, 0).saturating_add(open::allocation_bytes(plan, 1));
                (new, given_back(plan))
            }
            FileLayout::Device { .. } => (0, 0),
        };
        let entry = (facts.available_bytes, shown(&plan.data), 0, plan.min_free_bytes);
        let entry = needs.entry(facts.device).or_insert(entry);
        entry.0 = entry.0.saturating_add(own);
        entry.2 = entry.2.saturating_add(new);
    }
    for (free, shown, new, floor) in needs.into_values() {
        if free < new.saturating_add(floor) {
            let [free, floor] = [free, floor].map(units::format_size);
            let (shown, taken) = (shown.display(), units::format_size(new));
            let (what, smaller) = match new {
                0 => (format!("{free} free, less than the {floor} that --min-free keeps"), "--min-free"),
                _ => (
                    format!("{free} free; the run would take {taken}, and --min-free keeps {floor}"),
                    "--preallocate, --footprint, --rotate-size-mb or --min-free",
                ),
            };
            let mend = format!("free some space, or a smaller {smaller}");
            errors.push(Fatal::host(format!("{shown} has {what}")).mend(mend));
        }
    }
}
