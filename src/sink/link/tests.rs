//! Links over real connections with TLS: how it ends, and what becomes of keys that wear out.

use super::area::{REST_BYTES_MAX, TLS_INBOX_BYTES_MIN};
use super::*;
use crate::connect::dialer::{Answer, pair};
use crate::connect::tls::testing::{ServerStream, Setting, USUAL, connected, old_suite, peer, plan, serve};
use crate::connect::tls::{SPARE_RECORDS, TlsError};
use crate::counters::Field;
use crate::payload::framing::Framing;
use crate::payload::stamper::Stamper;
use crate::payload::{Block, Payload, Starts};
use crate::plan::RetryPlan;
use crate::sink::http::{HttpSink, LaneSetup, Options};
use crate::sink::redials::Redials;
use crate::sink::{Fate, Sink};
use crate::sys::region::Region;
use crate::sys::ring::{Ring, Wait};
use crate::sys::syscalls::Syscalls;
use crate::sys::uring::Uring;
use crate::wire::http::{HeadFacts, RequestHead};
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::channel;

const REGION_BYTES: usize = 1 << 20;
const INBOX_BYTES: usize = 32 << 10;
const BODY_BYTES: usize = 100;
const TAG: u32 = 5;
const LOOK_NS: u64 = 1_000_000;
const LOOKS: u32 = 20_000;

fn ring() -> Syscalls {
    Syscalls::new(Region::map(REGION_BYTES).unwrap(), 8)
}

fn dialed((stream, session): (TcpStream, TlsSession)) -> Dialed {
    Dialed { stream, tls: Some(session), peer_address: ([127, 0, 0, 1], 1).into(), expires: None }
}

fn open(ring: &mut Syscalls, connection: (TcpStream, TlsSession)) -> Link {
    Link::open(ring, (0, 0), dialed(connection), Area::cut(0, INBOX_BYTES, true)).unwrap()
}

/// What the link tells next.
fn next_event<R: NetRing>(ring: &mut R, link: &mut Link) -> Event {
    for _ in 0..LOOKS {
        ring.enter(Wait::ForNs(LOOK_NS)).unwrap();
        while let Some(completion) = ring.completion() {
            match link.complete(ring, completion) {
                Event::Nothing => {}
                event => return event,
            }
        }
    }
    panic!("nothing came");
}

#[test]
fn a_goodbye_ends_the_connection_when_all_before_it_is_read() {
    let (hold, held) = channel::<()>();
    let (port, server) = serve(&USUAL, move |stream| {
        stream.conn.complete_io(&mut stream.sock).unwrap();
        stream.conn.writer().write_all(b"the last words").unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        // The connection stays open behind it.
        held.recv().is_err()
    });
    let mut ring = ring();
    let mut link = open(&mut ring, connected(port));
    link.listen(&mut ring);
    link.listen(&mut ring);
    assert_eq!(ring.in_flight(), 1, "one receive, before anything is sent");
    let mut heard = Vec::new();
    let event = loop {
        match next_event(&mut ring, &mut link) {
            Event::Received => {
                let bytes = link.inbox(&mut ring);
                let count = bytes.len();
                heard.extend_from_slice(bytes);
                link.consume(&mut ring, count);
                link.listen(&mut ring);
            }
            event => break event,
        }
    };
    assert_eq!(event, Event::Broken { why: Breakage::Closed, unsent: None });
    assert_eq!(heard, b"the last words");
    assert_eq!(link.last_use(LastUse::Served), LastUse::Served);
    drop(hold);
    assert!(server.join().unwrap());
}

#[test]
fn the_smallest_inbox_takes_a_full_record_behind_a_rest() {
    const RECORD_BYTES: usize = 16 << 10;
    let (go_on, goes_on) = channel();
    let (port, server) = serve(&USUAL, move |stream| {
        stream.write_all(&[1; REST_BYTES_MAX]).unwrap();
        goes_on.recv().unwrap();
        stream.write_all(&[2; RECORD_BYTES]).unwrap();
    });
    let mut ring = ring();
    let dialed = dialed(connected(port));
    let mut link = Link::open(&mut ring, (0, 0), dialed, Area::cut(0, TLS_INBOX_BYTES_MIN, true)).unwrap();
    for bytes in [REST_BYTES_MAX, REST_BYTES_MAX + RECORD_BYTES] {
        while link.inbox(&mut ring).len() < bytes {
            link.listen(&mut ring);
            assert_eq!(next_event(&mut ring, &mut link), Event::Received);
        }
        let _done = go_on.send(());
    }
    let (rest, record) = link.inbox(&mut ring).split_at(REST_BYTES_MAX);
    assert_eq!((rest, record), (&[1; REST_BYTES_MAX][..], &[2; RECORD_BYTES][..]));
    server.join().unwrap();
}

