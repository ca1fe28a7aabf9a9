//! What brokers refused the batches of one lane with (Kafka), by error code.

use super::answers::{AnswerCounts, Counts, REFUSED_STATUSES_MAX};
use crate::base::words::Words;

/// Kafka's codes begin here, and it has half as many.
const CODE_MIN: i16 = -1;
const CODES: usize = 256;

/// A batch that was not taken: the error code, and what the broker said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: i16,
    pub words: Words,
}

/// What a sink counts; once made, it never allocates. What was taken is not in it.
#[derive(Clone, Debug)]
pub struct BrokerErrors {
    /// From the lowest code on. A code beyond them, which no broker has, counts as the last.
    counts: Counts,
    first: Vec<Refusal>,
}

impl Default for BrokerErrors {
    fn default() -> Self {
        Self { counts: Counts::new(CODES), first: Vec::with_capacity(REFUSED_STATUSES_MAX) }
    }
}

impl BrokerErrors {
    /// A batch of the warm-up or of the measured part was refused.
    pub fn count(&mut self, code: i16, warmup: bool) {
        let at = usize::try_from(i32::from(code) - i32::from(CODE_MIN)).unwrap_or(CODES).min(CODES - 1);
        self.counts.add(at, warmup);
    }

    /// That one is to be told, if it is among the first.
    pub fn tell(&mut self, refusal: &Refusal) {
        let is_new = self.first.iter().all(|told| told.code != refusal.code);
        if is_new && self.first.len() < REFUSED_STATUSES_MAX {
            self.first.push(*refusal);
        }
    }

    /// The first refusals that are to be told, in the order in which they came, of each code one.
    pub fn first(&self) -> &[Refusal] {
        &self.first
    }

    pub fn by_code(&self) -> AnswerCounts<i16> {
        self.counts.by_key(CODE_MIN..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn refusal(code: i16, said: &str) -> Refusal {
        let mut words = Words::default();
        words.add(said.as_bytes());
        Refusal { code, words }
    }

    #[test]
    fn each_refusal_counts_once_in_its_part() {
        let mut errors = BrokerErrors::default();
        for (code, warmup) in [(-1, false), (19, true), (87, false), (19, false), (19, false), (254, false)] {
            errors.count(code, warmup);
        }
        let AnswerCounts { warm, measured } = errors.by_code();
        assert_eq!(warm, BTreeMap::from([(19, 1)]));
        assert_eq!(measured, BTreeMap::from([(-1, 1), (19, 2), (87, 1), (254, 1)]));
        for beyond in [i16::MIN, -2, 255, i16::MAX] {
            errors.count(beyond, false);
        }
        assert_eq!(errors.by_code().measured[&254], 5, "codes that no broker has");
    }

    #[test]
    fn the_first_words_of_each_code_are_kept_for_so_many_codes() {
        let mut errors = BrokerErrors::default();
        for said in ["first", "second"] {
            (1..=20).for_each(|code| errors.tell(&refusal(code, said)));
        }
        let first: Vec<_> = (1..=REFUSED_STATUSES_MAX as i16).map(|code| refusal(code, "first")).collect();
        assert_eq!(errors.first(), first);
        assert_eq!(errors.by_code(), AnswerCounts::default(), "what is told is counted apart");
        assert_eq!(errors.first.capacity(), REFUSED_STATUSES_MAX, "it never grew");
    }
}
