//! A Kafka topic: from the earliest offset that is still there to where each partition ended when reading began.
//!
//! A producer deals its batches to its partitions in turn, so partitions are read side by side, the one that is
//! furthest behind in time first: then little is missing of a producer at any moment, and little has to be
//! remembered. Order is judged within a partition, gaps and duplicates over all of them.

pub(super) mod message;
pub(super) mod partition;

use super::ledger::{Ledger, Unit};
use crate::base::fatal::{Exit, Fatal};
use crate::base::limits;
use crate::connect::kafka::{At, Cluster, KafkaError, Leaders, Stream};
use crate::wire::kafka::inflate::Inflater;
use message::Judge;
use partition::Partition;
use std::time::{Duration, Instant};

/// The broker holds a fetch back for so long if it has nothing; what is asked for is there already.
const FETCH_WAIT: Duration = Duration::from_millis(100);
const OFFSET_OUT_OF_RANGE: i16 = 1;

/// What a fetch came to.
enum Step {
    Advanced,
    Nothing,
    /// The broker has deleted what was asked for.
    Deleted,
}

/// Reads all of `topic` into the ledger. Ends where nothing comes for as long as `patience`.
pub(super) fn read<S: Stream>(
    cluster: Cluster<S>,
    topic: &str,
    patience: Duration,
    sign_key: Option<[u8; 16]>,
    ledger: &mut Ledger,
) -> Result<(), Fatal> {
    let leaders = Leaders::find(cluster, topic, patience)?;
    let inflater = Inflater::new(limits::KAFKA_BATCH_PLAIN_BYTES_MAX);
    let mut reader = Reader { leaders, topic, patience, inflater, judge: Judge::new(sign_key) };
    let mut partitions = reader.open(ledger)?;
    ledger.findings.sources += partitions.len() as u64;
    while let Some(partition) = furthest_behind(&mut partitions) {
        reader.advance(partition, ledger)?;
    }
    for partition in &mut partitions {
        partition.flush(ledger);
    }
    Ok(())
}

fn furthest_behind(partitions: &mut [Partition]) -> Option<&mut Partition> {
    partitions.iter_mut().filter(|partition| !partition.is_read()).min_by_key(|partition| partition.newest_ms())
}

struct Reader<'a, S> {
    leaders: Leaders<S>,
    topic: &'a str,
    patience: Duration,
    inflater: Inflater,
    judge: Judge,
}

impl<S: Stream> Reader<'_, S> {
    fn offset(&mut self, partition: i32, at: At) -> Result<i64, Fatal> {
        let topic = self.topic;
        self.leaders.ask(partition, |session| session.list_offset(topic, partition, at))
    }

    fn open(&mut self, ledger: &mut Ledger) -> Result<Vec<Partition>, Fatal> {
        let ids: Vec<i32> = self.leaders.view().partitions.iter().map(|view| view.id).collect();
        let mut partitions = Vec::with_capacity(ids.len());
        for id in ids {
            let label = format!("partition {id} of {}", self.topic);
            let (end, first) = (self.offset(id, At::Latest)?, self.offset(id, At::Earliest)?);
            if first > 0 {
                ledger.findings.explain(format!("{label} starts at offset {first}: what was before is deleted"));
            }
            let source = ledger.name(label, Unit::Offsets);
            partitions.push(Partition::new(id, source, first, end));
        }
        Ok(partitions)
    }

    /// Reads on in one partition.
    fn advance(&mut self, partition: &mut Partition, ledger: &mut Ledger) -> Result<(), Fatal> {
        let deadline = Instant::now() + self.patience;
        let Self { leaders, topic, inflater, judge, .. } = self;
        loop {
            let (id, next) = (partition.id, partition.next());
            let step = leaders.ask(id, |session| {
                let fetched = session.fetch(topic, id, next, limits::KAFKA_FETCH_BYTES, FETCH_WAIT)?;
                match fetched.error {
                    0 => {}
                    OFFSET_OUT_OF_RANGE => return Ok(Step::Deleted),
                    code => return Err(KafkaError::broker("fetching", code)),
                }
                let advanced = partition.take(fetched.records, inflater, judge, ledger);
                Ok(if advanced { Step::Advanced } else { Step::Nothing })
            });
            // It was reached at the start.
            let step = step.map_err(|fatal| Fatal { exit: Exit::Failed, ..fatal })?;
            match step {
                Step::Advanced => return Ok(()),
                Step::Nothing if Instant::now() < deadline => {}
                Step::Nothing => {
                    let what = format!("partition {id} of {topic}: the broker gives nothing from offset {next} on");
                    return Err(Fatal::new(Exit::Failed, what).mend("kafka-dump-log shows what is there"));
                }
                Step::Deleted => {
                    let first = self.offset(id, At::Earliest)?;
                    let name = format!("partition {id} of {topic}", topic = self.topic);
                    ledger.findings.explain(format!("{name}: offsets {next} to {first} went while it was read"));
                    partition.skip_to(first.max(next + 1));
                    return Ok(());
                }
            }
        }
    }
}
