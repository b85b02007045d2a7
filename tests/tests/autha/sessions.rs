//! Sessions: listed, ended, introspected, revoked; and what happens when everything is done at once.

use anyhow::{Context, Result, ensure};
use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;
use orrery_tests::{Client, Person, World, deadline::eventually, pictures};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{KEY, SOON, bare, internal_id, mailbox, operators, second_factor, send, somebody};

#[tokio::test]
async fn sessions_are_listed_and_ended_one_by_one_and_all() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (person, first) = somebody(&world).await?;
    let second = world.client()?.logged_in(&person).await?;
    let third = world.client()?.logged_in(&person).await?;
    let list = async |client: &Client| -> Result<Vec<Value>> {
        let body = bare(client, Method::GET, "/users/@me/sessions").await?.expect(200)?.body;
        Ok(body["sessions"].as_array().context("no list")?.clone())
    };
    let sessions = list(&first).await?;
    ensure!(
        sessions.len() == 3 && sessions.iter().filter(|session| session["current"] == true).count() == 1,
        "{sessions:?}"
    );
    let id = list(&second)
        .await?
        .into_iter()
        .find(|session| session["current"] == true)
        .context("no session")?["id"]
        .clone();
    let path = format!("/users/@me/sessions/{}", id.as_str().context("no id")?);
    bare(&first, Method::DELETE, &path).await?.expect(204)?;
    bare(&first, Method::DELETE, &path).await?.expect(404)?;
    // At once, not when the access token ends.
    second.me().await?.expect(401)?;
    bare(&third, Method::POST, "/logout").await?.expect(204)?;
    third.refresh(third.refresh_token().context("no token")?).await?.expect(400)?;
    ensure!(list(&first).await?.len() == 1);
    bare(&first, Method::DELETE, "/users/@me/sessions").await?.expect(204)?;
    first.me().await?.expect(401)?;
    Ok(())
}

#[tokio::test]
async fn tokens_are_introspected_by_their_owner_and_revoked() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (person, ada) = somebody(&world).await?;
    let (_, bob) = somebody(&world).await?;
    let access = ada.access_token().context("no token")?.to_owned();
    let refresh = ada.refresh_token().context("no token")?.to_owned();
    let ask = async |client: &Client, token: &str| {
        send(client, Method::POST, "/oauth/introspect", json!({"token": token})).await
    };
    let seen = ask(&ada, &access).await?.expect(200)?.body;
    ensure!(
        seen["active"] == true
            && seen["sub"] == person.id
            && seen["scope"].as_str().is_some_and(|scope| scope.contains("read:account")),
        "{seen}"
    );
    ensure!(ask(&ada, &refresh).await?.body["active"] == true);
    for token in [access.as_str(), refresh.as_str()] {
        ensure!(ask(&bob, token).await?.expect(200)?.body == json!({"active": false}));
    }
    ask(&world.client()?, &access).await?.expect(401)?;
    let stranger = world.client()?;
    let form = stranger.request(Method::POST, "/oauth/revoke").form(&[("token", &refresh)]);
    stranger.send(form).await?.expect(200)?;
    send(&stranger, Method::POST, "/oauth/revoke", json!({"token": "unknown"})).await?.expect(200)?;
    ada.me().await?.expect(401)?;
    let refused = stranger.refresh(&refresh).await?.expect(400)?;
    ensure!(refused.body["error"] == "invalid_grant" && refused.body["type"].is_string(), "{}", refused.body);
    let refused = send(&stranger, Method::POST, "/oauth/token", json!({"grant_type": "password"}))
        .await?
        .expect(400)?;
    ensure!(refused.body["error"] == "unsupported_grant_type", "{}", refused.body);
    Ok(())
}

