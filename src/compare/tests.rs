use super::*;
use crate::config::slo::parse_ratios;
use crate::observe::quantile::{distribution, empty_histogram};
use crate::observe::report::{Confirmation, Phase, Producer};
use serde_json::json;

/// A small report; what a run says more does not matter here.
fn report() -> Report {
    let totals = json!({
        "records_offered": 100, "records_produced": 90, "records_failed": 0, "records_uncertain": 0,
        "records_not_sent": 10, "bytes_produced": 9000, "logical_bytes_produced": 9000, "wire_bytes": 9000,
        "retries": 0, "audit_lines_dropped": 0,
    });
    let times = json!({
        "p50": 0.001, "p90": 0.002, "p99": null, "p999": null, "p9999": null, "max": 0.02, "mean": 0.001,
        "histogram": "",
    });
    let latency = json!({"response": times, "service": times});
    serde_json::from_value(json!({
        "schema_version": 1, "run_id": "one", "engine_version": "0.1.0", "command": ["engine"],
        "started_at": "2026-01-01T00:00:00Z", "elapsed_seconds": 1.0, "final_fsync_seconds": 0.0,
        "confirmation": "target",
        "config": {"target": ["null"], "payload_size": "100", "mode": "steady", "shard": "0/1", "run_id": "one"},
        "host": {"cpu_model": "X", "memory_available_bytes": 1, "findings": [{"item": "i", "verdict": "hint", "value": "1"}]},
        "payload": {
            "ring_bytes_per_lane": 1, "repeat_period_bytes": 1, "compressibility_measured": null, "memory": "plain",
        },
        "warmup": {"seconds": 0.0, "totals": totals, "latency_seconds": latency},
        "totals": totals,
        "throughput": {"bytes_per_second": 9000.0, "records_per_second": 90.0, "logical_bytes_per_second": 9000.0},
        "latency_seconds": latency,
        "pacing": {
            "paced_seconds": 1.0, "target_bytes_per_second": 10000.0, "achieved_ratio": 0.9, "catch_up_records": 0,
            "lateness_seconds": times,
        },
        "cpu": {"user_seconds": 1.0, "system_seconds": 1.0, "seconds_per_gigabyte": 2.0},
        "producers": [], "intervals": [], "intervals_dropped": 0, "errors": {},
        "verdict": {"limited_by": "target", "evidence": []}, "slo": [], "governance": null, "ended_early": null,
        "exit_code": 0,
    }))
    .unwrap()
}

fn against(change: impl FnOnce(&mut Report)) -> Comparison {
    held("", |_, b| change(b))
}

/// Two reports held to thresholds.
fn held(slo: &str, change: impl FnOnce(&mut Report, &mut Report)) -> Comparison {
    let (mut a, mut b) = (report(), report());
    change(&mut a, &mut b);
    let slo = if slo.is_empty() { Vec::new() } else { parse_ratios(slo).unwrap() };
    of(Side { name: "a.json".into(), report: a }, Side { name: "b.json".into(), report: b }, &slo)
}

fn polls(report: &mut Report) {
    report.config.insert("poll".into(), json!("busy"));
    report.cpu.polling_seconds = Some(1.5);
}

/// What a row of the table has beside its label.
fn row(text: &str, label: &str) -> String {
    let row = text.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(' '));
    let words: Vec<_> = row.unwrap_or_else(|| panic!("no '{label}' in:\n{text}")).split_whitespace().collect();
    words.join(" ")
}

