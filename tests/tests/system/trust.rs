//! Third parties at the broker, as hostile as they can be with the rights that `orrery migrate` gives them; and our own user.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeBindOptions,
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use orrery_tests::{Partner, Person, World, deadline::eventually, environment, fresh, pictures};

const SOON: Duration = Duration::from_secs(40);
const UPLOADED: &str = "com.gravitalia.image.uploaded.v1";
const CREATED: &str = "com.gravitalia.account.created.v1";

/// Publishes mandatory and confirmed; false when no queue takes it.
async fn publish(
    connection: &Connection,
    exchange: &str,
    key: &str,
    properties: BasicProperties,
    body: &[u8],
) -> Result<bool> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirm =
        channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?.await?;
    match confirm {
        Confirmation::Ack(returned) => Ok(returned.is_none()),
        other => bail!("{other:?}"),
    }
}

fn with_headers(headers: &[(&str, AMQPValue)]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), value.clone());
    }
    BasicProperties::default().with_headers(table).with_content_type("application/json".into())
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// The headers of an event that claims to be ours.
fn forged(ty: &str, source: &str, id: &str) -> Vec<(&'static str, AMQPValue)> {
    vec![
        ("cloudEvents_specversion", text("1.0")),
        ("cloudEvents_type", text(ty)),
        ("cloudEvents_source", text(source)),
        ("cloudEvents_id", text(id)),
    ]
}

