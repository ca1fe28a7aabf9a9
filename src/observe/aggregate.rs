//! Folds the cores' snapshots: totals, histograms, and one interval for each second of the measured part.
//!
//! A second closes when every core has reported to its end and one of them from past it: a run's last snapshot may be
//! of the very end of a second, as the one before it. A core that is stalled does not hold it open:
//! one second later it closes anyway, and what comes late counts in the second in which it came.

pub mod recent;

use crate::base::limits;
use crate::counters::gathered::Gathered;
use crate::counters::{Counts, Field, Latencies, LoopTime, Snapshot};
use crate::observe::phases::Phases;
use crate::observe::quantile::{empty_histogram, response_quantile_ns, seconds, unconfirmed};
use crate::observe::report::Interval;
use hdrhistogram::Histogram;
use recent::Recent;
use std::collections::VecDeque;

const SECOND_NS: u64 = 1_000_000_000;

/// Everything that the snapshots said so far.
#[derive(Debug)]
pub struct Aggregate {
    warmup_ns: u64,
    /// Second `k` covers (base + k s, base + (k + 1) s]: on the snapshots' grid, so that none straddles two.
    base_ns: u64,
    pub cores: Vec<CoreFold>,
    pub warm_latencies: Option<Box<Latencies>>,
    pub measured_latencies: Latencies,
    pub phases: Phases,
    /// The last [`limits::INTERVALS_MAX`].
    pub intervals: VecDeque<Interval>,
    /// Older ones that are gone.
    pub intervals_dropped: u64,
    /// The longest gap of all of them, in seconds.
    gap_max_seconds: f64,
    open: VecDeque<OpenInterval>,
    /// Index of the first open second, or of the next one.
    next_index: u64,
    spare: Vec<Histogram<u64>>,
    latest_ns: u64,
}

/// One core's latest totals.
#[derive(Debug)]
pub struct CoreFold {
    pub at_ns: u64,
    pub warm: Vec<Counts>,
    pub measured: Vec<Counts>,
    loop_time: LoopTime,
    /// Where the measured part began.
    loop_time_base: LoopTime,
    pub last: bool,
    /// Since the last look at it.
    pub recent: Recent,
}

#[derive(Debug)]
struct OpenInterval {
    counts: Counts,
    response: Option<Histogram<u64>>,
    gap_max_ns: u64,
}

impl Aggregate {
    /// For cores with so many lanes each.
    pub fn new(lanes: &[usize], warmup_ns: u64, phases: Phases) -> Self {
        let cores = lanes
            .iter()
            .map(|&lanes| CoreFold {
                at_ns: 0,
                warm: vec![Counts::default(); lanes],
                measured: vec![Counts::default(); lanes],
                loop_time: LoopTime::default(),
                loop_time_base: LoopTime::default(),
                last: false,
                recent: Recent::default(),
            })
            .collect();
        Self {
            warmup_ns,
            base_ns: warmup_ns - warmup_ns % limits::SNAPSHOT_INTERVAL_NS,
            cores,
            warm_latencies: (warmup_ns > 0).then(Box::default),
            measured_latencies: Latencies::new(),
            phases,
            intervals: VecDeque::new(),
            intervals_dropped: 0,
            gap_max_seconds: 0.0,
            open: VecDeque::new(),
            next_index: 0,
            spare: Vec::new(),
            latest_ns: 0,
        }
    }

    /// Takes in one snapshot; those of one core come in order.
    pub fn fold(&mut self, snapshot: &Snapshot) {
        let core = &mut self.cores[snapshot.core];
        let delta = replace(&mut core.measured, &snapshot.measured);
        let warm_delta = replace(&mut core.warm, &snapshot.warm);
        core.at_ns = snapshot.at_ns;
        core.last = snapshot.last;
        core.loop_time = snapshot.loop_time;
        // An early one may be dated back to the barrier.
        if snapshot.at_ns <= self.warmup_ns && self.warmup_ns > 0 {
            core.loop_time_base = snapshot.loop_time;
        }
        let response = snapshot.measured_latencies.response_or_service();
        core.recent.add(&snapshot.measured_latencies, &delta);
        if let Some(warm) = &snapshot.warm_latencies {
            core.recent.add(warm, &warm_delta);
            if let Some(all) = &mut self.warm_latencies {
                warm.add_to(all);
            }
        }
        snapshot.measured_latencies.add_to(&mut self.measured_latencies);
        self.phases.fold(snapshot.at_ns, &delta, &snapshot.measured_latencies);
        self.latest_ns = self.latest_ns.max(snapshot.at_ns);
        if snapshot.at_ns > self.warmup_ns || delta != Counts::default() {
            let open = self.open_interval(snapshot.at_ns);
            open.counts.merge(&delta);
            open.gap_max_ns = open.gap_max_ns.max(snapshot.loop_time.gap_max_ns);
            self.add_response(snapshot.at_ns, response);
        }
        self.close_finished();
    }

    /// Closes what is open; call it once, after the last snapshot. `ended_ns`: when the last core ended, which its
    /// snapshot may be dated before.
    pub fn finish(&mut self, ended_ns: u64) {
        self.latest_ns = self.latest_ns.max(ended_ns);
        while !self.open.is_empty() {
            self.close_first();
        }
    }

    /// Monotonic nanoseconds since the barrier that the snapshots reach to.
    pub fn latest_ns(&self) -> u64 {
        self.latest_ns
    }

    pub fn warm_total(&self) -> Counts {
        total(self.cores.iter().flat_map(|core| &core.warm))
    }

