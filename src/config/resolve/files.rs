//! File targets: where each producer writes, how much, and what already lies there.

mod space;

use crate::base::fatal::Fatal;
use crate::base::{paths, program, units};
use crate::config::load::Settings;
use crate::config::resolve::device;
use crate::config::resolve::geometry::Blocks;
use crate::config::resolve::payload::Sizes;
use crate::config::resolve::schedule::Fleet;
use crate::config::resolve::target::{Place, Targets};
use crate::config::values::Wanted;
use crate::host::Sysfs;
use crate::host::fs as host_fs;
use crate::manifest::beside_device;
use crate::plan::{Existing, FileLayout, FilePlan, Fsync, ReportTarget};
use crate::sink::file::{existing, open};
pub use space::room_at;
use space::{check_space, default_footprint, min_free};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

const MIB: u64 = 1 << 20;
const ROTATE_MIB_DEFAULT: u64 = 50;

/// Data file, manifest and audit log of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub data: PathBuf,
    pub manifest: PathBuf,
    pub log: PathBuf,
}

/// `alone`: no other producer of the fleet shares the path.
pub fn names(place: &Place, id: u64, alone: bool) -> Names {
    let data = match place {
        Place::Folder(folder) => folder.join(format!("payloads.{id}.bin")),
        Place::File(path) if !alone => numbered(path, id),
        Place::File(path) => path.clone(),
        Place::Special(path) | Place::Block { path, .. } => {
            let [manifest, log] = ["json", "log"].map(|extension| beside_device(path, extension));
            return Names { data: path.clone(), manifest, log };
        }
    };
    let bare = place.path().extension().is_none() && matches!(place, Place::File(_));
    let beside = |extension: &str, instead: &str| {
        if bare {
            return PathBuf::from(format!("{}.{extension}", data.display()));
        }
        let taken = data.extension().is_some_and(|own| own.eq_ignore_ascii_case(extension));
        data.with_extension(if taken { instead } else { extension })
    };
    let (manifest, log) = (beside("json", "manifest.json"), beside("log", "audit.log"));
    Names { data, manifest, log }
}

/// `out.bin` → `out.3.bin`.
fn numbered(path: &Path, id: u64) -> PathBuf {
    let extension = path.extension().map(|own| format!(".{}", own.to_string_lossy())).unwrap_or_default();
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!("{stem}.{id}{extension}"))
}

/// What the producers write to.
pub struct Seats {
    pub targets: Targets,
    /// (id, index of its target) of each producer.
    pub producers: Vec<(u64, usize)>,
    /// More processes than this one.
    pub sharded: bool,
}

impl Seats {
    /// Producers are dealt to the targets round robin.
    pub fn new(targets: Targets, fleet: Fleet, wanted: &Wanted) -> Self {
        let seat = |k: usize| (fleet.first_id + k as u64, k % targets.count());
        let producers = (0..fleet.producers).map(seat).collect();
        Self { targets, producers, sharded: wanted.shard.1 > 1 }
    }

    /// What each producer writes, and how it is laid out, before blocks are chosen; nothing where targets are no files.
    pub fn laid_out(
        &self,
        wanted: &Wanted,
        sizes: &Sizes,
        sysfs: &Sysfs,
        errors: &mut Vec<Fatal>,
    ) -> (Vec<Names>, Vec<FileLayout>) {
        if self.targets.places.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let names = self.names();
        let layouts = layouts(wanted, self, &names, sizes, sysfs, errors);
        (names, layouts)
    }

    pub fn names(&self) -> Vec<Names> {
        let mut counts = BTreeMap::new();
        for (_, target) in &self.producers {
            *counts.entry(*target).or_insert(0u32) += 1;
        }
        let alone = |target: &usize| counts[target] == 1 && !self.sharded;
        self.producers.iter().map(|(id, target)| names(&self.targets.places[*target], *id, alone(target))).collect()
    }
}

