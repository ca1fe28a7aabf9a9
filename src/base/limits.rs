//! The maxima that users meet or that depend on each other, named, and how they relate.

/// Bytes of a record, from the least that carries a header (or, unannotated, anything useful).
pub const RECORD_BYTES_MIN: u64 = 64;
pub const RECORD_BYTES_MIN_UNANNOTATED: u64 = 16;
pub const RECORD_BYTES_MAX: u64 = 256 << 20;

/// Bytes of a run id: templates keep so much room for it, whatever its length.
pub const RUN_ID_BYTES_MAX: usize = 64;

/// Blocks in flight for one lane (`--queue-depth`).
pub const QUEUE_DEPTH_MAX: usize = 1024;
/// Blocks of one lane that wait for the target's answer.
pub const WINDOW_MAX: usize = 65_536;
/// Operations in flight on one core, all lanes together.
pub const CORE_DEPTH_MAX: usize = 32_768;
/// Lanes (producers) that one core can host.
pub const LANES_PER_CORE_MAX: usize = 1024;
/// Producers of one process.
pub const PRODUCERS_MAX: usize = 65_536;

/// Bytes of one block (`--block-size`), and of all payload rings (`--ring-size`) of one core.
pub const BLOCK_BYTES_MAX: u64 = 1 << 30;
pub const CORE_RINGS_BYTES_MAX: u64 = 64 << 30;
/// Of a block that the kernel copies, by default: what `engine plan` times has to be as large.
pub const BLOCK_BUFFERED_BYTES: u64 = 256 << 10;
/// That one lane may offer in one turn, so that its turn stays short; what `engine plan` times has the same.
pub const TURN_BYTES: u64 = 1 << 20;

/// Stages of a run.
pub const PHASES_MAX: usize = 1000;
/// Producers times stages: each producer has its share of each stage (about 64 bytes).
pub const PHASE_SHARES_MAX: usize = 1_000_000;
/// Stages that have a line each, before a run and in its summary; `--dry-run` and the report have all.
pub const STAGES_TOLD_MAX: usize = 20;
/// Bytes a second, and the weight of a sampled record.
pub const RATE_MAX: u64 = 1_000_000_000_000_000;
pub const WEIGHT_MAX: u64 = 1_000_000;
/// Bytes of a configuration file, and files and bytes of a payload template folder.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
pub const TEMPLATE_FILES_MAX: usize = 10_000;
pub const TEMPLATE_BYTES_MAX: u64 = 1 << 30;

/// Placeholders of all templates together: a manifest names each, in less than 200 bytes.
pub const TEMPLATE_SLOTS_MAX: usize = 300_000;

/// Bytes of a manifest: shapes of all templates, and what is missing.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// A paced lane waits this long for a block to fill before it sends what is due.
pub const LINGER_DEFAULT_NS: u64 = 250_000;

/// Times in a row that a write may make no progress (a signal, a busy kernel) before it counts as failed.
pub const WRITE_RETRIES_MAX: u32 = 1000;

/// The first connections of a core have this long in all, whatever each of them is allowed.
pub const FIRST_DIALS_NS_MAX: u64 = 120_000_000_000;

/// After the pacing's end, what fell due before it may still be sent for this long.
pub const FINISH_GRACE_NS: u64 = 100_000_000;

/// A data file that another process has locked is looked at again for this long before the run is refused: the kernel
/// closes the files of a killed process a little after its end.
pub const FILE_LOCK_WAIT_NS: u64 = 2_000_000_000;

/// Rotated files that `--retain` can keep (other than all).
pub const RETAIN_MAX: u64 = 65_536;

/// A core hands its latencies to the metrics thread this often.
pub const SNAPSHOT_INTERVAL_NS: u64 = 100_000_000;
/// Snapshots that may wait for the metrics thread, for each core.
pub const SNAPSHOTS_IN_FLIGHT: usize = 2;

/// Due times of one block that enter the response-time histogram.
pub const DUE_SAMPLES_PER_BLOCK: u64 = 16;
/// Due times closer than this are one to the histogram.
pub const DUE_SAMPLE_NS: u64 = 250;

/// The start of a run may be set so far ahead.
pub const START_AHEAD_NS_MAX: u64 = 24 * 3_600_000_000_000;
/// A process of a fleet may come so late, and starts at once.
pub const START_LATE_NS_MAX: u64 = 600_000_000_000;

/// Histograms cover 1 ns to an hour with three significant digits.
pub const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
pub const LATENCY_DIGITS: u8 = 3;

/// Seconds of a run that the report has one by one: the last ten hours. On standard output, where that is no file and
/// who collects logs may cut long lines: the last ten minutes.
pub const INTERVALS_MAX: usize = 36_000;
pub const INTERVALS_STDOUT_MAX: usize = 600;

