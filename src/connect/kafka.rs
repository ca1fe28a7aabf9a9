//! A blocking Kafka client for everything off the hot path: who leads which partition, topics, settings, producer
//! ids, authentication, offsets, and reading back.
//!
//! `Session` is one connection, `Cluster` the brokers behind a bootstrap list. Requests are encoded by
//! `kafka-protocol`; answers are parsed by `answers`, which believes no length that the bytes do not back. All
//! versions in use are "non-flexible" ones, which every broker from 1.0 to 4.x speaks.

pub mod answers;
mod awaited;
mod calls;
mod cluster;
mod dial;
mod error;
mod reader;
mod redial;
mod sasl;
mod session;
#[cfg(test)]
pub mod testing;
mod topics;

pub use answers::{Broker, FetchedPartition, PartitionView, TopicView, Versions};
pub use awaited::Awaited;
pub use calls::{At, NewTopic, TopicLimits};
pub use cluster::{Client, Cluster, Dial};
pub use dial::{Line, dial_brokers};
pub use error::KafkaError;
pub use reader::TopicReader;
pub use redial::{Target, client_of, cluster_of, dial_leaders};
pub use session::{Session, Stream};
pub use topics::Fits;
