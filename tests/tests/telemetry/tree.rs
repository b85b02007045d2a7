//! A trace is one tree over every service of a request, what it brings about, and a retry.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use orrery_tests::{Client, Person, World, eventually, pictures};
use reqwest::Method;
use serde_json::json;

use super::{
    LONG,
    rotel::Rotel,
    sending,
    sink::{Sink, Span},
};

pub const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
pub const CALLER: &str = "00f067aa0ba902b7";
pub const STATE: &str = "congo=t61rcWkgMzE";

/// Signs somebody up and uploads a picture within the caller's trace; the first try of the mail fails.
pub async fn flow(world: &World, flags: &str) -> Result<()> {
    world.smtp().reply_to_data(451, "come again");
    let (person, client) = (Person::new(), world.client()?);
    let body = json!({
        "id": person.id, "email": person.email, "password": person.password, "locale": person.locale
    });
    let within = |request: reqwest::RequestBuilder| {
        request.header("traceparent", format!("00-{TRACE}-{CALLER}-{flags}")).header("tracestate", STATE)
    };
    let signed_up = client.send(within(client.request(Method::POST, "/create")).json(&body)).await?;
    let client = client.with_token(signed_up.expect(201)?.text("access_token")?);
    world.smtp().wait_until(|mails| mails.iter().any(|mail| mail.is_to(&person.email)), LONG).await?;
    let upload = within(client.request(Method::PUT, "/users/@me/avatar"))
        .header("content-type", "image/png")
        .body(pictures::gradient_png(64, 64)?);
    let answer = client.send(upload).await?.expect(202)?;
    client.wait_upload(answer.location()?, LONG).await?;
    Ok(())
}

pub fn named<'a>(spans: &'a [Span], service: &'a str, name: &'a str) -> impl Iterator<Item = &'a Span> {
    spans.iter().filter(move |span| span.service == service && span.name == name)
}

/// The spans of the trace, once those that end last are there.
async fn collected(sink: &Sink) -> Result<Vec<Span>> {
    let whole = eventually(LONG, "the spans of the whole flow", async || {
        let spans: Vec<_> = sink.spans().into_iter().filter(|span| span.trace == TRACE).collect();
        let tries = named(&spans, "orrery-maily", "process maily.email").count();
        let results = named(&spans, "orrery-autha", "process autha.pictures").count();
        // Each process sends when it likes, a child before its parent.
        let known: BTreeSet<_> = spans.iter().map(|span| span.id.clone()).collect();
        let is_whole = spans.iter().all(|span| span.parent == CALLER || known.contains(&span.parent));
        (tries >= 2 && results >= 1 && is_whole).then_some(spans)
    });
    whole.await.with_context(|| {
        let names: BTreeSet<_> = sink
            .spans()
            .into_iter()
            .map(|span| format!("{} {} {}", span.trace, span.service, span.name))
            .collect();
        format!("{names:#?}")
    })
}

