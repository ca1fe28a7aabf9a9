//! Damage done by hand to real output: each kind is named, with the record it hit.

use crate::harness::Scratch;
use engine::record::{CRC_OFFSET, Header};
use engine::wire::crc32c;
use serde_json::Value;

const SIZE: usize = 1000;
const RECORDS: usize = 3000;

/// A run's data file, its manifest and its report.
fn written(scratch: &Scratch) -> Vec<u8> {
    scratch.report(&format!("--target file:one.bin --payload-size {SIZE} --records {RECORDS} --run-id night"));
    let data = scratch.read("one.bin");
    assert_eq!(data.len(), SIZE * RECORDS);
    data
}

fn record(data: &[u8], number: usize) -> &[u8] {
    &data[number * SIZE..(number + 1) * SIZE]
}

/// All records, in the order that these numbers say.
fn arranged(data: &[u8], numbers: impl IntoIterator<Item = usize>) -> Vec<u8> {
    numbers.into_iter().flat_map(|number| record(data, number)).copied().collect()
}

/// One finding of `kind` on `sequence`, and exit 1: with the manifest, without it, and with one and two threads.
#[track_caller]
fn finds(scratch: &Scratch, data: &[u8], kind: &str, sequence: usize) -> Value {
    scratch.write("one.bin", data);
    scratch.write("bare.bin", data);
    let mut last = Value::Null;
    for words in ["one.bin", "bare.bin", "bare.bin --threads 1", "one.bin --expect report.json"] {
        let (findings, code) = scratch.verify(words);
        assert_eq!(code, 1, "{words}: {findings:#}");
        let found = findings["damage"]
            .as_array()
            .unwrap()
            .iter()
            .find(|finding| finding["kind"] == kind || kind == "gap" && finding["kind"] == "absent");
        let found = found.unwrap_or_else(|| panic!("{words}: no {kind}: {findings:#}"));
        let range = found["first_sequence"].as_u64().zip(found["last_sequence"].as_u64());
        let named = range.is_some_and(|(first, last)| (first..=last).contains(&(sequence as u64)));
        assert!(named || found["byte"] == sequence * SIZE, "{words}: {found:#}");
        assert_eq!(found["producer_id"], 0);
        let said = scratch.run(&format!("verify {words}"));
        let text = String::from_utf8(said.stdout).unwrap();
        assert!(text.starts_with("DAMAGED") && text.contains(found["kind"].as_str().unwrap()), "{text}");
        last = found.clone();
    }
    last
}

#[test]
fn an_intact_file_is_intact_with_and_without_its_manifest() {
    let scratch = Scratch::new();
    let data = written(&scratch);
    scratch.write("bare.bin", &data);
    for words in ["one.bin", "bare.bin", "one.bin --run-id night", "bare.bin --expect report.json"] {
        assert_eq!(scratch.verify_clean(words)["records"], RECORDS);
        let ended = scratch.run(&format!("verify {words}"));
        assert!(ended.stdout.starts_with(b"intact: ") && ended.stderr.is_empty(), "no live line in a log: {ended}");
    }
    let (_, code) = scratch.verify("one.bin --run-id another");
    assert_eq!(code, 1);
}

#[test]
fn a_flipped_bit_anywhere_in_a_record() {
    let scratch = Scratch::new();
    let data = written(&scratch);
    for byte in [8, 16, 25, 33, 41, 57, 61, 64, 500, SIZE - 1] {
        let mut damaged = data.clone();
        damaged[1700 * SIZE + byte] ^= 0x10;
        scratch.write("one.bin", &damaged);
        let (findings, code) = scratch.verify("one.bin");
        assert_eq!((code, findings["damage"].as_array().unwrap().is_empty()), (1, false), "byte {byte}");
        let named = findings["damage"].as_array().unwrap().iter().any(|finding| finding["byte"] == 1700 * SIZE);
        assert!(named, "byte {byte}: {findings:#}");
        assert_eq!(findings["records"].as_u64().unwrap() as usize, RECORDS - 1, "byte {byte}: {findings:#}");
    }
    let mut damaged = data.clone();
    damaged[1700 * SIZE + 500] ^= 1;
    let found = finds(&scratch, &damaged, "corrupt", 1700);
    assert_eq!(found["byte"], 1700 * SIZE);
}

