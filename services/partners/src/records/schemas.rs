//! The registered JSON Schemas of types. Whether a new version may follow is `publish::compatible`'s to say.

use diesel::{
    OptionalExtension as _, QueryableByName,
    sql_types::{Integer, Jsonb, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use orrery_store::{StoreError, prepared::prepared};
use serde::Serialize;
use serde_json::Value;

/// A version of a type's schema.
#[derive(Debug, Clone, PartialEq, QueryableByName, Serialize)]
pub struct Registered {
    /// The type.
    #[diesel(sql_type = Text)]
    #[serde(rename = "type")]
    pub ty: String,
    /// The version, from 1 on.
    #[diesel(sql_type = Integer)]
    pub version: i32,
    /// The schema of the data.
    #[diesel(sql_type = Jsonb)]
    pub schema: Value,
}

/// The newest version of a type's schema.
///
/// # Errors
/// When the database refuses.
pub async fn newest(connection: &mut AsyncPgConnection, ty: &str) -> Result<Option<Registered>, StoreError> {
    Ok(prepared(
        "SELECT type AS ty, version, schema FROM partners.schemas WHERE type = $1 ORDER BY version DESC LIMIT 1",
    )
    .bind::<Text, _>(ty)
    .get_result(connection)
    .await
    .optional()?)
}

/// The newest versions of all types.
///
/// # Errors
/// When the database refuses.
pub async fn list(connection: &mut AsyncPgConnection) -> Result<Vec<Registered>, StoreError> {
    Ok(diesel::sql_query(
        "SELECT DISTINCT ON (type) type AS ty, version, schema FROM partners.schemas ORDER BY type, version DESC",
    )
    .load(connection)
    .await?)
}

/// Registers a version; false where it is there already.
///
/// # Errors
/// When the database refuses.
pub async fn add(
    connection: &mut AsyncPgConnection,
    ty: &str,
    version: i32,
    schema: &Value,
) -> Result<bool, StoreError> {
    let added = diesel::sql_query(
        "INSERT INTO partners.schemas (type, version, schema) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind::<Text, _>(ty)
    .bind::<Integer, _>(version)
    .bind::<Jsonb, _>(schema)
    .execute(connection)
    .await?;
    Ok(added > 0)
}
