//! Client secrets: two of a partner are valid at once, so that a rotation interrupts nobody. Only their digests are kept.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension as _, QueryableByName,
    sql_types::{Binary, Double, Nullable, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use orrery_store::{StoreError, prepared::prepared};
use orrery_supervise::random::Random;
use serde::Serialize;
use uuid::Uuid;
use zeroize::Zeroizing;

/// What a secret begins with, so that a scanner of leaked secrets knows it.
const PREFIX: &str = "orrery_secret_";

/// A key as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName, Serialize)]
pub struct Key {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When it ends, if it was rotated.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub expires_at: Option<DateTime<Utc>>,
}

/// Whose secret it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub struct Owner {
    /// The key.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The partner.
    #[diesel(sql_type = SqlUuid)]
    pub partner: Uuid,
}

/// A new secret of 256 random bits, shown once.
pub fn fresh(random: &Random) -> Zeroizing<String> {
    Zeroizing::new(format!("{PREFIX}{}", BASE64.encode(random.bytes::<32>())))
}

/// Gives a partner a key. The newest one before stays valid for `overlap`, all older ones end now.
///
/// # Errors
/// When the database refuses.
pub async fn rotate(
    connection: &mut AsyncPgConnection,
    partner: Uuid,
    id: Uuid,
    secret: &str,
    overlap: Duration,
) -> Result<(), StoreError> {
    diesel::sql_query(
        "UPDATE partners.keys SET expires_at = CASE WHEN expires_at IS NULL THEN now() + make_interval(secs => $2) ELSE least(expires_at, now()) END \
         WHERE partner = $1",
    )
    .bind::<SqlUuid, _>(partner)
    .bind::<Double, _>(overlap.as_secs_f64())
    .execute(connection)
    .await?;
    diesel::sql_query("INSERT INTO partners.keys (id, partner, digest) VALUES ($1, $2, $3)")
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(partner)
        .bind::<Binary, _>(orrery_seal::sha256(secret.as_bytes()))
        .execute(connection)
        .await?;
    Ok(())
}

/// Whose valid secret it is. It has 256 random bits, so an index may compare its digest.
///
/// # Errors
/// When the database refuses.
pub async fn owner(connection: &mut AsyncPgConnection, secret: &str) -> Result<Option<Owner>, StoreError> {
    Ok(prepared(
        "SELECT id, partner FROM partners.keys WHERE digest = $1 AND (expires_at IS NULL OR expires_at > now())",
    )
    .bind::<Binary, _>(orrery_seal::sha256(secret.as_bytes()))
    .get_result(connection)
    .await
    .optional()?)
}

/// The valid keys of a partner, the newest first.
///
/// # Errors
/// When the database refuses.
pub async fn valid(connection: &mut AsyncPgConnection, partner: Uuid) -> Result<Vec<Key>, StoreError> {
    Ok(prepared(
        "SELECT id, created_at, expires_at FROM partners.keys WHERE partner = $1 AND (expires_at IS NULL OR expires_at > now()) \
         ORDER BY created_at DESC",
    )
    .bind::<SqlUuid, _>(partner)
    .load(connection)
    .await?)
}
