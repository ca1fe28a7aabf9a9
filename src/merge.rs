//! `engine merge`: the reports of a fleet's processes as one. Counts and histograms are added; percentiles come
//! from the sums and are never averaged.
//!
//! `read` refuses what does not belong together; `sums` adds, stages with `phases`, both with `latencies` and `spans`;
//! `words` are the verdict and other sentences.

mod latencies;
mod phases;
mod read;
mod spans;
mod sums;
mod words;

use crate::base::fatal::Fatal;
use crate::observe::report::{Report, write_report};
use crate::plan::MergeArgs;

/// Reads, adds and writes.
///
/// # Errors
/// Exit 2 where the reports cannot belong together, with both files and the values that differ.
pub fn merge(args: &MergeArgs) -> Result<Report, Fatal> {
    let inputs = read::all(&args.reports)?;
    let report = sums::add(&inputs)?;
    write_report(&report, &args.to)?;
    Ok(report)
}
