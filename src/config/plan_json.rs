//! A plan as JSON, for `--dry-run`.

use crate::host::cpu;
use crate::plan::{
    Annotate, Confirmation, FileLayout, FilePlan, Fsync, Io, LogFormat, ObservePlan, PayloadPlan, PayloadSource,
    PhaseShare, Poll, ProducerPlan, ReportTarget, RunPlan, Schedule, SinkKind, WireRate,
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
        "ring_bytes_total": plan.cores.iter()
            .map(|core| core.ring_bytes_per_lane.saturating_mul(core.producers.len() as u64))
            .fold(0u64, u64::saturating_add),
        "free_cpus": cpu::format_list(&plan.free_cpus),
        "poll": if plan.poll == Poll::Busy { "busy" } else { "adaptive" },
        "io": io_name(plan.io),
        "sink": {
            "kind": match plan.sink.kind {
                SinkKind::Null => "null",
                SinkKind::Stdout => "stdout",
                SinkKind::File => "file",
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
            "weight": phase.weight,
            "rate_bytes_per_second": phase.rate_bytes_per_second,
        })).collect::<Vec<_>>(),
        "catch_up_ns": plan.catch_up_ns,
        "drain_timeout_ns": plan.drain_timeout_ns,
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

fn limit(value: u64) -> Option<u64> {
    (value != u64::MAX).then_some(value)
}

fn payload(payload: &PayloadPlan) -> Value {
    let source = match &payload.source {
        PayloadSource::Random { bytes_min, bytes_max, compressibility } => json!({
            "kind": "random", "bytes_min": bytes_min, "bytes_max": bytes_max, "compressibility": compressibility,
        }),
        PayloadSource::Templates(files) => json!({
            "kind": "templates",
            "files": files.iter().map(|f| json!({"name": f.name, "bytes": f.bytes.len()})).collect::<Vec<_>>(),
        }),
    };
    json!({
        "source": source,
        "seed": payload.seed,
        "annotate": if payload.annotate == Annotate::Payload { "payload" } else { "off" },
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
        "file": producer.file.as_ref().map(file),
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
        "fsync": match file.fsync { Fsync::Never => "never", Fsync::End => "end", Fsync::Each => "each" },
        "min_free_bytes": file.min_free_bytes,
        "overwrite": file.overwrite,
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
        "audit_every": observe.audit_every,
        "slo": observe.slo.iter().map(|slo| slo.expression.clone()).collect::<Vec<_>>(),
    })
}
