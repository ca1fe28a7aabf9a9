//! The search for the highest rate that holds.

use crate::endings::{SIGTERM, handles};
use crate::harness::{Ended, Live, Scratch, Watch, poll, quiet, signal};
use crate::pinning::threads;
use crate::receive::Receiver;
use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn search(scratch: &Scratch, words: &str) -> (Ended, Value) {
    let ended = scratch.run(&format!("saturate {words} --report found.json"));
    let found = serde_json::from_slice(&scratch.read("found.json")).unwrap_or_else(|error| panic!("{error}: {ended}"));
    (ended, found)
}

/// On a busy machine it may be no success all the same.
fn is_confirmed(ended: &Ended, found: &Value) -> bool {
    let is_judged = found["is_max_rate"] == true || found["disturbed"] == false;
    found["confirmed"] == true && ended.code() == i32::from(!is_judged)
}

fn last(found: &Value) -> &Value {
    found["tried"].as_array().and_then(|tried| tried.last()).unwrap_or_else(|| panic!("nothing was tried: {found}"))
}

/// The run that is under way: the child of the search.
fn run_of(search: &Live) -> u32 {
    let search = search.pid();
    let children = format!("/proc/{search}/task/{search}/children");
    poll("the search to start a run", || std::fs::read_to_string(&children).ok()?.trim().parse().ok())
}

#[test]
fn a_bound_that_holds_is_confirmed_and_said() {
    let _quiet = quiet();
    let scratch = Scratch::new();
    let words = "--target null --max-rate 5MB/s --step-duration 300ms --confirm-duration 600ms --cores 0";
    // A busy machine may not let it hold now and then.
    let mut searches = (0..3).map(|_| search(&scratch, words));
    let is_found = |(_, found): &(Ended, Value)| found["is_max_rate"] == true && found["confirmed"] == true;
    let (ended, found) = searches.find(is_found).expect("in one of three searches 5 MB/s hold");
    assert_eq!(ended.code(), 0, "{ended}");
    assert_eq!((&found["sustained_bytes_per_second"], &found["confirmed"]), (&5_000_000.into(), &true.into()));
    assert_eq!(last(&found)["confirmation"], true);
    assert!(last(&found)["seconds"].as_f64().unwrap() >= 0.6, "{found:#}");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(said.contains("sustained: 5 MB/s") && said.contains("which is --max-rate"), "{ended}");
    ended.says(&["rate asked", "outcome", "confirmed: held for"]);
}

#[test]
fn what_producers_may_send_bounds_the_search() {
    let _quiet = quiet();
    let scratch = Scratch::new();
    let words = "--target null --parallel 2 --producer-rate 1MB/s --max-rate 1GB/s --cores 0";
    let (ended, found) = search(&scratch, &format!("{words} --step-duration 300ms --confirm-duration 600ms"));
    assert!(ended.code() == 4 || is_confirmed(&ended, &found), "{ended}");
    let tried = found["tried"].as_array().unwrap();
    let rates = || tried.iter().map(|run| run["rate_bytes_per_second"].as_u64());
    assert!(rates().next() == Some(Some(2_000_000)) && rates().all(|rate| rate <= Some(2_000_000)), "{found:#}");
    if found["sustained_bytes_per_second"] == 2_000_000 {
        assert_eq!(found["is_max_rate"], true, "{found:#}");
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(said.contains("which is all that --producer-rate lets through"), "{ended}");
    }
}

/// What a run loses while it warms up is why it did not hold.
#[test]
fn what_the_warm_up_loses_is_told() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen http://127.0.0.1:0 --fault status=400:100% --report -");
    let steps = "--parallel 1 --min-rate 1MB/s --max-rate 1MB/s --warmup 200ms --step-duration 200ms";
    let (ended, found) = search(&scratch, &format!("--target http://{}/ {steps}", receiver.address));
    assert_eq!(ended.code(), 4, "{ended}\n{found:#}");
    let reason = last(&found)["reason"].as_str().unwrap();
    assert!(reason.starts_with("exit 1: ") && reason.contains("warm-up: status "), "{found:#}");
    receiver.stopped();
}

