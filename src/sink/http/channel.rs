//! One connection of a lane, and the requests on it.

use super::Manner;
use crate::connect::dial::Dialed;
use crate::connect::dialer::Past;
use crate::counters::Field;
use crate::payload::Payload;
use crate::sink::link::{Breakage, Event, Link, Memory};
use crate::sink::{Done, Fate, Wire};
use crate::sys::ring::NetRing;
use crate::wire::crc32c;
use crate::wire::http::{HeadStamps, Response, ResponseParser};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;

/// A block as a request, through all of its attempts.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    pub slot: u32,
    attempts: u32,
    /// An earlier attempt may have arrived.
    doubtful: bool,
    pub not_before_ns: u64,
    /// The bytes in the ring may have been stamped anew.
    left_ring: bool,
    head: usize,
    sent_ns: u64,
    /// The kernel has it all; it reads it still.
    whole: bool,
    held: bool,
    staged: bool,
    /// `NotSent`: another attempt will tell.
    fate: Option<Fate>,
}

impl Exchange {
    /// What became of a request for whose next attempt there is no time.
    pub fn given_up(&self) -> Fate {
        let kind = Field::ErrorTimeout;
        if self.doubtful { Fate::Uncertain(kind) } else { Fate::Failed(kind) }
    }

    pub fn new(slot: u32) -> Self {
        Self {
            slot,
            attempts: 0,
            doubtful: false,
            not_before_ns: 0,
            left_ring: false,
            head: 0,
            sent_ns: 0,
            whole: false,
            held: false,
            staged: false,
            fate: None,
        }
    }
}

/// See the module.
pub struct Channel {
    pub link: Link,
    parser: ResponseParser,
    heads: Range<usize>,
    head_bytes: usize,
    free_heads: Vec<usize>,
    /// Where a request is made again, and whether one lies there.
    stage: Range<usize>,
    stage_taken: bool,
    /// Those on this connection, oldest first; the first `answered` are, but the kernel reads their bytes.
    exchanges: VecDeque<Exchange>,
    answered: usize,
    /// The server will close behind the last answer.
    closing: bool,
    /// What this connection was good for: what its last answer says.
    past: Past,
    /// The status of the first refusal since it was last told.
    refused: Option<u16>,
}

/// What a channel borrows of its lane; the last is where failed requests wait.
pub type Lent<'a> = (&'a mut Payload, &'a Manner, &'a mut VecDeque<Exchange>);

impl Channel {
    pub fn new<R: NetRing>(
        ring: &mut R,
        link: Link,
        heads: Range<usize>,
        stage: Range<usize>,
        manner: &Manner,
    ) -> Self {
        let (head_bytes, places) = (manner.head.bytes(), manner.pipeline + 1);
        for place in 0..places {
            let start = heads.start + place * head_bytes;
            manner.head.bake(&mut ring.memory()[start..start + head_bytes]);
        }
        Self {
            link,
            parser: ResponseParser::new(),
            heads,
            head_bytes,
            free_heads: (0..places).collect(),
            stage,
            stage_taken: false,
            exchanges: VecDeque::with_capacity(places),
            answered: 0,
            closing: false,
            past: Past::Unknown,
            refused: None,
        }
    }

    pub fn reopen<R: NetRing>(&mut self, ring: &mut R, dialed: Dialed) -> io::Result<()> {
        (self.parser, self.closing, self.past) = (ResponseParser::new(), false, Past::Unknown);
        self.link.reopen(ring, dialed)?;
        // A server that closes while nothing is asked is noticed at once.
        self.link.listen(ring);
        Ok(())
    }

    pub fn has_room(&self, manner: &Manner) -> bool {
        let unanswered = self.exchanges.len() - self.answered;
        let places = unanswered < manner.pipeline && !self.free_heads.is_empty();
        places && !self.closing && !self.stage_taken && self.link.is_up() && self.link.is_idle()
    }

    /// What went over the wire since the last call, and the first refusal that came back.
    pub fn take_wire(&mut self) -> Wire {
        Wire { refused: self.refused.take(), ..self.link.take_wire() }
    }

