use super::*;

fn parse(text: &str, file: &str) -> Result<KafkaProperties, Vec<Fatal>> {
    parse_lines(text, |line| format!("{file}:{line}"))
}

fn read(text: &str) -> KafkaProperties {
    parse(text, "client.properties").unwrap_or_else(|errors| panic!("{text}\n{errors:?}"))
}

#[track_caller]
fn refused(text: &str, line: usize, parts: &[&str]) {
    let errors = parse(text, "client.properties").unwrap_err();
    let said = errors[0].to_string();
    assert!(said.starts_with(&format!("client.properties:{line}: ")), "{text}: {said}");
    for part in parts {
        assert!(said.contains(part), "{text}: '{part}' is not in: {said}");
    }
    assert!(errors[0].mend.is_some());
}

#[test]
fn a_whole_file() {
    let text = "\
# as for kafka-console-producer --command-config
bootstrap.servers = a:9092, [::1]:9093,c
security.protocol=SASL_SSL
sasl.mechanism: SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\
    username=\"ann\" \\
    password=\"pen cil\";
ssl.truststore.type=PEM
ssl.truststore.location=/etc/ca.pem
ssl.keystore.type=pem
ssl.keystore.location=/etc/client.pem
ssl.endpoint.identification.algorithm=
acks=all
enable.idempotence=true
linger.ms=20
batch.size=500000
compression.type=zstd
max.in.flight.requests.per.connection=3
delivery.timeout.ms=60000
request.timeout.ms=10000
client.id=tester
max.request.size=1048576
retries=7
key.serializer=org.apache.kafka.common.serialization.StringSerializer
";
    let expected = KafkaProperties {
        bootstrap: Some([("a", 9092), ("::1", 9093), ("c", 9092)].map(|(h, p)| (h.to_owned(), p)).to_vec()),
        protocol: Some(Protocol::SaslSsl),
        sasl_mechanism: Some(SaslMechanism::ScramSha512),
        login: Some(Login::Scram { user: "ann".to_owned(), password: Secret::new("pen cil") }),
        token_file: None,
        truststore: Some("/etc/ca.pem".into()),
        keystore: Some("/etc/client.pem".into()),
        verify_host: Some(false),
        acks: Some(-1),
        idempotent: Some(true),
        linger_ns: Some(20_000_000),
        batch_bytes: Some(500_000),
        compression: Some(Compression::Zstd),
        in_flight_max: Some(3),
        delivery_timeout_ns: Some(60_000_000_000),
        request_timeout_ns: Some(10_000_000_000),
        client_id: Some("tester".to_owned()),
        request_bytes_max: Some(1_048_576),
        retries: Some(7),
        notes: vec!["key.serializer is not used: the engine writes its records as bytes".to_owned()],
    };
    assert_eq!(read(text), expected);
    assert_eq!(read(""), KafkaProperties::default());
}

#[test]
fn the_last_one_holds() {
    assert_eq!(read("acks=0\nacks=1").acks, Some(1));
    // So an earlier mistake does not matter, as in Java.
    assert_eq!(read("acks=seven\nacks=1").acks, Some(1));
}

#[test]
fn every_mechanism_and_its_module() {
    let plain = "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n\
                 sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=a password=b;";
    assert_eq!(read(plain).login, Some(Login::Plain { user: "a".to_owned(), password: Secret::new("b") }));
    let token = "sasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.token.endpoint.url=file:///run/token\n\
                 sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;\n\
                 sasl.login.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler";
    let token = read(token);
    let alone = Some(Login::OauthBearer { extensions: Vec::new() });
    assert_eq!((token.login, token.token_file), (alone, Some("/run/token".into())));
    let other = plain.replace("sasl.mechanism=PLAIN", "sasl.mechanism=SCRAM-SHA-256");
    refused(&other, 2, &["another mechanism than SCRAM-SHA-256"]);
    let off = plain.replace("SASL_PLAINTEXT", "SSL");
    refused(&off, 2, &["no effect", "SASL_SSL"]);
}

#[test]
fn extensions_of_a_token_are_read_and_nothing_else_of_its_module() {
    let with = |options: &str| format!("sasl.jaas.config=a.OAuthBearerLoginModule required {options};");
    // Confluent Cloud's, with the token in a file.
    let said = with("extension_logicalCluster='lkc-1' extension_identityPoolId='pool-1'");
    let extensions = [("identityPoolId", "pool-1"), ("logicalCluster", "lkc-1")];
    let extensions = extensions.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    assert_eq!(read(&said).login, Some(Login::OauthBearer { extensions }));
    refused(&with("clientId='me' extension_logicalCluster='lkc-1'"), 1, &["does not make tokens ('clientId')"]);
    for wrong in ["auth='x'", "a1='x'", "='x'", "a=''", "a='\\u00e4'", "a='x\\u0001auth=y'"] {
        refused(&with(&format!("extension_{wrong}")), 1, &["a name of letters"]);
    }
}

