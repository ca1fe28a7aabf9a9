//! Stands between core and sink and writes down what is said of each record.

use engine::counters::answers::Answers;
use engine::counters::broker_errors::BrokerErrors;
use engine::payload::Payload;
use engine::sink::{Done, Ending, Fate, Kept, LaneClose, Room, Sink, Wire};
use engine::sys::allocation::uncounted;
use engine::sys::ring::{Ring, Wait};
use std::collections::BTreeMap;
use std::io;

/// What was said of a lane's records.
#[derive(Default)]
pub struct Said {
    /// By sequence; `None`: nothing.
    pub fates: Vec<Option<Fate>>,
    /// Of each slot in use: of how many records something was said.
    open: BTreeMap<u32, u64>,
}

pub struct Witness<S> {
    sink: S,
    pub said: Vec<Said>,
    /// Records that were found produced when the drain was given up.
    pub found: usize,
}

impl<S> Witness<S> {
    pub fn new(sink: S, lanes: usize) -> Self {
        Self { sink, said: (0..lanes).map(|_| Said::default()).collect(), found: 0 }
    }

    fn produced(&self) -> usize {
        self.said.iter().flat_map(|said| &said.fates).filter(|fate| **fate == Some(Fate::Produced)).count()
    }

    fn hear(&mut self, payloads: &[Payload], done: &[Done]) {
        for news in done {
            let (payload, said) = (&payloads[news.lane as usize], &mut self.said[news.lane as usize]);
            let block = payload.block(news.slot);
            let whole = payload.records_within_span(block, news.bytes);
            let begun = u64::from(news.fate != Fate::Produced && payload.span_of(block, whole) < news.bytes);
            let open = said.open.get_mut(&news.slot).expect("news of a block that was offered");
            let through = (whole + begun).min(block.records).max(*open);
            for at in *open..through {
                let fate = &mut said.fates[(block.first_sequence + at) as usize];
                assert_eq!(fate.replace(news.fate), None, "{} has a second fate", block.first_sequence + at);
            }
            *open = through;
        }
    }
}

impl<R: Ring, S: Sink<R>> Sink<R> for Witness<S> {
    fn room(&mut self, ring: &mut R, lane: usize, next_length: u64) -> Room {
        self.sink.room(ring, lane, next_length)
    }

    fn submitting_makes_room(&self, lane: usize) -> bool {
        self.sink.submitting_makes_room(lane)
    }

    fn offer(&mut self, ring: &mut R, lane: usize, slot: u32, payload: &mut Payload, hurry: bool) {
        uncounted(|| {
            let (block, said) = (payload.block(slot), &mut self.said[lane]);
            assert_eq!(said.fates.len() as u64, block.first_sequence);
            said.fates.resize((block.first_sequence + block.records) as usize, None);
            said.open.insert(slot, 0);
        });
        self.sink.offer(ring, lane, slot, payload, hurry);
    }

    fn submit(&mut self, ring: &mut R, wait: Wait) -> io::Result<()> {
        self.sink.submit(ring, wait)
    }

    fn reap(&mut self, ring: &mut R, payloads: &mut [Payload], now_ns: u64, done: &mut Vec<Done>) {
        let before = done.len();
        self.sink.reap(ring, payloads, now_ns, done);
        uncounted(|| self.hear(payloads, &done[before..]));
    }

    fn flush(&mut self, ring: &mut R) {
        self.sink.flush(ring);
    }

    fn drain_until(&mut self, until_ns: u64) {
        self.sink.drain_until(until_ns);
    }

    fn take_wire(&mut self, lane: usize) -> Wire {
        self.sink.take_wire(lane)
    }

    fn answers(&self, lane: usize) -> Option<&Answers> {
        self.sink.answers(lane)
    }

    fn broker_errors(&self, lane: usize) -> Option<&BrokerErrors> {
        self.sink.broker_errors(lane)
    }

    fn give_up(&mut self, ring: &mut R, payloads: &mut [Payload], done: &mut Vec<Done>) {
        let before = done.len();
        self.sink.give_up(ring, payloads, done);
        uncounted(|| {
            let produced = self.produced();
            self.hear(payloads, &done[before..]);
            self.found = self.produced() - produced;
        });
    }

    fn ending(&self) -> Option<&Ending> {
        self.sink.ending()
    }

    fn close(&mut self, ring: &mut R, lane: usize, end: &LaneClose) -> Kept {
        self.sink.close(ring, lane, end)
    }
}
