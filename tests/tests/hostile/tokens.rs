//! Access tokens that are forged, foreign, expired or broken, and what a good one does not open.

use anyhow::{Context, Result, ensure};
use aws_lc_rs::signature::KeyPair;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use orrery_tests::{Client, Person, World, fresh, pictures};
use reqwest::{Method, header::AUTHORIZATION};
use serde_json::{Value, json};

use crate::{Footprint, LONG, TRACE, forge, refused, unharmed};

/// Claims with some of them changed; null takes one away.
fn claims(good: &Value, changes: Value) -> Value {
    let mut claims = good.clone();
    for (name, value) in changes.as_object().into_iter().flatten() {
        match (value, claims.as_object_mut()) {
            (Value::Null, Some(claims)) => drop(claims.remove(name)),
            (value, Some(claims)) => drop(claims.insert(name.clone(), value.clone())),
            (_, None) => {}
        }
    }
    claims
}

/// The token's time of issue: the instance's clock, a moment ago.
fn issued_at(claims: &Value) -> Result<i64> {
    claims["iat"].as_i64().context("no iat")
}

/// The instance's public key in every form in which somebody might take it for a shared secret.
fn public_forms(jwk: &Value) -> Result<Vec<Vec<u8>>> {
    let coordinate = |name: &str| -> Result<Vec<u8>> {
        Ok(URL_SAFE_NO_PAD.decode(jwk[name].as_str().context("no coordinate")?)?)
    };
    let point = [vec![4], coordinate("x")?, coordinate("y")?].concat();
    // SubjectPublicKeyInfo of a P-256 point (RFC 5480).
    let prefix = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
    let spki = [prefix.to_vec(), point.clone()].concat();
    let text = STANDARD.encode(&spki);
    let (first, rest) = text.split_at(64);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{first}\n{rest}\n-----END PUBLIC KEY-----\n");
    Ok(vec![
        point,
        spki,
        pem.trim_end().as_bytes().to_vec(),
        pem.into_bytes(),
        jwk.to_string().into_bytes(),
        Vec::new(),
    ])
}

/// Every bad token, by what is bad about it.
async fn forged(world: &World, good: &str) -> Result<Vec<(String, String)>> {
    let (header, good_claims) = (forge::read(good, 0)?, forge::read(good, 1)?);
    let (kid, instance) = forge::instances_key(world).await?;
    let own = forge::own_key()?;
    let now = issued_at(&good_claims)?;
    let mut bad = Vec::new();
    let mut add = |what: &str, token: String| bad.push((what.to_owned(), token));

    for (what, changes) in [
        ("expired", json!({"iat": now - 1800, "exp": now - 900})),
        ("expired beyond the skew", json!({"iat": now - 1000, "exp": now - 61})),
        ("expired in 1970", json!({"exp": 0})),
        ("expired before 1970", json!({"exp": i64::MIN})),
        ("without expiry", json!({"exp": null})),
        ("with a text as expiry", json!({"exp": "never"})),
        ("from the future", json!({"iat": now + 3600, "exp": now + 7200})),
        ("from the end of time", json!({"iat": i64::MAX, "exp": i64::MAX})),
        ("of another issuer", json!({"iss": "https://evil.example"})),
        ("without issuer", json!({"iss": null})),
        ("for another audience", json!({"aud": "other"})),
        ("without audience", json!({"aud": null})),
        ("without subject", json!({"sub": null})),
        ("of nobody", json!({"sub": "nobody_at_all"})),
        ("of a hostile subject", json!({"sub": "' OR 1=1 --"})),
        ("with a NUL in its subject", json!({"sub": "a\u{0}b"})),
        ("with a number as subject", json!({"sub": 1})),
    ] {
        add(what, forge::es256(&instance, &header, &claims(&good_claims, changes))?);
    }
    add("by another key under our kid", forge::es256(&own, &header, &good_claims)?);
    for (what, kid) in [
        ("of an unknown kid", json!("0123456789abcdef")),
        ("of a hostile kid", json!("../../dev/null")),
        ("of no kid", Value::Null),
        ("of a number as kid", json!(1)),
    ] {
        add(what, forge::es256(&own, &claims(&header, json!({"kid": kid})), &good_claims)?);
        add(what, forge::es256(&instance, &claims(&header, json!({"kid": kid})), &good_claims)?);
    }
    let point = own.public_key().as_ref();
    let (x, y) = (point.get(1..33).context("a point")?, point.get(33..65).context("a point")?);
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": forge::part(x), "y": forge::part(y)});
    add("that brings its own key", forge::es256(&own, &claims(&header, json!({"jwk": jwk})), &good_claims)?);
    add(
        "that names where its key is",
        forge::es256(&own, &claims(&header, json!({"jku": "https://evil.example/jwks"})), &good_claims)?,
    );
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        add("without signature", forge::unsigned(alg, &good_claims, &kid));
        let signature = good.rsplit('.').next().unwrap_or_default();
        add(
            "without signature, with ours",
            format!("{}{signature}", forge::unsigned(alg, &good_claims, &kid)),
        );
    }
    let jwks = world.client()?.get("/.well-known/jwks.json").await?.expect(200)?.body;
    for secret in public_forms(&jwks["keys"][0])? {
        add(
            "by HS256 with the public key",
            forge::hs256(&secret, &claims(&header, json!({"alg": "HS256"})), &good_claims),
        );
        add("by HS256 that says ES256", forge::hs256(&secret, &header, &good_claims));
    }
    for alg in ["ES384", "RS256", "PS256", "EdDSA", "HS512"] {
        add(
            "of another algorithm",
            forge::es256(&instance, &claims(&header, json!({"alg": alg})), &good_claims)?,
        );
    }
    let parts: Vec<_> = good.split('.').collect();
    let [head, body, signature] = parts[..] else { anyhow::bail!("no JWT: {} parts", parts.len()) };
    let raised = forge::part(claims(&good_claims, json!({"sub": "somebody"})).to_string());
    let short = |text: &str, by: usize| text.get(..text.len() - by).unwrap_or_default().to_owned();
    for (what, token) in [
        ("with another body", format!("{head}.{raised}.{signature}")),
        ("cut by one", short(good, 1)),
        ("cut by half", short(good, good.len() / 2)),
        ("cut before its signature", format!("{head}.{body}")),
        ("with an empty signature", format!("{head}.{body}.")),
        ("with a signature of zeros", format!("{head}.{body}.{}", forge::part([0; 64]))),
        ("with four parts", format!("{good}.{signature}")),
        ("of one part", head.to_owned()),
        ("of dots", "..".to_owned()),
        ("of no base64", "!!!.???.###".to_owned()),
        ("that is no JSON", format!("{}.{}.{}", forge::part("x"), forge::part("y"), forge::part("z"))),
        ("of 30000 characters", "a".repeat(30_000)),
    ] {
        add(what, token);
    }
    Ok(bad)
}

