//! TOTP, recovery codes, and recovery by mail beside them.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use orrery_tests::{Client, Person, World};
use reqwest::Method;
use serde_json::{Value, json};
use totp_rs::{Algorithm, Builder, Secret};

use crate::{bare, fault, internal_id, mailbox, send, somebody};

/// A TOTP secret, for whoever brings one along.
pub const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

/// The code of a secret, `steps` of 30 s from now.
#[expect(clippy::disallowed_methods, reason = "an authenticator goes by the clock of its own device")]
pub fn code(secret: &str, steps: i64) -> Result<String> {
    let secret = Secret::try_from_base32(secret).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let totp = Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_secret(secret.as_bytes().to_vec())
        .build_noncompliant();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    Ok(totp.generate(now.checked_add_signed(30 * steps).context("no time")?).to_string())
}

/// Sets TOTP up: its secret and the recovery codes.
pub async fn set_up(client: &Client, person: &Person) -> Result<(String, Vec<String>)> {
    let secret =
        bare(client, Method::GET, "/users/@me/totp").await?.expect(200)?.text("totpSecret")?.to_owned();
    let body = json!({"totpSecret": secret, "totpCode": code(&secret, -1)?, "password": person.password});
    let answer = send(client, Method::PUT, "/users/@me/totp", body).await?.expect(200)?;
    let codes = answer.body["recoveryCodes"].as_array().context("no codes")?;
    Ok((secret, codes.iter().filter_map(Value::as_str).map(str::to_owned).collect()))
}

async fn log_in(client: &Client, person: &Person, code: Option<&str>) -> Result<orrery_tests::Answer> {
    send(
        client,
        Method::POST,
        "/login",
        json!({"email": person.email, "password": person.password, "totpCode": code}),
    )
    .await
}

#[tokio::test]
async fn a_code_works_once_and_a_recovery_code_in_its_place() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    let (secret, codes) = set_up(&client, &person).await?;
    ensure!(codes.len() == 10);
    fault(&log_in(&client, &person, None).await?, 401, "totpCode", "missing")?;
    fault(&log_in(&client, &person, Some("000000")).await?, 401, "totpCode", "invalid_code")?;
    // The code that set it up is used.
    fault(&log_in(&client, &person, Some(&code(&secret, -1)?)).await?, 401, "totpCode", "invalid_code")?;
    let now = code(&secret, 0)?;
    let answers = try_join_all((0..4).map(|_| log_in(&client, &person, Some(&now)))).await?;
    let let_in = answers.iter().filter(|answer| answer.status == 200).count();
    ensure!(let_in == 1, "a code let {let_in} in");
    let first = codes.first().context("no code")?.to_uppercase();
    let answers = try_join_all((0..4).map(|_| log_in(&client, &person, Some(&first)))).await?;
    let let_in = answers.iter().filter(|answer| answer.status == 200).count();
    ensure!(let_in == 1, "a recovery code let {let_in} in");

    // Switching off needs both, and then only the password is asked for.
    let off = async |code: Option<&str>| {
        send(
            &client,
            Method::DELETE,
            "/users/@me/totp",
            json!({"password": person.password, "totpCode": code}),
        )
        .await
    };
    fault(&off(None).await?, 401, "totpCode", "missing")?;
    off(codes.get(1).map(String::as_str)).await?.expect(204)?;
    log_in(&client, &person, None).await?.expect(200)?;
    ensure!(
        world.database().count("SELECT count(*) FROM autha.credentials WHERE kind <> 'password'").await? == 0
    );
    Ok(())
}

