//! What many ask of a run's plan.

use super::{ProducerPlan, RunPlan};

impl RunPlan {
    /// The producers on the core with this index, in lane order.
    pub fn producers_of(&self, core: usize) -> impl Iterator<Item = &ProducerPlan> {
        self.cores[core].producers.iter().map(move |at| &self.producers[*at])
    }

    pub fn has_warmup(&self) -> bool {
        self.phases.iter().any(|phase| phase.warmup)
    }

    /// How long the run warms up.
    pub fn warmup_ns(&self) -> u64 {
        self.phases.iter().filter(|phase| phase.warmup).map(|phase| phase.duration_ns).sum()
    }

    /// Whether records say their weight beside them, as well.
    pub fn is_sampled(&self) -> bool {
        self.phases.iter().any(|phase| phase.sampled)
    }
}
