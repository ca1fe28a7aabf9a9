//! TLS on top of rustls: it verifies, negotiates and derives keys; the records of the running connection are sealed
//! and opened by [`TlsSession`], in place and without allocating, where the core thread wants them.

mod error;
mod handshake;
mod record;
mod session;
mod setup;
mod stream;

pub use error::TlsError;
pub use handshake::{HandshakeError, handshake};
pub use session::{INCOMING_BYTES, Messages, TlsSession};
pub use setup::client_config;
pub use stream::TlsStream;

#[cfg(test)]
pub use session::SPARE_RECORDS;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
