//! Against rustls as the server: every version and cipher, changes of keys, tickets, and certificates that must not be
//! accepted.

use super::testing::{ServerStream, Setting, USUAL, connected, file, old_suite, peer, plan, serve};
use super::*;
use crate::base::fatal::{Exit, Fatal};
use crate::connect::dial::{Dialed, dial};
use crate::plan::{PeerPlan, TlsPlan};
use proptest::prelude::*;
use rustls::crypto::ring::ALL_CIPHER_SUITES;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

fn refused(port: u16, tls: TlsPlan) -> Fatal {
    let fatal = dial(&peer(port, tls)).map(|_: Dialed| ()).expect_err("the handshake must fail");
    assert!(fatal.mend.is_some(), "{fatal}");
    fatal
}

/// Echoes so many bytes, changing its keys in between where it can.
fn echo(bytes: usize, updates: bool) -> impl FnOnce(&mut ServerStream) + Send {
    move |stream| {
        let (mut done, mut buffer) = (0, vec![0; 40_000]);
        while done < bytes {
            let count = stream.read(&mut buffer).expect("the client speaks");
            assert!(count > 0, "the client went away after {done} of {bytes}");
            if updates {
                stream.conn.refresh_traffic_keys().expect("TLS 1.3");
            }
            stream.write_all(&buffer[..count]).expect("the client listens");
            done += count;
        }
        stream.conn.send_close_notify();
        stream.flush().expect("the client listens");
        assert_eq!(stream.read(&mut buffer).ok(), Some(0), "the client says goodbye");
    }
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// Sends `text` in uneven parts and reads it back the way a core does: whatever has come, into one buffer.
fn there_and_back(stream: &mut TcpStream, session: &mut TlsSession, text: &[u8]) -> Vec<u8> {
    let (mut back, mut incoming, mut used) = (Vec::new(), vec![0; INCOMING_BYTES], 0);
    let mut sealed = vec![0; TlsSession::sealed_bytes(50_000)];
    for part in text.chunks(50_000) {
        let bytes = session.encrypt(part, &mut sealed).unwrap();
        stream.write_all(&sealed[..bytes]).unwrap();
        let wanted = back.len() + part.len();
        while back.len() < wanted {
            used += stream.read(&mut incoming[used..]).unwrap();
            let consumed = session.decrypt(&mut incoming, used, |plain| back.extend_from_slice(plain)).unwrap();
            incoming.copy_within(consumed..used, 0);
            used -= consumed;
        }
    }
    let bytes = session.close(&mut sealed).unwrap();
    stream.write_all(&sealed[..bytes]).unwrap();
    while !session.is_closed() {
        let count = stream.read(&mut incoming[used..]).unwrap();
        assert!(count > 0, "the server says goodbye");
        used += count;
        let consumed = session.decrypt(&mut incoming, used, |plain| back.extend_from_slice(plain)).unwrap();
        incoming.copy_within(consumed..used, 0);
        used -= consumed;
    }
    back
}

#[test]
fn every_cipher_carries_data_both_ways() {
    for suite in ALL_CIPHER_SUITES {
        // The test's certificate has an elliptic key.
        if format!("{:?}", suite.suite()).contains("_RSA_") {
            continue;
        }
        let updates = suite.version() == &rustls::version::TLS13;
        let text = pattern(180_001);
        let (port, server) = serve(&Setting { suite: Some(*suite), ..USUAL }, echo(text.len(), updates));
        let (mut stream, mut session) = connected(port);
        assert_eq!(session.cipher(), format!("{:?}", suite.suite()));
        assert!(there_and_back(&mut stream, &mut session, &text) == text, "{suite:?}");
        server.join().unwrap();
    }
}

#[test]
fn worn_keys_are_renewed_where_they_can_be() {
    let text = pattern(400_000);
    let (port, server) = serve(&USUAL, echo(text.len(), false));
    let (mut stream, mut session) = connected(port);
    session.wear_to_within(6);
    assert!(!session.is_worn(), "it renews them");
    let mut sealed = vec![0; TlsSession::sealed_bytes(50_000)];
    let four_records = TlsSession::sealed_bytes(50_000) - 50_000;
    let plain = session.encrypt(&text[..50_000], &mut sealed).unwrap() - 50_000;
    assert_eq!(plain, 4 * 22, "not worn yet");
    stream.write_all(&sealed[..50_000 + plain]).unwrap();
    let (mut back, mut incoming, mut used) = (Vec::new(), vec![0; INCOMING_BYTES], 0);
    let with_update = session.encrypt(&text[50_000..100_000], &mut sealed).unwrap() - 50_000;
    assert!(with_update == 4 * 22 + 27 && with_update <= four_records);
    stream.write_all(&sealed[..50_000 + with_update]).unwrap();
    while back.len() < 100_000 {
        used += stream.read(&mut incoming[used..]).unwrap();
        let consumed = session.decrypt(&mut incoming, used, |plain| back.extend_from_slice(plain)).unwrap();
        incoming.copy_within(consumed..used, 0);
        used -= consumed;
    }
    back.extend(there_and_back(&mut stream, &mut session, &text[100_000..]));
    assert!(back == text);
    server.join().unwrap();

    let (port, server) = serve(&Setting { suite: Some(old_suite()), ..USUAL }, |stream| {
        // The handshake alone.
        stream.conn.complete_io(&mut stream.sock).is_ok()
    });
    let (_stream, mut session) = connected(port);
    session.wear_to_within(SPARE_RECORDS + 2);
    assert!(!session.is_worn() && session.encrypt(&text[..50_000], &mut sealed).is_ok());
    assert!(session.is_worn() && session.encrypt(&text[..50_000], &mut sealed).is_ok(), "what has begun can end");
    session.wear_to_within(2);
    assert_eq!(session.encrypt(&text[..50_000], &mut sealed), Err(TlsError::Exhausted));
    assert!(server.join().unwrap());
}

#[test]
fn a_blocking_stream_reads_no_byte_too_many() {
    let (port, server) = serve(&USUAL, |stream| {
        let mut request = [0; 20_000];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(&request[..700]).unwrap();
        stream.write_all(b"for the core").unwrap();
        request
    });
    let (stream, session) = connected(port);
    let mut blocking = TlsStream::new(stream, session);
    let text = pattern(20_000);
    blocking.write_all(&text).unwrap();
    let mut answer = [0; 700];
    blocking.read_exact(&mut answer).unwrap();
    assert!(answer[..] == text[..700]);
    let (mut stream, mut session, rest) = blocking.into_parts().unwrap();
    assert_eq!(rest, b"");
    let (mut incoming, mut used, mut plain) = (vec![0; INCOMING_BYTES], 0, Vec::new());
    while plain.len() < 12 {
        used += stream.read(&mut incoming[used..]).unwrap();
        let consumed = session.decrypt(&mut incoming, used, |part| plain.extend_from_slice(part)).unwrap();
        incoming.copy_within(consumed..used, 0);
        used -= consumed;
    }
    assert_eq!(plain, b"for the core");
    assert!(server.join().unwrap()[..] == text);
}

#[test]
fn certificates_that_must_not_be_accepted() {
    let trusting = |ca: &str| TlsPlan { ca: Some(file(ca)), ..plan() };
    for (certificate, tls, words, mend) in [
        ("expired", plan(), "expired", "renew"),
        ("other", plan(), "not made out to 'localhost'", "--target"),
        ("server", trusting("stranger.pem"), "not trusted", "--tls-ca"),
        ("server", TlsPlan { ca: None, ..plan() }, "not trusted", "--tls-ca"),
        ("server", trusting("namesake.pem"), "not trusted: an authority of that name is", "--tls-ca"),
        ("itself", trusting("itself.pem"), "as its own (CA:TRUE)", "basicConstraints=critical,CA:FALSE"),
    ] {
        let (port, server) = serve(&Setting { certificate, ..USUAL }, |stream| stream.read(&mut [0; 1]).is_err());
        let fatal = refused(port, tls);
        assert_eq!(fatal.exit, Exit::Unreachable, "{fatal}");
        assert!(fatal.what.contains(words) && fatal.mend.as_ref().unwrap().contains(mend), "{certificate}: {fatal}");
        assert!(server.join().unwrap(), "the server is told");
    }
    let (port, server) = serve(&Setting { certificate: "other", ..USUAL }, |stream| stream.write_all(b"x").is_ok());
    let dialed = dial(&peer(port, TlsPlan { verify_host: false, ..plan() }));
    assert!(dialed.is_ok() && server.join().unwrap());
    let (port, server) =
        serve(&Setting { certificate: "expired", ..USUAL }, |stream| stream.read(&mut [0; 1]).is_err());
    assert!(refused(port, TlsPlan { verify_host: false, ..plan() }).what.contains("expired"));
    assert!(server.join().unwrap());
}

#[test]
fn the_zone_of_an_address_is_not_in_its_certificate() {
    let (port, server) = serve(&USUAL, |stream| stream.conn.complete_io(&mut stream.sock).is_ok());
    let dialed = dial(&peer(port, TlsPlan { server_name: "::1%lo".into(), ..plan() }));
    assert!(dialed.is_ok(), "{}", dialed.err().map(|fatal| fatal.to_string()).unwrap_or_default());
    assert!(server.join().unwrap());
}

#[test]
fn a_server_that_wants_a_certificate_gets_it() {
    let setting = || Setting { wants_client: true, ..USUAL };
    let (port, server) = serve(&setting(), |stream| {
        stream.write_all(b"x").unwrap();
        stream.conn.peer_certificates().map(<[_]>::len)
    });
    let client = TlsPlan { cert: Some(file("client.pem")), key: Some(file("client.key")), ..plan() };
    assert!(dial(&peer(port, client.clone())).is_ok());
    assert_eq!(server.join().unwrap(), Some(1));
    // In TLS 1.3 the client is ready before the server has looked: the refusal comes with the first answer.
    let (port, server) = serve(&setting(), |stream| stream.read(&mut [0; 1]).is_err());
    let (mut stream, mut session) = connected(port);
    let (mut incoming, mut used) = (vec![0; INCOMING_BYTES], 0);
    let alert = loop {
        used += stream.read(&mut incoming[used..]).unwrap();
        if let Err(error) = session.decrypt(&mut incoming, used, |_| ()) {
            break error;
        }
    };
    assert_eq!(alert, TlsError::Alert(116), "certificate_required");
    let told = HandshakeError::of_alert(116).fatal(&peer(port, plan()), &plan());
    assert!(told.what.contains("refused it: CertificateRequired") && told.mend.unwrap().contains("--tls-cert"));
    assert!(server.join().unwrap());
    for (cert, key, flag) in [("ca.pem", "client.key", "--tls-cert"), ("client.pem", "client.pem", "--tls-key")] {
        let fatal = refused(port, TlsPlan { cert: Some(file(cert)), key: Some(file(key)), ..client.clone() });
        assert!(fatal.exit == Exit::Usage && fatal.what.contains(flag), "{fatal}");
    }
    assert!(refused(port, TlsPlan { ca: Some(file("client.key")), ..client }).what.contains("--tls-ca"));
}

#[test]
fn only_an_alert_about_certificates_asks_for_one() {
    let mend = |alert| HandshakeError::of_alert(alert).fatal(&peer(9093, plan()), &plan()).mend.unwrap();
    for alert in [40, 42, 43, 44, 45, 46, 48, 49, 116] {
        assert!(mend(alert).contains("--tls-cert"), "{alert}: {}", mend(alert));
    }
    for (alert, part) in [(70, "TLS 1.2"), (80, "openssl"), (112, "host name"), (120, "HTTP/1.1")] {
        assert!(mend(alert).contains(part) && !mend(alert).contains("--tls-cert"), "{alert}: {}", mend(alert));
    }
}

#[test]
fn what_speaks_no_tls_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
            let (mut stream, _) = listener.accept().unwrap();
            // The client may have had enough of it at once.
            stream.write_all(answer).and_then(|()| stream.shutdown(std::net::Shutdown::Write)).ok();
            // Its first message is read, so that closing does not reset it.
            std::io::copy(&mut stream, &mut std::io::sink()).ok();
        }
    });
    assert!(refused(port, plan()).what.contains("does not speak TLS"));
    assert!(refused(port, plan()).what.contains("hung up"));
    thread.join().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let fatal = dial(&PeerPlan { connect_timeout_ns: 200_000_000, ..peer(port, plan()) }).map(|_| ()).unwrap_err();
    assert!(fatal.what.contains("no answer in 0.2 s"), "{fatal}");
}

