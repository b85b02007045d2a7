//! Whether what services really publish fits the JSON Schemas of the messages.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, ensure};
use lapin::{
    options::{QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use orrery_schemas::email::QUEUE;
use orrery_tests::{Person, World, broker::Message, eventually, pictures};
use serde_json::{Map, Value, json};

use crate::LONG;

/// What a subscriber would listen to.
const TAP: &str = "test.tap";

/// The CloudEvent of a message in binary mode, as CloudEvents' JSON format has it.
fn event(message: &Message) -> Result<Value> {
    let attributes = message.headers.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix("cloudEvents_").or_else(|| name.strip_prefix("cloudEvents:"))?;
        Some((name.to_owned(), value.clone()))
    });
    let mut event: Map<String, Value> = attributes.collect();
    let content_type = message.properties.content_type().as_ref().context("no content type")?;
    event.insert("datacontenttype".to_owned(), json!(content_type.as_str()));
    event.insert("data".to_owned(), message.json()?);
    Ok(Value::Object(event))
}

/// Checks a message against the schema of its type, which it gives back.
fn check(message: &Message) -> Result<String> {
    let event = event(message)?;
    let ty = event["type"].as_str().context("no type")?.to_owned();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../schemas/json/{ty}.json"));
    let schema = std::fs::read_to_string(&path).with_context(|| format!("{ty} has no schema"))?;
    let validator =
        jsonschema::options().should_validate_formats(true).build(&serde_json::from_str(&schema)?)?;
    let faults: Vec<_> =
        validator.iter_errors(&event).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    ensure!(faults.is_empty(), "{faults:?} in {event}");
    ensure!(message.properties.delivery_mode() == &Some(2), "{ty} is not persistent");
    Ok(ty)
}

#[tokio::test]
async fn what_services_publish_fits_its_schema() -> Result<()> {
    let world = World::start().await?;
    let channel = world.broker().channel().await?;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(TAP.into(), options, FieldTable::default()).await?;
    channel
        .queue_bind(
            TAP.into(),
            "events".into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    // Without maily, so that its command stays where it can be read.
    let _orrery = world.spawn(&["gateway", "autha", "spinoza"]).await?;
    let person = Person::new();
    let ada = world.client()?.signed_up(&person).await?;
    let picture = pictures::gradient_png(64, 64)?;
    let broken = [picture.get(..60).context("a short picture")?, &[0; 500]].concat();
    for (picture, end) in [(picture, "done"), (broken, "rejected")] {
        let taken = ada.put_avatar(picture, "image/png").await?.expect(202)?;
        ensure!(ada.wait_upload(taken.location()?, LONG).await?["status"] == end);
    }
    ada.delete_avatar().await?.expect(204)?;

    let expected: BTreeSet<String> =
        ["account.created", "account.updated", "image.uploaded", "image.optimized", "image.rejected"]
            .iter()
            .map(|name| format!("com.gravitalia.{name}.v1"))
            .collect();
    let (mut seen, mut updates) = (BTreeSet::new(), 0);
    // The first picture, the rejected one, and the one that was taken away: each raised the account's version.
    while seen != expected || updates < 3 {
        let message =
            eventually(LONG, "every event", async || world.broker().get_one(TAP).await.ok().flatten());
        let message = message.await.with_context(|| format!("only {seen:?} came"))?;
        let ty = check(&message)?;
        ensure!(
            message.routing_key == ty && message.exchange == "events",
            "{ty} came by {}",
            message.routing_key
        );
        updates += u32::from(ty == "com.gravitalia.account.updated.v1");
        seen.insert(ty);
    }
    let version = world.database().count("SELECT version FROM autha.accounts").await?;
    ensure!(version == 1 + i64::from(updates), "version {version} after {updates} events");
    let command =
        eventually(LONG, "the command", async || world.broker().get_one(QUEUE).await.ok().flatten()).await?;
    ensure!(check(&command)? == "com.gravitalia.email" && command.exchange.is_empty(), "another command");
    let text = String::from_utf8_lossy(&command.body);
    ensure!(!text.contains(&person.email), "the address can be read");
    Ok(())
}
