//! CRC32C on x86-64 without AVX-512: two of the processor's units at once.
//!
//! The crc32 instruction takes eight bytes each cycle, but its result comes three cycles later: three lanes keep it busy.
//! Carry-less multiplications of 256 bits *fold*: the polynomial X of 16 bytes followed by `n` bits is, modulo
//! Castagnoli's, X times x^n, whose two halves are two multiplications by constants. They run beside the lanes.
//!
//! Method: Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction" (Intel, 2009), and
//! the one that `wire/crc32c.rs` names.

use super::{ONE, multiply_portable};
use std::arch::x86_64::{
    __m256i, _mm_clmulepi64_si128, _mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64, _mm_cvtsi64_si128, _mm_cvtsi128_si64,
    _mm_extract_epi64, _mm_set_epi64x, _mm_xor_si128, _mm256_castsi256_si128, _mm256_clmulepi64_epi128,
    _mm256_extracti128_si256, _mm256_set_epi64x, _mm256_setr_epi32, _mm256_xor_si256,
};

const WORD_BYTES: usize = 8;
const WIDE_BYTES: usize = 32;
/// As many as hide what a fold takes.
const FOLDS: usize = 4;
const FOLDED_BYTES: usize = FOLDS * WIDE_BYTES;
/// Of each lane in a step: the lanes take as long as the folds beside them.
const STEP_WORDS: usize = 5;
const LANE_BYTES: usize = STEP_WORDS * WORD_BYTES;
const STEP_BYTES: usize = FOLDED_BYTES + 3 * LANE_BYTES;
const MOST_STEPS: usize = MOST_WORDS / STEP_WORDS;
/// Of a lane; those of 4 KiB records are shorter.
const MOST_WORDS: usize = 340;
/// Shorter runs are one chain: see [`append_short`].
pub const LEAST_BYTES: usize = 3 * LEAST_WORDS * WORD_BYTES;
/// Shorter lanes gain less than it costs to join them.
const LEAST_WORDS: usize = 4;
/// Shorter runs gain less than it costs to join what was folded with the lanes.
const LEAST_FOLDED_BYTES: usize = 1536;

/// What zero words behind a lane make of 1.
static AFTER_WORDS: [u32; 3 * MOST_WORDS + 1] = {
    let mut after = [ONE; 3 * MOST_WORDS + 1];
    let word = power(WORD_BYTES as u32 * 8);
    let mut words = 1;
    while words < after.len() {
        after[words] = multiply_portable(after[words - 1], word);
        words += 1;
    }
    after
};

/// x to this power, in reflected order.
const fn power(bits: u32) -> u32 {
    let (mut result, mut base, mut left) = (ONE, ONE >> 1, bits);
    while left > 0 {
        if left & 1 == 1 {
            result = multiply_portable(result, base);
        }
        base = multiply_portable(base, base);
        left >>= 1;
    }
    result
}

/// What moves the first eight of 16 bytes by as many bytes, and the second eight. A product of reflected numbers is one
/// bit off, and these 32 bits lie in the upper half of a word's powers.
const fn fold_by(bytes: usize) -> (i64, i64) {
    let bits = bytes as u32 * 8;
    (power(bits + 31) as i64, power(bits - 33) as i64)
}

#[inline]
pub fn can_multiply() -> bool {
    is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq")
}

#[inline]
pub fn can_fold() -> bool {
    can_multiply() && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("vpclmulqdq")
}

/// The library is at its best where it has multiplications of 512 bits. Dependencies are optimised in debug builds, we
/// are not.
#[inline]
pub fn is_faster() -> bool {
    let library_is_wide = is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("vpclmulqdq");
    !library_is_wide && !cfg!(debug_assertions)
}

/// The register after `bytes`, started at `register`, no inversion.
#[target_feature(enable = "sse4.2,pclmulqdq,avx2,vpclmulqdq")]
pub fn append_folded(mut register: u32, mut bytes: &[u8]) -> u32 {
    while bytes.len() >= LEAST_FOLDED_BYTES {
        let steps = ((bytes.len() - FOLDED_BYTES) / STEP_BYTES).min(MOST_STEPS);
        let words = steps * STEP_WORDS;
        let (folded, lanes) = bytes.split_at((1 + steps) * FOLDED_BYTES);
        let (lanes, rest) = lanes.split_at(3 * words * WORD_BYTES);
        register = fold_beside_lanes(register, folded, lanes, words);
        bytes = rest;
    }
    append_lanes(register, bytes)
}