#[tokio::test]
async fn a_client_of_upstream_sets_it_up_and_off_by_patch() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    let patch = async |body| send(&client, Method::PATCH, "/users/@me", body).await;
    let secret = SECRET;
    fault(
        &patch(json!({"totpSecret": secret, "totpCode": "000000", "password": person.password})).await?,
        422,
        "totpCode",
        "invalid_code",
    )?;
    patch(json!({"totpSecret": secret, "totpCode": code(secret, -1)?, "password": person.password}))
        .await?
        .expect(200)?;
    fault(&log_in(&client, &person, None).await?, 401, "totpCode", "missing")?;
    patch(json!({"totpSecret": "", "totpCode": code(secret, 0)?, "password": person.password}))
        .await?
        .expect(200)?;
    log_in(&client, &person, None).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn a_forgotten_password_is_set_by_a_link_once_and_the_second_factor_stays() -> Result<()> {
    let world = mailbox::world(&[]).await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (mut person, client) = somebody(&world).await?;
    let (_, codes) = set_up(&client, &person).await?;
    let account = internal_id(&world, &person).await?;
    let ask =
        async |email: &str| send(&client, Method::POST, "/recover/request", json!({"email": email})).await;
    let known = ask(&person.email).await?.expect(202)?;
    let unknown = ask("nobody@people.example").await?.expect(202)?;
    ensure!(known.bytes == unknown.bytes);
    let token = mailbox::secret(&world, &account, "recover").await?;
    let new = "orrery-77ab-turns-again";
    world.secret(new);
    let recover = async |code: Option<&str>| {
        send(&client, Method::POST, "/recover", json!({"token": token, "password": new, "totpCode": code}))
            .await
    };
    fault(&recover(None).await?, 401, "totpCode", "missing")?;
    recover(codes.first().map(String::as_str)).await?.expect(204)?;
    fault(&recover(codes.get(1).map(String::as_str)).await?, 422, "token", "invalid_token")?;
    client.me().await?.expect(401)?;
    person.password = new.to_owned();
    log_in(&client, &person, codes.get(2).map(String::as_str)).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn every_dangerous_change_wants_the_second_factor_again() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    let (_, codes) = set_up(&client, &person).await?;
    let before = world.database().count("SELECT count(*) FROM bus.outbox").await?;
    let new = format!("new_{}", person.email);
    world.secret(&new);
    let dangerous = [
        (Method::PATCH, "/users/@me", json!({"newPassword": Person::new().password})),
        (Method::PATCH, "/users/@me", json!({"email": new})),
        (Method::PATCH, "/users/@me", json!({"totpSecret": ""})),
        (Method::DELETE, "/users/@me/totp", json!({})),
        (Method::POST, "/users/@me/recovery-codes", json!({})),
        (Method::POST, "/users/@me/export", json!({})),
        (Method::DELETE, "/users/@me", json!({})),
    ];
    for (method, path, body) in &dangerous {
        let mut body = body.clone();
        // Neither the token alone nor the password beside it.
        ensure!(send(&client, method.clone(), path, body.clone()).await?.status == 422, "{method} {path}");
        body["password"] = json!(person.password);
        let answer = send(&client, method.clone(), path, body).await?;
        fault(&answer, 401, "totpCode", "missing").with_context(|| format!("{method} {path}"))?;
    }
    ensure!(world.database().count("SELECT count(*) FROM bus.outbox").await? == before, "something changed");
    // With all of it the last of them is done.
    let proof = json!({"password": person.password, "totpCode": codes.first()});
    send(&client, Method::DELETE, "/users/@me", proof).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn links_end_when_they_say() -> Result<()> {
    let world = mailbox::world(&[("ORRERY_AUTHA__VERIFICATION", "ask")]).await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    let account = internal_id(&world, &person).await?;
    let verify = mailbox::secret(&world, &account, "verify").await?;
    send(&client, Method::POST, "/recover/request", json!({"email": person.email})).await?.expect(202)?;
    let recover = mailbox::secret(&world, &account, "recover").await?;
    let new = format!("new_{}", person.email);
    world.secret(&new);
    let patch = json!({"email": new, "password": person.password});
    send(&client, Method::PATCH, "/users/@me", patch).await?.expect(200)?;
    let confirm = mailbox::secret(&world, &account, "confirm_address").await?;
    let over = async || {
        let sql =
            "UPDATE autha.challenges SET created_at = created_at - (expires_at - now()), expires_at = now()";
        world.database().execute(sql).await
    };
    for (purpose, lifetime) in [("verify", "3 days"), ("recover", "1 hour"), ("change_address", "3 days")] {
        let sql = format!(
            "SELECT count(*) FROM autha.challenges WHERE purpose = '{purpose}' AND expires_at - created_at <= interval '{lifetime}'"
        );
        ensure!(world.database().count(&sql).await? == 1, "{purpose} is good for longer than {lifetime}");
    }
    over().await?;
    for (path, token) in [("/verify", &verify), ("/recover", &recover), ("/address/confirm", &confirm)] {
        let body = json!({"token": token, "password": person.password});
        fault(&send(&client, Method::POST, path, body).await?, 422, "token", "invalid_token")
            .with_context(|| path)?;
    }
    world.database().execute("DELETE FROM autha.throttle").await?;
    // The former address takes a change back for 7 days, and then it is free.
    let patch = json!({"email": new, "password": person.password});
    send(&client, Method::PATCH, "/users/@me", patch).await?.expect(200)?;
    let confirm = json!({"token": mailbox::secret(&world, &account, "confirm_address").await?});
    send(&client, Method::POST, "/address/confirm", confirm).await?.expect(204)?;
    let back = mailbox::secret(&world, &account, "address_changed").await?;
    let lifetime = "SELECT count(*) FROM autha.challenges WHERE purpose = 'take_back' AND expires_at - created_at = interval '7 days'";
    ensure!(world.database().count(lifetime).await? == 1);
    over().await?;
    fault(
        &send(&client, Method::POST, "/address/take-back", json!({"token": back})).await?,
        422,
        "token",
        "invalid_token",
    )?;
    world.client()?.signed_up(&Person { email: person.email.clone(), ..Person::new() }).await?;
    Ok(())
}
