//! A third party over HTTP, made by the command, and its tokens.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;

use crate::{Answer, Client, World};

/// The longest that the command may take on a busy machine.
const SOON: Duration = Duration::from_secs(40);

/// Makes a partner of this name, with more arguments of the command; returns its client secret, which no page or log may have.
///
/// # Errors
/// It is not made.
pub async fn create(world: &World, name: &str, more: &[&str]) -> Result<String> {
    let arguments: Vec<&str> = ["partners", "create", name].iter().chain(more).copied().collect();
    let made = world.run_revealing(&arguments, &[], SOON).await?;
    ensure!(made.status.success(), "orrery {}: {}", arguments.join(" "), made.output);
    let secret = made.output.lines().find_map(|line| line.strip_prefix("client_secret "));
    let secret = secret.context("no secret")?.to_owned();
    world.secret(&secret);
    Ok(secret)
}

/// Asks for a token by client credentials; an empty scope is the usual one.
///
/// # Errors
/// The server cannot be asked.
pub async fn ask_token(client: &Client, name: &str, secret: &str, scope: &str) -> Result<Answer> {
    let mut form = vec![("grant_type", "client_credentials"), ("client_id", name), ("client_secret", secret)];
    if !scope.is_empty() {
        form.push(("scope", scope));
    }
    client.send(client.request(Method::POST, "/partners/token").form(&form)).await
}
