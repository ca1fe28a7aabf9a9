//! What was made for a run that has not begun yet, and goes again if it never does.

use crate::plan::FilePlan;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Dropped, it takes back what it knows of; see [`Made::keep`].
#[derive(Debug, Default)]
pub struct Made {
    files: Vec<PathBuf>,
    /// The inner ones first.
    folders: Vec<PathBuf>,
    /// Nobody else has the files before they are gone.
    locks: Vec<File>,
}

/// Which of a lane's files are not there yet.
pub struct Missing {
    data: bool,
    manifest: bool,
}

impl Missing {
    pub fn of(plan: &FilePlan) -> Self {
        // A link is there, wherever it leads.
        let missing = |path: &Path| path.symlink_metadata().is_err();
        Self { data: missing(&plan.data), manifest: missing(&plan.manifest) }
    }
}

impl Made {
    /// Makes a folder and those around it.
    pub fn folder(&mut self, folder: &Path) -> io::Result<()> {
        let missing = folder.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.exists());
        let around = std::mem::take(&mut self.folders);
        self.folders = missing.map(Path::to_owned).chain(around).collect();
        fs::create_dir_all(folder)
    }

    /// Takes note of a new data file, which this run has locked, and of the manifest that it will get.
    pub fn claimed(&mut self, plan: &FilePlan, missing: &Missing, file: &File) -> io::Result<()> {
        // Somebody else may have made it meanwhile, and written it.
        if missing.data && file.metadata()?.len() == 0 {
            self.locks.push(file.try_clone()?);
            self.files.push(plan.data.clone());
            self.files.extend(missing.manifest.then(|| plan.manifest.clone()));
        }
        Ok(())
    }

    /// The run begins: everything stays.
    pub fn keep(mut self) {
        self.files.clear();
        self.folders.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // What is not there any more, or holds what others put there, is none of this run's.
        for file in &self.files {
            let _gone = fs::remove_file(file);
        }
        for folder in &self.folders {
            let _gone = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::FileLayout;
    use crate::sink::file::open;

    fn claimed(plan: &FilePlan) -> Made {
        let mut made = Made::default();
        let file = open::claim(plan, &mut made).unwrap();
        fs::write(&plan.manifest, "{}").unwrap();
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
