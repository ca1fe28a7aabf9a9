//! What becomes of batches whose connection is gone, or whose answer takes long.

use super::{Connection, OfLane};
use crate::connect::dialer::LastUse;
use crate::sink::Done;
use crate::sink::link::{Breakage, Event};
use crate::sys::ring::NetRing;

/// How long the ring does without what the broker reads in place.
const LENT_NS_MAX: u64 = 100_000_000;

impl Connection {
    /// Another connection is to take this one's place: nothing more is sent, and with all answered it is closed.
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.replace_at_ns || self.link.is_worn()
    }

    /// How the connection has fared, if it is about to end: one that carried batches is worth a quick redial, and one
    /// that was closed in time an immediate one.
    pub fn last_use(&self, now_ns: u64) -> LastUse {
        match self.proven {
            _ if self.is_due(now_ns) => LastUse::Served,
            true => LastUse::Used,
            false => LastUse::Unknown,
        }
    }

    /// What the dialer is told of a connection that is gone and has fared so. Versions and SASL went over it first: an
    /// alert is not the handshake's any more.
    pub fn last_use_of_end(&self, own: LastUse) -> LastUse {
        match self.link.last_use(own) {
            LastUse::Alert { description, .. } => LastUse::Alert { description, used: true },
            last_use => last_use,
        }
    }

    /// The books of a connection that is gone; true: it was.
    pub(super) fn on_ended<R: NetRing>(
        &mut self,
        ring: &mut R,
        of_lane: OfLane<'_>,
        event: Event,
        done: &mut Vec<Done>,
    ) -> bool {
        let Event::Broken { why, unsent } = event else { return false };
        let OfLane { payload, options, outbox, .. } = of_lane;
        let mut given_up = None;
        for at in self.answered..self.sent {
            let delivery = &mut self.deliveries[at];
            let on_its_way = unsent.is_some_and(|(slot, _)| slot == delivery.slot);
            delivery.refused = false;
            if delivery.lent || on_its_way && self.link.lends() {
                // The broker may read it yet.
                delivery.take_back(ring);
            }
            // The broker drops a request that it did not get whole.
            if !on_its_way {
                delivery.doubtful = true;
                delivery.let_go(payload, outbox);
            } else {
                // Its bytes are still in the ring, if they were sent from there.
                delivery.held = false;
                delivery.buffer.take().into_iter().for_each(|buffer| outbox.give_back(buffer));
            }
            let spent = delivery.attempts > options.retry.retries_max;
            if delivery.fate.is_none() && (spent || !on_its_way && options.identity.is_none()) {
                delivery.fate = Some(delivery.unconfirmed(why.kind()));
                given_up = Some(delivery.attempts);
            }
        }
        // With a producer id there is a hole now: see `on_answer`.
        if let Some(attempts) = given_up.filter(|_| options.identity.is_some()) {
            self.end_with(options, || {
                let what = format!("the connection was lost with a batch on it at its attempt {attempts}, the last");
                (what, Some("a larger --retry (retries), or --idempotent off to go on without it"))
            });
        }
        self.answered = self.sent;
        self.tell(done);
        self.recovering = false;
        if why != Breakage::Closed {
            // What came after it counts.
            self.last_refusal = None;
        }
        self.renew = false;
        self.start_over(payload);
        true
    }

    /// From when on the oldest unanswered batch waits, in attended time. A broker that throttles answers at once, and
    /// then reads nothing for as long as it says (KIP-219). It takes one request at a time: silences follow each other,
    /// each told by the answer that it begins with.
    pub(super) fn waits_from_ns(&self) -> u64 {
        self.deliveries[self.answered].sent_ns.max(self.silent_until_ns)
    }

    /// A broker that is slow to answer keeps what it was lent, but not the ring, which other partitions need as well.
    pub(super) fn take_back_late<R: NetRing>(&mut self, ring: &mut R, of_lane: OfLane<'_>, attended_ns: u64) {
        let OfLane { payload, outbox, .. } = of_lane;
        for delivery in self.deliveries.range_mut(self.answered..self.sent) {
            if delivery.lent && attended_ns.saturating_sub(delivery.sent_ns) > LENT_NS_MAX {
                delivery.take_back(ring);
                delivery.let_go(payload, outbox);
            }
        }
    }
}
