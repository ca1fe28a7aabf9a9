//! What is written here is read by kafka-protocol, which checks checksums and lengths on its own, and the other way
//! round; and foreign bytes do no harm.

mod messages;

use super::batch::{self, BatchFacts, HEADER_BYTES};
use super::codec::{Codec, Deflater};
use super::fields::Malformed;
use super::frame::FrameShape;
use super::inflate::Inflater;
use super::records::{Batch, BatchError, BatchHead, Batches};
use super::request::{ProduceRequest, RequestHead};
use super::response::{AnswerSkim, Frames, ProduceAnswer};
use crate::base::digits::put_decimal;
use crate::wire::crc32c;
use kafka_protocol::records::{Compression, Record, RecordBatchDecoder};
use messages::skimmed;
use proptest::prelude::*;
use std::io::Cursor;

const TIMESTAMP_MS: i64 = 1_795_000_000_123;

/// Framed records one after another, as in a payload ring, and for each the raw CRC of its parts.
struct Ring {
    shape: FrameShape,
    frames: Vec<Vec<u8>>,
    values: Vec<Vec<u8>>,
    keyed: bool,
}

impl Ring {
    fn new(lengths: &[usize], keyed: bool) -> Self {
        let headers = vec![("weight".to_owned(), 7), ("run_id".to_owned(), 20)];
        let headers = if keyed { headers } else { vec![] };
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let shape = FrameShape::new(keyed.then_some(10), headers, longest, lengths.len().max(3000) as u32);
        let values: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(at, bytes)| vec![at as u8; *bytes]).collect();
        let frame = |(at, value): (usize, &Vec<u8>)| {
            let (mut before, mut after) = (vec![0; shape.before_bytes()], vec![0; shape.after_bytes()]);
            shape.bake(&mut before, &mut after, value.len());
            put_decimal(shape.key_mut(&mut before), at as u64);
            if keyed {
                put_decimal(shape.value_mut(&mut after, 0), 100);
                put_decimal(shape.value_mut(&mut after, 1), at as u64 * 1_000_000_007);
            }
            [&before[..], value, &after].concat()
        };
        let frames = values.iter().enumerate().map(frame).collect();
        Self { shape, frames, values, keyed }
    }

    /// The batch of `records` from the one at `first`, cut from the ring as a sender does it: offset deltas are patched
    /// in place, the checksum is joined from that of the parts, and the record itself is not read again.
    fn cut(&mut self, first: usize, records: usize) -> (Vec<u8>, u32) {
        let mut raw = 0;
        let mut body = vec![];
        for delta in 0..records {
            let at = (first + delta) % self.frames.len();
            let frame = &mut self.frames[at];
            let rest = frame.len() - self.shape.before_bytes();
            let before = &mut frame[..self.shape.before_bytes()];
            self.shape.put_delta(before, delta as u32);
            raw = batch::raw_append(raw, before);
            let value = &self.values[at];
            let value_shift = crc32c::shift(value.len() as u64);
            raw = batch::raw_join(raw, batch::raw_of_checksum(crc32c::checksum(value), value_shift), value_shift);
            raw = batch::raw_append(raw, &frame[frame.len() - (rest - value.len())..]);
            body.extend_from_slice(frame);
        }
        (body, raw)
    }

    fn check(&self, first: usize, records: &[Record]) {
        for (delta, record) in records.iter().enumerate() {
            let at = (first + delta) % self.values.len();
            assert_eq!(record.value.as_deref(), Some(&self.values[at][..]));
            assert_eq!((record.offset, record.timestamp), (delta as i64, TIMESTAMP_MS));
            assert_eq!((record.producer_id, record.producer_epoch, record.sequence), (77, 3, 1000 + delta as i32));
            let key = self.keyed.then(|| format!("{at:010}").into_bytes());
            assert_eq!(record.key.as_deref(), key.as_deref());
            let headers: Vec<_> = record.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
            let number = format!("{:020}", at as u64 * 1_000_000_007);
            let expected = [("weight", Some(&b"0000100"[..])), ("run_id", Some(number.as_bytes()))];
            assert_eq!(headers, if self.keyed { &expected[..] } else { &[] });
        }
    }
}

