//! One connection of a lane, and the requests on it.

use super::Options;
use super::delivery::Delivery;
use super::waiting::Waiting;
use crate::base::attention::Attention;
use crate::connect::dial::Dialed;
use crate::connect::dialer::LastUse;
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
pub struct Connection {
    pub link: Link,
    parser: ResponseParser,
    heads: Range<usize>,
    free_heads: Vec<usize>,
    /// Where a request is made again, and whether one lies there.
    buffer: Range<usize>,
    buffer_taken: bool,
    /// Those on this connection, oldest first; the first `answered` are, but the kernel reads their bytes.
    deliveries: VecDeque<Delivery>,
    answered: usize,
    /// The server said that it closes behind its last answer: it has taken nothing of what came after.
    unheeded: bool,
    /// What this connection was good for: what its last answer says.
    last_use: LastUse,
    /// There was an answer, on this connection or one before it.
    has_answered: bool,
    random: SplitMix64,
}

/// What a connection uses of its lane.
pub struct OfLane<'a> {
    pub payload: &'a mut Payload,
    pub options: &'a Options,
    pub answers: &'a mut Answers,
    /// Where failed requests wait.
    pub again: &'a mut Waiting,
}

impl Connection {
    pub fn new<R: NetRing>(
        ring: &mut R,
        mut link: Link,
        heads: Range<usize>,
        buffer: Range<usize>,
        options: &Options,
    ) -> Self {
        // A server that closes while nothing is asked is noticed at once.
        link.listen(ring);
        let random = SplitMix64::seed_from_u64(options.seed ^ link.owner().1 as u64);
        let places = options.pipeline + 1;
        Self {
            link,
            parser: ResponseParser::seeking(options.refused_by.as_ref()),
            heads,
            free_heads: (0..places).collect(),
            buffer,
            buffer_taken: false,
            deliveries: VecDeque::with_capacity(places),
            answered: 0,
            unheeded: false,
            last_use: LastUse::Unknown,
            has_answered: false,
            random,
        }
    }

    /// Over a new connection.
    pub fn reopen<R: NetRing>(&mut self, ring: &mut R, dialed: Dialed) -> io::Result<()> {
        self.parser.restart();
        (self.unheeded, self.last_use) = (false, LastUse::Unknown);
        self.link.reopen(ring, dialed)?;
        self.link.listen(ring);
        Ok(())
    }

    /// Whether it takes a request now.
    pub fn has_room(&self, options: &Options) -> bool {
        let unanswered = self.deliveries.len() - self.answered;
        let places = unanswered < options.pipeline && !self.free_heads.is_empty();
        let is_free = self.link.is_up() && self.link.is_idle() && !self.link.is_worn();
        places && !self.buffer_taken && is_free
    }

    /// What the connection was good for that is gone.
    pub fn last_use(&self) -> LastUse {
        self.link.last_use(self.last_use)
    }

    /// It is up, and its last answer was 2xx.
    pub fn has_served(&self) -> bool {
        self.link.is_up() && self.last_use == LastUse::Served
    }

    /// There was an answer over it, or over one that it took the place of.
    pub fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// Requests here that have no answer.
    pub fn unanswered(&self) -> usize {
        self.deliveries.len() - self.answered
    }

    /// Something here has a time limit.
    pub fn is_busy(&self) -> bool {
        !self.deliveries.is_empty() || !self.link.is_up()
    }

