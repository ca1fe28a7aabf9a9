//! Sends that lend memory: tried when the ring is entered; where the socket has no room, the ring watches it.

use super::Uring;
use crate::sys::lend::Lenders;
use crate::sys::ring::{Completion, FileSlot, Loan, Piece, Progress, negated_errno, rest};
use io_uring::{opcode, types::Fixed};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::AsFd;

/// Begins the token of a watch; the number of its file follows.
const WATCH: u64 = u64::MAX << 32;

struct Job {
    slot: FileSlot,
    pieces: [Piece; 2],
    loan: Loan,
    taken: usize,
    token: u64,
    /// Its socket has no room and is watched.
    waits: bool,
}

pub struct Lending {
    pub lenders: Lenders,
    /// Something that is lent may be detached.
    pub detaches: bool,
    jobs: Vec<Job>,
    pub done: VecDeque<Completion>,
}

impl Lending {
    pub fn new(depth: usize) -> Self {
        let (jobs, done) = (Vec::with_capacity(depth), VecDeque::with_capacity(depth));
        Self { lenders: Lenders::default(), detaches: false, jobs, done }
    }

    /// True: the token is that of a watch, whose socket has room now, or has ended.
    pub fn wake(&mut self, token: u64) -> bool {
        let is_watch = token & WATCH == WATCH;
        if is_watch {
            let slot = FileSlot(token as u32);
            self.jobs.iter_mut().filter(|job| job.slot == slot).for_each(|job| job.waits = false);
        }
        is_watch
    }
}

impl Uring {
    pub(super) fn lend(&mut self, slot: FileSlot, pieces: [Piece; 2], loan: Loan, token: u64) {
        self.lending.jobs.push(Job { slot, pieces, loan, taken: 0, token, waits: false });
        self.in_flight += 1;
    }

    /// True: there are answers.
    pub(super) fn lend_what_fits(&mut self) -> bool {
        let mut at = 0;
        while at < self.lending.jobs.len() {
            match self.try_job(at) {
                None => at += 1,
                Some(result) => {
                    let token = self.lending.jobs.swap_remove(at).token;
                    self.lending.done.push_back(Completion { token, result, progress: Progress::Lent });
                }
            }
        }
        !self.lending.done.is_empty()
    }

    /// `None`: its socket has to be waited for.
    fn try_job(&mut self, at: usize) -> Option<i32> {
        let Self { lending: Lending { lenders, jobs, .. }, region, files, .. } = self;
        let job = &mut jobs[at];
        if job.waits {
            return None;
        }
        let (socket, bytes) = (files[job.slot.0 as usize].as_fd(), region.bytes());
        let lender = lenders.get(job.slot).expect("what is lent has a lender");
        let all = job.pieces[0].len() + job.pieces[1].len();
        while job.taken < all {
            match lender.send_nowait(socket, rest(&job.pieces, job.taken).map(|piece| &bytes[piece]), job.loan) {
                Ok(sent) => job.taken += sent,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    job.waits = true;
                    let watch = WATCH | u64::from(job.slot.0);
                    let entry = opcode::PollAdd::new(Fixed(job.slot.0), libc::POLLOUT as u32).build();
                    // The place in the queue is the job's.
                    assert!(self.push_uncounted(&entry.user_data(watch)), "the ring has a place for each send");
                    return None;
                }
                // As io_uring does: what was taken is told first, the error meets the next send.
                Err(_) if job.taken > 0 => break,
                Err(error) => return Some(negated_errno(&error)),
            }
        }
        Some(job.taken as i32)
    }
}
