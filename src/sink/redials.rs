//! A core's way to connections: the first ones before the start, new ones in place of those that broke.

use crate::base::fatal::{Exit, Fatal};
use crate::base::{limits, units};
use crate::connect::dial::Dialed;
use crate::connect::dialer::{Answer, DialHandle, DialOrder, LastUse};
use crate::plan::PeerPlan;
use crossbeam_channel::RecvTimeoutError;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// See the module.
pub struct Redials {
    handle: DialHandle,
    /// Of each lane.
    peers: Vec<Arc<PeerPlan>>,
    /// Of each lane: its peer has answered a request, of this lane or another.
    answered: Vec<Arc<AtomicBool>>,
    /// Connections that are wanted and not ordered yet.
    wanted: Vec<(u32, u32, LastUse)>,
    /// Orders without an answer.
    open: usize,
}

impl Redials {
    /// For lanes with these peers, with so many connections in all.
    pub fn new(handle: DialHandle, peers: Vec<Arc<PeerPlan>>, connections: usize) -> Self {
        let answered = peers.iter().map(|peer| handle.answered(peer)).collect();
        Self { handle, peers, answered, wanted: Vec::with_capacity(connections), open: 0 }
    }

    /// The first connections: so many for each lane. Blocks until they are there, or `may_start` says why nobody needs
    /// them any more.
    ///
    /// # Errors
    /// As many to one target as are dialed at once have failed, and none has come about, here or on another core; or
    /// some still fail when the time for all of them is over.
    pub fn connect_all(
        &mut self,
        connections: &[usize],
        may_start: impl Fn() -> Result<(), Fatal>,
    ) -> Result<Vec<Vec<Dialed>>, Fatal> {
        self.connect_within(limits::FIRST_DIALS_NS_MAX, connections, &may_start)
    }

    fn connect_within(
        &mut self,
        patience_ns: u64,
        connections: &[usize],
        may_start: &dyn Fn() -> Result<(), Fatal>,
    ) -> Result<Vec<Vec<Dialed>>, Fatal> {
        let deadline = Instant::now() + Duration::from_nanos(patience_ns);
        let reached = self.peers.iter().map(|peer| self.handle.reached(peer)).collect();
        let mut first = FirstDials::new(&self.peers, reached, connections, patience_ns);
        for (lane, count) in connections.iter().enumerate() {
            (0..*count).for_each(|connection| self.order(lane, connection));
        }
        while !first.are_there() {
            self.place_orders();
            let Some(answer) = self.await_answer(deadline, may_start)? else { return Err(first.late()) };
            self.open -= 1;
            let (lane, connection) = (answer.lane as usize, answer.connection as usize);
            match answer.dialed {
                Ok(dialed) => first.put(lane, connection, dialed),
                Err(fatal) => {
                    first.note_failure(lane, connection, *fatal)?;
                    may_start()?;
                    if Instant::now() >= deadline {
                        return Err(first.late());
                    }
                    // The dialer keeps the pause before the next attempt.
                    self.order(lane, connection);
                }
            }
        }
        Ok(first.into_dialed())
    }

