//! `engine verify`: reads back what a run wrote and says what is missing, doubled, out of order, damaged or foreign.
//!
//! `sources` turns names into streams, `files` reads them and `topic` those of Kafka; `parallel` and `scan` turn bytes
//! into events; `stream` and `ring` judge the events of one stream; `ledger` knows which sequences were seen and has
//! the last word, `unproved` which of them a broker may have removed; `findings` is the result.
//! Memory is bounded whatever is read: where a bound is met, a finding says so.

pub mod expect;
mod files;
pub mod findings;
mod guarded;
pub mod ids;
mod intervals;
mod ledger;
pub mod live;
mod parallel;
mod passing;
mod ring;
pub mod scan;
mod scattered;
pub mod shape;
mod sources;
mod stream;
mod templates;
mod topic;
mod unproved;
pub mod window;

#[cfg(test)]
mod tests;

use crate::base::fatal::{Exit, Fatal};
use crate::base::limits;
use crate::base::program;
use crate::base::progress::ReadProgress;
use crate::connect::kafka::{self, Cluster, Stream};
use crate::plan::{TopicSource, VerifyArgs};
use crate::record;
use expect::Expected;
use findings::{Finding, Findings, Kind};
use intervals::Place;
use ledger::{Ledger, Unit};
use shape::{HeaderShape, Key, Shape};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::time::{Duration, Instant};
use stream::{Rules, StreamFold};
use topic::Access;
use topic::message::Judge;
use topic::partition::Partition;

/// Little enough for malloc's heap, off the starts of pages: see [`crate::base::align`].
const IDS_READ_BYTES: usize = 64 << 10;

/// Reads everything that `args` names; `progress` tells how far it is. `Err` where that cannot be done: nothing there
/// (exit 2), unreadable (exit 1).
pub fn verify(args: &VerifyArgs, progress: &ReadProgress) -> Result<Findings, Fatal> {
    let started = Instant::now();
    let stdin_named = args.sources.iter().any(|source| source == "-");
    if args.sources.is_empty() && args.topics.is_empty() && args.ids.is_none() {
        let how = format!("name a file or folder: {}", program::command("verify engine-data/"));
        return Err(Fatal::usage("there is nothing to verify").mend(how));
    }
    if stdin_named && args.ids.as_deref() == Some("-") {
        return Err(Fatal::usage("stdin can hold records or ids, not both").mend("put the ids into a file"));
    }
    let mut session = Session::new(args, progress)?;
    let sources = sources::resolve(&args.sources, &mut session.ledger.findings)?;
    if let Some(bytes) = files::bytes_all(args, &sources) {
        progress.set_bytes_all(bytes);
    }
    session.sources(&sources)?;
    for source in &args.topics {
        session.topic(source)?;
    }
    args.kafka.notes.iter().for_each(|note| session.ledger.findings.explain(note));
    if let Some(ids) = &args.ids {
        session.ids(ids)?;
    }
    let topics = args.topics.iter().map(|topic| &topic.label);
    let labels: Vec<&String> = args.sources.iter().chain(topics).chain(&args.ids).collect();
    let label = match labels[..] {
        [only] => only.clone(),
        _ => "all sources".to_owned(),
    };
    Ok(session.finish(&label, started))
}

/// Verifies a stream of records with headers, read once from its start: a pipe, or bytes in memory.
pub fn verify_reader(reader: &mut dyn Read, label: &str, args: &VerifyArgs) -> Result<Findings, Fatal> {
    let started = Instant::now();
    let progress = ReadProgress::default();
    let mut session = Session::new(args, &progress)?;
    session.stream(reader, label)?;
    Ok(session.finish(label, started))
}

struct Session<'a> {
    args: &'a VerifyArgs,
    ledger: Ledger,
    /// Runs that `--run-id` or `--expect` name.
    runs: BTreeSet<u64>,
    manifest_runs: BTreeSet<u64>,
    /// A finished run's manifest or a report says how many records there are, be it none.
    stated: bool,
    /// Of all topics that were read.
    partitions: Vec<Partition>,
    threads: usize,
    progress: &'a ReadProgress,
}

impl<'a> Session<'a> {
    fn new(args: &'a VerifyArgs, progress: &'a ReadProgress) -> Result<Self, Fatal> {
        let mut expected: HashMap<Key, Expected> = HashMap::new();
        let mut runs = BTreeSet::new();
        let mut notes = Vec::new();
        let mut stated = !args.expect.is_empty();
        for path in &args.expect {
            let expectation = expect::read(path)?;
            stated &= !expectation.is_open;
            runs.insert(expectation.run);
            notes.extend(expectation.notes);
            for (key, promise) in expectation.producers {
                if expected.insert(key, promise).is_some() {
                    let what =
                        format!("--expect {}: producer {} is in another report too", path.display(), key.producer);
                    return Err(Fatal::usage(what).mend("name each report once; shards of a fleet have their own ids"));
                }
            }
        }
        if let Some(text) = &args.run_id {
            runs = [record::run_id_hash(text), ids::run_of(text, &BTreeSet::new())].into();
        }
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut ledger = Ledger::new(expected);
        notes.into_iter().for_each(|note| ledger.findings.explain(note));
        let threads = if args.threads == 0 { processors } else { args.threads };
        let (manifest_runs, partitions) = (BTreeSet::new(), Vec::new());
        Ok(Self { args, ledger, runs, manifest_runs, stated, partitions, threads, progress })
    }

