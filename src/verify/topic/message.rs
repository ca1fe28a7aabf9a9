//! One Kafka message: which record it is, by the header in its value or by its Kafka headers.

use super::super::ids;
use super::super::shape::{Claim, Flaw, HeaderShape, Key, Probe, Shape};
use crate::record;
use crate::wire::crc32c;
use crate::wire::kafka::records::Record;
use std::collections::BTreeSet;

/// What a message turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Record(Claim),
    Flawed(Claim, Flaw),
    /// The beginning of a record.
    CutOff(Claim),
    Unknown,
}

pub struct Judge {
    shape: HeaderShape,
    /// A key is given: what is said in Kafka headers carries no signature.
    wants_signature: bool,
    /// Runs that are expected.
    runs: BTreeSet<u64>,
}

impl Judge {
    pub fn new(sign_key: Option<[u8; 16]>, runs: BTreeSet<u64>) -> Self {
        Self { shape: HeaderShape::new(sign_key), wants_signature: sign_key.is_some(), runs }
    }

    /// See [`Shape::has_unchecked_signatures`].
    pub fn has_unchecked_signatures(&self) -> bool {
        self.shape.has_unchecked_signatures()
    }

    pub fn judge(&self, message: &Record<'_>) -> Verdict {
        let value = message.value.unwrap_or_default();
        match self.shape.judge(value) {
            Probe::Record(claim) => Verdict::Record(claim),
            Probe::Flawed(claim, flaw) => Verdict::Flawed(claim, flaw),
            Probe::No(Some(claim)) => Verdict::CutOff(claim),
            Probe::No(None) => match by_headers(message, value, &self.runs) {
                Verdict::Record(claim) if self.wants_signature => Verdict::Flawed(claim, Flaw::Unsigned),
                verdict => verdict,
            },
        }
    }
}

/// `--annotate headers`: the facts are in headers named like the columns of `--ids`, as text.
fn by_headers(message: &Record<'_>, value: &[u8], runs: &BTreeSet<u64>) -> Verdict {
    let (mut run, mut producer, mut sequence, mut stamp, mut crc) = (None, None, None, None, None);
    for (name, text) in message.headers() {
        let Some(text) = text.and_then(|text| std::str::from_utf8(text).ok()) else { continue };
        match name {
            b"run_id" => run = Some(run_of(text, runs)),
            b"producer_id" => producer = text.parse::<u32>().ok(),
            b"sequence" => sequence = text.parse::<u64>().ok(),
            b"timestamp_ns" => stamp = text.parse::<u64>().ok(),
            b"crc32c" => crc = Some(text.parse::<u32>().ok()),
            _ => {}
        }
    }
    let (Some(run), Some(producer), Some(sequence)) = (run, producer, sequence) else { return Verdict::Unknown };
    let (key, length) = (Key { run, producer }, value.len() as u64);
    let claim = Claim { key, sequence, length, timestamp_unix_ns: stamp.unwrap_or(0) };
    match crc {
        Some(stated) if stated != Some(crc32c::checksum(value)) => Verdict::Flawed(claim, Flaw::Body),
        _ => Verdict::Record(claim),
    }
}

/// A run writes its id as it is, be it a number; only where the hash of an expected run is written is it taken as such.
fn run_of(text: &str, expected: &BTreeSet<u64>) -> u64 {
    let run = ids::run_of(text, expected);
    if expected.contains(&run) { run } else { record::run_id_hash(text) }
}
