//! `--start-at`: the processes of a fleet begin together. And starts that fail.

use crate::endings::{SIGINT, handles};
use crate::full::Mounted;
use crate::harness::{Live, Scratch, finish, poll};
use crate::pinning::is_asleep;
use crate::report::{number, total};
use crate::server::{Peer, Server, reserved, silent};
use engine::base::units::format_size;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Unix seconds so far ahead.
fn ahead(seconds: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + seconds
}

#[test]
fn shards_start_at_one_time() {
    // A machine that is busy takes its time to get ready.
    assert!([6, 20].into_iter().any(two_shards_start_in), "no shard was ready in time");
}

/// Starts two shards so many seconds ahead; whether both were ready then, and not held up afterwards.
fn two_shards_start_in(seconds: u64) -> bool {
    let scratch = Scratch::new();
    let at = ahead(seconds);
    let shards: Vec<_> = (0..2)
        .map(|index| {
            let words = format!(
                "--target null --rate 10MB/s --duration 300ms --parallel 1 --cores 0 --shard {index}/2 \
                 --run-id fleet --start-at {at} --report {index}.json"
            );
            Live::start(&mut scratch.engine(&words))
        })
        .collect();
    let ended: Vec<_> = shards.into_iter().map(Live::ended).collect();
    ended.iter().enumerate().all(|(index, ended)| {
        assert_eq!(ended.code(), 0, "{ended}");
        let report = scratch.report_of(ended, &format!("{index}.json"));
        let started: jiff::Timestamp = report["started_at"].as_str().unwrap().parse().unwrap();
        let at_its_time = started == jiff::Timestamp::from_second(at as i64).unwrap();
        // The wait is no part of the run.
        let in_time = at_its_time && (0.3..3.0).contains(&number(&report, "/elapsed_seconds"));
        if !in_time {
            eprintln!("shard {index} started at {started} instead of {at}: {ended}");
        }
        in_time
    })
}

#[test]
fn cores_under_a_real_time_policy_let_the_run_begin() {
    const FIFO: [&str; 3] = ["chrt", "-f", "10"];
    if !Command::new(FIFO[0]).args(&FIFO[1..]).arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no real-time policy may be had here");
        return;
    }
    let scratch = Scratch::new();
    // All threads have but one processor: whoever spins there keeps it from the others, which are no better.
    let engine = scratch.engine("--target null --cores 0 --parallel 1 --rate 10MB/s --records 10");
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "30", "taskset", "-c", "0"]).args(FIFO);
    let ended = finish(command.arg(engine.get_program()).args(engine.get_args()).current_dir(scratch.folder()));
    assert_eq!(ended.code(), 0, "{ended}");
}

#[test]
fn a_signal_ends_the_wait() {
    let server = Server::start(Peer::obey);
    for target in ["null", server.url().as_str()] {
        let scratch = Scratch::new();
        let words = format!("--target {target} --rate 1MB/s --start-at {} --report report.json", ahead(3600));
        let mut engine = Live::start(&mut scratch.engine(&words));
        poll("the signal handler", || handles(engine.pid(), SIGINT).then_some(()));
        engine.line("the run starts in 3");
        if target == "null" {
            // Until then it is not ready to start.
            engine.line("payload ring of each producer");
        }
        engine.signal("INT");
        let ended = engine.ended();
        assert_eq!(ended.code(), 5, "{ended}");
        ended.says(&["stopped before --start-at"]);
        assert_eq!(scratch.names("."), [""; 0], "no report of a run that was none");
    }
    assert!(server.requests().is_empty());
}

#[test]
fn a_run_that_waits_for_its_time_leaves_the_earlier_one_its_data() {
    for (folder, target) in [
        ("engine-data", "--footprint 4Mi"),
        ("data", "--target file:data/ --preallocate 4Mi --overwrite"),
        ("data", "--target file:data/ --overwrite --audit-every 10"),
    ] {
        let scratch = Scratch::new();
        let words = format!("{target} --rate 1MB/s --duration 200ms --report report.json");
        assert_eq!(scratch.run(&words).code(), 0);
        let produced = total(&serde_json::from_slice(&scratch.read("report.json")).unwrap(), "records_produced");
        let mut engine = Live::start(&mut scratch.engine(&format!("{words} --start-at {}", ahead(3600))));
        poll("the signal handler", || handles(engine.pid(), SIGINT).then_some(()));
        engine.line("the run starts in 3");
        poll("the core to have its payload", || is_asleep(engine.pid(), "core-").then_some(()));
        engine.signal("INT");
        let ended = engine.ended();
        assert_eq!(ended.code(), 5, "{ended}");
        assert_eq!(scratch.verify_clean(&format!("{folder} --expect report.json"))["records"], produced, "{target}");
    }
}

