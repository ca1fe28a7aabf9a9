//! `engine verify`: reads back what a run wrote and says what is missing, doubled, out of order, damaged or foreign.
//!
//! `sources` turns names into streams, `topic` reads those of Kafka; `parallel` and `scan` turn bytes into events;
//! `stream` and `ring` judge the events of one stream; `ledger` knows which sequences were seen and has the last word,
//! `unproved` which of them a broker may have removed; `findings` is the result.
//! Memory is bounded whatever is read: where a bound is met, a finding says so.

pub mod expect;
pub mod findings;
pub mod ids;
mod intervals;
mod ledger;
pub mod live;
mod parallel;
mod passing;
mod ring;
pub mod scan;
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
use crate::base::program;
use crate::base::progress::ReadProgress;
use crate::base::units::format_counted;
use crate::connect::kafka::{self, Cluster, Stream};
use crate::manifest::{Layout, Manifest, RecordFormat};
use crate::plan::{TopicSource, VerifyArgs};
use crate::record;
use expect::Expected;
use findings::{Finding, Findings, Kind};
use intervals::Place;
use ledger::{Ledger, Unit};
use parallel::{Delivery, FileScan};
use ring::{RingEvents, RingFacts};
use shape::{HeaderShape, Key, Shape};
use sources::{DataStream, Source};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use stream::{Rules, StreamFold};
use topic::message::Judge;
use topic::partition::Partition;

