//! The JSON Schema of the configuration file, made from the table of keys.

use crate::config::keys::{KEYS, Key, Kind, PHASES_KEY};
use serde_json::{Map, Value, json};

/// Draft 2020-12. It lists the canonical names (underscores); the loader also takes dashes and older names.
pub fn config_schema() -> Value {
    let settings = KEYS.iter().filter(|key| !matches!(key.name, "config" | "dry-run"));
    let mut properties: Map<String, Value> = settings.map(|key| (key.config_key(), property(key))).collect();
    let stage: Map<String, Value> =
        KEYS.iter().filter(|key| key.phase).map(|key| (key.config_key(), property(key))).collect();
    properties.insert(
        PHASES_KEY.to_owned(),
        json!({
            "description": "Stages, one after the other; what one leaves out it takes from outside.",
            "type": "array",
            "minItems": 1,
            "maxItems": crate::base::limits::PHASES_MAX,
            "items": {"type": "object", "properties": stage, "additionalProperties": false},
        }),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "engine configuration",
        "description": "What --config reads, as YAML or JSON.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn property(key: &Key) -> Value {
    let mut schema = shape(key.kind);
    if key.repeatable {
        schema = json!({"anyOf": [schema.clone(), {"type": "array", "items": schema, "minItems": 1}]});
    }
    schema["description"] = json!(key.help);
    schema["examples"] = json!([example(key)]);
    // What is only known on the host is told in words.
    if let (Kind::Choice(words), default) = (key.kind, key.default)
        && words.contains(&default)
    {
        schema["default"] = json!(default);
    }
    schema
}

/// As it stands in a file: a number without quotes, where the key takes nothing else.
fn example(key: &Key) -> Value {
    match key.kind {
        Kind::Count { .. } | Kind::CountOr { .. } | Kind::Fraction { .. } => {
            key.example.parse().unwrap_or_else(|_| json!(key.example))
        }
        _ => json!(key.example),
    }
}

fn shape(kind: Kind) -> Value {
    let number_or_text = || json!({"type": ["integer", "string"]});
    match kind {
        Kind::Rate
        | Kind::RateOrUnlimited
        | Kind::Size
        | Kind::SizeOrInf
        | Kind::SizeRange
        | Kind::SizeOrPercent
        | Kind::Timestamp
        | Kind::CpuList => number_or_text(),
        Kind::Duration
        | Kind::DurationOrInf
        | Kind::Url
        | Kind::Path
        | Kind::Address
        | Kind::Shard
        | Kind::Slo
        | Kind::Header
        | Kind::Property
        | Kind::RecordKey => {
            json!({"type": "string", "minLength": 1})
        }
        Kind::Retry => json!({"type": ["integer", "string"], "minLength": 1}),
        // As it is written, whatever YAML takes it for.
        Kind::Text => json!({"type": ["string", "number"]}),
        Kind::Count { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::CountOr { word, min, max } => {
            json!({"anyOf": [{"type": "integer", "minimum": min, "maximum": max}, {"const": word}]})
        }
        Kind::Fraction { max } => json!({"type": "number", "minimum": 0, "maximum": max}),
        Kind::Choice(words) if words.contains(&"on") => json!({"enum": with_booleans(words)}),
        Kind::Choice(words) => json!({"enum": with_numbers(words)}),
        Kind::Switch => json!({"enum": ["on", "off", true, false]}),
    }
}

/// YAML reads `acks: 1` as a number.
fn with_numbers(words: &[&str]) -> Vec<Value> {
    let numbers = words.iter().filter_map(|word| word.parse::<u64>().ok());
    words.iter().map(|word| json!(word)).chain(numbers.map(|number| json!(number))).collect()
}

/// `on` and `off` may be written as booleans.
fn with_booleans(words: &[&str]) -> Vec<Value> {
    words.iter().map(|word| json!(word)).chain([json!(true), json!(false)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::document;
    use crate::config::file;
    use crate::config::load;
    use crate::config::resolve;
    use crate::config::values;
    use crate::config::{Deps, keys};
    use std::path::PathBuf;

    fn schemas() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas")
    }

    /// As the committed file has it.
    fn config_schema_text() -> String {
        serde_json::to_string_pretty(&config_schema()).unwrap() + "\n"
    }

    #[test]
    fn the_committed_schema_is_this_one() {
        let path = schemas().join("config.schema.json");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, config_schema_text()).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text == config_schema_text(), "{} is out of date: UPDATE=1 cargo test --lib config", path.display());
    }

    fn to_json(node: &document::Node) -> Value {
        match node {
            document::Node::Null => Value::Null,
            document::Node::Text(text) => json!(text),
            document::Node::Typed { value, .. } => serde_json::from_str(value).unwrap(),
            document::Node::List(items) => items.iter().map(|(_, item)| to_json(item)).collect(),
            document::Node::Map(entries) => entries.iter().map(|e| (e.key.clone(), to_json(&e.value))).collect(),
        }
    }

    #[test]
    fn every_example_fits_the_schema_and_makes_a_plan() {
        let validator = jsonschema::validator_for(&config_schema()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut seen = 0;
        for entry in std::fs::read_dir(schemas().join("examples")).unwrap() {
            let path = entry.unwrap().path();
            let document = file::read(&path).unwrap();
            let value: Value = document.0.iter().map(|e| (e.key.clone(), to_json(&e.value))).collect();
            if let Err(error) = validator.validate(&value) {
                panic!("{}: {error}", path.display());
            }
            let mut errors = Vec::new();
            let flags = vec![(keys::find("config").unwrap(), path.display().to_string())];
            let settings = load::merge(Vec::new(), flags, &[], &mut errors);
            let mut wanted = values::read(&settings, &mut errors);
            // Wherever the test runs: the examples' folders stay untouched, and space is not the question.
            wanted.targets.retain(|url| !url.starts_with("file:"));
            if wanted.targets.is_empty() {
                wanted.targets.push(format!("file:{}/", folder.path().display()));
            }
            wanted.footprint_bytes = wanted.footprint_bytes.map(|_| 64 << 20);
            wanted.preallocate_bytes = wanted.preallocate_bytes.map(|_| 64 << 20);
            wanted.min_free = Some(values::MinFree::Bytes(0));
            let plan = resolve::resolve(&settings, &wanted, &Deps::new(|| Ok(())), errors);
            assert!(plan.is_ok(), "{}: {:?}", path.display(), plan.err());
            seen += 1;
        }
        assert!(seen >= 5, "{seen} examples");
    }

    /// An editor offers it as it is written there.
    #[test]
    fn examples_fit_their_own_keys() {
        let schema = config_schema();
        let stage = &schema["properties"][PHASES_KEY]["items"];
        for properties in [&schema, stage].map(|of| of["properties"].as_object().unwrap()) {
            for (name, property) in properties.iter().filter(|(name, _)| *name != PHASES_KEY) {
                let example = &property["examples"][0];
                assert!(jsonschema::validator_for(property).unwrap().is_valid(example), "{name}: {example}");
            }
        }
    }

    #[test]
    fn the_schema_refuses_what_the_loader_refuses() {
        let validator = jsonschema::validator_for(&config_schema()).unwrap();
        for wrong in [
            json!({"rote": 1}),
            json!({"mode": "x"}),
            json!({"phases": [{"cores": "1"}]}),
            json!({"seed": -1}),
            json!({"retain": 65_537}),
        ] {
            assert!(!validator.is_valid(&wrong), "{wrong}");
        }
        assert!(validator.is_valid(&json!({"direct": true, "retain": "all", "target": ["null"]})));
        assert!(validator.is_valid(&json!({"records": u64::MAX - 1, "retain": 65_536})));
        assert!(validator.is_valid(&json!({"run_id": 1.10})) && validator.is_valid(&json!({"run_id": 20_260_101})));
        assert!(validator.is_valid(&json!({"acks": 1})) && !validator.is_valid(&json!({"acks": 2})));
    }
}
