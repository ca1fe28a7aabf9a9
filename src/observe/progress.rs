//! What a run says while it runs: the live line, or a log line for each producer and interval.

use crate::base::units::{format_counted, format_duration, format_rate_short};
use crate::counters::{Counts, Field};
use crate::observe::live::{Shared, warmup_ns};
use crate::observe::logs::Console;
use crate::observe::quantile::{empty_histogram, seconds};
use crate::plan::{LogFormat, RunPlan};
use crate::wire::http::status::status_line;
use hdrhistogram::Histogram;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Turns the counters into lines, once for each `--stats-interval`.
pub struct Ticker {
    shared: Arc<Shared>,
    console: Arc<Console>,
    warmup_ns: u64,
    before: Vec<Counts>,
    before_ns: u64,
    recent: Histogram<u64>,
    /// When it was first seen that all cores drain.
    drains_from_ns: Option<u64>,
    /// The refusals that were told: target and status.
    refusals: BTreeSet<(usize, u16)>,
}

const DRAINING: &str = "draining";

/// What the live line shows.
#[derive(Clone, Debug, Default)]
pub struct Glance {
    pub progress: Option<&'static str>,
    pub now_bytes_per_second: f64,
    /// `None`: of less time than the rate now is.
    pub average_bytes_per_second: Option<f64>,
    pub target_bytes_per_second: Option<u64>,
    pub response_p99_ns: Option<u64>,
    pub errors: u64,
    pub elapsed_ns: u64,
    /// In the drain: at most.
    pub left_ns: Option<u64>,
}

impl Glance {
    /// At most 80 columns.
    pub fn line(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.progress.map(str::to_owned));
        parts.push(format_rate_short(self.now_bytes_per_second));
        if self.progress.is_none() {
            parts.extend(self.average_bytes_per_second.map(|rate| format!("avg {}", format_rate_short(rate))));
        }
        parts.extend(self.target_bytes_per_second.map(|rate| format!("of {}", format_rate_short(rate as f64))));
        parts.extend(self.response_p99_ns.map(|ns| format!("p99 {}", format_duration(ns))));
        parts.push(format_counted(self.errors, "error"));
        parts.push(match (self.left_ns, self.progress) {
            (Some(left), Some(DRAINING)) => format!("{} left at most", clock(left)),
            (Some(left), _) => format!("{} left", clock(left)),
            (None, _) => clock(self.elapsed_ns),
        });
        parts.join("  ")
    }
}

