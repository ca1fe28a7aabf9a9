//! What became of the events for the governance API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Events offered = posted + dropped + refused + failed + invalid. None of them changes the exit code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Governance {
    pub url: String,
    /// The metadata of every so-many-th record of each producer is an event.
    pub every: u64,
    pub events_offered: u64,
    pub posted: u64,
    /// Never sent: the queue was full, or the run's end came first.
    pub dropped: u64,
    /// The server said no.
    pub refused: u64,
    /// The server could not be reached or was in trouble at every attempt.
    pub failed: u64,
    /// They did not follow the contract and never left.
    pub invalid: u64,
    /// The run's start, its producers and its end, as far as the server took them, and those that it did not.
    pub announced: u64,
    pub not_announced: u64,
    pub last_error: Option<String>,
}
