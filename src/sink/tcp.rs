//! A raw stream of records over TCP: produced is what the peer's TCP has acknowledged.
//!
//! Each connection of a lane is a stream of its own. When one breaks, what the peer acknowledged was produced,
//! what the kernel had taken beyond that is uncertain, and what it had not taken goes out on the next
//! connection, from the next record boundary on. Until then its place in the ring is free for what the other
//! connections send, and it is made again.
//!
//! A peer that closes its side is taken for gone, though it may go on reading: TCP tells the two apart only by what
//! becomes of data that are sent afterwards, and those of a peer that is gone are lost.

mod connection;

use super::link::{self, Area, Carver, Link};
use super::redials::Redials;
use super::{Done, Ending, Room, Sink, Wire};
use crate::base::attention::Attention;
use crate::base::fatal::Fatal;
use crate::base::limits;
use crate::connect::dial::Dialed;
use crate::payload::Payload;
use crate::sys::ring::{NetRing, Wait};
use connection::{Connection, OfLane};
use std::io;
use std::ops::Range;

/// A receiver of a raw stream says nothing; what it says all the same is dropped from here.
const INBOX_BYTES: usize = 4096;
/// How often a waiting core looks at acknowledgements, which wake nobody.
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
    /// How long the peer may acknowledge nothing of a block.
    pub request_timeout_ns: u64,
}

struct TcpLane {
    connections: Vec<Connection>,
    /// Where the free buffers begin.
    free_buffers: Vec<usize>,
    /// The connection that the last `room` spoke of, and the one that the last block went to.
    chosen: usize,
    last: usize,
    depth: usize,
    request_timeout_ns: u64,
    attention: Attention,
}

/// See the module.
pub struct TcpSink {
    lanes: Vec<TcpLane>,
    redials: Redials,
    ending: Option<Ending>,
}

impl TcpSink {
    pub fn open<R: NetRing>(ring: &mut R, setups: Vec<LaneSetup>, redials: Redials) -> Result<Self, Fatal> {
        let mut lanes = Vec::new();
        for (lane, setup) in setups.into_iter().enumerate() {
            let mut connections = Vec::new();
            let mut carver = Carver::new(setup.staging.start);
            for (index, dialed) in setup.dialed.into_iter().enumerate() {
                let link = Link::open(ring, (lane, index), dialed, carver.take_area(INBOX_BYTES, false))?;
                connections.push(Connection::new(ring, link, setup.depth));
            }
            let block_bytes = setup.block_bytes as usize;
            let free_buffers = (0..buffers(connections.len())).map(|_| carver.take(block_bytes).start).collect();
            let LaneSetup { depth, request_timeout_ns, .. } = setup;
            let attention = Attention::from(0, request_timeout_ns);
            lanes.push(TcpLane { connections, free_buffers, chosen: 0, last: 0, depth, request_timeout_ns, attention });
        }
        Ok(Self { lanes, redials, ending: None })
    }
}

impl<R: NetRing> Sink<R> for TcpSink {
    fn room(&mut self, _ring: &mut R, lane: usize, _next_length: u64) -> Room {
        let lane = &mut self.lanes[lane];
        let count = lane.connections.len();
        // Those that wait for the kernel equally long take turns.
        let turns = (1..=count).map(|step| (lane.last + step) % count);
        let open = turns.filter(|at| lane.connections[*at].has_room(lane.depth));
        match open.min_by_key(|at| lane.connections[*at].untaken()) {
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
        let connection = &mut lane.connections[lane.chosen];
        connection.push(ring, payload, slot);
        connection.advance(ring, payload, &mut lane.free_buffers);
    }

    fn submit(&mut self, ring: &mut R, wait: Wait) -> io::Result<()> {
        let Wait::ForNs(mut ns) = wait else { return ring.enter(wait) };
        if self.lanes.iter().any(|lane| lane.connections.iter().any(Connection::is_busy)) {
            ns = ns.min(ACKNOWLEDGED_WAIT_NS);
        }
        ring.enter(Wait::ForNs(ns))
    }

    fn reap(&mut self, ring: &mut R, payloads: &mut [Payload], now_ns: u64, done: &mut Vec<Done>) {
        while let Some(completion) = ring.completion() {
            let (at, index) = link::owner_of(completion.token);
            let TcpLane { connections, free_buffers, .. } = &mut self.lanes[at];
            let connection = &mut connections[index];
            let event = connection.link.complete(ring, completion);
            let of_lane = OfLane { payload: &mut payloads[at], free_buffers };
            if connection.on_event(ring, of_lane, event, done) {
                self.redials.order_after(at, index, connection.last_use());
            }
        }
        self.redials.reopen_each(|at, index, dialed| self.lanes[at].connections[index].reopen(ring, dialed));
        for (at, (lane, payload)) in self.lanes.iter_mut().zip(payloads).enumerate() {
            lane.attention.look(now_ns);
            let TcpLane { connections, free_buffers, request_timeout_ns, attention, .. } = lane;
            let limit = (*attention, *request_timeout_ns);
            for (index, connection) in connections.iter_mut().enumerate() {
                connection.tell(ring, now_ns, done);
                if connection.check_time(ring, OfLane { payload, free_buffers }, limit, done) {
                    self.redials.order_after(at, index, connection.last_use());
                }
                if let Some(why) = connection.link.stuck(*attention) {
                    self.ending.get_or_insert(why);
                }
                // It may be a new one, or have waited for a buffer.
                connection.advance(ring, payload, free_buffers);
            }
        }
    }

    fn take_wire(&mut self, lane: usize) -> Wire {
        let mut wire = Wire::default();
        self.lanes[lane].connections.iter_mut().for_each(|connection| wire += connection.take_wire());
        wire
    }

    fn give_up(&mut self, ring: &mut R, _payloads: &mut [Payload], done: &mut Vec<Done>) {
        for connection in self.lanes.iter_mut().flat_map(|lane| &mut lane.connections) {
            connection.link.count_retransmits(ring);
            connection.leftovers(ring, done);
        }
    }

    fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }
}

const _: () = assert!(limits::QUEUE_DEPTH_MAX <= limits::WINDOW_MAX);

#[cfg(test)]
mod tests;
