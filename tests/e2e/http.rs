//! `http://`: what is sent, and what becomes of it when servers answer in their many ways.

use crate::harness::{Scratch, quiet, repository};
use crate::receive::{Receiver, number};
use crate::report::{count, total};
use crate::server::{NO_CONTENT, Peer, Server};
use engine::record::Header;
use serde_json::{Value, json};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

pub const BACK_ENDS: [&str; 2] = ["uring", "syscall"];

/// A run against the server; its report, which must come with this exit code.
#[track_caller]
pub fn run(scratch: &Scratch, server: &Server, words: &str, code: i32) -> Value {
    let words = format!("--target {} {words} --report report.json", server.url());
    let ended = scratch.run(&words);
    assert_eq!(ended.code(), code, "engine {words}: {ended}");
    scratch.report_of(&ended, "report.json")
}

#[track_caller]
pub fn fates(report: &Value, produced: u64, failed: u64, uncertain: u64) {
    let found = ["records_produced", "records_failed", "records_uncertain"].map(|key| total(report, key));
    assert_eq!(found, [produced, failed, uncertain], "{:#} {:#}", report["totals"], report["errors"]);
}

#[test]
fn every_record_arrives_intact() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        for (words, requests) in [
            ("--records 3000", 3000),
            ("--records 3000 --connections 4 --parallel 3", 3000),
            ("--records 3001 --http-records-per-request 7", 429),
            ("--records 3000 --http-records-per-request 7 --payload-size 100-9000", 0),
            ("--records 3000 --http-pipeline 4 --connections 2 --payload-size 64-100000", 3000),
            ("--records 200 --rate 2MB/s --poll adaptive", 200),
            ("--records 5 --payload-size 5000000", 5),
        ] {
            let receiver = Receiver::start(&scratch, "--listen http://:0 --verify --once --report -");
            let report = scratch.report(&format!("--target http://{}/ --io {io} {words}", receiver.address));
            let (ended, received) = receiver.ended();
            assert_eq!(ended.code(), 0, "{io} {words}: {ended}");
            assert_eq!(report["confirmation"], "target");
            assert_eq!(number(&received, "records_received"), total(&report, "records_produced"), "{io} {words}");
            assert_eq!(number(&received, "bytes_received"), total(&report, "bytes_produced"));
            assert_eq!(number(&received, "wire_bytes"), total(&report, "wire_bytes"));
            let found = number(&received, "requests");
            assert_eq!(total(&report, "requests"), found, "{io} {words}");
            assert_eq!(report["totals"]["answers"], json!({"204": found}));
            // Where the lengths vary, a block ends with the ring here and there.
            let few = if requests > 0 { found == requests } else { (429..500).contains(&found) };
            assert!(few && total(&report, "retries") == 0, "{io} {words}: {found} requests");
            assert_eq!(received["findings"]["clean"], true);
        }
    }
}

#[test]
fn heads_state_what_is_sent() {
    let scratch = Scratch::new();
    scratch.write("token", "s3cret\n");
    let server = Server::start(Peer::obey);
    let words = "--records 40 --parallel 2 --mode sampled --weight 9 --rate 100MB/s --bearer-token-file token \
                 --payload-size 200-3000 --http-records-per-request 4";
    let words = format!("--target {} {words} --http-header X-Team:storage --report report.json", server.url());
    let ended = scratch.run(&words);
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(!ended.stderr.contains("s3cret") && !scratch.read("report.json").windows(6).any(|six| six == b"s3cret"));
    let mut next = [0; 2];
    let requests = server.requests();
    for request in &requests {
        assert_eq!(request.line, "POST /in?x=1");
        for (name, value) in [
            ("Host", server.address.as_str()),
            ("Content-Type", "application/octet-stream"),
            ("Authorization", "Bearer s3cret"),
            ("X-Team", "storage"),
            ("X-Weight", "9"),
        ] {
            assert_eq!(request.header(name), Some(value), "{:?}", request.headers);
        }
        let (mut rest, mut records) = (&request.body[..], 0);
        let id = request.number("X-Producer-Id");
        while !rest.is_empty() {
            let header = Header::decode(rest).expect("a record begins here");
            assert_eq!((u64::from(header.producer_id), header.weight), (id, 9));
            if records == 0 {
                assert_eq!(header.sequence, request.number("X-Sequence"));
                assert_eq!(header.timestamp_ns, request.number("X-Timestamp"));
            }
            assert_eq!(header.sequence, next[id as usize], "in order on the one connection");
            next[id as usize] += 1;
            records += 1;
            rest = &rest[header.record_length as usize..];
        }
        assert_eq!(request.number("X-Record-Count"), records);
    }
    assert_eq!(next, [20; 2]);
}

