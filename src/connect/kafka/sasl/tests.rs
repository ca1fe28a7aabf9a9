use super::super::cluster::Client;
use super::super::testing::{self, Fake, body, client};
use super::*;
use crate::plan::Secret;
use kafka_protocol::messages::{SaslAuthenticateResponse, SaslHandshakeResponse};

fn sasl(mechanism: SaslMechanism) -> SaslPlan {
    let (user, secret) = ("ann".to_owned(), Secret::new("pencil"));
    SaslPlan { mechanism, user, secret, secret_file: None, extensions: Vec::new() }
}

fn open(fake: Fake, sasl: SaslPlan) -> Result<Session<Fake>, KafkaError> {
    Client { sasl: Some(sasl), ..client() }.open(fake)
}

/// Authenticates against a broker that answers each of our messages by `reply`: error code, and bytes or its message.
fn login(
    mechanism: SaslMechanism,
    reply: impl FnMut(&[u8]) -> (i16, Vec<u8>) + Send + 'static,
) -> Result<Session<Fake>, KafkaError> {
    login_as(sasl(mechanism), reply)
}

fn login_as(
    plan: SaslPlan,
    mut reply: impl FnMut(&[u8]) -> (i16, Vec<u8>) + Send + 'static,
) -> Result<Session<Fake>, KafkaError> {
    let mechanism = plan.mechanism;
    let fake = Fake::new(move |asked| {
        testing::versions(asked).or_else(|| match asked.key {
            17 => {
                let request: SaslHandshakeRequest = asked.decode();
                assert_eq!(&*request.mechanism, mechanism.name());
                Some(body(&SaslHandshakeResponse::default(), asked.version))
            }
            _ => {
                let request: SaslAuthenticateRequest = asked.decode();
                let (code, bytes) = reply(&request.auth_bytes);
                let said = (code != 0).then(|| StrBytes::from_string(String::from_utf8_lossy(&bytes).into_owned()));
                let answer = SaslAuthenticateResponse::default()
                    .with_error_code(code)
                    .with_error_message(said)
                    .with_session_lifetime_ms(60_000)
                    .with_auth_bytes(bytes.into());
                Some(body(&answer, asked.version))
            }
        })
    });
    open(fake, plan)
}

fn login_error(mechanism: SaslMechanism, reply: impl FnMut(&[u8]) -> (i16, Vec<u8>) + Send + 'static) -> String {
    match login(mechanism, reply) {
        Ok(_) => panic!("that should have failed"),
        Err(error) => {
            let shown = error.fatal("b").to_string();
            assert!(matches!(error, KafkaError::Sasl { .. }) && !shown.contains("pencil"), "{shown}");
            shown
        }
    }
}

#[test]
fn plain_and_tokens() {
    let session = login(SaslMechanism::Plain, |message| {
        assert_eq!(message, b"\0ann\0pencil");
        (0, Vec::new())
    })
    .unwrap();
    assert_eq!(session.lifetime(), Some(Duration::from_secs(60)));
    let token = |message: &[u8]| {
        assert_eq!(message, b"n,,\x01auth=Bearer pencil\x01\x01");
        (0, Vec::new())
    };
    assert!(login(SaslMechanism::OauthBearer, token).is_ok());
    let extensions = [("logicalCluster", "lkc-1"), ("identityPoolId", "pool-1")];
    let extensions = extensions.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let extended = |message: &[u8]| {
        assert_eq!(message, b"n,,\x01auth=Bearer pencil\x01logicalCluster=lkc-1\x01identityPoolId=pool-1\x01\x01");
        (0, Vec::new())
    };
    assert!(login_as(SaslPlan { extensions, ..sasl(SaslMechanism::OauthBearer) }, extended).is_ok());
    assert!(login_error(SaslMechanism::Plain, |_| (58, Vec::new())).contains("SASL_AUTHENTICATION_FAILED"));
    let reason: &'static [u8] = b"{\"status\":\"invalid_token\"}";
    for again in [b"".as_slice(), reason] {
        let refused = login_error(SaslMechanism::OauthBearer, move |message| match message {
            [1] => (58, again.to_vec()),
            _ => (0, reason.to_vec()),
        });
        assert_eq!(refused.matches("invalid_token").count(), 1, "{refused}");
    }
}

/// A broker's first SCRAM message, to ours.
fn scram_first(message: &[u8], rounds: &str) -> Vec<u8> {
    let nonce = String::from_utf8_lossy(message).split("r=").nth(1).unwrap_or_default().to_owned();
    format!("r={nonce}xyz,s=QSXCR+Q6sek8bf92,i={rounds}").into_bytes()
}

#[test]
fn a_broker_has_to_prove_itself_and_costs_little() {
    // Anyone could say "welcome"; only who knows the password can sign the exchange.
    let forged = login_error(SaslMechanism::ScramSha256, move |message| match message.starts_with(b"n,,") {
        true => (0, scram_first(message, "4096")),
        false => (0, b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_vec()),
    });
    assert!(forged.contains("SCRAM-SHA-256"), "{forged}");
    for rounds in ["4000000000", "1", "x", "99999999999"] {
        let costly = login_error(SaslMechanism::ScramSha512, move |message| (0, scram_first(message, rounds)));
        assert!(costly.contains("iterations"), "{costly}");
    }
}

#[test]
fn what_is_no_scram_is_refused() {
    for said in [b"".as_slice(), b"x", b"r=x,", b"r=x,s", b"r=x,s=y,", b"r=x,s=y,i"] {
        let first = login_error(SaslMechanism::ScramSha256, move |_| (0, said.to_vec()));
        assert!(first.contains("no SCRAM"), "{said:?}: {first}");
    }
    for said in [b"".as_slice(), b"x", b",v=AAAA"] {
        let last = login_error(SaslMechanism::ScramSha512, move |message| match message.starts_with(b"n,,") {
            true => (0, scram_first(message, "4096")),
            false => (0, said.to_vec()),
        });
        assert!(last.contains("no SCRAM"), "{said:?}: {last}");
    }
}

#[test]
fn a_mechanism_that_is_not_enabled_is_named_with_those_that_are() {
    let fake = Fake::new(|asked| {
        testing::versions(asked).or_else(|| {
            let answer = SaslHandshakeResponse::default()
                .with_error_code(33)
                .with_mechanisms(vec![StrBytes::from_static_str("PLAIN")]);
            Some(body(&answer, asked.version))
        })
    });
    let error = open(fake, sasl(SaslMechanism::ScramSha256)).map(drop).unwrap_err().to_string();
    assert!(error.contains("SCRAM-SHA-256 is not enabled, but PLAIN"), "{error}");
}

#[test]
fn a_listener_without_sasl_is_told_from_one_with_other_mechanisms() {
    for code in [33, 34] {
        let fake = Fake::new(move |asked| {
            let answer = SaslHandshakeResponse::default().with_error_code(code);
            testing::versions(asked).or_else(|| Some(body(&answer, asked.version)))
        });
        let error = open(fake, sasl(SaslMechanism::Plain)).map(drop);
        let told = error.unwrap_err().fatal("b").to_string();
        assert!(told.contains("this listener wants no login") && told.contains("leave out --sasl-"), "{told}");
    }
}
