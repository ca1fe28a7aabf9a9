//! Openings and locks of data files, before the barrier and on the keeper's thread.
//!
//! What has the name of a data file is locked by the run that writes it, from before anything in the folder is changed
//! until the keeper has put the folder in order. The lock lives in the open file itself: whoever holds a descriptor of
//! it, the ring included, holds the lock.

use super::existing;
use super::made::Made;
use super::names::{lap_log, next_path, rotated};
use crate::base::fatal::{Exit, Fatal};
use crate::base::paths::{self, Durability};
use crate::base::{limits, program};
use crate::manifest::Manifest;
use crate::plan::{Existing, FileLayout, FilePlan, Fsync};
use crate::sys;
use std::cmp::Ordering;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

const LOCK_WAIT: Duration = Duration::from_nanos(limits::FILE_LOCK_WAIT_NS);
const LOCK_LOOK: Duration = Duration::from_millis(10);

/// Opens one data file at `path` and makes it where it is not there; what it holds stays as it is. A device of that name
/// would be written over from its start: it is none.
fn open_as_it_is(plan: &FilePlan, path: &Path) -> io::Result<File> {
    let direct = if plan.direct { libc::O_DIRECT } else { 0 };
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match plan.layout {
        FileLayout::Device { .. } => options.custom_flags(direct | libc::O_EXCL).open(path),
        FileLayout::Ring { .. } | FileLayout::Rotating { .. } => {
            let file = options.custom_flags(direct).create(true).truncate(false).open(path)?;
            let what = || io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
            if file.metadata()?.is_file() { Ok(file) } else { Err(what()) }
        }
    }
}

/// Space that the lane's `nth` rotating file, counted from 0, is given before it is written.
pub fn allocation_bytes(plan: &FilePlan, nth: u64) -> u64 {
    match plan.layout {
        // A direct write that extends the file makes all others wait; a buffered one does not care.
        FileLayout::Rotating { limit_bytes, .. } if plan.direct => {
            let left = plan.run_bytes_max.saturating_sub(limit_bytes.saturating_mul(nth));
            limit_bytes.min(left).next_multiple_of(plan.align)
        }
        FileLayout::Rotating { .. } | FileLayout::Ring { .. } | FileLayout::Device { .. } => 0,
    }
}

/// Gives a file the length and the space that the plan wants, while `may_prepare` says yes.
fn size(plan: &FilePlan, file: &File, nth: u64, may_prepare: &dyn Fn() -> bool) -> io::Result<()> {
    match plan.layout {
        FileLayout::Ring { capacity_bytes } => match file.metadata()?.len().cmp(&capacity_bytes) {
            Ordering::Greater => file.set_len(capacity_bytes),
            Ordering::Less => sys::file::preallocate(file, capacity_bytes, may_prepare),
            Ordering::Equal => Ok(()),
        },
        FileLayout::Rotating { .. } => match allocation_bytes(plan, nth) {
            0 => Ok(()),
            bytes => sys::file::preallocate(file, bytes, may_prepare),
        },
        FileLayout::Device { .. } => Ok(()),
    }
}

/// Opens, locks and sizes the lane's `nth` file, which is to follow the active one.
pub fn create(plan: &FilePlan, path: &Path, nth: u64) -> io::Result<File> {
    let file = open_locked(plan, path)?;
    if let Err(error) = size(plan, &file, nth, &|| true) {
        // The run goes on until the active file is full, and its manifest takes some room as well.
        let _given_back = file.set_len(0);
        return Err(error);
    }
    Ok(file)
}

fn open_locked(plan: &FilePlan, path: &Path) -> io::Result<File> {
    let locked = patiently(Instant::now(), || {
        let file = open_as_it_is(plan, path)?;
        Ok(lock(&file)?.then_some(file))
    })?;
    locked.ok_or_else(|| io::Error::new(io::ErrorKind::WouldBlock, "another process is writing it"))
}

/// Looks for a file that nobody else has, again and again for a while: the kernel lets go of a killed process's files a
/// little after it is gone, and who looks in vain has one for a moment.
fn patiently<T>(began: Instant, mut look: impl FnMut() -> io::Result<Option<T>>) -> io::Result<Option<T>> {
    loop {
        let found = look()?;
        if found.is_some() || began.elapsed() >= LOCK_WAIT {
            return Ok(found);
        }
        std::thread::sleep(LOCK_LOOK);
    }
}