fn is_refused<T>(what: &str, attempt: Result<T, impl std::fmt::Debug>) -> Result<()> {
    match attempt {
        Ok(_) => bail!("{what}: was not refused"),
        Err(error) => {
            let told = format!("{error:?}");
            ensure!(told.contains("ACCESS_REFUSED") || told.contains("ACCESSREFUSED"), "{what}: {told}");
            Ok(())
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partner_can_do_nothing_but_send_its_types_and_read_its_queue() -> Result<()> {
    let acme = Partner::new();
    let world = acme.world("publishes=[\"com.acme.*\"],receives=[\"com.gravitalia.account.#\"]").await?;
    let connection = acme.connect(&world).await?;
    let plain = BasicProperties::default;
    let (own_exchange, own_queue) = (acme.exchange(), acme.queue());

    // What it may: nobody is bound for it yet, so it is told so.
    ensure!(!publish(&connection, own_exchange.as_str(), "com.acme.order", plain(), b"{}").await?);
    let channel = connection.create_channel().await?;
    channel.basic_get(own_queue.clone(), BasicGetOptions { no_ack: true }).await?;

    for (exchange, key) in [
        (own_exchange.as_str(), "com.gravitalia.email"),
        (own_exchange.as_str(), UPLOADED),
        (own_exchange.as_str(), "com.beta.order"),
        (own_exchange.as_str(), "com.acme.order.v1"),
        ("ingress", "com.acme.order"),
        ("ingress", "s3.notifications"),
        ("events", UPLOADED),
        ("events", "com.acme.order"),
        ("", "maily.email"),
        ("", "spinoza.images.dead"),
        ("", own_queue.as_str()),
        ("amq.topic", "com.acme.order"),
    ] {
        let attempt = publish(&connection, exchange, key, plain(), b"{}").await;
        is_refused(&format!("publishing {key} to '{exchange}'"), attempt)?;
    }

    async fn fresh_channel(connection: &Connection) -> Result<Channel> {
        Ok(connection.create_channel().await?)
    }
    let none = FieldTable::default;
    for queue in ["maily.email", "maily.email.retry.2000", "spinoza.images.quarantine", "autha.pictures.dead"]
    {
        let channel = fresh_channel(&connection).await?;
        let consume = BasicConsumeOptions::default();
        is_refused("consuming", channel.basic_consume(queue.into(), "".into(), consume, none()).await)?;
        let channel = fresh_channel(&connection).await?;
        is_refused("getting", channel.basic_get(queue.into(), BasicGetOptions::default()).await)?;
        let channel = fresh_channel(&connection).await?;
        is_refused("purging", channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await)?;
        let channel = fresh_channel(&connection).await?;
        is_refused("deleting", channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await)?;
        let channel = fresh_channel(&connection).await?;
        let (exchange, options) = (own_exchange.clone(), QueueBindOptions::default());
        let bound = channel.queue_bind(queue.into(), exchange, "#".into(), options, none()).await;
        is_refused("binding our queue to its exchange", bound)?;
    }
    let channel = fresh_channel(&connection).await?;
    let options = QueueBindOptions::default();
    let bound = channel.queue_bind(own_queue.clone(), "events".into(), "#".into(), options, none()).await;
    is_refused("binding its queue to more events", bound)?;
    let channel = fresh_channel(&connection).await?;
    is_refused(
        "deleting its queue",
        channel.queue_delete(own_queue.clone(), QueueDeleteOptions::default()).await,
    )?;
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    for (name, options) in [("mine", QueueDeclareOptions::durable()), ("", exclusive)] {
        let channel = fresh_channel(&connection).await?;
        is_refused("declaring a queue", channel.queue_declare(name.into(), options, none()).await)?;
    }
    let channel = fresh_channel(&connection).await?;
    let (kind, options) = (ExchangeKind::Fanout, ExchangeDeclareOptions::default());
    is_refused(
        "declaring an exchange",
        channel.exchange_declare("mine".into(), kind, options, none()).await,
    )?;
    let channel = fresh_channel(&connection).await?;
    let deleted = channel.exchange_delete(own_exchange.clone(), ExchangeDeleteOptions::default()).await;
    is_refused("deleting its exchange", deleted)?;
    for (destination, source) in [(own_exchange.as_str(), "events"), ("events", own_exchange.as_str())] {
        let channel = fresh_channel(&connection).await?;
        let options = ExchangeBindOptions::default();
        let bound =
            channel.exchange_bind(destination.into(), source.into(), "#".into(), options, none()).await;
        is_refused("binding exchanges", bound)?;
    }
    // The broker vouches for this property, so that receivers can tell who sent a message.
    let liar = plain().with_user_id("guest".into());
    let lied = publish(&connection, own_exchange.as_str(), "com.acme.order", liar, b"{}").await;
    ensure!(lied.is_err_and(|error| format!("{error:?}").contains("user_id")), "another's user_id was taken");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_routing_key_in_a_header_leads_to_none_of_our_queues() -> Result<()> {
    let acme = Partner::new();
    let world = acme.world("publishes=[\"com.acme.*\"],receives=[\"com.acme.order\"]").await?;
    let channel = world.broker().channel().await?;
    let (none, options) = (FieldTable::default, QueueBindOptions::default);
    channel.queue_declare("tap".into(), QueueDeclareOptions::durable(), none()).await?;
    for exchange in ["events", "ingress"] {
        channel.queue_bind("tap".into(), exchange.into(), "#".into(), options(), none()).await?;
    }
    let connection = acme.connect(&world).await?;
    // RabbitMQ routes by these headers too, and topic permissions do not look at them.
    for header in ["CC", "BCC"] {
        let keys = [UPLOADED, "com.gravitalia.email", "s3.notifications", "spinoza.images"].map(text);
        let properties = with_headers(&[(header, AMQPValue::FieldArray(keys.to_vec().into()))]);
        let taken =
            publish(&connection, acme.exchange().as_str(), "com.acme.order", properties, b"{}").await?;
        ensure!(taken, "its own queue did not get it");
    }
    ensure!(world.broker().depth(acme.queue().as_str()).await?.ready == 2);
    for queue in ["tap", "spinoza.images", "maily.email"] {
        ensure!(world.broker().depth(queue).await?.ready == 0, "{queue} got a partner's message");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_partner_claims_neither_works_nor_marks_anothers_message_as_done() -> Result<()> {
    let acme = Partner::new();
    let world = acme.world("publishes=[\"com.acme.*\"],receives=[\"com.acme.*\"]").await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    // The partner is first: our own event still waits in the outbox.
    world.proxies().broker.cut().await;
    let taken = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
    let row = format!(
        "SELECT id::text, data->>'upload' AS upload, data::text AS data FROM bus.outbox WHERE type = '{UPLOADED}'"
    );
    let row =
        eventually(SOON, "the event", async || world.database().rows(&row).await.ok()?.into_iter().next())
            .await?;
    let part = |name: &str| row[name].as_str().context("no such column");
    // It knows source and id of that event, and tells of an upload that is none, under a key of its own and by a second one.
    let data = part("data")?.replace(part("upload")?, &fresh::uuid().to_string());
    let connection = acme.connect(&world).await?;
    let mut headers = forged(UPLOADED, "com.gravitalia.autha", part("id")?);
    headers.push(("CC", AMQPValue::FieldArray(vec![text(UPLOADED)].into())));
    headers.push(("attempt", AMQPValue::LongLongInt(1)));
    let key = "com.acme.order";
    ensure!(
        publish(&connection, acme.exchange().as_str(), key, with_headers(&headers), data.as_bytes()).await?
    );
    world.proxies().broker.restore().await?;
    let _spinoza = world.spawn(&["spinoza"]).await?;
    let done = client.wait_upload(taken.location()?, SOON).await?;
    ensure!(done["status"] == "done", "{done}");
    ensure!(world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 0);

    // Should a foreign type get into a handler's queue all the same, it is refused there.
    let foreign = with_headers(&forged("com.acme.order", "/acme", "1"));
    world.broker().publish_raw("", "spinoza.images", foreign, b"{}").await?;
    let reason = "SELECT reason FROM bus.dead_letters WHERE event_id = '1'";
    let reason =
        eventually(SOON, "a dead letter", async || world.database().text(reason).await.ok().flatten())
            .await?;
    ensure!(reason.contains("type is not"), "{reason}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partner_that_sleeps_loses_its_oldest_events_and_holds_nobody_up() -> Result<()> {
    let acme = Partner::new();
    let setting = acme.setting("receives=[\"com.gravitalia.account.created.v1\"]");
    let builder = World::builder()
        .env("ORRERY_BROKER__PARTNERS", &setting)
        .env("ORRERY_BROKER__PARTNER_QUEUE_BYTES", "300");
    let world = acme.start(builder).await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    for _ in 0..12 {
        world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    }
    eventually(SOON, "all events are published", async || {
        let sent = format!("SELECT count(*) FROM bus.outbox WHERE type = '{CREATED}' AND status = 'sent'");
        (world.database().count(&sent).await.ok()? == 12).then_some(())
    })
    .await?;
    let waiting = world.broker().depth(acme.queue().as_str()).await?.ready;
    ensure!((1..12).contains(&waiting), "{waiting} events wait in 300 bytes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partner_that_comes_later_gets_what_its_pattern_fits_of_before() -> Result<()> {
    let world = World::start().await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    eventually(SOON, "nobody is bound for the event", async || {
        let unwanted =
            format!("SELECT count(*) FROM bus.outbox WHERE type = '{CREATED}' AND status = 'unwanted'");
        (world.database().count(&unwanted).await.ok()? == 1).then_some(())
    })
    .await?;
    let acme = Partner::new();
    world.secret(&acme.password);
    acme.url(&world)?;
    let setting = acme.setting("receives=[\"com.gravitalia.account.#\"]");
    let migrated = world.run_with(&["migrate"], &[("ORRERY_BROKER__PARTNERS", &setting)], SOON).await?;
    ensure!(migrated.status.success(), "{}", migrated.output);
    world.broker().wait_depth(acme.queue().as_str(), SOON, |depth| depth.ready == 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partner_gets_what_it_is_to_get_until_it_is_removed() -> Result<()> {
    let acme = Partner::new();
    let world = acme.world(&format!("receives=[\"{CREATED}\"]")).await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    let connection = acme.connect(&world).await?;
    let channel = connection.create_channel().await?;
    let sign_up = async || world.client()?.sign_up(&Person::new()).await?.expect(201).map(drop);
    sign_up().await?;
    let got = eventually(SOON, "the event", async || {
        channel.basic_get(acme.queue(), BasicGetOptions { no_ack: true }).await.ok().flatten()
    })
    .await?;
    ensure!(got.delivery.routing_key.as_str() == CREATED && got.delivery.exchange.as_str() == "events");
    sign_up().await?;
    world.broker().wait_depth(acme.queue().as_str(), SOON, |depth| depth.ready == 1).await?;
    let good = world.run(&["check"], SOON).await?;
    ensure!(good.status.success(), "{}", good.output);

    let removed = [("ORRERY_BROKER__PARTNERS", "[]")];
    let told = world.run_with(&["check"], &removed, SOON).await?;
    ensure!(!told.status.success() && told.output.contains("is no partner any more"), "{}", told.output);
    let migrated = world.run_with(&["migrate"], &removed, SOON).await?;
    ensure!(migrated.status.success() && migrated.output.contains("its user and rights are gone"));
    ensure!(acme.connect(&world).await.is_err(), "it still logs in");
    eventually(SOON, "its connection is closed", async || (!connection.status().connected()).then_some(()))
        .await?;
    sign_up().await?;
    eventually(SOON, "the event goes nowhere", async || {
        let sql = format!("SELECT count(*) FROM bus.outbox WHERE type = '{CREATED}' AND status = 'unwanted'");
        (world.database().count(&sql).await.ok()? == 1).then_some(())
    })
    .await?;
    ensure!(world.broker().depth(acme.queue().as_str()).await?.ready == 1, "what it had is not kept");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_house_works_as_a_user_that_has_only_what_it_needs() -> Result<()> {
    let world = World::builder().unmigrated().start().await?;
    let password = fresh::uuid().simple().to_string();
    world.secret(&password);
    let url = world.broker().url_as(&format!("test-house-{}", fresh::uuid().simple()), &password)?;
    let settings = [("ORRERY_BROKER__URL", url.as_str())];
    let migrated = world.run_with(&["migrate"], &settings, SOON).await?;
    ensure!(migrated.status.success(), "{}", migrated.output);
    let checked = world.run_with(&["check"], &settings, SOON).await?;
    ensure!(checked.status.success(), "{}", checked.output);
    let _service = world.spawn_with(&[], &settings).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    let taken = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
    ensure!(client.wait_upload(taken.location()?, SOON).await?["status"] == "done");
    world.smtp().wait_for(1, SOON).await?;

    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let foreign = publish(&connection, "events", "com.acme.order", BasicProperties::default(), b"{}").await;
    is_refused("publishing a foreign type to events", foreign)?;
    let channel = connection.create_channel().await?;
    let (options, none) = (QueueDeclareOptions::durable(), FieldTable::default());
    is_refused("declaring a foreign queue", channel.queue_declare("shop".into(), options, none).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_management_api_the_commands_are_printed() -> Result<()> {
    let acme = Partner::new();
    let world = World::builder()
        .without("ORRERY_BROKER__MANAGEMENT_URL")
        .env("ORRERY_BROKER__PARTNERS", &acme.setting("publishes=[\"com.acme.*\"]"))
        .unmigrated()
        .start()
        .await?;
    world.secret(&acme.password);
    let migrated = world.run(&["migrate"], SOON).await?;
    ensure!(migrated.status.success(), "{}", migrated.output);
    let vhost = world.broker().vhost();
    for command in [
        format!("rabbitmqctl add_user partner-{} ", acme.name),
        format!(
            "rabbitmqctl set_permissions -p {vhost} partner-{} '^$' '^ingress\\.{}$'",
            acme.name, acme.name
        ),
    ] {
        ensure!(migrated.output.contains(&command), "{command} is not in {}", migrated.output);
    }
    world.broker().depth(acme.queue().as_str()).await.context("its queue is not declared")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_somebody_changed_are_told_and_set_again() -> Result<()> {
    let acme = Partner::new();
    let world = acme.world("publishes=[\"com.acme.*\"],receives=[\"com.acme.*\"]").await?;
    let api = environment::url("TEST_AMQP_MANAGEMENT_URL")?;
    let (vhost, user) = (world.broker().vhost(), format!("partner-{}", acme.name));
    let client = reqwest::Client::new();
    let everything = serde_json::json!({"configure": ".*", "write": ".*", "read": ".*"});
    let path = api.join(&format!("api/permissions/{vhost}/{user}"))?;
    client.put(path).json(&everything).send().await?.error_for_status()?;
    let path = api.join(&format!("api/topic-permissions/{vhost}/{user}"))?;
    client.delete(path).send().await?.error_for_status()?;
    let path = api.join(&format!("api/policies/{vhost}/orrery-partners"))?;
    client.delete(path).send().await?.error_for_status()?;
    let told = world.run(&["check"], SOON).await?;
    for part in [
        format!("the user {user} may configure \".*\", wanted \"^$\""),
        format!("the user {user} may write \".*\", wanted \"^ingress\\.{}$\"", acme.name),
        format!("the user {user} is not held to the keys ^(com\\.acme\\.[^.]+)$ of ingress.{}", acme.name),
        "the policy orrery-partners does not bound partners' queues".to_owned(),
    ] {
        ensure!(!told.status.success() && told.output.contains(&part), "no '{part}' in {}", told.output);
    }
    world.migrate().await?;
    let good = world.run(&["check"], SOON).await?;
    ensure!(good.status.success(), "{}", good.output);
    let connection = acme.connect(&world).await?;
    let attempt = publish(&connection, "events", UPLOADED, BasicProperties::default(), b"{}").await;
    is_refused("publishing to events", attempt)
}