#[test]
fn figures_have_their_ratio_where_there_is_one() {
    let found = against(|b| {
        b.throughput.bytes_per_second = 18_000.0;
        b.totals.records_not_sent = 0;
        b.totals.records_failed = 5;
        b.cpu.seconds_per_gigabyte = None;
    });
    let json = found.json();
    let figure = |key: &str| &json["figures"][key];
    assert_eq!(*figure("throughput.bytes_per_second"), json!({"a": 9000.0, "b": 18000.0, "ratio": 2.0}));
    assert_eq!(*figure("totals.records_not_sent"), json!({"a": 10, "b": 0, "ratio": 0.0}));
    assert_eq!(*figure("totals.records_failed"), json!({"a": 0, "b": 5, "ratio": null}));
    assert_eq!(*figure("cpu.seconds_per_gigabyte"), json!({"a": 2.0, "b": null, "ratio": null}));
    let never = json!({"a": "never", "b": "never"});
    let p99 = json!({"a": null, "b": null, "ratio": null, "void": never});
    assert_eq!(*figure("latency_seconds.response.p99"), p99);
    assert_eq!(*figure("latency_seconds.response.max"), json!({"a": 0.02, "b": 0.02, "ratio": null, "void": never}));
    assert!((figure("pacing.error")["a"].as_f64().unwrap() + 0.1).abs() < 1e-12);
    assert_eq!(figure("pacing.error")["ratio"], Value::Null, "as the text has it");
    assert_eq!((&json["not_comparable"], &json["config"], &json["host"]), (&json!([]), &json!({}), &json!({})));
    let text = found.text();
    for part in ["rate ", "9 kB/s", "18 kB/s", "2.000", "-10.000 %", "settings that differ: none", "limited by"] {
        assert!(text.contains(part), "'{part}' is missing in:\n{text}");
    }
    assert!(!text.contains("not comparable"), "{text}");
}

#[test]
fn drain_and_fsync_are_no_error_of_the_pacing() {
    let found = against(|b| {
        b.elapsed_seconds = 1.25;
        b.throughput.logical_bytes_per_second = 8000.0;
        b.totals.logical_bytes_produced = 10_000;
    });
    assert_eq!(row(&found.text(), "pacing error"), "-10.000 % +0.000 % –");
    let found = against(|b| {
        (b.pacing.target_bytes_per_second, b.totals.logical_bytes_produced) = (Some(1e9), 999_999_999);
    });
    assert_eq!(row(&found.text(), "pacing error"), "-10.000 % +0.000 % –", "no zero is negative");
    let unknown = |change: fn(&mut Report)| against(change).json()["figures"]["pacing.error"]["b"].clone();
    assert_eq!(unknown(|b| b.pacing.paced_seconds = None), Value::Null);
    assert_eq!(unknown(|b| b.command = vec!["engine".into(), "merge".into()]), Value::Null);
}

#[test]
fn a_burst_that_was_cut_short_has_no_error_of_its_pacing() {
    let error = |change: &dyn Fn(&mut Report)| against(change).json()["figures"]["pacing.error"]["b"].clone();
    // 100 MB/s in bursts of 500 MB each 5 s, of which two were sent.
    let cut = |b: &mut Report| {
        b.config.insert("mode".into(), json!("burst"));
        (b.pacing.paced_seconds, b.pacing.target_bytes_per_second) = (Some(5.1), Some(1e8));
        b.totals.logical_bytes_produced = 1_000_000_000;
    };
    let planned = |b: &mut Report, seconds| {
        cut(b);
        b.pacing.planned_seconds = Some(seconds);
    };
    assert_eq!(error(&cut), Value::Null, "--bytes");
    assert_eq!(error(&|b| planned(b, 30.0)), Value::Null, "a signal");
    assert!(error(&|b| planned(b, 5.0)).is_f64(), "a whole one had its time");
    let stages = |b: &mut Report, modes: [&str; 2]| {
        planned(b, 30.0);
        b.phases = modes.map(|mode| Phase { mode: mode.into(), ..Phase::default() }).into();
    };
    assert_eq!(error(&|b| stages(b, ["steady", "burst"])), Value::Null);
    assert!(error(&|b| stages(b, ["burst", "steady"])).is_f64(), "the burst was over");
}

#[test]
fn the_record_that_is_due_at_once_is_no_error_of_the_pacing() {
    let error = |planned_seconds, records| {
        let found = against(|b| {
            (b.pacing.paced_seconds, b.pacing.planned_seconds) = (Some(9.0), planned_seconds);
            b.pacing.target_bytes_per_second = Some(100.0);
            (b.totals.records_produced, b.totals.logical_bytes_produced) = (records, records * 100);
            b.producers = vec![Producer::default()];
        });
        found.json()["figures"]["pacing.error"]["b"].as_f64().unwrap()
    };
    assert_eq!(error(None, 10), 0.0, "--records 10, each second one");
    assert_eq!(error(None, 9), 0.0, "or it ended before the tenth");
    assert!((error(None, 20) - 1.0).abs() < 1e-12 && (error(None, 6) + 1.0 / 3.0).abs() < 1e-12);
    assert!(error(Some(9.0), 10) > 0.1, "a time that was planned asks for so many");
}

