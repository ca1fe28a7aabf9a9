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

/// One run id, then another, then the first again: what the second did not overwrite could still prove the third.
#[test]
fn no_run_id_is_used_again_in_place_after_others() {
    for (layout, own, remembers) in [
        (RING, OUR_RING, true),
        (RING, Layout::Append, true),
        (DEVICE, OUR_RING, true),
        (ROTATING, Layout::Append, false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let plan = FilePlan { existing: Existing::Replaced, ..plan(folder.path(), layout) };
        let data_file = plan.data_in_manifest();
        fs::write(&plan.data, "their records").unwrap();
        let manifest = |runs: &[String]| {
            let (run_id, earlier_runs) = (runs[0].clone(), runs[1..].to_vec());
            Manifest { run_id, earlier_runs, data_file: data_file.clone(), ..manifest(own) }
        };
        let mut runs = vec!["r0".to_owned()];
        for nth in 1..100 {
            manifest(&runs).write(&plan.manifest).unwrap();
            let next = format!("r{nth}");
            assert!(in_the_way(&plan, Some(&next)).is_empty());
            for earlier in &runs {
                let found = in_the_way(&plan, Some(earlier));
                assert_eq!(
                    found.iter().any(|fatal| fatal.what.contains(&format!("'{earlier}'"))),
                    remembers,
                    "{layout:?}"
                );
            }
            let beneath = runs_beneath(&plan, &next);
            assert_eq!(beneath, if remembers { runs.clone() } else { vec![] });
            runs.insert(0, next);
            runs.truncate(64);
        }
        if layout == RING {
            fs::write(&plan.data, "").unwrap();
            assert_eq!(runs_beneath(&plan, "later"), Vec::<String>::new(), "nothing is there any more");
        }
    }
}

#[test]
fn a_run_that_left_no_data_is_in_the_way_if_it_came_after_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), ROTATING);
    fs::write(&plan.data, b"").unwrap();
    manifest(Layout::Append).write(&plan.manifest).unwrap();
    assert!(told(&plan, Existing::Refused { manifest: true }).is_empty() && told(&plan, Existing::Reused).is_empty());
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
        for existing in [Existing::Refused { manifest: true }, Existing::Reused, Existing::Replaced] {
            assert_eq!(told(&plan, existing).len(), both.len(), "a run without logs has none to lose");
        }
        for log in [&log, &names::lap_log(&log)] {
            fs::write(log, LINE).unwrap();
        }
        for existing in [Existing::Refused { manifest: true }, Existing::Reused, Existing::Replaced] {
            assert!(told(&plan, existing).is_empty(), "{layout:?}");
        }
        fs::write(&log, [0; 4096]).unwrap();
        assert!(told(&plan, Existing::Replaced).is_empty(), "as a power cut left it");
        fs::remove_file(&log).unwrap();
        fs::create_dir(&log).unwrap();
        assert_eq!(told(&plan, Existing::Replaced), [format!("{} is no file", log.display())]);
    }
    // A run that rotated explains its log, and none of a lap.
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), RING);
    let log = plan.log.clone().unwrap();
    manifest(Layout::Append).write(&plan.manifest).unwrap();
    for log in [&log, &names::lap_log(&log)] {
        fs::write(log, LINE).unwrap();
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
    manifest(Layout::Append).write(&plan.manifest).unwrap();
    for existing in [Existing::Refused { manifest: true }, Existing::Replaced] {
        let found = told(&plan, existing);
        assert!(found.len() == 1 && found[0].contains(&format!("{} holds", rotated.display())), "{found:?}");
    }
    fs::write(&rotated, LINE).unwrap();
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
        assert_eq!(told(&plan, Existing::Replaced), [found[0].clone(), found[2].clone()]);
        Manifest { data_file: plan.data_in_manifest(), ..manifest(own) }.write(&plan.manifest).unwrap();
        assert_eq!(told(&plan, Existing::Reused), [found[2].clone()], "{layout:?}");
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
    fs::write(&next, "").unwrap();
    for (complete, others) in [(false, 0), (true, 1)] {
        Manifest { complete, ..manifest(Layout::Append) }.write(&plan.manifest).unwrap();
        assert_eq!(told(&plan, Existing::Refused { manifest: true }).len(), others, "{complete}");
    }
}

#[test]
fn the_newest_records_of_a_killed_run_are_not_lost_with_its_next_file() {
    let folder = tempfile::tempdir().unwrap();
    for layout in [ROTATING, RING] {
        let plan = plan(folder.path(), layout);
        fs::write(names::next_path(&plan.data), "records").unwrap();
        Manifest { complete: false, ..manifest(Layout::Append) }.write(&plan.manifest).unwrap();
        let found = told(&plan, Existing::Refused { manifest: true });
        assert!(
            found.len() == 1 && found[0].contains("payloads.0.bin.next holds data of the run 'earlier'"),
            "{found:?}"
        );
        assert!(told(&plan, Existing::Replaced).is_empty() && told(&plan, Existing::Reused).is_empty());
        // What the active file holds is older, and is told of instead.
        fs::write(&plan.data, "records").unwrap();
        let found = told(&plan, Existing::Refused { manifest: true });
        assert!(found.len() == 1 && !found[0].contains(".next"), "{found:?}");
        fs::remove_file(&plan.data).unwrap();
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
