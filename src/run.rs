//! A whole run: start the cores, let them go together, stop them in order, put their ends together.

mod barrier;
mod core;
mod files;
mod finish;
mod kafka;
mod kafka_compat;
mod manners;
mod net;
mod others;
mod region;
mod setup;

use crate::base::clock::{Clock, TscClock};
use crate::base::fatal::{Exit, Fatal};
use crate::base::{limits, place, signals, units};
use crate::connect::dial;
use crate::connect::dialer::Outages;
use crate::core_loop::tally::SnapshotQueues;
use crate::counters::{CoreEnd, Counts, LiveCore, Snapshot};
use crate::governance::{self, Governance, RunEnd};
use crate::observe::{self, Console, CpuTimes, Outcome, PayloadFacts, Report, Wiring};
use crate::payload::bake;
use crate::plan::{CorePlan, GovernancePlan, PayloadSource, ReportTarget, RunPlan};
use crate::sink::file::keeper::KeeperLane;
use crate::sink::file::made::Made;
use crate::sys;
use crate::tap::Tap;
use crossbeam_channel::{Receiver, bounded};
use kafka::KafkaLane;
use setup::{Call, Ready, Setup};
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// From here on it is said that the payload is being prepared.
const ANNOUNCED_PAYLOAD_BYTES: u64 = 128 << 20;
/// What `--compressibility` promises.
const COMPRESSIBILITY_TOLERANCE: f64 = 0.02;
/// A core is called so often.
const CALLS: usize = 2;
/// How often the cores that line up are counted.
const COUNT_EVERY: Duration = Duration::from_micros(50);

/// The one flag that ends a run in order, and the first reason that somebody gave.
#[derive(Default)]
pub struct Stop {
    pub flag: AtomicBool,
    /// A core could not get ready: the run will not begin.
    start_failed: AtomicBool,
    reason: Mutex<Option<String>>,
    /// The user's.
    signal: OnceLock<String>,
    /// What a signal does once the run itself is over.
    afterwards: Mutex<Option<Box<dyn Fn() + Send>>>,
    /// One came then: nobody is waited for any longer.
    hurried: AtomicBool,
}

impl Stop {
    /// The user ended the run with a signal: no fault, but worth a line.
    pub fn by_user(&self, signal: &str) {
        let _only_the_first = self.signal.set(signal.to_owned());
        let afterwards = self.afterwards.lock().expect("nobody panics holding it");
        // Under the lock: what ends the run does not end what comes after it, too.
        self.flag.store(true, Relaxed);
        if let Some(act) = &*afterwards {
            self.hurried.store(true, Relaxed);
            act();
        }
        drop(afterwards);
        // Last: whoever reads the log may take his time.
        tracing::info!(event = "stopping", signal, "{signal}: stopping in order; a second signal ends at once");
    }

    pub fn because(&self, why: &str) {
        self.reason.lock().expect("nobody panics holding it").get_or_insert_with(|| why.to_owned());
        self.flag.store(true, Relaxed);
    }

    /// The others would go on without it.
    fn core_crashed(&self) {
        // To those that are not under way yet it is no wish of the user's.
        self.start_failed.store(true, Relaxed);
        self.because("a core crashed; please report this");
    }

    /// For a core that waits for its target: why the run will not begin, if it will not.
    pub fn may_start(&self) -> Result<(), Fatal> {
        self.unless_over(dial::stopped)
    }

    /// The same for a core that makes its payload or its files.
    pub fn may_prepare(&self) -> Result<(), Fatal> {
        self.unless_over(core::stopped)
    }

    fn unless_over(&self, stopped: fn() -> Fatal) -> Result<(), Fatal> {
        // That core has the reason to tell.
        if self.start_failed.load(Relaxed) {
            return Err(Fatal::host(finish::SENT_HOME));
        }
        if !self.flag.load(Relaxed) {
            return Ok(());
        }
        // Only a signal comes without a reason.
        Err(self.reason().map_or_else(stopped, |why| ended_before_start(&why)))
    }

    /// The run itself is over, by this signal if one came before; from now on one calls `act`.
    fn over(&self, act: impl Fn() + Send + 'static) -> Option<String> {
        let mut afterwards = self.afterwards.lock().expect("nobody panics holding it");
        *afterwards = Some(Box::new(act));
        self.signal.get().cloned()
    }

    fn reason(&self) -> Option<String> {
        self.reason.lock().expect("nobody panics holding it").clone()
    }
}

fn ended_before_start(why: &str) -> Fatal {
    Fatal::host(format!("{why}: nothing was sent"))
}

