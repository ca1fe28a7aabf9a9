//! Responses as they arrive, piece by piece, from a buffer that the caller owns. Nothing is allocated and bodies are
//! skipped, but for a text that those of 2xx may be searched for; what belongs to the next response stays untouched.

mod head;
mod seeker;

use crate::base::limits;
use crate::base::words::Words;
use head::{Head, Known, end_of_head};
use seeker::Seeker;
pub use seeker::Sought;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// How each begins.
pub const RESPONSE_START: &[u8] = b"HTTP/1.";

/// What a server said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// From `Retry-After`, at most an hour. A date counts from the server's own `Date`, and as 0 where there is none.
    pub retry_after_seconds: Option<u64>,
    /// No further response comes over this connection.
    pub close: bool,
    /// The server said so: it does not heed what was sent behind the request (RFC 9112, section 9.6).
    pub says_close: bool,
    pub body_bytes: u64,
    /// It is a 2xx, and the text that was sought is in its body.
    pub has_text: bool,
}

/// How far [`ResponseParser::parse`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes at the front that are dealt with; the others must be there again at the next call.
    pub consumed: usize,
    /// The response that ends where the consumed bytes end.
    pub response: Option<Response>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// Not the head of an HTTP/1 response.
    BadHead,
    HeadTooLarge,
    BadContentLength,
    BadChunk,
    /// More 1xx responses than anyone means.
    TooManyInterim,
    /// 101, which nobody asked for.
    Switched,
    /// The connection closed in the middle of a response.
    Truncated,
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HttpError::BadHead => "what came back is no HTTP/1 response",
            HttpError::HeadTooLarge => "the head of the response is too large",
            HttpError::BadContentLength => "the response has a Content-Length that cannot be",
            HttpError::BadChunk => "the response has a malformed chunk",
            HttpError::TooManyInterim => "too many interim (1xx) responses",
            HttpError::Switched => "the server switched protocols unasked",
            HttpError::Truncated => "the connection closed in the middle of a response",
        })
    }
}

impl std::error::Error for HttpError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of a head were searched for its end.
    Head {
        searched: usize,
    },
    /// So many bytes of the body are to come.
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    /// So many bytes of trailer lines have passed.
    Trailers(usize),
    UntilClose,
}

/// One step through what is there.
enum Step {
    /// So many bytes are done, and the response goes on.
    On(usize),
    /// So many bytes are done; more must arrive.
    Wait(usize),
    /// So many bytes are done, and so is the response.
    End(usize),
}

/// For one connection.
#[derive(Clone, Debug)]
pub struct ResponseParser {
    state: State,
    response: Response,
    interim: u32,
    known: Box<Known>,
    /// Boxed: few are wanted.
    seeker: Option<Box<Seeker>>,
}

impl Default for ResponseParser {
    fn default() -> Self {
        Self::new()
    }
}

impl ResponseParser {
    pub fn new() -> Self {
        Self {
            state: State::Head { searched: 0 },
            response: Response::default(),
            interim: 0,
            known: Box::new(Known::nothing()),
            seeker: None,
        }
    }

    /// One that looks for a text in the bodies of 2xx.
    pub fn seeking(sought: Option<&Arc<Sought>>) -> Self {
        Self { seeker: sought.map(|sought| Box::new(Seeker::new(sought.clone()))), ..Self::new() }
    }

    /// Back to the start of a connection; it looks for the same.
    pub fn restart(&mut self) {
        (self.state, self.response, self.interim) = (State::Head { searched: 0 }, Response::default(), 0);
    }

    /// What was sought and what is behind it, of the last response that has it, until another one begins.
    pub fn excerpt(&self) -> Words {
        self.seeker.as_ref().map(|seeker| *seeker.excerpt()).unwrap_or_default()
    }

