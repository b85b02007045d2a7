//! The figures that PostgreSQL has: dead letters and doubts of each handler, the outbox. What only the console asks is asked here, the rest
//! lives in `orrery_store`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Double, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_store::{
    Pool, StoreError,
    dead_letters::{Filter, read},
    outbox::{self, Lag},
};
use serde::Serialize;
use uuid::Uuid;

use crate::{access::Pass, figures::OutboxFigures};

/// By handler, where there are any.
pub type Counts = HashMap<String, u64>;

/// Everything at one moment.
pub struct Stored {
    /// Dead letters in the table.
    pub letters: Counts,
    /// Effects that may have happened twice, of the messages that the inbox still knows.
    pub doubts: Counts,
    /// The outbox of every producer that has something in it.
    pub outbox: Vec<OutboxFigures>,
}

#[derive(QueryableByName)]
struct Doubts {
    #[diesel(sql_type = Text)]
    handler: String,
    #[diesel(sql_type = BigInt)]
    doubts: i64,
}

/// Asks for all of it.
///
/// # Errors
/// When the database is away or refuses.
pub async fn look(pool: &Pool, producers: &[&str]) -> Result<Stored, StoreError> {
    let mut connection = pool.get().await?;
    let letters = read::counts(&mut connection, &Filter::default()).await?;
    let letters = letters.into_iter().map(|count| (count.handler, unsigned(count.letters))).collect();
    let doubts = doubts(&mut connection).await?;
    let lags = outbox::lag(&mut connection, producers).await?;
    let some = lags.into_iter().filter(|lag| lag.pending + lag.unrouted + lag.failed > 0);
    Ok(Stored { letters, doubts, outbox: some.map(figures).collect() })
}

async fn doubts(connection: &mut AsyncPgConnection) -> Result<Counts, StoreError> {
    let rows: Vec<Doubts> = diesel::sql_query(
        "SELECT handler, sum(doubts) AS doubts FROM bus.inbox WHERE doubts > 0 GROUP BY handler",
    )
    .load(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.handler, unsigned(row.doubts))).collect())
}

fn figures(lag: Lag) -> OutboxFigures {
    OutboxFigures {
        pending: unsigned(lag.pending),
        oldest_pending_seconds: (lag.pending > 0).then_some(lag.oldest_seconds),
        refused: unsigned(lag.refused),
        unrouted: unsigned(lag.unrouted),
        failed: unsigned(lag.failed),
        producer: lag.producer,
    }
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

/// Rows of the outbox that are not settled, of one type.
#[derive(Debug, QueryableByName, Serialize)]
pub struct OfType {
    /// Who writes them.
    #[diesel(sql_type = Text)]
    pub producer: String,
    /// Their type.
    #[diesel(sql_type = Text)]
    #[serde(rename = "type")]
    pub ty: String,
    /// `pending`, `unrouted` or `failed`.
    #[diesel(sql_type = Text)]
    pub status: String,
    /// How many there are among those that are looked at.
    #[diesel(sql_type = BigInt)]
    pub rows: i64,
    /// The time of the oldest event among them.
    #[diesel(sql_type = Timestamptz)]
    pub oldest: DateTime<Utc>,
}

/// What is not settled by type, the most first, among the first 10,000 rows of each state.
///
/// # Errors
/// When the database is away or refuses.
pub async fn by_type(connection: &mut AsyncPgConnection) -> Result<Vec<OfType>, StoreError> {
    // Each along its partial index: the table is full of what was sent.
    let some = [
        ("status = 'pending' AND refusals = 0 AND suspicion = 0", "producer, seq + 0"),
        ("status = 'pending' AND refusals > 0 AND suspicion = 0", "producer, retry_at"),
        ("status = 'pending' AND suspicion > 0", "producer, retry_at"),
        ("status = 'unrouted'", "producer, expires_at"),
        ("status = 'failed'", "producer, seq"),
    ]
    .map(|(which, order)| {
        format!(
            "(SELECT producer, type, status, time FROM bus.outbox WHERE {which} ORDER BY {order} LIMIT 10000)"
        )
    });
    let sql = format!(
        "SELECT producer, type AS ty, status, count(*) AS rows, min(time) AS oldest FROM ({}) AS few \
         GROUP BY producer, type, status ORDER BY rows DESC, ty LIMIT 50",
        some.join(" UNION ALL ")
    );
    Ok(diesel::sql_query(sql).load(connection).await?)
}

/// Log-ins: which links are used up, and which sessions ended. What this process knows holds also while the database is away.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Links that logged in here, until their end in seconds since 1970.
    used: HashMap<Uuid, i64>,
    /// Sessions that ended, until their end.
    ended: HashMap<Uuid, i64>,
}