/// The nearest whole second: `42s`, `4m05s`, `2h05m`.
fn clock(ns: u64) -> String {
    let seconds = ns.saturating_add(500_000_000) / 1_000_000_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// 0: off.
fn governance_every(plan: &RunPlan) -> u64 {
    plan.observe.governance.as_ref().map_or(0, |governance| governance.every)
}

fn errors(counts: &Counts) -> u64 {
    counts.get(Field::RecordsFailed) + counts.get(Field::RecordsUncertain)
}

impl Ticker {
    pub fn new(shared: Arc<Shared>, console: Arc<Console>) -> Self {
        let warmup_ns = warmup_ns(&shared.plan);
        let before = vec![Counts::default(); shared.plan.producers.len()];
        let (recent, refusals) = (empty_histogram(), BTreeSet::new());
        Self { shared, console, warmup_ns, before, before_ns: 0, recent, drains_from_ns: None, refusals }
    }

    /// The line that opens a log; a person at a terminal has read the plan already.
    pub fn started(&self) {
        let plan = &self.shared.plan;
        let targets = plan.sink.targets.join(",");
        let (producers, cores) = (plan.producers.len(), plan.cores.len());
        match self.console.format {
            LogFormat::Json => tracing::info!(
                event = "start",
                run_id = plan.run_id,
                engine_version = env!("CARGO_PKG_VERSION"),
                target = targets,
                producers,
                cores,
                rate_bytes_per_second = plan.rate_bytes_per_second,
                audit_every = plan.observe.audit_every,
                governance_every = governance_every(plan),
                "run started"
            ),
            LogFormat::Text if !self.console.has_live_line() => {
                tracing::info!("run {} started: producers {producers}, cores {cores}, to {targets}", plan.run_id);
            }
            LogFormat::Text => {}
        }
    }

    pub fn stopped(&mut self) {
        self.tell_refusals();
        let total = self.shared.live_total();
        let (records, errors) = (total.get(Field::RecordsProduced), errors(&total));
        match self.console.format {
            LogFormat::Json => tracing::info!(
                event = "stop",
                run_id = self.shared.plan.run_id,
                elapsed_seconds = seconds(self.shared.elapsed_ns()),
                records_produced = records,
                bytes_produced = total.get(Field::BytesProduced),
                errors,
                "run stopped"
            ),
            LogFormat::Text if !self.console.has_live_line() => {
                let (records, errors) = (format_counted(records, "record"), format_counted(errors, "error"));
                tracing::info!("run {} stopped: {records} produced, {errors}", self.shared.plan.run_id);
            }
            LogFormat::Text => {}
        }
    }

    /// What came after the last whole interval, so that the lines of a log add up to the totals.
    pub fn last(&mut self) {
        if self.console.format == LogFormat::Json
            && self.shared.lanes().iter().zip(&self.before).any(|((_, now), before)| now != before)
        {
            self.tick();
        }
    }

    /// One interval's worth of lines.
    pub fn tick(&mut self) {
        let elapsed_ns = self.shared.elapsed_ns();
        let span = seconds(elapsed_ns.saturating_sub(self.before_ns)).max(1e-9);
        self.before_ns = elapsed_ns;
        self.tell_refusals();
        match self.console.format {
            LogFormat::Json => self.log_producers(elapsed_ns, span),
            LogFormat::Text => {
                let line = self.glance(elapsed_ns, span).line();
                if self.console.has_live_line() {
                    self.console.show(line);
                } else {
                    tracing::info!("{line}");
                }
            }
        }
    }

    /// A count of errors does not say what to mend: the first answer of each producer that was a refusal does.
    fn tell_refusals(&mut self) {
        let plan = &self.shared.plan;
        for (core, live) in plan.cores.iter().zip(&self.shared.live) {
            for (&producer, lane) in core.producers.iter().zip(&live.lanes) {
                let Some(status) = lane.refused() else { continue };
                let at = plan.producers[producer].target;
                if self.refusals.insert((at, status)) {
                    let (target, line) = (&plan.sink.targets[at], status_line(status));
                    tracing::warn!(event = "refused", target, status, "{target}: first refused answer: {line}");
                }
            }
        }
    }

    fn log_producers(&mut self, elapsed_ns: u64, span: f64) {
        let plan = &self.shared.plan;
        let p99: Vec<_> =
            self.shared.with_aggregate(|all| all.cores.iter_mut().map(|core| core.take_recent(None)).collect());
        for ((producer, now), before) in self.shared.lanes().iter().zip(&mut self.before) {
            let delta = |field| now.get(field).saturating_sub(before.get(field));
            tracing::info!(
                event = "interval",
                producer = producer.id,
                core = plan.cores[producer.core].cpu,
                target = plan.sink.targets[producer.target],
                elapsed_seconds = seconds(elapsed_ns),
                interval_seconds = span,
                rate_bytes_per_second = delta(Field::LogicalBytesProduced) as f64 / span,
                records = delta(Field::RecordsProduced),
                bytes = delta(Field::BytesProduced),
                records_offered = delta(Field::RecordsOffered),
                records_not_sent = delta(Field::RecordsNotSent),
                errors = errors(now).saturating_sub(errors(before)),
                core_response_p99_seconds = p99[producer.core].map(seconds),
                audit_every = plan.observe.audit_every,
                governance_every = governance_every(plan),
                "interval"
            );
            *before = *now;
        }
    }

    fn glance(&mut self, elapsed_ns: u64, span: f64) -> Glance {
        let total = self.shared.live_total();
        let logical = total.get(Field::LogicalBytesProduced);
        // The text form needs the sum only; it is kept in the first producer's place.
        let before = std::mem::replace(&mut self.before[0], total).get(Field::LogicalBytesProduced);
        let recent = &mut self.recent;
        recent.reset();
        let (warm, measured) = self.shared.with_aggregate(|all| {
            all.cores.iter_mut().for_each(|core| {
                core.take_recent(Some(recent));
            });
            (all.warm_total(), all.measured_total())
        });
        let response_p99_ns = (!recent.is_empty()).then(|| recent.value_at_quantile(0.99));
        let (progress, left_ns) = if self.shared.all_drain() {
            (Some(DRAINING), self.drain_left_ns(elapsed_ns))
        } else {
            let warms_up = elapsed_ns < self.warmup_ns;
            (warms_up.then_some("warm-up"), self.left_ns(elapsed_ns, &total, &measured))
        };
        let phase = self.shared.phase_now().map(|at| &self.shared.plan.phases[at]);
        // Of the same reading as the rate now, which it would contradict if it were of less time.
        let measured_seconds = seconds(elapsed_ns.saturating_sub(self.warmup_ns));
        let measured_bytes = logical.saturating_sub(warm.get(Field::LogicalBytesProduced)) as f64;
        Glance {
            progress,
            now_bytes_per_second: logical.saturating_sub(before) as f64 / span,
            average_bytes_per_second: (measured_seconds >= span).then(|| measured_bytes / measured_seconds),
            target_bytes_per_second: phase.and_then(|phase| phase.rate_bytes_per_second),
            response_p99_ns,
            errors: errors(&total),
            elapsed_ns,
            left_ns,
        }
    }

    /// Until the last core gives up on what is not answered; `None`: past it, as in a final fsync.
    fn drain_left_ns(&mut self, elapsed_ns: u64) -> Option<u64> {
        let from_ns = *self.drains_from_ns.get_or_insert(elapsed_ns);
        let end_ns = from_ns.saturating_add(self.shared.plan.drain_timeout_ns);
        Some(end_ns.saturating_sub(elapsed_ns)).filter(|&left| left > 0)
    }

    /// Until the end of the phases, or of the records or bytes where these come first; `None`: until a signal. What the
    /// warm-up sends is no part of the limits: of `total` only `measured` is.
    fn left_ns(&self, elapsed_ns: u64, total: &Counts, measured: &Counts) -> Option<u64> {
        let plan = &self.shared.plan;
        let planned = plan
            .phases
            .iter()
            .try_fold(0u64, |sum, phase| (phase.duration_ns < u64::MAX).then(|| sum.saturating_add(phase.duration_ns)));
        let by_time = planned.map(|planned| planned.saturating_sub(elapsed_ns));
        let limit = |of: fn(&crate::plan::ProducerPlan) -> u64| {
            plan.producers.iter().try_fold(0u64, |sum, producer| sum.checked_add(of(producer)))
        };
        let warmup_left_ns = self.warmup_ns.saturating_sub(elapsed_ns);
        let by = |limit: Option<u64>, field: Field| {
            let left = limit?.saturating_sub(measured.get(field)) as f64;
            let done = total.get(field);
            let paced_ns = (done > 0).then(|| (left * elapsed_ns as f64 / done as f64) as u64)?;
            Some(warmup_left_ns.saturating_add(paced_ns))
        };
        let limits = [
            by(limit(|producer| producer.records_max), Field::RecordsProduced),
            by(limit(|producer| producer.bytes_max), Field::BytesProduced),
        ];
        // A single producer without a limit has u64::MAX, which is years away and loses against the clock.
        let years = 10 * 365 * 86_400 * 1_000_000_000u64;
        by_time.into_iter().chain(limits.into_iter().flatten()).min().filter(|&left| left < years)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::{Snapshot, Stage};
    use crate::observe::logs::tests::capture;
    use crate::observe::testing::{self, SECOND};
    use crate::plan::PhasePlan;

    #[test]
    fn the_live_line_fits_80_columns_at_its_fullest() {
        let glance = Glance {
            progress: None,
            now_bytes_per_second: 937_512_345.0,
            average_bytes_per_second: Some(937_412_345.0),
            target_bytes_per_second: Some(937_500_000),
            response_p99_ns: Some(999_940_000),
            errors: 12_345,
            elapsed_ns: 0,
            left_ns: Some(7_199_000_000_000),
        };
        let line = glance.line();
        assert_eq!(line, "937.5 MB/s  avg 937.4 MB/s  of 937.5 MB/s  p99 999.9 ms  12,345 errors  1h59m left");
        assert!(Glance { errors: 0, ..glance }.line().len() <= 80, "{line}");
    }

    #[test]
    fn the_average_is_of_the_same_reading_as_the_rate_now() {
        let mut run = testing::Run::new(1, 1, None);
        let now_and_average = |ticker: &mut Ticker, run: &testing::Run, bytes, at_ns, span| {
            run.publish(0, 0, &[(Field::LogicalBytesProduced, bytes)]);
            let glance = ticker.glance(at_ns, span);
            (glance.now_bytes_per_second, glance.average_bytes_per_second)
        };
        // Nothing is folded yet.
        let mut ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
        assert_eq!(now_and_average(&mut ticker, &run, 500, SECOND / 2, 0.5), (1000.0, Some(1000.0)));
        assert_eq!(now_and_average(&mut ticker, &run, 1500, SECOND, 0.5), (2000.0, Some(1500.0)));
        run.replan(|plan| {
            plan.phases.insert(0, PhasePlan { duration_ns: 4 * SECOND, warmup: true, ..plan.phases[0].clone() });
        });
        let mut ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
        assert_eq!(now_and_average(&mut ticker, &run, 4000, 4 * SECOND, 1.0).1, None);
        let mut warm = Snapshot::preallocated(0, 1, true);
        warm.at_ns = 4 * SECOND;
        warm.warm[0] = testing::counts(&[(Field::LogicalBytesProduced, 4000)]);
        run.shared.with_aggregate(|all| all.fold(&warm));
        assert_eq!(now_and_average(&mut ticker, &run, 4000, 4 * SECOND + SECOND / 2, 1.0).1, None, "too short a time");
        assert_eq!(now_and_average(&mut ticker, &run, 6000, 6 * SECOND, 1.5).1, Some(1000.0), "the warm-up left out");
    }

    #[test]
    fn the_drain_counts_down_to_its_own_end() {
        let run = testing::Run::new(2, 1, Some(1_000_000));
        run.shared.start(run.now_ns());
        let mut ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
        let mut line = |at_ns| ticker.glance(at_ns, 1.0).line();
        run.shared.live[0].enter_stage(Stage::Draining);
        assert_eq!(line(2 * SECOND), "0 B/s  avg 0 B/s  of 1 MB/s  0 errors  8s left", "the other core goes on");
        run.shared.live[1].enter_stage(Stage::Draining);
        assert_eq!(line(3 * SECOND), "draining  0 B/s  0 errors  10s left at most");
        assert_eq!(line(6 * SECOND), "draining  0 B/s  0 errors  7s left at most");
        run.shared.live.iter().for_each(|core| core.enter_stage(Stage::Syncing));
        assert_eq!(line(14 * SECOND), "draining  0 B/s  0 errors  14s", "a final fsync has no time limit");
    }

    #[test]
    fn times_read_as_people_say_them() {
        let left: Vec<_> = [3_001, 1_999, 999, 1].map(|ms| clock(ms * 1_000_000)).into();
        assert_eq!(left, ["3s", "2s", "1s", "0s"]);
        for (ns, said) in [(0, "0s"), (41_600_000_000, "42s"), (245_000_000_000, "4m05s"), (7_500_000_000_000, "2h05m")]
        {
            assert_eq!(clock(ns), said);
        }
    }

    #[test]
    fn json_has_one_line_for_each_producer_with_its_own_numbers() {
        let run = testing::Run::new(2, 2, Some(1_000_000));
        run.publish(0, 0, &[(Field::RecordsProduced, 7), (Field::BytesProduced, 700)]);
        run.publish(1, 1, &[(Field::RecordsProduced, 9), (Field::RecordsFailed, 2)]);
        let console = Console::new(LogFormat::Json);
        run.shared.start(run.now_ns());
        let mut ticker = Ticker::new(run.shared.clone(), console);
        let lines = capture(LogFormat::Json, || ticker.tick());
        let lines: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 4);
        let field = |name: &str| lines.iter().map(|line| line[name].clone()).collect::<Vec<_>>();
        assert_eq!(field("producer"), [0, 1, 2, 3]);
        assert_eq!(field("records"), [7, 0, 0, 9]);
        assert_eq!(field("errors"), [0, 0, 0, 2]);
        assert_eq!(field("audit_every"), [1000; 4]);
        assert_eq!(field("governance_every"), [0; 4]);
        let again = capture(LogFormat::Json, || ticker.tick());
        let first: serde_json::Value = serde_json::from_str(&again[0]).unwrap();
        assert_eq!(first["records"], 0, "an interval counts its own records");
        assert_eq!(capture(LogFormat::Json, || ticker.last()), Vec::<String>::new(), "nothing came after it");
        run.publish(0, 0, &[(Field::RecordsProduced, 12)]);
        let rest: serde_json::Value = serde_json::from_str(&capture(LogFormat::Json, || ticker.last())[0]).unwrap();
        assert_eq!(rest["records"], 5, "the lines of a log add up");
    }

    #[test]
    fn a_refusal_is_told_once_for_each_target_and_status() {
        let run = testing::Run::new(2, 2, Some(1_000_000));
        for (core, lane, status) in [(0, 0, 404), (0, 1, 503), (1, 0, 404)] {
            run.shared.live[core].lanes[lane].publish_refused(status);
        }
        let mut ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
        let told = capture(LogFormat::Text, || ticker.tell_refusals());
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("WARN") && told[0].contains("null: first refused answer: 404 Not Found"), "{told:?}");
        assert!(told[1].contains("null2: first refused answer: 503 Service Unavailable"), "{told:?}");
        run.shared.live[1].lanes[1].publish_refused(401);
        let lines = capture(LogFormat::Json, || ticker.stopped());
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(
            (&line["event"], &line["status"], &line["target"]),
            (&"refused".into(), &401.into(), &"null2".into())
        );
        assert_eq!(lines.len(), 2, "and that the run stopped: {lines:?}");
    }

    #[test]
    fn time_left_takes_the_nearest_end() {
        let mut run = testing::Run::new(1, 1, None);
        run.publish(0, 0, &[(Field::RecordsProduced, 50)]);
        let ticker = |run: &testing::Run| Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
        let total = run.shared.live_total();
        assert_eq!(ticker(&run).left_ns(4_000_000_000, &total, &total), Some(6_000_000_000));
        run.replan(|plan| plan.producers[0].records_max = 100);
        assert_eq!(ticker(&run).left_ns(4_000_000_000, &total, &total), Some(4_000_000_000));
        run.replan(|plan| {
            plan.producers[0].records_max = u64::MAX;
            plan.phases[0].duration_ns = u64::MAX;
        });
        assert_eq!(ticker(&run).left_ns(4_000_000_000, &total, &total), None);
    }

    #[test]
    fn what_the_warm_up_sends_brings_no_limit_nearer() {
        let mut run = testing::Run::new(1, 1, None);
        run.publish(0, 0, &[(Field::RecordsProduced, 100)]);
        run.replan(|plan| {
            plan.phases[0].duration_ns = u64::MAX;
            plan.phases.insert(0, PhasePlan { duration_ns: 4 * SECOND, warmup: true, ..plan.phases[0].clone() });
            plan.producers[0].records_max = 100;
        });
        let ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
        let total = run.shared.live_total();
        let none = Counts::default();
        assert_eq!(ticker.left_ns(2 * SECOND, &total, &none), Some(4 * SECOND), "2 s of it, and 100 records");
        assert_eq!(ticker.left_ns(4 * SECOND, &total, &none), Some(4 * SECOND), "100 records");
        let half = testing::counts(&[(Field::RecordsProduced, 50)]);
        assert_eq!(ticker.left_ns(5 * SECOND, &total, &half), Some(2 * SECOND + SECOND / 2));
        assert_eq!(ticker.left_ns(8 * SECOND, &total, &total), Some(0));
    }
}
