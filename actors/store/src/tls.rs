//! TLS to PostgreSQL: which certificates are believed. What is asked for stands in `orrery_config::address`.

use std::sync::Arc;

use orrery_config::{address::Trust, authority::Roots};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

/// What PostgreSQL calls its protocol (ALPN); it is needed for `sslnegotiation=direct`.
const PROTOCOL: &[u8] = b"postgresql";

/// Why nothing can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The system trusts nobody.
    #[error(
        "this system trusts no certificate authority: install ca-certificates, or name a PEM file by sslrootcert=FILE in database.url"
    )]
    NoSystemRoots,
    /// A named certificate is none.
    #[error("a certificate in the file of sslrootcert cannot be used: {0}")]
    Root(#[source] Error),
    /// The library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] Error),
}

/// The client's side of a connection that believes `trust`.
///
/// # Errors
/// When an authority cannot be used, or there is none.
pub fn client(trust: Trust) -> Result<ClientConfig, TlsError> {
    let provider = aws_lc_rs::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    let (roots, checks_name) = match trust {
        Trust::Anyone => (None, false),
        Trust::Authority(roots) => (Some(Trusted::load(roots)?), false),
        Trust::AuthorityAndName(roots) => (Some(Trusted::load(roots)?), true),
    };
    let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { roots, checks_name, algorithms }))
        .with_no_client_auth();
    client.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(client)
}

#[derive(Debug)]
struct Trusted {
    anchors: RootCertStore,
    /// As they stand in the file of `sslrootcert`.
    named: Vec<CertificateDer<'static>>,
}

impl Trusted {
    fn load(roots: Roots) -> Result<Self, TlsError> {
        let mut anchors = RootCertStore::empty();
        let named = match roots {
            Roots::System => {
                // Some systems carry authorities that nobody can read; the others still count.
                anchors.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                Vec::new()
            }
            Roots::Named(named) => {
                for certificate in &named {
                    anchors.add(certificate.clone()).map_err(TlsError::Root)?;
                }
                named
            }
        };
        if anchors.is_empty() { Err(TlsError::NoSystemRoots) } else { Ok(Self { anchors, named }) }
    }
}

/// libpq's three degrees of belief; that the server holds the certificate's key is checked in all of them.
#[derive(Debug)]
struct Verifier {
    /// None: anyone is believed.
    roots: Option<Trusted>,
    checks_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(Trusted { anchors, named }) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let signed = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            anchors,
            intermediates,
            now,
            self.algorithms.all,
        );
        match signed {
            // `openssl req -x509` makes an authority of every certificate, and webpki takes none for a server's.
            // One that is named itself is believed, as libpq does; that it is valid today was checked before.
            Err(Error::InvalidCertificate(CertificateError::Other(_))) if named.contains(end_entity) => {}
            signed => signed?,
        }
        if self.checks_name {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
