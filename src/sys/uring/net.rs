//! Sends and receives of the io_uring back end.

use super::Uring;
use crate::sys::ring::{FileSlot, Loan, Means, NetRing, Piece, Ring, Wait};
use io_uring::types::Fixed;
use io_uring::{IoUring, Probe, opcode};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Ask each zero-copy send to say whether the kernel copied (`IORING_SEND_ZC_REPORT_USAGE`).
const REPORT_USAGE: u16 = 1 << 3;
/// In the notification's result: it did (`IORING_NOTIF_USAGE_ZC_COPIED`).
pub const NOTIFICATION_COPIED: u32 = 1 << 31;
/// Wait for the socket first: an answer is never there yet when it is asked for (`IORING_RECVSEND_POLL_FIRST`).
const POLL_FIRST: u16 = 1;
/// For bytes that are there already.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(5);
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// The message headers of sends in two pieces. The kernel reads one when its entry is submitted; at most as
/// many entries wait for that as the queue has places, so taking turns keeps each one until then.
pub struct Messages {
    all: Box<[(libc::msghdr, [libc::iovec; 2])]>,
    next: usize,
}

impl Messages {
    pub fn new(entries: usize) -> Self {
        let nowhere = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: all zeros is a valid `msghdr`: no name, no pieces, no control data.
        let empty = || (unsafe { std::mem::zeroed() }, [nowhere; 2]);
        Self { all: (0..entries).map(|_| empty()).collect(), next: 0 }
    }

    fn put(&mut self, pieces: [&[u8]; 2]) -> *const libc::msghdr {
        self.next = (self.next + 1) % self.all.len();
        let (message, parts) = &mut self.all[self.next];
        *parts = pieces.map(|piece| libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() });
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len() as _;
        &raw const *message
    }
}

pub fn supports_zero_copy(ring: &IoUring) -> bool {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).is_ok()
        && probe.is_supported(opcode::SendZc::CODE)
        && probe.is_supported(opcode::SendMsgZc::CODE)
}

impl Uring {
    /// `POLL_FIRST` came with Linux 5.19, and some kernels before it refuse a receive with any such flag; what defers
    /// its work is 6.1 or newer.
    fn receive_flags(&self) -> u16 {
        if self.deferred { POLL_FIRST } else { 0 }
    }

    /// For a ring that takes back what it lends: a zero-copy send on another connection could read what is detached
    /// meanwhile. Without such sends registered memory is of no use, and it would keep the pages that detaching
    /// replaces.
    fn lend_only_or_copy(&mut self) {
        self.zero_copy = false;
        // Older kernels would wait for all that they have in flight: what is registered stays then.
        if self.registered() && self.queued == self.in_flight {
            self.registered_bytes = 0;
            let _pinned_then = self.ring.submitter().unregister_buffers();
        }
    }

    /// Receives a byte that is there: not every kernel that has a ring can.
    pub(super) fn try_receive(&mut self) -> io::Result<()> {
        let (here, mut there) = UnixStream::pair()?;
        there.write_all(b"?")?;
        let slot = self.install(File::from(OwnedFd::from(here)))?;
        assert!(self.receive(slot, 0..1, 0), "a new ring has room");
        let began = Instant::now();
        while began.elapsed() < TRIAL_TIMEOUT {
            // A signal may end it early.
            self.enter(Wait::ForNs(TRIAL_TIMEOUT.as_nanos() as u64))?;
            match self.completion().map(|done| done.result) {
                Some(1) => return Ok(()),
                Some(result) => return Err(io::Error::from_raw_os_error(-result)),
                None => {}
            }
        }
        Err(ErrorKind::TimedOut.into())
    }
}

impl NetRing for Uring {
    fn send(&mut self, slot: FileSlot, pieces: [Piece; 2], means: Means, token: u64) -> bool {
        if self.in_flight >= self.depth {
            return false;
        }
        if let Means::Lend(loan) = means {
            self.lend(slot, pieces, loan, token);
            return true;
        }
        let buffer = self.buffer_of(&pieces[0]);
        let [first, second] = pieces.map(|piece| &self.region.bytes()[piece]);
        let zero_copy = means == Means::ZeroCopy && self.zero_copy;
        let fd = Fixed(slot.0);
        let entry = match (second.is_empty(), zero_copy) {
            (true, false) => opcode::Send::new(fd, first.as_ptr(), first.len() as u32).flags(SEND_FLAGS).build(),
            (true, true) => opcode::SendZc::new(fd, first.as_ptr(), first.len() as u32)
                .flags(SEND_FLAGS)
                .zc_flags(REPORT_USAGE)
                .buf_index(buffer)
                .build(),
            (false, zero_copy) => {
                let message = self.messages.put([first, second]);
                if zero_copy {
                    opcode::SendMsgZc::new(fd, message).flags(SEND_FLAGS as u32).ioprio(REPORT_USAGE).build()
                } else {
                    opcode::SendMsg::new(fd, message).flags(SEND_FLAGS as u32).build()
                }
            }
        };
        self.push(&entry.user_data(token))
    }

    fn receive(&mut self, slot: FileSlot, range: Range<usize>, token: u64) -> bool {
        let flags = self.receive_flags();
        let into = &mut self.region.bytes_mut()[range];
        let entry = opcode::Recv::new(Fixed(slot.0), into.as_mut_ptr(), into.len() as u32).ioprio(flags).build();
        self.push(&entry.user_data(token))
    }

    fn gather(&mut self, completions: u32) {
        self.gathered = completions.min(self.in_flight as u32);
    }

    fn has_zero_copy(&self) -> bool {
        self.zero_copy
    }

