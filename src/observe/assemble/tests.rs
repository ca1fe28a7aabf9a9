//! What a report says of a run made by hand.

use super::*;
use crate::counters::Snapshot;
use crate::counters::answers::AnswerCounts;
use crate::observe::report::LimitedBy;
use crate::observe::testing::{MS, Run, SECOND, counts, facts, full_run, report_of};
use crate::plan::testing::kafka_plan;
use crate::plan::{KafkaPlan, PhasePlan};

#[test]
fn what_the_warm_up_lost_is_told_in_its_own_part() {
    let run = full_run();
    let clean = report_of(&run).errors;
    let mut snapshot = Snapshot::preallocated(0, 2, true);
    run.shared.with_aggregate(|all| snapshot.measured.copy_from_slice(&all.cores[0].measured));
    snapshot.warm[0] = counts(&[(Field::RecordsOffered, 10), (Field::RecordsFailed, 10), (Field::ErrorIo, 10)]);
    run.shared.with_aggregate(|all| all.fold(&snapshot));
    let report = report_of(&run);
    assert_eq!((&report.errors, report.warmup.errors["io"], report.exit_code), (&clean, 10, 1));
}

/// Of a run to this target, with these counts beside its own.
fn report_to(to: &TargetPlan, counts: impl FnOnce(&mut Snapshot)) -> Report {
    let mut run = full_run();
    run.replan(|plan| plan.producers.iter_mut().for_each(|producer| producer.to = to.clone()));
    let mut snapshot = Snapshot::preallocated(0, 2, true);
    run.shared.with_aggregate(|all| {
        snapshot.warm.copy_from_slice(&all.cores[0].warm);
        snapshot.measured.copy_from_slice(&all.cores[0].measured);
        counts(&mut snapshot);
        all.fold(&snapshot);
    });
    report_of(&run)
}

#[test]
fn what_tcp_sent_again_is_told_where_the_cores_have_the_connections() {
    let told = |to: TargetPlan| {
        let counts = |snapshot: &mut Snapshot| {
            snapshot.warm[0].set(Field::TcpRetransmits, 3);
            snapshot.measured[1].set(Field::TcpRetransmits, 209);
        };
        let report = report_to(&to, counts);
        let said = report.verdict.evidence.iter().any(|said| said == "209 TCP segments sent again (retransmissions)");
        (report.warmup.totals.tcp_retransmits, report.totals.tcp_retransmits, said)
    };
    let native = KafkaPlan { client: KafkaClient::Uring, ..kafka_plan(9092) };
    assert_eq!(told(TargetPlan::Kafka(native)), (Some(3), Some(209), true));
    assert_eq!(told(TargetPlan::Kafka(kafka_plan(9092))), (None, None, false), "rskafka does not tell");
    assert_eq!(told(TargetPlan::Null), (None, None, false));
}

#[test]
fn answers_of_all_lanes_are_added_in_their_part() {
    let lane = |measured: &[(u16, u64)]| {
        let measured = measured.iter().copied().collect();
        let answers = Some(AnswerCounts { warm: BTreeMap::from([(200, 1)]), measured });
        LaneEnd { answers, first_refused_status: Some(503), refused_by_body: Some([2, 1]), ..LaneEnd::default() }
    };
    let core = |lanes| CoreEnd { lanes, ..CoreEnd::default() };
    let ends = [core(vec![lane(&[(204, 3)]), LaneEnd::default()]), core(vec![lane(&[(204, 1), (429, 2)])])];
    let totals = answered(Totals::default(), &ends, false);
    assert_eq!((totals.requests, totals.answers), (Some(6), Some(BTreeMap::from([(204, 4), (429, 2)]))));
    let warm = answered(Totals::default(), &ends, true);
    assert_eq!((totals.answers_refused_by_body, warm.answers_refused_by_body), (Some(4), Some(2)));
    assert_eq!((warm.requests, totals.broker_errors), (Some(2), None));
    assert_eq!(answered(Totals::default(), &[core(vec![])], true), Totals::default());
    assert_eq!(statuses(&ends), BTreeSet::from([429]), "the first one was of the warm-up");
    let uncounted = LaneEnd { first_refused_status: Some(503), ..LaneEnd::default() };
    assert_eq!(statuses(&[core(vec![uncounted])]), BTreeSet::from([503]), "all that is known");
}

