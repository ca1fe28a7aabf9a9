//! From texts to typed values, each checked by itself; what hangs together is checked in `resolve`.

mod network;

pub use network::{KafkaWanted, NetworkWanted};

use crate::base::fatal::Fatal;
use crate::base::place;
use crate::base::units::RecordRate;
use crate::config::keys::{self, Key};
use crate::config::load::{Given, PhaseTexts, Settings};
use crate::config::parse::{Value, parse};
use crate::plan::{Annotate, Fsync, LogFormat, ReportTarget, Slo};
use std::path::{Path, PathBuf};

/// What was asked for. `None`: not said, or said to be found out.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub targets: Vec<String>,
    pub stages: Vec<Stage>,
    /// The stages come from `phases:`.
    pub phased: bool,
    /// The length of all stages together.
    pub duration_ns: Option<u64>,
    pub warmup_ns: u64,
    pub producer_rate: Option<Rate>,
    pub catch_up_ns: u64,
    pub records: Option<u64>,
    pub bytes: Option<u64>,
    pub parallel: Option<usize>,
    pub payload_bytes: Option<(u64, u64)>,
    pub template: Option<PathBuf>,
    pub seed: u64,
    pub compressibility: Option<f64>,
    pub ring_bytes: Option<u64>,
    pub annotate: Annotate,
    pub sign_key: Option<PathBuf>,
    pub preallocate_bytes: Option<u64>,
    pub footprint_bytes: Option<u64>,
    pub rotate_mib: Option<u64>,
    /// `Some(None)`: all.
    pub retain: Option<Option<u64>>,
    pub min_free: Option<MinFree>,
    pub audit_every: u64,
    pub overwrite: bool,
    pub overwrite_device: Option<String>,
    pub cores: Option<Vec<usize>>,
    pub busy: Option<bool>,
    pub zero_copy: bool,
    pub uring: Option<bool>,
    pub direct: Option<bool>,
    pub block_bytes: Option<u64>,
    pub queue_depth: Option<usize>,
    pub linger_ns: Option<u64>,
    pub fsync: Fsync,
    pub drain_timeout_ns: u64,
    pub run_id: Option<String>,
    /// This process's index, and how many there are.
    pub shard: (u32, u32),
    pub start_at_unix_ns: Option<u64>,
    pub metrics_addr: Option<String>,
    pub metrics_hold_ns: u64,
    pub log_format: Option<LogFormat>,
    pub stats_interval_ns: u64,
    pub report: Option<ReportTarget>,
    pub html: Option<PathBuf>,
    pub governance_url: Option<String>,
    pub governance_every: u64,
    pub governance_spec: Option<PathBuf>,
    pub governance_token_file: Option<PathBuf>,
    pub slo: Vec<Slo>,
    pub dry_run: bool,
    pub network: NetworkWanted,
}

/// A stage as it was asked for; what a stage of `phases:` leaves out it takes from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// `None`: not said; `u64::MAX`: until a limit or a signal.
    pub duration_ns: Option<u64>,
    pub rate: Option<Rate>,
    pub mode: Mode,
    pub weight: u64,
    pub burst_on_ns: u64,
    pub burst_off_ns: u64,
}

/// A rate as it was asked for, a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    Bytes(u64),
    Records(RecordRate),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Steady,
    Burst,
    Sampled,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MinFree {
    Bytes(u64),
    /// Of the file system's size, 0 to 1.
    Share(f64),
}

/// Reads values by name and collects what is wrong with them.
struct Reader<'a> {
    settings: &'a Settings,
    errors: &'a mut Vec<Fatal>,
}

