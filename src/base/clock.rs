//! Time: monotonic nanoseconds for everything that is measured, and what the system's clock says.

use std::time::{SystemTime, UNIX_EPOCH};

/// Monotonic nanoseconds since an arbitrary point that all clocks of one run share.
pub trait Clock {
    fn now_ns(&self) -> u64;
}

/// What the system's clock says; 0 before 1970.
pub fn unix_now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

/// The processor's time-stamp counter through quanta (calibrated, monotonic).
#[derive(Clone)]
pub struct TscClock {
    clock: quanta::Clock,
    origin: quanta::Instant,
}

impl TscClock {
    /// Calibrates; cloned, never made anew, by the threads of a run.
    pub fn start() -> Self {
        let clock = quanta::Clock::new();
        let origin = clock.now();
        Self { clock, origin }
    }

    /// One that was started so long ago.
    #[cfg(test)]
    pub fn of_age(age: std::time::Duration) -> Self {
        let clock = Self::start();
        let origin = clock.origin.checked_sub(age).expect("this machine has run for longer");
        Self { origin, ..clock }
    }
}

impl Clock for TscClock {
    #[inline]
    fn now_ns(&self) -> u64 {
        self.clock.now().saturating_duration_since(self.origin).as_nanos() as u64
    }
}
