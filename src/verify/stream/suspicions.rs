//! What looks like damage and waits until the rest of the stream shows whether it is.

use super::super::findings::{Finding, Kind};
use super::super::intervals::{Intervals, covers};
use super::rules::Rules;
use std::collections::VecDeque;

/// Findings that wait for the data's end to be known; more are lumped together.
const WAITING_MAX: usize = 1 << 14;

const NOT_CONFIRMED: &str = "where records were not confirmed";

/// What may turn a finding into something explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// Where this sequence should have come: all sequences that could lie here are known to be missing.
    Instead(Option<u64>),
    /// These sequences are known to be missing; `marked`: the (single) record counts as seen until then.
    Missing { first: u64, last: u64, marked: bool },
    /// Left from before, where the run wrote nothing.
    Leftover,
}

#[derive(Debug)]
pub struct Suspicion {
    pub position: u64,
    pub finding: Finding,
    pub excuse: Excuse,
}

impl Suspicion {
    /// The sequence that counts as seen for as long as this is open.
    pub fn marked(&self) -> Option<u64> {
        match self.excuse {
            Excuse::Missing { first, marked: true, .. } => Some(first),
            _ => None,
        }
    }

    /// Why it is no damage, in a stream that ends at `data_end`. `seen`: sequences of the producer that belongs there.
    pub fn explained(&self, rules: &Rules, data_end: u64, seen: Option<&Intervals>) -> Option<&'static str> {
        match self.excuse {
            _ if rules.is_unfinished(self.position, data_end) => match self.finding.kind {
                Kind::Foreign | Kind::Stale => Some("past the end of a killed run, left from before"),
                _ => Some("in the unfinished tail of a killed run"),
            },
            Excuse::Instead(next) => only_missing_from(next, rules, seen).then_some(NOT_CONFIRMED),
            Excuse::Missing { first, last, .. } => covers(&rules.missing, first, last).then_some(NOT_CONFIRMED),
            Excuse::Leftover => None,
        }
    }
}

/// Whether all sequences from `next` to the following one that is there are known to be missing.
fn only_missing_from(next: Option<u64>, rules: &Rules, seen: Option<&Intervals>) -> bool {
    let Some(next) = next.filter(|_| rules.key.is_some()) else { return false };
    let following = seen.and_then(|seen| seen.next_from(next));
    let end = following.or(rules.range.map(|(_, end)| end));
    end.is_some_and(|end| next < end && covers(&rules.missing, next, end - 1))
}

/// In stream order.
#[derive(Debug, Default)]
pub struct Suspicions {
    waiting: VecDeque<Suspicion>,
    lumped: Option<Suspicion>,
}

