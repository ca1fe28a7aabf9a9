//! Sequences that come in no order: a bit for each that was seen, in pages that are made when they are needed. While
//! most of them have no neighbour yet, spans take a hundred times as much.

use std::collections::BTreeMap;

/// Sequences that share a page.
pub const PAGE_SEQUENCES: u64 = 4096;
/// What a page takes.
pub const PAGE_BYTES: usize = PAGE_SEQUENCES as usize / 8;
const WORD_BITS: usize = 64;

type Page = [u64; PAGE_BYTES / 8];

#[derive(Clone, Debug, Default)]
pub struct Scattered {
    pages: BTreeMap<u64, Box<Page>>,
}

impl Scattered {
    /// How many there are, of [`PAGE_BYTES`] each.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// False: it was there already.
    pub fn insert(&mut self, sequence: u64) -> bool {
        let page = self.pages.entry(sequence / PAGE_SEQUENCES).or_insert_with(|| Box::new([0; PAGE_BYTES / 8]));
        let at = (sequence % PAGE_SEQUENCES) as usize;
        let (word, bit) = (&mut page[at / WORD_BITS], 1u64 << (at % WORD_BITS));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    pub fn first(&self) -> Option<u64> {
        self.next_there(0, u64::MAX)
    }

    pub fn last(&self) -> Option<u64> {
        let (number, page) = self.pages.last_key_value()?;
        let at = page.iter().rposition(|word| *word != 0)?;
        let bit = WORD_BITS - 1 - page[at].leading_zeros() as usize;
        Some(number * PAGE_SEQUENCES + (at * WORD_BITS + bit) as u64)
    }

    /// The first stretch of `first..=last` that is not there.
    pub fn next_hole(&self, first: u64, last: u64) -> Option<(u64, u64)> {
        let from = self.next_absent(first, last)?;
        Some((from, self.next_there(from, last).map_or(last, |there| there - 1)))
    }

    fn next_there(&self, first: u64, last: u64) -> Option<u64> {
        let mut pages = self.pages.range(first / PAGE_SEQUENCES..=last / PAGE_SEQUENCES);
        let there = pages.find_map(|(number, page)| {
            let start = number * PAGE_SEQUENCES;
            first_bit(page, first.saturating_sub(start), |word| word).map(|at| start + at)
        });
        there.filter(|at| *at <= last)
    }

    fn next_absent(&self, first: u64, last: u64) -> Option<u64> {
        let mut from = first;
        while from <= last {
            let number = from / PAGE_SEQUENCES;
            let Some(page) = self.pages.get(&number) else { return Some(from) };
            if let Some(at) = first_bit(page, from % PAGE_SEQUENCES, |word| !word) {
                return Some(number * PAGE_SEQUENCES + at).filter(|at| *at <= last);
            }
            from = (number + 1).checked_mul(PAGE_SEQUENCES)?;
        }
        None
    }
}

/// The first bit from this one on that is set in what `look` makes of the page's words.
fn first_bit(page: &Page, from: u64, look: impl Fn(u64) -> u64) -> Option<u64> {
    let from = from as usize;
    let mut words = page.iter().enumerate().skip(from / WORD_BITS);
    words.find_map(|(at, word)| {
        let before = if at == from / WORD_BITS { (1u64 << (from % WORD_BITS)) - 1 } else { 0 };
        let word = look(*word) & !before;
        (word != 0).then(|| (at * WORD_BITS) as u64 + u64::from(word.trailing_zeros()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Near the edges of words, pages and numbers.
    fn sequences() -> impl Strategy<Value = u64> {
        let near = |edge: u64| (0u64..6).prop_map(move |at| edge.saturating_sub(3).saturating_add(at));
        prop_oneof![near(0), near(64), near(PAGE_SEQUENCES), near(5 * PAGE_SEQUENCES), near(u64::MAX), 0u64..300]
    }

    proptest! {
        #[test]
        fn scattered_sequences_agree_with_a_set(
            came in proptest::collection::vec(sequences(), 0..60),
            (a, b) in (sequences(), sequences()),
        ) {
            let (mut scattered, mut set) = (Scattered::default(), BTreeSet::new());
            for sequence in came {
                prop_assert_eq!(scattered.insert(sequence), set.insert(sequence));
            }
            prop_assert_eq!((scattered.first(), scattered.last()), (set.first().copied(), set.last().copied()));
            let (first, last) = (a.min(b), a.max(b));
            prop_assert_eq!(scattered.next_there(first, last), set.range(first..=last).next().copied());
            let mut holes = Vec::new();
            let mut from = Some(first);
            while let Some(hole) = from.and_then(|from| scattered.next_hole(from, last)) {
                holes.push(hole);
                from = hole.1.checked_add(1);
            }
            let mut expected = Vec::new();
            let mut from = Some(first);
            for sequence in set.range(first..=last) {
                expected.extend(from.filter(|from| from < sequence).map(|from| (from, sequence - 1)));
                from = sequence.checked_add(1);
            }
            expected.extend(from.filter(|from| *from <= last).map(|from| (from, last)));
            prop_assert_eq!(holes, expected);
        }
    }

    #[test]
    fn a_page_takes_what_it_is_said_to_take() {
        assert_eq!(std::mem::size_of::<Page>(), PAGE_BYTES);
        let mut scattered = Scattered::default();
        (0..PAGE_SEQUENCES + 1).for_each(|sequence| assert!(scattered.insert(sequence)));
        assert_eq!((scattered.pages(), scattered.next_hole(0, PAGE_SEQUENCES)), (2, None));
    }
}
