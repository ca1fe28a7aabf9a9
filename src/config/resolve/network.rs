//! Network targets: what each URL and the flags around it come to.

pub mod http;
pub mod kafka;
pub mod links;
mod shared;

use crate::base::fatal::Fatal;
use crate::base::{limits, paths};
use crate::config::credentials::check_pair;
use crate::config::kafka_access;
use crate::config::load::{Settings, Source};
use crate::config::resolve::payload::Sizes;
use crate::config::url::{self, Scheme, Url};
use crate::config::values::Wanted;
use crate::plan::{Annotate, PayloadPlan, RetryPlan, SinkKind, TargetPlan, TcpFraming, TcpPlan};
use shared::{Shared, link, retries};

const TCP_BLOCK_BYTES: u64 = 1 << 20;
/// How names in a query end that may stand for a credential.
const QUERY_CREDENTIAL_ENDINGS: [&str; 6] = ["token", "key", "secret", "password", "signature", "sig"];
/// What is copied is copied soonest from a cache: two such blocks fit into it.
const TCP_COPIED_BLOCK_BYTES: u64 = 512 << 10;
const TCP_DEPTH: usize = 4;
/// What is copied is needed until it is copied; beside a connection whose turn it is, one may be out of room.
const COPIED_HELD: usize = 2;

/// What the flags ask of blocks: bytes at the most, how many in flight, and of how many the bytes are needed meanwhile
/// (`None`: of all).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub block_bytes: u64,
    pub depth: usize,
    pub held: Option<usize>,
    /// Each has a block of its own to carry.
    pub connections: usize,
}

/// One plan for each URL; producers are dealt to them.
pub fn plans(
    settings: &Settings,
    wanted: &Wanted,
    urls: &[Url],
    (payload, sizes): (&PayloadPlan, &Sizes),
    notes: &mut Vec<String>,
    errors: &mut Vec<Fatal>,
) -> Vec<TargetPlan> {
    if urls.is_empty() {
        return Vec::new();
    }
    reject_credentials_in_flags(settings, errors);
    note_credentials_in_queries(settings, notes);
    note_other_flags(wanted, urls[0].scheme, notes);
    let rate_is_said = is_rate_said(settings, wanted);
    if !rate_is_said {
        check_local(urls, errors);
    }
    check_tls_files(wanted, urls, errors);
    if wanted.network.request_timeout_ns == Some(0) {
        errors.push(Fatal::usage("--request-timeout 0s leaves no time for an answer").mend("--request-timeout=30s"));
    }
    // What comes from files is read once, whatever the number of targets.
    let depth_is_flag = settings.one("queue-depth").is_some_and(|given| given.source == Source::Flag);
    let mut shared = Shared { depth_is_flag, rate_is_said, ..Shared::default() };
    let mut plan = |url: &Url| match url.scheme {
        Scheme::Tcp => {
            let link = link(wanted, url, None, no_retry());
            let (framing, shares_depth) = (wanted.network.framing, wanted.queue_depth.is_some());
            TargetPlan::Tcp(TcpPlan { link, framing, shares_depth })
        }
        Scheme::Http | Scheme::Https => {
            TargetPlan::Http(http::plan(wanted, url, payload, &mut shared, (&mut *notes, &mut *errors)))
        }
        Scheme::Kafka => {
            TargetPlan::Kafka(kafka::plan(wanted, url, (payload, sizes), &mut shared, (&mut *notes, &mut *errors)))
        }
    };
    urls.iter().map(&mut plan).collect()
}

/// What was said in flags, which the process list shows to others.
fn of_flags<'a>(settings: &'a Settings, name: &str) -> impl Iterator<Item = &'a str> {
    settings.all(name).iter().filter(|given| given.source == Source::Flag).map(|given| given.text.as_str())
}

fn reject_credentials_in_flags(settings: &Settings, errors: &mut Vec<Fatal>) {
    for given in of_flags(settings, "target") {
        if url::without_user_info(given) != given {
            let shown = url::for_errors(given);
            let what = format!("--target '{shown}': a password in a flag is seen by everyone on this host");
            errors.push(Fatal::usage(what).mend("ENGINE_TARGET, target: in --config, or --bearer-token-file"));
        }
    }
    for given in of_flags(settings, "http-header") {
        let name = given.split(':').next().unwrap_or_default().trim();
        if http::is_credential(name) {
            let what = format!("--http-header {name}: a credential in a flag is seen by everyone on this host");
            let mend = "--bearer-token-file=FILE, ENGINE_HTTP_HEADER, or http_header: in --config";
            errors.push(Fatal::usage(what).mend(mend));
        }
    }
    kafka_access::reject_credentials(of_flags(settings, "kafka-property"), errors);
}

/// A query may mean anything, so that this is no mistake.
fn note_credentials_in_queries(settings: &Settings, notes: &mut Vec<String>) {
    let is_credential = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default().to_ascii_lowercase();
        QUERY_CREDENTIAL_ENDINGS.iter().any(|ending| name.ends_with(ending))
    };
    for given in of_flags(settings, "target") {
        let query = given.split_once('?').map_or("", |(_, query)| query);
        if Scheme::of(given).is_some() && query.split('&').any(is_credential) {
            let shown = url::shown(given);
            notes.push(format!(
                "--target '{shown}': what looks like a credential in its query is seen by everyone on this host; \
                 ENGINE_TARGET or target: in --config hides it"
            ));
        }
    }
}

