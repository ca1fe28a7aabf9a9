//! How long to wait before trying again.

use crate::plan::RetryPlan;
use std::time::Duration;

/// Before what failed so often in a row is sent again.
pub fn pause_ns(retry: &RetryPlan, failures: u32, random: u64) -> u64 {
    between((retry.backoff_min_ns, retry.backoff_max_ns), failures, random)
}

pub fn pause(limits_ns: (u64, u64), failures: u32, random: u64) -> Duration {
    Duration::from_nanos(between(limits_ns, failures, random))
}

/// Doubles from the least to the most with each failure; `random` takes up to half of it away, so that those who
/// failed together do not come back together. No failure: no wait.
fn between((least_ns, most_ns): (u64, u64), failures: u32, random: u64) -> u64 {
    if failures == 0 {
        return 0;
    }
    let doublings = (failures - 1).min(63);
    let full = u128::from(least_ns).checked_shl(doublings).unwrap_or(u128::MAX).min(u128::from(most_ns)) as u64;
    full - ((u128::from(full / 2) * u128::from(random)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_doubles_up_to_the_most() {
        let limits = (50, 5000);
        let all: Vec<_> = (0..10).map(|failures| between(limits, failures, 0)).collect();
        assert_eq!(all, [0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(between(limits, u32::MAX, u64::MAX), 2501);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(least in 1u64..1 << 40, more in 0u64..1 << 60, failures in 1u32.., random: u64) {
            let most = least + more;
            let pause = between((least, most), failures, random);
            prop_assert!(pause >= least / 2 && pause <= most);
        }
    }
}
