//! What has to be known of Kafka before the start: the topic, its limits and leaders, who owns which partitions, and
//! each producer's id at the broker. Then: how a lost connection to a leader is found again.

use crate::base::fatal::{Exit, Fatal};
use crate::base::{limits, units};
use crate::connect::dial::{Dialed, address, stopped};
use crate::connect::dialer::{DialFn, DialOrder, Past};
use crate::connect::kafka::{Client, Cluster, Line, NewTopic, Stream, TopicLimits, TopicView, dialer, leader_of};
use crate::plan::{Compression, KafkaClient, KafkaPlan, PayloadSource, RunPlan, SinkKind, TargetPlan};
use crate::wire::kafka::PRODUCE_VERSION_MIN;
use crossbeam_channel::{RecvTimeoutError, bounded};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Leaders are bound to be elected within this time, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// So long one look at the metadata serves all connections that are lost together.
const VIEW_FRESH: Duration = Duration::from_millis(250);

/// What one producer knows before the start.
#[derive(Clone, Debug)]
pub struct KafkaLane {
    pub target: Arc<Target>,
    pub producer_id: u32,
    /// Its own, in the order in which it deals batches to them.
    pub partitions: Vec<i32>,
    /// Producer id and epoch, where it is idempotent.
    pub identity: Option<(i64, i16)>,
}

/// One topic of one cluster.
#[derive(Debug)]
pub struct Target {
    pub plan: KafkaPlan,
    /// Of Produce.
    pub version: i16,
    view: Mutex<Seen>,
    /// That lost connections without acknowledgements may have had a reason.
    told_of_loss: AtomicBool,
}

/// The metadata as it was last seen.
#[derive(Debug)]
struct Seen {
    at: Instant,
    view: TopicView,
    /// The address that told it, which is asked first the next time.
    by: Option<(String, u16)>,
}

/// What each producer needs; `None` where the target is not Kafka. Brokers may be silent for long: they are asked on a
/// thread of its own, which a stop leaves behind.
pub fn prepare(plan: &Arc<RunPlan>, stop: &AtomicBool) -> Result<Vec<Option<KafkaLane>>, Fatal> {
    if plan.sink.kind != SinkKind::Kafka {
        return Ok(vec![None; plan.producers.len()]);
    }
    let (tell, told) = bounded(1);
    let asked = plan.clone();
    let ask = move || {
        // After a stop nobody hears it.
        let _nobody = tell.send(lanes(&asked));
    };
    let thread = std::thread::Builder::new().name("kafka".into()).spawn(ask);
    thread.map_err(|error| Fatal::host(format!("cannot start a thread: {error}")).mend("raise ulimit -u"))?;
    loop {
        match told.recv_timeout(Duration::from_nanos(limits::WAIT_NS_MAX)) {
            Ok(lanes) => return lanes,
            Err(RecvTimeoutError::Timeout) if stop.load(Relaxed) => return Err(stopped()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Fatal::host("looking up the topic crashed; please report this"));
            }
        }
    }
}

fn lanes(plan: &RunPlan) -> Result<Vec<Option<KafkaLane>>, Fatal> {
    let dealt: Vec<usize> = plan.producers.iter().map(|producer| producer.target).collect();
    let first_id = plan.producers.first().map_or(0, |producer| producer.id);
    let mut targets: Vec<Option<(Arc<Target>, Cluster<Line>)>> = plan.sink.targets.iter().map(|_| None).collect();
    let mut lanes = Vec::new();
    for (producer, seat) in plan.producers.iter().zip(seats(&dealt, first_id, plan.fleet_producers)) {
        let TargetPlan::Kafka(kafka) = &producer.to else {
            lanes.push(None);
            continue;
        };
        let place = &mut targets[producer.target];
        if place.is_none() {
            *place = Some(look_up(plan, kafka, seat.of)?);
        }
        let Some((target, cluster)) = place else { continue };
        let count = target.view.lock().unwrap_or_else(PoisonError::into_inner).view.partitions.len() as u32;
        let partitions = seat.owned(count);
        let identity = match kafka.idempotent {
            true => Some(cluster.ask(|session| session.init_producer_id())?),
            false => None,
        };
        lanes.push(Some(KafkaLane { target: target.clone(), producer_id: producer.id, partitions, identity }));
    }
    Ok(lanes)
}

/// A producer among those of its target, over all processes of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seat {
    rank: u32,
    of: u32,
}

