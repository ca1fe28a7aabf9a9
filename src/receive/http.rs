//! Requests and their answers: bodies are thrown away or checked, everything well-formed gets 204.

mod answers;
pub mod chunks;
pub mod head;

use super::faults::{Ending, Strike};
use super::judge::Judged;
use super::worker::{Bench, Closed, Protocol, Turn};
use crate::base::limits;
use crate::plan::receive::FaultKind;
use crate::sys::receive::discard;
use crate::verify::live::Outcome;
use chunks::Chunks;
use head::{Body, Head, Link};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

const READS_PER_TURN: usize = 8;
/// Read where the last body was long: a head, since the rest can go by without being copied.
const HEAD_READ_BYTES: usize = 1024;
/// Answers that are kept to be sent together.
const ANSWERS_BYTES: usize = 4096;

#[derive(Clone)]
pub struct Http;

#[derive(Clone, Copy)]
enum Stage {
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

pub struct Exchange {
    stage: Stage,
    /// Read but not understood yet: a head that goes on, or what follows an answer that waits.
    kept: Vec<u8>,
    /// What is kept has not been looked at.
    kept_is_new: bool,
    /// Answers; those before `sent` are on their way.
    out: Vec<u8>,
    sent: usize,
    due: answers::Due,
    link: Link,
    strike: Strike,
    /// Of the body that is being read.
    body_bytes: u64,
    last_body_bytes: u64,
    /// After `out` the connection ends.
    ending: bool,
    judged: Option<Judged>,
}

impl Protocol for Http {
    type Connection = Exchange;

