//! A running TLS connection: bytes in, bytes out. rustls keeps the secrets that new keys are derived from.
//!
//! Nothing is allocated but at a change of keys, which comes once in some 2^24 records.

use super::error::TlsError;
use super::record::{ALERT, DATA, Direction, HANDSHAKE, HEADER_BYTES, Layout, PLAIN_BYTES_MAX};
use crate::base::limits;
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::{ExtractedSecrets, ProtocolVersion, SupportedCipherSuite};

/// A buffer of this size holds any one record of a peer.
pub const INCOMING_BYTES: usize = HEADER_BYTES + PLAIN_BYTES_MAX + 2048;

const OVERHEAD_BYTES_MAX: usize = 29;
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const KEY_UPDATE_RECORD_BYTES: usize = KEY_UPDATE.len() + 22;

/// Records for the longest message, twice over: with fewer left, keys that cannot be renewed are worn.
pub const SPARE_RECORDS: u64 = 2 * limits::BLOCK_BYTES_MAX / PLAIN_BYTES_MAX as u64;

const ALERT_CLOSE_NOTIFY: u8 = 0;
const ALERT_USER_CANCELED: u8 = 90;
const MESSAGE_HEADER_BYTES: usize = 4;
const MESSAGE_HELLO_REQUEST: u8 = 0;
const MESSAGE_TICKET: u8 = 4;
const MESSAGE_KEY_UPDATE: u8 = 24;

/// Where in the peer's handshake messages the records stand: they may be split and joined at will.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// Of the message that has begun: its header, or all of a change of keys.
    begun: [u8; KEY_UPDATE.len()],
    begun_bytes: usize,
    /// Of a message that is skipped.
    skip: usize,
}

pub struct TlsSession {
    outgoing: Direction,
    incoming: Direction,
    kernel: KernelConnection<ClientConnectionData>,
    /// Records that one key may seal.
    records_max: u64,
    messages: Messages,
    /// The peer asked for new keys.
    update_due: bool,
    closed: bool,
}

impl TlsSession {
    pub(super) fn new(
        secrets: ExtractedSecrets,
        kernel: KernelConnection<ClientConnectionData>,
    ) -> Result<Self, rustls::Error> {
        let tls13 = kernel.protocol_version() == ProtocolVersion::TLSv1_3;
        let records_max = match kernel.negotiated_cipher_suite() {
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
        };
        Ok(Self {
            outgoing: Direction::new(secrets.tx, tls13)?,
            incoming: Direction::new(secrets.rx, tls13)?,
            kernel,
            // Sequences must not wrap, whatever the cipher.
            records_max: records_max.min(u64::MAX >> 1),
            messages: Messages::default(),
            update_due: false,
            closed: false,
        })
    }

    /// The most bytes that so much content becomes.
    pub const fn sealed_bytes(plain_bytes: usize) -> usize {
        let records = plain_bytes.div_ceil(PLAIN_BYTES_MAX);
        plain_bytes + records * OVERHEAD_BYTES_MAX + KEY_UPDATE_RECORD_BYTES
    }

    /// As `TLS13_AES_128_GCM_SHA256`.
    pub fn cipher(&self) -> String {
        format!("{:?}", self.kernel.negotiated_cipher_suite().suite())
    }

    /// The peer said that it sends no more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The keys will not last for much more than one long message, and TLS 1.2 cannot renew them: another connection
    /// has to take this one's place.
    pub fn is_worn(&self) -> bool {
        self.outgoing.layout() != Layout::Tls13 && self.outgoing.sequence + SPARE_RECORDS >= self.records_max
    }

