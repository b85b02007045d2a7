//! Moving in with hashes of other systems, and out.

use anyhow::{Context, Result, ensure};
use orrery_tests::{Person, World};

use crate::SOON;

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
