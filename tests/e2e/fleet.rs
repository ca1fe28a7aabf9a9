//! Reports of several processes as one.

use crate::harness::Scratch;
use crate::report::{self, number, total};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde_json::{Value, json};

fn shards(scratch: &Scratch, count: usize, words: &str) -> Vec<Value> {
    let shard = |index: usize| {
        let words =
            format!("--run-id fleet --shard {index}/{count} --parallel 2 --cores 0 {words} --report {index}.json");
        let ended = scratch.run(&words);
        assert_eq!(ended.code(), 0, "{words}: {ended}");
        scratch.report_of(&ended, &format!("{index}.json"))
    };
    (0..count).map(shard).collect()
}

fn merged(scratch: &Scratch, count: usize) -> Value {
    let names: Vec<_> = (0..count).map(|index| format!("{index}.json")).collect();
    merged_of(scratch, &names.join(" "), "merged.json").0
}

/// The merged report, and what was said on standard error.
fn merged_of(scratch: &Scratch, names: &str, to: &str) -> (Value, String) {
    let ended = scratch.run(&format!("merge {names} --report {to}"));
    assert_eq!(ended.code(), 0, "{ended}");
    let merged = serde_json::from_slice(&scratch.read(to)).unwrap();
    report::check(&merged);
    (merged, ended.stderr)
}

fn histogram(report: &Value, pointer: &str) -> Histogram<u64> {
    let text = report.pointer(&format!("{pointer}/histogram")).and_then(Value::as_str).unwrap();
    Deserializer::new().deserialize(&mut &STANDARD.decode(text).unwrap()[..]).unwrap()
}

