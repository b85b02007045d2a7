//! The one way in which connections to PostgreSQL are opened, by pools and by migrations. What is believed of its certificate lives in `tls`.

use std::{error::Error, io};

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::AsyncPgConnection;
use rustls::CertificateError;
use tokio_postgres::{
    Client, Config, Connection, Socket,
    config::{SslMode, TargetSessionAttrs},
    error::SqlState,
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls::{self, TlsError};
use crate::config::database::Database;

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// The address cannot be read.
    #[error("{0}")]
    Address(String),
    /// Nobody could be believed.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Opens connections to the configured server.
#[derive(Clone)]
pub struct Connector {
    server: Config,
    tls: MakeRustlsConnect,
}

type Opened<S> = (Client, Connection<Socket, S>);
type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

impl Connector {
    /// By the configuration; reads the trusted certificates, and opens nothing yet.
    ///
    /// # Errors
    /// When the address cannot be read or its certificates cannot be used.
    pub fn new(config: &Database) -> Result<Self, ConnectorError> {
        let address = config.address().map_err(ConnectorError::Address)?;
        let mut server = address.server;
        // A pool would keep what it once opened to a standby, also when the address leads to the new primary.
        if server.get_target_session_attrs() == TargetSessionAttrs::Any {
            server.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        Ok(Self { server, tls: MakeRustlsConnect::new(tls::client(address.trust)?) })
    }

    /// Opens one. Its driver runs on the runtime that this is called on.
    ///
    /// # Errors
    /// What failed, with its causes and what to do.
    pub async fn connect(&self) -> ConnectionResult<AsyncPgConnection> {
        let opened = match self.open(&self.server).await {
            // `prefer` prefers, it does not insist.
            Err(error) if self.server.get_ssl_mode() == SslMode::Prefer && is_about_tls(&error) => {
                let mut plain = self.server.clone();
                plain.ssl_mode(SslMode::Disable);
                self.open(&plain).await
            }
            opened => opened,
        };
        let (client, connection) = opened.map_err(|error| ConnectionError::BadConnection(explain(&error)))?;
        AsyncPgConnection::try_from_client_and_connection(client, connection).await
    }

    async fn open(&self, server: &Config) -> Result<Opened<Stream>, tokio_postgres::Error> {
        server.connect(self.tls.clone()).await
    }
}

/// Whether the server could take the same without TLS: the handshake failed, or its `pg_hba.conf` wants none.
fn is_about_tls(error: &tokio_postgres::Error) -> bool {
    handshake(error).is_some() || error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// How the handshake failed, if it did.
fn handshake(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    error.source()?.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}

/// The error with its causes, and what to do.
fn explain(error: &tokio_postgres::Error) -> String {
    use rustls::Error::InvalidCertificate;
    let hint = match handshake(error) {
        Some(InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "name the PEM file of the authority that signed it by sslrootcert=FILE in database.url"
        }
        Some(InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "write a host that its subjectAltName lists into database.url, or sslmode=verify-ca",
        Some(InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            "renew the server's certificate"
        }
        Some(_) => "look at the server's certificate, and at sslmode and sslrootcert in database.url",
        None if error.to_string().contains("TLS") => {
            "set ssl = on at the server, or sslmode=prefer in database.url"
        }
        None if error.to_string().contains("does not allow writes") => {
            "it is a standby or read-only: let database.url lead to the primary"
        }
        None => "look at database.url",
    };
    let (mut told, mut source) = (vec![error.to_string()], error.source());
    while let Some(cause) = source {
        told.push(cause.to_string());
        source = cause.source();
    }
    // An I/O error that only wraps another says the same.
    told.dedup();
    format!("{}; {hint}", told.join(": "))
}
