//! Sequences of a list, which may come in any order: while it is in some, spans remember where it has gaps; where they
//! become too many, a bit for each sequence does not.

use super::{Ledger, Relation};
use crate::base::units::{format_count, format_size};
use crate::verify::intervals::Place;
use crate::verify::scattered::{PAGE_BYTES, PAGE_SEQUENCES, Scattered};
use crate::verify::shape::Key;

/// Of all producers together: room for two billion sequences, where they are dense.
pub const PAGES_MAX: usize = (256 << 20) / PAGE_BYTES;
/// In order it takes memory for its gaps alone, whatever its length.
const SORT: &str = ": sort the list by producer and sequence first (CSV without a header: sort -t, -k2,2n -k3,3n)";

impl Ledger {
    /// Enters one sequence of a producer that has a track. Lists are read last: what else there is was entered before.
    pub fn enter_listed(&mut self, key: Key, sequence: u64, place: Place) -> Relation {
        let mut relation = Relation::default();
        let Some(track) = self.tracks.get_mut(&key) else { return relation };
        self.list_is_in_order &= track.listed.replace(sequence).is_none_or(|before| before <= sequence);
        track.note(sequence, sequence);
        let Some(scattered) = &mut track.scattered else {
            let relation = self.insert(key, sequence, sequence, place, place.position);
            if self.spans > self.spans_max {
                self.scatter(key, place);
            }
            return relation;
        };
        let pages_before = scattered.pages();
        if track.seen.contains(sequence) || !scattered.insert(sequence) {
            relation.duplicates.push((sequence, sequence));
        }
        self.pages += scattered.pages() - pages_before;
        self.check_pages(key, place);
        relation
    }

    /// From here on each of this producer's sequences takes a bit. So do those that came, but for long stretches.
    fn scatter(&mut self, key: Key, place: Place) {
        let Some(track) = self.tracks.get_mut(&key).filter(|track| !track.overflowed) else { return };
        let spans_before = track.seen.len();
        let short = track.seen.take_shorter(PAGE_SEQUENCES);
        self.spans -= spans_before - track.seen.len();
        let mut scattered = Scattered::default();
        for sequence in short.into_iter().flat_map(|(first, last)| first..=last) {
            if self.pages + scattered.pages() > self.pages_max {
                break;
            }
            scattered.insert(sequence);
        }
        self.pages += scattered.pages();
        track.scattered = Some(scattered);
        self.check_pages(key, place);
    }

    fn check_pages(&mut self, key: Key, place: Place) {
        if self.pages > self.pages_max && self.give_up(key) {
            self.lost_in_list.push((key, place));
        }
    }

    /// Sorting helps no list that is in order, and whether it is shows only at its end.
    pub(super) fn tell_lost_in_list(&mut self) {
        let memory = format_size((self.pages_max * PAGE_BYTES) as u64);
        let (why, mend) = if self.list_is_in_order {
            (format!("the list has more gaps than can be followed in {memory}"), String::new())
        } else {
            let why = format!("the list is in no order, and too far from any to be followed in {memory}");
            (why, format!("{SORT}; then up to {} gaps are followed", format_count(self.spans_max as u64)))
        };
        for (key, place) in std::mem::take(&mut self.lost_in_list) {
            self.tell_overflow(key, place, &why, &mend);
        }
    }
}
