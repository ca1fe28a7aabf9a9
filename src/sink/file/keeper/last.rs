//! The order in which a lane is left: each file under its name, then the manifest that calls the data complete,
//! then the lock. Whatever ends the process in between leaves a manifest that says so.

use super::LaneFiles;
use crate::manifest::Manifest;
use crate::plan::{FileLayout, Fsync};
use crate::sink::file::{names, open};
use std::fs::File;
use std::io;

/// What a lane leaves when it is closed.
pub struct Last {
    /// The file that was written last, which stays locked until the folder is in order. `None`: the kernel may still be
    /// at it, and has the lock until that is over.
    pub file: Option<File>,
    /// Of the complete data; `None` where there is none beside them.
    pub manifest: Option<Manifest>,
}

impl LaneFiles {
    pub(super) fn end(&mut self) -> io::Result<()> {
        let ended = self.put_in_order();
        // A lane that crashed, or could not bring its data to rest, has left nothing.
        let Ok(Last { file, manifest }) = self.last.try_recv() else { return ended };
        let ended = ended.and_then(|()| manifest.map_or(Ok(()), |manifest| self.write(&manifest)));
        // Only then may another process have the folder.
        file.iter().for_each(open::unlock);
        ended
    }

    /// The file that was prepared and never needed goes.
    fn put_in_order(&mut self) -> io::Result<()> {
        match (self.plan.layout, self.switching.take()) {
            // What kept it from its name may be over.
            (FileLayout::Rotating { .. }, Some(suffix)) => {
                let spare = self.switch_data(suffix).and_then(|()| self.let_go());
                spare.and_then(|spare| spare.map_or(Ok(()), |spare| open::remove_if_there(&spare)))
            }
            (FileLayout::Rotating { .. }, None) => open::remove_if_there(&names::next_path(&self.plan.data)),
            (FileLayout::Ring { .. } | FileLayout::Device { .. }, _) => Ok(()),
        }
    }

    fn write(&self, manifest: &Manifest) -> io::Result<()> {
        let path = &self.plan.manifest;
        let write = if self.plan.fsync == Fsync::Never { Manifest::write } else { Manifest::write_synced };
        write(manifest, path).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot write the manifest {}: {error}", path.display()))
        })
    }
}
