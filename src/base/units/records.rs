//! Rates in records a second.

use super::{multiplier, parse_decimal};
use std::fmt;

/// Records a second, exactly as they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRate {
    /// Times ten to the power of `decimals`.
    scaled: u128,
    decimals: u32,
}

impl RecordRate {
    pub fn is_zero(self) -> bool {
        self.scaled == 0
    }

    /// Bytes a second where `records` of them have `bytes` together, rounded once; `u64::MAX` where they are more.
    pub fn bytes_per_second(self, bytes: u64, records: u64) -> u64 {
        let divisor = 10u128.pow(self.decimals) * u128::from(records.max(1));
        let scaled = self.scaled.saturating_mul(u128::from(bytes));
        u64::try_from(scaled.saturating_add(divisor / 2) / divisor).unwrap_or(u64::MAX)
    }

    /// The same, not rounded.
    pub fn exact_bytes_per_second(self, bytes: u64, records: u64) -> f64 {
        self.scaled as f64 * bytes as f64 / (10u128.pow(self.decimals) as f64 * records.max(1) as f64)
    }
}

/// `50000rec/s`, `0.5rec/s`.
impl fmt::Display for RecordRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, width) = (10u128.pow(self.decimals), self.decimals as usize);
        write!(f, "{}", self.scaled / unit)?;
        let fraction = format!("{:0width$}", self.scaled % unit);
        match fraction.trim_end_matches('0') {
            "" => f.write_str("rec/s"),
            digits => write!(f, ".{digits}rec/s"),
        }
    }
}

/// Records a second: `50000rec/s`, `1.5M records/s`, `0.5rec/s`. `None`: the text is no rate in records.
pub fn parse_record_rate(text: &str) -> Option<Result<RecordRate, String>> {
    let body = text.trim().strip_suffix("/s")?;
    let count = body.strip_suffix("records").or_else(|| body.strip_suffix("rec"))?;
    Some(parse_records(count.trim_end()).map_err(|why| format!("{why}; a rate in records looks like 50000rec/s")))
}

fn parse_records(text: &str) -> Result<RecordRate, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, prefix) = (&text[..split], text[split..].trim_start());
    let (mantissa, decimals) = parse_decimal(text, number)?;
    let multiplier = multiplier(prefix).ok_or_else(|| format!("'{text}' has an unknown unit '{prefix}'"))?;
    let most = u128::from(u64::MAX) * 10u128.pow(decimals);
    let scaled = mantissa.checked_mul(multiplier).filter(|scaled| *scaled <= most);
    scaled.map(|scaled| RecordRate { scaled, decimals }).ok_or_else(|| format!("'{text}' is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_in_records_are_exact() {
        for (text, bytes, shown) in [
            ("50000rec/s", 50_000_000, "50000rec/s"),
            ("50krecords/s", 50_000_000, "50000rec/s"),
            (" 1.5M records/s", 1_500_000_000, "1500000rec/s"),
            ("1 rec/s", 1000, "1rec/s"),
            ("0.5rec/s", 500, "0.5rec/s"),
            ("0.0012345rec/s", 1, "0.0012345rec/s"),
            ("10.050rec/s", 10_050, "10.05rec/s"),
            ("0.0001rec/s", 0, "0.0001rec/s"),
        ] {
            let rate = parse_record_rate(text).unwrap().unwrap();
            assert_eq!((rate.bytes_per_second(1000, 1), rate.to_string().as_str()), (bytes, shown), "{text}");
            assert!(!rate.is_zero());
        }
        let rate = |text: &str| parse_record_rate(text).unwrap().unwrap();
        assert!(rate("0.00rec/s").is_zero());
        assert_eq!(rate("3rec/s").bytes_per_second(101, 2), 152, "rounded once, not for each record");
        assert_eq!(rate("3rec/s").exact_bytes_per_second(101, 2), 151.5);
        assert_eq!(rate("18446744073709551615rec/s").bytes_per_second(u64::MAX, 1), u64::MAX);
        assert_eq!(rate("0.0000000000000001Trec/s").to_string(), "0.0001rec/s");
        for text in ["rec/s", "-1rec/s", "5kBrec/s", "1.2.3rec/s", ".5rec/s", "99999999999999999999Trec/s"] {
            let why = parse_record_rate(text).unwrap().unwrap_err();
            assert!(why.contains("50000rec/s"), "{text}: {why}");
        }
        for text in ["50000", "7.5GB/s", "50000rec", "50000records", "records"] {
            assert_eq!(parse_record_rate(text), None, "{text}");
        }
    }
}
