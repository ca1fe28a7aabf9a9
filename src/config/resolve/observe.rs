//! What the run shows of itself, and its name.

use crate::base::fatal::Fatal;
use crate::base::paths::{self, Landing};
use crate::base::{limits, program, random};
use crate::config::Deps;
use crate::config::keys::{KEYS, Kind};
use crate::config::load::Settings;
use crate::config::resolve::files::unwritable;
use crate::config::resolve::governance;
use crate::config::slo;
use crate::config::values::{Wanted, report_target};
use crate::plan::{LogFormat, ObservePlan, ReportTarget, SinkKind, Slo, SloMetric};
use crate::sys;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

pub fn resolve(
    settings: &Settings,
    wanted: &Wanted,
    kind: SinkKind,
    deps: &Deps,
    errors: &mut Vec<Fatal>,
) -> ObservePlan {
    if kind == SinkKind::Stdout && wanted.report == Some(ReportTarget::Stdout) {
        let text = settings.one("report").map_or("-", |given| given.text.as_str());
        let what = format!("--report {text} would end up in the middle of the records on standard output");
        errors.push(Fatal::usage(what).mend("--report=report.json"));
    } else if let Some(report) = &wanted.report {
        check_report(report, errors);
    }
    if let Some(ReportTarget::File(path)) = &wanted.report {
        reject_input("report", path, settings, errors);
    }
    if let Some(path) = &wanted.html {
        check_page(path, wanted.report.as_ref(), errors);
        reject_input("html", path, settings, errors);
    }
    let interval_ns = wanted.stats_interval_ns;
    if interval_ns == 0 || !interval_ns.is_multiple_of(limits::SNAPSHOT_INTERVAL_NS) {
        let text = settings.one("stats-interval").map_or("", |given| given.text.as_str());
        let what = format!("--stats-interval '{text}' is no multiple of 100ms");
        errors.push(Fatal::usage(what).mend("--stats-interval=1s"));
    }
    check_slos(&wanted.slo, errors);
    let default_format = if deps.terminal { LogFormat::Text } else { LogFormat::Json };
    ObservePlan {
        metrics_addr: wanted.metrics_addr.as_deref().and_then(|text| address(text, deps, errors)),
        metrics_hold_ns: wanted.metrics_hold_ns,
        log_format: wanted.log_format.unwrap_or(default_format),
        stats_interval_ns: interval_ns,
        report: wanted.report.clone(),
        html: wanted.html.clone(),
        audit_every: wanted.audit_every,
        governance: governance::resolve(wanted, errors),
        slo: wanted.slo.iter().map(|slo| slo::part_of(slo, wanted.shard.1)).collect(),
    }
}

/// A longer time is none that a record could be told to have taken.
fn check_slos(slos: &[Slo], errors: &mut Vec<Fatal>) {
    let most = limits::LATENCY_NS_MAX as f64 / 1e9;
    let is_time = |slo: &&Slo| matches!(slo.metric, SloMetric::ResponseQuantile(_));
    for slo in slos.iter().filter(is_time).filter(|slo| slo.threshold > most) {
        let what = format!("--slo {}: response times are measured up to an hour", slo.expression);
        errors.push(Fatal::usage(what).mend(program::flag("slo", "p99<1h")));
    }
}

fn check_page(path: &Path, report: Option<&ReportTarget>, errors: &mut Vec<Fatal>) {
    if path == Path::new("-") || paths::is_stdout(path) {
        let what = format!("--html {} would mix a page into what else goes to standard output", path.display());
        errors.push(Fatal::usage(what).mend("--html=report.html, or afterwards: engine report REPORT.json --html -"));
        return;
    }
    check_place("html", path, "report.html", errors);
    let same = |report: &Path| paths::end(report) == paths::end(path) && (path.is_file() || !path.exists());
    if matches!(report, Some(ReportTarget::File(report)) if same(report)) {
        let what = format!("--html and --report are both '{}'", path.display());
        errors.push(Fatal::usage(what).mend("--report=report.json --html=report.html"));
    }
}

/// A result in the place of a file that the run reads would destroy it at the end.
pub fn reject_input(flag: &str, result: &Path, settings: &Settings, errors: &mut Vec<Fatal>) {
    let inputs = KEYS.iter().filter(|key| key.kind == Kind::Path && !matches!(key.name, "report" | "html"));
    for (key, given) in inputs.filter_map(|key| Some((key, settings.one(key.name)?))) {
        if replaces(result, Path::new(given.text.trim())) {
            let (shown, origin) = (result.display(), given.origin(key));
            let what = format!("--{flag} '{shown}' is a file that the run itself reads ({origin})");
            errors.push(Fatal::usage(what).mend(format!("--{flag}=another place")));
            return;
        }
    }
}

/// The same of what a command is given to read.
pub fn reject_overwriting(flag: &str, to: Option<&ReportTarget>, inputs: &[PathBuf], errors: &mut Vec<Fatal>) {
    let Some(ReportTarget::File(result)) = to else { return };
    if let Some(input) = inputs.iter().find(|input| replaces(result, input)) {
        let (shown, input) = (result.display(), input.display());
        let what = format!("--{flag} '{shown}' would take the place of '{input}', which is read");
        errors.push(Fatal::usage(what).mend(format!("--{flag}=another place")));
    }
}

