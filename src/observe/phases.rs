//! The stages of a run, each by itself.
//!
//! Snapshots do not say of which stage a record was. It counts in the stage in which its outcome became known, to a
//! tenth of a second: one that was sent at a stage's end may count in the next. What the drain brings counts in the
//! last one that began, and so does its time: without it a stage's rate would be higher than the target ever took.

use crate::counters::gathered::GatheredLatencies;
use crate::counters::{Counts, Field, Latencies};
use crate::observe::quantile::{decode, encode, latency, merge, seconds, unconfirmed};
use crate::observe::report::Phase;
use crate::plan::{PhasePlan, RunPlan};

const SECOND_NS: u64 = 1_000_000_000;

/// What the snapshots said of each stage; of none where the run is a single one.
#[derive(Debug, Default)]
pub struct Phases {
    folds: Vec<Fold>,
    /// Those before it are closed: their histograms are packed.
    first_open: usize,
    /// Empty ones for stages to come: memory that each took anew would not all come back.
    spare: Vec<Latencies>,
}

#[derive(Debug)]
struct Fold {
    number: usize,
    mode: &'static str,
    rate_bytes_per_second: Option<u64>,
    /// Since the barrier.
    start_ns: u64,
    end_ns: u64,
    /// The date of the last snapshot that told of produced records.
    produced_ns: u64,
    counts: Counts,
    open: Option<Latencies>,
    /// Response and service times as the report has them: a thousand stages would take most of a gigabyte.
    packed: Option<[String; 2]>,
}

impl Phases {
    pub fn of(plan: &RunPlan) -> Self {
        let mut end_ns = plan.warmup_ns();
        let fold = |(at, phase): (usize, &PhasePlan)| {
            let (number, _, mode) = stage(plan, at)?;
            let start_ns = end_ns;
            end_ns = start_ns.saturating_add(phase.duration_ns);
            Some(Fold {
                number,
                mode,
                rate_bytes_per_second: phase.rate_bytes_per_second,
                start_ns,
                end_ns,
                produced_ns: 0,
                counts: Counts::default(),
                open: None,
                packed: None,
            })
        };
        let folds: Vec<_> = measured(plan).filter_map(fold).collect();
        // One that is not quite closed, and the next.
        let spare = folds.iter().take(2).map(|_| emptied(Latencies::new())).collect();
        Self { folds, first_open: 0, spare }
    }

    /// The stages of the plan; 0 where it has a single one.
    pub fn planned(&self) -> u64 {
        self.folds.len() as u64
    }

    /// What a snapshot of this time, in nanoseconds since the barrier, adds to the one of its core before.
    pub fn fold(&mut self, at_ns: u64, more: &Counts, latencies: &GatheredLatencies) {
        let Some(last) = self.folds.len().checked_sub(1) else { return };
        let at = self.folds.partition_point(|fold| fold.end_ns < at_ns).clamp(self.first_open, last);
        let fold = &mut self.folds[at];
        fold.counts.merge(more);
        if more.get(Field::RecordsProduced) > 0 {
            fold.produced_ns = fold.produced_ns.max(at_ns);
        }
        if !latencies.service.is_empty() {
            latencies.add_to(fold.open.get_or_insert_with(|| self.spare.pop().unwrap_or_default()));
        }
        // A core that lags behind by more counts in the stage that is open by then.
        while self.first_open < last && self.folds[self.first_open].end_ns.saturating_add(SECOND_NS) < at_ns {
            self.spare.extend(self.folds[self.first_open].pack().map(emptied));
            self.first_open += 1;
        }
    }

    /// For the report: those that had begun when the pacing ended, `paced_ns` after the barrier. Where a run ends
    /// early, its drain may reach into the time of others. The drain ended at `drained_ns`: what was told later was
    /// known by then.
    pub fn report(&self, paced_ns: u64, drained_ns: u64) -> Vec<Phase> {
        let begun = self.folds.partition_point(|fold| fold.start_ns < paced_ns);
        let report = |at: usize| {
            let fold = &self.folds[at];
            let until = if at + 1 < begun { at + 1 } else { self.folds.len() };
            let (measured_ns, end_ns) = (self.folds[0].start_ns, fold.end_ns.min(paced_ns));
            fold.report(&self.folds[at + 1..until], measured_ns, end_ns, drained_ns)
        };
        (0..begun).map(report).collect()
    }
}

