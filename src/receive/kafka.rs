//! A broker for calibration: it answers what real clients ask, and throws records away or checks them.
//!
//! Of a Produce request only what lies around the records is copied, and the head of each batch; the records
//! themselves go by without being looked at (MSG_TRUNC), but for the batches that are checked.

pub mod asked;
mod broker;
mod control;
mod desk;
mod entry;
mod log;
mod request;

use super::connection::{Buffers, Connection};
use super::faults::Ending;
use super::worker::{Bench, Closed, Protocol, Turn};
use crate::base::limits;
use crate::plan::receive::FaultKind;
use crate::sys::receive::discard;
use crate::wire::kafka::batch::HEADER_BYTES;
use crate::wire::kafka::fields::Malformed;
use crate::wire::kafka::request::{Piece, RequestHead};
use crate::wire::kafka::response::{Frames, SIZE_BYTES};
use control::Refused;
use desk::Desk;
use request::{After, Asked};
use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::Arc;

pub use broker::{Broker, Checks};

/// Read where the last request was long: what lies before the records and little more, since those go by uncopied.
const HEAD_READ_BYTES: usize = 512;
/// With so many bytes of answers nothing more is answered before they are sent.
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
enum State {
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
    /// The answer waits, or the end of the connection.
    Held {
        until_ns: u64,
        ends: Option<Closed>,
    },
    Ending(Closed),
}

pub struct KafkaConnection {
    state: State,
    buffers: Buffers,
    /// The bytes of a request that are kept: the first so many are there.
    body: Vec<u8>,
    filled: usize,
    asked: Asked,
    last_bytes: usize,
    /// Produce requests that were answered well, while their answers are on their way.
    due: u64,
}

impl Protocol for Kafka {
    type Connection = KafkaConnection;

    fn open(&mut self, _: &dyn Fn() -> String, _: &mut Bench) -> KafkaConnection {
        KafkaConnection {
            state: State::Head,
            buffers: Buffers::new(),
            body: Vec::new(),
            filled: 0,
            asked: Asked::default(),
            last_bytes: 0,
            due: 0,
        }
    }

    #[inline]
    fn awaits(&self, connection: &KafkaConnection) -> u64 {
        match connection.state {
            State::Skip { left } | State::Whole { left } => left as u64,
            _ => 0,
        }
    }

    #[inline]
    fn turn(&mut self, stream: &TcpStream, connection: &mut KafkaConnection, bench: &mut Bench) -> Turn {
        connection.turn(stream, self, bench)
    }

    fn close(&mut self, connection: KafkaConnection, how: Closed, bench: &mut Bench) {
        let by_peer = matches!(how, Closed::ByPeer | Closed::ByPeerReset);
        let between = matches!(connection.state, State::Head | State::Held { .. } | State::Ending(_));
        if by_peer && (!between || (connection.state == State::Head && !connection.buffers.kept.is_empty())) {
            bench.books.requests_aborted += 1;
        }
        bench.books.requests_uncertain += connection.due;
        if how == Closed::ByStop {
            connection.asked.leave_open(&self.broker);
        }
    }
}

impl Connection for KafkaConnection {
    type Protocol = Kafka;

    #[inline]
    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    #[inline]
    fn resume(&mut self, stream: &TcpStream, kafka: &mut Kafka, bench: &mut Bench) -> Option<Turn> {
        loop {
            match self.state {
                State::Held { until_ns, .. } if bench.now_ns() < until_ns => return Some(Turn::Wait(until_ns)),
                State::Held { ends, .. } => self.state = ends.map_or(State::Head, State::Ending),
                _ => {}
            }
            let unsent = self.send(stream, bench);
            if let State::Ending(how) = self.state {
                // What could not be sent is lost with the connection.
                return Some(Turn::Closed(how));
            }
            if unsent.is_some() {
                return unsent;
            }
            let kept = self.buffers.take_new()?;
            self.digest(&kept, stream, kafka, bench);
        }
    }

