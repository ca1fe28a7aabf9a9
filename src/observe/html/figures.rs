//! The key figures in large, and all percentiles.

use super::section;
use super::text::{self, NOTHING};
use crate::base::units::{format_counted, format_rate, format_records_per_second};
use crate::observe::report::{Distribution, Report};
use crate::observe::summary;
use std::fmt::Write;

struct Figure {
    label: &'static str,
    value: String,
    more: String,
    tone: &'static str,
}

fn figure(label: &'static str, value: String, more: String) -> Figure {
    Figure { label, value, more, tone: "" }
}

/// Red where there are any.
fn lost(label: &'static str, count: u64, how: &str) -> Figure {
    let tone = if count > 0 { "bad" } else { "" };
    Figure { label, value: text::count(count), more: format!("{} {how}", noun(count)), tone }
}

/// Of a count that stands elsewhere.
fn noun(count: u64) -> &'static str {
    if count == 1 { "record" } else { "records" }
}

pub fn figures(report: &Report) -> String {
    let all: Vec<Figure> = speed(report).into_iter().chain(latency(report)).chain(books(report)).collect();
    let mut out = String::from("<div class=\"cards\">\n");
    for Figure { label, value, more, tone } in all {
        let (value, unit) = value.split_once(' ').unwrap_or((&value, ""));
        let unit = if unit.is_empty() { String::new() } else { format!(" <small>{unit}</small>") };
        let _ = writeln!(
            out,
            "<div class=\"card\"><p class=\"label\">{label}</p><p class=\"value {tone}\">{value}{unit}</p>\
             <p class=\"more\">{more}</p></div>"
        );
    }
    out.push_str("</div>\n");
    out + &section("Latency", &percentiles(report))
}

fn speed(report: &Report) -> [Figure; 4] {
    let (throughput, pacing, cpu) = (&report.throughput, &report.pacing, &report.cpu);
    let bits = format_rate(throughput.bytes_per_second);
    let bits = bits.split_once('(').map_or("", |(_, bits)| bits.trim_end_matches(')'));
    let records = format_records_per_second(throughput.records_per_second);
    let logical = match report.totals.logical_bytes_produced == report.totals.bytes_produced {
        true => String::new(),
        false => format!("; stands for {}", text::rate(Some(throughput.logical_bytes_per_second))),
    };
    let (target, ratio) = match pacing.target_bytes_per_second {
        Some(_) => {
            ("of all producers together", format!("{} sent late", format_counted(pacing.catch_up_records, "record")))
        }
        None => ("none was asked for, or not of all", "needs a rate".to_owned()),
    };
    let spent = format!("user {:.2} s, system {:.2} s", cpu.user_seconds, cpu.system_seconds);
    let per_gigabyte = cpu.seconds_per_gigabyte.map_or(NOTHING.to_owned(), |of| format!("{of:.3} s/GB"));
    let (processor, spent) = match summary::mostly_polls(report) {
        true => (NOTHING.to_owned(), format!("{spent}, mostly polling")),
        false => (per_gigabyte, spent),
    };
    [
        figure("Rate", text::rate(Some(throughput.bytes_per_second)), format!("{bits}, {records}{logical}")),
        figure("Target rate", text::rate(pacing.target_bytes_per_second), target.to_owned()),
        figure("Due records produced", text::percent(pacing.achieved_ratio), ratio),
        figure("Processor time", processor, spent),
    ]
}

fn latency(report: &Report) -> [Figure; 4] {
    let (response, service) = (&report.response_to_show(), &report.latency_seconds.service);
    let offered = report.totals.records_offered;
    let one = |label, of: fn(&Distribution) -> Option<f64>| {
        let more = format!("service {}", text::percentile(of(service), offered));
        figure(label, text::percentile(of(response), offered), more)
    };
    let max = one("Response max", |of| of.max);
    let confirmed = report.confirmed_max().map(|max| format!("confirmed max {}; ", text::duration(max)));
    [
        one("Response p50", |of| of.p50),
        one("Response p99", |of| of.p99),
        one("Response p99.9", |of| of.p999),
        Figure { more: confirmed.unwrap_or_default() + &max.more, ..max },
    ]
}

fn books(report: &Report) -> [Figure; 4] {
    let totals = &report.totals;
    let sizes =
        format!("{} of payload, {} on the wire", text::amount(totals.bytes_produced), text::amount(totals.wire_bytes));
    let noun = noun(totals.records_produced);
    let offered = format!("{noun} of {} offered; {sizes}", text::count(totals.records_offered));
    [
        figure("Produced", text::count(totals.records_produced), offered),
        lost("Failed", totals.records_failed, "known not to have arrived"),
        lost("Uncertain", totals.records_uncertain, "sent, outcome unknown"),
        Figure { tone: "", ..lost("Not sent", totals.records_not_sent, "due, never submitted") },
    ]
}

fn percentiles(report: &Report) -> String {
    let latency = &report.latency_seconds;
    let rows = [
        ("Response", "due to confirmed", &report.response_to_show()),
        ("Service", "submitted to confirmed", &latency.service),
        ("Lateness", "due to submitted", &report.pacing.lateness_seconds),
    ];
    let names = text::distribution(&latency.response).map(|(name, _)| format!("<th class=\"num\">{name}</th>"));
    let confirmed = report.confirmed_max().map(|max| format!(" <small>confirmed {}</small>", text::duration(max)));
    let mut out = format!("<div class=\"scroll\"><table>\n<tr><th></th>{}</tr>\n", names.concat());
    for (name, what, of) in rows {
        let shown = |value| {
            if name == "Lateness" {
                text::known_duration(value)
            } else {
                text::percentile(value, report.totals.records_offered)
            }
        };
        let cells = text::distribution(of).map(|(column, value)| {
            let beside = confirmed.as_deref().filter(|_| (name, column) == ("Response", "max")).unwrap_or_default();
            format!("<td class=\"num\">{}{beside}</td>", shown(value))
        });
        let _ = writeln!(out, "<tr><th>{name} <small>{what}</small></th>{}</tr>", cells.concat());
    }
    out.push_str("</table></div>\n");
    let unconfirmed = report.records_unconfirmed();
    if unconfirmed > 0 {
        let _ = writeln!(
            out,
            "<p class=\"note\">{} due and never confirmed: slower than all others in each response percentile and \
             the maximum.</p>",
            format_counted(unconfirmed, "record")
        );
    }
    let clamped = latency.response.records_clamped;
    if clamped > 0 {
        let _ = writeln!(
            out,
            "<p class=\"note\">{} took an hour or more; nothing longer is told apart.</p>",
            format_counted(clamped, "record")
        );
    }
    out
}
