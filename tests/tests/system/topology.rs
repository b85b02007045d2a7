//! A standing topology that is not the configured one: what `orrery check` and `orrery migrate` say, with and without the plugin.

use std::time::Duration;

use anyhow::{Result, ensure};
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use orrery_tests::{World, deadline::eventually};

const SOON: Duration = Duration::from_secs(40);

fn quorum(more: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    for (name, value) in more {
        table.insert((*name).into(), value.clone());
    }
    table
}

async fn declare(world: &World, queue: &str, arguments: FieldTable) -> Result<()> {
    let channel = world.broker().channel().await?;
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_other_arguments_is_told_and_the_rest_is_declared() -> Result<()> {
    let with_plugin = World::builder().unmigrated().start().await?;
    let without = "ORRERY_BROKER__MANAGEMENT_URL";
    let without_plugin = World::builder().without(without).unmigrated().start().await?;
    for world in [with_plugin, without_plugin] {
        let other = [("x-delivery-limit", AMQPValue::LongLongInt(3))];
        declare(&world, "spinoza.images", quorum(&other)).await?;
        declare(&world, "maily.email.retry.2000", FieldTable::default()).await?;
        for command in ["migrate", "check"] {
            let told = world.run(&[command], SOON).await?;
            ensure!(!told.status.success(), "{command} is content");
            for part in [
                "the queue spinoza.images stands otherwise",
                "x-delivery-limit is 3, wanted 1",
                "x-dead-letter-routing-key is not set, wanted \"spinoza.images.quarantine\"",
                "the queue maily.email.retry.2000 stands otherwise",
                "x-message-ttl is not set, wanted 2000",
                "rabbitmqctl delete_queue -p",
            ] {
                ensure!(told.output.contains(part), "{command} does not say {part}: {}", told.output);
            }
            ensure!(!told.output.contains("missing"), "{}", told.output);
        }
        for queue in ["maily.email", "spinoza.images.dead", "autha.pictures.retry.2000"] {
            world.broker().depth(queue).await?;
        }
        let service = world.launch(&[], &[])?;
        eventually(SOON, "health says which queue stands otherwise", async || {
            let health = service.health().await.ok().filter(|health| health.status == 503)?;
            let is_down = health.body["down"].as_array()?.iter().any(|name| name == "queues");
            let cause = health.body["causes"]["queues"].as_str()?;
            (is_down && cause.contains("spinoza.images") && cause.contains("stands otherwise")).then_some(())
        })
        .await?;
        drop(service);
        // The way that was told.
        let channel = world.broker().channel().await?;
        for queue in ["spinoza.images", "maily.email.retry.2000"] {
            channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
        }
        world.migrate().await?;
        let good = world.run(&["check"], SOON).await?;
        ensure!(good.status.success(), "{}", good.output);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_too_many_or_retired_is_told() -> Result<()> {
    let world = World::start().await?;
    let channel = world.broker().channel().await?;
    let (none, ty) = (FieldTable::default, "com.gravitalia.image.uploaded.v1");
    channel.queue_delete("maily.email.quarantine".into(), QueueDeleteOptions::default()).await?;
    channel.queue_unbind("spinoza.images".into(), "events".into(), ty.into(), none()).await?;
    let options = QueueBindOptions::default();
    channel.queue_bind("spinoza.images".into(), "events".into(), "#".into(), options, none()).await?;
    declare(&world, "maily.email.retry.7", quorum(&[])).await?;
    declare(&world, "maily.email.retry.8", quorum(&[])).await?;
    world.broker().publish_raw("", "maily.email.retry.8", BasicProperties::default(), b"x").await?;
    let told = world.run(&["check"], SOON).await?;
    ensure!(!told.status.success(), "{}", told.output);
    for part in [
        "the queue maily.email.quarantine is missing",
        &format!("spinoza.images is not bound to events by {ty}"),
        "spinoza.images is bound to events by #, which is not configured",
        "maily.email.retry.7 is not used any more and is empty",
        "maily.email.retry.8 is not used any more, 1 messages",
    ] {
        ensure!(told.output.contains(part), "check does not say {part}: {}", told.output);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_outlive_a_reader_that_dies_with_them() -> Result<()> {
    let world = World::start().await?;
    let queue = "maily.email.dead";
    for _ in 0..3 {
        world.broker().publish_raw("", queue, BasicProperties::default(), b"x").await?;
    }
    // More often than any limit that a broker has by itself.
    for _ in 0..25 {
        let connection = Connection::connect(world.broker().url(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        for _ in 0..3 {
            let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await?;
            ensure!(got.is_some(), "a dead letter is gone");
        }
        connection.close(200, "".into()).await?;
        world.broker().wait_depth(queue, SOON, |depth| depth.ready == 3).await?;
    }
    Ok(())
}
