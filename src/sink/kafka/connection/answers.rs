//! What the leader's answers come to.

use super::{Connection, OfLane, Options};
use crate::base::attention::Attention;
use crate::connect::backoff::pause_ns;
use crate::counters::Field;
use crate::counters::broker_errors::{BrokerErrors, Refusal};
use crate::payload::Payload;
use crate::sink::link::{Breakage, Event};
use crate::sink::{Done, Fate};
use crate::sys::ring::NetRing;
use crate::wire::kafka::errors::{ErrorKind, PERHAPS_APPENDED, UNFORESEEN, broker_error};
use rand_xoshiro::rand_core::RngCore;

/// From this version of Produce on a broker that throttles answers at once (KIP-219).
const ANSWERED_AT_ONCE_SINCE: i16 = 6;

impl Connection {
    pub(super) fn read_answers<R: NetRing>(
        &mut self,
        ring: &mut R,
        OfLane { payload, options, outbox, errors }: OfLane<'_>,
        attention: Attention,
        done: &mut Vec<Done>,
    ) -> Event {
        loop {
            let Ok((used, told)) = self.answer.step(self.link.inbox(ring)) else { return self.nonsense(ring) };
            self.link.consume(ring, used);
            let Some(told) = told else { break };
            let expected = self.deliveries.get(self.answered).filter(|_| self.answered < self.sent);
            // What is not all out has no answer.
            let expected = expected.filter(|own| self.link.outgoing_tag() != Some(own.slot));
            let fits = expected.is_some_and(|own| own.correlation_id == told.correlation_id);
            let Some((code, base_offset)) = told.partition.filter(|_| fits) else { return self.nonsense(ring) };
            if told.throttle_time_ms > 0 {
                self.on_throttle(told.throttle_time_ms as u64, options, attention);
            }
            // The broker has read all of what it answers.
            let delivery = &mut self.deliveries[self.answered];
            if delivery.lent {
                delivery.let_go(payload, outbox);
            }
            if code != 0 {
                self.note_error(code, payload, errors);
            }
            self.on_answer((code, base_offset), options);
            self.skip_known();
        }
        self.tell(done);
        self.recover(ring, OfLane { payload, options, outbox, errors }, attention.now_ns())
    }

    /// The answer tells of a quota.
    #[cold]
    fn on_throttle(&mut self, throttle_ms: u64, options: &Options, attention: Attention) {
        self.wire.throttled_answers += 1;
        self.wire.throttled_ms += throttle_ms;
        // Older brokers have held the answer back for as long.
        if options.version >= ANSWERED_AT_ONCE_SINCE {
            let silence_ns = throttle_ms * 1_000_000;
            self.throttled_until_ns = self.throttled_until_ns.max(attention.now_ns() + silence_ns);
            self.silent_until_ns = self.silent_until_ns.max(attention.attended_ns() + silence_ns);
        }
    }

    fn nonsense<R: NetRing>(&mut self, ring: &mut R) -> Event {
        self.link.break_off(ring, Breakage::Given(Field::ErrorProtocol))
    }

    /// The answer to the oldest unanswered batch is an error, and not that the broker has the batch already.
    #[cold]
    fn note_error(&mut self, code: i16, payload: &Payload, errors: &mut BrokerErrors) {
        let kind = broker_error(code).kind;
        if kind == ErrorKind::DuplicateSequence {
            return;
        }
        let delivery = &mut self.deliveries[self.answered];
        delivery.refused = true;
        errors.count(code, payload.block(delivery.slot).warmup);
        // Those behind a batch that was refused are out of order: no reason of their own.
        if kind == ErrorKind::SequenceLost && self.recovering {
            return;
        }
        let refusal = Refusal { code, words: self.answer.words() };
        errors.tell(&refusal);
        self.last_refusal = Some(refusal);
    }

    /// The answer to the oldest unanswered batch: an error code, and the offset that it got, or -1.
    fn on_answer(&mut self, (code, base_offset): (i16, i64), options: &Options) {
        let error = broker_error(code);
        let moved = error.kind == ErrorKind::RefreshMetadata;
        let delivery = &mut self.deliveries[self.answered];
        self.answered += 1;
        // A leader that is deposed while it waits for the others to follow says where it had put the batch: the next
        // one may have it.
        let perhaps = PERHAPS_APPENDED.contains(&code) || moved && base_offset >= 0;
        delivery.doubtful |= perhaps || code == UNFORESEEN;
        let again = error.kind.is_retriable() || error.kind == ErrorKind::SequenceLost && self.recovering;
        // Whatever becomes of this batch, the next ones are the new leader's.
        self.recovering |= moved;
        self.renew |= moved;
        match error.kind {
            ErrorKind::Success | ErrorKind::DuplicateSequence => {
                delivery.fate = Some(Fate::Produced);
                (self.failures, self.proven, self.last_refusal) = (0, true, None);
            }
            _ if perhaps && options.identity.is_none() => {
                delivery.fate = Some(Fate::Uncertain(if moved { Field::ErrorBroker } else { Field::ErrorTimeout }));
            }
            _ if again && delivery.attempts <= options.retry.retries_max => self.recovering = true,
            kind => {
                delivery.fate = Some(delivery.unconfirmed(Field::ErrorBroker));
                // A batch that is left out leaves a hole that the broker lets nothing past, and what is
                // refused once will be refused again.
                if options.identity.is_some() || !kind.is_retriable() {
                    let why = self.answer.words();
                    let what = || format!("the broker answered {error}{}", why.as_reason());
                    self.end_with(options, || (what(), error.remedy()));
                }
            }
        }
    }

    /// When all in flight is answered after an "again": from the start, after a pause, elsewhere if need be.
    pub(super) fn recover<R: NetRing>(&mut self, ring: &mut R, of_lane: OfLane<'_>, now_ns: u64) -> Event {
        let OfLane { payload, options, .. } = of_lane;
        if !self.recovering || self.answered < self.sent || !self.link.is_idle() {
            return Event::Nothing;
        }
        self.recovering = false;
        self.start_over(payload);
        self.failures = self.failures.saturating_add(1);
        let pause_ns = pause_ns(&options.retry, self.failures, self.random.next_u64());
        self.not_before_ns = self.not_before_ns.max(now_ns + pause_ns);
        if std::mem::take(&mut self.renew) {
            return self.link.break_off(ring, Breakage::Closed);
        }
        Event::Nothing
    }

    /// What is over is forgotten, all else is to be sent. Until it is, nobody knows how long: its place in the ring is
    /// for the other partitions of the lane.
    pub(super) fn start_over(&mut self, payload: &mut Payload) {
        (self.answered, self.sent, self.proven) = (0, 0, false);
        let free_heads = &mut self.free_heads;
        self.deliveries.retain(|delivery| {
            if delivery.told {
                free_heads.push(delivery.head);
            }
            !delivery.told
        });
        self.deliveries.iter_mut().for_each(|delivery| delivery.leave_ring(payload));
    }

    /// Passes over batches whose fate is known though the kernel still holds their bytes.
    pub(super) fn skip_known(&mut self) {
        if self.answered == self.sent {
            while self.deliveries.get(self.sent).is_some_and(|delivery| delivery.fate.is_some()) {
                self.sent += 1;
            }
        }
        while self.answered < self.sent && self.deliveries[self.answered].fate.is_some() {
            self.answered += 1;
        }
    }
}
