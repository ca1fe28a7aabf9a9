//! How connections end.

use crate::connect::dialer::LastUse;
use crate::connect::tls::TlsError;
use crate::counters::Field;

/// Why a connection is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breakage {
    /// The peer closed it in order.
    Closed,
    /// The kernel reported this error.
    Error(i32),
    /// TLS cannot go on: the peer's alert, bytes that are no TLS, keys that are used up.
    Tls(TlsError),
    /// The sink broke it off: no answer in time, or one that makes no sense. The field counts the kind.
    Given(Field),
}

impl Breakage {
    /// What counts the records that it hit.
    pub fn kind(self) -> Field {
        match self {
            Breakage::Error(libc::ETIMEDOUT) => Field::ErrorTimeout,
            Breakage::Closed
            | Breakage::Error(libc::EPIPE | libc::ECONNRESET | libc::ECONNABORTED)
            | Breakage::Tls(TlsError::Alert(_)) => Field::ErrorClosed,
            Breakage::Tls(TlsError::Malformed | TlsError::Tampered | TlsError::Unexpected) => Field::ErrorProtocol,
            Breakage::Error(_) | Breakage::Tls(TlsError::NoRoom | TlsError::Exhausted | TlsError::Refused) => {
                Field::ErrorIo
            }
            Breakage::Given(kind) => kind,
        }
    }

    /// What the dialer is told where the connection was good for `own`: an alert is worth its words.
    pub fn last_use(self, own: LastUse) -> LastUse {
        match self {
            Breakage::Tls(TlsError::Alert(description)) => {
                LastUse::Alert { description, used: own != LastUse::Unknown }
            }
            _ => own,
        }
    }
}
