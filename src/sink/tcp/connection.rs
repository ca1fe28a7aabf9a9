//! One connection of a lane, and the blocks on it.

use crate::base::attention::Attention;
use crate::connect::dial::Dialed;
use crate::connect::dialer::LastUse;
use crate::counters::Field;
use crate::payload::Payload;
use crate::sink::link::{Breakage, Event, Link, Memory};
use crate::sink::{Done, Fate, Wire};
use crate::sys::ring::NetRing;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;

/// Acknowledgements are looked at this often; they wake nobody.
const ACKNOWLEDGED_EVERY_NS: u64 = 100_000;

/// A block on its way to the peer, over one connection or several.
#[derive(Clone, Debug)]
struct Delivery {
    slot: u32,
    range: Range<usize>,
    /// Bytes at its start that an earlier connection dealt with.
    skipped: u64,
    /// The connection's byte at which it begins.
    begins_at: u64,
    /// The kernel reads it.
    held: bool,
    /// The bytes in the ring may have been stamped anew.
    left_ring: bool,
}

impl Delivery {
    /// Bytes on this connection.
    fn bytes(&self) -> u64 {
        self.range.len() as u64 - self.skipped
    }
}

/// See the module.
pub struct Connection {
    pub link: Link,
    /// Blocks that are not wholly acknowledged, oldest first; the first `taken` the kernel has.
    deliveries: VecDeque<Delivery>,
    taken: usize,
    /// Where the buffer of the lane's begins in which a block was made again, while the kernel reads it.
    buffer: Option<usize>,
    /// The oldest block was on its way when the last connection broke: the rest of it goes over the next one.
    resumes: bool,
    /// What the kernel has taken on this connection, and what it had counted as acknowledged at its start.
    taken_bytes: u64,
    acknowledged_at_start: u64,
    looked_ns: u64,
    /// Where the oldest block on its way begins, and since when it is the oldest, in attended time.
    oldest: (Option<u64>, u64),
    /// What the last connection was good for.
    last_use: LastUse,
    retries: u64,
}

/// What a connection uses of its lane.
pub struct OfLane<'a> {
    pub payload: &'a mut Payload,
    pub free_buffers: &'a mut Vec<usize>,
}

impl Connection {
    /// With room for `depth` blocks.
    pub fn new<R: NetRing>(ring: &mut R, mut link: Link, depth: usize) -> Self {
        // A peer that closes before anything is sent is noticed at once.
        link.listen(ring);
        let acknowledged_at_start = link.acknowledged(ring);
        Self {
            link,
            deliveries: VecDeque::with_capacity(depth),
            taken: 0,
            buffer: None,
            resumes: false,
            taken_bytes: 0,
            acknowledged_at_start,
            looked_ns: 0,
            oldest: (None, 0),
            last_use: LastUse::Unknown,
            retries: 0,
        }
    }

    /// Over a new connection.
    pub fn reopen<R: NetRing>(&mut self, ring: &mut R, dialed: Dialed) -> io::Result<()> {
        self.link.reopen(ring, dialed)?;
        self.acknowledged_at_start = self.link.acknowledged(ring);
        (self.taken_bytes, self.oldest) = (0, (None, 0));
        self.retries += u64::from(std::mem::take(&mut self.resumes));
        self.link.listen(ring);
        Ok(())
    }

    /// Whether it takes a block, of at most `depth`.
    pub fn has_room(&self, depth: usize) -> bool {
        self.link.is_up() && self.deliveries.len() < depth && !self.waits_for_a_buffer()
    }

    /// Blocks that the kernel has not taken.
    pub fn untaken(&self) -> usize {
        self.deliveries.len() - self.taken
    }

    /// Something here is to be looked at from time to time.
    pub fn is_busy(&self) -> bool {
        self.taken > 0 || self.link.is_down()
    }

    /// What the last connection was good for.
    pub fn last_use(&self) -> LastUse {
        self.last_use
    }

    /// What went over the wire since the last call.
    pub fn take_wire(&mut self) -> Wire {
        Wire { retries: std::mem::take(&mut self.retries), ..self.link.take_wire() }
    }

