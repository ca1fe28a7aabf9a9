//! The ring of `--io syscall` for O_DIRECT: Linux native AIO (io_submit(2)), which containers that forbid io_uring
//! commonly allow. Direct writes are asynchronous there, so that a drive sees as many as with io_uring.
//! Buffered writes would block in `io_submit`; they go through `syscalls`.

use super::region::Region;
use super::ring::{Completion, FileSlot, Files, Ring, Wait, negated_errno};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::Duration;

const COMMAND_PWRITE: u16 = 1;
const COMMAND_FDSYNC: u16 = 3;
/// Completions fetched at once.
const EVENTS_MAX: usize = 64;

/// `struct iocb` of linux/aio_abi.h (little-endian layout of key and flags).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ControlBlock {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    length: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_fd: u32,
}

/// `struct io_event` of linux/aio_abi.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    object: u64,
    result: i64,
    result2: i64,
}

/// See the module.
pub struct Aio {
    context: u64,
    region: ManuallyDrop<Region>,
    files: Files,
    queue: Vec<ControlBlock>,
    events: [Event; EVENTS_MAX],
    /// Events `next..arrived` were fetched and not handed out yet.
    next: usize,
    arrived: usize,
    /// Operations that the kernel refused, as their completions.
    refused: VecDeque<Completion>,
    in_flight: usize,
    depth: usize,
}

impl Aio {
    /// A ring for at most `depth` operations in flight.
    ///
    /// # Errors
    /// The kernel has no native AIO, forbids it, or its limit (`fs.aio-max-nr`) is reached.
    pub fn new(region: Region, depth: usize) -> Result<Self, (Region, io::Error)> {
        let mut context = 0u64;
        // SAFETY: the kernel writes one word to `context`, which lives through the call.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, depth as libc::c_long, &raw mut context) };
        if made != 0 {
            return Err((region, io::Error::last_os_error()));
        }
        Ok(Self {
            context,
            region: ManuallyDrop::new(region),
            files: Files::default(),
            queue: Vec::with_capacity(depth),
            events: [Event::default(); EVENTS_MAX],
            next: 0,
            arrived: 0,
            refused: VecDeque::with_capacity(depth),
            in_flight: 0,
            depth,
        })
    }

    fn push(&mut self, block: ControlBlock) -> bool {
        let room = self.in_flight < self.depth;
        if room {
            self.queue.push(block);
            self.in_flight += 1;
        }
        room
    }

    /// Hands the queue to the kernel as far as it takes it. A block that it refuses is answered with the reason.
    fn submit(&mut self) {
        let mut submitted = 0;
        while submitted < self.queue.len() {
            let mut pointers = [std::ptr::null_mut::<ControlBlock>(); EVENTS_MAX];
            let count = (self.queue.len() - submitted).min(EVENTS_MAX);
            for (pointer, block) in pointers.iter_mut().zip(&mut self.queue[submitted..submitted + count]) {
                *pointer = &raw mut *block;
            }
            // SAFETY: `pointers` holds `count` pointers to blocks that live through the call, which is all the kernel
            // needs of them; it writes their `key` too, and nobody else has them meanwhile. Their buffers lie in
            // `region` (checked in `write`), which is leaked and not unmapped while anything is in flight (see `drop`).
            let took = unsafe {
                libc::syscall(libc::SYS_io_submit, self.context, count as libc::c_long, pointers.as_mut_ptr())
            };
            match took {
                1.. => submitted += took as usize,
                _ => match io::Error::last_os_error() {
                    error if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => break,
                    error => {
                        let result = negated_errno(&error);
                        self.refused.push_back(Completion::last(self.queue[submitted].data, result));
                        submitted += 1;
                    }
                },
            }
        }
        self.queue.drain(..submitted);
    }

