//! Plans of network targets.

use super::*;
use crate::plan::{
    Annotate, Compression, HttpMethod, HttpPlan, KafkaClient, KafkaPlan, KeyPlan, RetryPlan, SaslMechanism, TcpFraming,
};
use crate::sink::links;
use std::io::Write;

fn http(plan: &RunPlan) -> &HttpPlan {
    if let TargetPlan::Http(http) = &plan.producers[0].to { http } else { panic!("{:?}", plan.producers[0].to) }
}

pub(super) fn kafka(plan: &RunPlan) -> &KafkaPlan {
    if let TargetPlan::Kafka(kafka) = &plan.producers[0].to { kafka } else { panic!("{:?}", plan.producers[0].to) }
}

fn with_variable(flags: &[(&str, &str)], variable: (&str, &str)) -> Result<RunPlan, Vec<Fatal>> {
    try_with(flags, &[variable], &machine(), || Ok(()))
}

pub(super) fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().display().to_string();
    (file, path)
}

#[test]
fn what_connections_may_send_again_has_to_fit_into_the_memory() {
    let machine = |gib: u64| {
        let available = format!("MemAvailable: {} kB\n", gib << 20);
        Tree::new(&[("/proc/self/status", "Cpus_allowed_list:\t0-7\n"), ("/proc/meminfo", &available)])
    };
    let fits = |target, gib| {
        let flags = [("target", target), ("payload-size", "16Mi"), ("parallel", "1"), ("connections", "256")];
        try_plan(&flags, &machine(gib), || Ok(()))
    };
    for (target, gib) in [("http://localhost/", 16), ("tcp://localhost:9", 4)] {
        fits(target, gib).unwrap_or_else(|errors| panic!("{target}: {errors:?}"));
    }
    let errors = fits("http://localhost/", 4).expect_err("256 times 16 MiB are 4 GiB");
    assert_eq!((errors.len(), errors[0].exit), (1, Exit::Host), "{errors:?}");
    let told = errors[0].to_string();
    assert!(told.contains("256 blocks") && told.contains("--connections=125"), "{told}");
    let lanes = [("target", "tcp://localhost:9"), ("payload-size", "16Mi"), ("parallel", "8"), ("connections", "4")];
    let errors = try_plan(&lanes, &machine(1), || Ok(())).expect_err("8 lanes have 4 times 16 MiB beside their rings");
    assert!(errors[0].exit == Exit::Host && errors[0].to_string().contains("32 blocks"), "{errors:?}");
}

#[test]
fn tcp_with_its_defaults_and_flags() {
    let made = plan(&[("target", "tcp://localhost:9000")]);
    assert_eq!(
        (made.sink.kind, made.sink.confirmation, made.sink.linger_ns),
        (SinkKind::Tcp, Confirmation::Kernel, 250_000)
    );
    assert_eq!((made.producers.len(), made.sink.block_bytes, made.sink.queue_depth), (7, 512 << 10, 4));
    let link = made.producers[0].to.link().unwrap();
    assert_eq!((link.peer.host.as_str(), link.peer.port, link.connections), ("localhost", 9000, 1));
    assert_eq!((link.request_timeout_ns, link.retry.retries_max), (30_000_000_000, 0));
    assert!(
        (2..5).contains(&(made.cores[0].ring_bytes_per_lane / made.sink.block_bytes)),
        "copied: {:?}",
        made.cores[0]
    );
    let other = plan(&[("target", "tcp://10.1.2.3:9"), ("rate", "1GB/s")]);
    assert_eq!((other.sink.block_bytes, other.sink.queue_depth), (1 << 20, 4));
    assert!(other.cores[0].ring_bytes_per_lane >= 5 << 20, "sent from where it lies: {:?}", other.cores[0]);
    assert_eq!(made.effective_config["tcp_framing"], "none");
    assert!(made.effective_config["acks"].is_null() && made.effective_config["linger"] == "250us");
    let flags =
        [("target", "tcp://[::1]:1"), ("connections", "3"), ("tcp-framing", "length"), ("request-timeout", "1s")];
    let made = plan(&flags);
    let TargetPlan::Tcp(tcp) = &made.producers[0].to else { panic!("{:?}", made.producers[0].to) };
    assert_eq!((tcp.framing, tcp.link.connections, made.sink.queue_depth), (TcpFraming::Length, 3, 12));
    assert_eq!(tcp.link.request_timeout_ns, 1_000_000_000);
    let json = plan_to_json(&made);
    assert_eq!((&json["sink"]["kind"], &json["producers"][0]["to"]["framing"]), (&"tcp".into(), &"length".into()));
    assert_eq!(json["producers"][0]["link"]["host"], "::1");
}

