//! Where producers send, and how their connections behave.

use super::FilePlan;
use crate::base::{bounded, limits};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where one producer sends.
#[derive(Clone, Debug)]
pub enum TargetPlan {
    Null,
    Stdout,
    File(FilePlan),
    Tcp(TcpPlan),
    Http(HttpPlan),
    Kafka(KafkaPlan),
}

impl TargetPlan {
    /// How its connections behave, where it has any.
    pub fn link(&self) -> Option<&LinkPlan> {
        match self {
            TargetPlan::Null | TargetPlan::Stdout | TargetPlan::File(_) => None,
            TargetPlan::Tcp(tcp) => Some(&tcp.link),
            TargetPlan::Http(http) => Some(&http.link),
            TargetPlan::Kafka(kafka) => Some(&kafka.link),
        }
    }

    /// Messages of one connection that the kernel may have taken and still read, those of its blocks aside: over a
    /// network, one is done with when the peer's TCP has acknowledged it.
    pub fn unreleased_max(&self) -> usize {
        match self {
            TargetPlan::Http(http) => http.pipeline,
            TargetPlan::Kafka(kafka) => kafka.in_flight_max,
            TargetPlan::Null | TargetPlan::Stdout | TargetPlan::File(_) | TargetPlan::Tcp(_) => 2,
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPlan {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    pub port: u16,
    pub tls: Option<TlsPlan>,
    /// For one address, the handshake included.
    pub connect_timeout_ns: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPlan {
    /// What the peer's certificate must be made out to.
    pub server_name: String,
    /// PEM file of the authorities to trust; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// PEM files of the client's certificate chain and its key: both or none.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Asks for HTTP/1.1.
    pub alpn_http: bool,
    /// Off: the certificate must come from a trusted authority, whatever name is in it.
    pub verify_host: bool,
}

/// The connections of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPlan {
    pub peer: Arc<PeerPlan>,
    pub connections: usize,
    /// From sending to the answer; what is not answered by then is uncertain.
    pub request_timeout_ns: u64,
    pub retry: RetryPlan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPlan {
    /// Attempts beyond the first; `u32::MAX`: until another limit ends them.
    pub retries_max: u32,
    pub backoff_min_ns: u64,
    pub backoff_max_ns: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpPlan {
    pub link: LinkPlan,
    pub framing: TcpFraming,
    /// `--queue-depth` was given: the connections share it, however many they are.
    pub shares_depth: bool,
}

impl TcpPlan {
    /// Blocks in flight on one connection: one to send while the one before is acknowledged, or more.
    pub fn link_depth(&self, queue_depth: usize) -> usize {
        (queue_depth / self.link.connections.max(1)).max(2)
    }

    /// Of all connections together; the payload keeps no more than `queue_depth` in mind.
    pub fn in_flight_max(&self, queue_depth: usize) -> usize {
        self.link_depth(queue_depth).saturating_mul(self.link.connections).min(queue_depth)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpFraming {
    /// Records one behind the other.
    None,
    /// Each record behind its length: four bytes, big-endian.
    Length,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpMethod {
    Post,
    Put,
}

impl HttpMethod {
    /// As the request line has it.
    pub fn name(self) -> &'static str {
        match self {
            HttpMethod::Post => "POST",
            HttpMethod::Put => "PUT",
        }
    }
}

/// A bearer token that may change while the run lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BearerPlan {
    /// That named the file, without its dashes.
    pub flag: &'static str,
    pub path: PathBuf,
    /// As it was at the start.
    pub token: Secret,
}

impl BearerPlan {
    /// Bytes of the longest token that requests of this run have room for.
    pub fn bytes_max(&self) -> usize {
        self.token.expose().len() + limits::HTTP_TOKEN_GROWTH_BYTES
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct HttpPlan {
    pub link: LinkPlan,
    pub method: HttpMethod,
    /// With the query, as the request line has it.
    pub path: String,
    pub host_header: String,
    /// Beside what the engine says itself; values may be credentials.
    pub headers: Vec<(String, String)>,
    /// `Authorization`, which is not among the headers then.
    pub bearer: Option<BearerPlan>,
    pub records_per_request: u64,
    /// Requests that may be unanswered on one connection.
    pub pipeline: usize,
    /// A 2xx with this text in its body is a refusal.
    pub refused_by: Option<String>,
}

impl HttpPlan {
    /// Of all headers that the user had a say in.
    pub fn header_names(&self) -> Vec<&str> {
        let authorization = self.bearer.as_ref().map(|_| "Authorization");
        self.headers.iter().map(|(name, _)| name.as_str()).chain(authorization).collect()
    }
}

impl fmt::Debug for HttpPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.header_names();
        let mut shown = f.debug_struct("HttpPlan");
        shown.field("link", &self.link).field("method", &self.method).field("host_header", &self.host_header);
        shown.field("headers", &names).field("records_per_request", &self.records_per_request);
        shown.field("pipeline", &self.pipeline).field("refused_by", &self.refused_by);
        shown.finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaPlan {
    /// Any of them tells about all brokers.
    pub bootstrap: Vec<(String, u16)>,
    /// No rate was said: all brokers must be this host, wherever the bootstrap addresses are.
    pub local_only: bool,
    pub topic: String,
    pub sasl: Option<SaslPlan>,
    /// Its peer is the first bootstrap address.
    pub link: LinkPlan,
    /// 0, 1, or -1 for all.
    pub acks: i16,
    pub idempotent: bool,
    pub codec: Compression,
    /// Of one batch on the wire before compression.
    pub batch_bytes: u64,
    /// The least that it could be: the longest record alone, with its frame.
    pub batch_bytes_min: u64,
    pub linger_ns: u64,
    pub key: KeyPlan,
    /// Wanted of the topic; `None`: as many as the fleet has producers for it.
    pub partitions: Option<u32>,
    pub create_topic: bool,
    pub client: KafkaClient,
    pub client_id: String,
    /// Requests that may be unanswered on one connection.
    pub in_flight_max: usize,
    /// From a batch's cut to its last retry.
    pub delivery_timeout_ns: u64,
}

impl KafkaPlan {
    /// `server_name` is the first bootstrap host; each broker is verified against its own.
    pub fn tls(&self) -> Option<&TlsPlan> {
        self.link.peer.tls.as_ref()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// The key of Kafka records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPlan {
    None,
    /// The producer's id.
    Producer,
    /// The sequence modulo this.
    Cycle(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaClient {
    Uring,
    Rskafka,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslPlan {
    pub mechanism: SaslMechanism,
    /// Empty where the mechanism has none.
    pub user: String,
    /// Password or token.
    pub secret: Secret,
    /// Where that was read from.
    pub secret_file: Option<PathBuf>,
    /// What goes to the broker with a token: names and values.
    pub extensions: Vec<(String, String)>,
}

impl SaslPlan {
    /// As its file has it now: tokens expire and are renewed in place. What cannot be read is what it was, and so is
    /// what came through a pipe: to open that again waits for another writer.
    pub fn secret_now(&self) -> Secret {
        let file = self.secret_file.as_deref().filter(|path| path.is_file());
        let again = file.and_then(|path| Secret::read(path).ok());
        again.unwrap_or_else(|| self.secret.clone())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
    OauthBearer,
}

impl SaslMechanism {
    pub const ALL: [Self; 4] = [Self::Plain, Self::ScramSha256, Self::ScramSha512, Self::OauthBearer];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// As the protocol spells it.
    pub fn name(self) -> &'static str {
        match self {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            SaslMechanism::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// Text that no log, plan or report shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text of a file, without the line end that editors put there.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = bounded::read_text(path, limits::SECRET_BYTES_MAX)?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() || text.contains(['\r', '\n', '\0']) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it must hold one line, and not an empty one"));
        }
        Ok(Self::new(text))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    /// As a bearer token, without the blanks around it.
    ///
    /// # Errors
    /// What it would have to be.
    pub fn as_token(&self) -> Result<Self, &'static str> {
        let text = self.0.trim();
        let fits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self::new(text)) } else { Err("a token is printable ASCII without blanks") }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How brokers are reached beside the hot path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaAccess {
    /// `server_name` is replaced by the host of each broker.
    pub tls: Option<TlsPlan>,
    pub sasl: Option<SaslPlan>,
    pub client_id: String,
    /// For connecting, and for each request.
    pub timeout_ns: u64,
    /// What of the settings was not used, in words.
    pub notes: Vec<String>,
}

impl Default for KafkaAccess {
    fn default() -> Self {
        let timeout_ns = limits::REQUEST_TIMEOUT_DEFAULT_NS;
        Self { tls: None, sasl: None, client_id: "engine".to_owned(), timeout_ns, notes: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_again_and_kept_where_it_cannot_be() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "first\n").unwrap();
        let secret = Secret::read(file.path()).unwrap();
        let secret_file = Some(file.path().to_owned());
        let (mechanism, user, extensions) = (SaslMechanism::OauthBearer, String::new(), Vec::new());
        let plan = SaslPlan { mechanism, user, secret, secret_file, extensions };
        std::fs::write(file.path(), "second\n").unwrap();
        assert_eq!(plan.secret_now().expose(), "second");
        drop(file);
        assert_eq!(plan.secret_now().expose(), "first");
    }

    #[test]
    fn a_password_from_a_pipe_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("password");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::write(pipe, "first\n").unwrap()
        });
        let secret = Secret::read(&pipe).unwrap();
        writer.join().unwrap();
        let (mechanism, user, extensions) = (SaslMechanism::Plain, "me".to_owned(), Vec::new());
        let plan = SaslPlan { mechanism, user, secret, secret_file: Some(pipe), extensions };
        let (answer, answered) = std::sync::mpsc::channel();
        // Not joined: if it waits for a writer, it does so without end.
        std::thread::spawn(move || answer.send(plan.secret_now()));
        assert_eq!(answered.recv_timeout(std::time::Duration::from_secs(10)).unwrap().expose(), "first");
    }
}
