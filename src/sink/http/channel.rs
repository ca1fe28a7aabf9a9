//! One connection of a lane, and the requests on it.

use super::Manner;
use super::exchange::Exchange;
use crate::connect::dial::Dialed;
use crate::connect::dialer::Past;
use crate::counters::Field;
use crate::counters::answers::{Answers, BodyRefusal, is_refusal};
use crate::payload::Payload;
use crate::sink::link::{Breakage, Event, Link, Memory};
use crate::sink::{Done, Fate};
use crate::sys::ring::NetRing;
use crate::wire::crc32c;
use crate::wire::http::{HeadStamps, HttpError, RESPONSE_START, Response, ResponseParser};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;

/// See the module.
pub struct Channel {
    pub link: Link,
    parser: ResponseParser,
    heads: Range<usize>,
    /// Of each place for a head: which version lies there.
    baked: Vec<u32>,
    free_heads: Vec<usize>,
    /// Where a request is made again, and whether one lies there.
    stage: Range<usize>,
    stage_taken: bool,
    /// Those on this connection, oldest first; the first `answered` are, but the kernel reads their bytes.
    exchanges: VecDeque<Exchange>,
    answered: usize,
    /// The server said that it closes behind its last answer: it has taken nothing of what came after.
    unheeded: bool,
    /// What this connection was good for: what its last answer says.
    past: Past,
    /// There was an answer, on this connection or one before it.
    has_answered: bool,
    random: SplitMix64,
}

/// What a channel uses of its lane.
pub struct OfLane<'a> {
    pub payload: &'a mut Payload,
    pub manner: &'a Manner,
    pub answers: &'a mut Answers,
    /// Where failed requests wait.
    pub again: &'a mut VecDeque<Exchange>,
}

impl Channel {
    pub fn new<R: NetRing>(
        ring: &mut R,
        mut link: Link,
        heads: Range<usize>,
        stage: Range<usize>,
        manner: &Manner,
    ) -> Self {
        // A server that closes while nothing is asked is noticed at once.
        link.listen(ring);
        let random = SplitMix64::seed_from_u64(manner.seed ^ link.owner().1 as u64);
        let places = manner.pipeline + 1;
        for place in 0..places {
            let start = heads.start + place * manner.head.bytes_max();
            manner.head.bake(&mut ring.memory()[start..]);
        }
        Self {
            link,
            parser: ResponseParser::seeking(manner.refused_by.as_ref()),
            heads,
            baked: vec![manner.head.version(); places],
            free_heads: (0..places).collect(),
            stage,
            stage_taken: false,
            exchanges: VecDeque::with_capacity(places),
            answered: 0,
            unheeded: false,
            past: Past::Unknown,
            has_answered: false,
            random,
        }
    }

    pub fn reopen<R: NetRing>(&mut self, ring: &mut R, dialed: Dialed) -> io::Result<()> {
        self.parser.restart();
        (self.unheeded, self.past) = (false, Past::Unknown);
        self.link.reopen(ring, dialed)?;
        self.link.listen(ring);
        Ok(())
    }

    pub fn has_room(&self, manner: &Manner) -> bool {
        let unanswered = self.exchanges.len() - self.answered;
        let places = unanswered < manner.pipeline && !self.free_heads.is_empty();
        let is_free = self.link.is_up() && self.link.is_idle() && !self.link.is_worn();
        places && !self.stage_taken && is_free
    }

    /// What the connection was good for that is gone.
    pub fn past(&self) -> Past {
        self.link.past(self.past)
    }

    /// It is up, and its last answer was 2xx.
    pub fn has_served(&self) -> bool {
        self.link.is_up() && self.past == Past::Served
    }

    /// There was an answer over it, or over one that it took the place of.
    pub fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// Requests here that have no answer.
    pub fn unanswered(&self) -> usize {
        self.exchanges.len() - self.answered
    }

    /// Something here has a time limit.
    pub fn is_busy(&self) -> bool {
        !self.exchanges.is_empty() || !self.link.is_up()
    }

