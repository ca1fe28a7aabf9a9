//! Lend blocks to a peer on this host or copy them? Which of the two costs a core less differs between processors, by
//! up to a half either way, and between peers, so both are tried by turns, and tried again from time to time.

use super::Link;

/// Windows of each way in a trial.
const WINDOWS: usize = 5;
/// After so many of each, one way may have been better in all of them: more would only cost.
const ENOUGH_WINDOWS: usize = 3;
/// As long as so many windows a choice is kept: what the worse way costs in a trial is then below a hundredth.
const KEPT_WINDOWS: u64 = 1024;
/// Copying has to save more than what such a short look is off by.
const WORTH: f64 = 0.97;

/// See the module.
#[derive(Debug)]
pub struct LendOrCopy {
    window_bytes: u64,
    /// The way until `left` bytes have gone.
    lends: bool,
    left: u64,
    /// Processor time at the start of the window; `None`: what comes first shows nothing, its memory is not warm.
    began_ns: Option<u64>,
    lent_ns: [u64; WINDOWS],
    copied_ns: [u64; WINDOWS],
    /// Windows of the trial that are over.
    tried: usize,
}

impl LendOrCopy {
    /// For links of which one lends at least; `None`: none does.
    pub fn among<'a>(mut links: impl Iterator<Item = &'a Link>, window_bytes: u64) -> Option<Self> {
        links.any(Link::lends).then(|| Self::new(window_bytes))
    }

    /// A window is long beside what is unanswered when one way follows the other.
    pub fn new(window_bytes: u64) -> Self {
        let never = [0; WINDOWS];
        Self {
            window_bytes,
            lends: true,
            left: window_bytes,
            began_ns: None,
            lent_ns: never,
            copied_ns: never,
            tried: 0,
        }
    }

    pub fn lends(&self) -> bool {
        self.lends
    }

    /// So many bytes have gone the way that was chosen; true: from now on it may be the other one. `cpu_ns` tells the
    /// processor time of this core, and is asked at the end of a window only.
    pub fn sent(&mut self, bytes: u64, cpu_ns: impl FnOnce() -> u64) -> bool {
        self.left = self.left.saturating_sub(bytes);
        let is_over = self.left == 0;
        if is_over {
            self.turn(cpu_ns());
        }
        is_over
    }

    fn turn(&mut self, cpu_ns: u64) {
        if let Some(began_ns) = self.began_ns {
            let spent = if self.lends { &mut self.lent_ns } else { &mut self.copied_ns };
            spent[self.tried / 2] = cpu_ns.saturating_sub(began_ns);
            self.tried += 1;
        }
        match self.outcome() {
            None => {
                self.lends = self.tried.is_multiple_of(2);
                (self.began_ns, self.left) = (Some(cpu_ns), self.window_bytes);
            }
            Some(lends) => {
                self.lends = lends;
                (self.began_ns, self.left, self.tried) = (None, self.window_bytes * KEPT_WINDOWS, 0);
            }
        }
    }

    /// Which way the trial is for, if it is over.
    fn outcome(&mut self) -> Option<bool> {
        let each = self.tried / 2;
        if self.tried % 2 == 1 || each < ENOUGH_WINDOWS {
            return None;
        }
        let (lent, copied) = (&mut self.lent_ns[..each], &mut self.copied_ns[..each]);
        lent.sort_unstable();
        copied.sort_unstable();
        let copying_saves = |at: usize, lent_at: usize| (copied[at] as f64) < WORTH * lent[lent_at] as f64;
        let (always, ever) = (copying_saves(each - 1, 0), copying_saves(0, each - 1));
        (always == ever || each == WINDOWS).then(|| !copying_saves(each / 2, each / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: u64 = 1 << 20;
    const WINDOW_BYTES: u64 = 32 << 20;
    const KEPT_BYTES: u64 = WINDOW_BYTES * KEPT_WINDOWS;

    /// Sends so many bytes where a byte costs so much by either way; the share that was lent.
    fn lent(bytes: u64, lent_ns: u64, copied_ns: u64) -> f64 {
        let (mut choice, mut cpu_ns, mut lent) = (LendOrCopy::new(WINDOW_BYTES), 0, 0);
        for _ in 0..bytes / BLOCK {
            cpu_ns += BLOCK * if choice.lends() { lent_ns } else { copied_ns };
            lent += if choice.lends() { BLOCK } else { 0 };
            choice.sent(BLOCK, || cpu_ns);
        }
        lent as f64 / bytes as f64
    }

    #[test]
    fn what_costs_less_is_done_and_the_rest_is_tried() {
        let all = 4 * KEPT_BYTES;
        assert!(lent(all, 100, 90) < 0.02, "copying saves a tenth");
        assert!(lent(all, 90, 100) > 0.98, "lending saves a tenth");
        assert!(lent(all, 100, 100) > 0.98, "at the same cost batches are lent");
        assert!((0.0..1.0).contains(&lent(all, 100, 90)), "both ways are tried");
    }

    #[test]
    fn a_trial_is_short_where_all_of_it_says_the_same() {
        let copied =
            |bytes, lent_ns| ((1.0 - lent(bytes, lent_ns, 100)) * (bytes / WINDOW_BYTES) as f64).round() as usize;
        let trial_and_more = 100 * WINDOW_BYTES;
        assert_eq!(copied(trial_and_more, 80), ENOUGH_WINDOWS);
        assert_eq!(copied(trial_and_more, 100), ENOUGH_WINDOWS, "nothing is saved");
    }

    #[test]
    fn the_choice_follows_when_the_costs_change() {
        let mut choice = LendOrCopy::new(WINDOW_BYTES);
        let mut cpu_ns = 0;
        let mut send = |bytes: u64, lent_ns: u64| {
            for _ in 0..bytes / BLOCK {
                cpu_ns += BLOCK * if choice.lends() { lent_ns } else { 100 };
                choice.sent(BLOCK, || cpu_ns);
            }
            choice.lends()
        };
        let trial = (2 * WINDOWS as u64 + 1) * WINDOW_BYTES;
        assert!(!send(trial, 120));
        assert!(send(KEPT_BYTES + trial, 80));
    }

    proptest! {
        /// A few windows that something disturbed decide nothing.
        #[test]
        fn outliers_do_not_count(
            at in prop::collection::vec(0..2 * WINDOWS, 2), more in 2_u64..50, lent_ns in 80_u64..121,
        ) {
            let (mut choice, mut cpu_ns, mut window) = (LendOrCopy::new(WINDOW_BYTES), 0, 0);
            for block in 0..(2 * WINDOWS as u64 + 1) * (WINDOW_BYTES / BLOCK) {
                let lends = choice.lends();
                let disturbed = block >= WINDOW_BYTES / BLOCK && at.contains(&window);
                cpu_ns += BLOCK * if lends { lent_ns } else { 100 } * if disturbed { more } else { 1 };
                choice.sent(BLOCK, || cpu_ns);
                let over = (block + 1) % (WINDOW_BYTES / BLOCK) == 0;
                window += usize::from(over && block >= WINDOW_BYTES / BLOCK);
            }
            prop_assert_eq!(choice.lends(), lent_ns <= 103);
        }
    }
}
