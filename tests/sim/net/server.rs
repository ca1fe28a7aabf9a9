//! An HTTP server that answers as servers do: well, late, with errors, in pieces, or not at all.

use super::peer::{Accepted, Peer, Reply, Then, record};
use crate::chance::Chance;
use engine::wire::crc32c;
use std::collections::BTreeMap;

/// One request of so many is not simply answered with 200.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    pub odd_one_in: u64,
    /// Says to come again in a second, for one 503 of so many.
    pub second_one_in: u64,
    /// Refusals for good; else only what a second attempt can mend.
    pub refuses: bool,
    /// One request of so many is never answered.
    pub hangs_one_in: u64,
    /// One of so many is answered with 200 and, in the body, that not all of it was taken.
    pub partly_one_in: u64,
    /// One of so many looks at a request whose body is not all there accepts it, as it is.
    pub hasty_one_in: u64,
}

/// What such a body has, in two chunks.
pub const PARTLY: &str = "partly";
const TAKEN_IN_PART: &str =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{par\r\n8\r\ntly: 7}\n\r\n0\r\n\r\n";

/// A whole request that was accepted: on which connection, and where the answer that says so ends.
#[derive(Clone, Copy, Debug)]
pub struct Acceptance {
    pub connection: usize,
    pub answer_ends_at: u64,
}

/// See the module.
pub struct Server {
    manners: Manners,
    pub accepted: Accepted,
    /// Of each request, by lane and first sequence.
    pub acceptances: BTreeMap<(u32, u64), Vec<Acceptance>>,
    /// As it came for the first time.
    first: BTreeMap<(u32, u64), Vec<u8>>,
    lanes: BTreeMap<usize, u32>,
    hanging: Vec<usize>,
    /// Of connections whose next request has its answer: where that ends.
    hasty: BTreeMap<usize, u64>,
    /// What it answered whole requests with, and those it did not wait for: by lane and status.
    pub answers: BTreeMap<u32, BTreeMap<u16, u64>>,
    /// Those of them that were for a part only, by lane.
    pub partly: BTreeMap<u32, u64>,
    pub repeated: u64,
}

/// What the head of a request says.
struct Head<'a> {
    text: &'a str,
    bytes: usize,
}

impl<'a> Head<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let text = std::str::from_utf8(&bytes[..end]).expect("a head is text");
        assert!(text.starts_with("POST /in HTTP/1.1\r\n"), "no request begins with {text:?}");
        Some(Self { text, bytes: end + 4 })
    }

    fn number(&self, name: &str) -> Option<u64> {
        let value = self.text.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim().parse().expect("a number"))
    }
}

impl Server {
    pub fn new(manners: Manners) -> Self {
        Self {
            manners,
            accepted: Accepted::default(),
            acceptances: BTreeMap::new(),
            first: BTreeMap::new(),
            lanes: BTreeMap::new(),
            hanging: Vec::new(),
            hasty: BTreeMap::new(),
            answers: BTreeMap::new(),
            partly: BTreeMap::new(),
            repeated: 0,
        }
    }

    /// Checks a whole request; returns its first sequence.
    fn check(&mut self, lane: u32, request: &[u8]) -> (u64, u64) {
        let head = Head::read(request).expect("it is whole");
        let body = &request[head.bytes..];
        assert_eq!(head.number("X-Producer-Id"), Some(u64::from(lane)));
        let first = head.number("X-Sequence").expect("each request says it");
        let (mut at, mut next) = (0, first);
        while at < body.len() {
            let header = record(&body[at..], lane);
            assert_eq!(header.sequence, next, "records of a request follow each other");
            assert_eq!(head.number("X-Weight").unwrap_or(1), header.weight);
            (at, next) = (at + header.record_length as usize, next + 1);
        }
        assert_eq!(head.number("X-Record-Count").unwrap_or(1), next - first);
        if let Some(crc) = head.number("X-Crc32c") {
            assert_eq!(crc, u64::from(crc32c::checksum(body)));
        }
        if let Some(earlier) = self.first.get(&(lane, first)) {
            assert!(*earlier == request, "the request for {first} of lane {lane} differs from its first attempt");
            self.repeated += 1;
        } else {
            self.first.insert((lane, first), request.to_vec());
        }
        (first, next)
    }

    fn accept(&mut self, lane: u32, (first, end): (u64, u64), connection: usize, answer_ends_at: u64) {
        (first..end).for_each(|sequence| self.accepted.add(lane, sequence));
        let acceptance = Acceptance { connection, answer_ends_at };
        self.acceptances.entry((lane, first)).or_default().push(acceptance);
    }

    /// Notes an answer, if it is one.
    fn note(&mut self, lane: u32, text: &str) {
        let Some(status) = text.strip_prefix("HTTP/1.1 ") else { return };
        let status = status[..3].parse().expect("three digits");
        *self.answers.entry(lane).or_default().entry(status).or_default() += 1;
    }

    /// Answers a request of which it has read the head.
    fn accept_unread(&mut self, id: usize, range: (u64, u64), answers_from: u64, reply: &mut Reply) {
        let (lane, words) = (self.lanes[&id], "HTTP/1.1 204 No Content\r\n\r\n");
        self.note(lane, words);
        reply.bytes.extend(words.bytes());
        self.hasty.insert(id, answers_from + reply.bytes.len() as u64);
        (range.0..range.1).for_each(|sequence| self.accepted.promise(lane, sequence));
    }

