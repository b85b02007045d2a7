//! All accounts in the form that `import` reads, so that nobody is locked in. Secrets are opened: whoever has the file has them.

use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_store::StoreError;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    account::lookup,
    credential::{store as credentials, totp::TotpSecret},
    operator::NO_PASSWORD,
    schema::accounts,
    vault::Vault,
};

/// One account of a file.
#[derive(Serialize)]
pub struct Departing {
    /// The name.
    pub id: String,
    username: String,
    email: String,
    email_verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    totp_secret: Option<String>,
    locale: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    created_at: DateTime<Utc>,
    suspended: bool,
    public_keys: Vec<String>,
}

type Row = (
    Uuid,
    String,
    String,
    String,
    Option<DateTime<Utc>>,
    String,
    Option<String>,
    DateTime<Utc>,
    Option<DateTime<Utc>>,
);

/// The next accounts after `after`, and the last one's id. What cannot be opened any more is left empty.
///
/// # Errors
/// When the database refuses.
pub async fn departing(
    connection: &mut AsyncPgConnection,
    vault: &Vault,
    after: Uuid,
    limit: i64,
) -> Result<(Vec<Departing>, Option<Uuid>), StoreError> {
    let rows: Vec<Row> = accounts::table
        .filter(accounts::id.gt(after))
        .filter(accounts::purge_at.is_null())
        .order(accounts::id)
        .limit(limit)
        .select((
            accounts::id,
            accounts::vanity,
            accounts::username,
            accounts::email_typed,
            accounts::email_verified_at,
            accounts::locale,
            accounts::summary,
            accounts::created_at,
            accounts::suspended_at,
        ))
        .load(connection)
        .await?;
    let last = rows.last().map(|row| row.0);
    let mut departing = Vec::with_capacity(rows.len());
    for (id, vanity, username, typed, verified_at, locale, summary, created_at, suspended_at) in rows {
        let login = credentials::of_login(connection, id).await?;
        let email = vault.email.open(&typed, &id.to_string());
        let totp_secret = login.totp.and_then(|totp| {
            let secret = vault.totp.open(&totp.secret, &totp.id.to_string()).ok()?;
            TotpSecret::from_bytes(&secret).map(|secret| secret.to_base32())
        });
        departing.push(Departing {
            id: vanity,
            username,
            email: email.map(|plain| String::from_utf8_lossy(&plain).into_owned()).unwrap_or_default(),
            email_verified: verified_at.is_some(),
            password_hash: login.password.map(|password| password.secret).filter(|hash| hash != NO_PASSWORD),
            totp_secret,
            locale,
            summary,
            created_at,
            suspended: suspended_at.is_some(),
            public_keys: lookup::keys(connection, id).await?.into_iter().map(|key| key.pem).collect(),
        });
    }
    Ok((departing, last))
}
