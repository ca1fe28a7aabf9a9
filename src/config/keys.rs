//! Every setting of `run`, once. Flags, `ENGINE_` variables, configuration keys, `--help`, the JSON Schema and
//! the README's table are made from [`KEYS`].

use crate::base::limits;

/// What a value is, and so how it is read, shown and described in the schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Bytes a second.
    Rate,
    /// Bytes a second, or `unlimited`.
    RateOrUnlimited,
    /// Bytes.
    Size,
    /// Bytes, or `inf`.
    SizeOrInf,
    /// Bytes, or two sizes with a `-` between them.
    SizeRange,
    /// Bytes, or a share such as `10%`.
    SizeOrPercent,
    Duration,
    /// A duration, or `inf`.
    DurationOrInf,
    Count {
        min: u64,
        max: u64,
    },
    /// A count, or this word for no limit.
    CountOr {
        word: &'static str,
        min: u64,
    },
    /// A number from 0 to the maximum.
    Fraction {
        max: f64,
    },
    Choice(&'static [&'static str]),
    Switch,
    Url,
    Path,
    CpuList,
    Address,
    Shard,
    Slo,
    Text,
}

/// The headings of `--help`, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Target,
    Load,
    Payload,
    Files,
    Io,
    Fleet,
    Observe,
    Run,
}

impl Group {
    pub const ALL: &[Group] = &[
        Group::Target,
        Group::Load,
        Group::Payload,
        Group::Files,
        Group::Io,
        Group::Fleet,
        Group::Observe,
        Group::Run,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Group::Target => "Target",
            Group::Load => "Load",
            Group::Payload => "Payload",
            Group::Files => "Files",
            Group::Io => "Cores and I/O",
            Group::Fleet => "Fleet",
            Group::Observe => "Seeing it",
            Group::Run => "Configuration and safety",
        }
    }
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Of the flag, without its dashes.
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub kind: Kind,
    /// Stands for the value in `--help`.
    pub value: &'static str,
    /// For people; what is resolved later is told in words.
    pub default: &'static str,
    pub example: &'static str,
    pub help: &'static str,
    pub group: Group,
    pub repeatable: bool,
    /// A stage of `phases:` may set it too.
    pub phase: bool,
}

impl Key {
    /// As configuration files and the report write it.
    pub fn config_key(&self) -> String {
        self.name.replace('-', "_")
    }

    /// As the environment writes it.
    pub fn variable(&self) -> String {
        format!("{ENV_PREFIX}{}", self.name.replace('-', "_").to_uppercase())
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

pub const ENV_PREFIX: &str = "ENGINE_";
/// What Kubernetes injects for a service called `engine`.
pub const ENV_IGNORED: &[&str] = &["ENGINE_PORT", "ENGINE_SERVICE_"];

/// The key of a flag name, variable tail or configuration key, aliases included.
pub fn find(name: &str) -> Option<&'static Key> {
    let name = name.replace('_', "-");
    KEYS.iter().find(|key| key.names().any(|known| known == name))
}

const fn key(group: Group, name: &'static str, kind: Kind, value: &'static str) -> Key {
    Key { name, aliases: &[], kind, value, default: "", example: "", help: "", group, repeatable: false, phase: false }
}

impl Key {
    const fn says(mut self, default: &'static str, example: &'static str, help: &'static str) -> Self {
        (self.default, self.example, self.help) = (default, example, help);
        self
    }

    const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn repeated(mut self) -> Self {
        self.repeatable = true;
        self
    }

