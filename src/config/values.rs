//! From texts to typed values, each checked by itself; what hangs together is checked in `resolve`.

use crate::base::fatal::Fatal;
use crate::base::{limits, units};
use crate::config::keys::{self, Key, Kind};
use crate::config::load::{Given, PhaseTexts, Settings};
use crate::config::slo;
use crate::host::cpu;
use crate::plan::{Annotate, Fsync, LogFormat, ReportTarget, Slo};
use std::path::PathBuf;

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
    pub producer_rate: Option<u64>,
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
    pub uring: Option<bool>,
    pub direct: Option<bool>,
    pub block_bytes: Option<u64>,
    pub queue_depth: Option<usize>,
    pub linger_ns: u64,
    pub fsync: Fsync,
    pub drain_timeout_ns: u64,
    pub run_id: Option<String>,
    /// This process's index, and how many there are.
    pub shard: (u32, u32),
    pub metrics_addr: Option<String>,
    pub metrics_hold_ns: u64,
    pub log_format: Option<LogFormat>,
    pub stats_interval_ns: u64,
    pub report: Option<ReportTarget>,
    pub slo: Vec<Slo>,
    pub dry_run: bool,
}

/// A stage as it was asked for; what a stage of `phases:` leaves out it takes from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// `None`: not said; `u64::MAX`: until a limit or a signal.
    pub duration_ns: Option<u64>,
    pub rate: Option<u64>,
    pub mode: Mode,
    pub weight: u64,
    pub burst_on_ns: u64,
    pub burst_off_ns: u64,
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

/// A value of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Bytes, bytes a second, nanoseconds or a count; `u64::MAX` for `inf`, `all` and `unlimited`.
    Number(u64),
    Range(u64, u64),
    Fraction(f64),
    Share(f64),
    Switch(bool),
    Text(String),
    Cpus(Vec<usize>),
    Shard(u32, u32),
    Slo(Vec<Slo>),
}

/// Reads one text as its key's kind; the error names the text and an example.
pub fn parse(key: &Key, text: &str) -> Result<Value, String> {
    let number = |parsed: Result<u64, String>| parsed.map(Value::Number);
    match key.kind {
        Kind::Rate => number(parse_rate(text)),
        Kind::RateOrUnlimited if text == "unlimited" => Ok(Value::Number(u64::MAX)),
        Kind::RateOrUnlimited => number(parse_rate(text)),
        Kind::SizeOrInf | Kind::DurationOrInf if text == "inf" => Ok(Value::Number(u64::MAX)),
        Kind::Size | Kind::SizeOrInf => number(positive(units::parse_size(text), text)),
        Kind::SizeRange => parse_range(text),
        Kind::SizeOrPercent => parse_size_or_percent(text),
        Kind::Duration | Kind::DurationOrInf => number(units::parse_duration_ns(text)),
        Kind::Count { min, max } => number(parse_count(text, min, max)),
        Kind::CountOr { word, .. } if text == word => Ok(Value::Number(u64::MAX)),
        Kind::CountOr { word, min } => {
            number(parse_count(text, min, u64::MAX - 1).map_err(|why| format!("{why}, or {word}")))
        }
        Kind::Fraction { max } => {
            let value = text.parse::<f64>().ok().filter(|f| (0.0..=max).contains(f));
            value.map(Value::Fraction).ok_or_else(|| format!("'{text}' is no number from 0 to {max}"))
        }
        Kind::Choice(words) => {
            let alias =
                [("true", "on"), ("false", "off")].iter().find(|(said, _)| *said == text).map(|(_, meant)| *meant);
            let found = words.iter().find(|word| **word == text || Some(**word) == alias);
            let refused = || format!("'{text}' is none of {}", words.join(", "));
            found.map(|word| Value::Text((*word).to_owned())).ok_or_else(refused)
        }
        Kind::Switch => match text {
            "on" | "true" | "yes" | "1" => Ok(Value::Switch(true)),
            "off" | "false" | "no" | "0" => Ok(Value::Switch(false)),
            _ => Err(format!("'{text}' is neither on nor off")),
        },
        Kind::Url | Kind::Path | Kind::Address | Kind::Text if text.is_empty() => Err("the value is empty".to_owned()),
        Kind::Url | Kind::Path | Kind::Address | Kind::Text if text.contains('\0') => {
            Err("the value has a NUL byte".to_owned())
        }
        Kind::Url | Kind::Path | Kind::Address | Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::CpuList => cpu::parse_list(text).map(Value::Cpus),
        Kind::Shard => {
            let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
            let valid = parts.filter(|(i, n): &(u32, u32)| i < n);
            valid.map(|(i, n)| Value::Shard(i, n)).ok_or_else(|| format!("'{text}' is no I/N with I from 0 to N-1"))
        }
        Kind::Slo => slo::parse(text).map(Value::Slo),
    }
}

