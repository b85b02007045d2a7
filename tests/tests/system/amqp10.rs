//! Third parties that speak AMQP 1.0, by a real client of it (`tests/amqp10`), both ways.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use orrery_tests::{Partner, Person, World};
use serde_json::{Value, json};
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(40);
const CREATED: &str = "com.gravitalia.account.created.v1";

/// Runs the client as this partner.
async fn peer(partner: &Partner, world: &World, what: &str, request: Value) -> Result<Value> {
    let address = world.broker().address().await?;
    let request = json!({
        "host": address.ip(), "port": address.port(), "vhost": world.broker().vhost(),
        "user": partner.user(), "password": partner.password, what: request,
    });
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let client = tests.join("../.run/amqp10");
    if !client.join("node_modules/rhea").exists() {
        bail!("the AMQP 1.0 client is not installed: run tests/amqp10/install, as ./dev test does")
    }
    let mut command = Command::new("node");
    command.arg(tests.join("amqp10/peer.mjs")).arg(client).arg(request.to_string());
    let run = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(SOON, run).await.context("the AMQP 1.0 client hangs")??;
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("the AMQP 1.0 client says {}", String::from_utf8_lossy(&output.stderr)))
}

async fn send(partner: &Partner, world: &World, address: &str, messages: Value) -> Result<Value> {
    peer(partner, world, "send", json!({"address": address, "messages": messages})).await
}

async fn receive(partner: &Partner, world: &World, address: &str) -> Result<Value> {
    peer(partner, world, "receive", json!({"address": address, "count": 1})).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_amqp_1_0_client_sends_is_read_as_an_event() -> Result<()> {
    let acme = Partner::new();
    let world = acme.world("publishes=[\"com.acme.*\"],receives=[\"com.acme.*\"]").await?;
    let attributes = |separator: &str| {
        let pairs = [
            ("specversion", json!("1.0")),
            ("id", json!("7")),
            ("source", json!("/acme/shop")),
            ("type", json!("com.acme.order")),
            ("time", json!("2026-01-01T00:00:00.5Z")),
            ("count", json!(300)),
            ("paid", json!(true)),
        ];
        Value::Object(
            pairs.map(|(name, value)| (format!("cloudEvents{separator}{name}"), value)).into_iter().collect(),
        )
    };
    let event = json!({
        "specversion": "1.0", "id": "7", "source": "/acme/shop", "type": "com.acme.order",
        "time": "2026-01-01T00:00:00.500Z", "count": 300, "paid": true,
        "datacontenttype": "application/json", "data": {"total": 12},
    });
    let data = "{\"total\":12}";
    let address = format!("/exchange/ingress.{}/com.acme.order", acme.name);
    let messages = json!([
        {"content_type": "application/json", "application_properties": attributes(":"), "data": data},
        {"content_type": "application/json", "application_properties": attributes("_"), "data": data},
        {"content_type": "application/cloudevents+json", "data": event.to_string()},
        {"content_type": "application/json", "application_properties": attributes("_"), "value": data},
    ]);
    let sent = send(&acme, &world, &address, messages).await?;
    ensure!(sent == json!({"outcomes": ["accepted", "accepted", "accepted", "accepted"]}), "{sent}");
    world.broker().wait_depth(acme.queue().as_str(), SOON, |depth| depth.ready == 4).await?;
    for _ in 0..3 {
        let message = world.broker().get_one(acme.queue().as_str()).await?.context("no message")?;
        ensure!(message.routing_key == "com.acme.order", "{}", message.routing_key);
        ensure!(message.properties.delivery_mode() == &Some(2), "it is not persistent");
        let decoded = cloudevents_amqp::decode(&message.properties, &message.body)?;
        let read: Value = serde_json::from_slice(&cloudevents_amqp::encode_structured(&decoded)?.body)?;
        ensure!(read == event, "{read}");
    }
    // Data in an amqp-value section is AMQP's own encoding: it is refused, not taken for JSON.
    let message = world.broker().get_one(acme.queue().as_str()).await?.context("no message")?;
    ensure!(cloudevents_amqp::decode(&message.properties, &message.body).is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_ours_is_read_by_an_amqp_1_0_client() -> Result<()> {
    let acme = Partner::new();
    let world = acme.world(&format!("amqp10=true,receives=[\"{CREATED}\"]")).await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    let told = receive(&acme, &world, &format!("/amq/queue/{}", acme.queue())).await?;
    let message = &told["messages"][0];
    ensure!(message["content_type"] == "application/json", "{told}");
    let attributes = &message["application_properties"];
    let row = "SELECT id::text FROM bus.outbox WHERE type = 'com.gravitalia.account.created.v1'";
    let id = world.database().text(row).await?.context("no row")?;
    for (name, value) in
        [("specversion", "1.0"), ("type", CREATED), ("source", "com.gravitalia.autha"), ("id", id.as_str())]
    {
        ensure!(attributes[format!("cloudEvents_{name}")] == value, "{name} in {told}");
    }
    ensure!(attributes["cloudEvents_time"].as_str().is_some_and(|time| time.ends_with('Z')), "{told}");
    let data: Value = serde_json::from_str(message["data"].as_str().context("no data section")?)?;
    ensure!(data["account"] == attributes["cloudEvents_subject"], "{told}");
    // It was accepted, and so is gone.
    world.broker().wait_empty(acme.queue().as_str(), SOON).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_amqp_1_0_a_partner_can_do_no_more_than_by_0_9_1() -> Result<()> {
    let acme = Partner::new();
    let world = acme.world("publishes=[\"com.acme.*\"],receives=[\"com.acme.*\"]").await?;
    let own = format!("/exchange/ingress.{}", acme.name);
    let message = json!([{"content_type": "application/json", "data": "{}"}]);
    for address in [
        format!("{own}/com.gravitalia.email"),
        "/exchange/events/com.gravitalia.image.uploaded.v1".to_owned(),
        "/exchange/ingress/com.acme.order".to_owned(),
        "/amq/queue/maily.email".to_owned(),
        "/queue/mine".to_owned(),
        "/topic/com.acme.order".to_owned(),
    ] {
        let told = send(&acme, &world, &address, message.clone()).await?;
        ensure!(told.to_string().contains("ACCESS_REFUSED"), "sending to {address}: {told}");
    }
    for address in
        ["/amq/queue/maily.email", "/amq/queue/spinoza.images.dead", "/exchange/events/#", "/queue/mine"]
    {
        let told = receive(&acme, &world, address).await?;
        ensure!(told.to_string().contains("ACCESS_REFUSED"), "receiving from {address}: {told}");
    }
    Ok(())
}
