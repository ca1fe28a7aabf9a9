//! The thread that redials for the cores. A core orders a connection and goes on; the answer comes through its queue.
//!
//! Each dial has a thread of its own for as long as it lasts, so that a dead host holds up nobody else. Between two
//! dials of one connection the pause grows with each failure; a connection that dies young counts as one.

mod no_http;
mod outages;
mod plain;

pub use outages::Outages;
pub use plain::plain;

use super::backoff;
use super::dial::Dialed;
use super::peer::shown;
use super::tls::{HandshakeError, TlsError};
use crate::base::fatal::Fatal;
use crate::base::limits;
use crate::base::units::format_counted;
use crate::plan::PeerPlan;
use crate::sys::threads;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded, select, unbounded};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A server that closes idle connections waits for so long at least; who closes sooner has no use for them.
const IDLE_NS_MIN: u64 = 100_000_000;

/// What became of the connection that is to be replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LastUse {
    /// Nothing, or nobody knows: one that died young counts as a failure.
    #[default]
    Unknown,
    /// It broke, but had done some work before: the least pause.
    Used,
    /// The peer closed it in order after it had done its work, as servers do after so many requests: no pause.
    Served,
    /// The peer closed it in order before it was asked anything: no pause either where it closes idle connections.
    Unasked,
    /// The peer of a byte stream closed its side of it; whether the stream had done some work before.
    Closed { used: bool },
    /// The peer ended it with this TLS alert (RFC 8446, section 6.2); whether it had done some work before.
    Alert { description: u8, used: bool },
    /// The HTTP server at the other end closed it, and had not a byte of an answer for what it was asked.
    Mute,
    /// What came back was no HTTP, and began so.
    NoHttp { start: [u8; 4] },
}

/// One connection wanted. At most one order of a connection is open at any time.
#[derive(Clone, Debug)]
pub struct DialOrder {
    /// The core's lane, and which of its connections: what the answer is known by.
    pub lane: u32,
    pub connection: u32,
    pub peer: Arc<PeerPlan>,
    pub last_use: LastUse,
}

/// One for each order. Boxed by the dialer, so that nothing large moves through the queue.
pub struct Answer {
    pub lane: u32,
    pub connection: u32,
    /// After an error the core orders again, if it still wants the connection.
    pub dialed: Result<Box<Dialed>, Box<Fatal>>,
}

/// How a connection comes to life: the connect alone, or with what is to be said first.
pub type DialFn = Box<dyn Fn(&DialOrder) -> Result<Dialed, Fatal> + Send + Sync>;

/// A core's end.
pub struct DialHandle {
    orders: Sender<DialOrder>,
    answers: Receiver<Answer>,
    outages: Arc<Outages>,
}

impl DialHandle {
    /// Places an order, without waiting or allocating; gives it back where the queue is full (try again next turn)
    /// or the dialer has stopped.
    pub fn order(&self, order: DialOrder) -> Result<(), DialOrder> {
        self.orders.try_send(order).map_err(TrySendError::into_inner)
    }

    /// What has come, if anything has.
    pub fn answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    /// Where it is noted that this peer has answered a request. Allocates: before the start.
    pub fn answered(&self, peer: &PeerPlan) -> Arc<AtomicBool> {
        self.outages.answered(&shown(peer))
    }

    /// Where it is noted that a first connection to this peer has come about, of this core or another.
    pub fn reached(&self, peer: &PeerPlan) -> Arc<AtomicBool> {
        self.outages.reached(&shown(peer))
    }

    /// Waits for an answer: before the start, and in tests.
    pub fn wait(&self, timeout: Duration) -> Result<Answer, RecvTimeoutError> {
        self.answers.recv_timeout(timeout)
    }
}

/// The other end of a handle without a dialer: simulations answer orders themselves.
pub struct Clerk {
    orders: Receiver<DialOrder>,
    answers: Sender<Answer>,
}

impl Clerk {
    /// The oldest order that was not looked at.
    pub fn order(&self) -> Option<DialOrder> {
        self.orders.try_recv().ok()
    }

