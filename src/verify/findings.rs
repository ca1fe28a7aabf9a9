//! What a reading found: counts of everything, a bounded list of what is damaged, and what is merely explained.

use crate::base::fatal::Exit;
use crate::base::units::{format_amount, format_count, format_counted, format_rate_short};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Findings that are listed one by one, for each kind; the rest is counted.
pub const LISTED_PER_KIND_MAX: usize = 100;
/// Lines of explanation that are kept; the rest is counted.
pub const EXPLAINED_MAX: usize = 200;
/// Lines for each kind of damage in the summary for people; the JSON has more.
const SUMMARY_LINES_PER_KIND: usize = 8;
const SUMMARY_EXPLAINED_MAX: usize = 12;
const NO_FACTS: &str = "--annotate off, or a template without {{sequence}}";
const OTHER_RUNS_MEND: &str =
    "each run's report with --expect (repeatable), or a topic or folder of its own for each run";

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(usize)]
pub enum Kind {
    /// Sequences that are nowhere.
    Gap,
    /// Sequences that came again.
    Duplicate,
    /// Records that came after later ones.
    Reordered,
    /// A record that disagrees with its checksum.
    Corrupt,
    /// A record whose signature is missing or of another key.
    Forged,
    /// A stretch of bytes that is no record.
    Unrecognised,
    /// A record or file that ends too early.
    Truncated,
    /// A record of this run that should have been overwritten.
    Stale,
    /// Records of another run or producer.
    Foreign,
    /// Reported as produced and retained, but not there.
    Absent,
    /// Missing where a broker has removed or holds back offsets, or without facts to find it by: whether it is whole
    /// cannot be proved.
    Unproved,
    /// A line or manifest that cannot be read.
    Malformed,
    /// More disorder, or more gaps, than can be followed in bounded memory: of these records only the number is judged.
    Overflow,
    /// There was no record at all, and nobody said so.
    Nothing,
}

impl Kind {
    pub const ALL: [Kind; 14] = [
        Kind::Gap,
        Kind::Duplicate,
        Kind::Reordered,
        Kind::Corrupt,
        Kind::Forged,
        Kind::Unrecognised,
        Kind::Truncated,
        Kind::Stale,
        Kind::Foreign,
        Kind::Absent,
        Kind::Unproved,
        Kind::Malformed,
        Kind::Overflow,
        Kind::Nothing,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Gap => "gap",
            Kind::Duplicate => "duplicate",
            Kind::Reordered => "reordered",
            Kind::Corrupt => "corrupt",
            Kind::Forged => "forged",
            Kind::Unrecognised => "unrecognised",
            Kind::Truncated => "truncated",
            Kind::Stale => "stale",
            Kind::Foreign => "foreign",
            Kind::Absent => "absent",
            Kind::Unproved => "unproved",
            Kind::Malformed => "malformed",
            Kind::Overflow => "overflow",
            Kind::Nothing => "nothing",
        }
    }
}

/// One piece of damage. Sequences are inclusive; bytes are offsets into `source`, lines start at 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer_id: Option<u32>,
    /// The 64-bit run id as `0x…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub byte: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// In a Kafka partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Records concerned; 0 where that cannot be known.
    pub records: u64,
    /// In words.
    pub what: String,
}

impl Finding {
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            producer_id: None,
            run_id_hash: None,
            first_sequence: None,
            last_sequence: None,
            source: None,
            byte: None,
            line: None,
            offset: None,
            records: 0,
            what: what.into(),
        }
    }

    pub fn producer(mut self, id: u32) -> Self {
        self.producer_id = Some(id);
        self
    }

    pub fn run(mut self, hash: u64) -> Self {
        self.run_id_hash = Some(format!("{hash:#018x}"));
        self
    }

    /// The inclusive range, each of its sequences one record.
    pub fn sequences(mut self, first: u64, last: u64) -> Self {
        (self.first_sequence, self.last_sequence) = (Some(first), Some(last));
        self.records(last.saturating_sub(first).saturating_add(1))
    }

    pub fn records(mut self, records: u64) -> Self {
        self.records = records;
        self
    }

    pub fn at_byte(mut self, source: impl Into<String>, byte: u64) -> Self {
        (self.source, self.byte) = (Some(source.into()), Some(byte));
        self
    }

    pub fn at_line(mut self, source: impl Into<String>, line: u64) -> Self {
        (self.source, self.line) = (Some(source.into()), Some(line));
        self
    }

    pub fn at_offset(mut self, source: impl Into<String>, offset: u64) -> Self {
        (self.source, self.offset) = (Some(source.into()), Some(offset));
        self
    }

    /// In words: whom it concerns, what it is and where.
    pub fn text(&self) -> String {
        let producer = self.producer_id.map(|id| format!("producer {id}"));
        let sequences = match (self.first_sequence, self.last_sequence) {
            (Some(first), Some(last)) if first == last => Some(format!("sequence {first}")),
            (Some(first), Some(last)) => Some(format!("sequences {first} to {last}")),
            _ => None,
        };
        let subject: Vec<String> = producer.into_iter().chain(sequences).collect();
        let colon = if subject.is_empty() { "" } else { ": " };
        let mut out = format!("{}{colon}{}", subject.join(" "), self.what);
        if let Some(source) = &self.source {
            let places = [("byte", self.byte), ("line", self.line), ("offset", self.offset)];
            let place = places.iter().find_map(|(unit, at)| at.map(|at| format!(", {unit} {at}")));
            let _ = write!(out, " ({source}{})", place.unwrap_or_default());
        }
        out
    }
}