    /// What is offered behind such a block would keep its place in the ring for nothing.
    fn waits_for_a_buffer(&self) -> bool {
        self.buffer.is_none() && self.deliveries.get(self.taken).is_some_and(|next| next.left_ring)
    }

    /// Takes a block as the last.
    pub fn push<R: NetRing>(&mut self, ring: &mut R, payload: &Payload, slot: u32) {
        let range = payload.block(slot).range();
        self.deliveries.push_back(Delivery { slot, range, skipped: 0, begins_at: 0, held: false, left_ring: false });
        self.link.listen(ring);
    }

    /// Starts the next block if nothing is on its way, and if there is a buffer for one that is made again.
    pub fn advance<R: NetRing>(&mut self, ring: &mut R, payload: &Payload, free_buffers: &mut Vec<usize>) {
        if !self.link.is_up() || !self.link.is_idle() {
            return;
        }
        let Some(delivery) = self.deliveries.get_mut(self.taken) else { return };
        if delivery.left_ring {
            // A peer that takes nothing keeps one at most from the others.
            if self.buffer.is_some() {
                return;
            }
            let Some(buffer) = free_buffers.pop() else { return };
            self.buffer = Some(buffer);
            delivery.range = payload.remake(ring.memory(), delivery.slot, buffer);
        }
        (delivery.begins_at, delivery.held) = (self.taken_bytes, true);
        let (slot, is_made_again) = (delivery.slot, delivery.left_ring);
        let (start, end) = (delivery.range.start + delivery.skipped as usize, delivery.range.end);
        let pieces = [start..end, end..end];
        // Buffers are few: one that was lent without a copy would be back a round trip later.
        if is_made_again { self.link.send_copied(ring, pieces, slot) } else { self.link.send(ring, pieces, slot) }
    }

    /// Takes the news of a completion; true: the connection is gone.
    pub fn on_event<R: NetRing>(
        &mut self,
        ring: &mut R,
        OfLane { payload, free_buffers }: OfLane<'_>,
        event: Event,
        done: &mut Vec<Done>,
    ) -> bool {
        match event {
            Event::Nothing => return false,
            Event::Sent { tag, memory } => {
                self.taken_bytes += self.deliveries[self.taken].bytes();
                self.taken += 1;
                if memory == Memory::Free {
                    self.let_go(tag, payload, free_buffers);
                }
                self.advance(ring, payload, free_buffers);
            }
            Event::Released { tag } => {
                self.let_go(tag, payload, free_buffers);
                self.advance(ring, payload, free_buffers);
            }
            Event::Received => {
                let bytes = self.link.inbox(ring).len();
                self.link.consume(ring, bytes);
                self.link.listen(ring);
            }
            Event::Broken { .. } => return self.on_ended(ring, OfLane { payload, free_buffers }, event, done),
        }
        let ended = self.link.settle_ending();
        self.on_ended(ring, OfLane { payload, free_buffers }, ended, done)
    }

    /// The kernel reads a block's bytes no longer.
    fn let_go(&mut self, slot: u32, payload: &mut Payload, free_buffers: &mut Vec<usize>) {
        let Some(delivery) = self.deliveries.iter_mut().find(|delivery| delivery.slot == slot) else { return };
        delivery.held = false;
        if delivery.left_ring {
            free_buffers.extend(self.buffer.take());
        } else {
            payload.release(slot);
        }
    }

