//! What kept the run from going faster, with the numbers that say so.

mod in_flight;

use crate::base::units::{format_count, format_counted, format_duration, format_rate_short};
use crate::counters::answers::{REFUSED_STATUSES_MAX, is_refusal};
use crate::counters::{ERROR_KINDS, Field, LoopTime};
use crate::observe::report::{Distribution, LimitedBy, Pacing, Throughput, Totals, Verdict};
use std::collections::{BTreeMap, BTreeSet};

pub use in_flight::in_flight;

/// A rate counts as met from here on.
const RATE_MET_RATIO: f64 = 0.995;
/// From this share of the loop's time on, the machine is to blame, unless the target took more of it.
pub const STOLEN_SHARE_MAX: f64 = 0.05;
/// From this share of the time in which something was due, the target is what the cores waited for.
const WAITED_SHARE_MIN: f64 = 0.15;
/// Cores that had nothing due for this share of the time could have kept up, had they been let run in time.
const IDLE_SHARE_MIN: f64 = 0.9;
/// Less time than this says nothing of a rate.
const JUDGED_SECONDS_MIN: f64 = 0.1;
/// From this share of the records on, that they were sent late is what response times are about.
const LATE_SHARE_MAX: f64 = 0.05;
/// From this share of the time in which something was due, what may be in flight is what the target was held to.
const FULL_SHARE_MIN: f64 = 0.5;
/// From this share of the time on, that files were not there in time is worth a note.
const FILE_WAIT_SHARE_MIN: f64 = 0.05;
/// One wait of this share of the time, so many times the usual one, is why the target was waited for.
const STALL_SHARE_MIN: f64 = 0.25;
const STALL_FACTOR_MIN: f64 = 10.0;
/// Smaller shares of the time are not named.
const NAMED_SHARE_MIN: f64 = 0.005;

/// What says that the target had the records and did not take them.
const REFUSALS: &[Field] = &[Field::ErrorBroker, Field::ErrorStatus, Field::ErrorThrottled, Field::ErrorBody];

/// What kept the cores from running; how much of the time follows.
pub const OTHER_WORK: &str = "other work held the processors";
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
    /// The part of it that was for the file to follow a full one.
    file_wait: f64,
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
            file_wait: ran(time.file_wait_ns),
            work: ran(work_ns),
            kernel: share(kernel_ns),
        }
    }

    /// The shares that are worth a word beside those of the sentence.
    fn rest(&self) -> String {
        named(self.idle, "nothing was due") + &self.others()
    }

    fn others(&self) -> String {
        named(self.stolen, OTHER_WORK)
    }
}

fn named(share: f64, what: &str) -> String {
    if share >= NAMED_SHARE_MIN { format!("; {what} {}", percent(share)) } else { String::new() }
}

/// What a run is judged by, the measured part of it.
pub struct Case<'a> {
    /// Where the cores' time went.
    pub time: &'a LoopTime,
    pub pacing: &'a Pacing,
    pub throughput: &'a Throughput,
    /// From submitted to confirmed.
    pub service: &'a Distribution,
    pub totals: &'a Totals,
    pub elapsed_seconds: f64,
    /// Records handed to the kernel, those of the warm-up included.
    pub records_submitted: u64,
    /// Records that the target answered with a refusal, at the last attempt too.
    pub records_refused: u64,
    /// What refusals said (HTTP), tried again or not.
    pub statuses: BTreeSet<u16>,
    /// Connections that were lost and not there again at the end.
    pub connections_down: usize,
    /// The reader ended the run by leaving, so that the records it did not take say nothing of how fast it was.
    pub closed: bool,
    /// The signal that ended the run.
    pub signal: Option<&'a str>,
    /// How much may be in flight, where that is limited, and what would allow more.
    pub in_flight: Option<String>,
    /// What full files have in the page cache is brought to the drive before another file is made.
    pub syncs_page_cache: bool,
}

