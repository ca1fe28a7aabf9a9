//! Time: monotonic nanoseconds for everything that is measured, and what the system's clock says.
//!
//! A run reads the processor's counter, whose pace is measured once by the system's monotonic clock, right before the
//! start ([`TscClock::settle`]). Both ends of that measure are known to some ten nanoseconds: the run's clock keeps to
//! the system's, as that went then, within about 1 ppm, which is 4 ms an hour. It does not follow what NTP changes
//! later, since due times must not jump. Where NTP is taking off an offset just then, the pace is that of the machine's
//! own counter, as the kernel measured it at boot; how far the clocks went apart by the end is told
//! ([`TscClock::drift_since`]).

use crate::base::units::format_duration;
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
/// The system's clock is being slewed where it differs by more than this from the machine's own counter, as the kernel
/// measured it at boot. That measure may be wrong by hundreds of millionths; NTP corrects 500 at most for good.
const SLEW_PPM_MAX: f64 = 600.0;
/// By so much, and by so much in all, a run's clock may go apart from the system's without a word.
const DRIFT_PPM_MAX: f64 = 100.0;
const DRIFT_NS_MAX: u64 = 10_000_000;
/// No slewing goes so far: one of the two did not go on for a while.
const STOOD_STILL_PPM_MIN: f64 = 100_000.0;
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

/// Reads `CLOCK_MONOTONIC_RAW`; `None`: there is none. Handed in, since `base` does not know `sys`.
pub type ReadRaw = fn() -> Option<u64>;

/// What the counter and the system's monotonic clocks said at one moment.
#[derive(Clone, Copy)]
pub struct Mark {
    ticks: u64,
    /// `CLOCK_MONOTONIC`, whose pace NTP changes.
    at: Instant,
    /// `CLOCK_MONOTONIC_RAW`: the machine's own counter, at the pace that the kernel measured at boot.
    raw_ns: Option<u64>,
}

impl Mark {
    fn take(counter: &quanta::Clock, read_raw: ReadRaw) -> Self {
        let read = || {
            let before = counter.raw();
            let (at, raw_ns) = (Instant::now(), read_raw());
            let span = counter.raw().wrapping_sub(before);
            (span, Self { ticks: before.wrapping_add(span / 2), at, raw_ns })
        };
        (1..TRIES).map(|_| read()).fold(read(), |best, next| if next.0 < best.0 { next } else { best }).1
    }
}

/// What passed between two marks.
#[derive(Clone, Copy)]
struct Passed {
    ticks: u64,
    system_ns: u64,
    raw_ns: Option<u64>,
}

impl Passed {
    fn between(first: Mark, last: Mark) -> Self {
        Self {
            ticks: last.ticks.saturating_sub(first.ticks),
            system_ns: last.at.duration_since(first.at).as_nanos() as u64,
            raw_ns: last.raw_ns.zip(first.raw_ns).map(|(last_ns, first_ns)| last_ns.saturating_sub(first_ns)),
        }
    }
}

/// By how many millionths `ns` are more than `than_ns`.
fn ppm(ns: u64, than_ns: u64) -> f64 {
    (ns as f64 / than_ns as f64 - 1.0) * 1e6
}

/// The counter's pace: by the system's clock or, where that is being slewed, by the raw one; with it by how many
/// millionths it is. `None`: nothing passed.
fn pace_of(passed: Passed) -> Option<(u64, Option<f64>)> {
    let Passed { ticks, system_ns, raw_ns } = passed;
    let is_slewed = |raw_ns: &u64| *raw_ns > 0 && ppm(system_ns, *raw_ns).abs() > SLEW_PPM_MAX;
    let instead_ns = raw_ns.filter(is_slewed);
    let pace = (u128::from(instead_ns.unwrap_or(system_ns)) << PACE_BITS).checked_div(u128::from(ticks))?;
    Some((pace as u64, instead_ns.map(|raw_ns| ppm(system_ns, raw_ns))))
}

