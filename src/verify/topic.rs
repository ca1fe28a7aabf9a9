//! A Kafka topic: from the earliest offset that is still there to where each partition ended when reading began.
//!
//! A producer deals its batches to its partitions in turn, so partitions are read side by side, the one that is
//! furthest behind in time first: then little is missing of a producer at any moment, and little has to be
//! remembered. Order is judged within a partition, gaps and duplicates over all of them. What a broker may have removed
//! is not called lost, and not proved either: see `unproved`. Only what is committed is read.
//!
//! `reader` has the threads that fetch and check, `cursor` what they know of a partition, `partition` what it means.

mod aborted;
mod cleanup;
mod cursor;
pub(super) mod message;
pub(super) mod partition;
mod reader;

use super::ledger::{Ledger, Unit};
use super::shape::Key;
use super::unproved::Cause;
use crate::base::fatal::Fatal;
use crate::base::progress::ReadProgress;
use crate::base::units::format_counted;
use crate::connect::kafka::{At, Cluster, Stream, TopicReader};
use cleanup::Cleanup;
use cursor::{Cursor, Gone};
use message::Judge;
use partition::Partition;
use reader::Readers;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How a topic is read.
pub(super) struct Access<'a, S> {
    /// Each thread has connections and a judge of its own.
    pub cluster: &'a dyn Fn() -> Cluster<S>,
    pub judge: &'a dyn Fn() -> Judge,
    pub threads: usize,
    pub topic: &'a str,
    /// So long nothing may come.
    pub patience: Duration,
}

/// Reads all of a topic into the ledger; its partitions, which are to be asked what they may have had when all topics
/// are read. `is_only`: no other topic, and no list, is read: its end is that of all.
pub(super) fn read<S: Stream + 'static>(
    access: &Access<'_, S>,
    ledger: &mut Ledger,
    progress: &ReadProgress,
    is_only: bool,
) -> Result<Vec<Partition>, Fatal> {
    let topic = access.topic;
    let mut leaders = TopicReader::find((access.cluster)(), topic, access.patience)?;
    let cleanup = Arc::new(ask_cleanup(&mut leaders, topic));
    let (cursors, mut partitions) = open(&mut leaders, topic, &cleanup, ledger)?;
    ledger.findings.sources += partitions.len() as u64;
    if is_only {
        progress.set_offsets_all(cursors.iter().map(Cursor::left).sum());
    }
    let readers = Readers::start(access, leaders, &cleanup, cursors)?;
    while let Some(at) = furthest_behind(&partitions) {
        let portion = readers.take(at)?;
        progress.add(portion.bytes);
        progress.add_offsets(portion.offsets);
        partitions[at].take(portion, ledger);
    }
    for partition in &mut partitions {
        partition.finish(ledger);
        explain(partition, &cleanup, ledger);
    }
    ledger.note_signatures(readers.end());
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

fn furthest_behind(partitions: &[Partition]) -> Option<usize> {
    let open = (0..partitions.len()).filter(|at| !partitions[*at].is_read);
    open.min_by_key(|at| partitions[*at].newest_ms)
}

/// Of offsets, which are never fewer than none.
fn counted(count: i64, one: &str) -> String {
    format_counted(count.max(0).cast_unsigned(), one)
}

fn label(partition: i32, topic: &str) -> String {
    format!("partition {partition} of {topic}")
}

/// Where each partition begins and ends.
fn open<S: Stream>(
    leaders: &mut TopicReader<S>,
    topic: &str,
    cleanup: &Cleanup,
    ledger: &mut Ledger,
) -> Result<(Vec<Cursor>, Vec<Partition>), Fatal> {
    let ids: Vec<i32> = leaders.view().partitions.iter().map(|view| view.id).collect();
    let (mut cursors, mut partitions) = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
    for id in ids {
        let mut offset = |at| leaders.ask(id, |session| session.list_offset(topic, id, at));
        // In this order what comes meanwhile is not taken for a transaction.
        let (latest, stable, first) = (offset(At::Latest)?, offset(At::Stable)?, offset(At::Earliest)?);
        let label = label(id, topic);
        let mut partition = Partition::new(ledger.name(label.as_str(), Unit::Offsets));
        let cursor = Cursor::new(id, first, latest.min(stable));
        partition.is_read = cursor.is_read();
        if stable < latest {
            partition.is_held_back = true;
            let (count, why) = (counted(latest - stable, "offset"), Cause::OpenTransaction.what());
            ledger.findings.explain(format!("{label}: not read: {count} from {stable} on, {why}"));
        }
        if first > 0 {
            let cause = cleanup.of_start();
            let (what, about) = (cause.what(), cleanup.about());
            let line = format!("{label} starts at offset {first}: what was before is {what} ({about})");
            ledger.findings.explain(line);
            partition.cut(cause, ledger);
        }
        cursors.push(cursor);
        partitions.push(partition);
    }
    Ok((cursors, partitions))
}

/// What was not there, or counts for nothing.
fn explain(partition: &Partition, cleanup: &Cleanup, ledger: &mut Ledger) {
    let label = partition.label(ledger).to_owned();
    if let Some(Gone { offsets, first, end }) = partition.gone {
        let (last, about) = (end - 1, cleanup.about());
        let why = cleanup.of_gap().map_or("not there, which nothing explains", Cause::what);
        let offsets = counted(offsets, "offset");
        ledger.findings.explain(format!("{label}: {offsets} between {first} and {last}: {why} ({about})"));
    }
    if partition.voided > 0 {
        let records = format_counted(partition.voided, "record");
        ledger.findings.explain(format!("{label}: not counted: {records} of aborted transactions"));
    }
}
