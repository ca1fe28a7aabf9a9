//! What kept the run from going faster, with the numbers that say so.

use crate::base::units::{format_count, format_counted, format_duration, format_rate_short};
use crate::counters::LoopTime;
use crate::observe::report::{LimitedBy, Pacing, Throughput, Totals, Verdict};
use std::collections::BTreeSet;

/// A rate counts as met from here on.
pub const RATE_MET_RATIO: f64 = 0.995;
/// From this share of the loop's time on, the machine is to blame, unless the target took more of it.
const STOLEN_SHARE_MAX: f64 = 0.05;
/// From this share of the time in which something was due, the target is what the cores waited for.
const WAITED_SHARE_MIN: f64 = 0.15;
/// Cores that had nothing due for this share of the time could have kept up, had they been let run in time.
const IDLE_SHARE_MIN: f64 = 0.9;
/// Smaller shares of the time are not named.
const NAMED_SHARE_MIN: f64 = 0.005;

/// How a run ended that its reader left, which is no fault.
pub const READER_LEFT: &str = "the reader closed its end, which ended the run";

/// Where the cores' time went, as shares of it that add up to 1.
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
        // Working and spinning take processor time: what is missing of it had others, what is over was the kernel's.
        let own_ns = time.spun_ns + work_ns;
        let kernel_ns = time.cpu_ns.saturating_sub(own_ns).min(total_ns - time.idle_ns - time.work_ns);
        let waited_ns = time.target_full_ns + time.kernel_ns - kernel_ns;
        let share = |ns: u64| ns as f64 / total_ns.max(1) as f64;
        let running_ns = time.target_full_ns + time.idle_ns + work_ns;
        let missing = own_ns.saturating_sub(time.cpu_ns).min(running_ns) as f64 / running_ns.max(1) as f64;
        let ran = |ns: u64| share(ns) * (1.0 - missing);
        Self {
            idle: ran(time.idle_ns),
            stolen: share(time.stolen_ns) + share(running_ns) * missing,
            waited: share(waited_ns) - share(time.target_full_ns.min(waited_ns)) * missing,
            work: ran(work_ns),
            kernel: share(kernel_ns),
        }
    }

    /// The shares that are worth a word beside those of the sentence.
    fn rest(&self) -> String {
        let others = [(self.idle, "nothing was due"), (self.stolen, "other work held the processors")];
        let named = others.iter().filter(|(share, _)| *share >= NAMED_SHARE_MIN);
        named.map(|(share, what)| format!("; {what} {}", percent(*share))).collect()
    }
}

/// What a run is judged by, the measured part of it.
pub struct Case<'a> {
    /// Where the cores' time went.
    pub time: &'a LoopTime,
    pub pacing: &'a Pacing,
    pub throughput: &'a Throughput,
    pub totals: &'a Totals,
    pub elapsed_seconds: f64,
    /// Records handed to the kernel, those of the warm-up included.
    pub records_submitted: u64,
    /// Records that the target answered with a refusal, at the last attempt too.
    pub records_refused: u64,
    /// What the first refusals said (HTTP), tried again or not.
    pub statuses: BTreeSet<u16>,
    /// Connections that were lost and not there again at the end.
    pub connections_down: usize,
    /// The reader ended the run by leaving, so that the records it did not take say nothing of how fast it was.
    pub closed: bool,
    /// The signal that ended the run.
    pub signal: Option<&'a str>,
}

/// The verdict from where the cores' time went in the measured part.
pub fn judge(case: &Case<'_>) -> Verdict {
    let shares = Shares::of(case.time);
    let (limited_by, met) = (case.limited_by(&shares), case.met());
    let mut evidence = vec![case.cause(limited_by, &shares)];
    if let (Some(target), Some(ratio)) = (case.pacing.target_bytes_per_second, case.pacing.achieved_ratio) {
        let (target, percent) = (format_rate_short(target), percent(ratio));
        let word = if met { "was met" } else { "was not met" };
        let said = format!("the rate of {target} {word}: {percent} of the records due were produced");
        // The cause goes first, and a rate that was met is its own cause.
        evidence.insert(if met { 0 } else { evidence.len() }, said);
    }
    if let Some(said) = case.refusals(limited_by) {
        evidence.insert(0, said);
    }
    if case.closed {
        evidence.push(READER_LEFT.to_owned());
    }
    if limited_by != LimitedBy::Host && case.time.gap_max_ns > 1_000_000 {
        evidence.push(format!("the longest gap between two turns was {}", format_duration(case.time.gap_max_ns)));
    }
    Verdict { limited_by, evidence }
}

