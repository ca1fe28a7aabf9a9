//! The sums.

use crate::base::fatal::Fatal;
use crate::base::units::format_duration;
use crate::config::slo as expressions;
use crate::merge::fleet;
use crate::merge::latencies::{added, latency, lost};
use crate::merge::phases;
use crate::merge::read::Input;
use crate::merge::spans::{Span, measured_from, spans};
use crate::merge::verdict;
use crate::observe::assemble::seconds_per_gigabyte;
use crate::observe::quantile::{self, distribution, response_quantile_ns};
use crate::observe::report::{
    Confirmation, Cpu, Governance, Interval, Pacing, Payload, Report, SloResult, Throughput, Totals, Warmup,
};
use crate::observe::slo;
use crate::plan::OrderedQuantile;
use hdrhistogram::Histogram;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

pub fn add(inputs: &[Input]) -> Result<Report, Fatal> {
    let first = &inputs.first().ok_or_else(|| Fatal::usage("there is nothing to merge"))?.report;
    let reports = || inputs.iter().map(|input| &input.report);
    let (spans, started_at) = spans(inputs)?;
    let least = |of: fn(&Span) -> f64| spans.iter().map(of).fold(f64::INFINITY, f64::min);
    let most = |of: fn(&Span) -> f64| spans.iter().map(of).fold(0.0, f64::max);
    let measured = measured_from(&spans);
    let elapsed_seconds = most(|span| span.ended) - measured;
    let totals = summed(reports().map(|report| &report.totals));
    let throughput = Throughput::of(&totals, elapsed_seconds);
    let response = added(inputs, |report| &report.latency_seconds.response)?;
    let latency_seconds = latency(&response, &added(inputs, |report| &report.latency_seconds.service)?, &totals);
    let warmup = warmup(inputs, measured)?;
    let pacing = pacing(inputs, &spans, measured, &totals)?;
    let slo = slos(inputs, &totals, &throughput, &response)?;
    let common = least(|span| span.ended) - most(|span| span.measured);
    let ns = |seconds: f64| format_duration((seconds.max(0.0) * 1e9) as u64);
    let together = format!("all ran at the same time for {} of {}", ns(common), ns(elapsed_seconds));
    let early = inputs.iter().find_map(|one| Some((verdict::who(one), one.report.ended_early.as_ref()?)));
    let kernel = reports().any(|report| report.confirmation == Confirmation::Kernel);
    let mut producers: Vec<_> = reports().flat_map(|report| report.producers.iter().cloned()).collect();
    producers.sort_by_key(|producer| producer.id);
    let (intervals, intervals_dropped) = intervals(inputs, &spans, measured, elapsed_seconds);
    let arguments = ["engine", "merge"].into_iter().chain(inputs.iter().map(|one| one.name.as_str()));
    Ok(Report {
        schema_version: first.schema_version,
        run_id: first.run_id.clone(),
        engine_version: distinct(reports().map(|report| report.engine_version.clone())),
        command: arguments.map(str::to_owned).collect(),
        started_at,
        elapsed_seconds,
        final_fsync_seconds: reports().map(|report| report.final_fsync_seconds).fold(0.0, f64::max),
        // The weakest of them.
        confirmation: if kernel { Confirmation::Kernel } else { Confirmation::Target },
        config: fleet::settings(inputs, agreed(reports().map(|report| &report.config))),
        host: host(inputs),
        payload: payload(inputs),
        latency_seconds,
        cpu: cpu(inputs, warmup.totals.bytes_produced.saturating_add(totals.bytes_produced)),
        warmup,
        producers,
        intervals,
        intervals_dropped,
        phases: phases::add(inputs, &spans, measured)?,
        errors: by_key(reports().map(|report| &report.errors)),
        verdict: verdict::judge(inputs, &totals, &pacing, &together),
        totals,
        throughput,
        pacing,
        exit_code: fleet::exit(inputs, &slo) as u8,
        slo,
        governance: governance(inputs),
        // Where one failed, its fellows may have been told to end.
        ended_by_signal: reports().find_map(|report| report.ended_by_signal.clone()).filter(|_| early.is_none()),
        ended_early: early.map(|(who, why)| format!("{who}: {why}")),
    })
}

