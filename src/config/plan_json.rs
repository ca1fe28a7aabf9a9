//! A plan as JSON, for `--dry-run`.

use crate::host::cpu;
use crate::plan::{
    Annotate, Confirmation, CorePlan, Existing, FileLayout, FilePlan, Fsync, Io, KafkaClient, KafkaPlan, KeyPlan,
    LinkPlan, LogFormat, ObservePlan, PayloadPlan, PayloadSource, PhaseShare, Poll, ProducerPlan, ReportTarget,
    RetryPlan, RunPlan, Schedule, SinkKind, TargetPlan, TcpFraming, TlsPlan, WireRate,
};
use serde_json::{Value, json};

/// Everything resolved. `null` is "none" or "no limit". The sign key is never shown.
pub fn plan_to_json(plan: &RunPlan) -> Value {
    json!({
        "run_id": plan.run_id,
        "run_id_hash": format!("{:016x}", plan.run_id_hash),
        "command": plan.command,
        "notes": plan.notes,
        "cores": plan.cores.iter().map(|core| json!({
            "cpu": core.cpu,
            "producers": core.producers.iter().map(|k| plan.producers[*k].id).collect::<Vec<_>>(),
            "ring_bytes_per_lane": core.ring_bytes_per_lane,
        })).collect::<Vec<_>>(),
        "ring_bytes_total": plan.cores.iter().map(CorePlan::ring_bytes).fold(0, u64::saturating_add),
        "free_cpus": cpu::format_list(&plan.free_cpus),
        "poll": if plan.poll == Poll::Busy { "busy" } else { "adaptive" },
        "io": io_name(plan.io),
        "zero_copy": plan.zero_copy,
        "sink": {
            "kind": match plan.sink.kind {
                SinkKind::Null => "null",
                SinkKind::Stdout => "stdout",
                SinkKind::File => "file",
                SinkKind::Tcp => "tcp",
                SinkKind::Http => "http",
                SinkKind::Kafka => "kafka",
            },
            "targets": plan.sink.targets,
            "block_bytes": plan.sink.block_bytes,
            "queue_depth": plan.sink.queue_depth,
            "linger_ns": plan.sink.linger_ns,
            "confirmation": if plan.sink.confirmation == Confirmation::Target { "target" } else { "kernel" },
        },
        "payload": payload(&plan.payload),
        "rate_bytes_per_second": plan.rate_bytes_per_second,
        "phases": plan.phases.iter().map(|phase| json!({
            "duration_ns": limit(phase.duration_ns),
            "warmup": phase.warmup,
            "sampled": phase.sampled,
            "weight": phase.weight,
            "rate_bytes_per_second": phase.rate_bytes_per_second,
        })).collect::<Vec<_>>(),
        "catch_up_ns": plan.catch_up_ns,
        "drain_timeout_ns": plan.drain_timeout_ns,
        "start_at_unix_ns": plan.start_at_unix_ns,
        "producers": plan.producers.iter().map(|producer| self::producer(plan, producer)).collect::<Vec<_>>(),
        "observe": observe(&plan.observe),
        "config": plan.effective_config,
    })
}

pub fn io_name(io: Io) -> &'static str {
    match io {
        Io::Uring => "uring",
        Io::Syscall => "syscall",
    }
}

pub fn fsync_name(fsync: Fsync) -> &'static str {
    match fsync {
        Fsync::Never => "never",
        Fsync::End => "end",
        Fsync::Each => "each",
    }
}

fn limit(value: u64) -> Option<u64> {
    (value != u64::MAX).then_some(value)
}

fn payload(payload: &PayloadPlan) -> Value {
    let source = match &payload.source {
        PayloadSource::Random { compressibility } => json!({
            "kind": "random", "bytes_min": payload.record_bytes_min, "bytes_max": payload.record_bytes_max,
            "compressibility": compressibility,
        }),
        PayloadSource::Templates(files) => json!({
            "kind": "templates",
            "files": files.iter().map(|f| json!({"name": f.name, "bytes": f.bytes.len()})).collect::<Vec<_>>(),
        }),
    };
    json!({
        "source": source,
        "seed": payload.seed,
        "annotate": match payload.annotate {
            Annotate::Payload => "payload",
            Annotate::Headers => "headers",
            Annotate::Off => "off",
        },
        "signed": payload.sign_key.is_some(),
    })
}

fn producer(plan: &RunPlan, producer: &ProducerPlan) -> Value {
    json!({
        "id": producer.id,
        "cpu": plan.cores[producer.core].cpu,
        "target": plan.sink.targets[producer.target],
        "schedule": producer.schedule.iter().map(share).collect::<Vec<_>>(),
        "stagger_ns": producer.stagger_ns,
        "records_max": limit(producer.records_max),
        "bytes_max": limit(producer.bytes_max),
        "file": producer.file().map(file),
        "link": producer.to.link().map(link),
        "to": remote(&producer.to),
    })
}

fn link(link: &LinkPlan) -> Value {
    let retry = &link.retry;
    json!({
        "host": link.peer.host,
        "port": link.peer.port,
        "tls": link.peer.tls.as_ref().map(tls),
        "connect_timeout_ns": link.peer.connect_timeout_ns,
        "connections": link.connections,
        "request_timeout_ns": link.request_timeout_ns,
        "retry": {
            "retries_max": retries_max(retry),
            "backoff_min_ns": retry.backoff_min_ns,
            "backoff_max_ns": retry.backoff_max_ns,
        },
    })
}

