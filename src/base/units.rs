//! Rates, sizes and durations as people write them, and back.
//!
//! Grammar: a number, then `k M G T` (1000) or `Ki Mi Gi Ti` (1024), then `B`/`b` for bytes or `bit`
//! for bits, then `/s` for rates; or `rec/s`. Bare numbers are bytes. A capital prefix before a small `b` is refused:
//! half its readers would mean bits.

mod records;

pub use records::{RecordRate, parse_record_rate};

/// Of a number with its point: what it comes to with any unit fits into 128 bits.
const DECIMAL_CHARS_MAX: usize = 20;

/// Bytes a second. `7.5GB/s`, `125kb/s` (125,000 B/s), `1mbit` (125,000 B/s), `937500000`.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let body = match (text.strip_suffix("/s"), text.strip_suffix("ps")) {
        (None, Some(body)) if body.ends_with('b') => {
            let number = &body[..body.len() - 1];
            return Err(format!("'{text}' is ambiguous: write {number}bit/s for bits or {number}B/s for bytes"));
        }
        (slash, per) => slash.or(per).unwrap_or(text),
    };
    parse_bytes(body).map_err(|why| format!("{why}; a rate looks like 7.5GB/s, 125kb/s or 1mbit"))
}

/// Bytes. `4096`, `1Mi`, `16GiB`, `50MB`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    parse_bytes(text.trim()).map_err(|why| format!("{why}; a size looks like 4096, 1Mi or 50MB"))
}

/// Nanoseconds. `30s`, `5m`, `1h`, `250us`, `1h30m`; a unit is required.
pub fn parse_duration_ns(text: &str) -> Result<u64, String> {
    let example = "a duration has a unit: 250us, 30s, 5m or 1h";
    let trimmed = text.trim();
    if trimmed.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(format!("'{text}' has no unit; {example}"));
    }
    let parsed: jiff::SignedDuration = trimmed.parse().map_err(|_| format!("'{text}' is no duration; {example}"))?;
    let ns = parsed.as_nanos();
    if ns < 0 {
        return Err(format!("'{text}' is negative; {example}"));
    }
    u64::try_from(ns).map_err(|_| format!("'{text}' is longer than 584 years; {example}"))
}

/// Unix nanoseconds. `2030-01-01T12:00:00Z`, or whole seconds since 1970.
pub fn parse_time_unix_ns(text: &str) -> Result<u64, String> {
    let example = "a time looks like 2030-01-01T12:00:00Z, 2030-01-01T12:00:00+02:00 or 1893499200 (Unix seconds)";
    let trimmed = text.trim();
    let refused = || format!("'{text}' is no time; {example}");
    let parsed = match trimmed.chars().all(|c| c.is_ascii_digit()) {
        true => trimmed.parse().ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()),
        false => trimmed.parse().ok(),
    };
    let parsed: jiff::Timestamp = parsed.ok_or_else(refused)?;
    u64::try_from(parsed.as_nanosecond()).map_err(|_| refused())
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (mantissa, scale) = parse_decimal(text, number)?;
    let (multiplier, bits) = parse_unit(text, unit.trim_start())?;
    let divisor = 10u128.pow(scale) * if bits { 8 } else { 1 };
    let scaled = mantissa.checked_mul(multiplier).ok_or_else(|| format!("'{text}' is too large"))?;
    let value = (scaled + divisor / 2) / divisor;
    if value == 0 && mantissa > 0 {
        return Err(format!("'{text}' is less than one byte"));
    }
    u64::try_from(value).map_err(|_| format!("'{text}' is too large"))
}

/// The decimal that `text` begins with, as (mantissa, digits after the point).
fn parse_decimal(text: &str, number: &str) -> Result<(u128, u32), String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let no_number = || format!("'{text}' does not start with a number");
    if text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
        return Err(format!("'{text}' is negative"));
    }
    if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
        return Err(no_number());
    }
    if number.len() > DECIMAL_CHARS_MAX {
        let why = if whole.len() > DECIMAL_CHARS_MAX { "is too large" } else { "has too many decimals" };
        return Err(format!("'{text}' {why}"));
    }
    let mantissa = format!("{whole}{fraction}").parse().map_err(|_| no_number())?;
    Ok((mantissa, fraction.len() as u32))
}

