//! What a person at a terminal sees while the receiver listens: one line, new each second.

use crate::base::units::{format_amount, format_counted, format_rate_steady};
use crate::observe::Console;
use crate::observe::live_line::{LivePart, RATE_ROOM, live_columns, side_by_side};
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

impl LivePart for Part {
    fn room(self) -> usize {
        match self {
            Part::Rate => RATE_ROOM,
            Part::Amount => "999.9 GB so far".len(),
            Part::Connections | Part::Records | Part::Findings => 0,
        }
    }
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
            (Part::Rate, format_rate_steady(self.bytes_per_second)),
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
pub struct LiveLine {
    console: Arc<Console>,
    live: Option<Arc<Mutex<Live>>>,
    taken: Vec<Arc<Taken>>,
    /// When the line was last shown, since the start, and the bytes of then.
    before: Option<(Duration, u64)>,
}

impl LiveLine {
    /// `None`: nobody would see it.
    pub fn new(console: &Arc<Console>, live: Option<Arc<Mutex<Live>>>, taken: Vec<Arc<Taken>>) -> Option<Self> {
        console.has_live_line().then(|| Self { console: console.clone(), live, taken, before: None })
    }

    /// Shows the line where it is time to; how long until it is again.
    pub fn tick(&mut self, elapsed: Duration, open: usize) -> Duration {
        if let Some((before, _)) = self.before
            && elapsed < before + INTERVAL
        {
            return before + INTERVAL - elapsed;
        }
        let line = self.glance(elapsed, open).line_within(live_columns());
        self.console.show(line);
        INTERVAL
    }

    fn glance(&mut self, elapsed: Duration, open: usize) -> Glance {
        let bytes: u64 = self.taken.iter().map(|taken| taken.0.load(Relaxed)).sum();
        let bytes_per_second = match self.before.replace((elapsed, bytes)) {
            Some((before, bytes_before)) => (bytes - bytes_before) as f64 / (elapsed - before).as_secs_f64(),
            // The first line is of no time yet.
            None => 0.0,
        };
        let judged = self.live.as_ref().map(|live| live.lock().unwrap_or_else(PoisonError::into_inner).so_far());
        Glance { open: open as u64, bytes_per_second, bytes, judged }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::logs::tests::on_paper;
    use crate::verify::findings::{Finding, Kind};

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
        assert_eq!(glance.line_within(RATE_ROOM), parts[1]);
        let slow = Glance { bytes_per_second: 0.0, bytes: 5, ..glance };
        assert_eq!(glance.line_within(70).split("  ").count(), slow.line_within(70).split("  ").count());
        let unjudged = Glance { judged: None, open: 1, ..glance }.line_within(80);
        assert!(unjudged.starts_with("1 connection  ") && !unjudged.contains("finding"), "{unjudged}");
    }

    #[test]
    fn the_line_is_drawn_once_an_interval() {
        let (console, paper) = on_paper();
        let taken: [Arc<Taken>; 2] = Default::default();
        let mut line = LiveLine::new(&console, None, taken.to_vec()).expect("paper has a live line");
        let drawn = || std::mem::take(&mut *paper.lock().unwrap());
        let at = Duration::from_millis;
        // The paper is 20 columns wide.
        assert_eq!(line.tick(at(3), 0), INTERVAL);
        assert!(drawn().contains("0 connections  0 B/s"), "of no time yet");
        taken[0].set(2_000_000_000);
        taken[1].set(600_000_000);
        assert_eq!((line.tick(at(403), 2), drawn().as_str()), (at(600), ""));
        assert_eq!((line.tick(at(1_002), 2), drawn().as_str()), (at(1), ""));
        assert_eq!(line.tick(at(2_003), 2), INTERVAL);
        // Over the time that really passed, and as wide as the next.
        assert!(drawn().contains("2 connections  1.30"));
        assert_eq!(line.tick(at(2_503), 2), at(500));
    }

    #[test]
    fn what_it_shows_is_of_the_time_since_the_line_before() {
        let live = Arc::new(Mutex::new(Live::new(None)));
        let taken = Arc::new(Taken::default());
        let mut line = LiveLine::new(&on_paper().0, Some(live.clone()), vec![taken.clone()]).expect("paper has a line");
        let mut shown = |seconds| line.glance(Duration::from_secs(seconds), 1).line_within(usize::MAX);
        taken.set(5_000_000_000);
        assert_eq!(shown(1), "1 connection  0 B/s  5 GB so far  0 records checked  0 findings");
        taken.set(9_600_000_000);
        let mut books = live.lock().unwrap();
        let source = books.source(|| "somebody".to_owned());
        books.damage(source, 0, Finding::new(Kind::Unrecognised, "no record"));
        drop(books);
        assert_eq!(shown(3), "1 connection  2.30 GB/s  9.6 GB so far  0 records checked  1 finding");
        assert_eq!(shown(4), "1 connection  0 B/s  9.6 GB so far  0 records checked  1 finding");
    }

    #[test]
    fn where_nobody_watches_there_is_no_line() {
        assert!(LiveLine::new(&Console::new(crate::plan::LogFormat::Json), None, Vec::new()).is_none());
    }
}
