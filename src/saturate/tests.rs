use super::text::summary;
use super::*;
use crate::observe::report::SloResult;
use crate::observe::testing;

const SECOND_NS: u64 = 1_000_000_000;

/// A step at this rate.
pub(super) fn at(rate: u64) -> Try {
    let duration_ns = 5 * SECOND_NS;
    Try { number: 1, rate: Some(rate), confirmation: false, second_try: false, duration_ns }
}

/// Of a run that kept its rate, undisturbed.
pub(super) fn report(elapsed: f64, fsync: f64, ended_early: Option<&str>) -> Report {
    let mut report = testing::report();
    (report.elapsed_seconds, report.final_fsync_seconds) = (elapsed, fsync);
    report.ended_early = ended_early.map(str::to_owned);
    report.pacing.achieved_ratio = Some(1.0);
    report.pacing.paced_seconds = Some(elapsed - fsync);
    report.throughput.logical_bytes_per_second = 1e6;
    report.verdict.stolen_ratio = None;
    report
}

pub(super) fn plan(run_args: &[&str]) -> SaturatePlan {
    SaturatePlan {
        run_args: run_args.iter().map(|&arg| arg.to_owned()).collect(),
        rate_max_bytes_per_second: None,
        is_capped_by_producers: false,
        rate_min_bytes_per_second: 1,
        step_ns: 5 * SECOND_NS,
        confirm_ns: 5 * SECOND_NS,
        precision: 0.02,
        report: None,
        page_cache: false,
        notes: Vec::new(),
    }
}

#[test]
fn a_run_has_to_last_for_its_rate_to_hold() {
    for (elapsed, fsync, drain, why, how) in [
        (5.0, 0.0, 0.0, None, None),
        (4.6, 0.0, 0.0, None, None),
        (1.5, 0.0, 0.0, Some("no space"), Some("ended after 1.5 s of 5 s: no space")),
        (1.5, 0.0, 0.0, None, Some("ended after 1.5 s of 5 s: somebody else ended it")),
        (7.5, 6.0, 0.0, Some("no space"), Some("ended after 1.5 s of 5 s: no space")),
        // The rate was kept for as long as the pacing lasted, and no drain makes that longer.
        (5.5, 0.0, 4.0, None, Some("ended after 1.5 s of 5 s: somebody else ended it")),
        // That it had to end is no matter of its rate, however late it was paced.
        (4.75, 0.0, 0.0, Some("no space\nmend: more"), Some("ended after 4.75 s of 5 s: no space")),
    ] {
        let mut report = report(elapsed, fsync, why);
        report.pacing.paced_seconds = Some(elapsed - fsync - drain);
        let early = ended_early(&report, 5 * SECOND_NS);
        assert_eq!(early.as_deref(), how, "{elapsed} {fsync} {drain} {why:?}");
        let run = judge(&report, at(1_000_000), early, 0);
        assert_eq!(run.paced_seconds, elapsed - fsync - drain);
        assert_eq!((run.held, run.reason.as_deref(), run.ended_early.as_deref()), (Some(how.is_none()), how, how));
    }
}

/// As where a broker does not take in time what a rate has piled up: a lower one may hold.
#[test]
fn a_run_that_had_to_end_in_its_drain_is_judged() {
    let mut report = report(6.0, 0.0, Some("a batch was not delivered within 2 s\nmend: more"));
    report.pacing.paced_seconds = Some(5.0);
    (report.errors, report.warmup.errors) = Default::default();
    let early = ended_early(&report, 5 * SECOND_NS);
    assert_eq!(early, None);
    let run = judge(&report, at(1_000_000), early, 1);
    let reason = "exit 1: a batch was not delivered within 2 s";
    assert_eq!((run.held, run.reason.as_deref(), run.ended_early), (Some(false), Some(reason), None));
}

#[test]
fn what_was_found_before_an_error_is_kept() {
    let plan = plan(&[]);
    let held = judge(&report(5.0, 0.0, None), at(1_000_000), None, 0);
    let end = End::Failed(Fatal::new(Exit::Unreachable, "nobody answers"));
    let found = conclude(&plan, &end, vec![held]);
    assert_eq!((found.sustained_bytes_per_second, found.held_bytes_per_second), (None, Some(1_000_000)));
    assert_eq!((found.error.as_deref(), found.interrupted, found.exit_code), (Some("nobody answers"), false, 5));
    assert!(summary(&found).starts_with("ended by an error; the highest rate that held so far: 1 MB/s"));
    assert_eq!(summary(&conclude(&plan, &End::Interrupted, Vec::new())), "interrupted before any rate had held");
}