#[test]
fn an_alert_behind_the_handshake_says_why_the_connection_ended() {
    for a_send_met_it in [false, true] {
        let setting = Setting { wants_client: true, ..USUAL };
        let (port, server) = serve(&setting, |stream| stream.read(&mut [0; 1]).is_err());
        let (stream, session) = connected(port);
        assert!(server.join().unwrap());
        assert_eq!(stream.peek(&mut [0; 1]).unwrap(), 1, "the alert is here");
        let mut ring = ring();
        let mut link = open(&mut ring, (stream, session));
        link.listen(&mut ring);
        if a_send_met_it {
            assert_eq!(link.break_off(&mut ring, Breakage::Error(libc::EPIPE)), Event::Nothing);
        }
        let why = Breakage::Tls(TlsError::Alert(116));
        assert_eq!(next_event(&mut ring, &mut link), Event::Broken { why, unsent: None });
        assert_eq!(why.kind(), Field::ErrorClosed);
        for (own, used) in [(LastUse::Unknown, false), (LastUse::Used, true)] {
            assert_eq!(link.last_use(own), LastUse::Alert { description: 116, used });
        }
    }
}

#[test]
fn what_was_said_before_a_send_met_the_end_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, peer_address) = listener.accept().unwrap();
    server.write_all(b"refused").unwrap();
    assert_eq!(stream.peek(&mut [0; 1]).unwrap(), 1, "the answer is here");
    let mut ring = ring();
    let dialed = Dialed { stream, tls: None, peer_address, expires: None };
    let mut link = Link::open(&mut ring, (0, 0), dialed, Area::cut(0, INBOX_BYTES, false)).unwrap();
    link.listen(&mut ring);
    let why = Breakage::Error(libc::EPIPE);
    assert_eq!(link.break_off(&mut ring, why), Event::Nothing);
    assert_eq!(next_event(&mut ring, &mut link), Event::Received);
    assert_eq!(link.inbox(&mut ring), b"refused");
    link.consume(&mut ring, 7);
    link.listen(&mut ring);
    assert_eq!(link.settle_ending(), Event::Nothing, "there may be more");
    assert_eq!(next_event(&mut ring, &mut link), Event::Broken { why, unsent: None });
}

/// What becomes of a message whose parts are at most so long, and how many bytes of it the kernel took.
fn sent_in_parts(ring: &mut Uring, link: &mut Link, most: usize) -> (Event, usize) {
    let (mut taken, mut event) = (0, Event::Nothing);
    for _ in 0..LOOKS {
        if event != Event::Nothing {
            break;
        }
        ring.enter(Wait::ForNs(LOOK_NS)).unwrap();
        while let Some(completion) = ring.completion() {
            assert!(completion.result <= most as i32, "{completion:?}");
            taken += completion.result.max(0) as usize;
            event = link.complete(ring, completion);
        }
    }
    (event, taken)
}

#[test]
fn a_long_message_that_is_copied_goes_in_several_sends() {
    const MESSAGE_BYTES: usize = 3 * COPIED_BYTES_MAX + 1;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, peer_address) = listener.accept().unwrap();
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; MESSAGE_BYTES];
        server.read_exact(&mut all).map(|()| all)
    });
    // One that waits until all of a send is gone.
    let mut ring = Uring::new(Region::map_unreserved(4 << 20).unwrap(), 8, 2).unwrap().zero_copy(false);
    ring.memory().iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 251) as u8);
    let dialed = Dialed { stream, tls: None, peer_address, expires: None };
    let mut link = Link::open(&mut ring, (0, 0), dialed, Area::cut(0, INBOX_BYTES, false)).unwrap();
    let (start, end) = (INBOX_BYTES, INBOX_BYTES + MESSAGE_BYTES);
    link.send(&mut ring, [start..start + 100, start + 100..end], TAG);
    let event = Event::Sent { tag: TAG, memory: Memory::Free };
    assert_eq!(sent_in_parts(&mut ring, &mut link, COPIED_BYTES_MAX), (event, MESSAGE_BYTES));
    let all = reader.join().unwrap().unwrap();
    assert!(all.into_iter().eq((start..end).map(|at| (at % 251) as u8)), "in order, and each byte once");
}

