//! Compresses the records of a batch, each codec as Kafka's own producer frames it. After its construction a
//! [`Deflater`] allocates nothing (zstd: after [`Deflater::warm`] with the longest input).

use flate2::{Compress, FlushCompress, Status};
use lz4_flex::block::{self, CompressTable};
use std::fmt;

/// How the records of a batch are compressed, by the number in its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Codec {
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The bits of a batch's attributes.
    pub const fn attributes(self) -> i16 {
        self as i16
    }

    pub fn from_attributes(attributes: i16) -> Option<Self> {
        Self::ALL.get(usize::from(attributes as u16 & 7)).copied()
    }

    /// As Kafka's `compression.type` spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// The space for the result is smaller than [`Deflater::bound`].
    OutOfRoom { codec: Codec, bytes: usize },
    /// Decompressed, it would be more than was allowed.
    TooLarge { codec: Codec, bytes_max: usize },
    /// The compressed bytes are damaged, or the library failed.
    Broken { codec: Codec, why: String },
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRoom { codec, bytes } => write!(f, "{} does not fit into {bytes} bytes", codec.name()),
            Self::TooLarge { codec, bytes_max } => {
                write!(f, "{} records unpack to more than {bytes_max} bytes", codec.name())
            }
            Self::Broken { codec, why } => write!(f, "{} records: {why}", codec.name()),
        }
    }
}

impl std::error::Error for CodecError {}

pub(super) const SNAPPY_MAGIC: &[u8; 16] = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";
/// The block of `SnappyOutputStream` in snappy-java.
const SNAPPY_BLOCK_BYTES: usize = 32 << 10;

/// Magic, version 1 with independent blocks and no checksums, blocks of 64 KiB, and the checksum of those two bytes.
const LZ4_HEAD: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const LZ4_BLOCK_BYTES: usize = 64 << 10;
const LZ4_STORED: u32 = 1 << 31;

/// Deflate, no flags, no time, no hint, unknown system.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
const GZIP_LEVEL_DEFAULT: u32 = 6;
const ZSTD_LEVEL_DEFAULT: i32 = 3;

/// Compresses batches with one codec, again and again.
pub struct Deflater {
    codec: Codec,
    engine: Engine,
}

