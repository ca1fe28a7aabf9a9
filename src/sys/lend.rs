//! Sends that lend pages to a socket instead of copying them: by way of a pipe, which holds references to them.
//!
//! On a connection within this host the very pages lie in the peer's queue until it has read them, whatever its TCP
//! acknowledged. So the owner of the memory leaves them alone until the peer's answer shows that it has read
//! everything, or puts other pages in their place; or it lends only what it never changes.

use super::ring::{FileSlot, Loan, rest};
use super::{pipe, process};
use crate::base::within_host::is_within_host;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Enough for the way through it to be worth its calls; of larger ones an unprivileged user gets few.
const PIPE_BYTES: usize = 256 << 10;
const DESCRIPTORS_SPARED: u64 = 64;

/// A connection's pipe.
pub struct Lender {
    exit: OwnedFd,
    entry: OwnedFd,
    /// Bytes on their way through it.
    inside: usize,
    /// What stopped it for good, with bytes inside that belong to what nobody may send any more.
    failed: Option<i32>,
}

impl Lender {
    /// # Errors
    /// Of `pipe` and `vmsplice`, which some sandboxes refuse; `Unsupported` where only small pipes may be had, or where
    /// descriptors are about to run out: others need them more.
    pub fn new() -> io::Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: the kernel writes two integers on this stack during the call.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both descriptors are new, and nobody else's.
        let [exit, entry] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        let spare = process::open_files_max().saturating_sub(entry.as_raw_fd() as u64);
        if spare < DESCRIPTORS_SPARED || pipe::grow(entry.as_fd(), PIPE_BYTES).is_none() {
            return Err(io::Error::from(ErrorKind::Unsupported));
        }
        pipe::vmsplice_nowait(entry.as_fd(), b"?")?;
        File::from(exit.try_clone()?).read_exact(&mut [0])?;
        Ok(Self { exit, entry, inside: 0, failed: None })
    }

    /// Sends both pieces as one message, as far as the socket has room. The next call is about what this one left, of
    /// which some may be on its way already: after an error there are no more but errors.
    pub fn send_nowait(&mut self, socket: BorrowedFd<'_>, pieces: [&[u8]; 2], loan: Loan) -> io::Result<usize> {
        if let Some(errno) = self.failed {
            return Err(io::Error::from_raw_os_error(errno));
        }
        // Only a socket that does not block as a whole makes a splice into it return.
        set_nonblocking(socket, true)?;
        let sent = self.send_all(socket, pieces, loan);
        set_nonblocking(socket, false)?;
        sent
    }

    fn send_all(&mut self, socket: BorrowedFd<'_>, pieces: [&[u8]; 2], loan: Loan) -> io::Result<usize> {
        let all = pieces[0].len() + pieces[1].len();
        let mut taken = 0;
        while taken < all {
            let stopped = match self.fill(pieces, taken + self.inside, loan) {
                Ok(()) => self.drain(socket, taken + self.inside < all),
                Err(error) => Err(error),
            };
            match stopped {
                Ok(bytes) => taken += bytes,
                Err(error) => {
                    if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
                        self.failed = Some(error.raw_os_error().unwrap_or(libc::EIO));
                    }
                    // As io_uring does: what was taken is told first, the error meets the next send.
                    return if taken > 0 { Ok(taken) } else { Err(error) };
                }
            }
        }
        Ok(taken)
    }

    /// Puts what the pipe has room for behind what is inside.
    fn fill(&mut self, pieces: [&[u8]; 2], from: usize, loan: Loan) -> io::Result<()> {
        let [first, second] = rest(&pieces.map(|piece| 0..piece.len()), from);
        if first.is_empty() && second.is_empty() {
            return Ok(());
        }
        let (mut first, second): (&[u8], _) = (&pieces[0][first], &pieces[1][second]);
        if loan == Loan::ForGood && !first.is_empty() {
            let wrote = pipe::write(self.entry.as_fd(), first);
            if self.put(wrote)? < first.len() || second.is_empty() {
                return Ok(());
            }
            first = &[];
        }
        let lent = pipe::lend_nowait(self.entry.as_fd(), [first, second]);
        self.put(lent)?;
        Ok(())
    }

    /// So much went into the pipe, which may have been full.
    fn put(&mut self, bytes: io::Result<usize>) -> io::Result<usize> {
        let bytes = match bytes {
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.inside > 0 => 0,
            bytes => bytes?,
        };
        self.inside += bytes;
        Ok(bytes)
    }

    /// Passes on what the socket has room for.
    fn drain(&mut self, socket: BorrowedFd<'_>, more_follows: bool) -> io::Result<usize> {
        let more = if more_follows { libc::SPLICE_F_MORE } else { 0 };
        let (exit, socket) = (self.exit.as_raw_fd(), socket.as_raw_fd());
        let (nowhere, flags) = (std::ptr::null_mut(), libc::SPLICE_F_NONBLOCK | more);
        // SAFETY: descriptors and numbers only; without offsets the kernel reads and writes none of our memory.
        let bytes = unsafe { libc::splice(exit, nowhere, socket, nowhere, self.inside, flags) };
        match usize::try_from(bytes) {
            Ok(0) => Err(io::Error::from(ErrorKind::WouldBlock)),
            Ok(bytes) => {
                self.inside -= bytes;
                Ok(bytes)
            }
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

/// By one call; `fcntl` takes two.
fn set_nonblocking(socket: BorrowedFd<'_>, whether: bool) -> io::Result<()> {
    let mut whether = libc::c_int::from(whether);
    // SAFETY: the kernel reads one integer on this stack during the call.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONBIO, &raw mut whether) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The lenders of a ring's connections.
#[derive(Default)]
pub struct Lenders(Vec<Option<Lender>>);

impl Lenders {
    /// A new one for a connection within this host; false: there is none, and memory is not to be lent.
    pub fn make(&mut self, slot: FileSlot, socket: BorrowedFd<'_>) -> bool {
        let at = slot.0 as usize;
        // The descriptors of one before it come back first.
        self.0.get_mut(at).into_iter().for_each(|old| *old = None);
        let lender = is_within_host(&socket).then(Lender::new).and_then(Result::ok);
        let is_there = lender.is_some();
        if at < self.0.len() {
            self.0[at] = lender;
        } else if is_there {
            self.0.resize_with(at, || None);
            self.0.push(lender);
        }
        is_there
    }

    pub fn get(&mut self, slot: FileSlot) -> Option<&mut Lender> {
        self.0.get_mut(slot.0 as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use crate::sys::region::Region;
    use crate::sys::ring::{Completion, FileSlot, Loan, Means, NetRing, Progress, Ring, Wait};
    use crate::sys::syscalls::Syscalls;
    use crate::sys::uring::Uring;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::ops::Range;
    use std::os::fd::OwnedFd;

    const REGION_BYTES: usize = 16 << 20;

    fn rings() -> (Uring, Syscalls) {
        let region = || Region::map_unreserved(REGION_BYTES).unwrap();
        (Uring::new(region(), 8, 2).unwrap().zero_copy(true), Syscalls::new(region(), 8).zero_copy(true))
    }

    /// A ring with one connection to the stream.
    fn connected<R: NetRing>(ring: &mut R) -> (FileSlot, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let slot = ring.install(File::from(OwnedFd::from(client))).unwrap();
        ring.memory().iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 251) as u8);
        assert!(ring.can_lend(slot, Loan::TakenBack));
        (slot, listener.accept().unwrap().0)
    }

    fn answered<R: NetRing>(ring: &mut R, token: u64) -> Completion {
        loop {
            ring.enter(Wait::ForNs(50_000_000)).unwrap();
            if let Some(done) = ring.completion() {
                assert_eq!(done.token, token);
                return done;
            }
        }
    }

    fn lend<R: NetRing>(ring: &mut R, slot: FileSlot, pieces: [Range<usize>; 2]) {
        let bytes = pieces[0].len() + pieces[1].len();
        assert!(ring.send(slot, pieces, Means::Lend(Loan::TakenBack), 7) && ring.in_flight() == 1);
        assert_eq!(answered(ring, 7), Completion { token: 7, result: bytes as i32, progress: Progress::Lent });
        assert_eq!(ring.in_flight(), 0);
    }

    fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
        let mut all = vec![0; bytes];
        stream.read_exact(&mut all).unwrap();
        all
    }

    fn more_than_the_socket_holds<R: NetRing>(mut ring: R) {
        let (slot, mut peer) = connected(&mut ring);
        let pieces = [100..1001, 5000..REGION_BYTES];
        let reader = std::thread::spawn(move || {
            let all = read(&mut peer, 901 + REGION_BYTES - 5000);
            peer.write_all(b"done").unwrap();
            (all, peer)
        });
        lend(&mut ring, slot, pieces.clone());
        let (all, _peer) = reader.join().unwrap();
        assert!(all.into_iter().eq(pieces.into_iter().flatten().map(|at| (at % 251) as u8)));
        // The socket still waits for what comes.
        assert!(ring.receive(slot, 0..100, 8));
        assert_eq!(answered(&mut ring, 8).result, 4);
    }

    #[test]
    fn more_than_the_socket_holds_is_lent_while_the_peer_reads() {
        let (uring, syscalls) = rings();
        more_than_the_socket_holds(uring);
        more_than_the_socket_holds(syscalls);
    }

    fn until_detached<R: NetRing>(mut ring: R) {
        let (slot, mut peer) = connected(&mut ring);
        let bytes = 100_000..200_000;
        lend(&mut ring, slot, [bytes.clone(), 0..0]);
        ring.memory()[bytes.clone()].fill(255);
        assert!(read(&mut peer, bytes.len()).into_iter().all(|byte| byte == 255), "it was copied");
        lend(&mut ring, slot, [bytes.clone(), 0..0]);
        ring.detach(bytes.clone());
        assert!(ring.memory()[bytes.clone()].iter().all(|byte| *byte == 255));
        assert!(ring.memory()[..bytes.start].iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
        ring.memory()[bytes.clone()].fill(254);
        assert!(read(&mut peer, bytes.len()).into_iter().all(|byte| byte == 255), "what was lent has changed");
    }

    #[test]
    fn the_peer_reads_the_memory_itself_until_it_is_detached() {
        let (uring, syscalls) = rings();
        until_detached(uring);
        until_detached(syscalls);
    }

    fn for_good<R: NetRing>(mut ring: R) {
        let (slot, mut peer) = connected(&mut ring);
        assert!(ring.can_lend(slot, Loan::ForGood));
        let (copied, lent) = (100..700, 5000..105_000);
        assert!(ring.send(slot, [copied.clone(), lent.clone()], Means::Lend(Loan::ForGood), 7));
        let done = Completion { token: 7, result: (copied.len() + lent.len()) as i32, progress: Progress::Lent };
        assert_eq!(answered(&mut ring, 7), done);
        ring.memory()[copied.clone()].fill(255);
        ring.memory()[lent.clone()].fill(254);
        let first = read(&mut peer, copied.len());
        assert!(first.into_iter().eq(copied.map(|at| (at % 251) as u8)), "the first piece was lent");
        assert!(read(&mut peer, lent.len()).into_iter().all(|byte| byte == 254), "the second piece was copied");
        // More than a pipe holds, of a first piece as well.
        let pieces = [0..REGION_BYTES / 8, REGION_BYTES / 4..REGION_BYTES / 2];
        ring.memory().fill(1);
        let bytes = pieces[0].len() + pieces[1].len();
        let reader = std::thread::spawn(move || read(&mut peer, bytes));
        assert!(ring.send(slot, pieces, Means::Lend(Loan::ForGood), 8));
        assert_eq!(answered(&mut ring, 8).result, bytes as i32);
        assert!(reader.join().unwrap().into_iter().all(|byte| byte == 1));
    }

    #[test]
    fn of_what_is_lent_for_good_the_first_piece_is_copied() {
        let (uring, syscalls) = rings();
        assert!(!uring.detaches(), "nothing of it is detached");
        for_good(uring);
        for_good(syscalls);
    }

    fn a_peer_that_goes<R: NetRing>(mut ring: R) {
        let (slot, peer) = connected(&mut ring);
        assert!(ring.send(slot, [0..REGION_BYTES, 0..0], Means::Lend(Loan::TakenBack), 7));
        ring.enter(Wait::No).unwrap();
        assert_eq!((ring.completion(), ring.in_flight()), (None, 1), "nobody reads");
        ring.shut_down(slot);
        drop(peer);
        let done = answered(&mut ring, 7);
        assert!(done.progress == Progress::Lent && done.result < REGION_BYTES as i32, "{done:?}");
        assert!(ring.send(slot, [0..100_000, 0..0], Means::Lend(Loan::TakenBack), 9));
        assert!(answered(&mut ring, 9).result < 0);
    }

    #[test]
    fn a_connection_that_ends_gives_its_sends_back() {
        let (uring, syscalls) = rings();
        a_peer_that_goes(uring);
        a_peer_that_goes(syscalls);
    }

    #[test]
    fn nothing_is_lent_where_copies_are_wanted() {
        let region = || Region::map(REGION_BYTES).unwrap();
        let mut ring = Syscalls::new(region(), 8).zero_copy(false);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let slot = ring.install(File::from(OwnedFd::from(client))).unwrap();
        assert!(!ring.can_lend(slot, Loan::TakenBack));
        assert!(!Uring::new(region(), 8, 2).unwrap().zero_copy(false).has_zero_copy());
    }
}
