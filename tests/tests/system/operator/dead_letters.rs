//! Dead letters: shown, revealed, redriven, dropped, exported.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, time::Duration};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use diesel_async::SimpleAsyncConnection;
use lapin::BasicProperties;
use orrery_tests::{Person, World, broker::event_headers, deadline::eventually};
use serde_json::Value;

use super::{SOON, code, json, run};

async fn letters(world: &World, count: i64) -> Result<()> {
    eventually(SOON, "the dead letters", async || {
        let found = world.database().count("SELECT count(*) FROM bus.dead_letters").await.ok()?;
        (found == count).then_some(())
    })
    .await
}

/// The id of the one letter there is.
async fn letter(world: &World) -> Result<String> {
    letters(world, 1).await?;
    world.database().text("SELECT id FROM bus.dead_letters").await?.context("no letter")
}

/// Makes dead letters: messages to maily that are mails of nobody.
async fn bad_messages(world: &World, count: usize, ty: &str) -> Result<()> {
    for n in 0..count {
        let headers = event_headers(&format!("bad-{n}"), "/test", ty);
        let properties =
            BasicProperties::default().with_headers(headers).with_content_type("application/json".into());
        world.broker().publish_raw("", "maily.email", properties, b"{\"n\": 1}").await?;
    }
    Ok(())
}

