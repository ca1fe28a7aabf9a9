//! Time in which somebody looked: what limits on others are measured in.
//!
//! A thread that is not run (SIGSTOP, a virtual machine that pauses, a processor that others keep) hears no answer,
//! however early it came. That time is its own and nobody else's: between two looks no more counts than lies between
//! two looks of a thread that is run, and after an absence what came meanwhile is heard before anything is judged.
//! Latencies are measured by the clock.

use super::limits;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Looks that are further apart are an absence.
    gap_ns_max: u64,
    looked_ns: u64,
    attended_ns: u64,
    /// Until then, in attended time, nothing is judged.
    judges_from_ns: u64,
}

impl Attention {
    /// From now on, for a limit of this length and longer ones.
    pub fn from(now_ns: u64, limit_ns: u64) -> Self {
        let gap_ns_max = (limit_ns / 8).clamp(limits::ABSENCE_NS_MIN, limits::ABSENCE_NS_MAX);
        Self { gap_ns_max, looked_ns: now_ns, attended_ns: 0, judges_from_ns: 0 }
    }

    /// Somebody looks; true: for the first time after an absence.
    pub fn look(&mut self, now_ns: u64) -> bool {
        let gap_ns = now_ns.saturating_sub(self.looked_ns);
        let counted_ns = gap_ns.min(self.gap_ns_max);
        let (judged, is_absence) = (self.judges(), counted_ns < gap_ns);
        self.looked_ns = self.looked_ns.max(now_ns);
        self.attended_ns += counted_ns;
        // A thread whose every look is late judges at every second one.
        if is_absence && judged {
            self.judges_from_ns = self.attended_ns + self.gap_ns_max;
        }
        is_absence
    }

    /// Somebody looks who worked until now: all of it counts, an absence within it too, which cannot be told from work.
    pub fn work(&mut self, now_ns: u64) {
        self.attended_ns += now_ns.saturating_sub(self.looked_ns);
        self.looked_ns = self.looked_ns.max(now_ns);
    }

    /// The clock at the last look.
    pub fn now_ns(&self) -> u64 {
        self.looked_ns
    }

    /// What limits on others are measured in.
    pub fn attended_ns(&self) -> u64 {
        self.attended_ns
    }

    /// So long has been waited since the beginning.
    pub fn is_over(&self, most_ns: u64) -> bool {
        self.judges() && self.attended_ns >= most_ns
    }

    /// When that is so, by the clock, if there is no absence.
    pub fn over_at_ns(&self, most_ns: u64) -> u64 {
        self.looked_ns.saturating_add(most_ns.saturating_sub(self.attended_ns))
    }

    /// What came during an absence has been heard: what is not here now is late, if its time is over.
    pub fn judges(&self) -> bool {
        self.attended_ns >= self.judges_from_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn an_absence_counts_as_two_looks_and_is_followed_by_patience() {
        let mut attention = Attention::from(5 * SECOND, 30 * SECOND);
        assert!(!attention.look(6 * SECOND) && attention.judges());
        assert_eq!((attention.attended_ns(), attention.over_at_ns(2 * SECOND)), (SECOND, 7 * SECOND));
        assert!(attention.look(37 * SECOND) && !attention.judges(), "what came meanwhile is not heard yet");
        assert_eq!((attention.now_ns(), attention.attended_ns()), (37 * SECOND, 2 * SECOND));
        assert_eq!(attention.over_at_ns(30 * SECOND), 65 * SECOND);
        assert!(!attention.look(38 * SECOND - 1) && !attention.is_over(2 * SECOND));
        assert!(!attention.look(38 * SECOND) && attention.is_over(3 * SECOND) && !attention.is_over(3 * SECOND + 1));
    }

    #[test]
    fn work_is_no_absence() {
        let mut attention = Attention::from(5 * SECOND, 10 * SECOND);
        attention.work(9 * SECOND);
        assert!(attention.judges() && attention.is_over(4 * SECOND) && !attention.is_over(4 * SECOND + 1));
    }

    #[test]
    fn short_limits_have_short_absences() {
        let counted_ns = |limit_ns| {
            let mut attention = Attention::from(0, limit_ns);
            attention.look(10 * SECOND);
            attention.attended_ns()
        };
        assert_eq!([2 * SECOND, 30 * SECOND, u64::MAX].map(counted_ns), [SECOND / 4, SECOND, SECOND]);
        assert_eq!(counted_ns(0), 2 * limits::WAIT_NS_MAX, "a wait in the kernel is no absence");
    }

    /// As where batches are compressed for seconds each.
    #[test]
    fn a_thread_that_always_looks_late_judges_all_the_same() {
        let mut attention = Attention::from(0, 30 * SECOND);
        let judges = |second: u64| attention.look(second * 10 * SECOND) && attention.judges();
        assert_eq!((1..=6).map(judges).collect::<Vec<_>>(), [false, true, false, true, false, true]);
        assert_eq!(attention.attended_ns(), 6 * SECOND);
        assert!(!attention.look(59 * SECOND) && attention.now_ns() == 60 * SECOND, "a clock that goes back");
    }
}