#[test]
fn what_never_came_has_its_row() {
    let text = against(|b| b.latency_seconds.response.p99 = Some(0.003)).text();
    assert_eq!(row(&text, "response p99"), "never 3 ms –");
    assert_eq!(row(&text, "response p99.9"), "never never –");
    assert_eq!(row(&text, "response max"), "never never –");
    assert_eq!(row(&text, "service max"), "20 ms 20 ms 1.000");
    let text = held("", |a, b| [a, b].into_iter().for_each(offers_nothing)).text();
    assert!(!text.lines().any(|line| line.starts_with("response p99 ")), "there is nothing to say:\n{text}");
}

#[test]
fn processor_time_of_a_run_that_polled_is_none_of_its_bytes() {
    let found = against(polls);
    assert_eq!(row(&found.text(), "cpu"), "2.000 s/GB mostly polling –");
    let void = json!({"a": null, "b": "mostly polling"});
    let figure = &found.json()["figures"]["cpu.seconds_per_gigabyte"];
    assert_eq!(*figure, json!({"a": 2.0, "b": 2.0, "ratio": null, "void": void}));
}

#[test]
fn what_others_took_of_the_processors_has_its_row() {
    let found = against(|b| b.verdict.stolen_ratio = Some(0.446_9));
    assert_eq!(row(&found.text(), "held by others"), "– 44.690 % –");
    assert_eq!(found.json()["figures"]["verdict.stolen_ratio"]["b"], 0.446_9);
}

fn offers_nothing(report: &mut Report) {
    (report.totals.records_offered, report.totals.records_produced) = (0, 0);
    report.latency_seconds.response = distribution(&empty_histogram(), 0, 0);
}

/// So many milliseconds for each record that was confirmed.
fn takes(report: &mut Report, ms: u64) {
    let mut histogram = empty_histogram();
    histogram.record_n(ms * 1_000_000, 90).unwrap();
    report.latency_seconds.response = distribution(&histogram, 90, 10);
    report.latency_seconds.service = distribution(&histogram, 90, 0);
}

#[test]
fn thresholds_hold_the_ratio() {
    let slo = "rate>=0.95,p50<=1.1,service_p99.9<1.3,records_per_second==1,cpu<=1";
    let found = held(slo, |a, b| {
        takes(a, 10);
        takes(b, 12);
        b.throughput.logical_bytes_per_second = 8000.0;
    });
    let passed: Vec<_> = found.slo.iter().map(|slo| slo.passed).collect();
    assert_eq!(passed, [false, false, true, true, true], "{:?}", found.slo);
    assert_eq!(found.exit(), Exit::SloMissed);
    let first = &found.json()["slo"][0];
    assert_eq!((&first["expression"], &first["threshold"]), (&json!("rate>=0.95"), &json!(0.95)));
    assert_eq!((&first["passed"], &first["why"]), (&json!(false), &json!(null)));
    assert!((first["ratio"].as_f64().unwrap() - 8.0 / 9.0).abs() < 1e-12, "{first}");
    let text = found.text();
    for part in ["thresholds on B/A:\n  missed  rate>=0.95 (0.8889)\n", "  met     records_per_second==1 (1.0000)\n"] {
        assert!(text.contains(part), "'{part}' is missing in:\n{text}");
    }
    let met = held("rate>=0.95", |_, _| {});
    assert_eq!(met.exit(), Exit::Done);
    let none = against(|b| b.throughput.logical_bytes_per_second = 1.0);
    assert_eq!((none.exit(), &none.json()["slo"]), (Exit::Done, &json!([])), "nothing was asked");
    assert!(!none.text().contains("thresholds on"));
}