/// Of all that came before the measured part.
fn warmup(inputs: &[Input], measured: f64) -> Result<Warmup, Fatal> {
    let response = added(inputs, |report| &report.warmup.latency_seconds.response)?;
    let service = added(inputs, |report| &report.warmup.latency_seconds.service)?;
    let totals = summed(inputs.iter().map(|input| &input.report.warmup.totals));
    let errors = by_key(inputs.iter().map(|input| &input.report.warmup.errors));
    Ok(Warmup { seconds: measured, latency_seconds: latency(&response, &service, &totals), totals, errors })
}

fn summed<'a>(all: impl Iterator<Item = &'a Totals>) -> Totals {
    all.fold(Totals::default(), |sum, one| Totals {
        records_offered: sum.records_offered.saturating_add(one.records_offered),
        records_produced: sum.records_produced.saturating_add(one.records_produced),
        records_failed: sum.records_failed.saturating_add(one.records_failed),
        records_uncertain: sum.records_uncertain.saturating_add(one.records_uncertain),
        records_not_sent: sum.records_not_sent.saturating_add(one.records_not_sent),
        bytes_produced: sum.bytes_produced.saturating_add(one.bytes_produced),
        logical_bytes_produced: sum.logical_bytes_produced.saturating_add(one.logical_bytes_produced),
        wire_bytes: sum.wire_bytes.saturating_add(one.wire_bytes),
        lent_bytes: sum.lent_bytes.saturating_add(one.lent_bytes),
        retries: sum.retries.saturating_add(one.retries),
        reconnects: sum.reconnects.saturating_add(one.reconnects),
        tcp_retransmits: told([sum.tcp_retransmits, one.tcp_retransmits], u64::saturating_add),
        throttled_answers: told([sum.throttled_answers, one.throttled_answers], u64::saturating_add),
        throttled_seconds: told([sum.throttled_seconds, one.throttled_seconds], |sum, one| sum + one),
        requests: told([sum.requests, one.requests], u64::saturating_add),
        answers: told([sum.answers, one.answers.clone()], |sum, one| by_key([&sum, &one].into_iter())),
        answers_refused_by_body: told([sum.answers_refused_by_body, one.answers_refused_by_body], u64::saturating_add),
        broker_errors: told([sum.broker_errors, one.broker_errors.clone()], |sum, one| {
            by_key([&sum, &one].into_iter())
        }),
        audit_lines_dropped: sum.audit_lines_dropped.saturating_add(one.audit_lines_dropped),
    })
}

/// Of those that tell.
fn told<T>(parts: [Option<T>; 2], add: impl FnMut(T, T) -> T) -> Option<T> {
    parts.into_iter().flatten().reduce(add)
}

/// Where one process has no rate, all together have none.
fn pacing(inputs: &[Input], spans: &[Span], measured: f64, totals: &Totals) -> Result<Pacing, Fatal> {
    let lateness = added(inputs, |report| &report.pacing.lateness_seconds)?;
    let target: Option<f64> = inputs.iter().map(|input| input.report.pacing.target_bytes_per_second).sum();
    let ratio = || totals.records_produced as f64 / totals.records_offered as f64;
    // From the first start to the last end.
    let last_end = |of: fn(&Pacing) -> Option<f64>| {
        let end = |(input, span): (&Input, &Span)| Some(span.measured - measured + of(&input.report.pacing)?);
        let ends: Option<Vec<f64>> = inputs.iter().zip(spans).map(end).collect();
        ends.map(|ends| ends.into_iter().fold(0.0, f64::max))
    };
    Ok(Pacing {
        paced_seconds: last_end(|pacing| pacing.paced_seconds),
        planned_seconds: last_end(|pacing| pacing.planned_seconds),
        stages_planned: inputs.iter().map(|input| input.report.pacing.stages_planned).max().unwrap_or(0),
        target_bytes_per_second: target,
        achieved_ratio: target.filter(|_| totals.records_offered > 0).map(|_| ratio()),
        catch_up_records: inputs.iter().map(|input| input.report.pacing.catch_up_records).fold(0, u64::saturating_add),
        lateness_seconds: distribution(&lateness, lateness.len(), 0),
    })
}

