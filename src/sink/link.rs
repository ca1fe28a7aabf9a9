//! One connection of a lane, driven by completions: at most one message on its way out, one receive armed.
//!
//! A link that breaks is quiet first: it tells of the breakage when the kernel has given back everything, so
//! that its place in the ring can be filled again and what it took of a message is known exactly.
//!
//! Over TLS a message is sealed piece by piece into a buffer of the link's own, each piece when the last one is
//! gone; what is received is opened in place and copied behind what was not consumed.

mod area;
mod breakage;
mod incoming;
mod lend_or_copy;
mod outgoing;
mod patience;

use crate::base::fatal::Fatal;
use crate::connect::dial::Dialed;
use crate::connect::dialer::LastUse;
use crate::connect::tls::TlsSession;
use crate::sink::Wire;
pub use crate::sys::ring::Loan;
use crate::sys::ring::{Completion, FileSlot, Means, NetRing, Piece, Progress};
use area::SEAL_BYTES;
pub use area::{ANSWERS_INBOX_BYTES, Area, Carver};
pub use breakage::Breakage;
pub use lend_or_copy::LendOrCopy;
use outgoing::{Outgoing, is_lack_of_memory, seal};
use patience::Headway;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

const SEND_BIT: u64 = 1 << 63;
const LANE_SHIFT: u32 = 44;
const LINK_SHIFT: u32 = 32;
const LINK_MASK: u64 = 0xfff;
const LANE_MASK: u64 = 0x3ffff;

/// So many zero-copy sends in a row that the kernel copied after all show that it never will do without.
const COPIED_MAX: u32 = 16;

/// A send that had to wait for room so often the kernel hands to a worker of its own (`APOLL_MAX_RETRY`), which would
/// read our memory beside us and tell late what it sent.
const WAITS_MAX: usize = 128;
/// Bytes of one copied send. Each wait frees some 10 KB of the send buffer that a connection has as a rule. A batch of
/// 1 MB with its request, and a body of 1 MiB with its head, still go as one.
const COPIED_BYTES_MAX: usize = 1_200_000;
const _: () = assert!(COPIED_BYTES_MAX > (1 << 20) + (64 << 10));
/// The same on a ring that lends, where a worker must never read: what it reads may be detached meanwhile. Short enough
/// for the smallest send buffers as well; each send is work of its own.
const COPIED_BYTES_MAX_BESIDE_LENT: usize = 128 << 10;
/// Of the smallest send buffer (`SOCK_MIN_SNDBUF`, 4.5 KiB, also of larger ones where the kernel is short of memory) a
/// third is free before a send goes on: then a segment goes, on Ethernet of so many bytes.
const FREED_BYTES_MIN: usize = 1_400;
const _: () = assert!(COPIED_BYTES_MAX_BESIDE_LENT < WAITS_MAX * FREED_BYTES_MIN);

/// How often a core that waits for answers looks whether something has run out of time or is to be tried again.
pub const WAKE_NS: u64 = 5_000_000;

/// Links that one lane can have: what a token has room for.
pub const LINKS_MAX: usize = 1 << 12;

/// Places in a ring that serves so many links, and blocks in flight besides. Each link has a send, a receive, and
/// `unreleased` zero-copy sends that the kernel took and still reads.
pub const fn ring_depth(links: usize, unreleased: usize, blocks: usize) -> usize {
    links * (unreleased + 2) + blocks
}

const _: () = assert!(LINKS_MAX as u64 == LINK_MASK + 1);

/// Whose operation a token names: lane and link.
pub fn owner_of(token: u64) -> (usize, usize) {
    ((token >> LANE_SHIFT & LANE_MASK) as usize, (token >> LINK_SHIFT & LINK_MASK) as usize)
}

/// Who reads the memory of a message that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    Free,
    /// The kernel, until [`Event::Released`].
    Held,
    /// The peer, until what it says shows that it has the message.
    Lent,
}

/// What a completion came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Nothing,
    /// The kernel has the whole message.
    Sent {
        tag: u32,
        memory: Memory,
    },
    /// It reads the memory of a message that it had taken no longer.
    Released {
        tag: u32,
    },
    /// Bytes came; see [`Link::inbox`]. The last ones perhaps: see [`Link::settle_ending`].
    Received,
    /// The connection is gone and nothing of it is in flight. `unsent`: the message that was on its way, and how
    /// many of its bytes the kernel had taken.
    Broken {
        why: Breakage,
        unsent: Option<(u32, usize)>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// Shut down; waits for its operations to come back.
    Ending(Breakage),
    Down(Breakage),
}