#[test]
fn a_signal_shortly_before_the_start_leaves_nothing() {
    let scratch = Scratch::new();
    let words = format!("--target file:data/ --audit-every 10 --parallel 1 --rate 1MB/s --start-at {}", ahead(20));
    let mut engine = Live::start(&mut scratch.engine(&words));
    engine.line("payload ring of each producer");
    poll("the file that follows the first one", || scratch.path("data/payloads.0.bin.next").exists().then_some(()));
    assert!(scratch.path("data/payloads.0.log").exists());
    engine.signal("INT");
    let ended = engine.ended();
    assert_eq!(ended.code(), 5, "{ended}");
    ended.says(&["stopped before --start-at"]);
    assert_eq!(scratch.names("."), [""; 0], "{ended}");
}

#[test]
fn what_else_ends_the_wait_is_told() {
    let scratch = Scratch::new();
    let _drive = Mounted::tmpfs(&scratch);
    let words = "--target file:drive/data/ --direct off --min-free 30Mi --parallel 1 --records 10 --rate 1MB/s";
    let engine = Live::start(&mut scratch.engine(&format!("{words} --start-at {}", ahead(20))));
    let next = scratch.path("drive/data/payloads.0.bin.next");
    poll("the file that follows the first one", || next.exists().then_some(()));
    scratch.write("drive/other", vec![0; 48 << 20]);
    let ended = engine.ended();
    assert_eq!(ended.code(), 3, "{ended}");
    ended.says(&["fell to", "--min-free", "nothing was sent"]);
    assert_eq!(scratch.names("drive"), ["other"], "{ended}");
}

/// What the kernel gives here to who asks for large pages; `None`: reserved ones, as long as there are enough.
fn pages_here() -> Option<&'static str> {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let reserved = memory.lines().find_map(|line| line.strip_prefix("HugePages_Total:"));
    if reserved.is_some_and(|count| count.trim() != "0") {
        return None;
    }
    let mode = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    Some(if mode.is_ok_and(|mode| !mode.contains("[never]")) { "transparent huge pages" } else { "plain pages" })
}

#[test]
fn the_rings_are_told_before_the_start_as_in_the_report() {
    let scratch = Scratch::new();
    // Each producer draws sizes of its own, so that their rings end at different bytes.
    let payload_of = |cores: &str| {
        let words = "--target null --payload-size 512-8192 --seed 42 --ring-size 4Mi --records 10 --report report.json";
        let ended = scratch.run(&format!("{words} {cores}"));
        assert_eq!(ended.code(), 0, "{ended}");
        let payload = scratch.report_of(&ended, "report.json")["payload"].clone();
        let (ring, pages) = (number(&payload, "/ring_bytes_per_lane"), payload["memory"].as_str().unwrap());
        ended.says(&[&format!("payload ring of each producer: {}, {pages}", format_size(ring as u64))]);
        assert!(pages_here().is_none_or(|here| pages == here), "{pages}");
        payload
    };
    let alone = payload_of("--parallel 1 --cores 0");
    let together = payload_of("--parallel 2 --cores 0-1");
    assert_eq!(together["repeat_period_bytes"], alone["repeat_period_bytes"], "that of producer 0");
}

#[test]
fn a_time_that_cannot_be_meant_is_refused() {
    let scratch = Scratch::new();
    for (at, told) in [("2020-01-01T00:00:00Z", "ago"), ("2200-01-01T00:00:00Z", "ahead"), ("12:00", "is no time")] {
        let ended = scratch.run(&format!("--target null --rate 1MB/s --start-at {at}"));
        assert_eq!(ended.code(), 2, "{ended}");
        ended.says(&["--start-at", told]);
    }
}

#[test]
fn a_core_that_cannot_start_is_not_kept_from_saying_so_by_the_others() {
    let scratch = Scratch::new();
    let (silent, _kept) = silent();
    let (closed, _nobody) = reserved();
    let words = format!("--target tcp://{silent} --target tcp://{closed} --parallel 2 --cores 0-1 --records 1");
    let started = Instant::now();
    let ended = scratch.run(&words);
    // A connect may take ten seconds.
    assert!(started.elapsed() < Duration::from_secs(8), "{ended}");
    assert_eq!(ended.code(), 5, "{ended}");
    ended.says(&[&format!("{closed} cannot be reached")]);
}
