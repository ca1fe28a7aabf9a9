//! From what was asked of Kafka to rskafka's clients, one for each partition.

use super::LaneSetup;
use crate::base::fatal::{Exit, Fatal};
use crate::base::limits;
use crate::connect::peer::address;
use crate::connect::tls;
use crate::plan::{KafkaPlan, SaslMechanism, SaslPlan};
use rskafka::BackoffConfig;
use rskafka::client::error::Error;
use rskafka::client::partition::{PartitionClient, UnknownTopicHandling};
use rskafka::client::{ClientBuilder, Credentials, OauthBearerCredentials, OauthCallback, SaslConfig};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// How much faster than before rskafka may back off: it draws from the least to this many times the last pause.
const BACKOFF_BASE: f64 = 3.0;
/// rskafka draws from an empty range, and panics, where the least pause is nothing.
const BACKOFF_MIN_NS: u64 = 1_000_000;

/// A client for each of the lane's partitions, connected to its leader.
pub async fn partitions(
    setup: &LaneSetup,
    may_start: &dyn Fn() -> Result<(), Fatal>,
) -> Result<Vec<Arc<PartitionClient>>, Fatal> {
    let plan = &setup.plan;
    let patience = Duration::from_nanos(plan.link.request_timeout_ns);
    let brokers: Vec<String> = plan.bootstrap.iter().map(|(host, port)| address(host, *port)).collect();
    let unreachable = |why: String| {
        let what = format!("rskafka and Kafka at {}: {why}", brokers.join(","));
        Fatal::new(Exit::Unreachable, what).mend("--kafka-client=uring, or a longer --request-timeout")
    };
    let builder = builder(plan, brokers.clone())?;
    let connected = async {
        let client = builder.build().await?;
        let mut clients = Vec::new();
        for id in &setup.partitions {
            // A topic that is only just there is not known everywhere; each call's time limit ends the patience.
            let handling = UnknownTopicHandling::Retry;
            clients.push(Arc::new(client.partition_client(plan.topic.as_str(), *id, handling).await?));
        }
        Ok::<_, Error>(clients)
    };
    match while_wanted(tokio::time::timeout(patience, connected), may_start).await? {
        Ok(connected) => connected.map_err(|error| unreachable(error.to_string())),
        Err(_) => Err(unreachable(format!("not connected within {} s", patience.as_secs_f64()))),
    }
}

/// What `work` comes to, unless `may_start` says first why nobody needs it any more.
async fn while_wanted<T>(work: impl Future<Output = T>, may_start: &dyn Fn() -> Result<(), Fatal>) -> Result<T, Fatal> {
    let mut work = pin!(work);
    loop {
        match tokio::time::timeout(Duration::from_nanos(limits::WAIT_NS_MAX), work.as_mut()).await {
            Ok(done) => return Ok(done),
            Err(_) => may_start()?,
        }
    }
}

fn builder(plan: &KafkaPlan, brokers: Vec<String>) -> Result<ClientBuilder, Fatal> {
    let retry = &plan.link.retry;
    let least_ns = retry.backoff_min_ns.max(BACKOFF_MIN_NS);
    let deadline_ns = if retry.retries_max == 0 { 0 } else { plan.link.request_timeout_ns };
    let mut builder = ClientBuilder::new(brokers).client_id(plan.client_id.as_str()).backoff_config(BackoffConfig {
        init_backoff: Duration::from_nanos(least_ns),
        max_backoff: Duration::from_nanos(retry.backoff_max_ns.max(least_ns)),
        base: BACKOFF_BASE,
        deadline: Some(Duration::from_nanos(deadline_ns)),
    });
    if let Some(plan) = plan.tls() {
        builder = builder.tls_config(tls::client_config(plan)?);
    }
    if let Some(plan) = &plan.sasl {
        builder = builder.sasl_config(sasl(plan));
    }
    Ok(builder)
}

fn sasl(plan: &SaslPlan) -> SaslConfig {
    let credentials = || Credentials::new(plan.user.clone(), plan.secret.expose().to_owned());
    match plan.mechanism {
        SaslMechanism::Plain => SaslConfig::Plain(credentials()),
        SaslMechanism::ScramSha256 => SaslConfig::ScramSha256(credentials()),
        SaslMechanism::ScramSha512 => SaslConfig::ScramSha512(credentials()),
        SaslMechanism::OauthBearer => {
            let (plan, bearer_kvs) = (plan.clone(), plan.extensions.clone());
            let callback: OauthCallback = Arc::new(move || {
                let token = plan.secret_now().expose().to_owned();
                Box::pin(async move { Ok(token) })
            });
            SaslConfig::Oauthbearer(OauthBearerCredentials { callback, authz_id: None, bearer_kvs })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Secret;

    #[test]
    fn extensions_go_to_the_broker_with_the_token() {
        let (mechanism, user, secret) = (SaslMechanism::OauthBearer, String::new(), Secret::new("token"));
        let extensions = vec![("logicalCluster".to_owned(), "lkc-1".to_owned())];
        let plan = SaslPlan { mechanism, user, secret, secret_file: None, extensions };
        let SaslConfig::Oauthbearer(made) = sasl(&plan) else { panic!("a token is OAUTHBEARER's") };
        assert_eq!(made.bearer_kvs, plan.extensions);
    }
}
