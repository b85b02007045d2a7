//! Two replicas, each a gateway and an autha: what is shared is counted once, used once and ended everywhere, with PostgreSQL alone and with Redis.

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use orrery_tests::ports::Port;
use orrery_tests::redis::Redis;
use orrery_tests::{Client, Person, Service, World, deadline::eventually};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{SOON, changes, internal_id, kid, mailbox, second_factor, send};

/// Two processes over one database, and a client of each. They hold the second one's ports.
struct Pair {
    services: [Service; 2],
    clients: [Client; 2],
    /// Their first lives, as they publish keys.
    replicas: [String; 2],
    _ports: [Port; 2],
}

async fn pair(world: &World) -> Result<Pair> {
    let ports = [Port::reserve()?, Port::reserve()?];
    let [gateway, autha] = [ports[0].address().to_string(), ports[1].address().to_string()];
    let own = [("ORRERY_GATEWAY__LISTEN", gateway.as_str()), ("ORRERY_AUTHA__LISTEN", autha.as_str())];
    let first = world.spawn(&["gateway", "autha"]).await?;
    let published = async |known: Option<&str>| {
        orrery_tests::deadline::eventually(SOON, "a replica to publish its keys", async || {
            replicas(world).await.ok()?.into_iter().find(|replica| Some(replica.as_str()) != known)
        })
        .await
    };
    let one = published(None).await?;
    let second = world.spawn_with(&["gateway", "autha"], &own).await?;
    let clients = [world.client()?, world.client_of(&format!("http://{gateway}"))?];
    let two = published(Some(&one)).await?;
    Ok(Pair { services: [first, second], clients, replicas: [one, two], _ports: ports })
}

/// The requests, alternately at the two replicas and all at once.
async fn at_both<T>(pair: &Pair, times: usize, ask: impl AsyncFn(Client) -> Result<T>) -> Result<Vec<T>> {
    try_join_all((0..times).map(|n| ask(pair.clients[n % 2].clone()))).await
}

/// Settings under which loopback addresses have budgets.
const BUDGETS: [(&str, &str); 3] = [
    ("ORRERY_AUTHA__THROTTLE__TRUSTED_NETWORKS", "[]"),
    ("ORRERY_AUTHA__THROTTLE__ADDRESS_REQUESTS", "4"),
    ("ORRERY_AUTHA__THROTTLE__ACCOUNT_FAILURES", "6"),
];

/// Six wrong passwords, half of them at each replica, make the next one wait at both. Counted apart it would take twelve.
async fn wrong_ones_wait_at_both(pair: &Pair, from: &str, person: &Person) -> Result<()> {
    let wrong = Person { password: "not-the-right-one".to_owned(), ..person.clone() };
    let try_it = async |client: Client| -> Result<u16> {
        Ok(client.calling_from(from.parse()?)?.login(&wrong).await?.status)
    };
    for n in 0..6 {
        let status = try_it(pair.clients[n % 2].clone()).await?;
        ensure!(status == 401, "try {n}: {status}");
    }
    // The first delay is a second, which may be over on a busy machine; the one after two more is four.
    for _ in 0..2 {
        if at_both(pair, 2, &try_it).await? == [429, 429] {
            return Ok(());
        }
    }
    bail!("the two replicas count apart")
}

