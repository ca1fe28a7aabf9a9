//! One pass over a stretch of bytes: records become spans of consecutive sequences, everything else is named.

use super::shape::{Claim, Flaw, Key, Probe, Shape};
use super::window::Window;
use crate::record;
use std::collections::HashMap;
use std::io;

/// A scan stops early once it has so much to tell, so that its memory is bounded whatever the bytes are.
pub const EVENTS_MAX: usize = 1 << 15;
/// Producers that a scan follows at once.
const OPEN_SPANS_MAX: usize = 1 << 16;

/// Intact records of one producer with consecutive sequences, nothing else of that producer between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub key: Key,
    pub first: u64,
    pub last: u64,
    /// Offsets of the first record's first byte and after the last one's last.
    pub start: u64,
    pub end: u64,
    /// The earliest and the latest time stamp; 0 where a record does not say.
    pub stamped_unix_ns: (u64, u64),
}

impl Span {
    /// One record.
    #[inline]
    pub fn of(claim: &Claim, start: u64, end: u64) -> Self {
        let (sequence, stamp) = (claim.sequence, claim.timestamp_unix_ns);
        Self { key: claim.key, first: sequence, last: sequence, start, end, stamped_unix_ns: (stamp, stamp) }
    }

    /// One message of a topic, where offsets stand for bytes.
    pub fn of_message(claim: &Claim, offset: i64) -> Self {
        let at = offset.cast_unsigned();
        Self::of(claim, at, at.wrapping_add(1))
    }

    /// Whether this record of this producer is the next one.
    pub fn goes_on_with(&self, key: Key, sequence: u64) -> bool {
        self.key == key && self.last.checked_add(1) == Some(sequence)
    }

    /// Takes in `next` if it goes on where this one ends; whether it does.
    pub fn join(&mut self, next: &Self) -> bool {
        let goes_on = self.end == next.start && self.goes_on_with(next.key, next.first);
        if goes_on {
            self.extend(next);
        }
        goes_on
    }

    /// Takes in what goes on with it.
    #[inline]
    pub fn extend(&mut self, next: &Self) {
        let ((earliest, latest), (next_earliest, next_latest)) = (self.stamped_unix_ns, next.stamped_unix_ns);
        (self.last, self.end) = (next.last, next.end);
        self.stamped_unix_ns = (earliest.min(next_earliest), latest.max(next_latest));
    }
}

/// A stretch that is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Junk {
    pub start: u64,
    pub end: u64,
    pub zeros: bool,
    /// What its start pretends to be.
    pub claim: Option<Claim>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Span(Span),
    Flawed { start: u64, claim: Claim, flaw: Flaw },
    Junk(Junk),
}

impl Event {
    pub fn start(&self) -> u64 {
        match self {
            Event::Span(span) => span.start,
            Event::Flawed { start, .. } => *start,
            Event::Junk(junk) => junk.start,
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// In the order of their starts.
    pub events: Vec<Event>,
    /// Where the first intact record starts.
    pub first_record: Option<u64>,
    /// Where the scan stopped; at the limit or past it, except at the source's end and after too many events.
    pub end: u64,
    /// Whether a record should start at `end`; else the scan stopped amid junk.
    pub synced: bool,
    pub at_source_end: bool,
    /// The source goes on later, and the record at `end` needs so many bytes to be judged.
    pub wants_bytes: Option<usize>,
}

/// Bytes that the record at the start of these needs in order to be judged (`true`: one should start there). What
/// is no record needs none.
pub type Needs<'a> = &'a dyn Fn(&[u8], bool) -> usize;

/// Scans from the window's start over all records that start before `limit`. `synced`: a record should start right
/// here; otherwise the first intact one is searched for.
pub fn scan(window: &mut Window<'_>, shape: &dyn Shape, limit: u64, synced: bool) -> io::Result<Scan> {
    run(window, Scanner { limit, synced, ..Scanner::new(shape) })
}

/// Scans what has arrived so far of a source that goes on: stops where a record is not whole yet.
pub fn scan_piece(window: &mut Window<'_>, shape: &dyn Shape, synced: bool, needs: Needs<'_>) -> io::Result<Scan> {
    run(window, Scanner { limit: u64::MAX, synced, needs: Some(needs), ..Scanner::new(shape) })
}

fn run(window: &mut Window<'_>, mut scanner: Scanner<'_>) -> io::Result<Scan> {
    let mut at_source_end = false;
    while window.offset() < scanner.limit && scanner.has_room() && scanner.wants_bytes.is_none() {
        if window.ensure(1)?.is_empty() {
            at_source_end = true;
            break;
        }
        if scanner.synced {
            scanner.step(window)?;
        } else {
            scanner.search(window)?;
        }
    }
    scanner.close_junk(window.offset());
    let (end, synced) = (window.offset(), scanner.synced);
    let first_record = scanner.first_record;
    let wants_bytes = scanner.wants_bytes;
    Ok(Scan { events: scanner.into_events(), first_record, end, synced, at_source_end, wants_bytes })
}

struct Scanner<'a> {
    shape: &'a dyn Shape,
    limit: u64,
    synced: bool,
    /// Where the source goes on later.
    needs: Option<Needs<'a>>,
    wants_bytes: Option<usize>,
    next: Option<u64>,
    first_record: Option<u64>,
    current: Option<Span>,
    others: HashMap<Key, Span>,
    junk: Option<Junk>,
    events: Vec<Event>,
}

impl<'a> Scanner<'a> {
    fn new(shape: &'a dyn Shape) -> Self {
        Self {
            shape,
            limit: 0,
            synced: true,
            needs: None,
            wants_bytes: None,
            next: None,
            first_record: None,
            current: None,
            others: HashMap::new(),
            junk: None,
            events: Vec::new(),
        }
    }