impl Reader<'_> {
    fn read(&mut self, key: &'static Key, given: &Given) -> Option<Value> {
        match parse(key, given.text.trim()) {
            Ok(value) => Some(value),
            Err(why) => {
                let origin = given.origin(key);
                let assign =
                    if origin.contains(' ') { format!("{}: ", key.config_key()) } else { format!("{origin}=") };
                self.errors.push(Fatal::usage(format!("{origin}: {why}")).mend(format!("{assign}{}", key.example)));
                None
            }
        }
    }

    fn value(&mut self, name: &str) -> Option<Value> {
        let key = keys::find(name).expect("the table has every key that is read");
        let given = self.settings.one(name)?.clone();
        self.read(key, &given)
    }

    fn all(&mut self, name: &str) -> Vec<Value> {
        let key = keys::find(name).expect("the table has every key that is read");
        let settings = self.settings;
        settings.all(name).iter().filter_map(|given| self.read(key, given)).collect()
    }

    fn number(&mut self, name: &str) -> Option<u64> {
        match self.value(name) {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        }
    }

    fn rate(&mut self, name: &str) -> Option<Rate> {
        self.value(name).and_then(into_rate).flatten()
    }

    /// Like `number`, with "no limit" as `None`.
    fn limit(&mut self, name: &str) -> Option<u64> {
        self.number(name).filter(|number| *number != u64::MAX)
    }

    fn text(&mut self, name: &str) -> Option<String> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn is_on(&mut self, name: &str) -> bool {
        self.value(name) == Some(Value::Switch(true))
    }

    fn range(&mut self, name: &str) -> Option<(u64, u64)> {
        if let Some(Value::Range(low, high)) = self.value(name) { Some((low, high)) } else { None }
    }

    fn fraction(&mut self, name: &str) -> Option<f64> {
        if let Some(Value::Fraction(fraction)) = self.value(name) { Some(fraction) } else { None }
    }

    fn cpus(&mut self, name: &str) -> Option<Vec<usize>> {
        if let Some(Value::Cpus(cpus)) = self.value(name) { Some(cpus) } else { None }
    }

    fn min_free(&mut self) -> Option<MinFree> {
        match self.value("min-free") {
            Some(Value::Number(bytes)) => Some(MinFree::Bytes(bytes)),
            Some(Value::Share(share)) => Some(MinFree::Share(share)),
            _ => None,
        }
    }

    fn shard(&mut self) -> (u32, u32) {
        if let Some(Value::Shard(index, count)) = self.value("shard") { (index, count) } else { (0, 1) }
    }

    fn fsync(&mut self) -> Fsync {
        match self.text("fsync").as_deref() {
            Some("never") => Fsync::Never,
            Some("each") => Fsync::Each,
            _ => Fsync::End,
        }
    }

    /// The stage that the keys outside of `phases:` describe, changed by what `phase` says.
    fn stage(&mut self, base: Option<&Stage>, phase: Option<&PhaseTexts>) -> Stage {
        let mut number = |name: &str| {
            let key = keys::find(name).expect("the table has every key that is read");
            let given = match phase {
                Some(phase) => phase.get(name).cloned(),
                None => self.settings.one(name).cloned(),
            };
            given.and_then(|given| self.read(key, &given))
        };
        let plain = |value: Option<Value>| match value {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        };
        let mode = match number("mode") {
            Some(Value::Text(text)) => match text.as_str() {
                "burst" => Some(Mode::Burst),
                "sampled" => Some(Mode::Sampled),
                _ => Some(Mode::Steady),
            },
            _ => None,
        };
        let rate = number("rate").and_then(into_rate);
        Stage {
            duration_ns: plain(number("duration")),
            rate: rate.unwrap_or_else(|| base.and_then(|b| b.rate)),
            mode: mode.or(base.map(|b| b.mode)).unwrap_or(Mode::Steady),
            weight: plain(number("weight")).or(base.map(|b| b.weight)).unwrap_or(100),
            burst_on_ns: plain(number("burst-on")).or(base.map(|b| b.burst_on_ns)).unwrap_or(1_000_000_000),
            burst_off_ns: plain(number("burst-off")).or(base.map(|b| b.burst_off_ns)).unwrap_or(4_000_000_000),
        }
    }
}

