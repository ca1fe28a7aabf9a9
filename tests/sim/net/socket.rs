//! One simulated connection: what the kernel holds of it, what is on its way, and what the peer has read.
//!
//! Everything moves in steps, each as far as the dice say. Completions of one socket come in the order in which
//! things happened; those of different sockets in any.

use super::peer::{Peer, Reply, Then};
use crate::chance::Chance;
use engine::sys::ring::{self, Completion, Means, Piece, Progress};
use std::collections::VecDeque;
use std::ops::Range;

/// Errno values, as Linux numbers them.
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EPIPE: i32 = 32;
const ECONNRESET: i32 = 104;
const ENOBUFS: i32 = 105;

/// What `bytes_acked` counts of the handshake.
const HANDSHAKE_BYTES: u64 = 1;

#[derive(Clone, Debug)]
pub struct NetFaults {
    /// A socket's next step comes within so long; one in `slow_one_in` within `slow_ns_max`.
    pub step_ns_max: u64,
    pub slow_one_in: u64,
    pub slow_ns_max: u64,
    /// The kernel's send buffer.
    pub buffer_bytes: u64,
    pub short_one_in: u64,
    pub again_one_in: u64,
    /// One submission in so many is put off.
    pub busy_one_in: u64,
    pub zero_copy: bool,
    pub lends: bool,
    pub copied_one_in: u64,
    /// For one zero-copy send in so many there is no memory.
    pub lacks_memory_one_in: u64,
    /// A step in so many is the connection's last.
    pub reset_one_in: u64,
    pub close_one_in: u64,
    /// How often that may happen in all.
    pub breaks_left: u64,
    pub dial_ns_max: u64,
    pub refuse_one_in: u64,
    /// From then on no peer reads or says anything.
    pub stuck_at_ns: u64,
    /// What a connection has in flight that we ended never comes back.
    pub withholds: bool,
}

pub struct Sending {
    pub token: u64,
    pub pieces: [Piece; 2],
    pub means: Means,
    pub taken: usize,
    /// The bytes at submission.
    pub bytes: Vec<u8>,
}

pub struct Receiving {
    pub token: u64,
    pub range: Range<usize>,
    pub before: Vec<u8>,
}

/// Memory that the kernel reads beyond a send's first answer.
struct Loan {
    token: u64,
    pieces: [Piece; 2],
    bytes: Vec<u8>,
    /// When the peer has acknowledged so much, it is over.
    until: u64,
}

/// Memory that the peer reads in place.
struct Lent {
    parts: Vec<(Range<usize>, Vec<u8>)>,
    /// When the peer has read so much, it is over.
    until: u64,
}

/// A completion of a socket's operation.
pub struct Told {
    pub socket: usize,
    pub completion: Completion,
    /// Bytes that the kernel took of a send.
    pub taken: u64,
}

/// What a step may use.
pub struct Env<'a> {
    pub now_ns: u64,
    pub memory: &'a mut [u8],
    pub chance: &'a mut Chance,
    pub faults: &'a mut NetFaults,
    pub done: &'a mut VecDeque<Told>,
}

#[derive(Default)]
pub struct Socket {
    pub id: usize,
    pub sending: Option<Sending>,
    pub receiving: Option<Receiving>,
    loans: VecDeque<Loan>,
    lent: Vec<Lent>,
    /// Taken by the kernel and not at the peer.
    outbound: VecDeque<u8>,
    pub taken: u64,
    arrived: u64,
    acknowledged: u64,
    /// At the peer, and not read by it.
    unread: Vec<u8>,
    /// It never will: the connection is gone, though whoever was lent the bytes may look at them.
    unheeded: u64,
    /// What the peer said, with the time at which it gets here.
    inbound: VecDeque<(u64, Vec<u8>)>,
    pub received: u64,
    /// A zero-copy send failed for want of memory.
    pub lacked_memory: bool,
    /// We ended it, in order or by a reset.
    pub shut: bool,
    disconnected: bool,
    /// The connection is gone; the error is told once.
    reset: bool,
    error_told: bool,
    /// The peer will neither read nor say anything more.
    peer_closed: bool,
    /// The peer knows that nothing more will come.
    peer_told: bool,
    pub next_step_ns: u64,
    /// It got a place in the ring.
    pub placed: bool,
}

