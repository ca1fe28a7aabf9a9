//! The way of a connection's records into the common books of `--verify`.

use crate::verify::findings::{Finding, Kind};
use crate::verify::live::{BodyFacts, Feed, Live, Outcome, TOLD_MAX, Tools};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So long the first record of a connection may be on its way; one that is silent for longer is idle.
const NEW_FOR: Duration = Duration::from_secs(1);

/// One thread's share of the verification.
pub struct Judge {
    live: Arc<Mutex<Live>>,
    tools: Tools,
    /// Records of one connection have to be in order.
    ordered: bool,
}

/// One connection's records.
pub struct Judged {
    feed: Feed,
    source: u32,
    opened: Instant,
}

impl Judge {
    pub fn new(live: Arc<Mutex<Live>>, sign_key: Option<[u8; 16]>, ordered: bool) -> Self {
        Self { live, tools: Tools::new(sign_key), ordered }
    }

    pub fn open(&self, name: impl FnOnce() -> String) -> Judged {
        Judged { feed: Feed::default(), source: lock(&self.live).source(name), opened: Instant::now() }
    }
}

impl Judged {
    /// The next bytes of payload.
    pub fn push(&mut self, bytes: &[u8], judge: &mut Judge) {
        self.feed.push(bytes, &mut judge.tools);
        if self.feed.waiting() > TOLD_MAX {
            self.feed.keep_part();
            self.tell(Outcome::Received, judge);
        }
    }

    /// `facts`: what was said beforehand of the records to come.
    pub fn begin_part(&mut self, facts: Option<BodyFacts>) {
        self.feed.begin_part(facts);
    }

    /// The body or frame is whole; what is to become of it is still open.
    pub fn end_part(&mut self, judge: &mut Judge) {
        self.feed.end_part(&mut judge.tools);
    }

    /// It counts from now on, once it is told.
    pub fn keep_part(&mut self) {
        self.feed.keep_part();
    }

    pub fn drop_part(&mut self) {
        self.feed.drop_part();
    }

    pub fn tell(&mut self, outcome: Outcome, judge: &Judge) {
        if self.feed.has_kept() {
            lock(&judge.live).tell(self.source, &mut self.feed, outcome, judge.ordered);
        }
    }

    /// The framing itself is broken.
    pub fn damage(&self, kind: Kind, what: String, judge: &Judge) {
        lock(&judge.live).damage(self.source, self.feed.bytes(), Finding::new(kind, what));
    }

    /// Whether a record is unfinished.
    pub fn is_amid(&self) -> bool {
        self.feed.is_amid()
    }

    /// The receiver ends the connection, wherever it is.
    pub fn stop(&mut self) {
        self.feed.stop();
    }

    /// The receiver itself ends: more might have come. `is_amid`: something had come in part.
    pub fn leave_open(&self, is_amid: bool, judge: &Judge) {
        let is_busy = is_amid || self.opened.elapsed() < NEW_FOR;
        lock(&judge.live).left_open(&self.feed, is_busy);
    }

    pub fn close(self, by_us: bool, judge: &Judge) {
        lock(&judge.live).close(&self.feed, by_us);
    }
}

fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}
