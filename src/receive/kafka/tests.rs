use super::*;
use crate::config::receive::faults::parse;
use crate::connect::kafka::testing;
use crate::plan::receive::{BrokerPlan, Protocol as Scheme};
use crate::receive::books::Books;
use crate::receive::faults::Faults;
use crate::verify::live::Live;
use crate::wire::crc32c;
use crate::wire::kafka::response::{ProduceAnswer, Split};
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::time::Instant;

/// A broker with one connection, driven by the test.
struct Rig {
    kafka: Kafka,
    connection: Option<KafkaConnection>,
    server: TcpStream,
    client: TcpStream,
    bench: Bench,
    ended: Option<Closed>,
}

impl Rig {
    fn new(checks: Checks, faults: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        client.set_nonblocking(true).unwrap();
        let plan = BrokerPlan { advertise: None, topic_partitions: 2 };
        let live = (checks != Checks::Nothing).then(|| Arc::new(Mutex::new(Live::new(None))));
        let plan_of_faults = if faults.is_empty() { Default::default() } else { parse(faults, Scheme::Kafka).unwrap() };
        let mut bench = Bench {
            buffer: vec![0; limits::RECEIVE_READ_BYTES],
            books: Books::new(plan_of_faults.items.len()),
            faults: Faults::new(&plan_of_faults).map(Arc::new),
            checks_all: false,
            judge: None,
            origin: Instant::now(),
            taken: Arc::default(),
        };
        let mut kafka = Kafka::new(Broker::new(plan, checks, live, None));
        let connection = Some(kafka.open(&String::new, &mut bench));
        Self { kafka, connection, server, client, bench, ended: None }
    }

    fn turn(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        if let Turn::Closed(how) = self.kafka.turn(&self.server, connection, &mut self.bench) {
            let connection = self.connection.take().unwrap();
            self.kafka.close(connection, how, &mut self.bench);
            self.ended = Some(how);
        }
    }

