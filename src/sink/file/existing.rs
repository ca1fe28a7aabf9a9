//! What lies where a run is to write, and would be lost: data, manifests and logs of others. `--overwrite` lets go what
//! runs left there; what nobody named, and no run of ours made, stays.

use super::names;
use crate::base::fatal::Fatal;
use crate::base::{limits, place, units};
use crate::manifest::{Layout, Manifest};
use crate::plan::{Existing, FileLayout, FilePlan};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

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
    let (logs, next) = (logs_in_the_way(plan, known), next_in_the_way(plan, known, is_torn));
    let is_known = |id: &&str| known.is_some_and(|known| known.run_id == *id);
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

/// What is overwritten in place keeps records of the run before for a while, each where the one of this run with the
/// same sequence goes: with one run id for both, a record that never reached the drive would seem to be there.
fn same_run(plan: &FilePlan, run_id: &str) -> Option<Fatal> {
    let in_place = match plan.layout {
        FileLayout::Rotating { .. } => false,
        FileLayout::Ring { .. } => length_of(&plan.data) > 0,
        FileLayout::Device { .. } => true,
    };
    let shown = plan.data.display();
    let what = format!("{shown} holds records of an earlier run '{run_id}', which this run's could not be told from");
    let mend = match (plan.layout, plan.existing) {
        (FileLayout::Ring { .. }, Existing::Refused { .. }) => "another --run-id, and --overwrite to lose that data",
        _ => "another --run-id",
    };
    in_place.then(|| Fatal::usage(what).mend(mend))
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
    let head = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(HEAD_BYTES).read_to_end(&mut bytes).map(|_| bytes)
    };
    fs::metadata(path).is_ok_and(fits)
        && head().is_ok_and(|head| {
            head.iter().all(|byte| *byte == 0) || head.starts_with(b"{") && !Manifest::is_foreign(path)
        })
}

/// What has the name of the file that follows the active one. A run that ended in order leaves none; one that was cut
/// short says so, or has a manifest that is torn as well.
fn next_in_the_way(plan: &FilePlan, manifest: Option<&Manifest>, is_torn: bool) -> Option<Obstacle> {
    let next = names::next_path(&plan.data);
    let rotates = matches!(plan.layout, FileLayout::Rotating { .. });
    let ours = manifest.is_some_and(|manifest| manifest.layout == Layout::Append && !manifest.complete);
    let facts = next.symlink_metadata().ok().filter(|_| rotates && !ours)?;
    let what = format!("{} is there, and no run of ours that was cut short explains it", next.display());
    Some(Obstacle { what, may_go: is_torn || facts.is_file() && facts.len() == 0 })
}

/// Only the baseline reuses what it wrote itself. Whether a device may be written over is judged elsewhere.
fn data_in_the_way(plan: &FilePlan, manifest: Option<&Manifest>) -> Option<Obstacle> {
    if matches!(plan.layout, FileLayout::Device { .. }) {
        return None;
    }
    let shown = plan.data.display();
    let length = length_of(&plan.data);
    let empty = length == 0 && !has_rotated(&plan.data);
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

/// An audit log, or one of a lap before, that is there and belongs to no run of ours is somebody's file.
fn logs_in_the_way(plan: &FilePlan, manifest: Option<&Manifest>) -> Vec<Obstacle> {
    let Some(log) = &plan.log else { return Vec::new() };
    let of_ring = manifest.is_some_and(|manifest| matches!(manifest.layout, Layout::Ring { .. }));
    // Beside a special file there is no manifest, and `--overwrite` asks for none: the lines themselves have to say
    // whose they are.
    let on_device = matches!(plan.layout, FileLayout::Device { .. });
    let by_lines = on_device || plan.existing == Existing::Replaced;
    let foreign = |(log, explained): &(PathBuf, bool)| {
        length_of(log) > 0 && !(if by_lines { is_audit_log(log) } else { *explained })
    };
    let mut logs = vec![(log.clone(), manifest.is_some())];
    // Runs that rotate write none of a lap, and remove the rotated ones of an earlier run. One is enough to be told of.
    if matches!(plan.layout, FileLayout::Rotating { .. }) {
        let rotated = names::rotated(log).unwrap_or_default().into_iter();
        logs.extend(rotated.map(|log| (log, manifest.is_some())).find(foreign));
    } else {
        logs.push((names::lap_log(log), of_ring));
    }
    let told = |(log, _): &(PathBuf, bool)| {
        let (shown, length) = (log.display(), units::format_size(length_of(log)));
        let by = if by_lines { "line" } else { "manifest" };
        Obstacle { what: format!("{shown} holds {length} that no {by} of ours explains"), may_go: is_audit_log(log) }
    };
    logs.iter().filter(|log| foreign(log)).map(told).collect()
}

/// Whether a log begins with a line of the keeper's.
pub fn is_audit_log(log: &Path) -> bool {
    // A pipe would have nothing to say until somebody writes.
    if length_of(log) == 0 {
        return false;
    }
    let mut head = Vec::new();
    let read = File::open(log).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
    let head = String::from_utf8_lossy(&head);
    // The time comes first.
    let mut words = head.lines().next().unwrap_or_default().split(' ').skip(1);
    let names = ["producer=", "sequence=", "file="];
    read.is_ok() && names.into_iter().all(|name| words.next().is_some_and(|word| word.starts_with(name)))
}

/// Whether files lie there that a rotation left: `<data>.<UTC timestamp>`.
fn has_rotated(data: &Path) -> bool {
    let Some(name) = data.file_name().map(|name| format!("{}.2", name.to_string_lossy())) else { return false };
    let Ok(entries) = fs::read_dir(place::folder(data)) else { return false };
    entries.flatten().any(|entry| {
        let entry = entry.file_name().to_string_lossy().into_owned();
        entry.starts_with(&name) && entry.ends_with('Z')
    })
}

fn length_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |facts| facts.len())
}

