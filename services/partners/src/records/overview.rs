//! Partners and endpoints with how far they are, for operators.

use diesel::sql_types::{BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use orrery_service::{Partner, Webhook};
use orrery_store::StoreError;
use uuid::Uuid;

/// At most `limit` partners after a name, by name.
///
/// # Errors
/// When the database refuses.
pub async fn partners(
    connection: &mut AsyncPgConnection,
    after: &str,
    limit: i64,
) -> Result<Vec<Partner>, StoreError> {
    Ok(diesel::sql_query(
        "SELECT name, is_operator, publishes, receives, disabled_at, \
            (SELECT count(*) FROM partners.endpoints AS e WHERE e.partner = p.id) AS endpoints \
         FROM partners.partners AS p WHERE name > $1 ORDER BY name LIMIT $2",
    )
    .bind::<Text, _>(after)
    .bind::<BigInt, _>(limit)
    .load(connection)
    .await?)
}

/// At most `limit` endpoints: the one of this id, those of a partner, or all; those that are not well first.
///
/// # Errors
/// When the database refuses.
pub async fn endpoints(
    connection: &mut AsyncPgConnection,
    id: Option<Uuid>,
    partner: Option<&str>,
    limit: i64,
) -> Result<Vec<Webhook>, StoreError> {
    // Dead letters could be millions.
    Ok(diesel::sql_query(
        "SELECT e.id, p.name AS partner, e.url, e.state, e.reason, e.held AS is_held, e.failing_since, greatest(h.position - e.cursor, 0) AS behind, \
            (SELECT count(*) FROM partners.deliveries AS d WHERE d.endpoint = e.id AND d.state = 'retry') AS retried, \
            (SELECT count(*) FROM (SELECT FROM partners.deliveries AS d WHERE d.endpoint = e.id AND d.state = 'dead' LIMIT 10000) AS few) AS dead \
         FROM partners.endpoints AS e JOIN partners.partners AS p ON p.id = e.partner CROSS JOIN partners.head AS h \
         WHERE ($1 IS NULL OR e.id = $1) AND ($2 IS NULL OR p.name = $2) \
         ORDER BY e.state = 'active' AND e.failing_since IS NULL, p.name, e.id LIMIT $3",
    )
    .bind::<Nullable<SqlUuid>, _>(id)
    .bind::<Nullable<Text>, _>(partner)
    .bind::<BigInt, _>(limit)
    .load(connection)
    .await?)
}
