//! Third parties on pages: how far an endpoint is, what it did not take, and what an operator does about that.

use anyhow::{Context, Result, ensure};
use orrery_tests::{
    Client, Service, World,
    deadline::until,
    ports::Port,
    receiver::{Behaviour, Receiver},
    third_party,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{Browser, SOON};

/// A world with a third party.
struct Scene {
    service: Service,
    world: World,
    /// With the token of `acme`.
    acme: Client,
}

impl Scene {
    async fn start() -> Result<Self> {
        let port = Port::reserve()?;
        let listen = port.address().to_string();
        let world = World::builder()
            .env("ORRERY_SERVICES", "autha,partners,maily,console")
            .env("ORRERY_PARTNERS__LISTEN", &listen)
            .env("ORRERY_PARTNERS__PUBLIC_URL", "http://orrery.example")
            .env("ORRERY_PARTNERS__TARGETS__ALLOW_HTTP", "true")
            .env("ORRERY_PARTNERS__TARGETS__NETWORKS", r#"["127.0.0.0/8"]"#)
            .env("ORRERY_PARTNERS__DELIVERY__FIRST_DELAY", "100ms")
            .env("ORRERY_PARTNERS__DELIVERY__GIVE_UP_AFTER", "1s")
            .start()
            .await?;
        let service = world.spawn(&[]).await?;
        let more = ["--publish", "com.acme.#", "--receive", "com.acme.#"];
        let secret = third_party::create(&world, "acme", &more).await?;
        let client = Client::new(&format!("http://{listen}"))?;
        let token = third_party::ask_token(&client, "acme", &secret, "").await?.expect(200)?;
        let acme = client.with_token(token.text("access_token")?);
        Ok(Self { service, world, acme })
    }

    async fn post(&self, path: &str, body: &Value) -> Result<orrery_tests::Answer> {
        self.acme.send(self.acme.request(Method::POST, path).json(body)).await
    }

    /// An endpoint at this receiver; returns its id.
    async fn endpoint(&self, receiver: &Receiver) -> Result<String> {
        let made = self.post("/partners/endpoints", &json!({"url": receiver.url()})).await?.expect(201)?;
        Ok(made.text("id")?.to_owned())
    }

    async fn send(&self, id: &str) -> Result<()> {
        let event = json!({"specversion": "1.0", "id": id, "source": "/acme", "type": "com.acme.order.v1", "data": {"buyer": "Margarethe"}});
        let request = self.acme.request(Method::POST, "/events");
        let request = request.header("content-type", "application/cloudevents+json").body(event.to_string());
        self.acme.send(request).await?.expect(202)?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_endpoint_did_not_take_is_shown_and_delivered_again() -> Result<()> {
    let scene = Scene::start().await?;
    let ada = Browser::logged_in(&scene.world, &scene.service).await?;
    let receiver = Receiver::start().await?;
    let path = format!("/webhooks/{}", scene.endpoint(&receiver).await?);
    receiver.behave(Behaviour::status(404));
    scene.send("1").await?;
    scene.send("2").await?;
    until(SOON, "both are given up", async || {
        let page = ada.get("/api/webhooks.json").await.and_then(|page| page.expect(200)).unwrap_or_default();
        let shown: Value = serde_json::from_str(&page).unwrap_or_default();
        shown["endpoints"][0]["dead"] == 2 && shown["endpoints"][0]["behind"] == 0
    })
    .await?;
    let list = ada.get("/webhooks").await?.expect(200)?;
    let place = format!("127.0.0.1:{}", receiver.port());
    ensure!(list.contains(&place) && list.contains("com.acme.#"), "{list}");
    ensure!(!list.contains("whsec_"), "a secret is shown");
    let page = ada.get(&path).await?.expect(200)?;
    ensure!(page.contains("com.acme.order.v1") && page.contains("(404)"), "{page}");
    ensure!(!page.contains("Margarethe"), "what the event tells is shown");

    // One, then the rest.
    receiver.behave(Behaviour::status(200));
    let before = receiver.deliveries().len();
    let (_, rest) = page.split_once("name=\"position\" value=\"").context("no position")?;
    let position = rest.split('"').next().unwrap_or_default();
    ada.act(&path, &[("action", "replay"), ("position", position)]).await?.expect(303)?;
    let delivered = receiver.wait(before + 1, SOON).await?;
    ensure!(delivered.last().context("none")?.event()?["id"] == "1");
    ada.act(&path, &[("action", "replay")]).await?.expect(303)?;
    receiver.wait(before + 2, SOON).await?;
    ada.until(&path, "Nothing was given up").await?;
    let log = ada.get("/audit").await?.expect(200)?;
    ensure!(log.contains("webhook.replay") && log.contains("replayed 1"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_ends_deliveries_and_only_an_operator_takes_that_back() -> Result<()> {
    let scene = Scene::start().await?;
    let ada = Browser::logged_in(&scene.world, &scene.service).await?;
    let receiver = Receiver::start().await?;
    let id = scene.endpoint(&receiver).await?;
    let path = format!("/webhooks/{id}");
    ada.act(&path, &[("action", "disable")]).await?.expect(303)?;
    ada.until(&path, "by an operator").await?;
    scene.post(&format!("/partners/endpoints/{id}/enable"), &json!({})).await?.expect(403)?;
    scene.send("1").await?;
    ada.act(&path, &[("action", "enable")]).await?.expect(303)?;
    // What was sent meanwhile comes now.
    receiver.wait(1, SOON).await?;
    // Hostile: another action, another endpoint, no form of ours.
    ada.act(&path, &[("action", "remove")]).await?.expect(422)?;
    ada.act(&path, &[("action", "replay"), ("position", "x")]).await?.expect(422)?;
    ada.get("/webhooks/x").await?.expect(404)?;
    ada.get("/webhooks/01900000-0000-7000-8000-000000000001").await?.expect(404)?;
    ada.send(ada.post(&path, &[("action", "disable")])).await?.expect(403)?;
    ensure!(ada.get("/audit").await?.expect(200)?.contains("webhook.disable"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_partners_the_page_says_how_there_would_be_some() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&["console"]).await?;
    let ada = Browser::logged_in(&world, &service).await?;
    ensure!(ada.get("/webhooks").await?.expect(200)?.contains("No enabled service"));
    ada.get("/api/webhooks.json").await?.expect(404)?;
    Ok(())
}
