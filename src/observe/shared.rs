//! What the observer's threads share: the live cells, the folded snapshots, and where the run stands.

use crate::base::clock::{Clock, TscClock};
use crate::base::limits;
use crate::connect::dialer::Outages;
use crate::counters::{CoreState, Counts, LiveCore};
use crate::observe::aggregate::Aggregate;
use crate::observe::phases::Phases;
use crate::plan::{ProducerPlan, RunPlan};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Where the run stands, for `/ready` and the live line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum RunState {
    Starting = 0,
    Running = 1,
    /// All cores are home.
    Joined = 2,
    /// Every number is final.
    Done = 3,
}

pub struct Shared {
    pub plan: Arc<RunPlan>,
    pub live: Vec<Arc<LiveCore>>,
    pub clock: TscClock,
    /// Connections that are down just now.
    pub outages: Arc<Outages>,
    aggregate: Mutex<Aggregate>,
    state: AtomicU64,
    /// Monotonic time of the start barrier.
    epoch_ns: AtomicU64,
}

/// A core that stopped turning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// Its logical processor.
    pub cpu: usize,
    pub silent_ns: u64,
}

impl Shared {
    pub fn new(plan: Arc<RunPlan>, live: Vec<Arc<LiveCore>>, clock: TscClock, outages: Arc<Outages>) -> Arc<Self> {
        let lanes: Vec<_> = live.iter().map(|core| core.lanes.len()).collect();
        let aggregate = Mutex::new(Aggregate::new(&lanes, plan.warmup_ns(), Phases::of(&plan)));
        let (state, epoch_ns) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { plan, live, clock, outages, aggregate, state, epoch_ns })
    }

    /// The folded snapshots under their lock, which no core thread ever takes.
    pub fn with_aggregate<T>(&self, look: impl FnOnce(&mut Aggregate) -> T) -> T {
        look(&mut self.aggregate.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn start(&self, epoch_ns: u64) {
        self.epoch_ns.store(epoch_ns, Relaxed);
        self.enter(RunState::Running);
    }

    /// Later ones only; an earlier one is ignored.
    pub fn enter(&self, state: RunState) {
        self.state.fetch_max(state as u64, Relaxed);
    }

    pub fn state(&self) -> RunState {
        match self.state.load(Relaxed) {
            0 => RunState::Starting,
            1 => RunState::Running,
            2 => RunState::Joined,
            _ => RunState::Done,
        }
    }

    /// Whether all cores have sent what they will.
    pub fn all_drain(&self) -> bool {
        self.live.iter().all(|core| has_sent_all(core))
    }

    /// Nanoseconds since the barrier, 0 before it.
    pub fn elapsed_ns(&self) -> u64 {
        match self.state() {
            RunState::Starting => 0,
            _ => self.clock.now_ns().saturating_sub(self.epoch_ns.load(Relaxed)),
        }
    }

    /// Whether anything is asked for: from the barrier to the drain.
    pub fn is_paced(&self) -> bool {
        self.state() == RunState::Running && !self.all_drain()
    }

    /// The phase in force; `None` before the barrier and from the drain on.
    pub fn phase_now(&self) -> Option<usize> {
        self.phase_at(self.elapsed_ns()).filter(|_| self.is_paced())
    }

    /// The one whose time it is this long after the barrier, whether or not the run got there.
    pub fn phase_at(&self, elapsed_ns: u64) -> Option<usize> {
        let mut end_ns = 0u64;
        self.plan.phases.iter().position(|phase| {
            end_ns = end_ns.saturating_add(phase.duration_ns);
            elapsed_ns < end_ns
        })
    }

    /// Every producer with its live counts, ordered by core and lane.
    pub fn lanes(&self) -> Vec<(&ProducerPlan, Counts)> {
        let mut lanes = Vec::with_capacity(self.plan.producers.len());
        for (core, live) in self.plan.cores.iter().zip(&self.live) {
            for (&producer, lane) in core.producers.iter().zip(&live.lanes) {
                lanes.push((&self.plan.producers[producer], lane.read()));
            }
        }
        lanes
    }

    pub fn live_total(&self) -> Counts {
        let mut sum = Counts::default();
        self.lanes().iter().for_each(|(_, counts)| sum.merge(counts));
        sum
    }

    /// The core that made no turn for longest, where that is longer than the watchdog allows. Only cores that should be
    /// turning are judged, in the drain as before it; a final fsync, which blocks, is a state of its own.
    pub fn stalled(&self) -> Option<Stalled> {
        self.stalled_at(self.clock.now_ns())
    }

    fn stalled_at(&self, now_ns: u64) -> Option<Stalled> {
        let epoch_ns = self.epoch_ns.load(Relaxed);
        let cores = self.plan.cores.iter().zip(&self.live);
        cores
            .filter(|(_, live)| matches!(live.state(), CoreState::Running | CoreState::Draining))
            .map(|(core, live)| Stalled {
                cpu: core.cpu,
                silent_ns: now_ns.saturating_sub(live.heartbeat_ns().max(epoch_ns)),
            })
            .filter(|stalled| stalled.silent_ns >= limits::WATCHDOG_NS)
            .max_by_key(|stalled| stalled.silent_ns)
    }
}

fn has_sent_all(core: &LiveCore) -> bool {
    matches!(core.state(), CoreState::Draining | CoreState::Syncing | CoreState::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing::{Run, SECOND};

    #[test]
    fn only_a_core_that_should_turn_and_does_not_is_stalled() {
        let run = Run::new(2, 1, None);
        run.shared.start(SECOND);
        let cores = &run.shared.live;
        cores[0].enter(CoreState::Running);
        cores[0].beat(20 * SECOND);
        for state in [CoreState::Starting, CoreState::Syncing, CoreState::Done] {
            cores[1].enter(state);
            assert_eq!(run.shared.stalled_at(21 * SECOND), None, "{state:?}");
        }
        for state in [CoreState::Draining, CoreState::Running] {
            cores[1].enter(state);
            let stalled = Some(Stalled { cpu: 5, silent_ns: 20 * SECOND });
            assert_eq!(run.shared.stalled_at(21 * SECOND), stalled, "{state:?}");
        }
        assert_eq!(run.shared.stalled_at(6 * SECOND - 1), None, "the barrier counts as a turn");
        cores[1].beat(16 * SECOND + 1);
        assert_eq!(run.shared.stalled_at(21 * SECOND), None);
    }

    #[test]
    fn the_phase_in_force_follows_the_clock() {
        let mut run = Run::new(1, 1, Some(1000));
        assert_eq!(run.shared.phase_now(), None);
        run.shared.start(0);
        run.replan(|plan| plan.phases.insert(0, crate::plan::PhasePlan { duration_ns: 0, ..plan.phases[0].clone() }));
        run.shared.start(run.now_ns());
        assert_eq!(run.shared.phase_now(), Some(1));
        run.shared.live[0].enter(CoreState::Draining);
        assert_eq!(run.shared.phase_now(), None, "a signal ends it before its time");
        run.shared.live[0].enter(CoreState::Running);
        run.shared.enter(RunState::Joined);
        run.shared.enter(RunState::Running);
        assert_eq!(run.shared.state(), RunState::Joined, "a run never goes back");
        assert_eq!(run.shared.phase_now(), None);
    }
}
