//! A connection to a replica, with TLS or without.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::endpoint::Endpoint;

/// No connection to a replica can be had. Nothing was sent to it.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The system says so.
    #[error("it takes no connection: {0}")]
    Io(#[from] io::Error),
    /// It does not answer.
    #[error("it took no connection in time")]
    Late,
    /// It speaks TLS and nothing was read to verify it by.
    #[error("it speaks TLS, and there are no authorities to verify it by")]
    NoTls,
}

/// How replicas that speak TLS are verified.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl Tls {
    /// Verifies by the system's authorities, and those in `file`.
    ///
    /// # Errors
    /// A line for the operator: the file cannot be read, or there is no authority at all.
    pub fn new(file: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(file) = file {
            let fault = |cause: &dyn std::fmt::Display| {
                format!(
                    "gateway.upstream_ca_file: {}: {cause}; it must hold certificates in PEM",
                    file.display()
                )
            };
            let own = CertificateDer::pem_file_iter(file)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|cause| fault(&cause))?;
            for certificate in own {
                roots.add(certificate).map_err(|cause| fault(&cause))?;
            }
        }
        if roots.is_empty() {
            return Err(
                "gateway.upstream_ca_file: the system has no authorities; name a file with some".to_owned()
            );
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS to upstreams cannot be set up: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

/// A connection.
#[derive(Debug)]
pub enum Link {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Link {
    /// The TCP connection.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// Connects to a replica.
///
/// # Errors
/// When it takes no connection within `limit`, or is not who it should be.
pub async fn connect(endpoint: &Endpoint, tls: Option<&Tls>, limit: Duration) -> Result<Link, LinkError> {
    let connecting = async {
        let stream = TcpStream::connect(endpoint.address).await?;
        // A head and a body's first chunk are two writes; the second must not wait for the first one's ACK.
        stream.set_nodelay(true)?;
        match (&endpoint.tls, tls) {
            (None, _) => Ok(Link::Plain(stream)),
            (Some(name), Some(Tls(connector))) => {
                Ok(Link::Tls(Box::new(connector.connect(name.clone(), stream).await?)))
            }
            (Some(_), None) => Err(LinkError::NoTls),
        }
    };
    timeout(limit, connecting).await.unwrap_or(Err(LinkError::Late))
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