fn layouts(
    wanted: &Wanted,
    seats: &Seats,
    names: &[Names],
    sizes: &Sizes,
    sysfs: &Sysfs,
    errors: &mut Vec<Fatal>,
) -> Vec<FileLayout> {
    reject_mixed(wanted, seats, errors);
    let rotating = wanted.rotate_mib.is_some() || wanted.retain.is_some();
    let capacity = match (wanted.preallocate_bytes, wanted.footprint_bytes) {
        (Some(bytes), _) => Some(("--preallocate", bytes)),
        (None, Some(total)) => Some(("--footprint", total / seats.producers.len().max(1) as u64)),
        (None, None) if seats.targets.baseline && !rotating => {
            let total = default_footprint(wanted, names, sysfs, errors);
            Some(("the default footprint", total / names.len().max(1) as u64))
        }
        (None, None) => None,
    };
    let limit_bytes = rotation_limit(wanted, sizes, errors);
    check_laps(seats, capacity, sizes, errors);
    let layout = |(_, target): &(u64, usize)| match (&seats.targets.places[*target], capacity) {
        (Place::Block { capacity_bytes, .. }, _) => FileLayout::Device { capacity_bytes: *capacity_bytes },
        (Place::Special(_), _) => FileLayout::Device { capacity_bytes: u64::MAX },
        (_, Some((_, capacity_bytes))) => FileLayout::Ring { capacity_bytes },
        (_, None) => FileLayout::Rotating { limit_bytes, retain: wanted.retain.flatten() },
    };
    seats.producers.iter().map(layout).collect()
}

/// A lap is made of whole rounds of the payload: of all templates, or of two records at least.
fn check_laps(seats: &Seats, capacity: Option<(&str, u64)>, sizes: &Sizes, errors: &mut Vec<Fatal>) {
    let two = sizes.max_bytes.saturating_mul(2);
    let (least, of_what) = match sizes.cycle_bytes {
        cycle if cycle > two => (cycle, format!("all {} templates, {},", sizes.count, units::format_size(cycle))),
        _ => (two, format!("two records of {}", units::format_size(sizes.max_bytes))),
    };
    if let Some((flag, bytes)) = capacity.filter(|(_, bytes)| *bytes < least) {
        let what = format!("{flag} leaves {} for each producer; {of_what} must fit", units::format_size(bytes));
        let mend = match flag {
            "--preallocate" => format!("--preallocate={least}"),
            _ => format!("--footprint={}", least.saturating_mul(seats.producers.len() as u64)),
        };
        errors.push(Fatal::usage(what).mend(mend));
    }
    for place in &seats.targets.places {
        if let Place::Block { path, capacity_bytes, .. } = place
            && *capacity_bytes < least
        {
            let what = format!("{} has {}; {of_what} must fit", path.display(), units::format_size(*capacity_bytes));
            errors.push(Fatal::usage(what).mend("a larger device, or smaller records"));
        }
    }
}

fn reject_mixed(wanted: &Wanted, seats: &Seats, errors: &mut Vec<Fatal>) {
    let ring = wanted.preallocate_bytes.map(|_| "--preallocate").or(wanted.footprint_bytes.map(|_| "--footprint"));
    let rotate = wanted.rotate_mib.map(|_| "--rotate-size-mb").or(wanted.retain.map(|_| "--retain"));
    if let (Some(ring), Some(rotate)) = (ring, rotate) {
        let what = format!("{ring} overwrites in place, {rotate} is about rotation: both cannot be");
        errors.push(Fatal::usage(what).mend(format!("leave out {ring} or {rotate}")));
    }
    if wanted.preallocate_bytes.is_some() && wanted.footprint_bytes.is_some() {
        let what = "--preallocate (each producer) and --footprint (all of them) say the same thing twice";
        errors.push(Fatal::usage(what).mend("leave out one of them"));
    }
    let mut counts = BTreeMap::new();
    for (_, target) in &seats.producers {
        *counts.entry(*target).or_insert(0) += 1;
    }
    for (target, count) in counts {
        let place = &seats.targets.places[target];
        if count > 1 && place.is_device() {
            let what = format!("{} takes one producer; it would get {count}", place.path().display());
            errors.push(Fatal::usage(what).mend(format!("--parallel={}", seats.targets.places.len())));
        }
    }
}