/// With all of its memory in place, which an allocation alone does not do.
fn emptied(mut latencies: Latencies) -> Latencies {
    latencies.reset();
    latencies
}

impl Fold {
    /// Closes it; what held its histograms is left.
    fn pack(&mut self) -> Option<Latencies> {
        let all = self.open.take()?;
        self.packed = Some([encode(&all.response), encode(&all.service)]);
        Some(all)
    }

    fn add_latencies(&self, sum: &mut Latencies) {
        if let Some(all) = &self.open {
            sum.add(all);
        }
        if let Some([response, service]) = &self.packed {
            let unpack = |text: &str| decode(text).expect("it was encoded here");
            merge(&mut sum.response, &unpack(response));
            merge(&mut sum.service, &unpack(service));
        }
    }

    /// With what the drain left in `drained`, stages that never began. It ended at `end_ns`, the drain no later than
    /// `drained_ns_max`, and the measured part began at `measured_ns`.
    fn report(&self, drained: &[Self], measured_ns: u64, end_ns: u64, drained_ns_max: u64) -> Phase {
        let (mut counts, mut latencies, mut drained_ns) = (Counts::default(), Latencies::new(), end_ns);
        for fold in std::iter::once(self).chain(drained) {
            counts.merge(&fold.counts);
            fold.add_latencies(&mut latencies);
            drained_ns = drained_ns.max(fold.produced_ns.min(drained_ns_max));
        }
        let count = |field| counts.get(field);
        let rate_seconds = seconds(drained_ns - self.start_ns);
        let per_second = |field| count(field) as f64 / rate_seconds;
        Phase {
            number: self.number as u64,
            mode: self.mode.to_owned(),
            target_bytes_per_second: self.rate_bytes_per_second.map(|rate| rate as f64),
            start_seconds: seconds(self.start_ns - measured_ns),
            end_seconds: seconds(end_ns - measured_ns),
            drained_seconds: seconds(drained_ns - end_ns),
            // What is on its way at the end counts as offered, too, but will have its outcome in the next stage.
            records_offered: count(Field::RecordsProduced) + unconfirmed(&counts),
            records_produced: count(Field::RecordsProduced),
            records_failed: count(Field::RecordsFailed),
            records_uncertain: count(Field::RecordsUncertain),
            records_not_sent: count(Field::RecordsNotSent),
            bytes_produced: count(Field::BytesProduced),
            bytes_per_second: per_second(Field::BytesProduced),
            logical_bytes_per_second: per_second(Field::LogicalBytesProduced),
            latency_seconds: latency(&latencies, &counts),
        }
    }
}

/// The phases behind the warm-up, each with its place in the plan.
fn measured(plan: &RunPlan) -> impl Iterator<Item = (usize, &PhasePlan)> {
    plan.phases.iter().enumerate().filter(|(_, phase)| !phase.warmup)
}

