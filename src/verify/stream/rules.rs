//! What is known of a stream before it is read, and what follows from that.

use super::super::shape::Key;

#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub label: String,
    /// No manifest says what records look like: only those with the header are found.
    pub without_manifest: bool,
    /// With a manifest: the one producer that belongs here.
    pub key: Option<Key>,
    /// With a complete manifest: the first sequence, and the one after the last.
    pub range: Option<(u64, u64)>,
    /// Of a killed run: the bytes at the data's end that may be unfinished.
    pub unfinished_bytes: Option<u64>,
    /// A preallocated ring, and how many records it holds.
    pub lap_records: Option<u64>,
    /// The ring has gone round: after its newest record an older lap goes on.
    pub gone_round: bool,
    /// Where the sequences of a killed run that appended began; older files may have been let go of since.
    pub began_at: Option<u64>,
    /// Lower sequences ought to have been overwritten.
    pub stale_below: u64,
    /// Submitted but not confirmed: inclusive, sorted.
    pub missing: Vec<(u64, u64)>,
    /// One of several streams of the same producers: coming after a later one is no finding.
    pub any_order: bool,
}

impl Rules {
    /// Whether what comes later may explain what looks like damage.
    pub fn may_explain(&self) -> bool {
        self.unfinished_bytes.is_some() || !self.missing.is_empty()
    }

    /// Whether a kill may have left this position unfinished, where the data ends at `data_end`.
    pub fn is_unfinished(&self, position: u64, data_end: u64) -> bool {
        self.unfinished_bytes
            .is_some_and(|bytes| position.saturating_add(bytes) >= data_end || (self.gone_round && position < bytes))
    }

    /// Lower sequences in records that begin with `first` are left from before. `seen`: the lowest and the highest so
    /// far.
    pub fn left_below(&self, first: u64, seen: Option<(u64, u64)>) -> u64 {
        let let_go_below = match (self.unfinished_bytes, self.lap_records, seen) {
            // A recycled file of a killed run ends in records that were let go of before.
            (Some(_), None, Some((oldest, newest))) if first < newest => oldest,
            _ => 0,
        };
        self.stale_below.max(let_go_below)
    }

    /// The sequences that have to be there, inclusive. `seen`: the lowest and the highest.
    pub fn wanted(&self, seen: Option<(u64, u64)>) -> Option<(u64, u64)> {
        match (self.range, seen) {
            (Some((first, next)), _) if first < next => Some((first.max(self.stale_below), next - 1)),
            (None, Some((first, last))) => match self.lap_records {
                Some(_) => Some((self.stale_below.min(last), last)),
                None => Some((first, last)),
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_leaves_the_end_unfinished_and_of_a_ring_the_seam_too() {
        let killed = Rules { unfinished_bytes: Some(10), ..Rules::default() };
        let ring = Rules { gone_round: true, ..killed.clone() };
        for (position, at_end, in_ring) in [(0, false, true), (9, false, true), (10, false, false), (90, true, true)] {
            assert_eq!(killed.is_unfinished(position, 100), at_end, "{position}");
            assert_eq!(ring.is_unfinished(position, 100), in_ring, "{position} of a ring");
        }
        assert!(!Rules::default().is_unfinished(100, 100));
        assert!(killed.is_unfinished(u64::MAX, 100));
    }

    #[test]
    fn a_recycled_file_of_a_killed_run_ends_in_what_was_let_go_of() {
        let rules = Rules { stale_below: 3, ..Rules::default() };
        let killed = Rules { unfinished_bytes: Some(10), ..rules.clone() };
        let ring = Rules { lap_records: Some(8), ..killed.clone() };
        let seen = Some((5, 9));
        assert_eq!([&rules, &killed, &ring].map(|rules| rules.left_below(2, seen)), [3, 5, 3]);
        assert_eq!((killed.left_below(9, seen), killed.left_below(2, None)), (3, 3), "nothing is newer");
    }

    #[test]
    fn what_has_to_be_there_is_what_the_manifest_says_or_what_came() {
        let of = |range, lap_records| Rules { range, lap_records, stale_below: 4, ..Rules::default() };
        let seen = Some((6, 9));
        for (rules, wanted) in [
            (of(Some((2, 20)), None), Some((4, 19))),
            (of(Some((8, 20)), Some(5)), Some((8, 19))),
            (of(Some((7, 7)), None), None),
            (of(None, None), seen),
            (of(None, Some(5)), Some((4, 9))),
        ] {
            assert_eq!(rules.wanted(seen), wanted, "{rules:?}");
        }
        assert_eq!(of(None, Some(5)).wanted(Some((1, 2))), Some((2, 2)), "older ones only");
        assert_eq!(of(None, None).wanted(None), None);
    }
}
