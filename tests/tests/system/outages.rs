//! A dependency goes away for a while: what was promised is kept, and work goes on when it is back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use orrery_tests::{
    Person, World,
    deadline::{eventually, throughout},
    pictures,
};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_people_sign_up_without_a_broker_and_get_their_mails_when_it_is_back() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&[]).await?;
    world.proxies().broker.cut().await;
    let people: Vec<Person> = (0..20).map(|_| Person::new()).collect();
    let client = world.client()?;
    for person in &people {
        client.sign_up(person).await?.expect(201)?;
    }
    let health = service.health().await?.expect(200)?;
    ensure!(health.body["degraded"][0] == "rabbitmq", "{}", health.body);
    ensure!(world.smtp().mails().is_empty());
    world.proxies().broker.restore().await?;
    for person in &people {
        world.smtp().wait_until(|mails| mails.iter().any(|mail| mail.is_to(&person.email)), SOON).await?;
    }
    ensure!(world.smtp().mails().len() == people.len(), "{} mails", world.smtp().mails().len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_database_requests_are_told_to_come_back_and_then_served() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&[]).await?;
    let client = world.client()?;
    client.sign_up(&Person::new()).await?.expect(201)?;

    world.proxies().postgres.cut().await;
    let person = Person::new();
    let refused = client.sign_up(&person).await?.expect(503)?;
    ensure!(refused.header("retry-after").is_some(), "no Retry-After");
    refused.problem()?;
    let read = client.user("somebody").await?.expect(503)?;
    ensure!(read.header("retry-after").is_some(), "no Retry-After");
    let health = service.health().await?.expect(503)?;
    ensure!(health.body["down"][0] == "postgresql", "{}", health.body);

    world.proxies().postgres.restore().await?;
    let back = Instant::now();
    eventually(Duration::from_secs(5), "sign-up works again", async || {
        client.sign_up(&person).await.ok().filter(|answer| answer.status == 201)
    })
    .await?;
    ensure!(back.elapsed() < Duration::from_secs(5));
    world.smtp().wait_until(|mails| mails.iter().any(|mail| mail.is_to(&person.email)), SOON).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_falls_silent_holds_no_request_for_long() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    let client = world.client()?;
    client.sign_up(&Person::new()).await?.expect(201)?;
    world.proxies().postgres.pause();
    let asked = Instant::now();
    let refused = client.user("somebody").await?.expect(503)?;
    ensure!(refused.header("retry-after").is_some(), "no Retry-After");
    ensure!(asked.elapsed() < Duration::from_secs(8), "answered after {:?}", asked.elapsed());
    world.proxies().postgres.resume();
    eventually(Duration::from_secs(5), "reads work again", async || {
        client.user("somebody").await.ok().filter(|answer| answer.status == 404)
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_server_that_refuses_for_a_minute_makes_no_dead_letter() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    world.proxies().smtp.cut().await;
    let people: Vec<Person> = (0..3).map(|_| Person::new()).collect();
    let client = world.client()?;
    for person in &people {
        client.sign_up(person).await?.expect(201)?;
    }
    throughout(Duration::from_secs(60), "no dead letter and no mail", async || {
        let dead = world.database().count("SELECT count(*) FROM bus.dead_letters").await;
        dead.is_ok_and(|dead| dead == 0) && world.smtp().mails().is_empty()
    })
    .await?;
    world.proxies().smtp.restore().await?;
    world.smtp().wait_for(people.len(), Duration::from_secs(20)).await?;
    ensure!(world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_bucket_uploads_are_refused_and_taken_ones_wait() -> Result<()> {
    let world = World::start().await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    let taken = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;

    world.proxies().storage.cut().await;
    let refused = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(503)?;
    ensure!(refused.header("retry-after").is_some(), "no Retry-After");
    let mut spinoza = world.launch(&["spinoza"], &[])?;
    spinoza.wait_ready(SOON).await?;
    throughout(Duration::from_secs(5), "the upload waits and is no dead letter", async || {
        let pending = client.upload_status(taken.location().unwrap_or_default()).await;
        let dead = world.database().count("SELECT count(*) FROM bus.dead_letters").await;
        pending.is_ok_and(|answer| answer.body["status"] == "pending") && dead.is_ok_and(|dead| dead == 0)
    })
    .await?;

    world.proxies().storage.restore().await?;
    let upload = client.wait_upload(taken.location()?, SOON).await?;
    ensure!(upload["status"] == "done", "{upload}");
    Ok(())
}
