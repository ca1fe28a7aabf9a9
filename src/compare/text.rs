//! The table for people.

use crate::base::limits::STAGES_TOLD_MAX;
use crate::base::units::{format_amount, format_count, format_duration, format_rate_short, format_significant};
use crate::compare::figures::{Figure, Unit};
use crate::compare::slo::Outcome;
use crate::compare::{Comparison, Difference, Side};
use serde_json::Value;
use std::fmt::Write;

const LABEL: usize = 16;
const VALUE: usize = 22;
/// A value of a setting; longer ones are cut, the JSON has them whole.
const SETTING_MAX: usize = 60;
/// What of two long values is the same before they part.
const ALIKE_SHOWN: usize = 20;
const NOTHING: &str = "–";

pub fn render(of: &Comparison) -> String {
    let mut out = String::new();
    for (letter, side) in [("A", &of.a), ("B", &of.b)] {
        let _ = writeln!(out, "{letter}  {}", one_line(&who(side)));
    }
    out.push('\n');
    for why in &of.not_comparable {
        let _ = writeln!(out, "not comparable: {}", one_line(why));
    }
    if !of.not_comparable.is_empty() {
        out.push('\n');
    }
    row(&mut out, "", "A", "B", "B/A");
    figures(&mut out, "", &of.figures);
    for stage in of.stages.iter().take(STAGES_TOLD_MAX) {
        let _ = writeln!(out, "stage {}, {}", stage.number, one_line(&stage.mode));
        figures(&mut out, "  ", &stage.figures);
    }
    let verdict = |side: &Side| side.report.verdict.limited_by.name().to_owned();
    row(&mut out, "limited by", &verdict(&of.a), &verdict(&of.b), "");
    let code = |side: &Side| side.report.exit_code.to_string();
    row(&mut out, "exit code", &code(&of.a), &code(&of.b), "");
    if !(of.a.report.slo.is_empty() && of.b.report.slo.is_empty()) {
        row(&mut out, "slo", &slo(&of.a), &slo(&of.b), "");
    }
    thresholds(&mut out, &of.slo);
    list(&mut out, "settings that differ", &of.config);
    list(&mut out, "host facts that differ", &of.host);
    out
}

fn who(side: &Side) -> String {
    let report = &side.report;
    let targets = report.config.get("target").map_or_else(|| NOTHING.to_owned(), setting);
    let early = report.ended_early.as_deref().and_then(|why| why.lines().next());
    let signal = || report.ended_by_signal.as_ref().map(|signal| format!(", ended by {signal}"));
    let early = early.map(|why| format!(", ended early: {why}")).or_else(signal).unwrap_or_default();
    format!(
        "{}: run {} to {targets}, {}, engine {}{early}",
        side.name, report.run_id, report.started_at, report.engine_version
    )
}

fn row(out: &mut String, label: &str, a: &str, b: &str, ratio: &str) {
    let line = format!("{label:LABEL$}{a:>VALUE$}{b:>VALUE$}{ratio:>12}");
    let _ = writeln!(out, "{}", line.trim_end());
}

fn figures(out: &mut String, indent: &str, all: &[Figure]) {
    for figure in all.iter().filter(|figure| figure.is_known()) {
        let ratio = figure.ratio().map_or(NOTHING.to_owned(), times);
        row(out, &format!("{indent}{}", figure.label), &value(figure, 0), &value(figure, 1), &ratio);
    }
}

fn slo(side: &Side) -> String {
    let all = &side.report.slo;
    match (all.len(), all.iter().filter(|slo| !slo.passed).count()) {
        (0, _) => "none".to_owned(),
        (_, 0) => "all met".to_owned(),
        (all, missed) => format!("{missed} of {all} missed"),
    }
}

/// Those of `--slo`, each with the ratio or why there is none.
fn thresholds(out: &mut String, all: &[Outcome]) {
    if all.is_empty() {
        return;
    }
    out.push_str("\nthresholds on B/A:\n");
    for Outcome { expression, ratio, passed, why, .. } in all {
        let word = if *passed { "met" } else { "missed" };
        let came = match ratio {
            Some(ratio) => format!("{ratio:.4}"),
            None => one_line(why.as_deref().unwrap_or(NOTHING)),
        };
        let _ = writeln!(out, "  {word:<7} {} ({came})", one_line(expression));
    }
}

/// `1.070`, `0.0031`, `120`.
fn times(ratio: f64) -> String {
    match ratio.abs() {
        0.0 => "0".to_owned(),
        small if small < 0.1 => format!("{ratio:.4}"),
        large if large >= 100.0 => format!("{ratio:.0}"),
        _ => format!("{ratio:.3}"),
    }
}

fn value(figure: &Figure, side: usize) -> String {
    if let Some(void) = figure.void[side] {
        return void.to_owned();
    }
    let Some(value) = [figure.a, figure.b][side] else { return NOTHING.to_owned() };
    match figure.unit {
        Unit::BytesPerSecond => format_rate_short(value),
        Unit::RecordsPerSecond if value < 10.0 => format_significant(value, 2),
        Unit::RecordsPerSecond | Unit::Records => format_count(value.round() as u64),
        Unit::Bytes => format_amount(value as u64),
        Unit::Seconds => format_duration((value * 1e9).round() as u64),
        Unit::SecondsPerGigabyte => format!("{value:.3} s/GB"),
        Unit::Deviation => format!("{:+.3} %", (value * 100_000.0).round() as i64 as f64 / 1000.0),
        // Never rounded up to 100 %.
        Unit::Ratio => format!("{:.3} %", (value * 100_000.0).floor() / 1000.0),
    }
}

fn list(out: &mut String, title: &str, all: &[Difference]) {
    if all.is_empty() {
        let _ = writeln!(out, "\n{title}: none");
        return;
    }
    let _ = writeln!(out, "\n{title}:");
    for one in all {
        let [a, b] = cut([&one.a, &one.b]);
        let _ = writeln!(out, "  {}: {a} | {b}", one_line(&one.key));
    }
}

/// Both whole where they are short; else from a little before the place where they part on.
fn cut([a, b]: [&Value; 2]) -> [String; 2] {
    let [a, b] = [a, b].map(|value| one_line(&setting(value)).chars().collect::<Vec<_>>());
    let alike = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let is_long = a.len().max(b.len()) > SETTING_MAX;
    let from = if is_long { alike.saturating_sub(ALIKE_SHOWN) } else { 0 };
    [a, b].map(|text| {
        let before = if from > 0 { "..." } else { "" };
        let behind = if text.len() > from + SETTING_MAX { "..." } else { "" };
        let shown: String = text.iter().skip(from).take(SETTING_MAX).collect();
        format!("{before}{shown}{behind}")
    })
}

fn setting(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(all) if all.iter().all(Value::is_string) => {
            all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// A report may come from anywhere: what it holds does not steer a terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
