//! HTTP: one small blocking client, one request at a time.

use crate::base::fatal::Fatal;
use crate::base::limits;
use crate::connect::token::{RENEWAL_NS, Watch};
use crate::plan::{GovernancePlan, Secret};
use std::time::Duration;
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Taken,
    /// The same request again would be refused again.
    Refused(String),
    /// Later it may go better.
    Later {
        why: String,
        after: Duration,
    },
    /// Nobody answered.
    Unreachable(String),
}

pub struct Client {
    agent: Agent,
    base: String,
    authorization: Option<String>,
    /// The token's file, if there may be another one in it.
    renewals: Option<Watch>,
    /// The token was refused before, and the time that its renewal may take was given to it.
    awaited: bool,
}

impl Client {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// Exit 3: the address is `https` and this host has no root certificates.
    pub fn new(plan: &GovernancePlan) -> Result<Self, Fatal> {
        // Straight to the server, as the records go straight to their target: no proxy.
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("engine/", env!("CARGO_PKG_VERSION")));
        if plan.url.starts_with("https:") {
            config = config.tls_config(TlsConfig::builder().root_certs(system_roots()?).build());
        }
        let authorization = plan.bearer.as_ref().map(|bearer| authorization(&bearer.token));
        // Any token has room here.
        let renewals = plan.bearer.as_ref().and_then(|bearer| Watch::of(bearer, usize::MAX));
        Ok(Self { agent: config.build().into(), base: plan.url.clone(), authorization, renewals, awaited: false })
    }

    /// Looks for another token, if it is time to.
    pub fn renew(&mut self) {
        if let Some(token) = self.renewals.as_mut().and_then(Watch::look) {
            (self.authorization, self.awaited) = (Some(authorization(&token)), false);
        }
    }

    /// Posts JSON and waits for the whole answer, at most so long.
    pub fn post(&mut self, path: &str, body: &[u8], timeout: Duration) -> Answer {
        self.renew();
        let url = format!("{}{path}", self.base);
        let mut request = self.agent.post(&url).content_type("application/json").header("Accept", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        match request.config().timeout_global(Some(timeout)).build().send(body) {
            Ok(response) => {
                let renews = self.renewals.is_some() && !self.awaited;
                self.awaited |= response.status() == StatusCode::UNAUTHORIZED;
                judge(path, response, renews)
            }
            Err(why) => Answer::Unreachable(super::shortened(&format!("POST {url}: {why}"))),
        }
    }
}

fn authorization(token: &Secret) -> String {
    format!("Bearer {}", token.expose())
}

/// `renews`: a token that has expired may have a next one, which is waited for. That is done once for each token: what
/// is refused for another reason must not hold up the rest.
fn judge(path: &str, mut response: Response<Body>, renews: bool) -> Answer {
    let status = response.status();
    let after = response.headers().get("Retry-After").and_then(|text| text.to_str().ok()?.trim().parse().ok());
    // Read to its end, so that the connection can be used again.
    let text = response.body_mut().with_config().limit(limits::GOVERNANCE_ANSWER_BYTES_MAX).read_to_string();
    if status.is_success() {
        return Answer::Taken;
    }
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => " (--governance-token-file)",
        _ => "",
    };
    let text = text.unwrap_or_default();
    let why = super::shortened(&format!("POST {path}: {status}{hint} {}", text.trim()));
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Answer::Later { why, after: pause(after) },
        StatusCode::UNAUTHORIZED if renews => Answer::Later { why, after: Duration::from_nanos(RENEWAL_NS) },
        _ if status.is_server_error() => Answer::Later { why, after: pause(after) },
        _ => Answer::Refused(why),
    }
}

/// Seconds as `Retry-After` has them; a date there is not looked at.
fn pause(seconds: Option<u64>) -> Duration {
    Duration::from_secs(seconds.unwrap_or(0)).min(Duration::from_nanos(limits::GOVERNANCE_RETRY_AFTER_NS_MAX))
}

fn system_roots() -> Result<RootCerts, Fatal> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map(|why| format!(": {why}")).unwrap_or_default();
        let what = format!("--governance-url: this host has no root certificates{why}");
        return Err(Fatal::host(what).mend("apt-get install ca-certificates, or SSL_CERT_FILE=ca.pem"));
    }
    Ok(found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).into())
}
