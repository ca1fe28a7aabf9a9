//! `--bearer-token-file`: a token that is renewed while a run goes on.

use crate::harness::{Live, Scratch, feed};
use crate::http::{BACK_ENDS, fates};
use crate::report::{count, total};
use crate::server::{NO_CONTENT, PATIENCE, Request, Server};
use std::sync::mpsc::{Receiver, Sender, channel};

fn token(request: &Request) -> String {
    request.header("Authorization").and_then(|value| value.strip_prefix("Bearer ")).expect("a bearer token").to_owned()
}

/// Waits for a request with this token; how many came before it.
fn await_token(came: &Receiver<String>, wanted: &str) -> usize {
    let others = std::iter::from_fn(|| Some(came.recv_timeout(PATIENCE).expect("requests go on")));
    others.take_while(|token| token != wanted).count()
}

#[test]
fn a_renewed_token_is_sent_from_then_on() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let (comes, came) = channel();
        // The first record is refused for now until it has the last token.
        let server = Server::start(move |peer| {
            while let Some((_, request)) = peer.request() {
                let token = token(&request);
                let waits = request.number("X-Sequence") == 0 && token != "x";
                let _over = comes.send(token);
                peer.say(if waits { "HTTP/1.1 429 Later\r\nContent-Length: 0\r\n\r\n" } else { NO_CONTENT });
            }
        });
        let long = "l0ng-".repeat(100);
        scratch.write("token", "s3cret-1\n");
        let words = "--bearer-token-file token --rate 400KB/s --payload-size 4000-5000 --duration inf --parallel 1 \
                     --connections 3 --http-pipeline 2 --retry 100000,20ms-20ms --report r.json";
        let mut engine = Live::start(&mut scratch.engine(&format!("--target {} --io {io} {words}", server.url())));
        assert_eq!(await_token(&came, "s3cret-1"), 0);
        for next in [&long, "x"] {
            scratch.write("token", next);
            await_token(&came, next);
        }
        // What cannot be used leaves the last one in use, and is told.
        scratch.write("token", "no token\n");
        engine.line("a token is printable ASCII");
        came.try_iter().for_each(drop);
        assert_eq!(await_token(&came, "x"), 0);
        engine.signal("INT");
        let ended = engine.ended();
        assert_eq!(ended.code(), 0, "{ended}");
        assert_eq!(ended.stderr.matches("requests have the new token").count(), 2, "{ended}");
        for secret in ["s3cret-1", "l0ng", "no token"] {
            assert!(!ended.stderr.contains(secret), "{ended}");
        }
        let report = scratch.report_of(&ended, "r.json");
        fates(&report, total(&report, "records_offered") - total(&report, "records_not_sent"), 0, 0);
        let requests = server.requests();
        assert_eq!(token(requests.last().unwrap()), "x");
        again_but_for_the_token(&requests, &["s3cret-1", &long, "x"]);
    }
}

/// The first record came with each of the tokens, and was otherwise the same.
#[track_caller]
fn again_but_for_the_token(requests: &[Request], tokens: &[&str]) {
    let attempts: Vec<_> = requests.iter().filter(|request| request.number("X-Sequence") == 0).collect();
    let rest = |request: &Request| {
        let others = request.headers.iter().filter(|(name, _)| name != "Authorization").cloned().collect::<Vec<_>>();
        (others, request.body.clone())
    };
    assert!(attempts.iter().all(|attempt| rest(attempt) == rest(attempts[0])), "an attempt differs from the first");
    let mut seen: Vec<_> = attempts.iter().map(|attempt| token(attempt)).collect();
    seen.dedup();
    assert_eq!(seen, tokens);
}

/// What comes from a pipe is read once, and nobody waits for more of it.
#[test]
fn a_token_from_a_pipe_is_that_of_the_start() {
    let scratch = Scratch::new();
    let server = Server::start(crate::server::Peer::obey);
    let words = format!("--target {} --bearer-token-file /dev/stdin --rate 40KB/s --duration 5s", server.url());
    let ended = feed(&mut scratch.engine(&words), b"piped\n");
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(!ended.stderr.contains("--bearer-token-file"), "nothing is told of it: {ended}");
    assert!(server.requests().iter().all(|request| token(request) == "piped"));
}

/// Takes records with this token, and with an older one the first few.
fn expiring(old: &'static str, next: &'static str, comes: Sender<String>) -> Server {
    Server::start(move |peer| {
        while let Some((_, request)) = peer.request() {
            let token = token(&request);
            let taken = token == next || token == old && request.number("X-Sequence") < TAKEN_OF_OLD;
            peer.say(if taken { NO_CONTENT } else { UNAUTHORIZED });
            let _over = comes.send(if taken { token } else { "refused".into() });
        }
    })
}

const TAKEN_OF_OLD: u64 = 3;
const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

#[test]
fn what_a_token_that_has_expired_was_refused_for_goes_again_with_the_next_one() {
    let scratch = Scratch::new();
    for io in BACK_ENDS {
        let (comes, came) = channel();
        let server = expiring("old", "next", comes);
        scratch.write("token", "old");
        let words = "--bearer-token-file token --records 9 --parallel 1 --connections 2 --report r.json";
        let engine = Live::start(&mut scratch.engine(&format!("--target {} --io {io} {words}", server.url())));
        await_token(&came, "refused");
        scratch.write("token", "next");
        let ended = engine.ended();
        assert_eq!(ended.code(), 0, "{ended}");
        let report = scratch.report_of(&ended, "r.json");
        fates(&report, 9, 0, 0);
        let refused = count(&report["totals"]["answers"], "401");
        assert_eq!((total(&report, "retries"), total(&report, "requests")), (refused, 9 + refused));
    }
}

/// No other token can come: asking again would only take longer.
#[test]
fn without_a_file_to_look_at_a_401_is_the_end() {
    let scratch = Scratch::new();
    for (words, status) in
        [("", "401"), ("--bearer-token-file /dev/stdin", "401"), ("--bearer-token-file token", "403")]
    {
        scratch.write("token", "one");
        let answer = UNAUTHORIZED.replace("401", status);
        let server = Server::start(move |peer| {
            while peer.request().is_some() {
                peer.say(&answer);
            }
        });
        let words = format!("--target {} {words} --records 3 --parallel 1 --report r.json", server.url());
        let ended = feed(&mut scratch.engine(&words), b"piped\n");
        assert_eq!(ended.code(), 1, "{words}: {ended}");
        let report = scratch.report_of(&ended, "r.json");
        fates(&report, 0, 3, 0);
        assert_eq!((total(&report, "retries"), server.requests().len()), (0, 3), "{words}");
    }
}
