//! Which cause is told, and with which numbers.

use super::*;

const IN_FLIGHT: &str = "each producer had at most 1 request in flight";

struct Given {
    time: LoopTime,
    pacing: Pacing,
    totals: Totals,
    service: Distribution,
    elapsed_seconds: f64,
    records_submitted: u64,
    records_refused: u64,
    statuses: BTreeSet<u16>,
    connections_down: usize,
    closed: bool,
    signal: Option<&'static str>,
    in_flight: Option<String>,
    syncs_page_cache: bool,
}

fn judged(time: LoopTime, achieved: Option<f64>, change: impl FnOnce(&mut Given)) -> Verdict {
    let target_bytes_per_second = achieved.map(|_| 1e9);
    let mut given = Given {
        time,
        pacing: Pacing { target_bytes_per_second, achieved_ratio: achieved, ..Pacing::default() },
        totals: Totals::default(),
        service: Distribution::default(),
        elapsed_seconds: 6.8,
        records_submitted: 1,
        records_refused: 0,
        statuses: BTreeSet::new(),
        connections_down: 0,
        closed: false,
        signal: None,
        in_flight: Some(IN_FLIGHT.to_owned()),
        syncs_page_cache: false,
    };
    change(&mut given);
    judge(&Case {
        time: &given.time,
        pacing: &given.pacing,
        throughput: &Throughput { bytes_per_second: 5e8, ..Throughput::default() },
        service: &given.service,
        totals: &given.totals,
        elapsed_seconds: given.elapsed_seconds,
        records_submitted: given.records_submitted,
        records_refused: given.records_refused,
        statuses: given.statuses,
        connections_down: given.connections_down,
        closed: given.closed,
        signal: given.signal,
        in_flight: given.in_flight,
        syncs_page_cache: given.syncs_page_cache,
    })
}

fn verdict(time: LoopTime, achieved: Option<f64>) -> Verdict {
    judged(time, achieved, |_| {})
}

#[test]
fn each_cause_is_told_from_the_others() {
    let work = LoopTime { work_ns: 80, idle_ns: 10, kernel_ns: 10, cpu_ns: 90, ..LoopTime::default() };
    let polled = LoopTime { work_ns: 20, target_full_ns: 70, kernel_ns: 10, spun_ns: 70, cpu_ns: 100, ..work };
    let asleep = LoopTime { spun_ns: 0, cpu_ns: 30, ..polled };
    let copied = LoopTime { work_ns: 30, kernel_ns: 70, cpu_ns: 100, ..LoopTime::default() };
    let blocked = LoopTime { cpu_ns: 40, ..copied };
    // An adaptive core submits and waits in one call; its sends are the work of that call.
    let waits_seldom = LoopTime { work_ns: 10, target_full_ns: 90, cpu_ns: 95, ..LoopTime::default() };
    let both = LoopTime { work_ns: 20, stolen_ns: 10, target_full_ns: 80, cpu_ns: 10, ..LoopTime::default() };
    let bursts = LoopTime { work_ns: 10, target_full_ns: 10, idle_ns: 80, cpu_ns: 10, ..LoopTime::default() };
    let stolen = LoopTime { work_ns: 80, stolen_ns: 20, gap_max_ns: 30_000_000, ..LoopTime::default() };
    for (time, achieved, limited_by) in [
        (work, None, LimitedBy::Generator),
        (polled, None, LimitedBy::Target),
        (asleep, None, LimitedBy::Target),
        (copied, None, LimitedBy::Generator),
        (blocked, None, LimitedBy::Target),
        (waits_seldom, None, LimitedBy::Generator),
        (bursts, Some(0.9), LimitedBy::Target),
        (stolen, None, LimitedBy::Host),
        (both, None, LimitedBy::Target),
        (LoopTime { target_full_ns: 12, work_ns: 88, cpu_ns: 78, ..both }, None, LimitedBy::Host),
        (polled, Some(0.995), LimitedBy::Rate),
        (stolen, Some(1.0), LimitedBy::Rate),
        (polled, Some(0.99), LimitedBy::Target),
        (work, Some(0.5), LimitedBy::Generator),
    ] {
        assert_eq!(verdict(time, achieved).limited_by, limited_by, "{time:?} {achieved:?}");
    }
}

