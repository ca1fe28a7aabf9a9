//! What a person reads at the end: about 20 lines, as wide as the terminal. Words are not cut.

mod data;
mod lines;
mod page;
mod refusals;
pub mod stages;

use crate::base::units::format_duration;
use crate::observe::logs::Console;
use crate::observe::report::{LimitedBy, Pacing, Report};
use crate::observe::slo;
use crate::observe::verdict::{READER_LEFT, rate_said};
use crate::plan::{LogFormat, ReportTarget, RunPlan};
use crate::sys::streams;
use data::Data;
use page::Page;
use std::path::Path;

pub use lines::{FSYNC_SECONDS_MIN, mostly_polls, warmup_losses};
pub use refusals::{answers, broker_errors, refused};

/// What has no terminal, or one that does not say how wide it is.
pub const COLUMNS: usize = 80;
/// Sentences of the verdict; the report has all.
const EVIDENCE_MAX: usize = 4;

/// Prints the summary to stderr, since stdout belongs to payload and report: a page for a reader, one line of
/// JSON for a collector, and before it one for each stage.
pub fn print_summary(console: &Console, report: &Report, plan: &RunPlan) {
    console.clear();
    match console.format {
        LogFormat::Text => {
            let columns = streams::stderr_columns().unwrap_or(COLUMNS);
            console.write(render(report, plan, columns).as_bytes());
        }
        LogFormat::Json => log_summary(report),
    }
}

fn log_summary(report: &Report) {
    let (totals, response) = (&report.totals, &report.latency_seconds.response);
    for slo in report.slo.iter().filter(|slo| !slo.passed) {
        let (expression, shown) = (&slo.expression, slo::shown(slo));
        tracing::warn!(
            event = "slo_missed",
            expression,
            value = slo.value,
            threshold = slo.threshold,
            "missed {shown}"
        );
    }
    report.phases.iter().for_each(stages::log);
    tracing::info!(
        event = "summary",
        run_id = report.run_id,
        exit_code = report.exit_code,
        elapsed_seconds = report.elapsed_seconds,
        records_offered = totals.records_offered,
        records_produced = totals.records_produced,
        records_failed = totals.records_failed,
        records_uncertain = totals.records_uncertain,
        records_not_sent = totals.records_not_sent,
        warmup_records_failed = report.warmup.totals.records_failed,
        warmup_records_uncertain = report.warmup.totals.records_uncertain,
        retries = totals.retries,
        bytes_produced = totals.bytes_produced,
        bytes_per_second = report.throughput.bytes_per_second,
        records_per_second = report.throughput.records_per_second,
        achieved_ratio = report.pacing.achieved_ratio,
        response_p50_seconds = response.p50,
        response_p99_seconds = response.p99,
        response_p999_seconds = response.p999,
        response_max_seconds = response.max,
        service_p99_seconds = report.latency_seconds.service.p99,
        cpu_seconds_per_gigabyte = lines::seconds_per_gigabyte(report),
        limited_by = report.verdict.limited_by.name(),
        evidence = report.verdict.evidence.join("; "),
        notes = (!report.verdict.notes.is_empty()).then(|| report.verdict.notes.join("; ")),
        slo_missed = slo::missed(&report.slo),
        ended_early = report.ended_early,
        ended_by_signal = report.ended_by_signal,
        "summary"
    );
}

/// The summary at the end of a run, with a newline at its end.
fn render(report: &Report, plan: &RunPlan, columns: usize) -> String {
    let mut page = body(report, columns);
    Data::of_run(report, plan).show(&mut page);
    if let Some(ReportTarget::File(path)) = &plan.observe.report {
        page.long("report", &path.display().to_string());
    }
    if let Some(path) = &plan.observe.html {
        page.long("page", &path.display().to_string());
    }
    page.text
}

/// The summary of a report that lies at `path`.
pub fn render_again(report: &Report, path: &Path, columns: usize) -> String {
    let mut page = body(report, columns);
    Data::of_report(report, Some(path)).show(&mut page);
    page.long("report", &path.display().to_string());
    page.text
}

