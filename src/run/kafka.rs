//! What has to be known of Kafka before the start: the topic, its limits and leaders, who owns which partitions, and
//! each producer's id at the broker.

use super::Stop;
use crate::base::fatal::{Exit, Fatal};
use crate::base::{limits, units};
use crate::connect::kafka::{
    Awaited, Cluster, Fits, Line, NewTopic, PartitionView, Session, Stream, Target, TopicLimits, TopicView, client_of,
    cluster_of,
};
use crate::connect::peer::address;
use crate::host::{Sysfs, network};
use crate::plan::{
    Compression, KafkaClient, KafkaPlan, KeyPlan, PayloadPlan, PayloadSource, RunPlan, SinkKind, TargetPlan,
};
use crate::sys::threads;
use crate::wire::kafka::{PRODUCE_VERSION_MAX, PRODUCE_VERSION_MIN};
use crossbeam_channel::{RecvTimeoutError, bounded};
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// Leaders are bound to be elected within this time, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a topic needs whose messages have no keys.
const DELETED: &[(&str, &str)] = &[("cleanup.policy", "delete")];
/// A broker that has said nothing for so long is told.
const TELL_AFTER: Duration = Duration::from_secs(1);

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

impl KafkaLane {
    /// Whose leaders are dialed for it.
    pub fn led(&self) -> (Arc<Target>, Vec<i32>) {
        (self.target.clone(), self.partitions.clone())
    }
}

/// What each producer needs; `None` where the target is not Kafka. Brokers may be silent for long: they are asked on a
/// thread of its own, which a stop leaves behind.
pub fn prepare(plan: &Arc<RunPlan>, stop: &Stop) -> Result<Vec<Option<KafkaLane>>, Fatal> {
    if plan.sink.kind != SinkKind::Kafka {
        return Ok(vec![None; plan.producers.len()]);
    }
    let (tell, told) = bounded(1);
    let (asked, waits) = (plan.clone(), Awaited::default());
    let heard_by = waits.clone();
    let ask = move || {
        // After a stop nobody hears it.
        let _nobody = tell.send(lanes(&asked, &heard_by));
    };
    threads::start("kafka", &[], "a thread", ask)?;
    loop {
        match told.recv_timeout(Duration::from_nanos(limits::WAIT_NS_MAX)) {
            Ok(lanes) => return lanes,
            Err(RecvTimeoutError::Timeout) => {
                stop.may_start()?;
                if let Some(wait) = waits.longer_than(TELL_AFTER) {
                    tracing::info!("waiting for {wait}");
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Fatal::host("looking up the topic crashed; please report this"));
            }
        }
    }
}

