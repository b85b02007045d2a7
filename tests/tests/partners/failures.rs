//! Receivers that fail, hang, drip, lie and heal: each delivery comes in the end, once per try, under one id; what is gone is disabled, and its owner told.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orrery_tests::deadline::until;
use reqwest::Method;
use serde_json::json;

use crate::{
    receiver::{Behaviour, Receiver},
    setting::{Party, SOON, Setting, builder, event, text},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_receiver_does_wrong_it_is_tried_again_until_it_heals() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    for behaviour in [
        Behaviour::status(500),
        Behaviour::with(301, "location", "http://127.0.0.1:9/"),
        Behaviour::Hang,
        Behaviour::Drip,
        Behaviour::Endless,
        Behaviour::Drop,
        Behaviour::Lie,
    ] {
        let receiver = Receiver::start().await?;
        let endpoint = acme.endpoint(&receiver, json!({})).await?;
        let id = text(&endpoint, "id")?;
        receiver.behave(behaviour.clone());
        acme.send(&event(&format!("{behaviour:?}"))).await?.expect(202)?;
        let failing = format!(
            "SELECT count(*) FROM partners.deliveries WHERE endpoint = '{id}' AND state = 'retry' AND attempts > 1"
        );
        until(SOON, "it is tried twice", async || {
            setting.world.database().count(&failing).await.is_ok_and(|n| n == 1)
        })
        .await
        .with_context(|| format!("{behaviour:?}"))?;
        receiver.behave(Behaviour::status(200));
        let waiting = format!("SELECT count(*) FROM partners.deliveries WHERE endpoint = '{id}'");
        until(SOON, "it is taken", async || {
            setting.world.database().count(&waiting).await.is_ok_and(|n| n == 0)
        })
        .await?;
        let deliveries = receiver.deliveries();
        let first = deliveries.first().context("none")?.header("webhook-id").to_owned();
        ensure!(deliveries.iter().all(|delivery| delivery.header("webhook-id") == first), "{behaviour:?}");
        let shown = acme.shown(id).await?;
        ensure!(shown["failing_since"].is_null() && shown["waiting"] == 0, "{shown}");
        acme.act(Method::DELETE, &format!("/partners/endpoints/{id}")).await?.expect(204)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_is_kept_to() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let receiver = Receiver::start().await?;
    acme.endpoint(&receiver, json!({})).await?;
    receiver.behave(Behaviour::with(503, "retry-after", "3"));
    acme.send(&event("1")).await?.expect(202)?;
    receiver.wait(1, SOON).await?;
    receiver.behave(Behaviour::status(200));
    let deliveries = receiver.wait(2, SOON).await?;
    let pause = deliveries[1].at - deliveries[0].at;
    ensure!(pause >= Duration::from_millis(2_900), "it came again after {pause:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_gone_is_disabled_and_its_owner_told() -> Result<()> {
    let setting = Setting::of(builder(), &["partners", "maily"]).await?;
    let acme = setting
        .party(
            "acme",
            &["--publish", "com.acme.#", "--receive", "com.acme.#", "--contact", "owner@acme.example"],
        )
        .await?;
    let receiver = Receiver::start().await?;
    let endpoint = acme.endpoint(&receiver, json!({})).await?;
    let id = text(&endpoint, "id")?;
    receiver.behave(Behaviour::status(410));
    acme.send(&event("1")).await?.expect(202)?;
    until(SOON, "it is disabled", async || {
        acme.shown(id).await.is_ok_and(|shown| shown["state"] == "disabled")
    })
    .await?;
    let mails = setting.world.smtp().wait_for(1, SOON).await?;
    let mail = &mails[0];
    ensure!(mail.to.iter().any(|to| to.contains("owner@acme.example")), "{mail:?}");
    // Nothing more is delivered; when it is enabled again, what it did not take comes first.
    acme.send(&event("2")).await?.expect(202)?;
    receiver.behave(Behaviour::status(200));
    acme.act(Method::POST, &format!("/partners/endpoints/{id}/enable")).await?.expect(200)?;
    let deliveries = receiver.wait(3, SOON).await?;
    let ids: Vec<String> = deliveries
        .iter()
        .map(|delivery| Ok(text(&delivery.event()?, "id")?.to_owned()))
        .collect::<Result<_>>()?;
    ensure!(
        ids[0] == "1" && ids[1..].contains(&"1".to_owned()) && ids[1..].contains(&"2".to_owned()),
        "{ids:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_for_too_long_is_disabled() -> Result<()> {
    let builder = builder()
        .env("ORRERY_PARTNERS__DELIVERY__DISABLE_AFTER", "2s")
        .env("ORRERY_PARTNERS__DELIVERY__WINDOW", "4");
    let setting = Setting::of(builder, &["partners"]).await?;
    let acme = Party::acme(&setting).await?;
    let receiver = Receiver::start().await?;
    let endpoint = acme.endpoint(&receiver, json!({"concurrency": 2})).await?;
    let id = text(&endpoint, "id")?;
    receiver.behave(Behaviour::status(500));
    let events: Vec<_> = (0..200).map(|number| event(&number.to_string())).collect();
    acme.send_all(&events).await?.expect(202)?;
    until(SOON, "it is disabled", async || {
        acme.shown(id).await.is_ok_and(|shown| shown["state"] == "disabled")
    })
    .await?;
    let kept = setting.world.database().count("SELECT count(*) FROM partners.deliveries").await?;
    ensure!(kept <= 5, "a dead endpoint costs {kept} rows");
    // Nothing is lost: enabled and healed, all of them come.
    receiver.behave(Behaviour::status(200));
    setting.command(&["enable", "--endpoint", id]).await?;
    until(SOON, "all come", async || {
        let mut ids: Vec<_> =
            receiver.deliveries().iter().map(|one| one.header("webhook-id").to_owned()).collect();
        ids.sort();
        ids.dedup();
        ids.len() == 200
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_keep_to_the_rate_of_their_endpoint() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let receiver = Receiver::start().await?;
    receiver
        .handshake(Some(&[("WebHook-Allowed-Origin", "orrery.example"), ("WebHook-Allowed-Rate", "120")]));
    let endpoint = acme.endpoint(&receiver, json!({"rate": 600})).await?;
    ensure!(endpoint["allowed_rate"] == 120, "{endpoint}");
    let events: Vec<_> = (0..5).map(|number| event(&number.to_string())).collect();
    acme.send_all(&events).await?.expect(202)?;
    let deliveries = receiver.wait(5, SOON).await?;
    let took = deliveries[4].at - deliveries[0].at;
    ensure!(took >= Duration::from_millis(1_900), "five came within {took:?}");
    Ok(())
}