    #[inline]
    fn read(&mut self, stream: &TcpStream, kafka: &mut Kafka, bench: &mut Bench) -> (u64, io::Result<usize>) {
        match self.state {
            State::Skip { left } => return (left as u64, self.pass(left, stream, kafka, bench)),
            State::Whole { left } | State::Control { left } => return self.fill(left, stream, kafka, bench),
            _ => {}
        }
        let buffer_bytes = bench.buffer.len();
        if self.buffers.kept.len() == buffer_bytes {
            // No piece of a request is as long as the buffer.
            let short = Malformed::Short { field: "request", wanted: buffer_bytes + 1, left: buffer_bytes };
            self.malformed(&short, stream, bench);
            return (0, Ok(1));
        }
        let short = self.last_bytes > limits::RECEIVE_COPIED_BYTES_MAX;
        let bytes_max = if short { HEAD_READ_BYTES } else { buffer_bytes };
        self.read_behind_kept(bytes_max, stream, kafka, bench)
    }

    fn digest(&mut self, bytes: &[u8], stream: &TcpStream, kafka: &mut Kafka, bench: &mut Bench) {
        match self.walk(bytes, stream, kafka, bench) {
            Ok(used) if used < bytes.len() => {
                self.buffers.kept.extend_from_slice(&bytes[used..]);
                self.buffers.kept_is_new = self.is_held();
            }
            Ok(_) => {}
            Err(refused) => self.malformed(&refused, stream, bench),
        }
    }
}

impl KafkaConnection {
    /// Throws away records that have arrived.
    #[inline]
    fn pass(&mut self, left: usize, stream: &TcpStream, kafka: &mut Kafka, bench: &mut Bench) -> io::Result<usize> {
        let got = discard(stream, left as u64)?;
        bench.books.wire_bytes += got as u64;
        self.state = State::Skip { left: left - got };
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
    ) -> (u64, io::Result<usize>) {
        let asked = self.room(left);
        let got = (&mut &*stream).read(&mut self.body[self.filled..self.filled + asked]);
        if let Ok(got @ 1..) = got {
            bench.books.wire_bytes += got as u64;
            self.filled += got;
            self.state = match self.state {
                State::Whole { .. } => State::Whole { left: left - got },
                _ => {
                    bench.books.kafka.control_bytes += got as u64;
                    State::Control { left: left - got }
                }
            };
            if got == left {
                self.digest(&[], stream, kafka, bench);
            }
        }
        (asked as u64, got)
    }

    /// Bytes behind those that are kept, up to `left` of them; the memory grows with what has come, not with what was
    /// announced.
    fn room(&mut self, left: usize) -> usize {
        if self.body.len() == self.filled {
            self.body.resize(self.filled + left.min(self.filled.max(BODY_BYTES)), 0);
        }
        left.min(self.body.len() - self.filled)
    }

