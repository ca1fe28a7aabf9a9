//! What a lane leaves behind: exact lengths, synced files, and for the keeper the manifest that says so.

use super::FileLane;
use crate::base::fatal::{Exit, Fatal};
use crate::manifest::{self, Layout, Manifest};
use crate::plan::{FileLayout, Fsync};
use crate::sink::file::keeper::{Last, Order};
use crate::sink::{Kept, LaneClose};
use crate::sys::ring::Ring;

impl FileLane {
    /// That of the run that begins.
    pub(super) fn write_manifest(&self) -> Result<(), Fatal> {
        let Some(manifest) = self.manifest(false, &LaneClose::default(), 0) else { return Ok(()) };
        manifest.write(&self.plan.manifest).map_err(|error| {
            Fatal::new(Exit::Host, format!("{}: cannot write the manifest: {error}", self.plan.manifest.display()))
                .mend("free some space there and see that it can be written, or choose another --target")
        })
    }

    /// `None` where there is none beside the data.
    fn manifest(&self, complete: bool, end: &LaneClose, first_sequence: u64) -> Option<Manifest> {
        if !self.plan.layout.has_manifest() {
            return None;
        }
        let layout = match self.plan.layout {
            FileLayout::Rotating { .. } => Layout::Append,
            FileLayout::Ring { capacity_bytes } | FileLayout::Device { capacity_bytes } => {
                Layout::Ring { capacity_bytes, lap_bytes: self.lap_bytes, lap_records: self.lap_records }
            }
        };
        let went_round = self.lap_records > 0 && end.next_sequence >= self.lap_records;
        Some(Manifest {
            format: manifest::FORMAT.to_owned(),
            data_file: self.plan.data_in_manifest(),
            run_id: self.contents.run_id.clone(),
            producer_id: self.contents.producer_id,
            layout,
            records: self.contents.records.clone(),
            length_bytes: if went_round { self.lap_bytes } else { self.position() },
            complete,
            first_sequence,
            next_sequence: end.next_sequence,
            missing: end.missing.clone(),
            missing_truncated: end.missing_truncated,
            in_flight_bytes_max: self.contents.in_flight_bytes_max,
        })
    }

    /// After the drain: exact length and fsync; the keeper ends it. What the files hold does not depend on how it goes.
    pub fn close<R: Ring>(&mut self, ring: &mut R, end: &LaneClose) -> Kept {
        let first_sequence = self.kept_from(end.next_sequence);
        let error = self.conclude(ring, end, first_sequence).err();
        Kept { first_sequence: self.plan.layout.has_manifest().then_some(first_sequence), error }
    }

    fn conclude<R: Ring>(&mut self, ring: &mut R, end: &LaneClose, first_sequence: u64) -> Result<(), Fatal> {
        let failed = |error: std::io::Error| Fatal::new(Exit::Failed, format!("{}: {error}", self.plan.data.display()));
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
