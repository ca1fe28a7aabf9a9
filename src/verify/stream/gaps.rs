//! What a stream with a manifest lacks, once all of it was read.

use super::super::intervals::{Hole, Place, subtract};
use super::super::shape::Key;
use super::StreamFold;
use super::rules::Rules;

const IN_TAIL: &str = "absent in the unfinished tail of a killed run";
const NOT_CONFIRMED: &str = "absent, which the manifest knows as not confirmed";

impl StreamFold<'_> {
    pub(super) fn judge_gaps(&mut self, key: Key) {
        let Some(track) = self.ledger.track(key, Place::default()) else { return };
        track.judged = true;
        if track.overflowed {
            let came = track.came;
            self.judge_number(key, came);
            return;
        }
        let seen = track.seen.first().zip(track.seen.last());
        let Some((first, last)) = self.rules.wanted(seen) else { return };
        let holes = track.seen.holes(first, last);
        let label = self.rules.label.clone();
        if let (Some(began), Some((first, _))) = (self.rules.began_at, seen)
            && began < first
        {
            let what = "only --expect can prove that no more was to be kept";
            self.ledger.findings.explain(format!("{label}: starts at sequence {first}; {what}"));
        }
        for hole in holes {
            let parts = subtract(hole.first, hole.last, &self.rules.missing);
            let unconfirmed = count(&[(hole.first, hole.last)]).saturating_sub(count(&parts));
            if unconfirmed > 0 {
                self.explained.add(NOT_CONFIRMED, unconfirmed);
            }
            if is_torn(&hole, &self.rules, self.data_end) {
                parts.iter().for_each(|part| self.explained.add(IN_TAIL, count(&[*part])));
            } else {
                parts.iter().for_each(|(from, to)| self.ledger.gap(key, &hole, *from, *to, &label));
            }
        }
    }
}

/// Sequences in inclusive ranges.
fn count(ranges: &[(u64, u64)]) -> u64 {
    ranges.iter().map(|(first, last)| last - first + 1).sum()
}

/// Whether a kill may have left it, in data that ends at `data_end`: its records would have come behind those before
/// it; of a ring that begins with it, before those after it.
fn is_torn(hole: &Hole, rules: &Rules, data_end: u64) -> bool {
    let is_ring = rules.lap_records.is_some();
    let begins_torn = || is_ring && hole.after.is_some_and(|span| rules.is_unfinished(span.start.position, data_end));
    hole.before.map_or_else(begins_torn, |span| rules.is_unfinished(span.end_position, data_end))
}

#[cfg(test)]
mod tests {
    use super::super::super::intervals::Intervals;
    use super::*;

    /// Of sequences 3 and 6, ten bytes each, the first of them at this position.
    fn holes(position: u64) -> Vec<Hole> {
        let at = |position| Place { position, ..Place::default() };
        let mut seen = Intervals::default();
        seen.insert(3, 3, at(position), position + 10);
        seen.insert(6, 6, at(position + 10), position + 20);
        seen.holes(0, 7)
    }

    #[test]
    fn a_hole_is_torn_where_the_records_before_it_end_in_the_tail() {
        let rules = Rules { unfinished_bytes: Some(10), ..Rules::default() };
        let ring = Rules { lap_records: Some(7), ..rules.clone() };
        let torn = |rules, position| holes(position).iter().map(|hole| is_torn(hole, rules, 100)).collect::<Vec<_>>();
        assert_eq!(torn(&rules, 80), [false, true, true]);
        assert_eq!(torn(&rules, 70), [false, false, true]);
        assert_eq!(torn(&rules, 60), [false, false, false]);
        assert_eq!(torn(&ring, 90), [true, true, true], "a ring that begins with a hole");
        assert_eq!(torn(&Rules::default(), 80), [false; 3], "nobody killed it");
    }

    #[test]
    fn ranges_are_counted_with_both_ends() {
        assert_eq!(count(&[(0, 0), (5, 7)]), 4);
        assert_eq!(count(&[]), 0);
    }
}
