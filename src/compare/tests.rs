use super::*;
use crate::observe::report::{Confirmation, Producer};
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
            "target_bytes_per_second": 10000.0, "achieved_ratio": 0.9, "catch_up_records": 0, "lateness_seconds": times,
        },
        "cpu": {"user_seconds": 1.0, "system_seconds": 1.0, "seconds_per_gigabyte": 2.0},
        "producers": [], "intervals": [], "intervals_dropped": 0, "errors": {},
        "verdict": {"limited_by": "target", "evidence": []}, "slo": [], "governance": null, "ended_early": null,
        "exit_code": 0,
    }))
    .unwrap()
}

fn against(change: impl FnOnce(&mut Report)) -> Comparison {
    let mut other = report();
    change(&mut other);
    of(Side { name: "a.json".into(), report: report() }, Side { name: "b.json".into(), report: other })
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
    assert_eq!(*figure("latency_seconds.response.p99"), json!({"a": null, "b": null, "ratio": null}));
    assert!((figure("pacing.error")["a"].as_f64().unwrap() + 0.1).abs() < 1e-12);
    assert_eq!((&json["not_comparable"], &json["config"], &json["host"]), (&json!([]), &json!({}), &json!({})));
    let text = found.text();
    for part in ["rate ", "9 kB/s", "18 kB/s", "2.000", "-10.000 %", "settings that differ: none", "limited by"] {
        assert!(text.contains(part), "'{part}' is missing in:\n{text}");
    }
    assert!(!text.contains("not comparable"), "{text}");
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
