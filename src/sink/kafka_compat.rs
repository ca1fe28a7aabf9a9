//! Kafka through rskafka, as an independent check of the native client and a measured baseline: the same blocks,
//! records and books, each block one call of `produce` for one partition.
//!
//! The runtime that rskafka needs is the sink's own and runs in slices, on the core's thread, in `submit`. It is the
//! named exception to what core threads promise: it allocates, and it calls the kernel as often as it likes. How often
//! it sends a batch again is rskafka's secret, and so are which of its connections are down, which no [`Outages`] counts
//! here, and the bytes it puts on the wire: counted are those of the request before compression and TLS.
//!
//! [`Outages`]: crate::connect::dialer::Outages

mod connect;
mod records;
mod runtime;
mod verdict;

use super::{COMPRESSED_BYTE_NS_MAX, Done, Ending, Fate, Room, Sink, Wire};
use crate::base::fatal::Fatal;
use crate::counters::Field;
use crate::host::rlimit;
use crate::payload::Payload;
use crate::payload::framing::KafkaFraming;
use crate::plan::{Compression, KafkaPlan};
use crate::sys::ring::{Ring, Wait};
use crate::sys::timer::Timer;
use crate::wire::kafka::produce::ProducePrefix;
use rskafka::client::partition::{Compression as Codec, PartitionClient};
use rskafka::record::Record;
use runtime::CoreRuntime;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use verdict::Verdict;

/// Calls at once for one partition: rskafka does not keep the order of several, and order is promised.
const IN_FLIGHT_MAX: usize = 1;

/// In a slice that must not wait, the runtime looks at its sockets so many times: the first look lets requests go out
/// and answers in, after the second their calls have ended.
const SLICE_TURNS: usize = 2;

/// What one lane is opened with.
pub struct LaneSetup {
    pub plan: KafkaPlan,
    /// Its own, in the order in which it deals batches to them.
    pub partitions: Vec<i32>,
    /// Keys and headers.
    pub frames: KafkaFraming,
    /// Of one batch, without framing.
    pub room: Room,
}

struct Partition {
    client: Arc<PartitionClient>,
    in_flight: usize,
}

struct Lane {
    partitions: Vec<Partition>,
    /// The partition that the next block is for, if it has room.
    turn: usize,
    frames: KafkaFraming,
    room: Room,
    codec: Codec,
    in_flight_max: usize,
    request_timeout: Duration,
    /// Of a request before its batch.
    prefix_bytes: u64,
    wire_bytes: u64,
}

impl Lane {
    /// The next partition in turn that has room; a slow one does not hold up the others.
    fn next_with_room(&self) -> Option<usize> {
        let count = self.partitions.len();
        let mut turns = (0..count).map(|step| (self.turn + step) % count);
        turns.find(|at| self.partitions[*at].in_flight < self.in_flight_max)
    }
}

/// Where a block is.
#[derive(Clone, Copy, Debug)]
struct Place {
    lane: usize,
    partition: usize,
    slot: u32,
}

/// One block on its way.
struct Call {
    place: Place,
    client: Arc<PartitionClient>,
    records: Vec<Record>,
    codec: Codec,
    timeout: Duration,
}

impl Call {
    async fn run(self, tell: UnboundedSender<(Place, Verdict)>) {
        let produced = self.client.produce(self.records, self.codec);
        let verdict = match tokio::time::timeout(self.timeout, produced).await {
            Ok(Ok(_)) => Verdict::PRODUCED,
            Ok(Err(error)) => Verdict::of(&error, (self.client.topic(), self.client.partition())),
            Err(_) => Verdict::LATE,
        };
        // Nobody listens any more only when the run is over.
        let _ = tell.send((self.place, verdict));
    }
}

/// See the module.
pub struct KafkaCompatSink {
    lanes: Vec<Lane>,
    /// Calls that the runtime does not know of yet.
    fresh: Vec<Call>,
    ended: Vec<(Place, Verdict)>,
    tell: UnboundedSender<(Place, Verdict)>,
    told: UnboundedReceiver<(Place, Verdict)>,
    in_flight: usize,
    ending: Option<Ending>,
    // Before the runtime, which it is registered with.
    timer: Timer,
    runtime: CoreRuntime,
}

impl KafkaCompatSink {
    /// Connects to every partition's leader, unless `may_start` says meanwhile why nobody needs that any more.
    ///
    /// # Errors
    /// Exit 5 where that does not work within `--request-timeout`.
    pub fn open(setups: Vec<LaneSetup>, may_start: &dyn Fn() -> Result<(), Fatal>) -> Result<Self, Fatal> {
        let failed = |error: io::Error| {
            Fatal::host(format!("rskafka's runtime: {error}"))
                .mend(format!("--kafka-client=uring, or {}", rlimit::raise(rlimit::NOFILE)))
        };
        let runtime = CoreRuntime::start().map_err(failed)?;
        let timer = {
            let _inside = runtime.enter();
            Timer::new().map_err(failed)?
        };
        let mut lanes = Vec::new();
        for setup in setups {
            let clients = runtime.block_on(connect::partitions(&setup, may_start))?;
            let LaneSetup { plan, frames, room, .. } = setup;
            lanes.push(Lane {
                partitions: clients.into_iter().map(|client| Partition { client, in_flight: 0 }).collect(),
                turn: 0,
                frames,
                room,
                codec: codec(plan.codec),
                in_flight_max: IN_FLIGHT_MAX,
                request_timeout: Duration::from_nanos(plan.link.request_timeout_ns),
                prefix_bytes: ProducePrefix::new(&plan.client_id, &plan.topic, plan.acks, 0)?.bytes() as u64,
                wire_bytes: 0,
            });
        }
        let (tell, told) = unbounded_channel();
        let (fresh, ended) = (Vec::new(), Vec::new());
        Ok(Self { lanes, fresh, ended, tell, told, in_flight: 0, ending: None, timer, runtime })
    }
}