#[test]
fn peers_are_dealt_round_robin() {
    let flags = [("target", "tcp://localhost:1"), ("target", "tcp://localhost:2"), ("parallel", "3")];
    let made = plan(&flags);
    let ports: Vec<_> = made.producers.iter().map(|p| (p.target, p.to.link().unwrap().peer.port)).collect();
    assert_eq!(ports, [(0, 1), (1, 2), (0, 1)]);
    assert!(made.notes.iter().any(|note| note.contains("localhost:1: 2 producers")), "{:?}", made.notes);
    assert!(refused(&[flags[0], flags[1], ("parallel", "1")]).contains("2 targets"));
}

#[test]
fn other_hosts_need_a_rate() {
    for url in ["tcp://10.1.2.3:9", "http://ingest.example/", "kafka://localhost:9092,broker:9092/t"] {
        let told = refused(&[("target", url)]);
        assert!(told.contains("needs --rate") && told.contains("--rate=unlimited"), "{told}");
        assert_eq!(plan(&[("target", url), ("rate", "unlimited")]).rate_bytes_per_second, None);
        plan(&[("target", url), ("producer-rate", "1MB/s")]);
    }
    // Who else is a broker shows only when those are asked that the URL names.
    let local = [("target", "kafka://localhost:9092/t"), ("rate", "unlimited")];
    assert!(kafka(&plan(&local[..1])).local_only && !kafka(&plan(&local)).local_only);
}

#[test]
fn http_says_who_it_is_and_what_it_sends() {
    let made = plan(&[("target", "http://localhost:8080/in?x=1"), ("payload-size", "1000")]);
    let to = http(&made);
    assert_eq!((to.path.as_str(), to.host_header.as_str()), ("/in?x=1", "localhost:8080"));
    assert_eq!((to.method, &made.effective_config["http_method"]), (HttpMethod::Post, &"POST".into()));
    let names: Vec<_> = to.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        (names.as_slice(), to.headers[0].1.as_str()),
        (&["Content-Type", "User-Agent"][..], "application/octet-stream")
    );
    assert_eq!((made.sink.block_bytes, made.sink.queue_depth, made.sink.confirmation), (1000, 1, Confirmation::Target));
    assert_eq!(to.link.retry, RetryPlan { retries_max: 3, backoff_min_ns: 50_000_000, backoff_max_ns: 5_000_000_000 });
    let (_token, path) = file("abc.def\n");
    let flags = [
        ("target", "https://localhost/"),
        ("http-method", "PUT"),
        ("connections", "2"),
        ("http-pipeline", "3"),
        ("http-records-per-request", "10"),
        ("http-header", "Content-Type: text/x"),
        ("http-header", "X-A: b"),
        ("http-header", "Idempotency-Key: c"),
        ("bearer-token-file", path.as_str()),
        ("http-refused-by", "\"errors\":true"),
        ("retry", "5,1ms-2ms"),
        ("annotate", "headers"),
        ("payload-size", "100"),
    ];
    let made = plan(&flags);
    let to = http(&made);
    assert_eq!((made.sink.block_bytes, made.sink.queue_depth, to.link.retry.retries_max), (1000, 6, 5));
    assert_eq!(to.headers[0], ("Content-Type".into(), "text/x".into()));
    let bearer = to.bearer.as_ref().unwrap();
    assert_eq!((bearer.token.expose(), bearer.path.to_str()), ("abc.def", Some(path.as_str())));
    assert_eq!(plan_to_json(&made)["producers"][0]["to"]["headers"][4], "Authorization");
    let tls = to.link.peer.tls.as_ref().unwrap();
    assert_eq!((tls.server_name.as_str(), tls.alpn_http, tls.verify_host), ("localhost", true, true));
    assert_eq!((to.link.peer.port, made.payload.annotate), (443, Annotate::Headers));
    assert_eq!(to.refused_by.as_deref(), Some("\"errors\":true"));
    assert_eq!((to.method, &plan_to_json(&made)["producers"][0]["to"]["method"]), (HttpMethod::Put, &"PUT".into()));
    assert!(!format!("{made:?}").contains("abc.def") && !plan_to_json(&made).to_string().contains("abc.def"));
}

