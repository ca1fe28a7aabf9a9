use super::*;
use crate::observe::logs::tests::capture;
use crate::observe::report::{Cpu, Governance, Latency, Phase, SloResult};
use crate::observe::testing;
use crate::plan::TargetPlan;
use serde_json::Value;
use std::collections::BTreeMap;

fn render(report: &Report, plan: &RunPlan) -> String {
    super::render(report, plan, COLUMNS)
}

fn render_again(report: &Report, path: &Path) -> String {
    super::render_again(report, path, COLUMNS)
}

#[test]
fn the_fullest_summary_fits_a_screen() {
    let run = testing::full_run();
    let mut report = testing::report_of(&run);
    let told = Governance { events_offered: 12_000, posted: 9_998, not_announced: 1, ..Governance::default() };
    report.governance = Some(told.clone());
    let text = render(&report, &run.shared.plan);
    assert!(text.contains("governance  9,998 of 12,000 events posted, 1 call not taken"), "{text}");
    report.governance = Some(Governance { posted: 12_000, not_announced: 0, ..told });
    assert_eq!(lines::governance(&report).unwrap(), "12,000 events posted, none dropped or refused");
    assert!(text.lines().count() <= 21, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
    for part in [
        "produced    ",
        "p99.9",
        "errors",
        "io 3",
        "not sent",
        "audit       4 lines dropped",
        "limited by  the target: it took",
        "\nevidence    the longest gap between two turns was 40 ms\n",
        "missed: p99.99<1ms (never)",
        "data        data/ (32 MiB)",
        "verify with engine verify data/ --expect 'my report.json'",
        "report      my report.json",
    ] {
        assert!(text.contains(part), "'{part}' is missing in:\n{text}");
    }
}

#[test]
fn each_stage_has_its_line() {
    let run = testing::full_run();
    let mut report = testing::report_of(&run);
    let mut phase = Phase {
        number: 1,
        mode: "steady".into(),
        target_bytes_per_second: Some(1e8),
        end_seconds: 2.0,
        records_offered: 10,
        records_produced: 10,
        logical_bytes_per_second: 9.8e7,
        ..Phase::default()
    };
    phase.latency_seconds.response.max = Some(0.004);
    let second = Phase { number: 2, mode: "burst".into(), target_bytes_per_second: None, ..phase.clone() };
    report.phases = vec![phase, Phase { records_produced: 9, ..second }];
    let text = render(&report, &run.shared.plan);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "stage 1 steady for 2 s: 98 MB/s of 100 MB/s, 10 records; response p50 never, p99 never, p99.9 never, max 4 ms",
        "stage 2 burst for 2 s: 98 MB/s, 9 records; response p50 never, p99 never, p99.9 never, max never",
    ] {
        assert!(words.contains(part), "{text}");
    }
    let last = report.phases[1].clone();
    report.phases[1] = Phase { records_failed: 1234, records_not_sent: 2, drained_seconds: 2.1, ..last };
    report.pacing.stages_planned = 3;
    let text = render(&report, &run.shared.plan);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let last = "stage 2 burst for 2 s (+2.1 s drain): 98 MB/s, 9 records, 1,234 failed, 2 not sent; response";
    assert!(words.contains(last), "{text}");
    assert!(text.contains("\n            stage 3 was not reached\n"), "{text}");
    report.pacing.stages_planned = 7;
    assert!(render(&report, &run.shared.plan).contains(" stages 3 to 7 were not reached\n"));
    report.phases = vec![Phase::default(); 22];
    assert!(render(&report, &run.shared.plan).contains("            2 stages more in the report\n"));
}

#[test]
fn a_log_has_each_stage_before_the_summary() {
    let mut report = testing::report();
    report.slo.clear();
    let phase =
        Phase { number: 1, mode: "burst".into(), records_produced: 9, drained_seconds: 2.5, ..Phase::default() };
    report.phases = vec![phase.clone(), Phase { number: 2, ..phase }];
    let lines = capture(LogFormat::Json, || log_summary(&report));
    let lines: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<_> = lines.iter().map(|line| (line["event"].as_str(), line["number"].as_u64())).collect();
    assert_eq!(events, [(Some("stage"), Some(1)), (Some("stage"), Some(2)), (Some("summary"), None)]);
    assert_eq!((&lines[1]["mode"], &lines[1]["records_produced"]), (&"burst".into(), &9.into()));
    assert_eq!(lines[1]["drained_seconds"], 2.5);
}

