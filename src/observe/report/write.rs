//! Where a report goes: a file, whole or not at all, or standard output.

use super::Report;
use crate::base::fatal::{Exit, Fatal};
use crate::base::paths::{self, Durability};
use crate::base::{limits, program};
use crate::plan::ReportTarget;
use crate::sys::streams::{write_stderr_line, write_stdout};
use serde::ser::Error;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// How long somebody who is to read a report is waited for.
const READER_PATIENCE: Duration = Duration::from_secs(60);
/// A reader at work takes something by then.
const READER_LATE: Duration = Duration::from_secs(1);

/// Writes the report of a run, as [`write_text`] does; says where seconds are left out, as for a pipe: who collects
/// logs cuts long lines.
pub fn write_run_report(report: &Report, target: &ReportTarget, is_done: &dyn Fn() -> bool) -> Result<(), Fatal> {
    let most = match target {
        ReportTarget::Stdout if !is_file(std::io::stdout()) => limits::INTERVALS_STDOUT_MAX,
        ReportTarget::Stdout | ReportTarget::File(_) => limits::INTERVALS_MAX,
    };
    let told = report.with_last(most);
    if let Some(line) = left_out(report, &told) {
        tracing::warn!(event = "report", "{line}");
    }
    put("report", "--report", &text_of(&*told, target), (target, durability(report)), is_done)
}

/// Where the data are to outlive a power cut, `verify --expect` reads the report after it.
fn durability(report: &Report) -> Durability {
    let never = report.config.get("fsync").is_some_and(|fsync| fsync == "never");
    if never { Durability::Cached } else { Durability::Synced }
}

impl Report {
    /// With no more than so many of its seconds, the last ones.
    fn with_last(&self, most: usize) -> Cow<'_, Self> {
        let older = self.intervals.len().saturating_sub(most);
        if older == 0 {
            return Cow::Borrowed(self);
        }
        let intervals = self.intervals[older..].to_vec();
        let intervals_dropped = self.intervals_dropped + older as u64;
        Cow::Owned(Self { intervals, intervals_dropped, ..self.clone() })
    }
}

fn left_out(report: &Report, told: &Report) -> Option<String> {
    let seconds = told.intervals_dropped - report.intervals_dropped;
    let kept = told.intervals.len();
    (seconds > 0).then(|| {
        format!(
            "the report on standard output has the last {kept} seconds one by one; {seconds} before them are left out, \
             and --report FILE keeps them"
        )
    })
}

/// A regular file, and no pipe, terminal or device.
fn is_file(out: impl AsFd) -> bool {
    let copy = out.as_fd().try_clone_to_owned();
    copy.and_then(|copy| File::from(copy).metadata()).is_ok_and(|facts| facts.is_file())
}

/// Writes the report: pretty JSON into a file (whole or not at all, and synced), one line on stdout.
///
/// Call it for stdout after everything else that goes there: the report is the last line.
pub fn write_report<T: Serialize>(report: &T, target: &ReportTarget) -> Result<(), Fatal> {
    put("report", "--report", &text_of(report, target), (target, Durability::Synced), &|| false)
}

fn text_of<T: Serialize>(report: &T, target: &ReportTarget) -> Vec<u8> {
    let text = match target {
        ReportTarget::Stdout => serde_json::to_vec(report),
        ReportTarget::File(_) => serde_json::to_vec_pretty(report),
    };
    let mut text = text.expect("every field of a report is plain data");
    text.push(b'\n');
    text
}