fn facts(records: u32, body: &[u8], raw: u32, codec: Codec) -> BatchFacts {
    BatchFacts {
        records,
        record_bytes: body.len() as u32,
        records_crc: raw,
        codec,
        first_timestamp_ms: TIMESTAMP_MS,
        max_timestamp_ms: TIMESTAMP_MS,
        producer_id: 77,
        producer_epoch: 3,
        base_sequence: 1000,
    }
}

fn headed(facts: &BatchFacts, body: &[u8]) -> Vec<u8> {
    let mut head = [0; HEADER_BYTES];
    batch::write_header(&mut head, facts, crc32c::shift(body.len() as u64));
    [&head[..], body].concat()
}

/// As kafka-protocol reads it, which checks the CRC; it has no codecs of its own in this build.
fn decoded(batch: &[u8]) -> Vec<Record> {
    let mut left = Cursor::new(batch.to_vec());
    let unpack = |packed: &mut _, compression: Compression| {
        let packed: &[u8] = AsRef::<[u8]>::as_ref(packed);
        let codec = Codec::from_attributes(compression as i16).expect("one of ours");
        Ok(Cursor::new(Inflater::new(64 << 20).inflate(codec, packed).expect("it unpacks").to_vec()))
    };
    let set = RecordBatchDecoder::decode_with_custom_compression(&mut left, Some(&unpack)).expect("a good batch");
    assert_eq!(left.position(), batch.len() as u64);
    set.records
}

/// Offset delta, key, value and number of headers.
type Owned = (i32, Option<Vec<u8>>, Option<Vec<u8>>, usize);

fn read_back(batch: &[u8]) -> Vec<Owned> {
    let mut inflater = Inflater::new(64 << 20);
    let found = Batch::parse(batch).expect("a good batch");
    found.check_crc().expect("a good CRC");
    assert!(found.head.is_dense() && !found.head.is_control() && !found.head.is_transactional());
    let records = found.records(&mut inflater).expect("it unpacks").map(|record| record.expect("a good record"));
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    records.map(|one| (one.offset_delta, owned(one.key), owned(one.value), one.headers().count())).collect()
}

#[test]
fn batches_of_every_size_and_codec_are_understood() {
    for codec in Codec::ALL {
        let mut deflater = Deflater::new(codec, None).unwrap();
        for (count, bytes, keyed) in [(1, 0, false), (1, 4096, true), (2, 1, true), (65, 700, false), (3000, 64, true)]
        {
            let lengths: Vec<_> = (0..count).map(|at| bytes + at % 3).collect();
            let mut ring = Ring::new(&lengths, keyed);
            let (body, raw) = ring.cut(0, count);
            let mut packed = vec![];
            deflater.deflate_to_vec(&body, &mut packed).unwrap();
            let packed_raw = batch::raw_append(0, &packed);
            assert!(codec != Codec::None || packed_raw == raw);
            let whole = headed(&facts(count as u32, &packed, packed_raw, codec), &packed);
            let records = decoded(&whole);
            assert_eq!(records.len(), count);
            ring.check(0, &records);
            let ours = read_back(&whole);
            assert_eq!(ours.len(), count);
            for (record, (delta, key, value, headers)) in records.iter().zip(ours) {
                assert_eq!((record.offset, record.headers.len()), (i64::from(delta), headers));
                assert_eq!((record.key.as_deref(), record.value.as_deref()), (key.as_deref(), value.as_deref()));
            }
        }
    }
}