/// It would read what is detached meanwhile.
#[test]
fn a_copied_send_on_a_ring_that_lends_never_gets_a_worker() {
    const MESSAGE_BYTES: usize = 1 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // The smallest buffers that the kernel gives: a send waits again and again.
    SockRef::from(&listener).set_recv_buffer_size(1).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    SockRef::from(&stream).set_send_buffer_size(1).unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut server, peer_address) = listener.accept().unwrap();
    let reader = std::thread::spawn(move || {
        let (mut part, mut count) = ([0; 1024], 0);
        while count < MESSAGE_BYTES {
            count += server.read(&mut part).ok().filter(|bytes| *bytes > 0).expect("there is more");
        }
    });
    let mut ring = Uring::new(Region::map_unreserved(2 << 20).unwrap(), 8, 2).unwrap().zero_copy(true);
    let dialed = Dialed { stream, tls: None, peer_address, expires: None };
    let mut link = Link::open(&mut ring, (0, 0), dialed, Area::cut(0, INBOX_BYTES, false)).unwrap();
    link.lend(&mut ring, Loan::TakenBack);
    assert!(link.lends());
    let (start, end) = (INBOX_BYTES, INBOX_BYTES + MESSAGE_BYTES);
    link.send_copied(&mut ring, [start..start + 100, start + 100..end], TAG);
    let event = Event::Sent { tag: TAG, memory: Memory::Free };
    assert_eq!(sent_in_parts(&mut ring, &mut link, COPIED_BYTES_MAX_BESIDE_LENT), (event, MESSAGE_BYTES));
    reader.join().unwrap();
    // One stays for seconds. In a container its name may have another number.
    let own = std::fs::read_link("/proc/thread-self").unwrap();
    let worker = format!("iou-wrk-{}", own.file_name().unwrap().to_str().unwrap());
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    assert_eq!(names.filter(|name| name.trim_end() == worker).count(), 0);
}

/// What one connection lends may get other pages while a zero-copy send of another one still reads the old ones.
#[test]
fn a_link_that_cannot_lend_copies_once_another_one_on_its_ring_lends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ring = Uring::new(Region::map_unreserved(REGION_BYTES).unwrap(), 8, 2).unwrap().zero_copy(true);
    let mut peers = Vec::new();
    let mut open = |ring: &mut Uring, index: usize| {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, peer_address) = listener.accept().unwrap();
        peers.push(peer);
        let dialed = Dialed { stream, tls: None, peer_address, expires: None };
        Link::open(ring, (0, index), dialed, Area::cut(index * INBOX_BYTES, INBOX_BYTES, false)).unwrap()
    };
    let (mut lending, mut other) = (open(&mut ring, 0), open(&mut ring, 1));
    let (start, end) = (2 * INBOX_BYTES, 2 * INBOX_BYTES + BODY_BYTES);
    let mut send = |ring: &mut Uring| {
        other.send(ring, [start..end, end..end], TAG);
        let sent = next_event(ring, &mut other);
        if sent == (Event::Sent { tag: TAG, memory: Memory::Held }) {
            assert_eq!(next_event(ring, &mut other), Event::Released { tag: TAG });
        }
        sent
    };
    // Where the kernel can, it reads the memory in place.
    let _before = send(&mut ring);
    lending.lend(&mut ring, Loan::TakenBack);
    assert!(lending.lends());
    assert_eq!(send(&mut ring), Event::Sent { tag: TAG, memory: Memory::Free });
}

