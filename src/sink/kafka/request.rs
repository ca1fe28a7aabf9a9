//! One batch on its way: what is known of it until its books are closed.

use super::outbox::Outbox;
use crate::payload::Payload;
use crate::sink::Fate;
use std::ops::Range;

/// A batch that has no final answer, or whose bytes the kernel still reads.
#[derive(Clone, Debug)]
pub struct Request {
    pub slot: u32,
    pub base_sequence: i32,
    pub timestamp_ms: i64,
    pub offered_ns: u64,
    pub sent_ns: u64,
    pub correlation_id: i32,
    pub attempts: u32,
    /// Which head it is sent with.
    pub head: usize,
    pub stage: Option<usize>,
    /// Where its records lay when it was sent last.
    pub records: Range<usize>,
    /// An earlier attempt may have been appended: its answer was lost, or did not say.
    pub doubtful: bool,
    /// The bytes in the ring may have been stamped anew.
    pub left_ring: bool,
    /// The kernel or the broker reads it.
    pub held: bool,
    /// The broker reads it in place, until it answers.
    pub lent: bool,
    pub fate: Option<Fate>,
    pub told: bool,
}

impl Request {
    /// Nobody reads the request's bytes any longer.
    pub fn let_go(&mut self, payload: &mut Payload, outbox: &mut Outbox) {
        (self.held, self.lent) = (false, false);
        if let Some(stage) = self.stage.take() {
            outbox.give_back(stage);
        } else if !self.left_ring {
            payload.release(self.slot);
        }
        self.left_ring = true;
    }
}
