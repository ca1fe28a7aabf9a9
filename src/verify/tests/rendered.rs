//! Templates with slots, FITS, and bytes without facts.

use super::*;
use crate::manifest::{Fact, Slot, TemplateShape};
use crate::payload::fits_hdus::tests::blob;

fn slot(fact: Fact, offset: u64, width: u32, quoted: bool) -> Slot {
    Slot { fact, offset, width, quoted }
}

/// Two JSON templates of different lengths, the second with a checksum.
fn json_templates() -> Vec<TemplateShape> {
    let first =
        vec![slot(Fact::RunId, 5, 8, true), slot(Fact::Sequence, 18, 22, true), slot(Fact::ProducerId, 45, 10, false)];
    let mut second = first.clone();
    second.push(slot(Fact::Crc32c, 61, 10, false));
    let shape =
        |name: &str, length_bytes, slots| TemplateShape { name: name.to_owned(), length_bytes, fits: false, slots };
    vec![shape("a.json", 60, first), shape("b.json", 80, second)]
}

fn json_record(sequence: u64) -> Vec<u8> {
    let quoted = format!("\"{sequence}\"");
    let mut text = format!("{{\"r\":{:<8},\"s\":{quoted:<22},\"p\":{:>10}", "\"run\"", 0);
    if sequence % 2 == 1 {
        let zeroed = format!("{text},\"c\": {}       }}\n", "0".repeat(10));
        let crc = crc32c::checksum(zeroed.as_bytes());
        return format!("{text},\"c\": {crc:>10}       }}\n").into_bytes();
    }
    text.push_str("   }\n");
    text.into_bytes()
}

#[test]
fn rendered_templates_are_checked_by_their_slots() {
    let sound: Vec<Vec<u8>> = (0..40).map(json_record).collect();
    assert_eq!((sound[0].len(), sound[1].len()), (60, 80));
    let data = sound.concat();
    let mut facts = manifest(Layout::Append, data.len() as u64, 0, 40);
    facts.records = RecordFormat::Slots { templates: json_templates() };
    let check = |parts: &[Vec<u8>]| Store::new(&parts.concat(), Some(&facts)).verify();
    assert_clean(&check(&sound), 40);

    // What has no header cannot have been signed, whatever the key.
    let store = Store::new(&data, Some(&facts));
    let asked = verify(&VerifyArgs { sign_key: Some(SIGN_KEY), ..store.args() }).unwrap();
    assert_eq!((asked.clean, asked.count(Kind::Forged).findings), (false, 40));

    let mut flipped = sound.clone();
    flipped[17][74] ^= 1;
    let findings = check(&flipped);
    assert_eq!((only(&findings, Kind::Corrupt).first_sequence, findings.records), (Some(17), 39));

    let mut dropped = sound.clone();
    dropped.drain(16..18);
    assert_eq!(only(&check(&dropped), Kind::Gap).first_sequence, Some(16));

    let mut swapped = sound.clone();
    swapped.swap(16, 18);
    assert!(check(&swapped).count(Kind::Reordered).records > 0);

    let mut derailed = sound.clone();
    derailed[20].truncate(31);
    let findings = check(&derailed);
    assert_eq!(only(&findings, Kind::Gap).first_sequence, Some(20));
    assert_eq!(findings.records, 39);

    let mut foreign = sound;
    foreign[16][6..9].copy_from_slice(b"old");
    assert_eq!(kinds(&check(&foreign)), [Kind::Gap, Kind::Foreign]);
}

#[test]
fn fits_records_are_checked_by_their_sums() {
    let (first, at) = blob(0, b"some data");
    let blobs: Vec<Vec<u8>> = (0..6).map(|sequence| blob(sequence, b"some data").0).collect();
    let slots = vec![slot(Fact::Sequence, at as u64, 20, false)];
    let shape = TemplateShape { name: "x.fits".to_owned(), length_bytes: first.len() as u64, fits: true, slots };
    let data = blobs.concat();
    let mut facts = manifest(Layout::Append, data.len() as u64, 0, 6);
    facts.records = RecordFormat::Slots { templates: vec![shape] };
    assert_clean(&Store::new(&data, Some(&facts)).verify(), 6);
    let mut flipped = blobs.clone();
    flipped[3][2885] ^= 8;
    let store = Store::new(&flipped.concat(), Some(&facts));
    let findings = store.verify();
    let corrupt = only(&findings, Kind::Corrupt);
    assert_eq!(corrupt.first_sequence, Some(3));
    assert!(corrupt.what.contains("DATASUM"));
    // That nothing is signed does not hide the damage.
    let asked = verify(&VerifyArgs { sign_key: Some(SIGN_KEY), ..store.args() }).unwrap();
    assert_eq!((asked.count(Kind::Corrupt).findings, asked.count(Kind::Forged).findings), (1, 5));
}

#[test]
fn bytes_without_facts_are_only_measured() {
    let mut facts = manifest(Layout::Append, 500, 0, 5);
    facts.records = RecordFormat::Opaque;
    let findings = Store::new(&[3; 500], Some(&facts)).verify();
    assert_eq!((kinds(&findings), findings.bytes_unverifiable), (vec![Kind::Unproved], 500));
    let said = findings.summary();
    assert!(said.starts_with("NOTHING PROVED: ") && said.contains("length only: 500 B carry no facts"), "{said}");
    let findings = Store::new(&[3; 480], Some(&facts)).verify();
    assert_eq!(only(&findings, Kind::Truncated).byte, Some(480));
    let findings = Store::new(&[3; 520], Some(&facts)).verify();
    assert_eq!(only(&findings, Kind::Unrecognised).byte, Some(500));
    // A producer that had nothing to send has left nothing to prove.
    facts.length_bytes = 0;
    facts.next_sequence = 0;
    assert_clean(&Store::new(&[], Some(&facts)).verify(), 0);
}

#[test]
fn repeated_slots_have_to_agree() {
    let slots = vec![
        slot(Fact::Sequence, 0, 4, false),
        slot(Fact::Crc32c, 5, 10, false),
        slot(Fact::Sequence, 16, 4, false),
        slot(Fact::Crc32c, 21, 12, true),
    ];
    let record = |sequence: u64, again: u64| {
        let zeros = "0".repeat(12);
        let crc = crc32c::checksum(format!("{sequence:<4} {:.10} {again:<4} {zeros}", zeros).as_bytes());
        let quoted = format!("\"{crc}\"");
        format!("{sequence:<4} {crc:<10} {again:<4} {quoted:<12}").into_bytes()
    };
    let shape = TemplateShape { name: "twice.txt".to_owned(), length_bytes: 33, fits: false, slots };
    let mut facts = manifest(Layout::Append, 33 * 5, 0, 5);
    facts.records = RecordFormat::Slots { templates: vec![shape] };
    let check = |parts: Vec<Vec<u8>>| Store::new(&parts.concat(), Some(&facts)).verify();
    assert_clean(&check((0..5).map(|at| record(at, at)).collect()), 5);
    let findings = check((0..5).map(|at| record(at, at.min(3))).collect());
    assert_eq!(only(&findings, Kind::Corrupt).first_sequence, Some(4));
    let mut second = record(1, 1);
    second[22] = if second[22] == b'1' { b'2' } else { b'1' };
    let findings = check(vec![record(0, 0), second, record(2, 2), record(3, 3), record(4, 4)]);
    assert_eq!(only(&findings, Kind::Corrupt).first_sequence, Some(1));
}
