//! What a run is: immutable, fully resolved, data only. Whoever holds a `RunPlan` can run it.
//!
//! `config` makes it, `run` hands it out. An `Option` here means "not wanted", never "decide later".

mod compare;
mod io;
mod network;

pub use compare::{CompareArgs, RatioMetric, RatioSlo};
pub use io::{Io, Poll, Unregistered};
pub use network::{
    BearerPlan, Compression, HttpMethod, HttpPlan, KafkaAccess, KafkaClient, KafkaPlan, KeyPlan, LinkPlan, PeerPlan,
    RetryPlan, SaslMechanism, SaslPlan, Secret, TargetPlan, TcpFraming, TcpPlan, TlsPlan,
};
pub mod receive;
mod run;
pub mod saturate;
#[cfg(test)]
pub mod testing;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// One run of this process.
#[derive(Clone, Debug)]
pub struct RunPlan {
    pub run_id: String,
    /// The 64-bit run id that records carry; see `record::run_id_hash`.
    pub run_id_hash: u64,
    /// The command line as it was typed.
    pub command: Vec<String>,
    /// Every setting in force, by its config key, for the report.
    pub effective_config: serde_json::Map<String, serde_json::Value>,
    pub cores: Vec<CorePlan>,
    pub producers: Vec<ProducerPlan>,
    /// Of all processes of the fleet.
    pub fleet_producers: u32,
    /// What the phases, or the limits of records and bytes, let this process send; `None`: no end is known.
    pub payload_bytes_max: Option<u64>,
    /// The processors that the metrics thread and the helpers may use; empty: anywhere.
    pub free_cpus: Vec<usize>,
    pub sink: SinkPlan,
    pub payload: PayloadPlan,
    pub phases: Vec<PhasePlan>,
    /// The process's share of `--rate` in logical bytes a second, if there is one rate for the whole run.
    pub rate_bytes_per_second: Option<u64>,
    pub catch_up_ns: u64,
    pub drain_timeout_ns: u64,
    /// When the barrier falls; `None`: once all is ready.
    pub start_at_unix_ns: Option<u64>,
    pub poll: Poll,
    pub io: Io,
    pub unregistered: Unregistered,
    /// Sockets may read the ring in place.
    pub zero_copy: bool,
    pub observe: ObservePlan,
    /// What the user should know before the start, one line each.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct CorePlan {
    /// The logical processor that the core's thread is pinned to.
    pub cpu: usize,
    /// Indices into `RunPlan::producers`, in lane order.
    pub producers: Vec<usize>,
    /// Bytes of payload ring for each lane of this core.
    pub ring_bytes_per_lane: u64,
}

impl CorePlan {
    /// Of all its lanes.
    pub fn ring_bytes(&self) -> u64 {
        self.ring_bytes_per_lane.saturating_mul(self.producers.len() as u64)
    }
}

/// One logical stream of records.
#[derive(Clone, Debug)]
pub struct ProducerPlan {
    /// Unique in the fleet: shard index × parallel + position.
    pub id: u32,
    /// Index into `RunPlan::cores`.
    pub core: usize,
    /// Index into `SinkPlan::targets`.
    pub target: usize,
    /// This producer's part of each phase, same order as `RunPlan::phases`.
    pub schedule: Vec<PhaseShare>,
    /// How far its schedule is shifted, so that producers do not send in step.
    pub stagger_ns: u64,
    /// It stops offering after so many records, or wire bytes; `u64::MAX`: no limit.
    pub records_max: u64,
    pub bytes_max: u64,
    pub to: TargetPlan,
}

impl ProducerPlan {
    /// Its files, where the target is files.
    pub fn file(&self) -> Option<&FilePlan> {
        if let TargetPlan::File(file) = &self.to { Some(file) } else { None }
    }
}

/// A stage of the run. The warm-up, where there is one, is the first.
#[derive(Clone, Debug, PartialEq)]
pub struct PhasePlan {
    /// `u64::MAX`: until a limit or a signal.
    pub duration_ns: u64,
    pub warmup: bool,
    /// `--mode sampled`: each record stands for `weight` of its size, which may be 1.
    pub sampled: bool,
    /// 1 in other modes.
    pub weight: u64,
    /// The process's rate of this phase in logical bytes a second.
    pub rate_bytes_per_second: Option<u64>,
}

