//! What a person reads at the end: at most 20 lines of at most 80 columns.

use crate::base::units::{format_count, format_duration, format_rate, format_rate_short, format_size};
use crate::observe::logs::Console;
use crate::observe::report::{Confirmation, Distribution, Governance, LimitedBy, Report};
use crate::plan::{Annotate, FileLayout, LogFormat, ReportTarget, RunPlan};
use crate::wire::http::status::status_line;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const COLUMNS: usize = 80;
const LABEL: usize = 11;

/// Prints the summary to stderr, since stdout belongs to payload and report: a page for a reader, one line of
/// JSON for a collector.
pub fn print_summary(console: &Console, report: &Report, plan: &RunPlan) {
    console.clear();
    match console.format {
        LogFormat::Text => console.write(render(report, plan).as_bytes()),
        LogFormat::Json => log_summary(report),
    }
}

fn log_summary(report: &Report) {
    let (totals, response) = (&report.totals, &report.latency_seconds.response);
    tracing::info!(
        event = "summary",
        run_id = report.run_id,
        exit_code = report.exit_code,
        elapsed_seconds = report.elapsed_seconds,
        records_offered = totals.records_offered,
        records_produced = totals.records_produced,
        records_failed = totals.records_failed,
        records_uncertain = totals.records_uncertain,
        records_not_sent = totals.records_not_sent,
        retries = totals.retries,
        bytes_produced = totals.bytes_produced,
        bytes_per_second = report.throughput.bytes_per_second,
        records_per_second = report.throughput.records_per_second,
        achieved_ratio = report.pacing.achieved_ratio,
        response_p50_seconds = response.p50,
        response_p99_seconds = response.p99,
        response_p999_seconds = response.p999,
        response_max_seconds = response.max,
        service_p99_seconds = report.latency_seconds.service.p99,
        cpu_seconds_per_gigabyte = report.cpu.seconds_per_gigabyte,
        limited_by = report.verdict.limited_by.name(),
        evidence = report.verdict.evidence.join("; "),
        ended_early = report.ended_early,
        "summary"
    );
}

/// The summary at the end of a run, with a newline at its end.
pub fn render(report: &Report, plan: &RunPlan) -> String {
    let mut page = body(report);
    data(&mut page, &data_of_plan(plan));
    if let Some(ReportTarget::File(path)) = &plan.observe.report {
        page.long("report", &path.display().to_string());
    }
    if let Some(path) = &plan.observe.html {
        page.long("page", &path.display().to_string());
    }
    page.0
}

/// The summary of a report that lies at `path`.
pub fn render_again(report: &Report, path: &Path) -> String {
    let mut page = body(report);
    data(&mut page, &data_of_report(report, path));
    page.long("report", &path.display().to_string());
    page.0
}

