//! Seconds that close in time and hold what is theirs.

use super::*;
use crate::observe::testing::{MS, SECOND, counts};
use proptest::prelude::*;

fn snapshot(core: usize, at_ns: u64, produced: u64, response_ns: &[u64]) -> Box<Snapshot> {
    let mut snapshot = Snapshot::preallocated(core, 1, true);
    snapshot.at_ns = at_ns;
    snapshot.measured[0] = counts(&[(Field::RecordsOffered, produced), (Field::RecordsProduced, produced)]);
    response_ns.iter().for_each(|&ns| snapshot.measured_latencies.response.record_n(ns, 1));
    snapshot
}

fn close(value: Option<f64>, wanted: f64) -> bool {
    value.is_some_and(|value| (value / wanted - 1.0).abs() < 0.002)
}

#[test]
fn seconds_close_when_every_core_is_past_them_and_hold_their_own() {
    let mut all = Aggregate::new(&[1, 1], 0, Phases::default());
    for tenth in 1..=10 {
        all.fold(&snapshot(0, tenth * 100 * MS, tenth * 5, &[MS]));
    }
    assert!(all.intervals.is_empty(), "core 1 has not said anything yet");
    all.fold(&snapshot(0, 1100 * MS, 57, &[9 * MS]));
    all.fold(&snapshot(1, 900 * MS, 7, &[MS]));
    all.fold(&snapshot(1, 1000 * MS, 8, &[4 * MS]));
    assert_eq!(all.intervals.len(), 1);
    let first = all.intervals[0].clone();
    assert_eq!((first.start_seconds, first.seconds, first.records_produced), (0.0, 1.0, 58));
    assert!(close(first.response_max, 0.004) && close(first.response_p50, 0.001), "{first:?}");
    all.finish(0);
    let second = &all.intervals[1];
    assert_eq!((second.start_seconds, second.seconds, second.records_produced), (1.0, 0.1, 7));
    assert!(close(second.response_max, 0.009), "{second:?}");
}

#[test]
fn the_p99_of_late_knows_what_was_not_confirmed() {
    use recent::P99;
    let mut all = Aggregate::new(&[1], SECOND, Phases::default());
    let mut one = snapshot(0, 100 * MS, 0, &[]);
    assert_eq!(all.cores[0].recent.take_p99(), P99::Unknown);
    let lost = [(Field::RecordsOffered, 20), (Field::RecordsProduced, 10), (Field::RecordsNotSent, 10)];
    one.warm[0] = counts(&lost);
    one.warm_latencies.as_mut().unwrap().response.record_n(MS, 10);
    all.fold(&one);
    assert_eq!(all.cores[0].recent.take_p99(), P99::Never);
    assert_eq!(all.cores[0].recent.take_p99(), P99::Unknown);
    // Half of what went before was lost; of late nothing is.
    let mut next = snapshot(0, 1100 * MS, 10, &[2 * MS; 10]);
    next.warm[0] = counts(&lost);
    all.fold(&next);
    let p99_ns = all.cores[0].recent.take_p99().ns();
    assert!(close(p99_ns.map(|ns| ns as f64), 2e6), "{p99_ns:?}");
    next.measured_latencies.reset();
    next.measured[0].add(Field::RecordsUncertain, 3);
    all.fold(&next);
    let never = all.cores[0].recent.take_p99();
    assert_eq!((never, never.ns()), (P99::Never, None), "nothing was confirmed");
}

#[test]
fn the_last_snapshot_of_a_run_of_whole_seconds_belongs_to_its_last_second() {
    let mut all = Aggregate::new(&[1, 1], 0, Phases::default());
    for (second, produced) in [(1, 10), (2, 20)] {
        all.fold(&snapshot(0, second * SECOND, produced, &[MS]));
        all.fold(&snapshot(1, second * SECOND, produced, &[MS]));
    }
    for (core, response_ns) in [(0, 3 * MS), (1, 2 * MS)] {
        let mut last = snapshot(core, 2 * SECOND, 21, &[response_ns]);
        last.last = true;
        all.fold(&last);
    }
    all.finish(0);
    let of = |interval: &Interval| (interval.seconds, interval.records_produced);
    assert_eq!(all.intervals.iter().map(of).collect::<Vec<_>>(), [(1.0, 20), (1.0, 22)]);
    assert!(close(all.intervals[1].response_max, 0.003), "{:?}", all.intervals[1]);
}

#[test]
fn a_stalled_core_does_not_hold_seconds_open() {
    let mut all = Aggregate::new(&[1, 1], 0, Phases::default());
    for at in 1..=50 {
        all.fold(&snapshot(0, at * 100 * MS, at, &[MS]));
    }
    assert_eq!(all.intervals.len(), 4, "one second of grace");
    all.fold(&snapshot(1, 300 * MS, 3, &[]));
    all.fold(&snapshot(1, 5000 * MS, 100, &[5 * SECOND]));
    all.finish(0);
    assert_eq!(all.intervals.len(), 5);
    let sum: u64 = all.intervals.iter().map(|interval| interval.records_produced).sum();
    assert_eq!(sum, 150, "what comes late still counts, once");
}

