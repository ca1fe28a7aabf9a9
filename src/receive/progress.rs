//! What a person at a terminal sees while the receiver listens: one line, new each second.

use crate::base::units::{format_amount, format_counted, format_rate_short};
use crate::observe::Console;
use crate::observe::progress::{columns, side_by_side};
use crate::verify::live::Live;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of payload that a thread has taken so far: it writes, anyone reads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Taken(AtomicU64);

impl Taken {
    /// Called by the owning thread alone.
    #[inline]
    pub fn set(&self, bytes: u64) {
        self.0.store(bytes, Relaxed);
    }
}

/// A part of the line, those of least use first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Amount,
    Records,
    Connections,
    Findings,
    Rate,
}

/// What the line shows.
#[derive(Clone, Copy, Debug, Default)]
struct Glance {
    open: u64,
    bytes_per_second: f64,
    bytes: u64,
    /// Records that were checked, and what was found.
    judged: Option<(u64, u64)>,
}

impl Glance {
    fn line_within(&self, columns: usize) -> String {
        let mut parts = vec![
            (Part::Connections, format_counted(self.open, "connection")),
            (Part::Rate, format_rate_short(self.bytes_per_second)),
            (Part::Amount, format!("{} so far", format_amount(self.bytes))),
        ];
        if let Some((records, findings)) = self.judged {
            parts.push((Part::Records, format!("{} checked", format_counted(records, "record"))));
            parts.push((Part::Findings, format_counted(findings, "finding")));
        }
        side_by_side(parts, columns)
    }
}

/// Keeps the line up to date.
pub struct Watch {
    console: Arc<Console>,
    live: Option<Arc<Mutex<Live>>>,
    taken: Vec<Arc<Taken>>,
    /// When the line was last shown, since the start, and the bytes of then.
    before: Option<(Duration, u64)>,
}

impl Watch {
    /// `None`: nobody would see it.
    pub fn new(console: &Arc<Console>, live: Option<Arc<Mutex<Live>>>, taken: Vec<Arc<Taken>>) -> Option<Self> {
        console.has_live_line().then(|| Self { console: console.clone(), live, taken, before: None })
    }

    /// Shows the line where it is time to; how long until it is again.
    pub fn tick(&mut self, elapsed: Duration, open: usize) -> Duration {
        let since = self.before.map(|(before, _)| elapsed.saturating_sub(before));
        if let Some(since) = since.filter(|since| *since < INTERVAL) {
            return INTERVAL - since;
        }
        let bytes: u64 = self.taken.iter().map(|taken| taken.0.load(Relaxed)).sum();
        let bytes_before = self.before.map_or(0, |(_, bytes)| bytes);
        // The first line is of no time yet.
        let bytes_per_second = since.map_or(0.0, |since| (bytes - bytes_before) as f64 / since.as_secs_f64());
        let judged = self.live.as_ref().map(|live| live.lock().unwrap_or_else(PoisonError::into_inner).so_far());
        self.before = Some((elapsed, bytes));
        let glance = Glance { open: open as u64, bytes_per_second, bytes, judged };
        self.console.show(glance.line_within(columns()));
        INTERVAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_whole_parts_and_keeps_those_that_matter() {
        let glance = Glance { open: 3, bytes_per_second: 1.25e9, bytes: 5_000_000_000, judged: Some((1_000, 1)) };
        let whole = glance.line_within(80);
        let parts: Vec<_> = whole.split("  ").collect();
        assert_eq!((parts.len(), parts[0]), (5, "3 connections"));
        assert_eq!(parts[3..], ["1,000 records checked", "1 finding"]);
        assert!(parts[1].ends_with("GB/s") && parts[2].ends_with("GB so far"), "{whole}");
        let narrow = glance.line_within(whole.chars().count() - 1);
        assert_eq!(narrow.split("  ").collect::<Vec<_>>(), [parts[0], parts[1], parts[3], parts[4]]);
        assert_eq!(glance.line_within(parts[1].chars().count()), parts[1]);
        let unjudged = Glance { judged: None, open: 1, ..glance }.line_within(80);
        assert!(unjudged.starts_with("1 connection  ") && !unjudged.contains("finding"), "{unjudged}");
    }

    #[test]
    fn where_nobody_watches_there_is_no_line() {
        assert!(Watch::new(&Console::new(crate::plan::LogFormat::Json), None, Vec::new()).is_none());
    }
}