/// Rotation in bytes: what was asked, or the default with room for at least one record.
fn rotation_limit(wanted: &Wanted, sizes: &Sizes, errors: &mut Vec<Fatal>) -> u64 {
    let Some(mib) = wanted.rotate_mib else { return (ROTATE_MIB_DEFAULT * MIB).max(sizes.max_bytes) };
    let bytes = mib.saturating_mul(MIB);
    if bytes < sizes.max_bytes {
        let record = units::format_size(sizes.max_bytes);
        let what = format!("--rotate-size-mb {mib}: no record of {record} fits");
        errors.push(Fatal::usage(what).mend(format!("--rotate-size-mb={}", sizes.max_bytes.div_ceil(MIB))));
    }
    bytes
}

/// The plans, checked against what is there: data of others, space, permissions. `run_bytes_max` is of each.
pub fn plans(
    settings: &Settings,
    wanted: &Wanted,
    seats: &Seats,
    (names, layouts): (&[Names], &[FileLayout]),
    (blocks, sizes, run_bytes_max): (&Blocks, &Sizes, u64),
    (sysfs, errors): (&Sysfs, &mut Vec<Fatal>),
) -> Vec<FilePlan> {
    if seats.targets.places.is_empty() {
        return Vec::new();
    }
    reject_collisions(names, wanted.audit_every > 0, errors);
    if let Some(ReportTarget::File(report)) = &wanted.report {
        reject_report("report", report, names, errors);
    }
    if let Some(page) = &wanted.html {
        reject_report("html", page, names, errors);
    }
    let (mut plans, began) = (Vec::new(), Instant::now());
    for ((names, layout), (_, target)) in names.iter().zip(layouts).zip(&seats.producers) {
        let place = &seats.targets.places[*target];
        match place {
            Place::Block { path, device, .. } => {
                device::check(path, device, &wanted.overwrite_device, sysfs, errors);
                check_beside_device(path, paths::folder(&names.manifest), errors);
            }
            Place::Special(_) => {}
            Place::Folder(_) | Place::File(_) => check_creatable(&names.data, errors),
        }
        let no_file = if place.is_device() { None } else { device::in_place_of_file(&names.data, sysfs) };
        let facts = host_fs::facts(sysfs, &names.data).ok();
        let on_device = matches!(layout, FileLayout::Device { .. });
        let plan = FilePlan {
            data: names.data.clone(),
            manifest: names.manifest.clone(),
            log: (wanted.audit_every > 0).then(|| names.log.clone()),
            log_place: names.log.clone(),
            layout: *layout,
            direct: blocks.direct,
            align: blocks.align,
            // /dev/null and its like have nothing to make durable, and refuse the call.
            fsync: if matches!(place, Place::Special(_)) { Fsync::Never } else { wanted.fsync },
            min_free_bytes: if on_device { 0 } else { facts.as_ref().map_or(0, |facts| min_free(wanted, facts)) },
            run_bytes_max: filled_bytes_max(run_bytes_max, *layout, sizes),
            existing: fate_of_existing(names, seats.targets.baseline, wanted.overwrite),
        };
        errors.extend(no_file.map_or_else(|| what_keeps_it(&plan, wanted, began), |no_file| vec![no_file]));
        plans.push(plan);
    }
    let mut drives = Vec::new();
    for place in &seats.targets.places {
        if let Place::Block { device, .. } = place {
            drives.push(device.as_str());
        }
    }
    if !drives.is_empty() {
        device::reject_strangers(&drives, &wanted.overwrite_device, sysfs, errors);
    } else if settings.is_given("overwrite-device") {
        let what = "--overwrite-device is given, but no target is a block device";
        errors.push(Fatal::usage(what).mend("--target=file:/dev/DEVICE, or leave it out"));
    }
    check_space(&plans, sysfs, errors);
    plans
}

/// Where a run still writes, `--overwrite` is no advice.
fn what_keeps_it(plan: &FilePlan, wanted: &Wanted, began: Instant) -> Vec<Fatal> {
    let in_the_way = existing::in_the_way(plan, wanted.run_id.as_deref());
    let in_use = if in_the_way.is_empty() { None } else { open::in_use(plan, began) };
    in_use.map_or(in_the_way, |in_use| vec![in_use])
}

