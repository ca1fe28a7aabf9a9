//! Bytes in, bytes out, no I/O.

pub mod crc32c;
pub mod http;
pub mod kafka;
