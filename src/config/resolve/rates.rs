//! Rates in records a second, which are kept in bytes.

use crate::base::fatal::{self, Fatal};
use crate::base::limits;
use crate::config::resolve::payload::Sizes;
use crate::config::values::{Rate, Wanted};

/// Bytes a second: of records the mean length counts.
///
/// # Errors
/// Exit 2 for records whose mean length is not known, and for a rate that comes to less than a byte or to too many.
pub fn bytes_per_second(flag: &str, rate: Rate, sizes: &Sizes) -> Result<u64, Fatal> {
    let records = match rate {
        Rate::Bytes(bytes) => return Ok(bytes),
        Rate::Records(records) => records,
    };
    let (each, most) = (sizes.mean_bytes, limits::RATE_MAX);
    let Some((bytes, count)) = sizes.mean() else {
        let about = records.bytes_per_second(each, 1).clamp(1, most);
        let what = format!(
            "--{flag} {records}: a rate in records needs their mean length; of {} B to {} B a few are drawn, and sent \
             over and over",
            sizes.min_bytes, sizes.max_bytes
        );
        return Err(Fatal::usage(what).mend(format!("--payload-size={each}, or a rate in bytes: --{flag}={about}")));
    };
    match records.bytes_per_second(bytes, count) {
        0 => {
            let what = format!("--{flag} {records}: with {each} B for each that is less than a byte a second");
            Err(Fatal::usage(what).mend(format!("--{flag}=1rec/s")))
        }
        all if all > most => {
            let fitting = u128::from(most) * u128::from(count) / u128::from(bytes.max(1));
            let what = format!("--{flag} {records}: with {each} B for each that is more than {most} B/s");
            Err(Fatal::usage(what).mend(format!("--{flag}={fitting}rec/s")))
        }
        all => Ok(all),
    }
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
    fn rates_in_records_that_come_to_nothing_are_refused() {
        let ranged = Sizes { min_bytes: 100, max_bytes: 300, mean_bytes: 200, cycle_bytes: 0, count: 0 };
        let fixed = Sizes::fixed_at(200);
        for (text, sizes, what, mend) in [
            ("0.001rec/s", &fixed, "--rate 0.001rec/s: with 200 B", "--rate=1rec/s"),
            ("5krec/s", &ranged, "--rate 5000rec/s: a rate in records needs", "--payload-size=200, or"),
            ("5krec/s", &ranged, "100 B to 300 B", "--rate=1000000"),
            ("9999999999999999999rec/s", &fixed, "more than", "--rate=5000000000000rec/s"),
        ] {
            let (rates, errors) = all_in_bytes(&staged(text, 2), sizes);
            assert_eq!((rates, errors.len()), (vec![None; 2], 1), "once for both stages: {errors:?}");
            assert!(errors[0].what.contains(what), "{errors:?}");
            assert!(errors[0].mend.as_ref().unwrap().contains(mend), "{errors:?}");
        }
    }
}
