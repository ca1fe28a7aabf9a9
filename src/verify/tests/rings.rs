//! Preallocated rings: laps, seams, damage and what a kill leaves.

use super::*;

/// A ring of 20 records after so many were written, and its offsets.
fn ring_data(written: u64, before: Option<&str>) -> (Vec<Vec<u8>>, Vec<u64>) {
    let lengths: Vec<usize> = (0..20).map(length_of).collect();
    let slots = (0..20u64)
        .map(|slot| {
            let lap = (written + 19 - slot) / 20;
            match (lap, before) {
                (0, Some(run)) => record_of(run, 0, slot, lengths[slot as usize]),
                (0, None) => vec![0; lengths[slot as usize]],
                _ => record_of("run", 0, (lap - 1) * 20 + slot, lengths[slot as usize]),
            }
        })
        .collect();
    let offsets = (0..=20).map(|slot| lengths[..slot].iter().sum::<usize>() as u64).collect();
    (slots, offsets)
}

fn ring_manifest(written: u64, complete: bool, offsets: &[u64]) -> Manifest {
    let lap_bytes = offsets[20];
    let layout = Layout::Ring { capacity_bytes: lap_bytes + 100, lap_bytes, lap_records: 20 };
    let length = if written >= 20 { lap_bytes } else { offsets[written as usize] };
    let mut facts = manifest(layout, length, written.saturating_sub(20), written);
    if !complete {
        (facts.complete, facts.first_sequence, facts.next_sequence, facts.length_bytes) = (false, 0, 0, 0);
        facts.in_flight_bytes_max = 500;
    }
    facts
}

fn ring(slots: &[Vec<u8>], facts: &Manifest) -> Findings {
    Store::new(&[slots.concat(), vec![0; 100]].concat(), Some(facts)).verify()
}

#[test]
fn rings_hold_their_last_sequences_and_one_seam() {
    for written in [1, 19, 20, 21, 39, 40, 47, 60, 1003] {
        for complete in [true, false] {
            let (slots, offsets) = ring_data(written, None);
            let findings = ring(&slots, &ring_manifest(written, complete, &offsets));
            assert_clean(&findings, written.min(20));
            assert_eq!(findings.records + findings.records_overwritten, written);
            assert_eq!(findings.summary().contains("overwritten: "), written > 20, "{}", findings.summary());
        }
    }
    let (slots, offsets) = ring_data(1003, None);
    let mut facts = ring_manifest(1003, true, &offsets);
    facts.missing = vec![(5, 14), (970, 979)];
    let findings = ring(&slots, &facts);
    assert!(findings.summary().contains("overwritten: 963 older records, of which"), "{}", findings.summary());
}

#[test]
fn what_a_ring_of_another_run_let_go_is_not_counted() {
    let (slots, offsets) = ring_data(47, None);
    let store = Store::new(&slots.concat(), Some(&ring_manifest(47, true, &offsets)));
    for (run_id, overwritten) in [("run", 27), ("other", 0)] {
        let args = VerifyArgs { run_id: Some(run_id.to_owned()), ..store.args() };
        assert_eq!(verify(&args).unwrap().records_overwritten, overwritten, "{run_id}");
    }
}

#[test]
fn rings_without_their_manifest_are_recognised_by_whole_laps() {
    for written in [21, 39, 47, 1003] {
        let data = [ring_data(written, None).0.concat(), vec![0; 100]].concat();
        for findings in [pipe(&data), file(&data)] {
            assert_clean(&findings, 20);
            let said = findings.summary();
            assert!(said.contains(" behind newer ones, as in a ring that has gone round"), "{said}");
        }
    }
}

#[test]
fn equal_parts_in_the_wrong_order_may_be_a_ring() {
    let swapped = [records(20..30), records(10..20)].concat();
    assert_clean(&pipe(&swapped.concat()), 20);
    let swapped = [records(30..40), records(20..30)].concat();
    let findings = pipe(&swapped.concat());
    assert_eq!(only(&findings, Kind::Reordered).first_sequence, Some(20), "no lap of 20 begins at 30");
}

#[test]
fn what_jumps_back_otherwise_is_reordered() {
    let ring = ring_data(1047, None).0;
    let reordered = |data: &[u8]| {
        let findings = pipe(data);
        let found = only(&findings, Kind::Reordered);
        let is_told_of_rings = found.what.contains("a ring that was overwritten reads so");
        (found.first_sequence.unwrap(), found.last_sequence.unwrap(), is_told_of_rings)
    };
    let mut padded = ring.clone();
    padded[7].fill(7);
    assert_eq!(reordered(&padded.concat()), (1028, 1039, true), "the oldest record is gone");
    let followed = [ring.concat(), record_of("run", 0, 1047, 64)].concat();
    assert_eq!(reordered(&followed), (1027, 1039, true), "it does not end where it began");
    let parts = [records(25..30), records(15..25)].concat();
    assert_eq!(reordered(&parts.concat()), (15, 24, true), "no lap of 15 begins at 25");
    let parts = [records(20..30), records(0..20)].concat();
    assert_eq!(reordered(&parts.concat()), (0, 19, false), "no ring that has gone round has the first record");
}

