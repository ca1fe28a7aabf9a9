//! A whole run: start the cores, let them go together, stop them in order, put their ends together.

mod barrier;
mod core;
mod cores;
mod enter;
mod files;
mod host_facts;
mod interference;
mod kafka;
mod kafka_compat;
mod net;
mod region;
mod setup;
mod sink_options;
mod stop;

pub use stop::Stop;

use crate::base::clock::{Clock, Mark, TscClock};
use crate::base::fatal::Fatal;
use crate::base::{paths, signals, units};
use crate::counters::{CoreEnd, Counts, LiveCore};
use crate::governance::{self, Governance, RunEnd};
use crate::observe::{self, Console, CpuTimes, Observer, Outcome, PayloadFacts, Report};
use crate::payload::bake;
use crate::plan::{CorePlan, GovernancePlan, PayloadSource, ReportTarget, RunPlan};
use crate::sink::file::made::Made;
use crate::sys;
use crate::tap::Tap;
use cores::{Cores, PerCore};
use files::Keeping;
use setup::{Call, Go, Ready};
use std::sync::Arc;
use std::time::Duration;

/// From here on it is said that the payload is being prepared.
const ANNOUNCED_PAYLOAD_BYTES: u64 = 128 << 20;
/// What `--compressibility` promises.
const COMPRESSIBILITY_TOLERANCE: f64 = 0.02;

/// What a run has going. Dropped before the run begins, it is taken back in the order of these fields: each needs those
/// after it to its end.
struct Launched {
    cores: Cores,
    /// The keepers end once no core has a lane of theirs any more.
    keeping: Keeping,
    /// Goes unless the run begins; nobody may have its files any more by then.
    made: Made,
}

/// Carries a plan out, prints the summary, writes the report and holds the endpoint.
///
/// # Errors
/// Before the start: nothing was sent. After it: the report could not be written.
pub fn run(plan: RunPlan, console: &Arc<Console>) -> Result<Report, Fatal> {
    let host = host_facts::judged(&plan);
    let plan = Arc::new(plan);
    let stop = Arc::new(Stop::default());
    let clock = TscClock::start(sys::clock::monotonic_raw_ns);
    let stopped = stop.clone();
    signals::end_in_order(move |signal| stopped.by_user(signal))?;
    let calibration = bake::calibration(&plan.payload).inspect(|found| tell_compressibility(&plan, found.measured));
    // A taken address is found before any file of an earlier run is touched.
    let metrics = plan.observe.metrics_addr.map(observe::Bound::new).transpose()?;
    barrier::announce(&plan);
    if plan.sink.kind.is_network() {
        barrier::await_opening(&plan, &stop)?;
    }
    let (governance, taps) = governance::prepare(&plan)?;
    let zero_fraction = calibration.map_or(0.0, |found| found.zero_fraction);
    let (launched, mark) = launch(&plan, (&clock, &stop), zero_fraction, taps)?;
    let cores = &launched.cores;
    let host = host_facts::tell(host, &cores.ready)?;
    let facts = region::payload_facts(&cores.ready, calibration.map(|found| found.measured));
    tell_memory(&plan, &cores.ready, &facts);
    let governance = governance.map(|prepared| prepared.start()).transpose()?;
    let events = governance.as_ref().map(Governance::books);
    let wiring = cores.wiring((&plan, &clock, &stop), (host, facts), console, metrics, events);
    let mut observer = observe::start(wiring)?;
    let go = barrier::await_start(&plan, (&clock, mark), &stop, |most| cores.line_up(most))?;
    let outcome = carry_out(launched, go, (&plan, &clock, &stop), &observer, governance);
    let report = observer.conclude(outcome);
    observe::print_summary(console, &report, &plan);
    let written = write_down(&report, &plan, &stop);
    observer.hold();
    written.map(|()| report)
}

/// Gets all ready that a run needs to begin; with it where the measure of its clock begins.
fn launch(
    plan: &Arc<RunPlan>,
    (clock, stop): (&TscClock, &Arc<Stop>),
    zero_fraction: f64,
    taps: Vec<Option<Tap>>,
) -> Result<(Launched, Mark), Fatal> {
    let mut made = Made::default();
    let (claims, kafka_lanes) = (files::claims(plan, &mut made)?, kafka::prepare(plan, stop)?);
    let (keepers, keeper_lanes) = files::keepers_for(plan);
    let per_core = PerCore { keeper_lanes, claims, taps, kafka_lanes };
    announce_payload(plan);
    let mark = clock.mark();
    let cores = Cores::start(plan, clock, stop, zero_fraction, per_core)?;
    let mut launched = Launched { cores, keeping: Keeping::default(), made };
    launched.keeping.start(keepers, &plan.free_cpus, stop)?;
    Ok((launched, mark))
}