/// Each expression once, held against all processes together.
fn slos(
    inputs: &[Input],
    totals: &Totals,
    throughput: &Throughput,
    response: &Histogram<u64>,
) -> Result<Vec<SloResult>, Fatal> {
    let mut seen = BTreeSet::new();
    let mut parsed = Vec::new();
    for Input { name, report } in inputs {
        for slo in report.slo.iter().filter(|slo| seen.insert(slo.expression.clone())) {
            let one = expressions::parse(&slo.expression);
            parsed.extend(one.map_err(|why| Fatal::usage(format!("{name} has an SLO that cannot be read: {why}")))?);
        }
    }
    let quantile = |OrderedQuantile(at)| {
        response_quantile_ns(response, totals.records_produced, lost(totals), at).map(quantile::seconds)
    };
    let mut judged = slo::evaluate(&parsed, totals, throughput, quantile);
    if fleet::absent(inputs.iter().map(|input| &input.report)).is_some() {
        fleet::judge_losses(&parsed, &mut judged);
    }
    Ok(judged)
}

fn distinct(all: impl Iterator<Item = String>) -> String {
    all.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
}

/// What all of them say alike; `null` where they differ.
fn agreed<'a>(mut all: impl Iterator<Item = &'a Map<String, Value>>) -> Map<String, Value> {
    let mut common = all.next().cloned().unwrap_or_default();
    for one in all {
        for (key, value) in &mut common {
            if one.get(key) != Some(value) {
                *value = Value::Null;
            }
        }
        for key in one.keys() {
            common.entry(key.clone()).or_insert(Value::Null);
        }
    }
    common
}

fn host(inputs: &[Input]) -> Value {
    let objects: Option<Vec<_>> = inputs.iter().map(|input| input.report.host.as_object()).collect();
    objects.map_or(Value::Null, |objects| Value::Object(agreed(objects.into_iter())))
}

/// The ring of the lowest id, as of one process; what a compressor could remove of all bytes together.
fn payload(inputs: &[Input]) -> Payload {
    let all = || inputs.iter().map(|input| &input.report.payload);
    let lowest_id = |report: &&Report| report.producers.iter().map(|producer| producer.id).min().unwrap_or(u32::MAX);
    let ring = inputs.iter().map(|input| &input.report).min_by_key(lowest_id).map(|report| &report.payload);
    let bytes = |input: &Input| input.report.totals.bytes_produced as f64;
    let weight: f64 = inputs.iter().map(bytes).sum();
    let wire: f64 = inputs.iter().map(|input| input.report.totals.wire_bytes as f64).sum();
    let compresses = all().any(|one| one.compression_ratio.is_some());
    let removed = inputs.iter().map(|one| Some(one.report.payload.compressibility_measured? * bytes(one)));
    let removed: Option<f64> = removed.sum();
    Payload {
        ring_bytes_per_lane: ring.map_or(0, |ring| ring.ring_bytes_per_lane),
        repeat_period_bytes: ring.map_or(0, |ring| ring.repeat_period_bytes),
        compressibility_measured: removed.filter(|_| weight > 0.0).map(|removed| removed / weight),
        compression_ratio: compresses.then(|| weight / wire).filter(|ratio| ratio.is_finite()),
        memory: distinct(all().map(|one| one.memory.clone())),
    }
}

fn cpu(inputs: &[Input], bytes: u64) -> Cpu {
    let user_seconds = inputs.iter().map(|input| input.report.cpu.user_seconds).sum::<f64>();
    let system_seconds = inputs.iter().map(|input| input.report.cpu.system_seconds).sum::<f64>();
    let seconds_per_gigabyte = seconds_per_gigabyte(user_seconds + system_seconds, bytes);
    let polling_seconds = inputs.iter().map(|input| input.report.cpu.polling_seconds).sum();
    Cpu { user_seconds, system_seconds, seconds_per_gigabyte, polling_seconds }
}

