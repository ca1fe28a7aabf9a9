//! Rates in records a second, which are kept in bytes.

use crate::base::fatal::{self, Fatal};
use crate::base::limits;
use crate::base::units::{RecordRate, format_significant};
use crate::config::resolve::payload::Sizes;
use crate::config::values::{Rate, Wanted};

/// Whole bytes a second may be off from a rate in records by so much of it.
const ROUNDING_MAX: f64 = 0.005;
/// From so many bytes a second on they are off by less.
const ALWAYS_NEAR: u64 = 110;

/// Bytes a second: of records the mean length counts.
///
/// # Errors
/// Exit 2 for records whose mean length is not known, and for a rate that comes to too many bytes, or to so few that
/// whole ones are another rate.
pub fn bytes_per_second(flag: &str, rate: Rate, sizes: &Sizes) -> Result<u64, Fatal> {
    let records = match rate {
        Rate::Bytes(bytes) => return Ok(bytes),
        Rate::Records(records) => records,
    };
    let (each, most) = (sizes.mean_bytes, limits::RATE_MAX);
    let Some((bytes, count)) = sizes.mean() else {
        let about = records.bytes_per_second(each, 1).clamp(1, most);
        let size = size_near_whole(records, each).unwrap_or(each);
        let what = format!(
            "--{flag} {records}: a rate in records needs their mean length; of {} B to {} B a few are drawn, and sent \
             over and over",
            sizes.min_bytes, sizes.max_bytes
        );
        return Err(Fatal::usage(what).mend(format!("--payload-size={size}, or a rate in bytes: --{flag}={about}")));
    };
    match records.bytes_per_second(bytes, count) {
        all if all > most => {
            let fitting = u128::from(most) * u128::from(count) / u128::from(bytes.max(1));
            let what = format!("--{flag} {records}: with {each} B for each that is more than {most} B/s");
            Err(Fatal::usage(what).mend(format!("--{flag}={fitting}rec/s")))
        }
        all if is_near(records, bytes, count) => Ok(all),
        all => {
            let exact = format_significant(records.exact_bytes_per_second(bytes, count), 4);
            let what = format!(
                "--{flag} {records}: with {each} B for each that is {exact} B/s, and a rate is kept in whole bytes a \
                 second"
            );
            // Templates have their own sizes.
            let size = size_near_whole(records, each).filter(|_| sizes.count == 0);
            let size = size.map(|size| format!("--payload-size={size}, or ")).unwrap_or_default();
            Err(Fatal::usage(what).mend(format!("{size}a rate in bytes: --{flag}={}", all.max(1))))
        }
    }
}

/// The rate is kept as it was said, or nearly.
fn is_near(records: RecordRate, bytes: u64, count: u64) -> bool {
    let exact = records.exact_bytes_per_second(bytes, count);
    (records.bytes_per_second(bytes, count) as f64 - exact).abs() < exact * ROUNDING_MAX
}

/// The least length found, from `each` on, with which the rate is near a whole number of bytes a second.
fn size_near_whole(records: RecordRate, each: u64) -> Option<u64> {
    if is_near(records, each, 1) {
        return Some(each);
    }
    let per_second = records.exact_bytes_per_second(1, 1);
    let least = (each as f64 * per_second).ceil() as u64;
    let mut sizes = (least..=ALWAYS_NEAR).map(|whole| (whole as f64 / per_second).round() as u64);
    sizes.find(|size| (each..=limits::RECORD_BYTES_MAX).contains(size) && is_near(records, *size, 1))
}

/// The same, with what is wrong among `errors`.
pub fn in_bytes(flag: &str, rate: Option<Rate>, sizes: &Sizes, errors: &mut Vec<Fatal>) -> Option<u64> {
    match bytes_per_second(flag, rate?, sizes) {
        Ok(bytes) => Some(bytes),
        Err(fatal) => {
            // Stages may have the same one.
            fatal::add_once(errors, fatal);
            None
        }
    }
}

