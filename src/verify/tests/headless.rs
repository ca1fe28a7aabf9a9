//! Streams of which something is lost: the manifest, the data file, or both.

use super::*;

const OLDER: &str = "payloads.0.bin.20260101T000000.000000001Z";
const NEWER: &str = "payloads.0.bin.20260101T000000.000000002Z";

#[test]
fn rotated_files_are_read_whatever_else_is_lost() {
    let data = records(20..30).concat();
    let store = Store::new(&data, Some(&manifest(Layout::Append, data.len() as u64, 5, 30)));
    store.add(OLDER, &records(5..10).concat());
    store.add(NEWER, &records(10..20).concat());
    let findings = store.verify();
    assert_clean(&findings, 25);
    assert_eq!(findings.records_overwritten, 5, "what --retain let go");
    assert!(findings.summary().contains("overwritten: 5 older records,"), "{}", findings.summary());

    std::fs::remove_file(store.path("payloads.0.bin")).unwrap();
    let findings = store.verify();
    assert_eq!((findings.records, findings.sources), (15, 2));
    let gap = only(&findings, Kind::Gap);
    assert_eq!((gap.first_sequence, gap.last_sequence), (Some(20), Some(29)));
    assert!(findings.damage.iter().all(|finding| finding.producer_id == Some(0)), "{}", findings.summary());
    let of = |names: &[&str]| {
        let named = names.iter().map(|name| text(&store.path(name)));
        let sources = named.chain([text(store.folder.path())]).collect();
        verify(&VerifyArgs { sources, ..VerifyArgs::default() }).unwrap()
    };
    assert_eq!(of(&["payloads.0.json"]).damage, findings.damage, "a manifest that is named twice is read once");

    std::fs::remove_file(store.path("payloads.0.json")).unwrap();
    assert_clean(&store.verify(), 15);
    assert_clean(&of(&[NEWER]), 15);

    store.add("payloads.0.bin", &data);
    for findings in [store.verify(), of(&[NEWER])] {
        assert_clean(&findings, 25);
        assert!(findings.summary().contains("no manifest, starts at sequence 5;"), "{}", findings.summary());
    }
    std::fs::remove_file(store.path(NEWER)).unwrap();
    assert_eq!(only(&store.verify(), Kind::Gap).records, 10);
}

#[test]
fn rotated_files_in_another_folder_may_be_named_before_or_behind() {
    let data = records(10..20).concat();
    let store = Store::new(&data, Some(&manifest(Layout::Append, data.len() as u64, 0, 20)));
    let archive = Store { folder: TempDir::new().unwrap() };
    archive.add(OLDER, &records(0..5).concat());
    archive.add(NEWER, &records(5..10).concat());
    let of = |folders: [&Store; 2]| {
        let sources = folders.map(|store| text(store.folder.path())).to_vec();
        verify(&VerifyArgs { sources, ..store.args() }).unwrap()
    };
    assert_clean(&of([&archive, &store]), 20);
    assert_clean(&of([&store, &archive]), 20);
    archive.add(NEWER, &records(5..9).concat());
    assert_eq!(only(&of([&store, &archive]), Kind::Gap).first_sequence, Some(9));
}

#[test]
fn a_copy_with_a_date_behind_its_name_is_no_part_of_the_stream() {
    let data = records(0..10).concat();
    let store = Store::new(&data, Some(&manifest(Layout::Append, data.len() as u64, 0, 10)));
    store.add("payloads.0.bin.20261201", &data);
    for named in ["", "payloads.0.bin"] {
        let args = VerifyArgs { sources: vec![text(&store.path(named))], ..store.args() };
        assert_clean(&verify(&args).unwrap(), 10);
    }
}

#[test]
fn what_retain_let_go_of_another_run_is_not_counted() {
    let data = records(0..10).concat();
    let store = Store::new(&data, Some(&manifest(Layout::Append, data.len() as u64, 0, 10)));
    let other: Vec<u8> = (50..60).flat_map(|at| record_of("other", 1, at, length_of(at))).collect();
    let facts = manifest(Layout::Append, other.len() as u64, 50, 60);
    store.add("payloads.1.bin", &other);
    let facts = Manifest { run_id: "other".to_owned(), producer_id: 1, ..facts };
    facts.write(&store.path("payloads.1.json")).unwrap();
    for (run_id, overwritten) in [(None, 50), (Some("other"), 50), (Some("run"), 0)] {
        let args = VerifyArgs { run_id: run_id.map(str::to_owned), ..store.args() };
        let findings = verify(&args).unwrap();
        assert_eq!((findings.records, findings.records_overwritten), (20, overwritten), "{run_id:?}");
    }
}