impl Seat {
    /// Its partitions: each `of`-th from its own on; with fewer partitions than producers, one that it shares.
    fn owned(self, partitions: u32) -> Vec<i32> {
        if partitions < self.of {
            return vec![(self.rank % partitions.max(1)) as i32];
        }
        (self.rank..partitions).step_by(self.of.max(1) as usize).map(|at| at as i32).collect()
    }
}

/// `dealt`: the target of each producer of this process, whose ids begin at `first_id`; `fleet`: producers of all
/// processes, which deal alike.
fn seats(dealt: &[usize], first_id: u32, fleet: u32) -> Vec<Seat> {
    let here = dealt.len().max(1) as u32;
    let (earlier, processes) = (first_id / here, fleet / here);
    let mut counts = vec![0u32; dealt.iter().max().map_or(0, |last| last + 1)];
    let mut ranks = Vec::with_capacity(dealt.len());
    for target in dealt {
        ranks.push(counts[*target]);
        counts[*target] += 1;
    }
    let seat = |(target, rank): (&usize, u32)| {
        let each = counts[*target];
        Seat { rank: earlier * each + rank, of: processes * each }
    };
    dealt.iter().zip(ranks).map(seat).collect()
}

fn client(plan: &KafkaPlan) -> Client {
    let timeout = Duration::from_nanos(plan.link.request_timeout_ns);
    Client { id: plan.client_id.clone(), sasl: plan.sasl.clone(), timeout }
}

fn cluster(plan: &KafkaPlan, client: Client) -> Cluster<Line> {
    let timeout = Duration::from_nanos(plan.link.peer.connect_timeout_ns);
    Cluster::new(plan.bootstrap.clone(), client, dialer(plan.tls.clone(), timeout))
}

/// Finds or makes the topic, for so many producers of the fleet, and checks it against the plan.
fn look_up(plan: &RunPlan, kafka: &KafkaPlan, producers: u32) -> Result<(Arc<Target>, Cluster<Line>), Fatal> {
    let mut cluster = cluster(kafka, client(kafka));
    let topic = kafka.topic.as_str();
    let wanted = kafka.partitions.unwrap_or(producers);
    let sizes = (kafka.batch_bytes, kafka.batch_bytes_min);
    // Of what is compressed nobody knows the size before.
    if kafka.create_topic && kafka.codec == Compression::None {
        check_new(&plan.payload.source, topic, sizes, &mut cluster)?;
    }
    let new = NewTopic { name: topic, partitions: wanted as i32, replicas: -1, settings: &[] };
    let made = kafka.create_topic && cluster.make_topic(&new, PATIENCE)?;
    let mut view = cluster.ask(|session| session.await_topic(topic, 1, PATIENCE))?;
    let is = if made { "was made" } else { "is there" };
    let partitions = units::format_counted(view.partitions.len() as u64, "partition");
    tracing::info!("topic {topic} {is} with {partitions}");
    if let Some(wanted) = kafka.partitions {
        if view.partitions.len() < wanted as usize {
            let there = units::format_counted(view.partitions.len() as u64, "partition");
            let what = format!("topic {topic} has {there}, --partitions asks for {wanted}");
            return Err(Fatal::usage(what).mend("leave out --partitions, or name another topic"));
        }
        view.partitions.truncate(wanted as usize);
    }
    if view.partitions.len() < producers as usize {
        let partitions = units::format_counted(view.partitions.len() as u64, "partition");
        tracing::info!("topic {topic} has {partitions} for {producers} producers: some share one");
    }
    // A user that may write but not describe learns the limits from the broker's answers.
    let limits = cluster.ask(|session| session.topic_limits(topic)).unwrap_or_default();
    check(&plan.payload.source, kafka, &view, &limits)?;
    tell_footprint(plan, kafka, &view);
    let version = match (cluster.ask(|session| Ok(session.produce_version()))?, kafka.client) {
        (Some(version), _) => version,
        // It finds its own.
        (None, KafkaClient::Rskafka) => PRODUCE_VERSION_MIN,
        (None, KafkaClient::Uring) => {
            let what = "the broker speaks none of the versions 3 to 8 of Produce";
            return Err(Fatal::new(Exit::Unreachable, what).mend("a broker from 0.11 to 4.x"));
        }
    };
    let seen = Seen { at: Instant::now(), view, by: cluster.answered_last().cloned() };
    let told_of_loss = AtomicBool::new(false);
    Ok((Arc::new(Target { plan: kafka.clone(), version, view: Mutex::new(seen), told_of_loss }), cluster))
}