    const fn in_phases(mut self) -> Self {
        self.phase = true;
        self
    }
}

const AUTO_ON_OFF: Kind = Kind::Choice(&["auto", "on", "off"]);
const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

use Group::{Files, Fleet, Io, Load, Observe, Payload, Run, Target};

pub const KEYS: &[Key] = &[
    key(Target, "target", Kind::Url, "URL").alias(&["sink"]).repeated().says(
        "files in ./engine-data/",
        "file:/mnt/nvme/",
        "Where records go: null, stdout, file:PATH or file:///PATH. A PATH that ends in / or is a folder holds one \
         file for each producer. Repeatable within one scheme; producers are dealt round robin. --sink is the older name.",
    ),
    key(Load, "rate", Kind::RateOrUnlimited, "R").in_phases().says(
        "unlimited",
        "7.5GB/s",
        "Total of all producers together, not of each; shared out exactly. Bytes a second, or bits with 'bit'.",
    ),
    key(Load, "producer-rate", Kind::Rate, "R").says("none", "125kb/s", "Cap of each producer."),
    key(Load, "catch-up", Kind::Duration, "D").says(
        "10s",
        "10s",
        "What fell due during a stall is still sent for this long, and counted; older becomes not sent.",
    ),
    key(Load, "duration", Kind::DurationOrInf, "D").in_phases().says(
        "10s unless --records, --bytes or phases",
        "30s",
        "Length of the run. Of --duration, --records and --bytes the first reached wins; inf runs until a signal.",
    ),
    key(Load, "records", Kind::CountOr { word: "inf", min: 1 }, "N").says(
        "no limit",
        "1000000",
        "Ends the run after so many records of this process.",
    ),
    key(Load, "bytes", Kind::SizeOrInf, "S").says(
        "no limit",
        "100GB",
        "Ends the run after so many bytes on the wire; with one record size, rounded up to whole records.",
    ),
    key(Load, "warmup", Kind::Duration, "D").says(
        "0s",
        "5s",
        "Before --duration and on top of it; reported apart.",
    ),
    key(Load, "mode", Kind::Choice(&["steady", "burst", "sampled"]), "MODE").in_phases().says(
        "steady",
        "burst",
        "steady; burst: full speed, then silence, a whole cycle averaging --rate; sampled: each record stands for \
         --weight records, and --rate counts what they stand for.",
    ),
    key(Load, "burst-on", Kind::Duration, "D").in_phases().says("1s", "1s", "Length of a burst."),
    key(Load, "burst-off", Kind::Duration, "D").in_phases().says("4s", "4s", "Silence after a burst."),
    key(Load, "weight", count(1, limits::WEIGHT_MAX), "W").in_phases().says(
        "100",
        "100",
        "Records that one record stands for in --mode sampled; the wire carries --rate over W.",
    ),
    key(Load, "parallel", count(1, limits::PRODUCERS_MAX as u64), "N").says(
        "number of cores; 1 for a single file and for stdout",
        "8",
        "Producers: independent streams, each with its own sequence and file. More than cores is fine.",
    ),
    key(Payload, "payload-size", Kind::SizeRange, "S").says(
        "4096",
        "512-8192",
        "Bytes of a record, header included; or a range, uniform and seeded. 64 (16 with --annotate off) to 256Mi.",
    ),
    key(Payload, "payload-template", Kind::Path, "PATH").says(
        "random bytes",
        "templates/",
        "A file, or a folder replayed in name order, each record at its own length. Excludes --payload-size.",
    ),
    key(Payload, "seed", count(0, u64::MAX), "N").says("0", "42", "The same seed gives the same payload bytes."),
    key(Payload, "compressibility", Kind::Fraction { max: 0.99 }, "F").says(
        "0",
        "0.5",
        "The fraction of the payload that a compressor can remove.",
    ),
    key(Payload, "ring-size", Kind::Size, "S").says(
        "tuned to cache, queue depth and memory",
        "64Mi",
        "Payload prepared before the start, for each producer; then it repeats with new stamps.",
    ),
    key(Payload, "annotate", Kind::Choice(&["payload", "off"]), "HOW").says(
        "payload",
        "off",
        "Run, producer, sequence, time and checksum in the payload (header or template slots), or nowhere.",
    ),
    key(Payload, "sign-key", Kind::Path, "FILE").says(
        "off",
        "key.bin",
        "Signs every record with a key made from this file's bytes.",
    ),
    key(Files, "preallocate", Kind::Size, "S").says(
        "off; on without --target",
        "4Gi",
        "Instead of rotating: one file of S bytes for each producer, overwritten in place.",
    ),
    key(Files, "footprint", Kind::Size, "S").says(
        "smaller of 16Gi and 25% of the free space",
        "8Gi",
        "Like --preallocate, as the total of all producers.",
    ),
    key(Files, "rotate-size-mb", count(1, 1 << 40), "N").says(
        "50",
        "50",
        "Rotates data and audit file before they pass N MiB, at a record boundary.",
    ),
    key(Files, "retain", Kind::CountOr { word: "all", min: 0 }, "all|N").says(
        "all",
        "10",
        "Rotated files kept for each producer; older ones are recycled.",
    ),
    key(Files, "min-free", Kind::SizeOrPercent, "S|P%").says(
        "smaller of 10% and 20GiB",
        "5%",
        "Kept free on every file target; reaching it ends the run in order.",
    ),
    key(Files, "audit-every", count(0, u64::MAX), "N").says(
        "0 (off)",
        "1000",
        "One readable line for every Nth record, in the .log beside the data file.",
    ),
    key(Files, "overwrite", Kind::Switch, "").says(
        "off",
        "on",
        "Allows existing data files of other runs to go. Never a block device.",
    ),
    key(Files, "overwrite-device", Kind::Text, "SERIAL").says(
        "off",
        "S4EVNX0R123456",
        "Allows writing over the idle block device with this serial number.",
    ),
    key(Io, "cores", Kind::CpuList, "LIST").says(
        "what this process may use, but one",
        "0,2,4-7",
        "Processors to pin to, one thread each.",
    ),
    key(Io, "poll", Kind::Choice(&["auto", "busy", "adaptive"]), "HOW").says(
        "auto",
        "adaptive",
        "busy never sleeps; adaptive waits in the kernel when nothing is due; auto: busy where a core is left free.",
    ),
    key(Io, "io", Kind::Choice(&["auto", "uring", "syscall"]), "HOW").says(
        "auto",
        "syscall",
        "How files are written; auto: io_uring where the kernel allows it.",
    ),
    key(Io, "direct", AUTO_ON_OFF, "HOW").says(
        "auto",
        "on",
        "O_DIRECT. auto: on where the file system hands it to the device and blocks are full and aligned.",
    ),
    key(Io, "block-size", Kind::Size, "S").alias(&["bs"]).says(
        "1Mi direct, 256Ki otherwise",
        "1Mi",
        "Records handed to the kernel at once; at least one record. --bs for short.",
    ),
    key(Io, "queue-depth", count(1, limits::QUEUE_DEPTH_MAX as u64), "N").alias(&["iodepth"]).says(
        "32 direct, 8 otherwise",
        "32",
        "Blocks in flight for each producer. --iodepth is the same.",
    ),
    key(Io, "linger", Kind::Duration, "D").says(
        "250us",
        "5ms",
        "A paced producer sends when a block is full or after this long.",
    ),
    key(Io, "fsync", Kind::Choice(&["never", "end", "each"]), "WHEN").says(
        "end",
        "each",
        "When data is made durable: never, at the end of the run, or with each block.",
    ),
    key(Io, "drain-timeout", Kind::Duration, "D").says(
        "10s",
        "30s",
        "How long the end of the run waits for what is in flight.",
    ),
    key(Fleet, "run-id", Kind::Text, "ID").says(
        "random",
        "nightly-7",
        "Names the run in every record: letters, digits, . _ and -, at most 64.",
    ),
    key(Fleet, "shard", Kind::Shard, "I/N").says(
        "0/1",
        "3/8",
        "This is process I of N: its own producer ids and the I-th share of --rate. Needs --parallel.",
    ),
    key(Observe, "metrics-addr", Kind::Address, "[HOST]:PORT").says(
        "off",
        ":9090",
        "Serves /metrics, /health and /ready; without HOST on every interface.",
    ),
    key(Observe, "metrics-hold", Kind::Duration, "D").says(
        "0s",
        "30s",
        "Stays up after the run until one more scrape, at most this long.",
    ),
    key(Observe, "log-format", Kind::Choice(&["text", "json"]), "HOW").says(
        "text on a terminal, else json",
        "json",
        "Form of the logs, which go to standard error.",
    ),
    key(Observe, "stats-interval", Kind::Duration, "D").says(
        "1s",
        "5s",
        "Time between live figures; a multiple of 100ms.",
    ),
    key(Observe, "report", Kind::Path, "FILE|-").says(
        "off",
        "report.json",
        "The result as JSON; - is the last line of standard output.",
    ),
    key(Observe, "slo", Kind::Slo, "EXPR").repeated().says(
        "none",
        "p99<5ms,errors==0",
        "Thresholds; exit 4 if one is missed. p50 p99 p99.9 max rate records_per_second errors not_sent.",
    ),
    key(Run, "config", Kind::Path, "FILE").says(
        "none",
        "run.yaml",
        "JSON or YAML with the same names in underscores, and phases; the environment and flags win.",
    ),
    key(Run, "dry-run", Kind::Switch, "").says("off", "on", "Resolves everything, prints the plan as JSON, starts nothing."),
];

/// `phases:` is no flag: a list of stages, each with the keys marked `phase`.
pub const PHASES_KEY: &str = "phases";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_key_is_described() {
        let mut names: Vec<_> = KEYS.iter().flat_map(Key::names).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for key in KEYS {
            assert!(!key.help.is_empty() && !key.default.is_empty() && !key.example.is_empty(), "{}", key.name);
            assert_eq!(key.value.is_empty(), key.kind == Kind::Switch, "{}", key.name);
        }
    }

    #[test]
    fn all_spellings_find_the_key() {
        for name in ["block-size", "block_size", "bs"] {
            assert_eq!(find(name).unwrap().name, "block-size");
        }
        assert_eq!(find("sink").unwrap().variable(), "ENGINE_TARGET");
        assert!(find("phases").is_none() && find("").is_none());
    }
}
