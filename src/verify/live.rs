//! Records that arrive piece by piece over many connections: each connection finds and checks its own, and all of
//! them are judged together.
//!
//! A producer may use several connections, and how they race is nobody's fault: order is judged within one, gaps
//! and duplicates over all.

mod arrivals;
mod feed;
mod open;
mod stated;

use super::expect::Expected;
use super::findings::{Finding, Findings, Kind};
use super::ids;
use super::intervals::{Place, subtract};
use super::ledger::{Ledger, Unit};
use super::scan::Event;
use super::stream::{Rules, StreamFold};
use crate::base::units::format_counted;
use crate::record;
use feed::Told;
use open::LeftOpen;
use std::collections::{BTreeSet, HashMap};

pub use arrivals::{Arrivals, Inspector, Unsound};
pub use feed::{Feed, TOLD_MAX, Tools};
pub use stated::BodyFacts;

/// Connections that findings call by their name.
const NAMES_MAX: usize = 1 << 14;
/// Of the length that some streams have before each record.
const LENGTH_BYTES: u64 = 4;

/// What became of the requests that carried records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Received,
    /// They arrived, but the sender was never told.
    Uncertain,
}

/// The books of all connections.
pub struct Live {
    ledger: Ledger,
    /// Records that arrived without their sender being told.
    uncertain: Ledger,
    /// Runs that are expected; empty: every one.
    runs: BTreeSet<u64>,
    named: usize,
    unnamed: Option<u32>,
    out_of_order: u64,
    pub records_uncertain: u64,
    cut_off: u64,
    left_open: LeftOpen,
    sampled_every: Option<u64>,
    /// Stretches between records that are as long as the length that some streams have there.
    pub lengths: u64,
}

impl Live {
    /// `run_id`: records of other runs are findings.
    pub fn new(run_id: Option<&str>) -> Self {
        let runs = run_id.map(|text| [record::run_id_hash(text), ids::run_of(text, &BTreeSet::new())]);
        Self {
            ledger: Ledger::new(HashMap::new()),
            uncertain: Ledger::new(HashMap::new()),
            runs: runs.into_iter().flatten().collect(),
            named: 0,
            unnamed: None,
            out_of_order: 0,
            records_uncertain: 0,
            cut_off: 0,
            left_open: LeftOpen::default(),
            sampled_every: None,
            lengths: 0,
        }
    }

    /// Records that were found intact, and findings, up to now: what is missing shows only at the end.
    pub fn so_far(&self) -> (u64, u64) {
        let findings = &self.ledger.findings;
        (findings.records, Kind::ALL.iter().map(|kind| findings.count(*kind).findings).sum())
    }

    /// A new connection; what it is called in `tell`.
    pub fn source(&mut self, name: impl FnOnce() -> String) -> u32 {
        self.ledger.findings.sources += 1;
        if self.named < NAMES_MAX {
            self.named += 1;
            return self.ledger.name(name(), Unit::Bytes);
        }
        *self.unnamed.get_or_insert_with(|| self.ledger.name("a later connection", Unit::Bytes))
    }

    /// Takes what the connection has kept. `ordered`: its records have to be in order.
    pub fn tell(&mut self, source: u32, feed: &mut Feed, outcome: Outcome, ordered: bool) {
        let kept = std::mem::take(&mut feed.part);
        let bytes = std::mem::take(&mut feed.untold_bytes);
        if outcome == Outcome::Uncertain {
            feed.told.drain(..kept).for_each(|told| self.perhaps(&told, source));
            return;
        }
        self.ledger.findings.bytes += bytes;
        self.ledger.note_signatures(feed.has_unchecked_signatures);
        for told in &feed.told[..kept] {
            let Told::Event { event, late } = told else { continue };
            if let Event::Junk(junk) = event {
                self.lengths += u64::from(junk.end - junk.start == LENGTH_BYTES);
            }
            let Event::Span(span) = event else { continue };
            let newest = self.ledger.tracks.get(&span.key).and_then(|track| track.seen.last());
            if newest.is_some_and(|newest| span.last < newest) && !(*late && ordered) {
                self.out_of_order += span.last - span.first + 1;
            }
        }
        let label = self.ledger.name_of(source).to_owned();
        let mut fold = StreamFold::new(&mut self.ledger, Rules { label, ..Rules::default() });
        let place = |offset: u64| Place { source, offset, position: offset };
        for told in feed.told.drain(..kept) {
            match told {
                Told::Event { event, late } => {
                    fold.any_order(!(ordered && late));
                    fold.event(&event, place(event.start()));
                }
                Told::Spoiled(span, flaw) => fold.spoiled(&span, flaw, place(span.start)),
                Told::End => fold.source_end(None),
            }
        }
        fold.finish();
    }

