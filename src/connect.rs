//! Everything that blocks or allocates on a connection's way to life: names, connects, handshakes, redials, and what
//! is said to a target before and beside the hot path. A core thread only ever sees a ready descriptor, and
//! reconnects by ordering another.

pub mod backoff;
pub mod dial;
pub mod dialer;
pub mod kafka;
pub mod peer;
pub mod tls;
pub mod token;

pub use dial::{Connector, Dialed, dial};
pub use dialer::{Answer, DialHandle, DialOrder, Dialer};
pub use tls::{TlsError, TlsSession, TlsStream};