/// No topic is made that would refuse the batches. One that is there may have a limit of its own: see [`check`].
fn check_new<S: Stream>(
    payload: &PayloadSource,
    topic: &str,
    sizes: (u64, u64),
    cluster: &mut Cluster<S>,
) -> Result<(), Fatal> {
    let Some(bytes) = cluster.new_topic_message_bytes_max() else { return Ok(()) };
    let checked = check_batch(payload, sizes, &Most::of_new_topic(topic, bytes));
    if checked.is_err() && cluster.lacks(topic) { checked } else { Ok(()) }
}

fn check(payload: &PayloadSource, kafka: &KafkaPlan, view: &TopicView, limits: &TopicLimits) -> Result<(), Fatal> {
    let topic = &kafka.topic;
    if let Some(bytes) = limits.max_message_bytes.filter(|_| kafka.codec == Compression::None) {
        check_batch(payload, (kafka.batch_bytes, kafka.batch_bytes_min), &Most::of_topic(topic, bytes))?;
    }
    let fewest = view.partitions.iter().min_by_key(|partition| partition.in_sync.len());
    if let (Some(least), Some(partition), -1) = (limits.min_in_sync, fewest, kafka.acks)
        && (partition.in_sync.len() as u32) < least
    {
        let (have, id) = (partition.in_sync.len(), partition.id);
        let what = format!("--acks all: {topic}/{id} has {have} replicas in sync, min.insync.replicas is {least}");
        return Err(Fatal::new(Exit::Unreachable, what).mend("start the missing brokers, or --acks=1"));
    }
    Ok(())
}

/// The most bytes of a batch: which setting says so, and what raises it.
struct Most {
    bytes: u64,
    takes: String,
    raise: &'static str,
}

impl Most {
    fn of_topic(topic: &str, bytes: u64) -> Self {
        let takes = format!("topic {topic} takes at most max.message.bytes = {bytes}");
        Self { bytes, takes, raise: "a larger max.message.bytes of the topic" }
    }

    fn of_new_topic(topic: &str, bytes: u64) -> Self {
        let takes = format!("topic {topic}, which is not there, would take at most message.max.bytes = {bytes}");
        Self { bytes, takes, raise: "a topic that is made first, with a larger max.message.bytes" }
    }
}

/// A smaller batch mends it only where the longest record still fits.
fn check_batch(payload: &PayloadSource, (batch_bytes, batch_bytes_min): (u64, u64), most: &Most) -> Result<(), Fatal> {
    let Most { bytes, takes, raise } = most;
    if batch_bytes_min > *bytes {
        let (value, mend) = match payload {
            PayloadSource::Random { bytes_max, .. } => {
                (format!("--payload-size {bytes_max}"), "a smaller --payload-size")
            }
            PayloadSource::Templates(_) => ("--payload-template".to_owned(), "shorter templates"),
        };
        let what = format!("{value}: the longest record with its frame has {batch_bytes_min} B; {takes}");
        return Err(Fatal::usage(what).mend(format!("{mend}, or {raise}")));
    }
    if batch_bytes > *bytes {
        let what = format!("batches of {batch_bytes} B: {takes}");
        return Err(Fatal::usage(what).mend(format!("--batch-size={bytes}, or {raise}")));
    }
    Ok(())
}

/// How much the run will put on the brokers' disks, where that can be known.
fn tell_footprint(plan: &RunPlan, kafka: &KafkaPlan, view: &TopicView) {
    let replicas = view.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(1).max(1);
    let Some(payload_bytes) = plan.payload_bytes_max else {
        let times = if replicas == 1 { "once".to_owned() } else { format!("{replicas} times") };
        tracing::info!("{}: every byte produced is written {times} on the brokers' disks", kafka.topic);
        return;
    };
    let size = units::format_amount(payload_bytes.saturating_mul(replicas as u64));
    let replicas = units::format_counted(replicas as u64, "replica");
    tracing::info!(
        "{}: up to {size} of records on the brokers' disks ({replicas}), and what frames them, before compression",
        kafka.topic
    );
}

