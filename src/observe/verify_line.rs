//! What is said while a reading goes on: the live line of `engine verify`.

use crate::base::progress::ReadProgress;
use crate::base::units::{format_amount, format_count, format_counted, format_rate_steady};
use crate::observe::live_line::{LivePart, clock, live_columns, side_by_side};
use crate::observe::logs::Console;
use crate::sys::threads;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What is read within it needs no line.
pub const TICK: Duration = Duration::from_secs(1);

/// Carries out `work`, and on a terminal shows how far it is. The line is gone when it is done.
pub fn watch<T>(console: &Console, progress: &ReadProgress, tick: Duration, work: impl FnOnce() -> T) -> T {
    if !console.has_live_line() {
        return work();
    }
    let result = std::thread::scope(|scope| {
        let (over, is_over) = channel::<()>();
        let mut line = Line::new(progress);
        let draw = move || {
            while is_over.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
                console.show(line.next(live_columns()));
            }
        };
        // Without the thread there is no line, which is no reason not to read.
        let _drawn = threads::start_scoped(scope, "live-line", "the live line", draw);
        let result = work();
        drop(over);
        result
    });
    console.clear();
    result
}

/// What is said where this signal ended it before its time.
pub fn stopped(signal: &str, progress: &ReadProgress) -> String {
    format!("stopped by {signal} after {}: nothing is judged", amount(progress))
}

/// `4.25 GB of 17 GB`, or of a topic `4.25 GB, 25,000 of 100,000 offsets`; without a known end the first of them.
fn amount(progress: &ReadProgress) -> String {
    let read = progress.bytes_read();
    match (progress.bytes_all(), progress.offsets()) {
        (Some(all), _) => format!("{} of {}", format_amount(read.min(all)), format_amount(all)),
        (None, Some((offsets, all))) => {
            format!("{}, {} of {}", format_amount(read), format_count(offsets), format_counted(all, "offset"))
        }
        (None, None) => format_amount(read),
    }
}

/// Turns the counters into the live line.
struct Line<'a> {
    progress: &'a ReadProgress,
    started: Instant,
    /// When the line before was made, and what was read by then.
    before: (Duration, u64),
    /// The last line without offsets: until then files may have been read.
    offsets_since: Option<Duration>,
}

/// A part of the line, those of least use first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Rate,
    Read,
    Left,
}

impl LivePart for Part {}

impl<'a> Line<'a> {
    fn new(progress: &'a ReadProgress) -> Self {
        Self { progress, started: Instant::now(), before: (Duration::ZERO, 0), offsets_since: None }
    }

    fn next(&mut self, columns: usize) -> String {
        self.next_at(self.started.elapsed(), columns)
    }

    /// `4.25 GB of 17 GB  512.0 MB/s  30s left`; without a known end the time that has passed.
    fn next_at(&mut self, elapsed: Duration, columns: usize) -> String {
        let read = self.progress.bytes_read();
        let (elapsed_before, read_before) = std::mem::replace(&mut self.before, (elapsed, read));
        let span_seconds = elapsed.saturating_sub(elapsed_before).as_secs_f64().max(1e-9);
        let rate = format_rate_steady(read.saturating_sub(read_before) as f64 / span_seconds);
        let time = match self.part_done(elapsed, elapsed_before) {
            None => clock(elapsed.as_nanos() as u64),
            Some((_, 0, _)) => "– left".to_owned(),
            Some((since, done, all)) => {
                let left_ns = since.as_nanos() as f64 * all.saturating_sub(done) as f64 / done as f64;
                format!("{} left", clock(left_ns as u64))
            }
        };
        let amount = amount(self.progress);
        side_by_side(vec![(Part::Read, amount), (Part::Rate, rate), (Part::Left, time)], columns)
    }

