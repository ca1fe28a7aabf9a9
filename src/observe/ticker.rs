//! What a run says while it runs: the live line, or a log line for each producer and interval.

mod refusals;

use crate::base::units::{format_counted, format_duration_steady, format_rate_short, format_rate_steady};
use crate::counters::{Counts, Field};
use crate::observe::aggregate::recent::{P99, Recent};
use crate::observe::live_line::{LivePart, RATE_ROOM, clock, live_columns, side_by_side};
use crate::observe::logs::Console;
use crate::observe::phases;
use crate::observe::quantile::{seconds, unconfirmed};
use crate::observe::shared::Shared;
use crate::plan::{LogFormat, RunPlan};
use refusals::Refusals;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Turns the counters into lines, once for each `--stats-interval`.
pub struct Ticker {
    shared: Arc<Shared>,
    console: Arc<Console>,
    warmup_ns: u64,
    before: Vec<Counts>,
    before_ns: u64,
    recent: Recent,
    /// When it was first seen that all cores drain.
    drains_from_ns: Option<u64>,
    refusals: Refusals,
    /// The targets of which it was told that they hold the run back.
    quotas: BTreeSet<usize>,
}

const DRAINING: &str = "draining";

/// What the live line shows.
#[derive(Clone, Debug, Default)]
pub struct Glance {
    pub progress: Option<&'static str>,
    /// Which of several stages, how many there are, and its mode.
    pub stage: Option<(usize, usize, &'static str)>,
    pub now_bytes_per_second: f64,
    /// `None`: of less time than the rate now is.
    pub average_bytes_per_second: Option<f64>,
    pub target_bytes_per_second: Option<u64>,
    pub response_p99: P99,
    pub errors: u64,
    pub elapsed_ns: u64,
    pub left: Left,
    /// Connections that were lost and are not there again, and all that there are.
    pub connections_down: (usize, usize),
}

/// How long the run, or its drain, goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Left {
    /// Until a signal, or nobody has set a limit to it.
    #[default]
    Endless,
    /// Until so much has its end, and nothing had lately.
    Unknown,
    Ns(u64),
}

/// A part of the live line, those of least use first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Average,
    Target,
    Mode,
    Stage,
    P99,
    Progress,
    Left,
    Errors,
    Down,
    Now,
}

impl Glance {
    /// Whole, for a log.
    pub fn line(&self) -> String {
        self.line_within(usize::MAX)
    }

    /// What there is room for.
    pub fn line_within(&self, columns: usize) -> String {
        side_by_side(self.parts(), columns)
    }

    /// In the order in which they are shown.
    fn parts(&self) -> Vec<(Part, String)> {
        // Without connections it matters what is missing, and a line is short.
        let is_whole = self.connections_down.0 == 0;
        let average = self.average_bytes_per_second.filter(|_| is_whole && self.progress.is_none());
        let target = self.target_bytes_per_second.filter(|_| is_whole || self.progress.is_none());
        // One that is not known keeps its place.
        let p99 = match self.response_p99 {
            P99::Unknown => String::new(),
            P99::Never => "p99 never".to_owned(),
            P99::Ns(ns) => format!("p99 {}", format_duration_steady(ns)),
        };
        let down = match self.connections_down {
            (0, _) => None,
            (down, all) => Some(format!("{down} of {} down", format_counted(all as u64, "connection"))),
        };
        let left = match (self.left, self.progress) {
            (Left::Ns(left), Some(DRAINING)) => format!("{} left at most", clock(left)),
            (Left::Ns(left), _) => format!("{} left", clock(left)),
            (Left::Unknown, _) => "– left".to_owned(),
            (Left::Endless, _) => clock(self.elapsed_ns),
        };
        let parts = [
            (Part::Progress, self.progress.map(str::to_owned)),
            (Part::Stage, self.stage.map(|(number, all, _)| format!("stage {number}/{all}"))),
            (Part::Mode, self.stage.map(|(_, _, mode)| mode.to_owned())),
            (Part::Now, Some(format_rate_steady(self.now_bytes_per_second))),
            (Part::Average, average.map(|of| format!("avg {}", format_rate_steady(of)))),
            (Part::Target, target.map(|of| format!("of {}", format_rate_short(of as f64)))),
            (Part::P99, is_whole.then_some(p99)),
            (Part::Errors, Some(format_counted(self.errors, "error"))),
            (Part::Down, down),
            (Part::Left, Some(left)),
        ];
        parts.into_iter().filter_map(|(part, text)| Some((part, text?))).collect()
    }
}

impl LivePart for Part {
    fn room(self) -> usize {
        match self {
            Part::Now => RATE_ROOM,
            Part::Average => "avg ".len() + RATE_ROOM,
            Part::P99 => "p99 999.9 ms".len(),
            Part::Mode => "sampled".len(),
            _ => 0,
        }
    }
}

