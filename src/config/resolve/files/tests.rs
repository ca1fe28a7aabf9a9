use super::*;
use crate::base::fatal::Exit;
use crate::config::values;
use crate::config::values::MinFree;
use crate::host::fs::FsFacts;
use crate::manifest::Manifest;
use crate::plan::SinkKind;

fn file(path: &str) -> Place {
    Place::File(PathBuf::from(path))
}

#[test]
fn names_follow_the_contract() {
    let of = |place: &Place, id, alone| {
        let names = names(place, id, alone);
        [names.data, names.manifest, names.log].map(|path| path.display().to_string())
    };
    let folder = Place::Folder("d".into());
    assert_eq!(of(&folder, 3, false), ["d/payloads.3.bin", "d/payloads.3.json", "d/payloads.3.log"]);
    assert_eq!(of(&file("l/p.3.bin"), 0, true), ["l/p.3.bin", "l/p.3.json", "l/p.3.log"]);
    assert_eq!(of(&file("out.bin"), 7, false), ["out.7.bin", "out.7.json", "out.7.log"]);
    assert_eq!(of(&file("out"), 7, false), ["out.7", "out.7.json", "out.7.log"]);
    assert_eq!(of(&file("out"), 0, true), ["out", "out.json", "out.log"]);
    assert_eq!(of(&file("x.json"), 0, true), ["x.json", "x.manifest.json", "x.log"]);
    assert_eq!(of(&file("x.log"), 0, true), ["x.log", "x.json", "x.audit.log"]);
}

fn planned(wanted: &Wanted, place: Place, producers: usize) -> (Vec<FilePlan>, Vec<Fatal>) {
    let targets = Targets {
        kind: SinkKind::File,
        urls: vec!["file:x".into()],
        places: vec![place],
        remotes: Vec::new(),
        baseline: false,
    };
    let seats = Seats { targets, producers: (0..producers as u64).map(|id| (id, 0)).collect(), sharded: false };
    let (sysfs, sizes, mut errors) = (Sysfs::default(), Sizes::fixed_at(4096), Vec::new());
    let names = seats.names();
    let layouts = layouts(wanted, &seats, &names, &sizes, &sysfs, &mut errors);
    let blocks = Blocks { direct: false, align: 1, block_bytes: 4096, queue_depth: 8 };
    let amounts = (&blocks, &sizes, u64::MAX);
    let plans = plans(&Settings::default(), wanted, &seats, (&names, &layouts), amounts, (&sysfs, &mut errors));
    (plans, errors)
}

fn wanted() -> Wanted {
    Wanted { min_free: Some(MinFree::Bytes(0)), ..values::read(&Settings::default(), &mut Vec::new()) }
}

#[test]
fn layouts_are_what_the_flags_say() {
    let folder = tempfile::tempdir().unwrap();
    let place = || Place::Folder(folder.path().to_owned());
    let (plans, errors) = planned(&wanted(), place(), 2);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(plans[1].layout, FileLayout::Rotating { limit_bytes: 50 << 20, retain: None });
    let ring = Wanted { footprint_bytes: Some(1 << 20), ..wanted() };
    assert_eq!(planned(&ring, place(), 2).0[0].layout, FileLayout::Ring { capacity_bytes: 1 << 19 });
    let both = Wanted { rotate_mib: Some(1), preallocate_bytes: Some(100), ..ring };
    assert_eq!(planned(&both, place(), 2).1.len(), 3);
}

/// The free space of this host moves meanwhile, but not by a tenth.
#[test]
fn files_of_an_earlier_run_keep_their_length_up_to_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let all = [0, 1].map(|id| names(&Place::Folder(folder.path().to_owned()), id, false));
    let footprint = |length: u64| {
        for names in &all {
            std::fs::File::create(&names.data).unwrap().set_len(length).unwrap();
        }
        let mut errors = Vec::new();
        let total = default_footprint(&wanted(), &all, &Sysfs::default(), &mut errors);
        assert!(errors.is_empty(), "{errors:?}");
        total
    };
    let total = footprint(0);
    let shorter = total / 2 / 10 * 7;
    assert_eq!(footprint(shorter), 2 * shorter);
    for other in [total / 2 / 10 * 12, total / 2 / 10 * 3] {
        let found = footprint(other);
        assert!(found.abs_diff(total) < total / 10, "{found} B with files of {other} B, {total} B without");
    }
}

