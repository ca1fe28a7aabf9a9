//! Reports that others wrote, as `report`, `compare` and `merge` take them.

use super::Scratch;
use engine::compare;
use engine::config::slo;
use engine::merge;
use engine::observe::report::Report;
use engine::observe::{html, read, summary};
use engine::plan::{CompareArgs, MergeArgs, ReportTarget};
use std::path::Path;

/// What sets the producers of the second process apart.
const OTHER_PROCESS: u32 = 1 << 30;

/// A report is shown, compared and merged with that of another process, which is the same but for its producers.
pub fn others(data: &[u8]) {
    let scratch = Scratch::new();
    let path = scratch.put("/report.json", data);
    let Ok(report) = read::report(&path) else { return };
    shown(&report, &path);
    let mut other = report;
    other.producers.iter_mut().for_each(|producer| producer.id ^= OTHER_PROCESS);
    let other_path = scratch.put("/other.json", other.to_json_line().as_bytes());
    let slo = slo::parse_ratios("rate>=0.95,p99<=1.05").expect("names that compare knows");
    if let Ok(found) = compare::compare(&CompareArgs { a: path.clone(), b: other_path.clone(), json: false, slo }) {
        assert!(found.json().is_object() && !found.text().is_empty());
    }
    let to = ReportTarget::File(scratch.path("/merged.json"));
    if let Ok(merged) = merge::merge(&MergeArgs { reports: vec![path.clone(), other_path], to }) {
        assert_eq!(merged.producers.len(), 2 * other.producers.len());
        shown(&merged, &path);
    }
}

fn shown(report: &Report, path: &Path) {
    assert!(summary::render_again(report, path, summary::COLUMNS).contains("report"));
    assert!(html::page(report).ends_with("</html>\n"));
}
