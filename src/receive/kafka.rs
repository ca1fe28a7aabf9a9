//! A broker for calibration: it answers what real clients ask, and throws records away or checks them.
//!
//! Of a Produce request only what lies around the records is copied, and the head of each batch; the records
//! themselves go by without being looked at (MSG_TRUNC), but for the batches that are checked.

pub mod asked;
mod broker;
mod control;
mod desk;
mod log;
mod request;

use super::faults::Ending;
use super::worker::{Bench, Closed, Protocol, Turn};
use crate::base::limits;
use crate::sys::receive::discard;
use crate::wire::kafka::batch::HEADER_BYTES;
use crate::wire::kafka::fields::Malformed;
use crate::wire::kafka::request::{Piece, RequestHead};
use crate::wire::kafka::response::{Frames, SIZE_BYTES};
use control::Refused;
use desk::Desk;
use request::{After, Asked};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

pub use broker::{Broker, Checks};

const READS_PER_TURN: usize = 8;
/// Read where the last request was long: what lies before the records and little more, since those go by uncopied.
const HEAD_READ_BYTES: usize = 512;
/// Answers that are kept to be sent together, and from where on nothing more is answered before they are sent.
const ANSWERS_BYTES: usize = 4096;
const ANSWERS_BYTES_MAX: usize = 1 << 20;
/// What a body that is kept grows by at least.
const BODY_BYTES: usize = 64 << 10;

/// One thread's broker.
pub struct Kafka {
    broker: Arc<Broker>,
    desk: Desk,
}

impl Kafka {
    pub fn new(broker: Broker) -> Self {
        let desk = Desk::new(&broker);
        Self { broker: Arc::new(broker), desk }
    }
}

