//! Time that passes only when somebody looks at it, and the other threads, which run meanwhile.

use crate::chance::Chance;
use engine::base::clock::Clock;
use engine::sys::allocation::uncounted;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// How time passes for the core.
#[derive(Clone, Debug)]
pub struct Rhythm {
    /// Each look takes up to so long.
    pub look_ns_max: u64,
    /// One look in so many takes up to `stall_ns_max`: the machine did not let the loop run.
    pub stall_one_in: u64,
    pub stall_ns_max: u64,
    /// A wait in the kernel ends up to this much too late.
    pub oversleep_ns_max: u64,
    /// The other threads get a turn in one look of so many.
    pub others_one_in: u64,
    /// At this time the process is stopped, for so long.
    pub away: Option<(u64, u64)>,
    /// From then on the core's clock says that no time has passed at all.
    pub back_at_ns: Option<u64>,
}

type Others = Box<dyn FnMut(u64)>;

struct State {
    now_ns: Cell<u64>,
    was_away: Cell<bool>,
    chance: RefCell<Chance>,
    rhythm: Rhythm,
    others: RefCell<Others>,
}

/// Clones share one time.
#[derive(Clone)]
pub struct SimClock(Rc<State>);

impl SimClock {
    /// `others` is what other threads do; it gets the time and may not look at the clock.
    pub fn new(seed: u64, rhythm: Rhythm, others: impl FnMut(u64) + 'static) -> Self {
        let (now_ns, chance) = (Cell::new(0), RefCell::new(Chance::new(seed, 1)));
        Self(Rc::new(State {
            now_ns,
            was_away: Cell::new(false),
            chance,
            rhythm,
            others: RefCell::new(Box::new(others)),
        }))
    }

    /// The time, without any passing.
    pub fn peek_ns(&self) -> u64 {
        self.0.now_ns.get()
    }

    /// Gives the other threads a turn.
    pub fn others(&self) {
        (self.0.others.borrow_mut())(self.peek_ns());
    }

    /// Sleeps until `until_ns` and a little longer.
    pub fn sleep_until(&self, until_ns: u64) {
        let over_ns = self.0.chance.borrow_mut().between(0..=self.0.rhythm.oversleep_ns_max);
        self.0.now_ns.set(self.peek_ns().max(until_ns) + over_ns);
    }
}

impl Clock for SimClock {
    fn now_ns(&self) -> u64 {
        let (state, rhythm) = (&self.0, &self.0.rhythm);
        let mut chance = state.chance.borrow_mut();
        let stalls = chance.one_in(rhythm.stall_one_in);
        let passed_ns = chance.between(0..=if stalls { rhythm.stall_ns_max } else { rhythm.look_ns_max });
        let mut now_ns = state.now_ns.get() + passed_ns;
        if let Some((at_ns, for_ns)) = rhythm.away
            && now_ns >= at_ns
            && !state.was_away.replace(true)
        {
            now_ns += for_ns;
        }
        state.now_ns.set(now_ns);
        if chance.one_in(rhythm.others_one_in) {
            uncounted(|| (state.others.borrow_mut())(now_ns));
        }
        if rhythm.back_at_ns.is_some_and(|at_ns| now_ns >= at_ns) { 0 } else { now_ns }
    }
}
