//! What an operator does with letters: to try them again, and to throw them away. Each call is one statement, so one transaction.

use std::time::Duration;

use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Double, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_schemas::topology::header::AMQP10;
use uuid::Uuid;

use super::{
    DROPPED,
    filter::{CHOSEN, Filter, bound},
};
use crate::{StoreError, outbox::OPERATOR};

#[derive(QueryableByName)]
struct Gone {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Takes letters out of the table; one that another command has in hand is left to it.
fn gone() -> String {
    format!(
        "WITH picked AS (\
            SELECT id FROM bus.dead_letters WHERE {CHOSEN} AND ($8::uuid IS NULL OR id > $8) \
            ORDER BY id LIMIT $9 FOR UPDATE SKIP LOCKED), \
         gone AS (\
            DELETE FROM bus.dead_letters dead USING picked WHERE dead.id = picked.id RETURNING dead.*)"
    )
}

/// Puts up to `limit` chosen letters after `after` back through the outbox, as they came and with a fresh count; returns their ids in
/// order. What the inbox knows of them is kept as long again as of a new message, so that it is not pruned while they travel; what was given up
/// is tried again.
///
/// # Errors
/// When the database refuses: all of them are letters still.
pub async fn redrive(
    connection: &mut AsyncPgConnection,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
    lifetime: Duration,
) -> Result<Vec<Uuid>, StoreError> {
    let sql = format!(
        "{}, again AS (\
            INSERT INTO bus.outbox (id, producer, source, type, time, expires_at, exchange, routing_key, data, \
                                    content_type, headers, body) \
            SELECT gen_random_uuid(), $10, coalesce(source, ''), coalesce(type, ''), now(), \
                   now() + make_interval(secs => $11), '', handler, 'null'::jsonb, content_type, \
                   (SELECT coalesce(jsonb_object_agg(key, value), '{{}}') \
                    FROM jsonb_each(headers) WHERE (key NOT LIKE 'x-%' OR key = '{AMQP10}') AND key <> ALL($12)), \
                   body \
            FROM gone), \
         kept AS (\
            UPDATE bus.inbox SET created_at = now(), given_up = false FROM gone \
            WHERE inbox.key = gone.inbox_key) \
         SELECT id FROM gone ORDER BY id",
        gone()
    );
    let query = bound(filter, sql)
        .bind::<Nullable<SqlUuid>, _>(after)
        .bind::<BigInt, _>(limit)
        .bind::<Text, _>(OPERATOR)
        .bind::<Double, _>(lifetime.as_secs_f64())
        .bind::<Array<Text>, _>(DROPPED);
    let gone: Vec<Gone> = query.load(connection).await?;
    Ok(gone.into_iter().map(|letter| letter.id).collect())
}

/// Throws up to `limit` chosen letters after `after` away; returns their ids in order.
///
/// # Errors
/// When the database refuses.
pub async fn remove(
    connection: &mut AsyncPgConnection,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Uuid>, StoreError> {
    let sql = format!("{} SELECT id FROM gone ORDER BY id", gone());
    let query = bound(filter, sql).bind::<Nullable<SqlUuid>, _>(after).bind::<BigInt, _>(limit);
    let gone: Vec<Gone> = query.load(connection).await?;
    Ok(gone.into_iter().map(|letter| letter.id).collect())
}
