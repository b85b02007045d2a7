//! The life of a key in PostgreSQL: published, active, retired, gone. Every time here is the database's, and none is trusted to be in the
//! past: a row that was written while the clock was ahead is set right, with a warning.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use diesel::{
    ExpressionMethods, Insertable, QueryDsl, Queryable, QueryableByName, Selectable, SelectableHelper,
    dsl::now,
    sql_types::{BigInt, Bool, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use orrery_seal::Sealer;
use orrery_store::StoreError;
use serde_json::Value;
use tracing::{info, warn};
use uuid::Uuid;

use super::{JWKS_LIFETIME, KeyError, KeySet, make};
use crate::{schema::signing_keys, token::ACCESS_LIFETIME};

/// The advisory lock of a replica that changes keys ("signkeys" in ASCII).
const LOCK: i64 = 0x7369_676e_6b65_7973;
/// A replica that was not seen for so long publishes nothing any more. It looks every minute.
const REPLICA_LIFETIME_SECONDS: f64 = 300.0;
/// How far the database's own clock may have jumped before it is warned of.
const SKEW_SECONDS: f64 = 60.0;
/// A key that is not here is looked for in the database so often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Queryable, Selectable)]
#[diesel(table_name = signing_keys)]
struct Row {
    kid: String,
    sealed: String,
    public_jwk: Value,
    state: String,
}

#[derive(Insertable)]
#[diesel(table_name = signing_keys)]
struct NewRow<'a> {
    kid: &'a str,
    sealed: &'a str,
    public_jwk: &'a Value,
    state: &'a str,
}

/// How a key is changed by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// A new key is published now and signs once every replica has had it for the JWKS' lifetime.
    Scheduled,
    /// A new key signs at once and all others are forgotten: every access token that they signed ends. For a key that leaked.
    Immediate,
}

/// What the newest key and the one that signs are like, as the database sees it.
#[derive(QueryableByName)]
struct Standing {
    #[diesel(sql_type = Bool)]
    any_active: bool,
    #[diesel(sql_type = Bool)]
    any_published: bool,
    #[diesel(sql_type = Bool)]
    is_old: bool,
}

impl KeySet {
    /// Loads the keys, after making the changes that are due: times set right, a key made, activated, retired, removed. Publishes them for `replica`.
    ///
    /// # Errors
    /// When the database is away, or a key cannot be opened. Takes an advisory lock in its transaction.
    pub async fn refresh(
        &self,
        connection: &mut AsyncPgConnection,
        sealer: &Sealer,
        replica: Uuid,
        lifetime: Duration,
    ) -> Result<(), KeyError> {
        let rows = connection
            .transaction::<_, KeyError, _>(async |connection| {
                take_lock(connection).await?;
                set_times_right(connection).await?;
                let standing = standing(connection, lifetime).await?;
                if !standing.any_active && !standing.any_published {
                    // The very first: nobody has kept a JWKS without it.
                    insert(connection, sealer, "active").await?;
                } else if standing.is_old && !standing.any_published {
                    insert(connection, sealer, "published").await?;
                    info!("a signing key was published, and signs when every replica has published it for {JWKS_LIFETIME}");
                }
                activate_due(connection, !standing.any_active).await?;
                remove_due(connection).await?;
                publish(connection, replica).await?;
                load(connection).await
            })
            .await?;
        self.open(sealer, &rows)
    }

    /// Loads the keys as they are, at most once a second: for a token by a key that another replica has made since.
    ///
    /// # Errors
    /// As `refresh`.
    pub async fn look_again(
        &self,
        connection: &mut AsyncPgConnection,
        sealer: &Sealer,
    ) -> Result<(), KeyError> {
        let mut looked = self.looking.lock().await;
        if looked.is_some_and(|looked| looked.elapsed() < LOOK_AGAIN) {
            return Ok(());
        }
        let rows = load(connection).await?;
        self.open(sealer, &rows)?;
        *looked = Some(Instant::now());
        Ok(())
    }

