//! What the file system and the process limits say, where the standard library has no words for it.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub total_bytes: u64,
    /// What a process without privileges may still take.
    pub available_bytes: u64,
}

/// Space of the file system that holds `path`.
pub fn space(path: &Path) -> io::Result<Space> {
    let name = c_path(path)?;
    let mut facts = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `name` is a NUL-terminated string and `facts` room for one statvfs; both outlive the call.
    if unsafe { libc::statvfs(name.as_ptr(), facts.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: statvfs returned 0, so it filled the structure.
    let facts = unsafe { facts.assume_init() };
    let unit = facts.f_frsize;
    Ok(Space { total_bytes: facts.f_blocks * unit, available_bytes: facts.f_bavail * unit })
}

/// The magic number of the file system that holds `path` (statfs(2), `f_type`).
pub fn type_magic(path: &Path) -> io::Result<u64> {
    let name = c_path(path)?;
    let mut facts = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `name` is a NUL-terminated string and `facts` room for one statfs; both outlive the call.
    if unsafe { libc::statfs(name.as_ptr(), facts.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: statfs returned 0, so it filled the structure.
    Ok(unsafe { facts.assume_init() }.f_type as u64 & 0xffff_ffff)
}

/// What statx(2) says of direct I/O for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectIo {
    /// What it wants of addresses, and of offsets and lengths.
    Aligned { memory: u64, offset: u64 },
    /// O_DIRECT may be taken here, but what is written is buffered all the same.
    None,
    /// The kernel (before 6.1) or the file system does not say.
    Untold,
}

pub fn direct_io(file: &File) -> DirectIo {
    let mut facts = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the descriptor is open for the life of `file`, the path is an empty NUL-terminated string as
    // AT_EMPTY_PATH wants, and `facts` is room for one statx.
    let code = unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN, facts.as_mut_ptr())
    };
    if code != 0 {
        return DirectIo::Untold;
    }
    // SAFETY: it was zeroed, and every bit pattern of its integers is valid.
    let facts = unsafe { facts.assume_init() };
    direct_io_of(facts.stx_mask, facts.stx_dio_mem_align, facts.stx_dio_offset_align)
}

/// Alignments of 0 mean "none" where the mask says that they are there, and nothing where it does not.
fn direct_io_of(mask: u32, memory: u32, offset: u32) -> DirectIo {
    match (mask & libc::STATX_DIOALIGN != 0, u64::from(memory), u64::from(offset)) {
        (false, ..) => DirectIo::Untold,
        (true, _, 0) => DirectIo::None,
        (true, memory, offset) => DirectIo::Aligned { memory, offset },
    }
}

/// Whether this process may write to `path` (for a folder: create files in it).
pub fn may_write(path: &Path) -> bool {
    check_write(path).is_ok()
}

/// The same with the reason: no permission, or a file system that is mounted read-only.
pub fn check_write(path: &Path) -> io::Result<()> {
    let name = c_path(path)?;
    // SAFETY: `name` is a NUL-terminated string that outlives the call; nothing is written through it.
    let outcome = unsafe { libc::faccessat(libc::AT_FDCWD, name.as_ptr(), libc::W_OK, libc::AT_EACCESS) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many bytes this process may lock in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memlock {
    pub soft_bytes: u64,
    pub hard_bytes: u64,
}

/// RLIMIT_MEMLOCK; `u64::MAX` is no limit.
pub fn memlock() -> io::Result<Memlock> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit that outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Memlock { soft_bytes: limit.rlim_cur, hard_bytes: limit.rlim_max })
}

/// Lifts the soft RLIMIT_MEMLOCK to the hard one, which needs no privilege, and returns what then holds.
pub fn raise_memlock() -> io::Result<Memlock> {
    let now = memlock()?;
    if now.soft_bytes < now.hard_bytes {
        let wanted = libc::rlimit { rlim_cur: now.hard_bytes, rlim_max: now.hard_bytes };
        // SAFETY: `wanted` is a valid rlimit that outlives the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &wanted) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    memlock()
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_space_and_a_type() {
        let folder = tempfile::tempdir().unwrap();
        let space = space(folder.path()).unwrap();
        assert!(space.total_bytes >= space.available_bytes && space.total_bytes > 0);
        assert_ne!(type_magic(folder.path()).unwrap(), 0);
        assert!(may_write(folder.path()));
        assert!(super::space(Path::new("/no/such/folder")).is_err());
        assert!(!may_write(Path::new("/no/such/folder")));
        assert_eq!(check_write(Path::new("/no/such/folder")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn alignments_are_powers_of_two() {
        let file = tempfile::tempfile().unwrap();
        if let DirectIo::Aligned { memory, offset } = direct_io(&file) {
            assert!(memory.is_power_of_two() && offset.is_power_of_two());
        }
    }

    /// As on ext4 with `data=journal`, where O_DIRECT is taken and does nothing.
    #[test]
    fn no_direct_io_is_told_from_no_word_of_it() {
        let told = libc::STATX_BASIC_STATS | libc::STATX_DIOALIGN;
        assert_eq!(direct_io_of(told, 4, 512), DirectIo::Aligned { memory: 4, offset: 512 });
        assert_eq!(direct_io_of(told, 0, 0), DirectIo::None);
        assert_eq!(direct_io_of(libc::STATX_BASIC_STATS, 0, 0), DirectIo::Untold);
    }

    #[test]
    fn raising_memlock_reaches_the_hard_limit() {
        let raised = raise_memlock().unwrap();
        assert_eq!(raised.soft_bytes, raised.hard_bytes);
    }
}
