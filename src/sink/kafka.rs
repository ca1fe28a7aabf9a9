//! Kafka without a client library in the loop: each block is one batch for one partition, one Produce request.
//!
//! A lane owns its partitions and has one connection to the leader of each, so that what happens to one
//! partition stays there. `connection` keeps a partition's batches in order, through lost answers, new leaders and
//! resends; this room deals the lane's blocks to them. Everything that blocks (who leads, connecting, SASL) is
//! the dialer's.

mod connection;
mod delivery;
mod outbox;

use super::link::{self, ANSWERS_INBOX_BYTES, Area, Carver, LendOrCopy, Link, Loan, WAKE_NS};
use super::redials::Redials;
use super::{COMPRESSED_BYTE_NS_MAX, Done, Ending, Room, SEALED_BYTE_NS_MAX, Sink, Wire};
use crate::base::attention::Attention;
use crate::base::fatal::Fatal;
use crate::connect::dial::Dialed;
use crate::counters::broker_errors::BrokerErrors;
use crate::payload::Payload;
use crate::plan::RetryPlan;
use crate::sys::ring::{NetRing, Wait};
use crate::wire::kafka::batch::HEADER_BYTES;
use crate::wire::kafka::codec::{Codec, Deflater};
use crate::wire::kafka::produce::ProducePrefix;
use connection::{Connection, OfLane};
use outbox::Outbox;
use std::io;
use std::ops::Range;

/// Buffers of a lane for batches that are compressed or made again.
const BUFFERS: usize = 4;

/// How a lane produces; the same for all of its partitions.
#[derive(Clone, Debug)]
pub struct Options {
    pub prefix: ProducePrefix,
    pub version: i16,
    pub acks: i16,
    pub codec: Codec,
    /// Producer id and epoch, where the broker is to tell repetitions apart.
    pub identity: Option<(i64, i16)>,
    /// Unanswered requests of a partition.
    pub in_flight_max: usize,
    pub batch_bytes: u64,
    pub records_max: u64,
    pub request_timeout_ns: u64,
    pub delivery_timeout_ns: u64,
    /// Of one batch.
    pub retry: RetryPlan,
    /// Of the pauses; another one for each producer.
    pub seed: u64,
    pub topic: String,
    pub tls: bool,
    /// Batches may be lent to a broker on this host: they go out as they lie in the ring, which has room for all that
    /// are unanswered.
    pub lends: bool,
}

impl Options {
    fn head_bytes(&self) -> usize {
        self.prefix.bytes() + HEADER_BYTES
    }

    fn buffer_bytes(&self, block_bytes: u64) -> usize {
        Deflater::bound(self.codec, block_bytes as usize)
    }

    /// Bytes of region that a lane with so many partitions needs beside its ring. `block_bytes`: the longest block.
    pub fn staging_bytes(&self, partitions: usize, block_bytes: u64) -> u64 {
        let of_each = Area::bytes(ANSWERS_INBOX_BYTES, self.tls) + (self.in_flight_max + 1) * self.head_bytes();
        (partitions * of_each + BUFFERS * self.buffer_bytes(block_bytes)) as u64
    }
}

/// What one lane is opened with.
pub struct LaneSetup {
    pub options: Options,
    /// Each with a connection to its leader.
    pub partitions: Vec<(i32, Dialed)>,
    pub staging: Range<usize>,
    pub block_bytes: u64,
}

struct KafkaLane {
    options: Options,
    connections: Vec<Connection>,
    outbox: Outbox,
    errors: BrokerErrors,
    /// The connection that the last `room` spoke of, or the one behind that which the last block went to.
    chosen: usize,
    /// A block was offered since the last submission.
    unsubmitted: bool,
    attention: Attention,
}

/// See the module.
pub struct KafkaSink {
    lanes: Vec<KafkaLane>,
    /// Where a broker on this host may be lent its batches.
    choice: Option<LendOrCopy>,
    redials: Redials,
    ending: Option<Ending>,
    now_ns: u64,
}

