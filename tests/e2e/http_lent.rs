//! Bodies that a server on this host reads in place.

use crate::harness::Scratch;
use crate::http::{BACK_ENDS, fates};
use crate::receive::{Receiver, number};
use crate::report::total;
use crate::server::{NO_CONTENT, PATIENCE, Server};
use engine::record::{Header, is_intact};
use std::sync::Mutex;
use std::sync::mpsc::channel;

#[test]
fn bodies_that_are_lent_arrive_as_they_were() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        for (words, lends) in [
            ("--payload-size 100000 --connections 3", true),
            ("--payload-size 100000 --connections 2 --http-pipeline 3", true),
            ("--payload-size 60000-300000 --rate 60MB/s --poll adaptive", true),
            ("--payload-size 100000 --connections 3 --zero-copy off", false),
            ("--payload-size 100000 --connections 3 --ring-size 250Ki", true),
            // What changes lies all over such a body.
            ("--payload-size 100000 --http-records-per-request 2", false),
            ("--payload-size 4096 --connections 3", false),
        ] {
            let receiver = Receiver::start(&scratch, "--listen http://:0 --verify --once --report -");
            let words = format!("--parallel 1 --records 300 {words} --io {io}");
            let words = format!("--target http://{}/ {words} --report report.json", receiver.address);
            let run = scratch.run(&words);
            assert_eq!(run.code(), 0, "{words}: {run}");
            let report = scratch.report_of(&run, "report.json");
            let (ended, received) = receiver.ended();
            assert_eq!(ended.code(), 0, "{words}: {ended}");
            assert_eq!(run.stderr.contains("may read bodies in place"), lends, "{words}: {run}");
            let (lent, wire) = (total(&report, "lent_bytes"), total(&report, "wire_bytes"));
            assert!((lent > 0) == lends && lent <= wire, "{words}: {lent} of {wire}");
            assert_eq!(number(&received, "records_received"), 300, "{words}");
            assert_eq!(received["findings"]["clean"], true, "{words}: {received:#}");
        }
    }
}

/// The server answers a request, leaves its body unread (the kernels hold 100 KB for it: see `tcp_wmem`), and serves another connection until the ring has come round
/// many times.
#[test]
fn a_body_that_is_read_late_is_what_it_was_and_holds_nobody_up() {
    const MEANWHILE: usize = 60;
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let (served, enough) = channel();
        let enough = Mutex::new(enough);
        let server = Server::start(move |peer| {
            if peer.nth == 0 {
                let head = peer.head().expect("there is a request");
                peer.say(NO_CONTENT);
                for _ in 0..MEANWHILE {
                    enough.lock().unwrap().recv_timeout(PATIENCE).expect("the other connection goes on");
                }
                peer.body(head).expect("its body comes");
            }
            while peer.request().is_some() {
                peer.say(NO_CONTENT);
                let _over = served.send(());
            }
        });
        let words = "--payload-size 100000 --connections 2 --parallel 1 --ring-size 1Mi --records 100";
        let report = crate::http::run(&scratch, &server, &format!("{words} --io {io}"), 0);
        fates(&report, 100, 0, 0);
        assert!(total(&report, "lent_bytes") > 0, "{io}: {:#}", report["totals"]);
        let requests = server.requests();
        assert_eq!(requests.len(), 100);
        for request in requests {
            let sequence = Header::decode(&request.body).map(|header| header.sequence);
            assert_eq!(sequence, Some(request.number("X-Sequence")), "{io}");
            assert!(is_intact(&request.body), "{io}: record {} changed", request.number("X-Sequence"));
        }
    }
}
