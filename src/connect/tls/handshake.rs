//! The handshake, blocking. Records are read one by one and whole, so that not a byte of what follows is taken.

use super::session::TlsSession;
use crate::base::fatal::{Exit, Fatal};
use crate::connect::peer::shown;
use crate::plan::{PeerPlan, TlsPlan};
use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, InsufficientSizeError};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error};
use rustls_pki_types::ServerName;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

/// Of a record and of the messages of one side: no honest certificate chain is larger.
const RECORD_BYTES_MAX: usize = 16 * 1024 + 2048;
const FLIGHT_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug)]
pub enum HandshakeError {
    Io(io::Error),
    Tls(Error),
}

/// What a step of rustls asks for.
enum Next {
    Again,
    Send,
    Receive,
    Done,
}

/// # Errors
/// The peer is told why, as far as it listens.
pub fn handshake(
    stream: &TcpStream,
    config: &Arc<ClientConfig>,
    plan: &TlsPlan,
    deadline: Instant,
) -> Result<TlsSession, HandshakeError> {
    // The zone of an address is a name that this host has for one of its links: no certificate knows it.
    let name = plan.server_name.split('%').next().unwrap_or_default().to_owned();
    let name = ServerName::try_from(name).map_err(|why| general(format!("server name: {why}")))?;
    let mut connection = UnbufferedClientConnection::new(config.clone(), name).map_err(HandshakeError::Tls)?;
    let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
    loop {
        let status = connection.process_tls_records(&mut incoming);
        let discard = status.discard;
        let next = match status.state {
            Ok(state) => step(state, &mut outgoing),
            Err(why) => {
                incoming.drain(..discard);
                farewell(&mut connection, &mut incoming, outgoing, stream, deadline);
                return Err(HandshakeError::Tls(why));
            }
        }?;
        incoming.drain(..discard);
        match next {
            Next::Again => {}
            Next::Send => {
                write_all(stream, &outgoing, deadline).map_err(HandshakeError::Io)?;
                outgoing.clear();
            }
            Next::Receive => receive(stream, &mut incoming, deadline)?,
            Next::Done if incoming.is_empty() => break,
            Next::Done => return Err(general("bytes behind the handshake".to_owned())),
        }
    }
    let (secrets, kernel) = connection.dangerous_into_kernel_connection().map_err(HandshakeError::Tls)?;
    TlsSession::new(secrets, kernel).map_err(HandshakeError::Tls)
}

fn general(what: String) -> HandshakeError {
    HandshakeError::Tls(Error::General(what))
}

fn step<Data>(state: ConnectionState<'_, '_, Data>, outgoing: &mut Vec<u8>) -> Result<Next, HandshakeError> {
    Ok(match state {
        ConnectionState::EncodeTlsData(mut data) => {
            let start = outgoing.len();
            let wanted = match data.encode(&mut []) {
                Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => required_size,
                _ => 0,
            };
            outgoing.resize(start + wanted, 0);
            data.encode(&mut outgoing[start..]).map_err(|why| general(why.to_string()))?;
            Next::Again
        }
        ConnectionState::TransmitTlsData(sent) => {
            sent.done();
            Next::Send
        }
        ConnectionState::BlockedHandshake => Next::Receive,
        ConnectionState::WriteTraffic(_) => Next::Done,
        ConnectionState::PeerClosed | ConnectionState::Closed => {
            return Err(HandshakeError::Io(ErrorKind::UnexpectedEof.into()));
        }
        _ => return Err(general("application data in the handshake".to_owned())),
    })
}

/// Sends what is left to say, the alert first of all, if anyone listens.
fn farewell(
    connection: &mut UnbufferedClientConnection,
    incoming: &mut Vec<u8>,
    mut outgoing: Vec<u8>,
    stream: &TcpStream,
    deadline: Instant,
) {
    loop {
        let status = connection.process_tls_records(incoming);
        let discard = status.discard;
        let again = status.state.is_ok_and(|state| matches!(step(state, &mut outgoing), Ok(Next::Again)));
        incoming.drain(..discard);
        if !again {
            break;
        }
    }
    // The peer may be gone; why the handshake failed is known already.
    let _unheard = write_all(stream, &outgoing, deadline);
}

