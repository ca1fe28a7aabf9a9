//! What a lane leaves behind: exact lengths, synced files, and for the keeper the manifest that says so.

use super::FileLane;
use crate::plan::{FileLayout, Fsync};
use crate::sink::file::keeper::{Last, Order};
use crate::sink::{Kept, LaneClose};
use crate::sys::ring::Ring;

impl FileLane {
    /// After the drain: exact length and fsync; the keeper ends it. What the files hold does not depend on how it goes.
    pub fn close<R: Ring>(&mut self, ring: &mut R, end: &LaneClose) -> Kept {
        let first_sequence = self.kept_from(end.next_sequence);
        let error = self.conclude(ring, end, first_sequence).err();
        Kept { first_sequence: self.plan.layout.has_manifest().then_some(first_sequence), error }
    }

    fn conclude<R: Ring>(&mut self, ring: &mut R, end: &LaneClose, first_sequence: u64) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.plan.data.display());
        if let Some(length) = self.files.retiring.take() {
            let file = ring.file(self.files.slots[self.files.active ^ 1]).try_clone().map_err(failed)?;
            // Its last writes were given up, but it is a rotated file all the same.
            self.keeper.order_last(Order::Retire { lane: self.keeper.lane, file, length });
        }
        let file = ring.file(self.files.slots[self.files.active]);
        let rotating = matches!(self.plan.layout, FileLayout::Rotating { .. });
        if rotating {
            file.set_len(self.position()).map_err(failed)?;
        }
        if self.plan.fsync != Fsync::Never {
            match file.sync_data() {
                // Character devices have nothing to bring to rest.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !rotating => {}
                synced => synced.map_err(failed)?,
            }
        }
        // Where a write was given up, the kernel may still be at it: the file is then locked until that is over.
        let file = if self.files.in_flight == [0, 0] { file.try_clone().ok() } else { None };
        self.keeper.hold(Last { file, manifest: self.manifest(true, end, first_sequence) });
        Ok(())
    }

    /// Records of the ring's older lap that the padding of the last sector covers.
    fn padded_over(&self, next_sequence: u64) -> u64 {
        let position = self.position();
        let end = position.next_multiple_of(self.plan.align).min(self.lap_bytes);
        if next_sequence <= self.lap_records || self.staging.is_none() || position == end {
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
