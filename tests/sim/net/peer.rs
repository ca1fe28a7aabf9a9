//! The other end of simulated connections: what any of them does, and the one that only collects.

use crate::chance::Chance;
use crate::world::RUN_ID_HASH;
use engine::record::{HEADER_BYTES, Header, is_intact};
use std::collections::{BTreeMap, BTreeSet};

/// What a peer has to say.
#[derive(Default)]
pub struct Reply {
    pub bytes: Vec<u8>,
    pub then: Then,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Then {
    #[default]
    GoOn,
    Close,
    Reset,
}

pub trait Peer {
    /// It is the peer's kernel that counts: bytes are read as they arrive.
    const AT_ONCE: bool;

    /// A connection of a lane, by number, is open.
    fn opened(&mut self, id: usize, lane: u32, connection: u32);

    /// Takes what it understands out of `unread`. `answers_from`: bytes it said on this connection before.
    fn turn(&mut self, id: usize, unread: &mut Vec<u8>, chance: &mut Chance, answers_from: u64) -> Reply;

    /// Nothing more comes over this connection.
    fn closed(&mut self, id: usize);
}

/// How often each record was accepted, by lane and sequence.
#[derive(Debug, Default)]
pub struct Accepted {
    times: BTreeMap<(u32, u64), u32>,
    /// The peer said so before it had them.
    promised: BTreeSet<(u32, u64)>,
}

impl Accepted {
    pub fn times(&self, lane: usize, sequence: u64) -> u32 {
        self.times.get(&(lane as u32, sequence)).copied().unwrap_or(0)
    }

    pub fn is_promised(&self, lane: usize, sequence: u64) -> bool {
        self.promised.contains(&(lane as u32, sequence))
    }

    pub fn promise(&mut self, lane: u32, sequence: u64) {
        self.promised.insert((lane, sequence));
    }

    pub fn add(&mut self, lane: u32, sequence: u64) {
        *self.times.entry((lane, sequence)).or_default() += 1;
    }

    /// The largest sequence of a lane, and one more.
    pub fn end(&self, lane: usize) -> u64 {
        let lane = lane as u32;
        self.times.range((lane, 0)..=(lane, u64::MAX)).next_back().map_or(0, |((_, sequence), _)| sequence + 1)
    }
}

/// The record at the start of `bytes`; it must be one of this run's lane, and whole.
pub fn record(bytes: &[u8], lane: u32) -> Header {
    let header = Header::decode(bytes).expect("a record begins here");
    assert_eq!((header.run_id, header.producer_id), (RUN_ID_HASH, lane));
    assert!(is_intact(&bytes[..header.record_length as usize]), "record {} came damaged", header.sequence);
    header
}

/// Takes a raw stream of records.
pub struct Collector {
    /// Each record comes behind its length.
    pub framed: bool,
    pub accepted: Accepted,
    lanes: BTreeMap<usize, u32>,
}

impl Collector {
    pub fn new(framed: bool) -> Self {
        Self { framed, accepted: Accepted::default(), lanes: BTreeMap::new() }
    }
}

impl Peer for Collector {
    const AT_ONCE: bool = true;

    fn opened(&mut self, id: usize, lane: u32, _connection: u32) {
        self.lanes.insert(id, lane);
    }

    fn turn(&mut self, id: usize, unread: &mut Vec<u8>, chance: &mut Chance, _answers_from: u64) -> Reply {
        let (lane, before) = (self.lanes[&id], if self.framed { 4 } else { 0 });
        let mut at = 0;
        while unread.len() >= at + before + HEADER_BYTES {
            let start = at + before;
            let header = Header::decode(&unread[start..]).expect("each connection is a stream of whole records");
            let length = header.record_length as usize;
            if self.framed {
                assert_eq!(unread[at..start], (length as u32).to_be_bytes());
            }
            if unread.len() < start + length {
                break;
            }
            self.accepted.add(lane, record(&unread[start..start + length], lane).sequence);
            at = start + length;
        }
        unread.drain(..at);
        // Some receivers say something nobody asked for.
        let bytes = if chance.one_in(200) { b"hello".to_vec() } else { Vec::new() };
        Reply { bytes, then: Then::GoOn }
    }

    fn closed(&mut self, id: usize) {
        assert!(self.lanes.contains_key(&id));
    }
}
