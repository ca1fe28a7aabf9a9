//! One thread and its connections: polled on a processor of their own, or asleep until bytes come.

use super::books::Books;
use super::faults::Faults;
use super::judge::Judge;
use super::live_line::Taken;
use super::rests::Rests;
use crate::base::limits;
use crate::sys::receive::Epoll;
use crate::sys::socket::Interest;
use crossbeam_channel::Receiver;
use socket2::SockRef;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Reads of one turn, so that other connections get theirs.
pub const READS_PER_TURN: usize = 8;
/// The token of the waker; connections count from 1.
const WAKER: u64 = 0;
/// At the end, what has already arrived is still read for this long.
const LAST_READS: Duration = Duration::from_millis(200);

/// What a listener understands. Each thread has one of its own.
pub trait Protocol: Clone + Send + 'static {
    type Connection: Send;

    fn open(&mut self, name: &dyn Fn() -> String, bench: &mut Bench) -> Self::Connection;

    /// Does what can be done at once; never waits.
    fn turn(&mut self, stream: &TcpStream, connection: &mut Self::Connection, bench: &mut Bench) -> Turn;

    /// Bytes that are known to come before anything has to be said.
    fn awaits(&self, connection: &Self::Connection) -> u64;

    fn close(&mut self, connection: Self::Connection, how: Closed, bench: &mut Bench);
}

/// When the next turn is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// When something arrives, or is there already.
    Next,
    /// When the peer takes more.
    Blocked,
    /// At this time of the bench's clock, whatever arrives.
    Wait(u64),
    Closed(Closed),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    ByPeer,
    ByPeerReset,
    /// In order, as its last answer said.
    AsAnswered,
    /// We reset it.
    ByReset,
    /// The receiver ends.
    ByStop,
}

/// What all connections of a thread share.
pub struct Bench {
    pub buffer: Vec<u8>,
    pub books: Books,
    pub faults: Option<Arc<Faults>>,
    pub judge: Option<Judge>,
    /// All that comes is looked at, which takes longer than TCP.
    pub checks_all: bool,
    pub origin: Instant,
    /// For who watches.
    pub taken: Arc<Taken>,
}

impl Bench {
    /// Since the receiver's start.
    pub fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

/// What the main thread and the others tell each other.
pub struct Shared {
    pub stop: AtomicBool,
    /// Connections that are open, those on their way included.
    pub open: AtomicUsize,
    /// A connection that brought something is closed.
    pub fed: AtomicBool,
    main: UnixStream,
}

impl Shared {
    /// `main`: the end that wakes the main thread.
    pub fn new(main: UnixStream) -> Self {
        Self { stop: AtomicBool::new(false), open: AtomicUsize::new(0), fed: AtomicBool::new(false), main }
    }

    pub fn stop(&self) {
        self.stop.store(true, SeqCst);
        self.wake_main();
    }

    fn wake_main(&self) {
        wake(&self.main);
    }
}

/// A full pipe wakes as well.
pub fn wake(end: &UnixStream) {
    let _full_or_gone = (&mut &*end).write(&[1]);
}

/// Takes the bytes of all wakes so far.
pub fn drain(end: &UnixStream) {
    let mut bytes = [0; 64];
    while matches!((&mut &*end).read(&mut bytes), Ok(1..)) {}
}

/// A connection on its way to its thread.
pub struct Arrival {
    pub stream: TcpStream,
    pub peer: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// Asked again and again.
    Polled,
    Kernel(Interest),
    /// Nothing is watched until its time has come.
    Paused,
}

struct Slot<C> {
    stream: TcpStream,
    connection: C,
    watch: Watch,
    wait_until_ns: Option<u64>,
    /// It is polled, and has just brought much.
    rests: bool,
}

/// A thread's state.
pub struct Worker<P: Protocol> {
    protocol: P,
    bench: Bench,
    shared: Arc<Shared>,
    inbox: Receiver<Arrival>,
    waker: UnixStream,
    polling: bool,
    epoll: Epoll,
    slots: Vec<Option<Slot<P::Connection>>>,
    free: Vec<usize>,
    polled: Vec<usize>,
    rests: Rests,
    /// Connections that the kernel watches.
    watched: usize,
    timers: BinaryHeap<Reverse<(u64, usize)>>,
    /// The last moment before the first bytes of data.
    began_ns: u64,
}

impl<P: Protocol> Worker<P> {
    pub fn new(
        protocol: P,
        bench: Bench,
        shared: Arc<Shared>,
        inbox: Receiver<Arrival>,
        waker: UnixStream,
        polling: bool,
    ) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(&waker, WAKER, Interest::Readable)?;
        Ok(Self {
            protocol,
            bench,
            shared,
            inbox,
            waker,
            polling,
            epoll,
            slots: Vec::new(),
            free: Vec::new(),
            polled: Vec::with_capacity(limits::RECEIVE_POLLED_MAX),
            rests: Rests::new(limits::RECEIVE_POLLED_MAX),
            watched: 0,
            timers: BinaryHeap::new(),
            began_ns: 0,
        })
    }