#[test]
fn a_report_read_again_has_the_summary_of_its_run() {
    let run = testing::full_run();
    let report = testing::report_of(&run);
    let first = render(&report, &run.shared.plan);
    let again = render_again(&report, "my report.json".as_ref());
    assert_eq!(again, first);
}

#[test]
fn signed_records_are_checked_with_their_key() {
    let run = testing::full_run();
    let mut plan = RunPlan::clone(&run.shared.plan);
    plan.effective_config.insert("sign_key".into(), "my key.bin".into());
    let report = Report { config: plan.effective_config.clone(), ..testing::report_of(&run) };
    let text = render(&report, &plan);
    let whole = "verify with engine verify data/ --expect 'my report.json' --sign-key 'my key.bin'\n";
    assert!(text.contains(whole), "{text}");
    let again = render_again(&report, "r.json".as_ref());
    let whole = "verify with engine verify data/ --expect r.json --sign-key 'my key.bin'\n";
    assert!(again.contains(whole), "{again}");
}

#[test]
fn a_reader_that_left_is_told() {
    let mut report = testing::report();
    report.ended_early = None;
    assert!(!render_again(&report, "r.json".as_ref()).contains("\nended "));
    report.verdict.evidence.push(READER_LEFT.to_owned());
    let text = render_again(&report, "r.json".as_ref());
    assert!(text.contains("\nended       the reader closed its end, which ended the run\n"), "{text}");
}

#[test]
fn a_signal_that_ended_the_run_is_told() {
    let mut report = testing::report();
    // The drain took most of it.
    (report.ended_early, report.elapsed_seconds) = (None, 13.8);
    (report.pacing.paced_seconds, report.pacing.planned_seconds) = (Some(3.8), None);
    report.ended_by_signal = Some("SIGINT".into());
    let line = |report: &Report| {
        let text = render_again(report, "r.json".as_ref());
        text.lines().find(|line| line.starts_with("ended")).unwrap_or_default().to_owned()
    };
    assert_eq!(line(&report), "ended       by SIGINT after 3.8 s");
    report.pacing.planned_seconds = Some(10.0);
    assert_eq!(line(&report), "ended       by SIGINT after 3.8 s of 10 s");
    (report.pacing.paced_seconds, report.elapsed_seconds) = (None, 3.9);
    assert_eq!(line(&report), "ended       by SIGINT after 3.9 s of 10 s", "an older version did not look");
    report.ended_by_signal = None;
    assert_eq!(line(&report), "");
}

#[test]
fn processor_time_is_of_the_bytes_only_where_they_took_it() {
    let mut report = testing::report();
    report.cpu = Cpu { user_seconds: 1.5, system_seconds: 0.5, seconds_per_gigabyte: Some(4.0), polling_seconds: None };
    assert_eq!(lines::cpu(&report).unwrap(), "4.000 s/GB (user 1.50 s, system 0.50 s)");
    report.cpu.polling_seconds = Some(1.9);
    for target_bytes_per_second in [Some(1e6), None] {
        report.pacing.target_bytes_per_second = target_bytes_per_second;
        assert_eq!(lines::cpu(&report).unwrap(), "2.00 s (mostly polling)");
    }
    report.config.insert("poll".into(), "busy".into());
    assert_eq!(lines::cpu(&report).unwrap(), "2.00 s (mostly polling; --poll adaptive sleeps)");
    let logged = |report: &Report| {
        let lines = capture(LogFormat::Json, || log_summary(report));
        let line: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
        line["cpu_seconds_per_gigabyte"].clone()
    };
    assert_eq!(logged(&report), Value::Null);
    report.cpu.polling_seconds = Some(0.9);
    assert_eq!(logged(&report), 4.0);
    report.totals.bytes_produced = 0;
    assert_eq!(lines::cpu(&report).unwrap(), "2.00 s (user 1.50 s, system 0.50 s)");
}

#[test]
fn one_is_no_plural() {
    let mut report = testing::report();
    (report.totals.records_produced, report.totals.records_not_sent, report.totals.retries) = (1, 1, 1);
    (report.totals.audit_lines_dropped, report.pacing.catch_up_records) = (1, 1);
    report.throughput.records_per_second = 1.0;
    let text = render_again(&report, "r.json".as_ref());
    let parts =
        ["1 record,", ", 1 record/s\n", "1 record sent late", "1 record due", "1 line dropped", "; 1 block sent again"];
    for part in parts {
        assert!(text.contains(part), "'{part}' is missing in:\n{text}");
    }
}

