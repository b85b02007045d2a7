//! The console in a real browser, against a running system with real dead letters: `tests/console/click.mjs` clicks, looks with axe-core, and keeps screenshots under
//! `.run/console-screenshots`. It needs chromium and node, and `tests/console/install`.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use lapin::{BasicProperties, types::AMQPValue};
use orrery_tests::{Person, Service, World, broker::event_headers, deadline::eventually, ports::Port};
use tokio::process::Command;

use crate::{SOON, link};

/// How long the clicking may take on a busy machine.
const CLICKS: Duration = Duration::from_secs(400);

/// A message to maily that it rejects, with what others may have written into it.
async fn reject(world: &World, n: usize, ty: &str, extra: &[(&str, &str)], body: &str) -> Result<()> {
    let mut headers = event_headers(&format!("bad-{n}"), "/test", ty);
    for (name, value) in extra {
        headers.insert((*name).into(), AMQPValue::LongString((*value).into()));
    }
    let properties =
        BasicProperties::default().with_headers(headers).with_content_type("application/json".into());
    world.broker().publish_raw("", "maily.email", properties, body.as_bytes()).await
}

async fn scene(world: &World) -> Result<Service> {
    let service = world.spawn(&[]).await?;
    for _ in 0..3 {
        world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    }
    eventually(SOON, "the mails", async || (world.captured().ok()?.len() >= 3).then_some(())).await?;
    let script = "<script>alert(1)</script><img src=x onerror=alert(2)>";
    for n in 0..60 {
        reject(world, n, "com.gravitalia.email", &[], "{\"n\": 1}").await?;
    }
    for n in 60..64 {
        let extra = [
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("cloudEvents_subject", script),
        ];
        reject(world, n, "com.gravitalia.email", &extra, &format!("{{\"account\": \"{script}\"}}")).await?;
    }
    reject(world, 64, &format!("com.{}.v1", "averyveryverylongtypenamewithoutanybreak".repeat(4)), &[], "{}")
        .await?;
    let letters = "SELECT count(*) FROM bus.dead_letters";
    eventually(SOON, "the dead letters", async || {
        (world.database().count(letters).await.ok()? == 65).then_some(())
    })
    .await?;
    let rows = "INSERT INTO bus.outbox (id, producer, source, type, time, expires_at, exchange, routing_key, data, status, settled_at, last_error) \
                SELECT gen_random_uuid(), 'autha', 'com.gravitalia.autha', 'com.gravitalia.account.updated.v1', now(), now() + interval '5 days', 'events', \
                       'com.gravitalia.account.updated.v1', '{}', 'unrouted', now(), 'no queue is bound for it' FROM generate_series(1, 7)";
    world.database().execute(rows).await?;
    // Third parties: an endpoint that fails, one that was never confirmed, and what neither took.
    let third = "INSERT INTO partners.partners (id, name, origin, publishes, receives) VALUES (gen_random_uuid(), 'acme', 'command', '{com.acme.#}', \
                    '{com.acme.#,com.gravitalia.account.#}'), (gen_random_uuid(), 'a-partner-with-quite-a-long-name', 'command', '{}', '{com.gravitalia.account.*}'); \
                 INSERT INTO partners.endpoints (id, partner, url, concurrency, secret, state, reason, confirmed, cursor, failing_since) \
                    SELECT gen_random_uuid(), id, 'https://hooks.' || name || '.example/orrery?<script>alert(1)</script>', 1, 'x', \
                           CASE name WHEN 'acme' THEN 'active' ELSE 'pending' END, CASE name WHEN 'acme' THEN NULL ELSE 'its receiver answered 405' END, name = 'acme', 0, \
                           CASE name WHEN 'acme' THEN now() - interval '3 hours' END FROM partners.partners; \
                 INSERT INTO partners.deliveries (endpoint, position, state, key, type, event, attempts, first_at, next_at, last_error, last_status) \
                    SELECT id, n, 'dead', ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'com.gravitalia.account.updated.v1', '{}', 14, \
                           now() - interval '5 days', now() - interval '1 hour', 'the endpoint answered 500', 500 \
                    FROM partners.endpoints, generate_series(1, 3) AS n WHERE state = 'active'";
    for statement in third.split("; ") {
        world.database().execute(statement).await?;
    }
    Ok(service)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_is_clicked_through_for_a_desktop_and_a_phone() -> Result<()> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no folder above")?;
    let modules = top.join(".run/console");
    ensure!(modules.join("node_modules").is_dir(), "tests/console/install was not run: ./dev test does it");
    let partners = Port::reserve()?;
    let world = World::builder()
        .capture()
        .env("ORRERY_PARTNERS__LISTEN", &partners.address().to_string())
        .env("ORRERY_PARTNERS__PUBLIC_URL", "http://orrery.example")
        .env("ORRERY_CONSOLE__POLL_EVERY", "2s")
        .env("ORRERY_CONSOLE__UNDO", "5s")
        .env("ORRERY_SERVICES", "autha,maily,spinoza,gateway,console,partners")
        .start()
        .await?;
    let service = scene(&world).await?;
    let mut links = Vec::new();
    for _ in 0..5 {
        links.push(format!("{}/login?token={}", service.console_url(), link(&world).await?));
    }
    let output = Command::new("node")
        .arg(top.join("tests/console/click.mjs"))
        .env("CONSOLE_URL", service.console_url())
        .env("CONSOLE_LINKS", links.join(" "))
        .env("CONSOLE_PICTURES", top.join(".run/console-screenshots"))
        .env("CONSOLE_MODULES", &modules)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(CLICKS, output).await.context("the clicks took too long")??;
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{told}");
    Ok(())
}