    /// `None`: the deadline is over.
    fn await_answer(
        &self,
        deadline: Instant,
        may_start: &dyn Fn() -> Result<(), Fatal>,
    ) -> Result<Option<Answer>, Fatal> {
        loop {
            match self.handle.wait(Duration::from_nanos(limits::WAIT_NS_MAX)) {
                Ok(answer) => return Ok(Some(answer)),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => may_start()?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// The lane's peer has answered a request: it is no stranger to what it was asked.
    pub fn note_answer(&self, lane: usize) {
        self.answered[lane].store(true, Relaxed);
    }

    /// Asks for a new connection in place of one that broke.
    pub fn order(&mut self, lane: usize, connection: usize) {
        self.order_after(lane, connection, LastUse::Unknown);
    }

    /// The same where it is known what that one was good for.
    pub fn order_after(&mut self, lane: usize, connection: usize, last_use: LastUse) {
        self.wanted.push((lane as u32, connection as u32, last_use));
    }

    /// Nothing that was asked for is outstanding here.
    fn place_orders(&mut self) {
        while let Some((lane, connection, last_use)) = self.wanted.last().copied() {
            let peer = self.peers[lane as usize].clone();
            if self.handle.order(DialOrder { lane, connection, peer, last_use }).is_err() {
                return;
            }
            self.wanted.pop();
            self.open += 1;
        }
    }

    /// Puts the connections that were found again in place of those that broke: `reopen` takes lane, number, and the
    /// connection. One that cannot be put there is ordered anew.
    pub fn reopen_each(&mut self, mut reopen: impl FnMut(usize, usize, Dialed) -> io::Result<()>) {
        while let Some((lane, connection, dialed)) = self.take() {
            if reopen(lane, connection, *dialed).is_err() {
                self.order(lane, connection);
            }
        }
    }

    /// The next connection that was found again: lane, number, and the connection.
    fn take(&mut self) -> Option<(usize, usize, Box<Dialed>)> {
        loop {
            if !self.wanted.is_empty() {
                self.place_orders();
            }
            if self.open == 0 {
                return None;
            }
            let answer = self.handle.answer()?;
            self.open -= 1;
            match answer.dialed {
                Ok(dialed) => return Some((answer.lane as usize, answer.connection as usize, dialed)),
                // The dialer has said why; it keeps the pause before the next attempt.
                Err(_) => self.wanted.push((answer.lane, answer.connection, LastUse::Unknown)),
            }
        }
    }
}

/// A first connection.
enum Slot {
    Ordered,
    /// Once or more; it is ordered again.
    Failed,
    There(Box<Dialed>),
}

/// The first connections to one target, of all lanes that have it.
#[derive(Clone, Debug, Default)]
struct Reach {
    wanted: usize,
    there: usize,
    /// How many have failed, however often.
    failed: usize,
}

impl Reach {
    /// What is dialed at once has failed, all of it. A target that lets some in may let the others in later: a broker
    /// with a quota on new connections, say.
    fn is_hopeless(&self, is_reached: bool) -> bool {
        !is_reached && self.failed >= self.wanted.min(limits::DIALS_AT_ONCE_MAX)
    }
}

/// What has become of a core's first connections.
struct FirstDials {
    /// Of each lane.
    slots: Vec<Vec<Slot>>,
    /// Of each lane, its place in `targets`: lanes of one target share it.
    target_of: Vec<usize>,
    targets: Vec<Reach>,
    /// Of each lane: somebody has a connection to its target, this core or another.
    reached: Vec<Arc<AtomicBool>>,
    patience_ns: u64,
    last_failure: Option<Fatal>,
    is_told: bool,
}

impl FirstDials {
    fn new(peers: &[Arc<PeerPlan>], reached: Vec<Arc<AtomicBool>>, connections: &[usize], patience_ns: u64) -> Self {
        let first_of = |peer: &Arc<PeerPlan>| peers.iter().position(|other| other == peer).unwrap_or(0);
        let target_of: Vec<usize> = peers.iter().map(first_of).collect();
        let mut targets = vec![Reach::default(); peers.len()];
        for (target, count) in target_of.iter().zip(connections) {
            targets[*target].wanted += count;
        }
        let slots = connections.iter().map(|count| (0..*count).map(|_| Slot::Ordered).collect()).collect();
        Self { slots, target_of, targets, reached, patience_ns, last_failure: None, is_told: false }
    }

    /// How many there are, and how many there are to be.
    fn counts(&self) -> (usize, usize) {
        self.targets.iter().fold((0, 0), |(there, all), reach| (there + reach.there, all + reach.wanted))
    }

    fn are_there(&self) -> bool {
        let (there, all) = self.counts();
        there == all
    }

    fn put(&mut self, lane: usize, connection: usize, dialed: Box<Dialed>) {
        self.slots[lane][connection] = Slot::There(dialed);
        self.targets[self.target_of[lane]].there += 1;
        self.reached[lane].store(true, Relaxed);
    }

    /// # Errors
    /// It is no use to try again.
    fn note_failure(&mut self, lane: usize, connection: usize, fatal: Fatal) -> Result<(), Fatal> {
        let reach = &mut self.targets[self.target_of[lane]];
        let slot = &mut self.slots[lane][connection];
        if matches!(slot, Slot::Ordered) {
            *slot = Slot::Failed;
            reach.failed += 1;
        }
        let is_reached = self.reached[lane].load(Relaxed);
        if fatal.exit != Exit::Unreachable || reach.is_hopeless(is_reached) {
            return Err(fatal);
        }
        if is_reached && !std::mem::replace(&mut self.is_told, true) {
            let (counted, patience) = (self.counted(), units::format_duration(self.patience_ns));
            tracing::warn!("{counted} there, what fails is tried again for up to {patience}: {}", fatal.what);
        }
        self.last_failure = Some(fatal);
        Ok(())
    }

    /// `3 of 400 connections of a core are`.
    fn counted(&self) -> String {
        let (there, all) = self.counts();
        let (there, all) = (units::format_count(there as u64), units::format_counted(all as u64, "connection"));
        format!("{there} of {all} of a core are")
    }

    /// Why the start ends when the time is over.
    fn late(&mut self) -> Fatal {
        let Some(last) = self.last_failure.take() else {
            let late = Fatal::new(Exit::Unreachable, "the target did not answer in time");
            return late.mend("look at the target's log");
        };
        let (counted, patience) = (self.counted(), units::format_duration(self.patience_ns));
        let what = format!("{counted} there after {patience}; the last failure: {}", last.what);
        let raise = "raise what limits connections at the target, a quota on new ones, say";
        let mend = last.mend.map_or_else(|| raise.to_owned(), |mend| format!("{raise}; or {mend}"));
        Fatal::new(Exit::Unreachable, what).mend(mend)
    }

    fn into_dialed(self) -> Vec<Vec<Dialed>> {
        let there = |slot: Slot| match slot {
            Slot::There(dialed) => Some(*dialed),
            Slot::Ordered | Slot::Failed => None,
        };
        self.slots.into_iter().map(|lane| lane.into_iter().filter_map(there).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::dial::stopped;
    use crate::connect::dialer::pair;
    use crate::plan::testing::peer;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::net::{TcpListener, TcpStream};

    const SOON_NS: u64 = 20_000_000_000;

    #[test]
    fn a_stop_ends_the_wait_for_the_first_connections() {
        let (handle, _clerk) = pair(1);
        let mut redials = Redials::new(handle, vec![Arc::new(peer("localhost", 1))], 1);
        let fatal = redials.connect_all(&[1], || Err(stopped())).err().expect("nobody dials");
        assert_eq!(fatal, stopped());
        let late = redials.connect_within(0, &[1], &|| Ok(())).err().expect("nobody dials");
        assert!(late.exit == Exit::Unreachable && late.what.contains("in time"), "{late}");
    }

    fn refused() -> Fatal {
        Fatal::new(Exit::Unreachable, "refused").mend("ss -ltn")
    }

    /// For lanes with these hosts, two connections each: how many came about, or why not, and how many dials that took.
    /// `dial`: the outcome for a lane's connection after so many earlier ones.
    fn connect(
        hosts: &[&str],
        patience_ns: u64,
        dial: impl Fn(u32, u32, u32) -> Result<(), Fatal>,
    ) -> (Result<usize, Fatal>, u32) {
        connect_beside(&[], hosts, patience_ns, dial)
    }

    /// The same where another core has reached these hosts.
    fn connect_beside(
        reached: &[&str],
        hosts: &[&str],
        patience_ns: u64,
        dial: impl Fn(u32, u32, u32) -> Result<(), Fatal>,
    ) -> (Result<usize, Fatal>, u32) {
        let peers: Vec<_> = hosts.iter().map(|host| Arc::new(peer(host, 1))).collect();
        let (handle, clerk) = pair(2 * hosts.len());
        reached.iter().for_each(|host| handle.reached(&peer(host, 1)).store(true, Relaxed));
        let mut redials = Redials::new(handle, peers, 2 * hosts.len());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer_address = listener.local_addr().unwrap();
        let dials: RefCell<BTreeMap<(u32, u32), u32>> = RefCell::default();
        // Asked whenever no answer is there.
        let serve = || -> Result<(), Fatal> {
            while let Some(DialOrder { lane, connection, .. }) = clerk.order() {
                let mut dials = dials.borrow_mut();
                let earlier = dials.entry((lane, connection)).or_default();
                let dialed = dial(lane, connection, *earlier).map_err(Box::new).map(|()| {
                    let stream = TcpStream::connect(peer_address).unwrap();
                    Box::new(Dialed { stream, tls: None, peer_address, expires: None })
                });
                *earlier += 1;
                assert!(clerk.answer(Answer { lane, connection, dialed }).is_ok(), "each has one order");
            }
            Ok(())
        };
        let dialed = redials.connect_within(patience_ns, &vec![2_usize; hosts.len()], &serve);
        let count = dialed.map(|lanes| lanes.iter().map(Vec::len).sum());
        let dials = dials.borrow().values().sum();
        (count, dials)
    }

    #[test]
    fn once_a_target_has_let_one_in_the_others_are_tried_again() {
        for failing in [0, 1] {
            let dial = |_: u32, connection: u32, earlier: u32| match connection == failing && earlier < 2 {
                true => Err(refused()),
                false => Ok(()),
            };
            assert_eq!(connect(&["one"], SOON_NS, dial), (Ok(2), 4), "also where the failure came first");
        }
        let of_two_lanes =
            |lane: u32, _: u32, earlier: u32| if lane == 1 && earlier < 3 { Err(refused()) } else { Ok(()) };
        assert_eq!(connect(&["one", "one"], SOON_NS, of_two_lanes), (Ok(4), 10));
    }

    #[test]
    fn a_target_that_lets_nobody_in_ends_the_start_at_once() {
        assert_eq!(connect(&["one"], SOON_NS, |_, _, _| Err(refused())), (Err(refused()), 2));
        let one_of_two = |lane: u32, _: u32, _: u32| if lane == 1 { Err(refused()) } else { Ok(()) };
        assert_eq!(connect(&["one", "two"], SOON_NS, one_of_two).0, Err(refused()));
    }

    /// As where each core has one connection, the default.
    #[test]
    fn what_another_core_has_reached_is_tried_again() {
        let dial = |_: u32, _: u32, earlier: u32| if earlier < 2 { Err(refused()) } else { Ok(()) };
        assert_eq!(connect_beside(&["one"], &["one"], SOON_NS, dial), (Ok(2), 6));
        assert_eq!(connect_beside(&["two"], &["one"], SOON_NS, dial).0, Err(refused()));
    }

    #[test]
    fn what_this_host_or_a_flag_is_to_blame_for_is_not_tried_again() {
        let fatal = || Fatal::usage("--tls-cert is no certificate");
        let dial = |_: u32, connection: u32, _: u32| if connection == 0 { Err(fatal()) } else { Ok(()) };
        assert_eq!(connect(&["one"], SOON_NS, dial), (Err(fatal()), 2));
    }

    #[test]
    fn the_time_for_trying_again_has_an_end() {
        let dial = |_: u32, connection: u32, _: u32| if connection == 0 { Err(refused()) } else { Ok(()) };
        let late = connect(&["one"], 300_000_000, dial).0.unwrap_err();
        let (exit, says) = (late.exit, late.to_string());
        assert_eq!(exit, Exit::Unreachable);
        assert!(says.starts_with("1 of 2 connections of a core are there after 300 ms; the last failure: refused"));
        assert!(says.contains("mend: raise what limits connections at the target") && says.ends_with("or ss -ltn"));
    }
}
