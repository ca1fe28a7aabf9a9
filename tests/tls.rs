//! A running TLS connection allocates nothing, whatever goes through it: the core threads promise that.

use engine::connect::tls::INCOMING_BYTES;
use engine::connect::{TlsSession, dial};
use engine::plan::{PeerPlan, TlsPlan};
use engine::sys::allocation::{Counting, counted};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: usize = 50;
const PART_BYTES: usize = 100_000;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

/// Echoes all that comes over one connection.
fn server() -> (u16, std::thread::JoinHandle<()>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let chain = vec![CertificateDer::from_pem_file(file("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let config = Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
        let (mut buffer, mut left) = (vec![0; PART_BYTES], ROUNDS * PART_BYTES);
        while left > 0 {
            let count = stream.read(&mut buffer).unwrap();
            stream.write_all(&buffer[..count]).unwrap();
            left -= count;
        }
    });
    (port, thread)
}

#[test]
fn records_are_sealed_and_opened_without_allocating() {
    let (port, server) = server();
    let tls = TlsPlan {
        server_name: "localhost".into(),
        ca: Some(file("ca.pem")),
        cert: None,
        key: None,
        alpn_http: false,
        verify_host: true,
    };
    let peer = PeerPlan { host: "localhost".into(), port, tls: Some(tls), connect_timeout_ns: 20_000_000_000 };
    let mut dialed = dial(&peer).unwrap_or_else(|fatal| panic!("{fatal}"));
    let mut session = dialed.tls.take().expect("TLS was asked for");
    let text: Vec<u8> = (0..PART_BYTES).map(|at| (at * 7 + at / 256) as u8).collect();
    let mut sealed = vec![0; TlsSession::sealed_bytes(PART_BYTES)];
    let (mut incoming, mut used) = (vec![0; INCOMING_BYTES], 0);
    let (same, allocations) = counted(|| {
        let mut same = true;
        for _ in 0..ROUNDS {
            let bytes = session.encrypt(&text, &mut sealed).unwrap();
            dialed.stream.write_all(&sealed[..bytes]).unwrap();
            let mut back = 0;
            while back < PART_BYTES {
                used += dialed.stream.read(&mut incoming[used..]).unwrap();
                let check = |plain: &[u8]| {
                    same &= *plain == text[back..back + plain.len()];
                    back += plain.len();
                };
                let consumed = session.decrypt(&mut incoming, used, check).unwrap();
                incoming.copy_within(consumed..used, 0);
                used -= consumed;
            }
        }
        same
    });
    assert!(same, "what came back is what was sent");
    assert_eq!(allocations, 0);
    server.join().unwrap();
}