/// Reads everything; what cannot be read is in `errors` and left at its default.
pub fn read(settings: &Settings, errors: &mut Vec<Fatal>) -> Wanted {
    let mut reader = Reader { settings, errors };
    let base = reader.stage(None, None);
    let stages = match settings.phases.is_empty() {
        true => vec![base.clone()],
        false => settings.phases.iter().map(|phase| reader.stage(Some(&base), Some(phase))).collect(),
    };
    let r = &mut reader;
    Wanted {
        targets: r.all("target").into_iter().filter_map(into_text).collect(),
        stages,
        phased: !settings.phases.is_empty(),
        duration_ns: base.duration_ns,
        warmup_ns: r.number("warmup").unwrap_or(0),
        producer_rate: r.rate("producer-rate"),
        catch_up_ns: r.number("catch-up").unwrap_or(10_000_000_000),
        records: r.limit("records"),
        bytes: r.limit("bytes"),
        parallel: r.number("parallel").map(|n| n as usize),
        payload_bytes: r.range("payload-size"),
        template: r.text("payload-template").map(PathBuf::from),
        seed: r.number("seed").unwrap_or(0),
        compressibility: r.fraction("compressibility"),
        ring_bytes: r.number("ring-size"),
        annotate: match r.text("annotate").as_deref() {
            Some("off") => Annotate::Off,
            Some("headers") => Annotate::Headers,
            _ => Annotate::Payload,
        },
        sign_key: r.text("sign-key").map(PathBuf::from),
        preallocate_bytes: r.number("preallocate"),
        footprint_bytes: r.number("footprint"),
        rotate_mib: r.number("rotate-size-mb"),
        retain: r.number("retain").map(|n| (n != u64::MAX).then_some(n)),
        min_free: r.min_free(),
        audit_every: r.number("audit-every").unwrap_or(0),
        overwrite: r.is_on("overwrite"),
        overwrite_device: r.text("overwrite-device"),
        cores: r.cpus("cores"),
        busy: r.text("poll").and_then(|text| two(&text, "busy", "adaptive")),
        zero_copy: r.text("zero-copy").is_none_or(|text| text != "off"),
        uring: r.text("io").and_then(|text| two(&text, "uring", "syscall")),
        direct: r.text("direct").and_then(|text| two(&text, "on", "off")),
        block_bytes: r.number("block-size"),
        queue_depth: r.number("queue-depth").map(|n| n as usize),
        linger_ns: r.number("linger"),
        fsync: r.fsync(),
        drain_timeout_ns: r.number("drain-timeout").unwrap_or(10_000_000_000),
        run_id: r.text("run-id"),
        shard: r.shard(),
        start_at_unix_ns: r.number("start-at"),
        metrics_addr: r.text("metrics-addr"),
        metrics_hold_ns: r.number("metrics-hold").unwrap_or(0),
        log_format: r.text("log-format").map(|text| if text == "json" { LogFormat::Json } else { LogFormat::Text }),
        stats_interval_ns: r.number("stats-interval").unwrap_or(1_000_000_000),
        report: r.text("report").map(|text| report_target(&text)),
        html: r.text("html").map(PathBuf::from),
        governance_url: r.text("governance-url"),
        governance_every: r.number("governance-every").unwrap_or(1000),
        governance_spec: r.text("governance-spec").map(PathBuf::from),
        governance_token_file: r.text("governance-token-file").map(PathBuf::from),
        slo: r.all("slo").into_iter().filter_map(into_slo).flatten().collect(),
        dry_run: r.is_on("dry-run"),
        network: r.network(),
    }
}

/// Where a result goes: `-`, and whatever else leads there, is standard output.
pub fn report_target(text: &str) -> ReportTarget {
    let path = Path::new(text);
    if text == "-" || place::is_stdout(path) { ReportTarget::Stdout } else { ReportTarget::File(path.to_owned()) }
}

/// One text as `--rate` takes it; `None`: without a limit.
pub fn rate(text: &str) -> Result<Option<Rate>, String> {
    let key = keys::find("rate").expect("the table has every key that is read");
    parse(key, text.trim()).map(|value| into_rate(value).flatten())
}

/// `Some(None)`: without a limit.
fn into_rate(value: Value) -> Option<Option<Rate>> {
    match value {
        Value::Number(u64::MAX) => Some(None),
        Value::Number(bytes) => Some(Some(Rate::Bytes(bytes))),
        Value::Records(records) => Some(Some(Rate::Records(records))),
        _ => None,
    }
}

fn into_text(value: Value) -> Option<String> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn into_slo(value: Value) -> Option<Vec<Slo>> {
    if let Value::Slo(slo) = value { Some(slo) } else { None }
}

/// `Some(true)`, `Some(false)`, or `None` for a third word.
fn two(text: &str, yes: &str, no: &str) -> Option<bool> {
    if text == yes {
        return Some(true);
    }
    (text == no).then_some(false)
}