/// Locks the open file; false: somebody else has. A file system without locks lets everybody pass.
fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENOLCK | libc::ENOSYS | libc::EINVAL) => Ok(true),
            _ => Err(error),
        },
    }
}

/// Nobody here writes the file any more, though somebody may still have it open.
pub fn unlock(file: &File) {
    let _where_there_are_locks = file.unlock();
}

/// Makes the folder, opens the lane's data file and locks it. Nothing that is there is changed; `made` hears of what
/// was not. `run_id` is that of the run that begins.
///
/// # Errors
/// Exit 2 where data lie by now that must not be lost, or no regular file, 3 where another process is writing it or the
/// host has no room for it, 5 where it cannot be opened.
pub fn claim(plan: &FilePlan, run_id: &str, made: &mut Made) -> Result<File, Fatal> {
    let data_was_missing = plan.data.symlink_metadata().is_err();
    let durability = if plan.fsync == Fsync::Never { Durability::Cached } else { Durability::Synced };
    made.folder(paths::folder(&plan.data), durability)
        .map_err(|error| blame(plan, &error, "cannot make its folder"))?;
    let claimed = patiently(Instant::now(), || try_claim(plan));
    let claimed = claimed.map_err(|error| blame(plan, &error, "cannot be opened for writing"))?;
    let claimed = claimed.ok_or_else(|| busy(plan))?;
    // The run that had it may have ended while this one waited, and its data are finished.
    if let Some(fatal) = existing::in_the_way(plan, Some(run_id)).into_iter().next() {
        return Err(fatal);
    }
    made.claimed(plan, data_was_missing, &claimed).map_err(|error| blame(plan, &error, "cannot be used"))?;
    Ok(claimed)
}

fn busy(plan: &FilePlan) -> Fatal {
    let data = program::quoted_path(&plan.data);
    Fatal::host(format!("{}: another process is writing it", plan.data.display()))
        .mend(format!("end that run (`fuser -v {data}` names it), or choose another --target"))
}

/// What lies there is being written just now: nobody is to be told how to lose it. What a run that was killed
/// had in flight holds the lock a moment longer; `began`: since when that is waited for, once for all files of a plan.
pub fn in_use(plan: &FilePlan, began: Instant) -> Option<Fatal> {
    // What cannot be opened is judged elsewhere.
    let locked = |path: &Path| is_locked(path).unwrap_or(false);
    let on_device = matches!(plan.layout, FileLayout::Device { .. });
    let free = patiently(began, || Ok((on_device || is_free(plan, locked)).then_some(()))).unwrap_or_default();
    free.is_none().then(|| busy(plan))
}

/// Whether nobody writes what has the names of the plan's files. Of a run that switches them meanwhile the first look may
/// find nothing, or what it has let go of, and the second one that the next file has gone: by then it has the first name.
fn is_free(plan: &FilePlan, mut locked: impl FnMut(&Path) -> bool) -> bool {
    !locked(&plan.data) && !locked(&next_path(&plan.data)) && !locked(&plan.data)
}

/// `None`: somebody else has it, or the file that is prepared to follow it.
fn try_claim(plan: &FilePlan) -> io::Result<Option<File>> {
    let file = open_as_it_is(plan, &plan.data)?;
    if matches!(plan.layout, FileLayout::Device { .. }) {
        return Ok(Some(file));
    }
    // In this order: while a run switches files, its data file is missing for a moment, but the next one is there and
    // locked. Once that has taken the name, what was opened here no longer lies there.
    let ours = lock(&file)? && !is_locked(&next_path(&plan.data))? && lies_at(&file, &plan.data)?;
    Ok(ours.then_some(file))
}

