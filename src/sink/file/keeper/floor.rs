//! The floor of free space (`--min-free`): a run ends before it is passed.
//!
//! A file that gets its room beforehand is made only where that leaves the floor kept. What goes through the page cache
//! takes room as it is written: there the free space is looked at the more often the less there is above the floor.
//! NFS, CIFS and ZFS take room only when the page cache is written back, in steps: there the floor can be passed.

use crate::base::{paths, units};
use crate::plan::{FileLayout, FilePlan};
use crate::sink::file::open;
use crate::sys;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LOOK_MAX: Duration = Duration::from_secs(1);
const LOOK_MIN: Duration = Duration::from_millis(1);
/// Twice of what page caches take from one host. A run may begin at full speed, or go on so after a pause.
const FALL_BYTES_PER_SECOND_MAX: f64 = 20e9;
/// From one look to the last write of a run that the next one ends.
const STOPPING: Duration = Duration::from_millis(4);

/// The floors of all folders that a keeper's lanes write to.
pub struct Floors {
    folders: Vec<Folder>,
    next_look: Instant,
}

struct Folder {
    path: PathBuf,
    min_free_bytes: u64,
    /// Its files take room as they are written.
    grows: bool,
    /// The last look, and what was free.
    last: Option<(Instant, u64)>,
}

impl Floors {
    pub fn of<'a>(plans: impl Iterator<Item = &'a FilePlan>) -> Self {
        let mut folders: Vec<Folder> = Vec::new();
        for plan in plans.filter(|plan| plan.min_free_bytes > 0) {
            let folder = Folder::of(plan);
            if folders.iter().all(|known| known.path != folder.path) {
                folders.push(folder);
            }
        }
        Self { folders, next_look: Instant::now() }
    }

    /// Watches until `ended` is closed, or until it has ended the run.
    pub fn watch(mut self, ended: &Receiver<()>, stop: impl Fn(&str)) {
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(self.wait(Instant::now())) {
            if let Some(why) = self.look(Instant::now()) {
                stop(&why);
                return;
            }
        }
    }

    /// How long nobody needs to look.
    fn wait(&self, now: Instant) -> Duration {
        self.next_look.saturating_duration_since(now)
    }

    /// The reason to end the run, once.
    fn look(&mut self, now: Instant) -> Option<String> {
        let (mut why, mut wait) = (None, LOOK_MAX);
        for folder in &mut self.folders {
            let Ok(space) = sys::fs::space(&folder.path) else { continue };
            if folder.is_reached(now, space.available_bytes) {
                why = Some(folder.why(space.available_bytes));
            }
            wait = wait.min(folder.wait(space.available_bytes));
        }
        if why.is_some() {
            self.folders.clear();
        }
        self.next_look = now + wait;
        why
    }
}

impl Folder {
    fn of(plan: &FilePlan) -> Self {
        let grows = matches!(plan.layout, FileLayout::Rotating { .. }) && !plan.direct;
        let path = paths::folder(&plan.data).to_owned();
        Self { path, min_free_bytes: plan.min_free_bytes, grows, last: None }
    }

    /// Whether the floor is passed, or will be before a run that is told now has ended.
    fn is_reached(&mut self, now: Instant, available_bytes: u64) -> bool {
        let falls = match self.last.replace((now, available_bytes)) {
            Some((then, before)) if self.grows => {
                let fell = u128::from(before.saturating_sub(available_bytes));
                fell * STOPPING.as_nanos() / now.duration_since(then).as_nanos().max(1)
            }
            _ => 0,
        };
        u128::from(available_bytes) < u128::from(self.min_free_bytes) + falls
    }

    /// Until the next look; no run falls to the floor before.
    fn wait(&self, available_bytes: u64) -> Duration {
        if !self.grows {
            return LOOK_MAX;
        }
        let room_bytes = available_bytes.saturating_sub(self.min_free_bytes);
        Duration::from_secs_f64(room_bytes as f64 / FALL_BYTES_PER_SECOND_MAX).clamp(LOOK_MIN, LOOK_MAX)
    }

    fn why(&self, available_bytes: u64) -> String {
        let (path, floor_bytes) = (self.path.display(), self.min_free_bytes);
        format!("the free space at {path} fell to {available_bytes} bytes, and the floor is {floor_bytes} (--min-free)")
    }
}