/// Pretty JSON has each number on a line of its own: of ranges there may be millions.
pub fn on_one_line<S: Serializer>(ranges: &[(u64, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::value::to_raw_value(ranges).map_err(S::Error::custom)?.serialize(serializer)
}

/// Writes what was made of a run into a file (whole or not at all) or to stdout; `what` and `flag` name it in errors. A
/// pipe without a reader is waited for, but not for ever, nor once somebody `is_done` waiting.
pub fn write_text(
    what: &str,
    flag: &str,
    text: &[u8],
    target: &ReportTarget,
    is_done: &dyn Fn() -> bool,
) -> Result<(), Fatal> {
    put(what, flag, text, (target, Durability::Cached), is_done)
}

fn put(
    what: &str,
    flag: &str,
    text: &[u8],
    (target, durability): (&ReportTarget, Durability),
    is_done: &dyn Fn() -> bool,
) -> Result<(), Fatal> {
    match target {
        ReportTarget::Stdout => write_stdout(text).map_err(|error| {
            Fatal::new(Exit::Failed, format!("the {what} could not be written to stdout: {error}"))
                .mend(format!("{flag} FILE"))
        }),
        ReportTarget::File(path) => {
            paths::put_when_read(path, text, durability, patience(path, is_done)).map_err(|error| {
                Fatal::new(Exit::Failed, format!("the {what} could not be written to {}: {error}", path.display()))
                    .mend(mend(flag, path, &error))
            })
        }
    }
}

/// Whether a reader is waited for any longer, having taken nothing for so long; whoever waits is told of it once.
fn patience<'a>(path: &'a Path, is_done: &'a dyn Fn() -> bool) -> impl FnMut(Duration) -> bool + 'a {
    let mut is_told = false;
    move |idle| {
        if idle > READER_LATE && !std::mem::replace(&mut is_told, true) {
            tell(&format!("waiting for a reader of {}", path.display()));
        }
        idle < if is_done() { READER_LATE } else { READER_PATIENCE }
    }
}

/// Commands that have no log say it all the same.
fn tell(line: &str) {
    match tracing::dispatcher::has_been_set() {
        true => tracing::warn!(event = "report", "{line}"),
        false => write_stderr_line(&format!("engine: {line}")),
    }
}

/// What makes room for the file, or where else it may go.
fn mend(flag: &str, path: &Path, error: &std::io::Error) -> String {
    let folder = program::quoted_path(paths::folder(path));
    match error.kind() {
        ErrorKind::NotFound => format!("mkdir -p {folder}"),
        // A device or a folder: neither is a file.
        _ if path.metadata().is_ok_and(|facts| !facts.is_file()) => format!("{flag} FILE"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            format!("free space for {folder} (df -h {folder}), or {flag} FILE elsewhere")
        }
        _ => format!("{flag} FILE in a folder that takes it; {folder} does not"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::report::Interval;
    use crate::observe::{read, testing};

    #[test]
    fn a_file_is_replaced_whole_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        std::fs::write(&path, "old").unwrap();
        let report = testing::report();
        write_report(&report, &ReportTarget::File(path.clone())).unwrap();
        let back: Report = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(back, report);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_report_is_synced_as_the_data_that_it_speaks_of() {
        let of = |fsync: &str| {
            let mut report = testing::report();
            report.config.insert("fsync".into(), fsync.into());
            durability(&report)
        };
        let [cached, synced] = [Durability::Cached, Durability::Synced];
        assert_eq!(["never", "end", "each"].map(of), [cached, synced, synced]);
        assert_eq!(durability(&testing::report()), synced, "what has no files, a topic say, is verified, too");
    }

    #[test]
    fn ranges_take_one_line_and_no_more_room_than_is_reckoned_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let target = ReportTarget::File(path.clone());
        let mut report = testing::report();
        let mut written = |count: usize| {
            report.producers[0].missing = vec![(u64::MAX - 1, u64::MAX); count];
            write_report(&report, &target).unwrap();
            assert_eq!(read::report(&path).unwrap(), report);
            std::fs::read_to_string(&path).unwrap()
        };
        let (none, all) = (written(0), written(limits::MISSING_RANGES_MAX));
        assert_eq!(all.lines().count(), none.lines().count());
        let more_bytes = (all.len() - none.len()) as u64;
        assert!(more_bytes <= limits::MISSING_RANGES_MAX as u64 * limits::MISSING_RANGE_BYTES_MAX, "{more_bytes}");
    }

    #[test]
    fn a_missing_folder_is_named_with_its_mend() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no/such/report.json");
        let fatal = write_report(&testing::report(), &ReportTarget::File(path.clone())).unwrap_err();
        assert_eq!(fatal.exit, Exit::Failed);
        assert!(fatal.what.contains(&path.display().to_string()), "{fatal}");
        assert!(fatal.mend.unwrap().starts_with("mkdir -p "));
    }

    #[test]
    fn what_is_no_file_is_told_to_be_one() {
        let written =
            |path: &str| write_text("page", "--html", b"x", &ReportTarget::File(path.into()), &|| false).unwrap_err();
        let full = written("/dev/full");
        assert!(full.what.contains("could not be written to /dev/full"), "{full}");
        assert_eq!(full.mend.as_deref(), Some("--html FILE"));
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(written(&folder.path().display().to_string()).mend.as_deref(), Some("--html FILE"));
        let (path, full) = (folder.path().join("r.json"), ErrorKind::StorageFull.into());
        let told = mend("--report", &path, &full);
        assert!(told.contains("free space") && told.contains("--report FILE elsewhere"), "{told}");
    }

    #[test]
    fn through_a_pipe_a_long_run_has_its_last_seconds_alone_and_says_so() {
        let second = |at: usize| Interval { start_seconds: at as f64, ..Interval::default() };
        let intervals = (0..limits::INTERVALS_STDOUT_MAX + 100).map(second).collect();
        let report = Report { intervals, intervals_dropped: 7, ..testing::report() };
        let line = report.with_last(limits::INTERVALS_STDOUT_MAX);
        assert_eq!((line.intervals.len(), line.intervals_dropped), (limits::INTERVALS_STDOUT_MAX, 107));
        assert_eq!((line.intervals[0].start_seconds, &line.totals), (100.0, &report.totals));
        let said = left_out(&report, &line).unwrap();
        assert!(said.contains("100 before them") && said.contains("--report FILE"), "{said}");
        let whole = report.with_last(limits::INTERVALS_MAX);
        assert_eq!((&*whole, left_out(&report, &whole)), (&report, None));
    }

    #[test]
    fn a_file_is_told_from_a_pipe_and_a_device() {
        assert!(is_file(tempfile::tempfile().unwrap()));
        assert!(!is_file(File::open("/dev/null").unwrap()));
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(!is_file(&writer) && !is_file(reader));
    }

    #[test]
    fn a_file_has_every_second_of_a_long_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let intervals = vec![Interval::default(); limits::INTERVALS_STDOUT_MAX + 1];
        let report = Report { intervals, ..testing::report() };
        write_run_report(&report, &ReportTarget::File(path.clone()), &|| false).unwrap();
        let back: Report = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(back, report);
    }
}