/// (multiplier, whether the unit is bits).
fn parse_unit(text: &str, unit: &str) -> Result<(u128, bool), String> {
    let (prefix, base) = match unit {
        u if u.ends_with("bits") => (&u[..u.len() - 4], "bit"),
        u if u.ends_with("bit") => (&u[..u.len() - 3], "bit"),
        u if u.ends_with('B') => (&u[..u.len() - 1], "B"),
        u if u.ends_with('b') => (&u[..u.len() - 1], "b"),
        u => (u, ""),
    };
    if base == "b" && prefix.starts_with(|c: char| c.is_ascii_uppercase()) {
        let number = &text[..text.len() - unit.len()];
        let (bits, bytes) = (format!("{number}{}bit", prefix.to_lowercase()), format!("{number}{prefix}B"));
        return Err(format!("'{text}' is ambiguous: write {bits} for bits or {bytes} for bytes"));
    }
    let multiplier = multiplier(prefix).ok_or_else(|| format!("'{text}' has an unknown unit '{unit}'"))?;
    Ok((multiplier, base == "bit"))
}

fn multiplier(prefix: &str) -> Option<u128> {
    Some(match prefix.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "t" => 1_000_000_000_000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        "ti" => 1 << 40,
        _ => return None,
    })
}

/// `937.5 MB/s (7.5 Gbit/s)`.
pub fn format_rate(bytes_per_second: f64) -> String {
    format!("{}/s ({}/s)", decimal(bytes_per_second, "B"), decimal(bytes_per_second * 8.0, "bit"))
}

/// `937.5 MB/s`.
pub fn format_rate_short(bytes_per_second: f64) -> String {
    format!("{}/s", decimal(bytes_per_second, "B"))
}

/// `16 GiB` where the count is a round binary number, else `50 MB`: for what is set.
pub fn format_size(bytes: u64) -> String {
    for (shift, name) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let fits = bytes >= 1 << shift && bytes >> shift < 1024;
        if fits && bytes.is_multiple_of(1 << (shift - 3)) {
            return format!("{} {name}", trimmed(bytes as f64 / (1u64 << shift) as f64));
        }
    }
    decimal(bytes as f64, "B")
}

/// `50 MB`, whatever the count: measured amounts stand beside rates, which are decimal.
pub fn format_amount(bytes: u64) -> String {
    decimal(bytes as f64, "B")
}

/// Sizes that are read beside each other, all in the same kind of unit: binary where each of them is round in it.
pub fn format_sizes_alike<const N: usize>(bytes: [u64; N]) -> [String; N] {
    let is_decimal = bytes.iter().any(|bytes| *bytes > 0 && format_size(*bytes) == format_amount(*bytes));
    bytes.map(if is_decimal { format_amount } else { format_size })
}

/// `190 ms`, `52.1 us`, `10 s`.
pub fn format_duration(ns: u64) -> String {
    let (value, unit) = scaled_duration(ns);
    format!("{} {unit}", trimmed(value))
}

/// `2.30 GB/s`, `937.5 MB/s`: what is drawn again and again keeps its width.
pub fn format_rate_steady(bytes_per_second: f64) -> String {
    let (value, prefix) = scaled(bytes_per_second);
    format!("{} {prefix}B/s", steady(value, prefix.is_empty()))
}

/// `13.00 ms`, `190.0 ms`: the same.
pub fn format_duration_steady(ns: u64) -> String {
    let (value, unit) = scaled_duration(ns);
    format!("{} {unit}", steady(value, unit == "ns"))
}

