//! A state that threads share; whoever waits for something in it is woken when it changes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub struct Guarded<T> {
    state: Mutex<T>,
    changed: Condvar,
}

impl<T> Guarded<T> {
    pub fn new(state: T) -> Self {
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// A thread that crashed has told of it in another way (`sys::threads::OnPanic`): the others go on.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes all who wait.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let out = change(&mut self.lock());
        self.changed.notify_all();
        out
    }

    /// Waits until `take` finds what it looks for; that it took it is a change.
    pub fn wait<R>(&self, mut take: impl FnMut(&mut T) -> Option<R>) -> R {
        let mut state = self.lock();
        let out = loop {
            match take(&mut state) {
                Some(out) => break out,
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state);
        self.changed.notify_all();
        out
    }

    /// Waits until that time, or until what it looks for is so; whether it is.
    pub fn wait_until(&self, time: Instant, mut is_so: impl FnMut(&T) -> bool) -> bool {
        let mut state = self.lock();
        loop {
            let left = time.saturating_duration_since(Instant::now());
            if is_so(&state) || left.is_zero() {
                return is_so(&state);
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_woken_by_a_change() {
        let numbers = Guarded::new(Vec::new());
        std::thread::scope(|scope| {
            let third = scope.spawn(|| numbers.wait(|all: &mut Vec<u32>| (all.len() == 3).then(|| all.remove(2))));
            (0..3).for_each(|number| numbers.change(|all| all.push(number)));
            assert_eq!(third.join().unwrap(), 2);
        });
        assert_eq!(numbers.change(|all| all.len()), 2);
    }

    #[test]
    fn what_one_takes_makes_room_for_another() {
        let room = Guarded::new(0);
        std::thread::scope(|scope| {
            let giver = scope.spawn(|| (0..9).for_each(|_| room.wait(|full| (*full == 0).then(|| *full = 1))));
            (0..9).for_each(|_| room.wait(|full| (*full == 1).then(|| *full = 0)));
            giver.join().unwrap();
        });
    }

    #[test]
    fn who_waits_for_a_time_is_woken_before_it() {
        let is_over = Guarded::new(false);
        let (now, far) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(3600));
        assert!(!is_over.wait_until(now, |is_over| *is_over));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| is_over.wait_until(far, |is_over| *is_over));
            is_over.change(|is_over| *is_over = true);
            assert!(waits.join().unwrap());
        });
    }

    #[test]
    fn a_crash_with_the_state_in_hand_stops_nobody_else() {
        let state = Guarded::new(1);
        std::thread::scope(|scope| {
            let crash = scope.spawn(|| state.change(|_| panic!("as asked")));
            assert!(crash.join().is_err());
        });
        assert_eq!(state.wait(|state| Some(*state)), 1);
    }
}
