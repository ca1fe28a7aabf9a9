//! Files that are put in their place, and the ways to it.

use super::*;
use std::cell::RefCell;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::process::Command;

#[test]
fn a_pipe_that_nobody_reads_is_waited_for_and_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut tries = 0..3;
    let error = put_when_read(&pipe, b"lost", Durability::Cached, |_| tries.next().is_some()).unwrap_err();
    assert!(error.kind() == ErrorKind::TimedOut && tries.next().is_none(), "{error}");
    // More than a pipe holds.
    let report = vec![b'x'; 1 << 18];
    let silent = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let mut tries = 0..3;
    let error = put_when_read(&pipe, &report, Durability::Synced, |_| tries.next().is_some()).unwrap_err();
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
    put_when_read(&pipe, &report, Durability::Synced, begin).unwrap();
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
        put(&path("first"), text.as_bytes(), Durability::Synced).unwrap();
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
        put(&descriptor, b"report\n", Durability::Synced).unwrap();
        assert_eq!(end(&descriptor), end(&path), "it is the same place");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "before\nreport\nreport\n");
    assert_eq!(names(folder.path()), ["out"], "no temporary file stays");
    // It has nothing to sync.
    put(Path::new("/dev/null"), b"report\n", Durability::Synced).unwrap();
    assert!(!fs::symlink_metadata("/dev/null").unwrap().is_file());
}

#[test]
fn what_leads_nowhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    symlink("circle", path("circle")).unwrap();
    symlink("nowhere/r.json", path("lost")).unwrap();
    assert!(put(&path("circle"), b"x", Durability::Synced).unwrap_err().to_string().contains("no end"));
    assert_eq!(put(&path("lost"), b"x", Durability::Synced).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(put(Path::new("/"), b"x", Durability::Synced).is_err(), "a folder is no file");
    assert!(put(folder.path(), b"x", Durability::Synced).is_err(), "a folder is no file");
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
    assert!(replace(&to, b"x", Some(sync)).is_err());
    assert_eq!(names(folder.path()), ["r.json"]);
}

/// A power cut at any time finds the old file or the new one, whole.
#[test]
fn bytes_are_synced_before_they_have_their_name_and_the_name_is_at_last() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("r.json");
    fs::write(&to, "old").unwrap();
    let seen = RefCell::new(Vec::new());
    let look = |file: &File| -> io::Result<()> {
        let behind = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let bytes = file.metadata()?.is_file().then(|| fs::read_to_string(behind).unwrap());
        seen.borrow_mut().push((bytes, fs::read_to_string(&to)?));
        Ok(())
    };
    replace(&to, b"new", Some(look)).unwrap();
    let [old, new] = ["old", "new"].map(str::to_owned);
    assert_eq!(seen.into_inner(), [(Some(new.clone()), old), (None, new)]);
    assert_eq!(names(folder.path()), ["r.json"]);
}

#[test]
fn a_sync_that_fails_is_told_and_one_that_finds_no_room_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("r.json");
    let failing = |text: &str, errno: i32| {
        replace(&to, text.as_bytes(), Some(|_: &File| Err(io::Error::from_raw_os_error(errno)))).unwrap_err()
    };
    let broken = failing("one", libc::EIO);
    assert!(is_there_unsynced(&broken) && broken.to_string().contains("Input/output error"), "{broken}");
    assert_eq!(fs::read_to_string(&to).unwrap(), "one");
    for errno in [libc::ENOSPC, libc::EDQUOT] {
        let full = failing("two", errno);
        assert!(!is_there_unsynced(&full), "{full}");
        assert_eq!(fs::read_to_string(&to).unwrap(), "one");
    }
    assert_eq!(names(folder.path()), ["r.json"]);
    // A folder's sync alone.
    let of_folder = |file: &File| match file.metadata()?.is_dir() {
        true => Err(io::Error::from_raw_os_error(libc::EIO)),
        false => Ok(()),
    };
    assert!(is_there_unsynced(&replace(&to, b"three", Some(of_folder)).unwrap_err()));
    assert_eq!(fs::read_to_string(&to).unwrap(), "three");
}

#[test]
fn what_keeps_nothing_is_not_missed_by_a_sync() {
    for errno in [libc::EINVAL, libc::EOPNOTSUPP, libc::ENOSYS] {
        assert!(!keeps_anything(&io::Error::from_raw_os_error(errno)), "{errno}");
    }
    // The last as of a file system that failed, and is read-only since.
    for errno in [libc::EIO, libc::EROFS] {
        assert!(keeps_anything(&io::Error::from_raw_os_error(errno)), "{errno}");
    }
    sync(&OpenOptions::new().write(true).open("/dev/null").unwrap()).unwrap();
}
