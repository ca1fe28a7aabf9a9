//! What the dialer hears of a connection that its server closes, and a server that reads slowly.

use super::*;
use crate::connect::dialer::{LastUse, pair};
use crate::payload::framing::Framing;
use crate::payload::stamper::Stamper;
use crate::payload::{Block, Starts};
use crate::sink::Fate;
use crate::sys::region::Region;
use crate::sys::ring::Ring;
use crate::sys::syscalls::Syscalls;
use crate::wire::http::HeadFacts;
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

const BLOCK_BYTES: u64 = 4096;
const LOOK_NS: u64 = 1_000_000;
const LOOKS: u32 = 20_000;

fn options(request_timeout_ns: u64) -> Options {
    let facts = HeadFacts { producer_id: 0, stamped: false, weighted: false, counted: false, run_id: None };
    Options {
        head: RequestHead::new("POST", "/", "t", &[], facts),
        records_per_request: 1,
        pipeline: 1,
        summed: false,
        tls: false,
        refused_by: None,
        request_timeout_ns,
        retry: RetryPlan { retries_max: 0, backoff_min_ns: 1, backoff_max_ns: 1 },
        renews: false,
        seed: 1,
    }
}

/// `says`: what the server sends before it closes, whatever it was asked.
fn last_use_of_closed(is_asked: bool, says: &str) -> LastUse {
    let options = options(u64::MAX);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer_address = listener.local_addr().unwrap();
    let stream = TcpStream::connect(peer_address).unwrap();
    let mut server = listener.accept().unwrap().0;
    let dialed = vec![Dialed { stream, tls: None, peer_address, expires: None }];
    let (handle, clerk) = pair(1);
    let redials = Redials::new(handle, vec![Arc::new(crate::plan::testing::peer("127.0.0.1", 1))], 1);
    let start = BLOCK_BYTES as usize;
    let staging = start..start + options.staging_bytes(1, BLOCK_BYTES) as usize;
    let setup = LaneSetup { options, lends: false, dialed, staging, block_bytes: BLOCK_BYTES, window: 1 };
    let mut ring = Syscalls::new(Region::map(1 << 20).unwrap(), 8);
    let mut sink = HttpSink::open(&mut ring, vec![setup], redials).unwrap();
    let starts = Starts::Fixed { length: BLOCK_BYTES, count: 1 };
    let mut payloads = [Payload::new(0, starts, Framing::None, Stamper::Nothing, 1)];
    if is_asked {
        assert_ne!(sink.room(&mut ring, 0, BLOCK_BYTES), Room::NONE);
        let extent = payloads[0].extent(BLOCK_BYTES, BLOCK_BYTES, 1).unwrap();
        let slot = payloads[0].begin(ring.memory(), extent, Block::default());
        sink.offer(&mut ring, 0, slot, &mut payloads[0], false);
        sink.submit(&mut ring, Wait::No).unwrap();
    }
    server.write_all(says.as_bytes()).unwrap();
    drop(server);
    for _ in 0..LOOKS {
        sink.submit(&mut ring, Wait::ForNs(LOOK_NS)).unwrap();
        sink.reap(&mut ring, &mut payloads, 1, &mut Vec::new());
        if let Some(order) = clerk.order() {
            return order.last_use;
        }
    }
    panic!("nobody noticed that the connection had ended");
}

#[test]
fn one_that_was_asked_nothing_is_told_from_one_that_gave_no_answer() {
    assert_eq!([false, true].map(|is_asked| last_use_of_closed(is_asked, "")), [LastUse::Unasked, LastUse::Mute]);
}

#[test]
fn an_answer_that_nobody_asked_for_may_say_that_the_connection_was_idle() {
    let last_use = |says| last_use_of_closed(false, says);
    assert_eq!(last_use("HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nidle"), LastUse::Unasked);
    assert_eq!(last_use("HTTP/1.0 408 Request Time-out\r\nConnection: close\r\n\r\nidle"), LastUse::Unasked);
    assert_eq!(last_use("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"), LastUse::Unknown);
}