/// A line: its label, and what stands beside it.
type Line = (&'static str, fn(&Report) -> Option<String>);

const ABOVE_LATENCIES: &[Line] = &[
    ("run", lines::what_ran),
    ("produced", lines::produced),
    ("rate", lines::rate),
    ("logical", lines::logical),
    ("lent", lines::lent),
    ("compressed", lines::compressed),
    ("pacing", lines::pacing),
];

const BELOW_LATENCIES: &[Line] = &[
    ("errors", lines::errors),
    ("warm-up", lines::warmup_losses),
    ("refused", refusals::refused),
    ("answers", refusals::answers),
    ("answers", refusals::of_brokers),
    ("not sent", lines::not_sent),
    ("audit", lines::audit),
    ("governance", lines::governance),
    ("cpu", lines::cpu),
];

fn body(report: &Report, columns: usize) -> Page {
    let mut page = Page::new(columns);
    show(&mut page, ABOVE_LATENCIES, report);
    let offered = report.totals.records_offered;
    page.percentile_names();
    page.latency("response", &report.response_to_show(), offered, &lines::confirmed_max(report));
    page.latency("service", &report.latency_seconds.service, offered, "");
    show(&mut page, &[("", lines::clamped)], report);
    stages::show(&mut page, report);
    show(&mut page, BELOW_LATENCIES, report);
    outcome(&mut page, report);
    page
}

fn show(page: &mut Page, lines: &[Line], report: &Report) {
    for (label, said) in lines {
        if let Some(said) = said(report) {
            page.line(label, &said);
        }
    }
}

/// What held it back, what it was to keep, and how it ended where not by its time.
fn outcome(page: &mut Page, report: &Report) {
    let by = match report.verdict.limited_by {
        LimitedBy::Rate => "the rate asked for",
        LimitedBy::Target => "the target",
        LimitedBy::Generator => "the generator",
        LimitedBy::Host => "the host",
    };
    evidence(page, by, report);
    for note in &report.verdict.notes {
        page.line("note", note);
    }
    if !report.slo.is_empty() {
        let missed = slo::missed(&report.slo);
        page.line("slo", &missed.map_or_else(|| "all met".to_owned(), |missed| format!("missed: {missed}")));
    }
    if let Some(why) = &report.ended_early {
        // What mends it stands on a line of its own.
        for (at, line) in why.lines().enumerate() {
            match at {
                0 => page.line("ended early", line),
                _ => page.long("", line.trim()),
            }
        }
    } else if let Some(how) = ended_by_signal(report) {
        page.line("ended", &how);
    } else if report.verdict.evidence.iter().any(|said| said == READER_LEFT) {
        page.line("ended", READER_LEFT);
    }
}

/// The first sentence beside the verdict; of the others those that say what stands nowhere else on the page.
fn evidence(page: &mut Page, by: &str, report: &Report) {
    let Some((first, others)) = report.verdict.evidence.split_first() else { return page.line("limited by", by) };
    page.line("limited by", &format!("{by}: {first}"));
    let Pacing { target_bytes_per_second, achieved_ratio, .. } = report.pacing;
    let pacing = target_bytes_per_second.zip(achieved_ratio).map(|(target, ratio)| rate_said(target, ratio));
    let is_new = |said: &&String| *said != READER_LEFT && Some(*said) != pacing.as_ref();
    let others: Vec<_> = others.iter().filter(is_new).collect();
    for said in others.iter().take(EVIDENCE_MAX - 1) {
        page.line("evidence", said);
    }
    if others.len() >= EVIDENCE_MAX {
        page.line("", &format!("{} more in the report", others.len() + 1 - EVIDENCE_MAX));
    }
}

/// As `by SIGINT after 3.8 s of 10 s`: of the pacing, since the drain that follows is no part of what was asked for.
pub fn ended_by_signal(report: &Report) -> Option<String> {
    let (signal, pacing) = (report.ended_by_signal.as_ref()?, &report.pacing);
    let duration = |seconds: f64| format_duration((seconds * 1e9) as u64);
    let planned = pacing.planned_seconds.map(|planned| format!(" of {}", duration(planned))).unwrap_or_default();
    let paced = duration(pacing.paced_seconds.unwrap_or(report.elapsed_seconds));
    Some(format!("by {signal} after {paced}{planned}"))
}

#[cfg(test)]
mod tests;
