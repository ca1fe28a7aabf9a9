//! Runs made by hand, for this room's tests.

use crate::base::clock::{Clock, TscClock};
use crate::counters::{CoreEnd, Counts, Field, LaneEnd, LiveCore, LoopTime, Snapshot};
use crate::observe::aggregate::Aggregate;
use crate::observe::assemble::{CpuTimes, Facts, Outcome, assemble};
use crate::observe::report::{Payload, Report};
use crate::observe::shared::Shared;
use crate::plan::testing::{phase_plan, producer_plan, run_plan};
use crate::plan::*;
use std::sync::Arc;
use std::time::Duration;

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;

/// A plan of 10 s with its live cells.
pub struct Run {
    pub shared: Arc<Shared>,
}

impl Run {
    /// So many cores with so many producers each, two targets where there are two producers.
    pub fn new(cores: usize, lanes: usize, rate: Option<u64>) -> Self {
        let plan = plan(cores, lanes, rate);
        let live = plan.cores.iter().map(|core| LiveCore::new(core.producers.iter().map(|&at| at as u32).collect()));
        let live = live.collect();
        Self { shared: Shared::new(Arc::new(plan), live, TscClock::start(|| None), Arc::default()) }
    }

    /// The same cells under a changed plan, nothing folded yet.
    pub fn replan(&mut self, change: impl FnOnce(&mut RunPlan)) {
        let mut plan = RunPlan::clone(&self.shared.plan);
        change(&mut plan);
        let (live, clock, outages) = (self.shared.live.clone(), self.shared.clock.clone(), self.shared.outages.clone());
        self.shared = Shared::new(Arc::new(plan), live, clock, outages);
    }

    /// The same by a clock that began so long ago, so that something can be long past.
    pub fn age(&mut self, ns: u64) {
        let clock = TscClock::of_age(Duration::from_nanos(ns));
        let (plan, live, outages) = (self.shared.plan.clone(), self.shared.live.clone(), self.shared.outages.clone());
        self.shared = Shared::new(plan, live, clock, outages);
    }

    pub fn publish(&self, core: usize, lane: usize, fields: &[(Field, u64)]) {
        self.shared.live[core].lanes[lane].publish(&counts(fields));
    }

    pub fn now_ns(&self) -> u64 {
        self.shared.clock.now_ns()
    }
}

pub fn counts(fields: &[(Field, u64)]) -> Counts {
    let mut counts = Counts::default();
    fields.iter().for_each(|&(field, value)| counts.set(field, value));
    counts
}

fn plan(cores: usize, lanes: usize, rate: Option<u64>) -> RunPlan {
    let total = (cores * lanes) as u64;
    let targets: Vec<_> = ["null", "null2"].iter().take(cores * lanes).map(|name| name.to_string()).collect();
    let schedule = match rate {
        Some(rate) => Schedule::Steady { rate: WireRate { logical_bytes_per_second: rate / total, weight: 1 } },
        None => Schedule::Unlimited,
    };
    let duration_ns = 10 * SECOND;
    let core = |at: usize| CorePlan {
        cpu: at + 4,
        producers: (at * lanes..(at + 1) * lanes).collect(),
        ring_bytes_per_lane: 1 << 20,
    };
    let producer = |at: usize| ProducerPlan {
        core: at / lanes,
        target: at % targets.len(),
        schedule: vec![PhaseShare { duration_ns, warmup: false, weight: 1, schedule }],
        ..producer_plan(at as u32)
    };
    let plan = run_plan();
    RunPlan {
        command: vec!["engine".into(), "--rate".into(), "1MB/s".into()],
        effective_config: serde_json::Map::from_iter([("rate".to_owned(), "1MB/s".into())]),
        cores: (0..cores).map(core).collect(),
        producers: (0..cores * lanes).map(producer).collect(),
        sink: SinkPlan { targets: targets.clone(), ..plan.sink },
        phases: vec![PhasePlan { rate_bytes_per_second: rate, ..phase_plan(duration_ns) }],
        rate_bytes_per_second: rate,
        observe: ObservePlan { audit_every: 1000, ..plan.observe },
        ..plan
    }
}

pub fn payload() -> Payload {
    Payload {
        ring_bytes_per_lane: 1 << 20,
        repeat_period_bytes: 1 << 20,
        compressibility_measured: Some(0.01),
        compression_ratio: None,
        memory: "huge pages".into(),
    }
}