    /// Reads on in `bytes`, which start where the last call's consumed bytes ended. After an error the connection is
    /// of no more use.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<Progress, HttpError> {
        let mut consumed = 0;
        loop {
            match self.step(&bytes[consumed..])? {
                Step::On(count) => consumed += count,
                Step::Wait(count) => return Ok(Progress { consumed: consumed + count, response: None }),
                Step::End(count) => {
                    let response = Some(self.response);
                    self.restart();
                    return Ok(Progress { consumed: consumed + count, response });
                }
            }
        }
    }

    /// The peer closed and all it sent was parsed: `None` between two responses, the response where the end of the
    /// connection is its own.
    pub fn end(&mut self) -> Result<Option<Response>, HttpError> {
        match self.state {
            State::UntilClose => {
                let response = self.response;
                self.restart();
                Ok(Some(response))
            }
            State::Head { searched: 0 } if self.interim == 0 => Ok(None),
            _ => Err(HttpError::Truncated),
        }
    }

    /// The response that broke off, if what came of its body has the text that was sought.
    pub fn refused(&self) -> Option<Response> {
        self.response.has_text.then_some(self.response)
    }

    fn step(&mut self, bytes: &[u8]) -> Result<Step, HttpError> {
        match self.state {
            State::Head { searched } => self.head(bytes, searched),
            State::Length(left) => Ok(self.skip(bytes, left, State::Length, None)),
            State::ChunkData(left) => Ok(self.skip(bytes, left, State::ChunkData, Some(State::ChunkEnd))),
            State::ChunkSize => self.chunk_size(bytes),
            State::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.state = State::ChunkSize;
                    Ok(Step::On(2))
                }
                [] | [b'\r'] => Ok(Step::Wait(0)),
                _ => Err(HttpError::BadChunk),
            },
            State::Trailers(passed) => self.trailers(bytes, passed),
            State::UntilClose => {
                self.pass(bytes);
                Ok(Step::Wait(bytes.len()))
            }
        }
    }

    /// Skips what is there of `left` bytes; behind them comes `next`, or the end.
    fn skip(&mut self, bytes: &[u8], left: u64, stay: fn(u64) -> State, next: Option<State>) -> Step {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        self.pass(&bytes[..count]);
        let left = left - count as u64;
        match next {
            _ if left > 0 => {
                self.state = stay(left);
                Step::Wait(count)
            }
            Some(next) => {
                self.state = next;
                Step::On(count)
            }
            None => Step::End(count),
        }
    }

    /// Bytes of the body go by.
    fn pass(&mut self, bytes: &[u8]) {
        self.response.body_bytes = self.response.body_bytes.saturating_add(bytes.len() as u64);
        if let Some(seeker) = &mut self.seeker {
            self.response.has_text = seeker.read(bytes);
        }
    }

    /// A head is parsed once, when it is all there; garbage is told earlier by how it starts.
    fn head(&mut self, bytes: &[u8], searched: usize) -> Result<Step, HttpError> {
        if let Some((head, length)) = self.known.begins(bytes) {
            return Ok(self.begin_body(head, length));
        }
        let stray = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if stray > 0 {
            return Ok(Step::On(stray));
        }
        let start = bytes.len().min(RESPONSE_START.len());
        if bytes[..start] != RESPONSE_START[..start] {
            return Err(HttpError::BadHead);
        }
        let Some(length) = end_of_head(bytes, searched.saturating_sub(3)) else { return self.wait_for_head(bytes) };
        if length > limits::HTTP_RESPONSE_HEAD_BYTES_MAX {
            return Err(HttpError::HeadTooLarge);
        }
        let mut slots = [const { MaybeUninit::uninit() }; limits::HTTP_RESPONSE_HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let mut config = httparse::ParserConfig::default();
        // Who asks has to take folded lines (RFC 9112, section 5.2).
        config.allow_obsolete_multiline_headers_in_responses(true);
        match config.parse_response_with_uninit_headers(&mut parsed, &bytes[..length], &mut slots) {
            Ok(httparse::Status::Complete(all)) if all == length => {}
            Err(httparse::Error::TooManyHeaders) => return Err(HttpError::HeadTooLarge),
            _ => return Err(HttpError::BadHead),
        }
        let head = Head::read(&parsed)?;
        match head.status {
            101 => return Err(HttpError::Switched),
            100..200 => {
                self.interim += 1;
                self.state = State::Head { searched: 0 };
                let fits = self.interim <= limits::HTTP_INTERIM_MAX;
                return if fits { Ok(Step::On(length)) } else { Err(HttpError::TooManyInterim) };
            }
            0..100 | 600.. => return Err(HttpError::BadHead),
            _ => {}
        }
        self.known.note(&bytes[..length], head);
        Ok(self.begin_body(head, length))
    }

    fn begin_body(&mut self, head: Head, length: usize) -> Step {
        let Head { status, retry_after_seconds, .. } = head;
        let without_end = !head.is_bodiless() && head.ends_with_connection();
        // Both at once may be two ideas of where the response ends: nothing after it can be trusted.
        let close = head.close || without_end || (head.has_encoding && head.content_length.is_some());
        self.response = Response { status, retry_after_seconds, close, says_close: head.close, ..Response::default() };
        if let Some(seeker) = &mut self.seeker {
            seeker.begin(matches!(status, 200..=299));
        }
        if head.is_bodiless() {
            return Step::End(length);
        }
        self.state = match (head.chunked, head.content_length) {
            (true, _) => State::ChunkSize,
            _ if without_end => State::UntilClose,
            (_, Some(0)) => return Step::End(length),
            (_, left) => State::Length(left.unwrap_or(0)),
        };
        Step::On(length)
    }

    fn wait_for_head(&mut self, bytes: &[u8]) -> Result<Step, HttpError> {
        if bytes.len() >= limits::HTTP_RESPONSE_HEAD_BYTES_MAX {
            return Err(HttpError::HeadTooLarge);
        }
        self.state = State::Head { searched: bytes.len() };
        Ok(Step::Wait(0))
    }

    fn chunk_size(&mut self, bytes: &[u8]) -> Result<Step, HttpError> {
        if bytes.first().is_some_and(|first| !first.is_ascii_hexdigit()) {
            return Err(HttpError::BadChunk);
        }
        match httparse::parse_chunk_size(bytes).map_err(|_| HttpError::BadChunk)? {
            httparse::Status::Partial if bytes.len() >= limits::HTTP_CHUNK_LINE_BYTES_MAX => Err(HttpError::BadChunk),
            httparse::Status::Partial => Ok(Step::Wait(0)),
            httparse::Status::Complete((length, _)) if length > limits::HTTP_CHUNK_LINE_BYTES_MAX => {
                Err(HttpError::BadChunk)
            }
            httparse::Status::Complete((length, size)) => {
                self.state = if size == 0 { State::Trailers(0) } else { State::ChunkData(size) };
                Ok(Step::On(length))
            }
        }
    }

    fn trailers(&mut self, bytes: &[u8], passed: usize) -> Result<Step, HttpError> {
        let line = bytes.iter().position(|byte| *byte == b'\n');
        let length = line.map_or(bytes.len(), |at| at + 1);
        if passed + length > limits::HTTP_RESPONSE_HEAD_BYTES_MAX {
            return Err(HttpError::HeadTooLarge);
        }
        match (line, &bytes[..length]) {
            (None, _) => Ok(Step::Wait(0)),
            (_, b"\n" | b"\r\n") => Ok(Step::End(length)),
            _ => {
                self.state = State::Trailers(passed + length);
                Ok(Step::On(length))
            }
        }
    }
}

#[cfg(test)]
mod tests;
