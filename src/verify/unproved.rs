//! Sequences that may have been in a topic and that its broker does not give: what is missing of them is neither lost
//! nor proved to have been there.

use super::shape::Key;
use std::collections::HashMap;

/// Ranges that are kept apart for each producer (24 bytes each); then they are joined to one.
const RANGES_MAX: usize = 64;

/// Why a broker does not give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Retention,
    Compaction,
    /// Part of a transaction that is not decided.
    OpenTransaction,
    /// Retention, compaction or deletion.
    Unknown,
    /// Any of these.
    Any,
}

impl Cause {
    pub fn what(self) -> &'static str {
        match self {
            Cause::Retention => "removed by retention",
            Cause::Compaction => "removed by compaction",
            Cause::OpenTransaction => "held back by an open transaction",
            Cause::Unknown => "removed by retention, compaction or deletion",
            Cause::Any => "removed by retention, compaction or deletion, or held back by an open transaction",
        }
    }

    /// One of two, nobody knows which.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            _ if self == other => self,
            (Cause::OpenTransaction | Cause::Any, _) | (_, Cause::OpenTransaction | Cause::Any) => Cause::Any,
            _ => Cause::Unknown,
        }
    }
}

/// An inclusive range and its cause.
type Range = (u64, u64, Cause);

/// See the module.
#[derive(Debug, Default)]
pub struct Unproved {
    by_producer: HashMap<Key, Vec<Range>>,
}

impl Unproved {
    pub fn add(&mut self, key: Key, (first, last): (u64, u64), cause: Cause) {
        if first > last {
            return;
        }
        let ranges = self.by_producer.entry(key).or_default();
        ranges.push((first, last, cause));
        if ranges.len() > RANGES_MAX {
            *ranges = joined(ranges, 0);
        }
        if ranges.len() > RANGES_MAX {
            *ranges = joined(ranges, u64::MAX);
        }
    }

    /// The parts of `first..=last` in order, each with its cause if it is one of these sequences.
    pub fn parts(&self, key: Key, first: u64, last: u64) -> Vec<(u64, u64, Option<Cause>)> {
        let ranges = self.by_producer.get(&key).map(|ranges| joined(ranges, 0)).unwrap_or_default();
        let mut parts = Vec::new();
        let mut at = Some(first);
        for (from, to, cause) in ranges {
            let Some(start) = at.filter(|at| *at <= last) else { break };
            let (from, to) = (from.max(start), to.min(last));
            if from > to {
                continue;
            }
            if from > start {
                parts.push((start, from - 1, None));
            }
            parts.push((from, to, Some(cause)));
            at = to.checked_add(1);
        }
        if let Some(start) = at.filter(|at| *at <= last) {
            parts.push((start, last, None));
        }
        parts
    }
}

/// In order, with those as one that overlap, that touch and have one cause, or whose next begins no more than `apart`
/// behind their end.
fn joined(ranges: &[Range], apart: u64) -> Vec<Range> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|(first, last, _)| (*first, *last));
    let mut all: Vec<Range> = Vec::new();
    for (first, last, cause) in sorted {
        match all.last_mut() {
            Some(before) if first <= before.1.saturating_add(apart.max((before.2 == cause).into())) => {
                before.1 = before.1.max(last);
                before.2 = before.2.or(cause);
            }
            _ => all.push((first, last, cause)),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { run: 1, producer: 2 };

    #[test]
    fn a_range_is_told_in_parts() {
        let mut unproved = Unproved::default();
        unproved.add(KEY, (20, u64::MAX), Cause::Compaction);
        unproved.add(KEY, (5, 7), Cause::Retention);
        unproved.add(KEY, (8, 9), Cause::Retention);
        unproved.add(KEY, (3, 2), Cause::Unknown);
        let expected =
            [(0, 4, None), (5, 9, Some(Cause::Retention)), (10, 19, None), (20, u64::MAX, Some(Cause::Compaction))];
        assert_eq!(unproved.parts(KEY, 0, u64::MAX), expected);
        assert_eq!(unproved.parts(KEY, 6, 6), [(6, 6, Some(Cause::Retention))]);
        assert_eq!(unproved.parts(Key { run: 2, ..KEY }, 6, 8), [(6, 8, None)]);
        unproved.add(KEY, (9, 30), Cause::Compaction);
        assert_eq!(unproved.parts(KEY, 5, 40), [(5, 40, Some(Cause::Unknown))]);
        unproved.add(KEY, (30, 40), Cause::OpenTransaction);
        assert_eq!(unproved.parts(KEY, 5, 40), [(5, 40, Some(Cause::Any))]);
    }

    #[test]
    fn ranges_that_touch_keep_their_causes() {
        let mut unproved = Unproved::default();
        unproved.add(KEY, (0, 4), Cause::Retention);
        unproved.add(KEY, (5, 9), Cause::OpenTransaction);
        let expected = [(0, 4, Some(Cause::Retention)), (5, 9, Some(Cause::OpenTransaction))];
        assert_eq!(unproved.parts(KEY, 0, 9), expected);
    }

    #[test]
    fn memory_is_bounded() {
        let mut unproved = Unproved::default();
        (0..1000).for_each(|at| unproved.add(KEY, (at * 10, at * 10), Cause::Compaction));
        assert!(unproved.by_producer[&KEY].len() <= RANGES_MAX);
        // What was named is still named.
        let is_named = |at: u64| unproved.parts(KEY, at, at) == [(at, at, Some(Cause::Compaction))];
        assert!((0..1000).all(|at| is_named(at * 10)));
    }
}
