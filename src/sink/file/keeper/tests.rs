use super::*;
use crate::manifest::Manifest;
use crate::sink::file::existing;

fn plan(folder: &Path, layout: FileLayout) -> FilePlan {
    FilePlan { log: Some(folder.join("d.log")), fsync: Fsync::Never, ..open::tests::plan(folder, layout) }
}

/// A lane that keeps no rotated file, under way: its plan, its keeper, itself and its first file.
fn rotating(folder: &Path) -> (FilePlan, Keeper, KeeperLane, File) {
    let plan = plan(folder, FileLayout::Rotating { limit_bytes: 4096, retain: Some(0) });
    let mut keeper = Keeper::new();
    let lane = keeper.lane(&plan);
    let file = open::create(&plan, &plan.data, 0).unwrap();
    keeper.begin().unwrap();
    (plan, keeper, lane, file)
}

fn switch(lane: &KeeperLane) {
    let Ok(()) = lane.order(Order::Switch { lane: 0, unix_ns: 1 }) else { panic!("there is room") };
}

fn retire(lane: &KeeperLane, file: File) {
    let Ok(()) = lane.order(Order::Retire { lane: 0, file, length: 0 }) else { panic!("there is room") };
}

fn audit(lane: &KeeperLane, lap: u64, sequence: u64) {
    let (timestamp_unix_ns, offset, length, weight) = (0, 0, 64, 1);
    let line = AuditLine { lane: lane.lane, producer_id: 0, sequence, timestamp_unix_ns, offset, length, weight, lap };
    lane.audit(line);
}

fn sequences(log: &Path) -> Vec<u64> {
    let text = fs::read_to_string(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
    let of = |line: &str| line.split(' ').find_map(|part| part.strip_prefix("sequence=")?.parse::<u64>().ok());
    text.lines().map(|line| of(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

#[test]
fn a_ring_s_log_has_its_lap_and_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), FileLayout::Ring { capacity_bytes: 4096 });
    let log = plan.log.clone().unwrap();
    let before = names::lap_log(&log);
    fs::write(&before, "of an earlier run").unwrap();
    let mut keeper = Keeper::new();
    let lane = keeper.lane(&plan);
    keeper.begin().unwrap();
    assert!(!before.exists(), "it would be taken for this run's");
    for (lap, sequence) in [(0, 0), (0, 5), (1, 10), (1, 15), (2, 20)] {
        audit(&lane, lap, sequence);
        keeper.carry_out_next().unwrap().unwrap();
    }
    assert_eq!(sequences(&before), [10, 15]);
    // No line fell into laps 3 and 4: of what was logged nothing is left in the ring.
    audit(&lane, 5, 50);
    keeper.carry_out_next().unwrap().unwrap();
    assert!(!before.exists());
    keeper.conclude().unwrap();
    assert_eq!(sequences(&log), [50]);
}

#[test]
fn the_floor_is_watched_while_the_keeper_is_busy() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), FileLayout::Device { capacity_bytes: 4096 });
    let plan = FilePlan { min_free_bytes: u64::MAX, ..plan };
    let log = plan.log.clone().unwrap();
    // The keeper waits until somebody reads it.
    assert!(std::process::Command::new("mkfifo").arg(&log).status().unwrap().success());
    let mut keeper = Keeper::new();
    let lane = keeper.lane(&plan);
    let (stop, stopped) = bounded(1);
    let thread = keeper.start(&[], move |why| stop.send(why.to_owned()).unwrap()).unwrap();
    let why = stopped.recv_timeout(Duration::from_secs(10)).expect("nobody watches");
    assert!(why.contains("--min-free"), "{why}");
    let _reader = File::open(&log).unwrap();
    drop(lane);
    assert_eq!(thread.join().unwrap(), KeeperEnd::default());
}

#[test]
fn a_log_has_lines_that_are_known_again() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), FileLayout::Device { capacity_bytes: 4096 });
    let log = plan.log.clone().unwrap();
    let mut keeper = Keeper::new();
    let lane = keeper.lane(&plan);
    keeper.begin().unwrap();
    assert!(!existing::is_audit_log(&log), "it is empty");
    audit(&lane, 0, 7);
    keeper.carry_out_next().unwrap().unwrap();
    keeper.conclude().unwrap();
    assert!(existing::is_audit_log(&log), "{}", fs::read_to_string(&log).unwrap());
}

#[test]
fn who_rotates_leaves_a_log_of_that_name_alone() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), FileLayout::Rotating { limit_bytes: 4096, retain: None });
    let other = names::lap_log(plan.log.as_ref().unwrap());
    fs::write(&other, "mine").unwrap();
    let mut keeper = Keeper::new();
    let _lane = keeper.lane(&plan);
    keeper.begin().unwrap();
    keeper.conclude().unwrap();
    assert_eq!(fs::read_to_string(&other).unwrap(), "mine");
}