#[test]
fn http_refuses_what_would_break_or_betray_a_request() {
    let url = ("target", "http://localhost/");
    for (more, word) in [
        (("http-header", "Authorization: Basic eA=="), "--bearer-token-file"),
        (("http-header", "content-length: 1"), "itself"),
        (("http-header", "X-Sequence: 1"), "itself"),
        (("http-header", "Connection: close"), "connections kept"),
        (("bearer-token-file", "/no/such"), "/no/such"),
        (("block-size", "1Mi"), "--http-records-per-request"),
        (("tls-ca", "/no/such"), "https"),
        (("tcp-framing", "length"), "TCP"),
        (("acks", "1"), "Kafka"),
        (("compression", "gzip"), "--http-header=Content-Encoding:gzip"),
        (("http-method", "GET"), "--http-method"),
        (("fsync", "each"), "file target"),
        (("request-timeout", "0s"), "0s"),
        (("http-refused-by", ""), "empty"),
        (("http-refused-by", &"e".repeat(129)), "129 bytes; 128 are"),
    ] {
        let told = refused(&[url, more]);
        assert!(told.contains(word), "{more:?}: {told}");
    }
    let told = refused(&[url, ("connections", "256"), ("http-pipeline", "64")]);
    assert!(told.contains("16384"), "{told}");
    let told = refused(&[url, ("http-header", "X-A: 1"), ("http-header", "x-a: 2")]);
    assert!(told.contains("twice"), "{told}");
    let told = refused(&[("target", "http://me:pw@localhost/")]);
    assert!(told.contains("seen by everyone") && !told.contains("pw@"), "{told}");
    for name in ["Proxy-Authorization", "cookie", "X-API-Key", "api-key", "X-Auth-Token", "X-Client-Secret"] {
        let told = refused(&[url, ("http-header", &format!("{name}: s3cret"))]);
        assert!(told.contains(name) && told.contains("seen by everyone") && !told.contains("s3cret"), "{told}");
    }
}

#[test]
fn a_query_that_may_be_a_credential_is_noted_where_others_see_it() {
    let told = |made: RunPlan| made.notes.iter().filter(|note| note.contains("in its query")).count();
    for (url, count) in [
        ("http://localhost/?a=1&Access_Token=s3cret", 1),
        ("https://localhost/in?sig=s3cret", 1),
        ("http://localhost/?tokens=1&page=key", 0),
        ("http://localhost/key", 0),
    ] {
        let made = plan(&[("target", url)]);
        assert!(!plan_to_json(&made).to_string().contains("s3cret"), "{url}");
        assert_eq!(told(made), count, "{url}");
    }
    assert_eq!(told(with_variable(&[], ("ENGINE_TARGET", "http://localhost/?token=s3cret")).unwrap()), 0);
}

#[test]
fn connections_without_a_place_are_refused() {
    let topic = ("target", "kafka://localhost/t");
    let told = refused(&[topic, ("partitions", "5000"), ("parallel", "1")]);
    assert!(told.contains("5000 connections") && told.contains("--parallel=2"), "{told}");
    plan(&[topic, ("partitions", "8000"), ("parallel", "2")]);
    let many = [topic, ("partitions", "9000"), ("parallel", "3"), ("cores", "1")];
    let told = refused(&many);
    assert!(told.contains("9000 connections of 3 producers") && told.contains("--partitions"), "{told}");
    plan(&[&many[..], &[("io", "syscall")]].concat());
    let rskafka = [("kafka-client", "rskafka"), ("idempotent", "off"), ("partitions", "5000"), ("parallel", "1")];
    plan(&[&[topic][..], &rskafka].concat());
    let many = [("target", "http://localhost/"), ("connections", "256"), ("parallel", "50"), ("cores", "1")];
    let told = refused(&many);
    assert!(told.contains("12800 connections of 50 producers") && told.contains("38400 operations"), "{told}");
    assert!(told.contains("--connections") && told.contains("--cores") && told.contains("--io=syscall"), "{told}");
    plan(&[&many[..], &[("io", "syscall")]].concat());
}

