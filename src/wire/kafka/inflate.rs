//! Unpacks the records of a batch. Lengths that the bytes claim are never believed further than a maximum.

use super::codec::{Codec, CodecError, SNAPPY_MAGIC, broken};
use std::io::Read;

/// Snappy's densest element gives 64 bytes for 3: a block that claims more than this for each byte lies.
const SNAPPY_GAIN_MAX: usize = 32;
/// What zstd is first given for each compressed byte, and at least; where that is too little, it gets twice as much.
const ZSTD_GAIN: usize = 4;
const ZSTD_ROOM_MIN: usize = 64 << 10;

/// Unpacks batches into a buffer of its own, again and again.
pub struct Inflater {
    bytes_max: usize,
    plain: Vec<u8>,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Inflater {
    /// `bytes_max`: the most that one batch may be when unpacked.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, plain: vec![], zstd: None }
    }

    /// The plain records; those that are not compressed are returned as they are.
    pub fn inflate<'a>(&'a mut self, codec: Codec, packed: &'a [u8]) -> Result<&'a [u8], CodecError> {
        self.plain.clear();
        match codec {
            Codec::None => return Ok(packed),
            Codec::Gzip => self.stream(codec, flate2::bufread::MultiGzDecoder::new(packed))?,
            Codec::Snappy => self.snappy(packed)?,
            Codec::Lz4 => self.stream(codec, lz4_flex::frame::FrameDecoder::new(packed))?,
            Codec::Zstd => self.zstd(packed)?,
        }
        Ok(&self.plain)
    }

    fn stream(&mut self, codec: Codec, decoder: impl Read) -> Result<(), CodecError> {
        let limit = self.bytes_max as u64 + 1;
        decoder.take(limit).read_to_end(&mut self.plain).map_err(|error| broken(codec, &error))?;
        if self.plain.len() > self.bytes_max { Err(self.too_large(codec)) } else { Ok(()) }
    }

