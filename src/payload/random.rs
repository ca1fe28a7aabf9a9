//! Seeded record bodies: same seed, same bytes, whatever the timing.
//!
//! The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
//! 2014): its state is a counter, so that words do not wait for each other and a record costs nothing to seed.

use crate::record::{FLAG_SIGNED, HEADER_BYTES, Header};
use crate::wire::crc32c;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

/// Each segment has one stretch of zeros, so that a compressor with a small window sees it as well.
const SEGMENT_BYTES: usize = 4096;
/// Words drawn at once, unrolled.
const STRIDE_BYTES: usize = 32;

/// What keeps streams of one seed apart.
const BODIES: u64 = 1;
const SIZES: u64 = 2;

/// Compression is judged on so many bytes, and met within this much if it can be met at all.
const SAMPLE_BYTES: usize = 512 << 10;
const TOLERANCE: f64 = 0.004;
const CALIBRATION_STEPS: usize = 20;

/// Fills `out` with the body of one record: a function of seed, producer and index alone. The share
/// `zero_fraction` of it (0 to 1) is zeros, at the end of each segment of 4 KiB.
pub fn fill(seed: u64, producer_id: u32, record_index: u64, zero_fraction: f64, out: &mut [u8]) {
    let key = stream_key(seed, BODIES, producer_id, record_index);
    let mut generator = SplitMix64::seed_from_u64(key);
    // Starting at a random fraction of a byte keeps the mean exact where bodies are only a few bytes long.
    let mut owed = (key >> 11) as f64 / (1u64 << 53) as f64;
    for segment in out.chunks_mut(SEGMENT_BYTES) {
        owed += segment.len() as f64 * zero_fraction.clamp(0.0, 1.0);
        let zeros = (owed as usize).min(segment.len());
        owed -= zeros as f64;
        let (random, zero) = segment.split_at_mut(segment.len() - zeros);
        fill_random(&mut generator, random);
        zero.fill(0);
    }
}

fn fill_random(generator: &mut SplitMix64, out: &mut [u8]) {
    let (strides, tail) = out.as_chunks_mut::<STRIDE_BYTES>();
    for stride in strides {
        *stride = next_stride(generator);
    }
    if !tail.is_empty() {
        let stride = next_stride(generator);
        tail.copy_from_slice(&stride[..tail.len()]);
    }
}

#[inline]
fn next_stride(generator: &mut SplitMix64) -> [u8; STRIDE_BYTES] {
    let mut stride = [0; STRIDE_BYTES];
    for word in stride.as_chunks_mut::<8>().0 {
        *word = generator.next_u64().to_le_bytes();
    }
    stride
}

/// Record sizes in bytes, uniform from `bytes_min` to `bytes_max` inclusive, without end.
pub fn record_sizes(seed: u64, producer_id: u32, bytes_min: u64, bytes_max: u64) -> impl Iterator<Item = u64> {
    let mut generator = SplitMix64::seed_from_u64(stream_key(seed, SIZES, producer_id, 0));
    let span = bytes_max.saturating_sub(bytes_min).saturating_add(1);
    std::iter::repeat_with(move || bytes_min + below(&mut generator, span))
}

/// Uniform below `bound` (Lemire, "Fast random integer generation in an interval", 2019).
fn below(generator: &mut SplitMix64, bound: u64) -> u64 {
    loop {
        let wide = u128::from(generator.next_u64()) * u128::from(bound);
        if wide as u64 >= bound.wrapping_neg() % bound {
            return (wide >> 64) as u64;
        }
    }
}

fn stream_key(seed: u64, stream: u64, producer_id: u32, index: u64) -> u64 {
    mix(mix(mix(seed ^ stream) ^ u64::from(producer_id)) ^ index)
}

/// One step of SplitMix64: a bijection that scatters neighbouring numbers.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// What stands before the body of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    None,
    Plain,
    Signed,
}

/// How much of the bodies has to be zeros, and what that came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// For [`fill`].
    pub zero_fraction: f64,
    /// The share that zstd level 1 removes from records with this zero fraction, heads included; it differs
    /// from the target where that is out of reach.
    pub measured: f64,
}