#[test]
fn kafka_promises_what_it_was_asked() {
    let made = plan(&[("target", "kafka://localhost:9092,127.0.0.1/topic"), ("payload-size", "4096")]);
    let to = kafka(&made);
    assert_eq!((to.acks, to.idempotent, to.create_topic, to.batch_bytes), (-1, true, true, 1_000_000));
    assert_eq!((to.bootstrap.len(), to.bootstrap[1].1, to.topic.as_str()), (2, 9092, "topic"));
    assert_eq!((made.sink.linger_ns, made.sink.queue_depth, to.in_flight_max), (5_000_000, 5, 5));
    assert_eq!((to.link.retry.retries_max, to.delivery_timeout_ns), (u32::MAX, 120_000_000_000));
    assert!(made.sink.block_bytes.is_multiple_of(4096) && made.sink.block_bytes <= 1_000_000 - 61);
    assert_eq!((made.sink.confirmation, &made.effective_config["acks"]), (Confirmation::Target, &"all".into()));
    assert_eq!(made.effective_config["linger"], "5ms");
    let other =
        plan(&[("target", "kafka://b:1/t"), ("rate", "1MB/s"), ("acks", "0"), ("linger", "1ms"), ("key", "cycle:7")]);
    let to = kafka(&other);
    assert_eq!((to.acks, to.idempotent, to.create_topic, to.key), (0, false, false, KeyPlan::Cycle(7)));
    assert_eq!((other.sink.confirmation, to.linger_ns), (Confirmation::Kernel, 1_000_000));
    let flags =
        [("target", "kafka://localhost/t"), ("kafka-client", "rskafka"), ("idempotent", "off"), ("compression", "lz4")];
    let made = plan(&flags);
    assert_eq!((kafka(&made).client, kafka(&made).codec), (KafkaClient::Rskafka, Compression::Lz4));
    assert!(made.io == crate::plan::Io::Syscall && made.notes.iter().any(|note| note.contains("can double")));
    let once = plan(&[&flags[..], &[("retry", "off")]].concat());
    assert!(!once.notes.iter().any(|note| note.contains("can double")));
}

#[test]
fn queue_depth_is_what_each_target_makes_of_it() {
    let url = ("target", "kafka://localhost/t");
    let made = plan(&[url, ("queue-depth", "3"), ("connections", "4")]);
    assert_eq!((kafka(&made).in_flight_max, made.sink.queue_depth), (3, 3));
    assert_eq!(made.effective_config["queue_depth"], 3);
    assert_eq!(made.effective_config["connections"], "one for each partition");
    assert!(made.notes.iter().any(|note| note.contains("--connections 4") && note.contains("--partitions")));
    plan(&[url, ("queue-depth", "3"), ("kafka-property", "max.in.flight.requests.per.connection=3")]);
    assert_eq!(kafka(&plan(&[url, ("queue-depth", "64"), ("idempotent", "off")])).in_flight_max, 64);
    let other = plan(&[url, ("kafka-client", "rskafka"), ("idempotent", "off")]);
    assert_eq!(other.effective_config["queue_depth"], 1);
    let http = [("target", "http://localhost/"), ("queue-depth", "8"), ("connections", "2"), ("http-pipeline", "3")];
    let made = plan(&http);
    assert_eq!(made.sink.queue_depth, 6);
    assert_eq!(made.effective_config["queue_depth"], 6);
    assert!(made.notes.iter().any(|note| note.contains("--queue-depth 8") && note.contains("--http-pipeline")));
    let made = plan(&[("target", "tcp://localhost:1"), ("queue-depth", "8"), ("connections", "2")]);
    assert_eq!((made.sink.queue_depth, made.producers[0].to.link().unwrap().connections), (8, 2));
    assert_eq!(made.effective_config["connections"], 2);
    assert!(!made.notes.iter().any(|note| note.contains("changes nothing")), "{:?}", made.notes);
    let shares = |made: &RunPlan| matches!(&made.producers[0].to, TargetPlan::Tcp(tcp) if tcp.shares_depth);
    assert!(shares(&made) && !shares(&plan(&[("target", "tcp://localhost:1"), ("connections", "2")])));
}

