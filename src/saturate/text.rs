//! What a search says: a table with a line for each run, the line while one is under way, and what came of it all.

use super::{Saturation, Tried, Try, run_above};
use crate::base::units;
use crate::observe::report::LimitedBy;
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
    let why = run.reason.as_deref().unwrap_or_default();
    let held = match run.held {
        None => "interrupted".to_owned(),
        Some(false) if run.confirmation => format!("not confirmed, did not last: {why}"),
        Some(false) => format!("did not hold: {why}"),
        Some(true) if run.rate_bytes_per_second.is_none() => "without a rate".to_owned(),
        Some(true) if run.confirmation => format!("confirmed: held for {:.0} s", run.paced_seconds),
        Some(true) => "held".to_owned(),
    };
    let failed = run.held == Some(false);
    let disturbed = run.disturbed_by.as_ref().filter(|_| failed).map(|by| format!(" ({by})")).unwrap_or_default();
    format!("{again}{held}{disturbed}")
}

/// `other work held the processors 40.00 % of the time`; `None`: not for so long that a rate would hold without it.
pub fn disturbed_by(stolen_ratio: Option<f64>) -> Option<String> {
    let stolen = stolen_ratio.filter(|ratio| *ratio >= verdict::STOLEN_SHARE_MAX)?;
    Some(format!("{} {} of the time", verdict::OTHER_WORK, verdict::percent(stolen)))
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
    let above = run_above(&result.tried, result.best());
    let reason = above.and_then(|run| run.reason.as_deref());
    let limit = match (result.limited_by, reason) {
        _ if result.is_max_rate => {
            let is_capped = result.is_capped_by_producers;
            let bound = if is_capped { "all that --producer-rate lets through" } else { "--max-rate" };
            format!(", which is {bound}: no higher rate was tried")
        }
        // That rate was kept; what did not hold is something else.
        (Some(LimitedBy::Rate), Some(reason)) => format!("; above it: {reason}"),
        (Some(who), _) => format!("; above it the limit is the {}", who.name()),
        (None, _) => String::new(),
    };
    let rate = result.best().map(|rate| units::format_rate(rate as f64));
    let cut_short = match (&result.error, result.interrupted) {
        (Some(_), _) => Some("ended by an error"),
        (None, true) => Some("interrupted"),
        (None, false) => None,
    };
    let found = match (rate, cut_short) {
        (Some(rate), Some(how)) => format!("{how}; the highest rate that held so far: {rate}"),
        (None, Some(how)) => format!("{how} before any rate had held"),
        (Some(rate), None) if result.confirmed && !result.is_judged() => {
            format!("not judged: {rate} held, but most runs were disturbed{limit}")
        }
        (Some(rate), None) if result.confirmed => format!("sustained: {rate}{limit}"),
        (Some(rate), None) => format!(
            "no rate lasted: {rate} held for a step, but was not confirmed, nor was what came after it{limit}\n\
             a longer --step-duration tells sooner what lasts"
        ),
        (None, None) => {
            let least = above.and_then(|run| run.rate_bytes_per_second);
            let least = least.map(|rate| format!(" ({})", units::format_rate_short(rate as f64))).unwrap_or_default();
            let why = reason.map(|why| format!(": {why}")).unwrap_or_default();
            format!("no rate held, not even --min-rate{least}{why}")
        }
    };
    let cached = match result.page_cache && result.best().is_some() {
        true => "\nthrough the page cache: the drive may be slower than what memory took; --direct=on asks the drive",
        false => "",
    };
    format!("{found}{cached}{}", disturbed(&result.tried))
}

