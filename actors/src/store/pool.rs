//! A pool of connections per service, each stepped down to the service's role. Queries do not live here.

use std::time::Duration;

use diesel::ConnectionError;
use diesel_async::{
    AsyncPgConnection, SimpleAsyncConnection,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
        deadpool::{Object, Pool as Deadpool, PoolError},
    },
};
use futures_util::FutureExt;
use orrery_schemas::services::Service;
use tokio::runtime::Handle;

use super::connect::{Connector, ConnectorError};
use crate::config::database::Database;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection could be had in time: the database is away or all connections are at work.
    #[error("no connection to the database")]
    Unavailable(#[source] Box<PoolError>),
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
    /// The keeper of a consumer's claims has ended, and the consumer with it.
    #[error("the keeper of claims has ended")]
    KeeperEnded,
    /// A claim was lost to another process, so the effect was rolled back.
    #[error("the lease was lost to another process")]
    LeaseLost,
}

/// What diesel has no kind for, so the server's own words decide (SQLSTATE 57014, 57P01 to 57P03, 40P01, 53100, 53200). Where they are not
/// English, a claim still tells by trying another one (`inbox::is_writable`).
const OUTAGES: &[&str] = &[
    "terminating connection",
    "the database system is",
    "canceling statement due to",
    "deadlock detected",
    "could not extend file",
    "could not write to file",
    "out of memory",
    "out of shared memory",
];

impl StoreError {
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
            Self::Query(_) | Self::Connector(_) | Self::Task(_) | Self::KeeperEnded | Self::LeaseLost => {
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

/// Connections of one service.
#[derive(Clone)]
pub struct Pool {
    connections: Deadpool<AsyncPgConnection>,
    limit: Duration,
    main: Handle,
}

/// One connection, given back when dropped.
pub type Connection = Object<AsyncPgConnection>;

impl Pool {
    /// A pool whose connections are opened on the runtime `main` (a connection's driver lives where it was opened) and act as the
    /// service's role. Nothing is opened yet.
    ///
    /// # Errors
    /// When the address or its certificates cannot be used, or the pool's settings contradict each other.
    pub fn new(config: &Database, service: Service, main: Handle) -> Result<Self, StoreError> {
        let setup = format!(
            "SET ROLE orrery_{service}; SET statement_timeout = {}; SET idle_in_transaction_session_timeout = {}; \
             {FIXED_PLANS}; SET application_name = 'orrery-{service}'",
            config.statement_timeout.as_millis(),
            config.statement_timeout.as_millis() * 2,
        );
        Self::build(config, config.pool_size, setup, main)
    }

    /// A pool of `size` connections as the configured user, for migrations and checks.
    ///
    /// # Errors
    /// As `new`.
    pub fn admin(config: &Database, size: usize, main: Handle) -> Result<Self, StoreError> {
        Self::build(config, size, "SET application_name = 'orrery'".to_owned(), main)
    }

    fn build(config: &Database, size: usize, setup: String, main: Handle) -> Result<Self, StoreError> {
        let (connector, runtime) = (Connector::new(config)?, main.clone());
        let mut manager = ManagerConfig::default();
        manager.recycling_method = RecyclingMethod::Fast;
        manager.custom_setup = Box::new(move |_| {
            let (connector, setup, runtime) = (connector.clone(), setup.clone(), runtime.clone());
            async move {
                runtime
                    .spawn(async move {
                        let mut connection = connector.connect().await?;
                        connection
                            .batch_execute(&setup)
                            .await
                            .map_err(|error| ConnectionError::BadConnection(error.to_string()))?;
                        Ok(connection)
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
        Ok(Self { connections, limit: config.statement_timeout + Duration::from_secs(1), main })
    }

    /// One connection.
    ///
    /// # Errors
    /// When none can be had within the configured wait.
    pub async fn get(&self) -> Result<Connection, StoreError> {
        self.connections.get().await.map_err(|error| StoreError::Unavailable(Box::new(error)))
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
        let task = self.main.spawn(async move {
            let connection = pool.get().await?;
            match tokio::time::timeout(pool.limit, work(connection)).await {
                Ok(result) => result,
                Err(_) => Err(E::from(StoreError::Silent(pool.limit))),
            }
        });
        task.await.map_err(|error| E::from(StoreError::Task(error.to_string())))?
    }

    /// Whether the database answers within `limit`.
    pub async fn is_up(&self, limit: Duration) -> bool {
        let ask = async {
            let mut connection = self.get().await.ok()?;
            connection.batch_execute("SELECT 1").await.ok()
        };
        matches!(tokio::time::timeout(limit, ask).await, Ok(Some(())))
    }
}
