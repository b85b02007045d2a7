//! SIGKILL at the worst moments: nothing is missing afterwards, nothing in the database happens twice.

use std::{collections::HashSet, time::Duration};

use anyhow::{Result, ensure};
use orrery_tests::{Person, World, deadline::eventually, pictures};

const SOON: Duration = Duration::from_secs(60);

/// Every person has a mail; the doubled ones are at most as many as `kills`, each with one Message-ID.
async fn mails_are_right(world: &World, people: &[Person], kills: usize) -> Result<()> {
    for person in people {
        world.smtp().wait_until(|mails| mails.iter().any(|mail| mail.is_to(&person.email)), SOON).await?;
    }
    // Once the inbox says that all are done, no more mails can come.
    eventually(SOON, "every mail is marked as done", async || {
        let done = world
            .database()
            .count("SELECT count(*) FROM bus.inbox WHERE handler = 'maily.email' AND done_at IS NOT NULL")
            .await
            .ok()?;
        (usize::try_from(done).ok()? == people.len()).then_some(())
    })
    .await?;
    let mails = world.smtp().mails();
    ensure!(mails.len() <= people.len() + kills, "{} mails for {} people", mails.len(), people.len());
    for person in people {
        let ids: HashSet<_> =
            world.smtp().mails_to(&person.email).into_iter().map(|m| m.message_id).collect();
        ensure!(ids.len() == 1, "a doubled mail has {} Message-IDs", ids.len());
    }
    Ok(())
}

async fn events_are_exactly_one_each(world: &World, people: usize) -> Result<()> {
    for ty in ["com.gravitalia.account.created.v1", "com.gravitalia.email"] {
        let rows =
            world.database().count(&format!("SELECT count(*) FROM bus.outbox WHERE type = '{ty}'")).await?;
        ensure!(usize::try_from(rows)? == people, "{rows} rows of {ty} for {people} people");
    }
    let dead = world.database().count("SELECT count(*) FROM bus.dead_letters").await?;
    ensure!(dead == 0, "{dead} dead letters");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_right_after_201_loses_no_mail() -> Result<()> {
    let world = World::start().await?;
    let mut service = world.spawn(&[]).await?;
    let people: Vec<Person> = (0..4).map(|_| Person::new()).collect();
    for person in &people {
        world.client()?.sign_up(person).await?.expect(201)?;
        service.kill();
        service.restart().await?;
    }
    mails_are_right(&world, &people, people.len()).await?;
    events_are_exactly_one_each(&world, people.len()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_between_a_row_and_its_message_leaves_neither() -> Result<()> {
    let world = World::start().await?;
    let mut service = world.spawn(&[]).await?;
    let (client, person) = (world.client()?, Person::new());
    // The account's row is written by then, and its message only begun.
    world.proxies().postgres.withhold_answers_after(b"\"bus\".\"outbox\"");
    let (asking, who) = (client.clone(), person.clone());
    let asked = tokio::spawn(async move { asking.sign_up_with_key(&who, "a key").await });
    world.proxies().postgres.wait_triggered(SOON).await?;
    service.kill();
    world.proxies().postgres.release_answers();
    ensure!(asked.await?.is_err(), "a killed process answered");
    for table in ["autha.accounts", "bus.outbox"] {
        let rows = world.database().count(&format!("SELECT count(*) FROM {table}")).await?;
        ensure!(rows == 0, "{rows} rows in {table}");
    }
    service.restart().await?;
    client.sign_up_with_key(&person, "a key").await?.expect(201)?;
    mails_are_right(&world, std::slice::from_ref(&person), 0).await?;
    events_are_exactly_one_each(&world, 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_the_brokers_confirm_is_withheld_loses_no_mail() -> Result<()> {
    let world = World::start().await?;
    let mut service = world.spawn(&[]).await?;
    let person = Person::new();
    world.proxies().broker.withhold_answers_after(b"com.gravitalia.email");
    world.client()?.sign_up(&person).await?.expect(201)?;
    world.proxies().broker.wait_triggered(SOON).await?;
    service.kill();
    world.proxies().broker.release_answers();
    service.restart().await?;
    mails_are_right(&world, std::slice::from_ref(&person), 1).await?;
    events_are_exactly_one_each(&world, 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_the_mail_servers_answer_is_withheld_doubles_one_mail_at_most() -> Result<()> {
    let world = World::start().await?;
    let mut service = world.spawn(&[]).await?;
    let person = Person::new();
    world.proxies().smtp.withhold_answers_after(b"\r\n.\r\n");
    world.client()?.sign_up(&person).await?.expect(201)?;
    world.proxies().smtp.wait_triggered(SOON).await?;
    service.kill();
    world.proxies().smtp.release_answers();
    service.restart().await?;
    mails_are_right(&world, std::slice::from_ref(&person), 1).await?;
    events_are_exactly_one_each(&world, 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_the_buckets_answer_is_withheld_loses_no_variant() -> Result<()> {
    let world = World::start().await?;
    let mut service = world.spawn(&[]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    world.proxies().storage.withhold_answers_after(b"-256.webp");
    let answer = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
    world.proxies().storage.wait_triggered(SOON).await?;
    service.kill();
    world.proxies().storage.release_answers();
    service.restart().await?;
    let upload = client.wait_upload(answer.location()?, SOON).await?;
    ensure!(upload["status"] == "done", "{upload}");
    ensure!(world.database().count("SELECT count(*) FROM autha.variants").await? == 3);
    let told = "SELECT count(*) FROM bus.outbox WHERE type = 'com.gravitalia.image.optimized.v1'";
    ensure!(world.database().count(told).await? == 1, "the result was told more than once");
    let me = client.me().await?.expect(200)?;
    for icon in me.body["icon"].as_array().into_iter().flatten() {
        let path = url_path(icon["url"].as_str().unwrap_or_default());
        client.get(&path).await?.expect(200)?;
    }
    Ok(())
}

fn url_path(url: &str) -> String {
    url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_what_was_taken_and_exits_cleanly() -> Result<()> {
    let world = World::start().await?;
    let mut service = world.spawn(&[]).await?;
    let people: Vec<Person> = (0..5).map(|_| Person::new()).collect();
    let client = world.client()?;
    for person in &people {
        client.sign_up(person).await?.expect(201)?;
    }
    let status = service.terminate(Duration::from_secs(15)).await?;
    ensure!(status.success(), "ended with {status}");
    let pending = world.database().count("SELECT count(*) FROM bus.outbox WHERE status = 'pending'").await?;
    ensure!(pending == 0, "{pending} rows were not flushed");
    service.restart().await?;
    mails_are_right(&world, &people, 0).await
}