/// Each answer takes at least 20 ms, one request is on its way at a time: no more than 50 records a second, and what
/// is due may come 0.1 s after the second in which it was.
#[test]
fn the_pace_of_a_slow_target_is_found() {
    let _quiet = quiet();
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen http://127.0.0.1:0 --fault delay=20ms:100% --report -");
    let steps = "--step-duration 1s --confirm-duration 1s --min-rate 10kB/s --precision 10%";
    let (ended, found) = search(&scratch, &format!("--target http://{}/ {steps}", receiver.address));
    assert!(is_confirmed(&ended, &found), "{ended}\n{found:#}");
    let rate = found["sustained_bytes_per_second"].as_f64().unwrap();
    assert!((60e3..=55.0 * 4096.0).contains(&rate), "{rate}\n{found:#}");
    // An earlier one may have failed by chance, and held when it was tried again.
    let over = found["tried"].as_array().unwrap().iter().rfind(|run| run["held"] == false);
    assert!(over.is_none_or(|run| run["rate_bytes_per_second"].as_f64().unwrap() > rate), "{found:#}");
    assert!(found["tried"][0]["rate_bytes_per_second"].is_null(), "{found:#}");
    receiver.stopped();
}

/// The same target; what the first run reached leads to it.
#[test]
fn a_bound_far_too_high_costs_few_runs() {
    let _quiet = quiet();
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen http://127.0.0.1:0 --fault delay=20ms:100% --report -");
    let steps = "--step-duration 1s --confirm-duration 1s --min-rate 10kB/s --max-rate 50MB/s --precision 10%";
    let (ended, found) = search(&scratch, &format!("--target http://{}/ --cores 0 {steps}", receiver.address));
    assert!(is_confirmed(&ended, &found), "{ended}\n{found:#}");
    let tried = found["tried"].as_array().unwrap();
    let of = |run: &Value, key: &str| run[key].as_f64().unwrap_or_else(|| panic!("{key}: {run}"));
    assert_eq!((of(&tried[0], "rate_bytes_per_second"), &tried[0]["held"]), (50e6, &false.into()));
    assert!(of(&tried[1], "rate_bytes_per_second") <= 1.1 * 50.0 * 4096.0, "{found:#}");
    // A busy moment may cost one or two more; a descent from the bound would take five.
    let before_one_held = tried.iter().take_while(|run| run["held"] != true).count();
    assert!(before_one_held <= 3, "{ended}\n{found:#}");
    for run in tried {
        let (rate, ratio) = (of(run, "rate_bytes_per_second"), of(run, "achieved_ratio"));
        assert!((of(run, "achieved_bytes_per_second") - rate * ratio).abs() <= 1.0, "{run:#}");
        assert_eq!(run["held"], ratio >= 0.995, "{run:#}");
    }
    receiver.stopped();
}

#[test]
fn a_threshold_that_no_rate_meets_is_exit_4() {
    let scratch = Scratch::new();
    let words = "--target null --max-rate 2MB/s --min-rate 1MB/s --step-duration 200ms --slo max<1ns";
    let (ended, found) = search(&scratch, words);
    assert_eq!(ended.code(), 4, "{ended}");
    assert!(found["sustained_bytes_per_second"].is_null());
    assert_eq!(last(&found)["rate_bytes_per_second"], 1_000_000);
    assert_eq!(last(&found)["reason"], "missed max<1ns");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(said.contains("no rate held, not even --min-rate (1 MB/s): missed max<1ns"), "{ended}");
    // The least rate has a second chance, no other.
    let rates = found["tried"].as_array().unwrap().iter().map(|run| run["rate_bytes_per_second"].as_u64().unwrap());
    let rates: Vec<_> = rates.collect();
    assert!(rates.len() <= 4 && rates[..rates.len() - 1].is_sorted_by(|high, low| high > low), "{rates:?}");
}

#[test]
fn a_signal_reaches_the_run_and_ends_the_search_in_order() {
    let scratch = Scratch::new();
    let words = "saturate --target null --max-rate 1MB/s --step-duration 1h --report - --metrics-addr 127.0.0.1:0";
    let live = Live::start(scratch.engine(words).stdout(Stdio::piped()));
    let run = run_of(&live);
    // It can be asked to end once it catches SIGTERM.
    poll("the run to catch SIGTERM", || handles(run, SIGTERM).then_some(()));
    live.signal("TERM");
    let ended = live.ended();
    assert_eq!(ended.code(), 1, "{ended}");
    assert!(!std::path::Path::new(&format!("/proc/{run}")).exists(), "the run outlived the search");
}

