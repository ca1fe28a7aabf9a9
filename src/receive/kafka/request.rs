//! A Produce request: what it brings, what becomes of each batch, and its answer.

use super::broker::{Broker, Topic};
use super::control::Refused;
use super::entry::Entry;
use crate::base::limits;
use crate::receive::books::Books;
use crate::receive::faults::{Ending, Strike};
use crate::verify::live::Inspector;
use crate::wire::kafka::batch::HEADER_BYTES;
use crate::wire::kafka::errors::{CORRUPT_MESSAGE, INVALID_RECORD, UNSUPPORTED_FOR_MESSAGE_FORMAT};
use crate::wire::kafka::fields::Malformed;
use crate::wire::kafka::records::{BatchError, BatchHead};
use crate::wire::kafka::request::{ProduceSkim, RequestHead};
use crate::wire::kafka::response::AnswerWriter;
use std::ops::Range;
use std::sync::Arc;

/// Topics that a connection has at hand.
const AT_HAND_MAX: usize = 64;
const FED_MAX: usize = 64;

/// What follows a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Answer,
    /// None was asked for.
    Silence,
    Close {
        reset: bool,
    },
}

/// What it brings for one partition.
pub struct Brought {
    /// Index into `topics`.
    topic: usize,
    pub index: i32,
    /// The head of its one batch, or the code that refuses it.
    pub head: Result<BatchHead, i16>,
    /// Where the whole batch is kept.
    pub body: Option<Range<usize>>,
    code: i16,
    offset: i64,
}

pub struct Asked {
    pub skim: ProduceSkim,
    pub acks: i16,
    version: i16,
    correlation_id: i32,
    strike: Strike,
    /// Each with how many partitions are named.
    topics: Vec<(Arc<Topic>, u32)>,
    brought: Vec<Brought>,
    at_hand: Vec<Arc<Topic>>,
    /// Partitions that the connection brought checked batches for, the first so many.
    fed: Vec<(Arc<Topic>, i32)>,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            skim: ProduceSkim::new(0),
            acks: 0,
            version: 0,
            correlation_id: 0,
            strike: Strike::default(),
            topics: Vec::new(),
            brought: Vec::new(),
            at_hand: Vec::new(),
            fed: Vec::new(),
        }
    }
}

impl Asked {
    /// A new request.
    pub fn begin(&mut self, head: &RequestHead<'_>, body_bytes: usize, strike: Strike) {
        self.skim = ProduceSkim::new(body_bytes);
        (self.version, self.correlation_id, self.strike) = (head.version, head.correlation_id, strike);
        self.topics.clear();
        self.brought.clear();
    }

    pub fn strike(&self) -> Strike {
        self.strike
    }

    /// Whether a batch of it was refused.
    pub fn is_refused(&self) -> bool {
        self.brought.iter().any(|brought| brought.code != 0)
    }

    pub fn topic(&mut self, name: &[u8], broker: &Broker) -> Result<(), Refused> {
        if self.topics.len() >= limits::RECEIVE_BATCHES_MAX {
            return Err(too_many("number of topics"));
        }
        let known = self.at_hand.iter().find(|topic| topic.name.as_bytes() == name).cloned();
        let topic = match known {
            Some(topic) => topic,
            None => {
                let name = String::from_utf8_lossy(name);
                let topic = broker.topic(&name);
                let topic = topic.map_err(|why| Refused::Topic { name: name.into_owned(), why })?;
                if self.at_hand.len() == AT_HAND_MAX {
                    self.at_hand.clear();
                }
                self.at_hand.push(topic.clone());
                topic
            }
        };
        self.topics.push((topic, 0));
        Ok(())
    }

    pub fn partition(&mut self, index: i32) -> Result<(), Refused> {
        let topic = self.topics.len().checked_sub(1).filter(|_| self.brought.len() < limits::RECEIVE_BATCHES_MAX);
        let topic = topic.ok_or_else(|| too_many("number of partitions"))?;
        self.topics[topic].1 += 1;
        self.brought.push(Brought { topic, index, head: Err(INVALID_RECORD), body: None, code: 0, offset: -1 });
        Ok(())
    }