fn is_locked(path: &Path) -> io::Result<bool> {
    // A pipe would wait for its reader.
    if fs::metadata(path).is_ok_and(|facts| !facts.is_file()) {
        return Ok(false);
    }
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => lock(&file).map(|ours| !ours),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn lies_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn blame(plan: &FilePlan, error: &io::Error, what: &str) -> Fatal {
    let (exit, mend) = match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => {
            (Exit::Host, "free some space (`df`, `quota`), or a smaller --preallocate, --footprint or --rotate-size-mb")
        }
        Some(libc::EFBIG) => {
            (Exit::Host, "raise `ulimit -f`, or a smaller --preallocate, --footprint or --rotate-size-mb")
        }
        Some(libc::EROFS) => (Exit::Host, "`mount -o remount,rw` it, or choose another --target"),
        None if error.kind() == io::ErrorKind::InvalidInput => {
            (Exit::Usage, "another PATH; a device is a --target itself")
        }
        _ => (Exit::Unreachable, "choose another --target, or give the user the right to write there"),
    };
    Fatal::new(exit, format!("{}: {what}: {error}", plan.data.display())).mend(mend)
}

/// The lane's first file, out of the claimed one. Rotated files and logs of an earlier run go. `may_prepare` says
/// meanwhile why nobody needs it any more.
pub fn first(plan: &FilePlan, claimed: File, may_prepare: &dyn Fn() -> Result<(), Fatal>) -> Result<File, Fatal> {
    may_prepare()?;
    let mut file = claimed;
    if let FileLayout::Rotating { .. } = plan.layout {
        let removed = remove_rotated(&plan.data, |_| true).and_then(|()| remove_if_there(&next_path(&plan.data)));
        removed.map_err(|error| blame(plan, &error, "cannot remove files of an earlier run"))?;
        if let Some(log) = &plan.log {
            remove_rotated(log, |_| true)
                .map_err(|error| blame(plan, &error, "cannot remove logs of an earlier run"))?;
        }
        // Replaced, not cut: who still reads the old data, or has linked them elsewhere, keeps them.
        if file.metadata().is_ok_and(|facts| facts.len() > 0) {
            file = replace(plan, file).map_err(|error| blame(plan, &error, "cannot be replaced"))?;
        }
    }
    let before = file.metadata().map(|facts| facts.len());
    size(plan, &file, 0, &|| may_prepare().is_ok()).map_err(|error| {
        // What was allocated so far would be taken for somebody's data.
        let _as_it_was = before.and_then(|length| file.set_len(length));
        may_prepare().err().unwrap_or_else(|| blame(plan, &error, "cannot be opened for writing"))
    })?;
    // Until here a ring's old data could stay.
    if matches!(plan.layout, FileLayout::Ring { .. }) && existing::next_is_left_over(plan) {
        remove_if_there(&next_path(&plan.data))
            .map_err(|error| blame(plan, &error, "cannot remove a file of an earlier run"))?;
    }
    remove_logs(plan).map_err(|error| blame(plan, &error, "cannot remove logs of an earlier run"))?;
    Ok(file)
}

/// An empty file, locked, in the place of the claimed one; there is always a locked one that others look at.
fn replace(plan: &FilePlan, claimed: File) -> io::Result<File> {
    let next = next_path(&plan.data);
    let file = open_locked(plan, &next)?;
    // CIFS lets nothing take the name of a file that is open.
    drop(claimed);
    fs::rename(next, &plan.data)?;
    Ok(file)
}

pub fn remove_if_there(path: &Path) -> io::Result<()> {
    unless_gone(fs::remove_file(path))
}

pub fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    unless_gone(fs::rename(from, to))
}

fn unless_gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Logs of the earlier run whose data are replaced: whoever finds them later would take them for this run's.
fn remove_logs(plan: &FilePlan) -> io::Result<()> {
    let may_go = !matches!(plan.existing, Existing::Refused { .. });
    if !may_go || !matches!(Manifest::read(&plan.manifest), Ok(Some(_))) {
        return Ok(());
    }
    let log = &plan.log_place;
    for log in [log, &lap_log(log)] {
        if existing::is_audit_log(log) {
            remove_if_there(log)?;
        }
    }
    remove_rotated(log, existing::is_audit_log)
}

fn remove_rotated(base: &Path, may_go: impl Fn(&Path) -> bool) -> io::Result<()> {
    rotated(base)?.iter().filter(|path| may_go(path)).try_for_each(fs::remove_file)
}

#[cfg(test)]
pub mod tests;
