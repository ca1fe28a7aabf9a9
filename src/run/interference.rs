//! How much of a core's processor others take, seen while the core gets ready.

use crate::sys::process::thread_cpu_ns;
use std::time::{Duration, Instant};

/// Some turns of the scheduler: whoever shares a processor has had his by then.
const WATCHED_MIN: Duration = Duration::from_millis(20);

/// From a core's pinning until its payload is made: in that time it waits for nothing but its processor.
pub struct OthersWatch {
    since: Instant,
    cpu_ns: u64,
}

impl OthersWatch {
    pub fn start() -> Self {
        Self { since: Instant::now(), cpu_ns: thread_cpu_ns() }
    }

    /// How much of that time, in percent, the thread did not get. Where it was too little to tell, the thread spins
    /// until it is enough; that of a core that `sleeps` when it has nothing to do does not: `None`.
    pub fn percent(&self, sleeps: bool) -> Option<u64> {
        while !sleeps && self.since.elapsed() < WATCHED_MIN {
            std::hint::spin_loop();
        }
        let had_ns = thread_cpu_ns().saturating_sub(self.cpu_ns);
        let passed = self.since.elapsed();
        (passed >= WATCHED_MIN).then(|| percent_missing(had_ns, passed.as_nanos() as u64))
    }
}

fn percent_missing(had_ns: u64, passed_ns: u64) -> u64 {
    passed_ns.saturating_sub(had_ns) * 100 / passed_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_did_not_get_is_of_others() {
        for (had_ns, passed_ns, percent) in [(100, 100, 0), (52, 100, 48), (0, 100, 100), (101, 100, 0)] {
            assert_eq!(percent_missing(had_ns, passed_ns), percent, "{had_ns} of {passed_ns}");
        }
    }

    #[test]
    fn a_thread_that_was_away_says_so() {
        let watch = OthersWatch::start();
        // Away, as if others held its processor.
        let (_nobody, news) = std::sync::mpsc::channel::<()>();
        let _never = news.recv_timeout(5 * WATCHED_MIN);
        assert!(watch.percent(true).is_some_and(|percent| percent >= 90));
        let watch = OthersWatch::start();
        assert!(watch.percent(false).is_some() && watch.since.elapsed() >= WATCHED_MIN);
    }
}