fn codec(codec: Compression) -> Codec {
    match codec {
        Compression::None => Codec::NoCompression,
        Compression::Gzip => Codec::Gzip,
        Compression::Snappy => Codec::Snappy,
        Compression::Lz4 => Codec::Lz4,
        Compression::Zstd => Codec::Zstd,
    }
}

impl<R: Ring> Sink<R> for KafkaCompatSink {
    fn room(&mut self, _ring: &mut R, lane: usize, _next_length: u64) -> Room {
        let lane = &mut self.lanes[lane];
        match lane.next_with_room().filter(|_| self.ending.is_none()) {
            Some(at) => {
                lane.turn = at;
                lane.room
            }
            None => Room::NONE,
        }
    }

    fn offer(&mut self, ring: &mut R, lane_at: usize, slot: u32, payload: &mut Payload, _hurry: bool) {
        let lane = &mut self.lanes[lane_at];
        let (records, bytes) = records::copied(&lane.frames, ring.memory(), payload, slot);
        payload.release(slot);
        lane.wire_bytes += lane.prefix_bytes + bytes;
        let at = lane.turn;
        lane.turn = (at + 1) % lane.partitions.len();
        let partition = &mut lane.partitions[at];
        partition.in_flight += 1;
        self.in_flight += 1;
        self.fresh.push(Call {
            place: Place { lane: lane_at, partition: at, slot },
            client: partition.client.clone(),
            records,
            codec: lane.codec,
            timeout: lane.request_timeout,
        });
    }

    /// Lets the runtime run: until it has looked at its sockets, or until a call ends or the time is over.
    fn submit(&mut self, _ring: &mut R, wait: Wait) -> io::Result<()> {
        if wait == Wait::No && self.in_flight == 0 {
            return Ok(());
        }
        let Self { fresh, ended, tell, told, timer, runtime, .. } = self;
        runtime.block_on(async {
            // From inside they need no lock and wake nobody.
            for call in fresh.drain(..) {
                tokio::spawn(call.run(tell.clone()));
            }
            match wait {
                Wait::No => {
                    for _ in 0..SLICE_TURNS {
                        tokio::task::yield_now().await;
                    }
                }
                Wait::ForNs(ns) => {
                    timer.set(ns)?;
                    let first = poll_fn(|cx| match told.poll_recv(cx) {
                        Poll::Ready(news) => Poll::Ready(Ok(news)),
                        Poll::Pending => timer.poll(cx).map_ok(|()| None),
                    });
                    ended.extend(first.await?);
                }
            }
            while let Ok(news) = told.try_recv() {
                ended.push(news);
            }
            Ok(())
        })
    }

    fn reap(&mut self, _ring: &mut R, _payloads: &mut [Payload], _now_ns: u64, done: &mut Vec<Done>) {
        for (place, verdict) in self.ended.drain(..) {
            self.in_flight -= 1;
            self.lanes[place.lane].partitions[place.partition].in_flight -= 1;
            done.push(Done::rest(place.lane, place.slot, verdict.fate));
            if let (Some(why), None) = (verdict.end, &self.ending) {
                self.ending = Some(Ending::Broken(why));
            }
        }
    }

    /// The runtime of rskafka works in the turns, and may compress.
    fn byte_ns_max(&self) -> u64 {
        COMPRESSED_BYTE_NS_MAX
    }

    fn take_wire(&mut self, lane: usize) -> Wire {
        Wire { bytes: std::mem::take(&mut self.lanes[lane].wire_bytes), ..Wire::default() }
    }

    /// The runtime has had every call in its hands, but for those of the last turn.
    fn give_up(&mut self, _ring: &mut R, _payloads: &mut [Payload], done: &mut Vec<Done>) {
        let fate = Fate::Failed(Field::ErrorTimeout);
        done.extend(self.fresh.drain(..).map(|call| Done::rest(call.place.lane, call.place.slot, fate)));
    }

    fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fatal::Exit;
    use crate::connect::dial::stopped;
    use crate::plan::KeyPlan;
    use crate::plan::testing::{closed_port, kafka_plan};
    use std::net::TcpListener;

    fn setup(port: u16) -> LaneSetup {
        let frames = KafkaFraming::new(KeyPlan::None, vec![], 0, 100, 10);
        LaneSetup { plan: kafka_plan(port), partitions: vec![0], frames, room: Room { bytes: 100, records: 1 } }
    }

    #[test]
    fn a_broker_that_is_not_there_or_says_nothing_is_exit_5() {
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        let (closed, _kept) = closed_port();
        for port in [mute.local_addr().unwrap().port(), closed] {
            let Err(fatal) = KafkaCompatSink::open(vec![setup(port)], &|| Ok(())) else { panic!("there is no broker") };
            assert_eq!(fatal.exit, Exit::Unreachable, "{}", fatal.what);
            assert!(fatal.what.contains(&format!("127.0.0.1:{port}")), "{}", fatal.what);
        }
    }

    #[test]
    fn a_stop_ends_the_wait_for_a_broker_that_says_nothing() {
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut setup = setup(mute.local_addr().unwrap().port());
        setup.plan.link.request_timeout_ns = 20_000_000_000;
        let Err(fatal) = KafkaCompatSink::open(vec![setup], &|| Err(stopped())) else { panic!("there is no broker") };
        assert_eq!(fatal, stopped());
    }
}
