//! What was asked of connections, HTTP and Kafka.

use super::Reader;
use crate::config::parse::Value;
use crate::plan::{Compression, HttpMethod, KafkaClient, KeyPlan, RetryPlan, SaslMechanism, TcpFraming};
use std::path::PathBuf;

/// `None`: not said.
#[derive(Clone, Debug)]
pub struct NetworkWanted {
    pub connections: Option<usize>,
    pub retry: Option<RetryPlan>,
    pub request_timeout_ns: Option<u64>,
    pub framing: TcpFraming,
    pub tls_ca: Option<PathBuf>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub method: HttpMethod,
    pub headers: Vec<(String, String)>,
    pub bearer_token: Option<PathBuf>,
    pub records_per_request: u64,
    pub pipeline: usize,
    pub refused_by: Option<String>,
    pub kafka: KafkaWanted,
}

#[derive(Clone, Debug, Default)]
pub struct KafkaWanted {
    pub config: Option<PathBuf>,
    /// `NAME=VALUE`.
    pub properties: Vec<String>,
    pub acks: Option<i16>,
    pub idempotent: Option<bool>,
    pub codec: Option<Compression>,
    pub batch_bytes: Option<u64>,
    pub key: Option<KeyPlan>,
    pub partitions: Option<u32>,
    pub create_topic: Option<bool>,
    pub client: Option<KafkaClient>,
    pub sasl_mechanism: Option<SaslMechanism>,
    /// One was given that is none; the error says so.
    pub sasl_mechanism_refused: bool,
    pub sasl_user: Option<String>,
    pub sasl_password: Option<PathBuf>,
}

impl Reader<'_> {
    pub(super) fn network(&mut self) -> NetworkWanted {
        NetworkWanted {
            connections: self.number("connections").map(|n| n as usize),
            retry: if let Some(Value::Retry(retry)) = self.value("retry") { Some(retry) } else { None },
            request_timeout_ns: self.number("request-timeout"),
            framing: match self.text_or_default("tcp-framing").as_str() {
                "length" => TcpFraming::Length,
                _ => TcpFraming::None,
            },
            tls_ca: self.path("tls-ca"),
            tls_cert: self.path("tls-cert"),
            tls_key: self.path("tls-key"),
            method: match self.text_or_default("http-method").as_str() {
                "PUT" => HttpMethod::Put,
                _ => HttpMethod::Post,
            },
            headers: self.pairs("http-header"),
            bearer_token: self.path("bearer-token-file"),
            records_per_request: self.number_or_default("http-records-per-request"),
            pipeline: self.number_or_default("http-pipeline") as usize,
            refused_by: self.text("http-refused-by"),
            kafka: self.kafka(),
        }
    }

    fn kafka(&mut self) -> KafkaWanted {
        let sasl_mechanism = self.text("sasl-mechanism").and_then(|text| SaslMechanism::named(&text));
        KafkaWanted {
            config: self.path("kafka-config"),
            properties: self
                .pairs("kafka-property")
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            acks: self.text("acks").map(|text| text.parse().unwrap_or(-1)),
            idempotent: self.on_off("idempotent"),
            codec: self.text("compression").and_then(|text| Compression::named(&text)),
            batch_bytes: self.number("batch-size"),
            key: if let Some(Value::RecordKey(key)) = self.value("key") { Some(key) } else { None },
            partitions: self.number("partitions").map(|n| n as u32),
            create_topic: self.on_off("create-topic"),
            client: self.text("kafka-client").map(|text| match text.as_str() {
                "rskafka" => KafkaClient::Rskafka,
                _ => KafkaClient::Uring,
            }),
            sasl_mechanism,
            sasl_mechanism_refused: sasl_mechanism.is_none() && self.settings.is_given("sasl-mechanism"),
            sasl_user: self.text("sasl-user"),
            sasl_password: self.path("sasl-password-file"),
        }
    }

    fn path(&mut self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    fn on_off(&mut self, name: &str) -> Option<bool> {
        self.text(name).map(|text| text == "on")
    }

    fn pairs(&mut self, name: &str) -> Vec<(String, String)> {
        let pair = |value| if let Value::Pair(name, value) = value { Some((name, value)) } else { None };
        self.all(name).into_iter().filter_map(pair).collect()
    }
}
