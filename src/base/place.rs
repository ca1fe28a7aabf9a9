//! Where a path leads, behind its links; and a file there that is written once, at the end: whole or not at all.

use super::{program, random};
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

/// Writes `bytes` where `path` leads: a regular file whole or not at all, anything else behind what is there.
///
/// # Errors
/// As [`Landing::of`], and those of writing.
pub fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put_when_read(path, bytes, |_| true)
}

/// The same. A pipe that nobody opens, or that is full, is waited for until `may_wait` says no: it is asked again and
/// again, with the time for which nobody has taken anything.
///
/// # Errors
/// As above, and `TimedOut`.
pub fn put_when_read(path: &Path, bytes: &[u8], may_wait: impl FnMut(Duration) -> bool) -> io::Result<()> {
    match Landing::of(path)? {
        Landing::Stream(to) if to.metadata().is_ok_and(|facts| facts.file_type().is_fifo()) => {
            write_pipe(&to, bytes, may_wait)
        }
        Landing::Stream(to) => OpenOptions::new().append(true).open(to)?.write_all(bytes),
        Landing::File(to) => replace(&to, bytes),
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

fn replace(to: &Path, bytes: &[u8]) -> io::Result<()> {
    use ErrorKind::{PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    let replaced = temporary(to).and_then(|(name, mut file)| {
        let written = file.write_all(bytes);
        drop(file);
        let moved = written.and_then(|()| fs::rename(&name, to));
        if moved.is_err() {
            let _stays_where_nobody_may_take_it_away = fs::remove_file(&name);
        }
        moved
    });
    match replaced {
        // A folder that takes no new file, or a file that is a mount of its own: it may take bytes all the same. None is
        // made here: that the kernel refuses for the files of others (proc_sys_fs(5), `protected_regular`).
        Err(error) if matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | ResourceBusy) && to.exists() => {
            OpenOptions::new().write(true).truncate(true).open(to)?.write_all(bytes)
        }
        replaced => replaced,
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
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    #[test]
    fn a_pipe_that_nobody_reads_is_waited_for_and_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let mut tries = 0..3;
        let error = put_when_read(&pipe, b"lost", |_| tries.next().is_some()).unwrap_err();
        assert!(error.kind() == ErrorKind::TimedOut && tries.next().is_none(), "{error}");
        // More than a pipe holds.
        let report = vec![b'x'; 1 << 18];
        let silent = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        let mut tries = 0..3;
        let error = put_when_read(&pipe, &report, |_| tries.next().is_some()).unwrap_err();
        assert!(error.kind() == ErrorKind::TimedOut && tries.next().is_none(), "{error}");
        drop(silent);
        let mut reader = None;
        let begin = |idle| {
            // A reader at work never has it wait for long.
            assert!(idle < Duration::from_secs(10));
            let pipe = pipe.clone();
            reader.get_or_insert_with(|| thread::spawn(move || fs::read(pipe).unwrap()));
            true
        };
        put_when_read(&pipe, &report, begin).unwrap();
        assert_eq!(reader.unwrap().join().unwrap(), report);
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("runs")).unwrap();
        symlink("second", path("first")).unwrap();
        symlink(path("runs/1.json"), path("second")).unwrap();
        // The first time it leads to what is not there yet.
        for text in ["one", "two"] {
            put(&path("first"), text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(path("runs/1.json")).unwrap(), text);
            assert!(path("first").is_symlink() && path("second").is_symlink());
        }
        assert_eq!(names(folder.path()), ["first", "runs", "second"]);
        assert_eq!(names(&path("runs")), ["1.json"]);
    }

    /// As with `--report /dev/fd/3 3>> r.json`.
    #[test]
    fn a_descriptor_is_written_to_behind_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        fs::write(&path, "before\n").unwrap();
        let file = File::options().append(true).open(&path).unwrap();
        for place in ["/proc/self/fd", "/dev/fd"] {
            let descriptor = PathBuf::from(format!("{place}/{}", file.as_raw_fd()));
            put(&descriptor, b"report\n").unwrap();
            assert_eq!(end(&descriptor), end(&path), "it is the same place");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nreport\nreport\n");
        assert_eq!(names(folder.path()), ["out"], "no temporary file stays");
        put(Path::new("/dev/null"), b"report\n").unwrap();
        assert!(!fs::symlink_metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn what_leads_nowhere_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        symlink("circle", path("circle")).unwrap();
        symlink("nowhere/r.json", path("lost")).unwrap();
        assert!(put(&path("circle"), b"x").unwrap_err().to_string().contains("no end"));
        assert_eq!(put(&path("lost"), b"x").unwrap_err().kind(), ErrorKind::NotFound);
        assert!(put(Path::new("/"), b"x").is_err(), "a folder is no file");
        assert!(put(folder.path(), b"x").is_err(), "a folder is no file");
        assert_eq!(names(folder.path()), ["circle", "lost"]);
    }

    #[test]
    fn all_ways_to_a_place_have_one_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("x")).unwrap();
        symlink("x", path("detour")).unwrap();
        symlink("x/new/r.json", path("early")).unwrap();
        let there = folder.path().canonicalize().unwrap().join("x/new/r.json");
        for way in ["x/new/r.json", "x/../x/new/r.json", "detour/new/r.json", "early"] {
            assert_eq!(end(&path(way)), there, "{way}");
        }
        assert_eq!(end(Path::new("r.json")), std::env::current_dir().unwrap().canonicalize().unwrap().join("r.json"));
        assert_eq!(end(Path::new("")), Path::new(""));
    }

    #[test]
    fn standard_output_has_several_names() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("out");
        symlink("/dev/stdout", &link).unwrap();
        for own in [Path::new("/dev/stdout"), Path::new("/dev/fd/1"), Path::new("/proc/self/fd/1"), link.as_path()] {
            assert!(is_stdout(own), "{}", own.display());
        }
        for other in ["/dev/stderr", "/dev/null", "/proc/self/fd/11", "fd/1", "-", "out", ""] {
            assert!(!is_stdout(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn where_everybody_may_put_links_only_ours_and_the_folder_s_are_followed() {
        const ROOT: u32 = 0;
        let (me, stranger) = (Some(1000), 1001);
        let (shared, own) = ((0o41777, ROOT), (0o41777, 1000));
        assert!(may_follow(1000, shared, me) && may_follow(ROOT, shared, me));
        assert!(!may_follow(stranger, shared, me) && !may_follow(stranger, own, me) && !may_follow(1000, shared, None));
        // Without either bit the folder's owner has let them in.
        assert!(may_follow(stranger, (0o40777, ROOT), me) && may_follow(stranger, (0o41775, ROOT), me));
        assert!(may_replace(1000, shared, me) && may_replace(stranger, own, me));
        assert!(!may_replace(stranger, shared, me) && may_replace(stranger, (0o40777, ROOT), me));
        assert!(!may_replace(stranger, (0o41775, ROOT), me), "the bit says so whoever may write there");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_mended_by_what_keeps_it() {
        let mend = |path: &str, kind: ErrorKind| mend_reading("tls-ca", Path::new(path), &kind.into());
        let here = std::env::current_dir().unwrap().join("ca.pem");
        let looked_for = format!("--tls-ca=FILE that is there; this one was looked for at {}", here.display());
        assert_eq!(mend("ca.pem", ErrorKind::NotFound), looked_for);
        let chown = r#"sudo chown "$USER" 'it'\''s.pem', or --tls-ca=FILE that you may read"#;
        assert_eq!(mend("it's.pem", ErrorKind::PermissionDenied), chown);
        assert_eq!(mend("certs/", ErrorKind::IsADirectory), "--tls-ca=certs/FILE");
        assert_eq!(mend("ca.pem", ErrorKind::InvalidData), "--tls-ca=FILE, another one");
    }

    #[test]
    fn the_user_is_read_from_its_line() {
        let status = "Name:\tengine\nPid:\t7\nUid:\t1000\t1001\t1002\t1003\nGid:\t5\t5\t5\t5\n";
        assert_eq!(effective_user(status), Some(1001));
        assert_eq!((effective_user(""), effective_user("Uid:\t0\n")), (None, None));
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(user(), Some(file.path().metadata().unwrap().uid()));
    }

    #[test]
    fn what_is_being_written_has_a_name_of_its_own_and_leaves_none_behind() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("r.json");
        let (first, second) = (temporary(&to).unwrap(), temporary(&to).unwrap());
        assert_ne!(first.0, second.0);
        for (name, _) in [first, second] {
            assert!(name.parent() == Some(folder.path()) && name.extension().unwrap() == "tmp", "{}", name.display());
            fs::remove_file(name).unwrap();
        }
        // Nothing can take the place of a folder that holds something.
        fs::create_dir_all(to.join("full")).unwrap();
        assert!(replace(&to, b"x").is_err());
        assert_eq!(names(folder.path()), ["r.json"]);
    }
}
