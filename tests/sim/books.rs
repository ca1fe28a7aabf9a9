//! Do the books agree with each other, at the end and in every snapshot?

use crate::ring::Breakage;
use crate::scenario::{LanePlan, Scenario, rate_of};
use crate::world::{Outcome, Seen};
use engine::counters::{Counts, Field};
use engine::payload::Starts;

const ENDS: [Field; 4] = [Field::RecordsProduced, Field::RecordsFailed, Field::RecordsUncertain, Field::RecordsNotSent];

pub fn sum(counts: &Counts, fields: &[Field]) -> u64 {
    fields.iter().map(|field| counts.get(*field)).sum()
}

/// A lane's books at the end, warm-up included.
pub fn total(outcome: &Outcome, lane: usize) -> Counts {
    let last = outcome.snapshots.last().expect("a core always sends a last snapshot");
    let mut counts = last.warm[lane];
    counts.merge(&last.measured[lane]);
    counts
}

pub fn check(scenario: &Scenario, outcome: &Outcome) {
    let last = outcome.snapshots.last().expect("a core always sends a last snapshot");
    assert!(last.last && outcome.snapshots.iter().filter(|seen| seen.last).count() == 1);
    for (lane, plan) in scenario.lanes.iter().enumerate() {
        for (part, counts) in [("warm-up", &last.warm[lane]), ("measured", &last.measured[lane])] {
            let ends = sum(counts, &ENDS);
            assert_eq!(
                counts.get(Field::RecordsOffered),
                ends,
                "lane {lane}, {part}: offered is not the sum: {counts:?}"
            );
            assert_eq!(sum(counts, &[Field::InFlightRecords, Field::InFlightBytes]), 0, "lane {lane}, {part}");
        }
        check_lane(scenario, outcome, lane, plan);
    }
    check_breakage(scenario, outcome);
    check_growth(scenario, &outcome.snapshots);
    check_histograms(scenario, &outcome.snapshots);
    check_live(scenario, outcome);
}

fn check_lane(scenario: &Scenario, outcome: &Outcome, lane: usize, plan: &LanePlan) {
    let counts = total(outcome, lane);
    let submitted = outcome.next_sequences[lane];
    assert_eq!(counts.get(Field::RecordsSubmitted), submitted, "lane {lane}: every sequence is submitted once");
    let end = &outcome.end.lanes[lane];
    let missing: u64 = end.missing.iter().map(|(first, last)| last - first + 1).sum();
    assert!(!end.missing_truncated && end.missing.is_sorted(), "lane {lane}: {:?}", end.missing);
    assert_eq!(missing, submitted - counts.get(Field::RecordsProduced), "lane {lane}: {:?}", end.missing);
    let touching = end.missing.windows(2).any(|pair| pair[0].1 + 1 >= pair[1].0);
    assert!(!touching, "lane {lane}: ranges that touch are one range: {:?}", end.missing);
    let errors = sum(&counts, &[Field::ErrorIo, Field::ErrorNoSpace]);
    assert!(
        errors == 0 || scenario.loses || outcome.end.ended_by.is_some(),
        "lane {lane}: {errors} errors, and nothing tells why"
    );
    if scenario.faults.breaks.is_none() && !scenario.loses {
        assert_eq!(missing, 0, "lane {lane}: nothing broke, but {:?} are missing", end.missing);
    }
    // The warm-up comes on top of both limits.
    let last = outcome.snapshots.last().expect("a core always sends a last snapshot");
    let (warm, measured) = (&last.warm[lane], &last.measured[lane]);
    assert!(measured.get(Field::RecordsOffered) <= plan.records_max, "lane {lane}: more than --records");
    let sequences = warm.get(Field::RecordsSubmitted)..submitted;
    check_bytes_limit(plan, &outcome.starts[lane], sequences, lane);
    let whole = scenario.stop_at_ns.is_none() && plan.records_max == u64::MAX && plan.bytes_limit == u64::MAX;
    if let (true, true, None, false, Starts::Fixed { length, .. }) =
        (whole, plan.all_paced(), &outcome.end.ended_by, outcome.broke, &outcome.starts[lane])
    {
        assert_eq!(
            counts.get(Field::RecordsOffered),
            due_records(plan, *length),
            "lane {lane}: offered is what was due"
        );
    }
}

/// What broke ended the run and is counted, unless the drain's time was up before the core heard of it.
fn check_breakage(scenario: &Scenario, outcome: &Outcome) {
    let Some((breakage, _)) = scenario.faults.breaks.filter(|_| outcome.broke) else { return };
    let count = |field: Field| (0..scenario.lanes.len()).map(|lane| total(outcome, lane).get(field)).sum::<u64>();
    let (given_up, why) = (count(Field::ErrorTimeout), &outcome.end.ended_by);
    let kind = match breakage {
        Breakage::Full | Breakage::Nothing => Field::ErrorNoSpace,
        Breakage::Broken | Breakage::SyncFails | Breakage::SyncInterrupted => Field::ErrorIo,
        Breakage::Stuck => {
            assert!(given_up > 0 && why.is_none(), "{given_up} given up, ended by {why:?}");
            return;
        }
    };
    let errors = count(kind);
    assert!(given_up > 0 || why.is_some() && errors > 0, "{breakage:?}: {errors} of {kind:?}, ended by {why:?}");
}

