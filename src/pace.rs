//! The pacer: a pure valve. Integers in, integers out; it never reads a clock and never sleeps.
//!
//! A schedule is a list of phases, each with its own zero. Within a paced phase every *byte position* `b` has
//! an absolute due time, `zero + floor(b × 10⁹ × weight / logical rate)`, and a record is due when its first
//! byte is. Nothing is accumulated, so neither the polling pattern nor rounding can move a due time. A record
//! that begins before its phase's end belongs to that phase, though its bytes may pass the phase's last position.
//!
//! All times are nanoseconds since the start barrier, all counts are wire bytes.

use crate::base::limits;
use crate::plan::{PhaseShare, Schedule, WireRate};

/// How exactly a loop that nothing holds up keeps a due time.
pub const PUNCTUAL_NS: u64 = 5_000;
/// A record that goes out this much later than it had to, with what the loop itself kept it for allowed, was held up
/// by a stall.
const LATE_NS: u64 = 1_000_000;

/// How long what is due may wait to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// What fell due longer ago has expired...
    pub catch_up_ns: u64,
    /// ...unless the loop itself keeps it: a partial block waits for more so long, or until so many bytes could have
    /// fallen due.
    pub linger_ns: u64,
    pub block_bytes: u64,
}

/// Nanoseconds a byte as 32.32 fixed point, rounded down; 0 where all bytes of a grant are due at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread(u64);

impl Spread {
    fn of(rate: Rate) -> Self {
        // Below a quarter of a byte a second this saturates: such due times then come out early, never late.
        let fixed = rate.ns.checked_mul(1 << 32).map_or(u128::MAX, |ns| ns / u128::from(rate.bytes.max(1)));
        Self(u64::try_from(fixed).unwrap_or(u64::MAX))
    }

    /// How much later than a grant's first byte the byte `bytes` positions on is due, in nanoseconds. At most
    /// 2 ns before its exact due time within 4 GiB, and never after it.
    #[inline]
    pub fn offset_ns(self, bytes: u64) -> u64 {
        u64::try_from((u128::from(bytes) * u128::from(self.0)) >> 32).unwrap_or(u64::MAX)
    }
}

/// What may be sent now, all of one phase (and of one burst cycle).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Due positions from the current one on: an extent may go whose every record's first byte lies below this.
    /// 0: nothing; `u64::MAX`: as much as the target takes.
    pub budget_bytes: u64,
    /// Positions from the current one on, due or not, that can share an extent with it: behind them nothing can join
    /// it.
    pub left_bytes: u64,
    /// When the byte at the current position fell due; with a budget of 0, when it will.
    pub first_due_ns: u64,
    pub spread: Spread,
    /// A partial block waits for more until its first record has been due so long.
    pub hold_max_ns: u64,
    /// Records sent later than this after they were due are catch-up.
    pub late_after_ns: u64,
    pub warmup: bool,
    pub weight: u64,
    /// Whether the phase has a rate; without one `first_due_ns` is simply the present.
    pub paced: bool,
}

/// One producer's valve. Uses no heap after `new`.
#[derive(Clone, Debug)]
pub struct Pacer {
    phases: Box<[Phase]>,
    /// The phase that the next record belongs to; one past the last when nothing is left.
    at: usize,
    /// Position in that phase.
    position: u64,
    /// When that position falls due, and where the stretch of positions ends that can share a grant with it.
    position_due_ns: u64,
    stretch_end: u64,
}

impl Pacer {
    /// `stagger_ns` shifts the steady phases, each within its own end.
    pub fn new(schedule: &[PhaseShare], stagger_ns: u64, patience: Patience) -> Self {
        let mut start_ns = 0;
        let phases = schedule.iter().map(|share| {
            let phase = Phase::new(share, start_ns, stagger_ns, patience);
            start_ns = phase.end_ns;
            phase
        });
        let phases = phases.collect();
        let mut pacer = Self { phases, at: 0, position: 0, position_due_ns: 0, stretch_end: 0 };
        pacer.enter(0, 0);
        pacer
    }

    /// What is due at `now_ns`, not yet taken and allowed to go, in the oldest phase that has such.
    #[inline]
    pub fn grant(&mut self, now_ns: u64) -> Grant {
        self.settle(now_ns);
        let mut grant = self.due_in_phase(now_ns);
        if grant.budget_bytes > 0 && !self.phases[self.at].is_open(now_ns) {
            grant.budget_bytes = 0;
        }
        grant
    }