    /// Serves until the stop flag is up; the thread's books.
    pub fn run(mut self) -> io::Result<Books> {
        while !self.shared.stop.load(Relaxed) {
            self.note_begin();
            self.adopt();
            let bytes = self.bench.books.data_bytes();
            self.ask_polled();
            if !self.polling || self.watched > 0 {
                self.ask_kernel()?;
            }
            self.fire_timers();
            self.note_active(bytes);
            self.bench.taken.set(self.bench.books.bytes);
        }
        self.end();
        Ok(self.bench.books)
    }

    /// Until the first bytes have come, they may come any time now.
    fn note_begin(&mut self) {
        if self.bench.books.active_ns.is_none() {
            self.began_ns = self.bench.now_ns();
        }
    }

    fn note_active(&mut self, bytes_before: u64) {
        if self.bench.books.data_bytes() > bytes_before {
            let now_ns = self.bench.now_ns();
            let from_ns = if self.bench.books.active_ns.is_none() { self.began_ns } else { now_ns };
            self.bench.books.active(from_ns, now_ns);
        }
    }

    fn adopt(&mut self) {
        while !self.inbox.is_empty() {
            let Ok(arrival) = self.inbox.try_recv() else { return };
            let peer = arrival.peer;
            let connection = self.protocol.open(&|| peer.to_string(), &mut self.bench);
            let index = self.free.pop().unwrap_or(self.slots.len());
            if index == self.slots.len() {
                self.slots.push(None);
            }
            let mut watch = Watch::Polled;
            if self.polling && self.polled.len() < limits::RECEIVE_POLLED_MAX {
                self.polled.push(index);
            } else {
                watch = Watch::Kernel(Interest::Readable);
                self.watched += 1;
            }
            let slot = Slot { stream: arrival.stream, connection, watch, wait_until_ns: None, rests: false };
            let added = match watch {
                Watch::Kernel(interest) => self.epoll.add(&slot.stream, token(index), interest),
                _ => Ok(()),
            };
            self.slots[index] = Some(slot);
            if added.is_err() {
                self.close(index, Closed::ByReset);
            }
        }
        if self.polling && self.polled.is_empty() {
            std::hint::spin_loop();
        }
    }

    #[inline]
    fn ask_polled(&mut self) {
        while let Some(index) = self.rests.next_over(|| self.bench.now_ns()) {
            // The connection may be gone, and another one in its place.
            self.slots[index].iter_mut().for_each(|slot| slot.rests = false);
        }
        let mut at = 0;
        while let Some(&index) = self.polled.get(at) {
            let is_due = self.slots[index].as_ref().is_some_and(|slot| slot.wait_until_ns.is_none() && !slot.rests);
            if is_due {
                let before = self.bench.books.wire_bytes;
                self.turn(index);
                self.rest_after(index, self.bench.books.wire_bytes - before);
            }
            // A closed connection has left the list, and another one may have its place.
            at += usize::from(self.polled.get(at) == Some(&index));
        }
    }

    /// Lets a stream gather that nobody looks at.
    #[inline]
    fn rest_after(&mut self, index: usize, brought: u64) {
        let Some(slot) = self.slots[index].as_mut().filter(|_| !self.bench.checks_all) else { return };
        let buffer_bytes = || SockRef::from(&slot.stream).recv_buffer_size().unwrap_or(0) as u64;
        if Rests::suit(brought, self.protocol.awaits(&slot.connection), buffer_bytes) {
            slot.rests = true;
            self.rests.begin(index, self.bench.now_ns());
        }
    }

    fn ask_kernel(&mut self) -> io::Result<()> {
        let count = self.epoll.wait(if self.polling { 0 } else { self.wait_ms() })?;
        self.note_begin();
        for at in 0..count {
            match self.epoll.token(at) {
                WAKER => drain(&self.waker),
                token => self.turn((token - 1) as usize),
            }
        }
        Ok(())
    }

