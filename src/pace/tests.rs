//! The pacer's promises, as properties: totals and due times do not depend on when it is asked.

use super::*;
use proptest::prelude::*;

impl Pacer {
    /// Positions due by `now_ns` and not taken, over all phases.
    fn backlog_bytes(&self, now_ns: u64) -> u64 {
        self.backlog_by_phase(now_ns).fold(0, |sum, (_, bytes)| sum.saturating_add(bytes))
    }
}

const SECOND: u64 = 1_000_000_000;
const OPEN: u64 = u64::MAX;
/// Nothing expires and no block waits.
const FOREVER: Patience = Patience { catch_up_ns: OPEN, linger_ns: 0, block_bytes: 0 };

fn rate(logical_bytes_per_second: u64, weight: u64) -> WireRate {
    WireRate { logical_bytes_per_second, weight }
}

fn share(duration_ns: u64, weight: u64, schedule: Schedule) -> PhaseShare {
    PhaseShare { duration_ns, warmup: false, weight, schedule }
}

fn steady(duration_ns: u64, bytes_per_second: u64) -> PhaseShare {
    share(duration_ns, 1, Schedule::Steady { rate: rate(bytes_per_second, 1) })
}

fn burst(duration_ns: u64, on_ns: u64, off_ns: u64, bytes_per_second: Option<u64>) -> PhaseShare {
    let rate = bytes_per_second.map(|bytes| rate(bytes, 1));
    share(duration_ns, 1, Schedule::Burst { on_ns, off_ns, rate })
}

/// What a sender did: (phase, position in it, due time) of every record.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sent {
    records: Vec<(usize, u64, u64)>,
}

/// Sends records of `record_bytes` at the given times and once more, without a limit, after the end.
fn send_at(pacer: &mut Pacer, times_ns: &[u64], record_bytes: u64, block_records: u64) -> Sent {
    let mut sent = Sent::default();
    let mut place = (0, 0);
    let end_ns = pacer.ends_at_ns();
    for &now_ns in times_ns.iter().chain([&end_ns]) {
        loop {
            let grant = pacer.grant(now_ns);
            let count = grant.budget_bytes.div_ceil(record_bytes).min(block_records);
            if count == 0 {
                break;
            }
            if pacer.at != place.0 {
                place = (pacer.at, 0);
            }
            for record in 0..count {
                // Exact due times, from the first of each grant; the spread is checked on its own.
                if record == 0 || block_records == 1 {
                    sent.records.push((place.0, place.1, grant.first_due_ns));
                    assert!(grant.first_due_ns <= now_ns);
                }
                place.1 += record_bytes;
            }
            pacer.take(count * record_bytes);
        }
    }
    sent
}

fn schedules() -> impl Strategy<Value = Vec<PhaseShare>> {
    let phase = (1_000..3_000_000u64, 0..300_000_000u64, 1..150u64, 1_000..900_000u64, 0..900_000u64, any::<bool>())
        .prop_map(|(duration_ns, bytes, weight, on_ns, off_ns, is_burst)| {
            let rate = rate(bytes * weight, weight);
            let schedule = match is_burst {
                true => Schedule::Burst { on_ns, off_ns, rate: Some(rate) },
                false => Schedule::Steady { rate },
            };
            share(duration_ns, weight, schedule)
        });
    proptest::collection::vec(phase, 1..4)
}

