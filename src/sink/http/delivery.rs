//! A request through all of its attempts.

use crate::counters::Field;
use crate::sink::Fate;

/// A block as a request.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    pub slot: u32,
    /// Its records are of the warm-up.
    pub warmup: bool,
    pub attempts: u32,
    /// An earlier attempt may have been taken.
    pub doubtful: bool,
    /// The error of the last attempt.
    pub kind: Field,
    pub not_before_ns: u64,
    /// The bytes in the ring may have been stamped anew.
    pub left_ring: bool,
    /// Which place for a head it is sent with.
    pub head: usize,
    /// In attended time.
    pub sent_ns: u64,
    /// The kernel has taken all of it in this attempt.
    pub whole: bool,
    /// The kernel reads it.
    pub held: bool,
    /// It was made again in the connection's buffer, and the kernel reads it there.
    pub in_buffer: bool,
    /// `NotSent`: another attempt will tell.
    pub fate: Option<Fate>,
}

impl Delivery {
    /// What became of a request that is not tried again.
    pub fn unconfirmed(&self) -> Fate {
        if self.doubtful { Fate::Uncertain(self.kind) } else { Fate::Failed(self.kind) }
    }

    /// An attempt came to nothing; the next one may go out from this time on, or there is none.
    pub fn failed(&mut self, kind: Field, next_ns: Option<u64>) {
        self.kind = kind;
        self.not_before_ns = next_ns.unwrap_or(0);
        self.fate = Some(if next_ns.is_some() { Fate::NotSent } else { self.unconfirmed() });
    }

    pub fn new(slot: u32, warmup: bool) -> Self {
        Self {
            slot,
            warmup,
            attempts: 0,
            doubtful: false,
            kind: Field::ErrorTimeout,
            not_before_ns: 0,
            left_ring: false,
            head: 0,
            sent_ns: 0,
            whole: false,
            held: false,
            in_buffer: false,
            fate: None,
        }
    }
}