/// What a run of so many bytes would write if it filled each file to its limit. Each ends before the record that does
/// not fit.
fn filled_bytes_max(run_bytes_max: u64, layout: FileLayout, sizes: &Sizes) -> u64 {
    let FileLayout::Rotating { limit_bytes, .. } = layout else { return run_bytes_max };
    let least_bytes = match sizes.fixed() {
        Some(record_bytes) => limit_bytes / record_bytes.max(1) * record_bytes,
        None => limit_bytes.saturating_sub(sizes.max_bytes - 1).max(sizes.min_bytes),
    };
    // Where not even one record fits, the run is refused.
    let least_bytes = least_bytes.clamp(1, limit_bytes.max(1));
    let filled = (u128::from(run_bytes_max) * u128::from(limit_bytes)).div_ceil(u128::from(least_bytes));
    u64::try_from(filled).unwrap_or(u64::MAX)
}

fn reject_collisions(names: &[Names], logs: bool, errors: &mut Vec<Fatal>) {
    let mut seen = BTreeSet::new();
    for names in names {
        let log = logs.then_some(&names.log);
        for path in [&names.data, &names.manifest].into_iter().chain(log) {
            let path = paths::end(path);
            if !seen.insert(path.clone()) {
                let what = format!("two producers would write to {}", path.display());
                errors.push(Fatal::usage(what).mend("a different PATH for each --target"));
            }
        }
    }
}

/// A report in the place of data, a manifest or a log would destroy it at the end of the run.
fn reject_report(flag: &str, report: &Path, names: &[Names], errors: &mut Vec<Fatal>) {
    let end = paths::end(report);
    for path in names.iter().flat_map(|names| [&names.data, &names.manifest, &names.log]) {
        if paths::end(path) == end {
            let what = format!("--{flag} '{}' is a file that the run itself keeps", report.display());
            errors.push(Fatal::usage(what).mend(format!("--{flag}=another place")));
            return;
        }
    }
}

fn fate_of_existing(names: &Names, baseline: bool, overwrite: bool) -> Existing {
    match (overwrite, baseline) {
        (true, _) => Existing::Replaced,
        (false, true) => Existing::Reused,
        (false, false) => Existing::Refused { manifest: names.manifest.exists() },
    }
}

fn check_creatable(data: &Path, errors: &mut Vec<Fatal>) {
    let there = host_fs::nearest_existing(data);
    let shown = there.display();
    if there.as_path() != data && !there.is_dir() {
        let what = format!("{} cannot be made: {shown} is no folder", data.display());
        errors.push(Fatal::usage(what).mend("another PATH"));
    } else if let Err(why) = crate::sys::fs::check_write(&there) {
        errors.push(unwritable(data, &there, &why));
    }
}

/// The working folder was not asked for as a place of data: its rights and its drive stay as they are.
fn check_beside_device(device: &Path, folder: &Path, errors: &mut Vec<Fatal>) {
    if let Err(why) = crate::sys::fs::check_write(folder) {
        let device = device.display();
        let what = format!("{device}: its manifest belongs in the working folder, which cannot be written: {why}");
        errors.push(Fatal::host(what).mend("start in a folder that can be written"));
    }
}

/// What keeps this process from writing there, and who can change it.
pub(super) fn unwritable(data: &Path, there: &Path, why: &io::Error) -> Fatal {
    let (data, folder, there) = (data.display(), program::quoted_path(there), there.display());
    if why.kind() == io::ErrorKind::ReadOnlyFilesystem {
        return Fatal::host(format!("{data} cannot be written: {there} is mounted read-only"))
            .mend(format!("sudo mount -o remount,rw \"$(findmnt -no TARGET -T {folder})\", or another drive"));
    }
    Fatal::host(format!("{data} cannot be written: no permission on {there}"))
        .mend(format!("sudo chown \"$USER\" {folder}"))
}

#[cfg(test)]
mod tests;