/// Arithmetic on its own: the records of one phase, as (position, due time).
fn expected(phase: &PhaseShare, start_ns: u64, stagger_ns: u64, record_bytes: u64) -> Vec<(u64, u64)> {
    let (rate, cycle_ns, stagger_ns) = match phase.schedule {
        Schedule::Steady { rate } => (rate, None, stagger_ns),
        Schedule::Burst { on_ns, off_ns, rate } => (rate.expect("only paced phases"), Some(on_ns + off_ns), 0),
        Schedule::Unlimited => unreachable!("only paced phases"),
    };
    let due_ns = |position: u64| {
        let ns = u128::from(position) * u128::from(SECOND) * u128::from(rate.weight);
        let ns = ns.checked_div(u128::from(rate.logical_bytes_per_second)).unwrap_or(u128::MAX);
        let ns = u64::try_from(ns).unwrap_or(u64::MAX).saturating_add(stagger_ns);
        cycle_ns.map_or(ns, |cycle_ns| if ns == u64::MAX { ns } else { ns / cycle_ns * cycle_ns })
    };
    let in_phase = |position: u64| {
        let ns = u128::from(position) * u128::from(SECOND) * u128::from(rate.weight);
        let room_ns = u128::from(phase.duration_ns.saturating_sub(stagger_ns));
        ns < room_ns * u128::from(rate.logical_bytes_per_second)
    };
    let positions = (0..).map(|record| record * record_bytes).take_while(|position| in_phase(*position));
    positions.map(|position| (position, start_ns + due_ns(position))).collect()
}

