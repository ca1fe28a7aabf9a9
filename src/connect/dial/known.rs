//! What is known of a peer's addresses: those that its name had last, and which of them did not serve.

use crate::base::fatal::Fatal;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// For so long an address that did not serve is asked after the others.
pub const ASKED_LAST: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub struct Known {
    /// In the resolver's order.
    resolved: Vec<SocketAddr>,
    /// When an address did not serve.
    failed: BTreeMap<SocketAddr, Instant>,
    /// That the name could not be resolved again.
    told: bool,
}

impl Known {
    /// A resolver that fails for a moment is no reason to lose sight of a peer: its last addresses stand.
    ///
    /// # Errors
    /// Why the name could not be resolved, where it never was.
    pub fn resolved(&mut self, found: Result<Vec<SocketAddr>, Fatal>) -> Result<Vec<SocketAddr>, Fatal> {
        match found {
            Ok(addresses) => self.resolved = addresses,
            Err(fatal) if self.resolved.is_empty() => return Err(fatal),
            Err(fatal) => {
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!("{}; the addresses that it had before are dialed", fatal.what);
                }
            }
        }
        Ok(self.resolved.clone())
    }

    /// Each turn begins with the next address of the first one's family, so that connections spread over them. The
    /// other family follows, and last what did not serve lately.
    pub fn in_turn(&self, mut addresses: Vec<SocketAddr>, turn: usize, now: Instant) -> Vec<SocketAddr> {
        let is_last = |address: &SocketAddr| self.failed.get(address).is_some_and(|at| is_recent(*at, now));
        addresses.sort_by_key(is_last);
        let sound = addresses.partition_point(|address| !is_last(address));
        // With none that is sound they are all alike.
        let sound = if sound == 0 { addresses.len() } else { sound };
        if let Some(first) = addresses.first().copied() {
            let asked_first = &mut addresses[..sound];
            let is_other = |address: &SocketAddr| address.is_ipv6() != first.is_ipv6();
            asked_first.sort_by_key(is_other);
            let family = asked_first.partition_point(|address| !is_other(address));
            asked_first[..family].rotate_left(turn % family);
        }
        addresses
    }

    /// How a dial went that began `now`.
    pub fn note(&mut self, failed: &[SocketAddr], served: Option<SocketAddr>, now: Instant) {
        self.failed.retain(|_, at| is_recent(*at, now));
        self.failed.extend(failed.iter().map(|address| (*address, now)));
        if let Some(address) = served {
            self.failed.remove(&address);
        }
    }

    /// The addresses that connections spread over.
    pub fn dealt_to(&self) -> Vec<IpAddr> {
        let is_ipv6 = self.resolved.first().is_some_and(SocketAddr::is_ipv6);
        self.resolved.iter().filter(|address| address.is_ipv6() == is_ipv6).map(SocketAddr::ip).collect()
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < ASKED_LAST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_round_the_first_ones_family_and_what_failed_lately_is_last() {
        let [a, b, c] = [1, 2, 3].map(|last| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 443)));
        let [x, y] = [1, 2].map(|last| SocketAddr::from(([192, 0, 2, last], 443)));
        let (mut known, start) = (Known::default(), Instant::now());
        let all = known.resolved(Ok(vec![a, x, b, y, c])).unwrap();
        assert_eq!(known.dealt_to(), [a, b, c].map(|address| address.ip()));
        let order = |known: &Known, turn, after: Duration| known.in_turn(all.clone(), turn, start + after);
        let fresh = [[a, b, c, x, y], [b, c, a, x, y], [c, a, b, x, y], [a, b, c, x, y]];
        assert_eq!([0, 1, 2, 3].map(|turn| order(&known, turn, Duration::ZERO)), fresh);

        known.note(&[b], Some(c), start);
        let without_b = [[a, c, x, y, b], [c, a, x, y, b]];
        assert_eq!([0, 1].map(|turn| order(&known, turn, ASKED_LAST / 2)), without_b);
        assert_eq!(order(&known, 1, ASKED_LAST), fresh[1], "it has its turn again");
        known.note(&[a, b, c], Some(x), start);
        assert_eq!([0, 1].map(|turn| order(&known, turn, ASKED_LAST / 2)), [[x, y, a, b, c], [y, x, a, b, c]]);
        known.note(&[a, b, c, x, y], None, start);
        assert_eq!(order(&known, 1, ASKED_LAST / 2), fresh[1], "all are alike");
        known.note(&[], Some(b), start);
        assert_eq!(order(&known, 0, ASKED_LAST / 2), [b, a, x, y, c], "it served");
    }
}