/// Which of several stages, from 1, the phase at this place of the plan is, how many there are, and its mode; `None`
/// for a warm-up, and where there is only one.
pub fn stage(plan: &RunPlan, at: usize) -> Option<(usize, usize, &'static str)> {
    let share = plan.producers.first()?.schedule.get(at)?;
    let phase = plan.phases.get(at).filter(|phase| !phase.warmup)?;
    let (number, all) = (measured(plan).filter(|(other, _)| *other <= at).count(), measured(plan).count());
    (all > 1).then(|| (number, all, phase.mode(share)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing::{MS, Run, SECOND, counts};
    use crate::plan::Schedule;
    use proptest::prelude::*;

    /// A warm-up of 1 s, then 2 s at 1 MB/s and bursts of 3 s without a rate.
    fn run() -> Run {
        let mut run = Run::new(1, 1, Some(1_000_000));
        run.replan(|plan| {
            let (paced, share) = (plan.phases[0].clone(), plan.producers[0].schedule[0]);
            let burst = Schedule::Burst { on_ns: MS, off_ns: MS, rate: None };
            plan.phases = vec![
                PhasePlan { duration_ns: SECOND, warmup: true, ..paced.clone() },
                PhasePlan { duration_ns: 2 * SECOND, ..paced.clone() },
                PhasePlan { duration_ns: 3 * SECOND, rate_bytes_per_second: None, ..paced },
            ];
            plan.producers[0].schedule = vec![share, share, crate::plan::PhaseShare { schedule: burst, ..share }];
        });
        run
    }

    fn took(ns: u64) -> GatheredLatencies {
        let mut latencies = GatheredLatencies::preallocated();
        latencies.service.record_n(ns, 1);
        latencies
    }

    fn near(value: Option<f64>, wanted: f64) -> bool {
        value.is_some_and(|value| (value / wanted - 1.0).abs() < 0.002)
    }

    fn produced(records: u64, bytes: u64) -> Counts {
        counts(&[(Field::RecordsOffered, records), (Field::RecordsProduced, records), (Field::BytesProduced, bytes)])
    }

    #[test]
    fn each_stage_has_what_came_in_its_time() {
        let run = run();
        let mut phases = Phases::of(&run.shared.plan);
        phases.fold(2 * SECOND, &produced(1, 500), &took(MS));
        // The very end of the first one.
        phases.fold(3 * SECOND, &produced(1, 1500), &took(3 * MS));
        phases.fold(3 * SECOND + 100 * MS, &produced(2, 6000), &took(9 * MS));
        // Long after it, the first one is packed, and what a slow core says of it counts in the second.
        phases.fold(5 * SECOND, &produced(0, 0), &GatheredLatencies::preallocated());
        assert!(phases.folds[0].open.is_none() && phases.folds[0].packed.is_some());
        let spare: Vec<_> = phases.spare.iter().map(|spare| spare.service.len()).collect();
        assert_eq!(spare, [0], "the first one's memory is there for others");
        phases.fold(2 * SECOND, &produced(1, 0), &took(9 * MS));
        // The drain.
        phases.fold(9 * SECOND, &produced(1, 0), &took(9 * MS));
        let all = phases.report(6 * SECOND, u64::MAX);
        let [first, second] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((first.number, first.mode.as_str(), first.target_bytes_per_second), (1, "steady", Some(1e6)));
        assert_eq!((first.start_seconds, first.end_seconds, first.bytes_per_second), (0.0, 2.0, 1000.0));
        assert_eq!((first.records_produced, first.bytes_produced), (2, 2000));
        assert!(near(first.latency_seconds.response.max, 0.003) && near(first.latency_seconds.service.p50, 0.001));
        assert_eq!((second.number, second.mode.as_str(), second.target_bytes_per_second), (2, "burst", None));
        assert_eq!((second.start_seconds, second.end_seconds, second.records_produced), (2.0, 5.0, 4));
        assert!(near(second.latency_seconds.response.p99, 0.009));
    }

    #[test]
    fn what_is_on_its_way_at_a_stages_end_is_of_the_next() {
        let mut phases = Phases::of(&run().shared.plan);
        let offered = counts(&[(Field::RecordsOffered, 5), (Field::RecordsProduced, 1)]);
        phases.fold(3 * SECOND, &offered, &took(MS));
        phases.fold(4 * SECOND, &counts(&[(Field::RecordsProduced, 1), (Field::RecordsFailed, 3)]), &took(MS));
        let all = phases.report(6 * SECOND, u64::MAX);
        let books: Vec<_> = all.iter().map(|of| (of.records_offered, of.records_produced, of.records_failed)).collect();
        assert_eq!(books, [(1, 1, 0), (4, 1, 3)]);
        assert!(near(all[0].latency_seconds.response.p9999, 0.001), "none of it was lost: {all:?}");
        assert_eq!(all[1].latency_seconds.response.p99, None, "most of it was lost");
    }

    #[test]
    fn the_drain_of_a_run_that_ends_early_is_of_the_last_stage_that_began() {
        let mut phases = Phases::of(&run().shared.plan);
        phases.fold(2 * SECOND, &produced(1, 500), &took(MS));
        // In the time of the second one.
        phases.fold(5 * SECOND, &produced(9, 1500), &took(9 * MS));
        let all = phases.report(2 * SECOND, u64::MAX);
        let [first] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((first.start_seconds, first.end_seconds), (0.0, 1.0));
        assert_eq!((first.drained_seconds, first.bytes_per_second), (3.0, 500.0), "over the time of the drain, too");
        assert_eq!((first.records_produced, first.bytes_produced), (10, 2000));
        assert!(near(first.latency_seconds.response.max, 0.009) && near(first.latency_seconds.response.p50, 0.001));
        assert!(phases.report(SECOND, u64::MAX).is_empty(), "it ended in the warm-up");
    }

    #[test]
    fn the_rate_of_the_last_stage_is_over_the_time_in_which_its_records_came() {
        let mut phases = Phases::of(&run().shared.plan);
        phases.fold(2 * SECOND, &produced(1, 500), &took(MS));
        phases.fold(3 * SECOND + 500 * MS, &produced(1, 10), &took(MS));
        phases.fold(14 * SECOND, &produced(3, 30), &took(10 * SECOND));
        // What was given up.
        let lost = counts(&[(Field::RecordsOffered, 1), (Field::RecordsUncertain, 1)]);
        phases.fold(20 * SECOND, &lost, &GatheredLatencies::preallocated());
        let all = phases.report(4 * SECOND, u64::MAX);
        let [first, second] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((first.end_seconds, first.drained_seconds, first.bytes_per_second), (2.0, 0.0, 250.0));
        assert_eq!((second.start_seconds, second.end_seconds, second.drained_seconds), (2.0, 3.0, 10.0));
        assert!(near(Some(second.bytes_per_second), 40.0 / 11.0), "{second:?}");
        // They came in 3 s, and were told behind a long fsync.
        let second = &phases.report(4 * SECOND, 7 * SECOND)[1];
        assert_eq!((second.records_produced, second.drained_seconds, second.bytes_per_second), (4, 3.0, 10.0));
    }

    #[test]
    fn a_run_of_one_stage_has_none() {
        let run = Run::new(1, 1, None);
        let mut phases = Phases::of(&run.shared.plan);
        phases.fold(SECOND, &produced(1, 1), &took(MS));
        assert!(phases.report(10 * SECOND, u64::MAX).is_empty());
        assert_eq!(stage(&run.shared.plan, 0), None);
    }

    #[test]
    fn stages_are_counted_behind_the_warm_up() {
        let run = run();
        let all: Vec<_> = (0..4).map(|at| stage(&run.shared.plan, at)).collect();
        assert_eq!(all, [None, Some((1, 2, "steady")), Some((2, 2, "burst")), None]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whenever the pacing ended, and however long the drain took.
        #[test]
        fn the_stages_add_up_to_the_run(
            stages_ms in prop::collection::vec(1u64..2000, 2..6),
            snapshots in prop::collection::vec((0u64..15_000, 0u64..9, 0u64..2, 0u64..2), 0..12),
            paced_ms in 1u64..12_000,
        ) {
            let mut run = Run::new(1, 1, Some(1_000_000));
            run.replan(|plan| {
                let (phase, share) = (plan.phases[0].clone(), plan.producers[0].schedule[0]);
                plan.phases = stages_ms.iter().map(|ms| PhasePlan { duration_ns: ms * MS, ..phase.clone() }).collect();
                plan.producers[0].schedule = vec![share; stages_ms.len()];
            });
            let mut phases = Phases::of(&run.shared.plan);
            let (mut totals, one, none) = (Counts::default(), took(MS), GatheredLatencies::preallocated());
            for (at_ms, offered, produced, failed) in snapshots {
                let fields = [Field::RecordsOffered, Field::RecordsProduced, Field::RecordsFailed];
                let more = counts(&Vec::from_iter(fields.into_iter().zip([offered, produced, failed])));
                totals.merge(&more);
                phases.fold(at_ms * MS, &more, if produced > 0 { &one } else { &none });
            }
            let all = phases.report(paced_ms * MS, u64::MAX);
            let sum = |of: fn(&Phase) -> u64| all.iter().map(of).sum::<u64>();
            let produced = totals.get(Field::RecordsProduced);
            prop_assert_eq!(sum(|of| of.records_produced), produced);
            prop_assert_eq!(sum(|of| of.records_failed), totals.get(Field::RecordsFailed));
            prop_assert_eq!(sum(|of| decode(&of.latency_seconds.response.histogram).unwrap().len()), produced);
            prop_assert_eq!(sum(|of| decode(&of.latency_seconds.service.histogram).unwrap().len()), produced);
            prop_assert!(all.iter().all(|of| of.records_offered == of.records_produced + of.records_failed));
        }
    }
}
