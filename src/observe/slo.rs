//! Thresholds on the result (`--slo`).

use crate::base::units::{format_counted, format_duration, format_rate_short, format_records_per_second};
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
                SloMetric::Errors => Some(totals.records_failed.saturating_add(totals.records_uncertain) as f64),
                SloMetric::NotSent => Some(totals.records_not_sent as f64),
            };
            let passed = value.is_some_and(|value| holds(value, slo.comparison, slo.threshold));
            SloResult { expression: slo.expression.clone(), value, threshold: Some(slo.threshold), passed }
        })
        .collect()
}

/// Whether a value is where it should be.
pub fn holds(value: f64, comparison: Comparison, threshold: f64) -> bool {
    match comparison {
        Comparison::Less => value < threshold,
        Comparison::LessOrEqual => value <= threshold,
        Comparison::Equal => value == threshold,
        Comparison::GreaterOrEqual => value >= threshold,
        Comparison::Greater => value > threshold,
    }
}

/// Those that were missed, each with what came of it; `None`: all were met.
pub fn missed(all: &[SloResult]) -> Option<String> {
    let missed: Vec<_> = all.iter().filter(|slo| !slo.passed).map(shown).collect();
    (!missed.is_empty()).then(|| missed.join(", "))
}

/// `p99<1ms (2.5 ms)`.
pub fn shown(slo: &SloResult) -> String {
    let value = match slo.value {
        Some(value) => figure(slo, value),
        None if is_response(slo) => "never".to_owned(),
        None => "unknown".to_owned(),
    };
    format!("{} ({value})", slo.expression)
}

/// A value or threshold in the unit of what the expression is about.
pub fn figure(slo: &SloResult, value: f64) -> String {
    match slo.expression.trim_start() {
        name if name.starts_with("records_per_second") => format_records_per_second(value),
        _ if is_rate(slo) => format_rate_short(value),
        _ if is_response(slo) => format_duration((value * 1e9).round() as u64),
        _ => format_counted(value as u64, "record"),
    }
}

/// On a percentile of the response time, or its maximum.
pub fn is_response(slo: &SloResult) -> bool {
    slo.expression.trim_start().starts_with(['p', 'm'])
}

/// On the rate, which is the logical one.
pub fn is_rate(slo: &SloResult) -> bool {
    slo.expression.trim_start().starts_with("rate")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_a_threshold_has_its_unit() {
        for (expression, value, said) in [
            ("p99<1ms", Some(0.0025), "p99<1ms (2.5 ms)"),
            (" max<30s", None, " max<30s (never)"),
            ("rate>=1GB/s", Some(9.5e8), "rate>=1GB/s (950 MB/s)"),
            ("records_per_second>5", Some(1234.4), "records_per_second>5 (1,234 records/s)"),
            ("records_per_second>5", Some(1.0), "records_per_second>5 (1 record/s)"),
            ("errors==0", Some(1.0), "errors==0 (1 record)"),
            ("rate>=1GB/s", None, "rate>=1GB/s (unknown)"),
        ] {
            let slo = SloResult { expression: expression.into(), value, threshold: None, passed: false };
            assert_eq!(shown(&slo), said);
            assert_eq!(missed(&[slo.clone(), SloResult { passed: true, ..slo }]).as_deref(), Some(said));
        }
        assert_eq!(missed(&[]), None);
    }

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
