//! What is on the drive before and after: data of others, rotation, retention.

use crate::endings::{SIGINT, handles};
use crate::harness::{Live, Scratch, poll, quiet};
use crate::report::{count, total};
use engine::record::Header;
use std::fs::File;
use std::io::Write;

#[test]
fn foreign_files_are_left_alone() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("data")).unwrap();
    scratch.write("data/payloads.0.bin", "mine");
    let ended = scratch.run("--target file:data/ --parallel 1 --records 10");
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["payloads.0.bin", "--overwrite"]);
    assert_eq!(scratch.read("data/payloads.0.bin"), b"mine");
    scratch.write("data/payloads.1.json", "{\"format\": \"of another program\"}");
    let ended = scratch.run("--target file:data/ --parallel 2 --records 10");
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["payloads.0.bin", "payloads.1.json"]);
    assert_eq!(scratch.names("data"), ["payloads.0.bin", "payloads.1.json"]);
}

#[test]
fn the_baseline_does_not_touch_files_that_are_not_ours() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("engine-data")).unwrap();
    scratch.write("engine-data/payloads.0.bin", "mine");
    let ended = scratch.run("--footprint 64Mi --duration 100ms");
    assert_eq!(ended.code(), 2, "{ended}");
    assert_eq!(scratch.read("engine-data/payloads.0.bin"), b"mine");
}

#[test]
fn data_of_another_run_go_only_when_asked() {
    let scratch = Scratch::new();
    for layout in ["--rotate-size-mb 1", "--preallocate 1Mi"] {
        let folder = layout.split(' ').next().unwrap().trim_matches('-');
        let words = format!("--target file:{folder}/ --parallel 1 {layout} --bytes 3Mi");
        scratch.report(&words);
        let before = scratch.names(folder);
        let ended = scratch.run(&words);
        assert_eq!(ended.code(), 2, "{ended}");
        ended.says(&["--overwrite", "payloads.0.bin"]);
        assert_eq!(scratch.names(folder), before);
        scratch.verify_clean(&format!("{folder}/ --expect report.json"));
        scratch.report(&format!("{words} --overwrite"));
        scratch.verify_clean(&format!("{folder}/ --expect report.json"));
    }
}

/// What is overwritten in place still has records of the run before, which could prove this one.
#[test]
fn a_run_id_names_one_run_of_a_ring() {
    for (target, again) in
        [("--target file:data/ --parallel 1 --preallocate 1Mi", "--overwrite"), ("--footprint 8Mi", "")]
    {
        let scratch = Scratch::new();
        let folder = if target.contains("--target") { "data" } else { "engine-data" };
        let words = format!("{target} --records 1000 --run-id nightly");
        scratch.report(&words);
        let ended = scratch.run(&format!("{words} {again}"));
        assert_eq!(ended.code(), 2, "{target}: {ended}");
        ended.says(&["payloads.0.bin", "run 'nightly'", "mend: another --run-id"]);
        scratch.verify_clean(&format!("{folder}/ --expect report.json"));
        scratch.report(&format!("{words}-2 {again}"));
        scratch.verify_clean(&format!("{folder}/ --expect report.json"));
        let ended = scratch.run(&format!("{words} {again}"));
        assert_eq!(ended.code(), 2, "{target}: {ended}");
        ended.says(&["payloads.0.bin", "run 'nightly'", "mend: another --run-id"]);
    }
    // A file that is appended to begins empty.
    let scratch = Scratch::new();
    for _ in 0..2 {
        scratch.report("--target file:data/ --parallel 1 --records 10 --run-id nightly --overwrite");
        scratch.verify_clean("data/ --expect report.json");
    }
}

