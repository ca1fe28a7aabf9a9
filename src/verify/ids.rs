//! Lists of records exported from downstream: `run_id,producer_id,sequence[,crc32c]` as CSV or JSON Lines, in any
//! order (`ledger/listed.rs` says within which memory).

use super::findings::{Finding, Kind};
use super::intervals::Place;
use super::ledger::{Ledger, Unit};
use super::shape::Key;
use crate::base::fatal::{Exit, Fatal};
use crate::base::progress::ReadProgress;
use crate::record;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, BufRead, Read};

/// A longer line is malformed.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// One line's record. `crc32c` is read but there are no bytes to hold it against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id<'a> {
    pub run_id: Cow<'a, str>,
    pub producer_id: u32,
    pub sequence: u64,
    pub crc32c: Option<u32>,
}

/// Which CSV column holds what; the contract's order unless a header line says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    run_id: usize,
    producer_id: usize,
    sequence: usize,
    crc32c: Option<usize>,
}

impl Default for Columns {
    fn default() -> Self {
        Self { run_id: 0, producer_id: 1, sequence: 2, crc32c: Some(3) }
    }
}

impl Columns {
    /// `None` where the line is no header.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let names = fields(std::str::from_utf8(line).ok()?);
        let find = |wanted: &str| names.iter().position(|name| name.eq_ignore_ascii_case(wanted));
        Some(Self {
            run_id: find("run_id")?,
            producer_id: find("producer_id")?,
            sequence: find("sequence")?,
            crc32c: find("crc32c"),
        })
    }
}

/// The fields of a line of CSV: between quotes a comma is text, and two quotes are one. Only a field that begins with a
/// quote has them (RFC 4180); elsewhere one is text.
fn fields(line: &str) -> Vec<Cow<'_, str>> {
    let (mut is_blank, mut is_quoted, mut in_quotes) = (true, false, false);
    let ends_field = |c: char| {
        is_quoted |= is_blank && c == '"';
        in_quotes ^= is_quoted && c == '"';
        is_blank &= c.is_whitespace();
        let ends = c == ',' && !in_quotes;
        if ends {
            (is_blank, is_quoted) = (true, false);
        }
        ends
    };
    line.split(ends_field).map(unquoted).collect()
}

fn unquoted(field: &str) -> Cow<'_, str> {
    let field = field.trim();
    match field.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(text) if text.contains('"') => Cow::Owned(text.replace("\"\"", "\"")),
        Some(text) => Cow::Borrowed(text),
        None => Cow::Borrowed(field),
    }
}

/// Parses one line, CSV or JSON.
pub fn parse_line<'a>(line: &'a [u8], columns: &Columns) -> Result<Id<'a>, String> {
    let text = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8".to_owned())?.trim();
    if text.starts_with('{') {
        return parse_json(text);
    }
    let fields = fields(text);
    let field = |at: usize, name: &str| {
        fields.get(at).filter(|field| !field.is_empty()).ok_or_else(|| format!("there is no {name}"))
    };
    let run_id = field(columns.run_id, "run_id")?.clone();
    let producer_id = number(field(columns.producer_id, "producer_id")?, "producer_id")?;
    let sequence = number(field(columns.sequence, "sequence")?, "sequence")?;
    let crc32c = columns.crc32c.and_then(|at| fields.get(at)).filter(|field| !field.is_empty());
    let crc32c = crc32c.map(|text| number(text, "crc32c")).transpose()?;
    Ok(Id { run_id, producer_id, sequence, crc32c })
}

fn number<T: TryFrom<u64>>(text: &str, name: &str) -> Result<T, String> {
    let value = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    let value = value.ok().and_then(|value| T::try_from(value).ok());
    value.ok_or_else(|| format!("{name} '{}' is no number that fits", text.chars().take(40).collect::<String>()))
}

#[derive(Deserialize)]
struct JsonLine<'a> {
    #[serde(borrow)]
    run_id: Scalar<'a>,
    #[serde(borrow)]
    producer_id: Scalar<'a>,
    #[serde(borrow)]
    sequence: Scalar<'a>,
    #[serde(borrow, default)]
    crc32c: Option<Scalar<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar<'a> {
    Number(u64),
    #[serde(borrow)]
    Text(Cow<'a, str>),
}

impl Scalar<'_> {
    fn number<T: TryFrom<u64>>(&self, name: &str) -> Result<T, String> {
        match self {
            Self::Number(value) => T::try_from(*value).map_err(|_| format!("{name} {value} is too large")),
            Self::Text(text) => number(text.trim(), name),
        }
    }
}

