use super::*;
use crate::base::words::Words;
use crate::counters::answers::{BodyRefusal, REFUSED_STATUSES_MAX};
use crate::counters::broker_errors::Refusal;
use crate::counters::{CoreState, Snapshot};
use crate::observe::logs::tests::capture;
use crate::observe::shared::RunState;
use crate::observe::testing::{self, SECOND};
use crate::plan::PhasePlan;

#[test]
fn the_live_line_leaves_out_what_does_not_fit() {
    let glance = Glance {
        progress: None,
        stage: None,
        now_bytes_per_second: 937_512_345.0,
        average_bytes_per_second: Some(937_412_345.0),
        target_bytes_per_second: Some(937_500_000),
        response_p99: P99::Ns(999_940_000),
        errors: 12_345,
        elapsed_ns: 0,
        left: Left::Ns(7_199_000_000_000),
        connections_down: (0, 64),
    };
    let line = glance.line();
    assert_eq!(line, "937.5 MB/s  avg 937.4 MB/s  of 937.5 MB/s  p99 999.9 ms  12,345 errors  1h59m left");
    let (now_bytes_per_second, average_bytes_per_second) = (2.3e9, Some(2.28e9));
    let round =
        Glance { now_bytes_per_second, average_bytes_per_second, response_p99: P99::Ns(13_000_000), ..glance.clone() };
    let shown = "2.30 GB/s  avg 2.28 GB/s  of 937.5 MB/s  p99 13.00 ms  12,345 errors  1h59m left";
    assert_eq!(round.line(), shown, "the line does not jump where digits are zeros");
    let healthy = Glance { errors: 0, ..glance.clone() };
    for (columns, shown) in [
        (80, "937.5 MB/s  avg 937.4 MB/s  of 937.5 MB/s  p99 999.9 ms  0 errors  1h59m left"),
        (60, "937.5 MB/s  p99 999.9 ms  0 errors  1h59m left"),
        (40, "937.5 MB/s  0 errors  1h59m left"),
        (20, "937.5 MB/s  0 errors"),
        (10, "937.5 MB/s"),
        (9, ""),
    ] {
        assert_eq!(healthy.line_within(columns), shown, "{columns}");
    }
    let down = Glance { connections_down: (12, 64), ..glance.clone() };
    for (columns, shown) in [
        (80, "937.5 MB/s  of 937.5 MB/s  12,345 errors  12 of 64 connections down  1h59m left"),
        (60, "937.5 MB/s  12,345 errors  12 of 64 connections down"),
        (40, "937.5 MB/s  12 of 64 connections down"),
        (20, "937.5 MB/s"),
    ] {
        assert_eq!(down.line_within(columns), shown, "{columns}");
    }
    let never = Glance { response_p99: P99::Never, ..healthy };
    assert_eq!(never.line_within(60), "937.5 MB/s  p99 never  0 errors  1h59m left");
    let target_bytes_per_second = None;
    let drains = Glance { progress: Some(DRAINING), errors: 1, target_bytes_per_second, ..glance };
    for (columns, shown) in [
        (80, "draining  937.5 MB/s  p99 999.9 ms  1 error  1h59m left at most"),
        (60, "draining  937.5 MB/s  1 error  1h59m left at most"),
        (40, "937.5 MB/s  1 error  1h59m left at most"),
        (20, "937.5 MB/s  1 error"),
    ] {
        assert_eq!(drains.line_within(columns), shown, "{columns}");
    }
}

#[test]
fn the_live_line_names_the_stage() {
    let second = Glance { stage: Some((2, 3, "burst")), left: Left::Ns(9_000_000_000), ..Glance::default() };
    let line = second.line();
    assert!(line.starts_with("stage 2/3  burst  ") && line.ends_with("  0 errors  9s left"), "{line}");
}

#[test]
fn no_part_comes_and_goes_with_the_digits_of_another() {
    let stage = Some((1, 3, "steady"));
    let low = Glance { stage, left: Left::Ns(9_000_000_000), ..Glance::default() };
    let average_bytes_per_second = Some(123e6);
    let mid = Glance { now_bytes_per_second: 22.47e6, response_p99: P99::Ns(1_230_000), ..low.clone() };
    let high = Glance { now_bytes_per_second: 999.9e6, response_p99: P99::Ns(999_900_000), ..low.clone() };
    for columns in 0..100 {
        let shown = |of: &Glance| {
            let line = Glance { average_bytes_per_second, ..of.clone() }.line_within(columns);
            ["stage 1/3", "steady", "avg", "0 errors", "9s left"].map(|part| line.contains(part))
        };
        assert!(shown(&low) == shown(&mid) && shown(&mid) == shown(&high), "{columns}");
    }
    assert_eq!(mid.line_within(58), "stage 1/3  22.47 MB/s  p99 1.23 ms  0 errors  9s left");
}

