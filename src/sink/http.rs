//! POST over kept connections: each block is the body of one request, its head right before it in the ring where there
//! is room, or in a place of its own.
//!
//! A connection carries one request at a time (`--http-pipeline` allows more). An answer settles its request: 2xx
//! was produced; what asks to come again waits its time and goes out again on any connection, byte for byte. A request
//! that was sent whole and has no whole answer, or one like 500, may have been taken: without a later 2xx it is
//! uncertain; so is one whose 2xx has the text of `--http-refused-by` in its body, and that one is not tried again.

mod connection;
mod delivery;
mod waiting;

use super::link::{self, ANSWERS_INBOX_BYTES, Area, Carver, LendOrCopy, Link, Loan, WAKE_NS};
use super::redials::Redials;
use super::{Done, Ending, Room, SEALED_BYTE_NS_MAX, Sink, Wire};
use crate::base::attention::Attention;
use crate::base::fatal::Fatal;
use crate::connect::backoff;
use crate::connect::dial::Dialed;
use crate::connect::token::{RENEWAL_NS, TokenInbox};
use crate::counters::answers::Answers;
use crate::payload::Payload;
use crate::plan::RetryPlan;
use crate::record::HEADER_BYTES;
use crate::sys::ring::{NetRing, Wait};
use crate::wire::http::{RequestHead, Sought};
use connection::{Connection, OfLane};
use delivery::Delivery;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use waiting::Waiting;

/// So long a request that goes out again waits for a connection that has served.
const PROVEN_WAIT_NS: u64 = 100_000_000;

/// Of the unanswered requests, one in so many is waited for at a time, for so long.
const GATHERED_SHARE: u32 = 2;
const GATHERED_NS: u64 = 100_000;

/// How a lane posts; the same for all of its connections.
#[derive(Clone, Debug)]
pub struct Options {
    pub head: RequestHead,
    pub records_per_request: u64,
    pub pipeline: usize,
    /// Requests state the checksum of their body.
    pub summed: bool,
    pub tls: bool,
    /// A 2xx with this in its body is a refusal.
    pub refused_by: Option<Arc<Sought>>,
    pub request_timeout_ns: u64,
    pub retry: RetryPlan,
    /// The bearer token may be renewed, as [`HttpSink::with_tokens`] knows.
    pub renews: bool,
    /// Of the pauses between attempts; each producer has its own.
    pub seed: u64,
}

impl Options {
    /// Of a place for a head, and for what is stamped of a body that is lent.
    fn head_bytes(&self) -> usize {
        self.head.bytes_max() + HEADER_BYTES
    }

    fn heads_bytes(&self) -> usize {
        (self.pipeline + 1) * self.head_bytes()
    }

    /// Bytes of region that a lane needs beside its ring. `block_bytes`: the longest block.
    pub fn staging_bytes(&self, connections: usize, block_bytes: u64) -> u64 {
        connections as u64 * ((Area::bytes(ANSWERS_INBOX_BYTES, self.tls) + self.heads_bytes()) as u64 + block_bytes)
    }

    /// How long after this answer the next token is there, where the one that was sent may have expired.
    fn renewal_ns(&self, status: u16) -> Option<u64> {
        (self.renews && status == 401).then_some(RENEWAL_NS)
    }

    /// How long to wait before attempt number `attempts + 1`.
    fn pause_ns(&self, attempts: u32, random: u64) -> u64 {
        backoff::pause_ns(&self.retry, attempts, random)
    }
}

/// What one lane is opened with.
pub struct LaneSetup {
    pub options: Options,
    /// A server on this host may read bodies in place, but for what is stamped anew.
    pub lends: bool,
    pub dialed: Vec<Dialed>,
    pub staging: Range<usize>,
    pub block_bytes: u64,
    /// Blocks that may wait for another attempt.
    pub window: usize,
}

struct HttpLane {
    options: Options,
    connections: Vec<Connection>,
    again: Waiting,
    answers: Answers,
    /// The connection that the last `room` spoke of, and the one that the last block went to.
    chosen: usize,
    last: usize,
    retries: u64,
    attention: Attention,
}

/// See the module.
pub struct HttpSink {
    lanes: Vec<HttpLane>,
    /// Where a server on this host may read in place.
    choice: Option<LendOrCopy>,
    redials: Redials,
    /// Where a new bearer token comes, if one may.
    tokens: Option<TokenInbox>,
    ending: Option<Ending>,
    /// When the drain is over; `u64::MAX` before it has begun.
    drained_ns: u64,
    gathering: Gathering,
}