/// What rates in records are kept as.
pub fn record_notes(wanted: &Wanted, sizes: &Sizes) -> Vec<String> {
    let mean = if sizes.fixed().is_none() { ", which is their mean length" } else { "" };
    let mut notes = Vec::new();
    let of_stages = wanted.stages.iter().flat_map(|stage| [stage.rate, stage.ramp_to]);
    for rate in of_stages.flatten().chain(wanted.producer_rate) {
        let Rate::Records(records) = rate else { continue };
        let note = format!("a rate of {records} is kept in bytes: {} B for each{mean}", sizes.mean_bytes);
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units;
    use crate::config::load::Settings;
    use crate::config::values::{self, Stage};

    fn staged(text: &str, count: usize) -> Wanted {
        let mut wanted = values::read(&Settings::default(), &mut Vec::new());
        wanted.stages = vec![Stage { rate: values::rate(text).unwrap(), ..wanted.stages[0].clone() }; count];
        wanted
    }

    fn all_in_bytes(wanted: &Wanted, sizes: &Sizes) -> (Vec<Option<u64>>, Vec<Fatal>) {
        let mut errors = Vec::new();
        let rates = wanted.stages.iter().map(|stage| in_bytes("rate", stage.rate, sizes, &mut errors)).collect();
        (rates, errors)
    }

    #[test]
    fn records_count_with_their_length() {
        let fixed = Sizes::fixed_at(4096);
        // Of templates the mean is known exactly, where it is no whole number too.
        let cycle = Sizes { min_bytes: 100, max_bytes: 201, mean_bytes: 150, cycle_bytes: 301, count: 2 };
        for (text, sizes, bytes, note) in [
            ("1000rec/s", &fixed, 4_096_000, Some("a rate of 1000rec/s is kept in bytes: 4096 B for each")),
            ("0.5rec/s", &fixed, 2048, Some("a rate of 0.5rec/s is kept in bytes: 4096 B for each")),
            ("1krec/s", &cycle, 150_500, Some("150 B for each, which is their mean length")),
            ("1kB/s", &cycle, 1000, None),
        ] {
            let wanted = staged(text, 2);
            assert_eq!(all_in_bytes(&wanted, sizes), (vec![Some(bytes); 2], Vec::new()), "{text}");
            let notes = record_notes(&wanted, sizes);
            assert_eq!(notes.len(), usize::from(note.is_some()), "once for both stages: {notes:?}");
            assert!(notes.iter().all(|said| said.ends_with(note.unwrap_or_default())), "{text}: {notes:?}");
        }
    }

    #[test]
    fn rates_in_records_that_cannot_be_kept_are_refused() {
        let ranged = Sizes { min_bytes: 100, max_bytes: 300, mean_bytes: 200, cycle_bytes: 0, count: 0 };
        let fixed = Sizes::fixed_at(200);
        let template = Sizes { cycle_bytes: 64, count: 1, ..Sizes::fixed_at(64) };
        for (text, sizes, what, mend) in [
            ("0.001rec/s", &fixed, "--rate 0.001rec/s: with 200 B for each that is 0.2 B/s", "--payload-size=1000, or"),
            ("0.0065rec/s", &fixed, "that is 1.3 B/s", "--payload-size=308, or a rate in bytes: --rate=1"),
            ("0.000277778rec/s", &fixed, "that is 0.05556 B/s", "--payload-size=3600, or a rate in bytes: --rate=1"),
            ("0.000000001rec/s", &fixed, "whole bytes a second", "a rate in bytes: --rate=1"),
            ("0.02rec/s", &template, "with 64 B for each that is 1.28 B/s", "a rate in bytes: --rate=1"),
            ("5krec/s", &ranged, "--rate 5000rec/s: a rate in records needs", "--payload-size=200, or"),
            ("5krec/s", &ranged, "100 B to 300 B", "--payload-size=200, or a rate in bytes: --rate=1000000"),
            ("9999999999999999999rec/s", &fixed, "more than", "--rate=5000000000000rec/s"),
        ] {
            let (rates, errors) = all_in_bytes(&staged(text, 2), sizes);
            assert_eq!((rates, errors.len()), (vec![None; 2], 1), "once for both stages: {errors:?}");
            assert!(errors[0].what.contains(what), "{errors:?}");
            assert!(errors[0].mend.as_ref().unwrap().starts_with(mend), "{errors:?}");
        }
    }

    #[test]
    fn a_mended_rate_in_records_is_kept() {
        for (text, each) in [("0.02rec/s", 64), ("0.99rec/s", 64), ("1.01rec/s", 64), ("0.37rec/s", 64)] {
            let records = units::parse_record_rate(text).unwrap().unwrap();
            assert!(!is_near(records, each, 1), "{text}");
            let size = size_near_whole(records, each).unwrap();
            let kept = bytes_per_second("rate", Rate::Records(records), &Sizes::fixed_at(size)).unwrap();
            let exact = records.exact_bytes_per_second(size, 1);
            assert!(size > each && (kept as f64 / exact - 1.0).abs() < ROUNDING_MAX, "{text}: {size} B, {kept} B/s");
        }
    }
}
