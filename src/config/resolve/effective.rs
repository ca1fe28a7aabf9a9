//! Every setting in force, by its configuration key: what was said, or what it was resolved to.

use crate::base::units;
use crate::config::keys::{Group, KEYS, Key, Needs, PHASES_KEY};
use crate::config::load::{PhaseTexts, Settings};
use crate::config::masked;
use crate::config::parse::{self, Value as Parsed};
use crate::config::plan_json;
use crate::config::resolve::{Parts, stages};
use crate::config::values::{Stage, Wanted};
use crate::host::cpu;
use crate::plan::{
    self, FileLayout, Fsync, LogFormat, ObservePlan, PayloadPlan, PayloadSource, Poll, SinkKind, TargetPlan,
};
use serde_json::{Map, Value, json};

pub fn config(
    (settings, wanted): (&Settings, &Wanted),
    parts: &Parts,
    observe: &ObservePlan,
    run_id: &str,
) -> Map<String, Value> {
    let mut config = Map::new();
    for key in KEYS {
        let said: Vec<_> = settings.all(key.name).iter().map(|given| masked::value(key, &given.text)).collect();
        let value = match (said.as_slice(), key.repeatable) {
            _ if key.name == "target" => json!(parts.targets.urls),
            _ if wanted.phased && key.phase && key.name != "duration" => of_stages(key, settings, wanted),
            ([], _) if key.name == "duration" => duration(parts),
            ([], _) => resolved(key.name, parts, observe, run_id),
            (all, true) => json!(all),
            ([.., last], false) => json!(last),
        };
        config.insert(key.config_key(), value);
    }
    let stage = |phase: &PhaseTexts| {
        let pairs = phase.iter().map(|(name, given)| (name.replace('-', "_"), json!(given.text)));
        Value::Object(pairs.collect())
    };
    if !settings.phases.is_empty() {
        config.insert(PHASES_KEY.to_owned(), settings.phases.iter().map(stage).collect());
    }
    // `auto` is no answer, some targets have ways of their own, a size may be cut, and has several spellings: these say
    // what it came to.
    let said_anew =
        ["direct", "io", "poll", "queue-depth", "connections", "payload-size", "block-size", "ring-size", "fsync"];
    for name in said_anew {
        config.insert(name.replace('-', "_"), resolved(name, parts, observe, run_id));
    }
    config
}

/// Of the measured part, all stages together.
fn duration(parts: &Parts) -> Value {
    let measured = parts.schedules.phases.iter().filter(|phase| !phase.warmup);
    match measured.fold(0u64, |sum, phase| sum.saturating_add(phase.duration_ns)) {
        u64::MAX => json!("inf"),
        ns => json!(format!("{}s", ns as f64 / 1e9)),
    }
}

/// What the stages of the run have in common, those in which the setting means something; `null`: they differ.
fn of_stages(key: &Key, settings: &Settings, wanted: &Wanted) -> Value {
    let lacks = |stage: &Stage| matches!(key.needs, Some(Needs::Stage(needs)) if !stage.meets(needs));
    let default = parse::default_of(key).map(|_| key.default_text());
    let measured = settings.phases.iter().zip(stages::reached(wanted)).filter(|(_, stage)| !lacks(stage));
    let mut texts = measured.map(|(phase, _)| {
        let given = phase.get(key.name).or(settings.one(key.name));
        given.map(|given| given.text.trim()).or(default)
    });
    let first = texts.next().unwrap_or(default);
    if texts.all(|text| text == first) { json!(first) } else { Value::Null }
}

/// What was not said. `null`: off, none or no limit.
fn resolved(name: &str, parts: &Parts, observe: &ObservePlan, run_id: &str) -> Value {
    let file = parts.files.iter().flatten().next();
    if let Some(value) = network_value(name, parts) {
        return value;
    }
    match name {
        "cores" => json!(cpu::format_list(&parts.cores.cpus)),
        "parallel" => json!(parts.fleet.producers),
        "run-id" => json!(run_id),
        "payload-size" | "compressibility" => payload_value(name, &parts.payload),
        "direct" => json!(if parts.blocks.direct { "on" } else { "off" }),
        "io" => json!(plan_json::io_name(parts.io)),
        "poll" => json!(if parts.poll == Poll::Busy { "busy" } else { "adaptive" }),
        "block-size" => json!(parts.blocks.block_bytes),
        "queue-depth" => json!(queue_depth(parts)),
        "ring-size" => json!(parts.ring_bytes_per_lane),
        "log-format" => json!(if observe.log_format == LogFormat::Json { "json" } else { "text" }),
        // What is no file on a drive has nothing to make durable.
        "fsync" => match parts.files.iter().flatten().map(|file| file.fsync).max_by_key(|of| *of != Fsync::Never) {
            Some(fsync) => json!(plan_json::fsync_name(fsync)),
            None => plain_default(name),
        },
        "min-free" => file.map_or(Value::Null, |file| json!(file.min_free_bytes)),
        "preallocate" => match file.map(|file| file.layout) {
            Some(FileLayout::Ring { capacity_bytes }) => json!(capacity_bytes),
            _ => Value::Null,
        },
        "rotate-size-mb" => match file.map(|file| file.layout) {
            Some(FileLayout::Rotating { limit_bytes, .. }) => json!(limit_bytes >> 20),
            _ => Value::Null,
        },
        "retain" => match file.map(|file| file.layout) {
            Some(FileLayout::Rotating { retain, .. }) => retain.map_or(json!("all"), |n| json!(n)),
            _ => Value::Null,
        },
        _ => plain_default(name),
    }
}

