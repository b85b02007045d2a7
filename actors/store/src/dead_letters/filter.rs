//! Which letters an operator means, as SQL. What is done with them lives in `read` and `act`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    pg::Pg,
    query_builder::{BoxedSqlQuery, SqlQuery},
    sql_types::{Array, Double, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use uuid::Uuid;

/// Chooses letters; what is not set chooses all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// These and no others.
    pub ids: Option<Vec<Uuid>>,
    /// Of this handler.
    pub handler: Option<String>,
    /// Of this CloudEvents type.
    pub ty: Option<String>,
    /// With this text in the reason or its causes, in any case.
    pub reason: Option<String>,
    /// Failed longer ago.
    pub older_than: Option<Duration>,
    /// Failed since.
    pub newer_than: Option<Duration>,
    /// Archived until then, so that what fails again while a command runs is not met by it twice.
    pub until: Option<DateTime<Utc>>,
}

/// The condition; `bound` gives its parameters, 1 to 7.
pub(super) const CHOSEN: &str = "\
    ($1::uuid[] IS NULL OR id = ANY($1)) AND ($2::text IS NULL OR handler = $2) AND ($3::text IS NULL OR type = $3) \
    AND ($4::text IS NULL OR strpos(lower(reason || ' ' || array_to_string(causes, ' ')), lower($4)) > 0) \
    AND ($5::float8 IS NULL OR failed_at <= now() - make_interval(secs => $5)) \
    AND ($6::float8 IS NULL OR failed_at > now() - make_interval(secs => $6)) \
    AND ($7::timestamptz IS NULL OR archived_at <= $7)";

/// A query with `CHOSEN` in it; its own parameters begin at 8.
pub(super) fn bound(filter: &Filter, sql: String) -> BoxedSqlQuery<'_, Pg, SqlQuery> {
    diesel::sql_query(sql)
        .into_boxed::<Pg>()
        .bind::<Nullable<Array<SqlUuid>>, _>(filter.ids.as_deref())
        .bind::<Nullable<Text>, _>(filter.handler.as_deref())
        .bind::<Nullable<Text>, _>(filter.ty.as_deref())
        .bind::<Nullable<Text>, _>(filter.reason.as_deref())
        .bind::<Nullable<Double>, _>(filter.older_than.map(|age| age.as_secs_f64()))
        .bind::<Nullable<Double>, _>(filter.newer_than.map(|age| age.as_secs_f64()))
        .bind::<Nullable<Timestamptz>, _>(filter.until)
}
