//! When the cores go: at once, or at the time that was set.

use super::Stop;
use super::setup::Go;
use crate::base::clock::{Clock, Mark, SETTLE_NS, TscClock, unix_now_ns};
use crate::base::fatal::{Exit, Fatal};
use crate::base::units::format_duration;
use crate::plan::RunPlan;
use std::time::Duration;

/// Between the decision to go and the first due time, so that every core is spinning by then.
const COUNTDOWN_NS: u64 = 2_000_000;
/// Before a time that was set: a thread may wake late. The cores spin until then.
const WAKE_AHEAD_NS: u64 = 20_000_000;
/// So long before the start connections are made, since servers drop those that say nothing for a minute, and files of
/// an earlier run are let go.
const OPEN_AHEAD_NS: u64 = 30_000_000_000;
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

/// Waits for the time to start, once all is ready. `mark`: of the clock, from before that.
///
/// # Errors
/// A signal came first.
pub fn await_start(plan: &RunPlan, (clock, mark): (&TscClock, Mark), stop: &Stop) -> Result<Go, Fatal> {
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
    // By the system's clock, which may have been set right since the run's own took its anchor.
    let (now_ns, now_unix_ns) = (clock.now_ns(), unix_now_ns());
    let soonest_unix_ns = now_unix_ns + COUNTDOWN_NS;
    let late_ns = soonest_unix_ns.saturating_sub(wanted_unix_ns);
    if plan.start_at_unix_ns.is_some() && late_ns > 0 {
        tracing::warn!("not ready by --start-at: the run starts {} late", format_duration(late_ns));
    }
    let epoch_unix_ns = wanted_unix_ns.max(soonest_unix_ns);
    Ok(Go { epoch_ns: now_ns + (epoch_unix_ns - now_unix_ns), epoch_unix_ns })
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
