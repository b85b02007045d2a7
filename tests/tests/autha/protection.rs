//! Throttling, shared by replicas.

use anyhow::{Context, Result, ensure};
use orrery_tests::{Person, Service, World};
use reqwest::Method;
use serde_json::json;

use crate::{send, somebody};

#[tokio::test]
async fn wrong_passwords_make_the_next_one_wait_at_every_replica() -> Result<()> {
    let world = World::start().await?;
    let first = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    let wrong = Person { password: "not-the-right-one".to_owned(), ..person.clone() };
    for n in 1..=5 {
        ensure!(client.login(&wrong).await?.status == 401, "try {n}");
    }
    let answer = client.login(&person).await?.expect(429)?;
    let wait: u64 = answer.header("retry-after").context("no Retry-After")?.parse()?;
    ensure!((1..=4).contains(&wait), "{wait}");
    drop(first);
    let _second = world.spawn(&["gateway", "autha"]).await?;
    let waits = world
        .database()
        .count("SELECT count(*) FROM autha.throttle WHERE blocked_until > now() - interval '1 minute'")
        .await?;
    ensure!(waits > 0, "nothing was shared");
    // By name it is the same account, and the same budget.
    world.database().execute("UPDATE autha.throttle SET blocked_until = now() + interval '1 hour', window_ends = now() + interval '10 minutes'").await?;
    let by_name = json!({"id": person.id, "password": person.password});
    send(&client, Method::POST, "/login", by_name).await?.expect(429)?;
    // Somebody else is not held up.
    somebody(&world).await?;
    world.database().execute("DELETE FROM autha.throttle").await?;
    client.login(&person).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn a_mailbox_gets_only_so_many_mails_on_request() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    for _ in 0..8 {
        send(&client, Method::POST, "/recover/request", json!({"email": person.email})).await?.expect(202)?;
    }
    let mails = "SELECT count(*) FROM bus.outbox WHERE data->>'template' = 'recover'";
    ensure!(world.database().count(mails).await? == 5, "{}", world.database().count(mails).await?);
    Ok(())
}

/// Budgets by address apply to who calls the gateway, and to who calls autha past it.
async fn each_address_has_its_budget(world: &World) -> Result<()> {
    let from = |address: &str, claimed: &'static str| -> Result<_> {
        let client = world.client()?.calling_from(address.parse()?)?;
        Ok(async move || {
            let person = Person::new();
            world.keep(&person);
            let body = json!({"id": person.id, "email": person.email, "password": person.password});
            let request = client.request(Method::POST, "/create").json(&body);
            let request =
                request.header("x-forwarded-for", claimed).header("forwarded", format!("for={claimed}"));
            client.send(request).await
        })
    };
    let first = from("127.0.0.7", "192.0.2.1")?;
    for _ in 0..3 {
        first().await?.expect(201)?;
    }
    let wait = first().await?.expect(429)?;
    ensure!(wait.header("retry-after").is_some());
    // Another claim is the same caller, and another address is another one.
    from("127.0.0.7", "192.0.2.2")?().await?.expect(429)?;
    from("127.0.0.8", "127.0.0.7")?().await?.expect(201)?;

    // Wrong credentials are counted for the address too, whoever they are tried on.
    let guesser = world.client()?.calling_from("127.0.0.9".parse()?)?;
    for _ in 0..4 {
        guesser.login(&Person::new()).await?.expect(401)?;
    }
    guesser.login(&Person::new()).await?.expect(429)?;
    // And for its network, whoever of it asks; the next network is another one.
    let guess = async |address: &str| -> Result<u16> {
        Ok(world.client()?.calling_from(address.parse()?)?.login(&Person::new()).await?.status)
    };
    for (address, status) in
        [("127.0.0.11", 401), ("127.0.0.12", 401), ("127.0.0.13", 429), ("127.0.1.13", 401)]
    {
        let found = guess(address).await?;
        ensure!(found == status, "{address}: {found}");
    }
    Ok(())
}

