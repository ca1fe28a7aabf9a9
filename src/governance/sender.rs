//! The thread that posts. It polls the cores' queues, so that no core ever has to wake it, and sends one request at
//! a time: what is to be announced first, then events in batches.
//!
//! A server in trouble is asked again, a bounded number of times for each batch and with growing pauses; meanwhile
//! the queues fill, and what no longer fits in them is dropped and counted.

use super::bodies::{Bodies, RunEnd};
use super::client::{Answer, Client};
use super::contract::{Call, Contract};
use crate::base::limits;
use crate::tap::{EventBooks, EventEnd, EventFacts};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LINGER: Duration = Duration::from_nanos(limits::GOVERNANCE_LINGER_NS);
const POLL: Duration = Duration::from_nanos(limits::GOVERNANCE_POLL_NS);
const REQUEST: Duration = Duration::from_nanos(limits::GOVERNANCE_REQUEST_NS_MAX);
const BACKOFF_MAX: Duration = Duration::from_nanos(limits::GOVERNANCE_BACKOFF_NS_MAX);
/// What a server that did not answer before gets at the end.
const LAST_CHANCE: Duration = Duration::from_secs(1);

pub enum Control {
    Started { unix_ns: u64 },
    Finish { end: Box<RunEnd>, deadline: Instant },
}

/// Events on their way in one request.
struct Ready {
    call: Call,
    bytes: Vec<u8>,
    events: u64,
    attempts: u32,
}

/// What a request came to, for those who wait for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Posted {
    Taken,
    Refused,
    NotYet,
}

pub struct Sender {
    contract: Contract,
    client: Client,
    bodies: Bodies,
    books: Arc<EventBooks>,
    queues: Vec<Receiver<EventFacts>>,
    control: Receiver<Control>,
    /// The run and its producers, in order, as far as the server has not heard of them.
    announcements: VecDeque<(Call, Value)>,
    batch: Vec<EventFacts>,
    batch_since: Option<Instant>,
    ready: Option<Ready>,
    /// Requests in a row that were not answered to the point.
    failures: u32,
    unreachable: bool,
    retry_at: Option<Instant>,
    /// The run is over: everything goes at once, until then.
    deadline: Option<Instant>,
    warned_of_refusal: bool,
}

impl Sender {
    pub fn new(
        (contract, client, bodies): (Contract, Client, Bodies),
        books: Arc<EventBooks>,
        queues: Vec<Receiver<EventFacts>>,
        control: Receiver<Control>,
    ) -> Self {
        Self {
            contract,
            client,
            bodies,
            books,
            queues,
            control,
            announcements: VecDeque::new(),
            batch: Vec::with_capacity(limits::GOVERNANCE_BATCH_EVENTS),
            batch_since: None,
            ready: None,
            failures: 0,
            unreachable: false,
            retry_at: None,
            deadline: None,
            warned_of_refusal: false,
        }
    }