#[test]
fn an_interval_is_of_the_stage_that_had_most_of_it() {
    let mut run = testing::Run::new(1, 1, Some(1_000_000));
    run.replan(|plan| {
        plan.phases = vec![PhasePlan { duration_ns: 2 * SECOND, ..plan.phases[0].clone() }; 2];
        plan.phases[1].rate_bytes_per_second = Some(5_000_000);
        plan.producers[0].schedule = vec![plan.producers[0].schedule[0]; 2];
    });
    run.shared.start(run.now_ns());
    let mut ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
    let mut stage = |at_ns| {
        let glance = ticker.glance(at_ns, 1.0);
        (glance.stage.map(|(number, ..)| number), glance.target_bytes_per_second)
    };
    let (first, second) = ((Some(1), Some(1_000_000)), (Some(2), Some(5_000_000)));
    assert_eq!([2 * SECOND, 2 * SECOND + SECOND / 4, 3 * SECOND].map(&mut stage), [first, first, second]);
    let shared = ticker.shared.clone();
    let mut phase = |at_ns| {
        let lines = capture(LogFormat::Json, || {
            ticker.look_for_drain(at_ns);
            ticker.log_producers(at_ns, 1.0);
        });
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["event"], "interval");
        line["phase"].as_u64()
    };
    assert_eq!(phase(3 * SECOND), Some(2));
    shared.live.iter().for_each(|core| core.enter(CoreState::Done));
    shared.enter(RunState::Joined);
    assert_eq!(phase(3 * SECOND + SECOND / 2), Some(2), "what came before the drain, told after it");
    assert_eq!(phase(4 * SECOND + SECOND / 4), None, "the drain itself");
}

#[test]
fn a_target_that_is_away_shows() {
    let mut run = testing::Run::new(1, 1, None);
    run.replan(|plan| {
        plan.phases[0].duration_ns = u64::MAX;
        plan.producers[0].records_max = 100;
    });
    run.publish(0, 0, &[(Field::RecordsProduced, 50)]);
    let mut ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
    assert_eq!(ticker.glance(4 * SECOND, 1.0).left, Left::Ns(8 * SECOND), "nothing is folded yet");
    run.shared.outages.expect(2);
    run.shared.outages.lost();
    let glance = ticker.glance(5 * SECOND, 1.0);
    assert_eq!((glance.left, glance.connections_down), (Left::Unknown, (1, 2)));
    assert!(glance.line().ends_with("  1 of 2 connections down  – left"), "{}", glance.line());
    run.shared.outages.found();
    run.publish(0, 0, &[(Field::RecordsProduced, 60)]);
    let line = ticker.glance(6 * SECOND, 1.0).line();
    assert!(line.ends_with("  0 errors  10s left"), "{line}");
}

#[test]
fn the_average_is_of_the_same_reading_as_the_rate_now() {
    let mut run = testing::Run::new(1, 1, None);
    let now_and_average = |ticker: &mut Ticker, run: &testing::Run, bytes, at_ns, span| {
        run.publish(0, 0, &[(Field::LogicalBytesProduced, bytes)]);
        let glance = ticker.glance(at_ns, span);
        (glance.now_bytes_per_second, glance.average_bytes_per_second)
    };
    // Nothing is folded yet.
    let mut ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
    assert_eq!(now_and_average(&mut ticker, &run, 500, SECOND / 2, 0.5), (1000.0, Some(1000.0)));
    assert_eq!(now_and_average(&mut ticker, &run, 1500, SECOND, 0.5), (2000.0, Some(1500.0)));
    run.replan(|plan| {
        plan.phases.insert(0, PhasePlan { duration_ns: 4 * SECOND, warmup: true, ..plan.phases[0].clone() });
    });
    let mut ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
    assert_eq!(now_and_average(&mut ticker, &run, 4000, 4 * SECOND, 1.0).1, None);
    let mut warm = Snapshot::preallocated(0, 1, true);
    warm.at_ns = 4 * SECOND;
    warm.warm[0] = testing::counts(&[(Field::LogicalBytesProduced, 4000)]);
    run.shared.with_aggregate(|all| all.fold(&warm));
    assert_eq!(now_and_average(&mut ticker, &run, 4000, 4 * SECOND + SECOND / 2, 1.0).1, None, "too short a time");
    assert_eq!(now_and_average(&mut ticker, &run, 6000, 6 * SECOND, 1.5).1, Some(1000.0), "the warm-up left out");
}

