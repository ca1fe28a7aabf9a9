//! Logs and the live line share stderr; the console keeps them out of each other's way.

use crate::base::units::format_counted;
use crate::observe::live_terminal::{LiveTerminal, erases};
use crate::observe::wrap::broken_between_words;
use crate::plan::LogFormat;
use crate::sys::streams::{self, Taken};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tracing::Dispatch;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{DefaultFields, FormatFields, Writer};
use tracing_subscriber::layer::SubscriberExt;

/// The live line is not drawn more often, whoever asks.
const DRAWN_HZ_MAX: u8 = 20;

/// Stderr: log lines, and at most one live line below them.
pub struct Console {
    live: ProgressBar,
    pub format: LogFormat,
    /// Writes that stderr has not taken, one behind the other.
    lost: AtomicU64,
    /// The last one that stderr took anything of has no end.
    is_torn: AtomicBool,
}

impl Console {
    /// A live line exists only for text on a terminal that can take it away again.
    pub fn new(format: LogFormat) -> Arc<Self> {
        let erases = erases(std::env::var_os("TERM").as_deref());
        let drawn = format == LogFormat::Text && erases && io::stderr().is_terminal();
        let target = match drawn {
            true => ProgressDrawTarget::term_like_with_hz(Box::<LiveTerminal>::default(), DRAWN_HZ_MAX),
            false => ProgressDrawTarget::hidden(),
        };
        Self::with_target(format, target)
    }

    fn with_target(format: LogFormat, target: ProgressDrawTarget) -> Arc<Self> {
        // `wide_msg` cuts at the terminal's width, so that a line never wraps whatever is shown.
        let style = ProgressStyle::with_template("{wide_msg}").expect("the template is a constant");
        let live = ProgressBar::with_draw_target(None, target).with_style(style);
        Arc::new(Self { live, format, lost: AtomicU64::new(0), is_torn: AtomicBool::new(false) })
    }

    pub fn has_live_line(&self) -> bool {
        !self.live.is_hidden()
    }

    /// A terminal that is stopped (Ctrl-S) would hold up who draws on it.
    pub fn show(&self, line: String) {
        if !self.is_stuck(Duration::ZERO) {
            self.live.set_message(line);
        }
    }

    /// The live line is on a terminal that takes nothing for this long.
    fn is_stuck(&self, patience: Duration) -> bool {
        self.has_live_line() && !streams::takes_bytes_within(patience)
    }

    /// Removes the live line for good.
    pub fn clear(&self) {
        if self.is_stuck(Duration::ZERO) {
            self.live.set_draw_target(ProgressDrawTarget::hidden());
        }
        self.live.finish_and_clear();
    }

