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
    /// It was of no help: that address is asked last, for it may be cut off from the others.
    is_doubted: bool,
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
        let seen = Seen { at: Instant::now(), view, by, is_doubted: false };
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
            match &seen.by {
                Some(address) if seen.is_doubted => cluster.avoid(address),
                Some(address) => cluster.prefer(address),
                None => {}
            }
            let told = cluster.ask(|session| session.metadata(&self.plan.topic));
            let mut view = told.inspect_err(|_| seen.is_doubted = true)?;
            // A broker that has just come back may not know the others yet.
            let silent = seen.view.brokers.drain(..).filter(|known| view.broker(known.id).is_none());
            let silent: Vec<_> = silent.collect();
            view.brokers.extend(silent);
            *seen = Seen { at: Instant::now(), view, by: cluster.answered_last().cloned(), is_doubted: false };
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
        self.dial_leader(&view, partition).inspect_err(|_| {
            self.view.lock().unwrap_or_else(PoisonError::into_inner).is_doubted = true;
        })
    }

    fn dial_leader(&self, view: &TopicView, partition: i32) -> Result<Dialed, Fatal> {
        let leader = leader_of(view, &self.plan.topic, partition)?;
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

#[cfg(test)]
mod tests {
    use super::super::answers::{Broker, PartitionView};
    use super::super::testing::{self, Asked, Fake};
    use super::*;
    use crate::plan::testing::kafka_plan;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    const HOST: &str = "127.0.0.1";

    /// A broker that is asked over TCP; it closes where it has no answer.
    fn serve(listener: TcpListener, answer: fn(&Asked, u16) -> Option<Vec<u8>>, leader_port: u16) {
        let converse = move |mut peer: TcpStream| -> std::io::Result<()> {
            let mut fake = Fake::new(move |asked| answer(asked, leader_port));
            loop {
                let mut size = [0; 4];
                peer.read_exact(&mut size)?;
                let mut request = vec![0; u32::from_be_bytes(size) as usize];
                peer.read_exact(&mut request)?;
                fake.write_all(&[&size[..], &request].concat())?;
                let mut answer = Vec::new();
                fake.read_to_end(&mut answer)?;
                if answer.is_empty() {
                    return Ok(());
                }
                peer.write_all(&answer)?;
            }
        };
        std::thread::spawn(move || listener.incoming().flatten().for_each(|peer| drop(converse(peer))));
    }

    #[test]
    fn a_broker_that_names_a_leader_that_is_gone_is_not_asked_again() {
        let listeners = [(); 3].map(|()| TcpListener::bind((HOST, 0)).unwrap());
        let [gone, frozen, well] = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
        let names = |asked: &Asked, port| {
            testing::versions(asked).or_else(|| Some(testing::metadata_of((2, HOST, port), "t", 1, asked.version)))
        };
        for (listener, answers) in listeners.into_iter().zip([None, Some(gone), Some(well)]) {
            match answers {
                None => serve(listener, |_, _| None, 0),
                Some(leader) => serve(listener, names, leader),
            }
        }
        let at = |port| (HOST.to_owned(), port);
        let mut plan = kafka_plan(frozen);
        (plan.bootstrap, plan.link.request_timeout_ns) = (vec![at(frozen), at(well)], 20_000_000_000);
        let brokers = vec![Broker { id: 1, host: HOST.to_owned(), port: gone }];
        let (replicas, in_sync) = (vec![1], vec![1]);
        let partitions = vec![PartitionView { id: 0, error: 0, leader: 1, leader_epoch: 7, replicas, in_sync }];
        let view = TopicView { cluster_id: None, controller: 1, brokers, error: 0, partitions };
        let target = Target::new(plan, 8, view, Some(at(frozen)));
        let dial_later = || {
            target.view.lock().unwrap().at -= 2 * VIEW_FRESH;
            target.dial(0).map(|dialed| dialed.peer_address.port())
        };
        assert!(target.dial(0).is_err());
        assert_eq!(dial_later().ok(), Some(well));
        // It stays the one that is asked.
        assert_eq!(dial_later().ok(), Some(well));
        assert_eq!(target.view.lock().unwrap().by, Some(at(well)));
    }
}
