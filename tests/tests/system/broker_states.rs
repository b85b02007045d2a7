//! What a real broker does to who depends on it: a queue of ours is missing or is deleted, the broker is short of memory, headers are larger than
//! anybody agreed on. Nothing is lost, nothing is doubled, nobody is blamed, and health says what to do.

use std::time::Duration;

use anyhow::{Result, ensure};
use lapin::{
    BasicProperties,
    options::QueueDeleteOptions,
    types::{AMQPValue, FieldTable},
};
use orrery_tests::{
    Person, Postgres, RabbitMq, Service, World,
    deadline::{eventually, throughout},
};

const SOON: Duration = Duration::from_secs(40);
/// A delay that no queue was made for.
const OTHER: (&str, &str) = ("ORRERY_MAILY__RETRY_DELAY", "7s");

async fn delete(world: &World, queue: &str) -> Result<()> {
    let channel = world.broker().channel().await?;
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
    Ok(())
}

async fn wait_unready(service: &Service, words: &str) -> Result<()> {
    eventually(SOON, words, async || {
        let health = service.health().await.ok()?;
        (health.status == 503
            && health.body.get("causes").is_some_and(|causes| causes.to_string().contains(words)))
        .then_some(())
    })
    .await
}

async fn letters(world: &World) -> Result<i64> {
    world.database().count("SELECT count(*) FROM bus.dead_letters").await
}

