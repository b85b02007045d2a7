//! What maily keeps in PostgreSQL (the schema `maily`): addresses that mail came back from, accounts that are gone. Nothing here names an
//! address in the clear. What is sent in spite or because of it is `handler`'s matter.

use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension as _, QueryableByName,
    sql_types::{BigInt, Binary, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use orrery_schemas::ids::AccountId;

/// How long a deleted account is remembered: longer than any mail can wait (7 days in the outbox, and dead letters redriven within 30).
const REMEMBERED_DAYS: i64 = 60;

/// Makes keyed digests of addresses. A rotated key is still looked up.
#[derive(Clone)]
pub struct Digests(Vec<hmac::Key>);

/// What is known of a mail's recipient.
#[derive(Debug, Default, Clone, PartialEq, Eq, QueryableByName)]
pub struct Known {
    /// Whether the account is gone.
    #[diesel(sql_type = Bool)]
    pub is_deleted: bool,
    /// Why nothing is sent to the address, if so.
    #[diesel(sql_type = Nullable<Text>)]
    pub suppressed: Option<String>,
}

/// How many addresses are suppressed, and since when the oldest is.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Suppressions {
    /// Their number.
    #[diesel(sql_type = BigInt)]
    pub count: i64,
    /// When the last one came.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub latest: Option<DateTime<Utc>>,
}

impl Digests {
    /// Under keys made of the mail keys.
    #[must_use]
    pub fn new<'a>(ring: impl Iterator<Item = &'a [u8]>) -> Self {
        let derived = |key: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"maily.suppressed");
        Self(ring.map(|key| hmac::Key::new(hmac::HMAC_SHA256, derived(key).as_ref())).collect())
    }

    fn of(&self, address: &str) -> Vec<Vec<u8>> {
        let normal = normal(address);
        self.0.iter().map(|key| hmac::sign(key, normal.as_bytes()).as_ref().to_vec()).collect()
    }
}

/// One form for all spellings of an address: lower case, the domain as DNS has it.
fn normal(address: &str) -> String {
    let address = address.trim().to_lowercase();
    let Some((user, domain)) = address.rsplit_once('@') else { return address };
    match url::Host::parse(domain) {
        Ok(url::Host::Domain(domain)) => format!("{user}@{domain}"),
        _ => address,
    }
}

/// What is known of an account and an address, in one question.
///
/// # Errors
/// When the database refuses.
pub async fn known(
    connection: &mut AsyncPgConnection,
    digests: &Digests,
    account: AccountId,
    address: &str,
) -> diesel::QueryResult<Known> {
    diesel::sql_query(
        "SELECT EXISTS (SELECT FROM maily.deleted_accounts WHERE account = $1) AS is_deleted, \
         (SELECT reason FROM maily.suppressed WHERE address_hash = ANY($2) LIMIT 1) AS suppressed",
    )
    .bind::<SqlUuid, _>(account.0)
    .bind::<diesel::sql_types::Array<Binary>, _>(digests.of(address))
    .get_result(connection)
    .await
}

/// Suppresses an address; true when it was not yet.
///
/// # Errors
/// When the database refuses.
pub async fn suppress(
    connection: &mut AsyncPgConnection,
    digests: &Digests,
    address: &str,
    reason: &str,
    now: DateTime<Utc>,
) -> diesel::QueryResult<bool> {
    let Some(digest) = digests.of(address).into_iter().next() else { return Ok(false) };
    let inserted = diesel::sql_query(
        "INSERT INTO maily.suppressed (address_hash, reason, since) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind::<Binary, _>(digest)
    .bind::<Text, _>(reason)
    .bind::<Timestamptz, _>(now)
    .execute(connection)
    .await?;
    Ok(inserted == 1)
}

/// Sends to an address again; true when it was suppressed.
///
/// # Errors
/// When the database refuses.
pub async fn release(
    connection: &mut AsyncPgConnection,
    digests: &Digests,
    address: &str,
) -> diesel::QueryResult<bool> {
    let removed = diesel::sql_query("DELETE FROM maily.suppressed WHERE address_hash = ANY($1)")
        .bind::<diesel::sql_types::Array<Binary>, _>(digests.of(address))
        .execute(connection)
        .await?;
    Ok(removed > 0)
}

/// How many there are.
///
/// # Errors
/// When the database refuses.
pub async fn suppressions(connection: &mut AsyncPgConnection) -> diesel::QueryResult<Suppressions> {
    diesel::sql_query("SELECT count(*) AS count, max(since) AS latest FROM maily.suppressed")
        .get_result(connection)
        .await
}

/// Remembers that an account is gone, and forgets those of long ago. Twice is as once.
///
/// # Errors
/// When the database refuses.
pub async fn forget_account(
    connection: &mut AsyncPgConnection,
    account: AccountId,
    now: DateTime<Utc>,
) -> diesel::QueryResult<()> {
    diesel::sql_query(
        "INSERT INTO maily.deleted_accounts (account, deleted_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    )
    .bind::<SqlUuid, _>(account.0)
    .bind::<Timestamptz, _>(now)
    .execute(connection)
    .await?;
    // A few at a time: nobody waits for this one.
    diesel::sql_query(
        "DELETE FROM maily.deleted_accounts WHERE account IN \
         (SELECT account FROM maily.deleted_accounts WHERE deleted_at < $1 ORDER BY deleted_at LIMIT 100)",
    )
    .bind::<Timestamptz, _>(now - chrono::TimeDelta::days(REMEMBERED_DAYS))
    .execute(connection)
    .await
    .optional()?;
    Ok(())
}

/// Removes the dead letters of an account's mails, which hold its address. Those that are told by no subject name nobody.
///
/// # Errors
/// When the database refuses.
pub async fn remove_letters(
    connection: &mut AsyncPgConnection,
    handler: &str,
    account: AccountId,
) -> diesel::QueryResult<usize> {
    diesel::sql_query(
        "DELETE FROM bus.dead_letters WHERE handler = $1 \
         AND coalesce(headers->>'cloudEvents_subject', headers->>'cloudEvents:subject') = $2",
    )
    .bind::<Text, _>(handler)
    .bind::<Text, _>(account.to_string())
    .execute(connection)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address_have_one_digest() {
        let digests = Digests::new([[7_u8; 32].as_slice()].into_iter());
        assert_eq!(digests.of("Jane@Bücher.example"), digests.of(" jane@xn--bcher-kva.example "));
        assert_ne!(digests.of("jane@a.example"), digests.of("joe@a.example"));
    }

    #[test]
    fn an_old_key_is_still_looked_up() {
        let (old, new) = ([1_u8; 32], [2_u8; 32]);
        let before = Digests::new([old.as_slice()].into_iter()).of("jane@a.example");
        let after = Digests::new([new.as_slice(), old.as_slice()].into_iter()).of("jane@a.example");
        assert!(after.contains(&before[0]));
        assert_ne!(after[0], before[0]);
    }
}