#[test]
fn a_message_that_cannot_be_sealed_breaks_the_connection() {
    // The keys last for nothing of it, or for its first part.
    for (records, taken) in [(2, 0), (12, SEAL_BYTES)] {
        for listens in [true, false] {
            let (port, server) = serve(&Setting { suite: Some(old_suite()), ..USUAL }, |stream| {
                std::io::copy(stream, &mut std::io::sink()).is_err()
            });
            let (stream, mut session) = connected(port);
            session.wear_to_within(records);
            let mut ring = ring();
            let mut link = open(&mut ring, (stream, session));
            if listens {
                link.listen(&mut ring);
            }
            let start = Area::bytes(INBOX_BYTES, true);
            link.send(&mut ring, [start..start + 100, start + 100..start + 2 * SEAL_BYTES], TAG);
            let event = next_event(&mut ring, &mut link);
            let why = Breakage::Tls(TlsError::Exhausted);
            assert_eq!(event, Event::Broken { why, unsent: Some((TAG, taken)) }, "{records} {listens}");
            assert_eq!((why.kind(), ring.in_flight()), (Field::ErrorIo, 0));
            assert!(server.join().unwrap(), "the server hears of the end");
        }
    }
}

/// Answers requests of this length; how many.
fn answering(request_bytes: usize) -> impl FnOnce(&mut ServerStream) -> usize + Send + 'static {
    move |stream| {
        let (mut request, mut count) = (vec![0; request_bytes], 0);
        while stream.read_exact(&mut request).is_ok() {
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
            count += 1;
        }
        count
    }
}

#[test]
fn a_connection_with_worn_keys_is_replaced_in_order() {
    let facts = HeadFacts { producer_id: 0, stamped: true, weighted: false, counted: false, run_id: None };
    let options = Options {
        head: RequestHead::new("POST", "/", "localhost", &[], facts),
        records_per_request: 1,
        pipeline: 1,
        summed: false,
        tls: true,
        refused_by: None,
        request_timeout_ns: u64::MAX,
        retry: RetryPlan { retries_max: 0, backoff_min_ns: 1, backoff_max_ns: 1 },
        renews: false,
        seed: 1,
    };
    let request_bytes = options.head.bytes() + BODY_BYTES;
    let (port, first) = serve(&Setting { suite: Some(old_suite()), ..USUAL }, answering(request_bytes));
    let (stream, mut session) = connected(port);
    // A request is two records: its head, its body.
    session.wear_to_within(SPARE_RECORDS + 3);
    let (handle, clerk) = pair(1);
    let redials = Redials::new(handle, vec![Arc::new(peer(port, plan()))], 1);
    let staging = 4096..4096 + options.staging_bytes(1, BODY_BYTES as u64) as usize;
    let dialed_first = vec![dialed((stream, session))];
    let setup =
        LaneSetup { options, lends: false, dialed: dialed_first, staging, block_bytes: BODY_BYTES as u64, window: 4 };
    let mut ring = ring();
    let mut sink = HttpSink::open(&mut ring, vec![setup], redials).unwrap();
    let starts = Starts::Fixed { length: BODY_BYTES as u64, count: 4 };
    let mut payloads = [Payload::new(0, starts, Framing::None, Stamper::Nothing, 4)];
    let (mut offered, mut fates, mut last_uses, mut second) = (0, Vec::new(), Vec::new(), None);
    for _ in 0..LOOKS {
        if fates.len() == 3 {
            break;
        }
        let payload = &mut payloads[0];
        if offered == fates.len() && sink.room(&mut ring, 0, BODY_BYTES as u64).records > 0 {
            let extent = payload.extent(u64::MAX, u64::MAX, 1).expect("the ring is free");
            let slot = payload.begin(ring.memory(), extent, Block::default());
            sink.offer(&mut ring, 0, slot, payload, false);
            offered += 1;
        }
        sink.submit(&mut ring, Wait::ForNs(LOOK_NS)).unwrap();
        let mut done = Vec::new();
        sink.reap(&mut ring, &mut payloads, 1, &mut done);
        for news in done {
            assert_eq!(payloads[0].settle(news.slot, 1), 0..1);
            fates.push(news.fate);
        }
        if let Some(order) = clerk.order() {
            last_uses.push(order.last_use);
            let (port, server) = serve(&USUAL, answering(request_bytes));
            second = Some(server);
            let (lane, connection) = (order.lane, order.connection);
            let answer = Answer { lane, connection, dialed: Ok(Box::new(dialed(connected(port)))) };
            assert!(clerk.answer(answer).is_ok());
        }
    }
    assert_eq!(fates, [Fate::Produced; 3]);
    assert_eq!(last_uses, [LastUse::Served], "at once, and nothing was lost");
    drop((sink, ring));
    assert_eq!((first.join().unwrap(), second.map(|server| server.join().unwrap())), (2, Some(1)));
}
