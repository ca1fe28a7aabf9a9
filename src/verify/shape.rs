//! What a record looks like at the start of a window. Records that carry the 64-byte header are here, rendered
//! templates in `templates`.

use super::findings::Kind;
use super::window::Window;
use crate::base::limits;
use crate::payload::sign;
use crate::record::{CRC_OFFSET, FLAG_SIGNED, HEADER_BYTES, Header, MAGIC};
use crate::wire::crc32c;
use std::hash::Hasher;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Searched at once where a record's length is in doubt.
const SEARCH_BYTES: usize = 64 << 10;

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
    /// 0: it does not say.
    pub timestamp_unix_ns: u64,
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

    /// What it is a finding of.
    pub fn kind(self) -> Kind {
        if self.keeps_extent() { Kind::Forged } else { Kind::Corrupt }
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

    /// Whether the flawed record at the window's start most likely has the length that it claims, so that reading
    /// can go on behind it.
    fn extent_holds(&self, window: &mut Window<'_>, claim: &Claim, flaw: Flaw) -> io::Result<bool>;

    /// The first place in `bytes` where a record may start. Fewer than [`Self::lead_bytes`] may be left unsearched
    /// at the end.
    fn candidate(&self, bytes: &[u8]) -> Option<usize>;

    /// Bytes that a candidate needs to be seen as one.
    fn lead_bytes(&self) -> usize;

    /// Whether some of the records were signed, and no key was there to check that.
    fn has_unchecked_signatures(&self) -> bool;
}

/// Records that start with the header of `record`.
pub struct HeaderShape {
    finder: memchr::memmem::Finder<'static>,
    sign_key: Option<[u8; 16]>,
    unchecked_signature: AtomicBool,
}

impl HeaderShape {
    pub fn new(sign_key: Option<[u8; 16]>) -> Self {
        static NEEDLE: [u8; 4] = MAGIC;
        let finder = memchr::memmem::Finder::new(&NEEDLE);
        Self { finder, sign_key, unchecked_signature: AtomicBool::new(false) }
    }

    /// What is signed: see `payload::sign`. `visit` shows the body.
    fn signature_flaw(
        &self,
        header: &Header,
        head: &[u8; HEADER_BYTES],
        visit: impl FnOnce(&mut dyn Hasher) -> io::Result<()>,
    ) -> io::Result<Option<Flaw>> {
        let is_signed = header.flags & FLAG_SIGNED != 0;
        let Some(key) = self.sign_key else {
            // All threads look at it, so it is written once only.
            if is_signed && !self.unchecked_signature.load(Ordering::Relaxed) {
                self.unchecked_signature.store(true, Ordering::Relaxed);
            }
            return Ok(None);
        };
        if !is_signed {
            return Ok(Some(Flaw::Unsigned));
        }
        let mut body = sign::body_hasher(&key);
        visit(&mut body)?;
        Ok((sign::sign(&key, head, body.finish()) != header.signature).then_some(Flaw::Signature))
    }

    /// Judges bytes that should be one record, no more and no less.
    pub fn judge(&self, bytes: &[u8]) -> Probe {
        let Some((head, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Probe::No(None) };
        let Some(header) = Header::decode(head) else { return Probe::No(None) };
        let claim = claim_of(&header);
        if claim.length > bytes.len() as u64 {
            return Probe::No(Some(claim));
        }
        let mut unsealed = *head;
        unsealed[CRC_OFFSET..].fill(0);
        let digest_holds = || crc32c::checksum(body) == header.body_crc32c;
        if crc32c::append(crc32c::checksum(&unsealed), body) != header.crc32c {
            return Probe::Flawed(claim, if digest_holds() { Flaw::Header } else { Flaw::Body });
        }
        let flaw = self.signature_flaw(&header, head, |hasher| {
            hasher.write(body);
            Ok(())
        });
        match flaw {
            Ok(None) if self.sign_key.is_none() || digest_holds() => Probe::Record(claim),
            Ok(Some(flaw)) => Probe::Flawed(claim, flaw),
            Ok(None) | Err(_) => Probe::Flawed(claim, Flaw::Signature),
        }
    }
}

impl HeaderShape {
    /// Whether an intact record of the same run starts within the claimed extent: then it is the length that is
    /// damaged. (Records of other runs may well be payload.)
    fn hides_a_sibling(&self, window: &mut Window<'_>, run: u64, length: usize) -> io::Result<bool> {
        let mut block = vec![0; SEARCH_BYTES.min(length)];
        let mut at = 1;
        while at < length {
            let got = window.peek(at, &mut block)?.min(length - at);
            if got == 0 {
                return Ok(false);
            }
            for found in self.finder.find_iter(&block[..got]) {
                if self.is_intact_at(window, run, at + found)? {
                    return Ok(true);
                }
            }
            // The magic may lie across two blocks.
            at += if got < block.len() { got } else { got + 1 - MAGIC.len() };
        }
        Ok(false)
    }

    fn is_intact_at(&self, window: &mut Window<'_>, run: u64, ahead: usize) -> io::Result<bool> {
        let mut head = [0; HEADER_BYTES];
        if window.peek(ahead, &mut head)? < HEADER_BYTES {
            return Ok(false);
        }
        let Some(header) = Header::decode(&head) else { return Ok(false) };
        let end = ahead + header.record_length as usize;
        let possible = header.run_id == run && u64::from(header.record_length) <= limits::RECORD_BYTES_MAX;
        if !possible || !window.holds(end)? {
            return Ok(false);
        }
        head[CRC_OFFSET..].fill(0);
        Ok(window.checksum(crc32c::checksum(&head), ahead + HEADER_BYTES, end)? == header.crc32c)
    }
}

pub fn claim_of(header: &Header) -> Claim {
    Claim {
        key: Key { run: header.run_id, producer: header.producer_id },
        sequence: header.sequence,
        length: u64::from(header.record_length),
        timestamp_unix_ns: header.timestamp_ns,
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
            // The body has to agree with the CRC32C that is signed, too.
            let visit = |hasher: &mut dyn Hasher| window.visit(HEADER_BYTES, length, |bytes| hasher.write(bytes));
            let flaw = match self.signature_flaw(&header, &head, visit)? {
                None if self.sign_key.is_some() && window.checksum(0, HEADER_BYTES, length)? != header.body_crc32c => {
                    Some(Flaw::Signature)
                }
                flaw => flaw,
            };
            return Ok(flaw.map_or(Probe::Record(claim), |flaw| Probe::Flawed(claim, flaw)));
        }
        let body_holds = window.checksum(0, HEADER_BYTES, length)? == header.body_crc32c;
        Ok(Probe::Flawed(claim, if body_holds { Flaw::Header } else { Flaw::Body }))
    }

    fn extent_holds(&self, window: &mut Window<'_>, claim: &Claim, flaw: Flaw) -> io::Result<bool> {
        // A body that agrees with its digest ends where the header says.
        if flaw == Flaw::Header || flaw.keeps_extent() {
            return Ok(true);
        }
        let length = claim.length as usize;
        let mut head = [0; HEADER_BYTES];
        let got = window.peek(length, &mut head)?;
        let follows = Header::decode(&head[..got]).is_some() || head[..got].iter().all(|byte| *byte == 0);
        Ok(follows && !self.hides_a_sibling(window, claim.key.run, length)?)
    }

    fn candidate(&self, bytes: &[u8]) -> Option<usize> {
        self.finder.find(bytes)
    }

    fn lead_bytes(&self) -> usize {
        MAGIC.len()
    }

    fn has_unchecked_signatures(&self) -> bool {
        self.unchecked_signature.load(Ordering::Relaxed)
    }
}
