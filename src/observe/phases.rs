//! The stages of a run, each by itself.
//!
//! Snapshots do not say of which stage a record was. It counts in the stage in which its outcome became known, to a
//! tenth of a second: one that was sent at a stage's end may count in the next. What comes after the last one, in the
//! drain, counts there.

use crate::counters::{Counts, Field, Latencies};
use crate::observe::live::warmup_ns;
use crate::observe::quantile::{latency, merge, response_of, seconds};
use crate::observe::report::{Latency, Phase};
use crate::plan::{PhasePlan, RunPlan};

const SECOND_NS: u64 = 1_000_000_000;

/// What the snapshots said of each stage; of none where the run is a single one.
#[derive(Debug, Default)]
pub struct Phases {
    folds: Vec<Fold>,
    /// Those before it are closed: their histograms are packed.
    first_open: usize,
}

#[derive(Debug)]
struct Fold {
    /// Since the barrier.
    end_ns: u64,
    counts: Counts,
    latencies: Option<Box<Latencies>>,
    packed: Option<Latency>,
}

impl Phases {
    pub fn of(plan: &RunPlan) -> Self {
        let mut end_ns = warmup_ns(plan);
        let fold = |(_, phase): (usize, &PhasePlan)| {
            end_ns = end_ns.saturating_add(phase.duration_ns);
            Fold { end_ns, counts: Counts::default(), latencies: None, packed: None }
        };
        let folds: Vec<_> = measured(plan).map(fold).collect();
        Self { folds: if folds.len() > 1 { folds } else { Vec::new() }, first_open: 0 }
    }

    /// What a snapshot of this time, in nanoseconds since the barrier, adds to the one of its core before.
    pub fn fold(&mut self, at_ns: u64, more: &Counts, latencies: &Latencies) {
        let Some(last) = self.folds.len().checked_sub(1) else { return };
        let at = self.folds.partition_point(|fold| fold.end_ns < at_ns).clamp(self.first_open, last);
        let fold = &mut self.folds[at];
        fold.counts.merge(more);
        if !latencies.service.is_empty() {
            let all = fold.latencies.get_or_insert_default();
            merge(&mut all.response, response_of(latencies));
            merge(&mut all.service, &latencies.service);
        }
        // A core that lags behind by more counts in the stage that is open by then.
        while self.first_open < last && self.folds[self.first_open].end_ns.saturating_add(SECOND_NS) < at_ns {
            self.folds[self.first_open].pack();
            self.first_open += 1;
        }
    }

    /// For the report: those that had begun when the pacing ended, `paced_ns` after the barrier.
    pub fn report(&self, plan: &RunPlan, paced_ns: u64) -> Vec<Phase> {
        let warmup_ns = warmup_ns(plan);
        let mut start_ns = warmup_ns;
        let mut out = Vec::new();
        for ((at, phase), fold) in measured(plan).zip(&self.folds) {
            let end_ns = fold.end_ns.min(paced_ns);
            if end_ns > start_ns {
                let span = (seconds(start_ns - warmup_ns), seconds(end_ns - warmup_ns));
                out.push(fold.report(out.len() as u64 + 1, plan, (at, phase), span));
            }
            start_ns = fold.end_ns;
        }
        out
    }
}

impl Fold {
    fn latency(&self) -> Latency {
        match &self.latencies {
            Some(latencies) => latency(latencies, &self.counts),
            None => latency(&Latencies::new(), &self.counts),
        }
    }

    fn pack(&mut self) {
        self.packed = Some(self.latency());
        self.latencies = None;
    }