/// Reads until a look finds that more is acknowledged, or that all is here.
fn read_on(server: &mut TcpStream, (ring, sink): (&mut Syscalls, &mut HttpSink), heard: &mut usize, all: usize) {
    let acknowledged = |sink: &HttpSink, ring: &Syscalls| sink.lanes[0].connections[0].link.acknowledged(ring);
    let (before, mut part) = (acknowledged(sink, ring), [0; 4096]);
    for _ in 0..LOOKS {
        match server.read(&mut part) {
            Ok(bytes) => *heard += bytes,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        sink.submit(ring, Wait::No).unwrap();
        if acknowledged(sink, ring) > before || *heard == all {
            return;
        }
    }
    panic!("nothing more came");
}

#[test]
fn a_request_that_gets_on_may_take_longer_than_the_timeout() {
    const SECOND: u64 = 1_000_000_000;
    const BODY_BYTES: u64 = 256 << 10;
    let options = options(30 * SECOND);
    let request_bytes = options.head.bytes() + BODY_BYTES as usize;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // A body that no buffer holds.
    SockRef::from(&listener).set_recv_buffer_size(16 << 10).unwrap();
    let peer_address = listener.local_addr().unwrap();
    let stream = TcpStream::connect(peer_address).unwrap();
    SockRef::from(&stream).set_send_buffer_size(16 << 10).unwrap();
    let mut server = listener.accept().unwrap().0;
    server.set_nonblocking(true).unwrap();
    let dialed = vec![Dialed { stream, tls: None, peer_address, expires: None }];
    let redials = Redials::new(pair(1).0, vec![Arc::new(crate::plan::testing::peer("127.0.0.1", 1))], 1);
    let start = BODY_BYTES as usize;
    let staging = start..start + options.staging_bytes(1, BODY_BYTES) as usize;
    let setup = LaneSetup { options, lends: false, dialed, staging, block_bytes: BODY_BYTES, window: 1 };
    let mut ring = Syscalls::new(Region::map(1 << 20).unwrap(), 8);
    let mut sink = HttpSink::open(&mut ring, vec![setup], redials).unwrap();
    let starts = Starts::Fixed { length: BODY_BYTES, count: 1 };
    let mut payloads = [Payload::new(0, starts, Framing::None, Stamper::Nothing, 1)];
    assert_ne!(sink.room(&mut ring, 0, BODY_BYTES), Room::NONE);
    let extent = payloads[0].extent(BODY_BYTES, BODY_BYTES, 1).unwrap();
    let slot = payloads[0].begin(ring.memory(), extent, Block::default());
    sink.offer(&mut ring, 0, slot, &mut payloads[0], false);
    let (mut heard, mut now_ns, mut done) = (0, 1, Vec::new());
    for _ in 0..LOOKS {
        for _ in 0..50 {
            now_ns += SECOND / 2;
            sink.submit(&mut ring, Wait::No).unwrap();
            sink.reap(&mut ring, &mut payloads, now_ns, &mut done);
        }
        if !done.is_empty() {
            break;
        }
        read_on(&mut server, (&mut ring, &mut sink), &mut heard, request_bytes);
        if heard == request_bytes {
            server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        }
    }
    assert_eq!(done, [Done::rest(0, slot, Fate::Produced)], "{heard} of {request_bytes} bytes");
    assert!(now_ns > 60 * SECOND, "it took several timeouts");
}

/// The acknowledgements of what followed it say nothing of a request.
#[test]
fn a_server_that_does_not_read_is_given_up_whatever_its_kernel_takes() {
    const SECOND: u64 = 1_000_000_000;
    const REQUESTS: usize = 8;
    let options = Options { pipeline: REQUESTS, ..options(30 * SECOND) };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer_address = listener.local_addr().unwrap();
    let stream = TcpStream::connect(peer_address).unwrap();
    let _server = listener.accept().unwrap();
    let dialed = vec![Dialed { stream, tls: None, peer_address, expires: None }];
    let redials = Redials::new(pair(1).0, vec![Arc::new(crate::plan::testing::peer("127.0.0.1", 1))], 1);
    let start = REQUESTS * BLOCK_BYTES as usize;
    let staging = start..start + options.staging_bytes(1, BLOCK_BYTES) as usize;
    let setup = LaneSetup { options, lends: false, dialed, staging, block_bytes: BLOCK_BYTES, window: REQUESTS };
    let mut ring = Syscalls::new(Region::map(1 << 20).unwrap(), 8);
    let mut sink = HttpSink::open(&mut ring, vec![setup], redials).unwrap();
    let starts = Starts::Fixed { length: BLOCK_BYTES, count: REQUESTS as u64 };
    let mut payloads = [Payload::new(0, starts, Framing::None, Stamper::Nothing, REQUESTS)];
    let (mut sent, mut done) = (0, Vec::new());
    for half_seconds in 0..80 {
        if half_seconds % 20 == 0 {
            let extent = payloads[0].extent(BLOCK_BYTES, BLOCK_BYTES, 1).unwrap();
            let slot = payloads[0].begin(ring.memory(), extent, Block::default());
            assert_ne!(sink.room(&mut ring, 0, BLOCK_BYTES), Room::NONE);
            sink.offer(&mut ring, 0, slot, &mut payloads[0], false);
            sent += 1;
        }
        sink.submit(&mut ring, Wait::No).unwrap();
        sink.reap(&mut ring, &mut payloads, half_seconds * SECOND / 2, &mut done);
        if !done.is_empty() {
            assert!((60..=66).contains(&half_seconds), "{half_seconds} half seconds");
            assert_eq!((done.len(), sent), (4, 4), "{done:?}");
            return;
        }
    }
    panic!("four requests, of which the last was acknowledged after 30 s");
}