#[test]
fn errors_of_brokers_are_added_by_their_names() {
    let lane = |measured: &[(i16, u64)]| {
        let measured = measured.iter().copied().collect();
        let broker_errors = Some(AnswerCounts { warm: BTreeMap::from([(6, 1)]), measured });
        LaneEnd { broker_errors, ..LaneEnd::default() }
    };
    let ends = [lane(&[(19, 3), (140, 1)]), lane(&[(-1, 1), (19, 2), (141, 4)]), LaneEnd::default()];
    let ends = ends.map(|lane| CoreEnd { lanes: vec![lane], ..CoreEnd::default() });
    let told = |warmup| answered(Totals::default(), &ends, warmup).broker_errors.unwrap_or_default();
    let named = |errors: &[(&str, u64)]| BTreeMap::from_iter(errors.iter().map(|(name, n)| ((*name).to_owned(), *n)));
    let all = [("NOT_ENOUGH_REPLICAS", 5), ("UNKNOWN", 5), ("UNKNOWN_SERVER_ERROR", 1)];
    assert_eq!(told(false), named(&all), "what is not known has no name of its own");
    assert_eq!(told(true), named(&[("NOT_LEADER_OR_FOLLOWER", 2)]));
    assert_eq!(answered(Totals::default(), &ends, false).requests, None, "nothing of HTTP");
}

#[test]
fn quotas_are_told_where_answers_can_say_so() {
    let told = |to: TargetPlan| {
        let counts = |snapshot: &mut Snapshot| {
            snapshot.measured[0].set(Field::ThrottledAnswers, 3);
            snapshot.measured[1].set(Field::ThrottledMs, 1250);
        };
        let totals = report_to(&to, counts).totals;
        (totals.throttled_answers, totals.throttled_seconds)
    };
    let native = KafkaPlan { client: KafkaClient::Uring, ..kafka_plan(9092) };
    assert_eq!(told(TargetPlan::Kafka(KafkaPlan { acks: 0, ..native.clone() })), (None, None));
    assert_eq!(told(TargetPlan::Kafka(native)), (Some(3), Some(1.25)));
    assert_eq!(told(TargetPlan::Kafka(kafka_plan(9092))), (None, None), "rskafka does not tell");
    assert_eq!(told(TargetPlan::Null), (None, None));
}

#[test]
fn the_mean_rate_is_that_of_the_stages_that_ran() {
    let mut run = Run::new(1, 1, Some(1_000_000));
    run.replan(|plan| {
        let stage = |duration_ns, rate| PhasePlan {
            duration_ns,
            warmup: false,
            sampled: false,
            weight: 1,
            rate_bytes_per_second: Some(rate),
        };
        plan.phases = vec![stage(100, 10), stage(100, 30), stage(u64::MAX, 50)];
        plan.phases.insert(0, PhasePlan { warmup: true, ..stage(50, 10) });
    });
    let mean = |paced_ns| target_bytes_per_second(&run.shared.plan, paced_ns);
    for (paced_ns, rate) in [(0, 10.0), (100, 10.0), (250, 20.0), (350, 30.0)] {
        assert_eq!(mean(paced_ns), Some(rate), "{paced_ns}");
    }
}

