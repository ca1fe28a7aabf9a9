//! The head of a request: what the receiver has to know of it. Source: RFC 9112.

use crate::base::limits;
use crate::record;
use crate::verify::live::BodyFacts;
use std::mem::MaybeUninit;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Exact(u64),
    Chunked,
}

/// What becomes of the connection once the answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It stays, as is usual.
    Stays,
    /// It stays, which has to be said to clients of HTTP/1.0.
    SaysStays,
    Closes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub body: Body,
    pub link: Link,
    /// The client waits for `100 Continue` before it sends the body.
    pub waits: bool,
    /// It says of which run the body is: see [`facts`].
    pub names_run: bool,
}

/// The head at the start of `bytes` and its length; `None`: it goes on; `Err`: the status that refuses it.
pub fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, u16> {
    let mut headers = [const { MaybeUninit::uninit() }; limits::RECEIVE_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < limits::RECEIVE_HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => return Err(431),
        Err(httparse::Error::Version) => return Err(505),
        Err(_) => return Err(400),
    };
    if length > limits::RECEIVE_HEAD_BYTES_MAX {
        return Err(431);
    }
    // A tunnel would begin with our answer.
    if request.method == Some("CONNECT") {
        return Err(405);
    }
    let head = judge(request.version == Some(1), request.headers)?;
    Ok(Some((head, length)))
}

