//! One partition: its batches in order, and the connection to its leader.
//!
//! Batches go out in order and are answered in order. When an answer says "again", nothing new is sent until all
//! that is in flight is answered; then all that has no final answer goes out once more, in order, with the same
//! sequences. A lost connection is the same, with answers that never come: with a producer id the broker tells
//! repetitions apart; without one, what may have arrived is uncertain and is not sent again. Each batch is sent again
//! so often at most as the retries allow, and for so long as the delivery timeout does.

mod answers;
mod gone;

use super::Options;
use super::delivery::Delivery;
use super::outbox::Outbox;
use crate::base::attention::Attention;
use crate::base::fatal::{Exit, Fatal};
use crate::base::limits;
use crate::connect::Dialed;
use crate::counters::Field;
use crate::counters::broker_errors::{BrokerErrors, Refusal};
use crate::payload::Payload;
use crate::sink::link::{Breakage, Event, Link, Memory};
use crate::sink::{Done, Fate, Wire};
use crate::sys::ring::NetRing;
use crate::wire::crc32c;
use crate::wire::kafka::batch::{HEADER_BYTES, NO_SEQUENCE, write_header};
use crate::wire::kafka::errors::broker_error;
use crate::wire::kafka::response::AnswerSkim;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::SeedableRng;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

/// This part of a connection's lifetime is left for what is unanswered, and for clocks that differ.
const LIFETIME_SPARE: u64 = 5;
/// What helps where the broker says nothing of the reason.
const NOT_DELIVERED_MEND: &str = "look at the broker, or raise delivery.timeout.ms";

/// See the module.
pub struct Connection {
    partition: i32,
    pub link: Link,
    heads: Range<usize>,
    head_bytes: usize,
    free_heads: Vec<usize>,
    deliveries: VecDeque<Delivery>,
    /// Of `deliveries`: answered on this connection, and given to it.
    answered: usize,
    sent: usize,
    next_sequence: i32,
    next_correlation_id: i32,
    /// The answer that is arriving.
    answer: AnswerSkim,
    /// An answer said "again"; nothing is sent until all in flight is answered.
    recovering: bool,
    /// What the last answer refused a batch with; `None`: it took one.
    last_refusal: Option<Refusal>,
    /// On this connection the leader has taken a batch. Until then one is in flight: a leader that knows nothing of
    /// the producer takes any sequence, so a second batch would shut out a first that it refused for the moment.
    pub proven: bool,
    /// Somebody else leads now.
    renew: bool,
    /// When what was answered with "again" may go again.
    not_before_ns: u64,
    /// So long the broker at `peer_address` is left alone, as it asked; on this connection it reads nothing meanwhile, in
    /// attended time.
    throttled_until_ns: u64,
    silent_until_ns: u64,
    peer_address: SocketAddr,
    /// When the broker ends the connection, until the clock of the core is known.
    expires: Option<Instant>,
    /// A new connection is to take its place before that.
    replace_at_ns: u64,
    /// There is no connection since then; `u64::MAX`: there is one.
    down_from_ns: u64,
    /// Recoveries in a row, and what keeps partitions that fail together from coming back together.
    failures: u32,
    random: SplitMix64,
    /// What the link does not count.
    wire: Wire,
    /// Length and shift of the last batch: most have the same.
    shift: (u32, u32),
    end: Option<String>,
    has_ended: bool,
}

/// What a connection uses of its lane.
pub struct OfLane<'a> {
    pub payload: &'a mut Payload,
    pub options: &'a Options,
    pub outbox: &'a mut Outbox,
    pub errors: &'a mut BrokerErrors,
}

impl OfLane<'_> {
    fn reborrow(&mut self) -> OfLane<'_> {
        OfLane {
            payload: &mut *self.payload,
            options: self.options,
            outbox: &mut *self.outbox,
            errors: &mut *self.errors,
        }
    }
}

impl Connection {
    /// `peer_address` and `expires` are the link's.
    pub fn new(
        partition: i32,
        link: Link,
        (peer_address, expires): (SocketAddr, Option<Instant>),
        heads: Range<usize>,
        options: &Options,
    ) -> Self {
        let places = options.in_flight_max + 1;
        Self {
            partition,
            link,
            heads,
            head_bytes: options.head_bytes(),
            free_heads: (0..places).collect(),
            deliveries: VecDeque::with_capacity(places),
            answered: 0,
            sent: 0,
            next_sequence: 0,
            next_correlation_id: 0,
            answer: AnswerSkim::new(options.version, partition, limits::KAFKA_PRODUCE_ANSWER_BYTES_MAX),
            recovering: false,
            last_refusal: None,
            proven: false,
            renew: false,
            not_before_ns: 0,
            throttled_until_ns: 0,
            silent_until_ns: 0,
            peer_address,
            expires,
            replace_at_ns: u64::MAX,
            down_from_ns: u64::MAX,
            failures: 0,
            random: SplitMix64::seed_from_u64(options.seed ^ partition as u64),
            wire: Wire::default(),
            shift: (0, crc32c::shift(0)),
            end: None,
            has_ended: false,
        }
    }