fn parse_json(text: &str) -> Result<Id<'_>, String> {
    let line: JsonLine<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let (producer_id, sequence) = (line.producer_id.number("producer_id")?, line.sequence.number("sequence")?);
    let crc32c = line.crc32c.map(|value| value.number("crc32c")).transpose()?;
    let run_id = match line.run_id {
        Scalar::Number(value) => Cow::Owned(value.to_string()),
        Scalar::Text(text) => text,
    };
    Ok(Id { run_id, producer_id, sequence, crc32c })
}

/// The 64-bit run id that a text stands for: the text itself hashed, or the hash written as a number.
pub fn run_of(text: &str, expected: &BTreeSet<u64>) -> u64 {
    let hashed = record::run_id_hash(text);
    let written = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    match written {
        Some(written) if !expected.contains(&hashed) => written,
        _ => hashed,
    }
}

/// Tells what goes by.
pub struct Watched<'a, R> {
    pub reader: R,
    pub progress: &'a ReadProgress,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(space)?;
        self.progress.add(got as u64);
        Ok(got)
    }
}

/// Reads a whole list into the ledger.
pub fn read(reader: &mut dyn BufRead, name: &str, expected: &BTreeSet<u64>, ledger: &mut Ledger) -> Result<(), Fatal> {
    let source = ledger.name(name, Unit::Lines);
    ledger.findings.sources += 1;
    let mut columns = Columns::default();
    let mut known_run: Option<(String, u64)> = None;
    let mut line = Vec::new();
    let mut number = 0u64;
    let mut checksums = false;
    loop {
        line.clear();
        let got = reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let got = got.map_err(|error| {
            Fatal::new(Exit::Failed, format!("--ids {name} cannot be read past line {number}: {error}"))
                .mend("check the file, then verify again")
        })?;
        if got == 0 {
            if checksums {
                ledger
                    .findings
                    .explain(format!("{name}: crc32c was not checked, for there are no bytes to hold it against"));
            }
            return Ok(());
        }
        number += 1;
        ledger.findings.bytes += got as u64;
        let place = Place { source, offset: number, position: number };
        if got as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            malformed(ledger, place, "the line is too long");
            ledger.findings.bytes += skip_line(reader).map_err(|error| {
                Fatal::new(Exit::Failed, format!("--ids {name} cannot be read past line {number}: {error}"))
            })?;
            continue;
        }
        let text = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1).unwrap_or(&line).trim_ascii();
        if number == 1
            && let Some(named) = Columns::parse(text)
        {
            columns = named;
        } else if !text.is_empty() {
            match parse_line(text, &columns) {
                Ok(id) => {
                    checksums |= id.crc32c.is_some();
                    enter(ledger, &id, expected, &mut known_run, place);
                }
                Err(why) => malformed(ledger, place, &why),
            }
        }
    }
}

fn skip_line(reader: &mut dyn BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let bytes = reader.fill_buf()?;
        let (length, done) = match memchr::memchr(b'\n', bytes) {
            Some(at) => (at + 1, true),
            None => (bytes.len(), bytes.is_empty()),
        };
        reader.consume(length);
        skipped += length as u64;
        if done {
            return Ok(skipped);
        }
    }
}

fn malformed(ledger: &mut Ledger, place: Place, why: &str) {
    let finding = ledger.locate(Finding::new(Kind::Malformed, why), place);
    ledger.findings.add(finding);
}

fn enter(ledger: &mut Ledger, id: &Id<'_>, expected: &BTreeSet<u64>, known: &mut Option<(String, u64)>, place: Place) {
    let run = match known {
        Some((text, run)) if *text == id.run_id => *run,
        _ => {
            let run = run_of(&id.run_id, expected);
            *known = Some((id.run_id.clone().into_owned(), run));
            run
        }
    };
    let key = Key { run, producer: id.producer_id };
    ledger.first_run.get_or_insert(run);
    ledger.findings.records += 1;
    let Some(track) = ledger.track(key, place) else { return };
    track.records += 1;
    let relation = ledger.enter_listed(key, id.sequence, place);
    ledger.duplicates(key, &relation, place);
}

#[cfg(test)]
mod tests {
    use super::super::expect::Expected;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn read_text(text: &str, spans_max: usize) -> Ledger {
        read_into(Ledger::new(HashMap::new()).with_limits(spans_max, 20), text)
    }

    fn read_into(mut ledger: Ledger, text: &str) -> Ledger {
        read(&mut text.as_bytes(), "ids.csv", &BTreeSet::new(), &mut ledger).unwrap();
        ledger.finish(&BTreeSet::new(), "ids.csv");
        ledger
    }

