//! How the requests of one lane were answered (HTTP), by status.

use crate::base::words::Words;
use std::collections::BTreeMap;

/// Statuses of refusals, or error codes, that are told one by one while a run goes on, and named in one sentence.
pub const REFUSED_STATUSES_MAX: usize = 8;
/// Those that an answer ends with are 200 to 599.
const STATUS_MIN: u16 = 200;
const STATUSES: usize = 400;

/// What a sink counts; once made, it never allocates.
#[derive(Clone, Debug)]
pub struct Answers {
    /// From the lowest status on.
    counts: Counts,
    refused: Vec<u16>,
    /// Of the 2xx refused by their body, for the measured part and for the warm-up; `None`: nobody looks.
    refused_by_body: Option<[u64; 2]>,
    first_body_refusal: Option<BodyRefusal>,
}

/// A 2xx refused by its body: its status, and the words that say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyRefusal {
    pub status: u16,
    pub words: Words,
}

/// Of so many keys in a row, for the measured part and for the warm-up.
#[derive(Clone, Debug)]
pub(super) struct Counts(Box<[[u64; 2]]>);

impl Counts {
    pub fn new(keys: usize) -> Self {
        Self(vec![[0; 2]; keys].into_boxed_slice())
    }

    pub fn add(&mut self, at: usize, warmup: bool) {
        self.0[at][usize::from(warmup)] += 1;
    }

    /// `keys`: what they are, from the first on.
    pub fn by_key<K: Ord>(&self, keys: impl Iterator<Item = K> + Clone) -> AnswerCounts<K> {
        let part = |warmup: bool| {
            let counts = keys.clone().zip(self.0.iter().map(|count| count[usize::from(warmup)]));
            counts.filter(|(_, count)| *count > 0).collect()
        };
        AnswerCounts { warm: part(true), measured: part(false) }
    }
}

/// The same once a lane has ended, without the statuses that never came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerCounts<K = u16> {
    pub warm: BTreeMap<K, u64>,
    pub measured: BTreeMap<K, u64>,
}

impl<K> AnswerCounts<K> {
    pub fn part(&self, warmup: bool) -> &BTreeMap<K, u64> {
        if warmup { &self.warm } else { &self.measured }
    }
}

impl Answers {
    /// `reads_bodies`: what those of 2xx say counts.
    pub fn of(reads_bodies: bool) -> Self {
        Self {
            counts: Counts::new(STATUSES),
            refused: Vec::with_capacity(REFUSED_STATUSES_MAX),
            refused_by_body: reads_bodies.then_some([0; 2]),
            first_body_refusal: None,
        }
    }

    /// An answer with this status came to a request of the warm-up or of the measured part.
    pub fn count(&mut self, status: u16, warmup: bool) {
        self.counts.add(usize::from(status - STATUS_MIN), warmup);
        let is_new = is_refusal(status) && !self.refused.contains(&status);
        if is_new && self.refused.len() < REFUSED_STATUSES_MAX {
            self.refused.push(status);
        }
    }

    /// A 2xx that was counted is refused by its body.
    pub fn count_refused_by_body(&mut self, refusal: BodyRefusal, warmup: bool) {
        if let Some(counts) = &mut self.refused_by_body {
            counts[usize::from(warmup)] += 1;
        }
        self.first_body_refusal.get_or_insert(refusal);
    }

    /// The first of those.
    pub fn first_body_refusal(&self) -> Option<&BodyRefusal> {
        self.first_body_refusal.as_ref()
    }

    /// How many there were, in the measured part and in the warm-up; `None`: nobody looked.
    pub fn refused_by_body(&self) -> Option<[u64; 2]> {
        self.refused_by_body
    }

    /// The statuses of the first refusals, in the order in which they came, each once.
    pub fn refused(&self) -> &[u16] {
        &self.refused
    }

    pub fn by_status(&self) -> AnswerCounts {
        self.counts.by_key(STATUS_MIN..)
    }
}

/// Anything but 2xx.
pub fn is_refusal(status: u16) -> bool {
    !matches!(status, 200..=299)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_counts_once_in_its_part() {
        let mut answers = Answers::of(false);
        for (status, warmup) in [(200, true), (599, false), (204, false), (204, false), (429, true), (599, false)] {
            answers.count(status, warmup);
        }
        let AnswerCounts { warm, measured } = answers.by_status();
        assert_eq!(warm, BTreeMap::from([(200, 1), (429, 1)]));
        assert_eq!(measured, BTreeMap::from([(204, 2), (599, 2)]));
        assert_eq!(answers.refused(), [599, 429]);
    }

    #[test]
    fn a_2xx_that_its_body_takes_back_counts_twice_and_is_told_once() {
        let refusal = |said: &[u8]| {
            let mut words = Words::default();
            words.add(said);
            BodyRefusal { status: 200, words }
        };
        let mut answers = Answers::of(true);
        for (said, warmup) in [(b"first", false), (b"other", true), (b"third", false)] {
            answers.count(200, warmup);
            answers.count_refused_by_body(refusal(said), warmup);
        }
        answers.count(200, false);
        assert_eq!(answers.by_status().measured, BTreeMap::from([(200, 3)]));
        assert_eq!((answers.refused_by_body(), answers.first_body_refusal()), (Some([2, 1]), Some(&refusal(b"first"))));
        assert!(answers.refused().is_empty(), "its status is none of a refusal");
        assert_eq!(Answers::of(false).refused_by_body(), None);
    }

    #[test]
    fn so_many_refusals_are_told_and_all_are_counted() {
        let mut answers = Answers::of(false);
        (400..420).for_each(|status| answers.count(status, false));
        assert_eq!(answers.refused(), Vec::from_iter(400..408));
        assert_eq!(answers.by_status().measured.len(), 20);
        assert_eq!(answers.refused.capacity(), REFUSED_STATUSES_MAX, "it never grew");
    }
}