/// A warm-up, two core-seconds of work, failures, records not sent, files, SLOs: a bit of everything.
pub fn full_run() -> Run {
    let mut run = Run::new(1, 2, Some(1_000_000));
    run.replan(|plan| {
        plan.phases.insert(0, PhasePlan { duration_ns: SECOND, warmup: true, ..plan.phases[0].clone() });
        plan.sink.kind = SinkKind::File;
        plan.effective_config.insert("annotate".into(), "payload".into());
        plan.effective_config.insert("preallocate".into(), (16u64 << 20).into());
        plan.observe.report = Some(ReportTarget::File("my report.json".into()));
        let metric = SloMetric::ResponseQuantile(OrderedQuantile(999_900));
        let expression = "p99.99<1ms".to_owned();
        plan.observe.slo.push(Slo { expression, metric, comparison: Comparison::Less, threshold: 0.001 });
        for producer in &mut plan.producers {
            let at = |extension: &str| format!("data/payloads.{}.{extension}", producer.id).into();
            producer.to = TargetPlan::File(FilePlan {
                data: at("bin"),
                manifest: at("json"),
                log: None,
                log_place: at("log"),
                layout: FileLayout::Ring { capacity_bytes: 16 << 20 },
                direct: false,
                align: 1,
                fsync: Fsync::End,
                min_free_bytes: 0,
                run_bytes_max: u64::MAX,
                existing: Existing::Refused { manifest: false },
            });
        }
    });
    let lane = [
        (Field::RecordsOffered, 1000),
        (Field::RecordsSubmitted, 995),
        (Field::RecordsProduced, 990),
        (Field::RecordsFailed, 3),
        (Field::RecordsUncertain, 2),
        (Field::RecordsNotSent, 5),
        (Field::BytesProduced, 99_000),
        (Field::LogicalBytesProduced, 990_000),
        (Field::WireBytes, 100_000),
        (Field::ErrorIo, 3),
        (Field::ErrorTimeout, 2),
    ];
    let mut snapshot = Snapshot::preallocated(0, 2, true);
    snapshot.at_ns = 3 * SECOND;
    snapshot.warm[0] = counts(&[(Field::RecordsOffered, 10), (Field::RecordsProduced, 10)]);
    snapshot.measured[0] = counts(&lane);
    snapshot.measured_latencies.response.record_n(2 * MS, 990);
    snapshot.measured_latencies.service.record_n(MS, 990);
    snapshot.measured_latencies.lateness.record_n(MS / 2, 990);
    snapshot.loop_time = LoopTime {
        work_ns: SECOND,
        kernel_ns: SECOND,
        target_full_ns: SECOND,
        cpu_ns: SECOND,
        gap_max_ns: 40 * MS,
        ..LoopTime::default()
    };
    snapshot.last = true;
    run.shared.with_aggregate(|all| all.fold(&snapshot));
    run
}

pub fn report_of(run: &Run) -> Report {
    let lane = |producer_id, sequences| LaneEnd {
        producer_id,
        sequences,
        retained_first_sequence: Some(20),
        missing: vec![(17, 19), (40, 41)],
        missing_truncated: false,
        first_refused_status: None,
        answers: None,
        refused_by_body: None,
        broker_errors: None,
    };
    let end = CoreEnd {
        lanes: vec![lane(0, Some((10, 1004))), lane(1, None)],
        ended_ns: 3 * SECOND + 500 * MS,
        fsync_ns: 500 * MS,
        ..CoreEnd::default()
    };
    let outcome = Outcome {
        ends: vec![end],
        cpu: CpuTimes { user_ns: 2 * SECOND, system_ns: SECOND },
        ended_early: Some("/data has less than 2 GB free".into()),
        audit_lines_dropped: 4,
        ..Outcome::default()
    };
    run.shared.with_aggregate(|all: &mut Aggregate| {
        all.finish(0);
        assemble(&run.shared.plan, all, Facts { outcome, ..facts() })
    })
}

/// Of a run of which nothing else is known.
pub fn facts() -> Facts {
    Facts {
        started_at_unix_ns: 1_700_000_000_123_456_789,
        host: host(),
        payload: payload(),
        outcome: Outcome::default(),
        connections_down: 0,
    }
}

pub fn report() -> Report {
    report_of(&full_run())
}

/// Of a machine that says nothing.
fn host() -> serde_json::Value {
    let nowhere = crate::host::Sysfs { root: "/no/such/root".into() };
    serde_json::to_value(crate::host::facts(&nowhere, &Default::default())).unwrap()
}
