//! What a client of brokers waits for, so that somebody else can tell it while it is silent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shared between who waits and who tells.
#[derive(Clone, Debug, Default)]
pub struct Awaited(Arc<Mutex<Option<Wait>>>);

#[derive(Debug)]
struct Wait {
    whom: String,
    doing: &'static str,
    since: Instant,
    is_told: bool,
}

impl Awaited {
    /// From now on this is waited for; the same again, without an answer between, is still the same wait.
    pub(super) fn note(&self, whom: &str, doing: &'static str) {
        let mut wait = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if wait.as_ref().is_none_or(|wait| wait.doing != doing || wait.whom != whom) {
            *wait = Some(Wait { whom: whom.to_owned(), doing, since: Instant::now(), is_told: false });
        }
    }

    /// What was waited for has come.
    pub(super) fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What has been waited for so long; once.
    pub fn longer_than(&self, patience: Duration) -> Option<String> {
        let mut wait = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = wait.as_mut().filter(|wait| !wait.is_told && wait.since.elapsed() >= patience)?;
        wait.is_told = true;
        Some(format!("Kafka broker {}: {}", wait.whom, wait.doing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_once_and_not_before_its_time() {
        let waits = Awaited::default();
        assert_eq!(waits.longer_than(Duration::ZERO), None);
        waits.note("one:9092", "connecting");
        assert_eq!(waits.longer_than(Duration::from_secs(3600)), None);
        assert_eq!(waits.longer_than(Duration::ZERO).as_deref(), Some("Kafka broker one:9092: connecting"));
        waits.note("one:9092", "connecting");
        assert_eq!(waits.longer_than(Duration::ZERO), None, "it is the same one");
        waits.answered();
        assert_eq!(waits.longer_than(Duration::ZERO), None, "nothing is waited for");
        waits.note("one:9092", "connecting");
        assert_eq!(waits.longer_than(Duration::from_secs(3600)), None, "an answered wait does not go on");
        for (whom, doing) in [("two:9092", "connecting"), ("two:9092", "fetching")] {
            waits.note(whom, doing);
            assert_eq!(waits.longer_than(Duration::ZERO), Some(format!("Kafka broker {whom}: {doing}")));
        }
    }
}