impl Suspicions {
    /// Keeps one. Those that are too many are lumped together: of such a one the sequence that counts as seen no more.
    pub fn add(&mut self, suspicion: Suspicion) -> Option<u64> {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(suspicion);
            return None;
        }
        let (marked, records) = (suspicion.marked(), suspicion.finding.records);
        match &mut self.lumped {
            Some(lumped) => lumped.finding.records = lumped.finding.records.saturating_add(records),
            None => self.lumped = Some(Suspicion { excuse: Excuse::Leftover, ..suspicion }),
        }
        marked
    }

    /// The next one that the data's end has left behind for good.
    pub fn left_behind(&mut self, rules: &Rules, data_end: u64) -> Option<Suspicion> {
        rules.unfinished_bytes?;
        self.waiting.pop_front_if(|first| !rules.is_unfinished(first.position, data_end))
    }

    /// Takes out what may be left of a recycled file: what lies behind `data_end` and is no intact record of the run.
    pub fn behind(&mut self, data_end: u64) -> VecDeque<Suspicion> {
        let is_old = |suspicion: &Suspicion| {
            let kind = suspicion.finding.kind;
            suspicion.position >= data_end && matches!(kind, Kind::Stale | Kind::Unrecognised | Kind::Truncated)
        };
        let (old, open) = std::mem::take(&mut self.waiting).into_iter().partition(is_old);
        self.waiting = open;
        old
    }

    /// The next one, whatever it waits for; at last what was lumped together.
    pub fn pop(&mut self) -> Option<Suspicion> {
        self.waiting.pop_front().or_else(|| self.lumped.take())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::intervals::Place;
    use super::super::super::shape::Key;
    use super::*;

    fn suspicion(position: u64, kind: Kind, excuse: Excuse) -> Suspicion {
        Suspicion { position, finding: Finding::new(kind, "odd").records(2), excuse }
    }

    fn positions(mut of: Suspicions) -> Vec<u64> {
        std::iter::from_fn(|| of.pop()).map(|suspicion| suspicion.position).collect()
    }

    #[test]
    fn what_is_known_to_be_missing_explains_what_lies_in_its_place() {
        let mut seen = Intervals::default();
        seen.insert(0, 3, Place::default(), 0);
        seen.insert(7, 9, Place::default(), 0);
        let key = Some(Key { run: 1, producer: 0 });
        let rules = Rules { key, range: Some((0, 12)), missing: vec![(4, 6), (10, 11)], ..Rules::default() };
        let is_explained = |excuse| suspicion(5, Kind::Corrupt, excuse).explained(&rules, 100, Some(&seen)).is_some();
        for (next, explained) in [(None, false), (Some(4), true), (Some(10), true), (Some(3), false), (Some(12), false)]
        {
            assert_eq!(is_explained(Excuse::Instead(next)), explained, "{next:?}");
        }
        for (first, last, explained) in [(4, 6, true), (5, 5, true), (5, 7, false)] {
            assert_eq!(is_explained(Excuse::Missing { first, last, marked: false }), explained, "{first} to {last}");
        }
        assert!(!is_explained(Excuse::Leftover));
        let of_anybody = Rules { key: None, ..rules };
        assert_eq!(suspicion(5, Kind::Stale, Excuse::Instead(Some(4))).explained(&of_anybody, 100, None), None);
    }

    #[test]
    fn the_tail_of_a_killed_run_explains_everything() {
        let rules = Rules { unfinished_bytes: Some(10), ..Rules::default() };
        let said = |position, kind| suspicion(position, kind, Excuse::Leftover).explained(&rules, 100, None);
        assert_eq!(said(89, Kind::Corrupt), None);
        assert_eq!(said(90, Kind::Corrupt), Some("in the unfinished tail of a killed run"));
        assert_eq!(said(90, Kind::Foreign), Some("past the end of a killed run, left from before"));
    }

    #[test]
    fn the_datas_end_leaves_the_first_ones_behind() {
        let mut all = Suspicions::default();
        for position in [5, 40, 60] {
            assert_eq!(all.add(suspicion(position, Kind::Corrupt, Excuse::Leftover)), None);
        }
        assert!(all.left_behind(&Rules::default(), 100).is_none(), "only a kill leaves a tail");
        let killed = Rules { unfinished_bytes: Some(50), ..Rules::default() };
        let left: Vec<_> = std::iter::from_fn(|| all.left_behind(&killed, 100)).map(|of| of.position).collect();
        assert_eq!((left, positions(all)), (vec![5, 40], vec![60]));
    }

    #[test]
    fn what_a_file_held_before_lies_behind_its_end() {
        let mut all = Suspicions::default();
        for (position, kind) in [(5, Kind::Stale), (50, Kind::Stale), (60, Kind::Foreign), (70, Kind::Truncated)] {
            all.add(suspicion(position, kind, Excuse::Leftover));
        }
        let old: Vec<_> = all.behind(50).into_iter().map(|of| of.position).collect();
        assert_eq!((old, positions(all)), (vec![50, 70], vec![5, 60]));
    }

    #[test]
    fn too_many_are_lumped_together_and_their_records_are_not_seen() {
        let marked = |at| suspicion(at, Kind::Corrupt, Excuse::Missing { first: at, last: at, marked: true });
        let mut all = Suspicions::default();
        assert!((0..WAITING_MAX as u64).all(|at| all.add(marked(at)).is_none()));
        let first = WAITING_MAX as u64;
        assert_eq!([first, first + 1].map(|at| all.add(marked(at))), [Some(first), Some(first + 1)]);
        let last = std::iter::from_fn(|| all.pop()).last().unwrap();
        assert_eq!((last.position, last.excuse, last.marked()), (first, Excuse::Leftover, None));
        assert_eq!(last.finding.records, 2 * 2, "those of both, each once");
    }
}
