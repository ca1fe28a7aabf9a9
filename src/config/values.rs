//! From texts to typed values, each checked by itself; what hangs together is checked in `resolve`.

mod network;

pub use network::{KafkaWanted, NetworkWanted};

use crate::base::fatal::Fatal;
use crate::base::units::RecordRate;
use crate::base::{paths, program};
use crate::config::kafka_properties;
use crate::config::keys::{self, KEYS, Key, StageNeeds};
use crate::config::load::{Given, PhaseTexts, Settings, Source};
use crate::config::parse::{Value, default_of, parse};
use crate::plan::{Annotate, Fsync, Io, LogFormat, Poll, ReportTarget, Slo};
use std::path::{Path, PathBuf};

/// What was asked for. `None`: not said, or said to be found out.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub targets: Vec<String>,
    pub stages: Vec<Stage>,
    /// The stages come from `phases:`.
    pub phased: bool,
    /// What is said outside of them of what a stage may say, and whether a file does.
    pub outside: Vec<(&'static str, bool)>,
    /// The length of all stages together.
    pub duration_ns: Option<u64>,
    pub warmup_ns: u64,
    pub producer_rate: Option<Rate>,
    pub catch_up_ns: u64,
    pub records: Option<u64>,
    pub bytes: Option<u64>,
    pub parallel: Option<usize>,
    pub payload_bytes: (u64, u64),
    pub template: Option<PathBuf>,
    pub template_lines: bool,
    pub seed: u64,
    pub compressibility: f64,
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
    /// Serial numbers of drives.
    pub overwrite_device: Vec<String>,
    pub cores: Option<Vec<usize>>,
    pub poll: Option<Poll>,
    pub zero_copy: bool,
    pub io: Option<Io>,
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
    /// The rate goes from `rate` to this in `ramp_steps` equal steps.
    pub ramp_to: Option<Rate>,
    pub ramp_steps: u64,
    pub mode: Mode,
    pub weight: u64,
    pub burst_on_ns: u64,
    pub burst_off_ns: u64,
    /// The keys that a stage of `phases:` says itself.
    pub says: Vec<&'static str>,
}

