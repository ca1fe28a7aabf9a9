//! One batch on its way: what is known of it until its books are closed.

use super::Options;
use super::outbox::{Outbox, Packed};
use crate::counters::Field;
use crate::payload::Payload;
use crate::sink::Fate;
use crate::sys::ring::{NetRing, Piece};
use crate::wire::kafka::batch::{BatchFacts, NO_PRODUCER_EPOCH, NO_PRODUCER_ID};

/// A batch that has no final answer, or whose bytes the kernel still reads.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub slot: u32,
    pub base_sequence: i32,
    pub timestamp_ms: i64,
    /// By the clock, which the delivery timeout is of.
    pub submitted_ns: u64,
    /// In attended time.
    pub sent_ns: u64,
    pub correlation_id: i32,
    pub attempts: u32,
    /// Which head it is sent with.
    pub head: usize,
    pub buffer: Option<usize>,
    /// Where its head and its records lay when it was sent last.
    pub pieces: [Piece; 2],
    /// An earlier attempt may have been appended: its answer was lost, or did not say.
    pub doubtful: bool,
    /// The bytes in the ring may have been stamped anew.
    pub left_ring: bool,
    /// The kernel or the broker reads it.
    pub held: bool,
    /// The broker reads it in place, until it answers.
    pub lent: bool,
    /// The last that is known of it is that the broker did not take it for now.
    pub refused: bool,
    pub fate: Option<Fate>,
    pub told: bool,
}

impl Delivery {
    /// Its fate if it is not sent again.
    pub fn unconfirmed(&self, kind: Field) -> Fate {
        if self.doubtful { Fate::Uncertain(kind) } else { Fate::Failed(kind) }
    }

    /// What the head of its batch says.
    pub fn facts(&self, records: u64, packed: &Packed, options: &Options) -> BatchFacts {
        let (producer_id, producer_epoch) = options.identity.unwrap_or((NO_PRODUCER_ID, NO_PRODUCER_EPOCH));
        BatchFacts {
            records: records as u32,
            record_bytes: packed.records.len() as u32,
            records_crc: packed.crc,
            codec: options.codec,
            first_timestamp_ms: self.timestamp_ms,
            max_timestamp_ms: self.timestamp_ms,
            producer_id,
            producer_epoch,
            base_sequence: self.base_sequence,
        }
    }

    /// The ring gets other pages for what was lent: whoever reads it yet reads what it was.
    pub fn take_back<R: NetRing>(&mut self, ring: &mut R) {
        self.pieces.iter().for_each(|piece| ring.detach(piece.clone()));
        self.lent = false;
    }

    /// It is made again when it goes out.
    pub fn leave_ring(&mut self, payload: &mut Payload) {
        if !self.held && !self.left_ring {
            payload.release(self.slot);
            self.left_ring = true;
        }
    }

    /// Nobody reads the batch's bytes any longer.
    pub fn let_go(&mut self, payload: &mut Payload, outbox: &mut Outbox) {
        (self.held, self.lent) = (false, false);
        if let Some(buffer) = self.buffer.take() {
            outbox.give_back(buffer);
        } else if !self.left_ring {
            payload.release(self.slot);
        }
        self.left_ring = true;
    }
}
