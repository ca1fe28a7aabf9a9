//! Preallocated rings: the file's laps put back into writing order, so that they read like any stream.

use super::findings::{Finding, Kind};
use super::intervals::Place;
use super::ledger::Ledger;
use super::scan::{Event, Span};
use super::shape::Key;
use super::stream::{Rules, StreamFold};

/// Events that are kept for one ring; an orderly one has three.
const EVENTS_MAX: usize = 1 << 20;

/// A ring as its manifest describes it.
#[derive(Clone, Copy, Debug)]
pub struct RingFacts {
    pub key: Key,
    /// Bytes of one lap; the file may be larger.
    pub lap_bytes: u64,
    pub lap_records: u64,
    pub first_sequence: u64,
    /// Where the run's data ends, if the run ended in order; a ring that has gone round ends with its lap.
    pub length_bytes: Option<u64>,
}

/// Collects what is in the file, in file order.
#[derive(Default)]
pub struct RingEvents {
    events: Vec<Event>,
    overflowed: bool,
}

impl RingEvents {
    pub fn add(&mut self, event: Event) {
        if let (Some(Event::Span(last)), Event::Span(span)) = (self.events.last_mut(), &event)
            && last.join(span)
        {
            return;
        }
        if self.events.len() < EVENTS_MAX {
            self.events.push(event);
        } else {
            self.overflowed = true;
        }
    }

    /// Judges the ring whose places are in `source`. The records below the sequence that it returns were let go.
    pub fn fold(self, ledger: &mut Ledger, facts: RingFacts, mut rules: Rules, source: u32) -> u64 {
        if self.overflowed {
            let what = format!("more than {EVENTS_MAX} separate stretches; what lies behind them is not judged");
            let finding = Finding::new(Kind::Overflow, what).producer(facts.key.producer);
            ledger.findings.add(Finding { source: Some(rules.label.clone()), ..finding });
        }
        let lap = facts.lap_records;
        let newest = self.own_spans(facts.key).map(|span| span.last).max();
        let next = rules.range.map(|(_, next)| next).or(newest.and_then(|newest| newest.checked_add(1)));
        let written = next.map_or(0, |next| next.saturating_sub(facts.first_sequence));
        let gone_round = match (rules.range, next) {
            // An orderly end says which sequences are left: as many as a lap holds, or less.
            (Some(_), Some(next)) => next > lap && facts.length_bytes == Some(facts.lap_bytes),
            _ => written > lap,
        };
        rules.stale_below = match next {
            Some(next) if gone_round => next.saturating_sub(lap).max(facts.first_sequence),
            _ => facts.first_sequence,
        };
        let stale_below = rules.stale_below;
        (rules.lap_records, rules.gone_round) = (Some(lap), gone_round);
        let seam = if gone_round { self.seam(facts.key, lap, newest) } else { 0 };
        let range = rules.range.filter(|_| gone_round);
        let label = rules.label.clone();
        let (before, after): (Vec<Event>, Vec<Event>) = self.events.into_iter().partition(|at| at.start() < seam);
        let mut ordered = after;
        ordered.extend(before);
        if let Some((first, _)) = range.filter(|(first, next)| next.saturating_sub(lap) < *first) {
            let padded = padded(&ordered, seam, first);
            if padded > 0 {
                ordered.drain(..padded);
                ledger.findings.explain(format!("{label}: padding behind the newest record, over the oldest ones"));
            }
        }
        let mut fold = StreamFold::new(ledger, rules);
        for event in &ordered {
            let offset = event.start();
            let position = if offset < seam { offset + facts.lap_bytes - seam } else { offset - seam };
            fold.event(event, Place { source, offset, position });
        }
        fold.source_end(facts.length_bytes);
        fold.finish();
        stale_below
    }

    fn own_spans(&self, key: Key) -> impl Iterator<Item = &Span> {
        self.events.iter().filter_map(move |event| match event {
            Event::Span(span) if span.key == key => Some(span),
            _ => None,
        })
    }

    /// The offset after the newest record, where the older lap goes on.
    fn seam(&self, key: Key, lap: u64, newest: Option<u64>) -> u64 {
        let spans: Vec<&Span> = self.own_spans(key).collect();
        let clean = spans.windows(2).find(|pair| {
            Some(pair[0].last) == newest
                && pair[0].last.checked_add(1).and_then(|at| at.checked_sub(lap)) == Some(pair[1].first)
        });
        let newest_span = spans.iter().find(|span| Some(span.last) == newest);
        clean.map(|pair| pair[0].end).or(newest_span.map(|span| span.end)).unwrap_or(0)
    }
}

/// How many events, from the one that starts at the seam on, are what the padding of the newest sector left of the
/// oldest records: all up to the `first` sequence that the manifest counts as still there.
fn padded(events: &[Event], seam: u64, first: u64) -> usize {
    let damaged = events.iter().take_while(|event| !matches!(event, Event::Span(_))).count();
    match (events.first(), events.get(damaged)) {
        (Some(at_seam), Some(Event::Span(span))) if at_seam.start() == seam && span.first == first => damaged,
        _ => 0,
    }
}
