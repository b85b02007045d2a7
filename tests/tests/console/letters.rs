//! Dead letters on pages: paged by key, exported, and hostile.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lapin::{options::QueueDeclareOptions, types::FieldTable};
use orrery_tests::World;
use serde_json::Value;

use crate::{Browser, SOON, make_letters};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_wrote_is_shown_as_text_and_never_run() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&[]).await?;
    let browser = Browser::logged_in(&world, &service).await?;
    let hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}\u{202e}";
    let headers = serde_json::json!({
        "cloudEvents_specversion": "1.0", "cloudEvents_id": hostile, "cloudEvents_source": "/x", "cloudEvents_type": "com.gravitalia.email",
        "\"><script>alert(3)</script>": hostile,
    });
    let body = serde_json::json!({"account": hostile, "locale": "</pre><script>alert(4)</script>"});
    let id = "01900000-0000-7000-8000-000000000001";
    let sql = format!(
        "INSERT INTO bus.dead_letters (id, handler, letter, source, event_id, type, reason, causes, attempts, trace_id, failed_at, content_type, headers, body) \
         VALUES ('{id}', $h${hostile}$h$, 'a', $h${hostile}$h$, 'b', 'com.gravitalia.email', $h${hostile}$h$, ARRAY[$h${hostile}$h$], 1, $h${hostile}$h$, now(), \
                 'application/json', $h${headers}$h$, convert_to($h${body}$h$, 'UTF8'))"
    );
    world.database().execute(&sql).await?;
    for path in [
        "/dead".to_owned(),
        format!("/dead/{id}"),
        "/dead?handler=%3Cscript%3Ealert(1)%3C/script%3E&reason=%22%3E%3Cimg%20src=x%3E".to_owned(),
    ] {
        let page = browser.get(&path).await?.expect(200)?;
        for raw in ["<script>alert", "<img src=x", "\u{202e}"] {
            ensure!(!page.contains(raw), "{path} has {raw}");
        }
        ensure!(!page.contains("> 49") && !page.contains(">49"), "{path} ran a template");
    }
    let page = browser.get(&format!("/dead/{id}")).await?.expect(200)?;
    ensure!(page.contains("&lt;script&gt;alert(3)") && page.contains("\\u{202e}"), "{page}");
    ensure!(!page.contains("Try again</button>"), "nobody would take it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_masks_what_may_name_a_person() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&[]).await?;
    let browser = Browser::logged_in(&world, &service).await?;
    make_letters(&world, 1, "refused").await?;
    let id = world.database().text("SELECT id FROM bus.dead_letters").await?.context("no letter")?;
    let page = browser.get(&format!("/dead/{id}")).await?.expect(200)?;
    ensure!(!page.contains("Margarethe") && page.contains("account"), "{page}");
    ensure!(!browser.get("/dead/export").await?.expect(200)?.contains("Margarethe"));
    Ok(())
}

/// `ORRERY_LONG=1` makes it a million.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_letters_are_paged_by_key_and_need_no_more_memory() -> Result<()> {
    let letters = if std::env::var_os("ORRERY_LONG").is_some() { 1_000_000 } else { 100_000 };
    let world = World::start().await?;
    let channel = world.broker().channel().await?;
    for number in 0..50 {
        let name = format!("of.others.{number}");
        channel.queue_declare(name.into(), QueueDeclareOptions::default(), FieldTable::default()).await?;
    }
    let service = world.spawn(&["console"]).await?;
    let browser = Browser::logged_in(&world, &service).await?;
    make_letters(&world, letters, "550 mailbox 1234567 is unknown").await?;
    world.database().execute("ANALYZE bus.dead_letters").await?;
    let first = browser.get("/dead").await?.expect(200)?;
    ensure!(first.contains("550 mailbox * is unknown") && first.contains("20,000"), "{first}");
    // The overview is of the look that all viewers share: it costs the same with none of them.
    let mut times = Vec::new();
    for _ in 0..21 {
        let asked = Instant::now();
        browser.get("/").await?.expect(200)?;
        times.push(asked.elapsed());
    }
    times.sort();
    ensure!(times[10] < Duration::from_millis(200), "the overview takes {:?}", times[10]);
    let before = service.memory()?.anonymous_bytes;
    let (mut seen, mut after) = (BTreeSet::new(), String::new());
    for _ in 0..10 {
        let page = browser.get(&format!("/api/dead.json?{after}")).await?.expect(200)?;
        let page: Value = serde_json::from_str(&page)?;
        let listed = page["letters"].as_array().context("no letters")?;
        ensure!(listed.len() == 50);
        for letter in listed {
            ensure!(seen.insert(letter["id"].as_str().context("no id")?.to_owned()), "{letter} came twice");
        }
        after = format!("after={}", page["next_after"].as_str().context("no next page")?);
    }
    // A debug build beside other tests writes 2,000 lines a second.
    let export = browser.http.get(format!("{}/dead/export", browser.base)).timeout(SOON * (letters / 20_000));
    let export = browser.send(export).await?.expect(200)?;
    ensure!(export.lines().count() == usize::try_from(letters)?);
    let grown = service.memory()?.anonymous_bytes.saturating_sub(before);
    ensure!(grown < 48 * 1024 * 1024, "it grew by {grown} bytes");
    browser.until("/audit", &format!("exported {letters}")).await?;
    Ok(())
}