impl KafkaSink {
    pub fn open<R: NetRing>(ring: &mut R, setups: Vec<LaneSetup>, redials: Redials) -> Result<Self, Fatal> {
        let mut lanes = Vec::new();
        for (lane, setup) in setups.into_iter().enumerate() {
            let options = setup.options;
            let mut carver = Carver::new(setup.staging.start);
            let mut connections = Vec::new();
            // What is too short to be lent needs no ring that lends, which has nothing registered.
            let lends = options.lends && options.head_bytes() + setup.block_bytes as usize >= R::LENT_BYTES_MIN;
            for (index, (partition, dialed)) in setup.partitions.into_iter().enumerate() {
                let area = carver.take_area(ANSWERS_INBOX_BYTES, options.tls);
                let of_link = (dialed.peer_address, dialed.expires);
                let mut link = Link::open(ring, (lane, index), dialed, area)?;
                if lends {
                    link.lend(ring, Loan::TakenBack);
                }
                // A broker that closes before anything was sent is noticed at once.
                link.listen(ring);
                let heads = carver.take((options.in_flight_max + 1) * options.head_bytes());
                connections.push(Connection::new(partition, link, of_link, heads, &options));
            }
            let buffers = (0..BUFFERS).map(|_| carver.take(options.buffer_bytes(setup.block_bytes))).collect();
            let outbox = Outbox::new(options.codec, buffers, setup.block_bytes)?;
            let errors = BrokerErrors::default();
            let attention = Attention::from(0, options.request_timeout_ns);
            lanes.push(KafkaLane { options, connections, outbox, errors, chosen: 0, unsubmitted: false, attention });
        }
        let links = lanes.iter().flat_map(|lane| &lane.connections).map(|connection| &connection.link);
        let choice = LendOrCopy::among(links, R::LENT_TRIAL_BYTES);
        Ok(Self { lanes, choice, redials, ending: None, now_ns: 0 })
    }
}

impl KafkaSink {
    /// A broker on this host may be lent what it is sent.
    pub fn lends(&self) -> bool {
        self.choice.is_some()
    }

    fn choose(&mut self, bytes: u64, cpu_ns: impl FnOnce() -> u64) {
        if let Some(choice) = &mut self.choice
            && choice.sent(bytes, cpu_ns)
        {
            self.lanes.iter_mut().for_each(|lane| lane.outbox.lends = choice.lends());
        }
    }
}

impl KafkaLane {
    /// The next connection in turn that has room; a slow one does not hold up the others.
    fn next_with_room(&self, now_ns: u64) -> Option<usize> {
        let count = self.connections.len();
        let mut turns = (0..count).map(|step| (self.chosen + step) % count);
        turns.find(|at| self.connections[*at].has_room(&self.options, count > 1, now_ns))
    }
}

impl<R: NetRing> Sink<R> for KafkaSink {
    fn room(&mut self, _ring: &mut R, lane: usize, _next_length: u64) -> Room {
        let lane = &mut self.lanes[lane];
        if self.ending.is_some() {
            return Room::NONE;
        }
        match lane.next_with_room(self.now_ns) {
            Some(at) => {
                lane.chosen = at;
                let bytes = lane.options.batch_bytes - HEADER_BYTES as u64;
                Room { bytes, records: lane.options.records_max }
            }
            None => Room::NONE,
        }
    }

    /// Each of several partitions takes one block, and the next when that one is gone: a backlog is left in every turn.
    fn submitting_makes_room(&self, lane: usize) -> bool {
        let lane = &self.lanes[lane];
        let goes_on = |connection: &Connection| connection.has_room(&lane.options, false, self.now_ns);
        lane.unsubmitted && lane.connections.len() > 1 && lane.connections.iter().any(goes_on)
    }

