//! What a search says: a table with a line for each run, the line while one is under way, and what came of it all.

use super::{Saturation, Tried, Try, run_above};
use crate::base::units;
use crate::observe::verdict;
use std::time::Duration;

/// Over the lines of the runs.
pub const HEADING: &str = "      rate asked       reached        p50        p99  outcome\n";

/// `       120 MB/s      120 MB/s       1 ms       2 ms  held`.
pub fn line(run: &Tried) -> String {
    let rate = run.rate_bytes_per_second.map_or("none".to_owned(), |rate| units::format_rate_short(rate as f64));
    let reached = units::format_rate_short(run.achieved_bytes_per_second as f64);
    // Of so many records no answer came that there is no such percentile.
    let none = if run.achieved_bytes_per_second > 0 { "never" } else { "-" };
    let time = |seconds: Option<f64>| seconds.map_or(none.to_owned(), |s| units::format_duration((s * 1e9) as u64));
    let (p50, p99) = (time(run.response_p50_seconds), time(run.response_p99_seconds));
    format!("{rate:>16}  {reached:>12}  {p50:>9}  {p99:>9}  {}\n", outcome(run))
}

fn outcome(run: &Tried) -> String {
    let again = if run.second_try { "again: " } else { "" };
    let held = match (&run.reason, run.rate_bytes_per_second) {
        (Some(why), _) if run.confirmation => format!("not confirmed, did not last: {why}"),
        (Some(why), _) => format!("did not hold: {why}"),
        (None, None) => "without a rate".to_owned(),
        (None, Some(_)) if run.confirmation => format!("confirmed: held for {:.0} s", run.seconds),
        (None, Some(_)) => "held".to_owned(),
    };
    let disturbed = run.disturbed_by.as_ref().filter(|_| !run.held).map(|by| format!(" ({by})")).unwrap_or_default();
    format!("{again}{held}{disturbed}")
}

/// `run 4: confirming 120 MB/s, 12 s of 30 s`.
pub fn under_way(run: Try, elapsed: Duration) -> String {
    let what = match (run.rate.map(|rate| units::format_rate_short(rate as f64)), run.confirmation) {
        (None, _) => "without a rate".to_owned(),
        (Some(rate), false) => format!("trying {rate}"),
        (Some(rate), true) => format!("confirming {rate}"),
    };
    // With its start and its drain.
    let elapsed = elapsed.as_secs();
    format!("run {}: {what}, {elapsed} s of {}", run.number, units::format_duration(run.duration_ns))
}

pub fn summary(result: &Saturation) -> String {
    let above = run_above(&result.tried, result.sustained_bytes_per_second);
    let reason = above.and_then(|run| run.reason.as_deref());
    let limit = match (result.limited_by.as_deref(), reason) {
        _ if result.is_max_rate && result.confirmed => ", which is --max-rate: no higher rate was tried".to_owned(),
        // That rate was kept; what did not hold is something else.
        (Some("rate"), Some(reason)) => format!("; above it: {reason}"),
        (Some(who), _) => format!("; above it the limit is the {who}"),
        (None, _) => String::new(),
    };
    let rate = result.sustained_bytes_per_second.map(|rate| units::format_rate(rate as f64));
    let cut_short = match (&result.error, result.interrupted) {
        (Some(_), _) => Some("ended by an error"),
        (None, true) => Some("interrupted"),
        (None, false) => None,
    };
    let found = match (rate, cut_short) {
        (Some(rate), Some(how)) => format!("{how}; the highest rate that held so far: {rate}"),
        (None, Some(how)) => format!("{how} before any rate had held"),
        (Some(rate), None) if result.confirmed => format!("sustained: {rate}{limit}"),
        (Some(rate), None) => format!("{rate} held for a step, but nothing near it lasted{limit}"),
        (None, None) => {
            format!("not even the least rate held{}", reason.map(|why| format!(": {why}")).unwrap_or_default())
        }
    };
    format!("{found}{}", disturbed(&result.tried))
}

