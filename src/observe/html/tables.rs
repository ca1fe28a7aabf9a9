//! Thresholds, producers, the rest of the books, host and settings as tables.

use super::section;
use super::text::{self, NOTHING, Text};
use crate::base::units::format_counted;
use crate::observe::report::{Phase, Producer, Report, SloResult};
use crate::observe::slo;
use crate::observe::summary::{self, stages};
use serde_json::{Map, Value};
use std::fmt::Write;

/// Rows of a table; the JSON has all.
const ROWS_MAX: usize = 1000;
/// Ranges of missing sequences that a row names.
const RANGES_NAMED_MAX: usize = 3;

/// A heading that starts with `#` stands over numbers.
fn table(head: &[&str], rows: &[String]) -> String {
    let cell = |name: &&str| match name.strip_prefix('#') {
        Some(name) => format!("<th class=\"num\">{name}</th>"),
        None => format!("<th>{name}</th>"),
    };
    let head: String = head.iter().map(cell).collect();
    let shown = rows.iter().take(ROWS_MAX).map(String::as_str);
    let body: Vec<&str> = shown.collect();
    let more = match rows.len().saturating_sub(ROWS_MAX) {
        0 => String::new(),
        more => format!("<p class=\"note\">{} more are in the JSON report.</p>\n", text::count(more as u64)),
    };
    format!("<div class=\"scroll\"><table>\n<tr>{head}</tr>\n{}</table></div>\n{more}", body.concat())
}

pub fn slos(report: &Report) -> String {
    if report.slo.is_empty() {
        return String::new();
    }
    let is_weighted = report.totals.logical_bytes_produced != report.totals.bytes_produced;
    let row = |slo: &SloResult| {
        let (tone, word) = if slo.passed { ("good", "passed") } else { ("bad", "missed") };
        // The large figure above is of what was sent.
        let what = match is_weighted && slo::is_rate(slo) {
            true => "<br><small>rate (logical): a record counts as many times as it stands for</small>",
            false => "",
        };
        format!(
            "<tr><td><code>{}</code>{what}</td><td>{}</td><td>{}</td>\
             <td><span class=\"chip {tone}\">{word}</span></td></tr>\n",
            Text(&slo.expression),
            slo.threshold.map_or_else(|| NOTHING.to_owned(), |held_to| slo_figure(slo, held_to)),
            slo_value(slo)
        )
    };
    let rows: Vec<_> = report.slo.iter().map(row).collect();
    // A shard is held to its part of what the expression says.
    section("Thresholds", &table(&["threshold", "held to", "value", "result"], &rows))
}

fn slo_value(slo: &SloResult) -> String {
    match slo.value {
        None if slo::is_response(slo) => "never: it falls among records without confirmation".to_owned(),
        None => NOTHING.to_owned(),
        Some(value) => slo_figure(slo, value),
    }
}

fn slo_figure(slo: &SloResult, value: f64) -> String {
    slo::figure(slo, value).replace(" us", " µs")
}

pub fn phases(report: &Report) -> String {
    let not_reached = stages::not_reached(report);
    if report.phases.is_empty() && not_reached.is_none() {
        return String::new();
    }
    // No more than a window of usual width takes: the JSON has the rest.
    let heads = ["#stage", "mode", "#time", "#rate", "#records"];
    let times = ["#response p50", "#p99", "#p99.9", "#max", "#service p50", "#p99", "#max"];
    let heads: Vec<_> = heads.into_iter().chain(times).collect();
    let rows: Vec<_> = report.phases.iter().map(phase).collect();
    let mut body = String::new();
    if !rows.is_empty() {
        let _ = write!(body, "<div class=\"tight\">\n{}</div>\n", table(&heads, &rows));
    }
    if let Some(line) = not_reached {
        let _ = writeln!(body, "<p class=\"note\">{line}</p>");
    }
    section("Stages <small>records count where their outcome became known</small>", &body)
}

