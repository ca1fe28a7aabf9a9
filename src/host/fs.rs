//! File systems: which one holds a path, how full it is, whether O_DIRECT does anything useful on it.

use crate::base::random;
use crate::host::{Sysfs, block};
use crate::sys;
use crate::sys::fs::DirectIo;
use schemars::JsonSchema;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file system of a target.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FsFacts {
    /// The nearest folder or file that exists.
    pub path: PathBuf,
    /// `ext4`, `xfs`, `tmpfs` …; a number where the name is not known.
    pub kind: String,
    pub total_bytes: u64,
    pub available_bytes: u64,
    /// `major:minor` of the file system.
    pub device: String,
    pub device_name: Option<String>,
    pub device_model: Option<String>,
}

const NAMES: &[(u64, &str)] = &[
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x0102_1994, "tmpfs"),
    (0x9123_683e, "btrfs"),
    (0xf2f5_2010, "f2fs"),
    (0x794c_7630, "overlay"),
    (0x6969, "nfs"),
    (0x2fc1_2fc1, "zfs"),
    (0x8584_58f6, "ramfs"),
    (0x6573_5546, "fuse"),
    (0x0102_1997, "9p"),
    (0xca45_1a4e, "bcachefs"),
    (0x4d44, "vfat"),
    (0x2011_bab0, "exfat"),
    (0xff53_4d42, "cifs"),
];

/// What is written there is copied, and waits for no device.
const IN_MEMORY: &[&str] = &["tmpfs", "ramfs"];

/// Where direct I/O reaches the device instead of being taken and copied all the same.
const DIRECT_IS_USEFUL: &[&str] = &["ext4", "xfs", "f2fs", "overlay"];

/// The path itself if it exists, else its nearest parent that does; relative paths count from the current folder.
pub fn nearest_existing(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|at| !at.as_os_str().is_empty() && at.exists());
    found.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

pub fn facts(sysfs: &Sysfs, path: &Path) -> io::Result<FsFacts> {
    let path = nearest_existing(path);
    let space = sys::fs::space(&path)?;
    let (major, minor) = block::split_device(std::fs::metadata(&path)?.dev());
    let device = format!("{major}:{minor}");
    Ok(FsFacts {
        kind: kind(&path)?,
        total_bytes: space.total_bytes,
        available_bytes: space.available_bytes,
        device_name: block::name(sysfs, &device),
        device_model: block::model(sysfs, &device),
        device,
        path,
    })
}

fn kind(path: &Path) -> io::Result<String> {
    let magic = sys::fs::type_magic(path)?;
    let name = NAMES.iter().find(|(number, _)| *number == magic).map(|(_, name)| (*name).to_owned());
    Ok(name.unwrap_or_else(|| format!("0x{magic:x}")))
}

/// Whether what is written to `path` stays in memory, as in `/dev/shm`.
pub fn is_in_memory(path: &Path) -> bool {
    kind(&nearest_existing(path)).is_ok_and(|kind| IN_MEMORY.contains(&kind.as_str()))
}

/// What trying O_DIRECT said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    /// A power of two for addresses, lengths and offsets.
    pub align: u64,
    /// The file system hands it to the device.
    pub useful: bool,
}

/// What O_DIRECT says where `path` lies. `Err` says why it does not work there.
pub fn try_direct(sysfs: &Sysfs, path: &Path) -> Result<Direct, String> {
    let facts = facts(sysfs, path).map_err(|why| why.to_string())?;
    probe_direct(&facts, path)
}

/// Opens `path` (or a nameless file beside it) with O_DIRECT; nothing is left behind. `Err` says why not.
pub fn probe_direct(facts: &FsFacts, path: &Path) -> Result<Direct, String> {
    let there = nearest_existing(path);
    let is_folder = there.is_dir();
    let mut options = OpenOptions::new();
    options.read(true);
    let opened = if is_folder {
        let nameless = options.write(true).custom_flags(libc::O_TMPFILE | libc::O_DIRECT).open(&there);
        // Some file systems know no nameless files.
        nameless.or_else(|_| open_new_in(&there))
    } else {
        options.custom_flags(libc::O_DIRECT | libc::O_NONBLOCK).open(&there)
    };
    let file = opened.map_err(|why| format!("opening {} with O_DIRECT: {why}", there.display()))?;
    let Some(align) = alignment(sys::fs::direct_io(&file)) else {
        let why = "the file system has no direct I/O for files here: it takes O_DIRECT, and buffers all the same";
        return Err(format!("{}: {why}", there.display()));
    };
    Ok(Direct { align, useful: !is_folder && is_block(&there) || DIRECT_IS_USEFUL.contains(&facts.kind.as_str()) })
}

fn alignment(told: DirectIo) -> Option<u64> {
    match told {
        DirectIo::Aligned { memory, offset } => Some(memory.max(offset).max(512)),
        DirectIo::None => None,
        DirectIo::Untold => Some(4096),
    }
}

/// A new file with O_DIRECT, whose name is gone already.
fn open_new_in(folder: &Path) -> io::Result<File> {
    let name = folder.join(format!(".engine-{:016x}.tmp", random::bits()));
    // In two steps: where O_DIRECT is refused, the file is made all the same.
    File::create_new(&name)?;
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(&name);
    std::fs::remove_file(&name)?;
    opened
}

fn is_block(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|facts| facts.file_type().is_block_device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_path_counts_as_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(nearest_existing(&folder.path().join("a/b/c")), folder.path());
        assert_eq!(nearest_existing(Path::new("no-such-folder/x")), Path::new("."));
        let facts = facts(&Sysfs::default(), &folder.path().join("a/b")).unwrap();
        assert_eq!(facts.path, folder.path());
        assert!(facts.total_bytes > 0 && facts.device.contains(':'));
    }

    #[test]
    fn shared_memory_is_in_memory() {
        assert!(is_in_memory(Path::new("/dev/shm/not/there/yet")));
        assert!(!is_in_memory(Path::new("/proc/self")));
    }

    #[test]
    fn probing_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let facts = facts(&Sysfs::default(), folder.path()).unwrap();
        if let Ok(direct) = probe_direct(&facts, &folder.path().join("x.bin")) {
            assert!(direct.align.is_power_of_two());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// As where O_TMPFILE is not known: with a name it is the same.
    #[test]
    fn a_named_file_says_what_a_nameless_one_does() {
        let folder = tempfile::tempdir().unwrap();
        let facts = facts(&Sysfs::default(), folder.path()).unwrap();
        let named = open_new_in(folder.path()).ok().and_then(|file| alignment(sys::fs::direct_io(&file)));
        assert_eq!(probe_direct(&facts, folder.path()).ok().map(|direct| direct.align), named);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn alignments_are_as_told_and_pages_where_nobody_tells() {
        assert_eq!(alignment(DirectIo::Aligned { memory: 4, offset: 4096 }), Some(4096));
        assert_eq!(alignment(DirectIo::Aligned { memory: 4, offset: 1 }), Some(512));
        assert_eq!((alignment(DirectIo::Untold), alignment(DirectIo::None)), (Some(4096), None));
    }
}