#[tokio::test]
async fn all_changes_at_once_end_without_a_deadlock() -> Result<()> {
    let world = World::start().await?;
    let _one = world.spawn(&["gateway", "autha"]).await?;
    for _ in 0..5 {
        let (person, client) = somebody(&world).await?;
        let sessions: Vec<Client> =
            join_all((0..3).map(|_| async { world.client()?.logged_in(&person).await }))
                .await
                .into_iter()
                .collect::<Result<_>>()?;
        let mut all: Vec<std::pin::Pin<Box<dyn Future<Output = Result<u16>> + Send>>> = Vec::new();
        for session in &sessions {
            let (client, refresh) =
                (session.clone(), session.refresh_token().context("no token")?.to_owned());
            for _ in 0..2 {
                let (client, refresh) = (client.clone(), refresh.clone());
                all.push(Box::pin(async move { Ok(client.refresh(&refresh).await?.status) }));
            }
            let (client, refresh) = (client.clone(), refresh.clone());
            all.push(Box::pin(async move {
                Ok(send(&client, Method::POST, "/oauth/revoke", json!({"token": refresh})).await?.status)
            }));
            let client = session.clone();
            all.push(Box::pin(async move {
                Ok(bare(&client, Method::DELETE, "/users/@me/sessions").await?.status)
            }));
            let client = session.clone();
            all.push(Box::pin(async move {
                Ok(send(&client, Method::PATCH, "/users/@me", json!({"summary": "x"})).await?.status)
            }));
        }
        let login = client.clone();
        let someone = person.clone();
        all.push(Box::pin(async move { Ok(login.login(&someone).await?.status) }));
        for status in join_all(all).await {
            let status = status?;
            ensure!(status < 500, "an answer of {status}");
        }
    }
    ensure!(
        world
            .database()
            .count("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            .await?
            == 0
    );
    Ok(())
}

/// What changes an account, its sessions or its tokens: by its owner, by links and by an operator.
const CHANGES: [&str; 24] = [
    "refresh",
    "revoke",
    "end one",
    "end all",
    "log out",
    "log in",
    "summary",
    "public key",
    "new password",
    "new address",
    "totp on",
    "totp off",
    "export",
    "put picture",
    "delete picture",
    "delete",
    "recovery mail",
    "recover",
    "verification mail",
    "verify",
    "confirm",
    "suspend",
    "restore",
    "reset second factor",
];

/// What is needed for them.
struct Actors<'a> {
    person: &'a Person,
    client: Client,
    admin: &'a Client,
    /// Links that recover, verify and confirm.
    links: [String; 3],
}

impl Actors<'_> {
    async fn change(&self, name: &str) -> Result<u16> {
        let Self { person, client, admin, links } = self;
        let refresh = client.refresh_token().context("no token")?;
        let password = json!({"password": person.password});
        let post = async |path: &str, body: Value| send(client, Method::POST, path, body).await;
        let patch = async |body: Value| send(client, Method::PATCH, "/users/@me", body).await;
        let act = async |what: &str| {
            let path = format!("/admin/accounts/{}/{what}", person.id);
            send(admin, Method::POST, &path, json!({})).await
        };
        let answer = match name {
            "refresh" => client.refresh(refresh).await?,
            "revoke" => post("/oauth/revoke", json!({"token": refresh})).await?,
            "end one" => {
                let sessions = bare(client, Method::GET, "/users/@me/sessions").await?;
                let id = sessions.body["sessions"][0]["id"].as_str().unwrap_or("none").to_owned();
                bare(client, Method::DELETE, &format!("/users/@me/sessions/{id}")).await?
            }
            "end all" => bare(client, Method::DELETE, "/users/@me/sessions").await?,
            "log out" => bare(client, Method::POST, "/logout").await?,
            "log in" => client.login(person).await?,
            "summary" => patch(json!({"summary": "x"})).await?,
            "public key" => patch(json!({"publicKeys": KEY})).await?,
            "new password" => {
                patch(json!({"newPassword": person.password, "password": person.password})).await?
            }
            "new address" => {
                patch(json!({"email": format!("new_{}", person.email), "password": person.password})).await?
            }
            "totp on" => {
                let code = second_factor::code(second_factor::SECRET, 0)?;
                patch(json!({"totpSecret": second_factor::SECRET, "totpCode": code, "password": person.password})).await?
            }
            "totp off" => {
                let code = second_factor::code(second_factor::SECRET, 1)?;
                patch(json!({"totpSecret": "", "totpCode": code, "password": person.password})).await?
            }
            "export" => post("/users/@me/export", password).await?,
            "put picture" => client.put_avatar(pictures::gradient_png(16, 16)?, "image/png").await?,
            "delete picture" => client.delete_avatar().await?,
            "delete" => send(client, Method::DELETE, "/users/@me", password).await?,
            "recovery mail" => post("/recover/request", json!({"email": person.email})).await?,
            "recover" => post("/recover", json!({"token": links[0], "password": person.password})).await?,
            "verification mail" => bare(client, Method::POST, "/users/@me/verification").await?,
            "verify" => post("/verify", json!({"token": links[1]})).await?,
            "confirm" => post("/address/confirm", json!({"token": links[2]})).await?,
            "suspend" | "restore" => act(name).await?,
            "reset second factor" => act("reset-second-factor").await?,
            other => anyhow::bail!("what is {other}?"),
        };
        Ok(answer.status)
    }
}
/// The account is as new, and what it left behind is old enough for the maintenance, which runs beside.
async fn renew(world: &World, person: &Person) -> Result<()> {
    let own = format!("(SELECT id FROM autha.accounts WHERE vanity = '{}')", person.id);
    world
        .database()
        .execute(&format!(
            "UPDATE autha.accounts SET suspended_at = NULL, purge_at = NULL, email_verified_at = NULL WHERE id = {own}; \
             DELETE FROM autha.credentials WHERE account = {own} AND kind <> 'password'; \
             UPDATE autha.refresh_tokens SET expires_at = now() - interval '1 day' WHERE used_at IS NOT NULL AND expires_at > now(); \
             UPDATE autha.sessions SET used_at = now() - interval '40 days' WHERE ended_at IS NOT NULL AND used_at > now() - interval '1 day'"
        ))
        .await
}