/// Finds the zero fraction with which a compressor removes the share `target` (0 to 1) of the records.
pub fn calibrate(seed: u64, bytes_min: u64, bytes_max: u64, head: Head, target: f64) -> Calibration {
    let sizes = sample_sizes(seed, bytes_min, bytes_max);
    let at =
        |zero_fraction| Calibration { zero_fraction, measured: removed(&sample(seed, &sizes, head, zero_fraction)) };
    let close = |found: &Calibration| (found.measured - target).abs() <= TOLERANCE;
    let (mut low, mut high) = (at(0.0), at(1.0));
    if target <= low.measured || close(&low) {
        return low;
    }
    if target >= high.measured || close(&high) {
        return high;
    }
    let mut best = low;
    for step in 0..CALIBRATION_STEPS {
        let width = high.zero_fraction - low.zero_fraction;
        let secant = (target - low.measured) / (high.measured - low.measured);
        // Every third step halves, which bounds the search where the curve bends.
        let share = if step % 3 == 2 { 0.5 } else { secant.clamp(0.02, 0.98) };
        let found = at(low.zero_fraction + width * share);
        if (found.measured - target).abs() < (best.measured - target).abs() {
            best = found;
        }
        if close(&found) {
            break;
        }
        if found.measured < target { low = found } else { high = found }
    }
    best
}

/// The lengths of the first records, cut to the sample's size.
fn sample_sizes(seed: u64, bytes_min: u64, bytes_max: u64) -> Vec<usize> {
    let mut left = SAMPLE_BYTES;
    record_sizes(seed, 0, bytes_min.max(1), bytes_max.max(1))
        .map_while(|size| {
            let size = (left > 0).then_some(usize::try_from(size).unwrap_or(usize::MAX).min(SAMPLE_BYTES))?;
            left = left.saturating_sub(size);
            Some(size)
        })
        .collect()
}

/// Records as they will be sent, with the stamps of a run that takes its time over each byte.
fn sample(seed: u64, sizes: &[usize], head: Head, zero_fraction: f64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(sizes.iter().sum());
    let mut timestamp_ns = 1_700_000_000_000_000_000;
    for (index, size) in sizes.iter().enumerate() {
        let head_bytes = if head == Head::None { 0 } else { HEADER_BYTES };
        let start = bytes.len();
        bytes.resize(start + (*size).max(head_bytes), 0);
        let (header, body) = bytes[start..].split_at_mut(head_bytes);
        fill(seed, 0, index as u64, zero_fraction, body);
        timestamp_ns += *size as u64 + mix(index as u64) % 16;
        if head != Head::None {
            let encoded = sample_header(seed, head, index as u64, timestamp_ns, body);
            header.copy_from_slice(&encoded);
        }
    }
    bytes
}

fn sample_header(seed: u64, head: Head, index: u64, timestamp_ns: u64, body: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = Header {
        flags: if head == Head::Signed { FLAG_SIGNED } else { 0 },
        run_id: mix(seed),
        producer_id: 0,
        record_length: (HEADER_BYTES + body.len()) as u32,
        weight: 1,
        sequence: index,
        timestamp_ns,
        signature: if head == Head::Signed { mix(timestamp_ns) } else { 0 },
        body_crc32c: crc32c::checksum(body),
        crc32c: 0,
    };
    header.crc32c = crc32c::append(crc32c::checksum(&header.encode()), body);
    header.encode()
}

