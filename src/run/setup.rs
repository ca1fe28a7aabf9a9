//! What a core is started with, what it has made of it when it is ready, and the signal to go.

use super::kafka::KafkaLane;
use super::stop::Stop;
use crate::base::clock::TscClock;
use crate::connect::dialer::Outages;
use crate::connect::token::TokenInbox;
use crate::core_loop::tally::SnapshotQueues;
use crate::counters::LiveCore;
use crate::manifest::RecordFormat;
use crate::payload::Payload;
use crate::plan::RunPlan;
use crate::sink::file::keeper::KeeperLane;
use crate::tap::Tap;
use crossbeam_channel::{Receiver, Sender};
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Everything that one core is started with.
pub struct Setup {
    pub plan: Arc<RunPlan>,
    pub index: usize,
    pub clock: TscClock,
    pub stop: Arc<Stop>,
    pub zero_fraction: f64,
    /// In lane order; `None` where the target is no file.
    pub keeper_lanes: Vec<Option<KeeperLane>>,
    /// The data files, locked; as above.
    pub claims: Vec<Option<File>>,
    pub tap: Option<Tap>,
    /// In lane order; empty where the target is not Kafka.
    pub kafka_lanes: Vec<KafkaLane>,
    /// Of all cores.
    pub outages: Arc<Outages>,
    /// Where a new bearer token comes, if one may.
    pub tokens: Option<TokenInbox>,
    pub live: Arc<LiveCore>,
    pub queues: SnapshotQueues,
    pub ready: Sender<Ready>,
    pub gate: Receiver<Call>,
    /// Cores that have lined up.
    pub lined_up: Arc<AtomicUsize>,
}

/// What a core has made by the time it picks its ring.
pub struct Prepared {
    /// In lane order, as the next two.
    pub payloads: Vec<Payload>,
    pub staging: Vec<Range<usize>>,
    pub formats: Vec<RecordFormat>,
    /// The longest block of a lane, framing included.
    pub block_bytes: u64,
    /// The pages of its region.
    pub memory: String,
    /// Whether its ring has them registered; `None`: it is none that could.
    pub registered: Option<bool>,
    /// What its sink may lend to a target on this host.
    pub lends: Option<&'static str>,
    /// See [`Ready::percent_of_others`].
    pub percent_of_others: Option<u64>,
}

/// A core is ready; what its memory came to.
#[derive(Clone, Debug)]
pub struct Ready {
    pub cpu: usize,
    /// The lowest of its producers.
    pub producer_id: u32,
    /// How much of that processor others took while the core got ready, where it saw enough to tell.
    pub percent_of_others: Option<u64>,
    /// Of that producer's payload ring, which repeats as a whole.
    pub period_bytes: u64,
    /// Its pages, and whether they are registered.
    pub memory: String,
    /// See [`Prepared::registered`].
    pub registered: Option<bool>,
    /// See [`Prepared::lends`].
    pub lends: Option<&'static str>,
}

/// What a core that is ready hears.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    /// To be on its processor, and to spin there until it may go.
    LineUp,
    Go(Go),
}

/// The start signal: monotonic and Unix time of the barrier.
#[derive(Clone, Copy, Debug)]
pub struct Go {
    pub epoch_ns: u64,
    pub epoch_unix_ns: u64,
}
