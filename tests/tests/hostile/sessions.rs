//! Refresh tokens that are used again, foreign, or broken.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use orrery_tests::{Person, World};
use reqwest::{Method, header::CONTENT_TYPE};

use crate::{Footprint, refused, unharmed};

#[tokio::test]
async fn a_refresh_token_used_again_gives_its_successor_or_ends_the_session() -> Result<()> {
    let world = World::start().await?;
    let _orrery = world.spawn(&[]).await?;
    let client = world.client()?;
    let person = Person::new();
    let session = client.signed_up(&person).await?;
    let first = session.refresh_token().context("no refresh token")?.to_owned();
    let other = client.logged_in(&person).await?;

    // A phone that retries, also at once, keeps its session.
    let answers = try_join_all((0..4).map(|_| client.refresh(&first))).await?;
    let second = answers.first().context("no answers")?.text("refresh_token")?.to_owned();
    ensure!(second != first, "the token stayed the same");
    for answer in answers {
        let answer = answer.expect(200)?;
        ensure!(answer.text("refresh_token")? == second, "another successor");
        client.clone().with_token(answer.text("access_token")?).me().await?.expect(200)?;
    }
    let form = format!("grant_type=refresh_token&refresh_token={second}");
    let request = client
        .request(Method::POST, "/oauth/token")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let third = client.send(request.body(form)).await?.expect(200)?.text("refresh_token")?.to_owned();

    // Its successor was used: somebody else has the token, and the whole family ends.
    for (what, token) in
        [("used twice", &first), ("of an ended family", &third), ("of an ended family", &second)]
    {
        refused(what, &client.refresh(token).await?, 400, "malformed", Some("refresh_token"))?;
    }
    // Another session of the same person goes on.
    let kept = other.refresh_token().context("no refresh token")?;
    let next = client.refresh(kept).await?.expect(200)?.text("refresh_token")?.to_owned();

    // While that is unused it is given again, for a quarter of an hour.
    let later = async |minutes: u32| {
        let moved =
            format!("UPDATE autha.refresh_tokens SET used_at = used_at - interval '{minutes} minutes'");
        world.database().execute(&moved).await
    };
    later(14).await?;
    ensure!(client.refresh(kept).await?.expect(200)?.text("refresh_token")? == next, "another successor");
    later(2).await?;
    refused("used too late", &client.refresh(kept).await?, 400, "malformed", Some("refresh_token"))?;
    refused("of an ended family", &client.refresh(&next).await?, 400, "malformed", Some("refresh_token"))?;

    let expired = client.logged_in(&person).await?.refresh_token().context("no refresh token")?.to_owned();
    world
        .database()
        .execute("UPDATE autha.refresh_tokens SET expires_at = now() - interval '1 second'")
        .await?;
    refused("expired", &client.refresh(&expired).await?, 400, "malformed", Some("refresh_token"))?;

    let before = Footprint::of(&world).await?;
    let access = session.access_token().context("no token")?.to_owned();
    for token in
        ["x".to_owned(), "A".repeat(64), "\u{0}".to_owned(), "é".repeat(64), "A".repeat(50_000), access]
    {
        let what = format!("{} characters", token.len());
        refused(&what, &client.refresh(&token).await?, 400, "malformed", Some("refresh_token"))?;
    }
    let empty = client.refresh("").await?;
    ensure!(
        empty.status == 400 && empty.body["error"] == "invalid_grant",
        "an empty token: {}",
        empty.status
    );
    // A refresh token is no access token.
    refused("a refresh token", &client.clone().with_token(&next).me().await?, 401, "invalid-token", None)?;
    unharmed(&world, &before).await
}
