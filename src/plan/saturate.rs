//! What `engine saturate` is to do: resolved, data only.

use super::ReportTarget;

#[derive(Clone, Debug, PartialEq)]
pub struct SaturatePlan {
    /// The flags of each run, but for its rate, its length and its report.
    pub run_args: Vec<String>,
    /// No rate above this is tried; `None`: the search begins with what a run without a rate reaches.
    pub rate_max_bytes_per_second: Option<u64>,
    /// That is what `--producer-rate` lets all producers send together, and less than `--max-rate`.
    pub is_capped_by_producers: bool,
    /// Below this the search gives up.
    pub rate_min_bytes_per_second: u64,
    /// Of each run that searches, and of the one that confirms.
    pub step_ns: u64,
    pub confirm_ns: u64,
    /// The search ends when what holds and what does not are this close: a fraction.
    pub precision: f64,
    pub report: Option<ReportTarget>,
    /// Files on a drive are written through its page cache and not synced with each block: memory may take what the
    /// drive does not.
    pub page_cache: bool,
    /// What the user should know before the first run, one line each.
    pub notes: Vec<String>,
}