#[test]
fn what_was_refused_says_how() {
    let mut report = testing::report();
    assert_eq!(refused(&report), None);
    report.producers[1].first_refused_status = Some(404);
    report.producers[0].first_refused_status = Some(503);
    let text = render_again(&report, "r.json".as_ref());
    assert!(text.contains("\nrefused     first with 404 Not Found, 503 Service Unavailable\n"), "{text}");
    assert!(!text.contains("\nanswers "), "{text}");
    report.totals.answers = Some([(200, 4), (204, 1_200_000)].into());
    assert_eq!(answers(&report), None, "all were taken");
    report.totals.answers_refused_by_body = Some(0);
    assert_eq!(answers(&report), None, "and no body says otherwise");
    report.totals.answers_refused_by_body = Some(1_003);
    let said = "204 × 1,200,000, 200 × 4; in 1,003 of the 2xx the text of --http-refused-by";
    assert_eq!(answers(&report).as_deref(), Some(said));
    report.totals.answers_refused_by_body = None;
    report.totals.answers = Some([(204, 1_200_000), (429, 31), (503, 2000)].into());
    let text = render_again(&report, "r.json".as_ref());
    assert!(text.contains("\nanswers     204 × 1,200,000, 503 × 2,000, 429 × 31\n"), "{text}");
    report.totals.answers = Some((400..411).map(|status| (status, 1)).collect());
    assert!(answers(&report).unwrap().ends_with("407 × 1, 3 more in the report"), "{:?}", answers(&report));
    report.totals.answers = None;
    report.totals.broker_errors = Some(BTreeMap::new());
    assert!(!render_again(&report, "r.json".as_ref()).contains("\nanswers "), "brokers took all");
    report.totals.broker_errors = Some([("NOT_LEADER".into(), 2), ("NOT_ENOUGH_REPLICAS".into(), 1031)].into());
    let text = render_again(&report, "r.json".as_ref());
    assert!(text.contains("\nanswers     with an error: NOT_ENOUGH_REPLICAS × 1,031, NOT_LEADER × 2\n"), "{text}");
}

#[test]
fn latencies_beyond_the_histogram_are_told() {
    let mut report = testing::report();
    assert_eq!(lines::clamped(&report), None);
    report.latency_seconds.response.records_clamped = 12_345;
    let text = render_again(&report, "r.json".as_ref());
    assert!(text.contains("12,345 records took an hour or more"), "{text}");
}

#[test]
fn no_report_steers_the_terminal() {
    let mut report = testing::report();
    report.run_id = "\u{1b}[2J".into();
    report.producers[0].file = Some("\u{1b}]0;x\u{7}".into());
    let text = render_again(&report, "\u{1b}c.json".as_ref());
    assert!(text.chars().all(|c| !c.is_control() || c == '\n'), "{text:?}");
}

#[test]
fn percentiles_among_lost_records_say_so() {
    let run = testing::full_run();
    let report = testing::report_of(&run);
    assert_eq!(report.latency_seconds.response.p999, None);
    let text = render(&report, &run.shared.plan);
    let response = text.lines().find(|line| line.starts_with("response")).unwrap();
    assert!(response.contains("never"), "{text}");
}

#[test]
fn on_a_narrow_terminal_labels_stand_above() {
    let report = testing::report();
    for columns in [30, 40, 55] {
        let text = super::render_again(&report, "r.json".as_ref(), columns);
        let commands = ["engine verify", "data/", "r.json"];
        let wide = |line: &&str| line.chars().count() >= columns && !commands.iter().any(|part| line.contains(part));
        assert_eq!(text.lines().find(wide), None, "{columns}:\n{text}");
        assert!(text.contains("\nerrors\n  3 failed, 2 uncertain"), "{text}");
        assert!(text.contains("\nservice\n  p50 1 ms, p99 1 ms,"), "{text}");
    }
    assert!(super::render_again(&report, "r.json".as_ref(), 56).contains("\nerrors      3 failed"));
}

#[test]
fn the_first_line_says_what_ran_where() {
    let text = render_again(&testing::report(), "r.json".as_ref());
    assert!(text.starts_with("run         test-run to null and null2, 2 producers on 1 core\n"), "{text}");
}