/// Lets the cores go, and waits until all of the run has ended.
fn carry_out(
    mut launched: Launched,
    go: Go,
    (plan, clock, stop): (&RunPlan, &TscClock, &Stop),
    observer: &Observer,
    governance: Option<Governance>,
) -> Outcome {
    launched.made.keep();
    let (began, cpu_before) = (clock.mark_now(), sys::process::cpu_times());
    observer.started(go.epoch_ns, go.epoch_unix_ns);
    if let Some(governance) = &governance {
        governance.started(go.epoch_unix_ns);
    }
    launched.cores.call(Call::Go(go));
    let live = launched.cores.live.clone();
    let ends = launched.cores.join();
    // From here on a signal means the hold, even one that comes while governance is told or the report is written.
    let signal = stop.over(observer.release());
    observer.joined();
    let (cpu, clock_drift) = (cpu_since(cpu_before), clock.drift_since(began));
    let kept = launched.keeping.join();
    let now_ns = over_ns(clock.now_ns().saturating_sub(go.epoch_ns), &ends);
    let synced_ns = kept.synced.map_or(0, |at| now_ns.saturating_sub(at.elapsed().as_nanos() as u64));
    let audit_lines_dropped = kept.audit_lines_dropped;
    let ended_early = why_early(stop, &ends);
    let ended_unix_ns = go.epoch_unix_ns + now_ns;
    let end = run_end(&live, &ends, ended_early.is_some(), ended_unix_ns);
    let told = governance.map(|governance| governance.finish(end));
    let governance = plan.observe.governance.as_ref().zip(told).map(|(plan, told)| for_report(plan, told));
    Outcome { ends, cpu, ended_early, signal, synced_ns, audit_lines_dropped, governance, clock_drift }
}

fn write_down(report: &Report, plan: &RunPlan, stop: &Stop) -> Result<(), Fatal> {
    let is_done = || stop.is_hurried();
    let page = plan.observe.html.clone().map(ReportTarget::File);
    let to = plan.observe.report.as_ref();
    let write_page = || page.as_ref().map_or(Ok(()), |page| observe::write_page(report, page, &is_done));
    let write_report = || to.map_or(Ok(()), |to| observe::report::write_run_report(report, to, &is_done));
    // One that cannot be written keeps nobody from the other. What is no file may wait for its reader: a report that
    // is one goes first. Any other is last, also on standard output.
    let (reported, paged) = match to {
        Some(ReportTarget::File(path)) if paths::is_file(path) => (write_report(), write_page()),
        _ => {
            let paged = write_page();
            (write_report(), paged)
        }
    };
    reported.and(paged)
}

fn for_report(plan: &GovernancePlan, told: governance::Outcome) -> observe::report::Governance {
    let totals = told.totals;
    observe::report::Governance {
        url: plan.url.clone(),
        every: plan.every,
        events_offered: totals.offered,
        posted: totals.posted,
        dropped: totals.dropped,
        refused: totals.refused,
        failed: totals.failed,
        invalid: totals.invalid,
        announced: told.announced,
        not_announced: told.announcements.saturating_sub(told.announced),
        last_error: told.last_error,
    }
}

/// Processor time of this process since it was so much, the user's and the system's.
fn cpu_since((user, system): (Duration, Duration)) -> CpuTimes {
    let (user_end, system_end) = sys::process::cpu_times();
    CpuTimes { user_ns: (user_end - user).as_nanos() as u64, system_ns: (system_end - system).as_nanos() as u64 }
}

/// Nanoseconds since the barrier once all is over: by the clock or, where that went back, by the cores' ends.
fn over_ns(clock_ns: u64, ends: &[CoreEnd]) -> u64 {
    ends.iter().map(|end| end.ended_ns).fold(clock_ns, u64::max)
}

/// What all lanes came to, warm-up included.
fn run_end(live: &[Arc<LiveCore>], ends: &[CoreEnd], failed: bool, ended_unix_ns: u64) -> RunEnd {
    let ended_early = failed || ends.iter().any(|end| end.stopped || end.closed);
    let mut counts = Counts::default();
    live.iter().flat_map(|core| &core.lanes).for_each(|lane| counts.merge(&lane.read()));
    RunEnd { ended_unix_ns, ended_early, counts, ..RunEnd::default() }
}

/// A large payload takes seconds to prepare, on a busy host more.
fn announce_payload(plan: &RunPlan) {
    let bytes = plan.cores.iter().map(CorePlan::ring_bytes).fold(0, u64::saturating_add);
    if bytes >= ANNOUNCED_PAYLOAD_BYTES {
        tracing::info!(event = "prepare", "preparing {} of payload", units::format_size(bytes));
    }
}

/// Says what the rings came to.
fn tell_memory(plan: &RunPlan, ready: &[Ready], facts: &PayloadFacts) {
    if let Some(line) = region::unregistered_line(plan.unregistered, ready) {
        tracing::info!("{line}");
    }
    if let Some(what) = ready.iter().find_map(|core| core.lends) {
        tracing::info!(
            "a target on this host may read {what} in place, where that costs the core less; --zero-copy off always \
             copies"
        );
    }
    let (ring, memory) = (units::format_size(facts.ring_bytes_per_lane), &facts.memory);
    tracing::info!(event = "memory", memory, "payload ring of each producer: {ring}, {memory}");
}

/// The headers of short records, which a compressor cannot remove, may be more than is left to ask for.
fn tell_compressibility(plan: &RunPlan, measured: f64) {
    let PayloadSource::Random { compressibility: asked } = plan.payload.source else { return };
    if asked > 0.0 && (measured - asked).abs() > COMPRESSIBILITY_TOLERANCE {
        let what = "is out of reach with records of this length";
        tracing::warn!(event = "compressibility", "--compressibility {asked} {what}: it is {measured:.2}");
    }
}

/// The reason that ended the run before its time, if one did that was not the user's own wish. A core tells its own in
/// full; of all others the first counts, since the rest may follow from it.
fn why_early(stop: &Stop, ends: &[CoreEnd]) -> Option<String> {
    ends.iter().find_map(|end| end.ended_by.clone()).or_else(|| stop.reason())
}

#[cfg(test)]
mod tests;