#[test]
fn the_last_file_stays_locked_until_the_folder_is_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), FileLayout::Rotating { limit_bytes: 4096, retain: None });
    let mut keeper = Keeper::new();
    let lane = keeper.lane(&plan);
    let file = open::create(&plan, &plan.data, 0).unwrap();
    keeper.begin().unwrap();
    // A ring that the kernel has not let go of yet has one as well.
    let lingering = file.try_clone().unwrap();
    lane.hold(Last { file: Some(file), manifest: Some(open::tests::manifest()) });
    let other = File::options().write(true).open(&plan.data).unwrap();
    assert!(other.try_lock().is_err() && !plan.manifest.exists());
    keeper.conclude().unwrap();
    assert!(!names::next_path(&plan.data).exists());
    assert_eq!(Manifest::read(&plan.manifest).unwrap(), Some(open::tests::manifest()));
    other.try_lock().unwrap();
    drop(lingering);
}

#[test]
fn a_file_that_is_retired_can_be_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut keeper, lane, file) = rotating(folder.path());
    let next = lane.take_next().unwrap().unwrap();
    switch(&lane);
    let copy = file.try_clone().unwrap();
    retire(&lane, copy);
    while let Some(carried) = keeper.carry_out_next() {
        carried.unwrap();
    }
    // `file` is still open, as the lane has it.
    lane.take_next().unwrap().unwrap();
    drop((file, next));
}

#[test]
fn a_rotated_file_is_at_rest_only_once_it_is_synced() {
    for (fsync, syncs) in [(Fsync::End, true), (Fsync::Each, true), (Fsync::Never, false)] {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), FileLayout::Rotating { limit_bytes: 4096, retain: None });
        let plan = FilePlan { fsync, ..plan };
        let mut keeper = Keeper::new();
        let lane = keeper.lane(&plan);
        let file = open::create(&plan, &plan.data, 0).unwrap();
        keeper.begin().unwrap();
        switch(&lane);
        retire(&lane, file);
        keeper.carry_out_next().unwrap().unwrap();
        // All that the cores know is done by now.
        let (before, cores_ended) = (keeper.synced(), Instant::now());
        keeper.carry_out_next().unwrap().unwrap();
        assert_eq!(before, None);
        assert_eq!(keeper.synced().is_some_and(|at| at >= cores_ended), syncs, "{fsync:?}");
    }
}

#[test]
fn what_others_take_away_between_two_switches_does_not_end_the_run() {
    for gone in ["rotated file", "log"] {
        let folder = tempfile::tempdir().unwrap();
        let (plan, mut keeper, lane, mut file) = rotating(folder.path());
        for unix_ns in [1, 2] {
            let next = lane.take_next().unwrap().unwrap();
            let Ok(()) = lane.order(Order::Switch { lane: 0, unix_ns }) else { panic!("there is room") };
            if gone == "log" {
                fs::remove_file(plan.log.as_ref().unwrap()).unwrap();
            }
            keeper.carry_out_next().unwrap().unwrap();
            if gone == "rotated file" {
                let rotated = names::with_suffix(&plan.data, &names::rotation_suffix(unix_ns));
                fs::remove_file(rotated).unwrap();
            }
            retire(&lane, std::mem::replace(&mut file, next));
            keeper.carry_out_next().unwrap().unwrap();
        }
        lane.take_next().unwrap().unwrap();
        assert!(names::next_path(&plan.data).exists() && plan.log.unwrap().exists(), "{gone}");
    }
}

#[test]
fn no_more_is_remembered_than_is_asked_for_again() {
    for (retain, remembered, there) in [(None, 1, 10), (Some(3), 3, 3)] {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), FileLayout::Rotating { limit_bytes: 4096, retain });
        let mut keeper = Keeper::new();
        let lane = keeper.lane(&plan);
        let mut file = open::create(&plan, &plan.data, 0).unwrap();
        keeper.begin().unwrap();
        for unix_ns in 1..=10 {
            let next = lane.take_next().unwrap().unwrap();
            let Ok(()) = lane.order(Order::Switch { lane: 0, unix_ns }) else { panic!("there is room") };
            keeper.carry_out_next().unwrap().unwrap();
            retire(&lane, std::mem::replace(&mut file, next));
            keeper.carry_out_next().unwrap().unwrap();
        }
        assert_eq!(keeper.lanes[0].rotated.len(), remembered, "{retain:?}");
        let rotated = |unix_ns: &u64| names::with_suffix(&plan.data, &names::rotation_suffix(*unix_ns)).exists();
        assert_eq!((1..=10).filter(rotated).count(), there, "{retain:?}");
    }
}

