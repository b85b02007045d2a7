//! No name, address, IP, token or password gets out: the whole flow with marked people, and a search of every byte of logs, metrics, traces,
//! headers of messages and listings of dead letters.

use std::time::Duration;

use anyhow::{Result, ensure};
use orrery_tests::{Person, eventually, pictures, secrets::Secrets};
use reqwest::Method;
use serde_json::json;

use super::{LONG, page, sending, sink::Sink};

/// What is marked: nobody else's, and nothing that a program would make by itself.
const NAME: &str = "zebulon_marked";
const ADDRESS: &str = "zebulon.marked@correspondence.example";
const PASSWORD: &str = "Xylophone-marked-4711";
const IP: &str = "203.0.113.199";
const AGENT: &str = "MarkedBrowser/9.9";
const TOKEN: &str = "marked.bearer.token";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_address_ip_token_or_password_is_told_to_anybody() -> Result<()> {
    let sink = Sink::start().await?;
    let world = sending(&sink.url(), "http")
        .env("ORRERY_LOG__LEVEL", "trace")
        .env("ORRERY_LOG__FORMAT", "json")
        .env("ORRERY_MAILY__RETRY_DELAY", "1s")
        .start()
        .await?;
    let mut service = world.spawn(&[]).await?;
    let secrets = Secrets::default();
    for mark in [NAME, ADDRESS, PASSWORD, IP, AGENT, TOKEN, "zebulon", "correspondence.example"] {
        secrets.add(mark);
        world.secret(mark);
    }
    let person = Person {
        id: NAME.to_owned(),
        email: ADDRESS.to_owned(),
        password: PASSWORD.to_owned(),
        locale: "en".to_owned(),
    };
    let base = world.client()?.keeping(&secrets);
    let marked = |client: &orrery_tests::Client, method: Method, path: &str| {
        client
            .request(method, path)
            .header("x-forwarded-for", IP)
            .header("forwarded", format!("for={IP}"))
            .header("user-agent", AGENT)
            .header("baggage", format!("user={NAME}"))
    };

    // Two tries of the mail fail, with words of the server's that quote the recipient: it becomes a dead letter.
    for _ in 0..2 {
        world.smtp().reply_to_rcpt(451, &format!("<{ADDRESS}> is over its quota"));
    }
    let body = json!({ "id": NAME, "email": ADDRESS, "password": PASSWORD, "locale": "en" });
    let answer = base.send(marked(&base, Method::POST, "/create").json(&body)).await?.expect(201)?;
    let client = base.clone().with_token(answer.text("access_token")?);
    let letter = eventually(LONG, "a dead letter", async || {
        world.database().text("SELECT id::text FROM bus.dead_letters").await.ok().flatten()
    });
    let letter = letter.await?;

    // What goes right, what goes wrong, and paths that name people.
    client.put_avatar(pictures::gradient_png(64, 64)?, "image/png").await?.expect(202)?;
    base.logged_in(&person).await?;
    let wrong = json!({ "email": ADDRESS, "password": format!("{PASSWORD}-wrong") });
    base.send(marked(&base, Method::POST, "/login").json(&wrong)).await?;
    base.send(marked(&base, Method::GET, &format!("/users/{NAME}"))).await?;
    base.send(marked(&base, Method::GET, &format!("/nowhere/{NAME}?email={ADDRESS}&token={TOKEN}"))).await?;
    base.send(marked(&base, Method::GET, "/users/@me").header("authorization", format!("Bearer {TOKEN}")))
        .await?;
    base.send(marked(&base, Method::POST, "/login").body(format!("{{ \"email\": \"{ADDRESS}\" "))).await?;
    base.send(marked(&base, Method::POST, "/create").json(&body)).await?;
    client.send(marked(&client, Method::PATCH, "/users/@me").json(&json!({ "username": NAME }))).await?;

    let listing = world.run(&["queues", "dead", "list"], LONG).await?;
    let told = world.run(&["queues", "dead", "show", &letter], LONG).await?;
    let headers =
        world.database().rows("SELECT id, headers, reason, causes, trace_id FROM bus.dead_letters").await?;
    let outbox = world
        .database()
        .rows("SELECT id, type, traceparent, tracestate, headers, last_error FROM bus.outbox")
        .await?;
    let page = page(&service).await?;
    service.terminate(Duration::from_secs(20)).await?;

    ensure!(!sink.spans().is_empty() && !sink.records().is_empty() && !sink.metrics().is_empty());
    // What is searched is what was told, and can be read.
    ensure!(sink.bytes().contains("POST /create") && sink.bytes().contains("process maily.email"));
    let log = service.log();
    ensure!(log.contains("failed for good, is a dead letter"), "{log}");
    for (what, text) in [
        ("what the collector got", sink.bytes()),
        ("the log", log),
        ("/metrics", page),
        ("the list of dead letters", listing.output),
        ("a dead letter as it is shown", told.output),
        ("headers and reasons of dead letters", format!("{headers:?}")),
        ("what the outbox has beside its data", format!("{outbox:?}")),
    ] {
        let found = secrets.found_in(&text);
        ensure!(found.is_empty(), "{what} names somebody: {found:#?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_details_has_no_id() -> Result<()> {
    let world = orrery_tests::World::builder()
        .env("ORRERY_LOG__LEVEL", "debug")
        .env("ORRERY_LOG__DETAIL", "none")
        .start()
        .await?;
    let mut service = world.spawn(&[]).await?;
    let person = Person::new();
    world.client()?.signed_up(&person).await?;
    world.smtp().wait_until(|mails| mails.iter().any(|mail| mail.is_to(&person.email)), LONG).await?;
    let ids = world.database().rows("SELECT id::text AS id, traceparent FROM bus.outbox").await?;
    ensure!(!ids.is_empty());
    service.terminate(Duration::from_secs(20)).await?;
    let log = service.log();
    ensure!(log.contains("sent") && !log.contains("handler="), "{log}");
    for id in ids {
        let id = id["id"].as_str().unwrap_or_default();
        ensure!(!id.is_empty() && !log.contains(id), "{id} stands in {log}");
    }
    Ok(())
}
