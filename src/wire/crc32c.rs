//! CRC32C by linearity: what a change of a few bytes does to the checksum of a whole record, at a cost
//! that does not depend on the record.
//!
//! A CRC register is a polynomial over GF(2) modulo the Castagnoli polynomial (reflected bit order). The
//! *remainder* of bytes here is the register after them, started at zero and without the final inversion:
//! it is linear, `remainder(a ^ b) = remainder(a) ^ remainder(b)` for equal lengths, and bytes followed by
//! `n` zero bytes have the remainder `multiply(remainder(bytes), shift(n))`.
//!
//! Method: Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction" (Intel, 2011).

use crate::sys::crc::{self, ONE, X8};

/// The checksum as every protocol means it (init and final inversion included).
#[inline]
pub fn checksum(bytes: &[u8]) -> u32 {
    crc::append(0, bytes)
}

/// The checksum of what `crc` covers followed by `bytes`.
#[inline]
pub fn append(crc: u32, bytes: &[u8]) -> u32 {
    crc::append(crc, bytes)
}

/// The remainder of `bytes`: linear, started at zero, no inversion.
#[inline]
pub fn remainder(bytes: &[u8]) -> u32 {
    !crc::append(!0, bytes)
}

/// The remainder of four little-endian words, moved by a `factor` that [`shift`] gave: what the stamps of a
/// record header add to its checksum.
#[inline]
pub fn moved_words(words: [u64; 4], factor: u32) -> u32 {
    crc::multiply_words(words, factor)
}

/// The remainder of four little-endian words.
#[inline]
pub fn remainder_words(words: [u64; 4]) -> u32 {
    moved_words(words, ONE)
}

/// The product of two polynomials modulo Castagnoli's.
#[inline]
pub fn multiply(a: u32, b: u32) -> u32 {
    crc::multiply(a, b)
}

/// `x^(8 * bytes)`: multiply a remainder by it to move its bytes that far from the end.
pub fn shift(bytes: u64) -> u32 {
    let mut power = X8;
    let mut result = ONE;
    let mut left = bytes;
    while left > 0 {
        if left & 1 == 1 {
            result = multiply(result, power);
        }
        power = multiply(power, power);
        left >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::crc::multiply_portable;
    use proptest::prelude::*;

    #[test]
    fn the_check_value_of_rfc_3720() {
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
        assert_eq!(checksum(&[0; 32]), 0x8a91_36aa);
    }

    proptest! {
        #[test]
        fn another_implementation_agrees(
            bytes in proptest::collection::vec(any::<u8>(), 0..9000),
            start: u32,
        ) {
            prop_assert_eq!(append(start, &bytes), crc32c::crc32c_append(start, &bytes));
        }

        #[test]
        fn multiplication_agrees_with_the_portable_one(a: u32, b: u32) {
            prop_assert_eq!(multiply(a, b), multiply_portable(a, b));
        }

        #[test]
        fn a_patched_checksum_equals_a_full_one(
            bytes in proptest::collection::vec(any::<u8>(), 1..5000),
            patch in proptest::collection::vec(any::<u8>(), 1..40),
            at in any::<prop::sample::Index>(),
        ) {
            let mut patched = bytes.clone();
            let at = at.index(bytes.len());
            let end = (at + patch.len()).min(bytes.len());
            let delta: Vec<u8> = (at..end).map(|i| bytes[i] ^ patch[i - at]).collect();
            patched[at..end].copy_from_slice(&patch[..end - at]);
            let moved = multiply(remainder(&delta), shift((bytes.len() - end) as u64));
            prop_assert_eq!(checksum(&bytes) ^ moved, checksum(&patched));
        }

        #[test]
        fn words_move_as_their_bytes_do(words: [u64; 4], factor: u32) {
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            prop_assert_eq!(moved_words(words, factor), multiply_portable(remainder(&bytes), factor));
        }
    }
}
