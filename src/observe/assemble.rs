//! Puts the report together from the folded snapshots and the cores' own words.

mod outcome;

pub use outcome::{CpuTimes, Outcome};

use crate::base::fatal::Exit;
use crate::counters::{CoreEnd, Counts, ERROR_KINDS, Field, LaneEnd, Latencies, LoopTime};
use crate::observe::aggregate::Aggregate;
use crate::observe::quantile::{distribution, latency, response_quantile_ns, seconds, unconfirmed};
use crate::observe::report::{
    Confirmation, Cpu, Pacing, Payload, Producer, Report, SCHEMA_VERSION, Throughput, Totals, Warmup,
};
use crate::observe::verdict::Case;
use crate::observe::{slo, verdict};
use crate::plan::{self, Compression, Fsync, KafkaClient, OrderedQuantile, RunPlan, TargetPlan};
use crate::wire::kafka::errors::broker_error;
use outcome::Times;
use std::collections::{BTreeMap, BTreeSet};

/// Less processor time, or fewer bytes, tell nothing of what a byte costs.
const CPU_SECONDS_MIN: f64 = 0.010;
const CPU_BYTES_MIN: u64 = 1_000_000;

/// What the snapshots do not say.
pub struct Facts {
    pub started_at_unix_ns: u64,
    pub host: serde_json::Value,
    pub payload: Payload,
    pub outcome: Outcome,
    /// Connections that were lost and not there again at the end.
    pub connections_down: usize,
}

/// The report. `aggregate` is finished.
pub fn assemble(plan: &RunPlan, aggregate: &Aggregate, facts: Facts) -> Report {
    let (warm, measured) = (aggregate.warm_total(), aggregate.measured_total());
    let outcome = facts.outcome;
    let times = Times::of(&outcome, plan.warmup_ns(), aggregate.latest_ns());
    let (paced_ns, elapsed_seconds) = (times.paced_ns, times.elapsed_seconds);
    let totals = measured_totals(plan, &measured, &outcome);
    let (errors, latencies) = (errors(&measured), &aggregate.measured_latencies);
    let latency_seconds = latency(latencies, &measured);
    let throughput = Throughput::of(&totals, elapsed_seconds);
    let pacing = pacing(plan, aggregate, paced_ns, latencies);
    let loop_time = loop_time(aggregate, &outcome, pacing.target_bytes_per_second.is_some());
    let quantile = |OrderedQuantile(at)| {
        let lost = unconfirmed(&measured);
        response_quantile_ns(&latencies.response, totals.records_produced, lost, at).map(seconds)
    };
    let slo = slo::evaluate(&plan.observe.slo, &totals, &throughput, quantile);
    let ended_by_signal = ended_by_signal(&outcome);
    let exit = exit([&warm, &measured], outcome.ended_early.is_some(), slo.iter().any(|slo| !slo.passed));
    let mut verdict = verdict::judge(&Case {
        time: &loop_time,
        pacing: &pacing,
        throughput: &throughput,
        service: &latency_seconds.service,
        totals: &totals,
        elapsed_seconds,
        records_submitted: warm.get(Field::RecordsSubmitted) + measured.get(Field::RecordsSubmitted),
        records_refused: verdict::records_refused(&errors),
        statuses: statuses(&outcome.ends),
        connections_down: facts.connections_down,
        closed: outcome.ends.iter().any(|end| end.closed),
        signal: ended_by_signal.as_deref(),
        in_flight: verdict::in_flight(plan),
        syncs_page_cache: syncs_page_cache(plan),
    });
    verdict.notes.extend(outcome.clock_drift.clone());
    let produced_bytes = warm.get(Field::BytesProduced) + measured.get(Field::BytesProduced);
    Report {
        schema_version: SCHEMA_VERSION,
        run_id: plan.run_id.clone(),
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        command: plan.command.clone(),
        started_at: timestamp(facts.started_at_unix_ns),
        elapsed_seconds,
        final_fsync_seconds: seconds(outcome.final_fsync_ns()),
        confirmation: confirmation(plan),
        config: plan.effective_config.clone(),
        host: facts.host,
        payload: Payload { compression_ratio: compression_ratio(plan, &totals), ..facts.payload },
        warmup: warmup(plan, aggregate, &warm, times.warmed_ns, &outcome.ends),
        latency_seconds,
        cpu: cpu(outcome.cpu, produced_bytes, polling_ns(aggregate, &outcome.ends)),
        producers: producers(plan, aggregate, &outcome.ends),
        intervals: aggregate.intervals.iter().filter(|_| times.has_measured_part).cloned().collect(),
        intervals_dropped: aggregate.intervals_dropped,
        phases: aggregate.phases.report(paced_ns, outcome.drained_ns()),
        errors,
        verdict,
        totals,
        throughput,
        pacing,
        slo,
        governance: outcome.governance,
        ended_early: outcome.ended_early,
        ended_by_signal,
        exit_code: exit as u8,
    }
}

