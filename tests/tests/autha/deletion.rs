//! Deletion with its time of grace, and the export of everything that is held about a person.

use std::{
    io::{Cursor, Read},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use diesel_async::SimpleAsyncConnection;
use orrery_tests::{
    Client, Person, World,
    deadline::{throughout, until},
    pictures,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{KEY, SOON, bare, fault, internal_id, mailbox, moving, send, somebody};

#[tokio::test]
async fn a_deleted_account_is_restored_by_a_login_and_gone_after_its_grace() -> Result<()> {
    let world = mailbox::world(&[]).await?;
    let mut service = world.spawn(&[]).await?;
    let (person, client) = somebody(&world).await?;
    let account = internal_id(&world, &person).await?;
    let taken = client.put_avatar(pictures::gradient_png(64, 64)?, "image/png").await?.expect(202)?;
    client.wait_upload(taken.location()?, SOON).await?;
    let delete = async |client: &orrery_tests::Client| {
        send(client, Method::DELETE, "/users/@me", json!({"password": person.password})).await
    };
    send(&client, Method::DELETE, "/users/@me", json!({"password": "not the right one"}))
        .await?
        .expect(401)?;
    delete(&client).await?.expect(200)?;
    client.me().await?.expect(401)?;
    client.user(&person.id).await?.expect(410)?;
    let again = world.client()?.logged_in(&person).await?;
    again.user(&person.id).await?.expect(200)?;
    delete(&again).await?.expect(200)?;

    // A kill in the middle of the removal, when the rows are gone and the objects are not, leaves nothing half done.
    world.proxies().storage.pause();
    world.database().execute("UPDATE autha.accounts SET purge_at = now() - interval '1 second'").await?;
    until(SOON, "the rows to be gone", async || {
        let left = world.database().count("SELECT count(*) FROM autha.accounts").await;
        left.is_ok_and(|left| left == 0)
    })
    .await?;
    service.kill();
    ensure!(!world.objects()?.is_empty(), "the objects were removed before the kill");
    world.proxies().storage.resume();
    service.restart().await?;
    until(SOON, "the bucket to be empty", async || world.objects().is_ok_and(|objects| objects.is_empty()))
        .await?;
    let told = format!(
        "SELECT count(*) FROM bus.outbox WHERE type = 'com.gravitalia.account.deleted.v1' AND subject = '{account}'"
    );
    ensure!(world.database().count(&told).await? == 1);
    for table in ["sessions", "credentials", "refresh_tokens", "uploads", "challenges", "public_keys"] {
        ensure!(
            world.database().count(&format!("SELECT count(*) FROM autha.{table}")).await? == 0,
            "{table}"
        );
    }
    // The name is nobody's for ever, the address is free.
    let stranger = world.client()?;
    stranger.user(&person.id).await?.expect(410)?;
    let namesake = Person { id: person.id.clone(), ..Person::new() };
    fault(&stranger.sign_up(&namesake).await?, 409, "id", "taken")?;
    stranger.signed_up(&Person { email: person.email.clone(), ..Person::new() }).await?;
    let seen = world.run(&["account", "deletions"], SOON).await?;
    ensure!(seen.status.success() && seen.output.contains(&account), "{}", seen.output);
    Ok(())
}

#[tokio::test]
async fn each_holder_of_data_answers_a_deletion_with_a_receipt_that_the_operator_sees() -> Result<()> {
    let world = mailbox::world(&[]).await?;
    let mut service = world.spawn(&["gateway", "autha", "spinoza"]).await?;
    // A mail of this person fails for good: its dead letter holds the address.
    world.smtp().reply_to_rcpt(550, "5.1.1 no such user");
    let mail = world.spawn(&["maily"]).await?;
    let (person, client) = somebody(&world).await?;
    let account = internal_id(&world, &person).await?;
    let letters = format!(
        "SELECT count(*) FROM bus.dead_letters WHERE handler = 'maily.email' AND headers::text LIKE '%{account}%'"
    );
    until(SOON, "a dead letter", async || {
        world.database().count(&letters).await.is_ok_and(|count| count == 1)
    })
    .await?;
    drop(mail);
    let taken = client.put_avatar(pictures::gradient_png(64, 64)?, "image/png").await?.expect(202)?;
    client.wait_upload(taken.location()?, SOON).await?;
    send(&client, Method::DELETE, "/users/@me", json!({"password": person.password})).await?.expect(200)?;
    world.database().execute("UPDATE autha.accounts SET purge_at = now() - interval '1 second'").await?;
    let show = async || world.run_revealing(&["account", "show", &account], &[], SOON).await;
    until(SOON, "spinoza's receipt", async || {
        show().await.is_ok_and(|shown| shown.output.contains("spinoza holds nothing"))
    })
    .await?;
    // Who is away has said nothing yet.
    let shown = show().await?;
    ensure!(
        shown.output.contains(&account) && !shown.output.contains("maily holds nothing"),
        "{}",
        shown.output
    );
    service.kill();
    let _mail = world.spawn(&["maily"]).await?;
    service.restart().await?;
    until(SOON, "maily's receipt", async || {
        show().await.is_ok_and(|shown| shown.output.contains("maily holds nothing"))
    })
    .await?;
    ensure!(world.database().count(&letters).await? == 0, "the dead letter is still there");
    until(SOON, "the bucket to be empty", async || world.objects().is_ok_and(|objects| objects.is_empty()))
        .await?;
    let receipts = "SELECT count(*) FROM autha.deletion_receipts";
    ensure!(world.database().count(receipts).await? == 2);
    let rejected = "SELECT count(*) FROM bus.dead_letters WHERE handler = 'autha.receipts'";
    ensure!(world.database().count(rejected).await? == 0);
    Ok(())
}

#[tokio::test]
async fn everything_that_is_held_is_fetched_once() -> Result<()> {
    let world = mailbox::world(&[]).await?;
    let mut service = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    let account = internal_id(&world, &person).await?;
    // Killed while the archive is on its way to the bucket.
    world.proxies().storage.pause();
    let asked = send(&client, Method::POST, "/users/@me/export", json!({"password": person.password}))
        .await?
        .expect(202)?;
    until(SOON, "the export to be at work", async || {
        let leased = "SELECT count(*) FROM autha.exports WHERE state = 'pending' AND attempts = 1";
        world.database().count(leased).await.is_ok_and(|leased| leased == 1)
    })
    .await?;
    service.kill();
    world.proxies().storage.resume();
    world.database().execute("UPDATE autha.exports SET leased_until = now() - interval '1 second'").await?;
    service.restart().await?;
    until(SOON, "the archive", async || {
        bare(&client, Method::GET, "/users/@me/export")
            .await
            .is_ok_and(|answer| answer.body["status"] == "ready")
    })
    .await?;
    ensure!(mailbox::count(&world, &account, "export_ready").await? == 1);
    let path = format!("/users/@me/export/{}", asked.text("id")?);
    let (_, other) = somebody(&world).await?;
    bare(&other, Method::GET, &path).await?.expect(404)?;
    // What could not be fetched was not fetched; of those who ask at once one gets it.
    world.proxies().storage.cut().await;
    bare(&client, Method::GET, &path).await?.expect(503)?;
    world.proxies().storage.restore().await?;
    let answers =
        futures_util::future::try_join_all((0..4).map(|_| bare(&client, Method::GET, &path))).await?;
    let (archive, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    ensure!(archive.len() == 1 && refused.iter().all(|answer| answer.status == 410), "{refused:?}");
    let archive = archive.into_iter().next().context("no archive")?;
    bare(&client, Method::GET, &path).await?.expect(410)?;
    let mut archive = zip::ZipArchive::new(Cursor::new(archive.bytes.to_vec()))?;
    let mut text = String::new();
    archive.by_name("account.json")?.read_to_string(&mut text)?;
    let document: serde_json::Value = serde_json::from_str(&text)?;
    ensure!(document["email"] == person.email && document["id"] == person.id, "{document}");
    ensure!(archive.by_name("sessions.json").is_ok());
    let key = world.objects()?.into_iter().find(|key| key.contains("exports/")).context("no archive")?;
    ensure!(key.contains(&account));
    Ok(())
}

/// Asks for an archive, which lies in the bucket when this returns; the store's answer is withheld.
async fn archive_on_its_way(world: &World, person: &Person, client: &Client) -> Result<()> {
    world.proxies().storage.withhold_answers_after(b"/exports/");
    send(client, Method::POST, "/users/@me/export", json!({"password": person.password}))
        .await?
        .expect(202)?;
    until(SOON, "the archive in the bucket", async || world.objects().is_ok_and(|objects| objects.len() == 1))
        .await
}

#[tokio::test]
async fn no_archive_outlives_its_account() -> Result<()> {
    let world = mailbox::world(&[]).await?;
    let service = world.spawn(&["gateway", "autha"]).await?;
    let gone = async || {
        until(SOON, "no archive", async || world.objects().is_ok_and(|objects| objects.is_empty())).await
    };
    // Another replica removes the account, and has looked at the bucket before the archive came into it.
    let remove = async || world.database().execute("DELETE FROM autha.accounts").await;
    let (person, client) = somebody(&world).await?;
    archive_on_its_way(&world, &person, &client).await?;
    remove().await?;
    world.proxies().storage.release_answers();
    gone().await?;
    drop(service);
    // The same, and the process is killed before it knows.
    let sweeping = [("ORRERY_AUTHA__SWEEP_AFTER", "1s"), ("ORRERY_AUTHA__SWEEP_EVERY", "500ms")];
    let mut service = world.spawn_with(&["gateway", "autha"], &sweeping).await?;
    let (person, client) = somebody(&world).await?;
    archive_on_its_way(&world, &person, &client).await?;
    service.kill();
    remove().await?;
    world.proxies().storage.release_answers();
    service.restart().await?;
    gone().await?;
    // One that is wanted stays.
    let (person, client) = somebody(&world).await?;
    let asked = send(&client, Method::POST, "/users/@me/export", json!({"password": person.password}))
        .await?
        .expect(202)?;
    let ready = async || {
        let answer = bare(&client, Method::GET, "/users/@me/export").await?;
        anyhow::Ok(answer.body["status"] == "ready")
    };
    until(SOON, "the archive", async || ready().await.unwrap_or(false)).await?;
    throughout(Duration::from_secs(3), "it is there", async || {
        world.objects().is_ok_and(|objects| objects.len() == 1)
    })
    .await?;
    bare(&client, Method::GET, &format!("/users/@me/export/{}", asked.text("id")?)).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn kills_while_many_accounts_are_removed_lose_and_double_nothing() -> Result<()> {
    const MANY: i64 = 160;
    let world = World::start().await?;
    let rows: Vec<Value> = (0..MANY)
        .map(|_| {
            let person = Person::new();
            json!({"id": person.id, "email": person.email, "public_keys": [KEY]})
        })
        .collect();
    moving::import(&world, &rows).await?;
    world.database().execute("UPDATE autha.accounts SET purge_at = now() - interval '1 second'").await?;
    let left = async || world.database().count("SELECT count(*) FROM autha.accounts").await;
    let mut service = world.launch(&["gateway", "autha"], &[])?;
    for most in [120, 60] {
        until(SOON, "some to be removed", async || left().await.is_ok_and(|left| left <= most)).await?;
        service.kill();
        ensure!(left().await? > 0, "it was over before the kill");
        service.relaunch()?;
    }
    service.wait_ready(SOON).await?;
    until(SOON, "all to be removed", async || left().await.is_ok_and(|left| left == 0)).await?;
    until(2 * SOON, "their folders to be empty", async || {
        let full = "SELECT count(*) FROM autha.deletions WHERE objects <> '{}'";
        world.database().count(full).await.is_ok_and(|full| full == 0)
    })
    .await?;
    for (what, sql) in [
        ("names kept", "SELECT count(*) FROM autha.tombstones"),
        ("deletions", "SELECT count(*) FROM autha.deletions"),
        ("events", "SELECT count(*) FROM bus.outbox WHERE type = 'com.gravitalia.account.deleted.v1'"),
        (
            "accounts told",
            "SELECT count(DISTINCT subject) FROM bus.outbox WHERE type = 'com.gravitalia.account.deleted.v1'",
        ),
        ("mails", "SELECT count(DISTINCT subject) FROM bus.outbox WHERE data->>'template' = 'deletion_done'"),
        ("mails in all", "SELECT count(*) FROM bus.outbox WHERE data->>'template' = 'deletion_done'"),
    ] {
        let found = world.database().count(sql).await?;
        ensure!(found == MANY, "{found} {what}");
    }
    for table in ["credentials", "public_keys"] {
        ensure!(
            world.database().count(&format!("SELECT count(*) FROM autha.{table}")).await? == 0,
            "{table}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_being_removed_is_given_to_nobody() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&["gateway", "autha"]).await?;
    let (person, _) = somebody(&world).await?;
    drop(service);
    // A purge that has not committed yet.
    let mut purge = world.database().connect().await?;
    purge
        .batch_execute(
            "BEGIN; INSERT INTO autha.tombstones SELECT sha256(convert_to('orrery/name/' || vanity, 'UTF8')), now() FROM autha.accounts; \
             DELETE FROM autha.accounts",
        )
        .await?;
    let other = Person::new();
    let arguments = ["account", "create", person.id.as_str(), other.email.as_str()];
    world.secret(&other.email);
    let (mut create, _) = world.command(&arguments, &[])?;
    until(SOON, "the sign-up to wait for it", async || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        world.database().count(waits).await.is_ok_and(|waits| waits == 1)
    })
    .await?;
    purge.batch_execute("COMMIT").await?;
    ensure!(!create.wait(SOON).await?.success(), "somebody got the name");
    ensure!(
        world.database().count("SELECT count(*) FROM autha.accounts").await? == 0,
        "somebody got the name"
    );
    Ok(())
}

#[tokio::test]
async fn mail_that_waits_goes_with_its_account() -> Result<()> {
    let world = mailbox::world(&[]).await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    world.proxies().broker.cut().await;
    let (person, client) = somebody(&world).await?;
    let (_, other) = somebody(&world).await?;
    let account = internal_id(&world, &person).await?;
    send(&client, Method::POST, "/recover/request", json!({"email": person.email})).await?.expect(202)?;
    send(&client, Method::DELETE, "/users/@me", json!({"password": person.password})).await?.expect(200)?;
    for template in ["welcome", "recover", "deletion_scheduled"] {
        ensure!(mailbox::count(&world, &account, template).await? == 1, "{template}");
    }
    let due =
        format!("UPDATE autha.accounts SET purge_at = now() - interval '1 second' WHERE id = '{account}'");
    world.database().execute(&due).await?;
    until(SOON, "the last mail", async || {
        mailbox::count(&world, &account, "deletion_done").await.is_ok_and(|mails| mails == 1)
    })
    .await?;
    for template in ["welcome", "recover", "deletion_scheduled"] {
        ensure!(mailbox::count(&world, &account, template).await? == 0, "{template}");
    }
    let welcome = "SELECT count(*) FROM bus.outbox WHERE data->>'template' = 'welcome'";
    ensure!(world.database().count(welcome).await? == 1, "another's mail is gone");
    // The name leads nowhere, and to nobody else.
    let domain = world.gateway_url().trim_start_matches("http://").to_owned();
    let finger = format!("/.well-known/webfinger?resource=acct:{}@{domain}", person.id);
    other.get(&finger).await?.expect(410)?;
    world.proxies().broker.restore().await
}
