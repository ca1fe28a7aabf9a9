//! Connections that were open when the receiver ended: what they would have brought next is missing, and nobody's
//! fault.

use crate::verify::intervals::{Intervals, Place, subtract};
use crate::verify::ledger::Ledger;
use crate::verify::shape::Key;
use std::collections::HashMap;

#[derive(Debug, Default)]
pub struct LeftOpen {
    /// Of each producer the sequence that the last of its connections had come to.
    reached: HashMap<Key, u64>,
    /// What was dropped and may come again.
    dropped: HashMap<Key, Intervals>,
    /// One was about to bring its first record: it may be any producer's.
    any: bool,
}

impl LeftOpen {
    /// One more connection, and what it had come to of each producer. `is_busy`: something was on its way over it, as
    /// far as can be told; one that brought nothing and is silent excuses nothing.
    pub fn note(&mut self, reached: impl IntoIterator<Item = (Key, u64)>, is_busy: bool) {
        let mut reached = reached.into_iter().peekable();
        self.any |= is_busy && reached.peek().is_none();
        for (key, sequence) in reached {
            let lowest = self.reached.entry(key).or_insert(sequence);
            *lowest = sequence.min(*lowest);
        }
    }

    /// What a connection had brought, and may bring again.
    pub fn note_dropped(&mut self, dropped: impl IntoIterator<Item = (Key, (u64, u64))>) {
        for (key, (first, last)) in dropped {
            let ranges = self.dropped.entry(key).or_default();
            for (first, last) in ranges.uncovered(first, last) {
                ranges.insert(first, last, Place::default(), 0);
            }
        }
    }

    /// Enters what may have been on its way, so that it is not called missing; how many records that is.
    pub fn excuse(&self, ledger: &mut Ledger) -> u64 {
        let mut records = 0;
        let mut coming = Vec::new();
        for (key, track) in &ledger.tracks {
            if track.overflowed {
                // Where its gaps are is not known: of all that may come nothing is missed.
                let missing = &mut ledger.expected.entry(*key).or_default().missing;
                missing.extend(self.may_bring(key));
                missing.sort_unstable();
                continue;
            }
            let Some((first, last)) = track.seen.first().zip(track.seen.last()) else { continue };
            let reached = self.reached.get(key);
            let may_come = |from: u64| self.any || reached.is_some_and(|reached| from > *reached);
            let dropped = self.dropped.get(key);
            let came = |first, last| dropped.map_or_else(Vec::new, |ranges| covered(ranges, first, last));
            for hole in track.seen.holes(first, last) {
                let (first, last) = (hole.first, hole.last);
                let ranges = if may_come(first) { vec![(first, last)] } else { came(first, last) };
                coming.extend(ranges.into_iter().map(|range| (*key, range, track.start)));
            }
        }
        for (key, (first, last), place) in coming {
            records += last - first + 1;
            let _ = ledger.enter(key, first, last, place, place.position);
        }
        records
    }

    /// All that may have been on its way of a producer, as inclusive ranges.
    fn may_bring(&self, key: &Key) -> Vec<(u64, u64)> {
        if self.any {
            return vec![(0, u64::MAX)];
        }
        let next = self.reached.get(key).and_then(|reached| reached.checked_add(1));
        let again = self.dropped.get(key).map_or_else(Vec::new, |ranges| covered(ranges, 0, u64::MAX));
        next.map(|next| (next, u64::MAX)).into_iter().chain(again).collect()
    }
}

/// What `ranges` have of `first..=last`.
fn covered(ranges: &Intervals, first: u64, last: u64) -> Vec<(u64, u64)> {
    subtract(first, last, &ranges.uncovered(first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::findings::Kind;

    const KEY: Key = Key { run: 1, producer: 0 };

    /// Of 0 to 98 the even ones came, and that is more than is followed: how many are missed.
    fn missed(open: &LeftOpen) -> u64 {
        let mut ledger = Ledger::new(HashMap::new()).with_limits(10, 10);
        for sequence in (0..100).step_by(2) {
            ledger.track(KEY, Place::default()).unwrap().records += 1;
            let _ = ledger.enter(KEY, sequence, sequence, Place::default(), 0);
        }
        assert_eq!(open.excuse(&mut ledger), 0);
        ledger.finish(&[KEY.run].into(), "all connections");
        assert_eq!(ledger.findings.count(Kind::Overflow).findings, 1);
        ledger.findings.count(Kind::Gap).records
    }

    #[test]
    fn what_may_be_on_its_way_is_not_missed_of_a_producer_that_is_not_followed() {
        let mut open = LeftOpen::default();
        assert_eq!(missed(&open), 49);
        open.note_dropped([(KEY, (90, 94))]);
        assert_eq!(missed(&open), 44);
        open.note([(KEY, 88)], true);
        assert_eq!(missed(&open), 39, "of 0 to 88");
        open.note([], true);
        assert_eq!(missed(&open), 0, "it may be any producer's");
    }
}
