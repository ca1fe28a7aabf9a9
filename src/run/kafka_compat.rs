//! Cores whose Kafka client is rskafka, which connects and waits by itself: no ring with sockets, no dialer.

use super::enter::enter_loop;
use super::setup::{Prepared, Setup};
use super::sink_options::kafka_framing;
use crate::base::fatal::Fatal;
use crate::counters::CoreEnd;
use crate::payload::framing::KafkaFraming;
use crate::plan::{KafkaClient, KafkaPlan, RunPlan, TargetPlan};
use crate::sink::Room;
use crate::sink::kafka_compat::{KafkaCompatSink, LaneSetup};
use crate::sys::region::Region;
use crate::sys::syscalls::Syscalls;
use crate::wire::kafka::batch::HEADER_BYTES;

/// Whether the run goes through rskafka.
pub fn is_wanted(plan: &RunPlan) -> bool {
    let through = |to: &TargetPlan| matches!(to, TargetPlan::Kafka(kafka) if kafka.client == KafkaClient::Rskafka);
    plan.producers.iter().any(|producer| through(&producer.to))
}

pub fn run(setup: Setup, region: Region, prepared: Prepared) -> Result<CoreEnd, Fatal> {
    let ring = Syscalls::new(region, setup.plan.sink.queue_depth * prepared.payloads.len());
    let sink = open(&setup)?;
    enter_loop(setup, ring, prepared, sink)
}

fn open(setup: &Setup) -> Result<KafkaCompatSink, Fatal> {
    let plan = &setup.plan;
    let mut setups = Vec::new();
    for (producer, lane) in plan.producers_of(setup.index).zip(&setup.kafka_lanes) {
        let kafka = lane.target.plan.clone();
        let frames = kafka_framing(plan, producer, &kafka);
        let room = room((plan.payload.record_bytes_min, plan.payload.record_bytes_max), &frames, &kafka);
        setups.push(LaneSetup { plan: kafka, partitions: lane.partitions.clone(), frames, room });
    }
    KafkaCompatSink::open(setups, &|| setup.stop.may_start())
}

/// What fits into a batch of records of these lengths, framed as the native client frames them: its batches are the
/// same. The frames that rskafka writes are shorter, if anything.
fn room((shortest, longest): (u64, u64), frames: &KafkaFraming, kafka: &KafkaPlan) -> Room {
    let frame = (frames.before() + frames.after()) as u64;
    let space = kafka.batch_bytes - HEADER_BYTES as u64;
    let bytes = match shortest == longest {
        true => space / (shortest + frame) * shortest,
        // Of records of many lengths the shortest have the most frames.
        false => (u128::from(space) * u128::from(shortest) / u128::from(shortest + frame)) as u64,
    };
    let bytes = bytes.max(longest);
    Room { bytes, records: (space.saturating_sub(bytes) / frame).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::KeyPlan;
    use crate::plan::testing::kafka_plan;
    use proptest::prelude::*;

    fn kafka(batch_bytes: u64) -> KafkaPlan {
        KafkaPlan { batch_bytes, batch_bytes_min: batch_bytes, ..kafka_plan(9092) }
    }

    proptest! {
        #[test]
        fn a_batch_is_full_and_never_too_large(
            lengths in (16u64..5000, 0u64..5000), extra in 0u64..100_000, keyed: bool,
        ) {
            let (shortest, longest) = (lengths.0, lengths.0 + if lengths.1 % 2 == 0 { 0 } else { lengths.1 });
            let key = if keyed { KeyPlan::Cycle(1000) } else { KeyPlan::None };
            let frames = KafkaFraming::new(key, vec![], 0, longest, 10_000);
            let frame = (frames.before() + frames.after()) as u64;
            let batch = HEADER_BYTES as u64 + longest + frame + extra;
            let room = room((shortest, longest), &frames, &kafka(batch));
            prop_assert!(room.bytes >= longest);
            // The most frames that the room allows.
            let records = room.records.min(room.bytes / shortest);
            prop_assert!(HEADER_BYTES as u64 + room.bytes + records * frame <= batch);
            if shortest == longest {
                prop_assert_eq!(records, (batch - HEADER_BYTES as u64) / (longest + frame));
            }
        }
    }
}
