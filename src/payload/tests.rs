//! A lane's payload as its target sees it: framed, cut anywhere, made again.

use super::bake::{Draft, Who};
use super::framing::{Framing, Header, KafkaFraming};
use super::*;
use crate::base::fatal::Fatal;
use crate::plan::{Annotate, KeyPlan, PayloadPlan, PayloadSource, TemplateFile};
use crate::wire::crc32c;
use crate::wire::kafka::records::Batch;
use proptest::prelude::*;
use std::sync::Arc;

const RING_BYTES: u64 = 60_000;

fn random(bytes_min: u64, bytes_max: u64, annotate: Annotate) -> PayloadPlan {
    PayloadPlan {
        source: PayloadSource::Random { compressibility: 0.0 },
        record_bytes_min: bytes_min,
        record_bytes_max: bytes_max,
        headed: annotate == Annotate::Payload,
        seed: 7,
        annotate,
        sign_key: None,
    }
}

fn template() -> PayloadPlan {
    replayed("event.json", br#"{"sequence": {{sequence}}, "crc": "{{crc32c}}", "at": "{{timestamp}}"}"#)
}

/// An image without pixels.
fn fits() -> PayloadPlan {
    let cards = [("SIMPLE", "T"), ("BITPIX", "8"), ("NAXIS", "0")];
    let cards: String = cards.iter().map(|(name, value)| format!("{name:<8}= {value:>20}{:50}", "")).collect();
    replayed("image.fits", format!("{:<2880}", cards + "END").as_bytes())
}

fn replayed(name: &str, bytes: &[u8]) -> PayloadPlan {
    let file = TemplateFile { name: name.into(), bytes: bytes.into() };
    let found = template::check(&file, Annotate::Payload).expect("it is sound");
    PayloadPlan {
        source: PayloadSource::Templates(Arc::new([file])),
        headed: found.headed,
        ..random(found.record_bytes, found.record_bytes, Annotate::Payload)
    }
}

/// A payload and its memory, with room for one more block behind the ring.
fn baked(plan: &PayloadPlan, framing: Framing) -> (Payload, Vec<u8>) {
    let draft = Draft::new(plan, framing, 0.0, 3, RING_BYTES, 8192).expect("it fits");
    let (bytes, longest) = (draft.bytes() as usize, RING_BYTES as usize);
    let mut memory = vec![0; bytes + longest];
    let who = Who { run_id: "run", run_id_hash: 9, producer_id: 3 };
    let mut payload = draft.bake(plan, who, 0, &mut memory[..bytes], 64, &|| Ok(())).expect("it bakes");
    payload.set_epoch(1_700_000_000_000_000_000);
    (payload, memory)
}

#[test]
fn a_ring_that_nobody_needs_any_more_is_not_finished() {
    for plan in [random(500, 500, Annotate::Payload), template()] {
        let draft = Draft::new(&plan, Framing::None, 0.0, 3, RING_BYTES, 8192).unwrap();
        let mut memory = vec![0; draft.bytes() as usize];
        let (who, asked) = (Who { run_id: "run", run_id_hash: 9, producer_id: 3 }, std::cell::Cell::new(0));
        let may_prepare = || {
            asked.set(asked.get() + 1);
            if asked.get() > 10 { Err(Fatal::host("stopped")) } else { Ok(()) }
        };
        let baked = draft.bake(&plan, who, 0, &mut memory, 64, &may_prepare);
        assert_eq!(baked.err(), Some(Fatal::host("stopped")));
        assert!(memory[..500].iter().any(|byte| *byte > 0) && memory[10 * 500..].iter().all(|byte| *byte == 0));
    }
}

fn begin(payload: &mut Payload, memory: &mut [u8], span: u64, weight: u64) -> Option<u32> {
    let extent = payload.extent(u64::MAX, span, u64::MAX)?;
    let block = Block { weight, first_due_ns: 5_000_000 * (payload.next_sequence() + 1), ..Block::default() };
    Some(payload.begin(memory, extent, block))
}

/// Whether stamping blocks of so many records, lap after lap, changed anything behind what is said to change.
fn keeps_its_word(plan: &PayloadPlan, records: u64) -> bool {
    let (mut payload, mut memory) = baked(plan, Framing::None);
    let stamped = payload.stamped_bytes(records);
    let before = memory.clone();
    let starts = (0..payload.starts().count()).step_by(records as usize).map(|at| payload.starts().start(at) as usize);
    let mut fixed = vec![true; memory.len()];
    starts.for_each(|start| fixed[start..start + stamped.unwrap_or(0)].fill(false));
    for _ in 0..3 * payload.starts().count() {
        let extent = payload.extent(u64::MAX, u64::MAX, records).expect("the ring is free");
        let block = Block { weight: 2, first_due_ns: 7_000 * (payload.next_sequence() + 1), ..Block::default() };
        let slot = payload.begin(&mut memory, extent, block);
        payload.settle(slot, records);
    }
    (0..memory.len()).all(|at| !fixed[at] || memory[at] == before[at])
}

#[test]
fn nothing_is_stamped_behind_what_is_said_to_change() {
    let signed = PayloadPlan { sign_key: Some([7; 16]), ..random(500, 500, Annotate::Payload) };
    for (plan, records, stamped) in [
        (random(500, 500, Annotate::Payload), 1, Some(HEADER_BYTES)),
        (random(100, 900, Annotate::Payload), 1, Some(HEADER_BYTES)),
        (signed, 1, Some(HEADER_BYTES)),
        (random(500, 500, Annotate::Off), 3, Some(0)),
        (random(500, 500, Annotate::Headers), 1, Some(0)),
        (random(500, 500, Annotate::Payload), 3, None),
        (template(), 1, None),
    ] {
        assert_eq!(baked(&plan, Framing::None).0.stamped_bytes(records), stamped);
        assert_eq!(keeps_its_word(&plan, records), stamped.is_some(), "{plan:?}, {records} in a block");
    }
    assert_eq!(baked(&random(500, 500, Annotate::Off), Framing::Length).0.stamped_bytes(1), None);
}

fn kafka(key: KeyPlan, headers: Vec<Header>) -> Framing {
    Framing::Kafka(Box::new(KafkaFraming::new(key, headers, 3, 4096, 8191)))
}

/// A batch around the block's bytes, as the sink makes it.
pub fn batch_of(payload: &Payload, memory: &[u8], slot: u32, timestamp_ms: i64) -> Vec<u8> {
    use crate::wire::kafka::batch::{BatchFacts, HEADER_BYTES, write_header};
    let block = payload.block(slot);
    let facts = BatchFacts {
        records: block.records as u32,
        record_bytes: block.span_bytes as u32,
        records_crc: block.remainder,
        codec: crate::wire::kafka::codec::Codec::None,
        first_timestamp_ms: timestamp_ms,
        max_timestamp_ms: timestamp_ms,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
    };
    let mut head = [0; HEADER_BYTES];
    write_header(&mut head, &facts, crc32c::shift(block.span_bytes));
    [&head, &memory[block.range()]].concat()
}

#[test]
fn the_date_of_an_image_is_when_it_was_sent_and_stays_so() {
    let (mut payload, mut memory) = baked(&fits(), Framing::None);
    let extent = payload.extent(u64::MAX, 8192, 1).unwrap();
    let block = Block { weight: 1, first_due_ns: 1_000_000_000, submit_ns: 6_000_000_000, ..Block::default() };
    let slot = payload.begin(&mut memory, extent, block);
    let sent = memory[payload.block(slot).range()].to_vec();
    let text = String::from_utf8_lossy(&sent);
    // The barrier fell 20 s after the minute.
    assert!(text.contains("DATE    = '2023-11-14T22:13:26.000'"), "{text}");
    payload.release(slot);
    let spare = memory.len() - RING_BYTES as usize;
    let again = payload.remake(&mut memory, slot, spare);
    assert!(memory[again] == sent[..]);
}

proptest! {
    #[test]
    fn any_run_of_framed_records_is_a_sound_batch(
        cuts in proptest::collection::vec(300u64..9000, 1..40), varied: bool, keys in 0u64..20,
        way in 0..4, weight in 1u64..1000,
    ) {
        let plan = match (way, varied) {
            (0, true) => random(100, 300, Annotate::Payload),
            (0, false) => random(256, 256, Annotate::Payload),
            (1, true) => random(100, 200, Annotate::Off),
            (1, false) => random(128, 128, Annotate::Off),
            (2, _) => template(),
            _ => random(90, 250, Annotate::Headers),
        };
        let headers = match plan.annotate {
            Annotate::Headers => vec![
                Header::RunId("run".into()), Header::ProducerId, Header::Sequence, Header::TimestampNs, Header::Crc32c,
                Header::Weight(3),
            ],
            _ => vec![Header::Weight(3)],
        };
        let key = match keys { 0 => KeyPlan::None, 1 => KeyPlan::Producer, keys => KeyPlan::Cycle(keys) };
        let (mut payload, mut memory) = baked(&plan, kafka(key, headers));
        for span in cuts {
            let Some(slot) = begin(&mut payload, &mut memory, span, weight) else { continue };
            let block = *payload.block(slot);
            prop_assert!(block.span_bytes <= span);
            let bytes = batch_of(&payload, &memory, slot, 1);
            let batch = Batch::parse(&bytes).unwrap();
            prop_assert_eq!(batch.check_crc(), Ok(()));
            let mut inflater = crate::wire::kafka::inflate::Inflater::new(1 << 20);
            let mut count = 0;
            for record in batch.records(&mut inflater).unwrap() {
                let record = record.unwrap();
                prop_assert_eq!(record.value.unwrap(), &memory[payload.place_of(&block, count)]);
                let mut said = record.headers().map(|(name, value)| {
                    (String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value.unwrap()).into_owned())
                });
                let weight_said = said.find(|(name, _)| name == "weight").unwrap().1;
                prop_assert_eq!(weight_said.parse::<u64>().unwrap(), weight);
                count += 1;
            }
            prop_assert_eq!(count, block.records);
            payload.settle(slot, block.records);
        }
    }

    #[test]
    fn a_block_made_again_is_the_same(
        spans in proptest::collection::vec(200u64..5000, 2..20), framed in 0..3, varied: bool,
    ) {
        let framing = match framed {
            0 => Framing::None,
            1 => Framing::Length,
            _ => kafka(KeyPlan::Cycle(5), vec![Header::Sequence]),
        };
        let (shortest, longest) = if varied { (100, 180) } else { (128, 128) };
        let (mut payload, mut memory) = baked(&random(shortest, longest, Annotate::Payload), framing);
        let spare = memory.len() - RING_BYTES as usize;
        let mut sent = Vec::new();
        for span in spans {
            let Some(slot) = begin(&mut payload, &mut memory, span, 1) else { continue };
            sent.push((slot, memory[payload.block(slot).range()].to_vec()));
            payload.release(slot);
        }
        for (slot, bytes) in sent {
            let again = payload.remake(&mut memory, slot, spare);
            prop_assert!(memory[again] == bytes[..]);
        }
    }

    #[test]
    fn what_expires_bit_by_bit_is_as_many_records_as_at_once(step in 1u64..9000, total in 1u64..500_000, varied: bool) {
        let (shortest, longest) = if varied { (64, 8000) } else { (100, 100) };
        let (mut payload, _) = baked(&random(shortest, longest, Annotate::Payload), Framing::None);
        let (at_once, _) = payload.due_within(total);
        let (mut records, mut passed_bytes) = (0, 0u64);
        for expired_bytes in (0..total).step_by(step as usize).chain([total]) {
            let (due, due_bytes) = payload.due_within(expired_bytes.saturating_sub(passed_bytes));
            payload.pass(due);
            (records, passed_bytes) = (records + due, passed_bytes + due_bytes);
        }
        prop_assert_eq!(records, at_once);
    }

    #[test]
    fn spans_and_payload_bytes_agree(span in 100u64..9000, framed: bool, varied: bool, asked in 0u64..10_000) {
        let framing = if framed { Framing::Length } else { Framing::None };
        let (shortest, longest) = if varied { (64, 300) } else { (100, 100) };
        let (mut payload, mut memory) = baked(&random(shortest, longest, Annotate::Payload), framing);
        let Some(slot) = begin(&mut payload, &mut memory, span, 1) else { return Ok(()) };
        let block = *payload.block(slot);
        let records = payload.records_within_span(&block, asked);
        prop_assert!(payload.span_of(&block, records) <= asked.min(block.span_bytes));
        prop_assert!(records == block.records || payload.span_of(&block, records + 1) > asked);
        prop_assert_eq!(payload.span_of(&block, block.records), block.span_bytes);
        prop_assert_eq!(payload.bytes_of(&block, 0..block.records), block.bytes);
    }
}
