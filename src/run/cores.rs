//! The core threads as a whole: started together, let go together, waited for.

use super::core;
use super::kafka::KafkaLane;
use super::net::token_inboxes;
use super::setup::{Call, Ready, Setup};
use super::stop::{SENT_HOME, Stop};
use crate::base::clock::TscClock;
use crate::base::fatal::{Exit, Fatal};
use crate::base::limits;
use crate::connect::dialer::Outages;
use crate::core_loop::tally::SnapshotQueues;
use crate::counters::{CoreEnd, LiveCore, Snapshot};
use crate::observe::{Bound, Console, PayloadFacts, Wiring};
use crate::plan::RunPlan;
use crate::sink::file::keeper::KeeperLane;
use crate::tap::{EventBooks, Tap};
use crossbeam_channel::{Receiver, bounded};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A core is called so often.
const CALLS: usize = 2;
/// How often the cores that line up are counted.
const COUNT_EVERY: Duration = Duration::from_micros(50);

/// What some cores get and others do not.
pub struct PerCore {
    /// In the order of `RunPlan::producers`.
    pub keeper_lanes: Vec<Option<KeeperLane>>,
    pub claims: Vec<Option<File>>,
    /// In the order of `RunPlan::cores`.
    pub taps: Vec<Option<Tap>>,
    /// For each producer, where the target is Kafka.
    pub kafka_lanes: Vec<Option<KafkaLane>>,
}

/// The core threads from their start to their end.
pub struct Cores {
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<Result<CoreEnd, Fatal>>>,
    /// Each has room for all that is called: a core that is not there yet holds nobody up.
    gates: Vec<crossbeam_channel::Sender<Call>>,
    lined_up: Arc<AtomicUsize>,
    pub live: Vec<Arc<LiveCore>>,
    pub ready: Vec<Ready>,
    snapshots: Receiver<Box<Snapshot>>,
    recycled: Vec<crossbeam_channel::Sender<Box<Snapshot>>>,
    outages: Arc<Outages>,
}

impl Cores {
    /// Starts every core and waits until each has its memory, its payload and its target, or one has not.
    pub fn start(
        plan: &Arc<RunPlan>,
        clock: &TscClock,
        stop: &Arc<Stop>,
        zero_fraction: f64,
        mut per_core: PerCore,
    ) -> Result<Self, Fatal> {
        let in_flight = limits::SNAPSHOTS_IN_FLIGHT;
        let outages = Arc::new(Outages::default());
        let mut tokens = token_inboxes(plan)?;
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
                tokens: tokens[index].take(),
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
        let first = reasons.find(|fatal| fatal.what != SENT_HOME);
        Err(first.unwrap_or_else(|| Fatal::new(Exit::Host, "a core thread ended before the start")))
    }

    /// Closes the gates, and waits for cores that will not begin; the ends of those that did not crash.
    fn send_home(&mut self) -> Vec<Result<CoreEnd, Fatal>> {
        self.stop.fail_start();
        self.gates.clear();
        self.threads.drain(..).filter_map(|thread| thread.join().ok()).collect()
    }

    /// All that the observer needs to know of a run.
    pub fn wiring(
        &self,
        (plan, clock, stop): (&Arc<RunPlan>, &TscClock, &Arc<Stop>),
        (host, payload): (serde_json::Value, PayloadFacts),
        console: &Arc<Console>,
        metrics: Option<Bound>,
        events: Option<Arc<EventBooks>>,
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
            metrics,
            events,
            outages: self.outages.clone(),
        }
    }

    /// Calls all cores, one after the other.
    pub fn call(&self, call: Call) {
        for gate in &self.gates {
            // A core that is gone reports through its thread.
            let _gone = gate.send(call);
        }
    }

    /// Has every core be on its processor: one that is woken may have to wait for it, or take that of this thread.
    pub fn line_up(&self, most: Duration) {
        let began = Instant::now();
        self.call(Call::LineUp);
        while self.lined_up.load(Relaxed) < self.gates.len() && began.elapsed() < most {
            std::thread::sleep(COUNT_EVERY);
        }
    }

    /// Waits for their ends; one that crashed has its own.
    pub fn join(mut self) -> Vec<CoreEnd> {
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
mod tests {
    use super::*;
    use crate::run::barrier::await_go;
    use crate::run::setup::Go;
    use std::sync::atomic::AtomicBool;

    const START: Go = Go { epoch_ns: 7, epoch_unix_ns: 8 };

    impl Cores {
        /// Cores with nothing but their threads and gates.
        pub fn of(
            threads: Vec<JoinHandle<Result<CoreEnd, Fatal>>>,
            gates: Vec<crossbeam_channel::Sender<Call>>,
        ) -> Self {
            let live = threads.iter().map(|_| LiveCore::new(vec![])).collect();
            let (stop, lined_up, outages) = (Arc::default(), Arc::default(), Arc::default());
            let (ready, snapshots, recycled) = (vec![], bounded(1).1, vec![]);
            Self { stop, threads, gates, lined_up, live, ready, snapshots, recycled, outages }
        }
    }

    #[test]
    fn cores_of_a_run_that_does_not_start_are_waited_for() {
        let (gate, start) = bounded::<Call>(CALLS);
        let is_home = Arc::new(AtomicBool::new(false));
        let seen = is_home.clone();
        let thread = std::thread::spawn(move || {
            assert!(start.recv().is_err(), "nobody lets it go");
            (0..1000).for_each(|_| std::thread::yield_now());
            seen.store(true, Relaxed);
            Err(Fatal::host(SENT_HOME))
        });
        drop(Cores::of(vec![thread], vec![gate]));
        assert!(is_home.load(Relaxed));
    }

    #[test]
    fn all_cores_are_on_their_processors_before_they_go() {
        let mut all = Cores::of(vec![], vec![]);
        for held_up in [false, true] {
            let (gate, start) = bounded(CALLS);
            let lined_up = all.lined_up.clone();
            all.threads.push(std::thread::spawn(move || {
                while held_up && lined_up.load(Relaxed) == 0 {
                    std::thread::yield_now();
                }
                (0..1000).for_each(|_| std::thread::yield_now());
                let go = await_go(&start, &lined_up).map_err(|_| Fatal::host(SENT_HOME))?;
                Ok(CoreEnd { ended_ns: go.epoch_ns, ..CoreEnd::default() })
            }));
            all.gates.push(gate);
            all.live.push(LiveCore::new(vec![]));
        }
        all.line_up(Duration::from_secs(60));
        assert_eq!(all.lined_up.load(Relaxed), 2);
        all.call(Call::Go(START));
        assert!(all.join().iter().all(|end| end.ended_ns == START.epoch_ns && end.ended_by.is_none()));
    }

    #[test]
    fn a_core_that_does_not_come_holds_nobody_up_for_ever() {
        let (gate, start) = bounded(CALLS);
        let all = Cores::of(vec![], vec![gate]);
        all.line_up(Duration::from_millis(1));
        all.call(Call::Go(START));
        let go = await_go(&start, &all.lined_up).unwrap();
        assert_eq!((go.epoch_ns, go.epoch_unix_ns), (START.epoch_ns, START.epoch_unix_ns));
    }

    #[test]
    fn a_core_that_lined_up_goes_home_where_the_run_does_not_begin() {
        let (gate, start) = bounded(CALLS);
        gate.send(Call::LineUp).unwrap();
        drop(gate);
        let lined_up = AtomicUsize::new(0);
        assert!(await_go(&start, &lined_up).is_err() && lined_up.load(Relaxed) == 1);
    }
}