#[cfg(test)]
mod tests {
    use super::super::open;
    use super::*;
    use crate::base::fatal::Exit;

    const ROTATING: FileLayout = FileLayout::Rotating { limit_bytes: 4096, retain: None };
    const RING: FileLayout = FileLayout::Ring { capacity_bytes: 4096 };
    const DEVICE: FileLayout = FileLayout::Device { capacity_bytes: 4096 };
    const OUR_RING: Layout = Layout::Ring { capacity_bytes: 4096, lap_bytes: 4096, lap_records: 1 };
    const REFUSED: Existing = Existing::Refused { manifest: false };
    const LINE: &str = "2026-11-23T14:27:01.123456789Z producer=0 sequence=0 file=null offset=0 length=64 weight=1\n";

    fn plan(folder: &Path, layout: FileLayout) -> FilePlan {
        FilePlan {
            data: folder.join("payloads.0.bin"),
            manifest: folder.join("payloads.0.json"),
            log: Some(folder.join("payloads.0.log")),
            existing: REFUSED,
            ..open::tests::plan(folder, layout)
        }
    }

    fn manifest(layout: Layout) -> Manifest {
        Manifest { data_file: String::new(), layout, ..open::tests::manifest() }
    }

    fn told(plan: &FilePlan, existing: Existing) -> Vec<String> {
        let of = |existing| in_the_way(&FilePlan { existing, ..plan.clone() }, None);
        let (found, stays) = (of(existing), of(Existing::Replaced));
        assert!(found.iter().all(|fatal| fatal.exit == Exit::Usage), "{found:?}");
        let path = |fatal: &Fatal| fatal.what.split(' ').next().unwrap().to_owned();
        for fatal in &found {
            let mend = fatal.mend.as_ref().unwrap();
            assert!(mend.contains("another PATH") || mend.contains("another folder"), "{mend}");
            let is_offered = mend.contains("--overwrite");
            assert!(is_offered != stays.iter().any(|stays| path(stays) == path(fatal)), "{fatal}: it would stay");
        }
        found.into_iter().map(|fatal| fatal.what).collect()
    }

