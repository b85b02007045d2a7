//! Alerts without Prometheus: what a topic of ntfy is told, and when.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use orrery_tests::{
    World,
    deadline::eventually,
    receiver::{Behaviour, Received, Receiver},
};

use crate::{SOON, make_letters};

/// The messages that a topic was told since then.
fn told(topic: &Receiver, since: Instant) -> Vec<(Received, String)> {
    let deliveries = topic.deliveries().into_iter().filter(|message| message.at >= since);
    deliveries.map(|message| (message.clone(), String::from_utf8_lossy(&message.body).into_owned())).collect()
}

/// The first of them with these words.
async fn until(topic: &Receiver, since: Instant, words: &str) -> Result<(Received, String)> {
    eventually(SOON, &format!("the topic is told '{words}'"), async || {
        told(topic, since).into_iter().find(|(_, text)| text.contains(words))
    })
    .await
}

async fn world(topic: &Receiver) -> Result<World> {
    World::builder()
        .env("ORRERY_CONSOLE__POLL_EVERY", "1s")
        .env("ORRERY_CONSOLE__ALERTS__NTFY", &format!("http://127.0.0.1:{}/orrery-4Tz9", topic.port()))
        .env("ORRERY_CONSOLE__ALERTS__TOKEN", "tk_secret")
        .env("ORRERY_CONSOLE__ALERTS__HOLD_AT_MOST", "1s")
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_told_once_and_again_when_they_are_gone() -> Result<()> {
    let (topic, begun) = (Receiver::start().await?, Instant::now());
    let world = world(&topic).await?;
    // What is told may be told by nobody else.
    world.secret("orrery-4Tz9");
    world.secret("tk_secret");
    let service = world.spawn(&["console"]).await?;
    make_letters(&world, 3, "refused").await?;
    let (message, text) = until(&topic, begun, "OrreryDeadLetters").await?;
    ensure!(
        message.path == "/orrery-4Tz9" && message.header("authorization") == "Bearer tk_secret",
        "{message:?}"
    );
    ensure!(message.header("priority") == "default", "{message:?}");
    ensure!(text.contains("ticket: 3 dead letters of maily.email"), "{text}");
    // One less is no other alert.
    world.database().execute("DELETE FROM bus.dead_letters WHERE event_id = '1'").await?;
    let browser = crate::Browser::logged_in(&world, &service).await?;
    browser.until("/", "2 dead letters").await?;
    world.database().execute("DELETE FROM bus.dead_letters").await?;
    let (message, text) = until(&topic, begun, "over: ").await?;
    ensure!(text.contains("over: 2 dead letters of maily.email"), "{text}");
    ensure!(message.header("priority") == "low", "{message:?}");
    let count = |words| told(&topic, begun).iter().filter(|(_, text)| text.contains(words)).count();
    ensure!(count("ticket: 3 dead letters") == 1 && count("ticket: 2 dead letters") == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_told_and_what_could_not_be_told_is_told_later() -> Result<()> {
    let topic = Receiver::start().await?;
    let world = world(&topic).await?;
    let service = world.spawn(&["console"]).await?;
    topic.behave(Behaviour::status(500));
    world.proxies().postgres.cut().await;
    eventually(SOON, "the log says that nobody was told", async || {
        service.log().contains("alerts could not be told").then_some(())
    })
    .await?;
    topic.behave(Behaviour::status(200));
    let mended = Instant::now();
    let (message, text) = until(&topic, mended, "PostgreSQL does not answer").await?;
    ensure!(message.header("priority") == "urgent" && text.contains("page: "), "{text}");
    world.proxies().postgres.restore().await?;
    until(&topic, mended, "over: PostgreSQL does not answer").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_nearly_full_is_told() -> Result<()> {
    let (topic, begun) = (Receiver::start().await?, Instant::now());
    let world = world(&topic).await?;
    // A file system of 1 MiB with little room.
    let folder = world.folder().join("full");
    std::fs::create_dir(&folder)?;
    let path = folder.to_str().context("a folder that is no UTF-8")?;
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs", path]).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: a file system can be mounted by root only");
        return Ok(());
    }
    let outcome = async {
        std::fs::write(folder.join("much"), vec![0_u8; 1_000_000])?;
        let _service = world.spawn_with(&["console"], &[("ORRERY_CONSOLE__ALERTS__FOLDERS", path)]).await?;
        let (_, text) = until(&topic, begun, "DiskNearlyFull").await?;
        ensure!(text.contains(&format!("of {path} on this machine is free")), "{text}");
        anyhow::Ok(())
    }
    .await;
    let freed = std::process::Command::new("umount").arg(path).status()?;
    ensure!(freed.success(), "{path} is still mounted");
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_no_topic_is_refused_and_shown_nowhere() -> Result<()> {
    let world = World::start().await?;
    let wrong = world.run_with(&["check"], &[("ORRERY_CONSOLE__ALERTS__NTFY", "ntfy-4Tz9")], SOON).await?;
    let told = "console.alerts.ntfy: must be the address of a topic";
    ensure!(!wrong.status.success() && wrong.output.contains(told), "{}", wrong.output);
    ensure!(!wrong.output.contains("4Tz9"), "{}", wrong.output);
    Ok(())
}