#[test]
fn a_lap_has_room_for_all_templates() {
    let sizes = Sizes { min_bytes: 1000, max_bytes: 2000, mean_bytes: 1500, cycle_bytes: 9000, count: 6 };
    let folder = || Place::Folder("no/such/folder".into());
    let device = |capacity_bytes| Place::Block { path: "/dev/x".into(), device: "8:0".into(), capacity_bytes };
    let told = |place: Place, preallocate_bytes| {
        let places = vec![place];
        let targets = Targets { kind: SinkKind::File, urls: Vec::new(), places, remotes: Vec::new(), baseline: false };
        let seats = Seats { targets, producers: vec![(0, 0)], sharded: false };
        let mut errors = Vec::new();
        let wanted = Wanted { preallocate_bytes, ..wanted() };
        layouts(&wanted, &seats, &seats.names(), &sizes, &Sysfs::default(), &mut errors);
        errors
    };
    for (place, preallocate_bytes) in [(folder(), Some(8999)), (device(8999), None)] {
        let errors = told(place, preallocate_bytes);
        assert!(errors.len() == 1 && errors[0].what.contains("all 6 templates"), "{errors:?}");
    }
    for (place, preallocate_bytes) in [(folder(), Some(9000)), (device(9000), None), (folder(), None)] {
        assert!(told(place, preallocate_bytes).is_empty());
    }
}

#[test]
fn what_lies_there_is_refused_with_everything_else() {
    let folder = tempfile::tempdir().unwrap();
    let place = || Place::Folder(folder.path().to_owned());
    std::fs::write(folder.path().join("payloads.0.log"), "mine").unwrap();
    assert!(planned(&wanted(), place(), 2).1.is_empty(), "no log is wanted");
    std::fs::write(folder.path().join("payloads.1.bin"), "mine").unwrap();
    let audited = Wanted { audit_every: 1, ..wanted() };
    let (_, errors) = planned(&audited, place(), 2);
    assert!(errors.len() == 2 && errors[0].what.contains("payloads.0.log"), "{errors:?}");
    assert!(errors[1].what.contains("payloads.1.bin"), "{errors:?}");
    let overwriting = Wanted { overwrite: true, ..audited };
    let (_, errors) = planned(&overwriting, place(), 2);
    assert!(errors.len() == 1 && errors[0].what.contains("payloads.0.log"), "no line of ours: {errors:?}");
    std::fs::remove_file(folder.path().join("payloads.0.log")).unwrap();
    let (plans, errors) = planned(&overwriting, place(), 2);
    assert!(errors.is_empty() && plans[1].existing == Existing::Replaced, "{errors:?}");
}

/// The folder's place for data, and what a PATH and a number make.
#[test]
fn what_has_the_name_of_a_data_file_and_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["payloads.1.bin", "x.1"] {
        std::os::unix::fs::symlink("/dev/null", path(name)).unwrap();
    }
    for place in [Place::Folder(folder.path().to_owned()), Place::File(path("x"))] {
        for overwrite in [false, true] {
            let (_, errors) = planned(&Wanted { overwrite, ..wanted() }, place.clone(), 2);
            assert!(errors.len() == 1 && errors[0].exit == Exit::Usage, "{errors:?}");
            assert!(errors[0].what.contains("is a character device (/dev/null)"), "{errors:?}");
            assert_eq!(errors[0].mend.as_deref(), Some("--target=file:/dev/null"));
        }
    }
}

