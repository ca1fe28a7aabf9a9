//! Topics that are missing are made by the controller, which may be another broker by the time it is asked.

use super::answers::Broker;
use super::calls::NewTopic;
use super::cluster::{Cluster, FIRST_PATIENCE};
use super::error::KafkaError;
use super::session::{Session, Stream};
use crate::base::fatal::Fatal;
use crate::connect::peer::address;
use crate::wire::kafka::errors::UNKNOWN_TOPIC_OR_PARTITION;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(100);
/// A controller that cannot be reached has this long to come back: an address that leads nowhere never does.
const UNREACHED_PATIENCE: Duration = Duration::from_secs(2);

/// Whether batches fit into a topic that takes so many bytes of one.
pub type Fits<'a> = &'a dyn Fn(u64) -> Result<(), Fatal>;

/// What may help where a topic was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Help {
    Nothing,
    /// Or another controller.
    Time,
    /// This one cannot be reached.
    AnotherController,
}

impl<S: Stream> Cluster<S> {
    /// Makes a topic; false: it is there, also where this user may not make any. Tries again for up to `patience` where
    /// that may help. None is made of which `fits` says that it would not do.
    pub fn make_topic(
        &mut self,
        new: &NewTopic<'_>,
        fits: Option<Fits<'_>>,
        patience: Duration,
    ) -> Result<bool, Fatal> {
        let deadline = Instant::now() + patience;
        let mut controller = self.ask(Session::controller)?;
        let (mut tried, mut lost_since, mut is_told) = (BTreeSet::new(), None, false);
        loop {
            if tried.insert(controller.as_ref().map(|broker| broker.id)) {
                lost_since = None;
            }
            let began = Instant::now();
            let (fatal, until) = match self.try_to_make(new, fits, controller.as_ref()) {
                Ok(made) => return Ok(made),
                Err((fatal, Help::Nothing)) => return Err(fatal),
                Err((fatal, Help::Time)) => {
                    lost_since = None;
                    (fatal, deadline)
                }
                // What is there needs no controller, which this host may not reach.
                Err((_, Help::AnotherController)) if self.has(new.name).unwrap_or(false) => return Ok(false),
                Err((fatal, Help::AnotherController)) => {
                    let since = *lost_since.get_or_insert(began);
                    (fatal, deadline.min(since + UNREACHED_PATIENCE))
                }
            };
            if Instant::now() + PAUSE >= deadline {
                return Err(fatal);
            }
            if !std::mem::replace(&mut is_told, true) {
                tracing::info!("waiting for the controller: {}", fatal.what);
            }
            std::thread::sleep(PAUSE);
            // Where that fails, the one that we know is as good as any, until its time is over.
            if let Ok(found) = self.ask(Session::controller) {
                controller = found;
            }
            if Instant::now() >= until && tried.contains(&controller.as_ref().map(|broker| broker.id)) {
                return Err(fatal);
            }
        }
    }

