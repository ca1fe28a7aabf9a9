//! What a kill, a failed write or padding leaves, and what reports prove.

use super::*;

#[test]
fn killed_runs_have_unfinished_tails_and_nothing_else() {
    let sound = records(0..100);
    let mut facts = manifest(Layout::Append, 0, 0, 0);
    facts.complete = false;
    let killed = |bytes: &[u8]| Store::new(bytes, Some(&facts)).verify();
    let data = sound.concat();
    let padded = [&data[..], &[0; 9000]].concat();
    assert_clean(&killed(&padded), 100);
    assert_clean(&killed(&data[..data.len() - 30]), 99);
    let mut hole = sound.clone();
    hole[97] = vec![0; hole[97].len()];
    let findings = killed(&hole.concat());
    assert_clean(&findings, 99);
    assert!(findings.summary().contains("unfinished tail"), "{}", findings.summary());
    let mut stale_hole = sound.clone();
    stale_hole[97] = record_of("old run", 0, 3, stale_hole[97].len());
    assert_clean(&killed(&[stale_hole.concat(), record_of("old run", 0, 4, 90)].concat()), 101);
    let mut early = sound.clone();
    early[20] = vec![0; early[20].len()];
    let findings = killed(&early.concat());
    assert_eq!(only(&findings, Kind::Gap).first_sequence, Some(20));
    assert_eq!(kinds(&findings), [Kind::Gap, Kind::Unrecognised]);
    // A file recycled from the same run: older records lie behind the newest.
    let recycled = [records(50..100).concat(), records(10..20).concat()].concat();
    assert_clean(&killed(&recycled), 60);
}

/// What a recycled file had behind the end of the newest record, which it begins amid an older one.
fn recycled_tail() -> Vec<u8> {
    [record_of("run", 0, 10, 300).split_off(30), records(11..14).concat()].concat()
}

/// The active file and its rotated ones, the oldest first, of a killed run.
fn killed_after_rotating(rotated: &[Vec<u8>], active: &[u8]) -> Store {
    let mut facts = manifest(Layout::Append, 0, 0, 0);
    facts.complete = false;
    let store = Store::new(active, Some(&facts));
    for (at, file) in rotated.iter().enumerate() {
        store.add(&format!("payloads.0.bin.20260101T000000.00000000{at}Z"), file);
    }
    store
}

#[test]
fn a_killed_run_may_not_have_cut_the_last_file_but_one() {
    let active = records(150..200).concat();
    let uncut = |sequences: std::ops::Range<u64>| [records(sequences).concat(), recycled_tail()].concat();
    let findings = killed_after_rotating(&[records(50..100).concat(), uncut(100..150)], &active).verify();
    assert_clean(&findings, 153);
    assert!(findings.summary().contains("had not cut yet"), "{}", findings.summary());
    // The file before it was, or no other would have followed.
    let findings = killed_after_rotating(&[uncut(50..100), records(100..150).concat()], &active).verify();
    assert_eq!(kinds(&findings).len(), 2, "{}", findings.summary());
    assert_eq!(only(&findings, Kind::Stale).first_sequence, Some(11));
    only(&findings, Kind::Unrecognised);
    // It hides nothing that is missing.
    let findings = killed_after_rotating(&[records(50..100).concat(), uncut(100..140)], &active).verify();
    let gap = only(&findings, Kind::Gap);
    assert_eq!((gap.first_sequence, gap.last_sequence), (Some(140), Some(149)));
    assert_eq!(kinds(&findings), [Kind::Gap]);
    let foreign = [records(100..150).concat(), record_of("other", 0, 3, 90)].concat();
    let findings = killed_after_rotating(&[records(50..100).concat(), foreign], &active).verify();
    assert_eq!(kinds(&findings), [Kind::Foreign]);
}

