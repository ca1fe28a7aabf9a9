//! Where blocks go. The loop is monomorphic in the sink; `run` picks it with one match.
//!
//! A sink serves all lanes of its core through the core's one `Ring`. It knows nothing of pacing, keeps no
//! books and, after construction, neither allocates nor blocks (`close` and the runtime of `kafka_compat` aside).

pub mod file;
pub mod http;
pub mod kafka;
pub mod kafka_compat;
pub mod link;
pub mod links;
pub mod null;
pub mod redials;
pub mod stdout;
pub mod tcp;

use crate::counters::Field;
use crate::counters::answers::Answers;
use crate::counters::broker_errors::BrokerErrors;
use crate::payload::Payload;
use crate::sys::ring::{Ring, Wait};
use std::io;
use std::ops::AddAssign;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The target confirmed it.
    Produced,
    /// Known not to have arrived; the field counts the kind of error.
    Failed(Field),
    /// Sent, outcome unknown.
    Uncertain(Field),
    /// The target went away in good order before it took it.
    NotSent,
}

/// News of a block: the fate of its records up to a byte, as far as they had none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub lane: u32,
    pub slot: u32,
    /// Of the block, framing included. A record counts as produced if it lies wholly before this, as anything
    /// else if it begins before this.
    pub bytes: u64,
    pub fate: Fate,
}

impl Done {
    /// All that is left of a block.
    pub fn rest(lane: usize, slot: u32, fate: Fate) -> Self {
        Self { lane: lane as u32, slot, bytes: u64::MAX, fate }
    }

    /// The target has the block's first so many bytes, and `rest` is what became of the others.
    pub fn produced_but(lane: usize, slot: u32, bytes: u64, rest: Fate) -> [Self; 2] {
        let produced = Self { lane: lane as u32, slot, bytes, fate: Fate::Produced };
        [produced, Self::rest(lane, slot, rest)]
    }
}

/// How much a lane's next block may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// With framing.
    pub bytes: u64,
    pub records: u64,
}

impl Room {
    pub const NONE: Self = Self { bytes: 0, records: 0 };

    pub fn bytes(bytes: u64) -> Self {
        Self { bytes, records: u64::MAX }
    }

    pub fn is_none(self) -> bool {
        self.bytes == 0 || self.records == 0
    }
}

/// What a lane put on the wire since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// With framing, heads and padding.
    pub bytes: u64,
    /// Of these, read in place by the other end.
    pub lent_bytes: u64,
    /// Blocks sent again.
    pub retries: u64,
    /// Connections that took the place of others.
    pub reconnects: u64,
    /// TCP segments sent again, of connections that have ended since.
    pub tcp_retransmits: u64,
    /// Answers that asked to be left alone for a while (a quota of Kafka's), and for how long in all.
    pub throttled_answers: u64,
    pub throttled_ms: u64,
}

impl AddAssign for Wire {
    fn add_assign(&mut self, more: Self) {
        self.bytes += more.bytes;
        self.lent_bytes += more.lent_bytes;
        self.retries += more.retries;
        self.reconnects += more.reconnects;
        self.tcp_retransmits += more.tcp_retransmits;
        self.throttled_answers += more.throttled_answers;
        self.throttled_ms += more.throttled_ms;
    }
}

/// What ends a run before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The reader of a pipe closed it: a normal end.
    Closed,
    /// Words for the user.
    Broken(String),
}

/// What a lane's target still holds after `close`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// `None`: all that was produced.
    pub first_sequence: Option<u64>,
    /// What went wrong in closing; that changes nothing about what is there.
    pub error: Option<String>,
}

/// The kind of error that a write to a file failed with.
pub fn write_error(errno: i32) -> Field {
    match errno {
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG => Field::ErrorNoSpace,
        _ => Field::ErrorIo,
    }
}

/// What a byte may cost the core in nanoseconds that TLS encrypts, or a compressor (gzip) works at.
pub const SEALED_BYTE_NS_MAX: u64 = 5;
pub const COMPRESSED_BYTE_NS_MAX: u64 = 200;

pub trait Sink<R: Ring> {
    /// What the lane's next block may hold. `next_length` is its first record's length: a sink that rotates
    /// does it when that would not fit.
    fn room(&mut self, ring: &mut R, lane: usize, next_length: u64) -> Room;

    /// The lane has no room only until what it was offered is submitted: that its target is full is not known yet.
    fn submitting_makes_room(&self, _lane: usize) -> bool {
        false
    }

    /// The lane has no room only until there is the file that is to follow its full one.
    fn awaits_file(&self, _lane: usize) -> bool {
        false
    }

    /// Takes a block that `room` allowed. `hurry`: nothing may follow soon, so nothing of it may be held back.
    fn offer(&mut self, ring: &mut R, lane: usize, slot: u32, payload: &mut Payload, hurry: bool);

    /// Submits for all lanes at once and lets completions arrive.
    fn submit(&mut self, ring: &mut R, wait: Wait) -> io::Result<()>;

    /// Moves news of blocks into `done`. `payloads` are the lanes', in order.
    fn reap(&mut self, ring: &mut R, payloads: &mut [Payload], now_ns: u64, done: &mut Vec<Done>);

    /// The most that a byte of a block may cost this core, in nanoseconds: copied, sealed or compressed.
    fn byte_ns_max(&self) -> u64 {
        1
    }

    /// Pushes out what is held back (a tail that waits for its sector to fill); called while draining.
    fn flush(&mut self, _ring: &mut R) {}

    /// The drain has begun and is over at this time: what cannot come to anything by then need not be waited for.
    fn drain_until(&mut self, _until_ns: u64) {}

    /// What the lane put on the wire since the last call.
    fn take_wire(&mut self, lane: usize) -> Wire;

    /// How the lane's requests were answered since the start; `None`: its target answers with no status.
    fn answers(&self, _lane: usize) -> Option<&Answers> {
        None
    }

    /// What brokers refused the lane's batches with since the start; `None`: it has none, or they do not tell.
    fn broker_errors(&self, _lane: usize) -> Option<&BrokerErrors> {
        None
    }

    /// The drain's time is over: of the bytes in flight nothing will be known any more. Whatever the sink still
    /// knows of the others goes into `done`, and what the kernel counted of connections into the next `take_wire`.
    fn give_up(&mut self, _ring: &mut R, _payloads: &mut [Payload], _done: &mut Vec<Done>) {}

    /// Why the run must end, if it must.
    fn ending(&self) -> Option<&Ending> {
        None
    }

    /// After the drain: final fsync and manifest. Blocks.
    fn close(&mut self, _ring: &mut R, _lane: usize, _end: &LaneClose) -> Kept {
        Kept::default()
    }
}

/// What the loop knows of a lane when it closes.
#[derive(Clone, Debug, Default)]
pub struct LaneClose {
    /// Sequences that were submitted but not produced.
    pub missing: Vec<(u64, u64)>,
    /// There were more ranges than could be kept.
    pub missing_truncated: bool,
    pub next_sequence: u64,
}