    /// Blocks as snappy-java frames them, or without that frame one block.
    fn snappy(&mut self, packed: &[u8]) -> Result<(), CodecError> {
        let Some(mut left) = packed.strip_prefix(SNAPPY_MAGIC) else { return self.snappy_block(packed) };
        while let Some((length, rest)) = left.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let Some((block, rest)) = rest.split_at_checked(length) else {
                let why = format!("a block of {length} bytes, of which {} are there", rest.len());
                return Err(broken(Codec::Snappy, &why));
            };
            self.snappy_block(block)?;
            left = rest;
        }
        if left.is_empty() { Ok(()) } else { Err(broken(Codec::Snappy, &"it ends inside the length of a block")) }
    }

    fn snappy_block(&mut self, block: &[u8]) -> Result<(), CodecError> {
        let codec = Codec::Snappy;
        let length = snap::raw::decompress_len(block).map_err(|error| broken(codec, &error))?;
        let start = self.plain.len();
        if length > self.bytes_max - start {
            return Err(self.too_large(codec));
        }
        if length > block.len().saturating_mul(SNAPPY_GAIN_MAX) {
            return Err(broken(codec, &format!("{} bytes claim to hold {length}", block.len())));
        }
        self.plain.resize(start + length, 0);
        let mut decoder = snap::raw::Decoder::new();
        decoder.decompress(block, &mut self.plain[start..]).map_err(|error| broken(codec, &error)).map(drop)
    }

    /// In one piece, which needs no window beside the result: the frame of a hostile sender could ask for a large one.
    fn zstd(&mut self, packed: &[u8]) -> Result<(), CodecError> {
        let (codec, bytes_max) = (Codec::Zstd, self.bytes_max);
        let decompressor = match &mut self.zstd {
            Some(decompressor) => decompressor,
            none => none.insert(zstd::bulk::Decompressor::new().map_err(|error| broken(codec, &error))?),
        };
        let mut room = packed.len().saturating_mul(ZSTD_GAIN).max(ZSTD_ROOM_MIN);
        loop {
            room = room.min(bytes_max);
            self.plain.resize(room.max(self.plain.len()), 0);
            match decompressor.decompress_to_buffer(packed, &mut self.plain[..room]) {
                Ok(bytes) => {
                    self.plain.truncate(bytes);
                    return Ok(());
                }
                // The library tells its errors apart in words only.
                Err(error) if !error.to_string().contains("too small") => return Err(broken(codec, &error)),
                Err(_) if room == bytes_max => return Err(CodecError::TooLarge { codec, bytes_max }),
                Err(_) => room = room.saturating_mul(2),
            }
        }
    }

    fn too_large(&self, codec: Codec) -> CodecError {
        CodecError::TooLarge { codec, bytes_max: self.bytes_max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::kafka::codec::Deflater;
    use proptest::prelude::*;

    fn samples() -> Vec<Vec<u8>> {
        let noise = |bytes: usize| {
            let mut state = 7_u64;
            let next = move |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            };
            (0..bytes).map(next).collect::<Vec<_>>()
        };
        let text: Vec<_> = b"all work and no play ".iter().copied().cycle().take(300_000).collect();
        let mixed = [noise(100_000), vec![0; 100_000], noise(33)].concat();
        vec![vec![], vec![7], vec![0; 2_000_000], text, noise(65_536), noise(65_537), noise(1_000_000), mixed]
    }

    #[test]
    fn every_codec_returns_what_it_was_given() {
        let mut inflater = Inflater::new(2_000_000);
        for codec in Codec::ALL {
            let mut deflater = Deflater::new(codec, None).unwrap();
            for sample in samples() {
                let mut packed = vec![1, 2, 3];
                let bytes = deflater.deflate_to_vec(&sample, &mut packed).unwrap();
                assert_eq!(packed.len(), 3 + bytes);
                assert!(bytes <= Deflater::bound(codec, sample.len()));
                assert_eq!(inflater.inflate(codec, &packed[3..]), Ok(&sample[..]), "{codec:?}");
            }
        }
    }

    #[test]
    fn levels_matter_and_room_is_checked() {
        let words = ["record", "batch", "broker", "topic", "offset", "leader", "epoch ", "\n"];
        let word = |n: u64| words[(n.wrapping_mul(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61) as usize].bytes();
        let text: Vec<u8> = (0..60_000).flat_map(word).collect();
        for codec in [Codec::Gzip, Codec::Zstd] {
            let packed = |level| Deflater::new(codec, Some(level)).unwrap().deflate_to_vec(&text, &mut vec![]).unwrap();
            assert!(packed(1) > packed(9), "{codec:?}");
        }
        let mut deflater = Deflater::new(Codec::Lz4, None).unwrap();
        let bytes = Deflater::bound(Codec::Lz4, text.len()) - 1;
        let error = CodecError::OutOfRoom { codec: Codec::Lz4, bytes };
        assert_eq!(deflater.deflate(&text, &mut vec![0; bytes]), Err(error));
    }

    #[test]
    fn nothing_unpacks_beyond_the_maximum() {
        let plain = vec![0; 300_000];
        for codec in Codec::ALL.into_iter().skip(1) {
            let mut packed = vec![];
            Deflater::new(codec, None).unwrap().deflate_to_vec(&plain, &mut packed).unwrap();
            let error = CodecError::TooLarge { codec, bytes_max: 299_999 };
            assert_eq!(Inflater::new(299_999).inflate(codec, &packed), Err(error));
            assert_eq!(Inflater::new(300_000).inflate(codec, &packed), Ok(&plain[..]));
        }
        // Five bytes that claim 2 GiB.
        let mut inflater = Inflater::new(usize::MAX);
        let outcome = inflater.inflate(Codec::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x07]);
        assert!(matches!(outcome, Err(CodecError::Broken { .. })), "{outcome:?}");
    }

    #[test]
    fn snappy_without_the_frame_is_understood() {
        let packed = b"\r0\x18\0\0\0\x01\x0csdfdsf\0";
        assert_eq!(Inflater::new(100).inflate(Codec::Snappy, packed), Ok(&b"\x18\0\0\0\x01\x0csdfdsf\0"[..]));
    }

    #[test]
    fn the_checksum_of_the_lz4_head_is_what_its_reader_expects() {
        use std::io::Write;
        let mut info = lz4_flex::frame::FrameInfo::new();
        info.block_size = lz4_flex::frame::BlockSize::Max64KB;
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, vec![]);
        encoder.write_all(&[5; 100_000]).unwrap();
        let mut ours = vec![];
        Deflater::new(Codec::Lz4, None).unwrap().deflate_to_vec(&[5; 100_000], &mut ours).unwrap();
        assert_eq!(ours[..7], encoder.finish().unwrap()[..7]);
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_other_bytes_but_never_a_panic(
            sample in proptest::collection::vec(any::<u8>(), 0..600),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut inflater = Inflater::new(100_000);
            for codec in Codec::ALL {
                let mut packed = vec![];
                Deflater::new(codec, None).unwrap().deflate_to_vec(&sample, &mut packed).unwrap();
                for (at, byte) in &changes {
                    if !packed.is_empty() {
                        let at = at.index(packed.len());
                        packed[at] = *byte;
                    }
                }
                let plain = inflater.inflate(codec, &packed).map_or(0, <[u8]>::len);
                prop_assert!(plain <= 100_000);
            }
        }
    }
}
