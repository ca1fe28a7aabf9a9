use super::*;
use crate::connect::dialer::{Clerk, pair};
use crate::payload::framing::Framing;
use crate::payload::stamper::Stamper;
use crate::payload::{Block, Starts};
use crate::plan::testing::peer;
use crate::sink::Fate;
use crate::sys::region::Region;
use crate::sys::ring::Ring;
use crate::sys::syscalls::Syscalls;
use socket2::SockRef;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

const SECOND: u64 = 1_000_000_000;
const TIMEOUT: u64 = 30 * SECOND;
const LOOK_NS: u64 = 1_000_000;
const LOOKS: u32 = 20_000;
/// More than both buffers of the connection hold.
const BLOCK_BYTES: u64 = 512 << 10;

/// A block on its way to a peer that reads when the test says so; the clock is the test's.
struct Scene {
    ring: Syscalls,
    sink: TcpSink,
    payloads: [Payload; 1],
    peer: TcpStream,
    clerk: Clerk,
    now_ns: u64,
    done: Vec<Done>,
}

impl Scene {
    fn begin() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        SockRef::from(&listener).set_recv_buffer_size(16 << 10).unwrap();
        let peer_address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(peer_address).unwrap();
        SockRef::from(&stream).set_send_buffer_size(16 << 10).unwrap();
        let reader = listener.accept().unwrap().0;
        reader.set_nonblocking(true).unwrap();
        let dialed = vec![Dialed { stream, tls: None, peer_address, expires: None }];
        let staging = BLOCK_BYTES as usize..(BLOCK_BYTES + staging_bytes(1, BLOCK_BYTES)) as usize;
        let setup = LaneSetup { dialed, staging, block_bytes: BLOCK_BYTES, depth: 2, request_timeout_ns: TIMEOUT };
        let (handle, clerk) = pair(1);
        let redials = Redials::new(handle, vec![Arc::new(peer("127.0.0.1", 1))], 1);
        let mut ring = Syscalls::new(Region::map(2 << 20).unwrap(), 8);
        let sink = TcpSink::open(&mut ring, vec![setup], redials).unwrap();
        let starts = Starts::Fixed { length: BLOCK_BYTES, count: 1 };
        let payloads = [Payload::new(0, starts, Framing::None, Stamper::Nothing, 2)];
        let mut scene = Self { ring, sink, payloads, peer: reader, clerk, now_ns: 0, done: Vec::new() };
        let payload = &mut scene.payloads[0];
        assert_ne!(scene.sink.room(&mut scene.ring, 0, BLOCK_BYTES), Room::NONE);
        let extent = payload.extent(BLOCK_BYTES, BLOCK_BYTES, 1).unwrap();
        let slot = payload.begin(scene.ring.memory(), extent, Block::default());
        scene.sink.offer(&mut scene.ring, 0, slot, payload, false);
        scene.look(1);
        scene
    }

    fn look(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.sink.submit(&mut self.ring, Wait::No).unwrap();
        self.reap();
    }

    /// Without a call to the kernel.
    fn reap(&mut self) {
        self.sink.reap(&mut self.ring, &mut self.payloads, self.now_ns, &mut self.done);
    }

    fn pass_until(&mut self, until_ns: u64) {
        while self.now_ns < until_ns {
            self.look((self.now_ns + SECOND / 2).min(until_ns));
        }
    }

    fn is_up(&self) -> bool {
        self.sink.lanes[0].connections[0].link.is_up()
    }

    fn acknowledged(&self) -> u64 {
        self.sink.lanes[0].connections[0].link.acknowledged(&self.ring)
    }

    /// The peer reads what has arrived.
    fn read(&mut self) {
        let mut part = [0; 4096];
        loop {
            match self.peer.read(&mut part) {
                Ok(bytes) => assert_ne!(bytes, 0, "the connection was broken off"),
                Err(error) => return assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }

    /// It reads until more is acknowledged.
    fn read_on(&mut self) {
        let before = self.acknowledged();
        for _ in 0..LOOKS {
            self.read();
            self.sink.submit(&mut self.ring, Wait::ForNs(LOOK_NS)).unwrap();
            if self.acknowledged() > before {
                return;
            }
        }
        panic!("nothing more was acknowledged");
    }
}

#[test]
fn what_is_beside_the_ring_does_not_grow_by_a_block_for_each_connection() {
    let block_bytes = 16 << 20;
    assert!(staging_bytes(1, block_bytes) < 2 * block_bytes);
    assert!(staging_bytes(256, block_bytes) < 5 * block_bytes);
}

#[test]
fn a_block_that_gets_on_may_take_longer_than_the_timeout() {
    let mut scene = Scene::begin();
    for _ in 0..3 {
        scene.pass_until(scene.now_ns + 25 * SECOND);
        assert!(scene.is_up());
        scene.read_on();
    }
    let read_ns = scene.now_ns;
    scene.pass_until(read_ns + TIMEOUT);
    assert!(scene.is_up());
    // A last acknowledgement may be late: it is the kernel's time that it comes in.
    while scene.is_up() && scene.now_ns < 100 * read_ns {
        scene.pass_until(scene.now_ns + SECOND);
    }
    assert!(!scene.is_up(), "a peer that stands still is not waited for");
    scene.look(scene.now_ns);
    assert!(scene.clerk.order().is_some());
    assert_eq!(scene.done.last().map(|done| done.fate), Some(Fate::Uncertain(crate::counters::Field::ErrorTimeout)));
}

#[test]
fn an_absence_is_not_the_peers() {
    let mut scene = Scene::begin();
    scene.pass_until(20 * SECOND);
    scene.look(scene.now_ns + 2 * TIMEOUT);
    assert!(scene.is_up());
    for _ in 0..LOOKS {
        if !scene.done.is_empty() {
            break;
        }
        scene.read();
        scene.sink.submit(&mut scene.ring, Wait::ForNs(LOOK_NS)).unwrap();
        scene.now_ns += LOOK_NS;
        scene.reap();
    }
    assert_eq!(scene.done, [Done::rest(0, 0, Fate::Produced)]);
}
