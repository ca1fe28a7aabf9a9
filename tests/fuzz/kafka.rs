//! What brokers and their clients may send.

use engine::config::kafka_properties;
use engine::connect::kafka::answers;
use engine::receive::kafka::asked;
use engine::wire::crc32c;
use engine::wire::kafka::batch::{self, BatchFacts, CRC_COVERS_FROM, HEADER_BYTES};
use engine::wire::kafka::codec::Codec;
use engine::wire::kafka::fields::{Fields, Malformed};
use engine::wire::kafka::frame::FrameShape;
use engine::wire::kafka::inflate::Inflater;
use engine::wire::kafka::records::{Batch, Batches};
use engine::wire::kafka::request::{Piece, ProduceRequest, ProduceSkim, RequestHead};
use engine::wire::kafka::response::{AnswerSkim, AnswerWriter, Frames, ProduceAnswer, Split, Told};

/// The most that a batch may unpack to.
const PLAIN_BYTES_MAX: usize = 1 << 20;

/// The first byte chooses the version, and how arrival is cut. An answer read whole and one read piece by piece say the
/// same, and so does an answer of ours that says it again.
pub fn answer(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let version = 3 + i16::from(choice % 6);
    let frames = Frames::new(1 << 12);
    let mut left = bytes;
    while let Ok(Split::Frame { used, .. }) = frames.split(left) {
        left = &left[used..];
    }
    let whole = ProduceAnswer::parse(bytes, version);
    let first = whole.ok().and_then(|one| one.partitions().next());
    let index = first.map_or(0, |one| one.index);
    let told = whole.map(|one| Told {
        correlation_id: one.correlation_id,
        partition: first.map(|one| (one.error_code, one.base_offset)),
        throttle_time_ms: one.throttle_time_ms,
    });
    let skim = AnswerSkim::new(version, index, i32::MAX as usize);
    assert_eq!(skimmed_answer(skim, bytes, 1 + usize::from(choice / 6)), told.ok());
    let Ok(answer) = whole else { return };
    let mut out = vec![];
    let count = answer.partitions().count() as u32;
    let mut writer = AnswerWriter::begin(&mut out, version, answer.correlation_id, count);
    for one in answer.partitions() {
        writer.topic(one.topic, 1);
        writer.partition(one.index, one.error_code, one.base_offset);
    }
    writer.end(answer.throttle_time_ms);
    let Ok(Split::Frame { frame, used }) = Frames::new(out.len()).split(&out) else { panic!("no frame: {out:?}") };
    assert_eq!(used, out.len());
    let again = ProduceAnswer::parse(frame, version).expect("an answer of ours");
    assert_eq!((again.correlation_id, again.throttle_time_ms), (answer.correlation_id, answer.throttle_time_ms));
    let facts = |of: &ProduceAnswer| {
        let partitions = of.partitions().map(|one| (one.topic.to_vec(), one.index, one.error_code, one.base_offset));
        partitions.collect::<Vec<_>>()
    };
    assert_eq!(facts(&again), facts(&answer));
}

/// `None`: it makes no sense.
fn skimmed_answer(mut skim: AnswerSkim, frame: &[u8], step: usize) -> Option<Told> {
    let bytes = [&(frame.len() as i32).to_be_bytes()[..], frame].concat();
    let (mut at, mut seen) = (0, 0);
    while seen < bytes.len() {
        seen = bytes.len().min(seen + step);
        let (used, told) = skim.step(&bytes[at..seen]).ok()?;
        at += used;
        if told.is_some() {
            assert_eq!(at, bytes.len());
            return told;
        }
    }
    panic!("a whole answer is an answer or an error");
}

/// The first byte chooses how arrival is cut. A request read whole and one read piece by piece say the same.
pub fn request(data: &[u8]) {
    let Some((choice, frame)) = data.split_first() else { return };
    let Ok(head) = RequestHead::parse(frame) else { return };
    let body = &frame[head.body_at..];
    let whole = ProduceRequest::parse(body);
    let whole = whole.map(|one| one.partitions().map(|p| (p.topic.to_vec(), p.index, p.records.len())).collect());
    assert_eq!(skimmed(body, 1 + usize::from(*choice)), whole);
}

type Walked = Vec<(Vec<u8>, i32, usize)>;

fn skimmed(body: &[u8], step: usize) -> Result<Walked, Malformed> {
    let mut skim = ProduceSkim::new(body.len());
    let (mut at, mut seen, mut topic, mut found) = (0, 0, vec![], vec![]);
    loop {
        let (piece, used) = skim.step(&body[at..seen])?;
        at += used;
        match piece {
            Piece::More => seen = (seen + step).min(body.len()),
            Piece::Head { .. } => {}
            Piece::Topic { name, .. } => topic = name.to_vec(),
            Piece::Partition { index, record_bytes } => {
                found.push((topic.clone(), index, record_bytes));
                at += record_bytes;
                seen = seen.max(at);
            }
            Piece::End => return Ok(found),
        }
    }
}

