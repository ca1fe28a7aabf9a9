//! The report: what a run did, as scripts read it. Seconds are floats, sizes and counts integers.
//!
//! The keys are a promise (`schemas/report.schema.json`); new ones may be added, none changes its meaning.

mod governance;
mod write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub use governance::Governance;
pub use write::{write_report, write_run_report, write_text};

pub const SCHEMA_VERSION: u32 = 1;

/// The result of one run of one process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    pub schema_version: u32,
    pub run_id: String,
    pub engine_version: String,
    /// The command line, one element for each argument.
    pub command: Vec<String>,
    /// When the start barrier fell, RFC 3339 in UTC.
    pub started_at: String,
    /// From the start of the measured part (after the warm-up) to the last record produced, or to the end of the pacing
    /// where that is later, and the final fsync. A drain that brings nothing any more is no part of it.
    pub elapsed_seconds: f64,
    /// The part of `elapsed_seconds` that the longest final fsync took.
    pub final_fsync_seconds: f64,
    pub confirmation: Confirmation,
    /// Every setting in force, by its key; in a merged report `null` where the processes differ, and so in `host`.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Facts about the machine.
    #[schemars(with = "crate::host::HostFacts")]
    pub host: serde_json::Value,
    pub payload: Payload,
    pub warmup: Warmup,
    pub totals: Totals,
    pub throughput: Throughput,
    pub latency_seconds: Latency,
    pub pacing: Pacing,
    pub cpu: Cpu,
    pub producers: Vec<Producer>,
    /// One for each second of the measured part; they add up to `totals` unless older ones were dropped.
    pub intervals: Vec<Interval>,
    /// Seconds before those, which are not there one by one: in a file the last ten hours are, through a pipe or on a
    /// terminal the last ten minutes.
    pub intervals_dropped: u64,
    /// The stages of the measured part that had begun by its end; empty where it is a single one.
    #[serde(default)]
    pub phases: Vec<Phase>,
    /// Records that failed or are uncertain, by kind, every kind present.
    pub errors: BTreeMap<String, u64>,
    pub verdict: Verdict,
    pub slo: Vec<SloResult>,
    /// What the governance API was told; `null` where there is none.
    pub governance: Option<Governance>,
    /// Why the run ended before its time, if it did, by a limit or a fault.
    pub ended_early: Option<String>,
    /// The signal by which the user ended the run before its time, which is no fault, as `SIGINT`.
    #[serde(default)]
    pub ended_by_signal: Option<String>,
    /// 0 done, 1 records failed or uncertain, a limit ended the run or, in a merged report, shards are missing, 4 an
    /// SLO was missed (1 goes first).
    pub exit_code: u8,
}

/// What made a record "produced".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confirmation {
    /// The target said so.
    Target,
    /// The kernel accepted it; nothing further confirms.
    Kernel,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Payload {
    /// Bytes of prepared payload for each producer: of the one with the lowest id, where record sizes are a range.
    pub ring_bytes_per_lane: u64,
    /// After so many bytes of one producer the content (stamps aside) repeats. Where record sizes are a range, each has
    /// a period of its own, and this is that of the lowest id.
    pub repeat_period_bytes: u64,
    /// The fraction that a compressor could remove, measured at the start; `null` where it was not measured.
    pub compressibility_measured: Option<f64>,
    /// Payload bytes for each byte on the wire under `--compression`, heads and what was sent again included; `null`
    /// without it, and with rskafka, which does not tell.
    #[serde(default)]
    pub compression_ratio: Option<f64>,
    /// The pages behind the rings: huge, transparent huge or plain; each kind with its cores where they differ.
    pub memory: String,
}

/// Records offered before the measured part; they appear nowhere else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Warmup {
    pub seconds: f64,
    pub totals: Totals,
    /// As `errors` of the measured part. A record that was lost here makes the exit code 1, too.
    #[serde(default)]
    pub errors: BTreeMap<String, u64>,
    pub latency_seconds: Latency,
}