/// The sums, and percentiles from the definition over the one histogram that all parts make.
#[track_caller]
fn is_the_sum(whole: &Value, parts: &[Value]) {
    for (key, sum) in whole["totals"].as_object().unwrap() {
        // What a target cannot tell is null in each part, and in the whole.
        let told: Vec<&Value> = parts.iter().filter(|part| !part["totals"][key].is_null()).collect();
        let wanted = (!told.is_empty()).then(|| told.iter().map(|part| total(part, key)).sum::<u64>());
        assert_eq!(*sum, json!(wanted), "{key}");
    }
    for (kind, sum) in whole["errors"].as_object().unwrap() {
        let wanted: u64 = parts.iter().map(|part| part["errors"][kind].as_u64().unwrap()).sum();
        assert_eq!(sum.as_u64(), Some(wanted), "{kind}");
    }
    for pointer in ["/latency_seconds/response", "/latency_seconds/service", "/pacing/lateness_seconds"] {
        let mut all = histogram(&parts[0], pointer);
        parts[1..].iter().for_each(|part| all.add(histogram(part, pointer)).unwrap());
        assert_eq!(histogram(whole, pointer), all, "{pointer}");
        if all.is_empty() {
            continue;
        }
        for (key, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)] {
            let said = number(whole, &format!("{pointer}/{key}"));
            // A sample or two more or less are a matter of rounding.
            let step = 2.0 / all.len() as f64;
            let (low, high) = (all.value_at_quantile(quantile - step), all.value_at_quantile(quantile + step));
            assert!((low as f64 / 1e9..=high as f64 / 1e9).contains(&said), "{pointer}/{key}: {said} {low} {high}");
        }
        assert_eq!(number(whole, &format!("{pointer}/max")), all.max() as f64 / 1e9);
    }
    let ids = |report: &Value| -> Vec<u64> {
        report["producers"].as_array().unwrap().iter().map(|one| one["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(whole), parts.iter().flat_map(ids).collect::<Vec<_>>());
    let longest = parts.iter().map(|part| number(part, "/elapsed_seconds")).fold(0.0, f64::max);
    assert!(number(whole, "/elapsed_seconds") >= longest * 0.999_999);
    assert_eq!(whole["config"]["shard"], Value::Null);
    assert_eq!(whole["run_id"], "fleet");
}

#[test]
fn shards_of_each_target_add_up() {
    for target in ["null", "file:data/"] {
        let words = format!("--target {target} --payload-size 100-900 --rate 3000001 --duration 500ms --warmup 100ms");
        // A machine that holds a shard up past its end leaves records unsent.
        let mut fleets = (0..5).map(|_| {
            let scratch = Scratch::new();
            let parts = shards(&scratch, 3, &words);
            (scratch, parts)
        });
        let sent = |(_, parts): &(Scratch, Vec<Value>)| parts.iter().all(|part| total(part, "records_not_sent") == 0);
        let (scratch, parts) = fleets.find(sent).expect("one fleet of five is let run to its end");
        let whole = merged(&scratch, 3);
        is_the_sum(&whole, &parts);
        assert_eq!(number(&whole, "/pacing/target_bytes_per_second"), 3_000_001.0, "{:#}", whole["pacing"]);
        assert_eq!((&whole["verdict"]["limited_by"], &whole["exit_code"]), (&json!("rate"), &json!(0)));
        if target == "file:data/" {
            scratch.verify_clean("data/ --expect merged.json");
            let (findings, code) = scratch.verify("data/payloads.0.bin data/payloads.1.bin --expect merged.json");
            assert_eq!((code, &findings["clean"]), (1, &json!(false)), "a merged report demands all of them");
        }
    }
}

#[test]
fn merging_in_two_steps_is_merging_at_once() {
    let scratch = Scratch::new();
    shards(&scratch, 3, "--target null --records 5000");
    let whole = merged(&scratch, 3);
    assert_eq!(scratch.run("merge 1.json 2.json --report pair.json").code(), 0);
    let ended = scratch.run("merge 0.json pair.json");
    let again: Value = serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}"));
    for key in ["totals", "latency_seconds", "producers", "errors", "started_at"] {
        assert_eq!(again[key], whole[key], "{key}");
    }
    let few: Value = serde_json::from_slice(&scratch.read("pair.json")).unwrap();
    assert_eq!((&few["config"]["shard"], &few["exit_code"]), (&json!("1-2/3"), &json!(1)));
    assert_eq!((&again["config"]["shard"], &again["exit_code"]), (&Value::Null, &json!(0)));
}

/// Of a shard that was killed nobody knows what it lost.
#[test]
fn a_shard_without_a_report_is_told_and_judged() {
    let scratch = Scratch::new();
    shards(&scratch, 4, "--target null --records 5000 --slo errors==0,not_sent<=5000,records_per_second>0");
    let passed = |report: &Value| -> Vec<bool> {
        report["slo"].as_array().unwrap().iter().map(|slo| slo["passed"].as_bool().unwrap()).collect()
    };
    let is_told = |(report, stderr): &(Value, String), words: &str| {
        let notes = report["verdict"]["notes"].as_array().unwrap();
        let told = notes.iter().filter(|note| note.as_str().unwrap_or_default().contains("of the fleet's"));
        assert_eq!(told.count(), usize::from(!words.is_empty()), "{notes:?}");
        if words.is_empty() {
            assert!(!stderr.contains("of the fleet's"), "{stderr}");
        } else {
            assert!(notes[0].as_str().unwrap_or_default().starts_with(words), "{notes:?}");
            assert!(stderr.contains(words), "{stderr}");
        }
    };
    let pair = merged_of(&scratch, "1.json 2.json", "pair.json");
    is_told(&pair, "2 of the fleet's 4 shards are not in it (0, 3): ");
    assert_eq!((&pair.0["exit_code"], passed(&pair.0)), (&json!(1), vec![false, false, true]), "{:#}", pair.0["slo"]);
    assert_eq!(pair.0["slo"][0]["value"], Value::Null);
    let most = merged_of(&scratch, "pair.json 3.json", "most.json");
    is_told(&most, "1 of the fleet's 4 shards is not in it (0): ");
    assert_eq!((&most.0["exit_code"], passed(&most.0)), (&json!(1), vec![false, false, true]));
    let whole = merged_of(&scratch, "0.json most.json", "whole.json");
    is_told(&whole, "");
    assert_eq!((&whole.0["exit_code"], passed(&whole.0)), (&json!(0), vec![true; 3]), "{:#}", whole.0["slo"]);
    // A code that is worse stays.
    altered(&scratch, "3.json", "3.json", |report| report["exit_code"] = json!(5));
    assert_eq!(merged_of(&scratch, "2.json 3.json", "worse.json").0["exit_code"], 5);
}

/// Changes a report on disk.
fn altered(scratch: &Scratch, from: &str, to: &str, change: impl FnOnce(&mut Value)) {
    let mut report: Value = serde_json::from_slice(&scratch.read(from)).unwrap();
    change(&mut report);
    scratch.write(to, report.to_string());
}

#[test]
fn what_cannot_belong_together_is_refused_with_both_names() {
    let scratch = Scratch::new();
    shards(&scratch, 2, "--target null --records 100");
    altered(&scratch, "1.json", "run.json", |report| report["run_id"] = json!("other"));
    altered(&scratch, "1.json", "version.json", |report| report["schema_version"] = json!(7));
    altered(&scratch, "1.json", "count.json", |report| report["config"]["shard"] = json!("1/5"));
    altered(&scratch, "1.json", "noise.json", |report| {
        report["latency_seconds"]["response"]["histogram"] = json!("AAAA");
    });
    for (second, words) in [
        ("run.json", &["0.json", "run.json", "run_id", "fleet", "other"][..]),
        ("version.json", &["0.json", "version.json", "schema_version", "1", "7"]),
        ("0.json", &["0.json", "shard 0/2", "producer 0"]),
        ("count.json", &["0.json", "count.json", "2", "5"]),
        ("noise.json", &["noise.json", "histogram"]),
        ("absent.json", &["absent.json"]),
    ] {
        let ended = scratch.run(&format!("merge 0.json {second} --report merged.json"));
        assert_eq!(ended.code(), 2, "{second}: {ended}");
        ended.says(words);
        assert!(!scratch.path("merged.json").exists(), "{second}");
    }
    assert_eq!(scratch.run("merge").code(), 2);
    let before = scratch.read("0.json");
    let ended = scratch.run("merge 0.json 1.json --report 0.json");
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["--report '0.json' would take the place of '0.json'"]);
    assert!(scratch.read("0.json") == before);
}

