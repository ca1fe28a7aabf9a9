//! Pauses of connections that bring much. Each read of a long stream makes TCP acknowledge it, and the sender pays for
//! that: what is read seldom and in large pieces costs it a third less.

use std::collections::VecDeque;

/// A turn that brings less is of messages, not of a stream.
const BROUGHT_BYTES_MIN: u64 = 32 << 10;
/// At 12 GB/s so much comes meanwhile: what is to come has to be more, or its end would be seen late, and so has the room
/// for it, or the sender would have to stand.
const REST_BYTES: u64 = 256 << 10;
const REST_NS: u64 = 20_000;

/// Which connections rest, the one that is over first in front.
pub struct Rests {
    all: VecDeque<(u64, usize)>,
}

impl Rests {
    /// For so many connections.
    pub fn new(connections: usize) -> Self {
        Self { all: VecDeque::with_capacity(connections) }
    }

    /// Whether a connection is to rest that has just brought so much and `awaits` so much more of what it is amid. The size
    /// of its receive buffer is asked for only if it matters.
    #[inline]
    pub fn suit(brought: u64, awaits: u64, buffer_bytes: impl FnOnce() -> u64) -> bool {
        brought >= BROUGHT_BYTES_MIN && awaits >= REST_BYTES && buffer_bytes() >= brought.saturating_add(REST_BYTES)
    }

    pub fn begin(&mut self, connection: usize, now_ns: u64) {
        self.all.push_back((now_ns + REST_NS, connection));
    }

    /// A connection whose rest is over.
    #[inline]
    pub fn next_over(&mut self, now_ns: impl FnOnce() -> u64) -> Option<usize> {
        let (until_ns, connection) = *self.all.front()?;
        if now_ns() < until_ns {
            return None;
        }
        self.all.pop_front();
        Some(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_streams_rest_and_only_where_there_is_room() {
        let never = || -> u64 { panic!("it does not matter") };
        assert!(!Rests::suit(4096, u64::MAX, never) && !Rests::suit(BROUGHT_BYTES_MIN - 1, u64::MAX, never));
        assert!(!Rests::suit(u64::MAX, REST_BYTES - 1, never), "its end comes before the rest's");
        for (brought, buffer_bytes, rests) in [
            (64 << 10, 6 << 20, true),
            (64 << 10, 320 << 10, true),
            (64 << 10, 319 << 10, false),
            (u64::MAX, 6 << 20, false),
        ] {
            assert_eq!(Rests::suit(brought, REST_BYTES, || buffer_bytes), rests, "{brought} of {buffer_bytes}");
        }
    }

    #[test]
    fn each_rest_is_over_in_its_time() {
        let mut rests = Rests::new(4);
        assert_eq!(rests.next_over(|| panic!("nobody rests")), None);
        rests.begin(7, 1000);
        rests.begin(3, 5000);
        assert_eq!(rests.next_over(|| 1000 + REST_NS - 1), None);
        assert_eq!(rests.next_over(|| 1000 + REST_NS), Some(7));
        assert_eq!(rests.next_over(|| 1000 + REST_NS), None);
        assert_eq!(rests.next_over(|| u64::MAX), Some(3));
        assert_eq!(rests.next_over(|| panic!("nobody rests")), None);
    }
}
