//! One producer's file: where the next block goes, what is in flight, when to rotate.

mod answer;
mod close;
mod manifest;

use super::keeper::{AuditLine, KeeperLane, Order};
use super::staging::{StagedWrite, Staging};
use super::{Contents, LaneSetup, existing, names, open};
use crate::base::fatal::Fatal;
use crate::base::limits;
use crate::payload::{Payload, Starts};
use crate::plan::{FileLayout, FilePlan};
use crate::sink::{Fate, Wire};
use crate::sys::ring::{FileSlot, Ring};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;

const SYNC_BIT: u64 = 1 << 63;
const STAGED_BIT: u64 = 1 << 62;
const LANE_SHIFT: u32 = 32;
const LANE_MASK: u64 = 0xffff;

pub fn lane_of(token: u64) -> usize {
    (token >> LANE_SHIFT & LANE_MASK) as usize
}

fn token(lane: usize, index: usize, staged: bool) -> u64 {
    (lane as u64) << LANE_SHIFT | index as u64 | if staged { STAGED_BIT } else { 0 }
}

/// Records whose length is a whole number of sectors need no staging, however a block is cut.
pub fn needs_staging(plan: &FilePlan, starts: &Starts) -> bool {
    let aligned = matches!(starts, Starts::Fixed { length, .. } if length.is_multiple_of(plan.align));
    plan.direct && !aligned
}

/// A write on its way.
#[derive(Clone, Debug, Default)]
struct Operation {
    /// What is still to be written, and where it goes.
    range: Range<usize>,
    offset: u64,
    /// Where the whole write began.
    began: u64,
    file: usize,
    slot: u32,
    is_tail: bool,
    /// Times in a row that it got nowhere.
    retries: u32,
}

/// A staged block that is not wholly on the target yet.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    slot: u32,
    bytes: u64,
    ends_at: u64,
}

/// A stretch of the file that failed writes left in an unknown state.
#[derive(Clone, Copy, Debug)]
struct Damage {
    from: u64,
    to: u64,
    rest: Fate,
}

/// The two files that a rotating lane alternates between.
struct Files {
    slots: [FileSlot; 2],
    active: usize,
    in_flight: [usize; 2],
    /// The other file is ready to be switched to.
    next_ready: bool,
    /// The other file waits for its last write; this many bytes are its own.
    retiring: Option<u64>,
}

/// See the module.
pub struct FileLane {
    plan: FilePlan,
    contents: Contents,
    /// Of what is overwritten in place: whose records may be there.
    earlier_runs: Vec<String>,
    keeper: KeeperLane,
    audit_every: u64,
    files: Files,
    /// Why no file can follow the active one.
    no_next: Option<io::Error>,
    /// The active file is full, and none can follow it.
    needs_next: bool,
    /// Where the next block goes.
    offset: u64,
    /// Rings and devices go back to the start here.
    lap_bytes: u64,
    lap_records: u64,
    /// How often they did.
    lap: u64,
    starts: Starts,
    staging: Option<Staging>,
    waiting: VecDeque<Waiting>,
    operations: Box<[Operation]>,
    /// First sequence of the active file, and of the rotated ones that are kept.
    first_sequence: Option<u64>,
    rotated_first_sequences: VecDeque<u64>,
    switched_unix_ns: u64,
    hurry: bool,
    /// A block was offered since the last turn, or when the lane fell quiet.
    fresh: bool,
    quiet_since_ns: u64,
    damage: Option<Damage>,
    wire: Wire,
}

impl FileLane {
    /// Opens the first file and writes the manifest of the run that begins.
    pub fn open<R: Ring>(ring: &mut R, setup: LaneSetup<'_>) -> Result<Self, Fatal> {
        let plan = setup.plan.clone();
        let install = |error: io::Error| Fatal::host(format!("{}: {error}", plan.data.display()));
        let earlier_runs = existing::runs_beneath(&plan, &setup.contents.run_id);
        let file = open::first(&plan, setup.claimed, setup.may_prepare)?;
        let spare = file.try_clone().map_err(install)?;
        let slots = [ring.install(file).map_err(install)?, ring.install(spare).map_err(install)?];
        let period = setup.starts.period_bytes();
        let laps = match plan.layout {
            FileLayout::Rotating { .. } => 0,
            FileLayout::Ring { capacity_bytes } | FileLayout::Device { capacity_bytes } => capacity_bytes / period,
        };
        let kept = match plan.layout {
            FileLayout::Rotating { retain: Some(retain), .. } => retain.min(limits::RETAIN_MAX) as usize,
            _ => 0,
        };
        let staged = needs_staging(&plan, setup.starts);
        let depth = setup.queue_depth;
        let lane = Self {
            staging: staged.then(|| Staging::new(setup.staging, plan.align, depth)),
            waiting: VecDeque::with_capacity(depth + 1),
            operations: vec![Operation::default(); depth.max(1) + 1].into_boxed_slice(),
            files: Files { slots, active: 0, in_flight: [0; 2], next_ready: false, retiring: None },
            no_next: None,
            needs_next: false,
            offset: 0,
            lap_bytes: laps * period,
            lap_records: laps * setup.starts.count(),
            lap: 0,
            starts: setup.starts.clone(),
            contents: setup.contents,
            earlier_runs,
            keeper: setup.keeper,
            audit_every: setup.audit_every,
            first_sequence: None,
            rotated_first_sequences: VecDeque::with_capacity(kept + 1),
            switched_unix_ns: 0,
            hurry: false,
            fresh: false,
            quiet_since_ns: 0,
            damage: None,
            wire: Wire::default(),
            plan,
        };
        lane.write_manifest()?;
        Ok(lane)
    }

