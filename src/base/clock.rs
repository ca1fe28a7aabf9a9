//! Time: monotonic nanoseconds for everything that is measured, and one anchor to the Unix epoch.

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
    unix_at_origin_ns: u64,
}

impl TscClock {
    /// Calibrates and takes the anchor; cloned, never made anew, by the threads of a run.
    pub fn start() -> Self {
        let clock = quanta::Clock::new();
        let origin = clock.now();
        Self { clock, origin, unix_at_origin_ns: unix_now_ns() }
    }

    /// One that was started so long ago.
    #[cfg(test)]
    pub fn of_age(age: std::time::Duration) -> Self {
        let clock = Self::start();
        let origin = clock.origin.checked_sub(age).expect("this machine has run for longer");
        Self { origin, unix_at_origin_ns: clock.unix_at_origin_ns - age.as_nanos() as u64, ..clock }
    }

    /// Nanoseconds since the Unix epoch at monotonic zero: `unix = offset + now_ns`.
    pub fn unix_offset_ns(&self) -> u64 {
        self.unix_at_origin_ns
    }
}

impl Clock for TscClock {
    #[inline]
    fn now_ns(&self) -> u64 {
        self.clock.now().saturating_duration_since(self.origin).as_nanos() as u64
    }
}
