//! A pool of connections per service, each stepped down to the service's role. Queries do not live here.

use std::time::{Duration, Instant};

use diesel::ConnectionError;
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
        deadpool::{Object, Pool as Deadpool, PoolError},
    },
};
use futures_util::FutureExt;
use orrery_config::database::Database;
use orrery_observability::{
    metrics::{self, PoolFigures},
    trace::in_current,
};
use orrery_schemas::services::ServiceId;
use tokio::runtime::Handle;

use super::{
    connect::{Connector, ConnectorError},
    inbox,
    session::Session,
    statements::Statements,
};

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection could be had in time: the database is away or all connections are at work.
    #[error("no connection to the database: {}", lack(.0))]
    Unavailable(Box<PoolError>),
    /// The database refused or went away.
    #[error("the database failed: {0}")]
    Query(#[from] diesel::result::Error),
    /// The database answers and takes no writes: a standby, or a full disk.
    #[error("the database takes no writes: {0}")]
    Unwritable(#[source] Box<Self>),
    /// The database took the statement and never answered.
    #[error("the database did not answer within {0:?}")]
    Silent(Duration),
    /// The database's address cannot be used.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// A task of ours ended early.
    #[error("the database task ended early: {0}")]
    Task(String),
    /// What writes a consumer's claims has ended, and the consumer with it.
    #[error("what writes claims has ended")]
    ClaimsEnded,
    /// A claim was lost to another process, so the effect was rolled back.
    #[error("the lease was lost to another process")]
    LeaseLost,
}

/// What diesel has no kind for, so the beginning of the server's text decides, which is in English by `session` (classes 53, 57 and 58 of SQLSTATE, 40P01, 55P03, 26000):
/// the server is stopping, starting, out of something, or was told to give up.
const OUTAGES: &[&str] = &[
    "terminating connection",
    "the database system is",
    "the database is",
    "canceling statement due to",
    "canceling autovacuum",
    "deadlock detected",
    "could not ",
    "out of memory",
    "out of shared memory",
    "sorry, too many clients",
    "remaining connection slots",
    "too many connections",
    "no more connections allowed",
    "query_wait_timeout",
    "server closed the connection",
    "server conn crashed",
    "client_idle_timeout",
    "idle transaction timeout",
    "prepared statement",
    "No space left on device",
];

/// Whether a statement that failed so may well succeed when it is run again at once: another transaction stood in its way.
fn is_conflict(error: &diesel::result::Error) -> bool {
    use diesel::result::{DatabaseErrorKind as Kind, Error};
    match error {
        Error::DatabaseError(Kind::SerializationFailure, _) => true,
        Error::DatabaseError(Kind::Unknown, told) => told.message().starts_with("deadlock detected"),
        _ => false,
    }
}

/// Why there is no connection, in words.
fn lack(error: &PoolError) -> String {
    use diesel_async::pooled_connection::PoolError as Cause;
    match error {
        PoolError::Backend(Cause::ConnectionError(error)) => error.to_string(),
        PoolError::Backend(Cause::QueryError(error)) => error.to_string(),
        PoolError::Timeout(_) => {
            "all of database.pool_size are at work, or PostgreSQL does not answer".to_owned()
        }
        other => other.to_string(),
    }
}

impl StoreError {
    /// Whether the same may well succeed when it is tried again at once (SQLSTATE 40001 and 40P01): another transaction stood in its way, and this one is rolled back.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Query(error) if is_conflict(error))
    }

    /// Whether the database is away, as opposed to refusing this one statement.
    pub fn is_outage(&self) -> bool {
        use diesel::result::{DatabaseErrorKind as Kind, Error};
        match self {
            Self::Unavailable(_) | Self::Unwritable(_) | Self::Silent(_) => true,
            Self::Query(Error::DatabaseError(kind, information)) => match kind {
                Kind::ClosedConnection
                | Kind::UnableToSendCommand
                | Kind::SerializationFailure
                | Kind::ReadOnlyTransaction => true,
                Kind::Unknown => OUTAGES.iter().any(|start| information.message().starts_with(start)),
                _ => false,
            },
            Self::Query(Error::BrokenTransactionManager) => true,
            Self::Query(_) | Self::Connector(_) | Self::Task(_) | Self::ClaimsEnded | Self::LeaseLost => {
                false
            }
        }
    }
}