    /// Whether it takes a block. One of several takes none that would wait here: its place in the ring is for the others
    /// as well.
    pub fn has_room(&self, options: &Options, is_one_of_several: bool, now_ns: u64) -> bool {
        let is_open = self.link.is_up() && !self.recovering && self.deliveries.len() < options.in_flight_max;
        let goes_on = self.is_trusted(options) || self.deliveries.is_empty();
        let goes_at_once = self.sent == self.deliveries.len() && self.may_send(now_ns);
        is_open && self.free_heads.len() > 1 && goes_on && (goes_at_once || !is_one_of_several)
    }

    /// More than one batch may be in flight: see `proven`.
    fn is_trusted(&self, options: &Options) -> bool {
        self.proven || options.acks == 0
    }

    /// What is sent now goes out now.
    fn may_send(&self, now_ns: u64) -> bool {
        let is_free = self.link.is_up() && self.link.is_idle() && !self.recovering;
        is_free && !self.pauses(now_ns) && !self.is_due(now_ns)
    }

    /// Before it sends again it waits, for one of two reasons.
    fn pauses(&self, now_ns: u64) -> bool {
        now_ns < self.not_before_ns.max(self.throttled_until_ns)
    }

    /// Over a new connection, on which nothing is throttled yet; a broker that is the same has still asked for it.
    pub fn reopen<R: NetRing>(&mut self, ring: &mut R, dialed: Dialed) -> io::Result<()> {
        self.silent_until_ns = 0;
        if std::mem::replace(&mut self.peer_address, dialed.peer_address) != dialed.peer_address {
            self.throttled_until_ns = 0;
        }
        (self.expires, self.replace_at_ns) = (dialed.expires, u64::MAX);
        self.answer.restart();
        self.link.reopen(ring, dialed)?;
        self.link.listen(ring);
        Ok(())
    }

    /// Something here has a time limit.
    pub fn is_busy(&self, now_ns: u64) -> bool {
        !self.deliveries.is_empty() || !self.link.is_up() || self.pauses(now_ns)
    }

    /// What went over the wire since the last call, and what came back of it.
    pub fn take_wire(&mut self) -> Wire {
        let mut wire = std::mem::take(&mut self.wire);
        wire += self.link.take_wire();
        wire
    }

    /// Why the run cannot go on, said once.
    pub fn take_end(&mut self) -> Option<String> {
        self.has_ended |= self.end.is_some();
        self.end.take()
    }

    /// The run cannot go on: why, and what mends it. The first reason counts.
    fn end_with(&mut self, options: &Options, why: impl FnOnce() -> (String, Option<&'static str>)) {
        if self.has_ended || self.end.is_some() {
            return;
        }
        let (what, mend) = why();
        let fatal = Fatal::new(Exit::Failed, format!("{}/{}: {what}", options.topic, self.partition));
        self.end = Some(mend.into_iter().fold(fatal, Fatal::mend).to_string());
    }

    /// Ends the run where a batch, or a connection for the next ones, is waited for too long: a login that is refused
    /// now may be refused for good.
    fn check_delivery(&mut self, options: &Options, attention: Attention) {
        let now_ns = attention.now_ns();
        self.down_from_ns = if self.link.is_up() { u64::MAX } else { self.down_from_ns.min(now_ns) };
        let oldest = self.deliveries.front().filter(|first| first.fate.is_none());
        let late_ns = oldest.map_or(0, |first| now_ns.saturating_sub(first.submitted_ns));
        let down_ns = now_ns.saturating_sub(self.down_from_ns);
        if late_ns.max(down_ns) <= options.delivery_timeout_ns || !attention.judges() {
            return;
        }
        let last_refusal = self.last_refusal;
        self.end_with(options, || {
            let seconds = |ns: u64| ns / 1_000_000_000;
            if late_ns <= options.delivery_timeout_ns {
                let what = format!("there was no connection to the leader for {} s", seconds(down_ns));
                return (what, Some(NOT_DELIVERED_MEND));
            }
            let what = format!("a batch was not delivered within {} s", seconds(late_ns));
            let Some(Refusal { code, words }) = last_refusal else { return (what, Some(NOT_DELIVERED_MEND)) };
            let (error, why) = (broker_error(code), words.as_reason());
            let what = format!("{what}; the broker's last answer was {error}{why}");
            if seconds(down_ns) > 0 {
                let what = format!("{what}; for {} s there has been no connection to the leader", seconds(down_ns));
                return (what, Some(NOT_DELIVERED_MEND));
            }
            (what, Some(error.remedy().unwrap_or(NOT_DELIVERED_MEND)))
        });
    }

    /// What is known of batches that are still here when time is up.
    pub fn leftovers(&self) -> impl Iterator<Item = (u32, Fate)> + '_ {
        let open = self.deliveries.iter().enumerate().filter(|(_, delivery)| !delivery.told);
        open.map(|(at, delivery)| {
            // What was never sent waited for what goes before it.
            let refused = delivery.refused || delivery.attempts == 0 && self.last_refusal.is_some();
            let fate = match (self.answered..self.sent).contains(&at) {
                true => Fate::Uncertain(Field::ErrorTimeout),
                false => delivery.unconfirmed(if refused { Field::ErrorBroker } else { Field::ErrorTimeout }),
            };
            (delivery.slot, delivery.fate.unwrap_or(fate))
        })
    }

