use super::*;
use crate::observe::report::{Interval, Phase};
use crate::observe::testing;
use serde_json::json;

/// Elements that are open at the end, or that were closed without being open.
fn unbalanced(page: &str) -> Vec<String> {
    let page = page.split_once("</style>").map_or(page, |(_, rest)| rest);
    let mut open: Vec<String> = vec!["html".into(), "head".into()];
    for tag in page.split('<').skip(1) {
        let name: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '/').collect();
        let (inside, _) = tag.split_once('>').expect("every tag ends");
        match name.strip_prefix('/') {
            Some(name) if open.last().is_some_and(|last| last == name) => drop(open.pop()),
            Some(name) => return vec![format!("</{name}> closes {open:?}")],
            None if inside.ends_with('/') || name == "br" => {}
            None => open.push(name),
        }
    }
    open
}

#[test]
fn the_page_has_a_row_for_each_stage() {
    let mut report = testing::report();
    assert!(!page(&report).contains("Stages"));
    let phase = Phase { number: 2, mode: "burst".into(), end_seconds: 2.0, records_offered: 1, ..Phase::default() };
    report.phases = vec![phase];
    let page = page(&report);
    assert_eq!(unbalanced(&page), [""; 0]);
    assert!(page.contains("<td class=\"num\">2</td><td>burst</td>"), "{page}");
    assert!(page.contains("<br><small>no target</small></td>") && !page.contains("not reached"), "{page}");
    assert!(!page.contains(" drain<"), "{page}");
    let drained_seconds = 2.1;
    report.phases[0] = Phase { records_failed: 1234, records_not_sent: 1, drained_seconds, ..report.phases[0].clone() };
    report.pacing.stages_planned = 3;
    let page = super::page(&report);
    assert!(page.contains("<br><small>1,234 failed<br>1 not sent</small></td>"), "{page}");
    assert!(page.contains("2 s<br><small>+2.1 s drain</small></td>"), "{page}");
    assert!(page.contains("<p class=\"note\">stages 2 to 3 were not reached</p>"), "{page}");
    assert_eq!(unbalanced(&page), [""; 0]);
    report.phases.clear();
    assert!(super::page(&report).contains("stages 1 to 3 were not reached"), "it ended in the warm-up");
}

#[test]
fn an_fsync_that_took_no_time_has_no_row() {
    let mut report = testing::report();
    for (seconds, rows) in [(0.0, 0), (0.000_004, 0), (0.25, 1)] {
        report.final_fsync_seconds = seconds;
        assert_eq!(page(&report).matches("final fsync").count(), rows, "{seconds} s");
    }
}

