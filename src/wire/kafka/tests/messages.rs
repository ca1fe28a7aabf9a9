//! Requests and answers.

use super::{Ring, facts, headed};
use crate::base::words::{WORDS_BYTES_MAX, Words};
use crate::wire::kafka::codec::Codec;
use crate::wire::kafka::fields::Malformed;
use crate::wire::kafka::produce::ProducePrefix;
use crate::wire::kafka::request::{Piece, ProduceRequest, ProduceSkim, RequestHead};
use crate::wire::kafka::response::{AnswerSkim, AnswerWriter, Frames, ProduceAnswer, Split, Told};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{
    ProduceRequest as TheirRequest, ProduceResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

fn prefixed(version: i16, acks: i16, partition: i32, batch: &[u8]) -> Vec<u8> {
    let prefix = ProducePrefix::new("engine", "topic-ingest", acks, 30_000).unwrap().with_version(version).unwrap();
    let mut request = vec![0xee; prefix.bytes()];
    prefix.write(&mut request, 4711, partition, batch.len() as u32);
    [request, batch.to_vec()].concat()
}

#[test]
fn requests_are_understood_by_their_decoder_and_ours() {
    let mut ring = Ring::new(&[512; 3], false);
    let (body, raw) = ring.cut(1, 3);
    let batch = headed(&facts(3, &body, raw, Codec::None), &body);
    for version in 3..=8 {
        let request = prefixed(version, -1, 5, &batch);
        let Ok(Split::Frame { frame, used }) = Frames::new(1 << 20).split(&request) else { panic!("a whole frame") };
        assert_eq!(used, request.len());
        let mut left = frame;
        let header = RequestHeader::decode(&mut left, 1).unwrap();
        assert_eq!((header.request_api_key, header.request_api_version, header.correlation_id), (0, version, 4711));
        assert_eq!(header.client_id.as_deref(), Some("engine"));
        let theirs = TheirRequest::decode(&mut left, version).unwrap();
        assert!(left.is_empty());
        assert_eq!((theirs.acks, theirs.timeout_ms, theirs.transactional_id.as_ref()), (-1, 30_000, None));
        let [topic] = &theirs.topic_data[..] else { panic!("one topic") };
        let [partition] = &topic.partition_data[..] else { panic!("one partition") };
        assert_eq!((topic.name.as_str(), partition.index), ("topic-ingest", 5));
        assert_eq!(partition.records.as_deref(), Some(&batch[..]));

        let head = RequestHead::parse(frame).unwrap();
        assert!(head.is_produce());
        assert_eq!((head.correlation_id, head.client_id), (4711, Some(&b"engine"[..])));
        let ours = ProduceRequest::parse(&frame[head.body_at..]).unwrap();
        assert_eq!((ours.acks, ours.timeout_ms), (-1, 30_000));
        let found: Vec<_> = ours.partitions().map(|one| (one.topic, one.index, one.records)).collect();
        assert_eq!(found, [(&b"topic-ingest"[..], 5, &batch[..])]);
    }
    // As counted by hand: 40 bytes beside the client id of 4 and the topic of 2.
    assert_eq!(ProducePrefix::new("abcd", "ab", 1, 1000).unwrap().bytes(), 46);
}

#[test]
fn names_and_versions_out_of_range_are_refused() {
    assert!(ProducePrefix::new("engine", "", 1, 1).is_err());
    assert!(ProducePrefix::new("engine", &"t".repeat(250), 1, 1).is_err());
    assert!(ProducePrefix::new(&"c".repeat(1025), "t", 1, 1).is_err());
    for version in [2, 9] {
        assert!(ProducePrefix::new("engine", "t", 1, 1).unwrap().with_version(version).is_err());
        assert!(ProduceAnswer::parse(&[0; 12], version).is_err());
    }
}

/// A request as kafka-protocol writes it, of several topics and partitions.
fn their_request(version: i16, batches: &[Vec<u8>]) -> Vec<u8> {
    let partition = |(index, batch): (usize, &Vec<u8>)| {
        let records = (index != 2).then(|| batch.clone().into());
        PartitionProduceData::default().with_index(index as i32).with_records(records)
    };
    let topic = |name: &'static str| {
        let partitions = batches.iter().enumerate().map(partition).collect();
        let data = TopicProduceData::default().with_name(TopicName(StrBytes::from_static_str(name)));
        data.with_partition_data(partitions)
    };
    let request =
        TheirRequest::default().with_acks(1).with_timeout_ms(9).with_topic_data(vec![topic("a"), topic("bc")]);
    let header = RequestHeader::default().with_request_api_key(0).with_request_api_version(version);
    let mut out = vec![];
    header.with_correlation_id(5).encode(&mut out, 1).unwrap();
    request.encode(&mut out, version).unwrap();
    out
}

