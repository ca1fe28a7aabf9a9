//! Kafka's protocol as far as records travel in it: batches (format 2), Produce requests and their answers.
//!
//! A record is *framed* where it lies: `[before][record][after]`, with parts of a fixed width, so that only a few bytes
//! change from send to send. Any stretch of framed records is the body of a batch; its head is written apart. Checksums
//! are put together from those of the parts.
//!
//! Sources: <https://kafka.apache.org/documentation/#messageformat>, <https://kafka.apache.org/protocol.html>.

pub mod batch;
pub mod codec;
pub mod errors;
pub mod fields;
pub mod frame;
pub mod inflate;
pub mod produce;
pub mod records;
pub mod request;
pub mod response;
pub mod varint;

#[cfg(test)]
mod tests;

/// Versions of Produce that this room speaks: those with records at the very end and lengths of a fixed width.
pub const PRODUCE_VERSION_MIN: i16 = 3;
pub const PRODUCE_VERSION_MAX: i16 = 8;

/// The number of the Produce request among Kafka's requests.
pub const PRODUCE_API_KEY: i16 = 0;
