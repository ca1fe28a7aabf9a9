//! What the table states as a default is what holds where nothing is said.

use super::*;
use crate::config::keys::{Group, KEYS, Key};
use crate::config::parse::default_of;
use serde_json::Value;

const EVENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/fixtures/generator/header-event.json");

/// What a key needs beside it, so that it is not refused as useless.
fn company<'a>(key: &Key, files: &'a str) -> Vec<(&'a str, &'a str)> {
    let target = match (key.name, key.group) {
        ("audit-every" | "direct" | "fsync", _) | (_, Group::Files) => files,
        (_, Group::Network) => "tcp://localhost:9",
        (_, Group::Http) => "http://localhost/",
        (_, Group::Kafka) => "kafka://localhost/t",
        _ => "null",
    };
    let more = match key.name {
        "weight" => vec![("mode", "sampled")],
        "burst-on" | "burst-off" => vec![("mode", "burst")],
        "ramp-steps" => vec![("rate", "1MB/s"), ("ramp-to", "9MB/s")],
        "template-lines" => vec![("payload-template", EVENT)],
        "metrics-hold" => vec![("metrics-addr", ":9090")],
        "governance-every" => vec![("governance-url", "http://localhost")],
        _ if target == files => vec![("min-free", "0")],
        _ => Vec::new(),
    };
    [("target", target), ("run-id", "defaults")].into_iter().chain(more).collect()
}

#[test]
fn to_say_a_default_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let files = format!("file:{}/", folder.path().display());
    let shown = |flags: &[(&str, &str)]| -> Value {
        let mut shown = plan_to_json(&plan(flags));
        // There stands what was said, as it was said.
        shown.as_object_mut().unwrap().remove("config");
        shown
    };
    let stated: Vec<_> = KEYS.iter().filter(|key| default_of(key).is_some()).collect();
    assert!(stated.len() > 30, "defaults that were values are words now");
    for key in stated {
        let mut flags = company(key, &files);
        let unsaid = shown(&flags);
        flags.push((key.name, key.default_text()));
        assert_eq!(shown(&flags), unsaid, "--{}={}", key.name, key.default_text());
    }
}