/// Carries a plan out, prints the summary, writes the report and holds the endpoint.
///
/// # Errors
/// Before the start: nothing was sent. After it: the report could not be written.
pub fn run(plan: RunPlan, console: &Arc<Console>) -> Result<Report, Fatal> {
    let host = others::host_facts(&plan);
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
    // Goes with this function unless the run begins.
    let mut made = Made::default();
    // Goes after the cores, which need it, and before what was made.
    let mut keeping = files::Keeping::default();
    let (claims, kafka_lanes) = (files::claims(&plan, &mut made)?, kafka::prepare(&plan, &stop)?);
    let (keepers, keeper_lanes) = files::keepers_for(&plan);
    let per_core = PerCore { keeper_lanes, claims, taps, kafka_lanes };
    announce_payload(&plan);
    let mark = clock.mark();
    let cores = Cores::start(&plan, &clock, &stop, calibration.map_or(0.0, |found| found.zero_fraction), per_core)?;
    let host = others::tell(host, &cores.ready)?;
    let facts = region::payload_facts(&cores.ready, calibration.map(|found| found.measured));
    tell_memory(&plan, &cores.ready, &facts);
    let governance = governance.map(|prepared| prepared.start()).transpose()?;
    let mut wiring = cores.wiring(&plan, &clock, &stop, host, facts, console);
    wiring.metrics = metrics;
    wiring.events = governance.as_ref().map(Governance::books);
    let mut observer = observe::start(wiring)?;
    keeping.start(keepers, &plan.free_cpus, &stop)?;
    let go = barrier::await_start(&plan, (&clock, mark), &stop, |most| cores.line_up(most))?;
    made.keep();
    let (began, cpu_before) = (clock.mark_now(), sys::process::cpu_times());
    observer.started(go.epoch_ns, go.epoch_unix_ns);
    if let Some(governance) = &governance {
        governance.started(go.epoch_unix_ns);
    }
    cores.call(Call::Go(go));
    let live = cores.live.clone();
    let ends = cores.join();
    // From here on a signal means the hold, even one that comes while governance is told or the report is written.
    let signal = stop.over(observer.release());
    observer.joined();
    let (cpu, clock_drift) = (cpu_since(cpu_before), clock.drift_since(began));
    let kept = keeping.join();
    let now_ns = over_ns(clock.now_ns().saturating_sub(go.epoch_ns), &ends);
    let synced_ns = kept.synced.map_or(0, |at| now_ns.saturating_sub(at.elapsed().as_nanos() as u64));
    let audit_lines_dropped = kept.audit_lines_dropped;
    let ended_early = why_early(&stop, &ends);
    let ended_unix_ns = go.epoch_unix_ns + now_ns;
    let end = run_end(&live, &ends, ended_early.is_some(), ended_unix_ns);
    let told = governance.map(|governance| governance.finish(end));
    let governance = plan.observe.governance.as_ref().zip(told).map(|(plan, told)| for_report(plan, told));
    let outcome = Outcome { ends, cpu, ended_early, signal, synced_ns, audit_lines_dropped, governance, clock_drift };
    let report = observer.conclude(outcome);
    observe::print_summary(console, &report, &plan);
    let written = write_down(&report, &plan, &stop);
    observer.hold();
    written.map(|()| report)
}

