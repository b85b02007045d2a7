//! Links of mails, as maily would send them: opened from the outbox with the key that autha and maily share.

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use orrery_config::keys::KeyRing;
use orrery_seal::Sealer;
use orrery_tests::{World, deadline::eventually};
use serde_json::Value;

use crate::SOON;

/// The key of mails, of a world whose links a test follows.
const KEY: [u8; 32] = [9; 32];

/// A world whose mails can be opened, with these further settings.
pub async fn world(settings: &[(&str, &str)]) -> Result<World> {
    let mut builder = World::builder().env("ORRERY_KEYS__MAIL", &STANDARD.encode(KEY));
    for (key, value) in settings {
        builder = builder.env(key, value);
    }
    builder.start().await
}

/// The newest mail of a template to the account: to whom it goes and its details.
pub async fn newest(world: &World, account: &str, template: &str) -> Result<(String, Value)> {
    let sql = format!(
        "SELECT data->>'to' AS \"to\", data->>'details' AS details FROM bus.outbox WHERE type = 'com.gravitalia.email' \
         AND subject = '{account}' AND data->>'template' = '{template}' ORDER BY seq DESC LIMIT 1"
    );
    let row = eventually(SOON, template, async || world.database().rows(&sql).await.ok()?.into_iter().next())
        .await?;
    let ring = KeyRing::from_bytes([KEY]);
    let open = |purpose: &str, sealed: &Value| -> Result<String> {
        let sealed = sealed.as_str().context("nothing sealed")?;
        let plain = Sealer::new(&ring, purpose)?.open(sealed, account)?;
        Ok(String::from_utf8(plain.to_vec())?)
    };
    let to = open("mail", &row["to"])?;
    let details = match row["details"].as_str() {
        Some(_) => serde_json::from_str(&open("mail.details", &row["details"])?)?,
        None => Value::Null,
    };
    Ok((to, details))
}

/// The secret of the link in the newest mail of a template.
pub async fn secret(world: &World, account: &str, template: &str) -> Result<String> {
    let (_, details) = newest(world, account, template).await?;
    let link = details["link"].as_str().context("no link")?;
    Ok(link.rsplit_once("#token=").context("no secret in the link")?.1.to_owned())
}

/// How many mails of a template there are for an account.
pub async fn count(world: &World, account: &str, template: &str) -> Result<i64> {
    let sql = format!(
        "SELECT count(*) FROM bus.outbox WHERE type = 'com.gravitalia.email' AND subject = '{account}' \
         AND data->>'template' = '{template}'"
    );
    world.database().count(&sql).await
}
