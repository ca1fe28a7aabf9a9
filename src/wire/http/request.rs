//! The head of a request: rendered once, its numbers changed for each request, mostly in their last digits.
//!
//! Numbers have a fixed width and are padded with blanks on their left, which HTTP allows there and nowhere else: they
//! keep their places, whatever they are. A bearer token, which may change and grow, is the last line, so that nothing
//! lies behind it that would have to move.

use crate::base::digits::{place_right, put_decimal};

const LENGTH_DIGITS: usize = 10;
const SEQUENCE_DIGITS: usize = 20;
const TIMESTAMP_DIGITS: usize = 20;
const WEIGHT_DIGITS: usize = 7;
const COUNT_DIGITS: usize = 6;
const CRC_DIGITS: usize = 10;
const LINE_END: &[u8] = b"\r\n";

/// What stays the same for all requests of a producer, and which facts its requests state.
#[derive(Clone, Copy, Debug)]
pub struct HeadFacts<'a> {
    pub producer_id: u32,
    /// Not with `--annotate off`: `X-Producer-Id`, and `X-Sequence` and `X-Timestamp` of the first record.
    pub stamped: bool,
    /// In sampled mode: `X-Weight`.
    pub weighted: bool,
    /// More than one record in a body: `X-Record-Count`.
    pub counted: bool,
    /// With the facts beside the payload: `X-Run-Id`, and `X-Crc32c` of the body.
    pub run_id: Option<&'a str>,
}

/// The numbers of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadStamps {
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Of its first record.
    pub sequence: u64,
    pub timestamp_unix_ns: u64,
    pub weight: u64,
    pub records: u64,
    pub crc32c: u32,
}

/// Where a number ends in the head, and how many digits it may have.
#[derive(Clone, Copy, Debug)]
struct Field {
    end: usize,
    digits: usize,
}

impl Field {
    /// The head has `from` here. What comes next in a row of numbers has most of its digits.
    #[inline]
    fn change(self, head: &mut [u8], from: u64, to: u64) {
        for (digits, power) in [(4, 10_000), (8, 100_000_000)] {
            if to >= power && to / power == from / power {
                return put_decimal(&mut head[self.end - digits..self.end], to);
            }
        }
        self.put(head, to);
    }

    fn put(self, head: &mut [u8], number: u64) {
        place_right(number, &mut head[self.end - self.digits..self.end]);
    }
}

#[derive(Clone, Debug)]
pub struct RequestHead {
    /// As it was last sent, with room behind its end for a longer token.
    text: Vec<u8>,
    bytes: usize,
    /// Where the token begins.
    token: Option<usize>,
    /// The numbers that it has.
    stamps: HeadStamps,
    length: Field,
    sequence: Option<Field>,
    timestamp: Option<Field>,
    weight: Option<Field>,
    count: Option<Field>,
    crc: Option<Field>,
}

impl RequestHead {
    /// `headers` are sent as they are: names and values must be clean already.
    pub fn new(method: &str, path: &str, host: &str, headers: &[(String, String)], facts: HeadFacts<'_>) -> Self {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n").into_bytes();
        let mut line = |name: &str, value: &str| {
            text.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            text.len() - 2
        };
        for (name, value) in headers {
            line(name, value);
        }
        if let Some(run_id) = facts.run_id {
            line("X-Run-Id", run_id);
        }
        if facts.stamped {
            line("X-Producer-Id", &facts.producer_id.to_string());
        }
        let mut number = |name: &str, digits: usize| Field { end: line(name, &" ".repeat(digits)), digits };
        let sequence = facts.stamped.then(|| number("X-Sequence", SEQUENCE_DIGITS));
        let timestamp = facts.stamped.then(|| number("X-Timestamp", TIMESTAMP_DIGITS));
        let weight = facts.weighted.then(|| number("X-Weight", WEIGHT_DIGITS));
        let count = facts.counted.then(|| number("X-Record-Count", COUNT_DIGITS));
        let crc = facts.run_id.map(|_| number("X-Crc32c", CRC_DIGITS));
        let length = number("Content-Length", LENGTH_DIGITS);
        text.extend_from_slice(b"\r\n");
        let (bytes, stamps) = (text.len(), HeadStamps::default());
        let mut head = Self { text, bytes, token: None, stamps, length, sequence, timestamp, weight, count, crc };
        for field in [Some(length), sequence, timestamp, weight, count, crc].into_iter().flatten() {
            field.put(&mut head.text, 0);
        }
        head
    }