    fn open(&self, sealer: &Sealer, rows: &[Row]) -> Result<(), KeyError> {
        let keys = rows
            .iter()
            .map(|row| {
                make::open(sealer, &row.kid, &row.sealed, &row.public_jwk, row.state == "active")
                    .map(Arc::new)
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.replace(keys);
        Ok(())
    }
}

/// Makes a new key by hand; returns its id.
///
/// # Errors
/// As `KeySet::refresh`.
pub async fn rotate(
    connection: &mut AsyncPgConnection,
    sealer: &Sealer,
    rotation: Rotation,
) -> Result<String, KeyError> {
    connection
        .transaction::<_, KeyError, _>(async |connection| {
            take_lock(connection).await?;
            match rotation {
                Rotation::Scheduled => insert(connection, sealer, "published").await,
                Rotation::Immediate => {
                    diesel::delete(signing_keys::table).execute(connection).await?;
                    insert(connection, sealer, "active").await
                }
            }
        })
        .await
}

async fn take_lock(connection: &mut AsyncPgConnection) -> Result<(), StoreError> {
    diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(LOCK).execute(connection).await?;
    Ok(())
}

async fn insert(
    connection: &mut AsyncPgConnection,
    sealer: &Sealer,
    state: &str,
) -> Result<String, KeyError> {
    let made = make::make(sealer)?;
    let row = NewRow { kid: &made.kid, sealed: &made.sealed, public_jwk: &made.public_jwk, state };
    diesel::insert_into(signing_keys::table).values(row).execute(connection).await?;
    if state == "active" {
        diesel::update(signing_keys::table.find(&made.kid))
            .set(signing_keys::activated_at.eq(now))
            .execute(connection)
            .await?;
    }
    Ok(made.kid)
}

/// What was written while the clock was ahead would otherwise wait until that time comes.
async fn set_times_right(connection: &mut AsyncPgConnection) -> Result<(), StoreError> {
    let keys = diesel::sql_query(
        "UPDATE autha.signing_keys SET created_at = least(created_at, now()), activated_at = least(activated_at, now()), \
         retired_at = least(retired_at, now()) \
         WHERE greatest(created_at, activated_at, retired_at) > now() + make_interval(secs => $1)",
    )
    .bind::<diesel::sql_types::Double, _>(SKEW_SECONDS)
    .execute(connection)
    .await?;
    let publications = diesel::sql_query(
        "UPDATE autha.publications SET since = least(since, now()), seen_at = least(seen_at, now()) \
         WHERE greatest(since, seen_at) > now() + make_interval(secs => $1)",
    )
    .bind::<diesel::sql_types::Double, _>(SKEW_SECONDS)
    .execute(connection)
    .await?;
    if keys + publications > 0 {
        warn!(
            keys,
            publications, "times of signing keys lay in the future and were set right: was the clock ahead?"
        );
    }
    Ok(())
}

async fn standing(connection: &mut AsyncPgConnection, lifetime: Duration) -> Result<Standing, StoreError> {
    Ok(diesel::sql_query(
        "SELECT coalesce(bool_or(state = 'active'), false) AS any_active, \
         coalesce(bool_or(state = 'published'), false) AS any_published, \
         coalesce(max(activated_at) FILTER (WHERE state = 'active') < now() - make_interval(secs => $1), true) AS is_old \
         FROM autha.signing_keys",
    )
    .bind::<diesel::sql_types::Double, _>(lifetime.as_secs_f64())
    .get_result(connection)
    .await?)
}

/// Activates the newest key that every live replica has published for the JWKS' lifetime, and retires those before it. Where no key signs,
/// the newest one does at once: an hour without tokens would be worse than a client that has to fetch the JWKS again.
async fn activate_due(connection: &mut AsyncPgConnection, at_once: bool) -> Result<(), StoreError> {
    let due: Option<Kid> = diesel::sql_query(
        "SELECT kid FROM autha.signing_keys AS key WHERE state = 'published' AND ($1 OR ( \
           EXISTS (SELECT FROM autha.publications AS p WHERE p.kid = key.kid) AND NOT EXISTS ( \
             SELECT FROM (SELECT DISTINCT replica FROM autha.publications WHERE seen_at > now() - make_interval(secs => $2)) AS live \
             WHERE NOT EXISTS (SELECT FROM autha.publications AS p WHERE p.replica = live.replica AND p.kid = key.kid \
               AND p.since <= now() - make_interval(secs => $3))))) \
         ORDER BY generation DESC LIMIT 1",
    )
    .bind::<Bool, _>(at_once)
    .bind::<diesel::sql_types::Double, _>(REPLICA_LIFETIME_SECONDS)
    .bind::<diesel::sql_types::Double, _>(JWKS_LIFETIME.as_seconds_f64())
    .load(connection)
    .await?
    .into_iter()
    .next();
    let Some(Kid { kid }) = due else { return Ok(()) };
    diesel::sql_query(
        "UPDATE autha.signing_keys SET state = 'retired', retired_at = now() \
         WHERE state <> 'retired' AND generation < (SELECT generation FROM autha.signing_keys WHERE kid = $1)",
    )
    .bind::<Text, _>(&kid)
    .execute(connection)
    .await?;
    diesel::sql_query("UPDATE autha.signing_keys SET state = 'active', activated_at = now() WHERE kid = $1")
        .bind::<Text, _>(&kid)
        .execute(connection)
        .await?;
    info!(kid, "a signing key signs from now on");
    Ok(())
}

/// Retired keys verify until the last token that they may have signed has ended; a replica that has not noticed yet signs for another minute.
async fn remove_due(connection: &mut AsyncPgConnection) -> Result<(), StoreError> {
    let seconds = ACCESS_LIFETIME.as_secs_f64() + REPLICA_LIFETIME_SECONDS + JWKS_LIFETIME.as_seconds_f64();
    diesel::sql_query(
        "DELETE FROM autha.signing_keys WHERE state = 'retired' AND retired_at < now() - make_interval(secs => $1)",
    )
    .bind::<diesel::sql_types::Double, _>(seconds)
    .execute(connection)
    .await?;
    diesel::sql_query("DELETE FROM autha.publications WHERE seen_at < now() - make_interval(secs => $1)")
        .bind::<diesel::sql_types::Double, _>(REPLICA_LIFETIME_SECONDS)
        .execute(connection)
        .await?;
    Ok(())
}

/// Says that this replica publishes all keys: it does as soon as the transaction is committed. One that has just started was never seen without
/// them, so it has published them as long as they are there.
async fn publish(connection: &mut AsyncPgConnection, replica: Uuid) -> Result<(), StoreError> {
    diesel::sql_query(
        "INSERT INTO autha.publications (replica, kid, since) \
         SELECT $1, kid, CASE WHEN EXISTS (SELECT FROM autha.publications WHERE replica = $1) THEN now() ELSE created_at END \
         FROM autha.signing_keys ON CONFLICT (replica, kid) DO UPDATE SET seen_at = now()",
    )
    .bind::<SqlUuid, _>(replica)
    .execute(connection)
    .await?;
    Ok(())
}

async fn load(connection: &mut AsyncPgConnection) -> Result<Vec<Row>, KeyError> {
    Ok(signing_keys::table
        .order(signing_keys::generation.desc())
        .select(Row::as_select())
        .load(connection)
        .await?)
}

#[derive(QueryableByName)]
struct Kid {
    #[diesel(sql_type = Text)]
    kid: String,
}
