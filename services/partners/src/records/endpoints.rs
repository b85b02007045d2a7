//! Endpoints: where events are pushed to, what of them, how far they are, and which process delivers.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension as _, QueryableByName,
    sql_types::{Array, BigInt, Binary, Bool, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use orrery_store::{StoreError, prepared::prepared};
use serde_json::Value;
use uuid::Uuid;

use super::Number;

const COLUMNS: &str = "id, partner, url, types, attributes, filter, rate, allowed_rate, concurrency, ordered, secret, previous_secret, previous_until, \
     state, reason, held, cursor, failing_since, version, created_at";
/// How long a process keeps an endpoint without a word.
pub const LEASE_SECONDS: i32 = 15;

/// An endpoint.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Endpoint {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Whose it is.
    #[diesel(sql_type = SqlUuid)]
    pub partner: Uuid,
    /// Where events are pushed to.
    #[diesel(sql_type = Text)]
    pub url: String,
    /// Beginnings of types; none: all.
    #[diesel(sql_type = Array<Text>)]
    pub types: Vec<String>,
    /// Attributes that must have these values: an object of texts.
    #[diesel(sql_type = Jsonb)]
    pub attributes: Value,
    /// CloudEvents SQL.
    #[diesel(sql_type = Nullable<Text>)]
    pub filter: Option<String>,
    /// Deliveries a minute that it wants.
    #[diesel(sql_type = Nullable<Integer>)]
    pub rate: Option<i32>,
    /// Deliveries a minute that its handshake allowed.
    #[diesel(sql_type = Nullable<Integer>)]
    pub allowed_rate: Option<i32>,
    /// Deliveries at work at once.
    #[diesel(sql_type = Integer)]
    pub concurrency: i32,
    /// Whether events of a subject come one after the other.
    #[diesel(sql_type = Bool)]
    pub ordered: bool,
    /// Its secret, sealed for its id.
    #[diesel(sql_type = Text)]
    pub secret: String,
    /// The one before.
    #[diesel(sql_type = Nullable<Text>)]
    pub previous_secret: Option<String>,
    /// Until when that one signs too.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub previous_until: Option<DateTime<Utc>>,
    /// `pending`, `active` or `disabled`.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// Why it is not active.
    #[diesel(sql_type = Nullable<Text>)]
    pub reason: Option<String>,
    /// Whether only an operator may enable it.
    #[diesel(sql_type = Bool)]
    pub held: bool,
    /// Up to where everything is settled.
    #[diesel(sql_type = BigInt)]
    pub cursor: i64,
    /// Since when every try fails.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub failing_since: Option<DateTime<Utc>>,
    /// Raised with every change.
    #[diesel(sql_type = Integer)]
    pub version: i32,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// What an endpoint is made of, or changed to.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where events are pushed to.
    pub url: String,
    /// Beginnings of types.
    pub types: Vec<String>,
    /// Attributes that must have these values.
    pub attributes: Value,
    /// CloudEvents SQL.
    pub filter: Option<String>,
    /// Deliveries a minute that it wants.
    pub rate: Option<i32>,
    /// Deliveries at work at once.
    pub concurrency: i32,
    /// Whether events of a subject come one after the other.
    pub ordered: bool,
}

/// An endpoint that a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub struct HeldEndpoint {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Its version.
    #[diesel(sql_type = Integer)]
    pub version: i32,
}