/// How often a kind was found, and how many records that concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    pub findings: u64,
    pub records: u64,
}

/// What was read of one producer of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProducerRead {
    pub run_id_hash: String,
    pub producer_id: u32,
    pub records: u64,
    pub first_sequence: Option<u64>,
    pub last_sequence: Option<u64>,
}

/// The result of `engine verify`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Findings {
    /// True where nothing is damaged or of another run, and nothing that should be there is unproved.
    pub clean: bool,
    pub sources: u64,
    pub records: u64,
    pub bytes: u64,
    /// Bytes of which only the length could be looked at (`--annotate off`).
    pub bytes_unverifiable: u64,
    /// Older records of the run, in whose place later ones are: of rings, and of what `--retain` recycles.
    pub records_overwritten: u64,
    pub elapsed_seconds: f64,
    /// By kind; every kind is there.
    pub counts: serde_json::Map<String, serde_json::Value>,
    pub producers: Vec<ProducerRead>,
    /// At most [`LISTED_PER_KIND_MAX`] of each kind.
    pub damage: Vec<Finding>,
    /// Oddities that are no damage, in words.
    pub explained: Vec<String>,
    pub explained_more: u64,
    #[serde(skip)]
    by_kind: [Count; Kind::ALL.len()],
    /// Of the foreign ones: another run's data.
    #[serde(skip)]
    other_runs: u64,
    /// There are records of a run that was looked for.
    #[serde(skip)]
    pub wanted_was_read: bool,
}

impl Default for Findings {
    fn default() -> Self {
        Self {
            clean: true,
            sources: 0,
            records: 0,
            bytes: 0,
            bytes_unverifiable: 0,
            records_overwritten: 0,
            elapsed_seconds: 0.0,
            counts: serde_json::Map::new(),
            producers: Vec::new(),
            damage: Vec::new(),
            explained: Vec::new(),
            explained_more: 0,
            by_kind: [Count::default(); Kind::ALL.len()],
            other_runs: 0,
            wanted_was_read: false,
        }
    }
}

impl Findings {
    pub fn add(&mut self, finding: Finding) {
        self.clean = false;
        let count = &mut self.by_kind[finding.kind as usize];
        count.findings += 1;
        count.records = count.records.saturating_add(finding.records);
        if count.findings <= LISTED_PER_KIND_MAX as u64 {
            self.damage.push(finding);
        }
    }

    /// A finding about data of another run that damages none of what was looked for.
    pub fn add_other_run(&mut self, finding: Finding) {
        self.other_runs += 1;
        self.add(finding);
    }

    pub fn explain(&mut self, line: impl Into<String>) {
        if self.explained.len() < EXPLAINED_MAX {
            self.explained.push(line.into());
        } else {
            self.explained_more += 1;
        }
    }

    /// How often this kind was found, listed or not.
    pub fn count(&self, kind: Kind) -> Count {
        self.by_kind[kind as usize]
    }

    pub(crate) fn seal(&mut self, elapsed_seconds: f64) {
        self.elapsed_seconds = elapsed_seconds;
        self.producers.sort_by(|a, b| (&a.run_id_hash, a.producer_id).cmp(&(&b.run_id_hash, b.producer_id)));
        self.damage.sort_by_key(|finding| finding.kind as usize);
        for kind in Kind::ALL {
            let count = serde_json::to_value(self.count(kind)).unwrap_or_default();
            self.counts.insert(kind.name().to_owned(), count);
        }
    }

    /// 0 where all is well, 1 where something is damaged, cannot be proved or is of another run.
    pub fn exit(&self) -> Exit {
        if self.clean { Exit::Done } else { Exit::Failed }
    }

    /// Findings of each kind that there is, as `12 gap, 1 corrupt`.
    pub fn counted(&self) -> String {
        let counts = Kind::ALL.map(|kind| (kind, self.count(kind).findings));
        let there = counts.iter().filter(|(_, count)| *count > 0);
        there.map(|(kind, count)| format!("{count} {}", kind.name())).collect::<Vec<_>>().join(", ")
    }

    /// The first few of each kind.
    pub fn told(&self) -> impl Iterator<Item = &Finding> {
        Kind::ALL.into_iter().flat_map(move |kind| {
            self.damage.iter().filter(move |finding| finding.kind == kind).take(SUMMARY_LINES_PER_KIND)
        })
    }

