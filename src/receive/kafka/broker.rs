//! What all threads of the broker share: its topics, and the ids that it gives out.

use super::log::Partition;
use crate::base::{clock, limits};
use crate::plan::receive::BrokerPlan;
use crate::verify::live::Live;
use crate::wire::kafka::errors::{INVALID_PARTITIONS, INVALID_TOPIC_EXCEPTION, POLICY_VIOLATION, TOPIC_ALREADY_EXISTS};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Its own number.
pub const BROKER_ID: i32 = 1;

/// Which batches are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    Nothing,
    /// One in so many.
    Every(u64),
    All,
}

pub struct Topic {
    pub name: String,
    partitions: Vec<Mutex<Partition>>,
}

impl Topic {
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// `None`: it has no such partition.
    pub fn partition(&self, index: i32) -> Option<MutexGuard<'_, Partition>> {
        let partition = usize::try_from(index).ok().and_then(|index| self.partitions.get(index))?;
        Some(partition.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Why a topic is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTopic {
    Name,
    Exists,
    Partitions,
    TooMuch,
}

impl NoTopic {
    pub fn code(self) -> i16 {
        match self {
            Self::Name => INVALID_TOPIC_EXCEPTION,
            Self::Exists => TOPIC_ALREADY_EXISTS,
            Self::Partitions => INVALID_PARTITIONS,
            Self::TooMuch => POLICY_VIOLATION,
        }
    }

    pub fn what(self) -> String {
        match self {
            Self::Name => "a topic's name has 1 to 249 letters, digits, '.', '_' or '-'".to_owned(),
            Self::Exists => "the topic is there; every topic is, once somebody has asked for it".to_owned(),
            Self::Partitions => format!("a topic has 1 to {} partitions", limits::RECEIVE_TOPIC_PARTITIONS_MAX),
            Self::TooMuch => {
                let (topics, partitions) = (limits::RECEIVE_TOPICS_MAX, limits::RECEIVE_PARTITIONS_MAX);
                format!("there are {topics} topics and {partitions} partitions at most")
            }
        }
    }
}

pub struct Broker {
    pub plan: BrokerPlan,
    pub checks: Checks,
    pub live: Option<Arc<Mutex<Live>>>,
    pub sign_key: Option<[u8; 16]>,
    topics: Mutex<BTreeMap<String, Arc<Topic>>>,
    first_producer_id: i64,
    next_producer_id: AtomicI64,
}

impl Broker {
    pub fn new(plan: BrokerPlan, checks: Checks, live: Option<Arc<Mutex<Live>>>, sign_key: Option<[u8; 16]>) -> Self {
        // Clients keep their ids when a broker starts anew: it must not give them to others.
        let first_producer_id = (clock::unix_now_ns() / 1000).cast_signed();
        let (topics, next_producer_id) = (Mutex::default(), AtomicI64::new(first_producer_id));
        Self { plan, checks, live, sign_key, topics, first_producer_id, next_producer_id }
    }

    fn topics(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Topic>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn live(&self) -> Option<MutexGuard<'_, Live>> {
        self.live.as_ref().map(|live| live.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn all_topics(&self) -> Vec<Arc<Topic>> {
        self.topics().values().cloned().collect()
    }

    /// The topic of that name; it is made if need be.
    pub fn topic(&self, name: &str) -> Result<Arc<Topic>, NoTopic> {
        let found = self.topics().get(name).cloned();
        match found.map_or_else(|| self.create(name, self.plan.topic_partitions), Ok) {
            // Another thread was faster.
            Err(NoTopic::Exists) => self.topics().get(name).cloned().ok_or(NoTopic::TooMuch),
            made => made,
        }
    }

    /// Whether a topic of that name can be made.
    pub fn may_create(&self, name: &str, partitions: u32) -> Result<(), NoTopic> {
        may_create(&self.topics(), name, partitions)
    }

    pub fn create(&self, name: &str, partitions: u32) -> Result<Arc<Topic>, NoTopic> {
        let mut topics = self.topics();
        may_create(&topics, name, partitions)?;
        let made = (0..partitions).map(|_| Mutex::default()).collect();
        let topic = Arc::new(Topic { name: name.to_owned(), partitions: made });
        topics.insert(name.to_owned(), topic.clone());
        Ok(topic)
    }

    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id.fetch_add(1, Relaxed)
    }

    /// Whether this broker gave out the id, and so has seen all that came under it.
    pub fn gave_out(&self, producer_id: i64) -> bool {
        (self.first_producer_id..self.next_producer_id.load(Relaxed)).contains(&producer_id)
    }
}

fn may_create(topics: &BTreeMap<String, Arc<Topic>>, name: &str, partitions: u32) -> Result<(), NoTopic> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let sized = (1..=limits::KAFKA_TOPIC_BYTES_MAX).contains(&name.len());
    if !sized || !name.bytes().all(allowed) || matches!(name, "." | "..") {
        return Err(NoTopic::Name);
    }
    if topics.contains_key(name) {
        return Err(NoTopic::Exists);
    }
    if !(1..=limits::RECEIVE_TOPIC_PARTITIONS_MAX).contains(&partitions) {
        return Err(NoTopic::Partitions);
    }
    let all: usize = topics.values().map(|topic| topic.partitions()).sum();
    if topics.len() >= limits::RECEIVE_TOPICS_MAX || all + partitions as usize > limits::RECEIVE_PARTITIONS_MAX {
        return Err(NoTopic::TooMuch);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_made_once_and_not_without_end() {
        let plan = BrokerPlan { advertise: None, topic_partitions: 3 };
        let broker = Broker::new(plan, Checks::Nothing, None, None);
        assert_eq!(broker.topic("t").unwrap().partitions(), 3);
        assert_eq!(broker.create("t", 5).err(), Some(NoTopic::Exists));
        assert_eq!(broker.create("u", 5).unwrap().partitions(), 5);
        assert_eq!(broker.topic("u").unwrap().partitions(), 5);
        let topic = broker.topic("u").unwrap();
        assert!(topic.partition(4).is_some() && topic.partition(5).is_none() && topic.partition(-1).is_none());
        for name in ["", "a b", "..", "ä", &"x".repeat(250)] {
            assert_eq!(broker.topic(name).err(), Some(NoTopic::Name), "{name}");
        }
        assert_eq!(broker.create("v", 0).err(), Some(NoTopic::Partitions));
        let most = limits::RECEIVE_TOPIC_PARTITIONS_MAX;
        let made = (0..20).filter(|at| broker.create(&format!("large-{at}"), most).is_ok()).count();
        assert_eq!(made, (limits::RECEIVE_PARTITIONS_MAX - 8) / most as usize);
        let (first, second) = (broker.next_producer_id(), broker.next_producer_id());
        assert_eq!(second, first + 1);
        for (id, ours) in [(first - 1, false), (first, true), (second, true), (second + 1, false)] {
            assert_eq!(broker.gave_out(id), ours, "{id}");
        }
    }
}
