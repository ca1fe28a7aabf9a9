//! One text to one value, by its key's kind.

use crate::base::units::RecordRate;
use crate::base::{limits, units};
use crate::config::keys::{Key, Kind};
use crate::config::nearest::nearest;
use crate::config::slo;
use crate::host::cpu;
use crate::plan::{KeyPlan, RetryPlan, Slo};

const UNLIMITED: &str = "unlimited";

/// A value of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Bytes, bytes a second, nanoseconds or a count; `u64::MAX` for `inf`, `all` and `unlimited`.
    Number(u64),
    /// Records a second.
    Records(RecordRate),
    Range(u64, u64),
    Fraction(f64),
    Share(f64),
    Switch(bool),
    Text(String),
    Cpus(Vec<usize>),
    Shard(u32, u32),
    Slo(Vec<Slo>),
    Retry(RetryPlan),
    /// Name and value.
    Pair(String, String),
    RecordKey(KeyPlan),
}

/// Reads one text as its key's kind; the error names the text and an example.
pub fn parse(key: &Key, text: &str) -> Result<Value, String> {
    let number = |parsed: Result<u64, String>| parsed.map(Value::Number);
    match key.kind {
        Kind::Rate => parse_rate(text),
        Kind::RateOrUnlimited if text == UNLIMITED => Ok(Value::Number(u64::MAX)),
        Kind::RateOrUnlimited => parse_rate(text).map_err(|why| with_word(why, text, UNLIMITED)),
        Kind::SizeOrInf | Kind::DurationOrInf if text == "inf" => Ok(Value::Number(u64::MAX)),
        Kind::Size | Kind::SizeOrInf => number(positive(units::parse_size(text), text)),
        Kind::SizeRange => parse_range(text),
        Kind::SizeOrPercent => parse_size_or_percent(text),
        Kind::Duration | Kind::DurationOrInf => number(units::parse_duration_ns(text)),
        Kind::Timestamp => number(units::parse_time_unix_ns(text)),
        Kind::Count { min, max } => number(parse_count(text, min, max)),
        Kind::CountOr { word, .. } if text == word => Ok(Value::Number(u64::MAX)),
        Kind::CountOr { word, min, max } => {
            number(parse_count(text, min, max).map_err(|why| format!("{why}, or {word}")))
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
        Kind::Path if behind_home(text).is_some() => {
            Err(format!("'{text}': no shell expands ~ there, and the engine does not either; write $HOME in its place"))
        }
        Kind::Url | Kind::Path | Kind::Address | Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::CpuList => cpu::parse_list(text).map(Value::Cpus),
        Kind::Shard => {
            let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
            let valid = parts.filter(|(i, n): &(u32, u32)| i < n);
            match valid {
                None => Err(format!("'{text}' is no I/N with I from 0 to N-1")),
                // Else nobody could say of a merged report which of them are missing.
                Some((_, n)) if n > limits::SHARDS_MAX => {
                    Err(format!("'{text}': a fleet has at most {} shards", limits::SHARDS_MAX))
                }
                Some((i, n)) => Ok(Value::Shard(i, n)),
            }
        }
        Kind::Slo => slo::parse(text).map(Value::Slo),
        Kind::Retry => parse_retry(text).map(Value::Retry),
        Kind::Header => parse_header(text),
        Kind::Property => match text.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            Some((name, value)) if !name.is_empty() => Ok(Value::Pair(name.to_owned(), value.to_owned())),
            // What it would be may be a credential.
            _ => Err("a property is NAME=VALUE".to_owned()),
        },
        Kind::RecordKey => parse_record_key(text).map(Value::RecordKey),
    }
}

/// The default of a key; `None`: the table tells it in words.
pub fn default_of(key: &Key) -> Option<Value> {
    // Words are a text too.
    if key.kind.is_text() { None } else { parse(key, key.default_text()).ok() }
}

/// What follows a `~` that stands for somebody's home. A shell expands it only where a word begins.
pub fn behind_home(path: &str) -> Option<&str> {
    path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `off`, `5` or `5,50ms-5s`.
fn parse_retry(text: &str) -> Result<RetryPlan, String> {
    let (least, most) = (limits::BACKOFF_MIN_NS, limits::BACKOFF_MAX_NS);
    let (retries, pauses) = text.split_once(',').unwrap_or((text, ""));
    let retries = if retries == "off" { 0 } else { parse_count(retries.trim(), 0, limits::REQUEST_RETRIES_MAX)? };
    let plan = RetryPlan { retries_max: retries as u32, backoff_min_ns: least, backoff_max_ns: most };
    if !text.contains(',') {
        return Ok(plan);
    }
    let (low, high) = pauses.split_once('-').ok_or_else(|| format!("'{pauses}' is no range such as 50ms-5s"))?;
    let (low, high) = (units::parse_duration_ns(low)?, units::parse_duration_ns(high)?);
    if low == 0 || low > high {
        return Err(format!("'{pauses}' is no range: the least pause is above 0s and at most the longest"));
    }
    Ok(RetryPlan { backoff_min_ns: low, backoff_max_ns: high, ..plan })
}

/// A name is a token and a value is printable, as RFC 9110 has it: nothing else gets onto the wire. The value stays
/// out of the error.
fn parse_header(text: &str) -> Result<Value, String> {
    let (name, value) = text.split_once(':').ok_or("a header is NAME:VALUE")?;
    let value = value.trim();
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("'{}' is no header name", name.escape_debug()));
    }
    if !value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) {
        return Err(format!("the value of {name} has characters other than printable ASCII"));
    }
    Ok(Value::Pair(name.to_owned(), value.to_owned()))
}

