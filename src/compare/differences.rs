//! What sets two runs apart besides their figures.

use crate::base::units::{format_counted, format_duration, format_rate_short};
use crate::compare::Difference;
use crate::config::keys;
use crate::config::parse::{Value as Setting, parse};
use crate::observe::report::{Confirmation, Phase, Report};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Settings that name a run, or say when it starts or where its result goes, which changes nothing of it.
const OF_NO_WEIGHT: &[&str] = &["run_id", "report", "html", "config", "log_format", "dry_run", "start_at"];
/// Facts that are never twice the same.
const PASSING: &[&str] = &["memory_available_bytes", "huge_pages_free"];
/// Settings that change what the figures are figures of: with their words.
const OF_THE_QUESTION: &[(&str, &str)] = &[
    ("payload_size", "record sizes"),
    ("payload_template", "payload templates"),
    ("mode", "modes"),
    ("weight", "weights"),
    ("shard", "shards"),
    ("acks", "acks"),
];

/// How a setting is shown that is not set.
const NONE: &str = "none";

pub fn config(a: &Report, b: &Report) -> Vec<Difference> {
    between(&a.config, &b.config, OF_NO_WEIGHT)
}

pub fn host(a: &Report, b: &Report) -> Vec<Difference> {
    let empty = Map::new();
    let object = |of: &Report| of.host.as_object().cloned();
    let (a, b) = (object(a), object(b));
    let mut found = between(a.as_ref().unwrap_or(&empty), b.as_ref().unwrap_or(&empty), PASSING);
    found.iter_mut().filter(|one| one.key == "findings").for_each(|one| {
        one.a = items(&one.a);
        one.b = items(&one.b);
    });
    found.retain(|one| one.a != one.b);
    found
}

/// The names of findings, whose sentences have figures that differ each time.
fn items(findings: &Value) -> Value {
    let name = |finding: &Value| {
        let verdict = finding["verdict"].as_str().unwrap_or("unknown");
        format!("{} {verdict}", finding["item"].as_str().unwrap_or("unknown"))
    };
    findings.as_array().map_or(Value::Null, |all| all.iter().map(name).collect::<BTreeSet<_>>().into_iter().collect())
}

fn between(a: &Map<String, Value>, b: &Map<String, Value>, skip: &[&str]) -> Vec<Difference> {
    let of = |all: &Map<String, Value>, key: &str| all.get(key).cloned().unwrap_or(Value::Null);
    let only_b = b.keys().filter(|key| !a.contains_key(*key));
    let keys = a.keys().chain(only_b).filter(|key| !skip.contains(&key.as_str()));
    let all = keys.map(|key| Difference { key: key.clone(), a: of(a, key), b: of(b, key) });
    all.filter(|one| !is_same(&one.a, &one.b)).collect()
}

/// What was said is text; what it was resolved to may be a number.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(number), Value::String(text)) | (Value::String(text), Value::Number(number)) => {
            number.to_string() == *text
        }
        _ => a == b,
    }
}

/// Why the figures of the two do not answer the same question, a sentence each.
pub fn not_comparable(a: &Report, b: &Report) -> Vec<String> {
    let mut found = Vec::new();
    let mut note = |what: &str, a: String, b: String| {
        if a != b {
            found.push(format!("different {what}: {a} and {b}"));
        }
    };
    let targets = |report: &Report| report.targets().into_iter().collect::<Vec<_>>().join(", ");
    note("targets", targets(a), targets(b));
    let sampled = [a, b].iter().all(|report| is_sampled(report));
    let templates = [a, b].iter().any(|report| setting(report, "payload_template") != NONE);
    for (key, words) in OF_THE_QUESTION {
        // A weight says something in sampled mode only, and templates say how long their records are.
        let says_nothing = (*key == "weight" && !sampled) || (*key == "payload_size" && templates);
        if !says_nothing {
            note(words, setting(a, key), setting(b, key));
        }
    }
    let lines = |report: &Report| {
        let is_on = keys::find("template-lines").map(|key| parse(key, &setting(report, "template_lines")));
        let is_on = is_on == Some(Ok(Setting::Switch(true)));
        if is_on { "lines".to_owned() } else { "whole files".to_owned() }
    };
    if [a, b].iter().all(|report| setting(report, "payload_template") != NONE) {
        note("records of templates", lines(a), lines(b));
    }
    if let Some((of_a, of_b)) = stages(&a.phases, &b.phases) {
        note("phases", of_a, of_b);
    }
    note("confirmations", confirmation(a).to_owned(), confirmation(b).to_owned());
    let kind = |report: &Report| if report.is_merged() { "several processes" } else { "one process" };
    note("reports", kind(a).to_owned(), kind(b).to_owned());
    let rated = |report: &Report| if report.pacing.target_bytes_per_second.is_some() { "paced" } else { "unpaced" };
    note("pacing (response times mean something else)", rated(a).to_owned(), rated(b).to_owned());
    found
}

/// The run, or a stage of it.
fn is_sampled(report: &Report) -> bool {
    let sampled = |mode: &str| mode == "sampled";
    sampled(&setting(report, "mode")) || report.phases.iter().any(|phase| sampled(&phase.mode))
}

/// How many stages there were where that differs, else the first one that is another in the other report. How long the
/// last one was is no more part of the question than the length of a run without stages.
fn stages(a: &[Phase], b: &[Phase]) -> Option<(String, String)> {
    if a.len() != b.len() {
        let count = |all: &[Phase]| match all.len() {
            0 => NONE.to_owned(),
            many => format_counted(many as u64, "stage"),
        };
        return Some((count(a), count(b)));
    }
    a.iter().map(stage).zip(b.iter().map(stage)).find(|(a, b)| a != b)
}

/// `stage 2, burst at 40 MB/s from 1.5 s on`.
fn stage(of: &Phase) -> String {
    let rate = of
        .target_bytes_per_second
        .map_or_else(|| "without a rate".to_owned(), |rate| format!("at {}", format_rate_short(rate)));
    let start = format_duration((of.start_seconds * 1e9).round() as u64);
    format!("stage {}, {} {rate} from {start} on", of.number, of.mode)
}

fn setting(report: &Report, key: &str) -> String {
    match report.config.get(key) {
        None | Some(Value::Null) => NONE.to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn confirmation(report: &Report) -> &'static str {
    match report.confirmation {
        Confirmation::Target => "by the target",
        Confirmation::Kernel => "by the kernel",
    }
}