/// Where it may have been the host that kept rates from holding.
fn disturbed(tried: &[Tried]) -> String {
    let runs = tried.iter().filter(|run| run.held == Some(false) && run.disturbed_by.is_some()).count();
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
    use crate::observe::wrap::broken_between_words;

    #[test]
    fn a_percentile_that_was_never_reached_is_no_dash() {
        let mut report = report(5.0, 0.0, None);
        report.latency_seconds.response.p50 = Some(0.001);
        report.latency_seconds.response.p99 = None;
        let shown = line(&judge(&report, at(1_000_000), None, 0));
        assert!(shown.contains("     1 ms      never  held"), "{shown}");
        report.pacing.achieved_ratio = Some(0.0);
        assert!(line(&judge(&report, at(1_000_000), None, 0)).contains("        -  did not hold: 0.00 % of the rate"));
    }

    #[test]
    fn the_columns_have_headings_and_each_run_its_kind() {
        let step = judge(&report(5.0, 0.0, None), at(120_000_000), None, 0);
        let ends = |text: &str, what: &str| text.rfind(what).map(|at| at + what.len());
        assert_eq!(line(&step).find("120 MB/s").map(|at| at + 8), ends(HEADING, "rate asked"));
        assert_eq!(ends(&line(&step), "120 MB/s"), ends(HEADING, "reached"));
        assert_eq!(line(&step).find("held"), HEADING.find("outcome"));
        let free = judge(&report(5.0, 0.0, None), Try { rate: None, ..at(0) }, None, 0);
        assert!(line(&free).contains("none        1 MB/s") && line(&free).ends_with("without a rate\n"));
        let confirms = Try { confirmation: true, ..at(120_000_000) };
        let mut short = report(5.0, 0.0, None);
        assert!(line(&judge(&short, confirms, None, 0)).ends_with("  confirmed: held for 5 s\n"));
        short.pacing.achieved_ratio = Some(0.9);
        let failed = line(&judge(&short, confirms, None, 0));
        assert!(failed.ends_with("  not confirmed, did not last: 90.00 % of the rate\n"), "{failed}");
        let again = line(&judge(&short, Try { second_try: true, ..at(120_000_000) }, None, 0));
        assert!(again.ends_with("  again: did not hold: 90.00 % of the rate\n"), "{again}");
    }

    #[test]
    fn what_was_reached_is_what_the_rate_is_judged_by() {
        let shown = |ratio: f64| {
            // Over the time of the drain as well it would be less.
            let mut report = report(5.1, 0.0, None);
            report.pacing.achieved_ratio = Some(ratio);
            report.throughput.logical_bytes_per_second = 706_800.0;
            line(&judge(&report, at(800_000), None, 0))
        };
        let short = shown(0.9646);
        assert!(short.contains("771.7 kB/s") && short.ends_with("did not hold: 96.46 % of the rate\n"), "{short}");
        // What is less than the rule asks for is not rounded up to it.
        assert!(shown(0.99496).ends_with("did not hold: 99.49 % of the rate\n"));
        assert!(shown(0.9975).contains("798 kB/s") && shown(0.9975).ends_with("  held\n"), "{}", shown(0.9975));
    }

    #[test]
    fn a_run_that_was_interrupted_neither_held_nor_failed() {
        let mut cut = report(1.0, 0.0, None);
        cut.verdict.limited_by = LimitedBy::Target;
        cut.verdict.stolen_ratio = Some(0.4);
        let confirms = Try { confirmation: true, ..at(2_000_000) };
        for next in [at(2_000_000), confirms, Try { rate: None, ..at(0) }] {
            let run = judge(&cut, next, None, 4).cut_short();
            assert!(line(&run).ends_with("  interrupted\n"), "{}", line(&run));
            let held = judge(&report(5.0, 0.0, None), at(1_000_000), None, 0);
            let found = conclude(&plan(&[]), &End::Interrupted, vec![held, run.clone()]);
            assert_eq!((found.sustained_bytes_per_second, found.held_bytes_per_second), (None, Some(1_000_000)));
            assert_eq!((&found.limited_by, found.tried[1].held), (&None, None));
            assert!(!summary(&found).contains(verdict::OTHER_WORK), "{}", summary(&found));
            let alone = conclude(&plan(&[]), &End::Interrupted, vec![run]);
            assert_eq!(summary(&alone), "interrupted before any rate had held");
        }
    }

    #[test]
    fn a_line_breaks_between_words_on_a_narrow_terminal() {
        let mut short = report(5.0, 0.0, None);
        short.pacing.achieved_ratio = Some(0.9);
        short.verdict.stolen_ratio = Some(0.4);
        let whole = line(&judge(&short, at(120_000_000), None, 0));
        let broken = broken_between_words(&whole, 80);
        assert!(whole.len() > 100 && broken.lines().all(|line| line.chars().count() <= 80), "{broken}");
        assert!(broken.split_whitespace().eq(whole.split_whitespace()), "{broken}");
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
        disturbed.pacing.achieved_ratio = Some(0.9);
        disturbed.verdict.stolen_ratio = Some(0.4);
        let tried = [(&disturbed, 2_000_000), (&report(5.0, 0.0, None), 1_000_000)];
        let tried: Vec<_> = tried.into_iter().map(|(report, rate)| judge(report, at(rate), None, 0)).collect();
        assert!(line(&tried[0]).contains("90.00 % of the rate (other work held the processors 40.00 %"));
        let said = summary(&conclude(&plan(&[]), &End::Found(Outcome::Confirmed(1_000_000)), tried));
        assert!(said.contains("\nother work held the processors in 1 run that did not hold"), "{said}");
        disturbed.verdict.stolen_ratio = Some(0.005);
        let calm = judge(&disturbed, at(2_000_000), None, 0);
        assert!(line(&calm).ends_with("  did not hold: 90.00 % of the rate\n"), "{calm:?}");
        assert!(!summary(&conclude(&plan(&[]), &End::Found(Outcome::Nothing), vec![calm])).contains("calm host"));
    }
}