#[test]
fn notes_stand_below_the_verdict() {
    let mut report = testing::report();
    report.verdict.notes = vec!["other work held the processors 44.69 % of the time".into(), "and more".into()];
    let text = render_again(&report, "r.json".as_ref());
    let notes = "\nnote        other work held the processors 44.69 % of the time\nnote        and more\n";
    assert!(text.contains(notes), "{text}");
    let lines = capture(LogFormat::Json, || log_summary(&report));
    assert!(lines.last().unwrap().contains("44.69 % of the time; and more"), "{lines:?}");
}

#[test]
fn evidence_that_stands_nowhere_else_is_shown() {
    let mut report = testing::report();
    (report.pacing.target_bytes_per_second, report.pacing.achieved_ratio) = (Some(5e6), Some(0.9989));
    let met = rate_said(5e6, 0.9989);
    let idle = "the cores had nothing due 0.05 % of the time";
    let again = "1 connection made again, lost or closed in time";
    let shown = |report: &Report| {
        let text = super::render_again(report, "r.json".as_ref(), 200);
        let lines = text.lines().skip_while(|line| !line.starts_with("limited by"));
        lines.take_while(|line| !line.starts_with("slo")).map(str::to_owned).collect::<Vec<_>>()
    };
    report.verdict.limited_by = LimitedBy::Rate;
    report.verdict.evidence = [met.as_str(), idle, again, READER_LEFT].map(str::to_owned).into();
    let first = format!("limited by  the rate asked for: {met}");
    assert_eq!(shown(&report), [first, format!("evidence    {idle}"), format!("evidence    {again}")]);
    report.verdict.evidence = vec![idle.to_owned(), met];
    assert_eq!(shown(&report), [format!("limited by  the rate asked for: {idle}")], "pacing says the rest");
    report.verdict.evidence = (0..6).map(|at| format!("shard {at}")).collect();
    let lines = shown(&report);
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!(lines[3..], ["evidence    shard 3", "            2 more in the report"]);
    report.verdict.evidence.clear();
    assert_eq!(shown(&report), ["limited by  the rate asked for"]);
}

#[test]
fn data_without_facts_is_not_offered_to_verify() {
    let mut report = testing::report();
    report.config.insert("annotate".into(), "off".into());
    let text = render_again(&report, "r.json".as_ref());
    assert!(text.contains("data        data/ (32 MiB)\n") && !text.contains("verify with"), "{text}");
}

#[test]
fn files_that_grow_have_their_size_where_all_is_kept() {
    let mut report = testing::report();
    report.config.insert("preallocate".into(), Value::Null);
    for (warmup_bytes, retain, shown) in [
        (0, "all", "data        data/ (99 kB)\n"),
        (1_000, "all", "data        data/ (100 kB)\n"),
        (0, "3", "data        data/\n"),
    ] {
        report.warmup.totals.bytes_produced = warmup_bytes;
        report.config.insert("retain".into(), retain.into());
        let text = render_again(&report, "r.json".as_ref());
        assert!(text.contains(shown), "{shown}:\n{text}");
    }
    // A report is foreign input.
    report.warmup.totals.bytes_produced = u64::MAX;
    report.config.insert("retain".into(), "all".into());
    assert!(render_again(&report, "r.json".as_ref()).contains("data        data/ ("));
}

