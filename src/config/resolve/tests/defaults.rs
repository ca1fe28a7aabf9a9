//! What the table states as a default is what holds where nothing is said.

use super::*;
use crate::config::keys::{Group, KEYS, Key, Needs, StageNeeds};
use crate::config::parse::default_of;
use serde_json::Value;

const EVENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/fixtures/generator/header-event.json");

/// What a key needs beside it, so that it is not refused as useless.
fn company<'a>(key: &Key, files: &'a str) -> Vec<(&'a str, &'a str)> {
    let target = match (key.needs, key.group) {
        (Some(Needs::FileTarget | Needs::Files), _) | (_, Group::Files) => files,
        (Some(Needs::NetworkTarget | Needs::Tcp), _) => "tcp://localhost:9",
        (Some(Needs::Http | Needs::Answers), _) => "http://localhost/",
        (Some(Needs::Tls), _) => "https://localhost/",
        (Some(Needs::Kafka), _) => "kafka://localhost/t",
        _ if key.name == "direct" => files,
        _ => "null",
    };
    let more = match key.needs {
        Some(Needs::Stage(StageNeeds::Sampled)) => vec![("mode", "sampled")],
        Some(Needs::Stage(StageNeeds::Burst)) => vec![("mode", "burst")],
        Some(Needs::Stage(StageNeeds::Ramp)) => vec![("rate", "1MB/s"), ("ramp-to", "9MB/s")],
        Some(Needs::Template) => vec![("payload-template", EVENT)],
        Some(Needs::MetricsAddr) => vec![("metrics-addr", ":9090")],
        Some(Needs::GovernanceUrl) => vec![("governance-url", "http://localhost")],
        _ if target == files => vec![("min-free", "0")],
        _ => Vec::new(),
    };
    [("target", target), ("run-id", "defaults")].into_iter().chain(more).collect()
}

/// A value of the effective configuration as somebody would say it.
fn as_said(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(on) => if *on { "on" } else { "off" }.to_owned(),
        other => other.to_string(),
    }
}

#[test]
fn to_say_a_default_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file:{}/", folder.path().display());
    let stated: Vec<_> = KEYS.iter().filter(|key| default_of(key).is_some()).collect();
    assert!(stated.len() > 30, "defaults that were values are words now");
    for key in stated {
        // The plan, and of its configuration what stands for this key.
        let shown = |flags: &[(&str, &str)]| {
            let mut shown = plan_to_json(&plan(flags));
            let value = shown["config"][key.config_key()].take();
            (shown, as_said(&value))
        };
        let mut flags = company(key, &files);
        let (unsaid, resolved) = shown(&flags);
        flags.push((key.name, key.default_text()));
        let (said, kept) = shown(&flags);
        assert_eq!(said, unsaid, "--{}={}", key.name, key.default_text());
        assert_eq!(kept, resolved, "config.{} as it was said, and unsaid", key.config_key());
    }
}

#[test]
fn whatever_a_key_needs_is_asked_for() {
    let needy = || KEYS.iter().filter_map(|key| Some((key, key.needs?)));
    assert!(needy().count() > 40, "rows have lost what they need");
    for (key, needs) in needy() {
        let target = if needs == Needs::Blocks { "http://localhost/" } else { "null" };
        let value = if needs == Needs::Ring { "uring" } else { key.example };
        let told = refused(&[("target", target), (key.name, value)]);
        assert!(told.contains(&format!("--{} has no effect without ", key.name)), "{told}");
    }
    for (key, _) in needy().filter(|(_, needs)| *needs == Needs::Files) {
        let told = refused(&[("target", "file:/dev/null"), (key.name, key.example)]);
        assert!(told.contains(&format!("--{} has no effect without files", key.name)), "{told}");
    }
    let wrong = [
        ("tcp-framing", "http://localhost/", "a TCP target"),
        ("retry", "tcp://localhost:9", "an HTTP or Kafka target"),
        ("tls-ca", "http://localhost/", "https or Kafka"),
        ("compression", "http://localhost/", "a Kafka target"),
        ("http-method", "kafka://localhost/t", "an HTTP target"),
        ("block-size", "kafka://localhost/t", "a file or TCP target"),
    ];
    for (name, target, needs) in wrong {
        let told = refused(&[("target", target), (name, keys::find(name).unwrap().example)]);
        assert!(told.contains(&format!("--{name} has no effect without {needs}")), "{told}");
    }
    // What asks for nothing is not refused.
    plan(&[("target", "null"), ("audit-every", "0"), ("io", "auto")]);
}
