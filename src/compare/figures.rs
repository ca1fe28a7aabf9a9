//! The figures that are compared, by the key that the report has them under.

use crate::observe::report::{Phase, Report};
use crate::observe::summary;
use serde_json::{Value, json};

/// It falls among records without confirmation.
const NEVER: &str = "never";
/// Of the processor time of cores that asked without a pause: it says nothing of the bytes.
const MOSTLY_POLLING: &str = "mostly polling";

const CPU: &str = "cpu.seconds_per_gigabyte";
const RESPONSE_MAX: &str = "latency_seconds.response.max";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    BytesPerSecond,
    RecordsPerSecond,
    Records,
    Bytes,
    Seconds,
    SecondsPerGigabyte,
    Ratio,
    /// From what was asked for. It is around zero, so that one over the other says nothing.
    Deviation,
}

/// One figure of both reports.
pub struct Figure {
    /// Where the report has it.
    pub key: &'static str,
    pub label: &'static str,
    pub unit: Unit,
    /// As the report has it; `None`: it does not know it.
    pub a: Option<f64>,
    pub b: Option<f64>,
    /// Why that of A, of B, is none to hold beside another, whatever the report has.
    pub void: [Option<&'static str>; 2],
}

impl Figure {
    /// `void`: why a side's value is none to hold beside another.
    fn of<S>(
        &(key, label, unit, of): &Row<S>,
        sides: [&S; 2],
        void: impl Fn(Option<f64>, &S) -> Option<&'static str>,
    ) -> Self {
        let [a, b] = sides.map(of);
        Self { key, label, unit, a, b, void: sides.map(|side| void(of(side), side)) }
    }

    /// There is something to say of it.
    pub fn is_known(&self) -> bool {
        self.a.is_some() || self.b.is_some() || self.is_void()
    }

    fn is_void(&self) -> bool {
        self.void.iter().any(Option::is_some)
    }

    /// B over A, where that is a number and says something.
    pub fn ratio(&self) -> Option<f64> {
        let (a, b) = (self.a?, self.b?);
        let is_told = a != 0.0 && !self.is_void() && self.unit != Unit::Deviation;
        is_told.then(|| b / a)
    }

    /// The numbers of the reports, and which of them say nothing.
    pub fn json(&self) -> Value {
        let number = |value: Option<f64>| match (value, self.unit) {
            (Some(value), Unit::Records | Unit::Bytes) => json!(value as u64),
            (value, _) => json!(value),
        };
        let mut figure = json!({"a": number(self.a), "b": number(self.b), "ratio": self.ratio()});
        if self.is_void() {
            let [a, b] = self.void;
            figure["void"] = json!({"a": a, "b": b});
        }
        figure
    }
}

/// Key, label, unit, place in a report or in a stage of one.
type Row<S = Report> = (&'static str, &'static str, Unit, fn(&S) -> Option<f64>);

const SPEED: &[Row] = &[
    ("elapsed_seconds", "elapsed", Unit::Seconds, |of| Some(of.elapsed_seconds)),
    ("throughput.bytes_per_second", "rate", Unit::BytesPerSecond, |of| Some(of.throughput.bytes_per_second)),
    ("throughput.records_per_second", "records/s", Unit::RecordsPerSecond, |of| Some(of.throughput.records_per_second)),
    ("throughput.logical_bytes_per_second", "logical rate", Unit::BytesPerSecond, |of| {
        Some(of.throughput.logical_bytes_per_second)
    }),
    ("pacing.target_bytes_per_second", "target rate", Unit::BytesPerSecond, |of| of.pacing.target_bytes_per_second),
    ("pacing.achieved_ratio", "due produced", Unit::Ratio, |of| of.pacing.achieved_ratio),
    ("pacing.error", "pacing error", Unit::Deviation, pacing_error),
    ("pacing.catch_up_records", "sent late", Unit::Records, |of| Some(of.pacing.catch_up_records as f64)),
];

const BOOKS: &[Row] = &[
    ("totals.records_offered", "offered", Unit::Records, |of| Some(of.totals.records_offered as f64)),
    ("totals.records_produced", "produced", Unit::Records, |of| Some(of.totals.records_produced as f64)),
    ("totals.records_failed", "failed", Unit::Records, |of| Some(of.totals.records_failed as f64)),
    ("totals.records_uncertain", "uncertain", Unit::Records, |of| Some(of.totals.records_uncertain as f64)),
    ("totals.records_not_sent", "not sent", Unit::Records, |of| Some(of.totals.records_not_sent as f64)),
    ("totals.bytes_produced", "payload", Unit::Bytes, |of| Some(of.totals.bytes_produced as f64)),
    ("totals.wire_bytes", "on the wire", Unit::Bytes, |of| Some(of.totals.wire_bytes as f64)),
    ("totals.lent_bytes", "read in place", Unit::Bytes, |of| Some(of.totals.lent_bytes as f64)),
    ("totals.retries", "sent again", Unit::Records, |of| Some(of.totals.retries as f64)),
    ("totals.tcp_retransmits", "TCP retransmits", Unit::Records, |of| of.totals.tcp_retransmits.map(|n| n as f64)),
    ("totals.throttled_seconds", "held by quotas", Unit::Seconds, |of| of.totals.throttled_seconds),
    (CPU, "cpu", Unit::SecondsPerGigabyte, |of| of.cpu.seconds_per_gigabyte),
    // The share of the time in which other work had the processors.
    ("verdict.stolen_ratio", "held by others", Unit::Ratio, |of| of.verdict.stolen_ratio),
];

const RESPONSE: &[Row] = &[
    ("latency_seconds.response.p50", "response p50", Unit::Seconds, |of| of.latency_seconds.response.p50),
    ("latency_seconds.response.p90", "response p90", Unit::Seconds, |of| of.latency_seconds.response.p90),
    ("latency_seconds.response.p99", "response p99", Unit::Seconds, |of| of.latency_seconds.response.p99),
    ("latency_seconds.response.p999", "response p99.9", Unit::Seconds, |of| of.latency_seconds.response.p999),
    (RESPONSE_MAX, "response max", Unit::Seconds, |of| of.latency_seconds.response.max),
];

const SERVICE: &[Row] = &[
    ("latency_seconds.service.p50", "service p50", Unit::Seconds, |of| of.latency_seconds.service.p50),
    ("latency_seconds.service.p90", "service p90", Unit::Seconds, |of| of.latency_seconds.service.p90),
    ("latency_seconds.service.p99", "service p99", Unit::Seconds, |of| of.latency_seconds.service.p99),
    ("latency_seconds.service.p999", "service p99.9", Unit::Seconds, |of| of.latency_seconds.service.p999),
    ("latency_seconds.service.max", "service max", Unit::Seconds, |of| of.latency_seconds.service.max),
];

const LATENESS: &[Row] = &[
    ("pacing.lateness_seconds.p50", "lateness p50", Unit::Seconds, |of| of.pacing.lateness_seconds.p50),
    ("pacing.lateness_seconds.p99", "lateness p99", Unit::Seconds, |of| of.pacing.lateness_seconds.p99),
    ("pacing.lateness_seconds.max", "lateness max", Unit::Seconds, |of| of.pacing.lateness_seconds.max),
];

/// How far what was produced was from what was asked for, as a share of it; a record of `sampled` mode counts its
/// weight. A drain and a final fsync are no part of the pacing; several processes have no one time of theirs. A cycle
/// of a burst falls due as a whole, so that the time of one that was cut short says nothing of what was asked for.
fn pacing_error(report: &Report) -> Option<f64> {
    let paced_seconds = report.pacing.paced_seconds.filter(|_| !report.is_merged())?;
    let asked = paced_seconds * report.pacing.target_bytes_per_second?;
    let is_cut = report.pacing.planned_seconds.is_none_or(|planned| paced_seconds < planned);
    if asked <= 0.0 || is_cut && last_mode(report) == Some("burst") {
        return None;
    }
    let produced = report.totals.logical_bytes_produced as f64;
    // Each producer's first record is due at once: so many may be ahead of the time, wherever that ended.
    let ahead = if is_cut { report.producers.len() as f64 * mean_record_bytes(report) } else { 0.0 };
    Some(produced / produced.clamp(asked, asked + ahead) - 1.0)
}

/// That of the stage in which the pacing ended.
fn last_mode(report: &Report) -> Option<&str> {
    let stage = report.phases.last().map(|stage| stage.mode.as_str());
    stage.or_else(|| report.config.get("mode")?.as_str())
}

/// With its weight.
fn mean_record_bytes(report: &Report) -> f64 {
    report.totals.logical_bytes_produced as f64 / report.totals.records_produced.max(1) as f64
}

/// What a figure is of, as far as that tells whether it can be void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// A percentile, or the largest; one that falls among records without confirmation has no value.
    Latency,
    Cpu,
    Other,
}