const _: () = assert!(INTERVALS_STDOUT_MAX < INTERVALS_MAX);

/// Ranges of missing sequences that one producer's report can name, and bytes of one: two numbers, each with 20 digits.
pub const MISSING_RANGES_MAX: usize = 4096;
pub const MISSING_RANGE_BYTES_MAX: u64 = 44;

/// An adaptive core, and who waits for a target before the start, looks at the stop flag at least this often.
pub const WAIT_NS_MAX: u64 = 20_000_000;

/// A core that has not looked for so long was away; by the length of the limit at hand, between these.
pub const ABSENCE_NS_MIN: u64 = 2 * WAIT_NS_MAX;
pub const ABSENCE_NS_MAX: u64 = 1_000_000_000;

/// `/health` turns to 503 when a core made no turn for this long.
pub const WATCHDOG_NS: u64 = 5_000_000_000;

/// Who does not read standard error for this long misses lines: nothing waits for them any longer.
pub const LOG_WRITE_NS_MAX: u64 = 5_000_000_000;

/// Bytes of a report that is read back, and how many producers of a fleet may miss all the ranges that it can name.
pub const REPORT_BYTES_MAX: u64 = 1 << 30;
pub const REPORT_LOSSY_PRODUCERS: u64 = 4096;

/// The metrics endpoint: connections at once, bytes of a request's head, and the time a request has in all.
pub const METRICS_CONNECTIONS_MAX: usize = 16;
pub const METRICS_HEAD_BYTES_MAX: usize = 8 << 10;
pub const METRICS_REQUEST_NS_MAX: u64 = 2_000_000_000;

/// Bytes of one answer of a Kafka broker.
pub const KAFKA_ANSWER_BYTES_MAX: usize = 16 << 20;
/// Bytes of an answer to Produce. It is never held: it may have a message about each record of a batch.
pub const KAFKA_PRODUCE_ANSWER_BYTES_MAX: usize = 100 << 20;
/// Bytes of an answer that brings records: a batch may be longer than was asked for.
pub const KAFKA_FETCH_ANSWER_BYTES_MAX: usize = 320 << 20;
/// Bytes asked for in one fetch, and of one batch after decompression.
pub const KAFKA_FETCH_BYTES: u32 = 4 << 20;
pub const KAFKA_BATCH_PLAIN_BYTES_MAX: usize = 320 << 20;
/// Threads that read a topic where nobody says how many, and bytes of a batch that each of them may unpack at any time:
/// longer ones are unpacked one at a time.
pub const VERIFY_TOPIC_THREADS_DEFAULT: usize = 8;
pub const VERIFY_PLAIN_BYTES: usize = 16 << 20;
/// Bytes of a `client.properties`.
pub const KAFKA_PROPERTIES_BYTES_MAX: u64 = 1 << 20;

const _: () = assert!(RECORD_BYTES_MAX < KAFKA_FETCH_ANSWER_BYTES_MAX as u64);
/// Names in Kafka's requests: the topic as the broker limits it, the client id as anyone would write it.
pub const KAFKA_TOPIC_BYTES_MAX: usize = 249;
pub const KAFKA_CLIENT_ID_BYTES_MAX: usize = 1024;

