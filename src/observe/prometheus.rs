//! `/metrics`: the per-core counters and the folded histograms, read at each scrape.
//!
//! prometheus-client writes OpenMetrics; [`classic`] turns that into text format 0.0.4.

use crate::counters::ERROR_KINDS;
use crate::observe::aggregate::Aggregate;
use crate::observe::metrics::{BUCKETS_NS, METRICS, Metric, Source};
use crate::observe::shared::Shared;
use crate::plan::{ProducerPlan, RunPlan, Schedule};
use crate::tap::EventBooks;
use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Renders the metrics of one run.
pub struct Exposition(Registry);

impl Exposition {
    pub fn new(shared: Arc<Shared>, events: Option<Arc<EventBooks>>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Cells(shared, events)));
        Self(registry)
    }

    /// OpenMetrics 1.0, or text format 0.0.4.
    pub fn render(&self, open_metrics: bool) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.0).expect("a String takes everything");
        if open_metrics { out } else { classic(&out) }
    }
}

/// Reads everything anew at each scrape; no counter of the loop is shared with the scraper.
struct Cells(Arc<Shared>, Option<Arc<EventBooks>>);

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cells")
    }
}

impl Collector for Cells {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let lanes = self.0.lanes();
        let plan = &self.0.plan;
        let targets = &plan.sink.targets;
        let all_targets = targets.join(",");
        for metric in METRICS {
            let mut family = encoder.encode_descriptor(metric.family(), metric.help, None, type_of(metric))?;
            match metric.source {
                Source::Counter(field) => {
                    for (producer, counts) in &lanes {
                        let labels = producer_labels(plan, producer);
                        family
                            .encode_family(&labels)?
                            .encode_counter::<NoLabelSet, u64, f64>(&counts.get(field), None)?;
                    }
                }
                Source::Errors => {
                    for (producer, counts) in &lanes {
                        for &(kind, field) in ERROR_KINDS {
                            let labels = ([("kind", kind)], producer_labels(plan, producer));
                            let count = counts.get(field);
                            family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
                        }
                    }
                }
                Source::Gauge(field) => {
                    for target in labels(targets) {
                        let of_target = lanes.iter().filter(|(producer, _)| targets[producer.target] == target);
                        let sum: u64 = of_target.map(|(_, counts)| counts.get(field)).sum();
                        family.encode_family(&[("target", target)])?.encode_gauge(&(sum as f64))?;
                    }
                }
                Source::TargetRate => {
                    let phase = self.0.phase_now();
                    for target in labels(targets) {
                        let rate = phase.map_or(0, |phase| rate_of(plan, target, phase));
                        family.encode_family(&[("target", target)])?.encode_gauge(&(rate as f64))?;
                    }
                }
                Source::Governance => {
                    let totals = self.1.as_ref().map(|books| books.totals()).unwrap_or_default();
                    for (outcome, count) in totals.outcomes() {
                        let labels = [("outcome", outcome), ("target", all_targets.as_str())];
                        family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
                    }
                }
                Source::BuildInfo => {
                    let labels = [("version", env!("CARGO_PKG_VERSION")), ("target", all_targets.as_str())];
                    family.encode_info(&labels)?;
                }
                Source::Response | Source::Service | Source::Lateness => {
                    let Buckets { sum_seconds, count, buckets } =
                        self.0.with_aggregate(|all| folded(all, metric.source));
                    let labels = [("target", all_targets.as_str())];
                    family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                        sum_seconds,
                        count,
                        &buckets,
                        None,
                    )?;
                }
            }
        }
        Ok(())
    }
}

fn type_of(metric: &Metric) -> MetricType {
    match (metric.source, metric.kind()) {
        (Source::BuildInfo, _) => MetricType::Info,
        (_, "counter") => MetricType::Counter,
        (_, "gauge") => MetricType::Gauge,
        _ => MetricType::Histogram,
    }
}

/// Each label once: URLs that differ in their queries have the same.
fn labels(targets: &[String]) -> BTreeSet<&str> {
    targets.iter().map(String::as_str).collect()
}

fn producer_labels(plan: &RunPlan, producer: &ProducerPlan) -> impl EncodeLabelSet {
    [("producer", producer.id.to_string()), ("target", plan.sink.targets[producer.target].clone())]
}

/// Logical bytes a second that the producers of a target are asked for in a phase; 0: no limit.
fn rate_of(plan: &RunPlan, target: &str, phase: usize) -> u64 {
    let of_target = plan.producers.iter().filter(|producer| plan.sink.targets[producer.target] == target);
    of_target
        .filter_map(|producer| match producer.schedule.get(phase)?.schedule {
            Schedule::Steady { rate } | Schedule::Burst { rate: Some(rate), .. } => Some(rate.logical_bytes_per_second),
            Schedule::Unlimited | Schedule::Burst { rate: None, .. } => None,
        })
        .sum()
}

