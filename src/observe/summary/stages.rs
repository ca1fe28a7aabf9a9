//! The stages of a run, each with its line.

use super::page::{Page, percentiles};
use crate::base::limits::STAGES_TOLD_MAX;
use crate::base::units::{format_count, format_counted, format_duration, format_rate_short};
use crate::observe::report::{Phase, Report};

pub(super) fn show(page: &mut Page, report: &Report) {
    for phase in report.phases.iter().take(STAGES_TOLD_MAX) {
        page.line(&format!("stage {}", phase.number), &stage(phase));
    }
    let more = report.phases.len().saturating_sub(STAGES_TOLD_MAX) as u64;
    if more > 0 {
        page.line("", &format!("{} more in the report", format_counted(more, "stage")));
    }
    if let Some(line) = not_reached(report) {
        page.line("", &line);
    }
}

/// `burst for 60 s (+2.1 s drain): 98.2 MB/s of 100 MB/s, 4,096 records; response p50 1 ms, p99 2 ms, p99.9 3 ms, max
/// 4 ms`.
fn stage(phase: &Phase) -> String {
    let asked = phase.target_bytes_per_second.map(|rate| format!(" of {}", format_rate_short(rate)));
    let lost = lost(phase).map(|lost| format!(", {lost}")).unwrap_or_default();
    let drained = drained(phase).map(|drained| format!(" ({drained})")).unwrap_or_default();
    let [p50, p99, p999, max] = percentiles(&phase.response_to_show(), phase.records_offered);
    format!(
        "{} for {}{drained}: {}{}, {}{lost}; response p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}",
        phase.mode,
        format_duration(((phase.end_seconds - phase.start_seconds) * 1e9).round() as u64),
        format_rate_short(phase.logical_bytes_per_second),
        asked.unwrap_or_default(),
        format_counted(phase.records_produced, "record")
    )
}

/// What the rate of the last stage is over, too.
pub fn drained(phase: &Phase) -> Option<String> {
    let ns = (phase.drained_seconds * 1e9).round() as u64;
    (ns > 0).then(|| format!("+{} drain", format_duration(ns)))
}

/// `3 failed, 2 uncertain, 5 not sent`: those of them that there are.
pub fn lost(phase: &Phase) -> Option<String> {
    let all = [
        (phase.records_failed, "failed"),
        (phase.records_uncertain, "uncertain"),
        (phase.records_not_sent, "not sent"),
    ];
    let some: Vec<_> = all.into_iter().filter(|(count, _)| *count > 0).collect();
    let said: Vec<_> = some.iter().map(|(count, how)| format!("{} {how}", format_count(*count))).collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// Of a run that ended before its last stages began.
pub fn not_reached(report: &Report) -> Option<String> {
    let (reached, planned) = (report.phases.len() as u64, report.pacing.stages_planned);
    match planned.saturating_sub(reached) {
        0 => None,
        1 => Some(format!("stage {planned} was not reached")),
        _ => Some(format!("stages {} to {planned} were not reached", reached + 1)),
    }
}

pub(super) fn log(phase: &Phase) {
    let response = &phase.latency_seconds.response;
    tracing::info!(
        event = "stage",
        number = phase.number,
        mode = phase.mode,
        target_bytes_per_second = phase.target_bytes_per_second,
        start_seconds = phase.start_seconds,
        end_seconds = phase.end_seconds,
        drained_seconds = phase.drained_seconds,
        records_offered = phase.records_offered,
        records_produced = phase.records_produced,
        records_failed = phase.records_failed,
        records_uncertain = phase.records_uncertain,
        records_not_sent = phase.records_not_sent,
        bytes_produced = phase.bytes_produced,
        bytes_per_second = phase.bytes_per_second,
        logical_bytes_per_second = phase.logical_bytes_per_second,
        response_p50_seconds = response.p50,
        response_p99_seconds = response.p99,
        response_p999_seconds = response.p999,
        response_max_seconds = response.max,
        service_p99_seconds = phase.latency_seconds.service.p99,
        "stage {}",
        phase.number
    );
}
