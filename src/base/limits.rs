//! Every maximum of the engine, named, and how they relate.

/// Bytes of a record, from the least that carries a header (or, unannotated, anything useful).
pub const RECORD_BYTES_MIN: u64 = 64;
pub const RECORD_BYTES_MIN_UNANNOTATED: u64 = 16;
pub const RECORD_BYTES_MAX: u64 = 256 << 20;

/// Bytes of a run id: templates keep so much room for it, whatever its length.
pub const RUN_ID_BYTES_MAX: usize = 64;

/// Blocks in flight for one lane (`--queue-depth`).
pub const QUEUE_DEPTH_MAX: usize = 1024;
/// Operations in flight on one core, all lanes together.
pub const CORE_DEPTH_MAX: usize = 32_768;
/// Lanes (producers) that one core can host, and cores of one run.
pub const LANES_PER_CORE_MAX: usize = 1024;
pub const PRODUCERS_MAX: usize = 65_536;

/// Bytes of one block (`--block-size`) and of one core's payload ring (`--ring-size`).
pub const BLOCK_BYTES_MAX: u64 = 1 << 30;
pub const RING_BYTES_MAX: u64 = 64 << 30;

/// What a configuration may ask for: stages of a run, bytes a second, the weight of a sampled record.
pub const PHASES_MAX: usize = 1000;
/// Producers times stages: each producer has its share of each stage (about 64 bytes).
pub const PHASE_SHARES_MAX: usize = 1_000_000;
pub const RATE_MAX: u64 = 1_000_000_000_000_000;
pub const WEIGHT_MAX: u64 = 1_000_000;
/// Bytes of a configuration file, and files and bytes of a payload template folder.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
pub const TEMPLATE_FILES_MAX: usize = 10_000;
pub const TEMPLATE_BYTES_MAX: u64 = 1 << 30;
/// Characters of `--run-id`.
pub const RUN_ID_CHARS_MAX: usize = 64;

/// A paced lane waits this long for a block to fill before it sends what is due.
pub const LINGER_DEFAULT_NS: u64 = 250_000;

/// After the pacing's end, what fell due before it may still be sent for this long.
pub const FINISH_GRACE_NS: u64 = 100_000_000;

/// Rotated files that `--retain` can keep (other than all).
pub const RETAIN_MAX: u64 = 65_536;

/// A core hands its histograms to the metrics thread this often.
pub const SNAPSHOT_INTERVAL_NS: u64 = 100_000_000;
/// Snapshots that may wait for the metrics thread, for each core.
pub const SNAPSHOTS_IN_FLIGHT: usize = 2;

/// Due times of one block that enter the response-time histogram.
pub const DUE_SAMPLES_PER_BLOCK: u64 = 16;
/// Due times closer than this are one to the histogram.
pub const DUE_SAMPLE_NS: u64 = 250;

/// Histograms cover 1 ns to an hour with three significant digits.
pub const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
pub const LATENCY_DIGITS: u8 = 3;

/// Seconds of a run that the report has one by one: the last ten hours.
pub const INTERVALS_MAX: usize = 36_000;

/// Ranges of missing sequences that one producer's report can name.
pub const MISSING_RANGES_MAX: usize = 4096;

/// An adaptive core wakes at least this often to look at the stop flag.
pub const WAIT_NS_MAX: u64 = 20_000_000;

/// `/health` turns to 503 when a core made no turn for this long.
pub const WATCHDOG_NS: u64 = 5_000_000_000;

/// The metrics endpoint: connections at once, bytes of a request's head, and the time a request has in all.
pub const METRICS_CONNECTIONS_MAX: usize = 16;
pub const METRICS_HEAD_BYTES_MAX: usize = 8 << 10;
pub const METRICS_REQUEST_NS_MAX: u64 = 2_000_000_000;

const _: () = assert!(WAIT_NS_MAX < WATCHDOG_NS);
const _: () = assert!(SNAPSHOT_INTERVAL_NS < 1_000_000_000 && 1_000_000_000 % SNAPSHOT_INTERVAL_NS == 0);
const _: () = assert!(RECORD_BYTES_MAX <= BLOCK_BYTES_MAX && BLOCK_BYTES_MAX < RING_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MIN_UNANNOTATED < RECORD_BYTES_MIN);