/// The first byte chooses whether lengths and checksums are made good first: behind them is the code that no random
/// change would reach.
pub fn batch(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if choice & 1 == 1 && bytes.len() >= HEADER_BYTES {
        let length = (bytes.len() - batch::LENGTH_EXCLUDES) as u32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::checksum(&bytes[CRC_COVERS_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    let mut inflater = Inflater::new(PLAIN_BYTES_MAX);
    for batch in Batches::new(&bytes).flatten() {
        assert_eq!(batch.bytes().len(), batch.head.bytes);
        let good = batch.check_crc().is_ok();
        assert!(good || choice & 1 == 0);
        let Ok(records) = batch.records(&mut inflater) else { continue };
        let mut values = vec![];
        for record in records {
            let Ok(record) = record else { return };
            let headers: usize = record.headers().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum();
            let bytes = headers + record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            assert!(bytes <= PLAIN_BYTES_MAX.max(data.len()));
            values.push(record.value.unwrap_or_default().to_vec());
        }
        written_again(&values);
    }
}

/// Values of an accepted batch, framed by us, come back.
fn written_again(values: &[Vec<u8>]) {
    let longest = values.iter().map(Vec::len).max().unwrap_or(0);
    let shape = FrameShape::new(None, vec![("n".into(), 3)], longest, values.len() as u32);
    let mut body = vec![0; HEADER_BYTES];
    for (delta, value) in values.iter().enumerate() {
        let (mut before, mut after) = (vec![0; shape.before_bytes()], vec![0; shape.after_bytes()]);
        shape.bake(&mut before, &mut after, value.len());
        shape.put_delta(&mut before, delta as u32);
        body.extend([&before[..], value, &after].concat());
    }
    let record_bytes = (body.len() - HEADER_BYTES) as u32;
    let facts = BatchFacts {
        records: values.len() as u32,
        record_bytes,
        records_crc: batch::raw_append(0, &body[HEADER_BYTES..]),
        codec: Codec::None,
        first_timestamp_ms: 1,
        max_timestamp_ms: 1,
        producer_id: batch::NO_PRODUCER_ID,
        producer_epoch: batch::NO_PRODUCER_EPOCH,
        base_sequence: batch::NO_SEQUENCE,
    };
    if values.is_empty() {
        return;
    }
    let head = body.first_chunk_mut().expect("room for the head");
    batch::write_header(head, &facts, crc32c::shift(u64::from(record_bytes)));
    let again = Batch::parse(&body).expect("a batch of ours");
    again.check_crc().expect("a checksum of ours");
    let mut inflater = Inflater::new(0);
    let found = again.records(&mut inflater).expect("nothing to unpack").map(|record| record.expect("ours").value);
    assert!(found.eq(values.iter().map(|value| Some(&value[..]))));
}

/// The first byte chooses the version, and all answers to control requests are tried.
pub fn control(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let (fields, version) = (Fields::new(bytes), i16::from(choice % 12));
    let _ = (answers::api_versions(fields, version), answers::create_topics(fields, "t"));
    let _ = (answers::describe_configs(fields, version), answers::init_producer_id(fields));
    let _ = (answers::sasl_handshake(fields), answers::sasl_authenticate(fields, version));
    let _ = answers::list_offsets(fields, version, "t", 0);
    if let Ok(view) = answers::metadata(fields, version, "t") {
        assert!(view.partitions.is_sorted_by_key(|partition| partition.id));
        for partition in &view.partitions {
            assert!(view.leader(partition.id).is_none_or(|broker| broker.port > 0));
        }
    }
    if let Ok(fetched) = answers::fetch(fields, version, "t", 0) {
        assert!(fetched.records.len() <= bytes.len());
    }
}

/// The first byte chooses the version, and all requests to the broker are tried. No more is told than there are bytes.
pub fn asked(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let (body, version) = (Fields::new(bytes), i16::from(choice % 13));
    if let Ok(Some(names)) = asked::metadata(body, version) {
        assert!(names.len() <= bytes.len());
    }
    let elements = |topics: &[asked::OfTopic<i64>]| topics.iter().map(|one| 1 + one.partitions.len()).sum::<usize>();
    if let Ok(topics) = asked::list_offsets(body, version) {
        assert!(elements(&topics) <= bytes.len());
    }
    if let Ok((_, topics)) = asked::fetch(body, version) {
        assert!(elements(&topics) <= bytes.len());
    }
    if let Ok((topics, _)) = asked::create_topics(body) {
        assert!(topics.len() <= bytes.len());
    }
    if let Ok(resources) = asked::describe_configs(body) {
        assert!(resources.iter().map(|one| 1 + one.keys.as_ref().map_or(0, Vec::len)).sum::<usize>() <= bytes.len());
    }
    let _ = asked::is_transactional(body);
}

/// What is accepted is accepted again with comments and blank lines around it, and means the same.
pub fn properties(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let parse = |text: &str| kafka_properties::parse_lines(text, |line| format!("f:{line}"));
    match parse(&text) {
        Ok(found) => {
            let padded = format!("# comment\n\n!x\n{text}");
            assert_eq!(parse(&padded), Ok(found));
        }
        Err(errors) => assert!(errors.iter().all(|error| error.what.starts_with("f:") && error.mend.is_some())),
    }
}