/// The core had gone over to it, and the keeper was still busy.
#[test]
fn a_killed_run_s_next_file_is_the_last_of_its_stream() {
    const NEXT: &str = "payloads.0.bin.next";
    let full = [records(50..100).concat(), recycled_tail()].concat();
    let store = killed_after_rotating(&[records(20..50).concat()], &full);
    store.add(NEXT, &records(100..150).concat());
    assert_clean(&store.verify(), 133);
    let alone = VerifyArgs { sources: vec![text(&store.path("payloads.0.bin"))], ..VerifyArgs::default() };
    assert_clean(&verify(&alone).unwrap(), 133);
    store.add(NEXT, &records(110..150).concat());
    let findings = store.verify();
    assert_eq!(only(&findings, Kind::Gap).first_sequence, Some(100));
    assert_eq!(kinds(&findings), [Kind::Gap]);

    // Prepared and not used: room, or a recycled file.
    let store = killed_after_rotating(&[records(20..50).concat()], &records(50..100).concat());
    for (next, left) in [(vec![], 0), (vec![0; 9000], 0), (records(0..20).concat(), 20)] {
        store.add(NEXT, &next);
        assert_clean(&store.verify(), 80 + left);
    }

    // Between the two renames.
    let store = killed_after_rotating(&[full], &[]);
    std::fs::remove_file(store.path("payloads.0.bin")).unwrap();
    store.add(NEXT, &records(100..150).concat());
    let findings = store.verify();
    assert_clean(&findings, 103);
    assert!(findings.summary().contains("had not renamed the next one yet"), "{}", findings.summary());
    // Nothing, room for records and what was there before it was recycled are no sign that it was used.
    for unused in [Vec::new(), vec![0; 9000], records(0..20).concat()] {
        store.add(NEXT, &unused);
        assert_eq!(kinds(&store.verify()), [Kind::Truncated], "{} bytes", unused.len());
    }

    // Who ended in order left none.
    let sound = records(0..30).concat();
    let store = Store::new(&sound, Some(&manifest(Layout::Append, sound.len() as u64, 0, 30)));
    store.add(NEXT, b"mine");
    assert_clean(&store.verify(), 30);
}

#[test]
fn a_report_turns_an_unfinished_tail_into_damage_if_it_was_confirmed() {
    let sound = records(0..100);
    let mut facts = manifest(Layout::Append, 0, 0, 0);
    facts.complete = false;
    let mut hole = sound.clone();
    hole[97][70] ^= 1;
    let store = Store::new(&hole.concat(), Some(&facts));
    assert_clean(&store.verify(), 99);
    let report = |missing: &str, last: u64| {
        format!(
            r#"{{"run_id":"run","producers":[{{"id":0,"records_produced":100,"first_sequence":0,"last_sequence":{last},
            "retained_first_sequence":0,"missing":{missing}}}]}}"#
        )
    };
    let expecting = |report: String| {
        store.add("report.txt", report.as_bytes());
        verify(&VerifyArgs { expect: vec![store.path("report.txt")], ..store.args() }).unwrap()
    };
    assert_eq!(only(&expecting(report("[]", 99)), Kind::Absent).first_sequence, Some(97));
    assert_clean(&expecting(report("[[97,97]]", 99)), 99);
    let findings = expecting(report("[[97,97]]", 105));
    let absent = only(&findings, Kind::Absent);
    assert_eq!((absent.first_sequence, absent.last_sequence), (Some(100), Some(105)));
}

#[test]
fn reports_hold_for_pipes_and_lists_too() {
    let store = Store::new(&records(0..10).concat(), None);
    store.add("ids.csv", b"run,1,0\nrun,1,2\nrun,1,1\n");
    store.add(
        "report.txt",
        br#"{"run_id":"run","producers":[
        {"id":0,"records_produced":10,"first_sequence":0,"last_sequence":9},
        {"id":1,"records_produced":4,"first_sequence":0,"last_sequence":3}]}"#,
    );
    let args = VerifyArgs {
        ids: Some(text(&store.path("ids.csv"))),
        expect: vec![store.path("report.txt")],
        sources: vec![text(&store.path("payloads.0.bin"))],
        ..VerifyArgs::default()
    };
    let findings = verify(&args).unwrap();
    let absent = only(&findings, Kind::Absent);
    assert_eq!((absent.producer_id, absent.first_sequence, absent.last_sequence), (Some(1), Some(3), Some(3)));
    assert_eq!(kinds(&findings), [Kind::Absent]);
}