    #[test]
    fn only_the_baseline_reuses_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), RING);
        assert!(told(&plan, REFUSED).is_empty());
        fs::write(&plan.data, b"precious").unwrap();
        assert!(told(&plan, Existing::Reused)[0].contains("payloads.0.bin"));
        manifest(OUR_RING).write(&plan.manifest).unwrap();
        assert!(told(&plan, Existing::Reused).is_empty() && told(&plan, Existing::Replaced).is_empty());
        assert!(told(&plan, REFUSED)[0].contains("'earlier'"));
        manifest(Layout::Append).write(&plan.manifest).unwrap();
        assert!(told(&plan, Existing::Reused)[0].contains("another layout"));
        fs::write(&plan.manifest, b"{\"mine\": 1}").unwrap();
        fs::write(&plan.data, b"").unwrap();
        for existing in [Existing::Reused, Existing::Replaced] {
            assert!(told(&plan, existing)[0].contains("no manifest of ours"));
        }
    }

    /// Each with whether `--overwrite` may lose it: a report, say, or what a power cut left of ours.
    #[test]
    fn only_what_is_left_of_our_own_manifest_may_go() {
        for (text, may_go) in [
            ("", true),
            ("\0\0\0\0", true),
            ("{\n  \"format\": \"eng", true),
            ("{\"format\": \"engine-payload/2\"}", true),
            ("{\"mine\": 1}", false),
            ("[1, 2]", false),
            ("mine", false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let plan = plan(folder.path(), ROTATING);
            let next = names::next_path(&plan.data);
            for path in [&plan.manifest, &next] {
                fs::write(path, text).unwrap();
            }
            assert!(told(&plan, REFUSED)[0].contains("no manifest of ours"), "'{text}'");
            assert_eq!(told(&plan, Existing::Replaced).is_empty(), may_go, "'{text}'");
        }
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), RING);
        fs::create_dir(&plan.manifest).unwrap();
        assert_eq!(told(&plan, Existing::Replaced).len(), 1, "a folder");
    }

    /// What the ring, or the device, still has of the first run could prove the second.
    #[test]
    fn no_run_id_is_used_twice_in_place() {
        for (layout, own, refused) in [
            (RING, OUR_RING, true),
            (RING, Layout::Append, true),
            (DEVICE, OUR_RING, true),
            (ROTATING, Layout::Append, false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let plan = plan(folder.path(), layout);
            fs::write(&plan.data, "its records").unwrap();
            Manifest { data_file: plan.data_in_manifest(), ..manifest(own) }.write(&plan.manifest).unwrap();
            for existing in [Existing::Refused { manifest: true }, Existing::Reused, Existing::Replaced] {
                let plan = FilePlan { existing, ..plan.clone() };
                let same = |run_id| {
                    let found = in_the_way(&plan, run_id);
                    found.into_iter().find(|fatal| fatal.mend.as_ref().unwrap().contains("another --run-id"))
                };
                assert_eq!(same(Some("earlier")).is_some_and(|fatal| fatal.what.contains("'earlier'")), refused);
                assert!(same(Some("later")).is_none() && same(None).is_none(), "{layout:?} {existing:?}");
            }
            fs::write(&plan.data, "").unwrap();
            let found = in_the_way(&FilePlan { existing: Existing::Replaced, ..plan }, Some("earlier"));
            assert_eq!(found.len(), usize::from(layout == DEVICE), "nothing is there any more: {found:?}");
        }
    }

    #[test]
    fn a_run_that_left_no_data_is_in_the_way_if_it_came_after_the_plan() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), ROTATING);
        fs::write(&plan.data, b"").unwrap();
        manifest(Layout::Append).write(&plan.manifest).unwrap();
        assert!(
            told(&plan, Existing::Refused { manifest: true }).is_empty() && told(&plan, Existing::Reused).is_empty()
        );
        assert!(told(&plan, REFUSED)[0].contains("'earlier'"));
        fs::write(names::with_suffix(&plan.data, &names::rotation_suffix(1_700_000_000_000_000_001)), b"x").unwrap();
        assert!(told(&plan, Existing::Refused { manifest: true })[0].contains("rotated files"));
    }

    #[test]
    fn logs_of_others_are_in_the_way_of_who_would_write_them() {
        for (layout, own) in [(ROTATING, Layout::Append), (RING, OUR_RING)] {
            let folder = tempfile::tempdir().unwrap();
            let plan = plan(folder.path(), layout);
            let log = plan.log.clone().unwrap();
            fs::write(names::lap_log(&log), "mine").unwrap();
            let before = told(&plan, REFUSED);
            assert_eq!(before.len(), usize::from(layout == RING), "one that rotates has none: {before:?}");
            fs::write(&log, "mine").unwrap();
            let both = told(&plan, REFUSED);
            assert!(both[0].contains("payloads.0.log holds") && both.len() == before.len() + 1, "{both:?}");
            assert_eq!(told(&plan, Existing::Replaced).len(), both.len());
            manifest(own).write(&plan.manifest).unwrap();
            assert!(told(&plan, Existing::Refused { manifest: true }).is_empty(), "{layout:?}");
            assert_eq!(told(&plan, Existing::Replaced).len(), both.len(), "a run without logs has none to lose");
            for log in [&log, &names::lap_log(&log)] {
                fs::write(log, LINE).unwrap();
            }
            assert!(told(&plan, Existing::Replaced).is_empty(), "{layout:?}");
        }
        // A run that rotated explains its log, and none of a lap.
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), RING);
        let log = plan.log.clone().unwrap();
        manifest(Layout::Append).write(&plan.manifest).unwrap();
        for log in [&log, &names::lap_log(&log)] {
            fs::write(log, "mine").unwrap();
        }
        let found = told(&plan, Existing::Refused { manifest: true });
        assert!(found.len() == 1 && found[0].contains("payloads.0.log.1"), "{found:?}");
    }

    #[test]
    fn rotated_logs_that_no_manifest_explains_are_in_the_way_of_who_rotates() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), ROTATING);
        let log = plan.log.clone().unwrap();
        let rotated = names::with_suffix(&log, &names::rotation_suffix(1_700_000_000_000_000_001));
        fs::write(&rotated, "mine").unwrap();
        let found = told(&plan, REFUSED);
        assert!(found.len() == 1 && found[0].contains(&format!("{} holds", rotated.display())), "{found:?}");
        assert!(told(&FilePlan { layout: RING, ..plan.clone() }, REFUSED).is_empty(), "it leaves them alone");
        assert!(told(&FilePlan { log: None, ..plan.clone() }, REFUSED).is_empty(), "it leaves them alone");
        let ours = names::with_suffix(&log, &names::rotation_suffix(1_600_000_000_000_000_001));
        fs::write(ours, LINE).unwrap();
        let found = told(&plan, Existing::Replaced);
        assert!(found.len() == 1 && found[0].contains(&format!("{} holds", rotated.display())), "{found:?}");
        manifest(Layout::Append).write(&plan.manifest).unwrap();
        assert!(told(&plan, Existing::Refused { manifest: true }).is_empty());
    }

    /// Where two data files have the same name but for their extension, so have their manifests, and their logs.
    #[test]
    fn another_file_s_manifest_is_in_the_way_and_explains_nothing() {
        for (layout, own) in [(ROTATING, Layout::Append), (RING, OUR_RING)] {
            let folder = tempfile::tempdir().unwrap();
            let plan = plan(folder.path(), layout);
            Manifest { data_file: "payloads.0.log".to_owned(), ..manifest(own) }.write(&plan.manifest).unwrap();
            for existing in [REFUSED, Existing::Refused { manifest: true }, Existing::Reused, Existing::Replaced] {
                let found = told(&plan, existing);
                assert!(found.len() == 1 && found[0].contains("is the manifest of payloads.0.log"), "{found:?}");
            }
            fs::write(plan.log.as_ref().unwrap(), "its data").unwrap();
            fs::write(&plan.data, "mine").unwrap();
            let found = told(&plan, Existing::Reused);
            assert!(found.len() == 3 && found[1].contains("payloads.0.bin holds"), "{found:?}");
            assert!(found[2].contains("payloads.0.log holds"), "{found:?}");
            assert_eq!(told(&plan, Existing::Replaced), [found[0].clone(), found[2].replace("manifest", "line")]);
            Manifest { data_file: plan.data_in_manifest(), ..manifest(own) }.write(&plan.manifest).unwrap();
            assert!(told(&plan, Existing::Reused).is_empty(), "{layout:?}");
        }
    }

    #[test]
    fn somebody_s_next_file_is_in_the_way_of_who_rotates() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), ROTATING);
        let next = names::next_path(&plan.data);
        fs::write(&next, "mine").unwrap();
        let found = told(&plan, REFUSED);
        assert!(found.len() == 1 && found[0].contains("payloads.0.bin.next"), "{found:?}");
        assert!(told(&FilePlan { layout: RING, ..plan.clone() }, REFUSED).is_empty(), "a ring has none");
        assert_eq!(told(&plan, Existing::Replaced), found);
        // A run that was killed before its first record leaves its own.
        for (complete, others) in [(false, 0), (true, 1)] {
            Manifest { complete, ..manifest(Layout::Append) }.write(&plan.manifest).unwrap();
            assert_eq!(told(&plan, Existing::Refused { manifest: true }).len(), others, "{complete}");
        }
    }

    #[test]
    fn beside_a_device_another_s_manifest_is_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), DEVICE);
        fs::write(&plan.manifest, "mine").unwrap();
        assert!(told(&plan, REFUSED)[0].contains("no manifest of ours"));
        let found = in_the_way(&plan, None);
        assert!(found[0].mend.as_ref().unwrap().contains("another folder"), "{found:?}");
        let special = FilePlan { layout: FileLayout::Device { capacity_bytes: u64::MAX }, ..plan.clone() };
        assert!(told(&special, REFUSED).is_empty(), "none is written");
        for (data_file, others) in [(plan.data_in_manifest(), 0), ("/dev/other".to_owned(), 1)] {
            Manifest { data_file, ..manifest(OUR_RING) }.write(&plan.manifest).unwrap();
            assert_eq!(told(&plan, REFUSED).len(), others);
        }
    }

    #[test]
    fn beside_a_device_a_log_is_known_by_its_lines() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), DEVICE);
        let log = plan.log.clone().unwrap();
        for log in [&log, &names::lap_log(&log)] {
            fs::write(log, LINE).unwrap();
            assert!(told(&plan, REFUSED).is_empty());
            fs::write(log, "2026-11-23T14:27:01Z somebody=else producer=0\n").unwrap();
            for existing in [REFUSED, Existing::Replaced] {
                assert!(told(&plan, existing)[0].contains(&log.display().to_string()));
            }
            fs::remove_file(log).unwrap();
        }
        // Whatever a device holds, other rules say what may become of it.
        fs::write(&plan.data, "x").unwrap();
        assert!(told(&plan, REFUSED).is_empty());
    }
}
