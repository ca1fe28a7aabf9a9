//! Which rate to try next: pure, knows no clock and no process.
//!
//! Chance only makes a run come out too low: cold files, a busy neighbour, a target that collapses under too much. So
//! what a run reaches bounds nothing, the most that any reached is where to look, and the rate below which the search
//! ends was tried twice.

use crate::base::limits;

/// What is tried of a rate that did not hold, while none is known to hold: so much, then each time the square of it.
const BACK_OFF: f64 = 0.75;
/// No more than this of what was reached, where what was tried is far from it.
const FIRST_SHARE: f64 = 0.9;
/// How much more is tried where nothing failed yet: so much, then each time twice that, up to double the rate.
const CLIMB_FIRST: f64 = 0.1;
/// So many times: far beyond any first run that came out too low.
const CLIMBS_MAX: u32 = 16;
/// Confirmations that may fail before the search says that nothing holds for so long.
const CONFIRMATIONS_MAX: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Without a rate: about what there is at most.
    Ceiling,
    Try(u64),
    Confirm(u64),
    Done(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Confirmed(u64),
    /// It held for a step, but neither it nor what was tried below it for a whole confirmation.
    Unconfirmed(u64),
    /// Not even the least rate holds.
    Nothing,
}

#[derive(Clone, Debug)]
pub struct Search {
    min: u64,
    max: u64,
    precision: f64,
    /// The most that a run without a rate, or at one that did not hold, has reached; 0: there was none.
    estimate: u64,
    /// Rates that held for a step, each higher than the one before.
    held: Vec<u64>,
    /// Rates above them that did not, each lower than the one before.
    failed: Vec<u64>,
    /// One of them was tried a second time.
    asked_again: bool,
    back_off: f64,
    climbs: u32,
    climb_share: f64,
    next: Step,
    confirmations_failed: u32,
    /// Where to look for a rate that lasts: the most that a failed confirmation reached. What is higher than the rate
    /// of a later one that failed as well is forgotten: it would not last either. 0: none has failed.
    confirm_estimate: u64,
}

impl Search {
    /// `max`: no rate above it is tried; it is the first.
    pub fn new(min: u64, max: Option<u64>, precision: f64) -> Self {
        Self {
            min,
            max: max.unwrap_or(limits::RATE_MAX),
            precision,
            estimate: 0,
            held: Vec::new(),
            failed: Vec::new(),
            asked_again: false,
            back_off: BACK_OFF,
            climbs: 0,
            climb_share: CLIMB_FIRST,
            next: max.map_or(Step::Ceiling, Step::Try),
            confirmations_failed: 0,
            confirm_estimate: 0,
        }
    }

    pub fn step(&self) -> Step {
        self.next
    }

    /// What became of the step: whether the rate held, and what was reached.
    pub fn note(&mut self, held: bool, reached: u64) {
        self.next = match self.next {
            Step::Ceiling => {
                self.estimate = reached;
                self.try_at_least(reached as f64 * FIRST_SHARE)
            }
            Step::Try(rate) if held => self.rise(rate),
            Step::Try(rate) => self.fall(rate, reached),
            Step::Confirm(rate) if held => Step::Done(Outcome::Confirmed(rate)),
            Step::Confirm(rate) => self.confirm_less(rate, reached),
            done @ Step::Done(_) => done,
        };
    }

    fn rise(&mut self, rate: u64) -> Step {
        // That of the least rate was not the one above.
        self.asked_again &= !self.held.is_empty();
        self.held.push(rate);
        // If it failed before, that was chance.
        self.failed.retain(|failed| *failed > rate);
        self.narrow(rate)
    }

    fn fall(&mut self, rate: u64, reached: u64) -> Step {
        self.estimate = self.estimate.max(reached);
        if self.failed.last() != Some(&rate) {
            self.failed.push(rate);
        }
        match self.held.last().copied() {
            Some(low) => self.narrow(low),
            None if rate <= self.min && self.asked_again => Step::Done(Outcome::Nothing),
            None if rate <= self.min => {
                self.asked_again = true;
                Step::Try(rate)
            }
            None => {
                let less = (rate as f64 * self.back_off).min(self.estimate as f64 * FIRST_SHARE);
                self.back_off *= self.back_off;
                self.try_at_least(less)
            }
        }
    }

