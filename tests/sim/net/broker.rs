//! A Kafka cluster as one producer's connections see it: sequences checked as a broker checks them, leaders that
//! move, replicas that lag, answers that are lost or make no sense.

use super::peer::{Accepted, Peer, Reply, Then, record};
use crate::chance::Chance;
use engine::wire::kafka::inflate::Inflater;
use engine::wire::kafka::records::{Batch, Batches};
use engine::wire::kafka::request::{ProduceRequest, RequestHead};
use engine::wire::kafka::response::{AnswerWriter, Frames, Split};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

/// A broker remembers so many batches of a producer and partition.
const REMEMBERED: usize = 5;
const REQUEST_BYTES_MAX: usize = 64 << 20;
/// After so many answers without sense all others have some.
const NONSENSE_MAX: u64 = 12;

const NOT_LEADER: i16 = 6;
const REQUEST_TIMED_OUT: i16 = 7;
const MESSAGE_TOO_LARGE: i16 = 10;
const NOT_ENOUGH_REPLICAS: i16 = 19;
const NOT_ENOUGH_REPLICAS_AFTER_APPEND: i16 = 20;
const OUT_OF_ORDER: i16 = 45;

#[derive(Clone, Copy, Debug)]
pub struct Mood {
    /// One request of so many meets an error.
    pub odd_one_in: u64,
    pub throttle_one_in: u64,
    pub throttle_ms_max: u64,
    /// The partition that has too few replicas all the time.
    pub lacks: Option<i32>,
    /// One request of so many is refused for good.
    pub refuse_one_in: u64,
    /// One request of so many, and all behind it, is not answered any more.
    pub hangs_one_in: u64,
    /// One answer of so many is none that a broker gives.
    pub garbage_one_in: u64,
    /// One answer of so many has more words than a connection has room for.
    pub wordy_one_in: u64,
}

/// What an answer says.
#[derive(Clone, Copy, Debug)]
struct Said {
    version: i16,
    correlation_id: i32,
    index: i32,
    code: i16,
    offset: i64,
    throttle_ms: i32,
    /// Records that it says something about, each.
    words: u32,
}

/// What a partition's answer in version 8 ends with, where there is nothing to say: record errors, message, throttle.
const NO_WORDS_BYTES: usize = 4 + 2 + 4;

impl Said {
    fn write(self, out: &mut Vec<u8>) {
        let start = out.len();
        self.write_short(out);
        if self.words == 0 {
            return;
        }
        out.truncate(out.len() - NO_WORDS_BYTES);
        out.extend(self.words.to_be_bytes());
        for record in 0..self.words {
            out.extend(record.to_be_bytes());
            out.extend(100_i16.to_be_bytes());
            out.extend([b'x'; 100]);
        }
        out.extend([&2_i16.to_be_bytes()[..], b"no", &self.throttle_ms.to_be_bytes()].concat());
        let size = (out.len() - start - 4) as i32;
        out[start..start + 4].copy_from_slice(&size.to_be_bytes());
    }

    fn write_short(self, out: &mut Vec<u8>) {
        let mut answer = AnswerWriter::begin(out, self.version, self.correlation_id, 1);
        answer.topic(b"t", 1);
        answer.partition(self.index, self.code, self.offset);
        answer.end(self.throttle_ms);
    }
}

#[derive(Debug, Default)]
struct Partition {
    /// Producer id: the last batches' first and last sequence and offset.
    producers: BTreeMap<i64, VecDeque<(i32, i32, i64)>>,
    end_offset: i64,
    /// Producer and sequence of each record, in order.
    log: Vec<(u32, u64)>,
}

#[derive(Debug)]
struct Connection {
    lane: u32,
    number: u32,
    /// Somebody else leads now, as this broker says to all who ask.
    deposed: bool,
    /// Requests that came all the same.
    misled: u64,
    hangs: bool,
}

/// See the module.
pub struct Broker {
    mood: Mood,
    acks: i16,
    idempotent: bool,
    pub accepted: Accepted,
    partitions: BTreeMap<(u32, i32), Partition>,
    /// Batches as they came first, and for which partition, by lane and first record.
    first_sent: BTreeMap<(u32, u64), (i32, Vec<u8>)>,
    connections: BTreeMap<usize, Connection>,
    inflater: Inflater,
    /// Repetitions that were told apart.
    pub duplicates: u64,
    /// Answers without sense, and batches that had no other.
    pub nonsense: u64,
    pub unanswered: u64,
    /// The most requests that came over one connection to a leader that was none any more.
    pub misled_max: u64,
    /// Answers that asked for a pause, heard or not, and for how long in all.
    pub throttled_answers: u64,
    pub throttled_ms: u64,
    /// Batches that it answered with an error, heard or not: by lane and code.
    pub errors: BTreeMap<u32, BTreeMap<i16, u64>>,
}