#[test]
fn requests_can_be_puts() {
    let scratch = Scratch::new();
    let server = Server::start(Peer::obey);
    run(&scratch, &server, "--http-method PUT --records 5", 0);
    let requests = server.requests();
    assert_eq!(requests.len(), 5);
    assert!(requests.iter().all(|request| request.line == "PUT /in?x=1"), "{requests:?}");
    let receiver = Receiver::start(&scratch, "--listen http://:0 --verify --once --report -");
    scratch.report(&format!("--target http://{}/ --http-method PUT --records 50", receiver.address));
    let (ended, received) = receiver.ended();
    assert_eq!(ended.code(), 0, "{ended}");
    assert_eq!((number(&received, "records_received"), number(&received, "requests")), (50, 50));
}

#[test]
fn facts_beside_the_payload_leave_it_alone() {
    let scratch = Scratch::new();
    for (io, words) in [("uring", "--payload-size 500"), ("syscall", "--payload-size 100-5000")] {
        let server = Server::start(Peer::obey);
        let words = format!("{words} --records 50 --seed 3");
        run(&scratch, &server, &format!("{words} --io {io} --annotate headers --run-id nightly-7"), 0);
        let bare = scratch.run(&format!("--target stdout --annotate off {words}"));
        assert_eq!(bare.code(), 0, "{bare}");
        let requests = server.requests();
        let bodies: Vec<u8> = requests.iter().flat_map(|request| request.body.clone()).collect();
        assert!(bodies == bare.stdout, "the bytes differ from those without annotation");
        for (at, request) in requests.iter().enumerate() {
            assert_eq!(request.number("X-Crc32c"), u64::from(crc32c::crc32c(&request.body)));
            assert_eq!((request.number("X-Sequence"), request.header("X-Run-Id")), (at as u64, Some("nightly-7")));
        }
    }
}

#[test]
fn templates_are_posted_with_their_type() {
    let scratch = Scratch::new();
    let server = Server::start(Peer::obey);
    let template = repository("schemas/fixtures/generator/header-event.json");
    run(&scratch, &server, &format!("--payload-template {} --records 30", template.display()), 0);
    let requests = server.requests();
    for (at, request) in requests.iter().enumerate() {
        assert_eq!(request.header("Content-Type"), Some("application/json"));
        let text = String::from_utf8(request.body.clone()).unwrap();
        let event: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(text.contains(&at.to_string()), "{event}");
    }
    assert_eq!(requests.len(), 30);
}

/// What is refused for now comes again, byte for byte, when the server said.
#[test]
fn throttled_requests_come_again_as_they_were() {
    let scratch = Scratch::new();
    for (io, status) in [("uring", "503 Service Unavailable"), ("syscall", "429 Too Many Requests")] {
        let server = Server::start(move |peer| {
            while let Some((at, _)) = peer.request() {
                match at {
                    // The first attempts of three records.
                    2 | 5 | 7 => {
                        peer.say(&format!("HTTP/1.1 {status}\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nbusy"))
                    }
                    _ => peer.say(NO_CONTENT),
                }
            }
        });
        let start = Instant::now();
        let report = run(&scratch, &server, &format!("--records 20 --io {io} --payload-size 100-900"), 0);
        assert!(start.elapsed() >= Duration::from_secs(1), "too early after {:?}", start.elapsed());
        fates(&report, 20, 0, 0);
        assert_eq!(total(&report, "retries"), 3);
        assert_eq!(report["totals"]["answers"], json!({"204": 20, &status[..3]: 3}), "what ended well is told, too");
        let requests = server.requests();
        assert_eq!(requests.len(), 23);
        for struck in [2, 5, 7] {
            let sequence = requests[struck].header("X-Sequence");
            let same: Vec<_> = requests.iter().filter(|one| one.header("X-Sequence") == sequence).collect();
            assert_eq!(same.len(), 2, "{sequence:?}");
            assert!(same[0].body == same[1].body && same[0].headers == same[1].headers, "{:?}", same[1].headers);
        }
        // It took a second to be confirmed, and the report does not hide that.
        assert!(report["latency_seconds"]["response"]["max"].as_f64().unwrap() >= 1.0);
    }
}

