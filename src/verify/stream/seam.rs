//! A ring that has gone round, without its manifest: its newest records come first, and then older ones.

use super::super::findings::{Finding, Kind};
use super::super::intervals::Place;
use super::super::scan::Span;
use super::super::shape::Key;
use super::StreamFold;

const IN_A_RING: &str = "behind newer ones, as in a ring that has gone round";
const HINT: &str = "; a ring that was overwritten reads so: verify the file itself, beside its manifest";

/// Where one producer's records jump back, once and without a gap before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seam {
    /// The sequences before it, inclusive.
    newer: (u64, u64),
    /// Those behind it, as far as they go on without a gap.
    older: (u64, u64),
    place: Place,
}

impl Seam {
    fn goes_on_with(&self, span: &Span) -> bool {
        self.older.1 + 1 == span.first && span.last < self.newer.0
    }

    /// All is there that one lap holds, and it begins where laps of that length do. Parts of a stream in the wrong
    /// order seldom have such a lap. Where they do, nothing tells them from a ring: `[2n, 3n)` before `[n, 2n)` may as
    /// well be one of `2n` records, half overwritten.
    fn is_of_a_ring(&self) -> bool {
        let lap = (self.newer.1 - self.older.0).saturating_add(1);
        self.older.1 + 1 == self.newer.0 && self.newer.0.is_multiple_of(lap)
    }
}

impl StreamFold<'_> {
    /// `late`: sequences of the span that came after higher ones, up to `newest`. `newer`: all that was read before it,
    /// where that is without a gap.
    pub(super) fn late(
        &mut self,
        span: &Span,
        late: &[(u64, u64)],
        newer: Option<(u64, u64)>,
        newest: Option<u64>,
        place: Place,
    ) {
        if self.rules.any_order || (self.rules.without_manifest && self.is_behind_seam(span, newer, place)) {
            return;
        }
        for range in late {
            self.reordered(span.key, *range, newest.unwrap_or_default(), "", place);
        }
    }

    /// Whether the span begins or continues what may be the older part of a ring: that is judged at the end.
    fn is_behind_seam(&mut self, span: &Span, newer: Option<(u64, u64)>, place: Place) -> bool {
        match self.seams.get_mut(&span.key) {
            Some(Some(seam)) if seam.goes_on_with(span) => seam.older.1 = span.last,
            Some(open) => {
                if let Some(seam) = open.take() {
                    self.no_ring(span.key, seam);
                }
                return false;
            }
            None => {
                let Some(newer) = newer.filter(|(first, _)| span.last < *first) else { return false };
                self.seams.insert(span.key, Some(Seam { newer, older: (span.first, span.last), place }));
            }
        }
        true
    }

    /// Everything was read.
    pub(super) fn close_seams(&mut self) {
        for (key, seam) in std::mem::take(&mut self.seams) {
            match seam {
                Some(seam) if seam.is_of_a_ring() => self.explained.add(IN_A_RING, seam.older.1 - seam.older.0 + 1),
                Some(seam) => self.no_ring(key, seam),
                None => {}
            }
        }
    }

    fn no_ring(&mut self, key: Key, seam: Seam) {
        // A ring that has gone round has lost its first record.
        let hint = if seam.older.0 > 0 { HINT } else { "" };
        self.reordered(key, seam.older, seam.newer.1, hint, seam.place);
    }

    fn reordered(&mut self, key: Key, (first, last): (u64, u64), after: u64, hint: &str, place: Place) {
        let what = format!("came after sequence {after}{hint}");
        let finding = Finding::new(Kind::Reordered, what).producer(key.producer).run(key.run).sequences(first, last);
        let finding = self.ledger.locate(finding, place);
        self.ledger.findings.add(finding);
    }
}
