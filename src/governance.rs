//! Tells a governance API of the run: its start, its producers, every Nth record, its end.
//!
//! `core_loop` fills a bounded queue for each core (see `tap`), a thread here empties them and posts. Nothing in this
//! room can slow a run down or make it fail: what cannot be posted is counted, reported and warned of at the end.

mod bodies;
mod client;
mod contract;
mod openapi;
mod sender;

#[cfg(test)]
mod testing;

pub use bodies::RunEnd;

use crate::base::fatal::Fatal;
use crate::base::limits;
use crate::plan::{GovernancePlan, RunPlan};
use crate::sys::threads;
use crate::tap::{Checksum, EventBooks, EventTotals, Tap, TapEnd, TapLane, tap};
use bodies::Bodies;
use client::Client;
use contract::Contract;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender as ChannelSender, bounded};
use sender::{Control, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Everything is ready but the thread.
pub struct Prepared {
    plan: Arc<RunPlan>,
    parts: (Contract, Client, Bodies),
    ends: Vec<TapEnd>,
}

/// The running thread.
pub struct Governance {
    plan: Arc<RunPlan>,
    books: Arc<EventBooks>,
    control: ChannelSender<Control>,
    /// Disconnects when the thread is done.
    done: Receiver<()>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub totals: EventTotals,
    /// Calls about the run and its producers that the server took, and how many there were to make.
    pub announced: u64,
    pub announcements: u64,
    pub last_error: Option<String>,
}

/// Whether the plan's contract fits, without posting anything.
///
/// # Errors
/// See [`prepare`].
pub fn check(plan: &RunPlan) -> Result<(), Fatal> {
    let Some(governance) = &plan.observe.governance else { return Ok(()) };
    Contract::of(plan, governance).map(drop)
}

/// The taps of the cores, in their order, and what is to be started once these are ready; all `None` where the run
/// has no governance.
///
/// # Errors
/// Exit 2: the contract does not fit, each fault named. Exit 3: an `https` address, and no root certificates.
pub fn prepare(plan: &Arc<RunPlan>) -> Result<(Option<Prepared>, Vec<Option<Tap>>), Fatal> {
    let Some(governance) = &plan.observe.governance else {
        return Ok((None, plan.cores.iter().map(|_| None).collect()));
    };
    let contract = Contract::of(plan, governance)?;
    let parts = (contract, Client::new(governance)?, Bodies::new(plan, governance.every));
    let (taps, ends) = taps(plan, governance);
    Ok((Some(Prepared { plan: plan.clone(), parts, ends }), taps))
}

fn taps(plan: &RunPlan, governance: &GovernancePlan) -> (Vec<Option<Tap>>, Vec<TapEnd>) {
    let checksum = if plan.payload.headed { Checksum::Header } else { Checksum::Whole };
    let of_core = |producers: &[usize]| {
        let lane = |at: &usize| {
            let producer = &plan.producers[*at];
            TapLane { producer_id: producer.id, target: producer.target as u32 }
        };
        tap(governance.every, limits::GOVERNANCE_QUEUE_EVENTS, checksum, producers.iter().map(lane).collect())
    };
    plan.cores.iter().map(|core| of_core(&core.producers)).map(|(tap, end)| (Some(tap), end)).unzip()
}

impl Prepared {
    /// Starts the thread; it posts nothing before [`Governance::started`].
    ///
    /// # Errors
    /// Exit 3: no thread can be had.
    pub fn start(self) -> Result<Governance, Fatal> {
        let Self { plan, parts, ends } = self;
        let books = EventBooks::new(ends.iter().map(|end| end.counts.clone()).collect());
        let (control, commands) = bounded(2);
        let (alive, done) = bounded(0);
        let queues = ends.into_iter().map(|end| end.events).collect();
        let sender = Sender::new(parts, books.clone(), queues, commands);
        let cpu = plan.free_cpus.last().copied();
        threads::start("governance", cpu.as_slice(), "the governance thread", move || {
            let _alive: ChannelSender<()> = alive;
            sender.run();
        })?;
        Ok(Governance { plan, books, control, done })
    }
}

impl Governance {
    pub fn books(&self) -> Arc<EventBooks> {
        self.books.clone()
    }

    /// The barrier fell at this time: the run is announced now. Waits for nothing.
    pub fn started(&self, unix_ns: u64) {
        // A thread that is gone has said why; the books will show it.
        let _gone = self.control.try_send(Control::Started { unix_ns });
    }

    /// The cores have joined: posts what is left and the run's end, for no longer than `--drain-timeout` and 5 s.
    pub fn finish(self, end: RunEnd) -> Outcome {
        let most_ns = self.plan.drain_timeout_ns.min(limits::GOVERNANCE_FINISH_NS_MAX);
        let deadline = Instant::now() + Duration::from_nanos(most_ns);
        let _gone = self.control.try_send(Control::Finish { end: Box::new(end), deadline });
        if self.done.recv_deadline(deadline) == Err(RecvTimeoutError::Timeout) {
            self.books.error_if_none("the end of the run came before the last answer");
        }
        let totals = self.books.close();
        let announcements = self.plan.producers.len() as u64 + 2;
        let outcome = Outcome {
            totals,
            announced: self.books.announcements(),
            announcements,
            last_error: self.books.last_error(),
        };
        outcome.warn();
        outcome
    }
}

impl Outcome {
    pub fn is_whole(&self) -> bool {
        self.totals.posted == self.totals.offered && self.announced == self.announcements
    }

    /// A run does not fail because of its governance, so this is the place where one hears of it.
    fn warn(&self) {
        if self.is_whole() {
            return;
        }
        let totals = &self.totals;
        tracing::warn!(
            event = "governance",
            events_offered = totals.offered,
            posted = totals.posted,
            dropped = totals.dropped,
            refused = totals.refused,
            failed = totals.failed,
            invalid = totals.invalid,
            announced = self.announced,
            announcements = self.announcements,
            last_error = self.last_error,
            "governance was not told of everything"
        );
    }
}

/// The start of a long text, on one line.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(limits::GOVERNANCE_ERROR_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
