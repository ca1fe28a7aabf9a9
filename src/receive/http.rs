//! Requests and their answers: bodies are thrown away or checked, everything well-formed gets 204.

mod answers;
pub mod chunks;
pub mod head;

use super::connection::{Buffers, Connection};
use super::faults::{Ending, Strike};
use super::judge::Judged;
use super::worker::{Bench, Closed, Protocol, Turn};
use crate::base::limits;
use crate::plan::receive::FaultKind;
use crate::sys::receive::discard;
use crate::verify::live::Outcome;
use chunks::Chunks;
use head::{Body, Head, Link};
use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;

/// Read where the last body was long: a head, since the rest can go by without being copied.
const HEAD_READ_BYTES: usize = 1024;

#[derive(Clone)]
pub struct Http;

#[derive(Clone, Copy)]
enum State {
    Head,
    Body {
        left: u64,
    },
    Chunks(Chunks),
    /// The body is read, the answer waits.
    Held {
        until_ns: u64,
    },
    /// The answer goes out byte by byte.
    Dribbling {
        next_ns: u64,
    },
    /// Refused; what still comes is thrown away.
    Lingering {
        until_ns: u64,
    },
    Reset,
}

pub struct HttpConnection {
    state: State,
    buffers: Buffers,
    due: answers::Due,
    link: Link,
    strike: Strike,
    /// Of the body that is being read.
    body_bytes: u64,
    last_body_bytes: u64,
    /// After the answers that wait the connection ends.
    ending: bool,
    judged: Option<Judged>,
}

impl Protocol for Http {
    type Connection = HttpConnection;

    fn open(&mut self, name: &dyn Fn() -> String, bench: &mut Bench) -> HttpConnection {
        HttpConnection {
            state: State::Head,
            buffers: Buffers::new(),
            due: answers::Due::default(),
            link: Link::Stays,
            strike: Strike::default(),
            body_bytes: 0,
            last_body_bytes: 0,
            ending: false,
            judged: bench.judge.as_ref().map(|judge| judge.open(name)),
        }
    }

    #[inline]
    fn awaits(&self, connection: &HttpConnection) -> u64 {
        connection.data_left()
    }

    #[inline]
    fn turn(&mut self, stream: &TcpStream, connection: &mut HttpConnection, bench: &mut Bench) -> Turn {
        connection.turn(stream, self, bench)
    }

    fn close(&mut self, mut connection: HttpConnection, how: Closed, bench: &mut Bench) {
        let amid = matches!(connection.state, State::Body { .. } | State::Chunks(_));
        let by_peer = matches!(how, Closed::ByPeer | Closed::ByPeerReset);
        if by_peer && (amid || (matches!(connection.state, State::Head) && !connection.buffers.kept.is_empty())) {
            bench.books.requests_aborted += 1;
        }
        let held = matches!(connection.state, State::Held { .. });
        bench.books.requests_uncertain += connection.due.requests + u64::from(held);
        let (Some(mut judged), Some(judge)) = (connection.judged.take(), &bench.judge) else { return };
        if amid || matches!(connection.state, State::Reset) {
            judged.drop_part();
        } else {
            judged.keep_part();
        }
        judged.tell(Outcome::Uncertain, judge);
        if how == Closed::ByStop {
            judged.leave_open(amid || !connection.buffers.kept.is_empty(), judge);
        }
        judged.close(!by_peer, judge);
    }
}

impl Connection for HttpConnection {
    type Protocol = Http;

    #[inline]
    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    #[inline]
    fn resume(&mut self, stream: &TcpStream, http: &mut Http, bench: &mut Bench) -> Option<Turn> {
        loop {
            match self.state {
                State::Reset => return Some(Turn::Closed(Closed::ByReset)),
                State::Held { until_ns } => {
                    if let Some(turn) = self.send(stream, bench) {
                        return Some(turn);
                    }
                    if bench.now_ns() < until_ns {
                        return Some(Turn::Wait(until_ns));
                    }
                    self.answer(bench);
                    self.doubt_unheard(stream, bench);
                    continue;
                }
                State::Dribbling { next_ns } => {
                    if let Some(turn) = self.dribble(next_ns, stream, bench) {
                        return Some(turn);
                    }
                }
                _ => {}
            }
            if let Some(turn) = self.send(stream, bench) {
                return Some(turn);
            }
            if let State::Lingering { until_ns } = self.state {
                return Some(answers::linger(until_ns, stream, bench));
            }
            if self.ending && self.strike.ending == Ending::Close {
                // What the sender has behind its request is not heeded, and must not turn the close into a reset.
                self.state = State::Lingering { until_ns: bench.now_ns() + answers::LINGER_NS };
                continue;
            }
            if self.ending {
                return Some(Turn::Closed(Closed::AsAnswered));
            }
            let kept = self.buffers.take_new()?;
            self.digest(&kept, stream, http, bench);
            let reads_on = matches!(self.state, State::Head | State::Body { .. } | State::Chunks(_));
            if reads_on && self.buffers.out.is_empty() && !self.ending {
                return None;
            }
        }
    }

