use super::super::names::{rotation_suffix, with_suffix};
use super::*;
use crate::manifest::{FORMAT, Layout, RecordFormat};

const ROTATING: FileLayout = FileLayout::Rotating { limit_bytes: 4096, retain: None };

pub fn plan(folder: &Path, layout: FileLayout) -> FilePlan {
    FilePlan {
        data: folder.join("d.bin"),
        manifest: folder.join("d.json"),
        log: None,
        log_place: folder.join("d.log"),
        layout,
        direct: false,
        align: 1,
        fsync: Fsync::End,
        min_free_bytes: 0,
        run_bytes_max: u64::MAX,
        existing: Existing::Replaced,
    }
}

#[test]
fn a_file_is_claimed_by_one_until_it_is_let_go() {
    for layout in [ROTATING, FileLayout::Ring { capacity_bytes: 4096 }] {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), layout);
        fs::write(&plan.data, b"of an earlier run").unwrap();
        let claimed = try_claim(&plan).unwrap().expect("nobody has it");
        assert_eq!(fs::read(&plan.data).unwrap(), b"of an earlier run", "{layout:?}");
        assert!(try_claim(&plan).unwrap().is_none(), "{layout:?}");
        let file = first(&plan, claimed, &|| Ok(())).unwrap();
        assert!(try_claim(&plan).unwrap().is_none(), "{layout:?}: what took its place is locked as well");
        let copy = file.try_clone().unwrap();
        drop(file);
        assert!(try_claim(&plan).unwrap().is_none(), "{layout:?}: it is still open");
        unlock(&copy);
        assert!(try_claim(&plan).unwrap().is_some(), "{layout:?}");
    }
}

#[test]
fn what_came_to_lie_there_since_the_plan_was_made_is_not_claimed() {
    for layout in [ROTATING, FileLayout::Ring { capacity_bytes: 4096 }] {
        let folder = tempfile::tempdir().unwrap();
        let existing = Existing::Refused { manifest: false };
        let plan = FilePlan { existing, ..plan(folder.path(), layout) };
        drop(claim(&plan, "later", &mut Made::default()).unwrap());
        fs::write(&plan.data, b"finished meanwhile").unwrap();
        let fatal = claim(&plan, "later", &mut Made::default()).unwrap_err();
        assert!(fatal.exit == Exit::Usage && fatal.what.contains("d.bin"), "{layout:?}: {fatal}");
        assert_eq!(fs::read(&plan.data).unwrap(), b"finished meanwhile");
        claim(&FilePlan { existing: Existing::Replaced, ..plan }, "later", &mut Made::default()).unwrap();
    }
}

/// Each manifest with whether it says that a run which rotates was cut short.
#[test]
fn a_ring_takes_the_place_of_a_killed_run_with_the_file_that_was_to_follow() {
    let killed = Manifest { complete: false, ..manifest() };
    let ring = Layout::Ring { capacity_bytes: 4096, lap_bytes: 4096, lap_records: 1 };
    for (left, goes) in [
        (killed.clone(), true),
        (Manifest { complete: true, ..killed.clone() }, false),
        (Manifest { layout: ring, ..killed.clone() }, false),
        (Manifest { data_file: "other.bin".to_owned(), ..killed }, false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), FileLayout::Ring { capacity_bytes: 4096 });
        left.write(&plan.manifest).unwrap();
        fs::write(&plan.data, "its data").unwrap();
        fs::write(next_path(&plan.data), "its newest").unwrap();
        let claimed = try_claim(&plan).unwrap().unwrap();
        first(&plan, claimed, &|| Ok(())).unwrap();
        assert_eq!(!next_path(&plan.data).exists(), goes, "{left:?}");
    }
    for (torn, goes) in [("{\n  \"format\": \"eng", true), ("{\"mine\": 1}", false)] {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), FileLayout::Ring { capacity_bytes: 4096 });
        fs::write(&plan.manifest, torn).unwrap();
        fs::write(next_path(&plan.data), "its newest").unwrap();
        let claimed = try_claim(&plan).unwrap().unwrap();
        first(&plan, claimed, &|| Ok(())).unwrap();
        assert_eq!(!next_path(&plan.data).exists(), goes, "{torn}");
    }
}

#[test]
fn a_run_of_the_same_id_that_ended_since_the_plan_was_made_is_not_overwritten_in_place() {
    for (layout, refused) in [(FileLayout::Ring { capacity_bytes: 4096 }, true), (ROTATING, false)] {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), layout);
        fs::write(&plan.data, b"finished meanwhile").unwrap();
        manifest().write(&plan.manifest).unwrap();
        let claimed = claim(&plan, "earlier", &mut Made::default());
        assert_eq!(claimed.is_err_and(|fatal| fatal.exit == Exit::Usage && fatal.what.contains("'earlier'")), refused);
        assert_eq!(fs::read(&plan.data).unwrap(), b"finished meanwhile");
        claim(&plan, "later", &mut Made::default()).unwrap();
    }
}