#[test]
fn json_of_others_is_no_manifest_and_what_is_left_of_ours_is_a_damaged_one() {
    let data = records(0..5).concat();
    let store = Store::new(&data, Some(&manifest(Layout::Append, data.len() as u64, 0, 5)));
    let ours = std::fs::read_to_string(store.path("payloads.0.json")).unwrap();
    let with = |beside: &str| {
        store.add("payloads.0.json", beside.as_bytes());
        store.verify()
    };
    let report = r#"{"run_id": "run", "producers": [], "config": {"target": "file:engine-payload/"}}"#;
    for beside in ["{}", "[1, 2]", report, "{\"level\": \"INFO\"}\n{\"level\": \"INFO\"}\n"] {
        let findings = with(beside);
        assert_clean(&findings, 5);
        assert!(findings.summary().contains("payloads.0.json is no manifest of this engine"), "{beside}");
    }
    // The last two bytes are a brace and a newline.
    for length in 0..ours.len() - 1 {
        assert_eq!(kinds(&with(&ours[..length])), [Kind::Malformed], "{length} bytes");
    }
    for (sound, wrong) in [("engine-payload/1", "engine-payload/9"), ("engine-", "angine-"), ("0", "-1")] {
        assert_eq!(kinds(&with(&ours.replace(sound, wrong))), [Kind::Malformed], "{wrong}");
    }
    assert_clean(&with(&ours), 5);
}

/// Data files may be called as one likes: what is lost of one of their streams is found all the same.
#[test]
fn a_stream_without_its_manifest_is_read_whatever_its_data_are_called() {
    let data = records(0..5).concat();
    let second = (0..5).flat_map(|at| record_of("run", 1, at, length_of(at))).collect::<Vec<u8>>();
    let facts = |producer: u32, length: usize| {
        let data_file = format!("ev.{producer}.dat");
        Manifest { data_file, producer_id: producer, ..manifest(Layout::Append, length as u64, 0, 5) }
    };
    let store = Store { folder: TempDir::new().unwrap() };
    store.add("ev.0.dat", &data);
    store.add("ev.1.dat", &second);
    facts(0, data.len()).write(&store.path("ev.0.json")).unwrap();
    facts(1, second.len()).write(&store.path("ev.1.json")).unwrap();
    // A copy, and what others may have put there.
    for (name, bytes) in
        [("ev.0.dat.20261201", &data[..]), ("ev.copy.dat", &data), ("notes.1.dat", b"a"), ("b.csv", b"1")]
    {
        store.add(name, bytes);
    }
    ["b.json", "c.json"].iter().for_each(|name| store.add(name, b""));
    assert_clean(&store.verify(), 10);
    let ours = std::fs::read(store.path("ev.1.json")).unwrap();
    for length in [0, 5, 100, ours.len() / 2] {
        store.add("ev.1.json", &ours[..length]);
        let findings = store.verify();
        assert_eq!((kinds(&findings), findings.records), (vec![Kind::Malformed], 10), "{length} bytes");
    }
    std::fs::remove_file(store.path("ev.1.json")).unwrap();
    assert_clean(&store.verify(), 10);
    store.add("ev.1.dat", &second[..second.len() - 10]);
    assert_eq!(store.verify().counted(), "1 truncated");
    std::fs::rename(store.path("ev.1.dat"), store.path(&NEWER.replace("payloads.0.bin", "ev.1.dat"))).unwrap();
    assert_eq!((store.verify().counted(), store.verify().records), ("1 truncated".to_owned(), 9));
    store.add("gone.1.json", &ours[..ours.len() / 2]);
    assert_eq!(only(&store.verify(), Kind::Malformed).source, Some(text(&store.path("gone.1.json"))));

    // Of one that is alone, the records show whose it is.
    let store = Store { folder: TempDir::new().unwrap() };
    store.add("night.dat", &data);
    store.add("night.json", b"");
    let findings = store.verify();
    assert_eq!((kinds(&findings), findings.records), (vec![Kind::Malformed], 5));
}

