//! The plain way to a connection: connect, and TLS where the peer wants it.

use super::{DialFn, DialOrder, Key, Outages, key};
use crate::connect::dial::Connector;
use crate::connect::peer::shown;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Certificates are read once for each peer, over whose addresses its connections spread.
pub fn plain(outages: Arc<Outages>) -> DialFn {
    let known: Mutex<Vec<Connector>> = Mutex::new(Vec::new());
    let turns = Turns { outages, taken: Mutex::default() };
    Box::new(move |order| {
        let connector = {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            let found = known.iter().find(|connector| *connector.peer() == order.peer).cloned();
            match found {
                Some(connector) => connector,
                None => {
                    let connector = Connector::new(&order.peer)?;
                    known.push(connector.clone());
                    connector
                }
            }
        };
        let (turn, is_new) = turns.of(order);
        let dialed = connector.dial(turn);
        // Told by the run's first connection to this peer.
        if turn == 0
            && is_new
            && let Some(words) = connector.words_of_addresses()
        {
            tracing::info!("{words}");
        }
        dialed
    })
}

/// Which of the run's connections to its peer a connection is. It stays that for good.
struct Turns {
    outages: Arc<Outages>,
    taken: Mutex<BTreeMap<Key, usize>>,
}

impl Turns {
    /// And whether it was asked for the first time.
    fn of(&self, order: &DialOrder) -> (usize, bool) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = taken.get(&key(order)) {
            return (*turn, false);
        }
        let turn = self.outages.next_turn(&shown(&order.peer));
        taken.insert(key(order), turn);
        (turn, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::dialer::LastUse;
    use crate::plan::testing::peer;

    #[test]
    fn connections_of_all_cores_take_turns_and_keep_theirs() {
        let outages = Arc::new(Outages::default());
        let [one, other] = [(); 2].map(|()| Turns { outages: outages.clone(), taken: Mutex::default() });
        let turn = |core: &Turns, lane, connection, host| {
            core.of(&DialOrder { lane, connection, peer: Arc::new(peer(host, 443)), last_use: LastUse::Unknown })
        };
        assert_eq!([0, 1].map(|connection| turn(&one, 0, connection, "a.example")), [(0, true), (1, true)]);
        assert_eq!(turn(&one, 1, 0, "b.example"), (0, true), "each peer has its own");
        assert_eq!([0, 1].map(|connection| turn(&other, 0, connection, "a.example")), [(2, true), (3, true)]);
        assert_eq!([turn(&one, 0, 1, "a.example"), turn(&one, 2, 0, "a.example")], [(1, false), (4, true)]);
    }
}