    /// Until the next timer, rounded up; -1: there is none.
    fn wait_ms(&self) -> i32 {
        let Some(Reverse((at_ns, _))) = self.timers.peek() else { return -1 };
        let ns = at_ns.saturating_sub(self.bench.now_ns());
        i32::try_from(ns.div_ceil(1_000_000)).unwrap_or(i32::MAX)
    }

    fn fire_timers(&mut self) {
        while let Some(Reverse((at_ns, index))) = self.timers.peek().copied()
            && at_ns <= self.bench.now_ns()
        {
            self.timers.pop();
            // The connection may be gone, and another one in its place.
            let Some(slot) = self.slots[index].as_mut().filter(|slot| slot.wait_until_ns == Some(at_ns)) else {
                continue;
            };
            slot.wait_until_ns = None;
            let mut watched = Ok(());
            if slot.watch == Watch::Paused {
                slot.watch = Watch::Kernel(Interest::Readable);
                watched = self.epoll.add(&slot.stream, token(index), Interest::Readable);
            }
            match watched {
                Ok(()) => self.turn(index),
                Err(_) => self.close(index, Closed::ByReset),
            }
        }
    }

    #[inline]
    fn turn(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut) else { return };
        let next = match self.protocol.turn(&slot.stream, &mut slot.connection, &mut self.bench) {
            // What is readable is what is watched for unless something else was said.
            Turn::Next if slot.watch != Watch::Kernel(Interest::Writable) => return,
            next => next,
        };
        let done = match next {
            Turn::Next => rewatch(&self.epoll, slot, index, Interest::Readable),
            Turn::Blocked => rewatch(&self.epoll, slot, index, Interest::Writable),
            Turn::Wait(at_ns) => {
                slot.wait_until_ns = Some(at_ns);
                self.timers.push(Reverse((at_ns, index)));
                match slot.watch {
                    Watch::Kernel(_) => {
                        slot.watch = Watch::Paused;
                        self.epoll.remove(&slot.stream)
                    }
                    _ => Ok(()),
                }
            }
            Turn::Closed(how) => return self.close(index, how),
        };
        if done.is_err() {
            self.close(index, Closed::ByReset);
        }
    }

    fn close(&mut self, index: usize, how: Closed) {
        let Some(slot) = self.slots[index].take() else { return };
        self.free.push(index);
        if slot.watch == Watch::Polled {
            self.polled.retain(|other| *other != index);
        } else {
            self.watched -= 1;
        }
        self.protocol.close(slot.connection, how, &mut self.bench);
        if matches!(how, Closed::ByReset | Closed::ByPeerReset) {
            self.bench.books.connections_reset += 1;
        }
        if how == Closed::ByReset {
            // Closing a socket that lingers for no time at all resets it.
            let _closed_anyway = SockRef::from(&slot.stream).set_linger(Some(Duration::ZERO));
        }
        drop(slot.stream);
        if self.bench.books.brought_something() {
            self.shared.fed.store(true, SeqCst);
        }
        if self.shared.open.fetch_sub(1, SeqCst) == 1 {
            self.shared.wake_main();
        }
    }

    /// Reads what has arrived, then lets everybody go. In turn: what one of them brings may lie between what the others
    /// did.
    fn end(&mut self) {
        self.adopt();
        let deadline = Instant::now() + LAST_READS;
        loop {
            let (read, bytes) = (self.bench.books.wire_bytes, self.bench.books.data_bytes());
            for index in 0..self.slots.len() {
                let ready = self.slots[index].as_ref().is_some_and(|slot| slot.wait_until_ns.is_none());
                if ready && Instant::now() < deadline {
                    self.turn(index);
                }
            }
            self.note_active(bytes);
            if self.bench.books.wire_bytes == read {
                break;
            }
        }
        for index in 0..self.slots.len() {
            self.close(index, Closed::ByStop);
        }
    }
}

fn token(index: usize) -> u64 {
    index as u64 + 1
}

fn rewatch<C>(epoll: &Epoll, slot: &mut Slot<C>, index: usize, interest: Interest) -> io::Result<()> {
    match slot.watch {
        Watch::Kernel(now) if now != interest => {
            slot.watch = Watch::Kernel(interest);
            epoll.change(&slot.stream, token(index), interest)
        }
        _ => Ok(()),
    }
}
