//! Requests that wait for their next attempt.

use super::delivery::Delivery;
use std::collections::VecDeque;

/// In the order in which they failed.
pub struct Waiting {
    all: VecDeque<Delivery>,
    /// Nothing is due before: who asks earlier need not look at thousands that a server put off.
    due_ns: u64,
}

impl Waiting {
    /// Allocates here alone, for so many.
    pub fn new(most: usize) -> Self {
        Self { all: VecDeque::with_capacity(most), due_ns: u64::MAX }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Delivery> {
        self.all.iter()
    }

    pub fn push(&mut self, delivery: Delivery) {
        self.due_ns = self.due_ns.min(delivery.not_before_ns);
        self.all.push_back(delivery);
    }

    /// The first one that has been due for `overdue_ns`.
    pub fn take_due(&mut self, now_ns: u64, overdue_ns: u64) -> Option<Delivery> {
        let is_due = |not_before_ns: u64| not_before_ns.saturating_add(overdue_ns) <= now_ns;
        if !is_due(self.due_ns) {
            return None;
        }
        let at = self.all.iter().position(|delivery| is_due(delivery.not_before_ns));
        if at.is_none() {
            self.due_ns = self.all.iter().map(|delivery| delivery.not_before_ns).min().unwrap_or(u64::MAX);
        }
        self.all.remove(at?)
    }

    /// Gives up what is not due before `end_ns`.
    pub fn give_up_from(&mut self, end_ns: u64, mut given_up: impl FnMut(&Delivery)) {
        self.all.retain(|delivery| {
            let in_time = delivery.not_before_ns < end_ns;
            if !in_time {
                given_up(delivery);
            }
            in_time
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(due_ns: &[u64]) -> Waiting {
        let mut waiting = Waiting::new(due_ns.len());
        for (slot, not_before_ns) in (0..).zip(due_ns) {
            waiting.push(Delivery { not_before_ns: *not_before_ns, ..Delivery::new(slot, false) });
        }
        waiting
    }

    #[test]
    fn what_failed_first_goes_first_of_what_is_due() {
        let mut waiting = waiting(&[300, 100, 200]);
        let mut at = |now_ns, overdue_ns| waiting.take_due(now_ns, overdue_ns).map(|delivery| delivery.slot);
        assert_eq!((at(99, 0), at(149, 50), at(150, 50)), (None, None, Some(1)));
        assert_eq!((at(199, 0), at(300, 0), at(300, 0), at(u64::MAX, 0)), (None, Some(0), Some(2), None));
    }

    #[test]
    fn nobody_looks_again_before_the_next_one_is_due() {
        let mut waiting = waiting(&[100, 500]);
        assert!(waiting.take_due(100, 0).is_some() && waiting.take_due(101, 0).is_none());
        assert_eq!(waiting.due_ns, 500);
        waiting.push(Delivery { not_before_ns: 400, ..Delivery::new(9, false) });
        assert_eq!((waiting.due_ns, waiting.take_due(400, 0).map(|delivery| delivery.slot)), (400, Some(9)));
    }

    #[test]
    fn what_would_be_late_is_given_up() {
        let mut waiting = waiting(&[100, 200, 300]);
        let mut slots = Vec::new();
        waiting.give_up_from(200, |delivery| slots.push(delivery.slot));
        assert_eq!((slots, waiting.iter().count(), waiting.is_empty()), (vec![1, 2], 1, false));
    }
}