fn phase(of: &Phase) -> String {
    let time = |seconds| text::percentile(seconds, of.records_offered);
    let (response, service) = (of.response_to_show(), &of.latency_seconds.service);
    let below = |more: &str| format!("<br><small>{more}</small>");
    let rate = text::rate(Some(of.logical_bytes_per_second));
    let asked = of.target_bytes_per_second.map(|rate| format!("of {}", text::rate(Some(rate))));
    let asked = below(asked.as_deref().unwrap_or("no target"));
    let drained = stages::drained(of).map(|drained| below(&drained)).unwrap_or_default();
    let lost = stages::lost(of).map(|lost| below(&lost.replace(", ", "<br>"))).unwrap_or_default();
    let figures = [
        format!("{} – {}{drained}", text::duration(of.start_seconds), text::duration(of.end_seconds)),
        format!("{rate}{asked}"),
        format!("{}{lost}", text::count(of.records_produced)),
        time(response.p50),
        time(response.p99),
        time(response.p999),
        time(response.max),
        text::known_duration(service.p50),
        text::known_duration(service.p99),
        text::known_duration(service.max),
    ];
    let figures = figures.map(|figure| format!("<td class=\"num\">{figure}</td>"));
    let (number, mode) = (of.number, Text(&of.mode));
    format!("<tr><td class=\"num\">{number}</td><td>{mode}</td>{}</tr>\n", figures.concat())
}

pub fn producers(report: &Report) -> String {
    let heads = [
        "#id",
        "#core",
        "target",
        "#offered",
        "#produced",
        "#failed",
        "#uncertain",
        "#not sent",
        "#payload",
        "#sequences",
        "#missing",
    ];
    let rows: Vec<_> = report.producers.iter().map(producer).collect();
    section("Producers <small>counts are records</small>", &table(&heads, &rows))
}

fn producer(of: &Producer) -> String {
    let file = of.file.as_ref().map(|file| format!("<br><small>{}</small>", Text(file))).unwrap_or_default();
    let sequences = match (of.first_sequence, of.last_sequence) {
        (Some(first), Some(last)) => format!("{first} – {last}"),
        _ => NOTHING.to_owned(),
    };
    let range =
        |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first} – {last}") };
    let named: Vec<_> = of.missing.iter().take(RANGES_NAMED_MAX).map(range).collect();
    let more = if of.missing.len() > RANGES_NAMED_MAX || of.missing_truncated { " …" } else { "" };
    let missing = if named.is_empty() { "none".to_owned() } else { format!("{}{more}", named.join(", ")) };
    let counts =
        [of.records_offered, of.records_produced, of.records_failed, of.records_uncertain, of.records_not_sent];
    let counts = counts.map(|count| format!("<td class=\"num\">{}</td>", text::count(count)));
    format!(
        "<tr><td class=\"num\">{}</td><td class=\"num\">{}</td><td>{}{file}</td>{}<td class=\"num\">{}</td>\
         <td class=\"num\">{sequences}</td><td class=\"num\">{missing}</td></tr>\n",
        of.id,
        of.core,
        Text(&of.target),
        counts.concat(),
        text::amount(of.bytes_produced)
    )
}

/// Errors by kind, refusals, retries, the warm-up, governance: what the large figures leave out.
pub fn books(report: &Report) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    let kinds: Vec<_> = report.errors.iter().filter(|(_, count)| **count > 0).collect();
    let kinds: Vec<_> = kinds.iter().map(|(kind, n)| format!("{} {}", Text(kind), text::count(**n))).collect();
    row("errors by kind, in records", if kinds.is_empty() { "none".into() } else { kinds.join(", ") });
    if let Some(first) = summary::refused(report) {
        row("refused", Text(&first).to_string());
    }
    if let Some(requests) = report.totals.requests {
        let by_status = summary::answers(report).map(|answers| format!(": {answers}")).unwrap_or_default();
        row("requests answered", format!("{}{by_status}", text::count(requests)));
    }
    if let Some(errors) = summary::broker_errors(report) {
        row("errors that brokers answered", Text(&errors).to_string());
    }
    row("blocks sent again", text::count(report.totals.retries));
    if report.totals.reconnects > 0 {
        row("connections made again", text::count(report.totals.reconnects));
    }
    if let Some(segments) = report.totals.tcp_retransmits {
        row("TCP segments sent again", text::count(segments));
    }
    if let Some(asked) = report.totals.throttled_seconds.filter(|asked| *asked > 0.0) {
        row("pauses that brokers asked for", text::duration(asked));
    }
    if report.totals.lent_bytes > 0 {
        row("read in place, not copied", text::amount(report.totals.lent_bytes));
    }
    row("audit lines dropped", text::count(report.totals.audit_lines_dropped));
    if report.final_fsync_seconds >= summary::FSYNC_SECONDS_MIN {
        row("final fsync", text::duration(report.final_fsync_seconds));
    }
    row("warm-up", warmup(report));
    let payload = &report.payload;
    let compressible = payload.compressibility_measured.map_or(NOTHING.to_owned(), |of| text::percent(Some(of)));
    let period = text::size(payload.repeat_period_bytes);
    row("payload", format!("{compressible} compressible, repeats after {period}, in {}", Text(&payload.memory)));
    if let Some(told) = &report.governance {
        let (posted, offered) = (text::count(told.posted), format_counted(told.events_offered, "event"));
        row("governance", format!("{posted} of {offered} posted to {}", Text(&told.url)));
    }
    section("More of the books", &pairs(&rows))
}