#[test]
fn no_run_id_is_used_twice_for_a_ring() {
    let folder = tempfile::tempdir().unwrap();
    let place = || Place::Folder(folder.path().to_owned());
    std::fs::write(folder.path().join("payloads.0.bin"), "its records").unwrap();
    let manifest = Manifest { data_file: "payloads.0.bin".to_owned(), ..open::tests::manifest() };
    manifest.write(&folder.path().join("payloads.0.json")).unwrap();
    let ring = Wanted { preallocate_bytes: Some(1 << 20), overwrite: true, ..wanted() };
    for (run_id, others) in [(Some("earlier"), 1), (Some("later"), 0), (None, 0)] {
        let wanted = Wanted { run_id: run_id.map(str::to_owned), ..ring.clone() };
        let (_, errors) = planned(&wanted, place(), 1);
        assert_eq!(errors.len(), others, "{errors:?}");
        assert!(errors.iter().all(|fatal| fatal.mend.as_deref() == Some("another --run-id")), "{errors:?}");
    }
}

#[test]
fn what_was_there_when_the_plan_was_made_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let names = names(&Place::Folder(folder.path().to_owned()), 0, true);
    assert_eq!(fate_of_existing(&names, false, false), Existing::Refused { manifest: false });
    std::fs::write(&names.manifest, "x").unwrap();
    assert_eq!(fate_of_existing(&names, false, false), Existing::Refused { manifest: true });
    assert_eq!(fate_of_existing(&names, true, false), Existing::Reused);
    assert_eq!(fate_of_existing(&names, true, true), Existing::Replaced);
}

/// The way of the report is a link that leads, for now, to nothing.
#[test]
fn a_report_behind_a_link_is_not_the_run_s_own_file() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("latest.json");
    std::os::unix::fs::symlink("data/payloads.0.json", &link).unwrap();
    let wanted = Wanted { report: Some(ReportTarget::File(link)), ..wanted() };
    let (_, errors) = planned(&wanted, Place::Folder(folder.path().join("data")), 1);
    assert!(errors.len() == 1 && errors[0].what.contains("the run itself keeps"), "{errors:?}");
    assert!(planned(&wanted, Place::Folder(folder.path().join("other")), 1).1.is_empty());
}

#[test]
fn space_that_is_not_there_is_exit_3_with_figures() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = Wanted { preallocate_bytes: Some(1 << 60), ..wanted() };
    let (_, errors) = planned(&wanted, Place::Folder(folder.path().to_owned()), 1);
    assert!(errors[0].exit == Exit::Host && errors[0].what.contains("free"), "{errors:?}");
    // Not what is there of it, which may be the working folder.
    let wanted = Wanted { min_free: Some(MinFree::Bytes(1 << 60)), ..self::wanted() };
    for (place, named) in [
        (Place::Folder(folder.path().join("not/there")), folder.path().join("not/there")),
        (Place::Folder("no-such-folder".into()), "no-such-folder".into()),
        (Place::File("no-such-file.bin".into()), "no-such-file.bin".into()),
    ] {
        let what = &planned(&wanted, place, 1).1[0].what;
        assert!(what.starts_with(&format!("{} has ", named.display())), "{what}");
        let told = what.contains(" free, less than the ") && what.ends_with(" that --min-free keeps");
        assert!(told, "it takes nothing new: {what}");
    }
}

#[test]
fn a_short_run_needs_no_room_for_a_long_one() {
    let folder = tempfile::tempdir().unwrap();
    let (plans, _) = planned(&wanted(), Place::Folder(folder.path().to_owned()), 1);
    let layout = FileLayout::Rotating { limit_bytes: 1 << 60, retain: None };
    let long = FilePlan { layout, direct: true, align: 512, ..plans[0].clone() };
    let short = FilePlan { run_bytes_max: 4096, ..long.clone() };
    let told = |plan: FilePlan| {
        let mut errors = Vec::new();
        check_space(&[plan], &Sysfs::default(), &mut errors);
        errors
    };
    assert!(told(short).is_empty());
    assert!(told(long)[0].mend.as_ref().unwrap().contains("--rotate-size-mb"));
}

