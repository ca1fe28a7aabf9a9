//! One direction of the record layer: RFC 8446 section 5.2 for TLS 1.3; RFC 5246, 5288 and 7905 for TLS 1.2.

use super::error::TlsError;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;

pub const HEADER_BYTES: usize = 5;
pub const TAG_BYTES: usize = 16;
/// Content of one record.
pub const PLAIN_BYTES_MAX: usize = 16 * 1024;
/// What a peer's record may have beyond its content.
const EXPANSION_BYTES_MAX_13: usize = 256;
const EXPANSION_BYTES_MAX_12: usize = 2048;
/// Of the nonce, what TLS 1.2 with GCM sends along.
const EXPLICIT_BYTES: usize = 8;

pub const ALERT: u8 = 21;
pub const HANDSHAKE: u8 = 22;
pub const DATA: u8 = 23;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Tls13,
    Tls12Gcm,
    Tls12ChaCha,
}

impl Layout {
    /// Bytes that a record has beyond its content.
    pub fn overhead(self) -> usize {
        HEADER_BYTES
            + TAG_BYTES
            + match self {
                Layout::Tls13 => 1,
                Layout::Tls12Gcm => EXPLICIT_BYTES,
                Layout::Tls12ChaCha => 0,
            }
    }
}

pub struct Direction {
    key: LessSafeKey,
    iv: [u8; 12],
    layout: Layout,
    /// Of the next record.
    pub sequence: u64,
}

/// A record that was opened, by its place in the buffer.
pub struct Opened<'a> {
    pub content_type: u8,
    pub plain: &'a [u8],
    /// Of the whole record.
    pub bytes: usize,
}

impl Direction {
    pub fn new((sequence, secrets): (u64, ConnectionTrafficSecrets), tls13: bool) -> Result<Self, rustls::Error> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(rustls::Error::General("a cipher that is not known here".into())),
        };
        let layout = match tls13 {
            true => Layout::Tls13,
            false if algorithm == &CHACHA20_POLY1305 => Layout::Tls12ChaCha,
            false => Layout::Tls12Gcm,
        };
        let refused = |_| rustls::Error::General("a key of the wrong length".into());
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).map_err(refused)?);
        let mut own = [0; 12];
        own.copy_from_slice(iv.as_ref());
        Ok(Self { key, iv: own, layout, sequence })
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The sequence spread over the vector, unique for each record under one key.
    fn nonce(&self) -> [u8; 12] {
        let mut nonce = self.iv;
        for (byte, part) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= part;
        }
        nonce
    }

    /// What TLS 1.2 authenticates beside the content.
    fn facts_12(&self, content_type: u8, plain_bytes: usize) -> [u8; 13] {
        let mut facts = [0; 13];
        facts[..8].copy_from_slice(&self.sequence.to_be_bytes());
        facts[8..11].copy_from_slice(&[content_type, 3, 3]);
        facts[11..].copy_from_slice(&(plain_bytes as u16).to_be_bytes());
        facts
    }

    /// Seals one record at the front of `out`, which has room for it, and says how long it became.
    pub fn seal(&mut self, content_type: u8, plain: &[u8], out: &mut [u8]) -> Result<usize, TlsError> {
        let total = plain.len() + self.layout.overhead();
        let body = (total - HEADER_BYTES) as u16;
        let nonce = self.nonce();
        let outer = if self.layout == Layout::Tls13 { DATA } else { content_type };
        let header = [outer, 3, 3, (body >> 8) as u8, body as u8];
        out[..HEADER_BYTES].copy_from_slice(&header);
        let explicit = if self.layout == Layout::Tls12Gcm { EXPLICIT_BYTES } else { 0 };
        let start = HEADER_BYTES + explicit;
        out[HEADER_BYTES..start].copy_from_slice(&nonce[12 - explicit..]);
        let mut end = start + plain.len();
        out[start..end].copy_from_slice(plain);
        let one_time = Nonce::assume_unique_for_key(nonce);
        let tag = if self.layout == Layout::Tls13 {
            out[end] = content_type;
            end += 1;
            self.key.seal_in_place_separate_tag(one_time, Aad::from(header), &mut out[start..end])
        } else {
            let facts = self.facts_12(content_type, plain.len());
            self.key.seal_in_place_separate_tag(one_time, Aad::from(facts), &mut out[start..end])
        };
        out[end..end + TAG_BYTES].copy_from_slice(tag.map_err(|_| TlsError::Refused)?.as_ref());
        self.sequence += 1;
        Ok(total)
    }

    /// Opens the record at the front of `bytes`, in place; `None`: it is not all there.
    pub fn open<'a>(&mut self, bytes: &'a mut [u8]) -> Result<Option<Opened<'a>>, TlsError> {
        let Some(&[outer, major, minor, high, low]) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let tls13 = self.layout == Layout::Tls13;
        let expansion = if tls13 { EXPANSION_BYTES_MAX_13 } else { EXPANSION_BYTES_MAX_12 };
        if major != 3 || length > PLAIN_BYTES_MAX + expansion {
            return Err(TlsError::Malformed);
        }
        if tls13 && outer != DATA {
            return Err(TlsError::Malformed);
        }
        if length < self.layout.overhead() - HEADER_BYTES {
            return Err(TlsError::Malformed);
        }
        let total = HEADER_BYTES + length;
        let Some(record) = bytes.get_mut(..total) else { return Ok(None) };
        let body = &mut record[HEADER_BYTES..];
        let opened = match self.layout {
            Layout::Tls13 => {
                let nonce = Nonce::assume_unique_for_key(self.nonce());
                self.key.open_in_place(nonce, Aad::from([outer, major, minor, high, low]), body)
            }
            Layout::Tls12ChaCha => {
                let facts = self.facts_12(outer, length - TAG_BYTES);
                self.key.open_in_place(Nonce::assume_unique_for_key(self.nonce()), Aad::from(facts), body)
            }
            Layout::Tls12Gcm => {
                let mut nonce = self.iv;
                nonce[4..].copy_from_slice(&body[..EXPLICIT_BYTES]);
                let facts = self.facts_12(outer, length - TAG_BYTES - EXPLICIT_BYTES);
                self.key.open_within(Nonce::assume_unique_for_key(nonce), Aad::from(facts), body, EXPLICIT_BYTES..)
            }
        };
        let plain: &'a [u8] = opened.map_err(|_| TlsError::Tampered)?;
        self.sequence += 1;
        let (content_type, plain) = if tls13 { inner(plain)? } else { (outer, plain) };
        if plain.len() > PLAIN_BYTES_MAX {
            return Err(TlsError::Malformed);
        }
        Ok(Some(Opened { content_type, plain, bytes: total }))
    }
}

/// Type and content of TLS 1.3's inner plaintext, without its padding.
fn inner(plain: &[u8]) -> Result<(u8, &[u8]), TlsError> {
    let at = plain.iter().rposition(|byte| *byte != 0).ok_or(TlsError::Malformed)?;
    Ok((plain[at], &plain[..at]))
}
