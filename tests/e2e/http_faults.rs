//! `http://` over connections that break, close or are too few.

use crate::harness::{Live, Scratch, quiet};
use crate::http::{BACK_ENDS, fates, run};
use crate::receive::{Receiver, number};
use crate::report::{count, total};
use crate::server::{NO_CONTENT, PATIENCE, Peer, Server, reserved};
use engine::record::{Header, is_intact};
use socket2::SockRef;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::time::Duration;

const LONG_BODY: &str = "--payload-size 16Mi --ring-size 64Mi";

#[test]
fn half_an_answer_is_none() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        for half in ["HTTP/1.1 20", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", ""] {
            let all = Server::start(move |peer| {
                if peer.request().is_some() {
                    peer.say(half);
                }
            });
            let report = run(&scratch, &all, &format!("--records 3 --retry off --io {io}"), 1);
            fates(&report, 0, 0, 3);
            assert_eq!(count(&report["errors"], "closed"), 3, "'{half}': {:#}", report["errors"]);
            let first = Server::start(move |peer| {
                while let Some((at, _)) = peer.request() {
                    if at == 1 {
                        return peer.say(half);
                    }
                    peer.say(NO_CONTENT);
                }
            });
            let report = run(&scratch, &first, &format!("--records 3 --io {io}"), 0);
            fates(&report, 3, 0, 0);
            assert_eq!(total(&report, "retries"), 1);
            let requests = first.requests();
            let again = requests[2..].iter().find(|one| one.header("X-Sequence") == requests[1].header("X-Sequence"));
            assert_eq!(again.map(|one| &one.body), Some(&requests[1].body), "the same bytes again");
            assert_eq!(requests.len(), 4);
        }
    }
}

/// A body without a length ends with its connection, but not with any end.
#[test]
fn a_reset_does_not_complete_an_answer() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let server = Server::start(|peer| {
            if peer.request().is_some() {
                peer.say("HTTP/1.1 200 OK\r\n\r\nuntil the");
                // Its close is a reset.
                SockRef::from(&peer.stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
        });
        let report = run(&scratch, &server, &format!("--records 3 --retry off --io {io}"), 1);
        fates(&report, 0, 0, 3);
        assert_eq!(count(&report["errors"], "closed"), 3, "{:#}", report["errors"]);
    }
}

#[test]
fn a_reset_in_the_middle_of_a_body() {
    let scratch = Scratch::new();
    let reset = |peer: &mut Peer| {
        if peer.nth < 2 {
            // What it leaves unread makes its close a reset.
            let _head = peer.head();
        } else {
            peer.obey();
        }
    };
    for io in BACK_ENDS {
        let server = Server::start(reset);
        let report = run(&scratch, &server, &format!("--records 2 --io {io} --retry off {LONG_BODY}"), 1);
        fates(&report, 0, 2, 0);
        assert_eq!(count(&report["errors"], "closed"), 2, "{:#}", report["errors"]);
        let server = Server::start(reset);
        let report = run(&scratch, &server, &format!("--records 3 --io {io} {LONG_BODY}"), 0);
        fates(&report, 3, 0, 0);
        assert_eq!((total(&report, "retries"), server.requests().len()), (2, 3));
        for request in server.requests() {
            let header = Header::decode(&request.body).unwrap();
            assert_eq!((header.sequence, header.record_length), (request.number("X-Sequence"), 16 << 20));
        }
    }
}

#[test]
fn an_answer_before_the_body_is_over_ends_the_body() {
    let scratch = Scratch::new();
    for lingers in [true, false] {
        for io in BACK_ENDS {
            let server = Server::start(move |peer| {
                if peer.head().is_some() {
                    peer.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                    if lingers {
                        peer.discard();
                    }
                }
            });
            let report = run(&scratch, &server, &format!("--records 4 --io {io} {LONG_BODY}"), 1);
            fates(&report, 0, 4, 0);
            assert_eq!(count(&report["errors"], "status"), 4, "lingers {lingers}: {:#}", report["errors"]);
            assert_eq!(total(&report, "retries"), 0);
        }
    }
}

