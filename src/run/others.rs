//! The host in the eyes of a run: what it uses of it, judged before it starts, and how much of their processors others
//! take, seen while the cores get ready.

use super::setup::Ready;
use crate::base::fatal::Fatal;
use crate::host::{self, HostFacts, Sysfs, doctor};
use crate::plan::{RunPlan, TargetPlan};
use crate::sys::process::thread_cpu_ns;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Some turns of the scheduler: whoever shares a processor has had his by then.
const WATCHED_MIN: Duration = Duration::from_millis(20);

/// From a core's pinning until its payload is made: in that time it waits for nothing but its processor.
pub struct OthersWatch {
    since: Instant,
    cpu_ns: u64,
}

impl OthersWatch {
    pub fn start() -> Self {
        Self { since: Instant::now(), cpu_ns: thread_cpu_ns() }
    }

    /// How much of that time, in percent, the thread did not get. Where it was too little to tell, the thread spins
    /// until it is enough; that of a core that `sleeps` when it has nothing to do does not: `None`.
    pub fn percent(&self, sleeps: bool) -> Option<u64> {
        while !sleeps && self.since.elapsed() < WATCHED_MIN {
            std::hint::spin_loop();
        }
        let had_ns = thread_cpu_ns().saturating_sub(self.cpu_ns);
        let passed = self.since.elapsed();
        (passed >= WATCHED_MIN).then(|| percent_missing(had_ns, passed.as_nanos() as u64))
    }
}

fn percent_missing(had_ns: u64, passed_ns: u64) -> u64 {
    passed_ns.saturating_sub(had_ns) * 100 / passed_ns
}

/// What this run uses of the host, before it makes it busy.
pub fn host_facts(plan: &RunPlan) -> HostFacts {
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
        ..doctor::Scope::default()
    }
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

    #[test]
    fn what_a_thread_did_not_get_is_of_others() {
        for (had_ns, passed_ns, percent) in [(100, 100, 0), (52, 100, 48), (0, 100, 100), (101, 100, 0)] {
            assert_eq!(percent_missing(had_ns, passed_ns), percent, "{had_ns} of {passed_ns}");
        }
    }

    #[test]
    fn a_thread_that_was_away_says_so() {
        let watch = OthersWatch::start();
        // Away, as if others held its processor.
        let (_nobody, news) = std::sync::mpsc::channel::<()>();
        let _never = news.recv_timeout(5 * WATCHED_MIN);
        assert!(watch.percent(true).is_some_and(|percent| percent >= 90));
        let watch = OthersWatch::start();
        assert!(watch.percent(false).is_some() && watch.since.elapsed() >= WATCHED_MIN);
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