impl Broker {
    pub fn new(mood: Mood, acks: i16, idempotent: bool) -> Self {
        Self {
            mood,
            acks,
            idempotent,
            accepted: Accepted::default(),
            partitions: BTreeMap::new(),
            first_sent: BTreeMap::new(),
            connections: BTreeMap::new(),
            inflater: Inflater::new(1 << 20),
            duplicates: 0,
            nonsense: 0,
            unanswered: 0,
            misled_max: 0,
            throttled_answers: 0,
            throttled_ms: 0,
            errors: BTreeMap::new(),
        }
    }

    /// Whether each partition has the records of each producer in their order.
    pub fn keeps_order(&self) -> bool {
        let of = |partition: &Partition| partition.log.windows(2).all(|pair| pair[0].1 < pair[1].1);
        self.partitions.values().all(of)
    }

    /// Records of a lane in one partition.
    pub fn appended(&self, lane: usize, index: i32) -> u64 {
        self.partitions.get(&(lane as u32, index)).map_or(0, |partition| partition.log.len() as u64)
    }

    /// What is sent again is what was sent before, byte for byte.
    fn compare_with_earlier(&mut self, lane: u32, index: i32, batch: &Batch<'_>) {
        let mut records = batch.records(&mut self.inflater).expect("records of a batch can be read");
        let first = records.next().expect("a batch has records").expect("a well-formed record");
        let sequence = record(first.value.expect("every record has a value"), lane).sequence;
        match self.first_sent.entry((lane, sequence)) {
            Entry::Vacant(place) => {
                place.insert((index, batch.bytes().to_vec()));
            }
            Entry::Occupied(earlier) => {
                let (partition, bytes) = earlier.get();
                let same = *partition == index && bytes.as_slice() == batch.bytes();
                assert!(same, "lane {lane}: the batch from record {sequence} came again as another one");
            }
        }
    }

    /// Takes a batch or refuses it; the code and the offset.
    fn append(&mut self, lane: u32, index: i32, batch: &Batch<'_>) -> (i16, i64) {
        let head = batch.head;
        let partition = self.partitions.entry((lane, index)).or_default();
        let last = (i64::from(head.base_sequence) + i64::from(head.records) - 1) as i32;
        if self.idempotent {
            let known = partition.producers.entry(head.producer_id).or_default();
            if let Some((_, _, offset)) = known.iter().find(|(from, to, _)| (*from, *to) == (head.base_sequence, last))
            {
                self.duplicates += 1;
                return (0, *offset);
            }
            // Of a producer that it knows nothing of, Kafka takes any sequence.
            let due = known.back().map_or(head.base_sequence, |(_, to, _)| to + 1);
            if head.base_sequence != due {
                return (OUT_OF_ORDER, -1);
            }
            known.push_back((head.base_sequence, last, partition.end_offset));
            if known.len() > REMEMBERED {
                known.pop_front();
            }
        }
        let offset = partition.end_offset;
        partition.end_offset += i64::from(head.records);
        let records = batch.records(&mut self.inflater).expect("records of a batch can be read");
        for own in records {
            let value = own.expect("a well-formed record").value.expect("every record has a value");
            let header = record(value, lane);
            assert_eq!(header.record_length as usize, value.len());
            self.accepted.add(lane, header.sequence);
            partition.log.push((lane, header.sequence));
        }
        (0, offset)
    }

    /// What becomes of one request's batch.
    fn judge(&mut self, id: usize, index: i32, batch: &Batch<'_>, chance: &mut Chance) -> (i16, i64) {
        let connection = self.connections.get_mut(&id).expect("it is open");
        let lane = connection.lane;
        if connection.deposed {
            connection.misled += 1;
            self.misled_max = self.misled_max.max(connection.misled);
            return (NOT_LEADER, -1);
        }
        if self.mood.lacks == Some(index) {
            return (NOT_ENOUGH_REPLICAS, -1);
        }
        if chance.one_in(self.mood.refuse_one_in) {
            return (MESSAGE_TOO_LARGE, -1);
        }
        if !chance.one_in(self.mood.odd_one_in) {
            return self.append(lane, index, batch);
        }
        match chance.between(0..=4) {
            0 => {
                self.depose(id);
                (NOT_LEADER, -1)
            }
            1 => (NOT_ENOUGH_REPLICAS, -1),
            late => {
                let (code, offset) = self.append(lane, index, batch);
                let told = match late {
                    2 => REQUEST_TIMED_OUT,
                    3 => NOT_ENOUGH_REPLICAS_AFTER_APPEND,
                    // While it waited for those that follow.
                    _ => {
                        self.depose(id);
                        NOT_LEADER
                    }
                };
                (if code == 0 { told } else { code }, offset)
            }
        }
    }