async fn is_one_tree(protocol: &str) -> Result<()> {
    let sink = Sink::start().await?;
    let rotel = Rotel::start(&sink).await?;
    let endpoint = if protocol == "grpc" { rotel.grpc_url() } else { rotel.http_url() };
    let world = sending(&endpoint, protocol).env("ORRERY_MAILY__RETRY_DELAY", "1s").start().await?;
    let _processes = [
        world.spawn(&["autha"]).await?,
        world.spawn(&["maily"]).await?,
        world.spawn(&["spinoza"]).await?,
        world.spawn(&["gateway"]).await?,
    ];
    flow(&world, "01").await?;
    let spans = collected(&sink).await?;
    let by_id: HashMap<_, _> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    ensure!(by_id.len() == spans.len(), "a span came twice");
    let parent = |span: &Span| by_id.get(span.parent.as_str()).copied();

    for span in &spans {
        let is_root = span.parent == CALLER;
        ensure!(is_root || parent(span).is_some(), "the parent of {span:#?} is missing");
        ensure!(!is_root || span.service == "orrery-gateway", "the caller asked the gateway: {span:#?}");
        ensure!(span.state == STATE, "{span:#?}");
    }
    let services: BTreeSet<_> = spans.iter().map(|span| span.service.as_str()).collect();
    let expected = ["orrery-autha", "orrery-gateway", "orrery-maily", "orrery-spinoza"];
    ensure!(services == BTreeSet::from(expected), "{services:?}");

    // The retry: two tries below the one message, which autha sent because of the request that the gateway took in.
    let tries: Vec<_> = named(&spans, "orrery-maily", "process maily.email").collect();
    ensure!(tries.iter().all(|span| span.kind == SpanKind::Consumer), "{tries:#?}");
    let mut attempts: Vec<_> =
        tries.iter().map(|span| (span.attributes["orrery.attempt"].as_str(), span.failed)).collect();
    attempts.sort_unstable();
    ensure!(attempts == [("0", true), ("1", false)], "{attempts:?}");
    ensure!(tries[0].parent == tries[1].parent, "{tries:#?}");
    let sent = parent(tries[0]).context("who sent the mail's command")?;
    ensure!(sent.kind == SpanKind::Producer && sent.name == "publish maily.email", "{sent:#?}");
    ensure!(sent.attributes["messaging.system"] == "rabbitmq", "{sent:#?}");
    let answered = parent(sent).context("the request that the command is of")?;
    ensure!(answered.service == "orrery-autha" && answered.name == "POST /create", "{answered:#?}");
    ensure!(answered.attributes["http.response.status_code"] == "201", "{answered:#?}");
    ensure!(answered.kind == SpanKind::Server, "{answered:#?}");
    let called = parent(answered).context("the gateway's call")?;
    ensure!(called.service == "orrery-gateway" && called.kind == SpanKind::Client, "{called:#?}");
    let taken = parent(called).context("the gateway's request")?;
    ensure!(taken.name == "POST /create" && taken.parent == CALLER, "{taken:#?}");

    // What was done: statements, objects, mails.
    ensure!(
        tries
            .iter()
            .all(|attempt| named(&spans, "orrery-maily", "smtp send").any(|mail| mail.parent == attempt.id))
    );
    for (service, name) in [
        ("orrery-autha", "INSERT bus.outbox"),
        ("orrery-spinoza", "INSERT bus.outbox"),
        ("orrery-autha", "S3/PutObject"),
        ("orrery-spinoza", "S3/GetObject"),
        ("orrery-spinoza", "S3/PutObject"),
        ("orrery-spinoza", "optimize picture"),
    ] {
        let mut found = named(&spans, service, name).peekable();
        ensure!(found.peek().is_some(), "{service} has no span '{name}': {spans:#?}");
    }
    // The result of the picture comes back below the try that made it.
    let result = named(&spans, "orrery-autha", "process autha.pictures").next().context("the result")?;
    let told = parent(result).context("who told the result")?;
    let made = parent(told).context("who made it")?;
    ensure!(made.service == "orrery-spinoza" && made.name == "process spinoza.images", "{made:#?}");
    drop(world);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_is_one_tree_over_all_services_and_a_retry() -> Result<()> {
    is_one_tree("grpc").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_http_it_is_the_same_tree() -> Result<()> {
    is_one_tree("http").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_the_log_are_in_the_trace_that_they_belong_to() -> Result<()> {
    let sink = Sink::start().await?;
    let world = sending(&sink.url(), "http").env("ORRERY_MAILY__RETRY_DELAY", "1s").start().await?;
    let _service = world.spawn(&[]).await?;
    flow(&world, "01").await?;
    let retried = eventually(LONG, "the line of the failed try", async || {
        sink.records().into_iter().find(|record| record.body == "failed, is tried once more")
    });
    let retried = retried.await?;
    ensure!(retried.trace == TRACE && retried.severity == "WARN", "{retried:?}");
    ensure!(retried.service == "orrery", "{retried:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_of_ours_decides_what_is_recorded_and_one_outside_does_not() -> Result<()> {
    let sink = Sink::start().await?;
    let world = sending(&sink.url(), "http").env("ORRERY_TELEMETRY__SAMPLING", "0.0").start().await?;
    let service = world.spawn(&["autha", "gateway"]).await?;
    let (outside, inside) = (world.client()?, Client::new(&service.autha_url())?);
    let (unsampled, forced) = ("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000001");
    for (client, trace, flag) in
        [(&inside, unsampled, "00"), (&outside, forced, "01"), (&inside, TRACE, "01")]
    {
        let request = client.request(Method::GET, "/status.json");
        client
            .send(request.header("traceparent", format!("00-{trace}-{CALLER}-{flag}")))
            .await?
            .expect(200)?;
    }
    outside.get("/status.json").await?.expect(200)?;
    eventually(LONG, "the sampled trace", async || {
        sink.spans().into_iter().any(|span| span.trace == TRACE).then_some(())
    })
    .await?;
    let others: Vec<_> = sink.spans().into_iter().filter(|span| span.trace != TRACE).collect();
    ensure!(others.is_empty(), "{others:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_while_it_is_off() -> Result<()> {
    let sink = Sink::start().await?;
    let world = sending(&sink.url(), "http").env("ORRERY_TELEMETRY__ENABLED", "false").start().await?;
    let mut service = world.spawn(&[]).await?;
    flow(&world, "01").await?;
    service.terminate(LONG).await?;
    ensure!(sink.requests() == 0, "{} requests came", sink.requests());
    Ok(())
}