#[test]
fn a_queue_depth_for_other_targets_is_cut_for_kafka_and_said() {
    let url = ("target", "kafka://localhost/t");
    for (more, depth, words) in [
        (&[("queue-depth", "32")][..], 5, "--queue-depth 32 is cut to 5 requests"),
        (&[("queue-depth", "6"), ("idempotent", "on")], 5, "--idempotent off has up to 64"),
        (&[("queue-depth", "65"), ("idempotent", "off")], 64, "--queue-depth 65 is cut to 64"),
        (&[("queue-depth", "32"), ("kafka-client", "rskafka"), ("idempotent", "off")], 1, "cut to 1 request in flight"),
    ] {
        let made = plan(&[&[url, ("target", "kafka://localhost/u")], more].concat());
        assert_eq!((kafka(&made).in_flight_max, made.sink.queue_depth), (depth, depth), "{more:?}");
        assert_eq!(made.effective_config["queue_depth"], depth, "{more:?}");
        assert_eq!(made.notes.iter().filter(|note| note.contains(words)).count(), 1, "{more:?}: {:?}", made.notes);
    }
    for depth in ["1", "2", "5"] {
        let made = plan(&[url, ("queue-depth", depth)]);
        assert!(!made.notes.iter().any(|note| note.contains("is cut")), "{:?}", made.notes);
    }
    let property = ("kafka-property", "max.in.flight.requests.per.connection=3");
    let made = with_variable(&[url, property], ("ENGINE_QUEUE_DEPTH", "32")).unwrap();
    assert_eq!((kafka(&made).in_flight_max, made.sink.queue_depth), (3, 3));
    assert!(made.notes.iter().any(|note| note.contains("connection=3 holds")), "{:?}", made.notes);
    let told = refused(&[url, property, ("queue-depth", "8")]);
    assert!(told.contains("--queue-depth 8 and max.in.flight.requests.per.connection=3"), "{told}");
}

#[test]
fn credentials_in_variables_are_taken_and_not_shown() {
    let jaas = "sasl.jaas.config=x.PlainLoginModule required username=me password=pa55;";
    let properties = format!("security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n{jaas}");
    let url = ("target", "kafka://localhost/t");
    let made = with_variable(&[url], ("ENGINE_KAFKA_PROPERTY", &properties)).unwrap();
    let sasl = kafka(&made).sasl.as_ref().unwrap();
    assert_eq!((sasl.user.as_str(), sasl.secret.expose()), ("me", "pa55"));
    assert_eq!(made.effective_config["kafka_property"][2], "sasl.jaas.config=***");
    assert!(!format!("{made:?}").contains("pa55") && !plan_to_json(&made).to_string().contains("pa55"));
    let told = refused(&[url, ("kafka-property", jaas)]);
    assert!(told.contains("seen by everyone") && !told.contains("pa55"), "{told}");

    let header = ("ENGINE_HTTP_HEADER", "X-A: 1\nAuthorization: Basic pa55");
    let made = with_variable(&[("target", "http://10.1.2.3/"), ("rate", "1MB/s")], header).unwrap();
    assert!(http(&made).headers.contains(&("Authorization".into(), "Basic pa55".into())));
    assert!(made.notes.iter().any(|note| note.contains("in the clear")), "{:?}", made.notes);
    assert!(!format!("{made:?}").contains("pa55") && !plan_to_json(&made).to_string().contains("pa55"));
    let key = ("ENGINE_HTTP_HEADER", "X-Api-Key: pa55");
    let made = with_variable(&[("target", "http://10.1.2.3/"), ("rate", "1MB/s")], key).unwrap();
    assert!(made.notes.iter().any(|note| note.contains("in the clear")), "{:?}", made.notes);
    let (_token, path) = file("abc");
    let errors = with_variable(&[("target", "http://localhost/"), ("bearer-token-file", &path)], header).unwrap_err();
    assert!(errors[0].what.contains("are two"), "{errors:?}");
}