    fn can_lend(&mut self, slot: FileSlot, loan: Loan) -> bool {
        let lends = self.may_lend && self.lending.lenders.make(slot, self.files[slot.0 as usize].as_fd());
        if lends && loan == Loan::TakenBack {
            self.lending.detaches = true;
            self.lend_only_or_copy();
        }
        lends
    }

    fn detaches(&self) -> bool {
        self.lending.detaches
    }

    fn detach(&mut self, range: Range<usize>) {
        // Registered memory is the old pages.
        self.registered_bytes = 0;
        self.region.detach(range).expect("private memory takes other pages");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::region::Region;
    use crate::sys::ring::Completion;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_kernel_that_may_not_know_flags_of_receives_gets_none() {
        let mut ring = Uring::new(Region::map(4096).unwrap(), 8, 2).unwrap();
        assert_eq!(ring.receive_flags(), if ring.deferred { POLL_FIRST } else { 0 });
        ring.try_receive().unwrap();
        ring.deferred = false;
        assert_eq!(ring.receive_flags(), 0);
        ring.try_receive().unwrap();
    }

    #[test]
    fn a_wish_to_gather_is_for_the_next_call_alone() {
        let mut ring = Uring::new(Region::map(4096).unwrap(), 8, 2).unwrap();
        let pairs = [(); 2].map(|()| UnixStream::pair().unwrap());
        let mut peers = pairs.map(|(here, there)| {
            let slot = ring.install(File::from(OwnedFd::from(here))).unwrap();
            assert!(ring.receive(slot, 0..8, u64::from(slot.0)));
            there
        });
        ring.gather(2);
        ring.enter(Wait::No).unwrap();
        peers[1].write_all(b"news").unwrap();
        let began = Instant::now();
        ring.enter(Wait::ForNs(60_000_000_000)).unwrap();
        assert_eq!(ring.completion(), Some(Completion::last(1, 4)));
        assert!(began.elapsed() < Duration::from_secs(30), "it waited for both");
        drop(peers);
        while ring.in_flight() > 0 {
            ring.enter(Wait::ForNs(1_000_000)).unwrap();
            while ring.completion().is_some() {}
        }
    }

    /// A connection within this host.
    fn connected(ring: &mut Uring) -> (FileSlot, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (ring.install(File::from(OwnedFd::from(here))).unwrap(), listener.accept().unwrap().0)
    }

    #[test]
    fn a_ring_that_lends_pins_nothing_and_sends_nothing_without_a_copy() {
        let mut ring = Uring::new(Region::map_unreserved(4096).unwrap(), 8, 2).unwrap().zero_copy(true);
        let (slot, _peer) = connected(&mut ring);
        assert!(ring.receive(slot, 0..8, 1), "as each connection is opened: listening, not yet submitted");
        // As on a kernel that cannot send without a copy.
        let zero_copy = std::mem::replace(&mut ring.zero_copy, false);
        assert!(!ring.detaches(), "it may, but has nobody to lend to");
        ring.zero_copy = zero_copy;
        assert!(ring.can_lend(slot, Loan::TakenBack) && ring.detaches());
        assert!(!ring.has_zero_copy() && !ring.registered());
        let again = ring.ring.submitter().unregister_buffers().unwrap_err();
        assert_eq!(again.raw_os_error(), Some(libc::ENXIO), "the kernel has none any more");
    }

    #[test]
    fn what_is_registered_stays_where_the_kernel_has_something_in_flight() {
        let mut ring = Uring::new(Region::map_unreserved(4096).unwrap(), 8, 2).unwrap().zero_copy(true);
        let (slot, _peer) = connected(&mut ring);
        let registered = ring.registered();
        assert!(ring.receive(slot, 0..8, 1));
        ring.enter(Wait::No).unwrap();
        assert!(ring.can_lend(slot, Loan::TakenBack));
        assert!(!ring.has_zero_copy() && ring.registered() == registered);
    }

    #[test]
    fn a_ring_that_ends_gives_its_memory_back_also_where_a_receive_is_armed() {
        // So much that nobody else's memory gets to its beginning meanwhile.
        const REGION_BYTES: usize = 256 << 20;
        let region = Region::map_unreserved(REGION_BYTES).unwrap();
        let start = region.bytes().as_ptr() as usize;
        let is_mapped = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let range_of = |line: &str| {
                let (from, rest) = line.split_once('-')?;
                let to = rest.split(' ').next()?;
                Some(usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?)
            };
            maps.lines().filter_map(range_of).any(|range| range.contains(&start))
        };
        let mut ring = Uring::registering(region, 4096, 8, 2).unwrap();
        let (here, _there) = UnixStream::pair().unwrap();
        let slot = ring.install(File::from(OwnedFd::from(here))).unwrap();
        assert!(ring.receive(slot, 0..8, 1));
        ring.enter(Wait::No).unwrap();
        assert_eq!((ring.completion(), ring.in_flight(), is_mapped()), (None, 1, true));
        drop(ring);
        assert!(!is_mapped());
    }

    #[test]
    fn only_what_lies_in_one_registered_buffer_is_sent_from_there() {
        let (region, bytes) = (Region::map(3 * 4096).unwrap(), 2 * 4096);
        let ring = Uring::registering(region, bytes, 8, 2).unwrap();
        let known = ring.registered().then_some(0);
        assert_eq!(ring.buffer_of(&(4096..bytes)), known);
        assert_eq!(ring.buffer_of(&(4096..bytes + 1)), None);
        assert_eq!(ring.buffer_of(&(bytes..3 * 4096)), None);
    }
}
