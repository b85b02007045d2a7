//! The one way in which connections to PostgreSQL are opened, by pools and by migrations. What is believed of its certificate lives in `tls`.

use std::{error::Error, io, time::Duration};

use diesel::{ConnectionError, ConnectionResult, result::Error as QueryError};
use diesel_async::AsyncPgConnection;
use orrery_config::database::Database;
use rustls::CertificateError;
use tokio_postgres::{
    Client, Config, Connection, Socket,
    config::{SslMode, TargetSessionAttrs},
    error::SqlState,
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    session::{Begun, Session, SessionError},
    tls::{self, TlsError},
};

/// How often a connection is opened whose first statements an inherited limit of time ends: there is no earlier place to lift it at. (`options` of the startup
/// message would be one; PgBouncer refuses them.)
const TRIES: u32 = 50;

/// How long a second connection may take while a pooler is looked for: also a busy machine opens one in that time.
const SECOND: Duration = Duration::from_secs(3);
/// How often each of two sessions is asked who it is.
const PROOFS: usize = 4;

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

    /// Opens one and sets it up. Its driver runs on the runtime that this is called on.
    ///
    /// # Errors
    /// What failed, with its causes and what to do.
    pub async fn connect(&self, session: &Session) -> ConnectionResult<AsyncPgConnection> {
        self.begin(session).await.map(|(connection, _)| connection)
    }

    /// Opens two, and asks whether each still leads to its own session: what pools by transaction mixes them up sooner or later, and the proof of a single
    /// new connection can miss that while nobody else is there.
    ///
    /// # Errors
    /// When they are mixed up, or the first cannot be opened.
    pub async fn prove_sessions(&self, session: &Session) -> ConnectionResult<()> {
        let (mut first, first_begun) = self.begin(session).await?;
        let second = async {
            let mut second = self.opened().await?;
            let begun = session.begin(&mut second).await;
            ConnectionResult::Ok((second, begun))
        };
        let proven = match tokio::time::timeout(SECOND, second).await {
            Ok(Ok((mut second, Ok(second_begun)))) => {
                let prove = async {
                    // Each statement may be lucky; each of these leaves the other's session to whoever asks next.
                    for _ in 0..PROOFS {
                        first_begun.prove(&mut first).await?;
                        second_begun.prove(&mut second).await?;
                    }
                    Ok(())
                };
                prove.await
            }
            // It was mixed up while it began.
            Ok(Ok((_, Err(SessionError::Shared)))) => Err(SessionError::Shared),
            // A pool of one connection keeps the second waiting, and mixes nothing up. There may be no slot for it either, which is not what is asked here.
            _ => first_begun.prove(&mut first).await,
        };
        proven.map_err(unsettled)
    }

    /// Opens one that speaks without diesel, for what diesel has no words for (COPY); with these settings.
    ///
    /// # Errors
    /// What failed, with its causes and what to do.
    pub async fn client(&self, settings: &str) -> ConnectionResult<Client> {
        let (client, connection) = self.negotiated().await.map_err(unreached)?;
        tokio::spawn(async move {
            // The client's own calls tell what became of the connection.
            let _ended = connection.await.is_err();
        });
        client.batch_execute(settings).await.map_err(unreached)?;
        Ok(client)
    }

    async fn opened(&self) -> ConnectionResult<AsyncPgConnection> {
        let mut tries = 1;
        loop {
            let (client, connection) = self.negotiated().await.map_err(unreached)?;
            match AsyncPgConnection::try_from_client_and_connection(client, connection).await {
                Err(ConnectionError::CouldntSetupConfiguration(QueryError::DatabaseError(..)))
                    if tries < TRIES =>
                {
                    tries += 1;
                }
                set_up => return set_up,
            }
        }
    }

    async fn begin(&self, session: &Session) -> ConnectionResult<(AsyncPgConnection, Begun)> {
        let mut connection = self.opened().await?;
        let begun = session.begin(&mut connection).await.map_err(unsettled)?;
        Ok((connection, begun))
    }

    async fn negotiated(&self) -> Result<Opened<Stream>, tokio_postgres::Error> {
        let mut tries = 1;
        loop {
            match self.open(&self.server).await {
                // `prefer` prefers, it does not insist.
                Err(error) if self.server.get_ssl_mode() == SslMode::Prefer && is_about_tls(&error) => {
                    let mut plain = self.server.clone();
                    plain.ssl_mode(SslMode::Disable);
                    return self.open(&plain).await;
                }
                // The question whether it is a primary was cut short.
                Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) && tries < TRIES => tries += 1,
                opened => return opened,
            }
        }
    }

    async fn open(&self, server: &Config) -> Result<Opened<Stream>, tokio_postgres::Error> {
        server.connect(self.tls.clone()).await
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn unreached(error: tokio_postgres::Error) -> ConnectionError {
    ConnectionError::BadConnection(explain(&error))
}

fn unsettled(error: SessionError) -> ConnectionError {
    ConnectionError::BadConnection(error.to_string())
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
        None if error.code().is_some_and(|code| *code == SqlState::TOO_MANY_CONNECTIONS) => {
            "PostgreSQL has no free slot for us: raise max_connections or the role's limit, or lower database.pool_size"
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
