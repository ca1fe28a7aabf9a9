//! What was made for a run that has not begun yet, and goes again if it never does.

use crate::base::paths::{self, Durability};
use crate::plan::{FileLayout, FilePlan};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Dropped, it takes back what it knows of; see [`Made::keep`].
#[derive(Debug, Default)]
pub struct Made {
    /// A log, then the manifest, then the data, which nothing would explain without it.
    files: Vec<PathBuf>,
    /// The inner ones first.
    folders: Vec<PathBuf>,
    /// Data files that were empty, and devices. Locked: nobody else has them before all is as it was.
    locks: Vec<File>,
    /// Of what is overwritten in place.
    former: Vec<Former>,
}

/// The manifest that was there before, and its data, locked, with their length.
#[derive(Debug)]
struct Former {
    path: PathBuf,
    bytes: Vec<u8>,
    data: File,
    data_bytes: u64,
}

impl Made {
    /// Makes a folder and those around it.
    pub fn folder(&mut self, folder: &Path, durability: Durability) -> io::Result<()> {
        self.make(folder, |around| match durability {
            // A drive that syncs nothing ends the run at the data's own sync, which says what became of them.
            Durability::Synced => drop(paths::sync_folder(around)),
            Durability::Cached => {}
        })
    }

    /// What is synced in a folder outlives a power cut only where its own name does, and that of each around it.
    fn make(&mut self, folder: &Path, mut sync_names: impl FnMut(&Path)) -> io::Result<()> {
        let missing = folder.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.exists());
        let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        let around = std::mem::take(&mut self.folders);
        self.folders = missing.iter().cloned().chain(around).collect();
        fs::create_dir_all(folder)?;
        missing.iter().rev().for_each(|made| sync_names(paths::folder(made)));
        Ok(())
    }

    /// Takes note of a data file that this run has locked, and of the log and the manifest that it will get.
    pub fn claimed(&mut self, plan: &FilePlan, data_was_missing: bool, file: &File) -> io::Result<()> {
        let data_bytes = file.metadata()?.len();
        let in_place = !matches!(plan.layout, FileLayout::Rotating { .. }) && plan.layout.has_manifest();
        if in_place && fs::metadata(&plan.manifest).is_ok_and(|facts| facts.is_file()) {
            let (path, bytes) = (plan.manifest.clone(), fs::read(&plan.manifest)?);
            self.former.push(Former { path, bytes, data: file.try_clone()?, data_bytes });
        }
        // One that holds something may be lost, and is replaced: CIFS wants it closed by then.
        if data_bytes > 0 {
            return Ok(());
        }
        self.locks.push(file.try_clone()?);
        // A link is there, wherever it leads.
        let is_missing = |path: &Path| path.symlink_metadata().is_err();
        self.files.extend(plan.log.iter().filter(|log| is_missing(log)).cloned());
        if plan.layout.has_manifest() && is_missing(&plan.manifest) {
            self.files.push(plan.manifest.clone());
        }
        if data_was_missing {
            self.files.push(plan.data.clone());
        }
        Ok(())
    }

    /// The run begins: everything stays.
    pub fn keep(mut self) {
        self.files.clear();
        self.folders.clear();
        self.locks.clear();
        self.former.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for file in &self.locks {
            // Without its manifest, what was allocated would be taken for somebody's data.
            let _devices_have_no_length = file.set_len(0);
        }
        // What lies there is the earlier run's as before, and another start with this run's id is no second run.
        for Former { path, bytes, data, data_bytes } in &self.former {
            if data.metadata().is_ok_and(|facts| facts.len() == *data_bytes) {
                let _as_good_as_can_be = paths::put(path, bytes, Durability::Cached);
            }
        }
        // What is not there any more, or holds what others put there, is none of this run's.
        for file in &self.files {
            let _gone = fs::remove_file(file);
        }
        // On NFS a file that is open keeps its folder.
        self.locks.clear();
        for folder in &self.folders {
            let _gone = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use crate::plan::Existing;
    use crate::sink::file::open;

    fn claimed(plan: &FilePlan) -> Made {
        let mut made = Made::default();
        let file = open::claim(plan, "later", &mut made).unwrap();
        open::tests::manifest().write(&plan.manifest).unwrap();
        drop(file);
        made
    }

    #[test]
    fn what_was_made_goes_and_what_was_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let plan = open::tests::plan(&folder.path().join("a/b"), FileLayout::Ring { capacity_bytes: 4096 });
        drop(claimed(&plan));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no folder stays");
        claimed(&plan).keep();
        assert!(plan.data.exists() && plan.manifest.exists());
        drop(claimed(&plan));
        assert!(plan.data.exists() && plan.manifest.exists(), "they were there before");
        fs::remove_file(&plan.data).unwrap();
        let made = claimed(&plan);
        fs::write(folder.path().join("a/b/mine"), "x").unwrap();
        drop(made);
        assert!(!plan.data.exists() && plan.manifest.exists() && folder.path().join("a/b/mine").exists());
    }

    #[test]
    fn folders_are_synced_from_the_outermost_on_and_taken_back_from_the_innermost() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let (mut made, mut synced) = (Made::default(), Vec::new());
        for inner in ["a/b", "a/c/d", "a"] {
            made.make(&at(inner), |around| synced.push(around.to_owned())).unwrap();
            assert!(at(inner).is_dir());
        }
        assert_eq!(synced, [folder.path().to_owned(), at("a"), at("a"), at("a/c")], "where each has its name");
        assert_eq!(made.folders, [at("a/c/d"), at("a/c"), at("a/b"), at("a")]);
        drop(made);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// Each with what lies there before, and whether a manifest of the run that did not start stays.
    #[test]
    fn a_manifest_goes_where_the_data_are_as_they_were() {
        let (ring, device) = (FileLayout::Ring { capacity_bytes: 4096 }, FileLayout::Device { capacity_bytes: 4096 });
        for (layout, before, stays) in [(ring, "", false), (device, "", false), (ring, "lost by --overwrite", true)] {
            let folder = tempfile::tempdir().unwrap();
            let plan = open::tests::plan(folder.path(), layout);
            fs::write(&plan.data, before).unwrap();
            let made = claimed(&plan);
            fs::write(&plan.data, "allocated").unwrap();
            drop(made);
            let left = if stays { "allocated" } else { "" };
            assert_eq!(fs::read_to_string(&plan.data).unwrap(), left, "{layout:?} '{before}'");
            assert_eq!(plan.manifest.exists(), stays, "{layout:?} '{before}'");
        }
    }

    #[test]
    fn the_manifest_of_what_was_not_overwritten_is_there_again() {
        let (ring, device) = (FileLayout::Ring { capacity_bytes: 4096 }, FileLayout::Device { capacity_bytes: 4096 });
        for (layout, before, after, again) in [
            (ring, "data", "data", true),
            (ring, "data", "more data", false),
            (ring, "", "x", true),
            (device, "", "", true),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let plan = open::tests::plan(folder.path(), layout);
            fs::write(&plan.data, before).unwrap();
            let data_file = plan.data_in_manifest();
            let former = Manifest { run_id: "former".to_owned(), data_file, ..open::tests::manifest() };
            former.write(&plan.manifest).unwrap();
            let run_id = || Manifest::read(&plan.manifest).unwrap().unwrap().run_id;
            let claimed = || {
                let made = claimed(&FilePlan { existing: Existing::Replaced, ..plan.clone() });
                fs::write(&plan.data, after).unwrap();
                made
            };
            drop(claimed());
            assert_eq!(run_id() == "former", again, "{layout:?} '{before}' '{after}'");
            claimed().keep();
            assert_eq!(run_id(), "earlier");
        }
    }

    #[test]
    fn data_go_after_their_manifest_and_a_log_before() {
        let folder = tempfile::tempdir().unwrap();
        let plan = open::tests::plan(folder.path(), FileLayout::Ring { capacity_bytes: 4096 });
        let log = folder.path().join("d.log");
        let plan = FilePlan { log: Some(log.clone()), ..plan };
        assert_eq!(claimed(&plan).files, [&log, &plan.manifest, &plan.data].map(Clone::clone));
        fs::write(&log, "").unwrap();
        assert_eq!(claimed(&plan).files, [&plan.manifest, &plan.data].map(Clone::clone), "it was there before");
    }

    #[test]
    fn a_file_stays_locked_until_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let plan = open::tests::plan(folder.path(), FileLayout::Ring { capacity_bytes: 4096 });
        let made = claimed(&plan);
        let other = File::options().write(true).open(&plan.data).unwrap();
        assert!(other.try_lock().is_err());
        drop(made);
        other.try_lock().unwrap();
        assert!(!plan.data.exists());
    }
}