fn parse_rate(text: &str) -> Result<u64, String> {
    let rate = positive(units::parse_rate(text), text)?;
    let most = limits::RATE_MAX;
    if rate > most { Err(format!("'{text}' is more than {most} B/s")) } else { Ok(rate) }
}

fn positive(parsed: Result<u64, String>, text: &str) -> Result<u64, String> {
    match parsed {
        Ok(0) => Err(format!("'{text}' is zero")),
        other => other,
    }
}

fn parse_range(text: &str) -> Result<Value, String> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = (units::parse_size(low)?, units::parse_size(high)?);
    if low > high {
        return Err(format!("'{text}' runs backwards"));
    }
    if low < limits::RECORD_BYTES_MIN_UNANNOTATED || high > limits::RECORD_BYTES_MAX {
        let (least, most) = (limits::RECORD_BYTES_MIN_UNANNOTATED, units::format_size(limits::RECORD_BYTES_MAX));
        return Err(format!("'{text}' is out of range: a record has {least} B to {most}"));
    }
    Ok(Value::Range(low, high))
}

fn parse_size_or_percent(text: &str) -> Result<Value, String> {
    let Some(percent) = text.strip_suffix('%') else { return units::parse_size(text).map(Value::Number) };
    let share = percent.trim().parse::<f64>().ok().filter(|p| (0.0..100.0).contains(p));
    share.map(|p| Value::Share(p / 100.0)).ok_or_else(|| format!("'{text}' is no percentage from 0% to below 100%"))
}

