//! Where a link's bytes lie.

use crate::connect::tls::{INCOMING_BYTES, TlsSession};
use std::ops::Range;

/// Plain bytes that are sealed at once: enough for one large send, little enough to stay in cache.
pub const SEAL_BYTES: usize = 128 << 10;
const SEALED_BYTES: usize = TlsSession::sealed_bytes(SEAL_BYTES) + TlsSession::sealed_bytes(1);
const OPENING_BYTES: usize = 2 * INCOMING_BYTES;

/// What a sink may leave in its inbox and wait for more.
pub const REST_BYTES_MAX: usize = 64;
/// Over TLS an inbox has room for a peer's longest record behind that: nothing of a record is opened before all of it
/// is there.
pub const TLS_INBOX_BYTES_MIN: usize = REST_BYTES_MAX + INCOMING_BYTES;

/// Of a link over which the peer answers: most answers fit many times over, and longer ones are read as they come.
pub const ANSWERS_INBOX_BYTES: usize = 32 << 10;
const _: () = assert!(ANSWERS_INBOX_BYTES >= TLS_INBOX_BYTES_MIN);

/// A link's stretch of the memory.
#[derive(Clone, Debug)]
pub struct Area {
    pub inbox: Range<usize>,
    /// For TLS: what arrives sealed, and what goes out sealed.
    pub opening: Range<usize>,
    pub sealed: Range<usize>,
}

impl Area {
    /// What [`Area::cut`] takes.
    pub fn bytes(inbox_bytes: usize, tls: bool) -> usize {
        inbox_bytes + if tls { OPENING_BYTES + SEALED_BYTES } else { 0 }
    }

    /// The area that begins at `start`.
    pub fn cut(start: usize, inbox_bytes: usize, tls: bool) -> Self {
        let inbox = start..start + inbox_bytes;
        let opening = inbox.end..inbox.end + if tls { OPENING_BYTES } else { 0 };
        let sealed = opening.end..start + Self::bytes(inbox_bytes, tls);
        Self { inbox, opening, sealed }
    }
}

/// Deals out a lane's memory beside its ring, from its start on.
pub struct Carver {
    next: usize,
}

impl Carver {
    /// For the memory that begins at `start`.
    pub fn new(start: usize) -> Self {
        Self { next: start }
    }

    /// The next so many bytes.
    pub fn take(&mut self, bytes: usize) -> Range<usize> {
        let start = self.next;
        self.next += bytes;
        start..self.next
    }

    /// The next link's area.
    pub fn take_area(&mut self, inbox_bytes: usize, tls: bool) -> Area {
        Area::cut(self.take(Area::bytes(inbox_bytes, tls)).start, inbox_bytes, tls)
    }
}