#[test]
fn evidence_carries_the_numbers() {
    let time = LoopTime { work_ns: 15, target_full_ns: 75, kernel_ns: 10, cpu_ns: 25, ..LoopTime::default() };
    let time = LoopTime { gap_max_ns: 2_000_000, ..time };
    let said = verdict(time, Some(0.98999)).evidence.join("\n");
    for part in ["1 GB/s", "98.99 %", "was not met", "500 MB/s", "75.00 %", "25.00 %", "2 ms"] {
        assert!(said.contains(part), "'{part}' is missing in: {said}");
    }
}

#[test]
fn a_reader_that_left_is_not_called_slow() {
    let idle = LoopTime { work_ns: 5, kernel_ns: 10, idle_ns: 85, ..LoopTime::default() };
    let full = LoopTime { work_ns: 5, target_full_ns: 85, idle_ns: 10, ..LoopTime::default() };
    for (time, closed, limited_by) in
        [(idle, true, LimitedBy::Rate), (full, true, LimitedBy::Target), (idle, false, LimitedBy::Target)]
    {
        let verdict = judged(time, Some(0.9), |given| given.closed = closed);
        assert_eq!(verdict.limited_by, limited_by, "{time:?}");
        assert_eq!(verdict.evidence.iter().any(|said| said.contains("reader closed")), closed);
    }
}

#[test]
fn a_run_without_time_has_a_verdict() {
    let verdict = verdict(LoopTime::default(), None);
    assert_eq!(verdict.limited_by, LimitedBy::Generator);
    assert!(verdict.evidence[0].contains("over before"), "{:?}", verdict.evidence);
}

#[test]
fn a_core_that_was_not_let_run_is_the_hosts() {
    // A busy core spins whenever it is let: what is missing of its processor time had others.
    let time = LoopTime { turns: 1, work_ns: 2, idle_ns: 98, spun_ns: 98, cpu_ns: 60, ..LoopTime::default() };
    let starved = verdict(time, Some(0.9));
    assert_eq!(starved.limited_by, LimitedBy::Host);
    assert!(starved.evidence[0].contains("other work held the processors 40.00 % of the time"), "{starved:?}");
    // An adaptive one sleeps, and wakes too late for what is due.
    let asleep = LoopTime { spun_ns: 0, cpu_ns: 3, gap_max_ns: 600_000_000, ..time };
    let late = verdict(asleep, Some(0.9));
    assert_eq!(late.limited_by, LimitedBy::Host);
    assert!(late.evidence[0].contains("did not run when something was") && late.evidence[0].contains("600 ms"));
    assert_eq!(verdict(LoopTime { cpu_ns: 100, ..time }, Some(1.0)).limited_by, LimitedBy::Rate);
}

#[test]
fn a_rate_that_was_met_does_not_hide_a_starved_generator() {
    let time = LoopTime { turns: 1, work_ns: 2, idle_ns: 98, spun_ns: 98, cpu_ns: 60, ..LoopTime::default() };
    let starved = verdict(time, Some(1.0));
    let note = "other work held the processors 40.00 % of the time, so that latencies are the host's";
    assert_eq!((starved.limited_by, starved.notes.as_slice()), (LimitedBy::Rate, &[note.to_owned()][..]));
    assert!((starved.stolen_ratio.unwrap() - 0.4).abs() < 1e-9);
    let time = LoopTime { cpu_ns: 100, ..time };
    let late = |records_late| {
        judged(time, Some(1.0), |given| {
            (given.totals.records_offered, given.pacing.catch_up_records) = (100, records_late);
        })
    };
    assert_eq!(late(51).notes, ["51.00 % of the records were sent late, and response times count that wait"]);
    assert_eq!(late(4).notes, Vec::<String>::new());
}

#[test]
fn a_target_that_waited_for_answers_says_how_much_was_in_flight() {
    let waits = LoopTime { turns: 1, target_full_ns: 60, work_ns: 30, kernel_ns: 10, ..LoopTime::default() };
    let waits = LoopTime { spun_ns: 60, cpu_ns: 100, ..waits };
    let said = verdict(waits, None);
    assert_eq!((said.limited_by, said.notes), (LimitedBy::Target, vec![IN_FLIGHT.to_owned()]));
    let seldom = verdict(LoopTime { target_full_ns: 30, spun_ns: 30, work_ns: 60, ..waits }, None);
    assert_eq!((seldom.limited_by, seldom.notes), (LimitedBy::Target, vec![]), "it was held up by other things");
    // Others have the processor in a call: the evidence counts that as a wait, and so does the note.
    let preempted = LoopTime { target_full_ns: 45, kernel_ns: 35, work_ns: 20, spun_ns: 45, cpu_ns: 75, ..waits };
    let said = verdict(preempted, None);
    assert!(said.evidence[0].contains("waited for it 70.00 %"), "{:?}", said.evidence);
    assert_eq!(said.notes, [IN_FLIGHT]);
}

