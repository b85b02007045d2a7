//! What is held about a person, opened, as JSON documents and pictures.

use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_store::StoreError;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    account::{change, lookup},
    operator::audit,
    schema::{accounts, credentials, uploads, variants},
    session,
    vault::Vault,
};

/// What goes into an archive.
pub struct Holdings {
    /// Documents by their names.
    pub documents: Vec<(&'static str, Value)>,
    /// Keys of pictures.
    pub pictures: Vec<String>,
}

/// A credential without its secret: kind, label, made, last used.
type Proof = (String, Option<String>, DateTime<Utc>, Option<DateTime<Utc>>);

/// Gathers; none where the account is gone.
///
/// # Errors
/// When the database refuses.
pub async fn gather(
    connection: &mut AsyncPgConnection,
    vault: &Vault,
    account: Uuid,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<Option<Holdings>, StoreError> {
    let Some(row) = change::lock(connection, account).await? else { return Ok(None) };
    let public = lookup::by_id(connection, account).await?;
    let (created_at, flags) =
        public.map(|public| (Some(public.created_at), public.flags)).unwrap_or_default();
    let owner = account.to_string();
    let open = |sealed: &str| match vault.email.open(sealed, &owner) {
        Ok(plain) => String::from_utf8_lossy(&plain).into_owned(),
        Err(error) => format!("({error})"),
    };
    let profile = json!({
        "id": row.vanity, "internalId": row.id, "username": row.username, "summary": row.summary, "locale": row.locale,
        "email": open(&row.email_typed), "emailAsLookedUp": open(&row.email_normal),
        "emailVerifiedAt": row.email_verified_at, "createdAt": created_at, "flags": flags, "version": row.version,
    });
    let proofs: Vec<Proof> = credentials::table
        .filter(credentials::account.eq(account))
        .select((credentials::kind, credentials::label, credentials::created_at, credentials::used_at))
        .load(connection)
        .await?;
    let proofs: Vec<Value> = proofs
        .into_iter()
        .map(|(kind, label, created_at, used_at)| {
            json!({ "kind": kind, "label": label, "createdAt": created_at, "usedAt": used_at })
        })
        .collect();
    let sessions: Vec<Value> = session::list(connection, account, now)
        .await?
        .into_iter()
        .map(|session| {
            let device = session
                .device
                .and_then(|device| session::list::open_device(&vault.devices, session.id, &device));
            json!({
                "id": session.id, "device": device, "scope": session.scopes, "methods": session.methods,
                "createdAt": session.created_at, "usedAt": session.used_at,
            })
        })
        .collect();
    let keys: Vec<Value> = lookup::keys(connection, account)
        .await?
        .into_iter()
        .map(|key| json!({ "id": key.id, "publicKeyPem": key.pem, "createdAt": key.created_at }))
        .collect();
    let taken: Vec<(Uuid, String, String, i64, chrono::DateTime<chrono::Utc>)> = uploads::table
        .filter(uploads::account.eq(account))
        .order(uploads::created_at)
        .select((uploads::id, uploads::state, uploads::media_type, uploads::size_bytes, uploads::created_at))
        .load(connection)
        .await?;
    let icon: Option<Option<Uuid>> = accounts::table
        .find(account)
        .select(accounts::icon_upload)
        .load(connection)
        .await?
        .into_iter()
        .next();
    let pictures: Vec<String> = match icon.flatten() {
        Some(upload) => {
            variants::table
                .filter(variants::upload.eq(upload))
                .select(variants::object_key)
                .load(connection)
                .await?
        }
        None => Vec::new(),
    };
    let uploads: Vec<Value> = taken
        .into_iter()
        .map(|(id, state, media_type, size, at)| {
            json!({ "id": id, "status": state, "mediaType": media_type, "sizeBytes": size, "createdAt": at })
        })
        .collect();
    let acts: Vec<Value> = audit::about(connection, &vault.audit, account)
        .await?
        .into_iter()
        .map(|line| json!({ "at": line.at, "action": line.action, "detail": line.detail }))
        .collect();
    let documents = vec![
        ("account.json", profile),
        ("credentials.json", json!(proofs)),
        ("sessions.json", json!(sessions)),
        ("public-keys.json", json!(keys)),
        ("pictures.json", json!(uploads)),
        ("operators-acts.json", json!(acts)),
    ];
    Ok(Some(Holdings { documents, pictures }))
}