/// Each request of `records` came whole, with the bytes that were stamped for it.
#[track_caller]
fn whole(server: &Server, records: u64) {
    let mut sequences: Vec<u64> = Vec::new();
    for request in server.requests() {
        let sequence = request.number("X-Sequence");
        assert_eq!(
            Header::decode(&request.body).map(|header| header.sequence),
            Some(sequence),
            "another record's bytes"
        );
        assert!(is_intact(&request.body), "the bytes of record {sequence} have changed on their way");
        sequences.push(sequence);
    }
    sequences.sort_unstable();
    sequences.dedup();
    assert_eq!(sequences.len() as u64, records);
}

#[test]
fn what_a_server_accepts_before_it_reads_it_is_sent_on() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        for words in
            ["--payload-size 100000", "--payload-size 100000-3000000 --connections 3", "--payload-size 20000000"]
        {
            let (has_read, reads) = channel();
            let server = Server::start(move |peer| {
                while let Some(head) = peer.head() {
                    peer.say(NO_CONTENT);
                    if peer.body(head).is_none() || has_read.send(()).is_err() {
                        return;
                    }
                }
            });
            let report = run(&scratch, &server, &format!("--records 20 --io {io} {words}"), 0);
            fates(&report, 20, 0, 0);
            // The sender is gone before the last body is read.
            (0..20).for_each(|_| reads.recv_timeout(PATIENCE).unwrap());
            whole(&server, 20);
            assert_eq!(total(&report, "retries"), 0, "{io} {words}");
        }
    }
}

#[test]
fn a_server_that_accepts_and_never_reads_is_left_in_time() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let (gone, ended) = channel();
        let server = Server::start(move |peer| {
            if peer.nth > 0 {
                return peer.obey();
            }
            if peer.head().is_some() {
                peer.say(NO_CONTENT);
                // Holds the connection open, and reads nothing, until the next one is served or the run is over.
                let _held = gone.send(peer.stream.try_clone().unwrap());
            }
        });
        let words = format!("--records 3 --io {io} --request-timeout 2s {LONG_BODY}");
        let report = run(&scratch, &server, &words, 0);
        fates(&report, 3, 0, 0);
        // On a machine that is slow enough, one of them more than once.
        whole(&server, 2);
        drop(ended.recv().unwrap());
    }
}

#[test]
fn a_server_with_too_few_connections_serves_the_others() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        // It takes the first two and closes all others at once.
        let server = Server::start(|peer| {
            if peer.nth < 2 {
                peer.obey()
            }
        });
        let report = run(&scratch, &server, &format!("--records 400 --connections 5 --io {io}"), 0);
        fates(&report, 400, 0, 0);
        assert_eq!(server.requests().len(), 400);
    }
}

#[test]
fn pipelined_requests_wait_for_each_other() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let server = Server::start(|peer| {
            // Nothing is answered before four have come.
            while (0..4).all(|_| peer.request().is_some()) {
                (0..4).for_each(|_| peer.say(NO_CONTENT));
            }
        });
        let report = run(&scratch, &server, &format!("--records 40 --http-pipeline 4 --io {io}"), 0);
        fates(&report, 40, 0, 0);
        let order: Vec<u64> = server.requests().iter().map(|one| one.number("X-Sequence")).collect();
        assert_eq!(order, (0..40).collect::<Vec<u64>>());
        // One that closes amid a pipeline gets the others on the next connection.
        let closes = Server::start(|peer| {
            for _ in 0..3 {
                if peer.request().is_none() {
                    return;
                }
                peer.say(NO_CONTENT);
            }
        });
        let words = format!("--records 30 --http-pipeline 4 --io {io} --retry 30,1ms-5ms");
        fates(&run(&scratch, &closes, &words, 0), 30, 0, 0);
    }
}

#[test]
fn what_is_behind_the_last_answer_of_a_connection_was_no_attempt() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let server = Server::start(|peer| {
            for last in [false, false, true] {
                if peer.request().is_none() {
                    return;
                }
                peer.say(if last { "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n" } else { NO_CONTENT });
            }
            peer.discard();
        });
        let words = format!("--records 31 --http-pipeline 4 --connections 2 --io {io} --retry off");
        let report = run(&scratch, &server, &words, 0);
        fates(&report, 31, 0, 0);
        assert_eq!(server.requests().len(), 31);
        assert!(total(&report, "retries") > 0, "they were sent again: {:#}", report["totals"]);
    }
}