/// The verdict from where the cores' time went in the measured part.
pub fn judge(case: &Case<'_>) -> Verdict {
    let shares = Shares::of(case.time);
    let (limited_by, met) = (case.limited_by(&shares), case.met());
    let mut evidence = vec![case.cause(limited_by, &shares)];
    if let (Some(target), Some(ratio)) = (case.pacing.target_bytes_per_second, case.pacing.achieved_ratio) {
        // The cause goes first, and a rate that was met is its own cause.
        evidence.insert(if met { 0 } else { evidence.len() }, rate_said(target, ratio));
    }
    if let Some(said) = refusals(limited_by, case.totals, case.records_refused, &case.statuses) {
        // They are why the target is to blame; beside another verdict its own reason goes first.
        evidence.insert(usize::from(limited_by != LimitedBy::Target), said);
    }
    if let Some(said) = case.outages() {
        let at = if limited_by == LimitedBy::Target && case.connections_down > 0 { 0 } else { evidence.len() };
        evidence.insert(at, said);
    }
    evidence.extend(retransmitted(case.totals.tcp_retransmits));
    evidence.extend(throttled(case.totals));
    if case.closed {
        evidence.push(READER_LEFT.to_owned());
    }
    if limited_by != LimitedBy::Host && case.time.gap_max_ns > 1_000_000 {
        evidence.push(format!("the longest gap between two turns was {}", format_duration(case.time.gap_max_ns)));
    }
    let stolen_ratio = (case.time.turns > 0).then_some(shares.stolen);
    Verdict { limited_by, evidence, notes: case.notes(limited_by, &shares), stolen_ratio }
}