/// See the module.
pub struct Link {
    lane: usize,
    index: usize,
    file: FileSlot,
    tls: Option<Box<TlsSession>>,
    state: State,
    area: Area,
    /// Bytes in the inbox, and bytes that were not opened yet.
    received: usize,
    unopened: usize,
    /// The peer has ended its TLS; what it said before is in the inbox.
    farewell: Option<Breakage>,
    outgoing: Option<Outgoing>,
    listening: bool,
    zero_copy: bool,
    copied: u32,
    /// How memory is lent where that can be, and is on this connection.
    may_lend: Option<Loan>,
    loan: Option<Loan>,
    /// Messages taken whose memory the kernel still reads.
    unreleased: u32,
    /// What the peer had acknowledged when the connection ended.
    acknowledged_at_end: u64,
    headway: Headway,
    wire: Wire,
}

impl Link {
    /// A link over a connection.
    pub fn open<R: NetRing>(
        ring: &mut R,
        (lane, index): (usize, usize),
        dialed: Dialed,
        area: Area,
    ) -> Result<Self, Fatal> {
        let (socket, tls) = parts(dialed);
        let failed = |error: io::Error| Fatal::host(format!("a connection could not be handed to the ring: {error}"));
        let file = ring.install(socket).map_err(failed)?;
        // Sealed bytes are sent from a small buffer that is wanted again at once.
        let zero_copy = ring.has_zero_copy() && tls.is_none();
        Ok(Self {
            lane,
            index,
            file,
            tls,
            state: State::Up,
            area,
            received: 0,
            unopened: 0,
            farewell: None,
            outgoing: None,
            listening: false,
            zero_copy,
            copied: 0,
            may_lend: None,
            loan: None,
            unreleased: 0,
            acknowledged_at_end: 0,
            headway: Headway::of(ring, file),
            wire: Wire::default(),
        })
    }

    /// Where the target is on this host, messages are lent to it. Until they are taken back: if its answer shows that it
    /// has read all of a message, and the memory of all that it had no answer to is detached when the connection breaks.
    pub fn lend<R: NetRing>(&mut self, ring: &mut R, loan: Loan) {
        let lends = self.tls.is_none() && ring.can_lend(self.file, loan);
        (self.may_lend, self.loan) = (Some(loan), lends.then_some(loan));
    }

    /// Messages may be lent on this connection.
    pub fn lends(&self) -> bool {
        self.loan.is_some()
    }

    /// A new connection in place of one that broke.
    pub fn reopen<R: NetRing>(&mut self, ring: &mut R, dialed: Dialed) -> io::Result<()> {
        let (socket, tls) = parts(dialed);
        ring.replace(self.file, socket)?;
        (self.state, self.tls) = (State::Up, tls);
        (self.received, self.unopened, self.farewell) = (0, 0, None);
        self.headway = Headway::of(ring, self.file);
        self.wire.reconnects += 1;
        if let Some(loan) = self.may_lend {
            self.lend(ring, loan);
        }
        Ok(())
    }

