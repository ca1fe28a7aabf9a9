//! The report as a page: one file that needs nothing else, neither scripts nor anything from elsewhere.
//!
//! `text` makes foreign words harmless, `head` says how it went, `figures` and `tables` give the numbers, `charts`
//! draws them with `svg` and `series`.

mod charts;
mod figures;
mod head;
mod series;
mod svg;
mod tables;
mod text;

use crate::base::fatal::{Exit, Fatal};
use crate::observe::report::{Report, write_text};
use crate::plan::ReportTarget;
use text::Text;

const STYLE: &str = include_str!("html/style.css");

/// Writes the page of a run that just ended. It is made of the figures as the JSON has them, so that `engine report`
/// makes the same page of it later. A reader is waited for until somebody `is_done` waiting.
pub fn write_page(report: &Report, target: &ReportTarget, is_done: &dyn Fn() -> bool) -> Result<(), Fatal> {
    let as_written = serde_json::from_str(&report.to_json_line())
        .map_err(|error| Fatal::new(Exit::Failed, format!("the report does not read back: {error}")))?;
    write(&as_written, target, is_done)
}

/// Writes the page of a report that was read.
pub fn write_page_again(report: &Report, target: &ReportTarget) -> Result<(), Fatal> {
    write(report, target, &|| false)
}

fn write(report: &Report, target: &ReportTarget, is_done: &dyn Fn() -> bool) -> Result<(), Fatal> {
    write_text("page", "--html", page(report).as_bytes(), target, is_done)
}

/// The page, as a pure function of the report.
pub fn page(report: &Report) -> String {
    let title = format!("engine run {}", report.run_id);
    let parts = [
        head::head(report),
        figures::figures(report),
        charts::rate(report),
        charts::response(report),
        charts::by_percentile(report),
        tables::slos(report),
        tables::phases(report),
        tables::producers(report),
        tables::books(report),
        tables::host(report),
        tables::config(report),
    ];
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n{}</main>\n</body>\n</html>\n",
        Text(&title),
        parts.concat()
    )
}

/// A part of the page under its heading.
fn section(title: &str, body: &str) -> String {
    format!("<section>\n<h2>{title}</h2>\n{body}</section>\n")
}

#[cfg(test)]
mod tests;
