//! Parts left out, started later, not migrated yet: the rest starts, says what is missing, and works.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orrery_tests::{Person, World, pictures};

const SOON: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_maily_and_spinoza_people_sign_up_and_the_work_waits() -> Result<()> {
    let world = World::start().await?;
    let front = world.spawn(&["gateway", "autha"]).await?;
    ensure!(
        front.log().contains("left_out=\"maily,spinoza,partners,discovery,console\""),
        "the log does not say what is left out"
    );
    let person = Person::new();
    let client = world.client()?.signed_up(&person).await?;
    let taken = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
    world.broker().wait_depth("maily.email", SOON, |depth| depth.ready == 1).await?;
    world.broker().wait_depth("spinoza.images", SOON, |depth| depth.ready == 1).await?;
    let _rest = world.spawn(&["maily", "spinoza"]).await?;
    world.smtp().wait_for(1, SOON).await?;
    let done = client.wait_upload(taken.location()?, SOON).await?;
    ensure!(done["status"] == "done", "{done}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_enabled_later_get_what_was_written_before() -> Result<()> {
    let world = World::builder().env("ORRERY_SERVICES", "gateway,autha").start().await?;
    let front = world.spawn(&[]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    let taken = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
    orrery_tests::deadline::eventually(SOON, "mail and picture are unrouted", async || {
        let sql = "SELECT count(*) FROM bus.outbox WHERE status = 'unrouted' \
                   AND type IN ('com.gravitalia.email', 'com.gravitalia.image.uploaded.v1')";
        (world.database().count(sql).await.ok()? == 2).then_some(())
    })
    .await?;
    let all = ("ORRERY_SERVICES", "gateway,autha,maily,spinoza");
    let migrated = world.run_with(&["migrate"], &[all], SOON).await?;
    ensure!(migrated.status.success(), "{}", migrated.output);
    let _rest = world.spawn_with(&["maily", "spinoza"], &[all]).await?;
    world.smtp().wait_for(1, SOON).await?;
    let done = client.wait_upload(taken.location()?, SOON).await?;
    ensure!(done["status"] == "done", "{done}");
    drop(front);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_is_not_ready_until_the_database_is_migrated() -> Result<()> {
    let world = World::builder().unmigrated().start().await?;
    let mut service = world.launch(&[], &[])?;
    let health =
        orrery_tests::deadline::eventually(SOON, "the process answers", async || service.health().await.ok())
            .await?;
    ensure!(
        health.status == 503 && health.body["down"].to_string().contains("migrations"),
        "{}",
        health.body
    );
    let refused = world.client()?.sign_up(&Person::new()).await?.expect(503)?;
    ensure!(refused.header("retry-after").is_some());
    world.migrate().await?;
    service.wait_ready(SOON).await?;
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_services_role_reads_nothing_of_another() -> Result<()> {
    let world = World::start().await?;
    for role in ["orrery_maily", "orrery_spinoza"] {
        let denied =
            world.database().execute(&format!("SET ROLE {role}; SELECT * FROM autha.accounts")).await;
        ensure!(
            denied.is_err_and(|error| format!("{error:#}").contains("permission denied")),
            "{role} reads accounts"
        );
    }
    let denied = world.database().execute("SET ROLE orrery_spinoza; SELECT * FROM maily.suppressed").await;
    ensure!(denied.is_err(), "spinoza reads what maily keeps");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_tells_what_is_away_and_shows_no_secret() -> Result<()> {
    let world = World::start().await?;
    let good = world.run(&["check"], SOON).await?;
    ensure!(good.status.success(), "{}", good.output);
    world.proxies().broker.cut().await;
    let bad = world.run(&["check"], SOON).await?;
    ensure!(!bad.status.success() && bad.output.contains("failed  rabbitmq"), "{}", bad.output);
    let shown = world.run(&["check", "--print"], SOON).await?;
    ensure!(
        shown.output.contains("url = \"[hidden]\"") && !shown.output.contains("guest:guest"),
        "{}",
        shown.output
    );
    // A secret of digits is no number, and no fault shows it.
    let digits = [("ORRERY_MAILY__SMTP__USERNAME", "1234"), ("ORRERY_MAILY__SMTP__PASSWORD", "0012345678")];
    let shown = world.run_with(&["check", "--print"], &digits, SOON).await?;
    ensure!(shown.status.success() && shown.output.contains("username = \"1234\""), "{}", shown.output);
    let file = world.folder().join("number.toml");
    std::fs::write(&file, "[storage]\nsecret_key = 12345678\n")?;
    let file = file.to_str().context("a path that is no UTF-8")?;
    let plain = [("ORRERY_CONFIG", file), ("ORRERY_STORAGE__ACCESS_KEY", "x")];
    let told = world.run_with(&["check", "--print"], &plain, SOON).await?;
    ensure!(!told.output.contains("12345678"), "{}", told.output);
    // A gateway without autha beside it looks whether somebody is where it sends requests.
    let nowhere = [("ORRERY_SERVICES", "gateway"), ("ORRERY_GATEWAY__AUTHA", "http://127.0.0.1:1")];
    let alone = world.run_with(&["check"], &nowhere, SOON).await?;
    ensure!(alone.output.contains("http://127.0.0.1:1/ cannot be reached"), "{}", alone.output);
    let faulty = world.run_with(&["check"], &[("ORRERY_AUTHA__PASSWORD_SCORE", "9")], SOON).await?;
    ensure!(faulty.output.contains("autha.password_score: must be 0 to 4"), "{}", faulty.output);
    Ok(())
}
