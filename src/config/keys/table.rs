//! The table itself: one row for each setting, in the order of `--help`.

use super::Group::{Files, Fleet, Http, Io, Kafka, Load, Network, Observe, Payload, Run, Target};
use super::StageNeeds::{Burst, Ramp, Sampled};
use super::{Key, Kind, Needs, key};
use crate::base::limits;

pub const SASL_MECHANISMS: &[&str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];
const AUTO_ON_OFF: Kind = Kind::Choice(&["auto", "on", "off"]);
const RETAIN: Kind = Kind::CountOr { word: "all", min: 0, max: limits::RETAIN_MAX };
const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

pub const KEYS: &[Key] = &[
    key(Target, "target", Kind::Url, "URL").alias(&["sink"]).repeated().says(
        "files in ./engine-data/",
        "file:/mnt/nvme/",
        "Where records go: null, stdout, file:PATH or file:///PATH, tcp://HOST:PORT, http(s)://HOST[:PORT]/PATH, \
         kafka://HOST:PORT[,HOST:PORT]/TOPIC. A file PATH that ends in / or is a folder holds one file for each \
         producer. Repeatable within one scheme; producers are dealt round robin. --sink is the older name.",
    ),
    key(Load, "rate", Kind::RateOrUnlimited, "R").in_phases().says(
        "unlimited; hosts other than this one need it, or --producer-rate",
        "7.5GB/s",
        "Total of all producers together, not of each; shared out exactly. Bytes a second, bits with 'bit', records \
         with 'rec/s'; or unlimited.",
    ),
    key(Load, "ramp-to", Kind::Rate, "R").in_phases().says(
        "no ramp",
        "1GB/s",
        "The rate goes from --rate to this, up or down, in --ramp-steps equal steps over the duration; each step is a \
         stage with results of its own.",
    ),
    key(Load, "ramp-steps", count(2, limits::PHASES_MAX as u64), "N").in_phases().needs_stage(Ramp).says(
        "10",
        "10",
        "Steps of a ramp, a second or more each; the first is at --rate, the last at --ramp-to.",
    ),
    key(Load, "producer-rate", Kind::Rate, "R").says("none", "125kb/s", "Cap of each producer."),
    key(Load, "catch-up", Kind::Duration, "D").says(
        "10s",
        "10s",
        "What fell due during a stall is still sent for this long, and counted; older becomes not sent. What waits for \
         its block to fill (--linger) or in its burst's window is not late.",
    ),
    key(Load, "duration", Kind::DurationOrInf, "D").in_phases().says(
        "10s unless --records, --bytes or phases",
        "30s",
        "Length of the run. Of --duration, --records and --bytes the first reached wins; inf runs until a signal.",
    ),
    key(Load, "records", Kind::CountOr { word: "inf", min: 1, max: u64::MAX - 1 }, "N").says(
        "no limit",
        "1000000",
        "Ends the run after so many records of this process.",
    ),
    key(Load, "bytes", Kind::SizeOrInf, "S").says(
        "no limit",
        "100GB",
        "Ends the run after so many bytes of records sent, not counting weight, framing and heads; rounded up to whole records, where they vary in length by each producer.",
    ),
    key(Load, "warmup", Kind::Duration, "D").says(
        "0s",
        "5s",
        "Before --duration and on top of it; reported apart.",
    ),
    key(Load, "mode", Kind::Choice(&["steady", "burst", "sampled"]), "").in_phases().says(
        "steady",
        "burst",
        "steady; burst: full speed, then silence, a whole cycle averaging --rate; sampled: each record stands for \
         --weight records, and --rate counts what they stand for.",
    ),
    key(Load, "burst-on", Kind::Duration, "D").in_phases().needs_stage(Burst).says("1s", "1s", "Length of a burst."),
    key(Load, "burst-off", Kind::Duration, "D").in_phases().needs_stage(Burst).says(
        "4s",
        "4s",
        "Silence after a burst.",
    ),
    key(Load, "weight", count(1, limits::WEIGHT_MAX), "W").in_phases().needs_stage(Sampled).says(
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
        "Bytes of a record, header included; or a range, uniform and seeded. 64 (16 with --annotate headers or \
         off) to 256Mi.",
    ),
    key(Payload, "payload-template", Kind::Path, "PATH").says(
        "random bytes",
        "templates/",
        "A file, or a folder replayed in name order, each record at its own length. Excludes --payload-size.",
    ),
    key(Payload, "template-lines", Kind::Switch, "").needs(Needs::Template).says(
        "off",
        "on",
        "Each line of the template's files is a record, blank ones left out; 10,000 at most. Kafka gets lines without \
         their ends.",
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
    key(Payload, "annotate", Kind::Choice(&["payload", "headers", "off"]), "").says(
        "payload",
        "off",
        "Run, producer, sequence, time and checksum in the payload (header or template slots); in Kafka record \
         headers or HTTP X- headers, the payload untouched; or nowhere.",
    ),
    key(Payload, "sign-key", Kind::Path, "FILE").says(
        "off",
        "key.bin",
        "Signs every record with a key made from this file's bytes.",
    ),
    key(Files, "preallocate", Kind::Size, "S").needs(Needs::Files).says(
        "off; on without --target",
        "4Gi",
        "Instead of rotating: one file of S bytes for each producer, overwritten in place.",
    ),
    key(Files, "footprint", Kind::Size, "S").needs(Needs::Files).says(
        "smaller of 16Gi and 25% of the free space",
        "8Gi",
        "Like --preallocate, as the total of all producers.",
    ),
    key(Files, "rotate-size-mb", count(1, 1 << 40), "N").needs(Needs::Files).says(
        "50",
        "50",
        "Rotates data and audit file before they pass N MiB, at a record boundary.",
    ),
    key(Files, "retain", RETAIN, "all|N").needs(Needs::Files).says(
        "all",
        "10",
        "Rotated files kept for each producer, N at most 65,536; older ones are recycled.",
    ),
    key(Files, "min-free", Kind::SizeOrPercent, "S|P%").needs(Needs::Files).says(
        "smaller of 10% and 20GiB",
        "5%",
        "Kept free on every file target; reaching it ends the run in order.",
    ),
    key(Files, "audit-every", count(0, u64::MAX), "N").needs(Needs::FileTarget).says(
        "0 (off)",
        "1000",
        "One readable line for every Nth record, in the .log beside the data file.",
    ),
    key(Files, "overwrite", Kind::Switch, "").says(
        "off",
        "on",
        "Allows existing data files of other runs to go. Never a block device.",
    ),
    key(Files, "overwrite-device", Kind::Text, "SERIAL").repeated().needs(Needs::FileTarget).says(
        "off",
        "S4EVNX0R123456",
        "Allows writing over the idle block device with this serial number, from its start to its end and round again: \
         no other flag sets sizes there. Repeatable, one for each drive.",
    ),
    key(Network, "connections", count(1, limits::CONNECTIONS_MAX as u64), "N").says(
        "1",
        "8",
        "Connections of each producer. Kafka has one for each partition, whatever N: more --partitions make more.",
    ),
    key(Network, "retry", Kind::Retry, "POLICY").needs(Needs::Answers).says(
        "3 for HTTP, until the delivery timeout for Kafka",
        "5,50ms-5s",
        "Attempts beyond the first for what the target refused for now or could not answer: off, N, or N with the \
         least and the most pause between them, which doubles and is jittered. Retries are byte-identical.",
    ),
    key(Network, "request-timeout", Kind::Duration, "D").says(
        "30s",
        "5s",
        "How long an answer may take once the peer's TCP acknowledges no more of the request; on TCP, how long it may \
         acknowledge nothing. Time in which this process did not run counts for nobody. With rskafka it is \
         all of a call, by the clock. What is unanswered by then is uncertain.",
    ),
    key(Network, "tcp-framing", Kind::Choice(&["none", "length"]), "").needs(Needs::Tcp).says(
        "none",
        "length",
        "On TCP: records one behind the other, or each behind its length (four bytes, big-endian).",
    ),
    key(Network, "tls-ca", Kind::Path, "FILE").needs(Needs::Tls).says(
        "the system's authorities",
        "ca.pem",
        "PEM file of the only authorities to trust, for https and for Kafka with TLS, where it also turns TLS on.",
    ),
    key(Network, "tls-cert", Kind::Path, "FILE").needs(Needs::Tls).says(
        "none",
        "client.pem",
        "PEM file of the client's certificate chain; needs --tls-key.",
    ),
    key(Network, "tls-key", Kind::Path, "FILE").needs(Needs::Tls).says(
        "none",
        "client.key",
        "PEM file of the client's private key.",
    ),
    key(Http, "http-method", Kind::Choice(&["POST", "PUT"]), "").says(
        "POST",
        "PUT",
        "Method of the requests. All go to the URL of --target, so that a store keeps what the last PUT brought.",
    ),
    key(Http, "http-header", Kind::Header, "K:V").repeated().says(
        "Content-Type by the payload",
        "X-Api-Version: 2",
        "Sent with each request; its value is never shown. Repeatable. Credentials have --bearer-token-file, or stand in \
         the variable or --config.",
    ),
    key(Http, "bearer-token-file", Kind::Path, "FILE").says(
        "none",
        "token.txt",
        "Its content is sent as Authorization: Bearer. The file is looked at every second, and a new \
         token is sent from then on.",
    ),
    key(Http, "http-records-per-request", count(1, limits::HTTP_RECORDS_PER_REQUEST_MAX), "N").says(
        "1",
        "100",
        "Most records in the body of one request, one behind the other; at a rate it goes after --linger, too.",
    ),
    key(Http, "http-pipeline", count(1, limits::HTTP_PIPELINE_MAX as u64), "N").says(
        "1",
        "8",
        "Requests that may be unanswered on one connection; more than 1 only where the server is known to take it.",
    ),
    key(Http, "http-refused-by", Kind::Text, "TEXT").says(
        "none",
        "\"errors\":true",
        "A 2xx with this text in its body is a refusal: the records of its request are uncertain, and it is not tried \
         again.",
    ),
    key(Kafka, "kafka-config", Kind::Path, "FILE").says(
        "none",
        "client.properties",
        "A client.properties as Kafka's own tools read it; flags win. What the engine cannot do of it is an error.",
    ),
    key(Kafka, "kafka-property", Kind::Property, "K=V").repeated().says(
        "none",
        "security.protocol=SSL",
        "One line of it; wins over the file. Repeatable. No password in a flag, which the process list shows; the \
         variable and --config may have one.",
    ),
    key(Kafka, "acks", Kind::Choice(&["0", "1", "all"]), "").says(
        "all",
        "1",
        "Who confirms a batch: nobody, the leader, or all replicas in sync.",
    ),
    key(Kafka, "idempotent", Kind::Choice(&["on", "off"]), "").says(
        "on with --acks all",
        "off",
        "The broker drops what a retry doubles, and keeps the order. Needs --acks all. Off: what is sent again may land \
         behind later batches, which verify calls reordered.",
    ),
    key(Kafka, "compression", Kind::Choice(&["none", "gzip", "snappy", "lz4", "zstd"]), "").says(
        "none",
        "lz4",
        "Codec of batches; the measured ratio is reported.",
    ),
    key(Kafka, "batch-size", Kind::Size, "S").says(
        "1000000",
        "256Ki",
        "Bytes of a full batch before compression; at least one record. The topic's max.message.bytes bounds it.",
    ),
    key(Kafka, "key", Kind::RecordKey, "HOW").says(
        "none",
        "cycle:1000",
        "Key of records: none, the producer's id, or cycle:N for the sequence modulo N. It does not choose the partition.",
    ),
    key(Kafka, "partitions", count(1, limits::KAFKA_PARTITIONS_MAX), "N").says(
        "as many as producers",
        "12",
        "Partitions of a topic that the run makes; of one that is there, how many are used.",
    ),
    key(Kafka, "create-topic", Kind::Choice(&["on", "off"]), "").says(
        "on for loopback, off elsewhere",
        "on",
        "Makes the topic where it is missing.",
    ),
    key(Kafka, "kafka-client", Kind::Choice(&["uring", "rskafka"]), "").says(
        "uring",
        "rskafka",
        "The engine's own client, or rskafka as an independent check; rskafka takes --acks all --idempotent off, retries by time alone, and counts wire bytes before compression and TLS.",
    ),
    key(Kafka, "sasl-mechanism", Kind::Choice(SASL_MECHANISMS), "").says(
        "none",
        "SCRAM-SHA-512",
        "How to authenticate to the brokers.",
    ),
    key(Kafka, "sasl-user", Kind::Text, "NAME").says("none", "ingest", "User name of PLAIN and SCRAM."),
    key(Kafka, "sasl-password-file", Kind::Path, "FILE").says(
        "none",
        "password.txt",
        "File with the password, or with the token of OAUTHBEARER.",
    ),
    key(Io, "cores", Kind::CpuList, "LIST").says(
        "what this process may use, but one",
        "0,2,4-7",
        "Processors to pin to, one thread each.",
    ),
    key(Io, "poll", Kind::Choice(&["auto", "busy", "adaptive"]), "").says(
        "auto",
        "adaptive",
        "busy never sleeps; adaptive waits in the kernel when nothing is due; auto: busy where a core is left free.",
    ),
    key(Io, "io", Kind::Choice(&["auto", "uring", "syscall"]), "").needs(Needs::Ring).says(
        "auto",
        "syscall",
        "How files are written and sockets served; auto: io_uring where the kernel allows it, but system calls on tmpfs, \
         and where a core polls busily and writes through the page cache, which io_uring would hand to a second thread on \
         that core.",
    ),
    key(Io, "zero-copy", Kind::Choice(&["auto", "off"]), "").says(
        "auto",
        "off",
        "auto: sockets read the ring in place where that saves the copy, and an HTTP server or a Kafka broker on this host \
         where it costs the core less than copying; what a core with such a broker sends to others is copied. off: always \
         copied.",
    ),
    key(Io, "direct", AUTO_ON_OFF, "").says(
        "auto",
        "on",
        "O_DIRECT. auto: on where the file system hands it to the device and blocks are full and aligned.",
    ),
    key(Io, "block-size", Kind::Size, "S").alias(&["bs"]).needs(Needs::Blocks).says(
        "1Mi direct and TCP (512Ki within one host), 256Ki otherwise; one request or batch",
        "1Mi",
        "Records that are sent and confirmed as one; at least one record. Where --io is syscall, neighbouring blocks for \
         the page cache or tmpfs go to the kernel in one call of up to 16 MiB. --bs for short.",
    ),
    key(Io, "queue-depth", count(1, limits::QUEUE_DEPTH_MAX as u64), "N").alias(&["iodepth"]).says(
        "32 direct, 8 buffered; on each connection 4 (TCP), 5 (Kafka)",
        "32",
        "Blocks in flight for each producer; for Kafka, requests on each connection, of which more than 5 (64 with \
         --idempotent off) are cut. HTTP has --http-pipeline instead. --iodepth is the same.",
    ),
    key(Io, "linger", Kind::Duration, "D").says(
        "250us; 5ms for Kafka",
        "5ms",
        "A paced producer sends when a block or batch is full or after this long.",
    ),
    key(Io, "fsync", Kind::Choice(&["never", "end", "each"]), "").needs(Needs::FileTarget).says(
        "end",
        "each",
        "When data is made durable: never, at the end of the run, or with each block.",
    ),
    key(Io, "drain-timeout", Kind::Duration, "D").says(
        "10s",
        "30s",
        "How long the end of the run waits for what is in flight, not counting time in which this process did not \
         run, but for files written by system calls.",
    ),
    key(Fleet, "run-id", Kind::Text, "ID").says(
        "random",
        "nightly-7",
        "Names the run in every record: letters, digits, . _ and -, at most 64.",
    ),
    key(Fleet, "shard", Kind::Shard, "I/N").says(
        "0/1",
        "3/8",
        "This is process I of N: its own producer ids and the I-th share of --rate. Needs --parallel and --run-id.",
    ),
    key(Fleet, "start-at", Kind::Timestamp, "TIME").says(
        "as soon as it is ready",
        "2030-01-01T12:00:00Z",
        "When the run starts, at most 24 hours ahead: with an offset or Z, or Unix seconds. So the processes of a fleet \
         start together, as far as their clocks agree. One that is not ready in time, or is started up to ten minutes \
         after it, says so and starts at once.",
    ),
    key(Observe, "metrics-addr", Kind::Address, "[HOST]:PORT").says(
        "off",
        ":9090",
        "Serves /metrics, /health and /ready; without HOST on every interface.",
    ),
    key(Observe, "metrics-hold", Kind::Duration, "D").needs(Needs::MetricsAddr).says(
        "0s",
        "30s",
        "Stays up after the run until one more scrape, at most this long.",
    ),
    key(Observe, "log-format", Kind::Choice(&["text", "json"]), "").says(
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
        "The result as JSON; - is the last line of standard output, with at most the last ten minutes second by second \
         unless that is a file.",
    ),
    key(Observe, "html", Kind::Path, "FILE").says(
        "off",
        "report.html",
        "The result as one HTML page with its charts; engine report makes the same page of a report.",
    ),
    key(Observe, "slo", Kind::Slo, "EXPR").repeated().says(
        "none",
        "p99<5ms,errors==0",
        "Thresholds; exit 4 if one is missed. p50 p99 p99.9 max rate records_per_second errors not_sent. Rates are the \
         fleet's: a shard is held to its part.",
    ),
    key(Observe, "governance-url", Kind::Url, "URL").says(
        "off",
        "http://localhost:8081",
        "Posts the metadata of records and the run's start and end to this governance API (http or https).",
    ),
    key(Observe, "governance-every", count(1, 1 << 40), "N").needs(Needs::GovernanceUrl).says(
        "1000",
        "1000",
        "The metadata of every Nth record of each producer is posted.",
    ),
    key(Observe, "governance-spec", Kind::Path, "FILE").needs(Needs::GovernanceUrl).says(
        "the contract built in",
        "governance.yaml",
        "An OpenAPI 3 contract to follow instead of schemas/openapi/governance.yaml; refused where it does not fit.",
    ),
    key(Observe, "governance-token-file", Kind::Path, "FILE").needs(Needs::GovernanceUrl).says(
        "none",
        "token.txt",
        "The bearer token of the governance API. The file is looked at every second, and a new token is sent from then \
         on.",
    ),
    key(Run, "config", Kind::Path, "FILE").says(
        "none",
        "run.yaml",
        "JSON or YAML with the same names in underscores, and phases; the environment and flags win.",
    ),
    key(Run, "dry-run", Kind::Switch, "").says("off", "on", "Resolves everything, prints the plan as JSON, starts nothing."),
];
