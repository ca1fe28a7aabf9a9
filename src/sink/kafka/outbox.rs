//! From a batch to the bytes that go out: from the ring as they are, made again, or compressed.

use crate::base::fatal::Fatal;
use crate::payload::Payload;
use crate::sys::ring::Ring;
use crate::wire::kafka::batch::raw_append;
use crate::wire::kafka::codec::{Codec, CodecError, Deflater};
use std::ops::Range;

/// The buffers of a lane, and its compressor.
pub struct Outbox {
    deflater: Option<Deflater>,
    buffers: Vec<Range<usize>>,
    free: Vec<usize>,
    /// What goes out of the ring is lent, where the connection can.
    pub lends: bool,
}

/// Where the records of a batch lie for one send.
#[derive(Clone, Debug)]
pub struct Packed {
    pub records: Range<usize>,
    /// Raw, from register 0.
    pub crc: u32,
    /// The buffer they are in; `None`: the ring itself.
    pub buffer: Option<usize>,
}

impl Outbox {
    /// `block_bytes`: the longest block, so that no later one makes the compressor grow.
    pub fn new(codec: Codec, buffers: Vec<Range<usize>>, block_bytes: u64) -> Result<Self, Fatal> {
        let made = || -> Result<Deflater, CodecError> {
            let mut deflater = Deflater::new(codec, None)?;
            deflater.warm(block_bytes as usize)?;
            Ok(deflater)
        };
        let failed = |error: CodecError| Fatal::host(format!("--compression {}: {error}", codec.name()));
        let deflater = (codec != Codec::None).then(made).transpose().map_err(failed)?;
        Ok(Self { deflater, free: (0..buffers.len()).collect(), buffers, lends: true })
    }

    pub fn give_back(&mut self, buffer: usize) {
        self.free.push(buffer);
    }

    /// The records of a block, ready to send; `None`: no buffer is free. `in_ring`: its bytes are still there.
    pub fn pack<R: Ring>(&mut self, ring: &mut R, payload: &Payload, slot: u32, in_ring: bool) -> Option<Packed> {
        let block = payload.block(slot);
        if in_ring && self.deflater.is_none() {
            return Some(Packed { records: block.range(), crc: block.remainder, buffer: None });
        }
        let wanted = usize::from(!in_ring) + usize::from(self.deflater.is_some());
        if self.free.len() < wanted {
            return None;
        }
        let crc = block.remainder;
        let (made, made_in) = match in_ring {
            true => (block.range(), None),
            false => {
                let buffer = self.free.pop()?;
                (payload.remake(ring.memory(), slot, self.buffers[buffer].start), Some(buffer))
            }
        };
        if self.deflater.is_none() {
            return Some(Packed { records: made, crc, buffer: made_in });
        }
        let buffer = self.free.pop()?;
        let packed = self.deflate(ring.memory(), made, buffer);
        self.free.extend(made_in);
        Some(packed)
    }

    fn deflate(&mut self, memory: &mut [u8], records: Range<usize>, buffer: usize) -> Packed {
        let out = self.buffers[buffer].clone();
        let deflater = self.deflater.as_mut().expect("only called with one");
        // Records lie before or behind the buffer, never across its edge.
        let (input, output) = if records.end <= out.start {
            let (left, right) = memory.split_at_mut(out.start);
            (&left[records], &mut right[..out.len()])
        } else {
            let (left, right) = memory.split_at_mut(records.start);
            (&right[..records.len()], &mut left[out.clone()])
        };
        let bytes = deflater.deflate(input, output).expect("the buffer has room for the worst case");
        let crc = raw_append(0, &output[..bytes]);
        Packed { records: out.start..out.start + bytes, crc, buffer: Some(buffer) }
    }
}
