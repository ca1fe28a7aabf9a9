//! The latencies that a snapshot carries: of few blocks as they are, of many as a histogram. To add up histograms is to
//! walk through all that they could hold, ten times a second for each core, however little there is.

use super::{Latencies, empty_histogram, merge};
use hdrhistogram::Histogram;

/// More than come in the time between two snapshots where blocks go by the millisecond.
const POINTS_MAX: usize = 1024;

/// Values of one kind; recording allocates nothing.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// The first ones: nanoseconds, and how often.
    points: Vec<(u64, u64)>,
    /// All others.
    rest: Histogram<u64>,
}

impl Gathered {
    fn preallocated() -> Self {
        Self { points: Vec::with_capacity(POINTS_MAX), rest: empty_histogram() }
    }

    /// Values beyond the range of all histograms count as its end.
    pub fn record_n(&mut self, ns: u64, times: u64) {
        if self.points.len() < POINTS_MAX {
            self.points.push((ns, times));
        } else {
            self.rest.saturating_record_n(ns, times);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    pub fn add_to(&self, all: &mut Histogram<u64>) {
        self.points.iter().for_each(|(ns, times)| all.saturating_record_n(*ns, *times));
        merge(all, &self.rest);
    }

    fn reset(&mut self) {
        self.points.clear();
        if !self.rest.is_empty() {
            self.rest.reset();
        }
    }
}

/// The three kinds, as in [`Latencies`].
#[derive(Clone, Debug)]
pub struct GatheredLatencies {
    pub response: Gathered,
    pub service: Gathered,
    pub lateness: Gathered,
}

impl GatheredLatencies {
    pub fn preallocated() -> Self {
        let [response, service, lateness] = [(); 3].map(|()| Gathered::preallocated());
        Self { response, service, lateness }
    }

    pub fn reset(&mut self) {
        [&mut self.response, &mut self.service, &mut self.lateness].into_iter().for_each(Gathered::reset);
    }

    /// Response times; without a rate nothing is due before it is sent, and they are the service times.
    pub fn response_or_service(&self) -> &Gathered {
        if self.response.is_empty() { &self.service } else { &self.response }
    }

    pub fn add_to(&self, all: &mut Latencies) {
        self.response_or_service().add_to(&mut all.response);
        self.service.add_to(&mut all.service);
        self.lateness.add_to(&mut all.lateness);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits;
    use proptest::prelude::*;

    proptest! {
        /// However many there are, they are what one histogram would have held, before and after they are emptied.
        #[test]
        fn nothing_is_lost_between_points_and_histogram(
            values in prop::collection::vec((0..2 * limits::LATENCY_NS_MAX, 1_u64..5), 0..3 * POINTS_MAX),
        ) {
            let mut gathered = Gathered::preallocated();
            for _ in 0..2 {
                let (mut wanted, mut sum) = (empty_histogram(), empty_histogram());
                for (ns, times) in &values {
                    gathered.record_n(*ns, *times);
                    wanted.saturating_record_n(*ns, *times);
                }
                prop_assert_eq!(gathered.is_empty(), values.is_empty());
                gathered.add_to(&mut sum);
                prop_assert_eq!(&sum, &wanted);
                gathered.reset();
            }
        }
    }

    #[test]
    fn without_a_rate_service_times_are_response_times() {
        let mut gathered = GatheredLatencies::preallocated();
        gathered.service.record_n(5_000, 3);
        let mut all = Latencies::new();
        gathered.add_to(&mut all);
        assert_eq!((all.response.len(), all.service.len(), all.lateness.len()), (3, 3, 0));
        gathered.response.record_n(9_000, 1);
        gathered.add_to(&mut all);
        assert_eq!((all.response.len(), all.response.count_at(9_000), all.service.len()), (4, 1, 6));
    }
}