#[test]
fn what_has_no_ratio_is_missed_and_says_why() {
    type Change = fn(&mut Report, &mut Report);
    let cases: [(&str, Change, &str); 9] = [
        ("p99<9", |a, _| takes(a, 1), "never in A"),
        ("p99<9", |a, _| offers_nothing(a), "not known in A"),
        ("max<9", |a, _| takes(a, 1), "never in A"),
        ("p50<9", |a, _| takes(a, 1), "not known in B"),
        ("rate<9", |a, _| a.throughput.logical_bytes_per_second = 0.0, "0 in A"),
        ("records_per_second<9", |_, b| b.throughput.records_per_second = 0.0, "0 in B"),
        ("cpu<9", |_, b| b.cpu.seconds_per_gigabyte = None, "not known in B"),
        ("cpu<9", |a, _| polls(a), "mostly polling in A"),
        (
            "rate<9",
            |_, b| drop(b.config.insert("payload_size".into(), json!("512"))),
            "not comparable: different record sizes: 100 and 512",
        ),
    ];
    for (slo, change, why) in cases {
        let found = held(slo, change);
        let said = &found.slo[0];
        assert_eq!((said.ratio, said.passed, said.why.as_deref()), (None, false, Some(why)), "{slo}");
        assert_eq!(found.exit(), Exit::SloMissed, "{slo}");
        assert_eq!(found.json()["slo"][0]["why"], why);
        assert!(found.text().contains(&format!("  missed  {slo} ({why})\n")), "{}", found.text());
    }
}

#[test]
fn what_makes_two_reports_incomparable_is_said() {
    type Change = fn(&mut Report);
    let cases: [(Change, &str); 7] = [
        (|b| drop(b.config.insert("payload_size".into(), json!("512"))), "record sizes: 100 and 512"),
        (
            |b| {
                b.config.insert("payload_size".into(), json!(null));
                b.config.insert("payload_template".into(), json!("events/"));
            },
            "payload templates: none and events/",
        ),
        (|b| drop(b.config.insert("shard".into(), json!("1/2"))), "shards: 0/1 and 1/2"),
        (|b| b.command.push("merge".into()), "one process and several processes"),
        (|b| b.pacing.target_bytes_per_second = None, "paced and unpaced"),
        (|b| b.confirmation = Confirmation::Kernel, "by the target and by the kernel"),
        (|b| b.producers.push(Producer { target: "file:x".into(), ..Producer::default() }), "targets"),
    ];
    for (change, words) in cases {
        let found = against(change);
        assert_eq!(found.not_comparable.len(), 1, "{words}: {:?}", found.not_comparable);
        assert!(found.not_comparable[0].contains(words), "{:?}", found.not_comparable);
        assert!(found.text().contains("not comparable: different"), "{}", found.text());
    }
}

#[test]
fn files_and_their_lines_are_other_records() {
    let with = |lines: serde_json::Value| {
        let mut report = report();
        report.config.insert("payload_template".into(), json!("events.ndjson"));
        report.config.insert("template_lines".into(), lines);
        report
    };
    let found = |a: serde_json::Value, b: serde_json::Value| differences::not_comparable(&with(a), &with(b));
    assert_eq!(found(json!("off"), json!(false)), [""; 0]);
    assert_eq!(found(json!("off"), json!("on")), ["different records of templates: whole files and lines"]);
}

#[test]
fn settings_and_hosts_that_differ_are_listed_and_passing_ones_are_not() {
    let found = against(|b| {
        b.run_id = "two".into();
        b.config.insert("run_id".into(), json!("two"));
        b.config.insert("start_at".into(), json!("2026-01-01T00:00:00Z"));
        b.config.insert("mode\u{1b}".into(), json!("x".repeat(100)));
        b.host = json!({
            "cpu_model": "Y", "memory_available_bytes": 2, "findings": [{"item": "i", "verdict": "hint", "value": "2"}],
        });
    });
    assert_eq!(found.host, [Difference { key: "cpu_model".into(), a: json!("X"), b: json!("Y") }]);
    assert_eq!(found.config.len(), 1);
    let text = found.text();
    assert!(text.contains("cpu_model: X | Y") && text.contains("xxx...") && !text.contains('\u{1b}'), "{text}");
}

fn stage(number: u64, mode: &str, rate: f64) -> Phase {
    let start_seconds = number as f64 - 1.0;
    let (target_bytes_per_second, end_seconds) = (Some(rate), start_seconds + 1.0);
    Phase { number, mode: mode.into(), target_bytes_per_second, start_seconds, end_seconds, ..Phase::default() }
}

