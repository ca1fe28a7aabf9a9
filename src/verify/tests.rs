//! Damage of each kind, in files, rings and pipes; and what is not damage.

mod chunks;
mod headless;
mod live;
mod quota;
mod removed;
mod rendered;
mod rings;
mod stamps;
mod starts;
mod tails;
mod topics;

use super::*;
use crate::manifest::{FORMAT, Layout, Manifest, RecordFormat};
use crate::record::{FLAG_SIGNED, HEADER_BYTES, Header};
use crate::wire::crc32c;
use proptest::prelude::*;
use siphasher::sip::SipHasher24;
use std::path::PathBuf;
use tempfile::TempDir;

const SIGN_KEY: [u8; 16] = *b"0123456789abcdef";

/// Varies with the sequence, so that lengths and bodies differ.
fn record_of(run: &str, producer: u32, sequence: u64, length: usize) -> Vec<u8> {
    seal(run, producer, sequence, length, None)
}

fn seal(run: &str, producer: u32, sequence: u64, length: usize, sign_key: Option<[u8; 16]>) -> Vec<u8> {
    let body: Vec<u8> = (HEADER_BYTES..length).map(|at| (at as u64 * 31 + sequence * 7) as u8).collect();
    let mut header = Header {
        flags: if sign_key.is_some() { FLAG_SIGNED } else { 0 },
        run_id: record::run_id_hash(run),
        producer_id: producer,
        record_length: length as u32,
        weight: 1,
        sequence,
        timestamp_ns: 1_000 + sequence,
        signature: 0,
        body_crc32c: crc32c::checksum(&body),
        crc32c: 0,
    };
    if let Some(key) = sign_key {
        let head = header.encode();
        let sip = SipHasher24::new_with_key(&key);
        let digest = sip.hash(&body).to_le_bytes();
        header.signature = sip.hash(&[&head[..48], &head[56..60], &digest[..]].concat());
    }
    let unsealed = header.encode();
    header.crc32c = crc32c::append(crc32c::checksum(&unsealed), &body);
    [&header.encode()[..], &body].concat()
}

fn length_of(sequence: u64) -> usize {
    64 + (sequence as usize * 37) % 200
}

fn records(sequences: impl IntoIterator<Item = u64>) -> Vec<Vec<u8>> {
    sequences.into_iter().map(|at| record_of("run", 0, at, length_of(at))).collect()
}

fn manifest(layout: Layout, length_bytes: u64, first: u64, next: u64) -> Manifest {
    Manifest {
        data_file: String::new(),
        format: FORMAT.to_owned(),
        run_id: "run".to_owned(),
        earlier_runs: Vec::new(),
        producer_id: 0,
        layout,
        records: RecordFormat::Header,
        length_bytes,
        complete: true,
        first_sequence: first,
        next_sequence: next,
        missing: Vec::new(),
        missing_truncated: false,
        in_flight_bytes_max: 1000,
    }
}

/// A folder with one producer's data and, perhaps, its manifest.
struct Store {
    folder: TempDir,
}

