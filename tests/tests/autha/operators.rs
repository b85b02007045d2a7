//! Operators: the command line, the admin API, the audit log, rotation of keys.

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use orrery_tests::{Client, Person, World};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{SOON, bare, fault, internal_id, kid, mailbox, moving, second_factor, send, somebody};

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

/// An operator with a second factor, whose token has this scope.
pub async fn operator(world: &World, scope: &str) -> Result<Client> {
    let (person, client) = somebody(world).await?;
    let granted = world.run(&["account", "operator", &internal_id(world, &person).await?], SOON).await?;
    ensure!(granted.status.success(), "{}", granted.output);
    let client = client.logged_in(&person).await?;
    let (_, codes) = second_factor::set_up(&client, &person).await?;
    let body = json!({"email": person.email, "password": person.password, "scope": scope, "totpCode": codes.first()});
    let session = send(&client, Method::POST, "/login", body).await?.expect(200)?;
    Ok(client.with_token(session.text("access_token")?))
}

/// An operator's acts, over HTTP or by the command line.
enum Hand<'a> {
    Http(&'a Client),
    Command(&'a World),
}

impl Hand<'_> {
    async fn act(&self, person: &Person, act: &str) -> Result<()> {
        match self {
            Self::Http(admin) => {
                let path = format!("/admin/accounts/{}", person.id);
                match act {
                    "delete" => bare(admin, Method::DELETE, &path).await?.expect(200)?,
                    act => bare(admin, Method::POST, &format!("{path}/{act}")).await?.expect(204)?,
                };
            }
            Self::Command(world) => {
                let yes = if act == "delete" { &["--yes"][..] } else { &[] };
                let arguments = [&["account", act, person.id.as_str()], yes].concat();
                let done = world.run(&arguments, SOON).await?;
                ensure!(done.status.success(), "{}", done.output);
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn an_operator_acts_over_http_and_by_the_command_line_alike() -> Result<()> {
    let world = mailbox::world(&[]).await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let admin = operator(&world, "admin").await?;
    for hand in [Hand::Http(&admin), Hand::Command(&world)] {
        let (person, client) = somebody(&world).await?;
        second_factor::set_up(&client, &person).await?;
        hand.act(&person, "end-sessions").await?;
        client.me().await?.expect(401)?;
        world.client()?.login(&person).await?.expect(401)?;
        hand.act(&person, "reset-second-factor").await?;
        let client = world.client()?.logged_in(&person).await?;
        hand.act(&person, "delete").await?;
        client.me().await?.expect(401)?;
        client.user(&person.id).await?.expect(410)?;
        hand.act(&person, "restore").await?;
        client.user(&person.id).await?.expect(200)?;
        world.client()?.logged_in(&person).await?;
        let account = internal_id(&world, &person).await?;
        ensure!(mailbox::count(&world, &account, "deletion_scheduled").await? == 1);
    }
    // An account is made, and its owner sets the password by the mail.
    let new = Person::new();
    world.keep(&new);
    let body = json!({"id": new.id, "email": new.email, "locale": "fr"});
    send(&admin, Method::POST, "/admin/accounts", body.clone()).await?.expect(201)?;
    send(&admin, Method::POST, "/admin/accounts", body).await?.expect(409)?;
    world.client()?.login(&new).await?.expect(401)?;
    let link = mailbox::secret(&world, &internal_id(&world, &new).await?, "recover").await?;
    let set = json!({"token": link, "password": new.password});
    send(&world.client()?, Method::POST, "/recover", set).await?.expect(204)?;
    world.client()?.logged_in(&new).await?;
    // Reserved names are nobody's, whoever gives them.
    let reserved = json!({"id": "supp0rt", "email": Person::new().email});
    fault(&send(&admin, Method::POST, "/admin/accounts", reserved).await?, 422, "id", "reserved")?;
    let refused = world.run(&["account", "create", "supp0rt", "somebody@people.example"], SOON).await?;
    ensure!(!refused.status.success(), "{}", refused.output);

    let invited = send(&admin, Method::POST, "/admin/invites", json!({})).await?.expect(201)?;
    world.secret(invited.text("invite")?);
    ensure!(invited.text("link")?.ends_with(invited.text("invite")?), "{}", invited.body);
    bare(&admin, Method::GET, "/admin/deletions").await?.expect(200)?;
    let lines = bare(&admin, Method::GET, "/admin/audit").await?.expect(200)?.body;
    let acts = lines["lines"].as_array().context("no lines")?;
    for (action, times) in [
        ("account.delete", 2),
        ("account.restore", 2),
        ("account.reset_second_factor", 2),
        ("account.end_sessions", 2),
        ("account.create", 1),
        ("account.invite", 1),
    ] {
        let found = acts.iter().filter(|line| line["action"] == action).count();
        ensure!(found == times, "{found} lines of {action}: {lines}");
    }
    Ok(())
}

#[tokio::test]
async fn the_audit_log_is_kept_as_long_as_it_is_configured() -> Result<()> {
    let world = World::builder().env("ORRERY_AUTHA__AUDIT_LIFETIME", "30d").start().await?;
    let mut service = world.spawn(&["gateway", "autha"]).await?;
    let (person, _) = somebody(&world).await?;
    for _ in 0..2 {
        let shown = world.run_revealing(&["account", "show", &person.id], &[], SOON).await?;
        ensure!(shown.status.success(), "{}", shown.output);
    }
    let lines = "SELECT count(*) FROM autha.audit";
    ensure!(world.database().count(lines).await? == 2);
    let aged = "UPDATE autha.audit SET at = now() - interval '31 days' WHERE id = (SELECT id FROM autha.audit ORDER BY id LIMIT 1)";
    world.database().execute(aged).await?;
    service.terminate(SOON).await?;
    service.restart().await?;
    orrery_tests::deadline::until(SOON, "the old line to go", async || {
        world.database().count(lines).await.is_ok_and(|lines| lines == 1)
    })
    .await
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
    let rows: Vec<Value> = people
        .iter()
        .map(|person| {
            json!({"id": person.id, "email": person.email, "password_hash": moving::BCRYPT, "totp_secret": second_factor::SECRET})
        })
        .collect();
    moving::import(&world, &rows).await?;
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
    let log_in = async |n: usize, step: i64| {
        let code = second_factor::code(second_factor::SECRET, step)?;
        let body = json!({"email": people[n].email, "password": "correct horse", "totpCode": code});
        Ok::<_, anyhow::Error>(send(&world.client()?, Method::POST, "/login", body).await?.status)
    };
    for n in [0, 799] {
        ensure!(log_in(n, 0).await? == 200);
    }
    // The next run goes on, and is killed among the second factors.
    let totp = "SELECT count(DISTINCT split_part(secret, '.', 2)) FROM autha.credentials WHERE kind = 'totp'";
    ensure!(world.database().count(totp).await? == 1);
    let (mut command, _) = world.command(&["keys", "rotate", "--data"], &both)?;
    orrery_tests::deadline::until(SOON, "the first secret", async || {
        world.database().count(totp).await.is_ok_and(|keys| keys == 2)
    })
    .await?;
    command.kill();
    ensure!(world.database().count(totp).await? == 2, "it was over before the kill");
    ensure!(world.database().count(prefixes).await? == 1, "an address was left behind");
    for n in [1, 798] {
        ensure!(log_in(n, 0).await? == 200);
    }
    let done = world.run_with(&["keys", "rotate", "--data"], &both, SOON).await?;
    ensure!(done.status.success(), "{}", done.output);
    // Nothing lies under the former key, wherever it lies.
    for (table, column) in [
        ("accounts", "email_normal"),
        ("accounts", "email_typed"),
        ("credentials", "secret"),
        ("sessions", "device"),
        ("challenges", "data"),
        ("signing_keys", "sealed"),
        ("audit", "actor"),
        ("audit", "detail"),
    ] {
        let keys = format!(
            "SELECT count(DISTINCT split_part({column}, '.', 2)) FROM autha.{table} WHERE {column} LIKE 'v1.%'"
        );
        ensure!(world.database().count(&keys).await? <= 1, "{table}.{column}");
    }
    drop(service);
    let _service = world.spawn_with(&["gateway", "autha"], &[("ORRERY_KEYS__MASTER", &new)]).await?;
    for n in [0, 400, 799] {
        ensure!(log_in(n, 1).await? == 200);
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
