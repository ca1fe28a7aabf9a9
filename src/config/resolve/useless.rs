//! Settings that would change nothing are a misunderstanding, and are refused. What each needs stands in its row of the
//! table of keys.

use crate::base::fatal::Fatal;
use crate::config::keys::{self, KEYS, Key, Needs};
use crate::config::load::Settings;
use crate::config::resolve::target::{Place, Targets};
use crate::config::url::Scheme;
use crate::config::values::Wanted;
use crate::plan::{Io, SinkKind};

const TCP: &str = "--target=tcp://HOST:PORT";
const HTTP: &str = "--target=http://HOST:PORT/PATH";
const HTTPS: &str = "--target=https://HOST/PATH";
const KAFKA: &str = "--target=kafka://HOST:PORT/TOPIC";
/// Over HTTP, in place of `--compression`.
const COMPRESSED_BODIES: &str = "leave it out, or send bodies that are compressed already: \
     --payload-template=FILE.gz --annotate=off --http-header=Content-Encoding:gzip";

pub fn reject(settings: &Settings, wanted: &Wanted, targets: &Targets, errors: &mut Vec<Fatal>) {
    for key in KEYS.iter().filter(|key| settings.is_given(key.name) && is_asked_for(key, wanted)) {
        if let Some((needs, mend)) = key.needs.and_then(|needs| lack(key, needs, wanted, targets)) {
            errors.push(Fatal::usage(format!("--{} has no effect without {needs}", key.name)).mend(mend));
        }
    }
    reject_in_stages(settings, wanted, errors);
}

/// Some values ask for nothing that is not there anyway.
fn is_asked_for(key: &Key, wanted: &Wanted) -> bool {
    match key.name {
        "audit-every" => wanted.audit_every > 0,
        "io" => wanted.io == Some(Io::Uring),
        _ => true,
    }
}

/// What of its needs this run has not, and how it is had.
fn lack(key: &Key, needs: Needs, wanted: &Wanted, targets: &Targets) -> Option<(&'static str, &'static str)> {
    let is_device = || !targets.places.is_empty() && targets.places.iter().all(Place::is_device);
    let is_https = || targets.remotes.iter().any(|url| url.scheme == Scheme::Https);
    Some(match (needs, targets.kind) {
        (Needs::FileTarget | Needs::Files, kind) if kind != SinkKind::File => ("a file target", "--target=file:PATH"),
        (Needs::Files, _) if is_device() => (
            "files: a device is written from its start to its end, and round again",
            "leave it out, or --target=file:PATH of a file",
        ),
        (Needs::NetworkTarget | Needs::Tcp | Needs::Answers | Needs::Tls, kind) if !kind.is_network() => {
            ("a network target", TCP)
        }
        (Needs::Tcp, kind) if kind != SinkKind::Tcp => ("a TCP target", TCP),
        (Needs::Answers, SinkKind::Tcp) => {
            ("an HTTP or Kafka target: what of a byte stream arrived is not known", HTTP)
        }
        (Needs::Tls, kind) if kind != SinkKind::Kafka && !is_https() => ("https or Kafka", HTTPS),
        (Needs::Http, kind) if kind != SinkKind::Http => ("an HTTP target", HTTP),
        (Needs::Kafka, SinkKind::Http) if key.name == "compression" => ("a Kafka target", COMPRESSED_BODIES),
        (Needs::Kafka, kind) if kind != SinkKind::Kafka => ("a Kafka target", KAFKA),
        (Needs::Blocks, SinkKind::Http) => ("a file or TCP target", "--http-records-per-request=N"),
        (Needs::Blocks, SinkKind::Kafka) => ("a file or TCP target", "--batch-size=S"),
        (Needs::Ring, SinkKind::Null | SinkKind::Stdout) => {
            ("files or sockets: neither null nor stdout uses io_uring", "--io=auto")
        }
        (Needs::Stage(needs), _) if !wanted.stages.iter().any(|stage| stage.meets(needs)) => needs.as_flag(),
        (Needs::Template, _) if wanted.template.is_none() => ("--payload-template", "--payload-template=events.ndjson"),
        (Needs::MetricsAddr, _) if wanted.metrics_addr.is_none() => ("--metrics-addr", "--metrics-addr=:9090"),
        (Needs::GovernanceUrl, _) if wanted.governance_url.is_none() => {
            ("--governance-url", "--governance-url=http://HOST:PORT")
        }
        _ => return None,
    })
}

/// The same for the stages of a file.
fn reject_in_stages(settings: &Settings, wanted: &Wanted, errors: &mut Vec<Fatal>) {
    for (texts, stage) in settings.phases.iter().zip(&wanted.stages) {
        for (name, given) in texts {
            let key = keys::find(name).expect("a key of the table");
            let Some(Needs::Stage(needs)) = key.needs else { continue };
            if stage.meets(needs) {
                continue;
            }
            let (needs, mend) = needs.in_phases();
            let what = format!("{} has no effect in a stage without {needs}", given.origin(key));
            errors.push(Fatal::usage(what).mend(mend));
        }
    }
}