    /// Where the next byte of the stream goes in the active file.
    fn position(&self) -> u64 {
        self.staging.as_ref().map_or(self.offset, Staging::position)
    }

    pub fn take_wire(&mut self) -> Wire {
        std::mem::take(&mut self.wire)
    }

    /// A tail waits for more, or for its time.
    pub fn holds_tail(&self) -> bool {
        self.staging.as_ref().is_some_and(Staging::holds_tail)
    }

    /// A switch or a new file is outstanding.
    pub fn waits_for_keeper(&self) -> bool {
        let rotates = matches!(self.plan.layout, FileLayout::Rotating { .. });
        rotates && !self.files.next_ready && self.no_next.is_none()
    }

    /// Where `room` gave none: it is the keeper that is waited for, which makes a file or still syncs the one before.
    pub fn awaits_file(&self) -> bool {
        let staging_has_room = self.staging.as_ref().is_none_or(Staging::has_room);
        staging_has_room && self.waits_for_keeper() && self.files.retiring.is_none()
    }

    /// Bytes that the next block may have; goes round or rotates when the next record would not fit.
    pub fn room<R: Ring>(&mut self, ring: &mut R, at: usize, next_length: u64) -> u64 {
        if self.staging.as_ref().is_some_and(|staging| !staging.has_room()) {
            return 0;
        }
        match self.plan.layout {
            FileLayout::Rotating { limit_bytes, .. } => {
                let position = self.position();
                if position == 0 || position + next_length <= limit_bytes {
                    return limit_bytes.saturating_sub(position).max(next_length);
                }
                if self.rotate(ring, at) { limit_bytes.max(next_length) } else { 0 }
            }
            FileLayout::Ring { .. } | FileLayout::Device { .. } => {
                if self.position() < self.lap_bytes {
                    return self.lap_bytes - self.position();
                }
                if self.go_round(ring, at) { self.lap_bytes } else { 0 }
            }
        }
    }

    /// Back to the start of a ring; false: a staged tail must go out first.
    fn go_round<R: Ring>(&mut self, ring: &mut R, at: usize) -> bool {
        if !self.stage_rests(ring, at) {
            return false;
        }
        self.restart();
        self.lap += 1;
        true
    }

    /// The stream goes on at a file's start.
    fn restart(&mut self) {
        self.offset = 0;
        if let Some(staging) = &mut self.staging {
            staging.restart();
        }
    }

    /// Whether the staging is at rest, as it must be at the end of a file or lap; sends what it holds.
    fn stage_rests<R: Ring>(&mut self, ring: &mut R, at: usize) -> bool {
        if self.staging.as_ref().is_some_and(|staging| !staging.is_clean()) {
            self.flush(ring, at);
            return false;
        }
        true
    }

    /// Switches to the file that the keeper prepared; false: not yet.
    fn rotate<R: Ring>(&mut self, ring: &mut R, at: usize) -> bool {
        if self.no_next.is_some() {
            self.needs_next = true;
            return false;
        }
        let length = self.position();
        if !self.files.next_ready || self.files.retiring.is_some() {
            return false;
        }
        if !self.stage_rests(ring, at) {
            return false;
        }
        let unix_ns = self.switched_unix_ns;
        if self.keeper.order(Order::Switch { lane: self.keeper.lane, unix_ns }).is_err() {
            return false;
        }
        self.files.retiring = Some(length);
        self.files.next_ready = false;
        self.files.active ^= 1;
        self.restart();
        if let Some(first) = self.first_sequence.take() {
            let FileLayout::Rotating { retain: Some(retain), .. } = self.plan.layout else { return true };
            self.rotated_first_sequences.push_back(first);
            if self.rotated_first_sequences.len() as u64 > retain.min(limits::RETAIN_MAX) {
                self.rotated_first_sequences.pop_front();
            }
        }
        true
    }