#[test]
fn an_interrupted_run_neither_held_nor_failed() {
    let scratch = Scratch::new();
    let words = "saturate --target null --max-rate 1MB/s --step-duration 1h --report found.json";
    let live = Live::start(scratch.engine(words).stdout(Stdio::piped()));
    let run = run_of(&live);
    // One that is told to end while it is being prepared has nothing to report. This thread starts after that.
    poll("the run to be ready", || threads(run).iter().any(|(name, _)| name == "metrics").then_some(()));
    live.signal("INT");
    let ended = live.ended();
    assert_eq!(ended.code(), 1, "{ended}");
    let found: Value = serde_json::from_slice(&scratch.read("found.json")).unwrap();
    assert_eq!((&last(&found)["held"], &last(&found)["reason"]), (&Value::Null, &Value::Null), "{found:#}");
    let result = ["sustained_bytes_per_second", "limited_by", "confirmed", "interrupted"].map(|key| &found[key]);
    assert_eq!(result, [&Value::Null, &Value::Null, &false.into(), &true.into()], "{found:#}");
    ended.says(&["  interrupted\n"]);
    assert!(String::from_utf8_lossy(&ended.stdout).contains("interrupted before any rate had held"), "{ended}");
}

#[test]
fn a_search_that_is_killed_takes_its_run_along() {
    let scratch = Scratch::new();
    let words = "saturate --target null --max-rate 1MB/s --step-duration 300s";
    let live = Live::start(scratch.engine(words).stdout(Stdio::null()));
    let run = run_of(&live);
    poll("the run to catch SIGTERM", || handles(run, SIGTERM).then_some(()));
    live.signal("KILL");
    let ended = live.ended();
    assert_eq!(ended.code(), 128 + 9, "{ended}");
    // Whoever inherits it may leave it a zombie.
    poll("the run to end", || {
        let status = std::fs::read_to_string(format!("/proc/{run}/status")).unwrap_or_default();
        (status.is_empty() || status.contains("State:\tZ")).then_some(())
    });
}

/// What waits for answers drains for a minute; who asks twice does not want to wait.
#[test]
fn a_second_signal_ends_the_run_at_once() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen http://127.0.0.1:0 --fault delay=60s:100% --report -");
    let words = format!("saturate --target http://{}/ --step-duration 1h --drain-timeout 60s", receiver.address);
    let live = Live::start(scratch.engine(&words).stdout(Stdio::piped()));
    let run = run_of(&live);
    let began = Instant::now();
    poll("the run to end", || {
        live.signal("TERM");
        (!std::path::Path::new(&format!("/proc/{run}")).exists()).then_some(())
    });
    let ended = live.ended();
    assert_eq!(ended.code(), 1, "{ended}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    receiver.stopped();
}

/// Rates are logical bytes: those that each sent byte stands for count.
#[test]
fn a_sampled_ceiling_counts_what_the_samples_stand_for() {
    let _quiet = quiet();
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen http://127.0.0.1:0 --fault delay=20ms:100% --report -");
    let steps = "--mode sampled --weight 1000 --step-duration 500ms --confirm-duration 500ms --precision 20%";
    let (ended, found) = search(&scratch, &format!("--target http://{}/ {steps}", receiver.address));
    let tried = found["tried"].as_array().unwrap();
    let ceiling = tried[0]["achieved_bytes_per_second"].as_f64().unwrap();
    assert!((2e6..=1.2 * 50.0 * 4096.0 * 1000.0).contains(&ceiling), "{ended}\n{found:#}");
    let next = tried[1]["rate_bytes_per_second"].as_f64().unwrap();
    assert!((0.5..=1.0).contains(&(next / ceiling)), "{found:#}");
    receiver.stopped();
}

/// The target goes away after the first run: what that one showed is told and written.
#[test]
fn a_run_that_fails_leaves_what_the_others_found() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen http://127.0.0.1:0 --once --report -");
    let steps = "--parallel 1 --max-rate 1MB/s --step-duration 300ms --confirm-duration 300ms";
    let (ended, found) = search(&scratch, &format!("--target http://{}/ {steps}", receiver.address));
    assert_eq!((ended.code(), &found["exit_code"]), (5, &5.into()), "{ended}\n{found:#}");
    assert!(!found["tried"].as_array().unwrap().is_empty(), "{found:#}");
    assert!(found["error"].as_str().unwrap().contains("left no report"), "{found:#}");
    assert!(String::from_utf8_lossy(&ended.stdout).contains("ended by an error"), "{ended}");
    ended.says(&["engine: a run ended with exit 5"]);
    receiver.ended();
}