struct Buckets {
    sum_seconds: f64,
    count: u64,
    /// Upper bound in seconds, and the count between it and the bound before.
    buckets: Vec<(f64, u64)>,
}

/// Warm-up and measured part together.
fn folded(all: &Aggregate, source: Source) -> Buckets {
    let parts = all.warm_latencies.as_deref().into_iter().chain([&all.measured_latencies]);
    let mut out = Buckets { sum_seconds: 0.0, count: 0, buckets: Vec::new() };
    out.buckets = BUCKETS_NS.iter().map(|&bound| (bound as f64 / 1e9, 0)).collect();
    out.buckets.push((f64::INFINITY, 0));
    for latencies in parts {
        let histogram: &Histogram<u64> = match source {
            Source::Response => &latencies.response,
            Source::Service => &latencies.service,
            _ => &latencies.lateness,
        };
        for step in histogram.iter_recorded() {
            // A value stands for its whole step of the histogram. Judged by the step's low end, one that was
            // recorded at exactly a bound stays below it.
            let value = step.value_iterated_to();
            let low = histogram.lowest_equivalent(value);
            let bucket = BUCKETS_NS.partition_point(|&bound| bound < low);
            let count = step.count_since_last_iteration();
            out.buckets[bucket].1 += count;
            out.count += count;
            out.sum_seconds += histogram.median_equivalent(value) as f64 / 1e9 * count as f64;
        }
    }
    out
}