/// Links of three templates, for changes that use them.
async fn links(world: &World, person: &Person, client: &Client, pair: [&str; 2]) -> Result<[String; 3]> {
    let account = internal_id(world, person).await?;
    let mut links = [String::new(), String::new(), String::new()];
    for (n, (change, template)) in
        [("recover", "recover"), ("verify", "verify"), ("confirm", "confirm_address")].into_iter().enumerate()
    {
        if !pair.contains(&change) {
            continue;
        }
        match change {
            "recover" => {
                let body = json!({"email": person.email});
                send(client, Method::POST, "/recover/request", body).await?.expect(202)?;
            }
            "verify" => bare(client, Method::POST, "/users/@me/verification").await?.expect(202).map(drop)?,
            _ => {
                let body = json!({"email": format!("new_{}", person.email), "password": person.password});
                send(client, Method::PATCH, "/users/@me", body).await?.expect(200)?;
            }
        }
        links[n] = mailbox::secret(world, &account, template).await?;
    }
    Ok(links)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pair_of_changes_at_once_ends_without_a_deadlock() -> Result<()> {
    let many = "100000";
    let world = mailbox::world(&[
        ("ORRERY_AUTHA__VERIFICATION", "ask"),
        ("ORRERY_AUTHA__THROTTLE__MAILBOX_MAILS", many),
        ("ORRERY_AUTHA__THROTTLE__ACCOUNT_FAILURES", many),
        ("ORRERY_AUTHA__THROTTLE__ACCOUNT_FAILURES_TOTAL", many),
    ])
    .await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let admin = operators::operator(&world, "admin").await?;
    // Which changes were made at least once, and not only refused.
    let mut made = std::collections::BTreeSet::new();
    for (n, first) in CHANGES.iter().enumerate() {
        let mut somebody_new = somebody(&world).await?;
        for second in &CHANGES[n..] {
            let pair = [*first, *second];
            renew(&world, &somebody_new.0).await?;
            let (person, client) = &somebody_new;
            let client = client.logged_in(person).await?;
            let links = links(&world, person, &client, pair).await?;
            let actors = Actors { person, client, admin: &admin, links };
            if pair.contains(&"totp off") {
                actors.change("totp on").await?;
            }
            let names = [*first, *second, *first, *second];
            for (name, status) in names.iter().zip(join_all(names.map(|name| actors.change(name))).await) {
                let status = status?;
                ensure!(status < 500, "{first} and {second}: {status}");
                if status < 400 {
                    made.insert(*name);
                }
            }
            if pair.contains(&"confirm") {
                somebody_new = somebody(&world).await?;
            }
        }
    }
    let never: Vec<_> = CHANGES.iter().filter(|name| !made.contains(*name)).collect();
    ensure!(never.is_empty(), "never made: {never:?}");
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    ensure!(world.database().count(deadlocks).await? == 0, "a deadlock");
    Ok(())
}

#[tokio::test]
async fn a_deadlock_that_somebody_else_brings_about_is_no_answer() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (_, client) = somebody(&world).await?;
    // Against the order that we keep: sessions, then the account. Who waits so long before it looks for a deadlock is not its victim.
    let mut other = world.database().connect().await?;
    other
        .batch_execute("BEGIN; SET LOCAL deadlock_timeout = '1min'; SELECT FROM autha.sessions FOR UPDATE")
        .await?;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let oppose = async {
        eventually(SOON, "the request waits", async || {
            (world.database().count(waits).await.ok()? > 0).then_some(())
        })
        .await?;
        other.batch_execute("SELECT FROM autha.accounts FOR UPDATE").await?;
        anyhow::Ok(other.batch_execute("COMMIT").await?)
    };
    let (ended, opposed) = tokio::join!(bare(&client, Method::DELETE, "/users/@me/sessions"), oppose);
    opposed?;
    let ended = ended?;
    ensure!((200..300).contains(&ended.status), "{} {}", ended.status, ended.body);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    eventually(SOON, "there was a deadlock", async || {
        (world.database().count(deadlocks).await.ok()? > 0).then_some(())
    })
    .await
}
