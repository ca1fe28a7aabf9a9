//! Lines of text below one another, each with its label, as wide as the terminal.

use crate::base::units::format_duration;
use crate::observe::report::Distribution;

const LABEL: usize = 11;
/// Where there is less, the table of latencies does not fit, and labels take a line of their own.
const COLUMNS_BESIDE_MIN: usize = 56;
/// What stands below its label is as far to the right.
const INDENT: usize = 2;
/// Of the text beside a label, however narrow the terminal.
const TEXT_MIN: usize = 20;
/// Targets, or places of data, that are named one by one.
const NAMED_MAX: usize = 3;

pub struct Page {
    pub text: String,
    /// Lines are not wider, as far as words let them.
    columns: usize,
}

impl Page {
    pub fn new(columns: usize) -> Self {
        Self { text: String::new(), columns }
    }

    pub fn row(&mut self, line: &str) {
        self.text.extend(line.chars().map(visible));
        self.text.push('\n');
    }

    fn is_narrow(&self) -> bool {
        self.columns < COLUMNS_BESIDE_MIN
    }

    /// Paths and commands are never cut: a terminal wraps them and they can still be copied.
    pub fn long(&mut self, label: &str, text: &str) {
        if !self.is_narrow() {
            self.row(&format!("{label:LABEL$} {text}"));
            return;
        }
        if !label.is_empty() {
            self.row(label);
        }
        self.row(&format!("{:INDENT$}{text}", ""));
    }

    /// As many lines as it takes, broken between words. The last column stays free: some terminals wrap behind it.
    pub fn line(&mut self, label: &str, text: &str) {
        let width = |text: &str| text.chars().count();
        let before = if self.is_narrow() { INDENT } else { LABEL + 1 };
        let width_max = self.columns.saturating_sub(before + 1).max(TEXT_MIN);
        let mut lines = vec![String::new()];
        for word in text.split_whitespace() {
            let last = lines.last_mut().expect("there is always a last line");
            if !last.is_empty() && width(last) + 1 + width(word) > width_max {
                lines.push(word.to_owned());
            } else {
                last.push_str(if last.is_empty() { "" } else { " " });
                last.push_str(word);
            }
        }
        for (at, line) in lines.iter().enumerate() {
            self.long(if at == 0 { label } else { "" }, line);
        }
    }

    /// What stands above latencies.
    pub fn percentile_names(&mut self) {
        if !self.is_narrow() {
            self.row(&format!("{:LABEL$}{:>11}{:>11}{:>11}{:>11}", "", "p50", "p99", "p99.9", "max"));
        }
    }

    pub fn latency(&mut self, label: &str, of: &Distribution, offered: u64, beside: &str) {
        let [p50, p99, p999, max] = percentiles(of, offered);
        if self.is_narrow() {
            self.line(label, &format!("p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}{beside}"));
            return;
        }
        self.row(&format!("{label:LABEL$}{p50:>11}{p99:>11}{p999:>11}{max:>11}{beside}"));
    }
}

/// p50, p99, p99.9 and the largest.
pub fn percentiles(of: &Distribution, records_offered: u64) -> [String; 4] {
    [of.p50, of.p99, of.p999, of.max].map(|value| match value {
        Some(seconds) => format_duration((seconds * 1e9).round() as u64),
        // Among the records that were never confirmed.
        None if records_offered > 0 => "never".to_owned(),
        None => "-".to_owned(),
    })
}

/// A report may come from anywhere: what it holds does not steer a terminal.
fn visible(c: char) -> char {
    if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }
}

/// `a`, `a and b`, `a, b and c`, `a, b, c and 2 more`.
pub fn listed(names: &[&str]) -> String {
    let (named, more) = (&names[..names.len().min(NAMED_MAX)], names.len().saturating_sub(NAMED_MAX));
    match named {
        [] => "no target".to_owned(),
        _ if more > 0 => format!("{} and {more} more", named.join(", ")),
        [first] => (*first).to_owned(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_wrap_at_the_width_and_are_not_cut() {
        let long = "/a/path/that/is/longer/than/a/narrow/terminal";
        for (columns, lines_max) in [(40, 21), (80, 9), (200, 3)] {
            let mut page = Page::new(columns);
            page.line("label", &format!("{}{long}", "word ".repeat(100)));
            let lines: Vec<_> = page.text.lines().collect();
            let fits = |line: &&str| line.chars().count() < columns || line.trim() == long;
            assert!(lines.len() <= lines_max && lines.iter().all(fits), "{columns}: {lines:?}");
            let words = page.text.split_whitespace().filter(|word| *word == "word").count();
            assert!(words == 100 && page.text.contains(long), "{columns}: {lines:?}");
        }
    }

    #[test]
    fn up_to_three_names_are_said() {
        let all = ["a/", "b/", "c/", "d/", "e/"];
        let said = [1, 2, 3, 5].map(|count| listed(&all[..count]));
        assert_eq!(said, ["a/", "a/ and b/", "a/, b/ and c/", "a/, b/, c/ and 2 more"]);
    }
}
