//! Which rate to try next: pure, knows no clock and no process.

/// How much less is tried after a rate that did not hold, while none is known to hold.
const BACK_OFF: f64 = 0.75;
/// What the first paced run is given of what a run without a rate reached.
const FIRST_SHARE: f64 = 0.9;
/// Confirmations that may fail before the search says that nothing holds for so long.
const CONFIRMATIONS_MAX: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Without a rate: what there is at most.
    Ceiling,
    Try(u64),
    Confirm(u64),
    Done(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Confirmed(u64),
    /// Held for a step each time, never for the whole confirmation.
    Unconfirmed(u64),
    /// Not even the least rate holds.
    Nothing,
}

#[derive(Clone, Debug)]
pub struct Search {
    min: u64,
    precision: f64,
    /// The highest rate that held, and the lowest that did not (or a bound that nothing exceeds).
    held: Option<u64>,
    failed: Option<u64>,
    next: Step,
    confirmations_failed: u32,
}

impl Search {
    /// `max`: no rate above it is tried; it is the first.
    pub fn new(min: u64, max: Option<u64>, precision: f64) -> Self {
        let next = max.map_or(Step::Ceiling, Step::Try);
        Self { min, precision, held: None, failed: None, next, confirmations_failed: 0 }
    }

    pub fn step(&self) -> Step {
        self.next
    }

    /// What became of the step: whether the rate held, and what was reached (of a run without a rate).
    pub fn note(&mut self, held: bool, reached: u64) {
        self.next = match self.next {
            Step::Ceiling => {
                self.failed = Some(reached.saturating_add(1));
                self.try_at_least((reached as f64 * FIRST_SHARE) as u64)
            }
            Step::Try(rate) => {
                if held {
                    self.held = Some(rate);
                } else {
                    self.failed = Some(rate);
                }
                self.narrow(rate, held)
            }
            Step::Confirm(rate) if held => Step::Done(Outcome::Confirmed(rate)),
            Step::Confirm(rate) => {
                self.confirmations_failed += 1;
                self.failed = Some(rate);
                let less = (rate as f64 * (1.0 - 2.0 * self.precision)) as u64;
                match self.confirmations_failed < CONFIRMATIONS_MAX && less >= self.min {
                    true => Step::Confirm(less),
                    false => Step::Done(self.held.map_or(Outcome::Nothing, Outcome::Unconfirmed)),
                }
            }
            done @ Step::Done(_) => done,
        };
    }

    fn narrow(&self, rate: u64, rate_held: bool) -> Step {
        let Some(low) = self.held else {
            if rate <= self.min {
                return Step::Done(Outcome::Nothing);
            }
            return self.try_at_least((rate as f64 * BACK_OFF) as u64);
        };
        // Without a bound above, `rate` was the highest that is allowed.
        let Some(high) = self.failed else { return Step::Confirm(low) };
        let close = (high - low) as f64 <= self.precision * high as f64;
        let middle = low + (high - low) / 2;
        if close || middle <= low || (rate_held && rate >= high) { Step::Confirm(low) } else { Step::Try(middle) }
    }

    fn try_at_least(&self, rate: u64) -> Step {
        Step::Try(rate.max(self.min))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Searches against a target that takes `capacity` in short runs and `lasting` in long ones.
    fn found(capacity: u64, lasting: u64, min: u64, max: Option<u64>, precision: f64) -> (Outcome, u32) {
        let mut search = Search::new(min, max, precision);
        for steps in 0..500 {
            match search.step() {
                Step::Ceiling => search.note(true, capacity),
                Step::Try(rate) => search.note(rate <= capacity, rate.min(capacity)),
                Step::Confirm(rate) => search.note(rate <= lasting, rate.min(lasting)),
                Step::Done(outcome) => return (outcome, steps),
            }
        }
        panic!("the search does not end");
    }

    proptest! {
        #[test]
        fn a_steady_capacity_is_found_within_the_precision(capacity in 10_000_000u64..20_000_000_000, max in 0u64..2) {
            let max = (max == 1).then_some(capacity.saturating_mul(3));
            let (outcome, steps) = found(capacity, capacity, 1_000_000, max, 0.02);
            let Outcome::Confirmed(rate) = outcome else { panic!("{outcome:?}") };
            prop_assert!(rate <= capacity && rate as f64 >= capacity as f64 * 0.97, "{rate} of {capacity}");
            prop_assert!(steps <= 16, "{steps} steps");
        }

        #[test]
        fn every_search_ends(
            capacity: u64, lasting: u64, min in 1u64..u64::MAX / 2, max: Option<u64>, percent in 1u32..50,
        ) {
            let max = max.map(|max| max.max(min));
            let (outcome, _) = found(capacity, lasting.min(capacity), min, max, f64::from(percent) / 100.0);
            if let Outcome::Confirmed(rate) | Outcome::Unconfirmed(rate) = outcome {
                prop_assert!(rate >= min && max.is_none_or(|max| rate <= max));
            }
        }
    }

    #[test]
    fn the_highest_rate_that_is_allowed_is_tried_first_and_confirmed() {
        assert_eq!(found(u64::MAX, u64::MAX, 1, Some(5_000), 0.02), (Outcome::Confirmed(5_000), 2));
    }

    #[test]
    fn what_does_not_last_is_not_called_sustainable() {
        let (outcome, _) = found(1_000_000_000, 950_000_000, 1_000_000, None, 0.02);
        let Outcome::Confirmed(rate) = outcome else { panic!("{outcome:?}") };
        assert!((900_000_000..=950_000_000).contains(&rate), "{rate}");
        assert!(matches!(found(1_000_000_000, 1_000, 1_000_000, None, 0.02).0, Outcome::Unconfirmed(_)));
        assert_eq!(found(500, 500, 1_000, None, 0.02).0, Outcome::Nothing);
    }
}
