//! What the relay makes of rows that a broker does not take, does not route, or closes the channel for: each holds up nobody but itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lapin::{
    ExchangeKind,
    options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use orrery_tests::{Person, Service, World, deadline::eventually};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

/// Rows as autha writes them; `n` counts from 1 in the expressions for key and data.
async fn write(world: &World, rows: u32, exchange: &str, key: &str, data: &str) -> Result<()> {
    world
        .database()
        .execute(&format!(
            "INSERT INTO bus.outbox (id, producer, source, type, time, expires_at, exchange, routing_key, data) \
             SELECT gen_random_uuid(), 'autha', 'com.gravitalia.autha', 'test.' || coalesce(nullif('{exchange}', ''), 'queue'), now(), \
                    now() + interval '7 days', '{exchange}', {key}, {data} FROM generate_series(1, {rows}) AS n"
        ))
        .await
}

async fn queue(world: &World, name: &str, limit: Option<i64>) -> Result<()> {
    let mut arguments = FieldTable::default();
    if let Some(limit) = limit {
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(limit));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    }
    let channel = world.broker().channel().await?;
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await?;
    Ok(())
}

async fn wait_count(world: &World, count: i64, condition: &str) -> Result<()> {
    let sql = format!("SELECT count(*) FROM bus.outbox WHERE {condition}");
    let waited = eventually(SOON, &format!("{count} rows with {condition}"), async || {
        (world.database().count(&sql).await.ok()? == count).then_some(())
    })
    .await;
    if waited.is_err() {
        let rows = "SELECT type, status, attempts, refusals, suspicion, last_error, count(*) FROM bus.outbox \
                    GROUP BY 1, 2, 3, 4, 5, 6 LIMIT 20";
        return waited
            .with_context(|| "see the rows")
            .context(format!("{:#?}", world.database().rows(rows).await?));
    }
    waited
}

