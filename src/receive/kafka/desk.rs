//! What each thread of the broker has for itself.

use super::broker::{Broker, Checks};
use crate::verify::live::Inspector;

/// What a thread needs beside the common state.
pub struct Desk {
    pub inspector: Inspector,
    /// Batches that came so far.
    batches: u64,
}

impl Desk {
    pub fn new(broker: &Broker) -> Self {
        Self { inspector: Inspector::new(broker.sign_key), batches: 0 }
    }

    /// Whether the batch that comes now is to be checked.
    pub fn checks_next(&mut self, broker: &Broker) -> bool {
        let nth = self.batches;
        self.batches += 1;
        match broker.checks {
            Checks::Nothing => false,
            Checks::Every(every) => nth.is_multiple_of(every),
            Checks::All => true,
        }
    }
}
