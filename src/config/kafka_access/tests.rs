use super::*;
use tempfile::TempDir;

fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn good(flags: &AccessFlags) -> KafkaAccess {
    let mut errors = Vec::new();
    let access = access(flags, &mut errors);
    assert!(errors.is_empty(), "{errors:?}");
    access
}

#[track_caller]
fn bad(flags: &AccessFlags, part: &str) {
    let mut errors = Vec::new();
    access(flags, &mut errors);
    let said = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(said.contains(part), "'{part}' is not in: {said}");
}

#[test]
fn nothing_said_is_plain() {
    assert_eq!(good(&AccessFlags::default()), KafkaAccess::default());
}

#[test]
fn a_file_says_all_and_flags_win() {
    let folder = TempDir::new().unwrap();
    let config = "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n\
                  sasl.jaas.config=a.PlainLoginModule required username=a password=b;\n\
                  ssl.truststore.type=PEM\nssl.truststore.location=/ca\n\
                  ssl.keystore.type=PEM\nssl.keystore.location=/both\nrequest.timeout.ms=500\nbootstrap.servers=x:1";
    let mut flags = AccessFlags { config: Some(file(&folder, "c", config)), ..AccessFlags::default() };
    let access = good(&flags);
    let tls = access.tls.unwrap();
    assert_eq!((tls.ca, tls.cert, tls.verify_host), (Some("/ca".into()), tls.key, true));
    let sasl = access.sasl.unwrap();
    assert_eq!((sasl.mechanism, sasl.user.as_str(), sasl.secret.expose()), (SaslMechanism::Plain, "a", "b"));
    assert_eq!((access.timeout_ns, access.notes.len()), (500_000_000, 1));

    flags.tls_ca = Some("/other".into());
    flags.sasl_user = Some("u".to_owned());
    flags.sasl_password = Some(file(&folder, "p", "secret\n"));
    flags.properties = vec!["request.timeout.ms=700".to_owned()];
    let access = good(&flags);
    assert_eq!(access.tls.unwrap().ca, Some("/other".into()));
    let sasl = access.sasl.unwrap();
    assert_eq!((sasl.user.as_str(), sasl.secret.expose(), access.timeout_ns), ("u", "secret", 700_000_000));
}

#[test]
fn a_property_is_one_line_and_none_goes_on_in_the_next() {
    let jaas = ["sasl.jaas.config=a.PlainLoginModule required \\", "username=\"me\" password=\"pa55\";"];
    for given in [jaas.map(str::to_owned).to_vec(), vec![jaas.join("\n")]] {
        let mut errors = Vec::new();
        assert!(properties(None, &given, &mut errors).is_none());
        let said = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(said.contains("one property, on one line") && !said.contains("pa55"), "{said}");
    }
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "c", "linger.ms=7\\");
    let mut errors = Vec::new();
    let said = properties(Some(&path), &["acks=1".to_owned()], &mut errors).unwrap();
    assert_eq!((said.linger_ns, said.acks), (Some(7_000_000), Some(1)), "{errors:?}");
}

#[test]
fn what_is_wrong_is_named_after_the_file_s_line_or_the_flag() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "c", "linger.ms=7\nacks=8");
    for (config, origins) in [(Some(path.as_path()), 2), (None, 1)] {
        let mut errors = Vec::new();
        assert!(properties(config, &["retries=x".to_owned()], &mut errors).is_none());
        let told: Vec<_> = errors.iter().map(|error| error.what.as_str()).collect();
        assert!(told.len() == origins && told[origins - 1].starts_with("--kafka-property: retries 'x'"), "{told:?}");
        assert!(config.is_none() || told[0].starts_with(&format!("{}:2: acks '8'", path.display())), "{told:?}");
    }
}

#[test]
fn flags_alone_are_enough() {
    let folder = TempDir::new().unwrap();
    let flags = AccessFlags {
        sasl_mechanism: Some(SaslMechanism::OauthBearer),
        sasl_password: Some(file(&folder, "t", "token")),
        ..AccessFlags::default()
    };
    let sasl = good(&flags).sasl.unwrap();
    assert_eq!((sasl.mechanism, sasl.user.as_str(), sasl.secret.expose()), (SaslMechanism::OauthBearer, "", "token"));
    let tls = AccessFlags { properties: vec!["security.protocol=SSL".to_owned()], ..AccessFlags::default() };
    assert_eq!(good(&tls).tls.unwrap().ca, None, "the system's authorities");
}

#[test]
fn extensions_go_with_a_token_and_no_password() {
    let folder = TempDir::new().unwrap();
    let token = file(&folder, "t", "token");
    let config = format!(
        "security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\n\
         sasl.jaas.config=a.OAuthBearerLoginModule required extension_logicalCluster='lkc-1';\n\
         sasl.oauthbearer.token.endpoint.url=file://{}\n",
        token.display()
    );
    let flags = AccessFlags { config: Some(file(&folder, "c", &config)), ..AccessFlags::default() };
    let sasl = good(&flags).sasl.unwrap();
    assert_eq!(sasl.secret.expose(), "token");
    assert_eq!(sasl.extensions, [("logicalCluster".to_owned(), "lkc-1".to_owned())]);
    let (mechanism, user) = (Some(SaslMechanism::Plain), Some("me".to_owned()));
    let flags = AccessFlags { sasl_mechanism: mechanism, sasl_user: user, sasl_password: Some(token), ..flags };
    assert!(good(&flags).sasl.unwrap().extensions.is_empty());
}

