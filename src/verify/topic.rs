//! A Kafka topic: from the earliest offset that is still there to where each partition ended when reading began.
//!
//! A producer deals its batches to its partitions in turn, so partitions are read side by side, the one that is
//! furthest behind in time first: then little is missing of a producer at any moment, and little has to be
//! remembered. Order is judged within a partition, gaps and duplicates over all of them. What a broker may have removed
//! is not called lost, and not proved either: see `unproved`. Only what is committed is read.

mod aborted;
mod cleanup;
pub(super) mod message;
pub(super) mod partition;

use super::findings::{Finding, Kind};
use super::ledger::{Ledger, Unit};
use super::shape::Key;
use super::unproved::Cause;
use crate::base::fatal::{Exit, Fatal};
use crate::base::limits;
use crate::base::progress::ReadProgress;
use crate::base::units::format_counted;
use crate::connect::kafka::{At, Cluster, KafkaError, Stream, TopicReader};
use crate::wire::kafka::errors::OFFSET_OUT_OF_RANGE;
use crate::wire::kafka::inflate::Inflater;
use cleanup::Cleanup;
use message::Judge;
use partition::{Gone, Partition, Tools};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The broker holds a fetch back for so long if it has nothing; what is asked for is there already.
const FETCH_WAIT: Duration = Duration::from_millis(100);

/// What a fetch came to.
enum Step {
    Advanced,
    Nothing,
    /// What was to be read is before the log's start or behind its end.
    OutOfRange,
}

/// Reads all of `topic` into the ledger; its partitions, which are to be asked what they may have had when all topics
/// are read. Ends where nothing comes for as long as `patience`.
pub(super) fn read<S: Stream>(
    cluster: Cluster<S>,
    topic: &str,
    patience: Duration,
    judge: Judge,
    ledger: &mut Ledger,
    progress: &ReadProgress,
) -> Result<Vec<Partition>, Fatal> {
    let mut leaders = TopicReader::find(cluster, topic, patience)?;
    let cleanup = ask_cleanup(&mut leaders, topic);
    let inflater = Inflater::new(limits::KAFKA_BATCH_PLAIN_BYTES_MAX);
    let tools = Tools { inflater, judge, gaps: cleanup.of_gap() };
    let mut reader = Reader { leaders, topic, patience, tools, cleanup };
    let mut partitions = reader.open(ledger)?;
    ledger.findings.sources += partitions.len() as u64;
    while let Some(partition) = furthest_behind(&mut partitions) {
        let bytes_before = ledger.findings.bytes;
        reader.advance(partition, ledger)?;
        progress.add(ledger.findings.bytes - bytes_before);
    }
    reader.finish(&mut partitions, ledger);
    ledger.note_signatures(reader.tools.judge.has_unchecked_signatures());
    Ok(partitions)
}

/// Nothing proves that a producer's records were there, if all of them may be gone from one of these.
pub(super) fn note_gone(partitions: &[Partition], ledger: &mut Ledger) {
    let keys: BTreeSet<Key> = ledger.tracks.keys().chain(ledger.expected.keys()).copied().collect();
    for key in keys {
        let is_elsewhere = ledger.tracks.contains_key(&key);
        if let Some(cause) = partitions.iter().find_map(|one| one.may_have_had(key, is_elsewhere)) {
            ledger.unproved.add(key, (0, u64::MAX), cause);
        }
    }
}

/// What the broker may remove. That it does not tell is no reason not to read.
fn ask_cleanup<S: Stream>(leaders: &mut TopicReader<S>, topic: &str) -> Cleanup {
    let Some(id) = leaders.view().partitions.first().map(|view| view.id) else { return Cleanup::default() };
    let settings = leaders.ask(id, |session| match session.describe_topic(topic, &cleanup::KEYS) {
        Err(error) if !error.breaks_connection() => Ok(BTreeMap::new()),
        other => other,
    });
    Cleanup::new(settings.unwrap_or_default())
}

fn furthest_behind(partitions: &mut [Partition]) -> Option<&mut Partition> {
    partitions.iter_mut().filter(|partition| !partition.is_read()).min_by_key(|partition| partition.newest_ms())
}

/// It was reached at the start.
fn failed(fatal: Fatal) -> Fatal {
    Fatal { exit: Exit::Failed, ..fatal }
}

/// Of offsets, which are never fewer than none.
fn counted(count: i64, one: &str) -> String {
    format_counted(count.max(0).cast_unsigned(), one)
}

struct Reader<'a, S> {
    leaders: TopicReader<S>,
    topic: &'a str,
    patience: Duration,
    tools: Tools,
    cleanup: Cleanup,
}