#[test]
fn unconfirmed_records_are_explained() {
    let sound = records(0..30);
    let mut facts = manifest(Layout::Append, sound.concat().len() as u64, 0, 30);
    facts.missing = vec![(10, 11)];
    let mut holes = sound.clone();
    holes[10].fill(0);
    holes[11][66] ^= 1;
    let findings = Store::new(&holes.concat(), Some(&facts)).verify();
    assert_clean(&findings, 28);
    assert!(findings.summary().contains("not confirmed"), "{}", findings.summary());
    holes[14][66] ^= 1;
    let findings = Store::new(&holes.concat(), Some(&facts)).verify();
    assert_eq!(only(&findings, Kind::Corrupt).first_sequence, Some(14));
}

#[test]
fn a_failed_write_in_a_recycled_file_leaves_an_older_record_that_is_explained() {
    for failed in [50, 60, 69] {
        let older = record_of("run", 0, 10, length_of(failed));
        let data = [records(50..failed).concat(), older, records(failed + 1..70).concat()].concat();
        let mut facts = manifest(Layout::Append, data.len() as u64, 50, 70);
        facts.missing = vec![(failed, failed)];
        assert_clean(&Store::new(&data, Some(&facts)).verify(), 20);
        facts.missing = vec![(65, 65)];
        let findings = Store::new(&data, Some(&facts)).verify();
        assert_eq!(kinds(&findings), [Kind::Gap, Kind::Stale], "another one is known to be missing");
    }
}

#[test]
fn more_oddities_than_can_wait_are_lumped_and_still_judged() {
    let mut facts = manifest(Layout::Append, 0, 0, 0);
    (facts.complete, facts.in_flight_bytes_max) = (false, 1 << 30);
    let mut data: Vec<Vec<u8>> = (0..20_000).map(|at| record_of("run", 0, at, 80)).collect();
    for flipped in data.iter_mut().skip(1).step_by(2).take(9_900) {
        flipped[70] ^= 1;
    }
    for foreign in (0..7_000).map(|at| record_of("old run", 0, at * 2, 64)) {
        data.push(foreign);
    }
    let store = Store::new(&data.concat(), Some(&facts));
    assert_clean(&store.verify(), 10_100 + 7_000);
    facts.in_flight_bytes_max = 800;
    facts.write(&store.path("payloads.0.json")).unwrap();
    let findings = store.verify();
    assert_eq!(findings.count(Kind::Corrupt).findings, 9_900);
    assert_eq!(findings.count(Kind::Foreign).findings, 0);
}

#[test]
fn what_follows_the_end_that_a_manifest_states_is_damage() {
    let sound = records(0..30).concat();
    let mut facts = manifest(Layout::Append, sound.len() as u64, 0, 30);
    let behind = |tail: &[u8]| append(&[&sound[..], tail].concat(), &sound, 30);
    assert_clean(&behind(&[0; 700]), 30);
    let findings = behind(b"garbage\n");
    assert_eq!((only(&findings, Kind::Unrecognised).byte, findings.records), (Some(facts.length_bytes), 30));
    assert_eq!(kinds(&behind(b"\0\0\0garbage")), [Kind::Unrecognised]);
    assert_eq!(only(&behind(&sound), Kind::Duplicate).records, 30);
    assert_eq!(only(&behind(&record_of("run", 0, 30, 90)), Kind::Foreign).first_sequence, Some(30));
    assert_eq!(kinds(&behind(&record_of("other", 0, 0, 90))), [Kind::Foreign]);

    // That no report counts it does not excuse half a record here.
    let half = &record_of("run", 0, 30, 90)[..70];
    let store = Store::new(&[&sound[..], half].concat(), Some(&facts));
    store.add(
        "report.txt",
        br#"{"run_id":"run","producers":[{"id":0,"records_produced":30,"first_sequence":0,"last_sequence":29}]}"#,
    );
    let findings = verify(&VerifyArgs { expect: vec![store.path("report.txt")], ..store.args() }).unwrap();
    assert_eq!(kinds(&findings), [Kind::Truncated]);

    // Nor do records that are known to be missing.
    facts.missing = vec![(28, 29)];
    let kept = records(0..28).concat().len();
    let mut holes = sound.clone();
    holes[kept..].fill(0);
    assert_clean(&Store::new(&holes, Some(&facts)).verify(), 28);
    holes.extend(b"garbage");
    let findings = Store::new(&holes, Some(&facts)).verify();
    assert_eq!(only(&findings, Kind::Unrecognised).byte, Some(kept as u64));
}
