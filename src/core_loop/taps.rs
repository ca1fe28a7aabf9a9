//! Tells governance of every Nth record, where somebody wants to know.

use crate::payload::Payload;
use crate::record::{CRC_OFFSET, HEADER_BYTES};
use crate::tap::{Checksum, EventFacts, Tap};
use crate::wire::crc32c;

/// Offers the records of a block just stamped whose sequence is a multiple of N.
#[inline]
pub fn tap_events(tap: Option<&mut Tap>, lane: usize, memory: &[u8], payload: &Payload, slot: u32) {
    let Some(tap) = tap else { return };
    let block = payload.block(slot);
    let end = block.first_sequence + block.records;
    let mut sequence = block.first_sequence.next_multiple_of(tap.every());
    while sequence < end {
        let at = sequence - block.first_sequence;
        let record = &memory[payload.place_of(block, at)];
        let who = tap.lane(lane);
        tap.offer(EventFacts {
            producer_id: who.producer_id,
            sequence,
            timestamp_unix_ns: payload.timestamp_unix_ns(block, at),
            bytes: record.len() as u64,
            weight: block.weight,
            crc32c: checksum(tap.checksum(), record),
            target: who.target,
        });
        sequence += tap.every();
    }
}

fn checksum(place: Checksum, record: &[u8]) -> u32 {
    match place {
        Checksum::Header => {
            u32::from_le_bytes(record[CRC_OFFSET..HEADER_BYTES].try_into().expect("a record has a header"))
        }
        Checksum::Whole => crc32c::checksum(record),
    }
}