proptest! {
    #[test]
    fn every_polling_pattern_sends_the_records_that_arithmetic_names(
        schedule in schedules(),
        stagger_ns in 0..20_000u64,
        record_bytes in 16..9_000u64,
        mut times_ns in proptest::collection::vec(0..9_000_000u64, 0..40),
    ) {
        times_ns.sort_unstable();
        let mut want = vec![];
        let mut start_ns = 0;
        for (index, phase) in schedule.iter().enumerate() {
            let records = expected(phase, start_ns, stagger_ns, record_bytes);
            want.extend(records.into_iter().map(|(position, due_ns)| (index, position, due_ns)));
            start_ns += phase.duration_ns;
        }
        times_ns.retain(|at_ns| *at_ns < start_ns);
        let mut pacer = Pacer::new(&schedule, stagger_ns, FOREVER);
        let one_by_one = send_at(&mut pacer, &times_ns, record_bytes, 1);
        prop_assert_eq!(&one_by_one.records, &want);
        prop_assert!(pacer.ended(start_ns) && pacer.next_due_ns(start_ns).is_none());
        prop_assert_eq!(pacer.backlog_bytes(start_ns), 0);

        let in_blocks = send_at(&mut Pacer::new(&schedule, stagger_ns, FOREVER), &times_ns, record_bytes, 7);
        prop_assert!(in_blocks.records.iter().all(|record| want.contains(record)));
    }

    #[test]
    fn never_more_than_the_rate_and_one_record(
        bytes_per_second in 1..20_000_000_000u64, record_bytes in 16..300_000u64,
        gaps_ns in proptest::collection::vec(0..50_000_000u64, 1..50),
    ) {
        let mut pacer = Pacer::new(&[steady(OPEN, bytes_per_second)], 0, FOREVER);
        let (mut now_ns, mut sent) = (0u64, 0u64);
        for gap_ns in gaps_ns {
            now_ns += gap_ns;
            let bytes = pacer.grant(now_ns).budget_bytes.div_ceil(record_bytes) * record_bytes;
            pacer.take(bytes);
            sent += bytes;
            // One position is due at elapsed zero, and due times are whole nanoseconds.
            let due = u128::from(now_ns + 1) * u128::from(bytes_per_second) / u128::from(SECOND) + 1;
            prop_assert!(u128::from(sent) < due + u128::from(record_bytes), "{} of {}", sent, due);
            prop_assert_eq!(pacer.grant(now_ns).budget_bytes, 0);
        }
    }

    #[test]
    fn shares_sum_to_the_total(total in 1..9_000_000_000u64, producers in 1..60u64, seconds in 1..100u64) {
        let shares = (0..producers).map(|at| total / producers + u64::from(at < total % producers));
        let sum: u64 = shares
            .map(|share| Pacer::new(&[steady(seconds * SECOND, share)], 0, FOREVER).backlog_bytes(OPEN))
            .sum();
        prop_assert_eq!(sum, total * seconds);
    }

    #[test]
    fn the_spread_is_the_schedule(
        bytes_per_second in 1..20_000_000_000u64, weight in 1..200u64, first in 0..1u64 << 40, ahead in 0..1u64 << 32,
    ) {
        let schedule = [share(OPEN, weight, Schedule::Steady { rate: rate(bytes_per_second, weight) })];
        let mut pacer = Pacer::new(&schedule, 0, FOREVER);
        pacer.take(first);
        let grant = pacer.grant(OPEN - 1);
        let guess = grant.first_due_ns.saturating_add(grant.spread.offset_ns(ahead));
        pacer.skip(ahead);
        let exact = pacer.grant(OPEN - 1).first_due_ns;
        prop_assume!(bytes_per_second >= weight && exact < OPEN);
        prop_assert!(guess <= exact && exact - guess <= 2, "{} is not {}", guess, exact);
    }

    #[test]
    fn asking_later_never_gives_less(
        schedule in schedules(), taken in 0..100_000u64, mut times_ns in proptest::collection::vec(0..9_000_000u64, 2),
    ) {
        times_ns.sort_unstable();
        let mut pacer = Pacer::new(&schedule, 0, Patience { catch_up_ns: 1_000_000, ..FOREVER });
        pacer.take(taken);
        let ask = |pacer: &mut Pacer, at: u64| (pacer.due(at).budget_bytes, pacer.backlog_bytes(at), pacer.expired_bytes(at));
        let (early, late) = (ask(&mut pacer, times_ns[0]), ask(&mut pacer, times_ns[1]));
        prop_assert!(early.0 <= late.0 && early.1 <= late.1 && early.2 <= late.2, "{:?} {:?}", early, late);
        prop_assert!(late.2 <= late.1);
    }

    #[test]
    fn next_due_is_when_a_grant_first_holds_something(
        schedule in schedules(), taken in 0..100_000u64, now_ns in 0..9_000_000u64,
    ) {
        let mut pacer = Pacer::new(&schedule, 3_000, FOREVER);
        pacer.take(taken);
        match pacer.next_due_ns(now_ns) {
            Some(next_ns) if next_ns > now_ns => {
                prop_assert_eq!(pacer.grant(now_ns).budget_bytes, 0);
                prop_assert_eq!(pacer.clone().grant(next_ns - 1).budget_bytes, 0);
                prop_assert!(pacer.grant(next_ns).budget_bytes > 0);
            }
            Some(next_ns) => {
                prop_assert!(pacer.grant(now_ns).budget_bytes > 0);
                prop_assert_eq!(pacer.grant(now_ns).first_due_ns, next_ns);
            }
            None => prop_assert_eq!(pacer.grant(OPEN - 1).budget_bytes, 0),
        }
    }

    #[test]
    fn taken_and_skipped_records_add_up_to_the_due_ones(
        bytes_per_second in 1_000..2_000_000_000u64, record_bytes in 16..5_000u64, catch_up_ns in 0..3_000_000u64,
        linger_ns in 0..3_000_000u64, block_bytes in 0..100_000u64,
        turns in proptest::collection::vec((0..2_000_000u64, 0..20u64), 1..60),
    ) {
        let patience = Patience { catch_up_ns, linger_ns, block_bytes };
        let mut pacer = Pacer::new(&[steady(20_000_000, bytes_per_second)], 0, patience);
        let latest_ns = catch_up_ns.max(kept_ns(patience, bytes_per_second) + LATE_NS);
        let (mut now_ns, mut taken, mut skipped) = (0, 0, 0);
        for (gap_ns, room) in turns {
            now_ns += gap_ns;
            let expired = pacer.expired_bytes(now_ns).div_ceil(record_bytes);
            pacer.skip(expired * record_bytes);
            prop_assert_eq!(pacer.expired_bytes(now_ns), 0);
            let grant = pacer.grant(now_ns);
            prop_assert!(grant.budget_bytes == 0 || now_ns - grant.first_due_ns <= latest_ns);
            let sent = grant.budget_bytes.div_ceil(record_bytes).min(room);
            pacer.take(sent * record_bytes);
            (taken, skipped) = (taken + sent, skipped + expired);
        }
        let left = pacer.due(20_000_000).budget_bytes.div_ceil(record_bytes);
        let records = expected(&steady(20_000_000, bytes_per_second), 0, 0, record_bytes).len() as u64;
        prop_assert_eq!(taken + skipped + left, records);
    }

    #[test]
    fn only_what_a_stall_made_late_expires(
        bytes_per_second in 1_000..20_000_000_000u64, catch_up_ns in 0..20_000_000u64,
        linger_ns in 0..20_000_000_000u64, block_bytes in 1..1u64 << 30, taken in 0..1u64 << 40,
    ) {
        let patience = Patience { catch_up_ns, linger_ns, block_bytes };
        let mut pacer = Pacer::new(&[steady(OPEN, bytes_per_second)], 0, patience);
        pacer.take(taken);
        let Grant { first_due_ns, hold_max_ns, .. } = pacer.grant(0);
        let kept_ns = kept_ns(patience, bytes_per_second);
        prop_assert!(hold_max_ns <= kept_ns && kept_ns - hold_max_ns <= 2, "held for {}, not {}", hold_max_ns, kept_ns);
        prop_assert_eq!(pacer.expired_bytes(first_due_ns + kept_ns.saturating_sub(2) + LATE_NS), 0);
        prop_assert_eq!(pacer.expired_bytes(first_due_ns + catch_up_ns), 0);
        prop_assert!(pacer.expired_bytes(first_due_ns + catch_up_ns.max(kept_ns + LATE_NS) + 1) > 0);
    }
}

