//! The response times of late, as a live line and the lines of a log show them.

use crate::counters::gathered::GatheredLatencies;
use crate::counters::{Counts, Field};
use crate::observe::quantile::{empty_histogram, merge, response_quantile_ns, unconfirmed};
use hdrhistogram::Histogram;

/// What ended since the last look. Records without confirmation are slower than all others.
#[derive(Debug)]
pub struct Recent {
    response: Histogram<u64>,
    records_produced: u64,
    records_unconfirmed: u64,
}

/// The p99 of response times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum P99 {
    /// Nothing ended.
    #[default]
    Unknown,
    /// It falls among records without confirmation.
    Never,
    Ns(u64),
}

impl Default for Recent {
    fn default() -> Self {
        Self { response: empty_histogram(), records_produced: 0, records_unconfirmed: 0 }
    }
}

impl Recent {
    /// `ended`: how many records did, with and without confirmation.
    pub fn add(&mut self, latencies: &GatheredLatencies, ended: &Counts) {
        latencies.response_or_service().add_to(&mut self.response);
        self.records_produced += ended.get(Field::RecordsProduced);
        self.records_unconfirmed += unconfirmed(ended);
    }

    /// Adds what is here to `all`, and forgets it.
    pub fn move_to(&mut self, all: &mut Self) {
        merge(&mut all.response, &self.response);
        all.records_produced += self.records_produced;
        all.records_unconfirmed += self.records_unconfirmed;
        self.forget();
    }

    /// The p99 of what is here, which is then forgotten.
    pub fn take_p99(&mut self) -> P99 {
        let p99 = match self.response.is_empty() && self.records_unconfirmed == 0 {
            true => P99::Unknown,
            false => response_quantile_ns(&self.response, self.records_produced, self.records_unconfirmed, 990_000)
                .map_or(P99::Never, P99::Ns),
        };
        self.forget();
        p99
    }

    fn forget(&mut self) {
        self.response.reset();
        (self.records_produced, self.records_unconfirmed) = (0, 0);
    }
}

impl P99 {
    /// Where it is a number.
    pub fn ns(self) -> Option<u64> {
        match self {
            P99::Ns(ns) => Some(ns),
            P99::Unknown | P99::Never => None,
        }
    }
}