    /// What is known of requests that are still here when time is up.
    pub fn leftovers(&self) -> impl Iterator<Item = (u32, Fate)> + '_ {
        self.deliveries.iter().map(|delivery| {
            let fate = match delivery.fate {
                Some(Fate::NotSent) => delivery.unconfirmed(),
                Some(fate) => fate,
                None => Fate::Uncertain(Field::ErrorTimeout),
            };
            (delivery.slot, fate)
        })
    }

    /// Sends a request for the first time or again; there is room. `lends`: its body lies in the ring, and a
    /// server on this host reads it there if that can be.
    pub fn send<R: NetRing>(
        &mut self,
        ring: &mut R,
        (payload, options): (&mut Payload, &mut Options),
        lends: bool,
        mut delivery: Delivery,
        attention: Attention,
    ) {
        let mut body = if delivery.left_ring {
            (self.buffer_taken, delivery.in_buffer) = (true, true);
            payload.remake(ring.memory(), delivery.slot, self.buffer.start)
        } else {
            payload.block(delivery.slot).range()
        };
        let room_bytes = payload.room_bytes();
        body.start += room_bytes;
        let block = payload.block(delivery.slot);
        let crc32c = if options.summed { crc32c::checksum(&ring.memory()[body.clone()]) } else { 0 };
        let stamps = HeadStamps {
            body_bytes: body.len() as u64,
            sequence: block.first_sequence,
            timestamp_unix_ns: payload.timestamp_unix_ns(block, 0),
            weight: block.weight,
            records: block.records,
            crc32c,
        };
        delivery.head = self.free_heads.pop().expect("room was asked for");
        let start = match room_bytes {
            0 => self.heads.start + delivery.head * options.head_bytes(),
            _ => body.start - options.head.bytes(),
        };
        let head = start..start + options.head.bytes();
        options.head.write(&mut ring.memory()[head.clone()], &stamps);
        delivery.attempts += 1;
        (delivery.sent_ns, delivery.whole, delivery.held) = (attention.attended_ns(), false, true);
        match payload.stamped_bytes(block.records).filter(|_| lends && self.link.lends()) {
            // What is stamped goes with the head: behind it the body stays as it is for ever.
            Some(stamped) => {
                let fixed = body.start + stamped;
                ring.memory().copy_within(body.start..fixed, head.end);
                self.link.send_in_place(ring, [head.start..head.end + stamped, fixed..body.end], delivery.slot);
            }
            None if head.end == body.start => {
                self.link.send(ring, [head.start..body.end, body.end..body.end], delivery.slot)
            }
            None => self.link.send(ring, [head, body], delivery.slot),
        }
        self.link.listen(ring);
        self.deliveries.push_back(delivery);
    }

    /// Takes the news of a completion; true: the connection is gone.
    pub fn on_event<R: NetRing>(
        &mut self,
        ring: &mut R,
        OfLane { payload, options, answers, again }: OfLane<'_>,
        event: Event,
        now_ns: u64,
        done: &mut Vec<Done>,
    ) -> bool {
        let ended = match event {
            Event::Nothing => return false,
            Event::Sent { tag, memory } => {
                if let Some(delivery) = self.deliveries.iter_mut().find(|delivery| delivery.slot == tag) {
                    delivery.whole = true;
                }
                if memory == Memory::Free {
                    self.let_go(tag, payload);
                    self.tell(again, done);
                }
                self.link.settle_ending()
            }
            Event::Released { tag } => {
                self.let_go(tag, payload);
                self.tell(again, done);
                self.link.settle_ending()
            }
            Event::Received => {
                let ended = self.read(ring, options, answers, now_ns);
                self.tell(again, done);
                self.link.listen(ring);
                // A send may have met the end before.
                if ended == Event::Nothing { self.link.settle_ending() } else { ended }
            }
            broken @ Event::Broken { .. } => broken,
        };
        self.on_ended(OfLane { payload, options, answers, again }, ended, now_ns, done)
    }

    /// The kernel reads a request's bytes no longer.
    fn let_go(&mut self, slot: u32, payload: &mut Payload) {
        if let Some(delivery) = self.deliveries.iter_mut().find(|delivery| delivery.slot == slot) {
            delivery.held = false;
            if std::mem::take(&mut delivery.in_buffer) {
                self.buffer_taken = false;
            } else {
                payload.release(slot);
            }
            delivery.left_ring = true;
        }
    }

    /// Reads the answers that are there; what ended the connection, if one of them did.
    fn read<R: NetRing>(&mut self, ring: &mut R, options: &Options, answers: &mut Answers, now_ns: u64) -> Event {
        loop {
            match self.parser.parse(self.link.inbox(ring)) {
                Err(error) => {
                    let inbox = self.link.inbox(ring);
                    let is_foreign = error == HttpError::BadHead && !inbox.starts_with(RESPONSE_START);
                    if is_foreign && self.last_use == LastUse::Unknown {
                        let mut start = [0; 4];
                        start.iter_mut().zip(inbox).for_each(|(to, byte)| *to = *byte);
                        self.last_use = LastUse::NoHttp { start };
                    }
                    return self.link.break_off(ring, Breakage::Given(Field::ErrorProtocol));
                }
                Ok(progress) => {
                    self.link.consume(ring, progress.consumed);
                    let Some(response) = progress.response else { break };
                    if self.answered == self.deliveries.len() {
                        // Some servers say so before they close an idle connection.
                        let is_idle = response.status == 408;
                        let why = if is_idle { Breakage::Closed } else { Breakage::Given(Field::ErrorProtocol) };
                        return self.link.break_off(ring, why);
                    }
                    self.answer(response, options, answers, now_ns);
                    // A server may accept what it has not read. Another answer before the whole request went out
                    // leaves a connection that nobody understands.
                    let Delivery { whole, fate, .. } = self.deliveries[self.answered - 1];
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
    fn answer(&mut self, response: Response, options: &Options, answers: &mut Answers, now_ns: u64) {
        let delivery = &mut self.deliveries[self.answered];
        self.answered += 1;
        self.has_answered = true;
        let status = response.status;
        answers.count(status, delivery.warmup);
        if !is_refusal(status) && !response.has_text {
            delivery.fate = Some(Fate::Produced);
            self.last_use = LastUse::Served;
            return;
        }
        self.last_use = if response.has_text { LastUse::Served } else { LastUse::Used };
        if response.has_text {
            // Part of it was taken as a rule, and would be twice if it went again.
            answers.count_refused_by_body(BodyRefusal { status, words: self.parser.excerpt() }, delivery.warmup);
            delivery.doubtful = true;
            delivery.failed(Field::ErrorBody, None);
            return;
        }
        delivery.doubtful |= delivery.whole && may_have_taken(status);
        let kind = if matches!(status, 429 | 503) { Field::ErrorThrottled } else { Field::ErrorStatus };
        let renewal_ns = options.renewal_ns(status);
        let is_transient = renewal_ns.is_some() || matches!(status, 408 | 425 | 429 | 500..=599);
        let next_ns = (is_transient && delivery.attempts <= options.retry.retries_max).then(|| {
            let wait_ns = response.retry_after_seconds.unwrap_or(0).saturating_mul(1_000_000_000);
            let pause_ns = options.pause_ns(delivery.attempts, self.random.next_u64());
            now_ns + wait_ns.max(renewal_ns.unwrap_or(0) + pause_ns)
        });
        delivery.failed(kind, next_ns);
    }

    /// Passes on fates that became known and forgets requests that are over here. What is to be sent again waits
    /// elsewhere, from when the kernel is done with its bytes.
    fn tell(&mut self, again: &mut Waiting, done: &mut Vec<Done>) {
        let lane = self.link.owner().0;
        while self.answered > 0
            && let Some(first) = self.deliveries.front().filter(|delivery| !delivery.held)
        {
            match first.fate {
                Some(Fate::NotSent) => again.push(Delivery { fate: None, ..*first }),
                Some(fate) => done.push(Done::rest(lane, first.slot, fate)),
                None => {}
            }
            self.free_heads.push(first.head);
            self.deliveries.pop_front();
            self.answered -= 1;
        }
    }

    /// The books of a connection that is gone; true: it was.
    fn on_ended(
        &mut self,
        OfLane { payload, options, answers, again }: OfLane<'_>,
        event: Event,
        now_ns: u64,
        done: &mut Vec<Done>,
    ) -> bool {
        let Event::Broken { why, .. } = event else { return false };
        // A body that ends with the connection is whole now, if the connection ended in order, which over TLS takes a
        // goodbye (RFC 9112, section 9.8). One that took its answer back has said all, however it ended.
        let whole =
            if why == Breakage::Closed && self.link.has_said_all() { self.parser.end().ok().flatten() } else { None };
        if let Some(response) = whole.or_else(|| self.parser.refused())
            && self.answered < self.deliveries.len()
        {
            self.answer(response, options, answers, now_ns);
            self.unheeded = response.says_close;
            if whole.is_none() {
                self.last_use = LastUse::Used;
            }
        }
        if self.last_use == LastUse::Served && why != Breakage::Closed {
            self.last_use = LastUse::Used;
        }
        let is_closed = matches!(why, Breakage::Closed | Breakage::Error(libc::EPIPE | libc::ECONNRESET));
        if is_closed && self.last_use == LastUse::Unknown && self.parser.end() == Ok(None) {
            self.last_use = match (self.deliveries.is_empty(), why) {
                (false, _) => LastUse::Mute,
                (true, Breakage::Closed) => LastUse::Unasked,
                (true, _) => LastUse::Unknown,
            };
        }
        for at in 0..self.deliveries.len() {
            // What goes out again is made again: its place in the ring would hold up all other connections.
            if self.deliveries[at].held {
                self.let_go(self.deliveries[at].slot, payload);
            }
            let delivery = &mut self.deliveries[at];
            if delivery.fate.is_some() {
                continue;
            }
            if self.unheeded {
                // It was no attempt (RFC 9112, section 9.6).
                delivery.attempts -= 1;
                delivery.failed(why.kind(), Some(now_ns));
                continue;
            }
            delivery.doubtful |= delivery.whole;
            let next_ns = (delivery.attempts <= options.retry.retries_max)
                .then(|| now_ns + options.pause_ns(delivery.attempts, self.random.next_u64()));
            delivery.failed(why.kind(), next_ns);
        }
        self.answered = self.deliveries.len();
        self.tell(again, done);
        true
    }

    /// Breaks off a connection whose oldest request waits too long, for its answer or to get on its way out, and one
    /// that has no requests left and worn keys; true: it is gone.
    pub fn check_time<R: NetRing>(
        &mut self,
        ring: &mut R,
        of_lane: OfLane<'_>,
        attention: Attention,
        done: &mut Vec<Done>,
    ) -> bool {
        let now_ns = attention.now_ns();
        // What was accepted early has to go out as well.
        let open = |delivery: &&Delivery| delivery.fate.is_none() || !delivery.whole;
        let Some(oldest) = self.deliveries.iter().find(open) else {
            let is_over = self.link.is_worn() && self.link.is_up();
            let ended = if is_over { self.link.break_off(ring, Breakage::Closed) } else { Event::Nothing };
            return self.on_ended(of_lane, ended, now_ns, done);
        };
        if !self.link.is_late(ring, oldest.sent_ns, attention, of_lane.options.request_timeout_ns) {
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
