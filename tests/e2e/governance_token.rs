//! `--governance-token-file`: who sees the token, how it is renewed, and what a server that refuses it costs.

use crate::api::{Api, Reply};
use crate::governance::{run, told};
use crate::harness::{Live, Scratch};
use crate::report::count;
use crate::server::PATIENCE;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

#[test]
fn a_token_goes_to_the_server_and_nowhere_else() {
    let scratch = Scratch::new();
    scratch.write("token", "s3cret.token\n");
    let api = Api::start(|request| match request.header("authorization") {
        Some("Bearer s3cret.token") => Reply::taken(),
        _ => Reply::status(401, ""),
    });
    let words = "--target null --parallel 1 --records 10 --governance-every 1 --governance-token-file token";
    let ended = run(&scratch, &api, words);
    let (report, told) = told(&scratch, &ended);
    assert_eq!((count(&told, "posted"), count(&told, "announced")), (10, 3), "{told:#}");
    assert!(!report.to_string().contains("s3cret") && !ended.stderr.contains("s3cret"));
    let ended = run(&scratch, &api, "--target null --parallel 1 --records 10 --governance-every 1");
    let (_, told) = crate::governance::told(&scratch, &ended);
    assert_eq!((count(&told, "refused"), count(&told, "announced")), (10, 0), "{told:#}");
    assert!(told["last_error"].as_str().unwrap().contains("--governance-token-file"), "{told:#}");
}

/// The API takes no other token than the one that the test has come to.
#[test]
fn a_token_is_renewed_while_the_run_goes_on() {
    let scratch = Scratch::new();
    let (came, comes) = channel();
    let valid = Arc::new(Mutex::new("Bearer one"));
    let asked = valid.clone();
    let api = Api::start(move |request| {
        let taken = request.header("authorization") == Some(*asked.lock().unwrap());
        let _over = came.send(taken);
        if taken { Reply::taken() } else { Reply::status(401, "") }
    });
    let await_answer = |wanted| while comes.recv_timeout(PATIENCE).expect("requests go on") != wanted {};
    scratch.write("token", "one\n");
    let words = "--target null --parallel 1 --rate 40KB/s --duration inf --report r.json --governance-every 1 \
                 --governance-token-file token --governance-url";
    let mut engine = Live::start(&mut scratch.engine(&format!("{words} {}", api.url())));
    await_answer(true);
    // Each token has its own 401 that is waited for.
    for (next, bearer) in [("two", "Bearer two"), ("three", "Bearer three")] {
        *valid.lock().unwrap() = bearer;
        await_answer(false);
        scratch.write("token", next);
        await_answer(true);
    }
    // What holds no token leaves the last one in use, and is told.
    scratch.write("token", "");
    engine.line("--governance-token-file 'token': it must hold one line");
    comes.try_iter().for_each(drop);
    await_answer(true);
    engine.signal("INT");
    let ended = engine.ended();
    let (_, told) = told(&scratch, &ended);
    assert_eq!(
        (count(&told, "posted"), count(&told, "not_announced")),
        (count(&told, "events_offered"), 0),
        "{told:#}"
    );
    let said = ["new token from now on", "the last token stays"].map(|words| ended.stderr.matches(words).count());
    assert_eq!(said, [2, 1], "{ended}");
}

/// A gateway may ask for more at one path than at the others.
#[test]
fn a_401_to_the_start_of_the_run_alone_costs_no_event() {
    let scratch = Scratch::new();
    scratch.write("token", "one");
    let api = Api::start(|request| match request.path.as_str() {
        "/v1/runs" => Reply::status(401, "Retry-After: 60\r\n"),
        _ => Reply::taken(),
    });
    let words =
        "--target null --parallel 1 --records 500 --rate 1MB/s --governance-every 1 --governance-token-file token";
    let (_, told) = told(&scratch, &run(&scratch, &api, words));
    assert_eq!((count(&told, "posted"), count(&told, "events_offered")), (500, 500), "{told:#}");
    assert_eq!(count(&told, "not_announced"), 1, "{told:#}");
    let starts = api.requests().iter().filter(|request| request.path == "/v1/runs").count();
    assert_eq!(starts, 2, "once more, for there might have been a next token");
}

#[test]
fn a_token_that_is_wrong_is_refused_everywhere_after_one_wait() {
    let scratch = Scratch::new();
    scratch.write("token", "wrong");
    let api = Api::start(|_| Reply::status(401, ""));
    let words = "--target null --parallel 1 --records 10 --governance-every 1 --governance-token-file token";
    let (_, told) = told(&scratch, &run(&scratch, &api, words));
    assert_eq!((count(&told, "refused"), count(&told, "announced")), (10, 0), "{told:#}");
    let paths: Vec<_> = api.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths[..4], ["/v1/runs", "/v1/runs", "/v1/producers", "/v1/events/batch"]);
    assert_eq!(paths.len(), 5, "and the end of the run: {paths:?}");
}

/// The cores are done long before the token is.
#[test]
fn a_token_is_renewed_at_the_end_of_the_run_too() {
    let scratch = Scratch::new();
    scratch.write("token", "one");
    let token = scratch.path("token");
    let api = Api::start(move |request| match request.header("authorization") {
        Some("Bearer two") => Reply::taken(),
        _ => {
            std::fs::write(&token, "two").unwrap();
            Reply::status(401, "")
        }
    });
    let words = "--target null --parallel 1 --records 10 --governance-every 1 --governance-token-file token";
    let (_, told) = told(&scratch, &run(&scratch, &api, words));
    assert_eq!((count(&told, "posted"), count(&told, "not_announced")), (10, 0), "{told:#}");
}
