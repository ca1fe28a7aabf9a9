//! What a person reads at the end: about 20 lines, as wide as the terminal. Words are not cut.

mod data;
mod refusals;
pub mod stages;

use crate::base::units::{
    format_amount, format_count, format_counted, format_duration, format_rate, format_rate_short,
    format_records_per_second,
};
use crate::observe::logs::Console;
use crate::observe::report::{Confirmation, Distribution, Governance, LimitedBy, Pacing, Report, Totals};
use crate::observe::slo;
use crate::observe::verdict::{READER_LEFT, rate_said};
use crate::plan::{LogFormat, ReportTarget, RunPlan};
use crate::sys::streams;
use data::Data;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub use refusals::{answers, broker_errors, refused};

/// What has no terminal, or one that does not say how wide it is.
pub const COLUMNS: usize = 80;
const LABEL: usize = 11;
/// Where there is less, the table of latencies does not fit, and labels take a line of their own.
const COLUMNS_BESIDE_MIN: usize = 56;
/// What stands below its label is as far to the right.
const INDENT: usize = 2;
/// Of the text beside a label, however narrow the terminal.
const TEXT_MIN: usize = 20;
/// Targets, or places of data, that are named one by one.
const NAMED_MAX: usize = 3;
/// Sentences of the verdict; the report has all.
const EVIDENCE_MAX: usize = 4;
/// From this share of the processor time on, processor time for each byte says nothing of the bytes.
const POLLING_SHARE_MIN: f64 = 0.5;

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
        cpu_seconds_per_gigabyte = seconds_per_gigabyte(report),
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

