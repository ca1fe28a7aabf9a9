//! Ends before their time: Ctrl-C at every stage, a kill, a machine that stands still.

use crate::harness::{Live, Scratch, Watch, poll, quiet, signal};
use crate::report::{check, count, number, total};
use engine::sys::pipe;
use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const SIGHUP: u64 = 1;
pub const SIGINT: u64 = 2;
pub const SIGTERM: u64 = 15;

/// Whether the process has a handler for the signal.
pub fn handles(pid: u32, signal: u64) -> bool {
    is_in("SigCgt:", pid, signal)
}

fn is_in(mask: &str, pid: u32, signal: u64) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix(mask));
    mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal - 1) & 1 == 1)
}

#[test]
fn ctrl_c_while_the_payload_is_made() {
    let scratch = Scratch::new();
    scratch.write("event.json", r#"{"sequence": {{sequence}}, "crc": "{{crc32c}}"}"#);
    for words in ["--target null", "--target file:data/", "--target file:data/ --payload-template event.json"] {
        // A ring of this size takes long enough to fill that the signal comes first.
        let words = format!("{words} --ring-size 1Gi --parallel 1 --duration 60s --report report.json");
        // A busy machine may take its time now and then.
        let ends_soon = (0..3).any(|_| {
            let mut engine = Live::start(&mut scratch.engine(&words));
            engine.event("prepare");
            let asked = Instant::now();
            engine.signal("INT");
            let ended = engine.ended();
            let took = asked.elapsed();
            assert_eq!(ended.code(), 5, "{words}: {ended}");
            ended.says(&["stopped while the run was being prepared: nothing was sent"]);
            assert_eq!(scratch.names("."), ["event.json"], "{words}: what was made for it goes again");
            took < Duration::from_secs(2)
        });
        assert!(ends_soon, "{words}: each time the payload was made first");
    }
}

/// `engine verify` of a pipe without an end. `signals`: what `env` is to make of them before.
fn verify_endless(scratch: &Scratch, signals: &str) -> Live {
    let mut env = Command::new("env");
    env.args([signals, env!("CARGO_BIN_EXE_engine"), "verify", "endless"]).current_dir(scratch.folder());
    Live::start(env.stdout(Stdio::piped()))
}

/// It dies of the signal, so that the loop of a shell ends with it.
#[test]
fn a_signal_while_it_verifies() {
    let scratch = Scratch::new();
    assert!(Command::new("mkfifo").arg(scratch.path("endless")).status().unwrap().success());
    for (name, number) in [("INT", SIGINT), ("TERM", SIGTERM)] {
        let engine = verify_endless(&scratch, "--default-signal");
        poll("a handler", || handles(engine.pid(), number).then_some(()));
        engine.signal(name);
        let ended = engine.ended();
        assert_eq!(ended.status.signal(), Some(number as i32), "{ended}");
        assert_eq!(ended.stdout, b"", "{ended}");
        ended.says(&[&format!("stopped by SIG{name} after 0 B: nothing is judged")]);
    }
}

/// A script ignores SIGINT for what it starts with `&`.
#[test]
fn a_signal_that_is_ignored_while_it_verifies() {
    let scratch = Scratch::new();
    assert!(Command::new("mkfifo").arg(scratch.path("endless")).status().unwrap().success());
    let engine = verify_endless(&scratch, "--ignore-signal=INT");
    poll("a handler", || handles(engine.pid(), SIGTERM).then_some(()));
    assert!(!handles(engine.pid(), SIGINT));
    engine.signal("INT");
    engine.signal("TERM");
    let ended = engine.ended();
    assert_eq!(ended.status.signal(), Some(SIGTERM as i32), "{ended}");
    assert!(ended.stderr.contains("SIGTERM") && !ended.stderr.contains("SIGINT"), "{ended}");
}

#[test]
fn ctrl_c_in_the_warm_up() {
    let scratch = Scratch::new();
    let words = "--target file:data/ --rate 10MB/s --warmup 60s --duration 60s --report report.json";
    let mut engine = Live::start(&mut scratch.engine(&format!("{words} --stats-interval 100ms")));
    engine.event("interval");
    engine.signal("INT");
    let ended = engine.ended();
    assert_eq!(ended.code(), 0, "{ended}");
    let report = scratch.report_of(&ended, "report.json");
    assert_eq!(total(&report, "records_offered"), 0);
    assert!(count(&report["warmup"]["totals"], "records_produced") > 0);
    scratch.verify_clean("data/ --expect report.json");
}

#[test]
fn ctrl_c_and_sigterm_in_the_middle() {
    for (signal, more) in [
        ("INT", "--rate 50MB/s"),
        ("TERM", "--preallocate 8Mi"),
        ("INT", "--rate 20MB/s --mode burst --burst-on 50ms --burst-off 450ms"),
        ("TERM", "--rate 30MB/s --rotate-size-mb 1 --payload-size 1000 --direct on --poll adaptive"),
    ] {
        let scratch = Scratch::new();
        let words = format!("--target file:data/ --parallel 2 --duration 60s --report report.json {more}");
        let mut engine = Live::start(&mut scratch.engine(&format!("{words} --stats-interval 100ms")));
        engine.event("interval");
        engine.event("interval");
        engine.signal(signal);
        let ended = engine.ended();
        assert_eq!(ended.code(), 0, "{ended}");
        let report = scratch.report_of(&ended, "report.json");
        assert!(total(&report, "records_produced") > 0 && number(&report, "/elapsed_seconds") < 30.0);
        assert!(report["ended_by_signal"] == format!("SIG{signal}") && report["ended_early"].is_null(), "{report:#}");
        let said = String::from_utf8(scratch.run("report report.json").stdout).unwrap();
        let line = said.lines().find(|line| line.starts_with("ended ")).unwrap_or_default();
        assert!(line.contains(&format!("by SIG{signal} after ")) && line.ends_with(" of 60 s"), "{said}");
        scratch.verify_clean("data/ --expect report.json");
    }
}

#[test]
fn ctrl_c_before_the_last_stages_says_that_they_were_not_reached() {
    let scratch = Scratch::new();
    let stages = "{duration: 30s, rate: 1MB/s}, {duration: 20s}, {duration: 10s}";
    scratch.write("run.yaml", format!("target: \"null\"\nphases: [{stages}]\n"));
    let words = "--config run.yaml --stats-interval 100ms --report report.json";
    let mut engine = Live::start(&mut scratch.engine(words));
    assert_eq!(engine.event("interval")["phase"], 1);
    engine.signal("INT");
    let ended = engine.ended();
    assert_eq!(ended.code(), 0, "{ended}");
    let said = String::from_utf8(scratch.run("report report.json").stdout).unwrap();
    assert!(said.contains(" stages 2 to 3 were not reached\n"), "{said}");
    assert!(said.lines().any(|line| line.starts_with("ended ") && line.ends_with(" of 60 s")), "{said}");
    let report = scratch.report_of(&ended, "report.json");
    assert!(number(&report, "/pacing/paced_seconds") < 30.0 && report["pacing"]["stages_planned"] == 3, "{report:#}");
}

#[test]
fn two_signals_end_at_once() {
    let scratch = Scratch::new();
    // Nobody reads: in order, it could only end after the drain timeout.
    let words = "--target stdout --duration 60s --drain-timeout 60s --stats-interval 100ms";
    let mut engine = Live::start(scratch.engine(words).stdout(std::process::Stdio::piped()));
    engine.event("interval");
    engine.signal("INT");
    engine.line("stopping in order");
    let asked = Instant::now();
    engine.insist("INT");
    assert_eq!(engine.child.wait().unwrap().code(), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_terminal_that_goes_away_ends_the_run_in_order() {
    let scratch = Scratch::new();
    let words = "--target file:data/ --rate 10MB/s --duration 60s --stats-interval 100ms --report report.json";
    let mut engine = Live::start(&mut scratch.engine(words));
    engine.event("interval");
    // The kernel says so, and so does the shell: that is one wish.
    engine.signal("HUP");
    engine.line("SIGHUP");
    engine.signal("HUP");
    let ended = engine.ended();
    assert_eq!(ended.code(), 0, "{ended}");
    scratch.report_of(&ended, "report.json");
    scratch.verify_clean("data/ --expect report.json");
}

#[test]
fn nohup_lets_a_run_outlive_its_terminal() {
    let scratch = Scratch::new();
    let words = "--target null --rate 1MB/s --duration 60s --stats-interval 100ms --report report.json";
    let mut nohup = Command::new("nohup");
    nohup.arg(env!("CARGO_BIN_EXE_engine")).args(words.split(' ')).current_dir(scratch.folder());
    let mut engine = Live::start(nohup.stdout(Stdio::null()));
    engine.event("interval");
    assert!(handles(engine.pid(), SIGINT) && !handles(engine.pid(), SIGHUP));
    engine.signal("HUP");
    engine.event("interval");
    engine.signal("INT");
    let ended = engine.ended();
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(ended.stderr.contains("SIGINT") && !ended.stderr.contains("SIGHUP"), "{ended}");
    scratch.report_of(&ended, "report.json");
}

/// A standard error that takes no more than this, since nobody reads it.
fn unread(free_bytes: usize) -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // A pipe holds 64 KiB.
    writer.write_all(&vec![b'\n'; (64 << 10) - free_bytes]).unwrap();
    (reader, writer)
}

#[test]
fn a_log_whose_reader_stalls_changes_no_figure() {
    let _quiet = quiet();
    let scratch = Scratch::new();
    // The lines of some ticks.
    let (reader, writer) = unread(8 << 10);
    let words = "--target null --parallel 4 --rate 1MB/s --duration 3s --stats-interval 100ms --log-format json \
                 --report r.json";
    let mut child = scratch.engine(words).stdin(Stdio::null()).stderr(writer).spawn().unwrap();
    let _watch = Watch::over(child.id());
    let (_never, clock) = channel::<()>();
    let _ = clock.recv_timeout(Duration::from_secs(3));
    // So that it need not wait for the last lines.
    drop(reader);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let report = serde_json::from_slice(&scratch.read("r.json")).unwrap();
    check(&report);
    let seconds = report["intervals"].as_array().unwrap();
    // 244 records a second.
    assert!(seconds[..3].iter().all(|second| count(second, "records_produced") > 100), "{seconds:#?}");
}

#[test]
fn a_report_into_a_pipe_waits_for_its_reader_until_a_signal() {
    let scratch = Scratch::new();
    wait_for_no_reader(&scratch, "--report pipe --html page.html", "report", || {
        assert!(!scratch.read("page.html").is_empty());
    });
}

#[test]
fn a_page_into_a_pipe_keeps_no_report_waiting() {
    let scratch = Scratch::new();
    wait_for_no_reader(&scratch, "--html pipe --report report.json", "page", || {
        check(&serde_json::from_slice(&scratch.read("report.json")).unwrap());
    });
}

/// A run one of whose results goes into a pipe that nobody reads: what has to hold meanwhile, until a signal.
fn wait_for_no_reader(scratch: &Scratch, words: &str, what: &str, meanwhile: impl FnOnce()) {
    assert!(Command::new("mkfifo").arg(scratch.path("pipe")).status().unwrap().success());
    let mut engine = Live::start(&mut scratch.engine(&format!("--target null --records 10 {words}")));
    engine.line("waiting for a reader of pipe");
    meanwhile();
    engine.signal("INT");
    let ended = engine.ended();
    assert_eq!(ended.code(), 1, "{ended}");
    ended.says(&[&format!("the {what} could not be written to pipe: nobody reads it")]);
}

#[test]
fn a_log_that_nobody_reads_does_not_hold_up_the_run() {
    let scratch = Scratch::new();
    let (_reader, writer) = unread(0);
    let words = "--target null --duration 300ms --log-format json --report report.json";
    let mut child = scratch.engine(words).stdin(Stdio::null()).stderr(writer).spawn().unwrap();
    let _watch = Watch::over(child.id());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    check(&serde_json::from_slice(&scratch.read("report.json")).unwrap());
}

/// Waits until a pipe that somebody writes without end takes no more.
fn fills(pipe: &impl AsFd) {
    let mut before = 0;
    poll("the pipe to be full", || {
        let bytes = pipe::unread(pipe.as_fd());
        let rests = bytes == std::mem::replace(&mut before, bytes);
        (rests && bytes > pipe::size(pipe.as_fd())? * 3 / 4).then_some(())
    });
}

#[test]
fn two_signals_end_a_run_whose_log_nobody_reads() {
    let scratch = Scratch::new();
    let (_reader, writer) = unread(0);
    let words = "--target stdout --duration 60s --drain-timeout 60s --log-format json";
    let mut engine = scratch.engine(words);
    let mut child = engine.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
    let pid = child.id();
    let _watch = Watch::over(pid);
    // It runs, and what nobody reads of its records keeps it from ending in order.
    fills(child.stdout.as_ref().unwrap());
    signal(pid, "INT");
    poll("the first signal to be taken", || (!is_in("ShdPnd:", pid, SIGINT)).then_some(()));
    let asked = Instant::now();
    // Signals that come in a moment are one wish, so it is said until it is heard.
    let ended = poll("the second signal to end it", || {
        signal(pid, "INT");
        child.try_wait().unwrap()
    });
    assert_eq!(ended.code(), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_kill_in_the_middle_leaves_an_explained_tail() {
    for io in ["uring", "syscall"] {
        for layout in ["--rotate-size-mb 200 --rate 100MB/s", "--rotate-size-mb 1 --rate 100MB/s", "--preallocate 4Mi"]
        {
            for direct in ["--direct off", "--direct on", "--direct on --payload-size 1000", "--payload-size 100-9000"]
            {
                let scratch = Scratch::new();
                let words = format!("--target file:data/ --parallel 2 --duration 60s {layout} {direct} --io {io}");
                let mut engine = Live::start(&mut scratch.engine(&format!("{words} --stats-interval 100ms")));
                // The first writes take a while where others keep the disk busy.
                while engine.event("interval")["records"] == 0 {}
                engine.signal("KILL");
                assert_eq!(engine.ended().code(), 128 + 9);
                let findings = scratch.verify_clean("data/");
                assert!(findings["records"].as_u64().unwrap() > 0, "{words}: {findings:#}");
                // And the folder can be used again.
                scratch.report(&format!("--target file:data/ --parallel 2 {layout} {direct} --bytes 1Mi --overwrite"));
                scratch.verify_clean("data/ --expect report.json");
            }
        }
    }
}

#[test]
fn a_process_that_stood_still_says_so_in_its_response_times() {
    let _quiet = quiet();
    let scratch = Scratch::new();
    // Whether the stop falls between the submission of a block and its end is chance: that block's service is as long.
    // And a busy machine may hold the process up for longer, past its end, too.
    let is_told = (0..4).any(|_| {
        let stop = stopped_for_a_while(&scratch);
        eprintln!("{stop:?}");
        stop.response < stop.still + 0.1 && stop.service < stop.response / 4.0 && stop.records_not_sent == 0
    });
    assert!(is_told, "none of four stops is told as it was");
}

/// A stop in seconds, p99.9 of response and service, and what was not sent.
#[derive(Debug)]
struct Stop {
    still: f64,
    response: f64,
    service: f64,
    records_not_sent: u64,
}

fn stopped_for_a_while(scratch: &Scratch) -> Stop {
    let words = "--target null --rate 50MB/s --duration 3s --stats-interval 100ms --report report.json";
    let mut engine = Live::start(&mut scratch.engine(words));
    engine.event("interval");
    engine.signal("STOP");
    let stopped = Instant::now();
    let (_never, clock) = channel::<()>();
    let _ = clock.recv_timeout(Duration::from_millis(200));
    // Read before it goes on: it stood still for longer than this, and never for less.
    let still = stopped.elapsed().as_secs_f64();
    engine.signal("CONT");
    let ended = engine.ended();
    assert_eq!(ended.code(), 0, "{ended}");
    let report = scratch.report_of(&ended, "report.json");
    let records_not_sent = total(&report, "records_not_sent");
    if records_not_sent > 0 {
        // Held up once more: p99.9 may be of a record that has no end.
        return Stop { still, response: f64::INFINITY, service: f64::INFINITY, records_not_sent };
    }
    let (response, service) =
        (number(&report, "/latency_seconds/response/p999"), number(&report, "/latency_seconds/service/p999"));
    // Of three seconds' records 0.1 % were due in the first 3 ms of the stop.
    assert!(response > 0.9 * (still - 0.003), "{response} s after {still} s");
    assert!(count(&report["pacing"], "catch_up_records") > 1000, "{:#}", report["pacing"]);
    Stop { still, response, service, records_not_sent }
}

#[test]
fn what_fell_due_too_long_ago_is_not_sent() {
    let _quiet = quiet();
    let scratch = Scratch::new();
    let words =
        "--target file:data/ --rate 10MB/s --duration 1s --catch-up 20ms --stats-interval 100ms --report r.json";
    let mut engine = Live::start(&mut scratch.engine(words));
    engine.event("interval");
    engine.signal("STOP");
    let (_never, clock) = channel::<()>();
    let _ = clock.recv_timeout(Duration::from_millis(200));
    engine.signal("CONT");
    let ended = engine.ended();
    assert_eq!(ended.code(), 0, "records that were not sent do not change the code: {ended}");
    let report = scratch.report_of(&ended, "r.json");
    assert!(total(&report, "records_not_sent") > 300, "{:#}", report["totals"]);
    assert!(total(&report, "records_offered").abs_diff(2441) <= 2, "{:#}", report["totals"]);
    scratch.verify_clean("data/ --expect r.json");
}