/// A report, another file's manifest and somebody's logs.
#[test]
fn overwriting_spares_what_nobody_named() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("out")).unwrap();
    assert_eq!(scratch.run("--target null --records 10 --report out/a.json").code(), 0);
    scratch.report("--target file:out/b.bin --records 10");
    for log in ["out/c.log", "out/d.log.1"] {
        scratch.write(log, "IMPORTANT");
    }
    let there = || -> Vec<_> {
        let with_bytes = |name: String| (scratch.read(&format!("out/{name}")), name);
        scratch.names("out").into_iter().map(with_bytes).collect()
    };
    let before = there();
    for (words, named) in [
        ("a.bin", "a.json is no manifest of ours"),
        ("b.dat", "b.json is the manifest of b.bin"),
        ("c.bin --audit-every 1", "c.log holds"),
        ("d.bin --audit-every 1 --preallocate 1Mi", "d.log.1 holds"),
    ] {
        let ended = scratch.run(&format!("--target file:out/{words} --records 10 --overwrite"));
        assert_eq!(ended.code(), 2, "{words}: {ended}");
        ended.says(&[named, "another PATH"]);
        assert!(there() == before, "{words}");
    }
    scratch.verify_clean("out/b.bin --expect report.json");
}

#[test]
fn rotation_under_load_keeps_what_retain_says() {
    for more in ["--io uring --direct off", "--io syscall --direct on", "--payload-size 1000 --direct on"] {
        let scratch = Scratch::new();
        let words = "--target file:data/ --parallel 2 --rotate-size-mb 1 --retain 2 --audit-every 100 --bytes 24Mi";
        let report = scratch.report(&format!("{words} {more}"));
        let names = scratch.names("data");
        for producer in 0..2 {
            let of = |kind: &str| {
                names.iter().filter(|name| name.starts_with(&format!("payloads.{producer}.{kind}"))).count()
            };
            assert_eq!((of("bin"), of("log"), of("json")), (3, 3, 1), "{names:?}");
        }
        for name in names.iter().filter(|name| name.contains(".bin.")) {
            let length = scratch.read(&format!("data/{name}")).len();
            assert!(length <= 1 << 20 && length > (1 << 20) - 4096, "{name}: {length}");
        }
        let findings = scratch.verify_clean("data/ --expect report.json");
        let kept: u64 = report["producers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                assert!(count(one, "retained_first_sequence") > 0, "{one:#}");
                count(one, "last_sequence") + 1 - count(one, "retained_first_sequence")
            })
            .sum();
        assert_eq!(findings["records"], kept, "{more}");
        let produced = total(&report, "records_produced");
        assert!(kept < produced);
        assert_eq!(findings["records_overwritten"], produced - kept, "{more}");
    }
}

#[test]
fn retain_zero_keeps_the_active_file_alone() {
    let scratch = Scratch::new();
    scratch.report("--target file:data/ --parallel 1 --rotate-size-mb 1 --retain 0 --bytes 5Mi");
    assert_eq!(scratch.names("data"), ["payloads.0.bin", "payloads.0.json"]);
    scratch.verify_clean("data/ --expect report.json");
}

#[test]
fn nobody_s_home_becomes_a_folder() {
    let scratch = Scratch::new();
    for words in ["--target file:~/data/", "--target null --report=~/report.json"] {
        let ended = scratch.run(&format!("{words} --records 3"));
        assert_eq!(ended.code(), 2, "{ended}");
        ended.says(&["~/", "$HOME"]);
    }
    assert_eq!(scratch.names("."), [""; 0]);
}

/// Rotated files and rings with `--overwrite`, and the baseline, which needs no flag to take its own files again.
#[test]
fn two_runs_never_write_the_same_files() {
    for (words, again) in [
        ("--target file:data/ --parallel 2 --rotate-size-mb 1 --retain 2 --audit-every 100", "--overwrite"),
        ("--target file:data/ --parallel 2 --preallocate 1Mi", "--overwrite"),
        ("--footprint 8Mi", ""),
    ] {
        let scratch = Scratch::new();
        let folder = if words.contains("--target") { "data" } else { "engine-data" };
        let endless = format!("{words} --rate 20MB/s --duration inf --stats-interval 100ms --report report.json");
        let mut engine = Live::start(&mut scratch.engine(&endless));
        engine.event("interval");
        let second = scratch.run(&format!("{words} {again} --records 10"));
        assert_eq!(second.code(), 3, "{words}: {second}");
        second.says(&["payloads.0.bin", "another process is writing it", "mend:"]);
        let same = scratch.run(&format!("{words} --records 10"));
        assert_eq!(same.code(), 3, "{words}: {same}");
        assert!(!same.stderr.contains("--overwrite"), "{words}: nobody is told how to lose it: {same}");
        engine.event("interval");
        engine.signal("INT");
        let first = engine.ended();
        assert_eq!(first.code(), 0, "{words}: {first}");
        assert!(total(&scratch.report_of(&first, "report.json"), "records_produced") > 10);
        scratch.verify_clean(&format!("{folder}/ --expect report.json"));
        // Once it is over, the files can be had.
        scratch.report(&format!("{words} {again} --records 10"));
        scratch.verify_clean(&format!("{folder}/ --expect report.json"));
    }
}

