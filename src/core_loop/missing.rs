//! The sequences of a lane that will not be produced, as ranges in a list that never grows.

/// The lowest ranges, inclusive and in order, merged with what they touch. Where a range had no room, all that begin
/// behind it are left out as well: the list is complete up to its end, which `verify` relies on.
pub struct Missing {
    ranges: Vec<(u64, u64)>,
    ranges_max: usize,
    /// Where the lowest range begins that was left out; `u64::MAX`: none was.
    left_out_from: u64,
}

impl Missing {
    pub fn new(ranges_max: usize) -> Self {
        Self { ranges: Vec::with_capacity(ranges_max), ranges_max, left_out_from: u64::MAX }
    }

    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    pub fn into_ranges(self) -> Vec<(u64, u64)> {
        self.ranges
    }

    /// Whether there were more ranges than could be kept.
    pub fn is_truncated(&self) -> bool {
        self.left_out_from < u64::MAX
    }

    /// Adds sequences that were not added before; in ascending order for most targets.
    pub fn add(&mut self, first: u64, last: u64) {
        if first >= self.left_out_from {
            return;
        }
        let at = self.ranges.partition_point(|range| range.1.saturating_add(1) < first);
        match self.ranges.get_mut(at) {
            Some(range) if range.0 <= last.saturating_add(1) => {
                *range = (range.0.min(first), range.1.max(last));
                let reaches = range.1;
                if self.ranges.get(at + 1).is_some_and(|next| next.0 <= reaches.saturating_add(1)) {
                    let next = self.ranges.remove(at + 1);
                    self.ranges[at].1 = reaches.max(next.1);
                }
            }
            _ => self.insert(at, (first, last)),
        }
    }

    /// Where the list is full, the highest range goes, be it the new one.
    fn insert(&mut self, at: usize, range: (u64, u64)) {
        if at == self.ranges_max {
            self.left_out_from = range.0;
            return;
        }
        if self.ranges.len() == self.ranges_max
            && let Some(highest) = self.ranges.pop()
        {
            self.left_out_from = highest.0;
        }
        self.ranges.insert(at, range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Of neighbouring stretches (length, missing?, when that is told), the missing ones in the order of telling.
    fn told(stretches: &[(u64, bool, u32)]) -> Vec<(u64, u64)> {
        let (mut told, mut next) = (vec![], 0);
        for &(length, is_missing, order) in stretches {
            if is_missing {
                told.push((order, (next, next + length - 1)));
            }
            next += length;
        }
        told.sort_unstable();
        told.into_iter().map(|(_, range)| range).collect()
    }

    fn sequences(ranges: &[(u64, u64)]) -> BTreeSet<u64> {
        ranges.iter().flat_map(|(first, last)| *first..=*last).collect()
    }

    proptest! {
        #[test]
        fn the_list_is_complete_up_to_its_end(
            stretches in proptest::collection::vec((1..5u64, any::<bool>(), any::<u32>()), 0..80),
            ranges_max in 1..8usize,
        ) {
            let told = told(&stretches);
            let mut missing = Missing::new(ranges_max);
            let capacity = missing.ranges.capacity();
            for (at, (first, last)) in told.iter().enumerate() {
                missing.add(*first, *last);
                let kept = missing.ranges();
                prop_assert!(kept.len() <= ranges_max && missing.ranges.capacity() == capacity);
                prop_assert!(kept.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", kept);
                let (mut all, named) = (sequences(&told[..=at]), sequences(kept));
                prop_assert_eq!(missing.is_truncated(), named.len() < all.len());
                all.retain(|sequence| named.last().is_some_and(|end| sequence <= end));
                prop_assert_eq!(named, all);
            }
        }

        #[test]
        fn of_ranges_apart_the_lowest_are_kept(
            orders in proptest::collection::vec(any::<u32>(), 0..40), ranges_max in 1..8usize,
        ) {
            let ranges = || (0u64..).step_by(2).map(|sequence| (sequence, sequence));
            let mut told: Vec<_> = orders.iter().zip(ranges()).collect();
            told.sort_unstable();
            let mut missing = Missing::new(ranges_max);
            told.iter().for_each(|(_, (first, last))| missing.add(*first, *last));
            let lowest: Vec<_> = ranges().take(orders.len().min(ranges_max)).collect();
            prop_assert_eq!(missing.ranges(), lowest);
            prop_assert_eq!(missing.is_truncated(), orders.len() > ranges_max);
        }
    }
}
