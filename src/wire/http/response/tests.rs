use super::*;
use proptest::prelude::*;

/// All responses that pieces of a stream come to, the end of the connection included.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Response>, Option<HttpError>) {
    let (mut parser, mut buffer, mut found) = (ResponseParser::new(), Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match parser.parse(&buffer) {
                Ok(progress) => {
                    buffer.drain(..progress.consumed);
                    found.extend(progress.response);
                    if progress.response.is_none() || buffer.is_empty() {
                        break;
                    }
                }
                Err(error) => return (found, Some(error)),
            }
        }
    }
    match parser.end() {
        Ok(last) => {
            found.extend(last);
            (found, None)
        }
        Err(error) => (found, Some(error)),
    }
}

/// Whole and cut at every place, which must make no difference.
fn read(stream: &[u8]) -> (Vec<Response>, Option<HttpError>) {
    let whole = feed([stream]);
    for cut in 0..=stream.len() {
        assert_eq!(feed([&stream[..cut], &stream[cut..]]), whole, "cut at {cut}");
    }
    assert_eq!(feed(stream.chunks(1)), whole, "byte by byte");
    whole
}

fn ok(status: u16, body_bytes: u64) -> Response {
    Response { status, body_bytes, ..Response::default() }
}

#[test]
fn every_kind_of_body() {
    for (text, wanted) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", vec![ok(204, 0)]),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", vec![ok(304, 0)]),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", vec![ok(200, 0)]),
        (
            "HTTP/1.1 200\r\ncontent-length: 3, 3\r\nContent-Length:3\r\n\r\nabcHTTP/1.1 204 x\r\n\r\n",
            vec![ok(200, 3), ok(204, 0)],
        ),
        (
            "HTTP/1.1 201 C\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3;x=\"y\"\r\nabc\r\nA \r\n0123456789\r\n0\r\nX: y\r\n\r\nHTTP/1.1 204 x\r\n\r\n",
            vec![ok(201, 13), ok(204, 0)],
        ),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 x\r\n\r\n", vec![ok(204, 0)]),
        ("HTTP/1.1 200 OK\n\nbody to the end", vec![Response { close: true, ..ok(200, 15) }]),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
            vec![Response { close: true, says_close: true, ..ok(200, 1) }],
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive\r\n\r\nx", vec![ok(200, 1)]),
        (
            "HTTP/1.1 413 Large\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nno",
            vec![Response { close: true, says_close: true, ..ok(413, 2) }],
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            vec![Response { close: true, ..ok(200, 0) }],
        ),
        ("\r\n\r\nHTTP/1.1 204 x\r\n\r\n\r\n", vec![ok(204, 0)]),
        ("", vec![]),
    ] {
        assert_eq!(read(text.as_bytes()), (wanted, None), "{text}");
    }
}

#[test]
fn when_to_come_back() {
    for (value, wanted) in [
        ("Wed, 21 Oct 2015 07:28:30 GMT\r\nDate: Wed, 21 Oct 2015 07:28:00 GMT", Some(30)),
        ("Wed, 21 Oct 2015 07:27:00 GMT\r\nDate: Wed, 21 Oct 2015 07:28:00 GMT", Some(0)),
        ("Fri, 21 Oct 2016 07:28:00 GMT\r\nDate: Wed, 21 Oct 2015 07:28:00 GMT", Some(3600)),
        ("Wed, 21 Oct 2015 07:28:30 GMT\r\nDate: today", Some(0)),
        ("Wed, 41 Oct 2015 07:28:30 GMT", None),
        ("3", Some(3)),
        ("0", Some(0)),
        ("99999999999999999999999", Some(3600)),
        ("Wed, 21 Oct 2015 07:28:00 GMT", Some(0)),
        ("-1", None),
        ("soon", None),
        ("1.5", None),
    ] {
        let text = format!("HTTP/1.1 503 Busy\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n");
        let (found, _) = read(text.as_bytes());
        assert_eq!(found, [Response { retry_after_seconds: wanted, ..ok(503, 0) }], "{value}");
    }
}

#[test]
fn what_is_no_response_is_told_apart() {
    let interim = "HTTP/1.1 100 x\r\n\r\n".repeat(limits::HTTP_INTERIM_MAX as usize + 1);
    for (text, wanted) in [
        ("SSH-2.0-OpenSSH_9\r\n", HttpError::BadHead),
        ("\x15\x03\x03\x00\x02", HttpError::BadHead),
        ("HTTP/2 200 x\r\n\r\n", HttpError::BadHead),
        ("HTTP/1.1 200 x\r\n\u{1}: y", HttpError::Truncated),
        ("HTTP/1.1 099 x\r\n\r\n", HttpError::BadHead),
        ("HTTP/1.1 600 x\r\n\r\n", HttpError::BadHead),
        ("HTTP/1.1 101 x\r\n\r\n", HttpError::Switched),
        ("HTTP/1.1 200 x\r\nContent-Length: -1\r\n\r\n", HttpError::BadContentLength),
        ("HTTP/1.1 200 x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", HttpError::BadContentLength),
        ("HTTP/1.1 200 x\r\nContent-Length: 18446744073709551616\r\n\r\n", HttpError::BadContentLength),
        ("HTTP/1.1 200 x\r\nContent-Length: \r\n\r\n", HttpError::BadContentLength),
        ("HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", HttpError::BadChunk),
        ("HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", HttpError::BadChunk),
        ("HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab", HttpError::BadChunk),
        ("HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", HttpError::BadChunk),
        ("HTTP/1.1 200 x\r\nContent-Length: 3\r\n\r\nab", HttpError::Truncated),
        ("HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", HttpError::Truncated),
        ("HTTP/1.1 100 x\r\n\r\n", HttpError::Truncated),
        ("HTTP/1.1 200", HttpError::Truncated),
        (interim.as_str(), HttpError::TooManyInterim),
    ] {
        assert_eq!(read(text.as_bytes()).1, Some(wanted), "{text}");
    }
}

