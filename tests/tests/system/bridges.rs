//! What comes from elsewhere: the legacy queue of mails, and an S3 store's own notifications.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use diesel_async::SimpleAsyncConnection;
use lapin::{
    BasicProperties,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use orrery_tests::{Client, Person, World, deadline::eventually, pictures};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(40);

const LEGACY: (&str, &str) = ("ORRERY_MAILY__LEGACY_QUEUE", "true");
const NOTIFICATIONS: (&str, &str) = ("ORRERY_STORAGE__UPLOADED_EVENTS", "notifications");

/// Publishes a mail as publishers from before Orrery do: structured, not persistent, the address in the clear.
async fn publish_legacy(world: &World, id: &str, address: &str) -> Result<()> {
    world.secret(address);
    let event = json!({
        "specversion": "1.0", "type": "com.gravitalia.email", "source": "com.gravitalia.autha", "id": id,
        "time": "2025-11-02T10:20:30.123456789+00:00", "datacontenttype": "application/json",
        "data": {"locale": "fr", "to": address, "template": "welcome", "username": "ada"}
    });
    let properties = BasicProperties::default()
        .with_content_type("application/cloudevents+json".into())
        .with_content_encoding("utf8".into());
    world.broker().publish_raw("", "email", properties, event.to_string().as_bytes()).await
}

async fn dead_letter(world: &World) -> Result<Value> {
    eventually(SOON, "a dead letter", async || {
        let sql = "SELECT handler, reason FROM bus.dead_letters";
        world.database().rows(sql).await.ok()?.into_iter().next()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_legacy_mail_is_sent_once_and_its_address_lies_nowhere_in_the_clear() -> Result<()> {
    let world = World::builder().env(LEGACY.0, LEGACY.1).start().await?;
    let _maily = world.spawn(&["maily"]).await?;
    let person = Person::new();
    world.smtp().reply_to_data(554, "5.7.1 not today");
    publish_legacy(&world, "Vb3kq0Lx9TzA", &person.email).await?;
    let letter = eventually(SOON, "a dead letter", async || {
        let sql = "SELECT handler, event_id, convert_from(body, 'UTF8') AS body FROM bus.dead_letters";
        world.database().rows(sql).await.ok()?.into_iter().next()
    })
    .await?;
    ensure!(letter["handler"] == "maily.email" && letter["event_id"] == "Vb3kq0Lx9TzA", "{letter}");
    ensure!(!letter.to_string().contains(&person.email), "the letter names the address");

    for _ in 0..3 {
        publish_legacy(&world, "0aB1cD2eF3gH", &person.email).await?;
    }
    let mails = world.smtp().wait_for(1, SOON).await?;
    ensure!(mails[0].is_to(&person.email), "the mail went to somebody else");
    ensure!(mails[0].subject.as_deref().is_some_and(|subject| subject.contains("Bienvenue")));
    world.database().wait_done("maily.email", 1, SOON).await?;
    world.broker().wait_settled(&["email"], &["maily.email"], SOON).await?;
    ensure!(world.smtp().mails().len() == 1, "{} mails", world.smtp().mails().len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_between_confirm_and_acknowledgement_sends_one_legacy_mail() -> Result<()> {
    let world = World::builder().env(LEGACY.0, LEGACY.1).start().await?;
    let mut maily = world.spawn(&["maily"]).await?;
    world.proxies().broker.withhold_answers_after(b"com.gravitalia.email");
    publish_legacy(&world, "Vb3kq0Lx9TzA", &Person::new().email).await?;
    world.proxies().broker.wait_triggered(SOON).await?;
    maily.kill();
    world.proxies().broker.release_answers();
    for queue in ["email", "maily.email"] {
        world.broker().wait_depth(queue, SOON, |depth| depth.ready == 1).await?;
    }
    maily.restart().await?;
    world.smtp().wait_for(1, SOON).await?;
    world.database().wait_done("maily.email", 1, SOON).await?;
    world.broker().wait_settled(&["email"], &["maily.email"], SOON).await?;
    ensure!(world.smtp().mails().len() == 1, "{} mails", world.smtp().mails().len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_legacy_mail_is_a_dead_letter_and_holds_up_no_other() -> Result<()> {
    let world = World::builder().env(LEGACY.0, LEGACY.1).start().await?;
    let _maily = world.spawn(&["maily"]).await?;
    // Headers that fit into its publisher's frame, and with a reason not into ours.
    let mut headers = FieldTable::default();
    headers.insert("x".into(), AMQPValue::LongString("x".repeat(100_000).into()));
    for headers in [FieldTable::default(), headers] {
        let plain =
            BasicProperties::default().with_headers(headers).with_content_type("application/json".into());
        world.broker().publish_raw("", "email", plain, b"{\"to\":\"somebody\"}").await?;
    }
    publish_legacy(&world, "Vb3kq0Lx9TzA", &Person::new().email).await?;
    world.smtp().wait_for(1, SOON).await?;
    let letter = dead_letter(&world).await?;
    ensure!(letter["handler"] == "email", "{letter}");
    ensure!(letter["reason"].as_str().is_some_and(|reason| reason.contains("specversion")), "{letter}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_bridge_could_not_turn_is_redriven_to_the_bridge() -> Result<()> {
    let world = World::builder().env(LEGACY.0, LEGACY.1).start().await?;
    let mut services = world.spawn(&["maily", "autha"]).await?;
    let plain = BasicProperties::default().with_content_type("application/json".into());
    world.broker().publish_raw("", "email", plain, b"{\"to\":\"somebody\"}").await?;
    dead_letter(&world).await?;
    services.terminate(SOON).await?;
    let redriven = world.run(&["queues", "dead", "redrive", "--handler", "email"], SOON).await?;
    ensure!(
        redriven.status.success() && redriven.output.contains("redriven 1 dead letter"),
        "{}",
        redriven.output
    );
    let _relay = world.spawn(&["autha"]).await?;
    let message =
        eventually(SOON, "the message", async || world.broker().get_one("email").await.ok().flatten())
            .await?;
    ensure!(&message.body[..] == b"{\"to\":\"somebody\"}", "{message:?}");
    ensure!(
        message.headers.get("handler").is_none() && message.headers.get("reason").is_none(),
        "{message:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_legacy_queue_with_arguments_of_its_own_is_read_as_it_stands() -> Result<()> {
    let world = World::builder().env(LEGACY.0, LEGACY.1).unmigrated().start().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1000));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    world.broker().channel().await?.queue_declare("email".into(), options, arguments).await?;
    let migrated = world.run(&["migrate"], SOON).await?;
    ensure!(migrated.status.success(), "{}", migrated.output);
    ensure!(migrated.output.contains("stands with arguments of its own"), "{}", migrated.output);
    let _maily = world.spawn(&["maily"]).await?;
    publish_legacy(&world, "Vb3kq0Lx9TzA", &Person::new().email).await?;
    world.smtp().wait_for(1, SOON).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_legacy_queue_that_is_deleted_is_told_of_and_read_again_when_it_is_there() -> Result<()> {
    let world = World::builder().env(LEGACY.0, LEGACY.1).start().await?;
    let mut service = world.spawn(&[]).await?;
    let channel = world.broker().channel().await?;
    channel.queue_delete("email".into(), QueueDeleteOptions::default()).await?;
    eventually(SOON, "health names the queue and what to do", async || {
        let health = service.health().await.ok()?;
        let causes = health.body.get("causes")?.to_string();
        (health.status == 503 && causes.contains("email is missing: run 'orrery migrate'")).then_some(())
    })
    .await?;
    // Its neighbours work.
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    world.smtp().wait_for(1, SOON).await?;
    world.migrate().await?;
    service.wait_ready(SOON).await?;
    publish_legacy(&world, "Vb3kq0Lx9TzA", &Person::new().email).await?;
    world.smtp().wait_for(2, SOON).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bridges_that_nobody_asked_for_have_no_queues() -> Result<()> {
    let world = World::start().await?;
    for queue in ["email", "spinoza.notifications"] {
        ensure!(world.broker().depth(queue).await.is_err(), "{queue} was declared");
    }
    let wrong = world.run_with(&["check"], &[(NOTIFICATIONS.0, "both")], SOON).await?;
    let told = wrong.output.to_lowercase();
    ensure!(!wrong.status.success() && told.contains("storage.uploaded_events"), "{}", wrong.output);
    Ok(())
}

/// A message of MinIO's AMQP target.
async fn notification(world: &World, event: &str, key: &str, request: &str) -> Result<Value> {
    let now = r#"SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"#;
    let now = world.database().text(now).await?.context("no time")?;
    Ok(json!({
        "EventName": event, "Key": format!("orrery/{key}"),
        "Records": [{
            "eventVersion": "2.0", "eventSource": "minio:s3", "awsRegion": "", "eventTime": now,
            "eventName": event, "userIdentity": {"principalId": "orrery-tests"},
            "requestParameters": {"principalId": "orrery-tests", "region": "", "sourceIPAddress": "127.0.0.1"},
            "responseElements": {"x-amz-request-id": request, "x-amz-id-2": "dd9025bab4ad464b049177c95eb6ebf3"},
            "s3": {
                "s3SchemaVersion": "1.0", "configurationId": "Config",
                "bucket": {"name": "orrery", "ownerIdentity": {"principalId": ""}, "arn": "arn:aws:s3:::orrery"},
                "object": {"key": key.replace('/', "%2F"), "size": 4711, "eTag": "5fc7298143efe1276d39a3466d4e255f",
                           "contentType": "image/jpeg", "sequencer": "187A0C2F7E8C1A55"}
            },
            "source": {"host": "127.0.0.1", "port": "", "userAgent": ""}
        }]
    }))
}

async fn notify(world: &World, message: &Value) -> Result<()> {
    let properties = BasicProperties::default().with_content_type("application/json".into());
    let body = message.to_string();
    world.broker().publish_raw("ingress", "s3.notifications", properties, body.as_bytes()).await
}

/// The key of the one original in the bucket, once it is there.
async fn original(world: &World) -> Result<String> {
    eventually(SOON, "the original is in the bucket", async || {
        world.objects().ok()?.into_iter().find(|key| key.contains("/original."))
    })
    .await
}

async fn upload(client: &Client) -> Result<String> {
    let taken = client.put_avatar(pictures::gradient_png(512, 512)?, "image/png").await?.expect(202)?;
    Ok(taken.location()?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_tells_of_an_upload_changes_the_profile_once() -> Result<()> {
    let world = World::builder().env(NOTIFICATIONS.0, NOTIFICATIONS.1).start().await?;
    let _service = world.spawn(&[]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    let location = upload(&client).await?;
    let told = "SELECT count(*) FROM bus.outbox WHERE type = 'com.gravitalia.image.uploaded.v1'";
    ensure!(world.database().count(told).await? == 0, "autha told of it too");

    let created = "s3:ObjectCreated:Put";
    let key = original(&world).await?;
    let first = notification(&world, created, &key, "187A0C2F7E5B3D10").await?;
    notify(&world, &first).await?;
    let done = client.wait_upload(&location, SOON).await?;
    ensure!(done["status"] == "done", "{done}");
    let variants = world.objects()?.into_iter().filter(|key| key.ends_with(".webp")).collect::<Vec<_>>();
    ensure!(variants.len() == 3, "{variants:?}");

    // The same again, the same object by another request, and what concerns nobody.
    notify(&world, &first).await?;
    notify(&world, &notification(&world, created, &key, "187A0C2F7E5B3D11").await?).await?;
    notify(&world, &notification(&world, created, &variants[0], "187A0C2F7E5B3D12").await?).await?;
    notify(&world, &notification(&world, created, "backups/photo.jpg", "187A0C2F7E5B3D13").await?).await?;
    notify(&world, &notification(&world, "s3:ObjectRemoved:Delete", &key, "187A0C2F7E5B3D14").await?).await?;
    world.database().wait_done("spinoza.images", 2, SOON).await?;
    world.database().wait_done("autha.pictures", 2, SOON).await?;
    let handlers = ["spinoza.images", "autha.pictures"];
    world.broker().wait_settled(&["spinoza.notifications"], &handlers, SOON).await?;
    // One for the sign-up, one for the result of the upload.
    let version = world.database().text("SELECT version::text FROM autha.accounts").await?;
    ensure!(version.as_deref() == Some("2"), "version {version:?}");
    ensure!(world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 0);

    notify(&world, &json!({"Records": [{"eventName": created}]})).await?;
    let letter = dead_letter(&world).await?;
    ensure!(letter["handler"] == "spinoza.notifications", "{letter}");
    ensure!(letter["reason"] == "a record is not one of S3's", "{letter}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_overtakes_its_uploads_row_is_applied_at_the_second_try() -> Result<()> {
    let world = World::builder()
        .env(NOTIFICATIONS.0, NOTIFICATIONS.1)
        .env("ORRERY_AUTHA__RETRY_DELAY", "3s")
        .env("ORRERY_DATABASE__STATEMENT_TIMEOUT", "30s")
        .start()
        .await?;
    let _service = world.spawn(&[]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    // Holds the account's row, and so the transaction of the upload, whose object is in the bucket by then.
    let mut holder = world.database().connect().await?;
    holder.batch_execute("BEGIN; SELECT * FROM autha.accounts FOR UPDATE").await?;
    let uploading = tokio::spawn({
        let client = client.clone();
        async move { upload(&client).await }
    });
    let key = original(&world).await?;
    notify(&world, &notification(&world, "s3:ObjectCreated:Put", &key, "187A0C2F7E5B3D10").await?).await?;
    world.broker().wait_depth("autha.pictures.retry.3000", SOON, |depth| depth.ready == 1).await?;
    holder.batch_execute("ROLLBACK").await?;
    let location = uploading.await??;
    let done = client.wait_upload(&location, SOON).await?;
    ensure!(done["status"] == "done", "{done}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_broke_off_before_its_row_leaves_no_dead_letter() -> Result<()> {
    let world = World::builder()
        .env(NOTIFICATIONS.0, NOTIFICATIONS.1)
        .env("ORRERY_AUTHA__RETRY_DELAY", "1s")
        .start()
        .await?;
    let _service = world.spawn(&[]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    upload(&client).await?;
    let key = original(&world).await?;
    let orphan = "UPDATE autha.accounts SET avatar_upload = NULL; DELETE FROM autha.uploads";
    world.database().execute(orphan).await?;
    notify(&world, &notification(&world, "s3:ObjectCreated:Put", &key, "187A0C2F7E5B3D10").await?).await?;
    world.database().wait_done("autha.pictures", 1, SOON).await?;
    ensure!(world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_copied_in_our_name_to_where_its_sender_may_not_write() -> Result<()> {
    let world = World::builder().env(LEGACY.0, LEGACY.1).start().await?;
    let mut headers = FieldTable::default();
    for copies in ["CC", "BCC"] {
        let queues = vec![AMQPValue::LongString("tap".into())];
        headers.insert(copies.into(), AMQPValue::FieldArray(queues.into()));
    }
    let properties = BasicProperties::default().with_headers(headers);
    world.broker().publish_raw("", "email", properties, b"no event").await?;
    // Whatever came here came by us: the sender's own copy went nowhere.
    let channel = world.broker().channel().await?;
    channel.queue_declare("tap".into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
    // Autha's relay publishes what is redriven.
    let _both = world.spawn(&["autha", "maily"]).await?;
    dead_letter(&world).await?;
    let first = world.database().text("SELECT id FROM bus.dead_letters").await?;
    let redriven = world.run(&["queues", "dead", "redrive", "--handler", "email"], SOON).await?;
    ensure!(redriven.status.success(), "{}", redriven.output);
    eventually(SOON, "the letter comes back", async || {
        let id = world.database().text("SELECT id FROM bus.dead_letters").await.ok()?;
        (id.is_some() && id != first).then_some(())
    })
    .await?;
    ensure!(world.broker().depth("tap").await?.ready == 0, "a copy was made");
    Ok(())
}
