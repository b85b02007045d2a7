//! Mails: what is sent, and what becomes of one that the server does not take.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orrery_tests::{Person, World, deadline::eventually};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

async fn dead_letter(world: &World) -> Result<Value> {
    eventually(SOON, "a dead letter", async || {
        let sql = "SELECT handler, reason, attempts, causes::text AS causes, headers::text AS headers, \
                   convert_from(body, 'UTF8') AS body FROM bus.dead_letters";
        world.database().rows(sql).await.ok()?.into_iter().next()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_person_is_welcomed_in_their_language() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    let client = world.client()?;
    let (english, french) = (Person::new(), Person::new().reading("fr-CA"));
    client.sign_up(&english).await?.expect(201)?;
    client.sign_up(&french).await?.expect(201)?;
    world.smtp().wait_for(2, SOON).await?;
    for (person, word, language) in [(&english, "Welcome", "en"), (&french, "Bienvenue", "fr")] {
        let mails = world.smtp().mails_to(&person.email);
        let mail = mails.first().context("no mail")?;
        ensure!(mail.subject.as_deref().is_some_and(|subject| subject.contains(word)), "{:?}", mail.subject);
        ensure!(mail.text.as_deref().is_some_and(|text| text.contains(&person.id)), "{:?}", mail.text);
        ensure!(mail.html.as_deref().is_some_and(|html| html.contains(&person.id)));
        ensure!(mail.header("Content-Language").is_some_and(|tag| tag == language));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_goes_to_the_address_as_it_was_typed() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    let mut person = Person::new();
    // A server may tell the case of what stands before the @.
    person.email = format!("Ada.{}", person.email);
    world.client()?.sign_up(&person).await?.expect(201)?;
    let mails = world.smtp().wait_for(1, SOON).await?;
    ensure!(mails[0].to == [person.email.clone()], "it went to {:?}", mails[0].to);
    // It is one account with the same address in another case.
    person.email = person.email.to_lowercase();
    person.id = Person::new().id;
    let again = world.client()?.sign_up(&person).await?;
    ensure!(again.status == 409, "{}", again.status);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_refused_for_now_goes_out_at_the_second_try() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    world.smtp().reply_to_data(451, "4.7.1 greylisted, come back");
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    world.smtp().wait_for(1, SOON).await?;
    ensure!(world.smtp().attempts() == 2, "{} tries", world.smtp().attempts());
    ensure!(world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_refused_twice_for_now_is_a_dead_letter_with_its_reason() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    world.smtp().reply_to_data(451, "4.7.1 greylisted");
    world.smtp().reply_to_data(452, "4.2.2 mailbox full");
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    let letter = dead_letter(&world).await?;
    ensure!(letter["handler"] == "maily.email" && letter["attempts"] == 2, "{letter}");
    ensure!(letter["reason"].as_str().is_some_and(|reason| reason.contains("452")), "{letter}");
    ensure!(world.smtp().mails().is_empty() && world.smtp().attempts() == 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_refused_for_good_is_a_dead_letter_at_once_and_names_no_address() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    let person = Person::new();
    world.smtp().reply_to_rcpt(550, &format!("5.1.1 <{}>: no such mailbox", person.email));
    world.client()?.sign_up(&person).await?.expect(201)?;
    let letter = dead_letter(&world).await?;
    ensure!(letter["reason"].as_str().is_some_and(|reason| reason.contains("550")), "{letter}");
    ensure!(letter["attempts"] == 1, "{letter}");
    ensure!(!letter.to_string().contains(&person.email), "the letter names the address");
    ensure!(world.smtp().attempts() == 0, "DATA was begun");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_after_data_doubles_the_mail_under_one_message_id() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    world.smtp().drop_after_data();
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    let mails = world.smtp().wait_for(2, SOON).await?;
    ensure!(mails[0].message_id.is_some() && mails[0].message_id == mails[1].message_id);
    Ok(())
}

/// A report that a mail could not be delivered, as a mail server writes one (RFC 3464), to the sender of the mail's envelope.
fn report(sender: &str, recipient: &str) -> String {
    format!(
        "Delivered-To: {sender}\r\nFrom: MAILER-DAEMON@mail.example\r\nTo: <{sender}>\r\nSubject: Undelivered\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nsorry\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; mail.example\r\n\r\nFinal-Recipient: rfc822; {recipient}\r\nAction: failed\r\n\
         Status: 5.1.1\r\n\r\n--b--\r\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounce_suppresses_its_address_until_that_is_released() -> Result<()> {
    let maildir = tempfile::tempdir()?;
    let folder = maildir.path().to_str().context("a path that is no UTF-8")?;
    let world = World::builder()
        .env("ORRERY_MAILY__BOUNCES__ADDRESS", "bounces@orrery.example")
        .env("ORRERY_MAILY__BOUNCES__MAILDIR", folder)
        .start()
        .await?;
    let front = world.spawn(&["gateway", "autha"]).await?;
    let mut maily = world.spawn(&["maily"]).await?;
    let (gone, other) = (Person::new(), Person::new());
    let client = world.client()?;
    for person in [&gone, &other] {
        client.sign_up(person).await?.expect(201)?;
    }
    world.smtp().wait_for(2, SOON).await?;
    let sender = world.smtp().mails_to(&gone.email).first().context("no mail")?.from.clone();
    ensure!(sender.starts_with("bounces+") && sender.ends_with("@orrery.example"), "{sender}");

    // One is about a mail of ours. The other came to an address that proves nothing of whom it is about: anybody could have written it.
    ensure!(maily.terminate(SOON).await?.success());
    let new = maildir.path().join("new");
    std::fs::create_dir_all(&new)?;
    std::fs::write(new.join("1.forged"), report(&sender, &other.email))?;
    std::fs::write(new.join("2.report"), report(&sender, &gone.email))?;
    maily.restart().await?;
    eventually(SOON, "both reports are read", async || {
        (std::fs::read_dir(maildir.path().join("cur")).ok()?.count() == 2).then_some(())
    })
    .await?;
    ensure!(world.database().count("SELECT count(*) FROM maily.suppressed").await? == 1);

    let recover = async |person: &Person| {
        let request = client.request(reqwest::Method::POST, "/recover/request");
        let body = serde_json::json!({ "email": person.email });
        client.send(request.json(&body)).await?.expect(202)
    };
    recover(&gone).await?;
    recover(&other).await?;
    let letter = dead_letter(&world).await?;
    ensure!(letter["reason"].as_str().is_some_and(|reason| reason.contains("5.1.1")), "{letter}");
    ensure!(!letter.to_string().contains(&gone.email), "the letter names the address");
    world.smtp().wait_for(3, SOON).await?;
    ensure!(world.smtp().mails_to(&other.email).len() == 2 && world.smtp().mails_to(&gone.email).len() == 1);

    let released = world.run(&["mail", "release", &gone.email], SOON).await?;
    ensure!(released.status.success(), "{}", released.output);
    recover(&gone).await?;
    world.smtp().wait_for(4, SOON).await?;
    ensure!(world.smtp().mails_to(&gone.email).len() == 2);
    drop(front);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_whose_link_is_over_is_not_sent() -> Result<()> {
    let world = World::builder().env("ORRERY_AUTHA__RECOVER_LIFETIME", "1s").start().await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    let person = Person::new();
    let client = world.client()?.signed_up(&person).await?;
    let request = client.request(reqwest::Method::POST, "/recover/request");
    let body = serde_json::json!({ "email": person.email });
    client.send(request.json(&body)).await?.expect(202)?;
    eventually(SOON, "the link is over", async || {
        let sql = "SELECT count(*) FROM bus.outbox WHERE data->>'template' = 'recover' \
                   AND NOT EXISTS (SELECT FROM autha.challenges WHERE purpose = 'recover' AND expires_at > now())";
        (world.database().count(sql).await.ok()? == 1).then_some(())
    })
    .await?;
    let _maily = world.spawn(&["maily"]).await?;
    let letter = dead_letter(&world).await?;
    ensure!(letter["reason"].as_str().is_some_and(|reason| reason.contains("has expired")), "{letter}");
    ensure!(letter["attempts"] == 1, "{letter}");
    // The welcome came; nothing else did.
    world.smtp().wait_for(1, SOON).await?;
    ensure!(world.smtp().mails_to(&person.email).len() == 1, "{:?}", world.smtp().mails());
    Ok(())
}
