//! What mail servers really do, and what becomes of mails meanwhile: silence, a stop between a message and its answer, other encodings.

use std::{io::Write as _, time::Duration};

use anyhow::{Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flate2::{Compression, write::GzEncoder};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use orrery_schemas::topology::header::{ATTEMPT, DROPPED};
use orrery_tests::{
    Person, World,
    deadline::{eventually, throughout},
};
use serde_json::json;

const SOON: Duration = Duration::from_secs(40);
const LETTERS: &str = "SELECT count(*) FROM bus.dead_letters";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_well_to_greetings_and_silent_at_recipients_makes_no_dead_letters() -> Result<()> {
    let world = World::builder().env("ORRERY_MAILY__SMTP__TIMEOUT", "1s").start().await?;
    let mut service = world.spawn(&[]).await?;
    world.smtp().fall_silent_at("RCPT");
    let client = world.client()?;
    let people: Vec<Person> = (0..12).map(|_| Person::new()).collect();
    for person in &people {
        client.sign_up(person).await?.expect(201)?;
    }
    eventually(SOON, "mail is shown as waiting", async || {
        let health = service.health().await.ok()?;
        let is_told = health.body["degraded"].as_array()?.iter().any(|name| name == "mail");
        (health.status == 200 && is_told).then_some(())
    })
    .await?;
    let checked = world.run(&["check"], SOON).await?;
    ensure!(checked.status.success(), "{}", checked.output);
    // Long enough for each mail to have failed twice, were it counted.
    throughout(Duration::from_secs(12), "a silent server makes no dead letter", async || {
        world.database().count(LETTERS).await.is_ok_and(|letters| letters == 0)
    })
    .await?;
    world.smtp().speak_again();
    world.smtp().wait_for(people.len(), SOON).await?;
    ensure!(world.database().count(LETTERS).await? == 0);
    ensure!(service.terminate(SOON).await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_between_a_message_and_its_answer_is_counted_as_a_try_and_a_doubt() -> Result<()> {
    let world = World::builder().env("ORRERY_INTERNAL__GRACE", "6s").start().await?;
    let mut service = world.spawn(&[]).await?;
    let doubts = "SELECT COALESCE(sum(doubts), 0)::bigint FROM bus.inbox WHERE handler = 'maily.email'";
    for _ in 0..2 {
        world.smtp().delay(Duration::from_secs(60));
    }
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    world.smtp().wait_for(1, SOON).await?;
    ensure!(service.terminate(Duration::from_secs(20)).await?.success());
    ensure!(world.database().count(doubts).await? == 1, "the stop was no doubt");
    service.restart().await?;
    let mails = world.smtp().wait_for(2, SOON).await?;
    let ids: Vec<_> = mails.iter().map(|mail| mail.header("Message-ID").unwrap_or_default()).collect();
    ensure!(ids[0] == ids[1], "{ids:?}");
    ensure!(service.terminate(Duration::from_secs(20)).await?.success());
    service.restart().await?;
    eventually(SOON, "a dead letter after the second doubt", async || {
        (world.database().count(LETTERS).await.ok()? == 1).then_some(())
    })
    .await?;
    ensure!(world.smtp().mails().len() == 2, "it went out a third time");
    // As the broker delivers it where the process ended between the letter and the acknowledgement.
    let letter = "SELECT content_type, headers, encode(body, 'base64') AS body FROM bus.dead_letters";
    let letter = world.database().rows(letter).await?.remove(0);
    let mut headers = FieldTable::default();
    for (name, value) in letter["headers"].as_object().into_iter().flatten() {
        if let Some(text) = value.as_str().filter(|_| !DROPPED.contains(&name.as_str())) {
            headers.insert(name.as_str().into(), AMQPValue::LongString(text.into()));
        }
    }
    headers.insert(ATTEMPT.into(), AMQPValue::LongLongInt(1));
    let mut properties = BasicProperties::default().with_headers(headers);
    if let Some(content_type) = letter["content_type"].as_str() {
        properties = properties.with_content_type(content_type.into());
    }
    let body = letter["body"].as_str().unwrap_or_default().replace('\n', "");
    world.broker().publish_raw("", "maily.email", properties, &BASE64.decode(body)?).await?;
    world.broker().wait_empty("maily.email", SOON).await?;
    world.broker().wait_empty("maily.email.dead", SOON).await?;
    ensure!(world.smtp().mails().len() == 2, "it went out a third time when the broker delivered it again");
    ensure!(world.database().count(LETTERS).await? == 1, "one message is one letter");
    // An operator decides otherwise.
    let redriven = world.run(&["queues", "dead", "redrive", "--handler", "maily.email"], SOON).await?;
    ensure!(redriven.status.success(), "{}", redriven.output);
    world.smtp().wait_for(3, SOON).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packed_legacy_mail_is_sent() -> Result<()> {
    let world = World::builder().env("ORRERY_MAILY__LEGACY_QUEUE", "true").start().await?;
    let _maily = world.spawn(&["maily"]).await?;
    let person = Person::new();
    world.secret(&person.email);
    let event = json!({
        "specversion": "1.0", "type": "com.gravitalia.email", "source": "com.gravitalia.autha", "id": "Vb3kq0Lx9TzA",
        "time": "2025-11-02T10:20:30Z", "datacontenttype": "application/json",
        "data": {"locale": "de", "to": person.email, "template": "login", "username": "ada"}
    });
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(event.to_string().as_bytes())?;
    for (encoding, body) in [("gzip", gzip.finish()?), ("br", b"anything".to_vec())] {
        let properties = BasicProperties::default()
            .with_content_type("application/cloudevents+json".into())
            .with_content_encoding(encoding.into());
        world.broker().publish_raw("", "email", properties, &body).await?;
    }
    let mails = world.smtp().wait_for(1, SOON).await?;
    ensure!(
        mails[0].subject.as_deref().is_some_and(|subject| subject.contains("Anmeldung")),
        "{:?}",
        mails[0].subject
    );
    let letter = eventually(SOON, "a dead letter", async || {
        world.database().rows("SELECT reason FROM bus.dead_letters").await.ok()?.into_iter().next()
    })
    .await?;
    ensure!(letter["reason"].as_str().is_some_and(|reason| reason.contains("'br'")), "{letter}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_waits_while_maily_has_another_key_than_the_database_and_health_says_so() -> Result<()> {
    let world = World::start().await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    let other = BASE64.encode([9_u8; 32]);
    let mut maily = world.launch(&["maily"], &[("ORRERY_KEYS__MAIL", &other)])?;
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    // It begins nothing with a key that is not the database's, and says what to set.
    eventually(SOON, "the log says what to set", async || {
        maily.log().contains("keys.mail_previous").then_some(())
    })
    .await?;
    eventually(SOON, "health says that it is not ready", async || {
        (maily.health().await.ok()?.status == 503).then_some(())
    })
    .await?;
    ensure!(world.database().count(LETTERS).await? == 0, "our own configuration made a dead letter");
    maily.kill();
    let _right = world.spawn(&["maily"]).await?;
    world.smtp().wait_for(1, SOON).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_under_a_key_that_was_taken_away_waits_for_it_and_holds_up_no_other() -> Result<()> {
    let [first, second] = [[7_u8; 32], [8; 32]].map(|key| BASE64.encode(key));
    let world = World::builder().env("ORRERY_KEYS__MAIL", &first).start().await?;
    let (early, late) = (Person::new(), Person::new());
    let mut front = world.spawn(&["gateway", "autha"]).await?;
    world.client()?.sign_up(&early).await?.expect(201)?;
    world.broker().wait_depth("maily.email", SOON, |depth| depth.ready == 1).await?;
    front.kill();
    let both = [("ORRERY_KEYS__MAIL", second.as_str()), ("ORRERY_KEYS__MAIL_PREVIOUS", &first)];
    let _front = world.spawn_with(&["gateway", "autha"], &both).await?;
    world.client()?.sign_up(&late).await?.expect(201)?;

    let [current, _] = both;
    let mut maily = world.spawn_with(&["maily"], &[current]).await?;
    eventually(SOON, "health says which key lacks", async || {
        let health = maily.health().await.ok()?;
        let told = health.body["causes"]["mail"].as_str()?.contains("keys.mail_previous");
        (health.status == 200 && told).then_some(())
    })
    .await?;
    world.smtp().wait_for(1, SOON).await?;
    ensure!(world.smtp().mails_to(&late.email).len() == 1, "the other mail was held up");
    ensure!(world.database().count(LETTERS).await? == 0, "our own configuration made a dead letter");

    ensure!(maily.terminate(SOON).await?.success(), "{}", maily.log());
    let _right = world.spawn_with(&["maily"], &both).await?;
    world.smtp().wait_for(2, SOON).await?;
    ensure!(world.smtp().mails_to(&early.email).len() == 1, "the mail was lost");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_for_an_account_that_is_gone_is_dropped() -> Result<()> {
    let world = World::builder().env("ORRERY_MAILY__SMTP__TIMEOUT", "1s").start().await?;
    let front = world.spawn(&["gateway", "autha"]).await?;
    let (gone, other) = (Person::new(), Person::new());
    let client = world.client()?;
    client.sign_up(&gone).await?.expect(201)?;
    world.broker().wait_depth("maily.email", SOON, |depth| depth.ready == 1).await?;
    let sql = "INSERT INTO maily.deleted_accounts SELECT id, now() FROM autha.accounts";
    world.database().execute(sql).await?;
    client.sign_up(&other).await?.expect(201)?;
    let _maily = world.spawn(&["maily"]).await?;
    world.smtp().wait_for(1, SOON).await?;
    world.database().wait_done("maily.email", 2, SOON).await?;
    ensure!(world.smtp().mails_to(&other.email).len() == 1 && world.smtp().mails_to(&gone.email).is_empty());
    drop(front);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doubt_uses_up_a_try_even_where_the_server_is_gone_when_it_is_asked() -> Result<()> {
    let world = World::builder().env("ORRERY_MAILY__SMTP__TIMEOUT", "2s").start().await?;
    let _service = world.spawn(&[]).await?;
    for _ in 0..2 {
        world.smtp().delay(Duration::from_secs(60));
    }
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    let doubts = "SELECT COALESCE(sum(doubts), 0)::bigint FROM bus.inbox WHERE handler = 'maily.email'";
    for sent in 1..=2 {
        // It has the mail, and the line breaks before its answer; so does every try to ask it.
        world.smtp().wait_for(sent, SOON).await?;
        world.proxies().smtp.cut().await;
        eventually(SOON, "the doubt is counted", async || {
            (world.database().count(doubts).await.ok()? == i64::try_from(sent).ok()?).then_some(())
        })
        .await?;
        if sent == 1 {
            world.proxies().smtp.restore().await?;
        }
    }
    eventually(SOON, "a dead letter after the second doubt", async || {
        (world.database().count(LETTERS).await.ok()? == 1).then_some(())
    })
    .await?;
    world.proxies().smtp.restore().await?;
    // Who comes next is served, and the first mail does not come a third time.
    let next = Person::new();
    world.client()?.sign_up(&next).await?.expect(201)?;
    world.smtp().wait_until(|mails| mails.iter().any(|mail| mail.is_to(&next.email)), SOON).await?;
    ensure!(world.smtp().mails().len() == 3, "{} mails", world.smtp().mails().len());
    Ok(())
}