/// A person whose welcome mail the server refuses for good, and the letter of it.
async fn refused(world: &World) -> Result<(Person, String)> {
    let person = Person::new();
    world.smtp().reply_to_rcpt(550, &format!("5.1.1 <{}>: no such mailbox", person.email));
    world.client()?.sign_up(&person).await?.expect(201)?;
    let id = letter(world).await?;
    Ok((person, id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_names_nobody_until_it_is_revealed_with_the_key() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    let (person, id) = refused(&world).await?;
    // That no output of a command without --reveal names the person is checked when the world is dropped.
    let table = run(&world, &["dead", "list"]).await?;
    code(&table, 0)?;
    ensure!(table.output.contains(&id) && table.output.contains("550"), "{}", table.output);
    let shown = run(&world, &["dead", "show", &id]).await?;
    code(&shown, 0)?;
    ensure!(shown.output.contains("550") && shown.output.contains("\"v1."), "{}", shown.output);
    code(&run(&world, &["--json", "dead", "show", &id]).await?, 0)?;
    code(&run(&world, &["dead", "show", "01900000-0000-7000-8000-000000000000"]).await?, 3)?;

    let reveal = ["queues", "dead", "show", "--reveal", id.as_str()];
    let revealed = world.run_revealing(&reveal, &[], SOON).await?;
    code(&revealed, 0)?;
    ensure!(
        revealed.output.contains(&person.email) && revealed.output.contains(&person.id),
        "{}",
        revealed.output
    );
    let key = STANDARD.encode([7; 32]);
    let wrong = world.run_revealing(&reveal, &[("ORRERY_KEYS__MAIL", &key)], SOON).await?;
    code(&wrong, 1)?;
    ensure!(!wrong.output.contains(&person.email), "{}", wrong.output);
    ensure!(
        wrong.output.contains("not opened: sealed under a key that is not in the configuration"),
        "{}",
        wrong.output
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_mail_key_nothing_is_revealed() -> Result<()> {
    let world = World::builder().without("ORRERY_KEYS__MAIL").start().await?;
    let shown = run(&world, &["dead", "export", "--all", "--reveal"]).await?;
    code(&shown, 1)?;
    ensure!(shown.output.contains("keys.mail: is missing"), "{}", shown.output);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redriven_letter_has_its_effect_once_and_is_gone() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    let (person, id) = refused(&world).await?;
    ensure!(world.smtp().mails().is_empty());
    let done = json(&world, &["dead", "redrive", "--id", &id]).await?;
    ensure!(done["redriven"] == 1, "{done}");
    world.smtp().wait_for(1, SOON).await?;
    ensure!(world.smtp().mails_to(&person.email).len() == 1);
    letters(&world, 0).await?;
    code(&run(&world, &["dead", "redrive", "--id", &id]).await?, 3)?;
    let sql = "SELECT count(*) FROM bus.inbox WHERE handler = 'maily.email' AND done_at IS NOT NULL";
    eventually(SOON, "the mail is done", async || {
        (world.database().count(sql).await.ok()? == 1).then_some(())
    })
    .await?;
    ensure!(world.smtp().mails().len() == 1, "{} mails", world.smtp().mails().len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redriven_letter_has_its_one_retry_again() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    let (_, id) = refused(&world).await?;
    world.smtp().reply_to_data(451, "4.7.1 greylisted");
    code(&run(&world, &["dead", "redrive", "--id", &id]).await?, 0)?;
    world.smtp().wait_for(1, SOON).await?;
    ensure!(world.smtp().attempts() == 2, "{} tries", world.smtp().attempts());
    letters(&world, 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_redrives_at_once_have_one_effect_for_each_letter() -> Result<()> {
    const LETTERS: usize = 40;
    let world = World::start().await?;
    let front = world.spawn(&["gateway", "autha", "maily"]).await?;
    bad_messages(&world, LETTERS, "com.gravitalia.email").await?;
    letters(&world, 40).await?;
    drop(front);
    // Both are held until both are about to begin, and then long enough for one to be at work when the other begins.
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END'; \
                CREATE TRIGGER slow BEFORE INSERT ON bus.outbox FOR EACH STATEMENT EXECUTE FUNCTION slow()";
    world.database().execute(slow).await?;
    let mut gate = world.database().connect().await?;
    gate.batch_execute("BEGIN; LOCK TABLE bus.dead_letters IN SHARE MODE").await?;
    let redrive = ["dead", "redrive", "--handler", "maily.email"];
    let open = async {
        let held = "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database \
                    WHERE NOT granted AND relation = 'bus.dead_letters'::regclass AND datname = current_database()";
        eventually(SOON, "both wait", async || (world.database().count(held).await.ok()? == 2).then_some(()))
            .await?;
        anyhow::Ok(gate.batch_execute("COMMIT").await?)
    };
    let (one, other, opened) = tokio::join!(run(&world, &redrive), run(&world, &redrive), open);
    opened?;
    let ends = [one?.status.code(), other?.status.code()];
    ensure!(ends.iter().all(|end| matches!(end, Some(0 | 3))) && ends.contains(&Some(0)), "{ends:?}");
    letters(&world, 0).await?;
    let rows = world.database().count("SELECT count(*) FROM bus.outbox WHERE producer = 'operator'").await?;
    ensure!(usize::try_from(rows)? == LETTERS, "{rows} rows");
    // What was tried counts anew, and what was written on the letter is not on the message.
    let clean = "SELECT count(*) FROM bus.outbox WHERE producer = 'operator' AND headers ? 'cloudEvents_id' \
                 AND NOT headers ?| array['attempt', 'reason', 'causes', 'failed-at', 'handler', 'letter']";
    ensure!(usize::try_from(world.database().count(clean).await?)? == LETTERS, "headers are left");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_keeps_to_its_rate() -> Result<()> {
    let world = World::start().await?;
    let maily = world.spawn(&["maily"]).await?;
    bad_messages(&world, 6, "com.gravitalia.email").await?;
    letters(&world, 6).await?;
    drop(maily);
    let begun = std::time::Instant::now();
    code(&run(&world, &["dead", "redrive", "--all", "--yes", "--rate", "2/s"]).await?, 0)?;
    ensure!(begun.elapsed() >= Duration::from_millis(2400), "6 letters took {:?}", begun.elapsed());
    letters(&world, 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_letters_are_redriven_only_when_asked_and_at_a_rate_that_is_told() -> Result<()> {
    let world = World::start().await?;
    let maily = world.spawn(&["maily"]).await?;
    bad_messages(&world, 120, "com.gravitalia.email").await?;
    letters(&world, 120).await?;
    drop(maily);
    let unasked = run(&world, &["dead", "redrive", "--all"]).await?;
    code(&unasked, 2)?;
    ensure!(unasked.output.contains("--yes"), "{}", unasked.output);
    let redrive = ["queues", "dead", "redrive", "--all"];
    let kept = world.run_answering(&redrive, "n", SOON).await?;
    code(&kept, 1)?;
    ensure!(kept.output.contains("send 120 dead letters again (maily.email 120)?"), "{}", kept.output);
    letters(&world, 120).await?;
    // 100 a second where no rate is given: new people's mails are not held up.
    let begun = std::time::Instant::now();
    code(&world.run_answering(&redrive, "y", SOON).await?, 0)?;
    ensure!(begun.elapsed() >= Duration::from_secs(1), "120 letters took {:?}", begun.elapsed());
    letters(&world, 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_counted_by_reason_and_found_by_the_beginnings_of_their_ids() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&[]).await?;
    let (_, id) = refused(&world).await?;
    bad_messages(&world, 2, "com.gravitalia.email").await?;
    letters(&world, 3).await?;
    drop(service);
    let table = run(&world, &["dead", "count"]).await?;
    code(&table, 0)?;
    ensure!(
        table.output.contains("3 dead letters in all") && table.output.contains("550"),
        "{}",
        table.output
    );
    let counted = json(&world, &["dead", "count"]).await?;
    ensure!(counted["total"] == 3 && counted["handlers"]["maily.email"] == 3, "{counted}");
    let reasons: Vec<_> =
        counted["reasons"].as_array().into_iter().flatten().map(|row| &row["letters"]).collect();
    ensure!(reasons == [2, 1], "{counted}");

    let typo = run(&world, &["dead", "count", "--handler", "maily.emial"]).await?;
    code(&typo, 2)?;
    ensure!(
        typo.output.contains("there is no handler 'maily.emial'; there are ")
            && typo.output.contains("maily.email"),
        "{}",
        typo.output
    );

    // UUIDv7 of one test begin alike.
    let alike = id.get(..8).context("a short id")?;
    let several = run(&world, &["dead", "list", "--id", alike]).await?;
    code(&several, 3)?;
    ensure!(several.output.contains(&format!("several ids begin with {alike}: {id}")), "{}", several.output);
    let none = run(&world, &["dead", "list", "--id", "ffffffff"]).await?;
    code(&none, 3)?;
    ensure!(none.output.contains("there is no dead letter whose id begins with ffffffff"), "{}", none.output);
    let others = world.database().rows("SELECT id FROM bus.dead_letters").await?;
    let others: Vec<_> =
        others.iter().filter_map(|row| row["id"].as_str()).filter(|other| *other != id).collect();
    let longest = (8..=36).find(|end| others.iter().all(|other| other.get(..*end) != id.get(..*end)));
    let one = run(
        &world,
        &["dead", "list", "--id", id.get(..longest.context("two equal ids")?).context("a short id")?],
    )
    .await?;
    code(&one, 0)?;
    ensure!(
        one.output.contains(&id) && others.iter().all(|other| !one.output.contains(other)),
        "{}",
        one.output
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_dropped_only_when_asked_twice() -> Result<()> {
    let world = World::start().await?;
    let _maily = world.spawn(&["maily"]).await?;
    bad_messages(&world, 3, "com.gravitalia.email").await?;
    letters(&world, 3).await?;
    let unchosen = run(&world, &["dead", "drop", "--yes"]).await?;
    code(&unchosen, 2)?;
    ensure!(unchosen.output.contains("--all"), "{}", unchosen.output);
    let unasked = run(&world, &["dead", "drop", "--all"]).await?;
    code(&unasked, 2)?;
    ensure!(unasked.output.contains("--yes"), "{}", unasked.output);
    letters(&world, 3).await?;
    code(&run(&world, &["dead", "drop", "--yes", "--reason", "of another kind"]).await?, 3)?;
    code(&run(&world, &["dead", "drop", "--yes", "--older-than", "1h"]).await?, 3)?;
    let dropped = run(&world, &["dead", "drop", "--yes", "--newer-than", "1h"]).await?;
    code(&dropped, 0)?;
    ensure!(dropped.output.contains("dropped 3 dead letters"), "{}", dropped.output);
    letters(&world, 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_can_be_read_elsewhere_and_shows_no_address() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    let (person, id) = refused(&world).await?;
    let file = world.folder().join("letters.jsonl");
    let to = file.to_str().context("no UTF-8")?;
    code(&run(&world, &["dead", "export", "--all", "--to", to]).await?, 0)?;
    ensure!(std::fs::metadata(&file)?.permissions().mode() & 0o077 == 0, "others may read it");
    let text = std::fs::read_to_string(&file)?;
    ensure!(!text.contains(&person.email) && text.lines().count() == 1, "{text}");
    let line: Value = serde_json::from_str(&text)?;
    ensure!(line["id"] == id.as_str() && line["handler"] == "maily.email" && line["attempts"] == 1, "{line}");
    ensure!(
        line["event"]["type"] == "com.gravitalia.email" && line["headers"]["cloudEvents_id"].is_string(),
        "{line}"
    );
    let body: Value =
        serde_json::from_slice(&STANDARD.decode(line["body_base64"].as_str().unwrap_or_default())?)?;
    ensure!(body == line["event"]["data"], "{body}");
    // What is there already is not written over.
    code(&run(&world, &["dead", "export", "--all", "--to", to]).await?, 1)?;
    let revealed = world.run_revealing(&["queues", "dead", "export", "--all", "--reveal"], &[], SOON).await?;
    code(&revealed, 0)?;
    let line: Value = serde_json::from_str(&revealed.output)?;
    ensure!(line["event"]["data"]["to"] == person.email.as_str(), "{line}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_hold_every_letter_once_and_move_no_cursor() -> Result<()> {
    let world = World::start().await?;
    let _maily = world.spawn(&["maily"]).await?;
    bad_messages(&world, 5, "com.gravitalia.email").await?;
    bad_messages(&world, 2, "x\u{1b}[2J\u{9b}31m").await?;
    letters(&world, 7).await?;
    let (mut seen, mut pages, mut after) = (BTreeSet::new(), 0, None);
    loop {
        let mut arguments = vec!["dead", "list", "--limit", "3"];
        arguments.extend(after.iter().flat_map(|after: &String| ["--after", after.as_str()]));
        let page = json(&world, &arguments).await?;
        pages += 1;
        for letter in page["letters"].as_array().context("no letters")? {
            ensure!(seen.insert(letter["id"].as_str().context("no id")?.to_owned()), "{letter} came twice");
        }
        let Some(next) = page["next_after"].as_str() else { break };
        after = Some(next.to_owned());
    }
    ensure!(seen.len() == 7 && pages == 3, "{} letters on {pages} pages", seen.len());
    let first = seen.iter().next().context("no letter")?;
    let named = json(&world, &["dead", "list", "--id", first, "--handler", "maily.email"]).await?;
    ensure!(named["letters"].as_array().is_some_and(|letters| letters.len() == 1), "{named}");
    code(&run(&world, &["dead", "list", "--type", "nothing"]).await?, 3)?;
    for arguments in [&["dead", "list"][..], &["--json", "dead", "list"]] {
        let output = run(&world, arguments).await?.output;
        ensure!(!output.chars().any(|c| c.is_control() && c != '\n'), "{output:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_whose_handler_is_not_enabled_are_told_of_and_stay() -> Result<()> {
    let world = World::builder().env("ORRERY_SERVICES", "gateway,autha").start().await?;
    let sql = "INSERT INTO bus.dead_letters (id, handler, letter, reason, attempts, failed_at, headers, body) \
               VALUES (gen_random_uuid(), 'maily.email', '1', 'refused', 1, now(), '{}', 'x')";
    world.database().execute(sql).await?;
    let table = run(&world, &["list"]).await?;
    ensure!(table.output.contains("1 dead letter of maily.email"), "{}", table.output);
    let refused = run(&world, &["dead", "redrive", "--all"]).await?;
    code(&refused, 1)?;
    ensure!(refused.output.contains("no enabled service has the handler maily.email"), "{}", refused.output);
    letters(&world, 1).await
}