    #[test]
    fn csv_and_json_lines_mean_the_same() {
        let hash = record::run_id_hash("r1");
        for text in [
            "r1,0,0\nr1,0,2,77\nr1,0,1\n".to_owned(),
            "run_id,producer_id,sequence,crc32c\n\"r1\",0,0,1\n\"r1\",0,1,0x2\r\n\nr1,0,2,3".to_owned(),
            "sequence,run_id,producer_id\n0,r1,0\n1,r1,0\n2,r1,0\n".to_owned(),
            "note,sequence,producer_id,run_id\n\"a, 7\",0,0,r1\n\"b \"\"x\"\", 9\",1,0,r1\n\"c\",2,0,r1".to_owned(),
            "{\"run_id\":\"r1\",\"producer_id\":0,\"sequence\":\"0\"}\n{\"sequence\":1,\"producer_id\":\"0\",\"run_id\":\"r1\",\"x\":[]}\nr1,0,2".to_owned(),
            format!("{hash},0,0\n{hash:#x},0,1\n{{\"run_id\":{hash},\"producer_id\":0,\"sequence\":2,\"crc32c\":\"5\"}}\n"),
        ] {
            let ledger = read_text(&text, 100);
            assert!(ledger.findings.clean, "{text}\n{:?}", ledger.findings.damage);
            assert_eq!(ledger.findings.records, 3, "{text}");
            assert_eq!(ledger.tracks[&Key { run: hash, producer: 0 }].seen.len(), 1, "{text}");
        }
    }

