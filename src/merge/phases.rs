//! The stages of all processes, each with its like.

use crate::base::fatal::Fatal;
use crate::merge::latencies::{added_of, latency};
use crate::merge::read::Input;
use crate::merge::spans::Span;
use crate::observe::report::{Phase, Throughput, Totals};

/// A stage of one process.
struct Part<'a> {
    input: &'a Input,
    phase: &'a Phase,
    /// The process began to measure so long after the first one.
    late_seconds: f64,
}

/// As many as the process with the most of them had; one that ended before a stage adds nothing to it. `measured`:
/// when the first process began to measure.
pub fn add(inputs: &[Input], spans: &[Span], measured: f64) -> Result<Vec<Phase>, Fatal> {
    let most = inputs.iter().map(|input| input.report.phases.len()).max().unwrap_or(0);
    let stage = |at: usize| {
        let parts = inputs.iter().zip(spans).filter_map(|(input, span)| {
            let late_seconds = span.measured - measured;
            Some(Part { input, phase: input.report.phases.get(at)?, late_seconds })
        });
        one(at as u64 + 1, &parts.collect::<Vec<_>>())
    };
    (0..most).map(stage).collect()
}

fn one(number: u64, parts: &[Part]) -> Result<Phase, Fatal> {
    let phases = || parts.iter().map(|part| part.phase);
    let sum = |of: fn(&Phase) -> u64| phases().map(of).fold(0, u64::saturating_add);
    let response = added_of(parts.iter().map(|part| (part.input, &part.phase.latency_seconds.response)))?;
    let service = added_of(parts.iter().map(|part| (part.input, &part.phase.latency_seconds.service)))?;
    let starts = parts.iter().map(|part| part.late_seconds + part.phase.start_seconds);
    let ends = parts.iter().map(|part| part.late_seconds + part.phase.end_seconds);
    let drains = parts.iter().map(|part| part.late_seconds + part.phase.end_seconds + part.phase.drained_seconds);
    let (start_seconds, end_seconds) = (starts.fold(f64::INFINITY, f64::min), ends.fold(0.0, f64::max));
    let drained_seconds = drains.fold(end_seconds, f64::max) - end_seconds;
    let rate_seconds = |phase: &Phase| phase.end_seconds + phase.drained_seconds - phase.start_seconds;
    let logical_bytes = |phase: &Phase| phase.logical_bytes_per_second * rate_seconds(phase);
    let totals = Totals {
        records_offered: sum(|phase| phase.records_offered),
        records_produced: sum(|phase| phase.records_produced),
        bytes_produced: sum(|phase| phase.bytes_produced),
        logical_bytes_produced: phases().map(logical_bytes).sum::<f64>().round() as u64,
        ..Totals::default()
    };
    let rates = Throughput::of(&totals, end_seconds + drained_seconds - start_seconds);
    Ok(Phase {
        number,
        mode: phases().next().map(|phase| phase.mode.clone()).unwrap_or_default(),
        target_bytes_per_second: phases().map(|phase| phase.target_bytes_per_second).sum(),
        start_seconds,
        end_seconds,
        drained_seconds,
        records_offered: totals.records_offered,
        records_produced: totals.records_produced,
        records_failed: sum(|phase| phase.records_failed),
        records_uncertain: sum(|phase| phase.records_uncertain),
        records_not_sent: sum(|phase| phase.records_not_sent),
        bytes_produced: totals.bytes_produced,
        bytes_per_second: rates.bytes_per_second,
        logical_bytes_per_second: rates.logical_bytes_per_second,
        latency_seconds: latency(&response, &service, &totals),
    })
}

#[cfg(test)]
mod tests {
    use crate::counters::Field;
    use crate::counters::gathered::GatheredLatencies;
    use crate::merge::read::Input;
    use crate::merge::sums;
    use crate::observe::phases::Phases;
    use crate::observe::report::Report;
    use crate::observe::testing::{self, MS, Run, SECOND, counts};
    use crate::plan::PhasePlan;

