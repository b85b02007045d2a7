//! Bad input, over the whole system: each gets a problem document that says what to do, nothing half-done stays behind, nothing
//! panics, and the service goes on. Beside it: whether `openapi.yaml` and the messages' schemas say what a running system does.

#![expect(clippy::indexing_slicing, reason = "what a JSON value lacks is null")]

mod bodies;
mod contract;
mod direct;
mod forge;
mod framing;
mod messages;
mod names;
mod pictures;
mod raw;
mod repeats;
mod sessions;
mod tokens;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orrery_tests::{Answer, Person, World};

/// The deadline of what comes by way of the broker.
const LONG: Duration = Duration::from_secs(20);
/// The `traceparent` of requests whose answers have to be the same to the last byte.
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// How long is watched for what must not come.
const WHILE: Duration = Duration::from_millis(500);

/// What a request may leave behind: rows by table, and objects.
#[derive(Debug, PartialEq, Eq)]
struct Footprint {
    accounts: i64,
    uploads: i64,
    sessions: i64,
    answers: i64,
    outbox: i64,
    dead_letters: i64,
    objects: usize,
}

impl Footprint {
    async fn of(world: &World) -> Result<Self> {
        let count =
            async |table: &str| world.database().count(&format!("SELECT count(*) FROM {table}")).await;
        Ok(Self {
            accounts: count("autha.accounts").await?,
            uploads: count("autha.uploads").await?,
            sessions: count("autha.refresh_tokens").await?,
            answers: count("autha.idempotency_keys").await?,
            outbox: count("bus.outbox").await?,
            dead_letters: count("bus.dead_letters").await?,
            objects: world.objects()?.len(),
        })
    }
}

/// Expects a problem of this kind, about this field if any; `what` names the case.
fn refused(what: &str, answer: &Answer, status: u16, slug: &str, field: Option<&str>) -> Result<()> {
    let shown = String::from_utf8_lossy(&answer.bytes).into_owned();
    ensure!(answer.status == status, "{what}: {status} expected, got {}: {shown}", answer.status);
    let problem = answer.problem().with_context(|| what.to_owned())?;
    ensure!(problem.kind == format!("urn:orrery:problem:{slug}"), "{what}: {shown}");
    if let Some(field) = field {
        let fault = problem.field(field).with_context(|| what.to_owned())?;
        ensure!(!fault.message.is_empty() && !fault.code.is_empty(), "{what}: {shown}");
    }
    let waits = answer.header("retry-after").is_some();
    ensure!(waits == matches!(status, 429 | 503), "{what}: Retry-After is wrong in a {status}");
    Ok(())
}

/// Sees that nothing was left behind, and that the service does its work.
async fn unharmed(world: &World, before: &Footprint) -> Result<()> {
    ensure!(Footprint::of(world).await? == *before, "{:?} left of {before:?}", Footprint::of(world).await?);
    let client = world.client()?;
    client.get("/health/ready").await?.expect(200)?;
    client.signed_up(&Person::new()).await?.me().await?.expect(200)?;
    let leftovers = world.leftovers();
    ensure!(leftovers.is_empty(), "{leftovers:?}");
    Ok(())
}
