//! What a change of accounts is: one transaction with its events, run by the accounts actor. The changes themselves live in their rooms.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper,
    result::{DatabaseErrorKind, Error as DieselError},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use orrery_bus::relay::Wake;
use orrery_schemas::{
    events::{AccountUpdated, Changed},
    ids::AccountId,
    trace::TraceParent,
};
use orrery_store::{
    Pool, StoreError,
    outbox::{About, Outbox},
};
use orrery_supervise::{Message, clock::Clock, random::Random};
use uuid::Uuid;

use crate::{config::Config, schema::accounts, vault::Vault};

/// How often a transaction is run that another one stood in the way of.
const TRIES: usize = 3;

/// What changes work with.
#[derive(Clone)]
pub struct Tools {
    /// Autha's connections.
    pub pool: Pool,
    /// Autha's keys.
    pub vault: Arc<Vault>,
    /// Where messages are written.
    pub outbox: Outbox,
    /// Rung after a commit.
    pub wake: Wake,
    /// The settings.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Clock,
    /// Ids and secrets.
    pub random: Random,
}

/// What every change knows beside its own data.
#[derive(Clone)]
pub struct Circumstances {
    /// The tools.
    pub tools: Tools,
    /// The time.
    pub now: DateTime<Utc>,
    /// The trace of the request.
    pub trace: TraceParent,
}

/// A change of accounts.
///
/// Locks are taken in one order everywhere: the account's row, then its session, then its token; one account only.
#[async_trait]
pub trait Change: Send + Sync + 'static {
    /// What it gives.
    type Done: Send + 'static;
    /// Why it was refused.
    type Error: Conflicting + From<StoreError> + From<DieselError> + std::fmt::Display + Send + 'static;

    /// Makes the change within the transaction of `connection`. An error rolls it back. It may run more than once.
    ///
    /// # Errors
    /// Why nothing was changed.
    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<Self::Done, Self::Error>;
}

/// An error of a change, which tells whether the change may be run again.
pub trait Conflicting {
    /// Whether another transaction stood in the way.
    fn is_conflict(&self) -> bool;
}

/// Has the accounts actor make a change.
pub struct Perform<C> {
    /// The change.
    pub change: C,
    /// The trace of the request.
    pub trace: TraceParent,
}

impl<C: Change> Message for Perform<C> {
    type Result = Result<C::Done, C::Error>;
}

/// Runs a change in a transaction of its own, and wakes the relay after it.
///
/// # Errors
/// What the change returns, and when no connection can be had.
pub async fn perform<C: Change>(tools: Tools, change: C, trace: TraceParent) -> Result<C::Done, C::Error> {
    let pool = tools.pool.clone();
    pool.run(move |mut connection| async move {
        let with = Circumstances { now: tools.clock.now(), trace, tools };
        for _ in 1..TRIES {
            match run(&mut connection, &change, &with).await {
                Err(error) if error.is_conflict() => {}
                done => return done,
            }
        }
        run(&mut connection, &change, &with).await
    })
    .await
}

async fn run<C: Change>(
    connection: &mut AsyncPgConnection,
    change: &C,
    with: &Circumstances,
) -> Result<C::Done, C::Error> {
    let done = connection
        .transaction::<_, C::Error, _>(async |connection| change.apply(connection, with).await)
        .await?;
    with.tools.wake.wake();
    Ok(done)
}

/// SQLSTATE 40001 and 40P01.
impl Conflicting for StoreError {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Query(DieselError::DatabaseError(DatabaseErrorKind::SerializationFailure, _)) => true,
            // diesel has no kind for it; the message is C's, as our sessions ask for.
            Self::Query(DieselError::DatabaseError(DatabaseErrorKind::Unknown, information)) => {
                information.message().starts_with("deadlock detected")
            }
            _ => false,
        }
    }
}

/// An account's row, locked for a change.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = accounts)]
pub struct Locked {
    /// Its internal id.
    pub id: Uuid,
    /// The name that it is found by.
    pub vanity: String,
    /// The name as it is shown.
    pub username: String,
    /// The normal form of the address, sealed.
    pub email_normal: String,
    /// The address as typed, sealed.
    pub email_typed: String,
    /// When the address was verified.
    pub email_verified_at: Option<DateTime<Utc>>,
    /// The language.
    pub locale: String,
    /// A few words.
    pub summary: Option<String>,
    /// The row's version.
    pub version: i64,
    /// When it was suspended.
    pub suspended_at: Option<DateTime<Utc>>,
    /// When it is gone, if it was asked to be deleted.
    pub purge_at: Option<DateTime<Utc>>,
}

/// Locks an account's row: the first lock of every change.
///
/// # Errors
/// When the database refuses.
pub async fn lock(connection: &mut AsyncPgConnection, account: Uuid) -> Result<Option<Locked>, StoreError> {
    Ok(accounts::table
        .find(account)
        .select(Locked::as_select())
        .for_update()
        .first(connection)
        .await
        .optional()?)
}

impl Circumstances {
    /// Raises the version of a locked account and tells what changed: one never happens without the other.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn changed(
        &self,
        connection: &mut AsyncPgConnection,
        account: Uuid,
        changed: &[Changed],
    ) -> Result<i64, StoreError> {
        raise(connection, &self.tools.outbox, account, changed, Some(self.trace)).await
    }
}

/// Raises the version of an account and tells what changed.
///
/// # Errors
/// When the database refuses. Locks the account's row.
pub async fn raise(
    connection: &mut AsyncPgConnection,
    outbox: &Outbox,
    account: Uuid,
    changed: &[Changed],
    trace: Option<TraceParent>,
) -> Result<i64, StoreError> {
    let version: i64 = diesel::update(accounts::table.find(account))
        .set(accounts::version.eq(accounts::version + 1))
        .returning(accounts::version)
        .get_result(connection)
        .await?;
    let updated = AccountUpdated { account: AccountId(account), version, changed: changed.to_vec() };
    outbox
        .event(connection, &updated, About { subject: Some(account), version: Some(version), trace })
        .await?;
    Ok(version)
}
