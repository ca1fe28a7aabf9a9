//! A raw stream of records over TCP: produced is what the peer's TCP has acknowledged.
//!
//! Each connection of a lane is a stream of its own. When one breaks, what the peer acknowledged was produced,
//! what the kernel had taken beyond that is uncertain, and what it had not taken goes out on the next
//! connection, from the next record boundary on. Until then its place in the ring is free for what the other
//! connections send, and it is made again.
//!
//! A peer that closes its side is taken for gone, though it may go on reading: TCP tells the two apart only by what
//! becomes of data that are sent afterwards, and those of a peer that is gone are lost.

use super::link::{self, Area, Breakage, Event, Link, Memory};
use super::redials::Redials;
use super::{Done, Fate, Room, Sink, Wire};
use crate::base::fatal::Fatal;
use crate::base::limits;
use crate::connect::dial::Dialed;
use crate::connect::dialer::Past;
use crate::counters::Field;
use crate::payload::Payload;
use crate::sys::ring::{NetRing, Wait};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;

/// A receiver of a raw stream says nothing; what it says all the same is dropped from here.
const INBOX_BYTES: usize = 4096;
/// Acknowledgements are looked at this often; they wake nobody.
const ACKNOWLEDGED_EVERY_NS: u64 = 100_000;
const ACKNOWLEDGED_WAIT_NS: u64 = 500_000;

/// Buffers of a lane for blocks that are made again; a connection takes one at a time.
const BUFFERS_MAX: usize = 4;

/// Bytes of region that a lane needs beside its ring. `block_bytes`: the longest block.
pub fn staging_bytes(connections: usize, block_bytes: u64) -> u64 {
    connections as u64 * Area::bytes(INBOX_BYTES, false) as u64 + buffers(connections) as u64 * block_bytes
}

/// How many blocks a lane may have to make again at once.
pub fn buffers(connections: usize) -> usize {
    connections.min(BUFFERS_MAX)
}

/// What one lane is opened with.
pub struct LaneSetup {
    pub dialed: Vec<Dialed>,
    pub staging: Range<usize>,
    pub block_bytes: u64,
    /// Blocks that a connection may hold, acknowledged or not.
    pub depth: usize,
    /// How long the peer may leave a block unacknowledged.
    pub request_timeout_ns: u64,
}

/// A block on its way through one connection.
#[derive(Clone, Debug)]
struct Passage {
    slot: u32,
    range: Range<usize>,
    /// Bytes at its start that an earlier connection dealt with.
    skipped: u64,
    /// The connection's byte at which it begins.
    begins_at: u64,
    released: bool,
    /// The bytes in the ring may have been stamped anew.
    left_ring: bool,
}

impl Passage {
    /// Bytes on this connection.
    fn bytes(&self) -> u64 {
        self.range.len() as u64 - self.skipped
    }
}

/// One connection.
struct Stream {
    link: Link,
    /// Blocks that are not wholly acknowledged, oldest first; those before `next` the kernel has taken.
    passages: VecDeque<Passage>,
    next: usize,
    /// Where the buffer of the lane's begins in which a block was made again, while the kernel reads it.
    buffer: Option<usize>,
    /// The oldest block was on its way when the last connection broke: the rest of it goes over the next one.
    resumes: bool,
    /// What the kernel has taken on this connection, and what it had counted as acknowledged at its start.
    taken: u64,
    base: u64,
    looked_ns: u64,
    /// Where the oldest block on its way begins, and since when it is the oldest.
    oldest: (Option<u64>, u64),
    /// What the last connection was good for.
    past: Past,
}

struct TcpLane {
    streams: Vec<Stream>,
    /// Where the free buffers begin.
    free_buffers: Vec<usize>,
    /// The stream that the last `room` spoke of, and the one that the last block went to.
    chosen: usize,
    last: usize,
    depth: usize,
    request_timeout_ns: u64,
    retries: u64,
}

/// See the module.
pub struct TcpSink {
    lanes: Vec<TcpLane>,
    redials: Redials,
}