    /// Two stages of 2 s with one record each; that of the second was on its way when the first ended.
    fn input(started_at: &str, bytes: u64) -> Input {
        drained(started_at, bytes, 3 * SECOND)
    }

    /// The second record came so many nanoseconds after the barrier.
    fn drained(started_at: &str, bytes: u64, last_ns: u64) -> Input {
        let mut run = Run::new(1, 1, Some(1_000_000));
        run.replan(|plan| {
            plan.phases = vec![PhasePlan { duration_ns: 2 * SECOND, ..plan.phases[0].clone() }; 2];
            plan.producers[0].schedule = vec![plan.producers[0].schedule[0]; 2];
        });
        let mut latencies = GatheredLatencies::preallocated();
        latencies.service.record_n(MS, 1);
        let mut phases = Phases::of(&run.shared.plan);
        for (at_ns, offered) in [(SECOND, 2), (last_ns, 0)] {
            let more = [
                (Field::RecordsOffered, offered),
                (Field::RecordsProduced, 1),
                (Field::BytesProduced, bytes),
                (Field::LogicalBytesProduced, 10 * bytes),
            ];
            phases.fold(at_ns, &counts(&more), &latencies);
        }
        let phases = phases.report(4 * SECOND, u64::MAX);
        let report = Report { started_at: started_at.to_owned(), phases, ..testing::report() };
        Input { name: format!("{bytes}.json"), report }
    }

    #[test]
    fn a_stage_lasts_from_its_first_start_to_its_last_end() {
        let inputs = [input("2026-01-01T00:00:00Z", 3000), input("2026-01-01T00:00:01Z", 6000)];
        let whole = sums::add(&inputs).unwrap();
        let pacing = &whole.pacing;
        // Of the processes: 2.5 s of 10 s.
        assert_eq!((pacing.paced_seconds, pacing.planned_seconds, pacing.stages_planned), (Some(3.5), Some(11.0), 0));
        let all = whole.phases;
        let spans: Vec<_> = all.iter().map(|of| (of.number, of.start_seconds, of.end_seconds)).collect();
        assert_eq!(spans, [(1, 0.0, 3.0), (2, 2.0, 5.0)]);
        for of in &all {
            assert_eq!((of.bytes_produced, of.target_bytes_per_second), (9000, Some(2e6)));
            assert_eq!((of.bytes_per_second, of.logical_bytes_per_second), (3000.0, 30_000.0));
        }
    }

    #[test]
    fn the_time_of_a_drain_is_part_of_its_stage() {
        let last_ns = 6 * SECOND;
        let inputs = [drained("2026-01-01T00:00:00Z", 3000, last_ns), drained("2026-01-01T00:00:01Z", 6000, last_ns)];
        let all = sums::add(&inputs).unwrap().phases;
        let times: Vec<_> = all.iter().map(|of| (of.start_seconds, of.end_seconds, of.drained_seconds)).collect();
        assert_eq!(times, [(0.0, 3.0, 0.0), (2.0, 5.0, 2.0)]);
        let rates: Vec<_> = all.iter().map(|of| (of.bytes_per_second, of.logical_bytes_per_second)).collect();
        assert_eq!(rates, [(3000.0, 30_000.0), (1800.0, 18_000.0)]);
    }

    #[test]
    fn no_record_is_lost_between_two_stages() {
        let inputs = [input("2026-01-01T00:00:00Z", 3000), input("2026-01-01T00:00:00Z", 6000)];
        let all = sums::add(&inputs).unwrap().phases;
        let records: Vec<_> = all.iter().map(|of| (of.records_offered, of.records_produced)).collect();
        assert_eq!(records, [(2, 2), (2, 2)]);
        assert!(all.iter().all(|of| of.latency_seconds.response.p9999.is_some()), "{all:?}");
    }
}