impl Target {
    /// Of one who redials: a broker that says nothing for as long as a connect may take is as good as dead.
    fn client(&self) -> Client {
        let client = client(&self.plan);
        let timeout = client.timeout.min(Duration::from_nanos(self.plan.link.peer.connect_timeout_ns));
        Client { timeout, ..client }
    }

    /// The metadata, fresh enough.
    fn view(&self) -> Result<TopicView, Fatal> {
        let mut seen = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.at.elapsed() > VIEW_FRESH {
            let mut cluster = cluster(&self.plan, self.client());
            cluster.learn(&seen.view.brokers);
            if let Some(address) = &seen.by {
                cluster.prefer(address);
            }
            let mut view = cluster.ask(|session| session.metadata(&self.plan.topic))?;
            // A broker that has just come back may not know the others yet.
            let silent = seen.view.brokers.drain(..).filter(|known| view.broker(known.id).is_none());
            let silent: Vec<_> = silent.collect();
            view.brokers.extend(silent);
            *seen = Seen { at: Instant::now(), view, by: cluster.answered_last().cloned() };
        }
        Ok(seen.view.clone())
    }

    /// A broker that is asked for no answers has one way to say that it refuses a batch.
    fn tell_of_loss(&self, partition: i32) {
        if self.plan.acks == 0 && !self.told_of_loss.swap(true, Relaxed) {
            tracing::warn!(
                "{}/{partition}: the connection to the leader ended. With --acks 0 that is how a broker refuses a \
                 batch (too large, not allowed, another leader), and what it had not read of the others is lost too: \
                 all of it counts as produced\n  mend: --acks=1, which tells why",
                self.plan.topic
            );
        }
    }

    /// A connection to the leader of a partition, ready for Produce.
    fn dial(&self, partition: i32) -> Result<Dialed, Fatal> {
        let view = self.view()?;
        let leader = leader_of(&view, &self.plan.topic, partition)?;
        let timeout = Duration::from_nanos(self.plan.link.peer.connect_timeout_ns);
        let line = dialer(self.plan.tls.clone(), timeout)(&leader.host, leader.port, timeout)?;
        let name = address(&leader.host, leader.port);
        let session = self.client().open(line).map_err(|error| error.fatal(&name))?;
        let expires = session.lifetime().map(|lifetime| Instant::now() + lifetime);
        match session.into_stream().into_dialed() {
            Ok(dialed) => Ok(Dialed { expires, ..dialed }),
            Err(error) => Err(Fatal::new(Exit::Unreachable, format!("Kafka broker {name}: {error}"))),
        }
    }
}

/// Dials the leaders of one core's partitions: connection `n` of a lane is for its n-th partition.
pub fn dial(lanes: Vec<KafkaLane>) -> DialFn {
    let made = Mutex::new(BTreeSet::new());
    Box::new(move |order: &DialOrder| {
        let lane = &lanes[order.lane as usize];
        let partition = lane.partitions[order.connection as usize];
        let connection = (order.lane, order.connection);
        let was_made = made.lock().unwrap_or_else(PoisonError::into_inner).contains(&connection);
        if was_made && order.past != Past::Served {
            lane.target.tell_of_loss(partition);
        }
        let dialed = lane.target.dial(partition)?;
        made.lock().unwrap_or_else(PoisonError::into_inner).insert(connection);
        Ok(dialed)
    })
}

#[cfg(test)]
mod tests {
    use super::{Most, Seat, check_batch, check_new, seats};
    use crate::connect::kafka::testing::{self, Fake, client};
    use crate::connect::kafka::{Cluster, Dial};
    use crate::plan::PayloadSource;
    use kafka_protocol::messages::DescribeConfigsRequest;

    /// Of one process after the other: the target and the seat of each producer.
    fn fleet(targets: usize, producers: usize, processes: u32) -> Vec<(usize, Seat)> {
        let dealt: Vec<usize> = (0..producers).map(|k| k % targets).collect();
        let each = producers as u32;
        let of_process = |process: u32| {
            let seats = seats(&dealt, process * each, processes * each);
            dealt.clone().into_iter().zip(seats)
        };
        (0..processes).flat_map(of_process).collect()
    }

