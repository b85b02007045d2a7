//! An import: batches of rows, each one transaction that also says how far it came, so that a run which was stopped goes on by itself. A row that
//! cannot be taken is written down with the reason, and the next one is.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, Insertable, OptionalExtension, QueryDsl,
    result::{DatabaseErrorKind, Error as DieselError},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use orrery_schemas::{address::Address, events::AccountCreated, ids::AccountId};
use orrery_seal::SealError;
use orrery_store::{StoreError, outbox::About};
use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use super::formats::{FirebaseParameters, Format, Refused, arriving};
use crate::{
    account::{
        change::{Change, Circumstances, Conflicting},
        error::ChangeError,
        keys::{self, KeyChange},
        lookup, register, reserved,
        update::{LONGEST_NAME, LONGEST_SUMMARY, language_tag},
        vanity::Vanity,
    },
    credential::{
        public_key::PublicKey,
        store::{self as credentials, Kind},
        totp::TotpSecret,
    },
    operator::NO_PASSWORD,
    schema::{accounts, import_faults, imports},
};

/// An import broke off; it goes on where it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Another run is ahead of this one.
    #[error("another import of this file is running")]
    Elsewhere,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Conflicting for ImportError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

impl From<DieselError> for ImportError {
    fn from(error: DieselError) -> Self {
        Self::Store(error.into())
    }
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Its id.
    pub id: Uuid,
    /// Rows that are done with.
    pub position: i64,
    /// Accounts that were made.
    pub imported: i64,
    /// Rows that were left out.
    pub left_out: i64,
}

/// Finds the import of a file, or begins it.
///
/// # Errors
/// When the database refuses.
pub async fn begin(
    connection: &mut AsyncPgConnection,
    id: Uuid,
    format: Format,
    digest: &[u8],
    now: DateTime<Utc>,
) -> Result<Imported, StoreError> {
    diesel::insert_into(imports::table)
        .values((
            imports::id.eq(id),
            imports::format.eq(format.name()),
            imports::digest.eq(digest),
            imports::created_at.eq(now),
        ))
        .on_conflict_do_nothing()
        .execute(connection)
        .await?;
    let (id, position, imported, left_out) = imports::table
        .filter(imports::format.eq(format.name()))
        .filter(imports::digest.eq(digest))
        .select((imports::id, imports::position, imports::imported, imports::left_out))
        .first(connection)
        .await?;
    Ok(Imported { id, position, imported, left_out })
}

/// Says that the file has ended.
///
/// # Errors
/// When the database refuses.
pub async fn finish(
    connection: &mut AsyncPgConnection,
    import: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    diesel::update(imports::table.find(import)).set(imports::finished_at.eq(now)).execute(connection).await?;
    Ok(())
}

/// A row that was left out.
#[derive(Debug, Clone, serde::Serialize, diesel::Queryable)]
pub struct LeftOut {
    /// The row's number in the file, from 1.
    pub record: i64,
    /// A stable code.
    pub code: String,
    /// Why.
    pub reason: String,
}

/// The report of what was left out.
///
/// # Errors
/// When the database refuses.
pub async fn left_out(
    connection: &mut AsyncPgConnection,
    import: Uuid,
    after: i64,
    limit: i64,
) -> Result<Vec<LeftOut>, StoreError> {
    Ok(import_faults::table
        .filter(import_faults::import.eq(import))
        .filter(import_faults::record.gt(after))
        .order(import_faults::record)
        .limit(limit)
        .select((import_faults::record, import_faults::code, import_faults::reason))
        .load(connection)
        .await?)
}

/// Some rows of a file.
pub struct ImportBatch {
    /// The import.
    pub import: Uuid,
    /// How many rows come before them.
    pub position: i64,
    /// The rows, or why one cannot be read.
    pub rows: Vec<Result<Map<String, Value>, Refused>>,
    /// What they are of.
    pub format: Format,
    /// The parameters of Firebase's hashes.
    pub firebase: FirebaseParameters,
}

/// Why a row became no account.
enum RowError {
    /// It is left out, and the next one is taken.
    Refused(Refused),
    /// The import breaks off, and goes on from here.
    Broken(ImportError),
}

impl From<Refused> for RowError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<SealError> for RowError {
    fn from(error: SealError) -> Self {
        Self::Broken(error.into())
    }
}

impl From<DieselError> for RowError {
    fn from(error: DieselError) -> Self {
        StoreError::from(error).into()
    }
}

impl From<StoreError> for RowError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Query(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
                Refused::new("taken", "the name or the address is somebody's already").into()
            }
            error => Self::Broken(error.into()),
        }
    }
}

/// A text as `PATCH /users/@me` would take it: PostgreSQL has no letter for NUL, and one row must not stop all others. None where nothing is left.
fn shown(text: &str, longest: usize, lines: bool) -> Option<String> {
    let shown = text.nfc().filter(|c| !c.is_control() || (lines && *c == '\n'));
    let shown = shown.take(longest).collect::<String>().trim().to_owned();
    (!shown.is_empty()).then_some(shown)
}

#[derive(Insertable)]
#[diesel(table_name = accounts, treat_none_as_default_value = false)]
struct NewAccount<'a> {
    id: Uuid,
    vanity: &'a str,
    username: &'a str,
    email_hash: Vec<u8>,
    email_normal: String,
    email_typed: String,
    email_verified_at: Option<DateTime<Utc>>,
    locale: &'a str,
    summary: Option<&'a str>,
    created_at: DateTime<Utc>,
    suspended_at: Option<DateTime<Utc>>,
}