/// What the ring of a file has room for, where that is less than the depth.
fn queue_depth(parts: &Parts) -> usize {
    let blocks = &parts.blocks;
    match parts.targets.kind {
        SinkKind::File => plan::blocks_in_flight(blocks.queue_depth, blocks.block_bytes, parts.ring_bytes_per_lane),
        _ => blocks.queue_depth,
    }
}

/// Templates have bytes of their own.
fn payload_value(name: &str, payload: &PayloadPlan) -> Value {
    let (bytes_min, bytes_max) = (payload.record_bytes_min, payload.record_bytes_max);
    match payload.source {
        PayloadSource::Templates(_) => Value::Null,
        PayloadSource::Random { compressibility } if name == "compressibility" => json!(compressibility.to_string()),
        PayloadSource::Random { .. } if bytes_min == bytes_max => json!(bytes_min.to_string()),
        PayloadSource::Random { .. } => json!(format!("{bytes_min}-{bytes_max}")),
    }
}

/// What a setting of connections came to; `None` for other settings.
fn network_value(name: &str, parts: &Parts) -> Option<Value> {
    let group = crate::config::keys::find(name)?.group;
    let known = matches!(group, Group::Network | Group::Http | Group::Kafka) || name == "linger";
    let first = parts.remotes.first();
    let duration = |ns: u64| json!(exact_duration(ns));
    match (name, first) {
        ("linger", _) => return Some(duration(parts.linger_ns)),
        ("queue-depth", Some(TargetPlan::Kafka(kafka))) => return Some(json!(kafka.in_flight_max)),
        ("connections", Some(TargetPlan::Kafka(_))) => return Some(json!("one for each partition")),
        _ => {}
    }
    let value = match (name, first.and_then(TargetPlan::link), first) {
        ("connections", Some(link), _) => json!(link.connections),
        ("request-timeout", Some(link), _) => duration(link.request_timeout_ns),
        ("retry", Some(link), Some(TargetPlan::Http(_) | TargetPlan::Kafka(_))) => {
            json!(plan_json::retries_max(&link.retry))
        }
        ("tcp-framing", _, Some(TargetPlan::Tcp(_))) => json!("none"),
        ("http-method", _, Some(TargetPlan::Http(http))) => json!(http.method.name()),
        ("http-records-per-request", _, Some(TargetPlan::Http(http))) => json!(http.records_per_request),
        ("http-pipeline", _, Some(TargetPlan::Http(http))) => json!(http.pipeline),
        (name, _, Some(TargetPlan::Kafka(kafka))) => plan_json::kafka_settings(kafka)[name].clone(),
        _ => Value::Null,
    };
    known.then_some(value)
}

/// As people read it, where that is all of it.
fn exact_duration(ns: u64) -> String {
    let read = units::format_duration(ns).replace(' ', "");
    if units::parse_duration_ns(&read) == Ok(ns) {
        return read;
    }
    let of_unit =
        |&(unit_ns, unit): &(u64, &str)| ns.is_multiple_of(unit_ns).then(|| format!("{}{unit}", ns / unit_ns));
    [(1_000_000, "ms"), (1_000, "us")].iter().find_map(of_unit).unwrap_or_else(|| format!("{ns}ns"))
}

/// A default that the table states as a value rather than in words.
fn plain_default(name: &str) -> Value {
    let key = crate::config::keys::find(name).expect("the name comes from the table");
    match parse::default_of(key) {
        Some(Parsed::Switch(on)) => json!(on),
        Some(_) => json!(key.default_text()),
        None => Value::Null,
    }
}
