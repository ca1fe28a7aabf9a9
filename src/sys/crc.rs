//! CRC32C: whole runs of bytes, and the multiplication with the processor's carry-less multiplier or without it.

#[cfg(target_arch = "x86_64")]
mod x86;

use crc_fast::{CrcAlgorithm, Digest};

const CASTAGNOLI_REFLECTED: u32 = 0x82f6_3b78;
/// x^0 in reflected order.
pub const ONE: u32 = 0x8000_0000;
/// x^8 in reflected order: the effect of one zero byte.
pub const X8: u32 = 0x0080_0000;

/// The checksum of what `crc` covers followed by `bytes`.
#[inline]
pub fn append(crc: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() < x86::LEAST_BYTES {
        if is_x86_feature_detected!("sse4.2") {
            // SAFETY: the feature was just seen on this processor.
            return !unsafe { x86::append_short(!crc, bytes) };
        }
    } else if x86::is_faster() {
        if x86::can_fold() {
            // SAFETY: `can_fold` has just seen the four features on this processor.
            return !unsafe { x86::append_folded(!crc, bytes) };
        }
        if x86::can_multiply() {
            // SAFETY: `can_multiply` has just seen both features on this processor.
            return !unsafe { x86::append_lanes(!crc, bytes) };
        }
    }
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    digest.finalize() as u32
}

/// Shift-and-add multiplication modulo the Castagnoli polynomial, reflected bit order.
pub const fn multiply_portable(a: u32, b: u32) -> u32 {
    let mut product = 0;
    let (mut a, mut b) = (a, b);
    while a != 0 {
        if a >> 31 == 1 {
            product ^= b;
        }
        a <<= 1;
        b = if b & 1 == 1 { b >> 1 ^ CASTAGNOLI_REFLECTED } else { b >> 1 };
    }
    product
}

/// See [`multiply_portable`]; a few cycles where the processor has PCLMULQDQ and SSE4.2.
#[inline]
pub fn multiply(a: u32, b: u32) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if x86::can_multiply() {
        // SAFETY: `can_multiply` has just seen both features on this processor.
        return unsafe { x86::multiply(a, b) };
    }
    multiply_portable(a, b)
}

/// The remainder of four little-endian words (32 bytes), started at zero, no inversion, times `factor`.
#[inline]
pub fn multiply_words(words: [u64; 4], factor: u32) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if x86::can_multiply() {
        // SAFETY: `can_multiply` has just seen both features on this processor.
        return unsafe { x86::multiply_words(words, factor) };
    }
    let mut bytes = [0; 32];
    for (at, word) in words.iter().enumerate() {
        bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
    }
    multiply_portable(!append(!0, &bytes), factor)
}

/// The register after `bytes`, started at `register`, no inversion: for runs of bytes so short that the steps before
/// and after the words of [`append`] would cost more than the words.
#[inline]
pub fn append_short(register: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sse4.2") {
        // SAFETY: the feature was just seen on this processor.
        return unsafe { x86::append_short(register, bytes) };
    }
    !append(!register, bytes)
}
