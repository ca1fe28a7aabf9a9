//! A kernel with connections: `SimNet` is to sockets what `SimRing` is to files.
//!
//! It asserts what no peer could forgive: two sends in flight on one socket, bytes that change while the kernel
//! holds them, and a connection that is replaced while operations are in flight on it. It asserts, too, that nobody
//! asks for zero copy in vain: where there is none, where there was no memory for it, and where it is always a copy.

#[path = "net/broker.rs"]
pub mod broker;
#[path = "net/peer.rs"]
pub mod peer;
#[path = "net/plan.rs"]
pub mod plan;
#[path = "net/server.rs"]
pub mod server;
#[path = "net/socket.rs"]
pub mod socket;
#[path = "net/truth.rs"]
pub mod truth;
#[path = "net/witness.rs"]
pub mod witness;
#[path = "net/world.rs"]
pub mod world;

use crate::chance::Chance;
use crate::clock::SimClock;
use engine::base::fatal::{Exit, Fatal};
use engine::connect::dial::Dialed;
use engine::connect::dialer::{Answer, Clerk, DialOrder};
use engine::sys::allocation::uncounted;
use engine::sys::ring::{Completion, FileSlot, Loan, Means, NetRing, Piece, Progress, Ring, Wait};
use peer::Peer;
use socket::{Env, NetFaults, Receiving, Sending, Socket, Told, joined};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// One look at the completions in so many comes just before the next one is posted.
const LOOKS_TOO_EARLY_ONE_IN: u64 = 6;

/// From when on peers go on while nobody looks, and in how many turns.
const ABSENCE_NS: u64 = 1_000_000_000;
const ABSENCE_TURNS: u64 = 300;

/// So many zero-copy sends in a row that were copied after all are enough for one place in the ring.
const COPIED_IN_A_ROW_MAX: u32 = 16;

enum Queued {
    Send { slot: FileSlot, pieces: [Piece; 2], means: Means, token: u64 },
    Receive { slot: FileSlot, range: Range<usize>, token: u64 },
}

impl Queued {
    fn slot(&self) -> FileSlot {
        match self {
            Queued::Send { slot, .. } | Queued::Receive { slot, .. } => *slot,
        }
    }
}

/// How sends were asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sends {
    pub zero_copy: u64,
    pub copied: u64,
    /// Those behind [`COPIED_IN_A_ROW_MAX`], all of which are to be copied.
    pub disappointed: u64,
}

/// What outlives the process.
pub struct Remains<P> {
    pub peer: P,
    pub sockets: Vec<Socket>,
    pub breaks_left: u64,
    /// What the kernel took, as completions say that nobody has looked at.
    pub unread_bytes: u64,
    pub sends: Sends,
}

/// See the module.
pub struct SimNet<P> {
    memory: Vec<u8>,
    clock: SimClock,
    chance: Chance,
    faults: NetFaults,
    /// Here until the end.
    peer: Option<P>,
    clerk: Clerk,
    /// Orders, and when they are answered.
    dials: Vec<(u64, DialOrder)>,
    /// What stands for a connection outside of here.
    by_descriptor: BTreeMap<RawFd, usize>,
    files: Vec<File>,
    /// Which socket is in which place of the ring.
    placed: Vec<usize>,
    /// Of each place: zero-copy sends in a row that were copied after all, whatever connection they were on. It stays
    /// at its maximum.
    copied: Vec<u32>,
    sends: Sends,
    sockets: Vec<Socket>,
    /// Of the sockets, those where something may still happen.
    active: Vec<usize>,
    queued: Vec<Queued>,
    done: VecDeque<Told>,
    depth: usize,
    settled_ns: u64,
}

