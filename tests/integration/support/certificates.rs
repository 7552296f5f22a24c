//! Certificates that a test makes for itself.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_rustls::TlsAcceptor;

/// Speaks TLS with a certificate of these parameters; with it the certificate of its CA, which is of this name, in PEM.
pub(crate) fn tls_acceptor(
    authority_name: &str,
    params: &CertificateParams,
) -> (TlsAcceptor, String) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(DnType::CommonName, authority_name);
    let authority_key = KeyPair::generate().unwrap();
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let certificate = params
        .signed_by(&key, &Issuer::new(authority, authority_key))
        .unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), pem)
}