/// The file that Confluent Cloud's console makes.
#[test]
fn a_cloud_s_own_file_is_read() {
    let text = "\
# Required connection configs for Kafka producer, consumer, and admin
bootstrap.servers=pkc-1.eu.example.com:9092
security.protocol=SASL_SSL
sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username='KEY' password='SECRET';
sasl.mechanism=PLAIN
# Required for correctness in Apache Kafka clients prior to 2.6
client.dns.lookup=use_all_dns_ips
# Best practice for higher availability in Apache Kafka clients prior to 3.0
session.timeout.ms=45000
# Best practice for Kafka producer to prevent data loss
acks=all
";
    let said = read(text);
    assert_eq!((said.protocol, said.acks, said.notes.len()), (Some(Protocol::SaslSsl), Some(-1), 1), "{said:?}");
    assert!(said.notes[0].starts_with("session.timeout.ms is not used"), "{:?}", said.notes);
    let more = read("group.id=g\nkey.deserializer=x\nvalue.deserializer=x");
    assert_eq!(more.notes.len(), 3, "{:?}", more.notes);
    refused("client.dns.lookup=resolve_canonical_bootstrap_servers_only", 1, &["client.dns.lookup=use_all_dns_ips"]);
    refused("buffer.memory=33554432", 1, &["'buffer.memory'", "--ring-size"]);
    refused("retry.backoff.ms=100", 1, &["--retry N,MIN-MAX"]);
}

#[test]
fn what_other_clients_call_it_leads_to_java_s_name() {
    for (line, mends) in [
        ("sasl.mechanisms=PLAIN", &["sasl.mechanism=", "--sasl-mechanism"]),
        ("sasl.username=me", &["sasl.jaas.config=", "--sasl-user"]),
        ("sasl.password=x", &["sasl.jaas.config=", "--sasl-password-file"]),
        ("ssl.ca.location=/ca", &["ssl.truststore.location=", "--tls-ca"]),
        ("ssl.certificate.location=/c", &["ssl.keystore.location=", "--tls-cert"]),
        ("ssl.key.location=/k", &["ssl.keystore.location=", "--tls-key"]),
        ("metadata.broker.list=a:1", &["the URL", "metadata.broker.list"]),
    ] {
        refused(line, 1, mends);
    }
    // Amazon's mechanism in all its places.
    for line in [
        "sasl.mechanism=AWS_MSK_IAM",
        "sasl.jaas.config=software.amazon.msk.auth.iam.IAMLoginModule required;",
        "sasl.client.callback.handler.class=software.amazon.msk.auth.iam.IAMClientCallbackHandler",
        "sasl.login.callback.handler.class=software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler",
    ] {
        refused(line, 1, &["OAUTHBEARER", "--sasl-password-file", "aws-msk-iam-sasl-signer"]);
    }
    refused("sasl.client.callback.handler.class=a.Mine", 1, &["leave it out"]);
}

#[test]
fn passwords_are_never_shown() {
    let said = |text: &str| format!("{:?}", parse(text, "f"));
    let jaas = |options: &str| format!("sasl.jaas.config=x.PlainLoginModule required {options}");
    for text in [
        jaas("username=a password=geheim;"),
        jaas("password=geheim;"),
        jaas("username=a password=geheim"),
        jaas("username=a password=\"geheim;"),
        jaas("username=a password=geheim more=geheim;"),
        jaas("username=a password=\"dom\\ugeheim\";"),
        "sasl.oauthbearer.token.endpoint.url=https://me:geheim@host/token?key=geheim".to_owned(),
        "sasl.jaas.config=geheim.X geheim".to_owned(),
    ] {
        let shown = said(&text);
        let module_alone = text.ends_with("geheim.X geheim");
        assert!(!shown.contains("gehe") || module_alone, "{shown}");
    }
}

#[test]
fn bootstrap_servers_are_read_as_kafka_does() {
    let expected = [("a", 1), ("b", 2), ("::1", 3)].map(|(host, port)| (host.to_owned(), port)).to_vec();
    assert_eq!(read("bootstrap.servers=SASL_SSL://a:1, b:2,,://[::1]:3,").bootstrap, Some(expected));
    refused("bootstrap.servers=a b://c:1", 1, &["bootstrap.servers"]);
    refused("bootstrap.servers=,", 1, &["names no host"]);
}

