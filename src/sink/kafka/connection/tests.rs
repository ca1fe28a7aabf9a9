//! A broker that throttles or refuses, over a real connection; the clock is the test's.

use super::super::tests::options;
use super::*;
use crate::payload::framing::Framing;
use crate::payload::stamper::Stamper;
use crate::payload::{Block, Starts};
use crate::plan::RetryPlan;
use crate::sink::link::{ANSWERS_INBOX_BYTES, Area};
use crate::sys::region::Region;
use crate::sys::ring::{Ring, Wait};
use crate::sys::syscalls::Syscalls;
use crate::wire::kafka::codec::Codec;
use crate::wire::kafka::errors::{OUT_OF_ORDER_SEQUENCE_NUMBER, REQUEST_TIMED_OUT, UNFORESEEN};
use crate::wire::kafka::response::AnswerWriter;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};

const MILLISECOND: u64 = 1_000_000;
const LOOKS: u32 = 20_000;
/// Again, but not in this test.
const RETRY: RetryPlan = RetryPlan { retries_max: 100, backoff_min_ns: 1 << 60, backoff_max_ns: 1 << 60 };

struct Scene {
    ring: Syscalls,
    connection: Connection,
    options: Options,
    payload: Payload,
    outbox: Outbox,
    errors: BrokerErrors,
    broker: TcpStream,
    attention: Attention,
}

/// Sent at 0.
fn delivery(correlation_id: i32) -> Delivery {
    Delivery {
        slot: correlation_id as u32,
        base_sequence: NO_SEQUENCE,
        timestamp_ms: 0,
        submitted_ns: 0,
        sent_ns: 0,
        correlation_id,
        attempts: 1,
        head: correlation_id as usize,
        buffer: None,
        pieces: [0..0, 0..0],
        doubtful: false,
        left_ring: true,
        held: false,
        lent: false,
        refused: false,
        fate: None,
        told: false,
    }
}

impl Scene {
    fn with_in_flight(deliveries: usize, request_timeout_ns: u64) -> Self {
        Self::of(Options { in_flight_max: deliveries, request_timeout_ns, ..options() })
    }

    fn of(options: Options) -> Self {
        let (deliveries, request_timeout_ns) = (options.in_flight_max, options.request_timeout_ns);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer_address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(peer_address).unwrap();
        let broker = listener.accept().unwrap().0;
        let mut ring = Syscalls::new(Region::map(1 << 20).unwrap(), 8);
        let dialed = Dialed { stream, tls: None, peer_address, expires: None };
        let mut link = Link::open(&mut ring, (0, 0), dialed, Area::cut(0, ANSWERS_INBOX_BYTES, false)).unwrap();
        link.listen(&mut ring);
        let heads_at = Area::bytes(ANSWERS_INBOX_BYTES, false);
        let heads = heads_at..heads_at + (deliveries + 1) * options.head_bytes();
        let mut connection = Connection::new(0, link, (peer_address, None), heads, &options);
        connection.deliveries.extend((0..deliveries as i32).map(delivery));
        connection.sent = deliveries;
        let starts = Starts::Fixed { length: 4096, count: 1 };
        let payload = Payload::new(0, starts, Framing::None, Stamper::Nothing, deliveries);
        let (outbox, errors) = (Outbox::new(Codec::None, Vec::new(), 0).unwrap(), BrokerErrors::default());
        let attention = Attention::from(0, request_timeout_ns);
        Self { ring, connection, options, payload, outbox, errors, broker, attention }
    }

    fn answer(&mut self, (correlation_id, code): (i32, i16), throttle_time_ms: i32, now_ms: u64) -> Vec<Done> {
        let mut bytes = Vec::new();
        let mut answer = AnswerWriter::begin(&mut bytes, self.options.version, correlation_id, 1);
        answer.topic(b"t", 1);
        answer.partition(0, code, 7);
        answer.end(throttle_time_ms);
        let left = self.connection.deliveries.len() - 1;
        self.hear(&bytes, now_ms, |connection| connection.deliveries.len() == left)
    }

    /// As `answer`, with words about a record; the batch may be sent again.
    fn refuse(&mut self, (correlation_id, code): (i32, i16), words: &str, now_ms: u64) {
        let mut bytes = Vec::new();
        let mut answer = AnswerWriter::begin(&mut bytes, self.options.version, correlation_id, 1);
        answer.topic(b"t", 1);
        answer.partition(0, code, -1);
        answer.end(0);
        // In place of none: an error of record 0, no other message, no throttling.
        bytes.truncate(bytes.len() - 10);
        bytes.extend([1_i32.to_be_bytes(), 0_i32.to_be_bytes()].concat());
        bytes.extend((words.len() as i16).to_be_bytes());
        bytes.extend(words.as_bytes());
        bytes.extend([&(-1_i16).to_be_bytes()[..], &0_i32.to_be_bytes()].concat());
        let size = (bytes.len() - 4) as i32;
        bytes[..4].copy_from_slice(&size.to_be_bytes());
        let slot = correlation_id as u32;
        self.hear(&bytes, now_ms, |connection| connection.deliveries.iter().all(|own| own.slot != slot || own.refused));
    }