    /// The first bytes of the records for that partition; whether they may be a sound batch.
    #[inline]
    pub fn head(&mut self, bytes: &[u8], record_bytes: usize) -> bool {
        let Some(brought) = self.brought.last_mut() else { return false };
        brought.head = if record_bytes < HEADER_BYTES { Err(INVALID_RECORD) } else { read_head(bytes, record_bytes) };
        brought.head.is_ok()
    }

    /// The batch is kept whole from byte `start` of the body on.
    pub fn keeps(&mut self, start: usize, bytes: usize) {
        if let Some(brought) = self.brought.last_mut() {
            brought.body = Some(start..start + bytes);
        }
    }

    /// Enters what came and counts it.
    #[inline]
    pub fn enter(&mut self, body: &[u8], broker: &Broker, inspector: &mut Inspector, books: &mut Books) -> After {
        for brought in &mut self.brought {
            let topic = &self.topics[brought.topic].0;
            let entry = Entry { topic, broker, acks: self.acks, ending: self.strike.ending };
            match entry.enter(brought, body, inspector, books) {
                Ok(offset) => (brought.code, brought.offset) = (0, offset),
                Err(code) => {
                    books.kafka.batches_refused += 1;
                    (brought.code, brought.offset) = (code, -1);
                }
            }
        }
        self.note_fed();
        match self.strike.ending {
            Ending::Reset => After::Close { reset: true },
            Ending::LoseAnswer => After::Close { reset: false },
            // Without an answer, an end is the only way to say it.
            _ if self.acks == 0 && self.is_refused() => After::Close { reset: false },
            _ if self.acks == 0 => After::Silence,
            _ => After::Answer,
        }
    }

    fn note_fed(&mut self) {
        for brought in self.brought.iter().filter(|brought| brought.body.is_some()) {
            let topic = &self.topics[brought.topic].0;
            let is_it = |(fed, index): &(Arc<Topic>, i32)| *index == brought.index && Arc::ptr_eq(fed, topic);
            if self.fed.len() < FED_MAX && !self.fed.iter().any(is_it) {
                self.fed.push((topic.clone(), brought.index));
            }
        }
    }

    /// The receiver ends the connection: its partitions might have got more.
    pub fn leave_open(&self, broker: &Broker) {
        for (topic, index) in &self.fed {
            let Some(partition) = topic.partition(*index) else { continue };
            if let (Some(arrivals), Some(mut live)) = (&partition.arrivals, broker.live()) {
                live.left_partition_open(arrivals);
            }
        }
    }

    #[inline]
    pub fn answer(&self, out: &mut Vec<u8>) {
        let mut answer = AnswerWriter::begin(out, self.version, self.correlation_id, self.topics.len() as u32);
        let mut brought = self.brought.iter();
        for (topic, partitions) in &self.topics {
            answer.topic(topic.name.as_bytes(), *partitions);
            for one in brought.by_ref().take(*partitions as usize) {
                answer.partition(one.index, one.code, one.offset);
            }
        }
        answer.end(0);
    }
}

fn too_many(field: &'static str) -> Refused {
    Refused::Malformed(Malformed::Value { field, value: limits::RECEIVE_BATCHES_MAX as i64 + 1 })
}

/// Since version 3 there is one batch for each partition, with all of its offsets.
#[inline]
fn read_head(bytes: &[u8], record_bytes: usize) -> Result<BatchHead, i16> {
    let head = BatchHead::parse(bytes).map_err(|error| match error {
        BatchError::Magic(_) => UNSUPPORTED_FOR_MESSAGE_FORMAT,
        _ => CORRUPT_MESSAGE,
    })?;
    if head.bytes != record_bytes || head.records == 0 || !head.is_dense() || head.is_control() {
        return Err(INVALID_RECORD);
    }
    Ok(head)
}