fn with_header(bytes: usize) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("x".into(), AMQPValue::LongString("x".repeat(bytes).into()));
    BasicProperties::default().with_headers(headers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_is_told_of_once() -> Result<()> {
    let world = World::start().await?;
    world.proxies().broker.cut().await;
    let checked = world.run(&["check"], SOON).await?;
    ensure!(!checked.status.success(), "{}", checked.output);
    let lines: Vec<_> = checked.output.lines().filter(|line| line.contains("rabbitmq")).collect();
    ensure!(lines.len() == 1 && lines[0].matches("the broker failed").count() == 1, "{lines:?}");
    let words: Vec<_> = lines[0].split(": ").collect();
    let mut once = words.clone();
    once.dedup();
    ensure!(words == once && lines[0].ends_with("look at broker.url"), "{lines:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_retry_delay_without_migrate_is_told_and_takes_no_mail() -> Result<()> {
    let world = World::start().await?;
    let mut service = world.launch(&[], &[OTHER])?;
    wait_unready(&service, "maily.email.retry.7000 is missing: run 'orrery migrate'").await?;
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    world.broker().wait_depth("maily.email", SOON, |depth| depth.ready == 1).await?;
    throughout(Duration::from_secs(5), "no mail is tried", async || world.smtp().attempts() == 0).await?;
    let migrated = world.run_with(&["migrate"], &[OTHER], SOON).await?;
    ensure!(migrated.status.success(), "{}", migrated.output);
    service.wait_ready(SOON).await?;
    world.smtp().wait_for(1, SOON).await?;
    ensure!(letters(&world).await? == 0, "a missing queue made a dead letter");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_whose_retry_queue_was_deleted_are_held_and_neither_lost_nor_counted() -> Result<()> {
    let world = World::builder().env(OTHER.0, OTHER.1).start().await?;
    let mut service = world.spawn(&[]).await?;
    delete(&world, "maily.email.retry.7000").await?;
    // One of several that are sent on at the same time: its return must not be taken for another's.
    world.smtp().reply_to_data(451, "4.3.0 later");
    let client = world.client()?;
    let mut people = Vec::new();
    for _ in 0..5 {
        let person = Person::new();
        client.sign_up(&person).await?.expect(201)?;
        people.push(person);
    }
    wait_unready(&service, "maily.email.retry.7000 is missing: run 'orrery migrate'").await?;
    world.migrate().await?;
    service.wait_ready(SOON).await?;
    world.smtp().wait_for(5, SOON).await?;
    for person in &people {
        ensure!(world.smtp().mails_to(&person.email).len() == 1, "a mail was lost or doubled");
    }
    ensure!(letters(&world).await? == 0, "a missing queue made a dead letter");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_read_again_after_their_queue_was_deleted_and_made_anew() -> Result<()> {
    let world = World::start().await?;
    let mut service = world.spawn(&[]).await?;
    delete(&world, "maily.email.dead").await?;
    wait_unready(&service, "maily.email.dead is missing").await?;
    // The others are read meanwhile.
    world.broker().publish_raw("", "spinoza.images.dead", BasicProperties::default(), b"x").await?;
    eventually(SOON, "another handler's letter", async || (letters(&world).await.ok()? == 1).then_some(()))
        .await?;
    world.migrate().await?;
    service.wait_ready(SOON).await?;
    world.broker().publish_raw("", "maily.email.dead", BasicProperties::default(), b"x").await?;
    eventually(SOON, "the letter", async || (letters(&world).await.ok()? == 2).then_some(())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_larger_than_a_frame_stop_no_reader() -> Result<()> {
    let world = World::builder().env("ORRERY_MAILY__LEGACY_QUEUE", "true").start().await?;
    let _service = world.spawn(&[]).await?;
    let mut sent = 0;
    for bytes in [100_000, 130_846] {
        // From the last one they come back with what the broker writes of it, in one frame that is larger than any publisher may send.
        for queue in ["email", "maily.email", "maily.email.dead", "maily.email.retry.2000"] {
            // What has no id is known by its content.
            let body = format!("{{\"n\":{sent}}}");
            world.broker().publish_raw("", queue, with_header(bytes), body.as_bytes()).await?;
            sent += 1;
        }
    }
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    world.smtp().wait_for(1, SOON).await?;
    eventually(SOON, "every one of them as a letter", async || {
        (letters(&world).await.ok()? == sent).then_some(())
    })
    .await?;
    for queue in ["email", "maily.email", "maily.email.dead"] {
        world.broker().wait_empty(queue, SOON).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_short_of_memory_is_waited_for_without_anything_built_anew() -> Result<()> {
    waited_for(&["set_vm_memory_high_watermark", "absolute", "1MB"], &["set_vm_memory_high_watermark", "0.4"])
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_short_of_disk_is_waited_for_without_anything_built_anew() -> Result<()> {
    waited_for(&["set_disk_free_limit", "1000000GB"], &["set_disk_free_limit", "1MB"]).await
}

/// What raises an alarm at the broker, and what ends it.
async fn waited_for(raised: &[&str], ended: &[&str]) -> Result<()> {
    let (postgres, broker) = tokio::try_join!(Postgres::start(), RabbitMq::start())?;
    let world = World::builder().on(&postgres, &broker)?.start().await?;
    let mut service = world.spawn(&[]).await?;
    let client = world.client()?;
    client.sign_up(&Person::new()).await?.expect(201)?;
    world.smtp().wait_for(1, SOON).await?;

    broker.control(raised).await?;
    let mut people = Vec::new();
    for _ in 0..20 {
        let person = Person::new();
        client.sign_up(&person).await?.expect(201)?;
        people.push(person);
    }
    eventually(SOON, "health to tell of it", async || {
        let health = service.health().await.ok()?;
        let cause = health.body.pointer("/causes/publishing")?.as_str()?;
        let is_told = cause.contains("the broker takes no messages");
        let is_degraded = health.body.get("status")?.as_str()? == "degraded";
        (health.status == 200 && is_degraded && is_told).then_some(())
    })
    .await?;
    let (threads, connections) = (threads(service.id())?, world.proxies().broker.connections());
    let checked = world.run(&["check"], Duration::from_secs(20)).await?;
    ensure!(!checked.status.success() && checked.output.contains("takes no messages"), "{}", checked.output);
    // What only declares is not blocked; it ends in any case.
    world.run(&["migrate"], Duration::from_secs(20)).await?;
    eventually(SOON, "the commands closed theirs", async || {
        (world.proxies().broker.connections() <= connections).then_some(())
    })
    .await?;
    let accepted = world.proxies().broker.accepted();
    throughout(Duration::from_secs(15), "no thread and no connection is added", async || {
        self::threads(service.id()).is_ok_and(|now| now <= threads + 2)
            && world.proxies().broker.accepted() == accepted
    })
    .await?;

    broker.control(ended).await?;
    service.wait_ready(SOON).await?;
    world.smtp().wait_for(21, SOON).await?;
    for person in &people {
        ensure!(world.smtp().mails_to(&person.email).len() == 1, "a mail was lost or doubled");
    }
    let published =
        world.database().count("SELECT coalesce(max(attempts), 0)::bigint FROM bus.outbox").await?;
    ensure!(published == 1, "a row was published {published} times");
    Ok(())
}

fn threads(process: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{process}/task"))?.count())
}