impl TcpSink {
    pub fn open<R: NetRing>(ring: &mut R, setups: Vec<LaneSetup>, redials: Redials) -> Result<Self, Fatal> {
        let mut lanes = Vec::new();
        for (lane, setup) in setups.into_iter().enumerate() {
            let mut streams = Vec::new();
            let mut start = setup.staging.start;
            let mut take = |bytes: usize| {
                start += bytes;
                start - bytes
            };
            for (index, dialed) in setup.dialed.into_iter().enumerate() {
                let area = take(Area::bytes(INBOX_BYTES, false));
                let mut link = Link::open(ring, (lane, index), dialed, Area::cut(area, INBOX_BYTES, false))?;
                // A peer that closes before anything is sent is noticed at once.
                link.listen(ring);
                let passages = VecDeque::with_capacity(setup.depth);
                let base = link.acknowledged(ring);
                streams.push(Stream {
                    link,
                    passages,
                    next: 0,
                    buffer: None,
                    resumes: false,
                    taken: 0,
                    base,
                    looked_ns: 0,
                    oldest: (None, 0),
                    past: Past::Unknown,
                });
            }
            let free_buffers = (0..buffers(streams.len())).map(|_| take(setup.block_bytes as usize)).collect();
            let LaneSetup { depth, request_timeout_ns, .. } = setup;
            lanes.push(TcpLane { streams, free_buffers, chosen: 0, last: 0, depth, request_timeout_ns, retries: 0 });
        }
        Ok(Self { lanes, redials })
    }
}

/// What a stream uses of its lane.
struct OfLane<'a> {
    payload: &'a mut Payload,
    free_buffers: &'a mut Vec<usize>,
}

impl Stream {
    /// What is offered behind such a block would keep its place in the ring for nothing.
    fn waits_for_a_buffer(&self) -> bool {
        self.buffer.is_none() && self.passages.get(self.next).is_some_and(|next| next.left_ring)
    }

    /// Starts the next block if nothing is on its way, and if there is a buffer for one that is made again.
    fn advance<R: NetRing>(&mut self, ring: &mut R, payload: &Payload, free_buffers: &mut Vec<usize>) {
        if !self.link.is_up() || !self.link.is_idle() {
            return;
        }
        let Some(passage) = self.passages.get_mut(self.next) else { return };
        if passage.left_ring {
            // A peer that takes nothing keeps one at most from the others.
            if self.buffer.is_some() {
                return;
            }
            let Some(buffer) = free_buffers.pop() else { return };
            self.buffer = Some(buffer);
            passage.range = payload.remake(ring.memory(), passage.slot, buffer);
        }
        passage.begins_at = self.taken;
        let (slot, is_made_again) = (passage.slot, passage.left_ring);
        let (start, end) = (passage.range.start + passage.skipped as usize, passage.range.end);
        let pieces = [start..end, end..end];
        // Buffers are few: one that was lent without a copy would be back a round trip later.
        if is_made_again { self.link.send_copied(ring, pieces, slot) } else { self.link.send(ring, pieces, slot) }
    }

