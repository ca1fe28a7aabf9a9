//! `client.properties`, as Kafka's own tools take it with `--command-config`: what of it the engine can do, with the
//! same meaning; anything else is an error with its line, never silently left out.

mod mends;
mod syntax;

#[cfg(test)]
mod tests;

use crate::base::fatal::Fatal;
use crate::base::{limits, units};
use crate::config::url;
use crate::plan::{Compression, SaslMechanism, Secret};
pub use mends::foreign_mechanism;
use mends::{IAM, Wrong};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use syntax::Property;
pub use syntax::{is_one_line, natural_lines};

/// `security.protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl Protocol {
    pub fn has_tls(self) -> bool {
        matches!(self, Protocol::Ssl | Protocol::SaslSsl)
    }

    pub fn has_sasl(self) -> bool {
        matches!(self, Protocol::SaslPlaintext | Protocol::SaslSsl)
    }
}

/// What a file says; `None`: nothing about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaProperties {
    pub bootstrap: Option<Vec<(String, u16)>>,
    pub protocol: Option<Protocol>,
    pub sasl_mechanism: Option<SaslMechanism>,
    /// The login module of `sasl.jaas.config`.
    pub login: Option<Login>,
    /// `sasl.oauthbearer.token.endpoint.url` with a `file:` URL.
    pub token_file: Option<PathBuf>,
    /// PEM files: the authorities, and the client's certificate chain with its key.
    pub truststore: Option<PathBuf>,
    pub keystore: Option<PathBuf>,
    pub verify_host: Option<bool>,
    /// 0, 1, or -1 for all.
    pub acks: Option<i16>,
    pub idempotent: Option<bool>,
    pub linger_ns: Option<u64>,
    pub batch_bytes: Option<u64>,
    pub compression: Option<Compression>,
    pub in_flight_max: Option<usize>,
    pub delivery_timeout_ns: Option<u64>,
    pub request_timeout_ns: Option<u64>,
    pub client_id: Option<String>,
    pub request_bytes_max: Option<u64>,
    pub retries: Option<u32>,
    /// What is fine to leave out, in words.
    pub notes: Vec<String>,
}

/// A login module and its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    Plain {
        user: String,
        password: Secret,
    },
    Scram {
        user: String,
        password: Secret,
    },
    /// The token comes from elsewhere.
    OauthBearer {
        /// Names and values that go to the broker with it.
        extensions: Vec<(String, String)>,
    },
}

/// The property with user and password.
const JAAS: &str = "sasl.jaas.config";
/// Before the names of what goes to the broker with a token.
const EXTENSION: &str = "extension_";

/// What has a meaning for members of a consumer group alone: in files for several programs it is beside the rest.
const OF_GROUPS: &[&str] = &[
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "enable.auto.commit",
    "group.id",
    "group.instance.id",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "max.poll.records",
    "partition.assignment.strategy",
    "session.timeout.ms",
];

/// What the engine takes that can be no credential. Reports show the values of these alone.
const SHOWN: &[&str] = &[
    "acks",
    "batch.size",
    "bootstrap.servers",
    "client.dns.lookup",
    "client.id",
    "compression.type",
    "delivery.timeout.ms",
    "enable.idempotence",
    "key.deserializer",
    "key.serializer",
    "linger.ms",
    "max.in.flight.requests.per.connection",
    "max.request.size",
    "request.timeout.ms",
    "retries",
    "sasl.mechanism",
    "security.protocol",
    "ssl.endpoint.identification.algorithm",
    "ssl.keystore.location",
    "ssl.keystore.type",
    "ssl.truststore.location",
    "ssl.truststore.type",
    "value.deserializer",
    "value.serializer",
];

