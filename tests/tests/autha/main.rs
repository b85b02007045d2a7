//! Accounts as people and operators use them: over HTTP and by the command line, against the real parts.

#![expect(clippy::indexing_slicing, reason = "what a JSON value lacks is null")]

mod callers;
mod deletion;
mod mailbox;
mod moving;
mod operators;
mod profile;
mod protection;
mod replicas;
mod schemathesis;
mod second_factor;
mod sessions;
mod sign_up;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use orrery_tests::{Answer, Client, Person, World};
use reqwest::Method;
use serde_json::Value;

/// The deadline of what comes by itself.
const SOON: Duration = Duration::from_secs(60);

/// An Ed25519 key.
const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA5EnDUV3hgaWX5RprPmPgoXjugFpnryj7sMiqiSZAkCo=\n-----END PUBLIC KEY-----";

/// Sends a JSON body.
async fn send(client: &Client, method: Method, path: &str, body: Value) -> Result<Answer> {
    client.send(client.request(method, path).json(&body)).await
}

/// Sends no body.
async fn bare(client: &Client, method: Method, path: &str) -> Result<Answer> {
    client.send(client.request(method, path)).await
}

/// A person who has signed up, and their client.
async fn somebody(world: &World) -> Result<(Person, Client)> {
    let person = Person::new();
    let client = world.client()?.signed_up(&person).await?;
    Ok((person, client))
}

/// Expects a problem with this field and code.
fn fault(answer: &Answer, status: u16, field: &str, code: &str) -> Result<()> {
    ensure!(answer.status == status, "{status} expected, got {}: {}", answer.status, answer.body);
    let problem = answer.problem()?;
    let found = problem.field(field)?;
    ensure!(found.code == code, "{found:?}");
    Ok(())
}

/// The internal id of a person.
async fn internal_id(world: &World, person: &Person) -> Result<String> {
    let sql = format!("SELECT id::text FROM autha.accounts WHERE vanity = '{}'", person.id.to_lowercase());
    world.database().text(&sql).await?.context("no such account")
}

/// How many events told of a change of an account, and its version.
async fn changes(world: &World, account: &str) -> Result<(i64, i64)> {
    let events = format!(
        "SELECT count(*) FROM bus.outbox WHERE type = 'com.gravitalia.account.updated.v1' AND subject = '{account}'"
    );
    let version = format!("SELECT version FROM autha.accounts WHERE id = '{account}'");
    Ok((world.database().count(&events).await?, world.database().count(&version).await?))
}

/// The key that signed a token.
fn kid(token: &str) -> Result<String> {
    let head = token.split('.').next().context("no head")?;
    let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head)?)?;
    Ok(head["kid"].as_str().context("no kid")?.to_owned())
}
