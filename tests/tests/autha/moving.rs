//! Moving in with hashes of other systems, and out.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use orrery_tests::{Person, World};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{SOON, second_factor};

/// bcrypt and PBKDF2 of `correct horse`.
pub const BCRYPT: &str = "$2b$05$qhbsZmlxUtdnXCxb8w7.Hu5uKoCRdixF7ZbKXJpHzkE66zCEJbYPm";
const PBKDF2: &str =
    "$pbkdf2-sha256$i=1000$MDEyMzQ1Njc4OWFiY2RlZg$cBg8D2DungRB9k76szThf5ehfyBz991ay6PT8Srwk4M";

fn row(person: &Person, hash: &str) -> String {
    serde_json::json!({"id": person.id, "email": person.email, "password_hash": hash, "email_verified": true})
        .to_string()
}

#[tokio::test]
async fn accounts_come_with_their_hashes_and_go_on_after_a_stop() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let mut people: Vec<Person> = (0..450).map(|_| Person::new()).collect();
    for person in &mut people {
        person.password = "correct horse".to_owned();
    }
    let mut lines: Vec<String> = people
        .iter()
        .enumerate()
        .map(|(n, person)| row(person, if n % 2 == 0 { BCRYPT } else { PBKDF2 }))
        .collect();
    lines.push("no json".to_owned());
    lines.push(r#"{"id": "admin", "email": "a@people.example"}"#.to_owned());
    lines.push(r#"{"id": "bad_hash", "email": "b@people.example", "password_hash": "md5"}"#.to_owned());
    let file = world.folder().join("dump.jsonl");
    std::fs::write(&file, lines.join("\n"))?;
    let path = file.to_str().context("no path")?;
    let arguments = ["account", "import", "--format", "jsonl", path];
    // Killed in the middle.
    let (process, _) = world.command(&arguments, &[])?;
    orrery_tests::deadline::until(SOON, "some accounts", async || {
        world.database().count("SELECT count(*) FROM autha.accounts").await.is_ok_and(|count| count >= 100)
    })
    .await?;
    drop(process);
    let done = world.run_revealing(&arguments, &[], SOON).await?;
    ensure!(
        done.status.success() && done.output.contains("450 accounts were made, 3 rows were left out"),
        "{}",
        done.output
    );
    for code in ["no_json", "reserved", "hash"] {
        ensure!(done.output.contains(code), "{code} is not in {}", done.output);
    }
    ensure!(world.database().count("SELECT count(*) FROM autha.accounts").await? == 450);
    let created = "SELECT count(*) FROM bus.outbox WHERE type = 'com.gravitalia.account.created.v1'";
    ensure!(world.database().count(created).await? == 450);
    for person in people.iter().take(2) {
        world.client()?.logged_in(person).await?;
    }
    let upgraded = "SELECT count(*) FROM autha.credentials WHERE secret LIKE '$argon2id$%'";
    ensure!(world.database().count(upgraded).await? == 2);
    let left = world.run_revealing(&["account", "export"], &[], SOON).await?;
    ensure!(left.status.success() && left.output.lines().filter(|line| line.starts_with('{')).count() == 450);
    Ok(())
}

/// Imports these rows, and gives what the command wrote.
pub async fn import(world: &World, rows: &[Value]) -> Result<String> {
    run(world, &["account", "import", "--format", "jsonl", &dump(world, rows)?]).await
}

/// Runs a command that ends well, and gives what it wrote.
async fn run(world: &World, arguments: &[&str]) -> Result<String> {
    let done = world.run_revealing(arguments, &[], SOON).await?;
    ensure!(done.status.success(), "{}", done.output);
    Ok(done.output)
}

fn dump(world: &World, rows: &[Value]) -> Result<String> {
    let file = world.folder().join(format!("{}.jsonl", orrery_tests::fresh::uuid()));
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    std::fs::write(&file, lines.join("\n"))?;
    Ok(file.to_str().context("no path")?.to_owned())
}

#[tokio::test]
async fn what_a_row_cannot_be_shown_with_stops_no_other_row() -> Result<()> {
    let world = World::start().await?;
    let people: Vec<Person> = (0..5).map(|_| Person::new()).collect();
    let of = |n: usize| json!({"id": people[n].id, "email": people[n].email, "password_hash": BCRYPT});
    let mut rows: Vec<Value> = (0..5).map(of).collect();
    // PostgreSQL has no such letter; a profile has no such length; no calendar has such a year.
    rows[0]["summary"] = json!("a\u{0}b\nc");
    rows[1]["username"] = json!("\u{0}\u{7}");
    rows[2]["summary"] = json!("x".repeat(100_000));
    rows[3]["created_at"] = json!("-99999999999");
    let told = import(&world, &rows).await?;
    ensure!(told.contains("5 accounts were made, 0 rows were left out"), "{told}");
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let client = world.client()?;
    let seen = async |n: usize, field: &str| -> Result<Value> {
        Ok(client.user(&people[n].id).await?.expect(200)?.body[field].clone())
    };
    ensure!(seen(0, "summary").await? == "ab\nc");
    ensure!(seen(1, "preferredUsername").await? == people[1].id);
    ensure!(seen(2, "summary").await?.as_str().map(str::len) == Some(1000));
    ensure!(seen(3, "published").await?.as_str().is_some_and(|at| at.starts_with("1970-")));
    Ok(())
}

#[tokio::test]
async fn two_imports_of_a_file_at_once_make_each_account_once() -> Result<()> {
    const MANY: usize = 300;
    let world = World::start().await?;
    let people: Vec<Person> = (0..MANY).map(|_| Person::new()).collect();
    let rows: Vec<Value> = people
        .iter()
        .map(|person| json!({"id": person.id, "email": person.email, "password_hash": BCRYPT}))
        .collect();
    let file = dump(&world, &rows)?;
    let arguments = ["account", "import", "--format", "jsonl", file.as_str()];
    // Whoever is behind says so, and goes on from there when it is run again.
    for _ in 0..2 {
        let both = [world.run_revealing(&arguments, &[], SOON), world.run_revealing(&arguments, &[], SOON)];
        for done in try_join_all(both).await? {
            let elsewhere = done.output.contains("another import of this file is running");
            ensure!(done.status.success() || elsewhere, "{}", done.output);
        }
    }
    let told = run(&world, &arguments).await?;
    ensure!(told.contains(&format!("{MANY} accounts were made, 0 rows were left out")), "{told}");
    for sql in [
        "SELECT count(*) FROM autha.accounts",
        "SELECT count(*) FROM autha.credentials",
        "SELECT count(*) FROM bus.outbox WHERE type = 'com.gravitalia.account.created.v1'",
    ] {
        ensure!(usize::try_from(world.database().count(sql).await?)? == MANY, "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn who_moves_out_moves_in_elsewhere_with_everything() -> Result<()> {
    let (here, there) = (World::start().await?, World::start().await?);
    let _service = here.spawn(&["gateway", "autha"]).await?;
    let (plain, client) = crate::somebody(&here).await?;
    let profile =
        json!({"username": "Ada L.", "summary": "Numbers.", "locale": "fr-CA", "publicKeys": crate::KEY});
    crate::send(&client, Method::PATCH, "/users/@me", profile).await?.expect(200)?;
    let (careful, client) = crate::somebody(&here).await?;
    let (secret, _) = second_factor::set_up(&client, &careful).await?;
    let (suspended, _) = crate::somebody(&here).await?;
    run(&here, &["account", "suspend", &suspended.id]).await?;
    let (leaving, client) = crate::somebody(&here).await?;
    let password = json!({"password": leaving.password});
    crate::send(&client, Method::DELETE, "/users/@me", password).await?.expect(200)?;
    let left = run(&here, &["account", "export"]).await?;
    let rows: Vec<Value> = left.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let told = import(&there, &rows).await?;
    ensure!(told.contains("3 accounts were made, 0 rows were left out"), "{told}");

    let _service = there.spawn(&["gateway", "autha"]).await?;
    let client = there.client()?.logged_in(&plain).await?;
    let (before, after) = (here.client()?.user(&plain.id).await?, client.user(&plain.id).await?.expect(200)?);
    for field in ["preferredUsername", "summary", "published"] {
        ensure!(before.body[field] == after.body[field], "{field}: {} {}", before.body, after.body);
    }
    ensure!(before.body["publicKeys"][0]["publicKeyPem"] == after.body["publicKeys"][0]["publicKeyPem"]);
    there.client()?.login(&careful).await?.expect(401)?;
    let body = json!({"email": careful.email, "password": careful.password, "totpCode": second_factor::code(&secret, 0)?});
    crate::send(&there.client()?, Method::POST, "/login", body).await?.expect(200)?;
    there.client()?.login(&suspended).await?.expect(403)?;
    there.client()?.login(&leaving).await?.expect(401)?;
    Ok(())
}