/// The first of the two is this test: it has the lock when the second finds the folder empty, and ends while that waits.
#[test]
fn data_that_were_finished_while_a_run_waited_for_the_lock_stay() {
    let _quiet = quiet();
    for words in ["--parallel 1 --rotate-size-mb 1 --bytes 512Ki", "--parallel 1 --preallocate 1Mi --bytes 3Mi"] {
        let scratch = Scratch::new();
        scratch.report(&format!("--target file:first/ {words}"));
        std::fs::create_dir(scratch.path("data")).unwrap();
        let mut data = File::create(scratch.path("data/payloads.0.bin")).unwrap();
        data.try_lock().unwrap();
        let second = Live::start(&mut scratch.engine(&format!("--target file:data/ {words}")));
        // It has them once its plan is made.
        poll("the second run's signal handlers", || handles(second.pid(), SIGINT).then_some(()));
        data.write_all(&scratch.read("first/payloads.0.bin")).unwrap();
        std::fs::copy(scratch.path("first/payloads.0.json"), scratch.path("data/payloads.0.json")).unwrap();
        drop(data);
        let second = second.ended();
        assert_eq!(second.code(), 2, "{words}: {second}");
        second.says(&["payloads.0.bin holds data of the run", "mend: --overwrite"]);
        assert_eq!(scratch.names("data"), scratch.names("first"));
        assert!(scratch.read("data/payloads.0.bin") == scratch.read("first/payloads.0.bin"), "{words}: data are lost");
        scratch.verify_clean("data/");
    }
}

/// Sequence and offset of each line.
fn audited(scratch: &Scratch, log: &str) -> Vec<(u64, usize)> {
    let text = String::from_utf8(scratch.read(log)).unwrap();
    let number = |line: &str, name: &str| -> u64 {
        let found = line.split(' ').find_map(|part| part.strip_prefix(name)?.parse().ok());
        found.unwrap_or_else(|| panic!("{log}: {line}"))
    };
    text.lines().map(|line| (number(line, "sequence="), number(line, "offset=") as usize)).collect()
}

#[test]
fn the_audit_log_of_a_ring_has_two_laps_at_most() {
    let scratch = Scratch::new();
    let words = "--target file:data/ --parallel 1 --preallocate 256Ki --audit-every 3 --records 1500";
    let report = scratch.report(words);
    let logs = ["payloads.0.log", "payloads.0.log.1"];
    assert_eq!(scratch.names("data"), [&["payloads.0.bin", "payloads.0.json"][..], &logs].concat());
    let manifest: serde_json::Value = serde_json::from_slice(&scratch.read("data/payloads.0.json")).unwrap();
    let lap_records = count(&manifest["layout"], "lap_records");
    assert!((2..=64).contains(&lap_records), "{manifest:#}");
    let logs = logs.map(|log| audited(&scratch, &format!("data/{log}")));
    for lines in &logs {
        assert!((1..=lap_records.div_ceil(3)).contains(&(lines.len() as u64)), "{lap_records}: {lines:?}");
    }
    // Every record that the ring still has is in one of the two, at its place.
    let producer = &report["producers"][0];
    let retained = count(producer, "retained_first_sequence")..=count(producer, "last_sequence");
    assert_eq!(retained.end() - retained.start() + 1, lap_records);
    let data = scratch.read("data/payloads.0.bin");
    for sequence in retained.filter(|sequence| sequence.is_multiple_of(3)) {
        let line = logs.iter().flatten().find(|(logged, _)| *logged == sequence);
        let (_, offset) = line.unwrap_or_else(|| panic!("{sequence} is in no log: {logs:?}"));
        assert_eq!(Header::decode(&data[*offset..]).unwrap().sequence, sequence);
    }
}

