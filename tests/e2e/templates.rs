//! Payload templates: what arrives is read with other people's eyes.

use crate::harness::{Scratch, repository};
use crate::report::total;
use engine::wire::crc32c;
use serde_json::Value;

const LINE: &str = r#"{"run":"{{run_id}}","producer":{{producer_id}},"sequence":"{{sequence}}","at":"{{timestamp}}","at_ns":"{{timestamp_ns}}","weight":"{{weight}}","crc32c":{{crc32c}}}"#;

/// The CRC32C of a record with the bytes of its checksum slot as ASCII zeros.
fn checksum(record: &[u8], slot: &Value) -> u32 {
    let mut record = record.to_vec();
    let start = slot["offset"].as_u64().unwrap() as usize;
    record[start..start + slot["width"].as_u64().unwrap() as usize].fill(b'0');
    crc32c::checksum(&record)
}

#[test]
fn json_lines_are_read_by_any_reader() {
    let scratch = Scratch::new();
    scratch.write("event.json", format!("{LINE}\n"));
    let words = "--target file:data.jsonl --payload-template event.json --run-id night --records 3000 --rate 20MB/s";
    scratch.report(words);
    let manifest: Value = serde_json::from_slice(&scratch.read("data.json")).unwrap();
    let slots = manifest["records"]["templates"][0]["slots"].as_array().unwrap();
    let crc = slots.iter().find(|slot| slot["fact"] == "crc32c").unwrap();
    let data = scratch.read("data.jsonl");
    let lines: Vec<_> = data.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), 3000);
    let mut before = 0;
    for (number, line) in lines.into_iter().enumerate() {
        let record: Value = serde_json::from_slice(line).unwrap();
        assert_eq!(record["sequence"], number.to_string());
        assert_eq!((&record["run"], &record["producer"], &record["weight"]), (&"night".into(), &0.into(), &"1".into()));
        assert_eq!(record["crc32c"], checksum(line, crc), "line {number}");
        let at_ns: u64 = record["at_ns"].as_str().unwrap().parse().unwrap();
        assert!(at_ns >= before);
        before = at_ns;
        let at = record["at"].as_str().unwrap();
        let nanoseconds = format!(".{:09}Z", at_ns % 1_000_000_000);
        assert!(at.ends_with(&nanoseconds) && at.len() == 30, "{at} {at_ns}");
    }
    scratch.verify_clean("data.jsonl --expect report.json");
}

#[test]
fn the_shipped_events_work_in_rings_and_with_weights() {
    for (name, more) in
        [("header-event.json", "--direct on"), ("weighted-sample.json", "--mode sampled --weight 100 --rate 100MB/s")]
    {
        let scratch = Scratch::new();
        let path = repository("schemas/fixtures/generator").join(name);
        let words = format!("--payload-template {} {more} --records 4000", path.display());
        scratch.report(&format!("--target file:data/ --parallel 1 --preallocate 1Mi {words}"));
        scratch.verify_clean("data/ --expect report.json");
    }
}

/// Ones' complement sum of big-endian words, as the FITS standard defines it.
fn fits_sum(bytes: &[u8]) -> u32 {
    let mut sum: u64 = bytes.chunks(4).map(|word| u64::from(u32::from_be_bytes(word.try_into().unwrap()))).sum();
    while sum > u64::from(u32::MAX) {
        sum = (sum & u64::from(u32::MAX)) + (sum >> 32);
    }
    sum as u32
}

fn card<'a>(record: &'a [u8], name: &str) -> &'a str {
    let card = record.chunks(80).find(|card| card.starts_with(format!("{name:<8}=").as_bytes()));
    let text = std::str::from_utf8(card.unwrap_or_else(|| panic!("no card {name}"))).unwrap();
    text[10..].split(" /").next().unwrap().trim().trim_matches('\'').trim()
}

