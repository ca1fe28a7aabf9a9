//! What kept the run from going faster, with the numbers that say so.

use crate::base::units::{format_duration, format_rate_short};
use crate::counters::LoopTime;
use crate::observe::report::{LimitedBy, Pacing, Throughput, Verdict};

/// A rate counts as met from here on.
pub const RATE_MET_RATIO: f64 = 0.995;
/// From this share of the loop's time on, the machine is to blame, unless the target took more of it.
const STOLEN_SHARE_MAX: f64 = 0.05;
/// From this share of the time in which something was due, the target is what the cores waited for.
const WAITED_SHARE_MIN: f64 = 0.15;

/// How a run ended that its reader left, which is no fault.
pub const READER_LEFT: &str = "the reader closed its end, which ended the run";

/// Where the cores' time went, as shares of it.
struct Shares {
    /// Nothing was due.
    idle: f64,
    /// Other work held the processors.
    stolen: f64,
    /// Something was due and the core waited: for room, or in a call that the target held up.
    waited: f64,
    /// Making and handing over records.
    work: f64,
    /// The kernel's part of it: copying, sending.
    kernel: f64,
}

impl Shares {
    fn of(time: &LoopTime) -> Self {
        let work_ns = time.work_ns.saturating_sub(time.stolen_ns);
        let total_ns = time.target_full_ns + time.kernel_ns + time.idle_ns + time.work_ns;
        let kernel_ns = time.cpu_ns.saturating_sub(time.spun_ns + work_ns).min(total_ns - time.idle_ns - time.work_ns);
        let waited_ns = time.target_full_ns + time.kernel_ns - kernel_ns;
        let share = |ns: u64| ns as f64 / total_ns.max(1) as f64;
        Self {
            idle: share(time.idle_ns),
            stolen: share(time.stolen_ns),
            waited: share(waited_ns),
            work: share(work_ns),
            kernel: share(kernel_ns),
        }
    }
}

/// The verdict from where the cores' time went in the measured part. `closed`: the reader ended the run by leaving,
/// so that the records it did not take say nothing of how fast it was.
pub fn judge(time: &LoopTime, pacing: &Pacing, throughput: &Throughput, closed: bool) -> Verdict {
    let shares = Shares::of(time);
    let disturbed = shares.stolen >= STOLEN_SHARE_MAX;
    let waits = shares.waited > WAITED_SHARE_MIN * (1.0 - shares.idle);
    let mut evidence = Vec::new();
    let met = pacing.achieved_ratio.is_some_and(|ratio| ratio >= RATE_MET_RATIO);
    // What the reader's leaving left over aside, cores that mostly had nothing due were held back by the rate.
    let idle = closed && pacing.achieved_ratio.is_some() && shares.idle > 0.5;
    let limited_by = if met || idle {
        LimitedBy::Rate
    } else if disturbed && !(waits && shares.waited >= shares.stolen) {
        LimitedBy::Host
    } else if waits {
        LimitedBy::Target
    } else {
        LimitedBy::Generator
    };
    match limited_by {
        LimitedBy::Rate => evidence.push(format!("the cores had nothing due {} of the time", percent(shares.idle))),
        LimitedBy::Host => evidence.push(format!(
            "other work held the processors {} of the time; the longest gap between two turns was {}",
            percent(shares.stolen),
            format_duration(time.gap_max_ns)
        )),
        LimitedBy::Target => evidence.push(format!(
            "it took {}; the cores waited for it {} of the time and were busy {}",
            format_rate_short(throughput.bytes_per_second),
            percent(shares.waited),
            percent(shares.work + shares.kernel)
        )),
        LimitedBy::Generator if time.turns == 0 => evidence.push("the run was over before it could be told".to_owned()),
        LimitedBy::Generator => evidence.push(format!(
            "the cores made records {} of the time, handed them to the kernel {} and waited for the target {}",
            percent(shares.work),
            percent(shares.kernel),
            percent(shares.waited)
        )),
    }
    if let (Some(target), Some(ratio)) = (pacing.target_bytes_per_second, pacing.achieved_ratio) {
        let (target, percent) = (format_rate_short(target), percent(ratio));
        let word = if met { "was met" } else { "was not met" };
        let said = format!("the rate of {target} {word}: {percent} of the records due were produced");
        // The cause goes first, and a rate that was met is its own cause.
        evidence.insert(if met { 0 } else { evidence.len() }, said);
    }
    if closed {
        evidence.push(READER_LEFT.to_owned());
    }
    if disturbed && matches!(limited_by, LimitedBy::Target | LimitedBy::Generator) {
        evidence.push(format!("other work held the processors {} of the time", percent(shares.stolen)));
    }
    if limited_by != LimitedBy::Host && time.gap_max_ns > 1_000_000 {
        evidence.push(format!("the longest gap between two turns was {}", format_duration(time.gap_max_ns)));
    }
    Verdict { limited_by, evidence }
}

