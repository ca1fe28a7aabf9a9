//! Records that arrive piece by piece over many connections: each connection finds and checks its own, and all of
//! them are judged together.
//!
//! A producer may use several connections, and how they race is nobody's fault: order is judged within one, gaps
//! and duplicates over all.

mod arrivals;

use super::expect::Expected;
use super::findings::{Finding, Findings, Kind};
use super::intervals::{Place, subtract};
use super::ledger::{Ledger, Unit};
use super::scan::{self, Event, Junk, Run};
use super::shape::{Claim, Flaw, HeaderShape, Key};
use super::stream::{Rules, StreamFold};
use super::window::Window;
use super::{ids, passing};
use crate::base::limits;
use crate::record::{self, HEADER_BYTES, Header};
use passing::Passing;
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::io::Read;

pub use arrivals::{Arrivals, Inspector, Unsound};

/// Records up to this length are kept until they are whole; longer ones are checked as they pass.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Producers whose order one connection follows.
const FOLLOWED_MAX: usize = 1 << 12;
/// Connections that findings call by their name.
const NAMES_MAX: usize = 1 << 14;
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
enum Told {
    /// `late`: after a later one of the same producer on this connection.
    Event { event: Event, late: bool },
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
    junk: Option<Junk>,
    run: Option<u64>,
    newest: HashMap<Key, u64>,
    told: Vec<Told>,
    /// What was told before this part began.
    part: usize,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            offset: 0,
            kept: Vec::new(),
            needs: 0,
            synced: true,
            passing: None,
            junk: None,
            run: None,
            newest: HashMap::new(),
            told: Vec::new(),
            part: 0,
        }
    }
}

impl Feed {
    /// Bytes that came so far.
    pub fn bytes(&self) -> u64 {
        self.offset + self.kept.len() as u64
    }

    /// What waits to be told: see [`Live::tell`].
    pub fn waiting(&self) -> usize {
        self.told.len()
    }

    /// The next bytes of the connection.
    pub fn push(&mut self, mut bytes: &[u8], tools: &mut Tools) {
        while !bytes.is_empty() {
            if let Some(passing) = &mut self.passing {
                let (taken, ended) = passing.take(bytes);
                bytes = &bytes[taken..];
                self.offset += taken as u64;
                if let Some(event) = ended {
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

    /// What comes now can be dropped again: see [`Self::drop_part`].
    pub fn begin_part(&mut self) {
        self.part = self.told.len();
    }

    /// What came since then counts, and can be told.
    pub fn keep_part(&mut self) {
        self.part = self.told.len();
    }

    /// Whether there is something to tell.
    pub fn has_kept(&self) -> bool {
        self.part > 0
    }

    /// Forgets what came since the part began.
    pub fn drop_part(&mut self) {
        self.told.truncate(self.part);
        self.offset = self.bytes();
        self.kept.clear();
        (self.junk, self.passing, self.needs, self.synced) = (None, None, 0, true);
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
            Event::Run(run) => self.follow(run),
            _ => false,
        };
        let count = self.told.len();
        if let (Event::Run(run), Some(Told::Event { event: Event::Run(last), .. })) = (&event, self.told.last_mut())
            && self.part < count
            && last.key == run.key
            && last.end == run.start
            && last.last.checked_add(1) == Some(run.first)
        {
            (last.last, last.end) = (run.last, run.end);
            return;
        }
        self.told.push(Told::Event { event, late });
    }

    fn follow(&mut self, run: &Run) -> bool {
        self.run = Some(run.key.run);
        if self.newest.len() >= FOLLOWED_MAX && !self.newest.contains_key(&run.key) {
            return false;
        }
        let newest = self.newest.entry(run.key).or_insert(run.last);
        let late = run.first < *newest && run.last < *newest;
        *newest = run.last.max(*newest);
        late
    }
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
    sampled_every: Option<u64>,
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
            sampled_every: None,
        }
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
        if outcome == Outcome::Uncertain {
            feed.told.drain(..kept).for_each(|told| self.perhaps(&told, source));
            return;
        }
        for told in &feed.told[..kept] {
            let Told::Event { event: Event::Run(run), late } = told else { continue };
            let newest = self.ledger.tracks.get(&run.key).and_then(|track| track.seen.last());
            if newest.is_some_and(|newest| run.last < newest) && !(*late && ordered) {
                self.out_of_order += run.last - run.first + 1;
            }
        }
        let label = self.ledger.name_of(source).to_owned();
        let mut fold = StreamFold::new(&mut self.ledger, Rules { label, ..Rules::default() });
        for told in feed.told.drain(..kept) {
            match told {
                Told::Event { event, late } => {
                    fold.any_order(!(ordered && late));
                    fold.event(&event, Place { source, offset: event.start(), position: event.start() });
                }
                Told::End => fold.source_end(false),
            }
        }
        fold.finish();
    }

    fn perhaps(&mut self, told: &Told, source: u32) {
        if let Told::Event { event: Event::Run(run), .. } = told {
            let place = Place { source, offset: run.start, position: run.start };
            self.records_uncertain += run.last - run.first + 1;
            let _told_twice = self.uncertain.enter(run.key, run.first, run.last, place, run.end);
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
        self.ledger.findings.bytes += feed.bytes();
        self.cut_off += u64::from(by_us && feed.is_amid());
    }

    /// The last word.
    pub fn finish(mut self, label: &str, seconds: f64) -> Findings {
        let uncertain = std::mem::take(&mut self.uncertain.tracks);
        for (key, track) in uncertain {
            let missing = track.seen.first().zip(track.seen.last()).map_or_else(Vec::new, |(first, last)| {
                let holes: Vec<_> = track.seen.holes(first, last).iter().map(|hole| (hole.first, hole.last)).collect();
                subtract(first, last, &holes)
            });
            self.ledger.expected.insert(key, Expected { sequences: None, missing });
        }
        let runs = match self.runs.is_empty() {
            true => self.ledger.tracks.keys().map(|key| key.run).collect(),
            false => std::mem::take(&mut self.runs),
        };
        self.ledger.finish(&runs, label);
        let mut findings = self.ledger.findings;
        if self.out_of_order > 0 {
            findings.explain(format!("{} records came after later ones over another way", self.out_of_order));
        }
        if self.records_uncertain > 0 {
            findings.explain(format!("{} records came in requests that were left unanswered", self.records_uncertain));
        }
        if self.cut_off > 0 {
            findings.explain(format!("{} connections were ended from this side amid a record", self.cut_off));
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

pub(super) fn claim_of(header: &Header) -> Claim {
    Claim {
        key: Key { run: header.run_id, producer: header.producer_id },
        sequence: header.sequence,
        length: u64::from(header.record_length),
    }
}

/// What a record turned out to be.
pub(super) fn event_of(claim: Claim, start: u64, flaw: Option<Flaw>) -> Event {
    match flaw {
        Some(flaw) => Event::Flawed { start, claim, flaw },
        None => Event::Run(Run {
            key: claim.key,
            first: claim.sequence,
            last: claim.sequence,
            start,
            end: start + claim.length,
        }),
    }
}