    /// The first few explanations, and how many more there are.
    pub fn told_explanations(&self) -> (&[String], u64) {
        let told = &self.explained[..self.explained.len().min(SUMMARY_EXPLAINED_MAX)];
        (told, (self.explained.len() - told.len()) as u64 + self.explained_more)
    }

    fn all(&self) -> u64 {
        self.by_kind.iter().map(|count| count.findings).sum()
    }

    /// Nothing is wrong but that other runs' data are here, beside that of one that was looked for.
    fn is_of_other_runs(&self) -> bool {
        !self.clean && self.wanted_was_read && self.other_runs == self.all()
    }

    fn verdict(&self) -> &'static str {
        let open = self.count(Kind::Unproved).findings + self.count(Kind::Overflow).findings;
        match self.clean {
            true => "intact",
            false if self.count(Kind::Nothing).findings > 0 => "nothing to verify",
            false if open > 0 && open + self.other_runs == self.all() => match self.records {
                0 if self.bytes_unverifiable > 0 => "NOTHING PROVED",
                _ => "INCOMPLETE",
            },
            false if self.is_of_other_runs() => "OTHER RUNS",
            false => "DAMAGED",
        }
    }

    /// For people: the verdict, the numbers, then one line for each finding (bounded).
    pub fn summary(&self) -> String {
        let mend = if self.is_of_other_runs() { format!("  mend: {OTHER_RUNS_MEND}\n") } else { String::new() };
        self.summary_with("--json", ("in", "source")) + &mend
    }

    /// Of whom the records are: a producer's id says so within its run only. A sample is not told apart by producers.
    fn whose(&self) -> String {
        let mut by_run: BTreeMap<&str, u64> = BTreeMap::new();
        for producer in &self.producers {
            *by_run.entry(&producer.run_id_hash).or_default() += 1;
        }
        let producers = format_counted(self.producers.len() as u64, "producer");
        let each = by_run.values().next().copied().unwrap_or_default();
        match by_run.len() {
            0 if self.records > 0 => String::new(),
            0 | 1 => format!(" of {producers}"),
            runs => {
                let runs = format_counted(runs as u64, "run");
                let is_even = by_run.values().all(|count| *count == each);
                let many = if is_even { format_counted(each, "producer") + " each" } else { producers + " in all" };
                format!(" of {runs}, {many},")
            }
        }
    }

    /// Of what was read: a length is looked up in no time.
    fn rate(&self) -> String {
        let read = self.bytes.saturating_sub(self.bytes_unverifiable);
        if read == 0 && self.bytes > 0 {
            return String::new();
        }
        format!(" ({})", format_rate_short(read as f64 / self.elapsed_seconds.max(1e-9)))
    }

    /// `longer`: the flag that lists more. `sources`: what they are, and the word before their number.
    pub fn summary_with(&self, longer: &str, (preposition, source): (&str, &str)) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{}: {}{} {preposition} {}, {}{}",
            self.verdict(),
            format_counted(self.records, "record"),
            self.whose(),
            format_counted(self.sources, source),
            format_amount(self.bytes),
            self.rate(),
        );
        let (gaps, absent) = (self.count(Kind::Gap), self.count(Kind::Absent));
        let forged = match self.count(Kind::Forged).findings {
            0 => String::new(),
            forged => format!(", {} forged", format_count(forged)),
        };
        let _ = writeln!(
            out,
            "  {} ({} missing), {}, {} reordered, {}{forged}",
            format_counted(gaps.findings + absent.findings, "gap"),
            format_count(gaps.records.saturating_add(absent.records)),
            format_counted(self.count(Kind::Duplicate).records, "duplicate"),
            format_count(self.count(Kind::Reordered).records),
            format_counted(self.count(Kind::Corrupt).findings, "corrupt record"),
        );
        if self.bytes_unverifiable > 0 {
            let size = format_amount(self.bytes_unverifiable);
            let _ = writeln!(out, "  length only: {size} carry no facts ({NO_FACTS}), so no record can be proved");
        }
        if self.records_overwritten > 0 {
            let older = format_counted(self.records_overwritten, "older record");
            let _ = writeln!(out, "  overwritten: {older}, of which nothing can be proved");
        }
        let mut more = self.all();
        for finding in self.told() {
            let _ = writeln!(out, "  {:<12} {}", finding.kind.name(), finding.text());
            more -= 1;
        }
        if more > 0 {
            let more = format_count(more);
            let _ = writeln!(out, "  and {more} more ({longer} lists up to {LISTED_PER_KIND_MAX} of a kind)");
        }
        let (explained, quiet) = self.told_explanations();
        for line in explained {
            let _ = writeln!(out, "  explained: {line}");
        }
        if quiet > 0 {
            let _ = writeln!(out, "  and {} more explanations", format_count(quiet));
        }
        out
    }
}

#[cfg(test)]
mod tests;