/// Little enough for malloc's heap, off the starts of pages: see [`crate::base::page`].
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
    if let Some(bytes) = bytes_all(args, &sources) {
        progress.set_bytes_all(bytes);
    }
    for source in sources {
        match source {
            Source::Data(stream) => session.data(&stream)?,
            Source::Pipe(path) => session.pipe(path)?,
        }
    }
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
        for path in &args.expect {
            let expectation = expect::read(path)?;
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
        let stated = !args.expect.is_empty();
        let (manifest_runs, partitions) = (BTreeSet::new(), Vec::new());
        Ok(Self { args, ledger, runs, manifest_runs, stated, partitions, threads, progress })
    }

    fn finish(mut self, label: &str, started: Instant) -> Findings {
        let runs = if self.runs.is_empty() { &self.manifest_runs } else { &self.runs };
        topic::note_gone(&self.partitions, &mut self.ledger);
        self.ledger.finish(runs, label);
        let mut findings = self.ledger.findings;
        if findings.clean && findings.records == 0 && !self.stated {
            let what = "no record was read, and neither a manifest nor --expect says that there is none";
            findings.add(Finding { source: Some(label.to_owned()), ..Finding::new(Kind::Nothing, what) });
        }
        findings.seal(started.elapsed().as_secs_f64());
        findings
    }

    fn topic(&mut self, source: &TopicSource) -> Result<(), Fatal> {
        let access = &self.args.kafka;
        let timeout = Duration::from_nanos(access.timeout_ns);
        let client = kafka::Client { id: access.client_id.clone(), sasl: access.sasl.clone(), timeout };
        let cluster = Cluster::new(source.bootstrap.clone(), client, kafka::dial_brokers(access.tls.clone(), timeout));
        self.read_topic(cluster, &source.topic, timeout)
    }

    fn read_topic<S: Stream>(&mut self, cluster: Cluster<S>, topic: &str, patience: Duration) -> Result<(), Fatal> {
        let judge = self.judge();
        self.partitions.extend(topic::read(cluster, topic, patience, judge, &mut self.ledger, self.progress)?);
        Ok(())
    }

    fn judge(&self) -> Judge {
        Judge::new(self.args.sign_key, self.runs.union(&self.manifest_runs).copied().collect())
    }

    fn pipe(&mut self, path: Option<PathBuf>) -> Result<(), Fatal> {
        let label = path.as_ref().map_or("stdin".to_owned(), |path| path.display().to_string());
        let mut reader: Box<dyn Read> = match &path {
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

    fn data(&mut self, stream: &DataStream) -> Result<(), Fatal> {
        self.ledger.findings.sources += stream.files.len() as u64;
        let Some(manifest) = &stream.manifest else {
            let shape = HeaderShape::new(self.args.sign_key);
            let rules = Rules { label: stream.label.clone(), without_manifest: true, ..Rules::default() };
            return self.append(stream, rules, &shape);
        };
        let run = record::run_id_hash(&manifest.run_id);
        self.stated |= manifest.complete;
        self.note_run(manifest, run, &stream.label);
        let key = Key { run, producer: manifest.producer_id };
        let ends = scan_ends(stream);
        self.check_length(stream, manifest);
        let shape: Box<dyn Shape> = match self.shape(manifest) {
            Some(shape) => shape,
            None => {
                self.length_only(stream, manifest, key, ends.iter().sum());
                return Ok(());
            }
        };
        let mut rules = rules_of(manifest, key, stream.label.clone());
        if let Layout::Ring { lap_bytes, lap_records, .. } = manifest.layout {
            let facts = RingFacts {
                key,
                lap_bytes,
                lap_records,
                first_sequence: manifest.first_sequence,
                length_bytes: manifest.complete.then_some(manifest.length_bytes),
            };
            return self.ring(stream, rules, facts, &*shape);
        }
        if manifest.complete {
            rules.stale_below = manifest.first_sequence;
        } else {
            rules.began_at = Some(manifest.first_sequence);
        }
        self.append(stream, rules, &*shape)
    }

    /// A manifest speaks for its own run; `--run-id` or `--expect` may want another one.
    fn note_run(&mut self, manifest: &Manifest, run: u64, label: &str) {
        self.manifest_runs.insert(run);
        if self.runs.is_empty() || self.runs.contains(&run) {
            return;
        }
        let what = format!("the file belongs to run '{}', which is not the one asked for", manifest.run_id);
        let finding = Finding::new(Kind::Foreign, what).producer(manifest.producer_id).run(run);
        self.ledger.findings.add_other_run(Finding { source: Some(label.to_owned()), ..finding });
    }

    fn shape(&self, manifest: &Manifest) -> Option<Box<dyn Shape>> {
        let key = self.args.sign_key;
        match &manifest.records {
            RecordFormat::Header => Some(Box::new(HeaderShape::new(key))),
            RecordFormat::Slots { templates } => {
                let shape = templates::SlotsShape::new(templates, &manifest.run_id, manifest.producer_id, key)?;
                Some(Box::new(shape))
            }
            RecordFormat::Opaque => None,
        }
    }

    /// A run that ended in order knows how long its file is.
    fn check_length(&mut self, stream: &DataStream, manifest: &Manifest) {
        let there = stream.active_bytes();
        if !manifest.complete || there >= manifest.length_bytes {
            return;
        }
        let lost = manifest.length_bytes - there;
        let what = format!("the file is cut off: {lost} of its {} bytes are gone", manifest.length_bytes);
        let finding = Finding::new(Kind::Truncated, what).producer(manifest.producer_id);
        self.ledger.findings.add(finding.at_byte(stream.label.clone(), there));
    }

    /// Data without facts prove none of their records, nor what a report promises of them; nothing at all is still too
    /// little, and more than was written too much.
    fn length_only(&mut self, stream: &DataStream, manifest: &Manifest, key: Key, bytes: u64) {
        let label = &stream.label;
        self.progress.add(bytes);
        self.ledger.findings.bytes += bytes;
        self.ledger.findings.bytes_unverifiable += bytes;
        let surplus = stream.active_bytes().saturating_sub(manifest.length_bytes);
        if manifest.complete && manifest.layout == Layout::Append && surplus > 0 {
            let surplus = format_counted(surplus, "byte");
            let what = format!("{surplus} more than the {} that the run wrote", manifest.length_bytes);
            let finding = Finding::new(Kind::Unrecognised, what).producer(manifest.producer_id);
            self.ledger.findings.add(finding.at_byte(label.clone(), manifest.length_bytes));
        }
        if bytes > 0 {
            let what = "carries no facts to find records by, so only the length was held against the manifest";
            let finding = Finding::new(Kind::Unproved, what).producer(key.producer).run(key.run);
            self.ledger.findings.add(Finding { source: Some(label.clone()), ..finding });
        }
        if manifest.length_bytes > 0 {
            // What it promises would be absent, which is not known.
            self.ledger.expected.remove(&key);
        }
    }

    fn append(&mut self, stream: &DataStream, rules: Rules, shape: &dyn Shape) -> Result<(), Fatal> {
        let facts = stream.manifest.as_ref().filter(|manifest| manifest.complete);
        let stated_end = facts.map(|manifest| manifest.length_bytes);
        let ends = scan_ends(stream);
        let names: Vec<u32> =
            stream.files.iter().map(|file| self.ledger.name(file.path.display().to_string(), Unit::Bytes)).collect();
        let scans = file_scans(stream, &ends, shape, self.progress);
        self.ledger.findings.bytes += ends.iter().sum::<u64>();
        let mut fold = StreamFold::new(&mut self.ledger, rules);
        let mut base = 0;
        parallel::scan_files(&scans, self.threads, parallel::CHUNK_BYTES, &mut |file, what| match what {
            Delivery::Event(event) => {
                let offset = event.start();
                fold.in_rotated_file(stream.files[file].is_rotated);
                fold.event(event, Place { source: names[file], offset, position: base + offset });
            }
            Delivery::FileEnd => {
                fold.source_end(stated_end.filter(|_| !stream.files[file].is_rotated));
                if file + 2 == ends.len() {
                    fold.uncut_end();
                }
                if stream.active_is_gone && file + 1 == ends.len() {
                    fold.next_end(base);
                }
                base += ends[file];
            }
        })?;
        fold.finish();
        self.ledger.note_signatures(shape.has_unchecked_signatures());
        if stream.manifest.is_none() {
            self.ledger.explain_start(&names, &stream.label);
        }
        Ok(())
    }

    fn ring(&mut self, stream: &DataStream, rules: Rules, facts: RingFacts, shape: &dyn Shape) -> Result<(), Fatal> {
        let ends = scan_ends(stream);
        let scans = file_scans(stream, &ends, shape, self.progress);
        self.ledger.findings.bytes += ends.iter().sum::<u64>();
        let source = self.ledger.name(stream.label.clone(), Unit::Bytes);
        let mut events = RingEvents::default();
        parallel::scan_files(&scans, self.threads, parallel::CHUNK_BYTES, &mut |_, what| {
            if let Delivery::Event(event) = what {
                events.add(*event);
            }
        })?;
        events.fold(&mut self.ledger, facts, rules, source);
        self.ledger.note_signatures(shape.has_unchecked_signatures());
        Ok(())
    }
}

fn rules_of(manifest: &Manifest, key: Key, label: String) -> Rules {
    let mut missing = manifest.missing.clone();
    missing.sort_unstable();
    Rules {
        label,
        key: Some(key),
        range: manifest.complete.then_some((manifest.first_sequence, manifest.next_sequence)),
        unfinished_bytes: (!manifest.complete).then_some(manifest.in_flight_bytes_max),
        missing,
        ..Rules::default()
    }
}

/// How far each file of a stream is read: to its end, but for a ring.
fn scan_ends(stream: &DataStream) -> Vec<u64> {
    let mut ends: Vec<u64> = stream.files.iter().map(|file| file.length_bytes).collect();
    if let (Some(manifest), Some(last)) = (&stream.manifest, ends.last_mut())
        && let Layout::Ring { lap_bytes, .. } = manifest.layout
    {
        // What lies behind was there before, on a device too, or is room that was not needed.
        let data_end = if manifest.complete { manifest.length_bytes } else { lap_bytes };
        *last = data_end.min(lap_bytes).min(*last);
    }
    ends
}

/// What is to be read, all sources together; `None`: nobody knows.
fn bytes_all(args: &VerifyArgs, sources: &[Source]) -> Option<u64> {
    let list = match args.ids.as_deref() {
        None => 0,
        Some("-") => return None,
        Some(name) => std::fs::metadata(name).ok().filter(std::fs::Metadata::is_file)?.len(),
    };
    let of_source = |source: &Source| match source {
        Source::Data(stream) => Some(scan_ends(stream).iter().sum::<u64>()),
        Source::Pipe(_) => None,
    };
    let data = sources.iter().map(of_source).sum::<Option<u64>>()?;
    args.topics.is_empty().then_some(data.saturating_add(list))
}

fn file_scans<'s>(
    stream: &DataStream,
    ends: &[u64],
    shape: &'s dyn Shape,
    progress: &'s ReadProgress,
) -> Vec<FileScan<'s>> {
    let files = stream.files.iter().zip(ends);
    files.map(|(file, end)| FileScan { path: file.path.clone(), end: *end, shape, progress }).collect()
}