/// The register after what is folded and the three lanes behind it.
#[inline]
#[target_feature(enable = "sse4.2,pclmulqdq,avx2,vpclmulqdq")]
fn fold_beside_lanes(register: u32, folded: &[u8], lanes: &[u8], words: usize) -> u32 {
    const STEP: (i64, i64) = fold_by(FOLDED_BYTES);
    const NEXT: (i64, i64) = fold_by(WIDE_BYTES);
    const HALF: (i64, i64) = fold_by(WIDE_BYTES / 2);
    let step = _mm256_set_epi64x(STEP.1, STEP.0, STEP.1, STEP.0);
    let next = _mm256_set_epi64x(NEXT.1, NEXT.0, NEXT.1, NEXT.0);

    let (start, folded) = folded.as_chunks::<WIDE_BYTES>().0.split_at(FOLDS);
    let mut sums: [__m256i; FOLDS] = std::array::from_fn(|at| wide(&start[at]));
    sums[0] = _mm256_xor_si256(sums[0], _mm256_setr_epi32(register as i32, 0, 0, 0, 0, 0, 0, 0));
    let (first, others) = lanes.split_at(words * WORD_BYTES);
    let (second, third) = others.split_at(words * WORD_BYTES);
    let [first, second, third] = [first, second, third].map(|lane| lane.as_chunks::<LANE_BYTES>().0.iter());
    let mut ends = [0; 3];
    for (((first, second), third), folded) in first.zip(second).zip(third).zip(folded.as_chunks::<FOLDS>().0) {
        for (sum, bytes) in sums.iter_mut().zip(folded) {
            *sum = fold(*sum, step, wide(bytes));
        }
        ends = through_lanes(ends, first, second, third);
    }

    let [sum, others @ ..] = sums;
    let sum = others.into_iter().fold(sum, |sum, other| fold(sum, next, other));
    let half = _mm_set_epi64x(HALF.1, HALF.0);
    let (low, high) = (_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let sum = _mm_xor_si128(
        _mm_xor_si128(_mm_clmulepi64_si128::<0x00>(low, half), _mm_clmulepi64_si128::<0x11>(low, half)),
        high,
    );
    let sum = _mm_crc32_u64(_mm_crc32_u64(0, _mm_cvtsi128_si64(sum) as u64), _mm_extract_epi64::<1>(sum) as u64);
    multiply(sum as u32, AFTER_WORDS[3 * words]) ^ joined(ends, words)
}

/// Four words, as they lie in memory.
#[inline]
#[target_feature(enable = "avx2")]
fn wide(bytes: &[u8; WIDE_BYTES]) -> __m256i {
    let [a, b, c, d] = std::array::from_fn(|at| {
        let word = bytes[at * WORD_BYTES..].first_chunk::<WORD_BYTES>();
        i64::from_le_bytes(*word.unwrap_or(&[0; WORD_BYTES]))
    });
    _mm256_set_epi64x(d, c, b, a)
}

/// `sum` moved by as far as `by` says, plus `bytes`.
#[inline]
#[target_feature(enable = "avx2,vpclmulqdq")]
fn fold(sum: __m256i, by: __m256i, bytes: __m256i) -> __m256i {
    let (first, second) = (_mm256_clmulepi64_epi128::<0x00>(sum, by), _mm256_clmulepi64_epi128::<0x11>(sum, by));
    _mm256_xor_si256(_mm256_xor_si256(first, second), bytes)
}

/// The register after `bytes`, started at `register`, no inversion.
#[target_feature(enable = "sse4.2,pclmulqdq")]
pub fn append_lanes(mut register: u32, mut bytes: &[u8]) -> u32 {
    loop {
        let words = (bytes.len() / (3 * WORD_BYTES)).min(MOST_WORDS);
        if words < LEAST_WORDS {
            return append_short(register, bytes);
        }
        let (first, others) = bytes.split_at(words * WORD_BYTES);
        let (second, others) = others.split_at(words * WORD_BYTES);
        let (third, rest) = others.split_at(words * WORD_BYTES);
        register = joined(through_lanes([u64::from(register), 0, 0], first, second, third), words);
        bytes = rest;
    }
}

/// The three registers, each after its lane.
#[inline]
#[target_feature(enable = "sse4.2")]
fn through_lanes([mut a, mut b, mut c]: [u64; 3], first: &[u8], second: &[u8], third: &[u8]) -> [u64; 3] {
    let words = first.as_chunks().0.iter().zip(second.as_chunks().0).zip(third.as_chunks().0);
    for ((first, second), third) in words {
        a = _mm_crc32_u64(a, u64::from_le_bytes(*first));
        b = _mm_crc32_u64(b, u64::from_le_bytes(*second));
        c = _mm_crc32_u64(c, u64::from_le_bytes(*third));
    }
    [a, b, c]
}

/// One register of three, whose lanes are `words` long.
#[inline]
#[target_feature(enable = "sse4.2,pclmulqdq")]
fn joined([a, b, c]: [u64; 3], words: usize) -> u32 {
    multiply(a as u32, AFTER_WORDS[2 * words]) ^ multiply(b as u32, AFTER_WORDS[words]) ^ c as u32
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
    let after_words = words.iter().fold(u64::from(register), |crc, word| _mm_crc32_u64(crc, u64::from_le_bytes(*word)));
    let (halves, rest) = rest.as_chunks::<4>();
    let after_halves =
        halves.iter().fold(after_words as u32, |crc, half| _mm_crc32_u32(crc, u32::from_le_bytes(*half)));
    rest.iter().fold(after_halves, |crc, byte| _mm_crc32_u8(crc, *byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_and_folds_agree_with_another_implementation_at_their_edges() {
        assert!(can_multiply(), "this processor has neither SSE4.2 nor PCLMULQDQ: run the tests on another");
        let bytes: Vec<u8> = (0..40_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let most_folded = FOLDED_BYTES + MOST_STEPS * STEP_BYTES;
        let edges = [0, LEAST_BYTES, LEAST_FOLDED_BYTES, 3 * MOST_WORDS * WORD_BYTES, most_folded];
        let near = edges.into_iter().flat_map(|edge| [1, 2].map(|times| times * edge)).flat_map(|edge| {
            [edge.saturating_sub(9), edge.saturating_sub(1), edge, edge + 1, edge + 7, edge + STEP_BYTES]
        });
        for length in near.chain((0..2000).step_by(13)) {
            for start in [0, 1, 0x1234_5678, u32::MAX] {
                let bytes = &bytes[length % 8..][..length];
                let expected = crc32c::crc32c_append(start, bytes);
                // SAFETY: both features were seen above.
                assert_eq!(
                    !unsafe { append_lanes(!start, bytes) },
                    expected,
                    "lanes: {length} bytes behind {start:#x}"
                );
                if can_fold() {
                    // SAFETY: the features were just seen.
                    assert_eq!(!unsafe { append_folded(!start, bytes) }, expected, "{length} bytes behind {start:#x}");
                }
            }
        }
    }
}