/// No measured record begins at or behind the limit.
fn check_bytes_limit(plan: &LanePlan, starts: &Starts, sequences: std::ops::Range<u64>, lane: usize) {
    if !sequences.is_empty() && plan.bytes_limit < u64::MAX {
        let offset = |sequence| crate::image::stream_offset(starts, sequence);
        let begins = offset(sequences.end - 1) - offset(sequences.start);
        assert!(begins < plan.bytes_limit, "lane {lane}: a record began at {begins}, limit {}", plan.bytes_limit);
    }
}

/// How many records of one length fall due in the whole schedule, by the definition: record `k` of a phase is due
/// when the byte `k * length` of it is.
fn due_records(plan: &LanePlan, length: u64) -> u64 {
    let records = |share: &engine::plan::PhaseShare| {
        let rate = rate_of(share).expect("all phases are paced");
        let steady = matches!(share.schedule, engine::plan::Schedule::Steady { .. });
        let open_ns = share.duration_ns.saturating_sub(if steady { plan.stagger_ns } else { 0 });
        let due_ns = |at: u64| crate::image::exact_due_ns(rate, at * length);
        (0..).take_while(|at| due_ns(*at) < open_ns).count() as u64
    };
    plan.schedule.iter().map(records).sum()
}

/// Counters only grow, and none is ahead of what it counts.
fn check_growth(scenario: &Scenario, snapshots: &[Seen]) {
    for pair in snapshots.windows(2) {
        assert!(pair[0].at_ns <= pair[1].at_ns);
        for lane in 0..pair[0].warm.len() {
            let both = |seen: &Seen| {
                let mut all = seen.warm[lane];
                all.merge(&seen.measured[lane]);
                all
            };
            let plan = &scenario.lanes[lane];
            assert_grown(plan, &both(&pair[0]), &both(&pair[1]), lane);
            assert_grown(plan, &pair[0].measured[lane], &pair[1].measured[lane], lane);
        }
    }
}

fn assert_grown(plan: &LanePlan, before: &Counts, after: &Counts, lane: usize) {
    // How many records of varied length are due is a guess, which a limit on records can prove too high.
    let guessed = plan.bytes_min < plan.bytes_max && plan.records_max < u64::MAX;
    let may_fall = |field: Field| match field {
        Field::InFlightBytes | Field::InFlightRecords => true,
        Field::RecordsOffered => guessed,
        _ => false,
    };
    for field in Field::ALL.iter().filter(|field| !may_fall(**field)) {
        let (from, to) = (before.get(*field), after.get(*field));
        assert!(from <= to, "lane {lane}: the counter {field:?} fell from {from} to {to}");
    }
}

/// The histograms of all snapshots so far hold exactly the records that the counts of the latest speak of.
fn check_histograms(scenario: &Scenario, snapshots: &[Seen]) {
    let has_warmup = scenario.lanes.iter().any(|lane| lane.schedule.iter().any(|share| share.warmup));
    let (mut warm, mut measured) = ([0; 3], [0; 3]);
    for seen in snapshots {
        for at in 0..3 {
            warm[at] += seen.warm_values[at];
            measured[at] += seen.measured_values[at];
        }
        for (values, lanes, wanted) in [(warm, &seen.warm, has_warmup), (measured, &seen.measured, true)] {
            let produced: u64 = lanes.iter().map(|counts| counts.get(Field::RecordsProduced)).sum();
            if wanted {
                assert_eq!(values[..2], [produced; 2], "response and service times of all produced records");
            }
        }
        let submitted: u64 = seen.warm.iter().chain(&seen.measured).map(|c| c.get(Field::RecordsSubmitted)).sum();
        let lateness = warm[2] + measured[2];
        let all_paced = scenario.lanes.iter().all(LanePlan::all_paced);
        assert!(lateness <= submitted && (!all_paced || lateness == submitted), "{lateness} of {submitted}");
    }
}

/// What `/metrics` showed: counters that grow, and at the end the same numbers as the last snapshot.
fn check_live(scenario: &Scenario, outcome: &Outcome) {
    for pair in outcome.live.windows(2) {
        for (lane, (before, after)) in pair[0].iter().zip(&pair[1]).enumerate() {
            assert_grown(&scenario.lanes[lane], before, after, lane);
        }
    }
    let seen = outcome.live.last().expect("somebody looked at the end");
    for (lane, counts) in seen.iter().enumerate() {
        assert_eq!(*counts, total(outcome, lane), "lane {lane}: the live cells and the last snapshot differ");
    }
}
