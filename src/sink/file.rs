//! Files and block devices. Blocks that O_DIRECT could not take as they lie go through `staging`; everything
//! that touches a directory is done by `keeper`.

pub mod existing;
pub mod keeper;
mod lane;
pub mod made;
pub mod names;
pub mod open;
mod staging;

use super::{Done, Ending, Kept, LaneClose, Room, Sink, Wire};
use crate::base::fatal::Fatal;
use crate::base::limits;
use crate::manifest::RecordFormat;
use crate::payload::{Payload, Starts};
use crate::plan::FilePlan;
use crate::sys::ring::{Ring, Wait};
use keeper::KeeperLane;
pub use lane::FileLane;
use std::fs::File;
use std::io;
use std::ops::Range;

/// A core that waits for the keeper looks again this often.
const KEEPER_WAIT_NS: u64 = 200_000;

/// What one lane's files hold, for the manifest.
#[derive(Clone, Debug)]
pub struct Contents {
    pub run_id: String,
    pub producer_id: u32,
    pub records: RecordFormat,
    pub in_flight_bytes_max: u64,
}

/// What a lane needs to be opened.
pub struct LaneSetup<'a> {
    pub plan: &'a FilePlan,
    /// The data file, as [`open::claim`] gave it.
    pub claimed: File,
    pub contents: Contents,
    pub starts: &'a Starts,
    pub queue_depth: usize,
    /// The lane's staging buffers, where [`staging_bytes`] asked for some.
    pub staging: Range<usize>,
    pub keeper: KeeperLane,
    pub audit_every: u64,
    /// Why the run will not begin, if it will not.
    pub may_prepare: &'a dyn Fn() -> Result<(), Fatal>,
}

/// Bytes of region that a lane needs beside its ring.
pub fn staging_bytes(plan: &FilePlan, starts: &Starts, block_bytes: u64, queue_depth: usize) -> u64 {
    if lane::needs_staging(plan, starts) { staging::region_bytes(block_bytes, plan.align, queue_depth) } else { 0 }
}

/// See the module.
pub struct FileSink {
    lanes: Vec<FileLane>,
    ending: Option<Ending>,
}

impl FileSink {
    pub fn new(lanes: Vec<FileLane>) -> Self {
        Self { lanes, ending: None }
    }
}

impl<R: Ring> Sink<R> for FileSink {
    fn room(&mut self, ring: &mut R, lane: usize, next_length: u64) -> Room {
        if self.ending.is_some() { Room::NONE } else { Room::bytes(self.lanes[lane].room(ring, lane, next_length)) }
    }

    fn awaits_file(&self, lane: usize) -> bool {
        self.lanes[lane].awaits_file()
    }

    fn offer(&mut self, ring: &mut R, lane: usize, slot: u32, payload: &mut Payload, hurry: bool) {
        self.lanes[lane].offer(ring, lane, slot, payload, hurry);
    }

    fn submit(&mut self, ring: &mut R, wait: Wait) -> io::Result<()> {
        let Wait::ForNs(mut ns) = wait else { return ring.enter(wait) };
        if self.lanes.iter().any(FileLane::waits_for_keeper) {
            ns = ns.min(KEEPER_WAIT_NS);
        }
        if self.lanes.iter().any(FileLane::holds_tail) {
            ns = ns.min(limits::LINGER_DEFAULT_NS);
        }
        ring.enter(Wait::ForNs(ns))
    }

    fn reap(&mut self, ring: &mut R, _payloads: &mut [Payload], now_ns: u64, done: &mut Vec<Done>) {
        while let Some(completion) = ring.completion() {
            let lane = lane::lane_of(completion.token);
            if let Some(why) = self.lanes[lane].complete(ring, lane, completion, done) {
                self.ending.get_or_insert(Ending::Broken(why));
            }
        }
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            if let Some(why) = lane.turn(ring, at, now_ns) {
                self.ending.get_or_insert(Ending::Broken(why));
            }
        }
    }

    fn flush(&mut self, ring: &mut R) {
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            lane.flush(ring, at);
        }
    }

    fn take_wire(&mut self, lane: usize) -> Wire {
        self.lanes[lane].take_wire()
    }

    fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    fn close(&mut self, ring: &mut R, lane: usize, end: &LaneClose) -> Kept {
        self.lanes[lane].close(ring, end)
    }
}
