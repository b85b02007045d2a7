//! Statements are planned once, while the tables are empty, whether PostgreSQL takes them for that or has not looked yet. When these have grown
//! each still reads only the rows that it needs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orrery_tests::{Person, World, deadline::eventually, pictures};

const SOON: Duration = Duration::from_secs(60);
const PEOPLE: i64 = 10;
const GROWN: i64 = 20_000;

const TABLES: [&str; 6] =
    ["bus.outbox", "bus.inbox", "autha.accounts", "autha.refresh_tokens", "autha.uploads", "autha.variants"];
/// Rows that PostgreSQL looked at, and rows that it changed.
const READ: &str = "seq_tup_read + idx_tup_fetch";
const CHANGED: &str = "n_tup_upd";

/// What somebody does, with its mail and its pictures: one is replaced and one is removed.
async fn arrive(world: &World, mails: usize) -> Result<()> {
    let (client, person) = (world.client()?, Person::new());
    let session = client.signed_up(&person).await?;
    session.me().await?.expect(200)?;
    let session = client.logged_in(&person).await?;
    client.refresh(session.refresh_token().context("no refresh token")?).await?.expect(200)?;
    for _ in 0..2 {
        let taken = session.put_avatar(pictures::gradient_png(80, 80)?, "image/png").await?.expect(202)?;
        let done = session.wait_upload(taken.location()?, SOON).await?;
        ensure!(done.get("status").is_some_and(|status| status == "done"), "{done}");
    }
    client.user(&person.id).await?.expect(200)?;
    let shown = client.get(&format!("/avatars/{}", person.id)).await?.expect(302)?;
    client.get(shown.location()?).await?.expect(200)?;
    session.delete_avatar().await?.expect(204)?;
    world.smtp().wait_for(mails, SOON).await?;
    Ok(())
}

/// A figure of all the tables, as far as PostgreSQL has been told.
async fn figure(world: &World, figure: &str) -> Result<i64> {
    let tables = TABLES.join(",");
    let sql = format!(
        "SELECT sum({figure}) FROM pg_stat_user_tables WHERE relid = ANY('{{{tables}}}'::regclass[]) \
            OR relid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'bus.inbox'::regclass)"
    );
    world.database().count(&sql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_planned_on_tables_never_analysed_reads_little_of_large_ones() -> Result<()> {
    reads_little(&World::start().await?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_planned_on_tables_analysed_while_empty_reads_little_of_large_ones() -> Result<()> {
    let world = World::start().await?;
    world.database().execute("ANALYZE").await?;
    reads_little(&world).await
}

async fn reads_little(world: &World) -> Result<()> {
    // PostgreSQL plans anew when it analyses a table: from now on it does not.
    let off = "DO $$ DECLARE name text; BEGIN \
               FOR name IN SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relnamespace IN ('bus'::regnamespace, 'autha'::regnamespace) LOOP \
                   EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', name); \
               END LOOP; END $$";
    world.database().execute(off).await?;
    let _service = world.spawn(&[]).await?;
    arrive(world, 1).await?;
    world
        .database()
        .execute(&format!(
            "INSERT INTO bus.outbox (id, producer, source, type, time, expires_at, exchange, routing_key, data, status, settled_at) \
             SELECT gen_random_uuid(), 'autha', 's', 't', now(), now() + interval '7 days', '', 'k', '{{}}', 'sent', now() \
             FROM generate_series(1, {GROWN}); \
             INSERT INTO bus.inbox (handler, key, week, token, claimed_until, done_at) \
             SELECT 'maily.email', gen_random_uuid(), bus.inbox_week(gen_random_uuid()::text), gen_random_uuid(), now(), now() FROM generate_series(1, {GROWN}) AS n; \
             INSERT INTO autha.accounts (id, vanity, username, email_hash, email_normal, email_typed, locale, created_at) \
             SELECT gen_random_uuid(), 'grown' || n, 'grown' || n, n::text::bytea, '', '', 'en', now() \
             FROM generate_series(1, {GROWN}) AS n; \
             INSERT INTO autha.credentials (id, account, kind, secret, created_at) \
             SELECT id, id, 'password', 'none', now() FROM autha.accounts WHERE vanity LIKE 'grown%'; \
             INSERT INTO autha.sessions (id, account, scopes, methods, authenticated_at, created_at, used_at) \
             SELECT id, id, '', '{{}}', now(), now(), now() FROM autha.accounts WHERE vanity LIKE 'grown%'; \
             INSERT INTO autha.refresh_tokens (hash, session, issued_at, expires_at) \
             SELECT sha256(id::text::bytea), id, now(), now() + interval '7 days' FROM autha.sessions WHERE scopes = ''; \
             INSERT INTO autha.uploads (id, account, state, object_key, media_type, size_bytes, digest, created_at, settled_at) \
             SELECT id, id, 'done', 'originals/' || id, 'image/png', 1, '', now(), now() FROM autha.accounts WHERE vanity LIKE 'grown%'; \
             INSERT INTO autha.variants (upload, width, object_key, media_type, size_bytes) \
             SELECT id, 64, 'grown/' || id, 'image/webp', 1 FROM autha.uploads WHERE object_key LIKE 'originals/%' AND digest = ''; \
             SELECT pg_stat_force_next_flush()"
        ))
        .await?;
    let (read, changed) = (figure(world, READ).await?, figure(world, CHANGED).await?);
    for mails in 2..=PEOPLE + 1 {
        arrive(world, usize::try_from(mails)?).await?;
    }
    // Each has a token that was used, a mail and pictures that are done, and rows of the outbox that were leased and settled.
    eventually(SOON, "PostgreSQL to be told of what was done", async || {
        (figure(world, CHANGED).await.ok()? >= changed + 8 * PEOPLE).then_some(())
    })
    .await?;
    let read = figure(world, READ).await? - read;
    ensure!(read < GROWN, "{PEOPLE} people had {read} rows read");
    Ok(())
}
