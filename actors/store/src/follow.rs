//! One trace followed through outbox and inbox, as `orrery demo` does. A look reads what was written since the following began, by
//! primary keys, however large the tables are. What relays and consumers ask lives in `outbox` and `inbox`.

use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Bool, Integer, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use uuid::Uuid;

use crate::{StoreError, inbox::MessageKey};

/// A handler's part in a trace that is yet to begin.
#[derive(Debug)]
pub struct Follow {
    handler: &'static str,
    trace: String,
    /// The last row of the outbox when the following began: those of the trace come after it.
    after: i64,
}

#[derive(QueryableByName)]
struct Newest {
    #[diesel(sql_type = BigInt)]
    seq: i64,
}

#[derive(QueryableByName)]
struct Written {
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Text)]
    id: String,
}

#[derive(QueryableByName)]
struct IsDone {
    #[diesel(sql_type = Bool)]
    done: bool,
}

impl Follow {
    /// Begins before anything of the trace (32 hexadecimal digits) is written.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn begin(
        connection: &mut AsyncPgConnection,
        handler: &'static str,
        trace: String,
    ) -> Result<Self, StoreError> {
        let newest: Newest = diesel::sql_query("SELECT coalesce(max(seq), 0) AS seq FROM bus.outbox")
            .get_result(connection)
            .await?;
        Ok(Self { handler, trace, after: newest.seq })
    }

    /// Whether the handler is done with a message of the trace.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn is_done(&self, connection: &mut AsyncPgConnection) -> Result<bool, StoreError> {
        connection
            .transaction::<_, StoreError, _>(async |connection| {
                // A table that was never analysed looks small to the planner, which would read all of it.
                connection.batch_execute("SET LOCAL enable_seqscan = off").await?;
                let written: Vec<Written> = diesel::sql_query(
                    "SELECT source, id::text AS id FROM bus.outbox \
                     WHERE seq > $1 AND traceparent LIKE '00-' || $2 || '-%'",
                )
                .bind::<BigInt, _>(self.after)
                .bind::<Text, _>(&self.trace)
                .load(connection)
                .await?;
                let keys = written.into_iter().map(|Written { source, id }| MessageKey {
                    handler: self.handler,
                    source,
                    id,
                });
                let (keys, weeks): (Vec<Uuid>, Vec<i32>) = keys.map(|key| (key.digest(), key.week())).unzip();
                let found: IsDone = diesel::sql_query(
                    "SELECT coalesce(bool_or((SELECT done_at IS NOT NULL FROM bus.inbox \
                        WHERE inbox.key = asked.key AND inbox.week = asked.week)), false) AS done \
                     FROM unnest($1, $2) AS asked (key, week)",
                )
                .bind::<Array<SqlUuid>, _>(keys)
                .bind::<Array<Integer>, _>(weeks)
                .get_result(connection)
                .await?;
                Ok(found.done)
            })
            .await
    }
}