impl Case<'_> {
    fn met(&self) -> bool {
        self.pacing.achieved_ratio.is_some_and(|ratio| ratio >= RATE_MET_RATIO)
    }

    fn limited_by(&self, shares: &Shares) -> LimitedBy {
        let is_paced = self.pacing.achieved_ratio.is_some();
        let waits = shares.waited > WAITED_SHARE_MIN * (1.0 - shares.idle);
        // What the reader's leaving left over aside, cores that mostly had nothing due were held back by the rate.
        let idle = self.closed && is_paced && shares.idle > 0.5;
        match () {
            () if self.met() || idle => LimitedBy::Rate,
            () if self.records_submitted == 0 => self.limited_without_records(),
            () if is_paced && self.is_met_but_for_losses() => LimitedBy::Target,
            () if is_disturbed(shares) && !(waits && shares.waited >= shares.stolen) => LimitedBy::Host,
            () if waits => LimitedBy::Target,
            () if is_paced && shares.idle >= IDLE_SHARE_MIN => LimitedBy::Host,
            () => LimitedBy::Generator,
        }
    }

    /// A target that was given nothing is to blame only where no connection led to it.
    fn limited_without_records(&self) -> LimitedBy {
        match () {
            () if self.connections_down > 0 => LimitedBy::Target,
            () if self.pacing.target_bytes_per_second.is_some() && self.totals.records_offered == 0 => LimitedBy::Rate,
            () if self.time.turns == 0 => LimitedBy::Generator,
            () => LimitedBy::Host,
        }
    }

    /// Everything that was due was sent in time, but the target did not take or confirm all of it.
    fn is_met_but_for_losses(&self) -> bool {
        let Totals { records_offered, records_produced, records_failed, records_uncertain, .. } = *self.totals;
        let sent = records_produced + records_failed + records_uncertain;
        !self.closed && records_offered > 0 && sent as f64 >= RATE_MET_RATIO * records_offered as f64
    }

    fn cause(&self, limited_by: LimitedBy, shares: &Shares) -> String {
        if self.records_submitted == 0 {
            return self.nothing_sent(limited_by);
        }
        let gap = format_duration(self.time.gap_max_ns);
        match limited_by {
            LimitedBy::Rate => format!("the cores had nothing due {} of the time", percent(shares.idle)),
            LimitedBy::Host if is_disturbed(shares) => format!(
                "other work held the processors {} of the time; the longest gap between two turns was {gap}",
                percent(shares.stolen)
            ),
            LimitedBy::Host => format!(
                "the cores had nothing due {} of the time, but did not run when something was; the longest gap between \
                 two turns was {gap}",
                percent(shares.idle)
            ),
            LimitedBy::Target => format!(
                "it took {}; the cores waited for it {} of the time and were busy {}{}",
                format_rate_short(self.throughput.bytes_per_second),
                percent(shares.waited),
                percent(shares.work + shares.kernel),
                shares.rest()
            ),
            LimitedBy::Generator if self.time.turns == 0 => OVER_BEFORE.to_owned(),
            LimitedBy::Generator => format!(
                "the cores made records {} of the time, handed them to the kernel {} and waited for the target {}{}",
                percent(shares.work),
                percent(shares.kernel),
                percent(shares.waited),
                shares.rest()
            ),
        }
    }

    fn nothing_sent(&self, limited_by: LimitedBy) -> String {
        let nothing = match self.signal {
            Some(signal) => format!("nothing was sent before {signal} ended the run"),
            None => "nothing was sent".to_owned(),
        };
        match limited_by {
            LimitedBy::Rate => format!("{nothing}: nothing was due"),
            LimitedBy::Target => {
                let down = format_counted(self.connections_down as u64, "connection");
                format!("{nothing}: {down} down at the end")
            }
            LimitedBy::Host => {
                let elapsed = format_duration((self.elapsed_seconds * 1e9) as u64);
                let ran = format_duration(self.time.cpu_ns);
                format!("{nothing}: the cores had a processor for {ran} in all, in a run of {elapsed}")
            }
            LimitedBy::Generator if self.signal.is_some() => nothing,
            LimitedBy::Generator => OVER_BEFORE.to_owned(),
        }
    }

    fn refusals(&self, limited_by: LimitedBy) -> Option<String> {
        let who = if limited_by == LimitedBy::Target { "it" } else { "the target" };
        let statuses: Vec<_> = self.statuses.iter().map(u16::to_string).collect();
        let with = if statuses.is_empty() { String::new() } else { format!(" ({})", statuses.join(", ")) };
        if self.records_refused > 0 {
            let offered = format_counted(self.totals.records_offered, "record");
            return Some(format!("{who} refused {} of {offered}{with}", format_count(self.records_refused)));
        }
        let is_taken_later = !statuses.is_empty() && self.totals.retries > 0;
        let again = format_counted(self.totals.retries, "block");
        is_taken_later.then(|| format!("{who} refused requests at first{with}; {again} sent again"))
    }
}

