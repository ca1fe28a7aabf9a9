//! Takes everything at once. It prices the engine itself: pacing, stamping and books without any target.

use super::{Done, Ending, Kept, LaneClose, Rest, Sink};
use crate::base::fatal::Fatal;
use crate::payload::Payload;
use crate::sys::ring::{Ring, Wait};
use std::io;

/// See the module.
pub struct NullSink {
    taken: Vec<Done>,
}

impl NullSink {
    /// `depth`: blocks of all lanes that may be offered between two calls of `reap`.
    pub fn new(depth: usize) -> Self {
        Self { taken: Vec::with_capacity(depth) }
    }
}

impl<R: Ring> Sink<R> for NullSink {
    fn room(&mut self, _ring: &mut R, _lane: usize, _next_length: u64) -> u64 {
        if self.taken.len() < self.taken.capacity() { u64::MAX } else { 0 }
    }

    fn offer(&mut self, _ring: &mut R, lane: usize, slot: u32, payload: &Payload, _hurry: bool) {
        let bytes = payload.block(slot).bytes;
        self.taken.push(Done { lane: lane as u32, slot, bytes, rest: Rest::NotSent });
    }

    fn submit(&mut self, ring: &mut R, wait: Wait) -> io::Result<()> {
        if wait == Wait::No { Ok(()) } else { ring.enter(wait) }
    }

    fn reap(&mut self, _ring: &mut R, _now_ns: u64, done: &mut Vec<Done>) {
        done.append(&mut self.taken);
    }

    fn flush(&mut self, _ring: &mut R) {}

    fn ending(&self) -> Option<&Ending> {
        None
    }

    fn close(&mut self, _ring: &mut R, _lane: usize, _end: &LaneClose) -> Result<Kept, Fatal> {
        Ok(Kept::default())
    }
}
