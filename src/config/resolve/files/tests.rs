use super::*;
use crate::base::fatal::Exit;
use crate::config::values;
use crate::manifest::{FORMAT, RecordFormat};
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

fn manifest(layout: Layout) -> Manifest {
    Manifest {
        data_file: String::new(),
        format: FORMAT.to_owned(),
        run_id: "earlier".to_owned(),
        producer_id: 0,
        layout,
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

const RING: FileLayout = FileLayout::Ring { capacity_bytes: 4096 };
const OUR_RING: Layout = Layout::Ring { capacity_bytes: 4096, lap_bytes: 4096, lap_records: 1 };

fn existing(names: &Names, baseline: bool, overwrite: bool) -> Vec<Fatal> {
    let mut errors = Vec::new();
    check_existing(names, RING, baseline, overwrite, &mut errors);
    errors
}

#[test]
fn only_the_baseline_reuses_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let names = names(&Place::Folder(folder.path().to_owned()), 0, true);
    assert!(existing(&names, false, false).is_empty());
    std::fs::write(&names.data, b"precious").unwrap();
    let errors = existing(&names, true, false);
    assert!(errors[0].exit == Exit::Usage && errors[0].mend.as_ref().unwrap().contains("--overwrite"));
    assert!(errors[0].what.contains("payloads.0.bin"));
    manifest(OUR_RING).write(&names.manifest).unwrap();
    assert!(existing(&names, true, false).is_empty());
    assert!(existing(&names, false, false)[0].what.contains("'earlier'"));
    assert!(existing(&names, false, true).is_empty());
    manifest(Layout::Append).write(&names.manifest).unwrap();
    assert!(existing(&names, true, false)[0].what.contains("another layout"));
    std::fs::write(&names.data, b"").unwrap();
    assert!(existing(&names, false, false).is_empty());
    std::fs::write(&names.manifest, b"{\"mine\": 1}").unwrap();
    assert!(existing(&names, true, false)[0].what.contains("no manifest of ours"));
}

fn planned(wanted: &Wanted, place: Place, producers: usize) -> (Vec<FilePlan>, Vec<Fatal>) {
    let targets = Targets {
        kind: SinkKind::File,
        urls: vec!["file:x".into()],
        places: vec![place],
        remotes: Vec::new(),
        baseline: false,
    };
    let seats =
        Seats { targets: &targets, producers: (0..producers as u64).map(|id| (id, 0)).collect(), sharded: false };
    let (sysfs, mut errors) = (Sysfs::default(), Vec::new());
    let names = seats.names();
    let layouts = layouts(wanted, &seats, &names, &Sizes::fixed_at(4096), &sysfs, &mut errors);
    let blocks = Blocks { direct: false, align: 1, block_bytes: 4096, queue_depth: 8 };
    let plans = plans(&Settings::default(), wanted, &seats, (&names, &layouts), &blocks, (&sysfs, &mut errors));
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

#[test]
fn space_that_is_not_there_is_exit_3_with_figures() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = Wanted { preallocate_bytes: Some(1 << 60), ..wanted() };
    let (_, errors) = planned(&wanted, Place::Folder(folder.path().to_owned()), 1);
    assert!(errors[0].exit == Exit::Host && errors[0].what.contains("free"), "{errors:?}");
}

#[test]
fn a_file_in_the_way_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (_, errors) = planned(&wanted(), Place::File(file.path().join("below")), 1);
    assert!(errors[0].what.contains("no folder"), "{errors:?}");
    let (_, errors) = planned(&wanted(), Place::Special("/dev/null".into()), 2);
    assert!(errors[0].what.contains("one producer"));
}
