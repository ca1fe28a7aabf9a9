//! What lies where a run is to write, and would be lost: data, manifests and logs of others. `--overwrite` lets go what
//! runs left there; what nobody named, and no run of ours made, stays.

use super::names;
use crate::base::fatal::Fatal;
use crate::base::{limits, paths, units};
use crate::manifest::{Layout, Manifest};
use crate::plan::{Existing, FileLayout, FilePlan};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// More than a line of an audit log has before its offset.
const HEAD_BYTES: u64 = 128;

struct Obstacle {
    what: String,
    /// A run left it, or the user named it: `--overwrite` is about that.
    may_go: bool,
}

/// Everything that keeps this lane from its place. Asked when the plan is made, and again once the data file is locked.
/// `run_id`: `None` where it is going to be a random one, which no other run has.
pub fn in_the_way(plan: &FilePlan, run_id: Option<&str>) -> Vec<Fatal> {
    let (known, manifest) = match known_manifest(plan) {
        Ok(known) => (known, None),
        Err(obstacle) => (None, Some(obstacle)),
    };
    let is_torn = manifest.as_ref().is_some_and(|manifest| manifest.may_go);
    let known = known.as_ref();
    let (logs, next) = (logs_in_the_way(plan, known, is_torn), next_in_the_way(plan, known, is_torn));
    let is_known = |id: &&str| known.is_some_and(|known| known.runs().any(|run| run == *id));
    let same_run = run_id.filter(is_known).and_then(|run_id| same_run(plan, run_id));
    let data = if same_run.is_none() { data_in_the_way(plan, known) } else { None };
    let found = manifest.into_iter().chain(data).chain(next).chain(logs);
    let stays = found.filter(|obstacle| !(obstacle.may_go && plan.existing == Existing::Replaced));
    // What belongs to a device lies in the working folder, whatever its PATH.
    let elsewhere =
        if matches!(plan.layout, FileLayout::Device { .. }) { "start in another folder" } else { "another PATH" };
    let told = |Obstacle { what, may_go }: Obstacle| {
        let lose_it = if may_go { "--overwrite to lose it" } else { "move it away" };
        Fatal::usage(what).mend(format!("{lose_it}, or {elsewhere}"))
    };
    same_run.into_iter().chain(stays.map(told)).collect()
}

/// What is overwritten in place keeps records of runs before for a while, each where the one of this run with the
/// same sequence goes: with one run id for both, a record that never reached the drive would seem to be there.
fn same_run(plan: &FilePlan, run_id: &str) -> Option<Fatal> {
    let shown = plan.data.display();
    let what = format!("{shown} holds records of an earlier run '{run_id}', which this run's could not be told from");
    let mend = match (plan.layout, plan.existing) {
        (FileLayout::Ring { .. }, Existing::Refused { .. }) => "another --run-id, and --overwrite to lose that data",
        _ => "another --run-id",
    };
    holds_others(plan).then(|| Fatal::usage(what).mend(mend))
}

/// Whether this run's records are going to lie among what is there already.
fn holds_others(plan: &FilePlan) -> bool {
    match plan.layout {
        FileLayout::Rotating { .. } => false,
        FileLayout::Ring { .. } => length_of(&plan.data) > 0,
        FileLayout::Device { .. } => true,
    }
}

/// The runs whose records this run, `run_id`, leaves where it does not overwrite them, by the manifest that is there
/// before its own.
pub fn runs_beneath(plan: &FilePlan, run_id: &str) -> Vec<String> {
    match known_manifest(plan) {
        Ok(Some(known)) if holds_others(plan) => known.before(run_id),
        _ => Vec::new(),
    }
}

/// The manifest that speaks of this lane's data. Another one in its place would be lost, and explains nothing.
fn known_manifest(plan: &FilePlan) -> Result<Option<Manifest>, Obstacle> {
    if !plan.layout.has_manifest() {
        return Ok(None);
    }
    let shown = plan.manifest.display();
    let manifest = Manifest::read(&plan.manifest).map_err(|why| Obstacle {
        what: format!("{shown} is no manifest of ours ({why})"),
        may_go: is_torn_manifest(&plan.manifest),
    })?;
    match manifest {
        Some(other) if !other.data_file.is_empty() && other.data_file != plan.data_in_manifest() => {
            Err(Obstacle { what: format!("{shown} is the manifest of {}", other.data_file), may_go: false })
        }
        known => Ok(known),
    }
}

/// Whether a file that cannot be read as a manifest is what a power cut, or damage, left of ours: nothing, zeros, or
/// JSON with our marks.
fn is_torn_manifest(path: &Path) -> bool {
    let fits = |facts: fs::Metadata| facts.is_file() && facts.len() <= limits::MANIFEST_BYTES_MAX;
    fs::metadata(path).is_ok_and(fits)
        && head_of(path).is_ok_and(|head| is_zeros(&head) || head.starts_with(b"{") && !Manifest::is_foreign(path))
}

fn head_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head).map(|_| head)
}

/// As a power cut leaves what had its length already.
fn is_zeros(head: &[u8]) -> bool {
    head.iter().all(|byte| *byte == 0)
}