    fn open(&mut self, name: &dyn Fn() -> String, bench: &mut Bench) -> Exchange {
        Exchange {
            stage: Stage::Head,
            kept: Vec::new(),
            kept_is_new: false,
            out: Vec::with_capacity(ANSWERS_BYTES),
            sent: 0,
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
    fn turn(&mut self, stream: &TcpStream, exchange: &mut Exchange, bench: &mut Bench) -> Turn {
        if let Some(turn) = exchange.resume(stream, bench) {
            return turn;
        }
        for _ in 0..READS_PER_TURN {
            let goes_by = exchange.bytes_going_by(bench);
            let (asked, got) = match goes_by {
                0 => exchange.read(stream, bench),
                left => (left, exchange.pass(stream, left, bench)),
            };
            match got {
                Ok(0) => return Turn::Closed(Closed::ByPeer),
                Ok(got) => {
                    if let Some(turn) = exchange.resume(stream, bench) {
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

    fn close(&mut self, mut exchange: Exchange, how: Closed, bench: &mut Bench) {
        let amid = matches!(exchange.stage, Stage::Body { .. } | Stage::Chunks(_));
        let by_peer = matches!(how, Closed::ByPeer | Closed::ByPeerReset);
        if by_peer && (amid || (matches!(exchange.stage, Stage::Head) && !exchange.kept.is_empty())) {
            bench.books.requests_aborted += 1;
        }
        let held = matches!(exchange.stage, Stage::Held { .. });
        bench.books.requests_uncertain += exchange.due.requests + u64::from(held);
        let (Some(mut judged), Some(judge)) = (exchange.judged.take(), &bench.judge) else { return };
        if amid || matches!(exchange.stage, Stage::Reset) {
            judged.drop_part();
        } else {
            judged.keep_part();
        }
        judged.tell(Outcome::Uncertain, judge);
        judged.close(!by_peer, judge);
    }
}

enum Sent {
    All,
    Part,
    Broken,
}

impl Exchange {
    /// Bytes that come next and need not be seen.
    #[inline]
    fn bytes_going_by(&self, bench: &Bench) -> u64 {
        match &self.stage {
            _ if bench.judge.is_some() => 0,
            Stage::Body { left } => *left,
            Stage::Chunks(chunks) => chunks.data_left(),
            _ => 0,
        }
    }

    fn pass(&mut self, stream: &TcpStream, left: u64, bench: &mut Bench) -> std::io::Result<u64> {
        let got = discard(stream, left)? as u64;
        self.body_bytes += got;
        bench.books.wire_bytes += got;
        match &mut self.stage {
            Stage::Body { left } => *left -= got,
            Stage::Chunks(chunks) => chunks.pass(got),
            _ => {}
        }
        if matches!(self.stage, Stage::Body { left: 0 }) {
            self.body_is_read(stream, bench);
        }
        Ok(got)
    }

    /// Reads behind what is kept and looks at all of it; (bytes asked for, bytes that came).
    #[inline]
    fn read(&mut self, stream: &TcpStream, bench: &mut Bench) -> (u64, std::io::Result<u64>) {
        let start = self.kept.len();
        let short = bench.judge.is_none() && self.last_body_bytes > limits::RECEIVE_COPIED_BYTES_MAX as u64;
        let end = if short { (start + HEAD_READ_BYTES).min(bench.buffer.len()) } else { bench.buffer.len() };
        let asked = (end - start) as u64;
        let got = match (&mut &*stream).read(&mut bench.buffer[start..end]) {
            Ok(0) => return (asked, Ok(0)),
            Ok(got) => got,
            Err(error) => return (asked, Err(error)),
        };
        bench.books.wire_bytes += got as u64;
        bench.buffer[..start].copy_from_slice(&self.kept);
        self.kept.clear();
        let buffer = std::mem::take(&mut bench.buffer);
        self.digest(&buffer[..start + got], stream, bench);
        bench.buffer = buffer;
        (asked, Ok(got as u64))
    }

    /// Looks at bytes; keeps those that cannot be judged yet.
    fn digest(&mut self, mut bytes: &[u8], stream: &TcpStream, bench: &mut Bench) {
        loop {
            match &mut self.stage {
                Stage::Head if bytes.is_empty() || self.ending => return,
                Stage::Head => match head::parse(bytes) {
                    Ok(Some((head, length))) => {
                        let (text, rest) = bytes.split_at(length);
                        bytes = rest;
                        self.begin(head, text, rest.is_empty(), bench);
                    }
                    Ok(None) => {
                        self.kept.extend_from_slice(bytes);
                        return;
                    }
                    Err(status) => return self.refuse(status, bench),
                },
                Stage::Body { left } => {
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
                Stage::Chunks(chunks) => {
                    let mut here = *chunks;
                    let taken = here.take(bytes, |data| self.body(data, bench));
                    let Ok(taken) = taken else { return self.refuse(400, bench) };
                    self.stage = Stage::Chunks(here);
                    bytes = &bytes[taken..];
                    if !here.is_done() {
                        return;
                    }
                    self.body_is_read(stream, bench);
                }
                _ => {
                    self.kept.extend_from_slice(bytes);
                    self.kept_is_new = true;
                    return;
                }
            }
        }
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
        self.stage = match head.body {
            _ if self.strike.ending == Ending::Abort => {
                self.strike.count(FaultKind::ENDING, &mut bench.books);
                Stage::Reset
            }
            Body::Exact(left) => Stage::Body { left },
            Body::Chunked => Stage::Chunks(Chunks::begin()),
        };
        if head.waits && body_is_missing && head.body != Body::Exact(0) {
            self.out.extend_from_slice(answers::CONTINUE);
        }
    }

    fn refuse(&mut self, status: u16, bench: &mut Bench) {
        bench.books.requests_malformed += 1;
        if let Some(judged) = &mut self.judged
            && !matches!(self.stage, Stage::Head)
        {
            judged.drop_part();
        }
        self.out.extend_from_slice(answers::refusal(status).as_bytes());
        self.stage = Stage::Lingering { until_ns: bench.now_ns() + answers::LINGER_NS };
    }

    /// The request is whole: its answer is due, or will be.
    #[inline]
    fn body_is_read(&mut self, stream: &TcpStream, bench: &mut Bench) {
        self.last_body_bytes = self.body_bytes;
        self.stage = Stage::Head;
        if let (Some(judged), Some(judge)) = (&mut self.judged, &mut bench.judge) {
            judged.end_part(judge);
        }
        if self.strike.delay_ns > 0 {
            self.strike.count(FaultKind::DELAY, &mut bench.books);
            self.stage = Stage::Held { until_ns: bench.now_ns() + self.strike.delay_ns };
        } else {
            self.answer(bench);
        }
        // Each struck request has an outcome of its own.
        if bench.faults.is_some() && matches!(self.stage, Stage::Head) {
            let _rest_later = self.send(stream, bench);
        }
    }

    #[inline]
    fn answer(&mut self, bench: &mut Bench) {
        self.stage = Stage::Head;
        self.strike.count(FaultKind::ENDING, &mut bench.books);
        let refused = match self.strike.ending {
            Ending::Answer | Ending::Truncate | Ending::Abort | Ending::Error(_) | Ending::LoseAnswer => None,
            Ending::Refuse(item) => Some(item),
            Ending::Reset => {
                self.stage = Stage::Reset;
                bench.books.requests_uncertain += 1;
                self.judge_uncertain(bench);
                return;
            }
        };
        let start = self.out.len();
        match (refused, &bench.faults) {
            (Some(item), Some(faults)) => {
                bench.books.requests_refused += 1;
                self.out.extend_from_slice(faults.refusal(item));
            }
            _ => self.out.extend_from_slice(answers::NO_CONTENT),
        }
        self.out.extend_from_slice(answers::end(self.link));
        self.ending = self.link == Link::Closes;
        match (self.strike.ending, &mut self.judged) {
            (Ending::Truncate, _) => {
                self.out.truncate(start + (self.out.len() - start) / 2);
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
            self.stage = Stage::Dribbling { next_ns: bench.now_ns() };
        }
    }

    /// With faults, this request's records are the only ones that wait.
    fn judge_uncertain(&mut self, bench: &Bench) {
        if let (Some(judged), Some(judge)) = (&mut self.judged, &bench.judge) {
            judged.keep_part();
            judged.tell(Outcome::Uncertain, judge);
        }
    }

    /// Does what is due before anything is read; `None`: reading comes next.
    #[inline]
    fn resume(&mut self, stream: &TcpStream, bench: &mut Bench) -> Option<Turn> {
        loop {
            match self.stage {
                Stage::Reset => return Some(Turn::Closed(Closed::ByReset)),
                Stage::Held { until_ns } => match self.send(stream, bench) {
                    Sent::All if bench.now_ns() < until_ns => return Some(Turn::Wait(until_ns)),
                    Sent::All => {
                        self.answer(bench);
                        continue;
                    }
                    other => return Some(not_sent(&other)),
                },
                Stage::Dribbling { next_ns } => {
                    if let Some(turn) = self.dribble(next_ns, stream, bench) {
                        return Some(turn);
                    }
                }
                _ => {}
            }
            match self.send(stream, bench) {
                Sent::All => {}
                other => return Some(not_sent(&other)),
            }
            if let Stage::Lingering { until_ns } = self.stage {
                return Some(answers::linger(until_ns, stream, bench));
            }
            if self.ending {
                return Some(Turn::Closed(Closed::AsAnswered));
            }
            if !self.kept_is_new {
                return None;
            }
            self.kept_is_new = false;
            let kept = std::mem::take(&mut self.kept);
            self.digest(&kept, stream, bench);
            if self.out.is_empty() && matches!(self.stage, Stage::Head | Stage::Body { .. } | Stage::Chunks(_)) {
                return None;
            }
        }
    }

    fn dribble(&mut self, next_ns: u64, stream: &TcpStream, bench: &mut Bench) -> Option<Turn> {
        let now_ns = bench.now_ns();
        if now_ns < next_ns {
            return Some(Turn::Wait(next_ns));
        }
        match (&mut &*stream).write(&self.out[self.sent..][..1]) {
            Ok(sent) => self.sent += sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Turn::Blocked),
            Err(_) => return Some(Turn::Closed(Closed::ByPeerReset)),
        }
        if self.sent < self.out.len() {
            let next_ns = now_ns + self.strike.slow_ns;
            self.stage = Stage::Dribbling { next_ns };
            return Some(Turn::Wait(next_ns));
        }
        self.stage = Stage::Head;
        None
    }

    /// Sends the answers that wait; once they are out, their requests count.
    #[inline]
    fn send(&mut self, stream: &TcpStream, bench: &mut Bench) -> Sent {
        while self.sent < self.out.len() {
            match (&mut &*stream).write(&self.out[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Sent::Part,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Sent::Broken,
            }
        }
        self.out.clear();
        self.sent = 0;
        self.due.enter(&mut bench.books);
        if let (Some(judged), Some(judge)) = (&mut self.judged, &bench.judge) {
            judged.tell(Outcome::Received, judge);
        }
        Sent::All
    }
}

fn not_sent(sent: &Sent) -> Turn {
    match sent {
        Sent::Broken => Turn::Closed(Closed::ByPeerReset),
        Sent::All | Sent::Part => Turn::Blocked,
    }
}

#[cfg(test)]
mod tests;
