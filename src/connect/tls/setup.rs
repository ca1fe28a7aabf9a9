//! From what was asked of TLS to what rustls wants.

use crate::base::fatal::{Exit, Fatal};
use crate::base::program;
use crate::plan::TlsPlan;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring::default_provider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::path::Path;
use std::sync::Arc;

/// TLS 1.2 and 1.3, certificates verified.
///
/// # Errors
/// Names the file that cannot be used.
pub fn client_config(plan: &TlsPlan) -> Result<Arc<ClientConfig>, Fatal> {
    let provider = Arc::new(default_provider());
    let roots = Arc::new(roots(plan)?);
    let failed = |why: String| Fatal::usage(format!("TLS cannot be set up: {why}")).mend("--tls-ca=FILE");
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
    let verifier = verifier.map_err(|why| failed(why.to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|why| failed(why.to_string()))?.dangerous();
    let builder = match plan.verify_host {
        true => builder.with_custom_certificate_verifier(verifier),
        false => builder.with_custom_certificate_verifier(Arc::new(AnyName(verifier))),
    };
    let mut config = match (&plan.cert, &plan.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates("tls-cert", cert)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|why| bad_pem("tls-key", key, &why.to_string()))?;
            builder.with_client_auth_cert(chain, private).map_err(|why| {
                let what = format!("--tls-cert '{}' and --tls-key '{}': {why}", cert.display(), key.display());
                Fatal::usage(what).mend("--tls-key=FILE with the key that the certificate was made for")
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    if plan.alpn_http {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
    }
    // Tickets would be kept under a lock; a handshake for each of the few connections costs nothing that matters.
    config.resumption = Resumption::disabled();
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

fn roots(plan: &TlsPlan) -> Result<RootCertStore, Fatal> {
    let mut store = RootCertStore::empty();
    if let Some(path) = &plan.ca {
        for certificate in certificates("tls-ca", path)? {
            store.add(certificate).map_err(|why| bad_pem("tls-ca", path, &why.to_string()))?;
        }
        return Ok(store);
    }
    let found = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        let what = format!("this system has no certificate authorities to trust{why}");
        return Err(Fatal::host(what).mend("apt-get install ca-certificates, or --tls-ca=FILE"));
    }
    Ok(store)
}

fn certificates(flag: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Fatal> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(bad_pem(flag, path, "it holds no certificate")),
        Err(why) => Err(bad_pem(flag, path, &why.to_string())),
    }
}

fn bad_pem(flag: &str, path: &Path, why: &str) -> Fatal {
    let shown = path.display();
    let kind = if flag == "tls-key" { "pkey" } else { "x509" };
    let file = program::quoted_path(path);
    let mend = format!("--{flag}=FILE in PEM; from another form: openssl {kind} -in {file} -out {flag}.pem");
    Fatal::new(Exit::Usage, format!("--{flag} '{shown}': {why}")).mend(mend)
}

/// The chain is verified, whatever name is in it.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last: all else was found good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
