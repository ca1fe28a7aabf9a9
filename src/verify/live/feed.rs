//! One connection's records: found and checked as its bytes come, and told to the common books later.

use super::super::passing::Passing;
use super::super::scan::{self, Event, Junk, Span};
use super::super::shape::{Flaw, HeaderShape, Key, Shape};
use super::super::window::Window;
use super::stated::{BodyFacts, Stated};
use crate::base::limits;
use crate::record::{self, HEADER_BYTES, Header};
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::io::Read;

/// Records up to this length are kept until they are whole; longer ones are checked as they pass.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Producers whose order one connection follows.
const FOLLOWED_MAX: usize = 1 << 12;
/// The last stretches of records that one connection dropped: a sender has no more than so many to send again.
const DROPPED_MAX: usize = 1 << 8;
/// What one connection may have to tell before it has to be told.
pub const TOLD_MAX: usize = 1 << 14;

/// What one thread needs to look at bytes.
pub struct Tools {
    shape: HeaderShape,
    sign_key: Option<[u8; 16]>,
    window: Vec<u8>,
}

impl Tools {
    pub fn new(sign_key: Option<[u8; 16]>) -> Self {
        Self { shape: HeaderShape::new(sign_key), sign_key, window: Vec::new() }
    }
}

/// What a connection has to tell.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    /// `late`: after a later one of the same producer on this connection.
    Event { event: Event, late: bool },
    /// Records that have one flaw in common.
    Spoiled(Span, Flaw),
    /// Nothing follows that belongs to what came before.
    End,
}

/// The records of one connection.
pub struct Feed {
    /// Offset in the connection's payload of the first byte of `kept`.
    offset: u64,
    kept: Vec<u8>,
    /// Bytes from `offset` on without which there is no use in looking.
    needs: usize,
    synced: bool,
    passing: Option<Passing>,
    /// What was said beforehand of this part, which is not looked at then.
    stated: Option<Stated>,
    junk: Option<Junk>,
    run: Option<u64>,
    newest: HashMap<Key, u64>,
    /// The same without the part that can still be dropped.
    reached: HashMap<Key, u64>,
    /// Records that were dropped last, as (first, last): they may come again.
    dropped: VecDeque<(Key, (u64, u64))>,
    /// Records were signed, and no key was there to check that.
    pub(super) has_unchecked_signatures: bool,
    pub(super) told: Vec<Told>,
    /// So much of it counts: what was told before this part began.
    pub(super) part: usize,
    /// Offset up to which bytes were kept or dropped, and how many of those kept wait to be told.
    settled: u64,
    pub(super) untold_bytes: u64,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            offset: 0,
            kept: Vec::new(),
            needs: 0,
            synced: true,
            passing: None,
            stated: None,
            junk: None,
            run: None,
            newest: HashMap::new(),
            reached: HashMap::new(),
            dropped: VecDeque::new(),
            has_unchecked_signatures: false,
            told: Vec::new(),
            part: 0,
            settled: 0,
            untold_bytes: 0,
        }
    }
}

impl Feed {
    /// Bytes that came so far.
    pub fn bytes(&self) -> u64 {
        self.offset + self.kept.len() as u64
    }

    /// What waits to be told: see [`super::Live::tell`].
    pub fn waiting(&self) -> usize {
        self.told.len()
    }

    /// The next bytes of the connection.
    pub fn push(&mut self, mut bytes: &[u8], tools: &mut Tools) {
        if let Some(stated) = &mut self.stated {
            stated.push(bytes);
            self.offset += bytes.len() as u64;
            return;
        }
        while !bytes.is_empty() {
            if let Some(passing) = &mut self.passing {
                let (taken, ended) = passing.take(bytes);
                bytes = &bytes[taken..];
                self.offset += taken as u64;
                if let Some(event) = ended {
                    self.has_unchecked_signatures |= passing.is_signed_unchecked();
                    self.passing = None;
                    self.tell(event);
                }
            } else if self.kept.len() + bytes.len() < self.needs {
                self.kept.extend_from_slice(bytes);
                return;
            } else {
                self.look(bytes, tools, true);
                bytes = &[];
                self.let_pass(tools);
            }
        }
    }