/// Never rounded up to 100 %.
pub fn percent(ratio: f64) -> String {
    let floored = (ratio * 10_000.0).floor() / 100.0;
    format!("{floored:.2} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(time: LoopTime, achieved: Option<f64>) -> Verdict {
        let pacing =
            Pacing { target_bytes_per_second: achieved.map(|_| 1e9), achieved_ratio: achieved, ..Pacing::default() };
        judge(&time, &pacing, &Throughput { bytes_per_second: 5e8, ..Throughput::default() }, false)
    }

    #[test]
    fn each_cause_is_told_from_the_others() {
        let work = LoopTime { work_ns: 80, idle_ns: 10, kernel_ns: 10, cpu_ns: 90, ..LoopTime::default() };
        let polled = LoopTime { work_ns: 20, target_full_ns: 70, kernel_ns: 10, spun_ns: 70, cpu_ns: 100, ..work };
        let asleep = LoopTime { spun_ns: 0, cpu_ns: 30, ..polled };
        let copied = LoopTime { work_ns: 30, kernel_ns: 70, cpu_ns: 100, ..LoopTime::default() };
        let blocked = LoopTime { cpu_ns: 40, ..copied };
        // An adaptive core submits and waits in one call; its sends are the work of that call.
        let waits_seldom = LoopTime { work_ns: 10, target_full_ns: 90, cpu_ns: 95, ..LoopTime::default() };
        let both = LoopTime { work_ns: 20, stolen_ns: 10, target_full_ns: 80, cpu_ns: 10, ..LoopTime::default() };
        let bursts = LoopTime { work_ns: 10, target_full_ns: 10, idle_ns: 80, cpu_ns: 10, ..LoopTime::default() };
        let stolen = LoopTime { work_ns: 80, stolen_ns: 20, gap_max_ns: 30_000_000, ..LoopTime::default() };
        for (time, achieved, limited_by) in [
            (work, None, LimitedBy::Generator),
            (polled, None, LimitedBy::Target),
            (asleep, None, LimitedBy::Target),
            (copied, None, LimitedBy::Generator),
            (blocked, None, LimitedBy::Target),
            (waits_seldom, None, LimitedBy::Generator),
            (bursts, Some(0.9), LimitedBy::Target),
            (stolen, None, LimitedBy::Host),
            (both, None, LimitedBy::Target),
            (LoopTime { target_full_ns: 12, work_ns: 88, cpu_ns: 78, ..both }, None, LimitedBy::Host),
            (polled, Some(0.995), LimitedBy::Rate),
            (stolen, Some(1.0), LimitedBy::Rate),
            (polled, Some(0.99), LimitedBy::Target),
            (work, Some(0.5), LimitedBy::Generator),
        ] {
            assert_eq!(verdict(time, achieved).limited_by, limited_by, "{time:?} {achieved:?}");
        }
    }

    #[test]
    fn evidence_carries_the_numbers() {
        let time = LoopTime { work_ns: 15, target_full_ns: 75, kernel_ns: 10, cpu_ns: 25, ..LoopTime::default() };
        let time = LoopTime { gap_max_ns: 2_000_000, ..time };
        let said = verdict(time, Some(0.98999)).evidence.join("\n");
        for part in ["1 GB/s", "98.99 %", "was not met", "500 MB/s", "75.00 %", "25.00 %", "2 ms"] {
            assert!(said.contains(part), "'{part}' is missing in: {said}");
        }
    }

    #[test]
    fn a_reader_that_left_is_not_called_slow() {
        let idle = LoopTime { work_ns: 5, kernel_ns: 10, idle_ns: 85, ..LoopTime::default() };
        let full = LoopTime { work_ns: 5, target_full_ns: 85, idle_ns: 10, ..LoopTime::default() };
        let pacing = Pacing { target_bytes_per_second: Some(1e6), achieved_ratio: Some(0.9), ..Pacing::default() };
        for (time, closed, limited_by) in
            [(idle, true, LimitedBy::Rate), (full, true, LimitedBy::Target), (idle, false, LimitedBy::Target)]
        {
            let verdict = judge(&time, &pacing, &Throughput::default(), closed);
            assert_eq!(verdict.limited_by, limited_by, "{time:?}");
            assert_eq!(verdict.evidence.iter().any(|said| said.contains("reader closed")), closed);
        }
    }

    #[test]
    fn a_run_without_time_has_a_verdict() {
        let verdict = verdict(LoopTime::default(), None);
        assert_eq!(verdict.limited_by, LimitedBy::Generator);
        assert!(verdict.evidence[0].contains("over before"), "{:?}", verdict.evidence);
    }
}
