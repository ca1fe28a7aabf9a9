//! What becomes of requests whose connection is gone, or whose answer takes long.

use super::{Lent, Part};
use crate::sink::link::Event;
use crate::sink::{Done, Fate};
use crate::sys::ring::NetRing;

/// How long the ring does without what the broker reads in place.
const LENT_NS_MAX: u64 = 100_000_000;

impl Part {
    /// The books of a connection that is gone; true: it was.
    pub(super) fn on_ended<R: NetRing>(
        &mut self,
        ring: &mut R,
        lent: Lent<'_>,
        event: Event,
        done: &mut Vec<Done>,
    ) -> bool {
        let Event::Broken { why, unsent } = event else { return false };
        let (payload, manner, outbox) = lent;
        for at in self.answered..self.sent {
            let request = &mut self.requests[at];
            let on_its_way = unsent.is_some_and(|(slot, _)| slot == request.slot);
            if request.lent || on_its_way && self.link.lends() {
                // The broker may read it yet.
                request.take_back(ring);
            }
            // The broker drops a request that it did not get whole.
            if !on_its_way {
                request.doubtful = true;
                request.let_go(payload, outbox);
                if manner.identity.is_none() {
                    request.fate = request.fate.or(Some(Fate::Uncertain(why.kind())));
                }
            } else {
                // Its bytes are still in the ring, if they were sent from there.
                request.held = false;
                request.stage.take().into_iter().for_each(|stage| outbox.give_back(stage));
            }
        }
        self.answered = self.sent;
        self.tell(done);
        self.recovering = false;
        self.renew = false;
        self.start_over();
        true
    }

    /// A broker that is slow to answer keeps what it was lent, but not the ring, which other partitions need as well.
    pub(super) fn take_back_late<R: NetRing>(&mut self, ring: &mut R, (payload, _, outbox): Lent<'_>, now_ns: u64) {
        for request in self.requests.range_mut(self.answered..self.sent) {
            if request.lent && now_ns.saturating_sub(request.sent_ns) > LENT_NS_MAX {
                request.take_back(ring);
                request.let_go(payload, outbox);
            }
        }
    }
}
