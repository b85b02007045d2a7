//! Signing keys: in PostgreSQL, sealed by the master key; made by the first replica, rotated, and published before they sign.

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chrono::{DateTime, Duration, Utc};
use diesel::{ExpressionMethods, Insertable, QueryDsl, Queryable, Selectable, SelectableHelper};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use jsonwebtoken::{DecodingKey, EncodingKey};
use orrery_actors::{
    seal::{SealError, Sealer, sha256},
    store::StoreError,
};
use serde_json::{Value, json};

use super::ACCESS_LIFETIME_SECONDS;
use crate::schema::signing_keys;

/// How long clients may keep the JWKS; a new key is published for so long before it signs.
pub const JWKS_LIFETIME: Duration = Duration::hours(1);
/// How long a key signs.
const SIGNS_FOR: Duration = Duration::days(30);
/// The advisory lock of a replica that makes a key ("signkeys" in ASCII).
const LOCK: i64 = 0x7369_676e_6b65_7973;

/// No key was loaded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signing keys are not loaded yet")]
pub struct KeysMissing;

/// The keys could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A sealed key does not open.
    #[error("the signing key {kid} cannot be opened: {source}")]
    Seal {
        /// Which.
        kid: String,
        /// Why.
        source: SealError,
    },
    /// The library refused a key.
    #[error("a signing key cannot be used")]
    Library,
}

impl From<diesel::result::Error> for KeyError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A key that signs or signed.
pub struct SigningKey {
    /// Its id.
    pub kid: String,
    /// Signs.
    pub encoding: EncodingKey,
    /// Verifies.
    pub decoding: DecodingKey,
    jwk: Value,
    signs_from: DateTime<Utc>,
}

/// The keys that are valid now, newest first; shared by clones.
#[derive(Clone, Default)]
pub struct KeySet(Arc<RwLock<Arc<Vec<Arc<SigningKey>>>>>);

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = signing_keys)]
struct Row {
    kid: String,
    sealed: String,
    public_jwk: Value,
    created_at: DateTime<Utc>,
    signs_from: DateTime<Utc>,
    retires_at: DateTime<Utc>,
}

impl KeySet {
    fn keys(&self) -> Arc<Vec<Arc<SigningKey>>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The newest key that may sign.
    ///
    /// # Errors
    /// When none was loaded.
    pub fn signing(&self, now: DateTime<Utc>) -> Result<Arc<SigningKey>, KeysMissing> {
        self.keys().iter().find(|key| key.signs_from <= now).cloned().ok_or(KeysMissing)
    }

    /// The key of that id.
    pub fn by_id(&self, kid: &str) -> Option<Arc<SigningKey>> {
        self.keys().iter().find(|key| key.kid == kid).cloned()
    }

    /// Whether any key was loaded.
    pub fn is_loaded(&self) -> bool {
        !self.keys().is_empty()
    }

    /// The public keys (RFC 7517), those that do not sign yet included.
    pub fn jwks(&self) -> Value {
        json!({ "keys": self.keys().iter().map(|key| &key.jwk).collect::<Vec<_>>() })
    }

    /// Loads the valid keys, after making one when there is none or the newest has signed for long enough.
    ///
    /// # Errors
    /// When the database is away, or a key cannot be opened. Takes an advisory lock in its transaction.
    pub async fn refresh(
        &self,
        connection: &mut AsyncPgConnection,
        sealer: &Sealer,
        now: DateTime<Utc>,
    ) -> Result<(), KeyError> {
        let rows = connection
            .transaction::<_, KeyError, _>(async |connection| {
                diesel::sql_query("SELECT pg_advisory_xact_lock($1)")
                    .bind::<diesel::sql_types::BigInt, _>(LOCK)
                    .execute(connection)
                    .await?;
                let mut rows: Vec<Row> = signing_keys::table
                    .filter(signing_keys::retires_at.gt(now))
                    .order(signing_keys::signs_from.desc())
                    .select(Row::as_select())
                    .load(connection)
                    .await?;
                let signs_from = match rows.as_slice().first() {
                    None => Some(now),
                    Some(newest) if newest.signs_from + SIGNS_FOR <= now => Some(now + JWKS_LIFETIME),
                    Some(_) => None,
                };
                if let Some(signs_from) = signs_from {
                    let row = generate(sealer, now, signs_from)?;
                    diesel::insert_into(signing_keys::table).values(&row).execute(connection).await?;
                    rows.insert(0, row);
                }
                Ok(rows)
            })
            .await?;
        let keys = rows.iter().map(|row| open(sealer, row).map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }
}

fn generate(sealer: &Sealer, now: DateTime<Utc>, signs_from: DateTime<Utc>) -> Result<Row, KeyError> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError::Library)?;
    let document = pair.to_pkcs8v1().map_err(|_| KeyError::Library)?;
    // An uncompressed point: 4, then x and y of 32 bytes each.
    let point = pair.public_key().as_ref();
    let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else { return Err(KeyError::Library) };
    let kid = hex::encode(sha256(point).get(..8).unwrap_or_default());
    let sealed =
        sealer.seal(document.as_ref(), &kid).map_err(|source| KeyError::Seal { kid: kid.clone(), source })?;
    let public_jwk = json!({
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
        "x": BASE64.encode(x), "y": BASE64.encode(y),
    });
    let retires_at = signs_from + SIGNS_FOR + JWKS_LIFETIME * 2 + Duration::seconds(ACCESS_LIFETIME_SECONDS);
    Ok(Row { kid, sealed, public_jwk, created_at: now, signs_from, retires_at })
}

fn open(sealer: &Sealer, row: &Row) -> Result<SigningKey, KeyError> {
    let der = sealer
        .open(&row.sealed, &row.kid)
        .map_err(|source| KeyError::Seal { kid: row.kid.clone(), source })?;
    let text = |name| row.public_jwk.get(name).and_then(Value::as_str).unwrap_or_default();
    let decoding = DecodingKey::from_ec_components(text("x"), text("y")).map_err(|_| KeyError::Library)?;
    Ok(SigningKey {
        kid: row.kid.clone(),
        encoding: EncodingKey::from_ec_der(&der),
        decoding,
        jwk: row.public_jwk.clone(),
        signs_from: row.signs_from,
    })
}