    fn try_to_make(
        &mut self,
        new: &NewTopic<'_>,
        fits: Option<Fits<'_>>,
        controller: Option<&Broker>,
    ) -> Result<bool, (Fatal, Help)> {
        let (peer, made) = match controller {
            Some(broker) => {
                self.reach(broker, new.name).map_err(|fatal| (fatal, Help::AnotherController))?;
                if let Some(fits) = fits {
                    self.check_new(new.name, fits, broker).map_err(|fatal| (fatal, Help::Nothing))?;
                }
                let session = self.broker(broker).map_err(|fatal| (fatal, Help::AnotherController))?;
                (address(&broker.host, broker.port), session.create_topic(new, Some(broker.id)))
            }
            // What is no Apache Kafka may name none, and any broker will do.
            None => {
                let (peer, session) = self.entry().map_err(|fatal| (fatal, Help::Time))?;
                (peer.to_owned(), session.create_topic(new, None))
            }
        };
        let error = match made {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        if let Some(broker) = controller.filter(|_| error.breaks_connection()) {
            self.forget(broker.id);
        }
        if error.is_denied() && self.has(new.name).unwrap_or(false) {
            return Ok(false);
        }
        let help = if error.is_retriable() { Help::Time } else { Help::Nothing };
        Err((error.fatal(&peer), help))
    }

    /// Connects to the controller, which may lead nowhere from here: only a topic that is missing is worth all of the
    /// time that this may take.
    fn reach(&mut self, controller: &Broker, topic: &str) -> Result<(), Fatal> {
        let began = Instant::now();
        let Err(fatal) = self.broker_within(controller, FIRST_PATIENCE).map(drop) else { return Ok(()) };
        // Not before that: some brokers make a topic of whatever name they are asked about.
        if began.elapsed() <= FIRST_PATIENCE / 2 || self.has(topic).unwrap_or(false) {
            return Err(fatal);
        }
        self.broker(controller).map(drop)
    }

    /// No topic is made that would refuse the batches. One that is there may have a limit of its own.
    fn check_new(&mut self, topic: &str, fits: Fits<'_>, controller: &Broker) -> Result<(), Fatal> {
        let told = self.broker(controller)?.default_message_bytes_max(controller.id);
        if told.as_ref().is_err_and(KafkaError::breaks_connection) {
            self.forget(controller.id);
        }
        // Nobody says it, as to a user who may not ask for the settings of brokers.
        let Ok(Some(bytes)) = told else { return Ok(()) };
        fits(bytes).or_else(|fatal| if self.lacks(topic) { Err(fatal) } else { Ok(()) })
    }

    /// The brokers show such a topic to this user.
    ///
    /// # Errors
    /// No broker answers.
    pub fn has(&mut self, topic: &str) -> Result<bool, Fatal> {
        Ok(self.ask(|session| session.metadata(topic))?.error == 0)
    }

    /// The brokers say that they have no such topic.
    fn lacks(&mut self, topic: &str) -> bool {
        self.ask(|session| session.metadata(topic)).is_ok_and(|view| view.error == UNKNOWN_TOPIC_OR_PARTITION)
    }
}

#[cfg(test)]
mod tests {
    use super::super::awaited::Awaited;
    use super::super::cluster::Dial;
    use super::super::testing::{self, Asked, Fake, body, client};
    use super::*;
    use crate::base::fatal::Exit;
    use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
    use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
    use kafka_protocol::messages::{BrokerId, CreateTopicsRequest, CreateTopicsResponse, MetadataResponse};
    use kafka_protocol::protocol::StrBytes;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::sync::mpsc::{Receiver, channel};
    use std::sync::{Arc, Mutex};

    const SOON: Duration = Duration::from_secs(20);

    fn new(name: &str) -> NewTopic<'_> {
        NewTopic { name, partitions: 4, replicas: -1, settings: &[] }
    }

    fn answer(asked: &Asked, code: i16) -> Vec<u8> {
        let request: CreateTopicsRequest = asked.decode();
        let result = CreatableTopicResult::default().with_name(request.topics[0].name.clone()).with_error_code(code);
        body(&CreateTopicsResponse::default().with_topics(vec![result]), asked.version)
    }

    fn two_brokers(controller: i32, version: i16) -> Vec<u8> {
        let broker = |(id, host)| {
            let broker = MetadataResponseBroker::default().with_node_id(BrokerId(id)).with_port(9092);
            broker.with_host(StrBytes::from_static_str(host))
        };
        let brokers = [(1, "one"), (2, "two")].map(broker).to_vec();
        body(&MetadataResponse::default().with_brokers(brokers).with_controller_id(BrokerId(controller)), version)
    }

