//! `POST /events`: what is taken in lands on the broker once, what is not is refused with its reason, event by event.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cloudevents::AttributesReader as _;
use lapin::{options::QueueBindOptions, options::QueueDeclareOptions, types::FieldTable};
use orrery_tests::{Answer, deadline::until};
use reqwest::Method;
use serde_json::{Value, json};

use crate::setting::{Party, SOON, Setting, builder, event};

/// A queue that hears all that third parties send over HTTP.
async fn queue(setting: &Setting) -> Result<&'static str> {
    let channel = setting.world.broker().channel().await?;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("test.all".into(), options, FieldTable::default()).await?;
    let options = QueueBindOptions::default();
    channel
        .queue_bind("test.all".into(), "partners".into(), "#".into(), options, FieldTable::default())
        .await?;
    Ok("test.all")
}

async fn post(party: &Party, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    let mut request = party.client.request(Method::POST, "/events");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    party.client.send(request.body(body.to_vec())).await
}

fn statuses(answer: &Answer) -> Vec<&str> {
    let results = answer.body["results"].as_array().map(Vec::as_slice).unwrap_or_default();
    results.iter().filter_map(|result| result["status"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_lands_on_the_broker_once_with_its_proven_sender() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let queue = queue(&setting).await?;
    let answer = acme.send(&event("1")).await?.expect(202)?;
    ensure!(statuses(&answer) == ["accepted"], "{}", answer.body);
    ensure!(statuses(&acme.send(&event("1")).await?.expect(202)?) == ["duplicate"]);
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "2"),
        ("ce-source", "/acme/shop"),
        ("ce-type", "com.acme.order.v1"),
        ("ce-subject", "Euro%20%E2%82%AC"),
        ("ce-count", "5"),
        ("content-type", "text/plain"),
    ];
    post(&acme, &binary, b"hello").await?.expect(202)?;
    setting.world.broker().wait_depth(queue, SOON, |depth| depth.ready == 2).await?;
    let message = setting.world.broker().get_one(queue).await?.context("no message")?;
    ensure!(message.routing_key == "com.acme.order.v1", "{}", message.routing_key);
    let first = cloudevents_amqp::decode(&message.properties, &message.body)?;
    ensure!((first.id(), first.source().as_str()) == ("1", "/acme/shop"));
    ensure!(first.extension("sourceclient").map(ToString::to_string).as_deref() == Some("acme"));
    let message = setting.world.broker().get_one(queue).await?.context("no message")?;
    let second = cloudevents_amqp::decode(&message.properties, &message.body)?;
    ensure!(second.subject() == Some("Euro €") && *message.body == *b"hello", "{second:?}");
    let sent = "SELECT count(*) FROM bus.outbox WHERE producer = 'partners' AND status = 'sent'";
    until(SOON, "both are settled", async || {
        setting.world.database().count(sent).await.is_ok_and(|sent| sent == 2)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_answered_event_by_event() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let mut foreign = event("3");
    foreign["type"] = json!("com.beta.order");
    let mut claimed = event("4");
    claimed["sourceclient"] = json!("beta");
    let batch = [event("1"), event("2"), event("1"), foreign, claimed, json!({"specversion": "1.0"})];
    let answer = acme.send_all(&batch).await?.expect(207)?;
    ensure!(
        statuses(&answer) == ["accepted", "accepted", "duplicate", "refused", "refused", "refused"],
        "{}",
        answer.body
    );
    ensure!(answer.body["results"][3]["type"] == "urn:orrery:problem:forbidden", "{}", answer.body);
    ensure!(answer.body["results"][4]["detail"].as_str().is_some_and(|text| text.contains("sourceclient")));
    let answer = acme.send_all(&[event("1"), event("5")]).await?.expect(202)?;
    ensure!(statuses(&answer) == ["duplicate", "accepted"], "{}", answer.body);
    acme.send_all(&[json!({})]).await?.expect(422)?;
    acme.send_all(&[]).await?.expect(202)?;
    let logged = setting.world.database().count("SELECT count(*) FROM partners.log").await?;
    let leaving =
        setting.world.database().count("SELECT count(*) FROM bus.outbox WHERE producer = 'partners'").await?;
    ensure!((logged, leaving) == (3, 3), "{logged} {leaving}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_binding_forbids_is_refused_with_its_reason() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let base =
        [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/acme"), ("ce-type", "com.acme.order.v1")];
    let with = |more: &[(&'static str, &'static str)]| base.iter().chain(more).copied().collect::<Vec<_>>();
    let structured = ("content-type", "application/cloudevents+json");
    let bad64 = event("1").to_string().replace(r#""data":{"total":12}"#, r#""data_base64":"*""#);
    let both = event("1").to_string().replace(r#""data":"#, r#""data_base64":"AA==","data":"#);
    for (headers, body, status, part) in [
        (vec![], &b"{}"[..], 400, "specversion"),
        (with(&[("ce-time", "noon")]), b"", 400, "time"),
        (with(&[("ce-subject", "%E2%82")]), b"", 400, "subject"),
        (with(&[("ce-subject", "%")]), b"", 400, "%25"),
        (with(&[("ce-datacontenttype", "text/plain")]), b"", 400, "Content-Type"),
        (with(&[("content-type", "application/json")]), b"{", 400, "json"),
        (with(&[("content-type", "application/cloudevents+avro")]), b"", 415, "binary"),
        (with(&[("ce-sourceclient", "acme")]), b"", 422, "sourceclient"),
        (with(&[("ce-expirytime", "2020-01-01T00:00:00Z")]), b"", 422, "expirytime"),
        (vec![structured], b"[]", 400, "object"),
        (vec![structured], bad64.as_bytes(), 400, "base64"),
        (vec![structured], both.as_bytes(), 400, "both"),
        (vec![structured, ("ce-id", "2")], event("1").to_string().as_bytes(), 400, "one mode"),
        (vec![("content-type", "application/cloudevents-batch+json")], b"{}", 400, "array"),
    ] {
        let answer = post(&acme, &headers, body).await?.expect(status)?;
        let detail = answer.problem()?.detail;
        ensure!(detail.contains(part), "{part}: {detail}");
    }
    let mut large = event("large");
    large["data"] = json!("x".repeat(1024 * 1024));
    acme.send(&large).await?.expect(413)?;
    large["data"] = json!("x".repeat(1000 * 1024));
    acme.send(&large).await?.expect(202)?;
    // Nothing at all is claimed without a token, or with one for something else.
    let nobody = setting.client()?;
    let answer = nobody.send(nobody.request(Method::POST, "/events").body("{}")).await?.expect(401)?;
    ensure!(answer.header("www-authenticate") == Some("Bearer"));
    let reader = setting.token(&acme.name, &acme.secret, "events:subscribe").await?;
    reader.send(reader.request(Method::POST, "/events").body("{}")).await?.expect(403)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_sends_its_own_types_from_its_own_sources_within_its_quota() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = setting
        .party("acme", &["--publish", "com.acme.*", "--source", "/acme/shop", "--events-per-minute", "4"])
        .await?;
    for (field, value) in [
        ("type", "com.acme.order.v1"),
        ("type", "com.gravitalia.account.created.v1"),
        ("source", "/acme"),
        ("source", "com.gravitalia.autha"),
    ] {
        let mut event = event("1");
        event["type"] = json!("com.acme.order");
        event[field] = json!(value);
        acme.send(&event).await?.expect(403)?;
    }
    let mut allowed = event("1");
    allowed["type"] = json!("com.acme.order");
    let answer = acme.send(&allowed).await?.expect(429)?;
    ensure!(answer.header("retry-after").is_some(), "refused events count too: whoever tries is slowed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_fits_the_registered_schema_and_versions_stay_compatible() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let file = setting.world.folder().join("schema.json");
    let path = file.to_str().context("no path")?;
    let mut schema = json!({"type": "object", "required": ["total"], "additionalProperties": false,
        "properties": {"total": {"type": "integer"}}});
    std::fs::write(&file, schema.to_string())?;
    let register = ["register", "com.acme.order.v1", path];
    ensure!(setting.command(&register).await?.contains("version 1"));
    acme.send(&event("1")).await?.expect(202)?;
    let mut wrong = event("2");
    wrong["data"] = json!({"total": "secret value"});
    let detail = acme.send(&wrong).await?.expect(422)?.problem()?.detail;
    ensure!(detail.contains("/total") && !detail.contains("secret value"), "{detail}");
    wrong["data"] = Value::Null;
    acme.send(&wrong).await?.expect(422)?;
    schema["properties"]["note"] = json!({"type": "string"});
    std::fs::write(&file, schema.to_string())?;
    ensure!(setting.command(&register).await?.contains("version 2"));
    schema["required"] = json!(["total", "note"]);
    std::fs::write(&file, schema.to_string())?;
    let all = ["partners", "register", "com.acme.order.v1", path];
    let refused = setting.world.run(&all, SOON).await?;
    ensure!(!refused.status.success() && refused.output.contains("required"), "{}", refused.output);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_in_while_the_broker_is_away_arrives_when_it_is_back() -> Result<()> {
    let setting = Setting::of(builder(), &["partners"]).await?;
    let acme = Party::acme(&setting).await?;
    let queue = queue(&setting).await?;
    setting.world.proxies().broker.cut().await;
    acme.send(&event("1")).await?.expect(202)?;
    setting.world.proxies().broker.restore().await?;
    setting.world.broker().wait_depth(queue, SOON, |depth| depth.ready == 1).await?;
    setting.world.proxies().postgres.cut().await;
    let answer = acme.send(&event("2")).await?;
    ensure!(answer.status == 503 && answer.header("retry-after").is_some(), "{}", answer.status);
    setting.world.proxies().postgres.restore().await?;
    until(SOON, "events are taken again", async || {
        acme.send(&event("2")).await.is_ok_and(|answer| answer.status == 202)
    })
    .await?;
    setting.world.broker().wait_depth(queue, SOON + Duration::from_secs(5), |depth| depth.ready == 2).await?;
    Ok(())
}
