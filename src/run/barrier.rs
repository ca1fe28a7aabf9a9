//! When the cores go: at once, or at the time that was set.

use super::setup::{Call, Go};
use super::stop::Stop;
use crate::base::clock::{Clock, Mark, SETTLE_NS, TscClock, unix_now_ns};
use crate::base::fatal::{Exit, Fatal};
use crate::base::units::format_duration;
use crate::plan::RunPlan;
use crossbeam_channel::{Receiver, RecvError, TryRecvError};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Between the decision to go and the first due time: by then the metrics and every core, which spins, have been told.
const COUNTDOWN_NS: u64 = 2_000_000;
/// A core that has not lined up by then begins late.
const LINE_UP_NS_MAX: u64 = 100_000_000;
/// Of so many tries to read both clocks at once the quickest counts.
const TRIES: usize = 32;
/// Before a time that was set: a thread may wake late. The cores spin until then.
const WAKE_AHEAD_NS: u64 = 20_000_000;
/// So long before the start connections are made, since servers drop those that say nothing for a minute, and files of
/// an earlier run are let go.
const OPEN_AHEAD_NS: u64 = 30_000_000_000;
/// A core that spins leaves its processor after so many looks to whoever has the same right to it: under a real-time
/// policy nobody else would get it, not even who lets the cores go.
const LOOKS_IN_A_ROW: u32 = 1024;
/// How soon a signal ends the wait.
const LOOK_NS: u64 = 50_000_000;

/// Says when the run starts, if a time was set.
pub fn announce(plan: &RunPlan) {
    if let Some(at_unix_ns) = plan.start_at_unix_ns {
        tracing::info!("the run starts in {}", format_duration(at_unix_ns.saturating_sub(unix_now_ns())));
    }
}

/// Waits until the target may be opened.
///
/// # Errors
/// A signal came first, or another core could not start.
pub fn await_opening(plan: &RunPlan, stop: &Stop) -> Result<(), Fatal> {
    let at_unix_ns = plan.start_at_unix_ns.unwrap_or(0);
    wait_until(at_unix_ns.saturating_sub(OPEN_AHEAD_NS), stop)
}

/// Waits for the time to start, once all is ready. `mark`: of the clock, from before that. `line_up` has the cores line
/// up, for so long at most.
///
/// # Errors
/// A signal came first.
pub fn await_start(
    plan: &RunPlan,
    (clock, mark): (&TscClock, Mark),
    stop: &Stop,
    line_up: impl FnOnce(Duration),
) -> Result<Go, Fatal> {
    let wanted_unix_ns = plan.start_at_unix_ns.unwrap_or(0);
    // As late as can be: the system's clock may change its pace while the run waits.
    wait_until(wanted_unix_ns.saturating_sub(WAKE_AHEAD_NS + SETTLE_NS), stop)?;
    if let Some(ppm) = clock.settle(mark) {
        let (percent, way) = (ppm.abs() / 1e4, if ppm > 0.0 { "fast" } else { "slow" });
        let what = format!("the system's clock is being slewed and goes {percent:.2} % too {way} just now");
        let instead = "the machine's own counter, as the kernel measured it at boot";
        tracing::warn!(event = "clock", ppm, "{what}: the run keeps to the pace of {instead}");
    }
    wait_until(wanted_unix_ns.saturating_sub(WAKE_AHEAD_NS), stop)?;
    line_up(Duration::from_nanos(line_up_ns_max(plan.start_at_unix_ns, unix_now_ns())));
    // Of a core that failed its own thread tells.
    if plan.start_at_unix_ns.is_some() && stop.is_by_user() {
        return Err(stopped());
    }
    // By the system's clock, which may have been set right since the run's own took its anchor.
    let (now_ns, now_unix_ns) = at_once(|| clock.now_ns(), unix_now_ns);
    let soonest_unix_ns = now_unix_ns + COUNTDOWN_NS;
    let late_ns = soonest_unix_ns.saturating_sub(wanted_unix_ns);
    if plan.start_at_unix_ns.is_some() && late_ns > 0 {
        tracing::warn!("not ready by --start-at: the run starts {} late", format_duration(late_ns));
    }
    let epoch_unix_ns = wanted_unix_ns.max(soonest_unix_ns);
    Ok(Go { epoch_ns: now_ns + (epoch_unix_ns - now_unix_ns), epoch_unix_ns })
}

/// Nobody is waited for beyond a time that was set, nor up to it: this thread, too, may wake late.
fn line_up_ns_max(wanted_unix_ns: Option<u64>, now_unix_ns: u64) -> u64 {
    let left_ns = wanted_unix_ns.map_or(0, |at| at.saturating_sub(now_unix_ns + COUNTDOWN_NS));
    if left_ns == 0 { LINE_UP_NS_MAX } else { (left_ns / 2).min(LINE_UP_NS_MAX) }
}