    fn depose(&mut self, id: usize) {
        self.connections.get_mut(&id).expect("it is open").deposed = true;
    }

    fn produce(&mut self, id: usize, frame: &[u8], chance: &mut Chance, reply: &mut Reply) {
        let head = RequestHead::parse(frame).expect("a request has a header");
        assert!(head.is_produce() && head.client_id == Some(b"sim"));
        let request = ProduceRequest::parse(&frame[head.body_at..]).expect("a well-formed request");
        assert_eq!(request.acks, self.acks);
        let parts: Vec<_> = request.partitions().collect();
        assert_eq!((parts.len(), parts[0].topic), (1, b"t".as_slice()));
        assert_eq!(parts[0].index as u32, self.connections[&id].number, "each connection is for one partition");
        let batches: Vec<Batch<'_>> =
            Batches::new(parts[0].records).map(|batch| batch.expect("a well-formed batch")).collect();
        assert_eq!(batches.len(), 1);
        batches[0].check_crc().expect("the checksum is that of the bytes");
        assert!(batches[0].head.is_dense() && (batches[0].head.producer_id >= 0) == self.idempotent);
        let index = parts[0].index;
        self.compare_with_earlier(self.connections[&id].lane, index, &batches[0]);
        let (code, offset) = self.judge(id, index, &batches[0], chance);
        if code != 0 {
            *self.errors.entry(self.connections[&id].lane).or_default().entry(code).or_default() += 1;
        }
        let (version, correlation_id) = (head.version, head.correlation_id);
        let words = if chance.one_in(self.mood.wordy_one_in) { 200 } else { 0 };
        let mut said = Said { version, correlation_id, index, code, offset, throttle_ms: 0, words };
        let garbles = self.nonsense < NONSENSE_MAX && chance.one_in(self.mood.garbage_one_in);
        if self.acks == 0 {
            // Who wants no answer is told of an error by the end of the connection.
            reply.then = if code == 0 { Then::GoOn } else { Then::Close };
        } else if chance.one_in(self.mood.throttle_one_in) {
            said.throttle_ms = chance.between(0..=self.mood.throttle_ms_max) as i32;
            self.throttled_answers += u64::from(said.throttle_ms > 0);
            self.throttled_ms += said.throttle_ms as u64;
        }
        match garbles {
            true => self.garble(said, chance, &mut reply.bytes),
            false if self.acks != 0 => said.write(&mut reply.bytes),
            false => {}
        }
    }

    /// Says what no broker says.
    fn garble(&mut self, said: Said, chance: &mut Chance, out: &mut Vec<u8>) {
        let choice = chance.between(0..=6);
        // Nobody asked for an answer where there are no acknowledgements, however well-formed it is.
        self.nonsense += u64::from(choice < 6 || self.acks == 0);
        self.unanswered += u64::from(choice < 5);
        match choice {
            0 => out.extend((-1_i32).to_be_bytes()),
            1 => out.extend(i32::MAX.to_be_bytes()),
            // It ends where its topics should begin.
            2 => out.extend([4_i32.to_be_bytes(), said.correlation_id.to_be_bytes()].concat()),
            3 => Said { correlation_id: said.correlation_id.wrapping_add(1_000_000), ..said }.write(out),
            4 => Said { index: said.index + 1, ..said }.write(out),
            // Twice: the second one answers nothing.
            5 => [said, said].into_iter().for_each(|said| said.write(out)),
            // A pause that was over before it began is none.
            _ => Said { throttle_ms: i32::MIN, ..said }.write(out),
        }
    }
}

impl Peer for Broker {
    const AT_ONCE: bool = false;

    fn opened(&mut self, id: usize, lane: u32, number: u32) {
        self.connections.insert(id, Connection { lane, number, deposed: false, misled: 0, hangs: false });
    }

    fn turn(&mut self, id: usize, unread: &mut Vec<u8>, chance: &mut Chance, _answers_from: u64) -> Reply {
        let mut reply = Reply::default();
        while reply.then == Then::GoOn && !self.connections[&id].hangs {
            let Split::Frame { frame, used } = Frames::new(REQUEST_BYTES_MAX).split(unread).expect("a sane size")
            else {
                break;
            };
            let frame = frame.to_vec();
            unread.drain(..used);
            if chance.one_in(self.mood.hangs_one_in) {
                self.connections.get_mut(&id).expect("it is open").hangs = true;
                break;
            }
            self.produce(id, &frame, chance, &mut reply);
        }
        reply
    }

    fn closed(&mut self, id: usize) {
        assert!(self.connections.contains_key(&id));
    }
}