fn lanes(plan: &RunPlan, waits: &Awaited) -> Result<Vec<Option<KafkaLane>>, Fatal> {
    let dealt: Vec<usize> = plan.producers.iter().map(|producer| producer.target).collect();
    let first_id = plan.producers.first().map_or(0, |producer| producer.id);
    let mut targets: Vec<Option<(Arc<Target>, Cluster<Line>)>> = plan.sink.targets.iter().map(|_| None).collect();
    let mut lanes = Vec::new();
    for (producer, seat) in plan.producers.iter().zip(seats(&dealt, first_id, plan.fleet_producers)) {
        let TargetPlan::Kafka(kafka) = &producer.to else {
            lanes.push(None);
            continue;
        };
        let looked_up = &mut targets[producer.target];
        if looked_up.is_none() {
            *looked_up = Some(look_up(plan, kafka, (producer.target, seat.of), waits)?);
        }
        let Some((target, cluster)) = looked_up else { continue };
        let partitions = seat.owned(target.partitions() as u32);
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

/// Finds or makes the topic of a target, for so many producers of the fleet, and checks it against the plan.
fn look_up(
    plan: &RunPlan,
    kafka: &KafkaPlan,
    (target, producers): (usize, u32),
    waits: &Awaited,
) -> Result<(Arc<Target>, Cluster<Line>), Fatal> {
    let mut cluster = cluster_of(kafka, client_of(kafka));
    cluster.heard_by(waits);
    let topic = kafka.topic.as_str();
    if kafka.local_only {
        check_local(&mut cluster)?;
    }
    let made = make_missing(&plan.payload, kafka, producers, &mut cluster)?;
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
    check(&plan.payload, kafka, &view, &limits)?;
    tracing::info!("{}", footprint(topic, payload_bytes_max(plan, target), &view));
    let version = match (cluster.ask(|session| Ok(session.produce_version()))?, kafka.client) {
        (Some(version), _) => version,
        // It finds its own.
        (None, KafkaClient::Rskafka) => PRODUCE_VERSION_MIN,
        (None, KafkaClient::Uring) => {
            let ours = format!("{PRODUCE_VERSION_MIN} to {PRODUCE_VERSION_MAX}");
            let what = format!("the broker speaks none of the versions {ours} of Produce");
            return Err(Fatal::new(Exit::Unreachable, what).mend("a broker from 0.11 to 4.x"));
        }
    };
    let by = cluster.answered_last().cloned();
    Ok((Arc::new(Target::new(kafka.clone(), version, view, by)), cluster))
}

/// Makes the topic where that is wanted, for so many producers; false: it is there.
fn make_missing<S: Stream>(
    payload: &PayloadPlan,
    kafka: &KafkaPlan,
    producers: u32,
    cluster: &mut Cluster<S>,
) -> Result<bool, Fatal> {
    let topic = kafka.topic.as_str();
    if !kafka.create_topic {
        return Ok(false);
    }
    let sizes = (kafka.batch_bytes, kafka.batch_bytes_min);
    let fits = |bytes| check_batch(payload, sizes, &Most::of_new_topic(topic, bytes));
    // Of what is compressed nobody knows the size before.
    let fits = (kafka.codec == Compression::None).then_some(&fits as Fits<'_>);
    let partitions = kafka.partitions.unwrap_or(producers) as i32;
    // Whatever the brokers' default is: a topic that is compacted would take nothing.
    let settings = if kafka.key == KeyPlan::None { DELETED } else { &[] };
    let new = NewTopic { name: topic, partitions, replicas: -1, settings };
    cluster.make_topic(&new, fits, PATIENCE)
}

/// Nobody floods another host by leaving out a flag: any broker may lead a partition one day. A name that leads nowhere
/// is told when it is dialed.
fn check_local<S: Stream>(cluster: &mut Cluster<S>) -> Result<(), Fatal> {
    let sysfs = Sysfs::default();
    for broker in cluster.ask(Session::brokers)? {
        let found = (broker.host.as_str(), broker.port).to_socket_addrs();
        let addresses: Vec<IpAddr> = found.into_iter().flatten().map(|address| address.ip()).collect();
        if !addresses.is_empty() && !network::exits(&sysfs, &addresses).loopback {
            let at = address(&broker.host, broker.port);
            let what = format!("{at}, an address that Kafka's brokers advertise, is not this host: it needs --rate");
            return Err(Fatal::usage(what).mend("--rate=100MB/s, say, or --rate=unlimited to mean it"));
        }
    }
    Ok(())
}

fn check(payload: &PayloadPlan, kafka: &KafkaPlan, view: &TopicView, limits: &TopicLimits) -> Result<(), Fatal> {
    let topic = &kafka.topic;
    if limits.is_compacted && kafka.key == KeyPlan::None {
        let what = format!("topic {topic} is compacted (cleanup.policy) and takes no message without a key");
        return Err(Fatal::usage(what).mend("--key=producer or --key=cycle:1000, or another topic"));
    }
    if let Some(bytes) = limits.max_message_bytes.filter(|_| kafka.codec == Compression::None) {
        check_batch(payload, (kafka.batch_bytes, kafka.batch_bytes_min), &Most::of_topic(topic, bytes))?;
    }
    match (limits.min_in_sync, kafka.acks) {
        (Some(least), -1) => check_in_sync(topic, view, (least as usize, limits.replicas_are_enough)),
        _ => Ok(()),
    }
}

/// A broker that wants more replicas in sync than there are answers "again" to every batch until the run's end.
fn check_in_sync(topic: &str, view: &TopicView, (least, replicas_are_enough): (usize, bool)) -> Result<(), Fatal> {
    let wanted = |partition: &PartitionView| match replicas_are_enough {
        true => least.min(partition.replicas.len()),
        false => least,
    };
    let lacks = |partition: &&PartitionView| partition.in_sync.len() < wanted(partition);
    let Some(partition) = view.partitions.iter().find(lacks) else { return Ok(()) };
    let (id, replicas) = (partition.id, partition.replicas.len());
    let counted = |count: usize| units::format_counted(count as u64, "replica");
    if wanted(partition) > replicas {
        let all = counted(replicas);
        let what = format!(
            "--acks all: {topic}/{id} has {all} in all, min.insync.replicas is {least}, and Kafka before 3.7 takes \
             nothing there"
        );
        let lower = format!(
            "kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config \
             min.insync.replicas={replicas}"
        );
        return Err(Fatal::new(Exit::Unreachable, what).mend(format!("{lower}, or --acks=1")));
    }
    let have = counted(partition.in_sync.len());
    let what = format!("--acks all: {topic}/{id} has {have} in sync, min.insync.replicas is {least}");
    Err(Fatal::new(Exit::Unreachable, what).mend("start the missing brokers, or --acks=1"))
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
fn check_batch(payload: &PayloadPlan, (batch_bytes, batch_bytes_min): (u64, u64), most: &Most) -> Result<(), Fatal> {
    let Most { bytes, takes, raise } = most;
    if batch_bytes_min > *bytes {
        let (value, mend) = match &payload.source {
            PayloadSource::Random { .. } => {
                (format!("--payload-size {}", payload.record_bytes_max), "a smaller --payload-size")
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

/// What a target's producers may send, as their part of what the process may; `None`: no end is known.
fn payload_bytes_max(plan: &RunPlan, target: usize) -> Option<u64> {
    let all = plan.payload_bytes_max?;
    let own = plan.producers.iter().filter(|producer| producer.target == target).count();
    let part = (u128::from(all) * own as u128).div_ceil(plan.producers.len().max(1) as u128);
    // Whole records are dealt out.
    let whole = part.next_multiple_of(u128::from(plan.payload.record_bytes_max.max(1)));
    Some(u64::try_from(whole).unwrap_or(u64::MAX).min(all))
}

/// How much the run will put on the brokers' disks, where that can be known.
fn footprint(topic: &str, payload_bytes: Option<u64>, view: &TopicView) -> String {
    let replicas = view.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(1).max(1);
    let Some(payload_bytes) = payload_bytes else {
        let times = if replicas == 1 { "once".to_owned() } else { format!("{replicas} times") };
        return format!("{topic}: every byte produced is written {times} on the brokers' disks");
    };
    let size = units::format_amount(payload_bytes.saturating_mul(replicas as u64));
    let replicas = units::format_counted(replicas as u64, "replica");
    format!(
        "{topic}: up to {size} of records on the brokers' disks ({replicas}), and what frames them, before compression"
    )
}

#[cfg(test)]
mod tests;