/// What to say where the run's clock counted `run_ns` and the system's `system_ns`, if they are far enough apart.
fn drift(run_ns: u64, system_ns: u64) -> Option<String> {
    let (apart_ns, ppm) = (run_ns.abs_diff(system_ns), ppm(run_ns, system_ns).abs());
    if apart_ns <= DRIFT_NS_MAX || ppm <= DRIFT_PPM_MAX {
        return None;
    }
    let (apart, percent) = (format_duration(apart_ns), ppm / 1e4);
    let way = if run_ns > system_ns { "ahead of" } else { "behind" };
    let so = if ppm < STOOD_STILL_PPM_MIN {
        "rate and latencies are by the run's"
    } else {
        "the machine slept, or its clock stood still"
    };
    Some(format!("the run's clock went {apart} ({percent:.2} %) {way} the system's: {so}"))
}

/// Written once, read by every core each turn: no other data shares its cache lines.
#[repr(align(128))]
struct Pace(AtomicU64);

/// The processor's time-stamp counter, read through quanta; where there is none, the system's monotonic clock.
#[derive(Clone)]
pub struct TscClock {
    counter: quanta::Clock,
    read_raw: ReadRaw,
    origin: Mark,
    /// Of all clones.
    pace: Arc<Pace>,
}

impl TscClock {
    /// Has the pace of a quick calibration; cloned, never made anew, by the threads of a run.
    pub fn start(read_raw: ReadRaw) -> Self {
        let counter = quanta::Clock::new();
        let (origin, pace) = (Mark::take(&counter, read_raw), quick_pace(&counter));
        Self { counter, read_raw, origin, pace: Arc::new(Pace(AtomicU64::new(pace))) }
    }

    pub fn mark_now(&self) -> Mark {
        Mark::take(&self.counter, self.read_raw)
    }

    /// Where the measure of the pace begins. To be asked for before what takes a while in any case: [`Self::settle`]
    /// then need not wait.
    pub fn mark(&self) -> Mark {
        if self.origin.at.elapsed() > MARK_LEAD_MAX { self.mark_now() } else { self.origin }
    }

    /// Measures the pace for this clock and its clones, which takes [`SETTLE_NS`] from the mark on. What they say jumps
    /// by what the quick calibration was wrong: only before anything is measured. Where the system's clock is being
    /// slewed, so that the pace is not by it: by how many millionths it goes too fast.
    pub fn settle(&self, mark: Mark) -> Option<f64> {
        if quick_pace(&self.counter) == PACE_OF_NS {
            return None;
        }
        let is_old = mark.at.elapsed() > MARK_AGE_MAX;
        let first = if is_old { self.mark_now() } else { mark };
        std::thread::sleep(Duration::from_nanos(SETTLE_NS).saturating_sub(first.at.elapsed()));
        let (pace, slewed_ppm) = pace_of(Passed::between(first, self.mark_now()))?;
        self.pace.0.store(pace, Relaxed);
        slewed_ppm
    }

    /// What to say where this clock and the system's went apart from `first` on: NTP slewed that one, or it stood still
    /// while the machine slept. Nothing where the counter began anew since then: what it counted before is not known.
    pub fn drift_since(&self, first: Mark) -> Option<String> {
        let last = self.mark_now();
        if last.ticks < first.ticks {
            return None;
        }
        let run_ns = self.ns_at(last.ticks).saturating_sub(self.ns_at(first.ticks));
        drift(run_ns, Passed::between(first, last).system_ns)
    }

