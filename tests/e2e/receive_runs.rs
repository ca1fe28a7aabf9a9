//! What the receiver says of what our own runs send to it, over TCP and HTTP.

use crate::harness::Scratch;
use crate::receive::{Receiver, number};
use serde_json::Value;
use std::io::Write;

fn records(run: &Value) -> u64 {
    number(&run["totals"], "records_produced")
}

#[test]
fn what_was_refused_or_left_open_is_not_received() {
    let scratch = Scratch::new();
    let fault = "--fault status=503:10%,truncate:5%,reset:5% --seed 5";
    let receiver = Receiver::start(&scratch, &format!("--listen http://:0 --verify --report - {fault}"));
    let words = "--records 1000 --payload-size 1000 --parallel 1 --retry 1000,1ms-5ms";
    let run = scratch.report(&format!("--target http://{}/in {words}", receiver.address));
    let (ended, report) = receiver.stopped();
    assert_eq!((ended.code(), records(&run)), (0, 1000), "{ended}\n{report:#}");
    assert!(number(&report, "refused_requests") > 0 && number(&report, "uncertain_requests") > 0, "{report:#}");
    let bytes = (number(&report, "bytes_received"), number(&report["findings"], "bytes"));
    assert_eq!(bytes, (1_000_000, 1_000_000), "{report:#}");
    ended.says(&["\"refused_requests\":", "\"uncertain_requests\":", "\"faults\":\"status=503 ", "\"clean\":true"]);
}

#[test]
fn facts_beside_the_payload_are_judged() {
    let scratch = Scratch::new();
    for words in ["", "--http-records-per-request 7 --http-pipeline 4", "--io syscall --payload-size 100-3000"] {
        let receiver = Receiver::start(&scratch, "--listen http://:0 --verify --report - --run-id nightly");
        let words = format!("--annotate headers --run-id nightly --records 500 --parallel 2 {words}");
        let run = scratch.report(&format!("--target http://{}/in {words}", receiver.address));
        let (ended, report) = receiver.stopped();
        assert_eq!(ended.code(), 0, "{words}: {ended}\n{report:#}");
        assert_eq!(number(&report, "records_received"), records(&run), "{words}: {report:#}");
        assert_eq!(report["findings"]["producers"].as_array().unwrap().len(), 2, "{report:#}");
    }
}

#[test]
fn lengths_that_are_taken_for_damage_say_which_flag_reads_them() {
    let scratch = Scratch::new();
    for (framing, code) in [("", 1), ("--framing length", 0)] {
        let receiver = Receiver::start(&scratch, &format!("--listen tcp://:0 --verify --report - {framing}"));
        let words = "--tcp-framing length --records 500 --payload-size 1000 --parallel 1";
        scratch.report(&format!("--target tcp://{} {words}", receiver.address));
        let (ended, report) = receiver.stopped();
        assert_eq!((ended.code(), number(&report, "records_received")), (code, 500), "{ended}\n{report:#}");
        let hinted = report["findings"]["explained"].to_string().contains("--framing length");
        assert_eq!(hinted, code == 1, "{report:#}");
        if code == 1 {
            let finding = "\"event\":\"finding\",\"kind\":\"unrecognised\"";
            ended.says(&[finding, "\"event\":\"explained\"", "\"clean\":false", "500 unrecognised"]);
        }
    }
}

#[test]
fn a_stream_that_lost_its_head_says_where_it_starts() {
    let scratch = Scratch::new();
    let sent = scratch.run("--target stdout --records 300 --payload-size 1000 --parallel 1 --report run.json");
    assert_eq!(sent.code(), 0, "{sent}");
    for scheme in ["tcp", "http"] {
        for (lost, said) in [(100, true), (0, false)] {
            let listen = format!("--listen {scheme}://:0 --verify --once --report - --log-format text");
            let receiver = Receiver::start(&scratch, &listen);
            let body = &sent.stdout[lost * 1000..];
            let head = format!("POST / HTTP/1.1\r\nHost: here\r\nContent-Length: {}\r\n\r\n", body.len());
            let head = if scheme == "http" { head } else { String::new() };
            receiver.connect().write_all(&[head.as_bytes(), body].concat()).unwrap();
            let (ended, report) = receiver.ended();
            assert_eq!((ended.code(), number(&report, "records_received")), (0, 300 - lost as u64), "{ended}");
            let words = "starts at sequence 100; only the run's report can prove that this is all of it";
            assert_eq!(report["findings"]["explained"].to_string().contains(words), said, "{report:#}");
            assert_eq!(ended.stderr.contains(words), said, "{ended}");
        }
    }
}

#[test]
fn what_is_listed_elsewhere_is_in_the_report() {
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen tcp://:0 --verify --report - --log-format text");
    scratch.report(&format!("--target tcp://{} --tcp-framing length --records 500", receiver.address));
    let (ended, _) = receiver.stopped();
    ended.says(&["more (--report lists up to 100 of a kind)", "explained: ", "--framing length"]);
}

#[test]
fn signatures_are_checked_or_it_is_said_that_they_were_not() {
    let scratch = Scratch::new();
    scratch.write("key", "secret");
    for (scheme, path) in [("tcp", ""), ("http", "/in"), ("kafka", "/topic")] {
        for (sender, receiver, code, told) in [
            ("--sign-key key", "", 0, "no signature was checked; --sign-key FILE"),
            ("--sign-key key", "--sign-key key", 0, ""),
            ("", "--sign-key key", 1, "record is not signed"),
        ] {
            let listen = format!("--listen {scheme}://:0 --verify --report - --log-format text {receiver}");
            let receiver = Receiver::start(&scratch, &listen);
            let words = format!("--records 100 --payload-size 1000 --parallel 1 {sender}");
            scratch.report(&format!("--target {scheme}://{}{path} {words}", receiver.address));
            let (ended, report) = receiver.stopped();
            assert_eq!(ended.code(), code, "{scheme} '{sender}': {ended}\n{report:#}");
            ended.says(&[told]);
            let unchecked = report["findings"]["explained"].to_string().contains("no signature was checked");
            assert_eq!(unchecked, code == 0 && !told.is_empty(), "{scheme} '{sender}': {report:#}");
        }
    }
}

#[test]
fn an_answer_that_a_sender_no_longer_waits_for_leaves_its_records_open() {
    let scratch = Scratch::new();
    let pipelined = "--payload-size 1000 --connections 1 --http-pipeline 2";
    let plain = "--payload-size 1000";
    for (fault, sender) in [("delay=1s:20%", plain), ("slow=40ms:20%", plain), ("delay=1s:20%", pipelined)] {
        let words = format!("--listen http://:0 --verify --report - --fault {fault} --seed 5");
        let receiver = Receiver::start(&scratch, &words);
        let words = format!("--records 25 --parallel 1 --request-timeout 400ms --retry 1000,1ms-5ms {sender}");
        let run = scratch.report(&format!("--target http://{}/in {words}", receiver.address));
        let (ended, report) = receiver.stopped();
        assert_eq!((ended.code(), records(&run)), (0, 25), "{fault}: {ended}\n{report:#}");
        assert_eq!(number(&report, "records_received"), 25, "{fault}: {report:#}");
        assert!(number(&report, "uncertain_requests") > 0, "{fault}: {report:#}");
    }
}
