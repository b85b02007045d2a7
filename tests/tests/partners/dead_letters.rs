//! What an endpoint does not take for days is a dead letter, which is listed and replayed: one, those of a time, or all.

use anyhow::{Context, Result, ensure};
use orrery_tests::deadline::until;
use serde_json::json;

use crate::{
    receiver::{Behaviour, Receiver},
    setting::{Party, SOON, Setting, builder, event, text},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_and_replayed() -> Result<()> {
    let builder = builder().env("ORRERY_PARTNERS__DELIVERY__GIVE_UP_AFTER", "1s");
    let setting = Setting::of(builder, &["partners"]).await?;
    let acme = Party::acme(&setting).await?;
    let receiver = Receiver::start().await?;
    let endpoint = acme.endpoint(&receiver, json!({})).await?;
    let id = text(&endpoint, "id")?;
    receiver.behave(Behaviour::status(404));
    let events: Vec<_> = (0..3).map(|number| event(&number.to_string())).collect();
    acme.send_all(&events).await?.expect(202)?;
    until(SOON, "all three are dead", async || {
        acme.shown(id).await.is_ok_and(|shown| shown["dead_letters"] == 3)
    })
    .await?;
    let path = format!("/partners/endpoints/{id}/dead-letters");
    let listed = acme.client.get(&path).await?.expect(200)?.body;
    let letters = listed["dead_letters"].as_array().context("no list")?;
    ensure!(letters[0]["last_status"] == 404 && letters[0].get("event").is_none(), "{listed}");
    let printed = setting.command(&["dead-letters", id]).await?;
    ensure!(printed.lines().filter(|line| line.contains("webhook_id")).count() == 3, "{printed}");
    receiver.behave(Behaviour::status(200));
    let before = receiver.deliveries().len();
    let replay = format!("/partners/endpoints/{id}/replay");
    acme.post(&replay, &json!({})).await?.expect(422)?;
    let one = acme.post(&replay, &json!({"position": letters[1]["position"]})).await?.expect(200)?.body;
    ensure!(one["replayed"] == 1, "{one}");
    let delivered = receiver.wait(before + 1, SOON).await?;
    ensure!(delivered.last().context("none")?.event()?["id"] == "1");
    let none = acme.post(&replay, &json!({"until": "2020-01-01T00:00:00Z"})).await?.expect(200)?.body;
    ensure!(none["replayed"] == 0, "{none}");
    ensure!(setting.command(&["replay", id, "--all"]).await?.contains("2 are"));
    receiver.wait(before + 3, SOON).await?;
    until(SOON, "none is left", async || {
        acme.shown(id).await.is_ok_and(|shown| shown["dead_letters"] == 0 && shown["waiting"] == 0)
    })
    .await?;
    Ok(())
}

/// The figure of a line of a page of metrics.
fn figure(page: &str, name: &str, label: &str) -> f64 {
    let line = page.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
    });
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(-1.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_tries_delays_and_endpoints_and_name_no_endpoint() -> Result<()> {
    let builder = builder().env("ORRERY_PARTNERS__DELIVERY__GIVE_UP_AFTER", "1s");
    let setting = Setting::of(builder, &["partners"]).await?;
    let acme = Party::acme(&setting).await?;
    let (heals, fails) = (Receiver::start().await?, Receiver::start().await?);
    acme.endpoint(&heals, json!({})).await?;
    let failing = acme.endpoint(&fails, json!({})).await?;
    fails.behave(Behaviour::status(404));
    ensure!(
        figure(&setting.service.metrics().await?, "orrery_webhooks_deliveries_total", "\"dead\"") == 0.0,
        "nothing is shown before the first delivery"
    );
    acme.send_all(&[event("1"), event("2")]).await?.expect(202)?;
    // The one takes two at the first try; the other gives two up.
    until(SOON, "all is counted", async || {
        let Ok(page) = setting.service.metrics().await else { return false };
        let tries = |outcome: &str| figure(&page, "orrery_webhooks_deliveries_total", outcome);
        tries("\"taken\"") == 2.0
            && tries("\"dead\"") == 2.0
            && tries("\"retry\"") >= 2.0
            && figure(&page, "orrery_webhooks_not_taken", "\"dead\"") == 2.0
            && figure(&page, "orrery_webhooks_endpoints", "\"active\"") == 1.0
            && figure(&page, "orrery_webhooks_endpoints", "\"failing\"") == 1.0
    })
    .await?;
    let page = setting.service.metrics().await?;
    let attempts = |outcome: &str| figure(&page, "orrery_webhooks_attempts_sum", outcome);
    ensure!(attempts("\"taken\"") == 2.0 && attempts("\"dead\"") >= 4.0, "{page}");
    ensure!(figure(&page, "orrery_webhooks_delay_seconds_count", "") == 2.0, "{page}");
    // What is taken at a later try counts from the commit too.
    fails.behave(Behaviour::status(200));
    let id = text(&failing, "id")?;
    acme.post(&format!("/partners/endpoints/{id}/replay"), &json!({"all": true})).await?.expect(200)?;
    until(SOON, "what was replayed is counted", async || {
        setting.service.metrics().await.is_ok_and(|page| {
            figure(&page, "orrery_webhooks_delay_seconds_count", "") == 4.0
                && figure(&page, "orrery_webhooks_delay_seconds_sum", "") >= 2.0
        })
    })
    .await?;
    let page = setting.service.metrics().await?;
    let ours: String = page.lines().filter(|line| line.starts_with("orrery_webhooks_")).collect();
    ensure!(!ours.contains(id) && !ours.contains("127.0.0.1") && !ours.contains("acme"), "{ours}");
    Ok(())
}
