//! The one table of metrics: name, type, help, source. Docs and dashboards are checked against it.

use crate::counters::Field;

/// What a metric is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A counter of each producer.
    Counter(Field),
    /// The counters of [`ERROR_KINDS`], label `kind`.
    Errors,
    /// What became of the events that governance is told of, label `outcome`.
    Governance,
    /// A gauge of each target: the sum over its producers.
    Gauge(Field),
    TargetRate,
    Response,
    Service,
    Lateness,
    BuildInfo,
}

/// A metric as a scraper sees it.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub help: &'static str,
    pub source: Source,
}

impl Metric {
    /// `counter`, `gauge` or `histogram`, as text format 0.0.4 names it.
    pub fn kind(&self) -> &'static str {
        match self.source {
            Source::Counter(_) | Source::Errors | Source::Governance => "counter",
            Source::Gauge(_) | Source::TargetRate | Source::BuildInfo => "gauge",
            Source::Response | Source::Service | Source::Lateness => "histogram",
        }
    }

    /// The name without the suffix that OpenMetrics adds to the samples of this type.
    pub fn family(&self) -> &'static str {
        let suffix = match self.source {
            Source::Counter(_) | Source::Errors | Source::Governance => "_total",
            Source::BuildInfo => "_info",
            _ => "",
        };
        self.name.strip_suffix(suffix).expect("the table ends such names with the suffix")
    }
}

const fn counter(name: &'static str, field: Field, help: &'static str) -> Metric {
    Metric { name, help, source: Source::Counter(field) }
}

const fn metric(name: &'static str, source: Source, help: &'static str) -> Metric {
    Metric { name, help, source }
}

/// Every metric there is.
pub const METRICS: &[Metric] = &[
    counter(
        "generator_records_offered_total",
        Field::RecordsOffered,
        "Records due under the rate, without a rate: submitted.",
    ),
    counter("generator_records_produced_total", Field::RecordsProduced, "Records confirmed by the target."),
    counter("generator_records_uncertain_total", Field::RecordsUncertain, "Records sent whose outcome is unknown."),
    counter("generator_records_not_sent_total", Field::RecordsNotSent, "Records due but never submitted."),
    counter("generator_bytes_produced_total", Field::BytesProduced, "Payload bytes of produced records."),
    counter(
        "generator_logical_bytes_produced_total",
        Field::LogicalBytesProduced,
        "Payload bytes of produced records times their weight.",
    ),
    counter(
        "generator_wire_bytes_total",
        Field::WireBytes,
        "Bytes handed to the target, framing and padding included.",
    ),
    counter("generator_retries_total", Field::Retries, "Blocks sent again."),
    metric("generator_produce_errors_total", Source::Errors, "Records that failed or are uncertain, by kind."),
    metric(
        "generator_governance_events_total",
        Source::Governance,
        "Events for the governance API, by what became of them.",
    ),
    metric(
        "generator_in_flight_bytes",
        Source::Gauge(Field::InFlightBytes),
        "Payload bytes submitted and not yet answered.",
    ),
    metric(
        "generator_target_rate_bytes_per_second",
        Source::TargetRate,
        "The rate asked for at this moment in logical bytes per second; 0 for unlimited, and while nothing is asked for: \
         before the start and from the drain on.",
    ),
    metric(
        "generator_produce_latency_seconds",
        Source::Response,
        "Response time of confirmed records, from the moment each was due.",
    ),
    metric(
        "generator_service_latency_seconds",
        Source::Service,
        "Service time of confirmed records, from the first attempt, pauses between attempts included.",
    ),
    metric(
        "generator_pacing_lateness_seconds",
        Source::Lateness,
        "How late records were submitted after they were due.",
    ),
    metric("generator_build_info", Source::BuildInfo, "The version of the generator."),
];

/// Upper bounds in nanoseconds: 1-2-5 from 50 µs to 50 s.
pub const BUCKETS_NS: [u64; 19] = [
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    20_000_000_000,
    50_000_000_000,
];
