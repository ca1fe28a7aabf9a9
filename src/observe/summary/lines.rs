//! What each line of the summary says of a run; `None`: there is nothing to say.

use super::page::listed;
use crate::base::units::{
    format_amount, format_count, format_counted, format_duration, format_rate, format_rate_short,
    format_records_per_second,
};
use crate::observe::report::{Confirmation, Report, Totals};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// From this share of the processor time on, processor time for each byte says nothing of the bytes.
const POLLING_SHARE_MIN: f64 = 0.5;

/// What takes less is no fsync, or none that is worth a word.
pub const FSYNC_SECONDS_MIN: f64 = 0.001;

/// The run, its targets and its cores.
pub fn what_ran(report: &Report) -> Option<String> {
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
    Some(format!("{} to {targets}, {}{on}", report.run_id, format_counted(producers.len() as u64, "producer")))
}

pub fn produced(report: &Report) -> Option<String> {
    let totals = &report.totals;
    let (records, size) = (format_counted(totals.records_produced, "record"), format_amount(totals.bytes_produced));
    let elapsed = format_duration((report.elapsed_seconds * 1e9) as u64);
    let fsync = match report.final_fsync_seconds {
        ..FSYNC_SECONDS_MIN => String::new(),
        seconds => format!(", final fsync {}", format_duration((seconds * 1e9) as u64)),
    };
    Some(format!("{records}, {size} in {elapsed}{fsync}"))
}

pub fn rate(report: &Report) -> Option<String> {
    let per_second = format_records_per_second(report.throughput.records_per_second);
    Some(format!("{}, {per_second}", format_rate(report.throughput.bytes_per_second)))
}

pub fn logical(report: &Report) -> Option<String> {
    let differs = report.totals.logical_bytes_produced != report.totals.bytes_produced;
    differs.then(|| format_rate(report.throughput.logical_bytes_per_second))
}

pub fn lent(report: &Report) -> Option<String> {
    let bytes = report.totals.lent_bytes;
    (bytes > 0).then(|| format!("{}: the target read them in place", format_amount(bytes)))
}

pub fn compressed(report: &Report) -> Option<String> {
    let (ratio, wire) = (report.payload.compression_ratio?, format_amount(report.totals.wire_bytes));
    Some(format!("to {wire} on the wire: {ratio:.2} bytes of payload for each"))
}

pub fn pacing(report: &Report) -> Option<String> {
    let (target, ratio) = (report.pacing.target_bytes_per_second?, report.pacing.achieved_ratio?);
    let percent = (ratio * 10_000.0).floor() / 100.0;
    let late = format_counted(report.pacing.catch_up_records, "record");
    Some(format!("{percent:.2} % of {}, {late} sent late", format_rate_short(target)))
}

/// Where some records never came, and the largest response time is no number.
pub fn confirmed_max(report: &Report) -> String {
    let shown = |max: f64| format!(" (confirmed max {})", format_duration((max * 1e9).round() as u64));
    report.confirmed_max().map(shown).unwrap_or_default()
}

pub fn errors(report: &Report) -> Option<String> {
    let again = match report.totals.retries {
        0 => String::new(),
        count => format!("; {} sent again", format_counted(count, "block")),
    };
    Some(match (losses(&report.totals, &report.errors), report.confirmation) {
        (Some(losses), _) => format!("{losses}{again}"),
        (None, Confirmation::Target) => format!("none{again}"),
        (None, Confirmation::Kernel) => format!("none (nothing beyond the kernel confirms){again}"),
    })
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
pub fn clamped(report: &Report) -> Option<String> {
    let count = report.latency_seconds.response.records_clamped;
    let records = format_counted(count, "record");
    (count > 0).then(|| format!("{records} took an hour or more: nothing longer is told apart"))
}

pub fn not_sent(report: &Report) -> Option<String> {
    let count = report.totals.records_not_sent;
    (count > 0).then(|| format!("{} due but never submitted", format_counted(count, "record")))
}

pub fn audit(report: &Report) -> Option<String> {
    let count = report.totals.audit_lines_dropped;
    (count > 0).then(|| format!("{} dropped: the log could not keep up", format_counted(count, "line")))
}

pub fn governance(report: &Report) -> Option<String> {
    let told = report.governance.as_ref()?;
    let (posted, offered) = (format_count(told.posted), format_counted(told.events_offered, "event"));
    if told.posted == told.events_offered && told.not_announced == 0 {
        return Some(format!("{offered} posted, none dropped or refused"));
    }
    let unheard = match told.not_announced {
        0 => String::new(),
        calls => format!(", {} not taken", format_counted(calls, "call")),
    };
    Some(format!("{posted} of {offered} posted{unheard}; see the log"))
}

/// A core that asks without a pause takes all of its processor, however few the bytes.
pub fn mostly_polls(report: &Report) -> bool {
    let cpu = &report.cpu;
    let share_min = POLLING_SHARE_MIN * (cpu.user_seconds + cpu.system_seconds);
    cpu.polling_seconds.is_some_and(|polling| polling > share_min)
}

/// Where it says something of the bytes.
pub fn seconds_per_gigabyte(report: &Report) -> Option<f64> {
    report.cpu.seconds_per_gigabyte.filter(|_| !mostly_polls(report))
}

pub fn cpu(report: &Report) -> Option<String> {
    let cpu = &report.cpu;
    let all = cpu.user_seconds + cpu.system_seconds;
    if mostly_polls(report) {
        let is_busy = report.config.get("poll").and_then(Value::as_str) == Some("busy");
        let hint = if is_busy { "; --poll adaptive sleeps" } else { "" };
        return Some(format!("{all:.2} s (mostly polling{hint})"));
    }
    let lead = match cpu.seconds_per_gigabyte.filter(|_| report.totals.bytes_produced > 0) {
        Some(of) => format!("{of:.3} s/GB"),
        None => format!("{all:.2} s"),
    };
    Some(format!("{lead} (user {:.2} s, system {:.2} s)", cpu.user_seconds, cpu.system_seconds))
}
