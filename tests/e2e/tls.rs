//! `https://` to a server whose TLS ends in other ways than by closing the connection.

use crate::harness::Scratch;
use crate::http::{BACK_ENDS, fates};
use crate::report::total;
use crate::server::{NO_CONTENT, PATIENCE};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

type Stream = StreamOwned<ServerConnection, TcpStream>;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

fn config(wants_client: bool) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("ca.pem")).unwrap()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = if wants_client { builder.with_client_cert_verifier(clients) } else { builder.with_no_client_auth() };
    let chain = vec![CertificateDer::from_pem_file(file("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

/// Keeps all connections open until it is dropped.
struct Server {
    address: String,
    connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Each connection is served by `serve`.
    fn start(config: Arc<ServerConfig>, serve: fn(&mut Stream)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (connections, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (connections.clone(), stop.clone());
        std::thread::spawn(move || {
            let kept = Arc::new(Mutex::new(Vec::new()));
            for stream in listener.incoming() {
                if stopped.load(SeqCst) {
                    return;
                }
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
                count.fetch_add(1, SeqCst);
                let kept = kept.clone();
                std::thread::spawn(move || {
                    serve(&mut stream);
                    kept.lock().unwrap().push(stream);
                });
            }
        });
        Self { address, connections, stop }
    }

    fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        // Wakes the thread that accepts.
        let _anyway = TcpStream::connect(&self.address);
    }
}

/// Reads a request to its end; false: there is none.
fn request(stream: &mut Stream) -> bool {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return false,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]);
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length:"));
        let length: usize = length.and_then(|text| text.trim().parse().ok()).expect("a length");
        if bytes.len() >= end + 4 + length {
            return true;
        }
    }
}

/// Answers one request and says goodbye, but does not close the connection.
fn one_answer(stream: &mut Stream) {
    if request(stream) {
        stream.conn.writer().write_all(NO_CONTENT.as_bytes()).unwrap();
        stream.conn.send_close_notify();
        let _gone = stream.flush();
    }
}

#[test]
fn a_goodbye_ends_a_connection_that_stays_open() {
    let scratch = Scratch::new();
    scratch.write("ca.pem", std::fs::read(file("ca.pem")).unwrap());
    for io in BACK_ENDS {
        let server = Server::start(config(false), one_answer);
        let words = format!("--target https://{}/in --tls-ca ca.pem --records 5 --io {io}", server.address);
        let report = scratch.report(&words);
        fates(&report, 5, 0, 0);
        let connections = server.connections();
        assert!(connections >= 5, "{connections} connections, {} retries", total(&report, "retries"));
    }
}

/// An answer that ends with its connection.
fn unmeasured_answer(stream: &mut Stream, bids_farewell: bool) {
    if request(stream) {
        stream.conn.writer().write_all(b"HTTP/1.1 200 OK\r\n\r\nall of it").unwrap();
        if bids_farewell {
            stream.conn.send_close_notify();
        }
        let _gone = stream.flush();
        let _gone = stream.sock.shutdown(Shutdown::Write);
    }
}

#[test]
fn an_answer_without_a_length_is_whole_with_a_goodbye_alone() {
    let scratch = Scratch::new();
    scratch.write("ca.pem", std::fs::read(file("ca.pem")).unwrap());
    let servers: [(fn(&mut Stream), _, _); 2] =
        [(|stream| unmeasured_answer(stream, true), 3, 0), (|stream| unmeasured_answer(stream, false), 0, 3)];
    for (io, (serve, produced, uncertain)) in BACK_ENDS.into_iter().flat_map(|io| servers.map(|server| (io, server))) {
        let server = Server::start(config(false), serve);
        let words = "--tls-ca ca.pem --records 3 --retry off --report report.json";
        let ended = scratch.run(&format!("--target https://{}/in --io {io} {words}", server.address));
        assert_eq!(ended.code(), i32::from(uncertain > 0), "{ended}");
        fates(&scratch.report_of(&ended, "report.json"), produced, 0, uncertain);
    }
}

#[test]
fn a_server_that_refuses_the_client_is_named_once() {
    let scratch = Scratch::new();
    scratch.write("ca.pem", std::fs::read(file("ca.pem")).unwrap());
    for io in BACK_ENDS {
        let server = Server::start(config(true), |stream| {
            let _refused = stream.read(&mut [0; 1]);
        });
        let words = "--tls-ca ca.pem --records 3 --retry off";
        let ended = scratch.run(&format!("--target https://{}/in --io {io} {words}", server.address));
        assert_eq!(ended.code(), 1, "{ended}");
        ended.says(&["the peer refused it: CertificateRequired", "--tls-cert"]);
        assert_eq!(ended.stderr.matches("CertificateRequired").count(), 1, "{ended}");
        assert!(server.connections() > 1, "it was tried again");
    }
}

#[test]
fn a_body_that_takes_its_answer_back_is_read_under_tls_too() {
    let scratch = Scratch::new();
    scratch.write("ca.pem", std::fs::read(file("ca.pem")).unwrap());
    for io in BACK_ENDS {
        let server = Server::start(config(false), |stream| {
            while request(stream) {
                // The text lies across two records of TLS.
                for part in ["HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"err", "ors\":true}"] {
                    stream.conn.writer().write_all(part.as_bytes()).unwrap();
                    let _gone = stream.flush();
                }
            }
        });
        let words = "--tls-ca ca.pem --records 4 --http-refused-by \"errors\":true --report report.json";
        let ended = scratch.run(&format!("--target https://{}/in --io {io} {words}", server.address));
        assert_eq!(ended.code(), 1, "{ended}");
        let report = scratch.report_of(&ended, "report.json");
        fates(&report, 0, 0, 4);
        assert_eq!(total(&report, "answers_refused_by_body"), 4);
    }
}