#[test]
fn a_connection_that_closes_before_its_first_request_gets_none() {
    let _quiet = quiet();
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let server = Server::start(|peer| {
            if peer.nth >= 4 {
                peer.obey();
            }
        });
        // The first request may be on its way when its connection closes; the others come long after that.
        let report = run(&scratch, &server, &format!("--records 5 --rate 16384 --connections 4 --io {io}"), 0);
        fates(&report, 5, 0, 0);
        assert!(total(&report, "retries") <= 1, "{:#}", report["totals"]);
    }
}

#[test]
fn an_answer_that_never_comes_does_not_make_the_run_longer() {
    let _quiet = quiet();
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let server = Server::start(|peer| {
            while let Some((at, _)) = peer.request() {
                if at > 0 {
                    peer.say(NO_CONTENT);
                }
            }
        });
        let words = "--rate 1MB/s --duration 1s --drain-timeout 3s --parallel 1 --connections 4";
        let report = run(&scratch, &server, &format!("{words} --io {io}"), 1);
        assert_eq!(total(&report, "records_uncertain"), 1, "{:#}", report["totals"]);
        let elapsed = report["elapsed_seconds"].as_f64().unwrap();
        assert!((0.9..2.5).contains(&elapsed), "{elapsed} s: the drain took 3 s");
        let last = report["intervals"].as_array().unwrap().last().unwrap();
        let ends = last["start_seconds"].as_f64().unwrap() + last["seconds"].as_f64().unwrap();
        assert!(ends <= elapsed + 1e-6, "{elapsed} s: {last:#}");
    }
}

#[test]
fn a_server_that_closes_idle_connections_costs_nothing() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let server = Server::start(|peer| {
            peer.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            peer.obey();
        });
        // Ten a second: each finds its connection closed, and has it replaced long before the next one is due.
        let report = run(&scratch, &server, &format!("--records 12 --rate 40960 --io {io}"), 0);
        fates(&report, 12, 0, 0);
        assert_eq!(server.requests().len(), 12, "{:#}", report["totals"]);
    }
}

/// Most of its connections were asked nothing before they are closed.
#[test]
fn a_server_that_closes_idle_connections_finds_one_there_at_a_low_rate() {
    let _quiet = quiet();
    let scratch = Scratch::new();
    let server = Server::start(|peer| {
        peer.stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
        peer.obey();
    });
    // One in four seconds.
    let report = run(&scratch, &server, "--records 3 --rate 1024 --payload-size 4096 --parallel 1", 0);
    fates(&report, 3, 0, 0);
    // Over fifty without any pause in eight seconds, and some sixteen with pauses that grow.
    assert!(total(&report, "reconnects") > 24, "{:#}", report["totals"]);
}

#[test]
fn faults_of_the_receiver_are_overcome() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let fault = "status=503:4%,status=500:2%,reset:2%,abort:2%,truncate:2%,delay=2ms:3%,slow=200us:3%";
        let words = format!("--listen http://:0 --verify --report - --seed 11 --fault {fault}");
        let receiver = Receiver::start(&scratch, &words);
        let target = format!("--target http://{}/ --io {io} --connections 3", receiver.address);
        let report = scratch.report(&format!("{target} --records 3000 --retry 20,1ms-10ms"));
        let (ended, received) = receiver.stopped();
        assert_eq!(ended.code(), 0, "{ended}\n{received:#}");
        fates(&report, 3000, 0, 0);
        assert_eq!((number(&received, "records_received"), number(&received, "requests")), (3000, 3000));
        assert_eq!(number(&received, "bytes_received"), total(&report, "bytes_produced"), "nothing is counted twice");
        let again = number(&received, "refused_requests") + number(&received, "uncertain_requests");
        let again = again + number(&received["faults"], "abort");
        assert_eq!(total(&report, "retries"), again, "{received:#}");
        // Without retries every fault is in the books, by its kind.
        let receiver = Receiver::start(&scratch, &words);
        let target = format!("--target http://{}/ --io {io} --retry off --report report.json", receiver.address);
        let ended = scratch.run(&format!("{target} --records 1000"));
        assert_eq!(ended.code(), 1, "{ended}");
        let report = scratch.report_of(&ended, "report.json");
        let (_, received) = receiver.stopped();
        let faults = &received["faults"];
        let closed = ["reset", "abort", "truncate"].iter().map(|kind| number(faults, kind)).sum::<u64>();
        let found = ["throttled", "status", "closed"].map(|kind| count(&report["errors"], kind));
        assert_eq!(found, [number(faults, "status=503"), number(faults, "status=500"), closed], "{faults}");
        let [refused, doubtful] = [found[0], found[1] + closed];
        fates(&report, 1000 - refused - doubtful, refused, doubtful);
        ended.says(&["\"retries\":0"]);
    }
}