/// They would be taken for logs of the run whose data are there.
#[test]
fn logs_go_with_the_data_that_they_speak_of() {
    for layout in ["--rotate-size-mb 1", "--preallocate 256Ki"] {
        let scratch = Scratch::new();
        let words = format!("--target file:data/ --parallel 1 {layout}");
        scratch.report(&format!("{words} --audit-every 1 --records 1000"));
        assert!(scratch.names("data").iter().filter(|name| name.contains(".log")).count() > 1, "{layout}");
        scratch.report(&format!("{words} --records 10 --overwrite"));
        assert_eq!(scratch.names("data"), ["payloads.0.bin", "payloads.0.json"], "{layout}");
    }
}

#[test]
fn a_special_file_takes_everything() {
    let scratch = Scratch::new();
    for fsync in ["end", "each"] {
        let report = scratch.report(&format!("--target file:/dev/null --records 1000 --fsync {fsync}"));
        assert_eq!(total(&report, "records_produced"), 1000);
    }
}

/// No manifest says whose it is.
#[test]
fn the_log_beside_a_special_file_is_ours_or_stays() {
    let scratch = Scratch::new();
    let words = "--target file:/dev/null --records 10 --audit-every 1";
    for _ in 0..2 {
        scratch.report(words);
    }
    assert_eq!(audited(&scratch, "engine-null.log").len(), 10);
    for log in ["engine-null.log", "engine-null.log.1"] {
        scratch.write(log, "IMPORTANT");
        let ended = scratch.run(words);
        assert_eq!(ended.code(), 2, "{ended}");
        ended.says(&[log, "another folder"]);
        assert_eq!(scratch.read(log), b"IMPORTANT");
        std::fs::remove_file(scratch.path(log)).unwrap();
    }
}

#[test]
fn after_a_kill_the_data_are_still_another_run_s() {
    let scratch = Scratch::new();
    let words = "--target file:data/ --parallel 1 --rate 20MB/s --duration 60s --stats-interval 100ms";
    let mut engine = Live::start(&mut scratch.engine(words));
    engine.event("interval");
    engine.signal("KILL");
    engine.ended();
    let ended = scratch.run(words);
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["--overwrite"]);
    scratch.verify_clean("data/");
}

#[test]
fn nothing_of_the_run_or_of_others_is_in_the_way_of_a_report_or_a_log() {
    let scratch = Scratch::new();
    for report in ["ev.json", "ev.jsonl", "x/../ev.json"] {
        std::fs::create_dir_all(scratch.path("x")).unwrap();
        let ended = scratch.run(&format!("--target file:ev.jsonl --records 5 --report {report}"));
        assert_eq!(ended.code(), 2, "{report}: {ended}");
    }
    scratch.write("app.log", "IMPORTANT");
    let ended = scratch.run("--target file:app.bin --audit-every 1 --records 5");
    assert_eq!(ended.code(), 2, "{ended}");
    assert_eq!(scratch.read("app.log"), b"IMPORTANT");
    // Only a log that begins anew with each lap has another one beside it.
    scratch.write("web.log.1", "IMPORTANT");
    let ended = scratch.run("--target file:web.bin --audit-every 1 --records 5 --preallocate 1Mi");
    assert_eq!(ended.code(), 2, "{ended}");
    scratch.report("--target file:web.bin --audit-every 1 --records 5");
    assert_eq!(scratch.read("web.log.1"), b"IMPORTANT");
    let ended = scratch.run("--target file:y.bin --target file:x/../y.bin --parallel 2 --records 40");
    assert_eq!(ended.code(), 2, "{ended}");
}