/// `records_offered` = produced + failed + uncertain + not sent, exactly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    pub records_offered: u64,
    pub records_produced: u64,
    pub records_failed: u64,
    pub records_uncertain: u64,
    pub records_not_sent: u64,
    /// Payload bytes of produced records.
    pub bytes_produced: u64,
    /// The same times each record's weight, up to 2^64 - 1.
    pub logical_bytes_produced: u64,
    /// Bytes handed to the target, framing and padding included.
    pub wire_bytes: u64,
    /// Bytes of these that the target, on the same host, read in place: they were not copied.
    #[serde(default)]
    pub lent_bytes: u64,
    pub retries: u64,
    /// Connections that took the place of others, lost or closed in time.
    #[serde(default)]
    pub reconnects: u64,
    /// TCP segments that the kernel sent again (retransmissions), each connection's counted when it ends or the run
    /// does: those of the warm-up are then in the measured part. `null` where the target has no connections, and with
    /// rskafka, which does not tell.
    #[serde(default)]
    pub tcp_retransmits: Option<u64>,
    /// Kafka: answers with a `throttle_time_ms`, by which a broker under a quota asks for a pause. `null` for other
    /// targets, with `--acks 0`, where there are no answers, and with rskafka, which does not tell.
    #[serde(default)]
    pub throttled_answers: Option<u64>,
    /// What they asked for, all partitions together: it may be more than the run took. `null` as above.
    #[serde(default)]
    pub throttled_seconds: Option<f64>,
    /// HTTP: requests that were answered, with any status; one that was sent again counts each time. `null` for other
    /// targets.
    #[serde(default)]
    pub requests: Option<u64>,
    /// The same by the status of the answer. `null` as above.
    #[serde(default)]
    pub answers: Option<BTreeMap<u16, u64>>,
    /// HTTP with `--http-refused-by`: how many of these answers were 2xx with its text in their body, so that the records
    /// of their requests are uncertain. `null` without it.
    #[serde(default)]
    pub answers_refused_by_body: Option<u64>,
    /// Kafka: batches that brokers answered with an error, by its name, as `NOT_ENOUGH_REPLICAS`, tried again or not.
    /// `null` as for `throttled_answers`.
    #[serde(default)]
    pub broker_errors: Option<BTreeMap<String, u64>>,
    /// Audit lines not written because the log could not keep up.
    pub audit_lines_dropped: u64,
}

/// Over `elapsed_seconds`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Throughput {
    pub bytes_per_second: f64,
    pub records_per_second: f64,
    pub logical_bytes_per_second: f64,
}

impl Throughput {
    pub fn of(totals: &Totals, seconds: f64) -> Self {
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        Self {
            bytes_per_second: per_second(totals.bytes_produced),
            records_per_second: per_second(totals.records_produced),
            logical_bytes_per_second: per_second(totals.logical_bytes_produced),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// From due to confirmed (without a rate: the service time). A record that was due but never confirmed
    /// counts as slower than all others: a percentile that falls among these is `null`.
    pub response: Distribution,
    /// From the first attempt to confirmation: the target, and of what was sent again the pauses between attempts.
    pub service: Distribution,
}

impl Latency {
    fn response_to_show(&self, all_confirmed: bool) -> Distribution {
        Distribution { max: self.response.max.filter(|_| all_confirmed), ..self.response.clone() }
    }
}

/// `null` where there is no such value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    pub p9999: Option<f64>,
    /// The largest among confirmed records; where others are not, summary, page and `--slo` on `max` say never.
    pub max: Option<f64>,
    /// Over confirmed records.
    pub mean: Option<f64>,
    /// Records at an hour or more, where the histogram ends: the other figures take longer ones for about an hour.
    #[serde(default)]
    pub records_clamped: u64,
    /// HdrHistogram V2 in base64, nanoseconds, confirmed records.
    pub histogram: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pacing {
    /// From the start of the measured part to the end of its pacing, whatever ended it: a drain and a final fsync may
    /// follow; `null` where nobody looked.
    #[serde(default)]
    pub paced_seconds: Option<f64>,
    /// How long it was to last, all stages together; `null`: without an end.
    #[serde(default)]
    pub planned_seconds: Option<f64>,
    /// The stages that it was to have, 0 where it is a single one: those that `phases` lacks were not reached.
    #[serde(default)]
    pub stages_planned: u64,
    /// Logical bytes a second; `null` without a rate. The mean over the phases where they differ.
    pub target_bytes_per_second: Option<f64>,
    /// Records produced of those that fell due; `null` without a rate.
    pub achieved_ratio: Option<f64>,
    /// Records sent as catch-up: after a stall, or after the window of their burst.
    pub catch_up_records: u64,
    /// From due to submitted; empty without a rate.
    pub lateness_seconds: Distribution,
}

/// Of the whole process from the start barrier on, warm-up included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cpu {
    pub user_seconds: f64,
    pub system_seconds: f64,
    /// For each 10^9 payload bytes produced, warm-up included; `null` where too little was for a figure: less than
    /// 1 MB, or in less than 10 ms of processor time.
    pub seconds_per_gigabyte: Option<f64>,
    /// The part of it in which cores asked again and again, instead of sleeping, whether something was due or there
    /// was room; `null` where nobody counted.
    #[serde(default)]
    pub polling_seconds: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Producer {
    pub id: u32,
    /// The logical processor it ran on.
    pub core: usize,
    pub target: String,
    /// Its data file, where the target is one.
    pub file: Option<String>,
    pub records_offered: u64,
    pub records_produced: u64,
    pub bytes_produced: u64,
    pub records_failed: u64,
    pub records_uncertain: u64,
    pub records_not_sent: u64,
    /// Of the measured part; `null`: nothing was submitted.
    pub first_sequence: Option<u64>,
    pub last_sequence: Option<u64>,
    /// The first sequence that the target still holds; `null`: it keeps none, or nobody knows.
    pub retained_first_sequence: Option<u64>,
    /// Submitted and not produced: inclusive ranges in order.
    #[serde(serialize_with = "write::on_one_line")]
    pub missing: Vec<(u64, u64)>,
    /// More ranges were missing than are named.
    pub missing_truncated: bool,
    /// The status of its first HTTP answer that was no 2xx, tried again or not; `null`: there was none.
    #[serde(default)]
    pub first_refused_status: Option<u16>,
    /// Its part of the `answers` of `totals`.
    #[serde(default)]
    pub answers: Option<BTreeMap<u16, u64>>,
}

/// A second of the measured part, or less at the ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// From the start of the measured part.
    pub start_seconds: f64,
    pub seconds: f64,
    pub records_offered: u64,
    pub records_produced: u64,
    pub bytes_produced: u64,
    pub records_failed: u64,
    pub records_uncertain: u64,
    pub records_not_sent: u64,
    pub catch_up_records: u64,
    /// The percentiles of a merged report are `null` where several processes differ: percentiles cannot be added.
    pub response_p50: Option<f64>,
    pub response_p99: Option<f64>,
    pub response_p999: Option<f64>,
    pub response_max: Option<f64>,
    /// The longest time a core made no turn of its loop, planned waits aside.
    pub loop_gap_max_seconds: f64,
}

/// A stage of the measured part. A record counts in the stage in which its outcome became known, to a tenth of a
/// second, and in the last one that began if that was in the drain. Of a merged report: all processes together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Phase {
    /// From 1, in the order in which they ran: stages of `phases`, of a ramp each of its steps.
    pub number: u64,
    /// As `--mode` has it.
    pub mode: String,
    /// Logical bytes a second; `null`: as fast as the target takes it.
    pub target_bytes_per_second: Option<f64>,
    /// From the start of the measured part to where it was to end, or the pacing ended before.
    pub start_seconds: f64,
    pub end_seconds: f64,
    /// From there on, until the drain brought the last record that is produced here; 0 where it brought none.
    #[serde(default)]
    pub drained_seconds: f64,
    /// Those of known outcome: produced + failed + uncertain + not sent, exactly. They add up to that of `totals`.
    pub records_offered: u64,
    pub records_produced: u64,
    pub records_failed: u64,
    pub records_uncertain: u64,
    pub records_not_sent: u64,
    pub bytes_produced: u64,
    /// The rates are over all of its time, `drained_seconds` included.
    pub bytes_per_second: f64,
    pub logical_bytes_per_second: f64,
    pub latency_seconds: Latency,
}