    /// Seals `plain` as whole records at the front of `out` and says how many bytes they are.
    pub fn encrypt(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, TlsError> {
        if out.len() < Self::sealed_bytes(plain.len()) {
            return Err(TlsError::NoRoom);
        }
        let mut written = self.renew(plain.len().div_ceil(PLAIN_BYTES_MAX) as u64, out)?;
        for part in plain.chunks(PLAIN_BYTES_MAX) {
            written += self.outgoing.seal(DATA, part, &mut out[written..])?;
        }
        Ok(written)
    }

    /// Says goodbye; nothing may be encrypted after it. As for one byte of content, `out` needs
    /// `sealed_bytes(2)`.
    pub fn close(&mut self, out: &mut [u8]) -> Result<usize, TlsError> {
        if out.len() < Self::sealed_bytes(2) {
            return Err(TlsError::NoRoom);
        }
        let written = self.renew(1, out)?;
        Ok(written + self.outgoing.seal(ALERT, &[1, ALERT_CLOSE_NOTIFY], &mut out[written..])?)
    }

    /// Changes the own keys where the peer asked for it or `records` more would wear them out.
    fn renew(&mut self, records: u64, out: &mut [u8]) -> Result<usize, TlsError> {
        let worn = self.outgoing.sequence + records + 1 >= self.records_max;
        if !worn && !self.update_due {
            return Ok(0);
        }
        if self.outgoing.layout() != Layout::Tls13 {
            return if worn { Err(TlsError::Exhausted) } else { Ok(0) };
        }
        let written = self.outgoing.seal(HANDSHAKE, &KEY_UPDATE, out)?;
        let secrets = self.kernel.update_tx_secret().map_err(|_| TlsError::Refused)?;
        self.outgoing = Direction::new(secrets, true).map_err(|_| TlsError::Refused)?;
        self.update_due = false;
        Ok(written)
    }

    /// Opens every whole record in the first `used` bytes of `incoming`, in place, and hands on what they hold.
    /// Returns how many bytes are dealt with; the caller moves the others to the front. A buffer of
    /// [`INCOMING_BYTES`] always makes progress.
    pub fn decrypt(&mut self, incoming: &mut [u8], used: usize, mut out: impl FnMut(&[u8])) -> Result<usize, TlsError> {
        let mut consumed = 0;
        // What follows the peer's goodbye is nothing that it said.
        while !self.closed {
            let Some(opened) = self.incoming.open(&mut incoming[consumed..used])? else { return Ok(consumed) };
            consumed += opened.bytes;
            if opened.content_type != HANDSHAKE && self.messages.is_within() {
                return Err(TlsError::Unexpected);
            }
            match (opened.content_type, opened.plain) {
                (DATA, plain) => out(plain),
                (ALERT, [_, ALERT_CLOSE_NOTIFY]) => self.closed = true,
                (ALERT, [_, ALERT_USER_CANCELED]) => {}
                (ALERT, [_, description]) => return Err(TlsError::Alert(*description)),
                (HANDSHAKE, [_, ..]) => {
                    let tls13 = self.outgoing.layout() == Layout::Tls13;
                    if let Some(asks_back) = self.messages.read(opened.plain, tls13)? {
                        let secrets = self.kernel.update_rx_secret().map_err(|_| TlsError::Refused)?;
                        self.incoming = Direction::new(secrets, true).map_err(|_| TlsError::Refused)?;
                        self.update_due |= asks_back;
                    }
                }
                _ => return Err(TlsError::Unexpected),
            }
        }
        Ok(used)
    }
}

impl Messages {
    /// A message has begun and is not over.
    pub fn is_within(&self) -> bool {
        self.skip > 0 || self.begun_bytes > 0
    }

    /// Reads through the messages of a record. Tickets are skipped; a change of the peer's keys ends its record, and
    /// says whether it asks for one in return.
    pub fn read(&mut self, mut bytes: &[u8], tls13: bool) -> Result<Option<bool>, TlsError> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = self.skip.min(bytes.len());
                self.skip -= count;
                bytes = &bytes[count..];
                continue;
            }
            self.begun[self.begun_bytes] = bytes[0];
            self.begun_bytes += 1;
            bytes = &bytes[1..];
            let wanted = if self.begun[0] == MESSAGE_KEY_UPDATE { KEY_UPDATE.len() } else { MESSAGE_HEADER_BYTES };
            if self.begun_bytes < wanted {
                continue;
            }
            self.begun_bytes = 0;
            let [message, high, middle, low, asks_back] = self.begun;
            let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            match message {
                MESSAGE_TICKET if tls13 => self.skip = length,
                // Other keys and parameters are not wanted, and an answer to that is not owed.
                MESSAGE_HELLO_REQUEST if !tls13 && length == 0 => {}
                MESSAGE_KEY_UPDATE if tls13 && length == 1 && asks_back <= 1 && bytes.is_empty() => {
                    return Ok(Some(asks_back == 1));
                }
                _ => return Err(TlsError::Unexpected),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
impl TlsSession {
    /// As if the keys were good for so many more records.
    pub fn wear_to_within(&mut self, records: u64) {
        self.records_max = self.outgoing.sequence + records;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_keys_may_come_in_pieces_and_ends_its_record() {
        for cut in 0..KEY_UPDATE.len() {
            let (front, back) = KEY_UPDATE.split_at(cut);
            let mut messages = Messages::default();
            assert_eq!((messages.read(front, true), messages.is_within()), (Ok(None), cut > 0));
            assert_eq!((messages.read(back, true), messages.is_within()), (Ok(Some(false)), false), "cut at {cut}");
        }
        let followed = [KEY_UPDATE.as_slice(), &[MESSAGE_TICKET]].concat();
        assert_eq!(Messages::default().read(&followed, true), Err(TlsError::Unexpected));
    }
}
