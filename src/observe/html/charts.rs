//! The three charts: rate and response over time, latency by percentile.

use super::series::{self, Column};
use super::svg::{Chart, Scale};
use super::{section, text};
use crate::observe::quantile::{decode, response_quantile_ns, seconds};
use crate::observe::report::{Distribution, Interval, Report};
use std::fmt::Write;

const TIME_AXIS: &str = "seconds since the measured part began";
/// What is shorter than this at the end of a run is too little time for a rate.
const TAIL_SECONDS_MIN: f64 = 0.1;
/// Points of a curve by percentile.
const CURVE_POINTS: u32 = 240;
/// Up to 99.9999 %.
const NINES_MAX: f64 = 6.0;

fn legend(entries: &[(&str, &str)]) -> String {
    let entry = |(class, words): &(&str, &str)| format!("<li><i class=\"key {class}\"></i>{words}</li>");
    format!("<ul class=\"legend\">{}</ul>\n", entries.iter().map(entry).collect::<String>())
}

fn note(words: &str) -> String {
    format!("<p class=\"note\">{words}</p>\n")
}

/// The intervals that are drawn: a last one of next to no time would be a spike or a hole.
fn drawn(report: &Report) -> &[Interval] {
    match report.intervals.as_slice() {
        [all @ .., last] if !all.is_empty() && last.seconds < TAIL_SECONDS_MIN => all,
        all => all,
    }
}

/// What stands below a chart over time that does not show each second for itself.
fn over_time_note(report: &Report) -> String {
    let mut words = Vec::new();
    let intervals = drawn(report);
    let shared = series::seconds_per_column(intervals);
    if shared > 1 {
        words.push(format!(
            "{} intervals are drawn in columns of {shared}, each from its lowest to its highest value; nothing is \
             averaged.",
            text::count(intervals.len() as u64)
        ));
    }
    let has_length = |last: &&Interval| last.records_produced > 0 && last.seconds > 0.0;
    if let Some(last) = report.intervals.get(intervals.len()).filter(has_length) {
        words.push(format!("The last {} are not drawn: too little time for a rate.", text::duration(last.seconds)));
    }
    if report.intervals_dropped > 0 {
        words.push(format!(
            "The first {} not in the report one by one.",
            match report.intervals_dropped {
                1 => "second is".to_owned(),
                more => format!("{} seconds are", text::count(more)),
            }
        ));
    }
    if words.is_empty() { String::new() } else { note(&words.join(" ")) }
}

/// The stretch of time that the intervals cover.
fn span(intervals: &[Interval]) -> Option<(f64, f64)> {
    let (first, last) = (intervals.first()?, intervals.last()?);
    let (from, to) = (first.start_seconds, last.start_seconds + last.seconds);
    (to > from).then_some((from, to))
}

fn time_scale((from, to): (f64, f64)) -> Scale {
    Scale::Linear { from, to }
}

fn time_ticks(chart: &mut Chart, scale: Scale) {
    for tick in scale.ticks() {
        // A step of less than a second has no more than two digits.
        let label = format!("{tick:.2}");
        chart.x_tick(tick, &format!("{} s", label.trim_end_matches('0').trim_end_matches('.')));
    }
}

pub fn rate(report: &Report) -> String {
    let intervals = drawn(report);
    let Some(span) = span(intervals) else {
        return section("Rate", &note("The report has no intervals."));
    };
    let time = time_scale(span);
    let columns = series::columns(intervals, |interval| {
        (interval.seconds > 0.0).then(|| interval.bytes_produced as f64 / interval.seconds)
    });
    let target = target(report, span);
    let asked = target.iter().flatten().map(|(_, rate)| *rate);
    let highest = highest(&columns).into_iter().chain(asked).fold(0.0, f64::max);
    let rate = Scale::from_zero(highest * 1.02);
    let mut chart = Chart::new("Payload produced for each second", (time, TIME_AXIS), (rate, "payload produced"));
    rate.ticks().into_iter().for_each(|tick| chart.y_tick(tick, &text::rate(Some(tick))));
    time_ticks(&mut chart, time);
    let lines = series::lines(&columns, series::seconds_per_column(intervals) == 1);
    chart.areas("rate", &lines);
    chart.lines("rate", &lines);
    chart.lines("target", &target);
    let lossy = series::columns(intervals, |interval| {
        let lost = interval.records_failed.saturating_add(interval.records_uncertain);
        let lost = lost.saturating_add(interval.records_not_sent);
        (lost > 0).then_some(lost as f64)
    });
    let mut entries = vec![("rate", "produced")];
    if !target.is_empty() {
        entries.push(("target", "target rate"));
    }
    if lossy.iter().any(|column| column.range.is_some()) {
        entries.push(("lossy", "records failed, uncertain or not sent in this time"));
    }
    for column in lossy.iter().filter(|column| column.range.is_some()) {
        chart.mark("lossy", column.start, column.end);
    }
    section("Rate", &[legend(&entries), chart.finish(), over_time_note(report)].concat())
}