    fn on_event<R: NetRing>(
        &mut self,
        ring: &mut R,
        OfLane { payload, free_buffers }: OfLane<'_>,
        event: Event,
        done: &mut Vec<Done>,
    ) -> bool {
        match event {
            Event::Nothing => return false,
            Event::Sent { tag, memory } => {
                self.taken += self.passages[self.next].bytes();
                self.next += 1;
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
        let Some(passage) = self.passages.iter_mut().find(|passage| passage.slot == slot) else { return };
        passage.released = true;
        if passage.left_ring {
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
        let acknowledged = self.link.acknowledged(ring).saturating_sub(self.base);
        self.past = match (why, acknowledged > 0) {
            (Breakage::Closed, used) => Past::Closed { used },
            (_, true) => Past::Used,
            (_, false) => Past::Unknown,
        };
        let taken_of_next = unsent.map_or(0, |(_, taken)| taken as u64);
        let lane = self.link.owner().0;
        let fate = Fate::Uncertain(why.kind());
        self.resumes = unsent.is_some();
        for _ in 0..self.next {
            let Some(passage) = self.passages.pop_front() else { break };
            self.produced_of(&passage, acknowledged, lane, done);
            done.push(Done::rest(lane, passage.slot, fate));
        }
        self.next = 0;
        if taken_of_next > 0
            && let Some(passage) = self.passages.front().cloned()
        {
            self.produced_of(&passage, acknowledged, lane, done);
            let touched = passage.skipped + taken_of_next;
            done.push(Done { lane: lane as u32, slot: passage.slot, bytes: touched, fate });
            let block = payload.block(passage.slot);
            let whole = payload.records_within_span(block, touched);
            let records = whole + u64::from(payload.span_of(block, whole) < touched);
            let skipped = payload.span_of(block, records);
            if skipped == block.span_bytes {
                self.passages.pop_front();
                self.resumes = false;
            } else {
                self.passages[0].skipped = skipped;
            }
        }
        free_buffers.extend(self.buffer.take());
        for passage in self.passages.iter_mut().filter(|passage| !passage.left_ring) {
            payload.release(passage.slot);
            passage.left_ring = true;
        }
        true
    }

    /// News of the part of a block that was acknowledged.
    fn produced_of(&self, passage: &Passage, acknowledged: u64, lane: usize, done: &mut Vec<Done>) {
        let bytes = acknowledged.saturating_sub(passage.begins_at).min(passage.bytes());
        if bytes > 0 {
            let bytes = passage.skipped + bytes;
            done.push(Done { lane: lane as u32, slot: passage.slot, bytes, fate: Fate::Produced });
        }
    }

    /// Looks at what the peer has acknowledged.
    fn look<R: NetRing>(&mut self, ring: &R, now_ns: u64, done: &mut Vec<Done>) {
        if self.next == 0 || !self.link.is_up() || now_ns.saturating_sub(self.looked_ns) < ACKNOWLEDGED_EVERY_NS {
            return;
        }
        self.looked_ns = now_ns;
        let acknowledged = self.link.acknowledged(ring).saturating_sub(self.base);
        let lane = self.link.owner().0;
        while self.next > 0
            && let Some(passage) = self.passages.front()
            && passage.released
            && passage.begins_at + passage.bytes() <= acknowledged
        {
            done.push(Done::rest(lane, passage.slot, Fate::Produced));
            self.passages.pop_front();
            self.next -= 1;
        }
    }

    /// Breaks off a connection whose oldest block waits too long for its acknowledgement; true: it is gone.
    fn check_time<R: NetRing>(
        &mut self,
        ring: &mut R,
        OfLane { payload, free_buffers }: OfLane<'_>,
        (now_ns, timeout_ns): (u64, u64),
        done: &mut Vec<Done>,
    ) -> bool {
        let on_its_way = self.link.is_up() && (self.next > 0 || !self.link.is_idle());
        let oldest = self.passages.front().filter(|_| on_its_way).map(|passage| passage.begins_at);
        if oldest != self.oldest.0 {
            self.oldest = (oldest, now_ns);
        }
        if oldest.is_none() || now_ns.saturating_sub(self.oldest.1) <= timeout_ns {
            return false;
        }
        let ended = self.link.break_off(ring, Breakage::Given(Field::ErrorTimeout));
        self.on_ended(ring, OfLane { payload, free_buffers }, ended, done)
    }

    /// What is known of each block at the run's end.
    fn give_up<R: NetRing>(&mut self, ring: &R, done: &mut Vec<Done>) {
        self.link.count_retransmits(ring);
        let acknowledged = self.link.acknowledged(ring).saturating_sub(self.base);
        let lane = self.link.owner().0;
        let sending = !self.link.is_idle();
        for at in 0..self.passages.len() {
            let passage = &self.passages[at];
            if at < self.next || at == self.next && sending {
                self.produced_of(passage, acknowledged, lane, done);
                done.push(Done::rest(lane, passage.slot, Fate::Uncertain(Field::ErrorTimeout)));
            } else {
                done.push(Done::rest(lane, passage.slot, Fate::Failed(Field::ErrorTimeout)));
            }
        }
    }
}

impl TcpSink {
    /// Puts connections that were found again in place of those that were lost.
    fn reconnect<R: NetRing>(&mut self, ring: &mut R, payloads: &[Payload]) {
        while let Some((at, index, dialed)) = self.redials.take() {
            let lane = &mut self.lanes[at];
            let stream = &mut lane.streams[index];
            if stream.link.reopen(ring, *dialed).is_err() {
                self.redials.order(at, index);
                continue;
            }
            stream.base = stream.link.acknowledged(ring);
            stream.taken = 0;
            stream.oldest = (None, 0);
            lane.retries += u64::from(std::mem::take(&mut stream.resumes));
            stream.link.listen(ring);
            stream.advance(ring, &payloads[at], &mut lane.free_buffers);
        }
    }
}

impl<R: NetRing> Sink<R> for TcpSink {
    fn room(&mut self, _ring: &mut R, lane: usize, _next_length: u64) -> Room {
        let lane = &mut self.lanes[lane];
        let count = lane.streams.len();
        // Those that wait for the kernel equally long take turns.
        let turns = (1..=count).map(|step| (lane.last + step) % count);
        let has_room =
            |stream: &Stream| stream.link.is_up() && stream.passages.len() < lane.depth && !stream.waits_for_a_buffer();
        let open = turns.filter(|at| has_room(&lane.streams[*at]));
        match open.min_by_key(|at| lane.streams[*at].passages.len() - lane.streams[*at].next) {
            Some(at) => {
                lane.chosen = at;
                Room::bytes(u64::MAX)
            }
            None => Room::NONE,
        }
    }

    fn offer(&mut self, ring: &mut R, lane: usize, slot: u32, payload: &mut Payload, _hurry: bool) {
        let lane = &mut self.lanes[lane];
        lane.last = lane.chosen;
        let stream = &mut lane.streams[lane.chosen];
        let range = payload.block(slot).range();
        let (skipped, begins_at, released, left_ring) = (0, 0, false, false);
        stream.passages.push_back(Passage { slot, range, skipped, begins_at, released, left_ring });
        stream.link.listen(ring);
        stream.advance(ring, payload, &mut lane.free_buffers);
    }

    fn submit(&mut self, ring: &mut R, wait: Wait) -> io::Result<()> {
        let Wait::ForNs(mut ns) = wait else { return ring.enter(wait) };
        if self.lanes.iter().any(|lane| lane.streams.iter().any(|stream| stream.next > 0 || stream.link.is_down())) {
            ns = ns.min(ACKNOWLEDGED_WAIT_NS);
        }
        ring.enter(Wait::ForNs(ns))
    }

    fn reap(&mut self, ring: &mut R, payloads: &mut [Payload], now_ns: u64, done: &mut Vec<Done>) {
        while let Some(completion) = ring.completion() {
            let (at, index) = link::owner_of(completion.token);
            let TcpLane { streams, free_buffers, .. } = &mut self.lanes[at];
            let stream = &mut streams[index];
            let event = stream.link.complete(ring, completion);
            let of_lane = OfLane { payload: &mut payloads[at], free_buffers };
            if stream.on_event(ring, of_lane, event, done) {
                self.redials.order_after(at, index, stream.past);
            }
        }
        self.reconnect(ring, payloads);
        for (at, (lane, payload)) in self.lanes.iter_mut().zip(payloads).enumerate() {
            let TcpLane { streams, free_buffers, request_timeout_ns, .. } = lane;
            for (index, stream) in streams.iter_mut().enumerate() {
                stream.look(ring, now_ns, done);
                if stream.check_time(ring, OfLane { payload, free_buffers }, (now_ns, *request_timeout_ns), done) {
                    self.redials.order_after(at, index, stream.past);
                }
                // It may have waited for a buffer.
                stream.advance(ring, payload, free_buffers);
            }
        }
    }

    fn take_wire(&mut self, lane: usize) -> Wire {
        let lane = &mut self.lanes[lane];
        let mut wire = Wire { retries: std::mem::take(&mut lane.retries), ..Wire::default() };
        lane.streams.iter_mut().for_each(|stream| wire += stream.link.take_wire());
        wire
    }

    fn give_up(&mut self, ring: &mut R, _payloads: &mut [Payload], done: &mut Vec<Done>) {
        self.lanes.iter_mut().flat_map(|lane| &mut lane.streams).for_each(|stream| stream.give_up(ring, done));
    }
}

const _: () = assert!(limits::QUEUE_DEPTH_MAX <= limits::WINDOW_MAX);

#[cfg(test)]
mod tests;
