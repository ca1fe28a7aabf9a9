//! The metrics thread and everything that comes out: `/metrics`, logs, the live line, summary and report.
//!
//! `run` starts an [`Observer`] before the barrier, tells it when the barrier falls and when the cores have joined, and
//! concludes it with what came of the run. No core ever waits for anything in this room, and whoever reads the log
//! changes no figure: lines are written on a thread of their own.

pub mod aggregate;
pub mod assemble;
pub mod endpoint;
pub mod html;
pub mod http;
pub mod live_line;
mod live_terminal;
pub mod logs;
pub mod metrics;
pub mod phases;
pub mod prometheus;
pub mod quantile;
pub mod read;
pub mod report;
pub mod schema;
pub mod shared;
pub mod slo;
pub mod summary;
pub mod ticker;
pub mod verdict;
pub mod verify_line;
pub mod wrap;

#[cfg(test)]
pub mod testing;

pub use assemble::{CpuTimes, Outcome};
pub use endpoint::Bound;
pub use html::{write_page, write_page_again};
pub use logs::Console;
pub use report::{Payload as PayloadFacts, Report, write_report};
pub use summary::print_summary;

use crate::base::clock::TscClock;
use crate::base::fatal::{Exit, Fatal};
use crate::connect::dialer::Outages;
use crate::counters::{LiveCore, Snapshot};
use crate::plan::RunPlan;
use crate::sys::threads::{self, OnPanic};
use crate::tap::EventBooks;
use assemble::Facts;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never, select};
use endpoint::{Endpoint, Pages};
use http::{Answer, Page};
use prometheus::Exposition;
use shared::{RunState, Shared};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use ticker::Ticker;

/// What the observer is connected to.
pub struct Wiring {
    pub plan: Arc<RunPlan>,
    /// In the order of `plan.cores`.
    pub live: Vec<Arc<LiveCore>>,
    pub snapshots: Receiver<Box<Snapshot>>,
    /// For each core: where its snapshots go back, emptied.
    pub recycled: Vec<Sender<Box<Snapshot>>>,
    pub clock: TscClock,
    /// Ends the run in order, for the reason given. Called should one of our own threads fail.
    pub stop: Arc<dyn Fn(&str) + Send + Sync>,
    pub host: serde_json::Value,
    pub payload: PayloadFacts,
    pub console: Arc<Console>,
    /// Where metrics are served.
    pub metrics: Option<Bound>,
    /// What governance was told of, where it is on.
    pub events: Option<Arc<EventBooks>>,
    pub outages: Arc<Outages>,
}

#[derive(Clone, Copy)]
enum Control {
    Started,
    /// `ended_ns`: since the barrier; what is written behind it takes time of its own.
    Finish {
        ended_ns: Option<u64>,
    },
}

/// A thread of the observer, and how it is spoken to; without its sender it ends.
type Worker = Option<(Sender<Control>, JoinHandle<()>)>;

/// The running threads and, where asked for, the endpoint.
pub struct Observer {
    shared: Arc<Shared>,
    metrics: Worker,
    log: Worker,
    endpoint: Option<Endpoint>,
    release: Sender<()>,
    delivered: Receiver<()>,
    started_at_unix_ns: AtomicU64,
    host: serde_json::Value,
    payload: PayloadFacts,
}

