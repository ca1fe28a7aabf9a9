//! When the cores go: at once, or at the time that was set.

use super::core::Go;
use crate::base::clock::{Clock, TscClock, unix_now_ns};
use crate::base::units::format_duration;
use crate::plan::RunPlan;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Between the decision to go and the first due time, so that every core is spinning by then.
const COUNTDOWN_NS: u64 = 2_000_000;
/// So long before the start connections are made: servers drop those that say nothing for a minute.
const CONNECT_AHEAD_NS: u64 = 30_000_000_000;
/// How soon a signal ends the wait.
const LOOK_NS: u64 = 50_000_000;

/// Waits until the targets may be opened.
pub fn before_opening(plan: &RunPlan, stop: &AtomicBool) {
    let Some(at_unix_ns) = plan.start_at_unix_ns else { return };
    tracing::info!("the run starts in {}", format_duration(at_unix_ns.saturating_sub(unix_now_ns())));
    if plan.sink.kind.is_network() {
        wait_until(at_unix_ns.saturating_sub(CONNECT_AHEAD_NS), stop);
    }
}

/// Waits for the time to start, once all is ready.
pub fn await_start(plan: &RunPlan, clock: &TscClock, stop: &AtomicBool) -> Go {
    let now = || {
        let epoch_ns = clock.now_ns() + COUNTDOWN_NS;
        Go { epoch_ns, epoch_unix_ns: clock.unix_offset_ns() + epoch_ns }
    };
    let Some(at_unix_ns) = plan.start_at_unix_ns else { return now() };
    let late_ns = (unix_now_ns() + COUNTDOWN_NS).saturating_sub(at_unix_ns);
    if late_ns > 0 {
        tracing::warn!("not ready by --start-at: the run starts {} late", format_duration(late_ns));
        return now();
    }
    wait_until(at_unix_ns.saturating_sub(2 * COUNTDOWN_NS), stop);
    if stop.load(Relaxed) {
        return now();
    }
    // By the system's clock, which may have been set right since the run's own took its anchor.
    let (now_ns, now_unix_ns) = (clock.now_ns(), unix_now_ns());
    let epoch_unix_ns = at_unix_ns.max(now_unix_ns);
    Go { epoch_ns: now_ns + (epoch_unix_ns - now_unix_ns), epoch_unix_ns }
}

fn wait_until(unix_ns: u64, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        let left_ns = unix_ns.saturating_sub(unix_now_ns());
        if left_ns == 0 {
            return;
        }
        std::thread::sleep(Duration::from_nanos(left_ns.min(LOOK_NS)));
    }
}