    /// Answers an order; an answer too many for the handle comes back.
    pub fn answer(&self, answer: Answer) -> Result<(), Answer> {
        self.answers.try_send(answer).map_err(TrySendError::into_inner)
    }
}

/// A handle for so many connections, and who answers its orders in place of a dialer.
pub fn pair(connections: usize) -> (DialHandle, Clerk) {
    let (orders, placed) = bounded(limits::DIAL_ORDERS_MAX);
    let (sender, answers) = bounded(connections.max(1));
    (DialHandle { orders, answers, outages: Arc::default() }, Clerk { orders: placed, answers: sender })
}

/// A dial that ended.
struct Ended {
    key: Key,
    /// Of the order.
    class: usize,
    /// Who is at the other end, or why nobody is.
    dialed: Result<SocketAddr, String>,
}

/// Lane and connection.
type Key = (u32, u32);

/// Stops, promptly, when it is dropped; dials under way end on their own and what they bring is closed.
pub struct Dialer {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Dialer {
    /// For one core with so many connections on all its lanes. Its threads run on `cpus`: those of the core's own
    /// thread, which starts it, are no place for them.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        dial: DialFn,
        seed: u64,
        connections: usize,
        cpus: Vec<usize>,
        outages: Arc<Outages>,
    ) -> Result<(Self, DialHandle), Fatal> {
        let (handle, Clerk { orders, answers }) = pair(connections);
        let handle = DialHandle { outages: outages.clone(), ..handle };
        let (stop, stopped) = bounded(0);
        let (done, ended) = unbounded();
        outages.expect(connections);
        let mut desk = Desk {
            dial: Arc::new(dial),
            random: SplitMix64::seed_from_u64(seed),
            answers,
            waiting: Default::default(),
            placed_count: 0,
            under_way: [0; CLASSES],
            records: BTreeMap::new(),
            outages,
            told_of_closing: false,
            told_of_alerts: BTreeSet::new(),
            done,
        };
        let run = move || desk.run(&orders, &ended, &stopped);
        let thread = threads::start("dialer", &cpus, "the dialer's thread", run)?;
        Ok((Self { stop: Some(stop), thread: Some(thread) }, handle))
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic, if it had one, is on standard error already.
            let _panic = thread.join();
        }
    }
}

/// How a connection has fared.
#[derive(Clone, Debug, Default)]
struct Record {
    failures: u32,
    dialed_at: Option<Instant>,
    /// Who was at the other end of the last one.
    peer_address: Option<SocketAddr>,
    /// What kept it from working since then.
    outages: BTreeSet<String>,
    /// How often in a row its peer gave no answer.
    mute: u32,
    /// It was lost, not closed in order, and is not there again.
    is_down: bool,
}

/// Connections that have not failed lately, those that failed once, and those that fail again and again.
const CLASSES: usize = 3;

/// What the dialer's thread knows.
struct Desk {
    dial: Arc<DialFn>,
    random: SplitMix64,
    answers: Sender<Answer>,
    /// Of each class, by when they are due, in the order they came.
    waiting: [BTreeMap<(Instant, u64), DialOrder>; CLASSES],
    placed_count: u64,
    /// Of each class.
    under_way: [usize; CLASSES],
    records: BTreeMap<Key, Record>,
    outages: Arc<Outages>,
    /// That such a peer is taken for gone.
    told_of_closing: bool,
    /// TLS alerts that were told.
    told_of_alerts: BTreeSet<u8>,
    done: Sender<Ended>,
}

impl Desk {
    fn run(&mut self, placed: &Receiver<DialOrder>, ended: &Receiver<Ended>, stopped: &Receiver<()>) {
        loop {
            self.start_due();
            // With no place for any of them the next thing to happen is an end.
            let next = self.next_order();
            let timeout =
                next.map_or(Duration::from_secs(3600), |(_, (due, _))| due.saturating_duration_since(Instant::now()));
            select! {
                recv(placed) -> order => match order {
                    Ok(order) => {
                        // A dial tells its end before it answers, but of two channels `select!` takes either first.
                        ended.try_iter().for_each(|end| self.note(&end));
                        self.take(order);
                    }
                    Err(_) => return,
                },
                recv(ended) -> end => if let Ok(end) = end { self.note(&end) },
                recv(stopped) -> _ => return,
                default(timeout) => {}
            }
        }
    }