#[test]
fn different_stages_are_not_comparable() {
    let base = || vec![stage(1, "steady", 5e6), stage(2, "burst", 4e7)];
    let cases: [(Vec<Phase>, &str); 4] = [
        (vec![], "different phases: 2 stages and none"),
        (base()[..1].to_vec(), "different phases: 2 stages and 1 stage"),
        (
            vec![stage(1, "steady", 5e6), stage(2, "steady", 4e7)],
            "different phases: stage 2, burst at 40 MB/s from 1 s on and stage 2, steady at 40 MB/s from 1 s on",
        ),
        (
            vec![stage(1, "steady", 5e6), Phase { target_bytes_per_second: None, ..stage(2, "burst", 0.0) }],
            "different phases: stage 2, burst at 40 MB/s from 1 s on and stage 2, burst without a rate from 1 s on",
        ),
    ];
    for (phases, said) in cases {
        let found = held("rate>=0.1", |a, b| (a.phases, b.phases) = (base(), phases));
        assert_eq!(found.not_comparable, [said]);
        assert!(!found.slo[0].passed && found.json()["phases"] == json!([]), "{:?}", found.slo);
    }
}

#[test]
fn weights_count_where_a_stage_is_sampled() {
    let of = |second: &str| {
        held("", |a, b| {
            for (report, weight) in [(a, "10"), (b, "1000")] {
                report.config.extend([("mode".into(), Value::Null), ("weight".into(), json!(weight))]);
                report.phases = vec![stage(1, "steady", 5e6), stage(2, second, 5e6)];
            }
        })
    };
    assert_eq!(of("sampled").not_comparable, ["different weights: 10 and 1000"]);
    assert_eq!(of("burst").not_comparable, [""; 0]);
}

#[test]
fn the_same_stages_have_their_figures() {
    let of = |rate: f64, p99: Option<f64>| {
        let mut phase = Phase { records_offered: 9, logical_bytes_per_second: rate, ..stage(1, "steady", 5e6) };
        (phase.latency_seconds.response.p50, phase.latency_seconds.response.p99) = (Some(0.001), p99);
        // How long the last one was is no part of the question.
        vec![phase, Phase { end_seconds: rate, ..stage(2, "burst", 4e7) }]
    };
    let found = held("", |a, b| (a.phases, b.phases) = (of(4e6, Some(0.002)), of(5e6, None)));
    assert_eq!(found.not_comparable, [""; 0]);
    let json = found.json();
    let first = &json["phases"][0];
    assert_eq!((&first["number"], &first["mode"]), (&json!(1), &json!("steady")));
    let rate = json!({"a": 4e6, "b": 5e6, "ratio": 1.25});
    assert_eq!(first["figures"]["logical_bytes_per_second"], rate);
    assert_eq!(first["figures"]["latency_seconds.response.p99"]["void"], json!({"a": null, "b": "never"}));
    let text = found.text();
    let (_, stages) = text.split_once("\nstage 1, steady\n").unwrap_or_else(|| panic!("{text}"));
    assert_eq!(row(stages, "  rate"), "4 MB/s 5 MB/s 1.250");
    assert_eq!(row(stages, "  response p99"), "2 ms never –");
    assert!(stages.contains("\nstage 2, burst\n"), "{text}");
}

#[test]
fn long_settings_are_cut_where_they_part() {
    let set = |report: &mut Report, key: &str, value: Value| drop(report.config.insert(key.into(), value));
    let phases = |last: &str| json!([{"duration": "1500ms", "mode": "steady", "rate": "5MB/s"}, {"duration": last}]);
    let found = held("", |a, b| {
        set(a, "phases", phases("1s"));
        set(b, "phases", phases("7s"));
        // A merged report has the words that were said, another the number that came of none.
        set(a, "parallel", json!(1));
        set(b, "parallel", json!("1"));
    });
    let text = found.text();
    let line = text.lines().find(|line| line.starts_with("  phases: ")).unwrap_or_else(|| panic!("{text}"));
    let (a, b) = line.split_once(" | ").unwrap();
    assert!(a.starts_with("  phases: ...") && a.contains("1s") && b.starts_with("...") && b.contains("7s"), "{line}");
    assert!(!text.contains("parallel") && !found.config.iter().any(|one| one.key == "parallel"), "{text}");
}