const BUDGETS: [(&str, &str); 5] = [
    ("ORRERY_AUTHA__THROTTLE__TRUSTED_NETWORKS", "[]"),
    ("ORRERY_AUTHA__THROTTLE__ADDRESS_REQUESTS", "3"),
    ("ORRERY_AUTHA__THROTTLE__ADDRESS_FAILURES", "4"),
    ("ORRERY_AUTHA__THROTTLE__NETWORK_FAILURES", "6"),
    // The gateway calls from here, and nobody else is believed.
    ("ORRERY_AUTHA__GATEWAYS", r#"["127.0.0.1/32"]"#),
];

async fn with_budgets() -> Result<World> {
    BUDGETS.iter().fold(World::builder(), |builder, (key, value)| builder.env(key, value)).start().await
}

#[tokio::test]
async fn budgets_by_address_hold_in_one_process() -> Result<()> {
    let world = with_budgets().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    each_address_has_its_budget(&world).await
}

#[tokio::test]
async fn budgets_by_address_hold_behind_a_gateway_of_its_own_and_past_it() -> Result<()> {
    let world = with_budgets().await?;
    let autha = world.spawn(&["autha"]).await?;
    let _gateway = world.spawn(&["gateway"]).await?;
    each_address_has_its_budget(&world).await?;
    // Past the gateway nobody is believed either.
    let direct = world.client_of(&world.autha_url())?.calling_from("127.0.0.10".parse()?)?;
    for n in 0..5 {
        let person = Person::new();
        world.keep(&person);
        let body = json!({"id": person.id, "email": person.email, "password": person.password});
        let request = direct.request(Method::POST, "/create").json(&body);
        let answer = direct.send(request.header("x-forwarded-for", format!("192.0.2.{n}"))).await?;
        answer.expect(if n < 3 { 201 } else { 429 })?;
    }
    drop(autha);
    Ok(())
}

#[tokio::test]
async fn scoring_a_hard_password_holds_no_login_up() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    let hard: String = "p@55w0rd1!$3(4)".repeat(9).chars().take(126).collect();
    let storm: Vec<_> = (0..24)
        .map(|_| {
            let (client, mut person) = (client.clone(), Person::new());
            person.password.clone_from(&hard);
            tokio::spawn(async move { client.sign_up(&person).await.map(|answer| answer.status) })
        })
        .collect();
    let begun = std::time::Instant::now();
    client.login(&person).await?.expect(200)?;
    ensure!(begun.elapsed() < std::time::Duration::from_secs(4), "{:?}", begun.elapsed());
    for sign_up in storm {
        ensure!(matches!(sign_up.await??, 201 | 422 | 503));
    }
    Ok(())
}

/// How many passwords were verified.
async fn verified(service: &Service) -> Result<u64> {
    let page = service.metrics().await?;
    let line = page.lines().find(|line| {
        line.starts_with("orrery_autha_password_duration_seconds_count")
            && line.contains("operation=\"verify\"")
    });
    let count = line.and_then(|line| line.rsplit(' ').next()).unwrap_or("0");
    Ok(count.parse()?)
}

#[tokio::test]
async fn who_has_an_account_is_told_neither_by_words_nor_by_work() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    let mut told = Vec::new();
    for (id, email) in [
        (&person.id, &person.email),
        (&"nobody_is_called_so".to_owned(), &"nobody@people.example".to_owned()),
    ] {
        for login in [
            json!({"id": id, "password": "not-the-right-one"}),
            json!({"email": email, "password": "not-the-right-one"}),
        ] {
            let before = verified(&service).await?;
            let answer = send(&client, Method::POST, "/login", login).await?.expect(401)?;
            // A password that belongs to nobody costs as much work as another.
            ensure!(verified(&service).await? == before + 1, "{id}: no password was verified");
            let mut body = answer.body.clone();
            body["instance"].take();
            told.push(body);
        }
        // Whoever asks for a link learns nothing.
        let answer = send(&client, Method::POST, "/recover/request", json!({"email": email})).await?;
        told.push(json!({"status": answer.status, "body": answer.body}));
    }
    let (known, unknown) = told.split_at(told.len() / 2);
    ensure!(known == unknown, "{known:?} {unknown:?}");
    Ok(())
}
