//! Webhooks: what is sent is delivered, signed, to those who want it; secrets rotate; what our own services tell is delivered too.

use anyhow::{Context, Result, ensure};
use lapin::BasicProperties;
use orrery_tests::deadline::until;
use reqwest::Method;
use serde_json::json;

use crate::{
    receiver::Receiver,
    setting::{Party, SOON, Setting, event, text},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_delivered_signed_to_whoever_subscribed() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let receiver = Receiver::start().await?;
    let endpoint = acme.endpoint(&receiver, json!({"types": ["com.acme.order."]})).await?;
    ensure!(endpoint["state"] == "active", "{endpoint}");
    let secret = text(&endpoint, "secret")?;
    setting.world.secret(secret);
    let question = receiver.requests("OPTIONS");
    ensure!(
        question.len() == 1 && question[0].header("webhook-request-origin") == "orrery.example",
        "{question:?}"
    );
    let mut other = event("0");
    other["type"] = json!("com.acme.other");
    acme.send_all(&[other, event("1")]).await?.expect(202)?;
    let delivered = receiver.wait(1, SOON).await?;
    let delivery = &delivered[0];
    ensure!(delivery.is_signed_by(secret)?, "{delivery:?}");
    ensure!(delivery.header("content-type").starts_with("application/cloudevents+json"));
    let read = delivery.event()?;
    ensure!(
        (&read["id"], &read["sourceclient"], &read["data"])
            == (&json!("1"), &json!("acme"), &json!({"total": 12})),
        "{read}"
    );
    // While a secret is rotated both sign.
    let id = text(&endpoint, "id")?;
    let rotated =
        acme.act(Method::POST, &format!("/partners/endpoints/{id}/rotate-secret")).await?.expect(200)?;
    let new = rotated.text("secret")?;
    setting.world.secret(new);
    let shown = acme.shown(id).await?;
    ensure!(shown.get("secret").is_none() && shown["previous_secret_until"].is_string(), "{shown}");
    until(SOON, "the worker has heard of it", async || {
        let count = receiver.deliveries().len();
        let sent = acme.send(&event(&format!("again-{count}"))).await;
        let came = receiver.wait(count + 1, SOON).await;
        sent.is_ok()
            && came.is_ok_and(|came| came.last().is_some_and(|last| last.is_signed_by(new).unwrap_or(false)))
    })
    .await?;
    let last = receiver.deliveries().pop().context("nothing")?;
    ensure!(last.is_signed_by(secret)? && last.is_signed_by(new)?, "{last:?}");
    // What lies in the database is sealed.
    let sealed =
        setting.world.database().text("SELECT secret FROM partners.endpoints").await?.context("none")?;
    ensure!(sealed.starts_with("v1."), "not sealed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_choose_by_attributes_and_expressions_and_what_is_not_supported_is_named() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let (by_attribute, by_sql) = (Receiver::start().await?, Receiver::start().await?);
    acme.endpoint(&by_attribute, json!({"attributes": {"subject": "b"}})).await?;
    let sql = "type LIKE 'com.acme.%' AND (subject = 'a' OR EXISTS urgent)";
    let endpoint = acme.endpoint(&by_sql, json!({"filter": sql})).await?;
    let send = async |id: &str, subject: &str, urgent: bool| -> Result<()> {
        let mut event = event(id);
        event["subject"] = json!(subject);
        if urgent {
            event["urgent"] = json!(true);
        }
        acme.send(&event).await?.expect(202)?;
        Ok(())
    };
    send("1", "a", false).await?;
    send("2", "b", false).await?;
    send("3", "c", true).await?;
    send("4", "b", true).await?;
    let ids = |receiver: &Receiver| -> Result<Vec<String>> {
        let mut ids = receiver
            .deliveries()
            .iter()
            .map(|delivery| Ok(text(&delivery.event()?, "id")?.to_owned()))
            .collect::<Result<Vec<_>>>()?;
        ids.sort();
        Ok(ids)
    };
    by_sql.wait(3, SOON).await?;
    by_attribute.wait(2, SOON).await?;
    ensure!(ids(&by_sql)? == ["1", "3", "4"] && ids(&by_attribute)? == ["2", "4"]);
    for (filter, part) in [
        ("LENGTH(subject) > 3", "functions are not supported: LENGTH"),
        ("count + 1 = 2", "arithmetic"),
        ("subject = ", "end"),
    ] {
        let path = format!("/partners/endpoints/{}", text(&endpoint, "id")?);
        let request = acme.client.request(Method::PATCH, &path).json(&json!({"filter": filter}));
        let problem = acme.client.send(request).await?.expect(422)?.problem()?;
        ensure!(problem.field("filter")?.message.contains(part), "{problem:?}");
    }
    let path = format!("/partners/endpoints/{}", text(&endpoint, "id")?);
    let request =
        acme.client.request(Method::PATCH, &path).json(&json!({"filter": null, "types": ["com.acme.x"]}));
    let changed = acme.client.send(request).await?.expect(200)?;
    ensure!(
        changed.body["filter"].is_null() && changed.body["types"] == json!(["com.acme.x"]),
        "{}",
        changed.body
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_our_services_tell_is_delivered_to_those_who_may_have_it() -> Result<()> {
    let setting = Setting::start().await?;
    let reader = setting.party("reader", &["--receive", "com.gravitalia.account.#"]).await?;
    let stranger = setting.party("stranger", &["--receive", "com.acme.#"]).await?;
    let (theirs, nothing) = (Receiver::start().await?, Receiver::start().await?);
    reader.endpoint(&theirs, json!({})).await?;
    stranger.endpoint(&nothing, json!({})).await?;
    let publish = async |id: &str| -> Result<()> {
        let ty = "com.gravitalia.account.created.v1";
        let body = json!({"specversion": "1.0", "id": id, "source": "com.gravitalia.autha", "type": ty,
            "sourceclient": "forged", "datacontenttype": "application/json", "data": {"account": id, "version": 1}});
        let properties = BasicProperties::default().with_content_type("application/cloudevents+json".into());
        setting.world.broker().publish_raw("events", ty, properties, body.to_string().as_bytes()).await
    };
    // Each twice, as a broker may deliver it.
    for id in ["1", "2", "1", "2"] {
        publish(id).await?;
    }
    let delivered = theirs.wait(2, SOON).await?;
    ensure!(
        delivered
            .iter()
            .all(|delivery| delivery.event().is_ok_and(|event| event.get("sourceclient").is_none()))
    );
    publish("3").await?;
    theirs.wait(3, SOON).await?;
    ensure!(theirs.deliveries().len() == 3 && nothing.deliveries().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_for_a_subject_also_when_one_of_it_fails() -> Result<()> {
    use crate::receiver::Behaviour;
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let receiver = Receiver::start().await?;
    acme.endpoint(&receiver, json!({"ordered": true, "concurrency": 8})).await?;
    let events: Vec<_> = (0..40)
        .map(|number| {
            let mut event = event(&number.to_string());
            event["subject"] = json!(format!("s{}", number % 4));
            event
        })
        .collect();
    receiver.behave(Behaviour::status(500));
    acme.send_all(&events).await?.expect(202)?;
    receiver.wait(6, SOON).await?;
    receiver.behave(Behaviour::status(204));
    let took = receiver.deliveries().len();
    // All 40 come once it takes them; what failed before comes among them.
    until(SOON, "all are taken", async || {
        let rows = "SELECT count(*) FROM partners.deliveries";
        let left = setting.world.database().count(rows).await.unwrap_or(1);
        receiver.deliveries().len() >= took + 34 && left == 0
    })
    .await?;
    let mut last: std::collections::BTreeMap<u64, u64> = std::collections::BTreeMap::new();
    for delivery in receiver.deliveries() {
        let id: u64 = text(&delivery.event()?, "id")?.parse()?;
        let before = last.insert(id % 4, id);
        // One may come again; none comes after a later one of its subject.
        ensure!(before.is_none_or(|before| before <= id), "{id} after {before:?}");
    }
    Ok(())
}