    /// Its lane, and its number there.
    pub fn owner(&self) -> (usize, usize) {
        (self.lane, self.index)
    }

    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Down(_))
    }

    /// Its keys will not last for many more messages and cannot be renewed: it is to be closed, with all answered, and
    /// another connection to take its place.
    pub fn is_worn(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_worn())
    }

    /// What the dialer is told of a connection that is gone and was good for `own`.
    pub fn last_use(&self, own: LastUse) -> LastUse {
        if let State::Down(why) = self.state { why.last_use(own) } else { own }
    }

    /// Nothing is on its way out.
    pub fn is_idle(&self) -> bool {
        self.outgoing.is_none()
    }

    /// Bytes handed to the kernel, connections made again and what TCP sent again on those that ended, since the last
    /// call; who sends blocks again counts that.
    pub fn take_wire(&mut self) -> Wire {
        std::mem::take(&mut self.wire)
    }

    fn token(&self, tag: u32, send: bool) -> u64 {
        let owner = (self.lane as u64) << LANE_SHIFT | (self.index as u64) << LINK_SHIFT;
        owner | u64::from(tag) | if send { SEND_BIT } else { 0 }
    }

    /// Sends both pieces as one message, which `tag` names. The link is up and idle, and no message of that tag is
    /// unreleased.
    pub fn send<R: NetRing>(&mut self, ring: &mut R, pieces: [Piece; 2], tag: u32) {
        self.start(ring, Outgoing::new(tag, pieces, None));
    }

    /// The same, copied by the kernel: its memory is free when it is sent.
    pub fn send_copied<R: NetRing>(&mut self, ring: &mut R, pieces: [Piece; 2], tag: u32) {
        self.start(ring, Outgoing { copied: true, ..Outgoing::new(tag, pieces, None) });
    }

    /// The same; on a link that lends, this message may be lent. For good: only its second piece is, which never changes.
    pub fn send_in_place<R: NetRing>(&mut self, ring: &mut R, pieces: [Piece; 2], tag: u32) {
        self.start(ring, Outgoing::new(tag, pieces, self.loan));
    }

    fn start<R: NetRing>(&mut self, ring: &mut R, outgoing: Outgoing) {
        debug_assert!(self.is_up() && self.is_idle());
        self.outgoing = Some(outgoing);
        self.push(ring);
    }

    /// The message that is on its way out.
    pub fn outgoing_tag(&self) -> Option<u32> {
        self.outgoing.as_ref().map(|outgoing| outgoing.tag)
    }

    fn push<R: NetRing>(&mut self, ring: &mut R) {
        let token = self.token(self.outgoing.as_ref().map_or(0, |outgoing| outgoing.tag), true);
        let Some(outgoing) = &mut self.outgoing else { return };
        let is_long = outgoing.bytes() - outgoing.taken >= R::LENT_BYTES_MIN;
        let means = if let Some(loan) = outgoing.loan.filter(|_| is_long) {
            Means::Lend(loan)
        } else if self.zero_copy && self.loan.is_none() && !outgoing.copied && ring.has_zero_copy() {
            Means::ZeroCopy
        } else {
            Means::Copy
        };
        let pieces = match &mut self.tls {
            None => outgoing.rest(match means {
                Means::Copy if ring.detaches() => COPIED_BYTES_MAX_BESIDE_LENT,
                Means::Copy => COPIED_BYTES_MAX,
                Means::ZeroCopy | Means::Lend(_) => usize::MAX,
            }),
            Some(tls) => {
                if outgoing.sealed.is_empty() {
                    let plain = outgoing.rest(SEAL_BYTES);
                    outgoing.sealed_plain = plain[0].len() + plain[1].len();
                    match seal(tls, ring.memory(), plain, self.area.sealed.clone()) {
                        Ok(sealed) => outgoing.sealed = sealed,
                        Err(why) => {
                            self.end(ring, Breakage::Tls(why));
                            return;
                        }
                    }
                }
                [outgoing.sealed.clone(), outgoing.sealed.end..outgoing.sealed.end]
            }
        };
        outgoing.submitted = true;
        outgoing.zero_copy = means == Means::ZeroCopy;
        let queued = ring.send(self.file, pieces, means, token);
        assert!(queued, "the ring has a place for each link's send");
    }

    /// Breaks the connection off; the event that follows may come at once.
    pub fn break_off<R: NetRing>(&mut self, ring: &mut R, why: Breakage) -> Event {
        if self.is_up() {
            self.acknowledged_at_end = ring.acknowledged(self.file);
            self.count_retransmits(ring);
            self.state = State::Ending(why);
            if self.unreleased > 0 {
                // What the kernel still wants to send from our memory must never be sent.
                ring.disconnect(self.file);
            }
            ring.shut_down(self.file);
        }
        self.settle_ending()
    }

    /// Counts what TCP sent again on a connection that is up: called once, where the connection ends or the run does. A
    /// socket that is disconnected has forgotten it.
    pub fn count_retransmits<R: NetRing>(&mut self, ring: &R) {
        if self.is_up() {
            self.wire.tcp_retransmits += ring.retransmits(self.file);
        }
    }

    /// Bytes that the peer's TCP has acknowledged on this connection, or had when it ended.
    pub fn acknowledged<R: NetRing>(&self, ring: &R) -> u64 {
        match self.state {
            State::Up => ring.acknowledged(self.file),
            State::Ending(_) | State::Down(_) => self.acknowledged_at_end,
        }
    }

    /// Tells of a breakage when nothing is in flight any more. To be asked after each event of a last message, and when
    /// what came has been read and the link listens again.
    pub fn settle_ending(&mut self) -> Event {
        let State::Ending(why) = self.state else { return Event::Nothing };
        let held = self.unreleased > 0;
        if held || self.listening || self.outgoing.as_ref().is_some_and(|outgoing| outgoing.submitted) {
            return Event::Nothing;
        }
        self.state = State::Down(why);
        let unsent = self.outgoing.take().map(|outgoing| (outgoing.tag, outgoing.taken));
        Event::Broken { why, unsent }
    }

    /// Takes one of this link's completions.
    pub fn complete<R: NetRing>(&mut self, ring: &mut R, completion: Completion) -> Event {
        if completion.token & SEND_BIT == 0 {
            return self.on_received(ring, completion.result);
        }
        if let Progress::Released { copied } = completion.progress {
            return self.released(ring, completion.token as u32, copied);
        }
        self.sent(ring, completion)
    }

    fn sent<R: NetRing>(&mut self, ring: &mut R, completion: Completion) -> Event {
        let held = completion.progress == Progress::Taken;
        let Some(outgoing) = &mut self.outgoing else { return Event::Nothing };
        let loan = outgoing.loan.filter(|_| completion.progress == Progress::Lent);
        outgoing.lent |= loan == Some(Loan::TakenBack);
        if completion.result > 0 {
            let bytes = completion.result as usize;
            self.wire.bytes += bytes as u64;
            self.headway.took(bytes);
            if self.tls.is_none() {
                self.wire.lent_bytes += outgoing.took(bytes, loan) as u64;
            } else {
                outgoing.sealed.start += bytes;
                if outgoing.sealed.is_empty() {
                    outgoing.taken += outgoing.sealed_plain;
                }
            }
        }
        let (tag, lent, is_whole) = (outgoing.tag, outgoing.lent, outgoing.taken == outgoing.bytes());
        let lacks_memory = outgoing.zero_copy && is_lack_of_memory(completion.result);
        // The rest is copied, and so is all that follows.
        self.zero_copy &= !lacks_memory;
        let passes = lacks_memory || is_transient(completion.result);
        let error = Some(-completion.result).filter(|_| completion.result < 0 && !passes);
        // A part whose memory the kernel still reads keeps the message until its second answer.
        outgoing.submitted = held && !is_whole && error.is_none();
        self.unreleased += u32::from(held);
        if held && !self.is_up() {
            // Nobody may be there to acknowledge it: the memory would come back in minutes.
            ring.disconnect(self.file);
        }
        if is_whole {
            let memory = match (lent, held) {
                (true, _) => Memory::Lent,
                (false, true) => Memory::Held,
                (false, false) => Memory::Free,
            };
            self.outgoing = None;
            // A link that is ending tells of its last message too.
            return Event::Sent { tag, memory };
        }
        if !self.is_up() {
            return self.settle_ending();
        }
        match error {
            // A send that failed may have a second answer too.
            Some(error) => self.break_off(ring, Breakage::Error(error)),
            None if held => Event::Nothing,
            None => {
                self.push(ring);
                Event::Nothing
            }
        }
    }

    fn released<R: NetRing>(&mut self, ring: &mut R, tag: u32, copied: bool) -> Event {
        self.copied = if copied { self.copied + 1 } else { 0 };
        self.zero_copy &= self.copied < COPIED_MAX;
        self.unreleased -= 1;
        if let Some(outgoing) = self.outgoing.as_mut().filter(|outgoing| outgoing.tag == tag) {
            // It was taken in part: the rest may go now.
            outgoing.submitted = false;
            if !self.is_up() {
                return self.settle_ending();
            }
            self.push(ring);
            return Event::Nothing;
        }
        Event::Released { tag }
    }
}

fn parts(dialed: Dialed) -> (File, Option<Box<TlsSession>>) {
    (File::from(OwnedFd::from(dialed.stream)), dialed.tls.map(Box::new))
}

fn is_transient(result: i32) -> bool {
    matches!(-result, libc::EAGAIN | libc::EINTR)
}

#[cfg(test)]
mod tests;
