//! What `engine compare` is asked for.

use super::{Comparison, OrderedQuantile};
use std::path::PathBuf;

/// Two reports to hold side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct CompareArgs {
    pub a: PathBuf,
    pub b: PathBuf,
    pub json: bool,
    pub slo: Vec<RatioSlo>,
}

/// A threshold on the ratio of the second report to the first, e.g. `rate>=0.95`.
#[derive(Clone, Debug, PartialEq)]
pub struct RatioSlo {
    pub expression: String,
    pub metric: RatioMetric,
    pub comparison: Comparison,
    pub threshold: f64,
}

/// What the ratio is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatioMetric {
    ResponseQuantile(OrderedQuantile),
    ServiceQuantile(OrderedQuantile),
    /// Logical bytes a second.
    Rate,
    RecordsPerSecond,
    /// Processor seconds for each GB.
    Cpu,
}