async fn throttles_are_shared(world: &World, pair: &Pair) -> Result<()> {
    // Sign-ups of one address, half of them at each.
    let from = async |client: Client| -> Result<u16> {
        let client = client.calling_from("127.0.0.21".parse()?)?;
        Ok(client.sign_up(&Person::new()).await?.status)
    };
    let answers = at_both(pair, 8, from).await?;
    let made = answers.iter().filter(|status| **status == 201).count();
    ensure!(made == 4 && answers.iter().all(|status| matches!(status, 201 | 429)), "{answers:?}");

    let person = Person::new();
    let owner = world.client()?.calling_from("127.0.0.22".parse()?)?.signed_up(&person).await?;
    wrong_ones_wait_at_both(pair, "127.0.0.22", &person).await?;
    // Who is logged in goes on.
    owner.me().await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn throttles_are_shared_by_postgresql() -> Result<()> {
    let world =
        BUDGETS.iter().fold(World::builder(), |world, (key, value)| world.env(key, value)).start().await?;
    let pair = pair(&world).await?;
    throttles_are_shared(&world, &pair).await?;
    ensure!(world.database().count("SELECT count(*) FROM autha.throttle").await? > 0);
    Ok(())
}

#[tokio::test]
async fn throttles_are_shared_by_redis_and_hold_when_it_is_gone() -> Result<()> {
    let mut redis = Redis::start().await?;
    let world = BUDGETS.iter().fold(World::builder(), |world, (key, value)| world.env(key, value));
    // On a busy machine the answer may take a while; away means away.
    let world =
        world.env("ORRERY_REDIS__URL", &redis.url()).env("ORRERY_REDIS__TIMEOUT", "2s").start().await?;
    let pair = pair(&world).await?;
    throttles_are_shared(&world, &pair).await?;
    ensure!(world.database().count("SELECT count(*) FROM autha.throttle").await? == 0, "PostgreSQL counts");
    redis.kill();
    // Nobody is locked out by it, and PostgreSQL counts.
    let person = Person::new();
    world.client()?.calling_from("127.0.0.23".parse()?)?.signed_up(&person).await?;
    wrong_ones_wait_at_both(&pair, "127.0.0.23", &person).await?;
    ensure!(world.database().count("SELECT count(*) FROM autha.throttle").await? > 0);
    Ok(())
}

#[tokio::test]
async fn a_refresh_token_has_one_successor_and_its_reuse_ends_the_session_everywhere() -> Result<()> {
    let world = World::start().await?;
    let pair = pair(&world).await?;
    let person = Person::new();
    let client = pair.clients[0].signed_up(&person).await?;
    let token = client.refresh_token().context("no token")?.to_owned();
    let refresh = async |client: Client| client.refresh(&token).await;
    let answers = at_both(&pair, 6, refresh).await?;
    let mut successors: Vec<&str> = Vec::new();
    for answer in &answers {
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
        successors.push(answer.text("refresh_token")?);
    }
    successors.sort_unstable();
    successors.dedup();
    ensure!(successors.len() == 1, "{} successors", successors.len());
    // Once the successor is used at the one, the former token is a theft at the other.
    let next = pair.clients[1].refresh(successors[0]).await?.expect(200)?;
    let reused = pair.clients[0].refresh(&token).await?.expect(400)?;
    ensure!(reused.body["error"] == "invalid_grant", "{}", reused.body);
    let (access, last) = (next.text("access_token")?, next.text("refresh_token")?);
    for client in &pair.clients {
        client.refresh(last).await?.expect(400)?;
        client.clone().with_token(access).me().await?.expect(401)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_refresh_whose_answer_was_lost_is_repeated_for_15_minutes_and_no_longer() -> Result<()> {
    let world = World::start().await?;
    let pair = pair(&world).await?;
    let moved = async |by: &str| {
        let sql = format!(
            "UPDATE autha.refresh_tokens SET used_at = used_at + interval '{by}' WHERE used_at IS NOT NULL"
        );
        world.database().execute(&sql).await
    };
    // Later than that, and by a clock that was ahead when it was used.
    for (by, again) in [("-12 seconds", 200), ("-14 minutes", 200), ("-16 minutes", 400), ("2 hours", 400)] {
        let client = pair.clients[0].signed_up(&Person::new()).await?;
        let token = client.refresh_token().context("no token")?;
        let first = client.refresh(token).await?.expect(200)?;
        moved(by).await?;
        let second = pair.clients[1].refresh(token).await?;
        ensure!(second.status == again, "{by}: {} {}", second.status, second.body);
        if again == 200 {
            ensure!(second.text("refresh_token")? == first.text("refresh_token")?);
        }
        // A session that ended has ended.
        let goes_on = client.refresh(first.text("refresh_token")?).await?.status;
        ensure!(goes_on == again, "{by}: {goes_on}");
    }
    Ok(())
}

#[tokio::test]
async fn codes_and_links_are_used_once() -> Result<()> {
    let world = mailbox::world(&[("ORRERY_AUTHA__VERIFICATION", "ask")]).await?;
    let pair = pair(&world).await?;
    let person = Person::new();
    let client = pair.clients[0].signed_up(&person).await?;
    let (secret, codes) = second_factor::set_up(&client, &person).await?;
    let used = |statuses: &[u16], right: u16| statuses.iter().filter(|status| **status == right).count();
    for code in [second_factor::code(&secret, 0)?, codes.first().context("no code")?.clone()] {
        let log_in = async |client: Client| -> Result<u16> {
            let body = json!({"email": person.email, "password": person.password, "totpCode": code});
            Ok(send(&client, Method::POST, "/login", body).await?.status)
        };
        let answers = at_both(&pair, 4, log_in).await?;
        ensure!(used(&answers, 200) == 1, "{answers:?}");
        world.database().execute("DELETE FROM autha.throttle").await?;
    }
    let account = internal_id(&world, &person).await?;
    let link = mailbox::secret(&world, &account, "verify").await?;
    let verify = async |client: Client| -> Result<u16> {
        Ok(send(&client, Method::POST, "/verify", json!({"token": link})).await?.status)
    };
    let answers = at_both(&pair, 6, verify).await?;
    ensure!(used(&answers, 204) == 1, "{answers:?}");
    // A second factor whose last step lies ahead, by a clock that was, takes codes.
    world
        .database()
        .execute("UPDATE autha.credentials SET counter = counter + 1000 WHERE kind = 'totp'")
        .await?;
    let code = second_factor::code(&secret, 1)?;
    let log_in = async |client: Client| -> Result<u16> {
        let body = json!({"email": person.email, "password": person.password, "totpCode": code});
        Ok(send(&client, Method::POST, "/login", body).await?.status)
    };
    let answers = at_both(&pair, 4, log_in).await?;
    ensure!(used(&answers, 200) == 1, "{answers:?}");
    Ok(())
}

#[tokio::test]
async fn of_many_who_use_a_link_at_once_one_does() -> Result<()> {
    let world = mailbox::world(&[("ORRERY_AUTHA__SIGN_UP", "invite")]).await?;
    let pair = pair(&world).await?;
    let used = |statuses: &[u16]| statuses.iter().filter(|status| (200..300).contains(*status)).count();
    let once = async |what: &str, path: &str, body: &(dyn Fn() -> Value + Sync)| -> Result<()> {
        let use_it = async |client: Client| Ok(send(&client, Method::POST, path, body()).await?.status);
        let answers = at_both(&pair, 6, use_it).await?;
        // Nothing that is over in the middle of it may be a fault of ours.
        ensure!(used(&answers) == 1 && answers.iter().all(|status| *status < 500), "{what}: {answers:?}");
        world.database().execute("DELETE FROM autha.throttle").await
    };
    let made = world.run_revealing(&["account", "invite"], &[], SOON).await?;
    let invite = made.output.lines().find(|line| line.len() == 43).context("no invite")?.to_owned();
    let sign_up = || {
        let person = Person::new();
        world.keep(&person);
        json!({"id": person.id, "email": person.email, "password": person.password, "invite": invite})
    };
    once("an invite", "/create", &sign_up).await?;
    ensure!(world.database().count("SELECT count(*) FROM autha.accounts").await? == 1);

    // Somebody whom the operator has made an account for sets the password by a link.
    let person = Person::new();
    world.keep(&person);
    let made = world.run(&["account", "create", &person.id, &person.email], SOON).await?;
    ensure!(made.status.success(), "{}", made.output);
    let account = internal_id(&world, &person).await?;
    let link = mailbox::secret(&world, &account, "recover").await?;
    once("a recovery", "/recover", &|| json!({"token": link, "password": person.password})).await?;
    let told = mailbox::count(&world, &account, "password_changed").await?;
    ensure!(told == 1, "{told} mails");

    let client = pair.clients[0].logged_in(&person).await?;
    let moved = format!("moved_{}", person.email);
    world.secret(&moved);
    let patch = json!({"email": moved, "password": person.password});
    send(&client, Method::PATCH, "/users/@me", patch).await?.expect(200)?;
    let link = mailbox::secret(&world, &account, "confirm_address").await?;
    once("a change of address", "/address/confirm", &|| json!({"token": link})).await?;
    let link = mailbox::secret(&world, &account, "address_changed").await?;
    once("a change taken back", "/address/take-back", &|| json!({"token": link})).await?;
    // Each of the three was one version and one event.
    let (events, version) = changes(&world, &account).await?;
    ensure!((events, version) == (3, 4), "{events} events, version {version}");
    Ok(())
}

#[tokio::test]
async fn one_code_is_good_for_one_thing_and_one_request_for_one_effect() -> Result<()> {
    let world = mailbox::world(&[("ORRERY_AUTHA__THROTTLE__ACCOUNT_FAILURES", "1000")]).await?;
    let pair = pair(&world).await?;
    let person = Person::new();
    let client = pair.clients[0].signed_up(&person).await?;
    let token = client.access_token().context("no token")?.to_owned();
    let asked = async |method: &Method, path: &str, body: &Value| -> Result<Vec<u16>> {
        let ask = async |client: Client| {
            Ok(send(&client.with_token(&token), method.clone(), path, body.clone()).await?.status)
        };
        at_both(&pair, 6, ask).await
    };
    let well = |answers: &[u16]| answers.iter().filter(|status| (200..300).contains(*status)).count();
    let count = async |sql: &str| world.database().count(sql).await;

    let key = json!({"publicKeys": crate::KEY});
    let answers = asked(&Method::PATCH, "/users/@me", &key).await?;
    ensure!(well(&answers) == 6, "{answers:?}");
    ensure!(count("SELECT count(*) FROM autha.public_keys").await? == 1, "a key twice");
    // All get the same archive.
    let answers = asked(&Method::POST, "/users/@me/export", &json!({"password": person.password})).await?;
    ensure!(well(&answers) == 6, "{answers:?}");
    ensure!(count("SELECT count(*) FROM autha.exports").await? <= 2, "an archive for each");
    let secret = second_factor::SECRET;
    let set_up = json!({"totpSecret": secret, "totpCode": second_factor::code(secret, -1)?, "password": person.password});
    let answers = asked(&Method::PUT, "/users/@me/totp", &set_up).await?;
    ensure!(well(&answers) == 1 && answers.iter().all(|status| *status < 500), "{answers:?}");
    ensure!(count("SELECT count(*) FROM autha.credentials WHERE kind = 'recovery_code'").await? == 10);
    // One code, for three things at once.
    let code = second_factor::code(secret, 0)?;
    let proof = json!({"password": person.password, "totpCode": code});
    let log_in = json!({"email": person.email, "password": person.password, "totpCode": code});
    let (codes, sessions, off) = tokio::try_join!(
        asked(&Method::POST, "/users/@me/recovery-codes", &proof),
        asked(&Method::POST, "/login", &log_in),
        asked(&Method::DELETE, "/users/@me/totp", &proof)
    )?;
    let all = [codes, sessions, off].concat();
    ensure!(all.iter().all(|status| *status < 500), "{all:?}");
    // Once it is switched off, no code is asked for.
    let off = count("SELECT count(*) FROM autha.credentials WHERE kind = 'totp'").await? == 0;
    ensure!(if off { well(&all) >= 1 } else { well(&all) == 1 }, "{all:?}");
    // Of those who delete at once, one does, and one mail is sent.
    let person = Person::new();
    let client = pair.clients[0].signed_up(&person).await?;
    let token = client.access_token().context("no token")?.to_owned();
    let delete = async |client: Client| {
        let body = json!({"password": person.password});
        Ok(send(&client.with_token(&token), Method::DELETE, "/users/@me", body).await?.status)
    };
    let answers = at_both(&pair, 6, delete).await?;
    ensure!(well(&answers) == 1 && answers.iter().all(|status| *status < 500), "{answers:?}");
    let account = internal_id(&world, &person).await?;
    ensure!(mailbox::count(&world, &account, "deletion_scheduled").await? == 1, "a mail for each");
    Ok(())
}

/// Lets an hour go by in which every replica published what it publishes.
async fn an_hour_passes(world: &World) -> Result<()> {
    let minutes = "interval '61 minutes'";
    world.database().execute(&format!("UPDATE autha.publications SET since = since - {minutes}")).await?;
    world
        .database()
        .execute(&format!("UPDATE autha.signing_keys SET created_at = created_at - {minutes}"))
        .await
}

/// The replicas that publish keys. Each life of a process is another one, which has published by when it is ready.
async fn replicas(world: &World) -> Result<Vec<String>> {
    let rows = world.database().rows("SELECT DISTINCT replica::text AS id FROM autha.publications").await?;
    Ok(rows.iter().filter_map(|row| row["id"].as_str()).map(str::to_owned).collect())
}

/// SIGKILL. It counts as gone, as it does after five minutes.
async fn kill(world: &World, service: &mut Service, replica: &str) -> Result<()> {
    service.kill();
    let gone = "UPDATE autha.publications SET seen_at = seen_at - interval '6 minutes'";
    world.database().execute(&format!("{gone} WHERE replica = '{replica}'")).await
}

#[tokio::test]
async fn a_new_key_signs_when_both_have_published_it_and_a_kill_costs_no_token() -> Result<()> {
    let world = World::start().await?;
    let mut pair = pair(&world).await?;
    let person = Person::new();
    let client = pair.clients[0].signed_up(&person).await?;
    let first = client.access_token().context("no token")?.to_owned();
    let before = kid(&first)?;
    // The command is killed as soon as something is seen of it: afterwards it is done whole or not at all.
    let count = "SELECT count(*) FROM autha.signing_keys WHERE state = 'published'";
    let mut made = 0;
    while made == 0 {
        let (mut command, _) = world.command(&["keys", "rotate"], &[])?;
        orrery_tests::deadline::until(SOON, "the new key", async || {
            command.ended().is_some() || world.database().count(count).await.is_ok_and(|keys| keys > 0)
        })
        .await?;
        command.kill();
        made = world.database().count(count).await?;
    }
    ensure!(made == 1, "{made} keys");
    let signs = async |client: &Client| -> Result<String> {
        let session = client.logged_in(&person).await?;
        Ok(session.access_token().context("no token")?.to_owned())
    };
    let known = async |client: &Client| -> Result<usize> {
        let answer = client.get("/.well-known/jwks.json").await?.expect(200)?;
        Ok(answer.body["keys"].as_array().map_or(0, Vec::len))
    };
    // The first one is killed, and its next lives have published the key for an hour. The other one has not looked meanwhile.
    let [first_replica, other] = pair.replicas.clone();
    kill(&world, &mut pair.services[0], &first_replica).await?;
    pair.services[0].restart().await?;
    an_hour_passes(&world).await?;
    let now = replicas(&world).await?;
    let next = now.iter().find(|replica| !pair.replicas.contains(replica)).context("it publishes nothing")?;
    kill(&world, &mut pair.services[0], next).await?;
    pair.services[0].restart().await?;
    ensure!(known(&pair.clients[0]).await? == 2);
    // It looks once a minute, and then it may have been all of them.
    let has_looked =
        format!("SELECT count(*) FROM autha.publications WHERE replica = '{other}' HAVING count(*) > 1");
    let signing = (kid(&signs(&pair.clients[0]).await?)?, kid(&signs(&pair.clients[1]).await?)?);
    if world.database().rows(&has_looked).await?.is_empty() {
        ensure!(signing == (before.clone(), before.clone()), "it signs before all have published it");
    }
    // The other is killed too. All who are alive have published the key for an hour, and it signs.
    an_hour_passes(&world).await?;
    kill(&world, &mut pair.services[1], &other).await?;
    pair.services[1].restart().await?;
    let next = signs(&pair.clients[1]).await?;
    ensure!(kid(&next)? != before, "the new key does not sign");
    // What either signed is good at both.
    for client in &pair.clients {
        for token in [&first, &next, &signs(client).await?] {
            client.clone().with_token(token).me().await?.expect(200)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_key_of_a_month_signs_on_until_its_successor_was_published_for_an_hour() -> Result<()> {
    let world = World::start().await?;
    let mut service = world.spawn(&["gateway", "autha"]).await?;
    let (base, person) = (world.client()?, Person::new());
    let first = base.clone().signed_up(&person).await?.access_token().context("no token")?.to_owned();
    let before = kid(&first)?;
    service.kill();
    for aged in [
        "signing_keys SET created_at = created_at - interval '30 days', activated_at = activated_at - interval '30 days'",
        "publications SET since = since - interval '30 days', seen_at = seen_at - interval '30 days'",
    ] {
        world.database().execute(&format!("UPDATE autha.{aged}")).await?;
    }
    // Around its last day the process starts anew: the former key signs, and the next one is published.
    service.restart().await?;
    let still = base.logged_in(&person).await?;
    ensure!(kid(still.access_token().context("no token")?)? == before, "a key signs that nobody knows");
    eventually(SOON, "the next key is published", async || {
        let keys = base.get("/.well-known/jwks.json").await.ok()?;
        (keys.body["keys"].as_array()?.len() == 2).then_some(())
    })
    .await?;
    an_hour_passes(&world).await?;
    service.terminate(SOON).await?;
    service.restart().await?;
    let next = base.logged_in(&person).await?;
    ensure!(kid(next.access_token().context("no token")?)? != before, "the next key does not sign");
    for token in [&first, &next.access_token().context("no token")?.to_owned()] {
        base.clone().with_token(token).me().await?.expect(200)?;
    }
    Ok(())
}
