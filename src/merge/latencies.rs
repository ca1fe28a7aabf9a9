//! Histograms of all processes as one, and the percentiles of the sums.

use crate::base::fatal::Fatal;
use crate::merge::read::Input;
use crate::observe::quantile::{decode, distribution, empty_histogram};
use crate::observe::report::{Distribution, Latency, Report, Totals};
use hdrhistogram::Histogram;

/// The histograms of one kind as one.
pub fn added(inputs: &[Input], of: impl Fn(&Report) -> &Distribution) -> Result<Histogram<u64>, Fatal> {
    added_of(inputs.iter().map(|input| (input, of(&input.report))))
}

pub fn added_of<'a>(all_of: impl Iterator<Item = (&'a Input, &'a Distribution)>) -> Result<Histogram<u64>, Fatal> {
    let mut all = empty_histogram();
    for (Input { name, .. }, one) in all_of {
        let refuse = |why: String| {
            Fatal::usage(format!("{name} has a histogram that cannot be read: {why}"))
                .mend("name files that engine run --report wrote")
        };
        let one = decode(&one.histogram).map_err(refuse)?;
        all.add(&one).map_err(|error| refuse(error.to_string()))?;
    }
    Ok(all)
}

pub fn lost(totals: &Totals) -> u64 {
    totals.records_offered.saturating_sub(totals.records_produced)
}

pub fn latency(response: &Histogram<u64>, service: &Histogram<u64>, totals: &Totals) -> Latency {
    Latency {
        response: distribution(response, totals.records_produced, lost(totals)),
        service: distribution(service, totals.records_produced, 0),
    }
}