    /// Chance may cost one confirmation. From the second that fails on, what they reached is where to look: a target
    /// may tire to far less than it takes for a step.
    fn confirm_less(&mut self, rate: u64, reached: u64) -> Step {
        self.confirmations_failed += 1;
        let before = if self.confirm_estimate <= rate { self.confirm_estimate } else { 0 };
        self.confirm_estimate = before.max(reached);
        let mut less = self.below(rate);
        if self.confirmations_failed > 1 && less > self.confirm_estimate {
            less = ((self.confirm_estimate as f64 * FIRST_SHARE) as u64).max(self.min);
        }
        match self.confirmations_failed < CONFIRMATIONS_MAX && less < rate {
            true => Step::Confirm(less),
            false => Step::Done(self.held.last().map_or(Outcome::Nothing, |held| Outcome::Unconfirmed(*held))),
        }
    }

    /// Below a rate that did not last: the next that held for a step, or two precisions less where none is as near.
    fn below(&self, rate: u64) -> u64 {
        let held = self.held.iter().rev().find(|held| **held < rate).copied().unwrap_or(0);
        let less = (rate as f64 * (1.0 - 2.0 * self.precision)) as u64;
        held.max(less).max(self.min)
    }

    /// Between the highest rate that held and the lowest that did not. When these are close, the latter has a second
    /// chance before anything is confirmed.
    fn narrow(&mut self, low: u64) -> Step {
        let more = self.above(low);
        let Some(&high) = self.failed.last() else { return self.climb(low, more) };
        let middle = low + (high - low) / 2;
        let close = (high - low) as f64 <= self.precision * high as f64;
        if !close && middle > low {
            return Step::Try(middle.min(more));
        }
        if self.asked_again {
            return Step::Confirm(low);
        }
        self.asked_again = true;
        Step::Try(high)
    }

    /// Just above the estimate a steady target has had enough; any other is followed.
    fn above(&mut self, low: u64) -> u64 {
        if self.estimate > low {
            return (self.estimate as f64 * (1.0 + self.precision)) as u64;
        }
        let more = ((low as f64 * self.climb_share) as u64).max(1);
        self.climb_share = (2.0 * self.climb_share).min(1.0);
        low.saturating_add(more)
    }

    /// Nothing failed above `low`.
    fn climb(&mut self, low: u64, more: u64) -> Step {
        self.climbs += 1;
        let more = more.min(self.max);
        if more > low && self.climbs <= CLIMBS_MAX { Step::Try(more) } else { Step::Confirm(low) }
    }

