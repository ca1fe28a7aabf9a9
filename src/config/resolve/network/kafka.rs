//! What `kafka://` targets come to.

use super::shared::{Shared, link, retries};
use crate::base::fatal::Fatal;
use crate::base::{limits, units};
use crate::config::kafka_access::{self, AccessFlags};
use crate::config::kafka_properties::KafkaProperties;
use crate::config::resolve::payload::Sizes;
use crate::config::url::Url;
use crate::config::values::{Mode, Wanted};
use crate::plan::{
    Annotate, Compression, Io, KafkaAccess, KafkaClient, KafkaPlan, KeyPlan, LinkPlan, PayloadPlan, PayloadSource,
    TlsPlan,
};
use crate::wire::kafka::batch::HEADER_BYTES;

const LINGER_NS_DEFAULT: u64 = 5_000_000;
const DELIVERY_TIMEOUT_NS_DEFAULT: u64 = 120_000_000_000;
const IN_FLIGHT: &str = "max.in.flight.requests.per.connection";
const RSKAFKA_RETRIES: &str = "rskafka sends a batch again after a lost connection or a throttled answer, which can double \
     and reorder records; --retry=off leaves them uncertain after a lost connection";
const RETRIES_0: &str = "retries=0 turns idempotence off, as in Kafka's own producer; --retry=off keeps it on";
/// The most that frames a record: lengths, deltas, key and headers.
const FRAME_BYTES: u64 = 20;
const FRAME_KEY_BYTES: u64 = 24;
const FRAME_WEIGHT_BYTES: u64 = 24;
const FRAME_FACTS_BYTES: u64 = 256;

pub fn plan(
    wanted: &Wanted,
    url: &Url,
    (payload, sizes): (&PayloadPlan, &Sizes),
    shared: &mut Shared,
    (notes, errors): (&mut Vec<String>, &mut Vec<Fatal>),
) -> KafkaPlan {
    let flags = &wanted.network.kafka;
    let (said, access) = shared.kafka.get_or_insert_with(|| read_properties(wanted, notes, errors));
    let (acks, idempotent) = guarantees(wanted, said, notes, errors);
    let key = flags.key.unwrap_or(KeyPlan::None);
    let tls = access.tls.clone().map(|tls| TlsPlan { server_name: url.hosts[0].0.clone(), ..tls });
    let sasl = access.sasl.clone();
    notes.extend(kafka_access::note_of_open_login(access, url));
    let linger_ns = wanted.linger_ns.or(said.linger_ns).unwrap_or(LINGER_NS_DEFAULT);
    let mut link = link(wanted, url, tls, retries(said.retries.unwrap_or(u32::MAX)));
    let timeout_ns = wanted.network.request_timeout_ns.or(said.request_timeout_ns);
    link.request_timeout_ns = timeout_ns.unwrap_or(link.request_timeout_ns);
    // Each partition has one, whatever is asked.
    link.connections = 1;
    let batch = (flags.batch_bytes, said.batch_bytes, said.request_bytes_max);
    let batch_bytes_min = sizes.max_bytes + frame_bytes(key, payload, wanted) + HEADER_BYTES as u64;
    if flags.client == Some(KafkaClient::Rskafka) && link.retry.retries_max > 0 {
        notes.push(RSKAFKA_RETRIES.to_owned());
    }
    let codec = flags.codec.or(said.compression).unwrap_or(Compression::None);
    if let (None, Some(bytes), true) = (flags.batch_bytes, said.batch_bytes, codec != Compression::None)
        && bytes >= batch_bytes_min
        && shrinks(payload)
    {
        note_once(
            notes,
            format!(
                "batch.size={bytes} counts before compression here, and after it in Kafka's own producer: a larger \
                 --batch-size makes requests as large as there"
            ),
        );
    }
    KafkaPlan {
        bootstrap: url.hosts.clone(),
        local_only: !shared.rate_is_said,
        topic: url.topic().to_owned(),
        sasl,
        acks,
        idempotent,
        codec,
        batch_bytes: batch_bytes(batch, sizes, batch_bytes_min, notes, errors),
        batch_bytes_min,
        linger_ns,
        key,
        partitions: flags.partitions,
        create_topic: flags.create_topic.unwrap_or(url.is_local()),
        client: flags.client.unwrap_or(KafkaClient::Uring),
        client_id: access.client_id.clone(),
        in_flight_max: in_flight_max(wanted, said, (idempotent, shared.depth_is_flag), notes, errors),
        delivery_timeout_ns: delivery_timeout_ns(said, &link, linger_ns, errors),
        link,
    }
}

