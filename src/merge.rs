//! `engine merge`: the reports of a fleet's processes as one. Counts and histograms are added; percentiles come
//! from the sums and are never averaged.
//!
//! `read` refuses what does not belong together; `sums` adds, stages with `phases`, both with `latencies` and `spans`;
//! `fleet` knows which shards are missing, and the exit code; `verdict` says what held all of them back.

mod fleet;
mod latencies;
mod phases;
mod read;
mod spans;
mod sums;
mod verdict;

use crate::base::fatal::Fatal;
use crate::observe::report::{Report, write_report};
use crate::plan::MergeArgs;
use crate::sys::streams;

/// Reads, adds and writes. A shard without a report is told on standard error, too.
///
/// # Errors
/// Exit 2 where the reports cannot belong together, with both files and the values that differ.
pub fn merge(args: &MergeArgs) -> Result<Report, Fatal> {
    let inputs = read::all(&args.reports)?;
    let report = sums::add(&inputs)?;
    write_report(&report, &args.to)?;
    if let Some(missing) = fleet::absent(inputs.iter().map(|input| &input.report)) {
        streams::write_stderr_line(&format!("engine: {missing}"));
    }
    Ok(report)
}