impl Clone for Kafka {
    fn clone(&self) -> Self {
        Self { broker: self.broker.clone(), desk: Desk::new(&self.broker) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A request's size and head.
    Head,
    /// What lies between the records of a Produce request.
    Pieces,
    /// The head of a batch in so many bytes.
    Batch {
        bytes: usize,
    },
    /// Records that go by.
    Skip {
        left: usize,
    },
    /// Records that are checked.
    Whole {
        left: usize,
    },
    /// Another request.
    Control {
        left: usize,
    },
    /// The answer waits.
    Held {
        until_ns: u64,
    },
    Ending(Closed),
}

pub struct Link {
    stage: Stage,
    /// Read but not understood yet: a head that goes on, or what follows an answer that waits.
    kept: Vec<u8>,
    /// What is kept has not been looked at.
    kept_is_new: bool,
    /// The bytes of a request that are kept: the first so many are there.
    body: Vec<u8>,
    filled: usize,
    asked: Asked,
    last_bytes: usize,
    /// Answers; those before `sent` are on their way.
    out: Vec<u8>,
    sent: usize,
    /// Produce requests that were answered well, while their answers are on their way.
    due: u64,
}

impl Protocol for Kafka {
    type Connection = Link;

    fn open(&mut self, _: &dyn Fn() -> String, _: &mut Bench) -> Link {
        Link {
            stage: Stage::Head,
            kept: Vec::new(),
            kept_is_new: false,
            body: Vec::new(),
            filled: 0,
            asked: Asked::default(),
            last_bytes: 0,
            out: Vec::with_capacity(ANSWERS_BYTES),
            sent: 0,
            due: 0,
        }
    }

    #[inline]
    fn turn(&mut self, stream: &TcpStream, link: &mut Link, bench: &mut Bench) -> Turn {
        if let Some(turn) = link.resume(stream, self, bench) {
            return turn;
        }
        for _ in 0..READS_PER_TURN {
            let (asked, got) = match link.stage {
                Stage::Skip { left } => (left, link.pass(left, stream, self, bench)),
                Stage::Whole { left } | Stage::Control { left } => link.fill(left, stream, self, bench),
                _ => link.read(stream, self, bench),
            };
            match got {
                Ok(0) => return Turn::Closed(Closed::ByPeer),
                Ok(got) => {
                    if let Some(turn) = link.resume(stream, self, bench) {
                        return turn;
                    }
                    if got < asked {
                        return Turn::Next;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Next,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Turn::Closed(Closed::ByPeerReset),
            }
        }
        Turn::Next
    }

    fn close(&mut self, link: Link, how: Closed, bench: &mut Bench) {
        let by_peer = matches!(how, Closed::ByPeer | Closed::ByPeerReset);
        let between = matches!(link.stage, Stage::Head | Stage::Held { .. } | Stage::Ending(_));
        if by_peer && (!between || (link.stage == Stage::Head && !link.kept.is_empty())) {
            bench.books.requests_aborted += 1;
        }
        bench.books.requests_uncertain += link.due;
    }
}

impl Link {
    /// Throws away records that have arrived.
    #[inline]
    fn pass(
        &mut self,
        left: usize,
        stream: &TcpStream,
        kafka: &mut Kafka,
        bench: &mut Bench,
    ) -> std::io::Result<usize> {
        let got = discard(stream, left as u64)?;
        bench.books.wire_bytes += got as u64;
        self.stage = Stage::Skip { left: left - got };
        if got == left {
            self.digest(&[], stream, kafka, bench);
        }
        Ok(got)
    }

    /// Reads what is kept straight to where it is kept.
    fn fill(
        &mut self,
        left: usize,
        stream: &TcpStream,
        kafka: &mut Kafka,
        bench: &mut Bench,
    ) -> (usize, std::io::Result<usize>) {
        let asked = self.room(left);
        let got = (&mut &*stream).read(&mut self.body[self.filled..self.filled + asked]);
        if let Ok(got @ 1..) = got {
            bench.books.wire_bytes += got as u64;
            self.filled += got;
            self.stage = match self.stage {
                Stage::Whole { .. } => Stage::Whole { left: left - got },
                _ => Stage::Control { left: left - got },
            };
            if got == left {
                self.digest(&[], stream, kafka, bench);
            }
        }
        (asked, got)
    }

    /// Bytes behind those that are kept, up to `left` of them; the memory grows with what has come, not with what was
    /// announced.
    fn room(&mut self, left: usize) -> usize {
        if self.body.len() == self.filled {
            self.body.resize(self.filled + left.min(self.filled.max(BODY_BYTES)), 0);
        }
        left.min(self.body.len() - self.filled)
    }

    /// Reads behind what is kept and looks at all of it; bytes asked for, and bytes that came.
    #[inline]
    fn read(&mut self, stream: &TcpStream, kafka: &mut Kafka, bench: &mut Bench) -> (usize, std::io::Result<usize>) {
        let start = self.kept.len();
        let short = self.last_bytes > limits::RECEIVE_COPIED_BYTES_MAX;
        let end = if short { (start + HEAD_READ_BYTES).min(bench.buffer.len()) } else { bench.buffer.len() };
        if start == end {
            // No piece of a request is as long as the buffer.
            self.malformed(&Malformed::Short { field: "request", wanted: end + 1, left: end }, stream, bench);
            return (0, Ok(1));
        }
        let got = match (&mut &*stream).read(&mut bench.buffer[start..end]) {
            Ok(0) => return (end - start, Ok(0)),
            Ok(got) => got,
            Err(error) => return (end - start, Err(error)),
        };
        bench.books.wire_bytes += got as u64;
        bench.buffer[..start].copy_from_slice(&self.kept);
        self.kept.clear();
        let buffer = std::mem::take(&mut bench.buffer);
        self.digest(&buffer[..start + got], stream, kafka, bench);
        bench.buffer = buffer;
        (end - start, Ok(got))
    }

    /// Looks at bytes; keeps those that cannot be judged yet.
    fn digest(&mut self, bytes: &[u8], stream: &TcpStream, kafka: &mut Kafka, bench: &mut Bench) {
        match self.walk(bytes, stream, kafka, bench) {
            Ok(used) if used < bytes.len() => {
                self.kept.extend_from_slice(&bytes[used..]);
                self.kept_is_new = self.is_held();
            }
            Ok(_) => {}
            Err(refused) => self.malformed(&refused, stream, bench),
        }
    }

    /// Whether nothing is looked at before something is sent.
    fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Held { .. } | Stage::Ending(_)) || self.out.len() >= ANSWERS_BYTES_MAX
    }

    /// Goes through bytes as far as they can be judged; how many of them that were.
    #[inline]
    fn walk(
        &mut self,
        bytes: &[u8],
        stream: &TcpStream,
        kafka: &mut Kafka,
        bench: &mut Bench,
    ) -> Result<usize, Refused> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match self.stage {
                Stage::Held { .. } | Stage::Ending(_) => return Ok(at),
                Stage::Head if rest.is_empty() || self.is_held() => return Ok(at),
                Stage::Head => match self.begin(rest, bench)? {
                    0 => return Ok(at),
                    used => at += used,
                },
                Stage::Pieces => {
                    let (piece, used) = self.asked.skim.step(rest)?;
                    at += used;
                    match piece {
                        Piece::More => return Ok(at),
                        Piece::Head { acks, .. } => self.asked.acks = acks,
                        Piece::Topic { name, .. } => self.asked.topic(name, &kafka.broker)?,
                        Piece::Partition { index, record_bytes } => {
                            self.asked.partition(index)?;
                            self.stage = Stage::Batch { bytes: record_bytes };
                        }
                        Piece::End => self.produced(kafka, bench),
                    }
                }
                Stage::Batch { bytes: record_bytes } => {
                    if rest.len() < record_bytes.min(HEADER_BYTES) {
                        return Ok(at);
                    }
                    let sound = self.asked.head(rest, record_bytes);
                    let checked = sound && kafka.desk.checks_next(&kafka.broker);
                    self.stage = if checked {
                        self.asked.keeps(self.filled, record_bytes);
                        Stage::Whole { left: record_bytes }
                    } else {
                        Stage::Skip { left: record_bytes }
                    };
                }
                Stage::Skip { left: 0 } | Stage::Whole { left: 0 } => self.stage = Stage::Pieces,
                Stage::Control { left: 0 } => self.control(stream, kafka, bench)?,
                _ if rest.is_empty() => return Ok(at),
                Stage::Skip { left } => {
                    let taken = left.min(rest.len());
                    self.stage = Stage::Skip { left: left - taken };
                    at += taken;
                }
                Stage::Whole { left } => {
                    let taken = self.take(rest, left);
                    self.stage = Stage::Whole { left: left - taken };
                    at += taken;
                }
                Stage::Control { left } => {
                    let taken = self.take(rest, left);
                    self.stage = Stage::Control { left: left - taken };
                    at += taken;
                }
            }
        }
    }

