//! The audit log: who did what to whom, written in the transaction of what was done. Names are sealed.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, Insertable, QueryDsl, Queryable, Selectable, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_seal::{SealError, Sealer};
use orrery_store::StoreError;
use uuid::Uuid;

use crate::{
    account::change::{Change, Circumstances, Conflicting},
    schema::audit,
};

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An operator at the command line, by the name that the system knows.
    CommandLine(String),
    /// An operator with an account, by its name.
    Account(String),
}

impl Actor {
    fn text(&self) -> String {
        match self {
            Self::CommandLine(name) => format!("cli:{name}"),
            Self::Account(name) => format!("account:{name}"),
        }
    }
}

/// What is done, and by whom.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Who.
    pub actor: Actor,
    /// What, such as `account.suspend`.
    pub action: &'static str,
    /// The account that it is done to.
    pub account: Option<Uuid>,
    /// The name of that account.
    pub subject: Option<String>,
    /// What else there is to say.
    pub detail: Option<String>,
}

#[derive(Insertable)]
#[diesel(table_name = audit)]
struct NewRow<'a> {
    id: Uuid,
    at: DateTime<Utc>,
    action: &'a str,
    account: Option<Uuid>,
    actor: String,
    subject: Option<String>,
    detail: Option<String>,
}

/// Writes a line.
///
/// # Errors
/// When the database refuses.
pub async fn write(
    connection: &mut AsyncPgConnection,
    with: &Circumstances,
    entry: &Entry,
) -> Result<(), AuditError> {
    let id = with.tools.random.uuid_v7(&with.tools.clock);
    let owner = id.to_string();
    let seal = |text: &str| with.tools.vault.audit.seal(text.as_bytes(), &owner);
    let row = NewRow {
        id,
        at: with.now,
        action: entry.action,
        account: entry.account,
        actor: seal(&entry.actor.text())?,
        subject: entry.subject.as_deref().map(seal).transpose()?,
        detail: entry.detail.as_deref().map(seal).transpose()?,
    };
    diesel::insert_into(audit::table).values(row).execute(connection).await?;
    Ok(())
}

/// A line was not written, or not read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A name could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Conflicting for AuditError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

impl From<diesel::result::Error> for AuditError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A change with its line in the log: both, or neither.
pub struct Audited<C> {
    /// The change.
    pub change: C,
    /// The line.
    pub entry: Entry,
}

#[async_trait]
impl<C> Change for Audited<C>
where
    C: Change,
    C::Error: From<SealError>,
{
    type Done = C::Done;
    type Error = C::Error;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<C::Done, C::Error> {
        let done = self.change.apply(connection, with).await?;
        match write(connection, with, &self.entry).await {
            Ok(()) => Ok(done),
            Err(AuditError::Store(error)) => Err(error.into()),
            Err(AuditError::Seal(error)) => Err(error.into()),
        }
    }
}

/// A line of the log.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = audit)]
struct Row {
    id: Uuid,
    at: DateTime<Utc>,
    action: String,
    account: Option<Uuid>,
    actor: String,
    subject: Option<String>,
    detail: Option<String>,
}

/// A line of the log, opened.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Line {
    /// Its id, by which the next page is asked for.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub action: String,
    /// The account that it was done to.
    pub account: Option<Uuid>,
    /// Who.
    pub actor: String,
    /// The name of that account then.
    pub subject: Option<String>,
    /// What else there is to say.
    pub detail: Option<String>,
}

/// Lines, the newest first; `before` is the last id of the page before.
///
/// # Errors
/// When the database refuses.
pub async fn read(
    connection: &mut AsyncPgConnection,
    sealer: &Sealer,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Line>, AuditError> {
    let mut query = audit::table.order(audit::id.desc()).limit(limit).select(Row::as_select()).into_boxed();
    if let Some(before) = before {
        query = query.filter(audit::id.lt(before));
    }
    let rows: Vec<Row> = query.load(connection).await?;
    Ok(rows.into_iter().map(|row| opened(sealer, row)).collect())
}

/// Lines about one account.
///
/// # Errors
/// When the database refuses.
pub async fn about(
    connection: &mut AsyncPgConnection,
    sealer: &Sealer,
    account: Uuid,
) -> Result<Vec<Line>, StoreError> {
    let rows: Vec<Row> = audit::table
        .filter(audit::account.eq(account))
        .order(audit::at)
        .limit(10_000)
        .select(Row::as_select())
        .load(connection)
        .await?;
    Ok(rows.into_iter().map(|row| opened(sealer, row)).collect())
}

fn opened(sealer: &Sealer, row: Row) -> Line {
    let owner = row.id.to_string();
    // A line whose key is gone still says what was done and when.
    let open = |sealed: String| match sealer.open(&sealed, &owner) {
        Ok(plain) => String::from_utf8_lossy(&plain).into_owned(),
        Err(_) => "(sealed under a key that is not in the configuration)".to_owned(),
    };
    Line {
        id: row.id,
        at: row.at,
        action: row.action,
        account: row.account,
        actor: open(row.actor),
        subject: row.subject.map(open),
        detail: row.detail.map(open),
    }
}

/// Removes lines that are older than they may get, at most `limit`; returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn prune(
    connection: &mut AsyncPgConnection,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<usize, StoreError> {
    let old: Vec<Uuid> = audit::table
        .filter(audit::at.lt(before))
        .order((audit::at, audit::id))
        .limit(limit)
        .select(audit::id)
        .load(connection)
        .await?;
    Ok(diesel::delete(audit::table.filter(audit::id.eq_any(old))).execute(connection).await?)
}

/// An operator has looked at something that concerns a person: nothing but the line.
pub struct Look {
    /// The line.
    pub entry: Entry,
}

#[async_trait]
impl Change for Look {
    type Done = ();
    type Error = AuditError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<(), AuditError> {
        write(connection, with, &self.entry).await
    }
}