/// Scripts for other targets may say what has another name here: it is no mistake, but changes nothing.
fn note_other_flags(wanted: &Wanted, scheme: Scheme, notes: &mut Vec<String>) {
    match (scheme, wanted.queue_depth, wanted.network.connections) {
        (Scheme::Http | Scheme::Https, Some(depth), _) => notes.push(format!(
            "--queue-depth {depth} changes nothing over HTTP: --http-pipeline says how many requests may be unanswered \
             on a connection"
        )),
        (Scheme::Tcp, Some(depth), Some(count)) if depth < count => notes.push(format!(
            "--queue-depth {depth} lets no more than {depth} of the {count} connections of each producer carry \
             anything; --queue-depth={count} would use them all"
        )),
        (Scheme::Kafka, _, Some(count @ 2..)) => notes.push(format!(
            "--connections {count} changes nothing for Kafka: each partition has one; more --partitions make more"
        )),
        _ => {}
    }
}

fn is_rate_said(settings: &Settings, wanted: &Wanted) -> bool {
    let staged = !settings.phases.is_empty() && settings.phases.iter().all(|phase| phase.contains_key("rate"));
    settings.is_given("rate") || wanted.producer_rate.is_some() || staged
}

/// Nobody floods another host by leaving out a flag.
fn check_local(urls: &[Url], errors: &mut Vec<Fatal>) {
    if let Some(other) = urls.iter().find(|url| !url.is_local()) {
        let what = format!("--target '{}' is not this host: it needs --rate", other.label());
        errors.push(Fatal::usage(what).mend("--rate=100MB/s, say, or --rate=unlimited to mean it"));
    }
}

fn check_tls_files(wanted: &Wanted, urls: &[Url], errors: &mut Vec<Fatal>) {
    let network = &wanted.network;
    // Of Kafka, `kafka_access` does it.
    if urls.iter().all(|url| url.scheme != Scheme::Kafka) {
        check_pair(network.tls_cert.as_deref(), network.tls_key.as_deref(), errors);
    }
    for (flag, path) in [("tls-ca", &network.tls_ca), ("tls-cert", &network.tls_cert), ("tls-key", &network.tls_key)] {
        let Some(path) = path else { continue };
        // Opening a pipe would wait for its writer, and take what it says.
        let facts = std::fs::metadata(path);
        let opened = facts.and_then(|facts| if facts.is_file() { std::fs::File::open(path).map(drop) } else { Ok(()) });
        if let Err(why) = opened {
            let shown = path.display();
            errors.push(Fatal::usage(format!("--{flag} '{shown}': {why}")).mend(paths::mend_reading(flag, path, &why)));
        }
    }
}

/// A byte stream is never sent again: nobody knows what of it arrived. Its pauses are those of reconnecting.
fn no_retry() -> RetryPlan {
    retries(0)
}

pub fn linger_ns(wanted: &Wanted, plans: &[TargetPlan]) -> u64 {
    match plans.first() {
        Some(TargetPlan::Kafka(kafka)) => kafka.linger_ns,
        _ => wanted.linger_ns.unwrap_or(limits::LINGER_DEFAULT_NS),
    }
}

/// `None` for targets without connections.
pub fn shape(
    (urls, plans): (&[Url], &[TargetPlan]),
    sizes: &Sizes,
    payload: &PayloadPlan,
    wanted: &Wanted,
) -> Option<Shape> {
    let plan = plans.first()?;
    let link = plan.link()?;
    // The kernel copies for a receiver on this host, whatever is asked of it, and sealing copies too.
    let copied = !wanted.zero_copy || link.peer.tls.is_some() || urls.iter().all(Url::is_local);
    let connections = link.connections;
    let held = copied.then_some(connections.min(COPIED_HELD));
    Some(match plan {
        TargetPlan::Http(http) => {
            let block_bytes = http.records_per_request.saturating_mul(sizes.max_bytes).min(limits::BLOCK_BYTES_MAX);
            Shape { block_bytes, depth: connections * http.pipeline, held, connections }
        }
        TargetPlan::Kafka(kafka) => Shape {
            block_bytes: kafka::block_bytes(kafka, sizes, payload, wanted),
            depth: kafka.in_flight_max,
            held: None,
            connections,
        },
        _ => {
            let block_bytes = if copied { TCP_COPIED_BLOCK_BYTES } else { TCP_BLOCK_BYTES };
            Shape { block_bytes, depth: connections * TCP_DEPTH, held, connections }
        }
    })
}

/// Only some protocols have headers for the facts beside a record.
pub fn check_annotate(annotate: Annotate, kind: SinkKind, errors: &mut Vec<Fatal>) {
    if annotate == Annotate::Headers && !matches!(kind, SinkKind::Http | SinkKind::Kafka) {
        let what = "--annotate headers needs an HTTP or Kafka target: nothing else has headers";
        errors.push(Fatal::usage(what).mend("--annotate=payload"));
    }
}

/// One line for each target: where to, over how many connections.
pub fn notes(urls: &[Url], plans: &[TargetPlan], producers: usize) -> Vec<String> {
    let line = |(at, (url, plan)): (usize, (&Url, &TargetPlan))| {
        let here = (0..producers).filter(|k| k % plans.len() == at).count();
        let each = plan.link().map_or(1, |link| link.connections);
        let how = match plan {
            TargetPlan::Tcp(TcpPlan { framing: TcpFraming::Length, .. }) => {
                ", each record behind its length".to_owned()
            }
            TargetPlan::Http(http) if http.link.peer.tls.is_some() => ", TLS".to_owned(),
            TargetPlan::Kafka(kafka) => kafka::about(kafka),
            _ => String::new(),
        };
        let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let each = match plan {
            TargetPlan::Kafka(_) => "a connection for each of its partitions".to_owned(),
            _ => counted(each, "connection"),
        };
        format!("{}: {} × {each}{how}", url.label(), counted(here, "producer"))
    };
    urls.iter().zip(plans).enumerate().map(line).collect()
}
