//! What the manifest beside a lane's files says: when its run begins, and for the keeper when it ends.

use super::FileLane;
use crate::base::fatal::{Exit, Fatal};
use crate::base::paths;
use crate::manifest::{self, Layout, Manifest};
use crate::plan::{FileLayout, Fsync};
use crate::sink::LaneClose;

impl FileLane {
    /// That of the run that begins. Data that is made durable is read by it after a power cut, so it is synced first:
    /// here, before the cores go, and in the keeper at the end (`keeper/last.rs`); never in between, when a core would
    /// wait for the drive. With `--fsync never` nothing is promised of the data, nor of what speaks of them.
    pub(super) fn write_manifest(&self) -> Result<(), Fatal> {
        let Some(manifest) = self.manifest(false, &LaneClose::default(), 0) else { return Ok(()) };
        let write = if self.plan.fsync == Fsync::Never { Manifest::write } else { Manifest::write_synced };
        let path = &self.plan.manifest;
        match write(&manifest, path) {
            // A drive that syncs nothing ends the run at the data's own sync, which says what became of them.
            Err(error) if paths::is_there_unsynced(&error) => {
                tracing::warn!(event = "manifest", "the manifest {}: {error}", path.display());
                Ok(())
            }
            written => written.map_err(|error| {
                Fatal::new(Exit::Host, format!("{}: cannot write the manifest: {error}", path.display()))
                    .mend("free some space there and see that it can be written, or choose another --target")
            }),
        }
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
            earlier_runs: self.earlier_runs.clone(),
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
