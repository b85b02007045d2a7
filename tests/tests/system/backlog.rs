//! A backlog in the outbox drains in constant memory, holds up nobody who signs up meanwhile, and starves no new mail.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use orrery_tests::{Person, World, deadline::eventually};

const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1024 * 1024;

/// A million in a long run, otherwise what fits beside the other tests.
fn rows() -> i64 {
    if std::env::var_os("ORRERY_LONG").is_some() { 1_000_000 } else { 30_000 }
}

async fn sign_up(world: &World) -> Result<(Person, Duration)> {
    let person = Person::new();
    let client = world.client()?;
    let begun = Instant::now();
    client.sign_up(&person).await?.expect(201)?;
    Ok((person, begun.elapsed()))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

async fn pending(world: &World) -> Result<i64> {
    let waits = "SELECT count(*) FROM (SELECT FROM bus.outbox WHERE status = 'pending' \
                 AND type = 'com.gravitalia.account.updated.v1' LIMIT 1) AS few";
    world.database().count(waits).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_drains_in_constant_memory_and_holds_up_no_new_mail() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&[]).await?;
    let mut idle = Vec::new();
    for _ in 0..9 {
        idle.push(sign_up(&world).await?.1);
    }
    world.smtp().wait_for(9, SOON).await?;

    let rows = rows();
    service.reset_peak()?;
    let before = service.memory()?.rss_bytes;
    world
        .database()
        .execute(&format!(
            "INSERT INTO bus.outbox (id, producer, source, type, time, expires_at, exchange, routing_key, data) \
             SELECT gen_random_uuid(), 'autha', 'com.gravitalia.autha', 'com.gravitalia.account.updated.v1', now(), \
                    now() + interval '7 days', 'events', 'com.gravitalia.account.updated.v1', \
                    jsonb_build_object('account', gen_random_uuid(), 'version', n, 'changed', '[\"icon\"]'::jsonb) \
             FROM generate_series(1, {rows}) AS n"
        ))
        .await?;

    let drains = Instant::now();
    let (mut busy, mut during) = (Vec::new(), 0);
    while pending(&world).await? > 0 {
        let (person, took) = sign_up(&world).await?;
        busy.push(took);
        let told = Instant::now();
        world.smtp().wait_until(|mails| mails.iter().any(|mail| mail.is_to(&person.email)), SOON).await?;
        if pending(&world).await? > 0 {
            during += 1;
            ensure!(
                told.elapsed() < Duration::from_secs(5),
                "a mail waited {:?} for the backlog",
                told.elapsed()
            );
        }
    }
    let drains = drains.elapsed();
    let peak = service.memory()?.peak_rss_bytes;
    let (idle, busy, samples) = (median(idle), median(busy.clone()), busy.len());
    println!(
        "{rows} rows in {drains:?} ({:.0} a second); {samples} sign-ups meanwhile, median {busy:?} beside {idle:?} idle; \
         {during} mails before its end; {} MiB at first, {} MiB at most",
        f64::from(i32::try_from(rows)?) / drains.as_secs_f64(),
        before / MIB,
        peak / MIB,
    );
    ensure!(during > 0, "no mail came before the backlog was drained");
    ensure!(busy < idle * 5 + Duration::from_millis(200), "a sign-up takes {busy:?}, {idle:?} when idle");
    ensure!(peak < before + 64 * MIB, "{} MiB more", (peak - before) / MIB);
    eventually(SOON, "nothing is pending", async || {
        let pending = "SELECT count(*) FROM bus.outbox WHERE status = 'pending'";
        (world.database().count(pending).await.ok()? == 0).then_some(())
    })
    .await?;
    let kept = "SELECT count(*) FROM bus.outbox WHERE type = 'com.gravitalia.account.updated.v1' AND status IN ('sent', 'unwanted')";
    ensure!(world.database().count(kept).await? == rows);
    Ok(())
}