#[test]
fn rings_reused_by_a_shorter_run_know_what_is_left_of_the_old_one() {
    for complete in [true, false] {
        let (slots, offsets) = ring_data(12, Some("old run"));
        let findings = ring(&slots, &ring_manifest(12, complete, &offsets));
        assert_clean(&findings, if complete { 12 } else { 20 });
        // What an orderly end leaves behind the data is not read at all.
        assert_eq!(findings.bytes, offsets[if complete { 12 } else { 20 }]);
        assert_eq!(findings.summary().contains("left from before"), !complete, "{}", findings.summary());
    }
    let (mut slots, offsets) = ring_data(12, Some("old run"));
    slots[5] = record_of("old run", 0, 5, slots[5].len());
    for complete in [true, false] {
        let findings = ring(&slots, &ring_manifest(12, complete, &offsets));
        assert_eq!(kinds(&findings), [Kind::Gap, Kind::Foreign], "{}", findings.summary());
    }
}

#[test]
fn a_failed_write_in_the_first_lap_leaves_another_run_s_record_that_is_explained() {
    let (mut slots, offsets) = ring_data(12, Some("old run"));
    for failed in [0u64, 5, 11] {
        let older = record_of("old run", 0, failed, length_of(failed));
        let sound = std::mem::replace(&mut slots[failed as usize], older);
        let mut facts = ring_manifest(12, true, &offsets);
        facts.missing = vec![(failed, failed)];
        assert_clean(&ring(&slots, &facts), 12);
        facts.missing = vec![(7, 7)];
        assert_eq!(kinds(&ring(&slots, &facts)), [Kind::Gap, Kind::Foreign], "another one is known to be missing");
        slots[failed as usize] = sound;
    }
}

#[test]
fn damage_in_rings_is_named() {
    let (sound, offsets) = ring_data(1047, None);
    let facts = ring_manifest(1047, true, &offsets);
    // Slot 3 holds sequence 1043, slot 12 holds 1032.
    let mut stale = sound.clone();
    stale[3] = record_of("run", 0, 1023, stale[3].len());
    let findings = ring(&stale, &facts);
    assert_eq!(only(&findings, Kind::Stale).first_sequence, Some(1023));
    assert_eq!(
        (only(&findings, Kind::Gap).first_sequence, only(&findings, Kind::Stale).byte),
        (Some(1043), Some(offsets[3]))
    );

    let mut flipped = sound.clone();
    flipped[12][65] ^= 1;
    let findings = ring(&flipped, &facts);
    let corrupt = only(&findings, Kind::Corrupt);
    assert_eq!((corrupt.first_sequence, corrupt.byte), (Some(1032), Some(offsets[12])));
    assert_eq!(kinds(&findings), [Kind::Corrupt]);

    let mut dropped = sound.clone();
    dropped[12].fill(0);
    assert_eq!(only(&ring(&dropped, &facts), Kind::Gap).first_sequence, Some(1032));

    for (a, b) in [(2, 3), (6, 7), (12, 13), (0, 19)] {
        let mut swapped = sound.clone();
        swapped.swap(a, b);
        let findings = ring(&swapped, &facts);
        assert!(findings.count(Kind::Reordered).records > 0, "{a} {b}\n{}", findings.summary());
    }

    let mut doubled = sound.clone();
    doubled[13] = sound[12].clone();
    let findings = ring(&doubled, &facts);
    assert_eq!(only(&findings, Kind::Duplicate).first_sequence, Some(1032));

    let data = sound.concat();
    let store = Store::new(&data[..data.len() - 10], Some(&facts));
    assert_eq!(only(&store.verify(), Kind::Gap).first_sequence, Some(1039));
}

#[test]
fn killed_rings_may_be_unfinished_around_the_seam_only() {
    let (sound, offsets) = ring_data(1047, None);
    let facts = ring_manifest(1047, false, &offsets);
    // Not yet written, and torn past the seam.
    let mut torn = sound.clone();
    torn[5] = record_of("run", 0, 1025, torn[5].len());
    torn[7][80] ^= 1;
    assert_clean(&ring(&torn, &facts), 19);
    let mut early = sound.clone();
    early[14] = record_of("run", 0, 1014, early[14].len());
    let findings = ring(&early, &facts);
    assert_eq!(only(&findings, Kind::Stale).first_sequence, Some(1014));
    assert_eq!(only(&findings, Kind::Gap).first_sequence, Some(1034));
}

#[test]
fn failed_writes_in_rings_leave_older_laps_that_are_explained() {
    let (mut slots, offsets) = ring_data(1047, None);
    let mut facts = ring_manifest(1047, true, &offsets);
    facts.missing = vec![(1042, 1043)];
    for slot in [2usize, 3] {
        slots[slot] = record_of("run", 0, 1020 + slot as u64, slots[slot].len());
    }
    assert_clean(&ring(&slots, &facts), 20);
}

proptest! {
    #[test]
    fn any_flipped_bit_in_a_ring_is_found(written in 1u64..70, bit in any::<prop::sample::Index>()) {
        let (slots, offsets) = ring_data(written, None);
        let facts = ring_manifest(written, true, &offsets);
        let mut data = slots.concat();
        let bit = bit.index(facts.length_bytes as usize * 8);
        data[bit / 8] ^= 1 << (bit % 8);
        let findings = Store::new(&data, Some(&facts)).verify();
        prop_assert!(!findings.clean);
        prop_assert_eq!(findings.records, written.min(20) - 1);
    }
}

#[test]
fn the_start_of_a_killed_ring_that_never_went_round_is_no_tail() {
    let (mut slots, offsets) = ring_data(18, None);
    slots[1][65] ^= 1;
    let findings = ring(&slots, &ring_manifest(18, false, &offsets));
    assert_eq!(only(&findings, Kind::Corrupt).first_sequence, Some(1));
}