/// Connections of one producer, and requests that may be unanswered on one of them.
pub const CONNECTIONS_MAX: usize = 256;
pub const HTTP_PIPELINE_MAX: usize = 64;
pub const KAFKA_IN_FLIGHT_MAX: usize = 64;
/// An idempotent producer keeps its order with at most so many.
pub const KAFKA_IN_FLIGHT_IDEMPOTENT_MAX: usize = 5;
pub const HTTP_RECORDS_PER_REQUEST_MAX: u64 = 65_536;
/// What a partition has in flight where nobody says more: batches, and bytes of each.
pub const KAFKA_IN_FLIGHT_DEFAULT: usize = 5;
pub const KAFKA_BATCH_BYTES_DEFAULT: u64 = 1_000_000;
/// What brokers read at once (`socket.request.max.bytes`), if nobody has told them otherwise: a longer request ends the
/// connection without an answer. A batch fits into it with what lies around it.
pub const KAFKA_REQUEST_BYTES_MAX: u64 = 100 << 20;
pub const KAFKA_BATCH_BYTES_MAX: u64 = KAFKA_REQUEST_BYTES_MAX - (4 << 10);
const _: () = assert!(KAFKA_TOPIC_BYTES_MAX + KAFKA_CLIENT_ID_BYTES_MAX + 64 < 4 << 10);
pub const KAFKA_PARTITIONS_MAX: u64 = 200_000;
/// Characters of a target's URL, and bytes of all `--http-header` together.
pub const URL_BYTES_MAX: usize = 4096;
pub const HTTP_HEADER_BYTES_MAX: usize = 16 << 10;
/// A shorter body lies behind its head in the ring, so that one piece of memory is sent; a longer one may be lent. A
/// longer head lies elsewhere: each record would have room for one.
pub const HTTP_BODY_BEHIND_HEAD_BYTES_MAX: u64 = 64 << 10;
pub const HTTP_HEAD_IN_RING_BYTES_MAX: u64 = 1 << 10;
/// By so much the bearer token of a run may grow while it lasts.
pub const HTTP_TOKEN_GROWTH_BYTES: usize = 2048;
/// Bytes of a file with a password or token.
pub const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Attempts beyond the first that `--retry` can ask for.
pub const REQUEST_RETRIES_MAX: u64 = 1_000_000;
/// Between two attempts, doubling from the least to the most.
pub const BACKOFF_MIN_NS: u64 = 50_000_000;
pub const BACKOFF_MAX_NS: u64 = 5_000_000_000;
/// While connections cannot be made, this is told again so often.
pub const OUTAGE_TOLD_EVERY_NS: u64 = 10_000_000_000;
const _: () = assert!(BACKOFF_MAX_NS < OUTAGE_TOLD_EVERY_NS);
/// For one answer, where nothing else is said.
pub const REQUEST_TIMEOUT_DEFAULT_NS: u64 = 30_000_000_000;
/// The kernel gives back what a connection that ended had in flight, or the run ends.
pub const LINK_ENDING_NS_MAX: u64 = 30_000_000_000;
/// For the connect and the handshake with one address; addresses of one name that are tried.
pub const CONNECT_TIMEOUT_NS: u64 = 10_000_000_000;
pub const PEER_ADDRESSES_MAX: usize = 16;
/// Connections that are dialed at once, and orders that may wait to be looked at.
pub const DIALS_AT_ONCE_MAX: usize = 64;
pub const DIAL_ORDERS_MAX: usize = 4096;

/// What an HTTP response may have: bytes and number of its header lines, bytes of a chunk's size line, interim
/// responses before it, and the seconds of `Retry-After` that are honoured.
pub const HTTP_RESPONSE_HEAD_BYTES_MAX: usize = 16 << 10;
pub const HTTP_RESPONSE_HEADERS_MAX: usize = 96;
pub const HTTP_CHUNK_LINE_BYTES_MAX: usize = 1024;
pub const HTTP_INTERIM_MAX: u32 = 32;
pub const RETRY_AFTER_SECONDS_MAX: u64 = 3600;
/// Bytes of the text that makes a refusal of a 2xx.
pub const HTTP_REFUSED_BY_BYTES_MAX: usize = 128;

const _: () = assert!(CONNECTIONS_MAX <= QUEUE_DEPTH_MAX && HTTP_PIPELINE_MAX <= QUEUE_DEPTH_MAX);
const _: () = assert!(KAFKA_IN_FLIGHT_DEFAULT <= KAFKA_IN_FLIGHT_IDEMPOTENT_MAX);
const _: () = assert!(KAFKA_IN_FLIGHT_IDEMPOTENT_MAX <= KAFKA_IN_FLIGHT_MAX && BACKOFF_MIN_NS < BACKOFF_MAX_NS);
const _: () =
    assert!(KAFKA_BATCH_BYTES_MAX < BLOCK_BYTES_MAX && HTTP_CHUNK_LINE_BYTES_MAX < HTTP_RESPONSE_HEAD_BYTES_MAX);

/// Governance: metadata that may wait on each core for the sender, and events of one request.
pub const GOVERNANCE_QUEUE_EVENTS: usize = 8192;
pub const GOVERNANCE_BATCH_EVENTS: usize = 100;
/// A request goes when it is full or its first event has waited this long; the queues are looked at this often.
pub const GOVERNANCE_LINGER_NS: u64 = 200_000_000;
pub const GOVERNANCE_POLL_NS: u64 = 20_000_000;
/// Attempts for one request and the pauses between them, a server's own wish included.
pub const GOVERNANCE_ATTEMPTS_MAX: u32 = 4;
pub const GOVERNANCE_BACKOFF_NS_MIN: u64 = 100_000_000;
pub const GOVERNANCE_BACKOFF_NS_MAX: u64 = 5_000_000_000;
pub const GOVERNANCE_RETRY_AFTER_NS_MAX: u64 = 60_000_000_000;
/// The longest that one request, and at the end of the run all that is left, may take.
pub const GOVERNANCE_REQUEST_NS_MAX: u64 = 5_000_000_000;
pub const GOVERNANCE_FINISH_NS_MAX: u64 = 5_000_000_000;
/// Bytes of an answer that are read, characters of it that are repeated, and bytes of a contract file.
pub const GOVERNANCE_ANSWER_BYTES_MAX: u64 = 64 << 10;
pub const GOVERNANCE_ERROR_CHARS_MAX: usize = 300;
pub const GOVERNANCE_SPEC_BYTES_MAX: u64 = 4 << 20;

