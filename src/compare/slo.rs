//! Thresholds on the ratio of the second report to the first. What has no ratio is missed.

use crate::compare::figures::{Metric, void};
use crate::observe::quantile::{decode, response_quantile_ns, seconds};
use crate::observe::report::{Distribution, Report};
use crate::observe::slo;
use crate::plan::{OrderedQuantile, RatioMetric, RatioSlo};
use serde::Serialize;

const NOT_KNOWN: &str = "not known";

/// What came of a threshold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    pub expression: String,
    pub threshold: f64,
    /// B over A.
    pub ratio: Option<f64>,
    pub passed: bool,
    /// There is no ratio, and this is the reason.
    pub why: Option<String>,
}

pub fn judge(all: &[RatioSlo], a: &Report, b: &Report, not_comparable: &[String]) -> Vec<Outcome> {
    let judged = |slo: &RatioSlo| {
        let ratio = match not_comparable.first() {
            Some(why) => Err(format!("not comparable: {why}")),
            None => ratio(slo.metric, a, b),
        };
        let passed = ratio.as_ref().is_ok_and(|ratio| slo::holds(*ratio, slo.comparison, slo.threshold));
        let (expression, threshold) = (slo.expression.clone(), slo.threshold);
        Outcome { expression, threshold, ratio: ratio.as_ref().ok().copied(), passed, why: ratio.err() }
    };
    all.iter().map(judged).collect()
}

fn ratio(metric: RatioMetric, a: &Report, b: &Report) -> Result<f64, String> {
    let of = |side: &str, report: &Report| figure(metric, report).map_err(|what| format!("{what} in {side}"));
    let (a, b) = (of("A", a)?, of("B", b)?);
    Ok(b / a)
}

/// A number above 0, or what there is instead.
fn figure(metric: RatioMetric, report: &Report) -> Result<f64, &'static str> {
    let (latency, produced) = (&report.latency_seconds, report.totals.records_produced);
    let (metric, value) = match metric {
        RatioMetric::ResponseQuantile(at) => {
            (Metric::Latency, percentile(&latency.response, at, produced, report.records_unconfirmed())?)
        }
        RatioMetric::ServiceQuantile(at) => (Metric::Latency, percentile(&latency.service, at, produced, 0)?),
        RatioMetric::Rate => (Metric::Other, Some(report.throughput.logical_bytes_per_second)),
        RatioMetric::RecordsPerSecond => (Metric::Other, Some(report.throughput.records_per_second)),
        RatioMetric::Cpu => (Metric::Cpu, report.cpu.seconds_per_gigabyte),
    };
    match (void(metric, value, report), value) {
        (Some(why), _) => Err(why),
        (None, None) => Err(NOT_KNOWN),
        (None, Some(value)) if value > 0.0 => Ok(value),
        (None, Some(_)) => Err("0"),
    }
}

/// From the histogram, as a run holds its own thresholds: the report names a few percentiles only. `None`: it falls
/// among `lost` ones, or there are none at all.
fn percentile(of: &Distribution, at: OrderedQuantile, produced: u64, lost: u64) -> Result<Option<f64>, &'static str> {
    let histogram = decode(&of.histogram).map_err(|_| NOT_KNOWN)?;
    let OrderedQuantile(parts_per_million) = at;
    Ok(response_quantile_ns(&histogram, produced, lost, parts_per_million).map(seconds))
}
