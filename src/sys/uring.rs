//! The io_uring back end: one ring for each core, registered memory and files, completions only when asked.

mod lending;
mod net;

use super::region::Region;
use super::ring::{Completion, FileSlot, Progress, Ring, Wait};
use super::socket;
use crate::base::limits;
use io_uring::types::{Fixed, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileTypeExt;
use std::time::{Duration, Instant};

const ENTER_GETEVENTS: u32 = 1;
/// The kernel's limit for one registered buffer.
const BUFFER_BYTES_MAX: usize = 1 << 30;
/// What connections have in flight at a ring's end comes back at once, if at all.
const RECALL_TIME_MAX: Duration = Duration::from_millis(50);
const RECALL_LOOK_NS: u64 = 1_000_000;

/// See the module.
pub struct Uring {
    ring: ManuallyDrop<IoUring>,
    region: ManuallyDrop<Region>,
    files: Vec<File>,
    /// The kernel holds the first so many bytes of the region registered.
    registered_bytes: usize,
    /// Queued, not yet submitted.
    queued: usize,
    in_flight: usize,
    depth: usize,
    messages: net::Messages,
    /// The kernel can send without copying.
    zero_copy: bool,
    /// Completions that the next wait is for, if `enter` waits next.
    gathered: u32,
    lending: lending::Lending,
    /// The kernel works on operations in `enter` alone, but for sends that had to wait for room too often: links keep
    /// copied ones short (`COPIED_BYTES_MAX`, and `COPIED_BYTES_MAX_BESIDE_LENT` where that matters).
    deferred: bool,
    may_lend: bool,
}

impl Uring {
    /// A ring for at most `depth` operations in flight on `files_max` files over `region`. Memory that the host does not let us
    /// register is used unregistered; [`Self::registered`] tells.
    pub fn new(region: Region, depth: usize, files_max: usize) -> io::Result<Self> {
        let all = region.bytes().len();
        Self::registering(region, all, depth, files_max)
    }

    /// The same where only the first `bytes` of the region are worth being registered: those that are stay in memory.
    pub fn registering(region: Region, bytes: usize, depth: usize, files_max: usize) -> io::Result<Self> {
        let entries = depth.next_power_of_two().clamp(8, limits::CORE_DEPTH_MAX) as u32;
        let deferring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .build(entries);
        let deferred = deferring.is_ok();
        let ring: IoUring = deferring
            .or_else(|_| IoUring::builder().setup_coop_taskrun().setup_taskrun_flag().build(entries))
            .or_else(|_| IoUring::new(entries))?;
        // Linux before 5.11; late versions of 5.10 have it.
        if !ring.params().is_feature_ext_arg() {
            let why = "this kernel has no wait with a time limit (IORING_FEAT_EXT_ARG)";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        register_files(&ring, files_max)?;
        let buffers: Vec<libc::iovec> = region.bytes()[..bytes]
            .chunks(BUFFER_BYTES_MAX)
            .map(|chunk| libc::iovec { iov_base: chunk.as_ptr().cast_mut().cast(), iov_len: chunk.len() })
            .collect();
        // SAFETY: the buffers lie in `region`, which this `Uring` owns and never unmaps before the ring is
        // gone (see `drop`).
        let registered = unsafe { ring.submitter().register_buffers(&buffers) }.is_ok();
        let registered_bytes = if registered { bytes } else { 0 };
        let zero_copy = net::supports_zero_copy(&ring);
        let (ring, region) = (ManuallyDrop::new(ring), ManuallyDrop::new(region));
        Ok(Self {
            messages: net::Messages::new(entries as usize),
            zero_copy,
            gathered: 1,
            lending: lending::Lending::new(depth.min(entries as usize)),
            deferred,
            may_lend: false,
            ring,
            region,
            files: Vec::new(),
            registered_bytes,
            queued: 0,
            in_flight: 0,
            depth: depth.min(entries as usize),
        })
    }

    /// Whether sends may do without a copy. If not, all are copied, be it the dearer way.
    #[must_use]
    pub fn zero_copy(mut self, allowed: bool) -> Self {
        self.zero_copy &= allowed;
        // To detach memory, the kernel must not work on what lies beside it at that moment.
        self.may_lend = allowed && self.deferred && self.region.can_detach();
        self
    }

    /// Whether the kernel holds the memory registered (fixed buffers).
    pub fn registered(&self) -> bool {
        self.registered_bytes > 0
    }

    /// The registered buffer that has all of `range`.
    fn buffer_of(&self, range: &Range<usize>) -> Option<u16> {
        let buffer = range.start / BUFFER_BYTES_MAX;
        let is_in_one = range.end <= self.registered_bytes && range.end.saturating_sub(1) / BUFFER_BYTES_MAX == buffer;
        is_in_one.then_some(buffer as u16)
    }

    /// Tries the whole set-up on a page of memory, a wait and a receive.
    pub fn probe() -> Result<(), String> {
        let ring = Region::map(4096).and_then(|region| Self::new(region, 8, 2));
        let mut ring = ring.map_err(|error| format!("io_uring_setup: {error}"))?;
        ring.try_receive().map_err(|error| format!("a receive through io_uring: {error}"))
    }

    fn push(&mut self, entry: &squeue::Entry) -> bool {
        if self.in_flight >= self.depth {
            return false;
        }
        let pushed = self.push_uncounted(entry);
        self.in_flight += usize::from(pushed);
        pushed
    }

    fn push_uncounted(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: every entry that reaches this points into `region` with its range checked by its maker, or
        // points nowhere, or at a message that stays as it is until the kernel has read it (see `Messages`); the
        // region outlives the operation because `drop` leaks it while anything is in flight.
        let pushed = unsafe { self.ring.submission().push(entry) }.is_ok();
        self.queued += usize::from(pushed);
        pushed
    }

    fn submit(&mut self) -> io::Result<usize> {
        // SAFETY: no argument is passed; the entries were checked in `push`.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(self.queued as u32, 0, ENTER_GETEVENTS, None) }
    }

    fn submit_and_wait(&mut self, ns: u64, wanted: usize) -> io::Result<usize> {
        let timeout = Timespec::from(Duration::from_nanos(ns));
        self.ring.submitter().submit_with_args(wanted, &SubmitArgs::new().timespec(&timeout))
    }

    /// Ends all connections, so that what is in flight there comes back: a receive is armed on each that is up. Writes
    /// to files that are still on their way stay so: their books are closed.
    fn recall(&mut self) {
        let is_socket = |file: &&File| file.metadata().is_ok_and(|facts| facts.file_type().is_socket());
        let mut has_sockets = false;
        for file in self.files.iter().filter(is_socket) {
            socket::shut_down(file.as_fd());
            has_sockets = true;
        }
        let began = Instant::now();
        while has_sockets && self.in_flight > 0 && began.elapsed() < RECALL_TIME_MAX {
            if self.enter(Wait::ForNs(RECALL_LOOK_NS)).is_err() {
                return;
            }
            while self.completion().is_some() {}
        }
    }
}

/// Kernels before 5.19 know no sparse table: one full of holes is the same.
fn register_files(ring: &IoUring, files_max: usize) -> io::Result<()> {
    let sparse = ring.submitter().register_files_sparse(files_max as u32);
    sparse.or_else(|_| ring.submitter().register_files(&vec![-1; files_max]))
}

impl Ring for Uring {
    fn memory(&mut self) -> &mut [u8] {
        self.region.bytes_mut()
    }

    fn install(&mut self, file: File) -> io::Result<FileSlot> {
        let slot = self.files.len() as u32;
        self.ring.submitter().register_files_update(slot, &[file.as_raw_fd()])?;
        self.files.push(file);
        Ok(FileSlot(slot))
    }

    fn replace(&mut self, slot: FileSlot, file: File) -> io::Result<File> {
        self.ring.submitter().register_files_update(slot.0, &[file.as_raw_fd()])?;
        Ok(std::mem::replace(&mut self.files[slot.0 as usize], file))
    }

    fn file(&self, slot: FileSlot) -> &File {
        &self.files[slot.0 as usize]
    }

    fn write(&mut self, slot: FileSlot, range: Range<usize>, offset: u64, token: u64) -> bool {
        let buffer = self.buffer_of(&range);
        let bytes = &self.region.bytes()[range];
        let (start, length) = (bytes.as_ptr(), bytes.len() as u32);
        let entry = match buffer {
            Some(buffer) => opcode::WriteFixed::new(Fixed(slot.0), start, length, buffer).offset(offset).build(),
            None => opcode::Write::new(Fixed(slot.0), start, length).offset(offset).build(),
        };
        self.push(&entry.user_data(token))
    }

    fn sync(&mut self, slot: FileSlot, token: u64) -> bool {
        let entry = opcode::Fsync::new(Fixed(slot.0)).flags(FsyncFlags::DATASYNC).build();
        self.push(&entry.user_data(token))
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let answered = self.lend_what_fits();
        let wanted = std::mem::replace(&mut self.gathered, 1).max(1) as usize;
        let submitted = match wait {
            Wait::ForNs(ns) if !answered && self.ring.completion().is_empty() => self.submit_and_wait(ns, wanted),
            _ if self.queued > 0 || self.ring.submission().taskrun() => self.submit(),
            _ => Ok(0),
        };
        match submitted {
            Ok(submitted) => {
                self.queued -= submitted.min(self.queued);
                Ok(())
            }
            // A signal, a full completion queue or the end of a wait: the queue knows how far it came.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ETIME)) =>
            {
                self.queued = self.ring.submission().len();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn completion(&mut self) -> Option<Completion> {
        if let Some(lent) = self.lending.done.pop_front() {
            self.in_flight -= 1;
            return Some(lent);
        }
        let entry: cqueue::Entry = loop {
            let entry = self.ring.completion().next()?;
            if !self.lending.wake(entry.user_data()) {
                break entry;
            }
        };
        let (result, flags) = (entry.result(), entry.flags());
        let progress = if cqueue::more(flags) {
            Progress::Taken
        } else if cqueue::notif(flags) {
            Progress::Released { copied: result as u32 & net::NOTIFICATION_COPIED != 0 }
        } else {
            Progress::Last
        };
        self.in_flight -= usize::from(progress != Progress::Taken);
        Some(Completion { token: entry.user_data(), result, progress })
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // What panicked may have been this ring.
        if self.in_flight > 0 && !std::thread::panicking() {
            self.recall();
        }
        // SAFETY: neither field is touched again.
        unsafe { ManuallyDrop::drop(&mut self.ring) };
        if self.in_flight == 0 {
            // SAFETY: as above; nothing in flight reads the region any more. Otherwise it is leaked, since the
            // kernel may still read it after the ring's descriptor is closed.
            unsafe { ManuallyDrop::drop(&mut self.region) };
        }
    }
}