#[test]
fn what_does_not_go_together() {
    let with = |change: &dyn Fn(&mut AccessFlags)| {
        let mut flags = AccessFlags::default();
        change(&mut flags);
        flags
    };
    bad(&with(&|f| f.tls_cert = Some("/c".into())), "--tls-cert needs its key");
    bad(&with(&|f| f.sasl_user = Some("u".to_owned())), "needs a mechanism");
    bad(&with(&|f| f.sasl_mechanism = Some(SaslMechanism::Plain)), "PLAIN needs a user");
    bad(&with(&|f| f.sasl_mechanism = Some(SaslMechanism::OauthBearer)), "needs a password or token");
    bad(&with(&|f| f.config = Some("/nowhere/c".into())), "/nowhere/c");
    bad(&with(&|f| f.properties = vec!["acks".to_owned()]), "KEY=VALUE");
    bad(&with(&|f| f.properties = vec!["security.protocol=SASL_SSL".to_owned()]), "needs a mechanism");
    bad(&with(&|f| f.properties = vec!["sasl.jaas.config=x y;".to_owned()]), "seen by everyone");
    bad(&with(&|f| f.properties = vec!["sasl\\.jaas.config=x y;".to_owned()]), "seen by everyone");
    bad(&with(&|f| f.properties = vec!["sasl.jaas.config x".to_owned()]), "'sasl.jaas.config' is not KEY=VALUE");
    let plain = |f: &mut AccessFlags| f.properties = vec!["security.protocol=PLAINTEXT".to_owned()];
    bad(&with(&|f| (plain(f), f.tls_ca = Some("/c".into())).1), "no effect");
    bad(&with(&|f| (plain(f), f.sasl_mechanism = Some(SaslMechanism::Plain)).1), "no effect");
}

#[test]
fn properties_that_need_a_protocol_are_told_without_one() {
    let folder = TempDir::new().unwrap();
    let config = "sasl.mechanism=PLAIN\nsasl.jaas.config=a.PlainLoginModule required username=a password=b;\n\
                  ssl.truststore.type=PEM\nssl.truststore.location=/ca\n";
    let with = |more: &str| AccessFlags {
        config: Some(file(&folder, "c", &format!("{config}{more}"))),
        ..AccessFlags::default()
    };
    let told = |flags: &AccessFlags| good(flags).notes.join("\n");
    let notes = told(&with(""));
    assert!(notes.contains("sasl.* is not used") && notes.contains("ssl.* is not used"), "{notes}");
    assert_eq!(told(&with("security.protocol=SASL_SSL")), "");
    // The flags turn on what the properties alone do not.
    let notes = told(&AccessFlags { sasl_mechanism: Some(SaslMechanism::Plain), ..with("") });
    assert!(!notes.contains("sasl.* is not used") && notes.contains("ssl.* is not used"), "{notes}");
    let notes = told(&AccessFlags { tls_ca: Some("/other".into()), ..with("") });
    assert!(notes.contains("sasl.* is not used") && !notes.contains("ssl.* is not used"), "{notes}");
}

#[test]
fn a_user_or_password_that_nobody_uses_is_said() {
    let folder = TempDir::new().unwrap();
    let user = |properties: &str| AccessFlags {
        properties: vec![properties.to_owned()],
        sasl_user: Some("me".to_owned()),
        ..AccessFlags::default()
    };
    bad(&user("security.protocol=SSL"), "--sasl-user has no effect with this security.protocol");
    bad(&user("sasl.mechanism=PLAIN"), "--sasl-user has no effect: sasl.mechanism alone");
    let password = Some(file(&folder, "p", "secret"));
    let flags = AccessFlags { sasl_password: password.clone(), sasl_user: None, ..user("security.protocol=PLAINTEXT") };
    bad(&flags, "--sasl-password-file has no effect");
    let flags = AccessFlags {
        sasl_mechanism: Some(SaslMechanism::OauthBearer),
        sasl_password: password,
        ..user("request.timeout.ms=1000")
    };
    bad(&flags, "--sasl-user 'me' has no effect");
}

#[test]
fn a_file_is_latin_1_as_java_reads_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("c");
    std::fs::write(&path, b"client.id=caf\xe9 \\u20ac\n").unwrap();
    let read = |more: &[String]| {
        let mut errors = Vec::new();
        let said = properties(Some(&path), more, &mut errors);
        said.unwrap_or_else(|| panic!("{errors:?}"))
    };
    let said = read(&[]);
    assert_eq!((said.client_id.as_deref(), said.notes.len()), (Some("caf\u{e9} \u{20ac}"), 0));
    // What comes as a flag is text already.
    assert_eq!(read(&["client.id=\u{e9}".to_owned()]).client_id.as_deref(), Some("\u{e9}"));
    std::fs::write(&path, "client.id=caf\u{e9}\n").unwrap();
    let said = read(&[]);
    assert_eq!(said.client_id.as_deref(), Some("caf\u{c3}\u{a9}"));
    assert!(said.notes[0].contains("ISO-8859-1"), "{:?}", said.notes);
}
