//! A plan made by hand, for this room's tests.

use crate::plan::testing::{phase_plan, producer_plan, run_plan};
use crate::plan::*;

/// Two producers, one on a target that has an `@` in its path.
pub fn plan() -> RunPlan {
    let producer = |id: u32| ProducerPlan { target: id as usize % 2, ..producer_plan(id) };
    let phase = |weight| PhasePlan { sampled: weight > 1, weight, ..phase_plan(1) };
    let plan = run_plan();
    RunPlan {
        run_id: "nightly-7".into(),
        cores: vec![CorePlan { cpu: 0, producers: vec![0, 1], ring_bytes_per_lane: 1 << 20 }],
        producers: vec![producer(4), producer(5)],
        fleet_producers: 2,
        sink: SinkPlan { targets: vec!["null".into(), "file:///mnt/a@b/".into()], ..plan.sink },
        payload: PayloadPlan { record_bytes_min: 64, record_bytes_max: 256 << 20, ..plan.payload },
        phases: vec![phase(1), phase(1_000_000)],
        observe: ObservePlan { governance: Some(governance(None)), ..plan.observe },
        ..plan
    }
}

pub fn governance(spec: Option<&str>) -> GovernancePlan {
    let spec = spec.map(|text| SpecFile { name: "other.yaml".into(), text: text.into() });
    GovernancePlan { url: "http://127.0.0.1:1".into(), every: 1000, spec, bearer: None }
}