impl Socket {
    pub fn new(id: usize, now_ns: u64) -> Self {
        Self { id, next_step_ns: now_ns, ..Self::default() }
    }

    pub fn operations(&self) -> usize {
        usize::from(self.sending.is_some()) + usize::from(self.receiving.is_some()) + self.loans.len()
    }

    /// As `tcp_info` tells it: a disconnected socket has forgotten.
    pub fn bytes_acknowledged(&self) -> u64 {
        if self.disconnected { 0 } else { self.acknowledged + HANDSHAKE_BYTES }
    }

    /// What its TCP sent again in all: of each socket another number.
    pub fn retransmits(&self) -> u64 {
        self.id as u64 + 1
    }

    /// As `tcp_info` tells it.
    pub fn retransmits_told(&self) -> u64 {
        if self.disconnected { 0 } else { self.retransmits() }
    }

    /// Nothing will ever happen here again.
    pub fn is_over(&self) -> bool {
        self.operations() == 0 && self.lent.is_empty() && self.peer_told && (self.reset || self.outbound.is_empty())
    }

    /// Nothing is on its way in either direction.
    fn is_quiet(&self) -> bool {
        let outward = self.sending.is_none() && self.loans.is_empty() && self.outbound.is_empty();
        outward && self.unread.is_empty() && self.inbound.is_empty()
    }

    /// What the kernel had still to send is dropped.
    pub fn disconnect(&mut self) {
        (self.shut, self.disconnected, self.reset, self.error_told) = (true, true, true, true);
        self.outbound.clear();
        self.inbound.clear();
    }

    pub fn step<P: Peer>(&mut self, env: &mut Env<'_>, peer: &mut P) {
        let slow = self.is_quiet() || env.chance.one_in(env.faults.slow_one_in);
        let most_ns = if slow { env.faults.slow_ns_max } else { env.faults.step_ns_max };
        self.next_step_ns = env.now_ns + 1 + env.chance.between(0..=most_ns);
        let stuck = env.now_ns >= env.faults.stuck_at_ns;
        if !stuck {
            self.break_down(env, peer);
        }
        self.take(env);
        if !stuck {
            self.arrive(env, peer);
            self.acknowledge(env);
            self.listen_to_peer(env, peer);
        }
        self.end_loans(env);
        self.deliver(env);
    }

    /// The process is stopped: what the kernel has of it goes on, but it is told of nothing and hands nothing over.
    pub fn step_unattended<P: Peer>(&mut self, env: &mut Env<'_>, peer: &mut P) {
        self.arrive(env, peer);
        self.acknowledge(env);
        self.listen_to_peer(env, peer);
    }

    fn break_down<P: Peer>(&mut self, env: &mut Env<'_>, peer: &mut P) {
        if self.reset || self.peer_closed || env.faults.breaks_left == 0 {
            return;
        }
        let resets = env.chance.one_in(env.faults.reset_one_in);
        if !resets && !env.chance.one_in(env.faults.close_one_in) {
            return;
        }
        env.faults.breaks_left -= 1;
        if P::AT_ONCE || env.chance.one_in(2) {
            // It heeds what it has; whether its answer gets here is another matter.
            self.listen_to_peer(env, peer);
        }
        if resets { self.reset_by_peer(peer) } else { self.close_by_peer(peer) }
    }

    fn reset_by_peer<P: Peer>(&mut self, peer: &mut P) {
        self.reset = true;
        self.outbound.clear();
        self.drop_unread();
        self.tell_peer(peer);
    }

    fn drop_unread(&mut self) {
        self.unheeded += self.unread.len() as u64;
        self.unread.clear();
    }

    fn close_by_peer<P: Peer>(&mut self, peer: &mut P) {
        self.peer_closed = true;
        self.drop_unread();
        self.tell_peer(peer);
    }

    fn tell_peer<P: Peer>(&mut self, peer: &mut P) {
        if !std::mem::replace(&mut self.peer_told, true) {
            peer.closed(self.id);
        }
    }

