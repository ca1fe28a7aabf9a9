//! What ends a running TLS connection.

use rustls::AlertDescription;
use std::fmt;

/// Any of them ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsError {
    /// The output has less room than [`super::TlsSession::sealed_bytes`] says.
    NoRoom,
    /// A record that TLS does not have.
    Malformed,
    /// A record that was not written by the peer, or not in this order.
    Tampered,
    /// A message that has no place in a running connection.
    Unexpected,
    /// The peer ended the connection and gave this reason (RFC 8446, section 6.2).
    Alert(u8),
    /// As many records as its keys are good for; TLS 1.2 cannot renew them.
    Exhausted,
    /// The cipher refused.
    Refused,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::NoRoom => f.write_str("no room for TLS records"),
            TlsError::Malformed => f.write_str("malformed TLS record"),
            TlsError::Tampered => f.write_str("TLS record that does not verify"),
            TlsError::Unexpected => f.write_str("unexpected TLS message"),
            TlsError::Alert(description) => {
                write!(f, "the peer's TLS alert {description} ({:?})", AlertDescription::from(*description))
            }
            TlsError::Exhausted => f.write_str("the keys of this TLS connection are used up"),
            TlsError::Refused => f.write_str("the cipher refused a TLS record"),
        }
    }
}

impl std::error::Error for TlsError {}