#[test]
fn files_that_were_not_ready_are_told_from_a_slow_target() {
    let waits = LoopTime { turns: 1, target_full_ns: 80, spun_ns: 80, work_ns: 20, cpu_ns: 100, ..LoopTime::default() };
    let said = verdict(LoopTime { file_wait_ns: 30, ..waits }, None);
    let note =
        "the next file was not ready 30.00 % of the time: a larger --rotate-size-mb, or --preallocate, needs fewer";
    assert_eq!((said.limited_by, said.notes), (LimitedBy::Target, vec![note.to_owned()]));
    assert_eq!(verdict(LoopTime { file_wait_ns: 4, ..waits }, None).notes, [IN_FLIGHT], "seldom");
    let works = LoopTime { target_full_ns: 10, spun_ns: 10, work_ns: 90, file_wait_ns: 10, ..waits };
    let said = verdict(works, None);
    assert!(said.limited_by == LimitedBy::Generator && said.notes[0].contains("not ready 10.00 %"), "{said:?}");
    assert_eq!(verdict(works, Some(1.0)).notes, Vec::<String>::new(), "the rate was met");
}

#[test]
fn larger_files_are_not_advised_where_the_drive_takes_no_more() {
    let waits = LoopTime { turns: 1, target_full_ns: 80, spun_ns: 80, work_ns: 20, cpu_ns: 100, ..LoopTime::default() };
    let time = LoopTime { file_wait_ns: 30, ..waits };
    let said = judged(time, None, |given| given.syncs_page_cache = true);
    let note = "full files were not on the drive yet (fsync) 30.00 % of the time: the drive takes no more";
    assert_eq!((said.limited_by, said.notes), (LimitedBy::Target, vec![note.to_owned()]));
}

#[test]
fn more_in_flight_is_not_advised_to_who_lost_records_connections_or_time() {
    let waits = LoopTime { turns: 1, target_full_ns: 80, spun_ns: 80, work_ns: 20, cpu_ns: 100, ..LoopTime::default() };
    let notes = |change: fn(&mut Given)| {
        let said = judged(waits, None, change);
        assert_eq!(said.limited_by, LimitedBy::Target);
        said.notes
    };
    let troubles: [fn(&mut Given); 8] = [
        |given| given.records_refused = 1,
        |given| given.statuses = [429].into(),
        |given| given.totals.records_failed = 1,
        |given| given.totals.records_uncertain = 1,
        |given| given.totals.retries = 1,
        |given| given.totals.throttled_answers = Some(1),
        |given| given.connections_down = 1,
        |given| (given.service.p50, given.service.max) = (Some(0.000_1), Some(4.0)),
    ];
    for (at, trouble) in troubles.into_iter().enumerate() {
        assert_eq!(notes(trouble), Vec::<String>::new(), "{at}");
    }
    assert_eq!(notes(|_| {}), [IN_FLIGHT]);
    assert_eq!(notes(|given| given.totals.reconnects = 20), [IN_FLIGHT], "closed in order");
    let slow = |given: &mut Given| (given.service.p50, given.service.max) = (Some(2.0), Some(4.0));
    assert_eq!(notes(slow), [IN_FLIGHT], "it is always so slow");
    let hiccup = |given: &mut Given| (given.service.p50, given.service.max) = (Some(0.000_1), Some(0.2));
    assert_eq!(notes(hiccup), [IN_FLIGHT], "a small part of the run");
}

#[test]
fn a_tiny_run_is_not_judged() {
    let time = LoopTime { turns: 1, work_ns: 80, kernel_ns: 20, cpu_ns: 100, ..LoopTime::default() };
    let tiny = judged(time, None, |given| given.elapsed_seconds = 0.005_06);
    assert_eq!(tiny.limited_by, LimitedBy::Generator);
    assert_eq!(tiny.notes, ["only 5.06 ms were measured: too short to judge"]);
    assert_eq!(judged(time, None, |given| given.elapsed_seconds = 0.1).notes, Vec::<String>::new());
}