    fn fetch(&mut self, least: usize, ns: u64) -> io::Result<()> {
        let timeout = libc::timespec { tv_sec: (ns / 1_000_000_000) as _, tv_nsec: (ns % 1_000_000_000) as _ };
        // SAFETY: the kernel writes at most EVENTS_MAX events into the array and reads one timespec.
        let got = unsafe {
            let (events, timeout) = (self.events.as_mut_ptr(), &raw const timeout);
            libc::syscall(libc::SYS_io_getevents, self.context, least, EVENTS_MAX, events, timeout)
        };
        match usize::try_from(got) {
            Ok(got) => (self.next, self.arrived) = (0, got),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::EINTR) {
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl Ring for Aio {
    fn memory(&mut self) -> &mut [u8] {
        self.region.bytes_mut()
    }

    fn install(&mut self, file: File) -> io::Result<FileSlot> {
        Ok(self.files.install(file))
    }

    fn replace(&mut self, slot: FileSlot, file: File) -> io::Result<File> {
        Ok(self.files.replace(slot, file))
    }

    fn file(&self, slot: FileSlot) -> &File {
        self.files.get(slot)
    }

    fn write(&mut self, slot: FileSlot, range: Range<usize>, offset: u64, token: u64) -> bool {
        let bytes = &self.region.bytes()[range];
        self.push(ControlBlock {
            data: token,
            opcode: COMMAND_PWRITE,
            fd: self.files.get(slot).as_raw_fd() as u32,
            buffer: bytes.as_ptr() as u64,
            length: bytes.len() as u64,
            offset: offset as i64,
            ..ControlBlock::default()
        })
    }

    fn sync(&mut self, slot: FileSlot, token: u64) -> bool {
        let fd = self.files.get(slot).as_raw_fd() as u32;
        self.push(ControlBlock { data: token, opcode: COMMAND_FDSYNC, fd, ..ControlBlock::default() })
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.submit();
        if self.next < self.arrived || !self.refused.is_empty() {
            return Ok(());
        }
        let submitted = self.in_flight > self.queue.len();
        match wait {
            Wait::No if submitted => self.fetch(0, 0),
            Wait::No => Ok(()),
            Wait::ForNs(ns) if submitted => self.fetch(1, ns),
            Wait::ForNs(ns) => {
                std::thread::sleep(Duration::from_nanos(ns));
                Ok(())
            }
        }
    }

    fn completion(&mut self) -> Option<Completion> {
        if let Some(refused) = self.refused.pop_front() {
            self.in_flight -= 1;
            return Some(refused);
        }
        let event = (self.next < self.arrived).then(|| self.events[self.next])?;
        self.next += 1;
        self.in_flight -= 1;
        Some(Completion::last(event.data, event.result as i32))
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        // SAFETY: destroying the context waits for what is in flight; the word is not used again.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
        if self.in_flight == 0 {
            // SAFETY: the field is not touched again, and no operation reads the region any more. Otherwise it is
            // leaked, which is safe whatever the kernel still does.
            unsafe { ManuallyDrop::drop(&mut self.region) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn writes_and_syncs_arrive() {
        let mut ring = Aio::new(Region::map(8192).unwrap(), 4).map_err(|(_, error)| error).unwrap();
        ring.memory()[..8192].fill(7);
        let slot = ring.install(tempfile::tempfile().unwrap()).unwrap();
        assert!(ring.write(slot, 0..4096, 4096, 1) && ring.write(slot, 4096..8192, 0, 2) && ring.sync(slot, 3));
        let mut seen = Vec::new();
        while ring.in_flight() > 0 {
            ring.enter(Wait::ForNs(1_000_000_000)).unwrap();
            seen.extend(std::iter::from_fn(|| ring.completion()));
        }
        seen.sort_by_key(|completion| completion.token);
        assert_eq!(seen.iter().map(|c| (c.token, c.result)).collect::<Vec<_>>(), [(1, 4096), (2, 4096), (3, 0)]);
        let mut back = [0; 8192];
        ring.file(slot).read_exact_at(&mut back, 0).unwrap();
        assert!(back.iter().all(|byte| *byte == 7));
        assert!(ring.write(slot, 0..4096, u64::MAX / 2 + 1, 5), "a negative offset");
        ring.enter(Wait::No).unwrap();
        assert_eq!(ring.completion(), Some(Completion::last(5, -libc::EINVAL)));
        assert!((0..4).all(|token| ring.write(slot, 0..1, 0, token)) && !ring.write(slot, 0..1, 0, 9));
    }
}
