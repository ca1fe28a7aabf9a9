//! `--http-refused-by`: a 2xx that its body takes back.

use crate::harness::Scratch;
use crate::http::{BACK_ENDS, fates, run};
use crate::report::{count, total};
use crate::server::Server;
use serde_json::{Value, json};

/// As it stands in `words` of a test, which are parted at blanks.
const TEXT: &str = "\"errors\":true";
const GOOD: &str = "{\"took\":3,\"errors\":false,\"items\":[]}";
const PART: &str = "{\"took\":3,\"errors\":true,\"items\":[{\"index\":{\"error\":\"no such field\"}}]}";

/// An answer with this body, in one of the ways in which bodies come; `false`: it ends with the connection.
fn answer(body: &str, form: usize) -> (String, bool) {
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    // The text lies across the two.
    let (front, back) = body.split_at(15);
    match form {
        0 => (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()), true),
        1 => {
            let chunks = chunk(front) + &chunk(back);
            (format!("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"), true)
        }
        _ => (format!("HTTP/1.1 200 OK\r\n\r\n{body}"), false),
    }
}

/// Every third request is taken in part, the second one first.
fn in_part(form: usize, pieces: usize) -> Server {
    Server::start(move |peer| {
        while let Some((at, _)) = peer.request() {
            let (text, stays) = answer(if at % 3 == 1 { PART } else { GOOD }, form);
            text.as_bytes().chunks(pieces).for_each(|piece| peer.say(std::str::from_utf8(piece).unwrap()));
            if !stays {
                return;
            }
        }
    })
}

#[test]
fn what_a_body_takes_back_is_uncertain_and_not_sent_again() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        for form in 0..3 {
            for pieces in [1, 20, 1000] {
                let server = in_part(form, pieces);
                let words = format!("--records 18 --http-records-per-request 2 --io {io} --http-refused-by {TEXT}");
                let report = run(&scratch, &server, &words, 1);
                fates(&report, 12, 0, 6);
                assert_eq!(count(&report["errors"], "body"), 6, "{:#}", report["errors"]);
                let status = if form == 1 { "201" } else { "200" };
                assert_eq!(report["totals"]["answers"], json!({status: 9}), "by its status it is one like the others");
                assert_eq!(total(&report, "answers_refused_by_body"), 3);
                assert_eq!((total(&report, "retries"), server.requests().len()), (0, 9), "{io} {form} {pieces}");
                assert_eq!(report["producers"][0]["missing"], json!([[2, 3], [8, 9], [14, 15]]));
            }
        }
    }
}

/// A server that fails behind its 200 says so in the body, and breaks off or says no more.
#[test]
fn a_body_that_breaks_off_has_said_enough() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        for (head, stalls) in [
            ("Transfer-Encoding: chunked\r\n\r\nff", false),
            ("Content-Length: 1000\r\n\r\n", false),
            ("Content-Length: 1000\r\n\r\n", true),
        ] {
            let server = Server::start(move |peer| {
                while let Some((at, _)) = peer.request() {
                    if at == 1 {
                        let line = if head.ends_with("ff") { "\r\n" } else { "" };
                        peer.say(&format!("HTTP/1.1 200 OK\r\n{head}{line}{PART}"));
                        if stalls {
                            // Until the other side has had enough of it.
                            let _none = peer.request();
                        }
                        return;
                    }
                    peer.say(&answer(GOOD, 0).0);
                }
            });
            let words = format!("--records 5 --io {io} --request-timeout 2s --http-refused-by {TEXT}");
            let report = run(&scratch, &server, &words, 1);
            fates(&report, 4, 0, 1);
            assert_eq!(count(&report["errors"], "body"), 1, "{:#}", report["errors"]);
            let found = (total(&report, "retries"), total(&report, "answers_refused_by_body"), server.requests().len());
            assert_eq!(found, (0, 1, 5), "{io} {head:?} {stalls}");
        }
    }
}

#[test]
fn who_does_not_ask_has_them_as_produced() {
    let scratch = Scratch::new();
    let report = run(&scratch, &in_part(0, 1000), "--records 9", 0);
    fates(&report, 9, 0, 0);
    assert_eq!(report["totals"]["answers_refused_by_body"], Value::Null);
    // Nor has one that asks for what never comes.
    let report = run(&scratch, &in_part(0, 1000), "--records 9 --http-refused-by partialSuccess", 0);
    fates(&report, 9, 0, 0);
    assert_eq!(total(&report, "answers_refused_by_body"), 0);
}

/// Longer than any buffer: the second has the text at its very end, the others all of it but its last letter, again and
/// again.
#[test]
fn bodies_may_be_longer_than_any_buffer() {
    const LONG: usize = 3 << 20;
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let server = Server::start(|peer| {
            while let Some((at, _)) = peer.request() {
                let filling = "\"errors\":tru ".repeat(LONG / 13);
                let end = if at == 1 { "\"errors\":true" } else { "\"errors\":tru" };
                peer.say(&answer(&(filling + end), at % 2).0);
            }
        });
        let report = run(&scratch, &server, &format!("--records 4 --io {io} --http-refused-by {TEXT}"), 1);
        fates(&report, 3, 0, 1);
        assert_eq!(count(&report["errors"], "body"), 1, "{:#}", report["errors"]);
    }
}

#[test]
fn the_first_of_a_target_is_told_with_what_it_said() {
    let scratch = Scratch::new();
    for (format, summary) in [
        ("json", "\"event\":\"refused\""),
        ("text", "answers     200 × 6; in 2 of the 2xx the text of --http-refused-by\n"),
    ] {
        let server = in_part(0, 1000);
        let words = format!("--records 6 --parallel 1 --log-format {format} --http-refused-by {TEXT}");
        let ended = scratch.run(&format!("--target {} {words}", server.url()));
        assert_eq!(ended.code(), 1, "{ended}");
        let said = "first answer with the text of --http-refused-by: 200 OK: ";
        ended.says(&[summary, &format!("http://{}/in: {said}", server.address), "no such field"]);
        assert_eq!(ended.stderr.matches(said).count(), 1, "{ended}");
    }
}

/// A refusing status is one, whatever its body says; its requests go again.
#[test]
fn a_refusing_status_is_told_by_its_status() {
    let scratch = Scratch::new();
    let server = Server::start(|peer| {
        while let Some((at, _)) = peer.request() {
            let status = if at < 2 { "503 Busy" } else { "200 OK" };
            let body = if at < 2 { PART } else { GOOD };
            peer.say(&format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
    });
    let report = run(&scratch, &server, &format!("--records 5 --http-refused-by {TEXT}"), 0);
    fates(&report, 5, 0, 0);
    assert_eq!((total(&report, "retries"), total(&report, "answers_refused_by_body")), (2, 0));
}