fn exit(parts: [&Counts; 2], ended_early: bool, slo_missed: bool) -> Exit {
    let is_lossy = |part: &&Counts| part.get(Field::RecordsFailed) + part.get(Field::RecordsUncertain) > 0;
    match () {
        () if parts.iter().any(is_lossy) || ended_early => Exit::Failed,
        () if slo_missed => Exit::SloMissed,
        () => Exit::Done,
    }
}

/// The user's signal, unless something else had ended the run.
fn ended_by_signal(outcome: &Outcome) -> Option<String> {
    let closed = outcome.ends.iter().any(|end| end.closed);
    // It may also come when all has been offered.
    let stopped = outcome.ends.iter().any(|end| end.stopped);
    outcome.signal.clone().filter(|_| stopped && !closed && outcome.ended_early.is_none())
}

fn statuses(ends: &[CoreEnd]) -> BTreeSet<u16> {
    let lanes = ends.iter().flat_map(|end| &end.lanes);
    let of = |lane: &LaneEnd| {
        let measured = lane.answers.as_ref().map(|answers| &answers.measured);
        verdict::refused_with(lane.first_refused_status, measured)
    };
    lanes.flat_map(of).collect()
}

/// The sentences that say where the books do not balance: a fault of the engine, none of the target's.
pub fn imbalances(plan: &RunPlan, aggregate: &Aggregate) -> Vec<String> {
    let mut found = Vec::new();
    for (core, fold) in plan.cores.iter().zip(&aggregate.cores) {
        if !fold.last {
            found.push(format!("core {} ended without its last snapshot; its numbers may be short", core.cpu));
        }
        for (&producer, (warm, measured)) in core.producers.iter().zip(fold.warm.iter().zip(&fold.measured)) {
            for (part, counts) in [("warm-up", warm), ("measured part", measured)] {
                let offered = counts.get(Field::RecordsOffered);
                let ended = counts.get(Field::RecordsProduced) + unconfirmed(counts);
                if offered != ended {
                    let id = plan.producers[producer].id;
                    found.push(format!("producer {id}, {part}: {offered} records offered, {ended} accounted for"));
                }
            }
        }
    }
    found
}

fn confirmation(plan: &RunPlan) -> Confirmation {
    match plan.sink.confirmation {
        plan::Confirmation::Target => Confirmation::Target,
        plan::Confirmation::Kernel => Confirmation::Kernel,
    }
}

fn timestamp(unix_ns: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(unix_ns)).map(|at| at.to_string()).unwrap_or_default()
}

fn measured_totals(plan: &RunPlan, counts: &Counts, outcome: &Outcome) -> Totals {
    let totals = answered(totals(plan, counts), &outcome.ends, false);
    // The keeper's number: no core knows it.
    Totals { audit_lines_dropped: outcome.audit_lines_dropped, ..totals }
}

/// Those of a part of the run, and how its requests were answered, as far as the lanes tell.
fn answered(totals: Totals, ends: &[CoreEnd], warmup: bool) -> Totals {
    let lanes = || ends.iter().flat_map(|end| &end.lanes);
    let answers = lanes().filter_map(|lane| Some(lane.answers.as_ref()?.part(warmup)));
    let answers = summed(answers, |status: u16| status);
    let by_body = lanes().filter_map(|lane| Some(lane.refused_by_body?[usize::from(warmup)]));
    let broker_errors = lanes().filter_map(|lane| Some(lane.broker_errors.as_ref()?.part(warmup)));
    let broker_errors = summed(broker_errors, |code: i16| broker_error(code).name.to_owned());
    Totals {
        requests: answers.as_ref().map(|answers| answers.values().sum()),
        answers,
        answers_refused_by_body: by_body.reduce(|sum, count| sum + count),
        broker_errors,
        ..totals
    }
}

/// By what their keys are called; `None`: there is not one.
fn summed<'a, K: Copy + 'a, N: Ord>(
    parts: impl Iterator<Item = &'a BTreeMap<K, u64>>,
    name: impl Fn(K) -> N,
) -> Option<BTreeMap<N, u64>> {
    let mut sum = None;
    for part in parts {
        let sum: &mut BTreeMap<N, u64> = sum.get_or_insert_default();
        for (key, count) in part {
            *sum.entry(name(*key)).or_default() += count;
        }
    }
    sum
}

