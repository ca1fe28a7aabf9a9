//! One producer's file: where the next block goes, what is in flight, when to rotate.

use super::keeper::{AuditLine, KeeperLane, Order};
use super::stage::{Stage, StagedWrite};
use super::{Contents, LaneSetup, open};
use crate::base::fatal::{Exit, Fatal};
use crate::base::limits;
use crate::counters::Field;
use crate::manifest::{self, Layout, Manifest};
use crate::payload::{Payload, Starts};
use crate::plan::{FileLayout, FilePlan, Fsync};
use crate::sink::{Done, Kept, LaneClose, Rest};
use crate::sys::ring::{Completion, FileSlot, Ring};
use std::collections::VecDeque;
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
    block_bytes: u64,
    is_tail: bool,
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
    rest: Rest,
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
    keeper: KeeperLane,
    audit_every: u64,
    files: Files,
    /// Where the next block goes.
    offset: u64,
    /// Rings and devices go back to the start here.
    lap_bytes: u64,
    lap_records: u64,
    starts: Starts,
    stage: Option<Stage>,
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
}

impl FileLane {
    /// Opens the first file and writes the manifest of the run that begins.
    pub fn open<R: Ring>(ring: &mut R, setup: LaneSetup<'_>) -> Result<Self, Fatal> {
        let plan = setup.plan.clone();
        let install = |error: std::io::Error| Fatal::host(format!("{}: {error}", plan.data.display()));
        let file = open::first(&plan)?;
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
            stage: staged.then(|| Stage::new(setup.staging, plan.align, depth)),
            waiting: VecDeque::with_capacity(depth + 1),
            operations: vec![Operation::default(); depth.max(1) + 1].into_boxed_slice(),
            files: Files { slots, active: 0, in_flight: [0; 2], next_ready: false, retiring: None },
            offset: 0,
            lap_bytes: laps * period,
            lap_records: laps * setup.starts.count(),
            starts: setup.starts.clone(),
            contents: setup.contents,
            keeper: setup.keeper,
            audit_every: setup.audit_every,
            first_sequence: None,
            rotated_first_sequences: VecDeque::with_capacity(kept + 1),
            switched_unix_ns: 0,
            hurry: false,
            fresh: false,
            quiet_since_ns: 0,
            damage: None,
            plan,
        };
        lane.write_manifest(false, &LaneClose::default(), 0)?;
        Ok(lane)
    }

    fn write_manifest(&self, complete: bool, end: &LaneClose, first_sequence: u64) -> Result<(), Fatal> {
        let layout = match self.plan.layout {
            FileLayout::Rotating { .. } => Layout::Append,
            FileLayout::Ring { capacity_bytes } => {
                Layout::Ring { capacity_bytes, lap_bytes: self.lap_bytes, lap_records: self.lap_records }
            }
            FileLayout::Device { .. } => return Ok(()),
        };
        let went_round = self.lap_records > 0 && end.next_sequence >= self.lap_records;
        let manifest = Manifest {
            format: manifest::FORMAT.to_owned(),
            run_id: self.contents.run_id.clone(),
            producer_id: self.contents.producer_id,
            layout,
            records: self.contents.records.clone(),
            length_bytes: if went_round { self.lap_bytes } else { self.position() },
            complete,
            first_sequence,
            next_sequence: end.next_sequence,
            missing: end.missing.clone(),
            in_flight_bytes_max: self.contents.in_flight_bytes_max,
        };
        manifest.write(&self.plan.manifest).map_err(|error| {
            Fatal::new(Exit::Host, format!("{}: cannot write the manifest: {error}", self.plan.manifest.display()))
                .mend("free some space there, or choose another --target")
        })
    }

    /// Where the next byte of the stream goes in the active file.
    fn position(&self) -> u64 {
        self.stage.as_ref().map_or(self.offset, Stage::position)
    }

    /// A tail waits for more, or for its time.
    pub fn holds_tail(&self) -> bool {
        self.stage.as_ref().is_some_and(Stage::holds_tail)
    }

    /// A switch or a new file is outstanding.
    pub fn waits_for_keeper(&self) -> bool {
        matches!(self.plan.layout, FileLayout::Rotating { .. }) && !self.files.next_ready
    }

    /// Bytes that the next block may have; goes round or rotates when the next record would not fit.
    pub fn room<R: Ring>(&mut self, ring: &mut R, at: usize, next_length: u64) -> u64 {
        if self.stage.as_ref().is_some_and(|stage| !stage.has_room()) {
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
        if !self.settle_stage(ring, at) {
            return false;
        }
        self.offset = 0;
        true
    }

    /// Brings the stage to rest at the end of a file or lap.
    fn settle_stage<R: Ring>(&mut self, ring: &mut R, at: usize) -> bool {
        if self.stage.as_ref().is_some_and(|stage| !stage.is_clean()) {
            self.flush(ring, at);
            return false;
        }
        if let Some(stage) = &mut self.stage {
            stage.restart();
        }
        true
    }

    /// Switches to the file that the keeper prepared; false: not yet.
    fn rotate<R: Ring>(&mut self, ring: &mut R, at: usize) -> bool {
        let length = self.position();
        if !self.files.next_ready || self.files.retiring.is_some() {
            return false;
        }
        if !self.settle_stage(ring, at) {
            return false;
        }
        let unix_ns = self.switched_unix_ns;
        if self.keeper.order(Order::Switch { lane: self.keeper.lane, unix_ns }).is_err() {
            return false;
        }
        self.files.retiring = Some(length);
        self.files.next_ready = false;
        self.files.active ^= 1;
        self.offset = 0;
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
        let Some(stage) = &mut self.stage else {
            let operation = Operation {
                range: block.range(),
                offset: self.offset,
                began: self.offset,
                file: self.files.active,
                slot,
                block_bytes: block.bytes,
                is_tail: false,
            };
            self.offset += block.bytes;
            self.start(ring, at, slot as usize, operation, false);
            return;
        };
        let write = stage.stage(ring.memory(), block.range());
        let ends_at = stage.position();
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
            block_bytes: 0,
            is_tail: write.is_tail,
        };
        self.start(ring, at, write.buffer, operation, true);
    }

    fn start<R: Ring>(&mut self, ring: &mut R, at: usize, index: usize, operation: Operation, staged: bool) {
        let file = operation.file;
        let queued =
            ring.write(self.files.slots[file], operation.range.clone(), operation.offset, token(at, index, staged));
        assert!(queued, "the ring has a place for every block in flight");
        self.files.in_flight[file] += 1;
        self.operations[index] = operation;
    }

    /// Takes one completion; words for the user where the target is broken.
    pub fn complete<R: Ring>(
        &mut self,
        ring: &mut R,
        at: usize,
        completion: Completion,
        done: &mut Vec<Done>,
    ) -> Option<String> {
        let (staged, synced) = (completion.token & STAGED_BIT != 0, completion.token & SYNC_BIT != 0);
        let index = (completion.token & 0xffff_ffff) as usize;
        let operation = &mut self.operations[index];
        let file = operation.file;
        let slot = self.files.slots[file];
        let again = matches!(-completion.result, libc::EAGAIN | libc::EINTR);
        if completion.result < 0 && !again || completion.result == 0 && !synced {
            return Some(self.fail(at, completion, done));
        }
        if !synced {
            // A direct write that came out short goes on at the sector that it did not finish.
            let wrote = completion.result.max(0) as usize;
            let wrote = if wrote == operation.range.len() { wrote } else { wrote - wrote % self.plan.align as usize };
            operation.range.start += wrote;
            operation.offset += wrote as u64;
        }
        let queued = if !operation.range.is_empty() {
            ring.write(slot, operation.range.clone(), operation.offset, completion.token)
        } else if self.plan.fsync == Fsync::Each && (!synced || again) {
            ring.sync(slot, completion.token | SYNC_BIT)
        } else {
            self.finish(index, staged, at, done);
            return None;
        };
        assert!(queued, "a completed operation left its place free");
        None
    }

    /// A write is wholly on the target.
    fn finish(&mut self, index: usize, staged: bool, at: usize, done: &mut Vec<Done>) {
        let operation = &self.operations[index];
        self.files.in_flight[operation.file] -= 1;
        if staged {
            self.finish_staged(index, at, done);
        } else {
            done.push(produced(at, operation.slot, operation.block_bytes));
        }
    }

    /// A staged write came to its end: so did the blocks that no write is outstanding for.
    fn finish_staged(&mut self, index: usize, at: usize, done: &mut Vec<Done>) {
        let Some(stage) = &mut self.stage else { return };
        stage.finish(index, self.operations[index].is_tail);
        while let Some(block) = self.waiting.front().filter(|block| block.ends_at <= stage.covered) {
            let start = block.ends_at - block.bytes;
            let hit = self.damage.filter(|damage| start < damage.to && damage.from < block.ends_at);
            done.push(match hit {
                None => produced(at, block.slot, block.bytes),
                Some(damage) => {
                    let bytes = damage.from.saturating_sub(start);
                    Done { lane: at as u32, slot: block.slot, bytes, rest: damage.rest }
                }
            });
            self.waiting.pop_front();
        }
    }

    /// A write or its sync failed for good. What it wrote before counts, unless each write is to be synced.
    fn fail(&mut self, at: usize, completion: Completion, done: &mut Vec<Done>) -> String {
        let (staged, synced) = (completion.token & STAGED_BIT != 0, completion.token & SYNC_BIT != 0);
        let index = (completion.token & 0xffff_ffff) as usize;
        let errno = if completion.result == 0 { libc::ENOSPC } else { -completion.result };
        let kind = match errno {
            libc::ENOSPC | libc::EDQUOT | libc::EFBIG => Field::ErrorNoSpace,
            _ => Field::ErrorIo,
        };
        let operation = &self.operations[index];
        let wrote = operation.offset - operation.began;
        let (bytes, rest) = match self.plan.fsync {
            Fsync::Each if wrote > 0 => (0, Rest::Uncertain(kind)),
            _ => (wrote, Rest::Failed(kind)),
        };
        let (what, position) = (if synced { "fdatasync behind" } else { "write at" }, operation.offset);
        self.files.in_flight[operation.file] -= 1;
        if staged {
            let (from, to) = (operation.began + bytes, operation.offset + operation.range.len() as u64);
            let mine = Damage { from, to, rest };
            let worse = |old: Damage| Damage { from: old.from.min(from), to: old.to.max(to), rest: old.rest };
            self.damage = Some(self.damage.map_or(mine, worse));
            self.finish_staged(index, at, done);
        } else {
            done.push(Done { lane: at as u32, slot: operation.slot, bytes, rest });
        }
        let error = std::io::Error::from_raw_os_error(errno);
        format!("{}: {what} {position} failed: {error}", self.plan.data.display())
    }

    /// Moves rotation forward: takes the next file, hands the old one over. Words for the user where there is
    /// no next file.
    pub fn turn<R: Ring>(&mut self, ring: &mut R, at: usize, now_ns: u64) -> Option<String> {
        if self.fresh {
            (self.fresh, self.quiet_since_ns) = (false, now_ns);
        }
        let quiet = now_ns.saturating_sub(self.quiet_since_ns) >= limits::LINGER_DEFAULT_NS;
        if self.stage.is_some() && (self.hurry || quiet && !self.waiting.is_empty()) {
            self.flush(ring, at);
        }
        if !matches!(self.plan.layout, FileLayout::Rotating { .. }) || self.files.next_ready {
            return None;
        }
        let other = self.files.active ^ 1;
        if self.files.in_flight[other] > 0 {
            return None;
        }
        if let Some(length) = self.files.retiring {
            let Ok(file) = ring.file(self.files.slots[other]).try_clone() else { return None };
            if self.keeper.order(Order::Retire { lane: self.keeper.lane, file, length }).is_ok() {
                self.files.retiring = None;
            }
            return None;
        }
        let next = self.keeper.take_next()?.and_then(|file| ring.replace(self.files.slots[other], file));
        self.files.next_ready = next.is_ok();
        next.err().map(|error| format!("{}: {error}", open::next_path(&self.plan.data).display()))
    }

    /// Sends the padded tail, if there is one.
    pub fn flush<R: Ring>(&mut self, ring: &mut R, at: usize) {
        let Some(stage) = &mut self.stage else { return };
        let write = stage.flush(ring.memory());
        self.hurry &= stage.holds_tail();
        if let Some(write) = write {
            self.start_staged(ring, at, write);
        }
    }

    /// After the drain: exact length, fsync, manifest.
    pub fn close<R: Ring>(&mut self, ring: &mut R, end: &LaneClose) -> Result<Kept, Fatal> {
        let failed = |error: std::io::Error| Fatal::new(Exit::Failed, format!("{}: {error}", self.plan.data.display()));
        let other = ring.file(self.files.slots[self.files.active ^ 1]);
        if let (Some(length), Ok(file)) = (self.files.retiring.take(), other.try_clone()) {
            // Its last writes were given up, but it is a rotated file all the same.
            self.keeper.order_last(Order::Retire { lane: self.keeper.lane, file, length });
        }
        let file = ring.file(self.files.slots[self.files.active]);
        let rotating = matches!(self.plan.layout, FileLayout::Rotating { .. });
        if rotating {
            file.set_len(self.position()).map_err(failed)?;
        }
        if self.plan.fsync != Fsync::Never {
            file.sync_data().map_err(failed)?;
        }
        let first_sequence = self.kept_from(end.next_sequence);
        self.write_manifest(true, end, first_sequence)?;
        Ok(Kept { first_sequence: Some(first_sequence) })
    }

    /// Records of the ring's older lap that the padding of the last sector covers.
    fn padded_over(&self, next_sequence: u64) -> u64 {
        let position = self.position();
        let end = position.next_multiple_of(self.plan.align).min(self.lap_bytes);
        if next_sequence <= self.lap_records || self.stage.is_none() || position == end {
            return 0;
        }
        let (count, period) = (self.starts.count(), self.starts.period_bytes());
        let mut covered = 0;
        let mut at = next_sequence % self.lap_records;
        while at < self.lap_records && at / count * period + self.starts.start(at % count) < end {
            (at, covered) = (at + 1, covered + 1);
        }
        covered
    }

    /// The first sequence that the files still hold.
    fn kept_from(&self, next_sequence: u64) -> u64 {
        match self.plan.layout {
            FileLayout::Rotating { retain: None, .. } => 0,
            FileLayout::Rotating { retain: Some(_), .. } => {
                let oldest = self.rotated_first_sequences.front().copied();
                oldest.or(self.first_sequence).unwrap_or(next_sequence)
            }
            _ => next_sequence.saturating_sub(self.lap_records) + self.padded_over(next_sequence),
        }
    }
}

fn produced(at: usize, slot: u32, bytes: u64) -> Done {
    Done { lane: at as u32, slot, bytes, rest: Rest::NotSent }
}