    /// The first that finds a place, and its class.
    fn next_order(&self) -> Option<(usize, (Instant, u64))> {
        let first = |class: usize| Some((class, *self.waiting[class].first_key_value()?.0));
        (0..CLASSES).filter(|class| self.has_place(*class)).filter_map(first).min_by_key(|(_, at)| *at)
    }

    /// A dial to a dead host takes its place for long: half of the places are kept from those that fail again and again,
    /// and some from all that have failed.
    fn has_place(&self, class: usize) -> bool {
        let (all, [sound, once, again]) = (limits::DIALS_AT_ONCE_MAX, self.under_way);
        let failed = once + again;
        let may = match class {
            0 => true,
            1 => failed < all / 4 * 3,
            _ => failed < all / 4 * 3 && again < all / 2,
        };
        may && sound + failed < all
    }

    fn take(&mut self, order: DialOrder) {
        self.tell_of_closing(&order);
        self.tell_of_alert(&order);
        if let Some(words) = self.news_of_no_http(&order) {
            tracing::warn!("{words}");
        }
        let now = Instant::now();
        let may_be_idle = order.last_use == LastUse::Unasked && self.has_answered(&order.peer);
        let record = self.records.entry(key(&order)).or_default();
        let lived = |at: Instant| now.saturating_duration_since(at);
        let idle = may_be_idle && record.dialed_at.is_some_and(|at| lived(at) >= Duration::from_nanos(IDLE_NS_MIN));
        let last_use = if idle { LastUse::Served } else { order.last_use };
        let is_lost = record.peer_address.is_some() && last_use != LastUse::Served;
        if is_lost && !std::mem::replace(&mut record.is_down, true) {
            self.outages.lost();
        }
        let young = |at: Instant| lived(at) < Duration::from_nanos(limits::BACKOFF_MAX_NS);
        record.failures = match (last_use, record.dialed_at.take()) {
            (LastUse::Served, _) => 0,
            (LastUse::Used | LastUse::Closed { used: true }, _) => 1,
            (_, Some(at)) if young(at) => record.failures.saturating_add(1),
            (_, Some(_)) => 0,
            (_, None) => record.failures,
        };
        let bounds = (limits::BACKOFF_MIN_NS, limits::BACKOFF_MAX_NS);
        let due = now + backoff::pause(bounds, record.failures, self.random.next_u64());
        self.placed_count += 1;
        // It stays the class's until it is answered: a connection has one order at a time.
        let class = (record.failures as usize).min(CLASSES - 1);
        self.waiting[class].insert((due, self.placed_count), order);
    }

    /// Who only stopped sending cannot be told from who is gone.
    fn tell_of_closing(&mut self, order: &DialOrder) {
        if matches!(order.last_use, LastUse::Closed { .. }) && !std::mem::replace(&mut self.told_of_closing, true) {
            let peer = shown(&order.peer);
            tracing::warn!("{peer} closed its sending side: such a peer is taken for gone, and is dialed again");
        }
    }

    /// Each once.
    fn tell_of_alert(&mut self, order: &DialOrder) {
        let LastUse::Alert { description, used } = order.last_use else { return };
        if self.told_of_alerts.insert(description) {
            let from = self.records.get(&key(order)).and_then(|record| record.peer_address);
            tracing::warn!("{}", words_of_alert(&order.peer, (description, used), from));
        }
    }