    #[test]
    fn quoted_fields_are_read_as_they_were_written() {
        let read = |line: &str| parse_line(line.as_bytes(), &Columns::default()).map(|id| id.run_id.into_owned());
        assert_eq!(read(r#""say ""a, b""",0,1"#).as_deref(), Ok(r#"say "a, b""#));
        assert_eq!(read(r#" "r 1" ,"0","1""#).as_deref(), Ok("r 1"));
        assert!(read(r#""",0,1"#).unwrap_err().contains("no run_id"));
        // A quote within a field is text.
        assert_eq!(read(r#"24" disk,7,0"#).as_deref(), Ok(r#"24" disk"#));
        let columns = Columns { run_id: 3, crc32c: None, ..Columns::default() };
        let id = parse_line(br#"24" disk,7,0,"r,1""#, &columns).unwrap();
        assert_eq!((id.run_id.as_ref(), id.producer_id, id.sequence), ("r,1", 7, 0));
        // It would go on in the next line.
        assert!(read(r#""r1,0,1"#).unwrap_err().contains("no producer_id"));
    }

    #[test]
    fn gaps_duplicates_other_runs_and_bad_lines_are_named() {
        let findings = read_text("a,0,5\na,0,3\na,0,5\na,0\nb,0,1\na,x,1\n", 100).findings;
        let of = |kind| findings.damage.iter().find(|finding| finding.kind == kind).unwrap();
        assert_eq!((of(Kind::Gap).first_sequence, of(Kind::Gap).last_sequence), (Some(4), Some(4)));
        assert_eq!((of(Kind::Duplicate).first_sequence, of(Kind::Duplicate).line), (Some(5), Some(3)));
        assert_eq!((of(Kind::Foreign).records, of(Kind::Foreign).line), (1, Some(5)));
        assert_eq!((findings.count(Kind::Malformed).findings, of(Kind::Malformed).line), (2, Some(4)));
    }

    const SORT: &str = "sort -t, -k2,2n -k3,3n); then up to 10 gaps are followed";

    #[test]
    fn too_much_disorder_is_said_and_never_called_a_gap() {
        // All of three pages; its first half is in order.
        let order = (0..12_288).step_by(2).chain((0..12_288).skip(1).step_by(2));
        let text: String = order.map(|at| format!("a,0,{at}\n")).collect();
        let findings = read_into(Ledger::new(HashMap::new()).with_limits(10, 2), &text).findings;
        assert_eq!(findings.counted(), "1 overflow");
        let said = findings.summary();
        assert!(said.starts_with("INCOMPLETE: 12,288 records") && said.contains(SORT), "{said}");
    }

    #[test]
    fn more_gaps_than_can_be_followed_are_damage_and_no_disorder() {
        // Each in a page of its own.
        let listed = |at: u64| format!("a,0,{}\n", at * 5000);
        let [sorted, reversed]: [String; 2] = [(0..50).map(listed).collect(), (0..50).rev().map(listed).collect()];
        for (text, is_sorted) in [(&sorted, true), (&reversed, false)] {
            let findings = read_text(text, 10).findings;
            let (gaps, read) = (findings.count(Kind::Gap), &findings.producers[0]);
            assert_eq!((gaps.records, findings.counted().as_str()), (244_951, "1 gap, 1 overflow"));
            assert_eq!((read.first_sequence, read.last_sequence), (Some(0), Some(245_000)));
            let said = findings.summary();
            assert!(said.starts_with("DAMAGED: 50 records") && said.contains("at least"), "{said}");
            let told = [said.contains("more gaps than can be followed"), said.contains("sort "), said.contains(SORT)];
            assert_eq!(told, [is_sorted, !is_sorted, !is_sorted], "{said}");
        }
        // A report counts what is missing, and names it once.
        let key = Key { run: record::run_id_hash("a"), producer: 0 };
        let expected = Expected { sequences: Some((0, 300_000)), missing: vec![(7, 7)], due_unix_ns: None };
        let findings = read_into(Ledger::new([(key, expected)].into()).with_limits(10, 20), &sorted).findings;
        assert_eq!(findings.counted(), "1 absent, 1 overflow");
        assert_eq!(findings.count(Kind::Absent).records, 299_950);
    }

    #[test]
    fn a_list_in_no_order_is_judged_together_with_files() {
        let key = Key { run: record::run_id_hash("a"), producer: 0 };
        let mut ledger = Ledger::new(HashMap::new()).with_limits(3, 20);
        // More than a page: it stays a span.
        let _first = ledger.enter(key, 0, 9999, Place::default(), 0);
        let list: String = (0..50).rev().map(|at| format!("a,0,{}\n", 10_000 + at * 2)).collect();
        let findings = read_into(ledger, &(list + "a,0,77\na,0,10002\n")).findings;
        let counts = [Kind::Gap, Kind::Duplicate].map(|kind| findings.count(kind).records);
        assert_eq!((counts, findings.counted().as_str()), ([49, 2], "49 gap, 2 duplicate"));
        let read = &findings.producers[0];
        assert_eq!((read.first_sequence, read.last_sequence), (Some(0), Some(10_098)));
    }

    #[test]
    fn what_a_report_promises_is_looked_for_in_a_list_in_no_order() {
        let key = Key { run: record::run_id_hash("a"), producer: 0 };
        let expected = Expected { sequences: Some((0, 60)), missing: vec![(7, 7)], due_unix_ns: None };
        let ledger = Ledger::new([(key, expected)].into()).with_limits(3, 20);
        let list: String = (0..30).rev().map(|at| format!("a,0,{}\n", at * 2)).collect();
        let findings = read_into(ledger, &list).findings;
        assert_eq!(findings.counted(), "29 absent", "{:?}", findings.damage);
        assert_eq!(findings.count(Kind::Absent).records, 30, "the odd ones but 7, and the last");
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let text = format!("{}\na,0,1\n", "x".repeat(200_000));
        let findings = read_text(&text, 10).findings;
        assert_eq!((findings.count(Kind::Malformed).findings, findings.records), (1, 1));
    }

    proptest! {
        #[test]
        fn any_order_is_complete(order in Just((0u64..200).collect::<Vec<_>>()).prop_shuffle()) {
            let text: String = order.iter().map(|at| format!("a,0,{at}\n")).collect();
            prop_assert!(read_text(&text, 1000).findings.clean);
            prop_assert!(read_text(&text, 1).findings.clean);
        }

        #[test]
        fn with_bits_or_spans_the_verdict_is_the_same(
            came in proptest::collection::vec((0..2u32, 4000..4200u64), 1..300),
        ) {
            let text: String = came.iter().map(|(producer, at)| format!("a,{producer},{at}\n")).collect();
            let judged = |spans_max| {
                let findings = read_text(&text, spans_max).findings;
                let of = |kind| {
                    let damage = findings.damage.iter().filter(|finding| finding.kind == kind);
                    let ranges = damage.map(|of| (of.producer_id, of.first_sequence, of.last_sequence));
                    ranges.collect::<Vec<_>>()
                };
                (of(Kind::Gap), of(Kind::Duplicate), findings.counted(), findings.producers.clone())
            };
            prop_assert_eq!(judged(3), judged(1000));
        }

        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..100), text in ".{0,60}") {
            let _ = (parse_line(&line, &Columns::default()), Columns::parse(&line));
            let _ = (parse_line(text.as_bytes(), &Columns::default()), run_of(&text, &BTreeSet::new()));
            let _ = parse_line(format!("{{{text}").as_bytes(), &Columns::default());
        }
    }
}
