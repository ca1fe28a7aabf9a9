//! Which request is struck by what: a function of the seed and the request's number.

use super::books::Books;
use crate::plan::receive::{FAULT_GROUPS, FaultKind, FaultPlan, PPB};
use crate::wire::http::status::reason;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What is to be done to one request (with TCP: to a connection, after some stretch of it).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strike {
    pub ending: Ending,
    pub delay_ns: u64,
    pub slow_ns: u64,
    /// The plan's item of each group, for the books.
    items: [Option<usize>; FAULT_GROUPS],
}

impl Strike {
    /// Its fault of this group, if it has one, has struck.
    #[inline]
    pub fn count(&self, group: usize, books: &mut Books) {
        if let Some(item) = self.items[group] {
            books.faults[item] += 1;
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// All goes well.
    #[default]
    Answer,
    /// Index into [`Faults::refusal`].
    Refuse(usize),
    Reset,
    Abort,
    Truncate,
    Close,
    /// A code of Kafka's.
    Error(i16),
    LoseAnswer,
}

/// The faults that were asked for, shared by all threads.
pub struct Faults {
    plan: FaultPlan,
    next: AtomicU64,
    refusals: Vec<Vec<u8>>,
}

impl Faults {
    /// `None` where nothing is to go wrong.
    pub fn new(plan: &FaultPlan) -> Option<Self> {
        let refusals = plan.items.iter().map(|item| match item.kind {
            FaultKind::Status(status) => refusal(status, plan.retry_after_seconds),
            _ => Vec::new(),
        });
        let refusals = refusals.collect();
        (!plan.items.is_empty()).then(|| Self { plan: plan.clone(), next: AtomicU64::new(0), refusals })
    }

    /// Draws for the next request. Its faults are counted when they strike: it may be cut off before.
    pub fn draw_next(&self) -> Strike {
        let items = self.draw(self.next.fetch_add(1, Relaxed));
        let mut strike = Strike { items, ..Strike::default() };
        for item in items.into_iter().flatten() {
            match self.plan.items[item].kind {
                FaultKind::Status(_) => strike.ending = Ending::Refuse(item),
                FaultKind::Reset => strike.ending = Ending::Reset,
                FaultKind::Abort => strike.ending = Ending::Abort,
                FaultKind::Truncate => strike.ending = Ending::Truncate,
                FaultKind::Close => strike.ending = Ending::Close,
                FaultKind::Error(code) => strike.ending = Ending::Error(code),
                FaultKind::LoseAnswer => strike.ending = Ending::LoseAnswer,
                FaultKind::Delay { ns } => strike.delay_ns = ns,
                FaultKind::Slow { ns } => strike.slow_ns = ns,
            }
        }
        strike
    }

    /// The item of each group that strikes request `index`.
    fn draw(&self, index: u64) -> [Option<usize>; FAULT_GROUPS] {
        let mut struck = [None; FAULT_GROUPS];
        for (group, struck) in struck.iter_mut().enumerate() {
            let random = mix(mix(self.plan.seed ^ mix(group as u64)) ^ index);
            let mut point = ((u128::from(random) * u128::from(PPB)) >> 64) as u64;
            for (at, item) in self.plan.items.iter().enumerate().filter(|(_, item)| item.kind.group() == group) {
                if point < item.share_ppb {
                    *struck = Some(at);
                    break;
                }
                point -= item.share_ppb;
            }
        }
        struck
    }

    /// Status line and headers of a refusal, but for those of the connection and the empty line.
    pub fn refusal(&self, item: usize) -> &[u8] {
        &self.refusals[item]
    }
}

fn refusal(status: u16, retry_after_seconds: Option<u64>) -> Vec<u8> {
    let after = retry_after_seconds.filter(|_| matches!(status, 429 | 503));
    let after = after.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
    format!("HTTP/1.1 {status} {}\r\nContent-Length: 0\r\n{after}", reason(status)).into_bytes()
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::receive::faults::parse;
    use crate::plan::receive::Protocol;

    fn faults(text: &str, seed: u64) -> Faults {
        let plan = parse(text, Protocol::Http).unwrap();
        Faults::new(&FaultPlan { seed, ..plan }).unwrap()
    }

    fn strikes(text: &str, seed: u64) -> (Vec<Strike>, Books) {
        let faults = faults(text, seed);
        let mut books = Books::new(faults.plan.items.len());
        let strikes: Vec<_> = (0..100_000).map(|_| faults.draw_next()).collect();
        for strike in &strikes {
            (0..FAULT_GROUPS).for_each(|group| strike.count(group, &mut books));
        }
        (strikes, books)
    }

    #[test]
    fn the_seed_alone_decides() {
        let text = "status=503:1%,reset:0.5%,delay=5ms:2%";
        assert_eq!(strikes(text, 7).0, strikes(text, 7).0);
        assert_ne!(strikes(text, 7).0, strikes(text, 8).0);
    }

    #[test]
    fn shares_are_met_and_counted() {
        let (all, books) = strikes("status=503:1%,reset:0.5%,truncate:0%,delay=5ms:50%,slow=1ms:100%", 1);
        let count = |wanted: &dyn Fn(&Strike) -> bool| all.iter().filter(|strike| wanted(strike)).count() as u64;
        let near = |count: u64, wanted: u64| count.abs_diff(wanted) < wanted / 5 + 1;
        let refused = count(&|strike| strike.ending == Ending::Refuse(0));
        let reset = count(&|strike| strike.ending == Ending::Reset);
        let delayed = count(&|strike| strike.delay_ns == 5_000_000);
        assert!(near(refused, 1000) && near(reset, 500) && near(delayed, 50_000), "{refused} {reset} {delayed}");
        assert_eq!(books.faults, [refused, reset, 0, delayed, 100_000]);
        // Groups are drawn apart.
        let both = count(&|strike| strike.ending == Ending::Refuse(0) && strike.delay_ns > 0);
        assert!(near(both, 500), "{both}");
    }

    #[test]
    fn only_busy_answers_say_when_to_come_back() {
        let faults = faults("status=503:1%,status=500:1%,retry_after=2s", 0);
        assert!(faults.refusal(0).ends_with(b"Retry-After: 2\r\n"));
        assert!(faults.refusal(1).ends_with(b"Length: 0\r\n") && faults.refusal(1).starts_with(b"HTTP/1.1 500 "));
        assert!(Faults::new(&FaultPlan::default()).is_none());
    }
}
