//! Deadlines, ports, pictures, and the real parts that a world is made of.

use std::time::Duration;

use anyhow::{Context, Result};
use orrery_tests::broker::Depth;
use orrery_tests::ports::Port;
use orrery_tests::process::Process;
use orrery_tests::secrets::Secrets;
use orrery_tests::{Broker, Database, Proxy, World, database, eventually, fresh, pictures};

use crate::{LONG, SHORT, SOON, WHILE};

#[tokio::test]
async fn waiting_ends_at_its_deadline_and_names_what_was_waited_for() {
    let forever = eventually(WHILE, "what never comes", async || {
        std::future::pending::<()>().await;
        Some(())
    });
    let error = forever.await.expect_err("nothing comes");
    assert!(error.to_string().contains("what never comes"), "{error}");
}

#[test]
fn reserved_ports_differ_and_are_free() -> Result<()> {
    let ports = (0..50).map(|_| Port::reserve()).collect::<Result<Vec<_>>>()?;
    let addresses: std::collections::BTreeSet<_> = ports.iter().map(Port::address).collect();
    assert_eq!(addresses.len(), ports.len());
    for address in addresses {
        std::net::TcpListener::bind(address)?;
    }
    Ok(())
}

#[test]
fn secrets_are_found_in_any_case_and_short_ones_are_not_looked_for() {
    let secrets = Secrets::default();
    secrets.add("Ada@people.example");
    secrets.add("en");
    let found = secrets.found_in("a line in English\nmail to ada@PEOPLE.example failed\n");
    assert_eq!(found, ["2: mail to ada@people.example failed"]);
    assert!(secrets.found_in("nothing").is_empty());
}

#[test]
fn pictures_are_what_they_say() -> Result<()> {
    let astronaut = pictures::astronaut()?;
    assert_eq!(image::guess_format(&astronaut)?, image::ImageFormat::Jpeg);
    let turned = pictures::with_exif(&astronaut, 6)?;
    assert_eq!(image::guess_format(&turned)?, image::ImageFormat::Jpeg);
    assert!(turned.windows(4).any(|window| window == b"Exif"));
    let noise = pictures::noise_png(10 * 1024 * 1024)?;
    assert!((10_000_000..=10 * 1024 * 1024).contains(&noise.len()), "{}", noise.len());
    let decoded = image::load_from_memory(&noise)?;
    assert!(decoded.width() > 1800);
    for picture in [
        pictures::gradient_png(40, 30)?,
        pictures::gradient_webp(40, 30)?,
        pictures::gradient_gif(40, 30, 3)?,
    ] {
        let decoded = image::load_from_memory(&picture)?;
        assert_eq!((decoded.width(), decoded.height()), (40, 30));
    }
    assert_eq!(image::load_from_memory(&pictures::one_pixel_png()?)?.width(), 1);
    let lying = pictures::lying_png(60_000, 60_000)?;
    let claimed =
        image::ImageReader::new(std::io::Cursor::new(&lying)).with_guessed_format()?.into_dimensions()?;
    assert_eq!(claimed, (60_000, 60_000));
    Ok(())
}

#[tokio::test]
async fn database_answers_questions_and_is_dropped_with_its_test() -> Result<()> {
    let database = Database::create().await?;
    let name = database.name().to_owned();
    database.execute("CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'), (2, NULL)").await?;
    assert_eq!(database.count("SELECT count(*) FROM t").await?, 2);
    assert_eq!(database.text("SELECT b FROM t WHERE a = 1").await?.as_deref(), Some("x"));
    assert_eq!(database.text("SELECT b FROM t WHERE a = 2").await?, None);
    assert_eq!(database.text("SELECT b FROM t WHERE a = 3").await?, None);
    assert!(database.count("SELECT nonsense").await.is_err());
    let rows = database.rows("SELECT a, b FROM t ORDER BY a").await?;
    assert_eq!(serde_json::Value::from(rows), serde_json::json!([{"a": 1, "b": "x"}, {"a": 2, "b": null}]));
    // A connection that is still open does not keep it.
    let _held = database.connect().await?;
    assert!(database::exists(&name).await?);
    drop(database);
    assert!(!database::exists(&name).await?);
    Ok(())
}

#[tokio::test]
async fn database_is_reached_through_a_proxy() -> Result<()> {
    use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
    let database = Database::create().await?;
    let proxy = Proxy::start(database.address().await?).await?;
    let url = database.url_through(proxy.addr())?;
    let mut connection = AsyncPgConnection::establish(&url).await?;
    connection.batch_execute("SELECT 1").await?;
    proxy.cut().await;
    assert!(connection.batch_execute("SELECT 1").await.is_err());
    assert!(AsyncPgConnection::establish(&url).await.is_err());
    assert_eq!(database.count("SELECT 1").await?, 1);
    Ok(())
}

