//! A message that is delivered twice, also while the first is still at work, has one effect.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use diesel_async::SimpleAsyncConnection;
use lapin::BasicProperties;
use orrery_tests::{
    Person, World,
    broker::{Message, event_headers},
    deadline::{eventually, throughout},
    pictures,
};

const SOON: Duration = Duration::from_secs(40);

async fn take(world: &World, queue: &str) -> Result<Message> {
    eventually(SOON, "a message in the queue", async || world.broker().get_one(queue).await.ok().flatten())
        .await
}

async fn put(world: &World, queue: &str, message: &Message) -> Result<()> {
    world.broker().publish_raw("", queue, message.properties.clone(), &message.body).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_delivered_twice_sends_one_mail() -> Result<()> {
    let world = World::start().await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    let message = take(&world, "maily.email").await?;
    put(&world, "maily.email", &message).await?;
    let _maily = world.spawn(&["maily"]).await?;
    world.smtp().wait_for(1, SOON).await?;
    world.database().wait_done("maily.email", 1, SOON).await?;
    put(&world, "maily.email", &message).await?;
    world.broker().wait_handled("maily.email", SOON).await?;
    ensure!(world.smtp().attempts() == 1, "{} mails were begun", world.smtp().attempts());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_delivered_while_the_first_is_at_work_sends_one_mail() -> Result<()> {
    let world = World::start().await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    let message = take(&world, "maily.email").await?;
    world.smtp().delay(Duration::from_secs(3));
    for _ in 0..3 {
        put(&world, "maily.email", &message).await?;
    }
    // Two processes, so that the claim is seen to hold between them too.
    let _maily = world.spawn(&["maily"]).await?;
    let _other = world.spawn(&["maily"]).await?;
    world.smtp().wait_for(1, SOON).await?;
    world.database().wait_done("maily.email", 1, SOON).await?;
    world.broker().wait_handled("maily.email", SOON).await?;
    ensure!(world.smtp().attempts() == 1, "{} mails were begun", world.smtp().attempts());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_told_twice_changes_the_profile_once() -> Result<()> {
    let world = World::start().await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    let taken = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
    let message = take(&world, "spinoza.images").await?;
    for _ in 0..3 {
        put(&world, "spinoza.images", &message).await?;
    }
    let _spinoza = world.spawn(&["spinoza"]).await?;
    client.wait_upload(taken.location()?, SOON).await?;
    world.broker().wait_handled("spinoza.images", SOON).await?;
    world.database().wait_done("autha.pictures", 1, SOON).await?;
    let version = world.database().text("SELECT version::text FROM autha.accounts").await?;
    // One for the sign-up, one for the result of the upload.
    ensure!(version.as_deref() == Some("2"), "version {version:?}");
    let told = world.database().count("SELECT count(*) FROM bus.outbox WHERE producer = 'spinoza'").await?;
    ensure!(told == 1, "{told} results");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_upload_that_overtakes_the_first_stays() -> Result<()> {
    let world = World::start().await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    let first = client.put_avatar(pictures::gradient_png(300, 300)?, "image/png").await?.expect(202)?;
    let first_message = take(&world, "spinoza.images").await?;
    let second = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
    let _spinoza = world.spawn(&["spinoza"]).await?;
    let done = client.wait_upload(second.location()?, SOON).await?;
    ensure!(done["status"] == "done", "{done}");
    // The first one's result comes after the second's.
    put(&world, "spinoza.images", &first_message).await?;
    world.database().wait_done("autha.pictures", 2, SOON).await?;
    let late = client.upload_status(first.location()?).await?.expect(200)?;
    ensure!(late.body["status"] == "replaced", "{}", late.body);
    let me = client.me().await?.expect(200)?;
    let upload = done["id"].as_str().context("no id")?;
    let row =
        world.database().rows(&format!("SELECT public FROM autha.uploads WHERE id = '{upload}'")).await?;
    let public = row.first().and_then(|row| row["public"].as_str()).context("no public id")?.to_owned();
    let icons = me.body["icon"].as_array().context("no icon")?;
    ensure!(
        icons.len() == 3
            && icons.iter().all(|icon| icon["url"].as_str().is_some_and(|url| url.contains(&public)))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_no_event_is_a_dead_letter_and_harms_nobody() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    for body in [&b"\xff\xfe not json"[..], b"{}", b""] {
        world.broker().publish_raw("", "maily.email", lapin::BasicProperties::default(), body).await?;
    }
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    world.smtp().wait_for(1, SOON).await?;
    eventually(SOON, "three dead letters", async || {
        (world.database().count("SELECT count(*) FROM bus.dead_letters").await.ok()? == 3).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_waits_for_the_database_costs_nobody_else_its_own() -> Result<()> {
    let world = World::builder().env("ORRERY_MAILY__SMTP__TIMEOUT", "30s").start().await?;
    let _service = world.spawn(&[]).await?;
    // At work for longer than a claim lasts without being prolonged.
    world.smtp().delay(Duration::from_secs(14));
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    world.smtp().wait_for(1, SOON).await?;
    // A second message's row is held by somebody else: its claim waits.
    let mut gate = world.database().connect().await?;
    gate.batch_execute(
        "BEGIN; INSERT INTO bus.inbox (handler, key, week, token, claimed_until) \
         VALUES ('maily.email', bus.inbox_key('maily.email', '/test', 'held'), bus.inbox_week('held'), gen_random_uuid(), '-infinity')",
    )
    .await?;
    let headers = event_headers("held", "/test", "com.gravitalia.email");
    let properties =
        BasicProperties::default().with_headers(headers).with_content_type("application/json".into());
    world.broker().publish_raw("", "maily.email", properties, b"{}").await?;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO bus.inbox%'";
    eventually(SOON, "the claim waits", async || {
        (world.database().count(waits).await.ok()? > 0).then_some(())
    })
    .await?;
    let held = "SELECT count(*) FROM bus.inbox WHERE handler = 'maily.email' AND claimed_until > now()";
    throughout(Duration::from_secs(9), "the first claim is prolonged", async || {
        world.database().count(held).await.is_ok_and(|held| held == 1)
    })
    .await?;
    gate.batch_execute("ROLLBACK").await?;
    let done =
        "SELECT count(*) FROM bus.inbox WHERE handler = 'maily.email' AND done_at IS NOT NULL AND doubts = 0";
    eventually(SOON, "the mail is done without a doubt", async || {
        (world.database().count(done).await.ok()? == 1).then_some(())
    })
    .await?;
    ensure!(world.smtp().mails().len() == 1, "it was sent twice");
    Ok(())
}