enum Engine {
    None,
    Gzip(Box<Compress>),
    Snappy(Box<snap::raw::Encoder>),
    Lz4(Box<CompressTable>),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Deflater {
    /// `level` is for gzip (1 to 9) and zstd (1 to 22); the defaults are Kafka's.
    pub fn new(codec: Codec, level: Option<i32>) -> Result<Self, CodecError> {
        let engine = match codec {
            Codec::None => Engine::None,
            Codec::Gzip => {
                let level = level.map_or(GZIP_LEVEL_DEFAULT, |level| level.clamp(1, 9) as u32);
                Engine::Gzip(Box::new(Compress::new(flate2::Compression::new(level), false)))
            }
            Codec::Snappy => Engine::Snappy(Box::new(snap::raw::Encoder::new())),
            Codec::Lz4 => Engine::Lz4(Box::new(CompressTable::large())),
            Codec::Zstd => {
                let compressor = zstd::bulk::Compressor::new(level.unwrap_or(ZSTD_LEVEL_DEFAULT));
                Engine::Zstd(Box::new(compressor.map_err(|error| broken(codec, &error))?))
            }
        };
        let mut deflater = Self { codec, engine };
        deflater.warm(LZ4_BLOCK_BYTES)?;
        Ok(deflater)
    }

    /// Lets what grows with first use grow now; only zstd's context depends on the length of the input.
    pub fn warm(&mut self, bytes_max: usize) -> Result<(), CodecError> {
        self.deflate(&vec![0; bytes_max], &mut vec![0; Self::bound(self.codec, bytes_max)]).map(drop)
    }

    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Room that [`Self::deflate`] needs for `bytes` of input, however badly they compress.
    pub fn bound(codec: Codec, bytes: usize) -> usize {
        match codec {
            Codec::None => bytes,
            Codec::Gzip => bytes + bytes / 10 + 160,
            Codec::Snappy => {
                let block = 4 + snap::raw::max_compress_len(SNAPPY_BLOCK_BYTES);
                SNAPPY_MAGIC.len() + bytes.div_ceil(SNAPPY_BLOCK_BYTES) * block
            }
            // The compressor wants room for its worst case at every block; each takes no more than its input.
            Codec::Lz4 => {
                let slack = block::get_maximum_output_size(LZ4_BLOCK_BYTES) - LZ4_BLOCK_BYTES;
                LZ4_HEAD.len() + bytes + bytes.div_ceil(LZ4_BLOCK_BYTES) * 4 + 4 + slack
            }
            Codec::Zstd => zstd::zstd_safe::compress_bound(bytes),
        }
    }

    /// Compresses `input` to the start of `out`; returns the length.
    pub fn deflate(&mut self, input: &[u8], out: &mut [u8]) -> Result<usize, CodecError> {
        let codec = self.codec;
        if out.len() < Self::bound(codec, input.len()) {
            return Err(CodecError::OutOfRoom { codec, bytes: out.len() });
        }
        match &mut self.engine {
            Engine::None => {
                out[..input.len()].copy_from_slice(input);
                Ok(input.len())
            }
            Engine::Gzip(compress) => gzip(compress, input, out),
            Engine::Snappy(encoder) => snappy(encoder, input, out),
            Engine::Lz4(table) => lz4(table, input, out),
            Engine::Zstd(compressor) => {
                compressor.compress_to_buffer(input, out).map_err(|error| broken(codec, &error))
            }
        }
    }

    /// As [`Self::deflate`], appending to `out`.
    #[cfg(test)]
    pub fn deflate_to_vec(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, CodecError> {
        let start = out.len();
        out.resize(start + Self::bound(self.codec, input.len()), 0);
        let outcome = self.deflate(input, &mut out[start..]);
        out.truncate(start + outcome.as_ref().map_or(0, |bytes| *bytes));
        outcome
    }
}

#[cold]
pub(super) fn broken(codec: Codec, why: &dyn fmt::Display) -> CodecError {
    CodecError::Broken { codec, why: why.to_string() }
}

fn gzip(compress: &mut Compress, input: &[u8], out: &mut [u8]) -> Result<usize, CodecError> {
    let bytes = out.len();
    out[..GZIP_HEAD.len()].copy_from_slice(&GZIP_HEAD);
    compress.reset();
    let body = &mut out[GZIP_HEAD.len()..bytes - 8];
    let status = compress.compress(input, body, FlushCompress::Finish).map_err(|error| broken(Codec::Gzip, &error))?;
    if status != Status::StreamEnd {
        return Err(CodecError::OutOfRoom { codec: Codec::Gzip, bytes });
    }
    let end = GZIP_HEAD.len() + compress.total_out() as usize;
    let mut crc = flate2::Crc::new();
    crc.update(input);
    out[end..end + 4].copy_from_slice(&crc.sum().to_le_bytes());
    out[end + 4..end + 8].copy_from_slice(&(input.len() as u32).to_le_bytes());
    Ok(end + 8)
}

fn snappy(encoder: &mut snap::raw::Encoder, input: &[u8], out: &mut [u8]) -> Result<usize, CodecError> {
    out[..SNAPPY_MAGIC.len()].copy_from_slice(SNAPPY_MAGIC);
    let mut at = SNAPPY_MAGIC.len();
    for block in input.chunks(SNAPPY_BLOCK_BYTES) {
        let bytes = encoder.compress(block, &mut out[at + 4..]).map_err(|error| broken(Codec::Snappy, &error))?;
        out[at..at + 4].copy_from_slice(&(bytes as u32).to_be_bytes());
        at += 4 + bytes;
    }
    Ok(at)
}

fn lz4(table: &mut CompressTable, input: &[u8], out: &mut [u8]) -> Result<usize, CodecError> {
    out[..LZ4_HEAD.len()].copy_from_slice(&LZ4_HEAD);
    let mut at = LZ4_HEAD.len();
    for plain in input.chunks(LZ4_BLOCK_BYTES) {
        let body = &mut out[at + 4..];
        let packed = block::compress_into_with_table(plain, body, table).map_err(|error| broken(Codec::Lz4, &error))?;
        let (bytes, mark) = if packed < plain.len() {
            (packed, packed as u32)
        } else {
            body[..plain.len()].copy_from_slice(plain);
            (plain.len(), plain.len() as u32 | LZ4_STORED)
        };
        out[at..at + 4].copy_from_slice(&mark.to_le_bytes());
        at += 4 + bytes;
    }
    out[at..at + 4].fill(0);
    Ok(at + 4)
}
