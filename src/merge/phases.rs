//! The stages of all processes, each with its like.

use crate::base::fatal::Fatal;
use crate::merge::read::Input;
use crate::merge::sums::{added_of, latency};
use crate::observe::report::{Phase, Totals};

/// As many as the process with the most of them had; one that ended before a stage adds nothing to it.
pub fn add(inputs: &[Input]) -> Result<Vec<Phase>, Fatal> {
    let most = inputs.iter().map(|input| input.report.phases.len()).max().unwrap_or(0);
    (0..most).map(|at| one(inputs, at)).collect()
}

fn one(inputs: &[Input], at: usize) -> Result<Phase, Fatal> {
    let of_each = || inputs.iter().filter_map(move |input| Some((input, input.report.phases.get(at)?)));
    let phases = || of_each().map(|(_, phase)| phase);
    let sum = |of: fn(&Phase) -> u64| phases().map(of).fold(0, u64::saturating_add);
    let response = added_of(of_each().map(|(input, phase)| (input, &phase.latency_seconds.response)))?;
    let service = added_of(of_each().map(|(input, phase)| (input, &phase.latency_seconds.service)))?;
    let totals = Totals {
        records_offered: sum(|phase| phase.records_offered),
        records_produced: sum(|phase| phase.records_produced),
        ..Totals::default()
    };
    Ok(Phase {
        number: at as u64 + 1,
        mode: phases().next().map(|phase| phase.mode.clone()).unwrap_or_default(),
        target_bytes_per_second: phases().map(|phase| phase.target_bytes_per_second).sum(),
        start_seconds: phases().map(|phase| phase.start_seconds).fold(f64::INFINITY, f64::min),
        end_seconds: phases().map(|phase| phase.end_seconds).fold(0.0, f64::max),
        records_offered: totals.records_offered,
        records_produced: totals.records_produced,
        records_failed: sum(|phase| phase.records_failed),
        records_uncertain: sum(|phase| phase.records_uncertain),
        records_not_sent: sum(|phase| phase.records_not_sent),
        bytes_produced: sum(|phase| phase.bytes_produced),
        bytes_per_second: phases().map(|phase| phase.bytes_per_second).sum(),
        logical_bytes_per_second: phases().map(|phase| phase.logical_bytes_per_second).sum(),
        latency_seconds: latency(&response, &service, &totals),
    })
}