/// By a hard link, or moved to another drive with a link in its place.
#[test]
fn a_rotated_file_that_is_kept_elsewhere_is_not_recycled() {
    for moved in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), FileLayout::Rotating { limit_bytes: 4096, retain: Some(1) });
        let archived = folder.path().join("archived");
        let mut keeper = Keeper::new();
        let lane = keeper.lane(&plan);
        let mut file = open::create(&plan, &plan.data, 0).unwrap();
        keeper.begin().unwrap();
        let rotated = |unix_ns: u64| names::with_suffix(&plan.data, &names::rotation_suffix(unix_ns));
        for unix_ns in 1..=3 {
            let next = lane.take_next().unwrap().unwrap();
            file.write_all(format!("records {unix_ns}").as_bytes()).unwrap();
            let Ok(()) = lane.order(Order::Switch { lane: 0, unix_ns }) else { panic!("there is room") };
            let (file, length) = (std::mem::replace(&mut file, next), 9);
            let Ok(()) = lane.order(Order::Retire { lane: 0, file, length }) else { panic!("there is room") };
            while let Some(carried) = keeper.carry_out_next() {
                carried.unwrap();
            }
            if unix_ns == 1 && moved {
                fs::rename(rotated(1), &archived).unwrap();
                std::os::unix::fs::symlink(&archived, rotated(1)).unwrap();
            } else if unix_ns == 1 {
                fs::hard_link(rotated(1), &archived).unwrap();
            }
        }
        // The file that follows now would have been it; the one after that is the second, which nobody keeps.
        file.write_all(b"newer").unwrap();
        lane.take_next().unwrap().unwrap().write_all(b"newest").unwrap();
        assert_eq!(fs::read_to_string(&archived).unwrap(), "records 1", "moved: {moved}");
        let there = [1, 2, 3].map(|unix_ns| rotated(unix_ns).symlink_metadata().is_ok());
        assert_eq!(there, [false, false, true], "moved: {moved}");
    }
}

#[test]
fn several_keepers_end_as_the_last_of_them() {
    let (early, late) = (Instant::now(), Instant::now() + LOG_FLUSH);
    let end = |audit_lines_dropped, synced| KeeperEnd { audit_lines_dropped, synced };
    let all = [end(1, Some(late)), end(0, None), end(2, Some(early))];
    assert_eq!(all.into_iter().fold(KeeperEnd::default(), KeeperEnd::and), end(3, Some(late)));
}

#[test]
fn what_goes_wrong_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (plan, mut keeper, lane, _file) = rotating(folder.path());
    let log = plan.log.unwrap();
    // Something that no file can take the place of.
    fs::create_dir(names::with_suffix(&log, &names::rotation_suffix(1))).unwrap();
    switch(&lane);
    let why = keeper.carry_out_next().unwrap().unwrap_err().to_string();
    assert!(why.contains(&plan.data.display().to_string()), "{why}");
}

/// Records were confirmed in it by the time that its switch fails.
#[test]
fn a_file_that_cannot_get_its_name_is_not_lost() {
    for heals in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (plan, mut keeper, lane, file) = rotating(folder.path());
        let mut next = lane.take_next().unwrap().unwrap();
        // Something that no file can take the place of.
        let rotated = names::with_suffix(&plan.data, &names::rotation_suffix(1));
        fs::create_dir(&rotated).unwrap();
        switch(&lane);
        retire(&lane, file);
        next.write_all(b"confirmed").unwrap();
        let why = keeper.carry_out_next().unwrap().unwrap_err().to_string();
        assert!(why.contains("d.bin.next holds the last records"), "{why}");
        keeper.carry_out_next().unwrap().unwrap();
        assert!(lane.take_next().is_none(), "nothing follows");
        if heals {
            fs::remove_dir(&rotated).unwrap();
        }
        lane.hold(Last { file: Some(next), manifest: Some(open::tests::manifest()) });
        assert_eq!(keeper.conclude().is_ok(), heals);
        assert_eq!(plan.manifest.exists(), heals, "it would call data complete that are not under their name");
        let holds = if heals { plan.data.clone() } else { names::next_path(&plan.data) };
        assert_eq!(fs::read(holds).unwrap(), b"confirmed");
        assert_eq!(rotated.exists(), !heals, "none is kept");
    }
}

/// What lies there by then was put there by a process that looks for a place, or is somebody's file.
#[test]
fn half_a_switch_is_completed_without_loss() {
    for (put_there, completed) in [("", true), ("mine", false)] {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), FileLayout::Rotating { limit_bytes: 4096, retain: None });
        let (next_path, aside) = (names::next_path(&plan.data), folder.path().join("aside"));
        let mut keeper = Keeper::new();
        let lane = keeper.lane(&plan);
        let mut file = open::create(&plan, &plan.data, 0).unwrap();
        keeper.begin().unwrap();
        let mut next = lane.take_next().unwrap().unwrap();
        file.write_all(b"rotated").unwrap();
        next.write_all(b"confirmed").unwrap();
        // The second of the two renames finds nothing.
        fs::rename(&next_path, &aside).unwrap();
        switch(&lane);
        keeper.carry_out_next().unwrap().unwrap_err();
        fs::rename(&aside, &next_path).unwrap();
        fs::write(&plan.data, put_there).unwrap();
        assert_eq!(keeper.conclude().is_ok(), completed);
        let rotated = names::with_suffix(&plan.data, &names::rotation_suffix(1));
        assert_eq!(fs::read(rotated).unwrap(), b"rotated", "'{put_there}'");
        assert_eq!(fs::read(if completed { &plan.data } else { &next_path }).unwrap(), b"confirmed");
        assert!(completed || fs::read_to_string(&plan.data).unwrap() == put_there);
    }
}
