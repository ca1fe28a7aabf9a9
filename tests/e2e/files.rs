//! What is on the drive before and after: data of others, rotation, retention, back ends that are forbidden.

use crate::harness::{Live, Scratch, finish};
use crate::report::{count, total};
use std::process::Command;

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
        assert!(kept < total(&report, "records_produced"));
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
fn a_special_file_takes_everything() {
    let scratch = Scratch::new();
    for fsync in ["end", "each"] {
        let report = scratch.report(&format!("--target file:/dev/null --records 1000 --fsync {fsync}"));
        assert_eq!(total(&report, "records_produced"), 1000);
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

/// Runs `engine` where io_uring is forbidden, as container runtimes do it.
fn without_io_uring(scratch: &Scratch, words: &str) -> Command {
    scratch.write("deny.py", include_str!("deny_io_uring.py"));
    let engine = scratch.engine(words);
    let mut command = Command::new("python3");
    command.arg("deny.py").arg(engine.get_program()).args(engine.get_args()).current_dir(scratch.folder());
    for (name, value) in engine.get_envs().filter(|(_, value)| value.is_none()) {
        let _absent = value;
        command.env_remove(name);
    }
    command
}

#[test]
fn where_io_uring_is_forbidden_system_calls_do_the_work() {
    let scratch = Scratch::new();
    let words = "--target file:data/ --parallel 2 --bytes 4Mi --report report.json";
    let ended = finish(&mut without_io_uring(&scratch, words));
    assert_eq!(ended.code(), 0, "{ended}");
    assert_eq!(ended.stderr.matches("io_uring cannot be used").count(), 1, "it says so once: {ended}");
    scratch.report_of(&ended, "report.json");
    scratch.verify_clean("data/ --expect report.json");

    let ended = finish(&mut without_io_uring(&scratch, "--target file:other/ --io uring --bytes 4Mi"));
    assert_eq!(ended.code(), 3, "{ended}");
    ended.says(&["--io uring", "mend:"]);
    assert!(!scratch.path("other").exists());
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
    let ended = scratch.run("--target file:y.bin --target file:x/../y.bin --parallel 2 --records 40");
    assert_eq!(ended.code(), 2, "{ended}");
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
}
