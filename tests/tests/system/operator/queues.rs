//! Looking into the queues and emptying them: `list`, `watch`, `purge`.

use anyhow::{Context, Result, ensure};
use lapin::{BasicProperties, options::QueueDeclareOptions, types::FieldTable};
use nix::sys::signal::Signal;
use orrery_tests::{Person, World, deadline::eventually};
use serde_json::Value;

use super::{SOON, code, json, run};

const NOWHERE: (&str, &str) = ("ORRERY_BROKER__MANAGEMENT_URL", "http://guest:guest@127.0.0.1:1");

fn handler<'a>(figures: &'a Value, name: &str) -> Result<&'a Value> {
    let mut handlers = figures["handlers"].as_array().context("no handlers")?.iter();
    handlers.find(|handler| handler["handler"] == name).with_context(|| format!("no {name}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn list_shows_every_queue_with_the_plugin_and_without_it() -> Result<()> {
    let world = World::start().await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    world.broker().wait_depth("maily.email", SOON, |depth| depth.ready == 1).await?;
    let doubts = "INSERT INTO bus.inbox (handler, key, week, token, claimed_until, doubts) \
                  SELECT 'maily.email', gen_random_uuid(), -1, gen_random_uuid(), now(), n FROM generate_series(0, 2) AS n";
    world.database().execute(doubts).await?;
    // The plugin's figures lag 5 s, those of one queue more than those of another.
    let (_watch, log) = world.command(&["queues", "--json", "watch", "--every", "500ms"], &[])?;
    eventually(SOON, "the plugin tells of the mail", async || {
        let look: Value = serde_json::from_str(std::fs::read_to_string(&log).ok()?.lines().last()?).ok()?;
        (handler(&look, "maily.email").ok()?["ready"] == 1 && look["notes"] == serde_json::json!([]))
            .then_some(())
    })
    .await?;
    let figures = json(&world, &["list"]).await?;
    let mail = handler(&figures, "maily.email")?;
    ensure!(figures["complete"] == true && figures["notes"] == serde_json::json!([]), "{figures}");
    ensure!(mail["unacked"] == 0 && mail["retry"] == 0 && mail["quarantine"] == 0, "{mail}");
    ensure!(mail["dead"] == 0 && mail["unarchived"] == 0 && mail["consumers"] == 0, "{mail}");
    ensure!(mail["doubts"] == 3 && handler(&figures, "autha.pictures")?["doubts"] == 0, "{figures}");
    ensure!(mail["in_per_second"].is_number() && mail["out_per_second"].is_number(), "{mail}");
    let pictures = handler(&figures, "autha.pictures")?;
    ensure!(pictures["consumers"].as_u64() >= Some(1), "{pictures}");
    let row = &figures["outbox"][0];
    // Nobody subscribes to the news of accounts, which is normal.
    ensure!(
        row.is_null() || row["producer"] == "autha" && row["unrouted"] == 0 && row["pending"] == 0,
        "{figures}"
    );

    let bare = world.run_with(&["queues", "--json", "list"], &[NOWHERE], SOON).await?;
    code(&bare, 0)?;
    let figures: Value = serde_json::from_str(&bare.output).context(bare.output)?;
    let mail = handler(&figures, "maily.email")?;
    ensure!(mail["ready"] == 1 && mail["retry"] == 0 && mail["unacked"].is_null(), "{mail}");
    ensure!(figures["notes"][0].as_str().is_some_and(|note| note.contains("cannot be reached")), "{figures}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn list_says_what_it_does_not_know_and_why() -> Result<()> {
    let world = World::builder()
        .without("ORRERY_BROKER__MANAGEMENT_URL")
        .env("ORRERY_MAILY__LEGACY_QUEUE", "true")
        .start()
        .await?;
    let table = run(&world, &["list"]).await?;
    code(&table, 0)?;
    let row = table.output.lines().find(|line| line.starts_with("maily.legacy")).context("no bridge")?;
    ensure!(row.split_whitespace().eq(["maily.legacy", "email", "0", "-", "0", "0", "-", "-"]), "{row}");
    let row = table.output.lines().find(|line| line.starts_with("maily.email")).context("no row")?;
    let cells: Vec<_> = row.split_whitespace().collect();
    ensure!(cells == ["maily.email", "0", "-", "0", "0", "0", "0", "0", "0", "-", "-"], "{cells:?}");
    ensure!(
        table.output.contains("rates are not known: broker.management_url is not set"),
        "{}",
        table.output
    );

    world.broker().channel().await?.queue_delete("maily.email".into(), Default::default()).await?;
    let table = run(&world, &["list"]).await?;
    ensure!(
        table.output.contains("the queue maily.email is missing: run 'orrery migrate'"),
        "{}",
        table.output
    );

    world.proxies().broker.cut().await;
    let table = run(&world, &["list"]).await?;
    code(&table, 1)?;
    ensure!(
        table.output.contains("look at broker.url") && table.output.contains("outbox"),
        "{}",
        table.output
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_shows_one_look_after_another_and_ends_on_ctrl_c() -> Result<()> {
    let world = World::start().await?;
    let (mut watch, log) = world.command(&["queues", "--json", "watch", "--every", "200ms"], &[NOWHERE])?;
    eventually(SOON, "three looks", async || {
        let text = std::fs::read_to_string(&log).ok()?;
        (text.lines().filter(|line| line.contains("maily.email")).count() >= 3).then_some(())
    })
    .await?;
    watch.signal(Signal::SIGINT)?;
    let status = watch.wait(SOON).await?;
    ensure!(status.code() == Some(0), "{status}");
    for line in std::fs::read_to_string(&log)?.lines() {
        let look: Value = serde_json::from_str(line)?;
        ensure!(look["at"].is_string() && look["handlers"].is_array(), "{look}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purge_empties_queues_of_ours_and_no_others() -> Result<()> {
    let world = World::start().await?;
    let channel = world.broker().channel().await?;
    let durable = QueueDeclareOptions::durable();
    channel.queue_declare("shop.accounts".into(), durable, FieldTable::default()).await?;
    for queue in
        ["shop.accounts", "maily.email", "maily.email.retry.2000", "maily.email.dead", "maily.email.dead"]
    {
        world.broker().publish_raw("", queue, BasicProperties::default(), b"x").await?;
    }
    let foreign = run(&world, &["purge", "--yes", "shop.accounts"]).await?;
    code(&foreign, 2)?;
    ensure!(foreign.output.contains("left alone"), "{}", foreign.output);
    ensure!(world.broker().depth("shop.accounts").await?.ready == 1);
    let unasked = run(&world, &["purge", "maily.email"]).await?;
    code(&unasked, 2)?;
    ensure!(unasked.output.contains("--yes") && world.broker().depth("maily.email").await?.ready == 1);
    let purged = run(&world, &["purge", "--yes", "maily.email", "--dead"]).await?;
    code(&purged, 0)?;
    ensure!(purged.output.contains("purged 2 messages from maily.email.dead"), "{}", purged.output);
    ensure!(world.broker().depth("maily.email").await?.ready == 1);
    code(&run(&world, &["purge", "--yes", "maily.email"]).await?, 0)?;
    code(&run(&world, &["purge", "--yes", "maily.email"]).await?, 3)?;
    ensure!(world.broker().depth("maily.email").await?.ready == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purge_asks_at_a_terminal_and_empties_the_queues_that_are_named() -> Result<()> {
    // What waits for a retry stays there for longer than the test takes.
    let world = World::builder().env("ORRERY_MAILY__RETRY_DELAY", "15min").start().await?;
    let others = ["maily.email.retry.900000", "maily.email.quarantine"];
    for queue in others.into_iter().chain(["maily.email"]) {
        world.broker().publish_raw("", queue, BasicProperties::default(), b"x").await?;
    }
    let depth = async |queue| world.broker().depth(queue).await.map(|depth| depth.ready);
    let purge = ["queues", "purge", "maily.email", "--retry", "--quarantine"];
    for no in ["", "n", "yikes"] {
        let kept = world.run_answering(&purge, no, SOON).await?;
        code(&kept, 1)?;
        ensure!(kept.output.contains("throw 2 messages in"), "{}", kept.output);
        ensure!(kept.output.contains("nothing was purged"), "{}", kept.output);
    }
    for queue in others {
        ensure!(depth(queue).await? == 1, "{queue} was emptied");
    }
    let purged = world.run_answering(&purge, "y", SOON).await?;
    code(&purged, 0)?;
    for queue in others {
        ensure!(purged.output.contains(&format!("purged 1 message from {queue}")), "{}", purged.output);
        ensure!(depth(queue).await? == 0, "{queue} was not emptied");
    }
    ensure!(depth("maily.email").await? == 1, "more was emptied than was named");
    Ok(())
}