    /// Posts until the run has ended, or never started.
    pub fn run(mut self) {
        loop {
            match self.control.recv_timeout(self.nap()) {
                Ok(Control::Started { unix_ns }) => self.announce(unix_ns),
                Ok(Control::Finish { end, deadline }) => return self.finish(*end, deadline),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.client.renew();
            self.gather();
            self.step();
        }
    }

    fn announce(&mut self, unix_ns: u64) {
        self.announcements.push_back((Call::StartRun, self.bodies.run_start(unix_ns)));
        self.announcements.extend(self.bodies.producers().map(|body| (Call::RegisterProducer, body)));
    }

    /// How long there is nothing to do but to look at the queues.
    fn nap(&self) -> Duration {
        let busy = !self.announcements.is_empty() || self.ready.is_some() || self.is_due();
        match self.retry_at {
            Some(at) => at.saturating_duration_since(Instant::now()).min(POLL),
            None if busy => Duration::ZERO,
            None => POLL,
        }
    }

    /// Fills the batch, taking from each queue in turn.
    fn gather(&mut self) {
        let mut missing = limits::GOVERNANCE_BATCH_EVENTS - self.batch.len();
        let share = missing.div_ceil(self.queues.len().max(1));
        for most in [share, missing] {
            for queue in &self.queues {
                let before = self.batch.len();
                self.batch.extend(queue.try_iter().take(most.min(missing)));
                missing -= self.batch.len() - before;
            }
        }
        if self.batch_since.is_none() && !self.batch.is_empty() {
            self.batch_since = Some(Instant::now());
        }
    }

    fn is_due(&self) -> bool {
        let waited = self.batch_since.is_some_and(|since| since.elapsed() >= LINGER || self.deadline.is_some());
        self.batch.len() == limits::GOVERNANCE_BATCH_EVENTS || waited
    }

    /// One request at most.
    fn step(&mut self) {
        if self.retry_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.retry_at = None;
        if self.ready.is_none() && self.is_due() {
            self.close_batch();
        }
        if let Some((call, body)) = self.announcements.pop_front() {
            if self.announce_one(call, &body) == Posted::NotYet {
                self.announcements.push_front((call, body));
                // Events that wait for it grow older by an attempt, too.
                if let Some(ready) = self.ready.take() {
                    self.try_again_or_fail(ready);
                }
            }
        } else if let Some(ready) = self.ready.take() {
            self.post_events(ready);
        }
    }

    fn announce_one(&mut self, call: Call, body: &Value) -> Posted {
        if let Err(why) = self.contract.check(call, body) {
            self.refused(why);
            return Posted::Refused;
        }
        let posted = self.post(call, body.to_string().as_bytes());
        if posted == Posted::Taken {
            self.books.announced();
        }
        posted
    }

    fn post_events(&mut self, ready: Ready) {
        self.books.sending(ready.events);
        match self.post(ready.call, &ready.bytes) {
            Posted::Taken => self.books.end(EventEnd::Posted, ready.events),
            Posted::Refused => self.books.end(EventEnd::Refused, ready.events),
            Posted::NotYet => self.try_again_or_fail(ready),
        }
    }

    fn try_again_or_fail(&mut self, mut ready: Ready) {
        ready.attempts += 1;
        if ready.attempts < limits::GOVERNANCE_ATTEMPTS_MAX {
            self.ready = Some(ready);
        } else {
            self.books.end(EventEnd::Failed, ready.events);
        }
    }

    /// Makes a request of the batch. Events that do not follow the contract stay behind.
    fn close_batch(&mut self) {
        let mut events = std::mem::replace(&mut self.batch, Vec::with_capacity(limits::GOVERNANCE_BATCH_EVENTS));
        let since = self.batch_since.take();
        if !self.contract.has(Call::PostEvents) {
            self.batch.extend(events.drain(1..));
            // Those that are left have waited as long.
            self.batch_since = since.filter(|_| !self.batch.is_empty());
        }
        let mut body = self.body_of(&events);
        if body.is_err() && events.len() > 1 {
            let before = events.len();
            events.retain(|facts| self.body_of(std::slice::from_ref(facts)).is_ok());
            self.invalid(before - events.len(), &body);
            body = if events.is_empty() { return } else { self.body_of(&events) };
        }
        match body {
            Ok((call, body)) => {
                let bytes = body.to_string().into_bytes();
                self.ready = Some(Ready { call, bytes, events: events.len() as u64, attempts: 0 });
            }
            wrong @ Err(_) => self.invalid(events.len(), &wrong),
        }
    }

    /// One event has a call of its own, where the contract has that.
    fn body_of(&self, events: &[EventFacts]) -> Result<(Call, Value), String> {
        let (call, body) = match events {
            [one] if self.contract.has(Call::PostEvent) => (Call::PostEvent, self.bodies.event(one)),
            many => (Call::PostEvents, self.bodies.batch(many)),
        };
        self.contract.check(call, &body).map(|()| (call, body))
    }

    fn invalid(&mut self, events: usize, why: &Result<(Call, Value), String>) {
        if let Err(why) = why {
            self.refused(why.clone());
        }
        self.books.end(EventEnd::Invalid, events as u64);
    }

    fn post(&mut self, call: Call, bytes: &[u8]) -> Posted {
        let now = Instant::now();
        let left = self.deadline.map_or(REQUEST, |deadline| deadline.saturating_duration_since(now).min(REQUEST));
        let timeout = if self.deadline.is_some() && self.unreachable { left.min(LAST_CHANCE) } else { left };
        if timeout.is_zero() {
            return Posted::NotYet;
        }
        match self.client.post(&self.contract.path(call, &self.bodies.run_id), bytes, timeout) {
            Answer::Taken => {
                self.answered();
                Posted::Taken
            }
            Answer::Refused(why) => {
                self.answered();
                self.refused(why);
                Posted::Refused
            }
            Answer::Later { why, after } => {
                self.unreachable = false;
                self.back_off(why, after);
                Posted::NotYet
            }
            Answer::Unreachable(why) => {
                self.unreachable = true;
                self.back_off(why, Duration::ZERO);
                Posted::NotYet
            }
        }
    }

    fn answered(&mut self) {
        if self.failures > 0 {
            tracing::info!(event = "governance", "the governance server answers again");
        }
        (self.failures, self.unreachable) = (0, false);
    }

    fn refused(&mut self, why: String) {
        if !self.warned_of_refusal {
            self.warned_of_refusal = true;
            tracing::warn!(event = "governance", "governance: {why}; the run goes on");
        }
        self.books.error(why);
    }

    fn back_off(&mut self, why: String, after: Duration) {
        if self.failures == 0 {
            tracing::warn!(event = "governance", "governance: {why}; the run goes on, and it is tried again");
        }
        self.books.error(why);
        let doubled = Duration::from_nanos(limits::GOVERNANCE_BACKOFF_NS_MIN << self.failures.min(10));
        self.failures += 1;
        self.retry_at = Some(Instant::now() + doubled.min(BACKOFF_MAX).max(after));
    }

    /// Posts what is left and then the run's end. A server that is not there is asked once more, no longer.
    fn finish(&mut self, end: RunEnd, deadline: Instant) {
        self.deadline = Some(deadline);
        if self.unreachable {
            self.retry_at = None;
        }
        let mut patience = if self.unreachable { 1 } else { limits::GOVERNANCE_ATTEMPTS_MAX };
        loop {
            self.gather();
            if self.announcements.is_empty() && self.ready.is_none() && self.batch.is_empty() {
                break;
            }
            let failures = self.failures;
            if !self.wait_for_retry(deadline) {
                return;
            }
            self.step();
            if self.failures > failures {
                patience -= 1;
            }
            if patience == 0 || Instant::now() >= deadline {
                return;
            }
        }
        let totals = self.books.totals();
        let end = RunEnd { events_offered: totals.offered, events_posted: totals.posted, ..end };
        let body = self.bodies.run_end(&end);
        while self.wait_for_retry(deadline) && patience > 0 && Instant::now() < deadline {
            if self.announce_one(Call::CloseRun, &body) != Posted::NotYet {
                return;
            }
            patience -= 1;
        }
    }

    /// False: there is no time left for another attempt, or nobody waits any more. Meanwhile the token may be renewed.
    fn wait_for_retry(&mut self, deadline: Instant) -> bool {
        let Some(at) = self.retry_at.take() else { return true };
        if at >= deadline {
            return false;
        }
        loop {
            let pause = at.saturating_duration_since(Instant::now());
            if !matches!(self.control.recv_timeout(pause.min(POLL)), Err(RecvTimeoutError::Timeout)) {
                return false;
            }
            if pause <= POLL {
                return true;
            }
            self.client.renew();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::governance::contract::BUILT_IN;
    use crate::governance::testing::{governance, plan};
    use crossbeam_channel::bounded;

    #[test]
    fn events_that_go_one_by_one_do_not_wait_for_each_other() {
        const EVENTS: usize = 30;
        let singles = BUILT_IN.replace("/v1/events/batch:", "/v1/else:");
        let (plan, governance) = (plan(), governance(Some(&singles)));
        let contract = Contract::of(&plan, &governance).unwrap();
        let parts = (contract, Client::new(&governance).unwrap(), Bodies::new(&plan, 1));
        let (_control, controls) = bounded(1);
        let mut sender = Sender::new(parts, EventBooks::new(vec![]), vec![], controls);
        let facts = EventFacts { producer_id: 4, bytes: 100, weight: 1, ..EventFacts::default() };
        sender.batch.extend([facts; EVENTS]);
        sender.batch_since = Instant::now().checked_sub(2 * LINGER);
        for left in (0..EVENTS).rev() {
            assert!(sender.is_due(), "{left} would have to wait behind this one");
            sender.close_batch();
            let ready = sender.ready.take().map(|ready| ready.events);
            assert_eq!((ready, sender.batch.len()), (Some(1), left));
        }
        assert!(!sender.is_due());
    }
}