/// Each answer that says so was one, and what was on its way behind it was no attempt.
#[test]
fn connections_that_the_receiver_closes_in_order_cost_nothing() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        for words in ["", "--http-pipeline 4 --connections 2"] {
            let receiver = Receiver::start(&scratch, "--listen http://:0 --verify --report - --fault close:10%");
            let target = format!("--target http://{}/ --io {io} {words}", receiver.address);
            let report = scratch.report(&format!("{target} --records 1000 --retry off"));
            let (ended, received) = receiver.stopped();
            assert_eq!(ended.code(), 0, "{io} {words}: {ended}\n{received:#}");
            fates(&report, 1000, 0, 0);
            assert_eq!((number(&received, "records_received"), number(&received, "requests")), (1000, 1000));
            assert_eq!((number(&received, "uncertain_requests"), number(&received, "refused_requests")), (0, 0));
            let (closes, again) = (number(&received["faults"], "close"), total(&report, "reconnects"));
            assert!(closes > 50 && again <= closes && again + 2 >= closes, "{again} connections after {closes} closes");
            assert!(!words.is_empty() || total(&report, "retries") == 0, "{:#}", report["totals"]);
        }
    }
}

#[test]
fn a_server_that_is_gone_for_a_while() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let (address, _kept) = reserved();
        let first = Receiver::start(&scratch, &format!("--listen http://{address}"));
        let words =
            format!("--target http://{address}/ --io {io} --rate 4MB/s --records 3000 --retry 30 --report r.json");
        let mut engine = Live::start(&mut scratch.engine(&format!("{words} --stats-interval 100ms")));
        engine.event("interval");
        first.live.signal("KILL");
        assert_eq!(first.live.ended().code(), 128 + 9);
        engine.event("interval");
        let second = Receiver::start(&scratch, &format!("--listen http://{address} --verify --report -"));
        let ended = engine.ended();
        assert_eq!(ended.code(), 0, "{ended}");
        let report = scratch.report_of(&ended, "r.json");
        fates(&report, 3000, 0, 0);
        let (_, received) = second.stopped();
        assert!(number(&received, "records_received") > 1000, "{received:#}");
    }
}

#[test]
fn many_connections_share_the_work() {
    static OPEN: AtomicUsize = AtomicUsize::new(0);
    let scratch = Scratch::new();
    let server = Server::start(|peer| {
        OPEN.fetch_add(1, SeqCst);
        peer.obey();
    });
    let report = run(&scratch, &server, "--records 640 --connections 16 --parallel 2", 0);
    fates(&report, 640, 0, 0);
    assert_eq!(OPEN.load(SeqCst), 32);
}

#[test]
fn a_request_that_waits_to_go_again_holds_up_no_other() {
    for io in BACK_ENDS {
        // A busy machine may take longer for the others than the shorter wait is.
        let waits_alone = [4, 20].into_iter().any(|wait_s| others_overtake_who_waits(io, wait_s));
        assert!(waits_alone, "--io {io}: the others waited with it");
    }
}

/// One of twelve requests goes again after half of so many seconds at least; whether more than five overtook it, which
/// is more than the ring has room for.
fn others_overtake_who_waits(io: &str, wait_s: u64) -> bool {
    let scratch = Scratch::new();
    let (broken, broke) = channel();
    let server = Server::start(move |peer| {
        if peer.nth > 0 {
            return peer.obey();
        }
        if let Some(head) = peer.head() {
            // What it leaves unread makes its close a reset.
            let _told = broken.send(head.number("X-Sequence"));
        }
    });
    let retry = format!("--retry 3,{wait_s}s-{wait_s}s --drain-timeout 40s");
    let words = format!("--records 12 --connections 2 --parallel 1 --io {io} {retry} {LONG_BODY}");
    let report = run(&scratch, &server, &words, 0);
    fates(&report, 12, 0, 0);
    let order: Vec<u64> = server.requests().iter().map(|request| request.number("X-Sequence")).collect();
    let again = broke.recv().unwrap();
    eprintln!("{again} in {order:?}");
    order.iter().position(|sequence| *sequence == again) > Some(5)
}