#[test]
fn what_was_lost_is_told_by_its_kind_and_part() {
    let mut report = report(5.0, 0.0, None);
    report.errors = [("broker", 0), ("timeout", 3), ("tls", 1)].map(|(kind, count)| (kind.to_owned(), count)).into();
    report.warmup.errors = [("broker", 0), ("status", 1_000)].map(|(kind, count)| (kind.to_owned(), count)).into();
    let reason = |report: &Report| judge(report, at(1_000_000), None, 1).reason;
    assert_eq!(reason(&report).as_deref(), Some("exit 1: timeout 3, tls 1; warm-up: status 1,000"));
    report.errors.clear();
    assert_eq!(reason(&report).as_deref(), Some("exit 1: warm-up: status 1,000"));
    report.warmup.errors.clear();
    assert_eq!(reason(&report).as_deref(), Some("exit 1"));
}

#[test]
fn a_rate_that_was_not_confirmed_is_not_called_sustained() {
    let step = judge(&report(5.0, 0.0, None), at(2_000_000), None, 0);
    let mut tired = report(5.0, 0.0, None);
    tired.pacing.achieved_ratio = Some(0.66);
    tired.verdict.limited_by = LimitedBy::Target;
    let confirmation = judge(&tired, Try { confirmation: true, ..at(2_000_000) }, None, 0);
    let found =
        conclude(&plan(&[]), &End::Found(Outcome::Unconfirmed(2_000_000)), vec![step.clone(), confirmation.clone()]);
    assert_eq!((found.sustained_bytes_per_second, found.held_bytes_per_second), (None, Some(2_000_000)));
    assert_eq!((found.confirmed, &found.limited_by, found.exit_code), (false, &Some(LimitedBy::Target), 4));
    let said = summary(&found);
    assert!(said.starts_with("no rate lasted: 2 MB/s") && said.contains("--step-duration"), "{said}");
    // What is confirmed below it is told, and beside it what held for a step.
    let lasting = judge(&report(5.0, 0.0, None), Try { confirmation: true, ..at(1_000_000) }, None, 0);
    let end = End::Found(Outcome::Confirmed(1_000_000));
    let found = conclude(&plan(&[]), &end, vec![step, confirmation, lasting]);
    assert_eq!((found.sustained_bytes_per_second, found.held_bytes_per_second), (Some(1_000_000), Some(2_000_000)));
}

/// Of runs at these rates, each with who limited it and the threshold that it missed.
fn found(outcome: Outcome, runs: &[(u64, LimitedBy, Option<&str>)]) -> String {
    let tried = runs.iter().map(|(rate, who, slo)| {
        let mut report = report(5.0, 0.0, None);
        report.verdict.limited_by = *who;
        let missed = |slo: &str| SloResult { expression: slo.to_owned(), value: None, threshold: None, passed: false };
        report.slo = slo.map(missed).into_iter().collect();
        judge(&report, at(*rate), None, if slo.is_some() { 4 } else { 0 })
    });
    summary(&conclude(&plan(&[]), &End::Found(outcome), tried.collect()))
}

#[test]
fn a_missed_threshold_is_the_limit_where_the_rate_was_kept() {
    let missed = Some("p99<1ms");
    let runs = [(2_000_000, LimitedBy::Target, missed), (1_000_000, LimitedBy::Rate, missed)];
    let nothing = found(Outcome::Nothing, &runs);
    assert_eq!(nothing, "no rate held, not even --min-rate (1 MB/s): missed p99<1ms");
    let [kept, not_kept] = [LimitedBy::Rate, LimitedBy::Target].map(|who| {
        found(Outcome::Confirmed(1_000_000), &[(2_000_000, who, missed), (1_000_000, LimitedBy::Rate, None)])
    });
    assert!(kept.starts_with("sustained: 1 MB/s") && kept.ends_with("; above it: missed p99<1ms"), "{kept}");
    assert!(not_kept.ends_with("; above it the limit is the target"), "{not_kept}");
}