#[test]
fn a_target_that_was_given_nothing_is_not_to_blame() {
    let time = LoopTime { turns: 3, work_ns: 10, target_full_ns: 90, cpu_ns: 2_800_000, ..LoopTime::default() };
    let due = Totals { records_offered: 7, records_not_sent: 7, ..Totals::default() };
    let unsent = |connections_down| {
        judged(time, Some(0.0), |given| {
            (given.records_submitted, given.totals) = (0, due.clone());
            given.connections_down = connections_down;
        })
    };
    let (starved, cut) = (unsent(0), unsent(2));
    assert_eq!((starved.limited_by, cut.limited_by), (LimitedBy::Host, LimitedBy::Target));
    let said = "nothing was sent: the cores had a processor for 2.8 ms in all, in a run of 6.8 s";
    assert_eq!(starved.evidence[0], said);
    assert_eq!(cut.evidence[0], "nothing was sent: 2 connections down at the end");
}

#[test]
fn other_work_is_to_blame_only_for_what_it_explains() {
    let time = LoopTime { turns: 1, work_ns: 80, kernel_ns: 5, stolen_ns: 15, cpu_ns: 85, ..LoopTime::default() };
    assert_eq!(verdict(time, Some(0.005)).limited_by, LimitedBy::Generator, "far more than any theft is missing");
    assert_eq!(verdict(time, Some(0.9)).limited_by, LimitedBy::Host);
}

#[test]
fn connections_that_are_down_are_the_targets() {
    let time = LoopTime { turns: 9, work_ns: 40, target_full_ns: 60, spun_ns: 60, cpu_ns: 30, ..LoopTime::default() };
    let down = judged(time, Some(0.9), |given| {
        given.connections_down = 3;
        given.totals = Totals { records_offered: 9, records_produced: 5, records_not_sent: 4, ..Totals::default() };
    });
    assert_eq!(down.limited_by, LimitedBy::Target);
    assert_eq!(down.evidence[0], "3 connections down at the end");
}

#[test]
fn a_server_that_closes_in_order_loses_no_connection() {
    let time = LoopTime { work_ns: 2, idle_ns: 98, cpu_ns: 2, ..LoopTime::default() };
    let closes = judged(time, Some(1.0), |given| given.totals.reconnects = 98_000);
    let said = closes.evidence.last().map(String::as_str);
    assert_eq!(said, Some("98,000 connections made again, lost or closed in time"));
}

#[test]
fn what_tcp_sent_again_is_told_where_it_did() {
    let time = LoopTime { target_full_ns: 90, work_ns: 10, spun_ns: 90, cpu_ns: 100, ..LoopTime::default() };
    let evidence = |again| judged(time, None, |given| given.totals.tcp_retransmits = again).evidence;
    let plain = evidence(None);
    assert_eq!(evidence(Some(0)), plain);
    for (again, said) in [(1, "1 TCP segment"), (4_212, "4,212 TCP segments")] {
        let said = format!("{said} sent again (retransmissions)");
        assert_eq!(evidence(Some(again)), [plain.clone(), vec![said]].concat());
    }
}

#[test]
fn a_quota_is_told_where_brokers_said_so() {
    let time = LoopTime { target_full_ns: 90, work_ns: 10, spun_ns: 90, cpu_ns: 100, ..LoopTime::default() };
    let evidence = |answers, seconds| {
        let change = |given: &mut Given| {
            (given.totals.throttled_answers, given.totals.throttled_seconds) = (answers, seconds);
        };
        judged(time, None, change).evidence
    };
    let plain = evidence(None, None);
    assert_eq!(evidence(Some(0), Some(0.0)), plain);
    for (answers, said) in [(1, "1 answer asked"), (1200, "1,200 answers asked")] {
        let said = format!("brokers held this client back by a quota: {said} for 2.5 s of waiting in all");
        assert_eq!(evidence(Some(answers), Some(2.5)), [plain.clone(), vec![said]].concat());
    }
}

#[test]
fn a_signal_in_the_warm_up_blames_nobody() {
    let time = LoopTime { turns: 9, target_full_ns: 60, ..LoopTime::default() };
    let ended = judged(time, None, |given| {
        (given.signal, given.elapsed_seconds) = (Some("SIGINT"), 0.0);
        given.pacing.target_bytes_per_second = Some(5e6);
    });
    assert_eq!(ended.limited_by, LimitedBy::Rate);
    assert_eq!(ended.evidence[0], "SIGINT ended the run before its measured part began");
}

