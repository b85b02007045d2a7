//! Who partners are and what they may do.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension as _, QueryableByName,
    sql_types::{Array, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use orrery_store::{StoreError, prepared::prepared};
use serde::Serialize;
use uuid::Uuid;

const COLUMNS: &str = "id, name, origin, is_operator, sources, publishes, receives, events_per_minute, max_endpoints, contact, locale, created_at, disabled_at";

/// A partner.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName, Serialize)]
pub struct Partner {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Its name, which is its client id and the `sourceclient` of what it sends.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Where it comes from: `command` or `configuration`.
    #[diesel(sql_type = Text)]
    pub origin: String,
    /// Whether it may have the scope of the admin API.
    #[diesel(sql_type = Bool)]
    pub is_operator: bool,
    /// The sources that it may claim.
    #[diesel(sql_type = Array<Text>)]
    pub sources: Vec<String>,
    /// The types that it may send.
    #[diesel(sql_type = Array<Text>)]
    pub publishes: Vec<String>,
    /// The types that it may receive.
    #[diesel(sql_type = Array<Text>)]
    pub receives: Vec<String>,
    /// Its quota; none: the setting's.
    #[diesel(sql_type = Nullable<Integer>)]
    pub events_per_minute: Option<i32>,
    /// Its quota of endpoints; none: the setting's.
    #[diesel(sql_type = Nullable<Integer>)]
    pub max_endpoints: Option<i32>,
    /// The address of its owner, sealed.
    #[diesel(sql_type = Nullable<Text>)]
    #[serde(skip)]
    pub contact: Option<String>,
    /// The language of mails to its owner.
    #[diesel(sql_type = Text)]
    pub locale: String,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// Since when it may do nothing.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub disabled_at: Option<DateTime<Utc>>,
}

/// What a new partner is made of.
#[derive(Debug, Clone, Default)]
pub struct NewPartner {
    /// Its name.
    pub name: String,
    /// Whether it may have the scope of the admin API.
    pub is_operator: bool,
    /// The sources that it may claim.
    pub sources: Vec<String>,
    /// The types that it may send.
    pub publishes: Vec<String>,
    /// The types that it may receive.
    pub receives: Vec<String>,
    /// Its quota of events.
    pub events_per_minute: Option<i32>,
    /// Its quota of endpoints.
    pub max_endpoints: Option<i32>,
    /// The address of its owner, sealed for its id.
    pub contact: Option<String>,
    /// The language of mails to its owner.
    pub locale: String,
}

/// Makes a partner; returns false where the name is taken.
///
/// # Errors
/// When the database refuses.
pub async fn create(
    connection: &mut AsyncPgConnection,
    id: Uuid,
    new: &NewPartner,
) -> Result<bool, StoreError> {
    let made = diesel::sql_query(
        "INSERT INTO partners.partners (id, name, origin, is_operator, sources, publishes, receives, events_per_minute, max_endpoints, contact, locale) \
         VALUES ($1, $2, 'command', $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (name) DO NOTHING",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(&new.name)
    .bind::<Bool, _>(new.is_operator)
    .bind::<Array<Text>, _>(&new.sources)
    .bind::<Array<Text>, _>(&new.publishes)
    .bind::<Array<Text>, _>(&new.receives)
    .bind::<Nullable<Integer>, _>(new.events_per_minute)
    .bind::<Nullable<Integer>, _>(new.max_endpoints)
    .bind::<Nullable<Text>, _>(&new.contact)
    .bind::<Text, _>(&new.locale)
    .execute(connection)
    .await?;
    Ok(made > 0)
}

/// Takes a partner of the configuration over: what it may send and receive is the configuration's to say. One that was made by command under the same name
/// is left alone; returns whether that is so.
///
/// # Errors
/// When the database refuses.
pub async fn take_over(
    connection: &mut AsyncPgConnection,
    id: Uuid,
    name: &str,
    publishes: &[String],
    receives: &[String],
) -> Result<bool, StoreError> {
    let taken = diesel::sql_query(
        "INSERT INTO partners.partners AS old (id, name, origin, sources, publishes, receives) \
         VALUES ($1, $2, 'configuration', ARRAY['/' || $2 || '*'], $3, $4) \
         ON CONFLICT (name) DO UPDATE SET publishes = excluded.publishes, receives = excluded.receives \
         WHERE old.origin = 'configuration'",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(name)
    .bind::<Array<Text>, _>(publishes)
    .bind::<Array<Text>, _>(receives)
    .execute(connection)
    .await?;
    Ok(taken > 0)
}

/// By its id.
///
/// # Errors
/// When the database refuses.
pub async fn by_id(connection: &mut AsyncPgConnection, id: Uuid) -> Result<Option<Partner>, StoreError> {
    Ok(prepared(format!("SELECT {COLUMNS} FROM partners.partners WHERE id = $1"))
        .bind::<SqlUuid, _>(id)
        .get_result(connection)
        .await
        .optional()?)
}

/// By its name.
///
/// # Errors
/// When the database refuses.
pub async fn by_name(connection: &mut AsyncPgConnection, name: &str) -> Result<Option<Partner>, StoreError> {
    Ok(prepared(format!("SELECT {COLUMNS} FROM partners.partners WHERE name = $1"))
        .bind::<Text, _>(name)
        .get_result(connection)
        .await
        .optional()?)
}

/// By name, those after `after`.
///
/// # Errors
/// When the database refuses.
pub async fn list(
    connection: &mut AsyncPgConnection,
    after: &str,
    limit: i64,
) -> Result<Vec<Partner>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM partners.partners WHERE name > $1 ORDER BY name LIMIT $2");
    Ok(prepared(sql)
        .bind::<Text, _>(after)
        .bind::<diesel::sql_types::BigInt, _>(limit)
        .load(connection)
        .await?)
}

/// Forbids it everything, or allows it again; its endpoints are heard of it. Returns whether that changed anything.
///
/// # Errors
/// When the database refuses.
pub async fn set_disabled(
    connection: &mut AsyncPgConnection,
    id: Uuid,
    disabled: bool,
) -> Result<bool, StoreError> {
    let changed = diesel::sql_query(
        "UPDATE partners.partners SET disabled_at = CASE WHEN $2 THEN now() END WHERE id = $1 AND (disabled_at IS NULL) = $2",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Bool, _>(disabled)
    .execute(connection)
    .await?;
    diesel::sql_query("UPDATE partners.endpoints SET version = version + 1 WHERE partner = $1")
        .bind::<SqlUuid, _>(id)
        .execute(connection)
        .await?;
    Ok(changed > 0)
}

/// Removes it with its keys, endpoints and their dead letters; what it sent stays in the log until it is too old.
///
/// # Errors
/// When the database refuses.
pub async fn remove(connection: &mut AsyncPgConnection, id: Uuid) -> Result<bool, StoreError> {
    let gone = diesel::sql_query("DELETE FROM partners.partners WHERE id = $1")
        .bind::<SqlUuid, _>(id)
        .execute(connection)
        .await?;
    Ok(gone > 0)
}
