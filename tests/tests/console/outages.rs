//! What the console says while broker, management plugin or database are away: it opens, and says so.

use anyhow::{Result, ensure};
use orrery_tests::World;

use crate::{Browser, SOON, link};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_broker_is_away_the_console_says_so_and_goes_on() -> Result<()> {
    // The management plugin is not behind the proxy.
    let world = World::builder().without("ORRERY_BROKER__MANAGEMENT_URL").start().await?;
    let service = world.spawn(&["console"]).await?;
    let ada = Browser::logged_in(&world, &service).await?;
    let page = ada.until("/", "management plugin does not answer").await?;
    ensure!(page.contains("maily.email"), "{page}");
    world.proxies().broker.cut().await;
    ada.until("/", "RabbitMQ does not answer").await?;
    ada.until("/queues", "RabbitMQ does not answer").await?;
    ada.get("/dead").await?.expect(200)?;
    world.proxies().broker.restore().await?;
    let back = ada.until("/queues", "Without the management plugin").await?;
    ensure!(!back.contains("RabbitMQ does not answer"), "{back}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_an_operator_gets_in_and_changes_nothing() -> Result<()> {
    let world = World::start().await?;
    world.proxies().postgres.cut().await;
    // Also a console that starts then.
    let service = world.spawn(&["console"]).await?;
    let ada = Browser::logged_in(&world, &service).await?;
    ada.until("/", "PostgreSQL does not answer").await?;
    for path in ["/dead", "/outbox", "/audit", "/queues"] {
        let page = ada.get(path).await?.expect(200)?;
        ensure!(page.contains("PostgreSQL does not answer"), "{path}: {page}");
    }
    ada.get("/start").await?.expect(200)?;
    // What cannot be written down is not done.
    ada.act("/actors/restart", &[("actor", "console.jobs")]).await?.expect(503)?;
    ada.act("/dead/redrive", &[("which", "filter")]).await?.expect(503)?;
    ada.get("/api/dead.json").await?.expect(503)?;
    // A link is used up in this process also now.
    let token = link(&world).await?;
    ada.send(ada.post("/login", &[("token", &token)])).await?.expect(303)?;
    ada.send(ada.post("/login", &[("token", &token)])).await?.expect(403)?;
    world.proxies().postgres.restore().await?;
    ada.until("/dead", "There are no dead letters").await?;
    ada.act("/logout", &[]).await?.expect(303)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_lives_by_server_sent_events_until_the_session_ends() -> Result<()> {
    let world = World::builder().env("ORRERY_CONSOLE__POLL_EVERY", "1s").start().await?;
    let mut service = world.spawn(&["console"]).await?;
    let ada = Browser::logged_in(&world, &service).await?;
    let request = ada.http.get(format!("{}/live/queues", ada.base)).header("cookie", &ada.cookie);
    let mut events = request.send().await?;
    ensure!(events.headers()["content-type"] == "text/event-stream");
    let mut text = String::new();
    tokio::time::timeout(SOON, async {
        while !(text.contains("data: ") && text.contains("maily.email")) {
            let Some(chunk) = events.chunk().await? else { anyhow::bail!("it ended: {text}") };
            // Where a long word may break is no part of it.
            text.push_str(&String::from_utf8_lossy(&chunk).replace("<wbr>", ""));
        }
        Ok(())
    })
    .await??;
    ada.act("/logout", &[]).await?.expect(303)?;
    tokio::time::timeout(SOON, async {
        while events.chunk().await?.is_some() {}
        anyhow::Ok(())
    })
    .await??;
    // Somebody who watches does not keep the process from ending.
    let eve = Browser::logged_in(&world, &service).await?;
    let _watches =
        eve.http.get(format!("{}/live/overview", eve.base)).header("cookie", &eve.cookie).send().await?;
    ensure!(service.terminate(SOON).await?.success());
    Ok(())
}