    /// A long record begins in what is kept.
    fn let_pass(&mut self, tools: &Tools) {
        if self.needs <= KEPT_BYTES_MAX {
            return;
        }
        let Some(mut passing) = Passing::begin(&self.kept, self.offset, tools.sign_key) else { return };
        if passing.length() <= self.kept.len() as u64 {
            return;
        }
        let (taken, ended) = passing.take(&self.kept[HEADER_BYTES..]);
        debug_assert!(ended.is_none() && taken + HEADER_BYTES == self.kept.len(), "it was not whole");
        self.offset += self.kept.len() as u64;
        self.kept.clear();
        (self.needs, self.synced) = (0, true);
        self.passing = Some(passing);
    }

    /// A part ends here, and with it the record that it holds: a request's body, a frame, the connection.
    pub fn end_part(&mut self, tools: &mut Tools) {
        if let Some(stated) = self.stated.take() {
            return match stated.judge() {
                // What is said beside a body signs nothing.
                Ok(span) if tools.sign_key.is_some() => self.told.push(Told::Spoiled(span, Flaw::Unsigned)),
                Ok(span) => self.tell(Event::Span(span)),
                Err(spoiled) => self.told.push(Told::Spoiled(spoiled, Flaw::Body)),
            };
        }
        if let Some(passing) = self.passing.take() {
            self.tell(passing.cut_off(self.offset));
        }
        if !self.kept.is_empty() {
            self.look(&[], tools, false);
        }
        if let Some(junk) = self.junk.take() {
            self.told.push(Told::Event { event: Event::Junk(junk), late: false });
            self.told.push(Told::End);
        }
        (self.needs, self.synced) = (0, true);
    }

    /// The receiver stops here: what is damaged so far is damaged, what is unfinished is nobody's fault.
    pub fn stop(&mut self) {
        if let Some(junk) = self.junk.take() {
            let event = Event::Junk(Junk { claim: None, ..junk });
            self.told.extend([Told::Event { event, late: false }, Told::End]);
        }
    }

    /// What comes now can be dropped again: see [`Self::drop_part`]. With `facts`, they tell which records it is.
    pub fn begin_part(&mut self, facts: Option<BodyFacts>) {
        self.part = self.told.len();
        self.stated = facts.map(|facts| Stated::new(facts, self.offset));
    }

    /// What came since then counts, and can be told.
    pub fn keep_part(&mut self) {
        for span in spans(&self.told[self.part..]) {
            raise(&mut self.reached, span);
        }
        self.part = self.told.len();
        self.untold_bytes += self.bytes() - self.settled;
        self.settled = self.bytes();
    }

    /// Whether there is something to tell.
    pub fn has_kept(&self) -> bool {
        self.part > 0
    }

    /// Forgets what came since the part began.
    pub fn drop_part(&mut self) {
        self.dropped.extend(spans(&self.told[self.part..]).map(|span| (span.key, (span.first, span.last))));
        let too_many = self.dropped.len().saturating_sub(DROPPED_MAX);
        self.dropped.drain(..too_many);
        self.newest.clone_from(&self.reached);
        self.told.truncate(self.part);
        self.offset = self.bytes();
        self.kept.clear();
        (self.junk, self.passing, self.stated, self.needs, self.synced) = (None, None, None, 0, true);
        self.settled = self.offset;
    }