async fn relay(service: &Service) -> Result<Value> {
    let answer =
        orrery_tests::Client::new(&service.internal_url())?.get("/health/actors").await?.expect(200)?;
    let actors = answer.body.as_array().cloned().unwrap_or_default();
    actors.into_iter().find(|actor| actor["name"] == "autha.relay").context("no relay")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_holds_up_only_its_own_rows_until_there_is_room() -> Result<()> {
    let world = World::start().await?;
    queue(&world, "full", Some(1)).await?;
    queue(&world, "free", None).await?;
    let service = world.spawn(&["gateway", "autha"]).await?;
    write(&world, 5, "", "'full'", "'{}'").await?;
    wait_count(&world, 4, "routing_key = 'full' AND status = 'pending' AND refusals >= 2").await?;
    write(&world, 500, "", "'free'", "'{}'").await?;
    world.broker().wait_depth("free", Duration::from_secs(5), |depth| depth.ready == 500).await?;
    ensure!(relay(&service).await?["restarts"] == 0, "{}", relay(&service).await?);
    for _ in 0..4 {
        eventually(SOON, "a message in the full queue", async || {
            world.broker().get_one("full").await.ok().flatten()
        })
        .await?;
    }
    wait_count(&world, 505, "status = 'sent'").await?;
    world.broker().wait_depth("full", SOON, |depth| depth.ready == 1).await?;
    let told = service.log().matches("refused by the broker").count();
    ensure!((1..=4).contains(&told), "told {told} times");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn returned_and_routed_rows_of_one_batch_are_told_apart() -> Result<()> {
    let world = World::start().await?;
    // A quorum queue confirms late and many at once: returns and confirms then come in different orders.
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let channel = world.broker().channel().await?;
    channel.queue_declare("bound".into(), QueueDeclareOptions::durable(), quorum).await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    write(
        &world,
        3000,
        "",
        "CASE n % 3 WHEN 0 THEN 'nowhere' ELSE 'bound' END",
        "jsonb_build_object('n', n)",
    )
    .await?;
    wait_count(&world, 0, "status = 'pending'").await?;
    wait_count(&world, 1000, "status = 'unrouted' AND routing_key = 'nowhere'").await?;
    wait_count(&world, 2000, "status = 'sent' AND routing_key = 'bound'").await?;
    world.broker().wait_depth("bound", SOON, |depth| depth.ready == 2000).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_be_published_is_failed_shown_and_in_nobodys_way() -> Result<()> {
    let world = World::start().await?;
    queue(&world, "free", None).await?;
    // Nobody may publish to an internal exchange: the broker closes the channel for it.
    let internal = ExchangeDeclareOptions { internal: true, ..ExchangeDeclareOptions::default() };
    let channel = world.broker().channel().await?;
    channel.exchange_declare("inner".into(), ExchangeKind::Fanout, internal, FieldTable::default()).await?;
    let service = world.spawn(&["gateway", "autha"]).await?;
    write(&world, 1, "", "repeat('k', 300)", "'{}'").await?;
    write(&world, 1, "", "'free'", "to_jsonb(repeat('x', 1100000))").await?;
    write(&world, 1, "", "'free'", "to_jsonb(repeat('x', 9000000))").await?;
    write(&world, 1, "inner", "'key'", "'{}'").await?;
    write(&world, 1, "missing", "'key'", "'{}'").await?;
    write(&world, 300, "", "'free'", "'{}'").await?;
    wait_count(&world, 300, "status = 'sent'").await?;
    wait_count(&world, 1, "status = 'unrouted' AND last_error LIKE '%no exchange%'").await?;
    wait_count(&world, 4, "status = 'failed'").await?;
    world.broker().wait_depth("free", SOON, |depth| depth.ready == 300).await?;
    // lapin may still send what it had queued for a channel that the broker has closed, and the broker then closes the connection: once, since
    // suspects have one of their own from then on.
    ensure!(relay(&service).await?["restarts"].as_u64() <= Some(1), "{}", relay(&service).await?);

    let listed = world.run(&["events", "list", "--failed"], SOON).await?;
    for why in ["routing key has 300 bytes", "1100002 bytes", "ACCESS_REFUSED", "4 of 4"] {
        ensure!(listed.output.contains(why), "no {why} in {}", listed.output);
    }
    ensure!(service.log().matches("can never be published").count() == 4, "not logged once for each");

    // Long afterwards, once the cause is gone, it is published as news.
    world
        .database()
        .execute("UPDATE bus.outbox SET expires_at = now() - interval '1 day' WHERE status = 'failed'")
        .await?;
    channel.exchange_delete("inner".into(), ExchangeDeleteOptions::default()).await?;
    let open = ExchangeDeclareOptions::default();
    channel.exchange_declare("inner".into(), ExchangeKind::Fanout, open, FieldTable::default()).await?;
    channel
        .queue_bind(
            "free".into(),
            "inner".into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let replayed = world.run(&["events", "replay", "--failed", "--yes"], SOON).await?;
    ensure!(replayed.output.contains("4 events are published again"), "{}", replayed.output);
    world.broker().wait_depth("free", SOON, |depth| depth.ready == 301).await?;
    wait_count(
        &world,
        1,
        "status = 'sent' AND exchange = 'inner' AND expires_at > now() + interval '6 days'",
    )
    .await?;

    // Three fail again for what they are, and an operator gives them up.
    wait_count(&world, 3, "status = 'failed'").await?;
    let unasked = world.run(&["events", "drop"], SOON).await?;
    ensure!(unasked.status.code() == Some(2), "{}", unasked.output);
    wait_count(&world, 3, "status = 'failed'").await?;
    let dropped = world.run(&["events", "drop", "--yes"], SOON).await?;
    ensure!(
        dropped.status.success() && dropped.output.contains("3 events are dropped"),
        "{}",
        dropped.output
    );
    wait_count(&world, 3, "status = 'unwanted'").await?;
    let nothing = world.run(&["events", "drop", "--yes"], SOON).await?;
    ensure!(nothing.status.code() == Some(3), "{}", nothing.output);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_leased_and_claimed_while_the_clock_was_ahead_is_worked_on_once_it_is_right() -> Result<()> {
    let world = World::start().await?;
    let mut service = world.spawn(&[]).await?;
    world.proxies().broker.cut().await;
    let people: Vec<Person> = (0..3).map(|_| Person::new()).collect();
    for person in &people {
        world.client()?.sign_up(person).await?.expect(201)?;
    }
    service.kill();
    // As a process leaves them that is killed while the server's clock is two hours ahead.
    let ahead = [
        "UPDATE bus.outbox SET lease = gen_random_uuid(), leased_until = now() + interval '2 hours'",
        "UPDATE bus.outbox SET refusals = 1, retry_at = now() + interval '2 hours' WHERE seq = (SELECT min(seq) FROM bus.outbox)",
        "UPDATE bus.outbox SET suspicion = 1, retry_at = now() + interval '2 hours' WHERE seq = (SELECT max(seq) FROM bus.outbox)",
        "INSERT INTO bus.inbox (handler, key, week, token, claimed_until) \
         SELECT 'maily.email', bus.inbox_key('maily.email', source, id::text), bus.inbox_week(id::text), gen_random_uuid(), \
                now() + interval '2 hours' FROM bus.outbox",
    ];
    for statement in ahead {
        world.database().execute(statement).await?;
    }
    world.proxies().broker.restore().await?;
    service.restart().await?;
    world.smtp().wait_for(people.len(), SOON).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_without_a_queue_is_replayed_when_one_is_bound() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    let created = "com.gravitalia.account.created.v1";
    wait_count(&world, 1, &format!("status = 'unwanted' AND type = '{created}'")).await?;
    let listed = world.run(&["events", "list", "--unwanted", "--json"], SOON).await?;
    ensure!(listed.output.contains(created) && listed.status.success(), "{}", listed.output);

    queue(&world, "shop", None).await?;
    let channel = world.broker().channel().await?;
    let options = QueueBindOptions::default();
    channel
        .queue_bind(
            "shop".into(),
            "events".into(),
            "com.gravitalia.account.#".into(),
            options,
            FieldTable::default(),
        )
        .await?;
    let unasked = world.run(&["events", "replay", "--unwanted"], SOON).await?;
    ensure!(!unasked.status.success() && unasked.output.contains("--yes"), "{}", unasked.output);
    let other =
        world.run(&["events", "replay", "--unwanted", "--type", "com.example.other", "--yes"], SOON).await?;
    ensure!(other.output.contains("0 events"), "{}", other.output);
    let replayed = world.run(&["events", "replay", "--unwanted", "--type", created, "--yes"], SOON).await?;
    ensure!(replayed.status.success() && replayed.output.contains("1 events"), "{}", replayed.output);
    world.broker().wait_depth("shop", SOON, |depth| depth.ready == 1).await?;
    wait_count(&world, 1, &format!("status = 'sent' AND type = '{created}'")).await?;

    let again =
        world.run(&["events", "replay", "--sent-since", "1h", "--type", created, "--yes"], SOON).await?;
    ensure!(again.output.contains("1 events"), "{}", again.output);
    world.broker().wait_depth("shop", SOON, |depth| depth.ready == 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redriven_message_is_published_as_it_was_but_for_its_expiry() -> Result<()> {
    let world = World::start().await?;
    queue(&world, "free", None).await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    world
        .database()
        .execute(
            "INSERT INTO bus.outbox (id, producer, source, type, time, expires_at, exchange, routing_key, data, content_type, headers, body) \
             VALUES (gen_random_uuid(), 'operator', 's', 't', now(), '2100-01-01Z', '', 'free', 'null', 'text/plain', \
                     '{\"cloudEvents_id\": \"7\", \"cloudEvents_expirytime\": \"2001-01-01T00:00:00Z\", \"attempt\": 0, \"flag\": true}', 'as it was')",
        )
        .await?;
    let message =
        eventually(SOON, "the message", async || world.broker().get_one("free").await.ok().flatten()).await?;
    ensure!(&message.body[..] == b"as it was" && message.headers["cloudEvents_id"] == "7", "{message:?}");
    ensure!(message.headers["attempt"] == 0 && message.headers["flag"] == true, "{message:?}");
    let expiry = message.headers["cloudEvents_expirytime"].as_str().unwrap_or_default();
    ensure!(expiry.starts_with("2100-01-01T"), "{expiry}");
    ensure!(*message.properties.delivery_mode() == Some(2));
    ensure!(message.properties.content_type().as_ref().is_some_and(|ty| ty.as_str() == "text/plain"));
    Ok(())
}
