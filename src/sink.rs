//! Where blocks go. The loop is monomorphic in the sink; `run` picks it with one match.
//!
//! A sink serves all lanes of its core through the core's one `Ring`. It knows nothing of pacing, keeps no
//! books and, after construction, neither allocates nor blocks (`close` aside).

pub mod file;
pub mod null;
pub mod stdout;

use crate::base::fatal::Fatal;
use crate::counters::Field;
use crate::payload::Payload;
use crate::sys::ring::{Ring, Wait};
use std::io;

/// What became of the records of a block that were not produced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Known not to have arrived; the field counts the kind of error.
    Failed(Field),
    /// Sent, outcome unknown.
    Uncertain(Field),
    /// The target went away in good order before it took them.
    NotSent,
}

/// A block's last completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub lane: u32,
    pub slot: u32,
    /// The target has the block's first so many bytes: the records that lie wholly within them were produced,
    /// `rest` says what became of the others.
    pub bytes: u64,
    pub rest: Rest,
}

/// What ends a run before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The reader of a pipe closed it: a normal end.
    Closed,
    /// Words for the user.
    Broken(String),
}

/// What a lane's target still holds after `close`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// `None`: all that was produced.
    pub first_sequence: Option<u64>,
}

pub trait Sink<R: Ring> {
    /// Bytes that the lane's next block may have; 0: no room now. `next_length` is its first record's length:
    /// a sink that rotates does it when that would not fit.
    fn room(&mut self, ring: &mut R, lane: usize, next_length: u64) -> u64;

    /// Takes a block that `room` allowed. `hurry`: nothing may follow soon, so nothing of it may be held back.
    fn offer(&mut self, ring: &mut R, lane: usize, slot: u32, payload: &Payload, hurry: bool);

    /// Submits for all lanes at once and lets completions arrive.
    fn submit(&mut self, ring: &mut R, wait: Wait) -> io::Result<()>;

    /// Moves the blocks that are done into `done`, which has room for all in flight.
    fn reap(&mut self, ring: &mut R, now_ns: u64, done: &mut Vec<Done>);

    /// Pushes out what is held back (a tail that waits for its sector to fill); called while draining.
    fn flush(&mut self, ring: &mut R);

    /// Why the run must end, if it must.
    fn ending(&self) -> Option<&Ending>;

    /// After the drain: final fsync and manifest. Blocks.
    fn close(&mut self, ring: &mut R, lane: usize, end: &LaneClose) -> Result<Kept, Fatal>;
}

/// What the loop knows of a lane when it closes.
#[derive(Clone, Debug, Default)]
pub struct LaneClose {
    /// Sequences that were submitted but not produced.
    pub missing: Vec<(u64, u64)>,
    pub next_sequence: u64,
}
