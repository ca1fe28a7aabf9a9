//! The JSON Schema of the report, generated from its types.

use crate::observe::report::Report;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// Draft 2020-12; `schemas/report.schema.json` is this, and a test compares them.
pub fn report_schema() -> Value {
    // As it is written: every key is there, `null` or not.
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<Report>();
    schema.insert("title".into(), "Report of one run of engine".into());
    let mut schema = schema.to_value();
    let facts = schema.pointer_mut("/$defs/HostFacts/properties").and_then(Value::as_object_mut);
    facts.into_iter().flatten().for_each(|(_, fact)| allow_null(fact));
    schema
}

/// Facts in which the hosts of a merged report differ are `null`.
fn allow_null(fact: &mut Value) {
    if let Some(Value::String(only)) = fact.get("type") {
        fact["type"] = json!([only, "null"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing;
    use std::path::Path;

    #[test]
    fn the_shipped_schema_is_the_generated_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/report.schema.json");
        let text = serde_json::to_string_pretty(&report_schema()).unwrap() + "\n";
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let shipped = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(shipped == text, "{} is out of date: UPDATE=1 cargo test --lib observe::schema", path.display());
    }

    #[test]
    fn a_report_follows_its_schema_and_a_broken_one_does_not() {
        let validator = jsonschema::validator_for(&report_schema()).unwrap();
        let mut report = serde_json::to_value(testing::report()).unwrap();
        let errors: Vec<_> = validator.iter_errors(&report).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        report["totals"]["records_produced"] = json!("many");
        assert!(!validator.is_valid(&report));
        let mut report = serde_json::to_value(testing::report()).unwrap();
        report["intervals"][0].as_object_mut().unwrap().remove("response_p999");
        assert!(!validator.is_valid(&report), "a key that may be null is still promised");
    }

    /// The keys that scripts read, as the contract names them.
    #[test]
    fn the_promised_keys_are_there() {
        let report = serde_json::to_value(testing::report()).unwrap();
        let latency = "p50 p90 p99 p999 p9999 max mean histogram";
        for (pointer, keys) in [
            ("", "schema_version run_id engine_version command started_at elapsed_seconds confirmation config host"),
            (
                "",
                "warmup totals throughput latency_seconds pacing cpu producers intervals errors verdict slo exit_code",
            ),
            ("/totals", "records_offered records_produced records_failed records_uncertain records_not_sent"),
            ("/totals", "bytes_produced logical_bytes_produced wire_bytes retries"),
            ("/warmup/totals", "records_offered records_produced bytes_produced"),
            ("/throughput", "bytes_per_second records_per_second logical_bytes_per_second"),
            ("/latency_seconds/response", latency),
            ("/latency_seconds/service", latency),
            ("/warmup/latency_seconds/response", latency),
            ("/pacing", "target_bytes_per_second achieved_ratio catch_up_records lateness_seconds"),
            ("/pacing/lateness_seconds", latency),
            ("/cpu", "user_seconds system_seconds seconds_per_gigabyte"),
            ("/producers/0", "id core target records_produced bytes_produced records_failed records_uncertain"),
            ("/producers/0", "first_sequence last_sequence retained_first_sequence missing"),
            ("/intervals/0", "start_seconds seconds records_offered records_produced bytes_produced records_failed"),
            ("/intervals/0", "response_p50 response_p99 response_p999 response_max"),
            ("/errors", "io no_space closed timeout"),
            ("/verdict", "limited_by evidence"),
            ("/slo/0", "expression value passed"),
        ] {
            let Some(Value::Object(object)) = report.pointer(pointer) else { panic!("{pointer} is no object") };
            for key in keys.split(' ') {
                assert!(object.contains_key(key), "{pointer}/{key} is missing");
            }
        }
    }
}
