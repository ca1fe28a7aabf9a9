//! Authentication on a fresh connection: `SaslHandshake`, then the mechanism's messages in `SaslAuthenticate`.

use super::answers;
use super::error::KafkaError;
use super::session::{Session, Stream};
use crate::plan::{SaslMechanism, SaslPlan};
use crate::wire::kafka::errors::{ILLEGAL_SASL_STATE, broker_error};
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use rsasl::callback::{Context, Request, SessionCallback, SessionData};
use rsasl::prelude::{Mechname, MessageSent, SASLClient, SASLConfig, SessionError, State};
use rsasl::property::{AuthId, Password};
use std::io::Cursor;
use std::time::Duration;

/// Messages that one exchange may take: SCRAM needs two, a refused token two.
const STEPS_MAX: usize = 4;
/// Rounds of key derivation: Kafka's own least, and far more than anyone configures (a second of work).
const SCRAM_ITERATIONS: std::ops::RangeInclusive<u32> = 4096..=2_000_000;

pub(super) fn authenticate<S: Stream>(session: &mut Session<S>, plan: &SaslPlan) -> Result<(), KafkaError> {
    handshake(session, plan.mechanism)?;
    match plan.mechanism {
        SaslMechanism::OauthBearer => token(session, plan),
        SaslMechanism::Plain | SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512 => password(session, plan),
    }
}

fn refused(what: impl Into<String>) -> KafkaError {
    KafkaError::Sasl { what: what.into() }
}

fn handshake<S: Stream>(session: &mut Session<S>, mechanism: SaslMechanism) -> Result<(), KafkaError> {
    let doing = "choosing the SASL mechanism";
    let version = session.pick::<SaslHandshakeRequest>(doing, (1, 1))?;
    let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism.name()));
    let (code, enabled) = session.call(doing, version, &request, answers::sasl_handshake)?;
    if code == 0 {
        return Ok(());
    }
    // What a listener without SASL says.
    if enabled.is_empty() || code == ILLEGAL_SASL_STATE {
        return Err(KafkaError::NoLogin);
    }
    // In the brokers' words, but not without end.
    let enabled: String = enabled.join(", ").chars().take(200).collect();
    Err(refused(format!("{} is not enabled, but {enabled}: {}", mechanism.name(), broker_error(code))))
}

/// One message; what the broker answers it.
fn send<S: Stream>(session: &mut Session<S>, message: Vec<u8>) -> Result<Vec<u8>, KafkaError> {
    let doing = "authenticating";
    let version = session.pick::<SaslAuthenticateRequest>(doing, (0, 1))?;
    let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
    let ((code, said), bytes, lifetime_ms) = session.call(doing, version, &request, |fields| {
        answers::sasl_authenticate(fields, version).map(|(verdict, bytes, ms)| (verdict, bytes.to_vec(), ms))
    })?;
    if code != 0 {
        return Err(refused(said.filter(|said| !said.is_empty()).unwrap_or_else(|| broker_error(code).to_string())));
    }
    session.lifetime = u64::try_from(lifetime_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
    Ok(bytes)
}

/// RFC 7628, with the extensions of KIP-342. A broker that does not like the token answers with a reason, and with the
/// error only after that.
fn token<S: Stream>(session: &mut Session<S>, plan: &SaslPlan) -> Result<(), KafkaError> {
    let mut message = format!("n,,\u{1}auth=Bearer {}", plan.secret_now().expose());
    for (name, value) in &plan.extensions {
        message.push_str(&format!("\u{1}{name}={value}"));
    }
    message.push_str("\u{1}\u{1}");
    let reason = send(session, message.into_bytes())?;
    if reason.is_empty() {
        return Ok(());
    }
    let reason: String = String::from_utf8_lossy(&reason).chars().take(200).collect();
    match send(session, vec![1]) {
        // Kafka gives the same reason twice.
        Err(KafkaError::Sasl { what }) if what.contains(&reason) => Err(refused(what)),
        Err(KafkaError::Sasl { what }) => Err(refused(format!("{what} {reason}"))),
        Err(error) => Err(error),
        Ok(_) => Err(refused(format!("the token is refused: {reason}"))),
    }
}

struct Credentials {
    user: String,
    password: String,
}

impl SessionCallback for Credentials {
    fn callback(&self, _: &SessionData, _: &Context<'_>, request: &mut Request<'_>) -> Result<(), SessionError> {
        request.satisfy::<AuthId>(&self.user)?.satisfy::<Password>(self.password.as_bytes())?;
        Ok(())
    }
}

fn password<S: Stream>(session: &mut Session<S>, plan: &SaslPlan) -> Result<(), KafkaError> {
    let credentials = Credentials { user: plan.user.clone(), password: plan.secret_now().expose().to_owned() };
    let failed = |error: &dyn std::fmt::Display| refused(format!("{}: {error}", plan.mechanism.name()));
    let config = SASLConfig::builder().with_default_mechanisms().with_callback(credentials);
    let config = config.map_err(|error| failed(&error))?;
    let name = Mechname::parse(plan.mechanism.name().as_bytes()).map_err(|error| failed(&error))?;
    let mut exchange = SASLClient::new(config).start_suggested(&[name]).map_err(|error| failed(&error))?;
    let mut said: Option<Vec<u8>> = None;
    for _ in 0..STEPS_MAX {
        if let Some(said) = &said {
            check_scram(said).map_err(refused)?;
        }
        let mut message = Cursor::new(Vec::new());
        let state = exchange.step(said.as_deref(), &mut message).map_err(|error| failed(&error))?;
        match state {
            State::Finished(MessageSent::No) => return Ok(()),
            State::Finished(MessageSent::Yes) => return send(session, message.into_inner()).map(drop),
            State::Running => said = Some(send(session, message.into_inner())?),
        }
    }
    Err(refused("the broker does not come to an end"))
}

/// Only SCRAM has messages of the broker. rsasl slices the two bytes of `NAME=` off each of their parts, and panics
/// where they are not there; and `i=ROUNDS` of the first message is work for us.
fn check_scram(said: &[u8]) -> Result<(), String> {
    if said.split(|byte| *byte == b',').any(|part| part.len() < 2) {
        return Err("the broker's message is no SCRAM".to_owned());
    }
    let said = String::from_utf8_lossy(said);
    let Some(rounds) = said.split(',').find_map(|part| part.strip_prefix("i=")) else { return Ok(()) };
    match rounds.parse::<u32>() {
        Ok(rounds) if SCRAM_ITERATIONS.contains(&rounds) => Ok(()),
        _ => {
            let (least, most) = SCRAM_ITERATIONS.into_inner();
            let rounds: String = rounds.chars().take(20).collect();
            Err(format!("the broker wants {rounds} SCRAM iterations; from {least} to {most} are accepted"))
        }
    }
}

#[cfg(test)]
mod tests;