#[async_trait]
impl Change for ImportBatch {
    type Done = Imported;
    type Error = ImportError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<Imported, ImportError> {
        let row: Option<(i64, i64, i64)> = imports::table
            .find(self.import)
            .select((imports::position, imports::imported, imports::left_out))
            .for_update()
            .first(connection)
            .await
            .optional()?;
        let (position, mut imported, mut left_out) =
            row.filter(|(position, ..)| *position == self.position).ok_or(ImportError::Elsewhere)?;
        let mut at = position;
        for row in &self.rows {
            at += 1;
            // A savepoint: somebody may sign up with the name just now.
            let one = connection
                .transaction::<_, RowError, _>(async |connection| self.one(connection, with, row).await)
                .await;
            match one {
                Ok(()) => imported += 1,
                Err(RowError::Broken(error)) => return Err(error),
                Err(RowError::Refused(Refused { code, reason })) => {
                    left_out += 1;
                    diesel::insert_into(import_faults::table)
                        .values((
                            import_faults::import.eq(self.import),
                            import_faults::record.eq(at),
                            import_faults::code.eq(code),
                            import_faults::reason.eq(reason),
                        ))
                        .execute(connection)
                        .await?;
                }
            }
        }
        diesel::update(imports::table.find(self.import))
            .set((imports::position.eq(at), imports::imported.eq(imported), imports::left_out.eq(left_out)))
            .execute(connection)
            .await?;
        Ok(Imported { id: self.import, position: at, imported, left_out })
    }
}

impl ImportBatch {
    async fn one(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
        row: &Result<Map<String, Value>, Refused>,
    ) -> Result<(), RowError> {
        let arriving = arriving(self.format, &row.clone()?, &self.firebase)?;
        let config = &with.tools.config;
        let refused = |code, reason: &str| Err(Refused::new(code, reason).into());
        let Some(vanity) = Vanity::parse(&arriving.id) else {
            return refused("id", "the name is not 2 to 64 letters (A-Z, a-z), digits or underscores");
        };
        if reserved::is_reserved(&vanity.key, &config.reserved_names) {
            return refused("reserved", "the name is reserved, or could be taken for one that is");
        }
        let address = match Address::parse(&arriving.email, config.international_addresses) {
            Ok(address) => address,
            Err(fault) => return Err(Refused::new("email", format!("the address {fault}")).into()),
        };
        let hashes = with.tools.vault.email.macs(address.normal().as_bytes());
        let taken = register::taken(connection, &vanity.key, &hashes, with.now).await?;
        if taken.vanity {
            return refused("id_taken", "the name is somebody's already");
        }
        if taken.email {
            return refused("email_taken", "the address has an account already");
        }
        let secret = match &arriving.totp_secret {
            None => None,
            Some(text) => match TotpSecret::from_base32(text) {
                Some(secret) => Some(secret),
                None => return refused("totp", "the TOTP secret is no base32 of 10 to 64 bytes"),
            },
        };
        let mut public_keys = Vec::new();
        for pem in &arriving.public_keys {
            match PublicKey::parse(pem) {
                Ok(key) => public_keys.push(KeyChange::Add(key)),
                Err(fault) => {
                    return Err(Refused::new("public_key", format!("a public key {fault}")).into());
                }
            }
        }
        public_keys.truncate(keys::MOST);
        let id = with.tools.random.uuid_v7(&with.tools.clock);
        let locale = arriving.locale.as_deref().and_then(language_tag).unwrap_or_else(|| "en".to_owned());
        let (vault, owner) = (&with.tools.vault, id.to_string());
        let username = arriving.username.and_then(|username| shown(&username, LONGEST_NAME, false));
        let username = username.unwrap_or_else(|| vanity.display.clone());
        let summary = arriving.summary.and_then(|summary| shown(&summary, LONGEST_SUMMARY, true));
        let account = NewAccount {
            id,
            vanity: &vanity.key,
            username: &username,
            email_hash: vault.email.mac(address.normal().as_bytes())?,
            email_normal: vault.email.seal(address.normal().as_bytes(), &owner)?,
            email_typed: vault.email.seal(address.typed().as_bytes(), &owner)?,
            email_verified_at: arriving.email_verified.then_some(with.now),
            locale: &locale,
            summary: summary.as_deref(),
            created_at: arriving.created_at.map_or(with.now, |at| at.clamp(DateTime::UNIX_EPOCH, with.now)),
            suspended_at: arriving.suspended.then_some(with.now),
        };
        diesel::insert_into(accounts::table).values(&account).execute(connection).await?;
        // Looked for once the row is there, which waited for whoever is removing the former one.
        if lookup::is_given_up(connection, &vanity.key).await? {
            return refused("id_taken", "the name is somebody's already");
        }
        let new_id = || with.tools.random.uuid_v7(&with.tools.clock);
        let hash = arriving.password_hash.as_deref().unwrap_or(NO_PASSWORD);
        credentials::insert(connection, (new_id(), id), Kind::Password, hash, 0, with.now).await?;
        if let Some(secret) = secret {
            let totp = new_id();
            let sealed = vault.totp.seal(secret.as_bytes(), &totp.to_string())?;
            credentials::insert(connection, (totp, id), Kind::Totp, &sealed, 0, with.now).await?;
        }
        keys::apply(connection, id, &public_keys, with.now).await.map_err(|error| match error {
            ChangeError::Store(error) => RowError::from(error),
            error => RowError::Refused(Refused::new("public_key", error.to_string())),
        })?;
        let created = AccountCreated { account: AccountId(id), version: 1 };
        let about = About { subject: Some(id), version: Some(1), trace: Some(with.trace) };
        with.tools.outbox.event(connection, &created, about).await?;
        Ok(())
    }
}