fn body(report: &Report, columns: usize) -> Page {
    let mut page = Page { text: String::new(), columns };
    let (totals, throughput) = (&report.totals, &report.throughput);
    page.line("run", &what_ran(report));
    let (records, size) = (format_counted(totals.records_produced, "record"), format_amount(totals.bytes_produced));
    let elapsed = format_duration((report.elapsed_seconds * 1e9) as u64);
    let fsync = match (report.final_fsync_seconds * 1e9) as u64 {
        0..1_000_000 => String::new(),
        ns => format!(", final fsync {}", format_duration(ns)),
    };
    page.line("produced", &format!("{records}, {size} in {elapsed}{fsync}"));
    let per_second = format_records_per_second(throughput.records_per_second);
    page.line("rate", &format!("{}, {per_second}", format_rate(throughput.bytes_per_second)));
    if totals.logical_bytes_produced != totals.bytes_produced {
        page.line("logical", &format_rate(throughput.logical_bytes_per_second));
    }
    if totals.lent_bytes > 0 {
        page.line("lent", &format!("{}: the target read them in place", format_amount(totals.lent_bytes)));
    }
    if let Some(ratio) = report.payload.compression_ratio {
        let wire = format_amount(totals.wire_bytes);
        page.line("compressed", &format!("to {wire} on the wire: {ratio:.2} bytes of payload for each"));
    }
    if let (Some(target), Some(ratio)) = (report.pacing.target_bytes_per_second, report.pacing.achieved_ratio) {
        let percent = (ratio * 10_000.0).floor() / 100.0;
        let late = format_counted(report.pacing.catch_up_records, "record");
        page.line("pacing", &format!("{percent:.2} % of {}, {late} sent late", format_rate_short(target)));
    }
    if !page.is_narrow() {
        page.row(&format!("{:LABEL$}{:>11}{:>11}{:>11}{:>11}", "", "p50", "p99", "p99.9", "max"));
    }
    page.latency("response", &report.response_to_show(), totals.records_offered, &confirmed_max(report));
    page.latency("service", &report.latency_seconds.service, totals.records_offered, "");
    if let Some(line) = clamped(report) {
        page.line("", &line);
    }
    stages::show(&mut page, report);
    page.line("errors", &errors(report));
    if let Some(line) = warmup_losses(report) {
        page.line("warm-up", &line);
    }
    if let Some(line) = refused(report) {
        page.line("refused", &line);
    }
    refusals::lines(report).for_each(|line| page.line("answers", &line));
    if totals.records_not_sent > 0 {
        let records = format_counted(totals.records_not_sent, "record");
        page.line("not sent", &format!("{records} due but never submitted"));
    }
    if totals.audit_lines_dropped > 0 {
        let lines = format_counted(totals.audit_lines_dropped, "line");
        page.line("audit", &format!("{lines} dropped: the log could not keep up"));
    }
    if let Some(told) = &report.governance {
        page.line("governance", &governance(told));
    }
    page.line("cpu", &cpu(report));
    outcome(&mut page, report);
    page
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

struct Page {
    text: String,
    /// Lines are not wider, as far as words let them.
    columns: usize,
}

impl Page {
    fn row(&mut self, line: &str) {
        self.text.extend(line.chars().map(visible));
        self.text.push('\n');
    }

    fn is_narrow(&self) -> bool {
        self.columns < COLUMNS_BESIDE_MIN
    }

    /// Paths and commands are never cut: a terminal wraps them and they can still be copied.
    fn long(&mut self, label: &str, text: &str) {
        if !self.is_narrow() {
            self.row(&format!("{label:LABEL$} {text}"));
            return;
        }
        if !label.is_empty() {
            self.row(label);
        }
        self.row(&format!("{:INDENT$}{text}", ""));
    }

    /// As many lines as it takes, broken between words. The last column stays free: some terminals wrap behind it.
    fn line(&mut self, label: &str, text: &str) {
        let width = |text: &str| text.chars().count();
        let before = if self.is_narrow() { INDENT } else { LABEL + 1 };
        let width_max = self.columns.saturating_sub(before + 1).max(TEXT_MIN);
        let mut lines = vec![String::new()];
        for word in text.split_whitespace() {
            let last = lines.last_mut().expect("there is always a last line");
            if !last.is_empty() && width(last) + 1 + width(word) > width_max {
                lines.push(word.to_owned());
            } else {
                last.push_str(if last.is_empty() { "" } else { " " });
                last.push_str(word);
            }
        }
        for (at, line) in lines.iter().enumerate() {
            self.long(if at == 0 { label } else { "" }, line);
        }
    }

    fn latency(&mut self, label: &str, of: &Distribution, offered: u64, beside: &str) {
        let [p50, p99, p999, max] = percentiles(of, offered);
        if self.is_narrow() {
            self.line(label, &format!("p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}{beside}"));
            return;
        }
        self.row(&format!("{label:LABEL$}{p50:>11}{p99:>11}{p999:>11}{max:>11}{beside}"));
    }
}

/// p50, p99, p99.9 and the largest.
fn percentiles(of: &Distribution, records_offered: u64) -> [String; 4] {
    [of.p50, of.p99, of.p999, of.max].map(|value| match value {
        Some(seconds) => format_duration((seconds * 1e9).round() as u64),
        // Among the records that were never confirmed.
        None if records_offered > 0 => "never".to_owned(),
        None => "-".to_owned(),
    })
}

/// As `by SIGINT after 3.8 s of 10 s`: of the pacing, since the drain that follows is no part of what was asked for.
pub fn ended_by_signal(report: &Report) -> Option<String> {
    let (signal, pacing) = (report.ended_by_signal.as_ref()?, &report.pacing);
    let duration = |seconds: f64| format_duration((seconds * 1e9) as u64);
    let planned = pacing.planned_seconds.map(|planned| format!(" of {}", duration(planned))).unwrap_or_default();
    let paced = duration(pacing.paced_seconds.unwrap_or(report.elapsed_seconds));
    Some(format!("by {signal} after {paced}{planned}"))
}

/// Where some records never came, and the largest response time is no number.
fn confirmed_max(report: &Report) -> String {
    let shown = |max: f64| format!(" (confirmed max {})", format_duration((max * 1e9).round() as u64));
    report.confirmed_max().map(shown).unwrap_or_default()
}

/// A report may come from anywhere: what it holds does not steer a terminal.
fn visible(c: char) -> char {
    if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }
}

fn what_ran(report: &Report) -> String {
    let producers = &report.producers;
    let targets = listed(&Vec::from_iter(report.targets()));
    let on = match report.is_merged() {
        // Several hosts have cores of one number.
        true => String::new(),
        false => {
            let cores: BTreeSet<_> = producers.iter().map(|producer| producer.core).collect();
            format!(" on {}", format_counted(cores.len() as u64, "core"))
        }
    };
    format!("{} to {targets}, {}{on}", report.run_id, format_counted(producers.len() as u64, "producer"))
}

