//! The record header: 64 bytes, little-endian, the same on every target. Published as `schemas/record.ksy`.
//!
//! | offset | field | |
//! |---|---|---|
//! | 0 | magic | `ENGR` |
//! | 4 | format version | u8, 1 |
//! | 5 | flags | u8, bit 0: signed |
//! | 6 | header length | u16, 64 |
//! | 8 | run id | u64, the first 8 bytes (little-endian) of SHA-256 of `--run-id` |
//! | 16 | producer id | u32 |
//! | 20 | record length | u32, header included |
//! | 24 | weight | u64 |
//! | 32 | sequence | u64 |
//! | 40 | timestamp | u64, ns since the Unix epoch |
//! | 48 | signature | u64, 0 when off |
//! | 56 | body digest | u32, CRC32C of everything after the header |
//! | 60 | CRC32C | u32, over the whole record with this field as zero |

use crate::wire::crc32c;

pub const HEADER_BYTES: usize = 64;
pub const MAGIC: [u8; 4] = *b"ENGR";
pub const FORMAT_VERSION: u8 = 1;
pub const FLAG_SIGNED: u8 = 1;

/// The four words that change with every record: weight, sequence, timestamp, signature.
pub const STAMP_OFFSET: usize = 24;
pub const STAMP_END: usize = 56;
pub const CRC_OFFSET: usize = 60;

/// A header as a reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub flags: u8,
    pub run_id: u64,
    pub producer_id: u32,
    pub record_length: u32,
    pub weight: u64,
    pub sequence: u64,
    pub timestamp_ns: u64,
    pub signature: u64,
    pub body_crc32c: u32,
    pub crc32c: u32,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = FORMAT_VERSION;
        bytes[5] = self.flags;
        bytes[6..8].copy_from_slice(&(HEADER_BYTES as u16).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.run_id.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.producer_id.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.record_length.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.weight.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.timestamp_ns.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.signature.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.body_crc32c.to_le_bytes());
        bytes[60..64].copy_from_slice(&self.crc32c.to_le_bytes());
        bytes
    }

    /// `None` where the bytes are no header of ours: too few, magic, version, header length or a record
    /// length below the header. The checksum is not looked at.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let ours =
            bytes[..4] == MAGIC && bytes[4] == FORMAT_VERSION && bytes[6..8] == (HEADER_BYTES as u16).to_le_bytes();
        let header = Self {
            flags: bytes[5],
            run_id: u64_at(bytes, 8),
            producer_id: u32_at(bytes, 16),
            record_length: u32_at(bytes, 20),
            weight: u64_at(bytes, 24),
            sequence: u64_at(bytes, 32),
            timestamp_ns: u64_at(bytes, 40),
            signature: u64_at(bytes, 48),
            body_crc32c: u32_at(bytes, 56),
            crc32c: u32_at(bytes, 60),
        };
        (ours && header.record_length as usize >= HEADER_BYTES).then_some(header)
    }
}

/// Whether a whole record (header and body) carries the checksum of its bytes.
pub fn is_intact(record: &[u8]) -> bool {
    let Some(header) = Header::decode(record) else { return false };
    let mut head: [u8; HEADER_BYTES] = record[..HEADER_BYTES].try_into().expect("decode saw 64 bytes");
    head[CRC_OFFSET..].fill(0);
    crc32c::append(crc32c::checksum(&head), &record[HEADER_BYTES..]) == header.crc32c
}

/// The 64-bit run id of records: the first 8 bytes of SHA-256 of the text, little-endian.
pub fn run_id_hash(run_id: &str) -> u64 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(run_id.as_bytes());
    u64::from_le_bytes(*digest.first_chunk().expect("SHA-256 has 32 bytes"))
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_survives_its_bytes(
            flags: u8, run_id: u64, producer_id: u32, record_length in 64u32.., weight: u64, sequence: u64,
            timestamp_ns: u64, signature: u64, body_crc32c: u32, crc32c: u32,
        ) {
            let header = Header {
                flags, run_id, producer_id, record_length, weight, sequence, timestamp_ns, signature, body_crc32c, crc32c,
            };
            prop_assert_eq!(Header::decode(&header.encode()), Some(header));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Header::decode(&bytes), is_intact(&bytes));
        }
    }
}