    /// The kernel takes what it has room for of a send.
    fn take(&mut self, env: &mut Env<'_>) {
        let Some(mut sending) = self.sending.take() else { return };
        let whole = sending.bytes.len();
        assert_same(env.memory, &sending.pieces, &sending.bytes, "while it was being sent");
        if self.reset || self.shut {
            let error = if self.reset && !std::mem::replace(&mut self.error_told, true) { ECONNRESET } else { EPIPE };
            let result = if sending.taken > 0 { sending.taken as i32 } else { -error };
            return self.end_send(env, sending, result);
        }
        if sending.taken == 0 && env.chance.one_in(env.faults.again_one_in) {
            let error = env.chance.pick(&[EAGAIN, EINTR]);
            return self.end_send(env, sending, -error);
        }
        if sending.means == Means::ZeroCopy && sending.taken == 0 && env.chance.one_in(env.faults.lacks_memory_one_in) {
            let error = env.chance.pick(&[ENOMEM, ENOBUFS]);
            self.lacked_memory = true;
            return self.end_send(env, sending, -error);
        }
        let room = env.faults.buffer_bytes.saturating_sub(self.taken - self.acknowledged);
        let most = room.min((whole - sending.taken) as u64);
        let bytes = if env.chance.one_in(2) { most } else { env.chance.between(0..=most) } as usize;
        self.outbound.extend(&sending.bytes[sending.taken..sending.taken + bytes]);
        self.taken += bytes as u64;
        sending.taken += bytes;
        let short = sending.taken > 0 && env.chance.one_in(env.faults.short_one_in);
        if sending.taken == whole || short {
            let taken = sending.taken as i32;
            self.end_send(env, sending, taken);
        } else {
            self.sending = Some(sending);
        }
    }

    fn end_send(&mut self, env: &mut Env<'_>, sending: Sending, result: i32) {
        // A send that failed may have its second answer too, or not.
        let lends = sending.means == Means::ZeroCopy && (result > 0 || env.chance.one_in(2));
        let progress = match sending.means {
            Means::Lend(_) => Progress::Lent,
            Means::ZeroCopy if lends => Progress::Taken,
            Means::ZeroCopy | Means::Copy => Progress::Last,
        };
        if progress == Progress::Lent && sending.taken > 0 {
            let first = sending.pieces[0].len().min(sending.taken);
            let lent = if sending.means == Means::Lend(ring::Loan::ForGood) { 0 } else { first };
            let parts = [(&sending.pieces[0], 0, lent), (&sending.pieces[1], first, sending.taken - first)];
            let part = |(piece, at, bytes): (&Piece, usize, usize)| {
                (piece.start..piece.start + bytes, sending.bytes[at..at + bytes].to_vec())
            };
            self.lent.push(Lent { parts: parts.map(part).into(), until: self.taken });
        }
        let completion = Completion { token: sending.token, result, progress };
        env.done.push_back(Told { socket: self.id, completion, taken: sending.taken as u64 });
        if lends {
            let Sending { token, pieces, bytes, .. } = sending;
            self.loans.push_back(Loan { token, pieces, bytes, until: self.taken });
        }
    }

    /// What was lent there may change: the peer keeps what it was lent.
    pub fn detach(&mut self, range: &Range<usize>) {
        for lent in &mut self.lent {
            lent.parts.retain(|(part, _)| part.start < range.start || part.end > range.end);
        }
        self.lent.retain(|lent| !lent.parts.is_empty());
    }

    fn end_loans(&mut self, env: &mut Env<'_>) {
        for (part, bytes) in self.lent.iter().flat_map(|lent| &lent.parts) {
            assert!(env.memory[part.clone()] == **bytes, "memory {part:?} changed while the peer could read it");
        }
        let read = self.arrived - self.unread.len() as u64 - self.unheeded;
        self.lent.retain(|lent| lent.until > read);
        while let Some(loan) = self.loans.front().filter(|_| !(self.shut && env.faults.withholds)) {
            assert_same(env.memory, &loan.pieces, &loan.bytes, "before it was released");
            if loan.until > self.acknowledged && !self.reset || env.chance.one_in(3) {
                return;
            }
            let copied = env.chance.one_in(env.faults.copied_one_in);
            let progress = Progress::Released { copied };
            let completion = Completion { token: loan.token, result: 0, progress };
            env.done.push_back(Told { socket: self.id, completion, taken: 0 });
            self.loans.pop_front();
        }
    }

