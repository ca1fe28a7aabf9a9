//! A broker that throttles, over a real connection; the clock is the test's.

use super::super::INBOX_BYTES;
use super::super::tests::manner;
use super::*;
use crate::payload::framing::Framing;
use crate::payload::stamper::Stamper;
use crate::payload::{Block, Starts};
use crate::sink::link::Area;
use crate::sys::blocking::Blocking;
use crate::sys::region::Region;
use crate::sys::ring::{Ring, Wait};
use crate::wire::kafka::codec::Codec;
use crate::wire::kafka::errors::UNFORESEEN;
use crate::wire::kafka::response::AnswerWriter;
use std::io::Write;
use std::net::{TcpListener, TcpStream};

const MILLISECOND: u64 = 1_000_000;
const LOOKS: u32 = 20_000;

struct Scene {
    ring: Blocking,
    part: Part,
    manner: Manner,
    payload: Payload,
    outbox: Outbox,
    broker: TcpStream,
}

/// Sent at 0.
fn request(correlation_id: i32) -> Request {
    Request {
        slot: correlation_id as u32,
        base_sequence: NO_SEQUENCE,
        timestamp_ms: 0,
        submitted_ns: 0,
        sent_ns: 0,
        correlation_id,
        attempts: 1,
        head: correlation_id as usize,
        stage: None,
        pieces: [0..0, 0..0],
        doubtful: false,
        left_ring: true,
        held: false,
        lent: false,
        fate: None,
        told: false,
    }
}

impl Scene {
    fn with_in_flight(requests: usize, request_timeout_ns: u64) -> Self {
        let manner = Manner { in_flight_max: requests, request_timeout_ns, ..manner() };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer_address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(peer_address).unwrap();
        let broker = listener.accept().unwrap().0;
        let mut ring = Blocking::new(Region::map(1 << 20).unwrap(), 8);
        let dialed = Dialed { stream, tls: None, peer_address, expires: None };
        let mut link = Link::open(&mut ring, (0, 0), dialed, Area::cut(0, INBOX_BYTES, false)).unwrap();
        link.listen(&mut ring);
        let heads_at = Area::bytes(INBOX_BYTES, false);
        let heads = heads_at..heads_at + (requests + 1) * manner.head_bytes();
        let mut part = Part::new(0, link, None, heads, &manner);
        part.requests.extend((0..requests as i32).map(request));
        part.sent = requests;
        let starts = Starts::Fixed { length: 4096, count: 1 };
        let payload = Payload::new(0, starts, Framing::None, Stamper::Nothing, 1);
        Self { ring, part, manner, payload, outbox: Outbox::new(Codec::None, Vec::new(), 0).unwrap(), broker }
    }

    fn answer(&mut self, (correlation_id, code): (i32, i16), throttle_time_ms: i32, now_ms: u64) -> Vec<Done> {
        let mut bytes = Vec::new();
        let mut answer = AnswerWriter::begin(&mut bytes, self.manner.version, correlation_id, 1);
        answer.topic(b"t", 1);
        answer.partition(0, code, 7);
        answer.end(throttle_time_ms);
        self.broker.write_all(&bytes).unwrap();
        let left = self.part.requests.len() - 1;
        let mut done = Vec::new();
        for _ in 0..LOOKS {
            self.ring.enter(Wait::ForNs(MILLISECOND)).unwrap();
            while let Some(completion) = self.ring.completion() {
                let event = self.part.link.complete(&mut self.ring, completion);
                let of_lane = OfLane { payload: &mut self.payload, manner: &self.manner, outbox: &mut self.outbox };
                let gone = self.part.on_event(&mut self.ring, of_lane, event, now_ms * MILLISECOND, &mut done);
                assert!(!gone, "the connection is gone");
            }
            if self.part.requests.len() == left {
                return done;
            }
        }
        panic!("the answer did not come");
    }

    /// After the partition's turn at that time.
    fn is_up_at(&mut self, now_ms: u64) -> bool {
        let of_lane = OfLane { payload: &mut self.payload, manner: &self.manner, outbox: &mut self.outbox };
        self.part.turn(&mut self.ring, of_lane, now_ms * MILLISECOND, &mut Vec::new());
        self.part.link.is_up()
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
    let wire = scene.part.take_wire();
    assert_eq!((wire.throttled_answers, wire.throttled_ms), (3, 500 + 700 + 1));
    assert_eq!(scene.part.take_wire(), Wire::default());
}

#[test]
fn a_leader_that_cannot_be_reached_ends_the_run_though_nothing_waits() {
    let mut scene = Scene::with_in_flight(1, 100 * MILLISECOND);
    scene.manner.delivery_timeout_ns = 5000 * MILLISECOND;
    scene.answer((0, 0), 0, 1);
    assert!(scene.is_up_at(9000) && scene.part.take_end().is_none(), "nothing waits for it while it is up");
    scene.part.link.break_off(&mut scene.ring, Breakage::Given(Field::ErrorTimeout));
    assert!(!scene.is_up_at(10_000) && !scene.is_up_at(15_000));
    assert_eq!(scene.part.take_end(), None);
    assert!(!scene.is_up_at(15_001));
    let why = scene.part.take_end().expect("its time is over");
    assert!(why.starts_with("t/0: there was no connection to the leader for 5 s\n  mend: "), "{why}");
}

#[test]
fn sequences_go_round_after_the_largest_number() {
    let Scene { mut ring, mut part, manner, .. } = Scene::with_in_flight(3, u64::MAX);
    part.requests.clear();
    part.sent = 0;
    part.next_sequence = i32::MAX - 1;
    let manner = Manner { identity: Some((1, 0)), ..manner };
    let starts = Starts::Fixed { length: 16, count: 100 };
    let mut payload = Payload::new(0, starts, Framing::None, Stamper::Nothing, 3);
    for records in [4, 3, 1] {
        let run = payload.run(1600, 1600, records).unwrap();
        let slot = payload.begin(ring.memory(), run, Block::default());
        part.push(&payload, slot, &manner, 0);
    }
    let sequences: Vec<i32> = part.requests.iter().map(|request| request.base_sequence).collect();
    assert_eq!(sequences, [i32::MAX - 1, 2, 5]);
}

#[test]
fn an_error_that_nobody_foresaw_is_a_doubt() {
    let mut scene = Scene::with_in_flight(2, 100 * MILLISECOND);
    let fates = |done: Vec<Done>| done.iter().map(|done| done.fate).collect::<Vec<_>>();
    assert_eq!(fates(scene.answer((0, UNFORESEEN), 0, 1)), [Fate::Uncertain(Field::ErrorBroker)]);
    assert_eq!(fates(scene.answer((1, 10), 0, 1)), [Fate::Failed(Field::ErrorBroker)], "MESSAGE_TOO_LARGE");
}
