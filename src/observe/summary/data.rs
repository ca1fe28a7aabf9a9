//! Where the data of a run lies, and the command that checks it.

use super::Page;
use crate::base::program::{self, quoted};
use crate::base::units::format_size;
use crate::observe::report::Report;
use crate::plan::{Annotate, FileLayout, ReportTarget, RunPlan};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Sources that the command names one by one.
const PLACES_NAMED_MAX: usize = 4;

/// Files, and what can prove them.
pub struct Data {
    files: Vec<PathBuf>,
    /// What rings take; `None` where files grow.
    bytes: Option<u64>,
    /// A report that says what must be there.
    expect: Option<PathBuf>,
    /// What the records were signed with.
    sign_key: Option<String>,
    verifiable: bool,
}

impl Data {
    pub fn of_plan(plan: &RunPlan) -> Self {
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
        Self {
            files: files().map(|file| file.data.clone()).collect(),
            bytes: bytes.filter(|_| !endless),
            expect,
            sign_key: sign_key(&plan.effective_config),
            verifiable: !endless,
        }
    }

    /// Of a report that lies at `path`.
    pub fn of_report(report: &Report, path: &Path) -> Self {
        let annotated = report.config.get("annotate").and_then(Value::as_str) == Some("payload");
        Self {
            files: report.producers.iter().filter_map(|producer| producer.file.as_ref()).map(PathBuf::from).collect(),
            bytes: None,
            expect: annotated.then(|| path.to_owned()),
            sign_key: sign_key(&report.config),
            verifiable: report.producers.iter().any(|producer| producer.retained_first_sequence.is_some()),
        }
    }

    pub(super) fn show(&self, page: &mut Page) {
        let places = self.places();
        let [first, rest @ ..] = places.as_slice() else { return };
        let size = self.bytes.map(|bytes| format!(" ({})", format_size(bytes))).unwrap_or_default();
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        page.long("data", &format!("{first}{more}{size}"));
        if !self.verifiable {
            return;
        }
        let mut command = program::command("verify");
        for place in places.iter().take(PLACES_NAMED_MAX) {
            command.push_str(&format!(" {}", quoted(place)));
        }
        if places.len() > PLACES_NAMED_MAX {
            command.push_str(" ...");
        }
        if let Some(report) = &self.expect {
            command.push_str(&format!(" --expect {}", quoted(&report.display().to_string())));
        }
        if let Some(key) = &self.sign_key {
            command.push_str(&format!(" --sign-key {}", quoted(key)));
        }
        page.long("verify with", &command);
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

fn sign_key(config: &Map<String, Value>) -> Option<String> {
    config.get("sign_key").and_then(Value::as_str).map(str::to_owned)
}