impl Store {
    fn new(data: &[u8], manifest: Option<&Manifest>) -> Self {
        let store = Self { folder: TempDir::new().unwrap() };
        store.add("payloads.0.bin", data);
        if let Some(manifest) = manifest {
            manifest.write(&store.path("payloads.0.json")).unwrap();
        }
        store
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn add(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn args(&self) -> VerifyArgs {
        VerifyArgs { sources: vec![text(self.folder.path())], threads: 2, ..VerifyArgs::default() }
    }

    fn verify(&self) -> Findings {
        verify(&self.args()).unwrap()
    }
}

/// Nobody watches.
fn verify(args: &VerifyArgs) -> Result<Findings, Fatal> {
    super::verify(args, &ReadProgress::default())
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn pipe(bytes: &[u8]) -> Findings {
    verify_reader(&mut &bytes[..], "stdin", &VerifyArgs::default()).unwrap()
}

fn file(bytes: &[u8]) -> Findings {
    Store::new(bytes, None).verify()
}

/// A file whose manifest says that it held `sound`, and that now holds `bytes`.
fn append(bytes: &[u8], sound: &[u8], next: u64) -> Findings {
    Store::new(bytes, Some(&manifest(Layout::Append, sound.len() as u64, 0, next))).verify()
}

fn kinds(findings: &Findings) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = findings.damage.iter().map(|finding| finding.kind).collect();
    kinds.dedup();
    kinds
}

#[track_caller]
fn assert_clean(findings: &Findings, records: u64) {
    assert!(findings.clean, "{}", findings.summary());
    assert_eq!(findings.records, records, "{}", findings.summary());
    assert_eq!(findings.exit(), Exit::Done);
}

fn only(findings: &Findings, kind: Kind) -> &Finding {
    let mut of_kind = findings.damage.iter().filter(|finding| finding.kind == kind);
    let one = of_kind.next().unwrap_or_else(|| panic!("no {kind:?} in\n{}", findings.summary()));
    assert!(of_kind.next().is_none(), "more than one {kind:?} in\n{}", findings.summary());
    assert_eq!(findings.exit(), Exit::Failed);
    one
}

#[test]
fn sound_data_is_clean_everywhere() {
    let data = records(0..50).concat();
    assert_clean(&pipe(&data), 50);
    assert_clean(&file(&data), 50);
    assert_clean(&append(&data, &data, 50), 50);
    let padded = [&data[..], &[0; 5000]].concat();
    assert_clean(&file(&padded), 50);
    assert_clean(&append(&padded, &data, 50), 50);
    assert_eq!(kinds(&pipe(b"")), [Kind::Nothing], "nothing is no proof");
    let findings = append(&data, &data, 50);
    assert!(findings.summary().contains("0 gaps (0 missing), 0 duplicates, 0 reordered, 0 corrupt records"));
    let json = serde_json::to_value(&findings).unwrap();
    assert_eq!(json["counts"]["gap"]["findings"], 0);
}

/// Every way to damage a stream of records, each with the kind that must be named and where.
#[test]
fn each_kind_of_damage_is_named_in_files_and_pipes() {
    let sound = records(0..40);
    let data = sound.concat();
    let offset = |at: usize| sound[..at].iter().map(Vec::len).sum::<usize>() as u64;
    let both = |bytes: &[u8]| [append(bytes, &data, 40), file(bytes), pipe(bytes)];

    let mut dropped = sound.clone();
    dropped.remove(17);
    for findings in both(&dropped.concat()) {
        let gap = only(&findings, Kind::Gap);
        assert_eq!((gap.producer_id, gap.first_sequence, gap.last_sequence), (Some(0), Some(17), Some(17)));
        assert_eq!(gap.byte, Some(offset(17)));
    }

    let mut doubled = sound.clone();
    doubled.insert(18, sound[17].clone());
    for findings in both(&doubled.concat()) {
        let duplicate = only(&findings, Kind::Duplicate);
        assert_eq!((duplicate.first_sequence, duplicate.last_sequence), (Some(17), Some(17)));
        assert_eq!(duplicate.byte, Some(offset(18)));
        assert_eq!(kinds(&findings), [Kind::Duplicate], "{}", findings.summary());
    }

    let mut swapped = sound.clone();
    swapped.swap(17, 18);
    for findings in both(&swapped.concat()) {
        assert_eq!(kinds(&findings), [Kind::Reordered]);
        assert_eq!(only(&findings, Kind::Reordered).first_sequence, Some(17));
    }

    for findings in both(&data[..data.len() - 10]) {
        assert!(kinds(&findings).contains(&Kind::Truncated), "{}", findings.summary());
    }

    let mut foreign = sound.clone();
    foreign[17] = record_of("old run", 0, 17, sound[17].len());
    for findings in both(&foreign.concat()) {
        assert_eq!(kinds(&findings), [Kind::Gap, Kind::Foreign]);
        assert_eq!(only(&findings, Kind::Foreign).byte, Some(offset(17)));
    }

    let mut stale = sound.clone();
    stale[17] = record_of("run", 0, 3, sound[17].len());
    for findings in both(&stale.concat()) {
        assert_eq!(only(&findings, Kind::Duplicate).first_sequence, Some(3));
        assert_eq!(only(&findings, Kind::Gap).first_sequence, Some(17));
    }

    let mut garbage = data.clone();
    garbage.splice(offset(17) as usize..offset(17) as usize, [7; 33]);
    for findings in both(&garbage) {
        let unrecognised = only(&findings, Kind::Unrecognised);
        assert_eq!(unrecognised.byte, Some(offset(17)));
        assert!(unrecognised.what.contains("33 bytes"));
    }
}

#[test]
fn body_and_header_damage_are_told_apart_and_do_not_derail() {
    let sound = records(0..10);
    let start: usize = sound[..4].iter().map(Vec::len).sum();
    for (at, said) in [(70, "body"), (33, "header")] {
        let mut data = sound.concat();
        data[start + at] ^= 4;
        for findings in [pipe(&data), file(&data), append(&data, &sound.concat(), 10)] {
            let corrupt = only(&findings, Kind::Corrupt);
            assert!(corrupt.what.contains(said), "{}", corrupt.what);
            assert_eq!((corrupt.byte, findings.records), (Some(start as u64), 9));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = pipe(&bytes);
        let store = Store::new(&bytes, Some(&manifest(Layout::Append, bytes.len() as u64, 0, 5)));
        prop_assert!(!store.verify().clean);
        store.add("payloads.0.json", &bytes);
        let _ = store.verify();
    }

    #[test]
    fn no_manifest_panics(
        ring: bool, numbers in proptest::array::uniform8(prop_oneof![0u64..30, any::<u64>()]), complete: bool, data in 0u64..12,
    ) {
        let [capacity_bytes, lap_bytes, lap_records, length, first, next, from, to] = numbers;
        let layout = if ring { Layout::Ring { capacity_bytes, lap_bytes, lap_records } } else { Layout::Append };
        let mut facts = manifest(layout, length, first, next);
        facts.complete = complete;
        facts.missing = vec![(from, to), (to, from)];
        let _ = Store::new(&records(0..data).concat(), Some(&facts)).verify();
    }
}

#[test]
fn records_longer_than_the_window_are_checked_whole() {
    let long = record_of("run", 0, 0, 3 * window::WINDOW_BYTES + 5);
    let data = [long.clone(), record_of("run", 0, 1, 64), record_of("run", 0, 2, 2 * window::WINDOW_BYTES)].concat();
    assert_clean(&append(&data, &data, 3), 3);
    assert_clean(&pipe(&data), 3);
    let mut flipped = data.clone();
    flipped[long.len() - 1] ^= 1;
    for findings in [append(&flipped, &data, 3), pipe(&flipped)] {
        assert_eq!(only(&findings, Kind::Corrupt).first_sequence, Some(0));
        assert_eq!(findings.records, 2);
    }
}

#[test]
fn several_producers_and_runs_in_one_pipe_are_told_apart() {
    let mixed: Vec<Vec<u8>> = (0..60).map(|at| record_of("run", (at % 3) as u32, at / 3, 64 + at as usize)).collect();
    assert_clean(&pipe(&mixed.concat()), 60);
    let mut dropped = mixed.clone();
    dropped.remove(31);
    let findings = pipe(&dropped.concat());
    let gap = only(&findings, Kind::Gap);
    assert_eq!((gap.producer_id, gap.first_sequence), (Some(1), Some(10)));
    let two_runs = [mixed.concat(), record_of("other", 7, 0, 80)].concat();
    let findings = pipe(&two_runs);
    assert_eq!(only(&findings, Kind::Foreign).producer_id, Some(7));
}

#[test]
fn rotated_files_are_one_stream() {
    let data = records(20..30).concat();
    let facts = manifest(Layout::Append, data.len() as u64, 0, 30);
    let store = Store::new(&data, Some(&facts));
    store.add("payloads.0.bin.20260101T000000.000000001Z", &[records(0..10).concat(), vec![0; 512]].concat());
    store.add("payloads.0.bin.20260101T000000.000000002Z", &records(10..20).concat());
    store.add("payloads.0.log", b"an audit line\n");
    store.add("unrelated.json", b"{}");
    assert_clean(&store.verify(), 30);
    // Named one by one, in any order, they are still one stream.
    let names = ["payloads.0.bin.20260101T000000.000000002Z", "payloads.0.bin", "payloads.0.json"];
    let sources = names.iter().map(|name| text(&store.path(name))).collect();
    assert_clean(&verify(&VerifyArgs { sources, ..VerifyArgs::default() }).unwrap(), 30);
    store.add("payloads.0.bin.20260101T000000.000000000Z", &{ record_of("earlier", 0, 5, 99) });
    assert_clean(&store.verify(), 31);
    std::fs::remove_file(store.path("payloads.0.bin.20260101T000000.000000002Z")).unwrap();
    let findings = store.verify();
    let gap = only(&findings, Kind::Gap);
    assert_eq!((gap.first_sequence, gap.last_sequence, gap.byte), (Some(10), Some(19), Some(0)));
    std::fs::remove_file(store.path("payloads.0.bin.20260101T000000.000000001Z")).unwrap();
    assert_eq!(store.verify().count(Kind::Gap).records, 20);
}

#[test]
fn what_is_not_there_is_said() {
    let store = Store::new(&records(0..5).concat(), None);
    let at = |name: &str| VerifyArgs { sources: vec![text(&store.path(name))], ..VerifyArgs::default() };
    assert_eq!(verify(&at("nowhere.bin")).unwrap_err().exit, Exit::Usage);
    assert_eq!(verify(&VerifyArgs::default()).unwrap_err().exit, Exit::Usage);
    let empty = TempDir::new().unwrap();
    let args = VerifyArgs { sources: vec![text(empty.path())], ..VerifyArgs::default() };
    assert!(verify(&args).unwrap_err().what.contains("holds no data"));
    let kafka = VerifyArgs { sources: vec!["kafka://localhost/t".to_owned()], ..VerifyArgs::default() };
    assert_eq!(verify(&kafka).unwrap_err().exit, Exit::Usage);
    manifest(Layout::Append, 100, 0, 5).write(&empty.path().join("payloads.4.json")).unwrap();
    // Whoever opened that one would wait for a writer.
    let pipe = empty.path().join("payloads.4.dat");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let findings = verify(&args).unwrap();
    assert_eq!(only(&findings, Kind::Gap).records, 5);
    assert!(kinds(&findings).contains(&Kind::Truncated));
    store.add("payloads.0.json", b"not json");
    assert_eq!(kinds(&store.verify()), [Kind::Malformed]);
    let other_run = VerifyArgs { run_id: Some("another".to_owned()), ..at("payloads.0.bin") };
    assert!(kinds(&verify(&other_run).unwrap()).contains(&Kind::Foreign));
    let this_run = VerifyArgs { run_id: Some(record::run_id_hash("run").to_string()), ..other_run };
    assert!(kinds(&verify(&this_run).unwrap()) == [Kind::Malformed]);
}

#[test]
fn another_run_is_called_so_in_a_file_of_its_own_as_in_a_pipe() {
    let (wanted, other) = (records(0..10).concat(), record_of("other", 1, 0, 100));
    let store = Store::new(&wanted, Some(&manifest(Layout::Append, wanted.len() as u64, 0, 10)));
    store.add("payloads.1.bin", &other);
    let facts = manifest(Layout::Append, 100, 0, 1);
    let facts = Manifest { run_id: "other".to_owned(), producer_id: 1, ..facts };
    facts.write(&store.path("payloads.1.json")).unwrap();
    store.add(
        "report.txt",
        br#"{"run_id":"run","producers":[{"id":0,"records_produced":10,"first_sequence":0,"last_sequence":9}]}"#,
    );
    let args = VerifyArgs { expect: vec![store.path("report.txt")], ..store.args() };
    let in_a_pipe = verify_reader(&mut &[wanted, other].concat()[..], "stdin", &args).unwrap();
    for findings in [verify(&args).unwrap(), in_a_pipe] {
        assert!(findings.summary().starts_with("OTHER RUNS: "), "{}", findings.summary());
        assert_eq!(only(&findings, Kind::Foreign).producer_id, Some(1));
    }
}

#[test]
fn signatures_are_checked_with_their_key() {
    let signed: Vec<Vec<u8>> = (0..5).map(|at| seal("run", 0, at, 100, Some(SIGN_KEY))).collect();
    let data = signed.concat();
    let store = Store::new(&data, Some(&manifest(Layout::Append, data.len() as u64, 0, 5)));
    let with = |key| verify(&VerifyArgs { sign_key: key, ..store.args() }).unwrap();
    let unchecked = |findings: &Findings| findings.summary().contains("explained: records are signed, but without");
    for findings in [with(None), pipe(&data), file(&data)] {
        assert_clean(&findings, 5);
        assert!(unchecked(&findings), "{}", findings.summary());
    }
    assert_clean(&with(Some(SIGN_KEY)), 5);
    assert!(!unchecked(&with(Some(SIGN_KEY))) && !unchecked(&pipe(&records(0..5).concat())));
    assert_eq!(with(Some([0; 16])).count(Kind::Forged).findings, 5);
    let lists = TempDir::new().unwrap();
    let list = lists.path().join("ids.csv");
    std::fs::write(&list, "run,0,5\n").unwrap();
    let ids = Some(text(&list));
    let beside = verify(&VerifyArgs { ids, sign_key: Some(SIGN_KEY), ..store.args() }).unwrap();
    assert!(beside.explained[0].ends_with("--sign-key has no effect on a list of ids"), "{:?}", beside.explained);
    let mut forged = signed.clone();
    forged[2] = record_of("run", 0, 2, 100);
    store.add("payloads.0.bin", &forged.concat());
    let findings = with(Some(SIGN_KEY));
    assert_eq!(only(&findings, Kind::Forged).first_sequence, Some(2));
    assert_eq!(kinds(&findings), [Kind::Forged]);

    // Another body and a checksum that fits it, under the old signature.
    let mut forged = signed;
    let mut header = Header::decode(&forged[3]).unwrap();
    forged[3][80] ^= 1;
    header.crc32c = 0;
    header.crc32c = crc32c::append(crc32c::checksum(&header.encode()), &forged[3][HEADER_BYTES..]);
    forged[3][..HEADER_BYTES].copy_from_slice(&header.encode());
    store.add("payloads.0.bin", &forged.concat());
    assert_clean(&with(None), 5);
    assert_eq!(only(&with(Some(SIGN_KEY)), Kind::Forged).first_sequence, Some(3));
}

#[test]
fn long_lists_of_damage_are_bounded_and_counted() {
    let data: Vec<u8> = (0..3000).flat_map(|at| record_of("run", 0, at * 2, 64)).collect();
    let findings = file(&data);
    assert_eq!(findings.count(Kind::Gap).findings, 2999);
    assert_eq!(findings.damage.len(), findings::LISTED_PER_KIND_MAX);
    let summary = findings.summary();
    assert!(summary.lines().count() < 60 && summary.contains("and 2,991 more"), "{summary}");
}