/// What `--kafka-config` and `--kafka-property` say, and how they and the flags reach the brokers.
fn read_properties(
    wanted: &Wanted,
    notes: &mut Vec<String>,
    errors: &mut Vec<Fatal>,
) -> (KafkaProperties, KafkaAccess) {
    let (network, kafka) = (&wanted.network, &wanted.network.kafka);
    let said = kafka_access::properties(kafka.config.as_deref(), &kafka.properties, errors).unwrap_or_default();
    let flags = AccessFlags {
        config: kafka.config.clone(),
        properties: kafka.properties.clone(),
        tls_ca: network.tls_ca.clone(),
        tls_cert: network.tls_cert.clone(),
        tls_key: network.tls_key.clone(),
        sasl_mechanism: kafka.sasl_mechanism,
        sasl_mechanism_refused: kafka.sasl_mechanism_refused,
        sasl_user: kafka.sasl_user.clone(),
        sasl_password: kafka.sasl_password.clone(),
    };
    let access = kafka_access::access_with(&flags, &said, errors);
    notes.extend(access.notes.iter().cloned());
    (said, access)
}

/// `--queue-depth` and the property are two names of one thing. The property means Kafka; the flag's variable and key may
/// have been meant for other targets, and give way.
fn in_flight_max(
    wanted: &Wanted,
    said: &KafkaProperties,
    (idempotent, depth_is_flag): (bool, bool),
    notes: &mut Vec<String>,
    errors: &mut Vec<Fatal>,
) -> usize {
    let with_order = limits::KAFKA_IN_FLIGHT_IDEMPOTENT_MAX;
    if let Some(count) = said.in_flight_max.filter(|count| idempotent && *count > with_order) {
        let what = format!("{IN_FLIGHT} {count}: --idempotent on keeps order with at most {with_order}");
        errors.push(Fatal::usage(what).mend(format!("{IN_FLIGHT}={with_order}, or --idempotent off")));
    }
    match (wanted.queue_depth, said.in_flight_max) {
        (None, said) => said.unwrap_or(in_flight_default(wanted)),
        (Some(depth), None) => cut_depth(depth, wanted, idempotent, notes),
        (Some(depth), Some(other)) if depth == other => other,
        (Some(depth), Some(other)) if depth_is_flag => {
            let what = format!("--queue-depth {depth} and {IN_FLIGHT}={other} are two answers to one question");
            errors.push(Fatal::usage(what).mend(format!("leave out --queue-depth or {IN_FLIGHT}")));
            other
        }
        (Some(depth), Some(other)) => {
            note_once(
                notes,
                format!("{IN_FLIGHT}={other} holds, and not queue depth {depth}, which is for any target"),
            );
            other
        }
    }
}

fn in_flight_default(wanted: &Wanted) -> usize {
    if wanted.network.kafka.client == Some(KafkaClient::Rskafka) { 1 } else { limits::KAFKA_IN_FLIGHT_DEFAULT }
}

/// The requests in flight that a queue depth comes to. Scripts say one for all targets, 32 say: too many are no error.
fn cut_depth(depth: usize, wanted: &Wanted, idempotent: bool, notes: &mut Vec<String>) -> usize {
    let (more, with_order) = (limits::KAFKA_IN_FLIGHT_MAX, limits::KAFKA_IN_FLIGHT_IDEMPOTENT_MAX);
    let (most, why) = match wanted.network.kafka.client {
        Some(KafkaClient::Rskafka) => (1, "rskafka has no more".to_owned()),
        _ if idempotent => {
            (with_order, format!("--idempotent on keeps order with no more; --idempotent off has up to {more}"))
        }
        _ => (more, "there are never more".to_owned()),
    };
    if depth > most {
        let requests = if most == 1 { "request" } else { "requests" };
        note_once(notes, format!("--queue-depth {depth} is cut to {most} {requests} in flight on a connection: {why}"));
    }
    depth.min(most)
}

/// Several targets have the same to say.
fn note_once(notes: &mut Vec<String>, note: String) {
    if !notes.contains(&note) {
        notes.push(note);
    }
}