#[test]
fn a_run_without_end_keeps_its_last_hours() {
    let mut all = Aggregate::new(&[1], 0, Phases::default());
    let last = limits::INTERVALS_MAX as u64 + 100;
    all.fold(&snapshot(0, 100 * MS, 1, &[MS]));
    all.fold(&snapshot(0, last * 1000 * MS, 2, &[MS]));
    all.finish(0);
    assert_eq!((all.intervals.len(), all.intervals_dropped), (limits::INTERVALS_MAX, 100));
    assert_eq!(all.intervals[0].start_seconds, 100.0);
}

#[test]
fn a_process_that_slept_leaves_empty_seconds() {
    let mut all = Aggregate::new(&[1], 0, Phases::default());
    all.fold(&snapshot(0, 100 * MS, 1, &[MS]));
    all.fold(&snapshot(0, 3_600_500 * MS, 2, &[MS]));
    all.finish(0);
    assert_eq!(all.intervals.len(), 3601);
    assert!(all.spare.len() < 8, "an hour of empty seconds holds no histograms");
    assert_eq!(all.intervals[1800].records_produced, 0);
    assert_eq!((all.intervals[3600].records_produced, all.intervals[3600].seconds), (1, 0.5));
}

#[test]
fn the_measured_part_begins_after_the_warm_up_even_off_the_grid() {
    let mut all = Aggregate::new(&[1], 1250 * MS, Phases::default());
    let mut warm = snapshot(0, 1200 * MS, 0, &[]);
    warm.warm[0] = counts(&[(Field::RecordsProduced, 40)]);
    warm.loop_time.work_ns = 70;
    all.fold(&warm);
    let mut first = snapshot(0, 1300 * MS, 5, &[MS]);
    first.warm[0] = counts(&[(Field::RecordsProduced, 42)]);
    first.warm_latencies.as_mut().unwrap().service.record_n(MS, 2);
    first.loop_time.work_ns = 100;
    all.fold(&first);
    assert_eq!(all.warm_total().get(Field::RecordsProduced), 42);
    all.fold(&snapshot(0, 2200 * MS, 50, &[MS]));
    assert_eq!(all.warm_latencies.as_ref().unwrap().response.len(), 2, "without a rate, response is service");
    all.fold(&snapshot(0, 2300 * MS, 60, &[MS]));
    let first = &all.intervals[0];
    assert_eq!((first.start_seconds, first.seconds, first.records_produced), (0.0, 0.95, 50));
    all.finish(0);
    assert_eq!(all.intervals[1].start_seconds, 0.95);
}

#[test]
fn loop_time_counts_from_the_measured_start() {
    let mut all = Aggregate::new(&[1], 1000 * MS, Phases::default());
    for (at_ns, work_ns) in [(900 * MS, 900), (1000 * MS, 1000), (1500 * MS, 1300)] {
        let mut one = snapshot(0, at_ns, 0, &[]);
        one.loop_time = LoopTime { work_ns, file_wait_ns: work_ns / 10, gap_max_ns: 2 * MS, ..LoopTime::default() };
        all.fold(&one);
    }
    all.finish(0);
    let time = all.measured_loop_time();
    assert_eq!((time.work_ns, time.file_wait_ns, time.gap_max_ns), (300, 30, 2 * MS));
}

#[test]
fn a_run_of_a_moment_has_an_interval_of_its_length() {
    for (warmup_ns, ended_ns) in [(0, 3 * MS), (SECOND, SECOND + 3 * MS)] {
        let mut all = Aggregate::new(&[1], warmup_ns, Phases::default());
        let mut last = snapshot(0, warmup_ns, 100, &[MS]);
        last.last = true;
        all.fold(&last);
        all.finish(ended_ns);
        let of = |interval: &Interval| (interval.seconds, interval.records_produced);
        assert_eq!(all.intervals.iter().map(of).collect::<Vec<_>>(), [(0.003, 100)]);
    }
}

proptest! {
    #[test]
    fn intervals_add_up_to_the_totals(
        steps in prop::collection::vec((0usize..3, 1u64..4_000, 0u64..1000), 1..60), warmup_ms in 0u64..3000,
    ) {
        let mut all = Aggregate::new(&[1, 1, 1], warmup_ms * MS, Phases::default());
        let (mut at, mut totals) = ([0u64; 3], [0u64; 3]);
        for (core, step_ms, more) in steps {
            at[core] += step_ms * MS;
            totals[core] += if at[core] > warmup_ms * MS { more } else { 0 };
            all.fold(&snapshot(core, at[core], totals[core], &[MS]));
        }
        all.finish(0);
        let sum: u64 = all.intervals.iter().map(|interval| interval.records_produced).sum();
        prop_assert_eq!(sum, totals.iter().sum::<u64>());
        let mut expected_start = 0.0;
        for interval in &all.intervals {
            prop_assert!((interval.start_seconds - expected_start).abs() < 1e-6);
            prop_assert!(interval.seconds > 0.0, "{:?}", interval);
            expected_start = interval.start_seconds + interval.seconds;
        }
    }
}
