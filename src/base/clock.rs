//! Time: monotonic nanoseconds for everything that is measured, and what the system's clock says.
//!
//! A run reads the processor's counter, whose pace is measured once by the system's monotonic clock, right before the
//! start ([`TscClock::settle`]). Both ends of that measure are known to some ten nanoseconds: the run's clock keeps to
//! the system's, as that went then, within about 1 ppm, which is 4 ms an hour. It does not follow what NTP changes
//! later, since due times must not jump.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// For so long the counter's pace is measured, at least.
pub const SETTLE_NS: u64 = 50_000_000;
/// A measure that began so long ago begins anew: a machine that slept has counted what its clock has not.
const MARK_AGE_MAX: Duration = Duration::from_secs(10);
/// It does not begin so long before the cores get ready, which may take seconds.
const MARK_LEAD_MAX: Duration = Duration::from_secs(1);
/// Of so many tries to read both clocks at once the quickest counts.
const TRIES: usize = 32;
/// A pace is the nanoseconds of so many ticks, as a power of two: a rate in fixed point.
const PACE_BITS: u32 = 32;
/// The pace of a counter of nanoseconds, which is what there is without a time-stamp counter.
const PACE_OF_NS: u64 = 1 << PACE_BITS;

/// Monotonic nanoseconds since an arbitrary point that all clocks of one run share.
pub trait Clock {
    fn now_ns(&self) -> u64;
}

/// What the system's clock says; 0 before 1970.
pub fn unix_now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

/// What the counter and the system's monotonic clock said at one moment.
#[derive(Clone, Copy)]
pub struct Mark {
    ticks: u64,
    at: Instant,
}

impl Mark {
    fn take(counter: &quanta::Clock) -> Self {
        let read = || {
            let before = counter.raw();
            let at = Instant::now();
            let span = counter.raw().wrapping_sub(before);
            (span, Self { ticks: before.wrapping_add(span / 2), at })
        };
        (1..TRIES).map(|_| read()).fold(read(), |best, next| if next.0 < best.0 { next } else { best }).1
    }
}

/// Written once, read by every core each turn: no other data shares its cache lines.
#[repr(align(128))]
struct Pace(AtomicU64);

/// The processor's time-stamp counter, read through quanta; where there is none, the system's monotonic clock.
#[derive(Clone)]
pub struct TscClock {
    counter: quanta::Clock,
    origin: Mark,
    /// Of all clones.
    pace: Arc<Pace>,
}

impl TscClock {
    /// Has the pace of a quick calibration; cloned, never made anew, by the threads of a run.
    pub fn start() -> Self {
        let counter = quanta::Clock::new();
        let (origin, pace) = (Mark::take(&counter), quick_pace(&counter));
        Self { counter, origin, pace: Arc::new(Pace(AtomicU64::new(pace))) }
    }

    /// Where the measure of the pace begins. To be asked for before what takes a while in any case: [`Self::settle`]
    /// then need not wait.
    pub fn mark(&self) -> Mark {
        if self.origin.at.elapsed() > MARK_LEAD_MAX { Mark::take(&self.counter) } else { self.origin }
    }

    /// Measures the pace for this clock and its clones, which takes [`SETTLE_NS`] from the mark on. What they say jumps
    /// by what the quick calibration was wrong: only before anything is measured.
    pub fn settle(&self, mark: Mark) {
        if quick_pace(&self.counter) == PACE_OF_NS {
            return;
        }
        let is_old = mark.at.elapsed() > MARK_AGE_MAX;
        let first = if is_old { Mark::take(&self.counter) } else { mark };
        std::thread::sleep(Duration::from_nanos(SETTLE_NS).saturating_sub(first.at.elapsed()));
        let last = Mark::take(&self.counter);
        let ticks = last.ticks.saturating_sub(first.ticks);
        if let Some(pace) = (last.at.duration_since(first.at).as_nanos() << PACE_BITS).checked_div(u128::from(ticks)) {
            self.pace.0.store(pace as u64, Relaxed);
        }
    }

    /// One that was started so long ago.
    #[cfg(test)]
    pub fn of_age(age: Duration) -> Self {
        let clock = Self::start();
        let ticks = (age.as_nanos() << PACE_BITS) / u128::from(clock.pace.0.load(Relaxed));
        let ticks = clock.origin.ticks.checked_sub(ticks as u64).expect("this machine has run for longer");
        let at = clock.origin.at.checked_sub(age).expect("this machine has run for longer");
        Self { origin: Mark { ticks, at }, ..clock }
    }

    #[inline]
    fn ns_at(&self, ticks: u64) -> u64 {
        let ticks = u128::from(ticks.saturating_sub(self.origin.ticks));
        ((ticks * u128::from(self.pace.0.load(Relaxed))) >> PACE_BITS) as u64
    }
}

/// By quanta's own calibration, which takes half a millisecond: right to some 30 ppm.
fn quick_pace(counter: &quanta::Clock) -> u64 {
    counter.delta_as_nanos(0, 1 << PACE_BITS)
}

impl Clock for TscClock {
    #[inline]
    fn now_ns(&self) -> u64 {
        self.ns_at(self.counter.raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settled_clock_and_its_clones_keep_pace_with_the_systems() {
        let clock = TscClock::start();
        let clone = clock.clone();
        if quick_pace(&clock.counter) != PACE_OF_NS {
            // As wrong as no calibration is.
            clock.pace.0.fetch_add(clock.pace.0.load(Relaxed) / 1000, Relaxed);
        }
        clock.settle(clock.mark());
        let first = Mark::take(&clone.counter);
        while first.at.elapsed() < Duration::from_millis(500) {
            std::hint::spin_loop();
        }
        let last = Mark::take(&clone.counter);
        let (counted, passed) = (clone.ns_at(last.ticks) - clone.ns_at(first.ticks), last.at.duration_since(first.at));
        let wrong_ns = counted.abs_diff(passed.as_nanos() as u64);
        assert!(wrong_ns < passed.as_nanos() as u64 / 50_000, "{wrong_ns} ns in {passed:?}");
    }

    #[test]
    fn a_start_that_took_long_to_prepare_is_not_held_up() {
        let clock = TscClock::of_age(2 * MARK_AGE_MAX);
        let mark = clock.mark();
        assert!(mark.at.elapsed() < MARK_LEAD_MAX);
        while mark.at.elapsed() < Duration::from_nanos(SETTLE_NS) {
            std::hint::spin_loop();
        }
        let ready = Instant::now();
        clock.settle(mark);
        assert!(ready.elapsed() < Duration::from_nanos(SETTLE_NS));
    }

    #[test]
    fn what_was_marked_long_ago_is_not_measured_from() {
        // As if the counter had gone on while the machine slept.
        let clock = TscClock::of_age(2 * MARK_AGE_MAX);
        let asleep = Mark { ticks: clock.origin.ticks / 2, ..clock.origin };
        let clock = TscClock { origin: asleep, ..clock };
        let before = clock.pace.0.load(Relaxed);
        clock.settle(asleep);
        assert!(clock.pace.0.load(Relaxed).abs_diff(before) < before / 100);
    }
}
