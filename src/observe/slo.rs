//! Thresholds on the result (`--slo`).

use crate::observe::report::{SloResult, Throughput, Totals};
use crate::plan::{Comparison, OrderedQuantile, Slo, SloMetric};

/// Judges every threshold. `response_seconds` gives the response time at a quantile, `None` where it falls
/// among records without confirmation: such a threshold is missed.
pub fn evaluate(
    slo: &[Slo],
    totals: &Totals,
    throughput: &Throughput,
    response_seconds: impl Fn(OrderedQuantile) -> Option<f64>,
) -> Vec<SloResult> {
    slo.iter()
        .map(|slo| {
            let value = match slo.metric {
                SloMetric::ResponseQuantile(quantile) => response_seconds(quantile),
                // As `--rate` counts: a record of `sampled` mode stands for its weight.
                SloMetric::Rate => Some(throughput.logical_bytes_per_second),
                SloMetric::RecordsPerSecond => Some(throughput.records_per_second),
                SloMetric::Errors => Some((totals.records_failed + totals.records_uncertain) as f64),
                SloMetric::NotSent => Some(totals.records_not_sent as f64),
            };
            let passed = value.is_some_and(|value| holds(value, slo.comparison, slo.threshold));
            SloResult { expression: slo.expression.clone(), value, threshold: Some(slo.threshold), passed }
        })
        .collect()
}

fn holds(value: f64, comparison: Comparison, threshold: f64) -> bool {
    match comparison {
        Comparison::Less => value < threshold,
        Comparison::LessOrEqual => value <= threshold,
        Comparison::Equal => value == threshold,
        Comparison::GreaterOrEqual => value >= threshold,
        Comparison::Greater => value > threshold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slo(metric: SloMetric, comparison: Comparison, threshold: f64) -> Slo {
        Slo { expression: "as written".into(), metric, comparison, threshold }
    }

    fn judge(slo: Slo) -> SloResult {
        let totals = Totals { records_failed: 2, records_uncertain: 1, records_not_sent: 7, ..Totals::default() };
        let throughput =
            Throughput { bytes_per_second: 10.0, records_per_second: 5.0, logical_bytes_per_second: 1000.0 };
        let response = |OrderedQuantile(q): OrderedQuantile| (q < 999_000).then(|| f64::from(q) / 1e6);
        evaluate(&[slo], &totals, &throughput, response).remove(0)
    }

    #[test]
    fn every_metric_is_read_from_its_place() {
        let quantile = |q| SloMetric::ResponseQuantile(OrderedQuantile(q));
        for (metric, value) in [
            (quantile(990_000), Some(0.99)),
            (quantile(999_000), None),
            (SloMetric::Rate, Some(1000.0)),
            (SloMetric::RecordsPerSecond, Some(5.0)),
            (SloMetric::Errors, Some(3.0)),
            (SloMetric::NotSent, Some(7.0)),
        ] {
            let judged = judge(slo(metric, Comparison::Less, 1e9));
            assert_eq!((judged.value, judged.threshold), (value, Some(1e9)), "{metric:?}");
        }
    }

    #[test]
    fn comparisons_at_the_threshold() {
        for (comparison, at, below) in [
            (Comparison::Less, false, true),
            (Comparison::LessOrEqual, true, true),
            (Comparison::Equal, true, false),
            (Comparison::GreaterOrEqual, true, false),
            (Comparison::Greater, false, false),
        ] {
            assert_eq!(judge(slo(SloMetric::Errors, comparison, 3.0)).passed, at, "{comparison:?} at");
            assert_eq!(judge(slo(SloMetric::Errors, comparison, 4.0)).passed, below, "{comparison:?} below");
        }
    }

    #[test]
    fn a_percentile_among_unconfirmed_records_misses_whatever_was_asked() {
        let metric = SloMetric::ResponseQuantile(OrderedQuantile(999_000));
        assert!(!judge(slo(metric, Comparison::Less, f64::MAX)).passed);
        assert!(!judge(slo(metric, Comparison::GreaterOrEqual, 0.0)).passed);
    }
}