fn totals(plan: &RunPlan, counts: &Counts) -> Totals {
    Totals {
        records_offered: counts.get(Field::RecordsOffered),
        records_produced: counts.get(Field::RecordsProduced),
        records_failed: counts.get(Field::RecordsFailed),
        records_uncertain: counts.get(Field::RecordsUncertain),
        records_not_sent: counts.get(Field::RecordsNotSent),
        bytes_produced: counts.get(Field::BytesProduced),
        logical_bytes_produced: counts.get(Field::LogicalBytesProduced),
        wire_bytes: counts.get(Field::WireBytes),
        lent_bytes: counts.get(Field::LentBytes),
        retries: counts.get(Field::Retries),
        reconnects: counts.get(Field::Reconnects),
        tcp_retransmits: has_own_connections(plan).then(|| counts.get(Field::TcpRetransmits)),
        throttled_answers: hears_of_quotas(plan).then(|| counts.get(Field::ThrottledAnswers)),
        throttled_seconds: hears_of_quotas(plan).then(|| counts.get(Field::ThrottledMs) as f64 / 1e3),
        // No snapshot has these.
        requests: None,
        answers: None,
        answers_refused_by_body: None,
        broker_errors: None,
        audit_lines_dropped: 0,
    }
}

/// Whether rotated files have data to sync: direct writes and `--fsync each` leave none.
fn syncs_page_cache(plan: &RunPlan) -> bool {
    let mut files = plan.producers.iter().filter_map(plan::ProducerPlan::file);
    files.any(|file| !file.direct && file.fsync == Fsync::End)
}

/// Those of rskafka tell nothing of themselves.
fn has_own_connections(plan: &RunPlan) -> bool {
    plan.producers.iter().any(|producer| match &producer.to {
        TargetPlan::Null | TargetPlan::Stdout | TargetPlan::File(_) => false,
        TargetPlan::Tcp(_) | TargetPlan::Http(_) => true,
        TargetPlan::Kafka(kafka) => kafka.client == KafkaClient::Uring,
    })
}

/// Brokers tell of a quota in their answers.
fn hears_of_quotas(plan: &RunPlan) -> bool {
    plan.producers.iter().any(|producer| match &producer.to {
        TargetPlan::Kafka(kafka) => kafka.client == KafkaClient::Uring && kafka.acks != 0,
        _ => false,
    })
}

fn warmup(plan: &RunPlan, aggregate: &Aggregate, warm: &Counts, lasted_ns: u64, ends: &[CoreEnd]) -> Warmup {
    let latency_seconds = match &aggregate.warm_latencies {
        Some(latencies) => latency(latencies, warm),
        None => latency(&Latencies::new(), warm),
    };
    let totals = answered(totals(plan, warm), ends, true);
    Warmup { seconds: seconds(lasted_ns), totals, errors: errors(warm), latency_seconds }
}

/// Draining and syncing, a core waits for its target, if it has given it something; also where others sync for it.
/// Behind the end of a rate nothing is due any more: that time says nothing of why it was met or not.
fn loop_time(aggregate: &Aggregate, outcome: &Outcome, is_paced: bool) -> LoopTime {
    let synced_ns = outcome.sync_ended_ns();
    let mut time = aggregate.measured_loop_time();
    if is_paced {
        return time;
    }
    let sent = |counts: &[Counts]| counts.iter().any(|counts| counts.get(Field::RecordsSubmitted) > 0);
    let any_sent = aggregate.cores.iter().any(|core| sent(&core.warm) || sent(&core.measured));
    let ended = outcome.ends.iter().filter(|end| any_sent && end.paced_ns > 0);
    time.target_full_ns += ended.map(|end| end.ended_ns.max(synced_ns).saturating_sub(end.paced_ns)).sum::<u64>();
    time
}

fn pacing(plan: &RunPlan, aggregate: &Aggregate, paced_ns: u64, latencies: &Latencies) -> Pacing {
    let target = target_bytes_per_second(plan, paced_ns);
    let measured = aggregate.measured_total();
    let planned_ns = plan.phases.iter().filter(|phase| !phase.warmup).map(|phase| phase.duration_ns);
    let planned_ns = planned_ns.fold(0, u64::saturating_add);
    let (offered, produced) = (measured.get(Field::RecordsOffered), measured.get(Field::RecordsProduced));
    let lateness = &latencies.lateness;
    Pacing {
        paced_seconds: Some(seconds(paced_ns.saturating_sub(plan.warmup_ns()))),
        planned_seconds: (planned_ns < u64::MAX).then(|| seconds(planned_ns)),
        stages_planned: aggregate.phases.planned(),
        target_bytes_per_second: target,
        achieved_ratio: target.filter(|_| offered > 0).map(|_| produced as f64 / offered as f64),
        catch_up_records: measured.get(Field::CatchUpRecords),
        lateness_seconds: distribution(lateness, lateness.len(), 0),
    }
}

