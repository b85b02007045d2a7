//! The row of an export: asked for, ready, fetched once.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_store::StoreError;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::{
    account::{
        change::{self, Change, Circumstances},
        error::ChangeError,
        update::usable,
    },
    credential::proof::Proof,
    schema::exports,
};

fn seconds<S: Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)).serialize(serializer)
}

/// An export as its person sees it.
#[derive(Debug, Clone, Queryable, Selectable, Serialize)]
#[diesel(table_name = exports)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// Its id.
    pub id: Uuid,
    /// `pending`, `ready`, `fetched`, `expired` or `failed`.
    #[diesel(column_name = state)]
    pub status: String,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it was ready.
    #[serde(serialize_with = "seconds")]
    pub ready_at: Option<DateTime<Utc>>,
    /// How long it can be fetched.
    #[serde(serialize_with = "seconds")]
    pub expires_at: Option<DateTime<Utc>>,
    /// How large it is.
    pub size_bytes: Option<i64>,
}

/// The newest export of an account.
///
/// # Errors
/// When the database refuses.
pub async fn newest(connection: &mut AsyncPgConnection, account: Uuid) -> Result<Option<Export>, StoreError> {
    Ok(exports::table
        .filter(exports::account.eq(account))
        .order(exports::created_at.desc())
        .select(Export::as_select())
        .first(connection)
        .await
        .optional()?)
}

/// The exports among `ids` whose archives are wanted, each of them with `true`.
///
/// # Errors
/// When the database refuses.
pub async fn named(
    connection: &mut AsyncPgConnection,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, bool>, StoreError> {
    let wanted: Vec<Uuid> = exports::table
        .filter(exports::id.eq_any(ids))
        .filter(exports::state.eq_any(["pending", "ready", "fetched"]))
        .select(exports::id)
        .load(connection)
        .await?;
    Ok(wanted.into_iter().map(|id| (id, true)).collect())
}

/// Asks for an export; one that is not ready yet is the answer to every further request.
pub struct AskExport {
    /// Whose.
    pub account: Uuid,
    /// What it is allowed by: an archive is all that a thief could want.
    pub proof: Proof,
}

#[async_trait]
impl Change for AskExport {
    type Done = Export;
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<Export, ChangeError> {
        let account = usable(change::lock(connection, self.account).await?)?;
        self.proof.spend(connection, with.now).await?;
        if let Some(export) = newest(connection, account.id).await?
            && export.status == "pending"
        {
            return Ok(export);
        }
        let id = with.tools.random.uuid_v7(&with.tools.clock);
        Ok(diesel::insert_into(exports::table)
            .values((exports::id.eq(id), exports::account.eq(account.id), exports::created_at.eq(with.now)))
            .returning(Export::as_returning())
            .get_result(connection)
            .await?)
    }
}

/// Takes an archive that is ready, once: where it lies. None where there is no such archive of the account.
pub struct TakeExport {
    /// Whose.
    pub account: Uuid,
    /// Which.
    pub export: Uuid,
}

#[async_trait]
impl Change for TakeExport {
    type Done = Option<String>;
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<Option<String>, ChangeError> {
        // The account's lock keeps a second request waiting.
        let account = usable(change::lock(connection, self.account).await?)?;
        let Some(key) = ready(connection, account.id, self.export, with.now).await? else { return Ok(None) };
        diesel::update(exports::table.find(self.export))
            .set(exports::state.eq("fetched"))
            .execute(connection)
            .await?;
        Ok(Some(key))
    }
}

/// Where an archive of the account lies that can be fetched; none where there is no such archive, or not yet.
///
/// # Errors
/// When it was fetched before or has ended, or the database refuses.
pub async fn ready(
    connection: &mut AsyncPgConnection,
    account: Uuid,
    export: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<String>, ChangeError> {
    let row: Option<(String, Option<String>, Option<DateTime<Utc>>)> = exports::table
        .find(export)
        .filter(exports::account.eq(account))
        .select((exports::state, exports::object_key, exports::expires_at))
        .first(connection)
        .await
        .optional()?;
    let Some((state, key, expires_at)) = row else { return Ok(None) };
    match state.as_str() {
        "ready" if expires_at.is_some_and(|expires_at| expires_at > now) => Ok(key),
        "pending" => Ok(None),
        _ => Err(ChangeError::Fetched),
    }
}