fn by_key<'a, K: Clone + Ord + 'a>(all: impl Iterator<Item = &'a BTreeMap<K, u64>>) -> BTreeMap<K, u64> {
    let mut sum = BTreeMap::new();
    for (key, count) in all.flatten() {
        let all = sum.entry(key.clone()).or_insert(0u64);
        *all = all.saturating_add(*count);
    }
    sum
}

/// By the wall clock: a second of a process goes whole into that second of the merged run in which its middle lies. And
/// how many seconds of the merged run are left out before the first of them.
fn intervals(inputs: &[Input], spans: &[Span], measured: f64, elapsed_seconds: f64) -> (Vec<Interval>, u64) {
    let mut bins: BTreeMap<u64, Interval> = BTreeMap::new();
    // Before that the seconds of one of them are not there, and a sum would be too small.
    let begins = |(input, span): (&Input, &Span)| {
        let first = input.report.intervals.first().filter(|_| input.report.intervals_dropped > 0)?;
        Some(span.measured - measured + first.start_seconds)
    };
    let whole_from = inputs.iter().zip(spans).filter_map(begins).fold(0.0, f64::max).ceil() as u64;
    for (input, span) in inputs.iter().zip(spans) {
        for one in &input.report.intervals {
            let middle = span.measured - measured + one.start_seconds + one.seconds / 2.0;
            let at = middle.max(0.0) as u64;
            if at < whole_from {
                continue;
            }
            let start_seconds = at as f64;
            let seconds = (elapsed_seconds - start_seconds).clamp(0.0, 1.0);
            let moved = Interval { start_seconds, seconds, ..one.clone() };
            bins.entry(at).and_modify(|sum| join(sum, &moved)).or_insert(moved);
        }
    }
    (bins.into_values().collect(), whole_from)
}

fn join(sum: &mut Interval, one: &Interval) {
    let (had, more) = (has_records(sum), has_records(one));
    for (sum, more) in [
        (&mut sum.records_offered, one.records_offered),
        (&mut sum.records_produced, one.records_produced),
        (&mut sum.bytes_produced, one.bytes_produced),
        (&mut sum.records_failed, one.records_failed),
        (&mut sum.records_uncertain, one.records_uncertain),
        (&mut sum.records_not_sent, one.records_not_sent),
        (&mut sum.catch_up_records, one.catch_up_records),
    ] {
        *sum = sum.saturating_add(more);
    }
    // Of two percentiles without their histograms nothing is known, unless they are the same.
    let percentile = |a: Option<f64>, b: Option<f64>| match (had, more) {
        (true, false) => a,
        (false, true) => b,
        _ => a.filter(|_| a == b),
    };
    sum.response_p50 = percentile(sum.response_p50, one.response_p50);
    sum.response_p99 = percentile(sum.response_p99, one.response_p99);
    sum.response_p999 = percentile(sum.response_p999, one.response_p999);
    let larger = [sum.response_max, one.response_max].into_iter().flatten().reduce(f64::max);
    sum.response_max = larger;
    sum.loop_gap_max_seconds = sum.loop_gap_max_seconds.max(one.loop_gap_max_seconds);
}

/// Those of a burst, or of a drain, end in seconds in which none is offered.
fn has_records(of: &Interval) -> bool {
    let counts =
        [of.records_offered, of.records_produced, of.records_failed, of.records_uncertain, of.records_not_sent];
    counts.iter().any(|count| *count > 0)
}