    fn has_room(&self) -> bool {
        self.events.len() < EVENTS_MAX && self.others.len() < OPEN_SPANS_MAX
    }

    /// Whether the record here goes on in what has not arrived yet.
    #[inline]
    fn has_to_wait(&mut self, window: &mut Window<'_>) -> io::Result<bool> {
        let Some(needs) = self.needs else { return Ok(false) };
        let there = window.ensure(self.shape.lead_bytes().max(record::HEADER_BYTES))?;
        let wanted = needs(there, self.synced);
        let short = window.ensure(wanted)?.len() < wanted;
        self.wants_bytes = short.then_some(wanted);
        Ok(short)
    }

    /// A record should start here.
    #[inline]
    fn step(&mut self, window: &mut Window<'_>) -> io::Result<()> {
        if self.has_to_wait(window)? {
            return Ok(());
        }
        let claim = match self.shape.probe(window, self.next)? {
            Probe::Record(claim) => {
                self.take(claim, window);
                return Ok(());
            }
            Probe::Flawed(claim, flaw) => {
                let length = claim.length as usize;
                if self.needs.is_some() && !flaw.keeps_extent() {
                    // What follows says whether the length holds.
                    let wanted = length + record::HEADER_BYTES;
                    if window.ensure(wanted)?.len() < wanted {
                        self.wants_bytes = Some(wanted);
                        return Ok(());
                    }
                }
                if self.shape.extent_holds(window, &claim, flaw)? {
                    self.flush();
                    self.events.push(Event::Flawed { start: window.offset(), claim, flaw });
                    window.skip(length);
                    self.next = self.next.and_then(|at| at.checked_add(1));
                    return Ok(());
                }
                Some(claim)
            }
            Probe::No(claim) => claim,
        };
        self.synced = false;
        self.flush();
        let start = window.offset();
        let zeros = window.bytes().first() == Some(&0);
        self.junk = Some(Junk { start, end: start, zeros, claim });
        window.skip(1);
        Ok(())
    }

    #[inline]
    fn take(&mut self, claim: Claim, window: &mut Window<'_>) {
        let start = window.offset();
        window.skip(claim.length as usize);
        let record = Span::of(&claim, start, window.offset());
        self.next = claim.sequence.checked_add(1);
        self.first_record.get_or_insert(start);
        if let Some(span) = &mut self.current
            && span.goes_on_with(claim.key, claim.sequence)
        {
            span.extend(&record);
            return;
        }
        self.switch(record);
    }

    /// The record does not continue the current span: perhaps another producer's.
    fn switch(&mut self, record: Span) {
        if let Some(span) = self.current.take() {
            self.others.insert(span.key, span);
        }
        self.current = Some(match self.others.remove(&record.key) {
            Some(mut span) if span.last.checked_add(1) == Some(record.first) => {
                span.extend(&record);
                span
            }
            Some(span) => {
                self.events.push(Event::Span(span));
                record
            }
            None => record,
        });
    }

    /// Goes on to the next intact record, the limit, or the end of what is buffered.
    fn search(&mut self, window: &mut Window<'_>) -> io::Result<()> {
        let lead = self.shape.lead_bytes();
        let wanted = window.bytes().len().max(super::window::WINDOW_BYTES / 2).max(lead);
        let buffered = window.ensure(wanted)?.len();
        let room = usize::try_from(self.limit - window.offset()).unwrap_or(usize::MAX);
        let found = self.shape.candidate(window.bytes());
        let ahead = match found {
            Some(at) => at,
            None if buffered < wanted && self.needs.is_none() => buffered,
            None => (buffered + 1).saturating_sub(lead),
        };
        self.pass(window, ahead.min(room));
        if found.is_none() && ahead == 0 {
            self.wants_bytes = Some(lead);
        }
        if found.is_none() || ahead >= room || self.has_to_wait(window)? {
            return Ok(());
        }
        if let Probe::Record(claim) = self.shape.probe(window, self.next)? {
            self.close_junk(window.offset());
            self.synced = true;
            self.take(claim, window);
        } else {
            self.pass(window, 1);
        }
        Ok(())
    }

    /// Passes over junk.
    fn pass(&mut self, window: &mut Window<'_>, length: usize) {
        if length == 0 {
            return;
        }
        let start = window.offset();
        let junk = self.junk.get_or_insert(Junk { start, end: start, zeros: true, claim: None });
        junk.zeros = junk.zeros && is_zero(&window.bytes()[..length]);
        window.skip(length);
    }

    fn close_junk(&mut self, end: u64) {
        if let Some(junk) = self.junk.take() {
            self.events.push(Event::Junk(Junk { end, ..junk }));
        }
    }

    /// Ends all spans, so that none reaches over damage.
    fn flush(&mut self) {
        self.events
            .extend(self.current.take().into_iter().chain(self.others.drain().map(|(_, span)| span)).map(Event::Span));
    }

    fn into_events(mut self) -> Vec<Event> {
        self.flush();
        self.events.sort_by_key(Event::start);
        self.events
    }
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let (words, tail) = bytes.as_chunks::<64>();
    words.iter().all(|word| word.iter().fold(0, |all, byte| all | byte) == 0) && tail.iter().all(|byte| *byte == 0)
}
