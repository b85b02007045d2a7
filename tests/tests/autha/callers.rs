//! Callers who go away before their answer: their work has no effect, or the answer is found again by its key.

use anyhow::{Context, Result, ensure};
use orrery_tests::{Client, Person, Service, World, deadline::until, fresh};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
};

use crate::{SOON, internal_id, mailbox, send, somebody};

/// A hash that takes some seconds to verify.
const SLOW: &str = "$2b$15$qhbsZmlxUtdnXCxb8w7.Hu5uKoCRdixF7ZbKXJpHzkE66zCEJbYPm";

/// A request on a connection of its own, which is closed when it is dropped.
async fn begin(world: &World, line: &str, headers: &str, body: &Value) -> Result<TcpStream> {
    let url = world.gateway_url();
    let address = url.strip_prefix("http://").context("no address")?.parse()?;
    let mut stream = TcpSocket::new_v4()?.connect(address).await?;
    let body = body.to_string();
    let head = format!(
        "{line} HTTP/1.1\r\nhost: orrery.example\r\n{headers}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    Ok(stream)
}

/// How many passwords wait for a thread, and how many are at work.
async fn hashing(autha: &Service) -> Result<(u64, u64)> {
    let actors = Client::new(&autha.internal_url())?.get("/health/actors").await?.expect(200)?.body;
    let actors = actors.as_array().context("no list of actors")?;
    let passwords = actors.iter().find(|actor| actor["name"] == "autha.passwords").context("no passwords")?;
    let figure = |name: &str| passwords[name].as_u64().with_context(|| format!("no {name} in {passwords}"));
    Ok((figure("waiting")?, figure("at_work")?))
}

/// Whoever waits for the one thread that hashes goes away: nothing comes of it.
async fn nothing_comes_of_it(world: &World, autha: &Service) -> Result<()> {
    let (blocker, _) = somebody(world).await?;
    let (person, client) = somebody(world).await?;
    let (id, account) = (internal_id(world, &blocker).await?, internal_id(world, &person).await?);
    let slow = format!(
        "UPDATE autha.credentials SET secret = '{SLOW}' WHERE kind = 'password' AND account = '{id}'"
    );
    world.database().execute(&slow).await?;
    send(&client, Method::POST, "/recover/request", json!({"email": person.email})).await?.expect(202)?;
    let link = mailbox::secret(world, &account, "recover").await?;
    let before = world.database().count("SELECT count(*) FROM bus.outbox").await?;

    let waits = async |waiting: u64, at_work: u64| {
        until(SOON, &format!("{waiting} to wait and {at_work} to be at work"), async || {
            hashing(autha).await.is_ok_and(|seen| seen == (waiting, at_work))
        })
        .await
    };
    let blocked = world.client()?;
    let blocked = tokio::spawn(async move { blocked.login(&blocker).await });
    waits(0, 1).await?;
    let (new, key) = (Person::new(), fresh::uuid().to_string());
    let other = Person::new().password;
    world.keep(&new);
    world.secret(&other);
    let token = client.access_token().context("no token")?;
    let sign_up = json!({"id": new.id, "email": new.email, "password": new.password, "locale": new.locale});
    let change = json!({"newPassword": other, "password": person.password});
    let callers = [
        begin(world, "POST /create", &format!("idempotency-key: {key}\r\n"), &sign_up).await?,
        begin(world, "POST /recover", "", &json!({"token": link, "password": other})).await?,
        begin(world, "PATCH /users/@me", &format!("authorization: Bearer {token}\r\n"), &change).await?,
        begin(world, "POST /login", "", &json!({"email": person.email, "password": person.password})).await?,
    ];
    waits(4, 1).await?;
    drop(callers);
    // While the thread is still at work for another: they have left the mailbox, and nobody works for them later.
    waits(0, 1).await?;
    waits(0, 0).await?;
    // On a busy machine the gateway may have given up meanwhile.
    ensure!(matches!(blocked.await??.status, 401 | 504));
    ensure!(world.database().count("SELECT count(*) FROM autha.accounts").await? == 2, "an account was made");
    ensure!(world.database().count("SELECT count(*) FROM bus.outbox").await? == before, "something was told");
    // The password is the same, the link is good, the key is free.
    client.me().await?.expect(200)?;
    let client = client.logged_in(&person).await?;
    send(&client, Method::POST, "/recover", json!({"token": link, "password": other})).await?.expect(204)?;
    client.sign_up_with_key(&new, &key).await?.expect(201)?;
    Ok(())
}

const ONE_THREAD: (&str, &str) = ("ORRERY_AUTHA__HASH_WORKERS", "1");

#[tokio::test]
async fn what_waits_for_a_caller_who_has_gone_is_dropped_in_one_process() -> Result<()> {
    let world = mailbox::world(&[ONE_THREAD]).await?;
    let service = world.spawn(&["gateway", "autha"]).await?;
    nothing_comes_of_it(&world, &service).await
}

#[tokio::test]
async fn what_waits_for_a_caller_who_has_gone_is_dropped_behind_a_gateway_of_its_own() -> Result<()> {
    let world = mailbox::world(&[ONE_THREAD]).await?;
    let autha = world.spawn(&["autha"]).await?;
    let _gateway = world.spawn(&["gateway"]).await?;
    nothing_comes_of_it(&world, &autha).await
}

#[tokio::test]
async fn an_answer_that_nobody_read_is_found_again_by_its_key() -> Result<()> {
    let world = World::builder().env(ONE_THREAD.0, ONE_THREAD.1).start().await?;
    let mut service = world.spawn(&["gateway", "autha"]).await?;
    let mut callers = Vec::new();
    for n in 0..12 {
        let (person, key) = (Person::new(), fresh::uuid().to_string());
        world.keep(&person);
        let body = json!({"id": person.id, "email": person.email, "password": person.password, "locale": person.locale});
        let header = format!("idempotency-key: {key}\r\n");
        let stream = begin(&world, "POST /create", &header, &body).await?;
        // They go, or the process does, at once, while the password is hashed, once there is an account, once there is an answer.
        let made = format!("SELECT count(*) FROM autha.accounts WHERE vanity = '{}'", person.id);
        let moment = async || match n % 4 {
            0 => true,
            1 => hashing(&service).await.is_ok_and(|(_, at_work)| at_work == 1),
            2 => world.database().count(&made).await.is_ok_and(|made| made == 1),
            _ => tokio::time::timeout(SOON, stream.readable()).await.is_ok(),
        };
        until(SOON, "the moment to go", moment).await?;
        if n >= 8 {
            service.kill();
            service.restart().await?;
        }
        drop(stream);
        callers.push((person, key));
    }
    let client = world.client()?;
    for (person, key) in &callers {
        let found = client.sign_up_with_key(person, key).await?.expect(201)?;
        ensure!(client.sign_up_with_key(person, key).await?.bytes == found.bytes, "two answers");
        client.clone().with_token(found.text("access_token")?).me().await?.expect(200)?;
    }
    for (what, sql) in [
        ("accounts", "SELECT count(*) FROM autha.accounts"),
        ("sessions", "SELECT count(*) FROM autha.sessions"),
        ("events", "SELECT count(*) FROM bus.outbox WHERE type = 'com.gravitalia.account.created.v1'"),
        ("mails", "SELECT count(*) FROM bus.outbox WHERE data->>'template' = 'welcome'"),
    ] {
        let found = world.database().count(sql).await?;
        ensure!(found == 12, "{found} {what}");
    }
    Ok(())
}
