//! One topic to read: requests to whoever leads a partition, through elections and lost connections.

use super::answers::{TopicView, leader_of};
use super::cluster::Cluster;
use super::error::KafkaError;
use super::session::{Session, Stream};
use crate::base::fatal::Fatal;
use crate::connect::peer::address;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(100);
/// So long one broker is believed where the leader that it names is none.
const BELIEVED: Duration = Duration::from_secs(1);

/// One topic and its leaders.
pub struct TopicReader<S> {
    cluster: Cluster<S>,
    topic: String,
    view: TopicView,
    patience: Duration,
}

impl<S: Stream> TopicReader<S> {
    /// Waits up to `patience`, here and in each request, for what is bound to pass.
    pub fn find(mut cluster: Cluster<S>, topic: &str, patience: Duration) -> Result<Self, Fatal> {
        let view = cluster.ask(|session| session.await_topic(topic, 1, patience))?;
        cluster.learn(&view.brokers);
        Ok(Self { cluster, topic: topic.to_owned(), view, patience })
    }

    /// Another one with connections of its own, which knows what this one knows.
    pub fn sibling(&self, mut cluster: Cluster<S>) -> Self {
        cluster.learn(&self.view.brokers);
        Self { cluster, topic: self.topic.clone(), view: self.view.clone(), patience: self.patience }
    }

    pub fn view(&self) -> &TopicView {
        &self.view
    }

    /// Asks the leader of `partition`, again and again where that may help: with patience from the first failure on.
    pub fn ask<T>(
        &mut self,
        partition: i32,
        mut request: impl FnMut(&mut Session<S>) -> Result<T, KafkaError>,
    ) -> Result<T, Fatal> {
        let (mut deadline, mut believed_until) = (None, None);
        loop {
            let fatal = match self.attempt(partition, &mut request) {
                Ok(answer) => return Ok(answer),
                Err((fatal, false)) => return Err(fatal),
                Err((fatal, true)) => fatal,
            };
            // A leader that was silent has had all of its time by now, and somebody else may lead.
            let now = Instant::now();
            if now + PAUSE >= *deadline.get_or_insert(now + self.patience) {
                return Err(fatal);
            }
            std::thread::sleep(PAUSE);
            // One that is cut off from the others never hears of a new leader.
            if now >= *believed_until.get_or_insert(now + BELIEVED) {
                self.cluster.turn_away();
                believed_until = None;
            }
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
