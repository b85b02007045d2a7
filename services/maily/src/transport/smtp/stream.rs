//! The bytes of a connection: TCP, or TLS above it with the server's certificate checked. What is said over it lives in `session`.

use std::{fs, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::reply::{Incoming, Reply, ReplyError};

/// How many replies' worth is read at once.
const BUFFER: usize = 4 * 1024;

trait Socket: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Socket for T {}

/// A connected stream that replies are read from.
pub(super) struct Stream(BufReader<Box<dyn Socket>>);

/// TLS as it is to be spoken to one server.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of authorities cannot be read as PEM.
    #[error("{path} cannot be read as certificates in PEM: {cause}")]
    Authorities {
        /// The file.
        path: String,
        /// Why not.
        cause: String,
    },
    /// The system trusts nobody.
    #[error(
        "this system trusts no certificate authority: install ca-certificates, or name a PEM file by ca_file"
    )]
    NoAuthorities,
    /// The host is no name that a certificate could be for.
    #[error("the host is no name that a certificate could be for: {0}")]
    Name(#[from] InvalidDnsNameError),
    /// The library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

impl Tls {
    /// Believes whom the system trusts, or only the authorities in `ca_file`; the certificate must be for `host`.
    ///
    /// # Errors
    /// When there is nobody to believe.
    pub(super) fn new(host: &str, ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        match ca_file {
            Some(path) => {
                let fault = |cause: String| TlsError::Authorities { path: path.display().to_string(), cause };
                let pem = fs::read(path).map_err(|error| fault(error.to_string()))?;
                for certificate in CertificateDer::pem_slice_iter(&pem) {
                    let certificate = certificate.map_err(|error| fault(error.to_string()))?;
                    roots.add(certificate).map_err(|error| fault(error.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(fault("it holds no certificate".into()));
                }
            }
            None => {
                // Some systems carry authorities that nobody can read; the others still count.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(TlsError::NoAuthorities);
                }
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned())?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    async fn handshake(&self, socket: impl Socket + 'static) -> io::Result<Stream> {
        Ok(Stream::new(Box::new(self.connector.connect(self.name.clone(), socket).await?)))
    }
}

impl Stream {
    fn new(socket: Box<dyn Socket>) -> Self {
        Self(BufReader::with_capacity(BUFFER, socket))
    }

    /// Connects to the first address of `host` that answers within `each`, with TLS from the first byte when `tls` is given.
    ///
    /// # Errors
    /// The look-up's, or the last address's.
    pub(super) async fn connect(
        host: &str,
        port: u16,
        each: Duration,
        tls: Option<&Tls>,
    ) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in lookup_host((host, port)).await? {
            match connect_to(address, each).await {
                Ok(socket) => {
                    return match tls {
                        Some(tls) => tls.handshake(socket).await,
                        None => Ok(Self::new(Box::new(socket))),
                    };
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Goes on over TLS, after the server agreed to it.
    ///
    /// # Errors
    /// When the server said more than its agreement (it would count as said under TLS, though anybody may have put it there), and
    /// when the handshake fails.
    pub(super) async fn encrypted(self, tls: &Tls) -> io::Result<Self> {
        if !self.0.buffer().iter().all(u8::is_ascii_whitespace) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the server went on in the clear after STARTTLS",
            ));
        }
        tls.handshake(self.0.into_inner()).await
    }

    /// Reads one reply.
    ///
    /// # Errors
    /// When none came.
    pub(super) async fn reply(&mut self, incoming: &mut Incoming) -> Result<Reply, ReplyError> {
        incoming.read(&mut self.0).await
    }

    /// Whether something was said that nobody asked for.
    pub(super) fn has_unread(&self) -> bool {
        !self.0.buffer().is_empty()
    }

    /// Writes all of it and sees it on its way.
    ///
    /// # Errors
    /// When the connection broke.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let socket = self.0.get_mut();
        socket.write_all(bytes).await?;
        socket.flush().await
    }
}

async fn connect_to(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let connecting = timeout(limit, TcpStream::connect(address)).await;
    let socket = connecting
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {limit:?}")))??;
    // The message and its last line go out in two writes: Nagle's algorithm would hold the second back until the first is
    // acknowledged, which takes 40 ms.
    socket.set_nodelay(true)?;
    Ok(socket)
}