#[test]
fn a_manifest_that_was_renamed_with_its_data_still_judges_them() {
    let data = records(0..10).concat();
    let facts = manifest(Layout::Append, data.len() as u64, 0, 10);
    let facts = Manifest { data_file: "payloads.0.bin".to_owned(), ..facts };
    let store = Store::new(&data, None);
    std::fs::remove_file(store.path("payloads.0.bin")).unwrap();
    facts.write(&store.path("night.json")).unwrap();
    let of = |named: &str| verify(&VerifyArgs { sources: vec![text(&store.path(named))], ..store.args() }).unwrap();
    for name in ["night.bin", "night.dat"] {
        for named in ["", "night.json", name] {
            store.add(name, &records(0..7).concat());
            let findings = of(named);
            assert_eq!(only(&findings, Kind::Gap).first_sequence, Some(7), "{name}, {named}");
            assert_eq!(findings.counted(), "1 gap, 1 truncated", "{name}, {named}");
            store.add(name, &data);
            let findings = of(named);
            assert_clean(&findings, 10);
            let [line] = &findings.explained[..] else { panic!("{:?}", findings.explained) };
            assert!(
                line.contains(&format!("{name}: its manifest speaks of payloads.0.bin, which is not there")),
                "{line}"
            );
        }
        // One of a file that is there is not that of another one.
        store.add("payloads.0.bin", &data);
        assert!(of(name).summary().contains("no manifest, starts at sequence 0"), "{name}");
        // Renamed without its data, it leads there.
        std::fs::remove_file(store.path(name)).unwrap();
        assert!(!of("").summary().contains("no manifest"), "{name}");
        store.add("payloads.0.bin", &records(0..7).concat());
        assert_eq!(of("").counted(), "1 gap, 1 truncated", "{name}");
        std::fs::remove_file(store.path("payloads.0.bin")).unwrap();
    }
}

#[test]
fn a_manifest_that_leads_nowhere_ends_nothing() {
    let store = Store::new(&records(0..5).concat(), None);
    let mut facts = manifest(Layout::Append, 100, 0, 5);
    facts.producer_id = 1;
    for name in ["gone/payloads.1.bin", "..", "/nowhere/at/all"] {
        name.clone_into(&mut facts.data_file);
        facts.write(&store.path("payloads.1.json")).unwrap();
        let findings = store.verify();
        assert_eq!((findings.records, only(&findings, Kind::Gap).producer_id), (5, Some(1)), "{name}");
    }
}

#[test]
fn a_report_says_where_a_stream_has_to_start() {
    let store = Store::new(&records(0..10).concat(), None);
    store.add(
        "report.txt",
        br#"{"run_id":"run","producers":[{"id":0,"records_produced":10,"first_sequence":0,"last_sequence":9}]}"#,
    );
    let findings = verify(&VerifyArgs { expect: vec![store.path("report.txt")], ..store.args() }).unwrap();
    assert_clean(&findings, 10);
    assert!(findings.explained.is_empty(), "{}", findings.summary());
}

#[test]
fn a_pipe_says_where_it_starts_as_a_file_does() {
    let data = records(25_600..25_610).concat();
    for (findings, label) in [(pipe(&data), "stdin"), (file(&data), "payloads.0.bin")] {
        assert_clean(&findings, 10);
        let [line] = &findings.explained[..] else { panic!("{:?}", findings.explained) };
        assert!(line.contains(&format!("{label}: no manifest, starts at sequence 25600; only --expect")), "{line}");
    }
}

#[test]
fn bytes_without_any_header_are_told_what_they_need() {
    let lines = b"{\"sequence\":\"0\"}\n{\"sequence\":\"1\"}\n";
    for findings in [pipe(lines), file(lines)] {
        assert!(only(&findings, Kind::Unrecognised).what.contains("--ids FILE"), "{}", findings.summary());
    }
    let findings = pipe(&[&records(0..3).concat()[..], &lines[..]].concat());
    assert!(!only(&findings, Kind::Unrecognised).what.contains("--ids"), "{}", findings.summary());
}
