//! Which sequences were seen, as inclusive spans: one span for an orderly stream, however long.

use std::collections::BTreeMap;

/// Where a record was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Index into the names of the sources.
    pub source: u32,
    /// Byte offset, or line number for id lists.
    pub offset: u64,
    /// Byte in the stream, all its files in writing order.
    pub position: u64,
}

/// A span of sequences; its first is the key in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub last: u64,
    /// Of the span's first record.
    pub start: Place,
    /// The position right after the span's last record.
    pub end_position: u64,
}

/// A hole between spans, or before and after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    pub first: u64,
    pub last: u64,
    pub before: Option<Span>,
    pub after: Option<Span>,
}

#[derive(Clone, Debug, Default)]
pub struct Intervals {
    spans: BTreeMap<u64, Span>,
}

impl Intervals {
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub fn first(&self) -> Option<u64> {
        self.spans.first_key_value().map(|(first, _)| *first)
    }

    pub fn last(&self) -> Option<u64> {
        self.spans.last_key_value().map(|(_, span)| span.last)
    }

    /// The parts of `first..=last` that are not there yet.
    pub fn uncovered(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        self.holes(first, last).into_iter().map(|hole| (hole.first, hole.last)).collect()
    }

    pub fn contains(&self, sequence: u64) -> bool {
        self.spans.range(..=sequence).next_back().is_some_and(|(_, span)| span.last >= sequence)
    }

    /// The first sequence seen at or after this one.
    pub fn next_from(&self, sequence: u64) -> Option<u64> {
        if self.contains(sequence) {
            return Some(sequence);
        }
        self.spans.range(sequence..).next().map(|(first, _)| *first)
    }

    /// Adds a range of which nothing is there yet (see [`Self::uncovered`]); joins its neighbours.
    pub fn insert(&mut self, first: u64, last: u64, start: Place, end_position: u64) {
        let mut span = Span { last, start, end_position };
        let mut key = first;
        if let Some(after) = last.checked_add(1).and_then(|next| self.spans.remove(&next)) {
            (span.last, span.end_position) = (after.last, after.end_position);
        }
        if let Some((before_first, before)) = self.spans.range_mut(..first).next_back()
            && before.last.checked_add(1) == Some(first)
        {
            key = *before_first;
            span.start = before.start;
        }
        self.spans.insert(key, span);
    }

    /// Takes one sequence out again.
    pub fn remove(&mut self, sequence: u64) {
        let Some((first, span)) = self.spans.range(..=sequence).next_back().map(|(first, span)| (*first, *span)) else {
            return;
        };
        if span.last < sequence {
            return;
        }
        self.spans.remove(&first);
        if first < sequence {
            // Where the removed record lay is not kept; its predecessor ended no later than the span.
            self.spans.insert(first, Span { last: sequence - 1, ..span });
        }
        if span.last > sequence {
            self.spans.insert(sequence + 1, span);
        }
    }

    /// Takes out the spans of fewer sequences than this, as inclusive ranges.
    pub fn take_shorter(&mut self, sequences: u64) -> Vec<(u64, u64)> {
        let mut short = Vec::new();
        self.spans.retain(|first, span| {
            let is_short = span.last - first < sequences - 1;
            if is_short {
                short.push((*first, span.last));
            }
            !is_short
        });
        short
    }

    /// What is missing of `first..=last`, in order.
    pub fn holes(&self, first: u64, last: u64) -> Vec<Hole> {
        let mut from = Some(first);
        let next = || {
            let hole = self.next_hole(from?, last)?;
            from = hole.last.checked_add(1);
            Some(hole)
        };
        std::iter::from_fn(next).collect()
    }

    /// The first stretch of `first..=last` that is missing.
    pub fn next_hole(&self, first: u64, last: u64) -> Option<Hole> {
        let mut before = self.spans.range(..first).next_back().map(|(_, span)| *span);
        let mut from = match before {
            Some(span) if span.last >= first => span.last.checked_add(1)?,
            _ => first,
        };
        while from <= last {
            match self.spans.range(from..).next() {
                Some((start, span)) if *start == from => {
                    before = Some(*span);
                    from = span.last.checked_add(1)?;
                }
                next => {
                    let last = next.map_or(last, |(start, _)| last.min(start - 1));
                    return Some(Hole { first: from, last, before, after: next.map(|(_, span)| *span) });
                }
            }
        }
        None
    }
}

/// Whether the inclusive `ranges` (sorted, disjoint) cover all of `first..=last`.
pub fn covers(ranges: &[(u64, u64)], first: u64, last: u64) -> bool {
    subtract(first, last, ranges).is_empty()
}

/// `first..=last` without the inclusive `ranges` (sorted by start).
pub fn subtract(first: u64, last: u64, ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    let mut at = first;
    for (from, to) in ranges.iter().filter(|(from, to)| from <= to && *to >= first && *from <= last) {
        if *from > at {
            left.push((at, from - 1));
        }
        match to.checked_add(1) {
            Some(next) => at = at.max(next),
            None => return left,
        }
    }
    if at <= last {
        left.push((at, last));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn intervals_agree_with_a_set(
            ranges in proptest::collection::vec((0u64..60, 0u64..6), 1..30),
            removed in proptest::collection::vec(0u64..66, 0..5),
        ) {
            let mut intervals = Intervals::default();
            let mut set = BTreeSet::new();
            for (first, more) in ranges {
                for (a, b) in intervals.uncovered(first, first + more) {
                    intervals.insert(a, b, Place::default(), 0);
                }
                set.extend(first..=first + more);
            }
            for sequence in removed {
                intervals.remove(sequence);
                set.remove(&sequence);
            }
            let missing: Vec<u64> = intervals.holes(0, 70).iter().flat_map(|hole| hole.first..=hole.last).collect();
            prop_assert_eq!(missing, (0..=70).filter(|at| !set.contains(at)).collect::<Vec<_>>());
            for at in 0..70 {
                prop_assert_eq!(intervals.contains(at), set.contains(&at));
                prop_assert_eq!(intervals.next_from(at), set.range(at..).next().copied());
            }
            prop_assert_eq!((intervals.first(), intervals.last()), (set.first().copied(), set.last().copied()));
        }

        #[test]
        fn subtraction_agrees_with_a_set(first in 0u64..30, more in 0u64..30, cuts in proptest::collection::vec((0u64..60, 0u64..8), 0..6)) {
            let mut ranges: Vec<(u64, u64)> = cuts.iter().map(|(from, more)| (*from, from + more)).collect();
            ranges.sort_unstable();
            let left: Vec<u64> = subtract(first, first + more, &ranges).iter().flat_map(|(a, b)| *a..=*b).collect();
            let expected: Vec<u64> = (first..=first + more).filter(|at| !ranges.iter().any(|(a, b)| a <= at && at <= b)).collect();
            prop_assert_eq!(left, expected);
        }
    }

    #[test]
    fn the_last_sequence_of_all_does_not_overflow() {
        let mut intervals = Intervals::default();
        intervals.insert(u64::MAX - 1, u64::MAX, Place::default(), 0);
        assert!(intervals.contains(u64::MAX));
        assert!(intervals.holes(u64::MAX - 1, u64::MAX).is_empty());
        assert!(covers(&[(0, u64::MAX)], 5, u64::MAX));
    }
}