    /// Until that is so.
    fn hear(&mut self, bytes: &[u8], now_ms: u64, is_heard: impl Fn(&Connection) -> bool) -> Vec<Done> {
        self.broker.write_all(bytes).unwrap();
        self.pass_until(now_ms);
        let mut done = Vec::new();
        for _ in 0..LOOKS {
            self.ring.enter(Wait::ForNs(MILLISECOND)).unwrap();
            while let Some(completion) = self.ring.completion() {
                let event = self.connection.link.complete(&mut self.ring, completion);
                let of_lane = OfLane {
                    payload: &mut self.payload,
                    options: &self.options,
                    outbox: &mut self.outbox,
                    errors: &mut self.errors,
                };
                let gone = self.connection.on_event(&mut self.ring, of_lane, event, self.attention, &mut done);
                assert!(!gone, "the connection is gone");
            }
            if is_heard(&self.connection) {
                return done;
            }
        }
        panic!("the answer did not come");
    }

    /// Time passes, and the loop goes round.
    fn pass_until(&mut self, now_ms: u64) {
        let from_ms = self.attention.now_ns() / MILLISECOND;
        (from_ms..=now_ms).for_each(|at_ms| {
            self.attention.look(at_ms * MILLISECOND);
        });
    }

    /// After a look at that time.
    fn is_up_at(&mut self, now_ms: u64) -> bool {
        self.pass_until(now_ms);
        self.is_up()
    }

    /// The same without any before it.
    fn is_up_after_an_absence(&mut self, now_ms: u64) -> bool {
        assert!(self.attention.look(now_ms * MILLISECOND));
        self.is_up()
    }

    fn is_up(&mut self) -> bool {
        let of_lane = OfLane {
            payload: &mut self.payload,
            options: &self.options,
            outbox: &mut self.outbox,
            errors: &mut self.errors,
        };
        self.connection.check_time(&mut self.ring, of_lane, self.attention, &mut Vec::new());
        self.connection.link.is_up()
    }
}

#[test]
fn silence_that_a_broker_announced_is_no_timeout() {
    let mut scene = Scene::with_in_flight(4, 100 * MILLISECOND);
    assert!(scene.is_up_at(100));
    scene.answer((0, 0), 500, 100);
    assert!(scene.is_up_at(700), "silent until 600, and then it has the whole timeout");
    // A broker that reads on while it is silent takes nothing back.
    scene.answer((1, 0), 700, 700);
    scene.answer((2, 0), 1, 700);
    assert!(scene.is_up_at(1500));
    assert!(!scene.is_up_at(1501), "a broker that does not speak up then is gone");
    let wire = scene.connection.take_wire();
    assert_eq!((wire.throttled_answers, wire.throttled_ms), (3, 500 + 700 + 1));
    assert_eq!(scene.connection.take_wire(), Wire::default());
}

/// Before Kafka 2.0 (Produce 6) a broker holds its answer back.
#[test]
fn what_a_broker_has_waited_for_itself_is_not_waited_for_again() {
    for (version, waits) in [(5, false), (6, true)] {
        let mut scene =
            Scene::of(Options { version, in_flight_max: 2, request_timeout_ns: 100 * MILLISECOND, ..options() });
        scene.answer((0, 0), 500, 100);
        let wire = scene.connection.take_wire();
        assert_eq!((wire.throttled_answers, wire.throttled_ms), (1, 500), "it is told all the same");
        assert_eq!(scene.connection.may_send(scene.attention.now_ns()), !waits, "version {version}");
        assert_eq!(scene.is_up_at(201), waits, "version {version}: the other batch is late");
    }
}