fn scaled_duration(ns: u64) -> (f64, &'static str) {
    match ns {
        0 => (0.0, "s"),
        1..1_000 => (ns as f64, "ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    }
}

/// `12.3 million` style counts stay exact: `12,345,678`.
pub fn format_count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 record`, `12,345 records`, `2 batches`.
pub fn format_counted(count: u64, one: &str) -> String {
    let end = match count {
        1 => "",
        _ if one.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{} {one}{end}", format_count(count))
}

/// `1 record/s`, `12,345 records/s`, `0.00028 records/s`.
pub fn format_records_per_second(records_per_second: f64) -> String {
    let count = records_per_second.round() as u64;
    if count >= 10 {
        return format!("{}/s", format_counted(count, "record"));
    }
    match format_significant(records_per_second, 2).as_str() {
        "1" => "1 record/s".to_owned(),
        few => format!("{few} records/s"),
    }
}

/// So many significant digits of what is no whole number, without trailing zeros; what is next to nothing is 0.
pub fn format_significant(value: f64, digits: i32) -> String {
    let whole_digits = value.abs().max(1e-12).log10().floor() as i32 + 1;
    let decimals = (digits - whole_digits).max(0) as usize;
    without_zeros(format!("{value:.decimals$}"))
}

fn decimal(value: f64, unit: &str) -> String {
    let (value, prefix) = scaled(value);
    format!("{} {prefix}{unit}", trimmed(value))
}

fn scaled(value: f64) -> (f64, &'static str) {
    let mut scaled = value;
    let mut prefix = "";
    for next in ["k", "M", "G", "T", "P", "E"] {
        if scaled.abs() < 999.95 {
            break;
        }
        scaled /= 1000.0;
        prefix = next;
    }
    (scaled, prefix)
}

/// Four significant digits, or as few as a whole number has; what is less than 1 has three.
fn steady(value: f64, is_whole: bool) -> String {
    let decimals = match value.abs() {
        _ if is_whole => 0,
        99.995.. => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// Four significant digits at most, without trailing zeros.
fn trimmed(value: f64) -> String {
    let decimals = if value.abs() >= 100.0 { 1 } else { 2 };
    without_zeros(format!("{value:.decimals$}"))
}

/// Those at the end of a decimal fraction.
fn without_zeros(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_as_the_contract_writes_them() {
        for (text, bytes) in [
            ("7.5GB/s", 7_500_000_000),
            ("125kb/s", 125_000),
            ("1mbit", 125_000),
            ("937500000", 937_500_000),
            ("8GB/s", 8_000_000_000),
            ("1Gi", 1 << 30),
            ("2 MiB/s", 2 << 20),
            ("100Gbit/s", 12_500_000_000),
        ] {
            assert_eq!(parse_rate(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn times_have_an_offset_or_are_unix_seconds() {
        for text in ["2030-01-01T12:00:00Z", "2030-01-01T14:00:00+02:00", " 1893499200 ", "2030-01-01t12:00:00.000z"] {
            assert_eq!(parse_time_unix_ns(text), Ok(1_893_499_200_000_000_000), "{text}");
        }
        assert_eq!(parse_time_unix_ns("1970-01-01T00:00:00.5Z"), Ok(500_000_000));
        let far = "99999999999999999999999";
        for text in ["", "12:00", "2030-01-01T12:00:00", "tomorrow", "1960-01-01T00:00:00Z", "-5", "1.5", far] {
            assert!(parse_time_unix_ns(text).unwrap_err().contains("is no time"), "{text}");
        }
    }

    #[test]
    fn an_ambiguous_unit_names_both_readings() {
        let why = parse_rate("1Mb/s").unwrap_err();
        assert!(why.contains("1mbit") && why.contains("1MB"), "{why}");
        let why = parse_rate("100mbps").unwrap_err();
        assert!(why.contains("100mbit/s") && why.contains("100mB/s"), "{why}");
        assert_eq!((parse_rate("7.5GBps"), parse_rate("8mbitps")), (Ok(7_500_000_000), Ok(1_000_000)));
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in ["", "fast", "-1", "1.2.3", "1.", ".5", "5XB", "1e9", "99999999999999999999999", "0.01bit", "1TiB "]
        {
            let parsed = parse_rate(text);
            if text == "1TiB " {
                assert_eq!(parsed, Ok(1 << 40));
            } else {
                assert!(parsed.unwrap_err().contains("7.5GB/s"), "{text}");
            }
        }
        assert!(parse_size("20000000000GiB").is_err());
        for (text, why) in [
            ("-5", "'-5' is negative"),
            ("-1GB", "'-1GB' is negative"),
            ("99999999999999999999999", "is too large"),
            ("0.00000000000000000000001", "has too many decimals"),
            ("fast", "'fast' does not start with a number"),
            ("-", "'-' does not start with a number"),
        ] {
            assert!(parse_rate(text).unwrap_err().contains(why), "{text}");
        }
        assert!(parse_record_rate("-5rec/s").unwrap().unwrap_err().starts_with("'-5' is negative"));
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration_ns("300s"), Ok(300_000_000_000));
        assert_eq!(parse_duration_ns("5m"), Ok(300_000_000_000));
        assert_eq!(parse_duration_ns("250us"), Ok(250_000));
        assert_eq!(parse_duration_ns("1h30m"), Ok(5_400_000_000_000));
        assert_eq!(parse_duration_ns("1.5s"), Ok(1_500_000_000));
        for text in ["10", "", "-3s", "1M", "soon", "1mo"] {
            assert!(parse_duration_ns(text).is_err(), "{text}");
        }
    }

    #[test]
    fn formats_read_well() {
        assert_eq!(format_rate(937_500_000.0), "937.5 MB/s (7.5 Gbit/s)");
        assert_eq!([format_rate_short(1.4817e15), format_amount(u64::MAX)], ["1.48 PB/s", "18.45 EB"]);
        assert_eq!(format_size(16 << 30), "16 GiB");
        assert_eq!(format_size(50_000_000), "50 MB");
        assert_eq!((format_amount(147_456).as_str(), format_amount(1 << 20).as_str()), ("147.5 kB", "1.05 MB"));
        assert_eq!(format_duration(190_000_000), "190 ms");
        assert_eq!(format_sizes_alike([16 << 30, 8 << 20]), ["16 GiB", "8 MiB"]);
        assert_eq!(format_sizes_alike([14_190_000_000, 8 << 20]), ["14.19 GB", "8.39 MB"]);
        assert_eq!(format_count(12_345_678), "12,345,678");
        assert_eq!(
            [0, 1, 1234].map(|count| format_counted(count, "record")),
            ["0 records", "1 record", "1,234 records"]
        );
        assert_eq!([0, 999].map(format_duration), ["0 s", "999 ns"]);
        assert_eq!([1, 2].map(|count| format_counted(count, "batch")), ["1 batch", "2 batches"]);
        let per_second = [1234.4, 9.96, 0.999, 0.6, 3.0 / 10_800.0, 0.0].map(format_records_per_second);
        let shown =
            ["1,234 records/s", "10 records/s", "1 record/s", "0.6 records/s", "0.00028 records/s", "0 records/s"];
        assert_eq!(per_second, shown);
        assert_eq!([1.28, 64.64, 100.49].map(|value| format_significant(value, 4)), ["1.28", "64.64", "100.5"]);
    }

    #[test]
    fn what_is_drawn_again_keeps_its_decimals() {
        let rates = [2.3e9, 2.28e9, 937.5e6, 99.996e6, 0.0, 7.4, 999.96e6].map(format_rate_steady);
        let shown = ["2.30 GB/s", "2.28 GB/s", "937.5 MB/s", "100.0 MB/s", "0 B/s", "7 B/s", "1.00 GB/s"];
        assert_eq!(rates, shown);
        let times = [13_000_000, 27_740_000, 190_000_000, 250_000, 980].map(format_duration_steady);
        assert_eq!(times, ["13.00 ms", "27.74 ms", "190.0 ms", "250.0 us", "980 ns"]);
    }

    proptest! {
        #[test]
        fn bare_numbers_are_bytes(bytes in 1u64..=u64::MAX / 2) {
            prop_assert_eq!(parse_size(&bytes.to_string()), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in ".{0,24}") {
            let _ = (parse_rate(&text), parse_record_rate(&text), parse_size(&text), parse_duration_ns(&text));
        }
    }
}