    /// The books of a connection that is gone; true: it was.
    fn on_ended<R: NetRing>(
        &mut self,
        ring: &mut R,
        OfLane { payload, free_buffers }: OfLane<'_>,
        event: Event,
        done: &mut Vec<Done>,
    ) -> bool {
        let Event::Broken { why, unsent } = event else { return false };
        let acknowledged = self.link.acknowledged(ring).saturating_sub(self.acknowledged_at_start);
        self.last_use = match (why, acknowledged > 0) {
            (Breakage::Closed, used) => LastUse::Closed { used },
            (_, true) => LastUse::Used,
            (_, false) => LastUse::Unknown,
        };
        let taken_of_next = unsent.map_or(0, |(_, taken)| taken as u64);
        let lane = self.link.owner().0;
        let fate = Fate::Uncertain(why.kind());
        self.resumes = unsent.is_some();
        for _ in 0..self.taken {
            let Some(delivery) = self.deliveries.pop_front() else { break };
            self.produced_of(&delivery, acknowledged, lane, done);
            done.push(Done::rest(lane, delivery.slot, fate));
        }
        self.taken = 0;
        if taken_of_next > 0
            && let Some(delivery) = self.deliveries.front().cloned()
        {
            self.produced_of(&delivery, acknowledged, lane, done);
            let touched = delivery.skipped + taken_of_next;
            done.push(Done { lane: lane as u32, slot: delivery.slot, bytes: touched, fate });
            let block = payload.block(delivery.slot);
            let whole = payload.records_within_span(block, touched);
            let records = whole + u64::from(payload.span_of(block, whole) < touched);
            let skipped = payload.span_of(block, records);
            if skipped == block.span_bytes {
                self.deliveries.pop_front();
                self.resumes = false;
            } else {
                self.deliveries[0].skipped = skipped;
            }
        }
        free_buffers.extend(self.buffer.take());
        for delivery in &mut self.deliveries {
            if !delivery.left_ring {
                payload.release(delivery.slot);
            }
            (delivery.held, delivery.left_ring) = (false, true);
        }
        true
    }

    /// News of the part of a block that was acknowledged.
    fn produced_of(&self, delivery: &Delivery, acknowledged: u64, lane: usize, done: &mut Vec<Done>) {
        let bytes = acknowledged.saturating_sub(delivery.begins_at).min(delivery.bytes());
        if bytes > 0 {
            let bytes = delivery.skipped + bytes;
            done.push(Done { lane: lane as u32, slot: delivery.slot, bytes, fate: Fate::Produced });
        }
    }

    /// Passes on what the peer has acknowledged.
    pub fn tell<R: NetRing>(&mut self, ring: &R, now_ns: u64, done: &mut Vec<Done>) {
        if self.taken == 0 || !self.link.is_up() || now_ns.saturating_sub(self.looked_ns) < ACKNOWLEDGED_EVERY_NS {
            return;
        }
        self.looked_ns = now_ns;
        let acknowledged = self.link.acknowledged(ring).saturating_sub(self.acknowledged_at_start);
        let lane = self.link.owner().0;
        while self.taken > 0
            && let Some(delivery) = self.deliveries.front()
            && !delivery.held
            && delivery.begins_at + delivery.bytes() <= acknowledged
        {
            done.push(Done::rest(lane, delivery.slot, Fate::Produced));
            self.deliveries.pop_front();
            self.taken -= 1;
        }
    }

    /// Breaks off a connection whose oldest block waits for its acknowledgement and gets on no further; true: it is gone.
    pub fn check_time<R: NetRing>(
        &mut self,
        ring: &mut R,
        OfLane { payload, free_buffers }: OfLane<'_>,
        (attention, timeout_ns): (Attention, u64),
        done: &mut Vec<Done>,
    ) -> bool {
        let on_its_way = self.link.is_up() && (self.taken > 0 || !self.link.is_idle());
        let oldest = self.deliveries.front().filter(|_| on_its_way).map(|delivery| delivery.begins_at);
        if oldest != self.oldest.0 {
            self.oldest = (oldest, attention.attended_ns());
        }
        if oldest.is_none() || !self.link.is_late(ring, self.oldest.1, attention, timeout_ns) {
            return false;
        }
        let ended = self.link.break_off(ring, Breakage::Given(Field::ErrorTimeout));
        self.on_ended(ring, OfLane { payload, free_buffers }, ended, done)
    }

    /// What is known of blocks that are still here when time is up.
    pub fn leftovers<R: NetRing>(&self, ring: &R, done: &mut Vec<Done>) {
        let acknowledged = self.link.acknowledged(ring).saturating_sub(self.acknowledged_at_start);
        let lane = self.link.owner().0;
        let sending = !self.link.is_idle();
        for at in 0..self.deliveries.len() {
            let delivery = &self.deliveries[at];
            if at < self.taken || at == self.taken && sending {
                self.produced_of(delivery, acknowledged, lane, done);
                done.push(Done::rest(lane, delivery.slot, Fate::Uncertain(Field::ErrorTimeout)));
            } else {
                done.push(Done::rest(lane, delivery.slot, Fate::Failed(Field::ErrorTimeout)));
            }
        }
    }
}