/// The share of `bytes` that zstd level 1 removes.
fn removed(bytes: &[u8]) -> f64 {
    let compressed = zstd::bulk::compress(bytes, 1).map_or(bytes.len(), |compressed| compressed.len());
    (1.0 - compressed as f64 / bytes.len().max(1) as f64).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(seed: u64, producer_id: u32, index: u64, zero_fraction: f64, bytes: usize) -> Vec<u8> {
        let mut out = vec![0xaa; bytes];
        fill(seed, producer_id, index, zero_fraction, &mut out);
        out
    }

    #[test]
    fn bodies_never_change_between_versions() {
        assert_eq!(crc32c::checksum(&body(0, 0, 0, 0.0, 10_000)), 759338171);
        assert_eq!(crc32c::checksum(&body(42, 7, 1 << 40, 0.37, 10_001)), 607803717);
        assert_eq!(record_sizes(0, 0, 512, 8192).take(4).collect::<Vec<_>>(), [4851, 991, 3857, 6320]);
    }

    #[test]
    fn every_coordinate_changes_the_body() {
        let base = body(1, 2, 3, 0.0, 256);
        for other in [body(2, 2, 3, 0.0, 256), body(1, 3, 3, 0.0, 256), body(1, 2, 4, 0.0, 256)] {
            let same = base.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!(same < 16, "{same} of 256 bytes agree");
        }
    }

    #[test]
    fn zeros_are_as_many_as_asked_for_however_small_the_bodies() {
        for (bytes, count) in [(10, 20_000), (448, 2000), (5000, 100)] {
            let zeros: usize = (0..count)
                .map(|index| body(9, 0, index, 0.3, bytes).iter().rev().take_while(|byte| **byte == 0).count())
                .sum();
            let trailing = zeros as f64 / (count as f64 * bytes as f64);
            // Of a body over one segment only the last run is at the end of the whole.
            let expected =
                if bytes > SEGMENT_BYTES { 0.3 * (bytes - SEGMENT_BYTES) as f64 / bytes as f64 } else { 0.3 };
            assert!((trailing - expected).abs() < 0.005, "{bytes} bytes: {trailing}, expected {expected}");
        }
    }

    #[test]
    fn sizes_cover_their_range_evenly() {
        let sizes: Vec<u64> = record_sizes(5, 1, 100, 109).take(100_000).collect();
        for size in 100..=109 {
            let count = sizes.iter().filter(|found| **found == size).count();
            assert!((9_500..10_500).contains(&count), "{size}: {count}");
        }
        assert!(record_sizes(5, 1, 4096, 4096).take(100).all(|size| size == 4096));
        assert_ne!(record_sizes(5, 2, 100, 109).take(20).collect::<Vec<_>>(), sizes[..20]);
    }

    /// The share zstd removes from other records than the ones the calibration looked at.
    fn removed_elsewhere(bytes_min: u64, bytes_max: u64, head: Head, zero_fraction: f64) -> f64 {
        let sizes: Vec<usize> = record_sizes(77, 3, bytes_min, bytes_max)
            .map(|size| size as usize)
            .take((2 << 20) / bytes_max as usize + 1)
            .collect();
        removed(&sample(77, &sizes, head, zero_fraction))
    }

    #[test]
    fn a_target_in_reach_is_met_within_two_hundredths() {
        for (bytes_min, bytes_max, head) in [
            (4096, 4096, Head::Plain),
            (512, 8192, Head::Signed),
            (1 << 20, 1 << 20, Head::Plain),
            (512, 512, Head::None),
        ] {
            for target in [0.2, 0.5, 0.9] {
                let found = calibrate(1, bytes_min, bytes_max, head, target);
                assert!((found.measured - target).abs() <= 0.005, "{bytes_min}-{bytes_max} {target}: {found:?}");
                let elsewhere = removed_elsewhere(bytes_min, bytes_max, head, found.zero_fraction);
                assert!((elsewhere - target).abs() <= 0.02, "{bytes_min}-{bytes_max} {target}: {elsewhere}");
            }
        }
    }

    #[test]
    fn what_is_out_of_reach_is_told() {
        let heads_alone = calibrate(1, 64, 64, Head::Plain, 0.0);
        assert_eq!(heads_alone.zero_fraction, 0.0);
        assert!(heads_alone.measured > 0.2, "{heads_alone:?}");
        let all_zeros = calibrate(1, 128, 128, Head::Signed, 1.0);
        assert_eq!(all_zeros.zero_fraction, 1.0);
        assert!(all_zeros.measured < 0.9, "{all_zeros:?}");
        assert!(calibrate(1, 4096, 4096, Head::None, 0.0).measured < 0.005);
    }

    proptest! {
        #[test]
        fn a_shorter_body_is_a_prefix_where_nothing_is_zero(seed: u64, index: u64, bytes in 0usize..9000) {
            prop_assert_eq!(&body(seed, 0, index, 0.0, 9000)[..bytes], &body(seed, 0, index, 0.0, bytes)[..]);
        }

        #[test]
        fn no_fraction_and_no_length_panics(zero_fraction: f64, bytes in 0usize..9000) {
            prop_assert_eq!(body(1, 2, 3, zero_fraction, bytes).len(), bytes);
        }
    }
}
