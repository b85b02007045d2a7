//! Operators: the command line, the admin API, the audit log, rotation of keys.

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use orrery_tests::{Person, World};
use reqwest::Method;
use serde_json::json;

use crate::{SOON, bare, internal_id, kid, moving, second_factor, send, somebody};

#[tokio::test]
async fn an_operator_suspends_restores_and_leaves_a_line_each() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    let run = async |arguments: &[&str]| -> Result<String> {
        let done = world.run_revealing(arguments, &[], SOON).await?;
        ensure!(done.status.success(), "{}", done.output);
        Ok(done.output)
    };
    run(&["account", "suspend", &person.id, "--reason", "spam"]).await?;
    client.me().await?.expect(401)?;
    world.client()?.login(&person).await?.expect(403)?;
    client.user(&person.id).await?.expect(410)?;
    run(&["account", "restore", &person.email]).await?;
    let client = world.client()?.logged_in(&person).await?;
    ensure!(run(&["account", "show", &person.id]).await?.contains(&person.email));
    ensure!(run(&["account", "list"]).await?.contains(&person.id));
    run(&["account", "end-sessions", &person.id]).await?;
    client.me().await?.expect(401)?;
    let log = run(&["account", "audit"]).await?;
    for action in ["account.suspend", "account.restore", "account.show", "account.end_sessions"] {
        ensure!(log.contains(action), "{action} is not in {log}");
    }
    // Names lie sealed.
    let sealed = world
        .database()
        .count("SELECT count(*) FROM autha.audit WHERE actor NOT LIKE 'v1.%' OR subject NOT LIKE 'v1.%'")
        .await?;
    ensure!(sealed == 0);
    Ok(())
}

#[tokio::test]
async fn the_admin_api_wants_an_operator_with_a_second_factor() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    let (other, _) = somebody(&world).await?;
    let log_in = async |code: Option<&str>| {
        let body =
            json!({"email": person.email, "password": person.password, "scope": "admin", "totpCode": code});
        send(&client, Method::POST, "/login", body).await
    };
    log_in(None).await?.expect(403)?;
    let granted = world.run(&["account", "operator", &internal_id(&world, &person).await?], SOON).await?;
    ensure!(granted.status.success(), "{}", granted.output);
    log_in(None).await?.expect(403)?;
    let (_, codes) = second_factor::set_up(&client, &person).await?;
    let session = log_in(codes.first().map(String::as_str)).await?.expect(200)?;
    let admin = client.clone().with_token(session.text("access_token")?);
    let listed = bare(&admin, Method::GET, "/admin/accounts").await?.expect(200)?;
    ensure!(listed.body["accounts"].as_array().map(Vec::len) == Some(2), "{}", listed.body);
    let path = format!("/admin/accounts/{}", other.id);
    ensure!(bare(&admin, Method::GET, &path).await?.expect(200)?.body["email"] == other.email);
    send(&admin, Method::POST, &format!("{path}/suspend"), json!({"reason": "spam"})).await?.expect(204)?;
    world.client()?.login(&other).await?.expect(403)?;
    bare(&admin, Method::POST, &format!("{path}/restore")).await?.expect(204)?;
    world.client()?.login(&other).await?.expect(200)?;
    bare(&admin, Method::GET, "/admin/accounts/nobody_at_all").await?.expect(404)?;
    let lines = bare(&admin, Method::GET, "/admin/audit").await?.expect(200)?.body;
    ensure!(lines["lines"].as_array().is_some_and(|lines| lines.len() >= 4), "{lines}");
    Ok(())
}

