//! Counts in PostgreSQL, by the database's clock. Rows are taken in the order of their keys, so that two requests cannot block each other.

use std::time::Duration;

use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Binary, Bool, Double, Integer},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_store::StoreError;

use super::Budget;

#[derive(QueryableByName)]
struct Wait {
    #[diesel(sql_type = Double)]
    seconds: f64,
}

fn duration(waits: &[Wait]) -> Option<Duration> {
    let seconds = waits.iter().map(|wait| wait.seconds).fold(0.0, f64::max);
    (seconds > 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(60)))
}

/// How long the budgets have to be waited for.
///
/// # Errors
/// When the database refuses.
pub async fn wait(
    connection: &mut AsyncPgConnection,
    budgets: &[Budget],
) -> Result<Option<Duration>, StoreError> {
    let keys: Vec<&[u8]> = budgets.iter().map(|budget| budget.key.as_slice()).collect();
    let waits: Vec<Wait> = diesel::sql_query(
        "SELECT extract(epoch FROM blocked_until - clock_timestamp())::float8 AS seconds FROM autha.throttle \
         WHERE key = ANY($1) AND blocked_until > clock_timestamp() AND window_ends > clock_timestamp()",
    )
    .bind::<Array<Binary>, _>(keys)
    .load(connection)
    .await?;
    Ok(duration(&waits))
}

/// Counts one hit for each budget. A growing one that is spent blocks for 1 s, doubling with each hit; another one until its window ends.
///
/// # Errors
/// When the database refuses.
pub async fn count(
    connection: &mut AsyncPgConnection,
    budgets: &[Budget],
    window: Duration,
    longest: Duration,
) -> Result<Option<Duration>, StoreError> {
    let mut budgets: Vec<&Budget> = budgets.iter().collect();
    budgets.sort_by(|a, b| a.key.cmp(&b.key));
    let mut waits = Vec::new();
    for budget in budgets {
        // A window that lies further ahead than one can was written by a clock that was wrong: it begins anew.
        let wait: Wait = diesel::sql_query(
            "INSERT INTO autha.throttle AS t (key, hits, window_ends) \
             VALUES ($1, 1, clock_timestamp() + make_interval(secs => $2)) \
             ON CONFLICT (key) DO UPDATE SET \
               hits = CASE WHEN t.window_ends BETWEEN clock_timestamp() AND excluded.window_ends THEN least(t.hits + 1, 1000000) ELSE 1 END, \
               window_ends = CASE WHEN t.window_ends BETWEEN clock_timestamp() AND excluded.window_ends AND NOT $4 THEN t.window_ends ELSE excluded.window_ends END, \
               blocked_until = CASE \
                 WHEN t.window_ends NOT BETWEEN clock_timestamp() AND excluded.window_ends OR t.hits + 1 < $3 THEN '-infinity'::timestamptz \
                 WHEN $4 THEN clock_timestamp() + make_interval(secs => least(power(2, least(t.hits + 1 - $3, 20)), $5)) \
                 ELSE t.window_ends END \
             RETURNING greatest(CASE WHEN hits > $3 THEN extract(epoch FROM blocked_until - clock_timestamp()) ELSE 0 END, 0)::float8 AS seconds",
        )
        .bind::<Binary, _>(&budget.key)
        .bind::<Double, _>(window.as_secs_f64())
        .bind::<Integer, _>(i32::try_from(budget.limit).unwrap_or(i32::MAX))
        .bind::<Bool, _>(budget.is_growing)
        .bind::<Double, _>(longest.as_secs_f64())
        .get_result(connection)
        .await?;
        waits.push(wait);
    }
    Ok(duration(&waits))
}

/// Forgets counts.
///
/// # Errors
/// When the database refuses.
pub async fn forget(connection: &mut AsyncPgConnection, keys: Vec<Vec<u8>>) -> Result<(), StoreError> {
    diesel::sql_query("DELETE FROM autha.throttle WHERE key = ANY($1)")
        .bind::<Array<Binary>, _>(keys)
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes counts whose window has ended.
///
/// # Errors
/// When the database refuses.
pub async fn prune(connection: &mut AsyncPgConnection, limit: i64) -> Result<usize, StoreError> {
    Ok(diesel::sql_query(
        "DELETE FROM autha.throttle WHERE key = ANY(ARRAY(SELECT key FROM autha.throttle WHERE window_ends < now() ORDER BY window_ends LIMIT $1))",
    )
    .bind::<BigInt, _>(limit)
    .execute(connection)
    .await?)
}