#[test]
fn the_drain_counts_down_to_its_own_end() {
    let run = testing::Run::new(2, 1, Some(1_000_000));
    run.shared.start(run.now_ns());
    let mut ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
    let mut line = |at_ns| ticker.glance(at_ns, 1.0).line();
    run.shared.live[0].enter(CoreState::Draining);
    assert_eq!(line(2 * SECOND), "0 B/s  avg 0 B/s  of 1 MB/s  0 errors  8s left", "the other core goes on");
    run.shared.live[1].enter(CoreState::Draining);
    assert_eq!(line(3 * SECOND), "draining  0 B/s  0 errors  10s left at most");
    assert_eq!(line(6 * SECOND), "draining  0 B/s  0 errors  7s left at most");
    run.shared.live.iter().for_each(|core| core.enter(CoreState::Syncing));
    assert_eq!(line(14 * SECOND), "draining  0 B/s  0 errors  14s", "a final fsync has no time limit");
}

#[test]
fn json_has_one_line_for_each_producer_with_its_own_numbers() {
    let run = testing::Run::new(2, 2, Some(1_000_000));
    run.publish(0, 0, &[(Field::RecordsProduced, 7), (Field::BytesProduced, 700)]);
    run.publish(1, 1, &[(Field::RecordsProduced, 9), (Field::RecordsFailed, 2)]);
    let console = Console::new(LogFormat::Json);
    run.shared.start(run.now_ns());
    let mut ticker = Ticker::new(run.shared.clone(), console);
    let lines = capture(LogFormat::Json, || ticker.tick());
    let lines: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    let field = |name: &str| lines.iter().map(|line| line[name].clone()).collect::<Vec<_>>();
    assert_eq!(field("producer"), [0, 1, 2, 3]);
    assert_eq!(field("records"), [7, 0, 0, 9]);
    assert_eq!(field("errors"), [0, 0, 0, 2]);
    assert_eq!(field("audit_every"), [1000; 4]);
    assert_eq!(field("governance_every"), [0; 4]);
    let again = capture(LogFormat::Json, || ticker.tick());
    let first: serde_json::Value = serde_json::from_str(&again[0]).unwrap();
    assert_eq!(first["records"], 0, "an interval counts its own records");
    assert_eq!(capture(LogFormat::Json, || ticker.last(None)), Vec::<String>::new(), "nothing came after it");
    run.publish(0, 0, &[(Field::RecordsProduced, 12)]);
    let rest: serde_json::Value = serde_json::from_str(&capture(LogFormat::Json, || ticker.last(None))[0]).unwrap();
    assert_eq!(rest["records"], 5, "the lines of a log add up");
}

#[test]
fn the_time_that_closing_the_books_took_is_no_part_of_the_run() {
    let mut run = testing::Run::new(1, 1, Some(1_000_000));
    run.age(60 * SECOND);
    run.shared.start(run.now_ns() - 15 * SECOND);
    run.publish(0, 0, &[(Field::LogicalBytesProduced, 1000)]);
    let mut ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
    let lines = capture(LogFormat::Json, || {
        ticker.last(Some(10 * SECOND));
        ticker.stopped(Some(10 * SECOND));
    });
    let lines: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [interval, stop] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((&stop["event"], &stop["elapsed_seconds"]), (&"stop".into(), &10.0.into()));
    assert_eq!((&interval["elapsed_seconds"], &interval["rate_bytes_per_second"]), (&10.0.into(), &100.0.into()));
    run.publish(0, 0, &[(Field::RecordsFailed, 1)]);
    let late = capture(LogFormat::Json, || ticker.last(Some(9 * SECOND)));
    let late: serde_json::Value = serde_json::from_str(&late[0]).unwrap();
    assert!(late["elapsed_seconds"].as_f64().unwrap() >= 15.0, "dated back behind an interval: {late}");
}

#[test]
fn a_refusal_is_told_once_for_each_target_and_status() {
    let run = testing::Run::new(2, 2, Some(1_000_000));
    for (core, lane, status) in [(0, 0, 404), (0, 1, 503), (1, 0, 404)] {
        run.shared.live[core].lanes[lane].publish_refused(&[status]);
    }
    let mut ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
    let told = capture(LogFormat::Text, || ticker.refusals.tell(&ticker.shared));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("WARN") && told[0].contains("null: first refused answer: 404 Not Found"), "{told:?}");
    assert!(told[1].contains("null2: first refused answer: 503 Service Unavailable"), "{told:?}");
    run.shared.live[1].lanes[1].publish_refused(&[401]);
    let lines = capture(LogFormat::Json, || ticker.stopped(None));
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((&line["event"], &line["status"], &line["target"]), (&"refused".into(), &401.into(), &"null2".into()));
    assert_eq!(lines.len(), 2, "and that the run stopped: {lines:?}");
    assert!(lines[0].contains("null2: another refused answer: 401 Unauthorized"), "{lines:?}");
}

