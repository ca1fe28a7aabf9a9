//! What every report has to fulfil, whatever the run did.

use serde_json::Value;
use std::sync::LazyLock;

static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let text = std::fs::read_to_string(crate::harness::repository("schemas/report.schema.json")).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
});

pub fn count(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("'{key}' is no count: {value:#}"))
}

pub fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} is no number: {value:#}"))
}

pub fn total(report: &Value, key: &str) -> u64 {
    count(&report["totals"], key)
}

fn sum(list: &Value, key: &str) -> u64 {
    list.as_array().unwrap().iter().map(|one| count(one, key)).sum()
}

const ENDS: [&str; 4] = ["records_produced", "records_failed", "records_uncertain", "records_not_sent"];

#[track_caller]
fn balanced(what: &str, books: &Value) {
    let ends: u64 = ENDS.iter().map(|key| count(books, key)).sum();
    assert_eq!(count(books, "records_offered"), ends, "{what}: {books:#}");
}

/// Every record that failed or is uncertain has its kind, in its own part.
#[track_caller]
fn errors_add_up(what: &str, part: &Value) {
    let failures = count(&part["totals"], "records_failed") + count(&part["totals"], "records_uncertain");
    let kinds: u64 = part["errors"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(kinds, failures, "{what}: {part:#}");
}

/// Valid by the schema; the books balance in all their parts, and the parts add up to the whole.
#[track_caller]
pub fn check(report: &Value) {
    let wrong: Vec<_> = SCHEMA.iter_errors(report).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    balanced("totals", &report["totals"]);
    balanced("warm-up", &report["warmup"]["totals"]);
    report["producers"].as_array().unwrap().iter().for_each(|one| balanced("producer", one));
    for part in ["producers", "intervals"] {
        for key in ENDS.iter().chain(&["records_offered", "bytes_produced"]) {
            assert_eq!(sum(&report[part], key), total(report, key), "{key} of the {part}: {report:#}");
        }
    }
    errors_add_up("measured part", report);
    errors_add_up("warm-up", &report["warmup"]);
    for interval in report["intervals"].as_array().unwrap() {
        let is_empty = count(interval, "records_offered") == 0;
        assert!(is_empty || number(interval, "/seconds") > 0.0, "records in no time: {interval:#}");
    }
    let seconds = number(report, "/elapsed_seconds");
    let rate = number(report, "/throughput/bytes_per_second");
    if seconds > 0.0 {
        let bytes = total(report, "bytes_produced") as f64;
        assert!((rate * seconds - bytes).abs() <= 1.0 + bytes * 1e-6, "{rate} B/s for {seconds} s is not {bytes} B");
    }
}