/// The text of a file. As Java reads it, each byte is a character of ISO-8859-1, and what that lacks is an escape.
pub fn decode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Reads lines; `origin` names where one comes from.
///
/// # Errors
/// Everything that is wrong, each with its origin.
pub fn parse_lines(text: &str, origin: impl Fn(usize) -> String) -> Result<KafkaProperties, Vec<Fatal>> {
    let entries = syntax::properties(text).map_err(|(line, why)| {
        vec![Fatal::usage(format!("{}: {why}", origin(line))).mend("see java.util.Properties for the syntax")]
    })?;
    let mut errors = Vec::new();
    let mut fail = |line: usize, (what, mend): Wrong| {
        errors.push(Fatal::usage(format!("{}: {what}", origin(line))).mend(mend));
    };
    // As in Java, the last one of a name holds.
    let newest: HashMap<&str, usize> = entries.iter().map(|entry| (entry.key.as_str(), entry.line)).collect();
    let holds: Vec<&Property> = entries.iter().filter(|entry| newest[entry.key.as_str()] == entry.line).collect();
    let mut found = KafkaProperties::default();
    for entry in &holds {
        let (key, value) = (entry.key.as_str(), entry.value.trim());
        let outcome = match found.connection(key, value) {
            Ok(false) => found.producer(key, value),
            other => other,
        };
        match outcome {
            Ok(true) => {}
            Ok(false) => fail(entry.line, mends::unsupported(key, value)),
            Err(wrong) => fail(entry.line, wrong),
        }
    }
    let value_of = |key: &str| holds.iter().find(|entry| entry.key == key).map(|entry| (entry.line, &entry.value));
    for store in ["ssl.truststore", "ssl.keystore"] {
        let Some((line, path)) = value_of(&format!("{store}.location")) else { continue };
        let kind = value_of(&format!("{store}.type")).map_or("JKS", |(_, kind)| kind.trim());
        if !kind.eq_ignore_ascii_case("PEM") {
            fail(line, mends::no_pem(store, path, kind));
        }
    }
    if let Some(wrong) = found.disagreement() {
        fail(value_of("sasl.mechanism").or(value_of("security.protocol")).map_or(1, |(line, _)| line), wrong);
    }
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

/// Whether a line has a credential, however Java's escapes write its name.
pub fn has_credential(line: &str) -> bool {
    let secret = |key: &str| key == JAAS || key.contains("password") || key.contains("secret") || key.ends_with(".key");
    syntax::properties(line).is_ok_and(|entries| entries.iter().any(|entry| secret(&entry.key)))
}

/// The name that a line begins with, as it is written.
pub fn name(line: &str) -> &str {
    line.trim_start().split(|c: char| matches!(c, '=' | ':') || c.is_whitespace()).next().unwrap_or_default()
}

/// A line as reports may show it.
pub fn shown(line: &str) -> String {
    let entries = syntax::properties(line).unwrap_or_default();
    let is_shown = |key: &str| SHOWN.contains(&key) || OF_GROUPS.contains(&key);
    let harmless = matches!(entries.as_slice(), [only] if is_shown(&only.key));
    if harmless { line.to_owned() } else { format!("{}=***", name(line)) }
}

fn wrong<T>(key: &str, value: &str, wants: &str, example: &str) -> Result<T, Wrong> {
    Err((format!("{key} '{value}' is not {wants}"), format!("{key}={example}")))
}

fn number(key: &str, value: &str, least: u64, most: u64) -> Result<u64, Wrong> {
    let number = value.parse::<u64>().ok().filter(|number| (least..=most).contains(number));
    number.map_or_else(|| wrong(key, value, &format!("a number from {least} to {most}"), &least.to_string()), Ok)
}

fn milliseconds(key: &str, value: &str, least: u64) -> Result<u64, Wrong> {
    number(key, value, least, i32::MAX as u64).map(|ms| ms * 1_000_000)
}

fn boolean(key: &str, value: &str) -> Result<bool, Wrong> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => wrong(key, value, "true or false", "true"),
    }
}

