//! rustls as a server that does what a test tells it to, with the certificates of `tests/tls`.

use super::TlsSession;
use crate::connect::dial::dial;
use crate::plan::{PeerPlan, TlsPlan};
use rustls::crypto::ring::{ALL_CIPHER_SUITES, default_provider};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedCipherSuite};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

pub type ServerStream = StreamOwned<ServerConnection, TcpStream>;

pub fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

pub struct Setting {
    pub certificate: &'static str,
    /// `None`: any.
    pub suite: Option<SupportedCipherSuite>,
    pub wants_client: bool,
}

pub const USUAL: Setting = Setting { certificate: "server", suite: None, wants_client: false };

fn server_config(setting: &Setting) -> Arc<ServerConfig> {
    let mut provider = default_provider();
    provider.cipher_suites = setting.suite.map_or(provider.cipher_suites, |suite| vec![suite]);
    let provider = Arc::new(provider);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("ca.pem")).unwrap()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let versions: Vec<_> = match setting.suite {
        Some(suite) => vec![suite.version()],
        None => rustls::ALL_VERSIONS.to_vec(),
    };
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions).unwrap();
    let builder =
        if setting.wants_client { builder.with_client_cert_verifier(clients) } else { builder.with_no_client_auth() };
    let chain = vec![CertificateDer::from_pem_file(file(&format!("{}.pem", setting.certificate))).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file(&format!("{}.key", setting.certificate))).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.send_tls13_tickets = 3;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// One connection, served by `act` on a thread; the thread's result is what `act` says.
pub fn serve<T: Send + 'static>(
    setting: &Setting,
    act: impl FnOnce(&mut ServerStream) -> T + Send + 'static,
) -> (u16, JoinHandle<T>) {
    let config = server_config(setting);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        act(&mut StreamOwned::new(ServerConnection::new(config).unwrap(), stream))
    });
    (port, thread)
}

pub fn plan() -> TlsPlan {
    TlsPlan {
        server_name: "localhost".into(),
        ca: Some(file("ca.pem")),
        cert: None,
        key: None,
        alpn_http: true,
        verify_host: true,
    }
}

pub fn peer(port: u16, tls: TlsPlan) -> PeerPlan {
    PeerPlan { host: "127.0.0.1".into(), port, tls: Some(tls), connect_timeout_ns: 20_000_000_000 }
}

pub fn connected(port: u16) -> (TcpStream, TlsSession) {
    let dialed = dial(&peer(port, plan())).unwrap_or_else(|fatal| panic!("{fatal}"));
    (dialed.stream, dialed.tls.expect("TLS was asked for"))
}

/// One of TLS 1.2, whose keys cannot be renewed and are good for 2^24 records.
pub fn old_suite() -> SupportedCipherSuite {
    let is_old = |suite: &&SupportedCipherSuite| {
        let name = format!("{:?}", suite.suite());
        suite.version() == &rustls::version::TLS12 && name.contains("ECDSA") && name.contains("GCM")
    };
    ALL_CIPHER_SUITES.iter().find(is_old).copied().expect("rustls has such a suite")
}