/// How long a loop keeps a record for others of its block.
fn kept_ns(patience: Patience, bytes_per_second: u64) -> u64 {
    patience.linger_ns.min(patience.block_bytes * SECOND / bytes_per_second)
}

#[test]
fn nothing_overflows_at_the_end_of_the_scales() {
    // 2^40 records of 4 KiB at 8 GB/s, far into the run.
    let mut pacer = Pacer::new(&[steady(OPEN, 8_000_000_000)], 0, FOREVER);
    pacer.take(4096 << 40);
    let due_ns = pacer.grant(0).first_due_ns;
    assert_eq!(u128::from(due_ns), (4096u128 << 40) * 1_000_000_000 / 8_000_000_000);
    assert_eq!(pacer.grant(due_ns - 1).budget_bytes, 0);
    assert_eq!(pacer.grant(due_ns).budget_bytes, 8);

    // 2^63 ns, and 64-bit byte counts.
    let mut long = Pacer::new(&[steady(OPEN, 1_000_000_000)], 0, FOREVER);
    long.take(1 << 63);
    assert_eq!(long.grant(0).first_due_ns, 1 << 63);
    assert_eq!(long.grant((1 << 63) + 9).budget_bytes, 10);

    // The fastest, slowest and heaviest rates there can be, at any time and position.
    for (bytes_per_second, weight) in [(u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX), (1, 1), (0, 1)] {
        for duration_ns in [0, 1, SECOND, 1 << 63, OPEN] {
            for cycle in [None, Some((1, 1)), Some((OPEN, OPEN))] {
                let rate = rate(bytes_per_second, weight);
                let schedule = match cycle {
                    None => Schedule::Steady { rate },
                    Some((on_ns, off_ns)) => Schedule::Burst { on_ns, off_ns, rate: Some(rate) },
                };
                let patience = Patience { catch_up_ns: 1, linger_ns: OPEN, block_bytes: weight };
                let mut pacer = Pacer::new(&[share(duration_ns, weight, schedule); 2], 1, patience);
                for position in [0, 1, 1 << 40, 1 << 63, u64::MAX] {
                    pacer.take(position);
                    for now_ns in [0, 1, SECOND, 1 << 63, OPEN] {
                        let grant = pacer.grant(now_ns);
                        assert!(pacer.backlog_bytes(now_ns) >= grant.budget_bytes);
                        assert!(pacer.expired_bytes(now_ns) <= pacer.backlog_bytes(now_ns));
                        assert!(pacer.next_due_ns(now_ns).is_none() || !pacer.ended(now_ns));
                    }
                }
            }
        }
    }
}