#[test]
fn what_a_body_takes_back_is_told_once_for_each_target() {
    let run = testing::Run::new(2, 2, Some(1_000_000));
    let mut ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
    for (core, lane, said) in [(0, 0, "\"errors\":true,\n\"items\""), (0, 1, "of the other target"), (1, 0, "no news")]
    {
        let mut words = Words::default();
        words.add(said.as_bytes());
        run.shared.live[core].lanes[lane].publish_body_refusal(&BodyRefusal { status: 200, words });
    }
    let told = capture(LogFormat::Text, || ticker.refusals.tell(&ticker.shared));
    let said = "first answer with the text of --http-refused-by: 200 OK: ";
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains(&format!("null: {said}\"\"errors\":true,\\n\"items\"\"")), "{told:?}");
    assert!(told[1].contains(&format!("null2: {said}\"of the other target\"")), "{told:?}");
    assert!(capture(LogFormat::Text, || ticker.refusals.tell(&ticker.shared)).is_empty());
}

#[test]
fn what_a_broker_refuses_is_told_once_for_each_target_and_error() {
    let run = testing::Run::new(2, 2, Some(1_000_000));
    let refusal = |code: i16, said: &str| {
        let mut words = Words::default();
        words.add(said.as_bytes());
        Refusal { code, words }
    };
    let publish = |core: usize, lane: usize, refusals: &[Refusal]| {
        run.shared.live[core].lanes[lane].publish_broker_refusals(refusals);
    };
    publish(0, 0, &[refusal(19, "two are missing")]);
    publish(0, 1, &[refusal(-1, "")]);
    publish(1, 0, &[refusal(19, "and again")]);
    let mut ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
    let told = capture(LogFormat::Text, || ticker.refusals.tell(&ticker.shared)).join("\n");
    assert_eq!((told.matches("WARN").count(), told.matches("refused batch: ").count()), (2, 2), "{told}");
    let line = "null: first refused batch: NOT_ENOUGH_REPLICAS (19): \"two are missing\"";
    assert!(told.contains(line) && told.contains("min.insync.replicas"), "{told}");
    assert!(told.contains("null2: first refused batch: UNKNOWN_SERVER_ERROR (-1)"), "{told}");
    publish(1, 1, &[refusal(999, "")]);
    publish(0, 1, &[refusal(-1, "other words"), refusal(-1, "")]);
    let lines = capture(LogFormat::Json, || ticker.refusals.tell(&ticker.shared));
    assert_eq!(lines.len(), 1, "what is new alone: {lines:?}");
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    let facts = (&line["event"], &line["code"], &line["error"], &line["target"]);
    assert_eq!(facts, (&"refused".into(), &999.into(), &"UNKNOWN".into(), &"null2".into()));
    assert!(lines[0].contains("null2: another refused batch: UNKNOWN (999)"), "{lines:?}");
    // Behind the one that each of these lanes has told.
    for (core, codes) in [(0, 101..=108), (1, 201..=208)] {
        publish(core, 0, &codes.map(|code| refusal(code, "")).collect::<Vec<_>>());
    }
    let told = capture(LogFormat::Text, || ticker.refusals.tell(&ticker.shared)).join("\n");
    assert_eq!(told.matches("refused batch: ").count(), REFUSED_STATUSES_MAX - 1, "so many of a target: {told}");
}

#[test]
fn only_so_many_statuses_of_a_target_are_told() {
    let run = testing::Run::new(1, 2, Some(1_000_000));
    let mut ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
    let all: Vec<u16> = (400..400 + REFUSED_STATUSES_MAX as u16).collect();
    let mut told = |lane: usize, statuses: &[u16]| {
        run.shared.live[0].lanes[lane].publish_refused(statuses);
        capture(LogFormat::Text, || ticker.refusals.tell(&ticker.shared)).len()
    };
    assert_eq!(told(0, &all[..2]), 2);
    assert_eq!(told(0, &all), REFUSED_STATUSES_MAX - 2, "what is new alone");
    assert_eq!(told(1, &[500]), 1, "of another target");
    assert_eq!(told(0, &[599]), 0, "it would be one too many");
}