    #[test]
    fn every_partition_of_each_topic_has_one_owner_while_there_are_enough() {
        for (targets, processes) in (1..=4).flat_map(|targets| [1, 2, 3].map(|processes| (targets, processes))) {
            for producers in targets..=9 {
                let all = fleet(targets, producers, processes);
                for target in 0..targets {
                    let seats: Vec<Seat> = all.iter().filter(|(of, _)| *of == target).map(|(_, seat)| *seat).collect();
                    let case = format!("target {target} of {targets}, {producers} producers × {processes}");
                    assert!(seats.iter().all(|seat| seat.of as usize == seats.len()), "{case}: {seats:?}");
                    for partitions in [0, 1, 7].map(|more| seats.len() as u32 + more) {
                        let mut owned: Vec<i32> = seats.iter().flat_map(|seat| seat.owned(partitions)).collect();
                        owned.sort_unstable();
                        assert_eq!(owned, (0..partitions as i32).collect::<Vec<_>>(), "{case}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_producer_owns_each_so_many_th_partition_or_shares_one() {
        let seat = |rank, of| Seat { rank, of };
        assert_eq!(seats(&[0, 0, 0], 3, 6), [seat(3, 6), seat(4, 6), seat(5, 6)], "with one target ranks are ids");
        assert_eq!(seats(&[0, 1, 0], 3, 6), [seat(2, 4), seat(1, 2), seat(3, 4)]);
        assert_eq!(seat(1, 3).owned(8), [1, 4, 7]);
        assert_eq!((seat(5, 8).owned(3), seat(2, 8).owned(3)), (vec![2], vec![2]));
    }

    #[test]
    fn a_smaller_batch_is_no_mend_for_a_record_that_is_too_large() {
        let payload = PayloadSource::Random { bytes_min: 2_000_000, bytes_max: 2_000_000, compressibility: 0.0 };
        let most = Most::of_topic("t", 1_048_588);
        let told = |sizes| check_batch(&payload, sizes, &most).map_err(|fatal| fatal.to_string());
        assert_eq!(told((1_048_588, 1_048_588)), Ok(()));
        let record = told((2_000_081, 2_000_081)).unwrap_err();
        assert!(record.starts_with("--payload-size 2000000: ") && !record.contains("--batch-size"), "{record}");
        let batch = told((1_048_589, 1_000)).unwrap_err();
        assert!(batch.contains("mend: --batch-size=1048588") && !batch.contains("--payload-size"), "{batch}");
        let (source, most) = (PayloadSource::Templates([].into()), Most::of_topic("t", 8));
        let templates = check_batch(&source, (9, 9), &most).unwrap_err().to_string();
        assert!(templates.starts_with("--payload-template: "), "{templates}");
    }

    /// A broker whose new topics take so many bytes (`None`: it does not tell us); it makes no topic.
    fn broker(bytes: Option<&'static str>, has_topic: bool) -> Cluster<Fake> {
        let dial: Dial<Fake> = Box::new(move |_, _, _| {
            Ok(Fake::new(move |asked| {
                testing::versions(asked).or_else(|| match asked.key {
                    3 => Some(testing::metadata(if has_topic { "t" } else { "other" }, 1, asked.version)),
                    32 => {
                        let request: DescribeConfigsRequest = asked.decode();
                        let wanted = &request.resources[0];
                        assert_eq!((wanted.resource_type, &*wanted.resource_name), (4, "1"));
                        let settings: Vec<_> = bytes.map(|bytes| ("message.max.bytes", bytes)).into_iter().collect();
                        Some(testing::settings(&settings, asked.version))
                    }
                    other => panic!("{other} was not to be asked"),
                })
            }))
        });
        Cluster::new(vec![("boot".to_owned(), 1)], client(), dial)
    }

    #[test]
    fn no_topic_is_made_that_would_refuse_the_batches() {
        let payload = PayloadSource::Random { bytes_min: 100, bytes_max: 100, compressibility: 0.0 };
        let told = |batch_bytes, bytes, has_topic| {
            let checked = check_new(&payload, "t", (batch_bytes, 200), &mut broker(bytes, has_topic));
            checked.map_err(|fatal| fatal.to_string())
        };
        let refused = told(1001, Some("1000"), false).unwrap_err();
        assert!(refused.contains("message.max.bytes = 1000\n  mend: --batch-size=1000, or a topic"), "{refused}");
        assert_eq!(told(1000, Some("1000"), false), Ok(()));
        assert_eq!(told(1001, Some("1000"), true), Ok(()), "its own limit counts");
        assert_eq!(told(1001, None, false), Ok(()), "who may not ask goes on");
    }
}
