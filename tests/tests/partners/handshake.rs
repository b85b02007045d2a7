//! The handshake of CloudEvents webhooks: nobody is delivered to who did not allow it, at once or by the callback.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::json;

use crate::{
    receiver::Receiver,
    setting::{Party, SOON, Setting, event, text},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_allow_us_gets_nothing_until_it_does() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let receiver = Receiver::start().await?;
    receiver.handshake(None);
    let endpoint = acme.endpoint(&receiver, json!({})).await?;
    ensure!(endpoint["state"] == "pending" && text(&endpoint, "reason")?.contains("405"), "{endpoint}");
    let id = text(&endpoint, "id")?;
    acme.send(&event("before")).await?.expect(202)?;
    acme.act(Method::POST, &format!("/partners/endpoints/{id}/enable")).await?.expect(200)?;
    ensure!(acme.shown(id).await?["state"] == "pending", "who never answered cannot be enabled");
    receiver.handshake(Some(&[("WebHook-Allowed-Origin", "somebody.else")]));
    let handshake = format!("/partners/endpoints/{id}/handshake");
    let answer = acme.act(Method::POST, &handshake).await?.expect(200)?;
    ensure!(answer.text("reason")?.contains("WebHook-Allowed-Origin"), "{}", answer.body);
    ensure!(receiver.deliveries().is_empty());
    receiver.handshake(Some(&[("WebHook-Allowed-Origin", "orrery.example")]));
    let answer = acme.act(Method::POST, &handshake).await?.expect(200)?;
    ensure!(answer.body["state"] == "active" && answer.body["reason"].is_null(), "{}", answer.body);
    // What was sent since it was made comes now.
    receiver.wait(1, SOON).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_disabled_its_partner_enables_by_nothing() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let receiver = Receiver::start().await?;
    let endpoint = acme.endpoint(&receiver, json!({})).await?;
    let id = text(&endpoint, "id")?;
    setting.command(&["disable", "--endpoint", id]).await?;
    let path = format!("/partners/endpoints/{id}");
    let answer = acme.act(Method::POST, &format!("{path}/enable")).await?.expect(403)?;
    ensure!(answer.text("detail")?.contains("ask the operator"), "{}", answer.body);
    acme.act(Method::POST, &format!("{path}/handshake")).await?.expect(200)?;
    // Another url is asked anew elsewhere; here it stays disabled.
    let elsewhere = Receiver::start().await?;
    acme.change(id, &json!({"url": elsewhere.url()})).await?.expect(200)?;
    ensure!(acme.shown(id).await?["state"] == "disabled" && elsewhere.requests("OPTIONS").is_empty());
    // The operator may, but nobody has allowed deliveries at this url.
    setting.command(&["enable", "--endpoint", id]).await?;
    ensure!(acme.shown(id).await?["state"] == "pending", "nobody asked the receiver");
    acme.act(Method::POST, &format!("{path}/enable")).await?.expect(200)?;
    ensure!(acme.shown(id).await?["state"] == "active");
    acme.send(&event("1")).await?.expect(202)?;
    elsewhere.wait(1, SOON).await?;
    ensure!(receiver.deliveries().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_allowed_us_gets_nothing_by_a_detour() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let receiver = Receiver::start().await?;
    receiver.handshake(None);
    let endpoint = acme.endpoint(&receiver, json!({})).await?;
    let id = text(&endpoint, "id")?;
    setting.command(&["disable", "--endpoint", id]).await?;
    setting.command(&["enable", "--endpoint", id]).await?;
    let shown = acme.shown(id).await?;
    ensure!(shown["state"] == "pending" && text(&shown, "reason")?.contains("has not allowed"), "{shown}");
    acme.act(Method::POST, &format!("/partners/endpoints/{id}/enable")).await?.expect(200)?;
    ensure!(acme.shown(id).await?["state"] == "pending");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_may_allow_us_later_by_the_callback() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let receiver = Receiver::start().await?;
    receiver.handshake(Some(&[]));
    let endpoint = acme.endpoint(&receiver, json!({"rate": 60})).await?;
    let question = &receiver.requests("OPTIONS")[0];
    ensure!(question.header("webhook-request-rate") == "60", "{question:?}");
    let callback = question.header("webhook-request-callback").replace("http://orrery.example", "");
    let nobody = setting.client()?;
    let guessed = callback.rsplit_once('/').map_or(String::new(), |(before, _)| format!("{before}/guessed"));
    nobody.get(&guessed).await?.expect(404)?;
    let id = text(&endpoint, "id")?;
    nobody
        .send(nobody.request(Method::POST, &callback).header("WebHook-Allowed-Rate", "30"))
        .await?
        .expect(204)?;
    let shown = acme.shown(id).await?;
    ensure!((&shown["state"], &shown["allowed_rate"]) == (&json!("active"), &json!(30)), "{shown}");
    nobody.get(&callback).await?.expect(404)?;
    acme.send(&event("1")).await?.expect(202)?;
    receiver.wait(1, SOON).await?;
    Ok(())
}