    fn report(&self, number: u64, plan: &RunPlan, (at, phase): (usize, &PhasePlan), span: (f64, f64)) -> Phase {
        let share = plan.producers.first().and_then(|producer| producer.schedule.get(at));
        let (start_seconds, end_seconds) = span;
        let count = |field| self.counts.get(field);
        let per_second = |field| count(field) as f64 / (end_seconds - start_seconds);
        Phase {
            number,
            mode: share.map_or("steady", |share| phase.mode(share)).to_owned(),
            target_bytes_per_second: phase.rate_bytes_per_second.map(|rate| rate as f64),
            start_seconds,
            end_seconds,
            records_offered: count(Field::RecordsOffered),
            records_produced: count(Field::RecordsProduced),
            records_failed: count(Field::RecordsFailed),
            records_uncertain: count(Field::RecordsUncertain),
            records_not_sent: count(Field::RecordsNotSent),
            bytes_produced: count(Field::BytesProduced),
            bytes_per_second: per_second(Field::BytesProduced),
            logical_bytes_per_second: per_second(Field::LogicalBytesProduced),
            latency_seconds: self.packed.clone().unwrap_or_else(|| self.latency()),
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

    fn took(ns: u64) -> Latencies {
        let mut latencies = Latencies::new();
        latencies.service.record(ns).unwrap();
        latencies
    }

    fn produced(records: u64, bytes: u64) -> Counts {
        counts(&[(Field::RecordsOffered, records), (Field::RecordsProduced, records), (Field::BytesProduced, bytes)])
    }

    #[test]
    fn each_stage_has_what_came_in_its_time() {
        let run = run();
        let plan = &run.shared.plan;
        let mut phases = Phases::of(plan);
        phases.fold(2 * SECOND, &produced(1, 500), &took(MS));
        // The very end of the first one.
        phases.fold(3 * SECOND, &produced(1, 1500), &took(3 * MS));
        phases.fold(3 * SECOND + 100 * MS, &produced(2, 6000), &took(9 * MS));
        // Long after it, the first one is packed, and what a slow core says of it counts in the second.
        phases.fold(5 * SECOND, &produced(0, 0), &Latencies::new());
        assert!(phases.folds[0].latencies.is_none() && phases.folds[0].packed.is_some());
        phases.fold(2 * SECOND, &produced(1, 0), &took(9 * MS));
        // The drain.
        phases.fold(9 * SECOND, &produced(1, 0), &took(9 * MS));
        let all = phases.report(plan, 6 * SECOND);
        let near = |value: Option<f64>, wanted: f64| value.is_some_and(|value| (value / wanted - 1.0).abs() < 0.002);
        let [first, second] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((first.number, first.mode.as_str(), first.target_bytes_per_second), (1, "steady", Some(1e6)));
        assert_eq!((first.start_seconds, first.end_seconds, first.bytes_per_second), (0.0, 2.0, 1000.0));
        assert_eq!((first.records_produced, first.bytes_produced), (2, 2000));
        assert!(near(first.latency_seconds.response.max, 0.003) && near(first.latency_seconds.service.p50, 0.001));
        assert_eq!((second.number, second.mode.as_str(), second.target_bytes_per_second), (2, "burst", None));
        assert_eq!((second.start_seconds, second.end_seconds, second.records_produced), (2.0, 5.0, 4));
        assert!(near(second.latency_seconds.response.p99, 0.009));
        assert_eq!(phases.report(plan, 2 * SECOND).len(), 1, "the second one never began");
    }

    #[test]
    fn a_run_of_one_stage_has_none() {
        let run = Run::new(1, 1, None);
        let mut phases = Phases::of(&run.shared.plan);
        phases.fold(SECOND, &produced(1, 1), &took(MS));
        assert!(phases.report(&run.shared.plan, 10 * SECOND).is_empty());
        assert_eq!(stage(&run.shared.plan, 0), None);
    }

    #[test]
    fn stages_are_counted_behind_the_warm_up() {
        let run = run();
        let all: Vec<_> = (0..4).map(|at| stage(&run.shared.plan, at)).collect();
        assert_eq!(all, [None, Some((1, 2, "steady")), Some((2, 2, "burst")), None]);
    }
}