    #[inline]
    fn read(&mut self, stream: &TcpStream, http: &mut Http, bench: &mut Bench) -> (u64, io::Result<usize>) {
        let goes_by = self.bytes_going_by(bench);
        if goes_by > 0 {
            return (goes_by, self.pass(stream, goes_by, bench));
        }
        let short = bench.judge.is_none() && self.last_body_bytes > limits::RECEIVE_COPIED_BYTES_MAX as u64;
        let bytes_max = if short { HEAD_READ_BYTES } else { bench.buffer.len() };
        self.read_behind_kept(bytes_max, stream, http, bench)
    }

    fn digest(&mut self, mut bytes: &[u8], stream: &TcpStream, _: &mut Http, bench: &mut Bench) {
        loop {
            match &mut self.state {
                State::Head if bytes.is_empty() || self.ending => return,
                State::Head => match head::parse(bytes) {
                    Ok(Some((head, length))) => {
                        let (text, rest) = bytes.split_at(length);
                        bytes = rest;
                        self.begin(head, text, rest.is_empty(), bench);
                    }
                    Ok(None) => {
                        self.buffers.kept.extend_from_slice(bytes);
                        return;
                    }
                    Err(status) => return self.refuse(status, bench),
                },
                State::Body { left } => {
                    let taken = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    *left -= taken as u64;
                    let whole = *left == 0;
                    self.body(&bytes[..taken], bench);
                    bytes = &bytes[taken..];
                    if !whole {
                        return;
                    }
                    self.body_is_read(stream, bench);
                }
                State::Chunks(chunks) => {
                    let mut here = *chunks;
                    let taken = here.take(bytes, |data| self.body(data, bench));
                    let Ok(taken) = taken else { return self.refuse(400, bench) };
                    self.state = State::Chunks(here);
                    bytes = &bytes[taken..];
                    if !here.is_done() {
                        return;
                    }
                    self.body_is_read(stream, bench);
                }
                _ => {
                    self.buffers.kept.extend_from_slice(bytes);
                    self.buffers.kept_is_new = true;
                    return;
                }
            }
        }
    }
}

impl HttpConnection {
    /// Bytes that come next and need not be seen.
    #[inline]
    fn bytes_going_by(&self, bench: &Bench) -> u64 {
        if bench.judge.is_some() { 0 } else { self.data_left() }
    }

    /// Bytes of the body, or of its chunk, that are to come.
    #[inline]
    fn data_left(&self) -> u64 {
        match &self.state {
            State::Body { left } => *left,
            State::Chunks(chunks) => chunks.data_left(),
            _ => 0,
        }
    }

    fn pass(&mut self, stream: &TcpStream, left: u64, bench: &mut Bench) -> io::Result<usize> {
        let got = discard(stream, left)?;
        self.body_bytes += got as u64;
        bench.books.wire_bytes += got as u64;
        match &mut self.state {
            State::Body { left } => *left -= got as u64,
            State::Chunks(chunks) => chunks.pass(got as u64),
            _ => {}
        }
        if matches!(self.state, State::Body { left: 0 }) {
            self.body_is_read(stream, bench);
        }
        Ok(got)
    }

    #[inline]
    fn body(&mut self, bytes: &[u8], bench: &mut Bench) {
        self.body_bytes += bytes.len() as u64;
        if let (Some(judged), Some(judge)) = (&mut self.judged, &mut bench.judge) {
            judged.push(bytes, judge);
        }
    }

    fn begin(&mut self, head: Head, text: &[u8], body_is_missing: bool, bench: &mut Bench) {
        self.strike = bench.faults.as_ref().map(|faults| faults.draw_next()).unwrap_or_default();
        self.link = head.link;
        self.body_bytes = 0;
        if let Some(judged) = &mut self.judged {
            judged.begin_part(head.names_run.then(|| head::facts(text)).flatten());
        }
        self.state = match head.body {
            _ if self.strike.ending == Ending::Abort => {
                self.strike.count(FaultKind::ENDING, &mut bench.books);
                State::Reset
            }
            Body::Exact(left) => State::Body { left },
            Body::Chunked => State::Chunks(Chunks::begin()),
        };
        if head.waits && body_is_missing && head.body != Body::Exact(0) {
            self.buffers.out.extend_from_slice(answers::CONTINUE);
        }
    }

    fn refuse(&mut self, status: u16, bench: &mut Bench) {
        bench.books.requests_malformed += 1;
        if let Some(judged) = &mut self.judged
            && !matches!(self.state, State::Head)
        {
            judged.drop_part();
        }
        self.buffers.out.extend_from_slice(answers::refusal(status).as_bytes());
        self.state = State::Lingering { until_ns: bench.now_ns() + answers::LINGER_NS };
    }