#[test]
fn a_signal_before_the_first_record_is_told() {
    let ended = |time, rate, signal| {
        judged(time, None, |given| {
            (given.records_submitted, given.signal) = (0, Some(signal));
            given.pacing.target_bytes_per_second = rate;
        })
    };
    let time = LoopTime { turns: 3, work_ns: 10, target_full_ns: 90, cpu_ns: 5, ..LoopTime::default() };
    let early = ended(time, Some(5e6), "SIGTERM");
    assert_eq!(early.limited_by, LimitedBy::Rate);
    assert_eq!(early.evidence, ["nothing was sent before SIGTERM ended the run"]);
    let earlier = ended(LoopTime::default(), None, "SIGINT");
    assert_eq!(earlier.limited_by, LimitedBy::Generator);
    assert_eq!(earlier.evidence, ["nothing was sent before SIGINT ended the run"]);
}

#[test]
fn refusals_are_the_first_that_is_said_of_the_target_and_stand_behind_another_reason() {
    let time = LoopTime { work_ns: 2, idle_ns: 98, cpu_ns: 2, ..LoopTime::default() };
    let refused = judged(time, Some(0.698), |given| {
        let (records_offered, records_produced, records_failed) = (7325, 5114, 2211);
        given.totals = Totals { records_offered, records_produced, records_failed, ..Totals::default() };
        (given.records_refused, given.statuses) = (2211, [503].into());
    });
    assert_eq!(refused.limited_by, LimitedBy::Target, "all was sent in time");
    assert_eq!(refused.evidence[0], "it refused 2,211 of 7,325 records (503)");
    let again = judged(time, Some(1.0), |given| {
        (given.totals.retries, given.statuses) = (12, [429, 503].into());
    });
    assert_eq!(again.limited_by, LimitedBy::Rate);
    assert_eq!(again.evidence[0], rate_said(1e9, 1.0), "that is the verdict");
    assert_eq!(again.evidence[1], "the target refused requests at first (429, 503); 12 blocks sent again");
    let unpaced = judged(LoopTime { turns: 1, work_ns: 100, cpu_ns: 100, ..LoopTime::default() }, None, |given| {
        (given.totals.retries, given.statuses) = (12, [503].into());
    });
    assert_eq!(unpaced.limited_by, LimitedBy::Generator);
    assert!(unpaced.evidence[0].starts_with("the cores made records 100.00 % of the time"), "{:?}", unpaced.evidence);
    assert!(unpaced.evidence[1].starts_with("the target refused requests at first (503)"), "{:?}", unpaced.evidence);
    let many = judged(time, Some(1.0), |given| {
        (given.totals.retries, given.statuses) = (1, (400..411).collect());
    });
    assert!(many.evidence[1].contains("406, 407, 3 more); "), "{:?}", many.evidence);
    let of_broker = judged(time, Some(0.5), |given| {
        let (records_offered, records_failed) = (100, 50);
        given.totals = Totals { records_offered, records_failed, ..Totals::default() };
        given.totals.broker_errors = Some([("NOT_ENOUGH_REPLICAS".into(), 7)].into());
        given.records_refused = 50;
    });
    let by_body = judged(time, Some(0.5), |given| {
        let (records_offered, records_uncertain) = (100, 50);
        given.totals = Totals { records_offered, records_uncertain, ..Totals::default() };
        given.totals.answers_refused_by_body = Some(5);
        given.records_refused = 50;
    });
    assert!(by_body.evidence[1].ends_with("refused 50 of 100 records (2xx by their body)"), "{by_body:?}");
    assert!(of_broker.evidence[1].ends_with("refused 50 of 100 records (NOT_ENOUGH_REPLICAS)"), "{of_broker:?}");
}

#[test]
fn the_shares_that_are_said_add_up() {
    let waits =
        LoopTime { target_full_ns: 40, work_ns: 25, stolen_ns: 5, idle_ns: 35, cpu_ns: 20, ..LoopTime::default() };
    let said = verdict(waits, None).evidence.remove(0);
    for part in ["waited for it 40.00 %", "busy 20.00 %", "nothing was due 35.00 %", "held the processors 5.00 %"] {
        assert!(said.contains(part), "'{part}' is missing in: {said}");
    }
    let works = LoopTime { turns: 1, work_ns: 70, kernel_ns: 10, idle_ns: 20, cpu_ns: 80, ..LoopTime::default() };
    let said = verdict(works, None).evidence.remove(0);
    assert!(said.ends_with("waited for the target 0.00 %; nothing was due 20.00 %"), "{said}");
}