/// Where every connection waits for its answer, a few answers at a time are worth waiting for: each time that this
/// thread wakes costs more than an answer.
#[derive(Default)]
struct Gathering {
    /// Requests that the next call to the kernel submits; their sends complete at once.
    sends: u32,
    /// What the last wait was for.
    wanted: Option<u32>,
    /// It was in vain: the next wait is for one.
    hurried: bool,
}

impl Gathering {
    /// How many completions to wait for while so many requests are unanswered.
    fn wish(&mut self, sends: u32, unanswered: usize) -> Option<u32> {
        self.wanted = (!self.hurried).then(|| sends + (unanswered as u32 / GATHERED_SHARE).max(1));
        self.wanted
    }

    /// So many came.
    fn came(&mut self, completions: u32) {
        self.hurried = self.wanted.take().is_some_and(|wanted| completions < wanted);
    }
}

impl HttpSink {
    pub fn open<R: NetRing>(ring: &mut R, setups: Vec<LaneSetup>, redials: Redials) -> Result<Self, Fatal> {
        let mut lanes = Vec::new();
        for (lane, setup) in setups.into_iter().enumerate() {
            let lends = setup.lends && setup.block_bytes as usize >= R::LENT_BYTES_MIN;
            let options = setup.options;
            let mut carver = Carver::new(setup.staging.start);
            let mut connections = Vec::new();
            for (index, dialed) in setup.dialed.into_iter().enumerate() {
                let area = carver.take_area(ANSWERS_INBOX_BYTES, options.tls);
                let (heads, buffer) = (carver.take(options.heads_bytes()), carver.take(setup.block_bytes as usize));
                let mut link = Link::open(ring, (lane, index), dialed, area)?;
                if lends {
                    link.lend(ring, Loan::ForGood);
                }
                connections.push(Connection::new(ring, link, heads, buffer, &options));
            }
            let again = Waiting::new(setup.window);
            let answers = Answers::of(options.refused_by.is_some());
            let attention = Attention::from(0, options.request_timeout_ns);
            lanes.push(HttpLane { options, connections, again, answers, chosen: 0, last: 0, retries: 0, attention });
        }
        let links = lanes.iter().flat_map(|lane| &lane.connections).map(|connection| &connection.link);
        let choice = LendOrCopy::among(links, R::LENT_TRIAL_BYTES);
        let gathering = Gathering::default();
        Ok(Self { lanes, choice, redials, tokens: None, ending: None, drained_ns: u64::MAX, gathering })
    }

    /// A server on this host may read in place what it is sent.
    pub fn lends(&self) -> bool {
        self.choice.is_some()
    }

    /// With a bearer token that may change.
    pub fn with_tokens(mut self, tokens: Option<TokenInbox>) -> Self {
        self.lanes.iter_mut().for_each(|lane| lane.options.renews = tokens.is_some());
        Self { tokens, ..self }
    }
}

impl HttpLane {
    /// Sends what has waited long enough over connections that are free.
    fn send_again<R: NetRing>(&mut self, ring: &mut R, payload: &mut Payload) {
        if self.again.is_empty() {
            return;
        }
        // A server that closes new connections at once would use up a request's attempts.
        let proven = self.connections.iter().any(Connection::has_served);
        for connection in &mut self.connections {
            if !connection.has_room(&self.options) {
                continue;
            }
            let wait_ns = if proven && !connection.has_served() { PROVEN_WAIT_NS } else { 0 };
            if let Some(delivery) = self.again.take_due(self.attention.now_ns(), wait_ns) {
                self.retries += 1;
                // It is made again, in a buffer that is wanted back.
                connection.send(ring, (payload, &mut self.options), false, delivery, self.attention);
            }
        }
    }

    /// What may go out again only when the drain is over is not waited for.
    fn give_up_late(&mut self, at: usize, drained_ns: u64, done: &mut Vec<Done>) {
        if drained_ns < u64::MAX {
            self.again.give_up_from(drained_ns, |delivery| {
                done.push(Done::rest(at, delivery.slot, delivery.unconfirmed()));
            });
        }
    }
}

impl<R: NetRing> Sink<R> for HttpSink {
    fn room(&mut self, _ring: &mut R, lane: usize, _next_length: u64) -> Room {
        let lane = &mut self.lanes[lane];
        let count = lane.connections.len();
        let mut turns = (1..=count).map(|step| (lane.last + step) % count);
        match turns.find(|at| lane.connections[*at].has_room(&lane.options)) {
            Some(at) => {
                lane.chosen = at;
                Room { bytes: u64::MAX, records: lane.options.records_per_request }
            }
            None => Room::NONE,
        }
    }