/// Both files have their manifest in the same place, and the data of the one may lie where the other has its log.
#[test]
fn files_that_share_a_manifest_s_name_do_not_replace_each_other_s() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("out")).unwrap();
    for (first, second, names) in [
        ("a.bin", "a.dat --audit-every 1", &["a.bin", "a.json", "a.log"][..]),
        ("x.log", "x.bin --audit-every 1000", &["a.bin", "a.json", "a.log", "x.audit.log", "x.json", "x.log"][..]),
    ] {
        scratch.report(&format!("--target file:out/{first} --audit-every 1 --records 10"));
        assert_eq!(scratch.names("out"), names);
        let before: Vec<_> = names.iter().map(|name| scratch.read(&format!("out/{name}"))).collect();
        let ended = scratch.run(&format!("--target file:out/{second} --records 10"));
        assert_eq!(ended.code(), 2, "{ended}");
        ended.says(&[&format!(".json is the manifest of {first}"), "another PATH"]);
        assert_eq!(scratch.names("out"), names);
        for (name, before) in names.iter().zip(before) {
            assert!(scratch.read(&format!("out/{name}")) == before, "{name}");
        }
        scratch.verify_clean(&format!("out/{first} --expect report.json"));
    }
}

#[test]
fn every_name_of_a_data_file_is_read_back_with_its_manifest() {
    let scratch = Scratch::new();
    for (target, data) in [("j/events.json", "j/events.json"), ("k/plain", "k/plain"), ("l/ev2", "l/ev2.0 l/ev2.1")] {
        let producers = data.split(' ').count();
        scratch.report(&format!("--target file:{target} --parallel {producers} --preallocate 1Mi --bytes 3Mi"));
        scratch.verify_clean(&format!("{data} --expect report.json"));
        scratch.verify_clean(&format!("{}/ --expect report.json", &target[..1]));
    }
}

#[test]
fn rotated_files_of_another_run_stay_and_links_are_written_through() {
    let scratch = Scratch::new();
    scratch.report("--target file:r/ --parallel 1 --rotate-size-mb 1 --bytes 3Mi");
    std::fs::remove_file(scratch.path("r/payloads.0.bin")).unwrap();
    std::fs::remove_file(scratch.path("r/payloads.0.json")).unwrap();
    let before = scratch.names("r");
    assert_eq!(scratch.run("--target file:r/ --parallel 1 --records 2").code(), 2);
    assert_eq!(scratch.names("r"), before);

    std::fs::create_dir(scratch.path("real")).unwrap();
    scratch.write("real/r.bin", "");
    std::os::unix::fs::symlink("real/r.bin", scratch.path("l.bin")).unwrap();
    scratch.report("--target file:l.bin --records 3");
    assert!(scratch.path("l.bin").is_symlink() && scratch.read("real/r.bin").len() == 3 * 4096);

    std::os::unix::fs::symlink("real/new.bin", scratch.path("n.bin")).unwrap();
    scratch.report("--target file:n.bin --records 3");
    assert!(scratch.path("n.bin").is_symlink() && scratch.read("real/new.bin").len() == 3 * 4096);
    scratch.verify_clean("real/new.bin --expect report.json");
}

#[test]
fn files_of_others_with_names_like_ours_stay() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("data")).unwrap();
    let names = ["data/payloads.0.bin.next", "data/payloads.0.json.tmp", "data/payloads.0.log.next"];
    for name in names {
        scratch.write(name, "mine");
    }
    let words = "--target file:data/ --parallel 1 --rotate-size-mb 1 --audit-every 100 --bytes 3Mi";
    let ended = scratch.run(words);
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["payloads.0.bin.next", "another PATH"]);
    assert_eq!(scratch.run(&format!("{words} --overwrite")).code(), 2, "nobody named it");
    assert_eq!(scratch.read(names[0]), b"mine");
    std::fs::remove_file(scratch.path(names[0])).unwrap();
    scratch.report(words);
    for name in &names[1..] {
        assert_eq!(scratch.read(name), b"mine", "{name}");
    }
    scratch.verify_clean("data/ --expect report.json");
}

#[test]
fn a_device_has_no_sizes_to_set() {
    let scratch = Scratch::new();
    for flag in ["--preallocate 1Mi", "--footprint 1Mi", "--rotate-size-mb 1", "--retain 1", "--min-free 0"] {
        let ended = scratch.run(&format!("--target file:/dev/null --records 10 {flag}"));
        assert_eq!(ended.code(), 2, "{flag}: {ended}");
        ended.says(&[flag.split(' ').next().unwrap(), "a device is written from its start"]);
    }
}