/// A session whose peer is a thread that waits for bytes and never gets them whole.
fn session() -> TlsSession {
    let (port, server) = serve(&USUAL, |stream| stream.conn.complete_io(&mut stream.sock).is_ok());
    let (_stream, session) = connected(port);
    assert!(server.join().unwrap());
    session
}

#[test]
fn room_is_asked_for_before_anything_is_written() {
    let mut session = session();
    let mut small = vec![7; TlsSession::sealed_bytes(100) - 1];
    assert_eq!(session.encrypt(&[0; 100], &mut small), Err(TlsError::NoRoom));
    assert_eq!(session.close(&mut small[..10]), Err(TlsError::NoRoom));
    assert!(small.iter().all(|byte| *byte == 7));
    let mut empty = vec![0; TlsSession::sealed_bytes(0)];
    assert_eq!(session.encrypt(&[], &mut empty), Ok(0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn bytes_of_others_are_refused_and_never_panic(
        kind in prop_oneof![Just(23u8), any::<u8>()], length in 0usize..600,
        body in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        thread_local! {
            static SESSION: std::cell::RefCell<TlsSession> = std::cell::RefCell::new(session());
        }
        let mut bytes = [&[kind, 3, 3, (length >> 8) as u8, length as u8][..], &body].concat();
        let used = bytes.len();
        let found = SESSION.with_borrow_mut(|session| session.decrypt(&mut bytes, used, |_| panic!("nothing was sealed")));
        match found {
            Ok(consumed) => prop_assert!(consumed == 0 && body.len() < length),
            Err(error) => prop_assert!(matches!(error, TlsError::Malformed | TlsError::Tampered), "{error:?}"),
        }
    }
}
