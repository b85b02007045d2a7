//! Partners and endpoints with how far they are, for operators.

use diesel::{
    QueryableByName,
    sql_types::{BigInt, Nullable, Text, Uuid as SqlUuid},
};
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

/// How many endpoints are in each state, and how many deliveries were not taken.
#[derive(Debug, Clone, Copy, QueryableByName)]
pub struct Figures {
    /// Endpoints whose handshake was not answered.
    #[diesel(sql_type = BigInt)]
    pub pending: i64,
    /// Endpoints that take.
    #[diesel(sql_type = BigInt)]
    pub active: i64,
    /// Endpoints that are delivered to and took nothing at the last try.
    #[diesel(sql_type = BigInt)]
    pub failing: i64,
    /// Endpoints that are not delivered to.
    #[diesel(sql_type = BigInt)]
    pub disabled: i64,
    /// Deliveries that are tried again, up to 100,000.
    #[diesel(sql_type = BigInt)]
    pub retry: i64,
    /// Dead letters, up to 100,000.
    #[diesel(sql_type = BigInt)]
    pub dead: i64,
}

/// Counts for the metrics.
///
/// # Errors
/// When the database refuses.
pub async fn figures(connection: &mut AsyncPgConnection) -> Result<Figures, StoreError> {
    Ok(diesel::sql_query(
        "SELECT count(*) FILTER (WHERE state = 'pending') AS pending, \
            count(*) FILTER (WHERE state = 'active' AND failing_since IS NULL) AS active, \
            count(*) FILTER (WHERE state = 'active' AND failing_since IS NOT NULL) AS failing, \
            count(*) FILTER (WHERE state = 'disabled') AS disabled, \
            (SELECT count(*) FROM (SELECT FROM partners.deliveries WHERE state = 'retry' LIMIT 100000) AS few) AS retry, \
            (SELECT count(*) FROM (SELECT FROM partners.deliveries WHERE state = 'dead' LIMIT 100000) AS few) AS dead \
         FROM partners.endpoints",
    )
    .get_result(connection)
    .await?)
}