#[test]
fn kafka_names_what_cannot_be() {
    let url = ("target", "kafka://localhost/t");
    for (more, word) in [
        (&[("acks", "1"), ("idempotent", "on")][..], "--idempotent on needs --acks all"),
        (&[("kafka-client", "rskafka")], "--idempotent=off"),
        (&[("kafka-client", "rskafka"), ("acks", "1")], "--acks 1"),
        (&[("kafka-client", "rskafka"), ("idempotent", "off"), ("connections", "2")], "--connections=1"),
        (&[("kafka-client", "rskafka"), ("idempotent", "off"), ("io", "uring")], "--io=auto"),
        (&[("kafka-client", "rskafka"), ("idempotent", "off"), ("retry", "3")], "--retry=off"),
        (&[("kafka-client", "rskafka"), ("idempotent", "off"), ("kafka-property", "retries=5")], "--retry 5"),
        (
            &[("kafka-client", "rskafka"), ("idempotent", "off"), ("kafka-property", "delivery.timeout.ms=60000")],
            "delivery",
        ),
        (
            &[
                ("kafka-client", "rskafka"),
                ("idempotent", "off"),
                ("kafka-property", "max.in.flight.requests.per.connection=5"),
            ],
            "it has one",
        ),
        (&[("batch-size", "4096")], "--batch-size 4096"),
        (&[("batch-size", "1Gi")], "100 MiB"),
        (&[("payload-size", "256Mi")], "100 MiB"),
        (&[("batch-size", "104857600")], "mend: --batch-size=104853504"),
        (&[("sasl-user", "me")], "--sasl-mechanism"),
        (&[("sasl-mechanism", "PLAIN"), ("sasl-user", "me")], "--sasl-password-file"),
        (&[("sasl-mechanism", "PLAIN"), ("sasl-user", "me"), ("sasl-password-file", "/dev/null")], "not an empty one"),
        (&[("tls-cert", "/dev/null")], "--tls-key"),
        (&[("acks", "0"), ("retry", "3")], "--acks 0"),
        (&[("block-size", "1Mi")], "--batch-size"),
    ] {
        let told = refused(&[&[url], more].concat());
        assert!(told.contains(word), "{more:?}: {told}");
    }
    for (name, says) in [
        ("DIGEST-MD5", "--sasl-mechanism: 'DIGEST-MD5' is none of PLAIN, "),
        (
            "GSSAPI",
            "--sasl-mechanism: 'GSSAPI': the engine does not speak Kerberos\n  mend: --sasl-mechanism=SCRAM-SHA-512",
        ),
        (
            "AWS_MSK_IAM",
            "--sasl-mechanism: 'AWS_MSK_IAM': the engine does not sign requests for AWS\n  mend: --sasl-mech",
        ),
    ] {
        let told = refused(&[url, ("sasl-mechanism", name), ("sasl-user", "me")]);
        assert!(told.contains(says) && !told.contains("needs a mechanism"), "{told}");
    }
    let large = plan(&[url, ("payload-size", "2Mi")]);
    assert!(kafka(&large).batch_bytes > 2 << 20 && large.sink.block_bytes == 2 << 20);
    assert_eq!(kafka(&large).batch_bytes_min, kafka(&large).batch_bytes, "one record, and what frames it");
    let (_file, path) = file("pa ss\r\n");
    let made = plan(&[url, ("sasl-mechanism", "SCRAM-SHA-512"), ("sasl-user", "me"), ("sasl-password-file", &path)]);
    let sasl = kafka(&made).sasl.as_ref().unwrap();
    assert_eq!((sasl.mechanism, sasl.user.as_str(), sasl.secret.expose()), (SaslMechanism::ScramSha512, "me", "pa ss"));
    assert!(!format!("{made:?}").contains("pa ss") && !plan_to_json(&made).to_string().contains("pa ss"));
}

#[test]
fn a_ring_has_a_place_for_all_that_a_slow_network_leaves_unacknowledged() {
    // Each connection: a receive, and as many requests as may be in flight, all taken and none released.
    let kafka = plan(&[("target", "kafka://localhost/t"), ("idempotent", "off")]);
    let TargetPlan::Kafka(of) = &kafka.producers[0].to else { panic!("no Kafka target") };
    assert!(links::operations(&kafka, &[8, 8]) >= 16 * (2 + of.in_flight_max));
    let http = plan(&[("target", "http://localhost/"), ("connections", "16"), ("http-pipeline", "64")]);
    assert!(links::operations(&http, &[16]) >= 16 * (2 + 64));
}

/// No reader of text takes a record header.
#[test]
fn the_type_of_a_body_is_that_of_its_templates_unless_they_have_a_header() {
    let folder = tempfile::tempdir().unwrap();
    let typed = |name: &str, text: &str, more: &[(&str, &str)]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        let flags = [("target", "http://localhost/"), ("payload-template", path.as_str())];
        http(&plan(&[&flags[..], more].concat())).headers[0].1.clone()
    };
    let (plain, numbered) = ("{\"kind\": \"plain\"}\n", "{\"n\": {{sequence}}}\n");
    let (lines, off) = (("template-lines", "on"), ("annotate", "off"));
    let many = ("http-records-per-request", "2");
    assert_eq!(typed("a.json", numbered, &[]), "application/json");
    assert_eq!(typed("a.json", plain, &[]), "application/octet-stream");
    assert_eq!(typed("a.json", plain, &[off]), "application/json");
    assert_eq!(typed("a.ndjson", plain, &[lines]), "application/octet-stream");
    assert_eq!(typed("a.ndjson", plain, &[lines, off]), "application/x-ndjson");
    assert_eq!(typed("a.json", plain, &[lines, off, many]), "application/x-ndjson");
}
