//! A record too long to be kept: it is checked while its bytes go by.

use super::scan::{Event, Junk, Span};
use super::shape::{Claim, Flaw, claim_of};
use crate::payload::sign;
use crate::record::{CRC_OFFSET, FLAG_SIGNED, HEADER_BYTES, Header};
use crate::wire::crc32c;
use std::hash::Hasher;

pub struct Passing {
    head: [u8; HEADER_BYTES],
    header: Header,
    claim: Claim,
    start: u64,
    left: u64,
    /// CRC32C of the whole record and of what is behind the header, so far.
    crc: u32,
    body_crc: u32,
    signer: Option<([u8; 16], Box<dyn Hasher + Send>)>,
}

impl Passing {
    /// `None` where no header starts here.
    pub fn begin(bytes: &[u8], start: u64, sign_key: Option<[u8; 16]>) -> Option<Self> {
        let head = *bytes.first_chunk::<HEADER_BYTES>()?;
        let header = Header::decode(&head)?;
        let claim = claim_of(&header);
        let mut unsealed = head;
        unsealed[CRC_OFFSET..].fill(0);
        let signer = sign_key.map(|key| (key, Box::new(sign::body_hasher(&key)) as Box<dyn Hasher + Send>));
        let left = claim.length - HEADER_BYTES as u64;
        Some(Self { head, header, claim, start, left, crc: crc32c::checksum(&unsealed), body_crc: 0, signer })
    }

    /// Of the whole record.
    pub fn length(&self) -> u64 {
        self.claim.length
    }

    /// It says that it is signed, and there is no key.
    pub fn is_signed_unchecked(&self) -> bool {
        self.signer.is_none() && self.header.flags & FLAG_SIGNED != 0
    }

    /// Takes the bytes that belong to it; how many, and what it turned out to be once it is whole.
    pub fn take(&mut self, bytes: &[u8]) -> (usize, Option<Event>) {
        let length = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let mine = &bytes[..length];
        self.crc = crc32c::append(self.crc, mine);
        self.body_crc = crc32c::append(self.body_crc, mine);
        if let Some((_, signer)) = &mut self.signer {
            signer.write(mine);
        }
        self.left -= length as u64;
        (length, (self.left == 0).then(|| self.event()))
    }

    fn event(&self) -> Event {
        let (claim, start) = (self.claim, self.start);
        match self.flaw() {
            Some(flaw) => Event::Flawed { start, claim, flaw },
            None => Event::Span(Span::of(&claim, start, start + claim.length)),
        }
    }

    fn flaw(&self) -> Option<Flaw> {
        let body_holds = self.body_crc == self.header.body_crc32c;
        if self.crc != self.header.crc32c {
            return Some(if body_holds { Flaw::Header } else { Flaw::Body });
        }
        let (key, signer) = self.signer.as_ref()?;
        if self.header.flags & FLAG_SIGNED == 0 {
            return Some(Flaw::Unsigned);
        }
        let holds = body_holds && sign::sign(key, &self.head, signer.finish()) == self.header.signature;
        (!holds).then_some(Flaw::Signature)
    }

    /// The source ended at `end`, before the record did.
    pub fn cut_off(self, end: u64) -> Event {
        Event::Junk(Junk { start: self.start, end, zeros: false, claim: Some(self.claim) })
    }
}