fn warmup(report: &Report) -> String {
    let warm = &report.warmup;
    if warm.seconds <= 0.0 {
        return "none".to_owned();
    }
    let losses = summary::warmup_losses(report).map(|losses| format!("; {}", Text(&losses)));
    format!(
        "{}: {} of {} produced, response p99 {}{}",
        text::duration(warm.seconds),
        text::count(warm.totals.records_produced),
        format_counted(warm.totals.records_offered, "record"),
        text::known_duration(warm.latency_seconds.response.p99),
        losses.unwrap_or_default()
    )
}

fn pairs(rows: &[(String, String)]) -> String {
    let row = |(name, value): &(String, String)| format!("<tr><th>{name}</th><td>{value}</td></tr>\n");
    format!(
        "<div class=\"scroll\"><table class=\"pairs\">\n{}</table></div>\n",
        rows.iter().map(row).collect::<String>()
    )
}

fn named(all: &Map<String, Value>, skip: &[&str]) -> String {
    let kept = all.iter().filter(|(key, _)| !skip.contains(&key.as_str()));
    let rows: Vec<_> = kept.map(|(key, value)| (Text(key).to_string(), fact(key, value))).collect();
    pairs(&rows)
}

/// With its unit, which the key's end tells.
fn fact(key: &str, value: &Value) -> String {
    match value.as_u64() {
        Some(bytes) if key.ends_with("_bytes") => text::size(bytes),
        _ => text::json(value),
    }
}

pub fn host(report: &Report) -> String {
    let Some(facts) = report.host.as_object() else {
        return section("Host", "<p class=\"note\">The report has no facts that its hosts share.</p>\n");
    };
    let mut out = named(facts, &["findings", "findings_fine"]);
    let findings = facts.get("findings").and_then(Value::as_array);
    let rows: Vec<_> = findings.into_iter().flatten().map(finding).collect();
    if !rows.is_empty() {
        let heads = ["verdict", "item", "value", "why it matters", "worth", "mend"];
        let _ = write!(out, "<h3>Findings</h3>\n{}", table(&heads, &rows));
    }
    if let Some(fine) = facts.get("findings_fine") {
        let _ = writeln!(out, "<p class=\"note\">Fine: {}</p>", text::json(fine));
    }
    section("Host", &out)
}

fn finding(of: &Value) -> String {
    let say = |key: &str| text::json(&of[key]);
    let tone = match of["verdict"].as_str() {
        Some("fatal") => "bad",
        Some("hint") => "warn",
        _ => "calm",
    };
    let subject = of["subject"].as_str().map(|subject| format!("<br><small>{}</small>", Text(subject)));
    let fixes = of["fix"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let fixes: Vec<_> = fixes.map(|fix| format!("<code>{}</code>", Text(fix))).collect();
    format!(
        "<tr><td><span class=\"chip {tone}\">{}</span></td><td>{}{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
        say("verdict"),
        say("item"),
        subject.unwrap_or_default(),
        say("value"),
        say("why"),
        say("worth"),
        if fixes.is_empty() { NOTHING.to_owned() } else { fixes.join("<br>or ") }
    )
}

pub fn config(report: &Report) -> String {
    let body = named(&report.config, &[]);
    format!("<details>\n<summary>Settings in force ({})</summary>\n{body}</details>\n", report.config.len())
}
