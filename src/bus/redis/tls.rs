//! TLS: rustls with ring, the system's roots or a CA of the user's own, and a client certificate.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use fred::rustls::crypto::ring;
use fred::rustls::pki_types::pem::PemObject;
use fred::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use fred::rustls::{ClientConfig, RootCertStore};
use fred::types::config::TlsConnector;

use crate::{Error, ErrorKind};

/// Trusts the CA, or the system's roots where none is named; shows the certificate, if there is one.
pub(super) fn connector(
    ca: Option<&Path>,
    certificate: Option<&Path>,
    key: Option<&Path>,
) -> Result<TlsConnector, Error> {
    let roots = match ca {
        Some(path) => own_roots(path)?,
        None => system_roots()?,
    };
    // The provider is named, because a program that enables two has no default one.
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| settings(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots);
    let config = match (certificate, key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = certificates(cert, "the client certificate")?;
            builder
                .with_client_auth_cert(chain, private_key(key)?)
                .map_err(|error| {
                    settings(format!(
                        "the client certificate and its key do not fit: {error}"
                    ))
                })?
        }
        (Some(_), None) => return Err(settings("a client certificate needs its key as well")),
        (None, Some(_)) => return Err(settings("a client key needs its certificate as well")),
    };
    Ok(TlsConnector::from(config))
}

fn own_roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, "the CA")? {
        roots.add(certificate).map_err(|error| {
            settings(format!(
                "the CA in {} cannot be used: {error}",
                path.display()
            ))
        })?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    // Some systems ship certificates that do not parse; one good root is enough to try.
    let (added, _) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(settings(
            "the system has no CA certificates; name a CA file",
        ));
    }
    Ok(roots)
}

fn certificates(path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(&read(path, what)?)
        .collect::<Result<_, _>>()
        .map_err(|error| settings(format!("{what} in {} is not PEM: {error}", path.display())))?;
    if found.is_empty() {
        return Err(settings(format!(
            "{what} in {} holds no certificate",
            path.display()
        )));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    // The parser's error is not shown: this is a secret.
    PrivateKeyDer::from_pem_slice(&read(path, "the client key")?)
        .map_err(|_| settings(format!("{} holds no private key in PEM", path.display())))
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| {
        settings(format!(
            "{what} in {} cannot be read: {error}",
            path.display()
        ))
    })
}

fn settings(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Settings, message)
}
