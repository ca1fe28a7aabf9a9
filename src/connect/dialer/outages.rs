//! What is wrong with a run's connections just now. All its dialers share it, so that a target that is away is told of
//! once, and now and then while that lasts; and so that connections of all cores spread over a peer's addresses.

use crate::base::limits;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Of each peer something that the cores note without a lock.
type Flags = Mutex<BTreeMap<String, Arc<AtomicBool>>>;

fn flag_of(flags: &Flags, peer: &str) -> Arc<AtomicBool> {
    flags.lock().unwrap_or_else(PoisonError::into_inner).entry(peer.to_owned()).or_default().clone()
}

/// See the module.
#[derive(Debug, Default)]
pub struct Outages {
    /// Why connections cannot be made.
    reasons: Mutex<BTreeMap<String, Outage>>,
    /// All that the run has.
    connections: AtomicUsize,
    /// Those of them that were lost and are not there again.
    down: AtomicUsize,
    /// Peers of which it was told that they speak no HTTP.
    without_http: Mutex<BTreeSet<String>>,
    /// Peers, and whether one has answered, on any connection of any core.
    answered: Flags,
    /// Peers, and whether a first connection to one has come about, of any core.
    reached: Flags,
    /// Peers, and how many connections to them have a turn.
    turns: Mutex<BTreeMap<String, usize>>,
}

#[derive(Debug)]
struct Outage {
    /// Connections that suffer from it.
    sufferers: usize,
    since: Instant,
    told_at: Instant,
}

impl Outages {
    /// All connections of the run.
    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// Connections that were lost and are not there again; those of rskafka are unknown, and never among them.
    pub fn down(&self) -> usize {
        self.down.load(Relaxed)
    }

    /// So many connections more belong to the run.
    pub fn expect(&self, connections: usize) {
        self.connections.fetch_add(connections, Relaxed);
    }

    /// One connection more is down.
    pub fn lost(&self) {
        self.down.fetch_add(1, Relaxed);
    }

    /// One of those is there again.
    pub fn found(&self) {
        self.down.fetch_sub(1, Relaxed);
    }

    /// Whether nobody has told yet that this peer speaks no HTTP.
    pub(super) fn is_first_of(&self, peer: &str) -> bool {
        self.without_http.lock().unwrap_or_else(PoisonError::into_inner).insert(peer.to_owned())
    }

    /// Whether this peer has answered.
    pub fn answered(&self, peer: &str) -> Arc<AtomicBool> {
        flag_of(&self.answered, peer)
    }

    /// Whether a first connection to this peer has come about, before the start.
    pub(super) fn reached(&self, peer: &str) -> Arc<AtomicBool> {
        flag_of(&self.reached, peer)
    }

    /// So many connections to this peer had a turn before this one, on any core.
    pub(super) fn next_turn(&self, peer: &str) -> usize {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let next = turns.entry(peer.to_owned()).or_default();
        *next += 1;
        *next - 1
    }

    /// One more connection suffers from it; whether it is the first.
    pub(super) fn begin(&self, why: &str) -> bool {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let outage = reasons.entry(why.to_owned()).or_insert(Outage { sufferers: 0, since: now, told_at: now });
        outage.sufferers += 1;
        outage.sufferers == 1
    }

    /// For how long it has lasted, where it is time to tell of it again.
    pub(super) fn lasts(&self, why: &str, now: Instant) -> Option<Duration> {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let outage = reasons.get_mut(why)?;
        let is_due =
            now.saturating_duration_since(outage.told_at) >= Duration::from_nanos(limits::OUTAGE_TOLD_EVERY_NS);
        is_due.then(|| {
            outage.told_at = now;
            now.saturating_duration_since(outage.since)
        })
    }

    /// One suffers no more.
    pub(super) fn end(&self, why: &str) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outage) = reasons.get_mut(why) {
            outage.sufferers -= 1;
            if outage.sufferers == 0 {
                reasons.remove(why);
            }
        }
    }

    /// How many suffer from what.
    #[cfg(test)]
    pub(super) fn sufferers(&self) -> BTreeMap<String, usize> {
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.iter().map(|(why, outage)| (why.clone(), outage.sufferers)).collect()
    }
}
