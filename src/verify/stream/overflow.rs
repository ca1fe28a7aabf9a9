//! A stream with more gaps than can be followed: whether fewer records came than have to be there.

use super::super::shape::Key;
use super::StreamFold;

impl StreamFold<'_> {
    /// `came`: the lowest sequence of the producer and its highest.
    pub(super) fn judge_number(&mut self, key: Key, came: Option<(u64, u64)>) {
        let rules = &self.rules;
        // A record that a kill left unfinished has a byte at least.
        let unfinished = rules.unfinished_bytes.unwrap_or(0);
        let at_start = if rules.gone_round { unfinished } else { 0 };
        let range = match rules.range {
            Some((first, next)) => next.checked_sub(1).map(|last| (first.max(rules.stale_below), last)),
            None => came.map(|(first, last)| (first.saturating_add(at_start), last.saturating_sub(unfinished))),
        };
        if let Some((first, last)) = range {
            self.ledger.too_few(key, (first, last), &rules.missing, &rules.label);
        }
    }
}
