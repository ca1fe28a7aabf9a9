//! A block as rskafka wants it: each record copied out of the ring, with the key and the headers that the native
//! client writes around it. Only the order of headers differs: rskafka sorts them by name.

use crate::payload::Payload;
use crate::payload::framing::KafkaFraming;
use crate::wire::crc32c;
use crate::wire::kafka::batch::HEADER_BYTES;
use crate::wire::kafka::varint;
use rskafka::chrono::DateTime;
use rskafka::record::Record;

/// The records of a block, and what they will measure as an uncompressed batch.
pub fn copied(frames: &KafkaFraming, memory: &[u8], payload: &Payload, slot: u32) -> (Vec<Record>, u64) {
    let block = payload.block(slot);
    // One for the whole batch, as the native client has it.
    let timestamp_ms = (payload.timestamp_unix_ns(block, 0) / 1_000_000) as i64;
    let timestamp = DateTime::from_timestamp_millis(timestamp_ms).unwrap_or_default();
    let mut bytes = HEADER_BYTES;
    let mut records = Vec::with_capacity(block.records as usize);
    for at in 0..block.records {
        let value = memory[payload.place_of(block, at)].to_vec();
        let checksum = if frames.states_checksum() { crc32c::checksum(&value) } else { 0 };
        let headers = frames.headers_of(block, payload, at, checksum);
        let headers = headers.map(|(name, value)| (name.to_owned(), value)).collect();
        let key = frames.key_of(block.first_sequence + at);
        let record = Record { key, value: Some(value), headers, timestamp };
        bytes += encoded_bytes(&record, at);
        records.push(record);
    }
    (records, bytes as u64)
}

/// Bytes of a record at place `at` of a batch.
fn encoded_bytes(record: &Record, at: u64) -> usize {
    let sized = |bytes: usize| varint::length(bytes as i64) + bytes;
    let optional = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(1, |bytes| sized(bytes.len()));
    let headers: usize = record.headers.iter().map(|(name, value)| sized(name.len()) + sized(value.len())).sum();
    // Attributes and timestamp delta take one byte each.
    let body = 2 + varint::length(at as i64) + optional(&record.key) + optional(&record.value);
    sized(body + varint::length(record.headers.len() as i64) + headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Block;
    use crate::payload::bake::{Draft, Who};
    use crate::payload::framing::{Framing, Header};
    use crate::payload::tests::batch_of;
    use crate::plan::{Annotate, KeyPlan, PayloadPlan, PayloadSource};
    use crate::wire::kafka::inflate::Inflater;
    use crate::wire::kafka::records::Batch;
    use kafka_protocol::protocol::StrBytes;
    use kafka_protocol::records as oracle;
    use std::collections::BTreeMap;

    const RING_BYTES: u64 = 40_000;

    fn frames(key: KeyPlan, headers: &[Header]) -> KafkaFraming {
        KafkaFraming::new(key, headers.to_vec(), 3, 300, 4096)
    }

    /// One block of a fresh lane.
    fn block(annotate: Annotate, framing: Framing) -> (Payload, Vec<u8>, u32) {
        let plan = PayloadPlan {
            source: PayloadSource::Random { compressibility: 0.0 },
            record_bytes_min: 80,
            record_bytes_max: 300,
            headed: annotate == Annotate::Payload,
            seed: 7,
            annotate,
            sign_key: None,
        };
        let draft = Draft::new(&plan, framing, 0.0, 3, RING_BYTES, 8192).unwrap();
        let mut memory = vec![0; draft.bytes() as usize];
        let who = Who { run_id: "run", run_id_hash: 9, producer_id: 3 };
        let mut payload = draft.bake(&plan, who, 0, &mut memory, 64, &|| Ok(())).unwrap();
        payload.set_epoch(1_700_000_000_123_456_789);
        let extent = payload.extent(u64::MAX, u64::MAX, 70).unwrap();
        let slot =
            payload.begin(&mut memory, extent, Block { weight: 12, first_due_ns: 5_000_000, ..Block::default() });
        (payload, memory, slot)
    }

    /// The block's frames as the native client has them, read back.
    fn native(payload: &Payload, memory: &[u8], slot: u32) -> Vec<Record> {
        let bytes = batch_of(payload, memory, slot, 1_700_000_000_128);
        let batch = Batch::parse(&bytes).unwrap();
        let mut inflater = Inflater::new(1 << 20);
        let read = batch.records(&mut inflater).unwrap().map(|record| {
            let record = record.unwrap();
            let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
            Record {
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record.headers().map(|(key, value)| (name(key), value.unwrap().to_vec())).collect(),
                timestamp: DateTime::from_timestamp_millis(1_700_000_000_128).unwrap(),
            }
        });
        read.collect()
    }

    /// What an encoder of somebody else makes of the records.
    fn encoded_by_oracle(records: &[Record]) -> usize {
        let timestamp = records[0].timestamp.timestamp_millis();
        let foreign = records.iter().enumerate().map(|(at, record)| oracle::Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 0,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: oracle::TimestampType::Creation,
            offset: at as i64,
            sequence: at as i32,
            timestamp,
            key: record.key.clone().map(Into::into),
            value: record.value.clone().map(Into::into),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| (StrBytes::from_string(name.clone()), Some(value.clone().into())))
                .collect(),
        });
        let foreign: Vec<_> = foreign.collect();
        let options = oracle::RecordEncodeOptions { version: 2, compression: oracle::Compression::None };
        let mut bytes = Vec::new();
        oracle::RecordBatchEncoder::encode(&mut bytes, &foreign, &options).unwrap();
        bytes.len()
    }

    #[test]
    fn records_are_those_of_the_native_client() {
        let facts =
            [Header::RunId("run".into()), Header::ProducerId, Header::Sequence, Header::TimestampNs, Header::Crc32c];
        for (annotate, headers) in [
            (Annotate::Payload, vec![]),
            (Annotate::Payload, vec![Header::Weight(3)]),
            (Annotate::Headers, facts.to_vec()),
            (Annotate::Headers, [&[Header::Weight(2)], &facts[..]].concat()),
        ] {
            for key in [KeyPlan::None, KeyPlan::Producer, KeyPlan::Cycle(11)] {
                let (payload, memory, slot) = block(annotate, Framing::None);
                let (records, bytes) = copied(&frames(key, &headers), &memory, &payload, slot);
                assert_eq!(bytes, encoded_by_oracle(&records) as u64);
                let (payload, memory, slot) = block(annotate, Framing::Kafka(Box::new(frames(key, &headers))));
                assert_eq!(payload.block(slot).records, 70);
                assert!(records == native(&payload, &memory, slot), "{key:?} {headers:?}");
            }
        }
    }

    #[test]
    fn what_is_asked_for_is_there() {
        let (payload, memory, slot) = block(Annotate::Headers, Framing::None);
        let headers = [Header::Weight(3), Header::Sequence, Header::Crc32c];
        let (records, _) = copied(&frames(KeyPlan::Cycle(11), &headers), &memory, &payload, slot);
        let crc = format!("{:010}", crc32c::checksum(records[12].value.as_ref().unwrap())).into_bytes();
        let said = [("weight", b"012".to_vec()), ("sequence", b"00000000000000000012".to_vec()), ("crc32c", crc)];
        let said: BTreeMap<_, _> = said.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!((records[12].key.as_deref(), &records[12].headers), (Some(&b"01"[..]), &said));
    }
}
