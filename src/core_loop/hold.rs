//! How long a block that is not full waits for more.

use crate::pace::Grant;
use crate::payload::Extent;

/// The longest that an adaptive core spins before a due time, to be punctual.
pub const SPIN_NS_MAX: u64 = 60_000;
/// A block that waits this long for more may go as late as the kernel wakes an adaptive core: it spins before none.
const LONG_HOLD_NS: u64 = 50 * SPIN_NS_MAX;

/// Until when a partial block waits for more: until its first record is one linger old, the block could have filled or
/// the phase is over. `None`: no other record of the phase falls due before that.
pub fn hold_until(grant: &Grant, extent: Extent) -> Option<u64> {
    if !grant.paced || extent.full || extent.bytes >= grant.left_bytes {
        return None;
    }
    let until_ns = grant.first_due_ns + grant.hold_max_ns.min(grant.spread.offset_ns(grant.left_bytes));
    let next_ns = grant.first_due_ns + grant.spread.offset_ns(extent.bytes);
    (next_ns <= until_ns).then_some(until_ns)
}

/// A block that goes at `until_ns` waits for milliseconds, and no record of it is catch-up if it goes a little later.
pub fn is_long(grant: &Grant, until_ns: u64) -> bool {
    let hold_ns = until_ns.saturating_sub(grant.first_due_ns);
    hold_ns >= LONG_HOLD_NS && grant.late_after_ns >= hold_ns.saturating_add(2 * SPIN_NS_MAX)
}
