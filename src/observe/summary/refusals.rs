//! What the targets said of what they did not take.

use crate::base::units::format_count;
use crate::counters::answers::{REFUSED_STATUSES_MAX, is_refusal};
use crate::observe::report::Report;
use crate::wire::http::status::status_line;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// What the targets said first of all when they did not take a request.
pub fn refused(report: &Report) -> Option<String> {
    let first: BTreeSet<_> = report.producers.iter().filter_map(|producer| producer.first_refused_status).collect();
    let lines: Vec<_> = first.into_iter().map(status_line).collect();
    (!lines.is_empty()).then(|| format!("first with {}", lines.join(", ")))
}

/// As `204 × 1,200,000, 429 × 31`, the most frequent first, where there is one that is no 2xx or that its body takes
/// back.
pub fn answers(report: &Report) -> Option<String> {
    let all = report.totals.answers.as_ref()?;
    let by_body = report.totals.answers_refused_by_body.filter(|count| *count > 0);
    let told = all.keys().any(|status| is_refusal(*status)) || by_body.is_some();
    let by_body = by_body.map(|count| format!("; in {} of the 2xx the text of --http-refused-by", format_count(count)));
    told.then(|| most_frequent(all) + &by_body.unwrap_or_default())
}

/// As `NOT_ENOUGH_REPLICAS × 31, REQUEST_TIMED_OUT × 2`, where there is one.
pub fn broker_errors(report: &Report) -> Option<String> {
    let all = report.totals.broker_errors.as_ref()?;
    (!all.is_empty()).then(|| most_frequent(all))
}

/// The same as a line of its own.
pub fn of_brokers(report: &Report) -> Option<String> {
    broker_errors(report).map(|errors| format!("with an error: {errors}"))
}

fn most_frequent<K: Display>(counts: &BTreeMap<K, u64>) -> String {
    let mut all: Vec<_> = counts.iter().collect();
    all.sort_by_key(|(_, count)| Reverse(**count));
    let shown = all.iter().take(REFUSED_STATUSES_MAX);
    let mut shown: Vec<_> = shown.map(|(key, count)| format!("{key} × {}", format_count(**count))).collect();
    if all.len() > shown.len() {
        shown.push(format!("{} more in the report", all.len() - shown.len()));
    }
    shown.join(", ")
}