fn body(report: &Report) -> Page {
    let mut page = Page::default();
    let (totals, throughput) = (&report.totals, &report.throughput);
    page.line("run", &what_ran(report));
    let (records, size) = (format_count(totals.records_produced), format_size(totals.bytes_produced));
    let elapsed = format_duration((report.elapsed_seconds * 1e9) as u64);
    let fsync = match (report.final_fsync_seconds * 1e9) as u64 {
        0..1_000_000 => String::new(),
        ns => format!(", final fsync {}", format_duration(ns)),
    };
    page.line("produced", &format!("{records} records, {size} in {elapsed}{fsync}"));
    let per_second = format_count(throughput.records_per_second.round() as u64);
    page.line("rate", &format!("{}, {per_second} records/s", format_rate(throughput.bytes_per_second)));
    if totals.logical_bytes_produced != totals.bytes_produced {
        page.line("logical", &format_rate(throughput.logical_bytes_per_second));
    }
    if totals.lent_bytes > 0 {
        page.line("lent", &format!("{}: the target read them in place", format_size(totals.lent_bytes)));
    }
    if let Some(ratio) = report.payload.compression_ratio {
        let wire = format_size(totals.wire_bytes);
        page.line("compressed", &format!("to {wire} on the wire: {ratio:.2} bytes of payload for each"));
    }
    if let (Some(target), Some(ratio)) = (report.pacing.target_bytes_per_second, report.pacing.achieved_ratio) {
        let percent = (ratio * 10_000.0).floor() / 100.0;
        let late = format_count(report.pacing.catch_up_records);
        page.line("pacing", &format!("{percent:.2} % of {}, {late} records sent late", format_rate_short(target)));
    }
    page.text(format!("{:LABEL$}{:>11}{:>11}{:>11}{:>11}", "", "p50", "p99", "p99.9", "max"));
    page.latency("response", &report.latency_seconds.response, totals.records_produced);
    page.latency("service", &report.latency_seconds.service, totals.records_produced);
    if let Some(line) = clamped(report) {
        page.line("", &line);
    }
    page.line("errors", &errors(report));
    if let Some(line) = refused(report) {
        page.line("refused", &line);
    }
    if totals.records_not_sent > 0 {
        page.line("not sent", &format!("{} records due but never submitted", format_count(totals.records_not_sent)));
    }
    if totals.audit_lines_dropped > 0 {
        let dropped = format_count(totals.audit_lines_dropped);
        page.line("audit", &format!("{dropped} lines dropped: the log could not keep up"));
    }
    if let Some(line) = report.governance.as_ref().and_then(governance) {
        page.line("governance", &line);
    }
    page.line("cpu", &cpu(report));
    let by = match report.verdict.limited_by {
        LimitedBy::Rate => "the rate asked for",
        LimitedBy::Target => "the target",
        LimitedBy::Generator => "the generator",
        LimitedBy::Host => "the host",
    };
    let evidence = report.verdict.evidence.first().map(|first| format!(": {first}")).unwrap_or_default();
    page.wrapped("limited by", &format!("{by}{evidence}"), 2);
    let missed: Vec<_> = report.slo.iter().filter(|slo| !slo.passed).map(|slo| slo.expression.as_str()).collect();
    if !report.slo.is_empty() {
        let text = if missed.is_empty() { "all met".into() } else { format!("missed: {}", missed.join(", ")) };
        page.wrapped("slo", &text, 2);
    }
    if let Some(why) = &report.ended_early {
        page.wrapped("ended early", why, 2);
    }
    page
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn text(&mut self, line: String) {
        self.0.extend(line.chars().take(COLUMNS).map(visible));
        self.0.push('\n');
    }

    fn line(&mut self, label: &str, text: &str) {
        self.text(format!("{label:LABEL$} {text}"));
    }

    /// Paths and commands are never cut: a terminal wraps them and they can still be copied.
    fn long(&mut self, label: &str, text: &str) {
        self.0.extend(format!("{label:LABEL$} {text}").chars().map(visible));
        self.0.push('\n');
    }

    /// At most so many lines, broken between words.
    fn wrapped(&mut self, label: &str, text: &str, lines_max: usize) {
        let mut lines = vec![String::new()];
        for word in text.split_whitespace() {
            let last = lines.last_mut().expect("there is always a last line");
            if !last.is_empty() && last.len() + 1 + word.len() > COLUMNS - LABEL - 1 {
                lines.push(word.to_owned());
            } else {
                last.push_str(if last.is_empty() { "" } else { " " });
                last.push_str(word);
            }
        }
        for (at, line) in lines.iter().take(lines_max).enumerate() {
            self.line(if at == 0 { label } else { "" }, line);
        }
    }

    fn latency(&mut self, label: &str, of: &Distribution, produced: u64) {
        let say = |value: Option<f64>| match value {
            Some(seconds) => format_duration((seconds * 1e9).round() as u64),
            // Among the records that were never confirmed.
            None if produced > 0 => "never".to_owned(),
            None => "-".to_owned(),
        };
        let (p50, p99, p999, max) = (say(of.p50), say(of.p99), say(of.p999), say(of.max));
        self.text(format!("{label:LABEL$}{p50:>11}{p99:>11}{p999:>11}{max:>11}"));
    }
}

/// A report may come from anywhere: what it holds does not steer a terminal.
fn visible(c: char) -> char {
    if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }
}

fn what_ran(report: &Report) -> String {
    let plural = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let producers = &report.producers;
    let targets = report.targets();
    let targets = match targets.first() {
        Some(one) if targets.len() == 1 => (*one).to_owned(),
        _ => plural(targets.len(), "target"),
    };
    let on = match report.is_merged() {
        // Several hosts have cores of one number.
        true => String::new(),
        false => {
            let cores: BTreeSet<_> = producers.iter().map(|producer| producer.core).collect();
            format!(" on {}", plural(cores.len(), "core"))
        }
    };
    format!("{} to {targets}, {}{on}", report.run_id, plural(producers.len(), "producer"))
}