fn governance(inputs: &[Input]) -> Option<Governance> {
    let all = inputs.iter().filter_map(|input| input.report.governance.clone());
    all.reduce(|sum, one| Governance {
        url: if sum.url == one.url { sum.url } else { format!("{}, {}", sum.url, one.url) },
        every: sum.every,
        events_offered: sum.events_offered.saturating_add(one.events_offered),
        posted: sum.posted.saturating_add(one.posted),
        dropped: sum.dropped.saturating_add(one.dropped),
        refused: sum.refused.saturating_add(one.refused),
        failed: sum.failed.saturating_add(one.failed),
        invalid: sum.invalid.saturating_add(one.invalid),
        announced: sum.announced.saturating_add(one.announced),
        not_announced: sum.not_announced.saturating_add(one.not_announced),
        last_error: sum.last_error.or(one.last_error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing;

    fn input(warmup_seconds: f64, elapsed_seconds: f64) -> Input {
        let mut report = Report { elapsed_seconds, ..testing::report() };
        report.warmup.seconds = warmup_seconds;
        report.totals.records_produced = 100;
        Input { name: format!("{elapsed_seconds}.json"), report }
    }

    #[test]
    fn sums_that_leave_their_range_stay_at_its_end() {
        let full = || {
            let mut one = input(0.0, 1.0);
            let report = &mut one.report;
            report.totals.bytes_produced = u64::MAX;
            report.warmup.totals.bytes_produced = u64::MAX;
            report.pacing.catch_up_records = u64::MAX;
            report.errors.insert("io".to_owned(), u64::MAX);
            report.governance = Some(Governance { posted: u64::MAX, ..Governance::default() });
            report.intervals = vec![Interval { seconds: 1.0, bytes_produced: u64::MAX, ..Interval::default() }];
            one
        };
        let whole = add(&[full(), full()]).unwrap();
        assert_eq!((whole.totals.bytes_produced, whole.pacing.catch_up_records), (u64::MAX, u64::MAX));
        assert_eq!((whole.intervals[0].bytes_produced, whole.errors["io"]), (u64::MAX, u64::MAX));
        assert_eq!(whole.governance.map(|told| told.posted), Some(u64::MAX));
    }

    #[test]
    fn the_ring_is_that_of_the_lowest_id_whatever_the_order() {
        let of = |id: u32, bytes: u64| {
            let mut one = input(0.0, 1.0);
            one.report.producers.truncate(1);
            one.report.producers[0].id = id;
            let payload = &mut one.report.payload;
            (payload.ring_bytes_per_lane, payload.repeat_period_bytes) = (bytes + 7, bytes);
            one
        };
        for ids in [[0, 1], [1, 0]] {
            let whole = add(&ids.map(|id| of(id, 4_190_000 - u64::from(id) * 10_000))).unwrap().payload;
            assert_eq!((whole.ring_bytes_per_lane, whole.repeat_period_bytes), (4_190_007, 4_190_000));
        }
        // One that had no producer says nothing.
        let mut none = of(0, 5);
        none.report.producers.clear();
        assert_eq!(add(&[none, of(3, 9)]).unwrap().payload.repeat_period_bytes, 9);
    }

    #[test]
    fn what_tcp_sent_again_and_quotas_held_back_is_the_sum_of_those_that_tell() {
        let of = |told: Option<u64>| {
            let mut one = input(0.0, 1.0);
            let totals = &mut one.report.totals;
            (totals.tcp_retransmits, totals.throttled_answers) = (told, told);
            totals.throttled_seconds = told.map(|count| count as f64 / 4.0);
            one
        };
        let sum = |all: &[Option<u64>]| {
            let whole = add(&all.iter().map(|one| of(*one)).collect::<Vec<_>>()).unwrap();
            (whole.totals.tcp_retransmits, whole.verdict.evidence)
        };
        let (all, evidence) = sum(&[Some(200), Some(12), None]);
        assert_eq!(all, Some(212));
        let said = evidence.iter().filter(|said| *said == "212 TCP segments sent again (retransmissions)");
        assert_eq!(said.count(), 1, "{evidence:?}");
        let asked = "212 answers asked for 53 s of waiting in all";
        assert!(evidence.iter().any(|said| said.ends_with(asked)), "{evidence:?}");
        assert_eq!((sum(&[Some(0), Some(0)]).0, sum(&[None, None]).0), (Some(0), None));
    }

    #[test]
    fn answers_are_the_sum_of_those_that_tell() {
        let of = |told: &[(u16, u64)]| {
            let mut one = input(0.0, 1.0);
            let answers = (!told.is_empty()).then(|| BTreeMap::from_iter(told.iter().copied()));
            one.report.producers[0].answers.clone_from(&answers);
            let totals = &mut one.report.totals;
            totals.requests = answers.as_ref().map(|answers| answers.values().sum());
            totals.answers_refused_by_body = answers.as_ref().and_then(|answers| answers.get(&204).copied());
            (totals.answers, totals.retries) = (answers, 1);
            one
        };
        let whole = add(&[of(&[(204, 5), (429, 1)]), of(&[]), of(&[(204, 7), (500, 2)])]).unwrap();
        assert_eq!(whole.totals.answers, Some(BTreeMap::from([(204, 12), (429, 1), (500, 2)])));
        assert_eq!((whole.totals.requests, whole.totals.answers_refused_by_body), (Some(15), Some(12)));
        let said = &whole.verdict.evidence[0];
        assert!(said.ends_with(" at first (429, 500, 2xx by their body); 3 blocks sent again"), "{said}");
        let whole = add(&[of(&[]), of(&[])]).unwrap();
        assert_eq!((whole.totals.requests, whole.totals.answers), (None, None));
        let of_brokers = |errors: &[(&str, u64)]| {
            let mut one = of(&[]);
            let errors = errors.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
            one.report.totals.broker_errors = Some(errors);
            one
        };
        let whole = add(&[of_brokers(&[("A", 1)]), of(&[]), of_brokers(&[("A", 2), ("B", 3)])]).unwrap();
        let errors = BTreeMap::from([("A".to_owned(), 3), ("B".to_owned(), 3)]);
        assert_eq!(whole.totals.broker_errors, Some(errors));
        let said = &whole.verdict.evidence[0];
        assert!(said.ends_with(" refused requests at first (A, B); 3 blocks sent again"), "{said}");
    }

    #[test]
    fn percentiles_of_a_second_with_the_records_of_several_are_not_known() {
        let of = |records_offered, records_produced, p50_seconds| {
            let of_all = Interval { seconds: 1.0, response_p50: Some(p50_seconds), ..Interval::default() };
            let mut one = input(0.0, 1.0);
            one.report.intervals = vec![Interval { records_offered, records_produced, ..of_all }];
            one
        };
        let p50 = |a: Input, b: Input| add(&[a, b]).unwrap().intervals[0].response_p50;
        assert_eq!(p50(of(10, 5, 0.001), of(0, 5, 0.009)), None, "those of the second were offered before");
        assert_eq!(p50(of(10, 5, 0.001), of(0, 0, 0.0)), Some(0.001));
        assert_eq!(p50(of(0, 0, 0.0), of(0, 5, 0.009)), Some(0.009));
    }

    #[test]
    fn seconds_left_out_of_one_process_are_counted_from_the_first_start() {
        let of = |started_at: &str| {
            let mut one = input(0.0, 10.0);
            let second = |at: u8| Interval { start_seconds: f64::from(at), seconds: 1.0, ..Interval::default() };
            one.report.intervals = (5..10).map(second).collect();
            (one.report.intervals_dropped, one.report.started_at) = (5, started_at.to_owned());
            one
        };
        let whole = add(&[of("2026-01-01T00:00:00Z"), of("2026-01-01T00:00:03Z")]).unwrap();
        assert_eq!((whole.intervals_dropped, whole.intervals[0].start_seconds), (8, 8.0));
    }

    #[test]
    fn who_ended_within_the_warm_up_does_not_make_the_others_slower() {
        let whole = add(&[input(1.0, 0.0), input(5.0, 10.0)]).unwrap();
        let rate = whole.throughput.records_per_second;
        assert_eq!((whole.warmup.seconds, whole.elapsed_seconds, rate), (5.0, 10.0, 20.0));
        let whole = add(&[input(1.0, 0.0), input(5.0, 0.0)]).unwrap();
        assert_eq!((whole.warmup.seconds, whole.elapsed_seconds), (5.0, 0.0));
    }
}
