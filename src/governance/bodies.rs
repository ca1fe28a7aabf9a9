//! What is posted: facts of this run as JSON. Numbers that may pass 53 bits are strings of digits.

use crate::counters::{Counts, Field};
use crate::payload::render;
use crate::plan::RunPlan;
use crate::tap::EventFacts;
use serde_json::{Value, json};

/// How the run ended, warm-up included.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunEnd {
    pub ended_unix_ns: u64,
    pub ended_early: bool,
    pub counts: Counts,
    pub events_offered: u64,
    pub events_posted: u64,
}

/// What all bodies of a run share.
#[derive(Clone, Debug)]
pub struct Bodies {
    pub run_id: String,
    targets: Vec<String>,
    /// Id and target of each.
    producers: Vec<(u32, usize)>,
    every: u64,
}

impl Bodies {
    pub fn new(plan: &RunPlan, every: u64) -> Self {
        let producers = plan.producers.iter().map(|producer| (producer.id, producer.target)).collect();
        Self { run_id: plan.run_id.clone(), targets: plan.sink.targets.clone(), producers, every }
    }

    pub fn run_start(&self, started_unix_ns: u64) -> Value {
        json!({
            "run_id": self.run_id,
            "engine_version": env!("CARGO_PKG_VERSION"),
            "started_at": timestamp(started_unix_ns),
            "targets": self.targets,
            "first_producer_id": self.first_producer_id(),
            "producers": self.producers.len(),
            "sample_every": self.every.to_string(),
        })
    }

    /// One body for each producer.
    pub fn producers(&self) -> impl Iterator<Item = Value> + '_ {
        self.producers
            .iter()
            .map(|(id, target)| json!({ "run_id": self.run_id, "producer_id": id, "target": self.targets[*target] }))
    }

    pub fn event(&self, facts: &EventFacts) -> Value {
        json!({
            "run_id": self.run_id,
            "producer_id": facts.producer_id,
            "sequence": facts.sequence.to_string(),
            "timestamp": timestamp(facts.timestamp_unix_ns),
            "size_bytes": facts.bytes,
            "weight": facts.weight,
            "checksum": format!("crc32c:{:08x}", facts.crc32c),
            "target": self.targets[facts.target as usize],
        })
    }

    pub fn batch(&self, events: &[EventFacts]) -> Value {
        json!({ "events": events.iter().map(|facts| self.event(facts)).collect::<Vec<_>>() })
    }

    pub fn run_end(&self, end: &RunEnd) -> Value {
        let count = |field| end.counts.get(field).to_string();
        json!({
            "run_id": self.run_id,
            "ended_at": timestamp(end.ended_unix_ns),
            "outcome": if end.ended_early { "ended_early" } else { "completed" },
            "first_producer_id": self.first_producer_id(),
            "producers": self.producers.len(),
            "records_offered": count(Field::RecordsOffered),
            "records_produced": count(Field::RecordsProduced),
            "records_failed": count(Field::RecordsFailed),
            "records_uncertain": count(Field::RecordsUncertain),
            "records_not_sent": count(Field::RecordsNotSent),
            "bytes_produced": count(Field::BytesProduced),
            "events_offered": end.events_offered.to_string(),
            "events_posted": end.events_posted.to_string(),
        })
    }

    fn first_producer_id(&self) -> u32 {
        self.producers.first().map_or(0, |(id, _)| *id)
    }

    /// Events as this run may come to make them: every producer's target, the smallest and the largest values.
    pub fn extremes(&self, plan: &RunPlan) -> Vec<EventFacts> {
        let weights = || plan.phases.iter().map(|phase| phase.weight);
        let first = EventFacts {
            producer_id: self.first_producer_id(),
            sequence: 0,
            timestamp_unix_ns: 1_000_000_000_000_000_000,
            bytes: plan.payload.record_bytes_min,
            weight: weights().min().unwrap_or(1),
            crc32c: 0,
            target: 0,
        };
        let last = |target| EventFacts {
            producer_id: self.producers.last().map_or(0, |(id, _)| *id),
            sequence: u64::MAX,
            timestamp_unix_ns: 4_000_000_000_123_456_789,
            bytes: plan.payload.record_bytes_max,
            weight: weights().max().unwrap_or(1),
            crc32c: u32::MAX,
            target,
        };
        std::iter::once(first).chain((0..self.targets.len() as u32).map(last)).collect()
    }
}

fn timestamp(unix_ns: u64) -> String {
    render::rfc3339_ns(unix_ns).iter().map(|byte| char::from(*byte)).collect()
}