fn errors(report: &Report) -> String {
    let again = match report.totals.retries {
        0 => String::new(),
        count => format!("; {} blocks sent again", format_count(count)),
    };
    let (failed, uncertain) = (report.totals.records_failed, report.totals.records_uncertain);
    let kinds: Vec<_> = report.errors.iter().filter(|(_, count)| **count > 0).collect();
    if failed + uncertain == 0 && kinds.is_empty() {
        return match report.confirmation {
            Confirmation::Target => format!("none{again}"),
            Confirmation::Kernel => format!("none (nothing beyond the kernel confirms){again}"),
        };
    }
    let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{kind} {}", format_count(**count))).collect();
    format!("{} failed, {} uncertain ({}){again}", format_count(failed), format_count(uncertain), kinds.join(", "))
}

/// Where the figures of latencies are no longer true.
fn clamped(report: &Report) -> Option<String> {
    let count = report.latency_seconds.response.records_clamped;
    (count > 0).then(|| format!("{} records took an hour or more: nothing longer is told apart", format_count(count)))
}

/// What the targets said first of all when they did not take a request.
fn refused(report: &Report) -> Option<String> {
    let first: BTreeSet<_> = report.producers.iter().filter_map(|producer| producer.first_refused_status).collect();
    let lines: Vec<_> = first.into_iter().map(status_line).collect();
    (!lines.is_empty()).then(|| format!("first with {}", lines.join(", ")))
}

/// Only where something is missing.
fn governance(told: &Governance) -> Option<String> {
    let (posted, offered) = (format_count(told.posted), format_count(told.events_offered));
    let whole = told.posted == told.events_offered && told.not_announced == 0;
    let unheard =
        if told.not_announced > 0 { format!(", {} calls not taken", told.not_announced) } else { String::new() };
    (!whole).then(|| format!("{posted} of {offered} events posted{unheard}; see the log"))
}

fn cpu(report: &Report) -> String {
    let cpu = &report.cpu;
    let per_gigabyte = cpu.seconds_per_gigabyte.map(|of| format!("{of:.3} s/GB ")).unwrap_or_default();
    format!("{per_gigabyte}(user {:.2} s, system {:.2} s)", cpu.user_seconds, cpu.system_seconds)
}

/// Files, and what can prove them.
struct Data {
    files: Vec<PathBuf>,
    /// What rings take; `None` where files grow.
    bytes: Option<u64>,
    /// A report that says what must be there.
    expect: Option<PathBuf>,
    verifiable: bool,
}

fn data_of_plan(plan: &RunPlan) -> Data {
    let files = || plan.producers.iter().filter_map(|producer| producer.file());
    let mut bytes = None;
    for file in files() {
        if let FileLayout::Ring { capacity_bytes } | FileLayout::Device { capacity_bytes } = file.layout {
            bytes = Some(bytes.unwrap_or(0u64).saturating_add(capacity_bytes));
        }
    }
    let expect = match &plan.observe.report {
        // Without facts in the data no promise can be proved.
        Some(ReportTarget::File(path)) if plan.payload.annotate == Annotate::Payload => Some(path.clone()),
        _ => None,
    };
    let endless = bytes == Some(u64::MAX);
    Data {
        files: files().map(|file| file.data.clone()).collect(),
        bytes: bytes.filter(|_| !endless),
        expect,
        verifiable: !endless,
    }
}

fn data_of_report(report: &Report, path: &Path) -> Data {
    let annotated = report.config.get("annotate").and_then(Value::as_str) == Some("payload");
    Data {
        files: report.producers.iter().filter_map(|producer| producer.file.as_ref()).map(PathBuf::from).collect(),
        bytes: None,
        expect: annotated.then(|| path.to_owned()),
        verifiable: report.producers.iter().any(|producer| producer.retained_first_sequence.is_some()),
    }
}