/// As if they were put there since the plan was made.
#[test]
fn what_is_no_regular_file_is_not_claimed() {
    for layout in [ROTATING, FileLayout::Ring { capacity_bytes: 4096 }] {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), layout);
        std::os::unix::fs::symlink("/dev/null", &plan.data).unwrap();
        let fatal = claim(&plan, "later", &mut Made::default()).unwrap_err();
        assert!(fatal.exit == Exit::Usage && fatal.what.contains("no regular file"), "{layout:?}: {fatal}");
        assert!(create(&plan, &plan.data, 1).is_err() && plan.data.is_symlink(), "{layout:?}");
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), ROTATING);
    for path in [&plan.data, &next_path(&plan.data)] {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }
    assert!(in_use(&plan, Instant::now()).is_none());
}

#[test]
fn a_run_that_switches_files_keeps_its_claim() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), ROTATING);
    // Between the two renames of a switch only the next file is there.
    let next = create(&plan, &next_path(&plan.data), 1).unwrap();
    assert!(try_claim(&plan).unwrap().is_none());
    fs::rename(next_path(&plan.data), &plan.data).unwrap();
    assert!(try_claim(&plan).unwrap().is_none());
    drop(next);
    assert!(try_claim(&plan).unwrap().is_some());
}

/// Its three steps at all moments of the three looks: before each opens what is there, and before it tries the lock.
#[test]
fn a_run_that_switches_files_is_seen_whenever_others_look() {
    let after = |moment| moment..=6;
    let pairs = after(0).flat_map(|away| after(away).map(move |there| (away, there)));
    for (away, there, gone) in pairs.flat_map(|(away, there)| after(there).map(move |gone| (away, there, gone))) {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), ROTATING);
        let mut active = Some(create(&plan, &plan.data, 0).unwrap());
        let _next = create(&plan, &next_path(&plan.data), 1).unwrap();
        let mut moment = 0;
        let mut pass = || {
            if moment == away {
                fs::rename(&plan.data, folder.path().join("rotated")).unwrap();
            }
            if moment == there {
                fs::rename(next_path(&plan.data), &plan.data).unwrap();
            }
            if moment == gone {
                active = None;
            }
            moment += 1;
        };
        let looked = |path: &Path| {
            pass();
            let file = File::open(path).ok();
            pass();
            file.is_some_and(|file| !lock(&file).unwrap())
        };
        assert!(!is_free(&plan, looked), "renamed at {away} and {there}, let go of at {gone}");
    }
}

#[test]
fn a_file_that_was_moved_away_is_no_claim() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), ROTATING);
    let old = open_as_it_is(&plan, &plan.data).unwrap();
    assert!(lies_at(&old, &plan.data).unwrap());
    fs::rename(&plan.data, folder.path().join("rotated")).unwrap();
    assert!(!lies_at(&old, &plan.data).unwrap());
    fs::write(&plan.data, b"").unwrap();
    assert!(!lies_at(&old, &plan.data).unwrap());
}

#[test]
fn old_data_are_replaced_and_not_cut() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), ROTATING);
    let (elsewhere, rotated) = (folder.path().join("kept"), with_suffix(&plan.data, &rotation_suffix(1)));
    for path in [&plan.data, &rotated] {
        fs::write(path, b"of an earlier run").unwrap();
    }
    fs::hard_link(&plan.data, &elsewhere).unwrap();
    let claimed = try_claim(&plan).unwrap().expect("nobody has it");
    let file = first(&plan, claimed, &|| Ok(())).unwrap();
    assert!(lies_at(&file, &plan.data).unwrap() && file.metadata().unwrap().len() == 0);
    assert!(!rotated.exists() && !next_path(&plan.data).exists());
    assert_eq!(fs::read(elsewhere).unwrap(), b"of an earlier run");
}

/// Of an earlier run.
pub fn manifest() -> Manifest {
    Manifest {
        format: FORMAT.to_owned(),
        data_file: "d.bin".to_owned(),
        run_id: "earlier".to_owned(),
        earlier_runs: Vec::new(),
        producer_id: 0,
        layout: Layout::Append,
        records: RecordFormat::Header,
        length_bytes: 1,
        complete: true,
        first_sequence: 0,
        next_sequence: 1,
        missing: Vec::new(),
        missing_truncated: false,
        in_flight_bytes_max: 0,
    }
}

const LINE: &str = "2026-11-23T14:27:01.123456789Z producer=0 sequence=0 file=d.bin offset=0 length=64 weight=1\n";