    fn finish(mut self, label: &str, started: Instant) -> Findings {
        let runs = if self.runs.is_empty() { &self.manifest_runs } else { &self.runs };
        topic::note_gone(&self.partitions, &mut self.ledger);
        self.ledger.finish(runs, label);
        self.ledger.explain_unstated_starts(runs, label);
        let mut findings = self.ledger.findings;
        if findings.clean && findings.records == 0 && !self.stated {
            let what = "no record was read, and neither a manifest nor --expect says that there is none";
            findings.add(Finding { source: Some(label.to_owned()), ..Finding::new(Kind::Nothing, what) });
        }
        findings.seal(started.elapsed().as_secs_f64());
        findings
    }

    fn topic(&mut self, source: &TopicSource) -> Result<(), Fatal> {
        let args = self.args;
        let access = &args.kafka;
        let timeout = Duration::from_nanos(access.timeout_ns);
        let cluster = || {
            let client = kafka::Client { id: access.client_id.clone(), sasl: access.sasl.clone(), timeout };
            Cluster::new(source.bootstrap.clone(), client, kafka::dial_brokers(access.tls.clone(), timeout))
        };
        self.read_topic(&cluster, &source.topic, timeout)
    }

    /// `cluster`: a connection of its own for each thread.
    fn read_topic<S: Stream + 'static>(
        &mut self,
        cluster: &dyn Fn() -> Cluster<S>,
        topic: &str,
        patience: Duration,
    ) -> Result<(), Fatal> {
        let sign_key = self.args.sign_key;
        let runs: BTreeSet<u64> = self.runs.union(&self.manifest_runs).copied().collect();
        let judge = || Judge::new(sign_key, runs.clone());
        // Each has connections and memory of its own.
        let threads = match self.args.threads {
            0 => self.threads.min(limits::VERIFY_TOPIC_THREADS_DEFAULT),
            asked => asked,
        };
        let access = Access { cluster, topic, patience, judge: &judge, threads };
        let is_only = self.args.topics.len() < 2 && self.args.ids.is_none();
        self.partitions.extend(topic::read(&access, &mut self.ledger, self.progress, is_only)?);
        Ok(())
    }

    fn pipe(&mut self, path: Option<&Path>) -> Result<(), Fatal> {
        let label = path.map_or("stdin".to_owned(), |path| path.display().to_string());
        let mut reader: Box<dyn Read> = match path {
            None => sources::stdin()?,
            Some(path) => Box::new(File::open(path).map_err(|error| Fatal::usage(format!("{label}: {error}")))?),
        };
        self.stream(&mut reader, &label)
    }

    /// Reads a stream that can be read only once.
    fn stream(&mut self, reader: &mut dyn Read, label: &str) -> Result<(), Fatal> {
        let shape = HeaderShape::new(self.args.sign_key);
        let source = self.ledger.name(label, Unit::Bytes);
        self.ledger.findings.sources += 1;
        let mut window = window::Window::pipe(reader).watched(self.progress);
        let mut synced = true;
        let rules = Rules { label: label.to_owned(), without_manifest: true, ..Rules::default() };
        let mut fold = StreamFold::new(&mut self.ledger, rules);
        loop {
            let limit = window.offset().saturating_add(parallel::CHUNK_BYTES);
            let scan = scan::scan(&mut window, &shape, limit, synced)
                .map_err(|error| Fatal::new(Exit::Failed, format!("{label} cannot be read: {error}")))?;
            for event in &scan.events {
                fold.event(event, Place { source, offset: event.start(), position: event.start() });
            }
            synced = scan.synced;
            if scan.at_source_end {
                break;
            }
        }
        fold.source_end(None);
        fold.finish();
        self.ledger.findings.bytes += window.offset();
        self.ledger.note_signatures(shape.has_unchecked_signatures());
        self.ledger.explain_start(&[source], label);
        Ok(())
    }

    fn ids(&mut self, name: &str) -> Result<(), Fatal> {
        let mut runs = self.runs.clone();
        runs.extend(&self.manifest_runs);
        let missing = |error: std::io::Error| {
            Fatal::usage(format!("--ids {name}: {error}")).mend("name a list of run_id,producer_id,sequence lines")
        };
        let label = if name == "-" { "stdin" } else { name };
        let reader: Box<dyn Read> = match name {
            "-" => sources::stdin()?,
            _ => Box::new(File::open(name).map_err(missing)?),
        };
        if self.args.sign_key.is_some() {
            self.ledger.findings.explain(format!("{label}: --sign-key has no effect on a list of ids"));
        }
        let reader = ids::Watched { reader, progress: self.progress };
        ids::read(&mut BufReader::with_capacity(IDS_READ_BYTES, reader), label, &runs, &mut self.ledger)
    }
}
