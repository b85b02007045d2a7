//! `orrery keys rotate --data`: what lies sealed under a former master key is sealed under the current one, while everything runs. Rows are found by
//! the key that their texts name, so that a run which was stopped goes on by itself.

use diesel::{
    QueryableByName,
    sql_types::{BigInt, Binary, Text},
};
use diesel_async::RunQueryDsl;
use orrery_schemas::address::Address;
use orrery_seal::Sealer;

use super::CommandError;
use crate::account::change::Tools;

/// Rows of one transaction.
const BATCH: i64 = 200;

/// A column of sealed texts.
struct Column {
    table: &'static str,
    /// The primary key, whose text is whom the text is sealed for.
    key: &'static str,
    /// The type of the key, and its least value.
    ty: (&'static str, &'static str),
    column: &'static str,
    /// Further condition.
    only: &'static str,
}

const UUID: (&str, &str) = ("uuid", "00000000-0000-0000-0000-000000000000");

const fn column(table: &'static str, column: &'static str) -> Column {
    Column { table, key: "id", ty: UUID, column, only: "true" }
}

/// Under which key a column is sealed.
type Sealing = fn(&Tools) -> &Sealer;

/// Answers to repeated requests are not among them: they are gone after a day, for which the former key has to stay anyway.
const COLUMNS: [(Column, Sealing); 8] = [
    (column("accounts", "email_typed"), |tools| &tools.vault.email),
    (Column { only: "kind = 'totp'", ..column("credentials", "secret") }, |tools| &tools.vault.totp),
    (column("sessions", "device"), |tools| &tools.vault.devices),
    (Column { only: "email_hash IS NULL", ..column("challenges", "data") }, |tools| &tools.vault.challenges),
    (Column { key: "kid", ty: ("text", ""), ..column("signing_keys", "sealed") }, |tools| {
        &tools.vault.signing_keys
    }),
    (column("audit", "actor"), |tools| &tools.vault.audit),
    (column("audit", "subject"), |tools| &tools.vault.audit),
    (column("audit", "detail"), |tools| &tools.vault.audit),
];

/// A column of sealed addresses with their look-up hashes beside, in `email_hash`.
struct Hashed {
    column: Column,
    sealing: Sealing,
    /// The normal form of what is sealed.
    normal: fn(&[u8]) -> Option<Vec<u8>>,
}

const HASHED: [Hashed; 2] = [
    Hashed {
        column: column("accounts", "email_normal"),
        sealing: |tools| &tools.vault.email,
        normal: |plain| Some(plain.to_vec()),
    },
    // Former addresses, which are kept for their accounts.
    Hashed {
        column: Column { only: "email_hash IS NOT NULL", ..column("challenges", "data") },
        sealing: |tools| &tools.vault.challenges,
        normal: |plain| {
            let address = Address::parse(std::str::from_utf8(plain).ok()?, true).ok()?;
            Some(address.normal().as_bytes().to_vec())
        },
    },
];

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resealed {
    /// Texts that were sealed anew.
    pub texts: u64,
    /// Texts that lie under a key that is not in the configuration.
    pub left: u64,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Text)]
    sealed: String,
}

/// Seals everything anew.
///
/// # Errors
/// When the database refuses, or the library does.
pub async fn reseal(tools: &Tools, mut told: impl FnMut(&Resealed)) -> Result<Resealed, CommandError> {
    let mut done = Resealed::default();
    // The look-up hash of an address goes with it.
    for place in &HASHED {
        done = hashed(tools, place, done, &mut told).await?;
    }
    for (column, sealer) in &COLUMNS {
        done = texts(tools, column, sealer(tools), done, &mut told).await?;
    }
    Ok(done)
}

async fn texts(
    tools: &Tools,
    place: &Column,
    sealer: &Sealer,
    mut done: Resealed,
    told: &mut impl FnMut(&Resealed),
) -> Result<Resealed, CommandError> {
    let Column { table, key, column, ty: (ty, least), .. } = place;
    let mut after = (*least).to_owned();
    loop {
        let rows = batch(tools, place, sealer, &after).await?;
        let Some(last) = rows.last() else { return Ok(done) };
        after.clone_from(&last.key);
        let mut connection = tools.pool.get().await?;
        for row in &rows {
            let Ok(plain) = sealer.open(&row.sealed, &row.key) else {
                done.left += 1;
                continue;
            };
            let sealed = sealer.seal(&plain, &row.key)?;
            // Only if nobody has changed it meanwhile.
            let statement =
                format!("UPDATE autha.{table} SET {column} = $1 WHERE {key} = $2::{ty} AND {column} = $3");
            let changed = diesel::sql_query(statement)
                .bind::<Text, _>(sealed)
                .bind::<Text, _>(&row.key)
                .bind::<Text, _>(&row.sealed)
                .execute(&mut connection)
                .await?;
            done.texts += u64::from(changed == 1);
        }
        told(&done);
    }
}

/// The next rows that another key than the current one has sealed, in the order of their keys' text.
async fn batch(
    tools: &Tools,
    place: &Column,
    sealer: &Sealer,
    after: &str,
) -> Result<Vec<Row>, CommandError> {
    let Column { table, key, column, only, ty: (ty, _) } = place;
    // Every sealed text names its key: `v1.<key>.`
    let current = sealer.seal(b"", "")?;
    let current: String = current.split_inclusive('.').take(2).collect();
    let statement = format!(
        "SELECT {key}::text AS key, {column} AS sealed FROM autha.{table} \
         WHERE {column} IS NOT NULL AND NOT starts_with({column}, $1) AND {key} > $2::{ty} AND {only} ORDER BY {key} LIMIT $3"
    );
    let mut connection = tools.pool.get().await?;
    Ok(diesel::sql_query(statement)
        .bind::<Text, _>(current)
        .bind::<Text, _>(after)
        .bind::<BigInt, _>(BATCH)
        .load(&mut connection)
        .await?)
}

async fn hashed(
    tools: &Tools,
    place: &Hashed,
    mut done: Resealed,
    told: &mut impl FnMut(&Resealed),
) -> Result<Resealed, CommandError> {
    let Column { table, key, column, ty: (ty, least), .. } = &place.column;
    let sealer = (place.sealing)(tools);
    let mut after = (*least).to_owned();
    loop {
        let rows = batch(tools, &place.column, sealer, &after).await?;
        let Some(last) = rows.last() else { return Ok(done) };
        after.clone_from(&last.key);
        let mut connection = tools.pool.get().await?;
        for row in &rows {
            let Some((plain, normal)) = sealer.open(&row.sealed, &row.key).ok().and_then(|plain| {
                let normal = (place.normal)(&plain)?;
                Some((plain, normal))
            }) else {
                done.left += 1;
                continue;
            };
            let (sealed, hash) = (sealer.seal(&plain, &row.key)?, tools.vault.email.mac(&normal)?);
            let statement = format!(
                "UPDATE autha.{table} SET {column} = $1, email_hash = $2 WHERE {key} = $3::{ty} AND {column} = $4"
            );
            let changed = diesel::sql_query(statement)
                .bind::<Text, _>(sealed)
                .bind::<Binary, _>(hash)
                .bind::<Text, _>(&row.key)
                .bind::<Text, _>(&row.sealed)
                .execute(&mut connection)
                .await?;
            done.texts += u64::from(changed == 1);
        }
        told(&done);
    }
}
