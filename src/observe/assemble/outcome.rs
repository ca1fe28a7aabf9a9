//! What is known of a run once its cores have joined, and how long it took.

use crate::counters::CoreEnd;
use crate::observe::quantile::seconds;
use crate::observe::report::Governance;

/// Processor time of the process from the start barrier on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    pub user_ns: u64,
    pub system_ns: u64,
}

/// What is known of a run once its cores have joined.
#[derive(Default)]
pub struct Outcome {
    pub ends: Vec<CoreEnd>,
    pub cpu: CpuTimes,
    /// Why it ended before its time, if it did.
    pub ended_early: Option<String>,
    /// The user's, should it be what ended the run.
    pub signal: Option<String>,
    /// Nanoseconds since the barrier at the end of the last sync of a rotated file, off the cores; 0: there was none.
    /// By the clock, a drain in vain included.
    pub synced_ns: u64,
    pub audit_lines_dropped: u64,
    pub governance: Option<Governance>,
    /// What to say of the run's clock, where it went apart from the system's.
    pub clock_drift: Option<String>,
}

impl Outcome {
    /// Nanoseconds since the barrier at the end of the last core and the last sync; `None` where all cores crashed.
    pub fn ended_ns(&self) -> Option<u64> {
        self.cores_ended_ns().map(|ns| ns.max(self.sync_ended_ns()))
    }

    /// As the cores date their ends: without what all of them drained in vain.
    pub fn sync_ended_ns(&self) -> u64 {
        let ended = self.ends.iter().filter(|end| end.ended_ns > 0);
        let Some(least) = ended.min_by_key(|end| end.vain_ns) else { return self.synced_ns };
        let drained_ns = least.ended_ns.saturating_sub(least.fsync_ns);
        self.synced_ns.min(drained_ns.max(self.synced_ns.saturating_sub(least.vain_ns)))
    }

    /// When the last record was produced, or the pacing ended; `u64::MAX` where all cores crashed.
    pub fn drained_ns(&self) -> u64 {
        let ended = self.ends.iter().filter(|end| end.ended_ns > 0);
        ended.map(|end| end.ended_ns.saturating_sub(end.fsync_ns)).max().unwrap_or(u64::MAX)
    }

    fn cores_ended_ns(&self) -> Option<u64> {
        self.ends.iter().map(|end| end.ended_ns).max().filter(|ns| *ns > 0)
    }

    /// The longest of a core, and what there was still to sync when all of them had ended.
    pub fn final_fsync_ns(&self) -> u64 {
        let longest_ns = self.ends.iter().map(|end| end.fsync_ns).max().unwrap_or(0);
        longest_ns + self.cores_ended_ns().map_or(0, |ended_ns| self.sync_ended_ns().saturating_sub(ended_ns))
    }
}

/// How long a run took.
#[derive(Debug, PartialEq)]
pub struct Times {
    /// Since the barrier, when the pacing ended.
    pub paced_ns: u64,
    /// Of that, how long it warmed up.
    pub warmed_ns: u64,
    pub has_measured_part: bool,
    /// Of the measured part, with its drain and the final fsync.
    pub elapsed_seconds: f64,
}

impl Times {
    /// `latest_ns`: of the last snapshot, all that is known of cores that crashed.
    pub fn of(outcome: &Outcome, warmup_ns: u64, latest_ns: u64) -> Self {
        let ended_ns = outcome.ended_ns().unwrap_or(latest_ns);
        let paced_ns = outcome.ends.iter().map(|end| end.paced_ns).max().filter(|ns| *ns > 0).unwrap_or(ended_ns);
        // The drain and the fsync of a run that ended in its warm-up are no measured part.
        let has_measured_part = paced_ns > warmup_ns;
        let elapsed_seconds = if has_measured_part { seconds(ended_ns.saturating_sub(warmup_ns)) } else { 0.0 };
        Self { paced_ns, warmed_ns: warmup_ns.min(paced_ns), has_measured_part, elapsed_seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing::SECOND;

    #[test]
    fn a_run_that_ended_in_its_warm_up_has_no_measured_part() {
        let times = |ends: &[(u64, u64)], warmup_ns| {
            let ends = ends.iter().map(|&(paced_ns, ended_ns)| CoreEnd { paced_ns, ended_ns, ..CoreEnd::default() });
            Times::of(&Outcome { ends: ends.collect(), ..Outcome::default() }, warmup_ns, 7 * SECOND)
        };
        let of = |paced_ns, warmed_ns, elapsed_seconds| Times {
            paced_ns,
            warmed_ns,
            has_measured_part: elapsed_seconds > 0.0,
            elapsed_seconds,
        };
        let ends = [(3 * SECOND, 5 * SECOND), (4 * SECOND, 4 * SECOND)];
        assert_eq!(times(&ends, SECOND), of(4 * SECOND, SECOND, 4.0));
        assert_eq!(times(&ends, 4 * SECOND), of(4 * SECOND, 4 * SECOND, 0.0), "the drain is no measured part");
        assert_eq!(times(&[(0, 0)], SECOND), of(7 * SECOND, SECOND, 6.0), "all cores crashed");
    }
}
