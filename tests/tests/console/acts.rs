//! What an operator does: only by a form of one's own session, undone in time, confirmed where it cannot be undone, and written down.

use anyhow::{Context, Result, ensure};
use orrery_tests::{World, deadline::eventually};
use reqwest::header::ORIGIN;

use crate::{Browser, SOON, make_letters};

async fn letters(world: &World) -> Result<i64> {
    world.database().count("SELECT count(*) FROM bus.dead_letters").await
}

async fn until_letters(world: &World, count: i64) -> Result<()> {
    eventually(SOON, "the letters", async || (letters(world).await.ok()? == count).then_some(())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_of_another_site_or_another_session_changes_nothing() -> Result<()> {
    let world = World::builder().env("ORRERY_CONSOLE__UNDO", "0s").start().await?;
    let service = world.spawn(&["console"]).await?;
    let ada = Browser::logged_in(&world, &service).await?;
    let eve = Browser::logged_in(&world, &service).await?;
    make_letters(&world, 3, "refused").await?;
    let drop = [("which", "filter"), ("confirm", "drop")];
    let form = ada.form().await?;
    let with = |form: &str| -> Vec<(&str, String)> {
        let fields = drop.iter().map(|(name, value)| (*name, (*value).to_owned()));
        fields.chain([("form", form.to_owned())]).collect()
    };
    let send = async |form: &str, origin: &str, site: &str| -> Result<u16> {
        let request = ada.http.post(format!("{}/dead/drop", ada.base)).form(&with(form));
        let request = request.header(ORIGIN, origin).header("sec-fetch-site", site);
        Ok(ada.send(request).await?.status.as_u16())
    };
    for forged in ["", "00", &eve.form().await?] {
        ensure!(send(forged, &ada.base, "same-origin").await? == 403, "the form '{forged}' was taken");
    }
    for (origin, site) in [
        ("https://evil.example", "cross-site"),
        ("null", "cross-site"),
        ("http://127.0.0.1:1", "same-site"),
        (ada.base.as_str(), "cross-site"),
    ] {
        ensure!(send(&form, origin, site).await? == 403, "a form from {origin} ({site}) was taken");
    }
    // A link, which another site can have opened, changes nothing either.
    ensure!(ada.get("/dead/drop?which=filter&confirm=drop").await?.status.as_u16() == 404);
    let lines =
        world.database().count("SELECT count(*) FROM console.audit WHERE action = 'dead.drop'").await?;
    ensure!(letters(&world).await? == 3 && lines == 0);
    ensure!(send(&form, &ada.base, "same-origin").await? == 303);
    until_letters(&world, 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_can_be_undone_until_it_begins_and_is_in_the_log_with_who_did_it() -> Result<()> {
    let world = World::builder().env("ORRERY_CONSOLE__UNDO", "10min").start().await?;
    let service = world.spawn(&["console"]).await?;
    let ada = Browser::logged_in(&world, &service).await?;
    make_letters(&world, 5, "refused").await?;
    ada.act("/dead/redrive", &[("which", "filter"), ("handler", "maily.email"), ("rate", "500")])
        .await?
        .expect(303)?;
    let page = ada.until("/jobs", "waiting").await?;
    let (_, rest) = page.split_once("/jobs/").context("no job")?;
    let id = rest.split('/').next().context("no id")?;
    ada.act(&format!("/jobs/{id}/stop"), &[]).await?.expect(303)?;
    ada.until("/jobs", "undone").await?;
    ada.act(&format!("/jobs/{id}/stop"), &[]).await?.expect(409)?;
    ensure!(letters(&world).await? == 5);
    let line = world
        .database()
        .rows("SELECT actor, face, target, outcome FROM console.audit WHERE action = 'dead.redrive'")
        .await?;
    ensure!(line.len() == 1 && line[0]["actor"] == "ada" && line[0]["face"] == "console", "{line:?}");
    ensure!(
        line[0]["target"] == "handler maily.email, at 500 a second"
            && line[0]["outcome"] == "undone before it began",
        "{line:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticked_letters_go_back_through_the_outbox_and_the_others_stay() -> Result<()> {
    let world = World::builder().env("ORRERY_CONSOLE__UNDO", "0s").start().await?;
    let service = world.spawn(&["console"]).await?;
    let ada = Browser::logged_in(&world, &service).await?;
    make_letters(&world, 5, "refused").await?;
    let ids = world.database().rows("SELECT id FROM bus.dead_letters ORDER BY id LIMIT 2").await?;
    let ids: Vec<_> = ids.iter().filter_map(|row| row["id"].as_str()).collect();
    ada.act("/dead/redrive", &[("which", "ids"), ("id", ids[0]), ("id", ids[1])]).await?.expect(303)?;
    until_letters(&world, 3).await?;
    ada.until("/jobs", "2 of 2").await?;
    let rows = "SELECT count(*) FROM bus.outbox WHERE producer = 'operator' AND routing_key = 'maily.email'";
    ensure!(world.database().count(rows).await? == 2);
    ada.act("/dead/redrive", &[("which", "ids")]).await?.expect(422)?;
    ada.act("/dead/redrive", &[("which", "ids"), ("id", ids[0])]).await?.expect(409)?;
    ensure!(letters(&world).await? == 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_dropped_only_when_it_is_confirmed() -> Result<()> {
    let world = World::builder().env("ORRERY_CONSOLE__UNDO", "0s").start().await?;
    let service = world.spawn(&["console"]).await?;
    let ada = Browser::logged_in(&world, &service).await?;
    make_letters(&world, 4, "refused").await?;
    let page = ada.act("/dead/drop", &[("which", "filter"), ("reason", "refused")]).await?.expect(200)?;
    ensure!(page.contains("Drop 4 dead letters for good?"), "{page}");
    ensure!(letters(&world).await? == 4);
    ada.act("/dead/drop", &[("which", "filter"), ("reason", "refused"), ("confirm", "drop")])
        .await?
        .expect(303)?;
    until_letters(&world, 0).await?;
    let outcome = "SELECT outcome FROM console.audit WHERE action = 'dead.drop'";
    eventually(SOON, "its line", async || {
        world.database().text(outcome).await.ok()?.filter(|told| told == "4 done")
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_is_restarted_here_and_in_another_process() -> Result<()> {
    let world = World::start().await?;
    let maily = world.spawn(&["maily"]).await?;
    let settings = [("ORRERY_CONSOLE__PROCESSES", maily.internal_url())];
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let service = world.spawn_with(&["console"], &settings).await?;
    let ada = Browser::logged_in(&world, &service).await?;
    ada.until("/actors", "maily.email.consumer").await?;
    ada.act("/actors/restart", &[("process", ""), ("actor", "console.observer")]).await?.expect(303)?;
    ada.until("/actors", "an operator asked for a restart").await?;
    let other = maily.internal_url();
    ada.act("/actors/restart", &[("process", &other), ("actor", "maily.email.consumer")])
        .await?
        .expect(303)?;
    let restarted = eventually(SOON, "the restart", async || {
        let actors = ada
            .http
            .get(format!("{other}/health/actors"))
            .send()
            .await
            .ok()?
            .json::<serde_json::Value>()
            .await
            .ok()?;
        let consumer =
            actors.as_array()?.iter().find(|actor| actor["name"] == "maily.email.consumer")?.clone();
        (consumer["restarts"] == 1 && consumer["state"] == "running").then_some(())
    });
    restarted.await?;
    ada.act("/actors/restart", &[("actor", "nobody")]).await?.expect(409)?;
    // Nobody else may, and no other process is asked.
    let bare = ada.http.post(format!("{other}/health/actors/maily.email.consumer/restart"));
    ensure!(bare.send().await?.status() == 403);
    ada.act("/actors/restart", &[("process", "http://127.0.0.1:9"), ("actor", "x")]).await?.expect(409)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_a_queue_are_published_again() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&["console"]).await?;
    let ada = Browser::logged_in(&world, &service).await?;
    let sql = "INSERT INTO bus.outbox (id, producer, source, type, time, expires_at, exchange, routing_key, data, status, settled_at, last_error) \
               VALUES (gen_random_uuid(), 'autha', 'x', 'com.gravitalia.<b>x</b>', now(), now() + interval '1 day', 'events', 'a', '{}', 'unrouted', now(), 'no queue')";
    world.database().execute(sql).await?;
    let page = ada.get("/outbox").await?.expect(200)?;
    ensure!(page.contains("no queue") && !page.contains("<b>x"), "{page}");
    ada.until("/", "found no queue").await?;
    let done = ada.act("/outbox/replay", &[("which", "unrouted")]).await?;
    ensure!(done.status == 303 && done.location().ends_with("done=1"), "{} {}", done.status, done.location());
    ensure!(world.database().count("SELECT count(*) FROM bus.outbox WHERE status = 'pending'").await? == 1);
    ada.until("/audit", "published 1 again").await?;
    Ok(())
}
