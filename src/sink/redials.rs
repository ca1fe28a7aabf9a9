//! A core's way to connections: the first ones before the start, new ones in place of those that broke.

use crate::base::fatal::{Exit, Fatal};
use crate::base::limits;
use crate::connect::dial::Dialed;
use crate::connect::dialer::{Answer, DialHandle, DialOrder, Past};
use crate::plan::PeerPlan;
use crossbeam_channel::RecvTimeoutError;
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
    wanted: Vec<(u32, u32, Past)>,
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
    pub fn connect_all(
        &mut self,
        connections: &[usize],
        may_start: impl Fn() -> Result<(), Fatal>,
    ) -> Result<Vec<Vec<Dialed>>, Fatal> {
        let deadline = Instant::now() + Duration::from_nanos(limits::FIRST_DIALS_NS_MAX);
        let mut dialed: Vec<Vec<Option<Dialed>>> =
            connections.iter().map(|count| (0..*count).map(|_| None).collect()).collect();
        for (lane, count) in connections.iter().enumerate() {
            (0..*count).for_each(|connection| self.order(lane, connection));
        }
        for _ in 0..connections.iter().sum() {
            self.place_orders();
            let answer = self.await_answer(deadline, &may_start)?;
            self.open -= 1;
            let connection = answer.dialed.map_err(|fatal| *fatal)?;
            dialed[answer.lane as usize][answer.connection as usize] = Some(*connection);
        }
        Ok(dialed.into_iter().map(|lane| lane.into_iter().flatten().collect()).collect())
    }

    fn await_answer(&self, deadline: Instant, may_start: &dyn Fn() -> Result<(), Fatal>) -> Result<Answer, Fatal> {
        loop {
            match self.handle.wait(Duration::from_nanos(limits::WAIT_NS_MAX)) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => may_start()?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    let late = Fatal::new(Exit::Unreachable, "the target did not answer in time");
                    return Err(late.mend("look at the target's log"));
                }
            }
        }
    }

    /// The lane's peer has answered a request: it is no stranger to what it was asked.
    pub fn note_answer(&self, lane: usize) {
        self.answered[lane].store(true, Relaxed);
    }

    /// Asks for a new connection in place of one that broke.
    pub fn order(&mut self, lane: usize, connection: usize) {
        self.order_after(lane, connection, Past::Unknown);
    }

    /// The same where it is known what that one was good for.
    pub fn order_after(&mut self, lane: usize, connection: usize, past: Past) {
        self.wanted.push((lane as u32, connection as u32, past));
    }

    /// Nothing that was asked for is outstanding here.
    fn place_orders(&mut self) {
        while let Some((lane, connection, past)) = self.wanted.last().copied() {
            let peer = self.peers[lane as usize].clone();
            if self.handle.order(DialOrder { lane, connection, peer, past }).is_err() {
                return;
            }
            self.wanted.pop();
            self.open += 1;
        }
    }

    /// The next connection that was found again: lane, number, and the connection.
    pub fn take(&mut self) -> Option<(usize, usize, Box<Dialed>)> {
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
                Err(_) => self.wanted.push((answer.lane, answer.connection, Past::Unknown)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::dial::stopped;
    use crate::connect::dialer::pair;

    #[test]
    fn a_stop_ends_the_wait_for_the_first_connections() {
        let (handle, _clerk) = pair(1);
        let peer = crate::plan::testing::peer("localhost", 1);
        let mut redials = Redials::new(handle, vec![Arc::new(peer)], 1);
        let fatal = redials.connect_all(&[1], || Err(stopped())).err().expect("nobody dials");
        assert_eq!(fatal, stopped());
        let late = redials.await_answer(Instant::now(), &|| Ok(())).err().expect("nobody dials");
        assert!(late.exit == Exit::Unreachable && late.what.contains("in time"), "{late}");
    }
}