/// Walks a request of which `step` bytes more arrive each time; records are skipped without being held.
pub fn skimmed(body: &[u8], step: usize) -> Result<Vec<(Vec<u8>, i32, usize)>, Malformed> {
    let mut skim = ProduceSkim::new(body.len());
    let (mut at, mut seen, mut topic, mut found) = (0, 0, vec![], vec![]);
    loop {
        let (piece, used) = skim.step(&body[at.min(seen)..seen])?;
        at += used;
        match piece {
            Piece::More => seen = (seen.max(at) + step).min(body.len()),
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

#[test]
fn foreign_requests_are_walked_however_they_arrive() {
    let batches: Vec<_> = (0..4_usize).map(|at| vec![at as u8; 50 * at]).collect();
    for version in 3..=8 {
        let frame = their_request(version, &batches);
        let head = RequestHead::parse(&frame).unwrap();
        assert_eq!((head.correlation_id, head.client_id), (5, Some(&b""[..])));
        let body = &frame[head.body_at..];
        let whole = ProduceRequest::parse(body).unwrap();
        let expected: Vec<_> =
            whole.partitions().map(|one| (one.topic.to_vec(), one.index, one.records.len())).collect();
        assert_eq!(expected.len(), 8);
        assert_eq!(expected[3], (b"a".to_vec(), 3, 150));
        assert_eq!(expected[6], (b"bc".to_vec(), 2, 0));
        for step in 1..70 {
            assert_eq!(skimmed(body, step).as_ref(), Ok(&expected));
        }
        for end in 0..body.len() {
            assert!(ProduceRequest::parse(&body[..end]).is_err());
        }
        let longer = [body, &[0]].concat();
        assert_eq!(ProduceRequest::parse(&longer).map(drop), Err(Malformed::Trailing { bytes: 1 }));
    }
}

fn their_answer(version: i16, error_code: i16) -> Vec<u8> {
    let record_error = BatchIndexAndErrorMessage::default()
        .with_batch_index(3)
        .with_batch_index_error_message(Some(StrBytes::from_static_str("this one")));
    let partition = |index: i32| {
        let answer = PartitionProduceResponse::default().with_index(index).with_error_code(error_code);
        let answer = answer.with_base_offset(1 << 40).with_log_append_time_ms(-1);
        let answer = if version >= 5 { answer.with_log_start_offset(17) } else { answer };
        if version < 8 {
            return answer;
        }
        let message = (error_code != 0).then(|| StrBytes::from_static_str("refused"));
        answer.with_record_errors(vec![record_error.clone(); index as usize]).with_error_message(message)
    };
    let topic = TopicProduceResponse::default()
        .with_name(TopicName(StrBytes::from_static_str("t")))
        .with_partition_responses(vec![partition(0), partition(2)]);
    let response = ProduceResponse::default().with_responses(vec![topic]).with_throttle_time_ms(250);
    let mut out = vec![];
    ResponseHeader::default().with_correlation_id(99).encode(&mut out, 0).unwrap();
    response.encode(&mut out, version).unwrap();
    out
}

#[test]
fn answers_are_understood() {
    for version in 3..=8 {
        for code in [0, 87] {
            let frame = their_answer(version, code);
            let answer = ProduceAnswer::parse(&frame, version).unwrap();
            assert_eq!((answer.correlation_id, answer.throttle_time_ms), (99, 250));
            let found: Vec<_> = answer.partitions().collect();
            let [first, second] = &found[..] else { panic!("{found:?}") };
            assert_eq!((first.topic, first.index, second.index), (&b"t"[..], 0, 2));
            for one in [first, second] {
                assert_eq!((one.error_code, one.base_offset, one.log_append_time_ms), (code, 1 << 40, -1));
                assert_eq!(one.log_start_offset, if version >= 5 { 17 } else { -1 });
                assert_eq!(one.error_message, (version == 8 && code != 0).then_some(&b"refused"[..]));
            }
            for end in 0..frame.len() {
                let cut = ProduceAnswer::parse(&frame[..end], version);
                assert!(cut.is_err_and(|error| error.is_short()), "{end}");
            }
        }
    }
}

/// Reads answers of which `step` bytes more arrive each time: what they say, and the most bytes that had to be held.
fn skimmed_answers(bytes: &[u8], (version, index): (i16, i32), step: usize) -> Result<(Vec<Told>, usize), Malformed> {
    let mut skim = AnswerSkim::new(version, index, 100 << 20);
    let (mut found, mut held, mut most_held) = (vec![], vec![], 0);
    for piece in bytes.chunks(step) {
        held.extend_from_slice(piece);
        loop {
            let (used, told) = skim.step(&held)?;
            held.drain(..used);
            let Some(told) = told else { break };
            found.push(told);
        }
        most_held = most_held.max(held.len());
    }
    Ok((found, most_held))
}

fn sized(frame: &[u8]) -> Vec<u8> {
    [&(frame.len() as i32).to_be_bytes()[..], frame].concat()
}

#[test]
fn answers_are_read_while_they_arrive() {
    for version in 3..=8 {
        let frame = their_answer(version, 87);
        let two = [sized(&frame), sized(&frame)].concat();
        for (index, partition) in [(0, Some((87, 1 << 40))), (1, None), (2, Some((87, 1 << 40)))] {
            let told = Told { correlation_id: 99, partition, throttle_time_ms: 250 };
            for step in 1..70 {
                let (found, held) = skimmed_answers(&two, (version, index), step).unwrap();
                assert!(found == [told; 2] && held < 40, "version {version}, {step} bytes at a time: {found:?}");
            }
        }
        for end in 4..frame.len() {
            let cut = skimmed_answers(&sized(&frame[..end]), (version, 2), 7);
            assert!(cut.is_err_and(|error| error.is_short()), "{end}");
        }
        let longer = sized(&[&frame[..], &[0]].concat());
        assert_eq!(skimmed_answers(&longer, (version, 2), 9), Err(Malformed::Trailing { bytes: 1 }));
    }
    assert!(skimmed_answers(&i32::MAX.to_be_bytes(), (8, 0), 4).is_err());
}

#[test]
fn an_answer_may_have_words_for_each_record() {
    let words = || Some(StrBytes::from_string("x".repeat(100)));
    let record_error = BatchIndexAndErrorMessage::default().with_batch_index_error_message(words());
    let partition = PartitionProduceResponse::default().with_index(5).with_error_code(87).with_base_offset(-1);
    let partition = partition.with_record_errors(vec![record_error; 20_000]).with_error_message(words());
    let topic = TopicProduceResponse::default().with_name(TopicName(StrBytes::from_static_str("t")));
    let response = ProduceResponse::default().with_responses(vec![topic.with_partition_responses(vec![partition])]);
    let mut frame = 7_i32.to_be_bytes().to_vec();
    response.encode(&mut frame, 8).unwrap();
    let (found, held) = skimmed_answers(&sized(&frame), (8, 5), 1000).unwrap();
    assert_eq!(found, [Told { correlation_id: 7, partition: Some((87, -1)), throttle_time_ms: 0 }]);
    assert!(frame.len() > 2_000_000 && held < 40, "{held} bytes of {} were held", frame.len());
}

/// The words of an answer in version 8 with that code to partitions 0 and 1, of which the second has these words about
/// its records and itself; `step` bytes more arrive each time.
fn words_of(code: i16, about: &[Option<&str>], itself: Option<&str>, step: usize) -> Words {
    let text = |words: &str| StrBytes::from_string(words.to_owned());
    let record_error =
        |words: &Option<&str>| BatchIndexAndErrorMessage::default().with_batch_index_error_message(words.map(text));
    let partition = |index: i32| PartitionProduceResponse::default().with_index(index).with_error_code(code);
    let other = partition(0).with_error_message(Some(text("of the other")));
    let own = partition(1).with_record_errors(about.iter().map(record_error).collect());
    let topic = TopicProduceResponse::default().with_name(TopicName(StrBytes::from_static_str("the topic")));
    let own = own.with_error_message(itself.map(text));
    let later = topic.clone().with_partition_responses(vec![partition(7).with_error_message(Some(text("later")))]);
    let topics = vec![topic.with_partition_responses(vec![other, own]), later];
    let mut frame = 7_i32.to_be_bytes().to_vec();
    ProduceResponse::default().with_responses(topics).encode(&mut frame, 8).unwrap();
    let mut skim = AnswerSkim::new(8, 1, 1 << 20);
    let (mut held, mut ended) = (vec![], 0);
    for piece in sized(&frame).chunks(step) {
        held.extend_from_slice(piece);
        let (used, told) = skim.step(&held).unwrap();
        held.drain(..used);
        ended += usize::from(told.is_some_and(|told| told.partition.is_some_and(|(own, _)| own == code)));
    }
    assert_eq!((ended, held.len()), (1, 0), "{step} bytes at a time");
    skim.words()
}

#[test]
fn the_first_words_about_an_error_are_kept() {
    let long = "x".repeat(3 * WORDS_BYTES_MAX);
    let cut = format!("{}…", &long[..WORDS_BYTES_MAX]);
    for step in [1, 2, 7, 64, 10_000] {
        let said = |about: &[Option<&str>], itself| words_of(87, about, itself, step).to_string();
        assert_eq!(said(&[None, Some(""), Some("no key"), Some("no value")], Some("rejected")), "no key");
        assert_eq!(said(&[None], Some("by the interceptor")), "by the interceptor");
        assert_eq!(said(&[], Some("rejected")), "rejected");
        assert_eq!(said(&[], None), "", "neither another partition's nor the name of a topic");
        assert_eq!(said(&[Some(long.as_str()), Some("more")], None), cut);
        assert_eq!(words_of(0, &[Some("none")], Some("none"), step), Words::default(), "there is no error");
    }
    // What is said of one error is not said of the next.
    let mut skim = AnswerSkim::new(8, 2, 1 << 20);
    skim.step(&sized(&their_answer(8, 87))).unwrap();
    assert_eq!(skim.words().to_string(), "this one");
    let mut bare = vec![];
    let mut writer = AnswerWriter::begin(&mut bare, 8, 1, 1);
    writer.topic(b"t", 1);
    writer.partition(2, 19, -1);
    writer.end(0);
    skim.step(&bare).unwrap();
    assert_eq!(skim.words(), Words::default());
}

#[test]
fn our_answers_are_understood_by_them() {
    for version in 3..=8 {
        let mut out = b"before".to_vec();
        let mut writer = AnswerWriter::begin(&mut out, version, 31, 2);
        writer.topic(b"a", 1);
        writer.partition(4, 0, 123);
        writer.topic(b"b", 2);
        writer.partition(0, 10, -1);
        writer.partition(1, 0, 7);
        writer.end(8);
        let Ok(Split::Frame { frame, .. }) = Frames::new(1000).split(&out[6..]) else { panic!("a frame") };
        let mut left = frame;
        assert_eq!(ResponseHeader::decode(&mut left, 0).unwrap().correlation_id, 31);
        let theirs = ProduceResponse::decode(&mut left, version).unwrap();
        assert!(left.is_empty() && theirs.throttle_time_ms == 8);
        let named = |topic: &TopicProduceResponse| {
            let of = |one: &PartitionProduceResponse| (one.index, one.error_code, one.base_offset);
            (topic.name.to_string(), topic.partition_responses.iter().map(of).collect::<Vec<_>>())
        };
        let expected = [("a".to_owned(), vec![(4, 0, 123)]), ("b".to_owned(), vec![(0, 10, -1), (1, 0, 7)])];
        assert_eq!(theirs.responses.iter().map(named).collect::<Vec<_>>(), expected);
        assert_eq!(ProduceAnswer::parse(frame, version).unwrap().partitions().count(), 3);
    }
}

#[test]
fn sizes_that_cannot_be_are_errors() {
    let frames = Frames::new(100);
    for size in [i32::MIN, -1, 0, 3, 101, i32::MAX] {
        let error = Err(Malformed::Value { field: "size", value: i64::from(size) });
        assert_eq!(frames.split(&size.to_be_bytes()), error);
    }
    let mut bytes = 5_i32.to_be_bytes().to_vec();
    bytes.extend(b"hello and more");
    assert_eq!(frames.split(&bytes[..3]), Ok(Split::Partial { wanted: 4 }));
    assert_eq!(frames.split(&bytes[..8]), Ok(Split::Partial { wanted: 9 }));
    assert_eq!(frames.split(&bytes), Ok(Split::Frame { frame: b"hello", used: 9 }));
}

#[test]
fn claimed_counts_are_not_believed() {
    // Two thousand million topics, and the same number of record errors, in a few bytes.
    let frame = [&9_i32.to_be_bytes()[..], &i32::MAX.to_be_bytes()].concat();
    assert!(ProduceAnswer::parse(&frame, 8).is_err_and(|error| error.is_short()));
    let mut frame = their_answer(8, 0);
    let errors_at = 4 + 4 + 3 + 4 + 30;
    frame[errors_at..errors_at + 4].copy_from_slice(&i32::MAX.to_be_bytes());
    assert!(ProduceAnswer::parse(&frame, 8).is_err() && skimmed_answers(&sized(&frame), (8, 0), 99).is_err());
    frame[errors_at..errors_at + 4].copy_from_slice(&(-1_i32).to_be_bytes());
    let error = Malformed::Value { field: "number of record errors", value: -1 };
    assert_eq!(ProduceAnswer::parse(&frame, 8).map(drop), Err(error));
}