#[tokio::test]
async fn a_new_signing_key_is_published_before_it_signs_and_no_token_fails() -> Result<()> {
    let world = World::start().await?;
    let mut service = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    let before = kid(client.access_token().context("no token")?)?;
    let made = world.run(&["keys", "rotate"], SOON).await?;
    ensure!(made.status.success(), "{}", made.output);
    service.terminate(SOON).await?;
    service.restart().await?;
    let keys = client.get("/.well-known/jwks.json").await?.expect(200)?.body["keys"].as_array().map(Vec::len);
    ensure!(keys == Some(2), "{keys:?}");
    let still = world.client()?.logged_in(&person).await?;
    ensure!(
        kid(still.access_token().context("no token")?)? == before,
        "it signs before it was published for its time"
    );
    // An hour later; the processes before this one are long gone.
    service.terminate(SOON).await?;
    for past in [
        "publications SET since = since",
        "publications SET seen_at = seen_at",
        "signing_keys SET created_at = created_at",
    ] {
        world.database().execute(&format!("UPDATE autha.{past} - interval '61 minutes'")).await?;
    }
    service.restart().await?;
    let next = world.client()?.logged_in(&person).await?;
    ensure!(kid(next.access_token().context("no token")?)? != before, "the new key does not sign");
    // What the former key signed is valid until it ends.
    client.me().await?.expect(200)?;
    // A clock that was ahead is overcome: no time in the future takes a key away.
    world.database().execute("UPDATE autha.signing_keys SET created_at = now() + interval '2 hours', activated_at = now() + interval '2 hours'").await?;
    service.terminate(SOON).await?;
    service.restart().await?;
    world.client()?.logged_in(&person).await?.me().await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn a_kill_while_everything_is_sealed_anew_loses_nothing_and_the_next_run_goes_on() -> Result<()> {
    let (old, new) = (STANDARD.encode([7; 32]), STANDARD.encode([8; 32]));
    let world = World::builder().env("ORRERY_KEYS__MASTER", &old).start().await?;
    let both = [("ORRERY_KEYS__MASTER", new.as_str()), ("ORRERY_KEYS__MASTER_PREVIOUS", old.as_str())];
    let people: Vec<Person> = (0..800).map(|_| Person::new()).collect();
    let lines: Vec<String> = people
        .iter()
        .map(|person| {
            json!({"id": person.id, "email": person.email, "password_hash": moving::BCRYPT}).to_string()
        })
        .collect();
    let file = world.folder().join("dump.jsonl");
    std::fs::write(&file, lines.join("\n"))?;
    let path = file.to_str().context("no path")?;
    let made = world.run_revealing(&["account", "import", "--format", "jsonl", path], &[], SOON).await?;
    ensure!(made.status.success(), "{}", made.output);
    // Services run on with both keys meanwhile.
    let service = world.spawn_with(&["gateway", "autha"], &both).await?;
    let prefixes = "SELECT count(DISTINCT split_part(email_normal, '.', 2)) FROM autha.accounts";
    ensure!(world.database().count(prefixes).await? == 1);
    let (mut command, _) = world.command(&["keys", "rotate", "--data"], &both)?;
    orrery_tests::deadline::until(SOON, "the first address", async || {
        world.database().count(prefixes).await.is_ok_and(|keys| keys == 2)
    })
    .await?;
    command.kill();
    ensure!(world.database().count(prefixes).await? == 2, "it was over before the kill");
    // Whoever was reached and whoever was not logs in.
    let log_in = async |person: &Person| {
        let body = json!({"email": person.email, "password": "correct horse"});
        Ok::<_, anyhow::Error>(send(&world.client()?, Method::POST, "/login", body).await?.status)
    };
    for person in [people.first(), people.last()].into_iter().flatten() {
        ensure!(log_in(person).await? == 200);
    }
    let done = world.run_with(&["keys", "rotate", "--data"], &both, SOON).await?;
    ensure!(done.status.success(), "{}", done.output);
    ensure!(world.database().count(prefixes).await? == 1);
    drop(service);
    let _service = world.spawn_with(&["gateway", "autha"], &[("ORRERY_KEYS__MASTER", &new)]).await?;
    for person in [people.first(), people.get(400), people.last()].into_iter().flatten() {
        ensure!(log_in(person).await? == 200);
    }
    Ok(())
}

#[tokio::test]
async fn everything_is_sealed_anew_under_another_master_key() -> Result<()> {
    let (old, new) = (STANDARD.encode([7; 32]), STANDARD.encode([8; 32]));
    let world = World::builder().env("ORRERY_KEYS__MASTER", &old).start().await?;
    let mut service = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    let (_, codes) = second_factor::set_up(&client, &person).await?;
    service.terminate(SOON).await?;
    let settings = [("ORRERY_KEYS__MASTER", new.as_str()), ("ORRERY_KEYS__MASTER_PREVIOUS", old.as_str())];
    let done = world.run_with(&["keys", "rotate", "--data"], &settings, SOON).await?;
    ensure!(done.status.success(), "{}", done.output);
    let again = world.run_with(&["keys", "rotate", "--data"], &settings, SOON).await?;
    ensure!(again.output.contains("0 texts were sealed"), "{}", again.output);
    // Without the former key everything opens.
    let _service = world.spawn_with(&["gateway", "autha"], &[("ORRERY_KEYS__MASTER", &new)]).await?;
    let body = json!({"email": person.email, "password": person.password, "totpCode": codes.first()});
    send(&world.client()?, Method::POST, "/login", body).await?.expect(200)?;
    Ok(())
}
