//! Where the records of a producer begin, as far as nothing says where they have to.

use super::{Ledger, Track, Unit};
use crate::base::units::format_counted;
use crate::verify::intervals::covers;
use crate::verify::shape::Key;
use std::collections::BTreeSet;

impl Ledger {
    /// Says where a stream without a manifest starts, in `sources`, unless a report says where it has to.
    pub fn explain_start(&mut self, sources: &[u32], label: &str) {
        let open = self.tracks.iter().filter(|(key, _)| !self.expected.contains_key(*key));
        let here = open.filter(|(_, track)| sources.contains(&track.start.source));
        let firsts: Vec<u64> = here.filter_map(|(_, track)| track.first()).collect();
        let Some(at) = starts(&firsts) else { return };
        let what = "only --expect can prove that this is all of it";
        self.findings.explain(format!("{label}: no manifest, starts at {at}; {what}"));
    }

    /// Says which producers of these runs were not received from sequence 0 on, where each of them begins in a run: the
    /// receiver came later, or their first records were lost. What is known to be unconfirmed is not missed.
    pub fn explain_late_starts(&mut self, runs: &BTreeSet<u64>, label: &str) {
        let is_late = |key: &Key, first: u64| {
            let unconfirmed = self.expected.get(key).map_or(&[][..], |expected| &expected.missing[..]);
            first > 0 && !covers(unconfirmed, 0, first - 1)
        };
        let tracks = self.tracks.iter().filter(|(key, _)| runs.contains(&key.run));
        let firsts = tracks.filter_map(|(key, track)| track.first().filter(|first| is_late(key, *first)));
        let firsts: Vec<u64> = firsts.collect();
        self.explain_starts(&firsts, "the run's report", label);
    }

    /// Says which producers of a topic or a list do not start at sequence 0, where neither a manifest nor a report says
    /// what there has to be, and no broker is known to have removed what was before. `runs`: as for `finish`.
    pub fn explain_unstated_starts(&mut self, runs: &BTreeSet<u64>, label: &str) {
        let is_wanted = |run: u64| match runs.is_empty() {
            true => self.first_run.is_none_or(|first| first == run),
            false => runs.contains(&run),
        };
        let is_in_bytes = |source: u32| self.names.get(source as usize).is_none_or(|(_, unit)| *unit == Unit::Bytes);
        let is_stated = |key: &Key, track: &Track| track.judged || self.expected.contains_key(key);
        let is_cut =
            |key: &Key, before: u64| self.unproved.parts(*key, 0, before).iter().all(|(_, _, cause)| cause.is_some());
        let tracks = self
            .tracks
            .iter()
            .filter(|(key, track)| is_wanted(key.run) && !is_in_bytes(track.start.source) && !is_stated(key, track));
        let firsts = tracks.filter_map(|(key, track)| {
            let first = track.first()?;
            (!is_cut(key, first.checked_sub(1)?)).then_some(first)
        });
        self.explain_starts(&firsts.collect::<Vec<_>>(), "--expect", label);
    }

    fn explain_starts(&mut self, firsts: &[u64], proof: &str, label: &str) {
        let Some(at) = starts(firsts) else { return };
        let producers = format_counted(firsts.len() as u64, "producer");
        let what = format!("only {proof} can prove that this is all of it");
        self.findings.explain(format!("{label}: what came of {producers} starts at {at}; {what}"));
    }
}

/// As `sequence 7`, or `sequences 0 to 9`; `None`: of nobody.
fn starts(firsts: &[u64]) -> Option<String> {
    match (firsts.iter().min()?, firsts.iter().max()?) {
        (lowest, highest) if lowest == highest => Some(format!("sequence {lowest}")),
        (lowest, highest) => Some(format!("sequences {lowest} to {highest}")),
    }
}