    #[test]
    fn the_controller_is_asked_wherever_it_has_moved() {
        let refusals = Arc::new(AtomicUsize::new(0));
        let refused = refusals.clone();
        let dial: Dial<Fake> = Box::new(move |host, _, _| {
            let (refused, is_two) = (refused.clone(), host == "two");
            Ok(Fake::new(move |asked| {
                let moved = refused.load(Relaxed) > 0;
                testing::versions(asked).or_else(|| match (asked.key, is_two) {
                    (3, _) => Some(two_brokers(if moved { 2 } else { 1 }, asked.version)),
                    (19, true) => Some(answer(asked, 0)),
                    (19, false) => {
                        refused.fetch_add(1, Relaxed);
                        Some(answer(asked, 41))
                    }
                    (other, _) => panic!("{other} was not to be asked"),
                })
            }))
        });
        let mut cluster = Cluster::new(vec![("boot".to_owned(), 1)], client(), dial);
        assert!(cluster.make_topic(&new("t"), None, SOON).unwrap());
        assert_eq!(refusals.load(Relaxed), 1);
    }

    #[test]
    fn a_look_for_the_controller_that_fails_is_not_the_end() {
        let (created, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (created.clone(), lost.clone());
        let dial: Dial<Fake> = Box::new(move |_, _, _| {
            let (created, lost) = counts.clone();
            Ok(Fake::new(move |asked| {
                testing::versions(asked).or_else(|| match asked.key {
                    // On the connection that is there, and on the one in its place.
                    3 if created.load(Relaxed) > 0 && lost.fetch_add(1, Relaxed) < 2 => None,
                    3 => Some(two_brokers(1, asked.version)),
                    _ => Some(answer(asked, if created.fetch_add(1, Relaxed) == 0 { 41 } else { 0 })),
                })
            }))
        });
        let mut cluster = Cluster::new(vec![("boot".to_owned(), 1)], client(), dial);
        assert!(cluster.make_topic(&new("t"), None, SOON).unwrap());
        assert_eq!((created.load(Relaxed), lost.load(Relaxed)), (2, 2));
    }

    /// Where "one" cannot be reached, which is the controller until so many dials have failed; and how many did.
    fn with_a_dead_controller(until: usize) -> (Cluster<Fake>, Arc<AtomicUsize>) {
        let failed = Arc::new(AtomicUsize::new(0));
        let dials = failed.clone();
        let dial: Dial<Fake> = Box::new(move |host, _, _| {
            if host == "one" {
                dials.fetch_add(1, Relaxed);
                return Err(Fatal::new(Exit::Unreachable, "Kafka broker one:9092 refused the connection"));
            }
            let dials = dials.clone();
            Ok(Fake::new(move |asked| {
                testing::versions(asked).or_else(|| match asked.key {
                    3 => Some(two_brokers(if dials.load(Relaxed) < until { 1 } else { 2 }, asked.version)),
                    _ => Some(answer(asked, 0)),
                })
            }))
        });
        (Cluster::new(vec![("boot".to_owned(), 1)], client(), dial), failed)
    }

    #[test]
    fn a_controller_that_cannot_be_reached_is_not_waited_for_long() {
        let (mut cluster, failed) = with_a_dead_controller(usize::MAX);
        let began = Instant::now();
        let fatal = cluster.make_topic(&new("t"), None, SOON).unwrap_err();
        assert!(began.elapsed() < SOON / 2 && failed.load(Relaxed) > 1, "{} dials", failed.load(Relaxed));
        assert!(fatal.what.contains("one:9092 refused") && fatal.what.contains("advertised.listeners"), "{fatal}");
        let (mut cluster, failed) = with_a_dead_controller(3);
        assert!(cluster.make_topic(&new("t"), None, SOON).unwrap(), "another one is the controller by then");
        assert_eq!(failed.load(Relaxed), 3);
    }

    /// As behind a firewall that drops what it does not let through: nothing comes from "one", the controller, until
    /// the time for it is over. How long each dial of it might take, and what was told of them.
    fn with_a_silent_controller(waits: &Awaited) -> (Cluster<Fake>, Receiver<(Duration, Option<String>)>) {
        let (dialed, patiences) = channel();
        let told = waits.clone();
        let dial: Dial<Fake> = Box::new(move |host, _, patience| {
            if host == "one" {
                dialed.send((patience, told.longer_than(Duration::ZERO))).unwrap();
                let (_sender, nothing) = channel::<()>();
                // A connect takes no more than three seconds in any case.
                let _timeout = nothing.recv_timeout(patience.min(UNREACHED_PATIENCE * 3 / 2));
                return Err(Fatal::new(Exit::Unreachable, "Kafka broker one:9092 does not answer"));
            }
            Ok(Fake::new(|asked| {
                testing::versions(asked).or_else(|| match asked.key {
                    3 => Some(testing::metadata("there", 3, asked.version)),
                    other => panic!("{other} was not to be asked"),
                })
            }))
        });
        let mut cluster = Cluster::new(vec![("boot".to_owned(), 1)], client(), dial);
        cluster.heard_by(waits);
        (cluster, patiences)
    }

    #[test]
    fn a_silent_controller_is_waited_for_once_and_only_for_a_topic_that_is_missing() {
        let waits = Awaited::default();
        let fits: Fits<'_> = &|_| panic!("nobody said how many bytes");
        for (topic, expected) in [("there", &[FIRST_PATIENCE][..]), ("missing", &[FIRST_PATIENCE, Duration::MAX])] {
            let (mut cluster, dials) = with_a_silent_controller(&waits);
            let made = cluster.make_topic(&new(topic), Some(fits), SOON);
            match topic {
                "there" => assert_eq!(made, Ok(false)),
                _ => assert!(made.as_ref().unwrap_err().what.starts_with("Kafka broker one:9092 does not"), "{made:?}"),
            }
            let (patiences, told): (Vec<_>, Vec<_>) = dials.try_iter().unzip();
            assert_eq!(patiences, expected, "{topic}");
            let connecting =
                |told: Option<String>| told.is_some_and(|told| told == "Kafka broker one:9092: connecting");
            assert!(told.into_iter().all(connecting), "{topic}");
        }
    }

    #[test]
    fn a_call_that_is_waited_for_is_told_with_its_broker() {
        let (waits, told) = (Awaited::default(), Arc::new(Mutex::new(None)));
        let heard = (waits.clone(), told.clone());
        let dial: Dial<Fake> = Box::new(move |_, _, _| {
            let (waits, told) = heard.clone();
            Ok(Fake::new(move |asked| {
                testing::versions(asked).or_else(|| match asked.key {
                    3 => Some(two_brokers(2, asked.version)),
                    _ => {
                        *told.lock().unwrap() = waits.longer_than(Duration::ZERO);
                        Some(answer(asked, 0))
                    }
                })
            }))
        });
        let mut cluster = Cluster::new(vec![("boot".to_owned(), 1)], client(), dial);
        cluster.heard_by(&waits);
        assert!(cluster.make_topic(&new("t"), None, SOON).unwrap());
        assert_eq!(told.lock().unwrap().as_deref(), Some("Kafka broker two:9092: creating the topic"));
    }

    #[test]
    fn who_may_make_no_topics_may_use_those_that_are_there() {
        let dial: Dial<Fake> = Box::new(|_, _, _| {
            Ok(Fake::new(|asked| {
                testing::versions(asked).or_else(|| match asked.key {
                    3 => Some(testing::metadata("there", 3, asked.version)),
                    _ => Some(answer(asked, 29)),
                })
            }))
        });
        let mut cluster = Cluster::new(vec![("boot".to_owned(), 1)], client(), dial);
        assert!(!cluster.make_topic(&new("there"), None, SOON).unwrap());
        let fatal = cluster.make_topic(&new("missing"), None, SOON).unwrap_err();
        assert!(fatal.what.contains("TOPIC_AUTHORIZATION_FAILED"), "{fatal}");
        assert!(fatal.mend.as_ref().is_some_and(|mend| mend.contains("--operation Create")), "{fatal}");
    }
}
