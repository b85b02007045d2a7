//! What has done its work is removed, and nothing that a message can still come for.

use std::time::Duration;

use anyhow::{Result, ensure};
use orrery_tests::{World, deadline::eventually};

const SOON: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inbox_is_pruned_but_for_what_can_come_again() -> Result<()> {
    let world = World::start().await?;
    world
        .database()
        .execute(
            "INSERT INTO bus.outbox (id, producer, source, type, time, expires_at, exchange, routing_key, data, status, settled_at) \
             SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, 'autha', 's', 't', now() - interval '46 days', now() + interval '1 day', '', 'k', '{}', \
                    (ARRAY['sent', 'unrouted', 'failed'])[n], now() FROM generate_series(1, 3) AS n; \
             INSERT INTO bus.inbox (handler, key, week, token, claimed_until, done_at, created_at) \
             SELECT handler, bus.inbox_key(handler, 's', id), bus.inbox_week(id), gen_random_uuid(), now(), now(), now() - age::interval FROM (VALUES \
                ('maily.email', 'old', '46 days'), ('maily.email', 'letter', '46 days'), ('maily.email', 'young', '44 days'), \
                ('maily.email', '00000000-0000-0000-0000-000000000001', '46 days'), \
                ('maily.email', '00000000-0000-0000-0000-000000000002', '46 days'), \
                ('maily.email', '00000000-0000-0000-0000-000000000003', '46 days'), \
                ('spinoza.images', 'letter', '46 days'), ('elsewhere', 'old', '46 days')) AS rows (handler, id, age); \
             INSERT INTO bus.dead_letters (id, handler, letter, inbox_key, event_id, reason, attempts, failed_at, archived_at, headers, body) \
             VALUES (gen_random_uuid(), 'maily.email', '1', bus.inbox_key('maily.email', 's', 'letter'), 'letter', 'r', 2, now(), now() - interval '20 days', '{}', '')",
        )
        .await?;
    // Maily alone: its role may look no further than this needs.
    let mut service = world.spawn(&["maily"]).await?;
    let gone = "SELECT count(*) FROM bus.inbox WHERE key IN (bus.inbox_key('maily.email', 's', 'old'), \
                bus.inbox_key('maily.email', 's', '00000000-0000-0000-0000-000000000001'))";
    eventually(SOON, "what has done its work is removed", async || {
        (world.database().count(gone).await.ok()? == 0).then_some(())
    })
    .await?;
    ensure!(world.database().count("SELECT count(*) FROM bus.inbox").await? == 4, "more was removed");
    ensure!(world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 1);
    service.terminate(SOON).await?;

    let keep = [("ORRERY_RETENTION__DEAD_LETTERS", "19days")];
    let _service = world.spawn_with(&["maily"], &keep).await?;
    eventually(SOON, "the dead letter is removed", async || {
        (world.database().count("SELECT count(*) FROM bus.dead_letters").await.ok()? == 0).then_some(())
    })
    .await?;
    eventually(SOON, "its row too", async || {
        let left = "SELECT count(*) FROM bus.inbox WHERE key = bus.inbox_key('maily.email', 's', 'letter')";
        (world.database().count(left).await.ok()? == 0).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_that_would_forget_too_early_is_a_fault_of_the_configuration() -> Result<()> {
    let world = World::builder().unmigrated().start().await?;
    for settings in [
        &[("ORRERY_RETENTION__INBOX", "7days")][..],
        &[("ORRERY_RETENTION__DEAD_LETTERS", "40days")],
        &[("ORRERY_MAILY__RETRY_DELAY", "40days")],
    ] {
        let faulty = world.run_with(&["serve"], settings, SOON).await?;
        ensure!(!faulty.status.success(), "{settings:?} was taken");
        for field in [
            "retention.inbox",
            "retention.sent",
            "broker.event_lifetime",
            "retention.dead_letters",
            "retry_delay",
        ] {
            ensure!(faulty.output.contains(field), "no {field} in {}", faulty.output);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sent_rows_are_pruned_and_unsent_ones_are_not() -> Result<()> {
    let world = World::start().await?;
    world
        .database()
        .execute(
            "INSERT INTO bus.outbox (id, producer, source, type, time, expires_at, exchange, routing_key, data, status, settled_at) \
             SELECT gen_random_uuid(), 'autha', 's', status || age, now(), now() + expires::interval, '', 'k', '{}', status, now() - age::interval \
             FROM (VALUES ('sent', '25 hours', '1 day'), ('sent', '23 hours', '1 day'), ('unrouted', '25 hours', '1 day'), \
                          ('unrouted', '8 days', '-1 day'), ('failed', '90 days', '-80 days')) AS rows (status, age, expires), generate_series(1, 1500)",
        )
        .await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    eventually(SOON, "old rows are removed", async || {
        (world.database().count("SELECT count(*) FROM bus.outbox").await.ok()? == 4500).then_some(())
    })
    .await?;
    let kept = "SELECT count(DISTINCT type) FROM bus.outbox WHERE type IN ('sent23 hours', 'unrouted25 hours', 'failed90 days')";
    ensure!(world.database().count(kept).await? == 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_week_of_the_inbox_is_dropped_whole_and_a_long_absence_is_caught_up() -> Result<()> {
    let world = World::start().await?;
    // Ten weeks ago nobody pruned: a partition of messages that are done, one of which is a letter, and thousands that lie in no week.
    world
        .database()
        .execute(
            "DO $$ DECLARE old integer := floor(extract(epoch FROM now()) / 604800) - 10; BEGIN \
                EXECUTE format('CREATE TABLE bus.%I (LIKE bus.inbox INCLUDING DEFAULTS)', 'inbox_' || old); \
                EXECUTE format('ALTER TABLE bus.inbox ATTACH PARTITION bus.%I FOR VALUES IN (%s)', 'inbox_' || old, old); \
                INSERT INTO bus.inbox (handler, key, week, token, claimed_until, done_at, created_at) \
                    SELECT 'maily.email', bus.inbox_key('maily.email', 's', n::text), CASE WHEN n <= 1500 THEN old ELSE -1 END, \
                           gen_random_uuid(), now(), now(), now() - interval '70 days' FROM generate_series(1, 4500) AS n; \
             END $$; \
             INSERT INTO bus.dead_letters (id, handler, letter, inbox_key, event_id, reason, attempts, failed_at, headers, body) \
             SELECT gen_random_uuid(), 'maily.email', n::text, bus.inbox_key('maily.email', 's', n::text), n::text, 'r', 2, now(), '{}', '' \
                 FROM (VALUES (7), (3000)) AS kept (n)",
        )
        .await?;
    let _service = world.spawn(&["maily"]).await?;
    let partition = "SELECT count(*) FROM pg_class WHERE relname = 'inbox_' || (floor(extract(epoch FROM now()) / 604800)::integer - 10)";
    eventually(SOON, "the week is dropped", async || {
        (world.database().count(partition).await.ok()? == 0).then_some(())
    })
    .await?;
    eventually(SOON, "only what is a letter is kept", async || {
        (world.database().count("SELECT count(*) FROM bus.inbox").await.ok()? == 2).then_some(())
    })
    .await?;
    let kept = "SELECT count(*) FROM bus.inbox JOIN bus.dead_letters ON inbox_key = key";
    ensure!(world.database().count(kept).await? == 2, "a letter's row was removed");
    Ok(())
}
