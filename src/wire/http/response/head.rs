//! The head of a response: where it ends, what its lines come to, and the last one, since the next is mostly the same.

use super::HttpError;
use crate::base::limits;

/// Behind the first line with nothing in it.
pub fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at).find_map(|at| match bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// What the lines of a head come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head {
    pub status: u16,
    pub content_length: Option<u64>,
    pub has_encoding: bool,
    /// The last transfer coding is `chunked`.
    pub chunked: bool,
    pub close: bool,
    pub retry_after_seconds: Option<u64>,
}

impl Head {
    pub fn read(parsed: &httparse::Response<'_, '_>) -> Result<Self, HttpError> {
        let mut head = Self { status: parsed.code.unwrap_or(0), ..Self::default() };
        let (mut says_close, mut says_keep) = (false, false);
        let (mut retry, mut date) = (None, None);
        for header in parsed.headers.iter() {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                for part in header.value.split(|byte| *byte == b',') {
                    let length = whole_number(part.trim_ascii()).ok_or(HttpError::BadContentLength)?;
                    if head.content_length.is_some_and(|other| other != length) {
                        return Err(HttpError::BadContentLength);
                    }
                    head.content_length = Some(length);
                }
            } else if is("transfer-encoding") {
                head.has_encoding = true;
                let last = header.value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
                head.chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
            } else if is("connection") {
                for token in header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    says_close |= token.eq_ignore_ascii_case(b"close");
                    says_keep |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if is("retry-after") {
                retry = Some(header.value.trim_ascii());
            } else if is("date") {
                date = Some(header.value.trim_ascii());
            }
        }
        let old = parsed.version == Some(0);
        head.close = says_close || (old && !says_keep);
        head.retry_after_seconds = retry.and_then(|retry| retry_after(retry, date));
        Ok(head)
    }

    pub fn is_bodiless(&self) -> bool {
        matches!(self.status, 204 | 304)
    }

    pub fn ends_with_connection(&self) -> bool {
        if self.has_encoding { !self.chunked } else { self.content_length.is_none() }
    }
}

/// The longest head that is known again.
const KNOWN_BYTES_MAX: usize = 512;

/// The last final head, byte for byte, and what it came to: for a second at a time most servers answer with the same.
#[derive(Clone, Debug)]
pub struct Known {
    bytes: [u8; KNOWN_BYTES_MAX],
    length: usize,
    head: Head,
}

impl Known {
    pub fn nothing() -> Self {
        Self { bytes: [0; KNOWN_BYTES_MAX], length: 0, head: Head::default() }
    }

    pub fn note(&mut self, bytes: &[u8], head: Head) {
        let Some(place) = self.bytes.get_mut(..bytes.len()) else { return };
        place.copy_from_slice(bytes);
        (self.length, self.head) = (bytes.len(), head);
    }

    /// If `bytes` begin with it: what it came to, and its length.
    pub fn begins(&self, bytes: &[u8]) -> Option<(Head, usize)> {
        (self.length > 0 && bytes.starts_with(&self.bytes[..self.length])).then_some((self.head, self.length))
    }
}

/// Digits and nothing else.
fn whole_number(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| plain)?;
    text.parse().ok()
}

fn retry_after(value: &[u8], date: Option<&[u8]>) -> Option<u64> {
    let all_digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let seconds = if all_digits {
        whole_number(value).unwrap_or(u64::MAX)
    } else {
        let until = http_date(value)?;
        let now = date.and_then(http_date).unwrap_or(until);
        u64::try_from(until.duration_since(now).as_secs()).unwrap_or(0)
    };
    Some(seconds.min(limits::RETRY_AFTER_SECONDS_MAX))
}

/// `Wed, 21 Oct 2015 07:28:00 GMT`, as servers write it. Its two older spellings are not read.
fn http_date(text: &[u8]) -> Option<jiff::Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix(" GMT")?;
    let time = jiff::civil::DateTime::strptime("%a, %d %b %Y %H:%M:%S", text).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}
