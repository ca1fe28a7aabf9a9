//! The keyed signature of a record: SipHash-2-4 over the header up to the signature, the body's CRC32C and the
//! body's keyed digest.
//!
//! The digest, SipHash-2-4 of the body with the same key, is baked with the body and travels nowhere: a reader
//! with the key computes it anew. So the cost of signing does not depend on the record's length, and a body
//! forged to keep its CRC32C is found. The record's checksum is left out because it covers the signature.
//!
//! Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012).

use crate::record::HEADER_BYTES;
use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// Where the signed stretches of the header end and begin again: the signature lies between them.
const SIGNED_HEAD_END: usize = 48;
const DIGEST_OFFSET: usize = 56;
const DIGEST_END: usize = 60;
const SIGNED_CRC_END: usize = SIGNED_HEAD_END + DIGEST_END - DIGEST_OFFSET;
const SIGNED_BYTES: usize = SIGNED_CRC_END + size_of::<u64>();

/// The keyed digest of everything behind the header.
pub fn body_digest(key: &[u8; 16], body: &[u8]) -> u64 {
    let mut hasher = body_hasher(key);
    hasher.write(body);
    hasher.finish()
}

/// [`body_digest`] for bodies that come in pieces.
pub fn body_hasher(key: &[u8; 16]) -> impl Hasher + use<> {
    SipHasher24::new_with_key(key)
}

/// The value of the header's signature field; `key` as in `--sign-key`.
#[inline]
pub fn sign(key: &[u8; 16], header: &[u8; HEADER_BYTES], body_digest: u64) -> u64 {
    let mut signed = [0; SIGNED_BYTES];
    signed[..SIGNED_HEAD_END].copy_from_slice(&header[..SIGNED_HEAD_END]);
    signed[SIGNED_HEAD_END..SIGNED_CRC_END].copy_from_slice(&header[DIGEST_OFFSET..DIGEST_END]);
    signed[SIGNED_CRC_END..].copy_from_slice(&body_digest.to_le_bytes());
    SipHasher24::new_with_key(key).hash(&signed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Header;
    use proptest::prelude::*;

    fn round(v: &mut [u64; 4]) {
        v[0] = v[0].wrapping_add(v[1]);
        v[2] = v[2].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[1]);
        v[0] = v[0].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].rotate_left(32);
    }

    /// SipHash-2-4 straight from the paper.
    fn reference(key: &[u8; 16], message: &[u8]) -> u64 {
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        let (k0, k1) = (word(&key[..8]), word(&key[8..]));
        let mut v =
            [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573];
        let mut padded = message.to_vec();
        padded.resize(message.len() / 8 * 8 + 7, 0);
        padded.push(message.len() as u8);
        for m in padded.chunks(8).map(word) {
            v[3] ^= m;
            (0..2).for_each(|_| round(&mut v));
            v[0] ^= m;
        }
        v[2] ^= 0xff;
        (0..4).for_each(|_| round(&mut v));
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }

    #[test]
    fn the_reference_agrees_with_the_papers_vector() {
        let key: [u8; 16] = std::array::from_fn(|i| i as u8);
        let message: [u8; 15] = std::array::from_fn(|i| i as u8);
        assert_eq!(reference(&key, &message), 0xa129_ca61_49be_45e5);
    }

    proptest! {
        #[test]
        fn the_signature_is_siphash_of_what_it_covers(key: [u8; 16], words: [u64; 8], digest: u64) {
            let mut header = [0; HEADER_BYTES];
            header.chunks_mut(8).zip(words).for_each(|(chunk, word)| chunk.copy_from_slice(&word.to_le_bytes()));
            let covered = [&header[..48], &header[56..60], &digest.to_le_bytes()].concat();
            prop_assert_eq!(sign(&key, &header, digest), reference(&key, &covered));
        }
    }

    #[test]
    fn only_the_signature_and_the_checksum_are_not_covered() {
        let key = [7; 16];
        let header = Header {
            flags: 1,
            run_id: 2,
            producer_id: 3,
            record_length: 64,
            weight: 4,
            sequence: 5,
            timestamp_ns: 6,
            signature: 0,
            body_crc32c: 7,
            crc32c: 8,
        }
        .encode();
        for at in 0..HEADER_BYTES {
            let mut changed = header;
            changed[at] ^= 1;
            let covered = !(48..56).contains(&at) && at < 60;
            assert_eq!(sign(&key, &changed, 9) != sign(&key, &header, 9), covered, "byte {at}");
        }
        assert_ne!(sign(&key, &header, 9), sign(&key, &header, 10), "the body's digest");
    }
}
