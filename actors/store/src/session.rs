//! What a connection is told when it is opened, whatever server, database and role would have it inherit, and the proof that this is what the server goes by.
//! Opening lives in `connect`.

use std::sync::atomic::{AtomicU64, Ordering};

use diesel::{
    QueryResult, QueryableByName,
    sql_types::{Nullable, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

/// What our statements are written for. Names are written with their schema; an isolation above `read committed` would make statements fail that wait for each other.
const OURS: &str = "SET default_transaction_isolation = 'read committed'; SET default_transaction_deferrable = off; \
     SET search_path = pg_catalog; SET TimeZone = 'UTC'; SET row_security = on; SET lock_timeout = 0; \
     SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET standard_conforming_strings = on";

/// Before the role is taken: a superuser's session may be told to write its messages in English, others keep their language, which the proof finds.
const ENGLISH: &str = "DO $$ BEGIN \
         IF current_setting('lc_messages') !~ '^(C|POSIX|en|$)' THEN PERFORM set_config('lc_messages', 'C', false); END IF; \
     EXCEPTION WHEN insufficient_privilege THEN NULL; END $$";

/// Settings that not every version knows are turned off where there are any; a commit is one that survives a crash. Errors are told by their text (diesel hides
/// their code), so the server has to write them in English.
const PROOF: &str = "SELECT current_setting('orrery.session', true) AS session, current_user::text AS role, \
     current_setting('lc_messages') AS messages, \
     set_config('synchronous_commit', \
         CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false) AS commits, \
     (SELECT string_agg(set_config(name, '0', false), '') FROM pg_catalog.pg_settings \
         WHERE name IN ('idle_session_timeout', 'transaction_timeout') AND setting <> '0') AS unlimited";

/// What is said where another client's session answers.
pub const USE_SESSION_POOLING: &str = "another client's session answers: what stands before PostgreSQL pools by transaction or statement; \
     use session pooling (PgBouncer: pool_mode = session)";

/// Tells sessions of this process from each other.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// How often an inherited limit of time is tried to be lifted: it may be too short even for that.
const TRIES: u32 = 50;

/// How a connection is to be.
#[derive(Clone)]
pub struct Session {
    role: Option<String>,
    settings: String,
}

/// A session that has begun, to be known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    id: String,
    role: Option<String>,
}

/// What keeps a session from being as it should.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The server refused.
    #[error("a new connection cannot be set up: {0}")]
    Query(#[from] diesel::result::Error),
    /// What was set is not what holds.
    #[error("{USE_SESSION_POOLING}")]
    Shared,
    /// Errors could not be told apart.
    #[error(
        "the server writes its messages for '{0}', and the user may not change that: as a superuser run ALTER DATABASE ... SET lc_messages = 'C', or GRANT SET ON PARAMETER lc_messages TO the user of database.url"
    )]
    Messages(String),
}

#[derive(QueryableByName)]
struct Proof {
    #[diesel(sql_type = Nullable<Text>)]
    session: Option<String>,
    #[diesel(sql_type = Text)]
    role: String,
    #[diesel(sql_type = Text)]
    messages: String,
}

impl Session {
    /// A session that acts as `role`, if one is given, with `settings` of its own (`SET a = b; SET c = d`).
    pub fn new(role: Option<String>, settings: impl Into<String>) -> Self {
        Self { role, settings: settings.into() }
    }

    /// Sets a new connection up and proves it.
    ///
    /// # Errors
    /// When the server refuses, or another session answers.
    pub async fn begin(&self, connection: &mut AsyncPgConnection) -> Result<Begun, SessionError> {
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let role = self.role.as_ref().map(|role| format!("SET ROLE {role}; ")).unwrap_or_default();
        let Self { settings, .. } = self;
        // By itself and first: what is inherited may be too short for all that follows.
        let mut tries = 1;
        while let Err(error) = connection.batch_execute("SET statement_timeout = 0").await {
            let is_refused = matches!(error, diesel::result::Error::DatabaseError(..));
            if tries == TRIES || !is_refused {
                return Err(error.into());
            }
            tries += 1;
        }
        connection
            .batch_execute(&format!("{OURS}; {ENGLISH}; {settings}; {role}SET orrery.session = '{id}'"))
            .await?;
        let begun = Begun { id, role: self.role.clone() };
        let proof = begun.proof(connection).await?;
        let is_english = ["C", "POSIX", "en"].iter().any(|start| proof.messages.starts_with(start));
        if !is_english && !proof.messages.is_empty() {
            return Err(SessionError::Messages(proof.messages));
        }
        Ok(begun)
    }
}

impl Begun {
    /// Whether the connection still leads to the session that was begun.
    ///
    /// # Errors
    /// `Shared` when it does not; when the server refuses.
    pub async fn prove(&self, connection: &mut AsyncPgConnection) -> Result<(), SessionError> {
        self.proof(connection).await.map(drop)
    }

    async fn proof(&self, connection: &mut AsyncPgConnection) -> Result<Proof, SessionError> {
        let asked: QueryResult<Proof> = diesel::sql_query(PROOF).get_result(connection).await;
        let proof = match asked {
            // It was prepared on another server's connection.
            Err(error) if error.to_string().starts_with("prepared statement") => {
                return Err(SessionError::Shared);
            }
            asked => asked?,
        };
        let is_role = self.role.as_ref().is_none_or(|role| *role == proof.role);
        if proof.session.as_deref() == Some(self.id.as_str()) && is_role {
            Ok(proof)
        } else {
            Err(SessionError::Shared)
        }
    }
}
