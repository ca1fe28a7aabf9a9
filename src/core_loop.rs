//! The hot loop of one core. Each turn: feed every lane what is due, submit once, reap, publish.
//!
//! The loop runs at its own pace: completions free memory and fill the books, but never decide what is sent.

mod hold;
mod lane;
mod missing;
mod rhythm;
pub mod tally;
pub mod taps;

use crate::base::attention::Attention;
use crate::base::clock::Clock;
use crate::base::limits;
use crate::base::units::format_duration;
use crate::counters::answers::Answers;
use crate::counters::broker_errors::BrokerErrors;
use crate::counters::{CoreEnd, CoreState, Field, LiveCore};
use crate::pace::{self, Grant};
use crate::payload::{Block, Payload};
use crate::sink::{Done, Ending, Fate, LaneClose, Sink};
use crate::sys::ring::{Ring, Wait};
use crate::tap::Tap;
use hold::{SPIN_NS_MAX, hold_until, is_long};
use rhythm::{Fed, Turn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tally::Tally;

pub use lane::Lane;

/// How often the live cells are brought up to date.
const PUBLISH_NS: u64 = 50_000;
const SPIN_NS_MIN: u64 = pace::PUNCTUAL_NS;
/// A clock that goes back by more than this has begun anew.
const BACK_NS_MAX: u64 = 1_000_000_000;

/// What a core thread needs; see the module.
pub struct Core<'a, R, S, C> {
    pub ring: R,
    pub sink: S,
    pub clock: C,
    pub lanes: Vec<Lane>,
    /// Of the lanes, in order.
    pub payloads: Vec<Payload>,
    pub tally: Tally,
    pub live: Arc<LiveCore>,
    /// Where governance wants to hear of records.
    pub tap: Option<Tap>,
    /// Somebody wants the run to end in order.
    pub stop: &'a AtomicBool,
    pub block_bytes: u64,
    pub drain_timeout_ns: u64,
    pub adaptive: bool,
    /// Clock reading at the barrier.
    pub epoch_ns: u64,
    pub done: Vec<Done>,
    pub pulse: Pulse,
}

/// What became known of blocks.
struct Booked {
    any: bool,
    /// Records of them were produced.
    produced: bool,
}

/// What the loop remembers of its own rhythm.
#[derive(Debug, Default)]
pub struct Pulse {
    /// The latest time that the clock has told.
    latest_ns: u64,
    clock_went_back: bool,
    published_ns: u64,
    /// How late the kernel wakes this thread, smoothed.
    oversleep_ns: u64,
    ended_by: Option<String>,
    closed: bool,
    stopped: bool,
    /// When the lanes stopped offering.
    paced_ns: u64,
    /// When the drain brought its last record, or else it began.
    drained_ns: u64,
    drain_spun_ns: u64,
    /// Processor time of this thread at the barrier.
    cpu_from_ns: u64,
    /// The sink's word for the dearest byte.
    byte_ns_max: u64,
}