fn delivery_timeout_ns(said: &KafkaProperties, link: &LinkPlan, linger_ns: u64, errors: &mut Vec<Fatal>) -> u64 {
    let least = link.request_timeout_ns.saturating_add(linger_ns);
    if let Some(said) = said.delivery_timeout_ns.filter(|said| *said < least) {
        let (said, least) = (units::format_duration(said), units::format_duration(least));
        let what =
            format!("delivery.timeout.ms ({said}) is less than --linger and --request-timeout together ({least})");
        errors.push(Fatal::usage(what).mend("--request-timeout=10s, or delivery.timeout.ms=120000"));
    }
    said.delivery_timeout_ns.unwrap_or(DELIVERY_TIMEOUT_NS_DEFAULT.max(least))
}

/// Acks and idempotence, never chosen in silence where that would weaken what was asked.
fn guarantees(
    wanted: &Wanted,
    said: &KafkaProperties,
    notes: &mut Vec<String>,
    errors: &mut Vec<Fatal>,
) -> (i16, bool) {
    let flags = &wanted.network.kafka;
    let acks = flags.acks.or(said.acks).unwrap_or(-1);
    let mut idempotent = flags.idempotent.or(said.idempotent).unwrap_or(acks == -1);
    // As Kafka's own producer has it, which needs retries to be idempotent. `--retry` stands above the property.
    if idempotent && said.retries == Some(0) && wanted.network.retry.is_none() {
        let asked = match (flags.idempotent, said.idempotent) {
            (Some(_), _) => Some("--idempotent on"),
            (None, Some(_)) => Some("enable.idempotence=true"),
            (None, None) => None,
        };
        if let Some(asked) = asked {
            let what = format!("{asked} and retries=0 exclude each other: what is lost is to be sent again");
            errors.push(Fatal::usage(what).mend("retries=2147483647, or --idempotent=off"));
        } else {
            note_once(notes, RETRIES_0.to_owned());
            idempotent = false;
        }
    }
    if idempotent && acks != -1 {
        let what = format!("--idempotent on needs --acks all, not --acks {acks}");
        errors.push(Fatal::usage(what).mend(format!("--acks=all, or --acks={acks} --idempotent=off")));
    }
    if flags.client == Some(KafkaClient::Rskafka) {
        check_rskafka(wanted, said, (acks, idempotent), errors);
    }
    if acks == 0 && wanted.network.retry.is_some_and(|retry| retry.retries_max > 0) {
        let what = "--retry needs answers, and --acks 0 asks for none";
        errors.push(Fatal::usage(what).mend("--acks=1, or leave out --retry"));
    }
    (acks, idempotent)
}

/// What rskafka cannot do, and does not do in silence either.
fn check_rskafka(wanted: &Wanted, said: &KafkaProperties, (acks, idempotent): (i16, bool), errors: &mut Vec<Fatal>) {
    let mut cannot = |what: String, mend: &str| {
        let what = format!("--kafka-client rskafka cannot do {what}");
        errors.push(Fatal::usage(what).mend(format!("{mend}, or --kafka-client=uring")));
    };
    if acks != -1 {
        cannot(format!("--acks {acks}: it always waits for all"), "--acks=all");
    }
    if idempotent {
        cannot("--idempotent on (the default with --acks all)".into(), "--idempotent=off");
    }
    if wanted.network.connections.is_some_and(|connections| connections > 1) {
        cannot("more than one connection to a leader (--connections)".into(), "--connections=1");
    }
    if wanted.io == Some(Io::Uring) {
        cannot("--io uring: it has its own sockets".into(), "--io=auto");
    }
    if let Some(count) = said.in_flight_max.filter(|count| *count != 1) {
        cannot(format!("{IN_FLIGHT}={count}: it has one"), "max.in.flight.requests.per.connection=1");
    }
    if said.delivery_timeout_ns.is_some() {
        cannot("delivery.timeout.ms: its deadline is --request-timeout".into(), "--request-timeout=D without it");
    }
    let counted = match wanted.network.retry {
        Some(retry) => Some(retry.retries_max),
        // The largest number is how Kafka's clients say "without end".
        None => said.retries.filter(|retries| *retries < i32::MAX as u32),
    };
    if let Some(retries) = counted.filter(|retries| *retries > 0) {
        cannot(format!("--retry {retries}: it counts time, not attempts"), "--retry=off");
    }
}

/// Whether a compressor finds something to remove.
fn shrinks(payload: &PayloadPlan) -> bool {
    match payload.source {
        PayloadSource::Random { compressibility } => compressibility > 0.0,
        PayloadSource::Templates(_) => true,
    }
}