    pub fn offer<R: Ring>(&mut self, ring: &mut R, at: usize, slot: u32, payload: &Payload, hurry: bool) {
        let block = *payload.block(slot);
        self.first_sequence.get_or_insert(block.first_sequence);
        self.switched_unix_ns = payload.timestamp_unix_ns(&block, block.records - 1).max(self.switched_unix_ns + 1);
        if self.audit_every > 0 {
            self.audit(payload, slot);
        }
        let Some(staging) = &mut self.staging else {
            let operation = Operation {
                range: block.range(),
                offset: self.offset,
                began: self.offset,
                file: self.files.active,
                slot,
                is_tail: false,
                retries: 0,
            };
            self.offset += block.bytes;
            self.start(ring, at, slot as usize, operation, false);
            return;
        };
        let write = staging.stage(ring.memory(), block.range());
        let ends_at = staging.position();
        self.fresh = true;
        self.waiting.push_back(Waiting { slot, bytes: block.bytes, ends_at });
        if let Some(write) = write {
            self.start_staged(ring, at, write);
        }
        self.hurry |= hurry;
        if self.hurry {
            self.flush(ring, at);
        }
    }

    fn audit(&self, payload: &Payload, slot: u32) {
        let block = payload.block(slot);
        let every = self.audit_every;
        let mut sequence = block.first_sequence.next_multiple_of(every);
        while sequence < block.first_sequence + block.records {
            let at = sequence - block.first_sequence;
            let (offset, length) = payload.record_of(block, at);
            self.keeper.audit(AuditLine {
                lane: self.keeper.lane,
                producer_id: self.contents.producer_id,
                sequence,
                timestamp_unix_ns: payload.timestamp_unix_ns(block, at),
                offset: self.position() + offset,
                length,
                weight: block.weight,
                lap: self.lap,
            });
            sequence += every;
        }
    }

    fn start_staged<R: Ring>(&mut self, ring: &mut R, at: usize, write: StagedWrite) {
        let operation = Operation {
            range: write.range,
            offset: write.offset,
            began: write.offset,
            file: self.files.active,
            slot: 0,
            is_tail: write.is_tail,
            retries: 0,
        };
        self.start(ring, at, write.buffer, operation, true);
    }

    fn start<R: Ring>(&mut self, ring: &mut R, at: usize, index: usize, operation: Operation, staged: bool) {
        let file = operation.file;
        let queued =
            ring.write(self.files.slots[file], operation.range.clone(), operation.offset, token(at, index, staged));
        assert!(queued, "the ring has a place for every block in flight");
        self.wire.bytes += operation.range.len() as u64;
        self.files.in_flight[file] += 1;
        self.operations[index] = operation;
    }

    /// Moves rotation forward: takes the next file, hands the old one over. Words for the user where the active file
    /// is full and no other can follow.
    pub fn turn<R: Ring>(&mut self, ring: &mut R, at: usize, now_ns: u64) -> Option<String> {
        if self.fresh {
            (self.fresh, self.quiet_since_ns) = (false, now_ns);
        }
        let quiet = now_ns.saturating_sub(self.quiet_since_ns) >= limits::LINGER_DEFAULT_NS;
        if self.staging.is_some() && (self.hurry || quiet && !self.waiting.is_empty()) {
            self.flush(ring, at);
        }
        if self.needs_next {
            let error = self.no_next.take()?;
            return Some(format!("{}: {error}", names::next_path(&self.plan.data).display()));
        }
        if !self.waits_for_keeper() {
            return None;
        }
        let other = self.files.active ^ 1;
        if self.files.in_flight[other] > 0 {
            return None;
        }
        if let Some(length) = self.files.retiring {
            let file = match ring.file(self.files.slots[other]).try_clone() {
                Ok(file) => file,
                Err(error) => return Some(format!("{}: {error}", self.plan.data.display())),
            };
            if self.keeper.order(Order::Retire { lane: self.keeper.lane, file, length }).is_ok() {
                self.files.retiring = None;
            }
            return None;
        }
        match self.keeper.take_next()?.and_then(|file| ring.replace(self.files.slots[other], file)) {
            Ok(_replaced) => self.files.next_ready = true,
            // The active file is still to be filled.
            Err(error) => self.no_next = Some(error),
        }
        None
    }

    /// Sends the padded tail, if there is one.
    pub fn flush<R: Ring>(&mut self, ring: &mut R, at: usize) {
        let Some(staging) = &mut self.staging else { return };
        let write = staging.flush(ring.memory());
        self.hurry &= staging.holds_tail();
        if let Some(write) = write {
            self.start_staged(ring, at, write);
        }
    }
}