    pub fn measured_total(&self) -> Counts {
        total(self.cores.iter().flat_map(|core| &core.measured))
    }

    /// Processor time of the whole run that went into asking again and again. What a core did not have it did not spend.
    pub fn polling_ns(&self) -> u64 {
        self.cores.iter().map(|core| core.loop_time.spun_ns.min(core.loop_time.cpu_ns)).sum()
    }

    /// The cores' time in the measured part, added up; `gap_max_ns` is the longest of the intervals.
    pub fn measured_loop_time(&self) -> LoopTime {
        let mut sum = LoopTime::default();
        for core in &self.cores {
            let (now, base) = (&core.loop_time, &core.loop_time_base);
            sum.turns += now.turns.saturating_sub(base.turns);
            sum.target_full_ns += now.target_full_ns.saturating_sub(base.target_full_ns);
            sum.file_wait_ns += now.file_wait_ns.saturating_sub(base.file_wait_ns);
            sum.kernel_ns += now.kernel_ns.saturating_sub(base.kernel_ns);
            sum.idle_ns += now.idle_ns.saturating_sub(base.idle_ns);
            sum.work_ns += now.work_ns.saturating_sub(base.work_ns);
            sum.spun_ns += now.spun_ns.saturating_sub(base.spun_ns);
            sum.cpu_ns += now.cpu_ns.saturating_sub(base.cpu_ns);
            sum.stolen_ns += now.stolen_ns.saturating_sub(base.stolen_ns);
        }
        sum.gap_max_ns = (self.gap_max_seconds * 1e9) as u64;
        sum
    }

    fn index_of(&self, at_ns: u64) -> u64 {
        (at_ns.saturating_sub(self.base_ns + 1) / SECOND_NS).max(self.next_index)
    }

    fn open_interval(&mut self, at_ns: u64) -> &mut OpenInterval {
        let index = self.index_of(at_ns);
        while self.next_index + (self.open.len() as u64) <= index {
            // After a long stall of all cores, the seconds in between close as they are opened.
            if self.open.len() > 2 {
                self.close_first();
            }
            self.open.push_back(OpenInterval { counts: Counts::default(), response: None, gap_max_ns: 0 });
        }
        &mut self.open[(index - self.next_index) as usize]
    }

    fn add_response(&mut self, at_ns: u64, response: &Gathered) {
        if response.is_empty() {
            return;
        }
        let histogram = self.spare.pop().unwrap_or_else(empty_histogram);
        let open = self.open_interval(at_ns);
        match &mut open.response {
            Some(there) => {
                response.add_to(there);
                self.spare.push(histogram);
            }
            slot @ None => response.add_to(slot.insert(histogram)),
        }
    }

    fn end_of(&self, index: u64) -> u64 {
        self.base_ns + (index + 1) * SECOND_NS
    }

    fn close_finished(&mut self) {
        while !self.open.is_empty() {
            let end_ns = self.end_of(self.next_index);
            let reported = self.cores.iter().all(|core| core.last || core.at_ns >= end_ns);
            let past = self.latest_ns > end_ns;
            if !(reported && past || self.latest_ns >= end_ns + SECOND_NS) {
                return;
            }
            self.close_first();
        }
    }

    fn close_first(&mut self) {
        let Some(open) = self.open.pop_front() else { return };
        let start_ns = (self.base_ns + self.next_index * SECOND_NS).max(self.warmup_ns);
        let end_ns = self.end_of(self.next_index).min(self.latest_ns).max(start_ns);
        self.next_index += 1;
        let counts = &open.counts;
        let (produced, lost) = (counts.get(Field::RecordsProduced), unconfirmed(counts));
        let at = |parts_per_million| {
            let response = open.response.as_ref()?;
            response_quantile_ns(response, produced, lost, parts_per_million).map(seconds)
        };
        self.gap_max_seconds = self.gap_max_seconds.max(seconds(open.gap_max_ns));
        if self.intervals.len() == limits::INTERVALS_MAX {
            self.intervals.pop_front();
            self.intervals_dropped += 1;
        }
        self.intervals.push_back(Interval {
            start_seconds: seconds(start_ns - self.warmup_ns),
            seconds: seconds(end_ns - start_ns),
            records_offered: counts.get(Field::RecordsOffered),
            records_produced: produced,
            bytes_produced: counts.get(Field::BytesProduced),
            records_failed: counts.get(Field::RecordsFailed),
            records_uncertain: counts.get(Field::RecordsUncertain),
            records_not_sent: counts.get(Field::RecordsNotSent),
            catch_up_records: counts.get(Field::CatchUpRecords),
            response_p50: at(500_000),
            response_p99: at(990_000),
            response_p999: at(999_000),
            response_max: open.response.as_ref().map(|response| seconds(response.max())),
            loop_gap_max_seconds: seconds(open.gap_max_ns),
        });
        if let Some(mut histogram) = open.response {
            histogram.reset();
            self.spare.push(histogram);
        }
    }
}

fn total<'a>(lanes: impl Iterator<Item = &'a Counts>) -> Counts {
    let mut sum = Counts::default();
    lanes.for_each(|lane| sum.merge(lane));
    sum
}

/// Puts the counts of a core's lanes in the place of those before them; by how much all together grew.
fn replace(before: &mut [Counts], now: &[Counts]) -> Counts {
    let mut delta = Counts::default();
    for (before, now) in before.iter_mut().zip(now) {
        // Gauges fall, so differences saturate.
        Field::ALL.iter().for_each(|&field| delta.add(field, now.get(field).saturating_sub(before.get(field))));
        *before = *now;
    }
    delta
}

#[cfg(test)]
mod tests;
