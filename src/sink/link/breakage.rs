//! How connections end.

use crate::counters::Field;

/// Why a connection is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breakage {
    /// The peer closed it in order.
    Closed,
    /// The kernel reported this error.
    Error(i32),
    /// The sink broke it off: no answer in time, or one that makes no sense. The field counts the kind.
    Given(Field),
}

impl Breakage {
    /// What counts the records that it hit.
    pub fn kind(self) -> Field {
        match self {
            Breakage::Error(libc::ETIMEDOUT) => Field::ErrorTimeout,
            Breakage::Closed | Breakage::Error(libc::EPIPE | libc::ECONNRESET | libc::ECONNABORTED) => {
                Field::ErrorClosed
            }
            Breakage::Error(_) => Field::ErrorIo,
            Breakage::Given(kind) => kind,
        }
    }
}
