//! Where the data of a run lies, and the command that checks it.

use super::page::{Page, listed};
use crate::base::program::{self, quoted, quoted_path};
use crate::base::units::{format_amount, format_size, parse_size};
use crate::observe::report::Report;
use crate::plan::{FileLayout, ReportTarget, RunPlan};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Sources that the command names one by one.
const PLACES_NAMED_MAX: usize = 4;
/// What a topic is read with, by its key in the configuration.
const ACCESS: &[&str] = &["kafka-config", PROPERTY, "tls-ca", "tls-cert", "tls-key"];
const PROPERTY: &str = "kafka-property";
/// The same where a password was given in a file: else the properties say it.
const LOGIN: &[&str] = &["sasl-mechanism", "sasl-user", "sasl-password-file"];
/// How a property ends whose value may be a credential.
const MASK: &str = "=***";

/// Files or topics, and what can prove them.
pub struct Data {
    files: Vec<PathBuf>,
    topics: Vec<String>,
    /// What the files take, where that is known.
    size: Option<String>,
    /// A report that says what must be there.
    expect: Option<PathBuf>,
    /// Further flags of the command.
    flags: Vec<(&'static str, String)>,
    /// Properties that it cannot have: a report does not tell their values.
    masked: Vec<String>,
    verifiable: bool,
}

impl Data {
    pub fn of_run(report: &Report, plan: &RunPlan) -> Self {
        let path = match &plan.observe.report {
            Some(ReportTarget::File(path)) => Some(path.as_path()),
            _ => None,
        };
        let data = Self::of_report(report, path);
        Self { size: capacity(plan).map(format_size).or(data.size), ..data }
    }

    /// Of a report that lies at `path`, if it does.
    pub fn of_report(report: &Report, path: Option<&Path>) -> Self {
        let (config, producers) = (&report.config, &report.producers);
        let files: Vec<_> = producers.iter().filter_map(|of| of.file.as_ref()).map(PathBuf::from).collect();
        let topics = report.targets().into_iter().filter(|target| target.starts_with("kafka://"));
        let topics: Vec<_> = topics.map(str::to_owned).collect();
        // Without facts in the data no promise can be proved; a topic has the records of other runs, too.
        let annotate = config.get("annotate").and_then(Value::as_str);
        let is_rendered = config.get("payload_template").is_some_and(|template| !template.is_null());
        let expect = match annotate {
            Some("payload") if topics.is_empty() || !is_rendered => path,
            Some("headers") if !topics.is_empty() => path,
            _ => None,
        };
        let is_kept = producers.iter().any(|producer| producer.retained_first_sequence.is_some());
        Self {
            size: size(report, files.len() as u64),
            verifiable: if topics.is_empty() { is_kept && annotate != Some("off") } else { expect.is_some() },
            expect: expect.map(Path::to_owned),
            flags: flags(config, !topics.is_empty()),
            masked: if topics.is_empty() { Vec::new() } else { masked(config) },
            files,
            topics,
        }
    }

    pub(super) fn show(&self, page: &mut Page) {
        let places = self.places();
        if !places.is_empty() {
            let names: Vec<_> = places.iter().map(String::as_str).collect();
            let size = self.size.as_ref().map(|size| format!(" ({size})")).unwrap_or_default();
            page.long("data", &format!("{}{size}", listed(&names)));
        }
        let sources = [places, self.topics.clone()].concat();
        if !self.verifiable || sources.is_empty() {
            return;
        }
        let mut command = program::command("verify");
        for source in sources.iter().take(PLACES_NAMED_MAX) {
            command.push_str(&format!(" {}", quoted(source)));
        }
        if sources.len() > PLACES_NAMED_MAX {
            command.push_str(" ...");
        }
        if let Some(report) = &self.expect {
            command.push_str(&format!(" --expect {}", quoted_path(report)));
        }
        for (name, value) in &self.flags {
            command.push_str(&format!(" --{name} {}", quoted(value)));
        }
        page.long("verify with", &command);
        if !self.masked.is_empty() {
            let login = self.masked.join(", ");
            page.line("", &format!("the login must be given again: --kafka-config FILE with {login}"));
        }
    }

    /// Each once: a folder in place of the files that a run names in it.
    fn places(&self) -> Vec<String> {
        let mut places: Vec<String> = Vec::new();
        for file in &self.files {
            let in_folder = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("payloads."));
            let place = match file.parent().filter(|_| in_folder) {
                Some(folder) if folder != Path::new("") => format!("{}/", folder.display()),
                _ => file.display().to_string(),
            };
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }
}

/// Of rings and devices; `None` where files grow, or have no end.
fn capacity(plan: &RunPlan) -> Option<u64> {
    let capacities = plan.producers.iter().filter_map(|producer| match producer.file()?.layout {
        FileLayout::Ring { capacity_bytes } | FileLayout::Device { capacity_bytes } => Some(capacity_bytes),
        FileLayout::Rotating { .. } => None,
    });
    let all = capacities.reduce(u64::saturating_add)?;
    (all < u64::MAX).then_some(all)
}

/// As far as a report tells: of rings, or of files of which all is kept.
fn size(report: &Report, files: u64) -> Option<String> {
    let ring = match report.config.get("preallocate") {
        Some(Value::Number(bytes)) => bytes.as_u64(),
        Some(Value::String(text)) => parse_size(text).ok(),
        _ => None,
    };
    let keeps_all = report.config.get("retain").and_then(Value::as_str) == Some("all");
    match ring {
        _ if files == 0 => None,
        Some(bytes) => Some(format_size(bytes.saturating_mul(files))),
        None if keeps_all => {
            let (warmup, run) = (&report.warmup.totals, &report.totals);
            Some(format_amount(warmup.bytes_produced.saturating_add(run.bytes_produced)))
        }
        None => None,
    }
}

fn flags(config: &Map<String, Value>, of_topics: bool) -> Vec<(&'static str, String)> {
    let login: &[&'static str] = if said(config, "sasl-password-file").is_empty() { &[] } else { LOGIN };
    let access = if of_topics { [ACCESS, login].concat() } else { Vec::new() };
    let names = access.into_iter().chain(["sign-key"]);
    let all = names.flat_map(|name| said(config, name).into_iter().map(move |value| (name, value)));
    all.filter(|(name, value)| *name != PROPERTY || !value.ends_with(MASK)).collect()
}

/// Names of the properties that are shown without their values.
fn masked(config: &Map<String, Value>) -> Vec<String> {
    let all = said(config, PROPERTY).into_iter();
    all.filter_map(|property| property.strip_suffix(MASK).map(str::to_owned)).collect()
}

/// The values of a flag; none: it was not given.
fn said(config: &Map<String, Value>, flag: &str) -> Vec<String> {
    match config.get(&flag.replace('-', "_")) {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}