    /// Takes a block as the partition's last batch.
    pub fn push(&mut self, payload: &Payload, slot: u32, options: &Options, now_ns: u64) {
        let block = payload.block(slot);
        let base_sequence = if options.identity.is_some() { self.next_sequence } else { NO_SEQUENCE };
        // After the largest number comes 0.
        self.next_sequence = ((i64::from(self.next_sequence) + block.records as i64) % (1 << 31)) as i32;
        self.deliveries.push_back(Delivery {
            slot,
            base_sequence,
            timestamp_ms: (payload.timestamp_unix_ns(block, 0) / 1_000_000) as i64,
            submitted_ns: now_ns,
            sent_ns: 0,
            correlation_id: 0,
            attempts: 0,
            head: self.free_heads.pop().expect("room was asked for"),
            buffer: None,
            pieces: [0..0, 0..0],
            doubtful: false,
            left_ring: false,
            held: false,
            lent: false,
            refused: false,
            fate: None,
            told: false,
        });
    }

    /// Sends the next batch, if one may go.
    pub fn advance<R: NetRing>(
        &mut self,
        ring: &mut R,
        payload: &mut Payload,
        options: &Options,
        outbox: &mut Outbox,
        attention: Attention,
    ) {
        self.skip_known();
        let in_flight_max = if self.is_trusted(options) { options.in_flight_max } else { 1 };
        let is_full = self.sent - self.answered >= in_flight_max;
        if !self.may_send(attention.now_ns()) || self.sent == self.deliveries.len() || is_full {
            return;
        }
        let delivery = &mut self.deliveries[self.sent];
        // An earlier attempt's bytes, its head among them, may still be read.
        if delivery.fate.is_some() || delivery.held {
            return;
        }
        let Some(packed) = outbox.pack(ring, payload, delivery.slot, !delivery.left_ring) else { return };
        if packed.buffer.is_some() && !delivery.left_ring {
            payload.release(delivery.slot);
            delivery.left_ring = true;
        }
        self.next_correlation_id = self.next_correlation_id.wrapping_add(1) & i32::MAX;
        delivery.correlation_id = self.next_correlation_id;
        (delivery.buffer, delivery.sent_ns, delivery.held) = (packed.buffer, attention.attended_ns(), true);
        self.wire.retries += u64::from(delivery.attempts > 0);
        delivery.attempts += 1;
        let bytes = packed.records.len() as u32;
        if self.shift.0 != bytes {
            self.shift = (bytes, crc32c::shift(u64::from(bytes)));
        }
        let facts = delivery.facts(payload.block(delivery.slot).records, &packed, options);
        let start = self.heads.start + delivery.head * self.head_bytes;
        let head = &mut ring.memory()[start..start + self.head_bytes];
        options.prefix.write(head, delivery.correlation_id, self.partition, bytes + HEADER_BYTES as u32);
        let batch_head = head.last_chunk_mut::<HEADER_BYTES>().expect("a head ends with the batch's");
        write_header(batch_head, &facts, self.shift.1);
        let pieces = [start..start + self.head_bytes, packed.records];
        delivery.pieces.clone_from(&pieces);
        match packed.buffer {
            None if outbox.lends => self.link.send_in_place(ring, pieces, delivery.slot),
            // Buffers are few and wanted again.
            _ => self.link.send(ring, pieces, delivery.slot),
        }
        self.sent += 1;
    }

