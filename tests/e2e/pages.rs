//! A report rendered again: as text, as a page, beside another one.

use crate::harness::Scratch;
use crate::report;
use serde_json::Value;

fn page(scratch: &Scratch, name: &str) -> String {
    String::from_utf8(scratch.read(name)).unwrap()
}

#[test]
fn the_page_of_a_run_and_of_its_report_are_the_same_and_say_what_happened() {
    let scratch = Scratch::new();
    let words =
        "--target null --records 1234 --rate 10MB/s --cores 0 --slo errors==0 --report r.json --html first.html";
    let ended = scratch.run(&format!("run {words}"));
    assert_eq!(ended.code(), 0, "{ended}");
    let ended = scratch.run("report r.json --html second.html");
    assert_eq!(ended.code(), 0, "{ended}");
    let first = page(&scratch, "first.html");
    assert!(first == page(&scratch, "second.html"), "{first}");
    let found: Value = serde_json::from_slice(&scratch.read("r.json")).unwrap();
    assert_eq!(report::total(&found, "records_produced"), 1234);
    for words in ["<!DOCTYPE html>", "1,234", "errors==0", "<svg", found["run_id"].as_str().unwrap()] {
        assert!(first.contains(words), "'{words}' is missing in:\n{first}");
    }
    for outside in ["<script", "src=", "@import", "url("] {
        assert!(!first.contains(outside), "'{outside}' in:\n{first}");
    }
    let text = scratch.run("report r.json");
    assert!(String::from_utf8_lossy(&text.stdout).contains("1,234 records"), "{text}");
}

#[test]
fn two_runs_side_by_side() {
    let scratch = Scratch::new();
    for (rate, name) in [("1MB/s", "a.json"), ("2MB/s", "b.json")] {
        let ended = scratch.run(&format!("run --target null --records 500 --rate {rate} --cores 0 --report {name}"));
        assert_eq!(ended.code(), 0, "{ended}");
    }
    let ended = scratch.run("compare a.json b.json --json");
    assert_eq!(ended.code(), 0, "{ended}");
    let found: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert!(found.to_string().contains("2MB/s"), "{found:#}");
    let text = scratch.run("compare a.json b.json");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("rate: 1MB/s | 2MB/s") && text.contains("B/A"), "{text}");
}

#[test]
fn what_is_no_report_is_named() {
    let scratch = Scratch::new();
    scratch.write("foreign.json", "{\"a\": 1}");
    for words in [
        "report foreign.json",
        "report none.json",
        "compare foreign.json foreign.json",
        "run --target null --html no/such/r.html",
    ] {
        let ended = scratch.run(words);
        assert_eq!(ended.code(), 2, "{words}: {ended}");
        assert!(ended.stderr.contains("mend:"), "{words}: {ended}");
    }
}
