//! The process that reads a handler's quarantine queue, `orrery quarantine`, begun by the process that serves the handler. Who gets there, and
//! what such a message may do, is in `poison`.

use std::{collections::HashSet, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use orrery_tests::{
    Person, World,
    deadline::{eventually, throughout, until},
    service::Service,
};

const SOON: Duration = Duration::from_secs(60);
const LANE: &str = "maily.email.quarantine";
/// Longer than any test waits.
const FOREVER: Duration = Duration::from_secs(600);

/// A world whose maily has not run yet, with the welcome mail of one person in its quarantine queue.
async fn quarantined() -> Result<World> {
    let world = World::start().await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    world.broker().wait_depth("maily.email", SOON, |depth| depth.ready == 1).await?;
    let mail = world.broker().get_one("maily.email").await?.context("no mail")?;
    world.broker().publish_raw("", LANE, mail.properties, &mail.body).await?;
    Ok(world)
}

/// A maily that is sending the mail of its quarantine queue to a server that does not answer, and the process that does it.
async fn at_work(world: &World) -> Result<(Service, u32)> {
    at_work_with(world, &[]).await
}

async fn at_work_with(world: &World, settings: &[(&str, &str)]) -> Result<(Service, u32)> {
    world.smtp().delay(FOREVER);
    let maily = world.spawn_with(&["maily"], settings).await?;
    world.smtp().wait_for_attempts(1, SOON).await?;
    let children = maily.children()?;
    let [child] = children[..] else { bail!("maily has the children {children:?}") };
    Ok((maily, child))
}

async fn until_gone(process: u32) -> Result<()> {
    let path = format!("/proc/{process}/status");
    // Nobody may ask for the end of an orphan: it is gone then too.
    let runs = || std::fs::read_to_string(&path).is_ok_and(|status| !status.contains("State:\tZ"));
    until(SOON, "the process of the quarantine queue ends", async || !runs()).await
}

/// The mail arrives again, under the name that it had, and nothing is left over.
async fn until_sent_again(world: &World) -> Result<()> {
    let mails = world.smtp().wait_for(2, SOON).await?;
    let names: HashSet<_> = mails.iter().map(|mail| mail.header("message-id")).collect();
    ensure!(names.len() == 1, "{names:?}");
    world.database().wait_done("maily.email", 1, SOON).await?;
    world.broker().wait_handled("maily.email", SOON).await?;
    ensure!(world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quarantine_queue_is_read_by_a_process_of_its_own_that_ends_when_it_is_empty() -> Result<()> {
    let world = quarantined().await?;
    let maily = world.spawn(&["maily"]).await?;
    world.smtp().wait_for(1, SOON).await?;
    until(SOON, "the process of the quarantine queue ends", async || {
        maily.children().is_ok_and(|all| all.is_empty())
    })
    .await?;
    ensure!(maily.log().contains("the quarantine queue is empty"), "{}", maily.log());
    ensure!(!maily.log().contains("ended with"), "{}", maily.log());
    world.broker().wait_handled("maily.email", SOON).await?;
    // Its neighbours go the usual way again.
    let _front = world.spawn(&["gateway", "autha"]).await?;
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    ensure!(world.smtp().wait_for(2, SOON).await?.len() == 2);
    ensure!(world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_of_a_quarantine_queue_ends_with_the_killed_one_that_began_it() -> Result<()> {
    let world = quarantined().await?;
    let (mut maily, child) = at_work(&world).await?;
    maily.kill();
    until_gone(child).await?;
    maily.restart().await?;
    until_sent_again(&world).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_the_process_of_a_quarantine_queue_and_its_doubtful_mail_is_a_try() -> Result<()> {
    let world = quarantined().await?;
    let (mut maily, child) = at_work(&world).await?;
    ensure!(maily.terminate(SOON).await?.success(), "{}", maily.log());
    ensure!(
        !Path::new(&format!("/proc/{child}")).exists(),
        "the process of the quarantine queue outlived maily"
    );
    // It comes back by the retry queue of what was handed back.
    world.broker().wait_depth("maily.email", SOON, |depth| depth.ready == 1).await?;
    let back = world.broker().get_one("maily.email").await?.context("nothing came back")?;
    // The server had all of the mail and had not answered: it may be out, so it is tried once more and not again and again.
    ensure!(back.headers["attempt"] == 1, "{:?}", back.headers);
    world.broker().publish_raw("", "maily.email", back.properties, &back.body).await?;
    maily.restart().await?;
    until_sent_again(&world).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_does_not_end_the_process_of_a_quarantine_queue() -> Result<()> {
    let world = quarantined().await?;
    // One that begins to end has ended after this.
    let (maily, child) = at_work_with(&world, &[("ORRERY_INTERNAL__GRACE", "2s")]).await?;
    let process = Pid::from_raw(child.try_into()?);
    for (signal, words) in [
        (Signal::SIGUSR1, "SIGUSR1 means nothing here"),
        (Signal::SIGHUP, "SIGHUP: the settings are read again"),
    ] {
        kill(process, signal)?;
        eventually(SOON, "it says what it heard", async || maily.log().contains(words).then_some(())).await?;
    }
    throughout(Duration::from_secs(5), "the process of the quarantine queue goes on", async || {
        maily.children().is_ok_and(|all| all == [child])
    })
    .await
}