/// What has the name of the file that follows the active one. A run that ended in order leaves none; one that was cut
/// short says so, or has a manifest that is torn as well.
fn next_in_the_way(plan: &FilePlan, manifest: Option<&Manifest>, is_torn: bool) -> Option<Obstacle> {
    let next = names::next_path(&plan.data);
    let rotates = matches!(plan.layout, FileLayout::Rotating { .. });
    let facts = next.symlink_metadata().ok()?;
    if let Some(manifest) = manifest.filter(|manifest| leaves_next(manifest)) {
        // It may have that run's newest records; where older ones are there as well, those are told of.
        let is_alone = facts.len() > 0 && has_no_data(plan);
        let what = format!("{} holds data of the run '{}', which was cut short", next.display(), manifest.run_id);
        return (is_alone && plan.existing != Existing::Reused).then_some(Obstacle { what, may_go: true });
    }
    if !rotates {
        return None;
    }
    let what = format!("{} is there, and no run of ours that was cut short explains it", next.display());
    Some(Obstacle { what, may_go: is_torn || facts.is_file() && facts.len() == 0 })
}

/// A run that rotated and was cut short may have left the file that was to follow.
fn leaves_next(manifest: &Manifest) -> bool {
    manifest.layout == Layout::Append && !manifest.complete
}

/// Whether such a run, by its manifest or what is left of it, explains what has the name of the next file. It goes with
/// that run's data: by the manifest that takes the place of that one nobody could tell whose it is.
pub fn next_is_left_over(plan: &FilePlan) -> bool {
    match known_manifest(plan) {
        Ok(known) => known.is_some_and(|known| leaves_next(&known)),
        Err(obstacle) => obstacle.may_go,
    }
}

/// Only the baseline reuses what it wrote itself. Whether a device may be written over is judged elsewhere.
fn data_in_the_way(plan: &FilePlan, manifest: Option<&Manifest>) -> Option<Obstacle> {
    if matches!(plan.layout, FileLayout::Device { .. }) {
        return None;
    }
    let shown = plan.data.display();
    let (length, empty) = (length_of(&plan.data), has_no_data(plan));
    let found = match manifest {
        Some(manifest) if empty && plan.existing == (Existing::Refused { manifest: false }) => {
            format!("{shown} is that of the run '{}', which began and ended meanwhile", manifest.run_id)
        }
        _ if empty => return None,
        _ if length == 0 => format!("{shown} has rotated files of an earlier run beside it"),
        None => format!("{shown} holds {} that no manifest of ours explains", units::format_size(length)),
        Some(manifest) => {
            let same = matches!(
                (manifest.layout, plan.layout),
                (Layout::Append, FileLayout::Rotating { .. }) | (Layout::Ring { .. }, FileLayout::Ring { .. })
            );
            if plan.existing == Existing::Reused && same {
                return None;
            }
            let kind = if same { "data of" } else { "data in another layout of" };
            format!("{shown} holds {kind} the run '{}'", manifest.run_id)
        }
    };
    Some(Obstacle { what: found, may_go: true })
}

/// An audit log, or one of a lap before, that is there and does not begin as ours do is somebody's file, whatever lies
/// beside it.
fn logs_in_the_way(plan: &FilePlan, manifest: Option<&Manifest>, is_torn: bool) -> Vec<Obstacle> {
    let Some(log) = &plan.log else { return Vec::new() };
    // Beside a special file there is no manifest.
    let on_device = matches!(plan.layout, FileLayout::Device { .. });
    let explained = on_device || manifest.is_some();
    let of_ring = on_device || manifest.is_some_and(|manifest| matches!(manifest.layout, Layout::Ring { .. }));
    let found = |log: &Path, explained: bool| {
        let (shown, facts) = (log.display(), fs::metadata(log).ok()?);
        if !facts.is_file() {
            return Some(Obstacle { what: format!("{shown} is no file"), may_go: false });
        }
        let torn = || (is_torn || manifest.is_some()) && head_of(log).is_ok_and(|head| is_zeros(&head));
        let may_go = is_audit_log(log) || torn();
        let by = if may_go { "manifest" } else { "line" };
        let what = format!("{shown} holds {} that no {by} of ours explains", units::format_size(facts.len()));
        (facts.len() > 0 && !(may_go && explained)).then_some(Obstacle { what, may_go })
    };
    let last = match plan.layout {
        // Runs that rotate write none of a lap, and remove the rotated ones of an earlier run. One is enough to be
        // told of.
        FileLayout::Rotating { .. } => {
            names::rotated(log).unwrap_or_default().iter().find_map(|log| found(log, explained))
        }
        FileLayout::Ring { .. } | FileLayout::Device { .. } => found(&names::lap_log(log), of_ring),
    };
    found(log, explained).into_iter().chain(last).collect()
}

/// Whether a log begins with a line of the keeper's.
pub fn is_audit_log(log: &Path) -> bool {
    // A pipe would have nothing to say until somebody writes.
    if length_of(log) == 0 {
        return false;
    }
    let Ok(head) = head_of(log) else { return false };
    let head = String::from_utf8_lossy(&head);
    // The time comes first.
    let mut words = head.lines().next().unwrap_or_default().split(' ').skip(1);
    let names = ["producer=", "sequence=", "file="];
    names.into_iter().all(|name| words.next().is_some_and(|word| word.starts_with(name)))
}

/// Neither in its active file nor in rotated ones.
fn has_no_data(plan: &FilePlan) -> bool {
    length_of(&plan.data) == 0 && !has_rotated(&plan.data)
}

/// Whether files lie there that a rotation left: `<data>.<UTC timestamp>`.
fn has_rotated(data: &Path) -> bool {
    let Some(name) = data.file_name().map(|name| format!("{}.2", name.to_string_lossy())) else { return false };
    let Ok(entries) = fs::read_dir(paths::folder(data)) else { return false };
    entries.flatten().any(|entry| {
        let entry = entry.file_name().to_string_lossy().into_owned();
        entry.starts_with(&name) && entry.ends_with('Z')
    })
}

fn length_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |facts| facts.len())
}

#[cfg(test)]
mod tests;
