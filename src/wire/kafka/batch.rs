//! The head of a record batch (format 2), and its checksum from the checksums of parts.
//!
//! *Raw* here is the register of a CRC32C without the final inversion; what starts at 0 is linear, so parts can be
//! computed apart and joined.

use super::codec::Codec;
use crate::sys::crc;
use crate::wire::crc32c;

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;
/// The checksum covers everything from here on.
pub const CRC_COVERS_FROM: usize = 21;
/// Bytes that a batch's own length does not count: base offset and the length.
pub const LENGTH_EXCLUDES: usize = 12;

pub(super) const MAGIC: u8 = 2;

/// Up to here one stream of words is as fast as the three of the crate.
const SHORT_BYTES: usize = 768;

/// Who sends no producer id sends -1 for it, and for the other two.
pub const NO_PRODUCER_ID: i64 = -1;
pub const NO_PRODUCER_EPOCH: i16 = -1;
pub const NO_SEQUENCE: i32 = -1;

/// What the head of a batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchFacts {
    pub records: u32,
    /// Bytes after the head: framed records, compressed or not.
    pub record_bytes: u32,
    /// Raw CRC of those bytes, from register 0.
    pub records_crc: u32,
    pub codec: Codec,
    pub first_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

/// Writes the head; `shift` is [`crc32c::shift`] of `record_bytes`.
#[inline]
pub fn write_header(out: &mut [u8; HEADER_BYTES], facts: &BatchFacts, shift: u32) {
    debug_assert_eq!(shift, crc32c::shift(u64::from(facts.record_bytes)));
    debug_assert!(facts.records > 0 && facts.record_bytes < i32::MAX as u32 - HEADER_BYTES as u32);
    out[0..8].fill(0);
    let length = facts.record_bytes + (HEADER_BYTES - LENGTH_EXCLUDES) as u32;
    out[8..12].copy_from_slice(&length.to_be_bytes());
    // The leader's epoch, which the broker sets.
    out[12..16].fill(0xff);
    out[16] = MAGIC;
    out[21..23].copy_from_slice(&facts.codec.attributes().to_be_bytes());
    out[23..27].copy_from_slice(&(facts.records - 1).to_be_bytes());
    out[27..35].copy_from_slice(&facts.first_timestamp_ms.to_be_bytes());
    out[35..43].copy_from_slice(&facts.max_timestamp_ms.to_be_bytes());
    out[43..51].copy_from_slice(&facts.producer_id.to_be_bytes());
    out[51..53].copy_from_slice(&facts.producer_epoch.to_be_bytes());
    out[53..57].copy_from_slice(&facts.base_sequence.to_be_bytes());
    out[57..61].copy_from_slice(&facts.records.to_be_bytes());
    let head = raw_append(!0, &out[CRC_COVERS_FROM..]);
    let crc = !raw_join(head, facts.records_crc, shift);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// The register `raw` after `bytes`.
#[inline]
pub fn raw_append(raw: u32, bytes: &[u8]) -> u32 {
    if bytes.len() < SHORT_BYTES { crc::append_short(raw, bytes) } else { !crc32c::append(!raw, bytes) }
}

/// The register of two parts in a row, the second of which started at 0; `right_shift` is [`crc32c::shift`] of its
/// length.
#[inline]
pub fn raw_join(left: u32, right: u32, right_shift: u32) -> u32 {
    crc32c::multiply(left, right_shift) ^ right
}

/// The register, from 0, of bytes whose usual `checksum` is known; `shift` is [`crc32c::shift`] of their length.
#[inline]
pub fn raw_of_checksum(checksum: u32, shift: u32) -> u32 {
    !checksum ^ crc32c::multiply(!0, shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_join_to_the_whole(
            left in proptest::collection::vec(any::<u8>(), 0..100),
            right in proptest::collection::vec(any::<u8>(), 0..2000),
            register: u32,
        ) {
            let shift = crc32c::shift(right.len() as u64);
            let whole = [left.clone(), right.clone()].concat();
            prop_assert_eq!(raw_append(0, &whole), crc32c::remainder(&whole));
            let appended = raw_append(raw_append(register, &left), &right);
            prop_assert_eq!(raw_append(register, &whole), appended);
            prop_assert_eq!(raw_join(raw_append(register, &left), raw_append(0, &right), shift), appended);
            prop_assert_eq!(!raw_append(!0, &whole), crc32c::checksum(&whole));
            prop_assert_eq!(raw_of_checksum(crc32c::checksum(&right), shift), raw_append(0, &right));
        }
    }
}
