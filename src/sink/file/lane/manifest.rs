//! What the manifest beside a lane's files says: when its run begins, and for the keeper when it ends.

use super::FileLane;
use crate::base::fatal::{Exit, Fatal};
use crate::manifest::{self, Layout, Manifest};
use crate::plan::FileLayout;
use crate::sink::LaneClose;

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
    pub(super) fn manifest(&self, complete: bool, end: &LaneClose, first_sequence: u64) -> Option<Manifest> {
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
}
