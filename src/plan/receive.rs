//! What `engine receive` is to do: resolved, data only.

use super::{LogFormat, ReportTarget};
use std::net::SocketAddr;

#[derive(Clone, Debug, PartialEq)]
pub struct ReceivePlan {
    pub protocol: Protocol,
    /// Port 0: a free one.
    pub address: SocketAddr,
    /// Checks every record; else everything is thrown away.
    pub verify: bool,
    pub sign_key: Option<[u8; 16]>,
    /// The run that is expected: its text or its 64-bit hash.
    pub run_id: Option<String>,
    pub framing: Framing,
    /// Checks each so-manieth batch; with `verify` all are.
    pub verify_every: Option<u64>,
    pub broker: BrokerPlan,
    /// Ends when connections were there and none is open any more.
    pub once: bool,
    pub threads: Threads,
    /// `u64::MAX`: until a signal.
    pub duration_ns: u64,
    pub report: Option<ReportTarget>,
    pub faults: FaultPlan,
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Http,
    Kafka,
}

impl Protocol {
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Kafka => "kafka",
        }
    }
}

/// With Kafka: what the broker says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerPlan {
    /// Where clients are to connect; `None`: where they did.
    pub advertise: Option<(String, u16)>,
    /// Of a topic that nobody created.
    pub topic_partitions: u32,
}

/// How records lie in a TCP stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One after the other.
    None,
    /// Each behind its length: four bytes, big-endian.
    Length,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Threads {
    /// So many, asleep while nothing arrives.
    Sleeping(usize),
    /// One pinned to each of these processors, polling all the time.
    Polling(Vec<usize>),
}

/// What goes wrong on request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    pub items: Vec<FaultItem>,
    /// Seconds of the `Retry-After` header of 429 and 503.
    pub retry_after_seconds: Option<u64>,
    pub seed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultItem {
    pub kind: FaultKind,
    /// How often, in parts of a thousand million.
    pub share_ppb: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Answers with this status; the request does not count as received.
    Status(u16),
    /// Reads everything, then resets the connection.
    Reset,
    /// Resets the connection as soon as the request's head is there.
    Abort,
    /// Sends half an answer, then closes.
    Truncate,
    /// Answers well and says that it closes, then does: the request counts as received.
    Close,
    /// Answers with this code of Kafka's.
    Error(i16),
    /// Keeps the records, then closes without an answer.
    LoseAnswer,
    /// Holds the answer (with TCP: the reading) for so long.
    Delay { ns: u64 },
    /// Sends the answer byte by byte, one each time.
    Slow { ns: u64 },
}

impl FaultKind {
    pub const ENDING: usize = 0;
    pub const DELAY: usize = 1;
    pub const SLOW: usize = 2;

    /// Faults of one group exclude each other; those of different groups may come together.
    pub fn group(self) -> usize {
        match self {
            Self::Status(_)
            | Self::Reset
            | Self::Abort
            | Self::Truncate
            | Self::Close
            | Self::Error(_)
            | Self::LoseAnswer => Self::ENDING,
            Self::Delay { .. } => Self::DELAY,
            Self::Slow { .. } => Self::SLOW,
        }
    }
}

pub const FAULT_GROUPS: usize = 3;
pub const PPB: u64 = 1_000_000_000;
