//! Work on many messages at once is a span of its own, which is linked to the traces of those messages.

use anyhow::{Context, Result, ensure};
use orrery_tests::{Client, Person, eventually};
use reqwest::Method;
use serde_json::json;

use super::{
    LONG, sending,
    sink::{Sink, Span},
    tree::{CALLER, TRACE, named},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_the_relay_and_of_claims_are_linked_to_the_traces_of_their_messages() -> Result<()> {
    let sink = Sink::start().await?;
    // What begins here is not recorded: what comes is of the caller's trace, or was linked to it.
    let world = sending(&sink.url(), "http").env("ORRERY_TELEMETRY__SAMPLING", "0.0").start().await?;
    let service = world.spawn(&[]).await?;
    let (person, other) = (Person::new(), Person::new());
    let inside = Client::new(&service.autha_url())?;
    for (person, trace) in [(&other, None), (&person, Some(TRACE))] {
        let body = json!({
            "id": person.id, "email": person.email, "password": person.password, "locale": person.locale
        });
        let mut request = inside.request(Method::POST, "/create").json(&body);
        if let Some(trace) = trace {
            request = request.header("traceparent", format!("00-{trace}-{CALLER}-01"));
        }
        inside.send(request).await?.expect(201)?;
        world.smtp().wait_until(|mails| mails.iter().any(|mail| mail.is_to(&person.email)), LONG).await?;
    }
    let batches = ["publish batch", "claim maily.email", "settle maily.email"];
    let linked = |spans: &[Span], name: &str| -> Option<Span> {
        named(spans, "orrery", name).find(|span| span.links.iter().any(|trace| trace == TRACE)).cloned()
    };
    let spans = eventually(LONG, "the spans of the batches", async || {
        let spans = sink.spans();
        batches.iter().all(|name| linked(&spans, name).is_some()).then_some(spans)
    });
    let spans = spans.await.with_context(|| format!("{:#?}", sink.spans()))?;
    for name in batches {
        let batch = linked(&spans, name).context("a batch")?;
        ensure!(batch.trace != TRACE && batch.parent.is_empty(), "a batch is below none: {batch:#?}");
        ensure!(batch.attributes.contains_key("messaging.batch.message_count"), "{batch:#?}");
        // A statement for all of them is told once, below the batch.
        let below = spans.iter().any(|span| span.parent == batch.id && span.trace == batch.trace);
        ensure!(below, "nothing is below {batch:#?}");
    }
    for span in spans.iter().filter(|span| span.trace != TRACE) {
        let root = spans.iter().find(|root| root.trace == span.trace && !root.links.is_empty());
        ensure!(
            root.is_some_and(|root| root.links.contains(&TRACE.to_owned())),
            "nobody asked for {span:#?}"
        );
    }
    Ok(())
}
