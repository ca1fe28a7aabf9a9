//! Percentiles that do not forget the records without an answer, and histograms on their way out.

use crate::base::limits;
use crate::counters::{Counts, Field, Latencies};
use crate::observe::report::{Distribution, Latency};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

pub use crate::counters::{empty_histogram, merge};

/// Records that were due and have no confirmation.
pub fn unconfirmed(counts: &Counts) -> u64 {
    counts.get(Field::RecordsFailed) + counts.get(Field::RecordsUncertain) + counts.get(Field::RecordsNotSent)
}

/// The response time at a quantile in parts per million, with `lost` records slower than all that `histogram`
/// knows; `None` where the quantile falls among these. The histogram may hold a sample of the confirmed.
pub fn response_quantile_ns(
    histogram: &Histogram<u64>,
    confirmed: u64,
    lost: u64,
    parts_per_million: u32,
) -> Option<u64> {
    let samples = u128::from(histogram.len());
    let (confirmed, lost) = (u128::from(confirmed), u128::from(lost));
    let rank = ((confirmed + lost) * u128::from(parts_per_million)).div_ceil(1_000_000).max(1);
    if samples == 0 || rank > confirmed {
        return None;
    }
    let sample_rank = (rank * samples).div_ceil(confirmed);
    Some(histogram.value_at_quantile((sample_rank as f64 - 0.5) / samples as f64))
}

/// The report's form of a histogram, `lost` records being slower than all others.
pub fn distribution(histogram: &Histogram<u64>, confirmed: u64, lost: u64) -> Distribution {
    let at = |parts_per_million| response_quantile_ns(histogram, confirmed, lost, parts_per_million).map(seconds);
    let some = !histogram.is_empty();
    Distribution {
        p50: at(500_000),
        p90: at(900_000),
        p99: at(990_000),
        p999: at(999_000),
        p9999: at(999_900),
        max: some.then(|| seconds(histogram.max())),
        mean: some.then(|| histogram.mean() / 1e9),
        records_clamped: histogram.count_between(limits::LATENCY_NS_MAX, u64::MAX),
        histogram: encode(histogram),
    }
}

/// The report's form of both latencies of the records that `counts` is about.
pub fn latency(latencies: &Latencies, counts: &Counts) -> Latency {
    let produced = counts.get(Field::RecordsProduced);
    Latency {
        response: distribution(&latencies.response, produced, unconfirmed(counts)),
        service: distribution(&latencies.service, produced, 0),
    }
}

/// HdrHistogram V2, base64.
pub fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(histogram, &mut bytes).expect("counts are far below 2^63, and a Vec takes all");
    STANDARD.encode(bytes)
}

/// Where HdrHistogram V2 has the length of what follows its head.
const V2_LENGTH: std::ops::Range<usize> = 4..8;

/// What `encode` wrote.
pub fn decode(text: &str) -> Result<Histogram<u64>, String> {
    let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
    // The library makes room for as much as the head claims, before it looks.
    let claimed = bytes.get(V2_LENGTH).and_then(|field| field.try_into().ok()).map(u32::from_be_bytes);
    if claimed.is_none_or(|claimed| claimed as usize > bytes.len()) {
        return Err("it is shorter than it says".to_owned());
    }
    let histogram: Histogram<u64> =
        Deserializer::new().deserialize(&mut &bytes[..]).map_err(|error| error.to_string())?;
    let ours = empty_histogram();
    let range = |of: &Histogram<u64>| (of.low(), of.high(), of.sigfig());
    if range(&histogram) != range(&ours) {
        return Err(format!("it has another range than {:?}", range(&ours)));
    }
    Ok(histogram)
}

pub fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing::MS;
    use proptest::prelude::*;

    fn close(value: Option<f64>, wanted: f64) -> bool {
        value.is_some_and(|value| (value / wanted - 1.0).abs() < 0.002)
    }

    #[test]
    fn a_histogram_that_claims_more_than_it_has_is_refused() {
        let mut histogram = empty_histogram();
        histogram.record(MS).unwrap();
        let text = encode(&histogram);
        assert_eq!(decode(&text).unwrap().len(), 1);
        let mut bytes = STANDARD.decode(&text).unwrap();
        bytes[V2_LENGTH].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
        let other = Histogram::<u64>::new_with_bounds(1, 1000, 1).unwrap();
        for wrong in [STANDARD.encode(&bytes), encode(&other), String::new()] {
            assert!(decode(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lost_records_are_slower_than_all_others() {
        let mut histogram = empty_histogram();
        (1..=90).for_each(|ms| histogram.record(ms * MS).unwrap());
        let at = |ppm| response_quantile_ns(&histogram, 90, 10, ppm).map(|ns| (ns as f64 / 1e6).round() as u64);
        assert_eq!((at(500_000), at(900_000), at(900_001), at(1_000_000)), (Some(50), Some(90), None, None));
        let said = distribution(&histogram, 90, 10);
        assert!(said.p90.is_some() && said.p99.is_none() && close(said.max, 0.09), "{said:?}");
        assert_eq!(response_quantile_ns(&empty_histogram(), 0, 0, 500_000), None);
        assert_eq!(response_quantile_ns(&empty_histogram(), 0, 5, 500_000), None);
    }

    #[test]
    fn what_the_histogram_cannot_tell_apart_is_counted() {
        const HOUR: u64 = limits::LATENCY_NS_MAX;
        let mut histogram = empty_histogram();
        assert_eq!(distribution(&histogram, 0, 0).records_clamped, 0);
        histogram.saturating_record_n(HOUR / 10 * 9, 5);
        assert_eq!(distribution(&histogram, 5, 0).records_clamped, 0);
        for (ns, records) in [(HOUR, 1), (HOUR / 10 * 11, 2), (10 * HOUR, 4), (u64::MAX, 8)] {
            histogram.saturating_record_n(ns, records);
        }
        let said = distribution(&histogram, 20, 0);
        assert_eq!(said.records_clamped, 15);
        assert!(close(said.p9999, 3960.0), "{said:?}");
    }

    #[test]
    fn the_report_carries_the_whole_histogram() {
        let mut histogram = empty_histogram();
        histogram.record_n(7 * MS, 3).unwrap();
        let bytes = STANDARD.decode(distribution(&histogram, 3, 0).histogram).unwrap();
        let back: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        assert_eq!(back, histogram);
        assert_eq!(bytes[..4], [0x1c, 0x84, 0x93, 0x13], "the V2 cookie, as HdrHistogram of other languages reads it");
    }

    proptest! {
        /// Against the definition: sort all, lost ones last, take the ceil(q n)-th.
        #[test]
        fn quantiles_follow_the_definition(
            mut values in prop::collection::vec(1u64..1000, 1..60), lost in 0u64..30, ppm in 1u32..=1_000_000,
        ) {
            let mut histogram = empty_histogram();
            values.iter().for_each(|&value| histogram.record(value).unwrap());
            values.sort_unstable();
            let count = values.len() as u64 + lost;
            let rank = (u128::from(count) * u128::from(ppm)).div_ceil(1_000_000) as usize;
            let wanted = values.get(rank - 1).copied();
            prop_assert_eq!(response_quantile_ns(&histogram, values.len() as u64, lost, ppm), wanted);
        }
    }
}