impl Case<'_> {
    fn met(&self) -> bool {
        self.pacing.achieved_ratio.is_some_and(is_met)
    }

    fn limited_by(&self, shares: &Shares) -> LimitedBy {
        let is_paced = self.pacing.achieved_ratio.is_some();
        let waits = shares.waited > WAITED_SHARE_MIN * (1.0 - shares.idle);
        // What the reader's leaving left over aside, cores that mostly had nothing due were held back by the rate.
        let idle = self.closed && is_paced && shares.idle > 0.5;
        match () {
            () if self.met() || idle => LimitedBy::Rate,
            () if self.is_over_before() => self.limited_by_the_user(),
            () if self.records_submitted == 0 => self.limited_without_records(),
            () if self.connections_down > 0 && self.totals.records_not_sent > 0 => LimitedBy::Target,
            () if is_paced && self.is_met_but_for_losses() => LimitedBy::Target,
            () if self.is_disturbed(shares) && !(waits && shares.waited >= shares.stolen) => LimitedBy::Host,
            () if waits => LimitedBy::Target,
            () if is_paced && shares.idle >= IDLE_SHARE_MIN => match self.signal {
                Some(_) => LimitedBy::Rate,
                None => LimitedBy::Host,
            },
            () => LimitedBy::Generator,
        }
    }

    /// A signal came before anything was measured, or sent.
    fn is_over_before(&self) -> bool {
        let nothing = self.elapsed_seconds <= 0.0 || self.records_submitted == 0 && self.connections_down == 0;
        self.signal.is_some() && nothing
    }

    /// Nobody kept the run from going faster.
    fn limited_by_the_user(&self) -> LimitedBy {
        match self.pacing.target_bytes_per_second {
            Some(_) => LimitedBy::Rate,
            None => LimitedBy::Generator,
        }
    }

    /// Other work took so much that a rate would have been met without it.
    fn is_disturbed(&self, shares: &Shares) -> bool {
        let explains = |ratio: f64| ratio >= RATE_MET_RATIO * (1.0 - shares.stolen);
        shares.stolen >= STOLEN_SHARE_MAX && self.pacing.achieved_ratio.is_none_or(explains)
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
        match (self.signal.filter(|_| self.is_over_before()), self.records_submitted) {
            (Some(signal), 0) => return format!("nothing was sent before {signal} ended the run"),
            (Some(signal), _) => return format!("{signal} ended the run before its measured part began"),
            (None, 0) => return self.nothing_sent(limited_by),
            (None, _) => {}
        }
        let gap = format_duration(self.time.gap_max_ns);
        match limited_by {
            LimitedBy::Rate => {
                format!("the cores had nothing due {} of the time{}", percent(shares.idle), shares.others())
            }
            LimitedBy::Host if self.is_disturbed(shares) => format!(
                "{OTHER_WORK} {} of the time; the longest gap between two turns was {gap}",
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

    /// What the verdict alone would hide.
    fn notes(&self, limited_by: LimitedBy, shares: &Shares) -> Vec<String> {
        if self.records_submitted == 0 || self.is_over_before() {
            return Vec::new();
        }
        if self.elapsed_seconds < JUDGED_SECONDS_MIN {
            let elapsed = format_duration((self.elapsed_seconds * 1e9) as u64);
            return vec![format!("only {elapsed} were measured: too short to judge")];
        }
        let late = self.pacing.catch_up_records as f64 / self.totals.records_offered.max(1) as f64;
        let note = match limited_by {
            LimitedBy::Rate if shares.stolen >= STOLEN_SHARE_MAX => {
                let stolen = percent(shares.stolen);
                Some(format!("{OTHER_WORK} {stolen} of the time, so that latencies are the host's"))
            }
            LimitedBy::Rate if late >= LATE_SHARE_MAX => {
                Some(format!("{} of the records were sent late, and response times count that wait", percent(late)))
            }
            LimitedBy::Target | LimitedBy::Generator if shares.file_wait >= FILE_WAIT_SHARE_MIN => {
                Some(self.file_wait_said(shares.file_wait))
            }
            LimitedBy::Target if self.is_held_by_depth(shares) => self.in_flight.clone(),
            _ => None,
        };
        Vec::from_iter(note)
    }

    fn file_wait_said(&self, share: f64) -> String {
        let (what, so) = if self.syncs_page_cache {
            ("full files were not on the drive yet (fsync)", ": the drive takes no more")
        } else {
            ("the next file was not ready", ": a larger --rotate-size-mb, or --preallocate, needs fewer")
        };
        format!("{what} {} of the time{so}", percent(share))
    }

    /// For most of the time in which something was due the target was waited for, and nothing but its answers.
    fn is_held_by_depth(&self, shares: &Shares) -> bool {
        let full = shares.waited >= FULL_SHARE_MIN * (1.0 - shares.idle);
        full && !self.is_troubled() && !self.is_stalled()
    }

    /// Records were refused, held back or lost, or connections are: more in flight would mend none of it. One that was
    /// made again is no trouble by itself: a server may close each in order after so many requests.
    fn is_troubled(&self) -> bool {
        let Totals { records_failed, records_uncertain, retries, throttled_answers, .. } = *self.totals;
        let throttled = throttled_answers.unwrap_or(0);
        let troubles = [self.records_refused, records_failed, records_uncertain, retries, throttled];
        self.connections_down > 0 || !self.statuses.is_empty() || troubles.iter().any(|count| *count > 0)
    }

    /// The target stopped for a good part of the run.
    fn is_stalled(&self) -> bool {
        let (Some(usual), Some(longest)) = (self.service.p50, self.service.max) else { return false };
        longest >= STALL_SHARE_MIN * self.elapsed_seconds && longest >= STALL_FACTOR_MIN * usual
    }

    fn down(&self) -> String {
        format!("{} down at the end", format_counted(self.connections_down as u64, "connection"))
    }

    fn outages(&self) -> Option<String> {
        match () {
            () if self.records_submitted == 0 => None,
            () if self.connections_down > 0 => Some(self.down()),
            () => made_again(self.totals.reconnects),
        }
    }

    fn nothing_sent(&self, limited_by: LimitedBy) -> String {
        let nothing = "nothing was sent";
        match limited_by {
            LimitedBy::Rate => format!("{nothing}: nothing was due"),
            LimitedBy::Target => format!("{nothing}: {}", self.down()),
            LimitedBy::Host => {
                let elapsed = format_duration((self.elapsed_seconds * 1e9) as u64);
                let ran = format_duration(self.time.cpu_ns);
                format!("{nothing}: the cores had a processor for {ran} in all, in a run of {elapsed}")
            }
            LimitedBy::Generator => OVER_BEFORE.to_owned(),
        }
    }
}

/// Whether a rate was met of which so much was produced.
pub fn is_met(achieved_ratio: f64) -> bool {
    achieved_ratio >= RATE_MET_RATIO
}

/// What came of the rate, of one run or of several.
pub fn rate_said(bytes_per_second: f64, achieved_ratio: f64) -> String {
    let (target, percent) = (format_rate_short(bytes_per_second), percent(achieved_ratio));
    let word = if is_met(achieved_ratio) { "was met" } else { "was not met" };
    format!("the rate of {target} {word}: {percent} of the records due were produced")
}

/// What came of connections that went, of one run or of several.
pub fn made_again(reconnects: u64) -> Option<String> {
    let connections = format_counted(reconnects, "connection");
    (reconnects > 0).then(|| format!("{connections} made again, lost or closed in time"))
}

/// What was lost or late on the way, so that TCP sent it again, in one run or in several.
pub fn retransmitted(segments: Option<u64>) -> Option<String> {
    let segments = segments.filter(|count| *count > 0)?;
    Some(format!("{} sent again (retransmissions)", format_counted(segments, "TCP segment")))
}

/// How brokers held a client back on purpose, in one run or in several.
pub fn throttled(totals: &Totals) -> Option<String> {
    let answers = totals.throttled_answers.filter(|count| *count > 0)?;
    let asked = format_duration((totals.throttled_seconds.unwrap_or(0.0) * 1e9).round() as u64);
    let answers = format_counted(answers, "answer");
    Some(format!("brokers held this client back by a quota: {answers} asked for {asked} of waiting in all"))
}

/// Records that the target refused, of a report's errors by kind.
pub fn records_refused(errors: &BTreeMap<String, u64>) -> u64 {
    let refusals = ERROR_KINDS.iter().filter(|(_, field)| REFUSALS.contains(field));
    refusals.filter_map(|(kind, _)| errors.get(*kind).copied()).fold(0, u64::saturating_add)
}

/// The statuses of a producer's refusals: those counted by status or, where nobody counted, the first, which may be of
/// the warm-up.
pub fn refused_with(first: Option<u16>, answers: Option<&BTreeMap<u16, u64>>) -> BTreeSet<u16> {
    match answers {
        Some(answers) => answers.keys().copied().filter(|status| is_refusal(*status)).collect(),
        None => first.into_iter().collect(),
    }
}

/// What the target said no to, in one run or in several; `statuses`: with what (HTTP); `totals` has brokers' errors, and
/// what bodies said.
pub fn refusals(
    limited_by: LimitedBy,
    totals: &Totals,
    records_refused: u64,
    statuses: &BTreeSet<u16>,
) -> Option<String> {
    let who = if limited_by == LimitedBy::Target { "it" } else { "the target" };
    let names = totals.broker_errors.iter().flat_map(BTreeMap::keys).cloned();
    let by_body = totals.answers_refused_by_body.filter(|count| *count > 0).map(|_| "2xx by their body".to_owned());
    let mut said: Vec<_> = statuses.iter().map(u16::to_string).chain(by_body).chain(names).collect();
    let more = said.len().saturating_sub(REFUSED_STATUSES_MAX);
    if more > 0 {
        said.truncate(REFUSED_STATUSES_MAX);
        said.push(format!("{more} more"));
    }
    let with = if said.is_empty() { String::new() } else { format!(" ({})", said.join(", ")) };
    if records_refused > 0 {
        let offered = format_counted(totals.records_offered, "record");
        return Some(format!("{who} refused {} of {offered}{with}", format_count(records_refused)));
    }
    let is_taken_later = !said.is_empty() && totals.retries > 0;
    let again = format_counted(totals.retries, "block");
    is_taken_later.then(|| format!("{who} refused requests at first{with}; {again} sent again"))
}

const OVER_BEFORE: &str = "the run was over before it could be told";

/// Never rounded up to 100 %.
pub fn percent(ratio: f64) -> String {
    let floored = (ratio * 10_000.0).floor() / 100.0;
    format!("{floored:.2} %")
}

#[cfg(test)]
mod tests;