/// Starts to fold, to log and to serve metrics. Call it before the barrier.
///
/// # Errors
/// Exit 3 where no thread can be had.
pub fn start(wiring: Wiring) -> Result<Observer, Fatal> {
    let Wiring { plan, live, snapshots, recycled, clock, stop, host, payload, console, metrics, events, outages } =
        wiring;
    let shared = Shared::new(plan, live, clock, outages);
    // Who asks for metrics takes no time of a core's, either.
    let free_cpus = shared.plan.free_cpus.as_slice();
    let cpu = free_cpus.first().copied();
    // One message is enough: either the last scrape was delivered, or somebody released the hold.
    let (release, delivered) = bounded(1);
    let endpoint = metrics.map(|bound| {
        let exposition = Exposition::new(shared.clone(), events);
        let pages = Served { shared: shared.clone(), exposition, last: release.clone() };
        Endpoint::start(bound, free_cpus, Arc::new(pages))
    });
    let endpoint = endpoint.transpose()?;
    if let Some(endpoint) = &endpoint {
        let address = endpoint.local_addr.to_string();
        tracing::info!(event = "metrics", address, "metrics are served at http://{address}/metrics");
    }
    let (metrics_control, commands) = bounded(4);
    let metrics = MetricsThread { shared: shared.clone(), snapshots, recycled, commands };
    let metrics = spawn("metrics", cpu, stop.clone(), move || metrics.run())?;
    let (log_control, commands) = bounded(4);
    let log = LogThread { shared: shared.clone(), commands, console };
    let log = spawn("log", cpu, stop, move || log.run())?;
    let started_at_unix_ns = Default::default();
    Ok(Observer {
        shared,
        metrics: Some((metrics_control, metrics)),
        log: Some((log_control, log)),
        endpoint,
        release,
        delivered,
        started_at_unix_ns,
        host,
        payload,
    })
}

/// Starts one of our threads. Without it a run would have no report or no log: if it crashes, the run ends in order
/// instead of going on blind.
fn spawn(
    name: &'static str,
    cpu: Option<usize>,
    stop: Arc<dyn Fn(&str) + Send + Sync>,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, Fatal> {
    threads::start(name, cpu.as_slice(), &format!("the {name} thread"), move || {
        let _alarm = OnPanic(|| stop(&format!("internal error: the {name} thread failed")));
        body();
    })
}

impl Observer {
    /// Where `/metrics` is served.
    #[cfg(test)]
    fn metrics_addr(&self) -> Option<std::net::SocketAddr> {
        self.endpoint.as_ref().map(|endpoint| endpoint.local_addr)
    }

    /// The barrier fell at this monotonic and this Unix time.
    pub fn started(&self, epoch_ns: u64, started_at_unix_ns: u64) {
        self.started_at_unix_ns.store(started_at_unix_ns, Relaxed);
        self.shared.start(epoch_ns);
        if let Some((log, _)) = &self.log {
            let _ = log.send(Control::Started);
        }
    }

    /// All cores are home, those that crashed as well: `/ready` says so.
    pub fn joined(&self) {
        self.shared.enter(RunState::Joined);
    }

    /// Ends a `--metrics-hold` at once, e.g. at a signal; callable from any thread.
    pub fn release(&self) -> impl Fn() + Send + Sync + 'static {
        let release = self.release.clone();
        move || {
            let _ = release.try_send(());
        }
    }

    /// Folds what is left, writes the last lines and says what the run was. Call it when all cores have joined. The
    /// endpoint stays up, with final numbers, until [`Observer::hold`] or the drop.
    pub fn conclude(&mut self, outcome: Outcome) -> Report {
        // In this order: the last lines are of all that was folded.
        let ended_ns = outcome.ended_ns();
        for (control, thread) in [self.metrics.take(), self.log.take()].into_iter().flatten() {
            let _ = control.send(Control::Finish { ended_ns });
            // A panic there was told by its alarm; what was folded is still good.
            let _ = thread.join();
        }
        let facts = Facts {
            started_at_unix_ns: self.started_at_unix_ns.load(Relaxed),
            host: std::mem::take(&mut self.host),
            payload: self.payload.clone(),
            outcome,
            connections_down: self.shared.outages.down(),
        };
        let (mut report, imbalances) = self.shared.with_aggregate(|all| {
            all.finish(ended_ns.unwrap_or(0));
            (assemble::assemble(&self.shared.plan, all, facts), assemble::imbalances(&self.shared.plan, all))
        });
        for imbalance in imbalances {
            tracing::error!("internal error, please report it: {imbalance}");
            // Books that do not balance are no result, whatever the records came to.
            report.exit_code = Exit::Failed as u8;
            report.ended_early.get_or_insert_with(|| format!("internal error, please report it: {imbalance}"));
        }
        self.shared.enter(RunState::Done);
        report
    }

    /// Keeps the endpoint up for `--metrics-hold`, or until one more scrape or a release; then closes it.
    pub fn hold(self) {
        let hold_ns = self.shared.plan.observe.metrics_hold_ns;
        if self.endpoint.is_some() && hold_ns > 0 {
            let until = Instant::now().checked_add(Duration::from_nanos(hold_ns));
            match until {
                Some(until) => match self.delivered.recv_deadline(until) {
                    Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
                },
                None => self.delivered.recv().unwrap_or(()),
            }
        }
    }
}