/// Whether a result there destroys what is read from `input`: a file or, as with templates, all files of a folder.
fn replaces(result: &Path, input: &Path) -> bool {
    let (end, input) = (paths::end(result), paths::end(input));
    end.is_file() && (input == end || input == paths::folder(&end))
}

/// Where `--report` leads, of which it is known now whether it can be written.
pub fn checked_report_target(text: &str, errors: &mut Vec<Fatal>) -> ReportTarget {
    let to = report_target(text);
    check_report(&to, errors);
    to
}

fn check_report(to: &ReportTarget, errors: &mut Vec<Fatal>) {
    match to {
        ReportTarget::File(path) => check_place("report", path, "report.json", errors),
        ReportTarget::Stdout if sys::streams::stdout_is_writable() => {}
        ReportTarget::Stdout => {
            let what = "--report: standard output is closed, or not open for writing";
            errors.push(Fatal::host(what).mend("--report=report.json"));
        }
    }
}

/// After the run it would be too late to hear that its report has no place.
pub fn check_place(flag: &str, path: &Path, example: &str, errors: &mut Vec<Fatal>) {
    let (shown, folder) = (path.display(), paths::folder(path));
    if path.is_dir() {
        let file = path.join(example);
        let mend = program::flag(flag, &file.to_string_lossy());
        errors.push(Fatal::usage(format!("--{flag} '{shown}' is a folder")).mend(mend));
    } else if !folder.is_dir() {
        let what = format!("--{flag} '{shown}': there is no folder {}", folder.display());
        errors.push(Fatal::usage(what).mend(format!("mkdir -p {}", program::quoted_path(folder))));
    } else if let Err(fatal) = check_landing(flag, path) {
        errors.push(fatal);
    }
}

/// Where the path's links lead, this process may write.
fn check_landing(flag: &str, path: &Path) -> Result<(), Fatal> {
    let shown = path.display();
    let lost = |why: io::Error| Fatal::usage(format!("--{flag} '{shown}' leads nowhere: {why}"));
    let elsewhere = |fatal: Fatal| fatal.mend(format!("--{flag}=another place"));
    let there = match Landing::of(path).map_err(|why| elsewhere(lost(why)))? {
        Landing::Stream(to) if to.metadata().is_ok_and(|facts| facts.file_type().is_socket()) => {
            let what = format!("--{flag} '{shown}' is a socket, which nobody can open");
            return Err(elsewhere(Fatal::usage(what)));
        }
        Landing::Stream(to) => to,
        // A file that takes bytes needs no folder that takes files.
        Landing::File(to) if sys::fs::may_write(&to) => return Ok(()),
        Landing::File(to) if !paths::may_be_replaced(&to) => {
            let what = format!("--{flag} '{shown}' is another user's, in a folder where only owners replace files");
            return Err(elsewhere(Fatal::host(what)));
        }
        Landing::File(to) => paths::folder(&to).to_owned(),
    };
    sys::fs::check_write(&there).map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => lost(why).mend(format!("mkdir -p {}", program::quoted_path(&there))),
        _ => {
            let fatal = unwritable(path, &there, &why);
            Fatal { what: format!("--{flag}: {}", fatal.what), ..fatal }
        }
    })
}

/// `:9090` is every interface, of both address families where the host has IPv6.
fn address(text: &str, deps: &Deps, errors: &mut Vec<Fatal>) -> Option<SocketAddr> {
    let every = if deps.sysfs.path("/proc/net/if_inet6").exists() { "[::]" } else { "0.0.0.0" };
    let full = if text.starts_with(':') { format!("{every}{text}") } else { text.to_owned() };
    match full.to_socket_addrs().map(|mut found| found.next()) {
        Ok(Some(address)) => Some(address),
        Ok(None) => {
            errors.push(Fatal::usage(format!("--metrics-addr '{text}' has no address")).mend("--metrics-addr=:9090"));
            None
        }
        Err(why) => {
            let what = format!("--metrics-addr '{text}': {why}");
            errors.push(Fatal::usage(what).mend("--metrics-addr=:9090 or --metrics-addr=127.0.0.1:9090"));
            None
        }
    }
}