impl<P: Peer> SimNet<P> {
    pub fn new(
        seed: u64,
        clock: SimClock,
        memory: Vec<u8>,
        depth: usize,
        faults: NetFaults,
        peer: P,
        clerk: Clerk,
    ) -> Self {
        Self {
            memory,
            clock,
            chance: Chance::new(seed, 5),
            faults,
            peer: Some(peer),
            clerk,
            dials: Vec::new(),
            by_descriptor: BTreeMap::new(),
            files: Vec::new(),
            placed: Vec::new(),
            copied: Vec::new(),
            sends: Sends::default(),
            sockets: Vec::new(),
            active: Vec::new(),
            queued: Vec::new(),
            done: VecDeque::new(),
            depth,
            settled_ns: 0,
        }
    }

    /// A connection that is up.
    pub fn dial(&mut self, lane: u32, connection: u32) -> Dialed {
        let nothing = File::open("/dev/null").expect("every Linux has it");
        let id = self.sockets.len();
        self.by_descriptor.insert(nothing.as_raw_fd(), id);
        self.sockets.push(Socket::new(id, self.clock.peek_ns()));
        self.active.push(id);
        if let Some(peer) = &mut self.peer {
            peer.opened(id, lane, connection);
        }
        let stream = TcpStream::from(OwnedFd::from(nothing));
        Dialed { stream, tls: None, peer_address: ([127, 0, 0, 1], 1).into(), expires: None }
    }

    fn answer_dials(&mut self) {
        let now_ns = self.clock.peek_ns();
        while let Some(order) = self.clerk.order() {
            let twice = self.dials.iter().any(|(_, o)| (o.lane, o.connection) == (order.lane, order.connection));
            assert!(!twice, "a connection was ordered twice: {order:?}");
            self.dials.push((now_ns + self.chance.between(0..=self.faults.dial_ns_max), order));
        }
        while let Some(at) = self.dials.iter().position(|(ready_ns, _)| *ready_ns <= now_ns) {
            let (_, DialOrder { lane, connection, .. }) = self.dials.swap_remove(at);
            let dialed = if self.chance.one_in(self.faults.refuse_one_in) {
                Err(Box::new(Fatal::new(Exit::Unreachable, "refused")))
            } else {
                Ok(Box::new(self.dial(lane, connection)))
            };
            let sent = self.clerk.answer(Answer { lane, connection, dialed });
            assert!(sent.is_ok(), "more answers than connections");
        }
    }

    fn submit_queued(&mut self) {
        if self.chance.one_in(self.faults.busy_one_in) {
            return;
        }
        let now_ns = self.clock.peek_ns();
        for queued in self.queued.drain(..) {
            let id = self.placed[queued.slot().0 as usize];
            if !self.active.contains(&id) {
                self.active.push(id);
            }
            let socket = &mut self.sockets[id];
            let step_ns = now_ns + self.chance.between(0..=self.faults.step_ns_max);
            socket.next_step_ns = socket.next_step_ns.min(step_ns);
            match queued {
                Queued::Send { pieces, means, token, .. } => {
                    let bytes = joined(&self.memory, &pieces);
                    socket.sending = Some(Sending { token, pieces, means, taken: 0, bytes });
                }
                Queued::Receive { range, token, .. } => {
                    let before = self.memory[range.clone()].to_vec();
                    socket.receiving = Some(Receiving { token, range, before });
                }
            }
        }
    }

    /// Lets everything happen whose time has come, sockets in any order.
    fn settle(&mut self) {
        self.answer_dials();
        let now_ns = self.clock.peek_ns();
        let count = self.active.len();
        if count > 1 {
            let shift = self.chance.between(0..=count as u64 - 1) as usize;
            self.active.rotate_left(shift);
        }
        let from_ns = std::mem::replace(&mut self.settled_ns, now_ns);
        let Self { sockets, memory, chance, faults, done, peer, active, .. } = self;
        let Some(peer) = peer else { return };
        let mut env = Env { now_ns, memory, chance, faults, done };
        let turns = if now_ns - from_ns < ABSENCE_NS { 0 } else { ABSENCE_TURNS };
        for turn in 0..turns {
            env.now_ns = from_ns + (now_ns - from_ns) * turn / turns;
            active.iter().for_each(|id| sockets[*id].step_unattended(&mut env, peer));
        }
        env.now_ns = now_ns;
        active.retain(|id| {
            let socket = &mut sockets[*id];
            if socket.next_step_ns <= now_ns {
                socket.step(&mut env, peer);
            }
            !socket.is_over()
        });
    }