/// Makes an endpoint, `pending`, that begins with what comes now.
///
/// # Errors
/// When the database refuses.
pub async fn create(
    connection: &mut AsyncPgConnection,
    id: Uuid,
    partner: Uuid,
    settings: &Settings,
    secret: &str,
    confirmation: &[u8],
) -> Result<(), StoreError> {
    diesel::sql_query(
        "INSERT INTO partners.endpoints (id, partner, url, types, attributes, filter, rate, concurrency, ordered, secret, state, confirmation, cursor) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'pending', $11, (SELECT position FROM partners.head))",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<SqlUuid, _>(partner)
    .bind::<Text, _>(&settings.url)
    .bind::<Array<Text>, _>(&settings.types)
    .bind::<Jsonb, _>(&settings.attributes)
    .bind::<Nullable<Text>, _>(&settings.filter)
    .bind::<Nullable<Integer>, _>(settings.rate)
    .bind::<Integer, _>(settings.concurrency)
    .bind::<Bool, _>(settings.ordered)
    .bind::<Text, _>(secret)
    .bind::<Binary, _>(confirmation)
    .execute(connection)
    .await?;
    Ok(())
}

/// Changes what it gets and where; another address has to be confirmed anew, and enables nothing that an operator disabled.
///
/// # Errors
/// When the database refuses.
pub async fn change(
    connection: &mut AsyncPgConnection,
    id: Uuid,
    settings: &Settings,
    confirmation: &[u8],
) -> Result<(), StoreError> {
    diesel::sql_query(
        "UPDATE partners.endpoints SET version = version + 1, types = $3, attributes = $4, filter = $5, rate = $6, concurrency = $7, ordered = $8, \
            state = CASE WHEN url = $2 OR held THEN state ELSE 'pending' END, confirmed = confirmed AND url = $2, \
            confirmation = CASE WHEN url = $2 THEN confirmation ELSE $9 END, url = $2 WHERE id = $1",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(&settings.url)
    .bind::<Array<Text>, _>(&settings.types)
    .bind::<Jsonb, _>(&settings.attributes)
    .bind::<Nullable<Text>, _>(&settings.filter)
    .bind::<Nullable<Integer>, _>(settings.rate)
    .bind::<Integer, _>(settings.concurrency)
    .bind::<Bool, _>(settings.ordered)
    .bind::<Binary, _>(confirmation)
    .execute(connection)
    .await?;
    Ok(())
}

/// Locks the partner's row, so that two requests do not both take the last place; returns how many endpoints it has.
///
/// # Errors
/// When the database refuses.
pub async fn count(connection: &mut AsyncPgConnection, partner: Uuid) -> Result<i64, StoreError> {
    diesel::sql_query("SELECT 1 FROM partners.partners WHERE id = $1 FOR UPDATE")
        .bind::<SqlUuid, _>(partner)
        .execute(connection)
        .await?;
    let count: Number =
        diesel::sql_query("SELECT count(*) AS number FROM partners.endpoints WHERE partner = $1")
            .bind::<SqlUuid, _>(partner)
            .get_result(connection)
            .await?;
    Ok(count.number)
}

/// One of a partner.
///
/// # Errors
/// When the database refuses.
pub async fn of(
    connection: &mut AsyncPgConnection,
    partner: Uuid,
    id: Uuid,
) -> Result<Option<Endpoint>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM partners.endpoints WHERE id = $1 AND partner = $2");
    Ok(diesel::sql_query(sql)
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(partner)
        .get_result(connection)
        .await
        .optional()?)
}

/// By its id, whoever's it is.
///
/// # Errors
/// When the database refuses.
pub async fn by_id(connection: &mut AsyncPgConnection, id: Uuid) -> Result<Option<Endpoint>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM partners.endpoints WHERE id = $1");
    Ok(diesel::sql_query(sql).bind::<SqlUuid, _>(id).get_result(connection).await.optional()?)
}

/// All of a partner, or of everybody, the oldest first.
///
/// # Errors
/// When the database refuses.
pub async fn list(
    connection: &mut AsyncPgConnection,
    partner: Option<Uuid>,
) -> Result<Vec<Endpoint>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM partners.endpoints WHERE $1 IS NULL OR partner = $1 ORDER BY id LIMIT 10000"
    );
    Ok(diesel::sql_query(sql).bind::<Nullable<SqlUuid>, _>(partner).load(connection).await?)
}

/// Removes one of a partner, with what waits for it.
///
/// # Errors
/// When the database refuses.
pub async fn remove(connection: &mut AsyncPgConnection, id: Uuid) -> Result<bool, StoreError> {
    let gone = diesel::sql_query("DELETE FROM partners.endpoints WHERE id = $1")
        .bind::<SqlUuid, _>(id)
        .execute(connection)
        .await?;
    Ok(gone > 0)
}