/// Statements are planned once per connection, which costs many of them more than their work. A plan made while a table is small, and kept, would read the
/// whole table when it has grown: so what a planner prefers for small tables is taken from it, and what remains is one look along an index for each row.
/// No statement of a service that stays prepared may be a join, whose order would be open (decision 23). Disabled ways look dear, and `jit` would compile them.
const FIXED_PLANS: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off; \
     SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off";

/// How the configured user's own connections are: commands may take their time.
pub(super) fn operator() -> Session {
    Session::new(
        None,
        "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET application_name = 'orrery'",
    )
}

/// Connections of one service.
#[derive(Clone)]
pub struct Pool {
    connections: Deadpool<AsyncPgConnection>,
    limit: Duration,
    main: Handle,
    /// How metrics and traces name it: after its service.
    name: &'static str,
}

/// One connection, given back when dropped.
pub type Connection = Object<AsyncPgConnection>;

impl Pool {
    /// A pool whose connections are opened on the runtime `main` (a connection's driver lives where it was opened) and act as the
    /// service's role. Nothing is opened yet.
    ///
    /// # Errors
    /// When the address or its certificates cannot be used, or the pool's settings contradict each other.
    pub fn new(config: &Database, service: ServiceId, main: Handle) -> Result<Self, StoreError> {
        let settings = format!(
            "SET statement_timeout = {}; SET idle_in_transaction_session_timeout = {}; {FIXED_PLANS}; \
             SET application_name = 'orrery-{service}'",
            config.statement_timeout.as_millis(),
            config.statement_timeout.as_millis() * 2,
        );
        let session = Session::new(Some(format!("orrery_{service}")), settings);
        let pool = Self::build(config, config.pool_size, session, main, service.name())?;
        let connections = pool.connections.weak();
        metrics::observe_pool(service.name(), move || {
            let status = connections.upgrade()?.status();
            let idle = status.available;
            Some(PoolFigures { size: status.size, idle, max: status.max_size, waiting: status.waiting })
        });
        Ok(pool)
    }

    /// A pool of `size` connections as the configured user, for migrations and checks.
    ///
    /// # Errors
    /// As `new`.
    pub fn admin(config: &Database, size: usize, main: Handle) -> Result<Self, StoreError> {
        Self::build(config, size, operator(), main, "operator")
    }

    /// A pool of `size` connections that act as the service's role and whose statements may take `limit` (zero: as long as they do): for
    /// what an operator asks, which no plan was made for.
    ///
    /// # Errors
    /// As `new`.
    pub fn operating(
        config: &Database,
        service: ServiceId,
        size: usize,
        limit: Duration,
        main: Handle,
    ) -> Result<Self, StoreError> {
        let settings = format!(
            "SET statement_timeout = {0}; SET idle_in_transaction_session_timeout = {0}; SET jit = off; \
             SET application_name = 'orrery-{service}'",
            limit.as_millis(),
        );
        let session = Session::new(Some(format!("orrery_{service}")), settings);
        Self::build(config, size, session, main, "operating")
    }

