//! What a target wants around each record: nothing, a length, room for the head of a request, or the frame of a Kafka
//! record.

mod kafka;

pub use kafka::{Header, KafkaFraming, digits};

use super::stamper::Stamper;
use super::{Block, Payload, Starts};

/// See the module. The same number of bytes around every record of a lane, so that positions stay arithmetic.
pub enum Framing {
    /// Record follows record.
    None,
    /// The record's length before it, four bytes, the highest first.
    Length,
    /// So many bytes before it that are the target's.
    Room(usize),
    Kafka(Box<KafkaFraming>),
}

impl Framing {
    /// Bytes before a record.
    #[inline]
    pub fn before(&self) -> usize {
        match self {
            Framing::None => 0,
            Framing::Length => 4,
            Framing::Room(bytes) => *bytes,
            Framing::Kafka(kafka) => kafka.before(),
        }
    }

    /// Bytes after a record.
    #[inline]
    pub fn after(&self) -> usize {
        match self {
            Framing::None | Framing::Length | Framing::Room(_) => 0,
            Framing::Kafka(kafka) => kafka.after(),
        }
    }

    /// Bytes before and after a record.
    #[inline]
    pub fn bytes(&self) -> u64 {
        (self.before() + self.after()) as u64
    }

    /// Writes what never changes of one record's frame; `before` and `after` are its places.
    pub fn bake(&self, before: &mut [u8], after: &mut [u8], record_bytes: usize) {
        match self {
            Framing::None | Framing::Room(_) => {}
            Framing::Length => before.copy_from_slice(&(record_bytes as u32).to_be_bytes()),
            Framing::Kafka(kafka) => kafka.bake(before, after, record_bytes),
        }
    }

    /// Takes down what the baked records of `ring` add to checksums.
    pub fn seal(&mut self, ring: &[u8], starts: &Starts, stamper: &Stamper) {
        if let Framing::Kafka(kafka) = self {
            kafka.seal(ring, starts, stamper);
        }
    }

    /// Brings the frames of a stamped block up to date; returns its `remainder`.
    pub fn frame(&self, memory: &mut [u8], block: &Block, payload: &Payload) -> u32 {
        match self {
            Framing::None | Framing::Length | Framing::Room(_) => 0,
            Framing::Kafka(kafka) => kafka.frame(memory, block, payload),
        }
    }
}
