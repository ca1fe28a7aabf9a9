//! Where a path leads, behind its links; and a file there that is written once, at the end: whole or not at all.

use super::{program, random};
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// As many as the kernel follows.
const SYMLINKS_MAX: usize = 40;
/// Descriptors have their links here (`/dev/stdout` leads to one): what those say is no path to replace.
const DESCRIPTORS: &str = "/proc";
/// Random names that are tried for a file that nobody else has.
const NAMES_MAX: usize = 8;

/// How often it is asked whether somebody reads a pipe.
const READER_POLL: Duration = Duration::from_millis(20);

/// Bits of a folder's mode: only owners replace what lies there, and everybody may put something there.
const STICKY: u32 = 0o1000;
const FOR_ALL: u32 = 0o002;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landing {
    /// A regular file, there or not yet, and neither need its folder be: it is replaced in one step.
    File(PathBuf),
    /// A pipe, a device, a descriptor: it is written to as it is. A folder, which takes no bytes.
    Stream(PathBuf),
}

impl Landing {
    /// Follows the links, also those to what is not there yet.
    ///
    /// # Errors
    /// A folder on the way is closed, the links have no end, or one of them was put there by a stranger.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut at = path.to_owned();
        for _ in 0..=SYMLINKS_MAX {
            let Some(name) = at.file_name() else { return Ok(Self::Stream(real(&at)?)) };
            let here = real(folder(&at))?.join(name);
            if here.starts_with(DESCRIPTORS) {
                return Ok(Self::Stream(here));
            }
            match here.symlink_metadata() {
                Ok(facts) if facts.is_symlink() => {
                    trust(&here, &facts)?;
                    at = folder(&here).join(here.read_link()?);
                }
                Ok(facts) if !facts.is_file() => return Ok(Self::Stream(here)),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(_) | Err(_) => return Ok(Self::File(here)),
            }
        }
        Err(io::Error::other("its links have no end"))
    }

    /// Its name: that of a descriptor is the name of the file behind it, where it has one.
    pub fn into_path(self) -> PathBuf {
        match self {
            Self::File(path) => path,
            Self::Stream(path) => path.canonicalize().unwrap_or(path),
        }
    }
}