    fn perhaps(&mut self, told: &Told, source: u32) {
        if let Told::Event { event: Event::Span(span), .. } = told {
            let place = Place { source, offset: span.start, position: span.start };
            self.records_uncertain += span.last - span.first + 1;
            let _told_twice = self.uncertain.enter(span.key, span.first, span.last, place, span.end);
        }
    }

    /// Something that breaks the framing itself.
    pub fn damage(&mut self, source: u32, byte: u64, finding: Finding) {
        let place = Place { source, offset: byte, position: byte };
        let finding = self.ledger.locate(finding, place);
        self.ledger.findings.add(finding);
    }

    /// A connection is over. `by_us`: the receiver ended it, amid a record perhaps.
    pub fn close(&mut self, feed: &Feed, by_us: bool) {
        self.ledger.findings.bytes += feed.untold_bytes;
        self.cut_off += u64::from(by_us && feed.is_amid());
    }

    /// The receiver ends, and a connection was open. `is_busy`: it is new, or amid something.
    pub fn left_open(&mut self, feed: &Feed, is_busy: bool) {
        // Of a producer that it brought nothing else of, it began with what it dropped.
        let begun = feed.dropped().filter(|(key, _)| !feed.has_reached(key));
        let begun = begun.map(|(key, (first, _))| (key, first.saturating_sub(1)));
        self.left_open.note(begun.chain(feed.reached()), is_busy);
        self.left_open.note_dropped(feed.dropped());
    }

    /// The same, where a partition came over the connection.
    pub fn left_partition_open(&mut self, arrivals: &Arrivals) {
        self.left_open.note(arrivals.reached(), true);
    }

    /// The last word.
    pub fn finish(mut self, label: &str, seconds: f64) -> Findings {
        let uncertain = std::mem::take(&mut self.uncertain.tracks);
        for (key, track) in uncertain {
            let missing = track.seen.first().zip(track.seen.last()).map_or_else(Vec::new, |(first, last)| {
                let holes: Vec<_> = track.seen.holes(first, last).iter().map(|hole| (hole.first, hole.last)).collect();
                subtract(first, last, &holes)
            });
            self.ledger.expected.insert(key, Expected { missing, ..Expected::default() });
        }
        let runs = match self.runs.is_empty() {
            true => self.ledger.tracks.keys().map(|key| key.run).collect(),
            false => std::mem::take(&mut self.runs),
        };
        let on_their_way = self.left_open.excuse(&mut self.ledger);
        self.ledger.finish(&runs, label);
        self.ledger.explain_late_starts(&runs, label);
        let mut findings = self.ledger.findings;
        if on_their_way > 0 {
            let records = format_counted(on_their_way, "record");
            findings.explain(format!("not here, and perhaps on their way over open connections at the end: {records}"));
        }
        if self.out_of_order > 0 {
            let records = format_counted(self.out_of_order, "record");
            findings.explain(format!("{records} came after later ones over another connection"));
        }
        if self.records_uncertain > 0 {
            let records = format_counted(self.records_uncertain, "record");
            findings.explain(format!("{records} came in requests that were left unanswered"));
        }
        if self.cut_off > 0 {
            let connections = format_counted(self.cut_off, "connection");
            findings.explain(format!("ended from this side amid a record: {connections}"));
        }
        if let Some(every) = self.sampled_every {
            findings.explain(format!("one batch in {every} was looked at: nothing is said about gaps and duplicates"));
        }
        if findings.clean && findings.records == 0 {
            findings.add(Finding::new(Kind::Nothing, "no record was received"));
        }
        findings.seal(seconds);
        findings
    }
}