#[test]
fn a_burst_without_a_rate_opens_and_closes() {
    let mut pacer = Pacer::new(&[burst(25 * SECOND, SECOND, 4 * SECOND, None)], 7, FOREVER);
    for cycle in 0..5 {
        let start_ns = cycle * 5 * SECOND;
        assert_eq!(pacer.grant(start_ns).budget_bytes, u64::MAX);
        assert_eq!(pacer.grant(start_ns).first_due_ns, start_ns);
        pacer.take(1 << 40);
        assert_eq!(pacer.grant(start_ns + SECOND - 1).budget_bytes, u64::MAX);
        assert_eq!(pacer.grant(start_ns + SECOND).budget_bytes, 0);
        let next_ns = (cycle < 4).then_some(start_ns + 5 * SECOND);
        assert_eq!(pacer.next_due_ns(start_ns + SECOND), next_ns);
    }
    assert!(!pacer.ended(25 * SECOND - 1) && pacer.ended(25 * SECOND));
    assert_eq!(pacer.backlog_bytes(OPEN), 0);
}

#[test]
fn a_burst_with_a_rate_averages_it_and_carries_leftovers_into_the_next_window() {
    let mut pacer = Pacer::new(&[burst(12 * SECOND, SECOND, 4 * SECOND, Some(1_000))], 0, FOREVER);
    assert_eq!(pacer.grant(0), Grant { budget_bytes: 5_000, spread: Spread(0), ..pacer.grant(0) });
    pacer.take(3_000);
    assert_eq!(pacer.grant(SECOND).budget_bytes, 0);
    assert_eq!(pacer.due(SECOND).budget_bytes, 2_000);
    assert_eq!(pacer.backlog_bytes(SECOND), 2_000);
    assert_eq!(pacer.next_due_ns(SECOND), Some(5 * SECOND));
    // Leftovers first, in a grant of their own.
    let grant = pacer.grant(5 * SECOND);
    assert_eq!((grant.budget_bytes, grant.first_due_ns), (2_000, 0));
    pacer.take(2_000);
    let grant = pacer.grant(5 * SECOND);
    assert_eq!((grant.budget_bytes, grant.first_due_ns), (5_000, 5 * SECOND));
    pacer.take(5_000);
    // The last cycle has two of its five seconds, and so two fifths of its bytes.
    assert_eq!(pacer.grant(10 * SECOND).budget_bytes, 2_000);
    // What is left when the phase ends goes at once, between windows too.
    assert_eq!(pacer.next_due_ns(11 * SECOND), Some(12 * SECOND));
    assert_eq!(pacer.grant(12 * SECOND).budget_bytes, 2_000);
    assert!(!pacer.ended(12 * SECOND));
    pacer.take(2_000);
    assert!(pacer.ended(12 * SECOND));
}

#[test]
fn a_burst_has_its_window_before_the_catch_up_begins() {
    let (on_ns, off_ns) = (30 * SECOND, 30 * SECOND);
    for (catch_up_ns, beyond_ns) in [(10 * SECOND, 10 * SECOND), (0, LATE_NS)] {
        let schedule = [burst(OPEN, on_ns, off_ns, Some(1_000))];
        let mut pacer = Pacer::new(&schedule, 0, Patience { catch_up_ns, ..FOREVER });
        pacer.take(25_000);
        assert_eq!((pacer.grant(on_ns - 1).budget_bytes, pacer.grant(on_ns - 1).late_after_ns), (35_000, on_ns));
        assert_eq!(pacer.expired_bytes(on_ns + beyond_ns), 0);
        assert_eq!(pacer.expired_bytes(on_ns + beyond_ns + 1), 35_000);
        // The next cycle's are as young as the first one's were.
        pacer.skip(35_000);
        assert_eq!(pacer.expired_bytes(60 * SECOND + on_ns + beyond_ns), 0);
    }
}