/// One record to the end of `incoming`.
fn receive(mut stream: &TcpStream, incoming: &mut Vec<u8>, deadline: Instant) -> Result<(), HandshakeError> {
    let mut fill = |into: &mut [u8]| {
        let mut at = 0;
        while at < into.len() {
            stream.set_read_timeout(Some(left(deadline)?))?;
            match stream.read(&mut into[at..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => at += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let mut header = [0; 5];
    fill(&mut header).map_err(HandshakeError::Io)?;
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    // Handshake, change of cipher, alert, data: anything else was never TLS.
    if !(20..=23).contains(&header[0]) || header[1] != 3 || length > RECORD_BYTES_MAX {
        return Err(HandshakeError::Tls(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)));
    }
    if incoming.len() + length > FLIGHT_BYTES_MAX {
        return Err(HandshakeError::Tls(Error::PeerSentOversizedRecord));
    }
    incoming.extend_from_slice(&header);
    let start = incoming.len();
    incoming.resize(start + length, 0);
    fill(&mut incoming[start..]).map_err(HandshakeError::Io)
}

fn write_all(mut stream: &TcpStream, bytes: &[u8], deadline: Instant) -> io::Result<()> {
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(bytes)
}

/// Never zero, which would mean no limit.
fn left(deadline: Instant) -> io::Result<std::time::Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

impl HandshakeError {
    /// An alert that came behind the handshake: in TLS 1.3 the client is ready before the peer has looked at it.
    pub fn of_alert(description: u8) -> Self {
        HandshakeError::Tls(Error::AlertReceived(AlertDescription::from(description)))
    }

    /// What to tell the user, and what mends it.
    pub fn fatal(&self, peer: &PeerPlan, plan: &TlsPlan) -> Fatal {
        let at = shown(peer);
        let (why, mend) = match self {
            HandshakeError::Io(error) => match error.kind() {
                ErrorKind::TimedOut | ErrorKind::WouldBlock => (
                    format!("no answer in {} s", peer.connect_timeout_ns as f64 / 1e9),
                    format!("does it speak TLS? openssl s_client -connect {at}"),
                ),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => (
                    "the peer hung up".to_owned(),
                    format!("a port with TLS, and --tls-cert if it wants one: openssl s_client -connect {at}"),
                ),
                _ => (error.to_string(), format!("openssl s_client -connect {at}")),
            },
            HandshakeError::Tls(Error::InvalidCertificate(why)) => of_certificate(why, plan, &at),
            HandshakeError::Tls(Error::AlertReceived(alert)) => {
                (format!("the peer refused it: {alert:?}"), mend_of_alert(*alert, &at))
            }
            HandshakeError::Tls(Error::InvalidMessage(_)) => (
                "what answers there does not speak TLS".to_owned(),
                "the port with TLS, or a URL without it".to_owned(),
            ),
            HandshakeError::Tls(why) => (why.to_string(), format!("openssl s_client -connect {at}")),
        };
        Fatal::new(Exit::Unreachable, format!("{at}: TLS handshake: {why}")).mend(mend)
    }
}

fn mend_of_alert(alert: AlertDescription, at: &str) -> String {
    let certificate = "--tls-cert and --tls-key with a certificate that it accepts";
    let look = format!("openssl s_client -connect {at}");
    match alert {
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::CertificateRequired => certificate.to_owned(),
        // Some servers say no more where a certificate is missing.
        AlertDescription::HandshakeFailure => format!("{certificate}, or another cipher suite there: {look}"),
        AlertDescription::ProtocolVersion => "TLS 1.2 or 1.3 there".to_owned(),
        AlertDescription::UnrecognisedName => "another host name in --target".to_owned(),
        AlertDescription::NoApplicationProtocol => "HTTP/1.1 there".to_owned(),
        _ => look,
    }
}

fn of_certificate(why: &CertificateError, plan: &TlsPlan, at: &str) -> (String, String) {
    let look =
        format!("openssl s_client -connect {at} </dev/null | openssl x509 -noout -dates -subject -ext subjectAltName");
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("the peer's certificate has expired".to_owned(), format!("renew it there; {look}"))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("the peer's certificate is not valid yet".to_owned(), format!("is this clock right? date -u; {look}"))
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("the peer's certificate is not made out to '{}' ({why})", plan.server_name),
            format!("a name from it in --target: {look}"),
        ),
        CertificateError::UnknownIssuer => (
            "the authority behind the peer's certificate is not trusted".to_owned(),
            "--tls-ca=FILE with that authority".to_owned(),
        ),
        CertificateError::BadSignature => (
            "the peer's certificate is not trusted: an authority of that name is, but its key did not sign it"
                .to_owned(),
            "--tls-ca=FILE with the authority that signed it, or of a self-signed one the certificate itself"
                .to_owned(),
        ),
        // webpki's error, which rustls has no name for.
        CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => (
            "the server shows an authority's certificate as its own (CA:TRUE)".to_owned(),
            "make the server's own: openssl req -x509 … -addext basicConstraints=critical,CA:FALSE".to_owned(),
        ),
        _ => (format!("the peer's certificate cannot be accepted: {why}"), look),
    }
}