#[derive(QueryableByName)]
struct Ended {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    expires_at: DateTime<Utc>,
}

impl Sessions {
    /// Uses a link up; false when it was used before. While the database is away only this process knows of it.
    ///
    /// # Errors
    /// When the database refuses; that it is away is none.
    pub async fn begin(&self, pool: &Pool, session: &Pass, now: DateTime<Utc>) -> Result<bool, StoreError> {
        {
            let mut known = self.known();
            known.used.retain(|_, end| *end > now.timestamp());
            if known.used.insert(session.id, session.expires).is_some() {
                return Ok(false);
            }
        }
        let written = async {
            let mut connection = pool.get().await?;
            let rows = diesel::sql_query(
                "INSERT INTO console.sessions (id, actor, expires_at) VALUES ($1, $2, to_timestamp($3)) ON CONFLICT DO NOTHING",
            )
            .bind::<SqlUuid, _>(session.id)
            .bind::<Text, _>(&session.actor)
            .bind::<Double, _>(seconds(session.expires))
            .execute(&mut connection)
            .await?;
            Ok::<_, StoreError>(rows)
        };
        match written.await {
            Ok(rows) => Ok(rows == 1),
            Err(error) if error.is_outage() => Ok(true),
            Err(error) => {
                self.known().used.remove(&session.id);
                Err(error)
            }
        }
    }

    /// Ends a session, here at once and elsewhere with the next look.
    ///
    /// # Errors
    /// When the database refuses: it has ended here only.
    pub async fn end(&self, pool: &Pool, session: &Pass) -> Result<(), StoreError> {
        self.known().ended.insert(session.id, session.expires);
        let mut connection = pool.get().await?;
        diesel::sql_query(
            "INSERT INTO console.sessions (id, actor, expires_at, ended_at) VALUES ($1, $2, to_timestamp($3), now()) \
             ON CONFLICT (id) DO UPDATE SET ended_at = now()",
        )
        .bind::<SqlUuid, _>(session.id)
        .bind::<Text, _>(&session.actor)
        .bind::<Double, _>(seconds(session.expires))
        .execute(&mut connection)
        .await?;
        Ok(())
    }

    /// Whether it has ended.
    pub fn is_ended(&self, session: &Pass) -> bool {
        self.known().ended.contains_key(&session.id)
    }

    /// Reads which ended elsewhere.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn refresh(&self, pool: &Pool) -> Result<(), StoreError> {
        let mut connection = pool.get().await?;
        let rows: Vec<Ended> = diesel::sql_query(
            "SELECT id, expires_at FROM console.sessions WHERE ended_at IS NOT NULL AND expires_at > now() LIMIT 10000",
        )
        .load(&mut connection)
        .await?;
        let mut known = self.known();
        known.ended.extend(rows.into_iter().map(|row| (row.id, row.expires_at.timestamp())));
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seconds(time: i64) -> f64 {
    // Seconds since 1970 fit into the 53 bits of a float.
    DateTime::from_timestamp(time, 0)
        .map_or(0.0, |time| crate::snapshot::seconds_between(DateTime::UNIX_EPOCH, time))
}