#[test]
fn folded_lines_are_one() {
    let folded =
        "HTTP/1.1 200 OK\r\nX-Policy: a;\r\n b\r\nConnection: keep-alive,\r\n\tclose\r\nContent-Length: 0\r\n\r\n";
    let (responses, error) = read(folded.as_bytes());
    assert!(error.is_none() && responses.len() == 1 && responses[0].close, "{responses:?} {error:?}");
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 2\r\n\r\n";
    assert_eq!(read(length.as_bytes()).1, Some(HttpError::BadContentLength));
}

#[test]
fn nothing_grows_without_bound() {
    let long = "x".repeat(limits::HTTP_RESPONSE_HEAD_BYTES_MAX);
    let chunked = "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let many: String = (0..=limits::HTTP_RESPONSE_HEADERS_MAX).map(|at| format!("H{at}: x\r\n")).collect();
    for (text, wanted) in [
        (format!("HTTP/1.1 200 x\r\nX: {long}\r\n\r\n"), HttpError::HeadTooLarge),
        (format!("HTTP/1.1 200 x\r\nX: {long}{long}"), HttpError::HeadTooLarge),
        (format!("HTTP/1.1 200 x\r\n{many}\r\n"), HttpError::HeadTooLarge),
        (format!("{chunked}1;{long}\r\nx\r\n"), HttpError::BadChunk),
        (format!("{chunked}0\r\nX: {long}\r\n\r\n"), HttpError::HeadTooLarge),
        (format!("{chunked}0\r\n{}\r\n", "X: y\r\n".repeat(4000)), HttpError::HeadTooLarge),
    ] {
        assert_eq!(feed([text.as_bytes()]).1, Some(wanted));
        assert_eq!(feed(text.as_bytes().chunks(700)).1, Some(wanted));
    }
}

/// A response with its own end, and what it is to be read as.
fn any_response() -> impl Strategy<Value = (Vec<u8>, Response)> {
    let status = prop_oneof![Just(200u16), Just(204), Just(304), Just(429), Just(503), 200u16..600];
    let chunks = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..5);
    (status, chunks, any::<bool>(), 0usize..3, proptest::option::of(0u64..5000)).prop_map(
        |(status, chunks, chunked, interim, retry)| {
            let mut text = "HTTP/1.1 100 Continue\r\n\r\n".repeat(interim).into_bytes();
            text.extend_from_slice(format!("HTTP/1.1 {status} Some words\r\nServer: x\r\n").as_bytes());
            text.extend(retry.map(|retry| format!("Retry-After: {retry}\r\n")).unwrap_or_default().into_bytes());
            let body = chunks.concat();
            let bodiless = matches!(status, 204 | 304);
            if bodiless {
                text.extend_from_slice(b"\r\n");
            } else if chunked {
                text.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in &chunks {
                    text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    text.extend_from_slice(chunk);
                    text.extend_from_slice(b"\r\n");
                }
                text.extend_from_slice(b"0\r\n\r\n");
            } else {
                text.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                text.extend_from_slice(&body);
            }
            let retry_after_seconds = retry.map(|retry| retry.min(3600));
            let body_bytes = if bodiless { 0 } else { body.len() as u64 };
            (text, Response { status, retry_after_seconds, body_bytes, ..Response::default() })
        },
    )
}

proptest! {
    #[test]
    fn pipelined_responses_are_told_apart_however_they_arrive(
        all in proptest::collection::vec(any_response(), 1..6), step in 1usize..60,
    ) {
        let stream: Vec<u8> = all.iter().flat_map(|(text, _)| text.clone()).collect();
        let wanted: Vec<_> = all.iter().map(|(_, response)| *response).collect();
        prop_assert_eq!(feed([stream.as_slice()]), (wanted.clone(), None));
        prop_assert_eq!(feed(stream.chunks(step)), (wanted, None));
    }

    #[test]
    fn no_bytes_panic_and_cuts_change_nothing(
        garbage in proptest::collection::vec(any::<u8>(), 0..200), head: bool, cut in 0usize..260,
    ) {
        let mut stream = if head { b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec() } else { Vec::new() };
        stream.extend_from_slice(&garbage);
        let cut = cut.min(stream.len());
        prop_assert_eq!(feed([&stream[..cut], &stream[cut..]]), feed([stream.as_slice()]));
    }
}

