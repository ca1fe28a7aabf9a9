//! Lanes that have sent nothing over connections that end, and what a lane says of its room.

use super::*;
use crate::connect::dialer::{Answer, LastUse, pair};
use crate::connect::tls::testing::{Setting, USUAL, connected, peer, plan, serve};
use crate::payload::framing::Framing;
use crate::payload::stamper::Stamper;
use crate::payload::{Block, Starts};
use crate::sys::region::Region;
use crate::sys::ring::Ring;
use crate::sys::syscalls::Syscalls;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

const REGION_BYTES: usize = 1 << 20;
const BLOCK_BYTES: u64 = 4096;
const LOOK_NS: u64 = 1_000_000;
const LOOKS: u32 = 20_000;

pub(super) fn options() -> Options {
    Options {
        prefix: ProducePrefix::new("test", "t", 1, 1000).unwrap(),
        version: 8,
        acks: 1,
        codec: Codec::None,
        identity: None,
        in_flight_max: 1,
        batch_bytes: BLOCK_BYTES + HEADER_BYTES as u64,
        records_max: 1,
        request_timeout_ns: u64::MAX,
        delivery_timeout_ns: u64::MAX,
        retry: RetryPlan { retries_max: 0, backoff_min_ns: 1, backoff_max_ns: 1 },
        seed: 1,
        topic: "t".into(),
        tls: true,
        lends: false,
    }
}

/// To a broker that is gone after the handshake.
fn dialed(setting: &Setting) -> Dialed {
    let (port, _broker) = serve(setting, |stream| stream.conn.complete_io(&mut stream.sock).is_ok());
    let (stream, session) = connected(port);
    Dialed { stream, tls: Some(session), peer_address: ([127, 0, 0, 1], port).into(), expires: None }
}

/// What the dialer hears of the first connection of a lane, and of the next one.
fn last_uses(setting: &Setting) -> [LastUse; 2] {
    let options = options();
    let staging = BLOCK_BYTES as usize..BLOCK_BYTES as usize + options.staging_bytes(1, BLOCK_BYTES) as usize;
    let (handle, clerk) = pair(1);
    let redials = Redials::new(handle, vec![Arc::new(peer(1, plan()))], 1);
    let setup = LaneSetup { options, partitions: vec![(0, dialed(setting))], staging, block_bytes: BLOCK_BYTES };
    let mut ring = Syscalls::new(Region::map(REGION_BYTES).unwrap(), 8);
    let mut sink = KafkaSink::open(&mut ring, vec![setup], redials).unwrap();
    let starts = Starts::Fixed { length: BLOCK_BYTES, count: 1 };
    let mut payloads = [Payload::new(0, starts, Framing::None, Stamper::Nothing, 1)];
    let mut first = None;
    for _ in 0..LOOKS {
        sink.submit(&mut ring, Wait::ForNs(LOOK_NS)).unwrap();
        sink.reap(&mut ring, &mut payloads, 1, &mut Vec::new());
        let Some(order) = clerk.order() else { continue };
        if let Some(first) = first {
            return [first, order.last_use];
        }
        first = Some(order.last_use);
        let (lane, connection) = (order.lane, order.connection);
        assert!(clerk.answer(Answer { lane, connection, dialed: Ok(Box::new(dialed(setting))) }).is_ok());
    }
    panic!("nobody noticed that the connection had ended");
}

#[test]
fn a_connection_that_ends_before_its_first_batch_is_replaced() {
    assert_eq!(last_uses(&USUAL), [LastUse::Unknown; 2]);
}

#[test]
fn an_alert_before_the_first_batch_is_not_the_handshakes() {
    let alert = LastUse::Alert { description: 116, used: true };
    assert_eq!(last_uses(&Setting { wants_client: true, ..USUAL }), [alert; 2]);
}

/// A turn that feeds every partition has work to do, however much is still due.
#[test]
fn several_partitions_are_full_only_once_nothing_more_may_be_in_flight() {
    const BLOCKS: u64 = 4;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer_address = listener.local_addr().unwrap();
    let dialed =
        || Dialed { stream: TcpStream::connect(peer_address).unwrap(), tls: None, peer_address, expires: None };
    for (in_flight_max, goes_on) in [(1, false), (2, true)] {
        let options = Options { acks: 0, in_flight_max, tls: false, ..options() };
        let start = (BLOCKS * BLOCK_BYTES) as usize;
        let staging = start..start + options.staging_bytes(2, BLOCK_BYTES) as usize;
        let (handle, _clerk) = pair(2);
        let redials = Redials::new(handle, vec![Arc::new(peer(1, plan()))], 2);
        let partitions = vec![(0, dialed()), (1, dialed())];
        let setup = LaneSetup { options, partitions, staging, block_bytes: BLOCK_BYTES };
        let mut ring = Syscalls::new(Region::map(REGION_BYTES).unwrap(), 16);
        let mut sink = KafkaSink::open(&mut ring, vec![setup], redials).unwrap();
        let starts = Starts::Fixed { length: BLOCK_BYTES, count: BLOCKS };
        let mut payload = Payload::new(0, starts, Framing::None, Stamper::Nothing, BLOCKS as usize);
        for _ in 0..2 {
            assert_eq!(sink.room(&mut ring, 0, BLOCK_BYTES), Room { bytes: BLOCK_BYTES, records: 1 });
            let extent = payload.extent(BLOCK_BYTES, BLOCK_BYTES, 1).unwrap();
            let slot = payload.begin(ring.memory(), extent, Block::default());
            sink.offer(&mut ring, 0, slot, &mut payload, false);
        }
        assert_eq!(sink.room(&mut ring, 0, BLOCK_BYTES), Room::NONE);
        let makes_room = |sink: &KafkaSink| Sink::<Syscalls>::submitting_makes_room(sink, 0);
        assert_eq!(makes_room(&sink), goes_on, "{in_flight_max} in flight");
        sink.submit(&mut ring, Wait::No).unwrap();
        assert!(!makes_room(&sink), "all was submitted");
    }
}