#[test]
fn the_worst_exit_code_is_the_merged_one() {
    let scratch = Scratch::new();
    shards(&scratch, 2, "--target null --records 100 --slo records_per_second>=1");
    // Whether a threshold is missed is seen in the sum, whatever one of them found in its part.
    for (code, wanted) in [(0, 0), (4, 0), (1, 1)] {
        altered(&scratch, "1.json", "1.json", |report| report["exit_code"] = json!(code));
        assert_eq!(merged(&scratch, 2)["exit_code"], wanted);
    }
    altered(&scratch, "0.json", "0.json", |report| report["exit_code"] = json!(4));
    assert_eq!(merged(&scratch, 2)["exit_code"], 1);
}

#[test]
fn refusals_of_any_process_are_told_of_the_fleet() {
    let scratch = Scratch::new();
    shards(&scratch, 2, "--target null --records 100");
    altered(&scratch, "1.json", "1.json", |report| {
        report["errors"]["status"] = json!(30);
        report["producers"][0]["first_refused_status"] = json!(404);
    });
    // Behind the verdict's own reason, but where they are that reason.
    for (cause, at, who) in [("generator", 1, "the target"), ("target", 0, "it")] {
        for part in ["0.json", "1.json"] {
            altered(&scratch, part, part, |report| report["verdict"]["limited_by"] = json!(cause));
        }
        assert_eq!(scratch.run("merge 0.json 1.json --report merged.json").code(), 0);
        let whole: Value = serde_json::from_slice(&scratch.read("merged.json")).unwrap();
        let said = &whole["verdict"]["evidence"][at];
        assert_eq!(*said, json!(format!("{who} refused 30 of 200 records (404)")), "{:#}", whole["verdict"]);
    }
}

