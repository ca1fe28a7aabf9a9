//! How a connection to a partition's leader is made, and made again: whoever leads by now is looked up on the way.

use super::answers::{TopicView, leader_of};
use super::cluster::{Client, Cluster, explain_advertised};
use super::dial::{Line, dial_brokers};
use crate::base::fatal::{Exit, Fatal};
use crate::connect::dial::Dialed;
use crate::connect::dialer::{DialFn, DialOrder, LastUse};
use crate::connect::peer::address;
use crate::plan::KafkaPlan;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So long one look at the metadata serves all connections that are lost together.
const VIEW_FRESH: Duration = Duration::from_millis(250);

/// One topic of one cluster, whose leaders are dialed again and again.
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

/// Who the run is to a broker.
pub fn client_of(plan: &KafkaPlan) -> Client {
    let timeout = Duration::from_nanos(plan.link.request_timeout_ns);
    Client { id: plan.client_id.clone(), sasl: plan.sasl.clone(), timeout }
}

pub fn cluster_of(plan: &KafkaPlan, client: Client) -> Cluster<Line> {
    let timeout = Duration::from_nanos(plan.link.peer.connect_timeout_ns);
    Cluster::new(plan.bootstrap.clone(), client, dial_brokers(plan.tls().cloned(), timeout))
}

impl Target {
    /// `view`: as the broker at `by` has just told it. `version`: of Produce.
    pub fn new(plan: KafkaPlan, version: i16, view: TopicView, by: Option<(String, u16)>) -> Self {
        let seen = Seen { at: Instant::now(), view, by };
        Self { plan, version, view: Mutex::new(seen), told_of_loss: AtomicBool::new(false) }
    }

    pub fn partitions(&self) -> usize {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).view.partitions.len()
    }

    /// Of one who redials: a broker that says nothing for as long as a connect may take is as good as dead.
    fn client(&self) -> Client {
        let client = client_of(&self.plan);
        let timeout = client.timeout.min(Duration::from_nanos(self.plan.link.peer.connect_timeout_ns));
        Client { timeout, ..client }
    }

    /// The metadata, fresh enough.
    fn view(&self) -> Result<TopicView, Fatal> {
        let mut seen = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.at.elapsed() > VIEW_FRESH {
            let mut cluster = cluster_of(&self.plan, self.client());
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
        let (host, port) = (&leader.host, leader.port);
        let line = dial_brokers(self.plan.tls().cloned(), timeout)(host, port, timeout)
            .map_err(|fatal| explain_advertised(fatal, host, port, &self.plan.bootstrap))?;
        let name = address(host, port);
        let session = self.client().open(line).map_err(|error| error.fatal(&name))?;
        let expires = session.lifetime().map(|lifetime| Instant::now() + lifetime);
        match session.into_stream().into_dialed() {
            Ok(dialed) => Ok(Dialed { expires, ..dialed }),
            Err(error) => Err(Fatal::new(Exit::Unreachable, format!("Kafka broker {name}: {error}"))),
        }
    }
}

/// Dials the leaders of one core's partitions: connection `n` of a lane is for its n-th partition.
pub fn dial_leaders(lanes: Vec<(Arc<Target>, Vec<i32>)>) -> DialFn {
    let made = Mutex::new(BTreeSet::new());
    Box::new(move |order: &DialOrder| {
        let (target, partitions) = &lanes[order.lane as usize];
        let partition = partitions[order.connection as usize];
        let connection = (order.lane, order.connection);
        let was_made = made.lock().unwrap_or_else(PoisonError::into_inner).contains(&connection);
        if was_made && order.last_use != LastUse::Served {
            target.tell_of_loss(partition);
        }
        let dialed = target.dial(partition)?;
        made.lock().unwrap_or_else(PoisonError::into_inner).insert(connection);
        Ok(dialed)
    })
}
