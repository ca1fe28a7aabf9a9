//! A raw stream of records.

use super::faults::Ending;
use super::judge::{Judge, Judged};
use super::worker::{Bench, Closed, Protocol, READS_PER_TURN, Turn};
use crate::base::{align, limits};
use crate::plan::receive::{FaultKind, Framing};
use crate::sys::receive::{DISCARD_BYTES_MAX, discard};
use crate::verify::findings::Kind;
use crate::verify::live::Outcome;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;

/// How far behind its place in the stream's pages a byte lies in the buffer: the copy from the socket is fast (see
/// [`page`]; the sender's kernel lays a stream out page by page), and so is that of a long record's beginning into
/// memory of its own, which malloc starts 16 bytes into a page.
const BEHIND_BYTES: u64 = 64;

#[derive(Clone)]
pub struct Tcp {
    pub framing: Framing,
}

pub struct Stream {
    judged: Option<Judged>,
    frame: Frame,
    bytes: u64,
    /// Where faults are drawn next; never without them.
    draw_at: u64,
}

/// Where a stream with lengths is.
enum Frame {
    Unframed,
    Length { bytes: [u8; 4], there: usize },
    Record { left: usize },
}

/// The length of a frame that cannot be.
struct Impossible(u32);

impl Protocol for Tcp {
    type Connection = Stream;

    fn open(&mut self, name: &dyn Fn() -> String, bench: &mut Bench) -> Stream {
        let frame = match self.framing {
            Framing::None => Frame::Unframed,
            Framing::Length => Frame::Length { bytes: [0; 4], there: 0 },
        };
        let draw_at = if bench.faults.is_some() { limits::RECEIVE_FAULT_BYTES } else { u64::MAX };
        Stream { judged: bench.judge.as_ref().map(|judge| judge.open(name)), frame, bytes: 0, draw_at }
    }

    #[inline]
    fn awaits(&self, _: &Stream) -> u64 {
        u64::MAX
    }

    #[inline]
    fn turn(&mut self, stream: &TcpStream, connection: &mut Stream, bench: &mut Bench) -> Turn {
        for _ in 0..READS_PER_TURN {
            let room = connection.draw_at - connection.bytes;
            let (asked, start, got) = match &connection.judged {
                None => (room.min(DISCARD_BYTES_MAX as u64), 0, discard(stream, room)),
                Some(_) => {
                    let start = align::index(&bench.buffer, connection.bytes.wrapping_sub(BEHIND_BYTES));
                    let space = &mut bench.buffer[start..][..limits::RECEIVE_READ_BYTES];
                    let asked = space.len().min(usize::try_from(room).unwrap_or(usize::MAX));
                    (asked as u64, start, (&mut &*stream).read(&mut space[..asked]))
                }
            };
            let got = match got {
                Ok(0) => return Turn::Closed(Closed::ByPeer),
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Next,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Turn::Closed(Closed::ByPeerReset),
            };
            connection.bytes += got as u64;
            bench.books.bytes += got as u64;
            bench.books.wire_bytes += got as u64;
            if let (Some(judged), Some(judge)) = (&mut connection.judged, &mut bench.judge)
                && let Err(Impossible(length)) =
                    feed(&mut connection.frame, judged, &bench.buffer[start..start + got], judge)
            {
                let most = limits::RECORD_BYTES_MAX;
                let what = format!("a frame claims {length} bytes, and a record has {most} at most");
                judged.damage(Kind::Unrecognised, what, judge);
                return Turn::Closed(Closed::ByReset);
            }
            if connection.bytes == connection.draw_at {
                connection.draw_at += limits::RECEIVE_FAULT_BYTES;
                let strike = bench.faults.as_ref().map(|faults| faults.draw_next()).unwrap_or_default();
                strike.count(FaultKind::ENDING, &mut bench.books);
                if strike.ending == Ending::Reset {
                    return Turn::Closed(Closed::ByReset);
                }
                if strike.delay_ns > 0 {
                    strike.count(FaultKind::DELAY, &mut bench.books);
                    return Turn::Wait(bench.now_ns() + strike.delay_ns);
                }
            }
            if (got as u64) < asked {
                return Turn::Next;
            }
        }
        Turn::Next
    }

    fn close(&mut self, connection: Stream, how: Closed, bench: &mut Bench) {
        let (Some(mut judged), Some(judge)) = (connection.judged, &mut bench.judge) else { return };
        let by_us = matches!(how, Closed::ByReset | Closed::ByStop);
        if by_us {
            judged.stop();
        } else {
            let cut_off = match connection.frame {
                Frame::Length { there: 1.., .. } => Some("the stream ends amid the length of a frame".to_owned()),
                Frame::Record { left } if !judged.is_amid() => {
                    Some(format!("the stream ends where a record of {left} bytes was announced"))
                }
                _ => None,
            };
            if let Some(what) = cut_off {
                judged.damage(Kind::Truncated, what, judge);
            }
            judged.end_part(judge);
        }
        judged.keep_part();
        judged.tell(Outcome::Received, judge);
        if how == Closed::ByStop {
            judged.leave_open(judged.is_amid(), judge);
        }
        judged.close(by_us, judge);
    }
}

/// Shows the records to the verification, without the lengths before them.
fn feed(frame: &mut Frame, judged: &mut Judged, mut bytes: &[u8], judge: &mut Judge) -> Result<(), Impossible> {
    while !bytes.is_empty() {
        match frame {
            Frame::Unframed => {
                judged.push(bytes, judge);
                bytes = &[];
            }
            Frame::Length { bytes: length, there } => {
                let taken = bytes.len().min(length.len() - *there);
                length[*there..*there + taken].copy_from_slice(&bytes[..taken]);
                *there += taken;
                bytes = &bytes[taken..];
                if *there == length.len() {
                    let length = u32::from_be_bytes(*length);
                    if u64::from(length) > limits::RECORD_BYTES_MAX {
                        return Err(Impossible(length));
                    }
                    *frame = Frame::Record { left: length as usize };
                }
            }
            Frame::Record { left } => {
                let taken = bytes.len().min(*left);
                judged.push(&bytes[..taken], judge);
                *left -= taken;
                bytes = &bytes[taken..];
            }
        }
        if let Frame::Record { left: 0 } = frame {
            judged.end_part(judge);
            *frame = Frame::Length { bytes: [0; 4], there: 0 };
        }
    }
    judged.keep_part();
    judged.tell(Outcome::Received, judge);
    Ok(())
}