/// Where it may have been the host that kept rates from holding.
fn disturbed(tried: &[Tried]) -> String {
    let runs = tried.iter().filter(|run| !run.held && run.disturbed_by.is_some()).count();
    if runs == 0 {
        return String::new();
    }
    let runs = units::format_counted(runs as u64, "run");
    format!("\n{} in {runs} that did not hold: on a calm host the rate may be higher", verdict::OTHER_WORK)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, report};
    use super::super::{End, conclude, judge, search::Outcome, tests::plan};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_percentile_that_was_never_reached_is_no_dash() {
        let mut report = report(5.0, 0.0, None);
        report["latency_seconds"] = json!({"response": {"p50": 0.001, "p99": null}});
        let shown = line(&judge(&report, at(1_000_000), None, 0));
        assert!(shown.contains("     1 ms      never  held"), "{shown}");
        report["throughput"]["logical_bytes_per_second"] = json!(0);
        assert!(line(&judge(&report, at(1_000_000), None, 0)).contains("        -  held"));
    }

    #[test]
    fn the_columns_have_headings_and_each_run_its_kind() {
        let step = judge(&report(5.0, 0.0, None), at(120_000_000), None, 0);
        let ends = |text: &str, what: &str| text.find(what).map(|at| at + what.len());
        assert_eq!(ends(&line(&step), "120 MB/s"), ends(HEADING, "rate asked"));
        assert_eq!(ends(&line(&step), "1 MB/s"), ends(HEADING, "reached"));
        assert_eq!(line(&step).find("held"), HEADING.find("outcome"));
        let free = judge(&report(5.0, 0.0, None), Try { rate: None, ..at(0) }, None, 0);
        assert!(line(&free).contains("none        1 MB/s") && line(&free).ends_with("without a rate\n"));
        let confirms = Try { confirmation: true, ..at(120_000_000) };
        let mut short = report(5.0, 0.0, None);
        assert!(line(&judge(&short, confirms, None, 0)).ends_with("  confirmed: held for 5 s\n"));
        short["pacing"]["achieved_ratio"] = json!(0.9);
        let failed = line(&judge(&short, confirms, None, 0));
        assert!(failed.ends_with("  not confirmed, did not last: 90.0 % of the rate\n"), "{failed}");
        let again = line(&judge(&short, Try { second_try: true, ..at(120_000_000) }, None, 0));
        assert!(again.ends_with("  again: did not hold: 90.0 % of the rate\n"), "{again}");
    }

    #[test]
    fn a_run_under_way_says_how_far_it_is() {
        let confirms = Try { number: 4, confirmation: true, ..at(120_000_000) };
        assert_eq!(under_way(confirms, Duration::from_millis(2_900)), "run 4: confirming 120 MB/s, 2 s of 5 s");
        let free = Try { rate: None, ..confirms };
        assert_eq!(under_way(free, Duration::from_secs(1)), "run 4: without a rate, 1 s of 5 s");
    }

    #[test]
    fn a_host_that_took_part_is_named() {
        let mut disturbed = report(5.0, 0.0, None);
        disturbed["pacing"]["achieved_ratio"] = json!(0.9);
        disturbed["verdict"] = json!({"evidence": ["other work held the processors 40.00 % of the time"]});
        let tried = [(&disturbed, 2_000_000), (&report(5.0, 0.0, None), 1_000_000)];
        let tried: Vec<_> = tried.into_iter().map(|(report, rate)| judge(report, at(rate), None, 0)).collect();
        assert!(line(&tried[0]).contains("90.0 % of the rate (other work held the processors 40.00 %"));
        let said = summary(&conclude(&plan(&[]), &End::Found(Outcome::Confirmed(1_000_000)), tried));
        assert!(said.contains("\nother work held the processors in 1 run that did not hold"), "{said}");
    }
}