    /// Writes whole lines above the live line. A stderr that is gone does not end a run, and one that nobody reads
    /// does not hold it up: who was waited for once is not waited for again until it reads.
    pub fn write(&self, text: &[u8]) {
        let patience = if self.lost.load(Relaxed) == 0 { streams::PATIENCE } else { Duration::ZERO };
        if self.is_stuck(patience) {
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        self.live.suspend(|| self.pass_on(text, streams::write_stderr));
    }

    /// `write`: to stderr, with so much patience.
    fn pass_on(&self, text: &[u8], write: impl Fn(&[u8], Duration) -> Taken) {
        let lost = self.lost.load(Relaxed);
        // It is short, and taken whole or not at all.
        let heard = lost == 0 || write(&self.gap(lost), Duration::ZERO) == Taken::All;
        if !heard {
            self.lost.store(lost + 1, Relaxed);
            return;
        }
        let taken = write(text, streams::PATIENCE);
        self.is_torn.store(taken == Taken::Part, Relaxed);
        self.lost.store(u64::from(taken != Taken::All), Relaxed);
    }

    /// The same of text, whose lines break between words on a terminal.
    pub fn write_lines(&self, text: &str) {
        match streams::stderr_columns().filter(|_| self.has_live_line()) {
            Some(columns) => self.write(broken_between_words(text, columns).as_bytes()),
            None => self.write(text.as_bytes()),
        }
    }

    /// What stands where lines are missing.
    fn gap(&self, lost: u64) -> Vec<u8> {
        let message = format!("missing here: {}; nobody read standard error", format_counted(lost, "message"));
        let end = if self.is_torn.load(Relaxed) { "\n" } else { "" };
        let line = match self.format {
            LogFormat::Text => format!("{end}{message}\n"),
            LogFormat::Json => {
                let event = serde_json::json!({"level": "WARN", "event": "lost", "lost": lost, "message": message});
                format!("{end}{event}\n")
            }
        };
        line.into_bytes()
    }
}

/// Makes `console` the place of all `tracing` events of this process; the first call wins.
pub fn init(console: &Arc<Console>) {
    let (format, timed) = (console.format, !console.has_live_line());
    let writer_of = console.clone();
    let writer = move || ConsoleWriter(writer_of.clone());
    let _ = tracing::dispatcher::set_global_default(subscriber(writer, format, timed));
}

/// One JSON object a line, or text; a person who watches needs no times.
fn subscriber<W>(writer: W, format: LogFormat, timed: bool) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // A second Kafka client tells of its every step.
    let levels = Targets::new().with_default(LevelFilter::INFO).with_target("rskafka", LevelFilter::WARN);
    let builder = tracing_subscriber::fmt().with_writer(writer).with_target(false);
    match format {
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_span_list(false);
            builder.finish().with(levels).into()
        }
        LogFormat::Text if timed => builder.fmt_fields(TextFields).finish().with(levels).into(),
        LogFormat::Text => builder.fmt_fields(TextFields).without_time().finish().with(levels).into(),
    }
}

/// In a text, an event of ours is its message: the other fields are for machines, and say the same. Libraries, whose
/// events have no field `event`, may say there what their message leaves out. Either may quote foreign text.
struct TextFields;

impl<'writer> FormatFields<'writer> for TextFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut seen = Seen::default();
        fields.record(&mut seen);
        let mut text = seen.message;
        if !seen.is_ours {
            text.clear();
            DefaultFields::new().format_fields(Writer::new(&mut text), fields)?;
        }
        writer.write_str(&streams::printable(&text))
    }
}

#[derive(Default)]
struct Seen {
    is_ours: bool,
    message: String,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "event" => self.is_ours = true,
            // Its text, without quotes.
            "message" => self.message = format!("{value:?}"),
            _ => {}
        }
    }
}

#[derive(Clone)]
struct ConsoleWriter(Arc<Console>);

impl Write for ConsoleWriter {
    /// An event arrives in one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_lines(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use indicatif::TermLike;
    use std::sync::Mutex;

    /// Runs `body` with its events captured, one line each.
    pub fn capture(format: LogFormat, body: impl FnOnce()) -> Vec<String> {
        #[derive(Clone, Default)]
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let sink = Sink::default();
        let clone = sink.clone();
        tracing::dispatcher::with_default(&subscriber(move || clone.clone(), format, true), body);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    /// A terminal that remembers what was written to it.
    #[derive(Clone, Debug)]
    struct Paper(u16, Arc<Mutex<String>>);

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            self.0
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)?;
            self.write_str("\n")
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.1.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.write_str("<clear>")
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A console with a live line, and what is drawn there.
    pub fn on_paper() -> (Arc<Console>, Arc<Mutex<String>>) {
        let written = Arc::new(Mutex::new(String::new()));
        let target = ProgressDrawTarget::term_like(Box::new(Paper(20, written.clone())));
        (Console::with_target(LogFormat::Text, target), written)
    }

    #[test]
    fn the_live_line_is_cut_at_the_width_and_cleared_at_the_end() {
        let (console, written) = on_paper();
        assert!(console.has_live_line());
        console.show("937.5 MB/s  avg 937.4 MB/s  and much more that does not fit".into());
        let drawn = written.lock().unwrap().clone();
        assert!(drawn.contains("937.5 MB/s  avg"), "{drawn}");
        assert!(!drawn.contains('\n') && !drawn.contains("fit"), "{drawn}");
        console.clear();
        assert!(written.lock().unwrap().ends_with("<clear>"), "{written:?}");
    }