    fn offer(&mut self, ring: &mut R, lane: usize, slot: u32, payload: &mut Payload, _hurry: bool) {
        self.choose(payload.block(slot).range().len() as u64, || ring.cpu_ns());
        let lane = &mut self.lanes[lane];
        let at = lane.chosen;
        lane.chosen = (at + 1) % lane.connections.len();
        lane.unsubmitted = true;
        lane.connections[at].push(payload, slot, &lane.options, self.now_ns);
        lane.connections[at].advance(ring, payload, &lane.options, &mut lane.outbox, lane.attention);
    }

    fn submit(&mut self, ring: &mut R, wait: Wait) -> io::Result<()> {
        self.lanes.iter_mut().for_each(|lane| lane.unsubmitted = false);
        let Wait::ForNs(ns) = wait else { return ring.enter(wait) };
        let busy =
            self.lanes.iter().flat_map(|lane| &lane.connections).any(|connection| connection.is_busy(self.now_ns));
        ring.enter(Wait::ForNs(if busy { ns.min(WAKE_NS) } else { ns }))
    }

    fn reap(&mut self, ring: &mut R, payloads: &mut [Payload], now_ns: u64, done: &mut Vec<Done>) {
        self.now_ns = now_ns;
        self.lanes.iter_mut().for_each(|lane| {
            lane.attention.look(now_ns);
        });
        while let Some(completion) = ring.completion() {
            let (at, index) = link::owner_of(completion.token);
            let KafkaLane { options, connections, outbox, errors, attention, .. } = &mut self.lanes[at];
            let connection = &mut connections[index];
            let (event, last_use) = (connection.link.complete(ring, completion), connection.last_use(now_ns));
            let of_lane = OfLane { payload: &mut payloads[at], options, outbox, errors };
            if connection.on_event(ring, of_lane, event, *attention, done) {
                self.redials.order_after(at, index, connection.last_use_of_end(last_use));
            }
        }
        self.redials.reopen_each(|at, index, dialed| self.lanes[at].connections[index].reopen(ring, dialed));
        for (at, (lane, payload)) in self.lanes.iter_mut().zip(payloads).enumerate() {
            let KafkaLane { options, connections, outbox, errors, attention, .. } = lane;
            for (index, connection) in connections.iter_mut().enumerate() {
                let last_use = connection.last_use(now_ns);
                if connection.check_time(ring, OfLane { payload, options, outbox, errors }, *attention, done) {
                    self.redials.order_after(at, index, connection.last_use_of_end(last_use));
                }
                let own = connection.take_end().map(Ending::Broken);
                if let Some(why) = own.or_else(|| connection.link.stuck(*attention)) {
                    self.ending.get_or_insert(why);
                }
            }
        }
    }

    fn byte_ns_max(&self) -> u64 {
        let all = self.lanes.iter().map(|lane| &lane.options);
        let of = |options: &Options| match (options.codec, options.tls) {
            (Codec::None, false) => 1,
            (Codec::None, true) => SEALED_BYTE_NS_MAX,
            _ => COMPRESSED_BYTE_NS_MAX,
        };
        all.map(of).max().unwrap_or(1)
    }

    fn take_wire(&mut self, lane: usize) -> Wire {
        let mut wire = Wire::default();
        self.lanes[lane].connections.iter_mut().for_each(|connection| wire += connection.take_wire());
        wire
    }

    /// Without acknowledgements there are no answers.
    fn broker_errors(&self, lane: usize) -> Option<&BrokerErrors> {
        let lane = &self.lanes[lane];
        (lane.options.acks != 0).then_some(&lane.errors)
    }

    fn give_up(&mut self, ring: &mut R, _payloads: &mut [Payload], done: &mut Vec<Done>) {
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            lane.connections.iter_mut().for_each(|connection| connection.link.count_retransmits(ring));
            let left = lane.connections.iter().flat_map(Connection::leftovers);
            done.extend(left.map(|(slot, fate)| Done::rest(at, slot, fate)));
        }
    }

    fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }
}

#[cfg(test)]
mod tests;