#[test]
fn the_bound_of_the_search_is_no_limit_of_the_target() {
    let held = || vec![judge(&report(5.0, 0.0, None), at(1_000_000), None, 0)];
    let bounded = SaturatePlan { rate_max_bytes_per_second: Some(1_000_000), ..plan(&[]) };
    let found = conclude(&bounded, &End::Found(Outcome::Confirmed(1_000_000)), held());
    assert!(found.is_max_rate && summary(&found).ends_with(", which is --max-rate: no higher rate was tried"));
    let capped = SaturatePlan { is_capped_by_producers: true, ..bounded };
    let found = conclude(&capped, &End::Found(Outcome::Confirmed(1_000_000)), held());
    assert!(found.is_max_rate && summary(&found).contains("all that --producer-rate lets through"), "{found:?}");
    let found = conclude(&plan(&[]), &End::Found(Outcome::Confirmed(1_000_000)), held());
    assert!(!found.is_max_rate && !summary(&found).contains("--max-rate"), "{found:?}");
}

#[test]
fn what_the_page_cache_took_is_told_with_the_rate() {
    let held = || vec![judge(&report(5.0, 0.0, None), at(1_000_000), None, 0)];
    let end = End::Found(Outcome::Confirmed(1_000_000));
    for page_cache in [true, false] {
        let found = conclude(&SaturatePlan { page_cache, ..plan(&[]) }, &end, held());
        assert_eq!(serde_json::to_value(&found).unwrap()["page_cache"], page_cache);
        let said = summary(&found);
        assert!(said.starts_with("sustained: 1 MB/s"), "{said}");
        assert_eq!(said.contains("\nthrough the page cache: the drive may be slower"), page_cache, "{said}");
        let nothing = conclude(&SaturatePlan { page_cache, ..plan(&[]) }, &End::Found(Outcome::Nothing), Vec::new());
        assert!(!summary(&nothing).contains("page cache"), "no rate could be the cache's");
    }
}

#[test]
fn what_was_found_while_others_disturbed_most_runs_is_no_success() {
    let run = |rate: u64, ratio: f64, stolen: f64| {
        let mut report = report(5.0, 0.0, None);
        report.pacing.achieved_ratio = Some(ratio);
        report.verdict.stolen_ratio = Some(stolen);
        judge(&report, at(rate), None, 0)
    };
    let end = End::Found(Outcome::Confirmed(1_000_000));
    for (stolen, disturbed) in [(0.4, true), (0.01, false)] {
        let tried = vec![run(4_000_000, 0.8, stolen), run(2_000_000, 0.9, stolen), run(1_000_000, 1.0, 0.01)];
        let found = conclude(&plan(&[]), &end, tried);
        assert_eq!((found.disturbed, found.exit_code), (disturbed, u8::from(disturbed)));
        assert_eq!(found.sustained_bytes_per_second, Some(1_000_000), "it held all the same");
        let said = summary(&found);
        assert_eq!(said.starts_with("not judged: "), disturbed, "{said}");
        assert_eq!(said.contains("in 2 runs that did not hold"), disturbed, "{said}");
    }
    // What was asked for held, whoever took part.
    let bounded = SaturatePlan { rate_max_bytes_per_second: Some(1_000_000), ..plan(&[]) };
    for first in [0.9, 1.0] {
        let tried = vec![run(1_000_000, first, 0.4), run(1_000_000, 1.0, 0.4)];
        let found = conclude(&bounded, &end, tried);
        assert_eq!((found.exit_code, found.disturbed), (0, first < 1.0), "{first}");
        assert!(summary(&found).starts_with("sustained: "), "{first}");
    }
}

#[test]
fn what_others_took_of_the_processors_is_kept() {
    let mut report = report(5.0, 0.0, None);
    for (stolen, said) in [
        (Some(0.4), Some("other work held the processors 40.00 % of the time")),
        (Some(0.05), Some("other work held the processors 5.00 % of the time")),
        (Some(0.049), None),
        (None, None),
    ] {
        report.verdict.stolen_ratio = stolen;
        let run = judge(&report, at(1_000_000), None, 0);
        assert_eq!(run.disturbed_by.as_deref(), said, "{stolen:?}");
    }
}

#[test]
fn the_result_shows_no_credential_of_a_flag() {
    let run_args = ["--target", "http://localhost/?key=s3cret", "--http-header=X-Key: s3cret", "--seed", "7"];
    let result = conclude(&plan(&run_args), &End::Found(Outcome::Nothing), Vec::new());
    assert_eq!(result.run_args, ["--target", "http://localhost/", "--http-header=X-Key:***", "--seed", "7"]);
    assert!(!serde_json::to_string(&result).unwrap().contains("s3cret"));
}
