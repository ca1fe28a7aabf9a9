//! The memory that the kernel reads from: one anonymous mapping for each core.

use memmap2::{Advice, MmapMut, MmapOptions, UncheckedAdvice};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;

const TRANSPARENT: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// As many as the kernel can be built for.
const NODES_MAX: usize = 1024;
/// A whole number of plain pages on every processor.
const GRANULE_BYTES: usize = 64 << 10;

/// What kind of pages back a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Reserved 2 MiB pages, of this thread's NUMA node where that can be had (`bind_to_this_node`).
    Huge,
    /// 2 MiB pages where the kernel finds them.
    Transparent,
    Plain,
}

impl Pages {
    pub fn name(self) -> &'static str {
        match self {
            Pages::Huge => "2 MiB huge pages",
            Pages::Transparent => "transparent huge pages",
            Pages::Plain => "plain pages",
        }
    }
}

/// Anonymous memory, page-aligned. Pages are placed on the NUMA node of the thread that first writes them.
pub struct Region {
    map: MmapMut,
    pages: Pages,
}

impl Region {
    /// The best pages that can be had for `bytes`.
    pub fn map(bytes: usize) -> io::Result<Self> {
        let rounded = rounded(bytes);
        // A cgroup may forbid huge pages that the host has: only a populated mapping is sure not to fault for ever.
        if let Ok(mut map) = MmapOptions::new().len(rounded).huge(Some(21)).map_anon() {
            // Reserved pages of another node are worth less than transparent ones of this.
            bind_to_this_node(&map);
            if populate(&mut map, |map| map.advise(Advice::PopulateWrite)).is_ok() {
                return Ok(Self { map, pages: Pages::Huge });
            }
        }
        Self::map_unreserved(bytes)
    }

    /// Without reserved huge pages.
    pub fn map_unreserved(bytes: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(rounded(bytes)).map_anon()?;
        let never = std::fs::read_to_string(TRANSPARENT).is_ok_and(|mode| mode.contains("[never]"));
        let pages = match map.advise(Advice::HugePage) {
            Ok(()) if !never => Pages::Transparent,
            _ => Pages::Plain,
        };
        Ok(Self { map, pages })
    }

    pub fn pages(&self) -> Pages {
        self.pages
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The bytes for the rest of the process's life, never changed again.
    pub fn leak(self) -> &'static [u8] {
        &Box::leak(Box::new(self)).map
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }

    /// Whether [`Self::detach`] works here: a reserved huge page may be the last of its kind.
    pub fn can_detach(&self) -> bool {
        self.pages != Pages::Huge
    }

    /// Puts other pages with the same content under `range`. Whoever was lent the old ones keeps them as they are.
    pub fn detach(&mut self, range: Range<usize>) -> io::Result<()> {
        debug_assert!(self.can_detach());
        let range = range.start / GRANULE_BYTES * GRANULE_BYTES..range.end.next_multiple_of(GRANULE_BYTES);
        let mut kept = [0; GRANULE_BYTES];
        for start in range.step_by(GRANULE_BYTES) {
            let end = start + GRANULE_BYTES;
            kept.copy_from_slice(&self.map[start..end]);
            // SAFETY: the mapping is private, anonymous and borrowed for us alone. Its pages there become zeros, which
            // are bytes like any others. Rings that call this let the kernel work on operations in `enter` alone and
            // send nothing without a copy; links keep copied sends on rings that lend so short, for the smallest
            // send buffers there are, that no worker of the kernel takes them over (`COPIED_BYTES_MAX_BESIDE_LENT`).
            // So nothing reads or writes there before the bytes are put back.
            unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, GRANULE_BYTES)? };
            self.map[start..end].copy_from_slice(&kept);
        }
        Ok(())
    }
}

/// Allows only pages of the node that this thread is on. Where that may not be said (Docker's filter) or has no sense
/// (a kernel without nodes, a node without memory), pages may be of any.
fn bind_to_this_node(map: &MmapMut) {
    const WORD_BITS: usize = libc::c_ulong::BITS as usize;
    let mut node: libc::c_uint = 0;
    let nowhere = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the kernel writes one number on this stack, and nothing where the pointer is null.
    if unsafe { libc::syscall(libc::SYS_getcpu, nowhere, &raw mut node, nowhere) } != 0 {
        return;
    }
    let mut nodes: [libc::c_ulong; NODES_MAX / WORD_BITS] = [0; NODES_MAX / WORD_BITS];
    let Some(word) = nodes.get_mut(node as usize / WORD_BITS) else { return };
    *word = 1 << (node as usize % WORD_BITS);
    // The kernel reads one bit less than it is told. Every argument fills a register.
    let (bits, mode, flags) = (NODES_MAX + 1, libc::c_long::from(libc::MPOL_BIND), 0_usize);
    // SAFETY: it says where pages of this mapping are to come from and touches none; the mask outlives the call.
    unsafe { libc::syscall(libc::SYS_mbind, map.as_ptr(), map.len(), mode, nodes.as_ptr(), bits, flags) };
}

/// Has all huge pages of a new mapping be there, by `advise` where the kernel knows that.
fn populate(map: &mut MmapMut, advise: impl FnOnce(&MmapMut) -> io::Result<()>) -> io::Result<()> {
    match advise(map) {
        // Linux before 5.14. A page that cannot be had is an error for who reads into it; for who writes, a SIGBUS.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let mut zeros = File::open("/dev/zero")?;
            map.chunks_mut(HUGE_PAGE_BYTES).try_for_each(|page| zeros.read_exact(&mut page[..1]))
        }
        done => done,
    }
}

/// A whole number of huge pages.
fn rounded(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(HUGE_PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old_kernel(_map: &MmapMut) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }

    fn is_there(page: &[u8]) -> bool {
        let mut there = 0_u8;
        // SAFETY: the kernel tells of one page, which begins at `page`, in one byte on this stack.
        let outcome = unsafe { libc::mincore(page.as_ptr().cast_mut().cast(), 1, &raw mut there) };
        assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
        there & 1 == 1
    }

    #[test]
    fn pages_are_there_also_where_the_kernel_cannot_be_told() {
        let mut map = MmapOptions::new().len(3 * HUGE_PAGE_BYTES).map_anon().unwrap();
        assert!(map.chunks(HUGE_PAGE_BYTES).all(|page| !is_there(page)));
        populate(&mut map, old_kernel).unwrap();
        assert!(map.chunks(HUGE_PAGE_BYTES).all(is_there));
    }

    #[test]
    fn a_page_that_cannot_be_had_is_an_error_and_no_signal() {
        let mut map = MmapOptions::new().len(2 * HUGE_PAGE_BYTES).map_anon().unwrap();
        let second = map[HUGE_PAGE_BYTES..].as_mut_ptr();
        // SAFETY: nothing but the kernel looks at those pages from here on.
        let outcome = unsafe { libc::mprotect(second.cast(), HUGE_PAGE_BYTES, libc::PROT_NONE) };
        assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
        let error = populate(&mut map, old_kernel).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFAULT), "{error}");
        let error = populate(&mut map, |_| Err(io::Error::from_raw_os_error(libc::ENOMEM))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOMEM), "{error}");
    }
}