#[test]
fn a_run_that_somebody_ends_did_not_hold() {
    let scratch = Scratch::new();
    let words = "saturate --target null --max-rate 1MB/s --step-duration 1h --report found.json";
    let live = Live::start(scratch.engine(words).stdout(Stdio::piped()));
    let run = run_of(&live);
    // One that is told to end while it is being prepared has nothing to report. This thread starts after that.
    poll("the run to be ready", || threads(run).iter().any(|(name, _)| name == "metrics").then_some(()));
    signal(run, "TERM");
    let ended = live.ended();
    assert_eq!(ended.code(), 1, "{ended}");
    let found: Value = serde_json::from_slice(&scratch.read("found.json")).unwrap();
    assert_eq!((&last(&found)["held"], &found["interrupted"]), (&false.into(), &false.into()), "{found:#}");
    assert!(last(&found)["ended_early"].as_str().unwrap().contains("of 3600 s: somebody else ended it"), "{found:#}");
    ended.says(&["engine: a run ended after"]);
}

#[test]
fn readers_that_leave_do_not_end_the_search() {
    let scratch = Scratch::new();
    let words =
        "saturate --target null --max-rate 1MB/s --step-duration 200ms --confirm-duration 200ms --report f.json";
    let mut engine = scratch.engine(words);
    let mut child = engine.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _watch = Watch::over(child.id());
    drop((child.stdout.take(), child.stderr.take()));
    let status = child.wait().unwrap();
    let found: Value = serde_json::from_slice(&scratch.read("f.json")).unwrap();
    assert_eq!(status.code(), found["exit_code"].as_i64().map(|code| code as i32), "{found:#}");
    assert!(!found["tried"].as_array().unwrap().is_empty() && found["error"].is_null(), "{found:#}");
}

/// Each run finds the files of the one before, which has let go of them by then.
#[test]
fn one_run_after_another_has_the_same_files() {
    let scratch = Scratch::new();
    let files = "--target file:data/ --parallel 1 --preallocate 1Mi --fsync never --overwrite";
    let steps = "--min-rate 100kB/s --max-rate 1MB/s --step-duration 200ms --confirm-duration 300ms";
    let (ended, found) = search(&scratch, &format!("{files} {steps}"));
    assert!(ended.code() == 4 || is_confirmed(&ended, &found), "{ended}");
    // Once, not for each run.
    ended.says(&["data/: 1 MiB (1 × 1 MiB, overwritten in place)", "writes at 1 MB/s at most"]);
    assert_eq!(ended.stderr.matches("overwritten in place").count(), 1, "{ended}");
    let tried = found["tried"].as_array().unwrap();
    assert!(tried.len() > 1 && tried.iter().all(|run| run["exit_code"] == 0), "{found:#}");
    scratch.verify_clean("data/");
}

#[test]
fn what_is_wrong_is_said_before_anything_runs() {
    let scratch = Scratch::new();
    for (words, said) in [
        ("--target null --rate 5MB/s", "--rate is what the search sets"),
        ("--target null --precision 99%", "--precision '99%'"),
        ("--target null --min-rate 2MB/s --max-rate 1MB/s", "--max-rate is below --min-rate"),
        ("--target null --step-duration 0s", "--step-duration '0s'"),
        ("--target null --run-id nightly-7", "--run-id has no place in a search"),
        ("--target stdout", "cannot write to standard output"),
        ("--target null --nonsense", "--nonsense"),
        ("--target tcp://192.0.2.1:9", "--max-rate=100MB/s"),
    ] {
        let ended = scratch.run(&format!("saturate {words}"));
        assert_eq!(ended.code(), 2, "{words}: {ended}");
        assert!(ended.stderr.contains(said), "{words}: {ended}");
    }
    // Nobody listens there: the first run says so, and so does the search.
    let ended = scratch.run("saturate --target tcp://127.0.0.1:1 --step-duration 100ms");
    assert_eq!(ended.code(), 5, "{ended}");
}