    /// With a bearer token, which may be renewed by one of up to `bytes_max` bytes.
    pub fn with_token(mut self, token: &str, bytes_max: usize) -> Self {
        self.text.truncate(self.bytes - LINE_END.len());
        self.text.extend_from_slice(b"Authorization: Bearer ");
        let start = self.text.len();
        self.token = Some(start);
        self.text.resize(start + bytes_max + 2 * LINE_END.len(), 0);
        self.put_token(start, token);
        self
    }

    /// From now on requests have this token. One that is too long changes nothing, nor does any where there was none.
    /// Allocates nothing.
    pub fn renew(&mut self, token: &str) {
        if let Some(start) = self.token.filter(|start| start + token.len() + 2 * LINE_END.len() <= self.text.len()) {
            self.put_token(start, token);
        }
    }

    fn put_token(&mut self, start: usize, token: &str) {
        let mut end = start;
        for part in [token.as_bytes(), LINE_END, LINE_END] {
            self.text[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        self.bytes = end;
    }

    /// The length of every request's head, until its token is renewed.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The most that it can be.
    pub fn bytes_max(&self) -> usize {
        self.text.len()
    }

    /// Writes the head of a request with these numbers to the start of `out`.
    pub fn write(&mut self, out: &mut [u8], stamps: &HeadStamps) {
        let was = std::mem::replace(&mut self.stamps, *stamps);
        let fields = [
            (Some(self.length), was.body_bytes, stamps.body_bytes),
            (self.sequence, was.sequence, stamps.sequence),
            (self.timestamp, was.timestamp_unix_ns, stamps.timestamp_unix_ns),
            (self.weight, was.weight, stamps.weight),
            (self.count, was.records, stamps.records),
            (self.crc, u64::from(was.crc32c), u64::from(stamps.crc32c)),
        ];
        for (field, from, to) in fields {
            if let Some(field) = field.filter(|_| from != to) {
                field.change(&mut self.text, from, to);
            }
        }
        out[..self.bytes].copy_from_slice(&self.text[..self.bytes]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BARE: HeadFacts = HeadFacts { producer_id: 7, stamped: false, weighted: false, counted: false, run_id: None };

    fn headers() -> Vec<(String, String)> {
        vec![("Content-Type".into(), "application/json".into()), ("X-A".into(), "b c".into())]
    }

    fn value<'a>(parsed: &'a httparse::Request<'_, '_>, name: &str) -> Option<&'a str> {
        let header = parsed.headers.iter().find(|header| header.name == name)?;
        Some(std::str::from_utf8(header.value).unwrap())
    }

    #[test]
    fn a_head_never_patched_is_whole() {
        let head = RequestHead::new("PUT", "/in?x=1", "h:80", &headers(), BARE);
        let text = String::from_utf8(head.text.clone()).unwrap();
        assert!(text.starts_with("PUT /in?x=1 HTTP/1.1\r\nHost: h:80\r\nContent-Type: application/json\r\n"), "{text}");
        assert!(text.ends_with(&format!("Content-Length: {:>10}\r\n\r\n", 0)), "{text}");
        // But for the user's own.
        assert_eq!(text.matches("\r\nX-").count(), 1, "{text}");
    }

    #[test]
    fn a_token_is_renewed_and_all_else_stays() {
        let mut head = RequestHead::new("POST", "/", "h", &headers(), HeadFacts { stamped: true, ..BARE });
        let bare = head.bytes();
        head = head.with_token("one", 8);
        let bytes_max = head.bytes_max();
        let mut out = vec![0xaa; bytes_max + 3];
        for (at, (token, sent)) in
            [("one", "one"), ("eight-88", "eight-88"), ("too long9", "eight-88"), ("x", "x")].into_iter().enumerate()
        {
            if at > 0 {
                head.renew(token);
            }
            assert_eq!(head.bytes(), bare + "Authorization: Bearer \r\n".len() + sent.len());
            head.write(&mut out, &HeadStamps { body_bytes: 17, sequence: 4, ..HeadStamps::default() });
            let mut slots = [httparse::EMPTY_HEADER; 16];
            let mut parsed = httparse::Request::new(&mut slots);
            assert_eq!(parsed.parse(&out), Ok(httparse::Status::Complete(head.bytes())));
            let bearer = format!("Bearer {sent}");
            assert_eq!(value(&parsed, "Authorization"), Some(bearer.as_str()));
            assert_eq!((value(&parsed, "Content-Length"), value(&parsed, "X-Sequence")), (Some("17"), Some("4")));
            assert_eq!((head.bytes_max(), &out[bytes_max..]), (bytes_max, &[0xaa; 3][..]));
        }
        let mut without = RequestHead::new("POST", "/", "h", &[], BARE);
        let bytes = without.bytes();
        without.renew("one");
        assert_eq!((without.bytes(), without.bytes_max()), (bytes, bytes));
    }

    proptest! {
        #[test]
        fn a_parser_reads_back_what_was_patched(
            producer_id: u32, stamped: bool, weighted: bool, counted: bool, annotated: bool,
            body_bytes in 0u64..=1 << 30, sequence: u64, timestamp_unix_ns: u64, weight in 0u64..=1_000_000,
            records in 0u64..=65_536, crc32c: u32, steps in 1u64..1 << 40,
        ) {
            let facts = HeadFacts { producer_id, stamped, weighted, counted, run_id: annotated.then_some("night-7") };
            let mut head = RequestHead::new("POST", "/", "h", &headers(), facts);
            let mut out = vec![0xaa; head.bytes() + 3];
            let before = |number: u64| number.wrapping_sub(number % steps);
            let [sequence_before, timestamp_before] = [sequence, timestamp_unix_ns].map(before);
            head.write(&mut out, &HeadStamps {
                sequence: sequence_before,
                timestamp_unix_ns: timestamp_before,
                body_bytes: body_bytes / 2,
                ..HeadStamps::default()
            });
            head.write(&mut out, &HeadStamps { body_bytes, sequence, timestamp_unix_ns, weight, records, crc32c });
            prop_assert_eq!(&out[head.bytes()..], [0xaa; 3]);
            let mut slots = [httparse::EMPTY_HEADER; 16];
            let mut parsed = httparse::Request::new(&mut slots);
            prop_assert_eq!(parsed.parse(&out), Ok(httparse::Status::Complete(head.bytes())));
            let (body, first, at) = (body_bytes.to_string(), sequence.to_string(), timestamp_unix_ns.to_string());
            prop_assert_eq!(value(&parsed, "Content-Length"), Some(body.as_str()));
            prop_assert_eq!(value(&parsed, "X-Sequence"), stamped.then_some(first.as_str()));
            prop_assert_eq!(value(&parsed, "X-Timestamp"), stamped.then_some(at.as_str()));
            let id = producer_id.to_string();
            prop_assert_eq!(value(&parsed, "X-Producer-Id"), stamped.then_some(id.as_str()));
            let (weight, records, crc) = (weight.to_string(), records.to_string(), crc32c.to_string());
            prop_assert_eq!(value(&parsed, "X-Weight"), weighted.then_some(weight.as_str()));
            prop_assert_eq!(value(&parsed, "X-Record-Count"), counted.then_some(records.as_str()));
            prop_assert_eq!(value(&parsed, "X-Crc32c"), annotated.then_some(crc.as_str()));
            prop_assert_eq!(value(&parsed, "X-Run-Id"), annotated.then_some("night-7"));
        }
    }
}
