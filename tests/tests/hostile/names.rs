//! Names and addresses that are taken, in whatever spelling, and what a login tells of them.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use orrery_tests::{Person, World};
use reqwest::Method;
use serde_json::json;

use crate::{Footprint, LONG, TRACE, refused, unharmed};

#[tokio::test]
async fn a_taken_name_or_address_is_refused_in_any_spelling() -> Result<()> {
    let world = World::builder().env("ORRERY_AUTHA__INTERNATIONAL_ADDRESSES", "true").start().await?;
    let _orrery = world.spawn(&[]).await?;
    let client = world.client()?;
    let mut person = Person::new();
    // The last letter is one character here and two, a letter and an accent, below.
    person.email = person.email.replace('@', "_jos\u{e9}@");
    client.sign_up(&person).await?.expect(201)?;
    world.smtp().wait_for(1, LONG).await.ok();
    let before = Footprint::of(&world).await?;

    for id in [person.id.clone(), person.id.to_uppercase(), person.id.replacen('p', "P", 1)] {
        let other = Person { id: id.clone(), ..Person::new() };
        refused(&id, &client.sign_up(&other).await?, 409, "taken", Some("id"))?;
    }
    for email in [
        person.email.clone(),
        person.email.to_uppercase(),
        person.email.replace('\u{e9}', "e\u{301}"),
        person.email.to_uppercase().replace('\u{c9}', "E\u{301}"),
        person.email.replace("people.example", "PEOPLE.example"),
    ] {
        let other = Person { email: email.clone(), ..Person::new() };
        refused(&email, &client.sign_up(&other).await?, 409, "taken", Some("email"))?;
    }
    // Every spelling logs in.
    for email in [person.email.to_uppercase(), person.email.replace('\u{e9}', "e\u{301}")] {
        let person = Person { email, ..person.clone() };
        client.login(&person).await?.expect(200)?;
    }
    let sessions = Footprint::of(&world).await?.sessions;
    unharmed(&world, &Footprint { sessions, ..before }).await
}

#[tokio::test]
async fn of_many_who_want_one_name_at_once_one_gets_it() -> Result<()> {
    let world = World::start().await?;
    let _orrery = world.spawn(&[]).await?;
    let client = world.client()?;
    let wanted = Person::new();
    let names = (0..6).map(|_| Person { id: wanted.id.clone(), ..Person::new() }).collect::<Vec<_>>();
    let answers = try_join_all(names.iter().map(|person| client.sign_up(person))).await?;
    ensure!(answers.iter().filter(|answer| answer.status == 201).count() == 1, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        refused("the name", answer, 409, "taken", Some("id"))?;
    }
    let addresses =
        (0..6).map(|_| Person { email: wanted.email.clone(), ..Person::new() }).collect::<Vec<_>>();
    let answers = try_join_all(addresses.iter().map(|person| client.sign_up(person))).await?;
    ensure!(answers.iter().filter(|answer| answer.status == 201).count() == 1, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        refused("the address", answer, 409, "taken", Some("email"))?;
    }
    world.smtp().wait_for(2, LONG).await?;
    let made = Footprint::of(&world).await?;
    ensure!((made.accounts, made.sessions, made.outbox) == (2, 2, 4), "{made:?}");
    unharmed(&world, &made).await?;
    world.smtp().wait_for(3, LONG).await?;
    ensure!(world.smtp().mails().len() == 3, "mails to those who got nothing");
    Ok(())
}

#[tokio::test]
async fn a_login_tells_nobody_whether_a_name_or_an_address_is_known() -> Result<()> {
    let world = World::start().await?;
    let _orrery = world.spawn(&[]).await?;
    let client = world.client()?;
    let (person, nobody) = (Person::new(), Person::new());
    client.sign_up(&person).await?.expect(201)?;
    let before = Footprint::of(&world).await?;
    let mut told = Vec::new();
    for body in [
        json!({"email": person.email, "password": nobody.password}),
        json!({"email": nobody.email, "password": nobody.password}),
        json!({"id": person.id, "password": nobody.password}),
        json!({"id": nobody.id, "password": nobody.password}),
        json!({"email": "no address", "password": nobody.password}),
        json!({"id": "no name", "password": nobody.password}),
        json!({"id": "ad\u{0}a", "password": nobody.password}),
    ] {
        // Within one trace, so that nothing else may differ.
        let asked = client.request(Method::POST, "/login").header("traceparent", TRACE).json(&body);
        let answer = client.send(asked).await?;
        refused(&body.to_string(), &answer, 401, "invalid-credentials", None)?;
        let mut names: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
        names.sort();
        told.push((answer.bytes, names));
    }
    let first = told.first().context("no answers")?;
    ensure!(told.iter().all(|other| other == first), "answers differ: {told:?}");
    unharmed(&world, &before).await
}
