//! What network targets of every kind are made with.

use crate::base::fatal::Fatal;
use crate::base::limits;
use crate::config::credentials::read_secret;
use crate::config::kafka_properties::KafkaProperties;
use crate::config::url::{Scheme, Url};
use crate::config::values::Wanted;
use crate::plan::{KafkaAccess, LinkPlan, PeerPlan, RetryPlan, Secret, TlsPlan};
use std::path::Path;
use std::sync::Arc;

/// What is the same for all targets, and what was read from files for them.
#[derive(Default)]
pub struct Shared {
    pub secrets: Vec<(String, Option<Secret>)>,
    pub kafka: Option<(KafkaProperties, KafkaAccess)>,
    /// `--queue-depth` was said for this run, and not in a variable or a file.
    pub depth_is_flag: bool,
    pub rate_is_said: bool,
}

impl Shared {
    /// The text of a file with a password or token, without the line end that editors put there.
    pub fn secret(&mut self, flag: &str, path: &Path, errors: &mut Vec<Fatal>) -> Option<Secret> {
        if let Some((_, known)) = self.secrets.iter().find(|(name, _)| name == flag) {
            return known.clone();
        }
        let read = read_secret(flag, path).map_err(|fatal| errors.push(fatal)).ok();
        self.secrets.push((flag.to_owned(), read.clone()));
        read
    }
}

/// TLS towards the first host of `url`, as the flags have it.
pub fn tls(wanted: &Wanted, url: &Url) -> TlsPlan {
    let network = &wanted.network;
    TlsPlan {
        server_name: url.hosts[0].0.clone(),
        ca: network.tls_ca.clone(),
        cert: network.tls_cert.clone(),
        key: network.tls_key.clone(),
        alpn_http: url.scheme == Scheme::Https,
        verify_host: true,
    }
}

pub fn link(wanted: &Wanted, url: &Url, tls: Option<TlsPlan>, retry: RetryPlan) -> LinkPlan {
    let (host, port) = url.hosts[0].clone();
    let network = &wanted.network;
    LinkPlan {
        peer: Arc::new(PeerPlan { host, port, tls, connect_timeout_ns: limits::CONNECT_TIMEOUT_NS }),
        connections: network.connections.unwrap_or(1),
        request_timeout_ns: network.request_timeout_ns.unwrap_or(limits::REQUEST_TIMEOUT_DEFAULT_NS),
        retry: network.retry.unwrap_or(retry),
    }
}

/// `retries_max` with the usual pauses.
pub fn retries(retries_max: u32) -> RetryPlan {
    RetryPlan { retries_max, backoff_min_ns: limits::BACKOFF_MIN_NS, backoff_max_ns: limits::BACKOFF_MAX_NS }
}