impl Phase {
    /// As [`Report::response_to_show`].
    pub fn response_to_show(&self) -> Distribution {
        self.latency_seconds.response_to_show(self.records_produced >= self.records_offered)
    }
}

/// What kept the run from going faster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    pub limited_by: LimitedBy,
    /// Sentences with numbers.
    pub evidence: Vec<String>,
    /// What a reader has to know beside it, before the figures are taken at their word: sentences of the summary, too.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The share of the measured time in which other work held the cores' processors, as far as it was seen; of a
    /// merged report the largest of its processes; `null`: nobody looked.
    #[serde(default)]
    pub stolen_ratio: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitedBy {
    /// The rate that was asked for: it was met.
    Rate,
    /// What the records were sent to, its device and kernel path included.
    Target,
    /// The engine's own work.
    Generator,
    /// The machine did not let the engine run.
    Host,
}

impl LimitedBy {
    /// As the report spells it.
    pub fn name(self) -> &'static str {
        match self {
            LimitedBy::Rate => "rate",
            LimitedBy::Target => "target",
            LimitedBy::Generator => "generator",
            LimitedBy::Host => "host",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SloResult {
    pub expression: String,
    /// Seconds, bytes a second, records a second or a count; `null`: a percentile among unconfirmed records, or losses
    /// in a merged report that lacks shards.
    pub value: Option<f64>,
    /// What the value was held against. Rates are those of the fleet: a shard is held to its part.
    #[serde(default)]
    pub threshold: Option<f64>,
    pub passed: bool,
}

impl Report {
    /// Made of several by `engine merge`.
    pub fn is_merged(&self) -> bool {
        self.command.get(1).is_some_and(|word| word == "merge")
    }

    /// Records that were due and have no confirmation.
    pub fn records_unconfirmed(&self) -> u64 {
        self.totals.records_offered.saturating_sub(self.totals.records_produced)
    }

    /// The response times as people read them: a record without confirmation is slower than all others, so that
    /// there is no largest one.
    pub fn response_to_show(&self) -> Distribution {
        self.latency_seconds.response_to_show(self.records_unconfirmed() == 0)
    }

    /// The largest response time among confirmed records, where others never came and there is no largest one.
    pub fn confirmed_max(&self) -> Option<f64> {
        self.latency_seconds.response.max.filter(|_| self.records_unconfirmed() > 0)
    }

    /// Each once, as the producers name them.
    pub fn targets(&self) -> BTreeSet<&str> {
        self.producers.iter().map(|producer| producer.target.as_str()).collect()
    }

    /// One line of JSON, without the newline.
    pub fn to_json_line(&self) -> String {
        serde_json::to_string(self).expect("every field of a report is plain data")
    }
}

#[cfg(test)]
mod tests {
    use crate::observe::testing;

    #[test]
    fn one_line_is_one_line() {
        assert!(!testing::report().to_json_line().contains('\n'));
    }
}
