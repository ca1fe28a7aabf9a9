//! What has to be known of Kafka before the start: the topic, its limits and leaders, who owns which partitions, and
//! each producer's id at the broker. Then: how a lost connection to a leader is found again.

use crate::base::fatal::{Exit, Fatal};
use crate::base::units;
use crate::connect::dial::{Dialed, address};
use crate::connect::dialer::{DialFn, DialOrder};
use crate::connect::kafka::{Client, Cluster, Line, NewTopic, TopicLimits, TopicView, dialer};
use crate::plan::{Compression, KafkaClient, KafkaPlan, RunPlan, TargetPlan};
use crate::wire::kafka::PRODUCE_VERSION_MIN;
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
    view: Mutex<(Instant, TopicView)>,
}

/// What each producer needs; `None` where the target is not Kafka.
pub fn prepare(plan: &RunPlan) -> Result<Vec<Option<KafkaLane>>, Fatal> {
    let mut targets: Vec<Option<(Arc<Target>, Cluster<Line>)>> = plan.sink.targets.iter().map(|_| None).collect();
    let mut lanes = Vec::new();
    for producer in &plan.producers {
        let TargetPlan::Kafka(kafka) = &producer.to else {
            lanes.push(None);
            continue;
        };
        let place = &mut targets[producer.target];
        if place.is_none() {
            *place = Some(look_up(plan, kafka)?);
        }
        let Some((target, cluster)) = place else { continue };
        let count = target.view.lock().unwrap_or_else(PoisonError::into_inner).1.partitions.len() as u32;
        let partitions = owned(producer.id, plan.fleet_producers, count);
        let identity = match kafka.idempotent {
            true => Some(cluster.ask(|session| session.init_producer_id())?),
            false => None,
        };
        lanes.push(Some(KafkaLane { target: target.clone(), partitions, identity }));
    }
    Ok(lanes)
}

/// The partitions of a producer: each `producers`-th from its own on; with fewer partitions than producers, one that
/// it shares.
fn owned(id: u32, producers: u32, partitions: u32) -> Vec<i32> {
    if partitions < producers {
        return vec![(id % partitions.max(1)) as i32];
    }
    (id..partitions).step_by(producers.max(1) as usize).map(|at| at as i32).collect()
}

fn client(plan: &KafkaPlan) -> Client {
    let timeout = Duration::from_nanos(plan.link.request_timeout_ns);
    Client { id: plan.client_id.clone(), sasl: plan.sasl.clone(), timeout }
}

fn cluster(plan: &KafkaPlan, client: Client) -> Cluster<Line> {
    let timeout = Duration::from_nanos(plan.link.peer.connect_timeout_ns);
    Cluster::new(plan.bootstrap.clone(), client, dialer(plan.tls.clone(), timeout))
}

/// Finds or makes the topic and checks it against the plan.
fn look_up(plan: &RunPlan, kafka: &KafkaPlan) -> Result<(Arc<Target>, Cluster<Line>), Fatal> {
    let mut cluster = cluster(kafka, client(kafka));
    let topic = kafka.topic.as_str();
    let wanted = kafka.partitions.unwrap_or(plan.fleet_producers);
    if kafka.create_topic {
        let new = NewTopic { name: topic, partitions: wanted as i32, replicas: -1, settings: &[] };
        if cluster.ask(|session| session.create_topic(&new))? {
            tracing::info!("topic {topic} created with {wanted} partitions");
        }
    }
    let mut view = cluster.ask(|session| session.await_topic(topic, 1, PATIENCE))?;
    if let Some(wanted) = kafka.partitions {
        if view.partitions.len() < wanted as usize {
            let there = view.partitions.len();
            let what = format!("topic {topic} has {there} partitions, --partitions asks for {wanted}");
            return Err(Fatal::usage(what).mend("leave out --partitions, or name another topic"));
        }
        view.partitions.truncate(wanted as usize);
    }
    if view.partitions.len() < plan.fleet_producers as usize {
        let (partitions, producers) = (view.partitions.len(), plan.fleet_producers);
        tracing::info!("topic {topic} has {partitions} partitions for {producers} producers: some share one");
    }
    // A user that may write but not describe learns the limits from the broker's answers.
    let limits = cluster.ask(|session| session.topic_limits(topic)).unwrap_or_default();
    check(kafka, &view, &limits)?;
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
    let target = Target { plan: kafka.clone(), version, view: Mutex::new((Instant::now(), view)) };
    Ok((Arc::new(target), cluster))
}

fn check(kafka: &KafkaPlan, view: &TopicView, limits: &TopicLimits) -> Result<(), Fatal> {
    let topic = &kafka.topic;
    if let Some(most) =
        limits.max_message_bytes.filter(|most| kafka.codec == Compression::None && kafka.batch_bytes > *most)
    {
        let what =
            format!("--batch-size {}: topic {topic} takes at most max.message.bytes = {most}", kafka.batch_bytes);
        return Err(Fatal::usage(what).mend(format!("--batch-size={most}, or a larger max.message.bytes of the topic")));
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

/// How much the run will put on the brokers' disks, where that can be known.
fn tell_footprint(plan: &RunPlan, kafka: &KafkaPlan, view: &TopicView) {
    let replicas = view.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(1).max(1);
    let Some(payload_bytes) = plan.payload_bytes_max else {
        tracing::info!("{}: every byte produced is written {replicas} times on the brokers' disks", kafka.topic);
        return;
    };
    let size = units::format_size(payload_bytes.saturating_mul(replicas as u64));
    tracing::info!(
        "{}: up to {size} of records on the brokers' disks ({replicas} replicas), and what frames them, before compression",
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
        let mut kept = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0.elapsed() > VIEW_FRESH {
            let mut cluster = cluster(&self.plan, self.client());
            cluster.learn(&kept.1.brokers);
            let mut view = cluster.ask(|session| session.metadata(&self.plan.topic))?;
            // A broker that has just come back may not know the others yet.
            let silent = kept.1.brokers.drain(..).filter(|known| view.broker(known.id).is_none());
            let silent: Vec<_> = silent.collect();
            view.brokers.extend(silent);
            *kept = (Instant::now(), view);
        }
        Ok(kept.1.clone())
    }

    /// A connection to the leader of a partition, ready for Produce.
    fn dial(&self, partition: i32) -> Result<Dialed, Fatal> {
        let view = self.view()?;
        let Some(leader) = view.leader(partition) else {
            let what = format!("{}/{partition} has no leader", self.plan.topic);
            return Err(Fatal::new(Exit::Unreachable, what).mend("start the brokers that hold it"));
        };
        let timeout = Duration::from_nanos(self.plan.link.peer.connect_timeout_ns);
        let line = dialer(self.plan.tls.clone(), timeout)(&leader.host, leader.port)?;
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
    Box::new(move |order: &DialOrder| {
        let lane = &lanes[order.lane as usize];
        lane.target.dial(lane.partitions[order.connection as usize])
    })
}

#[cfg(test)]
mod tests {
    use super::owned;

    #[test]
    fn every_partition_has_one_owner_while_there_are_enough() {
        for (producers, partitions) in [(1, 1), (3, 3), (3, 8), (4, 5)] {
            let mut all: Vec<i32> = (0..producers).flat_map(|id| owned(id, producers, partitions)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..partitions as i32).collect::<Vec<_>>());
        }
        assert_eq!(owned(1, 3, 8), [1, 4, 7]);
        assert_eq!((owned(5, 8, 3), owned(2, 8, 3)), (vec![2], vec![2]));
    }
}