/// What two clocks say at one moment: between the two readings this thread may lose its processor for milliseconds.
fn at_once(now_ns: impl Fn() -> u64, unix_ns: impl Fn() -> u64) -> (u64, u64) {
    let read = || {
        let before_ns = now_ns();
        let unix_ns = unix_ns();
        let span_ns = now_ns().saturating_sub(before_ns);
        (span_ns, (before_ns + span_ns / 2, unix_ns))
    };
    (1..TRIES).map(|_| read()).fold(read(), |best, next| if next.0 <= best.0 { next } else { best }).1
}

/// For a core that is ready: waits asleep until the others are, then on its processor.
///
/// # Errors
/// The run will not begin.
pub fn await_go(gate: &Receiver<Call>, lined_up: &AtomicUsize) -> Result<Go, RecvError> {
    if let Call::Go(go) = gate.recv()? {
        return Ok(go);
    }
    lined_up.fetch_add(1, Relaxed);
    loop {
        for _ in 0..LOOKS_IN_A_ROW {
            match gate.try_recv() {
                Ok(Call::Go(go)) => return Ok(go),
                Ok(Call::LineUp) | Err(TryRecvError::Empty) => std::hint::spin_loop(),
                Err(TryRecvError::Disconnected) => return Err(RecvError),
            }
        }
        std::thread::yield_now();
    }
}

fn wait_until(unix_ns: u64, stop: &Stop) -> Result<(), Fatal> {
    loop {
        let left_ns = unix_ns.saturating_sub(unix_now_ns());
        if left_ns == 0 {
            return Ok(());
        }
        stop.unless_over(stopped)?;
        std::thread::sleep(Duration::from_nanos(left_ns.min(LOOK_NS)));
    }
}

fn stopped() -> Fatal {
    Fatal::new(Exit::Unreachable, "stopped before --start-at: nothing was sent")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::run_plan;
    use std::cell::Cell;
    use std::time::Instant;

    #[test]
    fn clocks_between_whose_readings_something_came_are_read_again() {
        // Each look at a clock takes so long; the processor is taken away in all pairs but one.
        let (passed_ns, pairs) = (Cell::new(0), Cell::new(0));
        let look = |ns: u64| {
            passed_ns.set(passed_ns.get() + ns);
            passed_ns.get()
        };
        let unix_ns = || {
            pairs.set(pairs.get() + 1);
            look(if pairs.get() == 20 { 50 } else { 3_000_000 }) + 1_000_000_000
        };
        let (now_ns, now_unix_ns) = at_once(|| look(50), unix_ns);
        assert!(now_unix_ns.abs_diff(now_ns + 1_000_000_000) <= 50, "{now_ns} {now_unix_ns}");
        assert!(pairs.get() > 20);
    }

    #[test]
    fn cores_that_line_up_do_not_put_off_a_time_that_was_set() {
        const NOW_NS: u64 = 1_000_000_000_000;
        assert_eq!(line_up_ns_max(None, NOW_NS), LINE_UP_NS_MAX);
        assert_eq!(line_up_ns_max(Some(NOW_NS + WAKE_AHEAD_NS), NOW_NS), (WAKE_AHEAD_NS - COUNTDOWN_NS) / 2);
        for late in [NOW_NS + COUNTDOWN_NS, NOW_NS, 0] {
            assert_eq!(line_up_ns_max(Some(late), NOW_NS), LINE_UP_NS_MAX, "it is late in any case");
        }
    }

    /// What a start comes to at a time so far ahead, and that time.
    fn start_in(ahead_ns: u64, stop: &Stop, line_up: impl FnOnce(Duration)) -> (Result<Go, Fatal>, u64) {
        let at_unix_ns = unix_now_ns() + ahead_ns;
        let plan = RunPlan { start_at_unix_ns: Some(at_unix_ns), ..run_plan() };
        let clock = TscClock::start(|| None);
        let mark = clock.mark();
        (await_start(&plan, (&clock, mark), stop, line_up), at_unix_ns)
    }

    #[test]
    fn a_core_that_does_not_line_up_does_not_put_off_the_start() {
        // This thread may lose its processor for as long as was left: not each time.
        let starts_in_time = |_| {
            let in_vain = |most: Duration| {
                let began = Instant::now();
                while began.elapsed() < most + Duration::from_millis(1) {
                    std::thread::yield_now();
                }
            };
            let (go, at_unix_ns) = start_in(200_000_000, &Stop::default(), in_vain);
            go.unwrap().epoch_unix_ns == at_unix_ns
        };
        assert!((0..10).any(starts_in_time));
    }

    #[test]
    fn a_signal_while_the_cores_line_up_ends_the_wait() {
        for ahead_ns in [100_000_000, 0] {
            let stop = Stop::default();
            let (go, _) = start_in(ahead_ns, &stop, |_| stop.by_user("SIGINT"));
            assert_eq!(go.map(|go| go.epoch_ns), Err(stopped()));
        }
        let stop = Stop::default();
        let (go, _) = start_in(0, &stop, |_| stop.core_crashed());
        assert!(go.is_ok(), "its thread has more to say");
    }
}