    /// Some of what is on its way gets there.
    fn arrive<P: Peer>(&mut self, env: &mut Env<'_>, peer: &mut P) {
        let most = self.outbound.len();
        let bytes = if env.chance.one_in(2) { most } else { env.chance.between(0..=most as u64) as usize };
        if bytes > 0 && self.peer_closed {
            // Who has closed answers further data with a reset.
            return self.reset_by_peer(peer);
        }
        self.unread.extend(self.outbound.drain(..bytes));
        self.arrived += bytes as u64;
    }

    fn acknowledge(&mut self, env: &mut Env<'_>) {
        if self.reset {
            return;
        }
        let lag = env.chance.one_in(2);
        self.acknowledged = if lag { env.chance.between(self.acknowledged..=self.arrived) } else { self.arrived };
    }

    /// The peer reads what it has, and answers.
    fn listen_to_peer<P: Peer>(&mut self, env: &mut Env<'_>, peer: &mut P) {
        if self.peer_told {
            return;
        }
        if P::AT_ONCE || env.chance.one_in(2) {
            let answers_from = self.inbound.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>() + self.received;
            let Reply { bytes, then } = peer.turn(self.id, &mut self.unread, env.chance, answers_from);
            if !bytes.is_empty() && !self.shut && !self.reset {
                let arrives_ns = env.now_ns + env.chance.between(0..=env.faults.step_ns_max);
                self.inbound.push_back((arrives_ns, bytes));
            }
            match then {
                Then::GoOn => {}
                Then::Close => self.close_by_peer(peer),
                Then::Reset => self.reset_by_peer(peer),
            }
        }
        let ended = self.disconnected || self.shut && self.outbound.is_empty();
        if ended && (self.unread.is_empty() || env.chance.one_in(8)) {
            self.tell_peer(peer);
        }
    }

    /// What came gets into a receive's memory.
    fn deliver(&mut self, env: &mut Env<'_>) {
        let Some(receiving) = self.receiving.take() else { return };
        let own = [receiving.range.clone(), receiving.range.end..receiving.range.end];
        assert_same(env.memory, &own, &receiving.before, "while something was received into it");
        if self.shut && env.faults.withholds {
            self.receiving = Some(receiving);
            return;
        }
        let is_ready = !self.shut && self.inbound.front().is_some_and(|(ready_ns, _)| *ready_ns <= env.now_ns);
        let result = if is_ready && env.chance.one_in(env.faults.again_one_in) {
            -env.chance.pick(&[EAGAIN, EINTR])
        } else if is_ready && !(self.reset && env.chance.one_in(2)) {
            self.copy_in(env, &receiving.range)
        } else if self.reset {
            if std::mem::replace(&mut self.error_told, true) { 0 } else { -ECONNRESET }
        } else if self.shut || self.peer_closed && self.inbound.is_empty() {
            0
        } else {
            self.receiving = Some(receiving);
            return;
        };
        let completion = Completion::last(receiving.token, result);
        env.done.push_back(Told { socket: self.id, completion, taken: 0 });
    }

    fn copy_in(&mut self, env: &mut Env<'_>, range: &Range<usize>) -> i32 {
        let Some((_, bytes)) = self.inbound.front_mut() else { return 0 };
        let most = bytes.len().min(range.len());
        let count = if env.chance.one_in(2) { most } else { env.chance.between(1..=most as u64) as usize };
        env.memory[range.start..range.start + count].copy_from_slice(&bytes[..count]);
        bytes.drain(..count);
        if bytes.is_empty() {
            self.inbound.pop_front();
        }
        self.received += count as u64;
        count as i32
    }

    /// The process is gone: what the kernel had taken still gets there, or not.
    pub fn outlive<P: Peer>(&mut self, chance: &mut Chance, peer: &mut P) {
        if self.peer_told || self.reset && self.unread.is_empty() {
            return;
        }
        if !self.reset && chance.one_in(2) {
            self.unread.extend(self.outbound.drain(..));
        }
        peer.turn(self.id, &mut self.unread, chance, u64::MAX / 2);
        self.tell_peer(peer);
    }
}

pub fn joined(memory: &[u8], pieces: &[Piece; 2]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| &memory[piece.clone()]).copied().collect()
}

fn assert_same(memory: &[u8], pieces: &[Piece; 2], bytes: &[u8], when: &str) {
    let (first, second) = bytes.split_at(pieces[0].len());
    let same = memory[pieces[0].clone()] == *first && memory[pieces[1].clone()] == *second;
    assert!(same, "memory {pieces:?} changed {when}");
}