/// Folds snapshots the moment they come. Nothing that may wait has a place here: cores that find no emptied snapshot
/// would tell late what became of their records, and the report would date it so.
struct MetricsThread {
    shared: Arc<Shared>,
    snapshots: Receiver<Box<Snapshot>>,
    recycled: Vec<Sender<Box<Snapshot>>>,
    commands: Receiver<Control>,
}

impl MetricsThread {
    fn run(self) {
        loop {
            select! {
                recv(self.snapshots) -> snapshot => match snapshot {
                    Ok(snapshot) => self.fold(snapshot),
                    // All cores are gone.
                    Err(_) => break,
                },
                // The end, or the observer was dropped: the run never started.
                recv(self.commands) -> _ => break,
            }
        }
        while let Ok(snapshot) = self.snapshots.try_recv() {
            self.fold(snapshot);
        }
    }

    fn fold(&self, mut snapshot: Box<Snapshot>) {
        self.shared.with_aggregate(|all| all.fold(&snapshot));
        snapshot.measured_latencies.reset();
        if let Some(warm) = &mut snapshot.warm_latencies {
            warm.reset();
        }
        if let Some(back) = self.recycled.get(snapshot.core) {
            // A core that has ended takes none back.
            let _ = back.try_send(snapshot);
        }
    }
}

/// Draws the live line or writes the log, whose reader may make it wait.
struct LogThread {
    shared: Arc<Shared>,
    commands: Receiver<Control>,
    console: Arc<Console>,
}

impl LogThread {
    fn run(self) {
        let interval = Duration::from_nanos(self.shared.plan.observe.stats_interval_ns.max(1));
        let mut ticker = Ticker::new(self.shared.clone(), self.console.clone());
        let mut ticks = never();
        let finished = loop {
            select! {
                recv(ticks) -> _ => ticker.tick(),
                recv(self.commands) -> command => match command {
                    Ok(Control::Started) => {
                        ticker.started();
                        ticks = crossbeam_channel::tick(interval);
                    }
                    Ok(Control::Finish { ended_ns }) => break Some(ended_ns),
                    // The observer was dropped: the run never started.
                    Err(_) => break None,
                },
            }
        };
        if let Some(ended_ns) = finished {
            ticker.last(ended_ns);
            ticker.stopped(ended_ns);
        }
        self.console.clear();
    }
}

/// The pages of the endpoint.
struct Served {
    shared: Arc<Shared>,
    exposition: Exposition,
    last: Sender<()>,
}

impl Pages for Served {
    fn answer(&self, page: Page) -> Answer {
        // Asked before anything is read: what is rendered after it is final, too.
        let last = matches!(page, Page::Metrics { .. }) && self.shared.state() == RunState::Done;
        let (status, content_type, body) = match page {
            Page::Metrics { open_metrics } => {
                let kind = if open_metrics { http::OPEN_METRICS } else { http::TEXT_0_0_4 };
                (200, kind, self.exposition.render(open_metrics))
            }
            Page::Health => match self.shared.stalled() {
                None => (200, http::JSON, "{\"status\":\"ok\"}\n".to_owned()),
                Some(stalled) => {
                    let silent_seconds = quantile::seconds(stalled.silent_ns);
                    let body = serde_json::json!({
                        "status": "stalled", "core": stalled.cpu, "silent_seconds": silent_seconds
                    });
                    (503, http::JSON, format!("{body}\n"))
                }
            },
            Page::Ready => match self.shared.state() {
                RunState::Running if !self.shared.all_drain() => (200, http::TEXT, "ready\n".to_owned()),
                RunState::Starting => (503, http::TEXT, "starting\n".to_owned()),
                RunState::Running | RunState::Joined | RunState::Done => (503, http::TEXT, "draining\n".to_owned()),
            },
        };
        Answer { status, content_type, body, last }
    }

    fn delivered(&self, answer: &Answer) {
        if answer.last {
            let _ = self.last.try_send(());
        }
    }
}

#[cfg(test)]
mod tests;