#[test]
fn a_new_leader_is_not_left_alone_for_what_the_old_one_asked() {
    for is_new in [false, true] {
        let mut scene = Scene::with_in_flight(2, 100_000 * MILLISECOND);
        (scene.options.identity, scene.options.retry) = (Some((1, 0)), RETRY);
        let old = scene.connection.peer_address;
        scene.answer((0, 0), 20_000, 100);
        let Scene { ring, connection, attention, .. } = &mut scene;
        assert!(!connection.may_send(attention.now_ns()) && connection.silent_until_ns > 0);
        connection.link.break_off(ring, Breakage::Closed);
        for _ in 0..LOOKS {
            if connection.link.is_down() {
                break;
            }
            ring.enter(Wait::ForNs(MILLISECOND)).unwrap();
            while let Some(completion) = ring.completion() {
                connection.link.complete(ring, completion);
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let stream = TcpStream::connect(there).unwrap();
        let peer_address = if is_new { there } else { old };
        connection.reopen(ring, Dialed { stream, tls: None, peer_address, expires: None }).unwrap();
        assert_eq!(connection.may_send(attention.now_ns()), is_new);
        assert_eq!(connection.silent_until_ns, 0, "a new connection is heard");
    }
}

#[test]
fn a_leader_that_cannot_be_reached_ends_the_run_though_nothing_waits() {
    let mut scene = Scene::with_in_flight(1, 100 * MILLISECOND);
    scene.options.delivery_timeout_ns = 5000 * MILLISECOND;
    scene.answer((0, 0), 0, 1);
    assert!(scene.is_up_at(9000) && scene.connection.take_end().is_none(), "nothing waits for it while it is up");
    scene.connection.link.break_off(&mut scene.ring, Breakage::Given(Field::ErrorTimeout));
    assert!(!scene.is_up_at(10_000) && !scene.is_up_at(15_000));
    assert_eq!(scene.connection.take_end(), None);
    assert!(!scene.is_up_at(15_001));
    let why = scene.connection.take_end().expect("its time is over");
    assert!(why.starts_with("t/0: there was no connection to the leader for 5 s\n  mend: "), "{why}");
}

#[test]
fn sequences_go_round_after_the_largest_number() {
    let Scene { mut ring, mut connection, options, .. } = Scene::with_in_flight(3, u64::MAX);
    connection.deliveries.clear();
    connection.sent = 0;
    connection.next_sequence = i32::MAX - 1;
    let options = Options { identity: Some((1, 0)), ..options };
    let starts = Starts::Fixed { length: 16, count: 100 };
    let mut payload = Payload::new(0, starts, Framing::None, Stamper::Nothing, 3);
    for records in [4, 3, 1] {
        let extent = payload.extent(1600, 1600, records).unwrap();
        let slot = payload.begin(ring.memory(), extent, Block::default());
        connection.push(&payload, slot, &options, 0);
    }
    let sequences: Vec<i32> = connection.deliveries.iter().map(|delivery| delivery.base_sequence).collect();
    assert_eq!(sequences, [i32::MAX - 1, 2, 5]);
}

#[test]
fn an_error_that_nobody_foresaw_is_a_doubt() {
    let mut scene = Scene::with_in_flight(2, 100 * MILLISECOND);
    let fates = |done: Vec<Done>| done.iter().map(|done| done.fate).collect::<Vec<_>>();
    assert_eq!(fates(scene.answer((0, UNFORESEEN), 0, 1)), [Fate::Uncertain(Field::ErrorBroker)]);
    assert_eq!(fates(scene.answer((1, 10), 0, 1)), [Fate::Failed(Field::ErrorBroker)], "MESSAGE_TOO_LARGE");
}

#[test]
fn what_was_refused_to_the_end_is_no_timeout() {
    let mut scene = Scene::with_in_flight(3, u64::MAX);
    (scene.options.identity, scene.options.retry) = (Some((1, 0)), RETRY);
    let left = |scene: &Scene| scene.connection.leftovers().map(|(_, fate)| fate).collect::<Vec<_>>();
    let (refused, silent) = (Fate::Failed(Field::ErrorBroker), Fate::Uncertain(Field::ErrorTimeout));
    assert_eq!(left(&scene), [silent; 3]);
    scene.refuse((0, 19), "", 1);
    assert_eq!(left(&scene), [refused, silent, silent], "the others are not answered");
    scene.refuse((1, OUT_OF_ORDER_SEQUENCE_NUMBER), "", 2);
    assert_eq!(scene.connection.last_refusal.map(|refusal| refusal.code), Some(19), "why it is out of order");
    scene.refuse((2, REQUEST_TIMED_OUT), "", 3);
    assert_eq!(left(&scene), [refused, refused, Fate::Uncertain(Field::ErrorBroker)]);
    // One that waits behind them.
    scene.connection.deliveries.push_back(Delivery { attempts: 0, ..delivery(3) });
    assert_eq!(left(&scene)[3], refused);
    scene.connection.last_refusal = None;
    assert_eq!(left(&scene)[3], Fate::Failed(Field::ErrorTimeout));
    let counted = scene.errors.by_code();
    let all = BTreeMap::from([(7, 1), (19, 1), (OUT_OF_ORDER_SEQUENCE_NUMBER, 1)]);
    assert!(counted.warm.is_empty() && counted.measured == all, "{counted:?}");
    assert_eq!(scene.errors.first().iter().map(|refusal| refusal.code).collect::<Vec<_>>(), [19, 7]);
}

#[test]
fn what_was_lost_after_a_refusal_is_in_doubt() {
    let mut scene = Scene::with_in_flight(2, u64::MAX);
    (scene.options.identity, scene.options.retry) = (Some((1, 0)), RETRY);
    // Refused once, and sent again.
    scene.connection.deliveries[1].refused = true;
    scene.refuse((0, 19), "", 1);
    let Scene { ring, connection, options, payload, outbox, errors, .. } = &mut scene;
    let lost = Event::Broken { why: Breakage::Given(Field::ErrorTimeout), unsent: None };
    assert!(connection.on_ended(ring, OfLane { payload, options, outbox, errors }, lost, &mut Vec::new()));
    let left: Vec<_> = connection.leftovers().map(|(_, fate)| fate).collect();
    assert_eq!(left, [Fate::Failed(Field::ErrorBroker), Fate::Uncertain(Field::ErrorTimeout)]);
    assert!(connection.last_refusal.is_none(), "the silence came after it");
}

#[test]
fn a_delivery_that_takes_too_long_names_the_last_answer() {
    let end = |refused: bool| {
        let mut scene = Scene::with_in_flight(1, u64::MAX);
        scene.options.delivery_timeout_ns = 5000 * MILLISECOND;
        scene.options.retry = RETRY;
        if refused {
            scene.refuse((0, 19), "two are missing\n", 1);
        }
        scene.is_up_at(5000);
        assert_eq!(scene.connection.take_end(), None);
        scene.is_up_at(5001);
        scene.connection.take_end().expect("its time is over")
    };
    let why = end(true);
    let told = "within 5 s; the broker's last answer was NOT_ENOUGH_REPLICAS (19): \"two are missing\\n\"\n";
    assert!(why.contains(told) && why.contains("mend: ") && why.contains("min.insync.replicas"), "{why}");
    // As where the broker is gone since.
    let mut scene = Scene::with_in_flight(1, u64::MAX);
    (scene.options.delivery_timeout_ns, scene.options.retry) = (5000 * MILLISECOND, RETRY);
    scene.refuse((0, 19), "", 1);
    scene.connection.down_from_ns = 2000 * MILLISECOND;
    scene.pass_until(5001);
    let Scene { ring, connection, options, attention, .. } = &mut scene;
    connection.link.break_off(ring, Breakage::Closed);
    connection.check_delivery(options, *attention);
    let why = connection.take_end().expect("its time is over");
    let told =
        "NOT_ENOUGH_REPLICAS (19); for 3 s there has been no connection to the leader\n  mend: look at the broker";
    assert!(why.contains(told), "{why}");
    let why = end(false);
    assert!(why.ends_with("within 5 s\n  mend: look at the broker, or raise delivery.timeout.ms"), "{why}");
}

#[test]
fn what_ends_the_run_is_told_in_the_brokers_words() {
    let mut scene = Scene::with_in_flight(1, u64::MAX);
    scene.refuse((0, 87), "Compacted topic cannot accept message without key", 1);
    let why = scene.connection.take_end().expect("nothing helps");
    let told = "t/0: the broker answered INVALID_RECORD (87): \"Compacted topic cannot accept message without key\"\n";
    assert!(why.starts_with(told), "{why}");
    assert_eq!(scene.errors.first()[0].code, 87);
}

#[test]
fn an_absence_is_not_the_brokers() {
    let mut scene = Scene::with_in_flight(1, 30_000 * MILLISECOND);
    assert!(scene.is_up_at(1000));
    assert!(scene.is_up_after_an_absence(60_000), "it counts as a second");
    assert!(scene.is_up_at(88_000) && !scene.is_up_at(88_001));
}

/// The delivery timeout is by the clock, as with other clients of Kafka, but what came in time counts.
#[test]
fn what_came_during_an_absence_is_heard_before_a_delivery_is_late() {
    let late = |answered: bool| {
        let mut scene = Scene::with_in_flight(1, u64::MAX);
        scene.options.delivery_timeout_ns = 120_000 * MILLISECOND;
        assert!(scene.is_up_at(1000) && scene.is_up_after_an_absence(131_000) && scene.is_up_at(131_999));
        assert_eq!(scene.connection.take_end(), None);
        if answered {
            assert_eq!(scene.answer((0, 0), 0, 131_999).len(), 1);
        }
        assert!(scene.is_up_at(132_000));
        scene.connection.take_end()
    };
    assert_eq!(late(true), None);
    assert!(late(false).is_some_and(|why| why.contains("was not delivered within 132 s")));
}