#[test]
fn a_grant_tells_what_can_still_join_it() {
    let mut pacer = Pacer::new(&[steady(SECOND, 1_000), burst(OPEN, SECOND, SECOND, Some(100))], 0, FOREVER);
    assert_eq!((pacer.grant(0).budget_bytes, pacer.grant(0).left_bytes), (1, 1_000));
    pacer.take(900);
    assert_eq!(pacer.grant(SECOND / 2).left_bytes, 100);
    pacer.take(300);
    assert_eq!(pacer.grant(SECOND).left_bytes, 200, "a burst's records join none of the next");
    assert_eq!(Pacer::new(&[steady(OPEN, 1_000)], 0, FOREVER).grant(0).left_bytes, OPEN);
}

#[test]
fn phases_follow_each_other_from_their_own_zeros() {
    let warmup = PhaseShare { warmup: true, ..steady(SECOND, 1_000) };
    let unlimited = share(SECOND, 1, Schedule::Unlimited);
    let sampled = share(SECOND, 100, Schedule::Steady { rate: rate(100_000, 100) });
    let mut pacer = Pacer::new(&[warmup, unlimited, sampled], 0, FOREVER);
    assert_eq!(pacer.ends_at_ns(), 3 * SECOND);
    assert!(pacer.due(0).warmup);
    let grant = pacer.grant(SECOND + 5);
    assert_eq!((pacer.at, grant.warmup, grant.budget_bytes), (0, true, 1_000));
    // The last record begins at 900 and so belongs to the first phase.
    pacer.take(900);
    pacer.take(300);
    let grant = pacer.grant(SECOND + 5);
    assert_eq!((pacer.at, grant.paced, grant.budget_bytes, grant.first_due_ns), (1, false, u64::MAX, SECOND + 5));
    assert_eq!(pacer.next_due_ns(SECOND + 5), Some(SECOND + 5));
    let grant = pacer.grant(2 * SECOND);
    assert_eq!((pacer.at, grant.weight, grant.budget_bytes), (2, 100, 1));
    assert_eq!(pacer.next_due_ns(2 * SECOND), Some(2 * SECOND));
    assert_eq!(pacer.backlog_bytes(3 * SECOND), 1_000);
    assert!(!pacer.ended(3 * SECOND));
}

#[test]
fn what_is_left_of_a_warm_up_expires_soon_after_it() {
    let second = steady(SECOND, 1000);
    let mut pacer = Pacer::new(&[PhaseShare { warmup: true, ..second }, second], 0, FOREVER);
    pacer.take(400);
    let grace_ends_ns = SECOND + limits::FINISH_GRACE_NS;
    assert_eq!(pacer.expired_bytes(grace_ends_ns - 1), 0);
    assert_eq!(pacer.expired_bytes(grace_ends_ns), 600);
    pacer.skip(600);
    assert_eq!((pacer.expired_bytes(2 * SECOND), pacer.due(2 * SECOND).first_due_ns), (0, SECOND));
    let mut measured = Pacer::new(&[second, second], 0, FOREVER);
    assert_eq!(measured.expired_bytes(2 * SECOND), 0);
}

#[test]
fn an_empty_schedule_is_over() {
    let mut pacer = Pacer::new(&[], 0, Patience { catch_up_ns: 0, ..FOREVER });
    assert_eq!(pacer.grant(0).budget_bytes, 0);
    assert!(pacer.ended(0) && pacer.next_due_ns(0).is_none() && pacer.expired_bytes(0) == 0);
}