/// The same for all paths that lead to one place, be it there or not yet.
pub fn end(path: &Path) -> PathBuf {
    let end = Landing::of(path).map(Landing::into_path);
    end.or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

/// Whether a path leads to this process's own standard output, as `/dev/stdout` does.
pub fn is_stdout(path: &Path) -> bool {
    let Ok(Landing::Stream(end)) = Landing::of(path) else { return false };
    end.ends_with("fd/1") && Path::new("/proc/self").canonicalize().is_ok_and(|own| end.starts_with(own))
}

/// Whether a path leads to a regular file, there or not yet.
pub fn is_file(path: &Path) -> bool {
    matches!(Landing::of(path), Ok(Landing::File(_)))
}

/// The folder that a path names its file in.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A folder without links and detours, as far as it exists; the rest of its name stays as it is.
fn real(path: &Path) -> io::Result<PathBuf> {
    match (path.canonicalize(), path.file_name()) {
        (Err(error), Some(name)) if error.kind() == ErrorKind::NotFound => Ok(real(folder(path))?.join(name)),
        (Err(error), None) if error.kind() == ErrorKind::NotFound => std::path::absolute(path),
        (found, _) => found,
    }
}

/// The kernel's own rule (proc_sys_fs(5), `protected_symlinks`), which it keeps only for links that it follows itself:
/// where everybody may put one, it must be ours or the folder's owner's.
fn trust(link: &Path, facts: &Metadata) -> io::Result<()> {
    let around = folder(link).metadata()?;
    let owner = facts.uid();
    if may_follow(owner, (around.mode(), around.uid()), user()) {
        return Ok(());
    }
    let what = format!("user {owner} put the link {} where everybody may; it is not followed", link.display());
    Err(io::Error::new(ErrorKind::PermissionDenied, what))
}

fn may_follow(owner: u32, (mode, folder_owner): (u32, u32), user: Option<u32>) -> bool {
    let open_to_all = mode & (STICKY | FOR_ALL) == STICKY | FOR_ALL;
    !open_to_all || owner == folder_owner || Some(owner) == user
}

/// Whether this process, where it may put files beside this one, may also put one in its place.
pub fn may_be_replaced(file: &Path) -> bool {
    let (Ok(facts), Ok(around)) = (file.symlink_metadata(), folder(file).metadata()) else { return true };
    may_replace(facts.uid(), (around.mode(), around.uid()), user())
}

fn may_replace(owner: u32, (mode, folder_owner): (u32, u32), user: Option<u32>) -> bool {
    mode & STICKY == 0 || [Some(owner), Some(folder_owner)].contains(&user)
}

/// As whom this process uses files; `None`: nobody knows.
fn user() -> Option<u32> {
    effective_user(&fs::read_to_string("/proc/self/status").ok()?)
}

/// Of a process with this `/proc/<pid>/status` (proc_pid_status(5), `Uid`: real, effective and two more).
fn effective_user(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.parse().ok()
}

/// How a flag whose file could not be read gets one that can.
pub fn mend_reading(flag: &str, path: &Path, why: &io::Error) -> String {
    match why.kind() {
        ErrorKind::NotFound => {
            let there = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            format!("--{flag}=FILE that is there; this one was looked for at {}", there.display())
        }
        ErrorKind::PermissionDenied => {
            format!("sudo chown \"$USER\" {}, or --{flag}=FILE that you may read", program::quoted_path(path))
        }
        ErrorKind::IsADirectory => format!("--{flag}={}", program::quoted_path(&path.join("FILE"))),
        _ => format!("--{flag}=FILE, another one"),
    }
}

/// What a file is to outlive, once it is in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// This process.
    Cached,
    /// A power cut, too: its bytes are on the drive before it has its name, and the name is when it is put. Each
    /// takes a drive milliseconds.
    Synced,
}

impl Durability {
    fn sync(self) -> Option<SyncFn> {
        (self == Self::Synced).then_some(sync as SyncFn)
    }
}

/// Brings a file, or a folder's names, to the drive.
type SyncFn = fn(&File) -> io::Result<()>;

fn sync(file: &File) -> io::Result<()> {
    match file.sync_all() {
        Err(error) if !keeps_anything(&error) => Ok(()),
        synced => synced,
    }
}

/// What keeps nothing, a device or a folder of some network file systems, has nothing to sync, and says so.
fn keeps_anything(error: &io::Error) -> bool {
    !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS))
}

/// The file is in its place, whole, but the drive did not say that it has it.
#[derive(Debug)]
struct Unsynced(io::Error);

impl fmt::Display for Unsynced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is there, but fsync failed, so that a power cut may take it: {}", self.0)
    }
}

impl std::error::Error for Unsynced {}

fn unsynced(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Unsynced(error))
}

/// Whether the file was put in its place all the same, and only [`Durability::Synced`] is not certain.
pub fn is_there_unsynced(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Unsynced>())
}

/// Writes `bytes` where `path` leads: a regular file whole or not at all, anything else behind what is there.
///
/// # Errors
/// As [`Landing::of`], and those of writing and syncing.
pub fn put(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    put_when_read(path, bytes, durability, |_| true)
}

/// The same. A pipe that nobody opens, or that is full, is waited for until `may_wait` says no: it is asked again and
/// again, with the time for which nobody has taken anything.
///
/// # Errors
/// As above, and `TimedOut`.
pub fn put_when_read(
    path: &Path,
    bytes: &[u8],
    durability: Durability,
    may_wait: impl FnMut(Duration) -> bool,
) -> io::Result<()> {
    match Landing::of(path)? {
        Landing::Stream(to) if to.metadata().is_ok_and(|facts| facts.file_type().is_fifo()) => {
            write_pipe(&to, bytes, may_wait)
        }
        Landing::Stream(to) => {
            let mut file = OpenOptions::new().append(true).open(to)?;
            write(&mut file, bytes, durability.sync())?
        }
        Landing::File(to) => replace(&to, bytes, durability.sync()),
    }
}

