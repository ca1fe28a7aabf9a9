//! A plan made by hand, for this room's tests.

use crate::plan::*;

/// Two producers, one on a target that has an `@` in its path.
pub fn plan() -> RunPlan {
    let producer = |id: u32| ProducerPlan {
        id,
        core: 0,
        target: id as usize % 2,
        schedule: vec![],
        stagger_ns: 0,
        records_max: u64::MAX,
        bytes_max: u64::MAX,
        to: TargetPlan::Null,
    };
    let phase =
        |weight| PhasePlan { duration_ns: 1, warmup: false, sampled: weight > 1, weight, rate_bytes_per_second: None };
    RunPlan {
        payload_bytes_max: None,
        run_id: "nightly-7".into(),
        run_id_hash: 1,
        command: vec![],
        effective_config: serde_json::Map::new(),
        cores: vec![CorePlan { cpu: 0, producers: vec![0, 1], ring_bytes_per_lane: 1 << 20 }],
        producers: vec![producer(4), producer(5)],
        free_cpus: vec![],
        fleet_producers: 2,
        sink: SinkPlan {
            kind: SinkKind::Null,
            targets: vec!["null".into(), "file:///mnt/a@b/".into()],
            block_bytes: 1 << 20,
            queue_depth: 8,
            linger_ns: 0,
            confirmation: Confirmation::Target,
        },
        payload: PayloadPlan {
            source: PayloadSource::Random { compressibility: 0.0 },
            record_bytes_min: 64,
            record_bytes_max: 256 << 20,
            headed: true,
            seed: 0,
            annotate: Annotate::Payload,
            sign_key: None,
        },
        phases: vec![phase(1), phase(1_000_000)],
        rate_bytes_per_second: None,
        catch_up_ns: 0,
        drain_timeout_ns: 10_000_000_000,
        start_at_unix_ns: None,
        poll: Poll::Busy,
        io: Io::Syscall,
        unregistered: Unregistered::Told,
        zero_copy: true,
        observe: ObservePlan {
            metrics_addr: None,
            metrics_hold_ns: 0,
            log_format: LogFormat::Json,
            stats_interval_ns: 1_000_000_000,
            report: None,
            html: None,
            audit_every: 0,
            governance: Some(governance(None)),
            slo: vec![],
        },
        notes: vec![],
    }
}

pub fn governance(spec: Option<&str>) -> GovernancePlan {
    let spec = spec.map(|text| SpecFile { name: "other.yaml".into(), text: text.into() });
    GovernancePlan { url: "http://127.0.0.1:1".into(), every: 1000, spec, token: None }
}
