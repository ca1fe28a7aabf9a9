//! Takes everything at once. It prices the engine itself: pacing, stamping and books without any target.

use super::{Done, Fate, Room, Sink, Wire};
use crate::payload::Payload;
use crate::sys::ring::{Ring, Wait};
use std::io;

/// See the module.
pub struct NullSink {
    taken: Vec<Done>,
    /// Bytes of each lane that nobody has asked for.
    wire: Vec<u64>,
}

impl NullSink {
    /// `depth`: blocks of all lanes that may be offered between two calls of `reap`.
    pub fn new(lanes: usize, depth: usize) -> Self {
        Self { taken: Vec::with_capacity(depth), wire: vec![0; lanes] }
    }
}

impl<R: Ring> Sink<R> for NullSink {
    fn room(&mut self, _ring: &mut R, _lane: usize, _next_length: u64) -> Room {
        if self.taken.len() < self.taken.capacity() { Room::bytes(u64::MAX) } else { Room::NONE }
    }

    fn offer(&mut self, _ring: &mut R, lane: usize, slot: u32, payload: &mut Payload, _hurry: bool) {
        self.wire[lane] += payload.block(slot).span_bytes;
        self.taken.push(Done::rest(lane, slot, Fate::Produced));
    }

    fn submit(&mut self, ring: &mut R, wait: Wait) -> io::Result<()> {
        // What was taken is told at once; there is nothing to wait for.
        if wait == Wait::No || !self.taken.is_empty() { Ok(()) } else { ring.enter(wait) }
    }

    fn reap(&mut self, _ring: &mut R, _payloads: &mut [Payload], _now_ns: u64, done: &mut Vec<Done>) {
        done.append(&mut self.taken);
    }

    fn take_wire(&mut self, lane: usize) -> Wire {
        Wire { bytes: std::mem::take(&mut self.wire[lane]), ..Wire::default() }
    }
}