#[test]
fn refusals_are_told_apart() {
    let scratch = Scratch::new();
    // What may have been taken all the same is uncertain.
    for (status, words, kind, attempts, uncertain) in [
        ("500 Oops", "--retry 2", "status", 3, 4),
        ("503 Busy", "--retry 1", "throttled", 2, 0),
        ("404 Not Found", "", "status", 1, 0),
        ("400 Bad Request", "", "status", 1, 0),
        ("302 Found", "", "status", 1, 0),
        ("500 Oops", "--retry off", "status", 1, 4),
        ("502 Bad Gateway", "--retry off", "status", 1, 4),
        ("504 Gateway Timeout", "--retry off", "status", 1, 4),
        ("520 Nobody Knows", "--retry off", "status", 1, 4),
        ("501 Not Implemented", "--retry off", "status", 1, 0),
    ] {
        for io in BACK_ENDS {
            let server = Server::start(move |peer| {
                while peer.request().is_some() {
                    peer.say(&format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno"));
                }
            });
            let report = run(&scratch, &server, &format!("--records 4 --io {io} {words}"), 1);
            fates(&report, 0, 4 - uncertain, uncertain);
            assert_eq!(count(&report["errors"], kind), 4, "{status}: {:#}", report["errors"]);
            assert_eq!(report["producers"][0]["first_refused_status"].to_string(), status[..3], "{status}");
            assert_eq!(server.requests().len(), 4 * attempts, "{status} {words}");
            assert_eq!(report["totals"]["answers"], json!({&status[..3]: 4 * attempts}), "{status} {words}");
            assert_eq!(total(&report, "retries"), 4 * (attempts as u64 - 1));
            assert_eq!(report["latency_seconds"]["response"]["p50"], Value::Null, "none was confirmed");
        }
    }
}

/// One doubt outlives the refusals behind it, and an answer of 2xx ends it.
#[test]
fn a_refusal_does_not_take_back_an_error_that_may_have_been_none() {
    let scratch = Scratch::new();
    for (last, code, fate) in [("503 Busy", 1, [0, 0, 2]), ("204 No Content", 0, [2, 0, 0])] {
        let server = Server::start(move |peer| {
            while let Some((at, _)) = peer.request() {
                let status = if at < 2 { "500 Oops" } else { last };
                peer.say(&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
            }
        });
        let report = run(&scratch, &server, "--records 2 --retry 1,1s-1s --http-pipeline 2", code);
        fates(&report, fate[0], fate[1], fate[2]);
        assert_eq!(count(&report["errors"], "throttled"), fate[2], "by the last answer: {:#}", report["errors"]);
    }
}

#[test]
fn a_retry_that_is_due_behind_the_drain_is_not_waited_for() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let server = Server::start(|peer| {
            while peer.request().is_some() {
                peer.say("HTTP/1.1 503 Busy\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n");
            }
        });
        let start = Instant::now();
        let report = run(&scratch, &server, &format!("--records 3 --io {io} --drain-timeout 50s"), 1);
        assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
        fates(&report, 0, 3, 0);
        assert_eq!(count(&report["errors"], "throttled"), 3, "as it was answered: {:#}", report["errors"]);
    }
}

/// Those who are refused together do not come back together.
#[test]
fn pauses_between_attempts_differ() {
    let _quiet = quiet();
    let scratch = Scratch::new();
    let (came, times) = channel();
    let server = Server::start(move |peer| {
        while let Some((at, request)) = peer.request() {
            let _over = came.send((request.number("X-Producer-Id"), Instant::now()));
            peer.say(if at < 8 { "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n" } else { NO_CONTENT });
        }
    });
    let report = run(&scratch, &server, "--parallel 8 --records 8 --retry 1,2s-2s", 0);
    assert_eq!((total(&report, "records_produced"), total(&report, "retries")), (8, 8));
    let times: Vec<(u64, Instant)> = times.try_iter().collect();
    let pause = |producer| {
        let mut own = times.iter().filter(|(from, _)| *from == producer).map(|(_, at)| *at);
        own.next().zip(own.next()).map(|(first, second)| second - first).expect("two attempts")
    };
    let pauses: Vec<Duration> = (0..8).map(pause).collect();
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_millis(990)), "{pauses:?}");
    assert!(pauses.iter().any(|pause| *pause < Duration::from_millis(1900)), "{pauses:?}");
}