/// Text format 0.0.4 of what prometheus-client wrote: full names in HELP and TYPE, `info` as a gauge, no units,
/// no end mark.
pub fn classic(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        let rest = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(word @ ("HELP" | "TYPE")), Some(family), Some(_)) => {
                METRICS.iter().find(|metric| metric.family() == family).map(|metric| match word {
                    "HELP" => format!("# HELP {} {}", metric.name, metric.help),
                    _ => format!("# TYPE {} {}", metric.name, metric.kind()),
                })
            }
            (Some("#"), ..) => None,
            _ => Some(line.to_owned()),
        };
        if let Some(rest) = rest {
            out.push_str(&rest);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::{CoreState, Field};
    use crate::observe::testing::{self, MS, Run};
    use crate::tap::{Checksum, EventEnd, EventFacts, tap};
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn promtool(text: &str) -> (bool, String) {
        let mut child = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool is installed: apt-get install prometheus, or scripts/test.sh");
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        (out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    }

    fn rendered(run: &Run, open_metrics: bool) -> String {
        Exposition::new(run.shared.clone(), None).render(open_metrics)
    }

    #[test]
    fn promtool_has_no_complaint() {
        let (well, said) = promtool(&rendered(&testing::full_run(), false));
        assert!(well && said.is_empty(), "{said}");
        let (well, _) = promtool("# TYPE broken counter\nbroken{ 1\n");
        assert!(!well, "the check itself works");
    }

    #[test]
    fn every_metric_has_its_name_type_and_help_and_no_other_does() {
        let text = rendered(&Run::new(2, 2, None), false);
        let named = |word: &str| -> BTreeSet<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(&format!("# {word} ")));
            lines.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
        };
        let table: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
        assert_eq!(named("TYPE"), table);
        assert_eq!(named("HELP"), table);
        assert!(text.contains("# TYPE generator_records_produced_total counter\n"));
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.contains("target=\""), "no target: {line}");
            let family = line.split('{').next().unwrap();
            let of_all = family == "generator_governance_events_total";
            assert!(of_all || !family.ends_with("_total") || line.contains("producer=\""), "no producer: {line}");
        }
    }

    #[test]
    fn counters_are_read_live_for_each_producer() {
        let run = Run::new(1, 2, Some(2000));
        let text = rendered(&run, false);
        for kind in ["io", "no_space", "closed", "timeout"] {
            for (producer, target) in [(0, "null"), (1, "null2")] {
                let line = format!(
                    "generator_produce_errors_total{{kind=\"{kind}\",producer=\"{producer}\",target=\"{target}\"}} 0\n"
                );
                assert!(text.contains(&line), "{line} is missing in {text}");
            }
        }
        run.publish(0, 1, &[(Field::BytesProduced, u64::MAX), (Field::InFlightBytes, 4096), (Field::ErrorIo, 2)]);
        run.shared.start(run.now_ns());
        let text = rendered(&run, false);
        for line in [
            "generator_bytes_produced_total{producer=\"1\",target=\"null2\"} 18446744073709551615\n",
            "generator_in_flight_bytes{target=\"null2\"} 4096",
            "generator_target_rate_bytes_per_second{target=\"null\"} 1000",
            "generator_produce_errors_total{kind=\"io\",producer=\"1\",target=\"null2\"} 2\n",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }

    #[test]
    fn a_rate_of_0_may_be_that_nothing_is_asked_for() {
        let run = Run::new(1, 1, Some(2000));
        let asked = |run: &Run| {
            let text = rendered(run, false);
            let of = |start| text.lines().find_map(|line| line.strip_prefix(start)).unwrap().to_owned();
            let name = "generator_target_rate_bytes_per_second";
            (of(&format!("# HELP {name} ")), of(&format!("{name}{{target=\"null\"}} ")))
        };
        assert_eq!(asked(&run).1.parse(), Ok(0.0), "before the start");
        run.shared.start(run.now_ns());
        assert_eq!(asked(&run).1.parse(), Ok(2000.0));
        run.shared.live[0].enter(CoreState::Draining);
        let (help, drains) = asked(&run);
        assert_eq!(drains.parse(), Ok(0.0));
        assert!(help.contains("nothing is asked for: before the start and from the drain on"), "{help}");
    }

    #[test]
    fn targets_of_one_label_are_one_sample() {
        let mut run = Run::new(1, 2, Some(2000));
        run.replan(|plan| plan.sink.targets = vec!["x".to_owned(), "x".to_owned()]);
        (0..2).for_each(|lane| run.publish(0, lane, &[(Field::InFlightBytes, 4096)]));
        run.shared.start(run.now_ns());
        let text = rendered(&run, false);
        for (name, sum) in [("generator_in_flight_bytes", 8192.0), ("generator_target_rate_bytes_per_second", 2000.0)] {
            let samples: Vec<_> = text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).collect();
            let [sample] = samples.as_slice() else { panic!("{samples:?}") };
            assert_eq!(sample.rsplit(' ').next().unwrap().parse(), Ok(sum), "{sample}");
        }
    }

    #[test]
    fn events_are_counted_by_what_became_of_them() {
        let run = Run::new(1, 1, None);
        let (mut tap, end) = tap(1, 1, Checksum::Header, vec![]);
        (0..3).for_each(|_| tap.offer(EventFacts::default()));
        let books = EventBooks::new(vec![end.counts.clone()]);
        books.end(EventEnd::Posted, 1);
        let text = Exposition::new(run.shared.clone(), Some(books)).render(false);
        for (outcome, count) in [("posted", 1), ("dropped", 2), ("refused", 0), ("failed", 0), ("invalid", 0)] {
            let line = format!("generator_governance_events_total{{outcome=\"{outcome}\",target=\"null\"}} {count}\n");
            assert!(text.contains(&line), "{line} is missing in {text}");
        }
    }

    #[test]
    fn histograms_count_warm_up_and_measured_part_in_1_2_5_buckets() {
        let run = testing::full_run();
        run.shared.with_aggregate(|all| {
            let warm = &mut all.warm_latencies.as_mut().unwrap().response;
            warm.record_n(50_000, 4).unwrap();
            warm.record_n(60_000 * MS, 1).unwrap();
        });
        let text = rendered(&run, false);
        let bucket = |bound: &str| {
            let start = format!("generator_produce_latency_seconds_bucket{{le=\"{bound}\",");
            let line = text.lines().find(|line| line.starts_with(&start));
            line.unwrap_or_else(|| panic!("{start} is missing in {text}")).rsplit(' ').next().unwrap().to_owned()
        };
        assert_eq!(["0.00005", "0.001", "0.002", "50.0", "+Inf"].map(bucket), ["4", "4", "994", "994", "995"]);
        let ratios: Vec<f64> = BUCKETS_NS.windows(2).map(|two| two[1] as f64 / two[0] as f64).collect();
        assert!(ratios.iter().all(|&ratio| ratio == 2.0 || ratio == 2.5));
        assert_eq!((BUCKETS_NS[0], BUCKETS_NS[18]), (50_000, 50_000 * MS));
    }

    #[test]
    fn open_metrics_keeps_its_own_form() {
        let text = rendered(&testing::full_run(), true);
        assert!(text.ends_with("# EOF\n"));
        assert!(text.contains("# TYPE generator_records_produced counter\n"));
        assert!(text.contains("# TYPE generator_build info\n") && text.contains("generator_build_info{version="));
    }
}