    /// What the connection was good for that is gone.
    pub fn past(&self) -> Past {
        self.past
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
        let start = self.heads.start + exchange.head * self.head_bytes;
        let head = start..start + self.head_bytes;
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
        (payload, manner, again): Lent<'_>,
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
                let ended = self.read(ring, manner, now_ns);
                self.forget(again, done);
                self.link.listen(ring);
                ended
            }
            broken @ Event::Broken { .. } => broken,
        };
        self.on_ended((payload, manner, again), ended, now_ns, done)
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

    fn read<R: NetRing>(&mut self, ring: &mut R, manner: &Manner, now_ns: u64) -> Event {
        loop {
            match self.parser.parse(self.link.inbox(ring)) {
                Err(_) => return self.link.break_off(ring, Breakage::Given(Field::ErrorProtocol)),
                Ok(progress) => {
                    self.link.consume(ring, progress.consumed);
                    let Some(response) = progress.response else { break };
                    if self.answered == self.exchanges.len() {
                        return self.link.break_off(ring, Breakage::Given(Field::ErrorProtocol));
                    }
                    self.answer(response, manner, now_ns);
                    // A server may accept what it has not read. Another answer before the whole request went out
                    // leaves a connection that nobody understands.
                    let Exchange { whole, fate, .. } = self.exchanges[self.answered - 1];
                    self.closing |= response.close || !whole && fate != Some(Fate::Produced);
                }
            }
        }
        let unread = self.link.inbox_is_full();
        if unread || self.closing && self.answered == self.exchanges.len() {
            let why = if unread { Breakage::Given(Field::ErrorProtocol) } else { Breakage::Closed };
            return self.link.break_off(ring, why);
        }
        Event::Nothing
    }

    /// The answer to the oldest unanswered request.
    fn answer(&mut self, response: Response, manner: &Manner, now_ns: u64) {
        let exchange = &mut self.exchanges[self.answered];
        self.answered += 1;
        let kind = match response.status {
            200..=299 => {
                exchange.fate = Some(Fate::Produced);
                self.past = Past::Served;
                return;
            }
            429 | 503 => Field::ErrorThrottled,
            _ => Field::ErrorStatus,
        };
        self.past = Past::Used;
        self.refused.get_or_insert(response.status);
        let passing = matches!(response.status, 408 | 425 | 429 | 500..=599);
        let wait_ns = response.retry_after_seconds.unwrap_or(0).saturating_mul(1_000_000_000);
        if passing && exchange.attempts <= manner.attempts_max {
            exchange.fate = Some(Fate::NotSent);
            exchange.not_before_ns = now_ns + wait_ns.max(manner.backoff_ns(exchange.attempts));
        } else {
            let doubtful = exchange.doubtful;
            exchange.fate = Some(if doubtful { Fate::Uncertain(kind) } else { Fate::Failed(kind) });
        }
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
        (payload, manner, again): Lent<'_>,
        event: Event,
        now_ns: u64,
        done: &mut Vec<Done>,
    ) -> bool {
        let Event::Broken { why, .. } = event else { return false };
        // A body that ends with the connection is whole now.
        if let Ok(Some(response)) = self.parser.end()
            && self.answered < self.exchanges.len()
        {
            self.answer(response, manner, now_ns);
        }
        if self.past == Past::Served && why != Breakage::Closed {
            self.past = Past::Used;
        }
        for at in 0..self.exchanges.len() {
            let slot = self.exchanges[at].slot;
            if self.exchanges[at].held && (self.exchanges[at].whole || self.exchanges[at].fate.is_some()) {
                self.let_go(slot, payload);
            }
            let exchange = &mut self.exchanges[at];
            if exchange.fate.is_some() {
                continue;
            }
            if exchange.held && std::mem::take(&mut exchange.staged) {
                self.stage_taken = false;
            }
            exchange.held = false;
            exchange.doubtful |= exchange.whole;
            if exchange.attempts <= manner.attempts_max {
                exchange.fate = Some(Fate::NotSent);
                exchange.not_before_ns = now_ns + manner.backoff_ns(exchange.attempts);
            } else {
                let kind = why.kind();
                exchange.fate = Some(if exchange.doubtful { Fate::Uncertain(kind) } else { Fate::Failed(kind) });
            }
        }
        self.answered = self.exchanges.len();
        self.forget(again, done);
        true
    }

    /// Breaks off a connection whose oldest request waits too long, for its answer or to go out; true: it is gone.
    pub fn check_time<R: NetRing>(&mut self, ring: &mut R, lent: Lent<'_>, now_ns: u64, done: &mut Vec<Done>) -> bool {
        // What was accepted early has to go out as well.
        let open = |exchange: &&Exchange| exchange.fate.is_none() || !exchange.whole;
        let Some(oldest) = self.exchanges.iter().find(open) else { return false };
        if !self.link.is_up() || now_ns.saturating_sub(oldest.sent_ns) <= lent.1.request_timeout_ns {
            return false;
        }
        let ended = self.link.break_off(ring, Breakage::Given(Field::ErrorTimeout));
        self.on_ended(lent, ended, now_ns, done)
    }
}