    fn offer(&mut self, ring: &mut R, lane: usize, slot: u32, payload: &mut Payload, _hurry: bool) {
        let lends = self.choice.as_mut().is_some_and(|choice| {
            choice.sent(payload.block(slot).span_bytes, || ring.cpu_ns());
            choice.lends()
        });
        let HttpLane { options, connections, chosen, last, attention, .. } = &mut self.lanes[lane];
        let delivery = Delivery::new(slot, payload.block(slot).warmup);
        connections[*chosen].send(ring, (payload, options), lends, delivery, *attention);
        *last = *chosen;
        self.gathering.sends += 1;
    }

    fn submit(&mut self, ring: &mut R, wait: Wait) -> io::Result<()> {
        let sends = std::mem::take(&mut self.gathering.sends);
        let Wait::ForNs(mut ns) = wait else { return ring.enter(wait) };
        if self.lanes.iter().any(|lane| !lane.again.is_empty() || lane.connections.iter().any(Connection::is_busy)) {
            ns = ns.min(WAKE_NS);
        }
        let full =
            self.lanes.iter().all(|lane| !lane.connections.iter().any(|connection| connection.has_room(&lane.options)));
        let unanswered = self.lanes.iter().flat_map(|lane| &lane.connections).map(Connection::unanswered).sum();
        if full && let Some(wanted) = self.gathering.wish(sends, unanswered) {
            ring.gather(wanted);
            ns = ns.min(GATHERED_NS);
        }
        ring.enter(Wait::ForNs(ns))
    }

    fn reap(&mut self, ring: &mut R, payloads: &mut [Payload], now_ns: u64, done: &mut Vec<Done>) {
        if let Some(token) = self.tokens.as_ref().and_then(TokenInbox::take) {
            self.lanes.iter_mut().for_each(|lane| lane.options.head.renew(token.expose()));
        }
        let mut completions = 0;
        while let Some(completion) = ring.completion() {
            completions += 1;
            let (at, index) = link::owner_of(completion.token);
            let HttpLane { options, connections, again, answers, .. } = &mut self.lanes[at];
            let connection = &mut connections[index];
            let event = connection.link.complete(ring, completion);
            let of_lane = OfLane { payload: &mut payloads[at], options, answers, again };
            let had_answered = connection.has_answered();
            let is_gone = connection.on_event(ring, of_lane, event, now_ns, done);
            if !had_answered && connection.has_answered() {
                self.redials.note_answer(at);
            }
            if is_gone {
                self.redials.order_after(at, index, connection.last_use());
            }
        }
        self.gathering.came(completions);
        self.redials.reopen_each(|at, index, dialed| self.lanes[at].connections[index].reopen(ring, dialed));
        for (at, (lane, payload)) in self.lanes.iter_mut().zip(payloads).enumerate() {
            lane.attention.look(now_ns);
            lane.send_again(ring, payload);
            let HttpLane { options, connections, again, answers, attention, .. } = lane;
            for (index, connection) in connections.iter_mut().enumerate() {
                if connection.check_time(ring, OfLane { payload, options, answers, again }, *attention, done) {
                    self.redials.order_after(at, index, connection.last_use());
                }
                if let Some(why) = connection.link.stuck(*attention) {
                    self.ending.get_or_insert(why);
                }
            }
            lane.give_up_late(at, self.drained_ns, done);
        }
    }

    fn byte_ns_max(&self) -> u64 {
        if self.lanes.iter().any(|lane| lane.options.tls) { SEALED_BYTE_NS_MAX } else { 1 }
    }

    fn drain_until(&mut self, until_ns: u64) {
        self.drained_ns = until_ns;
    }

    fn take_wire(&mut self, lane: usize) -> Wire {
        let lane = &mut self.lanes[lane];
        let mut wire = Wire { retries: std::mem::take(&mut lane.retries), ..Wire::default() };
        lane.connections.iter_mut().for_each(|connection| wire += connection.link.take_wire());
        wire
    }

    fn answers(&self, lane: usize) -> Option<&Answers> {
        Some(&self.lanes[lane].answers)
    }

    fn give_up(&mut self, ring: &mut R, _payloads: &mut [Payload], done: &mut Vec<Done>) {
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            lane.connections.iter_mut().for_each(|connection| connection.link.count_retransmits(ring));
            let waiting = lane.again.iter().map(|delivery| (delivery.slot, delivery.unconfirmed()));
            let sent = lane.connections.iter().flat_map(Connection::leftovers);
            done.extend(waiting.chain(sent).map(|(slot, fate)| Done::rest(at, slot, fate)));
        }
    }

    fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }
}

#[cfg(test)]
mod tests;