#[test]
fn a_record_without_its_magic_or_length() {
    let scratch = Scratch::new();
    let data = written(&scratch);
    for byte in [0, 4, 6, 20, 22] {
        let mut damaged = data.clone();
        damaged[900 * SIZE + byte] ^= 0x40;
        scratch.write("one.bin", &damaged);
        let (findings, code) = scratch.verify("one.bin --expect report.json");
        assert_eq!(code, 1, "byte {byte}: {findings:#}");
        let named = findings["damage"].as_array().unwrap().iter().any(|finding| finding["byte"] == 900 * SIZE);
        assert!(named, "byte {byte}: {findings:#}");
    }
}

#[test]
fn a_dropped_record_is_a_gap() {
    let scratch = Scratch::new();
    let data = written(&scratch);
    let damaged = arranged(&data, (0..RECORDS).filter(|number| *number != 1234));
    finds(&scratch, &damaged, "gap", 1234);
}

#[test]
fn a_doubled_record_is_a_duplicate() {
    let scratch = Scratch::new();
    let data = written(&scratch);
    let damaged = arranged(&data, (0..=777).chain(777..RECORDS));
    finds(&scratch, &damaged, "duplicate", 777);
}

#[test]
fn swapped_records_are_reordered() {
    let scratch = Scratch::new();
    let data = written(&scratch);
    let swapped = (0..RECORDS).map(|number| match number {
        500 => 501,
        501 => 500,
        other => other,
    });
    finds(&scratch, &arranged(&data, swapped), "reordered", 500);
}

#[test]
fn a_file_that_is_cut_off() {
    let scratch = Scratch::new();
    let data = written(&scratch);
    for length in [data.len() - 1, data.len() - SIZE, data.len() / 2 + 17, 0] {
        scratch.write("one.bin", &data[..length]);
        let (findings, code) = scratch.verify("one.bin");
        assert_eq!(code, 1, "{length}: {findings:#}");
        assert!(findings["counts"]["truncated"]["findings"].as_u64().unwrap() > 0, "{length}: {findings:#}");
        let (findings, code) = scratch.verify("one.bin --expect report.json");
        assert_eq!(code, 1, "{findings:#}");
    }
}

#[test]
fn a_record_of_another_run() {
    let (scratch, others) = (Scratch::new(), Scratch::new());
    let data = written(&scratch);
    others.report(&format!("--target file:other.bin --payload-size {SIZE} --records {RECORDS} --run-id day"));
    let mut damaged = data.clone();
    damaged[42 * SIZE..43 * SIZE].copy_from_slice(record(&others.read("other.bin"), 42));
    let found = finds(&scratch, &damaged, "foreign", 42);
    assert_eq!(found["byte"], 42 * SIZE);
}

#[test]
fn what_was_added_behind_the_end() {
    let scratch = Scratch::new();
    let data = written(&scratch);
    for (more, kind) in [(&b"garbage\n"[..], "unrecognised"), (&data[..], "duplicate")] {
        scratch.write("one.bin", [&data[..], more].concat());
        let (findings, code) = scratch.verify("one.bin --expect report.json");
        assert_eq!(code, 1, "{kind}: {findings:#}");
        assert_eq!(findings["counts"][kind]["findings"], 1, "{kind}: {findings:#}");
    }
    scratch.write("one.bin", [&data[..], &[0; 5000]].concat());
    scratch.verify_clean("one.bin --expect report.json");
}