#[test]
fn the_pacing_is_told_apart_from_the_drain() {
    let mut run = Run::new(1, 1, Some(1_000_000));
    run.replan(|plan| {
        plan.phases = vec![PhasePlan { duration_ns: SECOND, ..plan.phases[0].clone() }; 4];
        plan.phases[0].warmup = true;
        plan.producers[0].schedule = vec![plan.producers[0].schedule[0]; 4];
    });
    let told = |run: &Run, paced_ns| {
        let of = run.shared.with_aggregate(|all| pacing(&run.shared.plan, all, paced_ns, &Latencies::new()));
        (of.paced_seconds, of.planned_seconds, of.stages_planned)
    };
    assert_eq!(told(&run, 2 * SECOND + SECOND / 2), (Some(1.5), Some(3.0), 3));
    assert_eq!(told(&run, SECOND / 2), (Some(0.0), Some(3.0), 3), "it ended in the warm-up");
    run.replan(|plan| plan.phases[3].duration_ns = u64::MAX);
    assert_eq!(told(&run, 2 * SECOND), (Some(1.0), None, 3));
}

#[test]
fn what_a_byte_costs_is_told_of_more_than_a_moment() {
    assert_eq!(seconds_per_gigabyte(2.0, 1_000_000_000), Some(2.0));
    assert_eq!((seconds_per_gigabyte(0.009, 1_000_000_000), seconds_per_gigabyte(31.0, 999_999)), (None, None));
    assert!(seconds_per_gigabyte(0.01, 1_000_000).is_some());
}

#[test]
fn a_drain_polls_too() {
    let run = Run::new(1, 1, None);
    let mut snapshot = Snapshot::preallocated(0, 1, false);
    snapshot.loop_time = LoopTime { spun_ns: SECOND, cpu_ns: SECOND, ..LoopTime::default() };
    let end = CoreEnd { drain_spun_ns: 3 * SECOND, ..CoreEnd::default() };
    let outcome = Outcome { ends: vec![end], ..Outcome::default() };
    let report = run.shared.with_aggregate(|all| {
        all.fold(&snapshot);
        all.finish(0);
        assemble(&run.shared.plan, all, Facts { outcome, ..facts() })
    });
    assert_eq!(report.cpu.polling_seconds, Some(4.0));
}

#[test]
fn a_clock_that_went_apart_from_the_systems_is_noted() {
    let run = Run::new(1, 1, None);
    let outcome = Outcome { clock_drift: Some("it went ahead".into()), ..Outcome::default() };
    let report = run.shared.with_aggregate(|all| {
        all.finish(0);
        assemble(&run.shared.plan, all, Facts { outcome, ..facts() })
    });
    assert_eq!(report.verdict.notes.last().map(String::as_str), Some("it went ahead"));
}

#[test]
fn a_rotated_file_has_data_to_sync_where_they_went_through_the_page_cache() {
    for (direct, fsync, syncs) in [
        (false, Fsync::End, true),
        (false, Fsync::Each, false),
        (false, Fsync::Never, false),
        (true, Fsync::End, false),
    ] {
        let mut run = full_run();
        run.replan(|plan| {
            for producer in &mut plan.producers {
                let TargetPlan::File(file) = &mut producer.to else { panic!("it is a file") };
                (file.direct, file.fsync) = (direct, fsync);
            }
        });
        assert_eq!(syncs_page_cache(&run.shared.plan), syncs, "{direct} {fsync:?}");
    }
    assert!(!syncs_page_cache(&Run::new(1, 1, None).shared.plan), "there are no files");
}

#[test]
fn a_signal_is_told_where_it_ended_the_run() {
    let outcome = |signal: Option<&str>, end| Outcome {
        ends: vec![end],
        signal: signal.map(str::to_owned),
        ..Outcome::default()
    };
    let by = |signal, end| ended_by_signal(&outcome(signal, end));
    let stopped = CoreEnd { stopped: true, ..CoreEnd::default() };
    assert_eq!(by(Some("SIGINT"), stopped.clone()).as_deref(), Some("SIGINT"));
    assert_eq!(by(None, stopped.clone()), None, "another stopped it");
    assert_eq!(by(Some("SIGINT"), CoreEnd::default()), None, "all had been offered");
    assert_eq!(by(Some("SIGINT"), CoreEnd { closed: true, ..stopped.clone() }), None);
    let failed = Outcome { ended_early: Some("no space".into()), ..outcome(Some("SIGINT"), stopped) };
    assert_eq!(ended_by_signal(&failed), None);
}