/// The rate asked for over time: a line for each stretch of it that has one, with a step between two stages.
fn target(report: &Report, (from, to): (f64, f64)) -> Vec<Vec<(f64, f64)>> {
    let totals = &report.totals;
    if report.phases.is_empty() {
        let share = produced_share(totals.bytes_produced as f64, totals.logical_bytes_produced as f64);
        let level = report.pacing.target_bytes_per_second.map(|rate| vec![(from, rate * share), (to, rate * share)]);
        return level.into_iter().collect();
    }
    let mut lines = vec![Vec::new()];
    // Those of a merged report overlap, and the line would run backwards.
    let mut end_before = f64::NEG_INFINITY;
    for phase in &report.phases {
        let (start, end) = (phase.start_seconds.max(end_before), phase.end_seconds);
        if end <= start {
            continue;
        }
        end_before = end;
        let share = produced_share(phase.bytes_per_second, phase.logical_bytes_per_second);
        match phase.target_bytes_per_second.map(|rate| rate * share) {
            Some(rate) => {
                let line = lines.last_mut().expect("there is always a last line");
                line.extend([(start, rate), (end, rate)]);
            }
            None => lines.push(Vec::new()),
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// A target counts what records stand for; the chart what was produced.
fn produced_share(produced: f64, logical: f64) -> f64 {
    if logical > 0.0 { produced / logical } else { 1.0 }
}

fn highest(columns: &[Column]) -> Option<f64> {
    columns.iter().filter_map(|column| column.range).map(|range| range.high).reduce(f64::max)
}

/// One figure of an interval.
type Figure = fn(&Interval) -> Option<f64>;

pub fn response(report: &Report) -> String {
    let title = "Response time";
    let intervals = drawn(report);
    let of: [(&str, Figure); 3] = [
        ("max", |interval| interval.response_max),
        ("p99", |interval| interval.response_p99),
        ("p50", |interval| interval.response_p50),
    ];
    let all = of.map(|(class, of)| (class, series::columns(intervals, of)));
    let values = all.iter().flat_map(|(_, columns)| columns).filter_map(|column| column.range);
    let scale = Scale::log_around(values.flat_map(|range| [range.low, range.high]));
    let (Some(time), Some(scale)) = (span(intervals).map(time_scale), scale) else {
        return section(title, &note("The report has no response times second by second."));
    };
    let mut chart =
        Chart::new("Response time for each second", (time, TIME_AXIS), (scale, "due to confirmed, log scale"));
    scale.ticks().into_iter().for_each(|tick| chart.y_tick(tick, &text::duration(tick)));
    time_ticks(&mut chart, time);
    let steps = series::seconds_per_column(intervals) == 1;
    for (class, columns) in &all {
        let class = if steps { (*class).to_owned() } else { format!("{class} dense") };
        chart.lines(&class, &series::lines(columns, steps));
    }
    let entries = of.map(|(class, _)| (class, class));
    let gaps = all.iter().any(|(_, columns)| columns.iter().any(|column| column.range.is_none()));
    let gaps = match (gaps, report.is_merged()) {
        (false, _) => String::new(),
        (true, true) => note("Gaps: percentiles of several processes cannot be added."),
        (true, false) => note("Gaps: nothing was confirmed, or the percentile falls among records that never were."),
    };
    section(title, &[legend(&entries), chart.finish(), over_time_note(report), gaps].concat())
}

/// The latency at each percentile, the x axis spaced by nines.
fn curve(of: &Distribution, confirmed: u64, lost: u64, nines: f64) -> Result<Vec<(f64, f64)>, String> {
    let histogram = decode(&of.histogram)?;
    let at = |point: u32| {
        let x = nines * f64::from(point) / f64::from(CURVE_POINTS);
        let parts_per_million = (1e6 * (1.0 - 10f64.powf(-x))).round() as u32;
        response_quantile_ns(&histogram, confirmed, lost, parts_per_million).map(|ns| (x, seconds(ns)))
    };
    // Beyond the first record without confirmation there are only more of them.
    Ok((0..=CURVE_POINTS).map_while(at).filter(|(_, value)| *value > 0.0).collect())
}

pub fn by_percentile(report: &Report) -> String {
    let title = "Latency by percentile";
    let (produced, offered) = (report.totals.records_produced, report.totals.records_offered);
    let lost = offered.saturating_sub(produced);
    let nines = (produced.max(1) as f64).log10().ceil().clamp(2.0, NINES_MAX);
    let latency = &report.latency_seconds;
    let curves = curve(&latency.response, produced, lost, nines)
        .and_then(|response| Ok((response, curve(&latency.service, produced, 0, nines)?)));
    let (response, service) = match curves {
        Ok(curves) => curves,
        Err(_) => return section(title, &note("A histogram of the report cannot be read.")),
    };
    let Some(scale) = Scale::log_around(response.iter().chain(&service).map(|(_, value)| *value)) else {
        return section(title, &note("No record was confirmed."));
    };
    let axis = Scale::Linear { from: 0.0, to: nines };
    let mut chart = Chart::new("Latency by percentile", (axis, "percentile of records"), (scale, "latency, log scale"));
    scale.ticks().into_iter().for_each(|tick| chart.y_tick(tick, &text::duration(tick)));
    chart.x_tick(0.0, "0 %");
    chart.x_tick(2f64.log10(), "50 %");
    for at in 1..=nines as usize {
        let label = ["90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"][at - 1];
        chart.x_tick(at as f64, label);
    }
    chart.lines("service", &[service]);
    chart.lines("response", &[response]);
    let mut below = String::new();
    if lost > 0 {
        let _ = write!(below, "{}", note("The response curve ends where records that were never confirmed begin."));
    }
    if latency.response == latency.service {
        let _ = write!(below, "{}", note("Without a rate response and service time are the same."));
    }
    let entries = [("response", "response: due to confirmed"), ("service", "service: submitted to confirmed")];
    section(title, &[legend(&entries), chart.finish(), below].concat())
}
