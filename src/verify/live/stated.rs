//! Bodies that carry nothing of ours: which records they are is said beside them (`--annotate headers`).

use crate::verify::scan::Span;
use crate::verify::shape::Key;
use crate::wire::crc32c;

/// What a request says of the records in its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyFacts {
    pub run: u64,
    pub producer: u32,
    /// Sequences of the first record and of the last one.
    pub first: u64,
    pub last: u64,
    /// Of the whole body.
    pub crc32c: u32,
}

/// A body that is held against what was said of it, as it goes by.
pub struct Stated {
    facts: BodyFacts,
    start: u64,
    bytes: u64,
    crc32c: u32,
}

impl Stated {
    /// `start`: the offset of its first byte.
    pub fn new(facts: BodyFacts, start: u64) -> Self {
        Self { facts, start, bytes: 0, crc32c: 0 }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.crc32c = crc32c::append(self.crc32c, bytes);
    }

    /// The body is whole: its records; `Err`: its checksum does not hold.
    pub fn judge(self) -> Result<Span, Span> {
        let BodyFacts { run, producer, first, last, crc32c } = self.facts;
        let (key, start, end) = (Key { run, producer }, self.start, self.start + self.bytes);
        let span = Span { key, first, last, start, end, stamped_unix_ns: (0, 0) };
        if crc32c == self.crc32c { Ok(span) } else { Err(span) }
    }
}