impl PhasePlan {
    /// As `--mode` spells it; `share` is any producer's part of it.
    pub fn mode(&self, share: &PhaseShare) -> &'static str {
        match share.schedule {
            Schedule::Burst { .. } => "burst",
            _ if self.sampled => "sampled",
            _ => "steady",
        }
    }
}

/// One producer's part of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseShare {
    pub duration_ns: u64,
    pub warmup: bool,
    pub weight: u64,
    pub schedule: Schedule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// As fast as the target takes it.
    Unlimited,
    Steady {
        rate: WireRate,
    },
    /// Full speed for `on_ns`, silence for `off_ns`. With a rate, the bytes of a whole cycle at that rate
    /// fall due at the cycle's start.
    Burst {
        on_ns: u64,
        off_ns: u64,
        rate: Option<WireRate>,
    },
}

/// Wire bytes a second as an exact fraction: logical bytes a second over the weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireRate {
    pub logical_bytes_per_second: u64,
    pub weight: u64,
}

#[derive(Clone, Debug)]
pub struct SinkPlan {
    pub kind: SinkKind,
    /// The URLs as given, without user info or query, for labels and the report.
    pub targets: Vec<String>,
    pub block_bytes: u64,
    pub queue_depth: usize,
    pub linger_ns: u64,
    pub confirmation: Confirmation,
}

/// Blocks of a file that can be in flight at once: no more than fill the ring of payload.
pub fn blocks_in_flight(queue_depth: usize, block_bytes: u64, ring_bytes: u64) -> usize {
    let room = usize::try_from(ring_bytes / block_bytes.max(1)).unwrap_or(usize::MAX);
    queue_depth.min(room.max(1))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    Null,
    Stdout,
    File,
    Tcp,
    Http,
    Kafka,
}

impl SinkKind {
    /// Its records leave over connections.
    pub fn is_network(self) -> bool {
        matches!(self, SinkKind::Tcp | SinkKind::Http | SinkKind::Kafka)
    }
}

/// What made a record "produced".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// The target said so: write completion, acknowledgement, 2xx.
    Target,
    /// The kernel accepted it; nothing further confirms.
    Kernel,
}

/// One producer's files.
#[derive(Clone, Debug, PartialEq)]
pub struct FilePlan {
    pub data: PathBuf,
    pub manifest: PathBuf,
    /// The audit log, where `--audit-every` is on.
    pub log: Option<PathBuf>,
    /// Where the log would be if this run wrote one. Those of an earlier run go with its data.
    pub log_place: PathBuf,
    pub layout: FileLayout,
    /// O_DIRECT, and the alignment it wants for address, length and offset (1 when off).
    pub direct: bool,
    pub align: u64,
    pub fsync: Fsync,
    /// Kept free on the file system.
    pub min_free_bytes: u64,
    /// About what the run writes there in all, had it filled each rotating file to its limit; `u64::MAX` where no end
    /// is known.
    pub run_bytes_max: u64,
    pub existing: Existing,
}

impl FilePlan {
    /// How the manifest names the data: a file lies beside it, a device somewhere else.
    pub fn data_in_manifest(&self) -> String {
        let on_device = matches!(self.layout, FileLayout::Device { .. });
        let name = if on_device { self.data.as_os_str() } else { self.data.file_name().unwrap_or_default() };
        name.to_string_lossy().into_owned()
    }
}

/// What becomes of data of other runs that lie there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// They are in the way, and so is a manifest without data, unless (`manifest`) it was there when the plan was made.
    Refused { manifest: bool },
    /// Our own, in the same layout, are taken up again: the baseline.
    Reused,
    /// They may go.
    Replaced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileLayout {
    /// Appended, rotated before a record would pass `limit_bytes`; `retain` rotated files are kept.
    Rotating { limit_bytes: u64, retain: Option<u64> },
    /// A ring of `capacity_bytes`, overwritten in place. The lap, a whole number of payload periods, may be shorter.
    Ring { capacity_bytes: u64 },
    /// A block device, or (`u64::MAX`) a special file: written from its start, never created, truncated or rotated.
    Device { capacity_bytes: u64 },
}