    /// Whether nothing is looked at before something is sent.
    fn is_held(&self) -> bool {
        matches!(self.state, State::Held { .. } | State::Ending(_)) || self.buffers.out.len() >= ANSWERS_BYTES_MAX
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
            match self.state {
                State::Held { .. } | State::Ending(_) => return Ok(at),
                State::Head if rest.is_empty() || self.is_held() => return Ok(at),
                State::Head => match self.begin(rest, bench)? {
                    0 => return Ok(at),
                    used => at += used,
                },
                State::Pieces => {
                    let (piece, used) = self.asked.skim.step(rest)?;
                    at += used;
                    match piece {
                        Piece::More => return Ok(at),
                        Piece::Head { acks, .. } => self.asked.acks = acks,
                        Piece::Topic { name, .. } => self.asked.topic(name, &kafka.broker)?,
                        Piece::Partition { index, record_bytes } => {
                            self.asked.partition(index)?;
                            self.state = State::Batch { bytes: record_bytes };
                        }
                        Piece::End => self.produced(kafka, bench),
                    }
                }
                State::Batch { bytes: record_bytes } => {
                    if rest.len() < record_bytes.min(HEADER_BYTES) {
                        return Ok(at);
                    }
                    let sound = self.asked.head(rest, record_bytes);
                    let checked = sound && kafka.desk.checks_next(&kafka.broker);
                    self.state = if checked {
                        self.asked.keeps(self.filled, record_bytes);
                        State::Whole { left: record_bytes }
                    } else {
                        State::Skip { left: record_bytes }
                    };
                }
                State::Skip { left: 0 } | State::Whole { left: 0 } => self.state = State::Pieces,
                State::Control { left: 0 } => self.control(stream, kafka, bench)?,
                _ if rest.is_empty() => return Ok(at),
                State::Skip { left } => {
                    let taken = left.min(rest.len());
                    self.state = State::Skip { left: left - taken };
                    at += taken;
                }
                State::Whole { left } => {
                    let taken = self.take(rest, left);
                    self.state = State::Whole { left: left - taken };
                    at += taken;
                }
                State::Control { left } => {
                    let taken = self.take(rest, left);
                    self.state = State::Control { left: left - taken };
                    bench.books.kafka.control_bytes += taken as u64;
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
            let strike = bench.faults.as_ref().map(|faults| faults.draw_next()).unwrap_or_default();
            self.asked.begin(&head, size - head.body_at, strike);
            self.state = State::Pieces;
            return Ok(SIZE_BYTES + head.body_at);
        }
        if size > limits::RECEIVE_CONTROL_BYTES_MAX {
            return Err(Malformed::Value { field: "size", value: size as i64 });
        }
        self.state = State::Control { left: size };
        bench.books.kafka.control_bytes += SIZE_BYTES as u64;
        Ok(SIZE_BYTES)
    }

    fn control(&mut self, stream: &TcpStream, kafka: &Kafka, bench: &mut Bench) -> Result<(), Refused> {
        let local = stream.local_addr().map_err(|error| Refused::Answer(error.to_string()))?;
        let wait_ns = control::answer(&self.body[..self.filled], &kafka.broker, local, &mut self.buffers.out)?;
        bench.books.kafka.control_requests += 1;
        let held = || State::Held { until_ns: bench.now_ns() + wait_ns, ends: None };
        self.state = if wait_ns > 0 { held() } else { State::Head };
        Ok(())
    }

    /// A Produce request is whole: what it brought is entered, and its answer is due.
    #[inline]
    fn produced(&mut self, kafka: &mut Kafka, bench: &mut Bench) {
        let body = &self.body[..self.filled];
        let after = self.asked.enter(body, &kafka.broker, &mut kafka.desk.inspector, &mut bench.books);
        self.state = match after {
            After::Close { reset } => State::Ending(if reset { Closed::ByReset } else { Closed::AsAnswered }),
            After::Answer => {
                self.asked.answer(&mut self.buffers.out);
                State::Head
            }
            After::Silence => State::Head,
        };
        let strike = self.asked.strike();
        strike.count(FaultKind::ENDING, &mut bench.books);
        match strike.ending {
            Ending::Reset | Ending::LoseAnswer => bench.books.requests_uncertain += 1,
            _ if self.asked.is_refused() => bench.books.requests_refused += 1,
            _ if after == After::Answer => self.due += 1,
            _ => bench.books.requests += 1,
        }
        if strike.delay_ns > 0 {
            strike.count(FaultKind::DELAY, &mut bench.books);
            let ends = if let State::Ending(how) = self.state { Some(how) } else { None };
            self.state = State::Held { until_ns: bench.now_ns() + strike.delay_ns, ends };
        }
    }

    fn malformed(&mut self, why: &dyn std::fmt::Display, stream: &TcpStream, bench: &mut Bench) {
        bench.books.requests_malformed += 1;
        let peer = stream.peer_addr().map_or_else(|_| "a client".to_owned(), |peer| peer.to_string());
        tracing::warn!(event = "malformed_request", peer, "the connection of {peer} ends: {why}");
        self.state = State::Ending(Closed::AsAnswered);
    }

    /// Sends the answers that wait; once they are out (`None`), their requests count.
    #[inline]
    fn send(&mut self, stream: &TcpStream, bench: &mut Bench) -> Option<Turn> {
        if let Some(turn) = self.buffers.send(stream) {
            return Some(turn);
        }
        bench.books.requests += std::mem::take(&mut self.due);
        None
    }
}

#[cfg(test)]
mod tests;