impl<R: Ring, S: Sink<R>, C: Clock> Core<'_, R, S, C> {
    /// Runs from the barrier to the last completion. `close` follows.
    pub fn run(&mut self) {
        while self.clock.now_ns() < self.epoch_ns {
            std::hint::spin_loop();
        }
        self.live.enter(CoreState::Running);
        (self.pulse.cpu_from_ns, self.pulse.byte_ns_max) = (self.ring.cpu_ns(), self.sink.byte_ns_max());
        let mut now_ns = self.now();
        loop {
            self.finish_lanes(now_ns);
            if self.lanes.iter().all(|lane| lane.finished) {
                break;
            }
            now_ns = self.turn(now_ns);
        }
        self.pulse.paced_ns = now_ns;
        self.read_cpu_time();
        self.live.enter(CoreState::Draining);
        self.drain(now_ns);
    }

    /// Never less than before: a counter that begins anew, as one may while the machine sleeps, ends the run.
    fn now(&mut self) -> u64 {
        let told_ns = self.clock.now_ns().saturating_sub(self.epoch_ns);
        let back_ns = self.pulse.latest_ns.saturating_sub(told_ns);
        if back_ns > BACK_NS_MAX && !self.pulse.clock_went_back {
            self.pulse.clock_went_back = true;
            let by = format_duration(back_ns);
            self.end_run(format!("the processor's clock went back by {by} or more, as it may when a machine sleeps"));
        }
        self.pulse.latest_ns = self.pulse.latest_ns.max(told_ns);
        self.pulse.latest_ns
    }

    /// One turn; returns the time of its end, which is the start of the next.
    fn turn(&mut self, now_ns: u64) -> u64 {
        let mut fed = Fed { wake_ns: u64::MAX, hold_until_ns: u64::MAX, ..Fed::default() };
        for lane in 0..self.lanes.len() {
            self.feed(lane, now_ns, &mut fed);
        }
        let wait = self.wait(&fed, now_ns);
        let fed_ns = self.now();
        let blocks = self.ring.enter_blocks();
        self.submit(wait);
        let submitted_ns = self.now();
        let reaped = self.reap(submitted_ns).any;
        let byte_ns_max = self.pulse.byte_ns_max;
        let turn = Turn { from_ns: now_ns, fed_ns, to_ns: submitted_ns, wait, fed, byte_ns_max, blocks, reaped };
        turn.book(&mut self.tally.time, &mut self.pulse.oversleep_ns);
        if self.is_publish_due(submitted_ns) {
            // It is a call to the kernel: only for a snapshot.
            if submitted_ns >= self.tally.next_snapshot_ns() {
                self.read_cpu_time();
            }
            self.publish(submitted_ns, submitted_ns);
        }
        submitted_ns
    }

    /// Offers what is due on one lane, up to a turn's worth.
    fn feed(&mut self, at: usize, now_ns: u64, fed: &mut Fed) {
        if self.lanes[at].finished {
            return;
        }
        self.give_up_expired(at, now_ns);
        let mut turn_bytes = 0;
        while turn_bytes < limits::TURN_BYTES {
            let (lane, payload) = (&mut self.lanes[at], &mut self.payloads[at]);
            let grant = lane.pacer.grant(now_ns);
            if grant.budget_bytes == 0 {
                let next_ns = lane.pacer.next_due_ns(now_ns).unwrap_or(u64::MAX);
                match self.first_hold_until(at, &grant, next_ns) {
                    Some(until_ns) => fed.hold_until_ns = fed.hold_until_ns.min(until_ns),
                    None => fed.wake_ns = fed.wake_ns.min(next_ns),
                }
                return;
            }
            let room = self.sink.room(&mut self.ring, at, payload.next_length());
            let records_max = lane.may_offer(grant.warmup, |bytes| payload.records_within(bytes)).min(room.records);
            let Some(extent) = payload.extent(grant.budget_bytes, room.bytes.min(self.block_bytes), records_max) else {
                if room.is_none() && self.sink.submitting_makes_room(at) {
                    fed.wake_ns = now_ns;
                } else {
                    fed.held_up(room.is_none() && self.sink.awaits_file(at));
                }
                return;
            };
            if let Some(until_ns) = hold_until(&grant, extent).filter(|until_ns| now_ns < *until_ns) {
                let wake_ns = if is_long(&grant, until_ns) { &mut fed.hold_until_ns } else { &mut fed.wake_ns };
                *wake_ns = until_ns.min(*wake_ns);
                return;
            }
            let slot = payload.begin(self.ring.memory(), extent, block_for(&grant, now_ns));
            taps::tap_events(self.tap.as_mut(), at, self.ring.memory(), payload, slot);
            lane.pacer.take(extent.bytes);
            lane.spend(grant.warmup, extent.records, extent.bytes);
            self.tally.submitted(at, payload.block(slot), grant.late_after_ns);
            self.sink.offer(&mut self.ring, at, slot, payload, grant.paced && !extent.full);
            turn_bytes += extent.bytes;
            fed.records += extent.records;
            fed.bytes += extent.bytes;
        }
        if turn_bytes >= limits::TURN_BYTES {
            fed.wake_ns = now_ns;
        }
    }

    /// What falls due next is the first of its block, and may wait for more: until then, where a core that sleeps need
    /// not be up when it is due.
    fn first_hold_until(&self, at: usize, grant: &Grant, next_ns: u64) -> Option<u64> {
        if !self.adaptive || next_ns != grant.first_due_ns {
            return None;
        }
        let payload = &self.payloads[at];
        let records_max = self.lanes[at].may_offer(grant.warmup, |bytes| payload.records_within(bytes));
        let extent = payload.extent(1, self.block_bytes, records_max)?;
        hold_until(grant, extent).filter(|until_ns| is_long(grant, *until_ns))
    }

    /// What a stall made later than the catch-up allows becomes "not sent".
    fn give_up_expired(&mut self, at: usize, now_ns: u64) {
        loop {
            let expired = self.lanes[at].pacer.expired_bytes(now_ns);
            if expired == 0 || !self.give_up(at, now_ns, expired) {
                return;
            }
        }
    }

    /// Books the records that start within the next `bytes` of the oldest phase as not sent; false: there are none.
    fn give_up(&mut self, at: usize, now_ns: u64, bytes: u64) -> bool {
        let (lane, payload) = (&mut self.lanes[at], &mut self.payloads[at]);
        let warmup = lane.pacer.due(now_ns).warmup;
        let (due, due_bytes) = payload.due_within(bytes);
        let records = due.min(lane.may_offer(warmup, |bytes| payload.due_within(bytes)));
        payload.pass(due);
        lane.pacer.skip(due_bytes);
        lane.spend(warmup, records, due_bytes);
        self.tally.not_sent(at, warmup, records);
        records > 0
    }

    /// Ends the lanes that have offered all they will.
    fn finish_lanes(&mut self, now_ns: u64) {
        let stopped = self.stop.load(Relaxed);
        for at in 0..self.lanes.len() {
            let lane = &mut self.lanes[at];
            if lane.finished {
                continue;
            }
            let late = now_ns >= lane.pacer.ends_at_ns().saturating_add(limits::FINISH_GRACE_NS);
            let spent = lane.is_spent(now_ns) || lane.pacer.ended(now_ns);
            if stopped || late || spent {
                lane.finished = true;
                self.pulse.stopped |= !late && !spent;
                self.give_up_backlog(at, now_ns);
            }
        }
    }

    /// Everything that is due and was not submitted, at a lane's end.
    fn give_up_backlog(&mut self, at: usize, now_ns: u64) {
        loop {
            let grant = self.lanes[at].pacer.due(now_ns);
            if !grant.paced || grant.budget_bytes == 0 || !self.give_up(at, now_ns, grant.budget_bytes) {
                break;
            }
        }
        self.tally.ended(at, self.lanes[at].records_left);
    }

    /// Busy cores never wait. Adaptive ones do when nothing is due or nothing fits.
    fn wait(&self, fed: &Fed, now_ns: u64) -> Wait {
        // Something was offered and more would be, if there were room: submitting and waiting for it are one call.
        if !self.adaptive || fed.offered() && !fed.full {
            return Wait::No;
        }
        let spin_ns = (2 * self.pulse.oversleep_ns).clamp(SPIN_NS_MIN, SPIN_NS_MAX);
        let wake_ns = fed.wake_ns.min(self.tally.next_snapshot_ns());
        let until_ns = wake_ns.saturating_sub(spin_ns).min(fed.hold_until_ns);
        match until_ns.saturating_sub(now_ns).min(limits::WAIT_NS_MAX) {
            0 => Wait::No,
            ns => Wait::ForNs(ns),
        }
    }

    fn submit(&mut self, wait: Wait) {
        if let Err(error) = self.sink.submit(&mut self.ring, wait) {
            self.end_run(format!("submitting to the kernel failed: {error}"));
        }
    }

    fn end_run(&mut self, why: String) {
        self.stop.store(true, Relaxed);
        self.pulse.ended_by.get_or_insert(why);
    }

    /// Hands finished blocks to the books.
    fn reap(&mut self, now_ns: u64) -> Booked {
        self.sink.reap(&mut self.ring, &mut self.payloads, now_ns, &mut self.done);
        match self.sink.ending() {
            None => {}
            Some(Ending::Closed) => {
                self.pulse.closed = true;
                self.stop.store(true, Relaxed);
            }
            Some(Ending::Broken(why)) if self.pulse.ended_by.is_none() => {
                let why = why.clone();
                self.end_run(why);
            }
            Some(Ending::Broken(_)) => {}
        }
        self.book(now_ns)
    }

    /// Books what is in `done`.
    fn book(&mut self, now_ns: u64) -> Booked {
        let mut booked = Booked { any: !self.done.is_empty(), produced: false };
        for done in self.done.drain(..) {
            let lane = done.lane as usize;
            let payload = &mut self.payloads[lane];
            let block = *payload.block(done.slot);
            let whole = payload.records_within_span(&block, done.bytes);
            let begun = u64::from(done.fate != Fate::Produced && payload.span_of(&block, whole) < done.bytes);
            let records = payload.settle(done.slot, whole + begun);
            let bytes = payload.bytes_of(&block, records.clone());
            booked.produced |= done.fate == Fate::Produced && !records.is_empty();
            self.tally.settled(lane, &block, records, bytes, done.fate, now_ns);
        }
        booked
    }

    /// A snapshot, if one is due, is dated `dated_ns`.
    fn publish(&mut self, now_ns: u64, dated_ns: u64) {
        self.pulse.published_ns = now_ns;
        self.live.beat(self.clock.now_ns());
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            self.tally.sent(at, self.sink.take_wire(at));
            if let Some(answers) = self.sink.answers(at) {
                self.tally.refused(at, answers);
            }
            if let Some(errors) = self.sink.broker_errors(at) {
                self.tally.refused_by_brokers(at, errors.first());
            }
            if !lane.finished {
                let (warm, measured) = lane.backlog_records(&self.payloads[at], now_ns);
                self.tally.backlog(at, warm, measured);
            }
        }
        self.tally.publish(now_ns, dated_ns);
    }

    fn read_cpu_time(&mut self) {
        self.tally.time.cpu_ns = self.ring.cpu_ns().saturating_sub(self.pulse.cpu_from_ns);
    }

    /// Waits for what is in flight; what is not answered in time is uncertain. Time in which no record comes any more
    /// is no part of the run: what becomes known in it is dated before it.
    fn drain(&mut self, from_ns: u64) {
        let most_ns = self.drain_timeout_ns;
        let mut attention = Attention::from(from_ns, most_ns);
        self.sink.drain_until(attention.over_at_ns(most_ns));
        let (mut now_ns, mut drained_ns, mut spun_ns) = (from_ns, from_ns, 0);
        // With a clock that went back nobody knows how long an answer has been waited for.
        let is_open = |core: &Self| !core.pulse.clock_went_back && core.payloads.iter().any(Payload::any_unsettled);
        while is_open(self) && !attention.is_over(most_ns) {
            self.sink.flush(&mut self.ring);
            let wait = if self.adaptive { Wait::ForNs(limits::WAIT_NS_MAX) } else { Wait::No };
            let works = self.ring.enter_blocks();
            self.submit(wait);
            let asked_ns = now_ns;
            now_ns = self.now();
            if works {
                attention.work(now_ns);
            } else if attention.look(now_ns) {
                // What came meanwhile has not been heard.
                self.sink.drain_until(attention.over_at_ns(most_ns));
            }
            let Booked { any, produced } = self.reap(now_ns);
            if produced {
                drained_ns = now_ns;
            }
            spun_ns += if any || wait != Wait::No { 0 } else { now_ns - asked_ns };
            if self.is_publish_due(now_ns) {
                self.publish(now_ns, drained_ns);
            }
        }
        self.sink.give_up(&mut self.ring, &mut self.payloads, &mut self.done);
        // Not `reap`: an answer that comes only now would end its block a second time.
        if self.book(now_ns).produced {
            drained_ns = now_ns;
        }
        for (at, payload) in self.payloads.iter().enumerate() {
            let given_up = |slot| Done::rest(at, slot, Fate::Uncertain(Field::ErrorTimeout));
            self.done.extend(payload.unsettled().map(given_up));
        }
        self.book(now_ns);
        // The final fsync may take long: who looks meanwhile sees how it ended, and it ended now.
        self.tally.call_for_snapshot();
        self.publish(now_ns, drained_ns);
        self.pulse.drained_ns = drained_ns;
        let cpu_ns = self.ring.cpu_ns().saturating_sub(self.pulse.cpu_from_ns + self.tally.time.cpu_ns);
        self.pulse.drain_spun_ns = spun_ns.min(cpu_ns);
    }

    fn is_publish_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.pulse.published_ns) >= PUBLISH_NS
    }

    /// Final fsync and manifests; the core's last words.
    pub fn close(mut self) -> CoreEnd {
        self.live.enter(CoreState::Syncing);
        let started_ns = self.now();
        let (mut kept, mut answers) = (Vec::new(), Vec::new());
        for at in 0..self.lanes.len() {
            let (missing, missing_truncated) = self.tally.missing(at);
            let next_sequence = self.payloads[at].next_sequence();
            let end = LaneClose { missing: missing.to_vec(), missing_truncated, next_sequence };
            let lane = self.sink.close(&mut self.ring, at, &end);
            kept.push(lane.first_sequence);
            if let Some(why) = lane.error {
                self.end_run(why);
            }
            self.tally.sent(at, self.sink.take_wire(at));
            let by_code = self.sink.broker_errors(at).map(BrokerErrors::by_code);
            let of_http = self.sink.answers(at);
            answers.push((of_http.map(Answers::by_status), of_http.and_then(Answers::refused_by_body), by_code));
        }
        let fsync_ns = self.now() - started_ns;
        let mut end = self.tally.finish(self.pulse.drained_ns + fsync_ns);
        (end.fsync_ns, end.drain_spun_ns) = (fsync_ns, self.pulse.drain_spun_ns);
        end.vain_ns = started_ns - self.pulse.drained_ns;
        end.closed = self.pulse.closed;
        end.stopped = self.pulse.stopped;
        end.paced_ns = self.pulse.paced_ns;
        end.ended_by = self.pulse.ended_by.take();
        for ((lane, kept), (answers, refused_by_body, by_code)) in end.lanes.iter_mut().zip(kept).zip(answers) {
            (lane.retained_first_sequence, lane.answers, lane.broker_errors) = (kept, answers, by_code);
            lane.refused_by_body = refused_by_body;
        }
        self.live.enter(CoreState::Done);
        end
    }
}

fn block_for(grant: &Grant, now_ns: u64) -> Block {
    Block {
        first_due_ns: grant.first_due_ns,
        spread: grant.spread,
        submit_ns: now_ns,
        weight: grant.weight,
        warmup: grant.warmup,
        paced: grant.paced,
        ..Block::default()
    }
}
