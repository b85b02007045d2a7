//! Accounts: asked of autha by the operator's own account, and by nobody without one.

use anyhow::{Context, Result, ensure};
use orrery_tests::{Client, Person, World, deadline::until};
use reqwest::Method;
use serde_json::json;
use totp_rs::{Algorithm, Builder, Secret};

use crate::{Browser, SOON};

/// A code of the secret, of 30 s ago.
#[expect(clippy::disallowed_methods, reason = "an authenticator goes by the clock of its own device")]
fn code(secret: &str) -> Result<String> {
    let secret = Secret::try_from_base32(secret).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let totp = Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_secret(secret.as_bytes().to_vec())
        .build_noncompliant();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    Ok(totp.generate(now - 30).to_string())
}

/// An operator with a second factor, and one of its recovery codes.
async fn operator(world: &World) -> Result<(Person, String)> {
    let person = Person::new();
    world.client()?.sign_up(&person).await?.expect(201)?;
    let client: Client = world.client()?.logged_in(&person).await?;
    let granted = world.run_revealing(&["account", "operator", &person.id], &[], SOON).await?;
    ensure!(granted.status.success(), "{}", granted.output);
    let secret = client.get("/users/@me/totp").await?.expect(200)?.text("totpSecret")?.to_owned();
    let body = json!({"totpSecret": secret, "totpCode": code(&secret)?, "password": person.password});
    let set = client.send(client.request(Method::PUT, "/users/@me/totp").json(&body)).await?.expect(200)?;
    let recovery = set.body["recoveryCodes"][0].as_str().context("no code")?.to_owned();
    Ok((person, recovery))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_account_logs_in_to_the_console_while_it_is_an_operators() -> Result<()> {
    let world = World::start().await?;
    let mut service = world.spawn(&[]).await?;
    let (person, recovery) = operator(&world).await?;
    let other = Person::new();
    world.client()?.sign_up(&other).await?.expect(201)?;
    let mut ada = Browser::new(&service)?;
    let form = |person: &Person, code: &str| {
        [("account", person.email.clone()), ("password", person.password.clone()), ("code", code.to_owned())]
    };
    for refused in [form(&other, "000000"), form(&person, "000000")] {
        let refused: Vec<_> = refused.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let page = ada.send(ada.post("/login", &refused)).await?;
        ensure!(page.status == 403 && page.headers.get("set-cookie").is_none(), "{}", page.status);
    }
    let right = form(&person, &recovery);
    let right: Vec<_> = right.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let page = ada.send(ada.post("/login", &right)).await?;
    ada.take_cookie(&page)?;
    ensure!(page.status == 303 && page.location() == "/", "{}: {}", page.status, page.text);
    // The account's pages need no second log-in, and the log has the account's name.
    let found = ada.act("/accounts/find", &[("reference", &other.id)]).await?.expect(200)?;
    ensure!(found.contains(&other.email));
    let log = ada.get("/audit").await?.expect(200)?;
    ensure!(log.contains(&person.id.to_lowercase()) && !log.contains(&person.email), "{log}");
    // Its session ends with the process that keeps its tokens: nobody is let in by the cookie alone.
    let mut eve = Browser::new(&service)?;
    eve.cookie = ada.cookie.clone();
    eve.get("/").await?.expect(200)?;
    service.kill();
    let again = world.spawn(&[]).await?;
    let mut later = Browser::new(&again)?;
    later.cookie = eve.cookie;
    let page = later.get("/").await?;
    ensure!(page.status == 303 && page.location() == "/login", "{}", page.status);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_operator_any_more_is_logged_out() -> Result<()> {
    let world = World::builder().env("ORRERY_CONSOLE__RECHECK_EVERY", "1s").start().await?;
    let service = world.spawn(&[]).await?;
    let (person, recovery) = operator(&world).await?;
    let mut ada = Browser::new(&service)?;
    let form = [
        ("account", person.id.as_str()),
        ("password", person.password.as_str()),
        ("code", recovery.as_str()),
    ];
    let page = ada.send(ada.post("/login", &form)).await?;
    ada.take_cookie(&page)?;
    ada.get("/").await?.expect(200)?;
    let revoked = world.run(&["account", "operator", &person.id, "--revoke"], SOON).await?;
    ensure!(revoked.status.success(), "{}", revoked.output);
    until(SOON, "the session ends", async || ada.get("/").await.is_ok_and(|page| page.location() == "/login"))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_finds_an_account_suspends_and_restores_it() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&[]).await?;
    let (person, recovery) = operator(&world).await?;
    let other = Person::new();
    world.client()?.sign_up(&other).await?.expect(201)?;
    let ada = Browser::logged_in(&world, &service).await?;
    ensure!(ada.get("/accounts").await?.expect(200)?.contains("Log in to autha"));
    ada.act("/accounts/find", &[("reference", &other.id)]).await?.expect(403)?;
    let login = |code: &'static str| {
        [("account", person.email.clone()), ("password", person.password.clone()), ("code", code.to_owned())]
    };
    let wrong = login("000000");
    let wrong: Vec<_> = wrong.iter().map(|(name, value)| (*name, value.as_str())).collect();
    ensure!(ada.act("/accounts/login", &wrong).await?.status.is_client_error());
    let right = [
        ("account", person.email.as_str()),
        ("password", person.password.as_str()),
        ("code", recovery.as_str()),
    ];
    ada.act("/accounts/login", &right).await?.expect(303)?;
    let list = ada.get("/accounts").await?.expect(200)?;
    ensure!(list.contains(&other.id.to_lowercase()), "the account is not listed");
    for reference in [&other.id, &other.email] {
        let page = ada.act("/accounts/find", &[("reference", reference)]).await?.expect(200)?;
        ensure!(page.contains(&other.email) && page.contains("active"), "it is not shown");
    }
    let id = {
        let page = ada.act("/accounts/find", &[("reference", &other.id)]).await?.expect(200)?;
        let (_, rest) = page.split_once("name=\"id\" value=\"").context("no id")?;
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    ada.act("/accounts/act", &[("id", &id), ("action", "suspend"), ("reason", "spam")]).await?.expect(200)?;
    world.client()?.login(&other).await?.expect(403)?;
    ada.act("/accounts/act", &[("id", &id), ("action", "restore")]).await?.expect(200)?;
    world.client()?.login(&other).await?.expect(200)?;
    ada.act("/accounts/act", &[("id", &id), ("action", "end-sessions")]).await?.expect(200)?;
    ada.act("/accounts/act", &[("id", &id), ("action", "delete")]).await?.expect(422)?;
    // Another session of the console is nobody there.
    let eve = Browser::logged_in(&world, &service).await?;
    ensure!(eve.get("/accounts").await?.expect(200)?.contains("Log in to autha"));
    let sessions = "SELECT count(*) FROM autha.sessions WHERE ended_at IS NULL";
    let before = world.database().count(sessions).await?;
    ada.act("/accounts/logout", &[]).await?.expect(303)?;
    ensure!(world.database().count(sessions).await? == before - 1, "its session goes on at autha");
    ensure!(ada.get("/accounts").await?.expect(200)?.contains("Log in to autha"));
    Ok(())
}
