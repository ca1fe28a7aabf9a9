//! Whose transactions were aborted, as batches pass.
//!
//! A fetch names the aborted transactions that reach into what it brought. From the first offset of one on, the
//! batches of its producer are void, up to the mark that ends it. What a fetch names is complete for its own batches,
//! so nothing is remembered from one to the next.
//! <https://kafka.apache.org/protocol.html#The_Messages_Fetch>, isolation level `READ_COMMITTED`.

use crate::wire::kafka::records::BatchHead;
use std::collections::BTreeSet;

/// The type in the key of a control record, behind its version.
const ABORT: [u8; 2] = [0, 0];

pub struct Aborted {
    /// First offset and producer id; the lowest offset is the last one.
    to_come: Vec<(i64, i64)>,
    /// Producer ids.
    begun: BTreeSet<i64>,
}

impl Aborted {
    /// `named`: producer id and first offset of each.
    pub fn new(named: impl Iterator<Item = (i64, i64)>) -> Self {
        let mut to_come: Vec<(i64, i64)> = named.map(|(producer, first)| (first, producer)).collect();
        to_come.sort_unstable_by(|a, b| b.cmp(a));
        Self { to_come, begun: BTreeSet::new() }
    }

    /// Whether the next batch, which ends at offset `last`, was taken back.
    pub fn has_voided(&mut self, head: &BatchHead, last: i64) -> bool {
        while let Some((_, producer)) = self.to_come.pop_if(|(first, _)| *first <= last) {
            self.begun.insert(producer);
        }
        head.is_transactional() && !head.is_control() && self.begun.contains(&head.producer_id)
    }

    /// The key of a control record: a mark that ends a transaction.
    pub fn mark(&mut self, producer_id: i64, key: Option<&[u8]>) {
        if key.and_then(|key| key.get(2..4)) == Some(&ABORT[..]) {
            self.begun.remove(&producer_id);
        }
    }
}
