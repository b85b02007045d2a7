//! What `orrery demo` costs the database, and what it leaves behind.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orrery_tests::World;

const SOON: Duration = Duration::from_secs(60);
const GROWN: i64 = 20_000;
/// Rows that PostgreSQL looked at in the tables of messages.
const READ: &str = "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) FROM pg_stat_user_tables \
    WHERE schemaname = 'bus' AND (relname = 'outbox' OR relname LIKE 'inbox%')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_reads_only_what_is_new_of_large_tables() -> Result<()> {
    let world = World::start().await?;
    let _all = world.spawn(&[]).await?;
    let grown = format!(
        "INSERT INTO bus.outbox (id, producer, source, type, traceparent, time, expires_at, exchange, routing_key, data, status, settled_at) \
         SELECT gen_random_uuid(), 'autha', 's', 't', '00-' || md5(n::text) || '-' || left(md5(n::text), 16) || '-01', \
            now(), now() + interval '7 days', '', 'k', '{{}}', 'sent', now() FROM generate_series(1, {GROWN}) AS n; \
         INSERT INTO bus.inbox (handler, key, week, token, claimed_until, done_at) \
         SELECT 'maily.email', gen_random_uuid(), -1, gen_random_uuid(), now(), now() FROM generate_series(1, {GROWN}) AS n; \
         SELECT pg_stat_force_next_flush()"
    );
    world.database().execute(&grown).await?;
    let before = world.database().count(READ).await?;
    // Long enough to be looked for more than once.
    world.smtp().delay(Duration::from_millis(500));
    let demo = world.run(&["demo"], SOON).await?;
    ensure!(demo.status.success() && demo.output.contains("taken by the SMTP server"), "{}", demo.output);
    // Its connection is closed by now, and with that PostgreSQL has been told what it read.
    let read = world.database().count(READ).await? - before;
    ensure!(read < GROWN, "{read} rows were read:\n{}", demo.output);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_removes_what_it_made_or_says_what_stays() -> Result<()> {
    let world = World::builder().capture().start().await?;
    let _all = world.spawn(&[]).await?;
    let demo = world.run(&["demo"], SOON).await?;
    ensure!(demo.status.success(), "{}", demo.output);
    let words = demo.output.split_whitespace().map(|word| word.trim_end_matches([':', ',']));
    let name = words.into_iter().find(|word| word.starts_with("demo_")).context("no name")?.to_owned();
    let client = world.client()?;
    let profile = client.user(&name).await?;
    if demo.output.contains("account removed") {
        ensure!(profile.status != 200, "{} is still there:\n{}", name, demo.output);
    } else {
        let told = format!("{name} could not be removed");
        ensure!(profile.status == 200 && demo.output.contains(&told), "{}", demo.output);
        ensure!(profile.body["icon"].as_array().is_some_and(Vec::is_empty), "its picture is still there");
    }
    Ok(())
}