#[test]
fn fits_images_keep_their_form_and_their_checksums() {
    let scratch = Scratch::new();
    let path = repository("schemas/fixtures/generator/image.fits");
    let words = format!("--payload-template {} --run-id night --records 50", path.display());
    let report = scratch.report(&format!("--target file:data.bin {words}"));
    let data = scratch.read("data.bin");
    let length = data.len() / 50;
    assert_eq!(length % 2880, 0);
    assert_eq!(total(&report, "bytes_produced"), data.len() as u64);
    for (number, record) in data.chunks(length).enumerate() {
        assert!(record.starts_with(b"SIMPLE  =                    T"));
        assert_eq!(fits_sum(record), u32::MAX, "record {number}");
        assert_eq!(card(record, "SEQUENCE"), number.to_string());
        assert_eq!((card(record, "RUNID"), card(record, "PRODUCER")), ("night", "0"));
        assert_eq!(card(record, "DATE-OBS"), "2026-01-01T00:00:00.000");
        assert!(!card(record, "DATE").ends_with('Z'));
    }
    scratch.verify_clean("data.bin --expect report.json");
}

/// A folder of JSON lines of three lengths.
fn folder(scratch: &Scratch) -> Vec<Vec<u8>> {
    std::fs::create_dir(scratch.path("templates")).unwrap();
    let files = [("a.json", 3), ("b.json", 700), ("c.json", 40)];
    files
        .iter()
        .map(|(name, padding)| {
            let text = LINE.replacen('{', &format!("{{\"pad\":\"{}\",", "x".repeat(*padding)), 1) + "\n";
            scratch.write(&format!("templates/{name}"), &text);
            text.into_bytes()
        })
        .collect()
}

#[test]
fn a_folder_is_replayed_in_name_order_each_file_at_its_length() {
    for more in ["--direct off", "--direct on --io syscall", "--preallocate 256Ki", "--rotate-size-mb 1"] {
        let scratch = Scratch::new();
        folder(&scratch);
        scratch.report(&format!("--target file:data/ --parallel 1 --payload-template templates --records 5000 {more}"));
        scratch.verify_clean("data/ --expect report.json");
        if more.contains("direct") {
            let data = scratch.read("data/payloads.0.bin");
            let lines: Vec<_> = data.split_inclusive(|byte| *byte == b'\n').collect();
            assert_eq!(lines.len(), 5000);
            for (number, line) in lines.iter().enumerate() {
                let record: Value = serde_json::from_slice(line).unwrap();
                assert_eq!(record["sequence"], number.to_string());
                assert_eq!(record["pad"].as_str().unwrap().len(), [3, 700, 40][number % 3]);
            }
        }
    }
}

#[test]
fn without_annotation_files_are_sent_byte_for_byte() {
    let scratch = Scratch::new();
    let files = folder(&scratch);
    let words = "--target file:data.bin --payload-template templates --annotate off --records 1001";
    let report = scratch.report(words);
    let expected: Vec<u8> = files.iter().cycle().take(1001).flatten().copied().collect();
    assert!(scratch.read("data.bin") == expected, "the data differ from the files");
    assert_eq!(total(&report, "bytes_produced"), expected.len() as u64);
    let (findings, code) = scratch.verify("data.bin");
    assert_eq!((code, &findings["bytes_unverifiable"]), (1, &expected.len().into()), "{findings:#}");
    let said = String::from_utf8(scratch.run("verify data.bin").stdout).unwrap();
    assert!(said.starts_with("NOTHING PROVED: "), "{said}");
}

#[test]
fn lines_are_replayed_one_by_one() {
    let scratch = Scratch::new();
    scratch.write("plain.csv", "sensor-1,17.25,ok,mm\r\n\nsensor-22,9.5,failed,mm");
    let words = "--payload-template plain.csv --template-lines --annotate off --records 5";
    scratch.report(&format!("--target file:plain.out {words}"));
    let (one, two) = ("sensor-1,17.25,ok,mm\n", "sensor-22,9.5,failed,mm\n");
    assert_eq!(scratch.read("plain.out"), [one, two, one, two, one].concat().as_bytes());

    let lines = ["{\"n\": {{sequence}}, \"kind\": \"login\"}\n", "{\"n\": {{sequence}}}\n"].concat();
    scratch.write("events.ndjson", lines);
    scratch.report("--target file:data/ --payload-template events.ndjson --template-lines --records 3000 --parallel 2");
    scratch.verify_clean("data/ --expect report.json");

    let short = scratch.run("--target null --payload-template plain.csv --template-lines --payload-size 512");
    assert_eq!(short.code(), 2, "{short}");
    let alone = scratch.run("--target null --template-lines");
    assert_eq!(alone.code(), 2, "{alone}");
    alone.says(&["--template-lines has no effect without --payload-template"]);
}