/// Why the figure of a report is none to hold beside another: as the summary shows it, which has no number there.
pub fn void(metric: Metric, value: Option<f64>, report: &Report) -> Option<&'static str> {
    match metric {
        Metric::Latency => never(value, report.totals.records_offered),
        Metric::Cpu => summary::mostly_polls(report).then_some(MOSTLY_POLLING),
        Metric::Other => None,
    }
}

fn never(value: Option<f64>, records_offered: u64) -> Option<&'static str> {
    (value.is_none() && records_offered > 0).then_some(NEVER)
}

fn void_of_row(key: &str, value: Option<f64>, report: &Report) -> Option<&'static str> {
    match key {
        CPU => void(Metric::Cpu, value, report),
        // The report has that of the confirmed ones.
        RESPONSE_MAX => void(Metric::Latency, report.response_to_show().max, report),
        _ if key.starts_with("latency_seconds.") => void(Metric::Latency, value, report),
        _ => void(Metric::Other, value, report),
    }
}

/// All rows in the order they are shown.
pub fn all(a: &Report, b: &Report) -> Vec<Figure> {
    let figure = |row: &Row| Figure::of(row, [a, b], |value, report| void_of_row(row.0, value, report));
    [SPEED, BOOKS, RESPONSE, SERVICE, LATENESS].into_iter().flatten().map(figure).collect()
}

/// The figures of one stage of both reports.
pub struct Stage {
    pub number: u64,
    pub mode: String,
    pub figures: Vec<Figure>,
}

const OF_STAGE: &[Row<Phase>] = &[
    ("logical_bytes_per_second", "rate", Unit::BytesPerSecond, |of| Some(of.logical_bytes_per_second)),
    ("latency_seconds.response.p50", "response p50", Unit::Seconds, |of| of.latency_seconds.response.p50),
    ("latency_seconds.response.p99", "response p99", Unit::Seconds, |of| of.latency_seconds.response.p99),
];

/// Stage by stage; each of them has its like in the other report, or they are not comparable.
pub fn of_stages(a: &[Phase], b: &[Phase]) -> Vec<Stage> {
    let stage = |(a, b): (&Phase, &Phase)| {
        // Every value that may be missing is a latency.
        let void = |value, phase: &Phase| never(value, phase.records_offered);
        let figure = |row: &Row<Phase>| Figure::of(row, [a, b], void);
        Stage { number: a.number, mode: a.mode.clone(), figures: OF_STAGE.iter().map(figure).collect() }
    };
    a.iter().zip(b).map(stage).collect()
}