    /// Keeps up to `left` bytes.
    fn take(&mut self, bytes: &[u8], left: usize) -> usize {
        let taken = self.room(left).min(bytes.len());
        self.body[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        taken
    }

    /// The start of a request; how many bytes belong to what was understood.
    #[inline]
    fn begin(&mut self, bytes: &[u8], bench: &mut Bench) -> Result<usize, Malformed> {
        let Some(size) = Frames::new(limits::RECEIVE_PRODUCE_BYTES_MAX).size(bytes)? else { return Ok(0) };
        let there = &bytes[SIZE_BYTES..bytes.len().min(SIZE_BYTES + size)];
        let head = match RequestHead::parse(there) {
            Err(error) if error.is_short() && there.len() < size => return Ok(0),
            head => head?,
        };
        self.filled = 0;
        self.last_bytes = size;
        if head.is_produce() {
            let strike = bench.faults.as_ref().map(|faults| faults.strike(&mut bench.books)).unwrap_or_default();
            self.asked.begin(&head, size - head.body_at, strike);
            self.stage = Stage::Pieces;
            return Ok(SIZE_BYTES + head.body_at);
        }
        if size > limits::RECEIVE_CONTROL_BYTES_MAX {
            return Err(Malformed::Value { field: "size", value: size as i64 });
        }
        self.stage = Stage::Control { left: size };
        Ok(SIZE_BYTES)
    }

    fn control(&mut self, stream: &TcpStream, kafka: &Kafka, bench: &mut Bench) -> Result<(), Refused> {
        let local = stream.local_addr().map_err(|error| Refused::Answer(error.to_string()))?;
        let wait_ns = control::answer(&self.body[..self.filled], &kafka.broker, local, &mut self.out)?;
        bench.books.kafka.control_requests += 1;
        self.stage = if wait_ns > 0 { Stage::Held { until_ns: bench.now_ns() + wait_ns } } else { Stage::Head };
        Ok(())
    }

    /// A Produce request is whole: what it brought is entered, and its answer is due.
    #[inline]
    fn produced(&mut self, kafka: &mut Kafka, bench: &mut Bench) {
        let body = &self.body[..self.filled];
        let after = self.asked.enter(body, &kafka.broker, &mut kafka.desk.inspector, &mut bench.books);
        self.stage = match after {
            After::Close { reset } => Stage::Ending(if reset { Closed::ByReset } else { Closed::AsAnswered }),
            After::Answer => {
                self.asked.answer(&mut self.out);
                Stage::Head
            }
            After::Silence => Stage::Head,
        };
        let strike = self.asked.strike();
        match strike.ending {
            Ending::Reset | Ending::LoseAnswer => bench.books.requests_uncertain += 1,
            _ if self.asked.is_refused() => bench.books.requests_refused += 1,
            _ if after == After::Answer => self.due += 1,
            _ => bench.books.requests += 1,
        }
        if self.stage == Stage::Head && strike.delay_ns > 0 {
            self.stage = Stage::Held { until_ns: bench.now_ns() + strike.delay_ns };
        }
    }

    fn malformed(&mut self, why: &dyn std::fmt::Display, stream: &TcpStream, bench: &mut Bench) {
        bench.books.requests_malformed += 1;
        let peer = stream.peer_addr().map_or_else(|_| "a client".to_owned(), |peer| peer.to_string());
        tracing::warn!(event = "malformed_request", peer, "the connection of {peer} ends: {why}");
        self.stage = Stage::Ending(Closed::AsAnswered);
    }

    /// Does what is due before anything is read; `None`: reading comes next.
    #[inline]
    fn resume(&mut self, stream: &TcpStream, kafka: &mut Kafka, bench: &mut Bench) -> Option<Turn> {
        loop {
            match self.stage {
                Stage::Held { until_ns } if bench.now_ns() < until_ns => return Some(Turn::Wait(until_ns)),
                Stage::Held { .. } => self.stage = Stage::Head,
                _ => {}
            }
            let sent = self.send(stream, bench);
            match (sent, self.stage) {
                // What could not be sent is lost with the connection.
                (_, Stage::Ending(how)) => return Some(Turn::Closed(how)),
                (Ok(true), _) => {}
                (Ok(false), _) => return Some(Turn::Blocked),
                (Err(_), _) => return Some(Turn::Closed(Closed::ByPeerReset)),
            }
            if !self.kept_is_new {
                return None;
            }
            self.kept_is_new = false;
            let kept = std::mem::take(&mut self.kept);
            self.digest(&kept, stream, kafka, bench);
        }
    }

    /// Sends the answers that wait; whether all of them are gone. Then their requests count.
    #[inline]
    fn send(&mut self, stream: &TcpStream, bench: &mut Bench) -> std::io::Result<bool> {
        while self.sent < self.out.len() {
            match (&mut &*stream).write(&self.out[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        bench.books.requests += std::mem::take(&mut self.due);
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