#[test]
fn an_outage_of_any_process_is_told() {
    let scratch = Scratch::new();
    shards(&scratch, 2, "--target null --records 100");
    altered(&scratch, "1.json", "1.json", |report| report["totals"]["reconnects"] = json!(2));
    merged(&scratch, 2);
    let ended = scratch.run("report merged.json");
    let text = String::from_utf8_lossy(&ended.stdout);
    assert!(text.contains("\nevidence    2 connections made again, lost or closed in time\n"), "{ended}");
}

/// Each process makes half of the rate and is held to half of it; both together are held to all of it.
#[test]
fn a_rate_is_wanted_of_the_fleet_and_not_of_each_process() {
    let scratch = Scratch::new();
    let slo = "rate>=1.2MB/s,records_per_second>=300,errors<=2";
    let parts = shards(&scratch, 2, &format!("--target null --rate 2MB/s --duration 1s --slo {slo}"));
    let judged = |report: &Value, key: &str| -> Vec<Value> {
        report["slo"].as_array().unwrap().iter().map(|slo| slo[key].clone()).collect()
    };
    for part in &parts {
        assert_eq!(judged(part, "threshold"), [json!(600_000.0), json!(150.0), json!(2.0)], "{:#}", part["slo"]);
    }
    // They ran one after the other, and so made half of it.
    let whole = merged(&scratch, 2);
    assert_eq!(judged(&whole, "passed"), [json!(false), json!(false), json!(true)], "{:#}", whole["slo"]);
    assert_eq!(whole["exit_code"], 4);
    // As if they had begun at once.
    altered(&scratch, "1.json", "1.json", |report| report["started_at"] = parts[0]["started_at"].clone());
    let whole = merged(&scratch, 2);
    assert_eq!(judged(&whole, "threshold"), [json!(1_200_000.0), json!(300.0), json!(2.0)], "{:#}", whole["slo"]);
    assert_eq!(judged(&whole, "passed"), [json!(true), json!(true), json!(true)], "{:#}", whole["slo"]);
    assert_eq!(whole["exit_code"], 0);
}

#[test]
fn seconds_that_one_of_them_has_left_out_are_left_out_of_all() {
    let scratch = Scratch::new();
    let mut parts = shards(&scratch, 2, "--target null --rate 1MB/s --duration 3s");
    // As if both had begun at once, and one had been cut as a long report through a pipe is.
    parts[1]["started_at"] = parts[0]["started_at"].clone();
    parts[1]["intervals"].as_array_mut().unwrap().drain(..2);
    parts[1]["intervals_dropped"] = json!(2);
    scratch.write("0.json", parts[0].to_string());
    scratch.write("1.json", parts[1].to_string());
    let ended = scratch.run("merge 0.json 1.json --report merged.json");
    assert_eq!(ended.code(), 0, "{ended}");
    let whole: Value = serde_json::from_slice(&scratch.read("merged.json")).unwrap();
    let first = &whole["intervals"][0];
    assert_eq!((&first["start_seconds"], &whole["intervals_dropped"]), (&json!(2.0), &json!(2)), "{whole:#}");
    let sent = |part: &Value| number(part, "/intervals/0/bytes_produced");
    assert!(number(first, "/bytes_produced") > 1.5 * sent(&parts[1]), "both are in it: {whole:#}");
}

/// Of two runs with the same id, each proves its own data only.
#[test]
fn a_report_is_not_proved_by_the_data_of_an_earlier_run_with_its_id() {
    let scratch = Scratch::new();
    for folder in ["a", "b"] {
        let words = format!("--target file:{folder}/ --parallel 2 --records 2000 --run-id same --warmup 20ms");
        let report = scratch.report(&format!("{words} --rate 20MB/s"));
        scratch.write(&format!("{folder}.json"), report.to_string());
        scratch.verify_clean(&format!("{folder}/ --expect {folder}.json"));
    }
    let (findings, code) = scratch.verify("a/ --expect b.json");
    assert_eq!((code, &findings["clean"]), (1, &json!(false)), "{findings:#}");
    let what = findings["damage"][0]["what"].as_str().unwrap();
    assert!(what.contains("before the report's run began: of another run with the same --run-id"), "{what}");
}