#[test]
fn a_signal_in_the_warm_up_leaves_nothing_measured_however_long_the_fsync() {
    let mut run = Run::new(1, 1, Some(1_000_000));
    run.replan(|plan| {
        plan.phases.insert(0, PhasePlan { duration_ns: SECOND, warmup: true, ..plan.phases[0].clone() });
    });
    let mut snapshot = Snapshot::preallocated(0, 1, true);
    (snapshot.at_ns, snapshot.last) = (5 * SECOND, true);
    let fields = [Field::RecordsOffered, Field::RecordsSubmitted, Field::RecordsProduced];
    snapshot.warm[0] = counts(&fields.map(|field| (field, 10)));
    let end = CoreEnd { paced_ns: 900 * MS, ended_ns: 5 * SECOND, stopped: true, ..CoreEnd::default() };
    let outcome = Outcome { ends: vec![end], signal: Some("SIGINT".into()), ..Outcome::default() };
    let facts = Facts { outcome, ..facts() };
    let report = run.shared.with_aggregate(|all| {
        all.fold(&snapshot);
        all.finish(5 * SECOND);
        assemble(&run.shared.plan, all, facts)
    });
    assert_eq!((report.elapsed_seconds, report.warmup.seconds, report.intervals.len()), (0.0, 0.9, 0));
    assert_eq!(report.verdict.evidence, ["SIGINT ended the run before its measured part began"]);
    assert_eq!(report.verdict.limited_by, LimitedBy::Rate);
}

#[test]
fn a_drain_of_nothing_is_no_wait_for_the_target() {
    let waited = |submitted, is_paced| {
        let run = Run::new(1, 1, None);
        let mut snapshot = Snapshot::preallocated(0, 1, false);
        snapshot.measured[0] = counts(&[(Field::RecordsSubmitted, submitted)]);
        let ends = vec![CoreEnd { paced_ns: 10, ended_ns: 50, ..CoreEnd::default() }];
        run.shared.with_aggregate(|all| {
            all.fold(&snapshot);
            loop_time(all, &Outcome { ends, ..Outcome::default() }, is_paced).target_full_ns
        })
    };
    assert_eq!((waited(0, false), waited(1, false)), (0, 40));
    assert_eq!(waited(1, true), 0, "nothing is due behind the end of a rate");
}

/// Into the page cache, faster than one core can: it made and copied records all the time. Then came a long fsync.
#[test]
fn an_fsync_after_the_pacing_is_not_why_a_rate_was_missed() {
    let run = Run::new(1, 1, Some(1_000_000));
    let mut snapshot = Snapshot::preallocated(0, 1, false);
    (snapshot.at_ns, snapshot.last) = (15 * SECOND, true);
    snapshot.measured[0] = counts(&[
        (Field::RecordsOffered, 100),
        (Field::RecordsSubmitted, 75),
        (Field::RecordsProduced, 75),
        (Field::RecordsNotSent, 25),
    ]);
    snapshot.loop_time =
        LoopTime { turns: 1, work_ns: SECOND, kernel_ns: 9 * SECOND, cpu_ns: 10 * SECOND, ..LoopTime::default() };
    let (paced_ns, ended_ns, fsync_ns) = (10 * SECOND, 15 * SECOND, 5 * SECOND);
    let end = CoreEnd { paced_ns, ended_ns, fsync_ns, ..CoreEnd::default() };
    let outcome = Outcome { ends: vec![end], ..Outcome::default() };
    let facts = Facts { outcome, ..facts() };
    let report = run.shared.with_aggregate(|all| {
        all.fold(&snapshot);
        all.finish(ended_ns);
        assemble(&run.shared.plan, all, facts)
    });
    assert_eq!(report.verdict.limited_by, LimitedBy::Generator, "{:?}", report.verdict.evidence);
    assert_eq!((report.elapsed_seconds, report.pacing.achieved_ratio), (15.0, Some(0.75)));
}