    /// One that was started so long ago.
    #[cfg(test)]
    pub fn of_age(age: Duration) -> Self {
        let clock = Self::start(|| None);
        let ticks = (age.as_nanos() << PACE_BITS) / u128::from(clock.pace.0.load(Relaxed));
        let ticks = clock.origin.ticks.checked_sub(ticks as u64).expect("this machine has run for longer");
        let at = clock.origin.at.checked_sub(age).expect("this machine has run for longer");
        Self { origin: Mark { ticks, at, raw_ns: None }, ..clock }
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
        let clock = TscClock::start(|| None);
        let clone = clock.clone();
        if quick_pace(&clock.counter) != PACE_OF_NS {
            // As wrong as no calibration is.
            clock.pace.0.fetch_add(clock.pace.0.load(Relaxed) / 1000, Relaxed);
        }
        clock.settle(clock.mark());
        let first = clone.mark_now();
        while first.at.elapsed() < Duration::from_millis(500) {
            std::hint::spin_loop();
        }
        let last = clone.mark_now();
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

    #[test]
    fn a_clock_that_is_slewed_sets_no_pace() {
        let ticks = 100_000_000u64;
        let pace_by = |ns: u64| ((u128::from(ns) << PACE_BITS) / u128::from(ticks)) as u64;
        let settled = |system_ns, raw_ns| pace_of(Passed { ticks, system_ns, raw_ns }).unwrap();
        for (system_ns, slewed_ppm) in [(50_500_000, 10_000.0), (49_500_000, -10_000.0), (50_050_000, 1000.0)] {
            let (pace, said) = settled(system_ns, Some(50_000_000));
            assert_eq!(pace, pace_by(50_000_000));
            assert!(said.is_some_and(|ppm| (ppm - slewed_ppm).abs() < 1.0), "{said:?}");
        }
        // What NTP corrects for good where the kernel's measure at boot was wrong.
        for system_ns in [50_015_000, 49_985_000, 50_025_000] {
            assert_eq!(settled(system_ns, Some(50_000_000)), (pace_by(system_ns), None), "{system_ns}");
        }
        // A kernel without the clock, and one whose clock stands still.
        for raw_ns in [None, Some(0)] {
            assert_eq!(settled(50_002_500, raw_ns), (pace_by(50_002_500), None), "{raw_ns:?}");
        }
        assert_eq!(pace_of(Passed { ticks: 0, system_ns: 50, raw_ns: None }), None);
    }

    #[test]
    fn clocks_that_went_apart_are_told_of() {
        const SECOND: u64 = 1_000_000_000;
        let hour_ns = 3600 * SECOND;
        let said = drift(hour_ns + 36 * SECOND, hour_ns).unwrap();
        assert!(said.ends_with("36 s (1.00 %) ahead of the system's: rate and latencies are by the run's"), "{said}");
        let said = drift(hour_ns - 36 * SECOND, hour_ns).unwrap();
        assert!(said.contains("36 s (1.00 %) behind the system's"), "{said}");
        // Less than a hundredth of a percent, and less than 10 ms.
        for (run_ns, system_ns) in [(hour_ns + SECOND / 4, hour_ns), (SECOND + 9_000_000, SECOND), (0, 0)] {
            assert_eq!(drift(run_ns, system_ns), None, "{run_ns}, {system_ns}");
        }
        let clock = TscClock::start(|| None);
        assert_eq!(clock.drift_since(clock.mark_now()), None);
    }

    #[test]
    fn a_clock_that_stood_still_is_told_from_one_that_is_slewed() {
        const MINUTE: u64 = 60_000_000_000;
        let slept = "the machine slept, or its clock stood still";
        for (run_ns, way) in [(490 * MINUTE, "(4800.00 %) ahead of"), (5 * MINUTE, "(50.00 %) behind")] {
            let said = drift(run_ns, 10 * MINUTE).unwrap();
            assert!(said.ends_with(&format!("{way} the system's: {slept}")), "{said}");
        }
    }

    #[test]
    fn a_counter_that_began_anew_is_not_said_to_be_behind() {
        let clock = TscClock::of_age(Duration::from_secs(1));
        let before = Mark { ticks: u64::MAX, ..clock.origin };
        assert_eq!(clock.drift_since(before), None);
    }
}