#[test]
fn lines_with_credentials_are_told_and_cut() {
    for (line, name) in [
        ("sasl.jaas.config=geheim", "sasl.jaas.config"),
        ("  sasl.jaas.config : geheim", "sasl.jaas.config"),
        ("sasl\\u002ejaas.config geheim", "sasl\\u002ejaas.config"),
        ("ssl.key.password=geheim", "ssl.key.password"),
        ("ssl.keystore.key=geheim", "ssl.keystore.key"),
    ] {
        assert!(has_credential(line), "{line}");
        assert_eq!(shown(line), format!("{name}=***"));
    }
    for line in ["acks=all", "sasl.mechanism=PLAIN", "key.serializer=x", "client.id=my password"] {
        assert!(!has_credential(line), "{line}");
        assert_eq!(shown(line), line);
    }
}

#[test]
fn what_is_not_known_to_be_harmless_is_not_shown() {
    for (line, cut) in [
        // What another line began.
        ("username=\"me\" password=\"geheim\";", "username=***"),
        ("acks=all\npassword=geheim", "acks=***"),
        ("sasl.oauthbearer.token.endpoint.url=https://me:geheim@host/", "sasl.oauthbearer.token.endpoint.url=***"),
        ("client.id=\\u12", "client.id=***"),
    ] {
        assert_eq!(shown(line), cut);
    }
    for key in SHOWN.iter().chain(OF_GROUPS) {
        let said = parse(&format!("{key}=\u{1}"), "f").map_or_else(|errors| errors[0].to_string(), |_| String::new());
        assert!(!said.contains("does not know") && !has_credential(&format!("{key}=x")), "{key}: {said}");
    }
}

#[test]
fn what_the_engine_cannot_do_is_an_error_with_its_line() {
    refused("acks=all\ntransactional.id=t", 2, &["transactional.id", "without transactions"]);
    refused("\n\npartitioner.class=x", 3, &["partitioner.class"]);
    refused("sasl.kerberos.service.name=kafka", 1, &["sasl.kerberos.service.name"]);
    refused("ssl.key.password=x", 1, &["openssl pkcs8"]);
    refused("ssl.truststore.certificates=x", 1, &["ssl.truststore.location"]);
    refused("sasl.mechanism=GSSAPI", 1, &["GSSAPI", "Kerberos", "SCRAM-SHA-512"]);
    refused("sasl.jaas.config=a.Krb5LoginModule required;", 1, &["Krb5LoginModule"]);
    let token = "sasl.jaas.config=a.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"x\";";
    refused(token, 1, &["does not make tokens", "--sasl-password-file"]);
    refused("sasl.oauthbearer.token.endpoint.url=https://a/b", 1, &["https://a/b", "file:///"]);
    refused("security.protocol=TLS", 1, &["'TLS'", "SASL_SSL"]);
    refused("bootstrap.servers=a:b", 1, &["bootstrap.servers"]);
    refused("acks=2", 1, &["'2'", "acks=all"]);
    refused("enable.idempotence=yes", 1, &["true or false"]);
    refused("linger.ms=-1", 1, &["'-1'"]);
    refused("linger.ms=5s", 1, &["'5s'"]);
    refused("request.timeout.ms=0", 1, &["'0'", "from 1 to 2147483647"]);
    refused("request.timeout.ms=2147483648", 1, &["'2147483648'"]);
    refused("delivery.timeout.ms=0", 1, &["'0'"]);
    refused("retries=-1", 1, &["'-1'"]);
    refused("batch.size=99999999999", 1, &["99999999999"]);
    refused("compression.type=brotli", 1, &["brotli", "zstd"]);
    refused("max.in.flight.requests.per.connection=0", 1, &["'0'"]);
    refused("delivery.timeout.ms=1000\nrequest.timeout.ms=2000", 1, &["delivery.timeout.ms"]);
    refused("a=\\u12", 1, &["hexadecimal"]);
    let all = parse("acks=2\nx=1\nlinger.ms=z", "f").unwrap_err();
    assert_eq!(all.len(), 3, "everything at once: {all:?}");
}

#[test]
fn stores_that_are_no_pem_say_how_to_make_one() {
    refused("ssl.truststore.location=/a.jks", 1, &["is JKS", "keytool -importkeystore", "-nokeys", "/a.jks.pem"]);
    let keystore = "ssl.keystore.type=PKCS12\nssl.keystore.location=/a.p12";
    refused(keystore, 2, &["is PKCS12", "openssl pkcs12 -in /a.p12 -nodes"]);
    refused("ssl.keystore.type=BKS\nssl.keystore.location=/a", 1, &["BKS"]);
}