    #[test]
    fn a_gap_in_the_log_says_how_long_it_is() {
        let gap = |format, lost| String::from_utf8(Console::new(format).gap(lost)).unwrap();
        assert_eq!(gap(LogFormat::Text, 7), "missing here: 7 messages; nobody read standard error\n");
        assert_eq!(gap(LogFormat::Text, 1), "missing here: 1 message; nobody read standard error\n");
        let line: serde_json::Value = serde_json::from_str(&gap(LogFormat::Json, 7)).unwrap();
        assert_eq!((&line["lost"], &line["level"]), (&7.into(), &"WARN".into()));
    }

    #[test]
    fn what_follows_half_a_line_has_a_line_of_its_own() {
        let console = Console::new(LogFormat::Json);
        let written = Mutex::new(Vec::new());
        let pass_on = |text: &str, taken| {
            console.pass_on(text.as_bytes(), |bytes, _| {
                let of_text = bytes == text.as_bytes();
                let taken = if of_text || taken == Taken::Nothing { taken } else { Taken::All };
                let until = match taken {
                    Taken::All => bytes.len(),
                    Taken::Part => bytes.len() / 2,
                    Taken::Nothing => 0,
                };
                written.lock().unwrap().extend_from_slice(&bytes[..until]);
                taken
            });
        };
        for taken in [Taken::Part, Taken::Nothing, Taken::All, Taken::Nothing, Taken::All] {
            pass_on("{\"event\":\"start\"}\n", taken);
        }
        let bytes = written.into_inner().unwrap();
        let lines: Vec<_> = std::str::from_utf8(&bytes).unwrap().lines().collect();
        let json = |line: &&str| serde_json::from_str::<serde_json::Value>(line).ok();
        let events: Vec<_> =
            lines.iter().map(|line| json(line).map(|of| (of["event"].clone(), of["lost"].as_u64()))).collect();
        let (start, lost) = (|| Some(("start".into(), None)), |n| Some(("lost".into(), Some(n))));
        assert_eq!(events, [None, lost(2), start(), lost(1), start()], "{lines:?}");
    }

    #[test]
    fn json_never_draws() {
        assert!(!Console::new(LogFormat::Json).has_live_line());
    }

    #[test]
    fn in_a_text_an_event_is_its_message() {
        let lines = capture(LogFormat::Text, || {
            tracing::info!(event = "memory", memory = "plain", "a ring of 8 MiB");
            tracing::warn!(error = "broken", "somebody else's");
            tracing::info!(target: "rskafka::client", "a step");
            tracing::warn!(target: "rskafka::client", "a problem");
        });
        let ends = ["INFO a ring of 8 MiB", "WARN somebody else's error=\"broken\"", "WARN a problem"];
        assert!(lines.len() == 3 && lines.iter().zip(ends).all(|(line, end)| line.ends_with(end)), "{lines:?}");
    }

    #[test]
    fn no_foreign_text_steers_the_terminal() {
        let lines = capture(LogFormat::Text, || {
            tracing::warn!(event = "refused", "it said \u{1b}[2J\u{9b}1A");
            tracing::warn!("it said \u{1b}[2J\r");
        });
        let escapes = |line: &String| line.split("it said ").nth(1).is_none_or(|said| said.contains(char::is_control));
        assert!(lines.len() == 2 && !lines.iter().any(escapes), "{lines:?}");
    }

    #[test]
    fn json_events_are_flat_objects() {
        let lines = capture(LogFormat::Json, || tracing::info!(event = "start", producer = 3u32, "hello"));
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(
            (&line["event"], &line["producer"], &line["message"]),
            (&"start".into(), &3.into(), &"hello".into())
        );
        assert!(line["timestamp"].is_string() && line["level"] == "INFO");
    }
}
