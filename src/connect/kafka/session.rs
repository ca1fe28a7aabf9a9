//! One connection to one broker: requests out, answers in, one at a time, each with a time limit.

use super::answers::{self, Versions};
use super::awaited::Awaited;
use super::error::KafkaError;
use crate::base::limits;
use crate::wire::kafka::errors::UNSUPPORTED_VERSION;
use crate::wire::kafka::fields::Fields;
use crate::wire::kafka::{PRODUCE_API_KEY, PRODUCE_VERSION_MAX, PRODUCE_VERSION_MIN};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader};
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Room is made for so much of an answer before its bytes are there.
const BELIEVED_BYTES: usize = 1 << 20;
/// Room that stays for the next answer: that of a fetch as it was asked for.
const ANSWER_KEPT_BYTES: usize = 2 * limits::KAFKA_FETCH_BYTES as usize;

/// The byte stream of a connection: TCP, or TLS over it.
pub trait Stream: Read + Write + Send {
    /// The longest that one read or write waits from now on.
    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))?;
        self.set_write_timeout(Some(timeout))
    }
}

impl<S: Stream + ?Sized> Stream for Box<S> {
    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        (**self).set_timeout(timeout)
    }
}

/// A connection whose versions are negotiated; of one that [`super::Client::open`] made, the user is authenticated.
pub struct Session<S> {
    stream: S,
    client_id: StrBytes,
    timeout: Duration,
    /// No answer is waited for longer than that, whatever the time limits of requests are.
    patience: Duration,
    versions: Versions,
    correlation: i32,
    request: Vec<u8>,
    answer: Vec<u8>,
    pub(super) lifetime: Option<Duration>,
    /// Who hears what is asked for, and the name by which it knows this broker.
    pub(super) heard_by: Option<(Awaited, String)>,
}

impl<S: Stream> Session<S> {
    /// Negotiates versions. `timeout` is for each request.
    pub(super) fn open(stream: S, client_id: &str, timeout: Duration) -> Result<Self, KafkaError> {
        let mut session = Self {
            stream,
            client_id: StrBytes::from_string(client_id.to_owned()),
            timeout,
            patience: Duration::MAX,
            versions: Versions::default(),
            correlation: 0,
            request: Vec::new(),
            answer: Vec::new(),
            lifetime: None,
            heard_by: None,
        };
        session.negotiate()?;
        Ok(session)
    }