/// Never blocks in the kernel, where nobody could be asked whether to go on.
fn write_pipe(to: &Path, mut bytes: &[u8], mut may_wait: impl FnMut(Duration) -> bool) -> io::Result<()> {
    let mut wait = |idle_from: Instant| {
        if !may_wait(idle_from.elapsed()) {
            return Err(io::Error::new(ErrorKind::TimedOut, "nobody reads it"));
        }
        thread::sleep(READER_POLL);
        Ok(())
    };
    let mut idle_from = Instant::now();
    let mut pipe = loop {
        match OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(to) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => wait(idle_from)?,
            opened => break opened?,
        }
    };
    idle_from = Instant::now();
    while !bytes.is_empty() {
        match pipe.write(bytes) {
            Ok(taken) => {
                bytes = &bytes[taken..];
                idle_from = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            Err(_) => wait(idle_from)?,
        }
    }
    Ok(())
}

fn replace(to: &Path, bytes: &[u8], sync: Option<impl Fn(&File) -> io::Result<()>>) -> io::Result<()> {
    use ErrorKind::{PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    let replaced = temporary(to).and_then(|(name, mut file)| {
        // Before it has its name: a file system may keep the name at once, and the bytes half a minute later.
        let written = write(&mut file, bytes, sync.as_ref());
        drop(file);
        let moved = written.and_then(|synced| fs::rename(&name, to).map(|()| synced));
        if moved.is_err() {
            let _stays_where_nobody_may_take_it_away = fs::remove_file(&name);
        }
        moved
    });
    match replaced {
        // A folder that takes no new file, or a file that is a mount of its own: it may take bytes all the same. None is
        // made here: that the kernel refuses for the files of others (proc_sys_fs(5), `protected_regular`).
        Err(error) if matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | ResourceBusy) && to.exists() => {
            let mut file = OpenOptions::new().write(true).truncate(true).open(to)?;
            write(&mut file, bytes, sync.as_ref())?
        }
        Err(error) => Err(error),
        Ok(synced) => synced.and_then(|()| sync.map_or(Ok(()), |sync| sync_names(folder(to), sync))),
    }
}

/// The outer error: not all of it is there. The inner one: it is, and is not synced.
fn write(file: &mut File, bytes: &[u8], sync: Option<impl Fn(&File) -> io::Result<()>>) -> io::Result<io::Result<()>> {
    file.write_all(bytes)?;
    match sync.map_or(Ok(()), |sync| sync(file)) {
        // Some file systems look for room only now.
        Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Err(error),
        synced => Ok(synced.map_err(unsynced)),
    }
}

/// Brings the names in a folder to the drive.
///
/// # Errors
/// Those of syncing.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    sync_names(folder, sync)
}

fn sync_names(folder: &Path, sync: impl Fn(&File) -> io::Result<()>) -> io::Result<()> {
    match File::open(folder).and_then(|folder| sync(&folder)) {
        // Who may put files there, and not read it, cannot sync it either.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        synced => synced.map_err(unsynced),
    }
}

/// A new file beside `to`. Its name is random: two processes that write one file may have the same number, each in a
/// container of its own.
fn temporary(to: &Path) -> io::Result<(PathBuf, File)> {
    let mut tries = 0..NAMES_MAX;
    loop {
        // Short, whatever the length of the file's own name.
        let name = folder(to).join(format!(".engine-{:016x}.tmp", random::bits()));
        match File::create_new(&name) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && tries.next().is_some() => {}
            made => return made.map(|file| (name, file)),
        }
    }
}

#[cfg(test)]
mod tests;