    fn next_event_ns(&self) -> u64 {
        let steps = self.active.iter().map(|id| self.sockets[*id].next_step_ns);
        steps.chain(self.dials.iter().map(|(ready_ns, _)| *ready_ns)).min().unwrap_or(u64::MAX)
    }

    /// The process is gone; what the kernel had taken may still arrive.
    pub fn end(&mut self) -> Remains<P> {
        let (mut sockets, mut peer) = (std::mem::take(&mut self.sockets), self.peer.take().expect("it ends once"));
        self.active.clear();
        sockets.iter_mut().for_each(|socket| socket.outlive(&mut self.chance, &mut peer));
        let unread_bytes = self.done.iter().map(|told| told.taken).sum();
        Remains { peer, sockets, breaks_left: self.faults.breaks_left, unread_bytes, sends: self.sends }
    }

    fn push(&mut self, queued: Queued) -> bool {
        let room = self.in_flight() < self.depth;
        if room {
            self.queued.push(queued);
        }
        room
    }

    /// Somebody hears of the end of a zero-copy send.
    fn hear_of_release(&mut self, socket: usize, copied: bool) {
        let place = self.placed.iter().position(|id| *id == socket).expect("it was not replaced before that");
        let in_a_row = &mut self.copied[place];
        if *in_a_row < COPIED_IN_A_ROW_MAX {
            *in_a_row = if copied { *in_a_row + 1 } else { 0 };
        }
    }

    fn place(&mut self, file: &File) -> usize {
        let id = self.by_descriptor.remove(&file.as_raw_fd()).expect("a connection that was dialed here");
        self.sockets[id].placed = true;
        id
    }
}

impl<P: Peer> Ring for SimNet<P> {
    fn memory(&mut self) -> &mut [u8] {
        &mut self.memory
    }

    fn install(&mut self, file: File) -> io::Result<FileSlot> {
        let id = self.place(&file);
        self.files.push(file);
        self.placed.push(id);
        self.copied.push(0);
        Ok(FileSlot(self.files.len() as u32 - 1))
    }

    fn replace(&mut self, slot: FileSlot, file: File) -> io::Result<File> {
        let id = uncounted(|| self.place(&file));
        let old = std::mem::replace(&mut self.placed[slot.0 as usize], id);
        let unseen =
            self.done.iter().any(|told| told.socket == old) || self.queued.iter().any(|other| other.slot() == slot);
        let busy = self.sockets[old].operations() > 0 || unseen;
        assert!(!busy, "a connection was replaced while operations were in flight on it");
        // The old one is closed: what it had still to send goes out, the receiver hears of the end.
        self.sockets[old].shut = true;
        Ok(std::mem::replace(&mut self.files[slot.0 as usize], file))
    }

    fn file(&self, slot: FileSlot) -> &File {
        &self.files[slot.0 as usize]
    }

    fn write(&mut self, _slot: FileSlot, _range: Range<usize>, _offset: u64, _token: u64) -> bool {
        unreachable!("sockets are not written at an offset")
    }

    fn sync(&mut self, _slot: FileSlot, _token: u64) -> bool {
        unreachable!("sockets are not synced")
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        uncounted(|| {
            self.submit_queued();
            self.settle();
            if let (Wait::ForNs(ns), true) = (wait, self.done.is_empty()) {
                let until_ns = self.clock.peek_ns().saturating_add(ns);
                // The kernel wakes nobody before there is a completion.
                while self.done.is_empty() && self.clock.peek_ns() < until_ns {
                    let next_ns = self.next_event_ns();
                    self.clock.sleep_until(next_ns.min(until_ns));
                    self.settle();
                }
            }
        });
        Ok(())
    }