/// 0: off.
fn governance_every(plan: &RunPlan) -> u64 {
    plan.observe.governance.as_ref().map_or(0, |governance| governance.every)
}

fn errors(counts: &Counts) -> u64 {
    counts.get(Field::RecordsFailed) + counts.get(Field::RecordsUncertain)
}

/// Records of which is known what became of them.
fn ended(counts: &Counts) -> u64 {
    counts.get(Field::RecordsProduced) + unconfirmed(counts)
}

/// Their bytes, and those of the records without confirmation, as far as the others tell how large they are.
fn ended_bytes(counts: &Counts) -> u64 {
    let records_produced = counts.get(Field::RecordsProduced).max(1);
    (counts.get(Field::BytesProduced) as f64 * ended(counts) as f64 / records_produced as f64) as u64
}

impl Ticker {
    pub fn new(shared: Arc<Shared>, console: Arc<Console>) -> Self {
        let warmup_ns = shared.plan.warmup_ns();
        let before = vec![Counts::default(); shared.plan.producers.len()];
        Self {
            shared,
            console,
            warmup_ns,
            before,
            before_ns: 0,
            recent: Recent::default(),
            drains_from_ns: None,
            refusals: Refusals::default(),
            quotas: BTreeSet::new(),
        }
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

    /// `ended_ns`: since the barrier, where a core knows it.
    pub fn stopped(&mut self, ended_ns: Option<u64>) {
        self.refusals.tell(&self.shared);
        self.tell_quotas();
        let total = self.shared.live_total();
        let (records, errors) = (total.get(Field::RecordsProduced), errors(&total));
        match self.console.format {
            LogFormat::Json => tracing::info!(
                event = "stop",
                run_id = self.shared.plan.run_id,
                elapsed_seconds = seconds(ended_ns.unwrap_or_else(|| self.shared.elapsed_ns())),
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
    pub fn last(&mut self, ended_ns: Option<u64>) {
        if self.console.format == LogFormat::Json
            && self.shared.lanes().iter().zip(&self.before).any(|((_, now), before)| now != before)
        {
            // An end that was dated back, since a drain was in vain, may be of an interval that is told.
            let ended_ns = ended_ns.filter(|ns| *ns > self.before_ns);
            self.tick_at(ended_ns.unwrap_or_else(|| self.shared.elapsed_ns()));
        }
    }

    /// One interval's worth of lines.
    pub fn tick(&mut self) {
        self.tick_at(self.shared.elapsed_ns());
    }

    fn tick_at(&mut self, elapsed_ns: u64) {
        let span = seconds(elapsed_ns.saturating_sub(self.before_ns)).max(1e-9);
        self.before_ns = elapsed_ns;
        self.look_for_drain(elapsed_ns);
        self.refusals.tell(&self.shared);
        self.tell_quotas();
        match self.console.format {
            LogFormat::Json => self.log_producers(elapsed_ns, span),
            LogFormat::Text => {
                let glance = self.glance(elapsed_ns, span);
                if self.console.has_live_line() {
                    self.console.show(glance.line_within(live_columns()));
                } else {
                    tracing::info!("{}", glance.line());
                }
            }
        }
    }

    /// A target that takes less than it could, and says so: each once.
    fn tell_quotas(&mut self) {
        let plan = &self.shared.plan;
        for (producer, counts) in self.shared.lanes() {
            if counts.get(Field::ThrottledAnswers) > 0 && self.quotas.insert(producer.target) {
                let target = &plan.sink.targets[producer.target];
                tracing::warn!(
                    event = "throttled",
                    target,
                    "{target}: a broker holds this client back by a quota (throttle_time_ms)"
                );
            }
        }
    }

    fn log_producers(&mut self, elapsed_ns: u64, span: f64) {
        let plan = &self.shared.plan;
        let stage = self.phase_of(elapsed_ns, span).and_then(|at| phases::stage(plan, at));
        let p99: Vec<_> =
            self.shared.with_aggregate(|all| all.cores.iter_mut().map(|core| core.recent.take_p99()).collect());
        for ((producer, now), before) in self.shared.lanes().iter().zip(&mut self.before) {
            let delta = |field| now.get(field).saturating_sub(before.get(field));
            tracing::info!(
                event = "interval",
                producer = producer.id,
                core = plan.cores[producer.core].cpu,
                target = plan.sink.targets[producer.target],
                elapsed_seconds = seconds(elapsed_ns),
                interval_seconds = span,
                phase = stage.map(|(number, ..)| number),
                rate_bytes_per_second = delta(Field::LogicalBytesProduced) as f64 / span,
                records = delta(Field::RecordsProduced),
                bytes = delta(Field::BytesProduced),
                records_offered = delta(Field::RecordsOffered),
                records_not_sent = delta(Field::RecordsNotSent),
                errors = errors(now).saturating_sub(errors(before)),
                core_response_p99_seconds = p99[producer.core].ns().map(seconds),
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
        let before = std::mem::replace(&mut self.before[0], total);
        let advances = ended(&total) > ended(&before);
        let recent = &mut self.recent;
        let (warm, measured) = self.shared.with_aggregate(|all| {
            all.cores.iter_mut().for_each(|core| core.recent.move_to(recent));
            (all.warm_total(), all.measured_total())
        });
        let response_p99 = recent.take_p99();
        let (progress, left) = match self.look_for_drain(elapsed_ns) {
            Some(from_ns) => (Some(DRAINING), self.drain_left(from_ns, elapsed_ns)),
            None => {
                let warms_up = elapsed_ns < self.warmup_ns;
                (warms_up.then_some("warm-up"), self.left(elapsed_ns, &total, &measured, advances))
            }
        };
        // A drain is of no stage, whatever came before it.
        let at = self.phase_of(elapsed_ns, span).filter(|_| self.shared.is_paced());
        let phase = at.map(|at| &self.shared.plan.phases[at]);
        // Of the same reading as the rate now, which it would contradict if it were of less time.
        let measured_seconds = seconds(elapsed_ns.saturating_sub(self.warmup_ns));
        let measured_bytes = logical.saturating_sub(warm.get(Field::LogicalBytesProduced)) as f64;
        Glance {
            progress,
            stage: at.and_then(|at| phases::stage(&self.shared.plan, at)),
            now_bytes_per_second: logical.saturating_sub(before.get(Field::LogicalBytesProduced)) as f64 / span,
            average_bytes_per_second: (measured_seconds >= span).then(|| measured_bytes / measured_seconds),
            target_bytes_per_second: phase.and_then(|phase| phase.rate_bytes_per_second),
            response_p99,
            errors: errors(&total),
            elapsed_ns,
            left,
            connections_down: (self.shared.outages.down(), self.shared.outages.connections()),
        }
    }

    /// The phase of which most of an interval was that ends now: its figures are those of that one. `None`: the drain had
    /// been seen by then.
    fn phase_of(&self, elapsed_ns: u64, span_seconds: f64) -> Option<usize> {
        let middle_ns = elapsed_ns.saturating_sub((span_seconds * 0.5e9) as u64);
        let is_before_drain = self.drains_from_ns.is_none_or(|from_ns| middle_ns < from_ns);
        self.shared.phase_at(middle_ns).filter(|_| is_before_drain)
    }

    /// Since when all cores drain, as far as anybody looked.
    fn look_for_drain(&mut self, elapsed_ns: u64) -> Option<u64> {
        if self.drains_from_ns.is_none() && self.shared.all_drain() {
            self.drains_from_ns = Some(elapsed_ns);
        }
        self.drains_from_ns
    }

    /// Until the last core gives up on what is not answered; past it, as in a final fsync, there is no end.
    fn drain_left(&self, from_ns: u64, elapsed_ns: u64) -> Left {
        let end_ns = from_ns.saturating_add(self.shared.plan.drain_timeout_ns);
        match end_ns.saturating_sub(elapsed_ns) {
            0 => Left::Endless,
            left_ns => Left::Ns(left_ns),
        }
    }

    /// Until the end of the phases, or of the records or bytes where these come first. What the warm-up sends is no part
    /// of the limits: of `total` only `measured` is. What fails or is not sent is part of them as well. `advances`:
    /// something ended lately.
    fn left(&self, elapsed_ns: u64, total: &Counts, measured: &Counts, advances: bool) -> Left {
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
        let by = |limit: Option<u64>, ended: fn(&Counts) -> u64| {
            let left = limit?.saturating_sub(ended(measured)) as f64;
            let done = ended(total);
            let paced_ns = (done > 0).then(|| (left * elapsed_ns as f64 / done as f64) as u64)?;
            Some(warmup_left_ns.saturating_add(paced_ns))
        };
        let limits =
            [by(limit(|producer| producer.records_max), ended), by(limit(|producer| producer.bytes_max), ended_bytes)];
        // A single producer without a limit has u64::MAX, which is years away and loses against the clock.
        let years = 10 * 365 * 86_400 * 1_000_000_000u64;
        let paced = limits.into_iter().flatten().min().filter(|&left| left < years);
        let is_limited = plan.producers.iter().any(|of| of.records_max < u64::MAX || of.bytes_max < u64::MAX);
        match (by_time.filter(|&left| left < years), paced) {
            (Some(by_time), Some(paced)) if advances => Left::Ns(by_time.min(paced)),
            (None, Some(paced)) if advances => Left::Ns(paced),
            // At the pace of nothing the limits go away from us.
            (Some(by_time), _) => Left::Ns(by_time),
            (None, _) if is_limited => Left::Unknown,
            (None, _) => Left::Endless,
        }
    }
}

#[cfg(test)]
mod tests;