    /// The request is whole: its answer is due, or will be.
    #[inline]
    fn body_is_read(&mut self, stream: &TcpStream, bench: &mut Bench) {
        self.last_body_bytes = self.body_bytes;
        self.state = State::Head;
        if let (Some(judged), Some(judge)) = (&mut self.judged, &mut bench.judge) {
            judged.end_part(judge);
        }
        if self.strike.delay_ns > 0 {
            self.strike.count(FaultKind::DELAY, &mut bench.books);
            self.state = State::Held { until_ns: bench.now_ns() + self.strike.delay_ns };
        } else {
            self.answer(bench);
        }
        // Each struck request has an outcome of its own.
        if bench.faults.is_some() && matches!(self.state, State::Head) {
            let _rest_later = self.send(stream, bench);
        }
    }

    #[inline]
    fn answer(&mut self, bench: &mut Bench) {
        self.state = State::Head;
        self.strike.count(FaultKind::ENDING, &mut bench.books);
        let refused = match self.strike.ending {
            Ending::Answer | Ending::Truncate | Ending::Abort | Ending::Close => None,
            Ending::Error(_) | Ending::LoseAnswer => None,
            Ending::Refuse(item) => Some(item),
            Ending::Reset => {
                self.state = State::Reset;
                bench.books.requests_uncertain += 1;
                self.judge_uncertain(bench);
                return;
            }
        };
        let start = self.buffers.out.len();
        match (refused, &bench.faults) {
            (Some(item), Some(faults)) => {
                bench.books.requests_refused += 1;
                self.buffers.out.extend_from_slice(faults.refusal(item));
            }
            _ => self.buffers.out.extend_from_slice(answers::NO_CONTENT),
        }
        if self.strike.ending == Ending::Close {
            self.link = Link::Closes;
        }
        self.buffers.out.extend_from_slice(answers::end(self.link));
        self.ending = self.link == Link::Closes;
        match (self.strike.ending, &mut self.judged) {
            (Ending::Truncate, _) => {
                self.buffers.out.truncate(start + (self.buffers.out.len() - start) / 2);
                self.ending = true;
                bench.books.requests_uncertain += 1;
                self.judge_uncertain(bench);
            }
            (Ending::Refuse(_), Some(judged)) => judged.drop_part(),
            (Ending::Refuse(_), None) => {}
            (_, judged) => {
                self.due.add(self.body_bytes);
                judged.iter_mut().for_each(Judged::keep_part);
            }
        }
        if self.strike.slow_ns > 0 {
            self.strike.count(FaultKind::SLOW, &mut bench.books);
            self.state = State::Dribbling { next_ns: bench.now_ns() };
        }
    }

    /// With faults, this request's records are the only ones that wait.
    fn judge_uncertain(&mut self, bench: &Bench) {
        if let (Some(judged), Some(judge)) = (&mut self.judged, &bench.judge) {
            judged.keep_part();
            judged.tell(Outcome::Uncertain, judge);
        }
    }

    /// A sender that waits no longer has its request for lost, whatever the answer says, and may send it again.
    fn doubt_unheard(&mut self, stream: &TcpStream, bench: &mut Bench) {
        if self.due.requests > 0 && answers::has_left(stream) {
            bench.books.requests_uncertain += std::mem::take(&mut self.due).requests;
            self.judge_uncertain(bench);
        }
    }

    fn dribble(&mut self, next_ns: u64, stream: &TcpStream, bench: &mut Bench) -> Option<Turn> {
        let now_ns = bench.now_ns();
        if now_ns < next_ns {
            return Some(Turn::Wait(next_ns));
        }
        if self.buffers.sent + 1 == self.buffers.out.len() {
            self.doubt_unheard(stream, bench);
        }
        match (&mut &*stream).write(&self.buffers.out[self.buffers.sent..][..1]) {
            Ok(sent) => self.buffers.sent += sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Turn::Blocked),
            Err(_) => return Some(Turn::Closed(Closed::ByPeerReset)),
        }
        if self.buffers.sent < self.buffers.out.len() {
            let next_ns = now_ns + self.strike.slow_ns;
            self.state = State::Dribbling { next_ns };
            return Some(Turn::Wait(next_ns));
        }
        self.state = State::Head;
        None
    }

    /// Sends the answers that wait; once they are out (`None`), their requests count.
    #[inline]
    fn send(&mut self, stream: &TcpStream, bench: &mut Bench) -> Option<Turn> {
        if let Some(turn) = self.buffers.send(stream) {
            return Some(turn);
        }
        self.due.enter(&mut bench.books);
        if let (Some(judged), Some(judge)) = (&mut self.judged, &bench.judge) {
            judged.tell(Outcome::Received, judge);
        }
        None
    }
}

#[cfg(test)]
mod tests;