    /// What is as good as the least rate is the least rate: nothing between the two is worth a run.
    fn try_at_least(&self, rate: f64) -> Step {
        let is_least = rate <= self.min as f64 * (1.0 + self.precision);
        Step::Try(if is_least { self.min } else { (rate as u64).min(self.max).max(self.min) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Searches a target: `run` says of each step, and of the number of runs before it, whether it holds and what it
    /// reaches.
    fn searched(mut search: Search, mut run: impl FnMut(u32, Step) -> (bool, u64)) -> (Outcome, u32) {
        for steps in 0..500 {
            let step = search.step();
            if let Step::Done(outcome) = step {
                return (outcome, steps);
            }
            let (held, reached) = run(steps, step);
            search.note(held, reached);
        }
        panic!("the search does not end");
    }

    /// A run against a target that takes so much, and no more.
    fn of(capacity: u64, step: Step) -> (bool, u64) {
        match step {
            Step::Try(rate) | Step::Confirm(rate) => (rate <= capacity, rate.min(capacity)),
            Step::Ceiling | Step::Done(_) => (true, capacity),
        }
    }

    /// A run against a target that takes `capacity` in short runs and `lasting` in long ones.
    fn tiring(capacity: u64, lasting: u64, step: Step) -> (bool, u64) {
        of(if matches!(step, Step::Confirm(_)) { lasting } else { capacity }, step)
    }

    fn found(capacity: u64, lasting: u64, min: u64, max: Option<u64>, precision: f64) -> (Outcome, u32) {
        searched(Search::new(min, max, precision), |_, step| tiring(capacity, lasting, step))
    }

    /// All steps of a search, each with whether it held.
    fn steps_of(search: Search, mut run: impl FnMut(Step) -> (bool, u64)) -> Vec<(Step, bool)> {
        let mut steps = Vec::new();
        searched(search, |_, step| {
            let (held, reached) = run(step);
            steps.push((step, held));
            (held, reached)
        });
        steps
    }

    fn part(of: u64, share: f64) -> u64 {
        (of as f64 * share) as u64
    }

    #[test]
    fn the_least_rate_has_a_second_chance() {
        let search = Search::new(500, Some(500), 0.02);
        let disturbed_once = |nth: u32, step| if nth == 0 { (false, 400) } else { of(1_000, step) };
        assert_eq!(searched(search, disturbed_once).0, Outcome::Confirmed(500));
    }

    #[test]
    fn no_rate_is_tried_more_often_on_the_way_to_the_least_one() {
        let steps = steps_of(Search::new(1_000_000, Some(10_000_000), 0.02), |step| match step {
            Step::Try(rate) => (false, rate),
            other => panic!("{other:?}"),
        });
        let rates = [10_000_000, 7_500_000, 4_218_750, 1_334_838, 1_000_000, 1_000_000];
        assert_eq!(steps, rates.map(|rate| (Step::Try(rate), false)));
    }

    #[test]
    fn after_a_bound_far_too_high_comes_what_was_reached() {
        let search = Search::new(100_000, Some(1_000_000_000), 0.02);
        let steps = steps_of(search, |step| of(770_000, step));
        assert_eq!(steps[1], (Step::Try(693_000), true));
        assert_eq!((steps.len(), steps[7]), (8, (Step::Confirm(762_300), true)), "{steps:?}");
    }

    #[test]
    fn after_a_failed_confirmation_comes_the_next_rate_that_held() {
        let steps = steps_of(Search::new(1_000_000, None, 0.1), |step| tiring(24_500_000, 23_000_000, step));
        let last = [(Step::Confirm(24_500_000), false), (Step::Confirm(22_050_000), true)];
        assert!(steps.contains(&(Step::Try(22_050_000), true)) && steps.ends_with(&last), "{steps:?}");
    }

    /// It takes 2 GB/s for 10 s, until a cache is full or its credits are spent, then 1 GB/s. A confirmation has 30 s.
    #[test]
    fn confirmations_follow_what_they_reached() {
        let steps = steps_of(Search::new(1_000_000, None, 0.02), |step| {
            let Step::Confirm(rate) = step else { return of(2_000_000_000, step) };
            let reached = rate / 3 + rate.min(1_000_000_000) / 3 * 2;
            (reached >= part(rate, 0.995), reached)
        });
        let confirmed: Vec<_> = steps.iter().filter(|(step, _)| matches!(step, Step::Confirm(_))).collect();
        assert_eq!(confirmed.len(), 4, "{steps:?}");
        let lasted = |rate: u64| (950_000_000..=1_000_000_000).contains(&rate);
        assert!(matches!(confirmed[3], (Step::Confirm(rate), true) if lasted(*rate)), "{steps:?}");
    }

    proptest! {
        #[test]
        fn a_steady_capacity_is_found_within_the_precision(
            capacity in 10_000_000u64..20_000_000_000, over in 1.01f64..1000.0, bounded: bool,
        ) {
            let max = bounded.then_some(part(capacity, over));
            let (outcome, steps) = found(capacity, capacity, 1_000_000, max, 0.02);
            let Outcome::Confirmed(rate) = outcome else { panic!("{outcome:?}") };
            prop_assert!(rate <= capacity && rate as f64 >= capacity as f64 * 0.97, "{rate} of {capacity}");
            prop_assert!(steps <= 10, "{steps} steps");
        }

        #[test]
        fn the_first_failed_confirmation_skips_no_rate_that_held(
            capacity in 10_000_000u64..20_000_000_000, lasting in 0.5f64..1.0, percent in 1u32..30, bounded: bool,
        ) {
            let max = bounded.then_some(3 * capacity);
            let precision = f64::from(percent) / 100.0;
            let steps = steps_of(Search::new(1_000_000, max, precision), |step| {
                tiring(capacity, part(capacity, lasting), step)
            });
            let rates = |pick: fn(&(Step, bool)) -> Option<u64>| steps.iter().filter_map(pick).collect::<Vec<u64>>();
            let held = rates(|step| if let (Step::Try(rate), true) = *step { Some(rate) } else { None });
            let confirmed = rates(|step| if let (Step::Confirm(rate), _) = *step { Some(rate) } else { None });
            prop_assert!(confirmed.is_sorted_by(|high, low| high > low), "{steps:?}");
            if let [high, low, ..] = confirmed[..] {
                prop_assert!(!held.iter().any(|rate| low < *rate && *rate < high), "{steps:?}");
                prop_assert!(low >= part(high, 1.0 - 2.0 * precision), "{steps:?}");
            }
        }

        /// Whatever comes of the runs: one second try of the least rate, one of the lowest that did not hold.
        #[test]
        fn no_two_tries_are_alike_but_for_the_second_ones(
            max in 10_000_000u64..20_000_000_000, bounded: bool,
            chances in prop::collection::vec(any::<(bool, u8)>(), 500),
        ) {
            let mut tried = Vec::new();
            searched(Search::new(1_000_000, bounded.then_some(max), 0.02), |at, step| {
                let (held, share) = chances[at as usize];
                let (Step::Try(rate) | Step::Confirm(rate)) = step else { return (held, max) };
                if let Step::Try(rate) = step {
                    tried.push(rate);
                }
                (held, part(rate, f64::from(share) / 256.0))
            });
            tried.sort_unstable();
            let again = tried.windows(2).filter(|pair| pair[0] == pair[1]).count();
            prop_assert!(again <= 2 && tried.windows(3).all(|three| three[0] < three[2]), "{tried:?}");
            let near = |pair: &[u64]| pair[0] != pair[1] && pair[0] as f64 > 0.996 * pair[1] as f64;
            prop_assert!(!tried.windows(2).any(near), "{tried:?}");
        }

        /// The first run finds unwritten extents, or is answered with 503 for all that is too much.
        #[test]
        fn a_first_run_that_is_cold_or_collapses_bounds_nothing(
            capacity in 10_000_000u64..20_000_000_000, share in 0.01f64..1.0, lost: bool,
        ) {
            let (outcome, steps) = searched(Search::new(1_000_000, None, 0.02), |_, step| match step {
                Step::Ceiling => (!lost, part(capacity, share)),
                _ => of(capacity, step),
            });
            let Outcome::Confirmed(rate) = outcome else { panic!("{outcome:?}") };
            prop_assert!(rate <= capacity && rate >= part(capacity, 0.97), "{rate} of {capacity}");
            prop_assert!(steps <= 24, "{steps} steps");
        }

        /// Whichever run it is. One that fails to confirm costs two precisions.
        #[test]
        fn one_run_that_comes_out_low_costs_little(
            capacity in 10_000_000u64..20_000_000_000, noisy in 0u32..20, share in 0.05f64..0.95, bounded: bool,
        ) {
            let max = bounded.then_some(3 * capacity);
            let (outcome, steps) = searched(Search::new(100_000, max, 0.02), |at, step| {
                of(if at == noisy { part(capacity, share) } else { capacity }, step)
            });
            let Outcome::Confirmed(rate) = outcome else { panic!("{outcome:?}") };
            prop_assert!(rate <= capacity && rate >= part(capacity, 0.93), "{rate} of {capacity}");
            prop_assert!(steps <= 24, "{steps} steps");
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
    fn a_first_run_at_half_of_the_capacity_is_overtaken() {
        let mut tried = Vec::new();
        let (outcome, _) = searched(Search::new(1_000_000, None, 0.02), |_, step| {
            tried.push(step);
            if step == Step::Ceiling { (true, 1_000_000_000) } else { of(2_000_000_000, step) }
        });
        assert_eq!(
            tried[..4],
            [Step::Ceiling, Step::Try(900_000_000), Step::Try(1_020_000_000), Step::Try(1_122_000_000)]
        );
        let Outcome::Confirmed(rate) = outcome else { panic!("{outcome:?}") };
        assert!((1_940_000_000..=2_000_000_000).contains(&rate), "{rate}");
    }

    #[test]
    fn a_target_without_an_end_ends_the_search() {
        let endless = |_: u32, step: Step| if step == Step::Ceiling { (false, 1_000_000) } else { (true, 0) };
        let (outcome, steps) = searched(Search::new(1, None, 0.02), endless);
        assert!(matches!(outcome, Outcome::Confirmed(rate) if rate > 1_000_000_000), "{outcome:?}");
        assert!(steps <= CLIMBS_MAX + 4, "{steps} steps");
    }

    #[test]
    fn the_highest_rate_that_is_allowed_is_tried_first_and_confirmed() {
        assert_eq!(found(u64::MAX, u64::MAX, 1, Some(5_000), 0.02), (Outcome::Confirmed(5_000), 2));
        // It failed once, by chance.
        let once = |at: u32, step: Step| if at == 0 { (false, 0) } else { of(u64::MAX, step) };
        assert_eq!(searched(Search::new(1, Some(5_000), 0.02), once).0, Outcome::Confirmed(5_000));
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