#[test]
fn every_file_of_a_short_run_gets_its_room() {
    let fixed = Sizes::fixed_at;
    let drawn = |min_bytes, max_bytes| Sizes { min_bytes, max_bytes, mean_bytes: min_bytes, cycle_bytes: 0, count: 0 };
    let rotating = FileLayout::Rotating { limit_bytes: 4096, retain: None };
    let (folder, align) = (Path::new("data"), 512);
    for (run_bytes, sizes, rooms) in [
        (9000, fixed(3000), [4096, 4096, 4096, 0]),
        (6000, fixed(3000), [4096, 4096, 0, 0]),
        (8192, fixed(1024), [4096, 4096, 0, 0]),
        (6000, drawn(1000, 2049), [4096, 4096, 4096, 0]),
        (6000, drawn(3000, 4096), [4096, 4096, 0, 0]),
        (u64::MAX, fixed(3000), [4096; 4]),
    ] {
        let run_bytes_max = filled_bytes_max(run_bytes, rotating, &sizes);
        let plan = FilePlan { direct: true, align, run_bytes_max, ..open::tests::plan(folder, rotating) };
        let given = [0, 1, 2, 3].map(|nth| open::allocation_bytes(&plan, nth));
        assert_eq!(given, rooms, "{run_bytes} B in records of {} to {} B", sizes.min_bytes, sizes.max_bytes);
    }
    assert_eq!(filled_bytes_max(9000, FileLayout::Ring { capacity_bytes: 4096 }, &fixed(3000)), 9000);
    let none = FileLayout::Rotating { limit_bytes: 0, retain: None };
    assert_eq!(filled_bytes_max(9000, none, &fixed(3000)), 0, "it is refused elsewhere");
}

#[test]
fn who_may_not_write_is_told_apart_from_what_is_mounted_read_only() {
    let told = |errno| {
        let why = io::Error::from_raw_os_error(errno);
        unwritable(Path::new("/data/x/a.bin"), Path::new("/data"), &why)
    };
    let (denied, mounted) = (told(libc::EACCES), told(libc::EROFS));
    assert_eq!((denied.exit, mounted.exit), (Exit::Host, Exit::Host));
    assert!(denied.what.contains("no permission on /data") && denied.mend.unwrap().contains("chown"));
    assert!(mounted.what.contains("/data is mounted read-only") && mounted.mend.unwrap().contains("remount,rw"));
}

#[test]
fn a_device_wants_a_working_folder_that_can_be_written() {
    let mut errors = Vec::new();
    check_beside_device(Path::new("/dev/x"), Path::new("."), &mut errors);
    assert!(errors.is_empty(), "{errors:?}");
    check_beside_device(Path::new("/dev/x"), Path::new("no/such/folder"), &mut errors);
    assert!(errors[0].exit == Exit::Host && errors[0].what.contains("/dev/x: its manifest"), "{errors:?}");
    assert_eq!(errors[0].mend.as_deref(), Some("start in a folder that can be written"));
}

#[test]
fn a_tenth_of_the_drive_and_no_more_than_20_gib_stay_free() {
    const GIB: u64 = 1 << 30;
    let facts = host_fs::facts(&Sysfs::default(), Path::new("/tmp")).unwrap();
    let of = |min_free, gib| {
        let wanted = Wanted { min_free, ..wanted() };
        super::min_free(&wanted, &FsFacts { total_bytes: gib * GIB, ..facts.clone() }) / GIB
    };
    assert_eq!([50, 200, 4000].map(|gib| of(None, gib)), [5, 20, 20]);
    assert_eq!((of(Some(MinFree::Share(0.5)), 100), of(Some(MinFree::Bytes(GIB)), 100)), (50, 1));
}

#[test]
fn a_file_in_the_way_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (_, errors) = planned(&wanted(), Place::File(file.path().join("below")), 1);
    assert!(errors[0].what.contains("no folder"), "{errors:?}");
    let (_, errors) = planned(&wanted(), Place::Special("/dev/null".into()), 2);
    assert!(errors[0].what.contains("one producer"));
}