fn parse_record_key(text: &str) -> Result<KeyPlan, String> {
    match (text, text.strip_prefix("cycle:")) {
        ("none", _) => Ok(KeyPlan::None),
        ("producer", _) => Ok(KeyPlan::Producer),
        (_, Some(count)) => parse_count(count, 1, u64::MAX - 1).map(KeyPlan::Cycle),
        _ => Err(format!("'{text}' is none of none, producer, cycle:N")),
    }
}

fn parse_rate(text: &str) -> Result<Value, String> {
    if let Some(records) = units::parse_record_rate(text) {
        let records = records?;
        return if records.is_zero() { Err(format!("'{text}' is zero")) } else { Ok(Value::Records(records)) };
    }
    let rate = units::parse_rate(text).map_err(|why| format!("{why} or, in records, 50000rec/s"));
    let rate = positive(rate, text)?;
    let most = limits::RATE_MAX;
    if rate > most { Err(format!("'{text}' is more than {most} B/s")) } else { Ok(Value::Number(rate)) }
}

/// A reason, with the word that was meant, perhaps.
fn with_word(why: String, text: &str, word: &str) -> String {
    match nearest(text, std::iter::once(word)) {
        Some(word) => format!("{why} (did you mean {word}?)"),
        None => why,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::{self, KEYS};
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
    fn no_path_begins_in_a_home_that_nobody_expands() {
        let report = |text: &str| parse(keys::find("report").unwrap(), text);
        for text in ["~", "~/r.json"] {
            assert!(report(text).unwrap_err().contains("$HOME"), "{text}");
        }
        for text in ["-", "~r.json", "./~/r.json", "a~/r.json"] {
            assert_eq!(report(text), Ok(Value::Text(text.into())));
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

    /// What is missing of a fleet is told by its list of shards.
    #[test]
    fn a_shard_can_be_told_in_a_list() {
        let value = |text: &str| parse(keys::find("shard").unwrap(), text);
        let last = limits::SHARDS_MAX - 1;
        assert_eq!(value("65535/65536"), Ok(Value::Shard(last, limits::SHARDS_MAX)));
        assert_eq!(cpu::parse_list(&format!("0-{last}")).map(|list| list.len()), Ok(limits::SHARDS_MAX as usize));
        assert_eq!(value("70000/100000"), Err("'70000/100000': a fleet has at most 65536 shards".to_owned()));
        assert!(value("0/65537").is_err());
    }

    #[test]
    fn rates_are_of_bytes_or_of_records() {
        for name in ["rate", "producer-rate"] {
            let value = |text: &str| parse(keys::find(name).unwrap(), text);
            assert_eq!(value("50krec/s"), units::parse_record_rate("50000rec/s").unwrap().map(Value::Records));
            assert!(matches!(value("0.5rec/s"), Ok(Value::Records(_))));
            assert_eq!(value("50kB/s"), Ok(Value::Number(50_000)));
            assert!(value("0rec/s").is_err() && value("2000000GB/s").is_err());
        }
        let hint = |text: &str| parse(keys::find("rate").unwrap(), text).unwrap_err();
        assert!(hint("unlimitd").ends_with("(did you mean unlimited?)"), "{}", hint("unlimitd"));
        assert!(!hint("fast").contains("did you mean"), "{}", hint("fast"));
    }

    #[test]
    fn what_is_no_property_is_not_repeated() {
        let why = parse(keys::find("kafka-property").unwrap(), "=s3cret").unwrap_err();
        assert!(!why.contains("s3cret"), "{why}");
    }

    #[test]
    fn retries_headers_and_keys() {
        let value = |name: &str, text: &str| parse(keys::find(name).unwrap(), text);
        let retry = |retries_max, backoff_min_ns, backoff_max_ns| {
            Ok(Value::Retry(RetryPlan { retries_max, backoff_min_ns, backoff_max_ns }))
        };
        assert_eq!(value("retry", "off"), retry(0, 50_000_000, 5_000_000_000));
        assert_eq!(value("retry", "7"), retry(7, 50_000_000, 5_000_000_000));
        assert_eq!(value("retry", "7,1ms-1s"), retry(7, 1_000_000, 1_000_000_000));
        for text in ["7,", "7,1s", "7,2s-1s", "7,0s-1s", "x", "on", "2000000"] {
            assert!(value("retry", text).is_err(), "{text}");
        }
        assert_eq!(value("http-header", "X-A: b:c "), Ok(Value::Pair("X-A".into(), "b:c".into())));
        for text in ["X A: b", "X-A", ": b", "X-A: b\r\nX-B: c", "X-\u{e9}: b"] {
            assert!(value("http-header", text).is_err(), "{text}");
        }
        assert_eq!(value("key", "cycle:9"), Ok(Value::RecordKey(KeyPlan::Cycle(9))));
        assert!(value("key", "cycle:0").is_err() && value("key", "sequence").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(at in 0..KEYS.len(), text in ".{0,16}|[0-9./%-]{0,10}[a-zA-Z/]{0,4}") {
            let _ = parse(&KEYS[at], &text);
        }
    }
}