#[test]
fn a_quota_is_told_once_for_each_target() {
    let run = testing::Run::new(1, 2, Some(1_000_000));
    let mut ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
    assert_eq!(capture(LogFormat::Text, || ticker.tell_quotas()), Vec::<String>::new());
    for answers in [1, 2] {
        run.publish(0, 0, &[(Field::ThrottledAnswers, answers), (Field::ThrottledMs, 500)]);
        let told = capture(LogFormat::Text, || ticker.tell_quotas());
        assert_eq!(told.len(), usize::from(answers == 1), "{told:?}");
        let words = "a broker holds this client back by a quota (throttle_time_ms)";
        assert!(told.iter().all(|told| told.contains("WARN") && told.contains(words)), "{told:?}");
    }
}

#[test]
fn time_left_takes_the_nearest_end() {
    let mut run = testing::Run::new(1, 1, None);
    run.publish(0, 0, &[(Field::RecordsProduced, 50)]);
    let total = run.shared.live_total();
    let left = |run: &testing::Run, advances| {
        let ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
        ticker.left(4 * SECOND, &total, &total, advances)
    };
    assert_eq!(left(&run, true), Left::Ns(6 * SECOND));
    run.replan(|plan| plan.producers[0].records_max = 100);
    assert_eq!(left(&run, true), Left::Ns(4 * SECOND));
    assert_eq!(left(&run, false), Left::Ns(6 * SECOND), "that end comes whatever the target does");
    run.replan(|plan| plan.phases[0].duration_ns = u64::MAX);
    assert_eq!(left(&run, false), Left::Unknown);
    run.replan(|plan| plan.producers[0].records_max = u64::MAX);
    assert_eq!(left(&run, true), Left::Endless);
}

#[test]
fn what_is_not_confirmed_brings_the_limits_nearer() {
    let mut run = testing::Run::new(1, 1, None);
    let left = |run: &testing::Run, ended: &[(Field, u64)]| {
        let counts = testing::counts(ended);
        Ticker::new(run.shared.clone(), Console::new(LogFormat::Json)).left(5 * SECOND, &counts, &counts, true)
    };
    run.replan(|plan| {
        plan.phases[0].duration_ns = u64::MAX;
        plan.producers[0].records_max = 100;
    });
    let half = [(Field::RecordsProduced, 25), (Field::BytesProduced, 2500), (Field::RecordsNotSent, 25)];
    let refused = [(Field::RecordsFailed, 40), (Field::RecordsUncertain, 10)];
    assert_eq!(left(&run, &half), Left::Ns(5 * SECOND));
    assert_eq!(left(&run, &refused), Left::Ns(5 * SECOND));
    run.replan(|plan| (plan.producers[0].records_max, plan.producers[0].bytes_max) = (u64::MAX, 10_000));
    assert_eq!(left(&run, &half), Left::Ns(5 * SECOND));
    assert_eq!(left(&run, &refused), Left::Unknown, "nothing tells how large they were");
    run.publish(0, 0, &refused);
    run.replan(|plan| plan.producers[0].records_max = 100);
    let mut ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
    assert!(matches!(ticker.glance(5 * SECOND, 1.0).left, Left::Ns(_)), "what is refused ends as well");
}

#[test]
fn what_the_warm_up_sends_brings_no_limit_nearer() {
    let mut run = testing::Run::new(1, 1, None);
    run.publish(0, 0, &[(Field::RecordsProduced, 100)]);
    run.replan(|plan| {
        plan.phases[0].duration_ns = u64::MAX;
        plan.phases.insert(0, PhasePlan { duration_ns: 4 * SECOND, warmup: true, ..plan.phases[0].clone() });
        plan.producers[0].records_max = 100;
    });
    let ticker = Ticker::new(run.shared.clone(), Console::new(LogFormat::Json));
    let total = run.shared.live_total();
    let left = |at_ns, measured: &Counts| ticker.left(at_ns, &total, measured, true);
    let none = Counts::default();
    assert_eq!(left(2 * SECOND, &none), Left::Ns(4 * SECOND), "2 s of it, and 100 records");
    assert_eq!(left(4 * SECOND, &none), Left::Ns(4 * SECOND), "100 records");
    let half = testing::counts(&[(Field::RecordsProduced, 50)]);
    assert_eq!(left(5 * SECOND, &half), Left::Ns(2 * SECOND + SECOND / 2));
    assert_eq!(left(8 * SECOND, &total), Left::Ns(0));
}