    /// Of a peer that speaks no HTTP; once for each. One that has answered closes for a reason of its own.
    fn news_of_no_http(&mut self, order: &DialOrder) -> Option<String> {
        let record = self.records.entry(key(order)).or_default();
        record.mute = if order.last_use == LastUse::Mute { record.mute.saturating_add(1) } else { 0 };
        let mute = record.mute;
        let words = match order.last_use {
            LastUse::Mute if mute == no_http::MUTE_TOLD_AT && !self.has_answered(&order.peer) => {
                no_http::words_of_silence(&order.peer)
            }
            LastUse::NoHttp { start } => no_http::words_of_answer(&order.peer, start),
            _ => return None,
        };
        self.outages.is_first_of(&shown(&order.peer)).then_some(words)
    }

    fn has_answered(&self, peer: &PeerPlan) -> bool {
        self.outages.answered(&shown(peer)).load(Relaxed)
    }

    fn note(&mut self, end: &Ended) {
        self.under_way[end.class] -= 1;
        let record = self.records.entry(end.key).or_default();
        let why = match &end.dialed {
            Ok(address) => {
                (record.dialed_at, record.peer_address) = (Some(Instant::now()), Some(*address));
                std::mem::take(&mut record.outages).iter().for_each(|why| self.outages.end(why));
                if std::mem::take(&mut record.is_down) {
                    self.outages.found();
                }
                return;
            }
            Err(why) => why,
        };
        record.failures = record.failures.saturating_add(1);
        // Before it has worked once the run says itself why it cannot start.
        if record.peer_address.is_none() {
            return;
        }
        if record.outages.insert(why.clone()) {
            if self.outages.begin(why) {
                tracing::warn!("a lost connection cannot be made again, still trying: {why}");
            }
        } else if let Some(lasted) = self.outages.lasts(why, Instant::now()) {
            let all = format_counted(self.outages.connections() as u64, "connection");
            let (down, seconds) = (self.outages.down(), lasted.as_secs());
            tracing::warn!("{down} of {all} down, still trying after {seconds} s: {why}");
        }
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        while let Some((class, at)) = self.next_order().filter(|(_, (due, _))| *due <= now) {
            let Some(order) = self.waiting[class].remove(&at) else { return };
            self.under_way[class] += 1;
            self.start(order, class);
        }
    }

    fn start(&mut self, order: DialOrder, class: usize) {
        let (dial, done, answers) = (self.dial.clone(), self.done.clone(), self.answers.clone());
        let key = key(&order);
        let (lane, connection) = key;
        let call = move || {
            // Somebody waits for the answer of one that panics, too.
            let dialed = catch_unwind(AssertUnwindSafe(|| dial(&order))).unwrap_or_else(|_| {
                let peer = shown(&order.peer);
                Err(Fatal::host(format!("dialing {peer} crashed; please report this")))
            });
            // Told first: the core may order again at once.
            let told = dialed.as_ref().map(|dialed| dialed.peer_address).map_err(|fatal| fatal.what.clone());
            let _stopped = done.send(Ended { key, class, dialed: told });
            let dialed = dialed.map(Box::new).map_err(Box::new);
            // Nobody waits for it any more: it closes here.
            let _nobody = answers.send(Answer { lane, connection, dialed });
        };
        let thread = threads::start(format!("dial-{lane}.{connection}"), &[], "a thread that dials", call);
        if let Err(fatal) = thread {
            self.note(&Ended { key, class, dialed: Err(fatal.what.clone()) });
            let _nobody = self.answers.try_send(Answer { lane, connection, dialed: Err(Box::new(fatal)) });
        }
    }
}

/// Before any work an alert is the handshake's: in TLS 1.3 the peer looks at it when the client is done. After that it
/// comes from who was dialed, which is not always who was ordered: a partition's leader is looked up.
fn words_of_alert(ordered: &PeerPlan, (description, used): (u8, bool), from: Option<SocketAddr>) -> String {
    if let Some(plan) = ordered.tls.as_ref().filter(|_| !used) {
        return HandshakeError::of_alert(description).fatal(ordered, plan).to_string();
    }
    let from = from.map_or_else(|| "the peer".to_owned(), |address| address.to_string());
    format!("{from} ended a connection: {}", TlsError::Alert(description))
}

fn key(order: &DialOrder) -> Key {
    (order.lane, order.connection)
}

#[cfg(test)]
mod tests;