    fn build(
        config: &Database,
        size: usize,
        session: Session,
        main: Handle,
        name: &'static str,
    ) -> Result<Self, StoreError> {
        let (connector, runtime) = (Connector::new(config)?, main.clone());
        let mut manager = ManagerConfig::default();
        manager.recycling_method = RecyclingMethod::Fast;
        manager.custom_setup = Box::new(move |_| {
            let (connector, session, runtime) = (connector.clone(), session.clone(), runtime.clone());
            async move {
                runtime
                    .spawn(async move {
                        let mut connection = connector.connect(&session).await?;
                        connection.set_instrumentation(Statements::of(name));
                        Ok::<_, ConnectionError>(connection)
                    })
                    .await
                    .map_err(|error| ConnectionError::BadConnection(error.to_string()))?
            }
            .boxed()
        });
        let manager = AsyncDieselConnectionManager::new_with_config("", manager);
        let connections = Deadpool::builder(manager)
            .max_size(size)
            .wait_timeout(Some(config.wait_timeout))
            .create_timeout(Some(config.wait_timeout))
            .recycle_timeout(Some(config.wait_timeout))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Task(error.to_string()))?;
        Ok(Self { connections, limit: config.statement_timeout + Duration::from_secs(1), main, name })
    }

    /// One connection.
    ///
    /// # Errors
    /// When none can be had within the configured wait.
    pub async fn get(&self) -> Result<Connection, StoreError> {
        let begun = Instant::now();
        let got = self.connections.get().await;
        metrics::pool_wait(self.name, begun.elapsed(), got.is_ok());
        got.map_err(|error| StoreError::Unavailable(Box::new(error)))
    }

    /// Runs `work` to its end on the main runtime, whatever becomes of the caller: a dropped transaction would keep its locks on the
    /// server until its connection is used again. A server that does not answer at all is given up a second after it should have.
    ///
    /// # Errors
    /// What `work` returns, and when no connection can be had.
    pub async fn run<T, E, F, Fut>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(Connection) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        let pool = self.clone();
        let task = self.main.spawn(in_current(async move {
            let connection = pool.get().await?;
            match tokio::time::timeout(pool.limit, work(connection)).await {
                Ok(result) => result,
                Err(_) => Err(E::from(StoreError::Silent(pool.limit))),
            }
        }));
        task.await.map_err(|error| E::from(StoreError::Task(error.to_string())))?
    }

    /// The same again, up to three times in all, when another transaction stood in its way (`StoreError::is_conflict`).
    ///
    /// # Errors
    /// As `run`.
    pub async fn retry<T, F, Fut>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(Connection) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        for _ in 0..2 {
            match self.run(work.clone()).await {
                Err(error) if error.is_conflict() => {}
                done => return done,
            }
        }
        self.run(work).await
    }

    /// Whether the database answers within `limit`.
    pub async fn is_up(&self, limit: Duration) -> bool {
        let ask = async {
            let mut connection = self.get().await.ok()?;
            connection.batch_execute("SELECT 1").await.ok()
        };
        matches!(tokio::time::timeout(limit, ask).await, Ok(Some(())))
    }

    /// Whether a connection is to be had within `limit`; why not, for an operator.
    ///
    /// # Errors
    /// The reason.
    pub async fn has_connection(&self, limit: Duration) -> Result<(), String> {
        match tokio::time::timeout(limit, self.get()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no connection within {limit:?}")),
        }
    }

    /// Whether it takes writes within `limit`, with the reason when it does not: for health, in words.
    ///
    /// # Errors
    /// Why no connection can be had, or nothing be written.
    pub async fn state(&self, limit: Duration) -> Result<(), String> {
        let asked = tokio::time::timeout(limit, inbox::refusal(self, limit)).await;
        match asked {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(refusal))) => Err(format!("it takes no writes: {refusal}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no connection, or no answer, within {limit:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use diesel::result::{DatabaseErrorKind, Error};

    use super::*;

    fn refused(text: &str) -> StoreError {
        StoreError::Query(Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(text.to_owned())))
    }

    #[test]
    fn what_the_server_lacks_is_an_outage_and_what_we_wrote_wrong_is_none() {
        for text in [
            "could not extend file \"base/1/2\": No space left on device",
            "canceling statement due to lock timeout",
            "sorry, too many clients already",
            "prepared statement \"s3\" does not exist",
            "the database system is starting up",
            "deadlock detected",
        ] {
            assert!(refused(text).is_outage(), "{text}");
        }
        for text in [
            "relation \"bus.inbx\" does not exist",
            "permission denied for schema autha",
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        ] {
            assert!(!refused(text).is_outage(), "{text}");
        }
        assert!(refused("deadlock detected").is_conflict());
        assert!(!refused("out of memory").is_conflict());
    }
}