/// `None`: until time is up.
pub fn retries_max(retry: &RetryPlan) -> Option<u32> {
    (retry.retries_max != u32::MAX).then_some(retry.retries_max)
}

fn tls(tls: &TlsPlan) -> Value {
    json!({
        "server_name": tls.server_name,
        "ca": tls.ca,
        "cert": tls.cert,
        "key": tls.key,
        "verify_host": tls.verify_host,
    })
}

/// What is special to a network target, without anything that may be a credential.
fn remote(to: &TargetPlan) -> Value {
    match to {
        TargetPlan::Null | TargetPlan::Stdout | TargetPlan::File(_) => Value::Null,
        TargetPlan::Tcp(tcp) => {
            json!({"kind": "tcp", "framing": if tcp.framing == TcpFraming::None { "none" } else { "length" }})
        }
        TargetPlan::Http(http) => json!({
            "kind": "http",
            "method": http.method.name(),
            "path": http.path.split('?').next(),
            "host_header": http.host_header,
            "headers": http.header_names(),
            "records_per_request": http.records_per_request,
            "pipeline": http.pipeline,
            "refused_by": http.refused_by,
        }),
        TargetPlan::Kafka(kafka) => {
            let bootstrap: Vec<_> = kafka.bootstrap.iter().map(|(host, port)| json!([host, port])).collect();
            json!({
                "kind": "kafka",
                "bootstrap": bootstrap,
                "topic": kafka.topic,
                "client_id": kafka.client_id,
                "in_flight_max": kafka.in_flight_max,
                "delivery_timeout_ns": kafka.delivery_timeout_ns,
                "linger_ns": kafka.linger_ns,
                "settings": kafka_settings(kafka),
            })
        }
    }
}

/// Kafka's settings by the names of their flags.
pub fn kafka_settings(kafka: &KafkaPlan) -> Value {
    let key = match kafka.key {
        KeyPlan::None => "none".to_owned(),
        KeyPlan::Producer => "producer".to_owned(),
        KeyPlan::Cycle(count) => format!("cycle:{count}"),
    };
    let on_off = |on: bool| if on { "on" } else { "off" };
    json!({
        "acks": if kafka.acks == -1 { "all".to_owned() } else { kafka.acks.to_string() },
        "idempotent": on_off(kafka.idempotent),
        "compression": kafka.codec.name(),
        "batch-size": kafka.batch_bytes,
        "key": key,
        "partitions": kafka.partitions,
        "create-topic": on_off(kafka.create_topic),
        "kafka-client": if kafka.client == KafkaClient::Uring { "uring" } else { "rskafka" },
        "sasl-mechanism": kafka.sasl.as_ref().map(|sasl| sasl.mechanism.name()),
        "sasl-user": kafka.sasl.as_ref().map(|sasl| sasl.user.clone()),
    })
}

fn share(share: &PhaseShare) -> Value {
    let rate =
        |rate: WireRate| json!({"logical_bytes_per_second": rate.logical_bytes_per_second, "weight": rate.weight});
    let schedule = match share.schedule {
        Schedule::Unlimited => json!({"kind": "unlimited"}),
        Schedule::Steady { rate: r } => json!({"kind": "steady", "rate": rate(r)}),
        Schedule::Burst { on_ns, off_ns, rate: r } => {
            json!({"kind": "burst", "on_ns": on_ns, "off_ns": off_ns, "rate": r.map(rate)})
        }
    };
    json!({"duration_ns": limit(share.duration_ns), "warmup": share.warmup, "weight": share.weight, "schedule": schedule})
}

fn file(file: &FilePlan) -> Value {
    let layout = match file.layout {
        FileLayout::Rotating { limit_bytes, retain } => {
            json!({"kind": "rotating", "limit_bytes": limit_bytes, "retain": retain})
        }
        FileLayout::Ring { capacity_bytes } => json!({"kind": "ring", "capacity_bytes": capacity_bytes}),
        FileLayout::Device { capacity_bytes } => json!({"kind": "device", "capacity_bytes": limit(capacity_bytes)}),
    };
    json!({
        "data": file.data,
        "manifest": file.manifest,
        "log": file.log,
        "layout": layout,
        "direct": file.direct,
        "align": file.align,
        "fsync": fsync_name(file.fsync),
        "min_free_bytes": file.min_free_bytes,
        "overwrite": !matches!(file.existing, Existing::Refused { .. }),
    })
}

fn observe(observe: &ObservePlan) -> Value {
    json!({
        "metrics_addr": observe.metrics_addr.map(|address| address.to_string()),
        "metrics_hold_ns": observe.metrics_hold_ns,
        "log_format": if observe.log_format == LogFormat::Text { "text" } else { "json" },
        "stats_interval_ns": observe.stats_interval_ns,
        "report": match &observe.report {
            None => Value::Null,
            Some(ReportTarget::Stdout) => json!("-"),
            Some(ReportTarget::File(path)) => json!(path),
        },
        "html": &observe.html,
        "audit_every": observe.audit_every,
        "governance": observe.governance.as_ref().map(|governance| json!({
            "url": governance.url,
            "every": governance.every,
            "spec": governance.spec.as_ref().map(|spec| spec.name.as_str()),
            "token": governance.bearer.is_some(),
        })),
        "slo": observe.slo.iter().map(|slo| slo.expression.clone()).collect::<Vec<_>>(),
    })
}
