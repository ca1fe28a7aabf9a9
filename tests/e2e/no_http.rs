//! `http://` to a port that speaks something else, or seems to.

use crate::harness::Scratch;
use crate::http::BACK_ENDS;
use crate::server::{NO_CONTENT, Server};
use std::sync::OnceLock;

#[test]
fn a_port_that_speaks_no_http_is_told_of_once() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        for (answer, said) in [
            ("", "closed without an answer 3 times in a row; does this port speak TLS (https://"),
            ("\x15\x03\x03\0\x02\x02\x0a", "answers with a TLS alert: this port speaks TLS, https://"),
            ("SSH-2.0\r\n", "beginning with 'SSH-'"),
        ] {
            let server = Server::start(move |peer| {
                if peer.request().is_some() {
                    peer.say(answer);
                }
            });
            let words = format!("--records 2 --parallel 2 --retry 5,1ms-2ms --drain-timeout 20s --io {io}");
            let ended = scratch.run(&format!("--target {} {words}", server.url()));
            assert_eq!(ended.code(), 1, "{ended}");
            assert_eq!(ended.stderr.matches(said).count(), 1, "'{said}': {ended}");
        }
        // One that has answered is none of them.
        let server = Server::start(|peer| {
            if peer.request().is_some() && peer.nth == 0 {
                peer.say(NO_CONTENT);
            }
        });
        let words = format!("--records 2 --parallel 1 --retry 5,1ms-2ms --drain-timeout 20s --io {io}");
        let ended = scratch.run(&format!("--target {} {words}", server.url()));
        assert!(ended.code() == 1 && !ended.stderr.contains("without an answer"), "{ended}");
    }
}

#[test]
fn a_port_that_answers_some_requests_speaks_http() {
    let scratch = Scratch::new();
    let words = "--records 2 --parallel 2 --retry 5,1ms-2ms --drain-timeout 20s";
    for io in BACK_ENDS {
        // The other producer's connections are closed once the first one's request has its answer.
        let answered = OnceLock::new();
        let some = Server::start(move |peer| {
            if peer.request().is_none() {
                return;
            }
            if peer.nth == 0 {
                peer.say(NO_CONTENT);
                let _first = answered.set(());
                peer.obey();
            } else {
                answered.wait();
            }
        });
        let ended = scratch.run(&format!("--target {} {words} --io {io}", some.url()));
        assert!(ended.code() == 1 && !ended.stderr.contains("does this port speak"), "{ended}");
        for answer in ["HTTP/1.1 999 Denied\r\n\r\n", "HTTP/1.1 200 OK\r\nA B: c\r\n\r\n"] {
            let odd = Server::start(move |peer| {
                if peer.request().is_some() {
                    peer.say(answer);
                }
            });
            let ended = scratch.run(&format!("--target {} {words} --io {io}", odd.url()));
            assert!(ended.code() == 1 && !ended.stderr.contains("does this port speak"), "{answer}: {ended}");
        }
    }
}