fn write_down(report: &Report, plan: &RunPlan, stop: &Stop) -> Result<(), Fatal> {
    let is_done = || stop.hurried.load(Relaxed);
    let page = plan.observe.html.clone().map(ReportTarget::File);
    let to = plan.observe.report.as_ref();
    let write_page = || page.as_ref().map_or(Ok(()), |page| observe::write_page(report, page, &is_done));
    let write_report = || to.map_or(Ok(()), |to| observe::report::write_run_report(report, to, &is_done));
    // One that cannot be written keeps nobody from the other. What is no file may wait for its reader: a report that
    // is one goes first. Any other is last, also on standard output.
    let (reported, paged) = match to {
        Some(ReportTarget::File(path)) if place::is_file(path) => (write_report(), write_page()),
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

/// What some cores get and others do not.
struct PerCore {
    /// In the order of `RunPlan::producers`.
    keeper_lanes: Vec<Option<KeeperLane>>,
    claims: Vec<Option<File>>,
    /// In the order of `RunPlan::cores`.
    taps: Vec<Option<Tap>>,
    /// For each producer, where the target is Kafka.
    kafka_lanes: Vec<Option<KafkaLane>>,
}

/// The reason that ended the run before its time, if one did that was not the user's own wish. A core tells its own in
/// full; of all others the first counts, since the rest may follow from it.
fn why_early(stop: &Stop, ends: &[CoreEnd]) -> Option<String> {
    ends.iter().find_map(|end| end.ended_by.clone()).or_else(|| stop.reason())
}

/// The core threads from their start to their end.
struct Cores {
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<Result<CoreEnd, Fatal>>>,
    /// Each has room for all that is called: a core that is not there yet holds nobody up.
    gates: Vec<crossbeam_channel::Sender<Call>>,
    lined_up: Arc<AtomicUsize>,
    live: Vec<Arc<LiveCore>>,
    ready: Vec<Ready>,
    snapshots: Receiver<Box<Snapshot>>,
    recycled: Vec<crossbeam_channel::Sender<Box<Snapshot>>>,
    outages: Arc<Outages>,
}

impl Cores {
    /// Starts every core and waits until each has its memory, its payload and its target, or one has not.
    fn start(
        plan: &Arc<RunPlan>,
        clock: &TscClock,
        stop: &Arc<Stop>,
        zero_fraction: f64,
        mut per_core: PerCore,
    ) -> Result<Self, Fatal> {
        let in_flight = limits::SNAPSHOTS_IN_FLIGHT;
        let outages = Arc::new(Outages::default());
        let (full, snapshots) = bounded(plan.cores.len() * (in_flight + 1));
        let (ready_sender, ready_receiver) = bounded(plan.cores.len());
        let (threads, gates, live, ready, recycled) = (vec![], vec![], vec![], vec![], vec![]);
        let (stop, lined_up) = (stop.clone(), Arc::default());
        let mut cores = Self { stop, threads, gates, lined_up, live, ready, snapshots, recycled, outages };
        for (index, core) in plan.cores.iter().enumerate() {
            let ids = plan.producers_of(index).map(|producer| producer.id).collect();
            let live = LiveCore::new(ids);
            let (gate, start) = bounded(CALLS);
            let (recycled, empty) = bounded(in_flight + 1);
            for _ in 0..in_flight {
                let spare = Snapshot::preallocated(index, core.producers.len(), plan.has_warmup());
                recycled.send(spare).expect("the receiver is here");
            }
            let setup = Setup {
                plan: plan.clone(),
                index,
                clock: clock.clone(),
                stop: cores.stop.clone(),
                zero_fraction,
                keeper_lanes: core.producers.iter().map(|at| per_core.keeper_lanes[*at].take()).collect(),
                claims: core.producers.iter().map(|at| per_core.claims[*at].take()).collect(),
                kafka_lanes: core.producers.iter().filter_map(|at| per_core.kafka_lanes[*at].take()).collect(),
                outages: cores.outages.clone(),
                tap: per_core.taps[index].take(),
                live: live.clone(),
                queues: SnapshotQueues { full: full.clone(), empty },
                ready: ready_sender.clone(),
                gate: start,
                lined_up: cores.lined_up.clone(),
            };
            cores.threads.push(core::spawn(setup)?);
            cores.gates.push(gate);
            cores.live.push(live);
            cores.recycled.push(recycled);
        }
        drop(ready_sender);
        cores.await_ready(ready_receiver)
    }

    fn await_ready(mut self, ready: Receiver<Ready>) -> Result<Self, Fatal> {
        self.ready = ready.iter().collect();
        if self.ready.len() == self.threads.len() {
            return Ok(self);
        }
        // The first reason is the one to tell.
        let mut reasons = self.send_home().into_iter().filter_map(Result::err);
        let first = reasons.find(|fatal| fatal.what != finish::SENT_HOME);
        Err(first.unwrap_or_else(|| Fatal::new(Exit::Host, "a core thread ended before the start")))
    }

    /// Closes the gates, and waits for cores that will not begin; the ends of those that did not crash.
    fn send_home(&mut self) -> Vec<Result<CoreEnd, Fatal>> {
        self.stop.start_failed.store(true, Relaxed);
        self.gates.clear();
        self.threads.drain(..).filter_map(|thread| thread.join().ok()).collect()
    }

    fn wiring(
        &self,
        plan: &Arc<RunPlan>,
        clock: &TscClock,
        stop: &Arc<Stop>,
        host: serde_json::Value,
        payload: PayloadFacts,
        console: &Arc<Console>,
    ) -> Wiring {
        let stop = stop.clone();
        Wiring {
            plan: plan.clone(),
            live: self.live.clone(),
            snapshots: self.snapshots.clone(),
            recycled: self.recycled.clone(),
            clock: clock.clone(),
            stop: Arc::new(move |why| stop.because(why)),
            host,
            payload,
            console: console.clone(),
            metrics: None,
            events: None,
            outages: self.outages.clone(),
        }
    }

    fn call(&self, call: Call) {
        for gate in &self.gates {
            // A core that is gone reports through its thread.
            let _gone = gate.send(call);
        }
    }

    /// Has every core be on its processor: one that is woken may have to wait for it, or take that of this thread.
    fn line_up(&self, most: Duration) {
        self.call(Call::LineUp);
        let began = Instant::now();
        while self.lined_up.load(Relaxed) < self.gates.len() && began.elapsed() < most {
            std::thread::sleep(COUNT_EVERY);
        }
    }

    fn join(mut self) -> Vec<CoreEnd> {
        let mut ends = Vec::new();
        for (thread, live) in std::mem::take(&mut self.threads).into_iter().zip(&self.live) {
            let end = match thread.join() {
                Ok(Ok(end)) => end,
                Ok(Err(fatal)) => CoreEnd { ended_by: Some(fatal.what), ..CoreEnd::default() },
                Err(_) => {
                    let why = format!("the core of producers {:?} crashed; please report this", live.producer_ids);
                    CoreEnd { ended_by: Some(why), ..CoreEnd::default() }
                }
            };
            ends.push(end);
        }
        ends
    }
}

impl Drop for Cores {
    /// Where a run does not start, its files are taken back next: no core may have them any more.
    fn drop(&mut self) {
        let _told_elsewhere = self.send_home();
    }
}

#[cfg(test)]
mod tests;