#[test]
fn a_damaged_batch_is_found_out() {
    let mut ring = Ring::new(&[100, 100], true);
    let (body, raw) = ring.cut(0, 2);
    let good = headed(&facts(2, &body, raw, Codec::None), &body);
    for at in batch::CRC_COVERS_FROM..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let outcome = Batch::parse(&bad).and_then(|batch| batch.check_crc());
        assert!(matches!(outcome, Err(BatchError::Crc { .. } | BatchError::UnknownCodec(_))), "{at}: {outcome:?}");
    }
    for end in 0..good.len() {
        assert!(matches!(Batch::parse(&good[..end]), Err(BatchError::Malformed(error)) if error.is_short()), "{end}");
    }
    let mut old = good.clone();
    old[16] = 1;
    assert!(matches!(BatchHead::parse(&old), Err(BatchError::Magic(1))));
    old[16] = 2;
    old[8..12].copy_from_slice(&48_i32.to_be_bytes());
    assert!(matches!(BatchHead::parse(&old), Err(BatchError::Malformed(Malformed::Value { value: 48, .. }))));
    // One record more or fewer than there are.
    for count in [1, 3] {
        let mut other = good.clone();
        other[57..61].copy_from_slice(&i32::to_be_bytes(count));
        let batch = Batch::parse(&other).unwrap();
        assert!(batch.records(&mut Inflater::new(0)).unwrap().any(|record| record.is_err()));
        assert!(!batch.head.is_dense());
    }
    let two = [good.clone(), good].concat();
    assert_eq!(Batches::new(&two).filter(Result::is_ok).count(), 2);
    assert_eq!(Batches::new(&two[..two.len() - 1]).map(|batch| batch.is_ok()).collect::<Vec<_>>(), [true, false]);
}

proptest! {
    #[test]
    fn a_batch_cut_anywhere_has_the_checksum_of_its_bytes(
        lengths in proptest::collection::vec(0_usize..300, 1..40),
        first: prop::sample::Index,
        records in 1_usize..60,
        again in 1_usize..60,
        keyed: bool,
    ) {
        let mut ring = Ring::new(&lengths, keyed);
        let first = first.index(lengths.len());
        // The ring's frames have been part of other batches before, and no record is twice in one.
        let records = records.min(lengths.len());
        ring.cut((first + 3) % lengths.len(), again.min(lengths.len()));
        let (body, raw) = ring.cut(first, records);
        let whole = headed(&facts(records as u32, &body, raw, Codec::None), &body);
        let stated = u32::from_be_bytes(*whole[17..].first_chunk().unwrap());
        prop_assert_eq!(stated, crc32c::checksum(&whole[21..]));
        let decoded = decoded(&whole);
        prop_assert_eq!(decoded.len(), records);
        ring.check(first, &decoded);
    }

    #[test]
    fn hostile_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400), version in 0_i16..12) {
        let _ = ProduceAnswer::parse(&bytes, version);
        let message = [&(bytes.len() as i32).to_be_bytes()[..], &bytes].concat();
        let _ = AnswerSkim::new(version, 0, 400).step(&message);
        let _ = RequestHead::parse(&bytes);
        let walked = ProduceRequest::parse(&bytes).map(|request| request.partitions().count());
        prop_assert_eq!(walked, skimmed(&bytes, 3).map(|found| found.len()));
        let _ = Frames::new(200).split(&bytes);
        let mut batch = bytes.clone();
        if batch.len() > HEADER_BYTES {
            let length = (batch.len() - 12) as i32;
            batch[8..12].copy_from_slice(&length.to_be_bytes());
            batch[16] = 2;
            batch[22] &= 0xf8;
        }
        let mut inflater = Inflater::new(1 << 16);
        for batch in Batches::new(&batch).flatten() {
            if let Ok(records) = batch.records(&mut inflater) {
                let bytes: usize = records.flatten().map(|one| one.value.map_or(0, <[u8]>::len)).sum();
                prop_assert!(bytes <= 1 << 16);
            }
        }
    }
}
