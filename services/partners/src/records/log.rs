//! The one log of events: written once for each event, placed in order after the commit, read from a position on.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension as _, QueryableByName,
    sql_types::{Array, BigInt, Binary, Double, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use orrery_store::{StoreError, prepared::prepared};
use uuid::Uuid;

use super::Number;

/// An event to be logged.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its key: see [`key`].
    pub key: Uuid,
    /// The partner that sent it; none for our own.
    pub sender: Option<Uuid>,
    /// Its type.
    pub ty: String,
    /// In the JSON format.
    pub event: Vec<u8>,
}

/// An event of the log.
#[derive(Debug, Clone, QueryableByName)]
pub struct Logged {
    /// Its place.
    #[diesel(sql_type = BigInt)]
    pub position: i64,
    /// Under which it is delivered, always the same.
    #[diesel(sql_type = SqlUuid)]
    pub key: Uuid,
    /// Its type.
    #[diesel(sql_type = Text)]
    pub ty: String,
    /// In the JSON format.
    #[diesel(sql_type = Binary)]
    pub event: Vec<u8>,
    /// When it was written, by the database's clock.
    #[diesel(sql_type = Timestamptz)]
    pub logged_at: DateTime<Utc>,
}

impl Logged {
    /// The event's bytes.
    pub fn take_bytes(&mut self) -> Bytes {
        std::mem::take(&mut self.event).into()
    }
}

#[derive(QueryableByName)]
struct Key {
    #[diesel(sql_type = SqlUuid)]
    key: Uuid,
}

/// What an event is known by: 16 bytes of a digest of its sender, source and id. A partner can take no id of another's.
pub fn key(sender: Option<Uuid>, source: &str, id: &str) -> Uuid {
    let mut text = sender.map(|sender| sender.as_bytes().to_vec()).unwrap_or_default();
    text.push(0);
    text.extend_from_slice(source.as_bytes());
    text.push(0);
    text.extend_from_slice(id.as_bytes());
    let digest = orrery_seal::sha256(&text);
    let half = digest.get(..16).and_then(|half| <[u8; 16]>::try_from(half).ok()).unwrap_or_default();
    Uuid::from_bytes(half)
}

/// Logs those that are not there yet; returns their keys.
///
/// # Errors
/// When the database refuses.
pub async fn add(connection: &mut AsyncPgConnection, events: &[NewEvent]) -> Result<Vec<Uuid>, StoreError> {
    let keys: Vec<Uuid> = events.iter().map(|event| event.key).collect();
    let senders: Vec<Option<Uuid>> = events.iter().map(|event| event.sender).collect();
    let types: Vec<&str> = events.iter().map(|event| event.ty.as_str()).collect();
    let bodies: Vec<&[u8]> = events.iter().map(|event| event.event.as_slice()).collect();
    let added: Vec<Key> = prepared(
        "INSERT INTO partners.log (key, sender, type, event) SELECT * FROM unnest($1, $2, $3, $4) \
         ON CONFLICT (key) DO NOTHING RETURNING key",
    )
    .bind::<Array<SqlUuid>, _>(keys)
    .bind::<Array<Nullable<SqlUuid>>, _>(senders)
    .bind::<Array<Text>, _>(types)
    .bind::<Array<Binary>, _>(bodies)
    .load(connection)
    .await?;
    Ok(added.into_iter().map(|row| row.key).collect())
}

/// Gives positions to what was committed without one; returns the last position.
///
/// # Errors
/// When the database refuses.
pub async fn place(connection: &mut AsyncPgConnection, most: i32) -> Result<i64, StoreError> {
    let head: Number = prepared("SELECT partners.place($1) AS number")
        .bind::<Integer, _>(most)
        .get_result(connection)
        .await?;
    Ok(head.number)
}

/// The last position that was given.
///
/// # Errors
/// When the database refuses.
pub async fn head(connection: &mut AsyncPgConnection) -> Result<i64, StoreError> {
    let head: Number =
        prepared("SELECT position AS number FROM partners.head").get_result(connection).await?;
    Ok(head.number)
}

/// The first position that is still there; none while the log is empty.
///
/// # Errors
/// When the database refuses.
pub async fn first(connection: &mut AsyncPgConnection) -> Result<Option<i64>, StoreError> {
    let first: Option<Number> = prepared(
        "SELECT position AS number FROM partners.log WHERE position IS NOT NULL ORDER BY position LIMIT 1",
    )
    .get_result(connection)
    .await
    .optional()?;
    Ok(first.map(|row| row.number))
}

/// At most `limit` events after `after`, in their order, of 4 MiB together or one.
///
/// # Errors
/// When the database refuses.
pub async fn after(
    connection: &mut AsyncPgConnection,
    after: i64,
    limit: i64,
) -> Result<Vec<Logged>, StoreError> {
    Ok(prepared(
        "SELECT position, key, type AS ty, event, logged_at FROM ( \
            SELECT *, sum(octet_length(event)) OVER (ORDER BY position) AS total FROM ( \
                SELECT position, key, type, event, logged_at FROM partners.log WHERE position > $1 ORDER BY position LIMIT $2) AS slice) AS counted \
         WHERE total <= 4194304 OR total = octet_length(event) ORDER BY position",
    )
    .bind::<BigInt, _>(after)
    .bind::<BigInt, _>(limit)
    .load(connection)
    .await?)
}

/// Removes up to `limit` events that are older than `keep_seconds`.
///
/// # Errors
/// When the database refuses.
pub async fn prune(
    connection: &mut AsyncPgConnection,
    keep_seconds: f64,
    limit: i64,
) -> Result<usize, StoreError> {
    Ok(prepared(
        "DELETE FROM partners.log WHERE seq = ANY(ARRAY(SELECT seq FROM partners.log \
         WHERE logged_at < now() - make_interval(secs => $1) AND position IS NOT NULL \
         ORDER BY logged_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    )
    .bind::<Double, _>(keep_seconds)
    .bind::<BigInt, _>(limit)
    .execute(connection)
    .await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_by_sender_source_and_id() {
        let (a, b) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
        assert_eq!(key(a, "/s", "1"), key(a, "/s", "1"));
        assert_ne!(key(a, "/s", "1"), key(b, "/s", "1"));
        assert_ne!(key(a, "/s", "1"), key(None, "/s", "1"));
        assert_ne!(key(a, "/s", "11"), key(a, "/s1", "1"));
    }
}
