//! Files and rings, read by what their manifests say of them.

use super::findings::{Finding, Kind};
use super::intervals::Place;
use super::ledger::Unit;
use super::parallel::{self, Delivery, FileScan, Scans};
use super::ring::{RingEvents, RingFacts};
use super::shape::{HeaderShape, Key, Shape};
use super::sources::{DataStream, Source};
use super::stream::{Rules, StreamFold};
use super::{Session, templates};
use crate::base::fatal::Fatal;
use crate::base::progress::ReadProgress;
use crate::base::units::format_counted;
use crate::manifest::{Layout, Manifest, RecordFormat};
use crate::plan::VerifyArgs;
use crate::record;

impl Session<'_> {
    /// Reads these sources in order. The files of all of them are scanned side by side, so that several drives are
    /// read at once.
    pub(super) fn sources(&mut self, sources: &[Source]) -> Result<(), Fatal> {
        let shapes: Vec<Option<Box<dyn Shape>>> = sources.iter().map(|source| self.shape(source)).collect();
        let mut scans = Vec::new();
        for (source, shape) in sources.iter().zip(&shapes) {
            if let (Source::Data(stream), Some(shape)) = (source, shape) {
                scans.extend(file_scans(stream, &**shape, self.progress));
            }
        }
        parallel::scan_files(&scans, self.threads, parallel::CHUNK_BYTES, |scans| {
            for (source, shape) in sources.iter().zip(&shapes) {
                match source {
                    Source::Data(stream) => self.data(stream, shape.as_deref(), scans)?,
                    Source::Pipe(path) => self.pipe(path.as_deref())?,
                }
            }
            Ok(())
        })
    }

    /// What the records of a file look like; `None`: nobody can tell, or it is no file.
    fn shape(&self, source: &Source) -> Option<Box<dyn Shape>> {
        let Source::Data(stream) = source else { return None };
        let key = self.args.sign_key;
        let Some(manifest) = &stream.manifest else { return Some(Box::new(HeaderShape::new(key))) };
        match &manifest.records {
            RecordFormat::Header => Some(Box::new(HeaderShape::new(key))),
            RecordFormat::Slots { templates } => {
                let shape = templates::SlotsShape::new(templates, &manifest.run_id, manifest.producer_id, key)?;
                Some(Box::new(shape))
            }
            RecordFormat::Opaque => None,
        }
    }

    fn data(&mut self, stream: &DataStream, shape: Option<&dyn Shape>, scans: &mut Scans<'_>) -> Result<(), Fatal> {
        self.ledger.findings.sources += stream.files.len() as u64;
        if let Some(manifest) = &stream.manifest {
            self.stated |= manifest.complete;
            self.note_run(manifest, &stream.label);
            self.check_length(stream, manifest);
        }
        let Some(shape) = shape else {
            self.length_only(stream);
            return Ok(());
        };
        let Some(manifest) = &stream.manifest else {
            let rules = Rules { label: stream.label.clone(), without_manifest: true, ..Rules::default() };
            return self.append(stream, rules, shape, scans);
        };
        let key = key_of(manifest);
        let mut rules = rules_of(manifest, key, stream.label.clone());
        if let Layout::Ring { lap_bytes, lap_records, .. } = manifest.layout {
            let facts = RingFacts {
                key,
                lap_bytes,
                lap_records,
                first_sequence: manifest.first_sequence,
                length_bytes: manifest.complete.then_some(manifest.length_bytes),
            };
            let below = self.ring(stream, rules, facts, shape, scans)?;
            self.let_go(manifest, below);
            return Ok(());
        }
        if manifest.complete {
            rules.stale_below = manifest.first_sequence;
            self.let_go(manifest, manifest.first_sequence);
        } else {
            rules.began_at = Some(manifest.first_sequence);
        }
        self.append(stream, rules, shape, scans)
    }

    /// A manifest speaks for its own run; `--run-id` or `--expect` may want another one.
    fn note_run(&mut self, manifest: &Manifest, label: &str) {
        let run = record::run_id_hash(&manifest.run_id);
        self.manifest_runs.insert(run);
        if self.is_asked_for(run) {
            return;
        }
        let what = format!("the file belongs to run '{}', which is not the one asked for", manifest.run_id);
        let finding = Finding::new(Kind::Foreign, what).producer(manifest.producer_id).run(run);
        self.ledger.findings.add_other_run(Finding { source: Some(label.to_owned()), ..finding });
    }

    fn is_asked_for(&self, run: u64) -> bool {
        self.runs.is_empty() || self.runs.contains(&run)
    }

    /// Of another run than the one asked for nobody wants to know what it let go.
    fn let_go(&mut self, manifest: &Manifest, below: u64) {
        let key = key_of(manifest);
        if self.is_asked_for(key.run) {
            self.ledger.let_go(key, below, &manifest.missing);
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
    fn length_only(&mut self, stream: &DataStream) {
        let Some(manifest) = &stream.manifest else { return };
        let (label, key, bytes) = (&stream.label, key_of(manifest), scan_ends(stream).iter().sum::<u64>());
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

    fn append(
        &mut self,
        stream: &DataStream,
        rules: Rules,
        shape: &dyn Shape,
        scans: &mut Scans<'_>,
    ) -> Result<(), Fatal> {
        let facts = stream.manifest.as_ref().filter(|manifest| manifest.complete);
        let stated_end = facts.map(|manifest| manifest.length_bytes);
        let ends = scan_ends(stream);
        let names: Vec<u32> =
            stream.files.iter().map(|file| self.ledger.name(file.path.display().to_string(), Unit::Bytes)).collect();
        self.ledger.findings.bytes += ends.iter().sum::<u64>();
        let mut fold = StreamFold::new(&mut self.ledger, rules);
        let mut base = 0;
        scans.take(ends.len(), &mut |file, what| match what {
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

    /// The records below the sequence that it returns were let go.
    fn ring(
        &mut self,
        stream: &DataStream,
        rules: Rules,
        facts: RingFacts,
        shape: &dyn Shape,
        scans: &mut Scans<'_>,
    ) -> Result<u64, Fatal> {
        let ends = scan_ends(stream);
        self.ledger.findings.bytes += ends.iter().sum::<u64>();
        let source = self.ledger.name(stream.label.clone(), Unit::Bytes);
        let mut events = RingEvents::default();
        scans.take(ends.len(), &mut |_, what| {
            if let Delivery::Event(event) = what {
                events.add(*event);
            }
        })?;
        let below = events.fold(&mut self.ledger, facts, rules, source);
        self.ledger.note_signatures(shape.has_unchecked_signatures());
        Ok(below)
    }
}

fn key_of(manifest: &Manifest) -> Key {
    Key { run: record::run_id_hash(&manifest.run_id), producer: manifest.producer_id }
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
pub(super) fn bytes_all(args: &VerifyArgs, sources: &[Source]) -> Option<u64> {
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
    stream: &'s DataStream,
    shape: &'s dyn Shape,
    progress: &'s ReadProgress,
) -> impl Iterator<Item = FileScan<'s>> {
    let files = stream.files.iter().zip(scan_ends(stream));
    files.map(move |(file, end)| FileScan { path: file.path.clone(), end, device: file.device, shape, progress })
}
