//! What a record looks like at the start of a window. Records that carry the 64-byte header are here, rendered
//! templates in `templates`.

use super::window::Window;
use crate::base::limits;
use crate::record::{CRC_OFFSET, FLAG_SIGNED, HEADER_BYTES, Header, MAGIC, STAMP_END};
use crate::wire::crc32c;
use siphasher::sip::SipHasher24;
use std::hash::Hasher;
use std::io;

/// One producer of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub run: u64,
    pub producer: u32,
}

/// What a record says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub key: Key,
    pub sequence: u64,
    pub length: u64,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    Header,
    Body,
    /// A rendered template: a slot or its checksum.
    Slots,
    FitsChecksum,
    FitsDatasum,
    /// The bytes are intact, the signature is not that of the key.
    Signature,
    /// The bytes are intact, but nothing was signed.
    Unsigned,
}

impl Flaw {
    /// The record's extent is proved by its checksum.
    pub fn keeps_extent(self) -> bool {
        matches!(self, Self::Signature | Self::Unsigned)
    }

    pub fn what(self) -> &'static str {
        match self {
            Self::Header => "header disagrees with the checksum",
            Self::Body => "body disagrees with its digest",
            Self::Slots => "slots disagree with the template or the checksum",
            Self::FitsChecksum => "FITS CHECKSUM does not hold",
            Self::FitsDatasum => "FITS DATASUM does not hold",
            Self::Signature => "signature is forged or of another key",
            Self::Unsigned => "record is not signed",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    Record(Claim),
    /// It looks like a record, but something is wrong with it.
    Flawed(Claim, Flaw),
    /// No whole record; perhaps the start of one that is cut off.
    No(Option<Claim>),
}

/// How to find and check records.
pub trait Shape: Sync {
    /// Looks at the window's start. `next` is the record number that order lets expect.
    fn probe(&self, window: &mut Window<'_>, next: Option<u64>) -> io::Result<Probe>;

    /// Whether another record (good or bad), zeros or the end comes `ahead`: then the flawed one before it most
    /// likely had the right length.
    fn follows(&self, window: &mut Window<'_>, ahead: usize, next: Option<u64>) -> io::Result<bool>;

    /// The first place in `bytes` where a record may start. Fewer than [`Self::lead_bytes`] may be left unsearched
    /// at the end.
    fn candidate(&self, bytes: &[u8]) -> Option<usize>;

    /// Bytes that a candidate needs to be seen as one.
    fn lead_bytes(&self) -> usize;
}

/// Records that start with the header of `record`.
pub struct HeaderShape {
    finder: memchr::memmem::Finder<'static>,
    signer: Option<SipHasher24>,
}

impl HeaderShape {
    pub fn new(sign_key: Option<[u8; 16]>) -> Self {
        static NEEDLE: [u8; 4] = MAGIC;
        Self {
            finder: memchr::memmem::Finder::new(&NEEDLE),
            signer: sign_key.map(|key| SipHasher24::new_with_key(&key)),
        }
    }

    /// What is signed: see `payload::sign`.
    fn signature_flaw(
        &self,
        window: &mut Window<'_>,
        header: &Header,
        head: &[u8; HEADER_BYTES],
    ) -> io::Result<Option<Flaw>> {
        let Some(signer) = self.signer else { return Ok(None) };
        if header.flags & FLAG_SIGNED == 0 {
            return Ok(Some(Flaw::Unsigned));
        }
        let mut body = signer;
        window.visit(HEADER_BYTES, header.record_length as usize, |bytes| body.write(bytes))?;
        let mut signed = [0; 60];
        signed[..48].copy_from_slice(&head[..48]);
        signed[48..52].copy_from_slice(&head[STAMP_END..CRC_OFFSET]);
        signed[52..].copy_from_slice(&body.finish().to_le_bytes());
        Ok((signer.hash(&signed) != header.signature).then_some(Flaw::Signature))
    }
}

fn claim_of(header: &Header) -> Claim {
    Claim {
        key: Key { run: header.run_id, producer: header.producer_id },
        sequence: header.sequence,
        length: u64::from(header.record_length),
    }
}

impl Shape for HeaderShape {
    #[inline]
    fn probe(&self, window: &mut Window<'_>, _next: Option<u64>) -> io::Result<Probe> {
        let Some(head) = window.ensure(HEADER_BYTES)?.first_chunk::<HEADER_BYTES>().copied() else {
            return Ok(Probe::No(None));
        };
        let Some(header) = Header::decode(&head) else { return Ok(Probe::No(None)) };
        let claim = claim_of(&header);
        let length = header.record_length as usize;
        if claim.length > limits::RECORD_BYTES_MAX || !window.holds(length)? {
            return Ok(Probe::No(Some(claim)));
        }
        let mut unsealed = head;
        unsealed[CRC_OFFSET..].fill(0);
        if window.checksum(crc32c::checksum(&unsealed), HEADER_BYTES, length)? == header.crc32c {
            return Ok(match self.signature_flaw(window, &header, &head)? {
                None => Probe::Record(claim),
                Some(flaw) => Probe::Flawed(claim, flaw),
            });
        }
        let body_holds = window.checksum(0, HEADER_BYTES, length)? == header.body_crc32c;
        Ok(Probe::Flawed(claim, if body_holds { Flaw::Header } else { Flaw::Body }))
    }

    fn follows(&self, window: &mut Window<'_>, ahead: usize, _next: Option<u64>) -> io::Result<bool> {
        let mut head = [0; HEADER_BYTES];
        let got = window.peek(ahead, &mut head)?;
        Ok(Header::decode(&head[..got]).is_some() || head[..got].iter().all(|byte| *byte == 0))
    }

    fn candidate(&self, bytes: &[u8]) -> Option<usize> {
        self.finder.find(bytes)
    }

    fn lead_bytes(&self) -> usize {
        MAGIC.len()
    }
}