    /// The highest sequence of each producer that came and was not dropped.
    pub fn reached(&self) -> impl Iterator<Item = (Key, u64)> + '_ {
        self.reached.iter().map(|(key, reached)| (*key, *reached))
    }

    pub(super) fn has_reached(&self, key: &Key) -> bool {
        self.reached.contains_key(key)
    }

    /// Records that came, were dropped and may come again.
    pub(super) fn dropped(&self) -> impl Iterator<Item = (Key, (u64, u64))> + '_ {
        self.dropped.iter().copied()
    }

    /// Whether a record or something else is unfinished.
    pub fn is_amid(&self) -> bool {
        self.passing.is_some() || !self.kept.is_empty()
    }

    fn look(&mut self, bytes: &[u8], tools: &mut Tools, goes_on: bool) {
        let kept = std::mem::take(&mut self.kept);
        let mut reader = kept.as_slice().chain(bytes);
        let mut window = Window::piece(&mut reader, std::mem::take(&mut tools.window), self.offset);
        let run = Cell::new(self.run);
        let needs = |bytes: &[u8], synced: bool| bytes_needed(bytes, synced, &run);
        loop {
            let scan = match goes_on {
                true => scan::scan_piece(&mut window, &tools.shape, self.synced, &needs),
                false => scan::scan(&mut window, &tools.shape, u64::MAX, self.synced),
            };
            // Reading from memory does not fail.
            let Ok(scan) = scan else { break };
            self.synced = scan.synced;
            scan.events.into_iter().for_each(|event| self.tell(event));
            self.needs = scan.wants_bytes.unwrap_or(0);
            if scan.at_source_end || scan.wants_bytes.is_some() {
                break;
            }
        }
        self.has_unchecked_signatures |= tools.shape.has_unchecked_signatures();
        let used = (window.offset() - self.offset) as usize;
        tools.window = window.into_buffer();
        self.offset += used as u64;
        let mut left = kept;
        let from_bytes = used.saturating_sub(left.len());
        left.drain(..used.min(left.len()));
        left.extend_from_slice(&bytes[from_bytes..]);
        self.kept = left;
    }

    /// Junk waits for what follows, so that a stretch is one, however it was cut.
    fn tell(&mut self, event: Event) {
        let event = match (event, &mut self.junk) {
            (Event::Junk(more), Some(open)) if open.end == more.start => {
                open.end = more.end;
                open.zeros &= more.zeros;
                return;
            }
            (Event::Junk(junk), open) => match open.replace(junk) {
                Some(before) => Event::Junk(before),
                None => return,
            },
            (event, open) => {
                if let Some(junk) = open.take() {
                    self.told.push(Told::Event { event: Event::Junk(junk), late: false });
                }
                event
            }
        };
        let late = match &event {
            Event::Span(span) => self.follow(span),
            _ => false,
        };
        let count = self.told.len();
        if let (Event::Span(span), Some(Told::Event { event: Event::Span(last), .. })) = (&event, self.told.last_mut())
            && self.part < count
            && last.join(span)
        {
            return;
        }
        self.told.push(Told::Event { event, late });
    }

    fn follow(&mut self, span: &Span) -> bool {
        self.run = Some(span.key.run);
        raise(&mut self.newest, span).is_some_and(|newest| span.first < newest && span.last < newest)
    }
}

/// Raises the highest sequence of the span's producer, and tells what it was; not where too many are followed already.
fn raise(highest: &mut HashMap<Key, u64>, span: &Span) -> Option<u64> {
    if highest.len() >= FOLLOWED_MAX && !highest.contains_key(&span.key) {
        return None;
    }
    let highest = highest.entry(span.key).or_insert(span.last);
    let before = *highest;
    *highest = span.last.max(before);
    Some(before)
}

fn spans(told: &[Told]) -> impl Iterator<Item = &Span> {
    told.iter().filter_map(|told| match told {
        Told::Event { event: Event::Span(span), .. } => Some(span),
        _ => None,
    })
}

/// A length is believed where a record should start; amid junk a long one only from the run that is known.
fn bytes_needed(bytes: &[u8], synced: bool, run: &Cell<Option<u64>>) -> usize {
    if bytes.len() < HEADER_BYTES {
        let begins = record::MAGIC.starts_with(&bytes[..bytes.len().min(record::MAGIC.len())]);
        return if begins { HEADER_BYTES } else { 0 };
    }
    let Some(header) = Header::decode(bytes) else { return 0 };
    let length = header.record_length as usize;
    let believed = synced || length <= KEPT_BYTES_MAX || run.get() == Some(header.run_id);
    if synced && run.get().is_none() {
        run.set(Some(header.run_id));
    }
    if believed && length as u64 <= limits::RECORD_BYTES_MAX { length } else { 0 }
}
