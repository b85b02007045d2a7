//! Somebody else's `tracestate` is passed on through every service and message, also where nothing is recorded.

use anyhow::{Result, ensure};

use super::{
    sending,
    sink::Sink,
    tree::{STATE, TRACE, flow},
};

/// What the messages of a whole flow carry, by who sent them.
async fn carried(settings: &[(&str, &str)], flags: &str) -> Result<String> {
    let sink = Sink::start().await?;
    let mut world = sending(&sink.url(), "http").env("ORRERY_MAILY__RETRY_DELAY", "1s");
    for (name, value) in settings {
        world = world.env(name, value);
    }
    let world = world.start().await?;
    let _service = world.spawn(&[]).await?;
    flow(&world, flags).await?;
    let rows = format!(
        "SELECT string_agg(DISTINCT producer || ' ' || coalesce(tracestate, 'none'), ', ') \
         FROM bus.outbox WHERE traceparent LIKE '00-{TRACE}-%'"
    );
    let carried = world.database().text(&rows).await?.unwrap_or_default();
    ensure!(sink.spans().is_empty(), "this is about traces that are not recorded: {:#?}", sink.spans());
    Ok(carried)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tracestate_is_carried_where_telemetry_is_off() -> Result<()> {
    let carried = carried(&[("ORRERY_TELEMETRY__ENABLED", "false")], "01").await?;
    ensure!(carried == format!("autha {STATE}, spinoza {STATE}"), "{carried}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tracestate_is_carried_where_the_trace_is_not_recorded() -> Result<()> {
    let carried = carried(&[("ORRERY_TELEMETRY__SAMPLING", "0.0")], "00").await?;
    ensure!(carried == format!("autha {STATE}, spinoza {STATE}"), "{carried}");
    Ok(())
}