impl KafkaProperties {
    /// How brokers are reached; false: the key is none of these.
    fn connection(&mut self, key: &str, value: &str) -> Result<bool, Wrong> {
        match key {
            "bootstrap.servers" => match bootstrap(value) {
                Ok(hosts) => self.bootstrap = Some(hosts),
                Err(why) => return Err((format!("{key} '{value}': {why}"), format!("{key}=localhost:9092"))),
            },
            "security.protocol" => {
                self.protocol = Some(match value.to_ascii_uppercase().as_str() {
                    "PLAINTEXT" => Protocol::Plaintext,
                    "SSL" => Protocol::Ssl,
                    "SASL_PLAINTEXT" => Protocol::SaslPlaintext,
                    "SASL_SSL" => Protocol::SaslSsl,
                    _ => return wrong(key, value, "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL", "SASL_SSL"),
                });
            }
            // That is what connecting does.
            "client.dns.lookup" if value == "use_all_dns_ips" => {}
            "client.dns.lookup" => return wrong(key, value, "use_all_dns_ips", "use_all_dns_ips"),
            "sasl.mechanism" => match SaslMechanism::named(value) {
                None if value == "AWS_MSK_IAM" => {
                    return Err((format!("{key} '{value}': {}", IAM.0), IAM.1.to_owned()));
                }
                None => {
                    if let Some((what, mend)) = foreign_mechanism(value, "sasl.mechanism=") {
                        return Err((format!("{key} '{value}': {what}"), mend));
                    }
                    let wants = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER";
                    return wrong(key, value, wants, "SCRAM-SHA-512");
                }
                known => self.sasl_mechanism = known,
            },
            JAAS => self.login = Some(login(value)?),
            "sasl.oauthbearer.token.endpoint.url" => self.token_file = Some(token_file(key, value)?),
            // With a file as its end point, this is what reads the token.
            "sasl.login.callback.handler.class" if value.ends_with(".OAuthBearerLoginCallbackHandler") => {}
            "sasl.oauthbearer.jwt.retriever.class" if value.ends_with(".FileJwtRetriever") => {}
            "ssl.truststore.type" | "ssl.keystore.type" => match value.to_ascii_uppercase().as_str() {
                "PEM" | "JKS" | "PKCS12" => {}
                _ => return wrong(key, value, "PEM", "PEM"),
            },
            "ssl.truststore.location" => self.truststore = Some(PathBuf::from(value)),
            "ssl.keystore.location" => self.keystore = Some(PathBuf::from(value)),
            "ssl.endpoint.identification.algorithm" => {
                self.verify_host = Some(match value.to_ascii_lowercase().as_str() {
                    "https" => true,
                    "" => false,
                    _ => return wrong(key, value, "https or empty", "https"),
                });
            }
            "client.id" => match value.len() {
                0..=limits::KAFKA_CLIENT_ID_BYTES_MAX => self.client_id = Some(value.to_owned()),
                _ => return wrong(key, "…", &format!("at most {} long", limits::KAFKA_CLIENT_ID_BYTES_MAX), "engine"),
            },
            // Kafka takes 0, and then no answer is ever in time.
            "request.timeout.ms" => self.request_timeout_ns = Some(milliseconds(key, value, 1)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// How records are produced; false: the key is none of these.
    fn producer(&mut self, key: &str, value: &str) -> Result<bool, Wrong> {
        match key {
            "acks" => {
                self.acks = Some(match value {
                    "0" => 0,
                    "1" => 1,
                    "all" | "-1" => -1,
                    _ => return wrong(key, value, "0, 1 or all", "all"),
                });
            }
            "enable.idempotence" => self.idempotent = Some(boolean(key, value)?),
            "linger.ms" => self.linger_ns = Some(milliseconds(key, value, 0)?),
            "batch.size" => self.batch_bytes = Some(number(key, value, 0, limits::KAFKA_BATCH_BYTES_MAX)?),
            "compression.type" => match Compression::named(&value.to_ascii_lowercase()) {
                None => return wrong(key, value, "none, gzip, snappy, lz4 or zstd", "lz4"),
                known => self.compression = known,
            },
            "max.in.flight.requests.per.connection" => {
                let most = limits::KAFKA_IN_FLIGHT_MAX as u64;
                self.in_flight_max = usize::try_from(number(key, value, 1, most)?).ok();
            }
            "delivery.timeout.ms" => self.delivery_timeout_ns = Some(milliseconds(key, value, 1)?),
            "max.request.size" => self.request_bytes_max = Some(number(key, value, 1, i32::MAX as u64)?),
            "retries" => self.retries = u32::try_from(number(key, value, 0, i32::MAX as u64)?).ok(),
            "key.serializer" | "value.serializer" => {
                self.notes.push(format!("{key} is not used: the engine writes its records as bytes"));
            }
            "key.deserializer" | "value.deserializer" => {
                self.notes.push(format!("{key} is not used: the engine reads records as bytes"));
            }
            key if OF_GROUPS.contains(&key) => {
                self.notes.push(format!("{key} is not used: it is for consumer groups, and the engine is in none"));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Settings that cannot be meant together.
    fn disagreement(&self) -> Option<Wrong> {
        let sasl = self.protocol.is_some_and(Protocol::has_sasl);
        if self.protocol.is_some() && !sasl && (self.sasl_mechanism.is_some() || self.login.is_some()) {
            let what = "sasl.* has no effect with this security.protocol";
            return Some((what.to_owned(), "security.protocol=SASL_SSL".to_owned()));
        }
        let fits = match (&self.login, self.sasl_mechanism) {
            (Some(Login::Plain { .. }), Some(mechanism)) => mechanism == SaslMechanism::Plain,
            (Some(Login::Scram { .. }), Some(mechanism)) => {
                matches!(mechanism, SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512)
            }
            (Some(Login::OauthBearer { .. }), Some(mechanism)) => mechanism == SaslMechanism::OauthBearer,
            _ => true,
        };
        if !fits {
            let name = self.sasl_mechanism.map_or("", SaslMechanism::name);
            let what = format!("sasl.jaas.config has the login module of another mechanism than {name}");
            return Some((what, "PlainLoginModule, ScramLoginModule or OAuthBearerLoginModule, as it fits".to_owned()));
        }
        if let (Some(delivery), Some(request)) = (self.delivery_timeout_ns, self.request_timeout_ns) {
            let least = request.saturating_add(self.linger_ns.unwrap_or(0));
            if delivery < least {
                let (delivery, least) = (units::format_duration(delivery), units::format_duration(least));
                let what =
                    format!("delivery.timeout.ms ({delivery}) is less than linger.ms + request.timeout.ms ({least})");
                return Some((what, "delivery.timeout.ms=120000".to_owned()));
            }
        }
        None
    }
}

/// As Kafka reads it: the protocol before a host says nothing, nor does an empty part.
fn bootstrap(value: &str) -> Result<Vec<(String, u16)>, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.%-".contains(&byte);
    let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
    let hosts = parts.map(|part| match part.split_once("://") {
        Some((protocol, host)) if protocol.bytes().all(is_plain) => host,
        _ => part,
    });
    url::hosts(&hosts.collect::<Vec<_>>().join(","))
}

fn login(value: &str) -> Result<Login, Wrong> {
    let example = "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
                   username=\"NAME\" password=\"PASSWORD\";";
    // Never the value itself: it has the password.
    let fail = |why: String| (format!("sasl.jaas.config: {why}"), example.to_owned());
    let mut jaas = syntax::jaas(value).map_err(fail)?;
    let mut take = |name: &str| jaas.options.remove(name).ok_or_else(|| fail(format!("{} has no {name}", jaas.module)));
    let login = match jaas.module.as_str() {
        "PlainLoginModule" => Login::Plain { user: take("username")?, password: Secret::new(take("password")?) },
        "ScramLoginModule" => Login::Scram { user: take("username")?, password: Secret::new(take("password")?) },
        "OAuthBearerLoginModule" => Login::OauthBearer { extensions: extensions(&mut jaas.options)? },
        "IAMLoginModule" => return Err((format!("{JAAS}: {}", IAM.0), IAM.1.to_owned())),
        other => return Err(fail(format!("the engine has no login module '{other}'"))),
    };
    match jaas.options.keys().next() {
        None => Ok(login),
        Some(option) if matches!(login, Login::OauthBearer { .. }) => {
            let what = format!("sasl.jaas.config: the engine does not make tokens ('{option}')");
            Err((what, "sasl.oauthbearer.token.endpoint.url=file:///PATH, or --sasl-password-file".to_owned()))
        }
        Some(option) => Err(fail(format!("the engine does not know the option '{option}'"))),
    }
}

/// `extension_NAME=VALUE`, taken out of `options`: what the broker is told beside the token (KIP-342).
fn extensions(options: &mut BTreeMap<String, String>) -> Result<Vec<(String, String)>, Wrong> {
    let mut found = Vec::new();
    options.retain(|option, value| match option.strip_prefix(EXTENSION) {
        Some(name) => {
            found.push((name.to_owned(), std::mem::take(value)));
            false
        }
        None => true,
    });
    // As Kafka has it. The token is `auth`, and a control character would end the value.
    let is_name = |name: &str| name != "auth" && !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic());
    let is_text = |byte: u8| matches!(byte, b'\t' | b'\r' | b'\n' | b' '..=b'~');
    match found.iter().find(|(name, value)| !is_name(name) || value.is_empty() || !value.bytes().all(is_text)) {
        None => Ok(found),
        Some((name, _)) => {
            let what = format!("{JAAS}: '{EXTENSION}{name}' needs a name of letters, not auth, and a text of ASCII");
            Err((what, format!("{EXTENSION}logicalCluster='lkc-1'")))
        }
    }
}

fn token_file(key: &str, value: &str) -> Result<PathBuf, Wrong> {
    match url::path_of_file(value).filter(|path| path.starts_with('/')) {
        Some(path) => Ok(PathBuf::from(path)),
        None => {
            let shown = url::shown_address(value);
            let what = format!("{key} '{shown}' is no file; the engine fetches no tokens");
            Err((what, format!("{key}=file:///PATH of the token")))
        }
    }
}
