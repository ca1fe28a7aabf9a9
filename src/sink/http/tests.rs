//! What the dialer hears of a connection that its server closes, and a server that reads slowly.

use super::*;
use crate::connect::dialer::{Clerk, LastUse, pair};
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
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

const SECOND: u64 = 1_000_000_000;
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

/// A lane of one connection, and the server at its other end.
struct Scene {
    ring: Syscalls,
    sink: HttpSink,
    payloads: [Payload; 1],
    server: TcpStream,
    clerk: Clerk,
    done: Vec<Done>,
}

impl Scene {
    /// Each request is a block of so many bytes; both ends have a buffer of `buffer_bytes`, or the kernel's choice.
    fn begin(options: Options, block_bytes: u64, buffer_bytes: Option<usize>) -> Self {
        Self::begin_framed(options, Framing::None, block_bytes, buffer_bytes)
    }

    fn begin_framed(options: Options, framing: Framing, body_bytes: u64, buffer_bytes: Option<usize>) -> Self {
        let block_bytes = body_bytes + framing.bytes();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer_address = listener.local_addr().unwrap();
        if let Some(bytes) = buffer_bytes {
            SockRef::from(&listener).set_recv_buffer_size(bytes).unwrap();
        }
        let stream = TcpStream::connect(peer_address).unwrap();
        if let Some(bytes) = buffer_bytes {
            SockRef::from(&stream).set_send_buffer_size(bytes).unwrap();
        }
        let server = listener.accept().unwrap().0;
        let dialed = vec![Dialed { stream, tls: None, peer_address, expires: None }];
        let (handle, clerk) = pair(1);
        let redials = Redials::new(handle, vec![Arc::new(crate::plan::testing::peer("127.0.0.1", 1))], 1);
        let window = options.pipeline;
        let start = window * block_bytes as usize;
        let staging = start..start + options.staging_bytes(1, block_bytes) as usize;
        let setup = LaneSetup { options, lends: false, dialed, staging, block_bytes, window };
        let mut ring = Syscalls::new(Region::map(1 << 20).unwrap(), 8);
        let sink = HttpSink::open(&mut ring, vec![setup], redials).unwrap();
        let starts = Starts::Fixed { length: body_bytes, count: window as u64 };
        let payloads = [Payload::new(0, starts, framing, Stamper::Nothing, window)];
        Self { ring, sink, payloads, server, clerk, done: Vec::new() }
    }

    /// Offers a request.
    fn offer(&mut self) -> u32 {
        let Self { ring, sink, payloads: [payload], .. } = self;
        let bytes = payload.next_length();
        assert_ne!(sink.room(ring, 0, bytes), Room::NONE);
        let extent = payload.extent(bytes, u64::MAX, 1).expect("the ring has room");
        let slot = payload.begin(ring.memory(), extent, Block::default());
        sink.offer(ring, 0, slot, payload, false);
        slot
    }

    fn turn(&mut self, wait: Wait, now_ns: u64) {
        self.sink.submit(&mut self.ring, wait).unwrap();
        self.sink.reap(&mut self.ring, &mut self.payloads, now_ns, &mut self.done);
    }

    fn acknowledged(&self) -> u64 {
        self.sink.lanes[0].connections[0].link.acknowledged(&self.ring)
    }

