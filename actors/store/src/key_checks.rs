//! By what the installation's keys are known again: a known text, sealed under each of them. A key that cannot open it is not the one that
//! the database's rows were sealed under; that is told before anything is written under it.

use diesel::{
    OptionalExtension, QueryableByName,
    sql_types::{Bool, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_config::keys::KeyRing;
use orrery_seal::{SealError, Sealer};

use super::StoreError;

/// What is sealed, and for what purpose.
const KNOWN: &[u8] = b"orrery";
const PURPOSE: &str = "check";

/// A key of the configuration, by its path there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// `keys.master`.
    Master,
    /// `keys.mail`.
    Mail,
    /// `keys.discovery`.
    Discovery,
}

impl Key {
    /// Its path in the configuration.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Master => "keys.master",
            Self::Mail => "keys.mail",
            Self::Discovery => "keys.discovery",
        }
    }
}

/// What a look at a key can find wrong.
#[derive(Debug, thiserror::Error)]
pub enum KeyCheckError {
    /// It is another one.
    #[error(
        "{path}: is not the key that the database's rows were sealed under: give that one, or add it to {path}_previous"
    )]
    Wrong {
        /// The key's path in the configuration.
        path: &'static str,
        /// Why the known text did not open.
        #[source]
        cause: SealError,
    },
    /// The key itself cannot be used.
    #[error("{path}: {cause}")]
    Unusable {
        /// The key's path in the configuration.
        path: &'static str,
        /// Why.
        #[source]
        cause: SealError,
    },
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    sealed: String,
}

#[derive(QueryableByName)]
struct Exists {
    #[diesel(sql_type = Bool)]
    exists: bool,
}

/// Whether `ring` opens what the database knows of this key; a database that knows nothing yet takes any. Writes nothing.
///
/// # Errors
/// `Wrong` when it does not; when the database refuses.
pub async fn check(
    connection: &mut AsyncPgConnection,
    key: Key,
    ring: &KeyRing,
) -> Result<(), KeyCheckError> {
    // Before the first `orrery migrate` there is no table.
    let table: Exists = diesel::sql_query("SELECT to_regclass('orrery.key_checks') IS NOT NULL AS exists")
        .get_result(connection)
        .await
        .map_err(StoreError::from)?;
    if !table.exists {
        return Ok(());
    }
    match known(connection, key).await? {
        Some(sealed) => opens(&sealer(key, ring)?, key, &sealed),
        None => Ok(()),
    }
}

/// The same, and writes the known text down under the current key where it is missing or was sealed under a former one.
///
/// # Errors
/// As `check`.
pub async fn hold(connection: &mut AsyncPgConnection, key: Key, ring: &KeyRing) -> Result<(), KeyCheckError> {
    let sealer = sealer(key, ring)?;
    let sealed = sealer
        .seal(KNOWN, key.path())
        .map_err(|cause| KeyCheckError::Unusable { path: key.path(), cause })?;
    // Two that start at once with different keys: one of them finds the other's.
    diesel::sql_query(
        "INSERT INTO orrery.key_checks (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
    )
    .bind::<Text, _>(key.path())
    .bind::<Text, _>(&sealed)
    .execute(connection)
    .await
    .map_err(StoreError::from)?;
    let Some(known) = known(connection, key).await? else { return Ok(()) };
    opens(&sealer, key, &known)?;
    // The key's id is the second part of each sealed text.
    if known.split('.').nth(1) != sealed.split('.').nth(1) {
        diesel::sql_query("UPDATE orrery.key_checks SET sealed = $2 WHERE name = $1 AND sealed = $3")
            .bind::<Text, _>(key.path())
            .bind::<Text, _>(&sealed)
            .bind::<Text, _>(&known)
            .execute(connection)
            .await
            .map_err(StoreError::from)?;
    }
    Ok(())
}

async fn known(connection: &mut AsyncPgConnection, key: Key) -> Result<Option<String>, StoreError> {
    let row: Option<Row> = diesel::sql_query("SELECT sealed FROM orrery.key_checks WHERE name = $1")
        .bind::<Text, _>(key.path())
        .get_result(connection)
        .await
        .optional()?;
    Ok(row.map(|row| row.sealed))
}

fn sealer(key: Key, ring: &KeyRing) -> Result<Sealer, KeyCheckError> {
    Sealer::new(ring, PURPOSE).map_err(|cause| KeyCheckError::Unusable { path: key.path(), cause })
}

fn opens(sealer: &Sealer, key: Key, sealed: &str) -> Result<(), KeyCheckError> {
    let opened = sealer.open(sealed, key.path());
    opened.map(drop).map_err(|cause| KeyCheckError::Wrong { path: key.path(), cause })
}