/// `a`, `a and b`, `a, b and c`, `a, b, c and 2 more`.
fn listed(names: &[&str]) -> String {
    let (named, more) = (&names[..names.len().min(NAMED_MAX)], names.len().saturating_sub(NAMED_MAX));
    match named {
        [] => "no target".to_owned(),
        _ if more > 0 => format!("{} and {more} more", named.join(", ")),
        [first] => (*first).to_owned(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

fn errors(report: &Report) -> String {
    let again = match report.totals.retries {
        0 => String::new(),
        count => format!("; {} sent again", format_counted(count, "block")),
    };
    match (losses(&report.totals, &report.errors), report.confirmation) {
        (Some(losses), _) => format!("{losses}{again}"),
        (None, Confirmation::Target) => format!("none{again}"),
        (None, Confirmation::Kernel) => format!("none (nothing beyond the kernel confirms){again}"),
    }
}

/// As `3 failed, 2 uncertain (io 3, timeout 2)`.
fn losses(totals: &Totals, errors: &BTreeMap<String, u64>) -> Option<String> {
    let (failed, uncertain) = (totals.records_failed, totals.records_uncertain);
    let kinds: Vec<_> = errors.iter().filter(|(_, count)| **count > 0).collect();
    if (failed, uncertain) == (0, 0) && kinds.is_empty() {
        return None;
    }
    let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{kind} {}", format_count(**count))).collect();
    let (failed, uncertain) = (format_count(failed), format_count(uncertain));
    Some(format!("{failed} failed, {uncertain} uncertain ({})", kinds.join(", ")))
}

/// What no other figure counts but the exit code.
pub fn warmup_losses(report: &Report) -> Option<String> {
    let losses = losses(&report.warmup.totals, &report.warmup.errors)?;
    Some(format!("{losses}: these make the exit code 1, too"))
}

/// Where the figures of latencies are no longer true.
fn clamped(report: &Report) -> Option<String> {
    let count = report.latency_seconds.response.records_clamped;
    let records = format_counted(count, "record");
    (count > 0).then(|| format!("{records} took an hour or more: nothing longer is told apart"))
}

fn governance(told: &Governance) -> String {
    let (posted, offered) = (format_count(told.posted), format_counted(told.events_offered, "event"));
    if told.posted == told.events_offered && told.not_announced == 0 {
        return format!("{offered} posted, none dropped or refused");
    }
    let unheard = match told.not_announced {
        0 => String::new(),
        calls => format!(", {} not taken", format_counted(calls, "call")),
    };
    format!("{posted} of {offered} posted{unheard}; see the log")
}

/// A core that asks without a pause takes all of its processor, however few the bytes.
pub fn mostly_polls(report: &Report) -> bool {
    let cpu = &report.cpu;
    let share_min = POLLING_SHARE_MIN * (cpu.user_seconds + cpu.system_seconds);
    cpu.polling_seconds.is_some_and(|polling| polling > share_min)
}

/// Where it says something of the bytes.
fn seconds_per_gigabyte(report: &Report) -> Option<f64> {
    report.cpu.seconds_per_gigabyte.filter(|_| !mostly_polls(report))
}

fn cpu(report: &Report) -> String {
    let cpu = &report.cpu;
    let all = cpu.user_seconds + cpu.system_seconds;
    if mostly_polls(report) {
        let is_busy = report.config.get("poll").and_then(Value::as_str) == Some("busy");
        let hint = if is_busy { "; --poll adaptive sleeps" } else { "" };
        return format!("{all:.2} s (mostly polling{hint})");
    }
    let lead = match cpu.seconds_per_gigabyte.filter(|_| report.totals.bytes_produced > 0) {
        Some(of) => format!("{of:.3} s/GB"),
        None => format!("{all:.2} s"),
    };
    format!("{lead} (user {:.2} s, system {:.2} s)", cpu.user_seconds, cpu.system_seconds)
}

#[cfg(test)]
mod tests;
