//! Which certificates of servers are accepted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hfs_core::plain_reason;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

use crate::model_config::CertificatePaths;

/// The variables of [`CertificatePaths`].
const FILE_VARIABLE: &str = "SSL_CERT_FILE";
const DIRECTORY_VARIABLE: &str = "SSL_CERT_DIR";

/// Why a client has no TLS settings.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("the variable {variable} is {path:?}, {problem}; set it to {expected}, or unset it")]
    Variable { variable: &'static str, path: PathBuf, problem: String, expected: &'static str },
    #[error("its TLS settings cannot be made ({0})")]
    Other(#[from] rustls::Error),
}

/// The TLS settings of a client.
///
/// # Errors
/// If no trusted certificate can be loaded.
pub(super) fn client_config(certificates: &CertificatePaths) -> Result<ClientConfig, TlsError> {
    if let Some(file) = &certificates.file {
        check_file(file)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let system = Verifier::new(Arc::clone(&provider)).map_err(|error| {
        let directory = certificates.directory.clone().filter(|path| !path.as_os_str().is_empty());
        directory.map_or(TlsError::Other(error), |path| TlsError::Variable {
            variable: DIRECTORY_VARIABLE,
            path,
            problem: "which has no certificate in PEM format".to_owned(),
            expected: "a directory of PEM files with the certificates to trust",
        })
    })?;
    let verifier = CertificateVerifier { system };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Checks that a file has a certificate. The verifier would ignore a file that cannot be used, and refuse the certificate
/// of every server.
fn check_file(path: &Path) -> Result<(), TlsError> {
    let problem = if path.as_os_str().is_empty() {
        "which is not the name of a file".to_owned()
    } else if path.is_dir() {
        "which is a directory".to_owned()
    } else {
        let loaded = rustls_native_certs::load_certs_from_paths(Some(path), None);
        let error = loaded.errors.into_iter().find_map(|error| match error.kind {
            rustls_native_certs::ErrorKind::Io { inner, .. } => Some(inner),
            _ => None,
        });
        match error {
            _ if !loaded.certs.is_empty() => return Ok(()),
            Some(error) => format!("which cannot be read ({})", plain_reason(&error)),
            None => "which has no certificate in PEM format".to_owned(),
        }
    };
    let expected = "a PEM file with the certificates to trust";
    Err(TlsError::Variable { variable: FILE_VARIABLE, path: path.to_owned(), problem, expected })
}

/// The settings of a client that makes no connection with TLS. Loading the system's certificates takes longer than a request
/// to a server on this machine.
///
/// # Errors
/// If the protocol versions are not supported, which does not happen.
pub(super) fn without_certificates() -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// Verifies certificates as the system does, and also accepts a server's certificate that the user trusts by name.
///
/// `openssl req -x509` marks a self-signed certificate as that of a CA, and webpki refuses it as that of a server even if
/// it is among the trusted ones. OpenSSL, Go and browsers accept it. The alternative, a switch that turns verification off,
/// would accept every certificate.
#[derive(Debug)]
struct CertificateVerifier {
    system: Verifier,
}

impl ServerCertVerifier for CertificateVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.system.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The dates were checked before: a certificate that has expired has an error of its own.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_))) if is_trusted(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.system.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.system.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.system.supported_verify_schemes()
    }
}

/// Whether exactly this certificate is among the trusted ones, which `SSL_CERT_FILE` may name.
fn is_trusted(certificate: &CertificateDer<'_>) -> bool {
    rustls_native_certs::load_native_certs().certs.iter().any(|trusted| trusted == certificate)
}