/// The most that stands around one record in a batch.
fn frame_bytes(key: KeyPlan, payload: &PayloadPlan, wanted: &Wanted) -> u64 {
    let sampled = wanted.stages.iter().any(|stage| stage.mode == Mode::Sampled);
    let mut bytes = FRAME_BYTES;
    bytes += if key == KeyPlan::None { 0 } else { FRAME_KEY_BYTES };
    bytes += if sampled { FRAME_WEIGHT_BYTES } else { 0 };
    bytes + if payload.annotate == Annotate::Headers { FRAME_FACTS_BYTES } else { 0 }
}

/// At least one record must fit; a size that the flag asked for is never changed. The property gives way. Where all
/// records have one length, a longer one goes alone then, as in Kafka's own producer, and so does each with 0; of many
/// lengths the shorter ones share the batch that has room for the longest.
fn batch_bytes(
    (flag, property, request_max): (Option<u64>, Option<u64>, Option<u64>),
    sizes: &Sizes,
    least: u64,
    notes: &mut Vec<String>,
    errors: &mut Vec<Fatal>,
) -> u64 {
    let bytes = flag.or(property).unwrap_or(limits::KAFKA_BATCH_BYTES_DEFAULT);
    if let Some(most) = request_max.filter(|most| *most < bytes.max(least)) {
        let what = format!("max.request.size {most}: a batch of {} B does not fit", bytes.max(least));
        errors
            .push(Fatal::usage(what).mend(format!("max.request.size={}, or a smaller --batch-size", bytes.max(least))));
    }
    if bytes > limits::KAFKA_BATCH_BYTES_MAX || least > limits::KAFKA_BATCH_BYTES_MAX {
        let most = limits::KAFKA_BATCH_BYTES_MAX;
        let whole = units::format_size(limits::KAFKA_REQUEST_BYTES_MAX);
        let why = format!("more than the {most} B of a batch whose request has the {whole} that Kafka's brokers read");
        let fatal = match least > most {
            true => Fatal::usage(format!("a record of {} B needs a batch of {least} B, {why}", sizes.max_bytes))
                .mend("a smaller --payload-size, or shorter templates"),
            false => Fatal::usage(format!("--batch-size {bytes}: {why}")).mend(format!("--batch-size={most}")),
        };
        errors.push(fatal);
        return bytes;
    }
    match flag {
        Some(bytes) if bytes < least => {
            let what =
                format!("--batch-size {bytes}: a record of {} B with its frame needs {least} B", sizes.max_bytes);
            errors.push(Fatal::usage(what).mend(format!("--batch-size={least}")));
            bytes
        }
        None if bytes < least => {
            let asked = property.map_or(String::new(), |bytes| format!("batch.size={bytes}: "));
            let longest = sizes.max_bytes;
            let holds = match sizes.fixed() {
                Some(_) => format!("batches have {least} B, for one record of {longest} B each"),
                None => format!(
                    "batches have up to {least} B, room for the longest record ({longest} B); shorter ones share one"
                ),
            };
            note_once(notes, format!("{asked}{holds}"));
            least
        }
        _ => bytes,
    }
}

/// Payload bytes of the records that fit into one batch.
pub fn block_bytes(plan: &KafkaPlan, sizes: &Sizes, payload: &PayloadPlan, wanted: &Wanted) -> u64 {
    let frame = frame_bytes(plan.key, payload, wanted);
    let room = plan.batch_bytes.saturating_sub(HEADER_BYTES as u64);
    // Of records of many lengths the smallest have the most frames.
    let bytes = u128::from(room) * u128::from(sizes.min_bytes) / u128::from(sizes.min_bytes + frame);
    (bytes as u64).max(sizes.max_bytes)
}

/// `, acks all, idempotent, lz4, TLS, SCRAM-SHA-512`.
pub fn about(plan: &KafkaPlan) -> String {
    let acks = if plan.acks == -1 { "all".to_owned() } else { plan.acks.to_string() };
    let mut text = format!(", acks {acks}");
    if plan.idempotent {
        text.push_str(", idempotent");
    }
    if plan.client == KafkaClient::Rskafka {
        text.push_str(", through rskafka");
    }
    if plan.codec != Compression::None {
        text.push_str(&format!(", {}", plan.codec.name()));
    }
    if plan.tls().is_some() {
        text.push_str(", TLS");
    }
    if let Some(sasl) = &plan.sasl {
        text.push_str(&format!(", {}", sasl.mechanism.name()));
    }
    text
}