/// Each with what the log holds, whether a manifest of ours explains it, and whether it goes.
#[test]
fn logs_go_with_the_data_that_they_speak_of() {
    let (replaced, reused, refused) = (Existing::Replaced, Existing::Reused, Existing::Refused { manifest: true });
    for layout in [ROTATING, FileLayout::Ring { capacity_bytes: 4096 }] {
        for (existing, text, explained, goes) in [
            (replaced, LINE, true, true),
            (reused, LINE, true, true),
            (refused, LINE, true, false),
            (replaced, LINE, false, false),
            (replaced, "mine\n", true, false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let plan = FilePlan { existing, ..plan(folder.path(), layout) };
            let log = &plan.log_place;
            let logs = [log.clone(), lap_log(log), with_suffix(log, &rotation_suffix(1))];
            logs.iter().for_each(|log| fs::write(log, text).unwrap());
            if explained {
                manifest().write(&plan.manifest).unwrap();
            }
            let claimed = try_claim(&plan).unwrap().expect("nobody has it");
            first(&plan, claimed, &|| Ok(())).unwrap();
            for log in &logs {
                assert_eq!(log.exists(), !goes, "{} {existing:?} {layout:?} '{text}'", log.display());
            }
        }
    }
}

#[test]
fn logs_stay_with_data_that_could_not_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), FileLayout::Ring { capacity_bytes: u64::MAX });
    let log = &plan.log_place;
    let logs = [log.clone(), lap_log(log), with_suffix(log, &rotation_suffix(1))];
    logs.iter().for_each(|log| fs::write(log, LINE).unwrap());
    fs::write(&plan.data, "of an earlier run").unwrap();
    manifest().write(&plan.manifest).unwrap();
    let claimed = try_claim(&plan).unwrap().expect("nobody has it");
    first(&plan, claimed, &|| Ok(())).unwrap_err();
    assert_eq!(fs::read_to_string(&plan.data).unwrap(), "of an earlier run");
    assert!(logs.iter().all(|log| log.exists()));
}

#[test]
fn a_file_that_nobody_needs_any_more_keeps_its_length() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), FileLayout::Ring { capacity_bytes: 1 << 20 });
    let stopped = Fatal::new(Exit::Unreachable, "stopped");
    // At once, and while it gets its room.
    for looks in [0, 1] {
        let asked = std::cell::Cell::new(0);
        let may_prepare = || {
            asked.set(asked.get() + 1);
            if asked.get() > looks { Err(stopped.clone()) } else { Ok(()) }
        };
        let claimed = try_claim(&plan).unwrap().expect("nobody has it");
        assert_eq!(first(&plan, claimed, &may_prepare).unwrap_err(), stopped);
        assert_eq!(fs::metadata(&plan.data).unwrap().len(), 0, "{looks}");
    }
}

#[test]
fn a_next_file_that_cannot_have_its_room_takes_none() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), FileLayout::Ring { capacity_bytes: u64::MAX });
    let next = next_path(&plan.data);
    fs::write(&next, "recycled").unwrap();
    create(&plan, &next, 1).unwrap_err();
    assert_eq!(fs::metadata(&next).unwrap().len(), 0);
}

#[test]
fn no_more_is_allocated_than_the_run_writes() {
    let folder = tempfile::tempdir().unwrap();
    let whole = FilePlan { direct: true, align: 512, ..plan(folder.path(), ROTATING) };
    let given = |plan: &FilePlan| [0, 1, 2].map(|nth| allocation_bytes(plan, nth));
    assert_eq!(given(&whole), [4096; 3]);
    assert_eq!(given(&FilePlan { run_bytes_max: 1000, ..whole.clone() }), [1024, 0, 0]);
    assert_eq!(given(&FilePlan { run_bytes_max: 5000, ..whole.clone() }), [4096, 1024, 0]);
    assert_eq!(given(&FilePlan { direct: false, ..whole.clone() }), [0; 3]);
    // The test's file system may know no O_DIRECT.
    let short = FilePlan { run_bytes_max: 1000, ..whole };
    for (nth, length) in [(0, 1024), (1, 0)] {
        let file = File::create(folder.path().join("sized")).unwrap();
        size(&short, &file, nth, &|| true).unwrap();
        assert_eq!(file.metadata().unwrap().len(), length);
    }
}

#[test]
fn what_the_host_has_no_room_for_is_told_apart_from_what_cannot_be_reached() {
    let plan = plan(Path::new("data"), ROTATING);
    let told = |errno| blame(&plan, &io::Error::from_raw_os_error(errno), "cannot be opened for writing");
    for (errno, mend) in
        [(libc::ENOSPC, "free"), (libc::EDQUOT, "quota"), (libc::EFBIG, "ulimit -f"), (libc::EROFS, "remount")]
    {
        let fatal = told(errno);
        assert!(fatal.exit == Exit::Host && fatal.mend.as_ref().unwrap().contains(mend), "{fatal}");
    }
    assert_eq!(told(libc::EIO).exit, Exit::Unreachable);
}

#[test]
fn only_data_has_a_next_file() {
    let folder = tempfile::tempdir().unwrap();
    let plan = FilePlan { log: Some(folder.path().join("d.log")), ..plan(folder.path(), ROTATING) };
    let of_log = with_suffix(plan.log.as_ref().unwrap(), "next");
    for path in [&next_path(&plan.data), &of_log] {
        fs::write(path, b"x").unwrap();
    }
    let claimed = try_claim(&plan).unwrap().expect("nobody has it");
    first(&plan, claimed, &|| Ok(())).unwrap();
    assert!(of_log.exists() && !next_path(&plan.data).exists());
}