impl<S: Stream> Reader<'_, S> {
    fn label(&self, partition: i32) -> String {
        format!("partition {partition} of {}", self.topic)
    }

    fn offset(&mut self, partition: i32, at: At) -> Result<i64, Fatal> {
        let topic = self.topic;
        self.leaders.ask(partition, |session| session.list_offset(topic, partition, at))
    }

    fn open(&mut self, ledger: &mut Ledger) -> Result<Vec<Partition>, Fatal> {
        let ids: Vec<i32> = self.leaders.view().partitions.iter().map(|view| view.id).collect();
        let mut partitions = Vec::with_capacity(ids.len());
        for id in ids {
            // In this order what comes meanwhile is not taken for a transaction.
            let latest = self.offset(id, At::Latest)?;
            let (stable, first) = (self.offset(id, At::Stable)?, self.offset(id, At::Earliest)?);
            let label = self.label(id);
            let source = ledger.name(label.as_str(), Unit::Offsets);
            let mut partition = Partition::new(id, source, first, latest.min(stable));
            if stable < latest {
                partition.is_held_back = true;
                let (count, why) = (counted(latest - stable, "offset"), Cause::OpenTransaction.what());
                ledger.findings.explain(format!("{label}: not read: {count} from {stable} on, {why}"));
            }
            if first > 0 {
                let cause = self.cleanup.of_start();
                let (what, about) = (cause.what(), self.cleanup.about());
                let line = format!("{label} starts at offset {first}: what was before is {what} ({about})");
                ledger.findings.explain(line);
                partition.cut(cause, ledger);
            }
            partitions.push(partition);
        }
        Ok(partitions)
    }

    /// Reads on in one partition.
    fn advance(&mut self, partition: &mut Partition, ledger: &mut Ledger) -> Result<(), Fatal> {
        let deadline = Instant::now() + self.patience;
        loop {
            let step = self.fetch(partition, ledger)?;
            let is_late = Instant::now() >= deadline;
            match step {
                Step::Advanced => return Ok(()),
                Step::Nothing if !is_late => continue,
                Step::Nothing | Step::OutOfRange => {}
            }
            if self.has_moved(partition, ledger)? {
                return Ok(());
            }
            if is_late {
                return self.give_up(partition, ledger);
            }
            // A leader that was just elected may not know its end yet.
            std::thread::sleep(FETCH_WAIT);
        }
    }

    fn fetch(&mut self, partition: &mut Partition, ledger: &mut Ledger) -> Result<Step, Fatal> {
        let Self { leaders, topic, tools, .. } = self;
        let (id, next) = (partition.id, partition.next());
        let step = leaders.ask(id, |session| {
            let fetched = session.fetch(topic, id, next, limits::KAFKA_FETCH_BYTES, FETCH_WAIT)?;
            match fetched.error {
                0 => {}
                OFFSET_OUT_OF_RANGE => return Ok(Step::OutOfRange),
                code => return Err(KafkaError::broker("fetching", code)),
            }
            if partition.take(&fetched, tools, ledger) {
                return Ok(Step::Advanced);
            }
            let has_shrunk = (0..partition.end()).contains(&fetched.high_watermark);
            Ok(if has_shrunk { Step::OutOfRange } else { Step::Nothing })
        });
        step.map_err(failed)
    }

    /// Asks again where the log begins and ends; whether either has passed what was to be read next.
    fn has_moved(&mut self, partition: &mut Partition, ledger: &mut Ledger) -> Result<bool, Fatal> {
        let (id, next, end) = (partition.id, partition.next(), partition.end());
        let first = self.offset(id, At::Earliest).map_err(failed)?;
        let ends_now = self.offset(id, At::Latest).map_err(failed)?;
        let label = self.label(id);
        if ends_now < end {
            let what = format!(
                "the log was cut back while it was read: it had ended before offset {end}, and ends before {ends_now} \
                 now"
            );
            let lost = end - ends_now.max(next);
            let finding = Finding::new(Kind::Truncated, what).records(lost.cast_unsigned());
            ledger.findings.add(finding.at_offset(label.as_str(), ends_now.cast_unsigned()));
            partition.end_at(ends_now);
        }
        if first > next {
            let (cause, to) = (self.cleanup.of_start(), first.min(end));
            let what = cause.what();
            ledger.findings.explain(format!("{label}: offsets {next} to {} were {what} while it was read", to - 1));
            partition.skip_to(first, cause, ledger);
        }
        Ok(ends_now < end || first > next)
    }

    /// The broker gives nothing of what is within its log.
    fn give_up(&self, partition: &mut Partition, ledger: &mut Ledger) -> Result<(), Fatal> {
        let (label, next) = (self.label(partition.id), partition.next());
        // Compaction may leave nothing at the end.
        if self.tools.gaps == Some(Cause::Compaction) {
            ledger.findings.explain(format!("{label}: from offset {next} on all is {}", Cause::Compaction.what()));
            partition.skip_to(partition.end(), Cause::Compaction, ledger);
            return Ok(());
        }
        let what = format!("{label}: the broker gives nothing from offset {next} on");
        Err(Fatal::new(Exit::Failed, what).mend("kafka-dump-log shows what is there"))
    }

    fn finish(&self, partitions: &mut [Partition], ledger: &mut Ledger) {
        for partition in partitions.iter_mut() {
            partition.finish(ledger);
            self.explain(partition, ledger);
        }
    }

    fn explain(&self, partition: &Partition, ledger: &mut Ledger) {
        let label = self.label(partition.id);
        if let Some(Gone { offsets, first, end }) = partition.gone() {
            let (last, about) = (end - 1, self.cleanup.about());
            let why = self.tools.gaps.map_or("not there, which nothing explains", Cause::what);
            let offsets = counted(offsets, "offset");
            let line = format!("{label}: {offsets} between {first} and {last}: {why} ({about})");
            ledger.findings.explain(line);
        }
        if partition.voided() > 0 {
            let records = format_counted(partition.voided(), "record");
            ledger.findings.explain(format!("{label}: not counted: {records} of aborted transactions"));
        }
    }
}