    fn completion(&mut self) -> Option<Completion> {
        uncounted(|| self.settle());
        if self.chance.one_in(LOOKS_TOO_EARLY_ONE_IN) {
            return None;
        }
        let Told { socket, completion, .. } = self.done.pop_front()?;
        if let Progress::Released { copied } = completion.progress {
            self.hear_of_release(socket, copied);
        }
        Some(completion)
    }

    fn in_flight(&self) -> usize {
        let held: usize = self.active.iter().map(|id| self.sockets[*id].operations()).sum();
        let told = self.done.iter().filter(|told| told.completion.progress != Progress::Taken).count();
        self.queued.len() + held + told
    }

    fn cpu_ns(&self) -> u64 {
        self.clock.peek_ns()
    }
}

impl<P: Peer> NetRing for SimNet<P> {
    const LENT_BYTES_MIN: usize = 300;
    /// Small, so that lent and copied messages follow each other.
    const LENT_TRIAL_BYTES: u64 = 3000;

    fn send(&mut self, slot: FileSlot, pieces: [Piece; 2], means: Means, token: u64) -> bool {
        let socket = &self.sockets[self.placed[slot.0 as usize]];
        let queued = self.queued.iter().any(|other| other.slot() == slot && matches!(other, Queued::Send { .. }));
        assert!(socket.sending.is_none() && !queued, "two sends in flight on one socket");
        assert!(pieces.iter().any(|piece| !piece.is_empty()), "an empty send");
        assert!(means != Means::ZeroCopy || self.faults.zero_copy, "zero copy where there is none");
        assert!(means != Means::ZeroCopy || !socket.lacked_memory, "zero copy again where there is no memory for it");
        let disappointed = self.copied[slot.0 as usize] == COPIED_IN_A_ROW_MAX;
        assert!(means != Means::ZeroCopy || !disappointed, "zero copy again where it is always a copy");
        assert!(!matches!(means, Means::Lend(_)) || self.faults.lends, "memory is lent that cannot be");
        self.sends.zero_copy += u64::from(means == Means::ZeroCopy);
        self.sends.copied += u64::from(means == Means::Copy);
        self.sends.disappointed += u64::from(disappointed);
        uncounted(|| self.push(Queued::Send { slot, pieces, means, token }))
    }

    fn receive(&mut self, slot: FileSlot, range: Range<usize>, token: u64) -> bool {
        let socket = &self.sockets[self.placed[slot.0 as usize]];
        let queued = self.queued.iter().any(|other| other.slot() == slot && matches!(other, Queued::Receive { .. }));
        assert!(socket.receiving.is_none() && !queued, "two receives in flight on one socket");
        assert!(!range.is_empty(), "an empty receive");
        uncounted(|| self.push(Queued::Receive { slot, range, token }))
    }

    fn has_zero_copy(&self) -> bool {
        self.faults.zero_copy
    }

    fn can_lend(&mut self, _slot: FileSlot, _loan: Loan) -> bool {
        self.faults.lends
    }

    fn detach(&mut self, range: Range<usize>) {
        self.sockets.iter_mut().for_each(|socket| socket.detach(&range));
    }

    fn acknowledged(&self, slot: FileSlot) -> u64 {
        self.sockets[self.placed[slot.0 as usize]].bytes_acknowledged()
    }

    fn retransmits(&self, slot: FileSlot) -> u64 {
        self.sockets[self.placed[slot.0 as usize]].retransmits_told()
    }

    fn shut_down(&mut self, slot: FileSlot) {
        let id = self.placed[slot.0 as usize];
        self.sockets[id].shut = true;
    }

    fn disconnect(&mut self, slot: FileSlot) {
        let id = self.placed[slot.0 as usize];
        self.sockets[id].disconnect();
    }
}
