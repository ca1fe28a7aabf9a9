//! The host in the eyes of a run: what it uses of it, judged before it starts, and told with what was seen of others on
//! its cores.

use super::setup::Ready;
use crate::base::fatal::Fatal;
use crate::host::{self, HostFacts, Sysfs, doctor};
use crate::plan::{KafkaClient, RunPlan, TargetPlan};
use std::collections::BTreeMap;

/// What this run uses of the host, before it makes it busy.
pub fn judged(plan: &RunPlan) -> HostFacts {
    host::facts(&Sysfs::default(), &scope(plan))
}

/// Names of peers are not looked up: that could take long.
fn scope(plan: &RunPlan) -> doctor::Scope {
    let links: Vec<_> = plan.producers.iter().filter_map(|producer| producer.to.link()).collect();
    let host = |to: &TargetPlan| match to {
        TargetPlan::Kafka(kafka) => kafka.bootstrap.iter().map(|(host, _)| host.clone()).collect(),
        other => other.link().map(|link| vec![link.peer.host.clone()]).unwrap_or_default(),
    };
    let hosts: Vec<String> = plan.producers.iter().flat_map(|producer| host(&producer.to)).collect();
    doctor::Scope {
        cores: plan.cores.iter().map(|core| core.cpu).collect(),
        paths: plan.producers.iter().filter_map(|producer| producer.file()).map(|file| file.data.clone()).collect(),
        network: !links.is_empty(),
        peers: doctor::addresses(&hosts),
        rskafka: plan.producers.iter().any(|producer| is_rskafka(&producer.to)),
        ..doctor::Scope::default()
    }
}

fn is_rskafka(to: &TargetPlan) -> bool {
    matches!(to, TargetPlan::Kafka(kafka) if kafka.client == KafkaClient::Rskafka)
}

/// The facts for the report, with what was seen of others; where they hold a core, it is said as well.
pub fn tell(mut host: HostFacts, ready: &[Ready]) -> Result<serde_json::Value, Fatal> {
    let percent: BTreeMap<_, _> =
        ready.iter().filter_map(|ready| Some((ready.cpu, ready.percent_of_others?))).collect();
    // A quota takes time away as well; it is judged by itself.
    if host.cpu_quota.is_none()
        && let Some(finding) = doctor::load_seen(&percent)
    {
        if finding.verdict != doctor::Verdict::Fine {
            let (others, mend) = (&finding.value, finding.fix.first().map_or("", String::as_str));
            tracing::warn!(event = "cpu_load", others, "{others}: the figures tell of them as well; {mend}");
        }
        host.add(finding);
    }
    serde_json::to_value(host).map_err(|error| Fatal::host(format!("host facts: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{kafka_plan, producer_plan, run_plan};
    use crate::plan::{KafkaPlan, ProducerPlan};

    #[test]
    fn which_kafka_client_connects_is_known() {
        for (client, is_rskafka) in [(KafkaClient::Uring, false), (KafkaClient::Rskafka, true)] {
            let to = TargetPlan::Kafka(KafkaPlan { client, ..kafka_plan(9092) });
            let producers = vec![ProducerPlan { to, ..producer_plan(0) }];
            let scope = scope(&RunPlan { producers, ..run_plan() });
            assert_eq!((scope.rskafka, scope.network), (is_rskafka, true), "{client:?}");
        }
    }

    #[test]
    fn what_was_seen_is_in_the_facts() {
        let nowhere = crate::host::Sysfs { root: "/no/such/root".into() };
        let facts = || crate::host::facts(&nowhere, &doctor::Scope::default());
        let ready = |percent_of_others| Ready {
            cpu: 1,
            producer_id: 0,
            percent_of_others,
            period_bytes: 0,
            memory: String::new(),
            registered: None,
            lends: None,
        };
        let said = |percent| tell(facts(), &[ready(percent)]).unwrap();
        let has = |host: &serde_json::Value, key: &str| host[key].to_string().contains("cpu.load");
        let (busy, calm, short) = (said(Some(48)), said(Some(2)), said(None));
        assert!(has(&busy, "findings") && !has(&busy, "findings_fine"), "{busy}");
        assert!(!has(&calm, "findings") && has(&calm, "findings_fine"), "{calm}");
        assert!(!has(&short, "findings") && !has(&short, "findings_fine"), "{short}");
        let quota = HostFacts { cpu_quota: Some(0.5), ..facts() };
        assert!(!has(&tell(quota, &[ready(Some(48))]).unwrap(), "findings"));
    }
}
