//! TLS: rustls with ring, and the system's roots or a CA of the user's own.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
};

use super::PgError;
use super::config::TlsMode;

pub(super) fn connector(mode: TlsMode, ca: Option<&Path>) -> Result<TlsConnector, PgError> {
    let roots = Arc::new(match ca {
        Some(path) => own_roots(path)?,
        None => system_roots()?,
    });
    // The provider is named, because a program that enables two has no default one.
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| PgError::settings(format!("TLS cannot be set up: {error}")))?;
    let config = match mode {
        TlsMode::Disable | TlsMode::VerifyFull => {
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        TlsMode::VerifyCa => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyName::new(roots, provider)?))
            .with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, PgError> {
    ServerName::try_from(host.to_owned()).map_err(|_| {
        PgError::settings("the database's host is not a name that a certificate can have")
    })
}

fn own_roots(path: &Path) -> Result<RootCertStore, PgError> {
    let shown = path.display();
    let text = fs::read(path)
        .map_err(|error| PgError::settings(format!("the CA in {shown} cannot be read: {error}")))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate
            .map_err(|error| PgError::settings(format!("the CA in {shown} is not PEM: {error}")))?;
        roots.add(certificate).map_err(|error| {
            PgError::settings(format!("the CA in {shown} cannot be used: {error}"))
        })?;
    }
    if roots.is_empty() {
        let message = format!("the CA in {shown} holds no certificate");
        return Err(PgError::settings(message));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, PgError> {
    let mut roots = RootCertStore::empty();
    // Some systems ship certificates that do not parse; one good root is enough to try.
    let (added, _) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(PgError::settings(
            "the system has no CA certificates; name a CA file by sslrootcert",
        ));
    }
    Ok(roots)
}

/// Verifies that a CA has signed the certificate, for any name: `sslmode=verify-ca`.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl AnyName {
    fn new(roots: Arc<RootCertStore>, provider: Arc<CryptoProvider>) -> Result<Self, PgError> {
        WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map(Self)
            .map_err(|error| PgError::settings(format!("TLS cannot be set up: {error}")))
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let verified =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at last, after the signatures and the times.
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