/// Whether the floor stays kept when the lane's `nth` file gets its room. `path` may have some already.
pub fn check_room(plan: &FilePlan, path: &Path, nth: u64) -> io::Result<()> {
    let has_bytes = fs::metadata(path).map_or(0, |facts| facts.blocks() * 512);
    let takes_bytes = open::allocation_bytes(plan, nth).saturating_sub(has_bytes);
    if takes_bytes == 0 || plan.min_free_bytes == 0 {
        return Ok(());
    }
    let folder = paths::folder(path);
    let free_bytes = sys::fs::space(folder).map_or(u64::MAX, |space| space.available_bytes);
    if free_bytes >= plan.min_free_bytes.saturating_add(takes_bytes) {
        return Ok(());
    }
    let [takes, free, floor] = [takes_bytes, free_bytes, plan.min_free_bytes].map(units::format_size);
    let folder = folder.display();
    let what = format!("the next file takes {takes}, {folder} has {free} free, and the floor is {floor} (--min-free)");
    Err(io::Error::other(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::file::names;

    const ROTATING: FileLayout = FileLayout::Rotating { limit_bytes: 4096, retain: None };

    fn folder(layout: FileLayout, direct: bool, min_free_bytes: u64) -> Folder {
        Folder::of(&FilePlan { direct, min_free_bytes, ..open::tests::plan(Path::new("data"), layout) })
    }

    /// What is left above the floor by the time that a run has ended, which idles at first.
    fn left_bytes(room_bytes: u64, bytes_per_second: u64) -> i64 {
        let mut folder = folder(ROTATING, false, 1 << 20);
        let began = Instant::now();
        let idle = Duration::from_secs(3);
        let room_at = |at: Duration| {
            let busy = at.saturating_sub(idle);
            room_bytes as i64 - (u128::from(bytes_per_second) * busy.as_nanos() / 1_000_000_000) as i64
        };
        let mut at = Duration::ZERO;
        loop {
            let available_bytes = u64::try_from(room_at(at) + (1 << 20)).unwrap_or(0);
            if folder.is_reached(began + at, available_bytes) {
                return room_at(at + Duration::from_millis(2));
            }
            at += folder.wait(available_bytes);
        }
    }

    #[test]
    fn a_run_ends_near_the_floor_and_above_it() {
        for room_bytes in [50_000_000, 400_000_000, 100_000_000_000] {
            for bytes_per_second in [1_000_000, 200_000_000, 2_000_000_000, 8_000_000_000] {
                let left = left_bytes(room_bytes, bytes_per_second);
                let near = bytes_per_second as i64 / 200;
                assert!((0..=near).contains(&left), "{room_bytes} B at {bytes_per_second} B/s: {left}");
            }
        }
    }

    #[test]
    fn what_has_its_room_is_looked_at_once_a_second() {
        let folders = [
            folder(ROTATING, true, 1 << 20),
            folder(FileLayout::Ring { capacity_bytes: 4096 }, false, 1 << 20),
            folder(FileLayout::Ring { capacity_bytes: 4096 }, true, 1 << 20),
        ];
        let began = Instant::now();
        for mut folder in folders {
            assert_eq!(folder.wait(1 << 21), LOOK_MAX);
            assert!(!folder.is_reached(began, 1 << 30));
            assert!(!folder.is_reached(began + LOOK_MIN, 1 << 20), "a file that was made is no rate");
            assert!(folder.is_reached(began + LOOK_MAX, (1 << 20) - 1));
        }
    }

    #[test]
    fn a_floor_is_told_once() {
        let here = tempfile::tempdir().unwrap();
        let plan = FilePlan { min_free_bytes: u64::MAX, ..open::tests::plan(here.path(), ROTATING) };
        let mut floors = Floors::of([&plan, &plan].into_iter());
        assert_eq!(floors.folders.len(), 1);
        let now = Instant::now();
        let why = floors.look(now).unwrap();
        assert!(why.contains("--min-free") && why.contains(&here.path().display().to_string()), "{why}");
        assert!(floors.look(now + LOOK_MAX).is_none());
        let unlimited = FilePlan { min_free_bytes: 0, ..plan };
        assert!(Floors::of([&unlimited].into_iter()).look(now + LOOK_MAX).is_none());
    }

    #[test]
    fn a_file_is_made_where_the_floor_stays_kept() {
        let here = tempfile::tempdir().unwrap();
        let free_bytes = sys::fs::space(here.path()).unwrap().available_bytes;
        let layout = FileLayout::Rotating { limit_bytes: free_bytes, retain: None };
        let min_free_bytes = free_bytes / 2;
        let plan = FilePlan { direct: true, align: 512, min_free_bytes, ..open::tests::plan(here.path(), layout) };
        let next = names::next_path(&plan.data);
        let why = check_room(&plan, &next, 1).unwrap_err().to_string();
        assert!(why.contains("--min-free"), "{why}");
        for plan in [
            FilePlan { min_free_bytes: 0, ..plan.clone() },
            FilePlan { direct: false, ..plan.clone() },
            FilePlan { run_bytes_max: 4096, ..plan.clone() },
            FilePlan { layout: ROTATING, ..plan },
        ] {
            check_room(&plan, &next, 1).unwrap();
        }
    }
}