/// The mean over the measured phases for as long as each ran, the pacing having ended `paced_ns` after the
/// barrier; `None` where any of those has no rate.
fn target_bytes_per_second(plan: &RunPlan, paced_ns: u64) -> Option<f64> {
    let (mut weighted, mut duration, mut start_ns) = (0.0, 0.0, 0u64);
    let mut first = None;
    for phase in &plan.phases {
        let end_ns = start_ns.saturating_add(phase.duration_ns);
        let ran_ns = end_ns.min(paced_ns).saturating_sub(start_ns);
        start_ns = end_ns;
        if phase.warmup || (ran_ns == 0 && first.is_some()) {
            continue;
        }
        let rate = phase.rate_bytes_per_second? as f64;
        first.get_or_insert(rate);
        weighted += rate * ran_ns as f64;
        duration += ran_ns as f64;
    }
    if duration > 0.0 { Some(weighted / duration) } else { first }
}

/// What processor time comes to for each 10^9 bytes; `None`: a run of a moment, or one whose target took next to
/// nothing, says nothing of that.
pub fn seconds_per_gigabyte(cpu_seconds: f64, bytes: u64) -> Option<f64> {
    let is_told = cpu_seconds >= CPU_SECONDS_MIN && bytes >= CPU_BYTES_MIN;
    is_told.then(|| cpu_seconds / (bytes as f64 / 1e9))
}

/// That of the drain, too, which is in no snapshot.
fn polling_ns(aggregate: &Aggregate, ends: &[CoreEnd]) -> u64 {
    aggregate.polling_ns() + ends.iter().map(|end| end.drain_spun_ns).sum::<u64>()
}

fn cpu(times: CpuTimes, bytes: u64, polling_ns: u64) -> Cpu {
    let (user_seconds, system_seconds) = (seconds(times.user_ns), seconds(times.system_ns));
    let seconds_per_gigabyte = seconds_per_gigabyte(user_seconds + system_seconds, bytes);
    let polling_seconds = Some(seconds(polling_ns));
    Cpu { user_seconds, system_seconds, seconds_per_gigabyte, polling_seconds }
}

fn compression_ratio(plan: &RunPlan, totals: &Totals) -> Option<f64> {
    let compresses = |producer: &plan::ProducerPlan| match &producer.to {
        TargetPlan::Kafka(kafka) => kafka.codec != Compression::None && kafka.client == KafkaClient::Uring,
        _ => false,
    };
    let known = totals.wire_bytes > 0 && plan.producers.iter().any(compresses);
    known.then(|| totals.bytes_produced as f64 / totals.wire_bytes as f64)
}

fn errors(counts: &Counts) -> BTreeMap<String, u64> {
    ERROR_KINDS.iter().map(|&(kind, field)| (kind.to_owned(), counts.get(field))).collect()
}

fn producers(plan: &RunPlan, aggregate: &Aggregate, ends: &[CoreEnd]) -> Vec<Producer> {
    let lanes = ends.iter().flat_map(|end| &end.lanes).map(|lane| (lane.producer_id, lane));
    let lanes: BTreeMap<u32, &LaneEnd> = lanes.collect();
    let mut out = Vec::with_capacity(plan.producers.len());
    for (core, fold) in plan.cores.iter().zip(&aggregate.cores) {
        for (&producer, counts) in core.producers.iter().zip(&fold.measured) {
            let producer = &plan.producers[producer];
            let end = lanes.get(&producer.id).copied();
            let sequences = end.and_then(|end| end.sequences);
            out.push(Producer {
                id: producer.id,
                core: core.cpu,
                target: plan.sink.targets[producer.target].clone(),
                file: producer.file().map(|file| file.data.display().to_string()),
                records_offered: counts.get(Field::RecordsOffered),
                records_produced: counts.get(Field::RecordsProduced),
                bytes_produced: counts.get(Field::BytesProduced),
                records_failed: counts.get(Field::RecordsFailed),
                records_uncertain: counts.get(Field::RecordsUncertain),
                records_not_sent: counts.get(Field::RecordsNotSent),
                first_sequence: sequences.map(|(first, _)| first),
                last_sequence: sequences.map(|(_, last)| last),
                retained_first_sequence: end.and_then(|end| end.retained_first_sequence),
                missing: end.map(|end| end.missing.clone()).unwrap_or_default(),
                missing_truncated: end.is_some_and(|end| end.missing_truncated),
                first_refused_status: end.and_then(|end| end.first_refused_status),
                answers: end.and_then(|end| Some(end.answers.as_ref()?.measured.clone())),
            });
        }
    }
    out.sort_by_key(|producer| producer.id);
    out
}

#[cfg(test)]
mod tests;
