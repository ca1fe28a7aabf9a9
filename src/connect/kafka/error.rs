//! What goes wrong between us and a broker, and what a user can do about it.

use crate::base::fatal::{Exit, Fatal};
use crate::wire::kafka::errors::{ErrorKind, broker_error};
use kafka_protocol::ResponseError;
use std::fmt;
use std::io;

/// What asks for other rights than to produce.
pub(super) const LOOKING_UP: &str = "looking up the topic";
pub(super) const CREATING: &str = "creating the topic";

#[derive(Debug)]
pub enum KafkaError {
    /// The connection broke, or nothing came in time.
    Io { doing: &'static str, error: io::Error },
    /// The answer is not what the protocol allows.
    Malformed { doing: &'static str, what: String },
    /// The broker answered with an error code.
    Broker { doing: &'static str, code: i16, said: Option<String> },
    /// The broker cannot do, or not in any version that we speak.
    Unsupported { what: String },
    /// There is no such topic.
    Absent { what: String },
    /// Who we are was not accepted, or the broker could not prove who it is.
    Sasl { what: String },
    /// We would say who we are, and nobody wants to know.
    NoLogin,
}

impl KafkaError {
    pub fn broker(doing: &'static str, code: i16) -> Self {
        Self::Broker { doing, code, said: None }
    }

    /// The broker's error code, where it gave one.
    pub fn code(&self) -> Option<i16> {
        if let Self::Broker { code, .. } = self { Some(*code) } else { None }
    }

    /// This user may not do that.
    pub fn is_denied(&self) -> bool {
        self.code().is_some_and(|code| broker_error(code).kind == ErrorKind::Denied)
    }

    /// The same request may succeed later, perhaps on another connection or broker.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Io { .. } => true,
            Self::Broker { code, .. } => ResponseError::try_from_code(*code).is_some_and(|error| error.is_retriable()),
            _ => false,
        }
    }

    /// Nothing came in time.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::TimedOut)
    }

    /// The connection is of no more use.
    pub fn breaks_connection(&self) -> bool {
        !matches!(self, Self::Broker { .. } | Self::Unsupported { .. } | Self::Absent { .. })
    }

    /// As the reason for not starting: `peer` is whom we talked to.
    pub fn fatal(&self, peer: &str) -> Fatal {
        self.fatal_of(&format!("Kafka broker {peer}"))
    }

    /// The same of something else than a broker.
    pub(super) fn fatal_of(&self, whom: &str) -> Fatal {
        let fatal = Fatal::new(Exit::Unreachable, format!("{whom}: {self}"));
        match self.mend() {
            Some(mend) => fatal.mend(mend),
            None => fatal,
        }
    }

    fn mend(&self) -> Option<&'static str> {
        Some(match self {
            Self::Io { error, .. } if error.kind() == io::ErrorKind::TimedOut => {
                "check that this address is the plain, TLS or SASL listener that the flags say, and --request-timeout"
            }
            // What the TLS layer makes of an alert.
            Self::Io { error, .. } if error.kind() == io::ErrorKind::InvalidData => {
                "the broker may want a certificate of this client, or another one: --tls-cert, --tls-key"
            }
            Self::Io { .. } | Self::Malformed { .. } => {
                "check that this address is the plain, TLS or SASL listener that the flags say"
            }
            Self::Sasl { .. } => "check --sasl-mechanism, --sasl-user and --sasl-password-file",
            Self::NoLogin => {
                "leave out --sasl-mechanism, --sasl-user and --sasl-password-file (sasl.* and security.protocol of \
                 properties), or the port of the SASL listener"
            }
            Self::Absent { .. } => "check the topic's name; a run makes it with --create-topic on",
            Self::Unsupported { .. } => "use Apache Kafka 1.0 or newer, or what is compatible with it",
            Self::Broker { doing: CREATING, .. } if self.is_denied() => {
                "make the topic first, or allow it: kafka-acls.sh --add --allow-principal User:NAME --operation Create \
                 --topic TOPIC"
            }
            Self::Broker { doing: LOOKING_UP, .. } if self.is_denied() => {
                "allow it: kafka-acls.sh --add --allow-principal User:NAME --operation Describe --topic TOPIC"
            }
            Self::Broker { code, .. } => broker_error(*code).remedy()?,
        })
    }
}

impl fmt::Display for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, error } if error.kind() == io::ErrorKind::UnexpectedEof => {
                write!(f, "{doing}: the broker closed the connection")
            }
            Self::Io { doing, error } if error.kind() == io::ErrorKind::TimedOut => {
                write!(f, "{doing}: no answer in time")
            }
            Self::Io { doing, error } => write!(f, "{doing}: {error}"),
            Self::Malformed { doing, what } => write!(f, "{doing}: the answer makes no sense: {what}"),
            Self::Broker { doing, code, said } => {
                write!(f, "{doing}: {}", broker_error(*code))?;
                said.as_ref().map_or(Ok(()), |said| write!(f, ": {said}"))
            }
            Self::Unsupported { what } | Self::Absent { what } => f.write_str(what),
            Self::Sasl { what } => write!(f, "authentication: {what}"),
            Self::NoLogin => f.write_str("authentication: this listener wants no login"),
        }
    }
}

impl std::error::Error for KafkaError {}
