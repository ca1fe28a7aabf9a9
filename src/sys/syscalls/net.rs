//! Sockets of the plain back end: sends are tried at once, what could not be done waits in `poll`.

use super::Syscalls;
use crate::sys::ring::{Completion, FileSlot, Loan, Means, NetRing, Piece, Progress, Ring, Wait, negated_errno, rest};
use crate::sys::socket::{self, Interest, Waiter};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::AsFd;

enum Operation {
    Send { pieces: [Piece; 2], taken: usize, lent: Option<Loan> },
    Receive { range: Range<usize> },
}

struct Job {
    slot: FileSlot,
    operation: Operation,
    token: u64,
    /// It was tried and has to wait for its socket.
    waits: bool,
}

/// Operations on sockets that have no answer yet.
pub struct Pending {
    jobs: Vec<Job>,
    waiter: Waiter,
}

impl Pending {
    pub fn new(depth: usize) -> Self {
        Self { jobs: Vec::with_capacity(depth), waiter: Waiter::new(depth) }
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub fn len(&self) -> usize {
        self.jobs.len()
    }
}

impl Syscalls {
    /// Does what can be done; waits for the sockets only if nothing could.
    pub(super) fn enter_sockets(&mut self, wait: Wait) {
        let before = self.done.len();
        self.attempt(|job, _| !job.waits);
        if self.net.jobs.is_empty() {
            return;
        }
        self.net.waiter.clear();
        for job in &self.net.jobs {
            let interest = match job.operation {
                Operation::Send { .. } => Interest::Writable,
                Operation::Receive { .. } => Interest::Readable,
            };
            self.net.waiter.add(self.files.get(job.slot).as_fd(), interest);
        }
        let ns = match wait {
            Wait::ForNs(ns) if self.done.len() == before && before == 0 => ns,
            _ => 0,
        };
        self.net.waiter.wait(ns);
        let waiter = std::mem::replace(&mut self.net.waiter, Waiter::new(0));
        self.attempt(|_, at| waiter.is_ready(at));
        self.net.waiter = waiter;
    }

    /// Tries the jobs that `chosen` picks by themselves and their place; those that end leave the list.
    fn attempt(&mut self, chosen: impl Fn(&Job, usize) -> bool) {
        let mut kept = 0;
        for at in 0..self.net.jobs.len() {
            let answer = if chosen(&self.net.jobs[at], at) { self.try_job(at) } else { None };
            match answer {
                Some(result) => {
                    let Job { ref operation, token, .. } = self.net.jobs[at];
                    let lent = matches!(operation, Operation::Send { lent: Some(_), .. });
                    self.done.push_back(Completion {
                        progress: if lent { Progress::Lent } else { Progress::Last },
                        token,
                        result,
                    });
                }
                None => {
                    self.net.jobs.swap(kept, at);
                    kept += 1;
                }
            }
        }
        self.net.jobs.truncate(kept);
    }

    /// `None`: the socket has to be waited for.
    fn try_job(&mut self, at: usize) -> Option<i32> {
        let job = &mut self.net.jobs[at];
        job.waits = true;
        let socket = self.files.get(job.slot).as_fd();
        match &mut job.operation {
            Operation::Receive { range } => {
                answer(socket::receive_nowait(socket, &mut self.region.bytes_mut()[range.clone()]))
            }
            Operation::Send { pieces, taken, lent } => {
                let all = pieces[0].len() + pieces[1].len();
                while *taken < all {
                    let bytes = self.region.bytes();
                    let left = rest(pieces, *taken).map(|piece| &bytes[piece]);
                    let sent = match lent.and_then(|loan| Some((loan, self.lenders.get(job.slot)?))) {
                        Some((loan, lender)) => lender.send_nowait(socket, left, loan),
                        None => socket::send_nowait(socket, left),
                    };
                    match sent {
                        Ok(sent) => *taken += sent,
                        // As io_uring does: what was taken is told first, the error meets the next send.
                        Err(error) => return answer(Err(error)).map(|e| if *taken > 0 { *taken as i32 } else { e }),
                    }
                }
                Some(all as i32)
            }
        }
    }
}

fn answer(result: io::Result<usize>) -> Option<i32> {
    match result {
        Ok(bytes) => Some(bytes as i32),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
        Err(error) => Some(negated_errno(&error)),
    }
}

impl NetRing for Syscalls {
    fn send(&mut self, slot: FileSlot, pieces: [Piece; 2], means: Means, token: u64) -> bool {
        let lent = if let Means::Lend(loan) = means { Some(loan) } else { None };
        self.push_job(Job { slot, operation: Operation::Send { pieces, taken: 0, lent }, token, waits: false })
    }

    fn receive(&mut self, slot: FileSlot, range: Range<usize>, token: u64) -> bool {
        self.push_job(Job { slot, operation: Operation::Receive { range }, token, waits: true })
    }

    fn has_zero_copy(&self) -> bool {
        false
    }

    fn can_lend(&mut self, slot: FileSlot, _loan: Loan) -> bool {
        self.may_lend && self.lenders.make(slot, self.files.get(slot).as_fd())
    }

    fn detach(&mut self, range: Range<usize>) {
        self.region.detach(range).expect("private memory takes other pages");
    }
}

impl Syscalls {
    fn push_job(&mut self, job: Job) -> bool {
        let room = self.in_flight() < self.depth;
        if room {
            self.net.jobs.push(job);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::region::Region;
    use std::fs::File;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    #[test]
    fn more_than_the_socket_holds_goes_out_whole_while_the_peer_reads() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut server = listener.accept().unwrap().0;
        let bytes = 32 << 20;
        let mut ring = Syscalls::new(Region::map(bytes).unwrap(), 4);
        ring.memory().iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 251) as u8);
        let slot = ring.install(File::from(OwnedFd::from(client))).unwrap();
        assert!(ring.send(slot, [0..1000, 1000..bytes], Means::Copy, 7));
        assert!(ring.receive(slot, 0..0, 8) && ring.in_flight() == 2);
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; bytes];
            server.read_exact(&mut all).unwrap();
            all
        });
        let sent = loop {
            ring.enter(Wait::ForNs(50_000_000)).unwrap();
            match ring.completion() {
                Some(done) if done.token == 7 => break done,
                _ => {}
            }
        };
        assert_eq!(sent, Completion::last(7, bytes as i32));
        let read = reader.join().unwrap();
        assert!(read.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
    }
}