    /// Answers one whole request.
    fn answer(&mut self, id: usize, range: (u64, u64), chance: &mut Chance, answers_from: u64, reply: &mut Reply) {
        let lane = self.lanes[&id];
        if chance.one_in(self.manners.hangs_one_in) {
            self.hanging.push(id);
            if chance.one_in(2) {
                self.accept(lane, range, id, u64::MAX);
            }
            return;
        }
        if chance.one_in(12) {
            let interim = ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"];
            reply.bytes.extend(chance.pick(&interim).bytes());
        }
        let odd = chance.one_in(self.manners.odd_one_in);
        let choice = if odd { chance.between(0..=11) } else { chance.between(12..=15) };
        let (text, accepts, then) = match chance.one_in(self.manners.partly_one_in) {
            true => (TAKEN_IN_PART.to_owned(), true, Then::GoOn),
            false => self.words(choice, chance),
        };
        if text == TAKEN_IN_PART {
            *self.partly.entry(lane).or_default() += 1;
        }
        self.note(lane, &text);
        reply.bytes.extend(text.bytes());
        reply.then = then;
        if accepts {
            let says_so = text.starts_with("HTTP/1.1 2");
            let answer_ends_at = if says_so { answers_from + reply.bytes.len() as u64 } else { u64::MAX };
            self.accept(lane, range, id, answer_ends_at);
        }
    }

    /// An answer, whether the request was accepted, and what becomes of the connection.
    fn words(&self, choice: u64, chance: &mut Chance) -> (String, bool, Then) {
        let retry = if chance.one_in(self.manners.second_one_in) { "1" } else { "0" };
        let retry = chance.pick(&[retry, "Wed, 21 Oct 2015 07:28:00 GMT"]);
        let empty = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        let later =
            |status: &str| format!("HTTP/1.1 {status}\r\nRetry-After: {retry}\r\nContent-Length: 3\r\n\r\nno\n");
        let refuses = self.manners.refuses;
        match choice {
            0 => (later("503 Service Unavailable"), false, Then::GoOn),
            1 => (later("429 Too Many Requests"), false, Then::GoOn),
            2 => {
                let status = chance.pick(&["500 Internal Server Error", "502 Bad Gateway", "504 Gateway Timeout"]);
                (empty(status), chance.one_in(2), Then::GoOn)
            }
            3 if refuses => (empty("404 Not Found"), false, Then::GoOn),
            4 if refuses => (empty("302 Found"), false, Then::GoOn),
            5 => ("HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".into(), false, Then::Close),
            6 => ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".into(), true, Then::Close),
            7 => ("HTTP/1.1 200 OK\r\n\r\nuntil the end".into(), true, Then::Close),
            // Accepted, and nobody will hear of it.
            8 => (String::new(), true, Then::Close),
            9 => (String::new(), true, Then::Reset),
            10 => (String::new(), false, Then::Close),
            11 => ("HTTQ/1.1 what?\r\n\r\n".into(), true, Then::GoOn),
            12 | 3 | 4 => ("HTTP/1.1 204 No Content\r\n\r\n".into(), true, Then::GoOn),
            13 => {
                let chunked =
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nfour\r\n0\r\nX-T: 1\r\n\r\n";
                (chunked.into(), true, Then::GoOn)
            }
            _ => ("HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nthere".into(), true, Then::GoOn),
        }
    }
}

impl Peer for Server {
    const AT_ONCE: bool = false;

    fn opened(&mut self, id: usize, lane: u32, _connection: u32) {
        self.lanes.insert(id, lane);
    }

    fn turn(&mut self, id: usize, unread: &mut Vec<u8>, chance: &mut Chance, answers_from: u64) -> Reply {
        let mut reply = Reply::default();
        while reply.then == Then::GoOn && !self.hanging.contains(&id) {
            let Some(head) = Head::read(unread) else { break };
            let length = head.number("Content-Length").expect("each request has a length") as usize;
            let whole = head.bytes + length;
            let first = head.number("X-Sequence").expect("each request says it");
            let range = (first, first + head.number("X-Record-Count").unwrap_or(1));
            if unread.len() < whole {
                if !self.hasty.contains_key(&id) && chance.one_in(self.manners.hasty_one_in) {
                    self.accept_unread(id, range, answers_from, &mut reply);
                }
                if self.manners.refuses && !self.hasty.contains_key(&id) && chance.one_in(150) {
                    let words = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
                    self.note(self.lanes[&id], words);
                    reply.bytes.extend(words.bytes());
                    reply.then = Then::Close;
                }
                break;
            }
            let request: Vec<u8> = unread.drain(..whole).collect();
            let range = self.check(self.lanes[&id], &request);
            if let Some(answer_ends_at) = self.hasty.remove(&id) {
                self.accept(self.lanes[&id], range, id, answer_ends_at);
                continue;
            }
            self.answer(id, range, chance, answers_from, &mut reply);
        }
        reply
    }

    fn closed(&mut self, id: usize) {
        assert!(self.lanes.contains_key(&id));
    }
}