    /// In this time so much of so much was read: bytes, or offsets of a topic. `None`: nobody knows its end.
    fn part_done(&mut self, elapsed: Duration, elapsed_before: Duration) -> Option<(Duration, u64, u64)> {
        if let Some(all) = self.progress.bytes_all() {
            return Some((elapsed, self.progress.bytes_read(), all));
        }
        let (done, all) = self.progress.offsets()?;
        let since = *self.offsets_since.get_or_insert(elapsed_before);
        Some((elapsed.saturating_sub(since), done, all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::LogFormat;

    #[test]
    fn the_line_says_how_far_it_is_and_how_long_it_takes() {
        let progress = ReadProgress::default();
        progress.set_bytes_all(17_000_000_000);
        let mut line = Line::new(&progress);
        let mut at = |seconds, columns| line.next_at(Duration::from_secs(seconds), columns);
        assert_eq!(at(1, 80), "0 B of 17 GB  0 B/s  – left");
        progress.add(4_250_000_000);
        assert_eq!(at(10, 80), "4.25 GB of 17 GB  472.2 MB/s  30s left");
        progress.add(500_000_000);
        assert_eq!(at(11, 80), "4.75 GB of 17 GB  500.0 MB/s  28s left");
        assert_eq!(at(12, 30), "4.75 GB of 17 GB  31s left");
        assert_eq!(at(12, 10), "31s left");
        progress.add(20_000_000_000);
        assert_eq!(at(13, 30), "17 GB of 17 GB  0s left", "a record may reach past the end of its part");
    }

    #[test]
    fn of_a_topic_the_line_says_how_many_offsets_are_read() {
        let progress = ReadProgress::default();
        let mut line = Line::new(&progress);
        let mut at = |seconds| line.next_at(Duration::from_secs(seconds), 80);
        // Files before it have no end to tell.
        progress.add(2_000_000_000);
        assert_eq!(at(10), "2 GB  200.0 MB/s  10s");
        progress.set_offsets_all(100_000);
        assert_eq!(at(11), "2 GB, 0 of 100,000 offsets  0 B/s  – left");
        progress.add(1_000_000_000);
        progress.add_offsets(25_000);
        assert_eq!(at(20), "3 GB, 25,000 of 100,000 offsets  111.1 MB/s  30s left", "10 s of 40");
        let told = stopped("SIGINT", &progress);
        assert_eq!(told, "stopped by SIGINT after 3 GB, 25,000 of 100,000 offsets: nothing is judged");
        progress.add_offsets(80_000);
        assert_eq!(at(21), "3 GB, 100,000 of 100,000 offsets  0 B/s  0s left", "offsets that are gone count, too");
    }

    #[test]
    fn a_signal_is_told_how_far_it_was() {
        let progress = ReadProgress::default();
        progress.add(4_250_000_000);
        assert_eq!(stopped("SIGINT", &progress), "stopped by SIGINT after 4.25 GB: nothing is judged");
        progress.set_bytes_all(17_000_000_000);
        assert_eq!(stopped("SIGINT", &progress), "stopped by SIGINT after 4.25 GB of 17 GB: nothing is judged");
    }

    #[test]
    fn without_a_known_end_it_says_how_long_it_has_taken() {
        let progress = ReadProgress::default();
        let mut line = Line::new(&progress);
        progress.add(3_000_000);
        assert_eq!(line.next_at(Duration::from_secs(2), 80), "3 MB  1.50 MB/s  2s");
        assert_eq!(line.next_at(Duration::from_secs(65), 80), "3 MB  0 B/s  1m05s");
    }

    #[test]
    fn the_line_is_drawn_while_it_reads_and_gone_behind_it() {
        let (console, paper) = crate::observe::logs::tests::on_paper();
        let progress = ReadProgress::default();
        let drawn = || paper.lock().unwrap().clone();
        let read = watch(&console, &progress, Duration::from_millis(1), || {
            progress.add(5_000_000);
            while !drawn().contains("5 MB") {
                std::thread::yield_now();
            }
            7
        });
        assert_eq!(read, 7);
        assert!(drawn().ends_with("<clear>"), "{}", drawn());
        let length = drawn().len();
        // In a log there is none.
        let read = watch(&Console::new(LogFormat::Json), &progress, Duration::ZERO, || 8);
        assert_eq!((read, drawn().len()), (8, length));
    }
}
