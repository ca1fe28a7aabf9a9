//! What Kafka's own properties come to.

use super::network::{file, kafka};
use super::*;
use crate::plan::Compression;

#[test]
fn kafka_s_own_properties_stand_below_the_flags() {
    let text = "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nacks=1\nlinger.ms=20\nbatch.size=65536\n\
                request.timeout.ms=7000\nretries=9\ncompression.type=zstd\nclient.id=night\n\
                max.in.flight.requests.per.connection=3\nssl.endpoint.identification.algorithm=\n\
                sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\\n  \
                username=\"me\" password=\"pa55\";\n";
    let (_file, path) = file(text);
    let flags = [("target", "kafka://localhost/t"), ("kafka-config", path.as_str()), ("compression", "lz4")];
    let more = [("kafka-property", "retries=2"), ("kafka-property", "delivery.timeout.ms=60000")];
    let made = plan(&[&flags[..], &more].concat());
    let to = kafka(&made);
    assert_eq!((to.acks, to.idempotent, to.codec, to.batch_bytes), (1, false, Compression::Lz4, 65_536));
    assert_eq!(
        (to.linger_ns, made.sink.linger_ns, to.link.request_timeout_ns),
        (20_000_000, 20_000_000, 7_000_000_000)
    );
    assert_eq!((to.link.retry.retries_max, to.delivery_timeout_ns, to.in_flight_max), (2, 60_000_000_000, 3));
    assert_eq!((to.client_id.as_str(), made.effective_config["linger"].as_str()), ("night", Some("20ms")));
    let tls = to.tls().unwrap();
    assert_eq!((tls.server_name.as_str(), tls.verify_host, tls.ca.as_ref()), ("localhost", false, None));
    assert_eq!(to.sasl.as_ref().unwrap().secret.expose(), "pa55");
    assert!(!format!("{made:?}").contains("pa55") && !plan_to_json(&made).to_string().contains("pa55"));
    for (more, word) in [
        (&[("idempotent", "on")][..], "--acks all"),
        (&[("acks", "all"), ("kafka-property", "max.in.flight.requests.per.connection=6")], "at most 5"),
        (&[("kafka-property", "no.such.key=1")], "no.such.key"),
        (&[("kafka-property", "delivery.timeout.ms=1000")], "delivery.timeout.ms"),
        (&[("kafka-property", "max.request.size=1000")], "max.request.size 1000"),
        (&[("kafka-property", "sasl.jaas.config=x")], "seen by everyone"),
    ] {
        let told = refused(&[&flags[..], more].concat());
        assert!(told.contains(word) && !told.contains("pa55"), "{more:?}: {told}");
    }
}

#[test]
fn without_retries_idempotence_is_off_or_an_error_as_in_kafka_s_own_producer() {
    let given = [("target", "kafka://localhost/t"), ("kafka-property", "retries=0")];
    let made = plan(&given);
    assert_eq!((kafka(&made).acks, kafka(&made).idempotent), (-1, false));
    assert!(made.notes.iter().any(|note| note.starts_with("retries=0 turns idempotence off")), "{:?}", made.notes);
    let explicit = ("kafka-property", "enable.idempotence=true");
    for (asked, name) in [(explicit, "enable.idempotence=true"), (("idempotent", "on"), "--idempotent on")] {
        let told = refused(&[&given[..], &[asked]].concat());
        assert!(told.contains(&format!("{name} and retries=0")), "{told}");
    }
    // What the flags say counts, also where they leave nothing to be told.
    for (more, idempotent) in [
        (&[("idempotent", "off")][..], false),
        (&[explicit, ("idempotent", "off")], false),
        (&[("acks", "1")], false),
        (&[explicit, ("retry", "3")], true),
        (&[("retry", "off")], true),
    ] {
        let made = plan(&[&given[..], more].concat());
        assert_eq!(kafka(&made).idempotent, idempotent, "{more:?}");
        assert!(!made.notes.iter().any(|note| note.contains("retries=0")), "{more:?}: {:?}", made.notes);
    }
}

#[test]
fn a_batch_size_of_the_property_is_told_to_count_before_compression() {
    let told = |more: &[(&str, &str)]| {
        let made = plan(&[&[("target", "kafka://localhost/t")][..], more].concat());
        made.notes.iter().filter(|note| note.contains("counts before compression")).count()
    };
    let (size, codec) = (("kafka-property", "batch.size=200000"), ("kafka-property", "compression.type=lz4"));
    let soft = ("compressibility", "0.8");
    assert_eq!(told(&[size, codec, soft]), 1);
    assert_eq!(told(&[size, ("compression", "zstd"), soft, ("target", "kafka://localhost/u")]), 1);
    assert_eq!(told(&[size, soft]), 0);
    assert_eq!(told(&[codec, soft]), 0);
    assert_eq!(told(&[size, codec, soft, ("batch-size", "1000000")]), 0);
    assert_eq!(told(&[size, codec]), 0, "random bytes stay as they are");
    assert_eq!(told(&[("kafka-property", "batch.size=0"), codec, soft]), 0, "each goes alone, here and there");
}

#[test]
fn kafka_s_batch_size_gives_way_to_a_longer_record_and_the_flag_does_not() {
    let given = [("target", "kafka://localhost/t"), ("payload-size", "65536")];
    for (property, bytes) in [("batch.size=0", 65_617), ("batch.size=16384", 65_617), ("batch.size=70000", 70_000)] {
        let said = [("target", "kafka://localhost/u"), ("kafka-property", property)];
        let made = plan(&[&given[..], &said].concat());
        assert_eq!((kafka(&made).batch_bytes, made.sink.block_bytes), (bytes, 65_536), "{property}");
        let told = format!("{property}: batches have 65617 B, for one record of 65536 B each");
        let count = made.notes.iter().filter(|note| **note == told).count();
        assert_eq!(count, usize::from(bytes == 65_617), "{:?}", made.notes);
    }
    let many = [given[0], ("payload-size", "64-65536"), ("kafka-property", "batch.size=0")];
    let made = plan(&many);
    assert_eq!(kafka(&made).batch_bytes, 65_617);
    let told = "batch.size=0: batches have up to 65617 B, room for the longest record (65536 B); shorter";
    assert!(made.notes.iter().any(|note| note.starts_with(told)), "{:?}", made.notes);
    let told = refused(&[&given[..], &[("kafka-property", "batch.size=0"), ("batch-size", "16384")]].concat());
    assert!(told.contains("--batch-size 16384: a record of 65536 B"), "{told}");
}