#[test]
fn a_head_that_is_known_comes_to_the_same() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    const LATER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    const INTERIM: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    const WAIT: &str = "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
    let long = format!("HTTP/1.1 204 x\r\nX-A: {}\r\n\r\n", "a".repeat(600));
    let heads = [OK, OK, LATER, WAIT, WAIT, INTERIM, INTERIM, OK, &long, &long, OK];
    let bodies = ["ab", "cd", "abc", "", "", "", "", "ef", "", "", "HT"];
    let stream: Vec<u8> =
        heads.iter().zip(bodies).flat_map(|(head, body)| [*head, body].concat().into_bytes()).collect();
    let [ok, busy, empty] = [200, 503, 204].map(|status| Response { status, ..Response::default() });
    let ok = |body_bytes| Response { body_bytes, ..ok };
    let busy = Response { retry_after_seconds: Some(7), ..busy };
    let wanted = vec![ok(2), ok(2), ok(3), busy, busy, ok(2), empty, empty, ok(2)];
    for step in [1, 7, 64, stream.len()] {
        assert_eq!(feed(stream.chunks(step)), (wanted.clone(), None), "{step}");
    }
}

#[test]
fn only_the_last_final_head_of_moderate_length_is_known() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    const LATER: &str = "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 0\r\n\r\n";
    let long = format!("HTTP/1.1 204 x\r\nX-A: {}\r\n\r\n", "a".repeat(600));
    let mut parser = ResponseParser::new();
    let mut known_after = |head: &str| {
        parser.parse(head.as_bytes()).unwrap();
        [OK, LATER, &long].map(|head| parser.known.begins(head.as_bytes()).is_some())
    };
    assert_eq!(known_after(OK), [true, false, false]);
    assert_eq!(known_after(LATER), [false, true, false]);
    assert_eq!(known_after("HTTP/1.1 100 Continue\r\n\r\n"), [false, true, false]);
    assert_eq!(known_after(&long), [false, true, false]);
    assert_eq!(known_after(OK), [true, false, false]);
}

#[test]
fn what_only_begins_like_the_last_head_is_read_anew() {
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let close = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (all, error) = feed([[last, last, close].concat().as_bytes()]);
    assert_eq!(
        (all.iter().map(|response| response.close).collect::<Vec<_>>(), error),
        (vec![false, false, true], None)
    );
    let bad = feed([[last, "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"].concat().as_bytes()]);
    assert_eq!((bad.0.len(), bad.1), (1, Some(HttpError::BadContentLength)));
}

/// A stream of answers through one parser that seeks `text`: which has it, and what is told of the last that does.
fn sought(text: &str, pieces: &[&[u8]]) -> (Vec<bool>, String) {
    let mut parser = ResponseParser::seeking(Some(&Arc::new(Sought::new(text.as_bytes()))));
    let (mut buffer, mut found, mut told) = (Vec::new(), Vec::new(), String::new());
    let mut note = |parser: &ResponseParser, response: Response| {
        found.push(response.has_text);
        if response.has_text {
            told = parser.excerpt().to_string();
        }
    };
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let progress = parser.parse(&buffer).unwrap();
            buffer.drain(..progress.consumed);
            let Some(response) = progress.response else { break };
            note(&parser, response);
        }
    }
    let last = parser.end().unwrap();
    last.into_iter().for_each(|response| note(&parser, response));
    (found, told)
}

#[test]
fn a_text_is_sought_in_the_bodies_of_2xx_alone() {
    const TEXT: &str = "\"errors\":true";
    let exact = |status: &str, body: &str| format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let stream = [
        exact("200 OK", "{\"errors\":false}"),
        exact("201 Created", "{\"errors\":true}"),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"err\r\n4;x=y\r\nors\"\r\n7\r\n:true,1\r\n0\r\n\r\n".into(),
        // Neither a refusal's body nor a head or a trailer is searched.
        exact("503 Busy", "{\"errors\":true}"),
        "HTTP/1.1 200 OK\r\nX: \"errors\":true\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: \"errors\":true\r\n\r\n".into(),
        // It begins in one and ends in the next.
        exact("200 OK", "\"errors\":"),
        exact("200 OK", "true"),
        "HTTP/1.1 204 No Content\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\n\r\n{\"errors\":true, until the end".into(),
    ]
    .concat();
    let wanted = [false, true, true, false, false, false, false, false, true].to_vec();
    let wanted = (wanted, "\"errors\":true, until the end".to_owned());
    let stream = stream.as_bytes();
    for cut in 0..=stream.len() {
        assert_eq!(sought(TEXT, &[&stream[..cut], &stream[cut..]]), wanted, "cut at {cut}");
    }
    let bytes: Vec<_> = stream.chunks(1).collect();
    assert_eq!(sought(TEXT, &bytes), wanted, "byte by byte");
    assert!(feed([stream]).0.iter().all(|response| !response.has_text), "nobody asked");
}
