//! CRC32C: whole runs of bytes, and the multiplication with the processor's carry-less multiplier or without it.

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
    if bytes.len() >= 3 * x86::SHORT_BYTES && x86::can_multiply() && x86::lanes_are_faster() {
        // SAFETY: `can_multiply` has just seen both features on this processor.
        return !unsafe { x86::append_lanes(!crc, bytes) };
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

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{ONE, X8, multiply_portable};
    use std::arch::x86_64::{
        _mm_clmulepi64_si128, _mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64, _mm_cvtsi64_si128, _mm_cvtsi128_si64,
    };

    /// Three lanes are the body of a record of 4 KiB: all of it but its header.
    const LONG_BYTES: usize = 1344;
    pub const SHORT_BYTES: usize = 168;

    /// What zero bytes behind a lane make of 1: after one lane's length and after two.
    struct Factors(u32, u32);

    impl Factors {
        const fn of(lane_bytes: usize) -> Self {
            let (mut one, mut byte) = (ONE, 0);
            while byte < lane_bytes {
                one = multiply_portable(one, X8);
                byte += 1;
            }
            Self(one, multiply_portable(one, one))
        }
    }

    #[inline]
    pub fn can_multiply() -> bool {
        is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq")
    }

    /// Where the library has only 128-bit multiplications, three chains of the crc32 instruction, whose results take
    /// three cycles, are 1.7 times as fast (AMD's Zen 3, 4 KiB). Dependencies are optimised in debug builds, we are not.
    #[inline]
    pub fn lanes_are_faster() -> bool {
        let library_is_wide = is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("vpclmulqdq");
        !library_is_wide && !cfg!(debug_assertions)
    }

    /// The register after `bytes`, started at `register`, no inversion.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    pub fn append_lanes(register: u32, bytes: &[u8]) -> u32 {
        const LONG: Factors = Factors::of(LONG_BYTES);
        const SHORT: Factors = Factors::of(SHORT_BYTES);
        let (register, rest) = three_lanes::<LONG_BYTES>(register, bytes, &LONG);
        let (register, rest) = three_lanes::<SHORT_BYTES>(register, rest, &SHORT);
        append_short(register, rest)
    }

    /// As many whole groups of three lanes as there are, and what is left.
    #[inline]
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    fn three_lanes<'a, const LANE_BYTES: usize>(
        mut register: u32,
        mut bytes: &'a [u8],
        after: &Factors,
    ) -> (u32, &'a [u8]) {
        const { assert!(LANE_BYTES.is_multiple_of(8)) }
        while let Some((lanes, rest)) = bytes.split_at_checked(3 * LANE_BYTES) {
            let (first, others) = lanes.split_at(LANE_BYTES);
            let (second, third) = others.split_at(LANE_BYTES);
            let words = first.as_chunks::<8>().0.iter().zip(second.as_chunks::<8>().0).zip(third.as_chunks::<8>().0);
            let (mut a, mut b, mut c) = (u64::from(register), 0, 0);
            for ((first, second), third) in words {
                a = _mm_crc32_u64(a, u64::from_le_bytes(*first));
                b = _mm_crc32_u64(b, u64::from_le_bytes(*second));
                c = _mm_crc32_u64(c, u64::from_le_bytes(*third));
            }
            register = multiply(a as u32, after.1) ^ multiply(b as u32, after.0) ^ c as u32;
            bytes = rest;
        }
        (register, bytes)
    }

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

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn lanes_agree_with_another_implementation_at_their_edges() {
            assert!(can_multiply(), "this processor has neither SSE4.2 nor PCLMULQDQ: run the tests on another");
            let bytes: Vec<u8> = (0..12_200_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            let (short, long) = (3 * SHORT_BYTES, 3 * LONG_BYTES);
            let edges = [0, 8, short, 2 * short, long, long + short, long + 2 * short, 2 * long, 3 * long];
            for length in edges.into_iter().flat_map(|edge: usize| [edge.saturating_sub(1), edge, edge + 1, edge + 7]) {
                for start in [0, 1, 0x1234_5678, u32::MAX] {
                    let bytes = &bytes[length % 8..][..length];
                    // SAFETY: both features were seen above.
                    let sum = !unsafe { append_lanes(!start, bytes) };
                    assert_eq!(sum, crc32c::crc32c_append(start, bytes), "{length} bytes behind {start:#x}");
                }
            }
        }
    }
}