    /// Takes the news of a completion; true: the connection is gone.
    pub fn on_event<R: NetRing>(
        &mut self,
        ring: &mut R,
        OfLane { payload, options, outbox, errors }: OfLane<'_>,
        event: Event,
        attention: Attention,
        done: &mut Vec<Done>,
    ) -> bool {
        let ended = match event {
            Event::Nothing => return false,
            Event::Sent { tag, memory } => {
                self.on_sent(tag, options);
                match memory {
                    Memory::Free => {
                        self.let_go(tag, payload, outbox);
                        self.tell(done);
                    }
                    Memory::Lent => self.delivery_of(tag).into_iter().for_each(|delivery| delivery.lent = true),
                    Memory::Held => {}
                }
                self.advance(ring, payload, options, outbox, attention);
                self.link.settle_ending()
            }
            Event::Released { tag } => {
                self.let_go(tag, payload, outbox);
                self.tell(done);
                self.link.settle_ending()
            }
            Event::Received => {
                let ended = self.read_answers(ring, OfLane { payload, options, outbox, errors }, attention, done);
                self.link.listen(ring);
                self.advance(ring, payload, options, outbox, attention);
                // A send may have met the end before.
                if ended == Event::Nothing { self.link.settle_ending() } else { ended }
            }
            broken @ Event::Broken { .. } => broken,
        };
        self.on_ended(ring, OfLane { payload, options, outbox, errors }, ended, done)
    }

    fn delivery_of(&mut self, slot: u32) -> Option<&mut Delivery> {
        self.deliveries.iter_mut().find(|delivery| delivery.slot == slot && !delivery.told)
    }

    fn on_sent(&mut self, slot: u32, options: &Options) {
        if options.acks == 0
            && let Some(delivery) = self.delivery_of(slot)
        {
            delivery.fate = Some(Fate::Produced);
        }
        self.skip_known();
    }

    /// The kernel reads the batch's bytes no longer.
    fn let_go(&mut self, slot: u32, payload: &mut Payload, outbox: &mut Outbox) {
        if let Some(delivery) = self.delivery_of(slot) {
            delivery.let_go(payload, outbox);
        }
    }

    /// Passes on fates that became known, and forgets what is over.
    fn tell(&mut self, done: &mut Vec<Done>) {
        let lane = self.link.owner().0;
        for delivery in &mut self.deliveries {
            if let Some(fate) = delivery.fate.filter(|_| !delivery.told && !delivery.held) {
                delivery.told = true;
                done.push(Done::rest(lane, delivery.slot, fate));
            }
        }
        while let Some(first) = self.deliveries.front().filter(|delivery| delivery.told && self.answered > 0) {
            self.free_heads.push(first.head);
            self.deliveries.pop_front();
            self.answered -= 1;
            self.sent -= 1;
        }
    }

    /// What is due without any completion: limits of time, the end of a pause. True: the connection is gone.
    pub fn check_time<R: NetRing>(
        &mut self,
        ring: &mut R,
        mut of_lane: OfLane<'_>,
        attention: Attention,
        done: &mut Vec<Done>,
    ) -> bool {
        let (options, now_ns) = (of_lane.options, attention.now_ns());
        if let Some(expires) = self.expires.take() {
            let left_ns = expires.saturating_duration_since(Instant::now()).as_nanos() as u64;
            self.replace_at_ns = now_ns.saturating_add(left_ns - left_ns / LIFETIME_SPARE);
        }
        let rests = self.answered == self.sent && self.link.is_up() && self.link.is_idle();
        if self.is_due(now_ns) && rests && self.deliveries.iter().all(|delivery| !delivery.held) {
            let ended = self.link.break_off(ring, Breakage::Closed);
            return self.on_ended(ring, of_lane, ended, done);
        }
        self.check_delivery(options, attention);
        let waits = self.answered < self.sent && options.acks != 0;
        if waits && self.link.is_late(ring, self.waits_from_ns(), attention, options.request_timeout_ns) {
            let ended = self.link.break_off(ring, Breakage::Given(Field::ErrorTimeout));
            return self.on_ended(ring, of_lane, ended, done);
        }
        self.take_back_late(ring, of_lane.reborrow(), attention.attended_ns());
        let ended = self.recover(ring, of_lane.reborrow(), now_ns);
        self.advance(ring, of_lane.payload, options, of_lane.outbox, attention);
        self.on_ended(ring, of_lane, ended, done)
    }
}

#[cfg(test)]
mod tests;
