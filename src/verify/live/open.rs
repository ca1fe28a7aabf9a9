//! Connections that were open when the receiver ended: what they would have brought next is missing, and nobody's
//! fault.

use crate::verify::ledger::Ledger;
use crate::verify::shape::Key;
use std::collections::HashMap;

#[derive(Debug, Default)]
pub struct LeftOpen {
    /// Of each producer the sequence that the last of its connections had come to.
    reached: HashMap<Key, u64>,
    /// One had brought no record yet: it may be any producer's.
    any: bool,
}

impl LeftOpen {
    /// One more connection, and what it had come to of each producer.
    pub fn note(&mut self, reached: impl IntoIterator<Item = (Key, u64)>) {
        let mut reached = reached.into_iter().peekable();
        self.any |= reached.peek().is_none();
        for (key, sequence) in reached {
            let lowest = self.reached.entry(key).or_insert(sequence);
            *lowest = sequence.min(*lowest);
        }
    }

    /// Enters what may have been on its way, so that it is not called missing; how many records that is.
    pub fn excuse(&self, ledger: &mut Ledger) -> u64 {
        let mut records = 0;
        let mut holes = Vec::new();
        for (key, track) in &ledger.tracks {
            let Some((first, last)) = track.seen.first().zip(track.seen.last()) else { continue };
            let reached = self.reached.get(key);
            let may_come = |from: u64| self.any || reached.is_some_and(|reached| from > *reached);
            let coming = track.seen.holes(first, last).into_iter().filter(|hole| may_come(hole.first));
            holes.extend(coming.map(|hole| (*key, (hole.first, hole.last), track.start)));
        }
        for (key, (first, last), place) in holes {
            records += last - first + 1;
            let _ = ledger.enter(key, first, last, place, place.position);
        }
        records
    }
}