    /// Reads until a look finds that more is acknowledged, or that all is here.
    fn read_on(&mut self, heard: &mut usize, all: usize) {
        let (before, mut part) = (self.acknowledged(), [0; 4096]);
        for _ in 0..LOOKS {
            match self.server.read(&mut part) {
                Ok(bytes) => *heard += bytes,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            self.sink.submit(&mut self.ring, Wait::No).unwrap();
            if self.acknowledged() > before || *heard == all {
                return;
            }
        }
        panic!("nothing more came");
    }
}

/// All that a server hears of two requests, of which it refuses the first once.
fn heard(framing: Framing) -> Vec<u8> {
    const BODY_BYTES: u64 = 1000;
    let options = options(u64::MAX);
    let options = Options { retry: RetryPlan { retries_max: 1, ..options.retry }, ..options };
    let request_bytes = options.head.bytes() + BODY_BYTES as usize;
    let body = framing.before()..framing.before() + BODY_BYTES as usize;
    let mut scene = Scene::begin_framed(options, framing, BODY_BYTES, None);
    scene.ring.memory()[body].iter_mut().zip(0..).for_each(|(byte, at): (_, u32)| *byte = (at % 251) as u8);
    scene.server.set_nonblocking(true).unwrap();
    let mut all = Vec::new();
    let mut looks = 0..u64::from(LOOKS);
    for (offers, answer, done) in [(true, "503 Busy", 0), (false, "204 No Content", 1), (true, "204 No Content", 2)] {
        if offers {
            scene.offer();
        }
        let whole = all.len() + request_bytes;
        while all.len() < whole {
            scene.turn(Wait::No, looks.next().expect("a request comes") * SECOND);
            let _nothing_yet = (&scene.server).take((whole - all.len()) as u64).read_to_end(&mut all);
        }
        scene.server.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
        while scene.done.len() < done {
            scene.turn(Wait::ForNs(LOOK_NS), looks.next().expect("an answer settles a request") * SECOND);
        }
        if let Some(last) = scene.done.last() {
            scene.payloads[0].settle(last.slot, u64::MAX);
        }
    }
    assert!(scene.done.iter().all(|done| done.fate == Fate::Produced), "{:?}", scene.done);
    all
}

#[test]
fn a_body_behind_its_head_goes_out_as_any_other() {
    let head_bytes = options(u64::MAX).head.bytes_max();
    let apart = heard(Framing::None);
    assert_eq!(heard(Framing::Room(head_bytes)), apart);
    assert_eq!(heard(Framing::Room(head_bytes + 7)), apart, "there is room for a longer one");
}

/// `says`: what the server sends before it closes, whatever it was asked.
fn last_use_of_closed(is_asked: bool, says: &str) -> LastUse {
    let mut scene = Scene::begin(options(u64::MAX), BLOCK_BYTES, None);
    if is_asked {
        scene.offer();
        scene.sink.submit(&mut scene.ring, Wait::No).unwrap();
    }
    scene.server.write_all(says.as_bytes()).unwrap();
    scene.server.shutdown(Shutdown::Both).unwrap();
    for _ in 0..LOOKS {
        scene.turn(Wait::ForNs(LOOK_NS), 1);
        if let Some(order) = scene.clerk.order() {
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

#[test]
fn a_request_that_gets_on_may_take_longer_than_the_timeout() {
    const BODY_BYTES: u64 = 256 << 10;
    let options = options(30 * SECOND);
    let request_bytes = options.head.bytes() + BODY_BYTES as usize;
    // A body that no buffer holds.
    let mut scene = Scene::begin(options, BODY_BYTES, Some(16 << 10));
    scene.server.set_nonblocking(true).unwrap();
    let slot = scene.offer();
    let (mut heard, mut now_ns) = (0, 1);
    for _ in 0..LOOKS {
        for _ in 0..50 {
            now_ns += SECOND / 2;
            scene.turn(Wait::No, now_ns);
        }
        if !scene.done.is_empty() {
            break;
        }
        scene.read_on(&mut heard, request_bytes);
        if heard == request_bytes {
            scene.server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        }
    }
    assert_eq!(scene.done, [Done::rest(0, slot, Fate::Produced)], "{heard} of {request_bytes} bytes");
    assert!(now_ns > 60 * SECOND, "it took several timeouts");
}

/// The acknowledgements of what followed it say nothing of a request.
#[test]
fn a_server_that_does_not_read_is_given_up_whatever_its_kernel_takes() {
    let mut scene = Scene::begin(Options { pipeline: 8, ..options(30 * SECOND) }, BLOCK_BYTES, None);
    let mut sent = 0;
    for half_seconds in 0..80 {
        if half_seconds % 20 == 0 {
            scene.offer();
            sent += 1;
        }
        scene.turn(Wait::No, half_seconds * SECOND / 2);
        if !scene.done.is_empty() {
            assert!((60..=66).contains(&half_seconds), "{half_seconds} half seconds");
            assert_eq!((scene.done.len(), sent), (4, 4), "{:?}", scene.done);
            return;
        }
    }
    panic!("four requests, of which the last was acknowledged after 30 s");
}
