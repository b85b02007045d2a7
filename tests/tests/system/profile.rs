//! Sessions and profiles as clients of upstream know them.

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use orrery_tests::{Person, World, pictures};
use serde_json::Value;

const SOON: std::time::Duration = std::time::Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_signs_up_logs_in_and_keeps_the_session() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let base = world.client()?;
    let person = Person::new();
    let created = base.sign_up(&person).await?.expect(201)?;
    ensure!(created.body["token_type"] == "Bearer" && created.body["expires_in"] == 900, "{}", created.body);
    ensure!(created.body["token"] == created.body["access_token"]);
    let refresh = created.text("refresh_token")?;
    ensure!(refresh.len() == 64);

    let by_address = base.login(&person).await?.expect(200)?;
    ensure!(by_address.body["access_token"] != created.body["access_token"]);
    let me = base.clone().with_token(by_address.text("access_token")?).me().await?.expect(200)?;
    ensure!(me.body["type"] == "Person" && me.body["preferredUsername"] == person.id, "{}", me.body);
    ensure!(me.body["id"] == person.id.to_lowercase());

    let next = base.refresh(refresh).await?.expect(200)?;
    ensure!(next.text("refresh_token")? != refresh);
    base.clone().with_token(next.text("access_token")?).me().await?.expect(200)?;

    let request = base
        .request(reqwest::Method::GET, &format!("/users/{}", person.id.to_uppercase()))
        .header("accept", "application/activity+json");
    let activity = base.send(request).await?.expect(200)?;
    ensure!(activity.body["id"] == activity.body["url"], "{}", activity.body);
    base.get("/users/nobody_is_called_so").await?.expect(404)?.problem()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anybody_can_verify_an_access_token_by_the_jwks() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let base = world.client()?;
    let token = base.sign_up(&Person::new()).await?.expect(201)?.text("access_token")?.to_owned();
    let jwks = base.get("/.well-known/jwks.json").await?.expect(200)?;
    let (signed, signature) = token.rsplit_once('.').context("no signature")?;
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split('.').next().unwrap_or_default())?)?;
    ensure!(header["alg"] == "ES256", "{header}");
    let keys = jwks.body["keys"].as_array().context("no keys")?;
    let key = keys.iter().find(|key| key["kid"] == header["kid"]).context("the key is not published")?;
    let mut point = vec![4];
    for name in ["x", "y"] {
        point.extend(URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap_or_default())?);
    }
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature)?)
        .map_err(|_| anyhow::anyhow!("the signature is not by the published key"))?;
    let status = base.get("/status.json").await?.expect(200)?;
    ensure!(status.body["invite_only"] == false && status.body["version"].is_string(), "{}", status.body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_public_answer_has_the_id_that_events_carry() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    let person = Person::new();
    let base = world.client()?;
    let client = base.clone().signed_up(&person).await?;
    let taken = client.put_avatar(pictures::gradient_png(96, 96)?, "image/png").await?.expect(202)?;
    client.wait_upload(taken.location()?, SOON).await?;
    let id = world.database().text("SELECT id FROM autha.accounts").await?.context("no account")?;
    let bare = id.replace('-', "");
    let name = &person.id;
    let host = world.gateway_url().trim_start_matches("http://").to_owned();
    let mut paths = vec![
        format!("/users/{name}"),
        format!("/avatars/{name}"),
        format!("/.well-known/webfinger?resource=acct:{name}@{host}"),
        "/status.json".to_owned(),
    ];
    let public = base.user(name).await?.expect(200)?.body;
    let icons: Vec<_> =
        public["icon"].as_array().into_iter().flatten().filter_map(|icon| icon["url"].as_str()).collect();
    ensure!(icons.len() == 2, "{public}");
    paths.extend(icons.iter().filter_map(|url| Some(format!("/{}", url.splitn(4, '/').nth(3)?))));
    for path in &paths {
        for accept in ["application/json", "application/activity+json", "*/*"] {
            let answer = base.send(base.request(reqwest::Method::GET, path).header("accept", accept)).await?;
            let told = format!("{path} {:?} {}", answer.headers, String::from_utf8_lossy(&answer.bytes))
                .to_lowercase();
            ensure!(!told.contains(&id) && !told.contains(&bare), "{accept}: {told}");
        }
    }
    Ok(())
}