#[tokio::test]
async fn broker_publishes_counts_and_takes() -> Result<()> {
    use lapin::options::QueueDeclareOptions;
    use lapin::types::{AMQPValue, FieldTable};
    let broker = Broker::create().await?;
    assert!(broker.depth("missing").await.is_err());
    let channel = broker.channel().await?;
    channel.queue_declare("q".into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
    let mut headers = FieldTable::default();
    headers.insert("attempt".into(), AMQPValue::LongInt(1));
    headers.insert("reason".into(), AMQPValue::LongString("why".into()));
    let properties = lapin::BasicProperties::default().with_headers(headers);
    broker.publish_raw("", "q", properties.clone(), br#"{"a":1}"#).await?;
    broker.publish_raw("", "q", properties, b"second").await?;
    assert!(broker.publish_raw("", "missing", lapin::BasicProperties::default(), b"lost").await.is_err());
    broker.wait_depth("q", SOON, |depth| depth == Depth { ready: 2, consumers: 0 }).await?;
    let message = broker.get_one("q").await?.context("nothing in the queue")?;
    assert_eq!(message.json()?, serde_json::json!({"a": 1}));
    assert_eq!(serde_json::Value::from(message.headers), serde_json::json!({"attempt": 1, "reason": "why"}));
    assert_eq!(broker.purge("q").await?, 1);
    broker.wait_empty("q", LONG).await?;
    assert!(broker.get_one("q").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn what_a_consumer_holds_or_a_retry_queue_keeps_is_not_handled() -> Result<()> {
    use lapin::options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions};
    use lapin::types::{AMQPValue, FieldTable};
    let broker = Broker::create().await?;
    let channel = broker.channel().await?;
    for queue in ["h", "h.retry.1000", "h.quarantine", "h.dead"] {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
    }
    let error = async |handler| match broker.wait_handled(handler, SHORT).await {
        Ok(()) => Ok(String::new()),
        Err(error) => anyhow::Ok(format!("{error:#}")),
    };
    let publish =
        async |queue| broker.publish_raw("", queue, lapin::BasicProperties::default(), b"message").await;
    publish("h").await?;
    let held = channel.basic_get("h".into(), BasicGetOptions::default()).await?.context("no message")?;
    let told = error("h").await?;
    assert!(told.contains("1 unacknowledged in h"), "{told}");
    channel.basic_ack(held.delivery.delivery_tag, BasicAckOptions::default()).await?;
    // Its dead letters are the archiver's.
    publish("h.dead").await?;
    broker.wait_handled("h", LONG).await?;
    for queue in ["h.retry.1000", "h.quarantine"] {
        publish(queue).await?;
        let told = error("h").await?;
        assert!(told.contains(&format!("1 ready in {queue}")), "{told}");
        broker.purge(queue).await?;
    }
    let told = error("missing").await?;
    assert!(told.contains("there is no queue missing"), "{told}");
    Ok(())
}

#[tokio::test]
async fn world_starts_all_services_and_leaves_nothing_behind() -> Result<()> {
    let world = World::start().await?;
    let name = world.database().name().to_owned();
    let folder = world.folder().to_owned();
    let mut service = world.spawn(&[]).await?;
    assert!(service.memory()?.pss_bytes > 0);
    assert_eq!(service.health().await?.status, 200);
    let first = service.id();
    service.kill();
    assert!(service.health().await.is_err());
    service.restart().await?;
    assert_ne!(service.id(), first);
    let status = service.terminate(Duration::from_secs(20)).await?;
    assert!(status.success(), "{status}");
    drop(service);
    drop(world);
    assert!(!database::exists(&name).await?);
    assert!(!folder.exists());
    Ok(())
}

#[tokio::test]
#[should_panic(expected = "left behind")]
async fn secret_in_a_log_fails_the_test() {
    let world = World::builder().unmigrated().start().await.unwrap();
    // A complaint about an unknown argument repeats it.
    let secret = format!("--{}", fresh::uuid());
    world.secret(&secret);
    world.run(&["check", &secret], SOON).await.unwrap();
}

/// A dead letter as the archiver writes it, with a reason of ours.
async fn bury(world: &World, reason: &str) -> Result<()> {
    let sql = format!(
        "INSERT INTO bus.dead_letters (id, handler, letter, reason, attempts, failed_at, headers, body) \
         VALUES (gen_random_uuid(), 'maily.email', '1', '{reason}', 1, now(), '{{}}', '')"
    );
    world.database().execute(&sql).await
}

#[tokio::test]
#[should_panic(expected = "dead-list-json.log names a secret")]
async fn secret_in_the_list_of_dead_letters_fails_the_test() {
    let world = World::start().await.unwrap();
    let secret = fresh::uuid().to_string();
    world.secret(&secret);
    bury(&world, &secret).await.unwrap();
}

#[tokio::test]
async fn dead_letters_without_a_secret_harm_nobody() -> Result<()> {
    let world = World::start().await?;
    world.secret(&fresh::uuid().to_string());
    bury(&world, "no such mailbox").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[should_panic(expected = "/metrics of ")]
async fn secret_on_the_page_of_metrics_fails_the_test() {
    let world = World::start().await.unwrap();
    // Every page of metrics has such a line, and no log.
    world.secret("# TYPE ");
    let _service = world.spawn(&["maily"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[should_panic(expected = "/health/actors of ")]
async fn secret_on_the_page_of_actors_fails_the_test() {
    let world = World::start().await.unwrap();
    world.secret("\"capacity\":");
    let _service = world.spawn(&["maily"]).await.unwrap();
}

#[test]
fn process_that_does_not_end_when_asked_to_is_killed_and_told_of() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let shell = std::path::Path::new("/bin/sh");
    let settings: std::collections::BTreeMap<String, String> = std::env::vars().collect();
    let start = |script: &str| Process::spawn(shell, &["-c", script], &settings, folder.path(), &log);
    let mut willing = start("exec sleep 60")?;
    assert!(willing.end_within(SOON));
    let mut deaf = start("trap '' TERM; echo deaf; while :; do sleep 0.1; done")?;
    let end = std::time::Instant::now() + SOON;
    while !std::fs::read_to_string(&log)?.contains("deaf") {
        assert!(std::time::Instant::now() < end, "it did not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!deaf.end_within(WHILE));
    assert!(deaf.ended().is_some());
    Ok(())
}