impl Stage {
    /// Whether it has what a setting needs.
    pub fn meets(&self, needs: StageNeeds) -> bool {
        match needs {
            StageNeeds::Sampled => self.mode == Mode::Sampled,
            StageNeeds::Burst => self.mode == Mode::Burst,
            StageNeeds::Ramp => self.ramp_to.is_some(),
        }
    }
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
                // What is one word of a shell is one text of YAML.
                let assign =
                    if origin.contains(' ') { format!("{}: ", key.config_key()) } else { format!("{origin}=") };
                let foreign = match key.name {
                    "sasl-mechanism" => kafka_properties::foreign_mechanism(given.text.trim(), &assign),
                    _ => None,
                };
                let (why, mend) = match foreign {
                    Some((what, mend)) => (format!("'{}': {what}", given.text.trim()), mend),
                    None => (why, format!("{assign}{}", program::quoted(key.example))),
                };
                self.errors.push(Fatal::usage(format!("{origin}: {why}")).mend(mend));
                None
            }
        }
    }

    fn value(&mut self, name: &str) -> Option<Value> {
        let key = keys::find(name).expect("the table has every key that is read");
        let given = self.settings.one(name)?.clone();
        self.read(key, &given)
    }

    /// Of a key whose default is a value.
    fn value_or_default(&mut self, name: &str) -> Value {
        self.value(name).unwrap_or_else(|| default_value(name))
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

    fn number_or_default(&mut self, name: &str) -> u64 {
        into_number(self.value_or_default(name))
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

    fn text_or_default(&mut self, name: &str) -> String {
        let Value::Text(text) = self.value_or_default(name) else { unreachable!("--{name} is a text") };
        text
    }

    fn is_on(&mut self, name: &str) -> bool {
        self.value_or_default(name) == Value::Switch(true)
    }

    fn payload_bytes(&mut self) -> (u64, u64) {
        let Value::Range(low, high) = self.value_or_default("payload-size") else { unreachable!("it is a range") };
        (low, high)
    }

    fn compressibility(&mut self) -> f64 {
        let Value::Fraction(of) = self.value_or_default("compressibility") else { unreachable!("it is a fraction") };
        of
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
        let Value::Shard(index, count) = self.value_or_default("shard") else { unreachable!("it is I/N") };
        (index, count)
    }

    fn fsync(&mut self) -> Fsync {
        match self.text_or_default("fsync").as_str() {
            "never" => Fsync::Never,
            "each" => Fsync::Each,
            _ => Fsync::End,
        }
    }

    /// What `phase` says, or without one the keys outside of `phases:`; the rest is as in `base`.
    fn stage(&mut self, base: &Stage, phase: Option<&PhaseTexts>) -> Stage {
        let mut value = |name: &str| {
            let key = keys::find(name).expect("the table has every key that is read");
            let given = match phase {
                Some(phase) => phase.get(name).cloned(),
                None => self.settings.one(name).cloned(),
            };
            given.and_then(|given| self.read(key, &given))
        };
        Stage {
            duration_ns: value("duration").map(into_number),
            rate: value("rate").and_then(into_rate).unwrap_or(base.rate),
            ramp_to: value("ramp-to").and_then(into_rate).unwrap_or(base.ramp_to),
            ramp_steps: value("ramp-steps").map_or(base.ramp_steps, into_number),
            mode: value("mode").map_or(base.mode, into_mode),
            weight: value("weight").map_or(base.weight, into_number),
            burst_on_ns: value("burst-on").map_or(base.burst_on_ns, into_number),
            burst_off_ns: value("burst-off").map_or(base.burst_off_ns, into_number),
            says: phase.map_or_else(Vec::new, |phase| phase.keys().copied().collect()),
        }
    }
}

/// A stage of which nothing is said.
fn default_stage() -> Stage {
    let number = |name| into_number(default_value(name));
    Stage {
        duration_ns: None,
        rate: None,
        ramp_to: None,
        ramp_steps: number("ramp-steps"),
        mode: into_mode(default_value("mode")),
        weight: number("weight"),
        burst_on_ns: number("burst-on"),
        burst_off_ns: number("burst-off"),
        says: Vec::new(),
    }
}

/// Of a key whose default is a value.
fn default_value(name: &str) -> Value {
    let key = keys::find(name).expect("the table has every key that is read");
    default_of(key).expect("the table states a value")
}

fn said_outside(settings: &Settings) -> Vec<(&'static str, bool)> {
    let of_stages = KEYS.iter().filter(|key| key.phase);
    let said = of_stages.filter_map(|key| settings.one(key.name).map(|given| (key.name, given)));
    said.map(|(name, given)| (name, matches!(given.source, Source::File { .. }))).collect()
}

/// Reads everything; what cannot be read is in `errors` and left at its default.
pub fn read(settings: &Settings, errors: &mut Vec<Fatal>) -> Wanted {
    let mut reader = Reader { settings, errors };
    let base = reader.stage(&default_stage(), None);
    let stages = match settings.phases.is_empty() {
        true => vec![base.clone()],
        false => settings.phases.iter().map(|phase| reader.stage(&base, Some(phase))).collect(),
    };
    let r = &mut reader;
    Wanted {
        targets: r.all("target").into_iter().filter_map(into_text).collect(),
        stages,
        phased: !settings.phases.is_empty(),
        outside: said_outside(settings),
        duration_ns: base.duration_ns,
        warmup_ns: r.number_or_default("warmup"),
        producer_rate: r.rate("producer-rate"),
        catch_up_ns: r.number_or_default("catch-up"),
        records: r.limit("records"),
        bytes: r.limit("bytes"),
        parallel: r.number("parallel").map(|n| n as usize),
        payload_bytes: r.payload_bytes(),
        template: r.text("payload-template").map(PathBuf::from),
        template_lines: r.is_on("template-lines"),
        seed: r.number_or_default("seed"),
        compressibility: r.compressibility(),
        ring_bytes: r.number("ring-size"),
        annotate: match r.text_or_default("annotate").as_str() {
            "off" => Annotate::Off,
            "headers" => Annotate::Headers,
            _ => Annotate::Payload,
        },
        sign_key: r.text("sign-key").map(PathBuf::from),
        preallocate_bytes: r.number("preallocate"),
        footprint_bytes: r.number("footprint"),
        rotate_mib: r.number("rotate-size-mb"),
        retain: r.number("retain").map(|n| (n != u64::MAX).then_some(n)),
        min_free: r.min_free(),
        audit_every: r.number_or_default("audit-every"),
        overwrite: r.is_on("overwrite"),
        overwrite_device: r.all("overwrite-device").into_iter().filter_map(into_text).collect(),
        cores: r.cpus("cores"),
        poll: one_of(&r.text_or_default("poll"), &[("busy", Poll::Busy), ("adaptive", Poll::Adaptive)]),
        zero_copy: r.text_or_default("zero-copy") != "off",
        io: one_of(&r.text_or_default("io"), &[("uring", Io::Uring), ("syscall", Io::Syscall)]),
        direct: one_of(&r.text_or_default("direct"), &[("on", true), ("off", false)]),
        block_bytes: r.number("block-size"),
        queue_depth: r.number("queue-depth").map(|n| n as usize),
        linger_ns: r.number("linger"),
        fsync: r.fsync(),
        drain_timeout_ns: r.number_or_default("drain-timeout"),
        run_id: r.text("run-id"),
        shard: r.shard(),
        start_at_unix_ns: r.number("start-at"),
        metrics_addr: r.text("metrics-addr"),
        metrics_hold_ns: r.number_or_default("metrics-hold"),
        log_format: r.text("log-format").map(|text| if text == "json" { LogFormat::Json } else { LogFormat::Text }),
        stats_interval_ns: r.number_or_default("stats-interval"),
        report: r.text("report").map(|text| report_target(&text)),
        html: r.text("html").map(PathBuf::from),
        governance_url: r.text("governance-url"),
        governance_every: r.number_or_default("governance-every"),
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
    if text == "-" || paths::is_stdout(path) { ReportTarget::Stdout } else { ReportTarget::File(path.to_owned()) }
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

fn into_number(value: Value) -> u64 {
    if let Value::Number(number) = value { number } else { unreachable!("{value:?} is no number") }
}

fn into_mode(value: Value) -> Mode {
    match into_text(value).as_deref() {
        Some("burst") => Mode::Burst,
        Some("sampled") => Mode::Sampled,
        _ => Mode::Steady,
    }
}

fn into_text(value: Value) -> Option<String> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn into_slo(value: Value) -> Option<Vec<Slo>> {
    if let Value::Slo(slo) = value { Some(slo) } else { None }
}

/// What the text stands for; `None`: it is another word.
fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Option<T> {
    words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning)
}