#[test]
fn a_plain_file_goes_behind_the_header() {
    let scratch = Scratch::new();
    scratch.write("blob", [7u8; 3000]);
    scratch.report("--target file:data.bin --payload-template blob --records 200");
    let headers = crate::modes::headers(&scratch.read("data.bin"));
    assert_eq!(headers.len(), 200);
    assert!(headers.iter().all(|header| header.record_length == 3064));
}

#[test]
fn a_template_that_cannot_work_is_refused_by_name() {
    let scratch = Scratch::new();
    scratch.write("odd.json", r#"{"x": "{{sequins}}"}"#);
    let ended = scratch.run("--target file:data/ --payload-template odd.json");
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["odd.json", "sequins"]);
    let both = scratch.run("--target null --payload-template odd.json --payload-size 512");
    assert_eq!(both.code(), 2, "{both}");
    assert_eq!(scratch.names("."), ["odd.json"]);
}

#[test]
fn a_mix_of_headers_and_placeholders_is_refused_before_anything_starts() {
    let scratch = Scratch::new();
    folder(&scratch);
    scratch.write("templates/d.bin", [7u8; 100]);
    for more in ["--dry-run", ""] {
        let ended = scratch.run(&format!("--target null --payload-template templates {more}"));
        assert_eq!(ended.code(), 2, "{ended}");
        ended.says(&["'templates/d.bin' has no place for the facts", "--annotate=off"]);
    }
}

#[test]
fn signatures_are_checked_with_their_key() {
    let scratch = Scratch::new();
    scratch.write("right.key", b"a key of some bytes");
    scratch.write("wrong.key", b"another one");
    scratch.report("--target file:data.bin --sign-key right.key --records 2000");
    scratch.verify_clean("data.bin --sign-key right.key --expect report.json");
    let (findings, code) = scratch.verify("data.bin --sign-key wrong.key");
    assert_eq!((code, &findings["counts"]["forged"]["records"]), (1, &2000.into()), "{findings:#}");
    scratch.write("slots.json", r#"{"sequence": {{sequence}}, "run": "{{run_id}}"}                                  "#);
    let ended = scratch.run("--target null --payload-template slots.json --sign-key right.key --dry-run");
    assert_eq!(ended.code(), 2, "{ended}");
    ended.says(&["--sign-key signs", "mend:"]);
}

/// Bytes without facts: the promise cannot be proved, which is no damage; data that is gone still is.
#[test]
fn a_promise_about_unannotated_data_is_unproved() {
    let scratch = Scratch::new();
    let words = "--target file:data/ --parallel 2 --annotate off --payload-size 100-900 --records 2000";
    let ended = scratch.run(&format!("{words} --report report.json"));
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(!ended.stderr.contains("--expect"), "{ended}");
    let (findings, code) = scratch.verify("data/ --expect report.json");
    assert_eq!((code, &findings["counts"]["unproved"]["findings"]), (1, &2.into()), "{findings:#}");
    assert_eq!(findings["damage"].as_array().unwrap().len(), 2, "{findings:#}");
    scratch.write("data/payloads.0.bin", b"");
    let (findings, code) = scratch.verify("data/ --expect report.json");
    assert_eq!((code, &findings["counts"]["truncated"]["findings"]), (1, &1.into()), "{findings:#}");
}

/// Such a run could write nothing, and would never end.
#[test]
fn a_ring_that_cannot_hold_all_templates_is_refused() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("shapes")).unwrap();
    for at in 0..4 {
        scratch.write(&format!("shapes/{at}.bin"), vec![b'x'; 100_000 + at]);
    }
    // The header goes before each.
    let all = 4 * (100_000 + 64) + 6;
    let words = "--target file:data/ --parallel 1 --payload-template shapes/ --records 30";
    for flag in ["--preallocate", "--footprint"] {
        let ended = scratch.run(&format!("{words} {flag} {}", all - 1));
        assert_eq!(ended.code(), 2, "{ended}");
        ended.says(&["all 4 templates", &format!("mend: {flag}={all}")]);
    }
    scratch.report(&format!("{words} --preallocate {all}"));
    scratch.verify_clean("data/ --expect report.json");
}
