//! Requests to whoever leads a partition, through elections and lost connections.

use super::answers::{Broker, LEADER_NOT_AVAILABLE, TopicView};
use super::cluster::Cluster;
use super::error::{KafkaError, LOOKING_UP};
use super::session::{Session, Stream};
use crate::base::fatal::{Exit, Fatal};
use crate::connect::dial::address;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(100);

/// One topic and its leaders.
pub struct Leaders<S> {
    cluster: Cluster<S>,
    topic: String,
    view: TopicView,
    patience: Duration,
}

impl<S: Stream> Leaders<S> {
    /// Waits up to `patience`, here and in each request, for what is bound to pass.
    pub fn find(mut cluster: Cluster<S>, topic: &str, patience: Duration) -> Result<Self, Fatal> {
        let view = cluster.ask(|session| session.await_topic(topic, 1, patience))?;
        cluster.learn(&view.brokers);
        Ok(Self { cluster, topic: topic.to_owned(), view, patience })
    }

    pub fn view(&self) -> &TopicView {
        &self.view
    }

    /// Asks the leader of `partition`, again and again where that may help.
    pub fn ask<T>(
        &mut self,
        partition: i32,
        mut request: impl FnMut(&mut Session<S>) -> Result<T, KafkaError>,
    ) -> Result<T, Fatal> {
        let deadline = Instant::now() + self.patience;
        loop {
            let fatal = match self.attempt(partition, &mut request) {
                Ok(answer) => return Ok(answer),
                Err((fatal, false)) => return Err(fatal),
                Err((fatal, true)) => fatal,
            };
            if Instant::now() + PAUSE >= deadline {
                return Err(fatal);
            }
            std::thread::sleep(PAUSE);
            let topic = &self.topic;
            // Where that fails, the view that we have is as good as any, until the deadline.
            if let Ok(view) = self.cluster.ask(|session| session.metadata(topic))
                && view.error == 0
            {
                self.cluster.learn(&view.brokers);
                self.view = view;
            }
        }
    }

    /// The flag: it may help to try again.
    fn attempt<T>(
        &mut self,
        partition: i32,
        request: &mut impl FnMut(&mut Session<S>) -> Result<T, KafkaError>,
    ) -> Result<T, (Fatal, bool)> {
        let leader = leader_of(&self.view, &self.topic, partition).cloned();
        let broker = leader.map_err(|fatal| (fatal, true))?;
        let session = self.cluster.broker(&broker).map_err(|fatal| (fatal, true))?;
        request(session).map_err(|error| {
            if error.breaks_connection() {
                self.cluster.forget(broker.id);
            }
            (error.fatal(&address(&broker.host, broker.port)), error.is_retriable())
        })
    }
}

/// Whom to ask for a partition, or why nobody can be: a topic may be deleted, or its rights revoked, in mid-run.
pub fn leader_of<'a>(view: &'a TopicView, topic: &str, partition: i32) -> Result<&'a Broker, Fatal> {
    if let Some(leader) = view.leader(partition) {
        return Ok(leader);
    }
    match view.error_of(partition) {
        0 | LEADER_NOT_AVAILABLE => {
            let what = format!("{topic}/{partition} has no leader");
            Err(Fatal::new(Exit::Unreachable, what).mend("start the brokers that hold it"))
        }
        code => Err(KafkaError::broker(LOOKING_UP, code).fatal_of(&format!("{topic}/{partition}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::answers::PartitionView;
    use super::*;

    #[test]
    fn a_topic_that_is_gone_or_closed_to_us_is_no_matter_of_leaders() {
        let (replicas, in_sync) = (vec![1], vec![1]);
        let partition = PartitionView { id: 0, error: 0, leader: 1, leader_epoch: 7, replicas, in_sync };
        let brokers = vec![Broker { id: 1, host: "one".to_owned(), port: 9092 }];
        let led = TopicView { cluster_id: None, controller: 1, brokers, error: 0, partitions: vec![partition.clone()] };
        assert_eq!(leader_of(&led, "t", 0).map(|broker| broker.port).ok(), Some(9092));
        let told = |view: &TopicView, partition| leader_of(view, "t", partition).unwrap_err().to_string();
        let of_topic = |error| told(&TopicView { error, partitions: vec![], ..led.clone() }, 0);
        let own = |error, leader| {
            let partitions = vec![PartitionView { error, leader, ..partition.clone() }];
            TopicView { partitions, ..led.clone() }
        };
        for waiting in [of_topic(5), told(&own(0, -1), 0), told(&own(5, -1), 0)] {
            assert_eq!(waiting, "t/0 has no leader\n  mend: start the brokers that hold it");
        }
        assert_eq!(told(&own(72, -1), 0), "t/0: looking up the topic: LISTENER_NOT_FOUND (72)");
        assert!(leader_of(&own(9, 1), "t", 0).is_ok(), "a replica that is away is no leader that is");
        // In the words of a request that was refused, whoever was asked.
        for (code, mend) in [(3, "--create-topic on"), (29, "--operation Describe")] {
            let refused = KafkaError::broker(LOOKING_UP, code).fatal("one:9092").to_string();
            let gone = of_topic(code);
            assert_eq!(gone.strip_prefix("t/0"), refused.strip_prefix("Kafka broker one:9092"));
            assert!(gone.contains(mend), "{gone}");
        }
        assert!(told(&led, 1).contains("UNKNOWN_TOPIC_OR_PARTITION (3)"), "fewer partitions than before");
    }
}
