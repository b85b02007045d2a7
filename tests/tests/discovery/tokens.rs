//! Tokens: verified by the keys that are published, tried against each where none is named; expired, foreign and forged ones are refused.
//! The test is the issuer here, so that it can sign what it likes.

use anyhow::{Result, ensure};
use orrery_tests::{
    World, eventually,
    issuer::{AUDIENCE, ISSUER, Issuer, Key, claims},
};
use serde_json::{Value, json};

use crate::{SOON, peer::Peer};

async fn world(issuer: &Issuer) -> Result<World> {
    World::builder()
        .env("ORRERY_DISCOVERY__JWKS_URL", issuer.url())
        .env("ORRERY_DISCOVERY__ISSUER", ISSUER)
        .env("ORRERY_DISCOVERY__AUDIENCE", AUDIENCE)
        .env("ORRERY_DISCOVERY__KEYS_FRESH", "1s")
        .start()
        .await
}

async fn status(world: &World, token: &str) -> Result<u16> {
    Ok(Peer::try_open(&world.discovery_url(), &format!("token={token}")).await?.err().unwrap_or(101))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_valid_tokens_of_the_issuer_open_a_socket() -> Result<()> {
    let issuer = Issuer::start().await?;
    let (one, other, strange) = (Key::new("one")?, Key::new("other")?, Key::new("one")?);
    issuer.publish(&[&other, &one]);
    let world = world(&issuer).await?;
    let _service = world.spawn(&["discovery"]).await?;
    let good = claims("ada@id.example", 600);
    ensure!(status(&world, &one.sign(Some("one"), &good)?).await? == 101);
    // Without an id each key is tried.
    ensure!(status(&world, &one.sign(None, &good)?).await? == 101);
    let changed = |field: &str, value: Value| {
        let mut claims = good.clone();
        claims[field] = value;
        claims
    };
    for (why, token) in [
        ("expired", one.sign(Some("one"), &claims("ada", -1))?),
        ("without an end", one.sign(Some("one"), &json!({"sub": "ada", "iss": ISSUER, "aud": "turms"}))?),
        ("of another issuer", one.sign(Some("one"), &changed("iss", json!("https://evil.example")))?),
        ("for another audience", one.sign(Some("one"), &changed("aud", json!("other")))?),
        ("without a name", one.sign(Some("one"), &changed("sub", json!("")))?),
        ("of a strange name", one.sign(Some("one"), &changed("sub", json!("../ada")))?),
        ("under another key", one.sign(Some("other"), &good)?),
        ("of a strange key", strange.sign(Some("one"), &good)?),
        ("of a strange key without an id", strange.sign(None, &good)?),
    ] {
        ensure!(status(&world, &token).await? == 403, "a token {why} was not refused");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_ends_with_its_token() -> Result<()> {
    let issuer = Issuer::start().await?;
    let key = Key::new("one")?;
    issuer.publish(&[&key]);
    let world = world(&issuer).await?;
    let _service = world.spawn(&["discovery"]).await?;
    let mut socket = Peer::open(&world.discovery_url(), &key.sign(Some("one"), &claims("ada", 4))?).await?;
    ensure!(socket.ask("phx_join", json!("")).await?["status"] == "ok");
    ensure!(socket.closed().await? == (1008, "the access token has expired".to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_and_the_issuer_may_be_away() -> Result<()> {
    let issuer = Issuer::start().await?;
    let (old, new) = (Key::new("old")?, Key::new("new")?);
    let world = world(&issuer).await?;
    let _service = world.spawn(&["discovery"]).await?;
    let token = |key: &Key| key.token("ada", 600);
    // Nobody can tell: that is not the client's fault.
    ensure!(status(&world, &token(&old)?).await? == 503);
    issuer.publish(&[&old]);
    let believed = |key: &'static str, token: String| {
        let world = &world;
        async move {
            eventually(SOON, key, async || (status(world, &token).await.ok()? == 101).then_some(())).await
        }
    };
    believed("the first key", token(&old)?).await?;
    issuer.publish(&[&new]);
    believed("the new key", token(&new)?).await?;
    eventually(SOON, "the old key to be forgotten", async || {
        (status(&world, &token(&old).ok()?).await.ok()? == 403).then_some(())
    })
    .await?;
    issuer.go_away();
    // It was asked once more since then: the keys are old by now, and still believed.
    let before = issuer.refusals();
    let believed = token(&new)?;
    let asked = eventually(SOON, "the issuer to be asked while it is away", async || {
        let status = status(&world, &believed).await.ok()?;
        (issuer.refusals() > before).then_some(status)
    });
    ensure!(asked.await? == 101);
    Ok(())
}