    /// As `grant`, but whether or not a burst window is open: for the books, and for what expires between windows.
    pub fn due(&mut self, now_ns: u64) -> Grant {
        self.settle(now_ns);
        self.due_in_phase(now_ns)
    }

    /// Counts `bytes` as submitted: whole records, the first of which was due.
    #[inline]
    pub fn take(&mut self, bytes: u64) {
        self.enter(self.at, self.position.saturating_add(bytes));
    }

    /// Counts `bytes` as given up: whole records that will never be submitted.
    #[inline]
    pub fn skip(&mut self, bytes: u64) {
        self.take(bytes);
    }

    /// How many positions from the current one on, in its phase, fell due too long ago to be sent. What is left of a
    /// warm-up expires soon after its end, whatever the catch-up: what is measured would wait behind it.
    pub fn expired_bytes(&mut self, now_ns: u64) -> u64 {
        self.settle(now_ns);
        let Some(phase) = self.phases.get(self.at) else { return 0 };
        if phase.warmup && now_ns >= phase.end_ns.saturating_add(limits::FINISH_GRACE_NS) {
            return phase.positions.saturating_sub(self.position);
        }
        match now_ns.checked_sub(phase.waits.expires_ns) {
            Some(oldest_ns) if self.position_due_ns < oldest_ns => {
                phase.due_positions(oldest_ns - 1).saturating_sub(self.position)
            }
            _ => 0,
        }
    }

    /// When a grant will next hold something: at or before `now_ns` if one does already, `None` if none ever
    /// will. A phase can still have time to run after its last record; see `ends_at_ns`.
    pub fn next_due_ns(&self, now_ns: u64) -> Option<u64> {
        let current = self.phases.get(self.at)?;
        if current.rate.is_some() {
            let (due_ns, end_ns) = (self.position_due_ns, current.end_ns);
            let sent_ns = current.opens_ns(due_ns.max(now_ns)).min(end_ns.max(now_ns));
            let next_ns = if sent_ns <= now_ns { due_ns } else { sent_ns };
            return (due_ns < u64::MAX).then_some(next_ns);
        }
        self.phases[self.at..].iter().find_map(|phase| phase.first_chance_ns(now_ns))
    }

    /// Whether every phase is over at `now_ns` and nothing due is left.
    pub fn ended(&self, now_ns: u64) -> bool {
        now_ns >= self.ends_at_ns() && self.phases.iter().skip(self.at).all(|phase| phase.positions == 0)
    }

    /// End of the last phase; `u64::MAX` if it is open.
    pub fn ends_at_ns(&self) -> u64 {
        self.phases.last().map_or(0, |phase| phase.end_ns)
    }

    /// Positions due by `now_ns` and not taken, for each phase that has begun; true: it is a warm-up. Positions, not
    /// bytes of records: to count records exactly, walk them with `due` and `skip`.
    pub fn backlog_by_phase(&self, now_ns: u64) -> impl Iterator<Item = (bool, u64)> + '_ {
        let begun = self.phases.iter().enumerate().skip(self.at).take_while(move |(_, phase)| phase.start_ns <= now_ns);
        begun.map(move |(at, phase)| {
            let taken = if at == self.at { self.position } else { 0 };
            (phase.warmup, phase.due_positions(now_ns).saturating_sub(taken))
        })
    }

    /// Leaves phases without a rate when their time is over; those with one are left by `enter`.
    #[inline]
    fn settle(&mut self, now_ns: u64) {
        while self.phases.get(self.at).is_some_and(|phase| phase.rate.is_none() && now_ns >= phase.end_ns) {
            self.enter(self.at + 1, 0);
        }
    }

    /// Moves to `position` of the phase `at`, or to the next phase that has such a position.
    fn enter(&mut self, mut at: usize, mut position: u64) {
        while self.phases.get(at).is_some_and(|phase| phase.rate.is_some() && position >= phase.positions) {
            (at, position) = (at + 1, 0);
        }
        (self.at, self.position) = (at, position);
        (self.position_due_ns, self.stretch_end) = match self.phases.get(at) {
            Some(phase) => phase.stretch_at(position),
            None => (u64::MAX, 0),
        };
    }

    #[inline]
    fn due_in_phase(&self, now_ns: u64) -> Grant {
        let Some(phase) = self.phases.get(self.at) else { return self.nothing() };
        let paced = phase.rate.is_some();
        let (budget_bytes, first_due_ns) = match (paced, now_ns >= self.position_due_ns) {
            (false, true) => (u64::MAX, now_ns),
            (true, true) => {
                let due = phase.due_positions(now_ns).min(self.stretch_end);
                (due.saturating_sub(self.position), self.position_due_ns)
            }
            (_, false) => (0, self.position_due_ns),
        };
        let left_bytes = self.stretch_end.saturating_sub(self.position);
        let Waits { hold_max_ns, late_after_ns, .. } = phase.waits;
        let (spread, warmup, weight) = (phase.spread, phase.warmup, phase.weight);
        Grant { budget_bytes, left_bytes, first_due_ns, spread, hold_max_ns, late_after_ns, warmup, weight, paced }
    }

    /// After the last record of the last phase.
    fn nothing(&self) -> Grant {
        let (warmup, weight) = self.phases.last().map_or((false, 1), |phase| (phase.warmup, phase.weight));
        let (budget_bytes, left_bytes, first_due_ns) = (0, 0, u64::MAX);
        let (spread, hold_max_ns, late_after_ns, paced) = (Spread(0), 0, 0, true);
        Grant { budget_bytes, left_bytes, first_due_ns, spread, hold_max_ns, late_after_ns, warmup, weight, paced }
    }
}