#[test]
fn refusals_are_told_by_their_status_each_once() {
    let scratch = Scratch::new();
    for (format, told) in [
        ("json", "\"event\":\"refused\""),
        ("text", "refused     first with 404 Not Found\nanswers     500 × 2, 204 × 1, 404 × 1\n"),
    ] {
        let server = Server::start(|peer| {
            while let Some((at, _)) = peer.request() {
                let status = ["204 No Content", "404 Not Found", "500 Oops"][at.min(2)];
                peer.say(&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
            }
        });
        let words = format!("--records 4 --parallel 1 --retry off --log-format {format} --report r.json");
        let ended = scratch.run(&format!("--target {} {words}", server.url()));
        assert_eq!(ended.code(), 1, "{ended}");
        let target = format!("http://{}/in", server.address);
        let (first, another) = ("first refused answer: 404 Not Found", "another refused answer: 500 Internal");
        ended.says(&[told, &format!("{target}: {first}"), &format!("{target}: {another}")]);
        assert_eq!(ended.stderr.matches(" refused answer: ").count(), 2, "each status once: {ended}");
        let report = scratch.report_of(&ended, "r.json");
        assert_eq!(report["producers"][0]["first_refused_status"], 404);
        let answers = json!({"204": 1, "404": 1, "500": 2});
        assert_eq!((&report["producers"][0]["answers"], &report["totals"]["answers"]), (&answers, &answers));
        assert_eq!(total(&report, "requests"), 4);
    }
}

#[test]
fn silence_is_uncertain() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let server = Server::start(|peer| while peer.request().is_some() {});
        let report = run(&scratch, &server, &format!("--records 3 --io {io} --request-timeout 100ms --retry off"), 1);
        fates(&report, 0, 0, 3);
        assert_eq!(count(&report["errors"], "timeout"), 3);
        // The drain has a limit of its own.
        let words = format!("--records 1 --io {io} --drain-timeout 100ms");
        fates(&run(&scratch, &server, &words, 1), 0, 0, 1);
        // The second time it is answered, in far less than the timeout.
        let server = Server::start(|peer| {
            while let Some((at, _)) = peer.request() {
                if at > 0 {
                    peer.say(NO_CONTENT);
                }
            }
        });
        let report = run(&scratch, &server, &format!("--records 3 --io {io} --request-timeout 2s"), 0);
        fates(&report, 3, 0, 0);
        assert_eq!(total(&report, "retries"), 1);
    }
}

#[test]
fn answers_come_in_many_forms() {
    const FORMS: [(&str, bool); 7] = [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n", true),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", true),
        ("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nyes", true),
        ("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the end", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false),
        ("HTTP/1.0 202 Accepted\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", true),
    ];
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        for (form, stays) in FORMS {
            for piece in [1, 1000] {
                let server = Server::start(move |peer| {
                    while peer.request().is_some() {
                        form.as_bytes().chunks(piece).for_each(|part| peer.say(std::str::from_utf8(part).unwrap()));
                        if !stays {
                            return;
                        }
                    }
                });
                let report = run(&scratch, &server, &format!("--records 6 --io {io}"), 0);
                fates(&report, 6, 0, 0);
                assert_eq!((server.requests().len(), total(&report, "retries")), (6, 0), "{form}");
            }
        }
    }
}

#[test]
fn answers_that_make_no_sense_are_a_kind_of_their_own() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        for nonsense in
            ["SSH-2.0-OpenSSH_9\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
        {
            let server = Server::start(move |peer| {
                while peer.request().is_some() {
                    peer.say(nonsense);
                }
            });
            let report = run(&scratch, &server, &format!("--records 3 --retry off --io {io}"), 1);
            fates(&report, 0, 0, 3);
            assert_eq!(count(&report["errors"], "protocol"), 3, "{nonsense}: {:#}", report["errors"]);
        }
    }
}