const OVER_BEFORE: &str = "the run was over before it could be told";

fn is_disturbed(shares: &Shares) -> bool {
    shares.stolen >= STOLEN_SHARE_MAX
}

/// Never rounded up to 100 %.
pub fn percent(ratio: f64) -> String {
    let floored = (ratio * 10_000.0).floor() / 100.0;
    format!("{floored:.2} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Given {
        time: LoopTime,
        pacing: Pacing,
        totals: Totals,
        records_submitted: u64,
        records_refused: u64,
        statuses: BTreeSet<u16>,
        connections_down: usize,
        closed: bool,
        signal: Option<&'static str>,
    }

    fn judged(time: LoopTime, achieved: Option<f64>, change: impl FnOnce(&mut Given)) -> Verdict {
        let target_bytes_per_second = achieved.map(|_| 1e9);
        let mut given = Given {
            time,
            pacing: Pacing { target_bytes_per_second, achieved_ratio: achieved, ..Pacing::default() },
            totals: Totals::default(),
            records_submitted: 1,
            records_refused: 0,
            statuses: BTreeSet::new(),
            connections_down: 0,
            closed: false,
            signal: None,
        };
        change(&mut given);
        judge(&Case {
            time: &given.time,
            pacing: &given.pacing,
            throughput: &Throughput { bytes_per_second: 5e8, ..Throughput::default() },
            totals: &given.totals,
            elapsed_seconds: 6.8,
            records_submitted: given.records_submitted,
            records_refused: given.records_refused,
            statuses: given.statuses,
            connections_down: given.connections_down,
            closed: given.closed,
            signal: given.signal,
        })
    }

    fn verdict(time: LoopTime, achieved: Option<f64>) -> Verdict {
        judged(time, achieved, |_| {})
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
        for (time, closed, limited_by) in
            [(idle, true, LimitedBy::Rate), (full, true, LimitedBy::Target), (idle, false, LimitedBy::Target)]
        {
            let verdict = judged(time, Some(0.9), |given| given.closed = closed);
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

    #[test]
    fn a_core_that_was_not_let_run_is_the_hosts() {
        // A busy core spins whenever it is let: what is missing of its processor time had others.
        let time = LoopTime { turns: 1, work_ns: 2, idle_ns: 98, spun_ns: 98, cpu_ns: 60, ..LoopTime::default() };
        let starved = verdict(time, Some(0.9));
        assert_eq!(starved.limited_by, LimitedBy::Host);
        assert!(starved.evidence[0].contains("other work held the processors 40.00 % of the time"), "{starved:?}");
        // An adaptive one sleeps, and wakes too late for what is due.
        let asleep = LoopTime { spun_ns: 0, cpu_ns: 3, gap_max_ns: 600_000_000, ..time };
        let late = verdict(asleep, Some(0.9));
        assert_eq!(late.limited_by, LimitedBy::Host);
        assert!(late.evidence[0].contains("did not run when something was") && late.evidence[0].contains("600 ms"));
        assert_eq!(verdict(LoopTime { cpu_ns: 100, ..time }, Some(1.0)).limited_by, LimitedBy::Rate);
    }

    #[test]
    fn a_target_that_was_given_nothing_is_not_to_blame() {
        let time = LoopTime { turns: 3, work_ns: 10, target_full_ns: 90, cpu_ns: 2_800_000, ..LoopTime::default() };
        let due = Totals { records_offered: 7, records_not_sent: 7, ..Totals::default() };
        let unsent = |connections_down| {
            judged(time, Some(0.0), |given| {
                (given.records_submitted, given.totals) = (0, due.clone());
                given.connections_down = connections_down;
            })
        };
        let (starved, cut) = (unsent(0), unsent(2));
        assert_eq!((starved.limited_by, cut.limited_by), (LimitedBy::Host, LimitedBy::Target));
        let said = "nothing was sent: the cores had a processor for 2.8 ms in all, in a run of 6.8 s";
        assert_eq!(starved.evidence[0], said);
        assert_eq!(cut.evidence[0], "nothing was sent: 2 connections down at the end");
    }

    #[test]
    fn a_signal_before_the_first_record_is_told() {
        let ended = |time, rate, signal| {
            judged(time, None, |given| {
                (given.records_submitted, given.signal) = (0, Some(signal));
                given.pacing.target_bytes_per_second = rate;
            })
        };
        let time = LoopTime { turns: 3, work_ns: 10, target_full_ns: 90, cpu_ns: 5, ..LoopTime::default() };
        let early = ended(time, Some(5e6), "SIGTERM");
        assert_eq!(early.limited_by, LimitedBy::Rate);
        assert_eq!(early.evidence, ["nothing was sent before SIGTERM ended the run: nothing was due"]);
        let earlier = ended(LoopTime::default(), None, "SIGINT");
        assert_eq!(earlier.limited_by, LimitedBy::Generator);
        assert_eq!(earlier.evidence, ["nothing was sent before SIGINT ended the run"]);
    }

    #[test]
    fn refusals_are_the_first_that_is_said() {
        let time = LoopTime { work_ns: 2, idle_ns: 98, cpu_ns: 2, ..LoopTime::default() };
        let refused = judged(time, Some(0.698), |given| {
            let (records_offered, records_produced, records_failed) = (7325, 5114, 2211);
            given.totals = Totals { records_offered, records_produced, records_failed, ..Totals::default() };
            (given.records_refused, given.statuses) = (2211, [503].into());
        });
        assert_eq!(refused.limited_by, LimitedBy::Target, "all was sent in time");
        assert_eq!(refused.evidence[0], "it refused 2,211 of 7,325 records (503)");
        let again = judged(time, Some(1.0), |given| {
            (given.totals.retries, given.statuses) = (12, [429, 503].into());
        });
        assert_eq!(again.limited_by, LimitedBy::Rate);
        assert_eq!(again.evidence[0], "the target refused requests at first (429, 503); 12 blocks sent again");
    }

    #[test]
    fn the_shares_that_are_said_add_up() {
        let waits =
            LoopTime { target_full_ns: 40, work_ns: 25, stolen_ns: 5, idle_ns: 35, cpu_ns: 20, ..LoopTime::default() };
        let said = verdict(waits, None).evidence.remove(0);
        for part in ["waited for it 40.00 %", "busy 20.00 %", "nothing was due 35.00 %", "held the processors 5.00 %"] {
            assert!(said.contains(part), "'{part}' is missing in: {said}");
        }
        let works = LoopTime { turns: 1, work_ns: 70, kernel_ns: 10, idle_ns: 20, cpu_ns: 80, ..LoopTime::default() };
        let said = verdict(works, None).evidence.remove(0);
        assert!(said.ends_with("waited for the target 0.00 %; nothing was due 20.00 %"), "{said}");
    }
}