impl FileLayout {
    /// Whether anything stays that a manifest could describe; a special file keeps nothing.
    pub fn has_manifest(self) -> bool {
        self != Self::Device { capacity_bytes: u64::MAX }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    Never,
    End,
    Each,
}

#[derive(Clone, Debug)]
pub struct PayloadPlan {
    pub source: PayloadSource,
    /// Of the shortest record, header included.
    pub record_bytes_min: u64,
    pub record_bytes_max: u64,
    /// Records start with the record header: all of them, or none.
    pub headed: bool,
    pub seed: u64,
    pub annotate: Annotate,
    /// SipHash key, from `--sign-key`.
    pub sign_key: Option<[u8; 16]>,
}

#[derive(Clone, Debug)]
pub enum PayloadSource {
    /// Seeded random bytes; record sizes uniform between the plan's bounds.
    Random { compressibility: f64 },
    /// Files replayed in order, each record at its own length.
    Templates(Arc<[TemplateFile]>),
}

#[derive(Clone, Debug)]
pub struct TemplateFile {
    pub name: String,
    pub bytes: Arc<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Annotate {
    /// Facts in the payload: record header or template slots.
    Payload,
    /// Facts beside the payload, which stays as it is: Kafka record headers, HTTP `X-` headers.
    Headers,
    /// Nowhere.
    Off,
}

#[derive(Clone, Debug)]
pub struct ObservePlan {
    pub metrics_addr: Option<SocketAddr>,
    pub metrics_hold_ns: u64,
    pub log_format: LogFormat,
    pub stats_interval_ns: u64,
    pub report: Option<ReportTarget>,
    /// Where the result goes as a page.
    pub html: Option<PathBuf>,
    /// One audit line every so many records; 0: off.
    pub audit_every: u64,
    /// Who is told of records, and of which.
    pub governance: Option<GovernancePlan>,
    pub slo: Vec<Slo>,
}

#[derive(Clone, Debug)]
pub struct GovernancePlan {
    /// Where the contract's paths begin; without user info, query or a slash at its end.
    pub url: String,
    /// The events whose sequence is a multiple of this; at least 1.
    pub every: u64,
    /// The contract to follow instead of the one built in.
    pub spec: Option<SpecFile>,
    /// Its token, and where the next one will be.
    pub bearer: Option<BearerPlan>,
}

/// An OpenAPI document in YAML or JSON.
#[derive(Clone, Debug)]
pub struct SpecFile {
    pub name: String,
    pub text: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportTarget {
    Stdout,
    File(PathBuf),
}

/// A threshold on the result, e.g. `p99<5ms`.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    pub expression: String,
    pub metric: SloMetric,
    pub comparison: Comparison,
    /// Seconds, bytes a second, records a second or a count, as the metric says.
    pub threshold: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SloMetric {
    /// Response time at this quantile, in seconds; 1.0 is the maximum.
    ResponseQuantile(OrderedQuantile),
    /// Bytes a second.
    Rate,
    RecordsPerSecond,
    /// Failed and uncertain records.
    Errors,
    NotSent,
}

/// A quantile in parts per million, so that it compares exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderedQuantile(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

/// What `engine merge` was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeArgs {
    pub reports: Vec<PathBuf>,
    pub to: ReportTarget,
}

/// What `engine report` renders: as text on standard output, or as a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportArgs {
    pub report: PathBuf,
    pub html: Option<ReportTarget>,
}

/// What `engine verify` reads, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyArgs {
    /// Files, folders, `-` for stdin.
    pub sources: Vec<String>,
    /// A list of records as `ids` reads it, or `-`.
    pub ids: Option<String>,
    /// Reports whose promises are to be proved.
    pub expect: Vec<PathBuf>,
    /// The caller prints `Findings` as JSON rather than its summary.
    pub json: bool,
    /// 0: all processors.
    pub threads: usize,
    pub sign_key: Option<[u8; 16]>,
    /// The run that is expected: its text or its 64-bit hash.
    pub run_id: Option<String>,
    /// Kafka topics, beside the sources, and how their brokers are reached.
    pub topics: Vec<TopicSource>,
    pub kafka: KafkaAccess,
}

/// A topic to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSource {
    /// Its URL.
    pub label: String,
    pub bootstrap: Vec<(String, u16)>,
    pub topic: String,
}