#[test]
fn rotated_files_whose_manifest_or_data_file_is_lost() {
    let scratch = Scratch::new();
    scratch.report("--target file:data/ --parallel 1 --rotate-size-mb 1 --payload-size 1000 --records 3000");
    let (data, facts) = (scratch.read("data/payloads.0.bin"), scratch.path("data/payloads.0.json"));
    std::fs::remove_file(scratch.path("data/payloads.0.bin")).unwrap();
    let (findings, code) = scratch.verify("data/");
    assert_eq!((code, findings["records"].as_u64()), (1, Some(3000 - data.len() as u64 / 1000)), "{findings:#}");
    scratch.write("data/payloads.0.bin", &data);
    std::fs::remove_file(facts).unwrap();
    let findings = scratch.verify_clean("data/");
    assert_eq!(findings["records"], 3000);
    assert!(findings["explained"].to_string().contains("no manifest, starts at sequence 0;"), "{findings:#}");
    assert_eq!(scratch.verify_clean("data/ --expect report.json")["records"], 3000);
}

/// The record as it was one lap earlier: right in itself, but it should be gone.
fn aged(record: &[u8], lap: u64) -> Vec<u8> {
    let mut old = Header::decode(record).unwrap();
    old.sequence -= lap;
    old.crc32c = 0;
    let mut bytes = record.to_vec();
    bytes[..64].copy_from_slice(&old.encode());
    let crc = crc32c::checksum(&bytes);
    bytes[CRC_OFFSET..CRC_OFFSET + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn damage_in_a_ring() {
    let scratch = Scratch::new();
    scratch.report("--target file:ring.bin --preallocate 1Mi --payload-size 1024 --records 2500 --block-size 16Ki --ring-size 64Ki");
    scratch.verify_clean("ring.bin --expect report.json");
    let manifest: Value = serde_json::from_slice(&scratch.read("ring.json")).unwrap();
    let lap = manifest["layout"]["lap_records"].as_u64().unwrap();
    let data = scratch.read("ring.bin");
    // 2500 records: the newest lap lies in front of the seam, so this record is among the newest.
    let at = 100 * 1024;
    let sequence = Header::decode(&data[at..]).unwrap().sequence;
    let old = aged(&data[at..at + 1024], lap);
    let mut flipped = data[at..at + 1024].to_vec();
    flipped[700] ^= 4;
    for (record, kind) in [(old, "stale"), (flipped, "corrupt"), (vec![0; 1024], "unrecognised")] {
        let mut damaged = data.clone();
        damaged[at..at + 1024].copy_from_slice(&record);
        scratch.write("ring.bin", &damaged);
        let (findings, code) = scratch.verify("ring.bin --expect report.json");
        assert_eq!(code, 1, "{kind}: {findings:#}");
        assert_eq!(findings["counts"][kind]["findings"], 1, "{kind}: {findings:#}");
        let all = findings["damage"].as_array().unwrap();
        assert!(
            all.iter().any(|finding| finding["first_sequence"] == sequence || finding["byte"] == at),
            "{findings:#}"
        );
    }
}

#[test]
fn damage_in_a_pipe() {
    let scratch = Scratch::new();
    let data = written(&scratch);
    let damaged = arranged(&data, (0..RECORDS).filter(|number| *number != 1234));
    for (bytes, code) in [(&data, 0), (&damaged, 1)] {
        let ended = crate::harness::feed(&mut scratch.engine("verify - --json"), bytes);
        assert_eq!(ended.code(), code, "{ended}");
    }
}

#[test]
fn ids_that_some_system_downstream_exported() {
    let scratch = Scratch::new();
    let data = written(&scratch);
    let lines: Vec<String> = (0..RECORDS)
        .map(|number| {
            let header = Header::decode(record(&data, number)).unwrap();
            format!("night,{},{},{}\n", header.producer_id, header.sequence, header.crc32c)
        })
        .collect();
    let header = "run_id,producer_id,sequence,crc32c\n";
    let shuffled: String = (0..RECORDS).map(|at| lines[at * 7 % RECORDS].clone()).collect();
    scratch.write("ids.csv", format!("{header}{}", lines.concat()));
    scratch.write("shuffled.csv", shuffled);
    let json: String =
        (0..RECORDS).map(|n| format!("{{\"run_id\":\"night\",\"producer_id\":0,\"sequence\":\"{n}\"}}\n")).collect();
    scratch.write("ids.jsonl", json);
    for list in ["ids.csv", "shuffled.csv", "ids.jsonl"] {
        let findings = scratch.verify_clean(&format!("--ids {list} --run-id night --expect report.json"));
        assert_eq!(findings["records"], RECORDS, "{list}");
    }
    scratch.write("ids.csv", lines[..900].concat() + &lines[901..].concat() + &lines[5]);
    let (findings, code) = scratch.verify("--ids ids.csv --run-id night");
    assert_eq!(code, 1);
    let counts = ["gap", "duplicate"].map(|kind| findings["counts"][kind]["records"].clone());
    assert_eq!(counts, [1, 1], "{findings:#}");
    let gap = findings["damage"].as_array().unwrap().iter().find(|finding| finding["kind"] == "gap").unwrap();
    assert_eq!(gap["first_sequence"], 900);
}

#[test]
fn what_is_named_like_ours_and_is_not_holds_nobody_up() {
    let scratch = Scratch::new();
    scratch.report("--target file:data/ --parallel 1 --records 100");
    scratch.write("data/other.json", "{\"format\": \"of another program\"}");
    for pipe in ["data/pipe.json", "data/pipe.bin"] {
        let made = std::process::Command::new("mkfifo").arg(scratch.path(pipe)).status().unwrap();
        assert!(made.success());
    }
    scratch.verify_clean("data/ --expect report.json");
}

/// As `--target` has it.
#[test]
fn a_file_may_be_named_by_its_url() {
    let scratch = Scratch::new();
    scratch.report("--target file:data/ --parallel 1 --records 100");
    let absolute = scratch.path("data/payloads.0.bin").display().to_string();
    for source in ["file:data/".to_owned(), format!("file://{absolute}"), format!("file:{absolute}")] {
        assert_eq!(scratch.verify_clean(&format!("{source} --expect report.json"))["records"], 100, "{source}");
    }
    // Named twice, it is read once.
    assert_eq!(scratch.verify_clean("file:data/ data/")["records"], 100);
    let ended = scratch.run("verify file:nowhere/");
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["nowhere/: No such file or directory", "mend: name an existing file or folder"]);
    // What has that very name is meant by it.
    std::fs::create_dir(scratch.path("file:data")).unwrap();
    scratch.write("file:data/one.bin", b"");
    let ended = scratch.run("verify file:data/");
    assert!(ended.code() == 1 && ended.stdout.starts_with(b"nothing to verify"), "{ended}");
}

#[test]
fn nothing_to_read_is_a_mistake_not_damage() {
    let scratch = Scratch::new();
    for words in ["verify", "verify nowhere/", "verify --ids nowhere.csv"] {
        let ended = scratch.run(words);
        assert_eq!(ended.code(), 2, "{words}: {ended}");
    }
}

#[test]
fn no_record_at_all_is_no_proof_unless_somebody_says_so() {
    let scratch = Scratch::new();
    scratch.write("empty", b"");
    for words in ["verify empty", "verify -", "verify /dev/null", "verify --ids empty"] {
        let ended = scratch.run(words);
        assert_eq!(ended.code(), 1, "{words}: {ended}");
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(said.starts_with("nothing to verify"), "{words}: {ended}");
    }
    // One of two producers had nothing to send; its manifest says so.
    scratch.report("--target file:data/ --parallel 2 --records 1");
    scratch.verify_clean("data/payloads.1.bin");
    scratch.verify_clean("data/ --expect report.json");
}