/// What a whole head says of the records in its body (`--annotate headers`); `None`: it does not say all of it.
pub fn facts(head: &[u8]) -> Option<BodyFacts> {
    let mut headers = [const { MaybeUninit::uninit() }; limits::RECEIVE_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    request.parse_with_uninit_headers(head, &mut headers).ok()?;
    let value = |name: &str| {
        let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok().map(str::trim)
    };
    let (run_id, producer) = (value("X-Run-Id")?, value("X-Producer-Id")?.parse().ok()?);
    let first: u64 = value("X-Sequence")?.parse().ok()?;
    let records: u64 = value("X-Record-Count").map_or(Some(1), |text| text.parse().ok())?;
    let last = first.checked_add(records.checked_sub(1)?)?;
    if records > limits::HTTP_RECORDS_PER_REQUEST_MAX {
        return None;
    }
    let crc32c = value("X-Crc32c")?.parse().ok()?;
    Some(BodyFacts { run: record::run_id_hash(run_id), producer, first, last, crc32c })
}

fn judge(is_1_1: bool, headers: &[httparse::Header<'_>]) -> Result<Head, u16> {
    let (mut exact, mut chunked, mut waits, mut hosts) = (None, false, false, 0);
    let (mut close, mut keep_alive, mut names_run) = (false, false, false);
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        // By length first: nearly all headers are none of these.
        match header.name.len() {
            4 if is("host") => hosts += 1,
            6 if is("expect") => {
                waits = header.value.eq_ignore_ascii_case(b"100-continue");
                if !waits {
                    return Err(417);
                }
            }
            8 if is("x-run-id") => names_run = true,
            10 if is("connection") => {
                for option in header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if is("content-length") => {
                let length = number(header.value).ok_or(400u16)?;
                if exact.replace(length).is_some_and(|before| before != length) {
                    return Err(400);
                }
            }
            17 if is("transfer-encoding") => {
                if chunked || !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(501);
                }
                chunked = true;
            }
            _ => {}
        }
    }
    // Two lengths, or a length that an older peer would not see: somebody else might read it differently.
    if (chunked && (exact.is_some() || !is_1_1)) || (is_1_1 && hosts != 1) {
        return Err(400);
    }
    let link = match (close, is_1_1, keep_alive) {
        (true, ..) | (_, false, false) => Link::Closes,
        (false, true, _) => Link::Stays,
        (false, false, true) => Link::SaysStays,
    };
    let body = if chunked { Body::Chunked } else { Body::Exact(exact.unwrap_or(0)) };
    Ok(Head { body, link, waits: waits && is_1_1, names_run })
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = text.trim_ascii();
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Head, u16> {
        let whole = text.replace('\n', "\r\n");
        let (head, length) = parse(whole.as_bytes())?.expect("a whole head");
        assert_eq!(length, whole.len());
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole.as_bytes()[..cut]), Ok(None), "cut at {cut}");
        }
        Ok(head)
    }

    #[test]
    fn heads_as_clients_send_them() {
        let plain = Head { body: Body::Exact(4096), link: Link::Stays, waits: false, names_run: false };
        assert_eq!(read("POST / HTTP/1.1\nHost: x\nContent-Length:      4096\n\n"), Ok(plain));
        assert_eq!(
            read("PUT /a?b HTTP/1.1\nhost: x\ntransfer-encoding: Chunked\nExpect: 100-Continue\n\n"),
            Ok(Head { body: Body::Chunked, link: Link::Stays, waits: true, names_run: false })
        );
        assert_eq!(read("GET / HTTP/1.1\nHost: x\nConnection: x, Close\n\n").unwrap().link, Link::Closes);
        assert_eq!(read("GET / HTTP/1.0\n\n").unwrap().link, Link::Closes);
        assert_eq!(read("GET / HTTP/1.0\nConnection: Keep-Alive\n\n").unwrap().link, Link::SaysStays);
        assert_eq!(read("GET / HTTP/1.1\nHost: x\n\n").unwrap().body, Body::Exact(0));
    }

    #[test]
    fn facts_are_read_where_all_of_them_are_there() {
        let lines = ["X-Run-Id: night-7", "X-Producer-Id: 3", "x-sequence:       40", "X-Crc32c:  99"];
        let head = |lines: &[&str]| format!("POST / HTTP/1.1\r\nHost: h\r\n{}\r\n\r\n", lines.join("\r\n"));
        let read = |lines: &[&str]| {
            let text = head(lines);
            assert!(parse(text.as_bytes()).unwrap().unwrap().0.names_run == text.contains("Run"), "{text}");
            facts(text.as_bytes())
        };
        let one = BodyFacts { run: record::run_id_hash("night-7"), producer: 3, first: 40, last: 40, crc32c: 99 };
        assert_eq!(read(&lines), Some(one));
        let counted = |count: &str| {
            let line = format!("X-Record-Count: {count}");
            let mut all = lines.to_vec();
            all.push(&line);
            read(&all)
        };
        assert_eq!(counted("  100"), Some(BodyFacts { last: 139, ..one }));
        for count in ["0", "x", "65537", "18446744073709551615"] {
            assert_eq!(counted(count), None, "{count}");
        }
        for missing in 0..lines.len() {
            let mut some = lines.to_vec();
            some.remove(missing);
            assert_eq!(read(&some), None, "{some:?}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for (text, status) in [
            ("nonsense\n\n", 400),
            ("GET / HTTP/1.1\n\n", 400),
            ("GET / HTTP/1.1\nHost: a\nHost: b\n\n", 400),
            ("POST / HTTP/1.1\nHost: x\nContent-Length: -1\n\n", 400),
            ("POST / HTTP/1.1\nHost: x\nContent-Length: 1x\n\n", 400),
            ("POST / HTTP/1.1\nHost: x\nContent-Length: 99999999999999999999\n\n", 400),
            ("POST / HTTP/1.1\nHost: x\nContent-Length: 1\nContent-Length: 2\n\n", 400),
            ("POST / HTTP/1.1\nHost: x\nContent-Length: 1\nTransfer-Encoding: chunked\n\n", 400),
            ("POST / HTTP/1.0\nTransfer-Encoding: chunked\n\n", 400),
            ("POST / HTTP/1.1\nHost: x\nTransfer-Encoding: gzip, chunked\n\n", 501),
            ("POST / HTTP/1.1\nHost: x\nExpect: miracles\n\n", 417),
            ("CONNECT x:1 HTTP/1.1\nHost: x\n\n", 405),
            ("GET / HTTP/3.0\nHost: x\n\n", 505),
        ] {
            assert_eq!(parse(text.replace('\n', "\r\n").as_bytes()), Err(status), "{text}");
        }
        let long = format!("GET / HTTP/1.1\r\nHost: {}", "x".repeat(limits::RECEIVE_HEAD_BYTES_MAX));
        assert_eq!(parse(long.as_bytes()), Err(431));
        let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(limits::RECEIVE_HEADERS_MAX));
        assert_eq!(parse(many.as_bytes()), Err(431));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[A-Z]{1,4} / HTTP/1.1\r\n([A-Za-z-]{1,17}: .{0,9}\r\n){0,4}\r\n") {
            let _ = (parse(&bytes), parse(text.as_bytes()), facts(&bytes), facts(text.as_bytes()));
        }
    }
}