const _: () = assert!(GOVERNANCE_BATCH_EVENTS <= 1000 && GOVERNANCE_BATCH_EVENTS <= GOVERNANCE_QUEUE_EVENTS);
const _: () = assert!(GOVERNANCE_BACKOFF_NS_MIN <= GOVERNANCE_BACKOFF_NS_MAX);
/// `engine receive`: connections at once (fewer where fewer files may be open), connections on their way to a thread,
/// and how many a polling thread asks one by one before it lets the kernel watch the rest.
pub const RECEIVE_CONNECTIONS_MAX: usize = 65_536;
pub const RECEIVE_ARRIVALS_MAX: usize = 1024;
pub const RECEIVE_POLLED_MAX: usize = 64;
/// Bytes that one read takes where they are looked at.
pub const RECEIVE_READ_BYTES: usize = 64 << 10;
/// Where requests are longer, a receiver that discards reads the head alone and lets the rest go by: another call to
/// the kernel costs less than to copy so much, above all from the cache of a distant core.
pub const RECEIVE_COPIED_BYTES_MAX: usize = 8 << 10;
/// A request's head, its headers, and the lines between chunks.
pub const RECEIVE_HEAD_BYTES_MAX: usize = 16 << 10;
pub const RECEIVE_HEADERS_MAX: usize = 64;
pub const RECEIVE_CHUNK_LINE_BYTES_MAX: usize = 8 << 10;
/// With TCP, faults are drawn once for so many bytes of a connection.
pub const RECEIVE_FAULT_BYTES: u64 = 1 << 20;

/// With Kafka: bytes of a Produce request (a batch and what lies around it) and of any other one, partitions of one
/// request, and what is remembered: topics, partitions of one and of all of them, producers of a partition.
pub const RECEIVE_PRODUCE_BYTES_MAX: usize = KAFKA_REQUEST_BYTES_MAX as usize + (64 << 10);
pub const RECEIVE_CONTROL_BYTES_MAX: usize = 1 << 20;
pub const RECEIVE_BATCHES_MAX: usize = 16_384;
pub const RECEIVE_TOPICS_MAX: usize = 1024;
pub const RECEIVE_TOPIC_PARTITIONS_MAX: u32 = 10_000;
pub const RECEIVE_PARTITIONS_MAX: usize = 100_000;
pub const RECEIVE_PRODUCERS_MAX: usize = 4096;

/// Processes of a fleet: in a merged report the shards that are there stand as a list, as processors do, and nothing
/// above is read back.
pub const SHARDS_MAX: u32 = 1 << 16;

/// Of all files together that a run without a target writes, at the most.
pub const FOOTPRINT_BYTES_DEFAULT: u64 = 16 << 30;

const _: () = assert!(RECEIVE_TOPIC_PARTITIONS_MAX as usize <= RECEIVE_PARTITIONS_MAX);
const _: () = assert!(RECEIVE_HEAD_BYTES_MAX * 2 <= RECEIVE_READ_BYTES);
const _: () = assert!(WAIT_NS_MAX < ABSENCE_NS_MIN && ABSENCE_NS_MIN < ABSENCE_NS_MAX && WAIT_NS_MAX < WATCHDOG_NS);
const _: () = assert!(SNAPSHOT_INTERVAL_NS < 1_000_000_000 && 1_000_000_000 % SNAPSHOT_INTERVAL_NS == 0);
const _: () = assert!(RECORD_BYTES_MAX <= BLOCK_BYTES_MAX && BLOCK_BYTES_MAX < CORE_RINGS_BYTES_MAX);
// What a block stands for can be counted.
const _: () = assert!(BLOCK_BYTES_MAX < u64::MAX / WEIGHT_MAX);
const _: () = assert!(RECORD_BYTES_MIN_UNANNOTATED < RECORD_BYTES_MIN);
// What is written can be read. A second, and what else is said of a producer, take less than 1 KiB.
const _: () = assert!(
    REPORT_BYTES_MAX
        > REPORT_LOSSY_PRODUCERS * MISSING_RANGES_MAX as u64 * MISSING_RANGE_BYTES_MAX
            + ((INTERVALS_MAX + PRODUCERS_MAX) << 10) as u64
);
const _: () = assert!(TEMPLATE_SLOTS_MAX as u64 * 200 < MANIFEST_BYTES_MAX);
