//! Numbers and times as text of a fixed width, without allocation.

use crate::base::digits::{U64_DIGITS, decimal, two_digits};
use crate::manifest::Fact;

/// The widest text that changes with each record: a quoted RFC 3339 timestamp.
pub const TEXT_BYTES_MAX: usize = 32;

/// Bytes that a value may need, quotes aside.
pub const U32_DIGITS: usize = 10;
pub const TIMESTAMP_BYTES: usize = 30;
pub const FITS_DATE_BYTES: usize = 23;
pub const FITS_CHECKSUM_BYTES: usize = 16;

/// How a value sits in a slot that is wider than it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `"value"` and then spaces: JSON white space after a JSON string.
    Quoted,
    /// Spaces first: JSON numbers, FITS integers.
    Right,
    /// Spaces last: within a longer string, and in plain text.
    Left,
}

/// What a record is stamped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamps {
    pub weight: u64,
    pub sequence: u64,
    /// Nanoseconds since the Unix epoch at which the record was due.
    pub timestamp_unix_ns: u64,
    /// The same of the moment at which it was first handed over.
    pub submit_unix_ns: u64,
}

/// Fills `slot` with `value`, which fits (with its quotes, where the style has them).
#[inline]
pub fn place(style: Style, value: &[u8], slot: &mut [u8]) {
    slot.fill(b' ');
    match style {
        Style::Left => slot[..value.len()].copy_from_slice(value),
        Style::Right => {
            let start = slot.len() - value.len();
            slot[start..].copy_from_slice(value);
        }
        Style::Quoted => {
            slot[0] = b'"';
            slot[1..=value.len()].copy_from_slice(value);
            slot[value.len() + 1] = b'"';
        }
    }
}

/// Fills `slot` with a fact that changes from record to record; the others leave it as it is.
#[inline]
pub fn stamp(fact: Fact, style: Style, stamps: &Stamps, slot: &mut [u8]) {
    match fact {
        Fact::Sequence => place_decimal(style, stamps.sequence, slot),
        Fact::Weight => place_decimal(style, stamps.weight, slot),
        Fact::TimestampNs => place_decimal(style, stamps.timestamp_unix_ns, slot),
        Fact::Timestamp => place(style, &rfc3339_ns(stamps.timestamp_unix_ns), slot),
        Fact::FitsDate => place(style, &fits_date(stamps.submit_unix_ns), slot),
        Fact::RunId | Fact::ProducerId | Fact::Crc32c | Fact::FitsChecksum => {}
    }
}

#[inline]
pub fn place_decimal(style: Style, value: u64, slot: &mut [u8]) {
    let mut digits = [0; U64_DIGITS];
    let start = decimal(value, &mut digits);
    place(style, &digits[start..], slot);
}

/// `2026-11-23T14:16:57.123456789Z`.
#[inline]
pub fn rfc3339_ns(unix_ns: u64) -> [u8; TIMESTAMP_BYTES] {
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    date_and_time(unix_ns, &mut text);
    let mut fraction = (unix_ns % 1_000_000_000) as u32;
    text[28] = b'0' + (fraction % 10) as u8;
    fraction /= 10;
    for at in [26, 24, 22, 20] {
        two_digits(fraction % 100, &mut text[at..at + 2]);
        fraction /= 100;
    }
    text
}

/// `2026-11-23T14:16:57.123`, cut to the millisecond.
#[inline]
pub fn fits_date(unix_ns: u64) -> [u8; FITS_DATE_BYTES] {
    let mut text = *b"0000-00-00T00:00:00.000";
    date_and_time(unix_ns, &mut text);
    let milliseconds = (unix_ns % 1_000_000_000 / 1_000_000) as u32;
    text[20] = b'0' + (milliseconds / 100) as u8;
    two_digits(milliseconds % 100, &mut text[21..23]);
    text
}

/// The first 19 bytes, `YYYY-MM-DDThh:mm:ss`, without its punctuation.
///
/// Source of the calendar: Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
#[inline]
fn date_and_time(unix_ns: u64, text: &mut [u8]) {
    let seconds = unix_ns / 1_000_000_000;
    let second_of_day = (seconds % 86_400) as u32;
    // Days since 0000-03-01; u64 nanoseconds end in the year 2554.
    let days = (seconds / 86_400) as u32 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u32::from(month <= 2);
    two_digits(year / 100, &mut text[0..2]);
    two_digits(year % 100, &mut text[2..4]);
    two_digits(month, &mut text[5..7]);
    two_digits(day, &mut text[8..10]);
    two_digits(second_of_day / 3600, &mut text[11..13]);
    two_digits(second_of_day / 60 % 60, &mut text[14..16]);
    two_digits(second_of_day % 60, &mut text[17..19]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;

    fn by_jiff(unix_ns: u64, digits: usize) -> String {
        let timestamp = Timestamp::from_nanosecond(i128::from(unix_ns)).unwrap();
        format!("{timestamp:.digits$}")
    }

    fn check_times(unix_ns: u64) {
        assert_eq!(std::str::from_utf8(&rfc3339_ns(unix_ns)).unwrap(), by_jiff(unix_ns, 9));
        let milliseconds = unix_ns / 1_000_000 * 1_000_000;
        let expected = by_jiff(milliseconds, 3);
        assert_eq!(std::str::from_utf8(&fits_date(unix_ns)).unwrap(), expected.trim_end_matches('Z'));
    }

    #[test]
    fn every_day_to_the_end_of_u64_has_its_date() {
        for day in 0..=u64::MAX / 86_400_000_000_000 {
            check_times(day * 86_400_000_000_000);
        }
        check_times(u64::MAX);
        check_times(86_400_000_000_000 - 1);
    }

    #[test]
    fn decimals_at_every_length() {
        let mut digits = [0; U64_DIGITS];
        let powers = (0..20).map(|exponent| 10u64.pow(exponent));
        for value in powers.flat_map(|power| [power - 1, power, power + 1]).chain([0, u64::MAX]) {
            let start = decimal(value, &mut digits);
            assert_eq!(std::str::from_utf8(&digits[start..]).unwrap(), value.to_string());
        }
    }

    #[test]
    fn values_sit_as_their_style_says() {
        for (style, expected) in [(Style::Quoted, "\"42\"    "), (Style::Right, "      42"), (Style::Left, "42      ")]
        {
            let mut slot = [0; 8];
            place_decimal(style, 42, &mut slot);
            assert_eq!(std::str::from_utf8(&slot).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn decimals_agree_with_the_standard_library(value: u64, bits in 0u32..64) {
            let mut digits = [0; U64_DIGITS];
            let start = decimal(value >> bits, &mut digits);
            prop_assert_eq!(std::str::from_utf8(&digits[start..]).unwrap(), (value >> bits).to_string());
        }

        #[test]
        fn times_agree_with_jiff(unix_ns: u64) {
            check_times(unix_ns);
        }
    }
}
