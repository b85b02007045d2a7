//! The same request twice, and many at once, with an `Idempotency-Key`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use orrery_tests::{Person, World, deadline::throughout, fresh};
use tokio::time::timeout;

use crate::{Footprint, LONG, WHILE, refused, unharmed};

#[tokio::test]
async fn a_repeated_sign_up_gets_the_same_answer_and_makes_one_account() -> Result<()> {
    let world = World::start().await?;
    let _orrery = world.spawn(&[]).await?;
    let client = world.client()?;
    let (person, key) = (Person::new(), fresh::uuid().to_string());

    let first = client.sign_up_with_key(&person, &key).await?.expect(201)?;
    let made = Footprint::of(&world).await?;
    ensure!((made.accounts, made.sessions, made.answers, made.outbox) == (1, 1, 1, 2), "{made:?}");
    for _ in 0..2 {
        let again = client.sign_up_with_key(&person, &key).await?.expect(201)?;
        ensure!(again.bytes == first.bytes, "another answer");
    }
    // The tokens of a repeated answer are those of the first, and good.
    client.clone().with_token(first.text("access_token")?).me().await?.expect(200)?;

    for (what, other) in [
        ("another person", Person::new()),
        ("another password", Person { password: Person::new().password, ..person.clone() }),
        ("another locale", person.clone().reading("fr")),
        ("another name", Person { id: Person::new().id, ..person.clone() }),
    ] {
        let answer = client.sign_up_with_key(&other, &key).await?;
        refused(what, &answer, 422, "invalid-field", Some("Idempotency-Key"))?;
    }
    // Under another key, or none, it is another request.
    let other_key = fresh::uuid().to_string();
    refused("another key", &client.sign_up_with_key(&person, &other_key).await?, 409, "taken", Some("id"))?;
    refused("no key", &client.sign_up(&person).await?, 409, "taken", Some("id"))?;
    // A refused request leaves its key free.
    client.sign_up_with_key(&Person::new(), &other_key).await?.expect(201)?;

    world.smtp().wait_for(2, LONG).await?;
    throughout(WHILE, "there are two mails", async || world.smtp().mails().len() == 2).await?;
    let left = Footprint::of(&world).await?;
    ensure!((left.accounts, left.sessions, left.answers, left.outbox) == (2, 2, 2, 4), "{left:?}");
    unharmed(&world, &left).await
}

#[tokio::test]
async fn sign_ups_at_once_under_one_key_get_one_answer_and_one_account() -> Result<()> {
    let world = World::start().await?;
    let _orrery = world.spawn(&[]).await?;
    let client = world.client()?;
    for round in 1..=3 {
        let (person, key) = (Person::new(), fresh::uuid().to_string());
        let answers = try_join_all((0..4).map(|_| client.sign_up_with_key(&person, &key))).await?;
        let first = answers.first().context("no answers")?.clone().expect(201)?;
        for answer in answers {
            ensure!(answer.expect(201)?.bytes == first.bytes, "answers differ");
        }
        world.smtp().wait_for(round, LONG).await?;
        let made = Footprint::of(&world).await?;
        let round = i64::try_from(round)?;
        ensure!(
            (made.accounts, made.sessions, made.answers, made.outbox) == (round, round, round, 2 * round),
            "{made:?}"
        );
    }
    throughout(WHILE, "there are three mails", async || world.smtp().mails().len() == 3).await?;
    unharmed(&world, &Footprint::of(&world).await?).await
}

#[tokio::test]
async fn sign_ups_whose_callers_gave_up_are_answered_when_they_ask_again() -> Result<()> {
    let world = World::start().await?;
    let _orrery = world.spawn(&[]).await?;
    let client = world.client()?;
    // More than two threads hash before the callers give up.
    let asked: Vec<_> = (0..16).map(|_| (Person::new(), fresh::uuid().to_string())).collect();
    let all_at_once = asked
        .iter()
        .map(|(person, key)| timeout(Duration::from_millis(100), client.sign_up_with_key(person, key)));
    let gave_up = join_all(all_at_once).await.into_iter().filter(Result::is_err).count();
    ensure!(gave_up > 8, "only {gave_up} callers gave up: they were answered at once");
    for (person, key) in &asked {
        let answer = client.sign_up_with_key(person, key).await?.expect(201)?;
        client.clone().with_token(answer.text("access_token")?).me().await?.expect(200)?;
    }
    world.smtp().wait_for(asked.len(), LONG).await?;
    let made = Footprint::of(&world).await?;
    ensure!((made.accounts, made.sessions, made.answers, made.outbox) == (16, 16, 16, 32), "{made:?}");
    throughout(WHILE, "each has one mail", async || world.smtp().mails().len() == 16).await?;
    unharmed(&world, &made).await
}