/// Wire bytes in so many nanoseconds: `WireRate` without units that need converting.
#[derive(Clone, Copy, Debug)]
struct Rate {
    bytes: u64,
    ns: u128,
}

impl Rate {
    fn new(rate: WireRate) -> Self {
        Self { bytes: rate.logical_bytes_per_second, ns: 1_000_000_000 * u128::from(rate.weight.max(1)) }
    }

    /// How many positions fall due in the first `elapsed_ns` nanoseconds. The product of two 64-bit numbers
    /// fits; the quotient may not, and then nobody lives to see the difference.
    #[inline]
    fn positions_in(self, elapsed_ns: u64) -> u64 {
        let product = u128::from(elapsed_ns) * u128::from(self.bytes);
        let whole = product / self.ns;
        // By hand: `div_ceil` would divide a second time for the remainder.
        let positions = whole + u128::from(whole * self.ns != product);
        u64::try_from(positions).unwrap_or(u64::MAX)
    }

    /// When `position` is due after the phase's zero; `u64::MAX` where that is beyond all time.
    #[inline]
    fn due_ns(self, position: u64) -> u64 {
        // Where the product overflows, the quotient would be 2^64 or more.
        let due = u128::from(position).checked_mul(self.ns).map(|product| product / u128::from(self.bytes.max(1)));
        due.and_then(|ns| u64::try_from(ns).ok()).unwrap_or(u64::MAX)
    }
}

/// Burst windows: `on_ns` open at the start of every `cycle_ns`.
#[derive(Clone, Copy, Debug)]
struct Windows {
    on_ns: u64,
    cycle_ns: u64,
}

/// How long a phase's records may wait, counted from when they were due.
#[derive(Clone, Copy, Debug)]
struct Waits {
    /// For others of their block.
    hold_max_ns: u64,
    /// Before they are catch-up.
    late_after_ns: u64,
    /// Before they are given up.
    expires_ns: u64,
}

impl Waits {
    fn new(patience: Patience, spread: Spread, windows: Option<Windows>) -> Self {
        let Patience { catch_up_ns, linger_ns, block_bytes } = patience;
        if let Some(Windows { on_ns, .. }) = windows {
            // All of a cycle is due at its start, and on time as long as its window is open.
            let expires_ns = catch_up_ns.max(LATE_NS).saturating_add(on_ns);
            return Self { hold_max_ns: 0, late_after_ns: on_ns, expires_ns };
        }
        let fill_ns = spread.offset_ns(block_bytes);
        let hold_max_ns = linger_ns.min(fill_ns);
        // One block's time and no more: that no stretch of time holds more than its rate and one block, catch-up
        // aside, rests on it.
        let late_after_ns = fill_ns.saturating_add(PUNCTUAL_NS).min(linger_ns.saturating_add(LATE_NS));
        Self { hold_max_ns, late_after_ns, expires_ns: catch_up_ns.max(hold_max_ns.saturating_add(LATE_NS)) }
    }
}