#[test]
fn the_target_rate_has_a_step_between_stages() {
    let mut report = testing::report();
    let second =
        |at: u64| Interval { start_seconds: at as f64, seconds: 1.0, bytes_produced: 7, ..Interval::default() };
    report.intervals = (0..4).map(second).collect();
    report.pacing.target_bytes_per_second = Some(100.0);
    let path = |report: &Report| {
        let page = page(report);
        let path = page.split_once("<path class=\"line target\" d=\"").map(|(_, rest)| rest.split_once('"').unwrap().0);
        path.map(str::to_owned)
    };
    let line = |report: &Report| path(report).map(|path| (path.matches('M').count(), path.matches('L').count()));
    assert_eq!(line(&report), Some((1, 1)), "one rate");
    let stage = |at: u64, rate| Phase {
        start_seconds: at as f64,
        end_seconds: (at + 1) as f64,
        target_bytes_per_second: rate,
        ..Phase::default()
    };
    report.phases = vec![stage(0, Some(5.0)), stage(1, Some(40.0)), stage(2, None), stage(3, Some(10.0))];
    assert_eq!(line(&report), Some((2, 4)), "a step, and a gap where there is no target");
    report.phases = vec![stage(0, None)];
    assert_eq!(line(&report), None);
    // Of processes that began at different times, and of which one ended early.
    let merged = |start_seconds, end_seconds| Phase { start_seconds, end_seconds, ..stage(0, Some(5.0)) };
    report.phases = vec![merged(0.0, 1.5), merged(1.0, 2.5), merged(1.5, 2.0), merged(2.0, 3.5)];
    let path = path(&report).unwrap();
    let points = path.split(['M', 'L']).skip(1);
    let xs: Vec<f64> = points.map(|point| point.split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(xs.len() == 6 && xs.is_sorted(), "it runs backwards: {path}");
}

#[test]
fn a_threshold_on_the_logical_rate_says_so() {
    let mut report = testing::report();
    report.slo[0].expression = "rate>=1GB/s".into();
    assert!(page(&report).contains("<code>rate&gt;=1GB/s</code><br><small>rate (logical): "));
    report.totals.logical_bytes_produced = report.totals.bytes_produced;
    assert!(!page(&report).contains("rate (logical)"));
}

#[test]
fn the_page_holds_the_figures_and_needs_nothing_else() {
    let report = testing::report();
    let page = page(&report);
    assert_eq!(unbalanced(&page), [""; 0]);
    for part in [
        "Run test-run",
        "Exit 1: records failed",
        "Limited by the target",
        "Ended early: /data has less than 2 GB free",
        "<code>p99.99&lt;1ms</code></td><td>1 ms</td>",
        "missed",
        "data/payloads.0.bin",
        "17 – 19, 40 – 41",
        "Settings in force (3)",
        "io 3, timeout 2",
        "never",
        "10 records due and never confirmed",
        "<p class=\"label\">Response max</p><p class=\"value \">never</p><p class=\"more\">confirmed max 2 ms; service",
        "never <small>confirmed 2 ms</small>",
        "prefers-color-scheme",
    ] {
        assert!(page.contains(part), "'{part}' is missing in:\n{page}");
    }
    for foreign in ["<script", "http://", "https://", "url(", "@import", "<link", "<img", "src="] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[test]
fn refusals_and_connections_made_again_are_told() {
    let mut report = testing::report();
    let quiet = page(&report);
    let absent =
        ["<th>refused</th>", "requests answered", "brokers answered", "connections made again", "TCP segments"];
    for absent in absent {
        assert!(!quiet.contains(absent), "{absent}");
    }
    report.producers[1].first_refused_status = Some(404);
    (report.totals.reconnects, report.totals.tcp_retransmits) = (3, Some(0));
    (report.totals.requests, report.totals.answers) = (Some(14), Some([(204, 13), (404, 1)].into()));
    report.totals.broker_errors = Some([("NOT_ENOUGH_REPLICAS".into(), 3)].into());
    let page = page(&report);
    for part in [
        "<th>refused</th><td>first with 404 Not Found</td>",
        "<th>requests answered</th><td>14: 204 × 13, 404 × 1</td>",
        "<th>errors that brokers answered</th><td>NOT_ENOUGH_REPLICAS × 3</td>",
        "<th>connections made again</th><td>3</td>",
        "<th>TCP segments sent again</th><td>0</td>",
    ] {
        assert!(page.contains(part), "'{part}' is missing in:\n{page}");
    }
    report.totals.records_offered = report.totals.records_produced;
    assert!(!super::page(&report).contains("confirmed max"), "the maximum is that of all");
}

#[test]
fn what_the_warm_up_lost_is_told() {
    let mut report = testing::report();
    assert!(!page(&report).contains("exit code 1, too"));
    report.warmup.totals.records_failed = 10;
    report.warmup.errors.insert("status".into(), 10);
    assert!(page(&report).contains("; 10 failed, 0 uncertain (status 10): these make the exit code 1, too</td>"));
}

#[test]
fn nothing_from_the_report_is_markup() {
    let evil = "<script>alert('\"&')</script>";
    let mut report = testing::report();
    report.run_id = evil.into();
    report.engine_version = evil.into();
    report.command = vec!["engine".into(), evil.into()];
    report.started_at = evil.into();
    report.config.insert(evil.into(), json!([evil, {evil: evil}]));
    report.host[evil] = json!(evil);
    report.host["findings"] = json!([{"item": evil, "verdict": evil, "subject": evil, "value": evil, "fix": [evil]}]);
    report.host["findings_fine"] = json!([evil]);
    report.payload.memory = evil.into();
    report.errors.insert(evil.into(), 1);
    report.warmup.errors.insert(evil.into(), 1);
    report.verdict.evidence.push(evil.into());
    report.slo[0].expression = evil.into();
    report.ended_early = Some(evil.into());
    report.ended_by_signal = Some(evil.into());
    report.governance = Some(crate::observe::report::Governance { url: evil.into(), ..Default::default() });
    report.producers[0].target = evil.into();
    report.producers[0].file = Some(evil.into());
    let page = page(&report);
    assert!(!page.contains("<script"), "{page}");
    assert_eq!(page.matches("&lt;script&gt;").count(), 28, "each of them is shown");
    assert_eq!(unbalanced(&page), [""; 0]);
}

#[test]
fn it_is_the_same_page_once_the_report_was_read_again() {
    let mut report = testing::report();
    // Figures whose shortest decimal a fast parser may read one bit off.
    report.throughput.bytes_per_second = 100_003_948.172_610_67;
    report.elapsed_seconds = 0.300_000_000_000_000_04;
    let folder = tempfile::tempdir().unwrap();
    let (json, first, second) =
        (folder.path().join("r.json"), folder.path().join("1.html"), folder.path().join("2.html"));
    crate::observe::write_report(&report, &ReportTarget::File(json.clone())).unwrap();
    write_page(&report, &ReportTarget::File(first.clone()), &|| false).unwrap();
    let read = crate::observe::read::report(&json).unwrap();
    write_page_again(&read, &ReportTarget::File(second.clone())).unwrap();
    assert!(std::fs::read(first).unwrap() == std::fs::read(second).unwrap());
}

fn with_intervals(count: u64) -> String {
    let mut report = testing::report();
    let second = |at: u64| Interval {
        start_seconds: at as f64,
        seconds: 1.0,
        bytes_produced: 1_000_000 + at,
        response_p50: Some(0.001),
        response_p99: Some(0.01),
        response_max: Some(0.1),
        ..Interval::default()
    };
    report.intervals = (0..count).map(second).collect();
    page(&report)
}

#[test]
fn runs_of_any_length_make_a_page() {
    assert!(with_intervals(0).contains("The report has no intervals"));
    assert!(!with_intervals(1).contains("drawn in columns"));
    let (short, long) = (with_intervals(300), with_intervals(10_000));
    assert!(long.contains("10,000 intervals are drawn in columns of 25"));
    assert!(long.len() < 2 * short.len(), "{} {}", long.len(), short.len());
    assert!(!long.contains("NaN"));
}

#[test]
fn a_last_moment_is_no_spike() {
    let mut report = testing::report();
    let second = Interval { seconds: 1.0, bytes_produced: 1000, ..Interval::default() };
    let moment = Interval {
        start_seconds: 1.0,
        seconds: 0.000_001,
        bytes_produced: 1000,
        records_produced: 1,
        ..Interval::default()
    };
    report.pacing.target_bytes_per_second = None;
    report.intervals = vec![second, moment];
    let drawn = page(&report);
    assert!(drawn.contains("The last 1 µs are not drawn") && !drawn.contains(">1 GB/s</text>"), "{drawn}");
    report.intervals[1].seconds = 0.0;
    assert!(!page(&report).contains("not drawn"), "no time at all is nothing to tell of");
}

#[test]
fn one_record_is_no_plural() {
    let mut report = testing::report();
    let totals = &mut report.totals;
    (totals.records_offered, totals.records_produced, totals.records_not_sent) = (2, 1, 1);
    totals.bytes_produced = 147_456;
    report.latency_seconds.response.records_clamped = 1;
    report.ended_early = Some("no key\n  mend: --key producer".into());
    let page = page(&report);
    for part in [
        "record of 2 offered",
        "record due, never submitted",
        "1 record due and never",
        "1 record took",
        "147.5 kB of",
        "no key</span></p>\n<p class=\"note\">mend: --key",
    ] {
        assert!(page.contains(part), "'{part}' is missing in:\n{page}");
    }
}

#[test]
fn what_a_merged_report_does_not_know_is_a_dash() {
    let mut report = testing::report();
    report.command = vec!["engine".into(), "merge".into()];
    report.pacing.target_bytes_per_second = None;
    report.pacing.achieved_ratio = None;
    report.cpu.seconds_per_gigabyte = None;
    report.config.insert("shard".into(), json!(null));
    report.host = json!(null);
    let blind = Interval { seconds: 1.0, bytes_produced: 7, ..Interval::default() };
    report.intervals = vec![blind.clone(), Interval { start_seconds: 1.0, ..blind }];
    report.latency_seconds.service.histogram = "AAAA".into();
    let page = page(&report);
    for part in [
        "<p class=\"label\">Target rate</p><p class=\"value \">–</p>",
        "<th>shard</th><td>–</td>",
        "no response times second by second",
        "A histogram of the report cannot be read",
        "no facts that its hosts share",
    ] {
        assert!(page.contains(part), "'{part}' is missing in:\n{page}");
    }
}