    /// What is known of requests that are still here when time is up.
    pub fn leftovers(&self) -> impl Iterator<Item = (u32, Fate)> + '_ {
        self.exchanges.iter().map(|exchange| {
            let fate = match exchange.fate {
                Some(Fate::NotSent) => exchange.given_up(),
                Some(fate) => fate,
                None => Fate::Uncertain(Field::ErrorTimeout),
            };
            (exchange.slot, fate)
        })
    }

    /// Sends a request for the first time or again; there is room.
    pub fn send<R: NetRing>(
        &mut self,
        ring: &mut R,
        payload: &mut Payload,
        manner: &Manner,
        mut exchange: Exchange,
        now_ns: u64,
    ) {
        let body = if exchange.left_ring {
            (self.stage_taken, exchange.staged) = (true, true);
            payload.remake(ring.memory(), exchange.slot, self.stage.start)
        } else {
            payload.block(exchange.slot).range()
        };
        let block = payload.block(exchange.slot);
        let crc32c = if manner.summed { crc32c::checksum(&ring.memory()[body.clone()]) } else { 0 };
        let stamps = HeadStamps {
            body_bytes: body.len() as u64,
            sequence: block.first_sequence,
            timestamp_unix_ns: payload.timestamp_unix_ns(block, 0),
            weight: block.weight,
            records: block.records,
            crc32c,
        };
        exchange.head = self.free_heads.pop().expect("room was asked for");
        let start = self.heads.start + exchange.head * manner.head.bytes_max();
        let head = start..start + manner.head.bytes();
        if self.baked[exchange.head] != manner.head.version() {
            self.baked[exchange.head] = manner.head.version();
            manner.head.bake(&mut ring.memory()[head.clone()]);
        }
        manner.head.write(&mut ring.memory()[head.clone()], &stamps);
        exchange.attempts += 1;
        (exchange.sent_ns, exchange.whole, exchange.held) = (now_ns, false, true);
        self.link.send(ring, [head, body], exchange.slot);
        self.link.listen(ring);
        self.exchanges.push_back(exchange);
    }

    /// Takes the news of a completion; true: the connection is gone.
    pub fn on_event<R: NetRing>(
        &mut self,
        ring: &mut R,
        OfLane { payload, manner, answers, again }: OfLane<'_>,
        event: Event,
        now_ns: u64,
        done: &mut Vec<Done>,
    ) -> bool {
        let ended = match event {
            Event::Nothing => return false,
            Event::Sent { tag, memory } => {
                if let Some(exchange) = self.exchanges.iter_mut().find(|exchange| exchange.slot == tag) {
                    exchange.whole = true;
                }
                if memory == Memory::Free {
                    self.let_go(tag, payload);
                    self.forget(again, done);
                }
                self.link.settle_ending()
            }
            Event::Released { tag } => {
                self.let_go(tag, payload);
                self.forget(again, done);
                self.link.settle_ending()
            }
            Event::Received => {
                let ended = self.read(ring, manner, answers, now_ns);
                self.forget(again, done);
                self.link.listen(ring);
                // A send may have met the end before.
                if ended == Event::Nothing { self.link.settle_ending() } else { ended }
            }
            broken @ Event::Broken { .. } => broken,
        };
        self.on_ended(OfLane { payload, manner, answers, again }, ended, now_ns, done)
    }

    /// The kernel reads a request's bytes no longer.
    fn let_go(&mut self, slot: u32, payload: &mut Payload) {
        if let Some(exchange) = self.exchanges.iter_mut().find(|exchange| exchange.slot == slot) {
            exchange.held = false;
            if std::mem::take(&mut exchange.staged) {
                self.stage_taken = false;
            } else {
                payload.release(slot);
            }
            exchange.left_ring = true;
        }
    }

    fn read<R: NetRing>(&mut self, ring: &mut R, manner: &Manner, answers: &mut Answers, now_ns: u64) -> Event {
        loop {
            match self.parser.parse(self.link.inbox(ring)) {
                Err(error) => {
                    let inbox = self.link.inbox(ring);
                    let is_foreign = error == HttpError::BadHead && !inbox.starts_with(RESPONSE_START);
                    if is_foreign && self.past == Past::Unknown {
                        let mut start = [0; 4];
                        start.iter_mut().zip(inbox).for_each(|(to, byte)| *to = *byte);
                        self.past = Past::NoHttp { start };
                    }
                    return self.link.break_off(ring, Breakage::Given(Field::ErrorProtocol));
                }
                Ok(progress) => {
                    self.link.consume(ring, progress.consumed);
                    let Some(response) = progress.response else { break };
                    if self.answered == self.exchanges.len() {
                        // Some servers say so before they close an idle connection.
                        let is_idle = response.status == 408;
                        let why = if is_idle { Breakage::Closed } else { Breakage::Given(Field::ErrorProtocol) };
                        return self.link.break_off(ring, why);
                    }
                    self.answer(response, manner, answers, now_ns);
                    // A server may accept what it has not read. Another answer before the whole request went out
                    // leaves a connection that nobody understands.
                    let Exchange { whole, fate, .. } = self.exchanges[self.answered - 1];
                    if response.close || !whole && fate != Some(Fate::Produced) {
                        self.unheeded = response.says_close;
                        return self.link.break_off(ring, Breakage::Closed);
                    }
                }
            }
        }
        if self.link.inbox_is_full() {
            return self.link.break_off(ring, Breakage::Given(Field::ErrorProtocol));
        }
        Event::Nothing
    }

    /// The answer to the oldest unanswered request.
    fn answer(&mut self, response: Response, manner: &Manner, answers: &mut Answers, now_ns: u64) {
        let exchange = &mut self.exchanges[self.answered];
        self.answered += 1;
        self.has_answered = true;
        let status = response.status;
        answers.count(status, exchange.warmup);
        if !is_refusal(status) && !response.has_text {
            exchange.fate = Some(Fate::Produced);
            self.past = Past::Served;
            return;
        }
        self.past = Past::Used;
        if response.has_text {
            // Part of it was taken as a rule, and would be twice if it went again.
            answers.refused_by_body(BodyRefusal { status, words: self.parser.excerpt() }, exchange.warmup);
            exchange.doubtful = true;
            exchange.failed(Field::ErrorBody, None);
            return;
        }
        exchange.doubtful |= exchange.whole && may_have_taken(status);
        let kind = if matches!(status, 429 | 503) { Field::ErrorThrottled } else { Field::ErrorStatus };
        let passing = matches!(status, 408 | 425 | 429 | 500..=599);
        let next_ns = (passing && exchange.attempts <= manner.retry.retries_max).then(|| {
            let wait_ns = response.retry_after_seconds.unwrap_or(0).saturating_mul(1_000_000_000);
            now_ns + wait_ns.max(manner.pause_ns(exchange.attempts, self.random.next_u64()))
        });
        exchange.failed(kind, next_ns);
    }

    /// Passes on fates that became known and forgets requests that are over here. What is to be sent again waits
    /// elsewhere, from when the kernel is done with its bytes.
    fn forget(&mut self, again: &mut VecDeque<Exchange>, done: &mut Vec<Done>) {
        let lane = self.link.owner().0;
        while self.answered > 0
            && let Some(first) = self.exchanges.front().filter(|exchange| !exchange.held)
        {
            match first.fate {
                Some(Fate::NotSent) => again.push_back(Exchange { fate: None, ..*first }),
                Some(fate) => done.push(Done::rest(lane, first.slot, fate)),
                None => {}
            }
            self.free_heads.push(first.head);
            self.exchanges.pop_front();
            self.answered -= 1;
        }
    }

    /// The books of a connection that is gone; true: it was.
    fn on_ended(
        &mut self,
        OfLane { payload, manner, answers, again }: OfLane<'_>,
        event: Event,
        now_ns: u64,
        done: &mut Vec<Done>,
    ) -> bool {
        let Event::Broken { why, .. } = event else { return false };
        // A body that ends with the connection is whole now, if the connection ended in order.
        if why == Breakage::Closed
            && let Ok(Some(response)) = self.parser.end()
            && self.answered < self.exchanges.len()
        {
            self.answer(response, manner, answers, now_ns);
            self.unheeded = response.says_close;
        }
        if self.past == Past::Served && why != Breakage::Closed {
            self.past = Past::Used;
        }
        let is_closed = matches!(why, Breakage::Closed | Breakage::Error(libc::EPIPE | libc::ECONNRESET));
        if is_closed && self.past == Past::Unknown && self.parser.end() == Ok(None) {
            self.past = match (self.exchanges.is_empty(), why) {
                (false, _) => Past::Mute,
                (true, Breakage::Closed) => Past::Unasked,
                (true, _) => Past::Unknown,
            };
        }
        for at in 0..self.exchanges.len() {
            // What goes out again is made again: its place in the ring would hold up all other connections.
            if self.exchanges[at].held {
                self.let_go(self.exchanges[at].slot, payload);
            }
            let exchange = &mut self.exchanges[at];
            if exchange.fate.is_some() {
                continue;
            }
            if self.unheeded {
                // It was no attempt (RFC 9112, section 9.6).
                exchange.attempts -= 1;
                exchange.failed(why.kind(), Some(now_ns));
                continue;
            }
            exchange.doubtful |= exchange.whole;
            let next_ns = (exchange.attempts <= manner.retry.retries_max)
                .then(|| now_ns + manner.pause_ns(exchange.attempts, self.random.next_u64()));
            exchange.failed(why.kind(), next_ns);
        }
        self.answered = self.exchanges.len();
        self.forget(again, done);
        true
    }

    /// Breaks off a connection whose oldest request waits too long, for its answer or to go out, and one that has no
    /// requests left and worn keys; true: it is gone.
    pub fn check_time<R: NetRing>(
        &mut self,
        ring: &mut R,
        of_lane: OfLane<'_>,
        now_ns: u64,
        done: &mut Vec<Done>,
    ) -> bool {
        // What was accepted early has to go out as well.
        let open = |exchange: &&Exchange| exchange.fate.is_none() || !exchange.whole;
        let Some(oldest) = self.exchanges.iter().find(open) else {
            let is_over = self.link.is_worn() && self.link.is_up();
            let ended = if is_over { self.link.break_off(ring, Breakage::Closed) } else { Event::Nothing };
            return self.on_ended(of_lane, ended, now_ns, done);
        };
        if !self.link.is_up() || now_ns.saturating_sub(oldest.sent_ns) <= of_lane.manner.request_timeout_ns {
            return false;
        }
        let ended = self.link.break_off(ring, Breakage::Given(Field::ErrorTimeout));
        self.on_ended(of_lane, ended, now_ns, done)
    }
}

/// Whether a server that gave this answer, or one behind it, may have taken the request all the same. The other 5xx
/// that have a name say why it was not.
fn may_have_taken(status: u16) -> bool {
    matches!(status, 500 | 502 | 504 | 512..=599)
}
