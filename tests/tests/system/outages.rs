//! A dependency goes away for a while: what was promised is kept, and work goes on when it is back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use orrery_tests::{
    Person, World,
    database::Database,
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
    world.smtp().wait_for(1, Duration::from_secs(5)).await?;
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

/// What was a primary is a standby: new sessions cannot write, and the old ones end.
async fn become_standby(database: &Database) -> Result<()> {
    let name = database.name();
    database.execute(&format!("ALTER DATABASE \"{name}\" SET default_transaction_read_only = on")).await?;
    let sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
    database.execute(sessions).await
}

/// It is promoted, or the address leads to the new primary. Sessions that were begun before stay as they are.
async fn become_primary(database: &Database) -> Result<()> {
    let reset = format!("ALTER DATABASE \"{}\" RESET default_transaction_read_only", database.name());
    database.execute(&format!("BEGIN READ WRITE; {reset}; COMMIT")).await
}

/// Spinoza meets a database that refuses all claims, as `refuse` makes it, with a message in hand; it waits until `mend` has mended it.
async fn claims_are_refused_for_a_while(
    refuse: impl AsyncFnOnce(&Database) -> Result<()>,
    mend: impl AsyncFnOnce(&Database) -> Result<()>,
) -> Result<()> {
    let world = World::start().await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    let spinoza = world.spawn(&["spinoza"]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    // It has the message in hand, and not yet claimed.
    spinoza.freeze()?;
    let taken = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
    let sent =
        "SELECT count(*) FROM bus.outbox WHERE type = 'com.gravitalia.image.uploaded.v1' AND status = 'sent'";
    eventually(SOON, "the event is sent", async || {
        (world.database().count(sent).await.ok()? == 1).then_some(())
    })
    .await?;
    refuse(world.database()).await?;
    spinoza.thaw()?;
    eventually(SOON, "spinoza waits", async || {
        spinoza.log().contains("taking nothing until it is back").then_some(())
    })
    .await?;
    // It was handed back, and nobody takes it.
    world.broker().wait_depth("spinoza.images", SOON, |depth| depth.ready == 1).await?;
    mend(world.database()).await?;
    // What keeps its connections to the standby comes back too, by chance, after most of a minute.
    let upload = client.wait_upload(taken.location()?, Duration::from_secs(20)).await?;
    ensure!(upload.get("status").is_some_and(|status| status == "done"), "{upload}");
    ensure!(!spinoza.log().contains("is tried once more"), "a message was blamed:\n{}", spinoza.log());
    ensure!(world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_became_a_standby_makes_no_dead_letter() -> Result<()> {
    claims_are_refused_for_a_while(become_standby, become_primary).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_refuses_claims_for_reasons_of_its_own_makes_no_dead_letter() -> Result<()> {
    let refuse = "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS \
                  $$ BEGIN RAISE EXCEPTION 'kein Speicherplatz'; END $$; \
                  CREATE TRIGGER refuse BEFORE INSERT ON bus.inbox FOR EACH ROW EXECUTE FUNCTION public.refuse()";
    claims_are_refused_for_a_while(
        async |database: &Database| database.execute(refuse).await,
        async |database: &Database| database.execute("DROP TRIGGER refuse ON bus.inbox").await,
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_comes_late_begins_nothing_and_is_given_back() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha", "maily"]).await?;
    // The lease, of 4 s, runs since the server began: with most of it gone somebody else may soon have it.
    let slow = "CREATE SEQUENCE public.asked; \
                CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
                $$ BEGIN PERFORM nextval('public.asked'); PERFORM pg_sleep(2.5); RETURN NEW; END $$; \
                CREATE TRIGGER slow BEFORE INSERT ON bus.inbox FOR EACH ROW EXECUTE FUNCTION public.slow()";
    world.database().execute(slow).await?;
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    // It was given back, or nobody would ask a second time.
    eventually(SOON, "it is claimed again", async || {
        (world.database().count("SELECT last_value FROM public.asked").await.ok()? >= 2).then_some(())
    })
    .await?;
    ensure!(world.smtp().attempts() == 0, "a mail was begun on a claim that came late");
    world.database().execute("DROP TRIGGER slow ON bus.inbox").await?;
    world.smtp().wait_for(1, SOON).await?;
    world.database().wait_done("maily.email", 1, SOON).await?;
    ensure!(
        world.smtp().attempts() == 1
            && world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 0
    );
    // None of this was a try of the message's.
    ensure!(world.database().count("SELECT count(*) FROM bus.inbox WHERE doubts > 0").await? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_up_is_told_to_come_back_while_the_database_takes_no_writes() -> Result<()> {
    let world = World::start().await?;
    let front = world.spawn(&["gateway", "autha"]).await?;
    let client = world.client()?;
    become_standby(world.database()).await?;
    let refused = eventually(SOON, "sign-up is turned away", async || {
        client.sign_up(&Person::new()).await.ok().filter(|answer| answer.status == 503)
    })
    .await?;
    ensure!(refused.header("retry-after").is_some(), "no Retry-After");
    // Whoever is told of this refusal finds what was logged of it.
    let instance = refused.problem()?.instance;
    let trace = instance.rsplit(':').next().context("an instance")?.to_owned();
    let log = front.log();
    let line =
        log.lines().find(|line| line.contains(&trace)).with_context(|| format!("no {trace}\n{log}"))?;
    ensure!(line.contains("a request was turned away"), "{line}");
    become_primary(world.database()).await?;
    eventually(SOON, "sign-up works again", async || {
        client.sign_up(&Person::new()).await.ok().filter(|answer| answer.status == 201)
    })
    .await?;
    Ok(())
}