fn parse_count(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = text.parse::<u64>().ok().filter(|n| plain && (min..=max).contains(n));
    let range = if max >= u64::MAX - 1 { format!("from {min}") } else { format!("from {min} to {max}") };
    value.ok_or_else(|| format!("'{text}' is no whole number {range}"))
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
        let rate = plain(number("rate"));
        Stage {
            duration_ns: plain(number("duration")),
            rate: rate.or(base.map(|b| b.rate.unwrap_or(u64::MAX))).filter(|rate| *rate != u64::MAX),
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
        producer_rate: r.number("producer-rate"),
        catch_up_ns: r.number("catch-up").unwrap_or(10_000_000_000),
        records: r.limit("records"),
        bytes: r.limit("bytes"),
        parallel: r.number("parallel").map(|n| n as usize),
        payload_bytes: match r.value("payload-size") {
            Some(Value::Range(low, high)) => Some((low, high)),
            _ => None,
        },
        template: r.text("payload-template").map(PathBuf::from),
        seed: r.number("seed").unwrap_or(0),
        compressibility: match r.value("compressibility") {
            Some(Value::Fraction(fraction)) => Some(fraction),
            _ => None,
        },
        ring_bytes: r.number("ring-size"),
        annotate: if r.text("annotate").as_deref() == Some("off") { Annotate::Off } else { Annotate::Payload },
        sign_key: r.text("sign-key").map(PathBuf::from),
        preallocate_bytes: r.number("preallocate"),
        footprint_bytes: r.number("footprint"),
        rotate_mib: r.number("rotate-size-mb"),
        retain: r.number("retain").map(|n| (n != u64::MAX).then_some(n)),
        min_free: match r.value("min-free") {
            Some(Value::Number(bytes)) => Some(MinFree::Bytes(bytes)),
            Some(Value::Share(share)) => Some(MinFree::Share(share)),
            _ => None,
        },
        audit_every: r.number("audit-every").unwrap_or(0),
        overwrite: r.is_on("overwrite"),
        overwrite_device: r.text("overwrite-device"),
        cores: match r.value("cores") {
            Some(Value::Cpus(cpus)) => Some(cpus),
            _ => None,
        },
        busy: r.text("poll").and_then(|text| two(&text, "busy", "adaptive")),
        uring: r.text("io").and_then(|text| two(&text, "uring", "syscall")),
        direct: r.text("direct").and_then(|text| two(&text, "on", "off")),
        block_bytes: r.number("block-size"),
        queue_depth: r.number("queue-depth").map(|n| n as usize),
        linger_ns: r.number("linger").unwrap_or(limits::LINGER_DEFAULT_NS),
        fsync: match r.text("fsync").as_deref() {
            Some("never") => Fsync::Never,
            Some("each") => Fsync::Each,
            _ => Fsync::End,
        },
        drain_timeout_ns: r.number("drain-timeout").unwrap_or(10_000_000_000),
        run_id: r.text("run-id"),
        shard: match r.value("shard") {
            Some(Value::Shard(index, count)) => (index, count),
            _ => (0, 1),
        },
        metrics_addr: r.text("metrics-addr"),
        metrics_hold_ns: r.number("metrics-hold").unwrap_or(0),
        log_format: r.text("log-format").map(|text| if text == "json" { LogFormat::Json } else { LogFormat::Text }),
        stats_interval_ns: r.number("stats-interval").unwrap_or(1_000_000_000),
        report: r.text("report").map(|text| match text.as_str() {
            "-" => ReportTarget::Stdout,
            path => ReportTarget::File(PathBuf::from(path)),
        }),
        slo: r.all("slo").into_iter().filter_map(into_slo).flatten().collect(),
        dry_run: r.is_on("dry-run"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::KEYS;
    use proptest::prelude::*;

    #[test]
    fn every_example_can_be_read() {
        for key in KEYS {
            assert!(parse(key, key.example).is_ok(), "--{} {}", key.name, key.example);
        }
    }

    #[test]
    fn nonsense_is_refused_by_every_kind_but_text() {
        for key in KEYS.iter().filter(|k| !matches!(k.kind, Kind::Url | Kind::Path | Kind::Address | Kind::Text)) {
            for text in ["", "-1", "nonsense", "1e400", "NaN", "99999999999999999999999999"] {
                assert!(parse(key, text).is_err(), "--{} '{text}'", key.name);
            }
        }
    }

    #[test]
    fn ranges_and_shares() {
        let value = |name: &str, text: &str| parse(keys::find(name).unwrap(), text);
        assert_eq!(value("payload-size", "512-8192"), Ok(Value::Range(512, 8192)));
        assert_eq!(value("payload-size", "4Ki"), Ok(Value::Range(4096, 4096)));
        assert!(value("payload-size", "8-4").is_err() && value("payload-size", "1Gi").is_err());
        assert_eq!(value("min-free", "5%"), Ok(Value::Share(0.05)));
        assert!(value("min-free", "100%").is_err() && value("shard", "3/3").is_err() && value("rate", "0").is_err());
        assert_eq!(value("direct", "true"), Ok(Value::Text("on".into())));
    }

    proptest! {
        #[test]
        fn no_text_panics(at in 0..KEYS.len(), text in ".{0,16}|[0-9./%-]{0,10}[a-zA-Z/]{0,4}") {
            let _ = parse(&KEYS[at], &text);
        }
    }
}