    /// Sends everything in such pieces, and looks after each of them.
    fn send(&mut self, bytes: &[u8], piece: usize) {
        for part in bytes.chunks(piece) {
            let mut left = part;
            while !left.is_empty() && self.connection.is_some() {
                match self.client.write(left) {
                    Ok(sent) => left = &left[sent..],
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                self.turn();
            }
        }
    }

    /// The codes and offsets of so many answers.
    fn answers(&mut self, count: usize) -> Vec<(i32, i16, i64)> {
        let (mut bytes, mut all) = (Vec::new(), Vec::new());
        for _ in 0..10_000_000 {
            if all.len() >= count {
                break;
            }
            self.turn();
            let mut buffer = [0; 4096];
            if let Ok(got @ 1..) = self.client.read(&mut buffer) {
                bytes.extend_from_slice(&buffer[..got]);
            }
            while let Split::Frame { frame, used } = Frames::new(1 << 20).split(&bytes).unwrap() {
                let answer = ProduceAnswer::parse(frame, 8).unwrap();
                all.extend(answer.partitions().map(|one| (answer.correlation_id, one.error_code, one.base_offset)));
                bytes.drain(..used);
            }
        }
        assert_eq!((all.len(), bytes.len()), (count, 0));
        all
    }

    /// Turns until the broker has ended the connection.
    fn end(&mut self) -> Closed {
        for _ in 0..10_000_000 {
            self.turn();
            if let Some(how) = self.ended {
                return how;
            }
        }
        panic!("the connection stays");
    }
}

/// A batch of two records; of an idempotent producer where a sequence is given.
fn batch(sequence: Option<i32>, bytes: usize) -> Vec<u8> {
    batch_of(5, sequence, bytes)
}

fn batch_of(producer_id: i64, sequence: Option<i32>, bytes: usize) -> Vec<u8> {
    let mut batch = testing::batch(0, &[(vec![7; bytes], vec![]), (vec![8; 3], vec![])], 1);
    if let Some(sequence) = sequence {
        batch[43..51].copy_from_slice(&producer_id.to_be_bytes());
        batch[51..53].copy_from_slice(&0_i16.to_be_bytes());
        batch[53..57].copy_from_slice(&sequence.to_be_bytes());
        let crc = crc32c::checksum(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    batch
}

/// A topic, and the records for some of its partitions.
type Named<'a> = (&'a str, Vec<(i32, Vec<u8>)>);

fn request(correlation_id: i32, acks: i16, topics: &[Named<'_>]) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 8];
    out.extend(correlation_id.to_be_bytes());
    out.extend([0, 1, b'c', 0xff, 0xff]);
    out.extend(acks.to_be_bytes());
    out.extend(1000_i32.to_be_bytes());
    out.extend((topics.len() as i32).to_be_bytes());
    for (name, partitions) in topics {
        out.extend((name.len() as i16).to_be_bytes());
        out.extend(name.as_bytes());
        out.extend((partitions.len() as i32).to_be_bytes());
        for (index, records) in partitions {
            out.extend(index.to_be_bytes());
            out.extend((records.len() as i32).to_be_bytes());
            out.extend(records);
        }
    }
    [(out.len() as u32).to_be_bytes().to_vec(), out].concat()
}

fn one(correlation_id: i32, batch: Vec<u8>) -> Vec<u8> {
    request(correlation_id, 1, &[("t", vec![(0, batch)])])
}

#[test]
fn requests_cut_anywhere_are_the_same() {
    let large = batch(None, 200_000);
    let requests = [
        one(1, batch(None, 10)),
        request(2, 1, &[("t", vec![(0, batch(None, 1)), (1, batch(None, 500))]), ("u", vec![(1, large.clone())])]),
        one(3, large.clone()),
        one(4, large),
        request(5, 1, &[]),
        one(6, batch(None, 10)),
    ];
    let all = requests.concat();
    let expected = [(1, 0, 0), (2, 0, 2), (2, 0, 0), (2, 0, 0), (3, 0, 4), (4, 0, 6), (6, 0, 8)];
    for checks in [Checks::Nothing, Checks::Every(2), Checks::All] {
        for piece in [all.len(), 70_000, 4096, 61, 7] {
            let mut rig = Rig::new(checks, "");
            rig.send(&all, piece);
            assert_eq!(rig.answers(expected.len()), expected, "{checks:?} in pieces of {piece}");
            let books = &rig.bench.books;
            assert_eq!((books.requests, books.kafka.batches, books.kafka.records), (6, 7, 14));
            assert_eq!(books.wire_bytes, all.len() as u64);
            let sizes = [10, 1, 500, 200_000, 200_000, 200_000, 10];
            assert_eq!(books.bytes, sizes.map(|bytes| batch(None, bytes).len() as u64).iter().sum::<u64>());
            let checked = match checks {
                Checks::Nothing => 0,
                Checks::Every(_) => 4,
                Checks::All => 7,
            };
            assert_eq!(books.kafka.batches_checked, checked);
        }
    }
}

#[test]
fn what_a_client_asks_beside_is_no_data() {
    // ApiVersions 0, without a client's name.
    let asks: &[u8] = &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    let whole = one(1, batch(None, 10));
    for piece in [1000, 13, 3] {
        let mut rig = Rig::new(Checks::Nothing, "");
        let send = |rig: &mut Rig, bytes: &[u8]| {
            let all = rig.bench.books.wire_bytes + bytes.len() as u64;
            rig.send(bytes, piece);
            while rig.bench.books.wire_bytes < all {
                rig.turn();
            }
        };
        send(&mut rig, &[asks, asks].concat());
        let books = &rig.bench.books;
        let found = (books.kafka.control_requests, books.wire_bytes, books.data_bytes());
        assert_eq!(found, (2, 2 * asks.len() as u64, 0), "in pieces of {piece}");
        send(&mut rig, &[&whole[..], asks].concat());
        assert_eq!(rig.bench.books.data_bytes(), whole.len() as u64, "in pieces of {piece}");
    }
}

#[test]
fn what_no_broker_takes_is_refused() {
    let sound = batch(None, 50);
    let changed = |at: usize, byte: u8| {
        let mut bytes = sound.clone();
        bytes[at] ^= byte;
        bytes
    };
    let doubled = [sound.clone(), sound.clone()].concat();
    for (bytes, all, discarding) in [
        (vec![], 87, 87),
        (sound[..30].to_vec(), 87, 87),
        (doubled, 87, 87),
        // The format; the count of records; a byte of a record.
        (changed(16, 3), 43, 43),
        (changed(60, 1), 87, 87),
        (changed(80, 1), 2, 0),
    ] {
        for (checks, code) in [(Checks::All, all), (Checks::Nothing, discarding)] {
            let mut rig = Rig::new(checks, "");
            rig.send(&one(1, bytes.clone()), 1000);
            assert_eq!(rig.answers(1)[0].1, code, "{checks:?} {bytes:?}");
            let (books, refused) = (&rig.bench.books, u64::from(code != 0));
            let found = (books.kafka.batches_refused, books.requests_refused, books.requests);
            assert_eq!(found, (refused, refused, 1 - refused), "{checks:?} {bytes:?}");
            assert_eq!(books.bytes, (1 - refused) * bytes.len() as u64, "what was refused is not received");
        }
    }
    let mut rig = Rig::new(Checks::Nothing, "");
    rig.send(&request(1, 5, &[("t", vec![(0, sound.clone())])]), 1000);
    rig.send(&request(2, -1, &[("t", vec![(2, sound.clone())])]), 1000);
    assert_eq!(rig.answers(2).iter().map(|one| one.1).collect::<Vec<_>>(), [21, 3]);
}

#[test]
fn without_an_answer_an_end_tells_of_an_error() {
    let mut rig = Rig::new(Checks::Nothing, "");
    let quiet = |batch| request(9, 0, &[("t", vec![(0, batch)])]);
    rig.send(&[quiet(batch(None, 5)), quiet(batch(None, 5)), one(1, batch(None, 5))].concat(), 100);
    assert_eq!(rig.answers(1), [(1, 0, 4)]);
    rig.send(&quiet(vec![1, 2, 3]), 100);
    assert_eq!(rig.end(), Closed::AsAnswered);
}

#[test]
fn hostile_bytes_end_the_connection_without_much_memory() {
    let produce = |body: &[u8], size: i32| {
        [&size.to_be_bytes()[..], &[0, 0, 0, 8, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0, 1], body].concat()
    };
    for bytes in [
        vec![0xff; 4],
        vec![0, 0, 0, 1],
        vec![0x7f, 0xff, 0xff, 0xff],
        // An unknown request; one that is too long for anything but Produce.
        vec![0, 0, 0, 10, 0, 99, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        [&(2_i32 << 20).to_be_bytes()[..], &[0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff]].concat(),
        produce(&[0xff; 8], 26),
        produce(&[0x7f, 0xff, 0xff, 0xff], 22),
        produce(&[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0x7f, 0, 0, 0], 1000),
        produce(&[0, 0, 0, 1, 0, 1, b'*', 0, 0, 0, 0], 29),
        produce(&[0, 0, 0, 0, 1, 2, 3], 25),
    ] {
        let mut rig = Rig::new(Checks::All, "");
        rig.send(&bytes, 3);
        assert_eq!(rig.end(), Closed::AsAnswered, "{bytes:?}");
        assert_eq!(rig.bench.books.requests_malformed, 1);
    }
    // What is only announced takes no memory.
    let mut rig = Rig::new(Checks::All, "");
    let (mut whole, kept) = (one(1, batch(None, 50 << 20)), 1000);
    whole.truncate(kept);
    rig.send(&whole, 500);
    assert!(rig.connection.as_ref().unwrap().body.len() <= BODY_BYTES);
}

#[test]
fn a_batch_that_comes_again_is_known() {
    for checks in [Checks::Nothing, Checks::All] {
        let mut rig = Rig::new(checks, "");
        let sequences = [0, 2, 0, 6, 4, 2];
        for (id, sequence) in (0..).zip(sequences) {
            rig.send(&one(id, batch(Some(sequence), 40)), 100);
        }
        let expected = [(0, 0, 0), (1, 0, 2), (2, 0, 0), (3, 45, -1), (4, 0, 4), (5, 0, 2)];
        assert_eq!(rig.answers(6), expected);
        let kafka = rig.bench.books.kafka;
        assert_eq!((kafka.records, kafka.batches_doubled, kafka.batches_refused), (6, 2, 1));
        assert_eq!(rig.bench.books.bytes, 3 * batch(None, 40).len() as u64, "each of them once");
        assert_eq!((rig.bench.books.requests, rig.bench.books.requests_refused), (5, 1));
    }
}

#[test]
fn only_producers_of_a_broker_before_it_begin_anywhere() {
    let mut rig = Rig::new(Checks::All, "");
    let ours = rig.kafka.broker.next_producer_id();
    for (id, (producer_id, sequence)) in (0..).zip([(ours - 1, 70), (ours - 1, 74), (ours, 2), (ours, 0)]) {
        rig.send(&one(id, batch_of(producer_id, Some(sequence), 40)), 1000);
    }
    assert_eq!(rig.answers(4), [(0, 0, 0), (1, 45, -1), (2, 45, -1), (3, 0, 2)]);
}

#[test]
fn faults_count_when_they_strike_and_a_delay_comes_before_the_end() {
    const DELAY_MS: u128 = 20;
    let mut rig = Rig::new(Checks::Nothing, "reset:100%,delay=20ms:100%");
    let whole = one(1, batch(None, 100));
    let (first, last) = whole.split_at(whole.len() - 1);
    rig.send(first, first.len());
    assert_eq!(rig.bench.books.faults, [0, 0], "it may be cut off");
    let began = Instant::now();
    rig.send(last, 1);
    assert_eq!(rig.end(), Closed::ByReset);
    assert!(began.elapsed().as_millis() >= DELAY_MS, "{:?}", began.elapsed());
    assert_eq!(rig.bench.books.faults, [1, 1]);
}

#[test]
fn faults_strike_before_or_after_the_records_are_taken() {
    for (fault, sequence, records, uncertain) in [
        ("error=6:100%", Some(0), 0, 0),
        ("error=7:100%", Some(0), 2, 0),
        ("error=7:100%", None, 0, 2),
        ("lose_answer:100%", Some(0), 2, 0),
        ("lose_answer:100%", None, 0, 2),
        ("reset:100%", Some(0), 0, 0),
        ("reset:100%", None, 0, 2),
        ("delay=1ms:100%", None, 2, 0),
    ] {
        for checks in [Checks::Nothing, Checks::All] {
            let mut rig = Rig::new(checks, fault);
            rig.send(&one(1, batch(sequence, 40)), 1000);
            match fault {
                "error=6:100%" => assert_eq!(rig.answers(1), [(1, 6, -1)]),
                "error=7:100%" => assert_eq!(rig.answers(1), [(1, 7, -1)]),
                "delay=1ms:100%" => assert_eq!(rig.answers(1), [(1, 0, 0)]),
                "reset:100%" => assert_eq!(rig.end(), Closed::ByReset),
                _ => assert_eq!(rig.end(), Closed::AsAnswered),
            }
            let books = &rig.bench.books;
            let found = (books.kafka.records, books.kafka.records_uncertain, books.faults[0]);
            assert_eq!(found, (records, uncertain, 1), "{fault} {sequence:?}");
            let taken = if records > 0 { batch(sequence, 40).len() as u64 } else { 0 };
            let requests = [books.requests, books.requests_refused, books.requests_uncertain];
            let apart = match fault.split_once(['=', ':']) {
                Some(("error", _)) => [0, 1, 0],
                Some(("delay", _)) => [1, 0, 0],
                _ => [0, 0, 1],
            };
            assert_eq!((books.bytes, requests), (taken, apart), "{fault} {sequence:?}");
        }
    }
}