    fn negotiate(&mut self) -> Result<(), KafkaError> {
        let doing = "asking for its versions";
        let named = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("engine"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let answer = |(error, versions)| match error {
            0 => Ok(Some(versions)),
            UNSUPPORTED_VERSION => Ok(None),
            code => Err(KafkaError::broker(doing, code)),
        };
        let first = self.call(doing, 3, &named, |fields| answers::api_versions(fields, 3))?;
        let versions = match answer(first)? {
            Some(versions) => Some(versions),
            None => {
                let plain = ApiVersionsRequest::default();
                answer(self.call(doing, 0, &plain, |fields| answers::api_versions(fields, 0))?)?
            }
        };
        self.versions = versions.ok_or_else(|| KafkaError::broker(doing, UNSUPPORTED_VERSION))?;
        Ok(())
    }

    /// What the broker speaks.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// The Produce version to use: of ours, whose records come last, the newest that the broker speaks.
    pub fn produce_version(&self) -> Option<i16> {
        self.versions.pick(PRODUCE_API_KEY, (PRODUCE_VERSION_MIN, PRODUCE_VERSION_MAX))
    }

    /// After this time from its start, an authenticated session is closed by the broker.
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// The connection, with nothing of ours unread or unsent in it.
    pub fn into_stream(self) -> S {
        self.stream
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Gives back the memory of an answer that was longer than what was asked for.
    pub fn give_back(&mut self) {
        self.answer.clear();
        self.answer.shrink_to(ANSWER_KEPT_BYTES);
    }

    /// For each request from now on.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// A request whose answers are waited for no longer than that.
    pub(super) fn within<T>(&mut self, patience: Duration, mut request: impl FnMut(&mut Self) -> T) -> T {
        self.patience = patience;
        let answer = request(self);
        self.patience = Duration::MAX;
        answer
    }

    pub(super) fn pick<R: Request>(&self, doing: &'static str, ours: (i16, i16)) -> Result<i16, KafkaError> {
        self.versions.pick(R::KEY, ours).ok_or_else(|| {
            let theirs = match self.versions.range(R::KEY) {
                Some((least, most)) => format!("speaks versions {least} to {most}"),
                None => "does not know the request".to_owned(),
            };
            let what = format!("{doing}: the broker {theirs}, and the engine versions {} to {}", ours.0, ours.1);
            KafkaError::Unsupported { what }
        })
    }

    pub(super) fn call<R: Request, T>(
        &mut self,
        doing: &'static str,
        version: i16,
        request: &R,
        parse: impl FnOnce(Fields<'_>) -> Result<T, String>,
    ) -> Result<T, KafkaError> {
        let body = self.exchange(doing, version, request, self.timeout, limits::KAFKA_ANSWER_BYTES_MAX)?;
        parse(body).map_err(|what| KafkaError::Malformed { doing, what })
    }

    /// Sends a request and reads its answer, whose body is returned.
    pub(super) fn exchange<R: Request>(
        &mut self,
        doing: &'static str,
        version: i16,
        request: &R,
        timeout: Duration,
        answer_bytes_max: usize,
    ) -> Result<Fields<'_>, KafkaError> {
        if let Some((waits, name)) = &self.heard_by {
            waits.note(name, doing);
        }
        self.correlation = self.correlation.wrapping_add(1);
        self.encode(version, request).map_err(|what| KafkaError::Unsupported { what: format!("{doing}: {what}") })?;
        let deadline = Instant::now() + timeout.min(self.patience);
        let io = |error| KafkaError::Io { doing, error };
        write_until(&mut self.stream, &self.request, deadline).map_err(io)?;
        let mut size = [0; 4];
        read_until(&mut self.stream, &mut size, deadline).map_err(io)?;
        let size = answer_size(size, answer_bytes_max).map_err(|what| KafkaError::Malformed { doing, what })?;
        self.answer.clear();
        while self.answer.len() < size {
            let from = self.answer.len();
            self.answer.resize(size.min(from + BELIEVED_BYTES), 0);
            read_until(&mut self.stream, &mut self.answer[from..], deadline).map_err(io)?;
        }
        if let Some((waits, _)) = &self.heard_by {
            waits.answered();
        }
        let mut fields = Fields::new(&self.answer);
        let correlation = fields.i32("correlation id");
        let correlation = correlation.map_err(|why| KafkaError::Malformed { doing, what: why.to_string() })?;
        if correlation != self.correlation {
            let what = format!("it answers request {correlation}, not {}", self.correlation);
            return Err(KafkaError::Malformed { doing, what });
        }
        Ok(fields)
    }

    fn encode<R: Request>(&mut self, version: i16, request: &R) -> Result<(), String> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(self.client_id.clone()));
        let out = &mut self.request;
        out.clear();
        out.extend_from_slice(&[0; 4]);
        header.encode(out, R::header_version(version)).map_err(|error| error.to_string())?;
        request.encode(out, version).map_err(|error| error.to_string())?;
        let size = i32::try_from(out.len() - 4).map_err(|_| "the request is too long".to_owned())?;
        out[..4].copy_from_slice(&size.to_be_bytes());
        Ok(())
    }
}

fn answer_size(bytes: [u8; 4], most: usize) -> Result<usize, String> {
    if bytes[..2] == [0x15, 3] {
        return Err("it is a TLS record; the listener wants TLS (--tls-ca FILE, or security.protocol)".to_owned());
    }
    if &bytes == b"HTTP" {
        return Err("it is HTTP; this is no Kafka broker".to_owned());
    }
    let size = i32::from_be_bytes(bytes);
    let fits = usize::try_from(size).ok().filter(|size| (4..=most).contains(size));
    fits.ok_or_else(|| format!("it claims {size} bytes, of at most {most}"))
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn read_until(stream: &mut impl Stream, mut out: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !out.is_empty() {
        stream.set_timeout(left(deadline)?)?;
        match stream.read(out) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => out = &mut out[got..],
            Err(error) => again(error)?,
        }
    }
    Ok(())
}

fn write_until(stream: &mut impl Stream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_timeout(left(deadline)?)?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) => again(error)?,
        }
    }
    stream.flush()
}

/// Sockets say that their time limit is over in two ways; the deadline decides.
fn again(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests;
