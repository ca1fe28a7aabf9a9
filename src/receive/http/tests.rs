use super::*;
use crate::config::receive::faults::parse;
use crate::plan::receive::Protocol as Scheme;
use crate::receive::books::Books;
use crate::receive::faults::Faults;
use socket2::SockRef;
use std::io::Read;
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::time::Instant;

const TURNS_MAX: usize = 10_000_000;

/// One connection, driven by the test.
struct Rig {
    connection: Option<HttpConnection>,
    server: TcpStream,
    client: TcpStream,
    bench: Bench,
}

impl Rig {
    fn new(faults: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        client.set_nonblocking(true).unwrap();
        let plan = if faults.is_empty() { Default::default() } else { parse(faults, Scheme::Http).unwrap() };
        let mut bench = Bench {
            buffer: vec![0; limits::RECEIVE_READ_BYTES],
            books: Books::new(plan.items.len()),
            faults: Faults::new(&plan).map(Arc::new),
            checks_all: false,
            judge: None,
            origin: Instant::now(),
            taken: Arc::default(),
        };
        let connection = Some(Http.open(&String::new, &mut bench));
        Self { connection, server, client, bench }
    }

    fn turn(&mut self) -> Option<Turn> {
        let turn = Http.turn(&self.server, self.connection.as_mut()?, &mut self.bench);
        if let Turn::Closed(how) = turn {
            self.close(how);
        }
        Some(turn)
    }

    /// Once at most.
    fn close(&mut self, how: Closed) {
        if let Some(connection) = self.connection.take() {
            Http.close(connection, how, &mut self.bench);
        }
    }

    /// Sends a few bytes and turns until all of them were read.
    fn send(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).unwrap();
        for _ in 0..TURNS_MAX {
            if self.bench.books.wire_bytes == bytes.len() as u64 {
                return;
            }
            self.turn();
        }
        panic!("{} bytes of {} came", self.bench.books.wire_bytes, bytes.len());
    }
}

fn post(body: &[u8]) -> Vec<u8> {
    [format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

#[test]
fn a_request_counts_once_it_is_answered() {
    for (fault, received, refused, uncertain) in [
        ("", 1, 0, 0),
        ("delay=1h:0%", 1, 0, 0),
        ("status=503:100%", 0, 1, 0),
        ("reset:100%", 0, 0, 1),
        ("truncate:100%", 0, 0, 1),
        ("abort:100%", 0, 0, 0),
        ("close:100%", 1, 0, 0),
        ("delay=1h:100%", 0, 0, 1),
        ("slow=1h:100%", 0, 0, 1),
    ] {
        let mut rig = Rig::new(fault);
        rig.send(&post(b"0123456789"));
        rig.close(Closed::ByStop);
        let books = &rig.bench.books;
        let found = (books.requests, books.bytes, books.requests_refused, books.requests_uncertain);
        assert_eq!(found, (received, received * 10, refused, uncertain), "{fault}");
        let struck = u64::from(fault.ends_with("100%"));
        assert_eq!(books.faults.iter().sum::<u64>(), struck, "{fault}");
        assert_eq!(books.brought_something(), fault != "abort:100%", "{fault}");
    }
    // What waits is not refused yet.
    let mut rig = Rig::new("status=503:100%,delay=1h:100%");
    rig.send(&post(b"0123456789"));
    rig.close(Closed::ByPeerReset);
    let books = &rig.bench.books;
    assert_eq!((books.requests_refused, books.requests_uncertain, &books.faults[..]), (0, 1, &[0, 1][..]));
}

#[test]
fn what_is_cut_off_brings_nothing_and_is_struck_by_nothing() {
    let whole = post(b"0123456789");
    let chunks = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    for (cut, aborted, malformed) in [
        (whole[..whole.len() - 1].to_vec(), 1, 0),
        (whole[..20].to_vec(), 1, 0),
        (chunks.as_bytes().to_vec(), 1, 0),
        (format!("{chunks}nonsense").into_bytes(), 0, 1),
    ] {
        let mut rig = Rig::new("status=503:50%,truncate:50%,delay=1h:100%,slow=1h:100%");
        rig.send(&cut);
        rig.close(Closed::ByPeer);
        let books = &rig.bench.books;
        assert_eq!((books.requests_aborted, books.requests_malformed), (aborted, malformed), "{cut:?}");
        let counted = [books.requests, books.bytes, books.requests_refused, books.requests_uncertain];
        assert_eq!((counted, &books.faults[..]), ([0; 4], &[0; 4][..]), "{cut:?}");
    }
}

#[test]
fn answers_that_the_peer_does_not_take_leave_their_requests_uncertain() {
    let mut rig = Rig::new("");
    SockRef::from(&rig.server).set_send_buffer_size(1).unwrap();
    SockRef::from(&rig.client).set_recv_buffer_size(1).unwrap();
    let get = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let many = get.repeat(100);
    let mut at = 0;
    let blocked = (0..TURNS_MAX).any(|_| {
        at = (at + rig.client.write(&many[at..]).unwrap_or(0)) % many.len();
        rig.turn() == Some(Turn::Blocked)
    });
    assert!(blocked, "a peer that reads nothing takes every answer");
    rig.close(Closed::ByPeerReset);
    let books = &rig.bench.books;
    assert!(books.requests_uncertain > 0);
    assert_eq!(books.requests + books.requests_uncertain, books.wire_bytes / get.len() as u64);
}

#[test]
fn a_close_is_announced_and_what_comes_behind_it_is_not_heeded() {
    for fault in ["close:100%", "close:100%,slow=1us:100%", "close:100%,delay=1ms:100%"] {
        let mut rig = Rig::new(fault);
        let request = post(b"0123456789");
        rig.client.write_all(&[&request[..], &request[..], &request[..9]].concat()).unwrap();
        let mut said = Vec::new();
        for _ in 0..TURNS_MAX {
            rig.turn();
            let mut part = [0; 256];
            match rig.client.read(&mut part) {
                // The sender ends its side as well: the linger need not last.
                Ok(0) => rig.client.shutdown(Shutdown::Write).unwrap_or_default(),
                Ok(count) => said.extend_from_slice(&part[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{fault}: no reset"),
            }
            if rig.connection.is_none() {
                break;
            }
        }
        assert!(rig.connection.is_none(), "{fault}: it never closed");
        assert_eq!(said, b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", "{fault}");
        let books = &rig.bench.books;
        assert_eq!((books.requests, books.bytes, books.faults[0]), (1, 10, 1), "{fault}");
        let others =
            [books.requests_refused, books.requests_uncertain, books.requests_aborted, books.requests_malformed];
        assert_eq!(others, [0; 4], "{fault}");
    }
}