#[derive(Clone, Debug)]
struct Phase {
    start_ns: u64,
    end_ns: u64,
    /// Where its schedule starts to count: `start_ns`, staggered if steady.
    zero_ns: u64,
    warmup: bool,
    weight: u64,
    rate: Option<Rate>,
    windows: Option<Windows>,
    /// Positions that fall due before the phase's end; only with a rate.
    positions: u64,
    spread: Spread,
    waits: Waits,
}

impl Phase {
    fn new(share: &PhaseShare, start_ns: u64, stagger_ns: u64, patience: Patience) -> Self {
        let (rate, windows, stagger_ns) = match share.schedule {
            Schedule::Unlimited => (None, None, 0),
            Schedule::Steady { rate } => (Some(Rate::new(rate)), None, stagger_ns),
            Schedule::Burst { on_ns, off_ns, rate } => {
                (rate.map(Rate::new), Some(Windows { on_ns, cycle_ns: on_ns.saturating_add(off_ns).max(1) }), 0)
            }
        };
        let positions = match (rate, share.duration_ns) {
            (Some(rate), u64::MAX) if rate.bytes > 0 => u64::MAX,
            (Some(rate), duration_ns) => rate.positions_in(duration_ns.saturating_sub(stagger_ns)),
            (None, _) => 0,
        };
        let spread = rate.filter(|_| windows.is_none()).map_or(Spread(0), Spread::of);
        Self {
            start_ns,
            end_ns: start_ns.saturating_add(share.duration_ns),
            zero_ns: start_ns.saturating_add(stagger_ns),
            warmup: share.warmup,
            weight: share.weight,
            rate,
            windows,
            positions,
            spread,
            waits: Waits::new(patience, spread, windows),
        }
    }

    /// Positions of this phase that are due at `now_ns`.
    #[inline]
    fn due_positions(&self, now_ns: u64) -> u64 {
        let (Some(rate), Some(elapsed_ns)) = (self.rate, now_ns.checked_sub(self.zero_ns)) else { return 0 };
        let due_before_ns = match self.windows {
            None => elapsed_ns.saturating_add(1),
            // A whole cycle's positions fall due at its start.
            Some(windows) => (elapsed_ns / windows.cycle_ns).saturating_add(1).saturating_mul(windows.cycle_ns),
        };
        rate.positions_in(due_before_ns).min(self.positions)
    }

    /// When `position` falls due, and the end of the stretch of positions that a grant may hold with it.
    fn stretch_at(&self, position: u64) -> (u64, u64) {
        let Some(rate) = self.rate else { return (self.start_ns, u64::MAX) };
        let steady_ns = rate.due_ns(position);
        if steady_ns == u64::MAX {
            return (u64::MAX, position);
        }
        let Some(windows) = self.windows else { return (self.zero_ns.saturating_add(steady_ns), self.positions) };
        let cycle_start_ns = steady_ns - steady_ns % windows.cycle_ns;
        let stretch_end = rate.positions_in(cycle_start_ns.saturating_add(windows.cycle_ns)).min(self.positions);
        (self.zero_ns.saturating_add(cycle_start_ns), stretch_end)
    }

    /// Whether sending is allowed: always, but for the silent part of a burst cycle. What is left when the
    /// phase ends goes at once.
    #[inline]
    fn is_open(&self, now_ns: u64) -> bool {
        self.windows.is_none() || self.opens_ns(now_ns) <= now_ns || now_ns >= self.end_ns
    }

    /// The first moment from `from_ns` on at which a window is open.
    fn opens_ns(&self, from_ns: u64) -> u64 {
        let Some(Windows { on_ns, cycle_ns }) = self.windows else { return from_ns };
        let into_cycle_ns = from_ns.saturating_sub(self.start_ns) % cycle_ns;
        if into_cycle_ns < on_ns { from_ns } else { from_ns.saturating_add(cycle_ns - into_cycle_ns) }
    }

    /// When this phase, not yet begun or without a rate, first has something to send; `None`: never.
    fn first_chance_ns(&self, now_ns: u64) -> Option<u64> {
        if self.rate.is_some() {
            return Some(self.stretch_at(0).0).filter(|due_ns| self.positions > 0 && *due_ns < u64::MAX);
        }
        Some(self.opens_ns(now_ns.max(self.start_ns))).filter(|opens_ns| *opens_ns < self.end_ns)
    }
}

#[cfg(test)]
mod tests;