#[test]
fn a_topic_is_verified_with_the_report_and_its_login() {
    let mut run = testing::full_run();
    run.replan(|plan| plan.producers.iter_mut().for_each(|producer| producer.to = TargetPlan::Null));
    let mut report = testing::report();
    let topic = "kafka://localhost:9092/proof";
    for producer in &mut report.producers {
        (producer.target, producer.file, producer.retained_first_sequence) = (topic.into(), None, None);
    }
    report.config.insert("kafka_property".into(), vec!["security.protocol=SSL", "ssl.key.password=***"].into());
    report.config.insert("sasl_user".into(), "said elsewhere".into());
    let text = render_again(&report, "r.json".as_ref());
    let whole = format!("verify with engine verify {topic} --expect r.json --kafka-property security.protocol=SSL\n");
    assert!(text.contains(&whole) && !text.contains("\ndata "), "{text}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("given again: --kafka-config FILE with ssl.key.password "), "{text}");
    report.config.insert("kafka_property".into(), vec!["security.protocol=SSL"].into());
    assert!(!render_again(&report, "r.json".as_ref()).contains("given again"));
    let mut plan = RunPlan::clone(&run.shared.plan);
    plan.observe.report = None;
    assert!(!super::render(&report, &plan, COLUMNS).contains("verify with"), "a topic has other runs' records, too");
    for (key, value) in [("annotate", "off"), ("payload_template", "event.json")] {
        let mut report = report.clone();
        report.config.insert(key.into(), value.into());
        assert!(!render_again(&report, "r.json".as_ref()).contains("verify with"), "{key} {value}");
    }
}

#[test]
fn nothing_is_cut_but_with_a_sign() {
    let mut report = testing::report();
    let target = "kafka://127.0.0.1:32485,127.0.0.1:32486,127.0.0.1:32487/a-topic-with-a-long-name";
    report.producers.iter_mut().for_each(|producer| producer.target = target.into());
    report.errors =
        [("closed".to_owned(), 672_000), ("timeout".to_owned(), 213_000), ("refused".to_owned(), 99)].into();
    report.totals.retries = 17_000;
    let why =
        "topic t1: producer 0: the broker refuses these records, since the topic is compacted and they have no key";
    report.ended_early = Some(format!("{why}\n  mend: --key producer for a compacted topic, or another topic"));
    let text = render_again(&report, "r.json".as_ref());
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&text).contains(&format!("run test-run to {target}, 2 producers on 1 core produced")), "{text}");
    assert!(words(&text).contains("timeout 213,000); 17,000 blocks sent again"), "{text}");
    assert!(words(&text).contains(&format!("ended early {why} mend: --key producer")), "{text}");
    let mend = "\n            mend: --key producer for a compacted topic, or another topic\n";
    assert!(text.contains(mend), "a line of its own:\n{text}");
    let wide = |line: &&str| line.chars().count() > COLUMNS && !line.contains(target);
    assert_eq!(text.lines().find(wide), None, "{text}");
}

#[test]
fn what_the_warm_up_lost_is_told() {
    let mut report = testing::report();
    assert!(!render_again(&report, "r.json".as_ref()).contains("warm-up"));
    report.warmup.totals.records_failed = 10;
    report.warmup.errors = [("status".to_owned(), 10), ("io".to_owned(), 0)].into();
    let text = render_again(&report, "r.json".as_ref());
    let line = "\nwarm-up     10 failed, 0 uncertain (status 10): these make the exit code 1, too\n";
    assert!(text.contains(line), "{text}");
    let lines = capture(LogFormat::Json, || log_summary(&report));
    let summary: serde_json::Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!((&summary["records_failed"], &summary["warmup_records_failed"]), (&3.into(), &10.into()));
    assert_eq!(summary["warmup_records_uncertain"], 0);
}

#[test]
fn a_record_without_confirmation_is_slower_than_the_slowest() {
    let mut report = testing::report();
    let row = |report: &Report, label: &str| {
        let text = render_again(report, "r.json".as_ref());
        let row = text.lines().find(|line| line.starts_with(label)).unwrap().to_owned();
        row.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    let response = row(&report, "response");
    assert!(response.contains(" never never (confirmed max 2"), "10 of 1,000 are unconfirmed: {response}");
    assert!(row(&report, "service").ends_with(" ms"), "of those that were confirmed");
    report.totals.records_offered = report.totals.records_produced;
    assert!(row(&report, "response").ends_with(" ms"));
    (report.latency_seconds, report.totals.records_produced) = (Latency::default(), 0);
    assert_eq!(row(&report, "response"), "never never never never", "nothing was produced");
    report.totals.records_offered = 0;
    assert_eq!(row(&report, "response"), "- - - -", "nothing was offered");
}

#[test]
fn a_log_names_each_threshold_that_was_missed() {
    let mut report = testing::report();
    let met = SloResult { expression: "errors<=9".into(), value: Some(5.0), threshold: Some(9.0), passed: true };
    let rate = SloResult { expression: "rate>=1GB/s".into(), value: Some(5e6), threshold: Some(1e9), passed: false };
    report.slo.extend([met, rate]);
    let lines = capture(LogFormat::Json, || log_summary(&report));
    let lines: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [first, second, summary] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((&first["level"], &first["event"]), (&"WARN".into(), &"slo_missed".into()));
    assert_eq!((&first["expression"], &first["message"]), (&"p99.99<1ms".into(), &"missed p99.99<1ms (never)".into()));
    assert_eq!((&second["value"], &second["threshold"]), (&5e6.into(), &1e9.into()));
    assert_eq!(summary["slo_missed"], "p99.99<1ms (never), rate>=1GB/s (5 MB/s)");
    report.slo.iter_mut().for_each(|slo| slo.passed = true);
    let lines = capture(LogFormat::Json, || log_summary(&report));
    assert!(lines.len() == 1 && !lines[0].contains("slo_missed"), "{lines:?}");
}