async fn with(client: &Client, authorization: &str) -> Result<orrery_tests::Answer> {
    client.send(client.request(Method::GET, "/users/@me").header(AUTHORIZATION, authorization)).await
}

#[tokio::test]
async fn forged_and_expired_tokens_open_nothing() -> Result<()> {
    let world = World::builder().env("ORRERY_KEYS__MASTER", &forge::master()).start().await?;
    let _orrery = world.spawn(&[]).await?;
    let client = world.client()?;
    let person = Person::new();
    let ada = client.signed_up(&person).await?;
    let good = ada.access_token().context("no token")?.to_owned();
    let before = Footprint::of(&world).await?;

    // The forger's hand is good: what it makes rightly is taken. What fails below fails for what is changed.
    let (kid, key) = forge::instances_key(&world).await?;
    let header = json!({"alg": "ES256", "typ": "JWT", "kid": kid});
    let now = issued_at(&forge::read(&good, 1)?)?;
    for changes in [json!({}), json!({"iat": now - 900, "exp": now - 5})] {
        let token = forge::es256(&key, &header, &claims(&forge::read(&good, 1)?, changes))?;
        client.clone().with_token(&token).me().await?.expect(200)?;
    }

    for (what, token) in forged(&world, &good).await? {
        let answer = with(&client, &format!("Bearer {token}")).await?;
        // A head of that size may be refused as such.
        if token.len() > 20_000 && matches!(answer.status, 400 | 431) {
            continue;
        }
        refused(&format!("a token {what}"), &answer, 401, "invalid-token", None)?;
        let challenge = answer.header("www-authenticate");
        ensure!(challenge == Some(r#"Bearer error="invalid_token""#), "{what}: {challenge:?}");
    }
    for authorization in [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        &good,
        &format!("Token {good}"),
        &format!("Bearer {good} {good}"),
    ] {
        let answer = with(&client, authorization).await?;
        refused(&format!("{} characters", authorization.len()), &answer, 401, "invalid-token", None)?;
    }
    for (method, path) in [
        (Method::GET, "/users/@me".to_owned()),
        (Method::PUT, "/users/@me/avatar".to_owned()),
        (Method::DELETE, "/users/@me/avatar".to_owned()),
        (Method::GET, format!("/users/@me/avatar/uploads/{}", fresh::uuid())),
    ] {
        refused(&path, &client.send(client.request(method, &path)).await?, 401, "invalid-token", None)?;
    }
    with(&client, &format!("bEaReR {good}")).await?.expect(200)?;
    unharmed(&world, &before).await
}

#[tokio::test]
async fn an_upload_is_shown_to_nobody_else() -> Result<()> {
    let world = World::start().await?;
    let _orrery = world.spawn(&[]).await?;
    let ada = world.client()?.signed_up(&Person::new()).await?;
    let bob = world.client()?.signed_up(&Person::new()).await?;
    let accepted = ada.put_avatar(pictures::gradient_png(64, 64)?, "image/png").await?.expect(202)?;
    let location = accepted.location()?.to_owned();
    ensure!(ada.wait_upload(&location, LONG).await?["status"] == "done");
    let before = Footprint::of(&world).await?;

    // Within one trace, so that nothing else may differ.
    let ask = async |path: &str| bob.send(bob.request(Method::GET, path).header("traceparent", TRACE)).await;
    let others = ask(&location).await?;
    refused("somebody else's", &others, 404, "not-found", None)?;
    let nobodys = ask(&format!("/users/@me/avatar/uploads/{}", fresh::uuid())).await?;
    refused("nobody's", &nobodys, 404, "not-found", None)?;
    ensure!(others.bytes == nobodys.bytes, "an upload of somebody else can be told from none");
    for id in ["x", "1", "%00", "00000000-0000-0000-0000-00000000000g", "..", "%2e%2e"] {
        let answer = bob.upload_status(&format!("/users/@me/avatar/uploads/{id}")).await?;
        ensure!(matches!(answer.status, 400 | 404), "{id}: {}", answer.status);
        answer.problem()?;
    }
    // The original and what lies beside it have no address.
    let key = world.objects()?.into_iter().find(|key| key.contains("original")).context("no original")?;
    refused("the original", &bob.get(&format!("/{key}")).await?, 404, "not-found", None)?;
    ada.upload_status(&location).await?.expect(200)?;
    unharmed(&world, &before).await
}