/// As given, or 64 random bits: the run id goes into file names of tools, labels and CSV, so it stays plain.
pub fn run_id(wanted: &Wanted, errors: &mut Vec<Fatal>) -> String {
    let Some(text) = &wanted.run_id else {
        return format!("{:016x}", random::bits());
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.len() > limits::RUN_ID_BYTES_MAX || !text.chars().all(plain) {
        let most = limits::RUN_ID_BYTES_MAX;
        let what = format!("--run-id '{text}': only letters, digits, . _ and -, at most {most}");
        errors.push(Fatal::usage(what).mend("--run-id=nightly-7"));
    }
    text.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fatal::Exit;
    use crate::config::values;
    use crate::host::fake::Tree;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    fn deps(tree: &Tree) -> Deps {
        Deps { sysfs: tree.sysfs(), ..Deps::new(|| Ok(())) }
    }

    #[test]
    fn addresses_as_the_operator_writes_them() {
        let bare = Tree::new(&[]);
        let dual = Tree::new(&[("/proc/net/if_inet6", "")]);
        let read = |text: &str, tree: &Tree| address(text, &deps(tree), &mut Vec::new()).map(|a| a.to_string());
        assert_eq!(read(":9090", &bare).as_deref(), Some("0.0.0.0:9090"));
        assert_eq!(read(":9090", &dual).as_deref(), Some("[::]:9090"));
        assert_eq!(read("127.0.0.1:1", &bare).as_deref(), Some("127.0.0.1:1"));
        for text in ["9090", ":", ":99999", "127.0.0.1", "127.0.0.1:x"] {
            let mut errors = Vec::new();
            assert_eq!(address(text, &deps(&bare), &mut errors), None, "{text}");
            assert!(errors[0].what.contains(text));
        }
    }

    #[test]
    fn a_report_has_a_place_or_the_run_does_not_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("runs")).unwrap();
        symlink("runs/1.json", path("latest.json")).unwrap();
        symlink("gone/1.json", path("lost.json")).unwrap();
        let _listener = UnixListener::bind(path("socket")).unwrap();
        let check = |path: &Path| {
            let mut errors = Vec::new();
            check_place("report", path, "report.json", &mut errors);
            errors
        };
        for good in [path("r.json"), path("latest.json"), "/dev/null".into(), "r.json".into()] {
            let errors = check(&good);
            assert!(errors.is_empty(), "{errors:?}");
        }
        // The last one nobody may make, whoever he is.
        for bad in [path("runs"), path("none/r.json"), path("lost.json"), path("socket"), "/proc/r.json".into()] {
            let errors = check(&bad);
            assert_eq!((errors.len(), errors[0].exit), (1, Exit::Usage), "{errors:?}");
            assert!(errors[0].what.contains(&bad.display().to_string()) && errors[0].mend.is_some(), "{errors:?}");
        }
    }

    #[test]
    fn a_page_has_a_place_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        symlink("r.json", path("latest")).unwrap();
        let refused = |page: &Path, report: ReportTarget| {
            let mut errors = Vec::new();
            check_page(page, Some(&report), &mut errors);
            errors.first().map(|fatal| fatal.what.clone())
        };
        let report = || ReportTarget::File(path("latest"));
        assert_eq!(refused(&path("r.html"), report()), None);
        // Neither is there yet, but both lead to one place.
        assert!(refused(&path("r.json"), report()).unwrap().contains("--html and --report are both"));
        assert_eq!(refused(Path::new("/dev/null"), ReportTarget::File("/dev/null".into())), None);
        for own in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
            assert!(refused(Path::new(own), report()).unwrap().contains("standard output"), "{own}");
        }
    }

    #[test]
    fn a_result_is_no_file_that_the_run_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("templates")).unwrap();
        for name in ["run.json", "r.json", "templates/a.json"] {
            std::fs::write(path(name), "{}").unwrap();
        }
        symlink("run.json", path("latest")).unwrap();
        let mut settings = Settings::default();
        settings.put("config", Some(path("run.json").display().to_string()));
        settings.put("payload-template", Some(path("templates/").display().to_string()));
        settings.put("report", Some(path("r.json").display().to_string()));
        let refused = |result: &Path| {
            let mut errors = Vec::new();
            reject_input("report", result, &settings, &mut errors);
            errors.first().map(|fatal| fatal.what.clone())
        };
        let (config, template) = ("--config", "--payload-template");
        for (name, origin) in [("run.json", config), ("latest", config), ("templates/a.json", template)] {
            let what = refused(&path(name)).unwrap();
            assert!(what.ends_with(&format!("{name}' is a file that the run itself reads ({origin})")), "{what}");
        }
        for other in [path("r.json"), path("new.json"), path("templates/new.json"), "/dev/null".into()] {
            assert_eq!(refused(&other), None, "{}", other.display());
        }
        let reports = [path("r.json"), path("run.json")];
        for (result, is_refused) in [(path("latest"), true), (path("r.json"), true), (path("new.json"), false)] {
            let mut errors = Vec::new();
            reject_overwriting("html", Some(&ReportTarget::File(result.clone())), &reports, &mut errors);
            assert_eq!(errors.len(), usize::from(is_refused), "{}: {errors:?}", result.display());
        }
    }

    #[test]
    fn run_ids_are_plain_or_random() {
        let mut wanted = values::read(&Settings::default(), &mut Vec::new());
        let mut errors = Vec::new();
        let (first, second) = (run_id(&wanted, &mut errors), run_id(&wanted, &mut errors));
        assert!(first.len() == 16 && first != second && errors.is_empty());
        for text in ["a,b", "a b", "\u{e9}", &"x".repeat(65)] {
            wanted.run_id = Some(text.to_owned());
            run_id(&wanted, &mut errors);
        }
        assert_eq!(errors.len(), 4);
    }
}
