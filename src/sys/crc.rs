//! CRC32C: whole runs of bytes, and the multiplication with the processor's carry-less multiplier or without it.

use crc_fast::{CrcAlgorithm, Digest};

const CASTAGNOLI_REFLECTED: u32 = 0x82f6_3b78;

/// The checksum of what `crc` covers followed by `bytes`.
#[inline]
pub fn append(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    digest.finalize() as u32
}

/// Shift-and-add multiplication modulo the Castagnoli polynomial, reflected bit order.
pub fn multiply_portable(a: u32, b: u32) -> u32 {
    let mut product = 0;
    let mut b = b;
    for bit in (0..32).rev() {
        if a >> bit & 1 == 1 {
            product ^= b;
        }
        b = if b & 1 == 1 { b >> 1 ^ CASTAGNOLI_REFLECTED } else { b >> 1 };
    }
    product
}

/// See [`multiply_portable`]; a few cycles where the processor has PCLMULQDQ and SSE4.2.
#[inline]
pub fn multiply(a: u32, b: u32) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq") {
        // SAFETY: both features were just seen on this processor.
        return unsafe { x86::multiply(a, b) };
    }
    multiply_portable(a, b)
}

/// The remainder of four little-endian words (32 bytes), started at zero, no inversion, times `factor`.
#[inline]
pub fn multiply_words(words: [u64; 4], factor: u32) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq") {
        // SAFETY: both features were just seen on this processor.
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

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm_clmulepi64_si128, _mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64, _mm_cvtsi64_si128, _mm_cvtsi128_si64,
    };

    #[inline]
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    pub fn multiply(a: u32, b: u32) -> u32 {
        let product = _mm_clmulepi64_si128::<0>(_mm_cvtsi64_si128(i64::from(a)), _mm_cvtsi64_si128(i64::from(b)));
        let wide = (_mm_cvtsi128_si64(product) as u64) << 1;
        _mm_crc32_u32(0, wide as u32) ^ (wide >> 32) as u32
    }

    #[inline]
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    pub fn multiply_words(words: [u64; 4], factor: u32) -> u32 {
        multiply(words.iter().fold(0, |crc, word| _mm_crc32_u64(crc, *word)) as u32, factor)
    }

    #[inline]
    #[target_feature(enable = "sse4.2")]
    pub fn append_short(register: u32, bytes: &[u8]) -> u32 {
        let (words, rest) = bytes.as_chunks::<8>();
        let after_words =
            words.iter().fold(u64::from(register), |crc, word| _mm_crc32_u64(crc, u64::from_le_bytes(*word)));
        let (halves, rest) = rest.as_chunks::<4>();
        let after_halves =
            halves.iter().fold(after_words as u32, |crc, half| _mm_crc32_u32(crc, u32::from_le_bytes(*half)));
        rest.iter().fold(after_halves, |crc, byte| _mm_crc32_u8(crc, *byte))
    }
}