/// Where the data lies, and the command that checks it.
fn data(page: &mut Page, of: &Data) {
    let mut places: Vec<String> = Vec::new();
    for file in &of.files {
        let in_folder = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("payloads."));
        let place = match file.parent().filter(|_| in_folder) {
            Some(folder) if folder != Path::new("") => format!("{}/", folder.display()),
            _ => file.display().to_string(),
        };
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let [first, rest @ ..] = places.as_slice() else { return };
    let size = of.bytes.map(|bytes| format!(" ({})", format_size(bytes))).unwrap_or_default();
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    page.long("data", &format!("{first}{more}{size}"));
    if !of.verifiable {
        return;
    }
    let expect = of.expect.as_ref().map(|path| format!(" --expect {}", quoted(&path.display().to_string())));
    let sources: Vec<_> = places.iter().take(4).map(|place| quoted(place)).collect();
    let dots = if places.len() > 4 { " ..." } else { "" };
    page.long("verify with", &format!("engine verify {}{dots}{}", sources.join(" "), expect.unwrap_or_default()));
}

/// As a shell wants it.
pub fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,=".contains(c);
    if path.chars().all(plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing;

    #[test]
    fn the_fullest_summary_fits_a_screen() {
        let run = testing::full_run();
        let mut report = testing::report_of(&run);
        let told = Governance { events_offered: 12_000, posted: 9_998, not_announced: 1, ..Governance::default() };
        report.governance = Some(told.clone());
        let text = render(&report, &run.shared.plan);
        let whole = Governance { posted: 12_000, not_announced: 0, ..told };
        assert!(
            text.contains("governance  9,998 of 12,000 events posted, 1 calls not taken")
                && governance(&whole).is_none()
        );
        assert!(text.lines().count() <= 20, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        for part in [
            "produced    ",
            "p99.9",
            "errors",
            "io 3",
            "not sent",
            "audit       4 lines dropped",
            "limited by  the target: it took",
            "missed: p99.99<1ms",
            "data        data/ (32 MiB)",
            "verify with engine verify data/ --expect 'my report.json'",
            "report      my report.json",
        ] {
            assert!(text.contains(part), "'{part}' is missing in:\n{text}");
        }
    }

    #[test]
    fn a_report_read_again_has_the_summary_of_its_run() {
        let run = testing::full_run();
        let report = testing::report_of(&run);
        let first = render(&report, &run.shared.plan);
        let again = render_again(&report, "my report.json".as_ref());
        let body = |text: &str| text.split_once("\ndata ").unwrap().0.to_owned();
        assert_eq!(body(&again), body(&first));
        assert!(again.contains("verify with engine verify data/\n"), "{again}");
    }

    #[test]
    fn what_was_refused_says_how() {
        let mut report = testing::report();
        assert_eq!(refused(&report), None);
        report.producers[1].first_refused_status = Some(404);
        report.producers[0].first_refused_status = Some(503);
        let text = render_again(&report, "r.json".as_ref());
        assert!(text.contains("\nrefused     first with 404 Not Found, 503 Service Unavailable\n"), "{text}");
    }

    #[test]
    fn latencies_beyond_the_histogram_are_told() {
        let mut report = testing::report();
        assert_eq!(clamped(&report), None);
        report.latency_seconds.response.records_clamped = 12_345;
        let text = render_again(&report, "r.json".as_ref());
        assert!(text.contains("12,345 records took an hour or more"), "{text}");
    }

    #[test]
    fn no_report_steers_the_terminal() {
        let mut report = testing::report();
        report.run_id = "\u{1b}[2J".into();
        report.producers[0].file = Some("\u{1b}]0;x\u{7}".into());
        let text = render_again(&report, "\u{1b}c.json".as_ref());
        assert!(text.chars().all(|c| !c.is_control() || c == '\n'), "{text:?}");
    }

    #[test]
    fn percentiles_among_lost_records_say_so() {
        let run = testing::full_run();
        let report = testing::report_of(&run);
        assert_eq!(report.latency_seconds.response.p999, None);
        let text = render(&report, &run.shared.plan);
        let response = text.lines().find(|line| line.starts_with("response")).unwrap();
        assert!(response.contains("never"), "{text}");
    }

    #[test]
    fn words_wrap_and_stop() {
        let mut page = Page::default();
        page.wrapped("label", &"word ".repeat(100), 2);
        assert_eq!(page.0.lines().count(), 2);
        assert!(page.0.lines().all(|line| line.len() <= COLUMNS && line.ends_with("word")));
    }

    #[test]
    fn shells_get_quotes_where_they_need_them() {
        assert_eq!(quoted("engine-data/"), "engine-data/");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
    }
}