/// Delivers to it no more; `held` until an operator enables it. Returns whether that changed anything.
///
/// # Errors
/// When the database refuses.
pub async fn disable(
    connection: &mut AsyncPgConnection,
    id: Uuid,
    reason: &str,
    held: bool,
) -> Result<bool, StoreError> {
    let changed = diesel::sql_query(
        "UPDATE partners.endpoints SET state = 'disabled', reason = $2, held = $3, version = version + 1, failing_since = NULL \
         WHERE id = $1 AND (state <> 'disabled' OR $3 > held)",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(reason)
    .bind::<Bool, _>(held)
    .execute(connection)
    .await?;
    Ok(changed > 0)
}

/// Delivers to a disabled one again, as far as its receiver has allowed that: else it is pending. What an operator disabled stays so unless `even_held`.
/// Returns whether that changed anything.
///
/// # Errors
/// When the database refuses.
pub async fn enable(
    connection: &mut AsyncPgConnection,
    id: Uuid,
    even_held: bool,
) -> Result<bool, StoreError> {
    let changed = diesel::sql_query(
        "UPDATE partners.endpoints SET state = CASE WHEN confirmed THEN 'active' ELSE 'pending' END, \
            reason = CASE WHEN NOT confirmed THEN 'its receiver has not allowed deliveries yet' END, \
            held = false, version = version + 1, failing_since = NULL WHERE id = $1 AND state = 'disabled' AND ($2 OR NOT held)",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Bool, _>(even_held)
    .execute(connection)
    .await?;
    Ok(changed > 0)
}

/// Delivers to it again, or no more, as an operator says; returns whether that changed anything.
///
/// # Errors
/// When the database refuses.
pub async fn set(connection: &mut AsyncPgConnection, id: Uuid, enabled: bool) -> Result<bool, StoreError> {
    if enabled {
        enable(connection, id, true).await
    } else {
        disable(connection, id, "by an operator", true).await
    }
}

/// What its receiver said to the handshake: yes with a rate, or why not.
///
/// # Errors
/// When the database refuses.
pub async fn set_handshake(
    connection: &mut AsyncPgConnection,
    id: Uuid,
    answer: Result<Option<i32>, &str>,
) -> Result<(), StoreError> {
    let (state, rate, reason) = match answer {
        Ok(rate) => ("active", rate, None),
        Err(reason) => ("pending", None, Some(reason)),
    };
    diesel::sql_query(
        "UPDATE partners.endpoints SET state = $2, confirmed = $2 = 'active', allowed_rate = coalesce($3, allowed_rate), reason = $4, version = version + 1, failing_since = NULL \
         WHERE id = $1 AND state = 'pending'",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(state)
    .bind::<Nullable<Integer>, _>(rate)
    .bind::<Nullable<Text>, _>(reason)
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives a pending endpoint another one-time secret to be confirmed by.
///
/// # Errors
/// When the database refuses.
pub async fn set_confirmation(
    connection: &mut AsyncPgConnection,
    id: Uuid,
    digest: &[u8],
) -> Result<(), StoreError> {
    diesel::sql_query("UPDATE partners.endpoints SET confirmation = $2 WHERE id = $1 AND state = 'pending'")
        .bind::<SqlUuid, _>(id)
        .bind::<Binary, _>(digest)
        .execute(connection)
        .await?;
    Ok(())
}

/// Confirms a pending endpoint by the one-time secret that its receiver was sent.
///
/// # Errors
/// When the database refuses.
pub async fn confirm(
    connection: &mut AsyncPgConnection,
    id: Uuid,
    secret: &str,
    rate: Option<i32>,
) -> Result<bool, StoreError> {
    let confirmed = diesel::sql_query(
        "UPDATE partners.endpoints SET state = 'active', confirmed = true, reason = NULL, allowed_rate = $3, confirmation = NULL, version = version + 1 \
         WHERE id = $1 AND state = 'pending' AND confirmation = $2",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Binary, _>(orrery_seal::sha256(secret.as_bytes()))
    .bind::<Nullable<Integer>, _>(rate)
    .execute(connection)
    .await?;
    Ok(confirmed > 0)
}

/// Gives it a secret; the one before signs too for `overlap_seconds`.
///
/// # Errors
/// When the database refuses.
pub async fn rotate_secret(
    connection: &mut AsyncPgConnection,
    id: Uuid,
    secret: &str,
    overlap_seconds: f64,
) -> Result<(), StoreError> {
    diesel::sql_query(
        "UPDATE partners.endpoints SET previous_secret = secret, previous_until = now() + make_interval(secs => $3), secret = $2, \
            version = version + 1 WHERE id = $1",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(secret)
    .bind::<diesel::sql_types::Double, _>(overlap_seconds)
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps what this process holds; returns what it still holds.
///
/// # Errors
/// When the database refuses.
pub async fn renew(connection: &mut AsyncPgConnection, lease: Uuid) -> Result<Vec<HeldEndpoint>, StoreError> {
    Ok(prepared(
        "UPDATE partners.endpoints SET leased_until = now() + make_interval(secs => $2) \
         WHERE lease = $1 AND state = 'active' RETURNING id, version",
    )
    .bind::<SqlUuid, _>(lease)
    .bind::<Integer, _>(LEASE_SECONDS)
    .load(connection)
    .await?)
}

/// Takes at most `limit` active endpoints that nobody holds.
///
/// # Errors
/// When the database refuses.
pub async fn claim(
    connection: &mut AsyncPgConnection,
    lease: Uuid,
    limit: i64,
) -> Result<Vec<Endpoint>, StoreError> {
    let sql = format!(
        "UPDATE partners.endpoints SET lease = $1, leased_until = now() + make_interval(secs => $2) \
         WHERE id = ANY(ARRAY(SELECT id FROM partners.endpoints WHERE state = 'active' \
              AND (leased_until < now() OR leased_until > now() + make_interval(secs => 2 * $2)) \
            ORDER BY leased_until LIMIT $3 FOR UPDATE SKIP LOCKED)) RETURNING {COLUMNS}"
    );
    Ok(prepared(sql)
        .bind::<SqlUuid, _>(lease)
        .bind::<Integer, _>(LEASE_SECONDS)
        .bind::<BigInt, _>(limit)
        .load(connection)
        .await?)
}

/// Gives back all that this process holds.
///
/// # Errors
/// When the database refuses.
pub async fn release(connection: &mut AsyncPgConnection, lease: Uuid) -> Result<(), StoreError> {
    prepared("UPDATE partners.endpoints SET lease = NULL, leased_until = '-infinity' WHERE lease = $1")
        .bind::<SqlUuid, _>(lease)
        .execute(connection)
        .await?;
    Ok(())
}

/// Moves cursors on, of those that this process still holds. Not awaited on the disk: what a crash of the server forgets of them is delivered once more.
///
/// # Errors
/// When the database refuses.
pub async fn move_on(
    connection: &mut AsyncPgConnection,
    lease: Uuid,
    cursors: &[(Uuid, i64)],
) -> Result<(), StoreError> {
    let (ids, cursors): (Vec<Uuid>, Vec<i64>) = cursors.iter().copied().unzip();
    prepared(
        "UPDATE partners.endpoints SET cursor = greatest(cursor, ($3::bigint[])[array_position($2::uuid[], id)]) \
         FROM set_config('synchronous_commit', 'off', true) WHERE id = ANY($2::uuid[]) AND lease = $1",
    )
    .bind::<SqlUuid, _>(lease)
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Array<BigInt>, _>(cursors)
    .execute(connection)
    .await?;
    Ok(())
}

/// Says that it fails, since now unless before, or that it does not any more; returns since when it fails.
///
/// # Errors
/// When the database refuses.
pub async fn set_failing(
    connection: &mut AsyncPgConnection,
    id: Uuid,
    now: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    prepared(
        "UPDATE partners.endpoints SET failing_since = CASE WHEN $2::timestamptz IS NULL THEN NULL ELSE coalesce(failing_since, $2) END WHERE id = $1",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Nullable<Timestamptz>, _>(now)
    .execute(connection)
    .await?;
    Ok(())
}
